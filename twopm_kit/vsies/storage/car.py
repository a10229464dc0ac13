"""Carries objects as CARv1, the file that every IPFS node and pinning service takes.

A CAR (https://ipld.io/specs/transport/car/carv1/) is a header that names the root CID, then the blocks, each
as its length, its CID and its bytes. Here the blocks come depth first, as other tools write them.
"""

import hashlib
from collections.abc import Callable
from typing import IO, Final

from twopm_kit.errors import StoreError
from twopm_kit.vsies.storage.cid import DAG_PB, RAW, Block, cid_bytes, cid_text, file_nodes, links_of, varint
from twopm_kit.vsies.storage.entries import LARGEST, SLICE
from twopm_kit.vsies.storage.manifest import Manifest

__all__ = ["read_car", "write_car"]

_CID: Final = 36
_LARGEST_BLOCK: Final = 1 << 20
# dag-cbor of {"roots": [CID], "version": 1}; a CID is tag 42 around a zero and its 36 bytes
_HEAD: Final = b"\xa2\x65roots\x81\xd8\x2a\x58\x25\x00"
_TAIL: Final = b"\x67version\x01"


def write_car(manifest: Manifest, slice_of: Callable[[int], bytes], file: IO[bytes]) -> None:
    """Write an object as CARv1.

    Parameters
    ----------
    manifest : Manifest
        What the object consists of.
    slice_of : callable
        Gives a slice by its number, checked.
    file : binary file
        Where to.
    """
    nodes = {block.cid: block.data for block in file_nodes(manifest.leaves, manifest.size)}
    root = next(reversed(nodes), cid_bytes(RAW, manifest.leaves[0]))
    _write(file, _HEAD + root + _TAIL)
    slices = iter(range(len(manifest.leaves)))
    open_nodes = [root]
    while open_nodes:
        cid = open_nodes.pop()
        data = nodes[cid] if cid in nodes else slice_of(next(slices))
        _write(file, cid, data)
        if cid in nodes:
            open_nodes.extend(reversed(links_of(data)))


def read_car(file: IO[bytes], whole: IO[bytes]) -> str:
    """Read the object of a CARv1 that was written depth first; every block is checked against its CID.

    Parameters
    ----------
    file : binary file
        The CAR, from its start.
    whole : binary file
        Where the object goes.

    Returns
    -------
    str
        The CID that the CAR names as its root.

    Raises
    ------
    StoreError
        If it is no CARv1 with one root, a block is not what its CID says, or blocks are missing, foreign, in
        another order or too many.
    """
    head = _read(file, "its header")
    if len(head) != len(_HEAD) + _CID + len(_TAIL) or not (head.startswith(_HEAD) and head.endswith(_TAIL)):
        raise _refused("its header does not name one root of version 1")
    root, size = head[len(_HEAD) : len(_HEAD) + _CID], 0
    awaited = [root]
    while awaited:
        cid = awaited.pop()
        block = _read_block(file)
        if block.cid != cid:
            raise _refused("its blocks are missing, foreign, or not depth first")
        if cid == cid_bytes(RAW, block.cid[4:]):
            if len(block.data) > SLICE:
                raise _refused("a raw block is larger than a slice")
            size += len(block.data)
            if size > LARGEST:
                raise _refused(f"its object is larger than {LARGEST:,} bytes")
            whole.write(block.data)
        elif cid == cid_bytes(DAG_PB, block.cid[4:]):
            awaited.extend(reversed(links_of(block.data)))
        else:
            raise _refused("it has blocks that are neither raw nor dag-pb under SHA-256")
    if file.read(1):
        raise _refused("it goes on after its last block")
    return cid_text(root)


def _read_block(file: IO[bytes]) -> Block:
    section = _read(file, "a block")
    block = Block(section[:_CID], section[_CID:])
    if hashlib.sha256(block.data).digest() != block.cid[4:]:
        raise _refused("a block is not what its CID says")
    return block


def _read(file: IO[bytes], what: str) -> bytes:
    """Read a section: its length, at most a mebibyte, and its bytes."""
    length = 0
    for shift in (0, 7, 14):
        byte = file.read(1)
        if not byte:
            raise _refused(f"it ends before {what}")
        length |= (byte[0] & 127) << shift
        if byte[0] < 128:
            break
    else:
        raise _refused(f"{what} is longer than {_LARGEST_BLOCK:,} bytes")
    held = file.read(min(length, _LARGEST_BLOCK))
    if len(held) != length:
        raise _refused(f"it ends within {what}")
    return held


def _write(file: IO[bytes], *parts: bytes) -> None:
    file.write(varint(sum(len(part) for part in parts)))
    for part in parts:
        file.write(part)


def _refused(why: str) -> StoreError:
    return StoreError(f"the CAR is refused: {why}", hint="export it again with kit.vsies.Store.export_car")
