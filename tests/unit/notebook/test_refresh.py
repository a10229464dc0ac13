"""Refreshing: outputs of learn mode only, clean, stamped, and all or nothing."""

import copy
from pathlib import Path

import nbformat
import pytest

from twopm_kit.errors import NotebookError
from twopm_kit.notebook.hashes import STAMP, has_outputs, outputs_hash, source_hash, stamp
from twopm_kit.notebook.machine import machine_path
from twopm_kit.notebook.manifest import load_series
from twopm_kit.notebook.refresh import adopt_outputs, refresh_notebook
from twopm_kit.notebook.results import RESULT_MIME, WIDGET_MIME

FIXTURES = Path(__file__).parents[2] / "notebooks" / "fixtures"


def notebook(*sources):
    cells = [nbformat.v4.new_code_cell(source, id=f"cell-{i}") for i, source in enumerate(sources)]
    return nbformat.v4.new_notebook(cells=cells)


def executed(original, *outputs):
    ran = copy.deepcopy(original)
    for number, (cell, one) in enumerate(zip(ran.cells, outputs, strict=True), start=1):
        cell.execution_count = number
        cell.outputs = one
        cell.metadata["execution"] = {"iopub.status.busy": "2020"}
        cell.metadata["papermill"] = {"duration": 1.0}
    ran.metadata["papermill"] = {"duration": 2.0}
    ran.metadata["widgets"] = {"state": {}}
    return ran


def data(**kinds):
    return nbformat.v4.new_output("display_data", data=kinds)


def test_outputs_are_adopted_without_traces_of_the_run():
    original = notebook("a", "b")
    original.metadata["widgets"] = {"state": {}}
    original.cells[0].metadata["execution"] = {"iopub.status.busy": "2019"}
    result = {"metrics": {"x": 1}, "executable": "/usr/bin/python", "parameters": {"MODE": "learn"}}
    ran = executed(
        original, [data(**{WIDGET_MIME: {}, "text/plain": "Box()"})], [data(**{RESULT_MIME: result})]
    )
    adopt_outputs("n", original, ran)
    assert original.cells[0].outputs == []
    assert original.cells[1].outputs[0].data == {RESULT_MIME: {"metrics": {"x": 1}}}
    assert [cell.execution_count for cell in original.cells] == [1, 2]
    assert all(set(cell.metadata) == set() for cell in original.cells)
    assert "widgets" not in original.metadata
    assert "papermill" not in original.metadata


@pytest.mark.parametrize("kind", ["text", "html"])
def test_a_path_of_the_machine_is_refused(kind):
    original = notebook("a")
    path = str(Path.home() / "secret" / "data.csv") if kind == "text" else "/home/somebody/data.csv"
    out = (
        nbformat.v4.new_output("stream", text=f"read {path}\n")
        if kind == "text"
        else data(**{"text/html": f"<b>{path}</b>"})
    )
    with pytest.raises(NotebookError, match=r"cell 1 of n\.ipynb has this machine's path"):
        adopt_outputs("n.ipynb", original, executed(original, [out]))


def test_a_notebook_that_changed_meanwhile_is_refused():
    original = notebook("a")
    with pytest.raises(NotebookError, match="changed while it was executed"):
        adopt_outputs("n", original, executed(notebook("a", "b"), [], []))


def test_the_source_hash_sees_every_change_of_the_source_and_no_output():
    base = notebook("a", "b")
    first = source_hash(base)
    base.cells[0].outputs = [data(**{"text/plain": "1"})]
    base.cells[0].metadata["scrolled"] = True
    assert source_hash(base) == first
    for change in ("source", "cell_type", "id"):
        other = copy.deepcopy(base)
        other.cells[1][change] = "markdown" if change == "cell_type" else "other"
        assert source_hash(other) != first
    swapped = copy.deepcopy(base)
    swapped.cells.reverse()
    assert source_hash(swapped) != first


def test_the_outputs_hash_sees_every_output():
    base = notebook("a")
    empty = outputs_hash(base)
    base.cells[0].outputs = [data(**{"text/plain": "1"})]
    assert outputs_hash(base) != empty
    assert has_outputs(base)
    stamp(base, "0.1.0")
    assert set(base.metadata[STAMP]) == {"kit", "outputs_sha256", "source_sha256"}


def test_refresh_stores_outputs_of_learn_mode(tmp_path):
    series = load_series(FIXTURES)
    entry = series.select(["loopback"])[0]
    target = tmp_path / "loopback.ipynb"
    target.write_bytes(series.path(entry).read_bytes())
    refresh_notebook(target, entry, scratch=tmp_path / "scratch")
    fresh = nbformat.read(target, as_version=4)
    assert [cell.id for cell in fresh.cells] == [
        cell.id for cell in nbformat.read(series.path(entry), 4).cells
    ]
    assert fresh.metadata[STAMP]["source_sha256"] == source_hash(fresh)
    assert fresh.metadata[STAMP]["outputs_sha256"] == outputs_hash(fresh)
    assert fresh.cells[-1].outputs[0].data[RESULT_MIME] == {"metrics": {"answer": 10, "gas": 21000}}
    assert machine_path(target.read_text()) is None
    # A second refresh of the same source gives the same file.
    before = target.read_bytes()
    refresh_notebook(target, entry, scratch=tmp_path / "scratch")
    assert target.read_bytes() == before


@pytest.mark.parametrize(("old", "new"), [('"learn', '"fast'), ("ROUNDS * 2", "ROUNDS * 99")])
def test_a_notebook_that_does_not_pass_stays_as_it_is(tmp_path, old, new):
    series = load_series(FIXTURES)
    entry = series.select(["loopback"])[0]
    target = tmp_path / "loopback.ipynb"
    changed = nbformat.read(series.path(entry), 4)
    for cell in changed.cells:
        cell.source = cell.source.replace(old, new)
    nbformat.write(changed, target)
    before = target.read_bytes()
    with pytest.raises(NotebookError):
        refresh_notebook(target, entry, scratch=tmp_path / "scratch")
    assert target.read_bytes() == before


@pytest.mark.parametrize(
    "text",
    ["/home/ann/x.csv", "in /tmp/run-1, see", "'/usr/lib/python3'", r"C:\Users\ann", "file (/var/log/x)"],
)
def test_paths_of_machines(text):
    assert machine_path(text)


@pytest.mark.parametrize(
    "text",
    [
        "a/b",
        "data/home/x",
        "https://example.org/home/x",
        "1/2",
        "and/or",
        "iVBOR/tmp/abc",
        "notebooks/00_start_here.ipynb",
    ],
)
def test_what_is_no_path_of_a_machine(text):
    assert machine_path(text) is None
