"""Fingerprints of a notebook's source and of its outputs, so that outputs that do not belong are noticed."""

import hashlib
import json
from typing import Any, Final

from nbformat import NotebookNode

STAMP: Final = "twopm"
"""Key in a notebook's metadata under which the refresh command keeps the fingerprints."""


def source_hash(notebook: NotebookNode) -> str:
    """Return the SHA-256 (hex) of everything that a person wrote: kind, id and source of every cell."""
    return _digest([[cell.cell_type, cell.get("id", ""), cell.source] for cell in notebook.cells])


def outputs_hash(notebook: NotebookNode) -> str:
    """Return the SHA-256 (hex) of all outputs."""
    return _digest([cell.get("outputs", []) for cell in notebook.cells])


def has_outputs(notebook: NotebookNode) -> bool:
    """Tell whether any cell carries an output or the number of an execution."""
    return any(cell.get("outputs") or cell.get("execution_count") is not None for cell in notebook.cells)


def stamp(notebook: NotebookNode, kit: str) -> None:
    """Write the fingerprints into the notebook's metadata."""
    notebook.metadata[STAMP] = {
        "kit": kit,
        "outputs_sha256": outputs_hash(notebook),
        "source_sha256": source_hash(notebook),
    }


def _digest(content: Any) -> str:
    text = json.dumps(content, sort_keys=True, ensure_ascii=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()
