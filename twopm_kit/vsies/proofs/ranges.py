"""Proves that every value of a committed column lies in a range, and shows none of them.

Each value is a sum of bits with public weights that add up to the width of the range. The prover commits to
one polynomial b_i for each bit, and shows that, with Z(X) = X^2048 - 1 and a random gamma,

    sum of gamma^i (b_i^2 - b_i) + gamma^k (sum of w_i b_i - c) + gamma^(k+1) S (c - f) = Z q,
    q = q_0 + X^3072 q_1.

S is 1 on the points of elements that are no rows and 0 on those of rows; f is what has to stand there, the
value nearest to zero. Without that term whoever proves could put anything there, and sums would count it.

**Soundness.** Commitments bind to polynomials of degree below 4096 (in the algebraic group model under the
q-discrete-logarithm assumption: Kate, Zaverucha and Goldberg 2010; Fuchsbauer, Kiltz and Loss 2018; the
points come from Ethereum's ceremony). Both sides then have degree below 2^14. If they differ, they agree at
the random point z with a chance below 2^14 / r < 2^-240 (Schwartz and Zippel); gamma and the combination of
openings add less. If they are equal, the left side vanishes on H for a gamma that was drawn after all b_i
were fixed: every b_i is a bit on H, the weighted bits add up to c, and behind the rows c is f.
Challenges are hashes (Fiat and Shamir 1986), so that whoever can compute 2^128 hashes has a chance of 2^-112
at most.

**Zero knowledge.** What a verifier sees beside the claim: commitments to b_i, q_0 and q_1, the values of
b_i at z, and one opening. Two random elements in the second half of each b_i make its commitment and its
value at z uniform and independent; a random number moved from q_0 to q_1 does the same for q_0. The rest
follows from these by the equation: whoever knew the ceremony's secret could make all of it without the
column, alike to the last bit (a simulator). c and q are never opened alone.
"""

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from twopm_kit import kzg
from twopm_kit.errors import DataError, ProofRefused, TwoPMError
from twopm_kit.vsies.proofs.columns import MAX_BITS, CommittedColumn, bits_of, random_elements, weights_of
from twopm_kit.vsies.proofs.polynomials import (
    ROWS,
    SPLIT,
    Elements,
    basis_at,
    blob_of,
    on_cosets,
    quotient,
    spare_at,
    spare_on_cosets,
    split_blobs,
)
from twopm_kit.vsies.proofs.transcript import ProofContext, Transcript, bound, whole, words_of
from twopm_kit.vsies.proofs.wire import Reader, Writer

__all__ = ["RangeProof", "prove_range"]

R: Final = kzg.MODULUS
_LABEL: Final = "twopm/vsies/v1/column/range"
_MAGIC: Final = b"2PM.rng1"


