"""A schema's column in the whole numbers that proofs are about: steps of its resolution, 2,048 at a time."""

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from twopm_kit.errors import SchemaError
from twopm_kit.vsies.cells import read
from twopm_kit.vsies.field import Field
from twopm_kit.vsies.proofs.columns import CommittedColumn
from twopm_kit.vsies.proofs.polynomials import ROWS

__all__ = ["commit_field", "ends_in_steps", "in_steps"]


def in_steps(field: Field, values: "pd.Series[Any] | npt.ArrayLike") -> npt.NDArray[np.int64]:
    """Round values to the field's step, and count in steps.

    Rounding keeps order: what lies between low and high does so in steps, too.

    Parameters
    ----------
    field : Field
        A float, int or bool field with low, high and step (a bool has 0, 1 and 1).
    values : Series or array, shape (n,)
        The column, as ``schema.validate`` returns it.

    Returns
    -------
    ndarray of int64, shape (n,)

    Raises
    ------
    SchemaError
        The field cannot be counted in steps, or a value is missing, not of its kind or out of its range.
    """
    low, high, step = _range(field)
    cells = read(field, _column(field, values))
    missing = np.flatnonzero(cells.missing)
    if len(missing):
        raise SchemaError(
            f"column {field.name!r} has no value in row {missing[0]}{_others(missing)}",
            hint="prove columns without missing values, or fill them and say so in the schema",
        )
    odd = np.flatnonzero(~cells.good)
    if len(odd):
        raise SchemaError(
            f"the value of column {field.name!r} in row {odd[0]}{_others(odd)} is not of the kind "
            f"{field.kind!r}",
            hint=f"validate first, and pass schema.validate(frame)[{field.name!r}]",
        )
    floats = cells.values.astype(np.float64)
    outside = np.flatnonzero(~((floats >= low) & (floats <= high)))
    if len(outside):
        raise SchemaError(
            f"the value of column {field.name!r} in row {outside[0]} is not {field.allowed}",
            hint="validate first: schema.validate(frame)",
        )
    return np.rint(floats / step).astype(np.int64)


def commit_field(field: Field, values: "pd.Series[Any] | npt.ArrayLike") -> list[CommittedColumn]:
    """Commit to a column in parts of 2,048 rows, with the range that the field allows.

    Raises
    ------
    SchemaError
        As `in_steps`.
    DataError
        The range has more than 2**32 steps.
    """
    steps = in_steps(field, values)
    ends = ends_in_steps(field)
    return [CommittedColumn.commit(steps[at : at + ROWS], *ends) for at in range(0, len(steps), ROWS)]


def ends_in_steps(field: Field) -> tuple[int, int]:
    """Return the field's low and high in steps: what a range proof of its columns says.

    Raises
    ------
    SchemaError
        The field cannot be counted in steps.
    """
    low, high, step = _range(field)
    return round(low / step), round(high / step)


def _column(field: Field, values: Any) -> "pd.Series[Any]":
    """Return the values as a column, or say why they are none."""
    if isinstance(values, pd.Series):
        column = values
    elif isinstance(values, str | bytes | Mapping | pd.DataFrame) or not isinstance(values, Iterable):
        column = None
    else:
        listed = values if isinstance(values, np.ndarray) else list(values)
        column = None if np.ndim(listed[0] if len(listed) else 0) else pd.Series(listed, dtype=_dtype(listed))
    if column is None:
        raise SchemaError(
            f"a {type(values).__name__} was passed as column {field.name!r}; expected its values, one a row",
            hint=f"pass them after the field: frame[{field.name!r}]",
        )
    if len(column) == 0:
        raise SchemaError(f"column {field.name!r} has no rows", hint="pass one value or more")
    return column


def _others(rows: npt.NDArray[np.int64]) -> str:
    return f" and in {len(rows) - 1:,} others" if len(rows) > 1 else ""


def _dtype(listed: Any) -> Any:
    # a list may hold anything; what it holds is for the cells to say
    return None if isinstance(listed, np.ndarray) and listed.dtype.kind in "biuf" else object


def _range(field: Field) -> tuple[float, float, float]:
    if not isinstance(field, Field):
        raise SchemaError(
            f"field is a {type(field).__name__}; expected a Field",
            hint='pass schema["age"] first, then the values of the column',
        )
    if field.kind == "bool":
        return 0.0, 1.0, 1.0
    if field.low is None or field.high is None or field.step is None or not field.low < field.high:
        raise SchemaError(
            f"column {field.name!r} ({field.kind}) has no range in steps to be proven",
            hint="give the field low, high and resolution; categories are proven as columns of 0 and 1",
        )
    return float(field.low), float(field.high), float(field.step)
