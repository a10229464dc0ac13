"""The crank of a task: it registers, ends phases, and publishes sums. Nobody has to trust it.

Everything here can be done by anybody: the contract checks the clock and the sum.
"""

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass

from twopm_kit.chain import Account, Receipt
from twopm_kit.chain.blobs import MOST_BLOBS
from twopm_kit.errors import ChainError, ContractReverted, RoundAborted, StoreError, TamperedMessage
from twopm_kit.federated import faults
from twopm_kit.federated.archive import TaskArchive
from twopm_kit.federated.contract import AggregationContract, Phase, Seat, Step, Terms, VerifierSeat
from twopm_kit.federated.mailbox import Mailbox
from twopm_kit.federated.sealing import Reader, seal_result
from twopm_kit.federated.task import Task
from twopm_kit.federated.vault import Vault
from twopm_kit.federated.view import RoundView
from twopm_kit.secagg import BoxKey, Mode, VectorMessage, party_id, to_words
from twopm_kit.secagg.field import Limbs

__all__ = ["Check", "Coordinator", "Outcome"]

_POLL_SECONDS = 0.5
_RHYTHM_BLOCKS = 20


@dataclass(frozen=True)
class Check:
    """What became of one member's vector when it was looked at.

    Attributes
    ----------
    account : str
    fault : str
        Empty if the vector is there and is the committed one.
    receipt : Receipt or None
        Of the challenge or the conviction.
    """

    account: str
    fault: str = ""
    receipt: Receipt | None = None


@dataclass(frozen=True, eq=False)
class Outcome:
    """A published round.

    Attributes
    ----------
    masked, total : uint32 array, shape (groups · m, 8)
        The masked sum Y and the sum X.
    receipts : tuple of Receipt
        Of the transactions that published it; empty if somebody else was faster.
    faults : dict
        Party → what it did wrong; the sum is right all the same.
    """

    masked: Limbs
    total: Limbs
    receipts: tuple[Receipt, ...]
    faults: dict[bytes, str]