@dataclass(frozen=True, repr=False)
class RangeProof:
    """A proof that 2,048 committed numbers lie in a range; anybody may see it.

    Attributes
    ----------
    context : ProofContext
        What it is bound to.
    rows : int
        How many of the numbers are rows.
    low, high : int
        The range, both ends included.
    commitment : bytes
        The column's point, 128 bytes.
    bits : tuple of bytes
        Points of the bits, 128 bytes each.
    quotient : tuple of bytes
        Points of the quotient's two parts.
    values : tuple of int
        The bits' polynomials at the challenge.
    opening : bytes
        48 bytes.
    """

    context: ProofContext
    rows: int
    low: int
    high: int
    commitment: bytes
    bits: tuple[bytes, ...]
    quotient: tuple[bytes, bytes]
    values: tuple[int, ...]
    opening: bytes

    def __repr__(self) -> str:
        return (
            f"<RangeProof: {self.rows:,} values from {self.low:,} to {self.high:,}, {self.nbytes:,} bytes, "
            f"column {self.context.column!r}, part {self.context.part}>"
        )

    @property
    def nbytes(self) -> int:
        """Bytes of the proof as it is stored and sent."""
        return len(self.to_bytes())

    def arguments(self) -> tuple[Any, ...]:
        """Give what the contract's ``prove_range`` takes."""
        return (
            self.context.dataset,
            self.context.column_id,
            self.context.part,
            self.rows,
            self.low,
            self.high,
            words_of(self.commitment),
            [words_of(point) for point in self.bits],
            [words_of(point) for point in self.quotient],
            list(self.values),
            self.opening,
        )

    def verify(self) -> None:
        """Check the proof off chain, as the contract does.

        Raises
        ------
        ProofRefused
            If it does not hold.
        """
        width = self.high - self.low
        if not 0 < self.rows <= ROWS or width < 1 or len(self.bits) != width.bit_length():
            raise _refused("it does not have one point for each bit of its range")
        if len(self.values) != len(self.bits) or any(not 0 <= value < R for value in self.values):
            raise _refused("it does not have one field element for each bit of its range")
        talk = _transcript(self.context, self.rows, self.low, self.high, self.commitment)
        gamma, z, delta = _challenges(talk, self.bits, self.quotient, self.values)
        filler = min(max(self.low, 0), self.high) - self.low
        scalars, y = _combination(gamma, z, delta, self.values, width, spare_at(z, self.rows), filler)
        try:
            combined = kzg.linear_combination([self.commitment, *self.bits, *self.quotient], scalars)
            holds = kzg.verify_at(kzg.compress(combined), z, y.to_bytes(32, "big"), self.opening)
        except TwoPMError:
            raise _refused("one of its points is no point of the group") from None
        if not holds:
            raise _refused("the equation does not hold at the challenge")

    def to_bytes(self) -> bytes:
        """Write the proof; its context is not in it, and the reader says where it must hold."""
        out = Writer(_MAGIC)
        out.number(self.rows, 2)
        out.number(self.low, 8, signed=True)
        out.number(self.high, 8, signed=True)
        out.number(len(self.bits), 1)
        out.points([self.commitment, *self.bits, *self.quotient])
        out.elements(self.values)
        return out.finish(self.opening)

    @classmethod
    def from_bytes(cls, content: bytes, context: ProofContext) -> "RangeProof":
        """Read a proof that somebody else wrote; whether it holds tells `verify`.

        Raises
        ------
        ProofRefused
            If these bytes are anything but what `to_bytes` writes.
        """
        read = Reader(content, _MAGIC)
        rows, low, high = read.number(2), read.number(8, signed=True), read.number(8, signed=True)
        k = read.number(1)
        if not 1 <= k <= MAX_BITS:
            raise _refused(f"it says that it has {k} bits")
        commitment, *points = read.points(k + 3)
        values = read.elements(k)
        return cls(
            bound(context),
            rows,
            low,
            high,
            commitment,
            tuple(points[:k]),
            (points[k], points[k + 1]),
            values,
            read.finish(48),
        )


def prove_range(
    values: "CommittedColumn | npt.ArrayLike",
    bits: int | None = None,
    *,
    low: int | None = None,
    high: int | None = None,
    context: ProofContext | None = None,
) -> RangeProof:
    """Prove that every value lies in a range, without showing one.

    Parameters
    ----------
    values : CommittedColumn or sequence of int, shape (n,)
        Up to 2,048 whole numbers. Commit first (``CommittedColumn.commit``) when more is to be proven about
        the same column.
    bits : int, optional
        Shorthand for the range `low` to ``low + 2**bits - 1``.
    low, high : int, optional
        The range, both ends included; it may have any width up to 2**32 - 1. `low` is 0 unless it is passed.
    context : ProofContext, optional
        What the proof is bound to: ``contract.context(...)`` of the contract that is to check it. Without
        one, the proof can be checked off chain, and no contract takes it.

    Returns
    -------
    RangeProof

    Raises
    ------
    ProofRefused
        If a value is outside.
    DataError
        If the range is not given once, or values are no whole numbers.
    """
    if isinstance(values, CommittedColumn):
        if bits is not None or low is not None or high is not None:
            raise DataError(
                "a committed column has its range already", hint="leave bits=, low= and high= out"
            )
        column = values
    else:
        low = 0 if low is None else low
        if (bits is None) == (high is None):
            raise DataError("the range was given twice, or not at all", hint="pass bits=, or low= and high=")
        if bits is not None:
            bits, low = whole(bits), whole(low)
            if type(bits) is not int or not 1 <= bits <= MAX_BITS:
                raise DataError(
                    f"bits is {str(bits)[:60]}; expected 1 to {MAX_BITS}",
                    hint="pass bits= as a small whole number, or low= and high=; of a field, commit_field",
                )
            if type(low) is not int:
                raise DataError(f"low is a {type(low).__name__}", hint="pass low= as a whole number")
            high = low + (1 << bits) - 1
        column = CommittedColumn.commit(values, low, high)  # type: ignore[arg-type]  # checked there
    return prove_bits(column, bits_of(column.offsets, column.width), bound(context))


