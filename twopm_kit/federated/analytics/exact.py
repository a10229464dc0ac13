"""Numbers in lanes: sums as whole numbers of many digits, and floats as keys that sort like them."""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from twopm_kit.errors import EncodingError

__all__ = ["LANES", "LANE_BOUND", "joined", "key_value", "keys", "split"]

LANES = 4
"""Lanes that one sum takes: a whole field element."""
LANE_BOUND = 2.0**46
"""Largest absolute value of one lane. Digits stay below 2**42: floats add up those of 128 nodes exactly."""
_DIGIT = 42
_FRACTION = 76
_MOST = 2.0**95


def split(value: float) -> list[float]:
    """Return a number as four signed digits of base 2**42: a multiple of 2**-76, up to 2**95.

    Digits of several nodes can be added up lane by lane, so the total is exact whatever the scale of a
    column, and no bounds have to be agreed on first.

    Raises
    ------
    EncodingError
        If the number is not finite or too large. The message does not say how large: it is a secret.
    """
    if not abs(value) < _MOST:
        raise EncodingError(
            "a sum over this node's rows is infinite or beyond 2^95",
            hint="leave out rows that divide by zero, or scale the column down",
        )
    whole = round(math.ldexp(value, _FRACTION))
    digits = []
    for _ in range(LANES - 1):
        digit = ((whole + (1 << (_DIGIT - 1))) % (1 << _DIGIT)) - (1 << (_DIGIT - 1))
        digits.append(float(digit))
        whole = (whole - digit) >> _DIGIT
    return [*digits, float(whole)]


def joined(lanes: Sequence[float]) -> float:
    """Return the number whose (added up) digits these are, correctly rounded."""
    whole = sum(round(lane) << (_DIGIT * place) for place, lane in enumerate(lanes))
    return whole / (1 << _FRACTION)


def keys(values: NDArray[np.float64]) -> NDArray[np.uint64]:
    """Return 64-bit keys that sort as the numbers do (IEEE 754, section 5.10, without NaN)."""
    bits = (values + 0.0).view(np.uint64)  # -0.0 becomes 0.0
    top = np.uint64(1 << 63)
    return np.where(bits & top, ~bits, bits | top)


def key_value(prefix: int, bits: int) -> float:
    """Return the shortest decimal number among those whose key begins with ``bits`` bits of ``prefix``.

    Columns hold short decimals as a rule, so this is most often the very value.
    """
    rest = 64 - bits
    first, last = prefix << rest, (prefix << rest) | ((1 << rest) - 1)
    near, far = (first, last) if prefix >> (bits - 1) else (last, first)
    low, high = _number(near), _number(far)
    if low == 0 or not math.isfinite(high):
        return low
    for digits in range(1, 17):
        found = float(f"{low + (high - low) / 2:.{digits}g}")
        if min(low, high) <= found <= max(low, high):
            return found
    return low


def _number(key: int) -> float:
    pattern = key ^ (1 << 63) if key >> 63 else ~key & ((1 << 64) - 1)
    return float(np.uint64(pattern).view(np.float64))
