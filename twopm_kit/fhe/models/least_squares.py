"""Least squares on encrypted rows: the server multiplies columns, the opener solves for the weights."""

import math
from typing import Any, Final, Self

import numpy as np
import numpy.typing as npt
import pandas as pd

from twopm_kit.errors import CiphertextError, SchemaError
from twopm_kit.fhe.flooding import DEFAULT_PRECISION
from twopm_kit.fhe.models.estimator import LinearModel, explained
from twopm_kit.fhe.models.inputs import Array, real_numbers
from twopm_kit.fhe.models.moments import Opener
from twopm_kit.fhe.models.training import Encrypted, TrainingData, clear_table, training_data

__all__ = ["LinearRegression", "Ridge"]

#: Directions whose variance is below this many times the error of opening are not told from none.
_SEEN: Final = 32.0


class LinearRegression(LinearModel):
    """Least squares, fitted on encrypted rows.

    Who sees what. The *server* multiplies pairs of encrypted columns, adds over the rows and masks all but
    the sum: it sees ciphertexts, names, shapes and bounds. The *opener* sees sums over all rows, each with
    noise: of every column, of every square, of every product of two columns, and of columns with targets;
    nothing of a row. From them the weights follow in clear, exactly as scikit-learn's would.

    Parameters
    ----------
    fit_intercept : bool
        Whether to fit an offset; without it the data are taken as centred.

    Attributes
    ----------
    coef_ : ndarray of float64, shape (d,), or (k, d) for k targets
    intercept_ : float, or ndarray of shape (k,)
    coef_error_ : ndarray of float64, like ``coef_``
        Standard deviation of what opening with noise did to each weight.
    r2_ : float
        Share of the variance of the targets that the fit explains, on the rows it was fitted on.

    Examples
    --------
    >>> import numpy as np
    >>> from twopm_kit import fhe
    >>> from twopm_kit.fhe.models.linear import LinearRegression
    >>> holder = fhe.KeyHolder.generate("linear")
    >>> X = np.random.default_rng(0).normal(size=(200, 2))
    >>> enc_X, enc_y = holder.encrypt(X), holder.encrypt(X @ [1.0, -2.0] + 0.5)
    >>> model = LinearRegression().fit(enc_X, enc_y, opener=holder)
    >>> model.coef_.round(4).tolist(), round(model.intercept_, 4)
    ([1.0, -2.0], 0.5)
    """

    _result = "prediction"
    _flat = True
    _kind = "a regression whose predictions are its linear scores, such as LinearRegression or Ridge"

    coef_error_: Array
    r2_: float

    def __init__(self, *, fit_intercept: bool = True) -> None:
        self.fit_intercept = fit_intercept
        self._alpha = 0.0

    def fit(self, enc_X: Encrypted, enc_y: Encrypted, *, opener: Opener) -> Self:  # noqa: N803
        """Fit on encrypted rows; no rotation, no rescaling, no relinearisation.

        Parameters
        ----------
        enc_X : EncryptedFrame, n rows × d columns, or a list of them
            In columns, with a level left; the profile "linear" is made for it. Several frames, such as one of
            each hospital, all under one key, are fitted as one table: only sums over all of them are opened.
        enc_y : EncryptedFrame, n rows × k columns, or a list of them
            Targets of the same rows. With ``bounds=`` just above the largest one they keep up to two binary
            digits more than with the automatic power of 4, and so do the weights.
        opener : KeyHolder or Committee
            Opens about d²/2 masked sums, which its ledger counts.

        Returns
        -------
        self

        Raises
        ------
        SchemaError
            Not encrypted, different columns or rows.
        CiphertextError
            No level, another layout, sums that may not fit, or columns so nearly collinear that the noise of
            opening decides about the weights.
        WrongKey
            Under different keys, or not the opener's.
        BudgetSpent
            The opener's ledger has too few openings left.
        """
        data = training_data(enc_X, enc_y, opener)
        rms, target_rms = data.row_sizes(opener), data.target_sizes(opener)
        square, cross = data.row_products(opener, rms), data.cross_products(opener, rms, target_rms)
        flat, n = self.fit_intercept, data.n_rows
        mean = data.row_totals(opener) / n if flat else np.zeros(data.width)
        target_mean = data.target_totals(opener) / n if flat else np.zeros(data.n_targets)
        largest = max(float(rms.max()), float(target_rms.max()))
        error = _opening_error(data, largest * math.sqrt(2.0))
        if flat:  # the products of the means come off the sums
            shift = float(np.abs(mean).max() + np.abs(target_mean).max())
            error = math.hypot(error, shift * _opening_error(data, math.sqrt(data.engine.slots / n)))
        return self._solve(data.columns, n, square, cross, mean, target_mean, target_rms, error)

    @staticmethod
    def _same_kind(fitted: Any) -> bool:
        from sklearn.base import RegressorMixin
        from sklearn.linear_model import GammaRegressor, PoissonRegressor, TweedieRegressor

        curved = GammaRegressor, PoissonRegressor, TweedieRegressor
        return isinstance(fitted, RegressorMixin) and not isinstance(fitted, curved)

    def fit_clear(self, X: pd.DataFrame | npt.ArrayLike, y: npt.ArrayLike) -> Self:  # noqa: N803
        """Fit in clear by the same rule.

        Raises
        ------
        SchemaError
            Not numbers, or shapes that do not agree.
        """
        rows, wanted, names = clear_table(X, y)
        mean = rows.mean(axis=0) if self.fit_intercept else np.zeros(rows.shape[1])
        target_mean = wanted.mean(axis=0) if self.fit_intercept else np.zeros(wanted.shape[1])
        target_rms = np.sqrt((wanted**2).mean(axis=0))
        square, cross = rows.T @ rows, rows.T @ wanted
        return self._solve(names, len(rows), square, cross, mean, target_mean, target_rms, 0.0)

    def _solve(
        self,
        columns: tuple[str, ...] | None,
        n: int,
        square: Array,
        cross: Array,
        mean: Array,
        target_mean: Array,
        target_rms: Array,
        error: float,
    ) -> Self:
        """Solve the normal equations of the centred columns, each divided by its size."""
        square = square - n * np.outer(mean, mean)
        cross = cross - n * np.outer(mean, target_mean)
        sizes = np.sqrt(np.maximum(np.diag(square), 0.0))
        if self._alpha == 0.0:
            _check_sizes(sizes, columns, error)
        sizes = np.where(sizes > 0.0, sizes, 1.0)
        normal = square / np.outer(sizes, sizes) + np.diag(self._alpha / sizes**2)
        values, vectors = np.linalg.eigh(normal)
        blur = error * math.sqrt(len(sizes)) / float(sizes.min()) ** 2
        if values[0] <= max(_SEEN * blur, 1e-14 * values[-1]):
            raise CiphertextError(
                f"columns are nearly collinear: the smallest eigenvalue of their correlation is "
                f"{max(values[0], 0.0):.1e}, and the noise of opening is {blur:.1e}",
                hint="leave out columns that say the same, or use Ridge(alpha=1.0)",
            )
        inverse = (vectors / values) @ vectors.T / np.outer(sizes, sizes)
        weights = (inverse @ cross).T
        spread = np.sqrt(np.diag(inverse @ inverse))
        shaken = error * spread * np.sqrt(1.0 + (weights**2).sum(axis=1, keepdims=True))
        total = n * (target_rms**2 - target_mean**2)
        left = total - 2.0 * np.einsum("kd,dk->k", weights, cross)
        left = left + np.einsum("kd,de,ke->k", weights, square, weights)
        self._take(weights, target_mean - weights @ mean, columns)
        self.coef_error_ = shaken[0] if self.coef_.ndim == 1 else shaken
        self.r2_ = explained(left, total)
        return self

    def _quality(self, scores: Array, truth: npt.NDArray[Any]) -> float:
        wanted = real_numbers(truth, "y").reshape(len(scores), -1)
        left = ((wanted - scores.reshape(wanted.shape)) ** 2).sum(axis=0)
        return explained(left, ((wanted - wanted.mean(axis=0)) ** 2).sum(axis=0))


