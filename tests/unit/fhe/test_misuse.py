"""What newcomers do wrong: refusals say what was passed and what to do, and nothing is wrong silently."""

import decimal
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import scipy.sparse
import torch

import twopm_kit as kit
from twopm_kit.errors import TwoPMError
from twopm_kit.fhe import (
    Committee,
    EncryptedFrame,
    EncryptedStatistic,
    Evaluator,
    KeyHolder,
    Layout,
    concat,
)
from twopm_kit.fhe.partials import Partial, Roster
from twopm_kit.fhe.seal_io import read_file, write_atomic

FRAME = pd.DataFrame(np.random.default_rng(0).normal(size=(5, 3)), columns=["a", "b", "c"])
ARRAY = FRAME.to_numpy()
GRADIENT = torch.tensor(ARRAY, requires_grad=True)


def refused(work, *words):
    """Run what must be refused by name, with a hint, and without a warning of somebody else's library."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(TwoPMError) as caught:
            work()
    assert caught.value.hint, caught.value
    for word in words:
        assert word in str(caught.value), caught.value


@pytest.fixture(scope="module")
def enc(holder):
    return holder.encrypt(FRAME)


TABLES = {
    "nothing": (None, "NoneType"),
    "a number": (5, "single value"),
    "text": ("abc", "type str"),
    "a mapping": ({"a": [1]}, "DataFrame"),
    "a generator": ((i for i in range(3)), "generator"),
    "objects": (np.array([1, "a"], dtype=object), "dtype object"),
    "complex numbers": (np.array([1j]), "complex128"),
    "dates": (np.array(["2020-01-01"], dtype="datetime64[D]"), "datetime64"),
    "ragged rows": ([[1, 2], [3]], "different length"),
    "three dimensions": (np.zeros((2, 2, 2)), "3 dimensions"),
    "no rows": (FRAME[:0], "0 rows"),
    "no columns": (FRAME[[]], "0 columns"),
    "missing": ([[1.0, np.nan]], "row 0: the value is missing (NaN), one of 1"),
    "masked": (np.ma.masked_array([1.0, 2.0], mask=[False, True]), "row 1: the value is missing"),
    "infinite": ([[np.inf]], "infinite"),
    "huge": ([[1e300]], "limit"),
    "sparse": (scipy.sparse.csr_matrix(ARRAY), ".toarray()"),
    "a sparse tensor": (torch.eye(3).to_sparse(), "no array"),
    "names twice": (FRAME.set_axis(["a", "a", "b"], axis=1), "not unique: a"),
    "1 and '1'": (FRAME[["a", "b"]].set_axis([1, "1"], axis=1), "not unique"),
    "a date column": (pd.DataFrame({"t": pd.date_range("2020", periods=2)}), "'t' has dtype datetime64"),
    "lists in cells": (pd.DataFrame({"d": [[1, 2], [3]]}), "type list"),
    "mixed cells": (pd.DataFrame({"d": ["a", 1]}), "type int"),
    "decimals": (pd.DataFrame({"d": [decimal.Decimal(1)]}), "type Decimal"),
    "identifiers": (pd.DataFrame({"d": [f"k{i}" for i in range(65)]}), "65 categories"),
    "half a surrogate": (pd.DataFrame([[1.0]], columns=pd.Index(["\ud800"], dtype=object)), "surrogate"),
    "a long name": (pd.DataFrame({"x" * 300: [1.0]}), "longer than"),
}


@pytest.mark.parametrize("name", TABLES)
def test_tables_that_are_refused(holder, name):
    data, word = TABLES[name]
    refused(lambda: holder.encrypt(data), word)


@pytest.mark.parametrize(
    ("option", "word"),
    [
        ({"bounds": "4"}, "bound of type str"),
        ({"bounds": True}, "bound of type bool"),
        ({"bounds": [1, 2, 3]}, "bound of type list"),
        ({"bounds": {"a": "x"}}, "bound of type str"),
        ({"bounds": {"z": 1.0}}, "z"),
        ({"bounds": pd.Series({"z": 1.0})}, "z"),
        ({"bounds": 0}, "pass a number above 0"),
        ({"bounds": float("nan")}, "pass a number above 0"),
        ({"bounds": 1e20}, "pass a smaller bound"),
        ({"missing": True}, "missing=True"),
        ({"missing": None}, "missing=None"),
        ({"missing": 5}, "missing=5"),
        ({"missing": ["z"]}, "'z'"),
        ({"layout": "blocks"}, "Layout.blocks"),
        ({"layout": None}, "Layout"),
        ({"packing": "complx"}, "'complx'"),
        ({"plan": "x"}, "net.plan_for"),
        ({"plan": 0}, "type int"),
    ],
    ids=repr,
)
def test_options_that_are_refused(holder, option, word):
    refused(lambda: holder.encrypt(FRAME, **option), word)


@pytest.mark.parametrize(
    "data",
    [GRADIENT, GRADIENT.detach().bfloat16(), ARRAY.astype(np.float16), ARRAY.tolist(), torch.arange(3)],
    ids=["gradient", "bfloat16", "float16", "lists", "whole"],
)
def test_tables_of_any_kind_of_number(holder, data):
    got = holder.decrypt(holder.encrypt(data))
    clear = data.detach().double().numpy() if isinstance(data, torch.Tensor) else np.asarray(data, float)
    assert np.abs(got - clear.reshape(got.shape)).max() < 2e-6


def test_bounds_by_name_count_for_columns_that_are_named_by_numbers(holder):
    frame = pd.DataFrame(ARRAY)
    for bounds in ({0: 8.0}, {"0": 8.0}, pd.Series({0: 8.0})):
        assert holder.encrypt(frame, bounds=bounds).bounds["0"] == 8.0


OPERATIONS = {
    "rows by a slice": (lambda e: e[0:2], "choose rows before"),
    "rows by a mask": (lambda e: e[FRAME["a"] > 0], "by a mask"),
    "rows by truth values": (lambda e: e[[True, False, True]], "by a mask"),
    "rows and columns": (lambda e: e[:, 0], "choose rows before"),
    "rows by numbers": (lambda e: e[np.array([1, 2]), ...], "choose rows before"),
    "everything": (lambda e: e[...], "choose rows before"),
    "a column that is not there": (lambda e: e["z"], "not here: z"),
    "a column twice": (lambda e: e[["a", "a"]], "different columns"),
    "no column": (lambda e: e[[]], "one or more"),
    "an attribute for a column": (lambda e: e.a, "use enc['a']"),
    "iloc": (lambda e: e.iloc[0], "choose rows before"),
    "head": (lambda e: e.head(), "choose rows before"),
    "values": (lambda e: e.values, "holder.decrypt"),
    "groupby": (lambda e: e.groupby("a"), "before encrypting"),
    "apply": (lambda e: e.apply(np.exp), "sums and products"),
    "something else": (lambda e: e.foo, "help("),
    "setting a column": (lambda e: e.__setitem__("a", 1), "assign"),
    "equal": (lambda e: e == 1, "compares values"),
    "equal to itself": (lambda e: e == e, "compares values"),
    "not equal": (lambda e: e != 1, "compares values"),
    "less": (lambda e: e < 1, "compares values"),
    "greater, reflected": (lambda e: e > 1, "compares values"),
    "less than an array": (lambda e: e > ARRAY, "compares values"),
    "less than a frame": (lambda e: e > FRAME, "compares values"),
    "absolute": (abs, "compares values"),
    "round": (round, "compares values"),
    "a whole quotient": (lambda e: e // 2, "compares values"),
    "a remainder": (lambda e: e % 2, "compares values"),
    "a float of it": (float, "holder.decrypt"),
    "an int of it": (int, "holder.decrypt"),
    "and": (lambda e: e & e, "a * b"),
    "not": (lambda e: ~e, "1 - a"),
    "its reciprocal": (lambda e: 1 / e, "reciprocal"),
    "a power of it": (lambda e: 2**e, "polynomial"),
    "weights on the left": (lambda e: np.ones((2, 5)) @ e, "enc @ weights"),
    "exp": (np.exp, "np.exp"),
    "sqrt": (np.sqrt, "np.sqrt"),
    "isnan": (np.isnan, "np.isnan"),
    "np.sum": (np.sum, "enc.sum()"),
    "np.mean": (np.mean, "enc.mean()"),
    "np.concatenate": (lambda e: np.concatenate([e, e]), "np.concatenate"),
    "np.add.reduce": (lambda e: np.add.reduce(e), "np.add"),
    "an array of it": (np.asarray, "only the key holder"),
    "a DataFrame of it": (pd.DataFrame, "holder.decrypt"),
    "encrypted again": (lambda e: KeyHolder.generate("agg").encrypt(e), "only the key holder"),
    "plus an array": (lambda e: e + np.ones(3), "column", "ndarray"),
    "array plus it": (lambda e: np.ones(5) + e, "ndarray"),
    "frame plus it": (lambda e: FRAME + e, "DataFrame"),
    "plus a Series": (lambda e: e - FRAME.mean(), "kit.fhe.concat"),
    "plus text": (lambda e: e + "a", "type str"),
    "plus nothing": (lambda e: e + None, "NoneType"),
    "plus truth": (lambda e: e + True, "type bool"),
    "plus NaN": (lambda e: e + float("nan"), "nan"),
    "plus a complex number": (lambda e: e + 1j, "complex"),
    "plus a decimal": (lambda e: e + decimal.Decimal(1), "Decimal"),
    "plus too much": (lambda e: e + 10**400, "finite"),
    "plus a lot": (lambda e: e + 1e300, "bits"),
    "times a lot": (lambda e: e * 1e300, "too coarse"),
    "times the largest": (lambda e: e * 1.7e308, "too coarse"),
    "times too much": (lambda e: e * 10**400, "finite"),
    "times a hair": (lambda e: e * 1e-300, "rounds to 0"),
    "times 0": (lambda e: e * 0, "anyone can read"),
    "by 0": (lambda e: e / 0, "divided by 0"),
    "by a hair": (lambda e: e / 5e-324, "further from 0"),
    "by itself": (lambda e: e / e, "not a polynomial"),
    "minus itself": (lambda e: e - e, "anyone can read"),
    "power 0": (lambda e: e**0, "exponent 0"),
    "power -1": (lambda e: e**-1, "exponent -1"),
    "root": (lambda e: e**0.5, "exponent 0.5"),
    "level used up": (lambda e: e * 0.5 * 0.5, "'linear' has 1 level in all"),
    "one column more": (lambda e: e + e[["a", "b"]], "column names must agree"),
    "other rows": (lambda e: e + e.assign(d=e["a"]).drop("d").sum().sums, "rows 5 and 1"),
    "weights of text": (lambda e: e @ ["x", "y", "z"], "expected numbers"),
    "weights of numbers as text": (lambda e: e @ ["1", "2", "3"], "expected numbers"),
    "complex weights": (lambda e: e @ np.array([1j, 2, 3]), "complex128"),
    "too few weights": (lambda e: e @ [1, 2], "shape (2,)"),
    "ragged weights": (lambda e: e @ [[1], [2, 3], [4]], "different length"),
    "NaN in weights": (lambda e: e @ [1, np.nan, 2], "finite"),
    "only zeros": (lambda e: e @ np.zeros(3), "every weight"),
    "sparse weights": (lambda e: e @ scipy.sparse.eye(3), ".toarray()"),
    "encrypted weights": (lambda e: e @ e, "only the key holder"),
    "weights of others": (lambda e: e @ pd.Series([1.0, 2.0, 3.0]), "'0', '1', '2'"),
    "no such ciphertexts": (lambda e: e.ciphers("z"), "'z'"),
    "a level that is text": (lambda e: e.drop_to("0"), "level '0'"),
    "half a level": (lambda e: e.drop_to(0.5), "level 0.5"),
    "no level": (lambda e: e.drop_to(None), "level None"),
    "a level above": (lambda e: e.drop_to(5), "0 to 1"),
    "dropping all": (lambda e: e.drop(["a", "b", "c"]), "keep at least one"),
    "renaming by nothing": (lambda e: e.rename(None), "NoneType"),
    "renaming alike": (lambda e: e.rename({"a": "b"}), "2 different"),
    "renaming by text": (lambda e: e.rename("abc"), "sequence"),
    "renaming too long": (lambda e: e.rename(["a" * 300, "b", "c"]), "longer than"),
    "assigning a number": (lambda e: e.assign(d=1), "type int"),
    "assigning a Series": (lambda e: e.assign(d=FRAME["a"]), "encrypt plain values"),
    "assigning many": (lambda e: e.assign(d=e), "3 columns"),
    "side by side: nothing": (lambda _: concat(None), "NoneType"),
    "side by side: none": (lambda _: concat([]), "list of one or more"),
    "side by side: a number": (lambda _: concat(5), "type int"),
    "side by side: clear": (lambda _: concat([FRAME]), "DataFrame"),
    "side by side: twice": (lambda e: concat([e, e]), "come twice"),
    "filling with 1": (lambda e: e.fillna(1), "only 0"),
    "a variance by half": (lambda e: e.var(ddof=0.5), "ddof=0.5"),
    "a variance by truth": (lambda e: e.var(ddof=True), "ddof=True"),
    "shift: text": (lambda e: e.var(shift="a"), "shift='a'"),
    "shift: NaN": (lambda e: e.var(shift=float("nan")), "shift=nan"),
    "shift: a name": (lambda e: e.var(shift={"z": 1.0}), "names z"),
    "over columns": (lambda e: e.mean(axis=1), "enc @ np.ones"),
    "the median": (lambda e: e.median(), "compares values"),
    "a mean plus 1": (lambda e: e.mean() + 1, "type int"),
    "a mean plus a sum": (lambda e: e.mean() + e.sum(), "a sum"),
    "an array of a mean": (lambda e: np.asarray(e.mean()), "holder.decrypt"),
    "finishing with text": (lambda e: e.mean().finish("x"), "dtype"),
    "finishing too few": (lambda e: e.mean().finish([1.0, 2.0]), "2 opened sums"),
    "bytes: nothing": (lambda _: EncryptedFrame.from_bytes(None), "NoneType"),
    "bytes: text": (lambda _: EncryptedFrame.from_bytes("abc"), "type str"),
    "bytes: a number": (lambda _: EncryptedFrame.from_bytes(10**12), "type int"),
    "bytes: none": (lambda _: EncryptedFrame.from_bytes(b""), "0 bytes"),
    "statistic: nothing": (lambda _: EncryptedStatistic.from_bytes(None), "NoneType"),
    "key: a table": (lambda e: EncryptedFrame.from_bytes(e.to_bytes(), key=FRAME), "type DataFrame"),
}


@pytest.mark.parametrize("name", OPERATIONS)
def test_operations_that_are_refused(enc, name):
    work, *words = OPERATIONS[name]
    refused(lambda: work(enc), *words)


KEYS = {
    "a profile: nothing": (lambda _: KeyHolder.generate(None), "type NoneType"),
    "a profile: a number": (lambda _: KeyHolder.generate(5), "type int"),
    "a profile: bytes": (lambda _: KeyHolder.generate(b"linear"), "type bytes"),
    "a profile: a list": (lambda _: KeyHolder.generate(["linear"]), "type list"),
    "rotations: text": (lambda h: h.evaluator(rotations="abc"), "type str"),
    "rotations: a number": (lambda h: h.evaluator(rotations=5), "type int"),
    "rotations: nothing": (lambda h: h.evaluator(rotations=None), "type NoneType"),
    "rotations: halves": (lambda h: h.evaluator(rotations=[1.5]), "whole numbers"),
    "checking a table": (lambda h: h.evaluator().check(FRAME), "a DataFrame was passed"),
    "decrypting a table": (lambda h: h.decrypt(FRAME), "a DataFrame was passed"),
    "reporting on nothing": (lambda h: h.opening_report(None), "a NoneType was passed"),
    "reporting on a mean": (lambda h: h.opening_report(h.encrypt(FRAME).mean()), "its .sums"),
    "public bytes: nothing": (lambda _: Evaluator.from_bytes(None), "type NoneType"),
    "public bytes: a number": (lambda _: Evaluator.from_bytes(10**12), "type int"),
    "precision: text": (lambda h: h.decrypt(h.encrypt(FRAME), precision="x"), "precision 'x'"),
    "precision: nothing": (lambda h: h.decrypt(h.encrypt(FRAME), precision=None), "precision None"),
    "precision: truth": (lambda h: h.opening_report(h.encrypt(FRAME), precision=True), "precision True"),
    "blocks: text": (lambda _: Layout.blocks("1"), "'1' samples"),
    "blocks: halves": (lambda _: Layout.blocks(1.5), "1.5 samples"),
    "blocks: nothing": (lambda _: Layout.blocks(None), "None samples"),
    "reading: a number": (lambda _: read_file(5, "a key"), "type int"),
    "reading: a NUL": (lambda _: read_file("a\0b", "a key"), "null"),
    "reading a key: nothing": (lambda _: KeyHolder.load(None, "long enough phrase"), "type NoneType"),
    "writing: bytes": (lambda _: write_atomic(b"a", b""), "type bytes"),
    "writing: a table": (lambda h: h.evaluator().save(FRAME), "type DataFrame"),
    "from a path": (lambda h: h.encrypt_to("rows.csv", "rows.ct"), "pd.read_csv(path, chunksize"),
    "from a Path": (lambda h: h.encrypt_to(Path("rows.csv"), "rows.ct"), "pd.read_csv(path, chunksize"),
    "from a sparse matrix": (lambda h: h.encrypt_to(scipy.sparse.eye(3), "rows.ct"), ".toarray()"),
    "to nowhere": (lambda h: h.encrypt_to(FRAME, None), "type NoneType"),
}


@pytest.mark.parametrize("name", KEYS)
def test_keys_and_files_that_are_refused(holder, name):
    work, word = KEYS[name]
    refused(lambda: work(holder), word)


def test_a_folder_is_no_file(holder, tmp_path):
    with pytest.raises(TwoPMError, match="it is a folder") as caught:
        holder.evaluator().save(tmp_path)
    assert f".{tmp_path.name}." not in str(caught.value)
    assert not list(tmp_path.iterdir())
    assert list(tmp_path.parent.glob(f".{tmp_path.name}.*")) == []
    refused(lambda: Evaluator.load(tmp_path), "Is a directory")


@pytest.fixture(scope="module")
def committee(holder):
    return Committee.deal(holder, 2, 3)


COMMITTEES = {
    "no partials": (lambda c, e: c.combine(e, None), "a NoneType was passed; expected a Partial"),
    "a number of partials": (lambda c, e: c.combine(e, 5), "a int was passed; expected a Partial"),
    "no set": (lambda c, e: c.members[0].partial(e, None), "[None]"),
    "a set of text": (lambda c, e: c.members[0].partial(e, [1, "2"]), "[1, '2']"),
    "precision: text": (lambda c, e: c.members[0].partial(e, [1, 2], precision="x"), "precision 'x'"),
    "no roster": (lambda *_: Committee(None), "type NoneType"),
    "members of text": (lambda c, _: Committee(c.roster, ["x"]), "a str was passed; expected a Member"),
    "a partial of nothing": (lambda *_: Partial.from_bytes(None), "type NoneType"),
    "a roster of nothing": (lambda *_: Roster.from_bytes(None), "type NoneType"),
}


@pytest.mark.parametrize("name", COMMITTEES)
def test_committees_that_are_refused(committee, enc, name):
    work, word = COMMITTEES[name]
    refused(lambda: work(committee, enc), word)


@pytest.mark.parametrize(
    ("t", "n", "words"),
    [
        (2, 10**6, ("n=1000000", "at most 64")),
        (1, 3, ("t=1", "at least 2 members")),
        (4, 3, ("t=4 with n=3", "lower threshold")),
        (2, 3.0, ("n=3.0", "whole numbers")),
        ("2", 3, ("t='2'", "whole numbers")),
    ],
)
def test_deals_that_are_refused(holder, t, n, words):
    refused(lambda: Committee.deal(holder, t, n), *words)


def test_only_what_is_wrong_with_partials_is_named(committee, enc):
    one = committee.members[0].partial(enc, [1, 2])
    with pytest.raises(TwoPMError, match=r"missing: \[2\]") as caught:
        committee.combine(enc, [one])
    assert "more than once" not in str(caught.value)
    assert "strangers" not in str(caught.value)


def test_noise_that_would_drown_values_is_not_added_unasked():
    """Half of a value that is encrypted with a small scale: 1024 times its error is as large as itself."""
    owner = KeyHolder.generate("cnn")
    small = owner.encrypt(FRAME / 16.0, bounds=0.5) * 0.5
    report = owner.opening_report(small)
    error = report["largest error"].max()
    assert error > 0.25 / 64
    refused(lambda: owner.decrypt(small), "column 'a'", "reach 0.25", "flood=False", f"precision={error:.2g}")
    assert owner.ledger.used == 0
    clear = FRAME / 32.0
    assert np.abs(owner.decrypt(small, flood=False) - clear).to_numpy().max() < 1e-3
    assert np.abs(owner.decrypt(small, precision=2.0 * error) - clear).to_numpy().max() < 4.0 * error


def test_sums_of_a_frame_with_itself_announce_all_of_their_noise(holder, enc):
    five = enc + enc + enc + enc + enc + enc
    assert five.heads[0].noise == pytest.approx(6 * enc.heads[0].noise)


def test_many_columns_of_a_block_are_hinted_at(holder):
    wide = pd.DataFrame(np.ones((1, 8)), columns=list("abcdefgh"))
    assert "a, b, c, d, e, f, …<" in holder.encrypt(wide, layout=Layout.blocks(1))._repr_html_()
    assert "a, b, c<" in holder.encrypt(FRAME, layout=Layout.blocks(1))._repr_html_()


def test_an_error_never_shows_a_table(enc):
    with pytest.raises(TwoPMError) as caught:
        EncryptedFrame.from_bytes(enc.to_bytes(), key=FRAME)
    assert f"{FRAME.iloc[0, 0]:.4f}" not in str(caught.value)


SAME = {
    "a number of NumPy": (lambda e: np.float64(2.5) * e, FRAME * 2.5),
    "a small float": (lambda e: e + np.float32(0.5), FRAME + 0.5),
    "an array without dimensions": (lambda e: e * np.array(2.0), FRAME * 2.0),
    "a tensor without dimensions": (lambda e: torch.tensor(2.0) + e * 1, FRAME + 2.0),
    "np.add": (lambda e: np.add(e, 1.0), FRAME + 1.0),
    "np.subtract, reflected": (lambda e: np.subtract(1.0, e), 1.0 - FRAME),
    "np.negative": (np.negative, -FRAME),
    "np.square": (np.square, FRAME**2),
    "plus sign": (lambda e: +e, FRAME),
    "a power that is a float": (lambda e: e**2.0, FRAME**2),
    "a power of NumPy": (lambda e: e ** np.int64(2), FRAME**2),
    "columns in another order": (lambda e: e + e[["c", "a", "b"]], FRAME * 2),
    "the sum of a list": (lambda e: sum([e, e]), FRAME * 2),
    "renamed by a function": (lambda e: e.rename(str.upper), FRAME.rename(columns=str.upper)),
    "renamed as pandas does": (lambda e: e.rename(columns={"a": "z"}), FRAME.rename(columns={"a": "z"})),
    "mean over rows": (lambda e: e.mean(axis=0), FRAME.mean()),
    "variance by zero": (lambda e: e.var(ddof=np.int64(0)), FRAME.var(ddof=0)),
    "pooled by sum()": (lambda e: sum([e.mean(), e.mean()]), FRAME.mean()),
    "column by column": (
        lambda e: concat([e[name] - FRAME[name].mean() for name in e]),
        FRAME - FRAME.mean(),
    ),
}


@pytest.mark.parametrize("name", SAME)
def test_habits_that_work(holder, enc, name):
    work, clear = SAME[name]
    got = holder.decrypt(work(enc))
    assert type(got) is type(clear)
    if isinstance(clear, pd.DataFrame):
        assert list(got.columns) == list(clear.columns)
    assert np.abs(np.asarray(got) - clear.to_numpy()).max() < 3e-5


def test_weights_with_a_gradient(holder, enc):
    weights = torch.ones(3, dtype=torch.float64, requires_grad=True)
    got = np.asarray(holder.decrypt(enc @ weights)).ravel()
    assert np.abs(got - FRAME.sum(axis=1)).max() < 2e-6


def test_blocks_are_never_taken_for_columns(holder):
    """Columns in blocks share ciphertexts: a weighted sum of them would be wrong without a word."""
    blocks = holder.encrypt(FRAME, layout=Layout.blocks(2))
    model = kit.fhe.LogisticRegression.from_plain([1.0, 2.0, 3.0])
    refused(lambda: blocks @ np.ones(3), "'blocks'")
    refused(lambda: blocks.ciphers("b"), "blocks")
    refused(lambda: model.decision_function(blocks), "columns")
    refused(lambda: kit.fhe.weighted_sum(blocks, {"a": 1.0, "b": 1.0, "c": 1.0}), "columns")
    refused(lambda: kit.fhe.PCA.from_plain(np.eye(3)[:2], np.zeros(3)).transform(blocks), "columns")
    refused(lambda: blocks["a"], "blocks")
    refused(lambda: blocks.mean(), "'blocks'")
    refused(lambda: blocks + holder.encrypt(FRAME), "2 rows a block")
    assert np.abs(holder.decrypt(blocks * blocks) - FRAME**2).to_numpy().max() < 1e-5


class Square(torch.nn.Module):
    """Squares."""

    def forward(self, x):
        return x * x


ROWS = np.random.default_rng(1).normal(size=(16, 4))
NETWORK = torch.nn.Sequential(torch.nn.Linear(4, 3), Square(), torch.nn.Linear(3, 2)).eval()
LABELS = np.zeros(16, dtype=int)

NETWORKS = {
    "half precision": (lambda: kit.fhe.compile(torch.nn.Linear(4, 2).half(), ROWS), "module.float()"),
    "a class": (lambda: kit.fhe.compile(torch.nn.Linear, ROWS), "torch.nn.Module"),
    "compiled already": (lambda: kit.fhe.compile(scripted(), ROWS), "compiled already"),
    "a recurrent layer": (lambda: kit.fhe.compile(torch.nn.LSTM(4, 2), ROWS), "tuple"),
    "a maximum": (lambda: kit.fhe.compile(torch.nn.Sequential(torch.nn.MaxPool1d(2)), ROWS), "AvgPool"),
    "a profile mistyped": (lambda: kit.fhe.compile(NETWORK, ROWS, profile="lineer"), "'lineer'"),
    "a profile too small": (lambda: kit.fhe.compile(NETWORK, ROWS, profile="linear"), "3 levels"),
    "rows of another width": (lambda: kit.fhe.compile(NETWORK, np.ones((3, 7))), "(3, 7)"),
    "no rows": (lambda: kit.fhe.compile(NETWORK, ROWS[:0]), "(0, 4)"),
    "missing values": (lambda: kit.fhe.compile(NETWORK, ROWS * np.nan), "NaN"),
    "text": (lambda: kit.fhe.compile(NETWORK, "x"), "not a table"),
    "names that are a number": (lambda: kit.fhe.compile(NETWORK, ROWS, names=5), "names=5"),
    "names that are text": (lambda: kit.fhe.compile(NETWORK, ROWS, names="ab"), "names='ab'"),
    "a profile that is none": (lambda: kit.fhe.compile(NETWORK, ROWS, profile=None), "NoneType"),
    "columns twice": (
        lambda: kit.fhe.compile(NETWORK, pd.DataFrame(ROWS, columns=["a", "b", "a", "c"])),
        "one name: a",
    ),
    "labels of text": (lambda: tune((ROWS, LABELS.astype(str))), "return_inverse"),
    "labels beyond the outputs": (lambda: tune((ROWS, LABELS + 7)), "from 7 to 7"),
    "labels below 0": (lambda: tune((ROWS, LABELS - 1)), "from -1"),
    "values for two outputs": (lambda: tune((ROWS, LABELS * 1.0)), "2 outputs"),
    "labels for other rows": (lambda: tune((ROWS, LABELS[:3])), "16 rows"),
    "three arrays": (lambda: tune((ROWS, LABELS, LABELS)), "(X, y)"),
    "rows too wide": (lambda: tune((np.ones((16, 9)), LABELS)), "(1, 9)"),
    "a rate of text": (lambda: tune((ROWS, LABELS), lr="x"), "lr='x'"),
    "no epochs": (lambda: tune((ROWS, LABELS), epochs=0), "epochs=0"),
    "epochs of text": (lambda: tune((ROWS, LABELS), epochs="x"), "epochs='x'"),
}


def scripted():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # torch's own, of torch.jit
        return torch.jit.trace(NETWORK, torch.ones(1, 4))


def tune(data, **options):
    return kit.fhe.fine_tune(NETWORK, data, **{"epochs": 1, "progress": False, **options})


@pytest.mark.parametrize("name", NETWORKS)
def test_networks_that_are_refused(name):
    work, word = NETWORKS[name]
    refused(work, word)


def test_networks_with_hooks_gradients_and_other_modes():
    hooked = torch.nn.Sequential(torch.nn.Linear(4, 2), torch.nn.Dropout(0.5)).train()
    hooked[0].register_forward_hook(lambda *given: given[-1] * 3)
    net = kit.fhe.compile(hooked, ROWS)
    assert hooked.training
    rows = torch.tensor(ROWS, dtype=torch.float32, requires_grad=True)
    with torch.no_grad():
        clear = hooked.eval()(rows).numpy()
    assert np.abs(net.simulate(rows) - clear).max() < 1e-5


def test_one_is_singular(holder):
    one = holder.encrypt(FRAME[["a"]][:1])
    assert "1 row × 1 column," in repr(one)
    assert "1 row × 1 column, 1 ciphertext of" in one._repr_html_()
    assert "mean of 1 column over 1 row: 1 masked sum," in repr(one.mean())
    assert "5 rows × 3 columns" in repr(holder.encrypt(FRAME))


def test_a_frame_still_works_as_a_key(enc):
    assert {enc: 1}[enc] == 1
    assert enc in [enc]
    assert not hasattr(enc, "__cuda_array_interface__")
    assert not hasattr(enc, "nothing_of_this_name")