class Coordinator:
    """Drives the rounds of one task.

    Parameters
    ----------
    contract : AggregationContract
        The round contract.
    account : Account
        Pays for the calls.
    mailbox : Mailbox
        Where messages lie.
    vault : Vault, optional
        Where the key that sealed tasks are sealed to is kept; default: in memory only, and a sealed task
        cannot be finished by an owner that was started again.
    """

    def __init__(
        self,
        contract: AggregationContract,
        account: Account,
        mailbox: Mailbox,
        *,
        vault: Vault | None = None,
    ) -> None:
        self.contract = contract
        self.account = account
        self.mailbox = mailbox
        self._box_key = vault.box_key() if vault else BoxKey.generate()
        self._vectors: dict[bytes, Limbs] = {}  # of the round that was looked at last

    def register(
        self, task: Task, *, join_blocks: int, step_blocks: int, verifiers: Sequence[VerifierSeat] = ()
    ) -> tuple[int, Receipt]:
        """Publish a task; return its number and the receipt.

        Parameters
        ----------
        task : Task
        join_blocks, step_blocks : int
            How long joining and each step may take.
        verifiers : sequence of VerifierSeat
            Who attests, if results are sealed.
        """
        terms = Terms.of(
            task,
            self.contract.chain,
            join_blocks=join_blocks,
            step_blocks=step_blocks,
            owner_key=self._box_key.public,
        )
        archive = TaskArchive.of(task)
        archive.load(approved=archive.code_hash)  # a task that does not travel costs no gas
        task_id, receipt = self.contract.register(
            terms, task.criteria.allow_list, self.account, verifiers=verifiers, reward=task.criteria.reward
        )
        context = self.contract.context(task_id, 0)
        self.mailbox.put(context, "task", self.account.address, archive.to_bytes())
        return task_id, receipt

    def view(self, task: Task, task_id: int, round: int) -> RoundView:
        """Return a round as the task's owner sees it."""
        reader = Reader(self.account.address, self._box_key)
        known = self._vectors
        return RoundView(self.contract, self.mailbox, task, task_id, round, reader=reader, known=known)

    def open_round(self, task_id: int, before: int | None = None) -> tuple[int, list[Receipt]]:
        """Start the round after ``before``, unless somebody else has; return its number and the receipts."""
        self._vectors.clear()
        current = self.contract.current_round(task_id)
        before = current if before is None else before
        if current > before:
            return before + 1, []
        if before == 0:
            self.wait_for_block(self.contract.join_deadline(task_id) + 1)
        receipts = []
        for _ in range(3):
            try:
                receipts.append(self.contract.send("open_round", task_id, sender=self.account))
            except ContractReverted:
                if self.contract.current_round(task_id) == before:
                    raise  # nobody else has opened it either
            if self.contract.current_round(task_id) > before:
                return before + 1, receipts
        raise RoundAborted(
            f"round {before + 1} of task {task_id} did not open in three calls",
            hint="call open_round again while the chain still knows the beacon's block (256 blocks)",
        )

    def end_phase(
        self, task_id: int, round: int, ending: Phase | None = None
    ) -> tuple[Phase, Receipt | None]:
        """End a phase when everybody has spoken or its deadline has passed, if nobody else has done so."""
        status = self.contract.status(task_id, round)
        ending = ending or status.phase
        if status.phase is not ending:
            return status.phase, None
        everybody = {
            Phase.SHARE: status.shared == status.selected,
            Phase.SUBMIT: status.submitted == status.shared,
        }.get(status.phase, False)
        if not everybody:
            # The contract keeps one more window free for `finish`.
            grace = self.contract.terms(task_id).step_blocks if ending is Phase.OPEN else 0
            self.wait_for_block(status.deadline + grace + 1)
        receipt = None
        try:
            receipt = self.contract.send("advance", task_id, round, sender=self.account)
        except ContractReverted:
            if self.contract.status(task_id, round).phase is ending:
                raise
        return self.contract.status(task_id, round).phase, receipt

    def check_vectors(self, task: Task, task_id: int, round: int) -> list[Check]:
        """Look at every committed vector; challenge what is missing, and prove on chain what is false.

        Only vectors that are committed to but lie elsewhere have to be looked at: in ``direct`` mode the
        contract adds them itself, and in ``blob`` mode the chain has checked them. What was seen is kept for
        `finish`. Members that somebody else has challenged are among those with a fault: they have to answer.
        """
        self._vectors.clear()
        view = self.view(task, task_id, round)
        found = []
        for seat in view.roster.seats:
            if seat.challenged:
                found.append(Check(seat.node, "somebody has asked for its vector"))
            if seat.step < Step.SUBMITTED:
                continue
            try:
                view.contribution(seat)
            except (StoreError, TamperedMessage) as fault:
                found.append(self._object(view, seat, fault))
            else:
                found.append(Check(seat.node))
        return found

    def _object(self, view: RoundView, seat: Seat, fault: StoreError | TamperedMessage) -> Check:
        """Answer a vector that cannot be used: with a proof on chain if there is one, else with a challenge.

        What a false commitment stands for is known to its sender alone. A challenge makes it public, or drops
        its sender; `prosecute` then proves what is false about it.
        """
        shown = (seat.data_root, seat.commitments)
        outside = faults.no_group_element(party_id(seat.node), *shown, view.ring)
        try:
            if outside is not None:
                receipt = self._convict(view, outside)
            else:
                where = (view.task_id, view.round, seat.number)
                receipt = self.contract.send("challenge", *where, *shown, sender=self.account)
        except ContractReverted as refusal:
            return Check(seat.node, f"{fault.message}; {refusal.reason}")
        return Check(seat.node, fault.message, receipt)

    def prosecute(self, task: Task, task_id: int, round: int) -> list[Check]:
        """Prove on chain what dealers, openers and senders have done wrong in a round; each loses its stake.

        Anybody can: the evidence is made of what the culprits have published. The round itself goes on with
        the shares that are good.
        """
        view = self.view(task, task_id, round)
        dealt, opened = view.share_messages(), view.opening_messages()
        roster, ring = view.roster, view.ring
        seats, survivors = roster.seats, {party_id(account) for account in roster.survivors}
        proofs = [
            faults.bad_opener(opening, message, ring, survivors) for opening in opened for message in dealt
        ]
        proofs += [faults.bad_dealer(message, opened, ring, survivors) for message in dealt]
        proofs += [self._wrong_commitment(view, seat) for seat in seats if seat.answered]
        found: dict[int, Check] = {}
        for proof in proofs:
            if proof is None or proof.seat in found or seats[proof.seat].convicted:
                continue
            what = f"convicted as a {proof.fault.name.lower().replace('_', ' ')}"
            try:
                found[proof.seat] = Check(seats[proof.seat].node, what, self._convict(view, proof))
            except ContractReverted as refusal:
                found[proof.seat] = Check(seats[proof.seat].node, f"not {what}: {refusal.reason}")
        return list(found.values())

    def _wrong_commitment(self, view: RoundView, seat: Seat) -> faults.Evidence | None:
        """Look for a contradiction between the vector under a root and the blobs that were shown for it."""
        where = (view.context, seat.node, seat.data_root, seat.commitments)
        try:
            message = VectorMessage.from_bytes(self.mailbox.get(view.context, "vector", seat.node))
            message.verify(*where, elements=view.elements)
        except StoreError:
            return None
        except TamperedMessage as fault:
            if fault.dealer != party_id(seat.node):
                return None  # storage may have spoiled it
        try:
            blobs = view.blobs(seat.commitments)
        except ChainError:
            return None
        return faults.wrong_commitment(message, seat.commitments, blobs, view.ring)

    def _convict(self, view: RoundView, proof: faults.Evidence) -> Receipt:
        return self.contract.send("convict", view.task_id, view.round, *proof.arguments, sender=self.account)

    def finish(self, task: Task, task_id: int, round: int) -> Outcome:
        """Take the mask off the sum and publish it, in the way that the task's mode asks for."""
        view = self.view(task, task_id, round)
        summed = view.summed()
        masked = view.narrow(summed)
        unmasking = view.unmasking()
        total = unmasking.unmask(masked)
        sealed = view.config.visibility == "sealed"
        message = view.sum_message(summed)
        if sealed or view.mode is not Mode.DIRECT:
            self.mailbox.put(view.context, "sum", self.contract.address, message.to_bytes())
        if sealed:
            self._deliver(view, total)
        try:
            if view.mode is Mode.DIRECT and not sealed:
                words = to_words(total)
                receipts = [self.contract.send("finish", task_id, round, words, sender=self.account)]
            else:
                blobs = message.blobs if message.commitments else []
                known = view.sum_digest(message) if view.mode is Mode.HASH else bytes(32)
                receipts = self._finish_committed(task_id, round, unmasking.digest, known, blobs)
        except ContractReverted:
            if self.contract.status(task_id, round).phase is not Phase.DONE:
                raise
            receipts = []  # somebody else was faster; the contract lets only one sum through
        false = {
            party_id(seat.node): "what it has shown is not the vector that it has committed to"
            for seat in view.roster.seats
            if seat.answered and self._wrong_commitment(view, seat)
        }
        return Outcome(masked, total, tuple(receipts), unmasking.faults | false)

    def _finish_committed(
        self, task_id: int, round: int, mask: bytes, summed: bytes, blobs: Sequence[bytes]
    ) -> list[Receipt]:
        receipts = []
        if len(blobs) > MOST_BLOBS:
            for first in range(0, len(blobs), MOST_BLOBS):
                part = blobs[first : first + MOST_BLOBS]
                receipts.append(
                    self.contract.send("post_sum", task_id, round, first, sender=self.account, blobs=part)
                )
            blobs = ()
        receipts.append(
            self.contract.send(
                "finish_committed", task_id, round, mask, summed, sender=self.account, blobs=blobs
            )
        )
        return receipts

    def _deliver(self, view: RoundView, total: Limbs) -> None:
        """Seal the sum to every node of the task: whoever is drawn next needs it, and nobody else gets it."""
        owner = Reader(self.account.address, self._box_key)
        keys = {seat.node: seat.box_key for seat in view.roster.seats}
        for node in self.contract.contract.joined(view.task_id):
            keys[node] = bytes(self.contract.contract.membership(view.task_id, node).box_key)
        for node, key in keys.items():
            try:
                box = seal_result(view.context, owner, party_id(node), key, total)
            except TamperedMessage:
                continue  # a key that nothing can be sealed to harms its owner alone
            self.mailbox.put(view.context, "result", node, box)

    def blocks_for(self, seconds: float, nodes: int) -> int:
        """Return a window in blocks that is long enough for everybody to speak.

        Parameters
        ----------
        seconds : float
            What the task allows, on a chain whose blocks have a rhythm; it is read off the last blocks.
        nodes : int
            How many nodes speak. Development chains mine a block a transaction: two for each node.
        """
        chain = self.contract.chain
        least = 2 * nodes + 8
        newest = chain.block_number
        if chain.is_development or newest == 0:
            return least
        oldest = max(0, newest - _RHYTHM_BLOCKS)
        stamps = [chain.w3.eth.get_block(number)["timestamp"] for number in (oldest, newest)]
        rhythm = (stamps[1] - stamps[0]) / (newest - oldest)
        return max(least, math.ceil(seconds / rhythm)) if rhythm > 0 else least

    def wait_for_block(self, number: int) -> None:
        """Return when the next transaction will be in block ``number`` or later.

        Local chains are asked to mine; on others the wait is real.
        """
        chain = self.contract.chain
        while (missing := number - 1 - chain.block_number) > 0:
            try:
                chain.mine(missing)
            except ChainError:
                time.sleep(_POLL_SECONDS)
