"""Schemas: fields, validation in all its cases, canonical JSON, and drafts."""

import json
import pickle
from dataclasses import replace
from decimal import Decimal
from fractions import Fraction

import numpy as np
import pandas as pd
import pyarrow
import pytest
from eth_hash.auto import keccak
from hypothesis import given, settings
from hypothesis import strategies as st

import twopm_kit as kit
from twopm_kit.errors import SchemaError
from twopm_kit.vsies.schema import Field, Schema

PATIENTS = Schema(
    "patients",
    [
        Field("size", "float", low=1, high=50, unit="mm", resolution=0.1),
        Field("age", "int", low=0, high=120),
        Field("smoker", "bool"),
        Field("sex", "category", categories=("f", "m")),
        Field("score", "int", nullable=True),
        Field("note", "category", nullable=True),
    ],
)


def patients(n=6):
    return pd.DataFrame(
        {
            "size": np.linspace(2, 40, n),
            "age": np.arange(n) + 20,
            "smoker": np.arange(n) % 2 == 0,
            "sex": ["f", "m"] * (n // 2),
            "score": [1.0, np.nan] * (n // 2),
            "note": ["good", None] * (n // 2),
        }
    )


def failures(schema, frame):
    found = schema.report(frame).failures
    return [(c, r, f, None if row is pd.NA else int(row)) for c, r, f, row in found.itertuples(index=False)]


# A good frame --------------------------------------------------------------------------------------------


def test_a_good_frame_comes_back_in_order_and_dtypes():
    frame = patients()[["sex", "note", "age", "size", "smoker", "score"]].set_axis([7, 7, 8, 9, "x", None])
    valid = PATIENTS.validate(frame)
    assert list(valid) == PATIENTS.names
    assert list(valid.index) == list(frame.index)
    assert [str(kind) for kind in valid.dtypes] == [
        "float64",
        "int64",
        "bool",
        "category",
        "Int64",
        "category",
    ]
    assert list(valid["sex"].cat.categories) == ["f", "m"]
    assert list(valid["note"].cat.categories) == ["good"]
    for name in ("size", "age", "smoker", "sex"):
        assert list(valid[name]) == list(frame[name])
    assert list(valid["score"].isna()) == list(valid["note"].isna()) == [False, True] * 3
    pd.testing.assert_frame_equal(PATIENTS.validate(valid), valid)


@pytest.mark.parametrize(
    ("kind", "column", "dtype", "values"),
    [
        ("float", pd.Series([1, 2]), "float64", [1.0, 2.0]),
        ("float", pd.Series([1, 2], dtype="uint8"), "float64", [1.0, 2.0]),
        ("float", pd.Series([0.1], dtype="float32"), "float64", [float(np.float32(0.1))]),
        ("float", pd.Series([1, 2.5], dtype=object), "float64", [1.0, 2.5]),
        ("float", pd.Series([1.5, 2], dtype="Float64"), "float64", [1.5, 2.0]),
        ("float", pd.Series([1.5, 2], dtype="double[pyarrow]"), "float64", [1.5, 2.0]),
        ("float", pd.Series([0.0, 2.5], dtype=pd.SparseDtype("float64", 0.0)), "float64", [0.0, 2.5]),
        ("float", pd.Series([2**53, -(2**53)]), "float64", [2.0**53, -(2.0**53)]),
        ("int", pd.Series([1.0, -3.0]), "int64", [1, -3]),
        ("int", pd.Series([2**63 - 1, -(2**63)]), "int64", [2**63 - 1, -(2**63)]),
        ("int", pd.Series([5], dtype="uint64"), "int64", [5]),
        ("int", pd.Series([1, 2.0, np.int8(3)], dtype=object), "int64", [1, 2, 3]),
        ("int", pd.Series([1, 2], dtype="int64[pyarrow]"), "int64", [1, 2]),
        ("bool", pd.Series([0, 1]), "bool", [False, True]),
        ("bool", pd.Series([0.0, 1.0]), "bool", [False, True]),
        ("bool", pd.Series([True, 0, np.True_], dtype=object), "bool", [True, False, True]),
        ("bool", pd.Series([True, False], dtype="boolean"), "bool", [True, False]),
        ("category", pd.Series(["a", "b"], dtype=object), "category", ["a", "b"]),
        ("category", pd.Series(["a", "b"], dtype="string"), "category", ["a", "b"]),
        ("category", pd.Series(["b", "a"]).astype("category"), "category", ["b", "a"]),
    ],
)
def test_what_is_lossless_is_converted(kind, column, dtype, values):
    valid = Schema("one", [Field("x", kind)]).validate(column.to_frame("x"))
    assert str(valid["x"].dtype) == dtype
    assert list(valid["x"]) == values


@pytest.mark.parametrize(
    ("kind", "column", "dtype"),
    [
        ("float", pd.Series([1.5, np.nan]), "float64"),
        ("float", pd.Series([1, pd.NA], dtype="Int64"), "float64"),
        ("float", pd.Series([1, None], dtype=object), "float64"),
        ("int", pd.Series([1.0, np.nan]), "Int64"),
        ("int", pd.Series([2**62 + 1, pd.NA], dtype="Int64"), "Int64"),
        ("bool", pd.Series([True, None], dtype=object), "boolean"),
        ("bool", pd.Series([1.0, np.nan]), "boolean"),
        ("bool", pd.Series([True, pd.NA], dtype="boolean"), "boolean"),
        ("category", pd.Series(["a", None]), "category"),
        ("category", pd.Series(["a", pd.NaT], dtype=object), "category"),
    ],
)
def test_values_may_be_missing_where_the_field_says_so(kind, column, dtype):
    field = Field("x", kind, nullable=True)
    valid = Schema("one", [field]).validate(column.to_frame("x"))
    assert str(valid["x"].dtype) == dtype
    assert list(valid["x"].isna()) == [False, True]
    assert valid["x"].iloc[0] == column.iloc[0]
    strict = Schema("one", [replace(field, nullable=False)])
    assert failures(strict, column.to_frame("x")) == [("x", "not missing", "missing", 1)]


# Breaches ------------------------------------------------------------------------------------------------

NUMBER, WHOLE, TRUTH, TEXT = "a number", "a whole number", "true or false", "text"
HELD = "a number that float64 holds exactly (whole ones up to 2^53)"
HELD_INT = "a whole number of 64 bits (up to 2^53 if it comes as a float)"


@pytest.mark.parametrize(
    ("kind", "cells", "rule", "found"),
    [
        ("float", [1.0, "12"], NUMBER, "'12'"),
        ("float", [1.0, True], NUMBER, "True"),
        ("float", [1.0, [2, None]], NUMBER, "a list"),
        ("float", pd.Series([1.0, 2j], dtype=object), NUMBER, "2j"),
        ("float", [1.0, np.inf], "a finite number", "inf"),
        ("float", pd.Series([1.0, -np.inf], dtype=object), "a finite number", "-inf"),
        ("float", [1, 2**53 + 1], HELD, "9007199254740993"),
        ("float", pd.Series([1, 2**64 - 1], dtype="uint64"), HELD, "18446744073709551615"),
        ("float", pd.Series([1, 10**30], dtype=object), HELD, repr(10**30)),
        ("int", [1.0, 1.5], WHOLE, "1.5"),
        ("int", [1.0, np.inf], WHOLE, "inf"),
        ("int", [1, "2"], WHOLE, "'2'"),
        ("int", [1.0, 2.0**53 + 2], HELD_INT, "9007199254740994.0"),
        ("int", pd.Series([1, 2**63], dtype="uint64"), HELD_INT, "9223372036854775808"),
        ("int", pd.Series([1, 10**30], dtype=object), HELD_INT, repr(10**30)),
        ("int", pd.Series([1, 1.5], dtype=object), WHOLE, "1.5"),
        ("float", pd.Series([1.0, Fraction(1, 2)], dtype=object), NUMBER, "a Fraction"),
        ("int", pd.Series([1, Fraction(10**400, 3)], dtype=object), WHOLE, "a Fraction"),
        ("float", pd.Series([1.0, Decimal("0.1")], dtype=object), NUMBER, "a Decimal"),
        ("float", pd.Series([1.0, "x"], dtype=object), NUMBER, "'x'"),
        ("bool", [0, 2], TRUTH, "2"),
        ("bool", [1.0, 0.5], TRUTH, "0.5"),
        ("bool", [True, "yes"], TRUTH, "'yes'"),
        ("category", ["a", 1], TEXT, "1"),
        ("category", pd.Series(["a", 1]).astype("category"), TEXT, "1"),
        ("category", ["a", "x" * 65], "text of 1 to 64 printable characters", repr("x" * 60 + "…")),
        ("category", ["a", " b"], "text of 1 to 64 printable characters", "' b'"),
        ("category", ["a", "b\u200b"], "text of 1 to 64 printable characters", "'b\\u200b'"),
    ],
)
def test_what_is_not_of_the_kind_is_named(kind, cells, rule, found):
    schema = Schema("one", [Field("x", kind)])
    assert failures(schema, pd.DataFrame({"x": cells})) == [("x", rule, found, 1)]


@pytest.mark.parametrize("kind", ["float", "int", "bool", "category"])
@pytest.mark.parametrize("dtype", ["datetime64[ns]", "timedelta64[ns]", "complex128", "period[D]"])
def test_columns_of_another_dtype_are_refused_whole(kind, dtype):
    column = pd.Series([1, 2]).astype("datetime64[ns]") if dtype == "period[D]" else pd.Series([1, 2])
    column = column.dt.to_period("D") if dtype == "period[D]" else column.astype(dtype)
    report = Schema("one", [Field("x", kind)]).report(column.to_frame("x"))
    assert list(report.counts["breaches"]) == [2]


@pytest.mark.parametrize("kind", ["float", "int", "bool", "category"])
@pytest.mark.parametrize(
    "column",
    [
        pd.Series([Decimal("0.1")] * 2, dtype=pd.ArrowDtype(pyarrow.decimal128(5, 2))),
        pd.Series([[1], [2]], dtype=pd.ArrowDtype(pyarrow.list_(pyarrow.int64()))),
        pd.Series([b"a", b"b"], dtype=pd.ArrowDtype(pyarrow.binary())),
        pd.Series([b"a", b"b"], dtype=object),
        pd.Series([{"a": 1}, {1}], dtype=object),
        pd.Series(pd.interval_range(0, 2)),
    ],
    ids=lambda column: str(column.dtype),
)
def test_columns_of_things_are_refused_whole(kind, column):
    assert Schema("one", [Field("x", kind)]).report(column.to_frame("x")).breaches == 2


@pytest.mark.parametrize("label", [0, 1.5, np.nan, None, ("a", "b"), pd.Timestamp(0), b"x", "y\n"])
def test_odd_names_of_columns(label):
    frame = pd.DataFrame({"x": [1.0], "other": [2]})
    frame.columns = pd.Index(["x", label], dtype=object, tupleize_cols=False)
    schema = Schema("one", [Field("x", "float")])
    assert list(schema.report(frame).counts["rule"]) == ["column is not in the schema"]
    frame.columns = pd.Index([label, label], dtype=object, tupleize_cols=False)
    rules = ["column appears once", "column is not in the schema", "column is missing"]
    assert sorted(schema.report(frame).counts["rule"]) == sorted(rules)


@pytest.mark.skipif(np.finfo(np.longdouble).nmant == 52, reason="long doubles are float64 here")
def test_longer_floats_must_fit():
    schema = Schema("one", [Field("x", "float")])
    long = pd.DataFrame({"x": np.array([1, 1e300, 1], dtype=np.longdouble) * np.longdouble(1e100)})
    long.loc[2, "x"] = np.longdouble(1) / 3
    assert list(schema.report(long).failures["row"]) == [1, 2]
    assert schema.validate(pd.DataFrame({"x": np.array([0.1], dtype=np.longdouble)}))["x"].iloc[0] == 0.1


def test_ranges_and_categories():
    frame = patients().astype({"size": object})
    frame.loc[1, "size"] = 50.001
    frame.loc[2, "age"] = -1
    frame.loc[3, "sex"] = "F"
    assert failures(PATIENTS, frame) == [
        ("size", "between 1 and 50 mm", "50.001", 1),
        ("age", "between 0 and 120", "-1", 2),
        ("sex", "one of: f, m", "'F'", 3),
    ]


@pytest.mark.parametrize(
    ("low", "high", "values", "wrong"),
    [
        (1, None, [1, 0, 5], [1]),
        (None, 1, [1, 0, 5], [2]),
        (2**53, None, [2**53, 2**53 - 1, 2**53 + 1], [1]),
        (None, 2**53, [2**53, 2**53 - 1, 2**53 + 1], [2]),
    ],
)
def test_whole_numbers_are_compared_exactly(low, high, values, wrong):
    schema = Schema("one", [Field("x", "int", low=low, high=high)])
    assert list(schema.report(pd.DataFrame({"x": values})).failures["row"]) == wrong


def test_everything_is_found_at_once():
    frame = patients().astype({"size": object, "score": object})
    frame.loc[0, "size"] = "12"
    frame.loc[4, "size"] = 99
    frame.loc[1, "score"] = 0.5
    frame = frame.drop(columns="age").assign(extra=1)
    frame.insert(0, "sex", "f", allow_duplicates=True)
    assert failures(PATIENTS, frame) == [
        ("extra", "column is not in the schema", "column", None),
        ("size", "a number", "'12'", 0),
        ("size", "between 1 and 50 mm", "99", 4),
        ("age", "column is missing", "no column", None),
        ("sex", "column appears once", "more than once", None),
        ("score", "a whole number", "0.5", 1),
    ]
    with pytest.raises(SchemaError, match="5 more rules are broken") as caught:
        PATIENTS.validate(frame)
    assert len(caught.value.failures) == 6
    assert "99" not in str(caught.value)


def test_the_table_is_bounded_and_each_rule_has_its_share():
    n = 3_000
    schema = Schema("two", [Field("a", "float", high=0), Field("b", "float", high=0, nullable=True)])
    frame = pd.DataFrame({"a": np.ones(n), "b": [*[0.0] * (n - 1), 1.0]})
    report = schema.report(frame)
    assert report.breaches == n + 1
    assert len(report.failures) == 501
    assert report.failures.iloc[-1].tolist() == ["b", "at most 0", "1.0", n - 1]
    assert report.more == "2,500 more breaches are counted, not listed"
    many = Schema("many", [Field(f"c{i}", "float", high=0) for i in range(20)])
    full = many.report(pd.DataFrame(np.ones((200, 20)), columns=many.names))
    assert (full.breaches, len(full.failures)) == (4_000, 1_000)
    assert full.failures["column"].nunique() == 20


def test_what_is_not_a_table():
    for other in (None, [1], {"size": [1]}, np.ones((2, 2)), pd.Series([1])):
        with pytest.raises(SchemaError, match="expected a pandas DataFrame"):
            PATIENTS.validate(other)
    assert failures(PATIENTS, patients().head(0)) == [("", "at least one row", "no rows", None)]
    double = pd.DataFrame([[1, 2]], columns=pd.MultiIndex.from_tuples([("a", "b"), ("a", "c")]))
    assert failures(PATIENTS, double) == [("", "one row of column names", "2 rows of them", None)]
    numbered = patients().rename(columns={"size": 0})
    assert failures(PATIENTS, numbered)[0] == ("0", "column is not in the schema", "column", None)


def test_parts_of_a_table_are_checked_alone():
    frame = patients(6).astype({"size": object})
    frame.loc[4, "size"] = "12"
    good = PATIENTS.validate(frame.iloc[:3])
    report = PATIENTS.report(frame.iloc[3:], first_row=3)
    assert len(good) == 3
    assert list(report.failures["row"]) == [4]


def test_validation_cannot_be_turned_off(monkeypatch):
    """Variables of the environment, and other code in the process, can switch pandera's own checks off."""
    from pandera.config import CONFIG, ValidationDepth, config_context

    frame = patients().assign(age=-1)
    monkeypatch.setattr(CONFIG, "validation_enabled", False)
    for depth in (ValidationDepth.SCHEMA_ONLY, ValidationDepth.DATA_ONLY):
        monkeypatch.setattr(CONFIG, "validation_depth", depth)
        with config_context(validation_enabled=False, validation_depth=depth):
            assert len(failures(PATIENTS, frame.drop(columns="sex"))) == 7


def test_pandera_alone_says_the_same():
    import pandera.pandas as pa

    schema = PATIENTS.with_rules("age >= 20 or smoker")
    schema.pandera().validate(patients(), lazy=True)
    frame = patients().assign(age=[20, 21, 19, 19, 20, 200])
    with pytest.raises(pa.errors.SchemaErrors) as caught:
        schema.pandera().validate(frame.drop(columns="sex"), lazy=True)
    assert set(caught.value.failure_cases["check"]) == {
        "column_in_dataframe",
        "between 0 and 120",
        "age >= 20 or smoker",
    }


@settings(max_examples=40, deadline=None)
@given(
    st.lists(
        st.one_of(st.floats(), st.integers(), st.booleans(), st.none(), st.text(max_size=3), st.just([1])),
        min_size=1,
        max_size=8,
    ),
    st.sampled_from(["float", "int", "bool", "category"]),
)
def test_no_cell_changes_its_value(cells, kind):
    """Whatever is in a column: it is refused with a row that says why, or comes back equal."""
    schema = Schema("any", [Field("x", kind, nullable=True)])
    frame = pd.DataFrame({"x": pd.Series(cells, dtype=object)})
    report = schema.report(frame)
    assert set(report.failures["row"]) <= set(range(len(cells)))
    fine = [row for row in range(len(cells)) if row not in set(report.failures["row"])]
    if fine:
        back = schema.validate(frame.iloc[fine])["x"]
        for row, value in zip(fine, back, strict=True):
            assert (pd.isna(value) and pd.isna(cells[row])) or value == cells[row]


# Fields --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"name": ""}, "1 to 64"),
        ({"name": "x" * 65}, "1 to 64"),
        ({"name": " x"}, "1 to 64"),
        ({"name": "a\nb"}, "1 to 64"),
        ({"name": "e\u0301"}, "1 to 64"),
        ({"name": "\ud800"}, "1 to 64"),
        ({"name": 3}, "a int"),
        ({"kind": "text"}, "one of: float"),
        ({"kind": ["float"]}, "one of: float"),
        ({"standard": "z"}, "one of: none"),
        ({"low": np.nan}, "finite"),
        ({"low": np.inf}, "finite"),
        ({"low": True}, "finite"),
        ({"low": "1"}, "finite"),
        ({"low": 2**53 + 1}, "finite"),
        ({"low": 2, "high": 1}, "at most high"),
        ({"kind": "int", "low": 0.5}, "whole"),
        ({"kind": "int", "high": 2.0**54}, "whole"),
        ({"kind": "bool", "low": 0}, "bool"),
        ({"resolution": 0}, "above 0"),
        ({"kind": "int", "resolution": 0.5}, "whole"),
        ({"kind": "category", "resolution": 1}, "above 0"),
        ({"kind": "category", "standard": "zscore"}, "category"),
        ({"standard": "minmax", "low": 0}, "low and high"),
        ({"standard": "log", "low": -1}, "at least 0"),
        ({"standard": "log"}, "at least 0"),
        ({"categories": ("a",)}, "nothing"),
        ({"kind": "category", "categories": ("a", "a")}, "twice"),
        ({"kind": "category", "categories": ("a", 1)}, "a int"),
        ({"kind": "category", "categories": "ab"}, "a tuple"),
        ({"kind": "category", "categories": ("a ",)}, "without spaces"),
        ({"kind": "category", "categories": tuple(map(str, range(4_097)))}, "limit is 4,096"),
        ({"nullable": 1}, "True or False"),
        ({"unit": "m" * 33}, "at most 32"),
        ({"description": "m" * 501}, "at most 500"),
    ],
)
def test_a_field_that_cannot_be(changes, word):
    with pytest.raises(SchemaError, match=word):
        Field(**{"name": "x", "kind": "float", **changes})


def test_a_field_in_words():
    assert Field("x", "float", low=0.5, unit="mm").allowed == "at least 0.5 mm"
    assert Field("x", "float").allowed == "any"
    assert Field("x", "category", categories=tuple(map(str, range(20)))).allowed.endswith("… (20 in all)")
    assert [Field("x", kind).step for kind in ("float", "int", "bool", "category")] == [None, 1, 1, None]
    assert Field("x", "float", low=-0.0, high=np.float32(2)) == Field("x", "float", low=0.0, high=2)


def test_a_schema_that_cannot_be():
    x = Field("x", "float")
    for wrong in ([], [x, x], ["x"], [Field(f"x{i}", "float") for i in range(257)]):
        with pytest.raises(SchemaError):
            Schema("s", wrong)
    for name in ("", 3, "x" * 65):
        with pytest.raises(SchemaError, match="1 to 64"):
            Schema(name, [x])
    for rules in ("x > 1", ["x > 1", "x > 1"], [3], None, [f"x > {i}" for i in range(65)]):
        with pytest.raises(SchemaError):
            Schema("s", [x], rules)
    texts = tuple(f"{i:064}" for i in range(4_096))
    long = [Field(f"x{i}", "category", categories=texts) for i in range(5)]
    with pytest.raises(SchemaError, match="limit is 1,048,576"):
        Schema("s", long)


def test_changes_make_another_schema():
    older = PATIENTS.with_field("age", low=18)
    assert older["age"].low == 18
    assert PATIENTS["age"].low == 0
    assert older.hash != PATIENTS.hash
    assert older.names == PATIENTS.names
    assert older.with_field("age", low=0) == PATIENTS
    assert len({older, PATIENTS, older.with_field("age", low=0)}) == 2
    assert pickle.loads(pickle.dumps(older)) == older
    assert "age" in PATIENTS
    assert [*PATIENTS] == [*PATIENTS.fields]
    assert PATIENTS.field_types["smoker"] == "bool"
    with pytest.raises(SchemaError, match="no column 'weight'"):
        PATIENTS.with_field("weight", low=1)
    with pytest.raises(SchemaError, match="no 'lowest'"):
        PATIENTS.with_field("age", lowest=1)
    with pytest.raises(SchemaError, match="no column 'age'"):
        PATIENTS.with_rules("age > 1").with_field("age", name="years")


# Canonical JSON ------------------------------------------------------------------------------------------

LABELS = st.text(st.characters(codec="utf-8"), min_size=1, max_size=8)
NUMBERS = st.floats(allow_nan=False, allow_infinity=False)


@settings(max_examples=60, deadline=None)
@given(LABELS, NUMBERS, NUMBERS, st.booleans(), LABELS)
def test_json_goes_round_byte_for_byte(name, a, b, nullable, unit):
    try:
        field = Field(name, "float", low=min(a, b), high=max(a, b), nullable=nullable, unit=unit)
    except SchemaError:
        return  # not every text is a name
    schema = Schema("s", [field])
    again = Schema.from_json(schema.to_json())
    assert again == schema
    assert again.to_json() == schema.to_json()
    assert again.fields == schema.fields
    assert Schema.from_json(schema.to_json().encode()).hash == schema.hash


def test_the_canonical_form():
    schema = Schema("s", [Field("ä", "float", low=0.1, high=3)], ["ä > 1"])
    text = schema.to_json()
    assert text == (
        '{"fields":[{"categories":[],"description":"","high":3.0,"kind":"float","low":0.1,"name":"\\u00e4",'
        '"nullable":false,"resolution":null,"standard":"none","unit":""}],"format":"2PM schema 1","name":"s",'
        '"rules":["\\u00e4 > 1"]}'
    )
    assert schema.hash == keccak(b"twopm/vsies/v1/schema" + text.encode())


def changed(**changes):
    body = json.loads(PATIENTS.to_json())
    body.update(changes)
    return json.dumps(body, sort_keys=True, separators=(",", ":"))


FIRST = json.loads(PATIENTS.to_json())["fields"][0]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{}",
        "[]",
        "null",
        3,
        None,
        b"\xff\xfe",
        "{" * 100,
        "[" * 100_000,
        " " * (1 << 20) + "{}",
        PATIENTS.to_json() + " ",
        PATIENTS.to_json().replace('"high":50.0', '"high":50'),
        PATIENTS.to_json().replace('"high":50.0', '"high":5e1'),
        PATIENTS.to_json().replace('"high":50.0', '"high":1e999'),
        PATIENTS.to_json().replace('"high":50.0', '"high":NaN'),
        PATIENTS.to_json().replace('"high":50.0', '"high":"50"'),
        PATIENTS.to_json().replace('"high":50.0', '"high":true'),
        PATIENTS.to_json().replace('"high":50.0', f'"high":{"9" * 5_000}'),
        PATIENTS.to_json().replace('"high":50.0', '"high":50.0,"high":50.0'),
        PATIENTS.to_json().replace('"name":"size"', '"name":"\\ud800"'),
        PATIENTS.to_json().replace('"low":1.0', '"low":60.0'),
        json.dumps(json.loads(PATIENTS.to_json())),
        changed(more=1),
        changed(format="2PM schema 2"),
        changed(name=["x"]),
        changed(fields=[]),
        changed(fields={}),
        changed(fields=[FIRST] * 2),
        changed(fields=[FIRST] * 257),
        changed(fields=[{**FIRST, "more": 1}]),
        changed(fields=[{k: v for k, v in FIRST.items() if k != "unit"}]),
        changed(fields=[{**FIRST, "categories": None}]),
        changed(fields=[{**FIRST, "name": {}}]),
        changed(fields=[{**FIRST, "kind": []}]),
        changed(fields=[3]),
        changed(rules="age > 1"),
        changed(rules=[["age > 1"]]),
        changed(rules=["age.__class__ > 1"]),
    ],
)
def test_json_from_a_stranger(text):
    with pytest.raises(SchemaError):
        Schema.from_json(text)


