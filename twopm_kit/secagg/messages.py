"""What parties send each other in a round: frozen values with one canonical form in bytes.

Fixed-width binary: a five-byte header (format, version, kind of message), then fields of known size, counts
as two big-endian bytes. A parser accepts exactly the bytes that `to_bytes` writes, nothing more or less.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Final

from twopm_kit.errors import TamperedMessage
from twopm_kit.secagg.boxes import BOX_OVERHEAD, PUBLIC_BYTES
from twopm_kit.secagg.commitments import (
    HASH_BYTES,
    SALT_BYTES,
    ShareKind,
    merkle_proof,
    merkle_root,
    opening_leaf,
    share_digest,
)
from twopm_kit.secagg.context import ADDRESS_BYTES, ByParty, party_id, party_name
from twopm_kit.secagg.shares import SHARE_BYTES, share_value
from twopm_kit.secrecy import KeptSecret

__all__ = [
    "BOX_BYTES",
    "OpenedShare",
    "OpeningMessage",
    "ShareAnnouncement",
    "ShareMessage",
    "SharePair",
    "by_party",
]

MAX_PARTIES = 1024
_SHARE_HEADER: Final = b"2PM\x01S"
_OPENING_HEADER: Final = b"2PM\x01O"
_ENTRY_BYTES = ADDRESS_BYTES + 1 + SALT_BYTES + SHARE_BYTES
_PAIR_BYTES = 2 * (SHARE_BYTES + SALT_BYTES)
BOX_BYTES = BOX_OVERHEAD + _PAIR_BYTES


def _refuse(what: str) -> TamperedMessage:
    return TamperedMessage(what, hint="Refuse the message and name its sender.")


class _Reader:
    """Takes fixed-size fields from the front of a message, and insists on reaching its end exactly."""

    def __init__(self, data: bytes, header: bytes, name: str) -> None:
        if not isinstance(data, bytes) or not data.startswith(header):
            raise _refuse(f"{name}: expected bytes that begin with {header!r}")
        self._data, self._name, self._at = data, name, len(header)

    def take(self, size: int) -> bytes:
        field = self._data[self._at : self._at + size]
        if len(field) != size:
            raise _refuse(f"{self._name}: ends after {len(self._data)} bytes, expected more")
        self._at += size
        return field

    def count(self) -> int:
        count = int.from_bytes(self.take(2), "big")
        if not 1 <= count <= MAX_PARTIES:
            raise _refuse(f"{self._name}: {count} entries, expected 1 to {MAX_PARTIES}")
        return count

    def many(self, count: int, size: int) -> tuple[bytes, ...]:
        fields = self.take(count * size)
        return tuple(fields[at : at + size] for at in range(0, len(fields), size))

    def end(self) -> None:
        if self._at != len(self._data):
            raise _refuse(f"{self._name}: {len(self._data) - self._at} bytes too many")


def _check_sizes(name: str, fields: Mapping[str, tuple[bytes, int]]) -> None:
    for field, (value, size) in fields.items():
        if not isinstance(value, bytes) or len(value) != size:
            raise _refuse(f"{name}.{field} is not {size} bytes")


def _check_each(name: str, field: str, values: Sequence[bytes], size: int) -> None:
    if any(not isinstance(value, bytes) or len(value) != size for value in values):
        raise _refuse(f"{name}: a {field} is not {size} bytes")


def _check_parties(name: str, addresses: Sequence[bytes]) -> None:
    if not 1 <= len(addresses) <= MAX_PARTIES:
        raise _refuse(f"{name}: {len(addresses)} parties, expected 1 to {MAX_PARTIES}")
    _check_each(name, "address", addresses, ADDRESS_BYTES)
    if len(set(addresses)) != len(addresses):
        raise _refuse(f"{name}: a party is named twice")


@dataclass(frozen=True, repr=False)
class SharePair(KeptSecret):
    """What one sealed box carries: a receiver's share of b and of s, each with its salt."""

    seed_share: bytes
    seed_salt: bytes
    key_share: bytes
    key_salt: bytes

    def to_bytes(self) -> bytes:
        """Serialise to 130 bytes."""
        return self.seed_share + self.seed_salt + self.key_share + self.key_salt

    @classmethod
    def from_bytes(cls, data: bytes) -> "SharePair":
        """Parse 130 bytes, or raise `TamperedMessage`."""
        reader = _Reader(data, b"", "SharePair")
        widths = (SHARE_BYTES, SALT_BYTES, SHARE_BYTES, SALT_BYTES)
        pair = cls(*(reader.take(width) for width in widths))
        reader.end()
        share_value(pair.seed_share)
        share_value(pair.key_share)
        return pair

    def pick(self, kind: ShareKind) -> tuple[bytes, bytes]:
        """Return (share, salt) of one kind."""
        if kind is ShareKind.SELF_SEED:
            return self.seed_share, self.seed_salt
        return self.key_share, self.key_salt


