"""What tasks that sum statistics have in common: lanes that keep the digits, and a bound that refuses."""

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from twopm_kit.errors import EncodingError
from twopm_kit.federated.task import Task
from twopm_kit.secagg import RoundConfig

__all__ = ["exact_lanes", "exact_rounds", "within"]


def exact_rounds(own: RoundConfig, wanted: RoundConfig) -> RoundConfig:
    """Return a task's own encoding, with the rest of what a network wants: see ``Task.adapted``.

    A network's ``clip`` would cut statistics and its ``value_bits`` round them off, unnoticed.
    """
    names = ("gamma", "delta", "mode", "verification", "visibility")
    return replace(own, **{name: getattr(wanted, name) for name in names})


def exact_lanes(task: Task, bound: float) -> RoundConfig:
    """Return lanes of 64 bits: sums agree with pooled rows to about ``bound * 2**-49`` a node.

    Parameters
    ----------
    task : Task
        Gives the number of clients.
    bound : float
        Largest absolute value of one node's statistic.
    """
    return RoundConfig(
        clip=bound,
        value_bits=50,
        lanes=4,
        min_clients=task.min_clients,
        max_clients=task.max_clients,
        max_weight=1,
    )


def within(values: NDArray[np.float64], bound: float) -> NDArray[np.float64]:
    """Return the statistics if all lie within the bound: a cut one would be silently wrong.

    Raises
    ------
    EncodingError
        If one does not. The message does not say which or how large: it is the node's secret.
    """
    if not np.abs(values).max(initial=0.0) <= bound:
        raise EncodingError(
            f"a statistic of this node is beyond the task's bound of {bound:.4g}",
            hint="scale the features, or register the task with a larger bound",
        )
    return values
