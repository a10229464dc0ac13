"""What regressions that are trained in epochs share: settings, data, and where they stop."""

import math
from abc import abstractmethod
from collections.abc import Iterable, Sequence
from typing import Any, Self, TypeAlias

import numpy as np
import numpy.typing as npt
import pandas as pd
from tqdm.auto import tqdm

from twopm_kit.errors import SchemaError, TrainingDiverged
from twopm_kit.fhe.models.estimator import LinearModel
from twopm_kit.fhe.models.inputs import Array
from twopm_kit.fhe.models.moments import Opener
from twopm_kit.fhe.models.source import ClearSource, Source
from twopm_kit.fhe.models.training import Encrypted, TrainingData, clear_table, training_data

__all__ = ["EpochModel", "State", "setting"]

#: Weights (k, d), offsets (k,), and how many whole epochs are behind them.
State: TypeAlias = tuple[Array, Array, int]


class EpochModel(LinearModel):
    """A linear model whose curve is a polynomial of the scores, fitted on an interval.

    Attributes
    ----------
    epochs_done_ : int
        Whole epochs behind ``coef_``. After an interruption both belong to the last whole epoch.
    """

    #: What the polynomial stands for, what it is taken of, and what else than a wider interval may help.
    _curve, _of, _remedy = "curve", "the scores", "a larger alpha"

    epochs_done_: int = 0

    def __init__(self, epochs: int, *, alpha: float, interval: float) -> None:
        if type(epochs) is not int or epochs < 1:
            raise SchemaError(f"epochs is {epochs!r}; expected a whole number from 1", hint="pass epochs=5")
        self.epochs = epochs
        self.alpha, self.interval = setting("alpha", alpha, 0.0), setting("interval", interval, 0.1)

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
        enc_y : EncryptedFrame, n rows × k columns, or a list of them
            Labels of 0 and 1 in one column, or one-hot with a column for each of k classes; of a Poisson
            regression one column of counts.
        opener : KeyHolder or Committee
            Opens sums over all rows, which its ledger counts; the class says which.
        warm_start : bool
            Go on from the weights that there are.

        Returns
        -------
        self

        Raises
        ------
        SchemaError
            Not encrypted, different rows or columns, labels or counts that cannot be.
        ProfileError
            Too few levels.
        CiphertextError
            Columns that are not standardised, or, for a Poisson regression, nearly collinear.
        TrainingDiverged
            Scores leave the interval. Then the weights are those of the last epoch that did not.
        WrongKey
            Under different keys, or not the opener's.
        BudgetSpent
            The opener's ledger has too few openings left.
        """
        return self._fit(training_data(enc_X, enc_y, opener), opener, warm_start=warm_start)

    def fit_clear(
        self,
        X: pd.DataFrame | npt.ArrayLike,  # noqa: N803
        y: npt.ArrayLike,
        *,
        warm_start: bool = False,
    ) -> Self:
        """Train in clear by the same rule, step for step.

        Raises
        ------
        SchemaError
            Not numbers, labels or counts that cannot be, or shapes that do not agree.
        CiphertextError, TrainingDiverged
            As `fit` does.
        """
        return self._fit_clear(*clear_table(X, y), warm_start=warm_start)

    @abstractmethod
    def _fit(self, data: TrainingData, opener: Opener, *, warm_start: bool) -> Self:
        """Train on checked frames."""

    @abstractmethod
    def _fit_clear(
        self, rows: Array, wanted: Array, columns: tuple[str, ...] | None, *, warm_start: bool
    ) -> Self:
        """Train on checked tables."""

    def _start(self, shape: tuple[int, int], *, warm_start: bool) -> State:
        """Weights to begin with: zeros, or those that there are."""
        if not warm_start:
            return np.zeros(shape), np.zeros(shape[0]), 0
        form = self._ready()
        k, d = form.weights.shape
        if (k, d) != shape:
            raise SchemaError(
                f"the model has {d} weights for each of {k} scores; the data have {shape[1]} columns for "
                f"{shape[0]}",
                hint="train a new model, or pass the columns that this one was trained on",
            )
        return form.weights, form.intercept, self.epochs_done_

    def _rounds(self, source: Source) -> Iterable[int]:
        """Epochs, with a progress bar where they take long enough to read one."""
        epochs = range(self.epochs)
        if isinstance(source, ClearSource):
            return epochs
        return tqdm(epochs, desc="training", unit="epoch", leave=False)

    def _commit(self, state: State, columns: Sequence[str] | None) -> None:
        self._take(state[0], state[1], columns)
        self.epochs_done_ = state[2]

    def _guard(self, safe: State | None, columns: Sequence[str] | None, spread: Array) -> None:
        """Stop before the scores leave the interval, with the last weights that kept them inside.

        Raises
        ------
        TrainingDiverged
            Their root mean square, ``spread`` (k,), is beyond half of the interval.
        """
        largest, most, interval = float(spread.max()), 0.5 * self.interval, self.interval
        if largest <= most:
            return
        done, kept = 0, ""
        if safe is not None:
            self._commit(safe, columns)
            done, kept = safe[2], f"; coef_ holds epoch {safe[2]}"
        raise TrainingDiverged(
            f"training diverges after epoch {done}: the root mean square of {self._of} is {largest:.3g}; the "
            f"polynomial for the {self._curve} is fitted on ±{interval:g} and holds up to {most:g}",
            hint=f"take {self._remedy}, or interval={2.0 * interval:g}{kept}",
        )


def setting(name: str, value: Any, least: float) -> float:
    """Finite number from ``least`` on.

    Raises
    ------
    SchemaError
        It is not.
    """
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not least <= value < math.inf:
        raise SchemaError(
            f"{name} is {value!r}; expected a number from {least:g}", hint=f"leave {name} out, or pass one"
        )
    return float(value)
