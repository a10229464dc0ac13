"""The task behind a study: counts first, then sums, squares and histograms of what is not too small."""

import math
from collections.abc import Mapping, Sequence
from html import escape
from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from twopm_kit.errors import DataError, EncodingError, SchemaError, TaskError
from twopm_kit.federated.analytics.columns import Statistic
from twopm_kit.federated.analytics.exact import LANE_BOUND, LANES, joined, key_value, keys, split
from twopm_kit.federated.analytics.expressions import Level, check_columns, evaluate, written
from twopm_kit.federated.analytics.plan import Cell, Plan
from twopm_kit.federated.arguments import number, whole
from twopm_kit.federated.result import FederatedResult, RunRecord
from twopm_kit.federated.statistics import exact_rounds
from twopm_kit.federated.task import Criteria, State, Task, Update
from twopm_kit.secagg import Decoded, RoundConfig
from twopm_kit.untrusted import load_json

__all__ = ["AnalyticsResult", "AnalyticsTask"]

_BITS = 6
_BINS = 1 << _BITS
_EXPONENT_BITS = 12
_SPARE_ROUNDS = 6
Vector = NDArray[np.float64]


class AnalyticsTask(Task):
    """Statistics over all nodes' rows; usually made by ``HorizontalAnalytics.ask``.

    Parameters
    ----------
    name : str
        Name for people.
    schema : mapping of str to None or list
        Columns: None for numbers, or the levels that a column may have.
    questions : str
        What is asked: JSON of an object, by name.
    min_count : int
        Fewest values behind a number that is shown; 1 shows everything.
    resolution : float
        Relative resolution of minima, maxima and quantiles.
    min_clients, max_clients, wait_timeout, connection_timeout, criteria
        As for ``LogitTask``.

    Notes
    -----
    Round 1 counts the values behind every number. A node then leaves out, on its own, whatever has fewer
    than ``min_count`` values. Round 2 sums, and round 3 sums squares of deviations from the means of round 2
    (Chan, Golub and LeVeque 1983). From round 2 on, histograms of 64 bins narrow every order statistic down
    by six bits a round, along keys that sort like the numbers. Sums are exact in steps of 2**-76.

    The sums are public, so the counts are too, small ones included, and those of every bin. Each answer is
    also about the same rows only as long as nobody drops out: each round's mean or variance is that of its
    own survivors, and the difference of two rounds' counts tells the counts of a node that was lost between
    them. Questions that differ by one row tell that row; only noise prevents that.
    """

    needs_all_nodes = True

    def __init__(
        self,
        name: str,
        schema: Mapping[str, Sequence[Level] | None],
        questions: str,
        *,
        min_count: int = 5,
        resolution: float = 1e-6,
        min_clients: int = 2,
        max_clients: int = 50,
        wait_timeout: float = 60.0,
        connection_timeout: float = 60.0,
        criteria: Criteria | None = None,
    ) -> None:
        try:
            asked = load_json(questions.encode())
        except (DataError, AttributeError):
            raise TaskError(f"questions is {questions!r}", hint="make the task with study.ask(...)") from None
        if not isinstance(asked, dict) or not asked:
            raise TaskError("nothing is asked", hint="pass a statistic, such as study['age'].mean()")
        self.schema = {name: None if levels is None else list(levels) for name, levels in schema.items()}
        self.questions: dict[str, dict[str, Any]] = asked
        self.min_count = whole("min_count", min_count)
        self.resolution = number("resolution", resolution)
        self.wait_timeout = number("wait_timeout", wait_timeout)
        self.connection_timeout = number("connection_timeout", connection_timeout)
        self._plan = Plan.of(self.questions, self.schema)
        fraction = max(0.0, -math.log2(self.resolution))
        self._levels = min(64 // _BITS, math.ceil((_EXPONENT_BITS + fraction) / _BITS))
        needed = 1 + max(
            self._levels * bool(self._plan.orders), 2 * bool(self._plan.spreads), 1 * bool(self._plan.sums)
        )
        super().__init__(
            name,
            max_rounds=needed + _SPARE_ROUNDS,
            min_clients=min_clients,
            max_clients=max_clients,
            criteria=criteria,
        )

    # The task -----------------------------------------------------------------------------------------

    def round_config(self) -> RoundConfig:
        """Return lanes of 64 bits that carry whole numbers: their step is 1."""
        bits = int(math.log2(LANE_BOUND)) + 1
        return RoundConfig(
            clip=LANE_BOUND,
            value_bits=bits,
            lanes=LANES,
            min_clients=self.min_clients,
            max_clients=self.max_clients,
            max_weight=1,
        )

    def adapted(self, own: RoundConfig, wanted: RoundConfig) -> RoundConfig:
        """Keep the encoding, whatever a network wants: cut or rounded sums would be silently wrong."""
        return exact_rounds(own, wanted)

    def settings(self) -> dict[str, Any]:
        """Return the questions, which are all that this task is."""
        return {
            "schema": self.schema,
            "questions": self.questions,
            "min_count": self.min_count,
            "resolution": self.resolution,
        }

    def initial_state(self) -> State:
        """Return that nothing is known yet."""
        plan = self._plan
        return {
            "counts": np.full(len(plan.series), np.nan),
            "truths": np.full(len(plan.truths), np.nan),
            "totals": np.full(len(plan.sums), np.nan),
            "means": np.full(len(plan.sums), np.nan),
            "variances": np.full(len(plan.spreads), np.nan),
            "variance_counts": np.full(len(plan.spreads), np.nan),
            "prefixes": np.zeros(len(plan.orders), np.uint64),
            "levels": np.zeros(len(plan.orders), np.int64),
            "below": np.zeros(len(plan.orders)),
            "inside": np.zeros(len(plan.orders)),
            "ranked": np.full(len(plan.orders), np.nan),
        }

    def update_size(self) -> int:
        """Return one lane a count and a bin, and four a sum."""
        plan = self._plan
        wide = LANES * (len(plan.sums) + len(plan.spreads))
        return len(plan.series) + len(plan.truths) + wide + _BINS * len(plan.orders)

    def check(self, frame: pd.DataFrame) -> None:
        """Refuse rows with a missing column, an unknown level, or an infinite value."""
        super().check(frame)
        check_columns(frame, self.schema)
        for formula, where in self._plan.series:
            if np.isinf(self._values(formula, where, frame)).any():
                raise SchemaError(
                    f"a value of {written(formula)} is infinite in some row",
                    hint="leave out rows that divide by zero: study[study['people'] > 0]",
                )

    def local_update(self, state: State, frame: pd.DataFrame, round: int) -> Update:
        """Send counts, and what the next unknown of everything that is large enough needs."""
        del round
        plan = self._plan
        series = [self._values(formula, where, frame) for formula, where in plan.series]
        parts = _Parts(self)
        parts.counts[:] = [len(values) for values in series]
        if not self._counted(state):
            parts.truths[:] = [np.count_nonzero(series[at]) for at in plan.truths]
        for at, of in enumerate(plan.sums):
            if not self._open(state, of):
                continue
            if np.isnan(state["means"][at]):
                parts.sums[at] = split(_total(series[of]))
            elif of in plan.spreads and np.isnan(state["variances"][plan.spreads.index(of)]):
                deviations = series[of] - state["means"][at]
                parts.sums[at] = split(_total(deviations))
                parts.squares[plan.spreads.index(of)] = split(_total(deviations**2))
        for at, order in enumerate(plan.orders):
            if self._open(state, order.series) and state["levels"][at] < self._levels:
                parts.bins[at] = self._histogram(state, at, series[order.series])
        return Update(parts.vector)

    def merge(self, state: State, aggregate: Decoded) -> State:
        """Learn what the sums of this round tell."""
        plan, parts = self._plan, _Parts(self, np.round(aggregate.sum))
        if min(parts.counts.min(initial=0), parts.truths.min(initial=0), parts.bins.min(initial=0)) < 0:
            raise TaskError("a count of this round is negative", hint="find the node that does not compute")
        if not self._counted(state):
            return {**state, "counts": parts.counts.copy(), "truths": parts.truths.copy()}
        state = {name: value.copy() for name, value in state.items()}
        for at, of in enumerate(plan.sums):
            count = parts.counts[of]
            if not self._open(state, of) or count == 0:
                continue
            first = joined(parts.sums[at].tolist())
            if np.isnan(state["means"][at]):
                state["totals"][at], state["means"][at] = first, first / count
            elif of in plan.spreads and np.isnan(state["variances"][plan.spreads.index(of)]):
                spread = plan.spreads.index(of)
                second = joined(parts.squares[spread].tolist())
                state["variances"][spread] = max(second - first**2 / count, 0.0) / max(count - 1, 1)
                state["variance_counts"][spread] = count
        for at, order in enumerate(plan.orders):
            if self._open(state, order.series) and state["levels"][at] < self._levels:
                self._narrow(state, at, parts.bins[at])
        return state

    def finished(self, state: State) -> bool:
        """Tell whether everything that is large enough is known."""
        plan = self._plan
        return (
            self._counted(state)
            and not any(
                self._open(state, of) and np.isnan(state["means"][at]) for at, of in enumerate(plan.sums)
            )
            and not any(
                self._open(state, of) and np.isnan(state["variances"][at])
                for at, of in enumerate(plan.spreads)
            )
            and all(
                not self._open(state, order.series) or state["levels"][at] >= self._levels
                for at, order in enumerate(plan.orders)
            )
        )

    def result(self, state: State, record: RunRecord) -> "AnalyticsResult":
        """Return the answers."""
        return AnalyticsResult(self, state, record)

    # Parts --------------------------------------------------------------------------------------------

    def _values(self, formula: Any, where: Any, frame: pd.DataFrame) -> Vector:
        """Return the values that are not missing, of the rows that count."""
        found = evaluate(formula, frame, self.schema)
        if np.issubdtype(found.dtype, np.integer):  # a category: only its gaps matter
            found = np.where(found < 0, np.nan, 1.0)
        values = found.astype(np.float64)
        if where is not None:
            values = values[evaluate(where, frame, self.schema)]
        return values[~np.isnan(values)]

    def _counted(self, state: State) -> bool:
        return bool(np.isfinite(state["counts"]).all())

    def _open(self, state: State, series: int) -> bool:
        """Tell whether a series has enough values to be looked at."""
        return bool(state["counts"][series] >= self.min_count)

    def _histogram(self, state: State, order: int, values: Vector) -> Vector:
        level = int(state["levels"][order])
        rest = 64 - _BITS * (level + 1)
        found = keys(values) >> np.uint64(rest)
        inside = found >> np.uint64(_BITS) == state["prefixes"][order]
        digits = (found[inside] & np.uint64(_BINS - 1)).astype(np.int64)
        return np.bincount(digits, minlength=_BINS).astype(np.float64)

    def _narrow(self, state: State, at: int, bins: Vector) -> None:
        """Go down into the bin that holds the rank; start again if other nodes' rows are in the bins."""
        order, level = self._plan.orders[at], int(state["levels"][at])
        if level == 0:
            state["ranked"][at] = bins.sum()
        elif bins.sum() != state["inside"][at]:
            state["levels"][at], state["below"][at], state["prefixes"][at] = 0, 0.0, 0
            return
        if bins.sum() == 0:
            state["levels"][at] = self._levels  # the survivors have no such value
            return
        rank = order.q * (state["ranked"][at] - 1)
        rank = math.ceil(rank) if order.up else math.floor(rank)
        upto = np.cumsum(bins) + state["below"][at]
        digit = int(np.searchsorted(upto, rank, side="right"))
        state["below"][at] = upto[digit] - bins[digit]
        state["inside"][at] = bins[digit]
        state["prefixes"][at] = (int(state["prefixes"][at]) << _BITS) | digit
        state["levels"][at] = level + 1

    def order_value(self, state: State, at: int) -> float:
        """Return an order statistic that the rounds have found, or NaN."""
        if state["levels"][at] < self._levels or not state["ranked"][at] > 0:
            return math.nan
        return key_value(int(state["prefixes"][at]), _BITS * self._levels)

    def answer(self, state: State, cell: Cell) -> Any:
        """Return one number; NaN, or NA for a truth value, where too few values are behind it."""
        plan, count = self._plan, state["counts"][cell.series]
        if not self._open(state, cell.series):
            return pd.NA if cell.reduce in ("any", "all") else math.nan
        if cell.reduce in ("count", "size"):
            return int(count)
        if cell.reduce in ("any", "all"):
            true = state["truths"][plan.truths.index(cell.series)]
            return bool(true > 0 if cell.reduce == "any" else true == count)
        if cell.reduce in ("sum", "mean"):
            found = state["totals" if cell.reduce == "sum" else "means"][plan.sums.index(cell.series)]
            return int(found) if cell.truth and cell.reduce == "sum" else float(found)
        if cell.reduce in ("var", "std", "sem"):
            at = plan.spreads.index(cell.series)
            variance, rows = float(state["variances"][at]), float(state["variance_counts"][at])
            if not rows > 1:
                return math.nan
            return {"var": variance, "std": math.sqrt(variance), "sem": math.sqrt(variance / rows)}[
                cell.reduce
            ]
        return self._ranked(state, cell)

    def _ranked(self, state: State, cell: Cell) -> float:
        orders = self._plan.orders_of(cell.reduce, cell.q, cell.series)
        places = [self._plan.orders.index(order) for order in orders]
        low, high = (self.order_value(state, at) for at in (places[0], places[-1]))
        rank = orders[0].q * (float(state["ranked"][places[0]]) - 1)
        return low + (rank - math.floor(rank)) * (high - low)


class _Parts:
    """One vector, seen as counts, sums and bins."""

    def __init__(self, task: AnalyticsTask, vector: Vector | None = None) -> None:
        plan = task._plan
        self.vector = np.zeros(task.update_size()) if vector is None else vector
        sizes = [
            len(plan.series),
            len(plan.truths),
            LANES * len(plan.sums),
            LANES * len(plan.spreads),
            _BINS * len(plan.orders),
        ]
        ends = np.cumsum([0, *sizes])
        views = [self.vector[start:end] for start, end in pairwise(ends)]
        self.counts, self.truths = views[:2]
        self.sums = views[2].reshape(-1, LANES)
        self.squares = views[3].reshape(-1, LANES)
        self.bins = views[4].reshape(-1, _BINS)


def _total(values: Vector) -> float:
    """Return a sum that is rounded once."""
    try:
        return math.fsum(values.tolist())
    except (OverflowError, ValueError) as cause:
        raise EncodingError(
            "a sum over this node's rows is infinite",
            hint="leave out rows that divide by zero, or scale the column down",
        ) from cause


class AnalyticsResult(FederatedResult):
    """Answers by name, with the story of how they came to be.

    ``result["name"]`` or ``result[statistic]`` is a number, a Series (groups, or columns) or a frame, as
    pandas would give it. What has fewer than ``min_count`` values behind it is NaN.
    """

    task: AnalyticsTask

    def __init__(self, task: AnalyticsTask, state: State, record: RunRecord) -> None:
        super().__init__(task, state, record)
        self.task = task

    @property
    def values(self) -> dict[str, Any]:
        """All answers by name."""
        return {name: self[name] for name in self.task.questions}

    @property
    def complete(self) -> bool:
        """Whether the rounds have answered everything; what drop-outs have left open is NaN."""
        return self.task.finished(self.state)

    @property
    def resolution(self) -> float:
        """Largest relative error of minima, maxima and the order statistics behind quantiles."""
        return float(2.0 ** (_EXPONENT_BITS - _BITS * self.task._levels))

    def __getitem__(self, name: str | Statistic) -> Any:
        key = name.text if isinstance(name, Statistic) else name
        if isinstance(name, Statistic) and key not in self.task.questions:
            key = next((k for k, plan in self.task.questions.items() if plan == name.plan), key)
        if key not in self.task.questions:
            raise TaskError(f"{key!r} was not asked", hint=f"take one of {list(self.task.questions)}")
        question = self.task.questions[key]
        cells = self.task._plan.answers[key]
        numbers = [self.task.answer(self.state, cell) for cell in cells]
        columns = [column for column, _ in question["columns"]]
        if question["by"] is None:
            return numbers[0] if question["single"] else pd.Series(numbers, index=columns)
        index = pd.Index(question["by"]["levels"], name=question["by"]["name"])
        grid = {
            column: pd.Series(numbers[at * len(index) : (at + 1) * len(index)], index=index, name=column)
            for at, column in enumerate(columns)
        }
        return grid[columns[0]] if question["single"] else pd.DataFrame(grid)

    def _head(self) -> str:
        return super().__repr__() + ("" if self.complete else " NOT complete: some answers are open")

    def __repr__(self) -> str:
        lines = [self._head()]
        for name, value in self.values.items():
            shown = repr(value)
            lines.append(f"{name}: {shown}" if "\n" not in shown else f"{name}:\n{shown}")
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        numbers = {name: value for name, value in self.values.items() if not hasattr(value, "index")}
        parts = [f"<p><b>{escape(self._head())}</b></p>"]
        if numbers:
            parts.append(pd.Series(numbers, dtype=object, name="answer").to_frame().to_html(border=0))
        for name, value in self.values.items():
            if name not in numbers:
                frame = value.to_frame() if isinstance(value, pd.Series) else value
                parts.append(f"<p>{escape(name)}</p>{frame.to_html(border=0)}")
        return "".join(parts)
