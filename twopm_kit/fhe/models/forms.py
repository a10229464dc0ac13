"""Models whose encrypted answer is a linear form of named columns: how they are kept, asked and simulated."""

from abc import abstractmethod
from collections.abc import Iterable, Sequence
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import pandas as pd

from twopm_kit.errors import SchemaError
from twopm_kit.fhe.frame_html import counted
from twopm_kit.fhe.frames import EncryptedFrame
from twopm_kit.fhe.models.inputs import Array, check_encrypted, choose_columns, named_row, real_numbers
from twopm_kit.fhe.models.linear_form import LinearForm
from twopm_kit.fhe.models.moments import Opener, check_opener

__all__ = ["FormModel", "Scorer"]


class FormModel:
    """A model whose encrypted answer is ``X @ weights.T + intercept``.

    Attributes
    ----------
    columns : tuple of str or None
        Names of the d columns, when they are known: a frame may then have them in any order, and others too.
        None takes columns by position.
    """

    #: Whether a result may be the same for all rows.
    _constant = False

    columns: tuple[str, ...] | None = None
    _form: LinearForm | None = None

    def _settle(
        self, weights: Array, intercept: Array, names: Sequence[str], columns: Sequence[Any] | None
    ) -> Self:
        """Take weights (k, d), offsets (k,), names of the k results and of the d columns, all at once."""
        width = weights.shape[1]
        if columns is not None and (isinstance(columns, str) or not isinstance(columns, Iterable)):
            raise SchemaError(
                f"columns are a {type(columns).__name__}; expected the names of {width} columns",
                hint="pass a list of names",
            )
        chosen = None if columns is None else tuple(map(str, columns))
        if chosen is not None and not len(chosen) == len(set(chosen)) == width:
            raise SchemaError(
                f"{len(chosen)} column names ({len(set(chosen))} different) for {width} weights",
                hint="pass one different name for each column",
            )
        self._form = LinearForm(weights, intercept, tuple(names), constant=self._constant)
        self.columns = chosen
        return self

    def _ready(self) -> LinearForm:
        if self._form is None:
            raise SchemaError(
                f"this {type(self).__name__} is not fitted", hint="call fit, from_sklearn or from_plain first"
            )
        return self._form

    def _apply(self, enc: EncryptedFrame, form: LinearForm | None = None) -> EncryptedFrame:
        form = form or self._ready()
        check_encrypted(enc)
        names = self._chosen(enc.columns, by_name=enc.source == "frame")
        return form.apply(enc if names == enc.columns else enc[names])

    def simulate(self, X: pd.DataFrame | npt.ArrayLike) -> Array:  # noqa: N803
        """Compute the encrypted answer in clear.

        Parameters
        ----------
        X : DataFrame or array of shape (n, d); Series or array of shape (d,) for one row
            The model's columns; the index of a Series names them.

        Returns
        -------
        ndarray of float64, shape (n, k)

        Raises
        ------
        SchemaError
            Columns are missing, their number is wrong, or the model is not fitted.
        """
        form = self._ready()
        rows = named_row(X)
        if isinstance(rows, pd.DataFrame):
            rows = rows.set_axis([str(name) for name in rows.columns], axis=1)
            rows = rows[self._chosen(list(rows.columns), by_name=True)]
        values = np.atleast_2d(real_numbers(rows, "X"))
        if values.ndim != 2 or values.shape[1] != form.weights.shape[1]:
            raise SchemaError(
                f"X has shape {values.shape}; the model has {form.weights.shape[1]} columns",
                hint="pass rows × columns, with the model's columns",
            )
        return np.asarray(values @ form.weights.T + form.intercept)

    def _chosen(self, have: list[str], *, by_name: bool) -> list[str]:
        """Columns that the model takes, in its order."""
        width = self._ready().weights.shape[1]
        if self.columns is not None and by_name:
            return choose_columns(self.columns, have)
        if len(have) != width:
            raise SchemaError(
                f"the frame has {len(have)} columns; the model has {width}",
                hint="select the model's columns: enc[[...]]",
            )
        return have

    def __repr__(self) -> str:
        if self._form is None:
            return f"<encrypted {type(self).__name__}: not fitted>"
        k, d = self._form.weights.shape
        return f"<encrypted {type(self).__name__}: {counted(d, 'column')}, {counted(k, 'result')}>"


class Scorer(FormModel):
    """A form whose results are scores of rows."""

    def decision_function(self, enc: EncryptedFrame) -> EncryptedFrame:
        """Encrypted scores. Whoever computes them sees ciphertexts and the model.

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
            Columns are missing, their number is wrong, or the model is not fitted.
        CiphertextError
            No level is left, or the worst case does not fit into the profile.
        """
        return self._apply(enc)

    def predict(self, enc: EncryptedFrame) -> EncryptedFrame:
        """Encrypted scores, as `decision_function` gives them: no ciphertext can tell which is largest.

        Whoever opens them goes on in clear: ``classes_of(opened)`` of a classifier, ``rates(opened)`` of a
        Poisson regression; scores of least squares are its predictions.
        """
        return self.decision_function(enc)

    def score(self, X: Any, y: npt.ArrayLike, *, opener: Opener | None = None) -> float:  # noqa: N803
        """Quality of the scores of rows whose truth is known.

        Accuracy of a classifier, R² of least squares; D², the share of the deviance that the model explains,
        of a Poisson regression.

        Parameters
        ----------
        X : EncryptedFrame, or a table in clear
            n rows.
        y : array-like of shape (n,), or (n, k) for k targets or one-hot classes
            In clear.
        opener : KeyHolder or Committee, optional
            Opens the scores of encrypted rows; it sees the scores of every row.

        Raises
        ------
        SchemaError
            Encrypted rows without an opener, or not as many answers as rows.
        """
        scores, truth = self._scores(X, opener), np.asarray(y)
        if len(np.atleast_1d(truth)) != len(scores):
            raise SchemaError(
                f"{len(scores)} rows and y of shape {truth.shape} were passed", hint="pass one answer a row"
            )
        return self._quality(scores, truth)

    @abstractmethod
    def _quality(self, scores: Array, truth: npt.NDArray[Any]) -> float:
        """Quality of scores (n, k), or (n,) for one a row, beside as many answers."""

    def _scores(self, X: Any, opener: Opener | None) -> Array:  # noqa: N803
        """Scores of encrypted rows, opened, or of rows in clear; shape (n, k), or (n,) for one."""
        if not isinstance(X, EncryptedFrame):
            scores = self.simulate(X)
        elif opener is None:
            raise SchemaError(
                "encrypted rows were passed without an opener",
                hint="pass opener=holder, or the rows in clear",
            )
        else:
            check_opener(opener, X)
            scores = np.asarray(opener.decrypt(self.decision_function(X)), dtype=np.float64)
        return scores[:, 0] if scores.ndim == 2 and scores.shape[1] == 1 else scores
