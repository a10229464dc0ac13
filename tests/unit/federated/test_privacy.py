"""Privacy accounting: against distributions that can be computed, and in the directions it must move."""

import math

import numpy as np
import pandas as pd
import pytest
from dp_accounting import GaussianDpEvent
from dp_accounting.rdp import RdpAccountant

from twopm_kit.errors import TaskError
from twopm_kit.federated import LocalNetwork, Task, Update
from twopm_kit.federated.privacy import Privacy, Spent
from twopm_kit.secagg import Encoder, RoundConfig

PRIVACY = Privacy(noise_multiplier=2.0, clip_norm=1.0)


def config(privacy=PRIVACY, **fields):
    return RoundConfig(
        **({"clip": 1.0, "min_clients": 5, "max_clients": 10} | privacy.round_fields() | fields)
    )


def pmf(sigma):
    reach = math.ceil(15 * sigma)
    density = np.exp(-(np.arange(-reach, reach + 1) ** 2) / (2 * sigma**2))
    return density / density.sum()


def spent_exactly(sigma, honest, shift, epsilon):
    """Return delta at epsilon of a shift under the sum of so many discrete Gaussians, summed up."""
    noise = np.array([1.0])
    for _ in range(honest):
        noise = np.convolve(noise, pmf(sigma))
    here = np.pad(noise, (0, shift))
    there = np.pad(noise, (shift, 0))
    loss = np.maximum(here - math.exp(epsilon) * there, 0).sum()
    return max(loss, np.maximum(there - math.exp(epsilon) * here, 0).sum())


@pytest.mark.parametrize("multiplier", [0.7, 1.0, 3.0])
@pytest.mark.parametrize("bits", [5, 6, 7])
@pytest.mark.parametrize("members", [6, 10])
def test_the_guarantee_holds_for_the_distribution_that_is_really_published(multiplier, bits, members):
    """One value of the largest norm, rounded up: the loss is computed value by value and not bounded."""
    privacy = Privacy(multiplier, 1.0, delta=1e-4)
    task = config(privacy, value_bits=bits)
    found = privacy.spent(1, members, config=task, dimension=1)
    quorum = task.quorum(members)
    sigma = multiplier / math.sqrt(quorum) / task.step
    shift = math.ceil(1.0 / task.step)
    assert spent_exactly(sigma, quorum, shift, found.epsilon) <= found.delta
    # and it is no idle bound: a tenth less would be wrong, or nearly so, for so large a vector
    assert spent_exactly(sigma, quorum, shift, 0.6 * found.epsilon) > found.delta


def test_with_fine_steps_it_is_the_gaussian_mechanism():
    found = PRIVACY.spent(20, 8, config=config(), dimension=10)
    accountant = RdpAccountant()
    accountant.compose(GaussianDpEvent(2.0), 20)
    assert found.epsilon == pytest.approx(accountant.get_epsilon(1e-5), rel=2e-3)
    assert found.epsilon > accountant.get_epsilon(1e-5)
    assert isinstance(found, Spent)
    assert (found.delta, found.rounds) == (1e-5, 20)
    assert found.round_epsilon == PRIVACY.spent(1, 8, config=config(), dimension=10).epsilon


def test_rounding_costs_more_in_more_dimensions_and_bounded_either_way():
    spent = [
        PRIVACY.spent(10, 8, config=config(value_bits=12), dimension=d).epsilon for d in (1, 1000, 10**6)
    ]
    assert spent == sorted(spent)
    assert spent[0] < spent[1] < spent[2] < 1.2 * spent[0]


def test_it_moves_the_right_way():
    def epsilon(privacy=PRIVACY, rounds=10, members=10, survivors=None, **more):
        fields = more.pop("fields", {})
        return privacy.spent(
            rounds, members, survivors, config=config(privacy, **fields), dimension=100, **more
        ).epsilon

    base = epsilon()
    assert epsilon(rounds=20) > base
    assert epsilon(survivors=10) < epsilon(survivors=8) < epsilon(survivors=6) == base
    assert epsilon(Privacy(4.0, 1.0)) < base
    assert epsilon(Privacy(2.0, 0.5)) == pytest.approx(base, rel=1e-2)  # the noise follows the norm
    assert epsilon(Privacy(2.0, 1.0, delta=1e-7)) > base
    assert epsilon(replace=True) > 1.8 * base
    assert epsilon(metrics=2) > epsilon(metrics=2, validations=3) > epsilon(metrics=2, validations=0) == base
    assert epsilon(rounds=3, members=[10, 9, 8], survivors=[6, 9, 8]) < epsilon(rounds=3)
    assert epsilon(Privacy(2.0, 1.0), fields={"groups": 2}, survivors=2) == pytest.approx(base, rel=1e-3)
    assert epsilon(Privacy(2.0, 1.0), fields={"groups": 2}, survivors=5) < base


