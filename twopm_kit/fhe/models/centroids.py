"""Nearest centroid and k-means on encrypted rows.

CKKS cannot take a smallest distance at these depths. So the server computes, for every centroid μ, the
score ``2 μ·x - |μ|²``, which is largest for the nearest one because only ``|x|²``, common to all, is missing;
whoever owns the rows opens the scores and takes the largest in clear. Means are masked sums, as in
`twopm_kit.fhe.models.moments`.
"""

from collections.abc import Callable, Sequence
from typing import Any, Final, Self, TypeAlias

import numpy as np
import numpy.typing as npt
import pandas as pd

from twopm_kit.errors import SchemaError
from twopm_kit.fhe.flooding import DEFAULT_PRECISION
from twopm_kit.fhe.frames import EncryptedFrame
from twopm_kit.fhe.keys import Evaluator, KeyHolder
from twopm_kit.fhe.models.classes import Classifier, MeansClassifier, one_hot
from twopm_kit.fhe.models.inputs import Array, fitted_parts, names_of, real_numbers, table
from twopm_kit.fhe.models.moments import Opener, products, squares, together, totals
from twopm_kit.fhe.models.training import Encrypted, TrainingData, training_rows

__all__ = ["Assign", "KMeans", "NearestCentroid", "assigner"]

#: Finds, for centres (k, d) in clear, the encrypted one-hot table of nearest centres of somebody's rows.
Assign: TypeAlias = Callable[[Array], EncryptedFrame]


class _Centres(Classifier):
    """Scores of centres."""

    _constant = True  # the score of a centre at the origin
    _centres: Array

    def _aim(self, centres: Array, columns: Sequence[Any] | None) -> Self:
        self._centres = centres
        names = [f"score_{i}" for i in range(len(centres))]
        return self._settle(2.0 * centres, -np.sum(centres**2, axis=1), names, columns)

    def decision_function(self, enc: EncryptedFrame) -> EncryptedFrame:
        """Encrypted scores ``2 μ·x - |μ|²``, larger is nearer: n rows × k columns, at the last level.

        The server sees the centres and no row. Who opens them learns k numbers that are linear in a row: with
        more than d centres these give the row away, so open them only for its owner.
        """
        return super().decision_function(enc)


class NearestCentroid(_Centres, MeansClassifier):
    """Rows go to the class with the nearest mean (Tibshirani et al., PNAS 2002, without shrinking).

    Attributes
    ----------
    centroids_ : ndarray of shape (k, d)
    classes_ : ndarray of shape (k,)
    counts_ : ndarray of int64, shape (k,)
        Rows of each class, after `fit`.

    Examples
    --------
    >>> import numpy as np
    >>> from twopm_kit import fhe
    >>> from twopm_kit.fhe.models import NearestCentroid, one_hot
    >>> holder = fhe.KeyHolder.generate("linear")
    >>> enc = holder.encrypt(np.array([[0.0, 1.0], [0.0, 3.0], [5.0, 5.0]]))
    >>> labels = holder.encrypt(one_hot(["near", "near", "far"]), bounds=1)
    >>> model = NearestCentroid().fit(enc, labels, opener=holder)
    >>> model.classes_of(holder.decrypt(model.decision_function(enc))).tolist()
    ['near', 'near', 'far']
    """

    @property
    def centroids_(self) -> Array:
        """Mean of each class, shape (k, d)."""
        self._ready()
        return self._centres

    def _learn(
        self,
        data: TrainingData,
        _counts: npt.NDArray[np.int64],
        means: Array,
        _opener: Opener,
        _precision: float,
        /,
    ) -> None:
        self._aim(means, data.columns)

    @classmethod
    def from_sklearn(cls, fitted: Any) -> Self:
        """Model from a fitted scikit-learn ``NearestCentroid`` with the Euclidean metric and equal priors.

        Raises
        ------
        SchemaError
            Not fitted, or another metric or other priors: its scores are no linear forms of this kind.
        """
        (centres,) = fitted_parts(fitted, "centroids_")
        priors = np.asarray(getattr(fitted, "class_prior_", 1 / len(centres)))
        if getattr(fitted, "metric", None) != "euclidean" or not np.allclose(priors, 1 / len(centres)):
            raise SchemaError(
                f"a {type(fitted).__name__} with metric {getattr(fitted, 'metric', None)!r} was passed; "
                "expected 'euclidean' and equal priors",
                hint="fit NearestCentroid(metric='euclidean', priors='uniform')",
            )
        return cls.from_plain(centres, fitted.classes_, getattr(fitted, "feature_names_in_", None))

    @classmethod
    def from_plain(
        cls,
        centroids: npt.ArrayLike,
        classes: Sequence[Any] | npt.NDArray[Any] | None = None,
        columns: Sequence[str] | None = None,
    ) -> Self:
        """Model from numbers: centroids (k, d), and what they stand for (0, 1, … without it).

        Raises
        ------
        SchemaError
            Shapes do not agree, or a number is not finite.
        """
        centres = table(centroids, "centroids")
        model = cls()
        model.classes_ = np.arange(len(centres)) if classes is None else np.asarray(classes)
        if model.classes_.shape != (len(centres),):
            raise SchemaError(
                f"{model.classes_.size} classes were passed for {len(centres)} centroids",
                hint="pass one class for each centroid",
            )
        return model._aim(centres, columns)


