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
_BLOCK = 2048  # rows reduced at a time: 16 rows of int64 digits of a block stay in the second-level cache
_HALVES = 2 * LIMBS


def _halves(value: int) -> list[int]:
    return [(value >> (16 * k)) & 0xFFFF for k in range(_HALVES)]


# Row i holds 2**(32 i) mod r in 16-bit digits: a product with 33-bit limbs, summed over 13 rows, stays
# below 2**52, so a float64 matrix product (BLAS) is exact.
_FOLD = np.array([_halves(pow(2, 32 * i, MODULUS)) for i in range(WIDE_LIMBS + 1)], np.float64).T.copy()
_MODULUS_HALVES = np.array(_halves(MODULUS), np.int64)[:, None]
_MODULUS_LIMBS = np.array([(MODULUS >> (32 * k)) & 0xFFFFFFFF for k in range(LIMBS)], np.int64)
_PER_MODULUS = np.array([2 ** (16 * k) / MODULUS for k in range(_HALVES)], np.float64)
_MARGIN = 2.0**-9  # larger than the quotient's rounding error (2**-12), so the remainder is never negative


def reduce_wide(wide: Wide) -> Limbs:
    """Reduce lazily accumulated limbs modulo r, once.

    Parameters
    ----------
    wide : int64 array, shape (m, k), k <= 12
        Signed limbs of weight 2**(32 i), each below 2**52 in absolute value (at most `MAX_TERMS` terms).

    Returns
    -------
    uint32 array, shape (m, 8)
        The canonical elements, each below r.

    Notes
    -----
    High limbs are folded with 2**(32 i) mod r, the quotient by r is estimated in floating point (Barrett's
    idea) a little too low, and what is left is below 2r: one conditional subtraction ends it.
    """
    rows, width = wide.shape
    out = np.empty((rows, LIMBS), np.uint32)
    for start in range(0, rows, _BLOCK):
        part = wide[start : start + _BLOCK].T
        digits = np.zeros((width + 1, part.shape[1]), np.float64)
        digits[:width] = part & 0xFFFFFFFF
        digits[1:] += part >> 32
        columns = _FOLD[:, : width + 1] @ digits
        quotient = np.floor(_PER_MODULUS @ columns - _MARGIN).astype(np.int64)
        rest = columns.astype(np.int64)
        rest -= _MODULUS_HALVES * quotient
        for k in range(_HALVES - 1):
            rest[k + 1] += rest[k] >> 16
            rest[k] &= 0xFFFF
        block = out[start : start + _BLOCK]
        block[:] = (rest[0::2] | (rest[1::2] << 16)).T
        _subtract_modulus_where_needed(block)
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
    return check_limbs(limbs)[:, ::-1].astype(">u4").tobytes()


def add(left: Limbs, right: Limbs) -> Limbs:
    """Element-wise ``left + right`` in F_r; shapes (m, 8)."""
    return reduce_wide(check_limbs(left).astype(np.int64) + check_limbs(right, elements=left.shape[0]))


def subtract(left: Limbs, right: Limbs) -> Limbs:
    """Element-wise ``left - right`` in F_r; shapes (m, 8)."""
    return reduce_wide(check_limbs(left).astype(np.int64) - check_limbs(right, elements=left.shape[0]))


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
