"""Counts, means and variances over all nodes' rows, so that every node can standardise alike."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from twopm_kit.errors import SchemaError
from twopm_kit.federated.arguments import column_names, number
from twopm_kit.federated.result import FederatedResult, RunRecord
from twopm_kit.federated.statistics import exact_lanes, exact_rounds, within
from twopm_kit.federated.task import Criteria, State, Task, Update, numeric
from twopm_kit.secagg import Decoded, RoundConfig

__all__ = ["Moments", "MomentsResult"]


class Moments(Task):
    """Three rounds: means, mean absolute deviations, then both moments of the values on that scale.

    Sums travel with a fixed step, so raw squares of a small column would drown in it, and squares of a
    large one would cost digits (Chan, Golub and LeVeque 1983). The first two rounds find every column's
    centre and scale; the third sums z and z² of ``z = (x - centre) / scale``, which corrects both.

    A column whose mean deviation is below the resolution of the sums, about ``bound * 2**-40`` over the
    number of rows, counts as constant.

    Parameters
    ----------
    name : str
        Name for people.
    columns : sequence of str
        Numeric columns that every node has.
    bound : float
        Largest absolute value of one node's sum or sum of squares. A larger one is refused, never cut.
    min_clients, max_clients : int
        Fewest survivors of a round, and most members.
    criteria : Criteria, optional
        Who may join.
    """

    needs_all_nodes = True

    def __init__(
        self,
        name: str,
        columns: Sequence[str],
        *,
        bound: float = 2.0**30,
        min_clients: int = 2,
        max_clients: int = 50,
        criteria: Criteria | None = None,
    ) -> None:
        # Three rounds are needed; the others are spare, for rounds that too few nodes survive.
        super().__init__(
            name, max_rounds=9, min_clients=min_clients, max_clients=max_clients, criteria=criteria
        )
        self.columns = column_names("columns", columns)
        self.bound = number("bound", bound)

    def round_config(self) -> RoundConfig:
        """Return 64-bit lanes, so that sums agree with pooled rows."""
        return exact_lanes(self, self.bound)

    def adapted(self, own: RoundConfig, wanted: RoundConfig) -> RoundConfig:
        """Keep the encoding, whatever a network wants: cut or rounded sums would be silently wrong."""
        return exact_rounds(own, wanted)

    def settings(self) -> dict[str, Any]:
        """Return what fixes the statistics beside the code."""
        return {"columns": self.columns, "bound": self.bound}

    def initial_state(self) -> State:
        """Return an empty state: neither centre nor scale is known yet."""
        unknown = np.full(len(self.columns), np.nan)
        names = ("center", "scale", "mean", "variance")
        return {"count": np.array(0.0), **{name: unknown.copy() for name in names}}

    def update_size(self) -> int:
        """Return two sums a column and the number of rows."""
        return 2 * len(self.columns) + 1

    def check(self, frame: pd.DataFrame) -> None:
        """Refuse rows with a missing column or a value that is no number."""
        super().check(frame)
        numeric(frame, self.columns)

    def local_update(self, state: State, frame: pd.DataFrame, round: int) -> Update:
        """Sum what the next unknown needs: values, absolute deviations, or scaled values and squares."""
        del round
        x = numeric(frame, self.columns)
        first, second = x, np.zeros_like(x)
        if _known(state["scale"]):
            first = (x - state["center"]) / state["scale"]
            second = first**2
        elif _known(state["center"]):
            first = np.abs(x - state["center"])
        sums = np.concatenate([first.sum(axis=0), second.sum(axis=0)])
        return Update(within(np.append(sums, float(len(x))), self.bound))

    def merge(self, state: State, aggregate: Decoded) -> State:
        """Learn the centre, then the scale, then mean and variance (divisor n - 1)."""
        k = len(self.columns)
        count = float(np.round(aggregate.sum[-1]))
        first, second = aggregate.sum[:k] / count, aggregate.sum[k : 2 * k]
        if not _known(state["center"]):
            return {**state, "center": first}
        if not _known(state["scale"]):
            # A deviation below the step of the encoding is no deviation: the column is constant.
            resolution = 4 * aggregate.step * self.max_clients / count
            return {**state, "scale": np.where(first > resolution, first, 1.0)}
        scale = state["scale"]
        return {
            **state,
            "count": np.array(count),
            "mean": state["center"] + scale * first,
            "variance": scale**2 * np.maximum(second - count * first**2, 0.0) / max(count - 1, 1.0),
        }

    def finished(self, state: State) -> bool:
        """Tell whether all rounds have run."""
        return _known(state["variance"])

    def result(self, state: State, record: RunRecord) -> "MomentsResult":
        """Return means and standard deviations by column."""
        return MomentsResult(self, state, record)


def _known(values: NDArray[np.float64]) -> bool:
    return bool(np.isfinite(values).all())


class MomentsResult(FederatedResult):
    """Statistics over all nodes' rows, and the transform that they give."""

    def __init__(self, task: Moments, state: State, record: RunRecord) -> None:
        super().__init__(task, state, record)
        self._columns = task.columns

    @property
    def count(self) -> int:
        """Rows over all survivors."""
        return int(self.state["count"])

    @property
    def mean(self) -> pd.Series:
        """Means by column."""
        return pd.Series(self.state["mean"], index=self._columns, name="mean")

    @property
    def std(self) -> pd.Series:
        """Standard deviations by column (divisor n - 1)."""
        return pd.Series(np.sqrt(self.state["variance"]), index=self._columns, name="std")

    def standardize(self, frame: pd.DataFrame) -> pd.DataFrame:
        """Return a copy of the frame whose columns have mean 0 and standard deviation 1 over all nodes.

        A column that is constant over all nodes becomes 0.
        """
        absent = [column for column in self._columns if column not in frame.columns]
        if absent:
            raise SchemaError(
                f"columns {absent} are not in the frame, which has {list(frame.columns)}",
                hint="pass a frame with the columns that the statistics were taken of",
            )
        spread = self.std.mask(self.std < 1e-7 * self.mean.abs().clip(lower=1e-7), 1.0)
        return frame.assign(**((frame[self._columns] - self.mean) / spread))
