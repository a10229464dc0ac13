"""Poisson regression: rates of counts from encrypted rows, trained by quasi-Newton steps on opened sums."""

import math
from functools import partial
from typing import Any, Final, Self

import numpy as np
import numpy.typing as npt
import pandas as pd
from tqdm.auto import tqdm

from twopm_kit.errors import CiphertextError, SchemaError
from twopm_kit.fhe.frames import EncryptedFrame
from twopm_kit.fhe.models.estimator import LinearModel
from twopm_kit.fhe.models.gradient import MOST_SPREAD, ScorePolynomial
from twopm_kit.fhe.models.least_squares import opened_scores
from twopm_kit.fhe.models.linear_form import real_numbers
from twopm_kit.fhe.models.moments import Opener
from twopm_kit.fhe.models.source import ClearSource, EncryptedSource, Source
from twopm_kit.fhe.models.training import Encrypted, clear_table, training_data

__all__ = ["PoissonRegression"]

_FLAT_CURVATURE: Final = 1e-9
#: Counts that add up to less are all 0, but for the noise of opening.
_LEAST_COUNT: Final = 0.5


class PoissonRegression(LinearModel):
    """Poisson regression with a log link: ``rate = exp(X @ coef_ + intercept_)``.

    Training minimises the mean of ``exp(z) - y·z`` plus ``alpha``/2 times the squared length of the weights,
    as scikit-learn does. A quartic stands for the exponential of X·w on [-interval, interval]; the offset
    has a closed form and never meets it. Steps are BFGS steps from the curvature at zero weights, which
    follows from second moments (Broyden, Fletcher, Goldfarb and Shanno, 1970), taken in clear on opened sums.

    Who sees what. The *server* sees ciphertexts, names, shapes, bounds and the weights of every epoch. The
    *opener* sees sums over all rows: of columns, of products of two columns and of columns with counts once,
    then in each epoch those of x·P(z), P(z) and z²; nothing of a row.

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

    _result = "log_rate"
    _flat = True

    def __init__(self, epochs: int = 8, *, alpha: float = 0.0, interval: float = 2.0) -> None:
        if type(epochs) is not int or epochs < 1:
            raise SchemaError(f"epochs is {epochs!r}; expected a whole number from 1", hint="pass epochs=8")
        for name, value, least in (("alpha", alpha, 0.0), ("interval", interval, 0.1)):
            if not isinstance(value, (int, float)) or not least <= value < math.inf:
                raise SchemaError(
                    f"{name} is {value!r}; expected a number from {least}", hint=f"pass {name}=1.0"
                )
        self.epochs, self.alpha, self.interval = epochs, float(alpha), float(interval)
        self.epochs_done_ = 0
        self._polynomial = ScorePolynomial.exponential(self.interval)
        self.polynomial_error_ = self._polynomial.error

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
            Standardised, fresh, in columns, with four levels: ``KeyHolder.generate("train")``.
        enc_y : EncryptedFrame, n rows × 1 column, or a list of them
            Counts.
        opener : KeyHolder or Committee
            Opens about d²/2 sums once and d + 2 in every epoch; its ledger counts them.
        warm_start : bool
            Go on from the weights that there are.

        Returns
        -------
        self

        Raises
        ------
        SchemaError
            Not encrypted, different rows or columns, several columns of counts, or counts that sum to 0.
        ProfileError
            Too few levels.
        CiphertextError
            Columns that are not standardised, or X·w leaves the interval. Then the weights are those of the
            last epoch that kept it inside.
        WrongKey
            Under different keys, or not the opener's.
        BudgetSpent
            The opener's ledger has too few openings left.
        """
        data = training_data(enc_X, enc_y, opener)
        _check_one(data.n_targets)
        source = EncryptedSource(self._polynomial, data, opener, subtract=False)
        source.totals = data.row_totals(opener)
        wanted = data.cross_products(opener, source.sizes, data.target_sizes(opener))[:, 0]
        count = float(data.target_totals(opener)[0])
        square = data.row_products(opener, source.sizes)
        return self._train(source, wanted, count, square, source.totals, warm_start=warm_start)

    def fit_clear(
        self, data: pd.DataFrame | npt.ArrayLike, counts: npt.ArrayLike, *, warm_start: bool = False
    ) -> Self:
        """Train in clear by the same rule, step for step.

        Raises
        ------
        SchemaError
            Not numbers, or shapes that do not agree.
        CiphertextError
            As `fit` does.
        """
        rows, wanted, names = clear_table(data, counts)
        _check_one(wanted.shape[1])
        source = ClearSource(self._polynomial, rows, np.zeros((len(rows), 1)), names)
        cross, count = rows.T @ wanted[:, 0], float(wanted.sum())
        return self._train(source, cross, count, rows.T @ rows, rows.sum(axis=0), warm_start=warm_start)

    def _train(
        self,
        source: Source,
        wanted: npt.NDArray[np.float64],
        count: float,
        square: npt.NDArray[np.float64],
        totals: npt.NDArray[np.float64],
        *,
        warm_start: bool,
    ) -> Self:
        """BFGS on the likelihood with the offset at its best; ``wanted`` is X'y, ``count`` the sum of y."""
        n, d = source.n_rows, len(source.sizes)
        if count < _LEAST_COUNT:
            raise SchemaError(f"the counts add up to {count:.3g}", hint="pass counts that are not all 0")
        weights, done = np.zeros(d), 0
        if warm_start:
            weights, done = self._ready().weights[0], self.epochs_done_
            if len(weights) != d:
                raise SchemaError(
                    f"the model has {len(weights)} weights, the data {d} columns", hint="train a new model"
                )
        curvature = count / n * (square / n - np.outer(totals, totals) / n**2) + self.alpha * np.eye(d)
        values, vectors = np.linalg.eigh(curvature)
        if values[0] <= max(_FLAT_CURVATURE, 1e-5 * values[-1]):
            raise CiphertextError(
                f"columns are nearly collinear: eigenvalues from {values[0]:.1e} to {values[-1]:.1e}",
                hint="leave out columns that say the same, or pass alpha=0.01",
            )
        inverse = (vectors / values) @ vectors.T
        safe: tuple[npt.NDArray[np.float64], float, int] | None = None
        before: tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]] | None = None
        zero = np.zeros(1)
        for _ in tqdm(range(self.epochs), desc="training", unit="epoch", leave=False):
            found = source.sums(weights[None], zero, partial(self._guard, safe, source))
            rate = count / float(found.offset[0])  # of the best offset
            slope = (rate * found.gradient[0] - wanted) / n + self.alpha * weights
            safe = weights, math.log(rate), done
            if before is not None:
                inverse = _bfgs(inverse, weights - before[0], slope - before[1])
            before = weights, slope
            weights = weights - inverse @ slope
            reach = math.sqrt(float((source.sizes**2).sum())) * float(np.linalg.norm(weights))
            if reach > MOST_SPREAD * self.interval:
                self._guard(safe, source, np.array([reach]))
            done += 1
            # the offset for these weights: the sums of the next epoch say it exactly; to first order,
            # a step changes the logarithm of the mean rate by its mean slope
            change = float(found.gradient[0] @ (weights - before[0])) / float(found.offset[0])
            self._commit((weights, math.log(rate) - change, done), source)
        found = source.sums(weights[None], zero, partial(self._guard, safe, source))
        self._commit((weights, math.log(count / float(found.offset[0])), done), source)
        return self

    def _commit(self, state: tuple[npt.NDArray[np.float64], float, int], source: Source) -> None:
        self._take(state[0][None], np.array([state[1]]), source.columns)
        self.epochs_done_ = state[2]

    def _guard(
        self,
        safe: tuple[npt.NDArray[np.float64], float, int] | None,
        source: Source,
        spread: npt.NDArray[np.float64],
    ) -> None:
        if float(spread.max()) <= 0.5 * self.interval:
            return
        done = 0 if safe is None else safe[2]
        if safe is not None:
            self._commit(safe, source)
        raise CiphertextError(
            f"training diverges after epoch {done}: the root mean square of X·w is "
            f"{float(spread.max()):.3g}; the exponential's polynomial is fitted on ±{self.interval:g} and "
            f"holds up to {0.5 * self.interval:g}",
            hint=f"take interval={2.0 * self.interval:g} or a larger alpha",
        )

    # Using -----------------------------------------------------------------------------------------------

    def predict(self, enc: EncryptedFrame) -> EncryptedFrame:
        """Encrypted logarithms of the rates, as `decision_function`; the key owner takes `rates` in clear."""
        return self.decision_function(enc)

    @staticmethod
    def rates(scores: pd.DataFrame | npt.ArrayLike) -> npt.NDArray[np.float64]:
        """Rates of decrypted scores, in clear; shape (n,)."""
        return np.exp(real_numbers(scores, "scores").ravel())

    def score(self, data: Any, counts: npt.ArrayLike, *, opener: Opener | None = None) -> float:
        """D², the share of the deviance that the model explains.

        Parameters
        ----------
        data : EncryptedFrame, or a table in clear
            n rows.
        counts : array-like of shape (n,)
            In clear.
        opener : KeyHolder or Committee, optional
            Opens the scores of encrypted rows; it sees the scores of every row.
        """
        wanted = real_numbers(counts, "counts").ravel()
        rates = self.rates(opened_scores(self, data, opener))
        return 1.0 - _deviance(wanted, rates) / _deviance(wanted, np.full(len(wanted), wanted.mean()))


def _deviance(counts: npt.NDArray[np.float64], rates: npt.NDArray[np.float64]) -> float:
    logs = np.log(np.where(counts > 0.0, counts, 1.0) / rates)
    return float((np.where(counts > 0.0, counts * logs, 0.0) - counts + rates).sum())


def _bfgs(
    inverse: npt.NDArray[np.float64], step: npt.NDArray[np.float64], turn: npt.NDArray[np.float64]
) -> npt.NDArray[np.float64]:
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
