"""Proves that the sum of a committed column, or of its squares, lies between two bounds, and shows neither.

With n = 2048, e = c for the sum and e = (c + low)^2 for squares, W the public weights of the first points
of H and t a column of bits of how far the total is above its least:

    mask + rho (e - W t - least / n) - X g + gamma (t^2 - t) = Z (q_0 + X^3072 q_1),   degree of g below n - 1

**Soundness.** As for ranges, the equation holds as one of polynomials but for a chance below 2^-240. On H
it says that t is made of bits and that mask + rho (e - W t - least / n) equals X g there. The powers of X
from 1 to n - 1 sum to zero over H, so the left side does; rho was drawn after mask, c and t were fixed, so
that the sum of e - W t - least / n is zero: the total is least plus weighted bits, which reach from 0 to
the width of the bounds and no further. The degree of g is shown by a commitment to X^2049 g: none of degree
4096 or more exists (Aurora's sumcheck, Ben-Sasson and others 2019). Numbers do not run over: a range was
proven of the same commitment, so that the total is below 2^140.

**Zero knowledge.** t is opened at z and hidden by two random elements beside its bits; for squares c is
opened at z, too, which is what the column's eight blinders are for. The mask is a random number on one
point of H and its negative on another: it sums to zero, and makes the commitment to g uniform. Everything
else follows from these by the equation, as for ranges.
"""

from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from twopm_kit import kzg
from twopm_kit.errors import DataError, ProofRefused, TwoPMError
from twopm_kit.vsies.proofs.columns import CommittedColumn, bits_of, random_elements, weights_of
from twopm_kit.vsies.proofs.polynomials import (
    BLINDERS,
    ROWS,
    SPLIT,
    Elements,
    basis_at,
    blob_of,
    evaluations,
    inverses,
    low_degree_on_cosets,
    on_cosets,
    quotient,
    row_coefficients,
    row_order,
    split_blobs,
)
from twopm_kit.vsies.proofs.ranges import RangeProof
from twopm_kit.vsies.proofs.transcript import ProofContext, Transcript, bound, whole, words_of
from twopm_kit.vsies.proofs.wire import Reader, Writer

__all__ = ["TotalProof", "prove_total"]

R: Final = kzg.MODULUS
_LABEL: Final = "twopm/vsies/v1/column/total"
_MAGIC: Final = b"2PM.tot1"
_MOST: Final = 2**127
_ROOT: Final = pow(kzg.omega(ROWS), 2, R)
_PER_ROW: Final = pow(ROWS, -1, R)


