"""Principal components and linear discriminants of encrypted rows, from sums that one party opens.

Both need only means and second moments. The server adds products of encrypted columns over the rows and sees
nothing. The opener (a key holder or a committee) learns these sums, for d columns d means and d (d + 1) / 2
products, and with labels the size and the mean of each class; it takes eigenvectors in clear. The model is
then plain: give it to a server, and it projects encrypted rows that only the key owner reads.
"""

from collections.abc import Sequence
from typing import Any, Final, Self

import numpy as np
import numpy.typing as npt
import pandas as pd

from twopm_kit.errors import SchemaError
from twopm_kit.fhe.flooding import DEFAULT_PRECISION
from twopm_kit.fhe.frames import EncryptedFrame
from twopm_kit.fhe.models.classes import MeansClassifier
from twopm_kit.fhe.models.forms import FormModel
from twopm_kit.fhe.models.inputs import Array, fitted_parts, names_of, real_numbers
from twopm_kit.fhe.models.linear_form import LinearForm
from twopm_kit.fhe.models.moments import Opener, products, together, totals
from twopm_kit.fhe.models.training import Encrypted, TrainingData, training_rows

__all__ = ["LDA", "PCA"]

#: Directions with a smaller standard deviation within classes, in units of each column's, do not count:
#: opened sums are not exact enough to tell them from columns that depend on each other.
_RANK: Final = 1e-3
#: A variance below this part of the largest is rounding, and cannot be divided by.
_NOTHING: Final = 1e-12


class PCA(FormModel):
    """Principal component analysis (Pearson 1901; Jolliffe, Principal Component Analysis, 2002, chapter 2).

    Parameters
    ----------
    n_components : int, optional
        How many components; min(n - 1, d) of them without it.
    whiten : bool
        Divide each component by its standard deviation.

    Attributes
    ----------
    mean_ : ndarray of shape (d,)
    components_ : ndarray of shape (k, d)
        Rows of length 1; in each the entry of largest size is positive, as scikit-learn has it.
    explained_variance_, explained_variance_ratio_ : ndarray of shape (k,)
    n_samples_ : int

    Examples
    --------
    >>> import numpy as np
    >>> from twopm_kit import fhe
    >>> from twopm_kit.fhe.models.components import PCA
    >>> holder = fhe.KeyHolder.generate("linear")
    >>> rows = np.random.default_rng(0).normal(size=(500, 2)) @ np.array([[3.0, 3.0], [0.1, -0.1]])
    >>> model = PCA(n_components=1).fit(holder.encrypt(rows), opener=holder)
    >>> model.components_.round(2).tolist()
    [[0.71, 0.71]]
    >>> holder.decrypt(model.transform(holder.encrypt(rows))).shape
    (500, 1)
    """

    mean_: Array
    components_: Array
    explained_variance_: Array
    explained_variance_ratio_: Array
    n_samples_: int

    def __init__(self, n_components: int | None = None, *, whiten: bool = False) -> None:
        self.n_components: Final = _wanted(n_components)
        self.whiten: Final = whiten

    def fit(
        self,
        enc_X: Encrypted,  # noqa: N803
        *,
        opener: Opener,
        precision: float = DEFAULT_PRECISION,
    ) -> Self:
        """Find the components of encrypted rows.

        Parameters
        ----------
        enc_X : EncryptedFrame, n rows × d columns, or a list of them
            Fresh, in columns, under a profile with a level. Opens d + d (d + 1) / 2 ciphertexts. Several
            frames, such as one of each hospital, all under one key, are fitted as one table: only sums over
            all of them are opened.
        opener : KeyHolder or Committee
            Learns means and products of columns.
        precision : float
            Largest error that flooding adds to an opened sum.

        Raises
        ------
        SchemaError
            Not encrypted, different columns, fewer than two rows, or more components than rows and columns
            allow.
        CiphertextError
            No level for a product, another layout, missing values, or a sum that may not fit.
        WrongKey
            Under different keys, or not the opener's.
        """
        frames = training_rows(enc_X, opener)
        n, d = sum(frame.n_rows for frame in frames), frames[0].shape[1]
        if n < 2:
            raise SchemaError("components need two rows or more", hint="encrypt more rows")
        kept = _count(self.n_components, min(n, d), f"{n} rows and {d} columns", default=min(n - 1, d))
        mean = together(map(totals, frames)).open(opener, precision=precision)[0] / n
        total = together(map(products, frames)).open(opener, precision=precision)
        scatter = total - n * np.outer(mean, mean)
        values, vectors = np.linalg.eigh(scatter / (n - 1))
        values = np.clip(values[::-1], 0.0, None)
        self.n_samples_ = n
        self.explained_variance_ratio_ = (values / values.sum())[:kept]
        return self._take(mean, _signed(vectors.T[::-1][:kept]), values[:kept], names_of(frames[0]))

    @classmethod
    def from_sklearn(cls, fitted: Any) -> Self:
        """Model from a fitted scikit-learn ``PCA``, with its column names and whitening.

        Raises
        ------
        SchemaError
            Not fitted, or another estimator.
        """
        mean, components, variance, ratio = fitted_parts(
            fitted, "mean_", "components_", "explained_variance_", "explained_variance_ratio_"
        )
        model = cls(len(components), whiten=bool(getattr(fitted, "whiten", False)))
        model.n_samples_ = int(fitted.n_samples_)
        model.explained_variance_ratio_ = ratio
        return model._take(mean, components, variance, getattr(fitted, "feature_names_in_", None))

    @classmethod
    def from_plain(
        cls, components: npt.ArrayLike, mean: npt.ArrayLike, columns: Sequence[str] | None = None
    ) -> Self:
        """Projection from numbers: components (k, d) and the mean (d,) that is taken off first.

        Raises
        ------
        SchemaError
            Shapes do not agree, or a number is not finite.
        """
        rows, centre = real_numbers(components, "components"), real_numbers(mean, "mean")
        if rows.ndim != 2 or rows.size == 0 or centre.shape != rows.shape[1:]:
            raise SchemaError(
                f"components of shape {rows.shape} and a mean of shape {centre.shape} were passed",
                hint="pass (k, d) and (d,)",
            )
        return cls(len(rows))._take(centre, rows, np.full(len(rows), np.nan), columns)

    def _take(self, mean: Array, components: Array, variance: Array, columns: Any) -> Self:
        self.mean_, self.components_, self.explained_variance_ = mean, components, variance
        weights = components
        if self.whiten:
            if not (variance > _NOTHING * variance.max()).all():
                raise SchemaError(
                    "a component without variance cannot be whitened", hint="ask for fewer n_components"
                )
            weights = components / np.sqrt(variance)[:, None]
        return self._settle(weights, -weights @ mean, [f"pca{i}" for i in range(len(weights))], columns)

    def transform(self, enc: EncryptedFrame) -> EncryptedFrame:
        """Encrypted projections: n rows × k columns "pca0", "pca1", …, at the last level.

        The server sees the components, and no row.
        """
        return self._apply(enc)

    def inverse_transform(self, projected: pd.DataFrame | npt.ArrayLike) -> Array:
        """Rows as far as the components can tell, from opened projections; in clear, shape (n, d)."""
        values = real_numbers(projected, "projections")
        if self.whiten:
            values = values * np.sqrt(self.explained_variance_)
        return np.asarray(values @ self.components_ + self.mean_)


