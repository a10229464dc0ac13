"""Sealed boxes: altered, replayed, redirected or reflected ones do not open; bad points are refused."""

import copy
import hashlib
import hmac
import pickle
from dataclasses import replace

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from twopm_kit.errors import ProtocolError, SecretRefused, TamperedMessage
from twopm_kit.secagg import BoxKey
from twopm_kit.secagg.boxes import check_public_key, open_box, seal

ALICE, BOB, CAROL = (bytes([i]) * 20 for i in (1, 2, 3))
P = 2**255 - 19
SMALL_ORDER = [
    0,
    1,
    325606250916557431795983626356110631294008115727848805560023387167927233504,
    39382357235489614581723060781553021112529911719440698176882885853963445705823,
    P - 1,
]
NOT_CANONICAL = [P, P + 1, P + 9, 2**255 + 9, 2**256 - 1]


@pytest.fixture
def keys():
    return {name: BoxKey.generate() for name in (ALICE, BOB, CAROL)}


@pytest.fixture
def box(context, keys):
    return seal(context, keys[ALICE], keys[BOB].public, ALICE, BOB, b"for Bob")


def opened(context, keys, box, sender=ALICE, receiver=BOB, key=None):
    return open_box(context, key or keys[receiver], keys[sender].public, sender, receiver, box)


def test_a_box_opens_for_its_receiver(context, keys, box):
    assert opened(context, keys, box) == b"for Bob"


def test_a_box_of_shares_is_no_sealed_opening(context, keys, box):
    opening = seal(context, keys[ALICE], keys[BOB].public, ALICE, BOB, b"for Bob", "opening")
    assert open_box(context, keys[BOB], keys[ALICE].public, ALICE, BOB, opening, "opening") == b"for Bob"
    for wrong, content in ((box, "opening"), (opening, "box")):
        with pytest.raises(TamperedMessage, match="does not open"):
            open_box(context, keys[BOB], keys[ALICE].public, ALICE, BOB, wrong, content)


def test_every_bit_is_authenticated(context, keys, box):
    for position in range(len(box)):
        altered = bytearray(box)
        altered[position] ^= 0x40
        with pytest.raises(TamperedMessage, match=r"0x0101.*does not open"):
            opened(context, keys, bytes(altered))


def test_key_and_associated_data_each_bind_round_sender_and_receiver(context, keys, box):
    """Opened by hand: either layer alone would refuse a redirected box, and both are there."""
    names, publics = ALICE + BOB, keys[ALICE].public + keys[BOB].public
    shared = keys[BOB].exchange(keys[ALICE].public)
    pseudorandom = hmac.digest(context.binding, shared, hashlib.sha256)
    info = b"twopm/secagg/v1/box" + names + publics
    key = hmac.digest(pseudorandom, info + b"\x01", hashlib.sha256)
    assert AESGCM(key).decrypt(box[:12], box[12:], context.binding + names) == b"for Bob"


@pytest.mark.parametrize("size", [0, 5, 12, 27])
def test_a_cut_box_is_refused(context, keys, box, size):
    with pytest.raises(TamperedMessage):
        opened(context, keys, box[:size])


@pytest.mark.parametrize(
    "change", [{"round": 4}, {"task_id": 8}, {"chain_id": 1}, {"contract": "0x" + "c1" * 20}]
)
def test_a_box_replayed_elsewhere_is_refused(context, keys, box, change):
    with pytest.raises(TamperedMessage):
        opened(replace(context, **change), keys, box)


def test_a_reflected_box_is_refused(context, keys, box):
    with pytest.raises(TamperedMessage):
        opened(context, keys, box, sender=BOB, receiver=ALICE)


def test_a_box_of_another_sender_or_for_another_receiver_is_refused(context, keys, box):
    with pytest.raises(TamperedMessage):
        opened(context, keys, box, sender=CAROL)
    with pytest.raises(TamperedMessage):
        opened(context, keys, box, receiver=CAROL)
    with pytest.raises(TamperedMessage):
        opened(context, keys, box, key=keys[CAROL])


def test_nonces_are_fresh(context, keys):
    boxes = {seal(context, keys[ALICE], keys[BOB].public, ALICE, BOB, b"same") for _ in range(20)}
    assert len({box[:12] for box in boxes}) == 20


@pytest.mark.parametrize("value", SMALL_ORDER)
def test_points_of_small_order_are_refused(value):
    public = value.to_bytes(32, "little")
    with pytest.raises(TamperedMessage, match="small order"):
        BoxKey.generate().exchange(public)
    with pytest.raises(TamperedMessage, match="small order"):
        check_public_key(public)


@pytest.mark.parametrize(
    "public", [v.to_bytes(32, "little") for v in NOT_CANONICAL] + [b"", bytes(31), bytes(33)]
)
def test_malformed_public_keys_are_refused(public):
    with pytest.raises(TamperedMessage, match="canonical"):
        BoxKey.generate().exchange(public)


def test_key_agreement_of_rfc_7748():
    """Section 6.1."""
    bob = BoxKey(bytes.fromhex("5dab087e624a8a4b79e17f8b83800ee66f3bb1292618b6fd1c2f8b27ff88e0eb"))
    alice = bytes.fromhex("8520f0098930a754748b7ddcb43ef75a0dbf3a0d26381af4eba4a98eaa9b4e6a")
    assert bob.public.hex() == "de9edb7d7b7dc1b4d35b61c2ece435373f8343c85b78674dadfc7e146f882b4f"
    assert bob.exchange(alice).hex() == "4a5d9d5ba4ce2de1728e3bf480350f25e07e21c947d19e3376f09b3c1e161742"


def test_a_key_pair_keeps_its_secret():
    secret = bytes(range(32))
    key = BoxKey(secret)
    assert secret.hex()[:8] not in repr(key)
    for leave in (pickle.dumps, copy.copy, copy.deepcopy):
        with pytest.raises(SecretRefused):
            leave(key)
    with pytest.raises(ProtocolError, match="32 bytes"):
        BoxKey(bytes(31))
