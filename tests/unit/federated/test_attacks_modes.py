"""Attacks on rounds whose vectors, openings or results lie outside the contract; each is really tried."""

import os
import struct
import subprocess
import sys
import textwrap
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from twopm_kit import chain as chains
from twopm_kit import errors, kzg
from twopm_kit.federated import Coordinator, Criteria, LocalNetwork, Mailbox, Node, Task, Update
from twopm_kit.federated import node as node_module
from twopm_kit.federated.contract import AggregationContract, Phase, Step
from twopm_kit.federated.sealing import Reader, readers_of, seal_opening, seal_result
from twopm_kit.federated.vault import Vault
from twopm_kit.federated.verifier import Verifier
from twopm_kit.federated.workers import Workers
from twopm_kit.secagg import BoxKey, OpeningMessage, RoundConfig, ShareMessage, VectorMessage, party_id
from twopm_kit.secagg import node as secagg_node
from twopm_kit.secagg.shares import PRIME, share_value

LENGTH = 11
STAKE, PENALTY = 10**18, 10**17
SMALL_ORDER = b"\xec" + b"\xff" * 30 + b"\x7f"  # the point of order two
COMMIT = RoundConfig(clip=8.0, mode="commit")
HASH = RoundConfig(clip=8.0, mode="commit", verification="hash")
BLOB = RoundConfig(clip=8.0, mode="blob")
SEALED = RoundConfig(clip=8.0, mode="commit", visibility="sealed")
GROUPS = RoundConfig(clip=8.0, mode="commit", groups=2, min_clients=4)
CONFIGS = {"commit": COMMIT, "hash": HASH, "blob": BLOB, "sealed": SEALED}


class Echo(Task):
    """Every node brings one vector; a round gives their mean."""

    metric_names = ("level",)

    def __init__(self, rounds=1, min_clients=2, max_clients=50, stake=0, penalty=0):
        criteria = Criteria(min_stake=stake, silence_penalty=penalty)
        names = {"min_clients": min_clients, "max_clients": max_clients, "criteria": criteria}
        super().__init__("echo", max_rounds=rounds, **names)

    def round_config(self):
        return RoundConfig(clip=8.0, min_clients=self.min_clients, max_clients=self.max_clients)

    def initial_state(self):
        return {"mean": np.zeros(LENGTH)}

    def update_size(self):
        return LENGTH

    def local_update(self, state, frame, round):
        del state, round
        values = frame["x"].to_numpy()[:LENGTH]
        return Update(values, weight=len(frame), metrics=values[:1], metric_weight=len(frame))

    def merge(self, state, aggregate):
        del state
        return {"mean": aggregate.mean}


def frames(nodes):
    rng = np.random.default_rng(nodes)
    return [pd.DataFrame({"x": rng.uniform(-4, 4, LENGTH + 2 * i)}) for i in range(nodes)]


def network_of(nodes=3, config=COMMIT, **more):
    return LocalNetwork(frames(nodes), None, config, **more)


class When:
    """Does something once, at the first event that a rule picks."""

    def __init__(self, rule, act):
        self.rule, self.act, self.done = rule, act, False

    def __call__(self, event):
        if not self.done and self.rule(event):
            self.done = True
            self.act()


def at(step, act, round=1):
    return When(lambda event: event.step == step and event.round == round, act)


def in_challenge(network, act):
    return When(lambda e: e.round == 1 and network.contract.status(1, 1).phase is Phase.CHALLENGE, act)


def expected(network, record):
    """Return the weighted mean over the survivors of a round."""
    parts = [n.frame["x"].to_numpy() for n in network.nodes if n.name in record.survivors]
    return sum(len(x) * x[:LENGTH] for x in parts) / sum(map(len, parts))


def assert_exact(network, result, but=()):
    """The result, and the nodes' own views of it, are the mean over the last round's survivors."""
    step = result.task.config().step
    wanted = expected(network, [r for r in result.rounds if r.status == "done"][-1])
    assert np.abs(result.state["mean"] - wanted).max() <= step
    for node in (node for node in network.nodes if node not in but):
        assert node.state["mean"] == pytest.approx(result.state["mean"], abs=0)


def entered(network, task, nodes=None):
    """Register a task and let nodes join it; return its number."""
    task_id, _ = network.coordinator.register(
        task,
        join_blocks=30,
        step_blocks=30,
        verifiers=[verifier.seat for verifier in network.verifiers],
    )
    for node in nodes or network.nodes:
        node.enter(task_id, approved=task.code_hash(), verifiers=accepted(network))
        node.join()
    return task_id


def accepted(network):
    return [verifier.account.address for verifier in network.verifiers]


def test_verifiers_that_the_operator_has_not_accepted_are_refused():
    network, puppet = network_of(3, SEALED), network_of(3, SEALED).verifiers[0].seat
    task = Echo().with_config(SEALED)
    seats = [puppet, *(verifier.seat for verifier in network.verifiers[:2])]
    task_id, _ = network.coordinator.register(task, join_blocks=30, step_blocks=30, verifiers=seats)
    for known in (None, accepted(network)):
        with pytest.raises(errors.TaskError, match="verifiers of sealed task"):
            network.nodes[0].enter(task_id, approved=task.code_hash(), verifiers=known)
    network.nodes[0].enter(task_id, approved=task.code_hash(), verifiers=[*accepted(network), puppet.account])


def opened(network, task, nodes=None):
    """Bring the first round of a task to its share phase."""
    task_id = entered(network, task, nodes)
    return task_id, network.coordinator.open_round(task_id)[0]


