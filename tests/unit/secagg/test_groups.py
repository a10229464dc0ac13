"""Groups: each has a sum of its own, and none of them covers a single member."""

import numpy as np
import pytest

from twopm_kit.errors import TooFewSurvivors
from twopm_kit.secagg import RoundConfig, simulate, subtract, total

CONFIG = RoundConfig(clip=4.0, groups=3, min_clients=6, max_clients=12)
VECTORS = np.random.default_rng(2).normal(size=(11, 40))
WEIGHTS = [1 + i % 3 for i in range(11)]


def weighted(chosen):
    w = np.array(WEIGHTS, float)[chosen]
    return w @ VECTORS[chosen] / w.sum()


@pytest.mark.parametrize(
    "drop", [{}, {"submit": [0, 4]}, {"share": [2], "unmask": [1]}, {"submit": [1, 4, 7, 10]}]
)
def test_every_group_has_its_own_weighted_mean(drop):
    result = simulate(VECTORS, WEIGHTS, drop, CONFIG)
    gone = {*drop.get("share", []), *drop.get("submit", [])}
    groups = [[i for i in range(g, 11, 3) if i not in gone] for g in range(3)]
    groups = [group for group in groups if group]
    assert len(result.groups) == len(groups)
    for decoded, chosen in zip(result.groups, groups, strict=True):
        assert decoded.weight == sum(WEIGHTS[i] for i in chosen)
        assert np.all(np.abs(decoded.mean - weighted(chosen)) < result.step)
    everybody = [i for i in range(11) if i not in gone]
    assert np.all(np.abs(result.mean - weighted(everybody)) < result.step)
    assert result.weight == sum(WEIGHTS[i] for i in everybody)


def test_a_group_of_one_is_never_opened(make_round):
    """Its sum would be the vector of that member: nobody opens anything, on either side."""
    members = make_round(11, config=CONFIG).share().receive().mask(absent=[1, 4, 7])
    for seat in (0, 2, 10):
        with pytest.raises(TooFewSurvivors, match="group 1 has 1 survivor"):
            members.sessions[seat].open_shares(members.survivors)
    with pytest.raises(TooFewSurvivors, match="group 1 has 1 survivor"):
        members.reconstruct()
    with pytest.raises(TooFewSurvivors, match="group 1 has 1 survivor"):
        simulate(VECTORS, drop=[1, 4, 7], config=CONFIG)


def test_masks_cancel_within_a_group_and_nowhere_else(make_round):
    members = make_round(11, config=CONFIG).share().receive().mask().open()
    mask = members.reconstruct().mask
    m = members.encoder.elements
    assert mask.shape == (3 * m, 8)
    for group in range(3):
        summed = total(members.masked[i] for i in range(group, 11, 3))
        decoded = members.encoder.decode(
            subtract(summed, mask[group * m : (group + 1) * m]), (4, 4, 3)[group]
        )
        assert decoded.weight == sum(members.weights[i] for i in range(group, 11, 3))
    sections = [mask[group * m : (group + 1) * m] for group in range(3)]
    assert not any(np.array_equal(sections[a], sections[b]) for a, b in ((0, 1), (0, 2), (1, 2)))


def test_an_empty_group_has_no_mask(make_round):
    members = make_round(11, config=CONFIG).share().receive().mask(absent=[2, 5, 8]).open()
    m = members.encoder.elements
    assert not members.reconstruct().mask[2 * m :].any()
