"""Vectors over F_r, the scalar field of BLS12-381, as numpy limbs.

A vector of m elements is a ``uint32`` array of shape ``(m, 8)``, limbs little-endian, every element below r.
Sums are gathered lazily in wide signed ``int64`` limbs and reduced modulo r once (`reduce_wide`).
The host is taken to be little-endian. Nothing here claims constant time: values are masked or public.
"""

from collections.abc import Iterable, Sequence

import numpy as np
import numpy.typing as npt

from twopm_kit.errors import EncodingError

__all__ = [
    "LIMBS",
    "MODULUS",
    "Limbs",
    "Reducer",
    "add",
    "check_limbs",
    "from_words",
    "reduce_wide",
    "subtract",
    "to_big_endian",
    "to_words",
    "total",
]

Limbs = npt.NDArray[np.uint32]
Wide = npt.NDArray[np.int64]

MODULUS = 0x73EDA753299D7D483339D80809A1D80553BDA402FFFE5BFEFFFFFFFF00000001
LIMBS = 8
WORD_BYTES = 32
WIDE_LIMBS = 12  # 48 bytes: wide enough that a uniform draw, reduced, is within 2**-129 of uniform
MAX_TERMS = 1 << 20  # vectors that one lazy accumulator may gather, so that its limbs stay below 2**52
_BLOCK = 4096  # rows reduced at a time, to stay in the second-level cache
_STRIP = 896  # rows of one matrix product: so small that BLAS does not hand it to threads of its own
_HALVES = 2 * LIMBS
_HIGH = 2 * (WIDE_LIMBS - LIMBS)  # digits above the eighth limb: low and high words of the other limbs


def _halves(value: int) -> list[int]:
    return [(value >> (16 * k)) & 0xFFFF for k in range(_HALVES)]


# A product of 32-bit digits and 16-bit halves, summed over eight digits, stays below 2**51, so a float64
# matrix product (BLAS) is exact. Its last two columns take the quotient's multiple of r off and add
# 1.5 · 2**52: then the mantissa of an entry is the entry itself as an integer, in two's complement.
_INTEGER = 1.5 * 2.0**52
_POWERS = [pow(2, 32 * (i + high), MODULUS) for high in (0, 1) for i in range(LIMBS, WIDE_LIMBS)]
_FOLD = np.array(
    [*map(_halves, _POWERS), [-half for half in _halves(MODULUS)], [_INTEGER] * _HALVES], np.float64
).T.copy()
_INTEGER_BITS = np.float64(_INTEGER).view(np.int64)
_MODULUS_LIMBS = np.array([(MODULUS >> (32 * k)) & 0xFFFFFFFF for k in range(LIMBS)], np.int64)
_PER_MODULUS = np.array(
    [power / MODULUS for power in (2 ** (32 * (LIMBS - 2)), 2 ** (32 * (LIMBS - 1)), *_POWERS)], np.float64
)
_MARGIN = 2.0**-13  # larger than the quotient's rounding error (2**-14), so the remainder is never negative


