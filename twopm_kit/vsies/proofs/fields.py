"""A schema's column in the whole numbers that proofs are about: steps of its resolution, 2,048 at a time."""

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from twopm_kit.errors import SchemaError
from twopm_kit.vsies.proofs.columns import CommittedColumn
from twopm_kit.vsies.proofs.polynomials import ROWS

if TYPE_CHECKING:
    import pandas as pd

    from twopm_kit.vsies.field import Field

__all__ = ["commit_field", "in_steps"]


def in_steps(field: "Field", values: "pd.Series[Any] | npt.ArrayLike") -> npt.NDArray[np.int64]:
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
        The field cannot be counted in steps, or a value is missing.
    """
    low, high, step = _range(field)
    numbers = np.asarray(values, dtype=object)
    missing = [row for row, value in enumerate(numbers) if value is None or value != value]
    if missing:
        raise SchemaError(
            f"column {field.name!r} has no value in row {missing[0]}, and in {len(missing) - 1} others",
            hint="prove columns without missing values, or fill them and say so in the schema",
        )
    floats = numbers.astype(np.float64)
    outside = np.flatnonzero(~((floats >= low) & (floats <= high)))
    if len(outside):
        raise SchemaError(
            f"the value of column {field.name!r} in row {outside[0]} is not {field.allowed}",
            hint="validate first: schema.validate(frame)",
        )
    return np.rint(floats / step).astype(np.int64)


def commit_field(field: "Field", values: "pd.Series[Any] | npt.ArrayLike") -> list[CommittedColumn]:
    """Commit to a column in parts of 2,048 rows, with the range that the field allows.

    Raises
    ------
    SchemaError
        As `in_steps`.
    DataError
        The range has more than 2**32 steps.
    """
    low, high, step = _range(field)
    steps = in_steps(field, values)
    ends = round(low / step), round(high / step)
    return [CommittedColumn.commit(steps[at : at + ROWS], *ends) for at in range(0, len(steps), ROWS)]


def _range(field: "Field") -> tuple[float, float, float]:
    if field.kind == "bool":
        return 0.0, 1.0, 1.0
    if field.low is None or field.high is None or field.step is None or not field.low < field.high:
        raise SchemaError(
            f"column {field.name!r} ({field.kind}) has no range in steps to be proven",
            hint="give the field low, high and resolution; categories are proven as columns of 0 and 1",
        )
    return float(field.low), float(field.high), float(field.step)
