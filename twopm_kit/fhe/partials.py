"""What members of a committee show each other, as strict bytes: the roster of a deal, partial openings."""

import hashlib
import json
import math
import re
import struct
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Any, Final

import numpy as np

from twopm_kit.errors import CommitteeError, DataError, WrongKey
from twopm_kit.fhe.container import MAX_CHUNKS
from twopm_kit.fhe.frame_html import counted
from twopm_kit.fhe.frames import as_bytes
from twopm_kit.fhe.raw import Words
from twopm_kit.untrusted import load_json

__all__ = ["MAX_MEMBERS", "Partial", "Roster", "same_opening"]

#: Members that a committee may have.
MAX_MEMBERS: Final = 64

_MAX_ROSTER: Final = 1 << 16
_HEX_32: Final = re.compile("[0-9a-f]{32}")
_HEX_64: Final = re.compile("[0-9a-f]{64}")
_ROSTER_LABEL: Final = b"twopm_kit.fhe.roster.1"
_PARTIAL_LABEL: Final = b"twopm_kit.fhe.partial.1"

# magic, version, roster, key, frame, member, members, level, ciphertexts, degree, precision
_PREFIX: Final = struct.Struct("<8sH32s16s32sHHHIId")
_MAGIC: Final = b"2PM.prt\n"
_VERSION: Final = 1
_MAX_DEGREE: Final = 1 << 16
_MAX_LEVEL: Final = 64
_AGAIN: Final = "ask the member for it again"


@dataclass(frozen=True)
class Roster:
    """Public facts of a deal: the dealer publishes them, and everybody checks against them.

    Parameters
    ----------
    profile, params, fingerprint : str
        Profile, hash of its parameters, and the key that was shared.
    threshold : int
        Members that it takes to open.
    budget : int
        Ciphertexts that each member takes part in opening.
    commitments : tuple of str
        SHA-256 of each member's share, 64 hex digits, member 1 first.
    """

    profile: str
    params: str
    fingerprint: str
    threshold: int
    budget: int
    commitments: tuple[str, ...]

    def __post_init__(self) -> None:
        texts = all(isinstance(text, str) for text in (self.profile, self.params, self.fingerprint))
        if not (
            texts
            and _HEX_64.fullmatch(self.params)
            and _HEX_32.fullmatch(self.fingerprint)
            and all(isinstance(c, str) and _HEX_64.fullmatch(c) for c in self.commitments)
            and type(self.threshold) is int
            and 2 <= self.threshold <= self.size <= MAX_MEMBERS
            and type(self.budget) is int
            and 0 < self.budget < 1 << 63
        ):
            raise CommitteeError(
                f"a committee of {self.size} with threshold {self.threshold!r} and budget {self.budget!r}; "
                f"expected 2 <= threshold <= members <= {MAX_MEMBERS}, a budget above 0, and hashes in hex",
                hint="deal to more members, or with a lower threshold",
            )

    @property
    def size(self) -> int:
        """Number of members; they are called 1 to ``size``."""
        return len(self.commitments)

    @cached_property
    def identity(self) -> bytes:
        """SHA-256 of all of this: compare it with what the dealer published."""
        return hashlib.sha256(_ROSTER_LABEL + self.to_bytes()).digest()

    def to_json(self) -> dict[str, Any]:
        """Fields as JSON takes them."""
        names = ("profile", "params", "fingerprint", "threshold", "budget")
        return {name: getattr(self, name) for name in names} | {"commitments": list(self.commitments)}

    def to_bytes(self) -> bytes:
        """Canonical JSON."""
        return json.dumps(self.to_json(), sort_keys=True, separators=(",", ":")).encode()

    @classmethod
    def from_json(cls, fields: Any) -> "Roster":
        """Check fields that anybody may have written.

        Raises
        ------
        CommitteeError
            Fields are missing, or are not what they must be.
        """
        try:
            return cls(**{**fields, "commitments": tuple(fields["commitments"])})
        except (TypeError, KeyError):
            raise CommitteeError(
                "the roster lacks fields or has others", hint="get it again from the dealer"
            ) from None

    @classmethod
    def from_bytes(cls, content: bytes) -> "Roster":
        """Read what `to_bytes` made.

        Raises
        ------
        CommitteeError
            Not a roster, or not one that can be.
        CiphertextError
            No bytes.
        """
        content = as_bytes(content, "a roster")
        try:
            fields = load_json(content) if len(content) <= _MAX_ROSTER else None
        except DataError:
            fields = None
        return cls.from_json(fields)


