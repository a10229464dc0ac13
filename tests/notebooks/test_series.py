"""Every notebook of the series keeps the rules of the house, runs in fast mode, and keeps its promises."""

from pathlib import Path

import pytest

from twopm_kit.notebook.hygiene import examine
from twopm_kit.notebook.manifest import load_series
from twopm_kit.notebook.parameters import inspect
from twopm_kit.notebook.series import run_notebook

ROOT = Path(__file__).parents[2]
SERIES = load_series(ROOT / "notebooks")
ENTRIES = pytest.mark.parametrize("entry", SERIES.entries, ids=lambda entry: entry.name)
# A notebook for which the manifest states a time needs most of it even where nothing else runs.
TIMED = pytest.mark.parametrize(
    "entry",
    [pytest.param(one, marks=[pytest.mark.alone] if one.seconds else []) for one in SERIES.entries],
    ids=lambda entry: entry.name,
)


def test_manifest_and_folder_agree():
    assert SERIES.differences() == []


def test_the_walk_is_numbered_in_order():
    names = [entry.name for entry in SERIES.entries if entry.series]
    assert names == sorted(names)
    assert [name[:2] for name in names] == [f"{number:02d}" for number in range(len(names))]


@ENTRIES
def test_it_keeps_the_rules(entry):
    assert [str(finding) for finding in examine(SERIES.path(entry))] == []


@ENTRIES
def test_its_parameters_are_known_and_typed(entry):
    parameters = inspect(SERIES.path(entry))
    assert next(iter(parameters)) == "MODE"
    for mode, overrides in entry.parameters.items():
        assert set(overrides) <= set(parameters), mode


@ENTRIES
def test_fast_mode_has_a_limit_of_a_minute(entry):
    assert entry.limit("fast") <= 60


@TIMED
def test_it_runs_and_keeps_its_promises(entry):
    run = run_notebook(SERIES.path(entry), entry, mode="fast", output=ROOT / "build" / "notebooks")
    assert run.result.parameters["MODE"] == "fast"
    assert set(entry.metrics) <= set(run.result.metrics)
