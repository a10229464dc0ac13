"""Logistic regression over nodes equals the pooled fit."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import statsmodels.api as sm
from sklearn.linear_model import LogisticRegression

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
    np.testing.assert_allclose(result.bse, pooled.bse[result.bse.index], atol=1e-6)
    np.testing.assert_allclose(result.pvalues, pooled.pvalues[result.pvalues.index], atol=1e-6)
    np.testing.assert_allclose(
        result.conf_int().to_numpy(), pooled.conf_int().loc[result.params.index].to_numpy(), atol=1e-6
    )
    assert result.llf == pytest.approx(pooled.llf, abs=1e-6)
    assert result.nobs == 32
    assert (result.df_model, result.df_resid) == (3, 28)
    for name in ("llnull", "prsquared", "llr", "llr_pvalue", "aic", "bic"):
        assert getattr(result, name) == pytest.approx(getattr(pooled, name), abs=1e-6)
    np.testing.assert_allclose(result.predict(spector), pooled.predict(), atol=1e-6)
    # The published table, to its printed digits.
    assert result.params.round(4).tolist() == [-13.0213, 2.8261, 0.0952, 2.3787]
    assert [f"{error:.4g}" for error in result.bse] == ["4.931", "1.263", "0.1416", "1.065"]


def test_the_summary_is_a_frame_that_shows_the_whole_fit(spector):
    task = LogitTask("<i>grades</i>", target="GRADE", features=FEATURES)
    summary = LocalNetwork(spector, n_nodes=3).run(task).summary()
    assert list(summary.index) == ["const", *FEATURES]
    assert summary.loc["GPA", "coef"] == pytest.approx(2.8261, abs=1e-4)
    assert type(summary.round(2)) is pd.DataFrame
    text = repr(summary)
    for shown in ("log-likelihood", "-12.8896", "pseudo R²", "0.3740", "-13.0213", "4.931", "-22.687"):
        assert shown in text
    assert len({len(line) for line in text.splitlines() if line.startswith("─")}) == 1
    html = summary._repr_html_()
    assert "<i>" not in html
    assert "-13.0213" in html


def test_a_dropped_node_leaves_the_fit_of_the_others(spector):
    parts = datasets.partition(spector, 4, seed=1)
    result = LocalNetwork(parts).run(
        LogitTask("spector", target="GRADE", features=["GPA"]), drop={r: [3] for r in range(1, 26)}
    )
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


@pytest.mark.parametrize(
    ("change", "features", "words"),
    [
        (lambda f: {"x": 2 * f["GPA"]}, ["GPA", "TUCE", "x"], "'GPA', 'x' determine each other"),
        (lambda _: {"x": 3.5}, ["GPA", "x"], "'x' is constant"),
        (lambda _: {"x": 0}, ["GPA", "x"], "'x' is zero in every row"),
        (lambda f: {"x": f["GRADE"] * 2 - 1 + f["GPA"] / 9}, ["x"], "separate the classes"),
        (lambda f: {"x": f["GRADE"] * f["PSI"]}, ["x"], "'x' separate the classes of 'GRADE'"),
        (lambda _: {"GRADE": 1}, ["GPA"], "no row over all nodes has 'GRADE' = 0"),
    ],
)
def test_what_has_no_best_fit_is_named(spector, change, features, words):
    frame = spector.assign(**change(spector))
    network = LocalNetwork(frame, n_nodes=2)
    with pytest.raises(errors.TaskError, match=words) as raised:
        network.run(LogitTask("t", target="GRADE", features=features, max_rounds=40))
    assert raised.value.hint


def test_ridge_equals_the_penalised_pooled_fit_and_helps_where_classes_are_separated(spector):
    frame = spector.assign(x=spector["GRADE"] * 2 - 1 + spector["GPA"] / 9)
    result = LocalNetwork(frame, n_nodes=3).run(LogitTask("t", "GRADE", ["x", "PSI"], ridge=2.0))
    x, y = frame[["x", "PSI"]], frame["GRADE"]
    pooled = LogisticRegression(C=0.5, tol=1e-12, max_iter=1000, solver="newton-cholesky").fit(x, y)
    assert result.converged
    np.testing.assert_allclose(result.params, [*pooled.intercept_, *pooled.coef_[0]], atol=1e-6)
    p = pooled.predict_proba(x)[:, 1]
    full = sm.add_constant(x).to_numpy()
    hessian = (full * (p * (1 - p))[:, None]).T @ full
    inverse = np.linalg.inv(hessian + np.diag([0.0, 2.0, 2.0]))
    np.testing.assert_allclose(result.cov_params, inverse @ hessian @ inverse, atol=1e-6)
    assert "Shrunk by ridge=2" in repr(result.summary())


def test_no_proof_of_gradients_is_promised(spector):
    with pytest.raises(errors.TaskError, match="zero-knowledge proof") as raised:
        LogitTask("t", "GRADE", ["GPA"], enable_verify=True)
    assert "allow_list" in raised.value.hint
    assert LogitTask("t", "GRADE", ["GPA"], enable_verify=False, verify_timeout=9.0).verify_timeout == 9.0


def lies(monkeypatch, name, number, change):
    """Let one node send other statistics than its own in one round."""
    honest = LogitTask.local_update

    def local_update(self, state, frame, round):
        update = honest(self, state, frame, round)
        if (self.node, round) != (name, number):
            return update
        values = update.values.copy()
        for place, value in change.items():
            values[place] = value
        return replace(update, values=values)

    monkeypatch.setattr(LogitTask, "local_update", local_update)


def test_one_wrong_sum_does_not_throw_the_fit(spector, monkeypatch):
    lies(monkeypatch, "node-2", 3, {0: 60_000.0, 1: -60_000.0})
    result = LocalNetwork(spector, n_nodes=3).run(LogitTask("t", "GRADE", ["GPA"], max_rounds=40))
    pooled = sm.Logit(spector["GRADE"], sm.add_constant(spector[["GPA"]])).fit(disp=0, tol=1e-12)
    assert result.converged
    np.testing.assert_allclose(result.params, pooled.params[result.params.index], atol=1e-6)


def test_a_good_point_that_was_praised_too_much_is_measured_again(spector, monkeypatch):
    lies(monkeypatch, "node-2", 3, {-4: 4.0})
    result = LocalNetwork(spector, n_nodes=3).run(LogitTask("t", "GRADE", ["GPA"], max_rounds=40))
    assert result.converged
    assert len(result.rounds) > 8
    assert result.llf == pytest.approx(
        sm.Logit(spector["GRADE"], sm.add_constant(spector[["GPA"]])).fit(disp=0).llf
    )


def test_a_likelihood_that_no_rows_have_is_void(spector, monkeypatch):
    lies(monkeypatch, "node-1", 2, {-4: 5_000.0})
    result = LocalNetwork(spector, n_nodes=3).run(LogitTask("t", "GRADE", ["GPA"]))
    assert result.rounds[1].status == "void"
    assert "cannot come from rows" in result.rounds[1].reason
    assert result.converged


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
