"""A node that is killed: its sealed state resumes at every stage, and opens for nobody else."""

import json
import os
from dataclasses import replace

import numpy as np
import pytest

from twopm_kit.errors import ProtocolError, TamperedMessage
from twopm_kit.secagg import BoxKey, NodeSession, Stage

KEY = os.urandom(32)
HEADER = b"2PM\x01N"


def restart(members, index=0):
    """Kill a member's process and start it again from its disk."""
    data = members.sessions[index].sealed_state(KEY)
    members.sessions[index] = NodeSession.from_sealed_state(data, KEY, members.keys[index])
    return members.sessions[index]


def forward(members, stage, absent=()):
    if stage == Stage.SHARED:
        members.share()
    elif stage == Stage.RECEIVED:
        members.receive()
    elif stage == Stage.MASKED:
        members.mask(absent)
    elif stage == Stage.OPENED:
        members.open()
    elif stage == Stage.CLOSED:
        members.sessions[0].close()


@pytest.mark.parametrize("absent", [(), (3,)])
@pytest.mark.parametrize("killed", [s for s in Stage if s < Stage.OPENED])
def test_a_node_killed_at_any_stage_finishes_the_round(make_round, killed, absent):
    members = make_round()
    for stage in list(Stage)[: Stage.CLOSED]:
        forward(members, stage, absent)
        if stage == killed:
            public = members.sessions[0].mask_public
            for index in range(5):
                restart(members, index)
            assert members.sessions[0].mask_public == public
            assert members.sessions[0].stage is killed
    decoded, unmasking = members.finish()
    assert unmasking.faults == {}
    assert np.all(np.abs(decoded.mean - members.expected()) < decoded.step)


def test_everybody_restarting_after_every_step_changes_nothing(make_round):
    members = make_round()
    for stage in list(Stage)[: Stage.CLOSED]:
        forward(members, stage)
        for index in range(5):
            restart(members, index)
    decoded, _ = members.finish()
    assert np.all(np.abs(decoded.mean - members.expected()) < decoded.step)


def test_a_restored_session_repeats_its_answers(make_round):
    members = make_round().share()
    first = members.messages[members.addresses[0]]
    assert restart(members).share_message(members.peers) == first
    members.receive()
    restart(members).receive(members.messages, members.announcements)
    vector = members.encoder.encode(np.ones(37))
    masked = members.sessions[0].mask(vector)
    assert np.array_equal(restart(members).mask(vector), masked)
    members.mask(absent=[0])
    opening = members.sessions[0].open_shares(members.addresses)
    assert restart(members).open_shares(members.addresses) == opening


def test_a_restored_session_does_nothing_twice(make_round):
    members = make_round().share()
    with pytest.raises(ProtocolError, match="another list of members"):
        restart(members).share_message(dict(list(members.peers.items())[:-1]))
    members.receive()
    with pytest.raises(ProtocolError, match="another set of announcements"):
        restart(members).receive(members.messages, members.announcements[:-1])
    members.mask()
    with pytest.raises(ProtocolError, match="another vector"):
        restart(members).mask(members.encoder.encode(np.ones(37), 9))
    members.open()
    for survivors in (members.addresses[:4], members.addresses[:3]):
        with pytest.raises(ProtocolError, match="another survivor list"):
            restart(members).open_shares(survivors)
    with pytest.raises(ProtocolError, match="OPENED"):
        restart(members).mask(members.encoder.encode(np.ones(37)))
    members.sessions[0].close()
    with pytest.raises(ProtocolError, match="CLOSED"):
        restart(members).open_shares(members.addresses)


def test_complaints_survive(make_round):
    members = make_round().share()
    del members.messages[members.addresses[2]]
    members.sessions[0].receive(members.messages, members.announcements)
    complaints = members.sessions[0].complaints
    assert complaints
    assert restart(members).complaints == complaints


@pytest.mark.parametrize("stage", list(Stage))
def test_altered_cut_and_foreign_states_do_not_open(make_round, stage):
    members = make_round()
    for step in list(Stage)[: stage + 1]:
        forward(members, step)
    data, box = members.sessions[0].sealed_state(KEY), members.keys[0]
    assert NodeSession.from_sealed_state(data, KEY, box).stage is stage
    for at in (*range(0, 200, 7), len(data) // 2, len(data) - 1):
        altered = bytearray(data)
        altered[at] ^= 1
        with pytest.raises(TamperedMessage, match="does not open"):
            NodeSession.from_sealed_state(bytes(altered), KEY, box)
    for wrong in (b"", HEADER, data[:6], data[:40], data[:-1], data[: len(data) // 2], data + b"\x00", None):
        with pytest.raises(TamperedMessage, match="does not open"):
            NodeSession.from_sealed_state(wrong, KEY, box)
    with pytest.raises(TamperedMessage, match="another key"):
        NodeSession.from_sealed_state(data, os.urandom(32), box)
    with pytest.raises(ProtocolError, match="another box key"):
        NodeSession.from_sealed_state(data, KEY, BoxKey.generate())


@pytest.mark.parametrize(
    "change", [{"round": 4}, {"task_id": 8}, {"chain_id": 1}, {"address": "0x" + "99" * 20}]
)
def test_a_state_is_bound_to_round_and_member(make_round, change):
    members = make_round().share()
    data = members.sessions[0].sealed_state(KEY)
    size = int.from_bytes(data[5:7], "big")
    named = json.loads(data[7 : 7 + size])
    moved = json.dumps(named | change, sort_keys=True, separators=(",", ":")).encode()
    forged = HEADER + len(moved).to_bytes(2, "big") + moved + data[7 + size :]
    with pytest.raises(TamperedMessage, match="does not open"):
        NodeSession.from_sealed_state(forged, KEY, members.keys[0])


def test_context_config_and_address_come_back(make_round, context):
    members = make_round(context=replace(context, contract="0xAbCdEf" + "01" * 17))
    before = members.sessions[1]
    after = restart(members, 1)
    assert (after.context, after.config, after.address) == (before.context, before.config, before.address)


def test_no_secret_lies_in_the_clear(make_round):
    members = make_round().share().receive()
    session = members.sessions[0]
    data = session.sealed_state(KEY)
    for secret in (session._seed, session._mask_secret, members.peers[session.address]):
        assert bytes(secret) not in data
        assert bytes(secret).hex().encode() not in data
    assert data != session.sealed_state(KEY)


@pytest.mark.parametrize("key", [b"", bytes(16), bytes(33), "k" * 32, None])
def test_other_keys_are_refused(make_round, key):
    session = make_round().sessions[0]
    with pytest.raises(ProtocolError, match="32 bytes"):
        session.sealed_state(key)
    with pytest.raises(ProtocolError, match="32 bytes"):
        NodeSession.from_sealed_state(session.sealed_state(KEY), key, session._box_key)
