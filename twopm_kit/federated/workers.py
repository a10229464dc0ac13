"""Nodes' own computations side by side: worker processes that load the task from its archive."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, TypeAlias

import joblib
import pandas as pd

from twopm_kit import errors
from twopm_kit.errors import TaskError, TwoPMError
from twopm_kit.federated.task import State, Task, Update

if TYPE_CHECKING:
    from twopm_kit.federated.node import Node

__all__ = ["Workers"]

_Failure: TypeAlias = tuple[str, str, str]


class Workers:
    """Computes the updates of many simulated nodes.

    Parameters
    ----------
    task : Task
        The task as it was registered.
    n_jobs : int
        1: each node computes in this process, when its turn comes. More, or -1 for one a core: worker
        processes compute the updates of all nodes before the first one submits.
    """

    def __init__(self, task: Task, n_jobs: int) -> None:
        if isinstance(n_jobs, bool) or not isinstance(n_jobs, int) or n_jobs == 0 or n_jobs < -1:
            raise TaskError(
                f"n_jobs={n_jobs!r}, expected a positive whole number or -1",
                hint="leave it at 1, or pass -1 for one process a core",
            )
        self._n_jobs = n_jobs
        self._archive = task.archive() if n_jobs != 1 else b""
        self._code = task.code_hash()

    def updates(self, nodes: Sequence["Node"], round: int) -> dict[str, Callable[[], Update]]:
        """Return for each node, by name, how to get its update; an error of a node is raised there."""
        if self._n_jobs == 1:
            return {node.name: _later(node, round) for node in nodes}
        jobs: list[tuple[str, State, pd.DataFrame]] = []
        answers: dict[str, Update | _Failure] = {}
        for node in nodes:
            try:
                jobs.append((node.name, node.state, node.frame))
            except TwoPMError as fault:
                answers[node.name] = _told(fault)  # one node that cannot catch up does not stop the others
        compute = joblib.delayed(_compute)
        found = joblib.Parallel(n_jobs=self._n_jobs)(
            compute(self._archive, self._code, *job, round) for job in jobs
        )
        answers |= {name: answer for (name, _, _), answer in zip(jobs, found, strict=True)}
        return {name: _answer(answer) for name, answer in answers.items()}


def _later(node: "Node", round: int) -> Callable[[], Update]:
    return lambda: node.compute(round)


def _answer(found: Update | _Failure) -> Callable[[], Update]:
    def give() -> Update:
        if isinstance(found, Update):
            return found
        kind, message, hint = found
        try:
            fault = getattr(errors, kind)(message, hint=hint)
        except TypeError:  # an error that is made of more than words
            fault = TaskError(f"{kind}: {message}", hint=hint)
        raise fault

    return give


def _compute(
    archive: bytes, code: bytes, name: str, state: State, frame: pd.DataFrame, round: int
) -> Update | _Failure:
    """Run in a worker: errors go back as words, since exceptions do not all survive the way."""
    try:
        task = Task.from_archive(archive, approved=code).for_node(name)
        return task.local_update(state, frame, round)
    except TwoPMError as fault:
        return _told(fault)


def _told(fault: TwoPMError) -> _Failure:
    return type(fault).__name__, fault.message, fault.hint
