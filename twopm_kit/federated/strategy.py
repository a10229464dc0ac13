"""How nodes train between two merges, and how their updates become the next model."""

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from twopm_kit.errors import TaskError
from twopm_kit.federated.arguments import number, whole

__all__ = ["FaultTolerantFedAvg", "FedAdam", "FedAvgM", "FedProx", "FedYogi"]

Vector = NDArray[np.float64]
Memory = dict[str, Vector]


@dataclass(frozen=True)
class FaultTolerantFedAvg:
    """Federated averaging over whoever survives the round (McMahan et al. 2017).

    Parameters
    ----------
    min_clients : int
        Fewest survivors; a round with fewer is aborted. At least 2.
    max_clients : int
        Most members that a round selects.
    merge_epoch : int, optional
        Passes over its own rows that a node makes between two merges.
    merge_iteration : int, optional
        Batches between two merges; give this or ``merge_epoch``.
    wait_timeout : float
        Seconds that each step of a round waits for nodes; a network turns it into blocks of its chain. Local
        development chains mine a block a transaction: there each step has two blocks a node, and no clock.
    connection_timeout : float
        Seconds that the wait for nodes to join may take.
    weighting : {"samples", "equal"}
        Whether an update counts by the node's training rows, or as much as any other.
    """

    min_clients: int = 2
    max_clients: int = 50
    merge_epoch: int | None = None
    merge_iteration: int | None = None
    wait_timeout: float = 60.0
    connection_timeout: float = 60.0
    weighting: str = "samples"

    def __post_init__(self) -> None:
        if self.merge_epoch is not None and self.merge_iteration is not None:
            raise TaskError(
                f"merge_epoch={self.merge_epoch} and merge_iteration={self.merge_iteration} are both given",
                hint="give one of them: merge after epochs, or after batches",
            )
        for name in ("merge_epoch", "merge_iteration"):
            if getattr(self, name) is not None:
                whole(name, getattr(self, name))
        for name in ("wait_timeout", "connection_timeout"):
            number(name, getattr(self, name))
        if self.weighting not in ("samples", "equal"):
            raise TaskError(f"weighting is {self.weighting!r}", hint='choose "samples" or "equal"')

    def settings(self) -> dict[str, Any]:
        """Return all of it as JSON values."""
        return {"strategy": type(self).__name__, **asdict(self)}

    @property
    def pull(self) -> float:
        """Weight of the proximal term in local training; 0: none."""
        return 0.0

    def memory(self, size: int) -> Memory:
        """Return what the merge remembers from round to round, before the first one."""
        del size
        return {}

    def step(self, change: Vector, memory: Memory) -> tuple[Vector, Memory]:
        """Turn the nodes' mean change into the model's change.

        Every node computes this for itself, from public sums, with operations that round alike everywhere.

        Parameters
        ----------
        change : ndarray of float64, shape (d,)
            Mean change of the survivors.
        memory : dict of ndarray
            What the step before has left.

        Returns
        -------
        ndarray of float64, shape (d,)
            What is added to the model.
        dict of ndarray
            What the next step is given.
        """
        return change, memory


@dataclass(frozen=True)
class FedProx(FaultTolerantFedAvg):
    """Federated averaging of nodes that are held back near the global model (Li et al. 2020).

    ``train`` adds the proximal term itself, where it can be seen: ``loss + self.proximal(self.model)``.

    Parameters
    ----------
    mu : float
        Weight of the proximal term, half of mu times the squared distance to the global model.
    """

    mu: float = 0.01

    def __post_init__(self) -> None:
        super().__post_init__()
        number("mu", self.mu)

    @property
    def pull(self) -> float:
        """Weight of the proximal term in local training."""
        return self.mu


@dataclass(frozen=True)
class FedAvgM(FaultTolerantFedAvg):
    """Federated averaging with momentum in the merge (Hsu, Qi and Brown 2019).

    Parameters
    ----------
    server_rate : float
        What the momentum is multiplied with before it is added to the model.
    momentum : float
        Part of the last step that is kept, from 0 to below 1.
    """

    server_rate: float = 1.0
    momentum: float = 0.9

    def __post_init__(self) -> None:
        super().__post_init__()
        number("server_rate", self.server_rate)
        _part("momentum", self.momentum)

    def memory(self, size: int) -> Memory:
        """Return a momentum of zero."""
        return {"momentum": np.zeros(size)}

    def step(self, change: Vector, memory: Memory) -> tuple[Vector, Memory]:
        """Return the momentum after this change."""
        kept = self.momentum * memory["momentum"] + change
        return self.server_rate * kept, {"momentum": kept}


@dataclass(frozen=True)
class FedAdam(FaultTolerantFedAvg):
    """Federated averaging whose merge is a step of Adam (Reddi et al. 2021, algorithm 2).

    Parameters
    ----------
    server_rate : float
        Size of a step.
    beta_1, beta_2 : float
        Parts of first and second moments that are kept, from 0 to below 1.
    tau : float
        Adaptivity: what is added to the root of the second moment. Keep it above the quantisation step.
    """

    server_rate: float = 0.01
    beta_1: float = 0.9
    beta_2: float = 0.99
    tau: float = 1e-3

    def __post_init__(self) -> None:
        super().__post_init__()
        number("server_rate", self.server_rate)
        number("tau", self.tau)
        _part("beta_1", self.beta_1)
        _part("beta_2", self.beta_2)

    def memory(self, size: int) -> Memory:
        """Return a first moment of zero, and a second one of tau²."""
        return {"first": np.zeros(size), "second": np.full(size, self.tau**2)}

    def step(self, change: Vector, memory: Memory) -> tuple[Vector, Memory]:
        """Return the adaptive step."""
        first = self.beta_1 * memory["first"] + (1 - self.beta_1) * change
        second = self._second(memory["second"], change * change)
        return self.server_rate * first / (np.sqrt(second) + self.tau), {"first": first, "second": second}

    def _second(self, second: Vector, squares: Vector) -> Vector:
        return self.beta_2 * second + (1 - self.beta_2) * squares


@dataclass(frozen=True)
class FedYogi(FedAdam):
    """As ``FedAdam``, with a second moment that forgets slowly when changes become small (Yogi)."""

    def _second(self, second: Vector, squares: Vector) -> Vector:
        return second - (1 - self.beta_2) * squares * np.sign(second - squares)


def _part(name: str, value: Any) -> float:
    if isinstance(value, int | float) and not isinstance(value, bool) and value == 0:
        return 0.0
    if (found := number(name, value)) < 1:
        return found
    raise TaskError(f"{name} is {value!r}", hint="give a part of at least 0 and below 1")
