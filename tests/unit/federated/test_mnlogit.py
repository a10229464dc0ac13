"""Multinomial logistic regression over nodes equals the pooled fit."""

import numpy as np
import pandas as pd
import pytest
import statsmodels.api as sm

from twopm_kit import datasets, errors
from twopm_kit.federated import LocalNetwork
from twopm_kit.federated.mnlogit import MNLogitTask

FEATURES = ["schooling", "experience", "urban"]


@pytest.fixture(scope="module")
def wages():
    frame = datasets.load("wages").iloc[:400]
    pay = pd.cut(frame["wage"], [0, 20, 35, 100], labels=["low", "middle", "high"])
    return frame.assign(
        pay=pay.astype(str), experience=frame["experience"] / 10, schooling=frame["schooling"] / 10
    )


def test_three_classes_match_the_pooled_fit(wages):
    task = MNLogitTask("pay", "pay", FEATURES, ["low", "middle", "high"])
    result = LocalNetwork(wages, n_nodes=3).run(task)
    codes = wages["pay"].map({"low": 0, "middle": 1, "high": 2})
    pooled = sm.MNLogit(codes, sm.add_constant(wages[FEATURES])).fit(disp=0, tol=1e-12, maxiter=100)
    assert result.converged
    assert list(result.params.columns) == ["middle", "high"]
    assert list(result.params.index) == ["const", *FEATURES]
    for name in ("params", "bse", "tvalues", "pvalues"):
        ours, theirs = getattr(result, name), getattr(pooled, name)
        np.testing.assert_allclose(ours, theirs, atol=1e-6)
    np.testing.assert_allclose(result.conf_int(0.1), pooled.conf_int(0.1), atol=1e-6)
    np.testing.assert_allclose(result.cov_params, pooled.cov_params(), atol=1e-6)
    np.testing.assert_allclose(result.predict(wages), pooled.predict(), atol=1e-6)
    for name in ("llf", "llnull", "prsquared", "llr_pvalue", "aic", "bic"):
        assert getattr(result, name) == pytest.approx(getattr(pooled, name), abs=1e-6)
    summary = result.summary()
    assert summary.loc[("high", "schooling"), "coef"] == pytest.approx(result.params.loc["schooling", "high"])
    for shown in ("pay = middle", "pay = high", "400"):
        assert shown in repr(summary)
        assert shown in summary._repr_html_()


def test_numbers_as_classes_and_two_classes_are_the_binary_model():
    spector = datasets.load("spector")
    result = LocalNetwork(spector, n_nodes=2).run(MNLogitTask("t", "GRADE", ["GPA", "PSI"], 2))
    pooled = sm.Logit(spector["GRADE"], sm.add_constant(spector[["GPA", "PSI"]])).fit(disp=0, tol=1e-12)
    np.testing.assert_allclose(result.params[1], pooled.params, atol=1e-6)


def test_a_class_that_stands_apart_is_named(wages):
    frame = wages.assign(apart=(wages["pay"] == "high") * 1.0)
    task = MNLogitTask("t", "pay", ["schooling", "apart"], ["low", "middle", "high"], max_rounds=60)
    with pytest.raises(errors.TaskError, match="'apart' separate the classes"):
        LocalNetwork(frame, n_nodes=2).run(task)


@pytest.mark.parametrize("classes", ["low", 1, ["low"], ["low", "low"], ["low", 2.5], [1, "1"], None])
def test_classes_are_named_once_each(classes):
    with pytest.raises(errors.TaskError, match="classes is"):
        MNLogitTask("t", "pay", FEATURES, classes)


@pytest.mark.parametrize(
    ("change", "words"),
    [(lambda f: f.drop(columns="pay"), "'pay'"), (lambda f: f.assign(pay="none"), r"\['none'\]")],
)
def test_unknown_classes_are_named_before_anything_happens(wages, change, words):
    task = MNLogitTask("t", "pay", FEATURES, ["low", "middle", "high"])
    with pytest.raises(errors.SchemaError, match=words):
        LocalNetwork([wages, change(wages)]).run(task)
