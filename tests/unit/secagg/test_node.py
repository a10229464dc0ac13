"""The node's state machine: every step in its stage, and refused in every other one."""

import pickle

import numpy as np
import pytest

from twopm_kit.errors import ProtocolError, RoundConfigError, SecretRefused, TooFewSurvivors
from twopm_kit.secagg import BoxKey, RoundConfig, ShareKind, Stage
from twopm_kit.secagg.messages import BOX_BYTES

STEPS = ("share_message", "receive", "mask", "open_shares")
ALLOWED = {
    ("share_message", Stage.NEW),
    ("receive", Stage.SHARED),
    ("mask", Stage.RECEIVED),
    ("open_shares", Stage.MASKED),
}


def bring_to(members, stage):
    if stage >= Stage.SHARED:
        members.share()
    if stage >= Stage.RECEIVED:
        members.receive()
    if stage >= Stage.MASKED:
        members.mask()
    if stage == Stage.OPENED:
        members.open()
    if stage == Stage.CLOSED:
        members.open()
        members.sessions[0].close()


def arguments(members, other, step):
    """Arguments that the step accepts in its own stage, other than those that it was given before."""
    if step == "share_message":
        return (dict(list(members.peers.items())[:-1]),)
    if step == "receive":
        return members.messages, members.announcements[:-1]
    if step == "mask":
        return (other,)
    return (members.addresses[:-1],)


@pytest.mark.parametrize("stage", list(Stage))
@pytest.mark.parametrize("step", STEPS)
def test_every_step_in_every_stage(make_round, step, stage):
    members = make_round()
    bring_to(members, stage)
    session = members.sessions[0]
    assert session.stage is stage
    vector = members.encoder.encode(np.ones(37), 9)
    call = getattr(session, step)
    if (step, stage) in ALLOWED:
        call(*arguments(members, vector, step))
        assert session.stage == stage + 1
    else:
        with pytest.raises(ProtocolError):
            call(*arguments(members, vector, step))
        assert session.stage is stage


def test_repeating_a_step_with_the_same_arguments_repeats_the_answer(make_round):
    members = make_round().share().receive()
    session, vector = members.sessions[0], members.encoder.encode(np.ones(37))
    assert session.share_message(members.peers) is members.messages[session.address]
    session.receive(members.messages, members.announcements)
    first = session.mask(vector)
    assert np.array_equal(session.mask(vector.copy()), first)
    assert not np.array_equal(first, vector)
    assert session.open_shares(members.addresses) is session.open_shares(members.addresses[::-1])


def test_a_second_vector_is_never_masked(make_round):
    members = make_round().share().receive()
    session = members.sessions[0]
    session.mask(members.encoder.encode(np.zeros(37)))
    with pytest.raises(ProtocolError, match="another vector"):
        session.mask(members.encoder.encode(np.ones(37)))


def test_exactly_one_kind_of_share_per_dealer(make_round):
    members = make_round().share().receive().mask(absent=[3])
    opening = members.sessions[0].open_shares(members.survivors)
    kinds = {entry.dealer: entry.kind for entry in opening.entries}
    assert kinds == {
        a: ShareKind.MASK_KEY if i == 3 else ShareKind.SELF_SEED for i, a in enumerate(members.addresses)
    }


def test_a_second_survivor_list_is_refused(make_round):
    members = make_round().share().receive().mask()
    session = members.sessions[0]
    session.open_shares(members.addresses)
    for other in (members.addresses[:4], members.addresses[:3]):
        with pytest.raises(ProtocolError, match="another survivor list"):
            session.open_shares(other)


@pytest.mark.parametrize(
    ("pick", "error"),
    [
        (lambda a: [*a, a[0]], ProtocolError),
        (lambda a: [*a[:4], b"\x99" * 20], ProtocolError),
        (lambda a: [*a[:4], "nobody"], ProtocolError),
        (lambda a: a[1:], ProtocolError),
        (lambda a: a[:2], TooFewSurvivors),
        (lambda a: a[:0], TooFewSurvivors),
        (lambda a: [a[0]] * 5, ProtocolError),
    ],
    ids=[
        "duplicate",
        "unknown",
        "no address",
        "without itself",
        "below threshold",
        "empty",
        "one five times",
    ],
)
def test_survivor_lists_that_cannot_be_are_refused_and_open_nothing(make_round, pick, error):
    members = make_round().share().receive().mask()
    session = members.sessions[0]
    with pytest.raises(error):
        session.open_shares(pick(members.addresses))
    assert session.stage is Stage.MASKED
    assert len(session.open_shares(members.addresses).entries) == 5


