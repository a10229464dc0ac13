import copy
import pickle

import numpy as np
import pandas as pd
import pytest

from twopm_kit.errors import CiphertextError, SchemaError, WrongKey
from twopm_kit.fhe import EncryptedFrame, KeyHolder
from twopm_kit.fhe.engine import engine_for, seal_words

CLOSE = 1e-6


def test_frame_round_trip(holder, small):
    enc = holder.encrypt(small)
    assert enc.columns == ["a", "b", "c"]
    assert enc.shape == (7, 3)
    assert len(enc) == 7
    assert enc.level == 1
    assert enc.layout == "columns"
    assert enc.fingerprint == holder.fingerprint
    assert set(enc.scales.values()) == {2.0**50}
    back = holder.decrypt(enc)
    assert isinstance(back, pd.DataFrame)
    assert list(back.columns) == ["a", "b", "c"]
    assert np.abs(back - small).max().max() <= CLOSE
    assert np.abs(holder.decrypt(enc, flood=False) - small).max().max() < 1e-10


@pytest.mark.parametrize("packing", ["real", "complex"])
@pytest.mark.parametrize("rows", [1, 4095, 4096, 4097, 8193])
def test_array_round_trip_over_blocks(holder, rows, packing):
    x = np.random.default_rng(rows).uniform(-3, 3, (rows, 2))
    enc = holder.encrypt(x, packing=packing)
    per_block = 8192 if packing == "complex" else 4096
    assert enc.n_ciphertexts == 2 * -(-rows // per_block)
    back = holder.decrypt(enc)
    assert isinstance(back, np.ndarray)
    assert back.dtype == np.float64
    assert back.shape == x.shape
    assert np.abs(back - x).max() <= CLOSE


@pytest.mark.parametrize("profile", ["agg", "linear", "train", "cnn", "deep"])
def test_every_profile_encrypts_and_decrypts(profile):
    own = KeyHolder.generate(profile)
    x = np.array([[1.0, -2.0], [0.5, 3.0]])
    enc = own.encrypt(x)
    precision = own.opening_report(enc)["largest error"].max()
    assert np.abs(own.decrypt(enc) - x).max() <= precision + 1e-5
    assert np.abs(own.decrypt(own.evaluator().encrypt(x), flood=False) - x).max() < 1e-3


def test_vectors_ints_bools_and_nullable_columns(holder):
    assert holder.decrypt(holder.encrypt(np.arange(4))).shape == (4, 1)
    frame = pd.DataFrame(
        {"int": [1, 2], "bool": [True, False], "nullable": pd.array([3, 4], dtype="Int64"), 7: [0.5, -0.5]}
    )
    back = holder.decrypt(holder.encrypt(frame))
    assert list(back.columns) == ["int", "bool", "nullable", "7"]
    assert np.abs(back.to_numpy() - frame.to_numpy(dtype=float)).max() <= CLOSE


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (pd.DataFrame({"a": [1.0, np.nan]}), ["'a'", "row 1", "NaN"]),
        (pd.DataFrame({"a": [1.0, 2.0], "b": [np.inf, 0.0]}), ["'b'", "row 0", "infinite"]),
        (pd.DataFrame({"a": pd.array([1, None], dtype="Int64")}), ["'a'", "row 1", "NaN"]),
        (pd.DataFrame({"a": ["x", "y"]}), ["'a'", "dtype"]),
        (pd.DataFrame({"a": [1 + 2j]}), ["'a'", "complex"]),
        (pd.DataFrame({"a": pd.to_datetime(["2020-01-01"])}), ["'a'", "datetime"]),
        (pd.DataFrame({"a": []}, dtype=float), ["0 rows"]),
        (pd.DataFrame(index=[0, 1]), ["0 columns"]),
        (pd.DataFrame([[1, 2]], columns=["a", "a"]), ["not unique"]),
        (pd.DataFrame([[1.0]], columns=["n" * 201]), ["longer"]),
        (pd.DataFrame({"a": [1.0, 1e9]}), ["'a'", "row 1", "2.68435e+08"]),
        (np.zeros((2, 2, 2)), ["3 dimensions"]),
        (np.zeros((0, 3)), ["0 rows"]),
        (np.array(["1", "2"]), ["dtype"]),
        (np.array([1j]), ["complex"]),
        ([[1.0], [1.0, 2.0]], ["different length"]),
        (np.array([[0.0, -np.inf]]), ["'x1'", "row 0"]),
    ],
)
def test_bad_tables_are_refused_before_anything_is_encrypted(holder, data, words):
    with pytest.raises(SchemaError) as caught:
        holder.encrypt(data)
    for word in words:
        assert word in str(caught.value)
    assert caught.value.hint
    with pytest.raises(SchemaError):
        holder.evaluator().encrypt(data)


