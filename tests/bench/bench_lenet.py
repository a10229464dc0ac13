"""Times LeNet on digits through masks, commitments and a chain, beside the same training in clear.

Ten nodes, ten rounds, 43,102 parameters, a node that drops out in most rounds at one step or another. Run as
``python tests/bench/bench_lenet.py``.
"""

import sys
import time
from pathlib import Path

import numpy as np
import torch
from report import at_least, at_most, bars, fact, machine

from twopm_kit import chain, datasets
from twopm_kit.federated import LocalNetwork

sys.path.insert(0, str(Path(__file__).parents[2]))
from tests.unit.federated.lenet import Digits, accuracy

SEED = 7
NODES = ROUNDS = 10
DROP = {2: [1], 3: {"deliver": [4]}, 5: [2, 7], 6: {"open": [0]}, 8: {"share": [9], "submit": [3]}}
SECONDS, ACCURACY, GAP = 120, 0.95, 0.02


def largest(one, other):
    """Return the largest difference of two models."""
    return max(float(np.abs(one[name] - other[name]).max()) for name in one)


def main():
    """Print the table, with the machine, versions and the seed."""
    machine("torch", "web3", "py-evm", "ckzg", "numpy", seed=SEED)
    torch.set_num_threads(1)
    train, test = datasets.split(datasets.load("digits"), test=0.2, label="target", seed=SEED)
    frames = datasets.partition(train, NODES, scheme="dirichlet", alpha=10.0, label="target", seed=SEED)
    with chain.connect("embedded") as connection:
        network = LocalNetwork(frames, connection)
        start = time.perf_counter()
        masked = network.run(Digits(ROUNDS), drop=DROP)
        seconds = time.perf_counter() - start
        start = time.perf_counter()
        clear = network.run_in_clear(Digits(ROUNDS), drop={r: _lost(masked, r) for r in DROP})
        plain = time.perf_counter() - start
        one, one_clear = network.run(Digits(1)), network.run_in_clear(Digits(1))
    reached, wanted = accuracy(masked, test), accuracy(clear, test)
    steps = largest(one.state, one_clear.state) / Digits(1).config().step
    done = sum(record.status == "done" for record in masked.rounds)
    gap = abs(reached - wanted)
    bars(
        [
            at_most("masked, on the embedded chain", seconds, SECONDS, "s"),
            fact("in clear", f"{plain:.1f} s"),
            at_least("accuracy, masked", reached, ACCURACY),
            fact("accuracy, in clear", f"{wanted:.4f}", f"within {GAP}", gap <= GAP),
            fact("one round: largest difference in steps", f"{steps:.3f}", "< 1", steps < 1),
            fact("rounds done", f"{done} of {ROUNDS}", ROUNDS, done == ROUNDS),
            fact("gas of all, a round", int(masked.history["gas"].mean())),
        ],
        f"LeNet, 43,102 parameters, {NODES} nodes, {ROUNDS} rounds, drop-outs",
    )


def _lost(result, number):
    """Return who is not in the sum of a round."""
    record = result.rounds[number - 1]
    return [name for name in record.members if name not in record.survivors]


if __name__ == "__main__":
    main()
