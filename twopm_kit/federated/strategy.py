"""How the nodes' updates become the next model."""

from dataclasses import dataclass

from twopm_kit.errors import TaskError
from twopm_kit.federated.arguments import number, whole

__all__ = ["FaultTolerantFedAvg"]


@dataclass(frozen=True)
class FaultTolerantFedAvg:
    """Federated averaging, weighted by rows, over whoever survives the round (McMahan et al. 2017).

    Parameters
    ----------
    min_clients : int
        Fewest survivors; a round with fewer is aborted. At least 2.
    max_clients : int
        Most members that a round selects, at most 50.
    merge_epoch : int, optional
        Passes over its own rows that a node makes between two merges.
    merge_iteration : int, optional
        Batches between two merges; give this or ``merge_epoch``.
    wait_timeout : float
        Seconds that each step of a round waits for nodes; a network turns it into blocks of its chain. Local
        development chains mine a block a transaction: there each step has two blocks a node, and no clock.
    connection_timeout : float
        Seconds that the wait for nodes to join may take.
    """

    min_clients: int = 2
    max_clients: int = 50
    merge_epoch: int | None = None
    merge_iteration: int | None = None
    wait_timeout: float = 60.0
    connection_timeout: float = 60.0

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
