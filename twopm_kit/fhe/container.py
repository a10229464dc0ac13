"""The ``.ct`` container: hashed chunks of ciphertext under a strict header, written and read as a stream.

Layout, little-endian::

    magic 8 | version u16
    chunks   one after the other
    header   JSON, UTF-8, canonical (sorted keys, no spaces)
    index    for each chunk: length u32 | sha256 leaf 32
    trailer  chunk count u32 | header length u32 | root 32 | end mark 8

Header and index come last, because neither the number of rows nor the sizes are known while chunks are being
made. Leaf 0 of the Merkle tree is the header, leaf i + 1 is chunk i; leaves and inner nodes are hashed under
different prefixes and a leaf carries its position, so neither a chunk nor its place can be changed without
changing the root. The root says *which* bytes these are. It does not say who made them: compare it with the
root that the maker published.

Chunks go block by block: block 0 of every column, then block 1 of every column, and so on, so that a table
can be encrypted as its rows arrive.
"""

import fcntl
import hashlib
import io
import json
import math
import os
import struct
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from threading import Lock
from types import TracebackType
from typing import Any, BinaryIO, Final, NoReturn

from twopm_kit.errors import CiphertextError, DataError
from twopm_kit.untrusted import load_json

__all__ = [
    "ColumnHeader",
    "ContainerReader",
    "ContainerWriter",
    "FrameHeader",
    "merkle_root",
    "pack",
    "unpack",
]

MAGIC: Final = b"2PM.ct\r\n"
VERSION: Final = 2
_END: Final = b"\r\n2PM.ok"
_PREFIX: Final = struct.Struct("<8sH")
_ENTRY: Final = struct.Struct("<I32s")
_TRAILER: Final = struct.Struct("<II32s8s")

# The journal beside an unfinished file: this, the header, then an entry and a tag for each chunk.
_JOURNAL_MAGIC: Final = b"2PM.log\n"
_JOURNAL: Final = struct.Struct("<8sHI32s")
_LINE: Final = struct.Struct("<I32s32s")

MAX_HEADER: Final = 4 << 20
MAX_COLUMNS: Final = 20_000
MAX_ROWS: Final = 1 << 31
MAX_CHUNKS: Final = 1 << 20
MAX_CHUNK: Final = 1 << 26
MAX_NAME: Final = 200
MAX_SAMPLES: Final = 1 << 17
TAG_BYTES: Final = 32

_LAYOUTS: Final = ("columns", "blocks", "sums")
_PACKINGS: Final = ("real", "complex")
_SOURCES: Final = ("frame", "array")
_PADDINGS: Final = ("zeros", "any")
_KINDS: Final = ("float", "int", "bool")
_KINDS_OF: Final = ("category", "present")

_AGAIN: Final = "get the file again from where it was made"


@dataclass(frozen=True, slots=True)
class ColumnHeader:
    """What everybody may know of a column.

    Parameters
    ----------
    name : str
        Column name.
    bound : float
        Public upper limit of the absolute values.
    scale : float
        Exact scale of its ciphertexts.
    noise : float
        Estimated standard deviation of the noise in a coefficient.
    kind : str
        What the column held in clear: "float", "int", "bool"; "category:<column>" is 1 in the rows of one
        category of a column, "present:<column>" where a column has a value.
    """

    name: str
    bound: float
    scale: float
    noise: float
    kind: str = "float"


@dataclass(frozen=True, slots=True)
class FrameHeader:
    """What everybody may know of an encrypted frame.

    Parameters
    ----------
    profile, params : str
        Name of the profile and hash of its parameters.
    fingerprint : str
        Which key it is encrypted under.
    packing : str
        "real" puts a row into a slot, "complex" two.
    source : str
        "frame" or "array": what decryption gives back.
    rows, level : int
        Number of rows, and how often a product can still be rescaled.
    columns : tuple of ColumnHeader
        In order.
    layout : str
        "columns": one feature a ciphertext, rows in the slots. "blocks": all features of some rows in one
        ciphertext. "sums": the value is in the constant coefficient.
    samples : int
        Rows that a ciphertext holds; 0 when layout, packing and profile say it.
    size : int
        Polynomials of a ciphertext: 2, or 3 after a product that was not relinearised.
    padding : str
        "zeros": slots beyond the last row hold 0, so that sums over slots are sums over rows. "any": who
        knows.
    """

    profile: str
    params: str
    fingerprint: str
    packing: str
    source: str
    rows: int
    level: int
    columns: tuple[ColumnHeader, ...]
    layout: str = "columns"
    samples: int = 0
    size: int = 2
    padding: str = "any"

    def to_json(self) -> bytes:
        """Canonical bytes."""
        return json.dumps(asdict(self), sort_keys=True, separators=(",", ":"), ensure_ascii=True).encode()


