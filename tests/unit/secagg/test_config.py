"""Round configurations: the numbers work together, or the round does not start."""

import math
from dataclasses import replace

import pytest

from twopm_kit.errors import ProtocolError, RoundConfigError
from twopm_kit.secagg import Graph, Mode, RoundConfig, RoundContext, party_id


def test_thresholds_hold_for_every_member_count():
    config = RoundConfig(clip=1.0)
    for n in range(2, 51):
        t, corrupt, staying = config.threshold(n), n // 10, math.ceil(n * 7 / 10)
        assert n / 2 < t <= staying
        assert t > corrupt
        assert config.quorum(n) >= t


@pytest.mark.parametrize(("members", "threshold"), [(2, 2), (3, 2), (4, 3), (5, 3), (10, 6), (50, 26)])
def test_threshold_is_the_least_majority(members, threshold):
    assert RoundConfig(clip=1.0).threshold(members) == threshold


def test_without_one_final_list_the_threshold_is_larger():
    config = RoundConfig(clip=1.0, gamma=0.2, delta=0.2)
    for n in range(2, 51):
        t, corrupt = config.threshold(n, single_list=False), n // 5
        assert 2 * (t - corrupt) > n - corrupt
        assert t >= config.threshold(n)


def test_many_colluders_raise_the_threshold():
    assert RoundConfig(clip=1.0, gamma=0.6, delta=0.3, min_clients=10, max_clients=10).threshold(10) == 7


@pytest.mark.parametrize(
    ("numbers", "words"),
    [
        ({"delta": 0.5}, "2 members need a threshold of at least 2 .* only 1"),
        ({"delta": 0.7, "max_clients": 10}, "2 members need a threshold of at least 2 .* only 1"),
        ({"gamma": 0.8, "delta": 0.3}, "members need a threshold"),
        ({"max_clients": 1001}, "max_clients=1001"),
        ({"min_clients": 1}, "min_clients=1"),
        ({"min_clients": 9, "max_clients": 8}, "min_clients=9 is above"),
        ({"lanes": 16}, "lanes=16"),
        ({"value_bits": 1}, "value_bits=1"),
        ({"value_bits": 29}, "value_bits=29"),
        ({"value_bits": 25}, "25 value bits overflow"),
        ({"value_bits": 51, "lanes": 4}, "value_bits=51"),
        ({"value_bits": 16.0}, "value_bits=16.0"),
        ({"max_weight": 0}, "max_weight=0"),
        ({"max_weight": 328}, "max_weight=328, expected a whole number from 1 to 327"),
        ({"max_weight": True}, "max_weight=True"),
        ({"clip": 0.0}, "clip=0.0"),
        ({"clip": -1.0}, "clip=-1.0"),
        ({"clip": math.nan}, "clip=nan"),
        ({"clip": math.inf}, "clip=inf"),
        ({"clip": "1"}, "clip='1'"),
        ({"metric_bound": 0.0}, "metric_bound=0.0"),
        ({"gamma": 1.0}, "gamma=1.0"),
        ({"delta": -0.1}, "delta=-0.1"),
        ({"delta": math.nan}, "delta=nan"),
        ({"mode": "blobs"}, "mode='blobs', expected one of auto, direct, commit, blob"),
        ({"verification": "snark"}, "verification='snark'"),
        ({"visibility": None}, "visibility=None"),
        ({"groups": 0}, "groups=0"),
        ({"groups": 3}, "3 groups with min_clients=2"),
        ({"groups": 3, "min_clients": 6, "max_clients": 100}, "complete graph only"),
        ({"clip_norm": 0.0}, "clip_norm=0.0"),
        ({"noise_multiplier": 1.0}, "noise_multiplier=1.0 without clip_norm"),
        ({"noise_multiplier": -1.0, "clip_norm": 1.0}, "noise_multiplier=-1.0"),
        ({"noise_multiplier": math.inf, "clip_norm": 1.0}, "noise_multiplier=inf"),
    ],
)
def test_impossible_numbers_are_refused_with_a_hint(numbers, words):
    with pytest.raises(RoundConfigError, match=words) as refusal:
        RoundConfig(**{"clip": 1.0} | numbers)
    assert refusal.value.hint


@pytest.mark.parametrize(("lanes", "sum_bits"), [(8, 30), (4, 62)])
@pytest.mark.parametrize("value_bits", [2, 8, 16, 20])
@pytest.mark.parametrize("clients", [2, 5, 50])
def test_the_default_weight_limit_fills_the_lane_and_does_not_overflow(lanes, sum_bits, value_bits, clients):
    config = RoundConfig(clip=1.0, lanes=lanes, value_bits=value_bits, max_clients=clients)
    limit = config.weight_limit
    assert limit * clients << value_bits < 1 << sum_bits
    assert (limit + 1) * clients << value_bits >= 1 << sum_bits
    with pytest.raises(RoundConfigError, match=f"from 1 to {limit}"):
        replace(config, max_weight=limit + 1)