def speak(network, task_id, round, step, nodes=None):
    """Let nodes take one step, and end the phases behind it."""
    for node in nodes or network.nodes:
        getattr(node, step)(round)
    if step in ("share", "submit"):
        phase, _ = network.coordinator.end_phase(task_id, round)
        if phase is Phase.CHALLENGE:
            network.coordinator.end_phase(task_id, round)


def vectors(network, round=1, task_id=1):
    context = network.contract.context(task_id, round)
    return {
        n.name: VectorMessage.from_bytes(network.mailbox.get(context, "vector", n.account.address))
        for n in network.nodes
    }


def lies(node, change):
    """Let a node send something else than its protocol wants: ``change(method, args, blobs)``."""
    honest = node._send

    def send(method, round, *args, blobs=()):
        args, blobs = change(method, args, blobs)
        return honest(method, round, *args, blobs=blobs)

    node._send = send


def remove(network, kind, node, round=1):
    path = network.mailbox._path(network.contract.context(1, round), kind, node.account.address)
    network.mailbox._fs.rm(path)


def stakes(network, task_id=1):
    return {node.name: network.contract.stake(task_id, node.account.address) for node in network.nodes}


def convictions(network):
    names = {node.account.address: node.name for node in network.nodes}
    found = network.contract.contract.events("Convicted")
    return [(names[e.args["node"]], e.args["fault"], e.args["slashed"]) for e in found]


# Withheld, altered, late and doubled vectors --------------------------------------------------------------


def test_a_withheld_vector_makes_its_sender_a_drop_out_that_pays():
    network = network_of()
    stranger = network.chain.account("stranger")

    def report():
        seat = next(seat for seat in network.contract.roster(1, 1).seats if seat.challenged)
        network.contract.send("report_silence", 1, 1, seat.number, sender=stranger)

    result = network.run(
        Echo(stake=STAKE, penalty=PENALTY), drop={1: {"deliver": ["node-2"]}}, observe=at("open", report)
    )
    assert set(result.rounds[0].survivors) == {"node-1", "node-3"}
    assert convictions(network) == [("node-2", 4, PENALTY)]
    assert_exact(network, result)


def test_a_vector_that_storage_lost_is_shown_as_blobs():
    network = network_of()
    lost = network.nodes[1]
    result = network.run(Echo(), observe=in_challenge(network, lambda: remove(network, "vector", lost)))
    assert len(result.rounds[0].survivors) == 3
    assert (
        network.contract.roster(1, 1)
        .seats[network.contract.roster(1, 1).seat_of(lost.account.address)]
        .answered
    )
    assert_exact(network, result)


@pytest.mark.parametrize("kind", ["flipped", "cut", "another's", "an earlier round's"])
def test_a_vector_altered_in_storage_is_shown_by_its_sender(kind):
    network = network_of()
    victim = network.nodes[0].account.address
    rounds = 2 if kind == "an earlier round's" else 1
    context = network.contract.context(1, rounds)

    def tamper():
        own = network.mailbox.get(context, "vector", victim)
        bad = {
            "flipped": own[:90] + bytes([own[90] ^ 1]) + own[91:],
            "cut": own[:-1],
            "another's": network.mailbox.get(context, "vector", network.nodes[1].account.address),
            "an earlier round's": network.mailbox.get(network.contract.context(1, 1), "vector", victim),
        }[kind]
        network.mailbox.put(context, "vector", victim, bad)

    watch = When(
        lambda e: e.round == rounds and network.contract.status(1, rounds).phase is Phase.CHALLENGE, tamper
    )
    result = network.run(Echo(rounds), observe=watch)
    assert watch.done
    assert len(result.rounds[-1].survivors) == 3
    assert_exact(network, result)


@pytest.mark.parametrize("kind", ["gone", "spoiled"])
def test_a_vector_that_was_seen_cannot_be_taken_away_again(kind):
    """Nobody can be asked for it once the window of challenges is over, so who has seen it keeps it."""
    network = network_of()
    bad = network.nodes[2]

    def act():
        if kind == "gone":
            remove(network, "vector", bad)
        else:
            network.mailbox.put(network.contract.context(1, 1), "vector", bad.account.address, b"nothing")

    result = network.run(Echo(), observe=at("open", act))
    assert len(result.rounds[0].survivors) == 3
    assert_exact(network, result)


def test_a_late_vector_and_a_late_answer_are_refused():
    network, task = network_of(), Echo()
    task_id, round = opened(network, task.with_config(COMMIT))
    speak(network, task_id, round, "share")
    *in_time, late, kept = network.nodes
    for node in in_time:
        node.submit(round)
    kept.submit(round, deliver=False)
    network.coordinator.end_phase(task_id, round)
    with pytest.raises(errors.ProtocolError, match="phase CHALLENGE, SUBMIT was expected"):
        late.submit(round)
    late._mask(late.view(round), late._session, None)
    message = VectorMessage.from_bytes(late._vector)
    with pytest.raises(errors.ContractReverted, match="not in this phase"):
        late._send("commit", round, message.data_root, message.points)
    network.coordinator.check_vectors(task.with_config(COMMIT), task_id, round)
    network.coordinator.end_phase(task_id, round)
    message = VectorMessage.from_bytes(kept._vector)
    with pytest.raises(errors.ContractReverted, match="not in this phase"):
        kept._send("answer", round, message.data_root, message.points, blobs=message.blobs)
    roster = network.contract.roster(task_id, round)
    assert len(roster.survivors) == 1  # too few of three: the round has ended
    assert network.contract.status(task_id, round).phase is Phase.ABORTED
    # Its blobs are public all the same. Nobody opens a share of its seed, so they stay masked.
    with pytest.raises(errors.ProtocolError, match="phase ABORTED"):
        in_time[0].open_shares(round)