def _leaf(position: int, content: bytes) -> bytes:
    return hashlib.sha256(b"\x00" + struct.pack("<I", position) + content).digest()


def merkle_root(leaves: Sequence[bytes]) -> bytes:
    """Root of a binary Merkle tree over 32-byte leaves (SHA-256; an odd last node moves up unchanged)."""
    row = list(leaves)
    while len(row) > 1:
        paired = [hashlib.sha256(b"\x01" + a + b).digest() for a, b in zip(row[::2], row[1::2], strict=False)]
        row = paired + ([row[-1]] if len(row) % 2 else [])
    return row[0]


# In memory ----------------------------------------------------------------------------------------------


def pack(header: FrameHeader, chunks: Iterable[bytes]) -> bytes:
    """Container bytes of a header and its chunks."""
    stream = io.BytesIO()
    body = _Body(stream)
    for chunk in chunks:
        body.append(chunk)
    body.seal(header)
    return stream.getvalue()


def unpack(content: bytes) -> tuple[FrameHeader, list[bytes], bytes]:
    """Header, chunks and root of container bytes; every byte is accounted for.

    Parameters
    ----------
    content : bytes
        From anybody.

    Returns
    -------
    tuple
        The header, the chunks in order, the 32-byte root.

    Raises
    ------
    CiphertextError
        Another format or version, cut short, changed, or beyond the limits.
    """
    with ContainerReader(io.BytesIO(content)) as reader:
        return reader.header, list(reader), reader.root


# As a stream --------------------------------------------------------------------------------------------


class _Body:
    """Puts a container on a stream: prefix, chunks as they come, and what makes them a whole."""

    def __init__(self, stream: BinaryIO, known: Sequence[tuple[int, bytes]] = ()) -> None:
        self._stream = stream
        self.entries = list(known)
        if not known:
            stream.write(_PREFIX.pack(MAGIC, VERSION))

    def append(self, chunk: bytes) -> tuple[int, bytes]:
        number = len(self.entries)
        if len(chunk) > MAX_CHUNK or number >= MAX_CHUNKS:
            raise CiphertextError(
                f"chunk {number} of {len(chunk)} bytes was to be written; a container takes {MAX_CHUNKS} "
                f"chunks of up to {MAX_CHUNK} bytes",
                hint="write several files, each with a part of the rows",
            )
        self._stream.write(chunk)
        self.entries.append((len(chunk), _leaf(number + 1, chunk)))
        return self.entries[-1]

    def seal(self, header: FrameHeader) -> bytes:
        text = header.to_json()
        if len(text) > MAX_HEADER:
            raise CiphertextError(
                f"the header has {len(text)} bytes; a container takes {MAX_HEADER}",
                hint="shorten the column names, or write several files, each with a part of the columns",
            )
        root = merkle_root([_leaf(0, text), *(leaf for _, leaf in self.entries)])
        self._stream.write(text)
        self._stream.writelines(_ENTRY.pack(*entry) for entry in self.entries)
        self._stream.write(_TRAILER.pack(len(self.entries), len(text), root, _END))
        return root


