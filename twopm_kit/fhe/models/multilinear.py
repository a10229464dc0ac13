"""Polynomials in encrypted bits, of degree one in each bit, at the least depth.

A decision tree is such a polynomial: ``value = right + bit · (left - right)``. The trees of an ensemble are
added as polynomials before anything is computed, so equal products of different trees become one. Each
monomial is cut into a first and a second part; monomials with the same first part share the work:
``Σ first · (Σ coefficient · second)``. An inner sum is rescaled and relinearised once, whatever the number of
its products, and the sum over first parts once at the end. Degree d takes ⌈log2 d⌉ levels.

Where there is a level more, factors get digits for it: without, a plain factor shares the room of its product
with two bits, and is rounded to about 2^-20 of the largest result. Where there are more still, first parts
are single bits, which costs fewer products.
"""

import math
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from twopm_kit.errors import CiphertextError
from twopm_kit.fhe.engine import Engine, seal_words
from twopm_kit.fhe.frames import rescale_noise

__all__ = ["Bits", "Monomial", "Multilinear", "Terms"]

Monomial = tuple[int, ...]
Terms = Mapping[Monomial, float]

#: Noise of relinearising and rescaling over that of rescaling alone.
_SWITCHING: Final = 3.0


class Bits:
    """Encrypted bits of one block of rows, and the products of them that have been needed so far.

    Parameters
    ----------
    engine : Engine
        Arithmetic.
    relinearize : callable
        Brings a product back to two polynomials.
    ciphers : sequence of ciphertext
        One for each bit, of size 2.
    """

    def __init__(self, engine: Engine, relinearize: Callable[[Any], Any], ciphers: Sequence[Any]) -> None:
        self.engine: Final = engine
        self.relinearize: Final = relinearize
        self._ciphers = ciphers
        self._made: dict[tuple[Monomial, int], Any] = {}

    def product(self, monomial: Monomial, level: int) -> Any:
        """Product of the bits of a monomial at a level, of size 2; its scale is in the ciphertext."""
        made = self._made.get((monomial, level))
        if made is None:
            engine, half = self.engine, len(monomial) // 2
            if half:
                both = engine.multiply(
                    self.product(monomial[:half], level + 1), self.product(monomial[half:], level + 1)
                )
                made = engine.rescale(self.relinearize(both))
            else:
                made = engine.drop_to(self._ciphers[monomial[0]], level)
            self._made[monomial, level] = made
        return made


