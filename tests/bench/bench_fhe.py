"""Logistic inference on encrypted rows, beside the usual one-ciphertext-a-row code on the same rows.

Run as a script: prints one table. One process, one thread; the seed is fixed; rows are the breast-cancer
table repeated. "end to end" is encrypt, save, load, compute, save, load, decrypt.
"""

import os
import platform
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path
from statistics import median

import numpy as np
import pandas as pd
import tenseal
from sklearn.datasets import load_breast_cancer
from sklearn.linear_model import LogisticRegression as Clear
from sklearn.preprocessing import StandardScaler

from twopm_kit import fhe

SEED = 7
REPEATS = 7
TUTORIAL_ROWS = 24


def processor() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), "unknown")


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
    table = pd.DataFrame(
        [tutorial(TUTORIAL_ROWS), columns(569, "real"), columns(4096, "real"), columns(8192, "complex")]
    ).set_index("code")
    for what in ("compute", "end to end"):
        table[f"{what} ×"] = table[f"{what} rows/s"] / table[f"{what} rows/s"].iloc[0]
    print(f"{processor()}, {os.cpu_count()} cores seen, one thread used; Python {platform.python_version()}")
    versions = ", ".join(f"{name} {version(name)}" for name in ("tenseal", "numpy", "twopm-kit"))
    print(f"{versions}, seed {SEED}")
    shown = table.copy()
    for name in shown.columns:
        digits = "{:.1e}" if name == "largest error" else "{:,.0f}"
        shown[name] = shown[name].map(digits.format)
    print(shown.T.to_string())


if __name__ == "__main__":
    sys.exit(main())