class ContainerReader:
    """A container that stays where it is: header and index are read at once, a chunk when it is asked for.

    Opening it checks format, sizes and the root over header and index; reading a chunk checks it against the
    index. So a file of any size needs the memory of one chunk. Use it in a ``with`` block, or `close` it.
    Threads may share it.

    Parameters
    ----------
    source : str, pathlib.Path or binary stream
        A file of anybody. A stream is closed with the reader.

    Attributes
    ----------
    header : FrameHeader
        Checked field by field.
    root : bytes
        The 32-byte Merkle root.

    Raises
    ------
    CiphertextError
        No such file, another format or version, cut short, changed, or beyond the limits.
    """

    __slots__ = ("_entries", "_lock", "_starts", "_stream", "header", "root")

    def __init__(self, source: str | Path | BinaryIO) -> None:
        self._stream = _open_container(Path(source)) if isinstance(source, (str, Path)) else source
        self._lock = Lock()
        try:
            text, self._entries, self.root = _read_frame(self._stream)
            self.header: FrameHeader = _parse_header(text)
        except OSError as error:
            self.close()
            raise _unreadable(error) from None
        except BaseException:
            self.close()
            raise
        self._starts = [_PREFIX.size]
        for size, _ in self._entries:
            self._starts.append(self._starts[-1] + size)

    def __len__(self) -> int:
        return len(self._entries)

    @property
    def nbytes(self) -> int:
        """Bytes of all chunks."""
        return self._starts[-1] - _PREFIX.size

    def chunk(self, number: int) -> bytes:
        """Read one chunk and check it.

        Parameters
        ----------
        number : int
            From 0. In layout "columns", column j of block b is chunk ``b * len(header.columns) + j``.

        Raises
        ------
        CiphertextError
            There is no such chunk, it was changed or is gone, or the reader is closed.
        """
        if not 0 <= number < len(self._entries):
            raise CiphertextError(
                f"chunk {number} was asked for; the container has {len(self._entries)}",
                hint=f"ask for a number from 0 to {len(self._entries) - 1}",
            )
        size, leaf = self._entries[number]
        with self._lock:
            if self._stream.closed:
                raise CiphertextError(
                    f"chunk {number} was asked for after the container was closed",
                    hint="read inside the with block, or open the file again",
                )
            try:
                self._stream.seek(self._starts[number])
                content = self._stream.read(size)
            except OSError as error:
                raise _unreadable(error) from None
        if _leaf(number + 1, content) != leaf:
            raise CiphertextError(
                f"the container was changed: chunk {number} does not match its hash", hint=_AGAIN
            )
        return content

    def __iter__(self) -> Iterator[bytes]:
        return map(self.chunk, range(len(self)))

    def close(self) -> None:
        """Close the file; harmless when it is closed already."""
        self._stream.close()

    def __enter__(self) -> "ContainerReader":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __reduce__(self) -> NoReturn:
        raise CiphertextError(
            "a ContainerReader cannot be pickled or copied", hint="pass the path and open it again"
        )

    def __repr__(self) -> str:
        return f"<ContainerReader {len(self)} chunks, {self.nbytes:,} bytes, root {self.root.hex()[:16]}…>"