@dataclass(frozen=True, eq=False, repr=False)
class Partial:
    """One member's part of one opening of one frame, by one set of members.

    Parameters
    ----------
    roster, fingerprint, frame : str
        Identity of the deal, the key, and the Merkle root of the frame, in hex.
    member : int
        Whose part it is.
    members : tuple of int
        Who opens together, in order; all of them have to.
    precision : float
        Largest error on a value that the noise of all of them is made for.
    words : ndarray of uint64, shape (n_ciphertexts, level + 1, N)
        The part, in NTT form.
    """

    roster: str
    fingerprint: str
    frame: str
    member: int
    members: tuple[int, ...]
    precision: float
    words: Words

    @cached_property
    def commitment(self) -> str:
        """SHA-256 of the bytes, 64 hex digits: announce it first, show the partial when all have."""
        return hashlib.sha256(_PARTIAL_LABEL + self.to_bytes()).hexdigest()

    def to_bytes(self) -> bytes:
        """Header of some 110 bytes, then 8 bytes a word: 64 KB a ciphertext at N = 8192 and level 0."""
        count, rows, degree = self.words.shape
        prefix = _PREFIX.pack(
            _MAGIC,
            _VERSION,
            bytes.fromhex(self.roster),
            bytes.fromhex(self.fingerprint),
            bytes.fromhex(self.frame),
            self.member,
            len(self.members),
            rows - 1,
            count,
            degree,
            self.precision,
        )
        named = struct.pack(f"<{len(self.members)}H", *self.members)
        return prefix + named + self.words.astype("<u8", copy=False).tobytes()

    @classmethod
    def from_bytes(cls, content: bytes) -> "Partial":
        """Read the bytes of another member; whether they fit a frame, ``Committee.combine`` checks.

        Raises
        ------
        CommitteeError
            Not a partial opening, of another version, cut short or too long, or with impossible numbers.
        CiphertextError
            No bytes.
        """
        content = as_bytes(content, "a partial opening")
        if len(content) < _PREFIX.size or content[: len(_MAGIC)] != _MAGIC:
            raise CommitteeError(
                "these bytes are not a partial opening", hint="pass what Partial.to_bytes made"
            )
        _, version, roster, key, frame, member, size, level, count, degree, precision = _PREFIX.unpack_from(
            content
        )
        if version != _VERSION:
            raise CommitteeError(
                f"a partial opening has format version {version}; this kit reads version {_VERSION}",
                hint="make it again with this version of the kit",
            )
        start = _PREFIX.size + 2 * size
        limits = size <= MAX_MEMBERS and 0 < count <= MAX_CHUNKS and level <= _MAX_LEVEL
        if not (limits and 0 < degree <= _MAX_DEGREE) or len(content) != start + 8 * count * degree * (
            level + 1
        ):
            raise CommitteeError(
                f"a partial opening has {len(content)} bytes; its header announces "
                f"{counted(count, 'ciphertext')} at level {level}, degree {degree}, {size} members",
                hint=_AGAIN,
            )
        members = struct.unpack_from(f"<{size}H", content, _PREFIX.size)
        if member not in members or any(a >= b for a, b in pairwise((0, *members))):
            raise CommitteeError(f"a partial opening of member {member} names the set {members}", hint=_AGAIN)
        if not (math.isfinite(precision) and precision > 0.0):
            raise CommitteeError(
                f"a partial opening of member {member} has precision {precision}", hint=_AGAIN
            )
        words = np.frombuffer(content, "<u8", offset=start).reshape(count, level + 1, degree)
        return cls(roster.hex(), key.hex(), frame.hex(), member, members, precision, words.astype(np.uint64))

    def __repr__(self) -> str:
        return (
            f"<Partial of member {self.member} in {self.members}, "
            f"{counted(len(self.words), 'ciphertext')} of frame {self.frame[:8]}…, key "
            f"{self.fingerprint[:8]}…>"
        )


def same_opening(partial: Partial, roster: Roster, frame: str) -> None:
    """Refuse a partial of another key, deal or frame.

    Raises
    ------
    WrongKey, CommitteeError
        Names what it was made for.
    """
    if partial.fingerprint != roster.fingerprint:
        raise WrongKey(
            f"the partial opening of member {partial.member} is under key {partial.fingerprint}, the "
            f"committee has key {roster.fingerprint}",
            hint="combine partials of the committee that holds this key",
        )
    if partial.roster != roster.identity.hex():
        raise CommitteeError(
            f"member {partial.member} belongs to deal {partial.roster[:16]}…, not to "
            f"{roster.identity.hex()[:16]}…",
            hint="combine partials of one deal: shares of two deals do not fit together",
        )
    if partial.frame != frame:
        raise CommitteeError(
            f"member {partial.member} opened frame {partial.frame[:16]}…, not {frame[:16]}…",
            hint="send the member exactly the frame that is to be opened",
        )
