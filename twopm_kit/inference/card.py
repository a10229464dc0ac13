"""``ModelCard``: what everybody may know of a model: its features, and how to standardise them."""

import json
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any, Final, TypeAlias

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from twopm_kit.errors import InferenceError, SchemaError
from twopm_kit.untrusted import load_json

__all__ = ["MAX_CARD", "ModelCard", "Scaler"]

Scaler: TypeAlias = tuple[ArrayLike, ArrayLike]

#: Largest card in bytes; the desk's own limit.
MAX_CARD: Final = 32_768
MAX_FEATURES: Final = 10_000
#: Ciphertext columns have names of at most 200 characters, and a standardised column's name is 3 longer.
MAX_NAME: Final = 190
_FORMAT: Final = "2PM logistic model card 1"
_FIELDS: Final = {"format", "features", "mean", "std"}


@dataclass(frozen=True, repr=False)
class ModelCard:
    """Features of a model and their public means and standard deviations. Holds no weight.

    Attributes
    ----------
    features : tuple of str
        Names of the d columns that the model takes, in its order.
    mean, std : tuple of float, or None
        What each column is standardised with: ``(x - mean) / std``. None: the model takes values as they are.
    """

    features: tuple[str, ...]
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None

    @classmethod
    def of(cls, features: Sequence[str], scaler: Scaler | None = None) -> "ModelCard":
        """Make a card, and check it.

        Parameters
        ----------
        features : sequence of str
            d different names.
        scaler : (mean, std), optional
            Two array-likes of shape (d,). A Series or a mapping is read by the features' names.

        Raises
        ------
        InferenceError
            Names are missing or repeated, or the scaler does not fit them.
        """
        names = () if isinstance(features, str) else tuple(features)
        if not 0 < len(names) <= MAX_FEATURES or not all(isinstance(n, str) for n in names):
            raise InferenceError(
                f"features is {type(features).__name__} of {len(names)}; expected 1 to {MAX_FEATURES} names",
                hint="pass features=[...] with the names of the training columns, in their order",
            )
        counts = Counter(names)
        wrong = [n for n in names if not 0 < len(n) <= MAX_NAME or counts[n] > 1]
        if wrong:
            raise InferenceError(
                f"feature {wrong[0][:40]!r} is repeated, empty, or longer than {MAX_NAME} characters",
                hint="name each training column once",
            )
        if scaler is None:
            return cls(names)
        if not isinstance(scaler, tuple | list) or len(scaler) != 2:
            raise InferenceError(
                f"scaler is a {type(scaler).__name__}; expected two things, means and standard deviations",
                hint="pass scaler=(mean, std)",
            )
        mean, std = (_numbers(part, names, what) for part, what in zip(scaler, ("mean", "std"), strict=True))
        if not all(value > 0 for value in std):
            flat = names[next(i for i, value in enumerate(std) if not value > 0)]
            raise InferenceError(
                f"the standard deviation of {flat!r} is not above 0",
                hint="leave a constant column out of the model",
            )
        return cls(names, mean, std)

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of the columns that `prepare` gives, and that an encrypted frame must have.

        A standardised column is called ``z(name)``, so that raw and standardised values cannot be mixed up.
        """
        return self.features if self.mean is None else tuple(f"z({name})" for name in self.features)

    def matrix(self, frame: pd.DataFrame) -> NDArray[np.float64]:
        """Check a frame and return its values in the model's order, shape (n, d).

        Raises
        ------
        SchemaError
            Not a frame, no rows, a column missing or too many, not numeric, or a value that is not finite.
            Names column and row, never a value.
        """
        if not isinstance(frame, pd.DataFrame):
            raise SchemaError(
                f"a {type(frame).__name__} was passed; expected a DataFrame of {len(self.features)} columns",
                hint="pass frame[predictor.features]",
            )
        same_columns([str(c) for c in frame.columns], self.features)
        if len(frame) == 0:
            raise SchemaError("the frame has no rows", hint="pass at least one row")
        values = np.empty((len(frame), len(self.features)))
        for j, name in enumerate(self.features):
            values[:, j] = _column(frame[name], name)
        return values

    def standardise(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return values of shape (n, d) on the scale that the weights are for."""
        if self.mean is None or self.std is None:
            return values
        return np.asarray((values - np.array(self.mean)) / np.array(self.std))

    def prepare(self, frame: pd.DataFrame) -> pd.DataFrame:
        """Return the frame that a client encrypts: checked, in order, standardised, under `columns`."""
        values = self.standardise(self.matrix(frame))
        return pd.DataFrame(values, columns=list(self.columns), index=frame.index)

    def to_bytes(self) -> bytes:
        """Return the card as canonical JSON."""
        body = {"format": _FORMAT, "features": self.features, "mean": self.mean, "std": self.std}
        text = json.dumps(body, sort_keys=True, separators=(",", ":"), ensure_ascii=True).encode()
        if len(text) > MAX_CARD:
            raise InferenceError(
                f"the model's card has {len(text)} bytes, the limit is {MAX_CARD}",
                hint="use shorter feature names, or fold the scaler into the weights",
            )
        return text

    @classmethod
    def from_bytes(cls, content: bytes) -> "ModelCard":
        """Read a card from anybody.

        Raises
        ------
        InferenceError
            Too long, or not the canonical form of a card.
        """
        card = _parse(content) if len(content) <= MAX_CARD else None
        if card is None or card.to_bytes() != content:
            raise InferenceError(
                f"these {len(content)} bytes are not a model card",
                hint="take the card from the desk that lists the model",
            )
        return card

    def __repr__(self) -> str:
        scaled = "standardised" if self.mean is not None else "as they are"
        return f"<ModelCard: {len(self.features)} features, {scaled}>"

    def _repr_html_(self) -> str:
        table = pd.DataFrame({"feature": self.features})
        if self.mean is not None and self.std is not None:
            table = table.assign(mean=self.mean, std=self.std)
        return (
            f"<p><strong>{escape(repr(self))}</strong></p>{table.to_html(border=0, index=False, max_rows=12)}"
        )


