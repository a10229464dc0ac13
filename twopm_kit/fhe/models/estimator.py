"""What linear estimators share: weights in clear, named columns, scores on encrypted rows."""

from collections.abc import Sequence
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import pandas as pd

from twopm_kit.errors import SchemaError
from twopm_kit.fhe.frames import EncryptedFrame
from twopm_kit.fhe.models.linear_form import LinearForm, real_numbers

__all__ = ["LinearModel"]


class LinearModel:
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

    coef_: npt.NDArray[np.float64]
    intercept_: npt.NDArray[np.float64] | float
    columns: tuple[str, ...] | None = None
    _form: LinearForm | None = None

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
        names = None if columns is None else tuple(str(c) for c in columns)
        if names is not None and (len(names) != weights.shape[1] or len(set(names)) != len(names)):
            raise SchemaError(
                f"{len(names)} column names ({len(set(names))} different) for {weights.shape[1]} weights",
                hint="pass one different name for each weight",
            )
        return cls()._take(weights, offsets, names)

    @classmethod
    def from_sklearn(cls, fitted: Any) -> Self:
        """Model from a fitted scikit-learn estimator of the same kind, with its column names.

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

    def _take(
        self,
        weights: npt.NDArray[np.float64],
        offsets: npt.NDArray[np.float64],
        columns: tuple[str, ...] | None,
    ) -> Self:
        """Become the model with these weights (k, d) and offsets (k,), all at once."""
        k = weights.shape[0]
        names = (self._result,) if k == 1 else tuple(f"{self._result}_{i}" for i in range(k))
        self._form, self.columns = LinearForm(weights, offsets, names), columns
        flat = self._flat and k == 1
        self.coef_, self.intercept_ = (weights[0], float(offsets[0])) if flat else (weights, offsets)
        return self

    def _ready(self) -> LinearForm:
        if self._form is None:
            raise SchemaError(
                f"this {type(self).__name__} has no weights yet",
                hint="call fit(enc_X, enc_y, opener=holder), from_sklearn(fitted) or from_plain(coef)",
            )
        return self._form

    def decision_function(self, enc: EncryptedFrame) -> EncryptedFrame:
        """Encrypted scores: ``X @ coef + intercept``. Whoever computes sees ciphertexts and the weights.

        Parameters
        ----------
        enc : EncryptedFrame
            n rows; the model's columns, or d columns in the model's order when it has no names.

        Returns
        -------
        EncryptedFrame
            n rows × k columns, at the last level.

        Raises
        ------
        SchemaError
            Columns are missing, their number is wrong, or the model has no weights yet.
        CiphertextError
            No level is left, or the worst case does not fit into the profile.
        """
        form = self._ready()
        if not isinstance(enc, EncryptedFrame):
            raise SchemaError(
                f"a {type(enc).__name__} was passed; expected an EncryptedFrame",
                hint="encrypt it first: holder.encrypt(data)",
            )
        names = self._chosen(enc.columns, by_name=enc.source == "frame")
        return form.apply(enc if names == enc.columns else enc[names])

    def simulate(self, data: pd.DataFrame | npt.ArrayLike) -> npt.NDArray[np.float64]:
        """Compute in clear what `decision_function` computes: shape (n,) for one result a row, else (n, k).

        Raises
        ------
        SchemaError
            Columns are missing, their number is wrong, or the model has no weights yet.
        """
        form = self._ready()
        if isinstance(data, pd.DataFrame):
            data = data[self._chosen([str(c) for c in data.columns], by_name=True)]
        values = real_numbers(data, "the data")
        values = values.reshape(1, -1) if values.ndim == 1 else values
        self._chosen([str(j) for j in range(values.shape[1])], by_name=False)
        scores = np.asarray(values @ form.weights.T + form.intercept)
        return scores[:, 0] if scores.shape[1] == 1 else scores

    def _chosen(self, names: list[str], *, by_name: bool) -> list[str]:
        """Columns that the model takes, in its order."""
        width = self._ready().weights.shape[1]
        if self.columns is None or not by_name:
            if len(names) != width:
                raise SchemaError(
                    f"the frame has {len(names)} columns; the model has {width} weights",
                    hint="select the model's columns: enc[[...]]",
                )
            return names
        there = set(names)
        missing = [name for name in self.columns if name not in there]
        if missing:
            raise SchemaError(
                f"the frame lacks {len(missing)} of the model's {width} columns: {', '.join(missing[:8])}",
                hint="pass a frame that has them",
            )
        return list(self.columns)

    def __repr__(self) -> str:
        name = type(self).__name__
        if self._form is None:
            return f"<encrypted {name}: no weights yet>"
        k, d = self._form.weights.shape
        return f"<encrypted {name}: {d} weights, {k} {self._result}{'s' if k > 1 else ''}>"