class ContainerWriter:
    """Writes a container chunk by chunk; it gets its name only when it is whole.

    Until `finish`, the chunks are in ``<name>.part``, and a journal beside it (``<name>.part.journal``) says
    how long each is and what it hashes to. Whatever ends the process, at whatever byte, leaves either the
    finished file or these two, and with ``resume`` the next writer goes on after the last chunk that is whole
    and matches its hash. Both are readable by their owner only; `finish` deletes the journal.

    Parameters
    ----------
    path : str or pathlib.Path
        Final name; its folder must exist. A file that is there is replaced by `finish`, not before.
    header : FrameHeader
        What the frame will say. The number of rows may be told later, to `finish`.
    resume : bool
        Go on with ``<name>.part`` when it was begun with the same header; otherwise start anew.

    Attributes
    ----------
    salt : bytes
        32 random bytes, the same for as long as the file is being written: to make tags with.

    Raises
    ------
    CiphertextError
        The folder does not exist, another process is writing the file, the header is not one that a reader
        would take, or ``resume`` found chunks under another header: says which fields differ.
    """

    __slots__ = ("_body", "_header", "_journal", "_part", "_path", "_tags", "salt")

    def __init__(self, path: str | Path, header: FrameHeader, *, resume: bool = False) -> None:
        self._path: Final = Path(path)
        self._header: Final = _parse_header(header.to_json())
        if not self._path.parent.is_dir() or self._path.is_dir():
            raise CiphertextError(
                f"{str(path)!r} was to be written, but its folder does not exist, or it is a folder",
                hint="make the folder first, and name a file in it",
            )
        with _disk_words(self._path):
            self._part: Final = _claim(self._part_path, self._path.name)
            try:
                self._journal: Final = _open_private(self._journal_path)
                try:
                    self._begin(resume)
                except BaseException:
                    self._journal.close()
                    raise
            except BaseException:
                self._part.close()
                raise

    @property
    def _part_path(self) -> Path:
        return self._path.with_name(self._path.name + ".part")

    @property
    def _journal_path(self) -> Path:
        return self._path.with_name(self._path.name + ".part.journal")

    def _begin(self, resume: bool) -> None:
        found = _recover(self._part, self._journal) if resume else None
        if found is None:
            self.salt = os.urandom(32)
            self._tags: list[bytes] = []
            text = self._header.to_json()
            for stream in (self._part, self._journal):
                stream.seek(0)
                stream.truncate()
            self._body = _Body(self._part)
            self._part.flush()
            self._journal.write(_JOURNAL.pack(_JOURNAL_MAGIC, VERSION, len(text), self.salt) + text)
            self._journal.flush()
            return
        begun, self.salt, lines = found
        if begun != self._header:
            mine, theirs = asdict(self._header), asdict(begun)
            differ = [name for name in mine if mine[name] != theirs[name]]
            raise CiphertextError(
                f"{self._part_path.name} holds {len(lines)} chunks of another frame: "
                f"{', '.join(differ)} differ",
                hint=f"go on with the key, columns and bounds that it was begun with, or delete "
                f"{self._part_path.name} to start anew",
            )
        self._tags = [tag for _, _, tag in lines]
        self._body = _Body(self._part, [(size, leaf) for size, leaf, _ in lines])

    def __len__(self) -> int:
        return len(self._body.entries)

    @property
    def tags(self) -> tuple[bytes, ...]:
        """What was passed as ``tag`` with each chunk so far, also before an interruption."""
        return tuple(self._tags)

    def append(self, chunk: bytes, tag: bytes = bytes(TAG_BYTES)) -> None:
        """Write the next chunk.

        Parameters
        ----------
        chunk : bytes
            One ciphertext.
        tag : bytes
            32 bytes for the journal, to recognise what the chunk was made from. They never get into the
            finished file.

        Raises
        ------
        CiphertextError
            Too many or too large, the tag has another length, the disk is full, or the writer is closed.
        """
        self._check_open()
        if len(tag) != TAG_BYTES:
            raise CiphertextError(
                f"a tag of {len(tag)} bytes was passed; expected {TAG_BYTES}", hint="pass a SHA-256 digest"
            )
        with _disk_words(self._path):
            try:
                entry = self._body.append(chunk)
                self._part.flush()
                # Only now: a line of the journal must never be ahead of its chunk.
                self._journal.write(_LINE.pack(*entry, tag))
                self._journal.flush()
            except OSError:
                self.close()  # how far the disk got is for `resume` to find out
                raise
        self._tags.append(tag)

    def finish(self, rows: int | None = None) -> bytes:
        """Make the file whole and give it its name.

        Parameters
        ----------
        rows : int, optional
            Number of rows, when the header did not know it.

        Returns
        -------
        bytes
            The 32-byte Merkle root.
        """
        self._check_open()
        header = self._header if rows is None else replace(self._header, rows=rows)
        _parse_header(header.to_json())
        with _disk_words(self._path):
            try:
                root = self._body.seal(header)
                self._part.flush()
                os.fsync(self._part.fileno())
                os.fchmod(self._part.fileno(), 0o644)
                self._part_path.replace(self._path)
                self._journal_path.unlink()
            finally:
                self.close()
        return root

    def close(self) -> None:
        """Let go of the files; chunks stay for ``resume``. Harmless when closed or finished."""
        if not self._part.closed and not self._body.entries:
            self._part_path.unlink(missing_ok=True)
            self._journal_path.unlink(missing_ok=True)
        self._journal.close()
        self._part.close()

    def _check_open(self) -> None:
        if self._part.closed:
            raise CiphertextError(
                f"{self._path.name} is closed: it was finished, or let go of",
                hint="make a new ContainerWriter, with resume=True to go on",
            )

    def __enter__(self) -> "ContainerWriter":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __reduce__(self) -> NoReturn:
        raise CiphertextError(
            "a ContainerWriter cannot be pickled or copied", hint="write from one place, in order"
        )

    def __repr__(self) -> str:
        return f"<ContainerWriter {self._path.name}: {len(self)} chunks>"


# Reading what may be hostile, or half there -------------------------------------------------------------