def prove_bits(column: CommittedColumn, bits: Elements, context: ProofContext) -> RangeProof:
    """Prove with bits that are given; whether they are those of the column tells only the verifier."""
    k = len(bits)
    blinders = np.array([random_elements(2, 2) for _ in range(k)], dtype=object)
    beside = np.zeros((k, ROWS - 2), dtype=object)
    blobs = np.concatenate([bits, blinders, beside], axis=1)
    points = tuple(_commit(blob) for blob in blobs)

    talk = _transcript(context, column.rows, column.low, column.high, column.commitment)
    gamma = talk.absorb(["uint256[4][]"], [[words_of(point) for point in points]])
    powers = np.array([pow(gamma, i, R) for i in range(k)], dtype=object)
    weights = np.array(weights_of(column.width), dtype=object) * pow(gamma, k, R) % R
    on_bits = on_cosets(bits, blinders)
    on_column = on_cosets(column.offsets[None], column.blinders[None])
    parts = [
        (
            powers @ (b * b - b)
            + weights @ b
            - pow(gamma, k, R) * c[0]
            + pow(gamma, k + 1, R) * s * (c[0] - column.filler)
        )
        % R
        for b, c, s in zip(on_bits, on_column, spare_on_cosets(column.rows), strict=True)
    ]
    halves = split_blobs(quotient(parts, int(random_elements(1)[0])))
    cut = (_commit(halves[0]), _commit(halves[1]))
    z = talk.absorb(["uint256[4][2]"], [[words_of(point) for point in cut]])

    basis = basis_at(z)
    values = tuple(int(value) for value in blobs @ basis % R)
    delta = talk.absorb(["uint256[]"], [list(values)])
    spare = spare_at(z, column.rows)
    scalars, _ = _combination(gamma, z, delta, values, column.width, spare, column.filler)
    mixed = column.elements * scalars[0] + np.array(scalars[1 : k + 1], dtype=object) @ blobs
    mixed = mixed + halves[0] * scalars[k + 1] + halves[1] * scalars[k + 2]
    opening, _ = kzg.prove_at(blob_of(mixed), z)
    return RangeProof(
        context, column.rows, column.low, column.high, column.commitment, points, cut, values, opening
    )


def _commit(blob: Elements) -> bytes:
    return kzg.uncompress(kzg.commit(blob_of(blob), keep=False))


def _transcript(context: ProofContext, rows: int, low: int, high: int, commitment: bytes) -> Transcript:
    return Transcript(
        _LABEL,
        context,
        ["uint256", "int256", "int256", "uint256[4]"],
        [rows, low, high, words_of(commitment)],
    )


def _challenges(
    talk: Transcript, bits: tuple[bytes, ...], cut: tuple[bytes, ...], values: tuple[int, ...]
) -> tuple[int, int, int]:
    gamma = talk.absorb(["uint256[4][]"], [[words_of(point) for point in bits]])
    z = talk.absorb(["uint256[4][2]"], [[words_of(point) for point in cut]])
    return gamma, z, talk.absorb(["uint256[]"], [list(values)])


def _combination(
    gamma: int, z: int, delta: int, values: tuple[int, ...], width: int, spare: int, filler: int
) -> tuple[list[int], int]:
    """Scalars of column, bits and quotient in the combined commitment, and its value at z."""
    k = len(values)
    top = pow(gamma, k, R)
    y = sum(pow(gamma, i, R) * value * (value - 1) for i, value in enumerate(values))
    y += top * sum(weight * value for weight, value in zip(weights_of(width), values, strict=True))
    spare = top * gamma * spare % R
    y -= spare * filler
    batch = [pow(delta, i + 1, R) for i in range(k)]
    y += sum(scalar * value for scalar, value in zip(batch, values, strict=True))
    vanishing = (pow(z, ROWS, R) - 1) % R
    return [(top - spare) % R, *batch, vanishing, vanishing * pow(z, SPLIT, R) % R], y % R


def _refused(why: str) -> ProofRefused:
    return ProofRefused(
        f"the range proof does not hold: {why}",
        hint="refuse the column; ask its owner for a proof that is made for this chain, contract and dataset",
    )
