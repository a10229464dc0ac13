"""A round of the kit beside one of Flower's SecAgg+: run as ``python tests/bench/bench_flower.py``.

Flower is the package ``flwr``, in an environment of its own (build/flower, made once from
tests/bench/flower/requirements.txt). Both sides have the same vectors, neighbours per client, threshold,
clipping and quantisation, and take turns, each in a process of its own; shown are medians, and the median of
the ratios of neighbouring turns. The work of a client is all it computes in a round, of the kit without KZG
commitments. Unmasking is adding the vectors, finding the secrets, making the masks again and taking them
off; of the kit also checking every opened share and the digest of the mask, which Flower does not have.
flower/their_round.py says what exactly is counted of Flower.
"""

import hashlib
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median

import numpy as np
import pandas as pd
from report import machine

ROOT = Path(__file__).resolve().parents[2]
FOLDER = Path(__file__).resolve().parent / "flower"
BUILD = ROOT / "build" / "flower"
SEED = 7
CLIP, VALUE_BITS = 8.0, 16
STEP = 2 * CLIP / 2**VALUE_BITS
MEMORY = 2**30


def environment() -> Path:
    """Python of the environment that has Flower; made again when its pins or this Python change."""
    pins = FOLDER / "requirements.txt"
    want = hashlib.sha256(pins.read_bytes() + sys.version.encode() + str(BUILD).encode()).hexdigest()
    stamp, home = BUILD / "made-from", BUILD / "env"
    python = home / "bin" / "python"
    if python.exists() and stamp.exists() and stamp.read_text() == want:
        return python
    print("Making the environment with Flower in build/flower (once) ...", flush=True)
    stamp.unlink(missing_ok=True)
    for command in (
        [sys.executable, "-m", "venv", "--clear", str(home)],
        [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "-r", str(pins)],
    ):
        made = subprocess.run(command, capture_output=True, text=True)
        if made.returncode:
            print(made.stdout + made.stderr, file=sys.stderr)
            sys.exit("The environment with Flower could not be made. Look at what pip says, and try again.")
    stamp.write_text(want)
    return python


def call(python: Path | str, script: str, **arguments: object) -> dict:
    """Run one round in a fresh process and return what it printed."""
    quiet = {"FLWR_TELEMETRY_ENABLED": "0", "FLWR_HOME": str(BUILD / "home")}
    command = [str(python), str(FOLDER / script), json.dumps(arguments)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, env=os.environ | quiet, check=True)
    result = json.loads(done.stdout)
    if not result["error"] <= STEP:
        sys.exit(f"{script} is wrong: its mean is {result['error']} off, more than a step of {STEP}")
    return result


class Setting:
    """Rounds of both sides with some members, parameters and drop-outs, in turn."""

    def __init__(self, flower: Path, vectors: Path, members: int, parameters: int, drops: int, turns: int):
        common = {"members": members, "parameters": parameters, "drops": drops, "seed": SEED}
        common |= {"clip": CLIP, "value_bits": VALUE_BITS, "vectors": str(vectors)}
        self.ours, self.theirs = [], []
        for _ in range(turns):
            ours = call(sys.executable, "our_round.py", **common)
            graph = {"neighbours": ours["neighbours"], "threshold": ours["threshold"]}
            self.ours.append(ours)
            self.theirs.append(call(flower, "their_round.py", **common, **graph))
        self.parameters = parameters
        self.name = f"n = {members}, k = {graph['neighbours']}, t = {graph['threshold']}, "
        self.name += f"{parameters:,} parameters, {drops or 'no'} drops"

    def ratio(self, work: str, what: str, bar: float = 0) -> dict[str, str]:
        """Row of seconds on both sides, and how many times faster the kit is."""
        pairs = [(ours[what], theirs[what]) for ours, theirs in zip(self.ours, self.theirs, strict=True)]
        times = median(theirs / ours for ours, theirs in pairs)
        cells = (f"{median(side):.3g} s" for side in zip(*pairs, strict=True))
        return self.row(work, *cells, f"{times:.1f}×", f"≥ {bar}×" if bar else "", times >= bar)

    def limit(self, work: str, what: str, unit: str, divisor: float, bar: float) -> dict[str, str]:
        """Row of a quantity on both sides, of which the kit's has a limit."""
        ours, theirs = (median(one[what] for one in side) / divisor for side in (self.ours, self.theirs))
        cells = (f"{value:.3g} {unit}" for value in (ours, theirs))
        return self.row(work, *cells, f"{theirs / ours:.1f}×", f"≤ {bar} {unit}", ours <= bar)

    def row(self, work: str, ours: str, theirs: str, ratio: str, bar: str, met: bool) -> dict[str, str]:
        return {
            "round": self.name,
            "turns": str(len(self.ours)),
            "work": work,
            "twopm_kit": ours,
            "Flower": theirs,
            "Flower / kit": ratio,
            "bar": bar,
            "met": "yes" if met else "NO",
        }


def main() -> None:
    flower = environment()
    with tempfile.TemporaryDirectory(dir=BUILD) as folder:
        # Vector i is what begins at value i: the same numbers for both sides without a file of all vectors.
        vectors = Path(folder) / "values.npy"
        np.save(vectors, np.random.default_rng(SEED).standard_normal(1_000_100, dtype=np.float32))
        plain = Setting(flower, vectors, members=32, parameters=1_000_000, drops=0, turns=3)
        left = Setting(flower, vectors, members=32, parameters=1_000_000, drops=9, turns=3)
        many = Setting(flower, vectors, members=100, parameters=1_000_000, drops=10, turns=3)
        small = Setting(flower, vectors, members=100, parameters=100_000, drops=10, turns=1)
    rows = [
        plain.ratio("one client: keys, shares, masks, opening", "client", 2.5),
        plain.limit("sent by one client, a parameter", "client_up", "bytes", plain.parameters, 4.1),
        left.ratio("adding vectors as they arrive", "add"),
        left.ratio("unmasking", "unmask", 12),
        many.ratio("adding vectors as they arrive", "add"),
        many.ratio("unmasking", "unmask", 40),
        small.limit("whole round in one process", "whole", "s", 1, 20),
        small.limit("its peak memory", "peak", "GiB", MEMORY, 1.5),
    ]
    ours, theirs = plain.ours[0], plain.theirs[0]
    machine(seed=SEED)
    for side in (ours, theirs):
        libraries = ", ".join(f"{name} {version}" for name, version in side["versions"].items())
        print(f"Python {side['python']}: {libraries}")
    print(f"both clip at {CLIP}, round to {VALUE_BITS} bits, and are within a step, {STEP:.2g}, of the mean")
    print(
        "masks: AES-128-CTR in F_r with 128-bit keys here, numpy's Mersenne Twister with a 32-bit seed there"
    )
    for name, part in pd.DataFrame(rows).groupby(["round", "turns"], sort=False):
        print(f"\n{name[0]} (median of {name[1]})")
        print(part.drop(columns=["round", "turns"]).to_string(index=False))


if __name__ == "__main__":
    main()
