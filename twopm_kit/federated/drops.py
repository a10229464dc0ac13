"""Which nodes fall silent in which round, and at which step: the drop-outs that a rehearsal asks for."""

from collections.abc import Mapping, Sequence

from twopm_kit.errors import TaskError

__all__ = ["DROP_STEPS", "Drop", "DropPlan"]

DROP_STEPS = ("share", "submit", "open", "attest")

Drop = Mapping[int, Sequence[str | int] | Mapping[str, Sequence[str | int]]]
"""``{round: [nodes]}`` drops nodes in mid-round, after they have shared and before they submit;
``{round: {step: [nodes]}}`` drops them at ``"share"``, ``"submit"``, ``"open"`` or ``"attest"``."""


class DropPlan:
    """A checked plan of drop-outs.

    Parameters
    ----------
    drop : mapping or None
        See ``Drop``. Nodes are named, or counted from 0.
    names : sequence of str
        Names of all nodes.

    Raises
    ------
    TaskError
        If a round, a step or a node does not exist.
    """

    def __init__(self, drop: Drop | None, names: Sequence[str]) -> None:
        self._silent: dict[tuple[int, str], str] = {}
        for round, wanted in (drop or {}).items():
            if not isinstance(round, int) or round < 1:
                raise TaskError(f"drop names round {round!r}", hint="rounds are counted from 1")
            steps = wanted if isinstance(wanted, Mapping) else {"submit": wanted}
            for step, nodes in steps.items():
                if step not in DROP_STEPS:
                    raise TaskError(
                        f"drop names step {step!r} in round {round}",
                        hint=f"use one of: {', '.join(DROP_STEPS)}",
                    )
                for node in nodes:
                    self._add(round, step, _resolve(node, names))

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
    if isinstance(node, int) and not isinstance(node, bool) and 0 <= node < len(names):
        return names[node]
    raise TaskError(f"drop names node {node!r}, which does not exist", hint=f"use one of: {', '.join(names)}")