def test_a_vector_counts_once():
    network = network_of()
    greedy = network.nodes[2]

    def again():
        message = VectorMessage.from_bytes(greedy._vector)
        with pytest.raises(errors.ContractReverted, match="already sent"):
            greedy._send("commit", 1, message.data_root, message.points)

    watch = When(lambda e: e.step == "submit" and e.node == greedy.name, again)
    result = network.run(Echo(), observe=watch)
    assert watch.done
    assert_exact(network, result)


# Wrong commitments ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("config", [COMMIT, BLOB], ids=["commit", "blob"])
def test_a_root_that_leads_nowhere_keeps_nobody_from_adding_up(config):
    network = network_of(config=config)
    change = {"commit", "answer"}
    lies(network.nodes[1], lambda m, args, blobs: ((b"\7" * 32, *args[1:]) if m in change else args, blobs))
    result = network.run(Echo())
    assert len(result.rounds[0].survivors) == 3
    assert_exact(network, result)


@pytest.mark.parametrize("config", [COMMIT, BLOB], ids=["commit", "blob"])
def test_what_hides_behind_the_end_of_a_vector_changes_nothing(config):
    network = network_of(config=config)

    def hide(method, args, blobs):
        if method not in ("commit", "answer"):
            return args, blobs
        [blob] = VectorMessage.from_bytes(network.nodes[1]._vector).blobs
        blob = blob[:-32] + (9).to_bytes(32, "big")
        point = kzg.uncompress(kzg.commit(blob))
        return (args[0], point), [blob] if blobs else ()

    lies(network.nodes[1], hide)
    result = network.run(Echo())
    assert len(result.rounds[0].survivors) == 3
    assert_exact(network, result)
    if config is COMMIT:
        assert [(name, fault) for name, fault, _ in convictions(network)] == [("node-2", 3)]


def test_a_commitment_to_another_vector_costs_the_stake():
    """One vector is delivered, another committed to; challenged, the sender shows the committed one."""
    network = network_of()
    bad = network.nodes[1]

    def other(method, args, blobs):
        if method not in ("commit", "answer"):
            return args, blobs
        [blob] = kzg.split((5).to_bytes(32, "big"))
        return (args[0], kzg.uncompress(kzg.commit(blob))), [blob] if blobs else ()

    lies(bad, other)
    result = network.run(Echo(3, stake=STAKE))
    # What it has shown is no vector of the round: the sum is void and named so, never wrong.
    assert [record.status for record in result.rounds] == ["void", "done", "done"]
    assert convictions(network) == [(bad.name, 3, STAKE)]
    assert all(bad.name not in record.members for record in result.rounds[1:])
    assert_exact(network, result)


def outside_the_group():
    """Give a point of the curve that is not of order r."""
    for x in range(1, 50):
        short = (x | 1 << 383).to_bytes(48, "big")
        try:
            point = kzg.uncompress(short)
        except errors.DataError:
            continue
        if not kzg.in_group(short):
            return point
    raise AssertionError


def test_a_point_outside_the_group_is_convicted_before_the_sum_is_opened():
    network = network_of()
    bad = network.nodes[2]
    point = outside_the_group()
    lies(bad, lambda m, args, blobs: ((args[0], point) if m == "commit" else args, blobs))
    result = network.run(Echo(stake=STAKE))
    assert convictions(network) == [(bad.name, 3, STAKE)]
    assert set(result.rounds[0].survivors) == set(network.names) - {bad.name}
    assert_exact(network, result)


def test_a_point_off_the_curve_is_not_taken():
    network = network_of()
    bad = network.nodes[2]
    off = bytes(63) + b"\1" + bytes(63) + b"\1"
    lies(bad, lambda m, args, blobs: ((args[0], off) if m == "commit" else args, blobs))
    events = []
    result = network.run(Echo(), observe=events.append)
    [refused] = [event for event in events if event.status == "refused"]
    assert (refused.node, refused.step) == (bad.name, "submit")
    assert "point is not on the curve" in refused.detail
    assert bad.name not in result.rounds[0].survivors
    assert_exact(network, result)


@pytest.mark.parametrize("config", [COMMIT, HASH], ids=["commit", "hash"])
def test_a_commitment_copied_from_another_node_counts_for_nothing(config):
    """Who copies a root and a commitment cannot show the vector under its own name."""
    network = network_of(config=config)
    victim, thief = sorted(network.nodes, key=lambda n: n.account.address)[:2]

    def copy(method, args, blobs):
        if method != "commit":
            return args, blobs
        seats = network.contract.roster(1, 1).seats
        seat = next((s for s in seats if s.node == victim.account.address and s.step is Step.SUBMITTED), None)
        return ((seat.data_root, seat.commitments) if seat else args), blobs

    lies(thief, copy)
    thief.answer = lambda *_: None
    network.nodes.sort(key=lambda n: n is thief)  # the thief speaks last
    if config is HASH:
        with pytest.raises(errors.RoundAborted, match="no storage has what the hashes"):
            network.run(Echo())
        return
    result = network.run(Echo())
    assert thief.name not in result.rounds[0].survivors
    assert_exact(network, result)


