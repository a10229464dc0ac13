"""Reads Parquet files a batch at a time, with dtypes from the file's own schema."""

import json
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pandas as pd

from twopm_kit.errors import SourceError
from twopm_kit.vsies.sources.base import Tick, checked_names, step, write_up
from twopm_kit.vsies.sources.files import FileSource, Place
from twopm_kit.vsies.sources.registry import reads

__all__ = ["Parquet"]

#: Most bytes of one row group after decompression: the format's unit of reading.
GROUP = 1 << 29
#: Most bytes of a file's own description, and seconds to read it.
FOOTER = 1 << 26
SECONDS = 60

# Arrow ends the process where the description of a column contradicts itself. So a process that nobody will
# miss reads it first. It hears the description alone, and says in JSON which columns may lack values.
_READER = """
import json, sys
import pyarrow as pa, pyarrow.parquet as pq
metadata = pq.ParquetFile(pa.BufferReader(sys.stdin.buffer.read())).metadata
gaps = set()
for at in range(metadata.num_row_groups):
    group = metadata.row_group(at)
    for place in range(group.num_columns):
        column = group.column(place)
        known = column.statistics is not None and column.statistics.has_null_count
        if not known or column.statistics.null_count:
            gaps.add(column.path_in_schema)
print(json.dumps(sorted(gaps)))
"""


