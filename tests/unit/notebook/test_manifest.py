"""The manifest: complete, typed, and held against the folder in both directions."""

import pytest

from twopm_kit.errors import NotebookError
from twopm_kit.notebook.manifest import Bound, load_series

ENTRY = """
[[notebook]]
name = "{name}"
title = "T"
shows = "S"
metric = "a"
metrics = {{ a = {{ min = 1 }} }}
"""


def write(folder, text):
    (folder / "series.toml").write_text(text)
    return folder


def test_an_entry_is_read(tmp_path):
    extra = 'parameters = { fast = { N = 1 } }\nseconds = { fast = 9 }\nstderr = ["x"]\nseries = false\n'
    series = load_series(write(tmp_path, ENTRY.format(name="one") + extra))
    entry = series.entries[0]
    assert (entry.name, entry.metric, entry.series, entry.stderr) == ("one", "a", False, ("x",))
    assert entry.limit("fast") == 9
    assert entry.limit("learn") == 600
    assert entry.parameters["fast"] == {"N": 1}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[notebook", "is not TOML"),
        ("[[notebooks]]", "unknown key 'notebooks'"),
        (ENTRY.format(name="x") + "colour = 1", "unknown key 'colour'"),
        (ENTRY.format(name="x").replace('shows = "S"', ""), "has no 'shows'"),
        (ENTRY.format(name="x").replace("min", "minimum"), "unknown key 'minimum'"),
        (ENTRY.format(name="x").replace("{ min = 1 }", "{ }"), "has no bound"),
        (ENTRY.format(name="x").replace('metric = "a"', 'metric = "b"'), "has no bound for it"),
        (ENTRY.format(name="x") + "seconds = { quick = 1 }", "unknown key 'quick'"),
        (ENTRY.format(name="x") + "parameters = { learn = { N = 1 } }", "overrides parameters in learn mode"),
        (ENTRY.format(name="x") * 2, "twice"),
    ],
)
def test_an_odd_manifest_is_refused(tmp_path, text, words):
    with pytest.raises(NotebookError, match=words) as caught:
        load_series(write(tmp_path, text))
    assert caught.value.hint


def test_a_missing_manifest_is_refused(tmp_path):
    with pytest.raises(NotebookError, match=r"there is no series\.toml"):
        load_series(tmp_path)


def test_differences_are_found_both_ways(tmp_path):
    series = load_series(write(tmp_path, ENTRY.format(name="listed") + ENTRY.format(name="both")))
    (tmp_path / "both.ipynb").touch()
    (tmp_path / "extra.ipynb").touch()
    assert series.differences() == [
        "listed: listed in series.toml, but there is no listed.ipynb",
        "extra: extra.ipynb exists, but series.toml does not list it",
    ]


def test_selection_keeps_the_order(tmp_path):
    text = "".join(ENTRY.format(name=name) for name in ("00_a", "01_b", "01_c")) + "series = false"
    series = load_series(write(tmp_path, text))
    assert [one.name for one in series.select()] == ["00_a", "01_b"]
    assert [one.name for one in series.select(["01_c", "notebooks/00_a.ipynb"])] == ["00_a", "01_c"]
    assert [one.name for one in series.select(["00"])] == ["00_a"]
    with pytest.raises(NotebookError, match="'01' is the name of 2"):
        series.select(["01"])
    with pytest.raises(NotebookError, match="'07' is the name of 0"):
        series.select(["07"])


@pytest.mark.parametrize(
    ("bound", "value", "accepted"),
    [
        (Bound(min=1), 1, True),
        (Bound(min=1), 0.999, False),
        (Bound(max=1), 1.0, True),
        (Bound(max=1), 2, False),
        (Bound(min=0, max=1), float("nan"), False),
        (Bound(min=0), True, False),
        (Bound(min=0), "3", False),
        (Bound(min=0), None, False),
        (Bound(equals=True), True, True),
        (Bound(equals=True), 1, False),
        (Bound(equals=1), True, False),
        (Bound(equals="x"), "x", True),
    ],
)
def test_bounds(bound, value, accepted):
    assert bound.accepts(value) is accepted


def test_bounds_in_words():
    assert str(Bound(min=1, max=2)) == "≥ 1 and ≤ 2"
    assert str(Bound(equals=0)) == "= 0"
