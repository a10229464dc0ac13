"""Logistic regression: scores on encrypted rows, and training on them."""

import math
from functools import partial
from typing import Any, Final, Self

import numpy as np
import numpy.typing as npt
import pandas as pd
from tqdm.auto import tqdm

from twopm_kit.errors import CiphertextError, SchemaError
from twopm_kit.fhe.engine import engine_for
from twopm_kit.fhe.frames import EncryptedFrame
from twopm_kit.fhe.models.estimator import LinearModel
from twopm_kit.fhe.models.gradient import MOST_SPREAD, ScorePolynomial
from twopm_kit.fhe.models.least_squares import opened_scores
from twopm_kit.fhe.models.linear_form import real_numbers
from twopm_kit.fhe.models.moments import Opener
from twopm_kit.fhe.models.source import ClearSource, EncryptedSource, Source
from twopm_kit.fhe.models.training import Encrypted, TrainingData, clear_table, training_data
from twopm_kit.fhe.models.training_plan import epoch_plan
from twopm_kit.fhe.plan import Plan

__all__ = ["LogisticRegression"]

#: Labels of 0 and 1 have the same sum as their squares; noise of opening stays far below this.
_LABEL_SLACK: Final = 0.5

_State = tuple[npt.NDArray[np.float64], npt.NDArray[np.float64], int]


