"""The door to analytics: a study names columns, collects questions and has a network answer them."""

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from twopm_kit.errors import TaskError
from twopm_kit.federated.analytics.columns import Rows, Statistic
from twopm_kit.federated.analytics.expressions import Level
from twopm_kit.federated.analytics.task import AnalyticsResult, AnalyticsTask
from twopm_kit.federated.arguments import column_names
from twopm_kit.federated.task import Criteria

if TYPE_CHECKING:
    from twopm_kit.federated.network import LocalNetwork

__all__ = ["HorizontalAnalytics"]


class HorizontalAnalytics(Rows):
    """A frame that nobody holds: all nodes' rows, asked as one asks pandas.

    Columns and statistics are lazy. A network answers as many of them as are asked together in two rounds
    (means), three (deviations), or seven (order statistics, to the default resolution).

    Parameters
    ----------
    name : str
        Name for people.
    columns : sequence of str
        Numeric columns that every node has.
    categories : mapping of str to sequence, optional
        Columns to group by, with all levels that they may have. Levels are agreed on before anybody looks at
        rows: a node does not know which ones the others have.
    min_count : int
        Fewest values behind a number that is shown; others are NaN, and their sums are never sent. 1 shows
        everything. The counts themselves are public sums.
    resolution : float
        Relative resolution of minima, maxima and quantiles.
    min_clients, max_clients, wait_timeout, connection_timeout, criteria
        As for ``LogitTask``.

    Examples
    --------
    >>> study = HorizontalAnalytics("pay", columns=["wage", "tenure"], categories={"manager": [0, 1]})
    >>> (study["wage"] / study["tenure"])[study["tenure"] > 0].std()
    >>> study[study["tenure"] > 5]["wage"].sem()
    >>> study.groupby("manager")["wage"].median()
    >>> result = network.run(study.ask(mean=study["wage"].mean(), rows=study.size()))
    >>> result["mean"]
    """

    def __init__(
        self,
        name: str,
        columns: Sequence[str] = (),
        categories: Mapping[str, Sequence[Level]] | None = None,
        *,
        min_count: int = 5,
        resolution: float = 1e-6,
        min_clients: int = 2,
        max_clients: int = 50,
        wait_timeout: float = 60.0,
        connection_timeout: float = 60.0,
        criteria: Criteria | None = None,
    ) -> None:
        if not isinstance(categories or {}, Mapping):
            raise TaskError(
                f"categories is {categories!r}", hint="pass columns with their levels: {'manager': [0, 1]}"
            )
        levels = {column: _levels(column, found) for column, found in (categories or {}).items()}
        named = [] if levels and isinstance(columns, list | tuple) and not columns else columns
        numbers = column_names("columns", named) if named is columns else []
        numbers = [name for name in numbers if name not in levels]
        strange = [name for name in (*numbers, *levels) if not isinstance(name, str)]
        if strange:
            raise TaskError(
                f"columns {strange} have no texts as names", hint="rename them: frame.rename(columns=str)"
            )
        super().__init__({**dict.fromkeys(numbers), **levels})
        self.name = name
        self._options: dict[str, Any] = {
            "min_count": min_count,
            "resolution": resolution,
            "min_clients": min_clients,
            "max_clients": max_clients,
            "wait_timeout": wait_timeout,
            "connection_timeout": connection_timeout,
            "criteria": criteria,
        }
        self.ask(self.size())  # wrong options are told here, not at the first question

    def __repr__(self) -> str:
        return f"HorizontalAnalytics({self.name!r}, columns {list(self.schema)})"

    def ask(self, *statistics: Statistic, **named: Statistic) -> AnalyticsTask:
        """Return the task that answers statistics together.

        Parameters
        ----------
        *statistics, **named : Statistic
            What is asked; positional ones are named as they are written.
        """
        questions: dict[str, Any] = {}
        for name, one in [*((getattr(s, "text", ""), s) for s in statistics), *named.items()]:
            if not isinstance(one, Statistic):
                raise TaskError(
                    f"{one!r} is no statistic",
                    hint="ask for a number, such as study['age'].mean(), not for a column or rows",
                )
            if questions.setdefault(name, one.plan) != one.plan:
                raise TaskError(
                    f"two questions are called {name!r}", hint="name them: ask(first=..., second=...)"
                )
        asked = json.dumps(questions, separators=(",", ":"))
        return AnalyticsTask(self.name, dict(self.schema), asked, **self._options)

    def run(self, network: "LocalNetwork", *statistics: Statistic, **named: Statistic) -> AnalyticsResult:
        """Have a network answer statistics; return the answers with their story."""
        if not hasattr(network, "run"):
            raise TaskError(f"network is {network!r}", hint="pass a LocalNetwork first, then statistics")
        found = network.run(self.ask(*statistics, **named))
        if not isinstance(found, AnalyticsResult):
            raise TaskError(f"the network gave back {found!r}", hint="pass a network of nodes")
        return found

    def collect(self, network: "LocalNetwork", *statistics: Statistic) -> Any:
        """Have a network answer statistics; return the answers alone: one, or a tuple in the same order."""
        result = self.run(network, *statistics)
        answers = tuple(result[one.text] for one in statistics)
        return answers[0] if len(answers) == 1 else answers


def _levels(column: str, levels: Sequence[Level]) -> list[Level]:
    """Return the levels of a column as JSON values: all texts, or all numbers."""
    if isinstance(levels, str) or not hasattr(levels, "__iter__"):
        raise TaskError(f"the levels of {column!r} are {levels!r}", hint="pass a list of all levels")
    found = [getattr(level, "item", lambda level=level: level)() for level in levels]
    texts = all(isinstance(level, str) for level in found)
    numbers = all(isinstance(level, int | float) and not isinstance(level, bool) for level in found)
    if found and all(isinstance(level, bool) for level in found):
        raise TaskError(
            f"the levels of {column!r} are {found}", hint="name truth values as the numbers [0, 1]"
        )
    if not found or not (texts or numbers) or len(set(found)) != len(found):
        raise TaskError(
            f"the levels of {column!r} are {found}", hint="name each level once: all texts, or all numbers"
        )
    return found
