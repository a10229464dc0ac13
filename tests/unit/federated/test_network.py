"""A whole federation: the numbers that the series promises, drop-outs at every step, and refusals."""

import math

import numpy as np
import pandas as pd
import pytest
import torch

from tests.unit.federated.conftest import Classifier, accuracy
from twopm_kit import errors
from twopm_kit.federated import Criteria, LocalNetwork
from twopm_kit.secagg import Mode, RoundConfig


@pytest.fixture(scope="module")
def run(hospitals):
    network = LocalNetwork(hospitals)
    events = []
    result = network.run(Classifier(), drop={2: ["hospital-4"]}, observe=events.append)
    return network, result, events


def test_accuracy_with_a_dropped_node_is_close_to_centralised_training(run, patients, classifier):
    train, test = patients
    _, result, _ = run
    central = classifier(8)
    state = central.initial_state()
    for number in range(1, 9):
        update = central.for_node("everybody").local_update(state, train, number)
        state = central.merge(state, _clear(update))
    federated = accuracy(result.state, test)
    assert federated >= 0.95
    assert abs(federated - accuracy(state, test)) <= 0.01


def _clear(update):
    from twopm_kit.secagg import Decoded

    return Decoded(update.values, update.weight, update.metrics, update.metric_weight, 0.0)


def test_weights_equal_averaging_in_clear_within_the_quantisation_step(hospitals, classifier):
    network = LocalNetwork(hospitals)
    drop = {1: ["hospital-2"]}
    masked = network.run(classifier(1), drop=drop)
    clear = network.run_in_clear(classifier(1), drop=drop)
    step = classifier(1).round_config().step
    for name, value in clear.state.items():
        assert np.abs(masked.state[name] - value).max() <= step
    assert clear.rounds[0].survivors == tuple(n for n in network.names if n != "hospital-2")
    for metric, value in clear.rounds[0].metrics.items():
        assert masked.rounds[0].metrics[metric] == pytest.approx(value, abs=1e-3)


def test_every_node_sees_the_same_model_on_its_own(run):
    network, result, _ = run
    for node in network.nodes:
        for name, value in result.state.items():
            assert np.array_equal(node.state[name], value)


def test_the_story_is_complete(run):
    network, result, events = run
    assert len(result.rounds) == 8
    assert set(result.rounds[1].survivors) == set(network.names) - {"hospital-4"}
    assert [e.node for e in events if e.status == "dropped" and e.step == "submit"] == ["hospital-4"]
    history = result.history
    assert list(history.index) == list(range(1, 9))
    assert history.loc[2, "dropped"] == "hospital-4"
    assert history["accuracy"].between(0, 1).all()
    assert history["loss"].iloc[-1] < history["loss"].iloc[0]
    assert result.gas.loc["coordinator", "total"] > 0
    assert result.gas.to_numpy().sum() == 2 * sum(e.gas for e in events)
    assert set(result.state_dict) == {"weight", "bias"}


def test_what_the_contract_holds_says_nothing_about_the_sum(run):
    _, result, _ = run
    record = result.rounds[0]
    different = [masked != word for masked, word in zip(record.masked_sum, record.words, strict=True)]
    assert all(different)
    # A masked element is uniform in the field; an honest sum has its two highest bits of each lane clear.
    guard = int("C0000000" * 8, 16)
    assert any(masked & guard for masked in record.masked_sum)
    assert not any(word & guard for word in record.words)


@pytest.mark.parametrize("step", ["share", "submit", "open", "attest"])
def test_two_of_five_may_fall_silent_at_any_step(hospitals, classifier, step):
    network = LocalNetwork(hospitals)
    drop = {1: {step: ["hospital-1", "hospital-5"]}}
    result = network.run(classifier(1), drop=drop)
    clear = network.run_in_clear(classifier(1), drop=drop)
    assert result.rounds[0].status == "done"
    for name, value in clear.state.items():
        assert np.abs(result.state[name] - value).max() <= classifier(1).round_config().step


@pytest.mark.parametrize("step", ["share", "submit", "open", "attest"])
def test_one_more_ends_the_round_cleanly_and_the_next_one_works(hospitals, classifier, step):
    network = LocalNetwork(hospitals)
    lost = ["hospital-1", "hospital-3", "hospital-5"]
    result = network.run(classifier(2), drop={1: {step: lost}})
    assert [r.status for r in result.rounds] == ["aborted", "done"]
    expected = f"after the {step} step" if step in {"share", "submit"} else "are needed"
    assert expected in result.rounds[0].reason
    assert result.rounds[0].words == ()
    assert len(result.rounds[1].survivors) == 5


def test_a_run_without_a_single_round_says_so(hospitals, classifier):
    network = LocalNetwork(hospitals)
    with pytest.raises(errors.RoundAborted, match="no round"):
        network.run(classifier(1), drop={1: ["hospital-1", "hospital-3", "hospital-5"]})


