"""The last cell: JSON scalars only, read back as they were."""

import enum

import nbformat
import numpy as np
import pytest

import twopm_kit as kit
from twopm_kit.errors import NotebookError
from twopm_kit.notebook import results


@pytest.fixture
def published(monkeypatch):
    """Collect what would be published in a notebook."""
    seen = []
    monkeypatch.setattr(results, "publish", lambda data: seen.append(data) or True)
    monkeypatch.delenv(results.RUN_VARIABLE, raising=False)
    return seen


def notebook_with(*data):
    outputs = [nbformat.v4.new_output("display_data", data=one) for one in data]
    return nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("x", outputs=outputs)])


def test_what_is_recorded_is_read_back(published):
    kit.notebook.record(accuracy=0.97, rounds=3, name="lr", fine=True, nothing=None)
    result = results.read_result(notebook_with(*published))
    assert result.metrics == {"accuracy": 0.97, "rounds": 3, "name": "lr", "fine": True, "nothing": None}
    assert (result.parameters, result.executable) == ({}, "")


def test_numpy_scalars_become_plain(published):
    kit.notebook.record(a=np.float32(0.5), b=np.int64(3), c=np.bool_(True), d=np.array(2.0))
    metrics = published[0][results.RESULT_MIME]["metrics"]
    assert metrics == {"a": 0.5, "b": 3, "c": True, "d": 2.0}
    assert [type(value) for value in metrics.values()] == [float, int, bool, float]


def test_subclasses_become_plain(published):
    class Colour(enum.IntEnum):
        RED = 1

    kit.notebook.record(colour=Colour.RED)
    assert type(published[0][results.RESULT_MIME]["metrics"]["colour"]) is int


@pytest.mark.parametrize("value", [float("nan"), float("inf"), np.float64("-inf")])
def test_what_is_not_finite_is_refused(value, published):
    with pytest.raises(NotebookError, match="expected a finite number"):
        kit.notebook.record(loss=value)
    assert published == []


@pytest.mark.parametrize("value", [[1], {"a": 1}, object(), b"x", 1 + 2j, np.array([1, 2])])
def test_what_is_no_scalar_is_refused(value, published):
    with pytest.raises(NotebookError, match="the metric 'it' is a"):
        kit.notebook.record(it=value)
    assert published == []


def test_nothing_and_odd_names_are_refused():
    with pytest.raises(NotebookError, match="without a metric"):
        kit.notebook.record()
    with pytest.raises(NotebookError, match="lower-case"):
        kit.notebook.record(Accuracy=1)


def test_no_result_and_two_results():
    assert results.read_result(notebook_with({"text/plain": "x"})) is None
    one = {results.RESULT_MIME: {"metrics": {"a": 1}}}
    with pytest.raises(NotebookError, match="2 results"):
        results.read_result(notebook_with(one, one))


def test_outside_a_notebook_it_prints(capsys):
    kit.notebook.record(accuracy=0.5, gas=21_000)
    assert capsys.readouterr().out == "recorded:\n  accuracy = 0.5\n  gas = 21000\n"
