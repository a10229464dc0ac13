"""Reads a sheet of a workbook (xls, xlsx, xlsm, xlsb, ods) in a process of its own with bounded memory."""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any, ClassVar

import pandas as pd

from twopm_kit.errors import SourceError
from twopm_kit.vsies.sources.base import CELLS, Tick, checked_names, redacted, step
from twopm_kit.vsies.sources.cells import build, checked_dtypes, dtype_of, kind, kinds_allowed
from twopm_kit.vsies.sources.files import FileSource, Place, checked_zip
from twopm_kit.vsies.sources.registry import reads

__all__ = ["Workbook"]

#: Address space of the process that reads, in bytes, and its time in seconds.
MEMORY = 2 << 30
SECONDS = 300
#: Most cells between the first and the last with a value.
LARGEST = 2 * CELLS

# A sheet with a value in its first and one in its last possible cell is small as a file and takes hundreds of
# gigabytes as a table; the library then ends the process. So it is a process that nobody will miss. It hears
# and says plain JSON: a line about the sheets, then one for each row.
_READER = """
import datetime, json, resource, sys
sheet, memory, seconds = json.loads(sys.argv[1])
resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds))
resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
import python_calamine
def plain(cell):
    if isinstance(cell, (datetime.datetime, datetime.date)):
        return {"t": cell.isoformat()}
    if isinstance(cell, (bool, int, float, str)):
        return cell
    return str(cell)
book = python_calamine.CalamineWorkbook.from_filelike(sys.stdin.buffer)
names = book.sheet_names
found = sheet if isinstance(sheet, str) else names[sheet] if sheet < len(names) else None
if found not in names:
    print(json.dumps({"sheets": names}))
    sys.exit(0)
table = book.get_sheet_by_name(found)
size = table.height * table.width
print(json.dumps({"sheets": names, "sheet": found, "cells": size}), flush=True)
for row in table.iter_rows():
    print(json.dumps([plain(cell) for cell in row]))
"""


