import copy
import pickle
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from twopm_kit.errors import CiphertextError, SchemaError, WrongKey
from twopm_kit.fhe import EncryptedFrame, KeyHolder
from twopm_kit.fhe.container import pack, unpack
from twopm_kit.fhe.engine import engine_for, seal_words
from twopm_kit.fhe.frames import computed_frame, concat
from twopm_kit.fhe.layouts import Layout

CLOSE = 1e-6


def test_frame_round_trip(holder, small):
    enc = holder.encrypt(small)
    assert enc.columns == ["a", "b", "c"]
    assert enc.shape == (7, 3)
    assert len(enc) == 7
    assert enc.level == 1
    assert enc.layout.kind == "columns"
    assert enc.fingerprint == holder.fingerprint
    assert set(enc.scales.values()) == {2.0**44}
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
    assert [str(dtype) for dtype in back.dtypes] == ["int64", "bool", "int64", "float64"]
    assert back[["int", "nullable"]].to_numpy().tolist() == [[1, 3], [2, 4]]
    assert back["bool"].tolist() == [True, False]
    assert np.abs(back["7"] - frame[7]).max() <= CLOSE


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (pd.DataFrame({"a": [1.0, np.nan]}), ["'a'", "row 1", "NaN"]),
        (pd.DataFrame({"a": [1.0, 2.0], "b": [np.inf, 0.0]}), ["'b'", "row 0", "infinite"]),
        (pd.DataFrame({"a": pd.array([1, None], dtype="Int64")}), ["'a'", "row 1", "NaN"]),
        (pd.DataFrame({"a": ["x", 2]}), ["'a'", "int"]),
        (pd.DataFrame({"a": [1 + 2j]}), ["'a'", "complex"]),
        (pd.DataFrame({"a": pd.to_datetime(["2020-01-01"])}), ["'a'", "datetime"]),
        (pd.DataFrame({"a": []}, dtype=float), ["0 rows"]),
        (pd.DataFrame(index=[0, 1]), ["0 columns"]),
        (pd.DataFrame([[1, 2]], columns=["a", "a"]), ["not unique"]),
        (pd.DataFrame([[1.0]], columns=["n" * 201]), ["longer"]),
        (pd.DataFrame({"a": [1.0, 1e9]}), ["'a'", "row 1", "limit"]),
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
    assert holder.encrypt(frame).bounds == {"a": 4.0, "b": 4.0}
    assert holder.encrypt(frame, bounds=5).bounds == {"a": 5.0, "b": 5.0}
    assert holder.encrypt(frame, bounds={"a": 5}).bounds == {"a": 5.0, "b": 4.0}
    with pytest.raises(SchemaError, match=r"'a', row 1: .* limit of 2 \(its bound\)"):
        holder.encrypt(frame, bounds={"a": 2})
    with pytest.raises(SchemaError, match="takes bounds above 0 and up to"):
        holder.encrypt(frame, bounds=1e12)
    with pytest.raises(SchemaError, match="does not have"):
        holder.encrypt(frame, bounds={"z": 2})


def test_wide_columns_get_a_smaller_exact_scale(holder):
    frame = pd.DataFrame({"small": [1.0, -2.0], "wide": [63770.0, -1.0]})
    enc = holder.encrypt(frame)
    assert enc.scales == {"small": 2.0**44, "wide": 2.0**32}
    worst = holder.opening_report(enc)["largest error"]
    assert worst["wide"] < 2.0**-27 * enc.bounds["wide"]
    error = np.abs(holder.decrypt(enc) - frame).max()
    assert error["small"] <= CLOSE
    assert error["wide"] <= worst["wide"]


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
    assert enc.scale == 2.0**44
    assert all(float(c.scale) == 2.0**44 for name in enc.columns for c in enc.ciphers(name))


def test_frames_with_different_bounds_still_add_exactly(holder):
    near, far = np.array([[1.0, 2.0]]), np.array([[1.0, 50_000.0]])
    enc = holder.encrypt(near) + holder.encrypt(far)
    assert enc.scales == {"x0": 2.0**44, "x1": 2.0**44}
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


