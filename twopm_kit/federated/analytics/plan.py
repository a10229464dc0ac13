"""From questions to lanes: which counts, sums, squares and histograms answer a set of statistics."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from twopm_kit.errors import TaskError
from twopm_kit.federated.analytics.expressions import Formula, Schema, kind_of

__all__ = ["Cell", "Order", "Plan"]

_SUMS = ("sum", "mean", "var", "std", "sem")
_SPREADS = ("var", "std", "sem")
_TRUTHS = ("any", "all")
_ENDS = {"min": 0.0, "max": 1.0}
_ALL = {"count", "size", "quantile", *_SUMS, *_TRUTHS, *_ENDS}


@dataclass(frozen=True)
class Order:
    """One order statistic: the value at rank ``q * (n - 1)``, rounded down or up."""

    series: int
    q: float
    up: bool


@dataclass(frozen=True)
class Cell:
    """One number of an answer, and what it is made of; cells stand column by column, level by level."""

    reduce: str
    q: float | None
    series: int
    truth: bool


@dataclass
class Plan:
    """What nodes send, worked out from the questions alone, the same way by everybody.

    Attributes
    ----------
    series : list of (formula, where)
        Every column over every choice of rows that is needed.
    truths, sums, spreads : list of int
        Series whose true values are counted, whose values are summed, and whose squares are.
    orders : list of Order
        Order statistics.
    answers : dict of list of Cell
        The cells of every answer.
    """

    series: list[tuple[Formula, Formula]] = field(default_factory=list)
    truths: list[int] = field(default_factory=list)
    sums: list[int] = field(default_factory=list)
    spreads: list[int] = field(default_factory=list)
    orders: list[Order] = field(default_factory=list)
    answers: dict[str, list[Cell]] = field(default_factory=dict)
    _known: dict[str, int] = field(default_factory=dict, repr=False)

    @classmethod
    def of(cls, questions: Mapping[str, Mapping[str, Any]], schema: Schema) -> "Plan":
        """Return the plan for questions by name, after checking every formula."""
        plan = cls()
        for name, question in questions.items():
            plan.answers[name] = plan._cells(name, question, schema)
        return plan

    def _cells(self, name: str, question: Mapping[str, Any], schema: Schema) -> list[Cell]:
        _demand_form(name, question)
        reduce, where, by = question["reduce"], question["where"], question["by"]
        if reduce not in _ALL:
            raise TaskError(f"{name} asks for {reduce!r}", hint=f"ask for one of {', '.join(sorted(_ALL))}")
        levels = [None] if by is None else by["levels"]
        cells = []
        for column, formula in question["columns"]:
            kind = kind_of(formula, schema)
            if kind == "category" and reduce not in ("count", "size"):
                raise TaskError(
                    f"{name} asks for the {reduce} of {column!r}, which has levels, not numbers",
                    hint="count it, group by it, or compare it with a level first",
                )
            for level in levels:
                rows = _within(where, by, level, schema)
                if rows is not None and kind_of(rows, schema) != "truth":
                    raise TaskError(f"{name} chooses rows by numbers", hint="choose rows by a condition")
                series = self._series(formula, rows)
                self._need(reduce, question["q"], series)
                cells.append(Cell(reduce, question["q"], series, kind == "truth"))
        return cells

    def _series(self, formula: Formula, where: Formula) -> int:
        key = json.dumps([formula, where])
        if key not in self._known:
            self._known[key] = len(self.series)
            self.series.append((formula, where))
        return self._known[key]

    def _need(self, reduce: str, q: float | None, series: int) -> None:
        for kinds, needed in ((_TRUTHS, self.truths), (_SUMS, self.sums), (_SPREADS, self.spreads)):
            if reduce in kinds and series not in needed:
                needed.append(series)
        for order in self.orders_of(reduce, q, series):
            if order not in self.orders:
                self.orders.append(order)

    @staticmethod
    def orders_of(reduce: str, q: float | None, series: int) -> list[Order]:
        """Return the order statistics that a quantile, minimum or maximum is made of."""
        if reduce not in ("quantile", *_ENDS):
            return []
        rank = _ENDS.get(reduce, q if q is not None else 0.5)
        one = Order(series, rank, False)
        return [one] if rank in (0.0, 1.0) else [one, Order(series, rank, True)]


def _demand_form(name: str, question: Any) -> None:
    """Refuse a question of another form than the one that columns write."""
    match question:
        case {"reduce": str(), "columns": [_, *_] as pairs, "single": bool(), "where": _, "by": by, "q": q}:
            named = all(isinstance(p, list) and len(p) == 2 and isinstance(p[0], str) for p in pairs)
            ranked = q is None or (isinstance(q, float) and 0 <= q <= 1)
            match by:
                case None:
                    grouped = True
                case {"key": _, "name": str(), "levels": [_, *_] as levels}:
                    grouped = all(isinstance(level, str | int | float) for level in levels)
                case _:
                    grouped = False
            if named and ranked and grouped and len(question) == 6:
                return
    raise TaskError(f"{name} is no question: {question!r}", hint="make questions with study['column'].mean()")


def _within(where: Formula, by: Mapping[str, Any] | None, level: Any, schema: Schema) -> Formula:
    """Return the condition of the rows of one group."""
    if by is None:
        return where
    key = by["key"]
    own = ["==", key, level]
    if kind_of(key, schema) == "truth":
        own = key if level else ["~", key]
    return own if where is None else ["&", where, own]
