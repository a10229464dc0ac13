"""Challenges that nobody chooses: hashes of everything said before, as the contract computes them, too."""

import operator
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from eth_abi import abi as codec
from eth_hash.auto import keccak

from twopm_kit import kzg
from twopm_kit.errors import DataError

__all__ = ["ProofContext", "Transcript", "bound", "whole", "words_of"]

_NAME: Final = b"twopm/vsies/v1/column/name"
_MOST: Final = 2**256
_ADDRESS: Final = re.compile("0x[0-9a-fA-F]{40}")


def whole(number: Any) -> Any:
    """Return numpy's whole numbers as Python's, and everything else as it is."""
    return operator.index(number) if isinstance(number, np.integer) else number


def bound(context: "ProofContext | None") -> "ProofContext":
    """Return what a proof is to be bound to: without a context, nowhere.

    Raises
    ------
    DataError
        It is something else.
    """
    if context is not None and not isinstance(context, ProofContext):
        raise DataError(
            f"context is a {type(context).__name__}; expected a ProofContext",
            hint="pass context=proofs.context(dataset, account, column)",
        )
    return context or ProofContext.nowhere()


@dataclass(frozen=True)
class ProofContext:
    """What a proof is bound to. It holds in this place, from this account, and nowhere else.

    Attributes
    ----------
    chain_id : int
        Of the chain that checks it.
    contract : str
        Address of the ``ColumnProofs`` contract.
    dataset : int
        What the column belongs to; the data client takes the number of the upload.
    prover : str
        Account that sends it.
    column : str
        Name of the column.
    part : int
        Which 2,048 rows of it, from 0.
    """

    chain_id: int
    contract: str
    dataset: int
    prover: str
    column: str = ""
    part: int = 0

    def __post_init__(self) -> None:
        for name in ("chain_id", "dataset", "part"):
            number = whole(getattr(self, name))
            if type(number) is not int or not 0 <= number < _MOST:
                raise DataError(
                    f"{name} is {str(number)[:80]!r}; expected a whole number from 0",
                    hint=f"pass {name} as an int",
                )
            object.__setattr__(self, name, number)
        for name in ("contract", "prover"):
            if not _ADDRESS.fullmatch(str(getattr(self, name))):
                raise DataError(
                    f"{name} is {getattr(self, name)!r}; expected an address, 0x and 40 hex digits",
                    hint="pass contract.address and account.address",
                )
        if type(self.column) is not str:
            raise DataError(
                f"column is a {type(self.column).__name__}; expected a name",
                hint="pass the column's name: field.name of a field",
            )

    @classmethod
    def nowhere(cls) -> "ProofContext":
        """Return a context that no chain has: for trying things out, off chain."""
        return cls(0, "0x" + "00" * 20, 0, "0x" + "00" * 20)

    @property
    def column_id(self) -> bytes:
        """32 bytes that stand for the column's name on chain."""
        return keccak(_NAME + self.column.encode())


class Transcript:
    """The state of a proof's hash chain.

    Parameters
    ----------
    label : str
        Name of the kind of proof.
    context : ProofContext
        What the proof is bound to.
    types, values : sequence
        The claim, in ABI types.
    """

    def __init__(
        self, label: str, context: ProofContext, types: Sequence[str], values: Sequence[Any]
    ) -> None:
        self._state = keccak(
            codec.encode(
                ["bytes32", "uint256", "address", "uint256", "address", "bytes32", "uint256", *types],
                [
                    keccak(label.encode()),
                    context.chain_id,
                    context.contract,
                    context.dataset,
                    context.prover,
                    context.column_id,
                    context.part,
                    *values,
                ],
            )
        )

    def absorb(self, types: Sequence[str], values: Sequence[Any]) -> int:
        """Take in what the prover says, and give the next challenge: an element of F_r.

        A hash of 256 bits is taken modulo r: no element is more than twice as likely as another.
        """
        self._state = keccak(codec.encode(["bytes32", *types], [self._state, *values]))
        return int.from_bytes(self._state, "big") % kzg.MODULUS

    def another(self) -> int:
        """Give a second challenge for the same words."""
        return int.from_bytes(keccak(self._state), "big") % kzg.MODULUS


def words_of(point: bytes) -> list[int]:
    """Give a point of 128 bytes as the four words that contracts take."""
    return [int.from_bytes(point[at : at + 32], "big") for at in range(0, 128, 32)]
