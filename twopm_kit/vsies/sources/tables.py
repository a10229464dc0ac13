"""Reads tables of text (csv, tsv, txt) of any size: stated rules for header, delimiter and dtypes, kept."""

import codecs
import csv
import io
import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from twopm_kit.errors import SourceError
from twopm_kit.vsies.sources.base import Tick, checked_names, step, write_up
from twopm_kit.vsies.sources.cells import build, cast, checked_dtypes, dtype_of, kinds_allowed
from twopm_kit.vsies.sources.files import FileSource, Place, Unpacked
from twopm_kit.vsies.sources.registry import reads

__all__ = ["DELIMITERS", "MISSING", "TextTable"]

#: Delimiters that are looked for where none is named.
DELIMITERS = {",": "comma", ";": "semicolon", "\t": "tab", "|": "bar"}
#: Cells that count as missing where none are named.
MISSING = ("", "NA", "N/A", "n/a", "#N/A", "NaN", "nan", "null", "NULL")

_BLOCK = 1 << 18
_HEAD = 1 << 16
_FEWEST = 256  # rows of a chunk that are not divided further
_LOOK = 100  # of the first rows decide on the delimiter
#: Longest line, in characters.
LINE = 1 << 23
#: Most characters that the rows of one chunk may take.
CHUNK = 1 << 26
_SAW = re.compile(r"Expected (\d+) fields in line (\d+), saw (\d+)")
_KINDS = {"i": "int", "f": "float", "b": "bool", "u": "text"}
_OVERFLOW = "\0"
_TIME = "datetime64[us]"
_ZERO = r"\s*[+-]?0[0-9]+\s*"
# str.splitlines would also break at form feeds and Unicode's own line ends
_A_LINE = re.compile(r"[^\r\n]*(?:\r\n|\r|\n)|[^\r\n]+")


@dataclass(frozen=True)
class _Head:
    """What the first lines say: names, how many cells, where rows begin, and how this was decided."""

    names: list[str]
    delimiter: str
    lines: int  # before the first row
    offset: int  # characters before the first row
    row_size: float
    decided: dict[str, str]


@dataclass
class _Survey:
    """What a pass over all rows found."""

    state: tuple[Any, ...]
    seen: dict[str, set[str]]
    rows: int = 0


