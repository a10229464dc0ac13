"""Hostile mailboxes, nodes, owners and coordinators: each attack meets a named refusal."""

import pytest

from twopm_kit import datasets, errors
from twopm_kit.federated import LocalNetwork, LogitTask, Node
from twopm_kit.secagg import BoxKey, Encoder


def task(rounds=1):
    return LogitTask("grades", target="GRADE", features=["GPA"], max_rounds=rounds, min_clients=2)


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
        assert victim.lower() in result.rounds[0].reason


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


def test_a_poisoned_vector_voids_one_round_and_not_the_task(network, monkeypatch):
    evil = network.nodes[2]
    honest = Encoder.encode
    calls = []

    def poison(self, *arguments):
        vector = honest(self, *arguments)
        if self is evil._encoder and not calls:
            calls.append(1)
            vector[-1] = 0
            vector[-1, 0] = 1 << 29  # a weight that nobody may have, small enough for the contract
        return vector

    monkeypatch.setattr(Encoder, "encode", poison)
    result = network.run(task(3))
    assert [r.status for r in result.rounds] == ["void", "done", "done"]
    assert "weights" in result.rounds[0].reason or "bound" in result.rounds[0].reason
    for node in network.nodes:
        assert node.state["params"] == pytest.approx(result.state["params"], abs=0)


@pytest.mark.parametrize(
    ("other", "words"),
    [
        (LogitTask("grades", target="GRADE", features=["TUCE"], max_rounds=1), "params_hash"),
        (LogitTask("grades", target="GRADE", features=["GPA", "PSI"], max_rounds=1), "words"),
        (LogitTask("grades", target="GRADE", features=["GPA"], max_rounds=9), "max_rounds"),
    ],
)
def test_a_node_refuses_a_task_that_is_not_the_registered_one(network, other, words):
    task_id, _ = network.coordinator.register(task(), join_blocks=20, step_blocks=20)
    with pytest.raises(errors.TaskError, match=words):
        network.nodes[0].enter(other, task_id)


def test_a_node_refuses_code_that_is_not_the_registered_one(network):
    class Backdoor(LogitTask):
        def local_update(self, state, frame, round):
            return super().local_update(state, frame, round)

    task_id, _ = network.coordinator.register(task(), join_blocks=20, step_blocks=20)
    with pytest.raises(errors.TaskError, match="code_hash"):
        network.nodes[0].enter(Backdoor("grades", target="GRADE", features=["GPA"], max_rounds=1), task_id)


def started(network):
    """Bring a round to the end of its share phase."""
    task_id, _ = network.coordinator.register(task(), join_blocks=20, step_blocks=20)
    for node in network.nodes:
        node.enter(task(), task_id)
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
    reborn.enter(task(), task_id)
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
    masked.frame = network.nodes[2].frame
    with pytest.raises(errors.ProtocolError, match="already masked another vector"):
        masked.submit(round)


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
