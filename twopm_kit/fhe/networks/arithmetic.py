"""Weighted sums and polynomials of ciphertexts at exact scales, each rescaled once."""

from collections.abc import Callable, Iterable
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from twopm_kit.errors import CiphertextError
from twopm_kit.fhe.engine import Engine, guard_fork, seal_words
from twopm_kit.fhe.evaluation import EvaluationKeys

__all__ = ["Powers", "finished", "given", "products"]

Array: TypeAlias = npt.NDArray[np.float64]


def given(keys: EvaluationKeys | None) -> EvaluationKeys:
    """Keys, or an error that says how to get them."""
    if keys is None:
        raise CiphertextError(
            "a product or rotation of ciphertexts needs evaluation keys, and none were passed",
            hint="pass key=holder.evaluator(rotations=net.rotations)",
        )
    return keys


def products(
    engine: Engine, terms: Iterable[tuple[Any, Any | None]], spare: Any, factor: float, level: int
) -> Any:
    """Sum of ciphertext · plaintext, not rescaled.

    Parameters
    ----------
    engine : Engine
        Arithmetic.
    terms : iterable of (ciphertext, plaintext or None)
        At one level; a plaintext of None counts as 0.
    spare : ciphertext
        Where every plaintext is 0 this one is multiplied by the smallest number there is, 1/factor: SEAL
        makes no ciphertext that anybody could read.
    factor : float
        Scale of the plaintexts.
    level : int
        Of the ciphertexts.
    """
    guard_fork()
    evaluator = engine.evaluator
    total, product = None, None
    with seal_words("multiplying by plain factors"):
        for cipher, plain in terms:
            if plain is None:
                continue
            if total is None:
                total = engine.times_plain(cipher, plain)
            elif product is None:
                product = engine.times_plain(cipher, plain)
                evaluator.add_inplace(total, product)
            else:
                evaluator.multiply_plain(cipher, plain, product)
                evaluator.add_inplace(total, product)
    if total is None:
        return engine.times_plain(spare, engine.encode_constant(1.0 / factor, factor, level))
    return total


def finished(engine: Engine, total: Any, constant: Any | None, wanted: float, level: int) -> Any:
    """Sum of products plus a plaintext, rescaled from ``level`` to exactly the scale ``wanted``."""
    engine.settle(total, wanted * float(engine.primes[level]))
    return engine.rescale(total if constant is None else engine.add_plain(total, constant), wanted)


class Powers:
    """Polynomials of one ciphertext, in as few levels as there are (Paterson and Stockmeyer, 1973).

    ``p = q · x^m + r`` with m the largest power of two: both halves are made at the level of x^m, q at the
    scale that brings the product exactly to that of r, and the sum is rescaled once.

    Parameters
    ----------
    engine : Engine
        Arithmetic.
    keys : EvaluationKeys or None
        For products.
    cipher : ciphertext
        x.
    level, scale : int, float
        Of x.
    encode : callable
        (coefficient, scale, level) -> plaintext, or None when it rounds to 0.
    """

    def __init__(
        self,
        engine: Engine,
        keys: EvaluationKeys | None,
        cipher: Any,
        level: int,
        scale: float,
        encode: Callable[[Array, float, int], Any | None],
    ) -> None:
        self._engine = engine
        self._keys = keys
        self._powers: dict[int, tuple[Any, int, float]] = {1: (cipher, level, scale)}
        self._encode = encode

    def evaluate(self, coefficients: list[Array], level: int, scale: float, *, free: bool) -> Any:
        """Value at a level and exact scale.

        Parameters
        ----------
        coefficients : list of ndarray
            Low degree first.
        level : int
            Of the result.
        scale : float
            Of the result; where ``free``, the one that a square has.
        free : bool
            The degree is a power of two and its coefficient 1 or -1 everywhere.
        """
        engine = self._engine
        if not free:
            used = [k for k, c in enumerate(coefficients) if np.any(c)]
            return self._value(coefficients[: max(used, default=0) + 1], level, scale)
        *rest, lead = coefficients
        negative = float(lead.flat[0]) < 0.0
        if len(rest) == 1:
            cipher = self._powers[1][0]
            constant = self._encode(rest[0], scale, level)
            cipher = engine.negate(cipher) if negative else cipher
            return cipher if constant is None else engine.add_plain(cipher, constant)
        half, above, _ = self._power(len(rest) // 2)
        square, whole = engine.square(half), scale * float(engine.primes[level + 1])
        engine.settle(square, whole)
        if negative:
            square = engine.negate(square)
        for term in self._terms(rest, above, whole):
            square = engine.add(square, term)
        return self._closed(square, rest[0], level, scale)

    def _value(self, coefficients: list[Array], level: int, scale: float) -> Any:
        engine = self._engine
        whole = scale * float(engine.primes[level + 1])
        terms = self._terms(coefficients, level + 1, whole)
        if terms:
            total, *others = terms
            for term in others:
                total = engine.add(total, term)
        else:
            low, factor = self._at(1, level + 1)
            total = products(engine, (), low, whole / factor, level + 1)
            engine.settle(total, whole)
        return self._closed(total, coefficients[0], level, scale)

    def _closed(self, total: Any, constant: Array, level: int, scale: float) -> Any:
        if total.size() > 2:
            total = given(self._keys).relinearize(total)
        whole = scale * float(self._engine.primes[level + 1])
        return finished(self._engine, total, self._encode(constant, whole, level + 1), scale, level + 1)

    def _terms(self, coefficients: list[Array], level: int, whole: float) -> list[Any]:
        """Everything but the constant, as products at a level and one scale, some of them of size 3."""
        degree = len(coefficients) - 1
        if degree < 1:
            return []
        power = 1 << (degree.bit_length() - 1)
        high, rest = coefficients[power:], coefficients[:power]
        terms = self._terms(rest, level, whole)
        if not any(np.any(c) for c in high):
            return terms
        engine = self._engine
        cipher, scale = self._at(power, level)
        if not any(np.any(c) for c in high[1:]):
            plain = self._encode(high[0], whole / scale, level)
            product = None if plain is None else engine.times_plain(cipher, plain)
        else:
            product = engine.multiply(self._value(high, level, whole / scale), cipher)
        if product is not None:
            engine.settle(product, whole)
            terms.append(product)
        return terms

    def _at(self, power: int, level: int) -> tuple[Any, float]:
        cipher, _, scale = self._power(power)
        return self._engine.drop_to(cipher, level), scale

    def _power(self, power: int) -> tuple[Any, int, float]:
        """Raise x to a power of two; its level and its scale."""
        if power not in self._powers:
            cipher, level, scale = self._power(power // 2)
            square = given(self._keys).relinearize(self._engine.square(cipher))
            found = scale * scale / float(self._engine.primes[level])
            self._powers[power] = self._engine.rescale(square, found), level - 1, found
        return self._powers[power]
