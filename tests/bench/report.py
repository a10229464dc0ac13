"""What all benchmarks print alike: the machine, tables with ratios, and bars that are met or not."""

import os
import platform
from collections.abc import Iterable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

Row = dict[str, Any]


def processor() -> str:
    """Name of the processor, where the system tells it."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    named = (line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    return next(named, platform.processor() or platform.machine())


def machine(*packages: str, seed: int | None = None, threads: int | None = None) -> None:
    """Print processor, cores, load, system, versions of Python and of some packages, and the seed."""
    used = "" if threads is None else f", {threads} thread{'s' * (threads > 1)} used"
    print(f"{processor()}, {os.cpu_count()} cores seen{used}; load {os.getloadavg()[0]:.1f} at the start")
    versions = [f"{name} {version(name)}" for name in packages]
    drawn = [] if seed is None else [f"seed {seed}"]
    python = f"{platform.system()} {platform.release()}, Python {platform.python_version()}"
    print(", ".join([python, *versions, *drawn]), end="\n\n")


def text(value: object) -> str:
    """Text of a cell: three digits of a number are enough, a ratio or an error needs no more."""
    if isinstance(value, int | np.integer):
        return f"{value:,}"
    if not isinstance(value, float | np.floating):
        return "–" if value is None else str(value)
    size = abs(float(value))
    if size >= 100:
        return f"{value:,.0f}"
    return f"{value:.1e}" if 0 < size < 1e-3 else f"{value:.3g}"


def compare(rows: list[Row], *names: str, base: int = 0) -> list[Row]:
    """Add how many times better than the base each row is: more of a rate ("…/s"), less of all else."""
    for name in names:
        for row in rows:
            mine, theirs = row[name], rows[base][name]
            row[f"{name}, ×"] = mine / theirs if name.endswith("/s") else theirs / mine
    return rows


def show(rows: Iterable[Row], caption: str = "") -> None:
    """Print what was measured, a column for each row; its first field is the heading."""
    table = pd.DataFrame([{name: text(value) for name, value in row.items()} for row in rows])
    table = table.fillna("–").set_index(table.columns[0])
    print(
        *([caption] if caption else []), table.T.rename_axis(columns=None).to_string(), sep="\n", end="\n\n"
    )


def at_most(work: str, measured: float, bar: float, unit: str = "") -> Row:
    """Row of `bars` for a quantity of which less is better."""
    return _bar(work, measured, "≤", bar, unit, measured <= bar)


def at_least(work: str, measured: float, bar: float, unit: str = "") -> Row:
    """Row of `bars` for a quantity of which more is better."""
    return _bar(work, measured, "≥", bar, unit, measured >= bar)


def fact(work: str, measured: object, bar: object = "", met: bool | None = None) -> Row:
    """Row of `bars` in words of its own; without a bar, ``met`` stays empty."""
    return {"work": work, "measured": text(measured), "bar": str(bar), "met": _MET[met]}


def bars(rows: Iterable[Row], caption: str = "") -> None:
    """Print what was asked beside what was measured; a bar that is not met is told, nothing fails."""
    print(*([caption] if caption else []), pd.DataFrame(rows).to_string(index=False), sep="\n", end="\n\n")


_MET = {True: "yes", False: "NO", None: ""}


def _bar(work: str, measured: float, sign: str, bar: float, unit: str, met: bool) -> Row:
    unit = unit if unit in ("", "×") else f" {unit}"
    return fact(work, f"{text(measured)}{unit}", f"{sign} {text(bar)}{unit}", bool(met))
