"""Reads a table or the answer to a query from a database behind an SQLAlchemy URL, and only reads."""

import hashlib
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar

import pandas as pd

from twopm_kit.errors import SourceError
from twopm_kit.vsies.sources.base import DataSource, Tick, checked_names, step, write_up
from twopm_kit.vsies.sources.cells import build, checked_dtypes, dtype_of, kind, kinds_allowed

__all__ = ["DIALECTS", "SqlSource"]

#: First parts of URLs that name a database.
DIALECTS = ("sqlite", "postgresql", "mysql", "mariadb", "mssql", "oracle", "duckdb")
_READS = re.compile(r"\s*(select|with|values|table)\b", re.IGNORECASE)
_COMMENTS = re.compile(r"\A(\s*(--[^\n]*\n|/\*.*?\*/))*", re.DOTALL)


class SqlSource(DataSource):
    """Rows of a database.

    A table is read in the order of its primary key, or of all its columns if it has none. A query decides on
    its own order: give it an ORDER BY, or two passes may differ. Rows are streamed from the server where its
    driver can. Nothing is written: the text must begin as a query, the connection is opened read-only where
    the database has such a thing (SQLite, PostgreSQL, MySQL, MariaDB), and it is always rolled back.

    Dtypes follow the rules of text tables, decided from the values of all rows; decimals are ``float64``,
    dates and times ``datetime64[us]``; raw bytes are refused.

    Parameters
    ----------
    url : str
        An SQLAlchemy URL. Password and options in it are never shown.
    rows : int
        Most rows of a chunk.
    query : str, optional
        One SELECT, VALUES or WITH … SELECT.
    table : str, optional
        Name of a table or view, perhaps ``schema.table``; instead of a query.
    dtypes : mapping, optional
        Dtypes by column name.
    """

    _unit: ClassVar[str] = "row"

    def __init__(
        self,
        url: str,
        rows: int,
        *,
        query: str | None = None,
        table: str | None = None,
        dtypes: Mapping[str, Any] | None = None,
    ) -> None:
        from sqlalchemy.engine import make_url

        words, parsed = "", None
        try:
            parsed = make_url(url)
        except Exception as error:  # noqa: BLE001  (its message may repeat the URL, so only its type is told)
            words = type(error).__name__
        if parsed is None:
            raise SourceError(
                f"this is not an SQLAlchemy URL ({words})", hint="pass dialect://user@host/database"
            )
        host = f"{parsed.host or ''}{f':{parsed.port}' if parsed.port else ''}"
        super().__init__(f"{parsed.drivername}://{host}/{parsed.database or ''}", rows)
        if (query is None) == (table is None):
            raise SourceError(
                f"{self.name}: pass either query= or table=", hint="for example table='patients'"
            )
        if query is not None and not _READS.match(_COMMENTS.sub("", query)):
            raise SourceError(
                f"the query begins with {query.strip()[:40]!r}; expected SELECT, VALUES or WITH",
                hint="pass a query that only reads",
            )
        self._url, self._query, self._table, self._asked = parsed, query, table, checked_dtypes(dtypes)
        values = (
            one for some in parsed.query.values() for one in ([some] if isinstance(some, str) else some)
        )
        self._secrets = [parsed.password or "", *values, url]
        self._found: dict[str, str] | None = None
        self._length: int | None = None

    @contextmanager
    def _telling(self) -> Iterator[None]:
        words = ""
        try:
            yield
        except (SourceError, GeneratorExit, MemoryError):
            raise
        except Exception as error:  # noqa: BLE001  (every driver raises its own)
            words = write_up(getattr(error, "orig", None) or error, self._secrets)
        if words:
            raise SourceError(
                f"{self.name} does not answer as asked: {words}",
                hint="check the URL, the driver, the names in the query, and the right to read",
            ) from None  # the driver's own message may repeat a secret

    @contextmanager
    def _connected(self) -> Iterator[Any]:
        from sqlalchemy import create_engine, event, pool, text

        dialect = self._url.get_backend_name()
        url = self._url
        if dialect == "sqlite" and url.database and url.database != ":memory:" and "uri" not in url.query:
            path = Path(url.database)
            if not path.is_file():
                raise SourceError(
                    f"there is no database {self.name}", hint="check the path: sqlite:///file.db"
                )
            with path.open("rb") as stream:
                head = stream.read(16)
            if head and head != b"SQLite format 3\0":
                raise SourceError(
                    f"{self.name} is not an SQLite file: it begins {head!r}", hint="check the path"
                )
            url = url.set(database=path.resolve().as_uri(), query={**url.query, "mode": "ro", "uri": "true"})
        engine = create_engine(url, poolclass=pool.NullPool, hide_parameters=True)
        if dialect == "sqlite":
            event.listen(engine, "connect", lambda raw, _: raw.execute("PRAGMA query_only = ON"))
        options: dict[str, Any] = {"stream_results": True, "max_row_buffer": 10_000}
        if dialect == "postgresql":
            options["postgresql_readonly"] = True
        try:
            with engine.connect() as connection:
                reading = connection.execution_options(**options)
                if dialect in ("mysql", "mariadb"):
                    reading.execute(text("SET SESSION TRANSACTION READ ONLY"))
                    reading.rollback()
                yield reading
                reading.rollback()
        finally:
            engine.dispose()

    def _statement(self, connection: Any) -> Any:
        from sqlalchemy import MetaData, Table, inspect, select, text

        if self._query is not None:
            # a colon in it is a colon, not the name of a parameter
            return text(self._query.rstrip().rstrip(";").replace(":", "\\:"))
        schema, _, name = (self._table or "").rpartition(".")
        known = inspect(connection)
        if not known.has_table(name, schema=schema or None) and name not in known.get_view_names(
            schema or None
        ):
            raise SourceError(
                f"{self.name} has no table {self._table!r}",
                hint=f"choose from {known.get_table_names(schema or None)[:8]}, or name its schema",
            )
        table = Table(name, MetaData(), schema=schema or None, autoload_with=connection)
        return select(table).order_by(*(list(table.primary_key.columns) or list(table.columns)))

    def _answers(self) -> Iterator[tuple[list[str], list[Any]]]:
        """Yield the names of the columns first without rows, then with some at a time."""
        with self._telling(), self._connected() as connection:
            result = connection.execute(self._statement(connection))
            names = checked_names(result.keys(), self.name)
            strange = [name for name in self._asked if name not in names]
            if strange:
                raise SourceError(
                    f"dtypes= names column {strange[0]!r}, which is not there", hint=f"use {names[:8]}"
                )
            yield names, []
            for some in result.partitions(step(self.rows, len(names))):
                yield names, list(some)

    def _dtypes(self) -> Mapping[str, str]:
        if self._found is not None:
            return self._found
        seen: dict[str, set[str]] = {}
        done = 0
        for names, some in self._answers():
            seen = seen or {name: set() for name in names}
            for at, name in enumerate(names):
                allowed = kinds_allowed(self._asked.get(name, "str"))
                for row, cells in enumerate(some, done + 1):
                    found = kind(cells[at])
                    if isinstance(cells[at], bytes | bytearray | memoryview) or found not in allowed:
                        what = "raw bytes" if found == "text" and not isinstance(cells[at], str) else found
                        raise SourceError(
                            f"{self.name}, row {row}, column {name!r}: {what} does not fit "
                            f"{self._asked.get(name, 'numbers, truth values, times or texts')}",
                            hint="leave the column out of the query, cast it there, or ask for another dtype",
                        )
                    seen[name].add(found)
            done += len(some)
        self._found = {name: self._asked.get(name) or dtype_of(kinds) for name, kinds in seen.items()}
        self._length = done
        return self._found

    def _pieces(self, tick: Tick) -> Iterator[pd.DataFrame]:
        dtypes, done, words = self._dtypes(), 0, ""
        for names, some in self._answers():
            if not some:
                continue
            try:
                frame = pd.DataFrame({
                    name: build([cells[at] for cells in some], dtypes[name]) for at, name in enumerate(names)
                })  # fmt: skip
            except (KeyError, TypeError, ValueError) as error:
                words = write_up(error, self._secrets)
                break
            tick(len(frame))
            done += len(frame)
            yield frame
        if words or done != self._length:
            raise SourceError(
                f"{self.name} answers otherwise than in the first pass: {words or f'{done:,} rows'}",
                hint="read while nobody writes, or copy the rows into a file first",
            )

    @property
    def n_rows(self) -> int | None:
        """Number of rows, or None before the first pass."""
        return self._length

    @property
    def n_bytes(self) -> None:
        """None: a query has no size."""
        return

    def fingerprint(self) -> bytes:
        """Return the SHA-256 over the names and over type and text of every cell, in order."""
        digest = hashlib.sha256()
        for names, some in self._answers():
            if not some:
                digest.update(repr(names).encode())
            for cells in some:
                digest.update(repr([(type(cell).__name__, str(cell)) for cell in cells]).encode())
        return digest.digest()

    def _decided(self) -> dict[str, str]:
        if self._table is not None:
            return {"table": self._table, "order": "primary key, or all columns"}
        return {"query": " ".join((self._query or "").split())[:300], "order": "as the query says"}
