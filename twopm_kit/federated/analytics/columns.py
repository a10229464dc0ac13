"""What a learner writes: columns, rows and groups that look like pandas and compute nothing yet."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, NoReturn, Self

import numpy as np

from twopm_kit.errors import TaskError
from twopm_kit.federated.analytics.expressions import Formula, Level, Schema, kind_of, written

__all__ = ["Column", "Groups", "Reductions", "Rows", "Statistic"]


@dataclass(frozen=True)
class Statistic:
    """One thing that is asked of all nodes' rows; nothing is computed before a network runs it.

    Attributes
    ----------
    plan : dict
        The question as JSON.
    text : str
        The question as it was written.
    """

    plan: dict[str, Any] = field(repr=False)
    text: str

    def __repr__(self) -> str:
        return f"{self.text}  (not computed yet: pass it to study.ask)"

    def __hash__(self) -> int:
        return hash(self.text)


class Reductions(ABC):
    """The statistics that columns, rows and groups have, with pandas' names and defaults."""

    @abstractmethod
    def _statistic(self, reduce: str, q: float | None = None) -> Statistic:
        """Return the statistic of this name."""

    def count(self) -> Statistic:
        """Return the number of values that are not missing."""
        return self._statistic("count")

    def sum(self) -> Statistic:
        """Return the sum."""
        return self._statistic("sum")

    def mean(self) -> Statistic:
        """Return the mean."""
        return self._statistic("mean")

    def var(self) -> Statistic:
        """Return the variance, with divisor n - 1."""
        return self._statistic("var")

    def std(self) -> Statistic:
        """Return the standard deviation, with divisor n - 1."""
        return self._statistic("std")

    def sem(self) -> Statistic:
        """Return the standard error of the mean."""
        return self._statistic("sem")

    def min(self) -> Statistic:
        """Return the smallest value, to the study's resolution."""
        return self._statistic("min")

    def max(self) -> Statistic:
        """Return the largest value, to the study's resolution."""
        return self._statistic("max")

    def any(self) -> Statistic:
        """Return whether any value is true (for numbers: not 0)."""
        return self._statistic("any")

    def all(self) -> Statistic:
        """Return whether all values are true (for numbers: not 0)."""
        return self._statistic("all")

    def quantile(self, q: float = 0.5) -> Statistic:
        """Return a quantile, interpolated linearly, to the study's resolution."""
        if isinstance(q, bool) or not isinstance(q, int | float) or not 0 <= q <= 1:
            raise TaskError(f"q is {q!r}", hint="ask for one quantile between 0 and 1, such as 0.25")
        return self._statistic("quantile", float(q))

    def median(self) -> Statistic:
        """Return the median, to the study's resolution."""
        return self._statistic("quantile", 0.5)


