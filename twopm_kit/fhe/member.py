"""One member of a committee: its share of a key, its parts of openings, its file."""

import hashlib
import hmac
import math
import struct
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

import numpy as np

from twopm_kit.errors import CommitteeError, WrongKey
from twopm_kit.fhe.engine import guard_fork
from twopm_kit.fhe.flooding import DEFAULT_PRECISION, QueryLedger
from twopm_kit.fhe.frames import EncryptedFrame
from twopm_kit.fhe.joint_opening import check_set, engine_of, lagrange_factor, noise_words, plan_opening
from twopm_kit.fhe.keyfile import SHARE_MAGIC, header_in, open_body, seal_body
from twopm_kit.fhe.partials import Partial, Roster
from twopm_kit.fhe.raw import Words, add_mod, cipher_words, multiply_mod, subtract_mod, uniform_words
from twopm_kit.fhe.seal_io import as_path, read_file, write_atomic
from twopm_kit.secrecy import KeptSecret

__all__ = ["SEED_BYTES", "Member", "share_commitment"]

#: Of the seed that two members share.
SEED_BYTES: Final = 32

_SHARE_LABEL: Final = b"twopm_kit.fhe.share.1"
_ZERO_LABEL: Final = b"twopm_kit.fhe.zero.1"
_COUNTS: Final = struct.Struct("<HQ")  # member, openings used


def share_commitment(number: int, fingerprint: str, seeds: Mapping[int, bytes], share: Words) -> str:
    """SHA-256 of all that a member gets in a deal, 64 hex digits."""
    digest = hashlib.sha256(_SHARE_LABEL + struct.pack("<H", number) + bytes.fromhex(fingerprint))
    digest.update(b"".join(seeds[other] for other in sorted(seeds)))
    digest.update(share.astype("<u8", copy=False).tobytes())
    return digest.hexdigest()


