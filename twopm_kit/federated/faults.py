"""Evidence of faults, as ``convict`` of the round contract takes it, made of what the culprit has published.

Each function looks for a contradiction between messages that their sender has committed to on chain. It
returns the evidence, or None where the messages do not prove a fault. ``RoundJudge.vy`` reads what is written
here; both must be changed together.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Final

from eth_abi import abi as codec

from twopm_kit.kzg import compress, in_group
from twopm_kit.secagg.commitments import (
    HASH_BYTES,
    ShareKind,
    merkle_proof,
    seed_hash,
    share_leaf,
)
from twopm_kit.secagg.messages import OpenedShare, OpeningMessage, ShareMessage
from twopm_kit.secagg.roster import Roster
from twopm_kit.secagg.shares import PRIME, SECRET_BYTES, evaluation_point, share_value
from twopm_kit.secagg.vectors import VectorMessage, contradiction

__all__ = [
    "Evidence",
    "Fault",
    "bad_dealer",
    "bad_opener",
    "no_group_element",
    "no_share",
    "wrong_commitment",
]

_NUMBER: Final = "(bool,uint256)"
_LEAF: Final = f"(uint256,bytes32,uint256,uint256,{_NUMBER},bytes32[])"
_DEALER: Final = f"(bytes32,bytes32,bytes32,{_LEAF}[])"
_OPENER: Final = (
    "(uint256,bytes32,uint256,uint256,uint256,uint256,bytes32[],bytes32,bytes32,bytes32,bytes32,bytes32[])"
)
_VECTOR: Final = "(bytes32,bytes,bytes,bytes32[],bytes32,bytes)"
_POINT_BYTES: Final = 128


class Fault(IntEnum):
    """Faults that the chain can judge, with the contract's numbers."""

    BAD_DEALER = 1
    """Its shares do not lie on one polynomial, or not on that of the seed that it announced."""
    BAD_OPENER = 2
    """It has opened a share that it was not dealt, or one of the kind that must stay closed."""
    WRONG_COMMITMENT = 3
    """Its KZG commitment is not that of its vector."""
    WITHHELD = 4
    """It has left a challenge without an answer; ``report_silence`` is enough."""
    SILENCE = 5
    """A message was missing at its deadline; ``report_silence`` is enough."""


@dataclass(frozen=True)
class Evidence:
    """What ``convict(task, round, seat, fault, other, data)`` takes besides task and round.

    Attributes
    ----------
    seat : int
        Of the culprit.
    fault : Fault
    other : int
        Bad opener: seat of the dealer. Wrong commitment: index of the element, or of the commitment that is
        not in the group. Else 0.
    data : bytes
        ABI encoding of the struct that ``RoundJudge`` names for this fault.
    """

    seat: int
    fault: Fault
    other: int
    data: bytes

    @property
    def arguments(self) -> tuple[int, int, int, bytes]:
        """The last four arguments of ``convict``."""
        return self.seat, int(self.fault), self.other, self.data

    def __repr__(self) -> str:
        return f"Evidence({self.fault.name}, seat {self.seat}, {len(self.data):,} bytes)"


