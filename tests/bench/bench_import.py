"""Measures how long ``import twopm_kit`` takes in a fresh interpreter, its own start not counted."""

import statistics
import subprocess
import sys

from report import at_most, bars, fact, machine

CODE = "import time; t = time.perf_counter(); import twopm_kit{room}; print(time.perf_counter() - t)"
BUDGET = 0.3
REPEATS = 7


def seconds(room: str) -> float:
    """Return the median import time in seconds."""
    command = [sys.executable, "-c", CODE.format(room=room)]
    times = [
        float(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
        for _ in range(REPEATS)
    ]
    return statistics.median(times)


if __name__ == "__main__":
    machine("twopm-kit")
    notebook = fact("import twopm_kit.notebook", f"{seconds('.notebook'):.3f} s")
    bars([at_most("import twopm_kit", seconds(""), BUDGET, "s"), notebook])
