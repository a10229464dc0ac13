"""Whole rounds: drop-outs at every step, and attacks that must fail by name or change nothing."""

from dataclasses import replace

import numpy as np
import pytest

from twopm_kit.errors import ProtocolError, TamperedMessage, TooFewSurvivors
from twopm_kit.secagg import (
    BoxKey,
    NodeSession,
    OpeningMessage,
    RoundConfig,
    ShareKind,
    mask_digest,
    subtract,
    total,
    verify_proof,
    verify_share_message,
)
from twopm_kit.secagg import node as node_module
from twopm_kit.secagg.boxes import open_box, seal
from twopm_kit.secagg.commitments import seed_hash, share_leaf, survivors_digest
from twopm_kit.secagg.context import party_name
from twopm_kit.secagg.masks import add_masks, pair_key, self_key
from twopm_kit.secagg.messages import SharePair
from twopm_kit.secagg.shares import PRIME, combine, share_value, split


def assert_right(members, decoded):
    assert decoded.weight == sum(members.weights[i] for i in members.masked)
    assert np.all(np.abs(decoded.mean - members.expected()) < decoded.step)


@pytest.mark.parametrize("members", [2, 3, 5, 8])
def test_a_round_gives_the_weighted_mean(make_round, members):
    stage = make_round(members).share().receive().mask().open()
    decoded, unmasking = stage.finish()
    assert_right(stage, decoded)
    assert unmasking.faults == {}
    assert unmasking.digest == mask_digest(unmasking.mask)
    summed = unmasking.unmask(total(stage.masked.values()))
    assert unmasking.digest == mask_digest(subtract(total(stage.masked.values()), summed))


def test_masked_vectors_look_nothing_like_the_plain_ones(make_round):
    stage = make_round(length=8 * 500).share().receive().mask()
    for i, masked in stage.masked.items():
        lanes = masked.reshape(-1).astype(float) / 2**32
        assert abs(np.corrcoef(lanes[: 8 * 500], stage.vectors[i])[0, 1]) < 0.1


@pytest.mark.parametrize("drop", [{"share": [1]}, {"share": [0, 4]}, {"submit": [2]}, {"submit": [0, 4]},
                                  {"unmask": [3]}, {"unmask": [0, 1]}, {"share": [0], "submit": [1]},
                                  {"submit": [4], "unmask": [0]}, {"share": [2], "unmask": [3]}])  # fmt: skip
def test_dropouts_up_to_the_threshold_at_every_step(make_round, drop):
    stage = make_round(5).share(drop.get("share", ())).receive()
    stage.mask(drop.get("submit", ())).open(drop.get("unmask", ()))
    decoded, unmasking = stage.finish()
    assert_right(stage, decoded)
    assert unmasking.faults == {}


@pytest.mark.parametrize("members", [4, 5, 8])
def test_one_more_dropout_at_any_step_ends_the_round(make_round, members):
    config = RoundConfig(clip=2.0, max_clients=members)
    many = range(members - config.threshold(members) + 1)
    with pytest.raises(TooFewSurvivors):
        make_round(members).share(many).receive()
    with pytest.raises(TooFewSurvivors):
        make_round(members).share().receive().mask(many).open()
    stage = make_round(members).share().receive().mask().open(many)
    with pytest.raises(TooFewSurvivors, match="good shares"):
        stage.finish()


def test_everybody_computes_the_same_mask_from_any_quorum(make_round):
    stage = make_round(6).share().receive().mask(absent=[5]).open()
    openings = list(stage.openings.values())
    digests = {stage.reconstruct(openings=openings[k:] + openings[:k]).digest for k in range(5)}
    digests |= {
        stage.reconstruct(openings=openings[:4]).digest,
        stage.reconstruct(openings=openings[1:]).digest,
    }
    assert len(digests) == 1


def test_messages_may_come_as_bytes_from_storage(make_round):
    stage = make_round()
    stage.share()
    stored = {party_name(a): m.to_bytes() for a, m in stage.messages.items()}
    for session in stage.sessions:
        session.receive(stored, stage.announcements)
    stage.mask(absent=[2]).open()
    openings = {party_name(a): o.to_bytes() for a, o in stage.openings.items()}
    roots = {party_name(a): o.root for a, o in stage.openings.items()}
    decoded, unmasking = stage.finish(messages=stored, openings=openings, opening_roots=roots)
    assert_right(stage, decoded)
    assert unmasking.faults == {}


