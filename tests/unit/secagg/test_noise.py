"""Noise: the exact distribution, its bound, and keys that stay secret."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from twopm_kit.errors import EncodingError
from twopm_kit.secagg.noise import CUT_MASS, DiscreteGaussian, tail

KEY = bytes(range(16))
repeatable = settings(derandomize=True, deadline=None, max_examples=25)


def fit(sigma, drawn):
    """Return the p-value of the draws against the discrete Gaussian, value by value."""
    reach = math.ceil(15 * sigma)
    expected = np.exp(-(np.arange(-reach, reach + 1) ** 2) / (2 * sigma**2))
    expected *= drawn.size / expected.sum()
    observed = np.bincount(drawn + reach, minlength=2 * reach + 1)
    often = expected > 20
    rare = observed[~often].sum() + observed[reach], expected[~often].sum() + expected[reach]
    often[reach] = False
    return stats.chisquare(np.append(observed[often], rare[0]), np.append(expected[often], rare[1])).pvalue


@pytest.mark.parametrize("sigma", [0.5, 0.83, 1.0, 2.0, 7.99, 8.0, 15.9, 100.3])
def test_every_value_is_drawn_as_often_as_the_discrete_gaussian_says(sigma):
    drawn = DiscreteGaussian(sigma, key=KEY).draw(300_000)
    assert fit(sigma, drawn) > 1e-3


def test_another_distribution_does_not_pass_for_it():
    drawn = DiscreteGaussian(2.0, key=KEY).draw(300_000)
    assert fit(2.05, drawn) < 1e-9
    rounded = np.rint(np.random.default_rng(1).normal(0, 0.83, 300_000)).astype(np.int64)
    assert fit(0.83, rounded) < 1e-9  # what rounding a continuous Gaussian gives is no discrete Gaussian


@pytest.mark.parametrize("sigma", [4096.0, 13377.1, 2.0**20 * 1.99, 2.0**44, 2.0**48.9])
def test_large_deviations_have_the_shape_and_moments_of_a_gaussian(sigma):
    drawn = DiscreteGaussian(sigma, key=KEY).draw(200_000)
    inside = drawn + np.random.default_rng(2).uniform(-0.5, 0.5, drawn.size)
    assert stats.kstest(inside / sigma, "norm").pvalue > 1e-3
    assert abs(drawn.mean() / sigma) < 5 / math.sqrt(drawn.size)
    assert abs(drawn.astype(float).var() / sigma**2 - 1) < 5 * math.sqrt(2 / drawn.size)
    low = drawn & 7  # place bits are uniform: no comb from the blocks
    assert stats.chisquare(np.bincount(low, minlength=8)).pvalue > 1e-3


@repeatable
@given(st.floats(0.5, 2.0**48.9))
def test_heights_cover_the_density_and_the_alias_table_deals_them_out_exactly(sigma):
    noise = DiscreteGaussian(sigma, key=KEY)
    heights = [0] * 256
    for slot in range(256):
        own = int(noise._threshold[slot])
        heights[slot] += own
        heights[noise._alias[slot]] += 2**56 - own
    assert sum(heights) == 2**64
    assert heights[: noise._blocks] == noise._heights[: noise._blocks]
    assert heights[noise._blocks] < 256  # the words that no block wants
    assert np.all(noise._keep[: noise._blocks] <= 1)
    assert not noise._keep[noise._blocks :].any()
    assert 15 * sigma <= noise.bound + 1
    assert noise.bound <= tail(sigma)
    assert np.abs(noise.draw(500)).max() <= noise.bound


def test_bits_that_float64_cannot_tell_apart_are_settled_in_decimal_digits():
    noise = DiscreteGaussian(2.0**46, key=KEY)
    settled = []
    exact = noise._settle
    noise._settle = lambda x, block, drawn: settled.append((x, block, drawn)) or exact(x, block, drawn)
    noise.draw(400_000)
    assert settled  # 19 bits are compared: some lie next to the probability
    for x, block, drawn in settled:
        left = block << noise._shift
        bar = noise._keep[block] * math.exp(-(x - left) * (x + left) / 2 / noise.sigma**2)
        assert abs(drawn / 2**noise._accept_bits - bar) < 2.0 ** (1 - noise._accept_bits)
    x = 3 << noise._shift
    top = 1 << noise._accept_bits
    place = x + (1 << noise._shift) // 2
    bar = noise._keep[3] * math.exp(-(place - x) * (place + x) / 2 / noise.sigma**2) * top
    assert exact(place, 3, math.floor(bar) - 1)
    assert not exact(place, 3, math.ceil(bar))
    assert not exact(0, 255, 0)  # a slot that is no block keeps nothing
    chances = [exact(place, 3, math.floor(bar)) for _ in range(4000)]
    assert abs(np.mean(chances) - bar % 1) < 5 * 0.5 / math.sqrt(4000)


def test_what_is_cut_off_is_less_than_is_said():
    assert 2 * math.exp(-(15**2) / 2) < CUT_MASS


@pytest.mark.parametrize("count", [0, 1, 2, 33_000])
def test_as_many_values_as_asked_for(count):
    drawn = DiscreteGaussian(30.0).draw(count)
    assert drawn.shape == (count,)
    assert drawn.dtype == np.int64


def test_a_key_repeats_the_noise_and_without_one_it_is_fresh():
    same = [DiscreteGaussian(50.0, key=KEY).draw(100) for _ in range(2)]
    assert np.array_equal(*same)
    fresh = [DiscreteGaussian(50.0).draw(100) for _ in range(2)]
    assert not np.array_equal(*fresh)
    source = DiscreteGaussian(50.0, key=KEY)
    assert not np.array_equal(source.draw(100), source.draw(100))
    assert KEY.hex() not in repr(source)
    assert repr(source) == "DiscreteGaussian(sigma=50)"


@pytest.mark.parametrize("sigma", [0.0, 0.49, -1.0, 2.0**49, math.nan, math.inf, "1"])
def test_deviations_that_cannot_be_drawn_are_refused(sigma):
    with pytest.raises(EncodingError, match="standard deviation"):
        DiscreteGaussian(sigma)
