"""``ColumnProofs``: the contract that checks proofs about columns, with typed answers."""

from dataclasses import dataclass
from typing import ClassVar

from twopm_kit.chain import Account, Receipt
from twopm_kit.chain.deployed import Deployed, facts_table
from twopm_kit.errors import ContractReverted, ProofRefused
from twopm_kit.vsies.proofs.ranges import RangeProof
from twopm_kit.vsies.proofs.totals import TotalProof
from twopm_kit.vsies.proofs.transcript import ProofContext

__all__ = ["ColumnProofs", "ProvenColumn"]

Proof = RangeProof | TotalProof


@dataclass(frozen=True)
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

    def _repr_html_(self) -> str:
        def between(bounds: tuple[int, int] | None) -> str:
            return "not proven" if bounds is None else f"{bounds[0]:,} to {bounds[1]:,}"

        return facts_table(
            {
                "rows": f"{self.rows:,}",
                "every value": between((self.low, self.high)),
                "sum": between(self.sum),
                "sum of squares": between(self.squares),
                "commitment": "0x" + self.commitment.hex(),
                "block": str(self.proven_at),
            }
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
        address = prover if isinstance(prover, str) else prover.address
        return ProofContext(self.chain.chain_id, self.address, dataset, address, column, part)

    def verify(self, proof: Proof, *, sender: Account) -> Receipt:
        """Have the contract check a proof and remember what it proves.

        Raises
        ------
        ProofRefused
            If the contract refuses it; the message says why.
        """
        method = "prove_range" if isinstance(proof, RangeProof) else "prove_total"
        try:
            return self.send(method, *proof.arguments(), sender=sender)
        except ContractReverted as refusal:
            raise ProofRefused(
                f"the contract refuses the proof: {refusal.reason or 'it does not hold'}",
                hint="make the proof for this contract, dataset, column and sender, from values that fit it",
            ) from refusal

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
