"""Comparisons of encrypted numbers with plain thresholds: soft bits by a composite polynomial.

``x <= t`` is the sign of t - x. Two polynomials of degree 7, one inside the other, come close to the sign
outside a margin around 0 (Cheon, Kim and Kim, "Efficient homomorphic comparison methods with optimal
complexity", ASIACRYPT 2020; the minimax choice of the parts: Lee, Lee, No and Kim, "Minimax approximation of
sign function by composite polynomial", IEEE TDSC 2022). They take six levels and eight products a threshold.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from twopm_kit.fhe.engine import Engine

__all__ = ["COMPARISON_LEVELS", "NOISE_GAIN", "Sign", "minimax_sign", "soft_bit"]

#: Levels that a comparison uses.
COMPARISON_LEVELS: Final = 6
#: From 1 down to here, in parts of the largest distance to the threshold, the sign is right.
_MARGIN: Final = 1.0 / 16.0
_DEGREE: Final = 7
_GRID: Final = 400
_CHECKED: Final = 20_001
#: The noise of a soft bit over that of one rounding, where both polynomials are steepest.
NOISE_GAIN: Final = 64.0


@dataclass(frozen=True, slots=True)
class Sign:
    """A composite approximation of the sign on [-1, 1].

    Parameters
    ----------
    inner, outer : tuple of float
        Coefficients of z, z³, z⁵ and z⁷.
    margin : float
        Distance from 0 beyond which it holds.
    error : float
        Largest distance from ±1 there.
    """

    inner: tuple[float, ...]
    outer: tuple[float, ...]
    margin: float
    error: float

    def __call__(self, z: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """Values in clear."""
        return _odd(self.outer, _odd(self.inner, z))


@lru_cache(maxsize=4)
def minimax_sign(margin: float = _MARGIN) -> Sign:
    """Approximate the sign for ``margin <= |z| <= 1``: each part is the best of its degree on its interval.

    Parameters
    ----------
    margin : float
        Between 0 and 1; a smaller one costs exactness everywhere.
    """
    inner, missed = _part(margin, 1.0)
    outer, _ = _part(1.0 - missed, 1.0 + missed)
    z = np.linspace(margin, 1.0, _CHECKED)
    error = np.abs(_odd(outer, _odd(inner, z)) - 1.0).max()  # between the points of the programs, too
    return Sign(inner, outer, margin, float(error))


def soft_bit(
    engine: Engine, relinearize: Callable[[Any], Any], cipher: Any, threshold: float, reach: float
) -> Any:
    """Soft bit of ``value <= threshold``: near 1 where it holds, near 0 where not, between within the margin.

    Parameters
    ----------
    engine : Engine
        Arithmetic.
    relinearize : callable
        Brings a product back to two polynomials.
    cipher : ciphertext
        Values in [-1, 1], at level 6 or above.
    threshold : float
        In [-1, 1].
    reach : float
        Largest distance of a value from the threshold.

    Returns
    -------
    ciphertext
        Six levels down, at the profile's scale.
    """
    sign = minimax_sign()
    scale = 2.0**engine.profile.scale_bits
    distance = engine.add_constant(engine.negate(cipher), threshold)
    # the first polynomial takes distances up to `reach`, the second gives half a sign
    inner = tuple(c / reach ** (2 * k + 1) for k, c in enumerate(sign.inner))
    outer = tuple(0.5 * c for c in sign.outer)
    middle = _odd_encrypted(engine, relinearize, inner, distance, scale)
    return engine.add_constant(_odd_encrypted(engine, relinearize, outer, middle, scale), 0.5)


def _odd(coefficients: tuple[float, ...], z: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    square = z * z
    total = np.zeros_like(z)
    for coefficient in reversed(coefficients):
        total = total * square + coefficient
    return np.asarray(total * z)


def _part(low: float, high: float) -> tuple[tuple[float, ...], float]:
    """Best odd polynomial of degree 7 for 1 on [low, high], and its error, by a linear program."""
    from scipy.optimize import linprog  # takes long to load, and few need it

    grid = np.concatenate(
        (
            np.geomspace(low, high, _GRID),
            (low + high) / 2.0 - (high - low) / 2.0 * np.cos(np.linspace(0.0, np.pi, _GRID)),
        )
    )
    orders = np.arange(1, _DEGREE + 1, 2)
    basis = np.cos(np.outer(np.arccos(np.clip(grid / high, -1.0, 1.0)), orders))
    slack, ones = np.ones((len(grid), 1)), np.ones(len(grid))
    found = linprog(
        np.append(np.zeros(len(orders)), 1.0),
        A_ub=np.block([[basis, -slack], [-basis, -slack]]),
        b_ub=np.concatenate((ones, -ones)),
        bounds=[(None, None)] * (len(orders) + 1),
    )
    chebyshev = np.zeros(_DEGREE + 1)
    chebyshev[orders] = found.x[:-1]
    powers = np.polynomial.chebyshev.cheb2poly(chebyshev)[1::2] / high**orders
    return tuple(map(float, powers)), float(found.x[-1])


def _odd_encrypted(
    engine: Engine,
    relinearize: Callable[[Any], Any],
    coefficients: tuple[float, ...],
    z: Any,
    wanted: float,
) -> Any:
    """``c1·z + … + c7·z⁷`` as ``(c7·z·y + c5·z)·y² + c3·z·y + c1·z`` with y = z²: three levels."""
    c1, c3, c5, c7 = coefficients
    top = engine.level_of(z)
    primes, scale = engine.primes, float(z.scale)

    def times(cipher: Any, factor: float, level: int, product_scale: float) -> Any:
        plain = engine.encode_constant(factor, product_scale / scale, level)
        product = engine.times_plain(engine.drop_to(cipher, level), plain)
        engine.settle(product, product_scale)
        return product

    def lowered(product: Any) -> Any:
        return engine.rescale(relinearize(product))

    def joined(product: Any, other: Any, product_scale: float) -> Any:
        engine.settle(product, product_scale)
        return engine.add(product, other)

    y = lowered(engine.square(z))
    yy = lowered(engine.square(y))
    end = wanted * primes[top - 2]
    factor_scale = end / float(yy.scale)
    middle = factor_scale * primes[top - 1]
    seventh, third = (
        engine.rescale(times(z, c, top, s / float(y.scale) * primes[top]))
        for c, s in ((c7, middle), (c3, end))
    )
    factor = joined(engine.multiply(seventh, y), times(z, c5, top - 1, middle), middle)
    factor = lowered(factor)
    engine.settle(factor, factor_scale)
    low = top - 2
    small = joined(
        engine.multiply(engine.drop_to(third, low), engine.drop_to(y, low)), times(z, c1, low, end), end
    )
    result = lowered(joined(engine.multiply(factor, yy), small, end))
    engine.settle(result, wanted)
    return result