def _read_frame(stream: BinaryIO) -> tuple[bytes, list[tuple[int, bytes]], bytes]:
    """Header text, index and root, after every check that needs no chunk."""
    total = stream.seek(0, io.SEEK_END)
    stream.seek(0)
    prefix = stream.read(_PREFIX.size)
    fixed = _PREFIX.size + _TRAILER.size
    if total < fixed and MAGIC.startswith(prefix[: len(MAGIC)]):
        raise CiphertextError(
            f"the container has {total} bytes; its fixed part alone has {fixed}", hint=_AGAIN
        )
    if prefix[: len(MAGIC)] != MAGIC:
        raise CiphertextError(
            "these bytes are not a ciphertext container: they do not begin with its mark",
            hint="pass bytes that EncryptedFrame.to_bytes() made, or a path that .save() wrote",
        )
    _, version = _PREFIX.unpack(prefix)
    if version != VERSION:
        raise CiphertextError(
            f"the container has format version {version}; this kit reads version {VERSION}",
            hint="write it again with this version of the kit, or read it with the version that wrote it",
        )
    stream.seek(total - _TRAILER.size)
    count, header_size, root, end = _TRAILER.unpack(stream.read(_TRAILER.size))
    if end != _END:
        raise CiphertextError(
            "the container is cut short, or followed by something else: it does not end with its end mark",
            hint=_AGAIN,
        )
    if header_size > MAX_HEADER or count > MAX_CHUNKS:
        raise CiphertextError(
            f"the container announces {count} chunks and a header of {header_size} bytes; limits are "
            f"{MAX_CHUNKS} and {MAX_HEADER}",
            hint=_AGAIN,
        )
    footer = header_size + count * _ENTRY.size
    if total < fixed + footer:
        raise CiphertextError(
            f"the container is cut short: {total} bytes, header and index need {fixed + footer}", hint=_AGAIN
        )
    stream.seek(total - _TRAILER.size - footer)
    text = stream.read(header_size)
    entries = list(_ENTRY.iter_unpack(stream.read(count * _ENTRY.size)))
    if any(size > MAX_CHUNK for size, _ in entries):
        raise CiphertextError(
            f"the container announces a chunk of more than {MAX_CHUNK} bytes, the limit", hint=_AGAIN
        )
    expected = fixed + footer + sum(size for size, _ in entries)
    if total != expected:
        kind = "cut short" if total < expected else "longer than its index says"
        raise CiphertextError(f"the container is {kind}: {total} bytes, expected {expected}", hint=_AGAIN)
    if merkle_root([_leaf(0, text), *(leaf for _, leaf in entries)]) != root:
        raise CiphertextError(
            "the container was changed: its header or index does not match its root", hint=_AGAIN
        )
    return text, entries, root


def _recover(
    part: BinaryIO, journal: BinaryIO
) -> tuple[FrameHeader, bytes, list[tuple[int, bytes, bytes]]] | None:
    """Header, salt and whole chunks, both files cut after the last; None when there is no such chunk."""
    part.seek(0)
    journal.seek(0)
    front = journal.read(_JOURNAL.size)
    if part.read(_PREFIX.size) != _PREFIX.pack(MAGIC, VERSION) or len(front) != _JOURNAL.size:
        return None
    magic, version, size, salt = _JOURNAL.unpack(front)
    if (magic, version) != (_JOURNAL_MAGIC, VERSION) or size > MAX_HEADER:
        return None
    text = journal.read(size)
    lines: list[tuple[int, bytes, bytes]] = []
    end = part.tell()
    while len(line := journal.read(_LINE.size)) == _LINE.size:
        length, leaf, tag = _LINE.unpack(line)
        if length > MAX_CHUNK or _leaf(len(lines) + 1, part.read(length)) != leaf:
            break
        lines.append((length, leaf, tag))
        end += length
    if not lines:
        return None
    try:
        begun = _parse_header(text)
    except CiphertextError:
        return None
    for stream, keep in ((part, end), (journal, _JOURNAL.size + size + len(lines) * _LINE.size)):
        stream.seek(keep)
        stream.truncate()
    return begun, salt, lines


def _open_private(path: Path) -> BinaryIO:
    """Open for reading and writing, made when it is not there, readable by its owner only."""
    return os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600), "r+b")


def _claim(path: Path, name: str) -> BinaryIO:
    """Open the unfinished file for one writer at a time; the system lets go of it when the process ends."""
    while True:
        stream = _open_private(path)
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if path.exists() and os.path.samestat(os.fstat(stream.fileno()), path.stat()):
                os.fchmod(stream.fileno(), 0o600)
                return stream
        except BlockingIOError:
            stream.close()
            raise CiphertextError(
                f"{name} is being written by somebody else right now",
                hint="wait until it is finished, or write to another path",
            ) from None
        except BaseException:
            stream.close()
            raise
        stream.close()  # another writer finished it between our opening and our locking: it has its name now


