"""Polynomials over F_r in the form that blobs have: values on 2,048 rows, and as many values beside them.

The 4,096 points of a blob fall into two halves: H, the 2,048th roots of unity, and its coset ωH. A blob's
first 2,048 elements are the values on H, its last 2,048 those on ωH, each half in bit-reversed order
(EIP-4844). The polynomial Z(X) = X^2048 - 1 vanishes on H and nowhere else on the blob, so that *whatever
stands in the second half adds a multiple of Z*: room for random numbers that hide the first half.

Arrays hold Python's whole numbers (dtype object): exact, and a loop over them runs in C.
"""

from collections.abc import Iterable
from functools import cache
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from twopm_kit import kzg

__all__ = [
    "BLINDERS",
    "ROWS",
    "SPLIT",
    "Elements",
    "basis_at",
    "blob_of",
    "evaluations",
    "inverses",
    "low_degree_on_cosets",
    "on_cosets",
    "quotient",
    "row_coefficients",
    "row_order",
    "spare_at",
    "spare_on_cosets",
    "split_blobs",
]

Elements = npt.NDArray[np.object_]

R: Final = kzg.MODULUS
#: Rows of a committed column: the points of H.
ROWS: Final = kzg.BLOB_ELEMENTS // 2
#: Places of the second half that may hold random numbers: the first ones.
BLINDERS: Final = 8
# Where q(X) is cut in two: q = q_0 + X^SPLIT q_1. Both parts stay below degree 4096, with room for a blinder.
SPLIT: Final = 3 * ROWS // 2

