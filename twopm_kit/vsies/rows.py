"""Commits to all rows of a table with one root: single rows can be opened, the others stay hidden.

A row becomes one or more entries of 0G storage, 256 bytes each: 32 bytes of salt, then 28 values as signed
64-bit integers (big-endian), in units of each field's resolution. The root over all entries is a 0G storage
root: the walk that proves a piece of a stored file proves a row, off chain and on chain. Without its salt an
entry's hash says nothing about the row: equal rows have unequal entries, and a guessed row cannot be tried.

**A row that is opened is public for ever.** Commit in this way to data of which a sample may be seen; for
data of which no row may be seen there are the zero-knowledge proofs of `twopm_kit.vsies.proofs`.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import TYPE_CHECKING, Any, ClassVar, Final

import numpy as np
import pandas as pd
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from eth_hash.auto import keccak
from numpy.typing import NDArray

from twopm_kit.errors import DataError, ProofRefused, SchemaError, TwoPMError
from twopm_kit.secrecy import KeptSecret
from twopm_kit.vsies.storage.entries import EntryTree, entry_root, padded_entries

if TYPE_CHECKING:
    from twopm_kit.vsies.field import Field
    from twopm_kit.vsies.schema import Schema

__all__ = ["MAX_FIELDS", "MAX_ROW_ENTRIES", "MISSING", "RowCommitment", "RowLayout", "RowOpening"]

ENTRY_BYTES: Final = 256
SALT_BYTES: Final = 32
ENTRY_VALUES: Final = 28
MAX_FIELDS: Final = 224
#: Most entries of one commitment.
MAX_ROW_ENTRIES: Final = 1 << 32
#: Stands for a missing value. No value and no end of a range is ever this number.
MISSING: Final = -(1 << 63)

_HIGHEST: Final = (1 << 63) - 1
_LABEL: Final = b"twopm/vsies/v1/rows"


class RowLayout:
    """How the rows of a schema are written as numbers, and in which range each number must lie. Public.

    =========  ====================================================================================
    float      nearest multiple of the resolution, half to even; the resolution must be given
    int        the number itself, or the nearest multiple of the resolution if there is one
    bool       0 or 1
    category   place in the schema's list of categories; the list must be given
    missing    -2**63, whatever the field
    =========  ====================================================================================

    The ends of a range are rounded as the values are, so a float may lie half a resolution outside it.

    Parameters
    ----------
    schema : Schema
        At most 224 fields.

    Attributes
    ----------
    ranges : tuple of (int, int, bool)
        For each field: lowest and highest number, and whether a value may be missing.
    ranges_hash : bytes
        keccak256 of the ranges in the contract ABI's encoding; what a check keeps of them.
    schema_hash : bytes
        Of the schema.
    row_entries : int
        Entries of one row.

    Raises
    ------
    SchemaError
        A field cannot be written in this way; the message names it.
    """

    def __init__(self, schema: "Schema") -> None:
        passed: Any = schema
        if isinstance(passed, pd.DataFrame) or not hasattr(passed, "fields"):
            raise SchemaError(
                f"a {type(schema).__name__} was passed as schema; expected a Schema",
                hint="pass the schema first, then what schema.validate(frame) returned",
            )
        self.fields: tuple[Field, ...] = schema.fields
        if not 1 <= len(self.fields) <= MAX_FIELDS:
            raise SchemaError(
                f"{len(self.fields)} fields were passed; rows are written with 1 to {MAX_FIELDS}",
                hint="commit to the columns that matter, or to several tables",
            )
        self.schema_hash: bytes = schema.hash
        self.ranges: tuple[tuple[int, int, bool], ...] = tuple(map(_range, self.fields))
        self.ranges_hash = keccak(_encoded(self.ranges))
        self.row_entries = -(-len(self.fields) // ENTRY_VALUES)

    def n_entries(self, n_rows: int) -> int:
        """Return how many entries so many rows have in storage, padding included."""
        return int(padded_entries(_count(n_rows) * self.row_entries * ENTRY_BYTES))

    def numbers(self, frame: pd.DataFrame) -> NDArray[np.int64]:
        """Write a table as numbers. Ranges are not looked at: that is what a check is for.

        Parameters
        ----------
        frame : pandas.DataFrame
            As ``schema.validate`` returned it.

        Returns
        -------
        numpy.ndarray
            int64, shape (rows, fields).

        Raises
        ------
        SchemaError
            A column is missing, or a value cannot be written.
        """
        if not isinstance(frame, pd.DataFrame):
            raise SchemaError(
                f"a {type(frame).__name__} was passed; expected a pandas DataFrame",
                hint="pass what schema.validate(frame) returned, or a list of such frames",
            )
        out = np.empty((len(frame), len(self.fields)), np.int64)
        for i, field in enumerate(self.fields):
            if field.name not in frame.columns:
                raise SchemaError(
                    f"the column {field.name!r} is missing", hint="pass what schema.validate(frame) returned"
                )
            out[:, i] = _written(field, frame[field.name])
        return out

    def values(self, numbers: Sequence[int]) -> dict[str, Any]:
        """Read one row's numbers back: float, int, bool or str; None where a value is missing.

        Raises
        ------
        DataError
            They are not one whole number for each field.
        """
        self._demand_row(numbers)
        return {
            field.name: _read(field, int(number)) for field, number in zip(self.fields, numbers, strict=True)
        }

    def demand(self, numbers: Sequence[int], row: int) -> None:
        """Check one row's numbers against the ranges, as the contract does.

        Raises
        ------
        ProofRefused
            The first value that is out of its range, by field.
        """
        self._demand_row(numbers)
        for field, number, (low, high, nullable) in zip(self.fields, numbers, self.ranges, strict=True):
            if number == MISSING:
                wrong = "" if nullable else "value is missing"
            else:
                wrong = (
                    f"{number:,} is below {low:,}"
                    if number < low
                    else f"{number:,} is above {high:,}"
                    if number > high
                    else ""
                )
            if wrong:
                raise ProofRefused(
                    f"row {row}, field {field.name!r}: {wrong} (in units of the resolution)",
                    hint="refuse the table, or correct it with schema.validate and commit again",
                )

    def _demand_row(self, numbers: Any) -> None:
        fit = hasattr(numbers, "__len__") and len(numbers) == len(self.fields)
        if not fit or not all(isinstance(number, int | np.integer) for number in numbers):
            raise DataError(
                f"a row is {len(self.fields)} whole numbers, one for each field",
                hint="pass a row of what layout.numbers(frame) returned",
            )

    def __repr__(self) -> str:
        return f"<RowLayout: {len(self.fields)} fields, {self.row_entries * ENTRY_BYTES} bytes a row>"


@dataclass(frozen=True, repr=False)
class RowOpening:
    """One row, opened: whoever has it knows the row, and can check that it was committed to.

    Attributes
    ----------
    row : int
        Number of the row, from 0.
    entries : bytes
        256 bytes for each entry of the row.
    paths : tuple of tuple of bytes
        For each entry: the siblings (32 bytes) on its way to the root, the lowest first.
    """

    row: int
    entries: bytes
    paths: tuple[tuple[bytes, ...], ...]

    def verify(self, layout: RowLayout, root: bytes, n_rows: int) -> dict[str, Any]:
        """Check that the row stands at its place under a root with every value in its range; return it.

        Parameters
        ----------
        layout : RowLayout
            Of the schema that the table should follow.
        root : bytes
            The commitment, 32 bytes.
        n_rows : int
            Rows of the table: they decide where each entry is.

        Returns
        -------
        dict of str to object
            The values by field; None where one is missing.

        Raises
        ------
        ProofRefused
            The row is not there, or a value is out of its range.
        """
        if not isinstance(layout, RowLayout) or not isinstance(root, bytes) or len(root) != 32:
            raise DataError(
                f"a {type(layout).__name__} and a {type(root).__name__} were passed; expected a RowLayout "
                "and a root of 32 bytes",
                hint="pass RowLayout(schema), and the root as bytes: bytes.fromhex(text[2:]) reads 0x…",
            )
        n_rows = _count(n_rows)
        if not 0 <= self.row < n_rows <= MAX_ROW_ENTRIES // layout.row_entries:
            raise ProofRefused(
                f"row {self.row} of {n_rows:,} rows", hint="refuse it: rows count from 0 to the last"
            )
        if len(self.entries) != layout.row_entries * ENTRY_BYTES or len(self.paths) != layout.row_entries:
            raise ProofRefused(
                f"{len(self.entries)} bytes with {len(self.paths)} paths were passed for row {self.row}; "
                f"it has {layout.row_entries} entries of {ENTRY_BYTES} bytes",
                hint="refuse it, or ask for an opening of the same schema",
            )
        size = layout.n_entries(n_rows)
        numbers: list[int] = []
        for i, path in enumerate(self.paths):
            entry = self.entries[i * ENTRY_BYTES : (i + 1) * ENTRY_BYTES]
            if _climbed(entry, self.row * layout.row_entries + i, size, path) != bytes(root):
                raise ProofRefused(
                    f"entry {i} of row {self.row} is not at its place under the root", hint="refuse it"
                )
            if not any(entry[:SALT_BYTES]):
                raise ProofRefused(
                    f"entry {i} of row {self.row} has no salt", hint="refuse it: padding is not a row"
                )
            numbers += np.frombuffer(entry, ">i8", offset=SALT_BYTES).tolist()
        if any(numbers[len(layout.fields) :]):
            raise ProofRefused(f"row {self.row} has values beyond its last field", hint="refuse it")
        del numbers[len(layout.fields) :]
        layout.demand(numbers, self.row)
        return layout.values(numbers)

    def __repr__(self) -> str:
        return f"<RowOpening of row {self.row}: {len(self.entries)} bytes>"


class RowCommitment(KeptSecret):
    """A contributor's commitment to a table: what is public of it, and what it takes to open rows.

    Salts are a keyed stream (AES-256-CTR) under a key that HKDF-SHA256 derives from the secret, the schema
    and a digest of the whole table. The same table and secret therefore give the same root, in a resumed run
    and on every machine; a changed table gets salts that those opened before say nothing about.

    Holds the entries in memory: 256 bytes for each 28 fields of a row. Nothing is written to disk.

    Parameters
    ----------
    schema : Schema
        Says how rows are written (see `RowLayout`).
    frame : pandas.DataFrame or iterable of them
        The rows, as ``schema.validate`` returned them; pieces are put one after the other.
    secret : bytes
        32 secret bytes of the contributor. Whoever has them can try guesses of rows that were not opened.

    Attributes
    ----------
    layout : RowLayout
        How rows are written.
    root : bytes
        The commitment, 32 bytes.
    n_rows : int
        How many rows it is to.

    Raises
    ------
    SchemaError
        The table cannot be written in the schema's layout.
    DataError
        The table is empty or too large, or the secret is not 32 bytes.
    """

    __slots__ = ("_entries", "_tree", "layout", "n_rows", "root")

    _holds: ClassVar[str] = "the salts and values of all rows"
    _instead: ClassVar[str] = "pass its root on, and openings of single rows"

    def __init__(
        self, schema: "Schema", frame: "pd.DataFrame | Iterable[pd.DataFrame]", secret: bytes
    ) -> None:
        if not isinstance(secret, bytes) or len(secret) != 32:
            raise DataError(
                f"the secret must be 32 bytes, not {type(secret).__name__}"
                + (f" of length {len(secret)}" if isinstance(secret, bytes | bytearray) else ""),
                hint="make one with os.urandom(32) and keep it",
            )
        self.layout = RowLayout(schema)
        if isinstance(frame, str | bytes | Mapping | pd.Series) or not isinstance(frame, Iterable):
            raise SchemaError(
                f"a {type(frame).__name__} was passed; expected a pandas DataFrame",
                hint="pass what schema.validate(frame) returned, or a list of such frames",
            )
        pieces = [frame] if isinstance(frame, pd.DataFrame) else frame
        parts = [self.layout.numbers(piece) for piece in pieces]
        numbers = np.concatenate(parts) if parts else np.empty((0, len(self.layout.fields)), np.int64)
        self.n_rows = len(numbers)
        if not 1 <= self.n_rows <= MAX_ROW_ENTRIES // self.layout.row_entries:
            raise DataError(
                f"{self.n_rows:,} rows were passed; a commitment is to 1 to "
                f"{MAX_ROW_ENTRIES // self.layout.row_entries:,}",
                hint="pass a table with rows, or commit to parts of it",
            )
        self._entries = _salted(numbers.astype(">i8"), self.layout, secret)
        self._tree = EntryTree(self._entries)
        self.root: bytes = self._tree.root

    def open(self, row: int) -> RowOpening:
        """Open one row. What this returns shows the row to whoever gets it.

        Raises
        ------
        DataError
            There is no such row.
        """
        whole = isinstance(row, int | np.integer) and not isinstance(row, bool)
        if not whole or not 0 <= row < self.n_rows:
            raise DataError(
                f"row {row!r} was asked for; rows go from 0 to {self.n_rows - 1}",
                hint="pass the number of a row",
            )
        n = self.layout.row_entries
        first = int(row) * n
        return RowOpening(
            int(row),
            self._entries[first * ENTRY_BYTES : (first + n) * ENTRY_BYTES],
            tuple(self._tree.prove(first + i) for i in range(n)),
        )

    def __repr__(self) -> str:
        return f"<RowCommitment 0x{self.root.hex()}: {self.n_rows:,} rows, {len(self.layout.fields)} fields>"


def _count(n_rows: Any) -> int:
    """Return a number of rows, numpy's too, or refuse it."""
    if not isinstance(n_rows, int | np.integer) or isinstance(n_rows, bool):
        raise DataError(
            f"the number of rows is a {type(n_rows).__name__}", hint="pass a whole number: commitment.n_rows"
        )
    return int(n_rows)


