"""What happens in a round, told step by step to whoever watches."""

from collections.abc import Callable
from dataclasses import dataclass

__all__ = ["STEPS", "Observer", "RoundEvent"]

STEPS = (
    "register",
    "join",
    "select",
    "share",
    "submit",
    "challenge",
    "freeze",
    "open",
    "attest",
    "convict",
    "finish",
    "abort",
)


@dataclass(frozen=True)
class RoundEvent:
    """One party's step in one round.

    Attributes
    ----------
    task_id, round : int
        Where it happened; round 0 is before the first round.
    step : str
        One of ``STEPS``.
    node : str
        Name of the party; empty for the chain itself.
    status : str
        ``"done"``, ``"dropped"``, ``"refused"`` or ``"pending"``.
    gas : int
        Gas that the party spent on this step.
    seconds : float
        Wall time of the party's own work and its transaction.
    detail : str
        One sentence for the reader.
    """

    task_id: int
    round: int
    step: str
    node: str
    status: str
    gas: int = 0
    seconds: float = 0.0
    detail: str = ""


Observer = Callable[[RoundEvent], None]
