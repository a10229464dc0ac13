"""Reading the trees of fitted scikit-learn estimators."""

from typing import Any

import numpy as np
import pandas as pd

from twopm_kit.errors import SchemaError
from twopm_kit.fhe.models.inputs import Array
from twopm_kit.fhe.models.tree_nodes import Tree

__all__ = ["read_boosting", "read_forest"]


def read_boosting(fitted: Any) -> tuple[list[Tree], Array, bool]:
    """Trees, constant, and whether features are compared in float32, of a gradient boosting.

    Raises
    ------
    SchemaError
        Another estimator, not fitted, a custom ``init``, categorical splits, or a loss whose predictions are
        not the scores.
    """
    from sklearn import ensemble

    plain = (ensemble.GradientBoostingClassifier, ensemble.GradientBoostingRegressor)
    histogram = (ensemble.HistGradientBoostingClassifier, ensemble.HistGradientBoostingRegressor)
    if isinstance(fitted, plain):
        _check_fitted(fitted, "estimators_")
        return (*_boosted(fitted), True)
    if isinstance(fitted, histogram):
        _check_fitted(fitted, "n_features_in_")
        return (*_histogram_boosted(fitted), False)
    raise _unknown(fitted, plain + histogram)


def read_forest(fitted: Any) -> list[Tree]:
    """Trees of a forest or of a single decision tree; their sum is the mean prediction.

    Raises
    ------
    SchemaError
        Another estimator, not fitted, or with several outputs.
    """
    from sklearn import ensemble, tree

    forests = (
        ensemble.RandomForestClassifier,
        ensemble.RandomForestRegressor,
        ensemble.ExtraTreesClassifier,
        ensemble.ExtraTreesRegressor,
    )
    single = (tree.DecisionTreeClassifier, tree.DecisionTreeRegressor)
    if isinstance(fitted, single):
        _check_fitted(fitted, "tree_")
        members = [fitted]
    elif isinstance(fitted, forests):
        _check_fitted(fitted, "estimators_")
        members = list(fitted.estimators_)
    else:
        raise _unknown(fitted, forests + single)
    if fitted.n_outputs_ != 1:
        raise SchemaError(
            f"the {type(fitted).__name__} has {fitted.n_outputs_} outputs; expected one",
            hint="fit one model for each output",
        )
    trees = []
    for member in members:
        values = member.tree_.value[:, 0, :]
        if hasattr(fitted, "classes_"):
            values = values / values.sum(axis=1, keepdims=True)
            values = values[:, 1:] if values.shape[1] == 2 else values
        trees.append(_cart(member.tree_, values / len(members)))
    return trees


def _check_fitted(fitted: Any, attribute: str) -> None:
    if not hasattr(fitted, attribute):
        raise SchemaError(
            f"a {type(fitted).__name__} that is not fitted was passed", hint="call .fit(X, y) first"
        )


def _unknown(fitted: Any, known: tuple[type, ...]) -> SchemaError:
    return SchemaError(
        f"a {type(fitted).__name__} was passed; expected one of {', '.join(k.__name__ for k in known)}",
        hint="fit one of these; from a Pipeline pass its last step, and its other steps over the rows",
    )


def _cart(tree: Any, values: Array) -> Tree:
    return Tree(
        np.where(tree.children_left < 0, -1, tree.feature).astype(np.int64),
        np.asarray(tree.threshold, dtype=np.float64),
        tree.children_left.astype(np.int64),
        tree.children_right.astype(np.int64),
        np.ascontiguousarray(values, dtype=np.float64),
    )


def _boosted(fitted: Any) -> tuple[list[Tree], Array]:
    if fitted.init is not None and fitted.init != "zero":
        raise SchemaError(
            f"the {type(fitted).__name__} starts from init={fitted.init!r}, which need not be a constant",
            hint="fit with init=None or init='zero'",
        )
    k = fitted.estimators_.shape[1]
    trees = []
    added = np.zeros(k)  # by the trees to the score of one row, any row
    row = np.zeros((1, fitted.n_features_in_))
    for stage in fitted.estimators_:
        for j, member in enumerate(stage):
            trees.append(_cart(member.tree_, _at(fitted.learning_rate * member.tree_.value[:, 0, 0], j, k)))
            added[j] += fitted.learning_rate * float(member.predict(row)[0])
    names = getattr(fitted, "feature_names_in_", None)
    named = row if names is None else pd.DataFrame(row, columns=names)
    whole = fitted.decision_function if hasattr(fitted, "classes_") else fitted.predict
    return trees, np.asarray(whole(named), dtype=np.float64).ravel() - added


def _histogram_boosted(fitted: Any) -> tuple[list[Tree], Array]:
    if fitted.is_categorical_ is not None and np.any(fitted.is_categorical_):
        raise SchemaError(
            f"the {type(fitted).__name__} splits on categories, which are no thresholds",
            hint="encode categories as numbers (one column each) and fit with categorical_features=None",
        )
    if getattr(fitted, "loss", "") in ("gamma", "poisson"):
        raise SchemaError(
            f"the loss {fitted.loss!r} predicts the exponential of the score",
            hint="fit the logarithm of the target with loss='squared_error'",
        )
    base = np.asarray(fitted._baseline_prediction, dtype=np.float64).ravel()
    trees = []
    for stage in fitted._predictors:
        for j, predictor in enumerate(stage):
            nodes = predictor.nodes
            trees.append(
                Tree(
                    np.where(nodes["is_leaf"] == 1, -1, nodes["feature_idx"]).astype(np.int64),
                    nodes["num_threshold"].astype(np.float64),
                    nodes["left"].astype(np.int64),
                    nodes["right"].astype(np.int64),
                    _at(nodes["value"], j, len(base)),
                )
            )
    return trees, base


def _at(values: Array, column: int, k: int) -> Array:
    full = np.zeros((len(values), k))
    full[:, column] = values
    return full
