"""Logistic inference on encrypted rows, beside the usual one-ciphertext-a-row code on the same rows.

Run as a script: prints two tables. One process, one thread; the seed is fixed; rows are the breast-cancer
table repeated. "end to end" is encrypt, save, load, compute, save, load, decrypt. "bytes up a row" are those
of the saved file: complex packing puts two rows into a slot.
"""

import sys
import tempfile
import time
from pathlib import Path
from statistics import median

import numpy as np
import tenseal
from report import at_least, at_most, bars, compare, machine, show
from sklearn.datasets import load_breast_cancer
from sklearn.linear_model import LogisticRegression as Clear
from sklearn.preprocessing import StandardScaler

from twopm_kit import fhe

SEED = 7
REPEATS = 7
TUTORIAL_ROWS = 24


def task(rows: int):
    """Rows in random order, and the fitted model."""
    x, y = load_breast_cancer(return_X_y=True)
    x = StandardScaler().fit_transform(x)
    fitted = Clear(C=0.1, max_iter=2000).fit(x, y)
    order = np.random.default_rng(SEED).integers(0, len(x), rows)
    return x[order], fitted


def tutorial(rows: int) -> dict[str, object]:
    """One CKKSVector a row, dot product with rotations, as tutorials show it."""
    x, fitted = task(rows)
    weights, intercept = fitted.coef_[0].tolist(), float(fitted.intercept_[0])
    context = tenseal.context(tenseal.SCHEME_TYPE.CKKS, 8192, -1, [60, 40, 40, 60], n_threads=1)
    context.global_scale = 2**40
    context.generate_galois_keys()
    public = tenseal.context_from(context.serialize(), n_threads=1)
    compute, whole, opened, sent = [], [], [], 0
    for row in x:
        start = time.perf_counter()
        content = tenseal.ckks_vector(context, row.tolist()).serialize()
        vector = tenseal.ckks_vector_from(public, content)
        middle = time.perf_counter()
        score = vector.dot(weights) + intercept
        compute.append(time.perf_counter() - middle)
        opened.append(tenseal.ckks_vector_from(context, score.serialize()).decrypt()[0])
        whole.append(time.perf_counter() - start)
        sent = len(content)
    error = np.abs(np.array(opened) - fitted.decision_function(x)).max()
    times = median(compute) * rows, median(whole) * rows
    return row_of("TenSEAL, one row a vector", rows, *times, sent * rows, error)


def columns(rows: int, packing: str) -> dict[str, object]:
    """The kit: one feature a ciphertext."""
    x, fitted = task(rows)
    holder = fhe.KeyHolder.generate("linear", budget=1_000_000)
    model = fhe.LogisticRegression.from_sklearn(fitted)
    model.decision_function(holder.encrypt(x, packing=packing))  # encodes the weights
    compute, whole, sizes, errors = [], [], [], []
    with tempfile.TemporaryDirectory(dir="/dev/shm" if Path("/dev/shm").is_dir() else None) as folder:
        up, down = Path(folder) / "up.ct", Path(folder) / "down.ct"
        for _ in range(REPEATS):
            start = time.perf_counter()
            holder.encrypt(x, packing=packing).save(up)
            received = fhe.EncryptedFrame.load(up)
            middle = time.perf_counter()
            scores = model.decision_function(received)
            compute.append(time.perf_counter() - middle)
            scores.save(down)
            opened = holder.decrypt(fhe.EncryptedFrame.load(down, holder))
            whole.append(time.perf_counter() - start)
            sizes.append(up.stat().st_size)
            errors.append(np.abs(np.asarray(opened).ravel() - fitted.decision_function(x)).max())
    name = f"twopm_kit columns, {packing}"
    return row_of(name, rows, median(compute), median(whole), int(median(sizes)), max(errors))


def row_of(name: str, rows: int, compute: float, whole: float, sent: int, error: float) -> dict[str, object]:
    return {
        "code": name,
        "rows": rows,
        "compute rows/s": rows / compute,
        "end to end rows/s": rows / whole,
        "bytes up a row": sent / rows,
        "largest error": error,
    }


def main() -> None:
    """Print the tables, with the machine, versions and the seed."""
    machine("tenseal", "scikit-learn", "numpy", "twopm-kit", seed=SEED, threads=1)
    rows = [tutorial(TUTORIAL_ROWS), columns(569, "real"), columns(4096, "real"), columns(8192, "complex")]
    compare(rows, "compute rows/s", "end to end rows/s", "bytes up a row")
    show(rows, "logistic regression, 30 features")
    for full in rows[2:]:
        bars(
            [
                at_least("compute", full["compute rows/s, ×"], 5000, "×"),
                at_least("end to end", full["end to end rows/s, ×"], 800, "×"),
                at_most("up, a row", full["bytes up a row"] / 1e3, 0.5, "KB"),
                at_most("largest error", full["largest error"], 1e-6),
            ],
            f"{full['code']}, full slots",
        )


if __name__ == "__main__":
    sys.exit(main())