def test_a_copied_commitment_with_the_others_blobs_leaves_masks_in_the_sum():
    network = network_of()
    victim, thief = network.nodes[:2]
    network.nodes.sort(key=lambda n: n is thief)

    def copy(method, args, blobs):
        if method not in ("commit", "answer"):
            return args, blobs
        stolen = VectorMessage.from_bytes(victim._vector)
        return (args[0], stolen.points), stolen.blobs if blobs else ()

    lies(thief, copy)
    result = network.run(Echo(2))
    assert [record.status for record in result.rounds] == ["void", "done"]
    assert convictions(network)[0][:2] == (thief.name, 3)
    assert_exact(network, result)


# Challenges as a weapon -----------------------------------------------------------------------------------


def test_challenging_everybody_drops_nobody():
    network = network_of()
    spammer = network.nodes[0]

    def spam():
        for seat in network.contract.roster(1, 1).seats:
            where = (1, 1, seat.number, seat.data_root, seat.commitments)
            if seat.node != spammer.account.address:
                network.contract.send("challenge", *where, sender=spammer.account)
            with pytest.raises(errors.ContractReverted):
                network.contract.send("challenge", *where, sender=network.chain.account("stranger"))

    watch = in_challenge(network, spam)
    result = network.run(Echo(), observe=watch)
    assert watch.done
    assert len(result.rounds[0].survivors) == 3
    assert_exact(network, result)


def test_a_challenge_cannot_move_a_member_after_shares_were_opened():
    network = network_of()

    def challenge():
        own = network.nodes[0].account
        for seat in network.contract.roster(1, 1).seats:
            for call in ("challenge", "answer"):
                what = (1, 1, seat.number, seat.data_root, seat.commitments)
                with pytest.raises(errors.ContractReverted, match="not in this phase"):
                    network.contract.send(call, *what, sender=own)

    watch = at("attest", challenge)
    result = network.run(Echo(), observe=watch)
    assert watch.done
    assert len(result.rounds[0].survivors) == 3


def test_of_one_challenged_away_one_kind_of_share_is_opened():
    network, task = network_of(), Echo().with_config(COMMIT)
    task_id, round = opened(network, task)
    speak(network, task_id, round, "share")
    *others, victim = network.nodes
    for node in network.nodes:
        node.submit(round, deliver=node is not victim)
    network.coordinator.end_phase(task_id, round)
    network.coordinator.check_vectors(task, task_id, round)
    network.coordinator.end_phase(task_id, round)
    with pytest.raises(errors.ProtocolError, match="leaves out"):
        victim.open_shares(round)
    for node in others:
        node.open_shares(round)
    context = network.contract.context(task_id, round)
    kinds = [
        entry.kind.name
        for node in others
        for entry in OpeningMessage.from_bytes(
            network.mailbox.get(context, "openings", node.account.address)
        ).entries
        if entry.dealer == party_id(victim.account.address)
    ]
    assert kinds == ["MASK_KEY"] * 2


def test_who_keeps_its_vector_back_again_in_hash_mode_is_drawn_no_more():
    """A hash cannot be judged on chain, so a round is lost each time; the second time is the last."""
    network = network_of(config=HASH)
    bad = network.nodes[0]
    submit = bad.submit
    bad.submit = lambda round, update=None, **_: submit(round, update, deliver=False)
    result = network.run(Echo(3))
    assert [record.status for record in result.rounds] == ["aborted", "aborted", "done"]
    assert bad.name in result.rounds[0].reason
    assert bad.name not in result.rounds[2].members
    assert_exact(network, result)


# Sums, results and crafted models -------------------------------------------------------------------------


def recut(message, context):
    """Take zeros off the end: no commitment changes, but the sections would begin elsewhere."""
    return VectorMessage(
        message.binding, message.sender, message.elements[: 32 * 4102], message.commitments, message.proofs
    )


def without_points(message, context):
    bad = tuple(b"\x9f" * 48 for _ in message.commitments)
    return VectorMessage(message.binding, message.sender, message.elements, bad, message.proofs)


def of_another(message, context):
    limbs = message.limbs.copy()
    limbs[0, 0] ^= 1
    return VectorMessage.of(context, message.sender, limbs)


@pytest.mark.parametrize(
    ("config", "spoil"),
    [
        (GROUPS, recut),
        (COMMIT, recut),
        (COMMIT, without_points),
        (COMMIT, of_another),
        (HASH, of_another),
        (COMMIT, None),
    ],
)
def test_a_wrong_sum_in_storage_gives_no_node_another_model(config, spoil):
    network = network_of(4 if config is GROUPS else 3, config)

    def swap():
        context, sender = network.contract.context(1, 1), network.contract.address
        message = VectorMessage.from_bytes(network.mailbox.get(context, "sum", sender))
        bad = spoil(message, context).to_bytes() if spoil else os.urandom(200)
        network.mailbox.put(context, "sum", sender, bad)

    watch = at("finish", swap)
    result = network.run(Echo(min_clients=4 if config is GROUPS else 2), observe=watch)
    assert watch.done
    assert_exact(network, result)


def test_without_storage_a_finished_sum_comes_from_the_blobs_of_the_chain():
    network = network_of()

    def burn():
        network.mailbox._fs.rm(
            f"{network.mailbox._root}/{network.contract.context(1, 1).binding.hex()}/sum", True
        )
        for node in network.nodes:
            remove(network, "vector", node)

    assert_exact(network, network.run(Echo(), observe=at("finish", burn)))