def test_products_of_frames_and_columns(holder, small):
    enc = holder.encrypt(small)
    cases = [
        (enc["a"] * enc["b"], small[["a"]].mul(small["b"], axis=0)),
        (enc * enc, small * small),
        (enc["c"] ** 2, small[["c"]] ** 2),
        (enc**1, small),
        (enc["a"] + enc["b"], small[["a"]].add(small["b"], axis=0)),
        (enc["a"] - enc["c"], small[["a"]].sub(small["c"], axis=0)),
        (enc / 4, small / 4),
        (enc.assign(d=lambda f: f["a"] * f["b"]), small.assign(d=small["a"] * small["b"])),
        (enc.assign(b=enc["a"] + 1), small.assign(b=small["a"] + 1)),
        (enc[["a"]].assign(a=enc["b"]), small[["b"]].set_axis(["a"], axis=1)),
        (concat([enc[["c"]], enc[["a"]]]), small[["c", "a"]]),
        (enc.drop("b"), small[["a", "c"]]),
        (enc.rename({"b": "z"}), small.rename(columns={"b": "z"})),
    ]
    for got, clear in cases:
        assert got.columns == list(clear.columns)
        assert np.abs(holder.decrypt(got, flood=False) - clear).max().max() < 1e-9
        again = EncryptedFrame.from_bytes(got.to_bytes(), holder)
        assert np.abs(holder.decrypt(again) - clear).max().max() <= 2e-5


@pytest.mark.parametrize("profile", ["train", "deep"])
def test_deep_products_carry_their_scales(profile):
    own = KeyHolder.generate(profile)
    x = np.random.default_rng(3).uniform(-1, 1, (9, 2))
    enc = own.encrypt(x, bounds=1)
    for power in (2, 3, 5):
        got = enc**power
        assert enc.level - got.level == {2: 1, 3: 2, 5: 3}[power]
        assert np.abs(own.decrypt(got, flood=False) - x**power).max() < 1e-3
    # one side has been through a product, its scale is no power of two any more
    mixed = enc * enc + enc
    assert np.log2(mixed.scale) % 1 != 0
    assert np.abs(own.decrypt(mixed, flood=False) - x * x - x).max() < 1e-3
    assert np.abs(own.decrypt(enc - enc * enc, flood=False) - x + x * x).max() < 1e-3
    same = enc**2 + enc.drop_to(mixed.level)
    assert same.level == mixed.level - 1
    assert np.abs(own.decrypt(same, flood=False) - x * x - x).max() < 1e-3


@pytest.mark.parametrize("profile", ["linear", "train", "deep"])
def test_the_noise_of_a_product_is_not_underestimated(profile):
    own = KeyHolder.generate(profile)
    x = np.random.default_rng(4).uniform(-1, 1, (own.engine.slots, 2))
    enc = own.encrypt(x, bounds=1)
    for got, clear in ((enc * enc, x * x), (enc["x0"] * enc["x1"], x[:, :1] * x[:, 1:])):
        head = got.heads[0]
        error = (own.decrypt(got, flood=False) - clear)[:, 0].std()
        assert error < 1.1 * head.noise * np.sqrt(own.engine.slots) / head.scale


def test_products_in_blocks(holder, small):
    enc = holder.encrypt(small, layout=Layout.blocks(2))
    got = enc * enc + 0.5
    assert got.n_ciphertexts == 4
    assert np.abs(holder.decrypt(got, flood=False) - small**2 - 0.5).max().max() < 1e-9
    with pytest.raises(CiphertextError, match="in blocks"):
        enc["a"]
    with pytest.raises(CiphertextError, match="in columns"):
        concat([enc, enc.rename(["d", "e", "f"])])


def test_scales_that_cannot_meet(holder, small):
    enc = holder.encrypt(small)
    product, low = enc * enc, enc.drop_to(0)
    with pytest.raises(CiphertextError, match=r"no power of two apart.*\n.*more levels"):
        product + low
    assert np.abs(holder.decrypt(product + enc, flood=False) - small**2 - small).max().max() < 1e-9


