"""How far the nodes' rows are from a standard, told by a sum that names no node."""

from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pandas as pd

from twopm_kit.errors import TaskError
from twopm_kit.federated.result import FederatedResult, RunRecord
from twopm_kit.federated.standardise import known_options
from twopm_kit.federated.statistics import exact_lanes, exact_rounds
from twopm_kit.federated.task import Criteria, State, Task, Update
from twopm_kit.secagg import Decoded, RoundConfig
from twopm_kit.vsies.drift_table import drift
from twopm_kit.vsies.report import html_table
from twopm_kit.vsies.schema import Schema
from twopm_kit.vsies.standard import Standard

if TYPE_CHECKING:
    from twopm_kit.federated.network import LocalNetwork

__all__ = ["DriftReport", "DriftTask", "drift_report"]

_FIGURES: Final = ("psi", "ks", "mean_shift")
_VERDICTS: Final = ("stable", "shifted", "drifted", "too few", "unknown")
_MOST: Final = 16.0
"""Largest figure that one node adds to a mean: an index of 0.25 is large already."""


class DriftTask(Task):
    """One round that adds up what each node has found at home with ``vsies.drift``.

    Parameters
    ----------
    name : str
        Name for people.
    standard : str
        Canonical JSON of the standard, ``standard.to_json()``. Rows that do not fit its schema are refused.
    min_clients, max_clients : int
        Fewest survivors of a round, and most members.
    criteria : Criteria, optional
        Who may join.

    Notes
    -----
    A column's lanes are the node's verdict, 1 at one of five places, and its figures: the population
    stability index, the Kolmogorov-Smirnov distance and the size of the mean shift, each cut to 16. What is
    not known adds nothing. Whoever reads the sum learns the means, and how many nodes came to each verdict,
    not which. That tells the most where it is about few: if one column of one node has drifted, its index
    follows from the mean when the others are near 0, and of two nodes each can work out the other's figures.
    A node that lies can shift a mean by 16 over the number of nodes, and the counts likewise; counts that
    cannot be are refused.
    """

    def __init__(
        self,
        name: str,
        standard: str,
        *,
        min_clients: int = 2,
        max_clients: int = 50,
        criteria: Criteria | None = None,
    ) -> None:
        # One round is needed; the others are spare, for rounds that too few nodes survive.
        super().__init__(
            name, max_rounds=4, min_clients=min_clients, max_clients=max_clients, criteria=criteria
        )
        self.standard = Standard.from_json(standard)

    def round_config(self) -> RoundConfig:
        """Return 64-bit lanes, in which counts are exact and figures nearly so."""
        return exact_lanes(self, _MOST)

    def adapted(self, own: RoundConfig, wanted: RoundConfig) -> RoundConfig:
        """Keep the encoding, whatever a network wants: cut or rounded sums would be silently wrong."""
        return exact_rounds(own, wanted)

    def settings(self) -> dict[str, Any]:
        """Return the standard, which is all that the figures depend on."""
        return {"standard": self.standard.to_json()}

    def initial_state(self) -> State:
        """Return that nothing is known yet."""
        lanes = len(_VERDICTS) + len(_FIGURES)
        return {"nodes": np.array(0.0), "sums": np.full((len(self.standard.schema.names), lanes), np.nan)}

    def update_size(self) -> int:
        """Return the lanes of all columns."""
        return int(self.initial_state()["sums"].size)

    def check(self, frame: pd.DataFrame) -> None:
        """Refuse rows that do not fit the schema."""
        super().check(frame)
        self.standard.schema.validate(frame)

    def local_update(self, state: State, frame: pd.DataFrame, round: int) -> Update:
        """Send the verdict on each column, and its figures."""
        del state, round
        found = drift(self.standard, frame).set_index("column")
        verdicts = np.array([found["verdict"] == verdict for verdict in _VERDICTS], np.float64)
        figures = np.nan_to_num(np.abs(found[list(_FIGURES)].to_numpy(np.float64)), posinf=_MOST)
        return Update(np.hstack([verdicts.T, np.minimum(figures, _MOST)]).ravel())

    def merge(self, state: State, aggregate: Decoded) -> State:
        """Keep the sums."""
        return {
            "nodes": np.array(float(aggregate.weight)),
            "sums": aggregate.sum.reshape(state["sums"].shape),
        }

    def finished(self, state: State) -> bool:
        """Tell whether the round has run."""
        return bool(state["nodes"] > 0)

    def result(self, state: State, record: RunRecord) -> "DriftReport":
        """Return the report."""
        return DriftReport(self, state, record)