@pytest.mark.parametrize("zeros", [1, 2, 31, 32])
def test_seeds_with_leading_zeros_survive(make_round, monkeypatch, zeros):
    """Both secrets are shared and reconstructed whole, whatever bytes they begin with."""

    def draw(size):
        return bytes(min(zeros, size)) + b"\x5a" * max(size - zeros, 0)

    with monkeypatch.context() as patch:
        patch.setattr(node_module.os, "urandom", draw)
        session_factory = make_round(5)
    assert bytes(session_factory.sessions[0]._seed)[:zeros] == bytes(zeros)
    stage = session_factory.share().receive().mask(absent=[1]).open()
    decoded, _ = stage.finish()
    assert_right(stage, decoded)


# Hostile dealers ----------------------------------------------------------------------------------------


def reseal(stage, dealer, receiver, pair):
    """Replace one box of a dealer (index) for a receiver (index), leaving leaves as they are."""
    message = stage.messages[stage.addresses[dealer]]
    box = seal(stage.context, stage.keys[dealer], stage.keys[receiver].public, stage.addresses[dealer],
               stage.addresses[receiver], pair)  # fmt: skip
    boxes = list(message.boxes)
    boxes[message.receivers.index(stage.addresses[receiver]) - 1] = box
    stage.messages[message.dealer] = replace(message, boxes=tuple(boxes))


def deal(stage, dealer, seed_shares=None, key_shares=None, **changes):
    """Let one member deal shares of its own making, with leaves and boxes that agree with them."""
    session, me = stage.sessions[dealer], stage.addresses[dealer]
    message = stage.messages[me]
    receivers, threshold = message.receivers, session.threshold
    seed_shares = seed_shares or split(bytes(session._seed), receivers, threshold)
    key_shares = key_shares or split(bytes(session._mask_secret), receivers, threshold)
    leaves, boxes = [], []
    for receiver in receivers:
        pair = SharePair(seed_shares[receiver], bytes(32), key_shares[receiver], bytes(32))
        leaves += [share_leaf(stage.context.binding, me, receiver, k, *pair.pick(k)[::-1]) for k in ShareKind]
        if receiver == me:
            session._held[me] = pair
        else:
            boxes.append(
                seal(stage.context, stage.keys[dealer], stage.peers[receiver], me, receiver, pair.to_bytes())
            )
    forged = replace(message, leaves=tuple(leaves), boxes=tuple(boxes), **changes)
    session._message = stage.messages[me] = forged
    stage.announcements = [m.announcement for m in stage.messages.values()]


def altered(shares, receivers):
    return shares | {a: ((share_value(shares[a]) + 1) % PRIME).to_bytes(33, "big") for a in receivers}


@pytest.mark.parametrize("drops", [[], [2]])
def test_a_bad_box_is_complained_about_and_the_round_goes_on(make_round, drops):
    stage = make_round().share()
    reseal(stage, 2, 0, bytes(130))
    stage.receive().mask(absent=drops).open()
    complaints = stage.sessions[0].complaints
    assert list(complaints) == [stage.addresses[2]]
    assert party_name(stage.addresses[2]) in complaints[stage.addresses[2]]
    assert all(not s.complaints for s in stage.sessions[1:])
    assert len(stage.openings[stage.addresses[0]].entries) == 4
    assert_right(stage, stage.finish()[0])


def test_an_altered_replayed_or_reflected_box_is_complained_about(make_round, context):
    earlier = make_round().share()
    stage = make_round()
    stage.context = replace(context, round=4)
    stage.keys = earlier.keys
    stage.__post_init__()
    stage.share()
    receiver = stage.addresses[0]
    for dealer, how in ((1, "altered"), (2, "replayed"), (3, "reflected")):
        me = stage.addresses[dealer]
        box = bytearray(stage.messages[me].box_for(receiver))
        if how == "altered":
            box[40] ^= 1
        elif how == "replayed":
            box = earlier.messages[me].box_for(receiver)
        else:
            box = stage.messages[receiver].box_for(me)
        boxes = list(stage.messages[me].boxes)
        boxes[stage.messages[me].receivers.index(receiver) - 1] = bytes(box)
        stage.messages[me] = replace(stage.messages[me], boxes=tuple(boxes))
    session = stage.sessions[0]
    session.receive(stage.messages, stage.announcements)
    assert set(session.complaints) == set(stage.addresses[1:4])
    assert all("does not open" in why for why in session.complaints.values())


