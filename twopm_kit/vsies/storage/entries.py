"""Hashes objects as 0G does: keccak over entries of 256 bytes, a tree for each slice, a tree over slices.

An object is cut into entries of 256 bytes, the last one filled up with zeros. 0G's flow stores entries in
aligned subtrees, so an object also gets whole entries of zeros, up to `padded_entries`. The leaves are the
keccak256 of entries; a parent is the keccak256 of its two children, and an odd last node is carried up as it
is. 1,024 entries are a segment, here called *slice* (262,144 bytes): its tree gives the slice's root, and a
tree of the same form over those gives the object's root.

Leaves and parents are not told apart by a prefix, as the format demands; a proof therefore also says how many
entries the tree has, and its length must fit exactly.
"""

import operator
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final, SupportsIndex

from eth_hash.backends.pysha3 import keccak256

from twopm_kit.errors import DataError, StoreError

__all__ = [
    "ENTRY",
    "LARGEST",
    "SLICE",
    "SLICE_ENTRIES",
    "EntryTree",
    "branch",
    "climb",
    "entry_root",
    "padded_entries",
    "parse_root",
    "read_slices",
    "size_of",
    "slice_root",
    "slice_sizes",
    "storage_root",
    "top",
]

ENTRY: Final = 256
SLICE_ENTRIES: Final = 1024
SLICE: Final = ENTRY * SLICE_ENTRIES
LARGEST: Final = 1 << 36
"""Bytes of the largest object: 64 GiB, so that no number read from outside asks for more."""

_ZERO_LEAF = keccak256(bytes(ENTRY))


