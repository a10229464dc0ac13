"""Check a table before anything of it is encrypted, spread it into numbers, and put it together again."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pandas as pd

from twopm_kit.errors import CiphertextError, SchemaError, TwoPMError
from twopm_kit.fhe.container import MAX_COLUMNS, MAX_NAME, MAX_ROWS
from twopm_kit.fhe.profiles import Profile

__all__ = [
    "CATEGORY",
    "MAX_CATEGORIES",
    "NUMBERS",
    "PRESENT",
    "Bounds",
    "Data",
    "Missing",
    "Table",
    "check_table",
    "plain_array",
    "present_name",
    "rebuild",
]

Data = pd.DataFrame | npt.ArrayLike
Bounds = float | Mapping[str, float] | pd.Series
Missing = str | Sequence[str]

#: Kinds of columns that are numbers.
NUMBERS: Final = ("float", "int", "bool")
#: Kind of a column that is 1 in the rows of one category: this and the name of the categorical column.
CATEGORY: Final = "category:"
#: Kind of a column that is 1 where another has a value: this and the name of the other.
PRESENT: Final = "present:"
#: A categorical column with more is more likely an identifier.
MAX_CATEGORIES: Final = 64

#: Rounding to whole numbers is safe below this error.
_SAFE_ERROR: Final = 0.25
_EXACT: Final = 2.0**53


@dataclass(frozen=True, slots=True, repr=False)
class Table:
    """Checked numbers, ready to be encrypted.

    Parameters
    ----------
    names : tuple of str
        Names of the columns that are encrypted, d of them: categories and masks have columns of their own.
    values : ndarray of float64, shape (n, d)
        Finite.
    bounds : tuple of float
        Public upper limit of the absolute values of each column.
    source : str
        "frame" or "array".
    kinds : tuple of str
        "float", "int", "bool", "category:<column>" or "present:<column>"; a mask follows its column.
    """

    names: tuple[str, ...]
    values: npt.NDArray[np.float64]
    bounds: tuple[float, ...]
    source: str
    kinds: tuple[str, ...] = ()

    def __repr__(self) -> str:
        return f"<Table {self.values.shape[0]} rows × {len(self.names)} columns>"


@dataclass(frozen=True, slots=True, repr=False)
class _Part:
    """A column of numbers that a column of the table became."""

    name: str
    values: npt.NDArray[np.float64]
    kind: str


def present_name(name: str) -> str:
    """Name of the mask of a column."""
    return f"{name}=present"


def check_table(
    data: Data, profile: Profile, bounds: Bounds | None = None, missing: Missing = "refuse"
) -> Table:
    """Names, float64 values, kinds and public bounds of a frame or array.

    Parameters
    ----------
    data : pandas.DataFrame or array-like of shape (n, d) or (n,)
        Numbers, booleans, and (in a frame) text or categories, which become one column of 0 and 1 for each
        category.
    profile : Profile
        Says how large values may be.
    bounds : float, or mapping or Series of column name to float, optional
        Public upper limits of the absolute values. Without them each column gets the next power of 4, which
        tells a server roughly how large its largest value is.
    missing : str or sequence of str
        "refuse"; "mask" gives every column whose dtype can have missing values a mask; names do so for these
        columns only. Which values are missing is then as hidden as the values are.

    Raises
    ------
    SchemaError
        Names column, row and limit. The value itself is never in the message.
    """
    source = "frame" if isinstance(data, pd.DataFrame) else "array"
    columns = _from_frame(data) if isinstance(data, pd.DataFrame) else _from_array(data)
    rows = len(columns[0][1]) if columns else (len(data) if isinstance(data, pd.DataFrame) else 0)
    if rows == 0 or not columns:
        raise SchemaError(
            f"a table of {rows} rows and {len(columns)} columns was passed; there is nothing to encrypt",
            hint="pass at least one row and one column",
        )
    names = [name for name, _ in columns]
    if isinstance(bounds, Mapping | pd.Series):
        bounds = {str(name): bound for name, bound in bounds.items()}
    masked = _masked(columns, missing)
    parts = [part for name, column in columns for part in _spread(name, column, mask=name in masked)]
    _check_names([part.name for part in parts])
    if len(parts) > MAX_COLUMNS or rows > MAX_ROWS:
        raise SchemaError(
            f"a table of {rows} rows and {len(parts)} columns was passed; limits are {MAX_ROWS:,} "
            f"rows and {MAX_COLUMNS:,} columns",
            hint="encrypt it in parts",
        )
    limits = tuple(
        _bound(p.name, np.abs(p.values), profile, bounds) if p.kind in NUMBERS else 1.0 for p in parts
    )
    if isinstance(bounds, Mapping) and (unknown := sorted(set(bounds) - set(names))):
        raise SchemaError(
            f"bounds were passed for {', '.join(unknown)}, which the table does not have",
            hint=f"name columns of the table: {', '.join(names[:10])}",
        )
    return Table(
        names=tuple(part.name for part in parts),
        values=np.column_stack([part.values for part in parts]),
        bounds=limits,
        source=source,
        kinds=tuple(part.kind for part in parts),
    )


# Into numbers -------------------------------------------------------------------------------------------


def _from_frame(frame: pd.DataFrame) -> list[tuple[str, Any]]:
    columns = [(str(name), frame.iloc[:, j]) for j, name in enumerate(frame.columns)]
    _check_names([name for name, _ in columns])
    return columns


def _from_array(data: npt.ArrayLike) -> list[tuple[str, Any]]:
    array = plain_array(data)
    if array.ndim == 0 or array.dtype.kind not in "biuf":
        found = "a single value" if array.ndim == 0 else f"dtype {array.dtype}"
        raise SchemaError(
            f"an object of type {type(data).__name__} was passed ({found}); expected rows × columns of "
            "numbers or booleans",
            hint="pass a DataFrame (with text and categories), or an array; convert it with .astype(float) "
            "where it holds numbers",
        )
    if array.ndim == 1:
        array = array.reshape(-1, 1)
    if array.ndim != 2:
        raise SchemaError(
            f"an array with {array.ndim} dimensions was passed; expected rows × columns",
            hint="reshape it to two dimensions",
        )
    return [(f"x{j}", pd.Series(array[:, j].astype(np.float64))) for j in range(array.shape[1])]


def plain_array(data: Any) -> npt.NDArray[Any]:
    """Array of what holds plain values: nested sequences, NumPy, pandas, tensors. Masked values become NaN.

    Raises
    ------
    SchemaError
        Sparse, of rows of different length, or nothing that an array can be made of.
    """
    if hasattr(data, "toarray"):
        raise SchemaError(
            f"a sparse matrix ({type(data).__name__}) was passed; where zeros are would be public",
            hint="pass data.toarray()",
        )
    try:
        if hasattr(data, "detach"):  # a tensor, on whatever device, with or without a gradient
            data = data.detach().cpu()
            data = data.double() if data.is_floating_point() else data
        if isinstance(data, np.ma.MaskedArray):
            data = np.ma.filled(data.astype(np.float64), np.nan)
        return np.asarray(data)
    except TwoPMError:
        raise
    except (TypeError, ValueError, RuntimeError):
        raise SchemaError(
            f"an object of type {type(data).__name__} was passed that no array can be made of, as of rows of "
            "different length; expected a table",
            hint="pass a DataFrame or a 2-D array",
        ) from None


def _check_names(names: list[str]) -> None:
    if len(set(names)) != len(names):
        twice = sorted({name for name in names if names.count(name) > 1})
        raise SchemaError(f"column names are not unique: {', '.join(twice)}", hint="rename the columns")
    if any(len(name) > MAX_NAME for name in names):
        raise SchemaError(
            f"a column name, or name and category, is longer than {MAX_NAME} characters",
            hint="shorten the name",
        )
    if any("\ud800" <= letter <= "\udfff" for name in names for letter in name):
        raise SchemaError(
            "a column name or category holds half of a surrogate pair, which is not text",
            hint="rename the column: it was read with another encoding than it was written",
        )


def _masked(columns: list[tuple[str, Any]], missing: Missing) -> set[str]:
    if missing == "refuse":
        return set()
    if missing == "mask":
        return {name for name, column in columns if _can_miss(column.dtype)}
    known = {name for name, _ in columns}
    several = isinstance(missing, Iterable) and not isinstance(missing, str)
    wanted = set(map(str, missing)) if several else set()
    if not wanted or not wanted <= known:
        raise SchemaError(
            f"missing={missing!r} was passed; expected 'refuse', 'mask', or names of columns",
            hint=f"name columns of the table: {', '.join(sorted(known)[:10])}",
        )
    return wanted


def _can_miss(dtype: Any) -> bool:
    return not (isinstance(dtype, np.dtype) and dtype.kind in "biu")


def _spread(name: str, column: Any, *, mask: bool) -> Iterable[_Part]:
    dtype = column.dtype
    if isinstance(dtype, pd.CategoricalDtype) or _is_text(dtype):
        return _indicators(name, column, mask=mask)
    boolean = pd.api.types.is_bool_dtype(dtype)
    if not (boolean or pd.api.types.is_numeric_dtype(dtype)) or pd.api.types.is_complex_dtype(dtype):
        raise SchemaError(
            f"column {name!r} has dtype {dtype}; expected numbers, booleans, text or categories",
            hint="convert it to numbers, or leave it out",
        )
    values = column.to_numpy(dtype=np.float64, na_value=np.nan)
    kind = "bool" if boolean else "int" if pd.api.types.is_integer_dtype(dtype) else "float"
    gone = np.isnan(values)
    _refuse(name, np.isinf(values), "infinite", "fill or drop these rows before encrypting")
    if not mask:
        _refuse_missing(name, gone)
        return [_Part(name, values, kind)]
    present = (~gone).astype(np.float64)
    return [
        _Part(name, np.where(gone, 0.0, values), kind),
        _Part(present_name(name), present, PRESENT + name),
    ]


def _is_text(dtype: Any) -> bool:
    return bool(pd.api.types.is_string_dtype(dtype) or pd.api.types.is_object_dtype(dtype))


def _is_missing(value: Any) -> bool:
    return bool(pd.api.types.is_scalar(value) and pd.isna(value))


def _indicators(name: str, column: Any, *, mask: bool) -> Iterable[_Part]:
    if not isinstance(column.dtype, pd.CategoricalDtype):
        wrong = next(
            (type(v).__name__ for v in column if not isinstance(v, str) and not _is_missing(v)), None
        )
        if wrong is not None:
            raise SchemaError(
                f"column {name!r} has dtype {column.dtype} and holds values of type {wrong}; expected text",
                hint="convert it: .infer_objects() for numbers and booleans, .astype(str) for anything else",
            )
        column = column.astype("category")
    categories = [str(category) for category in column.cat.categories]
    if not 0 < len(categories) <= MAX_CATEGORIES or len(set(categories)) != len(categories):
        raise SchemaError(
            f"column {name!r} has {len(categories)} categories ({len(set(categories))} different as text); "
            f"expected 1 to {MAX_CATEGORIES} different ones",
            hint="merge rare categories, or leave the column out: one with so many values names its rows"
            if len(categories) > MAX_CATEGORIES
            else "leave the column out, or give its categories different names",
        )
    codes = np.asarray(column.cat.codes)
    if not mask:
        _refuse_missing(name, codes < 0)
    # a missing value is 0 in every category: no mask is needed
    return [
        _Part(f"{name}={category}", (codes == k).astype(np.float64), CATEGORY + name)
        for k, category in enumerate(categories)
    ]


def _refuse_missing(name: str, gone: npt.NDArray[np.bool_]) -> None:
    _refuse(
        name,
        gone,
        "missing (NaN)",
        'fill or drop these rows before encrypting, or pass missing="mask" to encrypt which values are there',
    )


def _refuse(name: str, wrong: npt.NDArray[np.bool_], kind: str, hint: str) -> None:
    if wrong.any():
        raise SchemaError(
            f"column {name!r}, row {int(np.argmax(wrong))}: the value is {kind}, one of {int(wrong.sum()):,} "
            "in the column; expected none",
            hint=hint,
        )


def _bound(name: str, sizes: npt.NDArray[np.float64], profile: Profile, bounds: Any) -> float:
    row, largest = int(np.argmax(sizes)), float(sizes.max())
    wanted = bounds.get(name) if isinstance(bounds, Mapping) else bounds
    limit = profile.max_value
    if wanted is not None:
        if isinstance(wanted, bool | np.bool_) or not isinstance(
            wanted, int | float | np.integer | np.floating
        ):
            raise SchemaError(
                f"column {name!r} was given a bound of type {type(wanted).__name__}; expected a number",
                hint="pass one number, or a mapping or Series of column names to numbers",
            )
        wanted = float(wanted)
        if not 0.0 < wanted <= limit:
            raise SchemaError(
                f"column {name!r} was given the bound {wanted:g}; profile {profile.name!r} takes bounds "
                f"above 0 and up to {limit:g}",
                hint="pass a smaller bound and scale the column, or use a profile with a larger range"
                if wanted > limit
                else "pass a number above 0",
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


# And back -----------------------------------------------------------------------------------------------


def rebuild(
    names: tuple[str, ...],
    values: npt.NDArray[np.float64],
    source: str,
    kinds: tuple[str, ...] = (),
    errors: tuple[float, ...] = (),
) -> pd.DataFrame | npt.NDArray[np.float64]:
    """DataFrame with a fresh index, or array of shape (n, d).

    Parameters
    ----------
    names : tuple of str
        Names of the columns that were encrypted.
    values : ndarray of float64, shape (n, len(names))
        As opened.
    source : str
        "frame" or "array".
    kinds : tuple of str, optional
        Kind of each column; all "float" without them.
    errors : tuple of float, optional
        Largest error to expect in each column; whole numbers and truth values are rounded where that is safe
        and stay float64 where it is not.

    Raises
    ------
    CiphertextError
        Categories or masks cannot be told apart from the error.
    """
    kinds = kinds or ("float",) * len(names)
    errors = errors or (0.0,) * len(names)
    hazy = [n for n, k, e in zip(names, kinds, errors, strict=True) if k not in NUMBERS and e >= _SAFE_ERROR]
    if hazy:
        raise CiphertextError(
            f"0 and 1 cannot be told apart in column {hazy[0]!r} at this precision",
            hint="pass a finer precision=, or select the other columns",
        )
    if source == "array":
        return _masked_values(values, kinds)
    made: dict[str, Any] = {}
    for j, (name, kind) in enumerate(zip(names, kinds, strict=True)):
        if kind.startswith(PRESENT):
            continue
        if kind.startswith(CATEGORY):
            group = kind.removeprefix(CATEGORY)
            if group not in made:
                members = [i for i, other in enumerate(kinds) if other == kind]
                made[group] = _category(group, [names[i] for i in members], values[:, members])
            continue
        mask = j + 1 < len(kinds) and kinds[j + 1] == PRESENT + name
        gone = values[:, j + 1] < 0.5 if mask else np.zeros(len(values), dtype=bool)
        made[name] = _number_column(values[:, j], gone, kind, errors[j])
    return pd.DataFrame(made)


def _masked_values(values: npt.NDArray[np.float64], kinds: tuple[str, ...]) -> npt.NDArray[np.float64]:
    values = values.copy()
    for j, kind in enumerate(kinds):
        if kind.startswith(PRESENT):
            values[values[:, j] < 0.5, j - 1] = np.nan
    return values[:, [not kind.startswith(PRESENT) for kind in kinds]]


def _category(group: str, names: list[str], hits: npt.NDArray[np.float64]) -> Any:
    codes = np.where(hits.max(axis=1) > 0.5, hits.argmax(axis=1), -1)
    return pd.Categorical.from_codes(
        codes, categories=pd.Index([name.removeprefix(group + "=") for name in names])
    )


def _number_column(
    values: npt.NDArray[np.float64], gone: npt.NDArray[np.bool_], kind: str, error: float
) -> Any:
    whole = np.rint(values)
    if kind == "float" or error >= _SAFE_ERROR or not (np.abs(whole) < _EXACT).all():
        return np.where(gone, np.nan, values)
    truth = kind == "bool" and bool(np.isin(whole, (0.0, 1.0)).all())
    rounded = whole.astype(bool if truth else np.int64)
    if not gone.any():
        return rounded
    here = rounded.astype(object)
    here[gone] = None
    return pd.array(here, dtype="boolean" if truth else "Int64")
