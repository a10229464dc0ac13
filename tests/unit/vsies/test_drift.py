"""Drift between nodes: equal, shifted, scaled, and other shares."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from twopm_kit.errors import SchemaError
from twopm_kit.vsies.drift_table import drift
from twopm_kit.vsies.schema import Field, Schema
from twopm_kit.vsies.standard import Standard

SCHEMA = Schema(
    "clinics",
    [
        Field("x", "float", standard="zscore", nullable=True),
        Field("l", "float", low=0, standard="log"),
        Field("i", "int", low=0, high=9),
        Field("b", "bool"),
        Field("c", "category", categories=("p", "q", "r")),
        Field("o", "category"),
    ],
)


def clinic(seed, n=4_000, *, move=0.0, stretch=1.0, shares=(0.5, 0.3, 0.2)):
    rng = np.random.default_rng(seed)
    return pd.DataFrame(
        {
            "x": rng.normal(10 + 2 * move, 2 * stretch, n),
            "l": np.exp(rng.normal(3 + move, stretch, n)),
            "i": np.clip(rng.poisson(1 + move, n), 0, 9),
            "b": rng.random(n) < 0.3 + 0.2 * move,
            "c": rng.choice(["p", "q", "r"], n, p=shares),
            "o": rng.choice(["u", "v", "w"], n, p=shares),
        }
    )


REFERENCE = Standard.fit(SCHEMA, clinic(0, 20_000))
BARE = Standard.of(SCHEMA, {name: replace(one, shares=()) for name, one in REFERENCE.statistics.items()})
NUMBERS = ["x", "l", "i"]


def lines(found, node="here"):
    return found[found["node"] == node].set_index("column")


def test_equal_data_are_stable():
    found = lines(drift(REFERENCE, clinic(1)))
    assert list(found.index) == SCHEMA.names
    assert (found["verdict"] == "stable").all()
    assert (found["psi"] < 5 * found["by_chance"]).all()
    assert (found["ks"].dropna() < 0.04).all()
    assert (found["mean_shift"].dropna().abs() < 0.1).all()
    assert (found["values"] == 4_000).all()
    assert list(found.index[found["ks"].isna()]) == ["c", "o"]


def test_shifted_data_drift():
    found = drift(REFERENCE, {"equal": clinic(1), "a bit": clinic(2, move=0.4), "far": clinic(3, move=1.0)})
    assert list(found["node"].unique()) == ["equal", "a bit", "far"]
    bit, far = lines(found, "a bit"), lines(found, "far")
    assert (bit.loc[["x", "l"], "verdict"] == "shifted").all()
    assert (far.loc[NUMBERS, "verdict"] == "drifted").all()
    # one standard deviation, in the units that statistics are of
    assert far.loc[["x", "l"], "mean_shift"].to_numpy() == pytest.approx(1, abs=0.1)
    # of two normal distributions one standard deviation apart: 2 Φ(1/2) - 1
    assert far.loc[["x", "l"], "ks"].to_numpy() == pytest.approx(0.383, abs=0.03)
    assert far.loc["b", "ks"] == pytest.approx(0.2, abs=0.03)
    assert far.loc["b", "psi"] == pytest.approx(0.2 * np.log(0.5 * 0.7 / (0.3 * 0.5)), abs=0.03)
    assert (far.loc[["c", "o"], "verdict"] == "stable").all()


def test_scaled_data_drift_though_their_mean_stays():
    found = lines(drift(REFERENCE, clinic(4, stretch=2.0)))
    assert (found.loc[["x", "l"], "verdict"] == "drifted").all()
    assert found.loc["x", "mean_shift"] == pytest.approx(0, abs=0.1)


def test_shares_of_categories():
    here = (0.2, 0.3, 0.5)
    found = lines(drift(REFERENCE, clinic(5, shares=here)))
    expected = sum((p - q) * np.log(p / q) for p, q in zip(here, (0.5, 0.3, 0.2), strict=True))
    assert found.loc[["c", "o"], "psi"].to_numpy() == pytest.approx(expected, abs=0.06)
    assert (found.loc[["c", "o"], "verdict"] == "drifted").all()
    new = clinic(6).assign(o="new")
    assert lines(drift(REFERENCE, new)).loc["o", "verdict"] == "drifted"


def test_deciles_alone_are_enough_for_numbers():
    equal, far = lines(drift(BARE, clinic(1))), lines(drift(BARE, clinic(3, move=1.0)))
    assert (equal.loc[[*NUMBERS, "b"], "verdict"] == "stable").all()
    assert (far.loc[NUMBERS, "verdict"] == "drifted").all()
    assert (equal.loc[["c", "o"], "verdict"] == "unknown").all()
    whole = lines(drift(REFERENCE, clinic(3, move=1.0)))
    assert (far.loc[NUMBERS, "psi"] <= whole.loc[NUMBERS, "psi"] + 0.02).all()
    assert far.loc["x", "psi"] == pytest.approx(whole.loc["x", "psi"], abs=0.02)


def test_missing_values_are_counted_and_few_tell_nothing():
    frame = clinic(7, 100)
    frame.loc[:84, "x"] = np.nan
    found = lines(drift(REFERENCE, frame))
    assert found.loc["x", "missing"] == 0.85
    assert found.loc["x", "verdict"] == "too few"
    assert found.loc["x", ["psi", "by_chance", "ks", "mean_shift"]].isna().all()
    assert found.loc["l", "values"] == 100
    assert (lines(drift(REFERENCE, clinic(8, 19)))["verdict"] == "too few").all()


def test_without_figures_there_is_no_verdict():
    schema = Schema("d", [Field("m", "float", low=0, high=1, standard="minmax")])
    found = drift(Standard.declared(schema), pd.DataFrame({"m": np.linspace(0, 1, 30)}))
    assert found["verdict"].tolist() == ["unknown"]


def test_a_constant_column_has_moved_or_not():
    schema = Schema("d", [Field("m", "float", standard="zscore")])
    flat = pd.DataFrame({"m": [0.1] * 40})
    reference = Standard.fit(schema, flat)
    found = drift(reference, {"same": flat, "up": flat + 1})
    assert found["mean_shift"].tolist() == [0, np.inf]
    assert found["verdict"].tolist() == ["stable", "drifted"]


def test_no_row_is_in_the_table():
    frame = clinic(9)
    found = drift(REFERENCE, {"a": frame, "b": clinic(10)})
    assert len(found) == 2 * len(SCHEMA)
    assert not set(found["mean_shift"].dropna()) & set(frame["x"])
    assert list(found.columns) == [
        "node",
        "column",
        "values",
        "missing",
        "psi",
        "by_chance",
        "ks",
        "mean_shift",
        "verdict",
    ]


@pytest.mark.parametrize("frames", [{}, [1], None, {"a": 3}, clinic(1).drop(columns="x")])
def test_what_cannot_be_compared(frames):
    with pytest.raises(SchemaError):
        drift(REFERENCE, frames)


def test_the_reference_must_be_a_standard():
    with pytest.raises(SchemaError, match="expected a Standard"):
        drift(SCHEMA, clinic(1))
