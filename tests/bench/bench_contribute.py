"""Measures a contribution from raw csv to listed ciphertext, its way back, and what kills in between cost."""

import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd
from report import Row, at_most, bars, fact, machine

from twopm_kit import chain as chains
from twopm_kit.fhe import KeyHolder
from twopm_kit.vsies import DataClient, DataIndex, DatasetRef, Field, Schema, Standard, storage_root

SEED = 5
ROWS, FLOATS, INTS, BOOLS = 100_000, 20, 8, 2
KILLS, KILLED_ROWS = 20, 20_000
SECONDS, FETCH_SECONDS, MEGABYTES = 60.0, 10.0, 1_500.0
LARGEST = 200_000  # more bytes than a ciphertext has
PASSPHRASE = "several words that nobody guesses"
SCHEMA = Schema(
    "measurements",
    [Field(f"m{at}", "float", low=-10, high=60, standard="zscore", resolution=0.001) for at in range(FLOATS)]
    + [Field(f"n{at}", "int", low=0, high=120, standard="minmax") for at in range(INTS)]
    + [Field(f"b{at}", "bool") for at in range(BOOLS)],
)

CHILD = """
import json, resource, sys, time
from pathlib import Path
from twopm_kit import chain as chains
from twopm_kit.fhe import KeyHolder
from twopm_kit.vsies import DataClient, DatasetRef, Schema, Standard

folder, url, index, what, passphrase, n_jobs = Path(sys.argv[1]), *sys.argv[2:6], int(sys.argv[6])
chain = chains.connect(url)
account = chain.account(what, key=(folder / f"{what}.account").read_bytes())
client = DataClient(
    chain=chain, account=account, storage=f"file://{folder}/store", index=index, workdir=folder / what
)
if what == "consumer":
    ref = DatasetRef.from_json((folder / "ref.json").read_text())
    work = lambda: client.fetch(ref, progress=False)
else:
    keys = KeyHolder.load(folder / "key", passphrase)
    schema = Schema.from_json((folder / "schema.json").read_text())
    standard = Standard.from_json((folder / "standard.json").read_text())
    work = lambda: client.contribute(
        folder / "rows.csv", schema, keys=keys, standard=standard, n_jobs=n_jobs, progress=False
    )
print("ready", flush=True)
started = time.perf_counter()
made = work()
seconds = time.perf_counter() - started
both = resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN
own, worker = (resource.getrusage(who).ru_maxrss * 1024 / 1e6 for who in both)
result = made.n_rows if what == "consumer" else made.to_json()
print(json.dumps([seconds, own, own + n_jobs * worker, result]))
"""


class World:
    """A chain, a table, a store, and two parties who live in processes of their own."""

    def __init__(self, folder: Path, rows: int, seed: int) -> None:
        self.folder = folder
        folder.mkdir()
        rng = np.random.default_rng(seed)
        columns = {f"m{at}": rng.normal(25, 6, rows).clip(-10, 60).round(3) for at in range(FLOATS)}
        columns |= {f"n{at}": rng.integers(0, 120, rows) for at in range(INTS)}
        columns |= {f"b{at}": rng.integers(0, 2, rows).astype(bool) for at in range(BOOLS)}
        frame = pd.DataFrame(columns)
        frame.to_csv(folder / "rows.csv", index=False)
        (folder / "schema.json").write_text(SCHEMA.to_json())
        (folder / "standard.json").write_text(Standard.fit(SCHEMA, frame).to_json())
        KeyHolder.generate("linear").save(folder / "key", PASSPHRASE)
        for name in ("contributor", "consumer"):
            (folder / f"{name}.account").write_bytes(os.urandom(32))
        self.chain = chains.connect("embedded")
        self.server = self.chain.serve()
        self.index = DataIndex.deploy(self.chain, self.chain.account("owner"))

    def start(self, what: str, n_jobs: int = 1) -> "subprocess.Popen[str]":
        """Start a party, and wait until it begins to work."""
        words = (str(self.folder), self.server.url, self.index.address, what, PASSPHRASE, str(n_jobs))
        child = subprocess.Popen(
            [sys.executable, "-c", CHILD, *words], stdout=subprocess.PIPE, text=True, start_new_session=True
        )
        assert child.stdout is not None
        assert child.stdout.readline() == "ready\n"
        return child

    def run(self, what: str, n_jobs: int = 1) -> tuple[float, float, float, object]:
        """Let a party do its work; return seconds, megabytes of its own and with workers, and its result."""
        with self.start(what, n_jobs) as child:
            said, _ = child.communicate()
        seconds, own, together, result = json.loads(said)
        return seconds, own, together, result

    def encrypted(self) -> bytes:
        """What there is of ciphertexts, whole or begun."""
        found = [*self.folder.glob("contributor/*.ct"), *self.folder.glob("contributor/*.ct.part")]
        return found[0].read_bytes() if found else b""

    def close(self) -> None:
        self.chain.close()


