"""Best ten of 4,096 items for an encrypted user, beside the usual TenSEAL code on the same items.

Run as a script: prints a table and the bars. One process, one thread; the seed is fixed. "server" is scoring
alone, once keys are loaded and items are encoded, as the "first answer" does. "end to end" is encrypt, save,
load, score, save, load, decrypt, take the best ten. The usual code has two ways: ``vector.dot(item)`` for
each item, run on a part of the items and its time multiplied, as the table says; and ``vector.mm(matrix)`` on
all of them, whose time hardly depends on their number.
"""

import sys
import tempfile
import time
from pathlib import Path
from statistics import median

import numpy as np
import tenseal
from report import at_most, bars, compare, fact, machine, show

from twopm_kit import fhe
from twopm_kit.fhe.models.recommend import Recommender

SEED = 7
ITEMS, WIDTH, BEST = 4096, 64, 10
REPEATS = 9
DOT_ITEMS = 16
MILLISECONDS = 60


def task(items: int) -> tuple[np.ndarray, np.ndarray]:
    """Item vectors, and a user between them."""
    rng = np.random.default_rng(SEED)
    vectors = rng.normal(size=(items, WIDTH)) / np.sqrt(WIDTH)
    return vectors, vectors[rng.integers(0, DOT_ITEMS, 20)].mean(axis=0)


def row_of(name, items, keys, up, server, whole, error, exact, first=None):
    return {
        "code": name,
        "items": items,
        "keys, MB": keys / 1e6,
        "bytes up": up,
        "server, ms": 1e3 * server,
        "first answer, ms": first and 1e3 * first,
        "end to end, ms": 1e3 * whole,
        "largest error": error,
        "best ten": "exact" if exact else "differ",
    }


def best(scores: np.ndarray) -> list[int]:
    return np.argsort(-scores, kind="stable")[:BEST].tolist()


def tutorial(name: str, measured: int) -> dict[str, object]:
    """One CKKSVector for the user; the first ``measured`` items, times scaled to all of them."""
    vectors, user = task(ITEMS)
    part = vectors[:measured]
    context = tenseal.context(tenseal.SCHEME_TYPE.CKKS, 8192, -1, [60, 40, 40, 60], n_threads=1)
    context.global_scale = 2**40
    context.generate_galois_keys()
    content = context.serialize()
    public = tenseal.context_from(content, n_threads=1)
    start = time.perf_counter()  # what happens once, however many items there are
    sent = tenseal.ckks_vector(context, user.tolist()).serialize()
    vector = tenseal.ckks_vector_from(public, sent)
    middle = time.perf_counter()
    whole_table = name == "mm"
    answers = [vector.mm(part.T.tolist())] if whole_table else [vector.dot(v.tolist()) for v in part]
    server = time.perf_counter() - middle
    opened = [tenseal.ckks_vector_from(context, answer.serialize()).decrypt() for answer in answers]
    rest = time.perf_counter() - middle
    scores = np.concatenate(opened)[:measured]
    clear = part @ user
    scale = ITEMS / measured
    return row_of(
        f"TenSEAL {name}" + (f", {measured} items, time × {scale:.0f}" if measured < ITEMS else ""),
        ITEMS,
        len(content),
        len(sent),
        server * scale,
        middle - start + rest * scale,
        np.abs(scores - clear).max(),
        best(scores) == best(clear),
    )


def kit(items: int) -> dict[str, object]:
    """Score with the kit: blocks, diagonals, baby and giant steps."""
    vectors, user = task(items)
    clear = vectors @ user
    recommender = Recommender(vectors)
    plan = recommender.plan()
    holder = fhe.KeyHolder.generate("linear")
    public = fhe.Evaluator.from_bytes(holder.evaluator(rotations=recommender.rotations).to_bytes())
    server, whole, errors, same = [], [], [], []
    with tempfile.TemporaryDirectory(dir="/dev/shm" if Path("/dev/shm").is_dir() else None) as folder:
        up, down = Path(folder) / "up.ct", Path(folder) / "down.ct"
        for _ in range(REPEATS + 1):  # the first encodes the items and loads the keys
            start = time.perf_counter()
            holder.encrypt(user.reshape(1, -1), plan=plan).save(up)
            received = fhe.EncryptedFrame.load(up, public)
            middle = time.perf_counter()
            scores = recommender.score(received)
            server.append(time.perf_counter() - middle)
            scores.save(down)
            opened = holder.decrypt(fhe.EncryptedFrame.load(down, holder))
            found = recommender.top(opened, BEST)
            whole.append(time.perf_counter() - start)
            errors.append(np.abs(np.asarray(opened).ravel() - clear).max())
            same.append(found["item"].tolist() == best(clear))
        sent = up.stat().st_size
    return row_of(
        f"twopm_kit, {items} items",
        items,
        len(public.to_bytes()),
        sent,
        median(server[1:]),
        median(whole[1:]),
        max(errors),
        all(same),
        first=server[0],
    )


def main() -> None:
    """Print the table and the bars, with the machine, versions and the seed."""
    machine("tenseal", "numpy", "twopm-kit", seed=SEED, threads=1)
    rows = [tutorial("dot", DOT_ITEMS), tutorial("mm", ITEMS), kit(ITEMS), kit(4 * ITEMS)]
    show(compare(rows, "server, ms", "end to end, ms"), f"best {BEST}, {WIDTH} dimensions")
    _, mm, ours, _ = rows
    work = f"{ITEMS:,} × {WIDTH}"
    bars(
        [
            at_most(f"{work}, after keys", ours["server, ms"], MILLISECONDS, "ms"),
            fact(f"{work}, best {BEST}", ours["best ten"], "exact", ours["best ten"] == "exact"),
            fact(f"{work}, beside mm", f"{mm['server, ms'] / ours['server, ms']:.1f}×"),
        ]
    )


if __name__ == "__main__":
    sys.exit(main())
