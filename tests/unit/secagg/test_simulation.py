"""A whole round in one call."""

import numpy as np
import pytest

from twopm_kit.errors import EncodingError, ProtocolError, RoundConfigError, TooFewSurvivors
from twopm_kit.secagg import RoundConfig, simulate

VECTORS = np.random.default_rng(5).normal(size=(6, 200))


def weighted(weights, survivors):
    chosen = list(survivors)
    w = np.array(weights, float)[chosen]
    return w @ VECTORS[chosen] / w.sum()


@pytest.mark.parametrize("drop", [None, [2], {"share": [1], "submit": [3]}, {"unmask": [0, 5]}])
def test_the_mean_over_survivors(drop):
    weights = [3, 1, 4, 1, 5, 9]
    result = simulate(VECTORS, weights, drop, seed=1)
    gone = (
        set(drop or []) if not isinstance(drop, dict) else {*drop.get("share", []), *drop.get("submit", [])}
    )
    assert result.survivors == tuple(i for i in range(6) if i not in gone)
    assert result.weight == sum(weights[i] for i in result.survivors)
    assert np.all(np.abs(result.mean - weighted(weights, result.survivors)) < result.step)
    assert np.allclose(result.sum, result.mean * result.weight)


def test_it_reports_what_it_cost():
    result = simulate(VECTORS)
    assert set(result.timings) == {"client", "unmask"}
    assert all(seconds > 0 for seconds in result.timings.values())
    vector_bytes = 32 * -(-201 // 8)
    assert result.bytes["client_up"] > vector_bytes


def test_a_seed_repeats_the_result_and_nothing_else_needs_to():
    one, again, other = simulate(VECTORS, seed=3), simulate(VECTORS, seed=3), simulate(VECTORS, seed=4)
    assert np.array_equal(one.mean, again.mean)
    assert not np.array_equal(one.mean, other.mean)


def test_statistics_agree_with_pooled_computation():
    config = RoundConfig(clip=64.0, lanes=4, value_bits=48, max_clients=6)
    result = simulate(VECTORS, config=config)
    assert np.abs(result.mean - VECTORS.mean(axis=0)).max() < 1e-12


@pytest.mark.parametrize(
    ("call", "error"),
    [
        (lambda: simulate([]), EncodingError),
        (lambda: simulate(VECTORS, [1]), EncodingError),
        (lambda: simulate([np.zeros(3), np.zeros(4)]), EncodingError),
        (lambda: simulate([np.zeros(3), np.full(3, np.nan)]), EncodingError),
        (lambda: simulate(VECTORS[:1]), RoundConfigError),
        (lambda: simulate(np.zeros((51, 2))), RoundConfigError),
        (lambda: simulate(VECTORS, drop=[9]), ProtocolError),
        (lambda: simulate(VECTORS, drop={"lunch": [1]}), ProtocolError),
        (lambda: simulate(VECTORS, drop=[0, 1, 2]), TooFewSurvivors),
        (lambda: simulate(VECTORS, drop={"share": [0], "submit": [1], "unmask": [2]}), TooFewSurvivors),
    ],
)
def test_impossible_rounds_are_refused(call, error):
    with pytest.raises(error):
        call()
