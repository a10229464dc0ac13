"""Encrypted tables to learn from: checked against each other, and their sums opened as finely as is safe."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import reduce
from operator import add
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from twopm_kit.errors import CiphertextError, SchemaError
from twopm_kit.fhe.container import ColumnHeader
from twopm_kit.fhe.engine import Engine
from twopm_kit.fhe.frames import EncryptedFrame, same_key, sums_frame
from twopm_kit.fhe.keys import KeyHolder
from twopm_kit.fhe.models.linear_form import real_numbers
from twopm_kit.fhe.models.moments import Moments, Opener, products, squares
from twopm_kit.fhe.sums import slot_sums

__all__ = [
    "Encrypted",
    "TrainingData",
    "check_opener",
    "clear_table",
    "needs_small",
    "open_row",
    "training_data",
]

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
        return tuple(self.rows[0].columns) if self.rows[0].source == "frame" else None

    @property
    def width(self) -> int:
        """Number of features, d."""
        return self.rows[0].shape[1]

    @property
    def n_targets(self) -> int:
        """Columns of the targets, k."""
        return self.targets[0].shape[1]

    def row_totals(self, opener: Opener) -> npt.NDArray[np.float64]:
        """Sum of each feature, opened; shape (d,)."""
        return self._opened(_totals, self.rows, opener)

    def target_totals(self, opener: Opener) -> npt.NDArray[np.float64]:
        """Sum of each target, opened; shape (k,)."""
        return self._opened(_totals, self.targets, opener)

    def row_sizes(self, opener: Opener) -> npt.NDArray[np.float64]:
        """Root mean square of each feature, opened; shape (d,)."""
        return self._rms(self.rows, opener)

    def target_sizes(self, opener: Opener) -> npt.NDArray[np.float64]:
        """Root mean square of each target, opened; shape (k,)."""
        return self._rms(self.targets, opener)

    def row_products(self, opener: Opener, rms: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """X'X, opened; shape (d, d). ``rms``: what `row_sizes` gave."""
        moments = reduce(add, map(products, self.rows))
        upper = np.triu_indices(self.width)
        noise = self._noise(self.rows, rms)
        finer = np.hypot(noise[:, None] * rms[None], noise[None] * rms[:, None])
        np.fill_diagonal(finer, 2.0 * noise * rms)  # the noise of both factors is the same one
        return _finer(moments, finer[upper] * self._root).open(opener)

    def cross_products(
        self, opener: Opener, rms: npt.NDArray[np.float64], target_rms: npt.NDArray[np.float64]
    ) -> npt.NDArray[np.float64]:
        """X'Y, opened; shape (d, k)."""
        moments = reduce(add, (products(x, y) for x, y in zip(self.rows, self.targets, strict=True)))
        own, other = self._noise(self.rows, rms), self._noise(self.targets, target_rms)
        finer = np.hypot(own[:, None] * target_rms[None], other[None] * rms[:, None])
        return _finer(moments, finer.ravel() * self._root).open(opener)

    @property
    def _root(self) -> float:
        return math.sqrt(self.n_rows / self.engine.slots)

    @staticmethod
    def _noise(frames: tuple[EncryptedFrame, ...], rms: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """Noise of a coefficient of each column over its scale: the worst of the owners."""
        each = [[head.noise / head.scale for head in frame.heads] for frame in frames]
        return np.asarray(np.max(np.asarray(each), axis=0).reshape(rms.shape))

    @staticmethod
    def _opened(
        sums: Callable[[EncryptedFrame], Moments], frames: tuple[EncryptedFrame, ...], opener: Opener
    ) -> npt.NDArray[np.float64]:
        return np.asarray(reduce(add, map(sums, frames)).open(opener)[0])

    def _rms(self, frames: tuple[EncryptedFrame, ...], opener: Opener) -> npt.NDArray[np.float64]:
        means = self._opened(squares, frames, opener) / self.n_rows
        return np.asarray(np.sqrt(np.maximum(means, 0.0)))


def _totals(frame: EncryptedFrame) -> Moments:
    """Sum of each column at the level of the frame: lower ones would be opened with the noise of rounding."""
    engine, blocks = frame.engine, -(-frame.n_rows // frame.engine.slots)
    parts = [
        (
            ColumnHeader(head.name, head.bound * frame.n_rows, head.scale, head.noise * math.sqrt(blocks)),
            reduce(engine.add, frame.ciphers(head.name)),
        )
        for head in frame.heads
    ]
    return Moments(slot_sums(frame, parts, level=frame.level), (1, len(parts)), False, frame.n_rows)


def _finer(moments: Moments, noise: npt.NDArray[np.float64]) -> Moments:
    """Put the noise that the sums truly have into their headers: ``noise`` is relative to the scale.

    Public bounds alone make it up to sixteen times as large as it is, and flooding with it.
    """
    frame = moments.sums
    parts = [
        (replace(head, noise=head.scale * float(size)), frame.ciphers(head.name)[0])
        for head, size in zip(frame.heads, noise, strict=True)
    ]
    return replace(moments, sums=sums_frame(frame, parts, frame.level))


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
    first = rows[0]
    for frame in (*rows, *targets):
        same_key(first.fingerprint, frame.fingerprint, "training")
        if frame.engine is not first.engine:
            raise CiphertextError(
                f"frames under profiles {first.profile!r} and {frame.profile!r} were passed",
                hint="encrypt all with one key holder",
            )
        if frame.layout.kind != "columns" or frame.packing != "real":
            raise CiphertextError(
                f"a frame in layout {frame.layout.kind!r}, packing {frame.packing!r} was passed",
                hint="encrypt in columns with packing='real', the defaults",
            )
        if frame.padding != "zeros" and frame.n_rows % frame.engine.slots:
            raise CiphertextError(
                "slots beyond the last row may not be 0: they would count as rows",
                hint="train on frames as they were encrypted, and change columns before encrypting",
            )
        frame.complete("training")
    for frames, what in ((rows, "enc_X"), (targets, "enc_y")):
        if any(frame.columns != frames[0].columns for frame in frames):
            raise SchemaError(
                f"the frames of {what} have different columns",
                hint="give each the same columns in the same order: enc[names]",
            )
    check_opener(opener, first)
    return TrainingData(rows, targets)


def check_opener(opener: Any, enc: EncryptedFrame) -> None:
    """Refuse an opener that is none, or that has another key.

    Raises
    ------
    SchemaError
        It cannot decrypt.
    WrongKey
        It has another key.
    """
    if not callable(getattr(opener, "decrypt", None)):
        raise SchemaError(
            f"opener is a {type(opener).__name__}; expected somebody who can open sums",
            hint="pass the KeyHolder, or a Committee: fit(enc_X, enc_y, opener=holder)",
        )
    if (fingerprint := getattr(opener, "fingerprint", None)) is not None:
        same_key(str(fingerprint), enc.fingerprint, "opening sums")


def open_row(opener: Opener, sums: EncryptedFrame) -> npt.NDArray[np.float64]:
    """Values of a frame of sums, shape (columns,)."""
    return np.asarray(opener.decrypt(sums), dtype=np.float64).ravel()


def needs_small(opener: Any) -> bool:
    """Whether products have to be relinearised before: only a whole key opens three polynomials."""
    return bool(getattr(opener, "needs_size_2", not isinstance(opener, KeyHolder)))


def _frames(passed: Any, what: str) -> tuple[EncryptedFrame, ...]:
    frames = (passed,) if isinstance(passed, EncryptedFrame) else passed
    if not isinstance(frames, (list, tuple)) or not frames:
        raise SchemaError(
            f"{what} is a {type(passed).__name__}; expected an EncryptedFrame, or a list of them",
            hint="encrypt it first: holder.encrypt(data); fit_clear(X, y) works in clear",
        )
    for frame in frames:
        if not isinstance(frame, EncryptedFrame):
            raise SchemaError(
                f"{what} holds a {type(frame).__name__}; expected EncryptedFrames",
                hint="encrypt it first: holder.encrypt(data)",
            )
    return tuple(frames)


def clear_table(
    data: Any, targets: Any
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64], tuple[str, ...] | None]:
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
