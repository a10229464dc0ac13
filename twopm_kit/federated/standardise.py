"""A schema's transforms fitted over all nodes' rows in rounds of secure aggregation."""

import inspect
from collections.abc import Mapping
from dataclasses import replace
from functools import cached_property
from html import escape
from secrets import token_hex
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pandas as pd

from twopm_kit.errors import TaskError
from twopm_kit.federated.analytics import AnalyticsResult, HorizontalAnalytics
from twopm_kit.federated.arguments import truth
from twopm_kit.federated.drops import Drop
from twopm_kit.federated.events import Observer
from twopm_kit.federated.result import FederatedResult, RunRecord
from twopm_kit.federated.statistics import exact_lanes, exact_rounds
from twopm_kit.federated.task import Criteria, State, Task, Update
from twopm_kit.federated.union import TABLES, WHOLE, CategoryUnion, CategoryUnionResult
from twopm_kit.secagg import Decoded, RoundConfig
from twopm_kit.vsies.field import Field, meant
from twopm_kit.vsies.report import html_table
from twopm_kit.vsies.schema import Schema
from twopm_kit.vsies.standard import Standard
from twopm_kit.vsies.statistics import DECILES, QUANTILES, Statistics, bins, measured

if TYPE_CHECKING:
    from twopm_kit.federated.network import LocalNetwork

__all__ = ["StandardFit", "StandardiseTask", "fit_standard", "known_options"]

_NUMBERS: Final = "numbers"
_CATEGORIES: Final = "categories"
_BINS: Final = len(DECILES) + 1
_HEADS: Final = ("column", "standard", "count", "mean", "std", "25 %", "50 %", "75 %", "categories")
_NO_RUN: Final = RunRecord(0, "", 0, (), ())
Counts = np.ndarray[tuple[int], np.dtype[np.float64]]


