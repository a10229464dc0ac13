"""Check a table of numbers before anything of it is encrypted, and give its values back in the same shape."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from twopm_kit.errors import SchemaError
from twopm_kit.fhe.container import MAX_COLUMNS, MAX_NAME, MAX_ROWS
from twopm_kit.fhe.profiles import Profile

__all__ = ["Bounds", "Data", "Table", "check_table", "rebuild"]

Data = pd.DataFrame | npt.ArrayLike
Bounds = float | Mapping[str, float]


@dataclass(frozen=True, slots=True, repr=False)
class Table:
    """Checked values, ready to be encrypted.

    Parameters
    ----------
    names : tuple of str
        Column names, d of them.
    values : ndarray of float64, shape (n, d)
        Finite.
    bounds : tuple of float
        Public upper limit of the absolute values of each column.
    source : str
        "frame" or "array".
    """

    names: tuple[str, ...]
    values: npt.NDArray[np.float64]
    bounds: tuple[float, ...]
    source: str

    def __repr__(self) -> str:
        return f"<Table {self.values.shape[0]} rows × {len(self.names)} columns>"


def check_table(data: Data, profile: Profile, bounds: Bounds | None = None) -> Table:
    """Names, float64 values and public bounds of a frame or array.

    Parameters
    ----------
    data : pandas.DataFrame or array-like of shape (n, d) or (n,)
        Numbers or booleans.
    profile : Profile
        Says how large values may be.
    bounds : float or mapping of column name to float, optional
        Public upper limits of the absolute values. Without them each column gets the next power of 16, which
        tells a server roughly how large its largest value is.

    Raises
    ------
    SchemaError
        Names column, row and limit. The value itself is never in the message.
    """
    names, values, source = _from_frame(data) if isinstance(data, pd.DataFrame) else _from_array(data)
    rows, width = values.shape
    if rows == 0 or width == 0:
        raise SchemaError(
            f"a table of {rows} rows and {width} columns was passed; there is nothing to encrypt",
            hint="pass at least one row and one column",
        )
    if width > MAX_COLUMNS or rows > MAX_ROWS:
        raise SchemaError(
            f"a table of {rows} rows and {width} columns was passed; limits are {MAX_ROWS} and {MAX_COLUMNS}",
            hint="encrypt it in parts",
        )
    for j, name in enumerate(names):
        _check_finite(name, values[:, j])
    limits = tuple(_bound(name, np.abs(values[:, j]), profile, bounds) for j, name in enumerate(names))
    if isinstance(bounds, Mapping) and (unknown := sorted(set(map(str, bounds)) - set(names))):
        raise SchemaError(
            f"bounds were passed for {', '.join(unknown)}, which the table does not have",
            hint=f"name columns of the table: {', '.join(names[:10])}",
        )
    return Table(names, values, limits, source)


def rebuild(
    names: tuple[str, ...], values: npt.NDArray[np.float64], source: str
) -> pd.DataFrame | npt.NDArray[np.float64]:
    """DataFrame with a fresh index, or array of shape (n, d)."""
    return pd.DataFrame(values, columns=list(names)) if source == "frame" else values


def _from_frame(frame: pd.DataFrame) -> tuple[tuple[str, ...], npt.NDArray[np.float64], str]:
    names = tuple(str(name) for name in frame.columns)
    if len(set(names)) != len(names):
        twice = sorted({name for name in names if names.count(name) > 1})
        raise SchemaError(f"column names are not unique: {', '.join(twice)}", hint="rename the columns")
    if any(len(name) > MAX_NAME for name in names):
        raise SchemaError(f"a column name is longer than {MAX_NAME} characters", hint="shorten the name")
    values = np.empty(frame.shape, dtype=np.float64)
    for j, name in enumerate(names):
        column = frame.iloc[:, j]
        if not _is_real(column.dtype):
            raise SchemaError(
                f"column {name!r} has dtype {column.dtype}; expected numbers or booleans",
                hint="convert it to numbers, or leave it out",
            )
        values[:, j] = column.to_numpy(dtype=np.float64, na_value=np.nan)
    return names, values, "frame"


def _is_real(dtype: Any) -> bool:
    numeric = pd.api.types.is_numeric_dtype(dtype) or pd.api.types.is_bool_dtype(dtype)
    return bool(numeric and not pd.api.types.is_complex_dtype(dtype))


def _from_array(data: npt.ArrayLike) -> tuple[tuple[str, ...], npt.NDArray[np.float64], str]:
    try:
        array = np.asarray(data)
    except ValueError:
        raise SchemaError(
            "rows of different length were passed; expected a table", hint="pass a DataFrame or a 2-D array"
        ) from None
    if array.dtype.kind not in "biuf":
        raise SchemaError(
            f"an array of dtype {array.dtype} was passed; expected numbers or booleans",
            hint="convert it with .astype(float)",
        )
    if array.ndim == 1:
        array = array.reshape(-1, 1)
    if array.ndim != 2:
        raise SchemaError(
            f"an array with {array.ndim} dimensions was passed; expected rows × columns",
            hint="reshape it to two dimensions",
        )
    return tuple(f"x{j}" for j in range(array.shape[1])), array.astype(np.float64), "array"


def _check_finite(name: str, column: npt.NDArray[np.float64]) -> None:
    wrong = ~np.isfinite(column)
    if wrong.any():
        row = int(np.argmax(wrong))
        kind = "missing (NaN)" if np.isnan(column[row]) else "infinite"
        raise SchemaError(
            f"column {name!r}, row {row}: the value is {kind}; {int(wrong.sum())} such values in the column, "
            "expected finite numbers",
            hint="fill or drop these rows before encrypting",
        )


def _bound(name: str, sizes: npt.NDArray[np.float64], profile: Profile, bounds: Bounds | None) -> float:
    row, largest = int(np.argmax(sizes)), float(sizes.max())
    wanted = bounds.get(name) if isinstance(bounds, Mapping) else bounds
    limit = profile.max_value
    if wanted is not None:
        wanted = float(wanted)
        if not 0.0 < wanted <= limit:
            raise SchemaError(
                f"column {name!r} was given the bound {wanted:g}; profile {profile.name!r} takes bounds "
                f"above 0 and up to {limit:g}",
                hint="pass a smaller bound and scale the column, or use a profile with a larger range",
            )
        limit = wanted
    if largest > limit:
        raise SchemaError(
            f"column {name!r}, row {row}: the absolute value is above the limit of {limit:g} "
            f"({'its bound' if wanted is not None else f'profile {profile.name!r}'})",
            hint="standardise or divide the column before encrypting"
            if wanted is None
            else "pass a larger bound, or scale the column",
        )
    return limit if wanted is not None else profile.bound_for(largest)
