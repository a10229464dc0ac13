"""Turns numbers and names from anywhere into short text that is safe to show."""

import math
import unicodedata
from collections.abc import Callable
from html import escape
from typing import Any

import numpy as np
import pandas as pd

from twopm_kit.errors import DataError

__all__ = ["Format", "formatter", "gas", "markup", "plain", "printable", "seconds", "size", "width"]

Format = str | Callable[[Any], str]

# Control characters move the cursor of a terminal, format characters turn text around.
_UNSEEN = {"Cc", "Cf", "Cs", "Zl", "Zp"}


def printable(value: Any) -> str:
    r"""Return ``value`` as text with control and direction characters spelled out, as in ``\x1b``."""
    return "".join(
        character.encode("unicode_escape").decode()
        if unicodedata.category(character) in _UNSEEN
        else character
        for character in str(value)
    )


def markup(value: Any) -> str:
    """Return ``value`` as text for html: printable, and escaped for content and attributes."""
    return escape(printable(value), quote=True)


def width(text: str) -> int:
    """Return how many columns ``text`` takes in a terminal."""
    return sum(
        0 if unicodedata.combining(c) else 2 if unicodedata.east_asian_width(c) in "WF" else 1 for c in text
    )


def _missing(value: Any) -> bool:
    """Tell whether there is nothing to show."""
    if isinstance(value, float | np.floating):
        return math.isnan(value)
    return value is None or value is pd.NA or value is pd.NaT


def _three_digits(value: float) -> str:
    """Return a number of at least 1 with three significant digits and no exponent."""
    return f"{value:.2f}" if value < 9.995 else f"{value:.1f}" if value < 99.95 else f"{value:.0f}"


def size(n_bytes: float) -> str:
    """Return a size, given in bytes, in B, kB, MB or GB (powers of 1,000): ``"1.23 MB"``."""
    value = float(n_bytes)
    if abs(value) < 1000:
        return f"{value:.0f} B"
    for unit in ("kB", "MB", "GB", "TB"):
        value /= 1000
        if abs(value) < 999.5 or unit == "TB":
            break
    return f"{'-' if value < 0 else ''}{_three_digits(abs(value))} {unit}"


def seconds(value: float) -> str:
    """Return a duration, given in seconds: ``"120 µs"``, ``"45.0 ms"``, ``"1.23 s"``, ``"2 min 05 s"``."""
    value = float(value)
    if value < 0 or not math.isfinite(value):
        return f"{value:g} s"
    if value == 0:
        return "0 s"
    if value < 0.001:
        return f"{value * 1e6:.0f} µs" if value >= 1e-6 else "< 1 µs"
    if value < 0.9995:
        return f"{_three_digits(value * 1e3)} ms"
    if value < 59.995:
        return f"{_three_digits(value)} s"
    minutes, rest = divmod(round(value), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min {rest:02d} s"


def gas(value: float) -> str:
    """Return an amount of gas: ``"21,000"``, and from a million on ``"1.23 M"``."""
    amount = int(value)
    if abs(amount) < 999_500:
        return f"{amount:,}"
    return f"{'-' if amount < 0 else ''}{_three_digits(abs(amount) / 1e6)} M"


def plain(value: Any) -> str:
    """Return any value in the way that suits its type; missing values as an em dash."""
    if isinstance(value, bytes | bytearray):
        digits = bytes(value).hex()
        return f"0x{digits}" if len(digits) <= 20 else f"0x{digits[:8]}…{digits[-6:]}"
    if isinstance(value, bool | np.bool_):
        return "yes" if value else "no"
    if isinstance(value, int | np.integer):
        return f"{int(value):,}"
    if _missing(value):
        return "—"
    return _real(float(value)) if isinstance(value, float | np.floating) else printable(value)


def _real(value: float) -> str:
    """Return a float with four significant digits, with an exponent only where it saves reading zeros."""
    if value == 0 or 1e-4 <= abs(value) < 1e6:
        text = f"{value:,.{max(0, 3 - math.floor(math.log10(abs(value))))}f}" if value else "0"
        return text.rstrip("0").rstrip(".") if "." in text else text
    return f"{value:.3e}" if math.isfinite(value) else str(value)


_NAMED: dict[str, Callable[[Any], str]] = {
    "bytes": size,
    "seconds": seconds,
    "gas": gas,
    "percent": lambda value: f"{100 * float(value):.1f} %",
    "plain": plain,
}


def formatter(form: Format) -> Callable[[Any], str]:
    """Return the function behind a format.

    Parameters
    ----------
    form : str or callable
        ``"bytes"``, ``"seconds"``, ``"gas"``, ``"percent"``, ``"plain"``, a format specification such as
        ``".3f"``, or a function from value to text.

    Raises
    ------
    DataError
        When the returned function meets a value that does not suit the format.
    """

    def apply(value: Any) -> str:
        if _missing(value):
            return "—"
        try:
            chosen = _NAMED.get(form) if isinstance(form, str) else form
            return printable(format(value, str(form)) if chosen is None else chosen(value))
        except (TypeError, ValueError) as error:
            raise DataError(
                f"format {form!r} does not suit the value {printable(value)[:60]!r}: {error}",
                hint=f"use one of {', '.join(_NAMED)}, a format specification such as '.3f', or a function",
            ) from error

    return apply
