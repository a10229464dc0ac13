"""Rebuilds every bundled table and the checksum index, byte for byte: ``python data/make_data.py``.

Measured tables are written from the copies inside scikit-learn. Synthetic tables are drawn from fixed seeds
and rounded to a few decimals, so that the last bits of a processor's arithmetic cannot change a file.
``spector`` is not copied: its author keeps the rights, so only its checksum is recorded here and the kit
reads it from the installed statsmodels package, which carries it with the author's permission.
"""

import argparse
import csv
import hashlib
import io
import json
from collections.abc import Callable, Iterable, Sequence
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from sklearn import datasets as sk

HERE = Path(__file__).resolve().parent

# The wages table is drawn from this model, so that a regression can be compared with the truth.
WAGES_SEED = 20_170_704
WAGES_ROWS = 1_200
WAGES_INTERCEPT = 1.55
WAGES_COEFFICIENTS = {
    "schooling": 0.085,
    "experience": 0.042,
    "experience_squared": -0.00065,
    "tenure": 0.011,
    "urban": 0.09,
    "manager": 0.24,
}
WAGES_NOISE = 0.22

# The ratings table: users and items live in a space of three tastes.
RATINGS_SEED = 20_190_418
RATINGS_USERS = 240
RATINGS_ITEMS = 80
RATINGS_TASTES = 3


def _csv(header: Sequence[str], rows: Iterable[Sequence[object]]) -> bytes:
    """Return a table as UTF-8 CSV with Unix line ends and the shortest exact decimals."""
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(rows)
    return text.getvalue().encode()


def breast_cancer() -> bytes:
    """Return the 569 cell samples with 30 measurements and the diagnosis."""
    bunch = sk.load_breast_cancer()
    names = [str(name).replace(" ", "_") for name in bunch.feature_names]
    rows = (
        [*(repr(float(value)) for value in features), int(target)]
        for features, target in zip(bunch.data, bunch.target, strict=True)
    )
    return _csv([*names, "target"], rows)


def digits() -> bytes:
    """Return the 1,797 images of 8×8 grey values and the digit that they show."""
    bunch = sk.load_digits()
    names = [f"pixel_{row}_{column}" for row in range(8) for column in range(8)]
    rows = (
        [*(int(value) for value in pixels), int(target)]
        for pixels, target in zip(bunch.data, bunch.target, strict=True)
    )
    return _csv([*names, "target"], rows)


def wages() -> bytes:
    """Return a synthetic table of hourly wages drawn from a Mincer earnings equation."""
    rng = np.random.default_rng(WAGES_SEED)
    n = WAGES_ROWS
    schooling = np.clip(np.rint(rng.normal(12.5, 2.8, n)), 6, 20).astype(int)
    age = rng.integers(20, 65, n)
    experience = np.clip(age - schooling - 6, 0, None)
    tenure = np.rint(experience * rng.beta(1.2, 2.6, n)).astype(int)
    urban = rng.binomial(1, 0.62, n)
    manager = rng.binomial(1, np.where((schooling >= 14) & (experience >= 5), 0.30, 0.06))
    truth = WAGES_COEFFICIENTS
    log_wage = (
        WAGES_INTERCEPT
        + truth["schooling"] * schooling
        + truth["experience"] * experience
        + truth["experience_squared"] * experience**2
        + truth["tenure"] * tenure
        + truth["urban"] * urban
        + truth["manager"] * manager
        + rng.normal(0.0, WAGES_NOISE, n)
    )
    wage = np.exp(log_wage)
    header = ["schooling", "experience", "tenure", "urban", "manager", "wage"]
    columns = zip(schooling, experience, tenure, urban, manager, wage, strict=True)
    return _csv(header, ([*(int(value) for value in row[:-1]), f"{row[-1]:.2f}"] for row in columns))


def ratings() -> bytes:
    """Return synthetic ratings from one to five, one line for each user and item that met."""
    rng = np.random.default_rng(RATINGS_SEED)
    users = rng.normal(0.0, 1.0, (RATINGS_USERS, RATINGS_TASTES))
    items = rng.normal(0.0, 1.0, (RATINGS_ITEMS, RATINGS_TASTES))
    user_bias = rng.normal(0.0, 0.35, RATINGS_USERS)
    item_bias = rng.normal(0.0, 0.45, RATINGS_ITEMS)
    popularity = np.exp(1.5 * item_bias)
    rows: list[list[int]] = []
    for user in range(RATINGS_USERS):
        many = int(rng.integers(12, 33))
        # A user meets popular items more often and likes what fits the user's tastes.
        met = np.sort(rng.choice(RATINGS_ITEMS, size=many, replace=False, p=popularity / popularity.sum()))
        liking = items[met] @ users[user] / np.sqrt(RATINGS_TASTES)
        score = 3.4 + 0.75 * liking + user_bias[user] + item_bias[met] + rng.normal(0.0, 0.35, many)
        stars = np.clip(np.rint(score), 1, 5).astype(int)
        rows += [[user, int(item), int(star)] for item, star in zip(met, stars, strict=True)]
    return _csv(["user", "item", "rating"], rows)


TABLES: dict[str, Callable[[], bytes]] = {
    "breast_cancer": breast_cancer,
    "digits": digits,
    "ratings": ratings,
    "wages": wages,
}

# Tables that another installed package carries: (package, path inside it).
CARRIED = {"spector": ("statsmodels", "datasets/spector/spector.csv")}


def _entry(content: bytes, **where: str) -> dict[str, object]:
    """Return the index entry of one file."""
    rows = content.count(b"\n") - 1
    return {**where, "sha256": hashlib.sha256(content).hexdigest(), "bytes": len(content), "rows": rows}


def build() -> dict[str, bytes]:
    """Return every generated file by name, the index last."""
    files: dict[str, bytes] = {}
    index: dict[str, dict[str, object]] = {}
    for name, make in TABLES.items():
        files[f"{name}.csv"] = make()
        index[name] = _entry(files[f"{name}.csv"], file=f"{name}.csv")
    for name, (package, path) in CARRIED.items():
        spec = find_spec(package)
        if spec is None or spec.origin is None:
            raise SystemExit(f"{package} is not installed: it carries {name}; install it and run again")
        index[name] = _entry((Path(spec.origin).parent / path).read_bytes(), package=package, file=path)
    ordered = {name: index[name] for name in sorted(index)}
    files["index.json"] = (json.dumps({"version": 1, "datasets": ordered}, indent=2) + "\n").encode()
    return files


def main() -> None:
    """Write every file under a temporary name first, then put it in place."""
    parser = argparse.ArgumentParser(description="Rebuild the bundled tables and their checksum index.")
    parser.add_argument("--to", type=Path, default=HERE, help="folder to write into (default: this one)")
    target: Path = parser.parse_args().to
    target.mkdir(parents=True, exist_ok=True)
    for name, content in build().items():
        partial = target / f".{name}.partial"
        partial.write_bytes(content)
        partial.replace(target / name)


if __name__ == "__main__":
    main()
