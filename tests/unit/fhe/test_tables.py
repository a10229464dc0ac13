import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from twopm_kit.errors import CiphertextError, SchemaError
from twopm_kit.fhe import PROFILES
from twopm_kit.fhe.tables import MAX_CATEGORIES, check_table, rebuild

LINEAR = PROFILES["linear"]


def there_and_back(frame, missing="mask", error=1e-6):
    table = check_table(frame, LINEAR, missing=missing)
    noise = np.random.default_rng(0).uniform(-error, error, table.values.shape)
    errors = (error,) * len(table.names)
    return table, rebuild(table.names, table.values + noise, table.source, table.kinds, errors)


columns = st.one_of(
    st.lists(st.one_of(st.floats(-1e6, 1e6), st.none()), min_size=6, max_size=6).map(
        lambda v: pd.Series(v, dtype="float64")
    ),
    st.lists(st.integers(-(10**6), 10**6), min_size=6, max_size=6).map(pd.Series),
    st.lists(st.booleans(), min_size=6, max_size=6).map(pd.Series),
    st.lists(st.one_of(st.integers(-99, 99), st.none()), min_size=6, max_size=6).map(
        lambda v: pd.Series(v, dtype="Int64")
    ),
    st.lists(st.one_of(st.booleans(), st.none()), min_size=6, max_size=6).map(
        lambda v: pd.Series(v, dtype="boolean")
    ),
    st.lists(st.one_of(st.sampled_from(["", "x", "=", "x=y", "ü"]), st.none()), min_size=6, max_size=6).map(
        lambda v: pd.Series(pd.Categorical(v, categories=["x=y", "x", "", "=", "ü"]))
    ),
)


@settings(max_examples=80, deadline=None)
@given(st.dictionaries(st.sampled_from(["a", "b", "c", "a b", "é", "d"]), columns, min_size=1, max_size=5))
def test_every_table_comes_back(made):
    frame = pd.DataFrame(made)
    table, back = there_and_back(frame)
    assert table.values.shape == (6, len(table.names)) == (6, len(table.kinds))
    assert np.isfinite(table.values).all()
    assert list(back.columns) == list(frame.columns)
    for name in frame:
        was, now = frame[name], back[name]
        assert now.isna().tolist() == was.isna().tolist()
        if isinstance(was.dtype, pd.CategoricalDtype):
            assert now.dtype == was.dtype
            assert now[now.notna()].tolist() == was[was.notna()].tolist()
        elif was.dtype == np.float64:
            assert np.abs(now - was).fillna(0).max() <= 1e-6
        else:
            assert now.dropna().tolist() == was.dropna().tolist()
            assert str(now.dtype).lower() == str(was.dtype).lower() or not was.isna().any()


def test_text_becomes_sorted_public_categories():
    table, back = there_and_back(pd.DataFrame({"city": ["Rome", "Oslo", "Rome"]}), "refuse")
    assert table.names == ("city=Oslo", "city=Rome")
    assert table.kinds == ("category:city", "category:city")
    assert table.values.tolist() == [[0, 1], [1, 0], [0, 1]]
    assert table.bounds == (1.0, 1.0)
    assert back["city"].tolist() == ["Rome", "Oslo", "Rome"]
    table, _ = there_and_back(pd.DataFrame({"k": pd.Categorical([2, 1], categories=[1, 2, 3])}))
    assert table.names == ("k=1", "k=2", "k=3")


def test_bounds_are_for_columns_of_numbers():
    frame = pd.DataFrame({"a": [1.0, np.nan], "c": ["x", "y"]})
    assert check_table(frame, LINEAR, 5.0, "mask").bounds == (5.0, 1.0, 1.0, 1.0)
    assert check_table(frame, LINEAR, {"a": 2.0}, "mask").bounds == (2.0, 1.0, 1.0, 1.0)
    with pytest.raises(SchemaError, match="does not have"):
        check_table(frame, LINEAR, {"a=present": 2.0}, "mask")


@pytest.mark.parametrize(
    ("data", "missing", "words"),
    [
        ({"id": [f"p{i}" for i in range(MAX_CATEGORIES + 1)]}, "refuse", ["'id'", "65 categories", "rare"]),
        ({"c": pd.Series([None, None], dtype=object)}, "mask", ["'c'", "0 categories"]),
        ({"c": ["x", None]}, "refuse", ["'c'", "row 1", "NaN", 'missing="mask"']),
        ({"a": [np.nan, 1.0]}, "refuse", ["'a'", "row 0", "NaN", 'missing="mask"']),
        ({"a": [np.inf, 1.0]}, "mask", ["'a'", "row 0", "infinite"]),
        ({"c": pd.Series([True, "x"], dtype=object)}, "mask", ["'c'", "bool", "infer_objects"]),
        ({"c": pd.Categorical(["1", 1], categories=["1", 1])}, "mask", ["'c'", "1 different as text"]),
        ({"a": [1.0], "a=present": [1.0]}, "mask", ["not unique", "a=present"]),
        ({"c": ["x"], "c=x": [1.0]}, "refuse", ["not unique", "c=x"]),
        ({"c": ["x" * 200]}, "refuse", ["longer than 200"]),
        ({"t": pd.to_datetime(["2020-01-01", None])}, "mask", ["'t'", "datetime"]),
        ({"t": pd.to_timedelta([1])}, "mask", ["'t'", "timedelta"]),
        ({"a": [1.0]}, "ignore", ["missing='ignore'"]),
        ({"a": [1.0]}, ["b"], ["missing=", "'refuse', 'mask'"]),
    ],
)
def test_tables_that_are_refused(data, missing, words):
    with pytest.raises(SchemaError) as caught:
        check_table(pd.DataFrame(data), LINEAR, missing=missing)
    for word in words:
        assert word in str(caught.value)
    assert caught.value.hint


def test_rounding_stops_where_it_is_not_safe():
    frame = pd.DataFrame({"i": [1, 2], "b": [True, False]})
    _, back = there_and_back(frame, error=0.3)
    assert [str(d) for d in back.dtypes] == ["float64", "float64"]
    big = rebuild(("i",), np.array([[2.0**60]]), "frame", ("int",), (0.0,))
    assert big["i"].dtype == np.float64
    counted = rebuild(("b",), np.array([[2.0], [1.0]]), "frame", ("bool",), (0.0,))
    assert counted["b"].tolist() == [2, 1]
    for gaps in (pd.DataFrame({"a": [1.0, np.nan]}), pd.DataFrame({"c": ["x", "y"]})):
        with pytest.raises(CiphertextError, match="told apart"):
            there_and_back(gaps, error=0.3)


def test_arrays_stay_float64_arrays():
    table = check_table(np.array([[1, 2], [3, 4]]), LINEAR)
    assert table.kinds == ("float", "float")
    assert table.source == "array"
    back = rebuild(table.names, table.values, table.source, table.kinds)
    assert back.tolist() == [[1.0, 2.0], [3.0, 4.0]]
    assert "2 rows × 2 columns" in repr(table)