@pytest.mark.parametrize("config", [COMMIT, HASH, BLOB], ids=["commit", "hash", "blob"])
def test_a_wrong_sum_is_refused_by_the_contract(config, monkeypatch):
    network = network_of(config=config)
    honest = Coordinator._finish_committed

    def cheat(self, task_id, round, mask, summed, blobs):
        if blobs:
            blobs = [blobs[0][:31] + bytes([blobs[0][31] ^ 1]) + blobs[0][32:]]
        else:
            mask = bytes(32)
        return honest(self, task_id, round, mask, summed, blobs)

    monkeypatch.setattr(Coordinator, "_finish_committed", cheat)
    with pytest.raises(errors.RoundAborted, match=r"blob does not fit|does not fit the attested mask"):
        network.run(Echo())
    assert network.nodes[0].state["mean"] == pytest.approx(np.zeros(LENGTH), abs=0)


@pytest.mark.parametrize("config", [COMMIT, HASH, BLOB], ids=["commit", "hash", "blob"])
def test_anybody_finishes_when_the_coordinator_does_not(config):
    network = network_of(3, config)
    task = Echo().with_config(config)
    task_id, round = opened(network, task)
    other = Coordinator(network.contract, network.chain.account("passer-by"), network.mailbox)
    for step in ("share", "submit", "open_shares", "attest"):
        for node in network.nodes:
            getattr(node, step)(round)
        while step in ("share", "submit") and other.contract.status(task_id, round).phase in (
            Phase.SHARE if step == "share" else Phase.SUBMIT,
            Phase.CHALLENGE,
        ):
            other.end_phase(task_id, round)
    other.finish(task, task_id, round)
    assert network.contract.status(task_id, round).phase is Phase.DONE
    parts = [node.frame["x"].to_numpy() for node in network.nodes]
    wanted = sum(len(x) * x[:LENGTH] for x in parts) / sum(map(len, parts))
    assert np.abs(network.nodes[0].state["mean"] - wanted).max() < config.step


# Sealed ---------------------------------------------------------------------------------------------------


def chain_bytes(network):
    """Everything that the chain shows to the world: calls, blobs' hashes, events."""
    w3, found = network.chain.w3, []
    for number in range(network.chain.block_number + 1):
        for name in w3.eth.get_block(number)["transactions"]:
            found.append(bytes(w3.eth.get_transaction(name)["input"]))
            found += [bytes(log["data"]) for log in w3.eth.get_transaction_receipt(name)["logs"]]
    return b"".join(found)


def mailbox_bytes(network):
    files = network.mailbox._fs.find(network.mailbox._root)
    return b"".join(network.mailbox._fs.cat_file(path) for path in files)


def test_sealed_openings_and_results_are_in_no_byte_that_others_read(monkeypatch):
    network = network_of(3, SEALED)
    said = []
    honest = node_module.seal_opening

    def listen(context, key, message, readers):
        said.append(message)
        return honest(context, key, message, readers)

    monkeypatch.setattr(node_module, "seal_opening", listen)
    result = network.run(Echo())
    public = mailbox_bytes(network) + chain_bytes(network)
    assert len(said) == 3
    for message in said:
        for entry in message.entries:
            assert entry.share not in public
            assert entry.share[1:] not in public
            assert entry.salt not in public
    for word in result.rounds[0].words:
        assert word.to_bytes(32, "big") not in public
        assert word.to_bytes(32, "little") not in public
    task = result.task
    anybody = Coordinator(network.contract, network.owner, network.mailbox).view(task, 1, 1)
    with pytest.raises(errors.TooFewSurvivors):
        anybody.unmasking()
    with pytest.raises(errors.TooFewSurvivors):
        network.nodes[0].view(1).unmasking()
    assert_exact(network, result)


@pytest.mark.parametrize("kind", ["replayed", "swapped", "forged", "crafted"])
def test_a_sealed_result_of_anything_else_is_refused(kind):
    network = network_of(3, SEALED)
    victim, other = network.nodes[:2]
    contexts = [network.contract.context(1, number) for number in (1, 2)]
    owner = Reader(network.owner.address, network.coordinator._box_key)

    def swap():
        get, own, context = network.mailbox.get, victim.account.address, contexts[1]
        limbs = other.view(2).published(network.contract.contract.events("Finished")[-1]).copy()
        limbs[0, 0] ^= 1
        stranger = Reader(network.owner.address, BoxKey.generate())
        bad = {
            "replayed": lambda: get(contexts[0], "result", own),
            "swapped": lambda: get(context, "result", other.account.address),
            "forged": lambda: seal_result(context, stranger, party_id(own), victim._box_key.public, limbs),
            "crafted": lambda: seal_result(context, owner, party_id(own), victim._box_key.public, limbs),
        }[kind]()
        network.mailbox.put(context, "result", own, bad)

    watch = at("finish", swap, round=2)
    network.run(Echo(2), observe=watch)
    assert watch.done
    wanted = "does not lead to the mask" if kind == "crafted" else "does not open"
    with pytest.raises(errors.TamperedMessage, match=wanted):
        victim.state  # noqa: B018
    assert other.state["mean"].any()


def test_nodes_that_were_not_drawn_get_the_sealed_result_too():
    network = network_of(5, SEALED)
    result = network.run(Echo(4, max_clients=3))
    assert {record.status for record in result.rounds} == {"done"}
    assert len({name for record in result.rounds for name in record.members}) > 3
    assert_exact(network, result)


@pytest.mark.parametrize("who", ["node", "verifier"])
def test_a_key_that_nothing_can_be_sealed_to_harms_its_owner_alone(who):
    network = network_of(3, SEALED)

    class SmallOrder:
        public = SMALL_ORDER

    evil = network.nodes[2] if who == "node" else network.verifiers[0]
    honest, evil._box_key = evil._box_key, SmallOrder()
    watch = at("select", lambda: setattr(evil, "_box_key", honest))
    result = network.run(Echo(), observe=watch)
    assert result.rounds[0].status == "done"
    assert set(result.rounds[0].survivors) == set(network.names) - {evil.name}


