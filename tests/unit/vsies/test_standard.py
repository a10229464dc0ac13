"""Fitted transforms: against scikit-learn, there and back, exact, and safe from strangers."""

import json
import math
import pickle
from dataclasses import replace
from fractions import Fraction

import mpmath
import numpy as np
import pandas as pd
import pytest
from eth_hash.auto import keccak
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.preprocessing import MinMaxScaler, RobustScaler, StandardScaler

from twopm_kit.errors import SchemaError
from twopm_kit.vsies.scales import log1p
from twopm_kit.vsies.schema import Field, Schema
from twopm_kit.vsies.standard import Standard, Statistics, measured

SCHEMA = Schema(
    "all",
    [
        Field("z", "float", low=-1e3, high=1e3, standard="zscore", nullable=True),
        Field("m", "float", low=0, high=10, standard="minmax"),
        Field("r", "float", standard="robust"),
        Field("l", "float", low=0, high=1e6, standard="log"),
        Field("n", "float", low=-5, high=3),
        Field("i", "int", low=0, high=9, standard="zscore", nullable=True),
        Field("b", "bool", nullable=True),
        Field("c", "category", categories=("y", "x", "never")),
        Field("o", "category", nullable=True),
    ],
)


def table(n=200, seed=0):
    rng = np.random.default_rng(seed)
    frame = pd.DataFrame(
        {
            "z": rng.normal(50, 5, n),
            "m": rng.uniform(0, 10, n),
            "r": rng.normal(0, 3, n),
            "l": rng.lognormal(3, 1, n),
            "n": rng.uniform(-5, 3, n),
            "i": rng.integers(0, 10, n).astype(float),
            "b": pd.array(rng.random(n) < 0.3, dtype="boolean"),
            "c": rng.choice(["x", "y"], n),
            "o": rng.choice(["q", "p"], n),
        }
    )
    frame.loc[frame.index[::7], ["z", "i", "o"]] = None
    frame.loc[frame.index[::5], "b"] = pd.NA
    return frame


FRAME = SCHEMA.validate(table())
FITTED = Standard.fit(SCHEMA, FRAME)
FIGURES = dict(FITTED.statistics)
LOGARITHMS = ("0x1.8663f793c46c7p-4", "0x1.62e42fefa39efp-1", "0x1.2cf9dd4b12035p+1", "0x1.c7a17b2ab89e4p+2")


def test_the_transforms_are_those_of_scikit_learn():
    done = FITTED.apply(FRAME)
    n = FRAME["z"].notna().sum()
    to_sample = np.sqrt((n - 1) / n)  # scikit-learn divides by n, not by n - 1
    expected = {
        "z": StandardScaler().fit_transform(FRAME[["z"]]) * to_sample,
        "m": MinMaxScaler().fit(np.array([[0.0], [10.0]])).transform(FRAME[["m"]].to_numpy()),
        "r": RobustScaler().fit_transform(FRAME[["r"]]),
        "l": StandardScaler().fit_transform(np.log1p(FRAME[["l"]])) * np.sqrt(199 / 200),
        "n": FRAME[["n"]].to_numpy(),
        "i": StandardScaler().fit_transform(FRAME[["i"]].astype(float)) * to_sample,
    }
    for name, values in expected.items():
        assert done[name].dtype == np.float64
        np.testing.assert_allclose(done[name], values[:, 0], rtol=1e-12, atol=1e-12)
    assert str(done["b"].dtype) == "boolean"
    assert list(done["c"].cat.categories) == ["y", "x", "never"]
    assert list(done["o"].cat.categories) == ["p", "q"]
    for name in ("b", "c", "o"):
        pd.testing.assert_series_equal(done[name], FRAME[name], check_categorical=False)


def test_there_and_back():
    back = FITTED.undo(FITTED.apply(FRAME))
    pd.testing.assert_frame_equal(back, FRAME, rtol=1e-12)
    assert back["i"].equals(FRAME["i"])
    some = FITTED.undo(FITTED.apply(FRAME)[["i", "z"]])
    pd.testing.assert_frame_equal(some, FRAME[["i", "z"]], rtol=1e-12)
    plain = Schema("p", [Field("x", "int", standard="zscore")])
    whole = pd.DataFrame({"x": [1, 5, 9]}, index=["a", "b", "b"])
    fitted = Standard.fit(plain, whole)
    pd.testing.assert_frame_equal(fitted.undo(fitted.apply(plain.validate(whole))), whole)


