import copy
import json
import pickle

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.datasets import load_diabetes

from twopm_kit.errors import BudgetSpent, CiphertextError, WrongKey
from twopm_kit.fhe import EncryptedFrame, KeyHolder
from twopm_kit.fhe.committee import Committee
from twopm_kit.fhe.frames import computed_frame
from twopm_kit.fhe.layouts import Layout
from twopm_kit.fhe.statistics import _FRONT, KINDS, EncryptedStatistic, Recipe, summarise

REDUCED = ("sum", "mean", "count", "var", "std")


def in_clear(frame, kind):
    if kind == "describe":
        return frame.describe().loc[["count", "mean", "std"]]
    return getattr(frame, kind)()


def off(got, clear):
    """Largest difference, after everything that pandas says about the shape of the result agrees."""
    assert type(got) is type(clear)
    assert got.index.equals(clear.index)
    if isinstance(got, pd.DataFrame):
        assert got.columns.equals(clear.columns)
    assert np.isnan(got.to_numpy(dtype=float)).tolist() == np.isnan(clear.to_numpy(dtype=float)).tolist()
    return float(np.nan_to_num(np.abs(got.to_numpy(dtype=float) - clear.to_numpy(dtype=float))).max())


@pytest.fixture(scope="module")
def gaps():
    rng = np.random.default_rng(5)
    frame = pd.DataFrame(rng.normal(size=(60, 4)), columns=list("abcd"))
    return frame.mask(rng.random(frame.shape) < 0.2).assign(d=frame["d"])


@pytest.mark.parametrize("kind", KINDS)
def test_standardised_data_as_pandas_has_it(holder, cancer, kind):
    frame = cancer[0].iloc[:, :8]
    enc = holder.encrypt(frame, bounds=16)
    stat = getattr(enc, kind)()
    precise = 1e-3 if kind == "sum" else 2e-6
    assert off(holder.decrypt(stat), in_clear(frame, kind)) <= precise
    assert stat.kind == kind
    assert f"{kind} of 8 columns over 569 rows" in repr(stat)


def test_raw_data_and_what_a_shift_is_for(holder):
    data = load_diabetes(as_frame=True, scaled=False).frame
    enc = holder.encrypt(data)
    shift = data.mean().round()
    for kind in KINDS:
        options = {"shift": shift} if kind in ("var", "std", "cov", "corr", "describe") else {}
        got, clear = holder.decrypt(getattr(enc, kind)(**options)), in_clear(data, kind)
        scale = np.abs(clear.to_numpy(dtype=float)).max()
        assert off(got, clear) <= 1e-5 * scale
    # without it the digits of the mean are lost: far from it, the same sums give a worse variance
    far = pd.DataFrame({"t": 1000 + np.random.default_rng(0).normal(size=500)})
    enc = holder.encrypt(far, bounds=1024, missing="refuse")
    plain = off(holder.decrypt(enc.var(), flood=False), far.var())
    shifted = off(holder.decrypt(enc.var(shift=1000), flood=False), far.var())
    assert shifted < plain / 10
    assert off(holder.decrypt(enc.mean()), far.mean()) < 1e-5


@pytest.mark.parametrize("rows", [1, 2, 4095, 4096, 4097, 9000])
def test_any_number_of_rows(holder, rows):
    frame = pd.DataFrame(np.random.default_rng(rows).normal(2, 1, (rows, 2)), columns=["a", "b"])
    enc = holder.encrypt(frame, bounds=16)
    for kind in REDUCED if rows == 1 else (*REDUCED, "cov"):
        tolerance = 1e-2 if kind == "sum" else 1e-4
        assert off(holder.decrypt(getattr(enc, kind)()), in_clear(frame, kind)) <= tolerance
        assert off(holder.decrypt(getattr(enc, kind)(), flood=False), in_clear(frame, kind)) <= 1e-6


def test_many_rows_of_wide_columns(holder):
    """The scale leaves room for the sum of products over all blocks, whatever the bound."""
    frame = pd.DataFrame({"age": np.random.default_rng(2).integers(0, 100, 60_000)})
    enc = holder.encrypt(frame)
    assert enc.bounds == {"age": 256.0}
    assert off(holder.decrypt(enc.describe()), in_clear(frame, "describe")) <= 1e-4


