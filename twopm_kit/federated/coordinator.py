"""The crank of a task: it registers, ends phases, and publishes sums. Nobody has to trust it.

Everything here can be done by anybody: the contract checks the clock and the sum.
"""

import math
import time

from eth_hash.auto import keccak

from twopm_kit.chain import Account, Receipt
from twopm_kit.errors import ChainError, ContractReverted, RoundAborted
from twopm_kit.federated.contract import AggregationContract, Phase, Terms
from twopm_kit.federated.mailbox import Mailbox
from twopm_kit.federated.openings import total_mask
from twopm_kit.federated.task import Task
from twopm_kit.secagg import from_words, to_words

__all__ = ["Coordinator"]

_POLL_SECONDS = 0.5
_RHYTHM_BLOCKS = 20


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
    """

    def __init__(self, contract: AggregationContract, account: Account, mailbox: Mailbox) -> None:
        self.contract = contract
        self.account = account
        self.mailbox = mailbox

    def register(self, task: Task, *, join_blocks: int, step_blocks: int) -> tuple[int, Receipt]:
        """Publish a task; return its number and the receipt."""
        terms = Terms.of(task, join_blocks=join_blocks, step_blocks=step_blocks)
        return self.contract.register(terms, task.criteria.allow_list, self.account)

    def open_round(self, task_id: int, before: int | None = None) -> tuple[int, list[Receipt]]:
        """Start the round after ``before``, unless somebody else has; return its number and the receipts."""
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

    def finish(self, task: Task, task_id: int, round: int) -> tuple[list[int], Receipt | None]:
        """Take the mask off the sum and publish it.

        Returns
        -------
        list of int
            The sum as field elements.
        Receipt
            Of the transaction that published it.
        """
        masked = from_words(self.contract.masked_sum(task_id))
        unmasking = total_mask(
            self.contract,
            self.mailbox,
            task_id,
            round,
            config=task.round_config(),
            elements=len(masked),
        )
        words = to_words(unmasking.unmask(masked))
        try:
            return words, self.contract.send("finish", task_id, round, words, sender=self.account)
        except ContractReverted:
            published = keccak(b"".join(word.to_bytes(32, "big") for word in words))
            if self.contract.status(task_id, round).result_hash != published:
                raise
            return words, None  # somebody else was faster

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