def speed(folder: Path) -> list[Row]:
    """One table, contributed with one process and with two, and fetched by somebody else."""
    lines = []
    for n_jobs in (1, 2):
        world = World(folder / f"jobs{n_jobs}", ROWS, SEED)
        if n_jobs == 1:
            csv = (world.folder / "rows.csv").stat().st_size / 1e6
            lines.append(fact("raw csv", f"{ROWS:,} rows × {len(SCHEMA)} columns, {csv:.1f} MB"))
        seconds, own, together, text = world.run("contributor", n_jobs)
        ref = DatasetRef.from_json(str(text))
        name = f"csv to listed ciphertext, n_jobs={n_jobs}"
        lines.append(at_most(name, seconds, SECONDS, "s"))
        lines.append(at_most("  peak memory, all its processes", together, MEGABYTES, "MB"))
        if n_jobs == 1:
            lines.append(fact("  ciphertext", f"{ref.size / 1e6:.1f} MB"))
            lines.append(fact("  the same call again", f"{world.run('contributor')[0]:.2f} s"))
            (world.folder / "ref.json").write_text(ref.to_json())
            seconds, own, *_ = world.run("consumer")
            lines.append(at_most("fetch and verify", seconds, FETCH_SECONDS, "s"))
            lines.append(fact("  peak memory", f"{own:,.0f} MB"))
        world.close()
    return lines


def kills(folder: Path) -> list[Row]:
    """Kill contributions at random moments, and see what the next call makes of it."""
    rng = random.Random(SEED)
    world = World(folder / "whole", KILLED_ROWS, SEED)
    whole = world.run("contributor")[0]
    world.close()
    done, cut, lost, changed, uploads, at_work = 0, 0, 0, 0, 0, 0.0
    while cut < KILLS:
        world = World(folder / f"killed{done}", KILLED_ROWS, SEED + done)
        ref, kept = None, b""
        while ref is None:
            child = world.start("contributor")
            started = time.perf_counter()
            if cut < KILLS:
                try:
                    child.wait(rng.uniform(0, whole))
                except subprocess.TimeoutExpired:
                    os.kill(child.pid, signal.SIGKILL)
                    cut += 1
            said, _ = child.communicate()
            at_work += time.perf_counter() - started
            if child.returncode == 0:
                ref = DatasetRef.from_json(json.loads(said)[-1])
                continue
            found = world.encrypted()
            # one that was being written may go; all go when the contribution is listed and noted
            lost += 0 < len(found) < len(kept) - LARGEST
            kept = max(kept, found, key=len)
        done += 1
        consumer = DataClient(
            chain=world.chain,
            account=world.chain.account("reader"),
            storage=f"file://{world.folder}/store",
            index=world.index,
            workdir=world.folder / "reader",
        )
        stored = consumer.store.get(ref.root)
        changed += storage_root(stored) != ref.root or consumer.find() != [ref]
        changed += not stored.startswith(kept[:-LARGEST])
        uploads += len(consumer.find())
        world.close()
    return [
        fact("one contribution, whole", f"{KILLED_ROWS:,} rows, {whole:.1f} s"),
        fact("kills (SIGKILL at random moments)", cut),
        fact("contributions that were killed and taken up", f"{done}, {at_work:.1f} s of work in all"),
        fact("uploads on chain", uploads, done, uploads == done),
        fact("ciphertexts that were there and went", lost, 0, lost == 0),
        fact("roots or ciphertexts that differ", changed, 0, changed == 0),
    ]


if __name__ == "__main__":
    machine("pandas", "tenseal", "pyarrow", seed=SEED)
    with tempfile.TemporaryDirectory(prefix="twopm-bench-") as place:
        bars(speed(Path(place)), "A table through the data service")
        bars(kills(Path(place)), "Interrupted")