def test_products_that_are_refused(holder, stranger, small):
    enc = holder.encrypt(small)
    with pytest.raises(CiphertextError, match="mix rows"):
        holder.encrypt(small, packing="complex") * holder.encrypt(small, packing="complex")
    with pytest.raises(CiphertextError, match="takes a level"):
        enc**3
    with pytest.raises(CiphertextError, match="key=evaluator"):
        EncryptedFrame.from_bytes(enc.to_bytes()) ** 2
    with pytest.raises(CiphertextError, match="bits"):
        holder.encrypt(small, bounds=2.0**27) ** 2
    with pytest.raises(WrongKey):
        enc * stranger.encrypt(small)
    with pytest.raises(CiphertextError, match="must agree"):
        enc * enc["a"]
    for exponent in (0, -1, 0.5, 65, True, "2"):
        with pytest.raises(CiphertextError, match="exponent"):
            enc**exponent
    for divisor in (0, enc, None):
        with pytest.raises(CiphertextError):
            enc / divisor


def test_weighted_sums_by_matrix(holder, small):
    enc = holder.encrypt(small)
    vector = np.array([1.5, -2.0, 0.25])
    matrix = pd.DataFrame([[1.0, 2.0], [0.5, 0.0], [-1.0, 3.0]], index=["c", "a", "b"], columns=["p", "q"])
    cases = [
        (enc @ vector, (small @ vector).to_frame("sum")),
        (enc @ [[1.0], [2.0], [3.0]], (small @ np.array([[1.0], [2.0], [3.0]])).set_axis(["y0"], axis=1)),
        (enc @ pd.Series(vector, index=small.columns, name="risk"), (small @ vector).to_frame("risk")),
        (enc @ matrix, small @ matrix.loc[["a", "b", "c"]]),
    ]
    for got, clear in cases:
        assert got.columns == list(clear.columns)
        assert np.abs(holder.decrypt(got) - clear).max().max() <= CLOSE
        assert got.padding == "zeros"
    for wrong in ([1.0], [[1.0]], [1, 2, np.nan], "abc", matrix.iloc[:2], None, np.zeros((3, 0))):
        with pytest.raises(SchemaError, match="weights"):
            enc @ wrong


def test_what_needs_to_read_or_compare_is_refused(holder, small):
    enc = holder.encrypt(small)
    for ask in (
        lambda: np.asarray(enc),
        lambda: np.array(enc["a"], dtype=float),
        lambda: enc > 0,
        lambda: enc <= enc,
        lambda: enc.min(),
        lambda: enc.max(axis=0),
        lambda: enc.median(),
        lambda: enc.quantile(0.5),
    ):
        with pytest.raises(CiphertextError) as caught:
            ask()
        assert caught.value.hint
    assert list(enc) == ["a", "b", "c"]
    assert "a" in enc
    assert "z" not in enc


def test_columns_that_do_not_belong_together(holder, stranger, small):
    enc = holder.encrypt(small)
    with pytest.raises(WrongKey):
        concat([enc, stranger.encrypt(small).rename(["d", "e", "f"])])
    with pytest.raises(CiphertextError, match="twice"):
        concat([enc, enc])
    with pytest.raises(CiphertextError, match="must agree"):
        concat([enc, holder.encrypt(small.iloc[:3]).rename(["d", "e", "f"])])
    for wrong in ([], [enc, small]):
        with pytest.raises(CiphertextError, match="side by side"):
            concat(wrong)
    for wrong in (enc, 3.0, small["a"]):
        with pytest.raises(CiphertextError, match="assigned"):
            enc.assign(d=wrong)
    with pytest.raises(CiphertextError, match="every column"):
        enc.drop(["a", "b", "c"])
    with pytest.raises(CiphertextError, match="to be dropped"):
        enc.drop("z")
    with pytest.raises(CiphertextError, match="does not have"):
        enc.rename({"z": "y"})
    with pytest.raises(CiphertextError, match="names"):
        enc.rename("abc")