class StandardiseTask(Task):
    """Everything that a schema's transforms need to know about all nodes' rows, in one run of rounds.

    Two tasks share the first rounds: an ``AnalyticsTask`` for counts, means, standard deviations and
    quantiles, and a ``CategoryUnion`` for columns whose categories the schema leaves open. When both are
    finished, one more round counts the values between the deciles and in each category, which drift is
    measured against. Numbers are those of ``vsies.statistics.measured``: log(1 + x) of a "log" column.

    Parameters
    ----------
    name : str
        Name for people.
    schema : str
        Canonical JSON of the schema, ``schema.to_json()``. Rows that do not fit it are refused.
    min_count : int
        Fewest values behind a number that is shown. A column with fewer has no statistics.
    resolution : float
        Relative resolution of the quantiles.
    shares : bool
        Whether the last round is run. It shows in how many rows each category occurs.
    max_categories, max_bytes, salt
        As for ``CategoryUnion``, for all open category columns together.
    min_clients, max_clients : int
        Fewest survivors of a round, and most members.
    criteria : Criteria, optional
        Who may join.

    Notes
    -----
    What the sums show, and what a node that lies can do, is what the notes of the two tasks say. All figures
    become public with the standard. Each figure is about the nodes that survived the round that found it: a
    node that is lost in every round is in none, and one that is lost in the first round only is in the means
    but not in the counts and categories, and may have to be fitted again with its categories.
    """

    needs_all_nodes = True

    def __init__(
        self,
        name: str,
        schema: str,
        *,
        min_count: int = 5,
        resolution: float = 1e-6,
        shares: bool = True,
        max_categories: int = 128,
        max_bytes: int = 64,
        salt: str = "",
        min_clients: int = 2,
        max_clients: int = 50,
        criteria: Criteria | None = None,
    ) -> None:
        self.schema = Schema.from_json(schema)
        self.shares = truth("shares", shares)
        study = HorizontalAnalytics(_NUMBERS, self.schema.names, min_count=min_count, resolution=resolution)
        asked = {f"count {one.name}": study[one.name].count() for one in self.schema}
        for one in self.schema:
            if one.kind != "category":
                column = study[one.name]
                asked |= {f"mean {one.name}": column.mean(), f"std {one.name}": column.std()}
            if one.is_number:
                asked |= {f"{q} {one.name}": study[one.name].quantile(q) for q in QUANTILES}
        self._numbers = study.ask(**asked)
        self._categories: CategoryUnion | None = None
        self._pool = 0
        if texts := [one.name for one in self.schema if _is_open(one)]:
            self._categories = CategoryUnion(
                _CATEGORIES, texts, max_categories=max_categories, max_bytes=max_bytes, salt=salt
            )
            self._pool = TABLES * self._categories.table.max_categories
        super().__init__(
            name,
            max_rounds=1 + max(part.max_rounds for part in self._parts.values()),
            min_clients=min_clients,
            max_clients=max_clients,
            criteria=criteria,
        )

    # The task -----------------------------------------------------------------------------------------

    def round_config(self) -> RoundConfig:
        """Return 64-bit lanes that carry whole numbers: their step is 1."""
        return exact_lanes(self, WHOLE)

    def adapted(self, own: RoundConfig, wanted: RoundConfig) -> RoundConfig:
        """Keep the encoding, whatever a network wants: cut or rounded sums would be silently wrong."""
        return exact_rounds(own, wanted)

    def settings(self) -> dict[str, Any]:
        """Return the schema and the settings of both parts."""
        parts = {name: part.settings() for name, part in self._parts.items()}
        return {"schema": self.schema.to_json(), "shares": self.shares, **parts}

    def initial_state(self) -> State:
        """Return that nothing is known yet."""
        state = {
            f"{name}.{key}": value
            for name, part in self._parts.items()
            for key, value in part.initial_state().items()
        }
        return {**state, "shares": np.full(self._lanes, np.nan)}

    def update_size(self) -> int:
        """Return the lanes of both parts and of the counts behind the shares."""
        return sum(part.update_size() for part in self._parts.values()) + self._lanes

    def check(self, frame: pd.DataFrame) -> None:
        """Refuse rows that do not fit the schema, or whose categories do not fit into the table."""
        super().check(frame)
        seen = self._seen(frame)
        for name, part in self._parts.items():
            part.check(seen[name])

    def local_update(self, state: State, frame: pd.DataFrame, round: int) -> Update:
        """Send what each part needs next, and at last the counts behind the shares."""
        vectors = []
        seen = self._seen(frame)
        for name, part in self._parts.items():
            own = self.part_state(name, state)
            done = part.finished(own)
            vectors.append(
                np.zeros(part.update_size()) if done else part.local_update(own, seen[name], round).values
            )
        vectors.append(self._counts(state, seen) if self._is_known(state) else np.zeros(self._lanes))
        return Update(np.concatenate(vectors))

    def merge(self, state: State, aggregate: Decoded) -> State:
        """Let each part that is not finished learn from its lanes."""
        merged = dict(state)
        if self._is_known(state):
            merged["shares"] = np.round(aggregate.sum[-self._lanes :]) if self._lanes else np.zeros(0)
        at = 0
        for name, part in self._parts.items():
            own, end = self.part_state(name, state), at + part.update_size()
            if not part.finished(own):
                own = part.merge(own, replace(aggregate, mean=aggregate.mean[at:end]))
                merged |= {f"{name}.{key}": value for key, value in own.items()}
            at = end
        return merged

    def finished(self, state: State) -> bool:
        """Tell whether everything is known, or cannot be."""
        if not self._is_known(state):
            return False
        return not self.shares or not self._readable(state) or bool(np.isfinite(state["shares"]).all())

    def result(self, state: State, record: RunRecord) -> "StandardFit":
        """Return the fitted transforms."""
        return StandardFit(self, state, record)

    # What is known --------------------------------------------------------------------------------------

    def statistics(self, state: State) -> dict[str, Statistics]:
        """Return the statistics of every column that has enough values, as far as a state knows them."""
        answers, categories = self._answers(state), self._union(state)
        found: dict[str, Statistics] = {}
        for one in self.schema:
            count = answers[f"count {one.name}"]
            if not count > 0:
                continue
            names = one.categories or categories.get(one.name, ())
            if one.kind == "category":
                found[one.name] = Statistics(count, categories=names)
                continue
            mean, std = answers[f"mean {one.name}"], answers[f"std {one.name}"] if count > 1 else 0.0
            quantiles, shares = _of_truths(count, mean) if one.kind == "bool" else ({}, ())
            if one.is_number:
                # Rounding may lift an interpolated quantile by a bit above the next one.
                ranked = np.maximum.accumulate([answers[f"{q} {one.name}"] for q in QUANTILES])
                quantiles = dict(zip(QUANTILES, ranked.tolist(), strict=True))
            if np.isfinite([mean, std, *quantiles.values()]).all():  # else the survivors have no value
                told = shares if self.shares else ()
                found[one.name] = Statistics(count, mean, std, quantiles, shares=told)
        if np.isfinite(state["shares"]).all():
            places = self._places(found)
            for name, lanes in places.items():
                counts = state["shares"][lanes]
                if counts.sum() > 0 and counts.min() >= 0:
                    found[name] = replace(found[name], shares=tuple((counts / counts.sum()).tolist()))
        return found

    def complete(self, state: State) -> bool:
        """Tell whether both parts have found all that they were asked for."""
        return self._is_known(state) and self._readable(state)

    @property
    def _parts(self) -> dict[str, Task]:
        parts: dict[str, Task] = {_NUMBERS: self._numbers}
        return parts if self._categories is None else {**parts, _CATEGORIES: self._categories}

    @property
    def _lanes(self) -> int:
        """Lanes of the counts behind the shares."""
        return (sum(map(_width, self.schema)) + self._pool) * self.shares

    def _places(self, statistics: Mapping[str, Statistics]) -> dict[str, slice]:
        """Return where the counts of each column stand; open columns share the lanes at the end."""
        found, at = {}, 0
        for one in sorted(self.schema, key=_is_open):  # a stable order
            known = statistics.get(one.name)
            used = len(known.categories) or len(bins(known.quantiles)) + 1 if known is not None else 0
            if one.kind != "bool" and 0 < used <= self._lanes - at:
                found[one.name] = slice(at, at + used)
            at += used if _is_open(one) else _width(one)
        return found

    def _counts(self, state: State, seen: Mapping[str, pd.DataFrame]) -> Counts:
        """Count this node's values between the deciles of all nodes, and in each category."""
        statistics = self.statistics(state)
        counts = np.zeros(self._lanes)
        for name, lanes in self._places(statistics).items() if self._lanes else ():
            known, size = statistics[name], lanes.stop - lanes.start
            if self.schema[name].kind == "category":
                codes = pd.Index(known.categories).get_indexer(
                    pd.Index(seen[_CATEGORIES][name].astype(object))
                )
                codes = codes[codes >= 0]  # missing, or of a node that was lost when the union was made
            else:
                values = seen[_NUMBERS][name].dropna().to_numpy()
                codes = np.searchsorted(bins(known.quantiles), values)
            counts[lanes] = np.bincount(codes, minlength=size)
        return counts

    def _seen(self, frame: pd.DataFrame) -> dict[str, pd.DataFrame]:
        """Return validated rows in the form in which each part reads them."""
        rows = self.schema.validate(frame)
        numbers = {
            one.name: np.where(rows[one.name].isna(), np.nan, 1.0)  # only how many there are matters
            if one.kind == "category"
            else measured(one, rows[one.name])
            for one in self.schema
        }
        return {_NUMBERS: pd.DataFrame(numbers, index=rows.index), _CATEGORIES: rows}

    def part_state(self, part: str, state: State) -> State:
        """Return the state of one part, ``"numbers"`` or ``"categories"``."""
        start = f"{part}."
        return {key.removeprefix(start): value for key, value in state.items() if key.startswith(start)}

    def _is_known(self, state: State) -> bool:
        return all(part.finished(self.part_state(name, state)) for name, part in self._parts.items())

    def _readable(self, state: State) -> bool:
        """Tell whether the union of categories could be read, or none was needed."""
        return self._categories is None or bool(state[f"{_CATEGORIES}.complete"])

    def _answers(self, state: State) -> AnalyticsResult:
        return AnalyticsResult(self._numbers, self.part_state(_NUMBERS, state), _NO_RUN)

    def _union(self, state: State) -> dict[str, tuple[str, ...]]:
        if self._categories is None or not self._readable(state):
            return {}
        return CategoryUnionResult(self._categories, self.part_state(_CATEGORIES, state), _NO_RUN).categories


