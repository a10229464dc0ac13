"""A notebook as the hygiene rules see it: cells with numbers, headings with levels, code as syntax trees."""

import ast
import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Final

from nbformat import NotebookNode

from twopm_kit.errors import NotebookError
from twopm_kit.notebook.files import read_notebook

_FENCE: Final = re.compile(r"^(```|~~~).*?^\1[ \t]*$", re.DOTALL | re.MULTILINE)
_HEADING: Final = re.compile(r"^(#{1,6})[ \t]+(.+?)[ \t]*#*$", re.MULTILINE)


@dataclass(frozen=True)
class Finding:
    """One breach of one rule.

    Attributes
    ----------
    rule : str
        The rule's name.
    cell : int or None
        The cell's number, counted from 1; None when the whole notebook is meant.
    message : str
        What was found.
    remedy : str
        What to do.
    """

    rule: str
    cell: int | None
    message: str
    remedy: str

    def __str__(self) -> str:
        where = "notebook" if self.cell is None else f"cell {self.cell}"
        return f"{where}: [{self.rule}] {self.message} → {self.remedy}"


@dataclass(frozen=True)
class Cell:
    """One cell."""

    number: int
    kind: str
    source: str
    metadata: dict[str, Any]
    outputs: list[Any]

    @property
    def tags(self) -> list[str]:
        """The cell's tags."""
        return list(self.metadata.get("tags", []))

    @property
    def hidden(self) -> bool:
        """Whether the cell is collapsed for readers, in JupyterLab and in books."""
        return "hide-cell" in self.tags and self.metadata.get("jupyter", {}).get("source_hidden") is True

    @cached_property
    def tree(self) -> ast.Module | None:
        """The code as Python sees it after IPython has replaced its magics; None when it is not Python."""
        from IPython.core.inputtransformer2 import TransformerManager

        if self.kind != "code":
            return None
        try:
            manager = TransformerManager()  # type: ignore[no-untyped-call]
            return ast.parse(manager.transform_cell(self.source))
        except SyntaxError:
            return None

    def calls(self, name: str) -> list[ast.Call]:
        """Return the calls in this cell of a function whose dotted name ends in ``name``."""
        if self.tree is None:
            return []
        found = [node for node in ast.walk(self.tree) if isinstance(node, ast.Call)]
        return [node for node in found if f".{ast.unparse(node.func)}".endswith(f".{name}")]


@dataclass(frozen=True)
class Heading:
    """One heading of the text."""

    cell: int
    level: int
    title: str


@dataclass(frozen=True)
class Document:
    """A notebook, read for inspection; ``raw`` is the file itself, ``node`` what Jupyter makes of it."""

    path: Path
    raw: dict[str, Any]
    node: NotebookNode

    @cached_property
    def cells(self) -> list[Cell]:
        """The cells, numbered from 1."""
        return [
            Cell(number, cell.cell_type, cell.source, dict(cell.metadata), list(cell.get("outputs", [])))
            for number, cell in enumerate(self.node.cells, start=1)
        ]

    @property
    def code(self) -> list[Cell]:
        """The code cells."""
        return [cell for cell in self.cells if cell.kind == "code"]

    @property
    def text(self) -> list[Cell]:
        """The markdown cells."""
        return [cell for cell in self.cells if cell.kind == "markdown"]

    @cached_property
    def headings(self) -> list[Heading]:
        """All headings in order; what looks like one inside a code block is none."""
        return [
            Heading(cell.number, len(match[1]), match[2])
            for cell in self.text
            for match in _HEADING.finditer(_FENCE.sub("", cell.source))
        ]

    @property
    def head(self) -> str:
        """The text before the first code cell."""
        texts = []
        for cell in self.cells:
            if cell.kind == "code":
                break
            texts.append(cell.source)
        return "\n\n".join(texts)


Rule = Callable[[Document], Iterator[Finding]]


def read_document(path: Path) -> Document:
    """Read a notebook for inspection; raises NotebookError when it is none."""
    node = read_notebook(path)
    raw = json.loads(path.read_text(encoding="utf-8"))
    if not isinstance(raw.get("cells"), list):
        raise NotebookError(
            f"{path.name} has no cells in format 4", hint="open it in JupyterLab and save it again"
        )
    return Document(path, raw, node)


def without_fences(source: str) -> str:
    """Return markdown without its fenced blocks."""
    return _FENCE.sub("", source)