def test_slots_beyond_the_last_row_stay_zero(holder, small):
    """Sums over slots are sums over rows only as long as this holds."""
    enc = holder.encrypt(small)
    frames = [enc + 2, 3 - enc, (enc + 1) * (enc - 1), enc * 0.5 + 0.25, enc["a"] + enc["b"]]
    frames.append(holder.encrypt(small, packing="complex") + 2)
    for frame in frames:
        assert frame.padding == "zeros"
        plain = holder._open_cipher(frame.ciphers("a")[0])
        slots = np.array(frame.engine.encoder.decode_complex(plain))
        assert np.abs(slots[7:]).max() < 1e-6
    weak = computed_frame(enc, [(enc.heads[0], enc.ciphers("a"))], enc.level)
    assert weak.padding == "any"
    assert (weak + enc["a"]).padding == "any"
    assert (weak * enc["a"]).padding == "zeros"


finite = st.floats(-4, 4, allow_nan=False).filter(lambda v: abs(v) > 1e-3)


@settings(max_examples=12, deadline=None)
@given(
    rows=st.lists(st.tuples(*[st.floats(-8, 8)] * 3), min_size=1, max_size=20),
    steps=st.lists(
        st.one_of(
            st.tuples(st.sampled_from(["+", "-", "r-", "*", "/"]), finite),
            st.tuples(st.sampled_from(["a+b", "a-c", "neg", "a*b", "drop"]), st.none()),
        ),
        max_size=5,
    ),
)
def test_any_arithmetic_matches_pandas(deep, rows, steps):
    clear = pd.DataFrame(rows, columns=["a", "b", "c"])
    enc = deep.encrypt(clear, bounds=8)
    for step, number in steps:
        match step:
            case "+":
                clear, enc = clear + number, enc + number
            case "-":
                clear, enc = clear - number, enc - number
            case "r-":
                clear, enc = number - clear, number - enc
            case "*":
                clear, enc = clear * number, enc * number
            case "/":
                clear, enc = clear / number, enc / number
            case "neg":
                clear, enc = -clear, -enc
            case "drop":
                enc = enc.drop_to(enc.level - 1) if enc.level > 3 else enc
            case "a+b":
                clear, enc = clear.assign(a=clear.a + clear.b), enc.assign(a=enc["a"] + enc["b"])
            case "a-c":
                clear, enc = clear.assign(c=clear.a - clear.c), enc.assign(c=enc["a"] - enc["c"])
            case "a*b":
                if enc.level > 0 and max(enc.bounds.values()) < 500:
                    clear, enc = clear.assign(b=clear.a * clear.b), enc.assign(b=enc["a"] * enc["b"])
        if enc.level < 2:
            break
    bounds = pd.Series(enc.bounds)
    assert (clear.abs().max() <= bounds * (1 + 1e-9)).all()
    assert ((deep.decrypt(enc, flood=False) - clear).abs().max() <= 1e-7 * bounds + 1e-7).all()


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
    for names in ("nope", ["a", "nope"], [], ["a", "a"], 0, slice(0, 2), [["a"]]):
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
        pd.DataFrame(
            {"<script>alert(1)</script>": [1.25], "b": ["<i>"], **{f"c{i}": [0.0] for i in range(9)}}
        )
    )
    shown = enc._repr_html_()
    assert "<script" not in shown
    assert "<i>" not in shown
    assert "&lt;script&gt;" in shown
    assert "category of b" in shown
    assert "and 5 more columns" in shown
    assert "1.25" not in shown
    assert "1 row × 11 columns" in repr(enc)
    for word in ("<caption", "scope='col'", "scope='row'", "±4", "2^44"):
        assert word in shown
    # colours are those of the theme around it
    assert "color:#" not in shown
    assert "background" not in shown
    blocks = holder.encrypt(np.ones((3, 4)), layout=Layout.blocks(2))._repr_html_()
    assert "x0, x1, x2, x3" in blocks


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
        engine.encode(np.array([1e30]), 2.0**44, 0)
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


# Kinds --------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def deep():
    return KeyHolder.generate("deep", budget=1_000_000)


@pytest.fixture
def people():
    return pd.DataFrame(
        {
            "age": [31, 47, 5, 82],
            "height": [1.7, np.nan, 1.1, 1.8],
            "member": pd.array([True, None, False, True], dtype="boolean"),
            "visits": pd.array([3, 0, None, 7], dtype="Int64"),
            "city": pd.Categorical(["Oslo", "Rome", None, "Oslo"], categories=["Rome", "Oslo", "Bern"]),
            "note": ["x", "y", "x", "y"],
        }
    )


