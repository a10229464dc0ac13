"""Sealed visibility: openings and results that only the owner, the verifiers and the members can read."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np

from twopm_kit.errors import TamperedMessage
from twopm_kit.federated.contract import AggregationContract, Roster
from twopm_kit.secagg import BoxKey, OpeningMessage, RoundContext, party_id
from twopm_kit.secagg.boxes import BOX_OVERHEAD, open_box, seal
from twopm_kit.secagg.field import Limbs, check_limbs
from twopm_kit.secrecy import KeptSecret

__all__ = ["Reader", "opened", "readers_of", "seal_opening", "seal_result", "unsealed_result"]

_HEADER: Final = b"2PM\x01E"
_ADDRESS = 20
_SIZE = 4
_MAX_READERS = 64


@dataclass(frozen=True, repr=False)
class Reader(KeptSecret):
    """A party with the key to read what is sealed for it.

    Attributes
    ----------
    account : str
        Its address.
    box_key : BoxKey
        Its key.
    """

    account: str
    box_key: BoxKey

    def __repr__(self) -> str:
        return f"Reader({self.account})"


def readers_of(contract: AggregationContract, task_id: int) -> dict[bytes, bytes]:
    """Return who may read the openings of a sealed task: address → box key of owner and verifiers."""
    terms = contract.terms(task_id)
    found = {party_id(v.account): v.box_key for v in contract.verifiers(task_id)}
    found[party_id(contract.owner(task_id))] = terms.owner_key
    return found


def seal_opening(
    context: RoundContext, key: BoxKey, message: OpeningMessage, readers: Mapping[bytes, bytes]
) -> bytes:
    """Seal one opening to every reader.

    Parameters
    ----------
    context : RoundContext
    key : BoxKey
        The opener's own.
    message : OpeningMessage
    readers : mapping
        Address → X25519 box key.
    """
    text = message.to_bytes()
    parts = [_HEADER, len(readers).to_bytes(1, "big")]
    for reader, public in sorted(readers.items()):
        try:
            box = seal(context, key, public, message.opener, reader, text, "opening")
        except TamperedMessage:
            # A key that nothing can be sealed to must not stop the opener: its owner reads nothing.
            box = os.urandom(BOX_OVERHEAD + len(text))
        parts += [reader, len(box).to_bytes(_SIZE, "big"), box]
    return b"".join(parts)


def opened(
    context: RoundContext, roster: Roster, sealed: Mapping[str, bytes], reader: Reader
) -> dict[str, bytes]:
    """Open the sealed openings that a reader can open; others are left out like those of silent nodes."""
    keys = {seat.node: seat.box_key for seat in roster.seats}
    me = party_id(reader.account)
    found = {}
    for opener, data in sealed.items():
        try:
            box = _box_for(data, me)
            found[opener] = open_box(
                context, reader.box_key, keys[opener], party_id(opener), me, box, "opening"
            )
        except TamperedMessage:
            continue
    return found


def seal_result(context: RoundContext, owner: Reader, receiver: bytes, public: bytes, result: Limbs) -> bytes:
    """Seal the sum of a round from the owner to one member."""
    text = check_limbs(result).tobytes()
    return seal(context, owner.box_key, public, party_id(owner.account), receiver, text, "opening")


def unsealed_result(
    context: RoundContext, contract: AggregationContract, task_id: int, box: bytes, reader: Reader
) -> Limbs:
    """Open the sum of a round that the owner has sealed to this reader; shape (m, 8)."""
    owner, public = party_id(contract.owner(task_id)), contract.terms(task_id).owner_key
    text = open_box(context, reader.box_key, public, owner, party_id(reader.account), box, "opening")
    if len(text) % 32:
        raise TamperedMessage(
            f"the sealed result has {len(text)} bytes, a multiple of 32 was expected",
            hint="Ask the owner for the result of this round again.",
        )
    return check_limbs(np.frombuffer(text, np.uint32).reshape(-1, 8))


def _box_for(data: bytes, reader: bytes) -> bytes:
    """Return the box of one reader, from strictly parsed bytes."""
    at = len(_HEADER) + 1
    if not data.startswith(_HEADER) or not 1 <= data[at - 1] <= _MAX_READERS:
        raise _malformed()
    found = b""
    for _ in range(data[at - 1]):
        address, size = data[at : at + _ADDRESS], data[at + _ADDRESS : at + _ADDRESS + _SIZE]
        at += _ADDRESS + _SIZE
        box = data[at : at + int.from_bytes(size, "big")]
        if len(size) != _SIZE or len(box) < BOX_OVERHEAD or len(box) != int.from_bytes(size, "big"):
            raise _malformed()
        at += len(box)
        if address == reader:
            found = box
    if at != len(data) or not found:
        raise _malformed()
    return found


def _malformed() -> TamperedMessage:
    return TamperedMessage(
        "a sealed opening is malformed, or holds no box for this reader",
        hint="Leave it out and name its sender.",
    )