_OMEGA: Final = kzg.omega(ROWS)  # order 4096
_G: Final = pow(7, (R - 1) // (4 * ROWS), R)  # order 8192; its square is omega
_HALF: Final = pow(2, -1, R)
_PER_ROW: Final = pow(ROWS, -1, R)
# The cosets sH that a quotient is computed on, and the constant X^2048 on each of them.
_SHIFTS: Final = (_OMEGA, _G, _G * _OMEGA % R)
_Y: Final = tuple(pow(shift, ROWS, R) for shift in _SHIFTS)


def _constant_on(coset: int) -> int:
    """Give the value of Z(X) on a coset: 0 is ωH, 1 and 2 are those that are no part of a blob."""
    return (_Y[coset] - 1) % R


# Transforms -----------------------------------------------------------------------------------------------


@cache
def _powers(base: int, count: int) -> Elements:
    out, value = [], 1
    for _ in range(count):
        out.append(value)
        value = value * base % R
    return np.array(out, dtype=object)


def _to_coefficients(values: Elements) -> Elements:
    """Bit-reversed values on the roots of unity to coefficients; along the last axis (Cooley and Tukey)."""
    size = values.shape[-1]
    root = pow(_G, 4 * ROWS // size, R)
    out = values.copy()
    half = 1
    while half < size:
        step = _powers(pow(root, -(size // (2 * half)), R), half)
        pairs = out.reshape(*out.shape[:-1], -1, 2, half)
        low, high = pairs[..., 0, :].copy(), pairs[..., 1, :] * step % R
        pairs[..., 0, :], pairs[..., 1, :] = low + high, low - high
        half *= 2
    scaled: Elements = out * pow(size, -1, R) % R
    return scaled


def _to_values(coefficients: Elements) -> Elements:
    """Coefficients to bit-reversed values on the roots of unity; along the last axis (Gentleman, Sande)."""
    size = coefficients.shape[-1]
    root = pow(_G, 4 * ROWS // size, R)
    out = coefficients.copy()
    half = size // 2
    while half:
        step = _powers(pow(root, size // (2 * half), R), half)
        pairs = out.reshape(*out.shape[:-1], -1, 2, half)
        low, high = pairs[..., 0, :].copy(), pairs[..., 1, :].copy()
        pairs[..., 0, :], pairs[..., 1, :] = low + high, (low - high) * step % R
        half //= 2
    reduced: Elements = out % R
    return reduced


def row_coefficients(values: Elements) -> Elements:
    """Coefficients of the polynomial below degree 2048 that has these values on H, in a blob's order."""
    return _to_coefficients(values)


def evaluations(coefficients: Elements) -> Elements:
    """Blob elements of a polynomial below degree 4096, padded with zeros at the top."""
    padded = np.zeros(2 * ROWS, dtype=object)
    padded[: len(coefficients)] = coefficients
    return _to_values(padded)


def on_cosets(rows: Elements, blinders: Elements) -> list[Elements]:
    """Values of polynomials on ωH and on the two cosets beyond the blob.

    Parameters
    ----------
    rows : array of object, shape (n, 2048)
        Values on H, in a blob's order.
    blinders : array of object, shape (n, m)
        The first elements of the second half, m at most 8; its others are 0.

    Returns
    -------
    list of array, shape (n, 2048)
        On the three cosets.
    """
    beside = np.zeros_like(rows)
    used = blinders.shape[1]
    beside[:, :used] = blinders
    coefficients = _to_coefficients(rows)
    found = [beside]
    for coset in (1, 2):
        shifted = coefficients * _powers(_SHIFTS[coset], ROWS) % R
        # (X^2048 + 1) / 2 is 1 on H and 0 on ωH
        first = _to_values(shifted) * ((_Y[coset] + 1) * _HALF % R)
        found.append((first + blinders @ _blinder_basis(coset)[:used]) % R)
    return found


@cache
def _blinder_basis(coset: int) -> Elements:
    """Values on a coset of the polynomials that are 1 at one place of a blinder and 0 on all others."""
    points = low_degree_on_cosets(_single(1))[coset]
    rows = []
    for place in range(BLINDERS):
        at = kzg.omega(ROWS + place)
        # X^4096 - 1 is a constant on the coset, too
        top = at * (_Y[coset] * _Y[coset] - 1) * pow(2 * ROWS, -1, R) % R
        rows.append(inverses((points - at) % R) * top % R)
    return np.array(rows, dtype=object)


def _single(degree: int) -> Elements:
    out = np.zeros(ROWS, dtype=object)
    out[degree] = 1
    return out


def low_degree_on_cosets(coefficients: Elements) -> list[Elements]:
    """Values of a polynomial of at most 2,048 coefficients on the three cosets, shape (2048,) each."""
    padded = np.zeros(ROWS, dtype=object)
    padded[: len(coefficients)] = coefficients
    return [_to_values(padded * _powers(shift, ROWS) % R) for shift in _SHIFTS]


def quotient(values: list[Elements], blinder: int) -> tuple[Elements, Elements]:
    """Divide a polynomial that vanishes on H by Z, and cut the quotient in two.

    Parameters
    ----------
    values : list of array, shape (2048,)
        The polynomial, of degree below 8192 - 1, on the three cosets.
    blinder : int
        Random; moved from one part to the other, so that neither part alone tells anything.

    Returns
    -------
    tuple of array
        Coefficients of q_0 and q_1 with q = q_0 + X^3072 q_1.
    """
    parts = []
    for coset, on in enumerate(values):
        shifted = _to_coefficients(on * pow(_constant_on(coset), -1, R) % R)
        parts.append(shifted * _powers(pow(_SHIFTS[coset], -1, R), ROWS) % R)
    # q = a + X^2048 b + X^4096 c, and X^2048 is -1, i and -i on the cosets
    beside, plus, minus = parts
    b = (plus - minus) * pow(2 * _Y[1], -1, R) % R
    both = (plus + minus) * _HALF % R
    a = (beside + b + both) * _HALF % R
    c = (beside + b - both) * _HALF % R
    whole = np.concatenate([a, b, c])
    low, high = np.append(whole[:SPLIT], blinder), whole[SPLIT:].copy()
    high[0] = (high[0] - blinder) % R
    return low, high


# Points and bytes -----------------------------------------------------------------------------------------


@cache
def row_order() -> tuple[int, ...]:
    """Which element of a blob holds the value at the i-th power of a generator of H."""
    bits = ROWS.bit_length() - 1
    return tuple(int(f"{i:0{bits}b}"[::-1], 2) for i in range(ROWS))


def inverses(values: Iterable[Any]) -> Elements:
    """Inverses of elements that are not zero, with one division (Montgomery's trick)."""
    values = list(values)
    before, total = [], 1
    for value in values:
        before.append(total)
        total = total * value % R
    rest = pow(total, -1, R)
    out = [0] * len(values)
    for i in range(len(values) - 1, -1, -1):
        out[i] = rest * before[i] % R
        rest = rest * values[i] % R
    return np.array(out, dtype=object)


def spare_on_cosets(rows: int) -> list[Elements]:
    """Values on the three cosets of S: 1 on the points of elements from `rows` on, 0 on the others."""
    chosen = np.array([0] * rows + [1] * (ROWS - rows), dtype=object)
    return low_degree_on_cosets(row_coefficients(chosen))


def spare_at(z: int, rows: int) -> int:
    """Give S(z).

    In a blob's order an aligned run of m = 2^j elements are the roots of X^m = h for some h, over which
    Lagrange's polynomials add up to Z(X) / n * m h / (X^m - h).
    """
    if rows == ROWS:
        return 0
    h = kzg.omega(rows)
    runs, x = [(h, z - h)], z
    for j in range(ROWS.bit_length() - 1):
        if not rows >> j & 1:  # the run beside the one with `rows` comes after it
            runs.append((-h << j, x + h))
        h, x = h * h % R, x * x % R
    parts = inverses(under % R for _, under in runs)
    total = sum(over * part for (over, _), part in zip(runs, parts, strict=True))
    return int(total * (pow(z, ROWS, R) - 1) * _PER_ROW % R)


@cache
def _points() -> Elements:
    return evaluations(_single(1))


def basis_at(z: int) -> Elements:
    """Give the 4,096 weights with which a blob's elements add up to its polynomial's value at z."""
    points = _points()
    top = (pow(z, 2 * ROWS, R) - 1) * pow(2 * ROWS, -1, R) % R
    weights: Elements = points * inverses((z - points) % R) * top % R
    return weights


def blob_of(elements: Iterable[Any]) -> bytes:
    """Write elements as a blob; what is missing at the end is zero."""
    return b"".join(int(value % R).to_bytes(32, "big") for value in elements).ljust(kzg.BLOB_BYTES, b"\0")


def split_blobs(quotients: tuple[Elements, Elements]) -> tuple[Elements, Elements]:
    """Blob elements of both parts of a quotient."""
    return evaluations(quotients[0]), evaluations(quotients[1])
