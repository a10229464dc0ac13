"""Events: decoding, filters, and cursors that miss nothing."""

import pytest
from eth_utils.crypto import keccak

from twopm_kit.errors import CallError

TAG = b"\x01" * 32


def test_events_are_decoded_and_ordered(chain, alice, probe):
    probe.mix(TAG, "hello", 5, b"\x00\xff", sender=alice)
    probe.bump(3, sender=alice)
    events = probe.events()
    assert [event.name for event in events] == ["Mixed", "Ping", "Ping", "Ping"]
    assert [(event.block, event.log_index) for event in events] == sorted(
        (event.block, event.log_index) for event in events
    )
    mixed = events[0]
    assert dict(mixed.args) == {
        "who": alice.address,
        "tag": TAG,
        "label": keccak(b"hello"),  # a chain keeps only the hash of an indexed string
        "number": 5,
        "data": b"\x00\xff",
    }
    assert list(mixed.args) == ["who", "tag", "label", "number", "data"]
    assert mixed.address == probe.address
    assert "Mixed in block" in repr(mixed)
    assert "<code>" in mixed._repr_html_()


def test_filters(chain, alice, probe):
    bob = chain.account("bob")
    for sender, tag, label in ((alice, 1, "x"), (bob, 1, "y"), (bob, 2, "x")):
        probe.mix(bytes([tag]) * 32, label, 0, b"", sender=sender)

    def count(**filters):
        return len(probe.events("Mixed", **filters))

    assert count() == 3
    assert count(who=alice) == 1
    assert count(who=bob.address) == 2
    assert count(who=[alice, bob]) == 3
    assert count(tag=TAG) == 2
    assert count(who=bob, tag=TAG) == 1
    assert count(label="x") == 2
    assert count(who=alice, tag=b"\x02" * 32) == 0
    assert len(probe.events("Ping")) == 0


def test_block_ranges_include_both_ends(chain, alice, probe):
    blocks = [probe.bump(sender=alice).block for _ in range(4)]
    assert [e.block for e in probe.events("Ping", blocks[1], blocks[2])] == blocks[1:3]
    assert [e.block for e in probe.events("Ping", from_block=blocks[3])] == blocks[3:]
    assert probe.events("Ping", from_block=blocks[3] + 1) == []
    assert probe.events("Ping", from_block=10**6) == []
    assert [e.block for e in probe.events("Ping", to_block=10**6)] == blocks


def test_wrong_filters_are_refused(probe):
    with pytest.raises(CallError, match="cannot be searched by number"):
        probe.events("Mixed", number=5)
    with pytest.raises(CallError, match="must be an address"):
        probe.events("Mixed", who="alice")
    with pytest.raises(CallError, match="filters need the event's name"):
        probe.events(who="alice")
    with pytest.raises(CallError, match="from_block must be a whole number"):
        probe.events("Mixed", from_block=-1)
    with pytest.raises(CallError, match="position must be a whole number"):
        probe.cursor("Mixed", position=-1)


def test_events_of_other_contracts_stay_apart(chain, alice, probe, probe_artifact):
    other = chain.deploy(probe_artifact, 1, sender=alice)
    other.bump(sender=alice)
    assert probe.events() == []
    assert len(other.events()) == 1


def test_a_cursor_misses_nothing_and_repeats_nothing(chain, alice, probe):
    cursor = probe.cursor("Ping")
    assert cursor.read() == []
    seen = []
    for burst in (1, 3, 0, 2):
        for _ in range(burst):
            probe.bump(2, sender=alice)
        chain.mine(burst + 1)
        seen += cursor.read()
    assert cursor.read() == []
    assert [event["number"] for event in seen] == [2, 2, 4, 4, 6, 6, 8, 8, 10, 10, 12, 12]
    assert len(seen) == len(probe.events("Ping"))


def test_a_stored_position_is_enough_to_go_on(chain, alice, probe):
    cursor = probe.cursor("Ping")
    probe.bump(sender=alice)
    assert len(cursor.read()) == 1
    stored = cursor.position
    assert type(stored) is int
    probe.bump(sender=alice)
    probe.bump(sender=alice)
    resumed = probe.cursor("Ping", position=stored)
    assert [event["number"] for event in resumed.read()] == [2, 3]
    assert str(resumed.position) in repr(resumed)


def test_a_cursor_follows_a_chain_that_went_back(chain, alice, probe):
    cursor = probe.cursor("Ping")
    probe.bump(sender=alice)
    assert len(cursor.read()) == 1
    before = chain.snapshot()
    for _ in range(3):
        probe.bump(sender=alice)
        cursor.read()
    before.revert()
    # other blocks take the place of those that were read, and more of them than before
    for _ in range(5):
        probe.bump(2, sender=alice)
    assert [event["number"] for event in cursor.read()] == [3, 3, 5, 5, 7, 7, 9, 9, 11, 11]
    before.revert()
    probe.bump(4, sender=alice)
    assert [event["number"] for event in cursor.read()] == [5, 5, 5, 5]
    assert cursor.read() == []


def test_confirmations_hold_back_young_blocks(chain, alice, probe):
    cursor = probe.cursor("Ping", confirmations=2)
    probe.bump(sender=alice)
    assert cursor.read() == []
    chain.mine(1)
    assert cursor.read() == []
    chain.mine(1)
    assert len(cursor.read()) == 1


def test_a_large_gap_is_read_in_one_go(chain, alice, probe):
    cursor = probe.cursor("Ping")
    probe.bump(sender=alice)
    chain.mine(300)
    probe.bump(sender=alice)
    assert [event["number"] for event in cursor.read()] == [1, 2]