def bad_dealer(
    message: ShareMessage,
    openings: Sequence[OpeningMessage],
    roster: Roster,
    survivors: Collection[bytes],
) -> Evidence | None:
    """Prove with opened shares that a dealer has dealt shares that do not belong together.

    Parameters
    ----------
    message : ShareMessage
        The dealer's, as checked by `verify_share_message`.
    openings : sequence of OpeningMessage
        Those that open a share which is not the dealt one are left out: `bad_opener` is for them.
    roster : Roster
    survivors : collection of bytes
        The frozen list. Only shares of the kind that it asks for are evidence.

    Returns
    -------
    Evidence or None
        With threshold + 1 shares that lie on no polynomial of degree threshold - 1; else, for a survivor,
        with the threshold of shares whose secret is not the announced seed (Shamir 1979: as many points as
        coefficients fix the polynomial). None when the shares are in order, or too few are open.
    """
    kind = ShareKind.SELF_SEED if message.dealer in survivors else ShareKind.MASK_KEY
    found: dict[bytes, OpenedShare] = {}
    for opening in openings:
        for entry in opening.entries:
            dealt = entry.dealer == message.dealer and opening.opener in message.receivers
            if dealt and entry.kind is kind and _opens(message, opening.opener, entry):
                found[opening.opener] = entry
    enough = roster.threshold
    if len(found) < enough:
        return None
    base = list(found)[:enough]
    points = {evaluation_point(who): share_value(found[who].share) for who in base}
    for who in list(found)[enough:]:
        at = evaluation_point(who)
        if _interpolate(points, at) != share_value(found[who].share):
            return _dealer_evidence(message, {one: found[one] for one in (*base, who)}, roster)
    if kind is ShareKind.MASK_KEY:
        return None
    secret = _interpolate(points, 0)
    if secret >> (8 * SECRET_BYTES) == 0:
        seed = secret.to_bytes(SECRET_BYTES, "big")
        if seed_hash(message.binding, message.dealer, seed) == message.seed_hash:
            return None
    return _dealer_evidence(message, {one: found[one] for one in base}, roster)


def no_share(
    message: ShareMessage, receiver: bytes, kind: ShareKind, salt: bytes, share: bytes, roster: Roster
) -> Evidence | None:
    """Prove that what a dealer has committed to for one receiver is no share at all.

    Parameters
    ----------
    message : ShareMessage
    receiver : bytes
    kind : ShareKind
        The chain looks at the kind that the frozen survivor list asks for, no other.
    salt, share : bytes
        What was in the receiver's box; 32 and 33 bytes.
    roster : Roster

    Returns
    -------
    Evidence or None
        None when the value is below 2^256 + 297, or is not what the dealer has committed to.
    """
    leaf = share_leaf(message.binding, message.dealer, receiver, kind, salt, share)
    if int.from_bytes(share, "big") < PRIME or leaf != message.leaf(receiver, kind):
        return None
    opened = (roster.seat(receiver), salt, *_share_words(share), (False, 0), message.proof(receiver, kind))
    data = codec.encode([_DEALER], [(*_announced(message), [opened])])
    return Evidence(roster.seat(message.dealer), Fault.BAD_DEALER, 0, data)


def bad_opener(
    opening: OpeningMessage, message: ShareMessage, roster: Roster, survivors: Collection[bytes]
) -> Evidence | None:
    """Prove that an opener has opened another share of a dealer than the one it was dealt.

    Parameters
    ----------
    opening : OpeningMessage
        Under the opener's root on chain, and for the frozen survivor list.
    message : ShareMessage
        The dealer's, as checked by `verify_share_message`.
    roster : Roster
    survivors : collection of bytes
        The frozen list.

    Returns
    -------
    Evidence or None
        None when the entry opens the dealer's leaf and is of the kind that the list asks for, or when the
        opener has no entry for this dealer, which the chain cannot judge.
    """
    dealers = [entry.dealer for entry in opening.entries]
    if message.dealer not in dealers or opening.opener not in message.receivers:
        return None
    index = dealers.index(message.dealer)
    entry = opening.entries[index]
    wanted = ShareKind.SELF_SEED if message.dealer in survivors else ShareKind.MASK_KEY
    if entry.kind is wanted and _opens(message, opening.opener, entry):
        return None
    # what it was dealt instead; a wrong kind needs no comparison
    dealt: tuple[bytes, ...] = (bytes(HASH_BYTES),) * 4
    path: list[bytes] = []
    if entry.kind is wanted:
        dealt = (*_announced(message), message.leaf(opening.opener, entry.kind))
        path = message.proof(opening.opener, entry.kind)
    opened = (int(entry.kind), entry.salt, *_share_words(entry.share))
    place = (len(opening.entries), index, merkle_proof(opening.leaves, index))
    data = codec.encode([_OPENER], [(*opened, *place, *dealt, path)])
    return Evidence(roster.seat(opening.opener), Fault.BAD_OPENER, roster.seat(message.dealer), data)