@dataclass(frozen=True, repr=False)
class TotalProof:
    """A proof that a column's total lies between two bounds; anybody may see it.

    It is about the rows of a column whose range was proven with the same commitment.

    Attributes
    ----------
    context : ProofContext
        What it is bound to.
    rows, low, high : int
        As in the range proof.
    squares : bool
        Whether the total is the sum of squares; its root is the L2 norm.
    least, most : int
        Both included.
    commitment : bytes
        The column's point, 128 bytes.
    points : tuple of bytes
        Of the bits, the mask, g, X^2049 g, and the quotient's two parts.
    bit, opened : int
        The bits' polynomial at the challenge, and for squares that of the column.
    opening : bytes
        48 bytes.
    """

    context: ProofContext
    rows: int
    low: int
    high: int
    squares: bool
    least: int
    most: int
    commitment: bytes
    points: tuple[bytes, ...]
    bit: int
    opened: int
    opening: bytes

    def __repr__(self) -> str:
        what = "sum of squares" if self.squares else "sum"
        return (
            f"<TotalProof: {what} from {self.least:,} to {self.most:,}, {self.nbytes:,} bytes, "
            f"column {self.context.column!r}, part {self.context.part}>"
        )

    @property
    def nbytes(self) -> int:
        """Bytes of the proof as it is stored and sent."""
        return len(self.to_bytes())

    def arguments(self) -> tuple[Any, ...]:
        """Give what the contract's ``prove_total`` takes."""
        return (
            self.context.dataset,
            self.context.column_id,
            self.context.part,
            self.squares,
            self.least,
            self.most,
            words_of(self.commitment),
            [words_of(point) for point in self.points],
            self.bit,
            self.opened,
            self.opening,
        )

    def verify(self, ranged: RangeProof) -> None:
        """Check the proof off chain, as the contract does, together with the range proof that it builds on.

        Without it the numbers behind the commitment may be anything: also what the rows' range forbids, what
        runs over, and what stands where no rows are.

        Parameters
        ----------
        ranged : RangeProof
            Of the same column, in the same context.

        Raises
        ------
        ProofRefused
            If one of the two does not hold, or they are not about the same column.
        """
        same = ("context", "rows", "low", "high", "commitment")
        if not isinstance(ranged, RangeProof) or any(
            getattr(ranged, name) != getattr(self, name) for name in same
        ):
            raise _refused("the range proof that was passed is about another column")
        ranged.verify()
        if not 0 < self.rows <= ROWS or not -_MOST < self.least < self.most < _MOST:
            raise _refused("its bounds are empty")
        if len(self.points) != 6 or not 0 <= self.bit < R or not 0 <= self.opened < R:
            raise _refused("it lacks a point or a value")
        if self.opened and not self.squares:
            raise _refused("only squares open the column")
        claim = (self.rows, self.low, self.high, self.squares, self.least, self.most)
        talk = _transcript(self.context, claim, self.commitment)
        rho, gamma, z, delta = _challenges(talk, self.points, self.bit, self.opened)
        scalars = _scalars(rho, z, delta, squares=self.squares)
        y = self._value(rho, gamma, z, delta)
        try:
            combined = kzg.linear_combination([*self.points, self.commitment], scalars)
            holds = kzg.verify_at(kzg.compress(combined), z, y.to_bytes(32, "big"), self.opening)
        except TwoPMError:
            raise _refused("one of its points is no point of the group") from None
        if not holds:
            raise _refused("the equation does not hold at the challenge")

    def _value(self, rho: int, gamma: int, z: int, delta: int) -> int:
        least = _shifted(self.least, self.rows, self.low, self.high, squares=self.squares)
        y = rho * (_weights_at(z, self.most - self.least) * self.bit + least * _PER_ROW)
        y += delta * self.bit - gamma * self.bit * (self.bit - 1)
        if self.squares:
            y += pow(delta, 3, R) * self.opened - rho * (self.opened + self.low) ** 2
        return y % R

    def to_bytes(self) -> bytes:
        """Write the proof; its context is not in it, and the reader says where it must hold."""
        out = Writer(_MAGIC)
        out.number(self.rows, 2)
        for value in (self.low, self.high):
            out.number(value, 8, signed=True)
        out.number(int(self.squares), 1)
        for value in (self.least, self.most):
            out.number(value, 16, signed=True)
        out.points([self.commitment, *self.points])
        out.elements([self.bit, self.opened])
        return out.finish(self.opening)

    @classmethod
    def from_bytes(cls, content: bytes, context: ProofContext) -> "TotalProof":
        """Read a proof that somebody else wrote; whether it holds tells `verify`.

        Raises
        ------
        ProofRefused
            If these bytes are anything but what `to_bytes` writes.
        """
        read = Reader(content, _MAGIC)
        rows, low, high = read.number(2), read.number(8, signed=True), read.number(8, signed=True)
        squares = read.number(1)
        if squares > 1:
            raise _refused("it says neither sum nor squares")
        least, most = read.number(16, signed=True), read.number(16, signed=True)
        commitment, *points = read.points(7)
        bit, opened = read.elements(2)
        last = read.finish(48)
        return cls(
            bound(context),
            rows,
            low,
            high,
            bool(squares),
            least,
            most,
            commitment,
            tuple(points),
            bit,
            opened,
            last,
        )