@pytest.mark.parametrize("profile", ["train", "deep"])
def test_profiles_with_more_levels(profile):
    own = KeyHolder.generate(profile, budget=10_000)
    frame = pd.DataFrame(np.random.default_rng(1).normal(size=(300, 3)), columns=list("abc")).clip(-4, 4)
    stat = own.encrypt(frame, bounds=4).cov()
    assert stat.sums.level == 1
    worst = own.opening_report(stat.sums)["largest error"].max()
    assert off(own.decrypt(stat), frame.cov()) <= 2 * worst / 299
    assert off(own.decrypt(stat, flood=False), frame.cov()) <= 1e-3


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "corr"])
def test_missing_values_are_left_out(holder, gaps, kind):
    enc = holder.encrypt(gaps, missing=["a", "b", "c"], bounds=8)
    tolerance = 1e-3 if kind == "sum" else 1e-5
    assert off(holder.decrypt(getattr(enc, kind)()), in_clear(gaps, kind)) <= tolerance
    everything = holder.encrypt(gaps, missing="mask", bounds=8)
    assert off(holder.decrypt(getattr(everything, kind)()), in_clear(gaps, kind)) <= tolerance


def test_shifts_of_columns_with_missing_values(holder, gaps):
    far = gaps * 3 + 100
    enc = holder.encrypt(far, missing="mask", bounds=128)
    stat = enc.cov(shift=100.3)
    assert stat.recipe.shift == (100.0,) * 4
    assert off(holder.decrypt(stat, flood=False), far.cov()) <= 1e-5
    assert off(holder.decrypt(enc.describe(shift={"a": 99}), flood=False), in_clear(far, "describe")) <= 1e-4


def test_columns_without_any_value(holder):
    frame = pd.DataFrame({"a": [np.nan, np.nan], "b": [1.0, np.nan], "c": [1.0, 2.0]})
    enc = holder.encrypt(frame, missing="mask")
    for kind in ("mean", "count", "var", "cov", "sum"):
        assert off(holder.decrypt(getattr(enc, kind)()), in_clear(frame, kind)) <= 1e-4


def test_kinds_and_categories(holder):
    frame = pd.DataFrame({"i": [1, 5, 3], "b": [True, False, True], "c": ["x", "y", "x"]})
    enc = holder.encrypt(frame)
    sums = holder.decrypt(enc.sum())
    assert sums.dtype == np.int64
    assert sums.to_dict() == {"i": 9, "b": 2, "c=x": 2, "c=y": 1}
    assert holder.decrypt(enc.count()).to_dict() == dict.fromkeys(enc.columns, 3)
    clear = pd.get_dummies(frame, columns=["c"], prefix_sep="=").astype(float)
    assert off(holder.decrypt(enc.mean()), clear.mean()) <= 1e-5
    assert holder.decrypt(enc.sum(), precision=4.0).dtype == np.float64
    masked = holder.encrypt(frame, missing="mask")
    assert holder.decrypt(masked.count()).dtype == np.int64
    gappy = holder.encrypt(pd.DataFrame({"a": [1.0, np.nan]}), missing="mask").mean()
    with pytest.raises(CiphertextError, match=r"count of 'a' is only known to"):
        holder.decrypt(gappy, precision=4.0)


def test_constants_have_no_correlation(holder):
    frame = pd.DataFrame({"a": [1.0, 2.0, 4.0], "b": [0.5, 0.5, 0.5]})
    enc = holder.encrypt(frame)
    got = holder.decrypt(enc.corr())
    assert got.isna().equals(frame.corr().isna())
    assert got.loc["a", "a"] == pytest.approx(1.0)
    assert holder.decrypt(enc.var())["b"] >= 0.0


def test_computed_columns(holder, small):
    enc = holder.encrypt(small)
    made = (enc + 3)[["a", "b"]] - enc[["b", "c"]].rename(["a", "b"])
    clear = (small + 3)[["a", "b"]] - small[["b", "c"]].set_axis(["a", "b"], axis=1)
    assert off(holder.decrypt(made.var()), clear.var()) <= 1e-3
    product = enc["a"] * enc["b"]
    assert off(holder.decrypt(product.mean(), flood=False), (small.a * small.b).to_frame("a").mean()) <= 1e-8
    weighted = enc @ [1.0, 2.0, 3.0]
    assert off(holder.decrypt(weighted.sum()), (small @ [1.0, 2.0, 3.0]).to_frame("sum").sum()) <= 1e-3
    weak = computed_frame(enc, [(enc.heads[0], enc.ciphers("a"))], enc.level)
    with pytest.raises(CiphertextError, match="beyond the last row"):
        weak.mean()