def test_values_never_appear_in_the_error(holder):
    with pytest.raises(SchemaError) as caught:
        holder.encrypt(pd.DataFrame({"wage": [9.87654321e11]}))
    assert "98765" not in str(caught.value)


def test_bounds(holder):
    frame = pd.DataFrame({"a": [0.5, 3.0], "b": [1.0, 2.0]})
    assert holder.encrypt(frame).bounds == {"a": 16.0, "b": 16.0}
    assert holder.encrypt(frame, bounds=5).bounds == {"a": 5.0, "b": 5.0}
    assert holder.encrypt(frame, bounds={"a": 4}).bounds == {"a": 4.0, "b": 16.0}
    with pytest.raises(SchemaError, match=r"'a', row 1: .* limit of 2 \(its bound\)"):
        holder.encrypt(frame, bounds={"a": 2})
    with pytest.raises(SchemaError, match=r"up to 2\.68435e"):
        holder.encrypt(frame, bounds=1e12)
    with pytest.raises(SchemaError, match="does not have"):
        holder.encrypt(frame, bounds={"z": 2})


def test_wide_columns_get_a_smaller_exact_scale(holder):
    frame = pd.DataFrame({"small": [1.0, -2.0], "wide": [63770.0, -1.0]})
    enc = holder.encrypt(frame)
    assert enc.scales == {"small": 2.0**50, "wide": 2.0**42}
    assert np.abs(holder.decrypt(enc) - frame).max().max() <= CLOSE


def test_unknown_packing(holder, small):
    with pytest.raises(CiphertextError, match="packing"):
        holder.encrypt(small, packing="tight")


# Arithmetic ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("packing", ["real", "complex"])
def test_arithmetic_matches_the_clear(holder, small, packing):
    other = small[::-1].reset_index(drop=True)
    x, y = holder.encrypt(small, packing=packing), holder.encrypt(other, packing=packing)
    cases = [
        (x + y, small + other, 1),
        (x - y, small - other, 1),
        (-x, -small, 1),
        (x + 2.5, small + 2.5, 1),
        (2.5 + x, small + 2.5, 1),
        (x - 1, small - 1, 1),
        (1 - x, 1 - small, 1),
        (3 * x, small * 3, 1),
        (x * -2, small * -2, 1),
        (x * 0.37, small * 0.37, 0),
        (-1e-3 * x, small * -1e-3, 0),
        (np.float64(1.5) * x, small * 1.5, 0),
        (x * 0.5 + y, small * 0.5 + other, 0),
        (x * np.int64(2) + y * 0.25 - 3, small * 2 + other * 0.25 - 3, 0),
        (x[["c", "a"]] * 0.5, small[["c", "a"]] * 0.5, 0),
        (x["b"], small[["b"]], 1),
    ]
    for enc, clear, level in cases:
        assert enc.level == level
        assert np.abs(holder.decrypt(enc) - clear).max().max() <= CLOSE
        assert np.abs(holder.decrypt(enc, flood=False) - clear).max().max() < 1e-9