def prove_total(
    column: CommittedColumn,
    least: int,
    most: int,
    *,
    squares: bool = False,
    context: ProofContext | None = None,
) -> TotalProof:
    """Prove that the sum of a column's rows lies between two bounds, without showing the sum or a row.

    Parameters
    ----------
    column : CommittedColumn
        The one whose range was proven.
    least, most : int
        Bounds of the sum, both included. For an L2 norm of at most m: ``squares=True``, 0 and m * m.
    squares : bool
        Whether squares are added up.
    context : ProofContext, optional
        As for ``prove_range``, and the same.

    Returns
    -------
    TotalProof

    Raises
    ------
    ProofRefused
        If the total is outside, or the column has been opened too often.
    DataError
        If these are no bounds.
    """
    if not isinstance(column, CommittedColumn):
        raise DataError(
            f"a {type(column).__name__} was passed; expected a committed column",
            hint="commit with CommittedColumn.commit(values, low, high), and prove its range first",
        )
    least, most = whole(least), whole(most)
    if not isinstance(squares, bool):
        raise DataError(f"squares is {str(squares)[:40]!r}", hint="pass True or False")
    if type(least) is not int or type(most) is not int or not -_MOST < least < most < _MOST:
        raise DataError(
            f"the bounds are {str(least)[:80]} and {str(most)[:80]}; expected whole numbers, the first one "
            "smaller",
            hint="pass bounds in steps of the column's resolution, squared for squares",
        )
    offsets = column.offsets
    summed = int(((offsets + column.low) ** 2).sum() if squares else offsets.sum())
    above = summed - _shifted(least, column.rows, column.low, column.high, squares=squares)
    if not 0 <= above <= most - least:
        what = "sum of squares" if squares else "sum"
        raise ProofRefused(
            f"the column's {what} is not between {least:,} and {most:,}",
            hint="correct the column, or prove bounds that are true",
        )
    bits = bits_of(np.array([above], dtype=object), most - least)[:, 0]
    return prove_with_bits(column, bits, least, most, squares=squares, context=bound(context))


def prove_with_bits(
    column: CommittedColumn, bits: Elements, least: int, most: int, *, squares: bool, context: ProofContext
) -> TotalProof:
    """Prove with bits that are given; whether they are those of the total tells only the verifier."""
    if squares:
        column.spend_opening()
    rows = _first_rows(bits)
    weights = _first_rows(weights_of(most - least))
    mask = np.zeros(ROWS, dtype=object)
    mask[0] = int(random_elements(1)[0])
    mask[1] = -mask[0] % R
    beside = np.array([random_elements(2), random_elements(1), column.blinders], dtype=object)
    on_h = np.array([rows, mask, column.offsets], dtype=object)
    pad = np.zeros((3, ROWS - BLINDERS), dtype=object)
    of_bits, of_mask, of_column = np.concatenate([on_h, beside, pad], axis=1)

    claim = (column.rows, column.low, column.high, squares, least, most)
    talk = _transcript(context, claim, column.commitment)
    points = [_commit(of_bits), _commit(of_mask)]
    rho = talk.absorb(["uint256[4]"] * 2, [words_of(point) for point in points])
    gamma = talk.another()
    each = _shifted(least, column.rows, column.low, column.high, squares=squares) * _PER_ROW % R

    def of_row(c: Elements, t: Elements, w: Elements) -> Elements:
        e = (c + column.low) ** 2 if squares else c
        found: Elements = (e - w * t - each) % R
        return found

    summed = row_coefficients((mask + rho * of_row(column.offsets, rows, weights)) % R)
    g = summed[1:]  # the first coefficient is the mean over H: zero when the claim is true
    parts = []
    shapes = low_degree_on_cosets(row_coefficients(weights)), low_degree_on_cosets(summed)
    for (t, m, c), w, xg in zip(on_cosets(on_h, beside), *shapes, strict=True):
        parts.append((m + rho * of_row(c, t, w) - (xg - summed[0]) + gamma * t * (t - 1)) % R)
    raised = np.concatenate([np.zeros(ROWS + 1, dtype=object), g])
    halves = split_blobs(quotient(parts, int(random_elements(1)[0])))
    blobs = [of_bits, of_mask, evaluations(g), evaluations(raised), *halves]
    points += [_commit(blob) for blob in blobs[2:]]
    z = talk.absorb(["uint256[4]"] * 4, [words_of(point) for point in points[2:]])

    basis = basis_at(z)
    bit = int(of_bits @ basis % R)
    opened = int(of_column @ basis % R) if squares else 0
    delta = talk.absorb(["uint256", "uint256"], [bit, opened])
    scalars = _scalars(rho, z, delta, squares=squares)
    mixed = np.array(scalars, dtype=object) @ np.array([*blobs, of_column], dtype=object)
    opening, _ = kzg.prove_at(blob_of(mixed), z)
    return TotalProof(
        context,
        column.rows,
        column.low,
        column.high,
        squares,
        least,
        most,
        column.commitment,
        tuple(points),
        bit,
        opened,
        opening,
    )


