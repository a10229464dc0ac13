"""A whole round in one call."""

from dataclasses import replace

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
    assert set(result.timings) == {"client", "add", "unmask", "commit"}
    assert result.timings["add"] > 0
    assert result.timings["client"] > 0
    assert result.timings["unmask"] > 0
    assert result.timings["commit"] == 0
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
        (lambda: simulate(np.zeros((1001, 2))), RoundConfigError),
        (lambda: simulate(VECTORS, drop=[9]), ProtocolError),
        (lambda: simulate(VECTORS, drop={"lunch": [1]}), ProtocolError),
        (lambda: simulate(VECTORS, drop=[0, 1, 2]), TooFewSurvivors),
        (lambda: simulate(VECTORS, drop={"share": [0], "submit": [1], "unmask": [2]}), TooFewSurvivors),
    ],
)
def test_impossible_rounds_are_refused(call, error):
    with pytest.raises(error):
        call()


def test_a_committing_mode_makes_and_sends_commitments_and_their_time_stands_apart():
    plain = simulate(VECTORS, config=RoundConfig(clip=4.0, max_clients=6), seed=1)
    config = RoundConfig(clip=4.0, max_clients=6, mode="commit")
    result = simulate(VECTORS, drop=[5], config=config, seed=1)
    assert result.timings["commit"] > 0
    assert np.all(np.abs(result.mean - VECTORS[:5].mean(axis=0)) < result.step)
    assert result.bytes["client_up"] >= plain.bytes["client_up"] + 96
    hashed = simulate(VECTORS, config=replace(config, verification="hash"))
    assert hashed.timings["commit"] == 0


def test_a_mode_that_cannot_be_is_refused():
    config = RoundConfig(clip=4.0, max_clients=6, mode="direct")
    with pytest.raises(RoundConfigError, match="mode='direct'"):
        simulate(np.zeros((6, 5000)), config=config)


def test_noise_moves_the_sum_and_not_the_survivors():
    config = RoundConfig(clip=8.0, max_clients=6, clip_norm=20.0, noise_multiplier=1.0)
    result = simulate(VECTORS, config=config, seed=1)
    error = result.sum - VECTORS.sum(axis=0)
    assert 5.0 < error.std() < 80.0
    assert result.survivors == tuple(range(6))


def test_the_default_clip_covers_every_finite_value_and_float32_is_enough():
    vectors = (VECTORS * 100).astype(np.float32)
    result = simulate(vectors)
    assert np.all(np.abs(result.mean - vectors.mean(axis=0, dtype=np.float64)) < result.step)
