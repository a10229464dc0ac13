"""What a network gives back: the model, and the story of how it came to be."""

from dataclasses import dataclass, field
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from twopm_kit.errors import TaskError
from twopm_kit.federated.events import RoundEvent

if TYPE_CHECKING:
    import torch

    from twopm_kit.federated.privacy import Privacy, Spent
    from twopm_kit.federated.task import State, Task

__all__ = ["FederatedResult", "RoundRecord", "RunRecord"]


@dataclass(frozen=True)
class RoundRecord:
    """One round as the chain saw it.

    Attributes
    ----------
    number : int
        The round's number, from 1.
    status : str
        ``"done"``, ``"aborted"`` (too few were left), or ``"void"`` (a survivor sent what is no encoding).
    members, sharers, survivors : tuple of str
        Names of the nodes that were selected, that committed to shares, and whose vector is in the sum.
    metrics : dict of float
        Validation metrics of the model that entered the round, over all survivors; empty if not validated.
    masked_sum, words : tuple of int
        What the contract held, and the sum that was left when the masks were taken off (field elements).
    weight : int
        Sum of the survivors' weights.
    gas : int
        Gas that everybody spent on the round.
    seconds : float
        Wall time of the round.
    reason : str
        Why an aborted round ended, or why its sum is void.
    """

    number: int
    status: str
    members: tuple[str, ...]
    sharers: tuple[str, ...] = ()
    survivors: tuple[str, ...] = ()
    metrics: dict[str, float] = field(default_factory=dict)
    masked_sum: tuple[int, ...] = field(default=(), repr=False)
    words: tuple[int, ...] = field(default=(), repr=False)
    weight: int = 0
    gas: int = 0
    seconds: float = 0.0
    reason: str = ""


@dataclass(frozen=True)
class RunRecord:
    """The story of a run: where it happened, its rounds, and every step of everybody."""

    task_id: int
    contract: str
    chain_id: int
    rounds: tuple[RoundRecord, ...]
    events: tuple[RoundEvent, ...]


class FederatedResult:
    """Result of a task.

    Attributes
    ----------
    task : Task
        The task as it was registered.
    state : dict of ndarray
        The final model by name.
    rounds : tuple of RoundRecord
        One record a round, aborted rounds included.
    task_id, contract, chain_id
        Where the task lives on chain.
    """

    def __init__(self, task: "Task", state: "State", record: RunRecord) -> None:
        self.task = task
        self.state = state
        self.record = record
        self.task_id = record.task_id
        self.contract = record.contract
        self.chain_id = record.chain_id
        self.rounds = record.rounds

    @property
    def state_dict(self) -> "dict[str, torch.Tensor]":
        """The final model as torch tensors by name, ready for ``module.load_state_dict``."""
        import torch  # only results that are asked for tensors need torch

        return {name: torch.from_numpy(np.array(value)) for name, value in self.state.items()}

    @property
    def history(self) -> pd.DataFrame:
        """One row a round: status, who took part, metrics of the model that entered it, gas and seconds."""
        rows = [
            {
                "round": r.number,
                "status": r.status,
                "members": len(r.members),
                "survivors": len(r.survivors),
                "dropped": ", ".join(sorted(set(r.members) - set(r.survivors))),
                **{name: r.metrics.get(name, float("nan")) for name in self.task.metric_names},
                "gas": r.gas,
                "seconds": r.seconds,
            }
            for r in self.rounds
        ]
        return pd.DataFrame(rows).set_index("round")

    @property
    def gas(self) -> pd.DataFrame:
        """Gas by party (rows) and step (columns) over the whole run."""
        spent = pd.DataFrame(
            [(e.node, e.step, e.gas) for e in self.record.events], columns=["node", "step", "gas"]
        )
        table = spent[spent["gas"] > 0].pivot_table(
            index="node", columns="step", values="gas", aggfunc="sum", fill_value=0
        )
        order = [step for step in dict.fromkeys(spent["step"]) if step in table.columns]
        return table[order].assign(total=table.sum(axis=1))

    def spent(self) -> "Spent | None":
        """Return what the run has cost in privacy; None if the task adds no noise.

        Every sum that could be read counts: of finished and of void rounds, and of aborted ones that had
        enough survivors for shares to be opened.
        """
        privacy: Privacy | None = getattr(self.task, "privacy", None)
        if privacy is None:
            return None
        config = self.task.config()
        told = [r for r in self.rounds if len(r.survivors) >= config.quorum(len(r.members))]
        smallest = []
        for record in told:
            there = [seat for seat, node in enumerate(record.members) if node in record.survivors]
            sizes = [sum(seat % config.groups == group for seat in there) for group in range(config.groups)]
            smallest.append(min(size for size in sizes if size))
        return privacy.spent(
            len(told),
            [len(record.members) for record in told],
            smallest,
            config=config,
            dimension=self.task.update_size(),
            metrics=len(self.task.metric_names),
        )

    def save(self, path: str | Path) -> None:
        """Write the result to one file, as JSON and safetensors; ``load_result`` reads it again."""
        from twopm_kit.federated.saved import save_result  # which knows results; this is the way back

        save_result(self, path)

    def __repr__(self) -> str:
        done = sum(r.status == "done" for r in self.rounds)
        return (
            f"{type(self).__name__}({self.task.name!r}: {done} of {len(self.rounds)} rounds done, "
            f"task {self.task_id} at {self.contract})"
        )

    def _repr_html_(self) -> str:
        shown = {"gas": "{:,}".format, "seconds": "{:.2f}".format}
        table = self.history.to_html(border=0, formatters=shown)
        return f"<p><b>{escape(repr(self))}</b></p>{table}"

    def __reduce__(self) -> Any:
        raise TaskError("results do not travel as pickles", hint="write it with result.save(path)")