def test_a_verifier_that_lies_is_outvoted():
    network = network_of(3, SEALED)
    liar = network.verifiers[0]

    def lie(task, task_id, round):
        return liar.contract.send("attest", task_id, round, 0, b"\x66" * 32, sender=liar.account)

    liar.attest = lie
    view = network.coordinator.view(Echo().with_config(SEALED), 1, 1)

    def finish():
        blobs = view.sum_message(view.summed()).blobs
        what = (1, 1, b"\x66" * 32, bytes(32))
        with pytest.raises(errors.ContractReverted, match="does not fit the attested mask"):
            network.contract.send("finish_committed", *what, sender=liar.account, blobs=blobs)

    watch = When(lambda e: e.step == "attest" and e.node == network.verifiers[-1].name, finish)
    result = network.run(Echo(), observe=watch)
    assert watch.done
    assert_exact(network, result)


def test_verifiers_are_those_that_were_registered_and_no_others():
    network = network_of(3, SEALED)
    puppet = Verifier("puppet", network.chain.account("puppet"), network.contract, network.mailbox)
    task = Echo().with_config(SEALED)

    def intrude():
        with pytest.raises(errors.TwoPMError):
            puppet.attest(task, 1, 1)
        for number in (0, 3):
            with pytest.raises(errors.ContractReverted, match="not a verifier"):
                network.contract.send("attest", 1, 1, number, b"\x66" * 32, sender=puppet.account)
        member = network.nodes[0]
        with pytest.raises(errors.ContractReverted, match="not a verifier"):
            member._send("attest", 1, b"\x66" * 32)

    watch = at("attest", intrude)
    network.run(Echo(), observe=watch)
    assert watch.done


def test_a_box_of_shares_is_no_sealed_opening():
    """A reader that is a member too: what was sealed to it as a share does not pass for an opening."""
    network = network_of(3, SEALED)
    task_id, round = opened(network, Echo().with_config(SEALED))
    speak(network, task_id, round, "share")
    context = network.contract.context(task_id, round)
    one, two = network.nodes[:2]
    message = ShareMessage.from_bytes(network.mailbox.get(context, "shares", one.account.address))
    box = message.box_for(party_id(two.account.address))
    fake = b"2PM\x01E\x01" + party_id(two.account.address) + len(box).to_bytes(4, "big") + box
    from twopm_kit.federated.sealing import opened as unsealed

    roster = network.contract.roster(task_id, round)
    reader = Reader(two.account.address, two._box_key)
    assert unsealed(context, roster, {one.account.address: fake}, reader) == {}
    assert len(readers_of(network.contract, task_id)) == 4
    assert seal_opening.__module__ == "twopm_kit.federated.sealing"


# Bad dealers and openers, on chain ------------------------------------------------------------------------


@pytest.mark.parametrize("config", [COMMIT, SEALED], ids=["commit", "sealed"])
def test_a_bad_dealer_is_convicted_and_the_round_is_done(config, monkeypatch):
    network = network_of(5, config)
    bad, honest = network.nodes[4], secagg_node.split

    def crooked(secret, receivers, threshold):
        shares = honest(secret, receivers, threshold)
        if receivers[0] == party_id(bad.account.address):
            victim = min(receivers)  # one of those that are tried first
            shares[victim] = ((share_value(shares[victim]) + 1) % PRIME).to_bytes(33, "big")
        return shares

    monkeypatch.setattr(secagg_node, "split", crooked)
    result = network.run(Echo(2, stake=STAKE))
    assert [record.status for record in result.rounds] == ["done", "done"]
    assert convictions(network) == [(bad.name, 1, STAKE)]
    assert bad.name not in result.rounds[1].members
    assert_exact(network, result, but=[bad])


@pytest.mark.parametrize("config", [COMMIT, SEALED], ids=["commit", "sealed"])
def test_a_bad_opener_is_convicted_and_the_round_is_done(config, monkeypatch):
    network = network_of(3, config)
    bad, honest = network.nodes[0], secagg_node.NodeSession.open_shares

    def crooked(session, survivors):
        said = honest(session, survivors)
        if session.address == party_id(bad.account.address):
            entries = list(said.entries)
            wrong = ((share_value(entries[2].share) + 1) % PRIME).to_bytes(33, "big")
            entries[2] = replace(entries[2], share=wrong)
            said = replace(said, entries=tuple(entries))
        return said

    monkeypatch.setattr(secagg_node.NodeSession, "open_shares", crooked)
    result = network.run(Echo(2, stake=STAKE))
    assert [record.status for record in result.rounds] == ["done", "done"]
    assert convictions(network) == [(bad.name, 2, STAKE)]
    assert bad.name not in result.rounds[1].members
    assert_exact(network, result, but=[bad])


def test_one_bad_proof_convicts_nobody_and_kills_no_task():
    network = network_of()
    judge = network.chain.account("zealot")

    def accuse():
        for seat in range(3):
            for fault in (1, 2, 3, 9):
                for evidence in (b"", os.urandom(96), bytes(640)):
                    with pytest.raises(errors.ContractReverted):
                        network.contract.send("convict", 1, 1, seat, fault, 0, evidence, sender=judge)

    watch = at("attest", accuse)
    result = network.run(Echo(2, stake=STAKE), observe=watch)
    assert watch.done
    assert [record.status for record in result.rounds] == ["done", "done"]
    assert convictions(network) == []


