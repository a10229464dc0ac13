"""Reads a notebook's parameters cell strictly; refuses overrides that papermill would only warn about."""

import ast
import io
import re
import tokenize
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from nbformat import NotebookNode

from twopm_kit.errors import ParameterError
from twopm_kit.notebook.files import read_notebook
from twopm_kit.notebook.modes import MODES

_SCALARS: Final = {"str": str, "int": int, "float": float, "bool": bool}
_LISTS: Final = {f"list[{name}]": kind for name, kind in _SCALARS.items()}


@dataclass(frozen=True)
class Parameter:
    """One line of the parameters cell: ``NAME: kind = default  # help``."""

    name: str
    kind: str
    default: Any
    help: str


def tagged(notebook: NotebookNode, tag: str) -> list[int]:
    """Return the indices of the cells that carry the tag."""
    return [index for index, cell in enumerate(notebook.cells) if tag in cell.metadata.get("tags", [])]


def parse_cell(source: str) -> list[Parameter]:
    """Return the parameters of a parameters cell, in order.

    Parameters
    ----------
    source : str
        The source of the cell.

    Returns
    -------
    list of Parameter

    Raises
    ------
    ParameterError
        When a line is anything else than an annotated literal on one line with a comment as its help, or
        when a default does not have the type of its annotation.
    """
    try:
        tree = ast.parse(source)
    except SyntaxError as error:
        raise ParameterError(
            f"the parameters cell is not Python: {error.msg} in line {error.lineno}", hint="correct the line"
        ) from error
    comments = {
        token.start[0]: token.string.lstrip("# ").strip()
        for token in tokenize.generate_tokens(io.StringIO(source).readline)
        if token.type == tokenize.COMMENT
    }
    return [_parse_line(statement, comments, source) for statement in tree.body]


def _parse_line(statement: ast.stmt, comments: Mapping[int, str], source: str) -> Parameter:
    line = source.splitlines()[statement.lineno - 1]
    remedy = "write it like: ROUNDS: int = 5  # how many rounds to train"
    if not isinstance(statement, ast.AnnAssign) or not isinstance(statement.target, ast.Name):
        raise ParameterError(
            f"the parameters cell has the line {line!r}, expected an annotated literal", hint=remedy
        )
    name, kind = statement.target.id, ast.unparse(statement.annotation)
    if statement.end_lineno != statement.lineno or line.count("=") != 1:
        raise ParameterError(
            f"the parameter {name} does not stand on one line with one '='; papermill would skip it",
            hint=remedy,
        )
    if not comments.get(statement.lineno):
        raise ParameterError(f"the parameter {name} has no comment; it is the parameter's help", hint=remedy)
    try:
        default = ast.literal_eval(statement.value) if statement.value is not None else None
    except ValueError as error:
        raise ParameterError(
            f"the parameter {name} is not a literal: {line!r}",
            hint="compute what derives from it in the next cell",
        ) from error
    parameter = Parameter(name, kind, default, comments[statement.lineno])
    _validate_type(parameter, default)
    return parameter


def _validate_type(parameter: Parameter, value: Any) -> None:
    known = ", ".join([*_SCALARS, *_LISTS])
    if parameter.kind in _SCALARS:
        fits = _is_a(value, _SCALARS[parameter.kind])
    elif parameter.kind in _LISTS:
        fits = isinstance(value, list) and all(_is_a(one, _LISTS[parameter.kind]) for one in value)
    else:
        raise ParameterError(
            f"the parameter {parameter.name} has the type {parameter.kind}, expected one of {known}",
            hint="use a type that travels as JSON",
        )
    if not fits:
        raise ParameterError(
            f"the parameter {parameter.name} is {value!r}, expected a value of type {parameter.kind}",
            hint=f"pass a {parameter.kind}",
        )


def _is_a(value: Any, kind: type) -> bool:
    """Tell whether ``value`` may stand for ``kind``: an int for a float, but never a bool for a number."""
    if kind is float:
        return isinstance(value, int | float) and not isinstance(value, bool)
    return type(value) is kind


def inspect(path: Path) -> dict[str, Parameter]:
    """Return the parameters of a notebook, by name.

    Parameters
    ----------
    path : Path
        The notebook; it must not have ``{`` in its name, for papermill reads that as a template.

    Returns
    -------
    dict
        Name to :class:`Parameter`, in the order of the cell.

    Raises
    ------
    ParameterError
        When the notebook has no parameters cell or several, when the cell is malformed, or when papermill
        sees other parameters than Python does: those could not be overridden.
    """
    import papermill  # a second to load; reading a cell alone does not need it

    notebook = read_notebook(path)
    cells = tagged(notebook, "parameters")
    if len(cells) != 1:
        raise ParameterError(
            f"{path.name} has {len(cells)} cells tagged 'parameters', expected one",
            hint="give the cell with the parameters, and no other, the tag 'parameters'",
        )
    parameters = {one.name: one for one in parse_cell(notebook.cells[cells[0]].source)}
    seen = set(papermill.inspect_notebook(str(path)))
    if seen != set(parameters):
        raise ParameterError(
            f"papermill sees the parameters {sorted(seen)} in {path.name}, Python sees {sorted(parameters)}",
            hint="keep to single-line literals with one '=' each",
        )
    if next(iter(parameters), "") != "MODE" or parameters["MODE"].default not in MODES:
        raise ParameterError(
            f"{path.name} does not begin its parameters with MODE",
            hint='put first: MODE: str = "learn"  # fast | learn | full',
        )
    return parameters


def validate_overrides(name: str, parameters: Mapping[str, Parameter], overrides: Mapping[str, Any]) -> None:
    """Refuse an override that the notebook does not know, or that has another type.

    Raises
    ------
    ParameterError
        For the first override that does not fit.
    """
    for key, value in overrides.items():
        if key not in parameters:
            raise ParameterError(
                f"{name} has no parameter {key!r}; it has {', '.join(parameters)}",
                hint="correct the name in the manifest or on the command line",
            )
        _validate_type(parameters[key], value)
        if key == "MODE" and value not in MODES:
            raise ParameterError(
                f"MODE is {value!r}, expected one of {', '.join(MODES)}", hint="choose one of them"
            )


def injected(notebook: NotebookNode) -> dict[str, Any]:
    """Return the values in the cell that papermill has put behind the parameters cell."""
    values: dict[str, Any] = {}
    for index in tagged(notebook, "injected-parameters"):
        for statement in ast.parse(notebook.cells[index].source).body:
            if isinstance(statement, ast.Assign) and isinstance(statement.targets[0], ast.Name):
                values[statement.targets[0].id] = ast.literal_eval(statement.value)
    return values


def parse_override(text: str) -> tuple[str, Any]:
    """Return name and value of ``NAME=literal`` from a command line; a bare word counts as a string."""
    match = re.fullmatch(r"([A-Za-z_]\w*)=(.*)", text, re.DOTALL)
    if match is None:
        raise ParameterError(
            f"the parameter {text!r} is not of the form NAME=value", hint="write -p ROUNDS=3"
        )
    try:
        return match[1], ast.literal_eval(match[2])
    except (ValueError, SyntaxError):
        return match[1], match[2]