def test_kinds_categories_and_missing_values_survive(holder, people):
    enc = holder.encrypt(people, missing="mask")
    assert enc.columns == [
        *("age", "height", "member", "visits", "city=Rome", "city=Oslo", "city=Bern", "note=x", "note=y")
    ]
    assert enc.categories == {"city": ["Rome", "Oslo", "Bern"], "note": ["x", "y"]}
    assert enc.masked == ["height", "member", "visits"]
    assert enc.shape == (4, 9)
    assert enc.n_ciphertexts == 12
    for frame in (enc, EncryptedFrame.from_bytes(enc.to_bytes(), holder), enc.drop_to(0)):
        assert frame.kinds == enc.kinds
        back = holder.decrypt(frame)
        assert list(back.columns) == list(people.columns)
        assert [str(d) for d in back.dtypes] == [
            "int64",
            "float64",
            "boolean",
            "Int64",
            "category",
            "category",
        ]
        pd.testing.assert_frame_equal(
            back.drop(columns=["height", "note"]), people.drop(columns=["height", "note"]), check_dtype=True
        )
        assert np.abs(back["height"] - people["height"]).max() <= CLOSE
        assert back["height"].isna().tolist() == [False, True, False, False]
        assert back["note"].astype(str).tolist() == ["x", "y", "x", "y"]
    shown = enc._repr_html_()
    assert "mask encrypted" in shown


def test_the_header_says_nothing_of_what_is_missing(holder):
    """Two tables of one schema, one without a missing value: nothing but the ciphertexts differs."""
    full, gaps = pd.DataFrame({"a": [1.0, 2.0]}), pd.DataFrame({"a": [1.0, np.nan]})
    headers = [unpack(holder.encrypt(f, missing="mask", bounds=4).to_bytes())[0] for f in (full, gaps)]
    assert headers[0] == headers[1]
    sizes = [
        len(c.content()) for f in (full, gaps) for c in holder.encrypt(f, missing="mask").stored[0].chunks
    ]
    assert max(sizes) - min(sizes) < 4096  # compressed random numbers


def test_missing_values_in_arrays_and_chosen_columns(holder):
    x = np.array([[1.0, np.nan], [3.0, 4.0]])
    back = holder.decrypt(holder.encrypt(x, missing="mask"))
    assert np.isnan(back).tolist() == [[False, True], [False, False]]
    assert np.nanmax(np.abs(back - x)) <= CLOSE
    enc = holder.encrypt(pd.DataFrame(x, columns=["a", "b"]), missing=["b"])
    assert enc.masked == ["b"]
    public = holder.evaluator().encrypt(x, missing="mask")
    assert np.isnan(holder.decrypt(public)).sum() == 1
    with pytest.raises(SchemaError, match=r"'b'.*missing"):
        holder.encrypt(pd.DataFrame(x, columns=["a", "b"]), missing=["a"])
    for wrong in ("drop", ["z"], []):
        with pytest.raises(SchemaError, match="missing="):
            holder.encrypt(x, missing=wrong)
    with pytest.raises(CiphertextError, match="in blocks"):
        holder.encrypt(x, missing="mask", layout=Layout.blocks(2))


def test_masked_columns_scale_but_do_not_mix(holder):
    frame = pd.DataFrame({"a": [1.0, np.nan, 3.0], "b": [1.0, 2.0, 3.0]})
    enc = holder.encrypt(frame, missing=["a"])
    for got, clear in (
        (enc * 3, frame * 3),
        (enc * 0.5, frame * 0.5),
        (-enc, -frame),
        (enc["a"], frame[["a"]]),
    ):
        back = holder.decrypt(got)
        assert back.isna().equals(clear.isna())
        assert np.nanmax(np.abs((back - clear).to_numpy())) <= CLOSE
    renamed = holder.decrypt(enc.rename({"a": "z"}))
    assert renamed["z"].isna().tolist() == [False, True, False]
    for ask in (
        lambda: enc + 1,
        lambda: enc + enc,
        lambda: enc * enc,
        lambda: enc @ [1.0, 2.0],
        lambda: enc.ciphers("a"),
    ):
        with pytest.raises(CiphertextError, match=r"missing.*\n.*fillna\(0\)"):
            ask()
    filled = enc.fillna(0)
    assert filled.masked == []
    assert np.abs(holder.decrypt(filled + 1) - frame.fillna(0) - 1).max().max() <= CLOSE
    for wrong in (1.0, None):
        with pytest.raises(CiphertextError):
            enc.fillna(wrong)


