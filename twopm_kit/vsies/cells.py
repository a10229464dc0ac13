"""Reads the cells of one column as what its field says, without ever changing a value."""

import math
from dataclasses import dataclass
from numbers import Integral, Real
from typing import Any, Final, TypeAlias

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pandas.api import types

from twopm_kit.vsies.field import EXACT, Field, is_label

__all__ = ["Cells", "Mask", "read"]

#: Truth values, one for each row.
Mask: TypeAlias = NDArray[np.bool_]
_DTYPES: Final[dict[str, type[Any]]] = {"float": np.float64, "int": np.int64, "bool": np.bool_}
_SMALLEST: Final = -(2**63)
_LARGEST: Final = 2**63 - 1


@dataclass(frozen=True, slots=True)
class Cells:
    """One column, read.

    Attributes
    ----------
    field : Field
        What the column should be.
    values : ndarray of shape (n,)
        float64, int64 or bool; of a category the position in ``texts`` (int64, -1 for none). 0, NaN or -1
        where a cell is missing or wrong.
    missing, wrong, inexact : ndarray of bool, shape (n,)
        None, NaN, NA or NaT; not of the field's kind; a number that would not survive the conversion.
    texts : ndarray of str, shape (k,)
        Different texts of a category column.
    """

    field: Field
    values: NDArray[Any]
    missing: Mask
    wrong: Mask
    inexact: Mask
    texts: NDArray[Any]

    @property
    def good(self) -> Mask:
        """Cells that hold a value of the right kind."""
        return np.asarray(~(self.missing | self.wrong | self.inexact))

    @property
    def finite(self) -> Mask:
        """Cells that do not hold an infinity."""
        if self.field.kind != "float":
            return np.ones(len(self.values), dtype=bool)
        return np.asarray(~self.good | np.isfinite(self.values))

    @property
    def in_range(self) -> Mask:
        """Cells between low and high of the field; those that hold no finite number count as in range."""
        low, high = self.field.low, self.field.high
        # A whole number is compared as one: int64 beside a float would be rounded to float64 first.
        exact = int if self.field.kind == "int" else float
        inside = np.ones(len(self.values), dtype=bool)
        if low is not None:
            inside &= self.values >= exact(low)
        if high is not None:
            inside &= self.values <= exact(high)
        return np.asarray(inside | ~self.good | ~self.finite)

    @property
    def known(self) -> Mask:
        """Cells whose text is one of the field's categories, or may become one when the set is open."""
        allowed = set(self.field.categories)
        fine = [text in allowed if allowed else is_label(text) for text in self.texts]
        # the last entry answers for -1, a cell without text
        return np.asarray(np.array([*fine, True], dtype=bool)[self.values])

    def series(self, index: pd.Index) -> "pd.Series[Any]":
        """Return the column in the dtype that validated frames have; the cells must be in order."""
        field = self.field
        data: Any = self.values
        if field.kind == "category":
            order = field.categories or tuple(sorted(self.texts))
            places = {text: place for place, text in enumerate(order)}
            codes = np.array([*(places[text] for text in self.texts), -1], dtype=np.int64)[self.values]
            data = pd.Categorical.from_codes(codes, categories=pd.Index(order, dtype="str"))
        elif field.kind == "int" and field.nullable:
            data = pd.arrays.IntegerArray(self.values, self.missing)
        elif field.kind == "bool" and field.nullable:
            data = pd.arrays.BooleanArray(self.values, self.missing)
        return pd.Series(data, index=index, name=field.name)


def read(field: Field, column: "pd.Series[Any]") -> Cells:
    """Read a column.

    float takes real numbers of any dtype, and whole numbers up to 2^53 in size. int takes whole numbers of 64
    bits, and floats without a fraction up to 2^53 in size. bool takes truth values, and the numbers 0 and 1,
    as that is how files write them. category takes text. A truth value is no number, and the text "12" is
    none either: what looks convertible in one row is a wrong column in another.
    """
    if field.kind == "category":
        return _texts(field, column)
    if column.dtype == object or isinstance(column.dtype, pd.CategoricalDtype):
        return _objects(field, column.to_numpy(dtype=object))
    missing = np.asarray(column.isna(), dtype=bool)
    numeric = types.is_numeric_dtype(column.dtype) and not types.is_complex_dtype(column.dtype)
    truth = types.is_bool_dtype(column.dtype)
    # Truth values of Arrow do not count as numeric
    if not (numeric or truth) or (truth and field.kind != "bool"):
        return _nothing(field, missing)
    found = _plain(column)
    # Decimals count as numeric, and would be rounded
    return _numbers(field, found, missing) if found.dtype.kind in "biuf" else _nothing(field, missing)


def _plain(column: "pd.Series[Any]") -> NDArray[Any]:
    """Return a numeric column as a numpy array of its own type, 0 where a masked value is missing."""
    dtype: Any = column.dtype
    if isinstance(dtype, np.dtype):
        return column.to_numpy()
    if isinstance(dtype, pd.SparseDtype):
        return np.asarray(column.array.to_dense())
    kind = dtype.numpy_dtype
    return np.asarray(column.array.to_numpy(dtype=kind, na_value=kind.type(0)))