def _commit(blob: Elements) -> bytes:
    return kzg.uncompress(kzg.commit(blob_of(blob), keep=False))


def _first_rows(values: Any) -> Elements:
    """Put values on the first powers of H's generator, zeros elsewhere, in a blob's order."""
    out = np.zeros(ROWS, dtype=object)
    for place, value in zip(row_order(), values, strict=False):
        out[place] = int(value)
    return out


def _shifted(least: int, rows: int, low: int, high: int, *, squares: bool) -> int:
    """Return the least total over all 2,048 elements, of value minus low for a sum."""
    spare, filler = ROWS - rows, min(max(low, 0), high)
    return least + spare * filler * filler if squares else least + spare * filler - ROWS * low


def _weights_at(z: int, width: int) -> int:
    weights = weights_of(width)
    points = [pow(_ROOT, i, R) for i in range(len(weights))]
    parts = inverses((z - point) % R for point in points)
    total = sum(w * point * part for w, point, part in zip(weights, points, parts, strict=True))
    return int(total * (pow(z, ROWS, R) - 1) * _PER_ROW % R)


def _transcript(context: ProofContext, claim: tuple[int, ...], commitment: bytes) -> Transcript:
    return Transcript(
        _LABEL,
        context,
        ["uint256", "int256", "int256", "bool", "int256", "int256", "uint256[4]"],
        [*claim, words_of(commitment)],
    )


def _challenges(
    talk: Transcript, points: tuple[bytes, ...], bit: int, opened: int
) -> tuple[int, int, int, int]:
    words = [words_of(point) for point in points]
    rho = talk.absorb(["uint256[4]"] * 2, words[:2])
    gamma = talk.another()
    z = talk.absorb(["uint256[4]"] * 4, words[2:])
    return rho, gamma, z, talk.absorb(["uint256", "uint256"], [bit, opened])


def _scalars(rho: int, z: int, delta: int, *, squares: bool) -> list[int]:
    """Scalars of the six points and the column in the combined commitment."""
    vanishing = (pow(z, ROWS, R) - 1) % R
    second = delta * delta % R
    of_g = -(z + second * pow(z, ROWS + 1, R))
    of_column = pow(delta, 3, R) if squares else rho
    return [
        value % R for value in (delta, 1, of_g, second, -vanishing, -vanishing * pow(z, SPLIT, R), of_column)
    ]


def _refused(why: str) -> ProofRefused:
    return ProofRefused(
        f"the proof about a total does not hold: {why}",
        hint="refuse the column; ask its owner for a proof that is made for this chain, contract and dataset",
    )
