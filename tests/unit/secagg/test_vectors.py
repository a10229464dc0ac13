"""Masked vectors in storage: what verifies, who is to blame for what does not, and evidence for a judge."""

import dataclasses
import secrets

import numpy as np
import pytest
from eth_hash.auto import keccak
from hypothesis import given, settings
from hypothesis import strategies as st

from twopm_kit import kzg
from twopm_kit.errors import DataError, EncodingError, ProtocolError, TamperedMessage
from twopm_kit.secagg import MODULUS, RoundContext, from_words, to_words
from twopm_kit.secagg.vectors import MAX_ELEMENTS, ChunkProof, PointProof, VectorMessage, contradiction

CONTEXT = RoundContext(31337, "0x" + "c0" * 20, 1, 1)
ALICE, BOB = b"\xaa" * 20, b"\xbb" * 20
ELEMENTS = kzg.BLOB_ELEMENTS + 40  # two blobs, the second with a broken chunk


def vector(count=ELEMENTS):
    return from_words([secrets.randbelow(MODULUS) for _ in range(count)])


@pytest.fixture(scope="module")
def limbs():
    return vector()


@pytest.fixture(scope="module")
def message(limbs):
    return VectorMessage.of(CONTEXT, ALICE, limbs)


@pytest.fixture(scope="module")
def hashed(limbs):
    return VectorMessage.of(CONTEXT, ALICE, limbs, kzg=False)


def verify(message, sender=ALICE, like=None, **options):
    """Check a message against what the chain has from `like`."""
    like = like or message
    message.verify(CONTEXT, sender, like.data_root, like.points, **options)


def test_an_honest_vector_verifies_after_its_journey(message, limbs):
    arrived = VectorMessage.from_bytes(message.to_bytes())
    assert arrived == message
    verify(arrived, like=message, elements=ELEMENTS)
    verify(arrived, "0x" + ALICE.hex(), like=message)
    assert np.array_equal(arrived.limbs, limbs)
    assert arrived.limbs.dtype == np.uint32
    assert len(arrived) == ELEMENTS
    assert "0x" + "aa" * 20 in repr(arrived)
    assert [len(blob) for blob in arrived.blobs] == [kzg.BLOB_BYTES] * 2


def test_a_hashed_vector_verifies_too(hashed, message):
    arrived = VectorMessage.from_bytes(hashed.to_bytes())
    verify(arrived, elements=ELEMENTS)
    assert arrived.points == b""
    assert arrived.data_root == message.data_root
    assert arrived.digest == keccak(arrived.data_root)


def test_the_root_is_the_one_that_a_contract_computes(message, limbs):
    words = [word.to_bytes(32, "big") for word in to_words(limbs)]
    words += [bytes(32)] * (-len(words) % 32)
    level = [
        keccak(b"\x06" + CONTEXT.binding + ALICE + b"".join(words[at : at + 32]))
        for at in range(0, len(words), 32)
    ]
    count = len(level)
    while len(level) > 1:
        pairs = [keccak(b"\x01" + a + b) for a, b in zip(level[::2], level[1::2], strict=False)]
        level = pairs + level[len(level) - len(level) % 2 :]
    root = keccak(b"\x02" + count.to_bytes(32, "big") + level[0])
    assert message.data_root == root
    assert message.digest == keccak(root + message.points)
    assert len(message.points) == 256
    assert kzg.compress(message.points[:128]) == message.commitments[0]


def test_the_size_is_four_bytes_a_parameter():
    message = VectorMessage.of(CONTEXT, ALICE, vector(5_513), kzg=True)  # LeNet in eight lanes
    assert len(message.to_bytes()) / (8 * 5_513) < 4.01


def test_the_sum_of_commitments_is_the_commitment_to_the_sum():
    left, right = vector(10), vector(10)
    total = [(a + b) % MODULUS for a, b in zip(to_words(left), to_words(right), strict=True)]
    messages = [VectorMessage.of(CONTEXT, who, one) for who, one in ((ALICE, left), (BOB, right))]
    expected = VectorMessage.of(CONTEXT, ALICE, from_words(total))
    assert kzg.add(*(one.points for one in messages)) == expected.points


# What does not verify, and whose fault it is ------------------------------------------------------------


def refused(words, message, sender=ALICE, like=None, guilty=b"", **options):
    with pytest.raises(TamperedMessage, match=words) as caught:
        verify(message, sender, like, **options)
    assert caught.value.dealer == guilty
    assert caught.value.hint
    assert "0x" + sender.hex() in caught.value.message