def test_a_survivor_that_never_shared_is_unknown(make_round):
    members = make_round().share(absent=[4]).receive().mask()
    with pytest.raises(ProtocolError, match="unknown"):
        members.sessions[0].open_shares(members.addresses)


def test_min_clients_counts_even_above_the_threshold(make_round):
    config = RoundConfig(clip=2.0, min_clients=5, max_clients=5)
    members = make_round(config=config).share().receive().mask(absent=[4])
    with pytest.raises(TooFewSurvivors, match="4 of 5 members survive, expected at least 5"):
        members.sessions[0].open_shares(members.survivors)


def test_too_few_that_share_end_the_round_before_any_vector(make_round):
    members = make_round().share(absent=[0, 1, 2])
    with pytest.raises(TooFewSurvivors, match="2 of 5 members shared"):
        members.receive()


def test_announcements_must_hold_this_node_and_no_stranger(make_round):
    members = make_round().share()
    session = members.sessions[0]
    stranger = make_round().share().announcements[0]
    for wrong in (
        members.announcements[1:],
        [*members.announcements, members.announcements[1]],
        [stranger, *members.announcements[1:]],
    ):
        with pytest.raises(ProtocolError):
            session.receive(members.messages, wrong)
    assert session.stage is Stage.SHARED


def test_announcements_cannot_be_exchanged_later(make_round):
    members = make_round().share().receive()
    with pytest.raises(ProtocolError, match="another set of announcements"):
        members.sessions[0].receive(members.messages, members.announcements[:4])


def test_members_are_checked_before_shares_are_dealt(make_round):
    members = make_round()
    session, me = members.sessions[0], members.addresses[0]
    with pytest.raises(ProtocolError, match="not listed with this node's"):
        session.share_message(members.peers | {me: BoxKey.generate().public})
    with pytest.raises(ProtocolError, match="not listed with this node's"):
        session.share_message({a: k for a, k in members.peers.items() if a != me})
    with pytest.raises(RoundConfigError, match="1 members"):
        session.share_message({me: members.peers[me]})
    assert session.stage is Stage.NEW


@pytest.mark.parametrize("public", [bytes(32), (2**255 - 19).to_bytes(32, "little"), b"\xff" * 32])
def test_a_member_with_an_unusable_box_key_cannot_stop_the_others(make_round, public):
    members = make_round()
    session, other = members.sessions[0], members.addresses[1]
    message = session.share_message(members.peers | {other: public})
    assert list(session.complaints) == [other]
    assert len(message.box_for(other)) == len(message.box_for(members.addresses[2])) == BOX_BYTES


def test_peers_stand_in_ring_order_and_may_be_text(make_round):
    members = make_round()
    session = members.sessions[2]
    peers = {"0x" + a.hex(): k for a, k in members.peers.items()}
    ring = members.addresses
    assert session.share_message(peers).receivers == (*ring[2:], *ring[:2])
    assert session.members == tuple(ring)
    with pytest.raises(ProtocolError, match="another list of members"):
        session.share_message(dict(reversed(peers.items())))


def test_secrets_do_not_print_or_pickle_and_are_wiped(make_round):
    members = make_round()
    session = members.sessions[0]
    seed, key = bytes(session._seed), bytes(session._mask_secret)
    members.share().receive().mask()
    text = repr(session) + repr(members.messages) + repr(session._box_key)
    assert seed.hex()[:8] not in text
    assert key.hex()[:8] not in text
    with pytest.raises(SecretRefused):
        pickle.dumps(session)
    members.open()
    assert not any(session._seed)
    assert not any(session._mask_secret)
    session.close()
    with pytest.raises(ProtocolError, match="CLOSED"):
        session.mask(members.encoder.encode(np.zeros(37)))


def test_every_session_draws_fresh_secrets(make_round):
    members = make_round()
    seeds = {bytes(s._seed) for s in members.sessions} | {bytes(s._mask_secret) for s in members.sessions}
    assert len(seeds) == 10