def test_scales_stay_exact_powers_of_two(holder, small):
    enc = holder.encrypt(small) * 0.123 + holder.encrypt(small)
    assert enc.scale == 2.0**50
    assert all(float(c.scale) == 2.0**50 for name in enc.columns for c in enc.ciphers(name))


def test_frames_with_different_bounds_still_add_exactly(holder):
    near, far = np.array([[1.0, 2.0]]), np.array([[1.0, 50_000.0]])
    enc = holder.encrypt(near) + holder.encrypt(far)
    assert enc.scales == {"x0": 2.0**50, "x1": 2.0**50}
    assert np.abs(holder.decrypt(enc, flood=False) - (near + far)).max() < 1e-6
    with pytest.raises(CiphertextError, match=r"'x1'.*\n.*smaller bounds="):
        enc.drop_to(0)


def test_many_products_do_not_drift():
    own = KeyHolder.generate("deep")
    enc = own.encrypt(np.ones((3, 1)))
    for _ in range(7):
        enc = enc * 1.1
    assert enc.level == 0
    assert np.abs(own.decrypt(enc, flood=False) - 1.1**7).max() < 1e-6


def test_sum_of_many_parties_in_the_agg_profile():
    own = KeyHolder.generate("agg")
    parts = [np.random.default_rng(i).uniform(-1, 1, (5, 2)) for i in range(20)]
    total = sum(own.evaluator().encrypt(p) for p in parts)
    assert np.abs(own.decrypt(total, flood=False) - np.sum(parts, axis=0)).max() < 1e-4


def test_overflow_is_refused_not_wrapped():
    own = KeyHolder.generate("cnn")
    enc = own.encrypt(np.array([[100.0]]))
    with pytest.raises(CiphertextError, match="bits"):
        enc.drop_to(0) * 8
    low = enc.drop_to(0)
    with pytest.raises(CiphertextError, match="bits"):
        sum(low for _ in range(300))


def test_levels_run_out_with_a_way_forward(holder, small):
    enc = holder.encrypt(small) * 0.5
    with pytest.raises(CiphertextError) as caught:
        enc * 0.5
    for word in ("level 0", "'linear'", "'train' (4 levels)", "'deep' (7 levels)"):
        assert word in str(caught.value)
    spent = KeyHolder.generate("deep").encrypt(np.ones(2)).drop_to(0)
    with pytest.raises(CiphertextError, match="merge factors"):
        spent * 0.5


@pytest.mark.parametrize("factor", [0, 0.0, np.nan, np.inf, True, "2", None, 1e-30, [1.0], 1j])
def test_bad_factors(holder, small, factor):
    with pytest.raises(CiphertextError) as caught:
        holder.encrypt(small) * factor
    assert caught.value.hint


def test_frames_do_not_multiply_with_each_other(holder, small):
    enc = holder.encrypt(small)
    with pytest.raises(CiphertextError, match="plain numbers"):
        enc * enc


def test_subtracting_a_frame_from_itself_is_refused(holder, small):
    enc = holder.encrypt(small)
    with pytest.raises(CiphertextError, match="anyone can read"):
        enc - enc


def test_mixed_keys(holder, stranger, small):
    with pytest.raises(WrongKey) as caught:
        holder.encrypt(small) + stranger.encrypt(small)
    assert holder.fingerprint in str(caught.value)
    assert stranger.fingerprint in str(caught.value)


def test_frames_that_do_not_match(holder, small):
    enc = holder.encrypt(small)
    for other in (small.iloc[:3], small[["a", "b"]], small.rename(columns={"a": "z"})):
        with pytest.raises(CiphertextError, match="must agree"):
            enc + holder.encrypt(other)
    with pytest.raises(CiphertextError, match="must agree"):
        enc + holder.encrypt(small, packing="complex")
    assert (enc + holder.encrypt(small.rename(columns={"a": "z"})).rename(["a", "b", "c"])).shape == (7, 3)