@dataclass(frozen=True)
class ShareAnnouncement:
    """The part of a share message that goes on chain.

    Attributes
    ----------
    dealer : bytes
        Address.
    mask_public : bytes
        X25519 public key of the round's mask key s.
    seed_hash : bytes
        H(b).
    root : bytes
        Merkle root of the share leaves.
    """

    dealer: bytes
    mask_public: bytes
    seed_hash: bytes
    root: bytes

    def __post_init__(self) -> None:
        _check_sizes(
            "ShareAnnouncement",
            {
                "dealer": (self.dealer, ADDRESS_BYTES),
                "mask_public": (self.mask_public, PUBLIC_BYTES),
                "seed_hash": (self.seed_hash, HASH_BYTES),
                "root": (self.root, HASH_BYTES),
            },
        )

    @property
    def digest(self) -> bytes:
        """The one word that the contract keeps of it."""
        return share_digest(self.mask_public, self.seed_hash, self.root)

    def __repr__(self) -> str:
        return f"ShareAnnouncement({party_name(self.dealer)}, root={self.root.hex()[:16]}…)"


@dataclass(frozen=True)
class ShareMessage:
    """Message M1: a dealer's commitments and one sealed box per peer. Goes to storage.

    Attributes
    ----------
    binding : bytes
        `RoundContext.binding`.
    dealer : bytes
    mask_public, seed_hash : bytes
        As in `ShareAnnouncement`.
    receivers : tuple of bytes
        The dealer, then its neighbours in ring order (`Roster.receivers`).
    leaves : tuple of bytes
        Two per receiver, in receiver order: share of b, then share of s.
    boxes : tuple of bytes
        One per receiver other than the dealer, in receiver order.
    """

    binding: bytes
    dealer: bytes
    mask_public: bytes
    seed_hash: bytes
    receivers: tuple[bytes, ...]
    leaves: tuple[bytes, ...]
    boxes: tuple[bytes, ...]

    def __post_init__(self) -> None:
        name = "ShareMessage"
        _check_sizes(
            name,
            {
                "binding": (self.binding, HASH_BYTES),
                "dealer": (self.dealer, ADDRESS_BYTES),
                "mask_public": (self.mask_public, PUBLIC_BYTES),
                "seed_hash": (self.seed_hash, HASH_BYTES),
            },
        )
        _check_parties(name, self.receivers)
        if self.dealer != self.receivers[0]:
            raise _refuse(f"{name}: the dealer {party_name(self.dealer)} is not the first receiver")
        members = len(self.receivers)
        if len(self.leaves) != 2 * members or len(self.boxes) != members - 1:
            raise _refuse(
                f"{name}: {members} receivers need {2 * members} leaves and {members - 1} boxes, "
                f"got {len(self.leaves)} and {len(self.boxes)}"
            )
        _check_each(name, "leaf", self.leaves, HASH_BYTES)
        _check_each(name, "box", self.boxes, BOX_BYTES)

    @cached_property
    def root(self) -> bytes:
        """Merkle root of the leaves."""
        return merkle_root(self.leaves)

    @property
    def announcement(self) -> ShareAnnouncement:
        """What the dealer puts on chain."""
        return ShareAnnouncement(self.dealer, self.mask_public, self.seed_hash, self.root)

    @cached_property
    def _places(self) -> dict[bytes, int]:
        return {receiver: place for place, receiver in enumerate(self.receivers)}

    def leaf_index(self, receiver: bytes, kind: ShareKind) -> int:
        """Position of a share's leaf under the root."""
        return 2 * self._places[receiver] + kind

    def leaf(self, receiver: bytes, kind: ShareKind) -> bytes:
        """Return the commitment to a receiver's share of one kind."""
        return self.leaves[self.leaf_index(receiver, kind)]

    def proof(self, receiver: bytes, kind: ShareKind) -> list[bytes]:
        """Merkle path of that leaf, for a dispute on chain."""
        return merkle_proof(self.leaves, self.leaf_index(receiver, kind))

    def box_for(self, receiver: bytes) -> bytes:
        """Return the sealed box of a receiver other than the dealer."""
        return self.boxes[self._places[receiver] - 1]

    def to_bytes(self) -> bytes:
        """Serialise; the size depends on the number of receivers alone."""
        head = _SHARE_HEADER + self.binding + self.dealer + self.mask_public + self.seed_hash
        body = (*self.receivers, *self.leaves, *self.boxes)
        return head + len(self.receivers).to_bytes(2, "big") + b"".join(body)

    @classmethod
    def from_bytes(cls, data: bytes) -> "ShareMessage":
        """Parse, or raise `TamperedMessage`."""
        reader = _Reader(data, _SHARE_HEADER, "ShareMessage")
        binding, dealer = reader.take(HASH_BYTES), reader.take(ADDRESS_BYTES)
        public, seed = reader.take(PUBLIC_BYTES), reader.take(HASH_BYTES)
        members = reader.count()
        receivers = reader.many(members, ADDRESS_BYTES)
        leaves = reader.many(2 * members, HASH_BYTES)
        boxes = reader.many(members - 1, BOX_BYTES)
        reader.end()
        return cls(binding, dealer, public, seed, receivers, leaves, boxes)

    def __repr__(self) -> str:
        return f"ShareMessage(dealer={party_name(self.dealer)}, {len(self.boxes)} boxes)"