# Drafts --------------------------------------------------------------------------------------------------


def test_a_draft_fits_what_it_was_made_from():
    for name in ("breast_cancer", "wages", "ratings"):
        frame = kit.datasets.load(name)
        draft = Schema.infer(frame)
        assert draft.name == "draft"
        assert draft.report(frame).ok
        assert Schema.from_json(draft.to_json()) == draft


def test_what_a_draft_guesses():
    frame = pd.DataFrame(
        {
            "radius": [6.981, 28.11, 9.5, 12.25],
            "year": [1950, 2020, 1999, 2001],
            "gaps": [1.0, np.nan, 3.0, 2.0],
            "noise": [0.1234567891234, 0.2, 0.3, 0.4],
            "flat": [7.0, 7.0, 7.0, 7.0],
            "yes": [True, False, None, True],
            "sex": ["f", "m", "f", "m"],
            "id": ["a", "b", "c", "d"],
            "zero": [0, 0, 0, 0],
        }
    )
    draft = Schema.infer(frame, "clinic")
    assert draft["radius"] == Field("radius", "float", low=0, high=30, resolution=0.001)
    assert draft["year"] == Field("year", "int", low=1950, high=2020)
    assert draft["gaps"] == Field("gaps", "int", low=0, high=5, nullable=True)
    assert draft["noise"].resolution is None
    assert draft["flat"] == Field("flat", "float", low=5, high=10, resolution=1)
    assert draft["yes"] == Field("yes", "bool", nullable=True)
    assert draft["sex"].categories == ("f", "m")
    assert draft["id"] == Field("id", "category")
    assert draft["zero"] == Field("zero", "int", low=0, high=1)
    assert draft.report(frame).ok