class StandardFit(FederatedResult):
    """Fitted transforms, the statistics behind them, and the story of the run.

    Everybody who reads the standard learns these statistics; that is their purpose.
    """

    task: StandardiseTask

    def __init__(self, task: StandardiseTask, state: State, record: RunRecord) -> None:
        super().__init__(task, state, record)
        self.task = task

    @property
    def schema(self) -> Schema:
        """The schema whose transforms were fitted."""
        return self.task.schema

    @property
    def complete(self) -> bool:
        """Whether the rounds have answered everything."""
        return self.task.complete(self.state)

    @cached_property
    def statistics(self) -> dict[str, Statistics]:
        """Statistics over all nodes, by column; columns with fewer than ``min_count`` values are left out.

        Raises
        ------
        TaskError
            If the categories could not be read, or drop-outs have left an answer open.
        """
        if not self.complete:
            raise TaskError(
                "the rounds have not found everything: too many nodes were lost, or the categories are too "
                "many for their table",
                hint="fit again, with a larger max_categories if columns have open categories",
            )
        return self.task.statistics(self.state)

    @cached_property
    def standard(self) -> Standard:
        """The transforms, ready to be written to JSON and applied by every node.

        Raises
        ------
        SchemaError
            If a transform needs a column of which too few values are known.
        TaskError
            As `statistics`.
        """
        return Standard.of(self.schema, self.statistics)

    def __repr__(self) -> str:
        if not self.complete:
            return f"{super().__repr__()} NOT complete"
        known = self.statistics
        told = {
            name: f"categories {list(one.categories)}"
            if one.categories
            else f"mean {one.mean:.6g}, std {one.std:.6g}"
            for name, one in known.items()
        }
        lines = [f"{name}: {known[name].count} values, {figures}" for name, figures in told.items()]
        return "\n".join([super().__repr__(), *lines])

    def _repr_html_(self) -> str:
        if not self.complete:
            return f"<p><b>{escape(repr(self))}</b></p>"
        title = super().__repr__()
        return html_table(title, _HEADS, [self._line(one) for one in self.schema])

    def _line(self, one: Field) -> list[str]:
        known = self.statistics.get(one.name)
        if known is None:
            return [one.name, one.standard, "too few", *[""] * 6]
        if one.kind == "category":
            return [one.name, one.standard, f"{known.count:,}", *[""] * 5, ", ".join(known.categories)]
        figures = [known.mean, known.std, *(known.quantiles[q] for q in (0.25, 0.5, 0.75))]
        return [one.name, one.standard, f"{known.count:,}", *(f"{figure:.6g}" for figure in figures), ""]


