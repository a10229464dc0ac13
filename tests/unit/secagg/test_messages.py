"""Messages: one form in bytes, and nothing else parses."""

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from twopm_kit.errors import TamperedMessage
from twopm_kit.secagg import OpeningMessage, ShareAnnouncement, ShareKind, ShareMessage
from twopm_kit.secagg.messages import BOX_BYTES, SharePair
from twopm_kit.secagg.shares import PRIME

repeatable = settings(derandomize=True, deadline=None, max_examples=50)


@pytest.fixture
def messages(make_round):
    finished = make_round(length=5).share().receive().mask(absent=[1]).open()
    return next(iter(finished.messages.values())), next(iter(finished.openings.values()))


def test_messages_survive_the_way_through_bytes(messages):
    for message in messages:
        parsed = type(message).from_bytes(message.to_bytes())
        assert parsed == message
        assert parsed.root == message.root
        assert parsed.to_bytes() == message.to_bytes()


def test_cut_longer_and_mixed_up_bytes_are_refused(messages):
    for message in messages:
        data = message.to_bytes()
        for wrong in [data[:n] for n in range(0, len(data), 61)] + [data[:-1], data + b"\x00", data * 2]:
            with pytest.raises(TamperedMessage):
                type(message).from_bytes(wrong)
        for other in (ShareMessage, OpeningMessage):
            if not isinstance(message, other):
                with pytest.raises(TamperedMessage, match="begin with"):
                    other.from_bytes(data)


@repeatable
@given(st.binary(max_size=400))
def test_noise_is_refused_by_name(noise):
    for parse, header in ((ShareMessage, b"2PM\x01S"), (OpeningMessage, b"2PM\x01O"), (SharePair, b"")):
        with pytest.raises(TamperedMessage):
            parse.from_bytes(header + noise)


@pytest.mark.parametrize("data", [None, "text", 7, bytearray(b"2PM\x01S")])
def test_what_is_not_bytes_is_refused(data):
    with pytest.raises(TamperedMessage):
        ShareMessage.from_bytes(data)


def test_a_giant_count_is_refused_before_anything_is_read(messages):
    share, _ = messages
    head = share.to_bytes()[: 5 + 32 + 20 + 32 + 32]
    for count in (0, 1025, 65535):
        with pytest.raises(TamperedMessage, match="entries, expected 1 to 1024"):
            ShareMessage.from_bytes(head + count.to_bytes(2, "big") + bytes(100))


def test_share_messages_that_contradict_themselves_are_refused(messages):
    share, _ = messages
    for wrong in (
        {"binding": bytes(31)},
        {"dealer": bytes(19)},
        {"dealer": b"\x01" * 20},
        {"mask_public": bytes(33)},
        {"seed_hash": b""},
        {"receivers": share.receivers[::-1]},
        {"receivers": (*share.receivers[:-1], share.receivers[1])},
        {"receivers": (share.receivers[0], *share.receivers[:-1])},
        {"receivers": share.receivers[:-1]},
        {"receivers": ()},
        {"leaves": share.leaves[:-1]},
        {"leaves": (*share.leaves[:-1], b"")},
        {"boxes": share.boxes[:-1]},
        {"boxes": (*share.boxes[:-1], bytes(BOX_BYTES - 1))},
    ):
        with pytest.raises(TamperedMessage):
            replace(share, **wrong)


def test_openings_that_contradict_themselves_are_refused(messages):
    _, opening = messages
    first, *rest = opening.entries
    other = ShareKind.MASK_KEY if first.kind is ShareKind.SELF_SEED else ShareKind.SELF_SEED
    for wrong in (
        {"opener": b"\x01" * 19},
        {"survivors": b""},
        {"binding": bytes(31)},
        {"entries": ()},
        {"entries": (first, *opening.entries)},
        {"entries": (first, replace(first, kind=other), *rest)},
    ):
        with pytest.raises(TamperedMessage):
            replace(opening, **wrong)
    for wrong in ({"share": bytes(32)}, {"share": PRIME.to_bytes(33, "big")}, {"salt": b""}, {"kind": 2}):
        with pytest.raises(TamperedMessage):
            replace(first, **wrong)


def test_an_unknown_kind_in_bytes_is_refused(messages):
    _, opening = messages
    data = bytearray(opening.to_bytes())
    position = len(data) - 86 * len(opening.entries) + 20
    assert data[position] in (0, 1)
    data[position] = 7
    with pytest.raises(TamperedMessage, match="kind 7"):
        OpeningMessage.from_bytes(bytes(data))


def test_the_announcement_is_three_words(messages):
    share, _ = messages
    announcement = share.announcement
    assert [len(w) for w in (announcement.mask_public, announcement.seed_hash, announcement.root)] == [32] * 3
    with pytest.raises(TamperedMessage):
        ShareAnnouncement(announcement.dealer, b"", announcement.seed_hash, announcement.root)


def test_no_message_prints_a_share(messages):
    share, opening = messages
    assert len(repr(share)) < 120
    assert len(repr(opening)) < 120
    pair = SharePair(bytes(33), b"\xaa" * 32, bytes(33), b"\xbb" * 32)
    assert "aa" not in repr(pair)
    assert repr(pair) == "SharePair(secret)"
