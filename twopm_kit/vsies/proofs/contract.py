"""``ColumnProofs``: the contract that checks proofs about columns, with typed answers."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Final

import numpy.typing as npt
from tqdm.auto import tqdm

from twopm_kit.chain import Account, Receipt
from twopm_kit.chain.deployed import Deployed, facts_table
from twopm_kit.errors import ContractReverted, DataError, ProofRefused
from twopm_kit.vsies.proofs.columns import CommittedColumn
from twopm_kit.vsies.proofs.fields import commit_field, ends_in_steps
from twopm_kit.vsies.proofs.polynomials import ROWS
from twopm_kit.vsies.proofs.ranges import RangeProof, prove_range
from twopm_kit.vsies.proofs.totals import TotalProof
from twopm_kit.vsies.proofs.transcript import ProofContext

if TYPE_CHECKING:
    import pandas as pd

    from twopm_kit.vsies.field import Field

__all__ = ["ColumnProofs", "ProvenColumn"]

Proof = RangeProof | TotalProof

_HINTS: Final = {
    "already proven": "a part is proven once: read proofs.proven(...), or take another dataset or part",
    "another commitment": "prove the total with the committed column whose range was proven",
    "prove the range first": "send the range proof of the same column and part before",
    "": "make the proof for this contract, dataset, column and sender, from values that fit it",
}


@dataclass(frozen=True, repr=False)
class ProvenColumn:
    """What the chain knows of a part of a column.

    Attributes
    ----------
    commitment : bytes
        keccak256 of the column's point.
    rows : int
        How many of the 2,048 numbers are rows.
    low, high : int
        Every value lies between them, both included.
    proven_at : int
        Block.
    sum, squares : tuple of int, optional
        Bounds of the rows' sum and of their squares' sum, where they are proven.
    """

    commitment: bytes
    rows: int
    low: int
    high: int
    proven_at: int
    sum: tuple[int, int] | None
    squares: tuple[int, int] | None

    def _claims(self) -> dict[str, str]:
        bounds = {"every value": (self.low, self.high), "sum": self.sum, "sum of squares": self.squares}
        return {
            name: "not proven" if found is None else f"{found[0]:,} to {found[1]:,}"
            for name, found in bounds.items()
        }

    def __repr__(self) -> str:
        claims = "; ".join(f"{name} {bounds}" for name, bounds in self._claims().items())
        return f"<ProvenColumn: {self.rows:,} rows; {claims}; block {self.proven_at:,}>"

    def _repr_html_(self) -> str:
        facts = {"rows": f"{self.rows:,}", **self._claims()}
        return facts_table(
            {**facts, "commitment": "0x" + self.commitment.hex(), "block": f"{self.proven_at:,}"}
        )


class ColumnProofs(Deployed):
    """Where owners of columns prove what their values are like."""

    CONTRACT: ClassVar[str] = "ColumnProofs"

    def context(self, dataset: int, prover: Account | str, column: str, part: int = 0) -> ProofContext:
        """Return what a proof must be bound to so that this contract takes it.

        Parameters
        ----------
        dataset : int
            What the column belongs to.
        prover : Account or str
            Account that will send it.
        column : str
            Name of the column.
        part : int
            Which 2,048 rows.
        """
        address: Any = getattr(prover, "address", prover)
        return ProofContext(self.chain.chain_id, self.address, dataset, address, column, part)

    def verify(self, proof: Proof, *, sender: Account) -> Receipt:
        """Have the contract check a proof and remember what it proves.

        Raises
        ------
        ProofRefused
            If the contract refuses it; the message says why.
        """
        if not isinstance(proof, RangeProof | TotalProof):
            raise DataError(
                f"a {type(proof).__name__} was passed; expected a proof",
                hint="pass what prove_range or prove_total returned; RangeProof.from_bytes reads one",
            )
        method = "prove_range" if isinstance(proof, RangeProof) else "prove_total"
        try:
            return self.send(method, *proof.arguments(), sender=sender)
        except ContractReverted as refusal:
            raise ProofRefused(
                f"the contract refuses the proof: {refusal.reason or 'it does not hold'}",
                hint=_elsewhere(proof.context, self.address, sender)
                or _HINTS.get(refusal.reason, _HINTS[""]),
            ) from refusal

    def prove_column(
        self,
        dataset: int,
        field: "Field",
        values: "pd.Series[Any] | npt.ArrayLike | Sequence[CommittedColumn]",
        *,
        sender: Account,
        progress: bool = True,
    ) -> list[ProvenColumn]:
        """Prove that every value of a column is what its field allows, part by part.

        Parts that are proven already are left alone, so that an interrupted call goes on when it is made
        again: they are proven of the values that were passed then. A part takes about a second and one
        transaction.

        Parameters
        ----------
        dataset : int
            What the column belongs to: the number of its upload.
        field : Field
            With low, high and resolution.
        values : Series or array, shape (n,), or what `commit_field` returned
            The column; pass commitments of your own when totals are to be proven of them later.
        sender : Account
            The contributor.
        progress : bool
            Show a bar.

        Raises
        ------
        SchemaError
            A value is missing or not what the field allows.
        ProofRefused
            The contract refuses a part.
        """
        given = list(values) if isinstance(values, Sequence) else []
        columns = [one for one in given if isinstance(one, CommittedColumn)]
        if not columns or len(columns) < len(given):
            columns = commit_field(field, values)  # type: ignore[arg-type]  # which says what it takes
        found = []
        for part, column in enumerate(tqdm(columns, unit="part", leave=False, disable=not progress)):
            known = self.proven(dataset, sender, field.name, part)
            if known is None:
                context = self.context(dataset, sender, field.name, part)
                self.verify(prove_range(column, context=context), sender=sender)
                known = self.proven(dataset, sender, field.name, part)
            if known is None or (known.rows, known.low, known.high) != (column.rows, column.low, column.high):
                raise ProofRefused(
                    f"part {part} of column {field.name!r} is proven already, of other rows or another range",
                    hint="prove changed data under the number of a new upload",
                )
            found.append(known)
        return found

    def demand(self, dataset: int, prover: Account | str, field: "Field", rows: int) -> list[ProvenColumn]:
        """Accept a whole column, or say which part is not proven. A consumer calls this before relying on it.

        Parameters
        ----------
        dataset : int
            What the column belongs to: the number of its upload.
        prover : Account or str
            Who should have proven it: the upload's contributor.
        field : Field
            Every value must have been proven to be what it allows.
        rows : int
            How many rows the column has, as the index says.

        Returns
        -------
        list of ProvenColumn
            Its parts, in order.

        Raises
        ------
        ProofRefused
            A part is missing, or proven of other rows or another range.
        SchemaError
            The field cannot be proven.
        """
        if type(rows) is not int or rows < 1:
            raise DataError(f"rows is {str(rows)[:60]}", hint="pass the number of rows that the index states")
        low, high = ends_in_steps(field)
        parts = []
        for part in range(-(-rows // ROWS)):
            found = self.proven(dataset, prover, field.name, part)
            wanted = (min(ROWS, rows - part * ROWS), low, high)
            if found is None or (found.rows, found.low, found.high) != wanted:
                said = (
                    "nothing"
                    if found is None
                    else f"{found.rows:,} rows from {found.low:,} to {found.high:,}"
                )
                raise ProofRefused(
                    f"part {part} of column {field.name!r} should be proven as {wanted[0]:,} rows from "
                    f"{low:,} to {high:,}; proven is {said}",
                    hint="ask its contributor to prove all parts with prove_column",
                )
            parts.append(found)
        return parts

    def proven(self, dataset: int, prover: Account | str, column: str, part: int = 0) -> ProvenColumn | None:
        """Return what is proven of a part of a column; None if nothing is."""
        context = self.context(dataset, prover, column, part)
        place = (dataset, context.prover, context.column_id, part)
        found = self.contract.proven(*place)
        if not found.proven_at:
            return None
        totals = [self.contract.bounded(*place, squares) for squares in (False, True)]
        sums, squares = ((least, most) if known else None for known, least, most in totals)
        return ProvenColumn(
            found.commitment, found.rows, found.low, found.high, found.proven_at, sums, squares
        )


def _elsewhere(context: ProofContext, contract: str, sender: Account) -> str:
    """Say what to do about a proof that is bound to another contract or account; "" if it is not."""
    if (context.contract.lower(), context.prover.lower()) == (contract.lower(), sender.address.lower()):
        return ""
    return (
        f"the proof is bound to contract {context.contract} and account {context.prover}: make it with "
        "context=proofs.context(dataset, account, column), and send it from that account"
    )
