"""What every source of rows can do: tell its columns, give its rows in chunks, and name its content."""

import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping
from html import escape
from typing import Any, ClassVar
from urllib.parse import unquote

import numpy as np
import pandas as pd

from twopm_kit.errors import SourceError

__all__ = ["CELLS", "MAX_COLUMNS", "DataSource", "checked_names", "redacted", "step", "write_up"]

#: A chunk holds at most this many cells, so that a wide table comes in fewer rows at a time.
CELLS = 1 << 22
#: More columns than this are taken for a fault of the file.
MAX_COLUMNS = 200_000

Tick = Callable[[int], object]


class DataSource(ABC):
    """Rows of one table, in chunks, as often as they are asked for.

    Every pass over `chunks` gives the same rows in the same order with the same dtypes, which are decided
    before the first chunk: a column that holds text in its last row is text in its first. An input that
    changes between two passes is refused.

    Parameters
    ----------
    name : str
        What messages and tables call the source; no password and no query of a URL is in it.
    rows : int
        Most rows of a chunk; a chunk of a wide table has fewer.

    Attributes
    ----------
    name : str
        As passed.
    rows : int
        As passed.
    """

    #: What the progress bar counts: "B" for bytes, "row" for rows.
    _unit: ClassVar[str] = "B"
    #: Whether it reads files through compression.
    unpacks: ClassVar[bool] = False

    def __init__(self, name: str, rows: int) -> None:
        if isinstance(rows, bool) or not isinstance(rows, int | np.integer) or rows < 1:
            raise SourceError(f"rows must be a positive whole number, not {rows!r}", hint="pass rows=65_536")
        self.name = name
        self.rows = int(rows)

    @property
    def columns(self) -> list[str] | None:
        """Names of the columns, in order."""
        return list(self._dtypes())

    @property
    def dtypes(self) -> dict[str, str]:
        """Dtype of every column: the same in each chunk."""
        return dict(self._dtypes())

    @property
    @abstractmethod
    def n_rows(self) -> int | None:
        """Number of rows, or None while it is not known."""

    @property
    @abstractmethod
    def n_bytes(self) -> int | None:
        """Number of bytes of the input as it is stored, or None if it has no such number."""

    @property
    def split(self) -> dict[str, "DataSource"]:
        """The sources of a folder with ``train/`` and ``val/``, by name; no other source has any."""
        return {}

    @abstractmethod
    def _dtypes(self) -> Mapping[str, str]:
        """Return the dtype of every column, decided for all rows."""

    @abstractmethod
    def _pieces(self, tick: Tick) -> Iterator[pd.DataFrame]:
        """Yield frames of at most `rows` rows; tell ``tick`` how much of the input is done."""

    @abstractmethod
    def fingerprint(self) -> bytes:
        """Return 32 bytes that name the content, to recognise the same input after an interruption.

        They are for the place where the data lies: whoever can guess rows can compare them with an
        unsalted hash, so it is never sent.
        """

    @abstractmethod
    def _decided(self) -> dict[str, str]:
        """Return what was found or decided about the input, in words."""

    def chunks(self, *, progress: bool = False) -> Iterator[pd.DataFrame]:
        """Yield the rows in order, a bounded number at a time.

        Parameters
        ----------
        progress : bool
            Show a bar, by bytes where the input has a size.

        Yields
        ------
        DataFrame
            At most `rows` rows; its index counts the rows of the whole source from 0. A source without
            rows yields one frame without rows.

        Raises
        ------
        SourceError
            If the input is damaged or has changed; the message says where.
        """
        from tqdm.auto import tqdm

        self._dtypes()
        total = self.n_bytes if self._unit == "B" else self.n_rows
        scale = self._unit == "B"
        bar = tqdm(
            total=total, desc=self.name, unit=self._unit, unit_scale=scale, leave=False, disable=not progress
        )
        start = 0
        with bar:
            for piece in filter(len, self._pieces(bar.update)):
                piece.index = pd.RangeIndex(start, start + len(piece))
                start += len(piece)
                yield piece
        if start == 0:
            yield pd.DataFrame({name: pd.Series(dtype=dtype) for name, dtype in self._dtypes().items()})

    def read(self) -> pd.DataFrame:
        """Return all rows in one frame; its index counts them from 0."""
        pieces = list(self.chunks())
        return pieces[0] if len(pieces) == 1 else pd.concat(pieces)

    def describe(self) -> str:
        """Return as text what the source is and what was decided about it: header, delimiter, dtypes."""
        facts = self._facts()
        width = max(map(len, facts)) + 2
        return "\n".join(f"{label:<{width}}{value}" for label, value in facts.items())

    def _facts(self) -> dict[str, str]:
        dtypes = self._dtypes()
        kinds: dict[str, list[str]] = {}
        for column, dtype in dtypes.items():
            kinds.setdefault(str(dtype), []).append(column)
        facts = {"source": self.name, **self._decided()}
        facts |= {} if self.n_rows is None else {"rows": f"{self.n_rows:,}"}
        facts |= {} if self.n_bytes is None else {"bytes": f"{self.n_bytes:,}"}
        return (
            facts | {"columns": f"{len(dtypes):,}"} | {kind: listed(names) for kind, names in kinds.items()}
        )

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name}>"

    def _repr_html_(self) -> str:
        cell = "padding:2px 12px 2px 0;text-align:left;vertical-align:top"
        lines = (
            f'<tr style="background:transparent"><th scope="row" style="{cell}">{escape(label)}</th>'
            f'<td style="{cell}">{escape(value)}</td></tr>'
            for label, value in self._facts().items()
        )
        return f'<table style="border-collapse:collapse">{"".join(lines)}</table>'


