"""Strategies follow their papers, from public sums alone, and every node arrives at the same model."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from tests.unit.federated.conftest import Classifier
from twopm_kit import errors
from twopm_kit.federated import HorizontalLearning, LocalNetwork
from twopm_kit.federated.contract import encoder_of
from twopm_kit.federated.strategy import FaultTolerantFedAvg, FedAdam, FedAvgM, FedProx, FedYogi
from twopm_kit.federated.task import flatten


class Near(Classifier):
    """The classifier of these tests under any strategy; its loss has the proximal term."""

    def __init__(self, strategy, max_rounds=3, **options):
        super().__init__(max_rounds)
        HorizontalLearning.__init__(
            self, "breast cancer", max_rounds, validate_frac=0.2, strategy=strategy, **options
        )

    def train(self, dataloader):
        for x, y in dataloader:
            self.optimizer.zero_grad()
            (self.loss(self.model(x), y) + self.proximal(self.model)).backward()
            self.optimizer.step()


class Forgetful(Near):
    """Trains without the proximal term."""

    def train(self, dataloader):
        Classifier.train(self, dataloader)


class Stranger(Near):
    """Asks for the proximal term of another model."""

    def train(self, dataloader):
        del dataloader
        self.proximal(torch.nn.Linear(2, 2))


def changes(task, result):
    """Return the mean change of every round, decoded from the public sum."""
    return [
        encoder_of(task).decode(list(record.words), len(record.survivors)).mean for record in result.rounds
    ]


def momentum(found, at, start):
    kept = np.zeros_like(start)
    for change in found:
        kept = at.momentum * kept + change
        start = start + at.server_rate * kept
    return start


def adaptive(found, at, start):
    first, second = np.zeros_like(start), np.full_like(start, at.tau**2)
    for change in found:
        first = at.beta_1 * first + (1 - at.beta_1) * change
        square = change**2
        if isinstance(at, FedYogi):
            second = second - (1 - at.beta_2) * square * np.sign(second - square)
        else:
            second = at.beta_2 * second + (1 - at.beta_2) * square
        start = start + at.server_rate * first / (np.sqrt(second) + at.tau)
    return start


LIMITS = {"min_clients": 3, "max_clients": 10, "merge_epoch": 1}


@pytest.mark.parametrize(
    ("strategy", "formula"),
    [
        (FedAvgM(**LIMITS, momentum=0.8, server_rate=0.5), momentum),
        (FedAdam(**LIMITS, server_rate=0.05), adaptive),
        (FedYogi(**LIMITS, server_rate=0.05), adaptive),
    ],
)
def test_the_merge_follows_the_paper_on_every_node(hospitals, strategy, formula):
    network, task = LocalNetwork(hospitals), Near(strategy)
    result = network.run(task, drop={2: ["hospital-3"]})
    expected = formula(changes(task, result), strategy, flatten(Near(strategy)._own_state()))
    np.testing.assert_allclose(flatten(result.state), expected, atol=1e-5)
    assert set(result.state) == {"weight", "bias"}
    assert set(result.state_dict) == {"weight", "bias"}
    states = [node.state for node in network.nodes]
    assert any(name.startswith("strategy.") for name in states[0])
    for state in states[1:]:
        assert all(np.array_equal(state[name], states[0][name]) for name in states[0])


def test_the_proximal_term_pulls_towards_the_global_model(hospitals):
    rows = next(iter(hospitals.values()))
    plain, pulled = (Near(FedProx(**LIMITS, mu=mu)) for mu in (1e-9, 1.0))
    moved = [
        np.linalg.norm(task.local_update(task.initial_state(), rows, 1).values) for task in (plain, pulled)
    ]
    assert 0 < moved[1] < 0.9 * moved[0]


def test_the_proximal_term_is_that_of_the_paper(hospitals):
    task = Near(FedProx(**LIMITS, mu=0.5))
    seen = []

    def train(dataloader):
        with torch.no_grad():
            for parameter in task.model.parameters():
                parameter.add_(2.0)
        penalty = task.proximal(task.model)
        penalty.backward()
        seen.append((penalty.item(), task.model.bias.grad.item()))

    task.train = train
    task.local_update(task.initial_state(), next(iter(hospitals.values())), 1)
    assert seen == [pytest.approx((0.5 * 0.5 * 31 * 2.0**2, 0.5 * 2.0))]
    free = Near(FaultTolerantFedAvg(**LIMITS))
    assert free.proximal(free.model).item() == 0.0


def test_a_proximal_term_that_training_forgets_is_no_silent_fedavg(hospitals):
    with pytest.raises(errors.TaskError, match="never used") as raised:
        LocalNetwork(hospitals).run(Forgetful(FedProx(**LIMITS)))
    assert "self.proximal(self.model)" in raised.value.hint

    with pytest.raises(errors.TaskError, match="not in state_dict"):
        LocalNetwork(hospitals).run(Stranger(FedProx(**LIMITS)))


def test_updates_count_by_samples_or_alike(hospitals):
    sizes = [len(frame) - round(0.2 * len(frame)) for frame in hospitals.values()]
    weights = {}
    for weighting in ("samples", "equal"):
        result = LocalNetwork(hospitals).run(Near(FaultTolerantFedAvg(**LIMITS, weighting=weighting), 1))
        weights[weighting] = result.rounds[0].weight
    assert weights == {"samples": sum(sizes), "equal": len(sizes)}


@pytest.mark.parametrize(
    "strategy",
    [FaultTolerantFedAvg(), FedProx(mu=0.3), FedAvgM(momentum=0), FedAdam(tau=0.01), FedYogi()],
)
def test_settings_name_the_strategy_and_all_of_its_numbers(strategy):
    settings = Near(strategy).settings()["strategy"]
    assert settings.pop("strategy") == type(strategy).__name__
    assert type(strategy)(**settings) == strategy
    assert Near(strategy).parameters() != Near(replace(strategy, wait_timeout=61.0)).parameters()


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        (FaultTolerantFedAvg, {"weighting": "rows"}),
        (FaultTolerantFedAvg, {"merge_epoch": 1, "merge_iteration": 1}),
        (FaultTolerantFedAvg, {"merge_iteration": 0}),
        (FaultTolerantFedAvg, {"wait_timeout": 0}),
        (FedProx, {"mu": 0}),
        (FedProx, {"mu": "much"}),
        (FedAvgM, {"momentum": 1.0}),
        (FedAvgM, {"server_rate": -1}),
        (FedAdam, {"beta_1": 1.5}),
        (FedAdam, {"beta_2": -0.1}),
        (FedYogi, {"tau": 0}),
    ],
)
def test_numbers_that_no_strategy_can_have(kind, options):
    with pytest.raises(errors.TaskError) as raised:
        kind(**options)
    assert raised.value.hint
