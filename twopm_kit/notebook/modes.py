"""The three sizes in which a notebook can run, and how a cell picks the value that belongs to one."""

from typing import Final, TypeVar

from twopm_kit.errors import ParameterError

MODES: Final = ("fast", "learn", "full")

T = TypeVar("T")


def by_mode(mode: str, *, fast: T, learn: T, full: T | None = None) -> T:
    """Return the value that belongs to ``mode``.

    Parameters
    ----------
    mode : str
        ``"fast"`` (seconds, for tests), ``"learn"`` (the default, made for reading along) or ``"full"``
        (as large as the method deserves). A mode changes sizes only; it never replaces encryption,
        masking or the chain by something else.
    fast, learn, full : T
        The three values. ``full`` defaults to ``learn``.

    Returns
    -------
    T
        One of the three.

    Raises
    ------
    ParameterError
        When the mode is none of the three.

    Examples
    --------
    >>> by_mode("fast", fast=2, learn=5, full=20)
    2
    """
    validate_mode(mode)
    if mode == "fast":
        return fast
    return full if mode == "full" and full is not None else learn


def validate_mode(mode: object) -> str:
    """Return ``mode`` if it is one of the three, and refuse everything else."""
    if not isinstance(mode, str) or mode not in MODES:
        raise ParameterError(
            f"the mode is {mode!r}, expected one of {', '.join(MODES)}", hint='set MODE = "learn"'
        )
    return mode