@pytest.mark.parametrize(
    "frame",
    [
        [1],
        FITTED.apply(FRAME).rename(columns={"z": "other"}),
        FRAME[["i"]],
        pd.DataFrame([[1.0, 2.0]], columns=["z", "z"]),
    ],
)
def test_what_was_not_transformed_is_not_undone(frame):
    with pytest.raises(SchemaError):
        FITTED.undo(frame)


def test_any_rows_give_the_same_bits():
    whole = FITTED.apply(FRAME)
    parts = pd.concat([FITTED.apply(FRAME.iloc[start : start + 33]) for start in range(0, 200, 33)])
    assert whole.select_dtypes("float64").equals(parts.select_dtypes("float64"))
    again = Standard.from_json(FITTED.to_json()).apply(FRAME)
    assert again.equals(whole)


@settings(max_examples=60, deadline=None)
@given(
    st.floats(-1e6, 1e6), st.floats(-1e6, 1e6), st.floats(1e-3, 1e6), st.sampled_from(["zscore", "robust"])
)
def test_a_transform_is_two_roundings_of_the_exact_one(value, centre, scale, standard):
    """The result is the exact difference, rounded, divided exactly, rounded: IEEE 754 and nothing else."""
    figures = Statistics(5, centre, scale, {0.25: centre, 0.5: centre, 0.75: centre + scale})
    schema = Schema("s", [Field("x", "float", standard=standard)])
    one = Standard.of(schema, {"x": figures}).apply(pd.DataFrame({"x": [value]}))["x"].iloc[0]
    spread = scale if standard == "zscore" else (centre + scale) - centre
    difference = float(Fraction(value) - Fraction(centre))
    assert one == float(Fraction(difference) / Fraction(spread))


def test_the_logarithm_is_right_to_two_places_and_rises():
    rng = np.random.default_rng(1)
    values = np.sort(
        np.concatenate(
            [
                [0, 5e-324, 1e-300, 2.0**-53, 0.5, 1, 2.0**53, 2.0**60, np.finfo(float).max],
                10.0 ** rng.uniform(-18, 18, 500),
                rng.uniform(0, 3, 500),
            ]
        )
    )
    found = log1p(values)
    with mpmath.workprec(200):
        for value, log in zip(values.tolist(), found.tolist(), strict=True):
            true = mpmath.log1p(mpmath.mpf(value))
            assert abs(mpmath.mpf(log) - true) <= 2 * math.ulp(log)
    assert (np.diff(found) >= 0).all()
    assert np.isnan(log1p(np.array([np.nan, 1.0]))).tolist() == [True, False]
    # the same on every machine
    assert log1p(np.array([0.1, 1.0, 9.5, 1234.5])).tolist() == [float.fromhex(text) for text in LOGARITHMS]


@pytest.mark.parametrize(
    "index", [["a", "b"] * 100, [None] * 200, pd.MultiIndex.from_product([["x"], range(200)])]
)
def test_rows_keep_their_index(index):
    frame = FRAME.set_axis(index, axis=0)
    done = FITTED.apply(SCHEMA.validate(frame))
    assert done.index.equals(frame.index)
    assert FITTED.undo(done).index.equals(frame.index)
    assert done["m"].tolist() == FITTED.apply(FRAME)["m"].tolist()


def test_columns_without_spread_are_noted():
    schema = Schema(
        "flat",
        [
            Field("z", "float", standard="zscore"),
            Field("r", "float", standard="robust"),
            Field("m", "float", low=2, high=2, standard="minmax"),
        ],
    )
    frame = pd.DataFrame({"z": [0.1] * 3, "r": [1.0, 1, 1], "m": [2.0] * 3})
    flat = Standard.fit(schema, frame)
    assert np.abs(flat.apply(frame).to_numpy()).max() < 1e-15
    assert flat.notes == tuple(
        f"{name}: no spread around {value}: the scale is 1"
        for name, value in (("z", 0.1), ("r", 1), ("m", 2))
    )
    assert flat.bounds == {"m": 1.0}
    assert FITTED.notes == ()
    assert Standard.fit(schema, frame.head(1)).statistics["z"].std == 0