def test_a_copied_root_or_commitment_or_vector_cannot_verify(message, limbs):
    """Bob puts on chain what Alice did, and shows her vector, relabelled or not, or one of his own."""
    refused("says that it is of", message, BOB, like=message)
    relabelled = dataclasses.replace(message, sender=BOB)
    refused("not the one whose root", relabelled, BOB, like=message)
    own = VectorMessage.of(CONTEXT, BOB, vector())
    refused("not the one whose root", own, BOB, like=message)
    # her commitments under a root of his own
    with pytest.raises(TamperedMessage, match=r"commitment 0 of 0xbb.* is not the one") as caught:
        own.verify(CONTEXT, BOB, own.data_root, message.points)
    assert caught.value.dealer == BOB
    borrowed = dataclasses.replace(own, commitments=message.commitments, proofs=message.proofs)
    refused("commitment 0 of 0xbb", borrowed, BOB, guilty=BOB)


def test_a_vector_of_another_round_is_refused(message):
    later = dataclasses.replace(CONTEXT, round=2)
    with pytest.raises(TamperedMessage, match="another round"):
        message.verify(later, ALICE, message.data_root, message.points)
    rebound = dataclasses.replace(message, binding=later.binding)
    assert rebound.data_root != message.data_root


def test_every_part_that_is_altered_is_noticed(message):
    data = message.to_bytes()
    head, tail = 5 + 32 + 20, 4 * 48
    for at in (
        0,
        4,
        5,
        36,
        37,
        56,
        57,
        60,
        61,
        62,
        63,
        1000,
        len(data) - tail,
        len(data) - 97,
        len(data) - 1,
    ):
        altered = data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]
        with pytest.raises(TamperedMessage):
            verify(VectorMessage.from_bytes(altered), like=message)
    assert head + 6 + 32 * ELEMENTS + tail == len(data)


def test_spoiled_proofs_are_refused_without_blaming_the_sender(message):
    swapped = dataclasses.replace(message, proofs=message.proofs[::-1])
    refused("commitments or proofs that came with", swapped, like=message)
    garbage = dataclasses.replace(message, proofs=(b"\xff" * 48, message.proofs[1]))
    refused("commitments or proofs that came with", garbage, like=message)
    recommitted = dataclasses.replace(message, commitments=message.commitments[::-1])
    refused("commitments or proofs that came with", recommitted, like=message)


def test_a_sender_that_commits_to_something_else_is_guilty(message):
    other = VectorMessage.of(CONTEXT, ALICE, vector())
    for points in (
        other.points,
        message.points[:128] + other.points[128:],
        message.points[:128] + bytes(127) + b"\x01",  # no point at all
    ):
        with pytest.raises(TamperedMessage, match="is not the one to its vector") as caught:
            message.verify(CONTEXT, ALICE, message.data_root, points)
        assert caught.value.dealer == ALICE


def test_a_commitment_outside_the_group_is_guilt_too(message):
    stranger = next(
        candidate
        for candidate in (((1 << 383) | x).to_bytes(48, "big") for x in (4, 5, 6, 7, 8, 9, 10))
        if _on_curve(candidate) and not kzg.in_group(candidate)
    )
    false = dataclasses.replace(message, commitments=(stranger, message.commitments[1]))
    points = kzg.uncompress(stranger) + message.points[128:]
    with pytest.raises(TamperedMessage, match="commitment 0") as caught:
        false.verify(CONTEXT, ALICE, message.data_root, points)
    assert caught.value.dealer == ALICE


def _on_curve(candidate):
    try:
        kzg.uncompress(candidate)
    except DataError:
        return False
    return True


@pytest.mark.parametrize("kind", [True, False])
def test_an_element_outside_the_field_is_the_senders_fault(kind):
    honest = VectorMessage.of(CONTEXT, ALICE, vector(50), kzg=kind)
    outside = honest.elements[: 32 * 7] + MODULUS.to_bytes(32, "big") + honest.elements[32 * 8 :]
    false = dataclasses.replace(honest, elements=outside)
    with pytest.raises(TamperedMessage, match=r"0xaa.* element 7 is not below"):
        false.limbs  # noqa: B018
    refused("element 7 is not below", false, guilty=ALICE)


def test_the_number_of_elements_and_commitments_is_the_rounds(message, hashed):
    refused(r"4,136 elements, expected 4,137", message, elements=ELEMENTS + 1)
    # zeros that fill the last chunk up are under the same root
    longer = dataclasses.replace(hashed, elements=hashed.elements + bytes(32))
    assert longer.data_root == hashed.data_root
    refused("4,137 elements, expected 4,136", longer, elements=ELEMENTS)
    refused("comes with 0 commitments, the chain has 2", hashed, like=message)
    refused("comes with 2 commitments, the chain has 0", message, like=hashed)


HOSTILE = [
    b"",
    b"2PM\x01V",
    b"2PM\x01S" + bytes(200),
    b"2PM\x01V" + bytes(57),
    b"2PM\x01V" + bytes(52) + b"\xff\xff\xff\xff" + bytes(2),
    b"2PM\x01V" + bytes(52) + (1).to_bytes(4, "big") + (2).to_bytes(2, "big") + bytes(32 + 192),
    b"2PM\x01V" + bytes(52) + (MAX_ELEMENTS).to_bytes(4, "big") + bytes(2) + bytes(320),
    "text",
    None,
]


