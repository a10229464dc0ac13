"""A column that is committed to and stays at home."""

import secrets
from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from twopm_kit import kzg
from twopm_kit.errors import DataError, ProofRefused
from twopm_kit.secrecy import KeptSecret
from twopm_kit.vsies.proofs.polynomials import BLINDERS, ROWS, Elements, blob_of
from twopm_kit.vsies.proofs.transcript import whole

__all__ = ["MAX_BITS", "MAX_VALUE", "CommittedColumn", "bits_of", "random_elements", "weights_of"]

#: Bits of the widest range, and the largest absolute value of its ends.
MAX_BITS: Final = 32
MAX_VALUE: Final = 2**63

# The commitment itself uses up one blinder, and each proof about squares another; one is left over.
_OPENINGS: Final = BLINDERS - 2


def random_elements(count: int, size: int = BLINDERS) -> Elements:
    """Return `size` places, the first `count` of them with random elements of F_r, the others zero."""
    drawn = [secrets.randbelow(kzg.MODULUS) for _ in range(count)]
    return np.array(drawn + [0] * (size - count), dtype=object)


def weights_of(width: int) -> list[int]:
    """Return weights that reach every number from 0 to `width`, and none beyond: 1, 2, 4, …, and the rest."""
    last = width.bit_length() - 1
    return [1 << i for i in range(last)] + [width - ((1 << last) - 1)]


def bits_of(numbers: npt.NDArray[Any], width: int) -> Elements:
    """Write numbers from 0 to `width` as bits with the weights of `weights_of`; shape (bits, n)."""
    last = width.bit_length() - 1
    top = numbers >= 1 << last
    rest = np.where(top, numbers - (width - ((1 << last) - 1)), numbers)
    return np.array([*((rest >> i) & 1 for i in range(last)), top.astype(rest.dtype)]).astype(object)


class CommittedColumn(KeptSecret):
    """Whole numbers with a commitment that hides them; make one with `commit`.

    What is committed to is value minus `low`, so that every claim is about numbers from 0 to `high` minus
    `low`. Rows that are missing at the end hold the value nearest to zero. Eight random elements beside them
    make the commitment tell nothing: it is a uniformly random point whatever the values are.

    Attributes
    ----------
    rows : int
        How many values there are, at most 2,048.
    low, high : int
        The range that they lie in.
    commitment : bytes
        The public point, 128 bytes (EIP-2537).
    """

    __slots__ = ("_blinders", "_opened", "_rows", "commitment", "high", "low", "rows")
    _holds = "the values of a column"
    _instead = "pass its commitment or a proof on, and keep the column in the process that made it"

    def __init__(self, offsets: npt.NDArray[Any], rows: int, low: int, high: int) -> None:
        self._rows: Elements = offsets.astype(object)
        self._blinders = random_elements(BLINDERS)
        self._opened = 0
        self.rows, self.low, self.high = rows, low, high
        self.commitment = kzg.uncompress(kzg.commit(self.blob(), keep=False))

    def __repr__(self) -> str:
        return f"<CommittedColumn: {self.rows:,} values from {self.low:,} to {self.high:,}, all hidden>"

    @classmethod
    def commit(cls, values: Sequence[int] | npt.ArrayLike, low: int, high: int) -> "CommittedColumn":
        """Commit to values.

        Parameters
        ----------
        values : sequence of int, shape (n,)
            1 to 2,048 whole numbers.
        low, high : int
            The range to be proven later, both included; at most 2**32 - 1 apart.

        Raises
        ------
        DataError
            If they are no whole numbers, too many, or the range cannot be.
        ProofRefused
            If a value is outside the range: a proof would be false. The message says which row.
        """
        low, high = whole(low), whole(high)
        _check_range(low, high)
        numbers = _whole_numbers(values)
        outside = np.flatnonzero((numbers < low) | (numbers > high))
        if len(outside):
            raise ProofRefused(
                f"the value in row {outside[0]} is not between {low:,} and {high:,}"
                + (f", nor are {len(outside) - 1:,} others" if len(outside) > 1 else ""),
                hint="correct the value, or prove a range that is true",
            )
        filler = min(max(low, 0), high)
        offsets = np.full(ROWS, filler - low, dtype=np.int64)
        offsets[: len(numbers)] = (numbers.astype(object) - low).astype(np.int64)
        return cls(offsets, len(numbers), low, high)

    @property
    def filler(self) -> int:
        """What stands in places that are no rows: the value nearest to zero, minus `low`."""
        return min(max(self.low, 0), self.high) - self.low

    @property
    def width(self) -> int:
        """Largest committed number: `high` minus `low`."""
        return self.high - self.low

    @property
    def offsets(self) -> Elements:
        """The committed numbers, in the order of a blob's first half. Secret."""
        return self._rows

    @property
    def blinders(self) -> Elements:
        """The random numbers beside them. Secret."""
        return self._blinders

    @property
    def elements(self) -> Elements:
        """All elements of the blob. Secret."""
        return np.concatenate([self._rows, self._blinders, np.zeros(ROWS - BLINDERS, dtype=object)])

    def blob(self) -> bytes:
        """Give the blob. Secret."""
        return blob_of(self.elements)

    def spend_opening(self) -> None:
        """Count a proof that shows the column's polynomial at one more point.

        Raises
        ------
        ProofRefused
            If the random numbers beside the values are used up: further points could be put together.
        """
        if self._opened >= _OPENINGS:
            raise ProofRefused(
                f"the column has been opened in {_OPENINGS} proofs about squares; more would tell about its "
                "values",
                hint="commit to the values again with CommittedColumn.commit, and prove with that",
            )
        self._opened += 1


def _check_range(low: object, high: object) -> None:
    if type(low) is not int or type(high) is not int or not -MAX_VALUE <= low < high < MAX_VALUE:
        raise DataError(
            f"the range is {low!r} to {high!r}; expected whole numbers, the first one smaller, within 2**63",
            hint="divide by the field's resolution first, and pass low= and high= as int",
        )
    if (high - low).bit_length() > MAX_BITS:
        raise DataError(
            f"the range {low:,} to {high:,} has {(high - low).bit_length()} bits, more than {MAX_BITS}",
            hint="prove with a coarser resolution, or a narrower range",
        )


def _whole_numbers(values: Any) -> npt.NDArray[np.int64]:
    try:
        numbers = np.asarray(values)
    except ValueError:
        numbers = np.asarray([None])
    if numbers.dtype == bool:
        numbers = numbers.astype(np.int64)
    if numbers.ndim != 1 or numbers.dtype.kind not in "iu" or not 1 <= len(numbers) <= ROWS:
        missing = numbers.dtype.kind == "f" and bool(np.isnan(numbers).any())
        raise DataError(
            f"values of dtype {numbers.dtype} and shape {numbers.shape}{', some missing,' * missing} were "
            f"passed; expected 1 to {ROWS:,} whole numbers",
            hint="leave rows without a value out"
            if missing
            else "pass whole numbers, 2,048 at a time; commit_field(field, column) rounds and cuts a column",
        )
    if numbers.dtype.kind == "u" and bool((numbers > np.uint64(MAX_VALUE - 1)).any()):
        raise DataError("a value is beyond 2**63", hint="prove with a coarser resolution")
    return numbers.astype(np.int64)