@reads(".parquet", ".pq")
class Parquet(FileSource):
    """A Parquet file.

    Whole numbers of any width are ``int64`` (``Int64`` where the file does not rule out missing ones), floats
    and decimals ``float64``, truth values ``bool`` or ``boolean``, dates and times ``datetime64[us]`` (with
    their time zone), texts and dictionaries of texts ``str``. Lists, maps, structs and raw bytes are refused.

    Parameters
    ----------
    place : Place
        The file.
    rows : int
        Most rows of a chunk.
    columns : sequence of str, optional
        Read these columns only, in this order.
    """

    def __init__(self, place: Place, rows: int, *, columns: Sequence[str] | None = None) -> None:
        super().__init__(place, rows)
        self._state = place.state()
        lacking = self._lacking()
        with self._file() as file:
            schema, metadata = file.schema_arrow, file.metadata
            names = checked_names(schema.names, self.name)
            if columns is not None:
                absent = [name for name in columns if name not in names]
                if absent:
                    raise SourceError(
                        f"{self.name} has no column {absent[0]!r}", hint=f"choose from {names[:8]}"
                    )
            #: name in the frame -> name in the file
            stored = dict(zip(names, schema.names, strict=True))
            self._stored = {name: stored[name] for name in (columns or names)}
            groups = [metadata.row_group(at) for at in range(metadata.num_row_groups)]
            largest = max((group.total_byte_size for group in groups), default=0)
            if largest > GROUP:
                raise SourceError(
                    f"{self.name} has a row group of {largest:,} bytes; at most {GROUP:,} are read at a time",
                    hint="write it with smaller row groups: frame.to_parquet(path, row_group_size=100_000)",
                )
            self._kinds = {
                name: self._dtype(schema.field(file_name).type, name, file_name in lacking)
                for name, file_name in self._stored.items()
            }
            self._length = int(metadata.num_rows)
            self._groups = len(groups)

    def _lacking(self) -> set[str]:
        """Return the columns that may lack values, and refuse a description that Arrow cannot bear."""
        footer, said = self._footer(), b""
        if footer:
            try:
                done = subprocess.run(  # noqa: S603  (this interpreter and a fixed program)
                    [sys.executable, "-I", "-c", _READER],
                    input=footer, capture_output=True, timeout=SECONDS, check=False,
                )  # fmt: skip
                said = done.stdout if done.returncode == 0 else b""
            except subprocess.TimeoutExpired:
                said = b""
        if not said:
            raise SourceError(
                f"{self.name} is not a whole Parquet file: its description cannot be read",
                hint="fetch it again, or write it again",
            )
        return set(json.loads(said))

    def _footer(self) -> bytes:
        """Return the file's description as a file of its own: no rows between the marks; empty if damaged."""
        with self._place.open() as stream:
            end = stream.seek(0, 2)
            if end < 12:
                return b""
            stream.seek(end - 8)
            length = int.from_bytes(stream.read(4), "little")
            if not 0 < length <= min(FOOTER, end - 12):
                return b""
            stream.seek(end - 8 - length)
            return b"PAR1" + stream.read(length + 8)

    def _file(self) -> Any:
        import pyarrow as pa
        import pyarrow.parquet as pq

        stream, words = self._place.open(), ""
        try:
            return pq.ParquetFile(stream, pre_buffer=False)
        except (pa.ArrowException, OSError, ValueError) as error:
            stream.close()
            words = write_up(error)
        raise SourceError(
            f"{self.name} is not a whole Parquet file: {words}", hint="fetch it again, or write it again"
        )

    def _dtype(self, kind: Any, name: str, gaps: bool) -> str:
        from pyarrow import types

        if types.is_dictionary(kind):
            kind = kind.value_type
        if types.is_boolean(kind):
            return "boolean" if gaps else "bool"
        if types.is_uint64(kind):
            return "UInt64" if gaps else "uint64"
        if types.is_integer(kind):
            return "Int64" if gaps else "int64"
        if types.is_floating(kind) or types.is_decimal(kind) or types.is_null(kind):
            return "float64"
        if types.is_timestamp(kind):
            return f"datetime64[us, {kind.tz}]" if kind.tz else "datetime64[us]"
        if types.is_date(kind):
            return "datetime64[us]"
        if types.is_string(kind) or types.is_large_string(kind) or types.is_string_view(kind):
            return "str"
        raise SourceError(
            f"{self.name}: column {name!r} holds {kind}; expected numbers, truth values, times or texts",
            hint="leave it out with columns=, or spread it over plain columns",
        )

    @property
    def n_rows(self) -> int:
        """Number of rows, as the file states it."""
        return self._length

    def _dtypes(self) -> Mapping[str, str]:
        return self._kinds

    def _decided(self) -> dict[str, str]:
        return {"row groups": f"{self._groups:,}", "header": "the file's schema"}

    def _pieces(self, tick: Tick) -> Iterator[pd.DataFrame]:
        import pyarrow as pa

        if self._place.state() != self._state:
            raise SourceError(f"{self.name} changed while it was in use", hint="open it again")
        size, done, words = step(self.rows, len(self._kinds)), 0, ""
        with self._file() as file:
            batches = file.iter_batches(size, columns=list(self._stored.values()), use_threads=False)
            while True:
                try:
                    batch = next(batches, None)
                    frame = None if batch is None else self._frame(batch)
                except (pa.ArrowException, OSError, ValueError, TypeError) as error:
                    words = write_up(error)
                    break
                if frame is None:
                    break
                tick(int((self.n_bytes or 0) * len(frame) / max(self._length, 1)))
                done += len(frame)
                yield frame
        if words or done != self._length:
            raise SourceError(
                f"{self.name}, after row {done:,} of {self._length:,}: {words or 'the file ends'}",
                hint="fetch the file again, or write it again",
            )

    def _frame(self, batch: Any) -> pd.DataFrame:
        """Return a batch as a frame: cast in Arrow, so that no integer passes through a float."""
        import pyarrow as pa
        from pandas.api.types import pandas_dtype

        parts = {}
        for name, stored in self._stored.items():
            dtype, values = self._kinds[name], batch.column(stored)
            if pa.types.is_dictionary(values.type):
                values = values.dictionary_decode()
            if dtype in ("Int64", "UInt64", "boolean"):
                plain = values.cast(pa.bool_() if dtype == "boolean" else getattr(pa, dtype.lower())())
                # the extension dtypes read Arrow's values and mask as they are
                extension: Any = pandas_dtype(dtype)
                parts[name] = pd.Series(extension.__from_arrow__(plain))
            elif dtype == "float64":
                parts[name] = pd.Series(values.cast(pa.float64()).to_numpy(zero_copy_only=False).copy())
            elif dtype == "str":
                parts[name] = pd.Series(values.cast(pa.large_string()).to_pandas(), dtype="str")
            elif dtype.startswith("datetime"):
                zone = values.type.tz if pa.types.is_timestamp(values.type) else None
                parts[name] = values.cast(pa.timestamp("us", zone), safe=False).to_pandas().astype(dtype)
            else:
                if values.null_count:
                    raise SourceError(
                        f"{self.name}: column {name!r} lacks values where its statistics deny it",
                        hint="write the file again",
                    )
                whole = pa.bool_() if dtype == "bool" else getattr(pa, dtype)()
                parts[name] = pd.Series(values.cast(whole).to_numpy(zero_copy_only=False).copy(), dtype=dtype)
        return pd.DataFrame(parts)
