"""The runner fails when it should: each fixture notebook breaks one rule, and the controls break none."""

import json
import re
import sys
from pathlib import Path

import nbformat
import pytest

from twopm_kit.errors import CellTimeout, NotebookError, ParameterError
from twopm_kit.notebook.hygiene import examine
from twopm_kit.notebook.manifest import load_series
from twopm_kit.notebook.results import RESULT_MIME
from twopm_kit.notebook.series import run_notebook, run_series

FIXTURES = Path(__file__).parent / "fixtures"
SERIES = load_series(FIXTURES)
CONTROLS = {"passes", "approved_stderr", "loopback", "patient"}
BROKEN = {
    "error": (NotebookError, r"cell 4 of error\.ipynb failed with ZeroDivisionError"),
    "no_record": (NotebookError, r"recorded no result"),
    "missing_metric": (NotebookError, r"did not record the metric 'answer'; it recorded other"),
    "out_of_bounds": (NotebookError, r"answer is 999, expected ≥ 1 and ≤ 100"),
    "twice_recorded": (NotebookError, r"2 results were recorded"),
    "not_finite": (NotebookError, r"the metric 'answer' is nan"),
    "unknown_parameter": (ParameterError, r"has no parameter 'ROUNDZ'; it has MODE, ROUNDS, RATE"),
    "wrong_type": (ParameterError, r"ROUNDS is 'two', expected a value of type int"),
    "undone_override": (ParameterError, r"ROUNDS was to be 2, but was 5 \(at the end\)"),
    "no_parameters": (ParameterError, r"0 cells tagged 'parameters'"),
    "skipped_parameter": (ParameterError, r"NOTE does not stand on one line with one '='"),
    "stderr": (NotebookError, r"cell 4 of stderr\.ipynb wrote to standard error: 'something is odd'"),
    "hang": (CellTimeout, r"a cell of hang\.ipynb took longer"),
    "slow_whole": (
        CellTimeout,
        r"the whole of slow_whole\.ipynb took longer than it may \(4 s in fast mode\)",
    ),
    "network": (NotebookError, r"failed with NetworkRefused: .*'192\.0\.2\.1'"),
    "network_name": (NotebookError, r"failed with URLError: .*tried to reach 'example\.org'"),
    "network_child": (NotebookError, r"failed with CalledProcessError"),
    "raises_exception": (NotebookError, r"cell 4 of raises_exception\.ipynb has the tag 'raises-exception'"),
    "killed": (NotebookError, r"the kernel of killed\.ipynb died without a word"),
}


def entry(name):
    return SERIES.select([f"{name}.ipynb"])[0]


def run(name, output, **options):
    return run_notebook(FIXTURES / f"{name}.ipynb", entry(name), output=output, **options)


def test_every_fixture_is_used():
    assert SERIES.differences() == []
    assert {one.name for one in SERIES.entries} == CONTROLS | set(BROKEN) | {"stale"}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_notebook_fails(name, tmp_path):
    kind, words = BROKEN[name]
    with pytest.raises(kind, match=words) as caught:
        run(name, tmp_path)
    assert caught.value.hint
    assert type(caught.value) is kind
    # Nothing stands under the name of a notebook that passed, and nothing half-written is left.
    assert {path.name for path in tmp_path.iterdir()} <= {f"{name}.failed.ipynb"}


@pytest.mark.parametrize("name", sorted(CONTROLS))
def test_a_good_notebook_passes(name, tmp_path):
    result = run(name, tmp_path)
    assert result.result.metrics["gas"] == 21000
    assert [path.name for path in tmp_path.iterdir()] == [f"{name}.ipynb"]
    nbformat.validate(nbformat.read(result.path, as_version=4))


def test_an_override_takes_effect(tmp_path):
    result = run("passes", tmp_path)
    assert result.result.parameters == {"MODE": "fast", "ROUNDS": 2, "RATE": 1}
    assert result.result.metrics["answer"] == 4
    injected = [
        cell for cell in result.notebook.cells if "injected-parameters" in cell.metadata.get("tags", [])
    ]
    assert len(injected) == 1
    assert "ROUNDS = 2" in injected[0].source


def test_without_injection_the_notebook_keeps_its_own_parameters(tmp_path):
    with pytest.raises(NotebookError, match="answer is 10, expected = 4"):
        run("passes", tmp_path, mode="learn", inject=False)