def test_withheld_malformed_and_foreign_messages_are_complained_about(make_round, context):
    stage = make_round().share()
    other = make_round(context=replace(context, round=9)).share()
    wrong = dict(stage.messages)
    del wrong[stage.addresses[1]]
    wrong[stage.addresses[2]] = b"\x00" * 100
    wrong[stage.addresses[3]] = other.messages[stage.addresses[3]]
    wrong[stage.addresses[4]] = stage.messages[stage.addresses[1]]
    session = stage.sessions[0]
    session.receive(wrong, stage.announcements)
    reasons = [session.complaints[a] for a in stage.addresses[1:]]
    for reason, word in zip(
        reasons, ("not in storage", "malformed", "another round", "announced"), strict=True
    ):
        assert word in reason


def test_a_share_message_is_checked_against_the_chain(make_round):
    stage = make_round().share()
    message = stage.messages[stage.addresses[0]]
    good = message.announcement
    assert verify_share_message(message.to_bytes(), good, stage.context, stage.addresses) == message
    leaves = (message.leaves[1], message.leaves[0], *message.leaves[2:])
    for wrong, announcement, members in (
        (replace(message, leaves=leaves), good, stage.addresses),
        (message, replace(good, root=bytes(32)), stage.addresses),
        (message, replace(good, mask_public=BoxKey.generate().public), stage.addresses),
        (message, replace(good, seed_hash=bytes(32)), stage.addresses),
        (message, good, stage.addresses[:4]),
    ):
        with pytest.raises(TamperedMessage, match=party_name(stage.addresses[0])):
            verify_share_message(wrong, announcement, stage.context, members)
    with pytest.raises(TamperedMessage, match="another round"):
        verify_share_message(message, good, replace(stage.context, task_id=8), stage.addresses)


def test_a_leaf_of_a_share_opens_on_its_own(make_round):
    stage = make_round().share().receive().mask().open()
    message = stage.messages[stage.addresses[1]]
    entry = next(e for e in stage.openings[stage.addresses[3]].entries if e.dealer == stage.addresses[1])
    leaf = share_leaf(
        stage.context.binding, entry.dealer, stage.addresses[3], entry.kind, entry.salt, entry.share
    )
    index = message.leaf_index(stage.addresses[3], entry.kind)
    assert index == 2 * stage.roster.graph.index(1, 3) + entry.kind
    assert verify_proof(
        message.root, len(message.leaves), index, leaf, message.proof(stage.addresses[3], entry.kind)
    )


def test_a_hash_in_the_place_of_a_share_is_noticed(make_round):
    """Storing the hash of a share where the share belongs makes recovery impossible; here it is refused."""
    stage = make_round().share()
    pair = SharePair.from_bytes(
        open_box(
            stage.context,
            stage.keys[0],
            stage.keys[1].public,
            stage.addresses[1],
            stage.addresses[0],
            stage.messages[stage.addresses[1]].box_for(stage.addresses[0]),
        )
    )
    hashed = replace(
        pair, key_share=b"\x00" + share_leaf(*[b""] * 3, ShareKind.MASK_KEY, b"", pair.key_share)
    )
    reseal(stage, 1, 0, hashed.to_bytes())
    stage.receive().mask(absent=[1]).open()
    assert "does not open its leaf" in stage.sessions[0].complaints[stage.addresses[1]]
    assert_right(stage, stage.finish()[0])


def test_a_dealer_of_another_seed_is_named(make_round):
    stage = make_round().share()
    deal(stage, 2, seed_shares=split(bytes(32), stage.messages[stage.addresses[2]].receivers, 3))
    stage.receive().mask().open()
    with pytest.raises(TamperedMessage, match=f"{party_name(stage.addresses[2])} is a bad dealer"):
        stage.finish()


def test_a_dealer_of_another_mask_key_is_named_when_it_drops_out(make_round):
    stage = make_round().share()
    deal(stage, 2, key_shares=split(bytes(32), stage.messages[stage.addresses[2]].receivers, 3))
    stage.receive().mask(absent=[2]).open()
    with pytest.raises(
        TamperedMessage, match=f"{party_name(stage.addresses[2])} is a bad dealer: its shares of MASK"
    ):
        stage.finish()


@pytest.mark.parametrize("drops", [[], [2]])
@pytest.mark.parametrize("victim", [0, 1, 4, 6])
def test_a_few_shares_off_the_polynomial_are_corrected_and_their_dealer_named(make_round, drops, victim):
    stage = make_round(7).share()
    session, dealer = stage.sessions[2], stage.addresses[2]
    shares = [
        split(bytes(s), stage.addresses, session.threshold) for s in (session._seed, session._mask_secret)
    ]
    deal(stage, 2, *(altered(s, [stage.addresses[victim]]) for s in shares))
    stage.receive().mask(absent=drops).open()
    assert all(not s.complaints for s in stage.sessions)
    decoded, unmasking = stage.finish()
    assert_right(stage, decoded)
    # The four lowest openers are tried first: a wrong share among the others is never needed.
    tried = sorted(a for i, a in enumerate(stage.addresses) if i not in drops)[:4]
    assert set(unmasking.faults) == ({dealer} if stage.addresses[victim] in tried else set())


