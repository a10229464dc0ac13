"""Drafts the fields of a schema from a frame: kinds, blurred ranges, categories, gaps and steps."""

import math
from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal
from typing import Any, Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pandas.api import types

from twopm_kit.errors import SchemaError
from twopm_kit.vsies.cells import read
from twopm_kit.vsies.field import EXACT, Field, is_label

__all__ = ["draft"]

#: Text of at most this many different values, each used twice on average, becomes categories.
_FEW: Final = 32
_MOST_DECIMALS: Final = 9
_SAMPLE: Final = 10_000


def draft(frame: pd.DataFrame) -> list[Field]:
    """Return one field for each column.

    Raises
    ------
    SchemaError
        Not a frame, no rows, or a column that no kind fits.
    """
    if not isinstance(frame, pd.DataFrame) or len(frame) == 0:
        what = "a frame without rows" if isinstance(frame, pd.DataFrame) else f"a {type(frame).__name__}"
        raise SchemaError(
            f"{what} was passed; expected a DataFrame of at least one row",
            hint="pass the table to draft from: kit.vsies.read(path) makes one of a file",
        )
    if frame.shape[1] == 0:
        raise SchemaError(
            "a frame without columns was passed; expected one column or more",
            hint="turn its index into columns: frame.reset_index()",
        )
    return [_field(label, frame.iloc[:, place]) for place, label in enumerate(frame.columns)]


def _field(label: Any, column: "pd.Series[Any]") -> Field:
    if not is_label(label):
        shown = repr(label[:80]) if isinstance(label, str) else repr(label)[:80]
        raise SchemaError(
            f"a column is called {shown}; expected 1 to 64 printable characters without spaces around them",
            hint=_rename(label),
        )
    missing = np.asarray(column.isna(), dtype=bool)
    if missing.all():
        raise SchemaError(
            f"column {label!r} has no value: nothing can be said about it", hint="drop it, or write its field"
        )
    for kind in _kinds(column):
        cells = read(Field(label, kind), column)
        if (cells.good | cells.missing).all() and cells.finite.all():
            values, nullable = cells.values[cells.good], bool(cells.missing.any())
            if kind == "category":
                return _category(label, values, cells.texts, nullable)
            if kind == "bool":
                return Field(label, "bool", nullable=nullable)
            return _number(label, kind, values, nullable)
    if types.is_float_dtype(column.dtype):
        raise SchemaError(
            f"column {label!r} ({column.dtype}) holds infinities, or numbers beyond float64",
            hint="write them as missing: frame.replace([np.inf, -np.inf], np.nan)",
        )
    dated = types.is_datetime64_any_dtype(column.dtype) or types.is_timedelta64_dtype(column.dtype)
    raise SchemaError(
        f"column {label!r} ({column.dtype}) is of no kind: neither numbers, nor truth values, nor text alone",
        hint="make numbers of times, such as the days since a date: (column - start).dt.days"
        if dated
        else "convert it to one of them, or drop it; dates become numbers first",
    )


def _rename(label: Any) -> str:
    if isinstance(label, str) and is_label(label.strip()):
        return "take the spaces away: frame.rename(columns=str.strip)"
    if isinstance(label, int):
        return 'give columns names: frame.rename(columns="x{}".format)'
    return 'rename it first: frame.rename(columns={"old": "new"})'


def _kinds(column: "pd.Series[Any]") -> tuple[str, ...]:
    """Return the kinds to try, the narrowest first."""
    dtype = column.dtype
    if types.is_bool_dtype(dtype):
        return ("bool",)
    if types.is_integer_dtype(dtype):
        return ("int",)
    if types.is_float_dtype(dtype):
        # pandas reads whole numbers with gaps as floats
        return ("int", "float") if column.isna().any() else ("float",)
    if types.is_object_dtype(dtype) and any(isinstance(cell, bool | np.bool_) for cell in column.array):
        return ("bool",)
    return ("int", "float", "category")


def _number(label: str, kind: str, values: NDArray[Any], nullable: bool) -> Field:
    smallest, largest = values.min().item(), values.max().item()
    if kind == "float":
        step = _step(values)
        low, high = _blurred(smallest, largest, step or 0.0)
        return Field(label, kind, low=low, high=high, nullable=nullable, resolution=step)
    # 0 and 1 are the answers to a question, whoever was asked
    flags = smallest >= 0 and largest <= 1
    low, high = (0.0, 1.0) if flags else _blurred(smallest, largest, 1.0)
    if low is None or high is None or low < -EXACT or high > EXACT:
        low = high = None
    return Field(label, kind, low=low, high=high, nullable=nullable)


def _blurred(low: float, high: float, step: float) -> tuple[float | None, float | None]:
    """Round outward to one digit of the distance, and to five steps at least, so that no value is shown."""
    reach = Decimal(high) - Decimal(low) or abs(Decimal(low))
    unit = Decimal(1).scaleb(reach.adjusted()) if reach else Decimal(1)
    while unit < 5 * Decimal(repr(step)):
        unit *= 5 if unit.as_tuple().digits == (1,) else 2
    first = (Decimal(low) / unit).to_integral_value(ROUND_FLOOR)
    last = (Decimal(high) / unit).to_integral_value(ROUND_CEILING)
    ends = float(first * unit), float((last if last > first else last + 1) * unit)
    # Numbers near the limits of float64 leave it when they are rounded
    fit = ends[0] <= low and high <= ends[1] and all(map(math.isfinite, ends))
    return ends if fit else (None, None)


def _step(values: NDArray[np.float64]) -> float | None:
    """Guess the step from the decimals of the first rows; None when there are more than nine."""
    sample = values[:_SAMPLE]
    for decimals in range(_MOST_DECIMALS + 1):
        with np.errstate(over="ignore"):
            rounded = np.round(sample, decimals)
        if (rounded == sample).all():
            return float(f"1e-{decimals}")
    return None


def _category(label: str, codes: NDArray[Any], texts: NDArray[Any], nullable: bool) -> Field:
    wrong = [text for text in texts if not is_label(text)]
    if wrong:
        raise SchemaError(
            f"column {label!r} has {len(wrong):,} texts that are not 1 to 64 printable characters without "
            "spaces around them",
            hint="drop the column, or shorten and strip its texts",
        )
    few = len(texts) <= _FEW and 2 * len(texts) <= max(len(codes), 4)
    return Field(label, "category", categories=tuple(sorted(texts)) if few else (), nullable=nullable)
