"""Horizontal learning: what its arguments do, one by one."""

import numpy as np
import pytest
import torch

from tests.unit.federated.conftest import Classifier
from tests.unit.federated.lenet import Digits, accuracy
from twopm_kit import datasets, errors
from twopm_kit.federated import FaultTolerantFedAvg, HorizontalLearning, LocalNetwork
from twopm_kit.federated.privacy import Privacy
from twopm_kit.federated.robust import Robust


class Counting(Classifier):
    """Counts passes and batches instead of training."""

    def __init__(self, max_rounds=1, **options):
        super().__init__(max_rounds)
        HorizontalLearning.__init__(self, "count", max_rounds, **options)
        self.batches = []

    def train(self, dataloader):
        self.batches.append(sum(1 for _ in dataloader))


@pytest.fixture
def one_thread():
    """Small batches are slower on several threads, by far where others use the same cores."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def updated(task, frame, round=1):
    return task.local_update(task.initial_state(), frame, round)


@pytest.fixture(scope="module")
def frame(hospitals):
    return next(iter(hospitals.values()))


def test_merging_after_epochs_or_after_batches(frame):
    batches = -(-(len(frame) - round(0.1 * len(frame))) // 16)
    for options, expected in (
        ({}, [batches]),
        ({"merge_epoch": 3}, [batches] * 3),
        ({"merge_iteration": 2}, [2]),
        ({"merge_iteration": batches + 2}, [batches + 2]),
    ):
        task = Counting(strategy=FaultTolerantFedAvg(**options))
        updated(task, frame)
        assert task.batches == expected


def test_validation_happens_at_its_interval_on_held_out_rows(frame):
    task = Counting(9, validate_interval=3, validate_frac=0.25)
    counts = [updated(task, frame, number).metric_weight for number in range(1, 8)]
    held = round(0.25 * len(frame))
    assert counts == [held, 0, 0, held, 0, 0, held]
    assert updated(Counting(validate_frac=0.0), frame).metric_weight == 0
    train, held_out = task._hold_out(frame)
    assert sorted([*train.index, *held_out.index]) == sorted(frame.index)


def test_metrics_of_a_run_are_those_of_the_pooled_validation_rows(hospitals):
    network, task = LocalNetwork(hospitals), Classifier(2)
    result = network.run(task)
    fresh = Classifier(2)
    held = [fresh._hold_out(rows)[1] for rows in hospitals.values()]
    with torch.no_grad():
        found = [fresh.validate(fresh.make_validate_dataloader(rows)) for rows in held]
    weights = [len(rows) for rows in held]
    for name in ("loss", "accuracy"):
        expected = np.average([metrics[name] for metrics in found], weights=weights)
        assert result.rounds[0].metrics[name] == pytest.approx(expected, abs=1e-3)


def test_a_metric_that_runs_away_is_cut_not_refused(frame):
    class Diverged(Counting):
        def validate(self, dataloader):
            del dataloader
            return {"loss": 1e9, "accuracy": 0.0}

    assert updated(Diverged(), frame).metrics.tolist() == [16.0, 0.0]


def test_privacy_and_robustness_reach_the_round():
    plain = Counting().round_config()
    assert (plain.clip_norm, plain.noise_multiplier, plain.groups) == (None, 0.0, 1)
    private = Counting(privacy=Privacy(noise_multiplier=1.5, clip_norm=0.5)).round_config()
    assert (private.clip_norm, private.noise_multiplier, private.weight_limit) == (0.5, 1.5, 1)
    task = Counting(strategy=FaultTolerantFedAvg(min_clients=6, max_clients=9), robust="median")
    assert task.robust == Robust()
    assert task.round_config().groups == 3
    assert task.settings()["robust"] == {"groups": 3, "rule": "median", "trim": 1}


def test_privacy_makes_nodes_count_alike(frame):
    assert updated(Counting(privacy=Privacy(1.0, 0.5)), frame).weight == 1
    assert updated(Counting(), frame).weight == len(frame) - round(0.1 * len(frame))


@pytest.mark.parametrize(
    "options", [{"privacy": 1.0}, {"robust": "mean"}, {"robust": 3}, {"validate_frac": 1.0}]
)
def test_arguments_of_another_kind_are_refused(options):
    with pytest.raises(errors.TaskError) as raised:
        Counting(**options)
    assert raised.value.hint


def test_names_that_the_strategy_keeps_are_refused(frame):
    class Reserved(Counting):
        def state_dict(self):
            return {"strategy." + name: tensor for name, tensor in self.model.state_dict().items()}

    with pytest.raises(errors.TaskError, match="names that the strategy keeps"):
        Reserved().check(frame)


def test_ten_nodes_train_lenet_on_digits(one_thread):
    train, test = datasets.split(datasets.load("digits"), test=0.25, label="target", seed=1)
    network = LocalNetwork(datasets.partition(train, 10, seed=2))
    assert Digits().update_size() == 43_102
    assert accuracy(network.run_in_clear(Digits(6)), test) >= 0.95
