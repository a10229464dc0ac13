"""Rules about what is run: set-up, parameters, length, and what must not be in a cell."""

import ast
import re
from collections.abc import Iterator
from typing import Final

from twopm_kit.errors import ParameterError
from twopm_kit.notebook.hygiene.document import Cell, Document, Finding, Rule
from twopm_kit.notebook.machine import machine_path
from twopm_kit.notebook.parameters import parse_cell

LONGEST_CELL: Final = 25
LONGEST_FUNCTION: Final = 15
_SECRET: Final = re.compile(r"(?<![0-9A-Za-z])(?:0x)?[0-9a-fA-F]{64}(?![0-9A-Za-z])")
_SHELL: Final = re.compile(r"^\s*(?:!|%pip\b|%conda\b|%%bash\b|%%sh\b)", re.MULTILINE)


def setup_cell(document: Document) -> Iterator[Finding]:
    """Expect that the first code cell sets up, and says which kit the notebook was written for."""
    remedy = 'call kit.notebook.setup(written_for="0.1") in the first code cell'
    calls = document.code[0].calls("notebook.setup") if document.code else []
    if len(calls) != 1:
        yield Finding("setup", None, "the first code cell does not call kit.notebook.setup", remedy)
    elif not any(keyword.arg == "written_for" for keyword in calls[0].keywords):
        yield Finding("setup-version", document.code[0].number, "setup() has no written_for", remedy)


def parameters_cell(document: Document) -> Iterator[Finding]:
    """Expect the parameters in the second code cell and no other: annotated literals, MODE first."""
    tagged = [cell for cell in document.cells if "parameters" in cell.tags]
    if len(tagged) != 1:
        yield Finding(
            "parameters", None, f"{len(tagged)} cells with the tag", "tag exactly one cell 'parameters'"
        )
        return
    cell = tagged[0]
    if len(document.code) < 2 or document.code[1] is not cell:
        yield Finding(
            "parameters-place", cell.number, "it is not the second code cell", "put it after the set-up"
        )
    try:
        parameters = parse_cell(cell.source)
    except ParameterError as error:
        yield Finding("parameters-form", cell.number, error.message, error.hint)
        return
    if not parameters or parameters[0].name != "MODE" or parameters[0].default != "learn":
        yield Finding(
            "parameters-mode",
            cell.number,
            "the first parameter is not MODE, or not 'learn'",
            'begin with: MODE: str = "learn"  # fast | learn | full',
        )


def lengths(document: Document) -> Iterator[Finding]:
    """Expect short cells, and shorter functions."""
    for cell in document.code:
        lines = len(cell.source.splitlines())
        if lines > LONGEST_CELL:
            yield Finding(
                "cell-length", cell.number, f"{lines} lines, allowed are {LONGEST_CELL}", "divide the cell"
            )
        for node in _walk(cell):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.end_lineno is not None:
                length = node.end_lineno - node.lineno + 1
                if length > LONGEST_FUNCTION:
                    yield Finding(
                        "function-length",
                        cell.number,
                        f"{node.name} has {length} lines, allowed are {LONGEST_FUNCTION}",
                        "move it into the kit",
                    )


def syntax(document: Document) -> Iterator[Finding]:
    """Expect that every code cell is Python and does something."""
    for cell in document.code:
        if not cell.source.strip():
            yield Finding("empty-cell", cell.number, "the cell is empty", "remove it")
        elif cell.tree is None:
            yield Finding("syntax", cell.number, "the cell is not Python", "correct it")


def honest_failures(document: Document) -> Iterator[Finding]:
    """Expect that nothing is caught in order to go on without it, and that no warning is silenced."""
    for cell in document.code:
        for node in _walk(cell):
            if isinstance(node, ast.ExceptHandler):
                caught = "everything" if node.type is None else ast.unparse(node.type)
                if re.search(
                    r"\b(everything|ImportError|ModuleNotFoundError|Exception|BaseException)\b", caught
                ):
                    yield Finding(
                        "except",
                        cell.number,
                        f"'except' of {caught}",
                        "let it fail, or show it with kit.expect_error",
                    )
        for name in ("filterwarnings", "simplefilter"):
            if cell.calls(name):
                yield Finding(
                    "silenced", cell.number, f"{name} hides warnings", "correct what the warning is about"
                )


def kernel_traps(document: Document) -> Iterator[Finding]:
    """Expect nothing that cannot work in a kernel under test: questions, own event loops, shells."""
    for cell in document.code:
        for name in ("input", "asyncio.run", "getpass"):
            if any(ast.unparse(call.func) == name for call in cell.calls(name)):
                yield Finding(
                    "kernel-trap", cell.number, f"{name}() fails inside a kernel", "use a parameter or await"
                )
        if found := _SHELL.search(cell.source):
            yield Finding(
                "shell", cell.number, f"{found[0].strip()!r} runs a shell", "use the kit; installs break"
            )


def private_things(document: Document) -> Iterator[Finding]:
    """Expect no path of a machine and nothing that looks like a key."""
    for cell in document.code:
        if found := machine_path(cell.source):
            yield Finding(
                "machine-path", cell.number, f"the path {found!r}", "use names relative to the project"
            )
        if _SECRET.search(cell.source):
            yield Finding(
                "secret", cell.number, "64 hexadecimal digits, as keys have", "generate it at run time"
            )


def recorded(document: Document) -> Iterator[Finding]:
    """Expect that the last cell is hidden and records the metrics, and that no other cell does."""
    calls = [cell for cell in document.code if cell.calls("notebook.record")]
    if len(calls) != 1 or calls[0].number != len(document.cells):
        yield Finding(
            "record", None, f"{len(calls)} cells record", "call kit.notebook.record in the last cell only"
        )
    elif not calls[0].hidden:
        yield Finding(
            "record-hidden",
            calls[0].number,
            "the cell is not hidden",
            "add the tag 'hide-cell' and the metadata jupyter.source_hidden = true",
        )


def _walk(cell: Cell) -> Iterator[ast.AST]:
    return ast.walk(cell.tree) if cell.tree is not None else iter(())


RULES: tuple[Rule, ...] = (
    setup_cell,
    parameters_cell,
    lengths,
    syntax,
    honest_failures,
    kernel_traps,
    private_things,
    recorded,
)
