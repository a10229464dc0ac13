import numpy as np
import pandas as pd
import pytest
from sklearn import linear_model
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression as Clear
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from twopm_kit.errors import CiphertextError, SchemaError
from twopm_kit.fhe import EncryptedFrame, KeyHolder, LogisticRegression, weighted_sum
from twopm_kit.fhe.layouts import Layout
from twopm_kit.fhe.models import (
    LDA,
    PCA,
    KMeans,
    LinearForm,
    LinearRegression,
    NearestCentroid,
    PoissonRegression,
    Ridge,
    Tree,
    TreeEnsemble,
    one_hot,
)
from twopm_kit.fhe.models.moments import totals


def linear_discriminants():
    from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

    rows = pd.DataFrame(np.random.default_rng(0).normal(size=(30, 2)), columns=["a", "b"])
    return LinearDiscriminantAnalysis().fit(rows, np.arange(30) % 3)


def stump():
    return Tree(
        np.array([1, -1, -1]),
        np.array([0.0, 0.0, 0.0]),
        np.array([1, -1, -1]),
        np.array([2, -1, -1]),
        np.array([[0.0], [1.0], [2.0]]),
    )


@pytest.mark.parametrize("packing", ["real", "complex"])
def test_scores_equal_the_clear_ones(holder, cancer, packing):
    frame, _, fitted = cancer
    enc = holder.encrypt(frame, packing=packing)
    scores = LogisticRegression.from_sklearn(fitted).decision_function(enc)
    assert scores.shape == (569, 1)
    assert scores.columns == ["score"]
    assert scores.level == 0
    assert scores.fingerprint == holder.fingerprint
    clear = fitted.decision_function(frame)
    opened = holder.decrypt(scores)
    assert np.abs(opened["score"] - clear).max() <= 1e-6
    assert np.abs(holder.decrypt(scores, flood=False)["score"] - clear).max() < 1e-9
    p = LogisticRegression.probabilities(opened)
    assert p.shape == (569,)
    assert np.abs(p - fitted.predict_proba(frame)[:, 1]).max() <= 1e-6
    assert ((p > 0.5) == fitted.predict(frame)).all()


def test_scores_through_files_and_many_blocks(holder, cancer, tmp_path):
    frame, _, fitted = cancer
    x = np.resize(frame.to_numpy(), (5000, 30))
    path = holder.encrypt(x).save(tmp_path / "x.ct")
    scores = LogisticRegression.from_plain(fitted.coef_[0], fitted.intercept_[0]).decision_function(
        EncryptedFrame.load(path)
    )
    sent = scores.save(tmp_path / "scores.ct")
    assert sent.stat().st_size < path.stat().st_size / 10
    opened = holder.decrypt(EncryptedFrame.load(sent, holder))
    assert opened.shape == (5000, 1)
    assert np.abs(opened - (x @ fitted.coef_.T + fitted.intercept_)).max() <= 1e-6


def test_raw_columns_of_very_different_size(holder):
    from sklearn.datasets import load_breast_cancer

    x = load_breast_cancer(as_frame=True).data
    weights = 1.0 / x.std()
    model = LogisticRegression.from_plain(weights, -3.0, columns=list(x.columns))
    scores = model.decision_function(holder.encrypt(x))
    clear = x @ weights - 3.0
    assert np.abs(holder.decrypt(scores, flood=False)["score"] - clear).max() < 1e-6


def test_multinomial():
    own = KeyHolder.generate("linear")
    x, y = load_iris(return_X_y=True)
    x = StandardScaler().fit_transform(x)
    fitted = Clear(max_iter=1000).fit(x, y)
    scores = LogisticRegression.from_sklearn(fitted).decision_function(own.encrypt(x))
    assert scores.columns == ["score_0", "score_1", "score_2"]
    opened = own.decrypt(scores)
    assert np.abs(opened - fitted.decision_function(x)).max() <= 1e-6
    assert np.abs(LogisticRegression.probabilities(opened) - fitted.predict_proba(x)).max() <= 1e-6


@pytest.mark.parametrize("profile", ["train", "cnn", "deep"])
def test_other_profiles(profile, cancer):
    own = KeyHolder.generate(profile)
    frame, _, fitted = cancer
    scores = LogisticRegression.from_sklearn(fitted).decision_function(own.encrypt(frame))
    assert scores.level == 0
    error = np.abs(own.decrypt(scores, flood=False)["score"] - fitted.decision_function(frame)).max()
    assert error < (1e-3 if profile != "deep" else 1e-6)