def test_kinds_follow_arithmetic(holder):
    frame = pd.DataFrame({"i": [1, 2], "b": [True, False], "f": [0.5, 1.5], "c": ["u", "v"]})
    enc = holder.encrypt(frame)
    assert enc.kinds == {"i": "int", "b": "bool", "f": "float", "c=u": "category:c", "c=v": "category:c"}
    assert list((enc * 2).kinds.values()) == ["int", "int", "float", "int", "int"]
    assert list((enc + 1).kinds.values()) == ["int", "int", "float", "int", "int"]
    assert set((enc + 0.5).kinds.values()) == {"float"}
    assert set((enc * 0.5).kinds.values()) == {"float"}
    assert (enc["i"] * enc["b"]).kinds == {"i": "int"}
    assert (enc["i"] + enc["f"]).kinds == {"i": "float"}
    assert holder.decrypt(enc["i"] * enc["b"])["i"].tolist() == [1, 0]
    assert holder.decrypt(enc["c"])["c"].astype(str).tolist() == ["u", "v"]
    assert enc[["c=v"]].kinds == {"c=v": "bool"}
    assert holder.decrypt(enc.drop("c=u"))["c=v"].tolist() == [False, True]
    assert "c" in enc
    assert enc.drop("c").columns == ["i", "b", "f"]
    assert enc.rename(["i", "b", "f", "c=u", "w"]).categories == {}
    assert holder.decrypt(enc[["i"]], precision=2.0)["i"].dtype == np.float64
    with pytest.raises(CiphertextError, match="told apart"):
        holder.decrypt(enc["c"], precision=2.0)


@pytest.mark.parametrize(
    "lie",
    [
        {"b": {"kind": "number"}},
        {"b": {"kind": "category:"}},
        {"b": {"kind": "present"}},
        {"b": {"kind": 3}},
        {"b": {"kind": "category:" + "n" * 201}},
        {"b": {"kind": "category:town"}},
        {"b": {"kind": "present:c=x"}},
        {"a": {"kind": "present:a"}},
        {"a=present": {"kind": "present:b"}},
        {"a=present": {"name": "mask"}},
        {"b": {"name": "c"}},
        {"b": {"name": "b=present", "kind": "present:a"}},
        {"c=x": {"kind": "float"}, "c=y": {"kind": "category:c=y"}},
    ],
)
def test_kinds_that_lie_are_refused(holder, lie):
    frame = pd.DataFrame({"a": [1.0, np.nan], "b": [1.0, 2.0], "c": ["x", "y"]})
    header, chunks, _ = unpack(holder.encrypt(frame, missing=["a"]).to_bytes())
    columns = tuple(replace(head, **lie.get(head.name, {})) for head in header.columns)
    assert columns != header.columns
    with pytest.raises(CiphertextError) as caught:
        EncryptedFrame.from_bytes(pack(replace(header, columns=columns), chunks))
    assert caught.value.hint
    with pytest.raises(CiphertextError, match="padding"):
        EncryptedFrame.from_bytes(pack(replace(header, padding="clean"), chunks))


def test_constants_fill_every_slot(holder):
    numbers = np.array([0.0, 1.5, -2.25, 1e-3])
    for keys in (holder, holder.evaluator()):
        enc = keys.encrypt_constants(numbers, 4.0)
        assert enc.shape == (4096, 4)
        assert np.abs(holder.decrypt(enc) - numbers).max() < 2e-6
        with pytest.raises(SchemaError, match="limit of 2"):
            keys.encrypt_constants(numbers, 2.0)