@settings(max_examples=15, deadline=None)
@given(
    rows=st.lists(st.tuples(*[st.one_of(st.floats(-8, 8), st.just(np.nan))] * 2), min_size=2, max_size=30),
    kind=st.sampled_from([kind for kind in KINDS if kind != "corr"]),
)
def test_any_table_as_pandas_has_it(holder, rows, kind):
    frame = pd.DataFrame(rows, columns=["a", "b"])
    stat = getattr(holder.encrypt(frame, missing="mask", bounds=8), kind)()
    clear = in_clear(frame, kind)
    if kind in ("std", "describe"):  # the root of a small variance magnifies its error
        got, clear = holder.decrypt(stat, flood=False), clear
        assert off(got, clear) <= 1e-3
    else:
        assert off(holder.decrypt(stat), clear) <= 1e-3


# Pooling and sending ------------------------------------------------------------------------------------


def test_statistics_show_themselves(holder):
    wide = holder.encrypt(pd.DataFrame(np.ones((2, 10)), columns=["<b>", *"abcdefghi"]))
    shown = wide.mean()._repr_html_()
    for words in ("&lt;b&gt;", "and 2 more", "masked sums", "scope='row'", "<caption"):
        assert words in shown
    assert "<b>" not in shown
    assert "none is needed" in wide.count()._repr_html_()


def test_owners_of_rows_pool_their_statistics(holder, cancer):
    frame = cancer[0].iloc[:, :3]
    parts = [frame.iloc[:200], frame.iloc[200:]]
    for kind in KINDS:
        one, two = (getattr(holder.evaluator().encrypt(part, bounds=16), kind)() for part in parts)
        tolerance = 1e-2 if kind == "sum" else 1e-4
        assert off(holder.decrypt(one + two), in_clear(frame, kind)) <= tolerance
    enc = holder.encrypt(parts[0], bounds=16)
    for wrong in (enc.sum(), enc.var(ddof=0), enc.var(shift=1.0), enc[["mean radius"]].var(), enc, 3):
        with pytest.raises(CiphertextError, match="not the same statistic"):
            enc.var() + wrong


def test_statistics_travel(holder, stranger, gaps, tmp_path):
    enc = holder.encrypt(gaps, missing="mask", bounds=8)
    for kind in ("cov", "describe", "count"):
        path = getattr(enc, kind)().save(tmp_path / f"{kind}.st")
        stat = EncryptedStatistic.load(path, holder)
        assert off(holder.decrypt(stat), in_clear(gaps, kind)) <= 1e-5
        with pytest.raises(WrongKey):
            stranger.decrypt(stat)
        with pytest.raises(WrongKey):
            EncryptedStatistic.load(path, stranger)
    public = holder.encrypt(gaps[["d"]]).count()
    assert public.sums is None
    assert holder.decrypt(EncryptedStatistic.from_bytes(public.to_bytes())).to_dict() == {"d": 60}
    small = EncryptedStatistic.from_bytes(enc.cov().to_bytes(), holder).compact()
    assert small.sums.size == 2
    assert small.compact() is small
    assert small.sums.level == 0
    assert len(small.to_bytes()) < 0.45 * len(enc.cov().to_bytes())
    assert off(holder.decrypt(small), gaps.cov()) <= 1e-5
    with pytest.raises(CiphertextError, match="key="):
        EncryptedStatistic.from_bytes(enc.cov().to_bytes()).compact()


@pytest.mark.parametrize("profile", ["linear", "deep"])
def test_a_committee_finishes_what_is_compact(profile):
    own = KeyHolder.generate(profile)
    frame = pd.DataFrame(np.random.default_rng(8).normal(size=(200, 3)), columns=list("abc"))
    committee = Committee.deal(own, 2, 3)
    for kind in ("mean", "cov", "corr"):
        small = getattr(own.encrypt(frame, bounds=8), kind)().compact()
        assert off(small.finish(committee.decrypt(small.sums)), in_clear(frame, kind)) <= 1e-4
    # a bound so wide that the sums would not fit below stays where it is
    wide = own.encrypt(frame, bounds=2.0**14).cov()
    assert wide.compact().sums.size == 2
    assert off(own.decrypt(wide.compact(), flood=False), frame.cov()) <= 0.1


def test_what_is_sent_holds_sums_and_nothing_else(holder):
    """Every coefficient but the constant one is masked: two computations of a sum agree in nothing else."""
    enc = holder.encrypt(np.arange(8.0).reshape(-1, 1))
    plains = [holder._open_cipher(enc.var().sums.ciphers("x0·x0")[0]) for _ in range(2)]
    slots = [np.array(enc.engine.encoder.decode_double(plain)) for plain in plains]
    assert np.abs(slots[0] - slots[1]).min() > 1.0
    assert np.corrcoef(slots[0], slots[1])[0, 1] < 0.2


