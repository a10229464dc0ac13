"""Hostile mailboxes, nodes, owners and coordinators: each attack meets a named refusal."""

import os
from pathlib import Path

import numpy as np
import pytest

from twopm_kit import datasets, errors
from twopm_kit.federated import (
    AggregationContract,
    Coordinator,
    Criteria,
    LocalNetwork,
    LogitTask,
    Mailbox,
    Moments,
    Node,
    TaskArchive,
    Terms,
)
from twopm_kit.secagg import BoxKey


def task(rounds=1, **more):
    return LogitTask("grades", target="GRADE", features=["GPA"], max_rounds=rounds, min_clients=2, **more)


@pytest.fixture
def network():
    return LocalNetwork(datasets.load("spector"), n_nodes=5)


class Watch:
    """Does something when a step of a round begins, and keeps all events."""

    def __init__(self, step, act, round=1):
        self.step, self.act, self.round = step, act, round
        self.events = []
        self.done = False

    def __call__(self, event):
        self.events.append(event)
        if not self.done and event.round == self.round and event.step == self.step:
            self.done = True
            self.act()

    def refused(self):
        return [event for event in self.events if event.status == "refused"]


def flip(payload, at):
    return payload[:at] + bytes([payload[at] ^ 1]) + payload[at + 1 :]


def same(result, clear):
    return result.state["params"] == pytest.approx(clear.state["params"], abs=1e-6)


