"""Row rules: what they mean on rows, and that nothing but a rule can be written."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from twopm_kit.errors import SchemaError
from twopm_kit.vsies.schema import Field, Schema

FIELDS = [
    Field("a", "float", nullable=True),
    Field("b", "int"),
    Field("mean radius", "float"),
    Field("µ", "float"),
    Field("on", "bool"),
    Field("sex", "category", categories=("f", "m", "it's")),
    Field("free", "category", nullable=True),
]
FRAME = pd.DataFrame(
    {
        "a": [1.0, -2.0, np.nan, 0.0],
        "b": [1, 2, 3, 0],
        "mean radius": [1.5, 2.5, 3.5, 4.5],
        "µ": [1.0, 1.0, 2.0, 2.0],
        "on": [True, False, True, False],
        "sex": ["f", "m", "it's", "f"],
        "free": ["f", "x", None, "y"],
    }
)


def broken(rule, frame=FRAME):
    """Return the rows that break a rule."""
    return list(Schema("s", FIELDS, [rule]).report(frame).failures["row"])


@pytest.mark.parametrize(
    ("rule", "rows"),
    [
        ("a >= 0", [1]),
        ("a > 0 or b == 2", [3]),
        ("a + b * 2 >= 3", [1, 3]),
        ("(a + b) * 2 >= 3", [1, 3]),
        ("b - -1 <= 3", [2]),
        ("+b < 1e2", []),
        ("b * .5 <= 1.", [2]),
        ("`mean radius` > 2", [0]),
        ("2 < `mean radius` <= 3.5 != b", [0, 3]),
        ("µ == 1", [2, 3]),
        ("on", [1, 3]),
        ("not on", [0, 2]),
        ("on == True", [1, 3]),
        ("on or b < 1", [1]),
        ("on and b < 2 and a > 0", [1, 3]),  # row 2 lacks a
        ("not (on and b > 2)", [2]),
        ("sex == 'f'", [1, 2]),
        ('sex != "it\'s"', [2]),
        ("sex == free", [1, 3]),
        ("free != 'anything'", []),
        ("True and b > 0", [3]),
    ],
)
def test_what_a_rule_says(rule, rows):
    assert broken(rule) == rows


def test_a_row_with_a_missing_value_passes():
    assert broken("a > 100") == [0, 1, 3]


def test_arithmetic_without_a_result_is_a_breach():
    assert broken("b / a > -100") == [3]
    assert broken("not (b / a > 100)") == [3]
    assert broken("b / b == 1") == [3]
    assert broken("b * 1e308 * 1e308 > 1 or b == 0") == [0, 1, 2]


def test_a_cell_that_is_refused_is_not_judged_twice():
    frame = FRAME.astype({"b": object})
    frame.loc[1, "b"] = "2"
    report = Schema("s", FIELDS, ["b > 0"]).report(frame)
    assert [*report.failures["rule"]] == ["a whole number", "b > 0"]
    assert [*report.failures["row"]] == [1, 3]
    infinite = FRAME.copy()
    infinite["µ"] = [np.inf, 1, 1, 1]
    assert [*Schema("s", FIELDS, ["µ < 5"]).report(infinite).failures["rule"]] == ["a finite number"]


def test_a_rule_of_a_missing_column_is_not_judged():
    report = Schema("s", FIELDS, ["b > 100"]).report(FRAME.drop(columns="b"))
    assert [*report.failures["rule"]] == ["column is missing"]


def test_the_table_shows_the_values():
    failures = Schema("s", FIELDS, ["a >= b or sex == 'm'"]).report(FRAME.iloc[:2]).failures
    assert failures.empty
    failures = Schema("s", FIELDS, ["a > b or sex == 'm'"]).report(FRAME.iloc[:2]).failures
    assert failures.iloc[0].tolist() == ["a, b, sex", "a > b or sex == 'm'", "a = 1.0, b = 1, sex = 'f'", 0]


@settings(max_examples=40, deadline=None)
@given(st.lists(st.floats(-1e6, 1e6), min_size=3, max_size=3), st.integers(-100, 100))
def test_arithmetic_is_that_of_numpy(values, b):
    frame = FRAME.iloc[:1].assign(a=values[0], b=b, **{"µ": values[1], "mean radius": values[2]})
    expected = (values[0] - b) * values[1] + 1.5 <= -values[2]
    assert broken("(a - b) * µ + 1.5 <= -`mean radius`", frame) == ([] if expected else [0])


@pytest.mark.parametrize(
    ("rule", "mark"),
    [
        ("a", 0),
        ("a + 1", 0),
        ("a >", 3),
        ("a > 1 b", 6),
        ("(a > 1", 0),
        ("a >> 1", 0),
        ("z > 1", 0),
        ("b + z > 1", 4),
        ("`mean radius > 1", 0),
        ("`` > 1", 0),
        ("mean radius > 1", 5),
        ("a > 'x'", 4),
        ("b == sex", 5),
        ("sex < 'm'", 0),
        ("sex == 'female'", 7),
        ("'f' == 'f'", 0),
        ("sex + 'f' == 'f'", 0),
        ("on > b", 5),
        ("on < on", 0),
        ("a and b", 0),
        ("not a", 4),
        ("-on", 1),
        ("-(a > 1)", 2),
        ("1 < 2", 0),
        ("True", 0),
        ("None == a", 0),
        ("a == None", 5),
        ("a is b", 2),
        ("a in b", 2),
        ("a if on else b", 2),
        ("lambda: a", 6),
        ("a := 1", 2),
        ("a = 1", 2),
        ("a; b", 1),
        ("a, b", 1),
        ("[a]", 0),
        ("a[0] > 1", 1),
        ("a.size > 1", 1),
        ("a ** 2 > 1", 0),
        ("a // 2 > 1", 0),
        ("a % 2 > 1", 2),
        ("a @ b > 1", 2),
        ("a | b", 2),
        ("a & b", 2),
        ("~on", 0),
        ("abs(a) > 1", 0),
        ("a() > 1", 0),
        ("__import__('os') == 'x'", 0),
        ("f'{a}' == sex", 0),
        ("b'f' == sex", 0),
        ("sex == 'f' 'm'", 7),
        ("sex == '''f'''", 7),
        ("sex == 'f\\x'", 7),
        ("sex == f", 7),
        ("a > 1_000", 4),
        ("a > 0x10", 4),
        ("a > 1j", 4),
        ("a > 1e999", 4),
        ("a > 01", 4),
        ("a > 9007199254740993", 4),
        ("a > 1or on", 4),
        ("a > ...", 4),
        ("a > 1 # on", 6),
        ("a > 1 \\", 6),
        ("a > \u0661", 4),
        ("µ > 1", 0),
    ],
)
def test_anything_else_is_refused_where_it_stands(rule, mark):
    rule = rule.replace("µ", "\u03bc")  # the Greek letter, not the sign for micro that the column has
    with pytest.raises(SchemaError) as caught:
        Schema("s", FIELDS, [rule])
    shown, pointer = caught.value.message.splitlines()[1:]
    assert shown.strip() == rule
    assert pointer.index("^") - 4 == mark
    assert caught.value.hint


@pytest.mark.parametrize(
    "rule",
    [
        "",
        " a > 1",
        "a > 1\n",
        "a >\t1",
        "a > 1" + " or a > 1" * 60,
        "(" * 240 + "a" + ")" * 240 + " > 1",
        "-" * 480 + "a > 1",
        "not " * 120 + "on",
        "b" + "<b" * 240,
        "a > " + "9" * 490,
        3,
        None,
        b"a > 1",
        ["a > 1"],
        "a > 1\x00",
        "a > 1\u2028",
        "\ud800 > 1",
    ],
)
def test_a_rule_of_the_wrong_form_or_size(rule):
    with pytest.raises(SchemaError):
        Schema("s", FIELDS, [rule])


@settings(max_examples=150, deadline=None)
@given(st.text(alphabet="ab µ`'\"()<>=!+-*/.,:;[]{}1e0_\\#@%&|~^onrdft\n", max_size=24))
def test_any_text_is_a_rule_or_a_refusal(text):
    try:
        schema = Schema("s", FIELDS, [text])
    except SchemaError:
        return
    assert schema.rules == (text,)
    assert set(schema.report(FRAME).counts["rule"]) <= {text}
