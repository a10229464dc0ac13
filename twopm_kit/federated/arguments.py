"""Checks what people pass to tasks and networks, so that a slip is named where it was made."""

import math
import operator
from collections.abc import Iterable
from typing import Any, SupportsIndex

from twopm_kit.errors import TaskError

__all__ = ["column_names", "number", "whole"]


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
    found = float(value)
    if not (math.isfinite(found) and found > 0):
        raise TaskError(f"{name} is {found}", hint="give a finite number above 0")
    return found


def column_names(what: str, columns: Iterable[str]) -> list[str]:
    """Return a list of distinct column names, or raise TaskError."""
    if isinstance(columns, str):
        raise TaskError(f"{what} is the text {columns!r}", hint=f"pass a list: [{columns!r}]")
    found = list(columns)
    if not found:
        raise TaskError(f"{what} is empty", hint="name at least one numeric column")
    if len(set(found)) != len(found):
        raise TaskError(f"{what} {found} name a column twice", hint="name each column once")
    return found