def test_bounds_hold_for_every_value_in_range():
    bounds = FITTED.bounds
    assert set(bounds) == {"z", "m", "l", "n", "i", "b"}
    assert (bounds["m"], bounds["n"], bounds["b"]) == (1, 5, 1)
    ends = pd.concat([FRAME.head(2)] * 5, ignore_index=True)
    for name in ("z", "m", "l", "n", "i"):
        field = SCHEMA[name]
        ends[name] = np.linspace(field.low, field.high, len(ends)).astype(
            "int64" if name == "i" else "float64"
        )
    done = FITTED.apply(SCHEMA.validate(ends))
    for name in ("z", "m", "l", "n", "i"):
        assert done[name].abs().max() <= bounds[name]
        assert done[name].abs().max() >= bounds[name] * (1 - 1e-9)


@pytest.mark.parametrize(
    "frame",
    [
        [1],
        FRAME[FRAME.columns[::-1]],
        FRAME.drop(columns="m"),
        FRAME.assign(extra=1),
        FRAME.astype({"m": object}),
        FRAME.astype({"m": "float32"}),
        FRAME.astype({"i": "float64"}),
        FRAME.astype({"c": str}),
        FRAME.assign(c=FRAME["c"].cat.reorder_categories(["x", "y", "never"])),
        FRAME.assign(c=FRAME["c"].cat.as_ordered()),
        FRAME.assign(m=11.0),
        FRAME.assign(m=np.nan),
        FRAME.assign(o=pd.Categorical(["other"] * len(FRAME))),
        FRAME.head(0),
        FITTED.apply(FRAME),
    ],
)
def test_what_was_not_validated_is_refused(frame):
    with pytest.raises(SchemaError) as caught:
        FITTED.apply(frame)
    assert caught.value.hint


def test_what_leaves_float64_is_refused():
    schema = Schema("wide", [Field("x", "float", standard="zscore")])
    tiny = Standard.of(schema, {"x": Statistics(9, 0.0, 1e-300)})
    with pytest.raises(SchemaError, match="leave the range"):
        tiny.apply(pd.DataFrame({"x": [1e300]}))
    with pytest.raises(SchemaError, match="too far"):
        Standard.declared(Schema("w", [Field("x", "float", low=-1.7e308, high=1.7e308, standard="minmax")]))


def test_declared_needs_no_figures():
    schema = Schema("d", [Field("m", "float", low=0, high=4, standard="minmax"), Field("n", "float")])
    declared = Standard.declared(schema)
    frame = pd.DataFrame({"m": [0.0, 1, 4], "n": [7.0, 8, 9]})
    assert declared.apply(frame)["m"].tolist() == [0, 0.25, 1]
    assert declared.apply(frame)["n"].tolist() == [7, 8, 9]
    assert declared.bounds == {"m": 1}
    assert Standard.from_json(declared.to_json()) == declared
    for field in (
        Field("x", "float", standard="zscore"),
        Field("x", "float", standard="robust"),
        Field("x", "float", low=0, standard="log"),
        Field("x", "category"),
    ):
        with pytest.raises(SchemaError, match="'x'") as caught:
            Standard.declared(Schema("d", [field]))
        assert caught.value.hint


def test_figures_that_do_not_fit():
    for figures in (
        [],
        {"z": 3},
        {**FIGURES, "other": FIGURES["z"]},
        {name: one for name, one in FIGURES.items() if name != "z"},
        {name: one for name, one in FIGURES.items() if name != "o"},
        {**FIGURES, "r": replace(FIGURES["r"], quantiles={0.5: 1.0}, shares=())},
        {**FIGURES, "c": replace(FIGURES["c"], categories=("x", "y", "never"))},
        {**FIGURES, "o": replace(FIGURES["o"], categories=(), shares=())},
    ):
        with pytest.raises(SchemaError):
            Standard.of(SCHEMA, figures)
    with pytest.raises(SchemaError, match="expected a Schema"):
        Standard.of("all", FIGURES)
    with pytest.raises(SchemaError, match="no value to measure"):
        Standard.fit(SCHEMA, FRAME.assign(z=np.nan))