class Column(Reductions):
    """A column, or a formula of columns, over the rows of all nodes.

    Parameters
    ----------
    schema : mapping
        The study's columns.
    formula : JSON
        What each node computes for each of its rows.
    where : JSON, optional
        Which rows count.
    """

    def __init__(self, schema: Schema, formula: Formula, where: Formula = None) -> None:
        self.kind = kind_of(formula, schema)
        self.schema = schema
        self.formula = formula
        self.where = where

    __hash__ = object.__hash__

    def __repr__(self) -> str:
        return f"{self._text}  (a column of {self.kind} values over all nodes: ask for a statistic of it)"

    def __bool__(self) -> NoReturn:
        raise TaskError(
            f"{self._text} is not computed yet, so it is neither true nor false",
            hint="combine conditions with & | ~ in brackets, and ask for .any() or .all()",
        )

    def __iter__(self) -> NoReturn:
        raise TaskError(
            f"{self._text} has no values to walk over: the rows stay with their nodes",
            hint="ask for a statistic of it, such as .mean()",
        )

    @property
    def _text(self) -> str:
        where = "" if self.where is None else f"[{written(self.where)}]"
        return f"{written(self.formula)}{where}"

    def _statistic(self, reduce: str, q: float | None = None) -> Statistic:
        return _ask(reduce, {written(self.formula): self}, self.where, None, self._text, q=q)

    def groupby(self, key: "str | Column") -> "Groups":
        """Return this column in groups: of a column with known levels, or of a condition."""
        return Rows(self.schema, self.where).groupby(key)._of({written(self.formula): self}, single=True)

    def __getitem__(self, condition: "Column") -> "Column":
        """Return the column over those rows where a condition holds."""
        return Column(self.schema, self.formula, _both(self, condition))

    def isna(self) -> "Column":
        """Return whether a value is missing."""
        return Column(self.schema, ["isna", self.formula], self.where)

    def notna(self) -> "Column":
        """Return whether a value is there."""
        return ~self.isna()

    def isin(self, values: Sequence[Level]) -> "Column":
        """Return whether a value is one of some."""
        if isinstance(values, str) or not isinstance(values, Iterable) or not (values := list(values)):
            raise TaskError(f"values is {values!r}", hint="pass a list of at least one value")
        first, *others = [self == value for value in values]
        for other in others:
            first = first | other
        return first

    def between(self, left: float, right: float) -> "Column":
        """Return whether a value lies between two numbers, both included."""
        return (self >= left) & (self <= right)

    def abs(self) -> "Column":
        """Return absolute values."""
        return abs(self)

    def _with(self, operator: str, other: Any, *, swapped: bool = False) -> "Column":
        value = other
        if isinstance(other, Column):
            if other.schema is not self.schema or other.where != self.where:
                raise TaskError(
                    f"{self._text} and {other._text} are over other rows",
                    hint="calculate first, and filter with [...] at the end",
                )
            value = other.formula
        elif isinstance(other, np.generic):
            value = other.item()
        if not isinstance(value, list | bool | int | float | str):
            raise TaskError(
                f"{self._text} {operator} {type(other).__name__}: a column or a number was expected",
                hint="use columns of the same study, numbers, and texts for categories",
            )
        pair = [value, self.formula] if swapped else [self.formula, value]
        return Column(self.schema, [operator, *pair], self.where)

    def __add__(self, other: Any) -> "Column":
        return self._with("+", other)

    def __radd__(self, other: Any) -> "Column":
        return self._with("+", other, swapped=True)

    def __sub__(self, other: Any) -> "Column":
        return self._with("-", other)

    def __rsub__(self, other: Any) -> "Column":
        return self._with("-", other, swapped=True)

    def __mul__(self, other: Any) -> "Column":
        return self._with("*", other)

    def __rmul__(self, other: Any) -> "Column":
        return self._with("*", other, swapped=True)

    def __truediv__(self, other: Any) -> "Column":
        return self._with("/", other)

    def __rtruediv__(self, other: Any) -> "Column":
        return self._with("/", other, swapped=True)

    def __pow__(self, other: Any) -> "Column":
        return self._with("**", other)

    def __rpow__(self, other: Any) -> "Column":
        return self._with("**", other, swapped=True)

    def __lt__(self, other: Any) -> "Column":
        return self._with("<", other)

    def __le__(self, other: Any) -> "Column":
        return self._with("<=", other)

    def __gt__(self, other: Any) -> "Column":
        return self._with(">", other)

    def __ge__(self, other: Any) -> "Column":
        return self._with(">=", other)

    def __eq__(self, other: object) -> "Column":  # type: ignore[override]
        return self._with("==", other)

    def __ne__(self, other: object) -> "Column":  # type: ignore[override]
        return self._with("!=", other)

    def __and__(self, other: Any) -> "Column":
        return self._with("&", other)

    def __or__(self, other: Any) -> "Column":
        return self._with("|", other)

    def __invert__(self) -> "Column":
        return Column(self.schema, ["~", self.formula], self.where)

    def __neg__(self) -> "Column":
        return Column(self.schema, ["neg", self.formula], self.where)

    def __abs__(self) -> "Column":
        return Column(self.schema, ["abs", self.formula], self.where)