def wrong_commitment(
    message: VectorMessage, commitments: bytes, blobs: Sequence[bytes], roster: Roster
) -> Evidence | None:
    """Prove that one element is one thing under a sender's data root and another in what it committed to.

    Parameters
    ----------
    message : VectorMessage
        The vector that is under the data root on chain.
    commitments : bytes
        What the sender has put on chain, 128 bytes each.
    blobs : sequence of bytes
        The blobs that these commitments stand for, as the sender made them public.
    roster : Roster

    Returns
    -------
    Evidence or None
        None when all elements agree.
    """
    found = contradiction(message, blobs)
    if found is None:
        return None
    chunk, point = found
    data = codec.encode(
        [_VECTOR],
        [
            (
                message.data_root,
                commitments,
                chunk.chunk if chunk else b"",
                chunk.path if chunk else (),
                point.value,
                point.proof,
            )
        ],
    )
    return Evidence(roster.seat(message.sender), Fault.WRONG_COMMITMENT, point.element, data)


def no_group_element(sender: bytes, data_root: bytes, commitments: bytes, roster: Roster) -> Evidence | None:
    """Prove that a commitment on chain is a point of the curve outside the group of KZG commitments.

    The contract adds any point of the curve, because a check of the group costs 32 times as much.

    Parameters
    ----------
    sender : bytes
    data_root, commitments : bytes
        What the sender has put on chain; 128 bytes a commitment.
    roster : Roster

    Returns
    -------
    Evidence or None
        None when all commitments are in the group.
    """
    for index in range(len(commitments) // _POINT_BYTES):
        if not in_group(compress(commitments[_POINT_BYTES * index : _POINT_BYTES * (index + 1)])):
            data = codec.encode([_VECTOR], [(data_root, commitments, b"", (), bytes(HASH_BYTES), b"")])
            return Evidence(roster.seat(sender), Fault.WRONG_COMMITMENT, index, data)
    return None


def _announced(message: ShareMessage) -> tuple[bytes, bytes, bytes]:
    return message.mask_public, message.seed_hash, message.root


def _opens(message: ShareMessage, receiver: bytes, entry: OpenedShare) -> bool:
    leaf = share_leaf(message.binding, message.dealer, receiver, entry.kind, entry.salt, entry.share)
    return leaf == message.leaf(receiver, entry.kind)


def _share_words(share: bytes) -> tuple[int, int]:
    return share[0], int.from_bytes(share[1:], "big")


def _dealer_evidence(message: ShareMessage, shares: dict[bytes, OpenedShare], roster: Roster) -> Evidence:
    leaves = []
    for who, entry in shares.items():
        product, x = 1, evaluation_point(who)
        for other in shares:
            if other != who:
                product = product * (x - evaluation_point(other)) % PRIME
        inverse = pow(product, -1, PRIME)
        # a word with a sign, as the judge writes numbers that may be longer than a word
        number = (False, inverse) if inverse >> 256 == 0 else (True, PRIME - inverse)
        leaves.append(
            (
                roster.seat(who),
                entry.salt,
                *_share_words(entry.share),
                number,
                message.proof(who, entry.kind),
            )
        )
    data = codec.encode([_DEALER], [(*_announced(message), leaves)])
    return Evidence(roster.seat(message.dealer), Fault.BAD_DEALER, 0, data)


def _interpolate(points: dict[int, int], at: int) -> int:
    """Give the value at `at` of the polynomial through some points, modulo the prime of the shares."""
    total = 0
    for x, y in points.items():
        above, below = 1, 1
        for other in points:
            if other != x:
                above = above * (at - other) % PRIME
                below = below * (x - other) % PRIME
        total += y * above * pow(below, -1, PRIME)
    return total % PRIME
