"""Every node falls silent at every step: the others' sum is exact, or the round ends with a reason."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from twopm_kit import chain as chains
from twopm_kit.federated import LocalNetwork, Task, Update
from twopm_kit.federated.contract import encoder_of
from twopm_kit.federated.drops import DROP_STEPS
from twopm_kit.secagg import RoundConfig

LENGTH = 11
MODES = {
    "direct": RoundConfig(clip=8.0, mode="direct"),
    "commit": RoundConfig(clip=8.0, mode="commit"),
    "hash": RoundConfig(clip=8.0, mode="commit", verification="hash"),
    "blob": RoundConfig(clip=8.0, mode="blob"),
    "sealed": RoundConfig(clip=8.0, mode="commit", visibility="sealed"),
    "groups": RoundConfig(clip=8.0, mode="direct", groups=2, min_clients=4),
}


class Echo(Task):
    """Every node brings one vector; a round gives their mean."""

    def __init__(self, rounds, min_clients=2):
        super().__init__("echo", max_rounds=rounds, min_clients=min_clients)

    def round_config(self):
        return RoundConfig(clip=8.0, min_clients=self.min_clients, max_clients=self.max_clients)

    def initial_state(self):
        return {"mean": np.zeros(LENGTH)}

    def update_size(self):
        return LENGTH

    def local_update(self, state, frame, round):
        del state
        return Update(frame["x"].to_numpy() * (1 + round / 100))

    def merge(self, state, aggregate):
        del state
        return {"mean": aggregate.mean}


def network_of(nodes, mode="direct", chain=None):
    rng = np.random.default_rng(5)
    frames = [pd.DataFrame({"x": rng.uniform(-4, 4, LENGTH)}) for _ in range(nodes)]
    return LocalNetwork(frames, chain, MODES[mode])


def check(network, task, record):
    """Hold a round against what its survivors brought; a wrong sum must never be out."""
    if record.status == "aborted":
        assert record.words == ()
        assert record.reason
        return
    assert record.status == "done"
    task = task.with_config(network.config)
    encoder = encoder_of(task)
    groups = task.config().groups
    ring = record.members
    frames = {node.name: node.frame for node in network.nodes}
    total = np.zeros(LENGTH)
    per_section = encoder.elements
    for group in range(groups):
        there = [
            name for seat, name in enumerate(ring) if seat % groups == group and name in record.survivors
        ]
        words = list(record.words[group * per_section : (group + 1) * per_section])
        decoded = encoder.decode(words, len(there))
        brought = sum(frames[name]["x"].to_numpy() * (1 + record.number / 100) for name in there)
        assert np.abs(decoded.sum - brought).max() <= task.config().step * len(there)
        total += brought
    assert np.isfinite(total).all()


def one_at_a_time(nodes):
    """Round after round another node falls silent at another step."""
    cases = [(step, node) for step in DROP_STEPS for node in range(nodes)]
    return cases, {number: {step: [node]} for number, (step, node) in enumerate(cases, start=1)}


@pytest.mark.parametrize("mode", MODES)
def test_each_node_at_each_step(mode):
    nodes = 6 if mode == "groups" else 5
    network = network_of(nodes, mode)
    cases, drop = one_at_a_time(nodes)
    task = Echo(len(cases), 4 if mode == "groups" else 2)
    result = network.run(task, drop=drop)
    for record, (step, _) in zip(result.rounds, cases, strict=True):
        check(network, task, record)
        # A hash says nothing about a vector that nobody shows; everywhere else one node more or less is fine.
        assert (record.status == "done") is not (mode == "hash" and step == "deliver"), record.reason


@pytest.mark.anvil
@pytest.mark.parametrize("mode", ["direct", "commit", "blob"])
def test_each_node_at_each_step_on_anvil(mode):
    with chains.connect("anvil") as chain:
        network = network_of(4, mode, chain)
        cases, drop = one_at_a_time(4)
        task = Echo(len(cases))
        result = network.run(task, drop=drop)
        for record in result.rounds:
            check(network, task, record)
            assert record.status == "done", record.reason


@pytest.mark.parametrize("mode", ["direct", "commit"])
def test_as_many_at_once_as_the_round_stands_and_one_more(mode):
    nodes, most = 7, 3  # the quorum is 4 of 7
    network = network_of(nodes, mode)
    drop = {}
    for number, step in enumerate(DROP_STEPS, start=1):
        drop[number] = {step: list(range(most))}
        drop[len(DROP_STEPS) + number] = {step: list(range(most + 1))}
    task = Echo(2 * len(DROP_STEPS))
    result = network.run(task, drop=drop)
    for record in result.rounds:
        check(network, task, record)
        within = record.number <= len(DROP_STEPS)
        assert (record.status == "done") is within or (record.status, mode) == ("done", "direct"), record
    told = {record.reason for record in result.rounds if record.status == "aborted"}
    assert all("needed" in reason or "too few" in reason for reason in told)


def test_the_mask_changes_nothing_but_the_rounding():
    network = network_of(5, "commit")
    task = Echo(1)
    masked, clear = network.run(task), network.run_in_clear(task)
    step = replace(MODES["commit"], max_clients=50).step
    assert np.abs(masked.state["mean"] - clear.state["mean"]).max() < step
