"""Gives the rows of a pandas frame or a numpy array that is in memory already."""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from twopm_kit.errors import SourceError
from twopm_kit.vsies.sources.base import DataSource, Tick, checked_names, step

__all__ = ["FrameSource", "array_columns", "number_names", "plain_array"]


class FrameSource(DataSource):
    """A frame, with its own dtypes; the index is left out.

    Parameters
    ----------
    frame : DataFrame
        Rows. Its names follow the rules of files: text, not empty, each once.
    rows : int
        Most rows of a chunk.
    name : str
        What messages call it.
    """

    _unit = "row"

    def __init__(self, frame: pd.DataFrame, rows: int, *, name: str = "frame") -> None:
        super().__init__(name, rows)
        self._frame = frame.set_axis(checked_names(frame.columns, f"the {name}"), axis=1)

    @property
    def n_rows(self) -> int:
        """Number of rows."""
        return len(self._frame)

    @property
    def n_bytes(self) -> int:
        """Bytes in memory."""
        return int(self._frame.memory_usage(index=False, deep=True).sum())

    def _dtypes(self) -> Mapping[str, str]:
        return {str(name): str(dtype) for name, dtype in self._frame.dtypes.items()}

    def _pieces(self, tick: Tick) -> Iterator[pd.DataFrame]:
        size = step(self.rows, self._frame.shape[1])
        for start in range(0, len(self._frame), size):
            piece = self._frame.iloc[start : start + size].copy()
            tick(len(piece))
            yield piece

    def read(self) -> pd.DataFrame:
        """Return a copy of all rows; its index counts them from 0."""
        return self._frame.reset_index(drop=True)

    def fingerprint(self) -> bytes:
        """Return the SHA-256 over the hashes of each column: name, dtype, and every bit of its values."""
        return hashlib.sha256(b"".join(_hashed(name, self._frame[name]) for name in self._frame)).digest()

    def _decided(self) -> dict[str, str]:
        return {"header": "the frame's names", "index": "left out"}


def _hashed(name: Any, column: "pd.Series[Any]") -> bytes:
    if isinstance(column.dtype, np.dtype) and column.dtype.kind in "biufmM":
        values = np.ascontiguousarray(column.to_numpy()).tobytes()
    else:
        bare = column.reset_index(drop=True).to_frame()
        values = bare.to_json(
            orient="split", date_format="iso", default_handler=str, double_precision=15
        ).encode()
    parts = (str(name).encode(), str(column.dtype).encode(), values)
    return hashlib.sha256(b"".join(hashlib.sha256(part).digest() for part in parts)).digest()


def from_array(array: NDArray[Any], rows: int, *, columns: Sequence[str] | None = None) -> FrameSource:
    """Return the source of an array: its first axis are rows, all others together columns.

    Parameters
    ----------
    array : ndarray
        Numbers, truth values, texts, times, or records; one axis or more.
    rows : int
        Most rows of a chunk.
    columns : sequence of str, optional
        Names; x0, x1, … by default.

    Raises
    ------
    SourceError
        If it has no axis, holds objects or complex numbers, or the names are not as many as its columns.
    """
    parts = array_columns(plain_array(array, "the array"), "x")
    if columns is not None:
        names = checked_names(columns, "columns=")
        if len(names) != len(parts):
            raise SourceError(
                f"columns= has {len(names)} names; the array has {len(parts)} columns",
                hint="pass one name for each column",
            )
        parts = dict(zip(names, parts.values(), strict=True))
    return FrameSource(pd.DataFrame(parts), rows, name="array")


def plain_array(array: NDArray[Any], where: str) -> NDArray[Any]:
    """Return an array in this machine's byte order and a width that pandas knows, or refuse it.

    Half precision becomes float32, which holds it exactly.
    """
    if array.ndim == 0:
        raise SourceError(f"{where} is a single value", hint="pass an array with one row for each sample")
    dtypes = [array.dtype] if array.dtype.names is None else [array.dtype[name] for name in array.dtype.names]
    for dtype in dtypes:
        if dtype.kind not in "biufUSmM" or (dtype.itemsize > 8 and dtype.kind in "f") or dtype.subdtype:
            raise SourceError(
                f"{where} holds {dtype}; expected numbers, truth values, texts or times",
                hint="convert it: array.astype(float), or one column for each part",
            )
    if array.dtype.kind == "f" and array.dtype.itemsize == 2:
        return array.astype(np.float32)
    return array.astype(array.dtype.newbyteorder("="), copy=False)


def number_names(prefix: str, count: int) -> list[str]:
    """Return prefix0, prefix1, … as many as there are to be."""
    return [f"{prefix}{at}" for at in range(count)]


def array_columns(array: NDArray[Any], prefix: str) -> dict[str, NDArray[Any]]:
    """Return the columns of an array by name: fields of records by theirs, others by number."""
    if array.dtype.names is not None and array.ndim == 1:
        return {name: plain_array(array[name], name) for name in array.dtype.names}
    flat = array.reshape(len(array), -1) if len(array) else array.reshape(0, int(np.prod(array.shape[1:])))
    return dict(zip(checked_names(number_names(prefix, flat.shape[1]), "the array"), flat.T, strict=True))
