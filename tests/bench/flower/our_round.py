"""Runs a round of the kit in one process and prints what it took as JSON."""

import json
import platform
import resource
import sys
import time
from importlib.metadata import version

import numpy as np

from twopm_kit.secagg import RoundConfig, simulate


def run(members, parameters, drops, clip, value_bits, seed, vectors):
    """Run a round; the first members drop out before they send their vector."""
    table = np.load(vectors)
    windows = [table[i : i + parameters] for i in range(members)]
    config = RoundConfig(clip=clip, value_bits=value_bits, max_clients=members)
    graph = config.graph(members)
    start = time.perf_counter()
    result = simulate(windows, drop=range(drops), config=config, seed=seed)
    whole = time.perf_counter() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    clear = sum(window.astype(np.float64) for window in windows[drops:]) / (members - drops)
    return {
        **result.timings,
        "neighbours": graph.degree,
        "threshold": graph.threshold,
        "whole": whole,
        "client_up": result.bytes["client_up"],
        "error": float(np.abs(result.mean - clear).max()),
        "peak": peak if sys.platform == "darwin" else peak * 1024,
        "versions": {name: version(name) for name in ("twopm-kit", "numpy", "cryptography")},
        "python": platform.python_version(),
    }


if __name__ == "__main__":
    print(json.dumps(run(**json.loads(sys.argv[1]))))
