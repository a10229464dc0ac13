"""Gradient-boosted trees and random forests on encrypted rows."""

import math
from collections.abc import Sequence
from typing import Any, Final, Self

import numpy as np
import numpy.typing as npt
import pandas as pd

from twopm_kit.errors import CiphertextError, SchemaError
from twopm_kit.fhe.container import MAX_COLUMNS, MAX_NAME, ColumnHeader
from twopm_kit.fhe.engine import Engine
from twopm_kit.fhe.frame_html import counted
from twopm_kit.fhe.frames import EncryptedFrame, best_scale, computed_frame, rescale_noise
from twopm_kit.fhe.models.comparison import COMPARISON_LEVELS, NOISE_GAIN, minimax_sign, soft_bit
from twopm_kit.fhe.models.inputs import (
    Array,
    check_encrypted,
    choose_columns,
    floats,
    named_row,
    power_above,
    real_numbers,
)
from twopm_kit.fhe.models.multilinear import Bits
from twopm_kit.fhe.models.tree_nodes import (
    Tree,
    polynomials_of,
    predicates_of,
    pruned,
    ranges_of,
    slopes_of,
)
from twopm_kit.fhe.models.tree_reading import read_boosting, read_forest
from twopm_kit.fhe.profiles import PROFILES, Profile

__all__ = ["GradientBoosting", "RandomForest", "Tree", "TreeEnsemble"]

#: Binary digits that a plain factor has to have, from the largest result down.
_LEAST_DIGITS: Final = 13
_LONG_NAME: Final = MAX_NAME - 40
#: Hidden comparisons: quantiles of the calibration rows that spread a feature, and the range they take.
_KNOTS: Final = 33
_KNOT_RANGE: Final = 0.96
#: Soft bits pass 0 and 1 by a little, and scores their limits.
_SOFT_EXCESS: Final = 1.5


