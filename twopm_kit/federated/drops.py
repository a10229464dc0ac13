"""Which nodes fall silent in which round, and at which step: the drop-outs that a rehearsal asks for."""

from collections.abc import Iterable, Mapping, Sequence
from typing import SupportsIndex

from twopm_kit.errors import TaskError
from twopm_kit.federated.arguments import whole

__all__ = ["DROP_STEPS", "Drop", "DropPlan"]

DROP_STEPS = ("share", "submit", "deliver", "open", "attest")

Drop = Mapping[int, Sequence[str | int] | Mapping[str, Sequence[str | int]]]
"""``{round: [nodes]}`` drops nodes in mid-round, after they have shared and before they submit;
``{round: {step: [nodes]}}`` drops them at ``"share"``, ``"submit"``, ``"deliver"`` (they commit to a vector
and then withhold it), ``"open"`` or ``"attest"``."""


class DropPlan:
    """A checked plan of drop-outs.

    Parameters
    ----------
    drop : mapping or None
        See ``Drop``. Nodes are named, or counted from 0.
    names : sequence of str
        Names of all nodes.
    rounds : int
        Rounds that the task may take.

    Raises
    ------
    TaskError
        If a round, a step or a node does not exist.
    """

    def __init__(self, drop: Drop | None, names: Sequence[str], rounds: int) -> None:
        self._silent: dict[tuple[int, str], str] = {}
        if not isinstance(drop or {}, Mapping):
            raise TaskError(f"drop is {drop!r}", hint="pass {round: [nodes]}")
        for key, wanted in (drop or {}).items():
            round = whole("a round in drop", key)
            if round > rounds:
                raise TaskError(f"drop names round {round} of {rounds}", hint="name one that the task has")
            steps = wanted if isinstance(wanted, Mapping) else {"submit": wanted}
            for step, nodes in steps.items():
                if step not in DROP_STEPS:
                    raise TaskError(
                        f"drop names step {step!r} in round {round}",
                        hint=f"use one of: {', '.join(DROP_STEPS)}",
                    )
                if isinstance(nodes, str) or not isinstance(nodes, Iterable):
                    raise TaskError(
                        f"drop gives {nodes!r} where a list of nodes belongs",
                        hint=f"pass a list: [{nodes!r}]",
                    )
                for node in nodes:
                    self._add(round, step, _resolve(node, names))

    @property
    def withholds(self) -> bool:
        """Whether a node commits to a vector and then keeps it back."""
        return "deliver" in self._silent.values()

    def _add(self, round: int, step: str, name: str) -> None:
        known = self._silent.get((round, name), DROP_STEPS[-1])
        self._silent[round, name] = min(known, step, key=DROP_STEPS.index)

    def is_silent(self, round: int, name: str, step: str) -> bool:
        """Tell whether a node says nothing at this step of this round."""
        since = self._silent.get((round, name))
        return since is not None and DROP_STEPS.index(step) >= DROP_STEPS.index(since)


def _resolve(node: str | int, names: Sequence[str]) -> str:
    if isinstance(node, str) and node in names:
        return node
    if isinstance(node, SupportsIndex) and not isinstance(node, bool) and 0 <= node.__index__() < len(names):
        return names[node]
    raise TaskError(f"drop names node {node!r}, which does not exist", hint=f"use one of: {', '.join(names)}")
