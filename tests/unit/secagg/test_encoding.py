"""Encoding: exact sums, unbiased rounding, and refusal of everything that does not fit."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from twopm_kit.errors import EncodingError, TamperedMessage
from twopm_kit.secagg import Encoder, RoundConfig, add, to_words, total

repeatable = settings(derandomize=True, deadline=None, max_examples=50)
MODEL = RoundConfig(clip=4.0, max_clients=10)
STATISTICS = RoundConfig(clip=1000.0, lanes=4, value_bits=46, max_clients=10, metric_bound=1000.0)


def matrix(clients, length):
    values = st.floats(-6, 6, allow_nan=False, width=32)
    return arrays.arrays(np.float64, (clients, length), elements=values)


@repeatable
@given(st.data(), st.integers(1, 10), st.integers(1, 40), st.sampled_from([MODEL, STATISTICS]))
def test_the_decoded_mean_is_within_one_step_of_the_clipped_weighted_mean(data, clients, length, config):
    values = data.draw(matrix(clients, length))
    weights = data.draw(st.lists(st.integers(1, config.weight_limit), min_size=clients, max_size=clients))
    encoder = Encoder(config, length, rounding_key=bytes(16))
    summed = total(encoder.encode(v, w) for v, w in zip(values, weights, strict=True))
    decoded = encoder.decode(summed, clients)
    share = np.array(weights, float) / sum(weights)
    exact = share @ values.clip(-config.clip, config.clip)
    assert decoded.weight == sum(weights)
    assert np.all(np.abs(decoded.mean - exact) < decoded.step * (1 + 1e-9) + 1e-12)
    assert np.allclose(decoded.sum, decoded.mean * decoded.weight)


@repeatable
@given(st.data(), st.integers(1, 6), st.integers(1, 5))
def test_metrics_are_averaged_with_their_own_weights(data, clients, metrics):
    encoder = Encoder(MODEL, 3, metrics, rounding_key=bytes(16))
    measured = data.draw(arrays.arrays(np.float64, (clients, metrics), elements=st.floats(-16, 16, width=32)))
    counts = data.draw(st.lists(st.integers(0, 300), min_size=clients, max_size=clients))
    encoded = [encoder.encode(np.zeros(3), 2, m, c) for m, c in zip(measured, counts, strict=True)]
    decoded = encoder.decode(total(encoded), clients)
    assert decoded.metric_weight == sum(counts)
    if sum(counts):
        exact = np.array(counts) @ measured / sum(counts)
        assert np.all(np.abs(decoded.metrics - exact) <= MODEL.metric_step)
    else:
        assert np.isnan(decoded.metrics).all()


def test_statistics_lanes_keep_double_precision():
    config = RoundConfig(clip=1.0, lanes=4, value_bits=50, max_clients=8)
    values = np.random.default_rng(1).uniform(-1, 1, (8, 100))
    encoder = Encoder(config, 100)
    decoded = encoder.decode(total(encoder.encode(v, w) for w, v in enumerate(values, 1)), 8)
    exact = np.arange(1, 9) @ values / 36
    assert np.abs(decoded.mean - exact).max() < 4e-15


@pytest.mark.parametrize("config", [MODEL, STATISTICS])
def test_extremes_at_the_largest_weight_stay_in_their_lanes(config):
    for extreme in (-config.clip, config.clip):
        encoder = Encoder(config, 19, 2)
        bound = np.array([config.metric_bound, -config.metric_bound])
        one = encoder.encode(np.full(19, extreme), config.weight_limit, bound, config.weight_limit)
        decoded = encoder.decode(total([one] * config.max_clients), config.max_clients)
        assert np.array_equal(decoded.mean, np.full(19, extreme))
        assert np.array_equal(decoded.metrics, bound)
        assert decoded.weight == decoded.metric_weight == config.max_clients * config.weight_limit


def test_zero_is_exact_and_rounding_is_unbiased():
    config = RoundConfig(clip=1.0, value_bits=4, max_clients=2)
    encoder = Encoder(config, 40_000, rounding_key=bytes(16))
    assert not encoder.decode(encoder.encode(np.zeros(40_000)), 1).mean.any()
    for fraction in (0.1, 0.5, 0.75, 0.99):
        for sign in (-1, 1):
            value = sign * fraction * config.step
            decoded = encoder.decode(encoder.encode(np.full(40_000, value)), 1).mean / config.step
            assert set(np.unique(decoded)) == {0.0, float(sign)}
            deviation = np.sqrt(fraction * (1 - fraction) / 40_000)
            assert abs(decoded.mean() - sign * fraction) < 5 * deviation


def test_rounding_differs_between_encoders_but_can_be_repeated():
    values = np.full(500, 0.3)
    one, other = Encoder(MODEL, 500), Encoder(MODEL, 500)
    assert not np.array_equal(one.encode(values), other.encode(values))
    again = [Encoder(MODEL, 500, rounding_key=bytes(16)).encode(values) for _ in range(2)]
    assert np.array_equal(*again)


def test_values_outside_the_clip_range_are_clipped_and_counted():
    encoder = Encoder(MODEL, 4)
    decoded = encoder.decode(encoder.encode([-100.0, 4.0, 4.1, 0.0]), 1)
    assert encoder.last_clipped == 2
    assert np.array_equal(decoded.mean, [-4.0, 4.0, 4.0, 0.0])


def test_size_is_four_bytes_a_parameter():
    assert Encoder(MODEL, 10_000).elements == -(-10_001 // 8)
    assert Encoder(MODEL, 7).elements == 1
    assert Encoder(MODEL, 8).elements == 2
    assert Encoder(STATISTICS, 2, 1).elements == 2


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_values_that_are_not_finite_are_refused_with_their_index(bad):
    values = np.zeros(9)
    values[6] = bad
    with pytest.raises(EncodingError, match=r"values\[6\] is"):
        Encoder(MODEL, 9).encode(values)
    long = np.zeros(40_000, np.float32)
    long[39_999] = bad
    with pytest.raises(EncodingError, match=r"values\[39999\] is"):
        Encoder(MODEL, 40_000).encode(long)
    with pytest.raises(EncodingError, match=r"metrics\[1\] is"):
        Encoder(MODEL, 9, 2).encode(np.zeros(9), 1, [0.5, bad], 3)


@pytest.mark.parametrize("weight", [0, -1, MODEL.weight_limit + 1, 1.0, True, None])
def test_weights_outside_the_limit_are_refused(weight):
    with pytest.raises(EncodingError, match="weight"):
        Encoder(MODEL, 3).encode(np.zeros(3), weight)


@pytest.mark.parametrize("weight", [-1, MODEL.weight_limit + 1, 0.5])
def test_metric_weights_outside_the_limit_are_refused(weight):
    with pytest.raises(EncodingError, match="metric_weight"):
        Encoder(MODEL, 3, 1).encode(np.zeros(3), 1, [0.0], weight)


@pytest.mark.parametrize(
    ("values", "metrics", "metric_weight"),
    [
        (np.zeros(4), [0.0], 1),
        (np.zeros((3, 1)), [0.0], 1),
        (["a", "b", "c"], [0.0], 1),
        (np.zeros(3), [0.0, 1.0], 1),
        (np.zeros(3), None, 1),
        (np.zeros(3), [16.5], 1),
    ],
)
def test_what_does_not_fit_the_encoder_is_refused(values, metrics, metric_weight):
    with pytest.raises(EncodingError):
        Encoder(MODEL, 3, 1).encode(values, 1, metrics, metric_weight)


def test_metrics_without_a_place_and_impossible_encoders_are_refused():
    with pytest.raises(EncodingError, match="has none"):
        Encoder(MODEL, 3).encode(np.zeros(3), 1, [0.5], 1)
    for length, metrics in ((0, 0), (-1, 0), (3, -1), (2.0, 0)):
        with pytest.raises(EncodingError, match="whole number"):
            Encoder(MODEL, length, metrics)


def test_decoding_takes_words_from_the_chain():
    encoder = Encoder(MODEL, 20)
    encoded = encoder.encode(np.linspace(-1, 1, 20), 3)
    assert np.array_equal(encoder.decode(to_words(encoded), 1).mean, encoder.decode(encoded, 1).mean)


@pytest.mark.parametrize("config", [MODEL, STATISTICS])
@pytest.mark.parametrize(
    ("lane", "value"), [(0, -1), (1, 1 << 29), (19, 0), (20, 1 << 29), (21, 1 << 29), (22, 1)]
)
def test_a_sum_that_no_valid_vectors_make_is_refused(config, lane, value):
    """Lanes: 0 to 18 values, 19 weight, 20 metric, 21 metric weight, 22 onwards padding."""
    encoder = Encoder(config, 19, 1)
    encoded = encoder.encode(np.zeros(19), 2, [1.0], 1)
    lanes = encoded.reshape(-1).view(np.uint32 if config.lanes == 8 else np.uint64)
    most = np.uint64((1 << config.lane_bits) - 1) >> np.uint64(2)
    scaled = value << (0 if config.lanes == 8 or value < 2 else 32)
    lanes[lane] = most if value == -1 else scaled
    with pytest.raises(TamperedMessage, match="does not decode"):
        encoder.decode(encoded, 1)


@pytest.mark.parametrize("clients", [0, -1, 11, 1.0])
def test_decoding_for_an_impossible_number_of_clients_is_refused(clients):
    encoder = Encoder(MODEL, 3)
    with pytest.raises(EncodingError, match="clients="):
        encoder.decode(encoder.encode(np.zeros(3)), clients)


def test_a_sum_over_more_clients_than_told_is_refused():
    encoder = Encoder(RoundConfig(clip=1.0, max_weight=1), 3)
    summed = total([encoder.encode(np.zeros(3))] * 3)
    assert encoder.decode(summed, 3).weight == 3
    with pytest.raises(TamperedMessage, match="weights add up to 3"):
        encoder.decode(summed, 2)
    with pytest.raises(TamperedMessage, match="weights add up to 3"):
        encoder.decode(summed, 4)


def test_a_sum_of_another_length_is_refused():
    with pytest.raises(EncodingError, match="shape"):
        Encoder(MODEL, 30).decode(Encoder(MODEL, 3).encode(np.zeros(3)), 1)


def test_a_spoiled_group_takes_no_other_with_it():
    config = RoundConfig(clip=1.0, groups=2, min_clients=4, max_clients=6)
    encoder = Encoder(config, 3)
    honest = [encoder.encode([0.5, -0.25, 0.0]) for _ in range(4)]
    spoiled = honest[3].copy()
    spoiled[0, 3] = 1 << 31  # a weight that nobody may have
    sections = [add(honest[0], honest[2]), add(honest[1], spoiled)]
    [left] = encoder.decode_sections(np.concatenate(sections), [2, 2])
    assert left.mean == pytest.approx([0.5, -0.25, 0.0], abs=config.step)
    with pytest.raises(TamperedMessage):
        encoder.decode_sections(np.concatenate([sections[1], sections[1]]), [2, 2])