class DriftReport(FederatedResult):
    """How the nodes' columns compare with the standard, over all nodes and naming none."""

    task: DriftTask

    def __init__(self, task: DriftTask, state: State, record: RunRecord) -> None:
        super().__init__(task, state, record)
        self.task = task

    @property
    def table(self) -> pd.DataFrame:
        """One line for each column: number of nodes by verdict, and mean figures.

        ``psi``, ``ks`` and ``mean_shift`` (its size) are means over the nodes with a verdict of "stable",
        "shifted" or "drifted", each figure cut to 16; NaN without such a node, and where `vsies.drift` gives
        none, as for distances between categories.

        Raises
        ------
        TaskError
            If the counts of a column are not those of so many nodes: a node does not compute what it should.
        """
        sums, nodes = self.state["sums"], float(self.state["nodes"])
        verdicts, figures = np.round(sums[:, : len(_VERDICTS)]), sums[:, len(_VERDICTS) :]
        whole = np.abs(verdicts - sums[:, : len(_VERDICTS)]).max() < 1e-6
        if not whole or verdicts.min() < 0 or (verdicts.sum(axis=1) != nodes).any():
            raise TaskError(
                "the verdicts do not add up to the number of nodes",
                hint="find the node that does not compute",
            )
        judged = verdicts[:, :3].sum(axis=1, keepdims=True)
        means = np.divide(figures, judged, out=np.full_like(figures, np.nan), where=judged > 0)
        schema = self.task.standard.schema
        means[[one.kind == "category" for one in schema], 1:] = np.nan
        table = pd.DataFrame(verdicts.astype(np.int64), index=schema.names, columns=list(_VERDICTS))
        table[list(_FIGURES)] = means
        return table.rename_axis(index="column")

    def __repr__(self) -> str:
        return f"{super().__repr__()}\n{self.table.to_string(float_format='{:.3g}'.format)}"

    def _repr_html_(self) -> str:
        table = self.table.reset_index()
        lines = [
            [f"{value:.3g}" if isinstance(value, float) else value for value in line]
            for line in table.itertuples(index=False)
        ]
        return html_table(super().__repr__(), list(table.columns), lines)


def drift_report(
    network: "LocalNetwork", schema: Schema, standard: Standard, *, name: str = "", **options: Any
) -> DriftReport:
    """Let every node compare its rows with a standard at home, and add up what they find in one round.

    A node sees its own table with ``kit.vsies.drift(standard, frame)``, and nobody else does.

    Parameters
    ----------
    network : LocalNetwork
        Its nodes check their rows against the schema before anything happens on chain.
    schema : Schema
        What the rows keep; it must be the standard's own.
    standard : Standard
        With the statistics that it was fitted on, as ``fit_standard`` gives it.
    name : str
        Name of the task for people; the schema's by default.
    **options
        As for ``DriftTask``.

    Raises
    ------
    SchemaError
        If a node's rows do not fit the schema.
    TaskError
        If the standard is none, or of another schema.
    """
    if not isinstance(schema, Schema) or not isinstance(standard, Standard):
        raise TaskError(
            f"schema is a {type(schema).__name__} and standard a {type(standard).__name__}",
            hint="pass a Schema and a Standard: drift_report(network, schema, fit.standard)",
        )
    if standard.schema_hash != schema.hash:
        raise TaskError(
            f"the standard is of schema {standard.schema.name!r} with another hash than {schema.name!r}",
            hint="fit the standard again after changing a schema",
        )
    if not hasattr(network, "run"):
        raise TaskError(f"network is a {type(network).__name__}", hint="pass a LocalNetwork first")
    known_options(DriftTask, options)
    found = network.run(DriftTask(name or f"drift of {schema.name}", standard.to_json(), **options))
    if not isinstance(found, DriftReport):
        raise TaskError(f"the network gave back {found!r}", hint="pass a network of nodes")
    return found
