"""Names objects as IPFS does: CIDv1 of a balanced UnixFS file with raw leaves.

An object is cut into chunks of 262,144 bytes, each a raw block under its SHA-256. Up to 174 blocks are linked
by a node (dag-pb around UnixFS data that tells the sizes), and nodes by nodes, until one is left; a single
chunk is its own root. These are the settings of Kubo's ``ipfs add --cid-version 1``.
"""

import hashlib
from base64 import b32encode
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final, NamedTuple

from twopm_kit.errors import StoreError
from twopm_kit.vsies.storage.entries import SLICE, read_slices

__all__ = [
    "DAG_PB",
    "RAW",
    "Block",
    "cid_bytes",
    "cid_text",
    "content_id",
    "file_cid",
    "file_nodes",
    "links_of",
    "varint",
]

RAW: Final = 0x55
DAG_PB: Final = 0x70
_WIDTH: Final = 174
_LINK: Final = b"\x12\x0a\x24"  # field "link", in it field "hash" of 36 bytes


class Block(NamedTuple):
    """A node of the tree: its CID in bytes, and what it holds."""

    cid: bytes
    data: bytes


class _Link(NamedTuple):
    cid: bytes
    size: int
    """Bytes of the object below."""
    weight: int
    """Bytes of all blocks below, the linked one included."""


def content_id(data: bytes | Path) -> str:
    """Compute the CID under which IPFS keeps an object.

    Parameters
    ----------
    data : bytes or Path
        The object, or the file that it is in; a file is read chunk by chunk.

    Returns
    -------
    str
        ``bafk…`` for up to 262,144 bytes, ``bafy…`` for more.

    Raises
    ------
    StoreError
        If the file cannot be read.
    """
    leaves, size = [], 0
    for part in read_slices(data):
        leaves.append(hashlib.sha256(part).digest())
        size += len(part)
    return file_cid(leaves or [hashlib.sha256().digest()], size)


def file_cid(leaves: Sequence[bytes], size: int) -> str:
    """Compute an object's CID from the SHA-256 of each of its chunks.

    Parameters
    ----------
    leaves : sequence of bytes
        32 bytes for each chunk of 262,144 bytes, at least one.
    size : int
        Bytes of the object.

    Returns
    -------
    str
        The CID.
    """
    last = cid_bytes(RAW, leaves[0])
    for block in file_nodes(leaves, size):
        last = block.cid
    return cid_text(last)


def file_nodes(leaves: Sequence[bytes], size: int) -> Iterator[Block]:
    """Make the nodes above an object's chunks, from the lowest to the root, which comes last.

    Parameters
    ----------
    leaves : sequence of bytes
        32 bytes for each chunk of 262,144 bytes.
    size : int
        Bytes of the object.

    Yields
    ------
    Block
        Each node; none for an object of a single chunk.
    """
    sizes = (min(SLICE, size - at * SLICE) for at in range(len(leaves)))
    level = [_Link(cid_bytes(RAW, digest), held, held) for digest, held in zip(leaves, sizes, strict=True)]
    while len(level) > 1:
        above = []
        for at in range(0, len(level), _WIDTH):
            children = level[at : at + _WIDTH]
            data = _node(children)
            cid = cid_bytes(DAG_PB, hashlib.sha256(data).digest())
            yield Block(cid, data)
            below = sum(child.weight for child in children)
            above.append(_Link(cid, sum(child.size for child in children), below + len(data)))
        level = above


def links_of(node: bytes) -> list[bytes]:
    """Read the CIDs that a node links to.

    Parameters
    ----------
    node : bytes
        A node in the form that `file_nodes` writes; it may come from anybody.

    Raises
    ------
    StoreError
        If it is of another form.
    """
    links, at = [], 0
    while at < len(node) and node[at] == _LINK[0]:
        # a link is shorter than 128 bytes, and starts with the CID as its first field
        end = at + 2 + node[min(at + 1, len(node) - 1)]
        cid = node[at + 4 : at + 40]
        if end > len(node) or node[at + 2 : at + 4] != _LINK[1:] or len(cid) != 36 or end < at + 40:
            break
        links.append(cid)
        at = end
    if not links or len(links) > _WIDTH or node[at : at + 1] != b"\x0a":
        raise StoreError(
            "a node is not that of a file in chunks of 262,144 bytes under CIDv1",
            hint="add the file with raw leaves, chunks of 262144 bytes and CID version 1",
        )
    return links


def cid_bytes(codec: int, digest: bytes) -> bytes:
    """Write a CIDv1: version, codec, SHA-256 (0x12) of 32 bytes, digest."""
    return bytes((1, codec, 0x12, 32)) + digest


def cid_text(cid: bytes) -> str:
    """Write a CID as people do: base32 in small letters behind the prefix b."""
    return "b" + b32encode(cid).decode().rstrip("=").lower()


def _node(children: Sequence[_Link]) -> bytes:
    """Serialise a dag-pb node: its links first, then UnixFS data of type file (2) with the size of each."""
    links = (
        _field(2, _field(1, child.cid) + _field(2, b"") + b"\x18" + varint(child.weight))
        for child in children
    )
    total = sum(child.size for child in children)
    sizes = b"".join(b"\x20" + varint(child.size) for child in children)
    return b"".join(links) + _field(1, b"\x08\x02\x18" + varint(total) + sizes)


def _field(number: int, value: bytes) -> bytes:
    return bytes((number << 3 | 2,)) + varint(len(value)) + value


def varint(number: int) -> bytes:
    """Write an unsigned number in groups of seven bits, the lowest first."""
    written = bytearray()
    while number > 127:
        written.append(number & 127 | 128)
        number >>= 7
    written.append(number)
    return bytes(written)