def fit_standard(
    network: "LocalNetwork",
    schema: Schema,
    *,
    name: str = "",
    drop: Drop | None = None,
    observe: Observer | None = None,
    **options: Any,
) -> StandardFit:
    """Fit a schema's transforms over all nodes of a network.

    Parameters
    ----------
    network : LocalNetwork
        Its nodes check their rows against the schema before anything happens on chain.
    schema : Schema
        Whose columns are standardised.
    name : str
        Name of the task for people; the schema's by default.
    drop, observe
        As for ``LocalNetwork.run``.
    **options
        As for ``StandardiseTask``: ``min_count=``, ``resolution=``, ``shares=``, ``max_categories=``, …

    Raises
    ------
    SchemaError
        If a node's rows do not fit the schema.
    TaskError
        If it is no schema, or an option is wrong.

    Examples
    --------
    >>> fit = kit.federated.fit_standard(network, schema)
    >>> fit.standard.apply(schema.validate(frame))
    """
    if not isinstance(schema, Schema):
        raise TaskError(f"schema is a {type(schema).__name__}", hint="pass a kit.vsies.Schema")
    if not hasattr(network, "run"):
        raise TaskError(f"network is a {type(network).__name__}", hint="pass a LocalNetwork first")
    # A fresh salt, so that nobody can choose categories that collide.
    options = {"salt": token_hex(16), **known_options(StandardiseTask, options)}
    task = StandardiseTask(name or f"standard of {schema.name}", schema.to_json(), **options)
    found = network.run(task, drop=drop, observe=observe)
    if not isinstance(found, StandardFit):
        raise TaskError(f"the network gave back {found!r}", hint="pass a network of nodes")
    return found


def known_options(task: type, options: dict[str, Any]) -> dict[str, Any]:
    """Return options that a task has, or name the one that it has not.

    Raises
    ------
    TaskError
        An option is unknown.
    """
    known = [one for one in inspect.signature(task).parameters if one not in ("name", "schema", "standard")]
    if strange := [name for name in options if name not in known]:
        raise TaskError(
            f"{task.__name__} has no option {strange[0]!r}",
            hint=f"{meant(strange[0], known)}it has {', '.join(known)}",
        )
    return options


def _is_open(one: Field) -> bool:
    return one.kind == "category" and not one.categories


def _width(one: Field) -> int:
    """Return the lanes that the shares of a column have for themselves."""
    return {"category": len(one.categories), "bool": 0}.get(one.kind, _BINS)


def _of_truths(count: int, mean: float) -> tuple[dict[float, float], tuple[float, ...]]:
    """Return quantiles and shares of truth values: their number and mean tell all of them."""
    # The mean may be of other survivors than the count, or of a node that lies.
    false = min(max(round(count * (1 - mean)), 0), count)
    ranked = np.clip(np.array(QUANTILES) * (count - 1) - (false - 1), 0.0, 1.0)
    quantiles = dict(zip(QUANTILES, ranked.tolist(), strict=True))
    edges = bins(quantiles)
    counts = np.bincount(np.searchsorted(edges, [0.0, 1.0]), [false, count - false], len(edges) + 1)
    return quantiles, tuple((counts / count).tolist())