def test_hostile_statistics_are_refused(holder):
    enc = holder.encrypt(pd.DataFrame({"a": [1.0, 2.0], "b": [2.0, 5.0]}))
    stat = enc.var()
    good = stat.to_bytes()
    start = _FRONT.size + len(stat.recipe.to_json())
    sums = good[start:]

    def forged(text, body=sums):
        return _FRONT.pack(b"2PM.st\r\n", 1, len(text)) + text + body

    recipe = json.loads(stat.recipe.to_json())
    lies = [
        {"kind": "eval"},
        {"kind": "cov"},
        {"kind": "count"},
        {"rows": -1},
        {"rows": 2.0},
        {"ddof": True},
        {"shift": [0.0]},
        {"shift": [0, 0]},
        {"masked": [True, False]},
        {"masked": [0, 0]},
        {"kinds": ["float", "category:c"]},
        {"columns": ["a", "a"]},
        {"columns": ["a", "b" * 201]},
        {"columns": "ab"},
        {"columns": []},
        {"code": "print()"},
    ]
    texts = [json.dumps({**recipe, **lie}, sort_keys=True, separators=(",", ":")).encode() for lie in lies]
    texts += [json.dumps(recipe).encode(), b"{", b"[]", b""]
    bad = [forged(text) for text in texts]
    bad += [
        good[:5],
        b"X" + good[1:],
        good[:-1],
        good + b"x",
        good[: start - 1],
        forged(stat.recipe.to_json(), b""),
    ]
    bad += [forged(stat.recipe.to_json(), enc.to_bytes()), _FRONT.pack(b"2PM.st\r\n", 2, 0)]
    bad += [forged(stat.recipe.to_json(), enc.mean().sums.to_bytes())]
    for content in bad:
        with pytest.raises(CiphertextError) as caught:
            EncryptedStatistic.from_bytes(content, holder)
        assert caught.value.hint
    assert EncryptedStatistic.from_bytes(forged(stat.recipe.to_json())).recipe == stat.recipe
    with pytest.raises(CiphertextError, match="opened sum"):
        stat.finish([1.0])
    assert isinstance(Recipe.from_json(stat.recipe.to_json()), Recipe)


def test_statistics_that_cannot_be(holder, gaps, small):
    enc = holder.encrypt(small)
    cases = [
        (lambda: holder.encrypt(small, packing="complex").mean(), "packing='real'"),
        (lambda: holder.encrypt(small, layout=Layout.blocks(2)).var(), "in columns"),
        (lambda: enc.mean().sums.sum(), "in columns"),
        (lambda: holder.encrypt(gaps, missing="mask").corr(), "products of three"),
        (lambda: holder.encrypt(small, bounds=2.0**26).var(), "times smaller"),
        (lambda: KeyHolder.generate("agg").encrypt(small).var(), "more levels"),
        (lambda: (enc * enc).var(), "more levels"),
        (lambda: holder.encrypt(np.ones((2, 170)), bounds=8).cov(), "fewer columns at a time"),
        (lambda: enc.var(ddof=-1), "ddof"),
        (lambda: enc.var(ddof=1.0), "ddof"),
        (lambda: enc.var(shift=np.nan), "shift"),
        (lambda: enc.var(shift="mean"), "shift"),
        (lambda: enc.var(shift={"z": 1.0}), "shift"),
        (lambda: enc.quantile(0.5), "compares"),
        (lambda: pickle.dumps(enc.mean()), "to_bytes"),
        (lambda: copy.copy(enc.mean()), "to_bytes"),
    ]
    for ask, words in cases:
        with pytest.raises(CiphertextError, match=words) as caught:
            ask()
        assert caught.value.hint


def test_openings_are_counted(small):
    own = KeyHolder.generate("linear", budget=10)
    enc = own.encrypt(small)
    own.decrypt(enc.var())
    assert own.ledger.used == 6
    own.decrypt(enc.count())
    assert own.ledger.used == 6
    with pytest.raises(BudgetSpent):
        own.decrypt(enc.var())
    assert isinstance(enc.var().sums, EncryptedFrame)
    assert summarise(enc, "mean").n_ciphertexts == 3


@pytest.mark.parametrize(("profile", "bound"), [("linear", 16.0), ("mlp", 16.0), ("deep", 16000.0)])
def test_summaries_of_several_owners_can_be_pooled(small, profile, bound):
    """At the lowest level at which one of "deep" fits there is no room for a second."""
    owner = KeyHolder.generate(profile)
    described = owner.encrypt(small, bounds=bound).describe()
    pooled = owner.decrypt(sum([described] * 8), flood=False)
    clear = pd.concat([small] * 8).describe().loc[["count", "mean", "std"]]
    assert np.abs(pooled - clear).to_numpy().max() < 1e-3