def test_storage_that_alters_what_is_on_chain_anyway_is_not_asked():
    """Forced inclusion helps against storage that serves something else, too."""
    network, task = network_of(), Echo().with_config(COMMIT)
    task_id, round = opened(network, task)
    hidden = network.nodes[1]
    context = network.contract.context(task_id, round)
    for node in network.nodes:
        node.share(round)
    network.mailbox.put(context, "shares", hidden.account.address, b"something else")
    hidden.publish(round, "shares")
    network.coordinator.end_phase(task_id, round)
    for node in network.nodes:
        node.submit(round)
        assert not node._session.complaints


# What nobody may see --------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", CONFIGS)
def test_counts_metrics_and_updates_are_nowhere_in_clear(name, monkeypatch):
    network = network_of(3, CONFIGS[name])
    plain = []
    honest = secagg_node.NodeSession.mask

    def listen(self, vector):
        plain.append(vector.copy())
        return honest(self, vector)

    monkeypatch.setattr(secagg_node.NodeSession, "mask", listen)
    network.run(Echo())
    public = mailbox_bytes(network) + chain_bytes(network)
    assert len(plain) == 3
    for vector in plain:
        for element in vector[vector.any(axis=1)]:
            assert element.tobytes() not in public
            assert element[::-1].astype(">u4").tobytes() not in public
    for node in network.nodes:
        for value in node.frame["x"]:
            for form in ("<d", ">d"):
                assert struct.pack(form, value) not in public
            assert repr(float(value)).encode() not in public
    # The chain learns that there are enough rows, not how many.
    rows = [event.args["rows"] for event in network.contract.contract.events("Joined")]
    assert rows == [1, 1, 1]


def test_no_key_and_no_nonce_serves_two_rounds_tasks_or_chains():
    keys, boxes, masked = [], [], []
    for places in (((1, 1), (1, 2), (2, 1)), ((1, 1),)):  # on two chains
        network = network_of(3)
        for task_id in {task_id for task_id, _ in places}:
            network.run(Echo(sum(task_id == other for other, _ in places)))
        for task_id, round in places:
            context = network.contract.context(task_id, round)
            for seat in network.contract.roster(task_id, round).seats:
                keys += [seat.mask_key, seat.seed_hash, seat.share_root, seat.data_root, seat.commitments]
                message = ShareMessage.from_bytes(network.mailbox.get(context, "shares", seat.node))
                boxes += [box[:12] for box in message.boxes]
                keys += message.leaves
            for message in vectors(network, round, task_id).values():
                masked += [message.elements[at : at + 32] for at in range(0, len(message.elements), 32)]
    for found in (keys, boxes, masked):
        assert len(set(found)) == len(found)


def test_gas_of_a_node_does_not_grow_with_the_others():
    spent = {}
    for nodes in (3, 8):
        network = network_of(nodes)
        result = network.run(Echo())
        gas = result.gas["total"].drop("coordinator")
        spent[nodes] = gas.max()
        assert gas.max() <= 1.05 * gas.min()
    assert spent[8] <= 1.05 * spent[3]


# Nodes that die, chains that go back ----------------------------------------------------------------------


@pytest.mark.parametrize("config", [COMMIT, SEALED], ids=["commit", "sealed"])
@pytest.mark.parametrize("step", ["share", "submit", "answer", "open_shares", "attest"])
def test_a_node_killed_at_any_step_goes_on_from_its_vault(config, step, tmp_path):
    network = network_of(3, config)
    old = network.nodes[0]
    task = Echo().with_config(config)

    def born():
        vault = Vault(tmp_path / "vault", key=bytes(range(32)))
        return Node(old.name, old.frame, old.account, network.contract, network.mailbox, vault=vault)

    def reborn():
        network.nodes[0] = born()
        network.nodes[0].enter(task_id, approved=task.code_hash(), verifiers=accepted(network))

    class Killed(Exception):
        pass

    def die(method, args, blobs):
        raise Killed

    network.nodes[0] = born()
    task_id, round = opened(network, task)
    for now in ("share", "submit", "answer", "open_shares", "attest"):
        if now == "attest" and config is SEALED:
            for verifier in network.verifiers:
                verifier.attest(task, task_id, round)
            continue
        if now == "answer":
            for seat in network.contract.roster(task_id, round).seats[:3]:
                where = (task_id, round, seat.number, seat.data_root, seat.commitments)
                network.contract.send("challenge", *where, sender=network.owner)
        if now == step:
            lies(network.nodes[0], die)
            with pytest.raises(Killed):  # its state is on disk, its transaction was not sent
                getattr(network.nodes[0], now)(round)
            reborn()
        for node in network.nodes:
            getattr(node, now)(round)
        if now in ("share", "submit", "answer"):
            network.coordinator.end_phase(task_id, round)
    outcome = network.coordinator.finish(task, task_id, round)
    assert not outcome.faults
    assert len(network.contract.roster(task_id, round).survivors) == 3
    parts = [node.frame["x"].to_numpy() for node in network.nodes]
    wanted = sum(len(x) * x[:LENGTH] for x in parts) / sum(map(len, parts))
    for node in network.nodes:
        assert np.abs(node.state["mean"] - wanted).max() < config.step
    assert not [path for path in (tmp_path / "vault").iterdir() if path.suffix == ".state"]


