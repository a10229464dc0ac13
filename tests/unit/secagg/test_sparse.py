"""Rounds on the sparse graph: neighbours only, drop-outs up to the last share, and one beyond."""

from dataclasses import replace

import numpy as np
import pytest

from twopm_kit.errors import TooFewSurvivors
from twopm_kit.secagg import RoundConfig, ShareKind, Stage, simulate
from twopm_kit.secagg.context import party_name
from twopm_kit.secagg.masks import add_masks, pair_key, self_key
from twopm_kit.secagg.shares import combine

MEMBERS, DEGREE, THRESHOLD = 60, 24, 7
AROUND = [seat % MEMBERS for seat in range(-9, 10) if seat]  # 18 of the 24 neighbours of seat 0


@pytest.fixture
def ring(make_round):
    made = make_round(MEMBERS, length=11)
    assert (made.roster.graph.degree, made.roster.threshold) == (DEGREE, THRESHOLD)
    return made


def assert_right(stage):
    decoded, unmasking = stage.finish()
    assert np.all(np.abs(decoded.mean - stage.expected()) < decoded.step)
    assert unmasking.faults == {}


def test_a_member_deals_to_reads_and_opens_its_neighbours_only(ring):
    ring.share()
    far = ring.addresses[30]
    message = ring.messages[ring.addresses[0]]
    assert len(message.receivers) == DEGREE + 1
    assert len(message.boxes) == DEGREE
    assert far not in message.receivers
    spoiled = ring.messages | {far: b"noise"}
    session = ring.sessions[0]
    session.receive(spoiled, ring.announcements)
    assert session.complaints == {}
    ring.receive().mask(absent=[12]).open()
    opening = ring.openings[ring.addresses[0]]
    assert [entry.dealer for entry in opening.entries] == list(message.receivers)
    assert [e.dealer for e in opening.entries if e.kind is ShareKind.MASK_KEY] == [ring.addresses[12]]
    assert_right(ring)


def test_masks_are_shared_with_neighbours_only(ring):
    """A member's masked vector, taken apart with everybody's secrets."""
    ring.share().receive()
    session, vector = ring.sessions[0], ring.encoder.encode(ring.vectors[0])
    me, binding = session.address, ring.context.binding
    keys = {True: [self_key(bytes(session._seed), binding, me)], False: []}
    for seat in [*range(1, 13), *range(48, 60)]:
        other = ring.sessions[seat]
        shared = other._mask_key.exchange(session.mask_public)
        parties = {me: session.mask_public, other.address: other.mask_public}
        keys[other.address > me].append(pair_key(shared, binding, parties))
    expected = add_masks(len(vector), plus=keys[True], minus=keys[False], base=vector)
    assert np.array_equal(session.mask(vector), expected)


@pytest.mark.parametrize("step", ["share", "submit", "unmask"])
def test_the_last_share_is_enough_and_one_less_ends_the_round(ring, step):
    """Eighteen neighbours of seat 0 leave, so seven of its shares are left; then a nineteenth leaves."""
    absent = {"share": (), "submit": (), "unmask": ()} | {step: AROUND}
    ring.share(absent["share"]).receive().mask(absent["submit"]).open(absent["unmask"])
    assert_right(ring)


@pytest.mark.parametrize("step", ["share", "submit", "unmask"])
def test_one_neighbour_too_few_is_a_clean_end_that_names_the_dealer(ring, step):
    beyond = [*AROUND, 10]
    named = party_name(ring.addresses[0])
    if step == "share":
        ring.share(beyond)
        with pytest.raises(TooFewSurvivors, match=f"6 of the 25 .* of {named} shared"):
            ring.receive()
        assert ring.sessions[0].stage is Stage.SHARED
    elif step == "submit":
        ring.share().receive().mask(beyond)
        with pytest.raises(TooFewSurvivors, match=f"6 of the 25 .* of {named} survive"):
            ring.open()
        assert ring.sessions[0].stage is Stage.MASKED
    else:
        ring.share().receive().mask().open(beyond)
        with pytest.raises(TooFewSurvivors, match=f"6 good shares of SELF_SEED of {named}") as end:
            ring.finish()
        assert end.value.dealer == b""


def test_a_dealer_whose_neighbours_all_opened_is_to_blame_for_missing_shares(ring):
    """Nineteen boxes that do not open, and no one absent: the dealer is certain to be at fault."""
    ring.share()
    first = ring.addresses[0]
    message = ring.messages[first]
    ring.messages[first] = replace(message, boxes=tuple(bytes(len(b)) for b in message.boxes))
    ring.receive().mask().open()
    with pytest.raises(TooFewSurvivors, match="1 good shares") as end:
        ring.finish()
    assert end.value.dealer == first


