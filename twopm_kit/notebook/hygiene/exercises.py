"""Rules about exercises: a prompt, a check that waits for an answer, and a closed solution that is right."""

import ast
import re
from collections.abc import Iterator

from twopm_kit.notebook.hygiene.document import Cell, Document, Finding, Rule


def exercises(document: Document) -> Iterator[Finding]:
    """Expect at least one exercise, and all of its parts in each."""
    starts = [
        heading for heading in document.headings if re.match(r"exercise\b", heading.title, re.IGNORECASE)
    ]
    if not starts:
        yield Finding(
            "exercise", None, "there is no exercise", "add a heading 'Exercise 1: …' with its cells"
        )
    for start in starts:
        later = [
            heading.cell
            for heading in document.headings
            if heading.cell > start.cell and heading.level <= start.level
        ]
        end = min(later, default=len(document.cells) + 1)
        cells = [cell for cell in document.code if start.cell < cell.number < end]
        yield from _parts(start.cell, cells)


def _parts(number: int, cells: list[Cell]) -> Iterator[Finding]:
    """Examine the code cells that belong to the exercise in cell ``number``."""
    attempts = [cell for cell in cells if cell.calls("check") and not cell.hidden]
    if not attempts:
        yield Finding(
            "exercise-check", number, "nothing checks an answer", "add a cell that calls kit.check(...)"
        )
    elif not any(_is_open(cell) for cell in attempts):
        yield Finding(
            "exercise-open", number, "the answer is filled in", "begin it with: answer = ...  # your answer"
        )
    solutions = [cell for cell in cells if cell.hidden]
    if not solutions:
        yield Finding(
            "exercise-solution",
            number,
            "there is no hidden solution",
            "add a cell with the tag 'hide-cell' and the metadata jupyter.source_hidden = true",
        )
    elif not any(_asserts_check(cell) for cell in solutions):
        yield Finding(
            "exercise-proof",
            solutions[0].number,
            "the solution is not checked",
            "end it with: assert kit.check(...)",
        )


def _is_open(cell: Cell) -> bool:
    """Tell whether the cell leaves an answer open, as ``...`` or ``None``."""
    return cell.tree is not None and any(
        isinstance(node, ast.Assign | ast.AnnAssign)
        and isinstance(node.value, ast.Constant)
        and (node.value.value is ... or node.value.value is None)
        for node in ast.walk(cell.tree)
    )


def _asserts_check(cell: Cell) -> bool:
    return cell.tree is not None and any(
        isinstance(node, ast.Assert) and re.search(r"\bcheck\(", ast.unparse(node.test))
        for node in ast.walk(cell.tree)
    )


RULES: tuple[Rule, ...] = (exercises,)
