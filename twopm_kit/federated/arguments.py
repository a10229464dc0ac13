"""Checks what people pass to tasks and networks, so that a slip is named where it was made."""

import math
import operator
from collections.abc import Hashable, Iterable
from typing import Any, SupportsIndex

import numpy as np

from twopm_kit.errors import TaskError

__all__ = ["column_names", "number", "truth", "whole"]


def whole(name: str, value: Any, least: int = 1) -> int:
    """Return a whole number (numpy's too) of at least ``least``, or raise TaskError."""
    if isinstance(value, SupportsIndex) and not isinstance(value, bool):
        count = operator.index(value)
        if count >= least:
            return count
    raise TaskError(f"{name} is {value!r}", hint=f"give a whole number from {least}")


def number(name: str, value: Any) -> float:
    """Return a finite number above zero, or raise TaskError."""
    if isinstance(value, str | bool) or not hasattr(value, "__float__"):
        raise TaskError(f"{name} is {value!r}", hint="give a number above 0")
    try:
        found = float(value)
    except (OverflowError, TypeError, ValueError):  # a huge whole number, an array of several numbers
        raise TaskError(f"{name} is no single number of float64", hint="give a number above 0") from None
    if not (math.isfinite(found) and found > 0):
        raise TaskError(f"{name} is {found}", hint="give a finite number above 0")
    return found


def truth(name: str, value: Any) -> bool:
    """Return True or False (numpy's too), or raise TaskError: a text such as "no" would count as True."""
    if isinstance(value, bool | np.bool_):
        return bool(value)
    raise TaskError(f"{name} is {value!r}", hint="give True or False")


def column_names(what: str, columns: Iterable[str]) -> list[str]:
    """Return a list of distinct column names, or raise TaskError."""
    if isinstance(columns, str):
        raise TaskError(f"{what} is the text {columns!r}", hint=f"pass a list: [{columns!r}]")
    if not isinstance(columns, Iterable):
        raise TaskError(f"{what} is {columns!r}", hint="pass a list of column names")
    found = list(columns)
    if not found:
        raise TaskError(f"{what} is empty", hint="name at least one numeric column")
    if not all(isinstance(name, Hashable) for name in found):
        raise TaskError(f"{what} is {found}, names were expected", hint="pass one flat list of names")
    if len(set(found)) != len(found):
        raise TaskError(f"{what} {found} name a column twice", hint="name each column once")
    return found
