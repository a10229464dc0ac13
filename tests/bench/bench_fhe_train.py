"""Training on encrypted rows, beside the usual loop of one ciphertext a row and beside the rules in clear.

Run as a script: prints three tables. One process, one thread; seeds are fixed. The usual loop is measured on
a few rows and scaled to all: its time is proportional to the rows. An epoch is what five epochs take longer
than one does, divided by four; it holds the server's and the opener's part.
"""

import os
import sys
import time
from statistics import median

os.environ["TQDM_DISABLE"] = "1"

import numpy as np
import pandas as pd
import statsmodels.api as sm
import tenseal
from report import at_least, at_most, bars, compare, fact, machine, show
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
#: Public bound of the targets of least squares; without it they would get 64.
BOUND = 32.0


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
        "weights off by": max(errors),
        "test accuracy": clear.score(test, held),
        "the same as in clear": "yes" if agree else "NO",
        "encrypting (s)": median(encrypting),
    }


def least_squares(name: str, bound: float | None) -> dict[str, object]:
    """4,096 rows of 30 columns: encrypt, multiply, open, solve. Medians over seeds, and the worst error."""
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
    table = pd.DataFrame(found, columns=["in all (s)", "encrypting (s)", "fit (s)", "off by", "openings"])
    worst = {"off by": table["off by"].max(), "openings": int(table["openings"].max())}
    return {"code": name} | table.median().to_dict() | worst


def poisson() -> dict[str, object]:
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
    return {
        "code": "20,190 × 9, Poisson",
        "encrypting (s)": middle - start,
        f"fit, {model.epochs} steps (s)": spent,
        "off the rule in clear": np.abs(model.coef_ - clear.coef_).max(),
        "off scikit-learn": np.abs(model.coef_ - theirs.coef_).max(),
        "largest weight": np.abs(theirs.coef_).max(),
        "deviance explained": f"{model.score(x, y):.5f} ({theirs.score(x, y):.5f})",
    }


def main() -> None:
    machine("tenseal", "scikit-learn", "numpy", "twopm-kit", seed=SEED, threads=1)
    a_row = tutorial()
    kit = [logistic("plain"), logistic("encrypted")]
    usual = {
        "code": f"TenSEAL, one row a vector (scaled from {TUTORIAL_ROWS} rows)",
        "rows": kit[0]["rows"],
        "an epoch (s)": a_row * kit[0]["rows"],
    }
    show(compare([usual, *kit], "an epoch (s)"), "Logistic regression, an epoch")
    squares = [least_squares("least squares", BOUND), least_squares("the same, automatic bound", None)]
    show(squares, "4,096 rows of 30 columns")
    show([poisson()])
    asked = []
    for one in kit:
        same = one["the same as in clear"]
        asked += [
            at_least(f"{one['code']}, an epoch", one["an epoch (s), ×"], 300, "×"),
            at_most(f"{one['code']}, weights off by", one["weights off by"], 1e-5),
            fact(f"{one['code']}, accuracy as in clear", same, "yes", same == "yes"),
        ]
    for one in squares:
        asked += [
            at_most(f"{one['code']}, in all", one["in all (s)"], 1.5, "s"),
            at_most(f"{one['code']}, off by", one["off by"], 1e-8),
        ]
    bars(asked)


if __name__ == "__main__":
    sys.exit(main())