class TreeEnsemble:
    """A sum of decision trees on encrypted rows; use `GradientBoosting` or `RandomForest`.

    Two ways to ask it:

    * **Bits**, the default: the client computes each predicate ``feature <= threshold`` in clear with
      `encode`, and encrypts the bits. The client learns the list of predicates, so features and thresholds;
      how they form trees, and the leaf values, stay with the server. The server learns nothing of the rows.
      Exact.
    * **Hidden comparisons**: the client encrypts features, spread over [-1, 1] with ``encode(X,
      hidden=True)``, under the profile "deep". The server compares with polynomials. The client learns which
      features are used and quantiles of the calibration rows, and is told no threshold. Trees of depth 1
      and 2; values close to a threshold (`margin`) are decided in part only, so scores differ from the
      clear ones.

    `decision_function` tells the two apart by the column names.

    Notes
    -----
    The key owner sees scores. Many scores of chosen rows describe any model, and whoever sends numbers that
    are no bits learns faster: limit how many rows you answer. The noise of a result depends on the leaf
    values too; nothing hides that from the key owner, who is meant to follow the protocol.

    Parameters
    ----------
    trees : sequence of Tree
        Their leaf values are added up.
    base : ndarray of float64, shape (k,)
        Added to the k scores.
    width : int
        Features of a row.
    features : tuple of str, optional
        Their names.
    classes : ndarray, optional
        Classes that scores stand for; None for a regression.
    single : bool
        Round features to float32 before comparing, as scikit-learn's trees do.
    calibration : DataFrame or array-like of shape (n, d), optional
        Rows that may be known to the clients; needed for hidden comparisons.

    Raises
    ------
    SchemaError
        The trees decide nothing, have too many branches, ask for features that rows do not have, or give
        another number of scores than ``base``.
    """

    _score = "score"

    def __init__(
        self,
        trees: Sequence[Tree],
        base: Array,
        *,
        width: int,
        features: tuple[str, ...] | None = None,
        classes: npt.NDArray[Any] | None = None,
        single: bool = True,
        calibration: pd.DataFrame | npt.ArrayLike | None = None,
    ) -> None:
        _check_trees(trees, base, width, features)
        roots = [pruned(tree) for tree in trees]
        predicates = predicates_of(roots)
        if not 0 < len(predicates) <= MAX_COLUMNS:
            raise SchemaError(
                f"{counted(len(trees), 'tree')} with {counted(len(predicates), 'predicate')}; expected 1 to "
                f"{MAX_COLUMNS}",
                hint="fit trees that split" if not predicates else "fit fewer or smaller trees",
            )
        self.n_trees: Final = len(trees)
        self.n_features: Final = width
        self.features: Final = features
        self.classes_: Final = classes
        self._single = single
        self._index = {predicate: number for number, predicate in enumerate(predicates)}
        self._polynomials = polynomials_of(roots, base, self._index)
        self._limit = np.abs(np.stack(ranges_of(roots, base))).max(axis=0)
        self._slopes = slopes_of(roots, self._index, len(base))
        self.depth: Final = max(polynomial.degree for polynomial in self._polynomials)
        self._spread = None if calibration is None else self._spreads(calibration)

    # What everybody may know -----------------------------------------------------------------------------

    @property
    def predicates(self) -> pd.DataFrame:
        """Public list of predicates: a row each, with its name, feature and threshold."""
        rows = [
            (f"{name if len(name) <= _LONG_NAME else f'x{feature}'} <= {threshold!r}", name, threshold)
            for feature, threshold in self._index
            for name in (self._name(feature),)
        ]
        return pd.DataFrame(rows, columns=["predicate", "feature", "threshold"])

    @property
    def _bit_names(self) -> list[str]:
        return [str(name) for name in self.predicates["predicate"]]

    @property
    def columns(self) -> list[str]:
        """Names of the score columns."""
        k = len(self._polynomials)
        return [self._score] if k == 1 else [f"{self._score}_{i}" for i in range(k)]

    @property
    def margin(self) -> pd.DataFrame:
        """Hidden comparisons: for each predicate, how far from a threshold values are decided in part only.

        Returns
        -------
        pandas.DataFrame
            Indexed by predicate: ``below`` and ``above``, the first values of the feature that are decided
            to within ``error`` (of 1).
        """
        knots, sign = self._knots(), minimax_sign()
        rows = []
        for feature, threshold in self._index:
            x, y = knots[feature]
            place, reach = _place(threshold, x, y)
            ends = np.interp([place - sign.margin * reach, place + sign.margin * reach], y, x)
            rows.append((*map(float, ends), sign.error / 2.0))
        return pd.DataFrame(rows, columns=["below", "above", "error"], index=self.predicates["predicate"])

    def _name(self, feature: int) -> str:
        return f"x{feature}" if self.features is None else self.features[feature]

    # The client's side -----------------------------------------------------------------------------------

    def encode(self, X: pd.DataFrame | npt.ArrayLike, *, hidden: bool = False) -> pd.DataFrame:  # noqa: N803
        """Turn rows into what a client encrypts.

        Parameters
        ----------
        X : DataFrame, or array-like of shape (n, d)
            Rows in clear.
        hidden : bool
            False: a column of 0 and 1 for each predicate. True: the features that the model uses, spread over
            [-1, 1], for comparisons on the server.

        Returns
        -------
        DataFrame
            n rows.

        Raises
        ------
        SchemaError
            Columns are missing, values are not numbers, missing, infinite or beyond float32, or the model was
            made without calibration rows and hidden comparisons were asked for.
        """
        values = self._values(X)
        if not hidden:
            return pd.DataFrame(self._bits(values).astype(np.int8), columns=self._bit_names)
        knots = self._knots()
        return pd.DataFrame({self._name(f): np.interp(values[:, f], *knots[f]) for f in sorted(knots)})

    def _bits(self, values: Array) -> Array:
        features, thresholds = zip(*self._index, strict=True)
        return (values[:, list(features)] <= np.array(thresholds)).astype(np.float64)

    def _values(self, data: pd.DataFrame | npt.ArrayLike) -> Array:
        data = named_row(data)
        if isinstance(data, pd.DataFrame) and self.features is not None:
            names = {str(name): name for name in data.columns}
            wanted = choose_columns(self.features, names)
            data = data[[names[name] for name in wanted]]
        values = np.atleast_2d(floats(data, "X"))
        if values.ndim != 2 or values.shape[1] != self.n_features or len(values) == 0:
            raise SchemaError(
                f"rows of shape {values.shape} were passed; expected (n, {self.n_features})",
                hint="pass one row or more, with the columns that the model was fitted on",
            )
        if self._single:
            with np.errstate(over="ignore"):
                values = values.astype(np.float32).astype(np.float64)
        wrong = ~np.isfinite(values)
        if wrong.any():
            row, column = (int(i) for i in np.argwhere(wrong)[0])
            raise SchemaError(
                f"column {self._name(column)!r}, row {row}: the value is missing (NaN), infinite or too "
                f"large; {int(wrong.sum())} such values",
                hint="fill or drop these rows: a missing value has no side of a threshold",
            )
        return values

    def _spreads(self, calibration: pd.DataFrame | npt.ArrayLike) -> dict[int, tuple[Array, Array]]:
        """For each used feature, rising values of it and where in [-1, 1] they go.

        Quantiles go to even distances, so that few rows are near a threshold.
        """
        values = self._values(calibration)
        spread = {}
        for feature in sorted({f for f, _ in self._index}):
            x = np.quantile(values[:, feature], np.linspace(0.0, 1.0, _KNOTS))
            x, y = _distinct(x, np.linspace(-_KNOT_RANGE, _KNOT_RANGE, _KNOTS))
            if len(x) < 2:
                raise SchemaError(
                    f"column {self._name(feature)!r} has one value in all calibration rows",
                    hint="pass calibration rows that vary, such as a sample of the training rows",
                )
            end = 0.02 * (x[-1] - x[0])  # beyond the ends, where a threshold may lie too
            spread[feature] = (np.r_[x[0] - end, x, x[-1] + end], np.r_[-1.0, y, 1.0])
        return spread

    def _knots(self) -> dict[int, tuple[Array, Array]]:
        if self._spread is None:
            raise SchemaError(
                "hidden comparisons need the spread of the features, and the model was made without it",
                hint="pass calibration=rows to from_sklearn: a sample that clients may know quantiles of",
            )
        return self._spread

    # The server's side -----------------------------------------------------------------------------------

    def decision_function(self, enc: EncryptedFrame) -> EncryptedFrame:
        """Encrypted scores of encrypted rows.

        Parameters
        ----------
        enc : EncryptedFrame
            n rows of ``encode(X)``, or of ``encode(X, hidden=True)`` under a profile with levels for it.

        Returns
        -------
        EncryptedFrame
            n rows × k columns, at the last level.

        Raises
        ------
        SchemaError
            The columns are neither the predicates nor the features.
        CiphertextError
            Another layout or packing, numbers beyond 1, too few levels for the depth, a scale that is too
            coarse, or no evaluation keys.
        """
        check_encrypted(enc, "model.encode(X)")
        hidden = self._is_hidden(enc)
        if enc.layout.kind != "columns" or enc.packing != "real":
            raise CiphertextError(
                f"the frame has layout {enc.layout.kind!r} and packing {enc.packing!r}; bits are multiplied "
                "row by row",
                hint="encrypt with the defaults: holder.encrypt(model.encode(X))",
            )
        if max(enc.bounds.values()) > 1.0:
            raise CiphertextError(
                f"the columns have bounds up to {max(enc.bounds.values()):g}; expected numbers of at most 1",
                hint="encrypt what model.encode(X) returned, without bounds=",
            )
        levels = enc.level - (COMPARISON_LEVELS if hidden else 0)
        self._check_levels(enc, levels, hidden)
        return self._apply(enc, levels, hidden)

    def predict(self, enc: EncryptedFrame) -> EncryptedFrame:
        """Encrypted scores, as `decision_function` gives them: no ciphertext can tell which is largest.

        Whoever opens them goes on in clear: ``classes_of(opened)`` of a classifier; scores of a regression
        are its predictions.
        """
        return self.decision_function(enc)

    def _is_hidden(self, enc: EncryptedFrame) -> bool:
        predicates = self._bit_names
        found = set(enc.columns)
        if found.issuperset(predicates):
            return False
        if self._spread is not None and found.issuperset(map(self._name, self._spread)):
            return True
        missing = [name for name in predicates if name not in found]
        raise SchemaError(
            f"the frame lacks {len(missing)} of the model's {len(predicates)} predicates: "
            f"{', '.join(missing[:4])}",
            hint="encrypt model.encode(X); for hidden comparisons make the model with calibration=rows and "
            "encrypt model.encode(X, hidden=True)",
        )

    def _check_levels(self, enc: EncryptedFrame, levels: int, hidden: bool) -> None:
        least = max(polynomial.least_levels for polynomial in self._polynomials)
        if levels >= least:
            return
        needed = least + (COMPARISON_LEVELS if hidden else 0)
        usable = [
            p.name
            for p in PROFILES.values()
            if p.levels >= needed and (p.levels > needed or self._fine_enough(p, p.scale_bits))
        ]
        left = f"max_depth={1 << max(levels, 0)}" if levels > 0 else "shallower trees"
        ways = [f"encrypt with profile {' or '.join(map(repr, usable))}"] if usable else []
        if hidden:
            ways.append("send bits, model.encode(X)")
        ways.append(f"fit with {left}")
        raise CiphertextError(
            f"trees of depth {self.depth} need {needed} levels"
            + (f", {COMPARISON_LEVELS} of them for comparisons" if hidden else "")
            + f"; the frame is at level {enc.level} of profile {enc.profile!r}",
            hint=", or ".join(ways),
        )

    def _fine_enough(self, profile: Profile, scale_bits: float) -> bool:
        """Whether a plain factor keeps enough digits beside two bits, without a level of its own."""
        return self.depth < 2 or profile.bits[0] - 1.5 + profile.bits[1] - 2 * scale_bits > _LEAST_DIGITS

    def _apply(self, enc: EncryptedFrame, levels: int, hidden: bool) -> EncryptedFrame:
        engine = enc.engine
        exact = all(polynomial.is_exact(levels) for polynomial in self._polynomials)
        if not exact and not self._fine_enough(engine.profile, math.log2(enc.scale)):
            raise CiphertextError(
                f"level {enc.level} of profile {enc.profile!r} leaves too few digits for leaf values in "
                f"trees of depth {self.depth}",
                hint="encrypt with profile 'trees' (depth up to 4) or 'deep' without dropping levels, or fit "
                "with max_depth=4",
            )
        heads = self._heads(engine, enc, levels, hidden)
        if hidden or self.depth > 1:
            enc.keys()  # says what is missing before anything is computed

        def relinearize(cipher: Any) -> Any:
            return enc.keys().relinearize(cipher)

        names = list(map(self._name, self._spread or ())) if hidden else self._bit_names
        ciphers = {name: enc.ciphers(name) for name in names}
        results: list[list[Any]] = [[] for _ in heads]
        for block in range(len(ciphers[names[0]])):
            here = {name: found[block] for name, found in ciphers.items()}
            inputs = self._soft_bits(engine, relinearize, here) if hidden else list(here.values())
            bits = Bits(engine, relinearize, inputs)
            for column, polynomial, head in zip(results, self._polynomials, heads, strict=True):
                column.append(polynomial.apply(bits, levels, head.scale))
        return computed_frame(enc, list(zip(heads, results, strict=True)), 0)

    def _soft_bits(self, engine: Engine, relinearize: Any, here: dict[str, Any]) -> list[Any]:
        knots = self._knots()
        return [
            soft_bit(engine, relinearize, here[self._name(f)], *_place(t, *knots[f])) for f, t in self._index
        ]

    def _heads(self, engine: Engine, enc: EncryptedFrame, levels: int, hidden: bool) -> list[ColumnHeader]:
        spread = math.sqrt(engine.profile.degree / 2.0)  # a coefficient's error as seen on a value
        rounding = rescale_noise(engine) * spread
        fresh = max(h.noise / h.scale for h in enc.heads) * spread
        one = NOISE_GAIN * rounding / enc.scale if hidden else fresh
        reach = _SOFT_EXCESS if hidden else 1.0
        heads = []
        for j, (name, polynomial) in enumerate(zip(self.columns, self._polynomials, strict=True)):
            bound = power_above(max(reach * float(self._limit[j]), 2.0**-40))
            scale = best_scale(engine, 0, bound, most_bits=60.0, what=f"the column {name!r}")
            lent = one * float(self._slopes[j]) * scale / spread
            noise = math.hypot(lent, polynomial.noise(levels, engine, enc.scale, scale))
            # powers of two: the header goes to the key owner, who need not learn norms of the leaf values
            heads.append(ColumnHeader(name, bound, scale, power_above(noise)))
        return heads

    # In clear --------------------------------------------------------------------------------------------

    def simulate(self, X: pd.DataFrame | npt.ArrayLike, *, hidden: bool = False) -> Array:  # noqa: N803
        """Scores by the same arithmetic in clear.

        Parameters
        ----------
        X : DataFrame or array of shape (n, d); Series or array of shape (d,) for one row
            Features; the index of a Series names them.
        hidden : bool
            With soft bits, as hidden comparisons make them.

        Returns
        -------
        ndarray of float64, shape (n,) or (n, k)
        """
        bits = self._soft_clear(X) if hidden else self._bits(self._values(X))
        scores = np.stack([polynomial.values(bits) for polynomial in self._polynomials], axis=1)
        return scores.ravel() if scores.shape[1] == 1 else scores

    def _soft_clear(self, data: pd.DataFrame | npt.ArrayLike) -> Array:
        spread = self.encode(data, hidden=True)
        sign, knots = minimax_sign(), self._knots()
        bits = []
        for feature, threshold in self._index:
            place, reach = _place(threshold, *knots[feature])
            bits.append(0.5 + 0.5 * sign((place - spread[self._name(feature)].to_numpy()) / reach))
        return np.stack(bits, axis=1)

    def probabilities(self, scores: pd.DataFrame | npt.ArrayLike) -> Array:
        """Probabilities of the classes of decrypted scores, in clear.

        Parameters
        ----------
        scores : DataFrame or array of shape (n,), (n, 1) or (n, k)
            As the key owner decrypted them, or `simulate` returned them.

        Returns
        -------
        ndarray of float64, shape (n, number of classes)

        Raises
        ------
        SchemaError
            The model is a regression, or the shape is another.
        """
        if self.classes_ is None:
            raise SchemaError(
                "the model is a regression: its scores are its predictions", hint="use the scores themselves"
            )
        values = self._scores(scores)
        if values.shape[1] == 1:
            second = self._link(values)
            return np.concatenate((1.0 - second, second), axis=1)
        return self._link(values)

    def classes_of(self, scores: pd.DataFrame | npt.ArrayLike) -> npt.NDArray[Any]:
        """Classes of decrypted scores, in clear: the most probable one; see `probabilities`."""
        return np.asarray(np.asarray(self.classes_)[self.probabilities(scores).argmax(axis=1)])

    def score(
        self,
        X: pd.DataFrame | npt.ArrayLike,  # noqa: N803
        y: npt.ArrayLike,
        *,
        hidden: bool = False,
    ) -> float:
        """Accuracy, or R² of a regression, of `simulate` on rows in clear."""
        found, truth = self.simulate(X, hidden=hidden), np.asarray(y)
        if truth.shape != (len(found),):
            raise SchemaError(
                f"{len(found)} rows and y of shape {truth.shape} were passed",
                hint="pass one label for each row",
            )
        if self.classes_ is not None:
            return float((self.classes_of(found) == truth).mean())
        return float(1.0 - ((truth - found) ** 2).sum() / ((truth - truth.mean()) ** 2).sum())

    def _scores(self, scores: pd.DataFrame | npt.ArrayLike) -> Array:
        values = real_numbers(scores, "scores")
        values = values.reshape(-1, 1) if values.ndim == 1 else values
        if values.ndim != 2 or values.shape[1] != len(self._polynomials):
            raise SchemaError(
                f"scores of shape {np.shape(scores)} were passed; expected {len(self._polynomials)} a row",
                hint="pass what holder.decrypt(model.decision_function(enc)) returned",
            )
        return values

    def _link(self, scores: Array) -> Array:
        """Probability of the second class for one score a row, of all classes for several."""
        return np.clip(scores, 0.0, 1.0)

    def __repr__(self) -> str:
        k = len(self._polynomials)
        return (
            f"<encrypted {type(self).__name__}: {counted(self.n_trees, 'tree')} of depth up to {self.depth}, "
            f"{len(self._index)} predicates, {k} score{'s' if k > 1 else ''}>"
        )