def test_the_advice_is_about_the_last_round_not_about_an_earlier_fault(hospitals, classifier, monkeypatch):
    network = LocalNetwork(hospitals)
    failing = network.nodes[0]
    monkeypatch.setattr(failing, "mailbox", _Refusing(failing.mailbox))
    lost = ["hospital-3", "hospital-4", "hospital-5"]
    with pytest.raises(errors.RoundAborted) as raised:
        network.run(classifier(2), drop={1: lost, 2: {"share": ["hospital-1", *lost]}})
    assert "bring more nodes" in raised.value.hint
    with pytest.raises(errors.RoundAborted) as raised:
        network.run(classifier(1), drop={1: lost})
    assert raised.value.hint == "empty it"


class _Refusing:
    """A mailbox that takes no shares, with an error that carries advice of its own."""

    def __init__(self, mailbox):
        self._mailbox = mailbox

    def put(self, context, kind, sender, payload):
        said = f"no room for {len(payload)} bytes ({kind} of {sender}, round {context.round})"
        raise errors.ProtocolError(said, hint="empty it")

    def __getattr__(self, name):
        return getattr(self._mailbox, name)


def test_criteria_keep_a_node_out_and_the_stake_comes_back(hospitals, classifier):
    smallest = min(hospitals, key=lambda name: len(hospitals[name]))
    rows = len(hospitals[smallest]) + 1
    network = LocalNetwork(hospitals)
    before = {n.name: network.chain.balance(n.account) for n in network.nodes}
    events = []
    stake = 10**18
    task = classifier(1, criteria=Criteria(min_rows=rows, min_stake=stake))
    result = network.run(task, observe=events.append)
    refused = [e for e in events if e.status == "refused"]
    assert [e.node for e in refused if e.step == "join"] == [
        name for name in network.names if len(hospitals[name]) < rows
    ]
    assert "too few rows" in refused[0].detail
    assert smallest not in result.rounds[0].members
    for node in network.nodes:
        assert before[node.name] - network.chain.balance(node.account) < stake // 10


def test_allow_list(hospitals, classifier):
    network = LocalNetwork(hospitals)
    allowed = tuple(node.account.address for node in network.nodes[:4])
    result = network.run(classifier(1, criteria=Criteria(allow_list=allowed)))
    assert set(result.rounds[0].members) == set(network.names[:4])


def test_too_few_nodes(hospitals, classifier):
    few = dict(list(hospitals.items())[:2])
    with pytest.raises(errors.RoundAborted, match="are needed"):
        LocalNetwork(few).run(classifier(1))
    with pytest.raises(errors.TaskError, match="of at least 2"):
        LocalNetwork(list(hospitals.values())[:1])


def test_frames_that_are_no_frames(hospitals):
    with pytest.raises(errors.TaskError, match="DataFrame"):
        LocalNetwork([next(iter(hospitals.values())), [1, 2, 3]])
    frame = pd.concat(hospitals.values())
    with pytest.raises(errors.TaskError, match="n_nodes"):
        LocalNetwork(frame)
    assert len(LocalNetwork(frame, n_nodes=4).nodes) == 4


@pytest.mark.parametrize(
    "drop",
    [
        {0: ["hospital-1"]},
        {2: ["hospital-1"]},
        {"1": ["hospital-1"]},
        {1: ["nobody"]},
        {1: [99]},
        {1: {"sleep": ["hospital-1"]}},
        {1: "hospital-1"},
        ["hospital-1"],
    ],
)
def test_an_impossible_plan_is_refused_before_anything_happens(hospitals, classifier, drop):
    network = LocalNetwork(hospitals)
    spent = network.chain.ledger.total()
    with pytest.raises(errors.TaskError):
        network.run(classifier(1), drop=drop)
    assert network.chain.ledger.total() == spent


class Large(Classifier):
    """Six thousand parameters, of which one output counts."""

    def __init__(self):
        super().__init__(1, validate_interval=2)
        self.model = torch.nn.Linear(30, 200)
        self.loss = lambda found, wanted: torch.nn.BCEWithLogitsLoss()(found[:, :1], wanted)


def test_a_model_beyond_calldata_travels_by_commitments(hospitals):
    network = LocalNetwork(hospitals)
    result = network.run(Large())
    clear = network.run_in_clear(Large())
    assert network.contract.terms(result.task_id).mode == Mode.KZG
    step = Large().round_config().step
    assert np.abs(result.state["weight"] - clear.state["weight"]).max() < step


def test_a_mode_that_cannot_be_is_refused_before_anything_happens(hospitals):
    network = LocalNetwork(hospitals, config=RoundConfig(clip=1.0, mode="direct"))
    spent = network.chain.ledger.total()
    with pytest.raises(errors.RoundConfigError, match="direct"):
        network.run(Large())
    assert network.chain.ledger.total() == spent


