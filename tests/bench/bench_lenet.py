"""Times LeNet on digits through masks, commitments and a chain, beside the same training in clear.

Ten nodes, ten rounds, 43,102 parameters, a node that drops out in most rounds at one step or another. Run as
``python tests/bench/bench_lenet.py``.
"""

import platform
import sys
import time
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch

from twopm_kit import chain, datasets
from twopm_kit.display import table
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
    torch.set_num_threads(1)
    train, test = datasets.split(datasets.load("digits"), test=0.2, label="target", seed=SEED)
    frames = datasets.partition(train, NODES, scheme="dirichlet", alpha=10.0, label="target", seed=SEED)
    rows = []
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
    for what, figure, bar, holds in (
        ("seconds, masked on the embedded chain", f"{seconds:.1f}", f"≤ {SECONDS}", seconds <= SECONDS),
        ("seconds, in clear", f"{plain:.1f}", "", True),
        ("accuracy, masked", f"{reached:.4f}", f"≥ {ACCURACY}", reached >= ACCURACY),
        ("accuracy, in clear", f"{wanted:.4f}", f"within {GAP}", abs(reached - wanted) <= GAP),
        ("one round: largest difference in steps", f"{steps:.3f}", "< 1", steps < 1),
        ("rounds done", f"{done} of {ROUNDS}", f"{ROUNDS}", done == ROUNDS),
        ("gas of all, a round", f"{int(masked.history['gas'].mean()):,}", "", True),
    ):
        rows.append({"what": what, "measured": figure, "bar": bar, "holds": "yes" if holds else "NO"})
    print(f"{platform.processor() or platform.machine()}, Python {platform.python_version()}, seed {SEED}")
    print(", ".join(f"{name} {version(name)}" for name in ("torch", "web3", "py-evm", "ckzg", "numpy")))
    print(table(rows, caption=f"LeNet, 43,102 parameters, {NODES} nodes, {ROUNDS} rounds, drop-outs"))


def _lost(result, number):
    """Return who is not in the sum of a round."""
    record = result.rounds[number - 1]
    return [name for name in record.members if name not in record.survivors]


if __name__ == "__main__":
    main()
