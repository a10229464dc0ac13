"""Boosted trees on encrypted rows, beside the usual operators of CKKS vectors on the same bits.

Run as a script: prints two tables and the bar. One process, one thread; the seed is fixed; rows are the
breast-cancer table repeated. The usual code packs rows into slots as well, and goes up each tree from its
leaves with ``right + bit * (left - right)``, every operator relinearising and rescaling by itself. It avoids
``1 - bit``, which alone takes tens of milliseconds in TenSEAL and would flatter the ratio. "end to end" is
encode, encrypt, save, load, compute, save, load, decrypt, with flooding; the usual code neither floods nor
touches files.
"""

import sys
import tempfile
import time
from pathlib import Path
from statistics import median

import numpy as np
import tenseal
from report import at_least, bars, compare, machine, show
from sklearn.datasets import load_breast_cancer
from sklearn.ensemble import GradientBoostingClassifier
from sklearn.model_selection import train_test_split

from twopm_kit import fhe
from twopm_kit.fhe.models.trees import GradientBoosting

SEED = 7
REPEATS = 5
TREES = 10


def task(depth: int, rows: int, trees: int = TREES):
    """Fitted trees, training rows, rows that they have not seen (repeated) and their labels."""
    x, y = load_breast_cancer(return_X_y=True, as_frame=True)
    x, test, y, truth = train_test_split(x, y, test_size=0.3, random_state=SEED, stratify=y)
    fitted = GradientBoostingClassifier(n_estimators=trees, max_depth=depth, random_state=SEED).fit(x, y)
    order = np.arange(rows) % len(test)
    return fitted, x, test.iloc[order], truth.to_numpy()[order]


def operators(depth: int, rows: int) -> dict[str, object]:
    """Operators of CKKSVector with all rows in its slots; one row is how tutorials begin."""
    fitted, _, x, _ = task(depth, rows)
    model = GradientBoosting.from_sklearn(fitted)
    context = tenseal.context(tenseal.SCHEME_TYPE.CKKS, 8192, -1, [50, 30, 30, 30, 50], n_threads=1)
    context.global_scale = 2**30
    bits = model.encode(x)
    numbers = {
        (list(x.columns).index(feature), threshold): i
        for i, (_, feature, threshold) in enumerate(model.predicates.itertuples(index=False))
    }
    start = time.perf_counter()
    contents = [tenseal.ckks_vector(context, bits[name].tolist()).serialize() for name in bits]
    vectors = [tenseal.ckks_vector_from(context, content) for content in contents]
    middle = time.perf_counter()
    total = None
    for member in fitted.estimators_.ravel():
        value = climb(member.tree_, 0, fitted.learning_rate, vectors, numbers)
        total = value if total is None else total + value
    end = time.perf_counter()
    opened = np.array(tenseal.ckks_vector_from(context, total.serialize()).decrypt())
    whole = time.perf_counter() - start
    clear = fitted.decision_function(x)
    base = clear - sum(fitted.learning_rate * m.predict(x.to_numpy()) for m in fitted.estimators_.ravel())
    sent = sum(map(len, contents))
    error = np.abs(opened + base - clear).max()
    return row_of("TenSEAL operators", depth, rows, end - middle, whole, sent, error)


def climb(tree, node: int, rate: float, vectors: list, numbers: dict):
    """Value of a subtree: a number in a leaf, a vector above."""
    if tree.children_left[node] < 0:
        return rate * float(tree.value[node, 0, 0])
    left = climb(tree, tree.children_left[node], rate, vectors, numbers)
    right = climb(tree, tree.children_right[node], rate, vectors, numbers)
    split = (int(tree.feature[node]), float(tree.threshold[node]))
    if split not in numbers:  # both sides are the same number
        return left
    if isinstance(left, float) and not isinstance(right, float):
        return vectors[numbers[split]] * -(right - left) + right  # a number minus a vector is slow
    return vectors[numbers[split]] * (left - right) + right


def ours(depth: int, hidden: bool = False) -> dict[str, object]:
    """The kit: predicate bits, or hidden comparisons."""
    profile = "deep" if hidden else "trees"
    rows = fhe.PROFILES[profile].slots
    fitted, training, x, truth = task(depth, rows)
    model = GradientBoosting.from_sklearn(fitted, calibration=training)
    holder = fhe.KeyHolder.generate(profile, budget=1_000_000)
    evaluator = holder.evaluator()
    compute, whole = [], []
    with tempfile.TemporaryDirectory(dir="/dev/shm" if Path("/dev/shm").is_dir() else None) as folder:
        up, down = Path(folder) / "up.ct", Path(folder) / "down.ct"
        for _ in range(1 if hidden else REPEATS):
            start = time.perf_counter()
            holder.encrypt(model.encode(x, hidden=hidden)).save(up)
            received = fhe.EncryptedFrame.load(up, key=evaluator)
            middle = time.perf_counter()
            scores = model.decision_function(received)
            compute.append(time.perf_counter() - middle)
            scores.save(down)
            opened = np.asarray(holder.decrypt(fhe.EncryptedFrame.load(down, key=holder))).ravel()
            whole.append(time.perf_counter() - start)
        sent = up.stat().st_size
    clear = fitted.decision_function(x)
    error = np.abs(opened - clear).max()
    name = "twopm_kit, hidden" if hidden else "twopm_kit, bits"
    return row_of(name, depth, rows, median(compute), median(whole), sent, error) | {
        "same class": f"{(model.classes_of(opened) == fitted.predict(x)).sum():,} of {rows:,}",
        "accuracy": float((model.classes_of(opened) == truth).mean()),
        "in clear": float((fitted.predict(x) == truth).mean()),
    }


def row_of(
    name: str, depth: int, rows: int, compute: float, whole: float, sent: int, error: float
) -> dict[str, object]:
    return {
        "code": name,
        "trees": f"{TREES}×{depth}",
        "rows": rows,
        "compute rows/s": rows / compute,
        "end to end rows/s": rows / whole,
        "KB up a row": sent / rows / 1024,
        "largest error": error,
    }


def main() -> None:
    """Print the tables and the bar, with the machine, versions and the seed."""
    machine("tenseal", "scikit-learn", "twopm-kit", seed=SEED, threads=1)
    rows = [operators(3, 4096), operators(3, 1), ours(3), ours(2), ours(4)]
    compare(rows, "compute rows/s", "end to end rows/s")
    show(rows, "Bits of the predicates; × against the operators on 4,096 rows of trees of depth 3")
    hidden = [ours(1, hidden=True), ours(2, hidden=True)]
    show(hidden, "Hidden comparisons; accuracy on rows that the trees have not seen")
    bars([at_least(f"trees {TREES}×3, bits", rows[2]["compute rows/s"], 15_000, "rows/s")])


if __name__ == "__main__":
    sys.exit(main())
