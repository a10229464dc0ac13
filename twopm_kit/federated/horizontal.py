"""Horizontal federated learning: every node has the same columns and rows of its own (torch)."""

import itertools
from abc import abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any

import numpy as np
import pandas as pd
import torch
from eth_hash.auto import keccak

from twopm_kit.errors import TaskError
from twopm_kit.federated.arguments import whole
from twopm_kit.federated.privacy import Privacy
from twopm_kit.federated.result import FederatedResult, RunRecord
from twopm_kit.federated.robust import Robust
from twopm_kit.federated.strategy import FaultTolerantFedAvg
from twopm_kit.federated.task import Criteria, State, Task, Update, flatten, unflatten
from twopm_kit.secagg import Decoded, RoundConfig

__all__ = ["HorizontalLearning"]

_MEMORY = "strategy."
_WHOLE = (torch.bool, torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64)
_DTYPES = (torch.float16, torch.float32, torch.float64, *_WHOLE)


class HorizontalLearning(Task):
    """A torch model that is trained where the rows are; derive from it and write the six methods.

    Parameters
    ----------
    name : str
        Name for people.
    max_rounds : int
        Rounds that the task may take.
    validate_interval : int
        The global model is validated in every such round; the metrics are aggregated as secretly as the
        weights, weighted by validation rows.
    validate_frac : float
        Part of each node's rows that is kept for validation, in [0, 1).
    strategy : FaultTolerantFedAvg, optional
        How updates are merged.
    privacy : Privacy, optional
        Noise that nodes add to their updates, and the norm that updates are cut to. All nodes then count
        alike.
    robust : Robust or {"median", "trimmed_mean"}, optional
        Combine group sums so that a few poisoned nodes cannot steer the result. Nodes of a group are
        averaged, and groups count alike.
    clip : float
        Largest absolute change of one parameter in one round; larger changes are cut to it.
    value_bits : int
        Bits of one encoded parameter; the quantisation step is ``2 * clip / 2**value_bits``.
    metrics : sequence of str
        The keys that ``validate`` returns.
    criteria : Criteria, optional
        Who may join.
    seed : int
        Fixes shuffling and dropout in training, which are not secret.

    Notes
    -----
    Your class holds the model, and ``state_dict`` returns its tensors (the same ones, not copies): before a
    node trains, the global parameters are copied into them. Entries that are not floating are not merged.
    """

    def __init__(
        self,
        name: str,
        max_rounds: int,
        validate_interval: int = 1,
        validate_frac: float = 0.1,
        strategy: FaultTolerantFedAvg | None = None,
        *,
        privacy: Privacy | None = None,
        robust: Robust | str | None = None,
        clip: float = 1.0,
        value_bits: int = 16,
        metrics: Sequence[str] = ("loss", "accuracy"),
        criteria: Criteria | None = None,
        seed: int = 0,
    ) -> None:
        self.strategy = FaultTolerantFedAvg() if strategy is None else strategy
        if not isinstance(self.strategy, FaultTolerantFedAvg):
            raise TaskError(f"strategy is {strategy!r}", hint="pass FaultTolerantFedAvg(), FedAdam(), ...")
        if not isinstance(privacy, Privacy | None):
            raise TaskError(
                f"privacy is {privacy!r}", hint="pass Privacy(noise_multiplier=..., clip_norm=...)"
            )
        self.privacy = privacy
        self.robust = Robust.of(robust)
        super().__init__(
            name,
            max_rounds=max_rounds,
            min_clients=self.strategy.min_clients,
            max_clients=self.strategy.max_clients,
            criteria=criteria,
        )
        if not isinstance(validate_frac, int | float) or not 0 <= validate_frac < 1:
            raise TaskError(
                f"validate_frac is {validate_frac!r}", hint="keep a part of at least 0 and below 1"
            )
        self.wait_timeout = self.strategy.wait_timeout
        self.connection_timeout = self.strategy.connection_timeout
        self.validate_interval = whole("validate_interval", validate_interval)
        self.validate_frac = validate_frac
        if isinstance(metrics, str):
            raise TaskError(f"metrics is the text {metrics!r}", hint=f"pass a tuple: ({metrics!r},)")
        if not isinstance(metrics, Iterable):
            raise TaskError(f"metrics is {metrics!r}", hint="pass the keys that validate returns, or ()")
        self.metric_names = tuple(metrics)
        self.clip = clip
        self.value_bits = value_bits
        self.seed = whole("seed", seed, 0)
        self._anchors: dict[int, torch.Tensor] = {}
        self._pulled = True

    # What you write -----------------------------------------------------------------------------------

    @abstractmethod
    def dataset(self) -> str:
        """Return the name of the data set that nodes must bring."""

    @abstractmethod
    def make_train_dataloader(self, dataset: pd.DataFrame) -> Iterable[Any]:
        """Return batches of a node's training rows."""

    @abstractmethod
    def make_validate_dataloader(self, dataset: pd.DataFrame) -> Iterable[Any]:
        """Return batches of a node's validation rows."""

    @abstractmethod
    def train(self, dataloader: Iterable[Any]) -> None:
        """Train the model on the batches."""

    @abstractmethod
    def validate(self, dataloader: Iterable[Any]) -> dict[str, float]:
        """Return the metrics of the model on the batches, as means over rows."""

    @abstractmethod
    def state_dict(self) -> dict[str, torch.Tensor]:
        """Return the model's own tensors by name."""

    # What the kit does with it ------------------------------------------------------------------------

    def round_config(self) -> RoundConfig:
        """Return 32-bit lanes with weights up to the largest number of rows that fits."""
        return RoundConfig(
            clip=self.clip,
            value_bits=self.value_bits,
            lanes=8,
            min_clients=self.min_clients,
            max_clients=self.max_clients,
            **self._guarded(),
        )

    def adapted(self, own: RoundConfig, wanted: RoundConfig) -> RoundConfig:
        """Return what a network wants; ``privacy`` and ``robust`` are promises of the task and stay.

        Raises
        ------
        TaskError
            If the network's configuration contradicts them.
        """
        guarded = self._guarded()
        for name, value in guarded.items():
            given = getattr(wanted, name)
            # The largest weight is worked out where it is not given, so it says nothing about a wish.
            if name != "max_weight" and given not in (value, getattr(RoundConfig, name)):
                raise TaskError(
                    f"the network's config has {name}={given!r}, and {self.name!r} asks for {value!r}",
                    hint="leave it out of the network's config, or out of privacy= and robust=",
                )
        free = replace(wanted, max_weight=None)
        return replace(
            wanted,
            **{
                "max_weight": None if free.max_weight == wanted.max_weight else wanted.max_weight,
                "min_clients": own.min_clients,
                "max_clients": own.max_clients,
                **guarded,
            },
        )

    def _guarded(self) -> dict[str, Any]:
        """Return the fields of a round that privacy and robust aggregation ask for."""
        wishes = [wish.round_fields() for wish in (self.privacy, self.robust) if wish is not None]
        return {name: value for fields in wishes for name, value in fields.items()}

    def proximal(self, model: torch.nn.Module) -> torch.Tensor:
        """Return the proximal term of ``FedProx`` for a model in training; 0 under other strategies.

        Add it to the loss: ``(loss + self.proximal(self.model)).backward()``. It is half of mu times the
        squared distance of the parameters from the global model that this round started from.

        Raises
        ------
        TaskError
            If the model has parameters that ``state_dict`` does not return.
        """
        self._pulled = True
        parameters = [p for p in model.parameters() if p.requires_grad]
        strange = [p for p in parameters if p.data_ptr() not in self._anchors]
        if strange and self.strategy.pull:
            raise TaskError(
                f"{len(strange)} parameters of the model are not in state_dict(), or are new ones",
                hint="pass the model whose state_dict() the task returns",
            )
        apart = [((p - self._anchors[p.data_ptr()]) ** 2).sum() for p in parameters if self.strategy.pull]
        return 0.5 * self.strategy.pull * torch.stack(apart).sum() if apart else torch.zeros(())

    def settings(self) -> dict[str, Any]:
        """Return what fixes the training beside the code."""
        return {
            "dataset": self.dataset(),
            "validate_interval": self.validate_interval,
            "validate_frac": self.validate_frac,
            "strategy": self.strategy.settings(),
            "privacy": None if self.privacy is None else asdict(self.privacy),
            "robust": None if self.robust is None else asdict(self.robust),
            "seed": self.seed,
        }

    def dataset_name(self) -> str:
        """Return the data set that the task names."""
        found = self.criteria.dataset or self.dataset()
        if not isinstance(found, str):
            raise TaskError(f"dataset() returned {found!r}", hint="return the data set's name, or '' for any")
        return found

    def check(self, frame: pd.DataFrame) -> None:
        """Refuse an empty frame, and a ``state_dict`` that the global model could not be copied into."""
        super().check(frame)
        first, second = self.state_dict(), self.state_dict()
        for state in (first, second):
            if not isinstance(state, Mapping) or not all(isinstance(t, torch.Tensor) for t in state.values()):
                raise TaskError(
                    f"state_dict() returned {type(state).__name__}, tensors by name were expected",
                    hint="return self.model.state_dict()",
                )
        if first.keys() != second.keys():
            raise TaskError(
                f"state_dict() returns other names each time: {list(first)}, then {list(second)}",
                hint="return self.model.state_dict(), the model's own tensors",
            )
        unfit = [name for name, tensor in first.items() if not _fits(tensor)]
        if unfit:
            raise TaskError(
                f"{', '.join(unfit)} of state_dict() cannot be merged: uninitialised, or of a dtype that "
                "NumPy lacks or that is complex",
                hint="use float16, float32 or float64, and run lazy layers once in __init__",
            )
        copied = [name for name, tensor in first.items() if tensor.data_ptr() != second[name].data_ptr()]
        if copied:
            raise TaskError(
                f"state_dict() returns copies of {', '.join(copied)}: no global model would reach the nodes",
                hint="return self.model.state_dict(), the model's own tensors",
            )

        reserved = [name for name in first if name.startswith(_MEMORY)]
        if reserved:
            raise TaskError(
                f"state_dict() has {reserved}, names that the strategy keeps", hint="rename the layers"
            )

    def initial_state(self) -> State:
        """Return the parameters that the task was made with, and the empty memory of the strategy."""
        memory = self.strategy.memory(self.update_size())
        return {**self._own_state(), **{_MEMORY + name: value for name, value in memory.items()}}

    def result(self, state: State, record: RunRecord) -> FederatedResult:
        """Return the model, without what the strategy remembers."""
        return FederatedResult(self, _model(state), record)

    def _own_state(self) -> State:
        return {name: tensor.detach().cpu().numpy().copy() for name, tensor in self.state_dict().items()}

    def update_size(self) -> int:
        """Return the number of floating parameters."""
        return sum(t.numel() for t in self.state_dict().values() if t.is_floating_point())

    def local_update(self, state: State, frame: pd.DataFrame, round: int) -> Update:
        """Validate the global model, train it on the node's rows, and return the change.

        Parameters
        ----------
        state : dict of ndarray
            The global model.
        frame : DataFrame
            The node's rows.
        round : int
            The round's number, from 1.

        Returns
        -------
        Update
            Change of every parameter, weighted by training rows.
        """
        train_rows, validate_rows = self._hold_out(frame)
        state = _model(state)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self._seed(round))
            self._load(state)
            metrics, count = self._validated(validate_rows, round)
            self._trained(train_rows)
        values = flatten(self._own_state()) - flatten(state)
        weight = self._weight(len(train_rows)) if self.strategy.weighting == "samples" else 1
        return Update(values, weight, metrics, count)

    def merge(self, state: State, aggregate: Decoded) -> State:
        """Take the strategy's step from the mean change of the survivors."""
        model = _model(state)
        memory = {name.removeprefix(_MEMORY): state[name] for name in state if name not in model}
        change, memory = self.strategy.step(aggregate.mean, memory)
        merged = unflatten(flatten(model) + change, like=model)
        return {**merged, **{_MEMORY + name: value for name, value in memory.items()}}

    def _seed(self, round: int) -> int:
        """Return a seed of this node and round, so that nodes do not shuffle alike."""
        return int.from_bytes(keccak(f"{self.seed}:{self.node}:{round}".encode())[:7], "big")

    def _weight(self, rows: int) -> int:
        # Rows beyond the largest weight count as the largest weight: the lane's bound comes first.
        return max(1, min(rows, self.config().weight_limit))

    def _load(self, state: State) -> None:
        with torch.no_grad():
            for name, tensor in self.state_dict().items():
                tensor.copy_(torch.from_numpy(np.asarray(state[name])))

    def _hold_out(self, frame: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
        """Split a node's rows, the same way in every round."""
        order = np.random.default_rng(self.seed).permutation(len(frame))
        held = min(round(self.validate_frac * len(frame)), len(frame) - 1)
        return frame.iloc[np.sort(order[held:])], frame.iloc[np.sort(order[:held])]

    def _validated(self, rows: pd.DataFrame, round: int) -> tuple[np.ndarray[Any, np.dtype[np.float64]], int]:
        empty = np.zeros(len(self.metric_names))
        if len(rows) == 0 or not self.metric_names or (round - 1) % self.validate_interval:
            return empty, 0
        with torch.no_grad():
            found = self.validate(self.make_validate_dataloader(rows))
        if not isinstance(found, Mapping) or set(found) != set(self.metric_names):
            shown = sorted(found) if isinstance(found, Mapping) else repr(found)
            raise TaskError(
                f"validate returned {shown}, the task announced {sorted(self.metric_names)}",
                hint="pass metrics=(...) with exactly the keys that validate returns",
            )
        # A loss that runs away must not silence the node: what counts is that it is large.
        bound = self.config().metric_bound
        try:
            values = np.array([float(found[name]) for name in self.metric_names])
        except (TypeError, ValueError, RuntimeError) as fault:
            raise TaskError(
                f"validate returned what is no number: {fault}", hint="return one float for each metric"
            ) from None
        return np.clip(values, -bound, bound), self._weight(len(rows))

    def _trained(self, rows: pd.DataFrame) -> None:
        """Train, and see to it that a proximal term which was asked for was used."""
        tensors = self.state_dict().values()
        self._anchors = {t.data_ptr(): t.detach().clone() for t in tensors if t.is_floating_point()}
        self._pulled = not self.strategy.pull
        self._train(rows)
        self._anchors = {}
        if not self._pulled:
            raise TaskError(
                f"train never used self.proximal(model), so {type(self.strategy).__name__} would do nothing",
                hint="write (loss + self.proximal(self.model)).backward() in train",
            )

    def _train(self, rows: pd.DataFrame) -> None:
        if self.strategy.merge_iteration is None:
            for _ in range(self.strategy.merge_epoch or 1):
                self.train(self.make_train_dataloader(rows))
            return
        batches = itertools.chain.from_iterable(self.make_train_dataloader(rows) for _ in itertools.count())
        self.train(itertools.islice(batches, self.strategy.merge_iteration))


def _fits(tensor: torch.Tensor) -> bool:
    """Tell whether a tensor can be a part of the global model."""
    return tensor.dtype in _DTYPES and not torch.nn.parameter.is_lazy(tensor)


def _model(state: State) -> State:
    """Return a state without what the strategy remembers."""
    return {name: value for name, value in state.items() if not name.startswith(_MEMORY)}
