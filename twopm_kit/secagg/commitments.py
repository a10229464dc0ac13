"""Salted hash commitments and Merkle roots (keccak256), with leaves, nodes and roots kept apart.

One share has one leaf: a receiver has a leaf for the share of b and another for the share of s, each with
its own salt, so opening one kind says nothing about the other.
"""

from collections.abc import Sequence
from enum import IntEnum
from typing import Final

from eth_hash.auto import keccak

from twopm_kit.errors import ProtocolError
from twopm_kit.secagg.field import Limbs, to_big_endian

__all__ = [
    "CHUNK_ELEMENTS",
    "HASH_BYTES",
    "SALT_BYTES",
    "ShareKind",
    "chunk_leaf",
    "data_root",
    "mask_digest",
    "merkle_proof",
    "merkle_root",
    "opening_leaf",
    "seed_hash",
    "share_digest",
    "share_leaf",
    "survivors_digest",
    "vector_digest",
    "verify_proof",
]

HASH_BYTES = 32
SALT_BYTES = 32
CHUNK_ELEMENTS = 32

_LEAF: Final = b"\x00"
_NODE: Final = b"\x01"
_ROOT: Final = b"\x02"
_SEED: Final = b"\x03"
_OPENING: Final = b"\x04"
_SURVIVORS: Final = b"\x05"
_CHUNK: Final = b"\x06"


class ShareKind(IntEnum):
    """Which secret a share belongs to."""

    SELF_SEED = 0
    """b, opened for a survivor."""
    MASK_KEY = 1
    """s, opened for a drop-out."""


def share_leaf(
    binding: bytes, dealer: bytes, receiver: bytes, kind: ShareKind, salt: bytes, share: bytes
) -> bytes:
    """Commit to one share: keccak256(0x00 ‖ binding ‖ dealer ‖ receiver ‖ kind ‖ salt ‖ share)."""
    return keccak(_LEAF + binding + dealer + receiver + bytes([kind]) + salt + share)


def opening_leaf(
    binding: bytes,
    opener: bytes,
    survivors: bytes,
    dealer: bytes,
    kind: ShareKind,
    salt: bytes,
    share: bytes,
) -> bytes:
    """Commit to one opened share, under the digest of the survivor list that it was opened for."""
    return keccak(_OPENING + binding + opener + survivors + dealer + bytes([kind]) + salt + share)


def seed_hash(binding: bytes, owner: bytes, seed: bytes) -> bytes:
    """Commit to a self-mask seed, H(b); 32 random bytes need no further salt."""
    return keccak(_SEED + binding + owner + seed)


def share_digest(mask_public: bytes, seed_hash: bytes, root: bytes) -> bytes:
    """Digest of a share announcement, the one word that a contract keeps of it."""
    return keccak(mask_public + seed_hash + root)


def survivors_digest(binding: bytes, bitmap: bytes) -> bytes:
    """Digest of the frozen survivor list, as `Roster.bitmap` writes it."""
    return keccak(_SURVIVORS + binding + bitmap)


def chunk_leaf(binding: bytes, sender: bytes, chunk: bytes) -> bytes:
    """Commit to `CHUNK_ELEMENTS` elements of a masked vector, as big-endian words."""
    return keccak(_CHUNK + binding + sender + chunk)


def data_root(binding: bytes, sender: bytes, words: bytes) -> bytes:
    """Merkle root over the chunks of a masked vector.

    Parameters
    ----------
    binding, sender : bytes
    words : bytes
        The vector as 32-byte big-endian words (`to_big_endian`); zeros fill the last chunk up.
    """
    size = CHUNK_ELEMENTS * HASH_BYTES
    padded = words + bytes(-len(words) % size)
    return merkle_root(
        [chunk_leaf(binding, sender, padded[at : at + size]) for at in range(0, len(padded), size)]
    )


def vector_digest(root: bytes, commitments: Sequence[bytes] = ()) -> bytes:
    """Digest of a submission, the one word that a contract keeps of it.

    Parameters
    ----------
    root : bytes
        `data_root` of the vector.
    commitments : sequence of bytes
        Its KZG commitments, 128 bytes each (EIP-2537, uncompressed).
    """
    return keccak(root + b"".join(commitments))


def mask_digest(mask: Limbs) -> bytes:
    """keccak256 over the total mask as 32-byte big-endian words: what a contract compares with Y − X."""
    return keccak(to_big_endian(mask))


def _parents(level: list[bytes]) -> list[bytes]:
    # An odd last node moves up unchanged; the root binds the count, so this is never ambiguous.
    paired = [keccak(_NODE + level[i] + level[i + 1]) for i in range(0, len(level) - 1, 2)]
    return paired + level[len(level) & ~1 :]


def merkle_root(leaves: Sequence[bytes]) -> bytes:
    """Root over 32-byte leaves: keccak256(0x02 ‖ count as uint256 ‖ top), nodes keccak256(0x01 ‖ l ‖ r)."""
    level = list(leaves)
    if not level:
        raise ProtocolError("a Merkle root needs a leaf, got none", hint="Pass at least one leaf.")
    while len(level) > 1:
        level = _parents(level)
    return keccak(_ROOT + len(leaves).to_bytes(32, "big") + level[0])


def merkle_proof(leaves: Sequence[bytes], index: int) -> list[bytes]:
    """Siblings from leaf `index` up to the top, for a dispute about one leaf."""
    if not 0 <= index < len(leaves):
        raise ProtocolError(
            f"leaf {index} of {len(leaves)} does not exist", hint="Pass an index of the leaf list."
        )
    level, path = list(leaves), []
    while len(level) > 1:
        if index ^ 1 < len(level):
            path.append(level[index ^ 1])
        level, index = _parents(level), index // 2
    return path


def verify_proof(root: bytes, count: int, index: int, leaf: bytes, path: Sequence[bytes]) -> bool:
    """Tell whether `leaf` is leaf `index` of the `count` leaves under `root`."""
    if not 0 <= index < count:
        return False
    node, width, siblings = leaf, count, list(path)
    while width > 1:
        if index ^ 1 < width:
            if not siblings:
                return False
            sibling = siblings.pop(0)
            node = keccak(_NODE + (sibling + node if index & 1 else node + sibling))
        index, width = index // 2, (width + 1) // 2
    return not siblings and keccak(_ROOT + count.to_bytes(32, "big") + node) == root
