"""Predictions on ciphertexts: equal to those in clear, without the secret, for the model's columns only."""

import numpy as np
import pandas as pd
import pytest

from twopm_kit.errors import CiphertextError, InferenceError, SchemaError, WrongKey
from twopm_kit.fhe import EncryptedFrame, KeyHolder
from twopm_kit.inference import EncryptedClient, Predictor


def test_clear_and_encrypted_predictions_are_equal(predictor, holder, rows):
    answer = EncryptedClient(predictor, holder).ask(predictor, rows)
    clear = predictor.predict_proba(rows)
    assert np.abs(answer["probability"] - clear).max() < 1e-4
    assert (answer["class"] == predictor.predict(rows)).all()
    assert answer.index.equals(rows.index)
    assert list(answer.columns) == ["probability", "class"]


def test_without_a_scaler_raw_columns_are_encrypted(small, holder, points):
    answer = EncryptedClient(small.card, holder).ask(small, points)
    assert np.abs(answer["probability"] - small.predict_proba(points)).max() < 1e-4


def test_the_scores_are_the_only_thing_that_comes_back(small, holder, points):
    scores = small.predict_encrypted(holder.encrypt(points[["b", "a"]]))
    assert scores.columns == ["score"]
    assert scores.n_rows == len(points)
    assert scores.fingerprint == holder.fingerprint
    np.testing.assert_allclose(holder.decrypt(scores)["score"], small.decision_function(points), atol=1e-5)


def test_what_is_public_of_the_scores_does_not_tell_the_weights(small, holder, points):
    """A client chooses its columns' bounds: the score's bound must not be a weighted sum of them."""
    for bounds in (4.0, {"a": 4.0, "b": 1024.0}):
        enc = holder.encrypt(points, bounds=bounds)
        head = small.predict_encrypted(enc).heads[0]
        exact = abs(small.coef) @ [head.bound for head in enc.heads] + abs(small.intercept)
        assert exact <= head.bound < 2 * exact
        for value in (head.bound, head.noise, head.scale):
            assert np.log2(value) == np.round(np.log2(value))


def test_the_server_computes_from_bytes_that_hold_no_secret(small, holder, points):
    """Everything the server has are the frame's bytes; the score that it computes it cannot open."""
    content = holder.encrypt(small.prepare(points)).to_bytes()
    scores = small.predict_encrypted(EncryptedFrame.from_bytes(content))
    stranger = KeyHolder.generate("linear")
    with pytest.raises(WrongKey):
        stranger.decrypt(scores)
    assert not any(isinstance(value, KeyHolder) for value in vars(small).values())


def test_a_client_cannot_open_scores_under_another_key(small, holder, other_holder, points):
    scores = small.predict_encrypted(holder.encrypt(points))
    with pytest.raises(WrongKey):
        EncryptedClient(small, other_holder).open(scores)


def test_a_client_opens_scores_as_they_travelled(small, holder, other_holder, points):
    scores = small.predict_encrypted(holder.encrypt(small.prepare(points)))
    content, client = scores.to_bytes(), EncryptedClient(small, holder)
    opened, again = client.open(content, points.index), client.open(scores, points.index)
    pd.testing.assert_frame_equal(opened, again, atol=1e-5)
    assert (opened["class"] == small.predict(points)).all()
    with pytest.raises(WrongKey):
        EncryptedClient(small, other_holder).open(content)
    with pytest.raises(CiphertextError):
        client.open(content[:-1])


def test_a_client_opens_scores_only(small, holder, points):
    with pytest.raises(InferenceError, match="expected one, 'score'"):
        EncryptedClient(small, holder).open(holder.encrypt(points))


@pytest.mark.parametrize(
    ("columns", "words"),
    [
        (["a"], "missing: 'b'"),
        (["a", "c"], "not of the model: 'c'"),
        (["a", "b", "c"], "3 columns were passed, the model takes 2"),
        (["z(a)", "z(b)"], "missing: 'a', 'b'"),
    ],
)
def test_columns_that_are_not_the_models_are_refused(small, holder, columns, words):
    enc = holder.encrypt(pd.DataFrame(np.ones((2, len(columns))), columns=columns))
    with pytest.raises(SchemaError) as refused:
        small.predict_encrypted(enc)
    assert words in str(refused.value)
    assert "prepare" in refused.value.hint


def test_raw_values_are_not_taken_for_standardised_ones(predictor, holder, rows):
    with pytest.raises(SchemaError, match="not of the model") as refused:
        predictor.predict_encrypted(holder.encrypt(rows.head(2)))
    assert "prepare" in refused.value.hint
    assert predictor.prepare(rows.head(2)).columns[0] == f"z({rows.columns[0]})"


def test_an_array_and_a_clear_frame_are_refused(holder, points):
    model = Predictor([1.0, 1.0], features=["x0", "x1"])
    with pytest.raises(CiphertextError, match="array"):
        model.predict_encrypted(holder.encrypt(points.to_numpy()))
    with pytest.raises(CiphertextError, match="DataFrame was passed"):
        model.predict_encrypted(points)


def test_a_frame_without_a_level_is_refused(small, points):
    tired = KeyHolder.generate("linear").encrypt(points).drop_to(0)
    with pytest.raises(CiphertextError):
        small.predict_encrypted(tired)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_nothing_is_encrypted_from_a_frame_with_a_hole(small, holder, points, bad):
    broken = points.copy()
    broken.iloc[2, 1] = bad
    with pytest.raises(SchemaError, match="column 'b', row 2"):
        EncryptedClient(small, holder).encrypt(broken)


def test_only_a_key_holder_with_a_level_makes_a_client(small, holder):
    with pytest.raises(InferenceError, match="Evaluator was passed"):
        EncryptedClient(small, holder.evaluator())
    with pytest.raises(InferenceError, match="no level"):
        EncryptedClient(small, KeyHolder.generate("agg"))