@settings(max_examples=60, deadline=None)
@given(st.lists(st.one_of(NUMBERS, st.integers(-(2**53), 2**53).map(float)), min_size=1, max_size=5))
def test_drafted_ranges_hold_their_values(values):
    frame = pd.DataFrame({"x": values})
    assert Schema.infer(frame).report(frame).ok


@pytest.mark.parametrize(
    "frame",
    [
        pd.DataFrame(),
        pd.DataFrame({"x": []}),
        [1],
        pd.DataFrame({"x": [None]}),
        pd.DataFrame({" x": [1]}),
        pd.DataFrame({3: [1]}),
        pd.DataFrame({"x": [1.0, np.inf]}),
        pd.DataFrame({"x": ["a", 1]}),
        pd.DataFrame({"x": pd.to_datetime(["2020-01-01"])}),
        pd.DataFrame({"x": ["x" * 65]}),
        pd.DataFrame([[1, 2]], columns=["x", "x"]),
    ],
)
def test_no_draft_without_sense(frame):
    with pytest.raises(SchemaError):
        Schema.infer(frame)


# Shown ---------------------------------------------------------------------------------------------------


def test_what_is_shown_is_escaped():
    bad = "<script>alert(1)</script>"
    schema = Schema(
        bad, [Field(bad, "category", categories=(bad,), description=bad)], [f"`{bad}` == '{bad}'"]
    )
    frame = pd.DataFrame({bad: [bad + "!"]})
    for shown in (schema, schema.report(frame), schema.report(frame.replace(bad + "!", bad))):
        assert "<script" not in shown._repr_html_()
    assert "&lt;script&gt;" in schema._repr_html_()


def test_a_learner_can_read_it():
    ruled = PATIENTS.with_rules("age > 1")
    words = repr(ruled)
    assert "between 1 and 50 mm" in words
    assert "rule: age > 1" in words
    assert ruled.hash.hex()[:12] in words
    good = PATIENTS.report(patients())
    assert good.ok
    assert repr(good) == str(good) == "<ValidationReport: 6 rows fit schema 'patients'>"
    report = PATIENTS.report(patients().assign(age=200))
    assert not report.ok
    assert "6 breaches of schema 'patients' in 6 rows" in repr(report)
    assert "between 0 and 120" in str(report)
    assert "between 0 and 120" in report._repr_html_()