class GradientBoosting(TreeEnsemble):
    """Gradient-boosted trees on encrypted rows; see `TreeEnsemble` for what each side learns.

    Scores are those of scikit-learn's ``decision_function``: log-odds, one a row for two classes, one for
    each of more classes; for a regression, predictions.

    Examples
    --------
    >>> from sklearn.datasets import load_breast_cancer
    >>> from sklearn.ensemble import GradientBoostingClassifier
    >>> from twopm_kit import fhe
    >>> from twopm_kit.fhe.models.trees import GradientBoosting
    >>> x, y = load_breast_cancer(return_X_y=True)
    >>> fitted = GradientBoostingClassifier(n_estimators=3, max_depth=2, random_state=0).fit(x, y)
    >>> model = GradientBoosting.from_sklearn(fitted)
    >>> holder = fhe.KeyHolder.generate("trees")
    >>> scores = holder.decrypt(model.decision_function(holder.encrypt(model.encode(x))))
    >>> bool((model.classes_of(scores) == fitted.predict(x)).all())
    True
    """

    _slope = 1.0

    @classmethod
    def from_sklearn(cls, fitted: Any, *, calibration: pd.DataFrame | npt.ArrayLike | None = None) -> Self:
        """Model from a fitted ``(Hist)GradientBoostingClassifier`` or ``(Hist)GradientBoostingRegressor``.

        Parameters
        ----------
        fitted : estimator
            As scikit-learn fitted it.
        calibration : DataFrame or array-like of shape (n, d), optional
            For hidden comparisons: rows whose quantiles clients may know.

        Raises
        ------
        SchemaError
            Another estimator, not fitted, a custom ``init``, categorical splits, or a loss whose predictions
            are not the scores.
        """
        trees, base, single = read_boosting(fitted)
        model = cls(trees, base, **_facts(fitted, calibration), single=single)
        model._slope = 2.0 if getattr(fitted, "loss", None) == "exponential" else 1.0
        return model

    def _link(self, scores: Array) -> Array:
        if scores.shape[1] == 1:
            # tanh form: no overflow on either side
            return np.asarray(0.5 * (1.0 + np.tanh(0.5 * self._slope * scores)))
        raised = np.exp(scores - scores.max(axis=1, keepdims=True))
        return np.asarray(raised / raised.sum(axis=1, keepdims=True))


