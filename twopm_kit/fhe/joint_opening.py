"""What members of a set derive alike before they open a frame together: who, at which level, what noise."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from twopm_kit.errors import CiphertextError, CommitteeError
from twopm_kit.fhe.engine import Engine, engine_for
from twopm_kit.fhe.flooding import Flood, checked_precision, secure_normal
from twopm_kit.fhe.frames import EncryptedFrame, same_key
from twopm_kit.fhe.opening import plan_floods
from twopm_kit.fhe.partials import Roster
from twopm_kit.fhe.profiles import PROFILES
from twopm_kit.fhe.raw import Words, words

__all__ = ["JointOpening", "check_set", "engine_of", "lagrange_factor", "noise_words", "plan_opening"]

#: Values fill at most this part of the primes that are left; the rest is for noise.
_FILLED: Final = 0.9
#: Noise stays below this many standard deviations, and below what doubles hold exactly.
_TAIL: Final = 8.0
_EXACT: Final = 2.0**52


def engine_of(roster: Roster) -> Engine:
    """Parameters and arithmetic of the shared key.

    Raises
    ------
    CommitteeError
        This kit has no such profile, or has it with other parameters.
    """
    if not isinstance(roster, Roster):
        raise CommitteeError(
            f"an object of type {type(roster).__name__} was passed; expected the Roster of a deal",
            hint="read what the dealer published with Roster.from_bytes",
        )
    if roster.profile not in PROFILES:
        raise CommitteeError(
            f"the roster uses the profile {roster.profile!r}, which this kit does not have",
            hint=f"use one of: {', '.join(PROFILES)}",
        )
    engine = engine_for(roster.profile)
    if engine.params_hash != roster.params:
        raise CommitteeError(
            f"the roster's parameters are {roster.params[:16]}…; profile {roster.profile!r} has "
            f"{engine.params_hash[:16]}…",
            hint="deal again with this version of the kit",
        )
    return engine


def check_set(roster: Roster, members: Sequence[int]) -> tuple[int, ...]:
    """Return a set of members in order, once it can open.

    Raises
    ------
    CommitteeError
        Too few of them, unknown ones, or one twice.
    """
    named = list(members) if isinstance(members, Iterable) else [members]
    known = all(type(i) is int and 1 <= i <= roster.size for i in named)
    if not known or len(set(named)) != len(named) or len(named) < roster.threshold:
        raise CommitteeError(
            f"the set {named} was named; it takes at least {roster.threshold} different members of 1 "
            f"to {roster.size}",
            hint=f"name {roster.threshold} or more different members",
        )
    return tuple(sorted(named))


@dataclass(frozen=True, slots=True)
class JointOpening:
    """One opening of one frame, as each member of the set plans it.

    Parameters
    ----------
    frame : EncryptedFrame
        At the lowest level that has room for values and noise.
    floods : tuple of Flood
        Of one member, for each column.
    deviations : tuple of float
        Standard deviation of one member's noise in a coefficient, for each column.
    parties : int
        Members of the set.
    """

    frame: EncryptedFrame
    floods: tuple[Flood, ...]
    deviations: tuple[float, ...]
    parties: int

    @property
    def errors(self) -> tuple[float, ...]:
        """Largest error of a value of each column, of all members' noise together."""
        return tuple(flood.error * math.sqrt(self.parties) for flood in self.floods)

    def ciphers(self) -> list[tuple[Any, float]]:
        """Ciphertexts in the order in which their values are read, each with its noise."""
        frame, stored = self.frame, 1 if self.frame.layout.kind == "blocks" else len(self.frame.heads)
        pairs = list(zip(frame.heads, self.deviations, strict=True))[:stored]
        return [(cipher, deviation) for head, deviation in pairs for cipher in frame.ciphers(head.name)]


def plan_opening(enc: EncryptedFrame, roster: Roster, precision: float, parties: int) -> JointOpening:
    """Plan how a set of members opens a frame.

    Parameters
    ----------
    enc : EncryptedFrame
        Under the shared key, of size 2.
    roster : Roster
        Of the deal.
    precision : float
        Largest error that all members' noise together adds to a value.
    parties : int
        Members of the set.

    Raises
    ------
    WrongKey
        The frame is under another key.
    CiphertextError
        No frame, products that were not relinearised, or no room for the noise.
    """
    if not isinstance(enc, EncryptedFrame):
        raise CiphertextError(
            f"a {type(enc).__name__} was passed; expected an EncryptedFrame",
            hint="read files with EncryptedFrame.load(path)",
        )
    same_key(roster.fingerprint, enc.fingerprint, "opening by a committee")
    if enc.size != 2:
        raise CiphertextError(
            f"the ciphertexts have {enc.size} polynomials, as products have before relinearising; a "
            "committee opens those of 2",
            hint="relinearise first: enc.keys().relinearize, with frames that were read with key=evaluator",
        )
    precision = checked_precision(precision)
    engine, sums = enc.engine, enc.layout.kind == "sums"
    floods = plan_floods(enc, precision / math.sqrt(parties), roster.budget)
    # a slot gathers sqrt(slots) times the noise of a coefficient; a sum is slots times one coefficient
    per_value = engine.slots if sums else math.sqrt(engine.slots)
    deviations = tuple(f.std * h.scale / per_value for f, h in zip(floods, enc.heads, strict=True))
    largest = max(h.bound * h.scale for h in enc.heads) / (engine.slots if sums else 1.0)
    largest *= math.sqrt(2.0) if enc.packing == "complex" else 1.0
    noise = _TAIL * max(deviations) * math.sqrt(parties)
    for level in range(enc.level + 1):
        room = 2.0 ** engine.room_bits(level)
        if largest <= _FILLED * room:
            if largest + noise > room or noise > _EXACT:
                break
            return JointOpening(enc.drop_to(level), floods, deviations, parties)
    raise CiphertextError(
        f"values of up to 2^{math.log2(largest):.0f} and noise of 2^{math.log2(noise):.0f} do not fit into "
        f"profile {engine.profile.name!r} together",
        hint="ask for a finer precision=, or encrypt with smaller bounds=",
    )


def noise_words(engine: Engine, deviation: float, level: int) -> Words:
    """Gaussian polynomial in NTT form, from AES-CTR; ``deviation`` is that of a coefficient."""
    # Gaussian slots are Gaussian coefficients: the embedding is a rotation, times sqrt(slots)
    slots = secure_normal(2 * engine.slots).view(np.complex128) * (deviation * math.sqrt(engine.slots))
    return words(engine, engine.encode(slots, 1.0, level))[2]


def lagrange_factor(member: int, members: Iterable[int], prime: int) -> int:
    """Return the factor of a member's share in the value at 0, modulo a prime."""
    above = below = 1
    for other in members:
        if other != member:
            above = above * other % prime
            below = below * (other - member) % prime
    return above * pow(below, -1, prime) % prime
