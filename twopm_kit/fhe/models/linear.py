"""Linear forms and logistic regression with plain weights on encrypted columns."""

import math
from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pandas as pd

from twopm_kit.errors import CiphertextError, SchemaError
from twopm_kit.fhe.container import ColumnHeader
from twopm_kit.fhe.engine import Engine
from twopm_kit.fhe.frames import EncryptedFrame, best_scale, computed_frame, exhausted, rescale_noise

__all__ = ["LinearForm", "LogisticRegression", "weighted_sum"]

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
    """

    def __init__(
        self, weights: npt.NDArray[np.float64], intercept: npt.NDArray[np.float64], names: tuple[str, ...]
    ) -> None:
        self.weights: Final = weights
        self.intercept: Final = intercept
        self.names: Final = names
        self._plans: dict[tuple[Any, ...], list[_Plan]] = {}

    def apply(self, enc: EncryptedFrame) -> EncryptedFrame:
        """Encrypted results, n rows × k columns, at the last level.

        Raises
        ------
        CiphertextError
            No level is left, or the worst case does not fit into the profile.
        """
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
        return computed_frame(low, columns, 0)

    def _plan(self, engine: Engine, enc: EncryptedFrame) -> "list[_Plan]":
        key = (engine.params_hash, enc.packing, enc.heads)
        if key not in self._plans:
            while len(self._plans) >= _PLANS_KEPT:
                self._plans.pop(next(iter(self._plans)))
            self._plans[key] = [
                _Plan(engine, enc, row, float(b), name)
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
    ) -> None:
        heads = enc.heads
        worst = float(sum(abs(w) * h.bound for w, h in zip(weights, heads, strict=True))) + abs(intercept)
        bound = _power_above(max(worst, 2.0**-40))
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
            raise CiphertextError(
                f"every weight of {name!r} is 0 at this precision: the result would not depend on the data",
                hint="pass at least one weight that is not 0",
            )
        self.constant = engine.encode_constant(intercept, product_scale, 1, both=enc.packing == "complex")
        # Powers of two: the header goes to the key owner, who need not learn the norms of the weights.
        self.head = ColumnHeader(name, bound, wanted, _power_above(math.sqrt(variance)))


def weighted_sum(
    enc: EncryptedFrame, weights: Mapping[str, float], constant: float = 0.0, *, name: str = "sum"
) -> EncryptedFrame:
    """Weighted sum of encrypted columns plus a constant; uses one level and ends at the last one.

    Parameters
    ----------
    enc : EncryptedFrame
        n rows.
    weights : mapping of column name to float
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
    CiphertextError
        A column does not exist, no level is left, every weight is 0, or the worst case does not fit.
    """
    chosen = enc[[str(column) for column in weights]]
    numbers = _real(list(weights.values()), "weights").reshape(1, -1)
    return LinearForm(numbers, _real([constant], "constant"), (str(name),)).apply(chosen)


class LogisticRegression:
    """Logistic regression with plain coefficients over encrypted columns.

    Make one with `from_plain` or `from_sklearn`. The server computes scores (log-odds); the key owner opens
    them and takes `probabilities` in clear, because the sigmoid costs nothing there.

    Examples
    --------
    >>> import numpy as np
    >>> from twopm_kit import fhe
    >>> holder = fhe.KeyHolder.generate("linear")
    >>> model = fhe.LogisticRegression.from_plain([1.0, -2.0], 0.5)
    >>> scores = model.decision_function(holder.encrypt(np.array([[1.0, 0.0], [0.0, 1.0]])))
    >>> holder.decrypt(scores).round(4).ravel().tolist()
    [1.5, -1.5]
    """

    def __init__(
        self,
        coef: npt.NDArray[np.float64],
        intercept: npt.NDArray[np.float64],
        columns: tuple[str, ...] | None,
    ) -> None:
        self.coef_: Final = coef
        self.intercept_: Final = intercept
        self.columns: Final = columns
        k = coef.shape[0]
        self._form = LinearForm(
            coef, intercept, ("score",) if k == 1 else tuple(f"score_{i}" for i in range(k))
        )

    @classmethod
    def from_plain(
        cls, coef: npt.ArrayLike, intercept: npt.ArrayLike = 0.0, columns: Sequence[str] | None = None
    ) -> "LogisticRegression":
        """Model from numbers.

        Parameters
        ----------
        coef : array-like of shape (d,) or (k, d)
            Weights; k > 1 gives k scores (multinomial).
        intercept : float or array-like of shape (k,)
            Offsets.
        columns : sequence of str, optional
            Names of the d columns: the frame may then have them in any order, and others too.

        Raises
        ------
        SchemaError
            Shapes do not agree, or a number is not finite.
        """
        weights = _real(coef, "coef")
        weights = weights.reshape(1, -1) if weights.ndim == 1 else weights
        offsets = np.atleast_1d(_real(intercept, "intercept"))
        if weights.ndim != 2 or weights.size == 0 or offsets.shape != (weights.shape[0],):
            raise SchemaError(
                f"coef has shape {np.shape(coef)} and intercept {np.shape(intercept)}; expected (d,) and "
                "one number, or (k, d) and (k,)",
                hint="reshape them, or use from_sklearn(fitted)",
            )
        names = None if columns is None else tuple(str(c) for c in columns)
        if names is not None and (len(names) != weights.shape[1] or len(set(names)) != len(names)):
            raise SchemaError(
                f"{len(names)} column names ({len(set(names))} different) for {weights.shape[1]} weights",
                hint="pass one different name for each weight",
            )
        return cls(weights, offsets, names)

    @classmethod
    def from_sklearn(cls, fitted: Any) -> "LogisticRegression":
        """Model from a fitted scikit-learn ``LogisticRegression``, with its column names.

        Raises
        ------
        SchemaError
            The estimator is not fitted, or is not a linear one.
        """
        if not hasattr(fitted, "coef_") or not hasattr(fitted, "intercept_"):
            raise SchemaError(
                f"a {type(fitted).__name__} without coef_ and intercept_ was passed; "
                "expected a fitted linear model",
                hint="call .fit(X, y) first; from a Pipeline pass its last step",
            )
        names = getattr(fitted, "feature_names_in_", None)
        return cls.from_plain(fitted.coef_, fitted.intercept_, names)

    def decision_function(self, enc: EncryptedFrame) -> EncryptedFrame:
        """Encrypted scores: ``X @ coef + intercept``.

        Parameters
        ----------
        enc : EncryptedFrame
            n rows; the model's columns, or d columns in the model's order when it has no names.

        Returns
        -------
        EncryptedFrame
            n rows × 1 column "score" (k columns when multinomial), at the last level.

        Raises
        ------
        SchemaError
            Columns are missing, or their number is wrong.
        CiphertextError
            No level is left, or the worst case does not fit into the profile.
        """
        if not isinstance(enc, EncryptedFrame):
            raise SchemaError(
                f"a {type(enc).__name__} was passed; expected an EncryptedFrame",
                hint="encrypt it first: holder.encrypt(data)",
            )
        return self._form.apply(self._select(enc))

    def _select(self, enc: EncryptedFrame) -> EncryptedFrame:
        width = self.coef_.shape[1]
        if self.columns is None or enc.source == "array":
            if enc.shape[1] != width:
                raise SchemaError(
                    f"the frame has {enc.shape[1]} columns; the model has {width} weights",
                    hint="select the model's columns: enc[[...]]",
                )
            return enc
        missing = [name for name in self.columns if name not in set(enc.columns)]
        if missing:
            raise SchemaError(
                f"the frame lacks {len(missing)} of the model's {width} columns: {', '.join(missing[:8])}",
                hint="encrypt a frame that has them",
            )
        return enc[list(self.columns)] if enc.columns != list(self.columns) else enc

    @staticmethod
    def probabilities(scores: pd.DataFrame | npt.ArrayLike) -> npt.NDArray[np.float64]:
        """Probabilities of decrypted scores, in clear: sigmoid for one score a row, softmax for several.

        Parameters
        ----------
        scores : DataFrame or array of shape (n,), (n, 1) or (n, k)
            As the key owner decrypted them.

        Returns
        -------
        ndarray of float64
            Shape (n,) for one score a row: the probability of the second class. Else (n, k).
        """
        values = _real(scores, "scores")
        if values.ndim == 2 and values.shape[1] > 1:
            raised = np.exp(values - values.max(axis=1, keepdims=True))
            return np.asarray(raised / raised.sum(axis=1, keepdims=True))
        # tanh form: no overflow on either side
        return np.asarray(0.5 * (1.0 + np.tanh(0.5 * values.ravel())))

    def __repr__(self) -> str:
        k, d = self.coef_.shape
        return f"<encrypted LogisticRegression: {d} weights, {k} score{'s' if k > 1 else ''}>"


def _power_above(value: float) -> float:
    return 2.0 ** math.ceil(math.log2(value))


def _real(values: Any, what: str) -> npt.NDArray[np.float64]:
    try:
        array = np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError):
        raise SchemaError(f"{what} holds something that is not a number", hint="pass plain numbers") from None
    if not np.isfinite(array).all():
        raise SchemaError(f"{what} holds values that are not finite", hint="pass finite numbers")
    return array