def test_validate_must_return_the_announced_metrics(hospitals, classifier):
    with pytest.raises(errors.TaskError, match="announced"):
        LocalNetwork(hospitals).run(classifier(1, metrics=("loss", "auc")))


def test_results_and_nodes_do_not_pickle(run):
    import pickle

    network, result, _ = run
    with pytest.raises(errors.TwoPMError):
        pickle.dumps(result)
    with pytest.raises(errors.SecretRefused):
        pickle.dumps(network.nodes[0])


def test_windows_follow_the_rhythm_of_the_chain(hospitals, monkeypatch):
    network = LocalNetwork(hospitals)
    assert network.coordinator.blocks_for(600, nodes=5) == 18
    monkeypatch.setattr(network.chain, "is_development", False)
    for _ in range(25):
        network.chain.warp(12)
    now = network.chain.block_number
    stamps = [network.chain.w3.eth.get_block(number)["timestamp"] for number in (now - 20, now)]
    rhythm = (stamps[1] - stamps[0]) / 20
    assert rhythm >= 12
    assert network.coordinator.blocks_for(600, nodes=5) == math.ceil(600 / rhythm)
    assert network.coordinator.blocks_for(1, nodes=5) == 18


def test_a_task_hands_its_timeouts_on():
    from tests.unit.federated.conftest import Classifier
    from twopm_kit.federated import FaultTolerantFedAvg, HorizontalLearning, LogitTask

    assert (Classifier(1).wait_timeout, Classifier(1).connection_timeout) == (60.0, 60.0)

    class Patient(Classifier):
        def __init__(self):
            super().__init__(1)
            HorizontalLearning.__init__(self, "t", 1, strategy=FaultTolerantFedAvg(wait_timeout=5.0))

    assert Patient().wait_timeout == 5.0
    assert LogitTask("t", "y", ["x"], wait_timeout=7.0).wait_timeout == 7.0


class Copies(Classifier):
    def state_dict(self):
        return {name: tensor.clone() for name, tensor in self.model.state_dict().items()}


class Arrays(Classifier):
    def state_dict(self):
        return {name: tensor.numpy() for name, tensor in self.model.state_dict().items()}


class Nameless(Classifier):
    def dataset(self):
        return None


class Silent(Classifier):
    def validate(self, dataloader):
        super().validate(dataloader)


def test_a_state_dict_of_copies_or_of_something_else_is_refused(hospitals):
    network = LocalNetwork(hospitals)
    for kind, words in (
        (Copies, "copies of weight"),
        (Arrays, "tensors by name"),
        (Nameless, "returned None"),
        (Silent, "validate returned None"),
    ):
        with pytest.raises(errors.TaskError, match=words):
            network.run(kind(1))


def test_networks_say_what_they_were_given(hospitals, classifier):
    frame = pd.concat(hospitals.values())
    for arguments, words in (
        ({"frames": frame.to_numpy(), "n_nodes": 3}, "ndarray"),
        ({"frames": "x.csv", "n_nodes": 3}, "str"),
        ({"frames": frame, "chain": 4}, "chain is 4"),
        ({"frames": frame, "chain": "anvil", "n_nodes": 3}, "chain is 'anvil'"),
    ):
        with pytest.raises(errors.TaskError, match=words):
            LocalNetwork(**arguments)
    assert LocalNetwork(dict(enumerate(hospitals.values()))).names[0] == "0"
    network = LocalNetwork(hospitals)
    for call in (lambda: network.run(classifier), lambda: network.run(classifier(1), observe=3)):
        with pytest.raises(errors.TaskError):
            call()


@pytest.mark.parametrize("options", [{"strategy": "fedavg"}, {"metrics": "loss"}, {"validate_interval": 0}])
def test_options_of_another_kind_are_refused(classifier, options):
    from twopm_kit.federated import HorizontalLearning

    task = classifier(1)
    with pytest.raises(errors.TaskError):
        HorizontalLearning.__init__(task, "t", 1, **options)


def test_cut_values_are_told_to_the_operator(hospitals, classifier):
    events = []
    LocalNetwork(hospitals).run(classifier(1, clip=1e-3), observe=events.append)
    told = [event.detail for event in events if event.step == "submit"]
    assert any("values were cut to the task's clip" in detail for detail in told)


def test_the_chain_that_is_set_is_used(hospitals, monkeypatch):
    from twopm_kit import chain, config

    with chain.connect("embedded") as other, other.serve() as server:
        monkeypatch.setenv("TWOPM_CHAIN", server.url)
        monkeypatch.setattr(config, "_cache", [])
        network = LocalNetwork(hospitals)
        assert network.chain.kind == "rpc"
        assert network.chain.chain_id == other.chain_id
        network.chain.close()
