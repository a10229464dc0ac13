"""One run of one task over a local network: the five steps, round after round, told as events."""

import time
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

from tqdm import tqdm

from twopm_kit.chain import Receipt
from twopm_kit.errors import (
    ChainError,
    ContractReverted,
    RoundAborted,
    SecureAggregationError,
    StoreError,
    TamperedMessage,
    TaskError,
    TooFewSurvivors,
    TwoPMError,
)
from twopm_kit.federated.contract import Phase
from twopm_kit.federated.coordinator import Outcome
from twopm_kit.federated.drops import DropPlan
from twopm_kit.federated.events import Observer, RoundEvent
from twopm_kit.federated.node import Node
from twopm_kit.federated.progress import Progress
from twopm_kit.federated.result import FederatedResult, RoundRecord, RunRecord
from twopm_kit.federated.task import Task
from twopm_kit.federated.workers import Workers
from twopm_kit.secagg import to_words

if TYPE_CHECKING:
    from twopm_kit.federated.network import LocalNetwork

__all__ = ["Run"]

_COORDINATOR = "coordinator"
_TOO_FEW = "bring more nodes, or run it with fewer drop-outs"


class Run:
    """Drives nodes and coordinator through a task, and keeps the story.

    Parameters
    ----------
    network : LocalNetwork
        The nodes, the chain and the mailbox.
    task : Task
        What to compute.
    plan : DropPlan
        Who falls silent when.
    observe : callable or None
        Called with every event.
    """

    def __init__(self, network: "LocalNetwork", task: Task, plan: DropPlan, observe: Observer | None) -> None:
        self._network = network
        self._contract = network.contract
        self._coordinator = network.coordinator
        self._task = task
        self._plan = plan
        self._observe = observe
        self._events: list[RoundEvent] = []
        self._names = {node.account.address: node.name for node in network.nodes}
        self._task_id = 0
        self._round = 0
        self._faults: list[str] = []
        self._hint = _TOO_FEW
        self._attested = 0
        self._groups = task.config().groups
        self._sealed = task.config().visibility == "sealed"
        self._workers = Workers(task, network.n_jobs)

    def execute(self) -> FederatedResult:
        """Run the task to its end."""
        self._register()
        members: list[Node] = []
        try:
            self._join(members)
            return self._run(members)
        except BaseException:
            self._abandon()
            raise
        finally:
            self._release(members)

    def _run(self, members: list[Node]) -> FederatedResult:
        state = self._task.genesis()
        rounds: list[RoundRecord] = []
        # A bar on a terminal only: notebooks watch the round board.
        with tqdm(total=self._task.max_rounds, desc=self._task.name, unit="round", disable=None) as bar:
            while len(rounds) < self._task.max_rounds and not self._task.finished(state):
                record, outcome = self._play_round(members)
                if outcome is not None:
                    counts = self._contract.roster(self._task_id, self._round).counts(self._groups)
                    progress = Progress.after(self._task, state, outcome.total, counts)
                    if isinstance(progress.cause, TaskError) and rounds and rounds[-1].status == "void":
                        raise progress.cause  # twice in a row: it is the task, not one member
                    state = progress.state
                    record = self._judged(record, progress)
                rounds.append(record)
                bar.update()
        if not any(r.status == "done" for r in rounds):
            raise RoundAborted(
                f"no round of {self._task.name!r} gave a result: {rounds[-1].reason}",
                hint=self._hint,
            )
        self._close(len(rounds))
        record_ = RunRecord(
            self._task_id,
            self._contract.address,
            self._contract.chain.chain_id,
            tuple(rounds),
            tuple(self._events),
        )
        return self._task.result(state, record_)

    def _judged(self, record: RoundRecord, progress: Progress) -> RoundRecord:
        decoded = progress.decoded
        if decoded is None:
            return replace(record, status="void", reason=progress.fault)
        names = self._task.metric_names if decoded.metric_weight else ()
        metrics = dict(zip(names, decoded.metrics.tolist(), strict=False))
        return replace(record, weight=decoded.weight, metrics=metrics)

    # Before the first round ---------------------------------------------------------------------------

    def _register(self) -> None:
        started = time.perf_counter()
        nodes = len(self._network.nodes)
        self._task_id, receipt = self._coordinator.register(
            self._task,
            join_blocks=self._coordinator.blocks_for(self._task.connection_timeout, nodes),
            step_blocks=self._coordinator.blocks_for(self._task.wait_timeout, nodes),
            verifiers=[verifier.seat for verifier in self._network.verifiers] if self._sealed else (),
        )
        self._tell("register", _COORDINATOR, receipt, started, f"task {self._task_id} is registered")

    def _join(self, members: list[Node]) -> None:
        for node in self._network.nodes:
            started = time.perf_counter()
            # Whoever runs a network in one process has the task's source before them: that is the approval.
            verifiers = [verifier.account.address for verifier in self._network.verifiers]
            node.enter(self._task_id, approved=self._task.code_hash(), verifiers=verifiers)
            try:
                receipt = node.join()
            except ContractReverted as refusal:
                self._tell("join", node.name, None, started, refusal.reason, status="refused")
                continue
            members.append(node)
            self._tell("join", node.name, receipt, started, f"{node.name} joins with {len(node.frame)} rows")
        if len(members) < self._task.min_clients:
            raise RoundAborted(
                f"{len(members)} nodes joined {self._task.name!r}, {self._task.min_clients} are needed",
                hint="relax the task's criteria, or bring more nodes",
            )

    def _close(self, rounds: int) -> None:
        started = time.perf_counter()
        if rounds < self._task.max_rounds:
            receipt = self._contract.send("close", self._task_id, sender=self._coordinator.account)
            self._tell("finish", _COORDINATOR, receipt, started, "the task is closed early: it is finished")

    def _abandon(self) -> None:
        """Bring the task to an end on chain after an error, so that stakes are free."""
        try:
            if self._round:
                while self._contract.status(self._task_id, self._round).phase not in (
                    Phase.DONE,
                    Phase.ABORTED,
                ):
                    self._coordinator.end_phase(self._task_id, self._round)
            self._contract.send("close", self._task_id, sender=self._coordinator.account)
        except ChainError:
            return  # the error that led here is the one to tell

    def _release(self, members: list[Node]) -> None:
        if self._task.criteria.min_stake:
            # Faults of the last round can be proved for one more window, and stakes wait for that.
            self._coordinator.wait_for_block(self._contract.last_fault_block(self._task_id) + 2)
        paid = []
        for node in members:
            started = time.perf_counter()
            try:
                paid.append((node.name, node.withdraw(), started))
            except ChainError:
                continue
        for name, receipt, started in paid:  # told when all are paid: an observer's error must hold back none
            if receipt is not None:
                self._tell("finish", name, receipt, started, f"{name} takes its stake back")

    # One round ----------------------------------------------------------------------------------------

    def _play_round(self, joined: list[Node]) -> tuple[RoundRecord, Outcome | None]:
        began, first_event = time.perf_counter(), len(self._events)
        started = time.perf_counter()
        try:
            self._round, receipts = self._coordinator.open_round(self._task_id, self._round)
        except ContractReverted as refusal:
            raise RoundAborted(
                f"round {self._round + 1} of {self._task.name!r} cannot open: {refusal.reason}",
                hint="bring more nodes: some may have left, or were expelled for bad shares",
            ) from refusal
        for receipt in receipts:
            self._tell("select", _COORDINATOR, receipt, started, f"round {self._round} is open")
        members = self._present("members", joined)
        for node in members:
            self._tell("select", node.name, None, time.perf_counter(), f"{node.name} is selected")

        outcome: Outcome | None = None
        reason = ""
        last = "share"
        self._faults.clear()
        self._attested = 0
        self._hint = _TOO_FEW
        phase = self._phase("share", members, Node.share, Phase.SHARE)
        if phase is Phase.SUBMIT:
            last = "submit"
            sharers = self._present("sharers", members)
            phase = self._phase("submit", sharers, self._submission(sharers), Phase.SUBMIT)
        if phase is Phase.CHALLENGE:
            last = "challenge"
            phase = self._challenge(members)
        if phase is Phase.OPEN:
            survivors = self._present("survivors", members)
            self._each("open", survivors, Node.open_shares)
            openers = self._present("openers", members)
            status = self._contract.status(self._task_id, self._round)
            if status.opened >= status.quorum:
                self._attest(openers)
            outcome, reason = self._finish()
        else:
            reason = "; ".join(
                dict.fromkeys([f"too few nodes were left after the {last} step", *self._faults])
            )
        roster = self._contract.roster(self._task_id, self._round)
        record = RoundRecord(
            number=self._round,
            status="done" if outcome else "aborted",
            members=tuple(self._names.get(a, a) for a in roster.members),
            sharers=tuple(self._names.get(a, a) for a in roster.sharers),
            survivors=tuple(self._names.get(a, a) for a in roster.survivors),
            masked_sum=tuple(to_words(outcome.masked)) if outcome else (),
            words=tuple(to_words(outcome.total)) if outcome else (),
            gas=sum(event.gas for event in self._events[first_event:]),
            seconds=time.perf_counter() - began,
            reason=reason,
        )
        return record, outcome

    def _submission(self, sharers: list[Node]) -> Callable[[Node, int], Receipt]:
        """Let the nodes compute, side by side if there are several workers; return how each one submits."""
        silent = {n.name for n in sharers if self._plan.is_silent(self._round, n.name, "submit")}
        updates = self._workers.updates([n for n in sharers if n.name not in silent], self._round)

        def submit(node: Node, round: int) -> Receipt:
            deliver = not self._plan.is_silent(round, node.name, "deliver")
            return node.submit(round, updates[node.name](), deliver=deliver)

        return submit

    def _challenge(self, members: list[Node]) -> Phase:
        """Look at all committed vectors; who does not show its own, or showed a false one, is a drop-out."""
        started = time.perf_counter()
        by_account = {node.account.address: node for node in members}
        for check in self._coordinator.check_vectors(self._task, self._task_id, self._round):
            if not check.fault:
                continue
            name, node = self._names.get(check.account, check.account), by_account.get(check.account)
            self._faults.append(f"{name}: {self._with_names(check.fault)}")
            self._tell("challenge", _COORDINATOR, check.receipt, started, self._faults[-1])
            if node is None:
                continue  # it joined from outside this network, and answers for itself
            if self._plan.is_silent(self._round, node.name, "deliver"):
                self._tell(
                    "challenge", node.name, None, started, f"{node.name} falls silent", status="dropped"
                )
                continue
            started = time.perf_counter()
            try:
                receipt = node.answer(self._round)
            except (ContractReverted, SecureAggregationError, StoreError) as fault:
                self._tell("challenge", node.name, None, started, fault.message, status="refused")
                continue
            if receipt is not None:
                self._tell("challenge", node.name, receipt, started, f"{node.name} publishes its vector")
        return self._end_phase("challenge", Phase.CHALLENGE)

    def _attest(self, openers: list[Node]) -> None:
        """Let survivors, or the verifiers of a sealed task, attest to the mask that they worked out."""
        before = len(self._events)
        if not self._sealed:
            self._each("attest", openers, Node.attest)
        else:
            for verifier in self._network.verifiers:
                started = time.perf_counter()
                try:
                    receipt = verifier.attest(self._task, self._task_id, self._round)
                except (ContractReverted, SecureAggregationError, StoreError) as fault:
                    self._faults.append(f"{verifier.name}: {self._with_names(fault.message)}")
                    self._tell("attest", verifier.name, None, started, self._faults[-1], status="refused")
                    continue
                self._tell("attest", verifier.name, receipt, started, f"{verifier.name}: attest")
        attested = self._events[before:]
        self._attested = sum(event.step == "attest" and event.status == "done" for event in attested)

    def _phase(
        self, step: str, nodes: list[Node], act: Callable[[Node, int], Receipt], ending: Phase
    ) -> Phase:
        """Let everybody speak, then end the phase on chain."""
        self._each(step, nodes, act)
        return self._end_phase(step, ending)

    def _end_phase(self, step: str, ending: Phase) -> Phase:
        started = time.perf_counter()
        phase, receipt = self._coordinator.end_phase(self._task_id, self._round, ending)
        aborted = phase is Phase.ABORTED
        self._tell(
            "abort" if aborted else "freeze",
            _COORDINATOR,
            receipt,
            started,
            "too few are left: the round ends" if aborted else f"the list of who did {step} is final",
        )
        return phase

    def _each(self, step: str, nodes: list[Node], act: Callable[[Node, int], Receipt]) -> None:
        for node in nodes:
            started = time.perf_counter()
            if self._plan.is_silent(self._round, node.name, step):
                self._tell(step, node.name, None, started, f"{node.name} falls silent", status="dropped")
                continue
            try:
                receipt = act(node, self._round)
            except (ContractReverted, SecureAggregationError, StoreError) as fault:
                # A node that sees foul play keeps silent; whether the round survives that, the chain decides.
                self._faults.append(f"{node.name}: {self._with_names(fault.message)}")
                self._hint = fault.hint or self._hint
                accusation = self._accused(node, fault)
                self._tell(step, node.name, accusation, started, self._faults[-1], status="refused")
                continue
            self._tell(step, node.name, receipt, started, node.told(step))

    def _accused(self, node: Node, fault: TwoPMError) -> Receipt | None:
        """Let a node name the dealer that kept it from going on, if there is one."""
        dealer = fault.dealer if isinstance(fault, SecureAggregationError) else b""
        if not dealer:
            return None
        try:
            return node.accuse(self._round, dealer)
        except ContractReverted:
            return None  # the phase is over: the round has ended anyway

    def _finish(self) -> tuple[Outcome | None, str]:
        """Publish the sum; where that cannot be, wait for the deadline and end the round with its reason."""
        started = time.perf_counter()
        needed = len(self._network.verifiers) // 2 + 1
        if not self._sealed:
            needed = self._contract.status(self._task_id, self._round).quorum
        if self._attested >= needed:
            try:
                outcome = self._coordinator.finish(self._task, self._task_id, self._round)
            except (ContractReverted, StoreError, TamperedMessage, TooFewSurvivors) as fault:
                self._faults.append(self._with_names(fault.message))
            else:
                if outcome.faults:
                    self._prosecute()
                seen = "sealed to the members" if self._sealed else "public"
                said = f"the sum of round {self._round} is {seen}"
                for receipt in outcome.receipts or (None,):
                    self._tell("finish", _COORDINATOR, receipt, started, said)
                return outcome, ""
        who = "verifiers" if self._sealed else "survivors opened and"
        counted = f"{self._attested} {who} attested, {needed} are needed"
        self._prosecute()
        reason = "; ".join(dict.fromkeys([counted, *self._faults]))
        _, receipt = self._coordinator.end_phase(self._task_id, self._round, Phase.OPEN)
        self._tell("abort", _COORDINATOR, receipt, started, reason)
        return None, reason

    def _prosecute(self) -> None:
        """Bring to the judge what can be proved of dealers and openers."""
        for check in self._coordinator.prosecute(self._task, self._task_id, self._round):
            said = f"{self._names.get(check.account, check.account)}: {check.fault}"
            self._faults.append(said)
            self._tell("convict", _COORDINATOR, check.receipt, time.perf_counter(), said)

    # Bookkeeping --------------------------------------------------------------------------------------

    def _with_names(self, text: str) -> str:
        """Return a message of the protocol, which knows accounts only, with the nodes' names in it."""
        for address, name in self._names.items():
            text = text.replace(address.lower(), name).replace(address, name)
        return text

    def _present(self, which: str, members: list[Node]) -> list[Node]:
        listed = set(getattr(self._contract.roster(self._task_id, self._round), which))
        return [node for node in members if node.account.address in listed]

    def _tell(
        self,
        step: str,
        node: str,
        receipt: Receipt | None,
        started: float,
        detail: str,
        *,
        status: str = "done",
    ) -> None:
        event = RoundEvent(
            task_id=self._task_id,
            round=self._round,
            step=step,
            node=node,
            status=status,
            gas=receipt.gas if receipt else 0,
            seconds=time.perf_counter() - started,
            detail=detail,
        )
        self._events.append(event)
        if self._observe is not None:
            self._observe(event)