def test_many_shares_off_the_polynomial_end_the_round_and_name_their_dealer(make_round):
    stage = make_round(7).share()
    shares = split(bytes(stage.sessions[2]._seed), stage.addresses, stage.sessions[2].threshold)
    deal(stage, 2, seed_shares=altered(shares, stage.addresses[:3]))
    stage.receive().mask().open()
    with pytest.raises(TamperedMessage, match=f"{party_name(stage.addresses[2])} is a bad dealer"):
        stage.finish()


def test_a_dealer_whose_seed_hash_is_another_is_named(make_round):
    stage = make_round().share()
    me = stage.addresses[2]
    deal(stage, 2, seed_hash=seed_hash(stage.context.binding, me, bytes(32)))
    stage.receive().mask().open()
    with pytest.raises(TamperedMessage, match="bad dealer: its shares of SELF_SEED"):
        stage.finish()


@pytest.mark.parametrize("public", [bytes(32), (2**255 - 19).to_bytes(32, "little"), b"\xff" * 32])
@pytest.mark.parametrize("drops", [[], [2], [0]])
def test_a_small_order_mask_key_hurts_only_its_owner(make_round, public, drops):
    stage = make_round().share()
    deal(stage, 2, mask_public=public)
    stage.sessions[2].mask_public = public
    stage.receive()
    assert all(not s.complaints for s in stage.sessions)
    stage.mask(absent=[*drops, 2]).open()
    assert_right(stage, stage.finish()[0])


# Hostile openers and aggregators ------------------------------------------------------------------------


@pytest.mark.parametrize("entry", [0, 2, 4])
def test_a_bad_opener_is_named_and_ignored(make_round, entry):
    stage = make_round().share().receive().mask(absent=[4]).open()
    bad = stage.addresses[1]
    entries = list(stage.openings[bad].entries)
    value = (share_value(entries[entry].share) + 1) % PRIME
    entries[entry] = replace(entries[entry], share=value.to_bytes(33, "big"))
    stage.openings[bad] = replace(stage.openings[bad], entries=tuple(entries))
    decoded, unmasking = stage.finish()
    assert_right(stage, decoded)
    assert list(unmasking.faults) == [bad]
    assert party_name(bad) in unmasking.faults[bad]


def test_too_many_bad_openers_end_the_round(make_round):
    stage = make_round().share().receive().mask().open()
    for bad in stage.addresses[:3]:
        stage.openings[bad] = b"no opening at all"
    with pytest.raises(TooFewSurvivors):
        stage.finish()


def test_openings_of_others_rounds_lists_and_roots_are_ignored_by_name(make_round, context):
    stage = make_round(6).share().receive().mask().open()
    honest = dict(stage.openings)
    roots = {a: o.root for a, o in honest.items()}
    first, second = stage.addresses[:2]
    other_list = OpeningMessage(
        context.binding,
        first,
        survivors_digest(context.binding, stage.roster.bitmap(stage.addresses[:5])),
        tuple(e for e in honest[first].entries if e.dealer != stage.addresses[5]),
    )
    cases = {
        "sent the opening of": {first: honest[second]},
        "another round or list": {first: replace(honest[first], binding=bytes(32))},
        "is for another round or list": {first: other_list},
        "does not match its root": {first: replace(honest[first], entries=honest[first].entries[:-1])},
    }
    for words, change in cases.items():
        known = roots if "root" in words else None
        decoded, unmasking = stage.finish(openings=honest | change, opening_roots=known)
        assert words in unmasking.faults[first]
        assert_right(stage, decoded)


def test_a_request_for_both_kinds_of_share_fails_on_both_sides(make_round):
    stage = make_round().share().receive().mask().open()
    session, opening = stage.sessions[0], stage.openings[stage.addresses[0]]
    with pytest.raises(ProtocolError):
        session.open_shares(stage.addresses[:4])
    entry = opening.entries[4]
    other = replace(entry, kind=ShareKind.MASK_KEY)
    with pytest.raises(TamperedMessage, match="named twice"):
        replace(opening, entries=(*opening.entries, other))
    stage.openings[opening.opener] = replace(opening, entries=(*opening.entries[:4], other))
    decoded, unmasking = stage.finish()
    assert list(unmasking.faults) == [opening.opener]
    assert "whose state asks for SELF_SEED" in unmasking.faults[opening.opener]
    assert_right(stage, decoded)


