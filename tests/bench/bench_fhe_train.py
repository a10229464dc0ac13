"""Training on encrypted rows, beside the usual loop of one ciphertext a row and beside the rules in clear.

Run as a script: prints three tables. One process, one thread; seeds are fixed. The usual loop is measured on
a few rows and scaled to all: its time is proportional to the rows. An epoch is what five epochs take longer
than one does, divided by four; it holds the server's and the opener's part.
"""

import os
import platform
import sys
import time
from importlib.metadata import version
from pathlib import Path
from statistics import median

os.environ["TQDM_DISABLE"] = "1"

import numpy as np
import pandas as pd
import statsmodels.api as sm
import tenseal
from sklearn.datasets import load_breast_cancer
from sklearn.linear_model import PoissonRegressor
from sklearn.model_selection import train_test_split
from sklearn.preprocessing import StandardScaler

from twopm_kit import fhe
from twopm_kit.fhe.models.linear import LinearRegression, LogisticRegression, PoissonRegression

SEED = 7
REPEATS = 5
TUTORIAL_ROWS = 6
EPOCHS = 5
#: Public bound of the targets of least squares; without it they would get 256, and four bits less.
BOUND = 32.0


def processor() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), "unknown")


def tumours():
    """Standardised rows and labels, for training and for testing."""
    x, y = load_breast_cancer(return_X_y=True)
    train, test, wanted, held = train_test_split(x, y, test_size=0.3, random_state=0, stratify=y)
    scaler = StandardScaler().fit(train)
    return scaler.transform(train), scaler.transform(test), wanted, held


def tutorial() -> float:
    """Seconds a row of an epoch: one CKKSVector a row, as tutorials show it, weights encrypted."""
    x, _, y, _ = tumours()
    bits = [40, 21, 21, 21, 21, 21, 21, 40]
    context = tenseal.context(tenseal.SCHEME_TYPE.CKKS, 8192, -1, bits, n_threads=1)
    context.global_scale = 2**21
    context.generate_galois_keys()
    rows = [tenseal.ckks_vector(context, row.tolist()) for row in x[:TUTORIAL_ROWS]]
    labels = [tenseal.ckks_vector(context, [float(label)]) for label in y[:TUTORIAL_ROWS]]
    weight = tenseal.ckks_vector(context, [0.01] * x.shape[1])
    bias = tenseal.ckks_vector(context, [0.0])
    step, step_bias, times = 0, 0, []
    for row, label in zip(rows, labels, strict=True):
        start = time.perf_counter()
        out = (row.dot(weight) + bias).polyval([0.5, 0.197, 0, -0.004])
        rest = out - label
        step += row * rest
        step_bias += rest
        times.append(time.perf_counter() - start)
    return median(times)


def logistic(weights: str) -> dict[str, object]:
    """The kit: one feature a ciphertext, sums opened."""
    x, test, y, held = tumours()
    holder = fhe.KeyHolder.generate("train", budget=1_000_000)
    clear = LogisticRegression(EPOCHS).fit_clear(x, y)
    encrypting, epochs, errors, agree = [], [], [], True
    for _ in range(REPEATS):
        start = time.perf_counter()
        enc_x, enc_y = holder.encrypt(x), holder.encrypt(y)
        encrypting.append(time.perf_counter() - start)
        spent = {}
        for count in (1, EPOCHS):
            model = LogisticRegression(count, weights=weights)
            start = time.perf_counter()
            model.fit(enc_x, enc_y, opener=holder)
            spent[count] = time.perf_counter() - start
        epochs.append((spent[EPOCHS] - spent[1]) / (EPOCHS - 1))
        errors.append(
            max(np.abs(model.coef_ - clear.coef_).max(), np.abs(model.intercept_ - clear.intercept_)[0])
        )
        agree &= model.score(test, held) == clear.score(test, held)
    return {
        "code": f"twopm_kit, {weights} weights",
        "rows": len(x),
        "an epoch (s)": median(epochs),
        "weights off by": f"{max(errors):.1e}",
        "test accuracy": f"{clear.score(test, held):.4f}, {'the same' if agree else 'NOT the same'}",
        "encrypting (s)": f"{median(encrypting):.2f}",
    }


