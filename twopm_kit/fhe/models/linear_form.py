"""Linear forms: weighted sums of encrypted columns with plain weights."""

import math
from collections.abc import Mapping
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pandas as pd

from twopm_kit.errors import CiphertextError, SchemaError
from twopm_kit.fhe.container import ColumnHeader
from twopm_kit.fhe.engine import Engine
from twopm_kit.fhe.frames import EncryptedFrame, best_scale, computed_frame, exhausted, rescale_noise
from twopm_kit.fhe.models.inputs import check_encrypted, power_above, real_numbers

__all__ = ["LinearForm", "weighted_sum"]

#: Scores carry at most this scale: beyond it float64 has nothing to hold the digits in.
_SCORE_SCALE_BITS: Final = 52.0
_PLANS_KEPT: Final = 4


class LinearForm:
    """k weighted sums of encrypted columns: ``X @ weights.T + intercept`` with plain weights.

    The sum over columns is accumulated first and rescaled once. Weights are encoded once for each kind of
    frame, at the scale that makes every product land on the same scale; the output scale is the largest at
    which the worst case Σ|w|·bound + |intercept| cannot wrap around.

    Parameters
    ----------
    weights : ndarray of float64, shape (k, d)
        Plain weights.
    intercept : ndarray of float64, shape (k,)
        Plain offsets.
    names : tuple of str
        Names of the k results.
    constant : bool
        Whether weights that are all 0 are meant, and give the offset alone; they are refused otherwise.
    """

    def __init__(
        self,
        weights: npt.NDArray[np.float64],
        intercept: npt.NDArray[np.float64],
        names: tuple[str, ...],
        *,
        constant: bool = False,
    ) -> None:
        self.weights: Final = weights
        self.intercept: Final = intercept
        self.names: Final = names
        self._constant = constant
        self._plans: dict[tuple[Any, ...], list[_Plan]] = {}

    def apply(self, enc: EncryptedFrame) -> EncryptedFrame:
        """Encrypted results, n rows × k columns, at the last level.

        Raises
        ------
        SchemaError
            It is no EncryptedFrame.
        CiphertextError
            Another layout than columns, no level is left, or the worst case does not fit into the profile.
        """
        check_encrypted(enc)
        if enc.layout.kind != "columns":
            raise CiphertextError(
                f"weighted sums of columns were asked of layout {enc.layout.kind!r}",
                hint="encrypt in columns, the default: holder.encrypt(data)",
            )
        engine = enc.engine
        if enc.level < 1:
            raise exhausted(engine, enc.level)
        low = enc.drop_to(1)
        plans = self._plan(engine, low)
        used = {j for plan in plans for j, _ in plan.factors}
        names = low.columns
        ciphers = {j: low.ciphers(names[j]) for j in used}
        blocks = range(len(next(iter(ciphers.values()))))
        columns = []
        for plan in plans:
            results = [
                engine.multiply_accumulate(
                    [(ciphers[j][b], plain) for j, plain in plan.factors], plan.constant, plan.head.scale
                )
                for b in blocks
            ]
            columns.append((plan.head, results))
        shifted = any(plan.constant is not None for plan in plans)
        return computed_frame(low, columns, 0, padding="any" if shifted else low.padding)

    def _plan(self, engine: Engine, enc: EncryptedFrame) -> "list[_Plan]":
        key = (engine.params_hash, enc.packing, enc.heads)
        if key not in self._plans:
            while len(self._plans) >= _PLANS_KEPT:
                self._plans.pop(next(iter(self._plans)))
            self._plans[key] = [
                _Plan(engine, enc, row, float(b), name, self._constant)
                for row, b, name in zip(self.weights, self.intercept, self.names, strict=True)
            ]
        return self._plans[key]


class _Plan:
    """Encoded weights of one result for one kind of frame."""

    __slots__ = ("constant", "factors", "head")

    def __init__(
        self,
        engine: Engine,
        enc: EncryptedFrame,
        weights: npt.NDArray[np.float64],
        intercept: float,
        name: str,
        constant: bool,
    ) -> None:
        heads = enc.heads
        worst = float(sum(abs(w) * h.bound for w, h in zip(weights, heads, strict=True))) + abs(intercept)
        bound = power_above(max(worst, 2.0**-40))
        spare = 0.5 if enc.packing == "complex" else 0.0
        wanted = best_scale(
            engine,
            0,
            bound * 2.0**spare,
            most_bits=_SCORE_SCALE_BITS,
            what=f"the weighted sum {name!r}",
        )
        product_scale = wanted * float(engine.primes[1])
        variance = rescale_noise(engine) ** 2
        self.factors: list[tuple[int, Any]] = []
        for j, (weight, head) in enumerate(zip(weights, heads, strict=True)):
            plain = engine.encode_constant(float(weight), product_scale / head.scale, 1)
            if plain is not None:  # a weight of 0 contributes nothing, and SEAL refuses to multiply by it
                self.factors.append((j, plain))
                variance += (head.noise * abs(float(weight)) * wanted / head.scale) ** 2
        if not self.factors:
            if not constant:
                raise CiphertextError(
                    f"every weight of {name!r} is 0 at this precision: the result would not depend on the "
                    "data",
                    hint="pass at least one weight that is not 0",
                )
            # a ciphertext of exactly an offset could be read by anyone: the smallest factor that there is, 1,
            # of the first column hides it, and is far below what rescaling rounds
            factor_scale = product_scale / heads[0].scale
            self.factors.append((0, engine.encode_constant(1.0 / factor_scale, factor_scale, 1)))
        self.constant = engine.encode_constant(intercept, product_scale, 1, both=enc.packing == "complex")
        # Powers of two: the header goes to the key owner, who need not learn the norms of the weights.
        self.head = ColumnHeader(name, bound, wanted, power_above(math.sqrt(variance)))


def weighted_sum(
    enc: EncryptedFrame,
    weights: "Mapping[str, float] | pd.Series[Any]",
    constant: float = 0.0,
    *,
    name: str = "sum",
) -> EncryptedFrame:
    """Weighted sum of encrypted columns plus a constant; uses one level and ends at the last one.

    Parameters
    ----------
    enc : EncryptedFrame
        n rows.
    weights : mapping of column name to float, or Series with column names for its index
        Plain weights; columns that are not named do not count.
    constant : float
        Added to every row.
    name : str
        Name of the resulting column.

    Returns
    -------
    EncryptedFrame
        n rows × 1 column.

    Raises
    ------
    SchemaError
        It is no EncryptedFrame, or weights are not one number for each named column.
    CiphertextError
        A column does not exist, no level is left, every weight is 0, or the worst case does not fit.
    """
    check_encrypted(enc)
    if not isinstance(weights, (Mapping, pd.Series)):
        raise SchemaError(
            f"weights are a {type(weights).__name__}; expected one number for each named column",
            hint="pass {'name of a column': weight} or a Series",
        )
    named = list(weights.items())
    numbers = real_numbers([*(number for _, number in named), constant], "weights and constant")
    if numbers.ndim != 1:
        raise SchemaError("weights hold lists; expected one number a column", hint="pass {'name': weight}")
    form = LinearForm(numbers[None, :-1], numbers[-1:], (str(name),))
    return form.apply(enc[[str(column) for column, _ in named]])
