"""One node: its rows, its keys, its own view of the chain, and its part in a round."""

from dataclasses import fields
from typing import Any, NoReturn

import pandas as pd

from twopm_kit.chain import Account, Receipt
from twopm_kit.errors import ProtocolError, SecretRefused, TaskError
from twopm_kit.federated.contract import AggregationContract, Phase, Terms, dataset_id, encoder_of
from twopm_kit.federated.mailbox import Mailbox
from twopm_kit.federated.openings import delivered, total_mask
from twopm_kit.federated.progress import Progress
from twopm_kit.federated.task import State, Task
from twopm_kit.secagg import BoxKey, NodeSession, party_id, to_words
from twopm_kit.secagg.node import Stage

__all__ = ["Node"]


class Node:
    """A party that holds rows and takes part in tasks; the rows never leave it.

    A node believes the chain and itself. It works out every global model from the sums on chain, so nobody
    can hand it a crafted one.

    Parameters
    ----------
    name : str
        Name for people.
    frame : DataFrame
        The node's rows.
    account : Account
        Its account on chain.
    contract : AggregationContract
        The round contract, over the node's own connection.
    mailbox : Mailbox
        Where messages lie.
    dataset : str, optional
        Data set that the rows belong to; default: whatever the task names.
    """

    def __init__(
        self,
        name: str,
        frame: pd.DataFrame,
        account: Account,
        contract: AggregationContract,
        mailbox: Mailbox,
        *,
        dataset: str = "",
    ) -> None:
        self.name = name
        self.frame = frame
        self.account = account
        self.contract = contract
        self.mailbox = mailbox
        self.dataset = dataset
        self.task_id = 0
        self._box_key = BoxKey.generate()
        self._task: Task | None = None
        self._states: dict[int, State] = {}  # by the round whose sum led to it; 0: the first model
        self._session: NodeSession | None = None

    def __repr__(self) -> str:
        return f"Node({self.name!r}, {len(self.frame)} rows, {self.account.address})"

    def __reduce__(self) -> NoReturn:
        raise SecretRefused(
            f"node {self.name!r} holds keys and rows, it does not travel",
            hint="make the node in the process that runs it",
        )

    @property
    def state(self) -> State:
        """The global model as this node sees it on chain."""
        self._catch_up()
        return self._states[max(self._states)] if self._states else {}

    # T1: join -----------------------------------------------------------------------------------------

    def enter(self, task: Task, task_id: int) -> None:
        """Take a copy of a task after checking that it is the registered one.

        Raises
        ------
        TaskError
            If code, parameters, first model or sizes differ from what is on chain.
        """
        own = task.for_node(self.name)
        registered = self.contract.terms(task_id)
        computed = Terms.of(own, join_blocks=registered.join_blocks, step_blocks=registered.step_blocks)
        different = [
            f.name for f in fields(Terms) if getattr(registered, f.name) != getattr(computed, f.name)
        ]
        if different:
            raise TaskError(
                f"task {task_id} on chain differs from what {self.name} was handed: {', '.join(different)}",
                hint="fetch the task that the chain's hashes name, and read its source before running it",
            )
        self.task_id = task_id
        self._task = own
        self._states = {0: own.initial_state()}
        self._finished = self.contract.contract.cursor("Finished", task=task_id)
        self._encoder = encoder_of(own)

    def join(self) -> Receipt:
        """Opt in, with the stake that the task asks for."""
        terms = self.contract.terms(self.task_id)
        dataset = dataset_id(self.dataset) if self.dataset else terms.dataset_id
        return self.contract.send(
            "join",
            self.task_id,
            self._box_key.public,
            len(self.frame),
            dataset,
            sender=self.account,
            value=terms.min_stake,
        )

    def withdraw(self) -> Receipt | None:
        """Take the stake back when the task has ended; None if there was none."""
        if self.contract.stake(self.task_id, self.account.address) == 0:
            return None
        return self.contract.send("withdraw", self.task_id, sender=self.account)

    # M1: share ----------------------------------------------------------------------------------------

    def share(self, round: int) -> Receipt:
        """Make this round's secrets, deal shares of them, and commit on chain."""
        task = self._demand_task()
        self._demand_phase(round, Phase.SHARE)
        if task.finished(self.state):
            raise ProtocolError(
                f"{task.name!r} is finished; the same statistics over other survivors would give rows away",
                hint="stay out of further rounds: the owner may close the task",
            )
        seats = self.contract.roster(self.task_id, round).seats
        allowed = {party_id(account) for account in task.criteria.allow_list}
        strangers = [seat.node for seat in seats if allowed and party_id(seat.node) not in allowed]
        if strangers:
            raise ProtocolError(
                f"{', '.join(strangers)} have seats and are not on the task's allow list",
                hint="stay out of the round: the list on chain is not the task's",
            )
        config = task.round_config()
        threshold = self.contract.status(self.task_id, round).threshold
        if threshold != config.threshold(len(seats)):
            raise ProtocolError(
                f"the chain asks for {threshold} of {len(seats)} shares, this node's parameters for "
                f"{config.threshold(len(seats))}",
                hint="stay out of the round: contract and task do not belong together",
            )
        context = self.contract.context(self.task_id, round)
        # Repeating a call that got no answer must repeat the message that may be on chain already.
        session = self._session
        if session is None or session.context != context or session.stage is not Stage.SHARED:
            session = NodeSession(context, config, self.account.address, self._box_key)
        message = session.share_message({seat.node: seat.box_key for seat in seats})
        self.mailbox.put(context, "shares", self.account.address, message.to_bytes())
        self._session = session
        own = message.announcement
        return self._send("share", round, own.mask_public, own.seed_hash, own.root)

    # M2: submit ---------------------------------------------------------------------------------------

    def submit(self, round: int) -> Receipt:
        """Compute this node's update on its rows, mask it, and send it to the contract."""
        task, session = self._demand_task(), self._demand_session(round, Phase.SUBMIT)
        roster = self.contract.roster(self.task_id, round)
        messages = delivered(
            self.contract, self.mailbox, self.task_id, round, kind="shares", senders=roster.sharers
        )
        session.receive(messages, roster.announcements)
        update = task.local_update(self.state, self.frame, round)
        vector = self._encoder.encode(
            update.values, update.weight, update.metrics if task.metric_names else None, update.metric_weight
        )
        return self._send("submit", round, to_words(session.mask(vector)))

    # M3: open and attest ------------------------------------------------------------------------------

    def open_shares(self, round: int) -> Receipt:
        """Open one share per member, of the kind that the frozen survivor list asks for."""
        session = self._demand_session(round, Phase.OPEN)
        message = session.open_shares(self.contract.roster(self.task_id, round).survivors)
        self.mailbox.put(session.context, "openings", self.account.address, message.to_bytes())
        return self._send("open_shares", round, message.root)

    def attest(self, round: int) -> Receipt:
        """Work out the total mask from the opened shares and attest to its hash."""
        task = self._demand_task()
        unmasking = total_mask(
            self.contract,
            self.mailbox,
            self.task_id,
            round,
            config=task.round_config(),
            elements=self._encoder.elements,
        )
        return self._send("attest", round, unmasking.digest)

    def accuse(self, round: int, dealer: bytes) -> Receipt:
        """Name the dealer whose shares kept this node from working out the mask; a threshold expels it."""
        return self._send("accuse", round, dealer)

    def told(self, step: str) -> str:
        """Return a sentence about this node's last step, for its own operator."""
        if step == "submit" and self._encoder.last_clipped:
            cut = self._encoder.last_clipped
            return f"{self.name}: {step}; {cut} of {self._encoder.length} values were cut to the task's clip"
        return f"{self.name}: {step}"

    # Own view -----------------------------------------------------------------------------------------

    def _catch_up(self) -> None:
        """Merge every sum that the chain has published since the last look."""
        task = self._demand_task()
        for event in self._finished.read():
            # A chain that went back publishes a round again: what followed the older sum is forgotten.
            number = int(event.args["round"])
            self._states = {n: state for n, state in self._states.items() if n < number}
            words, survivors = list(event.args["words"]), int(event.args["survivors"])
            base = self._states[max(self._states)]
            self._states[number] = Progress.after(task, base, words, survivors).state
        # Rounds that a chain which went back has not run yet.
        current = self.contract.current_round(self.task_id)
        self._states = {n: state for n, state in self._states.items() if n <= current}

    def _send(self, method: str, round: int, *args: Any) -> Receipt:
        return self.contract.send(method, self.task_id, round, *args, sender=self.account)

    def _demand_task(self) -> Task:
        if self._task is None:
            raise ProtocolError(f"{self.name} has not entered a task", hint="call enter(task, task_id) first")
        return self._task

    def _demand_session(self, round: int, phase: Phase) -> NodeSession:
        """Return the session of a round, if the chain says that its lists are final."""
        session = self._session
        if session is None or session.context != self.contract.context(self.task_id, round):
            raise ProtocolError(
                f"{self.name} has not shared in round {round}",
                hint="sit this round out, and share in the next",
            )
        self._demand_phase(round, phase)
        return session

    def _demand_phase(self, round: int, phase: Phase) -> None:
        current = self.contract.status(self.task_id, round).phase
        if current is not phase:
            raise ProtocolError(
                f"round {round} is in phase {current.name}, {phase.name} was expected",
                hint="wait until the contract has frozen the list of members",
            )