def least_squares() -> pd.DataFrame:
    """4,096 rows of 30 columns: encrypt, multiply, open, solve. Targets with a close bound, and without."""
    return pd.DataFrame([_squares("4,096 × 30", BOUND), _squares("the same, automatic bound", None)])


def _squares(name: str, bound: float | None) -> pd.Series:
    """Medians of one fit for each seed, and the worst error of them."""
    holder = fhe.KeyHolder.generate("linear", budget=1_000_000)
    found = []
    for seed in range(SEED, SEED + REPEATS):
        rng = np.random.default_rng(seed)
        x = rng.standard_normal((4096, 30))
        y = x @ rng.standard_normal(30) + 0.3 + 0.1 * rng.standard_normal(4096)
        wanted = np.linalg.lstsq(np.c_[x, np.ones(len(x))], y, rcond=None)[0]
        start = time.perf_counter()
        enc_x, enc_y = holder.encrypt(x), holder.encrypt(y, bounds=bound)
        middle, before = time.perf_counter(), holder.ledger.used
        model = LinearRegression().fit(enc_x, enc_y, opener=holder)
        end = time.perf_counter()
        off = max(np.abs(model.coef_ - wanted[:30]).max(), abs(model.intercept_ - wanted[30]))
        found.append((end - start, middle - start, end - middle, off, holder.ledger.used - before))
    columns = ["in all (s)", "encrypting (s)", "fit (s)", f"off by, worst of {REPEATS} seeds", "openings"]
    table = pd.DataFrame(found, columns=columns)
    line = table.median().astype(object)
    line[columns[3]] = f"{table[columns[3]].max():.1e}"
    return line.rename(name)


def poisson() -> pd.DataFrame:
    """Visits to a doctor, RAND health insurance experiment: 20,190 rows of 9 columns."""
    data = sm.datasets.randhie.load_pandas()
    x = (data.exog - data.exog.mean()) / data.exog.std()
    y = data.endog.astype(float)
    holder = fhe.KeyHolder.generate("train", budget=1_000_000)
    start = time.perf_counter()
    enc_x, enc_y = holder.encrypt(x), holder.encrypt(y.to_frame())
    middle = time.perf_counter()
    model = PoissonRegression().fit(enc_x, enc_y, opener=holder)
    spent = time.perf_counter() - middle
    clear = PoissonRegression().fit_clear(x, y)
    theirs = PoissonRegressor(alpha=0.0, max_iter=500, tol=1e-9).fit(x, y)
    return pd.DataFrame(
        {
            "encrypting (s)": f"{middle - start:.2f}",
            f"fit, {model.epochs} steps (s)": f"{spent:.2f}",
            "off the rule in clear": f"{np.abs(model.coef_ - clear.coef_).max():.1e}",
            "off scikit-learn": f"{np.abs(model.coef_ - theirs.coef_).max():.1e}",
            "largest weight": f"{np.abs(theirs.coef_).max():.2f}",
            "deviance explained": f"{model.score(x, y):.5f} ({theirs.score(x, y):.5f})",
        },
        index=["20,190 × 9, Poisson"],
    )


def main() -> None:
    print(f"{processor()}, {os.cpu_count()} cores seen, one thread used; Python {platform.python_version()}")
    versions = ", ".join(f"{name} {version(name)}" for name in ("tenseal", "numpy", "twopm-kit"))
    print(f"{versions}, seed {SEED}\n")
    a_row = tutorial()
    rows = [logistic("plain"), logistic("encrypted")]
    usual = {
        "code": f"TenSEAL, one row a vector (scaled from {TUTORIAL_ROWS} rows)",
        "rows": rows[0]["rows"],
        "an epoch (s)": a_row * rows[0]["rows"],
    }
    table = pd.DataFrame([usual, *rows]).set_index("code")
    table["× faster"] = (usual["an epoch (s)"] / table["an epoch (s)"]).map("{:,.0f}".format)
    table["an epoch (s)"] = table["an epoch (s)"].map("{:.3f}".format)
    print("Logistic regression, an epoch\n" + table.fillna("").T.to_string() + "\n")
    print(least_squares().T.to_string() + "\n")
    print(poisson().T.to_string())


if __name__ == "__main__":
    sys.exit(main())
