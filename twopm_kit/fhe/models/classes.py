"""Classes: labels to encrypt, means of classes that one party opens, and the class of the largest score."""

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import pandas as pd

from twopm_kit.errors import SchemaError
from twopm_kit.fhe.flooding import DEFAULT_PRECISION
from twopm_kit.fhe.models.forms import Scorer
from twopm_kit.fhe.models.inputs import Array, real_numbers
from twopm_kit.fhe.models.moments import Opener, products, together, totals
from twopm_kit.fhe.models.training import Encrypted, TrainingData, training_data

__all__ = ["Classifier", "MeansClassifier", "one_hot"]


class Classifier(Scorer):
    """Scores of classes: the key owner opens them, and takes the largest in clear.

    Attributes
    ----------
    classes_ : ndarray of shape (k,)
        In the order of the scores; of two classes with one score, the second has those above 0.
    """

    classes_: npt.NDArray[Any]

    def classes_of(self, scores: pd.DataFrame | npt.ArrayLike) -> npt.NDArray[Any]:
        """Class of each row from opened scores, in clear: that of the largest; of one score, by its sign.

        Parameters
        ----------
        scores : DataFrame or array of shape (n, k), or (n, 1) or (n,) for two classes
            As the key owner opened them, or `simulate` returned them.

        Raises
        ------
        SchemaError
            Another number of scores.
        """
        self._ready()
        values, k = real_numbers(scores, "scores"), len(self.classes_)
        values = values.reshape(-1, 1) if values.ndim == 1 else values
        if values.ndim != 2 or values.shape[1] not in ((1, 2) if k == 2 else (k,)):
            raise SchemaError(
                f"scores of shape {values.shape} were passed for {k} classes",
                hint="pass what holder.decrypt(model.decision_function(enc)) gives",
            )
        signed = values.shape[1] < k
        winner = (values[:, 0] > 0.0).astype(np.intp) if signed else values.argmax(axis=1)
        return np.asarray(self.classes_[winner])

    def _quality(self, scores: Array, truth: npt.NDArray[Any]) -> float:
        if truth.ndim == 2 and truth.shape[1] > 1:
            truth = self.classes_[truth.argmax(axis=1)]
        return float(np.mean(self.classes_of(scores) == truth.ravel()))


class MeansClassifier(Classifier):
    """A classifier that is made of the means of encrypted rows with encrypted labels.

    Attributes
    ----------
    counts_ : ndarray of int64, shape (k,)
        Rows of each class, after `fit`.
    """

    counts_: npt.NDArray[np.int64]

    def fit(
        self,
        enc_X: Encrypted,  # noqa: N803
        enc_y: Encrypted,
        *,
        opener: Opener,
        classes: Sequence[Any] | None = None,
        precision: float = DEFAULT_PRECISION,
    ) -> Self:
        """Fit on encrypted rows with encrypted labels. The server learns nothing.

        Parameters
        ----------
        enc_X : EncryptedFrame, n rows × d columns, or a list of them
            Fresh, in columns, under a profile with a level. Several frames, such as one of each hospital, all
            under one key, are fitted as one table: only sums over all of them are opened.
        enc_y : EncryptedFrame, n rows × k columns, or a list of them
            ``holder.encrypt(one_hot(y), bounds=1)``, or an encrypted column of categories: the same rows in
            the same order.
        opener : KeyHolder or Committee
            Learns class sizes and class sums, k + k d numbers; for linear discriminants also the products of
            columns, d (d + 1) / 2 numbers.
        classes : sequence, optional
            What the columns of ``enc_y`` stand for; categories or column names without it.
        precision : float
            Largest error that flooding adds to an opened sum.

        Raises
        ------
        SchemaError
            Not encrypted, different columns or rows, labels that are not a single 1 a row, a class without
            rows, or rows and columns too few for what was asked.
        CiphertextError
            No level for a product, another layout, missing values, or a sum that may not fit.
        WrongKey
            Under different keys, or not the opener's.
        """
        data = training_data(enc_X, enc_y, opener)
        names, counts, sums = _class_sums(data, opener, classes, precision)
        self._learn(data, counts, sums / counts[:, None], opener, precision)
        self.classes_, self.counts_ = names, counts
        return self

    @abstractmethod
    def _learn(
        self,
        data: TrainingData,
        counts: npt.NDArray[np.int64],
        means: Array,
        opener: Opener,
        precision: float,
        /,
    ) -> None:
        """Settle on means (k, d) of classes with so many rows."""


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


def _class_sums(
    data: TrainingData,
    opener: Opener,
    classes: Sequence[Any] | None,
    precision: float,
) -> tuple[npt.NDArray[Any], npt.NDArray[np.int64], npt.NDArray[np.float64]]:
    """Open classes (k,), rows of each (k,) and sums over their rows (k, d).

    Classes are the given ones, the categories of a single categorical column, or the names of the columns.

    Raises
    ------
    SchemaError
        Labels are not a single 1 a row, or a class has no row.
    """
    labels = data.targets[0]
    groups = list(labels.categories.values())
    own = groups[0] if len(groups) == 1 and len(groups[0]) == len(labels.columns) else labels.columns
    names = np.asarray(own if classes is None else classes)
    if len(names) != len(labels.columns) or len(names) < 2:
        raise SchemaError(
            f"{len(names)} classes were passed for {len(labels.columns)} columns of labels; two are needed",
            hint="encrypt one_hot(y) and pass one class for each of its columns",
        )
    sums = together(map(products, data.targets, data.rows))
    found = together(map(totals, data.targets)).open(opener, precision=precision)[0]
    counts = np.rint(found).astype(np.int64)
    if np.abs(found - counts).max() > 0.1 or counts.min() < 1 or counts.sum() != data.n_rows:
        raise SchemaError(
            f"the labels add up to {np.round(found, 3).tolist()} over {data.n_rows} rows; expected a single "
            "1 in each row and every class in one row or more",
            hint="encrypt one_hot(y) of the same rows, and leave out classes without rows",
        )
    return names, counts, sums.open(opener, precision=precision)
