"""Decides the dtype of a column from everything that occurs in it, and builds columns of that dtype."""

import math
from collections.abc import Iterable, Mapping, Sequence
from datetime import date, datetime
from decimal import Decimal
from typing import Any

import numpy as np
import pandas as pd

from twopm_kit.errors import SourceError

__all__ = ["DTYPES", "build", "cast", "checked_dtypes", "dtype_of", "kind", "kinds_allowed", "nullable"]

Kinds = frozenset[str]

#: The dtypes that a source gives, and what may occur in a column of each.
DTYPES: dict[str, Kinds] = {
    "int64": frozenset({"int"}),
    "Int64": frozenset({"int", "missing"}),
    "float64": frozenset({"int", "float", "missing"}),
    "bool": frozenset({"bool"}),
    "boolean": frozenset({"bool", "missing"}),
    "datetime64[us]": frozenset({"time", "missing"}),
    "str": frozenset({"int", "float", "bool", "time", "text", "missing"}),
}
_ALIASES = {int: "int64", "int": "int64", float: "float64", "float": "float64", bool: "bool", str: "str"}
_ALIASES |= {"string": "str", "text": "str", "object": "str"}


def dtype_of(seen: Iterable[str]) -> str:
    """Return the narrowest dtype that holds every kind of cell seen in a column.

    Whole numbers stay whole: with missing cells they are ``Int64``, not floats. A column without any value
    is ``float64``; one in which kinds mix is text.
    """
    found = frozenset(seen)
    if found <= {"missing"}:
        return "float64"
    return next(dtype for dtype, allowed in DTYPES.items() if found <= allowed)


def kind(value: Any) -> str:
    """Return what a cell holds: missing, bool, int, float, time or text.

    A whole number outside int64 is text: it names something, and no other dtype keeps all its digits.
    """
    if value is None or value is pd.NaT or (isinstance(value, float) and math.isnan(value)) or value == "":
        return "missing"
    if isinstance(value, bool | np.bool_):
        return "bool"
    if isinstance(value, int | np.integer):
        return "int" if -(1 << 63) <= int(value) < 1 << 63 else "text"
    if isinstance(value, float | np.floating | Decimal):
        return "float"
    return "time" if isinstance(value, datetime | date) else "text"


def build(values: Sequence[Any], dtype: str) -> "pd.Series[Any]":
    """Return cells that fit a dtype as a column of it; numbers in a column of text as Python writes them."""
    cells = [None if kind(value) == "missing" else value for value in values]
    if dtype == "str":
        cells = [None if cell is None else str(cell) for cell in cells]
    elif dtype == "float64":
        cells = [math.nan if cell is None else float(cell) for cell in cells]
    elif dtype == "datetime64[us]":
        # days up to the year 9999 do not fit nanoseconds
        return pd.Series(
            np.array([np.datetime64("NaT") if c is None else np.datetime64(c) for c in cells], dtype)
        )
    series: pd.Series[Any] = pd.Series(cells, dtype=dtype)
    return series


def cast(column: "pd.Series[Any]", dtype: Any) -> "pd.Series[Any]":
    """Return a column as another dtype that holds all its values."""
    series: pd.Series[Any] = column.astype(dtype)
    return series


def checked_dtypes(dtypes: Mapping[str, Any] | None) -> dict[str, str]:
    """Return the dtypes that a caller asked for, by their full names.

    Raises
    ------
    SourceError
        If one of them is not in `DTYPES`.
    """
    if dtypes is not None and not isinstance(dtypes, Mapping):
        raise SourceError(
            f"dtypes is a {type(dtypes).__name__}; expected a mapping", hint='pass dtypes={"age": "float64"}'
        )
    chosen = {}
    for column, asked in (dtypes or {}).items():
        known = isinstance(asked, str | type) and (asked in DTYPES or asked in _ALIASES)
        name = _ALIASES.get(asked, asked) if known else asked
        if not isinstance(name, str) or name not in DTYPES:
            raise SourceError(
                f"dtypes= asks for {asked!r} in column {column!r}; known are {', '.join(DTYPES)}",
                hint="choose one of these",
            )
        chosen[column] = name
    return chosen


def kinds_allowed(dtype: str) -> Kinds:
    """Return the kinds of cells that a column of a dtype may hold."""
    return DTYPES[dtype]


def nullable(dtype: str) -> bool:
    """Return whether a column of this dtype can lack values without becoming another."""
    return "missing" in DTYPES[dtype]
