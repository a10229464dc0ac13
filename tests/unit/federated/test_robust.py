"""Robust aggregation: what a poisoned node can and cannot do to the next model."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from twopm_kit.errors import TaskError
from twopm_kit.federated.robust import Robust, combine_sections
from twopm_kit.secagg import Decoded, Encoder, RoundConfig, total

repeatable = settings(derandomize=True, deadline=None, max_examples=50)


def decoded(mean, weight=1, metrics=(), metric_weight=0):
    return Decoded(np.array(mean, float), weight, np.array(metrics, float), metric_weight, 0.25)


@pytest.mark.parametrize("rule", ["median", "trimmed_mean"])
def test_one_of_ten_nodes_with_a_hundredfold_update_moves_the_mean_and_not_the_robust_one(rule):
    nodes, groups, length = 10, 5, 200
    draw = np.random.default_rng(4)
    direction = draw.normal(0, 0.01, length)
    updates = direction + draw.normal(0, 0.002, (nodes, length))
    honest = updates.mean(axis=0)
    updates[3] = -100 * updates[3]
    config = RoundConfig(clip=4.0, min_clients=nodes, max_clients=nodes, groups=groups, delta=0.0)
    encoder = Encoder(config, length)
    sums = [total(encoder.encode(updates[p]) for p in range(g, nodes, groups)) for g in range(groups)]
    sections = encoder.decode_sections(np.concatenate(sums), [2] * groups)

    plain = combine_sections(sections)
    robust = combine_sections(sections, Robust(groups, rule=rule))
    scale = np.linalg.norm(honest)
    assert np.linalg.norm(plain.mean - updates.mean(axis=0)) < 0.01 * scale
    assert np.linalg.norm(plain.mean - honest) > 5 * scale
    assert plain.mean @ honest < 0  # training would go backwards
    assert np.linalg.norm(robust.mean - honest) < 0.2 * scale
    assert robust.weight == plain.weight == nodes


@repeatable
@given(st.data(), st.integers(3, 9), st.integers(1, 6), st.sampled_from(["median", "trimmed_mean"]))
def test_a_coordinate_stays_between_those_of_honest_groups(data, groups, length, rule):
    robust = Robust(groups, rule, trim=data.draw(st.integers(1, (groups - 1) // 2)))
    values = st.floats(-5, 5, width=32)
    means = data.draw(arrays.arrays(np.float64, (groups, length), elements=values))
    poisoned = data.draw(st.sets(st.integers(0, groups - 1), max_size=robust.withstands))
    honest = np.delete(means, list(poisoned), axis=0)
    for group in poisoned:
        means[group] = data.draw(st.sampled_from([-1e9, 1e9]))
    combined = robust.combine(means)
    assert np.all(honest.min(axis=0) - 1e-9 <= combined)
    assert np.all(combined <= honest.max(axis=0) + 1e-9)


def test_one_poisoned_group_too_many_is_not_withstood():
    robust = Robust(5)
    assert robust.withstands == 2
    means = np.zeros((5, 1))
    means[:3] = 1e6
    assert robust.combine(means) == 1e6


def test_known_medians_and_trimmed_means():
    means = [[1.0, 50.0], [2.0, 0.0], [3.0, 1.0], [10.0, 2.0]]
    assert Robust(4).combine(means).tolist() == [2.5, 1.5]
    assert Robust(4, "trimmed_mean").combine(means).tolist() == [2.5, 1.5]
    assert Robust(5, "trimmed_mean", trim=2).combine([[9.0], [1], [4], [-7], [5]]).tolist() == [4.0]


def test_groups_that_dropped_out_are_left_out_until_too_few_are_left():
    robust = Robust(5, "trimmed_mean", trim=1)
    assert robust.combine([[1.0], [2.0], [6.0]]).tolist() == [2.0]
    with pytest.raises(TaskError, match="2 groups") as refused:
        robust.combine([[1.0], [2.0]])
    assert "next one" in refused.value.hint
    with pytest.raises(TaskError, match="median over 2 groups"):
        combine_sections([decoded([1.0]), decoded([2.0])], Robust(3))
    with pytest.raises(TaskError, match="no group"):
        combine_sections([])
    with pytest.raises(TaskError, match="shape"):
        robust.combine([1.0, 2.0, 3.0])


def test_without_a_rule_sections_add_up_to_the_sum_over_all():
    one = decoded([1.0])
    assert combine_sections([one]) is one
    merged = combine_sections([decoded([1.0], 3, [0.5], 2), decoded([2.0], 1, [np.nan], 0)])
    assert merged.mean.tolist() == [1.25]
    assert merged.weight == 4
    assert merged.metrics.tolist() == [0.5]
    assert merged.metric_weight == 2
    assert merged.step == 0.25


def test_metrics_are_combined_by_the_same_rule_where_enough_groups_measured():
    sections = [decoded([0.0], 1, [m], 4) for m in (0.8, 0.9, -16.0)]
    merged = combine_sections(sections, Robust(3))
    assert merged.metrics.tolist() == [0.8]
    assert merged.metric_weight == 12
    sections[1] = decoded([0.0], 1, [np.nan], 0)
    merged = combine_sections(sections, Robust(3))
    assert np.isnan(merged.metrics).all()
    assert merged.metric_weight == 0
    assert merged.weight == 3
    unmeasured = combine_sections([decoded([g], 1, [np.nan], 0) for g in range(3)], Robust(3))
    assert unmeasured.mean.tolist() == [1.0]
    assert np.isnan(unmeasured.metrics).all()


def test_a_forged_weight_gives_a_group_no_more_say():
    sections = [decoded([1.0], 1), decoded([1.1], 1), decoded([-50.0], 10**6)]
    assert combine_sections(sections, Robust(3)).mean.tolist() == [1.0]


@pytest.mark.parametrize(
    "numbers",
    [
        {"groups": 2},
        {"groups": 3.5},
        {"groups": True},
        {"rule": "mean"},
        {"rule": "trimmed_mean", "trim": 2},
        {"rule": "trimmed_mean", "trim": 0},
    ],
)
def test_impossible_numbers_are_refused(numbers):
    with pytest.raises(TaskError):
        Robust(**numbers)


def test_a_name_stands_for_a_rule():
    assert Robust.of(None) is None
    assert Robust.of("median") == Robust()
    assert Robust.of("trimmed_mean") == Robust(3, "trimmed_mean")
    assert Robust.of(Robust(7)) == Robust(7)
    assert Robust(7).round_fields() == {"groups": 7}
    for wrong in ("mode", 3, True):
        with pytest.raises(TaskError):
            Robust.of(wrong)