def test_selection_and_renaming_refusals(holder, small):
    enc = holder.encrypt(small)
    for names in ("nope", ["a", "nope"], [], ["a", "a"]):
        with pytest.raises(CiphertextError, match="asked for"):
            enc[names]
    for names in (["x"], ["x", "x", "y"]):
        with pytest.raises(CiphertextError, match="names"):
            enc.rename(names)
    for level in (-1, 2):
        with pytest.raises(CiphertextError, match="level"):
            enc.drop_to(level)


def test_dropping_levels_shrinks(holder, small):
    enc = holder.encrypt(small)
    low = enc.drop_to(0)
    assert low.level == 0
    assert enc.drop_to(1) is enc
    assert np.abs(holder.decrypt(low) - small).max().max() <= CLOSE
    assert low.nbytes < (enc + enc).nbytes


# Showing and refusing -----------------------------------------------------------------------------------


def test_html_is_escaped_and_shows_no_value(holder):
    enc = holder.encrypt(
        pd.DataFrame({"<script>alert(1)</script>": [1.25], **{f"c{i}": [0.0] for i in range(9)}})
    )
    shown = enc._repr_html_()
    assert "<script" not in shown
    assert "&lt;script&gt;" in shown
    assert "and 4 more columns" in shown
    assert "1.25" not in shown
    assert "1 rows × 10 columns" in repr(enc)


def test_frames_are_not_pickled(holder, small):
    enc = holder.encrypt(small)
    for way in (pickle.dumps, copy.copy, copy.deepcopy):
        with pytest.raises(CiphertextError, match="to_bytes"):
            way(enc)
        with pytest.raises(CiphertextError, match="to_bytes"):
            way(holder.evaluator())
        with pytest.raises(CiphertextError, match="engine_for"):
            way(enc.engine)


@pytest.mark.parametrize(
    ("said", "words"),
    [
        ("scale out of bounds", "more levels"),
        ("scale mismatch", "same bounds"),
        ("end of modulus switching chain reached", "no level is left"),
        ("result ciphertext is transparent", "anyone can read"),
        ("encrypted1 and encrypted2 parameter mismatch", "same profile"),
        ("encoded value is too large", "standardise"),
        ("encrypted is not valid for encryption parameters", "profile"),
        ("something new", "SEAL refused"),
    ],
)
def test_what_seal_says_is_translated(said, words):
    with pytest.raises(CiphertextError) as caught, seal_words("doing it"):
        raise ValueError(said)
    assert words in str(caught.value)
    assert caught.value.hint


def test_real_messages_of_seal_are_translated(holder, small):
    engine = engine_for("linear")
    cipher = holder.encrypt(small).ciphers("a")[0]
    with pytest.raises(CiphertextError, match=r"exceed|larger"):
        engine.encode(np.array([1e30]), 2.0**50, 0)
    with pytest.raises(CiphertextError, match="different scales"):
        engine.add(engine.raise_scale(cipher, 1), cipher)
    with pytest.raises(CiphertextError, match="does not fit"):
        engine.multiply_accumulate([(cipher, engine.encode_constant(1.0, 2.0**70, 1))], None, 2.0**80)
    with pytest.raises(CiphertextError, match="different levels"):
        engine.add(engine.drop_to(cipher, 0), cipher)


def test_engine_refuses_a_factor_at_the_wrong_scale(holder, small):
    engine = engine_for("linear")
    cipher = holder.encrypt(small).ciphers("a")[0]
    plain = engine.encode_constant(0.5, 2.0**30, 1)
    with pytest.raises(CiphertextError, match="was planned"):
        engine.multiply_accumulate([(cipher, plain)], None, 2.0**50)


def test_frame_type_is_checked(holder):
    assert isinstance(holder.encrypt(np.ones(2)), EncryptedFrame)
    with pytest.raises(CiphertextError, match="expected an EncryptedFrame"):
        holder.decrypt(np.ones(2))
