"""Encrypted tables to learn from: checked against each other, and their sums opened as finely as is safe."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from twopm_kit.errors import CiphertextError, SchemaError
from twopm_kit.fhe.engine import Engine
from twopm_kit.fhe.frames import EncryptedFrame, same_key
from twopm_kit.fhe.models.inputs import Array, names_of, real_numbers
from twopm_kit.fhe.models.moments import (
    Opener,
    check_opener,
    check_rows,
    products,
    squares,
    together,
    totals,
)

__all__ = ["Encrypted", "TrainingData", "clear_table", "training_data", "training_rows"]

#: One frame, or several under one key, such as one of each hospital.
Encrypted = EncryptedFrame | Sequence[EncryptedFrame]


@dataclass(frozen=True, repr=False)
class TrainingData:
    """Rows and targets of one or several owners, under one key and with the same columns.

    Parameters
    ----------
    rows, targets : tuple of EncryptedFrame
        One of each for every owner, with as many rows.
    """

    rows: tuple[EncryptedFrame, ...]
    targets: tuple[EncryptedFrame, ...]

    @property
    def engine(self) -> Engine:
        """Parameters and arithmetic."""
        return self.rows[0].engine

    @property
    def n_rows(self) -> int:
        """Rows of all owners."""
        return sum(frame.n_rows for frame in self.rows)

    @property
    def columns(self) -> tuple[str, ...] | None:
        """Names, where the data were a table with names."""
        return names_of(self.rows[0])

    @property
    def width(self) -> int:
        """Number of features, d."""
        return self.rows[0].shape[1]

    @property
    def n_targets(self) -> int:
        """Columns of the targets, k."""
        return self.targets[0].shape[1]

    def row_totals(self, opener: Opener) -> Array:
        """Sum of each feature, opened; shape (d,)."""
        return np.asarray(together(map(totals, self.rows)).open(opener)[0])

    def target_totals(self, opener: Opener) -> Array:
        """Sum of each target, opened; shape (k,)."""
        return np.asarray(together(map(totals, self.targets)).open(opener)[0])

    def row_sizes(self, opener: Opener) -> Array:
        """Root mean square of each feature, opened; shape (d,)."""
        return self._rms(self.rows, opener)

    def target_sizes(self, opener: Opener) -> Array:
        """Root mean square of each target, opened; shape (k,)."""
        return self._rms(self.targets, opener)

    def row_products(self, opener: Opener, rms: Array) -> Array:
        """X'X, opened; shape (d, d). ``rms``: what `row_sizes` gave."""
        noise = self._noise(self.rows, rms)
        finer = np.hypot(noise[:, None] * rms[None], noise[None] * rms[:, None])
        np.fill_diagonal(finer, 2.0 * noise * rms)  # the noise of both factors is the same one
        return together(map(products, self.rows)).with_noise(finer * self._root).open(opener)

    def cross_products(self, opener: Opener, rms: Array, target_rms: Array) -> Array:
        """X'Y, opened; shape (d, k)."""
        moments = together(map(products, self.rows, self.targets))
        own, other = self._noise(self.rows, rms), self._noise(self.targets, target_rms)
        finer = np.hypot(own[:, None] * target_rms[None], other[None] * rms[:, None])
        return moments.with_noise(finer * self._root).open(opener)

    @property
    def _root(self) -> float:
        return math.sqrt(self.n_rows / self.engine.slots)

    @staticmethod
    def _noise(frames: tuple[EncryptedFrame, ...], rms: Array) -> Array:
        """Noise of a coefficient of each column over its scale: the worst of the owners."""
        each = [[head.noise / head.scale for head in frame.heads] for frame in frames]
        return np.asarray(np.max(np.asarray(each), axis=0).reshape(rms.shape))

    def _rms(self, frames: tuple[EncryptedFrame, ...], opener: Opener) -> Array:
        means = together(map(squares, frames)).open(opener)[0] / self.n_rows
        return np.asarray(np.sqrt(np.maximum(means, 0.0)))


def training_data(enc_X: Any, enc_y: Any, opener: Any) -> TrainingData:  # noqa: N803
    """Check frames of rows and of targets before anything is computed.

    Raises
    ------
    SchemaError
        Not encrypted frames, different columns, or not as many rows.
    CiphertextError
        Not in columns, packed two rows a slot, under different profiles, or with missing values.
    WrongKey
        Under different keys, or not the opener's.
    """
    rows, targets = _frames(enc_X, "enc_X"), _frames(enc_y, "enc_y")
    found = [len(frame) for frame in rows], [len(frame) for frame in targets]
    if found[0] != found[1]:
        raise SchemaError(
            f"enc_X has frames of {found[0]} rows, enc_y of {found[1]}",
            hint="pass the same rows in the same order, one enc_y for each enc_X",
        )
    _agree(opener, enc_X=rows, enc_y=targets)
    return TrainingData(rows, targets)


def training_rows(enc_X: Any, opener: Any) -> tuple[EncryptedFrame, ...]:  # noqa: N803
    """Check frames of rows that need no targets; raises as `training_data` does."""
    rows = _frames(enc_X, "enc_X")
    _agree(opener, enc_X=rows)
    return rows


def _agree(opener: Any, **tables: tuple[EncryptedFrame, ...]) -> None:
    """Refuse frames that are not parts of the same tables, under the opener's key."""
    every = [frame for frames in tables.values() for frame in frames]
    first = every[0]
    for frame in every:
        same_key(first.fingerprint, frame.fingerprint, "training")
        if frame.engine is not first.engine:
            raise CiphertextError(
                f"frames under profiles {first.profile!r} and {frame.profile!r} were passed",
                hint="encrypt all with one key holder",
            )
        check_rows(frame)
        frame.complete("training")
    for what, frames in tables.items():
        if any(frame.columns != frames[0].columns for frame in frames):
            raise SchemaError(
                f"the frames of {what} have different columns",
                hint="give each the same columns in the same order: enc[names]",
            )
    check_opener(opener, first)


def _frames(passed: Any, what: str) -> tuple[EncryptedFrame, ...]:
    frames = (passed,) if isinstance(passed, EncryptedFrame) else passed
    if not isinstance(frames, (list, tuple)) or not frames:
        raise SchemaError(
            f"{what} is a {type(passed).__name__}; expected an EncryptedFrame, or a list of them",
            hint="encrypt it first: holder.encrypt(data); regressions have fit_clear(X, y) for data in clear",
        )
    for frame in frames:
        if not isinstance(frame, EncryptedFrame):
            raise SchemaError(
                f"{what} holds a {type(frame).__name__}; expected EncryptedFrames",
                hint="encrypt it first: holder.encrypt(data)",
            )
    return tuple(frames)


def clear_table(data: Any, targets: Any) -> tuple[Array, Array, tuple[str, ...] | None]:
    """Rows (n, d), targets (n, k) and column names of data in clear.

    Raises
    ------
    SchemaError
        Not numbers, not finite, or not as many rows.
    """
    names = tuple(map(str, data.columns)) if isinstance(data, pd.DataFrame) else None
    rows, wanted = real_numbers(data, "X"), real_numbers(targets, "y")
    wanted = wanted.reshape(-1, 1) if wanted.ndim == 1 else wanted
    if rows.ndim != 2 or wanted.ndim != 2 or len(rows) != len(wanted):
        raise SchemaError(
            f"X has shape {rows.shape} and y {np.shape(targets)}; expected (n, d) and (n,) or (n, k)",
            hint="pass as many targets as rows",
        )
    return rows, wanted, names
