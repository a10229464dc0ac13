"""One node: its rows, its keys, its own view of the chain, and its part in a round."""

import os
from collections.abc import Sequence
from dataclasses import fields
from typing import Any, NoReturn

import pandas as pd

from twopm_kit.chain import Account, Event, Receipt
from twopm_kit.chain.blobs import MOST_BLOBS
from twopm_kit.errors import ContractReverted, ProtocolError, SecretRefused, TamperedMessage, TaskError
from twopm_kit.federated.archive import TaskArchive
from twopm_kit.federated.commitment import frame_commitment
from twopm_kit.federated.contract import AggregationContract, Phase, Terms, dataset_id, encoder_of
from twopm_kit.federated.mailbox import Mailbox
from twopm_kit.federated.progress import Progress
from twopm_kit.federated.sealing import Reader, readers_of, seal_opening
from twopm_kit.federated.task import State, Task, Update
from twopm_kit.federated.vault import Vault
from twopm_kit.federated.view import RoundView
from twopm_kit.secagg import (
    BoxKey,
    Mode,
    NodeSession,
    RoundContext,
    Unmasking,
    VectorMessage,
    party_id,
    to_words,
)
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
    vault : Vault, optional
        Where keys and the secrets of a running round are kept, encrypted, so that a node that was stopped in
        mid-round goes on when it is started again; default: in memory only, where a stopped node drops out.
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
        vault: Vault | None = None,
    ) -> None:
        self.name = name
        self.frame = frame
        self.account = account
        self.contract = contract
        self.mailbox = mailbox
        self.dataset = dataset
        self.task_id = 0
        self.vault = vault
        self._salt = vault.salt() if vault else os.urandom(32)
        self._box_key = vault.box_key() if vault else BoxKey.generate()
        self._task: Task | None = None
        self._states: dict[int, State] = {}  # by the round whose sum led to it; 0: the first model
        self._news: dict[int, Event] = {}  # sums on chain, by round, that are not merged yet
        self._session: NodeSession | None = None
        self._seats: dict[int, int] = {}  # of the latest round
        self._sent: dict[str, tuple[RoundContext, bytes]] = {}
        self._withholders: set[str] = set()  # whose vectors were missing once
        self._vector = b""  # the masked vector of the session's round, as a message
        self._unmaskings: dict[int, Unmasking] = {}  # of the latest round: what its result is worked out with

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

    def offered(self, task_id: int) -> TaskArchive:
        """Fetch a task from storage, to read it before anything of it runs.

        Raises
        ------
        TaskError
            If it is not the one whose hashes its owner has registered.
        """
        context = self.contract.context(task_id, 0)
        archive = TaskArchive.from_bytes(self.mailbox.get(context, "task", self.contract.owner(task_id)))
        terms = self.contract.terms(task_id)
        archive.demand(
            code_hash=terms.code_hash, params_hash=terms.params_hash, genesis_hash=terms.genesis_hash
        )
        return archive

    def enter(
        self, task_id: int, *, approved: bytes | None = None, verifiers: Sequence[str] | None = None
    ) -> None:
        """Take a registered task from storage.

        Parameters
        ----------
        task_id : int
            Its number on chain.
        approved : bytes, optional
            The code hash that this node's operator has approved, having read ``offered(task_id).source``.
            Tasks of the kit's own classes need none.
        verifiers : sequence of str, optional
            Accounts that the operator accepts as verifiers of a sealed task. A majority of them decides what
            the members take for the sum, so whoever could choose them alone could hand out any model.

        Raises
        ------
        TaskError
            If storage holds another task than the chain, its code was not approved, it is sealed and has
            verifiers that were not accepted, or its sizes differ from what is on chain.
        """
        self._check_verifiers(task_id, verifiers)
        own = self.offered(task_id).load(approved=approved).for_node(self.name)
        registered = self.contract.terms(task_id)
        computed = Terms.of(
            own,
            self.contract.chain,
            join_blocks=registered.join_blocks,
            step_blocks=registered.step_blocks,
            owner_key=registered.owner_key,
        )
        different = [
            f.name for f in fields(Terms) if getattr(registered, f.name) != getattr(computed, f.name)
        ]
        if different:
            raise TaskError(
                f"task {task_id} on chain differs from what {self.name} works out: {', '.join(different)}",
                hint="stay out of it: the contract would run other rounds than the task says",
            )
        self.task_id = task_id
        self._seats.clear()
        self._task = own
        self._states, self._news = {0: own.genesis()}, {}
        self._finished = self.contract.contract.cursor("Finished", task=task_id)
        self._encoder = encoder_of(own)

    def _check_verifiers(self, task_id: int, accepted: Sequence[str] | None) -> None:
        registered = {party_id(v.account) for v in self.contract.verifiers(task_id)}
        unknown = registered - {party_id(account) for account in accepted or ()}
        if self.contract.terms(task_id).sealed and unknown:
            raise TaskError(
                f"{len(unknown)} of {len(registered)} verifiers of sealed task {task_id} were not accepted: "
                + ", ".join(sorted("0x" + one.hex() for one in unknown)),
                hint="find out who they are; accept them with enter(…, verifiers=[…]), or stay out",
            )

    def join(self) -> Receipt:
        """Opt in, with the stake that the task asks for."""
        terms = self.contract.terms(self.task_id)
        dataset = dataset_id(self.dataset) if self.dataset else terms.dataset_id
        return self.contract.send(
            "join",
            self.task_id,
            self._box_key.public,
            min(len(self.frame), terms.min_rows),  # enough of them; how many is nobody's business
            dataset,
            frame_commitment(self.frame, self._salt),
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
        self._check_seats(round, [seat.node for seat in seats])
        view = self.view(round)
        # Repeating a call that got no answer must repeat the message that may be on chain already.
        session = self._kept_session(round)
        if session is not None and session.stage >= Stage.OPENED:
            # Only a chain that went back can ask again, and the other kind of share may be what it wants.
            raise ProtocolError(
                f"{self.name} has opened shares of round {round} already",
                hint="sit this round out: a session that forgets could open both kinds of one dealer's share",
            )
        if session is None or session.stage is not Stage.SHARED:
            session = NodeSession(view.context, view.config, self.account.address, self._box_key)
        message = session.share_message({seat.node: seat.box_key for seat in seats})
        self._keep(session)
        self._leave(view.context, "shares", message.to_bytes())
        own = message.announcement
        return self._send("share", round, own.mask_public, own.seed_hash, own.root)

    def _check_seats(self, round: int, accounts: list[str]) -> None:
        """Refuse a round whose members or numbers are not those of the task that this node has read."""
        task = self._demand_task()
        allowed = {party_id(account) for account in task.criteria.allow_list}
        strangers = [account for account in accounts if allowed and party_id(account) not in allowed]
        if strangers:
            raise ProtocolError(
                f"{', '.join(strangers)} have seats and are not on the task's allow list",
                hint="stay out of the round: the list on chain is not the task's",
            )
        status, graph = self.contract.status(self.task_id, round), task.config().graph(len(accounts))
        if (status.degree, status.share_threshold) != (graph.degree, graph.threshold):
            raise ProtocolError(
                f"on chain {status.share_threshold} of {status.degree} neighbours reconstruct a secret, "
                f"by this node's parameters {graph.threshold} of {graph.degree}",
                hint="stay out of the round: contract and task do not belong together",
            )

    # M2: submit ---------------------------------------------------------------------------------------

    def compute(self, round: int) -> Update:
        """Compute this node's update on its own rows, in clear; it never leaves the node like this."""
        task = self._demand_task()
        return task.local_update(self.state, self.frame, round)

    def submit(self, round: int, update: Update | None = None, *, deliver: bool = True) -> Receipt:
        """Mask this node's update and publish it in the way that the task's mode asks for.

        Parameters
        ----------
        round : int
            The round's number.
        update : Update, optional
            What `compute` returned for this round; left out, it is computed now.
        deliver : bool
            Whether the vector is left in storage when only its commitments go on chain.
        """
        session = self._demand_session(round, Phase.SUBMIT)
        view = self.view(round)
        if session.stage is not Stage.MASKED:
            self._mask(view, session, update)
        vector = VectorMessage.from_bytes(self._vector)
        if view.mode is Mode.DIRECT:
            return self._send("submit", round, to_words(vector.limbs))
        if deliver:
            self.mailbox.put(view.context, "vector", self.account.address, self._vector)
        blobs = vector.blobs if view.mode is Mode.BLOB else ()
        return self._send("commit", round, vector.data_root, vector.points, blobs=blobs)

    def _mask(self, view: RoundView, session: NodeSession, update: Update | None) -> None:
        """Mask this round's one vector, and keep it: a node that is started again sends the same."""
        task, roster = self._demand_task(), view.roster
        session.receive(view.delivered("shares", roster.sharers), roster.announcements)
        update = self.compute(view.round) if update is None else update
        vector = self._encoder.encode(
            update.values,
            update.weight,
            update.metrics if task.metric_names else None,
            update.metric_weight,
            members=len(roster.seats),
        )
        kzg = view.mode in (Mode.KZG, Mode.BLOB)
        message = VectorMessage.of(session.context, session.address, session.mask(vector), kzg=kzg)
        self._vector = message.to_bytes()
        self._keep(session)

    def answer(self, round: int) -> Receipt | None:
        """Publish the masked vector on chain as blobs, if somebody has asked for it; None if nobody has."""
        view = self.view(round)
        seat = view.roster.seats[self._seat(round)]
        if not seat.challenged:
            return None
        self._demand_session(round, Phase.CHALLENGE)
        vector = VectorMessage.from_bytes(self._vector)
        self.mailbox.put(view.context, "vector", self.account.address, self._vector)
        for first in range(0, len(vector.blobs), MOST_BLOBS):
            part = vector.blobs[first : first + MOST_BLOBS]
            receipt = self._send("answer", round, vector.data_root, vector.points, blobs=part)
        return receipt

    # M3: open and attest ------------------------------------------------------------------------------

    def open_shares(self, round: int) -> Receipt:
        """Open one share per neighbour, of the kind that the frozen survivor list asks for."""
        session = self._demand_session(round, Phase.OPEN)
        message = session.open_shares(self.contract.roster(self.task_id, round).survivors)
        self._keep(session)
        payload = message.to_bytes()
        if self._demand_task().config().visibility == "sealed":
            readers = readers_of(self.contract, self.task_id)
            payload = seal_opening(session.context, self._box_key, message, readers)
        self._leave(session.context, "openings", payload)
        return self._send("open_shares", round, message.root)

    def attest(self, round: int) -> Receipt:
        """Work out the total mask from the opened shares and attest to its hash."""
        view = self.view(round)
        unmasking = view.unmasking()
        self._unmaskings = {round: unmasking}
        self._demand_vectors(view)
        return self._send("attest", round, view.attested_digest(unmasking))

    def _demand_vectors(self, view: RoundView) -> None:
        """Blame who keeps its vector back for the second time, where the chain cannot judge that.

        Raises
        ------
        TamperedMessage
            If a vector is missing; ``dealer`` is its sender from the second time on: storage may lose one.
        """
        missing = {seat.node: seat for seat in view.missing()} if view.mode is Mode.HASH else {}
        if not missing:
            return
        again = [party_id(account) for account in missing if account in self._withholders]
        self._withholders |= missing.keys()
        raise TamperedMessage(
            f"no storage has what the hashes of {', '.join(missing).lower()} on chain stand for",
            hint="end the round: what a hash stands for can be shown by its sender only",
            dealer=again[0] if again else b"",
        )

    def publish(self, round: int, kind: str) -> Receipt:
        """Put a message of this round on chain, where no storage can hide it; it is the costly way.

        Parameters
        ----------
        round : int
            The round's number.
        kind : str
            ``"shares"`` or ``"openings"``: what was sent before.
        """
        context, sent = self._sent.get(kind, (None, b""))
        if context != self.contract.context(self.task_id, round):
            raise ProtocolError(
                f"{self.name} has sent no {kind!r} in round {round}",
                hint="publish 'shares' after share(round), or 'openings' after open_shares(round)",
            )
        return self._send("publish", round, kind.encode() + b":" + sent)

    def accuse(self, round: int, dealer: bytes) -> Receipt:
        """Name the dealer whose shares kept this node from working out the mask; a threshold expels it."""
        members = self.contract.roster(self.task_id, round).members
        return self._send("accuse", round, [party_id(member) for member in members].index(dealer))

    def told(self, step: str) -> str:
        """Return a sentence about this node's last step, for its own operator."""
        if step == "submit" and self._encoder.last_clipped:
            cut = self._encoder.last_clipped
            return f"{self.name}: {step}; {cut} of {self._encoder.length} values were cut to the task's clip"
        return f"{self.name}: {step}"

    # Own view -----------------------------------------------------------------------------------------

    def view(self, round: int) -> RoundView:
        """Return a round as this node sees it."""
        reader = Reader(self.account.address, self._box_key)
        return RoundView(self.contract, self.mailbox, self._demand_task(), self.task_id, round, reader=reader)

    def _catch_up(self) -> None:
        """Merge every sum that the chain has published since the last look."""
        task = self._demand_task()
        groups = task.config().groups
        for event in self._finished.read():
            # A chain that went back publishes a round again: what followed the older sum is forgotten.
            number = int(event.args["round"])
            self._states = {n: state for n, state in self._states.items() if n < number}
            self._news = {n: older for n, older in self._news.items() if n < number} | {number: event}
        # Rounds that a chain which went back has not run yet.
        current = self.contract.current_round(self.task_id)
        self._states = {n: state for n, state in self._states.items() if n <= current}
        self._news = {n: event for n, event in self._news.items() if n <= current}
        # A sum that storage does not give stays in the news: no later one is merged into an older model.
        for number, event in list(self._news.items()):
            base = self._states[max(self._states)]
            view = self.view(number)
            total = view.published(event, self._unmaskings.get(number))
            self._states[number] = Progress.after(task, base, total, view.roster.counts(groups)).state
            del self._news[number]
            if self.vault is not None:
                self.vault.forget(view.context)

    def _seat(self, round: int) -> int:
        """Return this node's seat: it is drawn once a round, and a look at the whole roster takes time."""
        if round not in self._seats:
            self._seats = {round: self.contract.roster(self.task_id, round).seat_of(self.account.address)}
        return self._seats[round]

    def _send(self, method: str, round: int, *args: Any, blobs: Sequence[bytes] = ()) -> Receipt:
        where = (self.task_id, round, self._seat(round))
        try:
            return self.contract.send(method, *where, *args, sender=self.account, blobs=blobs)
        except ContractReverted as refusal:
            if refusal.reason != "not your seat":
                raise
            self._seats.clear()  # the chain went back and drew again
            where = (self.task_id, round, self._seat(round))
            return self.contract.send(method, *where, *args, sender=self.account, blobs=blobs)

    def _leave(self, context: RoundContext, kind: str, payload: bytes) -> None:
        self._sent[kind] = context, payload
        self.mailbox.put(context, kind, self.account.address, payload)

    def _keep(self, session: NodeSession) -> None:
        """Hold the round's secrets, on disk too if there is a vault, before anything of them leaves."""
        if session is not self._session and session.stage < Stage.MASKED:
            self._vector = b""
        if self.vault is not None:
            self.vault.save(session, self._vector)
        self._session = session

    def _kept_session(self, round: int) -> NodeSession | None:
        """Return the secrets of a round, from memory or from the vault."""
        context = self.contract.context(self.task_id, round)
        if self._session is not None and self._session.context == context:
            return self._session
        if self.vault is not None and (session := self.vault.load(context, self.account.address)):
            self._session, self._vector = session, self.vault.message(context, self.account.address)
            return session
        return None

    def _demand_task(self) -> Task:
        if self._task is None:
            raise ProtocolError(f"{self.name} has not entered a task", hint="call enter(task_id) first")
        return self._task

    def _demand_session(self, round: int, phase: Phase) -> NodeSession:
        """Return the session of a round, if the chain says that its lists are final."""
        session = self._kept_session(round)
        if session is None:
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
