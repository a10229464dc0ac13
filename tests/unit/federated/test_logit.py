"""Logistic regression over nodes equals the pooled fit."""

import numpy as np
import pytest
import statsmodels.api as sm

from twopm_kit import datasets, errors
from twopm_kit.federated import LocalNetwork, LogitTask, Moments

FEATURES = ["GPA", "TUCE", "PSI"]


@pytest.fixture(scope="module")
def spector():
    return datasets.load("spector")


def test_spector_matches_the_pooled_fit(spector):
    result = LocalNetwork(spector, n_nodes=3).run(LogitTask("spector", target="GRADE", features=FEATURES))
    pooled = sm.Logit(spector["GRADE"], sm.add_constant(spector[FEATURES])).fit(disp=0, tol=1e-12)
    assert result.converged
    np.testing.assert_allclose(result.params, pooled.params[result.params.index], atol=1e-6)
    np.testing.assert_allclose(result.bse, pooled.bse[result.bse.index], atol=1e-5)
    np.testing.assert_allclose(result.pvalues, pooled.pvalues[result.pvalues.index], atol=1e-6)
    np.testing.assert_allclose(
        result.conf_int().to_numpy(), pooled.conf_int().loc[result.params.index].to_numpy(), atol=1e-4
    )
    assert result.llf == pytest.approx(pooled.llf, abs=1e-6)
    assert result.nobs == 32
    assert list(result.summary().index) == ["const", *FEATURES]


def test_a_dropped_node_leaves_the_fit_of_the_others(spector):
    parts = datasets.partition(spector, 4, seed=1)
    result = LocalNetwork(parts).run(
        LogitTask("spector", target="GRADE", features=["GPA"]), drop={r: [3] for r in range(1, 26)}
    )
    import pandas as pd

    rest = pd.concat(parts[:3])
    pooled = sm.Logit(rest["GRADE"], sm.add_constant(rest[["GPA"]])).fit(disp=0)
    np.testing.assert_allclose(result.params, pooled.params[result.params.index], atol=1e-6)
    assert result.nobs == len(rest)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda f: f.drop(columns="GPA"), "GPA"),
        (lambda f: f.assign(GPA=f["GPA"].where(f["GPA"] < 3.5)), "nan"),
        (lambda f: f.assign(GPA="high"), "dtype"),
        (lambda f: f.assign(GRADE=2), "only 0 and 1"),
        (lambda f: f.iloc[:0], "no rows"),
    ],
)
def test_unfit_rows_are_named_before_anything_happens(spector, change, words):
    parts = datasets.partition(spector, 3, seed=1)
    network = LocalNetwork([*parts[:2], change(parts[2])])
    spent = network.chain.ledger.total()
    with pytest.raises(errors.SchemaError, match=words):
        network.run(LogitTask("spector", target="GRADE", features=FEATURES))
    assert network.chain.ledger.total() == spent


@pytest.mark.parametrize(
    "arguments",
    [
        {"features": []},
        {"features": ["GRADE"]},
        {"features": ["GPA", "GPA"]},
        {"features": ["GPA"], "min_clients": 1},
        {"features": ["GPA"], "min_clients": 5, "max_clients": 4},
        {"features": ["GPA"], "tolerance": 0.0},
        {"features": ["GPA"], "max_rounds": 0},
    ],
)
def test_contradicting_tasks(arguments):
    with pytest.raises(errors.TaskError) as raised:
        LogitTask("t", target="GRADE", **arguments)
    assert raised.value.hint


def test_statistics_beyond_the_bound_are_refused_not_cut(spector):
    with pytest.raises(errors.RoundAborted, match="bound"):
        LocalNetwork(spector, n_nodes=2).run(
            LogitTask("spector", target="GRADE", features=FEATURES, bound=10.0)
        )


def test_collinear_features_are_named(spector):
    frame = spector.assign(twice=2 * spector["GPA"])
    with pytest.raises(errors.TaskError, match="singular"):
        LocalNetwork(frame, n_nodes=2).run(LogitTask("t", target="GRADE", features=["GPA", "twice"]))


def test_moments_equal_pooled_statistics():
    frame = datasets.load("breast_cancer").drop(columns="target")
    result = LocalNetwork(frame, n_nodes=4).run(Moments("standardise", list(frame.columns)))
    assert result.count == len(frame)
    np.testing.assert_allclose(result.mean, frame.mean(), rtol=1e-6)
    np.testing.assert_allclose(result.std, frame.std(), rtol=1e-6)
    scaled = result.standardize(frame)
    assert np.abs(scaled.mean()).max() < 1e-6
    assert np.abs(scaled.std() - 1).max() < 1e-6
    with pytest.raises(errors.SchemaError, match="not in the frame"):
        result.standardize(frame.iloc[:, :3])


@pytest.mark.parametrize(
    "arguments",
    [
        {"features": "GPA"},
        {"features": ["const"]},
        {"features": ["GPA"], "bound": float("nan")},
        {"features": ["GPA"], "wait_timeout": 0},
        {"features": ["GPA"], "connection_timeout": "5"},
        {"features": ["GPA"], "max_rounds": "2"},
        {"features": ["GPA"], "min_clients": 2.5},
        {"features": ["GPA"], "name": ""},
        {"features": ["GPA"], "name": 3},
    ],
)
def test_slips_are_named_where_they_are_made(arguments):
    options = dict(arguments)
    name = options.pop("name", "t")
    with pytest.raises(errors.TaskError) as raised:
        LogitTask(name, "GRADE", **options)
    assert raised.value.hint


def test_names_and_numbers_from_pandas_and_numpy_are_taken(spector):
    task = LogitTask("t", "GRADE", spector.columns[:1], max_rounds=np.int64(9), min_clients=np.int64(2))
    result = LocalNetwork(spector, n_nodes=np.int64(3)).run(task, drop={np.int64(1): [np.int64(0)]})
    assert result.converged
    assert "converged, 32 rows" in repr(result)
    short = LocalNetwork(spector, n_nodes=3).run(LogitTask("t", "GRADE", ["GPA"], max_rounds=1))
    assert "NOT converged" in repr(short)


def test_newton_does_not_wander_over_other_nodes_in_each_round(spector):
    network = LocalNetwork(spector, n_nodes=4)
    for task in (LogitTask("t", "GRADE", ["GPA"], max_clients=3), Moments("m", ["GPA"], max_clients=3)):
        with pytest.raises(errors.TaskError, match="other nodes of 4"):
            network.run(task)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda f: f.assign(GPA=f["GPA"].astype(complex)), r"node-2: column 'GPA' has dtype complex"),
        (lambda f: f[["GPA", "GPA", "GRADE"]], r"node-2: columns .* more than once"),
    ],
)
def test_odd_columns_are_named_with_their_node(spector, change, words):
    parts = datasets.partition(spector, 2, label="GRADE", seed=1)
    with pytest.raises(errors.SchemaError, match=words):
        LocalNetwork([parts[0], change(parts[1])]).run(LogitTask("t", "GRADE", ["GPA"]))


@pytest.mark.parametrize("columns", ["GPA", [], ["GPA", "GPA"]])
def test_columns_of_moments_are_a_list(columns):
    with pytest.raises(errors.TaskError):
        Moments("m", columns)
