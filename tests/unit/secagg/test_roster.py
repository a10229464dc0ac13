"""The roster: seats, neighbours, groups and the survivor list's bits, as the contract counts them."""

import pytest
from eth_hash.auto import keccak
from hypothesis import given, settings
from hypothesis import strategies as st

from twopm_kit.errors import ProtocolError, RoundConfigError, TooFewSurvivors
from twopm_kit.secagg import Graph, Roster, RoundConfig

repeatable = settings(derandomize=True, deadline=None, max_examples=40)


def member(seat):
    return keccak(b"member" + seat.to_bytes(2, "big"))[:20]


def roster(members, degree=None, threshold=1, **changes):
    graph = Graph(members, degree or members - 1, threshold)
    return Roster(tuple(map(member, range(members))), graph, **changes)


def test_a_configuration_seats_its_members_in_the_order_given():
    config = RoundConfig(clip=1.0, max_clients=60)
    made = Roster.of(config, [member(i) for i in range(60)])
    assert made.graph == config.graph(60)
    assert (made.quorum, made.threshold, made.groups) == (31, 7, 1)
    assert [made.seat(member(i)) for i in (0, 30, 59)] == [0, 30, 59]
    assert made.receivers(member(59))[:3] == (member(59), member(0), member(1))
    with pytest.raises(ProtocolError, match="not a member"):
        made.seat(b"\x99" * 20)
    with pytest.raises(RoundConfigError):
        Roster.of(config, [member(0)])
    for wrong in ([member(0), member(0)], [member(0), "nobody"]):
        with pytest.raises(ProtocolError):
            Roster.of(config, wrong)


@pytest.mark.parametrize(
    ("members", "seats", "words"),
    [
        (3, [0, 2], [0b101]),
        (256, [255], [1 << 255]),
        (257, [0, 256], [1, 1]),
        (600, [255, 256, 599], [1 << 255, 1, 1 << 87]),
        (5, [], [0]),
    ],
)
def test_survivors_are_bits_of_words(members, seats, words):
    bitmap = roster(members).bitmap([member(seat) for seat in seats])
    assert bitmap == b"".join(word.to_bytes(32, "big") for word in words)


def test_groups_follow_seats_and_partners_are_of_one_group():
    made = roster(8, groups=3)
    assert [made.group(member(seat)) for seat in range(8)] == [0, 1, 2, 0, 1, 2, 0, 1]
    assert made.partners(member(0)) == (member(3), member(6))
    assert made.partners(member(5)) == (member(2),)
    assert made.group_counts([member(0), member(3), member(5)]) == [2, 0, 1]


@repeatable
@given(st.integers(5, 40), st.data())
def test_partners_are_mutual_and_neighbours(members, data):
    degree = data.draw(
        st.sampled_from([2, 4, members - 1]).filter(lambda k: k < members - 1 or k == members - 1)
    )
    made = roster(members, degree)
    for one in made.members:
        assert set(made.partners(one)) == set(made.receivers(one)) - {one}
        assert all(one in made.partners(other) for other in made.partners(one))


def test_a_survivor_list_comes_back_in_ring_order():
    made = roster(6, threshold=2, quorum=3)
    assert made.survivors([member(4), member(1), member(2)], made.members) == (
        member(1),
        member(2),
        member(4),
    )


@pytest.mark.parametrize(
    ("listed", "error", "words"),
    [
        ([0, 1, 1], ProtocolError, "a party twice"),
        ([0, 1, 99], ProtocolError, "unknown"),
        ([0, 1, 9], ProtocolError, "unknown"),
        ([0, 1, 2, 3], TooFewSurvivors, "4 of 10 members survive, expected at least 5"),
        ([0, 1, 2, 3, 4], TooFewSurvivors, "1 of the 5 members that hold shares of 0x"),
    ],
)
def test_survivor_lists_that_cannot_be_are_refused(listed, error, words):
    made = roster(10, 4, 2, quorum=5)
    shared = made.members[:9]
    with pytest.raises(error, match=words) as refusal:
        made.survivors([member(seat) for seat in listed], shared)
    assert refusal.value.hint


def test_the_dealer_that_lost_its_neighbours_is_named():
    made = roster(10, 4, 2, quorum=5)
    with pytest.raises(TooFewSurvivors, match="0x" + member(7).hex()):
        made.survivors([member(seat) for seat in range(6)], made.members)


@pytest.mark.parametrize(
    ("left", "fine"), [([0, 1, 3, 4], True), ([0, 3, 1, 4, 2], False), ([0, 1, 2, 3, 4, 5], True)]
)
def test_a_group_of_one_survivor_ends_the_round(left, fine):
    made = roster(6, threshold=2, groups=3, quorum=2)
    listed = [member(seat) for seat in left]
    if fine:
        assert len(made.survivors(listed, made.members)) == len(left)
    else:
        with pytest.raises(TooFewSurvivors, match="group 2 has 1 survivor"):
            made.survivors(listed, made.members)