def same_columns(found: Sequence[str], expected: Sequence[str], *, hint: str = "") -> None:
    """Refuse columns that are not exactly the expected ones, in any order.

    Raises
    ------
    SchemaError
        Names what is missing and what is too many.
    """
    missing = [name for name in expected if name not in set(found)]
    extra = [name for name in found if name not in set(expected)]
    if missing or extra or len(found) != len(expected):
        parts = [f"{len(found)} columns were passed, the model takes {len(expected)}"]
        parts += [f"missing: {_some(missing)}"] if missing else []
        parts += [f"not of the model: {_some(extra)}"] if extra else []
        parts += ["some are repeated"] if not missing and not extra else []
        raise SchemaError(
            "; ".join(parts), hint=hint or "pass exactly the model's columns: frame[predictor.features]"
        )


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - 5} more" if len(names) > 5 else ""
    return ", ".join(repr(name[:60]) for name in names[:5]) + more


def _column(column: "pd.Series[Any]", name: str) -> NDArray[np.float64]:
    kind = column.dtype
    if not pd.api.types.is_numeric_dtype(kind) or pd.api.types.is_complex_dtype(kind):
        raise SchemaError(f"column {name!r} has dtype {kind}; expected numbers", hint="convert it to numbers")
    values = column.to_numpy(dtype=np.float64, na_value=np.nan)
    wrong = ~np.isfinite(values)
    if wrong.any():
        row = int(np.argmax(wrong))
        word = "missing (NaN)" if np.isnan(values[row]) else "infinite"
        raise SchemaError(
            f"column {name!r}, row {row}: the value is {word}; {int(wrong.sum())} such values in the column",
            hint="fill or drop these rows before asking",
        )
    return np.asarray(values)


def _numbers(part: Any, names: tuple[str, ...], what: str) -> tuple[float, ...]:
    if isinstance(part, pd.Series | Mapping):
        missing = [name for name in names if name not in part]
        if missing:
            raise InferenceError(
                f"the scaler's {what} has no {_some(missing)}", hint="give one value for each feature"
            )
        part = [part[name] for name in names]
    try:
        values = np.asarray(part, dtype=np.float64)
    except (TypeError, ValueError):
        values = np.array([])
    if values.shape != (len(names),) or not np.isfinite(values).all():
        raise InferenceError(
            f"the scaler's {what} has shape {values.shape}; expected {len(names)} finite numbers",
            hint="pass scaler=(mean, std)",
        )
    return tuple(values.tolist())


def _parse(content: bytes) -> ModelCard | None:
    try:
        raw = load_json(content)
        if not isinstance(raw, dict) or set(raw) != _FIELDS or raw["format"] != _FORMAT:
            return None
        pair = (raw["mean"], raw["std"])
        for part in (p for p in pair if p is not None):
            if not isinstance(part, list) or not all(type(v) is float and math.isfinite(v) for v in part):
                return None
        return ModelCard.of(raw["features"], None if pair == (None, None) else pair)
    except (ValueError, InferenceError, TypeError):
        return None