def test_columns_are_found_by_name(holder, small):
    model = LogisticRegression.from_plain([2.0, -1.0], 0.25, columns=["c", "a"])
    wide = holder.encrypt(small)
    expected = 2 * small["c"] - small["a"] + 0.25
    assert np.abs(holder.decrypt(model.decision_function(wide))["score"] - expected).max() <= 1e-6
    with pytest.raises(SchemaError, match="lacks 1 of the model's 2 columns: a"):
        model.decision_function(wide[["b", "c"]])
    with pytest.raises(SchemaError, match="2 columns; the model has 3"):
        LogisticRegression.from_plain([1, 2, 3]).decision_function(wide[["a", "b"]])
    with pytest.raises(SchemaError, match="expected an EncryptedFrame"):
        model.decision_function(small)


def test_weighted_sum(holder, small):
    enc = holder.encrypt(small)
    risk = weighted_sum(enc, {"c": 0.5, "a": -2.0}, 0.1, name="risk")
    assert risk.columns == ["risk"]
    assert np.abs(holder.decrypt(risk)["risk"] - (0.5 * small["c"] - 2 * small["a"] + 0.1)).max() <= 1e-6
    with pytest.raises(CiphertextError, match="nope"):
        weighted_sum(enc, {"nope": 1.0})
    with pytest.raises(CiphertextError, match="asked for"):
        weighted_sum(enc, {})
    cases = [
        (enc, {"a": np.nan}, 0.0, "not finite"),
        (small, {"a": 1.0}, 0.0, "a DataFrame was passed"),
        (enc, [1.0, 2.0], 0.0, "weights are a list"),
        (enc, {"a": [1.0], "b": [2.0]}, [1.0], "weights hold lists"),
        (enc, {"a": [1.0, 2.0]}, 0.0, "not a number"),
        (enc, {"a": 1j}, 0.0, "complex"),
    ]
    for frame, weights, constant, words in cases:
        with pytest.raises(SchemaError, match=words):
            weighted_sum(frame, weights, constant)


def test_weights_in_a_series_go_to_the_columns_of_its_index(holder, small):
    enc = holder.encrypt(small)
    weights = pd.Series({"c": 0.5, "a": -2.0})
    risk = holder.decrypt(weighted_sum(enc, weights))["sum"]
    assert np.abs(risk - (0.5 * small["c"] - 2 * small["a"])).max() <= 1e-6
    with pytest.raises(CiphertextError, match="not here: 0"):
        weighted_sum(enc, pd.Series([0.5, -2.0]))


@pytest.mark.parametrize(
    "work",
    [
        lambda enc: LinearForm(np.ones((1, 3)), np.zeros(1), ("s",)).apply(enc),
        lambda enc: weighted_sum(enc, dict.fromkeys(enc.columns, 1.0)),
        lambda enc: LogisticRegression.from_plain([1.0, 2.0, 3.0]).predict(enc),
        lambda enc: PCA.from_plain(np.eye(3), np.zeros(3)).transform(enc),
    ],
)
def test_other_layouts_have_no_columns_to_weigh(holder, small, work):
    blocks = holder.encrypt(small.to_numpy(), layout=Layout.blocks(4))
    with pytest.raises(CiphertextError, match="layout 'blocks'"):
        work(blocks)


@pytest.mark.parametrize(
    "model",
    [
        LogisticRegression.from_plain([1.0, 2.0], columns=["a", "b"]),
        Ridge.from_plain([1.0, 2.0], columns=["a", "b"]),
        PCA.from_plain(np.eye(2), np.zeros(2), columns=["a", "b"]),
        LDA.from_sklearn(linear_discriminants()),
        NearestCentroid.from_plain(np.eye(2), columns=["a", "b"]),
        KMeans.from_plain(np.eye(2), columns=["a", "b"]),
        TreeEnsemble([stump()], np.zeros(1), width=2, features=("a", "b")),
    ],
    ids=lambda model: type(model).__name__,
)
def test_one_row_is_simulated_as_a_table_of_one(model):
    table = pd.DataFrame({"a": [0.25], "b": [-3.0]})
    expected = model.simulate(table)
    assert len(expected) == 1
    for row in ([0.25, -3.0], table.to_numpy()[0], table.iloc[0], table.iloc[0][["b", "a"]]):
        assert np.array_equal(model.simulate(row), expected)
    for bad, words in ((3.0, "shape"), ([1j, 2.0], "complex"), (table + 1j, "complex"), (["x", 1], "number")):
        with pytest.raises(SchemaError, match=words):
            model.simulate(bad)