@reads(".csv", ".tsv", ".txt")
class TextTable(FileSource):
    r"""A table of delimited text, plain or compressed (gz, bz2, xz, zst, zip with one file in it).

    The rules, all of them enforced over the whole file *before* its first row is given:

    - Text is UTF-8, with or without a byte order mark; another ``encoding`` must be named. There are no NUL
      characters. Lines end in ``\n``, ``\r\n`` or ``\r``, and have at most 8,388,608 characters.
    - Cells are divided by one delimiter: comma, semicolon, tab or bar. If none is named it is the one that
      divides each of the first lines into the same number (two or more) of cells; if there are several such,
      the file is refused until one is named; if there is none, the one that divides the first line into most
      cells; if nothing divides it, the table has one column. A ``.tsv`` file has tabs.
    - Cells may be in double quotes (RFC 4180), and then hold delimiters, line ends and doubled quotes.
    - The first line that is not blank is the header if ``header=True``, data if ``header=False``. With
      ``"auto"`` it is the header if no cell in it is a number. Without a header columns are called x0, x1, …
    - Names lose blanks around them; an empty name, or the same name twice, is refused. ``columns`` replaces
      all names.
    - Every row has exactly as many cells as there are columns. Blank lines are left out, except in a table
      of one column, where they are missing cells.
    - Missing are the cells in ``missing``, by default empty ones, NA, N/A, n/a, #N/A, NaN, nan, null, NULL.
    - A column is ``int64`` if all its cells are whole numbers (``Int64`` if some are missing), else
      ``float64`` if all are numbers, else ``bool`` (``boolean``) if all are True or False (or TRUE, true),
      else ``str``: there each cell is the text of the file, so =A1+B1 is just text. A column in which any
      cell is a whole number with a leading zero (01234, 007; not 0, 0.5, -0) is ``str`` as well, for it names
      something: a postcode, an id. Whole numbers outside int64 are text. ``dtypes`` asks for others; cells
      that do not fit are refused.

    Parameters
    ----------
    place : Place
        The file.
    rows : int
        Most rows of a chunk.
    delimiter : str, optional
        One character.
    header : bool or "auto"
        Whether the first line holds names.
    columns : sequence of str, optional
        Names instead of those in the file.
    encoding : str
        A codec of Python.
    decimal : str
        The decimal sign of numbers, "." or ",".
    missing : sequence of str
        Texts that stand for a missing cell.
    dtypes : mapping, optional
        Dtypes by column name, see :data:`twopm_kit.vsies.sources.cells.DTYPES`.

    Notes
    -----
    The first pass over the file decides dtypes and checks every row; each later pass reads it once more. Each
    holds one chunk in memory. Where something looks like a leading zero, one more pass looks at the columns
    of numbers. Numbers are read to the nearest float64.
    """

    unpacks = True

    def __init__(
        self,
        place: Place,
        rows: int,
        *,
        delimiter: str | None = None,
        header: bool | str = "auto",
        columns: Sequence[str] | None = None,
        encoding: str = "utf-8",
        decimal: str = ".",
        missing: Sequence[str] = MISSING,
        dtypes: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(place, rows)
        self._columns, self._decimal = columns, decimal
        self._missing, self._asked = tuple(missing), checked_dtypes(dtypes)
        if not isinstance(header, bool) and header != "auto":  # 0 is False, and pandas' first line
            raise SourceError(
                f"header must be True, False or 'auto', not {header!r}", hint="pass one of them"
            )
        if decimal not in (".", ","):
            raise SourceError(f"decimal must be '.' or ',', not {decimal!r}", hint="pass one of them")
        named = delimiter is None or (isinstance(delimiter, str) and len(delimiter) == 1)
        if not named or delimiter in ('"', "\n", "\r", decimal):
            raise SourceError(
                f"delimiter must be one character, no quote, line end or decimal sign, not {delimiter!r}",
                hint=f"pass one of {list(DELIMITERS)}",
            )
        try:
            # utf-8-sig is utf-8 that leaves a byte order mark out
            self._encoding = "utf-8-sig" if codecs.lookup(encoding).name == "utf-8" else encoding
            codecs.getincrementaldecoder(self._encoding)
        except (LookupError, TypeError):
            raise SourceError(
                f"no text encoding is called {encoding!r}", hint="pass for example encoding='cp1252'"
            ) from None
        if place.suffixes[0] == ".tsv" and delimiter is None:
            delimiter = "\t"
        self._head = self._first_lines(delimiter, header)
        strange = [name for name in self._asked if name not in self._head.names]
        if strange:
            raise SourceError(
                f"dtypes= names column {strange[0]!r}, which {self.name} does not have",
                hint=f"use its columns: {', '.join(map(repr, self._head.names[:8]))}",
            )
        self._found: _Survey | None = None
        self._step = step(rows, len(self._head.names), self._head.row_size)

    # What is known without a pass over the rows ----------------------------------------------------------

    @property
    def columns(self) -> list[str]:
        """Names of the columns, in order."""
        return list(self._head.names)

    @property
    def n_rows(self) -> int | None:
        """Number of rows, or None before the first pass."""
        return None if self._found is None else self._found.rows

    def _decided(self) -> dict[str, str]:
        coding = self._encoding.removesuffix("-sig")
        packed = self._place.suffixes[1]
        decided = {
            "encoding": coding,
            "decimal": self._decimal,
            "missing": ", ".join(map(repr, self._missing)),
        }
        return self._head.decided | decided | ({"compression": packed[1:]} if packed else {})

    def _first_lines(self, delimiter: str | None, header: bool | str) -> _Head:
        """Read the first lines, and decide on delimiter and header."""
        with self._lines() as lines:
            text = ""
            whole = False
            while not whole and (len(text) < _HEAD or not re.search(r"[\r\n]", text)):
                block = lines.read(_HEAD)
                whole = not block
                text += block
        if not text.strip():
            raise SourceError(f"{self.name} is empty", hint="pass a file with at least one row")
        decided = {}
        if delimiter is None:
            delimiter, decided["delimiter"] = self._sniffed(text, whole)
        else:
            decided["delimiter"] = f"{DELIMITERS.get(delimiter, repr(delimiter))} (named)"
        records = self._records(text, delimiter, whole)
        cells, offset, before = records[0]
        if len(cells) == 1 and text[0] in "\r\n":
            raise SourceError(
                f"{self.name} has one column and begins with a blank line", hint="remove the line"
            )
        if header == "auto":
            number = next((cell for cell in cells if self._is_number(cell)), None)
            header = number is None
            why = "no cell of line 1 is a number" if header else f"line 1 holds the number {number!r}"
            decided["header"] = f"{'yes' if header else 'no'} ({why})"
        else:
            decided["header"] = f"{'yes' if header else 'no'} (named)"
        if self._columns is not None:
            names = checked_names(self._columns, f"columns= for {self.name}")
            if len(names) != len(cells):
                raise SourceError(
                    f"columns= has {len(names)} names; line 1 of {self.name} has {len(cells)} cells",
                    hint="name each column, or the delimiter; choose columns afterwards: frame[names]",
                )
        elif header:
            names = checked_names(cells, f"{self.name}, line 1")
        else:
            names = checked_names([f"x{at}" for at in range(len(cells))], f"{self.name}, line 1")
        size = len(text) / max(1, text.count("\n"), text.count("\r"))
        offset, before = (offset, before) if header else (0, 0)
        return _Head(names, delimiter, before, offset, size, decided)

    def _records(self, text: str, delimiter: str, whole: bool) -> list[tuple[list[str], int, int]]:
        """Return the first records: cells, and how many characters and lines are read after each."""
        stream = io.StringIO(text, newline="")
        rows = csv.reader(stream, delimiter=delimiter)
        records: list[tuple[list[str], int, int]] = []
        try:
            for cells in rows:
                if len(records) == _LOOK:
                    return records
                if cells and (len(cells) > 1 or cells[0].strip()):
                    records.append((cells, stream.tell(), rows.line_num))
        except csv.Error as error:
            if whole or not records:
                raise SourceError(
                    f"{self.name}, line {rows.line_num}: {error}",
                    hint="close the quote in this line, or shorten the cell",
                ) from None
            return records  # what comes later is checked with all rows
        if not whole and len(records) > 1:
            records.pop()  # what was read may end within it
        if not records:
            raise SourceError(f"{self.name} is empty", hint="pass a file with at least one row")
        return records

    def _sniffed(self, text: str, whole: bool) -> tuple[str, str]:
        """Return the delimiter of the first lines, and in words why."""
        counts: dict[str, list[int]] = {}
        fault: SourceError | None = None
        for one in DELIMITERS:
            if one != self._decimal:
                try:
                    counts[one] = [len(cells) for cells, _, _ in self._records(text, one, whole)]
                except SourceError as error:
                    counts[one], fault = [0], error
        if fault is not None and not any(found[0] for found in counts.values()):
            raise fault
        even = [one for one, found in counts.items() if found[0] > 1 and len(set(found)) == 1]
        if len(even) > 1:
            both = " and ".join(f"{DELIMITERS[one]} (into {counts[one][0]} cells)" for one in even)
            raise SourceError(
                f"{self.name}: {both} each divide all of the first lines evenly",
                hint=f"name the delimiter: delimiter={even[0]!r} or delimiter={even[1]!r}",
            )
        best = even[0] if even else max(counts, key=lambda one: counts[one][0])
        if counts[best][0] == 1:
            return best, "none found: one column"
        return best, f"{DELIMITERS[best]} (found: {counts[best][0]} cells in line 1)"

    def _is_number(self, cell: str) -> bool:
        try:
            float(cell.strip().replace(self._decimal, "."))
        except ValueError:
            return False
        return cell.strip() not in self._missing

    # Passes over the rows ----------------------------------------------------------------------------------

    def _lines(self, tick: Tick = lambda _: None) -> "_Lines":
        lines = _Lines(self._place.unpacked(tick), self.name, self._encoding)
        lines.count(self._head.delimiter if hasattr(self, "_head") else ",")
        return lines

    def _frames(self, lines: "_Lines", dtypes: Mapping[str, str]) -> Iterator[pd.DataFrame]:
        """Yield the parser's frames, all columns and one for what is too much in a row."""
        head = self._head
        lines.skip(head.offset)
        try:
            with warnings.catch_warnings():
                # cells beyond the last column are counted and refused by the caller
                warnings.simplefilter("ignore", pd.errors.ParserWarning)
                options: dict[str, Any] = {
                    "names": [*head.names, _OVERFLOW], "header": None, "index_col": False,
                    "sep": head.delimiter, "decimal": self._decimal, "low_memory": False,
                    "dtype_backend": "numpy_nullable",
                    "keep_default_na": False, "na_values": list(self._missing), "chunksize": self._step,
                    "skip_blank_lines": len(head.names) > 1, "dtype": {**dtypes, _OVERFLOW: "str"},
                }  # fmt: skip
                parser = pd.read_csv(lines, **options)
            with parser:
                while True:
                    lines.left = CHUNK
                    with warnings.catch_warnings():
                        warnings.simplefilter("ignore", pd.errors.ParserWarning)
                        frame = next(parser, None)
                    if frame is None:
                        return
                    yield frame
        except pd.errors.EmptyDataError:
            return
        except (pd.errors.ParserError, ValueError, OverflowError) as error:
            if isinstance(error, SourceError):
                raise
            fault = error
        raise self._parser_fault(fault)

    def _parser_fault(self, error: Exception) -> SourceError:
        expected = len(self._head.names)
        if saw := _SAW.search(str(error)):
            line, found = int(saw[2]) + self._head.lines, int(saw[3])
            return SourceError(
                f"{self.name}, line {line}: {found} cells; expected {expected}",
                hint="put the cell that holds a delimiter in quotes, or correct the line",
            )
        if "EOF inside string" in str(error):
            self._count_cells(strict=True)  # names the line
        return SourceError(
            f"{self.name} cannot be read as a table: {write_up(error)}", hint="check delimiter and encoding"
        )

    def _survey(self) -> _Survey:
        """Read everything once: which kinds of cells each column holds, and whether every row is whole."""
        while self._found is None:
            with self._lines() as lines:
                try:
                    survey, doubtful = self._surveyed(lines)
                except SourceError:
                    # rows may be longer than the first ones promised: try with fewer in a chunk
                    if not lines.overdrawn or self._step < _FEWEST:
                        raise
                    self._step //= 8
                    continue
            if doubtful:
                self._count_cells()
            if lines.zeros:
                self._keep_zeros(survey)
            self._found = survey
        return self._found

    def _surveyed(self, lines: "_Lines") -> tuple[_Survey, bool]:
        """Return what one pass found, and whether the cells of each row must be counted."""
        names = self._head.names
        survey = _Survey(self._place.state(), {name: set() for name in names})
        text = {name: "str" for name, dtype in self._asked.items() if dtype in ("str", _TIME)}
        for frame in self._frames(lines, text):
            for name in names:
                self._look_at(frame[name], name, survey)
            survey.rows += len(frame)
            if frame[_OVERFLOW].notna().any():
                return survey, True
        # A row that is too short leaves its last cell missing: only then can the sum hide one too long.
        short = len(names) > 1 and "missing" in survey.seen[names[-1]]
        return survey, short or lines.delimiters != (len(names) - 1) * survey.rows

    def _keep_zeros(self, survey: _Survey) -> None:
        """Make text of the columns of numbers in which one would lose a leading zero."""
        numbers = {
            name: "str"
            for name, kinds in survey.seen.items()
            if name not in self._asked and {"int", "float"} & kinds and dtype_of(kinds) != "str"
        }
        with self._lines() as lines:
            for frame in self._frames(lines, numbers) if numbers else ():
                for name in list(numbers):
                    if frame[name].str.fullmatch(_ZERO).fillna(value=False).any():
                        survey.seen[name].add("text")
                        del numbers[name]
                if not numbers:
                    return

    def _look_at(self, column: "pd.Series[Any]", name: str, survey: _Survey) -> None:
        """Add the kinds of cells of a piece of a column; refuse those that its dtype does not allow."""
        gaps = bool(column.isna().any())
        kinds = {"missing"} if gaps else set()
        if not column.isna().all():
            code = getattr(column.dtype, "kind", "O")
            kinds.add(_KINDS.get(code, "text"))
        survey.seen[name] |= kinds
        asked = self._asked.get(name)
        if asked is None or kinds <= kinds_allowed(asked):
            return
        allowed = kinds_allowed(asked)
        if asked == _TIME:
            wrong = column.notna() & pd.to_datetime(column, format="ISO8601", errors="coerce").isna()
            if not wrong.any():
                return
            at = int(wrong.to_numpy().argmax())
        else:
            wrong_ones = (at for at, cell in enumerate(column) if self._kind(cell) not in allowed)
            # whole numbers that are all written as 1.0 are told by the first of them
            at = next(wrong_ones, int(column.notna().to_numpy().argmax()))
        found = "a missing cell" if pd.isna(column.iloc[at]) else repr(str(column.iloc[at])[:80])
        raise SourceError(
            f"{self.name}, row {survey.rows + at + 1}, column {name!r}: {found} does not fit dtype {asked}",
            hint="correct the cell, or ask for another dtype: Int64 and boolean allow missing cells, str all",
        )

    def _kind(self, cell: Any) -> str:
        """Return the kind of one cell of a column in which kinds mix."""
        if pd.isna(cell):
            return "missing"
        if not isinstance(cell, str):
            return "bool" if isinstance(cell, bool) else "int" if float(cell).is_integer() else "float"
        if cell.strip().lower() in ("true", "false"):
            return "bool"
        if re.fullmatch(r"\s*[+-]?\d{1,18}\s*", cell):
            return "int"
        return "float" if self._is_number(cell) else "text"

    def _count_cells(self, *, strict: bool = False) -> None:
        """Refuse the first row that has not as many cells as there are columns, or does not end."""
        expected, blank = len(self._head.names), len(self._head.names) > 1
        with self._lines() as lines:
            lines.skip(self._head.offset)
            rows = csv.reader(lines.split(), delimiter=self._head.delimiter, strict=strict)
            before = 0
            try:
                for cells in rows:
                    empty = not cells or (len(cells) == 1 and not cells[0].strip())
                    if len(cells) != expected and not (empty and (blank or not cells)):
                        raise SourceError(
                            f"{self.name}, line {self._head.lines + rows.line_num}: {len(cells)} "
                            f"cell{'s' * (len(cells) != 1)}; expected {expected}",
                            hint="correct the line, put a cell that holds a delimiter in quotes, "
                            "or name the delimiter",
                        )
                    before = rows.line_num
            except csv.Error as error:
                words, line = str(error), self._head.lines + before + 1
            else:
                return
        raise SourceError(
            f"{self.name}, the row from line {line}: {words}",
            hint="close or remove the quote that stays open there, or shorten the cell",
        )

    def _dtypes(self) -> Mapping[str, str]:
        seen = self._survey().seen
        return {name: self._asked.get(name) or dtype_of(kinds) for name, kinds in seen.items()}

    def _pieces(self, tick: Tick) -> Iterator[pd.DataFrame]:
        dtypes, survey = self._dtypes(), self._survey()
        self._same(survey)
        # Whole numbers and truth values are left to the parser, which finds their nullable dtypes: asked for
        # int64 beside those, it would pass integers through floats.
        plain = {name: dtype for name, dtype in dtypes.items() if dtype in ("float64", "str")}
        plain |= {name: "str" for name, dtype in dtypes.items() if dtype == _TIME}
        done = 0
        with self._lines(tick) as lines:
            for frame in self._frames(lines, plain):
                parts = {name: self._cast(frame[name], dtype) for name, dtype in dtypes.items()}
                done += len(frame)
                yield pd.DataFrame(parts, copy=False)
        self._same(survey)
        if done != survey.rows:
            self._changed(f"{done:,} rows instead of {survey.rows:,}")

    def _cast(self, column: "pd.Series[Any]", dtype: str) -> "pd.Series[Any]":
        if dtype == _TIME:
            return cast(pd.to_datetime(column, format="ISO8601"), _TIME)
        if str(column.dtype) == dtype:
            return column
        return build([None] * len(column), dtype) if column.isna().all() else cast(column, dtype)

    def _same(self, survey: _Survey) -> None:
        if self._place.state() != survey.state:
            self._changed("another size or time")

    def _changed(self, how: str) -> None:
        raise SourceError(
            f"{self.name} changed while it was in use: {how}", hint="open it again once nobody writes to it"
        )


class _Lines(io.TextIOBase):
    """Text of a file, piece by piece: refused where it holds what a table may not hold.

    A refusal names the line. `delimiters` counts those read after `skip`; `zeros` tells whether a cell may be
    a number with a leading zero.
    """

    def __init__(self, raw: Unpacked, shown: str, encoding: str) -> None:
        super().__init__()
        self._raw, self._shown, self._encoding = raw, shown, encoding
        self._decoder = codecs.getincrementaldecoder(encoding)()
        self._kept = ""
        self._line, self._open = 1, 0
        self._ended = False
        self.left = CHUNK
        self.overdrawn = False
        self.count(",")

    def readable(self) -> bool:
        return True

    def count(self, delimiter: str) -> None:
        """Look out for this delimiter from here on."""
        self.delimiter, self.delimiters = delimiter, 0
        self._before, self.zeros = "", False
        # it begins with a plain sign, for which re searches fast; before it a cell begins, or its sign stands
        edge = rf"[^\s\"{re.escape(delimiter)}"
        self._zero = re.compile(rf"0(?<!{edge}+-]0)(?<!{edge}][+-]0)[0-9]")

    def skip(self, characters: int) -> None:
        """Read over the first characters."""
        while characters:
            text = self.read(_HEAD)
            self._kept = text[characters:]
            characters = max(0, characters - len(text))
            self.left = CHUNK
        self.count(self.delimiter)

    def read(self, size: int | None = -1) -> str:  # noqa: ARG002  (a piece is as long as it is)
        """Return the next piece of text, and none at the end."""
        if self._kept:
            text, self._kept = self._kept, ""
            return self._counted(text)
        text = ""
        while not text and not self._ended:
            block = self._raw.read(_BLOCK)
            self._ended = not block
            text = self._decoded(block)
        self._check(text)
        return self._counted(text)

    def _counted(self, text: str) -> str:
        self.delimiters += text.count(self.delimiter)
        if not self.zeros:
            text_before = self._before + text  # a cell may begin at the end of one piece
            self.zeros = self._zero.search(text_before) is not None
            self._before = text_before[-3:]
        return text

    def _decoded(self, block: bytes) -> str:
        try:
            return self._decoder.decode(block, final=not block)
        except UnicodeError as error:
            start = error.start if isinstance(error, UnicodeDecodeError) else 0
            found = block[start : start + 4].hex(" ")
            line = self._line + block[:start].count(b"\n")
        name = self._encoding.removesuffix("-sig")
        raise SourceError(
            f"{self._shown}, line {line}: bytes {found} are not {name}",
            hint="pass encoding= with the file's own, often 'cp1252', 'latin-1' or 'utf-16'",
        )

    def _check(self, text: str) -> None:
        if "\0" in text:
            line = self._line + text[: text.index("\0")].count("\n")
            raise SourceError(
                f"{self._shown}, line {line}: a NUL character",
                hint="pass encoding='utf-16' if it is that, or export the table as text again",
            )
        first = min((at for at in (text.find("\n"), text.find("\r")) if at >= 0), default=len(text))
        if self._open + first > LINE:
            raise SourceError(
                f"{self._shown}, line {self._line}: more than {LINE:,} characters without a line end",
                hint="check that it is a table of text, and cut it into shorter lines",
            )
        last = max(text.rfind("\n"), text.rfind("\r"))
        self._open = self._open + len(text) if last < 0 else len(text) - last - 1
        self._line += text.count("\n")
        self.left -= len(text)
        if self.left < 0:
            self.overdrawn = True
            raise SourceError(
                f"{self._shown}, near line {self._line}: the rows of one chunk take more than {CHUNK:,} "
                "characters",
                hint="close a quote that stays open, or pass a smaller rows=",
            )

    def split(self) -> Iterator[str]:
        """Yield line by line, with line ends."""
        rest = ""
        while True:
            self.left = CHUNK
            text = self.read()
            if not text:
                if rest:
                    yield rest
                return
            *parts, rest = _A_LINE.findall(rest + text)
            yield from parts

    def close(self) -> None:
        """Close the file."""
        if not self.closed:
            self._raw.close()
        super().close()
