"""Encoding with client clipping, noise and groups: bounded influence, enough noise, no borrowing of lanes."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from twopm_kit.errors import EncodingError, TamperedMessage
from twopm_kit.secagg import Encoder, RoundConfig, to_words, total
from twopm_kit.secagg.encoding import fewest_survivors, noise_share
from twopm_kit.secagg.noise import tail

repeatable = settings(derandomize=True, deadline=None, max_examples=30)
NOISY = RoundConfig(clip=1.0, clip_norm=1.0, noise_multiplier=1.0, min_clients=4, max_clients=10)
GROUPED = RoundConfig(clip=1.0, min_clients=6, max_clients=12, groups=3)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("length", [3, 16_384, 40_000])
def test_an_update_is_shrunk_to_the_norm_and_keeps_its_direction(dtype, length):
    values = np.random.default_rng(1).normal(0, 1, length).astype(dtype)
    kept = values.copy()
    encoder = Encoder(RoundConfig(clip=1.0, clip_norm=0.5), length)
    decoded = encoder.decode(encoder.encode(values), 1)
    norm = np.linalg.norm(values.astype(np.float64))
    assert encoder.last_scale == pytest.approx(0.5 / norm, rel=1e-12)
    assert encoder.last_clipped == 0
    assert np.abs(decoded.mean - values * (0.5 / norm)).max() <= decoded.step
    assert np.array_equal(values, kept)
    short = values * dtype(0.4 / norm)
    decoded = encoder.decode(encoder.encode(short), 1)
    assert encoder.last_scale == 1.0
    assert np.abs(decoded.mean - short).max() <= decoded.step


def test_shrinking_comes_before_clipping_each_value():
    encoder = Encoder(RoundConfig(clip=0.5, clip_norm=1.0), 3)
    decoded = encoder.decode(encoder.encode([30.0, 0.0, -40.0]), 1)
    assert encoder.last_scale == pytest.approx(0.02)
    assert encoder.last_clipped == 2
    assert np.array_equal(decoded.mean, [0.5, 0.0, -0.5])


def test_norms_beyond_float64_are_shrunk_and_zeros_stay():
    encoder = Encoder(RoundConfig(clip=1.0, clip_norm=1.0), 2)
    decoded = encoder.decode(encoder.encode([3e200, -4e200]), 1)
    assert np.allclose(decoded.mean, [0.6, -0.8], atol=decoded.step)
    assert not encoder.decode(encoder.encode([0.0, 0.0]), 1).mean.any()
    for bad in (np.nan, np.inf):
        with pytest.raises(EncodingError, match=r"values\[1\] is"):
            encoder.encode([1.0, bad])


@repeatable
@given(st.integers(4, 10), st.floats(0.1, 5), st.sampled_from([8, 4]), st.integers(0, 2))
def test_the_noise_of_a_quorum_has_the_deviation_that_was_asked_for(members, multiplier, lanes, metrics):
    config = RoundConfig(
        clip=1.0,
        clip_norm=0.7,
        noise_multiplier=multiplier,
        min_clients=4,
        max_clients=10,
        metric_bound=1.0,
        lanes=lanes,
        value_bits=15 if lanes == 8 else 40,
    )
    length = 4000
    encoder = Encoder(config, length, metrics)
    survivors = config.quorum(members)
    update = np.full(length, 0.005)
    encoded = [
        encoder.encode(
            update, 1, np.full(metrics, 0.5) if metrics else None, int(metrics > 0), members=members
        )
        for _ in range(survivors)
    ]
    decoded = encoder.decode(total(encoded), survivors)
    deviation = multiplier * 0.7
    # Sampling error of a standard deviation: 1/sqrt(2 * 4000) = 1.1 %, of a mean 1.6 %. Both six times.
    assert np.std(decoded.sum) == pytest.approx(deviation, rel=0.07)
    assert abs(decoded.sum.mean() - survivors * 0.005) < 0.1 * deviation
    assert decoded.weight == survivors
    assert deviation / survivors <= decoded.noise * (1 + 1e-9)
    if metrics:
        assert decoded.metric_weight == survivors
        spread = multiplier * math.sqrt(metrics) / survivors
        assert np.abs(decoded.metrics - 0.5).max() < 8 * spread + decoded.step


def test_without_the_number_of_members_the_noise_is_that_of_the_smallest_round():
    encoder = Encoder(NOISY, 50_000)
    four = encoder.decode(total([encoder.encode(np.zeros(50_000)) for _ in range(4)]), 4)
    assert np.std(four.sum) == pytest.approx(1.0, rel=0.025)
    assert four.noise == pytest.approx(0.25)
    ten = encoder.decode(total([encoder.encode(np.zeros(50_000), members=10) for _ in range(10)]), 10)
    assert np.std(ten.sum) == pytest.approx(math.sqrt(10 / 6), rel=0.025)


def test_lanes_never_borrow_however_the_noise_falls(monkeypatch):
    class Worst:
        """Noise at its bound, with alternating sign."""

        def __init__(self, sigma):
            self.bound = tail(sigma)

        def draw(self, count):
            return np.where(np.arange(count) % 2, self.bound, -self.bound)

    monkeypatch.setattr("twopm_kit.secagg.encoding.DiscreteGaussian", Worst)
    config = RoundConfig(
        clip=1.0, clip_norm=5.0, noise_multiplier=1.2, min_clients=4, max_clients=50, metric_bound=1.0
    )
    encoder = Encoder(config, 19, 1)
    values = np.where(np.arange(19) % 2, 1.0, -1.0)
    one = encoder.encode(values, 1, [-1.0], 1)
    lanes = one.reshape(-1)
    assert lanes[0] == 0
    assert lanes[20] == 0
    decoded = encoder.decode(total([one] * 50), 50)
    bound = tail(1.2 * 5.0 / math.sqrt(4) / config.step) * config.step
    assert np.allclose(decoded.mean, values * (1 + bound), rtol=1e-12)
    assert decoded.weight == decoded.metric_weight == 50
    raised = one.copy()
    raised.reshape(-1)[1] += 1  # one more than any client can send
    with pytest.raises(TamperedMessage, match="values exceed their bound"):
        encoder.decode(raised, 1)


def test_noise_hides_nothing_of_a_heavier_client_so_all_weigh_the_same():
    encoder = Encoder(NOISY, 3)
    assert encoder.weight_limit == 1
    with pytest.raises(EncodingError, match="from 1 to 1") as refused:
        encoder.encode(np.zeros(3), 2)
    assert "weight 1" in refused.value.hint
    summed = total([encoder.encode(np.zeros(3))] * 3)
    with pytest.raises(TamperedMessage, match="weights add up to 3"):
        encoder.decode(summed, 2)


def test_metrics_have_noise_also_from_those_who_did_not_validate_and_are_cut_to_their_bound():
    config = RoundConfig(
        clip=1.0, clip_norm=1.0, noise_multiplier=0.1, min_clients=4, max_clients=10, metric_bound=1.0
    )
    encoder = Encoder(config, 5, 2)
    nobody = encoder.decode(total([encoder.encode(np.zeros(5)) for _ in range(4)]), 4)
    assert nobody.metric_weight == 0
    assert np.isnan(nobody.metrics).all()
    silent, other = (encoder.encode(np.zeros(5)).reshape(-1)[6:8] for _ in range(2))
    assert not np.array_equal(silent, other)  # noise in the lanes of metrics that were not measured
    extreme = [encoder.encode(np.zeros(5), 1, [7.0, -9.0], 1) for _ in range(10)]
    decoded = encoder.decode(total(extreme), 10)
    assert np.abs(decoded.metrics - [1.0, -1.0]).max() < 0.1 * math.sqrt(2 * 10 / 4) / 10 * 8
    with pytest.raises(EncodingError, match=r"metrics\[0\] is nan"):
        encoder.encode(np.zeros(5), 1, [np.nan, 0.0], 1)


def test_the_key_of_the_rounding_does_not_tell_the_noise():
    encoders = [Encoder(NOISY, 100, rounding_key=bytes(16)) for _ in range(2)]
    one, other = (encoder.encode(np.full(100, 0.01)) for encoder in encoders)
    assert not np.array_equal(one, other)


def test_noise_that_does_not_fit_the_lanes_or_is_finer_than_a_step_is_refused():
    wide = RoundConfig(clip=1.0, clip_norm=100.0, noise_multiplier=5.0, max_clients=50)
    with pytest.raises(EncodingError, match="overflow a lane") as refused:
        Encoder(wide, 10)
    assert "value_bits" in refused.value.hint
    Encoder(RoundConfig(clip=1.0, clip_norm=100.0, noise_multiplier=5.0, max_clients=50, lanes=4), 10)
    finest_steps = RoundConfig(
        clip=1.0, clip_norm=1.0, noise_multiplier=2.0, lanes=4, value_bits=50, max_clients=4
    )
    with pytest.raises(EncodingError, match="overflow a lane"):
        Encoder(finest_steps, 10)
    fine = RoundConfig(clip=1.0, clip_norm=0.001, noise_multiplier=0.1)
    with pytest.raises(EncodingError, match="at least 2"):
        Encoder(fine, 10)
    assert "noise 1" in repr(Encoder(NOISY, 3))
    assert "noise" not in repr(Encoder(GROUPED, 3))


def test_each_client_adds_for_the_fewest_that_can_survive():
    assert fewest_survivors(NOISY) == 4
    assert [fewest_survivors(NOISY, n) for n in (4, 5, 7, 8, 10)] == [4, 4, 4, 5, 6]
    assert noise_share(NOISY, 10) == 1 / math.sqrt(6)
    assert fewest_survivors(GROUPED) == 2
    assert all(fewest_survivors(GROUPED, n) == 2 for n in range(6, 13))
    few = RoundConfig(clip=1.0, min_clients=9, max_clients=10, groups=2, delta=0.1)
    assert fewest_survivors(few, 10) == 4  # of five, one may be missing


def test_groups_are_decoded_one_by_one():
    encoder = Encoder(GROUPED, 10, 1)
    counts = (2, 3, 2)
    sums = [
        total(encoder.encode(np.full(10, g / 4), 2, [float(g)], 5) for _ in range(count))
        for g, count in enumerate(counts)
    ]
    for whole in (np.concatenate(sums), to_words(np.concatenate(sums))):
        sections = encoder.decode_sections(whole, counts)
        assert [s.weight for s in sections] == [4, 6, 4]
        assert [s.metric_weight for s in sections] == [10, 15, 10]
        assert [s.mean[3] for s in sections] == [0.0, 0.25, 0.5]
        assert [s.metrics[0] for s in sections] == [0.0, 1.0, 2.0]
    single = Encoder(NOISY, 10)
    one = single.encode(np.zeros(10))
    assert np.array_equal(single.decode_sections(one, [1])[0].mean, single.decode(one, 1).mean)


def test_an_empty_group_is_left_out_and_must_be_empty():
    encoder = Encoder(GROUPED, 10)
    summed = total([encoder.encode(np.full(10, 0.5))] * 3)
    whole = np.concatenate([summed, np.zeros_like(summed), summed])
    assert len(encoder.decode_sections(whole, (3, 0, 3))) == 2
    with pytest.raises(TamperedMessage, match="empty group"):
        encoder.decode_sections(np.concatenate([summed] * 3), (3, 0, 3))
    with pytest.raises(EncodingError, match="2 counts"):
        encoder.decode_sections(whole, (3, 3))
    with pytest.raises(EncodingError, match="shape"):
        encoder.decode_sections(whole[:-1], (3, 0, 3))
