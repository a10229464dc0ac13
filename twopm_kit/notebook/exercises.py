"""Gives kind feedback on an exercise, and never punishes an answer that has not been tried yet."""

import sys
from collections.abc import Callable
from html import escape
from typing import Any, Final

from twopm_kit.errors import NotebookError
from twopm_kit.notebook._show import note, show

_ABSENT: Final = object()


def check(
    name: str,
    attempt: Any,
    expected: Any = _ABSENT,
    *,
    tolerance: float = 0.0,
    predicate: Callable[[Any], object] | None = None,
    hint: str = "",
) -> bool | None:
    """Compare a learner's answer with what is expected and show feedback.

    Parameters
    ----------
    name : str
        What the exercise is called in the feedback.
    attempt : object
        The learner's answer. ``None`` and ``...`` mean that it has not been tried yet.
    expected : object, optional
        The value that the answer must equal. Numbers, and sequences or arrays of numbers, may differ by
        ``tolerance``. It is never shown.
    tolerance : float, optional
        The largest absolute difference that still counts as equal.
    predicate : callable, optional
        Instead of ``expected``: a function of the answer that is true when the answer is right.
    hint : str, optional
        What to try next, shown with a wrong answer.

    Returns
    -------
    bool or None
        True when right, False when not, None when not tried yet. End the line with ``;`` to keep the
        value itself out of the notebook.

    Raises
    ------
    NotebookError
        When the exercise itself is wrong: neither or both of ``expected`` and ``predicate``, or a negative
        tolerance. Never because of the answer.

    Examples
    --------
    >>> check("a sum", 4, 2 + 2)
    ✓ a sum: right.
    True
    """
    if (expected is _ABSENT) == (predicate is None):
        raise NotebookError(
            f"the exercise {name!r} has neither or both of an expected value and a predicate",
            hint="pass exactly one of expected and predicate=",
        )
    if tolerance < 0:
        raise NotebookError(
            f"the exercise {name!r} has the tolerance {tolerance}, expected 0 or more",
            hint="pass the largest difference that still counts as equal",
        )
    if attempt is None or attempt is ...:
        _say("○", "#495057", name, "not tried yet. Replace the … with your answer and run the cell again.")
        return None
    try:
        right, why = _judge(attempt, expected, tolerance, predicate)
    except Exception as error:  # noqa: BLE001 - an answer can be any object and fail in any way
        right, why = False, f"the answer could not be examined ({type(error).__name__}: {error})."
    if right:
        _say("✓", "#2b8a3e", name, "right.")
    else:
        _say("✗", "#a61e4d", name, f"not yet: {why}" + (f" {hint}" if hint else ""))
    return right


def _judge(
    attempt: Any, expected: Any, tolerance: float, predicate: Callable[[Any], object] | None
) -> tuple[bool, str]:
    """Return whether the answer is right, and if not, in what way."""
    if predicate is not None:
        return bool(predicate(attempt)), "the answer does not do what was asked."
    if _is_number(expected):
        if not _is_number(attempt):
            return False, f"the answer is of type {type(attempt).__name__}, a number was asked for."
        return bool(abs(attempt - expected) <= tolerance), _direction(attempt, expected)
    if _is_array(expected) or (isinstance(expected, list | tuple) and all(map(_is_number, expected))):
        return _judge_array(attempt, expected, tolerance)
    if type(attempt) is not type(expected):
        wanted = type(expected).__name__
        return False, f"the answer is of type {type(attempt).__name__}, the type {wanted} was asked for."
    return bool(attempt == expected), "the type is right, the value is another one."


def _judge_array(attempt: Any, expected: Any, tolerance: float) -> tuple[bool, str]:
    import numpy as np

    found, wanted = np.asarray(attempt), np.asarray(expected)
    if found.shape != wanted.shape:
        return False, f"the answer has the shape {found.shape}, the shape {wanted.shape} was asked for."
    if not np.issubdtype(wanted.dtype, np.number):
        wrong = int((found != wanted).sum())
    else:
        wrong = int((~(np.abs(found - wanted) <= tolerance)).sum())
    return wrong == 0, f"{wrong} of {wanted.size} values are different."


def _is_number(value: Any) -> bool:
    if isinstance(value, bool):
        return False
    numpy_scalar = type(value).__module__ == "numpy" and getattr(value, "shape", None) == ()
    return isinstance(value, int | float) or (numpy_scalar and isinstance(value.item(), int | float))


def _is_array(value: Any) -> bool:
    """Tell whether numpy can compare the value; a library that is not loaded has no value here."""
    known = [(sys.modules.get("numpy"), "ndarray"), (sys.modules.get("torch"), "Tensor")]
    known += [(sys.modules.get("pandas"), name) for name in ("Series", "DataFrame", "Index")]
    return any(module is not None and isinstance(value, getattr(module, name)) for module, name in known)


def _direction(attempt: Any, expected: Any) -> str:
    if attempt != attempt:  # true for NaN alone, whatever the type of number
        return "the answer is not a number (NaN)."
    return f"{attempt} is too {'large' if attempt > expected else 'small'}."


def _say(sign: str, colour: str, name: str, message: str) -> None:
    body = f"<strong>{escape(name)}</strong>: {escape(message)}"
    show(f"{sign} {name}: {message}", note(sign, colour, body))