@dataclass(frozen=True)
class OpenedShare:
    """One share made public, with the salt that opens its leaf."""

    dealer: bytes
    kind: ShareKind
    salt: bytes
    share: bytes

    def __post_init__(self) -> None:
        _check_sizes(
            "OpenedShare",
            {
                "dealer": (self.dealer, ADDRESS_BYTES),
                "salt": (self.salt, SALT_BYTES),
                "share": (self.share, SHARE_BYTES),
            },
        )
        if self.kind not in tuple(ShareKind):
            raise _refuse(f"OpenedShare.kind is {self.kind!r}, expected 0 or 1")
        share_value(self.share)

    def to_bytes(self) -> bytes:
        """Serialise to 86 bytes."""
        return self.dealer + bytes([self.kind]) + self.salt + self.share


@dataclass(frozen=True)
class OpeningMessage:
    """Message M3: a survivor's opened shares, one per dealer, for one survivor list.

    Attributes
    ----------
    binding, opener : bytes
    survivors : bytes
        `survivors_digest` of the frozen survivor list.
    entries : tuple of OpenedShare
        The opener's own share first, then those of its neighbours in ring order; at most one per dealer: of
        b for a survivor, of s for a drop-out.
    """

    binding: bytes
    opener: bytes
    survivors: bytes
    entries: tuple[OpenedShare, ...]

    def __post_init__(self) -> None:
        name = "OpeningMessage"
        sizes = {
            "binding": (self.binding, HASH_BYTES),
            "opener": (self.opener, ADDRESS_BYTES),
            "survivors": (self.survivors, HASH_BYTES),
        }
        _check_sizes(name, sizes)
        _check_parties(f"{name} of {party_name(self.opener)}", [entry.dealer for entry in self.entries])

    @cached_property
    def root(self) -> bytes:
        """Merkle root over the entries, which goes on chain."""
        return merkle_root(self.leaves)

    @property
    def leaves(self) -> list[bytes]:
        """What the root is over, in the order of the entries."""
        head = self.binding, self.opener, self.survivors
        return [opening_leaf(*head, e.dealer, e.kind, e.salt, e.share) for e in self.entries]

    def to_bytes(self) -> bytes:
        """Serialise."""
        head = _OPENING_HEADER + self.binding + self.opener + self.survivors
        count = len(self.entries).to_bytes(2, "big")
        return head + count + b"".join(entry.to_bytes() for entry in self.entries)

    @classmethod
    def from_bytes(cls, data: bytes) -> "OpeningMessage":
        """Parse, or raise `TamperedMessage`."""
        reader = _Reader(data, _OPENING_HEADER, "OpeningMessage")
        binding, opener = reader.take(HASH_BYTES), reader.take(ADDRESS_BYTES)
        survivors, entries = reader.take(HASH_BYTES), []
        for _ in range(reader.count()):
            dealer, kind = reader.take(ADDRESS_BYTES), reader.take(1)[0]
            if kind not in tuple(ShareKind):
                raise _refuse(f"OpeningMessage: kind {kind} of share is unknown")
            entries.append(
                OpenedShare(dealer, ShareKind(kind), reader.take(SALT_BYTES), reader.take(SHARE_BYTES))
            )
        reader.end()
        return cls(binding, opener, survivors, tuple(entries))

    def __repr__(self) -> str:
        return f"OpeningMessage(opener={party_name(self.opener)}, {len(self.entries)} shares)"


def by_party(
    messages: ByParty[bytes | ShareMessage] | Iterable[ShareMessage],
) -> dict[bytes, bytes | ShareMessage]:
    """Index share messages by the address of their sender."""
    if isinstance(messages, Mapping):
        return {party_id(party): message for party, message in messages.items()}
    return {message.dealer: message for message in messages}