def test_zero_weights_are_skipped(holder, small):
    enc = holder.encrypt(small)
    scores = LogisticRegression.from_plain([0.0, 1.0, 0.0]).decision_function(enc)
    assert np.abs(holder.decrypt(scores)["score"] - small["b"]).max() <= 1e-6
    with pytest.raises(CiphertextError, match="every weight"):
        LogisticRegression.from_plain([0.0, 0.0, 0.0], 1.0).decision_function(enc)


def test_an_offset_alone_where_it_is_meant(holder, small):
    form = LinearForm(
        np.array([[0.0, 0.0, 0.0], [1.0, 0.0, 0.0]]), np.array([7.0, 0.0]), ("c", "a"), constant=True
    )
    scores = form.apply(holder.encrypt(small))
    assert not any(scores.ciphers(name)[0].is_transparent() for name in scores.columns)
    sent = EncryptedFrame.from_bytes(scores.to_bytes(), holder)
    opened = holder.decrypt(sent, flood=False)
    assert np.abs(opened["c"] - 7.0).max() < 1e-9
    assert np.abs(opened["a"] - small["a"]).max() < 1e-9


def test_rows_stay_alone_where_no_offset_is_added(holder, small):
    enc = holder.encrypt(small)
    assert weighted_sum(enc, {"a": 2.0, "b": 1.0}).padding == "zeros"
    assert weighted_sum(enc, {"a": 2.0}, 0.5).padding == "any"
    total = totals(weighted_sum(enc, {"a": 2.0, "b": 1.0})).open(holder)
    assert total.item() == pytest.approx((2.0 * small["a"] + small["b"]).sum(), abs=1e-3)


def test_classes_have_the_names_that_they_were_fitted_with(holder, cancer):
    frame, y, _ = cancer
    named = y.map({0: "malignant", 1: "benign"})
    fitted = Clear(max_iter=2000).fit(frame, named)
    model = LogisticRegression.from_sklearn(fitted)
    enc = holder.encrypt(frame)
    assert (model.classes_of(holder.decrypt(model.predict(enc))) == fitted.predict(frame)).all()
    assert model.score(frame, named) == model.score(enc, named, opener=holder) == fitted.score(frame, named)
    with pytest.raises(SchemaError, match="for 2 classes"):
        model.classes_of(np.ones((3, 3)))


def test_level_exhausted(holder, small):
    model = LogisticRegression.from_plain([1.0, 2.0, 3.0])
    scored = holder.encrypt(small) * 0.5
    with pytest.raises(CiphertextError) as caught:
        model.decision_function(scored)
    assert "'train' (4 levels)" in str(caught.value)
    with pytest.raises(CiphertextError, match="'linear' \\(1 level\\)"):
        model.decision_function(KeyHolder.generate("agg").encrypt(small))


def test_computing_before_scoring_uses_the_levels_of_a_deeper_profile(small):
    own = KeyHolder.generate("deep")
    model = LogisticRegression.from_plain([1.0, 2.0, 3.0], -0.5)
    enc = own.encrypt(small) * 0.5 * 0.25 + 1.5
    scores = model.decision_function(enc)
    clear = (small * 0.125 + 1.5) @ [1.0, 2.0, 3.0] - 0.5
    assert np.abs(own.decrypt(scores, flood=False)["score"] - clear).max() < 1e-7


def test_worst_case_that_would_wrap_is_refused(holder):
    enc = holder.encrypt(np.array([[1e8, 1e8]]))
    with pytest.raises(CiphertextError, match="too coarse"):
        LogisticRegression.from_plain([1e6, 1e6]).decision_function(enc)


