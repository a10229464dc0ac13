"""``Field``: what one column of a dataset may hold, checked when it is written down."""

import difflib
import math
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass
from decimal import Decimal
from numbers import Real
from typing import Any, Final

import numpy as np

from twopm_kit.errors import SchemaError

__all__ = [
    "EXACT",
    "KINDS",
    "MAX_CATEGORIES",
    "MAX_NAME",
    "STANDARDS",
    "Field",
    "check_categories",
    "is_label",
    "is_number",
    "meant",
    "nearest",
    "number_text",
]

KINDS: Final = ("float", "int", "bool", "category")
STANDARDS: Final = ("none", "zscore", "minmax", "robust", "log")
MAX_NAME: Final = 64
MAX_CATEGORIES: Final = 4_096
MAX_UNIT: Final = 32
MAX_DESCRIPTION: Final = 500
#: Whole numbers up to here are float64 numbers; beyond it float64 skips some.
EXACT: Final = 2**53
#: What other libraries call the kinds.
_ELSEWHERE: Final = {
    "integer": "int",
    "int64": "int",
    "number": "float",
    "numeric": "float",
    "double": "float",
    "float64": "float",
    "boolean": "bool",
    "str": "category",
    "string": "category",
    "text": "category",
    "categorical": "category",
    "object": "category",
}


def number_text(value: float) -> str:
    """Write a number as a person does: no ``.0`` behind whole ones."""
    if value == int(value) and abs(value) < 1e15:
        return str(int(value))
    return format(Decimal(repr(value)), "f") if 1e-9 <= abs(value) < 1e15 else repr(value)


def is_number(value: Any) -> bool:
    """Tell whether a setting is a finite real number of float64's range (a truth value is not)."""
    if not isinstance(value, Real) or value is True or value is False:
        return False
    try:
        return math.isfinite(value)
    except OverflowError:  # a whole number beyond float64
        return False


def nearest(name: object, known: Iterable[str]) -> str:
    """Return the known name that a mistyped one looks most like, whatever its case; "" when none does."""
    folded = {one.casefold(): one for one in reversed(list(known))}
    near = difflib.get_close_matches(str(name)[:80].strip().casefold(), folded, n=1, cutoff=0.6)
    return folded[near[0]] if near else ""


def meant(name: object, known: Iterable[str]) -> str:
    """Return the question that a mistyped name calls for, ``"did you mean 'age'? "``, or ""."""
    near = nearest(name, known)
    return f"did you mean {near!r}? " if near else ""


def _called(name: Any, longest: int = 80) -> str:
    """Write what should be a text for a message."""
    text = isinstance(name, str)
    return _shown(name, longest) if text else f"a {type(name).__name__} ({str(name)[:40]})"


def _shown(value: Any, longest: int = 60) -> str:
    """Write a setting for a message: plain values as they are, shortened, of others the type."""
    plain = value is None or isinstance(value, str | int | float)
    return (
        repr(value[:longest] if isinstance(value, str) else value)[:80]
        if plain
        else f"a {type(value).__name__}"
    )


def is_label(text: Any, longest: int = MAX_NAME) -> bool:
    """Tell whether this is a name or category: printable, 1 to 64 characters, not spaced at its ends, NFC.

    Two texts that look the same must be the same: what cannot be seen is refused, and accents are composed
    (Unicode Normalization Form C).
    """
    return (
        isinstance(text, str)
        and 0 < len(text) <= longest
        and text.isprintable()
        and text == text.strip()
        and unicodedata.is_normalized("NFC", text)
    )


def check_categories(name: str, categories: tuple[str, ...]) -> None:
    """Refuse categories that are too many, repeated, or not texts of 1 to 64 printable characters.

    Raises
    ------
    SchemaError
        Names the column and the first category that is wrong.
    """
    if len(categories) > MAX_CATEGORIES:
        raise SchemaError(
            f"column {name!r} has {len(categories):,} categories; the limit is {MAX_CATEGORIES:,}",
            hint="leave the column out, or group its rare values",
        )
    for category in categories:
        if not is_label(category):
            raise SchemaError(
                f"column {name!r} has the category {_called(category, 40)}; expected 1 to {MAX_NAME} "
                "printable characters without spaces around them",
                hint="write each category as plain text",
            )
    if len(set(categories)) != len(categories):
        twice = next(c for i, c in enumerate(categories) if c in categories[:i])
        raise SchemaError(f"column {name!r} has the category {twice!r} twice", hint="list each category once")