def _salted(numbers: NDArray[np.int64], layout: RowLayout, secret: bytes) -> bytes:
    """Return the entries of all rows, from numbers in big-endian order."""
    digest = sha256(numbers.tobytes()).digest()
    info = _LABEL + layout.schema_hash + len(numbers).to_bytes(8, "big") + digest
    key = HKDF(SHA256(), length=32, salt=None, info=info).derive(secret)
    rows, n = len(numbers), layout.row_entries
    # two counter blocks of 16 bytes for the salt of each entry
    stream = Cipher(algorithms.AES(key), modes.CTR(bytes(16))).encryptor()
    salts = stream.update(bytes(rows * n * SALT_BYTES))
    out = np.zeros((rows, n, ENTRY_BYTES), np.uint8)
    out[:, :, :SALT_BYTES] = np.frombuffer(salts, np.uint8).reshape(rows, n, SALT_BYTES)
    for i in range(n):
        part = np.ascontiguousarray(numbers[:, i * ENTRY_VALUES : (i + 1) * ENTRY_VALUES]).view(np.uint8)
        out[:, i, SALT_BYTES : SALT_BYTES + part.shape[1]] = part
    return out.tobytes()


def _range(field: "Field") -> tuple[int, int, bool]:
    """Return the lowest and highest number of a field, and whether a value may be missing."""
    if field.kind == "bool":
        return 0, 1, field.nullable
    if field.kind == "category":
        if not field.categories:
            raise SchemaError(
                f"the field {field.name!r} has no list of categories, and rows need their places in it",
                hint="name them: schema.with_field(name, categories=(…))",
            )
        return 0, len(field.categories) - 1, field.nullable
    if field.step is None:
        raise SchemaError(
            f"the field {field.name!r} has no resolution, and rows are written in units of it",
            hint="say the smallest step that counts: schema.with_field(name, resolution=…)",
        )
    low = -_HIGHEST if field.low is None else _end(field.low / _step(field))
    high = _HIGHEST if field.high is None else _end(field.high / _step(field))
    return low, high, field.nullable