def checked_names(names: Iterable[Any], where: str) -> list[str]:
    """Return the names of columns without blanks around them, or refuse them.

    Raises
    ------
    SourceError
        If there are none or too many, or one is empty, not text, not printable, or there twice.
    """
    if isinstance(names, str) or not isinstance(names, Iterable):
        raise SourceError(
            f"{where} is a {type(names).__name__}; expected a list of names", hint='pass columns=["a", "b"]'
        )
    names = list(names)
    if not names:
        raise SourceError(f"{where} has no column", hint="pass a table with at least one column")
    if len(names) > MAX_COLUMNS:
        raise SourceError(
            f"{where} has {len(names):,} columns; at most {MAX_COLUMNS:,} are read",
            hint="check the delimiter, or cut the table into narrower ones",
        )
    seen: dict[str, int] = {}
    for at, name in enumerate(names, 1):
        if not isinstance(name, str):
            raise SourceError(
                f"{where}: the name of column {at} is {str(name)[:80]!r} ({type(name).__name__}), not text",
                hint="give every column a name that is text",
            )
        stripped = name.strip()
        if not stripped:
            raise SourceError(
                f"{where}: column {at} of {len(names)} has no name",
                hint="name it in the file, or pass columns= with all names",
            )
        if not stripped.isprintable():
            raise SourceError(
                f"{where}: the name of column {at} holds signs that do not print: {stripped[:80]!r}",
                hint="rename it in the file, or pass columns= with all names",
            )
        if stripped in seen:
            raise SourceError(
                f"{where}: columns {seen[stripped]} and {at} are both called {stripped[:80]!r}",
                hint="rename one of them, pass columns= with all names, or header=False if line 1 is data",
            )
        seen[stripped] = at
    return list(seen)


def step(rows: int, columns: int, bytes_per_row: float = 0.0, budget: int = 1 << 25) -> int:
    """Return how many rows a chunk has: at most ``rows``, and within the limits of cells and bytes."""
    fitting = budget / bytes_per_row if bytes_per_row else rows
    return max(1, int(min(rows, CELLS // max(columns, 1), fitting)))


def redacted(words: object, secrets: Iterable[str]) -> str:
    """Return a library's message on one line, shortened, with every secret in it struck out."""
    text = str(words)
    for secret in sorted({form for one in secrets for form in (one, unquote(one)) if form}, key=len)[::-1]:
        text = text.replace(secret, "***")
    text = re.sub(r"://[^/@\s]*@", "://***@", text)
    return " ".join(text.split())[:300]


def listed(names: list[str]) -> str:
    """Return the first names as text."""
    return ", ".join(names[:8]) + (f" … ({len(names):,})" if len(names) > 8 else "")


def write_up(error: BaseException, secrets: Iterable[str] = ()) -> str:
    """Return what went wrong in a library, in its words and without secrets."""
    return f"{type(error).__name__}: {redacted(error, secrets)}"
