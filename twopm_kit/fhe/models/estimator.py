"""What regressions share: weights in clear, one result or several."""

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import pandas as pd

from twopm_kit.errors import SchemaError
from twopm_kit.fhe.models.forms import Scorer
from twopm_kit.fhe.models.inputs import Array, fitted_parts, real_numbers

__all__ = ["LinearModel", "explained"]


class LinearModel(Scorer):
    """Plain weights on encrypted columns: ``X @ coef_.T + intercept_``.

    Attributes
    ----------
    coef_, intercept_ : ndarray of float64, shapes (k, d) and (k,)
        Once there are any; regressions with one target have shape (d,) and a float.
    columns : tuple of str or None
        Names of the d columns, when they are known.
    """

    #: What one result a row is called.
    _result = "score"
    #: Whether one result a row has weights of shape (d,), as regressions have, or (1, d).
    _flat = False

    #: What `from_sklearn` takes, in words.
    _kind = "a linear model"

    coef_: Array
    intercept_: Array | float

    @classmethod
    def from_plain(
        cls, coef: npt.ArrayLike, intercept: npt.ArrayLike = 0.0, columns: Sequence[str] | None = None
    ) -> Self:
        """Model from numbers.

        Parameters
        ----------
        coef : array-like of shape (d,) or (k, d)
            Weights; k > 1 gives k results a row.
        intercept : float or array-like of shape (k,)
            Offsets.
        columns : sequence of str, optional
            Names of the d columns: the frame may then have them in any order, and others too.

        Raises
        ------
        SchemaError
            Shapes do not agree, or a number is not finite.
        """
        weights = real_numbers(coef, "coef")
        weights = weights.reshape(1, -1) if weights.ndim == 1 else weights
        offsets = np.atleast_1d(real_numbers(intercept, "intercept"))
        if weights.ndim != 2 or weights.size == 0 or offsets.shape != (weights.shape[0],):
            raise SchemaError(
                f"coef has shape {np.shape(coef)} and intercept {np.shape(intercept)}; expected (d,) and "
                "one number, or (k, d) and (k,)",
                hint="reshape them, or use from_sklearn(fitted)",
            )
        return cls()._take(weights, offsets, columns)

    @classmethod
    def from_sklearn(cls, fitted: Any) -> Self:
        """Model from a fitted scikit-learn estimator of the same kind, with its column names.

        Raises
        ------
        SchemaError
            The estimator is not fitted, or of another kind.
        """
        coef, intercept = fitted_parts(fitted, "coef_", "intercept_")
        if not cls._same_kind(fitted):
            raise SchemaError(
                f"a {type(fitted).__name__} was passed to {cls.__name__}.from_sklearn; expected {cls._kind}",
                hint="take the model of this package that has its name, or from_plain(coef, intercept)",
            )
        return cls.from_plain(coef, intercept, getattr(fitted, "feature_names_in_", None))

    @staticmethod
    @abstractmethod
    def _same_kind(fitted: Any) -> bool:
        """Whether scores of a fitted estimator with weights mean what those of this model mean."""

    def _take(self, weights: Array, offsets: Array, columns: Sequence[str] | None) -> Self:
        """Become the model with these weights (k, d) and offsets (k,), all at once."""
        k = len(weights)
        names = [self._result] if k == 1 else [f"{self._result}_{i}" for i in range(k)]
        self._settle(weights, offsets, names, columns)
        flat = self._flat and k == 1
        self.coef_, self.intercept_ = (weights[0], float(offsets[0])) if flat else (weights, offsets)
        return self

    def simulate(self, X: pd.DataFrame | npt.ArrayLike) -> Array:  # noqa: N803
        """Scores in clear, as `decision_function` computes them; shape (n,) for one a row, else (n, k).

        Raises
        ------
        SchemaError
            Columns are missing, their number is wrong, or the model is not fitted.
        """
        scores = super().simulate(X)
        return scores[:, 0] if scores.shape[1] == 1 else scores


def explained(left: Array, total: Array) -> float:
    """R²: the mean over the targets of 1 - left / total, two sums of squares of shape (k,)."""
    return float(np.mean(1.0 - left / np.where(total > 0.0, total, 1.0)))
