"""Executes a notebook in learn mode and stores its outputs in the notebook itself, cleaned and stamped."""

from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

from nbformat import NotebookNode

from twopm_kit.errors import NotebookError
from twopm_kit.notebook.files import read_notebook, write_notebook
from twopm_kit.notebook.hashes import stamp
from twopm_kit.notebook.machine import machine_path
from twopm_kit.notebook.manifest import Entry
from twopm_kit.notebook.results import RESULT_MIME, WIDGET_MIME
from twopm_kit.notebook.series import run_notebook

_MODE: Final = "learn"


def refresh_notebook(path: Path, entry: Entry, *, scratch: Path) -> None:
    """Give a committed notebook fresh outputs.

    Parameters
    ----------
    path : Path
        The notebook; replaced in one step, and only when the run passed.
    entry : Entry
        What the manifest says about it: a notebook that breaks its promises gets no outputs.
    scratch : Path
        Folder for the executed copy.

    Raises
    ------
    NotebookError
        As :func:`~twopm_kit.notebook.series.run_notebook`; when the notebook's own mode is not
        ``learn``; when an output names a path of this machine.
    """
    from twopm_kit.notebook.parameters import inspect

    if (own := inspect(path)["MODE"].default) != _MODE:
        raise NotebookError(
            f"{path.name} has MODE = {own!r}, outputs are stored from {_MODE!r} only",
            hint='set MODE: str = "learn"',
        )
    run = run_notebook(path, entry, mode=_MODE, output=scratch, inject=False)
    notebook = read_notebook(path)
    adopt_outputs(path.name, notebook, run.notebook)
    stamp(notebook, version("twopm-kit"))
    write_notebook(notebook, path)


def adopt_outputs(name: str, notebook: NotebookNode, executed: NotebookNode) -> None:
    """Copy cleaned outputs from the executed notebook, and drop all other traces of runs."""
    if [cell.get("id") for cell in notebook.cells] != [cell.get("id") for cell in executed.cells]:
        raise NotebookError(f"{name} changed while it was executed", hint="refresh it again")
    for key in ("widgets", "papermill"):
        notebook.metadata.pop(key, None)
    for index, (cell, ran) in enumerate(zip(notebook.cells, executed.cells, strict=True)):
        for key in ("execution", "papermill", "collapsed", "scrolled"):
            cell.metadata.pop(key, None)
        if cell.cell_type != "code":
            continue
        cell.execution_count = ran.execution_count
        cell.outputs = [output for output in map(clean_output, ran.outputs) if output is not None]
        for output in cell.outputs:
            if found := machine_path(_text_of(output)):
                raise NotebookError(
                    f"an output of cell {index + 1} of {name} has this machine's path {found!r}",
                    hint="print what a reader needs: a file's name, not where it is",
                )


def clean_output(output: NotebookNode) -> NotebookNode | None:
    """Return an output without what lives only in one session; None when nothing is left of it."""
    data = output.get("data")
    if data is None:
        return output
    if WIDGET_MIME in data:
        return None  # without its kernel a widget is a line of text about a missing widget
    if RESULT_MIME in data:
        data[RESULT_MIME] = {"metrics": data[RESULT_MIME]["metrics"]}
    return output


def _text_of(value: Any) -> str:
    """Return all strings in a nested value, one on each line."""
    if isinstance(value, str):
        return value
    if isinstance(value, dict):
        return "\n".join(_text_of(one) for one in value.values())
    if isinstance(value, list):
        return "\n".join(_text_of(one) for one in value)
    return ""
