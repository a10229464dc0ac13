"""Zero-knowledge proofs about a column: every value in a range, sum or squares within bounds."""

from twopm_kit.vsies.proofs.columns import CommittedColumn, bits_of, weights_of
from twopm_kit.vsies.proofs.contract import ColumnProofs, ProvenColumn
from twopm_kit.vsies.proofs.fields import commit_field, in_steps
from twopm_kit.vsies.proofs.ranges import RangeProof, prove_range
from twopm_kit.vsies.proofs.totals import TotalProof, prove_total
from twopm_kit.vsies.proofs.transcript import ProofContext

__all__ = [
    "ColumnProofs",
    "CommittedColumn",
    "ProofContext",
    "ProvenColumn",
    "RangeProof",
    "TotalProof",
    "bits_of",
    "commit_field",
    "in_steps",
    "prove_range",
    "prove_total",
    "weights_of",
]
