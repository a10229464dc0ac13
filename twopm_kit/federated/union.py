"""Which categories all nodes hold together, found in a sum that does not say which node holds what."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from hashlib import blake2b
from html import escape
from typing import Any, Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from twopm_kit.errors import SchemaError, TaskError
from twopm_kit.federated.arguments import column_names, whole
from twopm_kit.federated.result import FederatedResult, RunRecord
from twopm_kit.federated.statistics import exact_lanes, exact_rounds
from twopm_kit.federated.task import Criteria, State, Task, Update
from twopm_kit.secagg import Decoded, RoundConfig
from twopm_kit.vsies.field import MAX_NAME, is_label

__all__ = ["TABLES", "WHOLE", "CategoryUnion", "CategoryUnionResult", "LookupTable", "held_categories"]

TABLES: Final = 3
"""Tables that are filled before a union is given up, each hashed afresh."""
WHOLE: Final = 2.0**49
"""Bound of lanes that carry whole numbers: with it, their step is 1."""
_HASHES: Final = 4
_SPARE_ROUNDS: Final = 6
_WORD: Final = 4  # bytes of a name in one lane: many nodes' words still add up exactly in float64
_MOST_CATEGORIES: Final = 4096
_MOST_BYTES: Final = 256  # 64 characters of four bytes
_MOST_COLUMNS: Final = 1024

Lanes = NDArray[np.int64]
Entry = tuple[int, str]
"""Number of a column and a category."""


@dataclass(frozen=True)
class LookupTable:
    """An invertible Bloom lookup table: a set that can be added up, and read back from the sum.

    Each entry is added to one cell in each of four parts of the table: 1 to a counter, and its column, the
    words of its name and a check word to lanes of their own. A cell to which only one entry was added, by
    however many nodes, is a multiple of that entry's row; once it is read, it is taken out of its other
    cells, which leaves more cells with one entry, until nothing is left.

    With n entries and 1.5 n + 24 cells that fails for fewer than one set in a hundred (simulated, 8 to 1024
    entries; the limit of large tables is 1.295 n). Then the same entries are hashed into a second table, and
    both are read as one.

    Attributes
    ----------
    max_categories : int
        Entries that the table is made for, of all columns together.
    max_bytes : int
        Longest name, in bytes of UTF-8.
    salt : str
        Public key of the hash functions.

    References
    ----------
    Goodrich and Mitzenmacher, "Invertible Bloom Lookup Tables", Allerton 2011.
    """

    max_categories: int
    max_bytes: int
    salt: str

    @property
    def cells(self) -> int:
        """Number of cells."""
        return _HASHES * -(-(3 * self.max_categories // 2 + 24) // _HASHES)

    @property
    def lanes(self) -> int:
        """Lanes of one cell: counter, column, words, check."""
        return 3 + -(-self.max_bytes // _WORD)

    @property
    def size(self) -> int:
        """Lanes of the whole table."""
        return self.cells * self.lanes

    def filled(self, entries: Iterable[Entry], table: int) -> Lanes:
        """Return one node's table, shape (cells, lanes).

        Parameters
        ----------
        entries : iterable of (int, str)
            Columns and categories, each pair once; names have been checked.
        table : int
            Which of the tables; each has hash functions of its own.
        """
        found = np.zeros((self.cells, self.lanes), np.int64)
        for column, name in entries:
            row, cells = self._row(column, name.encode(), table)
            found[cells] += row
        return found

    def read(self, tables: Sequence[Lanes], nodes: int) -> dict[tuple[int, bytes], int] | None:
        """Return the entries in a sum of tables, with the number of nodes that hold each.

        Parameters
        ----------
        tables : sequence of int64 arrays, shape (cells, lanes)
            Sums over the same nodes, in order. If they are over others, as many of the newest are taken as
            agree.
        nodes : int
            Number of nodes: no entry is held by more.

        Returns
        -------
        dict or None
            None if something is left that is no entry: too many entries, or a node that does not compute.
        """
        for first in range(len(tables)):
            found = self._peel({at: tables[at].copy() for at in range(first, len(tables))}, nodes)
            if found is not None:
                return found
        return None

    def _peel(self, tables: dict[int, Lanes], nodes: int) -> dict[tuple[int, bytes], int] | None:
        found: dict[tuple[int, bytes], int] = {}
        waiting = [(at, int(cell)) for at, table in tables.items() for cell in np.flatnonzero(table[:, 0])]
        # An honest table never gives more entries than cells; one made to never end is given up here.
        while waiting and len(found) <= len(tables) * self.cells:
            at, cell = waiting.pop()
            entry = self._single(tables[at][cell], at, cell, nodes)
            if entry is None or entry in found:
                continue
            found[entry] = count = int(tables[at][cell, 0])
            for other, table in tables.items():
                row, cells = self._row(*entry, other)
                table[cells] -= count * row
                waiting += [(other, int(place)) for place in cells]
        return None if any(table.any() for table in tables.values()) else found

    def _single(self, lanes: Lanes, table: int, cell: int, nodes: int) -> tuple[int, bytes] | None:
        """Return the one entry of a cell, or None if it holds none, several, or what nobody may send."""
        count = int(lanes[0])
        if not 1 <= count <= nodes or (lanes % count).any():
            return None
        row = lanes // count
        if row.min() < 0 or row.max() >= 1 << (8 * _WORD):
            return None
        entry = int(row[1]), row[2:-1].astype(">u4").tobytes().rstrip(b"\0")
        expected, cells = self._row(*entry, table)
        return entry if cell in cells and np.array_equal(row, expected) else None

    def _row(self, column: int, name: bytes, table: int) -> tuple[Lanes, NDArray[np.int64]]:
        """Return what one entry adds to each of its cells, and the cells."""
        words = np.frombuffer(name.ljust(_WORD * (self.lanes - 3), b"\0"), ">u4").astype(np.int64)
        digest = blake2b(
            column.to_bytes(_WORD) + name,
            digest_size=8 * _HASHES + _WORD,
            key=blake2b(self.salt.encode(), digest_size=32).digest(),
            salt=table.to_bytes(8),
            person=b"twopm/union/v1",
        ).digest()
        part = self.cells // _HASHES
        drawn = np.frombuffer(digest, ">u8", _HASHES)
        cells = (drawn % np.uint64(part)).astype(np.int64) + part * np.arange(_HASHES)
        return np.array([1, column, *words, int.from_bytes(digest[-_WORD:])], np.int64), cells


class CategoryUnion(Task):
    """The categories that the nodes' rows hold, and how many nodes hold each, but not which ones.

    A category is a text of 1 to 64 printable characters without spaces at its ends, as in a ``Schema``, and
    in Unicode's composed form NFC, so that what looks equal is equal. Rows that hold other texts are refused,
    not changed. Letter case and spellings are compared as they are.

    Parameters
    ----------
    name : str
        Name for people.
    columns : sequence of str
        Columns of text; missing values are left out.
    max_categories : int
        Different categories that all nodes' columns may hold together, up to 4096. It fixes the size of the
        update: about 17 lanes of 64 bits a category with names of 32 bytes.
    max_bytes : int
        Longest category, in bytes of UTF-8, up to 256.
    min_nodes : int
        Categories that fewer nodes hold are counted by the result, and not named. See the notes.
    salt : str
        Public text that keys the hashing. A fresh one, such as ``secrets.token_hex(16)``, keeps people who
        choose categories from choosing ones that collide.
    min_clients, max_clients : int
        Fewest survivors of a round, and most members.
    criteria : Criteria, optional
        Who may join.

    Notes
    -----
    One round, as a rule; up to three tables are filled when one cannot be read, with fresh hash functions.
    See `LookupTable` for how.

    The sum shows every category and the number of its nodes to whoever can read it: to everybody in a public
    round, to the owner and the verifiers in a sealed one. That includes categories that one node holds: a
    category that names its holder (a town with one hospital, a patient's name in the wrong column) is told.
    ``min_nodes`` keeps rare ones out of what the result prints and passes on; it hides nothing from those
    who read the sum itself. All nodes but one, together, learn the categories of the last one. Another round
    over other survivors tells what the lost node held.

    A node that lies can name categories that nobody holds, raise a category's count up to the number of
    nodes, lower it (a category that it knows and few hold can vanish so), or spoil the table, so that no
    round is complete. It cannot learn who holds what. Names that no honest node may send, such as bytes that
    are no text, are left out and counted.
    """

    needs_all_nodes = True

    def __init__(
        self,
        name: str,
        columns: Sequence[str],
        *,
        max_categories: int = 128,
        max_bytes: int = 32,
        min_nodes: int = 1,
        salt: str = "",
        min_clients: int = 2,
        max_clients: int = 50,
        criteria: Criteria | None = None,
    ) -> None:
        super().__init__(
            name,
            max_rounds=TABLES + _SPARE_ROUNDS,
            min_clients=min_clients,
            max_clients=max_clients,
            criteria=criteria,
        )
        self.columns = column_names("columns", columns)
        if strange := [name for name in self.columns if not isinstance(name, str | int)]:
            raise TaskError(
                f"columns names a {type(strange[0]).__name__}; expected names of columns",
                hint='pass ["town"]',
            )
        self.min_nodes = whole("min_nodes", min_nodes)
        if len(self.columns) > _MOST_COLUMNS:
            raise TaskError(
                f"{len(self.columns)} columns were given", hint=f"ask for up to {_MOST_COLUMNS} at a time"
            )
        self.table = lookup_table(max_categories, max_bytes, salt)

    def round_config(self) -> RoundConfig:
        """Return 64-bit lanes that carry whole numbers: their step is 1."""
        return exact_lanes(self, WHOLE)

    def adapted(self, own: RoundConfig, wanted: RoundConfig) -> RoundConfig:
        """Keep the encoding, whatever a network wants: a cut or rounded table cannot be read."""
        return exact_rounds(own, wanted)

    def settings(self) -> dict[str, Any]:
        """Return what fixes the table beside the code."""
        return {
            "columns": self.columns,
            "max_categories": self.table.max_categories,
            "max_bytes": self.table.max_bytes,
            "min_nodes": self.min_nodes,
            "salt": self.table.salt,
        }

    def initial_state(self) -> State:
        """Return that no table is known yet."""
        return {
            "tables": np.zeros((TABLES, self.table.cells, self.table.lanes), np.int64),
            "nodes": np.zeros(TABLES, np.int64),
            "complete": np.array(0, np.int64),
        }

    def update_size(self) -> int:
        """Return the lanes of one table."""
        return self.table.size

    def check(self, frame: pd.DataFrame) -> None:
        """Refuse rows with a missing column, or with a category that cannot be sent."""
        super().check(frame)
        held_categories(frame, self.columns, self.table)

    def local_update(self, state: State, frame: pd.DataFrame, round: int) -> Update:
        """Fill the next table with this node's categories, each once."""
        del round
        entries = held_categories(frame, self.columns, self.table)
        return Update(self.table.filled(entries, _taken(state)).ravel().astype(np.float64))

    def merge(self, state: State, aggregate: Decoded) -> State:
        """Keep the sum, and tell whether it can be read together with those before."""
        at = _taken(state)
        state = {name: value.copy() for name, value in state.items()}
        state["tables"][at] = np.round(aggregate.sum).astype(np.int64).reshape(self.table.cells, -1)
        state["nodes"][at] = aggregate.weight
        state["complete"] = np.array(self.entries(state) is not None, np.int64)
        return state

    def finished(self, state: State) -> bool:
        """Tell whether the union is known, or all tables are filled."""
        return bool(state["complete"]) or _taken(state) == TABLES

    def entries(self, state: State) -> dict[tuple[int, bytes], int] | None:
        """Return what the tables hold, names as hostile bytes; None if they cannot be read."""
        taken = _taken(state)
        if taken == 0:
            return None
        return self.table.read(list(state["tables"][:taken]), int(state["nodes"][:taken].max()))

    def result(self, state: State, record: RunRecord) -> "CategoryUnionResult":
        """Return the categories by column."""
        return CategoryUnionResult(self, state, record)


def lookup_table(max_categories: int, max_bytes: int, salt: str) -> LookupTable:
    """Return a table of a size that people have chosen.

    Raises
    ------
    TaskError
        If a number is out of range, or the salt is no text.
    """
    most, longest = whole("max_categories", max_categories), whole("max_bytes", max_bytes)
    if most > _MOST_CATEGORIES or longest > _MOST_BYTES:
        raise TaskError(
            f"max_categories is {most} and max_bytes is {longest}",
            hint=f"choose up to {_MOST_CATEGORIES} categories of up to {_MOST_BYTES} bytes",
        )
    if not isinstance(salt, str) or not salt.isascii():
        raise TaskError(f"salt is {salt!r}", hint="pass a text of ASCII, such as secrets.token_hex(16)")
    return LookupTable(most, longest, salt)


def held_categories(frame: pd.DataFrame, columns: Sequence[str], table: LookupTable) -> list[Entry]:
    """Return the categories of a node's rows, each once.

    Raises
    ------
    SchemaError
        If a column is missing, or holds what cannot be sent. The message names a row, never its text.
    """
    entries = [(at, text) for at, column in enumerate(columns) for text in _texts(frame, column, table)]
    if len(entries) > table.max_categories:
        raise SchemaError(
            f"the columns {list(columns)} hold {len(entries)} categories, "
            f"the task has room for {table.max_categories}",
            hint="leave out columns of free text, or make the task with a larger max_categories",
        )
    return entries


def _texts(frame: pd.DataFrame, column: str, table: LookupTable) -> list[str]:
    if (frame.columns == column).sum() != 1:
        raise SchemaError(
            f"column {column!r} is not in the frame once; it has {list(frame.columns)}",
            hint="name columns that every node's frame has",
        )
    held = frame[column].dropna().astype(object)
    first: dict[Any, Any] = {}
    for row, value in zip(held.index, held, strict=True):
        if not isinstance(value, str):
            raise SchemaError(
                f"column {column!r} holds a {type(value).__name__} in row {row}, a text was expected",
                hint=f"write categories as text first: frame[{column!r}].astype(str)",
            )
        first.setdefault(value, row)
    for text, row in first.items():
        fault = text_fault(text, table.max_bytes)
        if fault:
            raise SchemaError(f"the category of column {column!r} in row {row} {fault[0]}", hint=fault[1])
    return [str(text) for text in first]


def text_fault(text: str, max_bytes: int) -> tuple[str, str] | None:
    """Return why a text cannot be sent as a category, and what to do; None if it can."""
    if not is_label(text):
        return (
            f"is not of 1 to {MAX_NAME} printable characters in Unicode's form NFC and not spaced",
            "clean the column: frame[column].str.strip().str.normalize('NFC')",
        )
    if len(text.encode()) > max_bytes:
        return f"has more than {max_bytes} bytes", "shorten it, or make the task with a larger max_bytes"
    return None


def read_names(
    entries: dict[tuple[int, bytes], int] | None, columns: Sequence[str], table: LookupTable
) -> tuple[dict[str, dict[str, int]], int]:
    """Return the nodes of every category by column, sorted, and how many entries are no categories.

    Raises
    ------
    TaskError
        If the tables could not be read.
    """
    if entries is None:
        raise TaskError(
            f"{TABLES} tables for {table.max_categories} categories cannot be read: the nodes hold more "
            "than fit in, or a node does not compute",
            hint="run the task again with a larger max_categories",
        )
    found: dict[str, dict[str, int]] = {column: {} for column in columns}
    refused = 0
    for (column, name), nodes in entries.items():
        try:
            text = name.decode()
        except UnicodeDecodeError:
            refused += 1
            continue
        if column >= len(columns) or text_fault(text, table.max_bytes):
            refused += 1
        else:
            found[columns[column]][text] = nodes
    return {column: dict(sorted(names.items())) for column, names in found.items()}, refused


def _taken(state: State) -> int:
    """Return how many tables are known; every sum is over at least two nodes."""
    return int(np.count_nonzero(state["nodes"]))


class CategoryUnionResult(FederatedResult):
    """Categories by column: ``result["colour"]`` is a sorted tuple.

    What fewer than the task's ``min_nodes`` nodes hold is in `hidden` only. Keeping it back is a courtesy of
    this object: the sum that it was read from shows everything, see ``CategoryUnion``.
    """

    task: CategoryUnion

    def __init__(self, task: CategoryUnion, state: State, record: RunRecord) -> None:
        super().__init__(task, state, record)
        self.task = task

    @property
    def complete(self) -> bool:
        """Whether the tables could be read; if not, asking for categories raises TaskError."""
        return bool(self.state["complete"])

    @property
    def categories(self) -> dict[str, tuple[str, ...]]:
        """Categories by column, sorted by code points."""
        return {column: tuple(names) for column, names in self._shown().items()}

    @property
    def nodes(self) -> pd.Series:
        """Number of nodes that hold each category, by column and category."""
        shown = {(column, name): n for column, names in self._shown().items() for name, n in names.items()}
        columns, names = [column for column, _ in shown], [name for _, name in shown]
        index = pd.MultiIndex.from_arrays([columns, names], names=["column", "category"])
        return pd.Series(list(shown.values()), index=index, name="nodes", dtype=np.int64)

    @property
    def hidden(self) -> dict[str, int]:
        """Number of categories by column that too few nodes hold to be named."""
        return {
            column: sum(n < self.task.min_nodes for n in names.values())
            for column, names in self._names[0].items()
        }

    @property
    def refused(self) -> int:
        """Number of entries that are no categories: only a node that does not compute sends them."""
        return self._names[1]

    def __getitem__(self, column: str) -> tuple[str, ...]:
        if column not in self.task.columns:
            raise TaskError(f"{column!r} was not asked", hint=f"take one of {self.task.columns}")
        return self.categories[column]

    @cached_property
    def _names(self) -> tuple[dict[str, dict[str, int]], int]:
        return read_names(self.task.entries(self.state), self.task.columns, self.task.table)

    def _shown(self) -> dict[str, dict[str, int]]:
        return {
            column: {name: n for name, n in names.items() if n >= self.task.min_nodes}
            for column, names in self._names[0].items()
        }

    def __repr__(self) -> str:
        if not self.complete:
            return f"{super().__repr__()} NOT complete: the tables cannot be read"
        return "\n".join(
            [
                super().__repr__(),
                *(f"{column}: {list(names)}{self._note(column)}" for column, names in self._shown().items()),
            ]
        )

    def _note(self, column: str) -> str:
        kept = self.hidden[column]
        return f", {kept} held by fewer than {self.task.min_nodes} nodes" if kept else ""

    def _repr_html_(self) -> str:
        if not self.complete:
            return f"<p><b>{escape(repr(self))}</b></p>"
        rows = "".join(
            f"<tr><td>{escape(str(column))}</td><td>{escape(name)}</td><td>{n}</td></tr>"
            for column, names in self._shown().items()
            for name, n in names.items()
        )
        notes = [f"{column}{self._note(column)}" for column in self._shown() if self._note(column)]
        below = "".join(f"<p>{escape(note)}</p>" for note in notes)
        return (
            f"<p><b>{escape(super().__repr__())}</b></p><table><thead><tr><th>column</th><th>category</th>"
            f"<th>nodes</th></tr></thead><tbody>{rows}</tbody></table>{below}"
        )