class Member(KeptSecret):
    """One member of a committee, with a share that never leaves it but sealed, in its own file.

    `Committee.deal` makes members, `load` reads them. A member counts the ciphertexts that it takes part in
    opening in ``ledger``.

    Parameters
    ----------
    roster : Roster
        Public facts of the deal.
    number : int
        1 to n.
    share : ndarray of uint64, shape (k, N)
        Value of the sharing polynomials at ``number``, for each prime of the profile's data.
    seeds : mapping of int to bytes
        For each other member, the 32 bytes that the two share.
    ledger : QueryLedger
        Counts.

    Raises
    ------
    CommitteeError
        The share is not the one that the roster's commitment names.
    """

    _holds = "a share of a secret key"
    _instead = "keep it with .save(path, passphrase), and give others its partial openings"

    __slots__ = ("__weakref__", "_engine", "_seeds", "_share", "ledger", "number", "roster")

    def __init__(
        self, roster: Roster, number: int, share: Words, seeds: Mapping[int, bytes], ledger: QueryLedger
    ) -> None:
        self._engine = engine_of(roster)
        self._share = share
        self._seeds = dict(seeds)
        self.roster: Final = roster
        self.number: Final = number
        self.ledger: Final = ledger
        expected = roster.commitments[number - 1] if 1 <= number <= roster.size else ""
        if not hmac.compare_digest(share_commitment(number, roster.fingerprint, seeds, share), expected):
            raise CommitteeError(
                f"the share of member {number} is not the one that the dealer committed to",
                hint="ask the dealer for the share and the roster of one deal",
            )

    @property
    def fingerprint(self) -> str:
        """Of the key that is shared."""
        return self.roster.fingerprint

    def partial(
        self, enc: EncryptedFrame, members: Sequence[int], *, precision: float = DEFAULT_PRECISION
    ) -> Partial:
        """Make this member's part of opening a frame, with its own noise.

        Parameters
        ----------
        enc : EncryptedFrame
            Under the shared key, of size 2. It is brought to the lowest level that its values fit.
        members : sequence of int
            Who opens: at least t different members, this one among them. All of them have to answer for the
            same frame and the same set.
        precision : float
            Largest error that all members' noise together adds to a value; larger is safer.

        Returns
        -------
        Partial
            Announce its ``commitment`` first, send ``to_bytes()`` when all have announced theirs.

        Raises
        ------
        WrongKey
            The frame is under another key.
        CommitteeError
            Too few members, unknown ones, or this one is not among them.
        CiphertextError
            The frame has products that were not relinearised, or no room for the noise.
        BudgetSpent
            The member has taken part in as many openings as it may.
        """
        guard_fork()
        chosen = check_set(self.roster, members)
        if self.number not in chosen:
            raise CommitteeError(
                f"member {self.number} was asked for a part of an opening by {chosen}",
                hint=f"name member {self.number} among members=, or ask another",
            )
        opening = plan_opening(enc, self.roster, precision, len(chosen))
        frame_root = enc.root
        ciphers = opening.ciphers()
        self.ledger.charge(len(ciphers))
        level = opening.frame.level
        primes = self._engine.primes[: level + 1]
        factors = [
            multiply_mod(row, lagrange_factor(self.number, chosen, prime), prime)
            for row, prime in zip(self._share, primes, strict=False)
        ]
        parts = self._zero(frame_root, chosen, primes, len(ciphers))
        for part, (cipher, deviation) in zip(parts, ciphers, strict=True):
            mask = cipher_words(self._engine, cipher)[1]
            noise = noise_words(self._engine, deviation, level)
            for r, prime in enumerate(primes):
                product = multiply_mod(mask[r], factors[r], prime)
                part[r] = add_mod(part[r], add_mod(product, noise[r], prime), prime)
        return Partial(
            roster=self.roster.identity.hex(),
            fingerprint=self.fingerprint,
            frame=frame_root,
            member=self.number,
            members=chosen,
            precision=precision,
            words=parts,
        )

    def _zero(self, frame: str, members: tuple[int, ...], primes: tuple[int, ...], count: int) -> Words:
        """Share of zero for one frame and one set, uniform to whoever lacks a seed: shape (count, k, N)."""
        degree = self._engine.profile.degree
        label = _ZERO_LABEL + bytes.fromhex(frame) + struct.pack(f"<{len(members)}H", *members)
        total = np.zeros((count * len(primes), degree), np.uint64)
        for other in members:
            if other != self.number:
                key = hmac.digest(self._seeds[other], label, "sha256")
                drawn = uniform_words(primes * count, degree, key)
                change = add_mod if self.number < other else subtract_mod
                for row, new, prime in zip(total, drawn, primes * count, strict=True):
                    row[:] = change(row, new, prime)
        return total.reshape(count, len(primes), degree)

    # Keeping ---------------------------------------------------------------------------------------------

    def save(self, path: str | Path, passphrase: str) -> Path:
        """Write the share, sealed with a passphrase (scrypt, AES-256-GCM), mode 600, whole or not at all.

        Openings are counted from now on in ``<path>.ledger`` beside it.

        Raises
        ------
        WrongKey
            The passphrase is too short, or the file holds another share, which would be lost.
        CiphertextError
            The file is there and is no share file.
        """
        guard_fork()
        target = as_path(path)
        header = {
            "profile": self.roster.profile,
            "fingerprint": self.fingerprint,
            "member": self.number,
            "roster": self.roster.to_json(),
        }
        if target.exists():
            there = header_in(SHARE_MAGIC, read_file(target, "a share file"), "share file")
            if any(there.get(name) != value for name, value in header.items()):
                raise WrongKey(
                    f"{target.name} holds another share, not that of member {self.number} of this deal: it "
                    "would be lost",
                    hint="save under another name, or move the old file away",
                )
        seeds = b"".join(self._seeds[other] for other in sorted(self._seeds))
        share = self._share.astype("<u8", copy=False).tobytes()
        inner = _COUNTS.pack(self.number, self.ledger.used) + seeds + share
        write_atomic(target, seal_body(SHARE_MAGIC, header, inner, passphrase), mode=0o600)
        self._keep_at(target)
        return target

    @classmethod
    def load(cls, path: str | Path, passphrase: str) -> "Member":
        """Read a share file.

        Raises
        ------
        WrongKey
            Wrong passphrase, or the file was changed.
        CiphertextError
            Not a share file, or of another version.
        CommitteeError
            The share is not the one of the deal.
        """
        source = as_path(path)
        header, inner = open_body(SHARE_MAGIC, read_file(source, "a share file"), "share file", passphrase)
        roster = Roster.from_json(header.get("roster"))
        engine = engine_of(roster)
        shape = (len(engine.primes), engine.profile.degree)
        start = _COUNTS.size + SEED_BYTES * (roster.size - 1)
        if len(inner) != start + 8 * math.prod(shape):
            raise CommitteeError(
                f"a share file holds {len(inner)} bytes; a share of profile {roster.profile!r} has "
                f"{start + 8 * math.prod(shape)}",
                hint="restore the file, or ask the dealer for a new deal",
            )
        number, used = _COUNTS.unpack_from(inner)
        others = [i for i in range(1, roster.size + 1) if i != number][: roster.size - 1]
        cut = range(_COUNTS.size, start, SEED_BYTES)
        seeds = {i: inner[at : at + SEED_BYTES] for i, at in zip(others, cut, strict=True)}
        share = np.frombuffer(inner, "<u8", offset=start).reshape(shape).astype(np.uint64)
        member = cls(roster, number, share, seeds, QueryLedger(roster.budget, used))
        member._keep_at(source)
        return member

    def _keep_at(self, path: Path) -> None:
        self.ledger.keep_at(
            path.with_name(path.name + ".ledger"), f"{self.roster.identity.hex()}/{self.number}"
        )

    def __repr__(self) -> str:
        return (
            f"<Member {self.number} of {self.roster.size}, key {self.fingerprint[:8]}…: keep it to yourself>"
        )