class RandomForest(TreeEnsemble):
    """Averaged trees on encrypted rows; see `TreeEnsemble` for what each side learns.

    Scores are probabilities: of the second class for two classes, of each class for more; for a regression,
    predictions.
    """

    _score = "probability"

    @property
    def columns(self) -> list[str]:
        """Names of the score columns: "probability", "probability_0", …, or "score" for a regression."""
        return ["score"] if self.classes_ is None else super().columns

    @classmethod
    def from_sklearn(cls, fitted: Any, *, calibration: pd.DataFrame | npt.ArrayLike | None = None) -> Self:
        """Model from a fitted random forest, extra trees or single decision tree of scikit-learn.

        Parameters
        ----------
        fitted : estimator
            As scikit-learn fitted it, with one output.
        calibration : DataFrame or array-like of shape (n, d), optional
            For hidden comparisons: rows whose quantiles clients may know.

        Raises
        ------
        SchemaError
            Another estimator, not fitted, or with several outputs.
        """
        trees = read_forest(fitted)
        base = np.zeros(trees[0].values.shape[1])
        return cls(trees, base, **_facts(fitted, calibration))


def _check_trees(trees: Sequence[Tree], base: Array, width: int, features: tuple[str, ...] | None) -> None:
    k, asked = len(base), max((int(tree.feature.max()) for tree in trees), default=-1)
    if asked >= width or (features is not None and len(features) != width):
        raise SchemaError(
            f"trees that ask for feature {asked} were passed for rows of {width} features"
            + ("" if features is None else f" with {len(features)} names"),
            hint="pass width= and features= of the rows that the trees were fitted on",
        )
    if any(tree.values.shape != (len(tree.feature), k) for tree in trees):
        raise SchemaError(f"base has {k} scores; the trees give others", hint="pass values of shape (m, k)")


def _facts(fitted: Any, calibration: Any) -> dict[str, Any]:
    names = getattr(fitted, "feature_names_in_", None)
    return {
        "width": int(fitted.n_features_in_),
        "features": None if names is None else tuple(map(str, names)),
        "classes": getattr(fitted, "classes_", None),
        "calibration": calibration,
    }


def _distinct(x: Array, y: Array) -> tuple[Array, Array]:
    """Each place once, with the middle of where its copies went."""
    places, inverse = np.unique(x, return_inverse=True)
    return places, np.bincount(inverse, weights=y) / np.bincount(inverse)


def _place(threshold: float, x: Array, y: Array) -> tuple[float, float]:
    """Where a threshold goes in [-1, 1], and the largest distance from there."""
    place = float(np.interp(threshold, x, y))
    return place, 1.0 + abs(place)