def _end(units: float) -> int:
    """Return an end of a range as a number, rounded as values are; beyond all numbers it is no end."""
    if abs(units) >= 2.0**63:
        return _HIGHEST if units > 0 else -_HIGHEST
    return round(units)


def _step(field: "Field") -> float:
    return 1.0 if field.step is None else field.step


def _written(field: "Field", column: "pd.Series[Any]") -> NDArray[np.int64]:
    """Write one column as numbers."""
    missing = column.isna().to_numpy(bool)
    present = column[~missing]
    if field.kind == "category":
        places = pd.Index(field.categories, dtype=object)
        codes = places.get_indexer(pd.Index(present, dtype=object)).astype(np.int64)
        good = codes >= 0
    elif field.kind == "bool":
        if not (pd.api.types.is_bool_dtype(column) or present.map(lambda v: v is True or v is False).all()):
            raise _unwritable(field, f"its values are {column.dtype}, not true and false")
        codes = present.to_numpy(bool).astype(np.int64)
        good = np.ones(len(codes), bool)
    elif not pd.api.types.is_numeric_dtype(column) or pd.api.types.is_bool_dtype(column):
        raise _unwritable(field, f"its values are {column.dtype}, not numbers")
    elif _step(field) == 1 and pd.api.types.is_integer_dtype(column):
        whole = present.to_numpy()
        good = (whole <= _HIGHEST) & (whole > MISSING)
        codes = np.where(good, whole, 0).astype(np.int64)
    else:
        scaled = present.to_numpy(np.float64) / _step(field)
        units = np.rint(scaled)
        good = np.isfinite(units) & (np.abs(units) < 2.0**63)
        if field.kind == "int" and _step(field) == 1:
            good &= units == scaled
        codes = np.where(good, units, 0).astype(np.int64)
    if not good.all():
        row = int(np.flatnonzero(~missing)[np.flatnonzero(~good)[0]])
        raise _unwritable(field, f"the value in row {row} has no number")
    out = np.full(len(column), MISSING, np.int64)
    out[~missing] = codes
    return out


def _unwritable(field: "Field", why: str) -> SchemaError:
    return SchemaError(
        f"the column {field.name!r} ({field.kind}) cannot be written as rows: {why}",
        hint="pass what schema.validate(frame) returned",
    )


def _read(field: "Field", number: int) -> Any:
    if number == MISSING:
        return None
    if field.kind == "category":
        return field.categories[number]
    if field.kind == "bool":
        return bool(number)
    return number * (int(_step(field)) if field.kind == "int" else _step(field))


def _climbed(entry: bytes, index: int, size: int, path: Sequence[bytes]) -> bytes | None:
    """Return the root that a path leads to, or None when it has not the length or the form of its place."""
    try:
        return bytes(entry_root(entry, index, size, path))
    except TwoPMError:
        return None


def _encoded(ranges: Sequence[tuple[int, int, bool]]) -> bytes:
    """Return the ranges in the contract ABI's encoding: one dynamic array of (int64, int64, bool)."""
    words = [32, len(ranges), *(word for one in ranges for word in one)]
    return b"".join(int(word).to_bytes(32, "big", signed=True) for word in words)
