"""What models of plain weights on encrypted columns share: named columns, one form, classes in clear."""

from collections.abc import Sequence
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import pandas as pd

from twopm_kit.errors import SchemaError
from twopm_kit.fhe.frames import EncryptedFrame
from twopm_kit.fhe.models.linear_form import LinearForm, real_numbers

__all__ = ["FormModel", "best_class", "fitted_parts", "one_hot"]


class FormModel:
    """A model whose encrypted answer is ``X @ weights.T + intercept``.

    Attributes
    ----------
    columns : tuple of str or None
        Columns that the model was fitted on; None takes them by position.
    """

    columns: tuple[str, ...] | None = None
    _form: LinearForm | None = None

    def _settle(
        self,
        weights: npt.NDArray[np.float64],
        intercept: npt.NDArray[np.float64],
        names: Sequence[str],
        columns: Sequence[str] | None,
    ) -> Self:
        """Take weights (k, d), offsets (k,), names of the k results and of the d columns."""
        if columns is not None and len(set(columns)) != weights.shape[1]:
            raise SchemaError(
                f"{len(set(columns))} different column names for {weights.shape[1]} weights",
                hint="pass one different name for each column",
            )
        self.columns = None if columns is None else tuple(map(str, columns))
        self._form = LinearForm(weights, intercept, tuple(names))
        return self

    def _ready(self) -> LinearForm:
        if self._form is None:
            raise SchemaError(
                f"this {type(self).__name__} is not fitted", hint="call fit, from_sklearn or from_plain first"
            )
        return self._form

    def _apply(self, enc: EncryptedFrame, form: LinearForm | None = None) -> EncryptedFrame:
        form = form or self._ready()
        if not isinstance(enc, EncryptedFrame):
            raise SchemaError(
                f"a {type(enc).__name__} was passed; expected an EncryptedFrame",
                hint="encrypt it first: holder.encrypt(data); simulate(X) works in clear",
            )
        names = self._chosen(enc.columns, by_name=enc.source == "frame")
        return form.apply(enc if names is None or names == enc.columns else enc[names])

    def simulate(self, X: pd.DataFrame | npt.ArrayLike) -> npt.NDArray[np.float64]:  # noqa: N803
        """Compute the same weighted sums in clear.

        Parameters
        ----------
        X : DataFrame or array of shape (n, d)
            The model's columns.

        Returns
        -------
        ndarray of float64, shape (n, k)
        """
        form = self._ready()
        rows: Any = X
        if isinstance(X, pd.DataFrame):
            frame = X.set_axis([str(name) for name in X.columns], axis=1)
            names = self._chosen(list(frame.columns), by_name=True)
            rows = frame if names is None else frame[names]
        values = real_numbers(rows, "X")
        if values.ndim != 2 or values.shape[1] != form.weights.shape[1]:
            raise SchemaError(
                f"X has shape {values.shape}; the model has {form.weights.shape[1]} columns",
                hint="pass rows × columns, with the model's columns",
            )
        return np.asarray(values @ form.weights.T + form.intercept)

    def _chosen(self, have: list[str], *, by_name: bool) -> list[str] | None:
        """Names to select, or None when columns go by position."""
        width = self._ready().weights.shape[1]
        if self.columns is None or not by_name:
            if len(have) != width:
                raise SchemaError(
                    f"the frame has {len(have)} columns; the model has {width}",
                    hint="select the model's columns: enc[[...]]",
                )
            return None
        missing = [name for name in self.columns if name not in set(have)]
        if missing:
            raise SchemaError(
                f"the frame lacks {len(missing)} of the model's {width} columns: {', '.join(missing[:8])}",
                hint="encrypt a frame that has them",
            )
        return list(self.columns)

    def __repr__(self) -> str:
        if self._form is None:
            return f"<encrypted {type(self).__name__}: not fitted>"
        k, d = self._form.weights.shape
        return f"<encrypted {type(self).__name__}: {d} columns, {k} result{'s' if k > 1 else ''}>"


def one_hot(labels: npt.ArrayLike, classes: Sequence[Any] | None = None) -> pd.DataFrame:
    """Table with a column for each class and a single 1 in each row, to be encrypted beside the rows.

    Parameters
    ----------
    labels : array-like of shape (n,)
        Labels of any kind.
    classes : sequence, optional
        All classes, in order; the sorted ones that occur without it. Several owners must pass the same.

    Raises
    ------
    SchemaError
        A label is not among the classes.
    """
    values = np.asarray(labels).ravel()
    known = np.unique(values) if classes is None else np.asarray(classes)
    hits = values[:, None] == known[None, :]
    if not hits.any(axis=1).all():
        row = int(np.argmin(hits.any(axis=1)))
        raise SchemaError(
            f"the label of row {row} is not among the {len(known)} classes", hint="pass all classes"
        )
    return pd.DataFrame(hits.astype(np.float64), columns=[str(name) for name in known])


def best_class(scores: pd.DataFrame | npt.ArrayLike, classes: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Class of the largest score of each row; for one score and two classes, its sign. In clear.

    Parameters
    ----------
    scores : DataFrame or array of shape (n, k), or (n, 1) for two classes
        As the key owner opened them.
    classes : ndarray of shape (k,)
        In the order of the scores.

    Raises
    ------
    SchemaError
        Another number of scores.
    """
    values = real_numbers(scores, "scores")
    values = values.reshape(-1, 1) if values.ndim == 1 else values
    widths = (1, 2) if len(classes) == 2 else (len(classes),)
    if values.ndim != 2 or values.shape[1] not in widths:
        raise SchemaError(
            f"scores of shape {values.shape} were passed for {len(classes)} classes",
            hint="pass what holder.decrypt(model.decision_function(enc)) gives",
        )
    signed = values.shape[1] < len(classes)
    winner = (values[:, 0] > 0).astype(np.intp) if signed else values.argmax(axis=1)
    return np.asarray(classes[winner])


def fitted_parts(fitted: Any, *names: str) -> tuple[npt.NDArray[np.float64], ...]:
    """Numbers of a fitted scikit-learn estimator.

    Raises
    ------
    SchemaError
        It is not fitted, or another kind of estimator.
    """
    missing = [name for name in names if not hasattr(fitted, name)]
    if missing:
        raise SchemaError(
            f"a {type(fitted).__name__} without {', '.join(missing)} was passed; expected a fitted estimator",
            hint="call .fit(X) first; from a Pipeline pass its last step",
        )
    return tuple(real_numbers(getattr(fitted, name), name) for name in names)