@reads(".xlsx", ".xls", ".xlsm", ".xlsb", ".ods")
class Workbook(FileSource):
    """One sheet of a workbook, by the values that were last saved in it; nothing is calculated.

    The first row that is not empty is the header if ``header=True``, data if ``header=False``; with
    ``"auto"`` it is the header if each of its cells is text. Rows without any value are left out. Names and
    dtypes follow the rules of text tables; numbers without a fraction are whole numbers; dates and times are
    ``datetime64[us]``; in a column of mixed kinds everything is text.

    Parameters
    ----------
    place : Place
        The file; at most 67,108,864 bytes.
    rows : int
        Most rows of a chunk.
    sheet : int or str
        Number from 0, or name.
    header : bool or "auto"
        Whether the first row holds names.
    columns : sequence of str, optional
        Names instead of those in the sheet.
    dtypes : mapping, optional
        Dtypes by column name.
    """

    _unit: ClassVar[str] = "row"

    def __init__(
        self,
        place: Place,
        rows: int,
        *,
        sheet: int | str = 0,
        header: bool | str = "auto",
        columns: Sequence[str] | None = None,
        dtypes: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(place, rows)
        if not isinstance(header, bool) and header != "auto":  # 0 is False, and pandas' first line
            raise SourceError(
                f"header must be True, False or 'auto', not {header!r}", hint="pass one of them"
            )
        if (
            isinstance(sheet, bool)
            or not isinstance(sheet, int | str)
            or (isinstance(sheet, int) and sheet < 0)
        ):
            raise SourceError(f"sheet must be a number from 0 or a name, not {sheet!r}", hint="pass sheet=0")
        about, table = self._sheet(sheet)
        self._about = (
            f"{about['sheet']!r} of {len(about['sheets'])}: {', '.join(map(repr, about['sheets'][:8]))}"
        )
        first = table[0][1]
        if header == "auto":
            header = all(isinstance(cell, str) and cell for cell in first)
            self._header = (
                f"{'yes' if header else 'no'} ({'all' if header else 'not all'} cells of it are text)"
            )
        else:
            self._header = f"{'yes' if header else 'no'} (named)"
        where = f"{self.name}, sheet {about['sheet']!r}, row {table[0][0]}"
        names = [str(cell) for cell in first] if header else [f"x{at}" for at in range(len(first))]
        names = checked_names(names if columns is None else columns, where)
        if len(names) != len(first):
            raise SourceError(
                f"columns= has {len(names)} names; {where} has {len(first)} cells", hint="pass one for each"
            )
        self._frame = self._typed(table[1 if header else 0 :], names, checked_dtypes(dtypes))

    def _typed(
        self, table: list[tuple[int, list[Any]]], names: list[str], asked: dict[str, str]
    ) -> pd.DataFrame:
        strange = [name for name in asked if name not in names]
        if strange:
            raise SourceError(
                f"dtypes= names column {strange[0]!r}, which is not there", hint=f"use {names[:8]}"
            )
        parts = {}
        for at, name in enumerate(names):
            cells = [row[at] for _, row in table]
            kinds = [kind(cell) for cell in cells]
            dtype = asked.get(name) or dtype_of(kinds)
            allowed = kinds_allowed(dtype)
            for (line, _), cell, found in zip(table, cells, kinds, strict=True):
                if found not in allowed:
                    raise SourceError(
                        f"{self.name}, row {line}, column {name!r}: {str(cell)[:80]!r} is not {dtype}",
                        hint="correct the cell, or ask for another dtype",
                    )
            parts[name] = build(cells, dtype)
        return pd.DataFrame(parts, columns=names)

    def _sheet(self, sheet: int | str) -> tuple[dict[str, Any], list[tuple[int, list[Any]]]]:
        """Return what is said about the sheet, and its rows with their numbers."""
        size = self._place.size
        if size is not None and size > 1 << 26:
            raise SourceError(
                f"{self.name} has {size:,} bytes; a workbook may have 67,108,864", hint="export it as csv"
            )
        with self._place.open() as stream:
            head = stream.read(4)
            if head[:2] == b"PK":
                stream.seek(0)
                checked_zip(stream, self.name)
        order = json.dumps([sheet, MEMORY, SECONDS])
        with tempfile.TemporaryFile() as faults, self._place.on_disk().open("rb") as book:
            with subprocess.Popen(  # noqa: S603  (this interpreter, a fixed program, numbers and a name)
                [sys.executable, "-I", "-c", _READER, order],
                stdin=book, stdout=subprocess.PIPE, stderr=faults,
                env={**os.environ, "RUST_BACKTRACE": "0"},
            ) as reader:  # fmt: skip
                try:
                    about, table = self._heard(reader)
                finally:
                    reader.kill()
            faults.seek(0)
            said = faults.read()[-4000:].decode("utf-8", "replace").splitlines()
        large = any(
            "memory allocation" in line or "MemoryError" in line or "overflow" in line for line in said
        )
        words = "its cells take too much memory" if large else "\n".join(said[-1:])
        if "sheets" in about and "sheet" not in about:
            raise SourceError(
                f"{self.name} has no sheet {sheet!r}", hint=f"choose from {about['sheets'][:8]}, or a number"
            )
        if about.get("done") is not True:
            raise SourceError(
                f"{self.name} cannot be read as a workbook: {redacted(words, []) or 'its reader was ended'}",
                hint="open it in a spreadsheet program and save it as xlsx or csv",
            )
        if not table:
            raise SourceError(f"{self.name}, sheet {about['sheet']!r} is empty", hint="choose another sheet=")
        return about, table

    def _heard(self, reader: "subprocess.Popen[bytes]") -> tuple[dict[str, Any], list[tuple[int, list[Any]]]]:
        """Return the reader's lines; "done" is only said after it has ended well."""
        about: dict[str, Any] = {}
        table: list[tuple[int, list[Any]]] = []
        for text in reader.stdout or ():
            line = json.loads(text)
            if isinstance(line, dict):
                about = line
                if about.get("cells", 0) > LARGEST:
                    raise SourceError(
                        f"{self.name}, sheet {about['sheet']!r} spans {about['cells']:,} cells; "
                        f"at most {LARGEST:,} are read",
                        hint="remove stray cells far from the table, or export it as csv or Parquet",
                    )
            else:
                table.append((len(table) + 1, [_plain(cell) for cell in line]))
        about["done"] = reader.wait() == 0 and "sheet" in about
        return about, [(number, row) for number, row in table if any(cell != "" for cell in row)]

    @property
    def n_rows(self) -> int:
        """Number of rows with a value."""
        return len(self._frame)

    def _dtypes(self) -> Mapping[str, str]:
        return {str(name): str(dtype) for name, dtype in self._frame.dtypes.items()}

    def _decided(self) -> dict[str, str]:
        return {"sheet": self._about, "header": self._header}

    def _pieces(self, tick: Tick) -> Iterator[pd.DataFrame]:
        size = step(self.rows, self._frame.shape[1])
        for start in range(0, len(self._frame), size):
            piece = self._frame.iloc[start : start + size].copy()
            tick(len(piece))
            yield piece


def _plain(cell: Any) -> Any:
    if isinstance(cell, dict):
        return datetime.fromisoformat(cell["t"])
    # a sheet has one kind of number
    return int(cell) if isinstance(cell, float) and cell.is_integer() and abs(cell) <= 1 << 53 else cell
