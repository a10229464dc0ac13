"""A verifier of sealed tasks: it re-executes what nobody else may read, and attests to it on chain."""

from twopm_kit.chain import Account, Receipt
from twopm_kit.federated.contract import AggregationContract, VerifierSeat
from twopm_kit.federated.mailbox import Mailbox
from twopm_kit.federated.sealing import Reader
from twopm_kit.federated.task import Task
from twopm_kit.federated.vault import Vault
from twopm_kit.federated.view import RoundView
from twopm_kit.secagg import BoxKey

__all__ = ["Verifier"]


class Verifier:
    """One member of the quorum that checks a sealed round.

    Parameters
    ----------
    name : str
        Name for people.
    account : Account
        Its account on chain.
    contract : AggregationContract
        The round contract, over the verifier's own connection.
    mailbox : Mailbox
        Where messages lie.
    vault : Vault, optional
        Where its key is kept; default: in memory only.
    """

    def __init__(
        self,
        name: str,
        account: Account,
        contract: AggregationContract,
        mailbox: Mailbox,
        *,
        vault: Vault | None = None,
    ) -> None:
        self.name = name
        self.account = account
        self.contract = contract
        self.mailbox = mailbox
        self._box_key = vault.box_key() if vault else BoxKey.generate()

    def __repr__(self) -> str:
        return f"Verifier({self.name!r}, {self.account.address})"

    @property
    def seat(self) -> VerifierSeat:
        """What a task's owner registers of this verifier."""
        return VerifierSeat(self.account.address, self._box_key.public)

    def attest(self, task: Task, task_id: int, round: int) -> Receipt:
        """Open the openings, work out the total mask, and attest to its hash."""
        reader = Reader(self.account.address, self._box_key)
        view = RoundView(self.contract, self.mailbox, task, task_id, round, reader=reader)
        digest = view.attested_digest(view.unmasking())
        number = [v.account for v in self.contract.verifiers(task_id)].index(self.account.address)
        return self.contract.send("attest", task_id, round, number, digest, sender=self.account)
