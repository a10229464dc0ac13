"""Reads notebooks with an error in words, and writes them in one step."""

import shutil
import warnings
from pathlib import Path

import nbformat
from nbformat import NotebookNode

from twopm_kit.errors import NotebookError


def read_notebook(path: Path) -> NotebookNode:
    """Read a notebook.

    Parameters
    ----------
    path : Path
        The file.

    Returns
    -------
    NotebookNode
        In format 4. What is wrong with its format is left for the hygiene checks to report.

    Raises
    ------
    NotebookError
        When there is no such file, or when it is not a notebook.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what is wrong with the format is reported by the hygiene checks
            return nbformat.read(path, as_version=4)  # type: ignore[no-untyped-call, no-any-return]
    except FileNotFoundError as error:
        raise NotebookError(
            f"there is no notebook {path.name}", hint="write it, or take it out of the manifest"
        ) from error
    except (ValueError, KeyError, AttributeError, nbformat.ValidationError) as error:
        raise NotebookError(
            f"{path.name} is not a notebook: {str(error)[:200]}",
            hint="open it in JupyterLab and save it again",
        ) from error


def write_notebook(notebook: NotebookNode, path: Path) -> None:
    """Write a notebook under its name in one step; nothing half-written is ever under that name."""
    partial = path.with_name(f".{path.name}.partial")
    partial.write_text(nbformat.writes(notebook).rstrip("\n") + "\n", encoding="utf-8")  # type: ignore[no-untyped-call]
    partial.replace(path)


def place(source: Path, target: Path) -> None:
    """Copy a finished file to its name in one step."""
    partial = target.with_name(f".{target.name}.partial")
    shutil.copyfile(source, partial)
    partial.replace(target)