def test_those_who_join_forces_take_their_noise_off():
    found = PRIVACY.spent(10, 10, config=config(gamma=0.2), dimension=100)
    assert found.colluders == 2
    assert found.colluding_epsilon > found.epsilon
    nobody = PRIVACY.spent(10, 10, config=config(), dimension=100, colluders=0)
    assert nobody.colluding_epsilon == nobody.epsilon == found.epsilon
    # Of a quorum of six, four that join forces leave two who add noise: a third of the variance.
    four = PRIVACY.spent(10, 10, config=config(), dimension=100, colluders=4).colluding_epsilon
    weaker = Privacy(2.0 / math.sqrt(3), 1.0)
    assert four == pytest.approx(weaker.spent(10, 10, config=config(weaker), dimension=100).epsilon, rel=1e-6)
    all_others = PRIVACY.spent(1, 10, config=config(), dimension=100, colluders=9).colluding_epsilon
    more = PRIVACY.spent(1, 10, config=config(), dimension=100, colluders=50).colluding_epsilon
    assert all_others == more < math.inf  # its own noise is left to every node


def test_where_nothing_is_guaranteed_it_says_so():
    weak = Privacy(0.1, 1.0)
    assert weak.spent(100, 10, config=config(weak), dimension=100).epsilon == math.inf


def test_the_encoder_adds_what_is_accounted_for():
    task = config()
    encoder = Encoder(task, 100_000)
    lanes = encoder.encode(np.zeros(100_000), members=10).reshape(-1)[:100_000].astype(float)
    assert np.std(lanes) * task.step == pytest.approx(2.0 / math.sqrt(6), rel=0.015)


@pytest.mark.parametrize(
    ("rounds", "members", "survivors", "more"),
    [
        (0, 10, 6, {}),
        (3, 10, 5, {}),
        (3, 10, 11, {}),
        (3, [10, 10], 6, {}),
        (3, 10, [6, 6], {}),
        (3, 10, 6.5, {}),
        (3, 10, 6, {"validations": 4}),
        (3, 10, 6, {"colluders": -1}),
        (3, 10, 6, {"dimension": 0}),
    ],
)
def test_numbers_that_contradict_each_other_are_refused(rounds, members, survivors, more):
    with pytest.raises(TaskError):
        PRIVACY.spent(rounds, members, survivors, config=config(), **({"dimension": 10} | more))


@pytest.mark.parametrize(
    "fields", [{"noise_multiplier": 1.0}, {"clip_norm": 2.0}, {"max_weight": 2}, {"metric_bound": 16.0}]
)
def test_a_round_of_another_configuration_is_refused(fields):
    with pytest.raises(TaskError, match="this privacy asks for") as refused:
        PRIVACY.spent(1, 10, config=config(**fields), dimension=10)
    assert "round_fields" in refused.value.hint


@pytest.mark.parametrize(
    "numbers", [(0, 1.0), (1.0, 0), (math.nan, 1), ("1", 1), (1, 1, 1.0), (1, 1, 0), (1, 1, 1e-5, -1)]
)
def test_numbers_that_protect_nothing_are_refused(numbers):
    with pytest.raises(TaskError):
        Privacy(*numbers)


class Measured(Task):
    """One number a node, with noise or without."""

    def __init__(self, rounds, privacy):
        super().__init__("measured", max_rounds=rounds, max_clients=8)
        self.privacy = privacy

    def round_config(self):
        fields = self.privacy.round_fields() if self.privacy else {}
        return RoundConfig(clip=1.0, value_bits=16, max_clients=8, **fields)

    def initial_state(self):
        return {"mean": np.zeros(1)}

    def update_size(self):
        return 1

    def local_update(self, state, frame, round):
        del state, round
        return Update(frame["x"].to_numpy())

    def merge(self, state, aggregate):
        del state
        return {"mean": aggregate.mean}


def test_a_run_tells_what_it_has_spent():
    task = Measured(2, Privacy(noise_multiplier=4.0, clip_norm=1.0))
    result = LocalNetwork([pd.DataFrame({"x": [0.5]})] * 4).run(task, drop={2: [0]})
    told = task.privacy.spent(2, [4, 4], [4, 3], config=task.config(), dimension=1)
    assert result.spent() == told
    assert 0 < told.epsilon < 100
    assert LocalNetwork([pd.DataFrame({"x": [0.5]})] * 4).run(Measured(1, None)).spent() is None