def _open_container(path: Path) -> BinaryIO:
    try:
        return path.open("rb")
    except OSError as error:
        if path.with_name(path.name + ".part").exists():
            raise CiphertextError(
                f"{str(path)!r} is not finished: only {path.name}.part is there",
                hint="run again what was writing it; it goes on where it stopped",
            ) from None
        raise CiphertextError(
            f"a ciphertext container was expected at {str(path)!r}: {error.strerror or type(error).__name__}",
            hint="check the path; save() writes such a file",
        ) from None


def _unreadable(error: OSError) -> CiphertextError:
    return CiphertextError(
        f"the container cannot be read: {error.strerror or type(error).__name__}",
        hint="check the disk, or get the file again from where it was made",
    )


@contextmanager
def _disk_words(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise CiphertextError(
            f"{str(path)!r} cannot be written: {error.strerror or type(error).__name__}",
            hint="make room or correct the permissions, and run it again: it goes on where it stopped",
        ) from None


# Header -------------------------------------------------------------------------------------------------


def _bad(field: str, value: object, expected: str) -> CiphertextError:
    return CiphertextError(
        f"the container's header says {field} = {str(value)[:80]!r}; expected {expected}", hint=_AGAIN
    )


def _parse_header(text: bytes) -> FrameHeader:
    try:
        raw = load_json(text)
    except DataError:
        raise CiphertextError("the container's header is not JSON", hint=_AGAIN) from None
    fields = FrameHeader.__dataclass_fields__
    if not isinstance(raw, dict) or set(raw) != set(fields):
        found = sorted(raw) if isinstance(raw, dict) else type(raw).__name__
        raise _bad("fields", found, ", ".join(sorted(fields)))
    for name, allowed in (
        ("layout", _LAYOUTS),
        ("packing", _PACKINGS),
        ("source", _SOURCES),
        ("padding", _PADDINGS),
    ):
        if raw[name] not in allowed:
            raise _bad(name, raw[name], f"one of {', '.join(allowed)}")
    for name, size in (("params", 64), ("fingerprint", 32)):
        if not _is_hex(raw[name], size):
            raise _bad(name, raw[name], f"{size} hex digits")
    if not isinstance(raw["profile"], str) or not 0 < len(raw["profile"]) <= MAX_NAME:
        raise _bad("profile", raw["profile"], "a profile name")
    for name, low, high in (
        ("rows", 1, MAX_ROWS),
        ("level", 0, 64),
        ("samples", 0, MAX_SAMPLES),
        ("size", 2, 3),
    ):
        if type(raw[name]) is not int or not low <= raw[name] <= high:
            raise _bad(name, raw[name], f"a whole number from {low} to {high}")
    header = FrameHeader(**{**raw, "columns": _parse_columns(raw["columns"])})
    if header.to_json() != text:
        raise CiphertextError("the container's header is not in canonical form", hint=_AGAIN)
    return header


def _parse_columns(raw: Any) -> tuple[ColumnHeader, ...]:
    if not isinstance(raw, list) or not 0 < len(raw) <= MAX_COLUMNS:
        raise _bad("columns", raw, f"a list of 1 to {MAX_COLUMNS} columns")
    return tuple(_parse_column(column) for column in raw) if _unique_names(raw) else ()


def _unique_names(raw: list[Any]) -> bool:
    names = [column.get("name") if isinstance(column, Mapping) else None for column in raw]
    if any(not isinstance(name, str) or len(name) > MAX_NAME for name in names) or len(set(names)) != len(
        names
    ):
        raise _bad("column names", names, f"different strings of at most {MAX_NAME} characters")
    return True


def _parse_column(raw: dict[str, Any]) -> ColumnHeader:
    if set(raw) != set(ColumnHeader.__dataclass_fields__):
        raise _bad("column", sorted(map(str, raw)), "name, bound, scale, noise, kind")
    for name, low, high in (("bound", 0.0, 2.0**100), ("scale", 1.0, 2.0**200), ("noise", 1.0, 2.0**200)):
        value = raw[name]
        if type(value) is not float or not math.isfinite(value) or not low <= value <= high:
            raise _bad(f"{name} of column {raw['name']}", value, f"a number from {low:g} to {high:g}")
    what, colon, of = str(raw["kind"]).partition(":")
    if what not in (_KINDS_OF if colon else _KINDS) or len(of) > MAX_NAME or type(raw["kind"]) is not str:
        raise _bad(f"kind of column {raw['name']}", raw["kind"], "a kind of column")
    return ColumnHeader(**raw)


def _is_hex(value: object, size: int) -> bool:
    return isinstance(value, str) and len(value) == size and set(value) <= set("0123456789abcdef")
