"""``drift``: how far the columns of each node are from all nodes together, in figures that tell of no row."""

from collections.abc import Mapping
from typing import Any, Final

import numpy as np
import pandas as pd

from twopm_kit.errors import SchemaError
from twopm_kit.vsies.field import Field
from twopm_kit.vsies.scales import Floats
from twopm_kit.vsies.standard import Standard
from twopm_kit.vsies.statistics import DECILES, Statistics, bins, measured

__all__ = ["DRIFTED", "FEWEST", "SHIFTED", "drift"]

#: Usual limits of the population stability index: N. Siddiqi, Credit Risk Scorecards (Wiley, 2006).
SHIFTED: Final = 0.1
DRIFTED: Final = 0.25
#: With fewer values the figures are chance, and come close to telling of single rows: they are not given.
FEWEST: Final = 20


def drift(reference: Standard, frames: Mapping[str, pd.DataFrame] | pd.DataFrame) -> pd.DataFrame:
    """Compare each column of each node with what is known of all nodes.

    Each node calls it on its own frame and may send the table: it holds counts and distances, never a row,
    and of a column with fewer than 20 values only their number.

    Parameters
    ----------
    reference : Standard
        With the statistics that it was fitted on.
    frames : DataFrame, or mapping of node name to DataFrame
        In their own units, before `Standard.apply`; each must keep the reference's schema.

    Returns
    -------
    pandas.DataFrame
        One line for each node and column:

        ==============  ====================================================================================
        ``node``        name of the node; "here" for a single frame
        ``column``      name of the column
        ``values``      values that are there
        ``missing``     share of values that are missing
        ``psi``         population stability index, Σ (p - q) ln(p / q), over the bins between the
                        reference's deciles, or over categories (shares are smoothed by half a value for each
                        bin)
        ``by_chance``   index to expect of equal data from as few values: (bins - 1)(1/n + 1/N), see
                        B. Yurdakul, Statistical Properties of Population Stability Index (Western Michigan
                        University, 2018)
        ``ks``          Kolmogorov–Smirnov distance at the deciles, a lower limit of the whole one; NaN for
                        categories
        ``mean_shift``  difference of the means in the reference's standard deviations; NaN for categories
        ``verdict``     "stable" below 0.1, "shifted" below 0.25, else "drifted"; "too few" below 20
                        values; "unknown" without a reference
        ==============  ====================================================================================

    Notes
    -----
    Columns with standard "log" are compared after the logarithm. When the statistics have no shares, those of
    the bins follow from the deciles. Where deciles coincide, as they do for whole numbers of few values, the
    deciles leave room: the shares nearest to the node's own are taken, so that the index is a lower limit.

    Raises
    ------
    SchemaError
        ``reference`` is no Standard, or a frame does not keep its schema.
    """
    if not isinstance(reference, Standard):
        raise SchemaError(
            f"reference is a {type(reference).__name__}; expected a Standard",
            hint="pass fit.standard of what fit_standard returned, or Standard.fit(schema, frame)",
        )
    nodes = {"here": frames} if isinstance(frames, pd.DataFrame) else frames
    if not isinstance(nodes, Mapping) or not nodes:
        raise SchemaError(
            f"frames is a {type(nodes).__name__} without a frame; expected a DataFrame, or one for each node",
            hint='pass {"node name": frame}',
        )
    lines = []
    for node, frame in nodes.items():
        valid = reference.schema.validate(frame)
        for field in reference.schema:
            known = reference.statistics.get(field.name)
            lines.append({"node": str(node), "column": field.name, **_line(field, known, valid[field.name])})
    return pd.DataFrame(lines)


def _line(field: Field, known: Statistics | None, column: "pd.Series[Any]") -> dict[str, Any]:
    n, nan = int(column.notna().sum()), float("nan")
    line: dict[str, Any] = {
        "values": n,
        "missing": 1 - n / len(column),
        "psi": nan,
        "by_chance": nan,
        "ks": nan,
    }
    line |= {"mean_shift": nan, "verdict": "unknown"}
    if n < FEWEST:
        return {**line, "verdict": "too few"}
    if known is None:
        return line
    there = column.dropna()
    if field.kind == "category":
        shares = _category_shares(known, there)
    elif field.kind == "bool":
        true = np.array([float(there.mean()), min(max(known.mean, 0.0), 1.0)])
        shares = np.column_stack([1 - true, true])
    else:
        shares = _bin_shares(field, known, measured(field, there))
    if field.kind != "category":
        line["mean_shift"] = _mean_shift(known, measured(field, there))
        line["ks"] = float(np.abs(np.diff(np.cumsum(shares, axis=1), axis=0)).max()) if shares.size else nan
    if shares.size == 0:
        return line
    line["psi"] = psi = _index(shares, n, known.count)
    line["by_chance"] = (shares.shape[1] - 1) * (1 / n + 1 / known.count)
    line["verdict"] = "stable" if psi < SHIFTED else "shifted" if psi < DRIFTED else "drifted"
    return line


def _index(shares: Floats, n: int, known: int) -> float:
    """Return the population stability index of two rows of shares, shape (2, bins)."""
    counts = shares * np.array([[n], [known]]) + 0.5
    here, there = counts / counts.sum(axis=1, keepdims=True)
    return float(np.sum((here - there) * np.log(here / there)))


def _mean_shift(known: Statistics, values: Floats) -> float:
    difference = float(values.mean()) - known.mean
    rounding = 1e-9 * abs(known.mean)
    if known.std > rounding:
        return difference / known.std
    return 0.0 if abs(difference) <= rounding else float(np.copysign(np.inf, difference))


def _category_shares(known: Statistics, there: "pd.Series[Any]") -> Floats:
    """Return shares of the categories here and in the reference, shape (2, categories)."""
    if not known.shares:
        return np.empty((2, 0))
    counts = there.value_counts()
    names = [*known.categories, *(name for name in counts.index if name not in known.categories)]
    here = np.array([counts.get(name, 0) for name in names]) / len(there)
    return np.array([here, [*known.shares, *(0.0,) * (len(names) - len(known.shares))]])


def _bin_shares(field: Field, known: Statistics, values: Floats) -> Floats:
    """Return shares of the bins between deciles here and in the reference, shape (2, bins)."""
    edges = bins(known.quantiles)
    if len(edges) == 0:
        return np.empty((2, 0))
    here = np.bincount(np.searchsorted(edges, values), minlength=len(edges) + 1) / len(values)
    if known.shares:
        return np.array([here, known.shares])
    deciles = np.array([known.quantiles[decile] for decile in DECILES])
    # Up to and with an edge lies at least its last decile; where one value is held often, up to a tenth more
    least = np.array([DECILES[place - 1] for place in np.searchsorted(deciles, edges, side="right")])
    often = field.kind == "int" or len(edges) < len(DECILES)
    most = least + 0.1 if often else least
    below = np.maximum.accumulate(np.clip(np.cumsum(here)[:-1], least, most))
    return np.array([here, np.diff(below, prepend=0.0, append=1.0)])