@dataclass(frozen=True)
class Field:
    """What one column may hold.

    Parameters
    ----------
    name : str
        Name of the column, 1 to 64 printable characters.
    kind : {"float", "int", "bool", "category"}
        A number; a whole number of 64 bits; true or false; a text out of some.
    low, high : float, optional
        Smallest and largest value, both allowed. Numbers only; of an int whole, at most 2^53 in size.
    categories : tuple of str
        Of a category: the allowed texts, in the order that codes and shares have. They are public. Empty: any
        text of 1 to 64 printable characters.
    nullable : bool
        Whether a value may be missing.
    unit : str
        Free text, such as "mm", at most 32 characters.
    resolution : float, optional
        Smallest step that counts, in the column's unit: what proofs round to. Without it, 1 for int and bool,
        and a float column cannot be proved.
    standard : {"none", "zscore", "minmax", "robust", "log"}
        How numbers are brought to one scale (see :class:`~twopm_kit.vsies.standard.Standard`). "minmax" needs
        low and high, "log" needs ``low >= 0``.
    description : str
        What the column means, at most 500 characters.

    Raises
    ------
    SchemaError
        An entry is not of its type, is out of its limits, or does not suit the kind.
    """

    name: str
    kind: str
    low: float | None = None
    high: float | None = None
    categories: tuple[str, ...] = ()
    nullable: bool = False
    unit: str = ""
    resolution: float | None = None
    standard: str = "none"
    description: str = ""

    def __post_init__(self) -> None:
        if not is_label(self.name):
            raise SchemaError(
                f"a column is called {_called(self.name)}; expected 1 to {MAX_NAME} printable characters "
                "without spaces around them",
                hint="rename the column",
            )
        self._one_of("kind", KINDS)
        self._one_of("standard", STANDARDS)
        self._numbers()
        if not isinstance(self.nullable, bool | np.bool_):
            raise self._wrong("nullable", "True or False")
        object.__setattr__(self, "nullable", bool(self.nullable))
        for key, longest in (("unit", MAX_UNIT), ("description", MAX_DESCRIPTION)):
            text = getattr(self, key)
            if text != "" and not is_label(text, longest):
                raise self._wrong(key, f"at most {longest} printable characters without spaces around them")
        # what frame["town"].unique() gives is an array, of numpy or of pandas
        listed = self.categories.tolist() if hasattr(self.categories, "tolist") else self.categories
        if not isinstance(listed, tuple | list):
            raise self._wrong("categories", "a tuple of texts, in the order that they are to have")
        object.__setattr__(self, "categories", tuple(listed))
        if self.categories and self.kind != "category":
            raise self._wrong("categories", f'nothing, as the kind is "{self.kind}"')
        check_categories(self.name, self.categories)

    @property
    def is_number(self) -> bool:
        """Whether the kind is "float" or "int"."""
        return self.kind in ("float", "int")

    @property
    def step(self) -> float | None:
        """Smallest step that counts: the resolution, or 1 for int and bool, else None."""
        if self.resolution is None and self.kind in ("int", "bool"):
            return 1.0
        return self.resolution

    @property
    def allowed(self) -> str:
        """What a value may be, in words."""
        unit = f" {self.unit}" if self.unit else ""
        if self.low is not None and self.high is not None:
            return f"between {number_text(self.low)} and {number_text(self.high)}{unit}"
        if self.low is not None:
            return f"at least {number_text(self.low)}{unit}"
        if self.high is not None:
            return f"at most {number_text(self.high)}{unit}"
        if self.categories:
            more = f", … ({len(self.categories)} in all)" if len(self.categories) > 12 else ""
            return f"one of: {', '.join(self.categories[:12])}{more}"
        words = {"category": f"text of 1 to {MAX_NAME} printable characters", "bool": "true or false"}
        return words.get(self.kind, "any")

    def _one_of(self, key: str, known: tuple[str, ...]) -> None:
        value = getattr(self, key)
        if not isinstance(value, str) or value not in known:
            name = value.__name__ if isinstance(value, type) else str(value)
            other = _ELSEWHERE.get(name.lower(), "") if key == "kind" else ""
            question = f"did you mean {other!r}? " if other else meant(name, known)
            raise self._wrong(key, "one of: " + ", ".join(known), question)

    def _numbers(self) -> None:
        """Check low, high, resolution and standard, and keep numbers as floats."""
        for key in ("low", "high", "resolution"):
            value = getattr(self, key)
            if value is None:
                continue
            if not is_number(value) or float(value) != value:
                raise self._wrong(key, "a finite number")
            # + 0.0: there is one zero, so that there is one canonical text
            object.__setattr__(self, key, float(value) + 0.0)
            if key != "resolution" and not self.is_number:
                raise self._wrong(key, f'nothing, as the kind is "{self.kind}"')
            if key != "resolution" and self.kind == "int" and (value != int(value) or abs(value) > EXACT):
                raise self._wrong(key, "a whole number of at most 2^53")
        if self.low is not None and self.high is not None and self.low > self.high:
            raise self._wrong("low", f"at most high, which is {number_text(self.high)}")
        if self.resolution is not None:
            if not self.is_number or self.resolution <= 0:
                raise self._wrong("resolution", "above 0, and only for float and int")
            if self.kind == "int" and self.resolution != int(self.resolution):
                raise self._wrong("resolution", "a whole number, as the kind is int")
        if self.standard != "none" and not self.is_number:
            raise self._wrong("standard", f'"none", as the kind is "{self.kind}"')
        if self.standard == "minmax" and (self.low is None or self.high is None):
            raise self._wrong("standard", 'another one, or low and high: "minmax" maps them to 0 and 1')
        if self.standard == "log" and not (self.low is not None and self.low >= 0):
            raise self._wrong("standard", 'another one, or low of at least 0: "log" takes log(1 + value)')

    def _wrong(self, key: str, expected: str, question: str = "") -> SchemaError:
        return SchemaError(
            f"column {self.name!r} has {key}={_shown(getattr(self, key))}; expected {expected}",
            hint=f"{question}change {key} of the field {self.name!r}",
        )