def test_it_runs_in_an_empty_folder_of_its_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = run("passes", tmp_path / "out")
    listing = next(out for out in result.notebook.cells[4].outputs if out.output_type == "execute_result")
    assert listing.data["text/plain"] == "['left_behind.txt']"
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_a_foreign_kernel_of_the_same_name_does_not_win(tmp_path, monkeypatch):
    foreign = tmp_path / "data" / "kernels" / "python3"
    foreign.mkdir(parents=True)
    (foreign / "kernel.json").write_text(
        json.dumps(
            {"argv": ["/bin/false", "{connection_file}"], "display_name": "Foreign", "language": "python"}
        )
    )
    monkeypatch.setenv("JUPYTER_PATH", str(tmp_path / "data"))
    assert run("passes", tmp_path / "out").result.executable == sys.executable


def test_a_kernel_of_another_python_is_noticed(tmp_path, monkeypatch):
    monkeypatch.setattr("twopm_kit.notebook.series.sys.executable", sys.executable + "-other")
    with pytest.raises(NotebookError, match="ran in another Python"):
        run_with_real_kernel(tmp_path, monkeypatch)


def run_with_real_kernel(tmp_path, monkeypatch):
    """Run with the kernel of this Python although the judge believes to be another one."""
    from twopm_kit.notebook import kernels

    real = sys.executable.removesuffix("-other")
    write = kernels.write_kernelspec

    def honest(folder, environment=None):
        written = write(folder, environment)
        path = written / "python3" / "kernel.json"
        path.write_text(path.read_text().replace(sys.executable, real))
        return written

    monkeypatch.setattr(kernels, "write_kernelspec", honest)
    return run("passes", tmp_path)


def test_a_failed_run_replaces_an_earlier_good_one(tmp_path):
    (tmp_path / "error.ipynb").write_text("an earlier run")
    with pytest.raises(NotebookError):
        run("error", tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["error.failed.ipynb"]
    kept = nbformat.read(tmp_path / "error.failed.ipynb", as_version=4)
    assert any(out.output_type == "error" for cell in kept.cells for out in cell.get("outputs", []))


def test_the_series_goes_on_after_a_failure(tmp_path):
    started, cells = [], []
    rows = run_series(
        SERIES,
        [entry("error"), entry("passes")],
        mode="fast",
        output=tmp_path,
        on_start=lambda one: started.append(one.name),
        on_cell=lambda: cells.append(1),
    )
    assert started == ["error", "passes"]
    assert [row.passed for row in rows] == [False, True]
    assert "ZeroDivisionError" in rows[0].problem
    assert (rows[1].metric, rows[1].value, rows[1].gas) == ("answer", 4, 21000)
    assert rows[1].seconds > 0
    assert len(cells) >= 5


def test_stale_outputs_are_found():
    rules = {finding.rule for finding in examine(FIXTURES / "stale.ipynb")}
    assert "outputs-stale" in rules


def test_an_unknown_override_of_the_caller_is_refused(tmp_path):
    with pytest.raises(ParameterError, match="no parameter 'NODES'"):
        run("passes", tmp_path, overrides={"NODES": 3})


def test_an_unknown_mode_is_refused(tmp_path):
    with pytest.raises(ParameterError, match="the mode is 'quick'"):
        run("passes", tmp_path, mode="quick")


def test_no_machine_path_is_in_what_refresh_would_store(tmp_path):
    result = run("passes", tmp_path)
    published = [
        out.data for cell in result.notebook.cells for out in cell.get("outputs", []) if "data" in out
    ]
    facts = next(data[RESULT_MIME] for data in published if RESULT_MIME in data)
    assert re.search(r"python", facts["executable"])  # the runner sees it ...
    from twopm_kit.notebook.refresh import clean_output

    cleaned = clean_output(nbformat.v4.new_output("display_data", data={RESULT_MIME: facts}))
    assert cleaned.data[RESULT_MIME] == {"metrics": facts["metrics"]}  # ... and the reader does not


def test_a_folder_with_a_long_name_is_no_obstacle(tmp_path, monkeypatch):
    long = tmp_path / ("x" * 100)
    long.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(long))
    assert run("passes", tmp_path / "out").result.metrics["answer"] == 4
    assert list(long.iterdir()) == []
