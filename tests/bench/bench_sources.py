"""Measures how a csv of two gigabytes streams in a process that may have one gigabyte of address space."""

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd
from report import Row, at_most, bars, fact, machine

SIZE = 2_000_000_000
LIMIT = 1_000_000_000
SEED = 1
BLOCK_ROWS = 50_000

CHILD = """
import json, resource, sys, time
resource.setrlimit(resource.RLIMIT_AS, (int(sys.argv[2]), int(sys.argv[2])))
from twopm_kit.vsies.sources import open_source
started = time.perf_counter()
source = open_source(sys.argv[1])
dtypes = source.dtypes
surveyed = time.perf_counter()
rows, drifted = 0, 0
for chunk in source.chunks(progress=sys.stderr.isatty()):
    rows += len(chunk)
    drifted += {name: str(dtype) for name, dtype in chunk.dtypes.items()} != dtypes
read = time.perf_counter()
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
space = next(int(l.split()[1]) * 1024 for l in open("/proc/self/status") if l.startswith("VmPeak"))
kinds = sorted(set(dtypes.values()))
print(json.dumps([rows, drifted, surveyed - started, read - surveyed, peak, space, kinds]))
"""


def table(path: Path, size: int) -> int:
    """Write a csv of about so many bytes: numbers, texts, gaps late in the file, a word in its last row."""
    rng = np.random.default_rng(SEED)
    frame = pd.DataFrame(rng.normal(size=(BLOCK_ROWS, 12)), columns=[f"measure{at}" for at in range(12)])
    frame["age"] = rng.integers(0, 100, BLOCK_ROWS)
    frame["visits"] = rng.integers(0, 1000, BLOCK_ROWS)
    frame["town"] = rng.choice(["Ulm", "Köln", "Bonn"], BLOCK_ROWS)
    frame["code"] = rng.integers(0, 1_000_000, BLOCK_ROWS)
    block = frame.to_csv(index=False, header=False).encode()
    rows = 0
    with path.open("wb") as file:
        file.write((",".join(frame.columns) + "\n").encode())
        while file.tell() < size:
            file.write(block)
            rows += BLOCK_ROWS
        gaps, word = ["0.5"] * 12, ["0.5"] * 12
        file.write((",".join([*gaps, "", "7", "Ulm", "1"]) + "\n").encode())
        file.write((",".join([*word, "40", "7", "Ulm", "A1"]) + "\n").encode())
    return rows + 2


def measured(path: Path) -> list[Row]:
    """Stream the file in a process of its own; return its rows of the report."""
    started = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-c", CHILD, str(path), str(LIMIT)], stdout=subprocess.PIPE, text=True, check=True
    )
    seconds = time.perf_counter() - started
    rows, drifted, survey, read, peak, space, dtypes = json.loads(done.stdout)
    megabytes = path.stat().st_size / 1e6
    return [
        fact("csv", f"{megabytes:,.0f} MB, {rows:,} rows, dtypes {', '.join(dtypes)}"),
        fact("chunks of another dtype", drifted, 0, drifted == 0),
        fact("first pass: dtypes and checks", f"{survey:.1f} s, {megabytes / survey:.0f} MB/s"),
        fact("second pass: rows", f"{read:.1f} s, {megabytes / read:.0f} MB/s"),
        fact("both, with the start of Python", f"{seconds:.1f} s"),
        at_most("peak of resident memory", peak / 1e6, LIMIT / 1e6, "MB"),
        at_most("peak of address space (enforced)", space / 1e6, LIMIT / 1e6, "MB"),
    ]


if __name__ == "__main__":
    machine("pandas", "pyarrow", seed=SEED)
    with tempfile.TemporaryDirectory(prefix="twopm-bench-") as folder:
        csv = Path(folder) / "large.csv"
        expected = table(csv, SIZE)
        lines = measured(csv)
    bars([fact("rows written", expected), *lines])
