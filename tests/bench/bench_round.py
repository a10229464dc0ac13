"""Prints what a whole round on a local chain costs: run as ``python tests/bench/bench_round.py``.

Each row runs the same logistic regression twice, through the chain with masks and in clear without either,
and shows the seconds of both and the gas of one node and of everybody else.
"""

import time

import numpy as np
from report import machine

from twopm_kit import chain, datasets
from twopm_kit.display import table
from twopm_kit.federated import LocalNetwork, LogitTask

SEED = 7
ROUNDS = 3


def measure(nodes, target):
    """Run a task of a few rounds among some nodes on a chain; return one row of the table."""
    frame = datasets.load("breast_cancer")
    features = list(frame.columns[:6])
    frame[features] = (frame[features] - frame[features].mean()) / frame[features].std()
    task = LogitTask("bench", target="target", features=features, tolerance=1e-300, max_rounds=ROUNDS)
    with chain.connect(target) as connection:
        network = LocalNetwork(frame, connection, n_nodes=nodes, seed=SEED)
        start = time.perf_counter()
        result = network.run(task)
        masked = time.perf_counter() - start
        start = time.perf_counter()
        clear = network.run_in_clear(task)
        plain = time.perf_counter() - start
    gas = result.gas
    own = gas.drop(index="coordinator")[["share", "submit", "open", "attest"]].sum(axis=1) / ROUNDS
    rest = gas.loc["coordinator"].drop(["register", "total"], errors="ignore").sum() / ROUNDS
    return {
        "chain": target,
        "nodes": nodes,
        "s/round, masked on chain": masked / ROUNDS,
        "s/round, in clear": plain / ROUNDS,
        "gas/round, a node (median)": round(float(own.median())),
        "gas/round, everybody else": round(float(rest)),
        "largest difference": float(np.abs(result.state["params"] - clear.state["params"]).max()),
    }


def main():
    """Print the table, with the machine, versions and the seed."""
    machine("web3", "py-evm", "vyper", "numpy", "cryptography", seed=SEED)
    rows = [measure(nodes, target) for target in ("embedded", "anvil") for nodes in (3, 5, 9)]
    print(table(rows, caption=f"logistic regression, 7 coefficients, {ROUNDS} rounds"))


if __name__ == "__main__":
    main()
