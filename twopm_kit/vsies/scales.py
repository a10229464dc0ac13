"""Brings numbers to one scale and back, by IEEE operations alone: the same bits on every machine.

Addition, subtraction, multiplication, division and the taking apart of a float are exactly defined by
IEEE 754; numpy does them one array at a time, so that nothing is fused or reordered. A logarithm is not:
``np.log1p`` is the C library's or a vectorised one, and two machines may differ in the last bit. That bit
would vanish in the rounding of what is encrypted or masked later, but rows are also hashed and compared, so
`log1p` here is written out in those operations. It is within two units in the last place of the true value.
"""

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

__all__ = ["Floats", "log1p", "scaled", "unscaled"]

Floats = NDArray[np.float64]

#: ln 2 in two parts: the first has 21 zero bits at its end, so that its product with an exponent is exact.
_LN2_HIGH: Final = float.fromhex("0x1.62e42fee00000p-1")
_LN2_LOW: Final = float.fromhex("0x1.a39ef35793c76p-33")
_HALF_ROOT: Final = float.fromhex("0x1.6a09e667f3bcdp-1")
#: 2/(2k+1) for the series of 2 artanh(s); s² is below 0.03, so that the twelfth term is below 2^-60.
_SERIES: Final = tuple(2.0 / (2 * k + 1) for k in range(12, 0, -1))


def log1p(values: NDArray[Any]) -> Floats:
    """Return log(1 + x) for x >= 0, the same bits on every machine; NaN stays NaN.

    1 + x is taken apart into 2^e (1 + f) with 1 + f between the roots of 1/2 and 2, as in W. J. Cody and
    W. Waite, Software Manual for the Elementary Functions (1980): log(1 + f) = 2 artanh(f / (2 + f)), by its
    series. What 1 + x lost to rounding is added at the end.
    """
    x = np.asarray(values, dtype=np.float64)
    whole = 1.0 + x
    with np.errstate(invalid="ignore"):
        lost = np.where(x < 1.0, x - (whole - 1.0), 1.0 - (whole - x)) / whole
    mantissa, exponent = np.frexp(whole)
    small = mantissa < _HALF_ROOT
    f = np.where(small, 2.0 * mantissa, mantissa) - 1.0
    e = exponent.astype(np.float64) - small
    s = f / (2.0 + f)
    square = s * s
    series = np.zeros_like(s)
    for factor in _SERIES:
        series = (series + factor) * square
    # 2s = f - s f, and f is exact
    log = f - s * (f - series)
    return np.asarray(e * _LN2_HIGH + (log + (e * _LN2_LOW + lost)))


def scaled(values: Floats, centre: float, scale: float) -> Floats:
    """Return (x - centre) / scale: two operations, in this order."""
    return (values - np.float64(centre)) / np.float64(scale)


def unscaled(values: Floats, centre: float, scale: float) -> Floats:
    """Return x * scale + centre, which undoes `scaled` up to rounding."""
    return values * np.float64(scale) + np.float64(centre)