class KMeans(_Centres):
    """Lloyd's algorithm (IEEE Trans. Information Theory 1982) on encrypted rows.

    In each step every row is put to its nearest centre, and every centre moves to the mean of its rows. A
    centre without rows stays where it is. There are two ways to find the nearest centres:

    ==================  ==================================  ==============================================
    who                 ``fit(enc_X, opener=holder)``       ``fit(frames, opener=…, assign=[…])``
    ==================  ==================================  ==============================================
    owner of rows       is the key holder                   finds nearest centres in clear, sends ``enc``
                                                            once and which centre, encrypted, every step
    server              centres; nothing of a row           the same
    opener              k scores of each row, every step:   for each centre the number of its rows and
                        enough to compute the rows, so it   their sum, over all owners together, every
                        must be allowed to see them         step; no row, and no assignment
    ==================  ==================================  ==============================================

    The sums of two steps differ by the rows that moved: where one row alone moves, or a centre has one row,
    the opener learns that row also in the second way. An owner who sends something else than a single 1 a row
    can move the centres at will; the number of rows is checked, single rows cannot be.

    Parameters
    ----------
    n_clusters : int
        k.
    init : array-like of shape (k, d), optional
        First centres. Without it they are drawn from a normal distribution with means and standard
        deviations of the columns, whose 2 d sums are opened for it.
    max_iter : int
        Most steps. Each opens k + k d ciphertexts, in the first way also k for each block of rows.
    tol : float
        Stop when the centres together have moved by no more than this (Frobenius norm, units of the columns).
    random_state : int
        Seed of the first centres.

    Attributes
    ----------
    cluster_centers_ : ndarray of shape (k, d)
    counts_ : ndarray of int64, shape (k,)
        Rows of each cluster in the last step.
    n_iter_ : int
    """

    counts_: npt.NDArray[np.int64]
    n_iter_: int

    def __init__(
        self,
        n_clusters: int = 8,
        *,
        init: npt.ArrayLike | None = None,
        max_iter: int = 30,
        tol: float = 1e-4,
        random_state: int = 0,
    ) -> None:
        if type(n_clusters) is not int or n_clusters < 1 or type(max_iter) is not int or max_iter < 1:
            raise SchemaError(
                f"n_clusters={n_clusters!r} and max_iter={max_iter!r} were passed",
                hint="pass whole numbers above 0",
            )
        self.n_clusters: Final = n_clusters
        self.init: Final = None if init is None else table(init, "init")
        self.max_iter: Final = max_iter
        self.tol: Final = tol
        self.random_state: Final = random_state
        self.classes_ = np.arange(n_clusters)

    @property
    def cluster_centers_(self) -> Array:
        """Centres, shape (k, d)."""
        self._ready()
        return self._centres

    def fit(
        self,
        enc_X: Encrypted,  # noqa: N803
        *,
        opener: Opener,
        assign: Assign | Sequence[Assign] | None = None,
        precision: float = DEFAULT_PRECISION,
    ) -> Self:
        """Find centres of encrypted rows.

        Parameters
        ----------
        enc_X : EncryptedFrame, or one for each owner of rows
            n rows × d columns; fresh, in columns, under one key and a profile with a level.
        opener : KeyHolder or Committee
            Opens sums; without ``assign`` a KeyHolder, who also opens scores.
        assign : callable, or one for each frame, optional
            What the owner of the rows does with centres in clear; see `assigner`.
        precision : float
            Largest error that flooding adds to an opened number.

        Raises
        ------
        SchemaError
            Not encrypted, different columns, shapes that do not agree, or an assignment that does not add up
            to the number of rows.
        CiphertextError
            No level for a product, another layout, missing values, or a sum that may not fit.
        WrongKey
            Under different keys, or not the opener's.
        """
        frames = training_rows(enc_X, opener)
        ways = self._ways(frames, opener, assign, precision)
        centres = self._first(frames, opener, precision)
        named = names_of(frames[0])
        for step in range(1, self.max_iter + 1):
            self._aim(centres, named)
            hot = [way(centres.copy()) for way in ways]
            self.counts_ = self._counted(hot, frames, opener, precision)
            sums = together(map(products, hot, frames)).open(opener, precision=precision)
            moved = np.where(self.counts_[:, None] > 0, sums / np.maximum(self.counts_, 1)[:, None], centres)
            gone, centres = float(np.linalg.norm(moved - centres)), moved
            self.n_iter_ = step
            if gone <= self.tol:
                break
        return self._aim(centres, named)

    def _ways(
        self, frames: tuple[EncryptedFrame, ...], opener: Opener, assign: Any, precision: float
    ) -> list[Assign]:
        if assign is not None:
            ways: list[Assign] = [assign] if callable(assign) else list(assign)
            if len(ways) != len(frames):
                raise SchemaError(
                    f"{len(ways)} ways to assign were passed for {len(frames)} frames",
                    hint="pass assigner(rows, evaluator) of each owner, in the order of the frames",
                )
            return ways
        if not isinstance(opener, KeyHolder):
            raise SchemaError(
                f"a {type(opener).__name__} opens sums; the scores of single rows are for their owner",
                hint="pass assign=assigner(rows, evaluator), which the owner of the rows runs",
            )
        owner = opener

        def opened(enc: EncryptedFrame) -> Assign:
            def nearest(_: Array) -> EncryptedFrame:
                scores = owner.decrypt(self.decision_function(enc), precision=precision)
                return owner.encrypt(one_hot(self.classes_of(scores), list(self.classes_)), bounds=1.0)

            return nearest

        return [opened(enc) for enc in frames]

    def _first(self, frames: tuple[EncryptedFrame, ...], opener: Opener, precision: float) -> Array:
        shape = self.n_clusters, frames[0].shape[1]
        if self.init is not None:
            if self.init.shape != shape:
                raise SchemaError(
                    f"init has shape {self.init.shape}; expected {shape}", hint="pass one row a cluster"
                )
            return self.init
        rows = sum(enc.n_rows for enc in frames)
        mean = together(map(totals, frames)).open(opener, precision=precision)[0] / rows
        square = together(map(squares, frames)).open(opener, precision=precision)[0] / rows
        spread = np.sqrt(np.clip(square - mean**2, 0.0, None))
        return np.asarray(np.random.default_rng(self.random_state).normal(mean, spread, shape))

    def _counted(
        self, hot: list[EncryptedFrame], frames: tuple[EncryptedFrame, ...], opener: Opener, precision: float
    ) -> npt.NDArray[np.int64]:
        for one, enc in zip(hot, frames, strict=True):
            if one.shape != (enc.n_rows, self.n_clusters):
                raise SchemaError(
                    f"assignments of shape {one.shape} came back for {enc.n_rows} rows and "
                    f"{self.n_clusters} clusters",
                    hint="use assigner(rows, evaluator) with the rows that were encrypted",
                )
        found = together(map(totals, hot)).open(opener, precision=precision)[0]
        counts: npt.NDArray[np.int64] = np.rint(found).astype(np.int64)
        rows = sum(enc.n_rows for enc in frames)
        if np.abs(found - counts).max() > 0.1 or counts.min() < 0 or counts.sum() != rows:
            raise SchemaError(
                f"assignments add up to {np.round(found, 3).tolist()} for {rows} rows",
                hint="find the owner who does not send a single 1 a row",
            )
        return counts

    @classmethod
    def from_sklearn(cls, fitted: Any) -> Self:
        """Model from a fitted scikit-learn ``KMeans`` or ``MiniBatchKMeans``.

        Raises
        ------
        SchemaError
            Not fitted, or another estimator.
        """
        (centres,) = fitted_parts(fitted, "cluster_centers_")
        return cls.from_plain(centres, getattr(fitted, "feature_names_in_", None))

    @classmethod
    def from_plain(cls, centers: npt.ArrayLike, columns: Sequence[str] | None = None) -> Self:
        """Model from centres of shape (k, d).

        Raises
        ------
        SchemaError
            Another shape, or a number is not finite.
        """
        centres = table(centers, "centers")
        return cls(len(centres), init=centres)._aim(centres, columns)

    def score(self, X: Any, y: Any = None, *, opener: Opener | None = None) -> float:  # noqa: ARG002, N803
        """Minus the sum of squared distances of rows in clear to their nearest centres; ``y`` is ignored."""
        return float(self.simulate(X).max(axis=1).sum() - np.sum(real_numbers(X, "X") ** 2))


def assigner(rows: pd.DataFrame | npt.ArrayLike, encryptor: KeyHolder | Evaluator) -> Assign:
    """Make what an owner of rows runs in a step of `KMeans`: nearest centres in clear, sent encrypted.

    Parameters
    ----------
    rows : DataFrame or array of shape (n, d)
        The rows that were encrypted, in the same order. They stay here.
    encryptor : Evaluator or KeyHolder
        Of the key that the frames are under; the public half is enough.

    Returns
    -------
    callable
        Centres (k, d) to an encrypted one-hot table of n rows × k columns.
    """
    own = table(rows, "rows")

    def nearest(centres: Array) -> EncryptedFrame:
        scores = 2.0 * own @ centres.T - np.sum(centres**2, axis=1)
        return encryptor.encrypt(one_hot(scores.argmax(axis=1), range(len(centres))), bounds=1.0)

    return nearest
