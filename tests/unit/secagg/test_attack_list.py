"""Attacks on sparse and grouped rounds that the other files do not try."""

from dataclasses import replace

import pytest

from twopm_kit.errors import ProtocolError, TamperedMessage
from twopm_kit.secagg import RoundConfig, ShareKind, total
from twopm_kit.secagg.context import party_name
from twopm_kit.secagg.messages import OpenedShare
from twopm_kit.secagg.node import verify_share_message

MEMBERS = 60  # more than the 50 of a complete graph
GROUPS = RoundConfig(clip=2.0, groups=2, min_clients=4, max_clients=6)


@pytest.fixture
def ring(make_round):
    return make_round(MEMBERS, length=3)


def test_a_share_of_a_dealer_that_is_no_neighbour_is_ignored_by_name(ring):
    ring.share().receive().mask().open()
    liar, far = ring.addresses[0], ring.addresses[30]
    stolen = next(e for e in ring.openings[far].entries if e.dealer == far)
    entries = (*ring.openings[liar].entries, OpenedShare(far, ShareKind.SELF_SEED, stolen.salt, stolen.share))
    ring.openings[liar] = replace(ring.openings[liar], entries=entries)
    decoded, unmasking = ring.finish()
    assert list(unmasking.faults) == [liar]
    assert "which dealt it none" in unmasking.faults[liar]
    assert abs(decoded.mean - ring.expected()).max() < decoded.step


def test_a_neighbours_box_does_not_open_for_another_neighbour(ring):
    """The storage swaps two boxes of one dealer; their leaves stay where they are."""
    ring.share()
    dealer, one, other = (ring.addresses[seat] for seat in (0, 1, 2))
    message = ring.messages[dealer]
    boxes, first = list(message.boxes), message.receivers.index(one) - 1
    second = message.receivers.index(other) - 1
    boxes[first], boxes[second] = boxes[second], boxes[first]
    ring.messages[dealer] = replace(message, boxes=tuple(boxes))
    ring.receive()
    for seat in (1, 2):
        assert "does not open" in ring.sessions[seat].complaints[dealer]
    assert not ring.sessions[3].complaints
    ring.mask().open()
    assert abs(ring.finish()[0].mean - ring.expected()).max() < ring.config.step


def test_who_seats_the_members_in_another_order_deals_to_nobody(ring):
    """Neighbours follow from the order on chain; a dealer that chooses its own is noticed by everybody."""
    cheat = ring.sessions[0]
    turned = dict(reversed(ring.peers.items()))
    message = cheat.share_message({ring.addresses[0]: ring.peers[ring.addresses[0]], **turned})
    assert message.receivers != ring.roster.receivers(ring.addresses[0])
    with pytest.raises(TamperedMessage, match=f"{party_name(ring.addresses[0])} is not for its neighbours"):
        verify_share_message(message, message.announcement, ring.context, ring.roster)


def test_a_second_survivor_list_is_refused_where_it_moves_a_neighbour_or_somebody_far(ring):
    ring.share().receive().mask().open()
    for moved in (1, 30):
        others = [address for seat, address in enumerate(ring.addresses) if seat != moved]
        with pytest.raises(ProtocolError, match="another survivor list"):
            ring.sessions[0].open_shares(others)


def test_a_vector_moved_to_another_groups_sum_never_decodes(make_round):
    stage = make_round(6, config=GROUPS).share().receive().mask().open()
    groups = [[stage.masked[i] for i in range(g, 6, 2)] for g in range(2)]
    mask = stage.reconstruct().mask
    m = stage.encoder.elements
    groups[1].append(groups[0].pop())
    for group, vectors in enumerate(groups):
        section = replace(stage.reconstruct(), mask=mask[group * m : (group + 1) * m])
        with pytest.raises(TamperedMessage, match="does not decode"):
            stage.encoder.decode(section.unmask(total(vectors)), len(vectors))


def test_two_groups_sums_exchanged_never_decode(make_round):
    stage = make_round(6, config=GROUPS).share().receive().mask().open()
    unmasking = stage.reconstruct()
    m = stage.encoder.elements
    first, second = (total(stage.masked[i] for i in range(g, 6, 2)) for g in range(2))
    for group, summed in enumerate((second, first)):
        section = replace(unmasking, mask=unmasking.mask[group * m : (group + 1) * m])
        with pytest.raises(TamperedMessage, match="does not decode"):
            stage.encoder.decode(section.unmask(summed), 3)
