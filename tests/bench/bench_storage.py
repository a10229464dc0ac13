"""Prints how fast objects are named, stored and read: run as ``python tests/bench/bench_storage.py``.

Everything runs on one core. Naming is measured in memory and from a file; storing in a folder, where putting
hashes the object twice over (keccak and SHA-256) before it writes, and reading checks both for every slice.
"""

import hashlib
import tempfile
import time
from pathlib import Path
from statistics import median

from report import at_least, bars, machine, show

from twopm_kit.vsies.storage import Store, content_id, storage_root

SIZE = 100_000_000
REPEATS = 3


def rate(work, repeats=REPEATS):
    """Megabytes a second, the median of some runs."""
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return SIZE / median(times) / 1e6


def main():
    """Print the table and the bars."""
    machine("safe-pysha3", "fsspec", threads=1)
    data = hashlib.shake_128(b"bench").digest(SIZE)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "object"
        path.write_bytes(data)
        rows = [
            {
                "object of 100 MB": name,
                "0G root, MB/s": rate(lambda what=what: storage_root(what)),
                "CID, MB/s": rate(lambda what=what: content_id(what)),
            }
            for name, what in (("in memory", data), ("in a file", path))
        ]
        show(rows, "Naming")
        store = Store(f"file://{folder}/store")
        put, again = rate(lambda: store.put(path), 1), rate(lambda: store.put(path), 1)
        stored = store.stat(storage_root(path))
        steps = {
            "put": put,
            "put again": again,
            "get": rate(lambda: store.get(stored)),
            "fetch": rate(lambda: store.fetch(stored, Path(folder) / "out")),
            "verify": rate(lambda: store.verify(stored)),
        }
        show([{"work": "MB/s"} | steps], "Store in a folder")
        start = time.perf_counter()
        store.get(stored, SIZE // 2, 1000)
        show([{"work": "milliseconds", "get 1,000 bytes": (time.perf_counter() - start) * 1e3}])
    named = min(row["0G root, MB/s"] for row in rows), min(row["CID, MB/s"] for row in rows)
    bars(
        [
            at_least("0G root of 100 MB", named[0], 30, "MB/s"),
            at_least("CID of 100 MB", named[1], 300, "MB/s"),
        ],
        "Bars",
    )


if __name__ == "__main__":
    main()