class Rows(Reductions):
    """The rows of all nodes, or those where a condition holds.

    Parameters
    ----------
    schema : mapping
        The study's columns.
    where : JSON, optional
        Which rows count.
    """

    def __init__(self, schema: Schema, where: Formula = None) -> None:
        self.schema = schema
        self.where = where

    def __getitem__(self, key: Any) -> Any:
        """Return a column by its name, or the rows where a condition holds."""
        if isinstance(key, Column):
            return Rows(self.schema, _both(self, key))
        return Column(self.schema, ["column", key], self.where)

    def __iter__(self) -> NoReturn:
        raise TaskError("a study has no rows to walk over", hint="ask for a statistic, such as .mean()")

    def _columns(self) -> dict[str, Column]:
        every = {name: Column(self.schema, ["column", name], self.where) for name in self.schema}
        return {name: column for name, column in every.items() if column.kind == "number"}

    @property
    def _text(self) -> str:
        return "rows" if self.where is None else f"rows[{written(self.where)}]"

    def _statistic(self, reduce: str, q: float | None = None) -> Statistic:
        return _ask(reduce, self._columns(), self.where, None, self._text, single=False, q=q)

    def size(self) -> Statistic:
        """Return the number of rows."""
        return _ask("size", {"size": Column(self.schema, True)}, self.where, None, self._text)

    def groupby(self, key: "str | Column") -> "Groups":
        """Return the rows in groups: of a column with known levels, or of a condition."""
        column = key if isinstance(key, Column) else Column(self.schema, ["column", key], self.where)
        levels: Sequence[Level | bool] | None = (False, True) if column.kind == "truth" else None
        if levels is None and column.formula[0] == "column":
            levels = self.schema[column.formula[1]]
        if levels is None or column.where != self.where:
            raise TaskError(
                f"the groups of {column._text} are not known beforehand, or are of other rows",
                hint="name the levels in categories= of the study, or group by a condition",
            )
        return Groups(self, column, levels, self._columns(), single=False)


class Groups(Reductions):
    """Rows in groups; small groups are left out of every statistic by the nodes themselves."""

    def __init__(
        self, rows: Rows, key: Column, levels: Sequence[Any], columns: dict[str, Column], *, single: bool
    ) -> None:
        self._rows = rows
        self._key = key
        self._levels = list(levels)
        self._chosen = columns
        self._single = single

    def __getitem__(self, name: str) -> "Groups":
        """Return one column of the groups."""
        return self._of({name: self._rows[name]}, single=True)

    def __repr__(self) -> str:
        return f"{self._text}  (groups {self._levels} over all nodes: ask for a statistic)"

    def _of(self, columns: dict[str, Column], *, single: bool) -> Self:
        return type(self)(self._rows, self._key, self._levels, columns, single=single)

    @property
    def _text(self) -> str:
        chosen = f"[{next(iter(self._chosen))!r}]" if self._single else ""
        return f"{self._rows._text}.groupby({written(self._key.formula)!r}){chosen}"

    @property
    def _by(self) -> dict[str, Any]:
        return {"key": self._key.formula, "name": written(self._key.formula), "levels": self._levels}

    def _statistic(self, reduce: str, q: float | None = None) -> Statistic:
        # A frame's groups leave out the column that they are made of, as in pandas.
        columns = {
            name: column
            for name, column in self._chosen.items()
            if self._single or column.formula != self._key.formula
        }
        return _ask(reduce, columns, self._rows.where, self._by, self._text, single=self._single, q=q)

    def size(self) -> Statistic:
        """Return the number of rows in each group."""
        rows = {"size": Column(self._rows.schema, True)}
        return _ask("size", rows, self._rows.where, self._by, self._text)


def _both(rows: Column | Rows, condition: Any) -> Formula:
    """Return the condition of rows that are filtered once more."""
    if not isinstance(condition, Column) or condition.kind != "truth":
        raise TaskError(
            f"rows are chosen by {condition!r}", hint="choose by a condition: rows[rows['age'] > 40]"
        )
    if condition.schema is not rows.schema or condition.where not in (None, rows.where):
        raise TaskError(f"{condition._text} is over other rows", hint="use columns of the same study")
    return condition.formula if rows.where is None else ["&", rows.where, condition.formula]


def _ask(
    reduce: str,
    columns: dict[str, Column],
    where: Formula,
    by: dict[str, Any] | None,
    text: str,
    *,
    single: bool = True,
    q: float | None = None,
) -> Statistic:
    plan = {
        "reduce": reduce,
        "columns": [[name, column.formula] for name, column in columns.items()],
        "single": single,
        "where": where,
        "by": by,
        "q": q,
    }
    shown = f"{text}.median()" if q == 0.5 else f"{text}.{reduce}({'' if q is None else q})"
    return Statistic(plan, shown)