def test_a_bad_opener_among_the_neighbours_is_named_and_ignored(ring):
    ring.share().receive().mask(absent=[5]).open()
    bad = ring.addresses[3]
    entries = list(ring.openings[bad].entries)
    entries[2] = replace(entries[2], share=bytes(33))
    ring.openings[bad] = replace(ring.openings[bad], entries=tuple(entries))
    decoded, unmasking = ring.finish()
    assert list(unmasking.faults) == [bad]
    assert np.all(np.abs(decoded.mean - ring.expected()) < decoded.step)


@pytest.mark.parametrize("drop", [range(30), range(1, 60, 2)])
def test_half_of_the_members_may_leave_where_shares_are_left(drop):
    """Far more than delta: a quorum of one majority must stay."""
    vectors = np.random.default_rng(4).normal(size=(MEMBERS, 5))
    config = RoundConfig(clip=4.0, max_clients=MEMBERS)
    gone = list(drop)[:29]
    if gone == list(range(29)):  # a block: those in its middle have lost all their neighbours
        with pytest.raises(TooFewSurvivors, match="hold shares of"):
            simulate(vectors, drop=gone, config=config)
    else:
        result = simulate(vectors, drop=gone, config=config)
        assert np.all(np.abs(result.mean - vectors[list(result.survivors)].mean(axis=0)) < result.step)


def test_a_hundred_members_and_thirty_drop_outs():
    vectors = np.random.default_rng(9).normal(size=(100, 20)).astype(np.float32)
    gone = np.random.default_rng(1).permutation(100)[:30].tolist()
    result = simulate(vectors, drop={"share": gone[:10], "submit": gone[10:20], "unmask": gone[20:]})
    assert (result.graph.degree, result.graph.threshold) == (34, 11)
    assert len(result.survivors) == 80
    assert np.all(np.abs(result.mean - vectors[list(result.survivors)].mean(axis=0)) < result.step)


def attackers_shares(ring, colluders, told):
    """Seat 0's shares that colluders hold, and that honest neighbours open for the lists they were told."""
    victim, shares = ring.addresses[0], {kind: {} for kind in ShareKind}
    for seat in colluders:
        for kind in ShareKind:
            shares[kind][ring.addresses[seat]] = ring.sessions[seat]._held[victim].pick(kind)[0]
    for seat, survivors in told.items():
        opening = ring.sessions[seat].open_shares(survivors)
        entry = next(e for e in opening.entries if e.dealer == victim)
        shares[entry.kind][ring.addresses[seat]] = entry.share
    return shares


def test_one_final_list_keeps_the_second_secret_out_of_reach(ring):
    """As many colluders as the tail bound allows, and every honest neighbour's opening: six shares of s."""
    ring.share().receive().mask()
    neighbours = ring.roster.graph.neighbours(0)
    colluders, honest = neighbours[: THRESHOLD - 1], neighbours[THRESHOLD - 1 :]
    shares = attackers_shares(ring, colluders, dict.fromkeys(honest, ring.survivors))
    assert combine(shares[ShareKind.SELF_SEED], THRESHOLD) == bytes(ring.sessions[0]._seed)
    with pytest.raises(TooFewSurvivors, match="6 shares, expected at least 7"):
        combine(shares[ShareKind.MASK_KEY], THRESHOLD)


def test_two_lists_would_give_both_secrets_away_below_the_larger_threshold(ring):
    """Why the chain freezes one list; and what t must be where nobody does."""
    ring.share().receive().mask()
    neighbours = ring.roster.graph.neighbours(0)
    colluders, honest = neighbours[: THRESHOLD - 1], neighbours[THRESHOLD - 1 :]
    told = {seat: ring.survivors[seat % 2 :] for seat in honest}  # every other one: the list without seat 0
    shares = attackers_shares(ring, colluders, told)
    assert combine(shares[ShareKind.SELF_SEED], THRESHOLD) == bytes(ring.sessions[0]._seed)
    assert combine(shares[ShareKind.MASK_KEY], THRESHOLD) == bytes(ring.sessions[0]._mask_secret)
    most = min(map(len, shares.values()))
    without_a_chain = (DEGREE + 1 + len(colluders)) // 2 + 1  # of find_graph(single_list=False)
    assert most < without_a_chain