def _nothing(field: Field, missing: Mask) -> Cells:
    """Return a column of which no cell is of the right kind."""
    blank = np.zeros(len(missing), dtype=_DTYPES[field.kind])
    no = np.zeros(len(missing), dtype=bool)
    return Cells(field, blank, missing, ~missing, no, np.array([], dtype=object))


def _numbers(field: Field, found: NDArray[Any], missing: Mask) -> Cells:
    floats = found.dtype.kind == "f"
    if floats:
        missing = missing | np.isnan(found)
        found = np.where(missing, found.dtype.type(0), found)
    wrong = np.zeros(len(found), dtype=bool)
    inexact = wrong.copy()
    if field.kind == "float":
        with np.errstate(over="ignore"):  # numbers longer than float64 may leave its range
            same = found.astype(np.float64)
        inexact = same != found if floats else _beyond(found)
        values = np.where(missing, np.nan, same)
        return Cells(field, values, missing, wrong, inexact & ~missing, np.array([], dtype=object))
    if field.kind == "bool":
        wrong = (found != 0) & (found != 1)
    elif floats:
        wrong = ~np.isfinite(found) | (found != np.floor(found))
        inexact = ~wrong & (np.abs(found) > EXACT)
    elif found.dtype.kind == "u":
        inexact = found > _LARGEST
    values = np.where(wrong | inexact | missing, found.dtype.type(0), found).astype(_DTYPES[field.kind])
    return Cells(field, values, missing, wrong, inexact, np.array([], dtype=object))


def _beyond(found: NDArray[Any]) -> Mask:
    """Tell which whole numbers are too large for float64 to hold them and their neighbours."""
    if found.dtype.itemsize < 8:
        return np.zeros(len(found), dtype=bool)
    above = found > EXACT
    # Beside unsigned numbers, -EXACT would be compared in float64
    return np.asarray(above if found.dtype.kind == "u" else above | (found < -EXACT))


def _objects(field: Field, column: NDArray[Any]) -> Cells:
    """Read cells that may each be of another type."""
    missing = np.asarray(pd.isna(column), dtype=bool)
    held = set(map(type, column[~missing]))
    if held <= {float, np.float64}:
        return _numbers(field, np.where(missing, np.nan, column).astype(np.float64), missing)
    if field.kind == "bool" and held <= {bool, np.bool_}:
        return _numbers(field, np.where(missing, False, column).astype(np.bool_), missing)
    cells = _nothing(field, missing)
    wrong, inexact, values = cells.wrong, cells.inexact, cells.values
    if field.kind == "float":
        values[:] = np.nan
    for row in np.flatnonzero(~missing):
        cell = column[row]
        if isinstance(cell, bool | np.bool_):
            state = "good" if field.kind == "bool" else "wrong"
        else:
            state = _number(field.kind, cell) if isinstance(cell, Real) else "wrong"
        wrong[row] = state == "wrong"
        inexact[row] = state == "inexact"
        if state == "good":
            values[row] = cell
    return Cells(field, values, missing, wrong, inexact, cells.texts)


def _number(kind: str, cell: Any) -> str:
    """Tell whether one number can be a cell of this kind: "good", "wrong" or "inexact"."""
    whole = isinstance(cell, Integral)
    if not whole and not isinstance(cell, float | np.floating):
        return "wrong"  # a fraction
    if kind == "bool":
        return "good" if cell in (0, 1) else "wrong"
    if kind == "float":
        exact = abs(int(cell)) <= EXACT if whole else float(cell) == cell
        return "good" if exact else "inexact"
    if whole:
        return "good" if _SMALLEST <= int(cell) <= _LARGEST else "inexact"
    if not math.isfinite(cell) or cell != math.floor(cell):
        return "wrong"
    return "good" if abs(cell) <= EXACT else "inexact"


def _texts(field: Field, column: "pd.Series[Any]") -> Cells:
    missing = np.asarray(column.isna(), dtype=bool)
    no = np.zeros(len(missing), dtype=bool)
    if isinstance(column.dtype, pd.CategoricalDtype):
        kinds = np.array(column.cat.categories, dtype=object)
        text = np.array([isinstance(kind, str) for kind in kinds] + [True], dtype=bool)
        wrong = ~text[column.cat.codes.to_numpy()]
        column = column.astype(object)
    elif isinstance(column.dtype, pd.StringDtype):
        wrong = no
    else:
        wrong = np.array([not isinstance(cell, str) for cell in column.array], dtype=bool) & ~missing
    cells = np.full(len(missing), None, dtype=object)
    there = ~(missing | wrong)
    cells[there] = column.to_numpy(dtype=object)[there]
    codes, texts = pd.factorize(cells)
    return Cells(field, codes.astype(np.int64), missing, wrong, no, np.asarray(texts, dtype=object))
