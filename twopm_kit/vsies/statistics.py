"""``Statistics``: what is known of one column over all nodes, and nothing of any row."""

import math
import operator
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, SupportsIndex

import numpy as np
import pandas as pd

from twopm_kit.errors import SchemaError
from twopm_kit.vsies.field import EXACT, Field, check_categories, is_number
from twopm_kit.vsies.scales import Floats, log1p

__all__ = ["DECILES", "QUANTILES", "Statistics", "bins", "measured"]

DECILES: Final = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
QUANTILES: Final = tuple(sorted({*DECILES, 0.25, 0.75}))


def measured(field: Field, column: "pd.Series[Any]") -> Floats:
    """Return the numbers that the statistics of a column are of, shape (n,), NaN where a value is missing.

    They are the values themselves; log(1 + value) if the field's standard is "log"; 0 and 1 of truth values.

    Parameters
    ----------
    field : Field
        A column of numbers or truth values.
    column : pandas.Series
        As `Schema.validate` returns it.
    """
    values = column.to_numpy(dtype=np.float64, na_value=np.nan)
    return log1p(values) if field.standard == "log" else values


@dataclass(frozen=True)
class Statistics:
    """Public figures of one column over all rows of all nodes; missing values are left out.

    Of a column with standard "log", mean, std and quantiles are those of log(1 + value). Of a bool, mean is
    the share of true.

    Parameters
    ----------
    count : int
        Values that are there, at least 1.
    mean, std : float
        Mean and standard deviation (``ddof=1``; 0 for one value). Of a category 0.
    quantiles : mapping of float to float
        Values at 0.25, 0.5, 0.75 and the deciles 0.1 … 0.9, as many of them as are known.
    categories : tuple of str
        Of a category: the union of what the nodes have.
    shares : tuple of float
        Share of the values in each category, in the order of ``categories``; of numbers the share in each bin
        between the different deciles (see `bins`). Optional: what drift is measured against.

    Raises
    ------
    SchemaError
        A figure is not of its type, not finite, or contradicts another.
    """

    count: int
    mean: float = 0.0
    std: float = 0.0
    quantiles: Mapping[float, float] = field(default_factory=dict)
    categories: tuple[str, ...] = ()
    shares: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        whole = isinstance(self.count, SupportsIndex) and not isinstance(self.count, bool)
        if not whole or not 1 <= operator.index(self.count) <= EXACT:
            raise _wrong("count", "a whole number of at least 1")
        object.__setattr__(self, "count", operator.index(self.count))
        for key in ("mean", "std"):
            if not is_number(getattr(self, key)):
                raise _wrong(key, "a finite number")
            object.__setattr__(self, key, float(getattr(self, key)) + 0.0)
        if self.std < 0:
            raise _wrong("std", "at least 0")
        known = isinstance(self.quantiles, Mapping) and set(self.quantiles) <= set(QUANTILES)
        if not known or not all(map(is_number, self.quantiles.values())):
            raise _wrong("quantiles", f"finite numbers for some of {', '.join(map(str, QUANTILES))}")
        ordered = {float(key): float(self.quantiles[key]) + 0.0 for key in sorted(self.quantiles)}
        if sorted(ordered.values()) != [*ordered.values()]:
            raise _wrong("quantiles", "values that do not fall")
        object.__setattr__(self, "quantiles", ordered)
        if not isinstance(self.categories, tuple | list) or not isinstance(self.shares, tuple | list):
            raise _wrong("categories and shares", "tuples")
        object.__setattr__(self, "categories", tuple(self.categories))
        check_categories("of the statistics", self.categories)
        if not all(is_number(share) and share >= 0 for share in self.shares):
            raise _wrong("shares", "numbers of at least 0")
        object.__setattr__(self, "shares", tuple(float(share) + 0.0 for share in self.shares))
        if self.shares:
            edges = bins(self.quantiles)
            expected = len(self.categories) or (len(edges) + 1 if len(edges) else 0)
            if len(self.shares) != expected or abs(math.fsum(self.shares) - 1) > 1e-6:
                raise _wrong("shares", f"{expected} numbers of sum 1, one for each category or bin")

    @classmethod
    def measure(cls, field: Field, column: "pd.Series[Any]") -> "Statistics":
        """Measure one validated column in clear.

        Sums are exact (``math.fsum``), so that they do not depend on the order of the rows.

        Raises
        ------
        SchemaError
            Every value is missing.
        """
        there = column.dropna()
        if there.empty:
            raise SchemaError(
                f"column {field.name!r} has no value to measure", hint="pass rows in which it is not missing"
            )
        n = len(there)
        if field.kind == "category":
            names = tuple(map(str, there.cat.categories))
            counts = np.bincount(there.cat.codes, minlength=len(names))
            return cls(n, categories=names, shares=tuple((counts / n).tolist()))
        values = measured(field, there)
        mean = math.fsum(values) / n
        std = math.sqrt(math.fsum((values - mean) ** 2) / (n - 1)) if n > 1 else 0.0
        quantiles = dict(zip(QUANTILES, np.quantile(values, QUANTILES).tolist(), strict=True))
        edges = bins(quantiles)
        places = np.bincount(np.searchsorted(edges, values), minlength=len(edges) + 1)
        return cls(n, mean, std, quantiles, shares=tuple((places / n).tolist()))


def bins(quantiles: Mapping[float, float]) -> Floats:
    """Return the different deciles, shape (k,), at most 9; empty when not all nine are known.

    They cut numbers into k + 1 bins: up to and with the first, above it up to and with the second, …, above
    the last.
    """
    if not set(DECILES) <= set(quantiles):
        return np.array([])
    return np.unique([quantiles[decile] for decile in DECILES])


def _wrong(key: str, expected: str) -> SchemaError:
    return SchemaError(f"statistics: {key} must be {expected}", hint="pass what was measured over all nodes")