@pytest.mark.parametrize(
    "changes",
    [
        {"count": 0},
        {"count": 1.0},
        {"count": True},
        {"count": 2**54},
        {"mean": math.nan},
        {"mean": "1"},
        {"std": -1.0},
        {"std": math.inf},
        {"quantiles": {0.3: 2.0, 0.4: 1.0}},
        {"quantiles": {0.33: 2.0}},
        {"quantiles": {0.5: math.inf}},
        {"quantiles": [1]},
        {"categories": ("a", "a")},
        {"categories": "ab"},
        {"categories": ("a",), "shares": (0.5, 0.5)},
        {"categories": ("a", "b"), "shares": (0.5, 0.4)},
        {"categories": ("a", "b"), "shares": (1.5, -0.5)},
        {"shares": (1.0,)},
    ],
)
def test_figures_that_cannot_be(changes):
    with pytest.raises(SchemaError):
        Statistics(**{"count": 5, **changes})


def test_what_statistics_are_of():
    there = FRAME["l"].to_numpy()
    assert FIGURES["l"].mean == pytest.approx(np.log1p(there).mean())
    assert FIGURES["l"].quantiles[0.5] == pytest.approx(np.median(np.log1p(there)))
    assert FIGURES["z"].count == FRAME["z"].notna().sum()
    assert FIGURES["z"].std == pytest.approx(FRAME["z"].std(ddof=1))
    assert FIGURES["b"].mean == pytest.approx(FRAME["b"].mean())
    assert FIGURES["c"].categories == ("y", "x", "never")
    assert FIGURES["c"].shares == pytest.approx([(FRAME["c"] == name).mean() for name in ("y", "x", "never")])
    assert sum(FIGURES["z"].shares) == pytest.approx(1)
    assert np.isnan(measured(SCHEMA["z"], FRAME["z"])).sum() == FRAME["z"].isna().sum()
    shuffled = FRAME.sample(frac=1, random_state=3)
    assert Standard.fit(SCHEMA, shuffled).statistics["z"] == FIGURES["z"]


# JSON ----------------------------------------------------------------------------------------------------


def test_json_goes_round_byte_for_byte():
    text = FITTED.to_json()
    again = Standard.from_json(text)
    assert again == FITTED
    assert again.to_json() == text
    assert Standard.from_json(text.encode()).hash == FITTED.hash
    assert FITTED.hash == keccak(b"twopm/vsies/v1/standard" + text.encode())
    assert FITTED.schema_hash == SCHEMA.hash
    assert again.statistics["z"].mean.hex() == FITTED.statistics["z"].mean.hex()
    assert len({FITTED, again, Standard.fit(SCHEMA, table(seed=1))}) == 2
    assert pickle.loads(pickle.dumps(FITTED)) == FITTED


BODY = json.loads(FITTED.to_json())


def changed(name="z", **changes):
    body = json.loads(FITTED.to_json())
    body["statistics"][name].update(changes)
    return json.dumps(body, sort_keys=True, separators=(",", ":"))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{}",
        None,
        "[" * 100_000,
        SCHEMA.to_json(),
        FITTED.to_json() + " ",
        json.dumps(BODY),
        json.dumps({**BODY, "schema": 3}),
        json.dumps({**BODY, "schema": {}}),
        json.dumps({**BODY, "statistics": []}),
        json.dumps({**BODY, "statistics": {}}),
        json.dumps({**BODY, "statistics": {"z": 3}}),
        json.dumps({**BODY, "more": 1}),
        changed(more=1),
        changed(count="5"),
        changed(count=5.0),
        changed(mean=1),
        changed(mean=None),
        changed(quantiles=[1]),
        changed(quantiles={"x": 1.0}),
        changed(quantiles={"nan": 1.0}),
        changed(quantiles={"0.10": 1.0}),
        changed(shares={}),
        changed(categories=[3]),
        FITTED.to_json().replace('"std":', '"std":NaN,"std":', 1),
        FITTED.to_json().replace('"low":-1000.0', '"low":-1e999'),
        FITTED.to_json().replace('"standard":"robust"', '"standard":"__import__"'),
        "x" * (5 << 20),
    ],
)
def test_json_from_a_stranger(text):
    with pytest.raises(SchemaError):
        Standard.from_json(text)


def test_what_is_shown_is_escaped():
    bad = "<script>"
    schema = Schema(bad, [Field(bad, "float", standard="zscore"), Field("b", "bool")])
    fitted = Standard.fit(schema, pd.DataFrame({bad: [1.0, 2.0], "b": [True, False]}))
    assert "<script" not in fitted._repr_html_()
    assert "no spread" in Standard.fit(schema, pd.DataFrame({bad: [1.0], "b": [True]}))._repr_html_()
    assert "2 zscore, 1 minmax, 1 robust, 1 log" in repr(FITTED)
