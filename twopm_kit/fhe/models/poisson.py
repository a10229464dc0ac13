"""Poisson regression: rates of counts from encrypted rows, trained by quasi-Newton steps on opened sums."""

import math
from functools import partial
from typing import Any, Final, Self

import numpy as np
import numpy.typing as npt
import pandas as pd

from twopm_kit.errors import CiphertextError, SchemaError
from twopm_kit.fhe.models.epochs import EpochModel, State
from twopm_kit.fhe.models.gradient import MOST_SPREAD, ScorePolynomial
from twopm_kit.fhe.models.inputs import Array, real_numbers
from twopm_kit.fhe.models.moments import Opener
from twopm_kit.fhe.models.source import ClearSource, EncryptedSource, Source
from twopm_kit.fhe.models.training import TrainingData

__all__ = ["PoissonRegression"]

_FLAT_CURVATURE: Final = 1e-9
#: Counts that add up to less are all 0, but for the noise of opening.
_LEAST_COUNT: Final = 0.5


class PoissonRegression(EpochModel):
    """Poisson regression with a log link: ``rate = exp(X @ coef_ + intercept_)``.

    Training minimises the mean of ``exp(z) - y·z`` plus ``alpha``/2 times the squared length of the weights,
    as scikit-learn does. A quartic stands for the exponential of X·w on [-interval, interval]; the offset
    has a closed form and never meets it. Steps are BFGS steps from the curvature at zero weights, which
    follows from second moments (Broyden, Fletcher, Goldfarb and Shanno, 1970), taken in clear on opened sums.

    Who sees what. The *server* sees ciphertexts, names, shapes, bounds and the weights of every epoch. The
    *opener* sees sums over all rows: of columns, of products of two columns and of columns with counts once,
    then in each epoch those of x·P(z), P(z) and z²; nothing of a row: about d²/2 sums once, d + 2 in every
    epoch.

    Parameters
    ----------
    epochs : int
        Steps that a call of `fit` takes.
    alpha : float
        Penalty.
    interval : float
        Range of X·w that the quartic is fitted for. Training stops, with an error, when the root mean square
        of X·w reaches half of it. A wider one is coarser: see `polynomial_error_`.

    Attributes
    ----------
    coef_ : ndarray of float64, shape (d,)
    intercept_ : float
    epochs_done_ : int
        Whole epochs behind ``coef_``.
    polynomial_error_ : float
        Largest difference between quartic and exponential on the interval.
    """

    _curve, _of = "exponential", "X·w"
    _result = "log_rate"
    _flat = True
    _kind = "a PoissonRegressor"

    def __init__(self, epochs: int = 8, *, alpha: float = 0.0, interval: float = 2.0) -> None:
        super().__init__(epochs, alpha=alpha, interval=interval)
        self._polynomial = ScorePolynomial.exponential(self.interval)
        self.polynomial_error_ = self._polynomial.error

    @staticmethod
    def _same_kind(fitted: Any) -> bool:
        from sklearn.linear_model import PoissonRegressor

        return isinstance(fitted, PoissonRegressor)

    def _fit(self, data: TrainingData, opener: Opener, *, warm_start: bool) -> Self:
        _check_one(data.n_targets)
        source = EncryptedSource(self._polynomial, data, opener, subtract=False)
        source.totals = data.row_totals(opener)
        wanted = data.cross_products(opener, source.sizes, data.target_sizes(opener))[:, 0]
        count = float(data.target_totals(opener)[0])
        square = data.row_products(opener, source.sizes)
        return self._train(source, wanted, count, square, source.totals, warm_start=warm_start)

    def _fit_clear(
        self, rows: Array, wanted: Array, columns: tuple[str, ...] | None, *, warm_start: bool
    ) -> Self:
        _check_one(wanted.shape[1])
        source = ClearSource(self._polynomial, rows, np.zeros((len(rows), 1)), columns)
        cross, count = rows.T @ wanted[:, 0], float(wanted.sum())
        return self._train(source, cross, count, rows.T @ rows, rows.sum(axis=0), warm_start=warm_start)

    def _train(
        self,
        source: Source,
        wanted: Array,
        count: float,
        square: Array,
        totals: Array,
        *,
        warm_start: bool,
    ) -> Self:
        """BFGS on the likelihood with the offset at its best; ``wanted`` is X'y, ``count`` the sum of y."""
        n, d = source.n_rows, len(source.sizes)
        if count < _LEAST_COUNT:
            raise SchemaError(f"the counts add up to {count:.3g}", hint="pass counts that are not all 0")
        (weights,), _, done = self._start((1, d), warm_start=warm_start)
        curvature = count / n * (square / n - np.outer(totals, totals) / n**2) + self.alpha * np.eye(d)
        values, vectors = np.linalg.eigh(curvature)
        if values[0] <= max(_FLAT_CURVATURE, 1e-5 * values[-1]):
            raise CiphertextError(
                f"columns are nearly collinear: eigenvalues from {values[0]:.1e} to {values[-1]:.1e}",
                hint="leave out columns that say the same, or pass alpha=0.01",
            )
        inverse = (vectors / values) @ vectors.T
        safe: State | None = None
        before: tuple[Array, Array] | None = None
        zero = np.zeros(1)
        for _ in self._rounds(source):
            found = source.sums(weights[None], zero, partial(self._guard, safe, source.columns))
            rate = count / float(found.offset[0])  # of the best offset
            slope = (rate * found.gradient[0] - wanted) / n + self.alpha * weights
            safe = weights[None], np.array([math.log(rate)]), done
            if before is not None:
                inverse = _bfgs(inverse, weights - before[0], slope - before[1])
            before = weights, slope
            weights = weights - inverse @ slope
            reach = math.sqrt(float((source.sizes**2).sum())) * float(np.linalg.norm(weights))
            if reach > MOST_SPREAD * self.interval:
                self._guard(safe, source.columns, np.array([reach]))
            done += 1
            # the offset for these weights: the sums of the next epoch say it exactly; to first order,
            # a step changes the logarithm of the mean rate by its mean slope
            change = float(found.gradient[0] @ (weights - before[0])) / float(found.offset[0])
            self._commit((weights[None], np.array([math.log(rate) - change]), done), source.columns)
        found = source.sums(weights[None], zero, partial(self._guard, safe, source.columns))
        offset = np.array([math.log(count / float(found.offset[0]))])
        self._commit((weights[None], offset, done), source.columns)
        return self

    @staticmethod
    def rates(scores: pd.DataFrame | npt.ArrayLike) -> Array:
        """Rates of decrypted scores, in clear; shape (n,)."""
        return np.exp(real_numbers(scores, "scores").ravel())

    def _quality(self, scores: Array, truth: npt.NDArray[Any]) -> float:
        wanted, rates = real_numbers(truth, "counts").ravel(), self.rates(scores)
        return 1.0 - _deviance(wanted, rates) / _deviance(wanted, np.full(len(wanted), wanted.mean()))


def _deviance(counts: Array, rates: Array) -> float:
    logs = np.log(np.where(counts > 0.0, counts, 1.0) / rates)
    return float((np.where(counts > 0.0, counts * logs, 0.0) - counts + rates).sum())


def _bfgs(inverse: Array, step: Array, turn: Array) -> Array:
    """Inverse curvature that explains by how much the slope has turned on a step."""
    along = float(step @ turn)
    if along <= _FLAT_CURVATURE * float(np.linalg.norm(step) * np.linalg.norm(turn)):
        return inverse  # noise of opening: it says nothing about the curvature
    left = np.eye(len(step)) - np.outer(step, turn) / along
    return np.asarray(left @ inverse @ left.T + np.outer(step, step) / along)


def _check_one(targets: int) -> None:
    if targets != 1:
        raise SchemaError(
            f"{targets} columns of counts were passed; expected one", hint="train one model for each column"
        )