class LogisticRegression(LinearModel):
    """Logistic regression over encrypted columns: made of plain weights, or trained on encrypted rows.

    Scores: the server computes log-odds with plain weights (`decision_function`); the key owner opens them
    and takes `probabilities` in clear, because the sigmoid costs nothing there.

    Training: gradient descent from zero weights. In each epoch the server computes, for every column, the
    sum over the rows of x·(P(z) - y), where the cubic P stands for the sigmoid on [-interval, interval], and
    masks all but the sum. The opener opens the sums, with noise, and takes the step in clear. Several columns
    of labels (one-hot) are trained one against the rest, each a regression of its own.

    Who sees what. The *server* sees ciphertexts, names, shapes and bounds; with ``weights="plain"`` also the
    weights of every epoch, that is, the sums that the opener opens. The *opener* sees sums over all rows: of
    the squares of every column and of the labels once, then in each epoch of the gradient and of the squares
    of the scores; nothing of a row.

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
        plain is the default, and faster. Encrypted, they are encrypted in every epoch with the public key.

    Attributes
    ----------
    coef_, intercept_ : ndarray of float64, shapes (k, d) and (k,)
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

    coef_: npt.NDArray[np.float64]
    intercept_: npt.NDArray[np.float64]
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
        if type(epochs) is not int or epochs < 1:
            raise SchemaError(f"epochs is {epochs!r}; expected a whole number from 1", hint="pass epochs=5")
        positive = [
            ("interval", interval),
            ("learning_rate", 1.0 if learning_rate == "auto" else learning_rate),
        ]
        for name, value in (*positive, ("alpha", alpha)):
            if not isinstance(value, (int, float)) or not math.isfinite(value) or value < 0.0:
                raise SchemaError(f"{name} is {value!r}; expected a number", hint=f"pass {name} as a number")
        if any(value == 0.0 for _, value in positive):
            raise SchemaError("interval and learning_rate must be above 0", hint="leave them out")
        if weights not in ("plain", "encrypted"):
            raise SchemaError(f"weights is {weights!r}", hint="pass weights='plain' or 'encrypted'")
        self.epochs, self.learning_rate, self.alpha = epochs, learning_rate, float(alpha)
        self.interval, self.weights = float(interval), weights
        self.epochs_done_ = 0

    # Training --------------------------------------------------------------------------------------------

    def fit(
        self,
        enc_X: Encrypted,  # noqa: N803
        enc_y: Encrypted,
        *,
        opener: Opener,
        warm_start: bool = False,
    ) -> Self:
        """Train on encrypted rows.

        Parameters
        ----------
        enc_X : EncryptedFrame, n rows × d columns, or a list of them under one key
            Standardised, fresh, in columns, with four levels: ``KeyHolder.generate("train")``. Several
            frames, such as one of each hospital, are trained on as one table.
        enc_y : EncryptedFrame, n rows × 1 column, or a list of them
            Labels 0 and 1; or one-hot, a column for each of k classes.
        opener : KeyHolder or Committee
            Opens d + 2k sums once and k·(d + 2) in every epoch; its ledger counts them.
        warm_start : bool
            Go on from the weights that there are.

        Returns
        -------
        self

        Raises
        ------
        SchemaError
            Not encrypted, different rows or columns, labels that are not 0 and 1.
        ProfileError
            Too few levels.
        CiphertextError
            Columns that are not standardised; or training diverges: scores leave the interval. Then the
            weights are those of the last epoch that did not.
        WrongKey
            Under different keys, or not the opener's.
        BudgetSpent
            The opener's ledger has too few openings left.
        """
        data = training_data(enc_X, enc_y, opener)
        _check_labels(data, opener)
        hidden = self.weights == "encrypted"
        source = EncryptedSource(ScorePolynomial.sigmoid(self.interval), data, opener, hidden=hidden)
        return self._train(source, warm_start=warm_start)

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

    def fit_clear(
        self, data: pd.DataFrame | npt.ArrayLike, labels: npt.ArrayLike, *, warm_start: bool = False
    ) -> Self:
        """Train in clear by the same rule, step for step.

        Raises
        ------
        SchemaError
            Not numbers, labels that are not 0 and 1, or shapes that do not agree.
        CiphertextError
            As `fit` does.
        """
        rows, wanted, names = clear_table(data, labels)
        if not np.isin(wanted, (0.0, 1.0)).all():
            raise SchemaError(
                "labels other than 0 and 1 were passed", hint="pass 0 and 1, or one-hot columns"
            )
        source = ClearSource(ScorePolynomial.sigmoid(self.interval), rows, wanted, names)
        return self._train(source, warm_start=warm_start)

    def _train(self, source: Source, *, warm_start: bool) -> Self:
        shape = (source.n_targets, len(source.sizes))
        weights, offsets, done = (
            self._start(shape) if warm_start else (np.zeros(shape), np.zeros(shape[0]), 0)
        )
        total = float((source.sizes**2).sum()) + 1.0
        rate = _rate(total + 4.0 * self.alpha) if self.learning_rate == "auto" else float(self.learning_rate)
        n, safe = source.n_rows, (weights, offsets, done)
        for _ in tqdm(range(self.epochs), desc="training", unit="epoch", leave=False):
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

    def _start(self, shape: tuple[int, int]) -> _State:
        form = self._ready()
        if form.weights.shape != shape:
            raise SchemaError(
                f"the model has {form.weights.shape[1]} weights for {form.weights.shape[0]} classes; the "
                f"data have {shape[1]} columns and {shape[0]} columns of labels",
                hint="train a new model, or pass the columns that this one was trained on",
            )
        return form.weights, form.intercept, self.epochs_done_

    def _commit(self, state: _State, columns: tuple[str, ...] | None) -> None:
        self._take(state[0], state[1], columns)
        self.epochs_done_ = state[2]

    def _guard(self, safe: _State, columns: tuple[str, ...] | None, spread: npt.NDArray[np.float64]) -> None:
        """Stop before the scores leave the interval, with the last weights that kept them inside."""
        if float(spread.max()) <= 0.5 * self.interval:
            return
        self._commit(safe, columns)
        raise CiphertextError(
            f"training diverges after epoch {safe[2]}: the root mean square of the scores is "
            f"{float(spread.max()):.3g}; the sigmoid's polynomial is fitted on ±{self.interval:g} and holds "
            f"up to {0.5 * self.interval:g}",
            hint="take learning_rate='auto', fewer epochs, a larger alpha, or interval="
            f"{2.0 * self.interval:g}; coef_ holds epoch {safe[2]}",
        )

    # Using -----------------------------------------------------------------------------------------------

    def predict(self, enc: EncryptedFrame) -> EncryptedFrame:
        """Encrypted scores, as `decision_function`: the key owner takes `labels` of them in clear."""
        return self.decision_function(enc)

    def score(self, data: Any, labels: npt.ArrayLike, *, opener: Opener | None = None) -> float:
        """Accuracy.

        Parameters
        ----------
        data : EncryptedFrame, or a table in clear
            n rows.
        labels : array-like of shape (n,), or one-hot (n, k)
            In clear.
        opener : KeyHolder or Committee, optional
            Opens the scores of encrypted rows; it sees the scores of every row.

        Raises
        ------
        SchemaError
            Encrypted rows without an opener.
        """
        wanted = real_numbers(labels, "labels")
        wanted = wanted.argmax(axis=1) if wanted.ndim == 2 and wanted.shape[1] > 1 else wanted.ravel()
        return float((self.labels(opened_scores(self, data, opener)) == wanted).mean())

    @staticmethod
    def labels(scores: pd.DataFrame | npt.ArrayLike) -> npt.NDArray[np.int64]:
        """Classes of decrypted scores, in clear: 0 or 1 for one score a row, else where the largest is."""
        values = real_numbers(scores, "scores")
        if values.ndim == 2 and values.shape[1] > 1:
            return np.asarray(values.argmax(axis=1))
        return (values.ravel() > 0.0).astype(np.int64)

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
