"""What models are given, checked before anything is computed: numbers, tables, encrypted frames, columns."""

import math
from collections.abc import Iterable, Sequence
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import pandas as pd

from twopm_kit.errors import SchemaError
from twopm_kit.fhe.frames import EncryptedFrame

__all__ = [
    "Array",
    "check_encrypted",
    "choose_columns",
    "fitted_parts",
    "floats",
    "named_row",
    "names_of",
    "power_above",
    "real_numbers",
    "table",
]

Array: TypeAlias = npt.NDArray[np.float64]


def floats(values: Any, what: str) -> Array:
    """Float64 numbers, finite or not; complex ones are refused, which NumPy would cut to their real parts."""
    try:
        if not np.iscomplexobj(values):
            return np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError):
        raise SchemaError(f"{what} holds something that is not a number", hint="pass plain numbers") from None
    raise SchemaError(f"{what} holds complex numbers", hint="pass real numbers: values.real, if they are")


def real_numbers(values: Any, what: str) -> Array:
    """Finite float64 numbers, or a refusal that says what they were for."""
    array = floats(values, what)
    if not np.isfinite(array).all():
        raise SchemaError(f"{what} holds values that are not finite", hint="pass finite numbers")
    return array


def table(values: Any, what: str) -> Array:
    """Finite numbers in rows and columns, at least one of each."""
    found = real_numbers(values, what)
    if found.ndim != 2 or found.size == 0:
        raise SchemaError(f"{what} of shape {found.shape} were passed", hint="pass rows × columns")
    return found


def named_row(data: Any) -> Any:
    """Table of one row for a Series, whose index names columns; anything else as it is."""
    return data.to_frame().T if isinstance(data, pd.Series) else data


def power_above(value: float) -> float:
    """Next power of two."""
    return 2.0 ** math.ceil(math.log2(value))


def check_encrypted(enc: Any, data: str = "data") -> None:
    """Refuse what is not encrypted; ``data`` is what should have been passed to ``holder.encrypt``.

    Raises
    ------
    SchemaError
        It is no EncryptedFrame.
    """
    if not isinstance(enc, EncryptedFrame):
        raise SchemaError(
            f"a {type(enc).__name__} was passed; expected an EncryptedFrame",
            hint=f"encrypt it first: holder.encrypt({data}); simulate(X) works in clear",
        )


def names_of(enc: EncryptedFrame) -> tuple[str, ...] | None:
    """Column names, where the data were a table with names."""
    return tuple(enc.columns) if enc.source == "frame" else None


def choose_columns(wanted: Sequence[str], have: Iterable[str]) -> list[str]:
    """Columns that a model takes, in its order.

    Raises
    ------
    SchemaError
        Some are missing.
    """
    there = set(have)
    missing = [name for name in wanted if name not in there]
    if missing:
        raise SchemaError(
            f"the frame lacks {len(missing)} of the model's {len(wanted)} columns: {', '.join(missing[:8])}",
            hint="pass a frame that has them",
        )
    return list(wanted)


def fitted_parts(fitted: Any, *names: str) -> tuple[Array, ...]:
    """Numbers of a fitted scikit-learn estimator.

    Raises
    ------
    SchemaError
        It is not fitted, or another kind of estimator.
    """
    missing = [name for name in names if not hasattr(fitted, name)]
    if missing:
        raise SchemaError(
            f"a {type(fitted).__name__} without {', '.join(missing)} was passed; expected a fitted estimator",
            hint="call .fit(X, y) first; from a Pipeline pass its last step, and its other steps over the "
            "rows",
        )
    return tuple(real_numbers(getattr(fitted, name), name) for name in names)