ALL = {"blobs": True, "bls": True}


@pytest.mark.parametrize(
    ("numbers", "elements", "chain", "mode"),
    [
        ({}, 520, ALL, Mode.DIRECT),
        ({}, 521, ALL, Mode.KZG),
        ({}, 37_500, ALL, Mode.KZG),
        ({}, 37_501, ALL, Mode.HASH),
        ({}, 521, {"blobs": True, "bls": False}, Mode.HASH),
        ({}, 521, {"blobs": False, "bls": True}, Mode.HASH),
        ({"verification": "hash"}, 521, ALL, Mode.HASH),
        ({"verification": "hash"}, 520, ALL, Mode.DIRECT),
        ({"groups": 4, "min_clients": 8}, 130, ALL, Mode.DIRECT),
        ({"groups": 4, "min_clients": 8}, 131, ALL, Mode.KZG),
        ({"groups": 8, "min_clients": 16}, 4097, ALL, Mode.HASH),
        ({"mode": "direct"}, 520, {"blobs": False, "bls": False}, Mode.DIRECT),
        ({"mode": "commit"}, 10, ALL, Mode.KZG),
        ({"mode": "commit"}, 12 * 4096, ALL, Mode.KZG),
        ({"mode": "commit", "verification": "hash"}, 10, {"blobs": False, "bls": False}, Mode.HASH),
        ({"mode": "blob"}, 6 * 4096, ALL, Mode.BLOB),
    ],
)
def test_the_mode_follows_size_chain_and_wish(numbers, elements, chain, mode):
    assert RoundConfig(clip=1.0, **numbers).mode_for(elements, **chain) is mode


@pytest.mark.parametrize(
    ("numbers", "elements", "chain", "words"),
    [
        ({"mode": "direct"}, 521, ALL, "mode='direct' carries at most 520 field elements, the round has 521"),
        ({"mode": "commit"}, 10, {"blobs": True, "bls": False}, "mode='commit' .* needs a chain"),
        ({"mode": "blob"}, 10, {"blobs": False, "bls": True}, "mode='blob' needs a chain"),
        ({"mode": "commit"}, 12 * 4096 + 1, ALL, "room for 12 blobs, the round fills 13"),
        ({"mode": "blob"}, 6 * 4096 + 1, ALL, "carries 6 blobs a transaction, a vector fills 7"),
    ],
)
def test_a_mode_that_cannot_be_is_refused(numbers, elements, chain, words):
    with pytest.raises(RoundConfigError, match=words) as refusal:
        RoundConfig(clip=1.0, **numbers).mode_for(elements, **chain)
    assert "mode='auto'" in refusal.value.hint


def test_above_fifty_members_one_degree_and_threshold_serve_all_rounds():
    config = RoundConfig(clip=1.0, max_clients=128)
    assert {(g.degree, g.threshold) for g in map(config.graph, range(51, 129))} == {(38, 13)}
    assert config.graph(50) == Graph(50, 49, 26)
    assert [config.quorum(n) for n in (50, 51, 100, 128)] == [26, 26, 51, 65]


def test_where_the_degree_reaches_everybody_the_graph_is_complete():
    config = RoundConfig(clip=1.0, value_bits=8, max_clients=1000)
    assert config.graph(1000).degree == 88
    assert config.graph(89) == Graph(89, 88, 45)
    assert config.graph(90).degree == 88
    assert not config.graph(90).complete


@pytest.mark.parametrize("members", [1, 6, 5.0, None])
def test_other_member_counts_are_refused(members):
    with pytest.raises(RoundConfigError, match="expected 2 to 5"):
        RoundConfig(clip=1.0, max_clients=5).threshold(members)


def test_bindings_tell_rounds_apart_and_contracts_by_value():
    contract = "0xAbCdEf" + "01" * 17
    context = RoundContext(1, contract, 2, 3)
    assert context.binding == RoundContext(1, contract.lower(), 2, 3).binding
    others = {replace(context, **c).binding for c in ({"chain_id": 5}, {"task_id": 5}, {"round": 5})}
    assert len(others | {context.binding}) == 4
    assert len(context.binding) == 32


@pytest.mark.parametrize("numbers", [(-1, 2, 3), (1, 2**256, 3), (1, 2, 3.0), (True, 2, 3)])
def test_impossible_contexts_are_refused(numbers):
    chain, task, round_ = numbers
    with pytest.raises(RoundConfigError):
        RoundContext(chain, "0x" + "c0" * 20, task, round_)


@pytest.mark.parametrize(
    "party", ["", "0x", "0x" + "0" * 40, "c0" * 21, "0x" + "g0" * 20, b"", bytes(20), 7, None]
)
def test_what_names_no_party_is_refused(party):
    with pytest.raises(ProtocolError, match="does not name a party"):
        party_id(party)


def test_parties_are_named_by_bytes_or_text():
    raw = bytes(range(1, 21))
    assert party_id(raw) == party_id("0x" + raw.hex()) == party_id("0x" + raw.hex().upper()) == raw