class Reducer:
    """Reduces blocks of lazily accumulated limbs modulo r; holds scratch space, so one thread uses it.

    Notes
    -----
    Limbs above the eighth are folded with 2**(32 i) mod r, the quotient by r is estimated in floating point
    (Barrett's idea) a little too low, and what is left is below 2r: one conditional subtraction ends it.
    """

    def __init__(self, rows: int = _BLOCK) -> None:
        self.rows = rows
        self._digits = np.ones((rows, _HIGH + 4), np.float64)
        self._columns = np.empty(_HALVES * rows, np.float64)
        self._scratch = np.empty(LIMBS * rows, np.int64)

    def __call__(self, wide: Wide, out: Limbs) -> None:
        """Reduce `wide`, shape (n, 8) or (n, 12) with n <= rows, into `out`, shape (n, 8)."""
        rows, width = wide.shape
        digits = self._digits[:rows]
        digits[:, :2] = wide[:, LIMBS - 2 : LIMBS]
        high, quotient = digits[:, 2 : 2 + _HIGH], digits[:, 2 + _HIGH]
        if width > LIMBS:
            above = wide[:, LIMBS:]
            high[:, : _HIGH // 2] = above.view(np.uint32)[:, 0::2]
            high[:, _HIGH // 2 :] = above.view(np.int32)[:, 1::2]
        else:
            high[:] = 0
        strips = [slice(at, at + _STRIP) for at in range(0, rows, _STRIP)]
        for strip in strips:
            np.matmul(digits[strip, : 2 + _HIGH], _PER_MODULUS, out=quotient[strip])
        quotient -= _MARGIN
        np.floor(quotient, out=quotient)
        columns = self._columns[: _HALVES * rows].reshape(_HALVES, rows)
        for strip in strips:
            np.matmul(_FOLD, digits[strip, 2:].T, out=columns[:, strip])
        halves = columns.view(np.int64)
        halves -= _INTEGER_BITS
        limbs, odd = halves[0::2], halves[1::2]
        carry = self._scratch[: LIMBS * rows].reshape(LIMBS, rows)
        np.right_shift(odd, 16, out=carry)
        odd &= 0xFFFF
        odd <<= 16
        limbs += odd
        limbs += wide[:, :LIMBS].T
        limbs[1:] += carry[:-1]
        for k in range(LIMBS - 1):
            np.right_shift(limbs[k], 32, out=carry[k])
            limbs[k + 1] += carry[k]
        np.copyto(out.T, limbs, casting="unsafe")  # keeps the low 32 bits
        _subtract_modulus_where_needed(out)


def reduce_wide(wide: Wide) -> Limbs:
    """Reduce lazily accumulated limbs modulo r, once.

    Parameters
    ----------
    wide : int64 array, shape (m, 8) or (m, 12)
        Signed limbs of weight 2**(32 i), each below 2**52 in absolute value (at most `MAX_TERMS` terms).

    Returns
    -------
    uint32 array, shape (m, 8)
        The canonical elements, each below r.
    """
    out = np.empty((wide.shape[0], LIMBS), np.uint32)
    reducer = Reducer(min(_BLOCK, len(out)))
    for start in range(0, len(out), _BLOCK):
        reducer(wide[start : start + _BLOCK], out[start : start + _BLOCK])
    return out


def _subtract_modulus_where_needed(block: Limbs) -> None:
    suspects = np.flatnonzero(block[:, -1] >= _MODULUS_LIMBS[-1])
    if not suspects.size:
        return
    less, borrow = _minus_modulus(block[suspects])
    block[suspects[~borrow]] = less[~borrow]


def _minus_modulus(rows: Limbs) -> tuple[Limbs, npt.NDArray[np.bool_]]:
    rest = rows.astype(np.int64) - _MODULUS_LIMBS
    for k in range(LIMBS - 1):
        rest[:, k + 1] += rest[:, k] >> 32
    return (rest & 0xFFFFFFFF).astype(np.uint32), rest[:, -1] < 0


def check_limbs(limbs: object, *, elements: int | None = None) -> Limbs:
    """Return `limbs` if it is a vector of field elements (of the expected length), else raise.

    Raises
    ------
    EncodingError
        If dtype, shape or length is another one, or an element is not below r.
    """
    length = "m" if elements is None else str(elements)
    if not isinstance(limbs, np.ndarray) or limbs.dtype != np.uint32 or limbs.ndim != 2:
        kind = f"{limbs.dtype} {limbs.shape}" if isinstance(limbs, np.ndarray) else type(limbs).__name__
        raise EncodingError(
            f"expected field elements as a uint32 array of shape ({length}, {LIMBS}), got {kind}",
            hint="Pass what Encoder.encode or secagg.from_words returned.",
        )
    if limbs.shape[1] != LIMBS or (elements is not None and limbs.shape[0] != elements):
        raise EncodingError(
            f"expected a vector of shape ({length}, {LIMBS}), got {limbs.shape}",
            hint="Use the same model, metrics and lanes on every node of the round.",
        )
    suspects = np.flatnonzero(limbs[:, -1] >= _MODULUS_LIMBS[-1])
    if suspects.size:
        _, below = _minus_modulus(limbs[suspects])
        if not below.all():
            raise EncodingError(
                f"element {int(suspects[~below][0])} is not below the modulus r of the field",
                hint="Refuse the vector: its sender did not encode it in the field.",
            )
    return limbs


def from_words(words: Sequence[int]) -> Limbs:
    """Turn chain words (integers below r) into limbs of shape (m, 8).

    Raises
    ------
    EncodingError
        If a word is negative or not below r; the message gives its index.
    """
    for index, word in enumerate(words):
        if not 0 <= word < MODULUS:
            raise EncodingError(
                f"word {index} is not a field element: expected 0 <= word < r, got {word.bit_length()} bits",
                hint="Refuse the vector: its sender did not encode it in the field.",
            )
    raw = b"".join(int(word).to_bytes(WORD_BYTES, "little") for word in words)
    return np.frombuffer(raw, np.uint32).reshape(-1, LIMBS).copy()


def to_words(limbs: Limbs) -> list[int]:
    """Turn limbs of shape (m, 8) into m Python integers, as a contract takes them (uint256)."""
    raw = check_limbs(limbs).tobytes()
    return [int.from_bytes(raw[i : i + WORD_BYTES], "little") for i in range(0, len(raw), WORD_BYTES)]


def to_big_endian(limbs: Limbs) -> bytes:
    """Return m words of 32 big-endian bytes, as the EVM lays ``uint256[]`` out in memory."""
    pairs = np.ascontiguousarray(check_limbs(limbs)).view(np.uint64)
    return pairs[:, ::-1].byteswap().tobytes()


def add(left: Limbs, right: Limbs) -> Limbs:
    """Element-wise ``left + right`` in F_r; shapes (m, 8)."""
    return _blockwise(np.add, left, right)


def subtract(left: Limbs, right: Limbs) -> Limbs:
    """Element-wise ``left - right`` in F_r; shapes (m, 8)."""
    return _blockwise(np.subtract, left, right)


def _blockwise(operation: np.ufunc, left: Limbs, right: Limbs) -> Limbs:
    out = np.empty_like(check_limbs(left), order="C")
    check_limbs(right, elements=len(left))
    rows = min(_BLOCK, len(left))
    reducer, wide = Reducer(rows), np.empty((rows, LIMBS), np.int64)
    for start in range(0, len(left), _BLOCK):
        block = slice(start, start + _BLOCK)
        part = wide[: len(left[block])]
        operation(left[block], right[block], out=part, dtype=np.int64)
        reducer(part, out[block])
    return out


def total(vectors: Iterable[Limbs]) -> Limbs:
    """Element-wise sum in F_r of one or more vectors of one shape (m, 8), reduced once."""
    gathered: Wide | None = None
    for vector in vectors:
        if gathered is None:
            gathered = check_limbs(vector).astype(np.int64)
        else:
            gathered += check_limbs(vector, elements=gathered.shape[0])
    if gathered is None:
        raise EncodingError("no vector was given to add up", hint="Pass at least one vector of limbs.")
    return reduce_wide(gathered)