class Ridge(LinearRegression):
    """Least squares with a penalty: ``|y - Xw - b|² + alpha·|w|²``; see `LinearRegression` for who sees what.

    Parameters
    ----------
    alpha : float
        Weight of the penalty, as in scikit-learn; it also makes nearly collinear columns solvable.
    fit_intercept : bool
        Whether to fit an offset, which is not penalised.
    """

    def __init__(self, alpha: float = 1.0, *, fit_intercept: bool = True) -> None:
        super().__init__(fit_intercept=fit_intercept)
        if not (isinstance(alpha, (int, float)) and math.isfinite(alpha) and alpha >= 0.0):
            raise SchemaError(f"alpha is {alpha!r}; expected a number from 0", hint="pass alpha=1.0")
        self.alpha = float(alpha)
        self._alpha = self.alpha


def _opening_error(data: TrainingData, size: float) -> float:
    """Estimate what opening adds to a sum with numbers of a size: 1024 times the noise of fresh columns."""
    relative = max(head.noise / head.scale for frame in (*data.rows, *data.targets) for head in frame.heads)
    own = relative * size * math.sqrt(data.n_rows * data.engine.slots)
    return max(1024.0 * own, DEFAULT_PRECISION / 6.2)


def _check_sizes(sizes: Array, columns: tuple[str, ...] | None, error: float) -> None:
    still = np.flatnonzero(sizes**2 <= _SEEN * error)
    if still.size:
        names = [f"x{j}" if columns is None else columns[j] for j in still[:8]]
        raise CiphertextError(
            f"{still.size} columns do not vary: {', '.join(names)}",
            hint="leave them out, or divide a column of very small values by its size before encrypting",
        )