def test_openings_of_drop_outs_and_of_strangers_shares_are_ignored_by_name(make_round):
    stage = make_round(6).share().receive().mask().open()
    first, last = stage.addresses[0], stage.addresses[5]
    entries = stage.openings[first].entries
    stranger = replace(entries[-1], dealer=b"\x99" * 20)
    stage.openings[first] = replace(stage.openings[first], entries=(*entries[:-1], stranger))
    decoded, unmasking = stage.finish()
    assert "which dealt it none" in unmasking.faults[first]
    assert_right(stage, decoded)
    stage = make_round(6).share().receive().mask(absent=[5]).open()
    stage.openings[last] = replace(stage.openings[first], opener=last)
    decoded, unmasking = stage.finish()
    assert "no survivor" in unmasking.faults[last]
    assert_right(stage, decoded)


def test_the_aggregator_refuses_impossible_survivor_lists(make_round):
    stage = make_round().share(absent=[4]).receive().mask().open()
    for wrong in ([*stage.survivors, stage.survivors[0]], [*stage.survivors, stage.addresses[4]]):
        with pytest.raises(ProtocolError):
            stage.reconstruct(survivors=wrong)
    with pytest.raises(TooFewSurvivors):
        stage.reconstruct(survivors=stage.survivors[:2])
    stranger = replace(stage.announcements[0], dealer=b"\x99" * 20)
    with pytest.raises(ProtocolError, match="not selected"):
        stage.reconstruct(announcements=[*stage.announcements, stranger])


@pytest.mark.parametrize("attack", ["altered", "dropped", "doubled", "late"])
def test_a_changed_sum_never_decodes(make_round, attack):
    """Where inputs are exchanged, left out or repeated, masks stay in the sum and the decoder says so."""
    stage = make_round(config=RoundConfig(clip=2.0, max_clients=6))
    stage.share().receive()
    late = stage.sessions[4].mask(stage.encoder.encode(stage.vectors[4])) if attack == "late" else None
    stage.mask(absent=[4] if attack == "late" else []).open()
    vectors = list(stage.masked.values())
    if attack == "altered":
        vectors[1] = stage.encoder.encode(stage.vectors[1])
    elif attack == "dropped":
        vectors.pop()
    elif attack == "doubled":
        vectors.append(vectors[0])
    else:
        vectors.append(late)
    summed = stage.reconstruct().unmask(total(vectors))
    with pytest.raises(TamperedMessage, match="does not decode"):
        stage.encoder.decode(summed, len(vectors))


def test_a_late_vector_stays_hidden_after_its_mask_key_is_known(make_round):
    """Whoever reconstructs s of a drop-out removes its pairwise masks; the self-mask stays."""
    stage = make_round().share().receive()
    me, vector = stage.addresses[4], stage.encoder.encode(stage.vectors[4])
    late = stage.sessions[4].mask(vector)
    own = self_key(bytes(stage.sessions[4]._seed), stage.context.binding, me)
    stage.mask(absent=[4]).open()
    opened = {a: e for a, o in stage.openings.items() for e in o.entries if e.dealer == me}
    assert {entry.kind for entry in opened.values()} == {ShareKind.MASK_KEY}
    key = BoxKey(combine({a: entry.share for a, entry in opened.items()}, 3))
    publics = {a.dealer: a.mask_public for a in stage.announcements}
    assert key.public == publics.pop(me)
    pairs = [
        pair_key(key.exchange(public), stage.context.binding, {me: key.public, peer: public})
        for peer, public in publics.items()
    ]
    above = [p for p, peer in zip(pairs, publics, strict=True) if peer > me]
    below = [p for p, peer in zip(pairs, publics, strict=True) if peer < me]
    known = add_masks(vector.shape[0], plus=below, minus=above, base=late)
    assert np.array_equal(known, add_masks(vector.shape[0], plus=[own], base=vector))
    with pytest.raises(TamperedMessage):
        stage.encoder.decode(known, 1)


def test_one_member_key_in_two_rounds_gives_unrelated_messages(make_round, context):
    one = make_round().share().receive().mask()
    other = make_round()
    other.keys, other.context = one.keys, replace(context, round=4)
    other.__post_init__()
    other.share().receive().mask()
    for i in one.everybody:
        assert not np.array_equal(one.masked[i], other.masked[i])
        assert one.sessions[i].mask_public != other.sessions[i].mask_public
    with pytest.raises(ProtocolError):
        NodeSession(context, one.config, "0x00", one.keys[0])
