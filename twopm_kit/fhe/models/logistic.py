"""Logistic regression: scores on encrypted rows, and training on them."""

import math
from collections.abc import Sequence
from functools import partial
from typing import Any, Final, Self

import numpy as np
import numpy.typing as npt
import pandas as pd

from twopm_kit.errors import SchemaError
from twopm_kit.fhe.engine import engine_for
from twopm_kit.fhe.models.classes import Classifier
from twopm_kit.fhe.models.epochs import EpochModel, setting
from twopm_kit.fhe.models.gradient import MOST_SPREAD, ScorePolynomial
from twopm_kit.fhe.models.inputs import Array, real_numbers
from twopm_kit.fhe.models.moments import Opener
from twopm_kit.fhe.models.source import ClearSource, EncryptedSource, Source
from twopm_kit.fhe.models.training import Encrypted, TrainingData
from twopm_kit.fhe.models.training_plan import epoch_plan
from twopm_kit.fhe.plan import Plan

__all__ = ["LogisticRegression"]

#: Labels of 0 and 1 have the same sum as their squares; noise of opening stays far below this.
_LABEL_SLACK: Final = 0.5


class LogisticRegression(Classifier, EpochModel):
    """Logistic regression over encrypted columns: made of plain weights, or trained on encrypted rows.

    Scores: the server computes log-odds with plain weights (`decision_function`); the key owner opens them
    and takes `probabilities` or `classes_of` them in clear, because the sigmoid costs nothing there.

    Training: gradient descent from zero weights. In each epoch the server computes, for every column, the
    sum over the rows of x·(P(z) - y), where the cubic P stands for the sigmoid on [-interval, interval], and
    masks all but the sum. The opener opens the sums, with noise, and takes the step in clear. Several columns
    of labels (one-hot) are trained one against the rest, each a regression of its own.

    Who sees what. The *server* sees ciphertexts, names, shapes and bounds; with ``weights="plain"`` also the
    weights of every epoch, that is, the sums that the opener opens. The *opener* sees sums over all rows: of
    the squares of every column and of the labels once, then in each epoch of the gradient and of the squares
    of the scores; nothing of a row: d + 2k sums once, then k·(d + 2) in every epoch.

    Parameters
    ----------
    epochs : int
        Steps that a call of `fit` takes.
    learning_rate : "auto" or float
        "auto" takes 4 / (λ + 4·alpha), down to two digits, where λ is the sum of the mean squares of all
        columns, and of the offset's. That is at least the largest eigenvalue of X'X/n, so that no step can
        overshoot; with many columns it is a careful rate.
    alpha : float
        Penalty: alpha/2 times the squared length of the weights is added to the mean loss.
    interval : float
        Scores that the cubic is fitted for. Training stops, with an error, when the root mean square of the
        scores reaches half of it: outside of the interval the cubic turns away from the sigmoid.
    weights : "plain" or "encrypted"
        Whether the server sees the weights of each epoch. Whoever calls `fit` holds them at the end anyway:
        plain is the default, and faster. Encrypted, they are encrypted afresh in every epoch.

    Attributes
    ----------
    coef_, intercept_ : ndarray of float64, shapes (k, d) and (k,)
    classes_ : ndarray
        Of the fitted estimator; 0 and 1, or 0 … k-1 for k columns of labels, after training.
    epochs_done_ : int
        Whole epochs behind ``coef_``. After an interruption both belong to the last whole epoch.
    learning_rate_ : float
        That was taken.

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

    _curve, _remedy = "sigmoid", "learning_rate='auto', fewer epochs, a larger alpha"
    _kind = "a classifier with linear scores, such as LogisticRegression"

    coef_: Array
    intercept_: Array
    learning_rate_: float

    def __init__(
        self,
        epochs: int = 5,
        *,
        learning_rate: str | float = "auto",
        alpha: float = 0.01,
        interval: float = 8.0,
        weights: str = "plain",
    ) -> None:
        super().__init__(epochs, alpha=alpha, interval=interval)
        if learning_rate != "auto" and setting("learning_rate", learning_rate, 0.0) == 0.0:
            raise SchemaError("learning_rate is 0; expected a number above 0", hint="leave it out")
        if weights not in ("plain", "encrypted"):
            raise SchemaError(f"weights is {weights!r}", hint="pass weights='plain' or 'encrypted'")
        self.learning_rate, self.weights = learning_rate, weights

    @classmethod
    def from_sklearn(cls, fitted: Any) -> Self:
        """Model from a fitted scikit-learn classifier with linear scores, with its classes and column names.

        Raises
        ------
        SchemaError
            The estimator is not fitted, no classifier, or not a linear one.
        """
        model = super().from_sklearn(fitted)
        model.classes_ = np.asarray(getattr(fitted, "classes_", model.classes_))
        return model

    @staticmethod
    def _same_kind(fitted: Any) -> bool:
        from sklearn.base import ClassifierMixin

        return isinstance(fitted, ClassifierMixin)

    def _take(self, weights: Array, offsets: Array, columns: Sequence[str] | None) -> Self:
        super()._take(weights, offsets, columns)
        k = max(2, len(weights))
        if len(getattr(self, "classes_", ())) != k:
            self.classes_ = np.arange(k)
        return self

    @staticmethod
    def plan(rows: int, width: int, classes: int = 1, *, profile: str = "train") -> Plan:
        """Plan an epoch: levels, ciphertexts, the server's seconds, bytes; see ``plan.describe()``.

        Parameters
        ----------
        rows, width, classes : int
            Rows, columns, and columns of labels.
        profile : str
            With at least four levels.

        Raises
        ------
        ProfileError
            Unknown profile, or too few levels.
        """
        return epoch_plan(engine_for(profile), rows, width, classes)

    def fit(
        self,
        enc_X: Encrypted,  # noqa: N803
        enc_y: Encrypted,
        *,
        opener: Opener,
        warm_start: bool = False,
    ) -> Self:
        """Train on encrypted rows; parameters and errors are those of `EpochModel.fit`.

        Rows that an `Evaluator` encrypted, with the public key, carry about five times the error of rows that
        the key holder encrypted: 1e-5 to 2e-5 in the weights on profile "train", where it is 2e-6 to 4e-6
        otherwise. Profile "deep" is for that.
        """
        return super().fit(enc_X, enc_y, opener=opener, warm_start=warm_start)

    def _fit(self, data: TrainingData, opener: Opener, *, warm_start: bool) -> Self:
        _check_labels(data, opener)
        hidden = self.weights == "encrypted"
        source = EncryptedSource(ScorePolynomial.sigmoid(self.interval), data, opener, hidden=hidden)
        return self._train(source, warm_start=warm_start)

    def _fit_clear(
        self, rows: Array, wanted: Array, columns: tuple[str, ...] | None, *, warm_start: bool
    ) -> Self:
        if not np.isin(wanted, (0.0, 1.0)).all():
            raise SchemaError(
                "labels other than 0 and 1 were passed", hint="pass 0 and 1, or one-hot columns"
            )
        source = ClearSource(ScorePolynomial.sigmoid(self.interval), rows, wanted, columns)
        return self._train(source, warm_start=warm_start)

    def _train(self, source: Source, *, warm_start: bool) -> Self:
        weights, offsets, done = self._start((source.n_targets, len(source.sizes)), warm_start=warm_start)
        total = float((source.sizes**2).sum()) + 1.0
        rate = _rate(total + 4.0 * self.alpha) if self.learning_rate == "auto" else float(self.learning_rate)
        n, safe = source.n_rows, (weights, offsets, done)
        for _ in self._rounds(source):
            found = source.sums(weights, offsets, partial(self._guard, safe, source.columns))
            safe = (weights, offsets, done)
            weights = weights - rate * (found.gradient / n + self.alpha * weights)
            offsets = offsets - rate * found.offset / n
            # no score can be larger in the mean than this: sums would be garbage beyond
            reach = math.sqrt(total) * np.hypot(np.linalg.norm(weights, axis=1), offsets)
            if float(reach.max()) > MOST_SPREAD * self.interval:
                self._guard(safe, source.columns, reach)
            done += 1
            self._commit((weights, offsets, done), source.columns)
            self.learning_rate_ = rate
        self._guard(safe, source.columns, source.spread(weights, offsets))
        return self

    @staticmethod
    def probabilities(scores: pd.DataFrame | npt.ArrayLike) -> Array:
        """Probabilities of decrypted scores, in clear: sigmoid for one score a row, softmax for several.

        Parameters
        ----------
        scores : DataFrame or array of shape (n,), (n, 1) or (n, k)
            As the key owner decrypted them.

        Returns
        -------
        ndarray of float64
            Shape (n,) for one score a row: the probability of the second class. Else (n, k); of scores that
            were trained one against the rest these are a ranking, not calibrated.
        """
        values = real_numbers(scores, "scores")
        if values.ndim == 2 and values.shape[1] > 1:
            raised = np.exp(values - values.max(axis=1, keepdims=True))
            return np.asarray(raised / raised.sum(axis=1, keepdims=True))
        # tanh form: no overflow on either side
        return np.asarray(0.5 * (1.0 + np.tanh(0.5 * values.ravel())))


def _rate(steepest: float) -> float:
    """4 / ``steepest``, down to two digits: the noise of opening is not to show in it."""
    rate = 4.0 / steepest
    digit = 10.0 ** (math.floor(math.log10(rate)) - 1)
    return math.floor(rate / digit) * digit


def _check_labels(data: TrainingData, opener: Opener) -> None:
    """Refuse labels whose sums say that they are not 0 and 1.

    Raises
    ------
    SchemaError
        Their bound is above 1, or their sum is not the sum of their squares.
    """
    largest = max(head.bound for frame in data.targets for head in frame.heads)
    if largest > 1.0:
        raise SchemaError(
            f"the labels have a bound of {largest:g}; expected 0 and 1",
            hint="encrypt (y == 1).astype(float), or one column of 0 and 1 for each class",
        )
    sums, squares = data.target_totals(opener), data.target_sizes(opener) ** 2 * data.n_rows
    if float(np.abs(sums - squares).max()) > _LABEL_SLACK:
        raise SchemaError(
            f"the labels add up to {np.round(sums, 2).tolist()}, their squares to "
            f"{np.round(squares, 2).tolist()}; for labels of 0 and 1 both are the same",
            hint="encrypt (y == 1).astype(float), or one column of 0 and 1 for each class",
        )