def padded_entries(size: int) -> int:
    """Count the entries of an object, with those that 0G adds: at most a sixteenth more than a power of two.

    Parameters
    ----------
    size : int
        Bytes of the object, 1 to `LARGEST`.

    Returns
    -------
    int
        The number of leaves of its tree.

    Raises
    ------
    StoreError
        If it is empty or too large: 0G has no root for nothing.
    """
    if not 1 <= size <= LARGEST:
        raise StoreError(
            f"an object has 1 to {LARGEST:,} bytes, not {size:,}: a tree needs at least one entry",
            hint="store at least one byte, and cut what is larger into several objects",
        )
    entries = -(-size // ENTRY)
    power = 1 << (entries - 1).bit_length()
    step = max(power // 16, 1)
    return -(-entries // step) * step


def slice_sizes(size: int) -> list[int]:
    """Tell how many entries each slice of an object has, zeros included; the last ones may be zeros only."""
    entries = padded_entries(size)
    full, rest = divmod(entries, SLICE_ENTRIES)
    return [SLICE_ENTRIES] * full + [rest] * (rest > 0)


def top(nodes: Sequence[bytes]) -> bytes:
    """Hash nodes up to their root.

    Parameters
    ----------
    nodes : sequence of bytes
        32 bytes each, at least one.

    Returns
    -------
    bytes
        32 bytes; a single node is its own root.
    """
    while len(nodes) > 1:
        nodes = _next(nodes)
    return nodes[0]


def branch(nodes: Sequence[bytes], index: int) -> tuple[bytes, ...]:
    """Collect the siblings of a node bottom-up; where it is carried up it has none.

    Parameters
    ----------
    nodes : sequence of bytes
        All nodes of the lowest level.
    index : int
        Which one of them.

    Returns
    -------
    tuple of bytes
        What `climb` needs to find the root from the node.
    """
    path: list[bytes] = []
    while len(nodes) > 1:
        if (index ^ 1) < len(nodes):
            path.append(nodes[index ^ 1])
        nodes, index = _next(nodes), index // 2
    return tuple(path)


def climb(node: bytes, index: int, width: int, path: Sequence[bytes]) -> bytes:
    """Walk from a node up to the root of its tree.

    Parameters
    ----------
    node : bytes
        32 bytes.
    index : int
        Its place in the lowest level.
    width : int
        How many nodes the lowest level has.
    path : sequence of bytes
        Siblings bottom-up, exactly as many as the walk needs, 32 bytes each.

    Returns
    -------
    bytes
        The root that follows: compare it with the one you trust.

    Raises
    ------
    DataError
        If the place is outside the tree, or siblings are missing, left over or of another length.
    """
    if not 0 <= index < width:
        raise DataError(f"a tree of {width:,} nodes has no node {index:,}", hint="refuse the proof")
    used = 0
    while width > 1:
        if (index ^ 1) < width:
            if used == len(path) or len(path[used]) != 32:
                raise DataError(
                    f"sibling {used} of the proof is missing or is not 32 bytes", hint="refuse the proof"
                )
            pair = (path[used] + node) if index & 1 else (node + path[used])
            node, used = keccak256(pair), used + 1
        index, width = index // 2, (width + 1) // 2
    if used != len(path):
        raise DataError(f"the proof has {len(path)} siblings, its tree needs {used}", hint="refuse the proof")
    return node


def slice_root(data: bytes, entries: int = 0) -> bytes:
    """Hash one slice.

    Parameters
    ----------
    data : bytes
        Up to 262,144 bytes; what is missing to whole entries counts as zeros.
    entries : int, optional
        Leaves of the slice, where zeros follow the data; as many as the data fills if not given.

    Returns
    -------
    bytes
        The slice's root, 32 bytes.
    """
    return top(_leaves(data, entries))


def entry_root(entry: bytes, index: int, n_entries: int, path: Sequence[bytes]) -> bytes:
    """Walk from an entry to its object's root: first through its slice's tree, then through that of slices.

    A contract computes the same walk.

    Parameters
    ----------
    entry : bytes
        Up to 256 bytes; zeros fill it up.
    index : int
        Place of the entry in the object.
    n_entries : int
        Leaves of the object's tree: ``padded_entries(size)``.
    path : sequence of bytes
        Siblings bottom-up, from `EntryTree.prove`.

    Returns
    -------
    bytes
        The root that follows, 32 bytes: compare it with the one you trust.

    Raises
    ------
    DataError
        If the entry is too long, the place is outside the tree, or the path's length does not fit.
    """
    if len(entry) > ENTRY:
        raise DataError(f"an entry has up to {ENTRY} bytes, not {len(entry):,}", hint="refuse the proof")
    if not 0 <= index < n_entries:
        raise DataError(f"a tree of {n_entries:,} entries has no entry {index:,}", hint="refuse the proof")
    position, inside = divmod(index, SLICE_ENTRIES)
    width = min(SLICE_ENTRIES, n_entries - position * SLICE_ENTRIES)
    lower = _steps(inside, width)
    node = climb(keccak256(entry.ljust(ENTRY, b"\0")), inside, width, path[:lower])
    return climb(node, position, -(-n_entries // SLICE_ENTRIES), path[lower:])


class EntryTree:
    """The whole tree of an object: its root, and proofs for entries and slices.

    Holds one digest a slice, and reads the object again for the slice that an entry's proof needs.

    Parameters
    ----------
    data : bytes or Path
        The object, or the file that it is in; files are read slice by slice.

    Attributes
    ----------
    root : bytes
        32 bytes.
    size : int
        Bytes of the object.
    n_entries : int
        Leaves, zeros included.
    segment_roots : tuple of bytes
        The root of each slice.

    Raises
    ------
    StoreError
        If the object is empty or too large, or its file cannot be read.
    """

    def __init__(self, data: bytes | Path) -> None:
        self.size = size_of(data)
        self.n_entries = padded_entries(self.size)
        self._data = data
        self.segment_roots = tuple(_slice_roots(data, self.size))
        self.root = top(self.segment_roots)

    def __repr__(self) -> str:
        return f"EntryTree(0x{self.root.hex()}, {self.size:,} bytes, {self.n_entries:,} entries)"

    def prove(self, index: int) -> tuple[bytes, ...]:
        """Collect the siblings of an entry bottom-up, through its slice and on to the root.

        Parameters
        ----------
        index : int
            Place of the entry, zeros included.

        Returns
        -------
        tuple of bytes
            The path that `entry_root` takes; a node that is carried up has no sibling there.

        Raises
        ------
        DataError
            If there is no such entry, or the file has changed since the tree was made.
        """
        index = _number(index, "entry")
        if not 0 <= index < self.n_entries:
            raise DataError(
                f"the object has {self.n_entries:,} entries, none of number {index:,}",
                hint="count from 0 to one less than n_entries",
            )
        position, inside = divmod(index, SLICE_ENTRIES)
        width = min(SLICE_ENTRIES, self.n_entries - position * SLICE_ENTRIES)
        leaves = _leaves(self._slice(position), width)
        if top(leaves) != self.segment_roots[position]:
            raise DataError(
                f"slice {position} has changed since the tree was made", hint="make a new EntryTree"
            )
        return branch(leaves, inside) + self.prove_slice(position)

    def prove_slice(self, index: int) -> tuple[bytes, ...]:
        """Collect the siblings of a slice's root bottom-up.

        Parameters
        ----------
        index : int
            Place of the slice.

        Returns
        -------
        tuple of bytes
            The path that `climb` takes from the slice's root, among ``len(segment_roots)`` slices.

        Raises
        ------
        DataError
            If there is no such slice.
        """
        index = _number(index, "slice")
        if not 0 <= index < len(self.segment_roots):
            raise DataError(
                f"the object has {len(self.segment_roots):,} slices, none of number {index:,}",
                hint="count from 0 to one less than the number of segment_roots",
            )
        return branch(self.segment_roots, index)

    def _slice(self, position: int) -> bytes:
        start = position * SLICE
        if not isinstance(self._data, Path):
            return self._data[start : start + SLICE]
        with self._data.open("rb") as file:
            file.seek(start)
            return file.read(min(SLICE, max(self.size - start, 0)))


def storage_root(data: bytes | Path) -> str:
    """Compute the root under which 0G stores an object.

    Parameters
    ----------
    data : bytes or Path
        The object, at least one byte, or the file that it is in; a file is read slice by slice.

    Returns
    -------
    str
        ``0x`` and 64 hexadecimal digits, equal to what 0G's own tools compute.

    Raises
    ------
    StoreError
        If the object is empty or too large, or its file cannot be read.
    """
    return f"0x{EntryTree(data).root.hex()}"


def parse_root(root: Any) -> bytes:
    """Read a root as people write it.

    Raises
    ------
    StoreError
        If it is not ``0x`` and 64 hexadecimal digits.
    """
    digits = root[2:] if isinstance(root, str) and root[:2] == "0x" else ""
    if len(digits) != 64 or set(digits) - set("0123456789abcdefABCDEF"):
        found = repr(root[:80]) if isinstance(root, str) else f"a {type(root).__name__}"
        raise StoreError(
            f"a root is 0x and 64 hexadecimal digits, not {found}",
            hint='write "0x" + root.hex() of 32 bytes'
            if isinstance(root, bytes)
            else "pass the root that put returned; a CID is none, and index.entry(number).root is one",
        )
    return bytes.fromhex(digits)


def size_of(data: bytes | Path) -> int:
    """Count the bytes of an object or of its file.

    Raises
    ------
    StoreError
        If the file cannot be read.
    """
    if not isinstance(data, Path):
        return len(_held(data))
    try:
        return data.stat().st_size
    except OSError as cause:
        raise _unreadable(data, cause) from None


def read_slices(data: bytes | Path) -> Iterator[bytes]:
    """Give an object slice by slice, its last one shorter.

    Raises
    ------
    StoreError
        If its file cannot be read.
    """
    if not isinstance(data, Path):
        for start in range(0, len(_held(data)), SLICE):
            yield data[start : start + SLICE]
        return
    try:
        with data.open("rb") as file:
            while part := file.read(SLICE):
                yield part
    except OSError as cause:
        raise _unreadable(data, cause) from None


def _held(data: Any) -> bytes | bytearray:
    """Return bytes that are in memory, or refuse what is none: the length of a text is not its bytes'."""
    if not isinstance(data, bytes | bytearray):
        raise StoreError(
            f"a {type(data).__name__} was passed; expected bytes, or the Path of a file",
            hint='pass pathlib.Path("file") for a file, text.encode() for a text, bytes(…) for other memory',
        )
    return data


def _number(index: Any, what: str) -> int:
    """Return a whole number, numpy's too, or refuse it."""
    if not isinstance(index, SupportsIndex) or isinstance(index, bool):
        raise DataError(f"the number of the {what} is a {type(index).__name__}", hint="pass a whole number")
    return operator.index(index)


def _unreadable(path: Path, cause: OSError) -> StoreError:
    return StoreError(f"{path} cannot be read: {cause.strerror}", hint="check the path and its permissions")


def _slice_roots(data: bytes | Path, size: int) -> Iterator[bytes]:
    """Root of each slice; those that are zeros only come after the data, and are hashed once."""
    parts = read_slices(data)
    read = 0
    for entries in slice_sizes(size):
        part = next(parts, b"")
        read += len(part)
        yield slice_root(part, entries)
    if read != size or next(parts, b""):
        raise StoreError(
            f"the file changed while it was read: {size:,} bytes at first, then {read:,}",
            hint="store a file that nobody writes to",
        )


def _next(nodes: Sequence[bytes]) -> list[bytes]:
    """One level up: pairs hashed, an odd last node carried."""
    pairs = iter(nodes)
    above = [keccak256(left + right) for left, right in zip(pairs, pairs, strict=False)]
    return [*above, nodes[-1]] if len(nodes) & 1 else above


def _leaves(data: bytes, entries: int) -> list[bytes]:
    """Digest of each entry, and of the zeros after them."""
    whole = len(data) // ENTRY * ENTRY
    leaves = [keccak256(data[at : at + ENTRY]) for at in range(0, whole, ENTRY)]
    if whole < len(data):
        leaves.append(keccak256(data[whole:].ljust(ENTRY, b"\0")))
    return leaves + [_ZERO_LEAF] * (entries - len(leaves))


def _steps(index: int, width: int) -> int:
    """How many siblings the walk from a place in a tree takes."""
    steps = 0
    while width > 1:
        steps += (index ^ 1) < width
        index, width = index // 2, (width + 1) // 2
    return steps
