"""A plain matrix times a list of ciphertexts, as products of ordinary matrices: exact, and many times faster.

A weighted sum of ciphertexts is the same weighted sum of their residues, word by word. Weights are whole
numbers once they carry their scale. Cut both into pieces so short that every sum of products stays below
2^53, and float64 matrix products, the fastest arithmetic that a processor has, give every sum exactly; what
is left is to put the pieces together modulo each prime. The result is the same to the last bit.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

import numpy as np
import numpy.typing as npt

from twopm_kit.fhe.engine import Engine
from twopm_kit.fhe.plan import costs_of
from twopm_kit.fhe.raw import Words, add_mod, cipher_of, cipher_words, multiply_mod

__all__ = ["dense_products", "dense_seconds", "whole_weights"]

Array: TypeAlias = npt.NDArray[np.float64]

#: Whole numbers that float64 holds exactly.
_EXACT_BITS: Final = 53
_WEIGHT_BITS: Final = 52
#: Columns of residues that are worked on at a time, so that they stay in the cache.
_STRIP: Final = 1024
#: Results that are in memory at a time.
_GROUP: Final = 128
#: Passes over an array that cutting a residue, and putting a sum together, take.
_CUT_PASSES: Final = 3
_JOIN_PASSES: Final = 8


@dataclass(frozen=True, slots=True)
class _Cut:
    """Into how many pieces residues and weights are cut, and how many bits a piece has."""

    residues: int
    residue_bits: int
    weights: int
    weight_bits: int

    @classmethod
    def of(cls, prime: int, weight_bits: int, terms: int) -> "_Cut":
        """Fewest products with which sums of so many terms stay exact."""
        spare = _EXACT_BITS - max(terms - 1, 1).bit_length()
        choices = []
        for pieces in range(1, 5):
            low = -(-prime.bit_length() // pieces)
            high = spare - low + 1  # signed pieces are half as large
            if high > 1:
                choices.append(cls(pieces, low, -(-(weight_bits + 1) // high), high))
        return min(choices, key=lambda cut: cut.residues * cut.weights)

    @property
    def products(self) -> int:
        return self.residues * self.weights


def whole_weights(matrix: Array, factor: float) -> npt.NDArray[np.int64]:
    """Weights at a scale, rounded as SEAL rounds; those beyond 2^52, where float64 has no halves, as 2^52."""
    most, scaled = 2.0**_WEIGHT_BITS, matrix * factor
    whole = np.copysign(np.floor(np.abs(scaled) + 0.5), scaled)
    return np.clip(whole, -most, most).astype(np.int64)


def dense_products(
    engine: Engine, weights: npt.NDArray[np.int64], parts: list[Any], level: int, scale: float
) -> Iterator[Any]:
    """Yield ciphertexts ``Σ_j weights[o, j] · parts[j]``, not rescaled.

    Parameters
    ----------
    engine : Engine
        Parameters.
    weights : ndarray of int64, shape (o, i)
        Whole numbers below 2^52.
    parts : list of i ciphertexts
        Of size 2, at the level.
    level : int
        Of all of them.
    scale : float
        Of the products.

    Yields
    ------
    ciphertext
        o of them, at the same level. A row of zeros takes the first part once: SEAL makes no ciphertext that
        anybody could read.
    """
    used = np.flatnonzero(weights.any(axis=0))
    chosen = weights[:, used] if len(used) else weights[:, :1]
    chosen = np.array(chosen)
    chosen[~chosen.any(axis=1), 0] = 1
    primes = engine.primes[: level + 1]
    kept = [parts[j] for j in (used if len(used) else [0])]
    stored = _read(engine, kept, primes)
    bits = int(np.abs(chosen).max()).bit_length()
    cuts = [_Cut.of(prime, bits, chosen.shape[1]) for prime in primes]
    for first in range(0, len(chosen), _GROUP):
        group = chosen[first : first + _GROUP]
        found = np.empty((len(group), 2, len(primes), engine.profile.degree), dtype=np.uint64)
        for r, (prime, residues, cut) in enumerate(zip(primes, stored, cuts, strict=True)):
            digits = _digits(group, cut)
            for start in range(0, engine.profile.degree, _STRIP):
                strip = slice(start, start + _STRIP)
                for c in range(2):
                    found[:, c, r, strip] = _strip(residues[c, :, strip], digits, cut, prime)
        for words in found:
            yield cipher_of(engine, level, scale, words)


def dense_seconds(engine: Engine, weights: npt.NDArray[np.int64], level: int) -> float:
    """Estimate for `dense_products`; infinite where weights are too large for it."""
    costs, primes = costs_of(engine), engine.primes[: level + 1]
    outputs, inputs = len(weights), max(int(weights.any(axis=0).sum()), 1)
    bits = int(np.abs(weights).max()).bit_length()
    if bits > _WEIGHT_BITS:
        return math.inf
    cuts = [_Cut.of(prime, bits, inputs) for prime in primes]
    products = sum(cut.products for cut in cuts)
    sums = 2.0 * engine.profile.degree * products * outputs * inputs
    passes = _CUT_PASSES * inputs * sum(cut.residues for cut in cuts) + _JOIN_PASSES * outputs * products
    moved = costs.total(level, words=inputs + outputs, add=passes / len(primes))
    return sums * costs.multiply_add + moved


def _read(engine: Engine, parts: list[Any], primes: tuple[int, ...]) -> list[npt.NDArray[Any]]:
    """Residues by prime, each of shape (2, i, N), in the smallest type that holds them."""
    shape = (2, len(parts), engine.profile.degree)
    stored = [np.empty(shape, dtype=np.uint32 if prime < 1 << 32 else np.uint64) for prime in primes]
    for j, part in enumerate(parts):
        words = cipher_words(engine, part)
        for r, residues in enumerate(stored):
            residues[:, j] = words[:, r]
    return stored


def _digits(weights: npt.NDArray[np.int64], cut: _Cut) -> list[Array]:
    """Weights in pieces from -2^(b-1) to 2^(b-1), lowest first."""
    half, rest, digits = 1 << (cut.weight_bits - 1), weights, []
    for _ in range(cut.weights):
        digit = ((rest + half) & (2 * half - 1)) - half
        digits.append(digit.astype(np.float64))
        rest = (rest - digit) >> cut.weight_bits
    return digits


def _strip(residues: npt.NDArray[Any], digits: list[Array], cut: _Cut, prime: int) -> Words:
    """Add up modulo a prime; shape (o, columns)."""
    total = np.zeros((len(digits[0]), residues.shape[1]), dtype=np.uint64)
    for piece in range(cut.residues):
        part = residues
        if cut.residues > 1:
            part = (residues >> residues.dtype.type(piece * cut.residue_bits)) & residues.dtype.type(
                (1 << cut.residue_bits) - 1
            )
        low = part.astype(np.float64)
        for place, digit in enumerate(digits):
            exact = (digit @ low).astype(np.int64) % prime
            shift = piece * cut.residue_bits + place * cut.weight_bits
            if prime.bit_length() + shift < 63:
                found = ((exact << shift) % prime if shift else exact).view(np.uint64)
            else:
                found = multiply_mod(exact.view(np.uint64), pow(2, shift, prime), prime)
            total = add_mod(total, found, prime)
    return total