class LDA(MeansClassifier):
    """Linear discriminant analysis (Fisher 1936; Hastie et al., Elements of Statistical Learning, 4.3).

    Scatter within classes is total scatter minus Σ n_k μ_k μ_k', so that products of two columns are enough,
    whatever the classes. Weights and directions are those of scikit-learn's solver "svd". Scores are
    log-odds, up to a part that all classes have in common; there is one for two classes.

    Parameters
    ----------
    n_components : int, optional
        Directions that `transform` gives; at most min(classes - 1, d), which is the default.
    priors : array-like of shape (k,), optional
        Class probabilities; the share of rows without it.

    Attributes
    ----------
    classes_ : ndarray of shape (k,)
    counts_ : ndarray of int64, shape (k,)
    priors_ : ndarray of shape (k,)
    means_ : ndarray of shape (k, d)
    scalings_ : ndarray of shape (d, r)
        Directions; in each the entry of largest size is positive. scikit-learn leaves the sign open.
    coef_, intercept_ : ndarray of shape (k, d) and (k,); (1, d) and (1,) for two classes
    explained_variance_ratio_ : ndarray of shape (n_components,)
    """

    _constant = True  # the score of a class whose mean is that of all rows

    priors_: Array
    means_: Array
    xbar_: Array
    scalings_: Array
    coef_: Array
    intercept_: Array
    explained_variance_ratio_: Array
    _directions: LinearForm

    def __init__(self, n_components: int | None = None, *, priors: npt.ArrayLike | None = None) -> None:
        self.n_components: Final = _wanted(n_components)
        self.priors: Final = priors

    def _learn(
        self,
        data: TrainingData,
        counts: npt.NDArray[np.int64],
        means: Array,
        opener: Opener,
        precision: float,
        /,
    ) -> None:
        n, d, k = data.n_rows, data.width, len(means)
        if n <= k:
            raise SchemaError(f"{n} rows were passed for {k} classes", hint="encrypt more rows")
        kept = _count(self.n_components, min(k - 1, d), f"{k} classes and {d} columns", default=None)
        priors = self._prior(counts)
        total = together(map(products, data.rows)).open(opener, precision=precision)
        within = (total - (means.T * counts) @ means) / n
        self._solve(within, np.diag(total) / n, n, means, priors)
        self.explained_variance_ratio_ = self.explained_variance_ratio_[:kept]
        self._take(data.columns, kept)

    def _prior(self, counts: npt.NDArray[np.int64]) -> Array:
        if self.priors is None:
            return np.asarray(counts / counts.sum())
        given = real_numbers(self.priors, "priors")
        if given.shape != counts.shape or (given <= 0).any():
            raise SchemaError(
                f"priors of shape {given.shape} were passed for {len(counts)} classes",
                hint="pass one number above 0 for each class",
            )
        return np.asarray(given / given.sum())

    def _solve(self, within: Array, squares: Array, n: int, means: Array, priors: Array) -> None:
        """Directions that make the scatter within classes round and the one between them diagonal."""
        variance = np.diag(within)
        told = variance > _RANK**2 * np.abs(squares)
        spread = np.sqrt(np.where(told, variance, 1.0))
        values, vectors = np.linalg.eigh(
            np.where(np.outer(told, told), within, 0.0) / np.outer(spread, spread)
        )
        good = values > _RANK**2
        if not good.any():
            raise SchemaError("rows of one class do not differ", hint="pass rows that differ within classes")
        round_ = vectors[:, good] / spread[:, None] / np.sqrt(values[good])
        self.means_, self.priors_, self.xbar_ = means, priors, priors @ means
        apart = self.means_ - self.xbar_
        weights = np.sqrt(n * priors / (len(means) - 1))
        _, sizes, between = np.linalg.svd((weights[:, None] * apart) @ round_, full_matrices=False)
        self.explained_variance_ratio_ = sizes**2 / np.sum(sizes**2)
        self.scalings_ = _signed((round_ @ between[sizes > _RANK * sizes[0]].T).T).T
        coords = apart @ self.scalings_
        self.coef_ = coords @ self.scalings_.T
        self.intercept_ = -0.5 * np.sum(coords**2, axis=1) + np.log(self.priors_) - self.coef_ @ self.xbar_
        if len(means) == 2:
            self.coef_ = self.coef_[1:] - self.coef_[:1]
            self.intercept_ = self.intercept_[1:] - self.intercept_[:1]

    @classmethod
    def from_sklearn(cls, fitted: Any) -> Self:
        """Model from a fitted scikit-learn ``LinearDiscriminantAnalysis``, solver "svd".

        Raises
        ------
        SchemaError
            Not fitted, or fitted by a solver that has no directions of this kind.
        """
        model = cls(getattr(fitted, "n_components", None))
        (
            model.coef_,
            model.intercept_,
            model.xbar_,
            model.scalings_,
            model.means_,
            model.priors_,
            model.explained_variance_ratio_,
        ) = fitted_parts(
            fitted,
            *("coef_", "intercept_", "xbar_", "scalings_", "means_", "priors_", "explained_variance_ratio_"),
        )
        model.classes_ = np.asarray(fitted.classes_)
        return model._take(getattr(fitted, "feature_names_in_", None), len(model.explained_variance_ratio_))

    def _take(self, columns: Any, kept: int | None) -> Self:
        directions = self.scalings_[:, :kept].T
        self._directions = LinearForm(
            directions, -directions @ self.xbar_, tuple(f"lda{i}" for i in range(len(directions)))
        )
        single = len(self.coef_) == 1
        names = ["score"] if single else [f"score_{i}" for i in range(len(self.coef_))]
        return self._settle(self.coef_, self.intercept_, names, columns)

    def transform(self, enc: EncryptedFrame) -> EncryptedFrame:
        """Encrypted projections on the directions: n rows × columns "lda0", "lda1" and so on."""
        self._ready()
        return self._apply(enc, self._directions)


def _wanted(n_components: Any) -> int | None:
    """Refuse what cannot be a number of components, whatever the rows."""
    if n_components is None:
        return None
    whole = isinstance(n_components, (int, np.integer)) and not isinstance(n_components, bool)
    if not whole or n_components < 1:
        raise SchemaError(
            f"n_components={n_components!r} was passed; expected a whole number above 0, or None for all",
            hint="pass n_components=2, or leave it out",
        )
    return int(n_components)


def _count(wanted: int | None, most: int, of: str, *, default: int | None) -> int:
    if wanted is None:
        return most if default is None else default
    if wanted > most:
        raise SchemaError(f"n_components={wanted!r} was passed; {of} have {most}", hint=f"pass 1 to {most}")
    return wanted


def _signed(rows: Array) -> Array:
    """Rows whose entry of largest size is positive."""
    largest = np.take_along_axis(rows, np.abs(rows).argmax(axis=1)[:, None], axis=1)
    return np.asarray(rows * np.where(largest < 0, -1.0, 1.0))
