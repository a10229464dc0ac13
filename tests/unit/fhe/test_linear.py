import numpy as np
import pandas as pd
import pytest
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression as Clear
from sklearn.preprocessing import StandardScaler

from twopm_kit.errors import CiphertextError, SchemaError
from twopm_kit.fhe import EncryptedFrame, KeyHolder, LogisticRegression, weighted_sum


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
    with pytest.raises(SchemaError, match="not finite"):
        weighted_sum(enc, {"a": np.nan})


def test_zero_weights_are_skipped(holder, small):
    enc = holder.encrypt(small)
    scores = LogisticRegression.from_plain([0.0, 1.0, 0.0]).decision_function(enc)
    assert np.abs(holder.decrypt(scores)["score"] - small["b"]).max() <= 1e-6
    with pytest.raises(CiphertextError, match="every weight"):
        LogisticRegression.from_plain([0.0, 0.0, 0.0], 1.0).decision_function(enc)


def test_level_exhausted(holder, small):
    model = LogisticRegression.from_plain([1.0, 2.0, 3.0])
    scored = holder.encrypt(small) * 0.5
    with pytest.raises(CiphertextError) as caught:
        model.decision_function(scored)
    assert "'train' (4 levels)" in str(caught.value)
    with pytest.raises(CiphertextError, match="'linear' \\(1 levels\\)"):
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
    ],
)
def test_bad_models(arguments, words):
    with pytest.raises(SchemaError, match=words):
        LogisticRegression.from_plain(*arguments)


def test_from_sklearn_wants_a_fitted_model():
    with pytest.raises(SchemaError, match="fitted linear"):
        LogisticRegression.from_sklearn(Clear())


def test_probabilities_at_the_ends():
    p = LogisticRegression.probabilities([-1e4, 0.0, 1e4])
    assert p.tolist() == [0.0, 0.5, 1.0]
    assert LogisticRegression.probabilities(pd.DataFrame({"score": [0.0]})).tolist() == [0.5]
    with pytest.raises(SchemaError):
        LogisticRegression.probabilities([np.nan])
    assert "2 weights" in repr(LogisticRegression.from_plain([1.0, 2.0]))
