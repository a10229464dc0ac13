"""Formulas over columns as JSON: what they may hold, what they give, and how nodes compute them.

A formula is a number, a truth value, a text (to compare a category with), ``["column", name]``, or an
operator with its one or two operands, such as ``["/", ["column", "income"], ["column", "people"]]``. There is
no way to call anything: a node evaluates data, never code.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from twopm_kit.errors import SchemaError, TaskError

__all__ = ["Formula", "Schema", "check_columns", "evaluate", "kind_of", "written"]

Formula = Any
Level = str | int | float
Schema = Mapping[str, Sequence[Level] | None]
"""Columns by name: None for a number, or the levels that a column may have."""

_ARITHMETIC: dict[str, Callable[..., Any]] = {
    "+": np.add,
    "-": np.subtract,
    "*": np.multiply,
    "/": np.divide,
    "**": np.power,
}
_COMPARISONS: dict[str, Callable[..., Any]] = {
    "<": np.less,
    "<=": np.less_equal,
    ">": np.greater,
    ">=": np.greater_equal,
    "==": np.equal,
    "!=": np.not_equal,
}
_LOGIC: dict[str, Callable[..., Any]] = {"&": np.logical_and, "|": np.logical_or}
_UNARY = {"neg": "-{}", "abs": "abs({})", "~": "~{}", "isna": "{}.isna()"}
_MOST_PARTS = 1_000
_MOST_DEPTH = 40


def kind_of(formula: Formula, schema: Schema) -> str:
    """Return ``"number"``, ``"truth"`` or ``"category"``, after checking the whole formula.

    Raises
    ------
    TaskError
        If the formula is none, is too large, names an unknown column, or combines what does not go together.
    """
    return _Checker(schema).kind(formula, 0)


class _Checker:
    def __init__(self, schema: Schema) -> None:
        self._schema = schema
        self._parts = 0

    def kind(self, formula: Formula, depth: int) -> str:
        self._parts += 1
        if depth > _MOST_DEPTH or self._parts > _MOST_PARTS:
            raise TaskError(
                "the formula is too large", hint=f"use at most {_MOST_PARTS} parts, {_MOST_DEPTH} deep"
            )
        if isinstance(formula, bool):
            return "truth"
        if isinstance(formula, int | float):
            if not math.isfinite(formula):
                raise TaskError(f"{formula} is in a formula", hint="use finite numbers; .isna() finds gaps")
            return "number"
        if isinstance(formula, str):
            return "text"
        fitting = isinstance(formula, list | tuple) and len(formula) in (2, 3) and isinstance(formula[0], str)
        if not fitting:
            raise TaskError(f"{formula!r} is no formula", hint="build formulas from study['column']")
        if formula[0] == "column":
            return self._column(formula[1])
        kinds = [self.kind(part, depth + 1) for part in formula[1:]]
        found = _result(formula[0], kinds)
        if not found:
            raise TaskError(
                f"{written(formula)} applies {formula[0]!r} to {' and '.join(kinds)}",
                hint="compare before & | ~, calculate with numbers, compare categories with levels",
            )
        self._demand_level(formula)
        return found

    def _column(self, name: Any) -> str:
        if not isinstance(name, str) or name not in self._schema:
            raise TaskError(
                f"column {name!r} is not among {list(self._schema)}",
                hint="name it in columns= or categories= of the study",
            )
        levels = self._schema[name]
        return "category" if levels and isinstance(levels[0], str) else "number"

    def _demand_level(self, formula: Formula) -> None:
        """Refuse to compare a category with a text that is no level of it: it would never be true."""
        for one, other in (formula[1:], formula[:0:-1]) if len(formula) == 3 else ():
            if isinstance(other, str) and other not in (self._schema[one[1]] or ()):
                raise TaskError(
                    f"{other!r} is no level of {one[1]!r}, which has {list(self._schema[one[1]] or ())}",
                    hint="name it in categories= of the study, as the frames spell it",
                )


def _result(operator: str, kinds: list[str]) -> str:
    """Return the kind that an operator gives, or an empty text if it does not apply."""
    numbers = all(kind in ("number", "truth") for kind in kinds)
    if len(kinds) == 1:
        return {
            "neg": "number" * (kinds == ["number"]),
            "abs": "number" * (kinds == ["number"]),
            "~": "truth" * (kinds == ["truth"]),
            "isna": "truth" * (kinds[0] != "text"),
        }.get(operator, "")
    if operator in _ARITHMETIC:
        return "number" * (numbers and "number" in kinds)
    if operator in _COMPARISONS:
        named = operator in ("==", "!=") and sorted(kinds) == ["category", "text"]
        return "truth" * (numbers or named)
    return "truth" * (operator in _LOGIC and kinds == ["truth", "truth"])


def written(formula: Formula) -> str:
    """Return a formula as a reader would write it in pandas."""
    if not isinstance(formula, list | tuple):
        return repr(formula)
    if formula[0] == "column":
        return str(formula[1])
    parts = [written(part) for part in formula[1:]]
    if len(parts) == 1:
        return _UNARY.get(formula[0], "{}").format(parts[0])
    return f"({parts[0]} {formula[0]} {parts[1]})"


def check_columns(frame: pd.DataFrame, schema: Schema) -> None:
    """Refuse a frame whose columns are not what a study names.

    Raises
    ------
    SchemaError
        If a column is missing or doubled, is not numeric, or has a level that the study does not know.
    """
    for name, levels in schema.items():
        if (frame.columns == name).sum() != 1:
            raise SchemaError(
                f"column {name!r} is not in the frame once; it has {list(frame.columns)}",
                hint="name columns that every node's frame has",
            )
        values = frame[name]
        real = pd.api.types.is_numeric_dtype(values) and not pd.api.types.is_complex_dtype(values)
        if not real and not (levels and isinstance(levels[0], str)):
            raise SchemaError(
                f"column {name!r} has dtype {values.dtype}, a real number was expected",
                hint="encode the column as numbers, or name its levels in categories=",
            )
        if levels is not None:
            unknown = values[values.notna() & ~values.isin(list(levels))].unique()[:3].tolist()
            if unknown:
                raise SchemaError(
                    f"column {name!r} holds {unknown}, the study knows {list(levels)}",
                    hint="name every level in categories= of the study",
                )


def evaluate(formula: Formula, frame: pd.DataFrame, schema: Schema) -> NDArray[Any]:
    """Compute a formula on a frame, with the rules of pandas for missing values.

    Returns
    -------
    ndarray, shape (rows,)
        float64 for numbers (NaN: missing), bool for truth values, int64 codes for a category (-1: missing).
    """
    with np.errstate(all="ignore"):  # a division by zero is an infinity or NaN, as in pandas
        found = _evaluated(formula, frame, schema)
    return np.broadcast_to(found, len(frame))


def _evaluated(formula: Formula, frame: pd.DataFrame, schema: Schema) -> Any:
    if not isinstance(formula, list | tuple):
        return np.asarray(formula, dtype=None if isinstance(formula, bool | str) else np.float64)
    operator = formula[0]
    if operator == "column":
        levels = schema[formula[1]]
        if levels and isinstance(levels[0], str):
            return pd.Index(levels).get_indexer(pd.Index(frame[formula[1]]))
        return frame[formula[1]].to_numpy(dtype=np.float64, na_value=np.nan)
    parts = [_evaluated(part, frame, schema) for part in formula[1:]]
    if len(parts) == 1:
        return _one(operator, parts[0], kind_of(formula[1], schema))
    if operator in _ARITHMETIC:
        return _ARITHMETIC[operator](*(np.asarray(part, dtype=np.float64) for part in parts))
    for at in (0, 1):
        if isinstance(formula[1 + at], str):  # a level: compare codes
            parts[at] = list(schema[formula[2 - at][1]] or ()).index(formula[1 + at])
    return {**_COMPARISONS, **_LOGIC}[operator](*parts)


def _one(operator: str, value: Any, kind: str) -> Any:
    if operator == "isna":
        return value < 0 if kind == "category" else np.isnan(np.asarray(value, dtype=np.float64))
    return {"neg": np.negative, "abs": np.abs, "~": np.logical_not}[operator](value)