def test_extreme_but_legal_weights(holder):
    x = np.array([[16.0, -16.0], [16.0, 16.0]])
    scores = LogisticRegression.from_plain([3e5, 3e5], 7.0).decision_function(holder.encrypt(x))
    opened = holder.decrypt(scores, flood=False)
    assert np.abs(opened.ravel() - [7.0, 9_600_007.0]).max() < 1e-4


def test_weights_encoded_once_for_each_kind_of_frame(holder, small):
    model = LogisticRegression.from_plain([1.0, 2.0, 3.0])
    for _ in range(3):
        model.decision_function(holder.encrypt(small))
    assert len(model._form._plans) == 1
    for bound in (8, 20, 40, 80, 160):
        model.decision_function(holder.encrypt(small, bounds=bound))
    assert len(model._form._plans) == 4


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (([1.0, np.nan],), "not finite"),
        ((["a"],), "not a number"),
        (([],), "shape"),
        (([[1.0], [2.0]], 0.0), "shape"),
        ((np.zeros((2, 2, 2)),), "shape"),
        (([1.0], np.inf), "not finite"),
        (([1.0, 2.0], 0.0, ["a"]), "1 column names"),
        (([1.0, 2.0], 0.0, ["a", "a"]), "column names"),
        (([1.0, 2.0], 0.0, 5), "columns are a int"),
        (([1.0, 2.0], 0.0, "ab"), "columns are a str"),
        (([1.0, 2.0j],), "complex"),
    ],
)
def test_bad_models(arguments, words):
    with pytest.raises(SchemaError, match=words):
        LogisticRegression.from_plain(*arguments)


def test_from_sklearn_wants_a_fitted_model():
    with pytest.raises(SchemaError, match="fitted estimator"):
        LogisticRegression.from_sklearn(Clear())


X, Y = load_iris(return_X_y=True)


@pytest.mark.parametrize(
    ("kind", "estimator"),
    [
        (PoissonRegression, Clear(max_iter=1000)),
        (PoissonRegression, linear_model.LinearRegression()),
        (Ridge, Clear(max_iter=1000)),
        (LinearRegression, linear_model.RidgeClassifier()),
        (LinearRegression, linear_model.PoissonRegressor()),
        (LogisticRegression, linear_model.LinearRegression()),
        (LogisticRegression, linear_model.PoissonRegressor()),
    ],
    ids=str,
)
def test_estimators_of_another_kind(kind, estimator):
    with pytest.raises(SchemaError, match=f"{type(estimator).__name__} was passed to {kind.__name__}"):
        kind.from_sklearn(estimator.fit(X, Y))


@pytest.mark.parametrize(
    ("kind", "estimator"),
    [
        (PoissonRegression, linear_model.PoissonRegressor()),
        (Ridge, linear_model.LinearRegression()),
        (LinearRegression, linear_model.Lasso(0.1)),
        (LogisticRegression, linear_model.RidgeClassifier()),
    ],
    ids=str,
)
def test_estimators_of_the_same_kind(kind, estimator):
    model = kind.from_sklearn(estimator.fit(X, Y))
    assert np.allclose(model.coef_, estimator.coef_)


@pytest.mark.parametrize("kind", [LogisticRegression, Ridge, PCA, LDA, NearestCentroid, KMeans])
def test_a_pipeline_is_more_than_its_last_step(kind):
    fitted = make_pipeline(StandardScaler(), Clear()).fit(X, Y)
    with pytest.raises(SchemaError, match="a Pipeline without") as refused:
        kind.from_sklearn(fitted)
    assert "its other steps over the rows" in refused.value.hint


def test_labels_to_encrypt_are_with_the_models():
    assert one_hot(["b", "a"]).to_dict("list") == {"a": [0.0, 1.0], "b": [1.0, 0.0]}


def test_probabilities_at_the_ends():
    p = LogisticRegression.probabilities([-1e4, 0.0, 1e4])
    assert p.tolist() == [0.0, 0.5, 1.0]
    assert LogisticRegression.probabilities(pd.DataFrame({"score": [0.0]})).tolist() == [0.5]
    with pytest.raises(SchemaError):
        LogisticRegression.probabilities([np.nan])
    assert "2 columns, 1 result>" in repr(LogisticRegression.from_plain([1.0, 2.0]))
    assert "1 column, 2 results>" in repr(LogisticRegression.from_plain([[1.0], [2.0]], [0.0, 0.0]))