@pytest.mark.parametrize("data", HOSTILE)
def test_hostile_bytes_are_refused(data):
    with pytest.raises(TamperedMessage) as caught:
        VectorMessage.from_bytes(data)
    assert caught.value.hint


@settings(max_examples=200, deadline=None)
@given(tail=st.binary(max_size=300))
def test_arbitrary_bytes_parse_to_what_writes_them_or_not_at_all(tail):
    data = b"2PM\x01V" + tail
    try:
        message = VectorMessage.from_bytes(data)
    except TamperedMessage:
        return
    assert message.to_bytes() == data


@pytest.mark.parametrize("change", [-1, 1, 32, 48, -48])
def test_no_other_length_is_accepted(message, change):
    data = message.to_bytes()
    with pytest.raises(TamperedMessage, match="bytes, expected"):
        VectorMessage.from_bytes(data[:change] if change < 0 else data + bytes(change))


@pytest.mark.parametrize(
    "changes",
    [
        {"binding": b""},
        {"sender": "0x" + "aa" * 20},
        {"elements": bytes(31)},
        {"elements": b""},
        {"commitments": (bytes(48),)},
        {"proofs": ()},
        {"proofs": (bytes(47), bytes(48))},
    ],
)
def test_a_message_that_is_put_together_wrongly_is_refused(message, changes):
    with pytest.raises(TamperedMessage):
        dataclasses.replace(message, **changes)


def test_only_vectors_of_the_field_are_sent():
    for wrong in (np.zeros((0, 8), np.uint32), np.zeros((3, 8)), np.full((3, 8), 2**32 - 1, np.uint32), [1]):
        with pytest.raises(EncodingError):
            VectorMessage.of(CONTEXT, ALICE, wrong)


# Evidence -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("element", [0, 31, 32, 4095, 4096, ELEMENTS - 1])
def test_one_element_is_opened_in_both_ways(message, limbs, element):
    word = to_words(limbs)[element].to_bytes(32, "big")
    chunk = message.chunk_proof(element)
    assert chunk.opens(message.data_root, CONTEXT, ALICE)
    assert chunk.value(element) == word
    point = PointProof.of(message.blobs, element)
    assert point.holds
    assert point.value == word
    assert point.commitment == message.commitments[element // 4096]
    data = point.to_bytes()
    assert len(data) == 192
    assert data[:32] == kzg.versioned_hash(point.commitment)
    assert int.from_bytes(data[32:64], "big") == kzg.omega(element % 4096)


def test_an_opening_holds_for_its_place_only(message):
    chunk = message.chunk_proof(70)
    assert not chunk.opens(message.data_root, CONTEXT, BOB)
    assert not chunk.opens(message.data_root, dataclasses.replace(CONTEXT, round=2), ALICE)
    assert not chunk.opens(keccak(b""), CONTEXT, ALICE)
    for changes in (
        {"index": 3},
        {"count": chunk.count + 1},
        {"chunk": bytes(1024)},
        {"path": chunk.path[:-1]},
        {"index": chunk.count},
    ):
        assert not dataclasses.replace(chunk, **changes).opens(message.data_root, CONTEXT, ALICE)
    point = PointProof.of(message.blobs, 5)
    assert not dataclasses.replace(point, element=6).holds
    assert not dataclasses.replace(point, value=bytes(32)).holds
    for beyond in (-1, ELEMENTS + 32):
        with pytest.raises(ProtocolError, match="in none of the"):
            message.chunk_proof(beyond)
    for beyond in (-1, 2 * 4096):
        with pytest.raises(ProtocolError, match="not in 2 blobs"):
            PointProof.of(message.blobs, beyond)


def test_a_contradiction_is_found_and_proved(message):
    assert contradiction(message, message.blobs) is None
    blobs = message.blobs
    blobs[1] = blobs[1][: 32 * 9] + bytes(32) + blobs[1][32 * 10 :]
    chunk, point = contradiction(message, blobs)
    assert isinstance(chunk, ChunkProof)
    assert point.element == 4096 + 9
    assert point.holds
    assert chunk.opens(message.data_root, CONTEXT, ALICE)
    assert point.commitment == kzg.commit(blobs[1])
    assert chunk.value(point.element) != point.value
    with pytest.raises(ProtocolError, match="1 blobs for a vector of 2"):
        contradiction(message, blobs[:1])


def test_what_hides_behind_the_end_of_the_vector_is_found_too(message):
    for element, has_leaf in ((ELEMENTS + 1, True), (4096 + 64, False)):
        at = 32 * (element - 4096)
        blobs = message.blobs
        blobs[1] = blobs[1][: at + 31] + b"\x07" + blobs[1][at + 32 :]
        chunk, point = contradiction(message, blobs)
        assert point.element == element
        assert point.holds
        assert int.from_bytes(point.value, "big") == 7
        assert (chunk is not None) == has_leaf
        if chunk is not None:
            assert chunk.value(element) == bytes(32)
