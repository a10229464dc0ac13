"""The crank of a task: it registers, ends phases, and publishes sums. Nobody has to trust it.

Everything here can be done by anybody: the contract checks the clock and the sum.
"""

import time

from twopm_kit.chain import Account, Receipt
from twopm_kit.errors import ChainError, RoundAborted
from twopm_kit.federated.contract import AggregationContract, Phase, Terms
from twopm_kit.federated.mailbox import Mailbox
from twopm_kit.federated.openings import total_mask
from twopm_kit.federated.task import Task
from twopm_kit.secagg import from_words, to_words

__all__ = ["Coordinator"]

_POLL_SECONDS = 0.5


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

    def open_round(self, task_id: int) -> tuple[int, list[Receipt]]:
        """Start the next round as soon as the chain allows it; return its number and the receipts."""
        before = self.contract.current_round(task_id)
        if before == 0:
            self.wait_for_block(self.contract.join_deadline(task_id) + 1)
        receipts = []
        for _ in range(3):
            receipts.append(self.contract.send("open_round", task_id, sender=self.account))
            if self.contract.current_round(task_id) > before:
                return before + 1, receipts
        raise RoundAborted(
            f"round {before + 1} of task {task_id} did not open in three calls",
            hint="call open_round again while the chain still knows the beacon's block (256 blocks)",
        )

    def end_phase(self, task_id: int, round: int) -> tuple[Phase, Receipt]:
        """End the current phase, waiting for its deadline unless everybody has spoken."""
        status = self.contract.status(task_id, round)
        everybody = {
            Phase.SHARE: status.shared == status.selected,
            Phase.SUBMIT: status.submitted == status.shared,
        }.get(status.phase, False)
        if not everybody:
            self.wait_for_block(status.deadline + 1)
        receipt = self.contract.send("advance", task_id, round, sender=self.account)
        return self.contract.status(task_id, round).phase, receipt

    def finish(self, task: Task, task_id: int, round: int) -> tuple[list[int], Receipt]:
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
        return words, self.contract.send("finish", task_id, round, words, sender=self.account)

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