class Multilinear:
    """A polynomial of degree one in each of its bits.

    Parameters
    ----------
    terms : mapping of monomial to float
        A monomial names its bits by number, each once; the empty one is the constant.
    """

    def __init__(self, terms: Terms) -> None:
        often = Counter(bit for monomial in terms for bit in monomial)
        # What occurs most comes first, so that first parts coincide.
        self.terms: Final[dict[Monomial, float]] = {
            tuple(sorted(monomial, key=lambda bit: (-often[bit], bit))): value
            for monomial, value in terms.items()
        }
        self.degree: Final = _degree(self.terms)

    @property
    def least_levels(self) -> int:
        """Levels without which it cannot be evaluated; a polynomial of degree 1 needs one for its factors."""
        return max((self.degree - 1).bit_length(), 1)

    def values(self, bits: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """Values in clear.

        Parameters
        ----------
        bits : ndarray of float64, shape (n, p)
            0 and 1, or what stands for them.

        Returns
        -------
        ndarray of float64, shape (n,)
        """
        total = np.zeros(len(bits))
        for monomial, value in self.terms.items():
            total += value * bits[:, list(monomial)].prod(axis=1)
        return total

    def apply(self, bits: Bits, level: int, wanted: float) -> Any:
        """Evaluate on ciphertexts; the result is at level 0, of size 2.

        Parameters
        ----------
        bits : Bits
            At ``level`` or above it.
        level : int
            How many levels may be used, at least `least_levels`.
        wanted : float
            Scale of the result.

        Raises
        ------
        CiphertextError
            Every factor rounds to 0.
        """
        levels, exact = self._spend(level)
        raw = _sum(bits, self.terms, levels, 1, wanted * bits.engine.primes[1], exact)
        if raw is None:
            raise CiphertextError(
                "every leaf value is too small for its scale: the result would not depend on the data",
                hint="fit on a target in larger units",
            )
        return _lowered(bits, raw, wanted)

    def is_exact(self, level: int) -> bool:
        """Whether there is a level for the digits of plain factors."""
        return self._spend(level)[1]

    def noise(self, level: int, engine: Engine, bit_scale: float, wanted: float) -> float:
        """Estimate the noise that the evaluation itself adds: standard deviation, in coefficients.

        Parameters
        ----------
        level : int
            As in `apply`.
        engine : Engine
            Gives N.
        bit_scale, wanted : float
            Scales of the bits and of the result.
        """
        levels, _ = self._spend(level)
        groups = _groups(self.terms, levels)
        # a product of bits is rounded at their scale, and lends that to the sum that it multiplies
        lent = sum(v * v for first, rest in groups.items() if len(first) > 1 for v in rest.values())
        rounded = math.sqrt(lent) * rescale_noise(engine) * wanted / bit_scale
        own = _SWITCHING * rescale_noise(engine) * math.sqrt(1 + _inner_sums(self.terms, levels))
        return math.hypot(rounded, own)

    def _spend(self, level: int) -> tuple[int, bool]:
        """Levels for products of ciphertexts, and whether one is left for plain factors."""
        if self.degree < 2:
            return 1, True
        exact = level > self.least_levels
        return min(level - exact, self.degree - 1), exact


def _degree(terms: Iterable[Monomial]) -> int:
    return max(map(len, terms), default=0)


def _groups(terms: Terms, levels: int) -> dict[Monomial, dict[Monomial, float]]:
    """Terms by first part; the second part has at most 2^(levels-1) bits, and so has the first."""
    most = 1 << (levels - 1)
    groups: dict[Monomial, dict[Monomial, float]] = defaultdict(dict)
    for monomial, value in terms.items():
        if len(monomial) > 1:
            cut = max(1, len(monomial) - most)
            groups[monomial[:cut]][monomial[cut:]] = value
    return groups


def _inner_sums(terms: Terms, levels: int) -> int:
    inner = [rest for rest in _groups(terms, levels).values() if _degree(rest) > 1]
    return len(inner) + sum(_inner_sums(rest, levels - 1) for rest in inner)


def _sum(bits: Bits, terms: Terms, levels: int, level: int, scale: float, exact: bool) -> Any | None:
    """Evaluate at a level and scale, neither rescaled nor relinearised; None when nothing is left of it."""
    engine = bits.engine
    groups = _groups(terms, levels)
    alone: dict[Monomial, float] = {}
    for monomial, value in terms.items():
        if len(monomial) == 1:
            if monomial in groups:
                groups[monomial][()] = value  # joins a product that is computed anyway
            else:
                alone[monomial] = value
    total = None
    for first, rest in groups.items():
        cipher = bits.product(first, level)
        factor = _factor(bits, rest, levels - 1, level, scale / float(cipher.scale), exact)
        if factor is not None:
            total = _added(engine, total, engine.multiply(cipher, factor), scale)
        elif () in rest:  # all of the second part is too small to be seen
            alone[first] = rest[()]
    for monomial, value in alone.items():
        cipher = bits.product(monomial, level)
        plain = engine.encode_constant(value, scale / float(cipher.scale), level)
        if plain is not None:
            total = _added(engine, total, engine.times_plain(cipher, plain), scale)
    if total is None:
        return None
    plain = engine.encode_constant(terms.get((), 0.0), scale, level)
    return total if plain is None else engine.add_plain(total, plain)


def _factor(bits: Bits, terms: Terms, levels: int, level: int, scale: float, exact: bool) -> Any | None:
    """Evaluate to a ciphertext of size 2 at exactly a level and scale."""
    if _degree(terms) < 2 and not exact:
        return _sum(bits, terms, 1, level, scale, exact)
    raw = _sum(bits, terms, max(levels, 1), level + 1, scale * bits.engine.primes[level + 1], exact)
    return None if raw is None else _lowered(bits, raw, scale)


def _lowered(bits: Bits, raw: Any, scale: float) -> Any:
    # first relinearised: what rescaling rounds in a third polynomial would be multiplied by s²
    return bits.engine.rescale(bits.relinearize(raw) if raw.size() > 2 else raw, scale)


def _added(engine: Engine, total: Any | None, part: Any, scale: float) -> Any:
    engine.settle(part, scale)
    if total is None:
        return part
    with seal_words("adding products"):
        engine.evaluator.add_inplace(total, part)
    return total