@pytest.mark.parametrize("step", ["freeze", "open"])
def test_a_share_message_altered_in_the_mailbox_changes_nothing(network, step):
    context = network.contract.context(1, 1)
    victim = network.nodes[1].account.address

    def tamper():
        message = network.mailbox.get(context, "shares", victim)
        network.mailbox.put(context, "shares", victim, flip(message, len(message) // 2))

    result = network.run(task(2), observe=Watch(step, tamper))
    clear = network.run_in_clear(task(2))
    assert all(r.words == () or len(r.survivors) == 5 for r in result.rounds)
    assert result.rounds[-1].status == "done"
    if result.rounds[0].status == "done":
        assert same(result, clear)
    else:
        assert network.nodes[1].name in result.rounds[0].reason


def test_an_altered_opening_is_left_out_and_the_round_is_done(network):
    context = network.contract.context(1, 1)
    liar = network.nodes[0].account.address

    def tamper():
        message = network.mailbox.get(context, "openings", liar)
        network.mailbox.put(context, "openings", liar, flip(message, -1 % len(message)))

    result = network.run(task(), observe=Watch("open", tamper))
    clear = network.run_in_clear(task())
    assert result.rounds[0].status == "done"
    assert same(result, clear)


def test_messages_of_an_earlier_round_do_not_pass_for_this_one(network):
    first, second = network.contract.context(1, 1), network.contract.context(1, 2)
    victim = network.nodes[2].account.address

    def replay():
        network.mailbox.put(second, "shares", victim, network.mailbox.get(first, "shares", victim))

    network.run(task(2), observe=Watch("freeze", replay, round=2))
    for node in network.nodes:
        if node.account.address != victim:
            [complaint] = node._session.complaints.values()
            assert "another round" in complaint


def test_a_vanished_message_is_a_silent_sender(network):
    context = network.contract.context(1, 1)
    lost = network.nodes[3].account.address

    def vanish():
        path = network.mailbox._path(context, "openings", lost)
        network.mailbox._fs.rm(path)

    watch = Watch("attest", vanish)
    assert network.run(task(), observe=watch).rounds[0].status == "done"
    assert watch.done


def test_a_joiner_with_an_unusable_key_cannot_stop_the_others(network):
    evil = network.nodes[4]

    class SmallOrder:
        public = b"\xec" + b"\xff" * 30 + b"\x7f"  # the point of order two

    honest = evil._box_key
    evil._box_key = SmallOrder()

    def restore():
        evil._box_key = honest

    watch = Watch("select", restore)
    result = network.run(task(), observe=watch)
    assert [event.node for event in watch.refused()] == [evil.name]
    assert result.rounds[0].status == "done"
    assert evil.name in result.rounds[0].members
    assert evil.name not in result.rounds[0].survivors


def test_a_wrong_sum_is_refused_by_the_contract(network, monkeypatch):
    from twopm_kit.federated import coordinator

    honest = coordinator.to_words

    def cheat(limbs):
        words = honest(limbs)
        return [words[0] + 1, *words[1:]]

    monkeypatch.setattr(coordinator, "to_words", cheat)
    with pytest.raises(errors.RoundAborted, match="sum does not fit"):
        network.run(task())


@pytest.mark.parametrize(
    ("other", "words"),
    [
        (LogitTask("grades", target="GRADE", features=["TUCE"], max_rounds=1), "params_hash"),
        (LogitTask("grades", target="GRADE", features=["GPA", "PSI"], max_rounds=1), "genesis_hash"),
        (LogitTask("grades", target="GRADE", features=["GPA"], max_rounds=9), "params_hash"),
    ],
)
def test_a_node_refuses_a_task_that_is_not_the_registered_one(network, other, words):
    task_id, _ = network.coordinator.register(task(), join_blocks=20, step_blocks=20)
    swap_task(network, task_id, other)
    with pytest.raises(errors.TaskError, match=words):
        network.nodes[0].enter(task_id)


def swap_task(network, task_id, other):
    """Put another task in the place of the registered one."""
    context = network.contract.context(task_id, 0)
    network.mailbox.put(context, "task", network.owner.address, TaskArchive.of(other).to_bytes())


class Backdoor(LogitTask):
    def local_update(self, state, frame, round):
        return super().local_update(state, frame, round)


def test_a_node_refuses_code_that_is_not_the_registered_one(network):
    task_id, _ = network.coordinator.register(task(), join_blocks=20, step_blocks=20)
    other = Backdoor("grades", target="GRADE", features=["GPA"], max_rounds=1)
    swap_task(network, task_id, other)
    with pytest.raises(errors.TaskError, match="code_hash"):
        network.nodes[0].enter(task_id, approved=other.code_hash())


def test_foreign_code_runs_only_when_its_operator_has_approved_it(network):
    other = Backdoor("grades", target="GRADE", features=["GPA"], max_rounds=1)
    task_id, _ = network.coordinator.register(other, join_blocks=20, step_blocks=20)
    node = network.nodes[0]
    with pytest.raises(errors.TaskError, match="nobody has approved"):
        node.enter(task_id)
    with pytest.raises(errors.TaskError, match="was approved"):
        node.enter(task_id, approved=task().code_hash())
    assert "class Backdoor" in node.offered(task_id).source
    node.enter(task_id, approved=node.offered(task_id).code_hash)
    assert node.state["params"] == pytest.approx(np.zeros(2))


def started(network):
    """Bring a round to the end of its share phase."""
    task_id, _ = network.coordinator.register(task(), join_blocks=20, step_blocks=20)
    for node in network.nodes:
        node.enter(task_id)
        node.join()
    round, _ = network.coordinator.open_round(task_id)
    for node in network.nodes:
        node.share(round)
    return task_id, round


def test_a_node_speaks_only_when_the_lists_are_final(network):
    task_id, round = started(network)
    node = network.nodes[0]
    with pytest.raises(errors.ProtocolError, match="phase SHARE"):
        node.submit(round)
    network.coordinator.end_phase(task_id, round)
    with pytest.raises(errors.ProtocolError, match="phase SUBMIT"):
        node.open_shares(round)
    with pytest.raises(errors.ProtocolError, match="has not shared in round 2"):
        node.submit(2)


def test_a_node_that_restarts_is_a_drop_out_and_catches_up_from_the_chain(network):
    task_id, round = started(network)
    network.coordinator.end_phase(task_id, round)
    old = network.nodes[0]
    reborn = Node(old.name, old.frame, old.account, network.contract, network.mailbox)
    reborn.enter(task_id)
    with pytest.raises(errors.ProtocolError, match="has not shared"):
        reborn.submit(round)
    for node in network.nodes[1:]:
        node.submit(round)
    network.coordinator.end_phase(task_id, round)
    for node in network.nodes[1:]:
        node.open_shares(round)
    for node in network.nodes[1:]:
        node.attest(round)
    network.coordinator.finish(task(), task_id, round)
    assert reborn.state["params"] == pytest.approx(network.nodes[1].state["params"], abs=0)


def test_secrets_stay_inside(network):
    task_id, round = started(network)
    node = network.nodes[0]
    seed, secret = bytes(node._session._seed), bytes(node._session._mask_secret)
    shown = repr(node) + repr(node._session) + repr(node.__dict__) + repr(network) + network._repr_html_()
    for key in (seed, secret):
        assert key.hex() not in shown
        assert repr(key) not in shown
    everything = b"".join(
        network.mailbox.get(network.contract.context(task_id, round), "shares", n.account.address)
        for n in network.nodes
    )
    assert seed not in everything
    assert secret not in everything
    assert isinstance(node._box_key, BoxKey)


def test_a_chain_that_goes_back_gets_no_second_vector(network):
    task_id, round = started(network)
    network.coordinator.end_phase(task_id, round)
    before = network.chain.snapshot()
    for node in network.nodes:
        node.submit(round)
    network.coordinator.end_phase(task_id, round)
    opener, masked = network.nodes[0], network.nodes[1]
    opener.open_shares(round)
    before.revert()
    with pytest.raises(errors.ProtocolError, match="OPENED, expected RECEIVED"):
        opener.submit(round)
    sent = masked._vector
    masked.frame = network.nodes[2].frame
    masked.submit(round)
    assert masked._vector == sent


def test_shares_opened_for_one_list_are_not_opened_for_another(network):
    task_id, round = started(network)
    network.coordinator.end_phase(task_id, round)
    for node in network.nodes[:4]:
        node.submit(round)
    before = network.chain.snapshot()
    network.coordinator.end_phase(task_id, round)
    opener = network.nodes[0]
    opener.open_shares(round)
    before.revert()
    network.nodes[4].submit(round)
    network.coordinator.end_phase(task_id, round)
    with pytest.raises(errors.ProtocolError, match="another survivor list"):
        opener.open_shares(round)


class When:
    """Does something once, at the first event that a rule picks."""

    def __init__(self, rule, act):
        self.rule, self.act, self.done = rule, act, False

    def __call__(self, event):
        if not self.done and self.rule(event):
            self.done = True
            self.act()


def entered(network, wanted):
    task_id, _ = network.coordinator.register(wanted, join_blocks=20, step_blocks=20)
    for node in network.nodes:
        node.enter(task_id)
        node.join()
    return task_id


def play(network, wanted, task_id):
    round, _ = network.coordinator.open_round(task_id)
    for node in network.nodes:
        node.share(round)
    network.coordinator.end_phase(task_id, round)
    for node in network.nodes:
        node.submit(round)
    network.coordinator.end_phase(task_id, round)
    for node in network.nodes:
        node.open_shares(round)
    for node in network.nodes:
        node.attest(round)
    network.coordinator.finish(wanted, task_id, round)


@pytest.mark.parametrize("move", ["advance after share", "advance after submit", "finish", "open_round"])
def test_a_stranger_who_turns_the_crank_first_changes_nothing(network, move):
    stranger, last = network.chain.account("stranger"), network.names[-1]
    board, other = (
        network.contract,
        Coordinator(network.contract, network.chain.account("stranger"), network.mailbox),
    )
    step = {"finish": "attest", "open_round": "finish"}.get(move, move.rpartition(" ")[2])
    acts = {
        "finish": lambda: other.finish(task(2), 1, 1),
        "open_round": lambda: board.send("open_round", 1, sender=stranger),
    }
    act = acts.get(move, lambda: board.send("advance", 1, 1, sender=stranger))
    watch = When(lambda e: e.step == step and (move == "open_round" or e.node == last), act)
    result = network.run(task(2), observe=watch)
    assert watch.done
    assert [r.status for r in result.rounds] == ["done", "done"]


def test_a_stranger_who_joins_and_shares_is_one_more_drop_out(network):
    outsider = Node(
        "x", datasets.load("spector"), network.chain.account("x"), network.contract, network.mailbox
    )

    def join():
        outsider.enter(1)
        outsider.join()

    first = When(lambda e: e.step == "join", join)
    then = When(lambda e: e.step == "share", lambda: outsider.share(1))
    result = network.run(task(), observe=lambda e: (first(e), then(e)))
    assert result.rounds[0].status == "done"
    assert outsider.account.address in result.rounds[0].sharers


def spoil(node, lane=None, value=2**61):
    """Let a node's first vector hold a value that it did not encode, by default as its weight."""
    enter = node.enter

    def hostile(task_id, **approval):
        enter(task_id, **approval)
        honest, told = node._encoder.encode, []

        def encode(*values, **more):
            limbs = honest(*values, **more)
            if not told:
                limbs.reshape(-1).view(np.uint64)[lane or node._encoder.length] = value
            told.append(1)
            return limbs

        node._encoder.encode = encode

    node.enter = hostile


def test_one_spoiled_sum_costs_one_round_and_parts_no_nodes(network):
    spoil(network.nodes[2])
    result = network.run(task(3))
    assert [r.status for r in result.rounds] == ["void", "done", "done"]
    late = Node("late", network.nodes[0].frame, network.nodes[0].account, network.contract, network.mailbox)
    late.enter(1)
    for node in (*network.nodes, late):
        assert node.state["params"] == pytest.approx(result.state["params"], abs=0)


def test_a_sum_without_a_newton_step_is_void_and_parts_no_nodes(network):
    spoil(network.nodes[2], lane=3, value=0)  # curvature of GPA: far too small for the others' rows
    result = network.run(task(3))
    assert [r.status for r in result.rounds] == ["void", "done", "done"]
    late = Node("late", network.nodes[0].frame, network.nodes[0].account, network.contract, network.mailbox)
    late.enter(1)
    for node in (*network.nodes, late):
        assert node.state["params"] == pytest.approx(result.state["params"], abs=0)


def test_a_chain_that_goes_back_takes_the_models_with_it(network):
    wanted = task(3)
    task_id = entered(network, wanted)
    play(network, wanted, task_id)
    before = [node.state["params"].copy() for node in network.nodes]
    moment = network.chain.snapshot()
    play(network, wanted, task_id)
    assert network.nodes[0].state["params"] != pytest.approx(before[0])
    moment.revert()
    for node, params in zip(network.nodes, before, strict=True):
        assert node.state["params"] == pytest.approx(params, abs=0)


def test_a_finished_task_gets_nothing_more(network):
    wanted = Moments("m", ["GPA", "TUCE"], min_clients=2)
    task_id = entered(network, wanted)
    for _ in range(3):
        play(network, wanted, task_id)
    round, _ = network.coordinator.open_round(task_id)
    with pytest.raises(errors.ProtocolError, match="finished"):
        network.nodes[0].share(round)


def test_an_allow_list_that_the_chain_does_not_hold_is_noticed(network):
    wanted = task(criteria=Criteria(allow_list=tuple(n.account.address for n in network.nodes[:3])))
    terms = Terms.of(wanted, network.chain, join_blocks=20, step_blocks=20)
    task_id, _ = network.contract.register(terms, (), network.owner)
    swap_task(network, task_id, wanted)
    for node in network.nodes:
        node.enter(task_id)
        node.join()
    round, _ = network.coordinator.open_round(task_id)
    with pytest.raises(errors.ProtocolError, match="allow list"):
        network.nodes[0].share(round)


def test_a_look_alike_contract_is_refused(network):
    other = network.chain.deploy("Tally", 10, sender=network.owner)
    with pytest.raises(errors.UnknownContract, match="not that of"):
        AggregationContract.at(network.chain, other.address)
    assert AggregationContract.at(network.chain, network.contract.address)


def test_sharing_twice_does_not_spoil_the_round(network):
    first, last = network.nodes[0], network.names[-1]

    def again():
        with pytest.raises(errors.ContractReverted, match="already sent"):
            first.share(1)

    watch = When(lambda e: e.step == "share" and e.node == last, again)
    assert network.run(task(), observe=watch).rounds[0].status == "done"


@pytest.mark.parametrize("make", [os.mkdir, os.mkfifo])
def test_a_folder_or_a_pipe_in_the_place_of_a_message_is_a_silent_sender(tmp_path, make):
    network = LocalNetwork(datasets.load("spector"), n_nodes=5, mailbox=Mailbox(f"file://{tmp_path}"))
    liar = network.nodes[0].account.address

    def swap():
        path = network.mailbox._path(network.contract.context(1, 1), "openings", liar)
        Path(path).unlink()
        make(path)

    watch = When(lambda e: e.step == "attest" or (e.step == "open" and e.node == network.names[-1]), swap)
    assert network.run(task(), observe=watch).rounds[0].status == "done"


@pytest.mark.parametrize("drop", [{1: ["node-1", "node-2", "node-3"]}])
def test_stakes_come_back_when_every_round_was_aborted(network, drop):
    with pytest.raises(errors.RoundAborted):
        network.run(task(criteria=Criteria(min_stake=1000)), drop=drop)
    assert network.chain.balance(network.contract.address) == 0


def test_two_classes_of_one_name_have_two_hashes():
    def first():
        class Chosen(LogitTask):
            def finished(self, state):
                return bool(state)

        return Chosen

    def second():
        class Chosen(LogitTask):
            def finished(self, state):
                return not state

        return Chosen

    one, other = (make()("t", target="GRADE", features=["GPA"]) for make in (first, second))
    assert one.code_hash() != other.code_hash()


def test_a_method_replaced_on_the_object_is_refused():
    wanted = task()
    wanted.finished = lambda state: bool(state)
    with pytest.raises(errors.TaskError, match="replaced on the object"):
        wanted.code_hash()


def test_a_dealer_that_hides_its_shares_costs_one_round_and_is_drawn_no_more(network, monkeypatch):
    bad = network.nodes[3]

    class Nowhere:
        def put(self, *message):
            pass

        def __getattr__(self, name):
            return getattr(network.mailbox, name)

    monkeypatch.setattr(bad, "mailbox", Nowhere())
    watch = Watch("attest", lambda: None)
    result = network.run(task(3, criteria=Criteria(min_stake=1000)), observe=watch)
    assert [r.status for r in result.rounds] == ["aborted", "done", "done"]
    assert bad.name in result.rounds[0].reason
    assert all(bad.name not in r.members for r in result.rounds[1:])
    [expelled] = network.contract.contract.events("Expelled")
    assert expelled.args["dealer"] == bad.account.address
    assert sum(event.gas for event in watch.refused()) > 0
    assert network.chain.balance(network.contract.address) == 0


def test_a_message_that_storage_hides_is_put_on_chain(network):
    """Forced inclusion: the mailbox loses what one node says, and the chain keeps it."""
    hidden = network.nodes[3]
    task_id = entered(network, task())
    round, _ = network.coordinator.open_round(task_id)
    context = network.contract.context(task_id, round)

    def lose(kind):
        network.mailbox._fs.rm(network.mailbox._path(context, kind, hidden.account.address))

    for node in network.nodes:
        node.share(round)
    lose("shares")
    hidden.publish(round, "shares")
    network.coordinator.end_phase(task_id, round)
    for node in network.nodes:
        node.submit(round)
        assert not node._session.complaints
    network.coordinator.end_phase(task_id, round)
    for node in network.nodes:
        node.open_shares(round)
    lose("openings")
    with pytest.raises(errors.ProtocolError, match="has sent no 'vector'"):
        hidden.publish(round, "vector")
    hidden.publish(round, "openings")
    assert len(network.coordinator.view(task(), task_id, round).opening_messages()) == 5
    for node in network.nodes:
        node.attest(round)
    outcome = network.coordinator.finish(task(), task_id, round)
    assert not outcome.faults
