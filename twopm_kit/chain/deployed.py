"""What the kit's deployed contracts have in common: how one is put on a chain, found, and called."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from html import escape
from typing import Any, ClassVar, Self

from twopm_kit.chain.accounts import Account
from twopm_kit.chain.connection import Chain
from twopm_kit.chain.contract import Contract, Receipt
from twopm_kit.errors import ChainError, ContractReverted

__all__ = ["Deployed", "facts_table"]


class Deployed:
    """A deployed contract, as one party sees it through its own connection. Make one with `deploy` or `at`.

    A subclass names the contract and gives its methods typed answers; one whose constructor takes arguments
    has a `deploy` of its own.

    Parameters
    ----------
    chain : Chain
        The party's connection.
    contract : Contract
        The deployed contract.

    Attributes
    ----------
    address : str
        Checksummed address of the contract.
    """

    #: Name of the contract's artefact.
    CONTRACT: ClassVar[str]
    #: What to do about the contract's refusals, by their reason.
    HINTS: ClassVar[Mapping[str, str]] = {}

    def __init__(self, chain: Chain, contract: Contract) -> None:
        self.chain = chain
        self.contract = contract
        self.address: str = contract.address

    @classmethod
    def deploy(cls, chain: Chain, sender: Account) -> Self:
        """Put a fresh contract on the chain."""
        return cls(chain, chain.deploy(cls.CONTRACT, sender=sender))

    @classmethod
    def at(cls, chain: Chain, address: str) -> Self:
        """Take the contract that is deployed at an address.

        Raises
        ------
        UnknownContract
            When there is no code at the address, or code that is not the kit's own.
        """
        return cls(chain, chain.at(cls.CONTRACT, address, exact=True))

    def send(
        self, method: str, *arguments: Any, sender: Account, value: int = 0, blobs: Sequence[bytes] = ()
    ) -> Receipt:
        """Send one transaction, with coins in wei and blobs (EIP-4844) if there are any.

        Raises
        ------
        ContractReverted
            The contract refuses; its ``reason`` says why, and nothing has changed.
        """
        options: dict[str, Any] = {"blobs": list(blobs)} if blobs else {}
        with self.explained():
            receipt: Receipt = self.contract.method(method)(*arguments, sender=sender, value=value, **options)
        return receipt

    @contextmanager
    def explained(self) -> Iterator[None]:
        """Say what to do about a refusal of the contract, where `HINTS` knows."""
        try:
            yield
        except ContractReverted as refused:
            hint = self.HINTS.get(refused.reason, refused.hint)
            raise ContractReverted(refused.message, reason=refused.reason, hint=hint) from refused

    def event(self, receipt: Receipt, name: str) -> Mapping[str, Any]:
        """Return the fields of the first event of this name that the contract wrote in a transaction.

        Raises
        ------
        ChainError
            When it wrote none.
        """
        for event in receipt.events:
            if event.name == name and event.address == self.address:
                return event.args
        raise ChainError(
            f"transaction {receipt.tx_hash} wrote no {name} event of {self.CONTRACT} at {self.address}",
            hint="pass the receipt of a call to this contract",
        )

    def __repr__(self) -> str:
        return f"<{type(self).__name__} at {self.address}, chain {self.chain.chain_id}>"


def facts_table(facts: Mapping[str, str]) -> str:
    """Return an escaped table of names and values, for ``_repr_html_``."""
    body = "".join(
        f"<tr><th scope='row' style='text-align:left'>{escape(name)}</th>"
        f"<td style='text-align:left;overflow-wrap:anywhere'>{escape(value)}</td></tr>"
        for name, value in facts.items()
    )
    return f"<table><tbody>{body}</tbody></table>"