ONE_NODE = """
    import sys, time
    import pandas as pd
    from twopm_kit import chain as chains
    from twopm_kit.federated import Mailbox, Node, Vault
    from twopm_kit.federated.contract import AggregationContract

    url, address, task, round, box, folder, code, values, last = sys.argv[1:]
    with chains.connect(url) as chain:
        account = chain.account("killed", key=bytes([7]) * 32)
        contract = AggregationContract.at(chain, address)
        vault = Vault(folder, "a phrase of words")
        frame = pd.DataFrame({"x": [float(value) for value in values.split()]})
        node = Node("killed", frame, account, contract, Mailbox(box), vault=vault)
        node.enter(int(task), approved=bytes.fromhex(code))
        for line in sys.stdin:
            step = line.strip()
            if step == last:
                node._send = lambda *_, **__: (print("dying", flush=True), time.sleep(60))
            getattr(node, step)() if step == "join" else getattr(node, step)(int(round))
            print(step, flush=True)
"""


def test_a_process_killed_between_disk_and_chain_goes_on_in_another(tmp_path):
    """SIGKILL after the masked vector is on disk and before it is sent: a second process sends the same."""
    with chains.connect("embedded") as chain, chain.serve() as server:
        mailbox = Mailbox(f"file://{tmp_path / 'mail'}")
        network = LocalNetwork(frames(2), chain, COMMIT, mailbox=mailbox)
        task = Echo(min_clients=3).with_config(COMMIT)
        values = " ".join(map(repr, frames(3)[2]["x"].tolist()))

        def process(last):
            arguments = [server.url, network.contract.address, 1, 1, mailbox.url, tmp_path / "vault"]
            arguments += [task.code_hash().hex(), values, last]
            return subprocess.Popen(
                [sys.executable, "-c", textwrap.dedent(ONE_NODE), *map(str, arguments)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )

        def tell(step):
            child.stdin.write(f"{step}\n")
            child.stdin.flush()
            return child.stdout.readline().strip()

        task_id = entered(network, task)
        own, context = chain.account("killed", key=bytes([7]) * 32).address, network.contract.context(1, 1)
        with process("submit") as child:
            assert tell("join") == "join"
            round, _ = network.coordinator.open_round(task_id)
            assert tell("share") == "share"
            speak(network, task_id, round, "share")
            assert tell("submit") == "dying"
            child.kill()
        kept = mailbox.get(context, "vector", own)
        for node in network.nodes:
            node.submit(round)
        with process("never") as child:
            assert tell("submit") == "submit"
            assert mailbox.get(context, "vector", own) == kept
            network.coordinator.end_phase(task_id, round)
            network.coordinator.end_phase(task_id, round)
            for step in ("open_shares", "attest"):
                for node in network.nodes if step == "open_shares" else ():
                    node.open_shares(round)
                assert tell(step) == step
            for node in network.nodes:
                node.attest(round)
            child.kill()
        outcome = network.coordinator.finish(task, task_id, round)
        assert not outcome.faults
        assert len(network.contract.roster(task_id, round).survivors) == 3
        parts = [node.frame["x"].to_numpy() for node in network.nodes] + [frames(3)[2]["x"].to_numpy()]
        wanted = sum(len(x) * x[:LENGTH] for x in parts) / sum(map(len, parts))
        assert np.abs(network.nodes[0].state["mean"] - wanted).max() < COMMIT.step


def test_a_chain_that_goes_back_brings_nobody_to_open_both_kinds():
    """One member's shares stay on chain and the others' do not: who forgot could open the other kind."""
    network, task = network_of(), Echo().with_config(COMMIT)
    task_id, round = opened(network, task)
    victim, *others = network.nodes
    victim.share(round)
    before = network.chain.snapshot()
    speak(network, task_id, round, "share", others)
    speak(network, task_id, round, "submit")
    for node in network.nodes:
        node.open_shares(round)
    before.revert()
    for node in others:
        with pytest.raises(errors.ProtocolError, match="has opened shares of round 1 already"):
            node.share(round)


def test_one_node_whose_result_is_gone_does_not_stop_the_workers():
    network = network_of(3, SEALED)
    result = network.run(Echo())
    lost = network.nodes[0]
    remove(network, "result", lost)
    updates = Workers(result.task, 2).updates([lost], 2)
    with pytest.raises(errors.StoreError, match="no message result"):
        updates[lost.name]()


def test_a_look_alike_judge_is_refused():
    network = network_of(2)
    tally = network.chain.deploy("Tally", 10, sender=network.owner)
    board = network.chain.deploy("SecureRound", tally.address, sender=network.owner)
    with pytest.raises(errors.UnknownContract, match="not that of"):
        AggregationContract.at(network.chain, board.address)


def test_a_sum_that_storage_hides_for_a_while_is_not_skipped():
    """A node that merged the next sum into an older model would train on a model that nobody else has."""
    network = network_of(3, COMMIT)
    task = Echo(2)
    result = network.run(task)
    first, mailbox = network.nodes[0], network.mailbox
    late = Node("late", first.frame, first.account, network.contract, mailbox)
    late.enter(result.task_id, approved=result.task.code_hash())
    context = network.contract.context(result.task_id, 2)
    accounts = [node.account.address for node in network.nodes]
    kept = {account: mailbox.get(context, "openings", account) for account in accounts}
    for account in accounts:
        mailbox._fs.rm(mailbox._path(context, "openings", account))
    for _ in range(2):
        with pytest.raises(errors.TooFewSurvivors):
            late.state  # noqa: B018
    for account, payload in kept.items():
        mailbox.put(context, "openings", account, payload)
    assert late.state["mean"] == pytest.approx(result.state["mean"], abs=0)
