"""What a federated task is: code and parameters that every node runs on rows of its own."""

import copy
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from types import FunctionType, MethodType
from typing import Any, ClassVar, Self

import numpy as np
import pandas as pd
from eth_hash.auto import keccak
from numpy.typing import NDArray

from twopm_kit.errors import SchemaError, TaskError
from twopm_kit.federated.arguments import whole
from twopm_kit.federated.result import FederatedResult, RunRecord
from twopm_kit.federated.robust import Robust, combine_sections
from twopm_kit.federated.sources import Origin, code_of, origin_of
from twopm_kit.federated.values import Recorded, canonical, encode, pack_arrays, recorded
from twopm_kit.secagg import Decoded, RoundConfig

__all__ = ["Criteria", "State", "Task", "Update", "numeric", "state_hash"]

State = dict[str, NDArray[Any]]
"""A model between two rounds: named arrays, in the order in which they are flattened."""


@dataclass(frozen=True)
class Criteria:
    """Who may join a task. The chain checks it when a node joins.

    Attributes
    ----------
    min_rows : int
        Fewest rows that a node must bring.
    min_stake : int
        Smallest stake, in wei; it comes back when the task has ended.
    dataset : str
        Name of the data set that the rows must belong to; empty: any.
    allow_list : tuple of str
        The only accounts that may join; empty: everybody.
    silence_penalty : int
        What a selected node that falls silent in mid-round may lose of its stake, in wei.
    reward : int
        What the owner pays in for the whole task, in wei; each finished round pays an equal part to the
        survivors that opened their shares.
    """

    min_rows: int = 1
    min_stake: int = 0
    dataset: str = ""
    allow_list: tuple[str, ...] = ()
    silence_penalty: int = 0
    reward: int = 0


@dataclass(frozen=True)
class Update:
    """What one node contributes to one round, still in clear; it never leaves the node like this.

    Attributes
    ----------
    values : ndarray of float64, shape (d,)
        The node's contribution.
    weight : int
        Weight of the values in the mean.
    metrics : ndarray of float64, shape (k,)
        Validation metrics, in the order of the task's ``metric_names``.
    metric_weight : int
        Weight of the metrics, the number of validation rows; 0 when nothing was validated.
    """

    values: NDArray[np.float64]
    weight: int = 1
    metrics: NDArray[np.float64] = field(default_factory=lambda: np.zeros(0))
    metric_weight: int = 0


class Task(ABC):
    """Base of all tasks; use ``HorizontalLearning``, ``LogitTask`` or ``Moments``, or derive your own.

    A task is a pure description: every node gets a copy, so nothing that a node computes reaches another
    node except through the round. What it is made from is written down when it is made: constructor
    arguments, and the whole file or notebook cell of its class. ``archive`` turns that into bytes.

    Parameters
    ----------
    name : str
        Name for people.
    max_rounds : int
        Rounds that the task may take, aborted ones included.
    min_clients, max_clients : int
        Fewest survivors of a valid round, and most members that a round selects.
    criteria : Criteria, optional
        Who may join.
    """

    metric_names: tuple[str, ...] = ()
    wait_timeout: float = 60.0
    connection_timeout: float = 60.0
    needs_all_nodes = False
    """Whether each round must be over the same rows, so that a draw of some nodes would be wrong."""
    robust: Robust | None = None
    """How the sums of groups become one update; None: they are added up."""
    _origin: ClassVar[Origin | None] = None
    _recorded: Recorded
    _genesis: State | None = None
    _wanted: RoundConfig | None = None

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        cls._origin = origin_of(cls)

    def __new__(cls, *args: Any, **kwargs: Any) -> Self:
        """Write down what the task is made from, before its constructor can change it."""
        task = super().__new__(cls)
        task._recorded = recorded(cls, args, kwargs)
        return task

    def __init__(
        self,
        name: str,
        *,
        max_rounds: int,
        min_clients: int = 2,
        max_clients: int = 50,
        criteria: Criteria | None = None,
    ) -> None:
        if not isinstance(name, str) or not name:
            raise TaskError(f"the name of the task is {name!r}", hint="give it a name for people")
        max_rounds = whole("max_rounds", max_rounds)
        min_clients, max_clients = whole("min_clients", min_clients), whole("max_clients", max_clients)
        if not 2 <= min_clients <= max_clients:
            raise TaskError(
                f"min_clients is {min_clients} and max_clients is {max_clients}",
                hint="choose 2 <= min_clients <= max_clients: a sum over one node hides nothing",
            )
        if not isinstance(criteria or Criteria(), Criteria):
            raise TaskError(f"criteria is {criteria!r}", hint="pass kit.federated.Criteria(min_rows=…, …)")
        self.name = name
        self.max_rounds = max_rounds
        self.min_clients = min_clients
        self.max_clients = max_clients
        self.criteria = criteria or Criteria()
        self.node = ""

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.name!r}, max_rounds={self.max_rounds})"

    # What a subclass says ---------------------------------------------------------------------------

    @abstractmethod
    def round_config(self) -> RoundConfig:
        """Return how this task's vectors are encoded and protected."""

    @abstractmethod
    def initial_state(self) -> State:
        """Return the model that the first round starts from."""

    @abstractmethod
    def update_size(self) -> int:
        """Return the length d of an update."""

    @abstractmethod
    def local_update(self, state: State, frame: pd.DataFrame, round: int) -> Update:
        """Compute one node's contribution from its own rows."""

    @abstractmethod
    def merge(self, state: State, aggregate: Decoded) -> State:
        """Turn the aggregate of a round into the next model; every node does this for itself."""

    def dataset_name(self) -> str:
        """Return the name of the data set that nodes must bring; empty: any."""
        return self.criteria.dataset

    def check(self, frame: pd.DataFrame) -> None:
        """Refuse rows that the task cannot run on, before anything happens."""
        if len(frame) == 0:
            raise SchemaError("the frame has no rows", hint="give every node at least one row")

    def finished(self, state: State) -> bool:
        """Tell whether the model needs no further round."""
        del state
        return False

    def result(self, state: State, record: RunRecord) -> FederatedResult:
        """Return what the network gives back."""
        return FederatedResult(self, state, record)

    def settings(self) -> dict[str, Any]:
        """Return the parameters of this kind of task, JSON values only."""
        return {}

    def for_node(self, name: str) -> Self:
        """Return a copy that belongs to one node and shares nothing with this one."""
        task = copy.deepcopy(self)
        task.node = name
        return task

    # How its rounds run ---------------------------------------------------------------------------------

    def config(self) -> RoundConfig:
        """Return the numbers of the task's rounds: its own, or what a network wants in their place."""
        own = self.round_config()
        return own if self._wanted is None else self.adapted(own, self._wanted)

    def adapted(self, own: RoundConfig, wanted: RoundConfig) -> RoundConfig:
        """Return what is taken of a network's wish.

        Who takes part stays the task's affair, and so does the encoding of a task whose sums must keep all
        their digits (four lanes).
        """
        if own.lanes == wanted.lanes:
            return replace(wanted, min_clients=own.min_clients, max_clients=own.max_clients)
        names = ("gamma", "delta", "mode", "verification", "visibility")
        return replace(own, **{name: getattr(wanted, name) for name in names})

    def with_config(self, wanted: RoundConfig | None) -> Self:
        """Return the same task with other rounds; see ``LocalNetwork(config=…)``."""
        task = copy.copy(self)
        task._wanted = wanted
        return task

    def combine(self, sections: Sequence[Decoded]) -> Decoded:
        """Make one aggregate of the sums of a round's groups."""
        return combine_sections(sections, self.robust)

    # What travels, and what the chain keeps ------------------------------------------------------------

    def genesis(self) -> State:
        """Return a copy of the model that the first round starts from; an archived task brings it along."""
        if self._genesis is None:
            return self.initial_state()
        return {name: value.copy() for name, value in self._genesis.items()}

    def code(self) -> bytes:
        """Return what the task runs as canonical JSON: every class's whole file or notebook cell.

        Functions that a class calls are covered where they stand in the same file or cell, and the kit's own
        classes by the hashes of their files; installed packages are not.

        Raises
        ------
        TaskError
            If source cannot be found, as for a class typed into a bare interpreter, or if a method was
            replaced on the task itself, where no source says so.
        """
        functions = (FunctionType, MethodType)
        own = type(self)
        patched = [n for n, value in vars(self).items() if isinstance(value, functions) and hasattr(own, n)]
        if patched:
            raise TaskError(
                f"{', '.join(patched)} of {self.name!r} was replaced on the object, which no hash covers",
                hint="write the method in a class of its own",
            )
        return canonical(code_of(type(self)))

    def parameters(self) -> bytes:
        """Return what the task was made with, and all settings that follow, as canonical JSON.

        Raises
        ------
        TaskError
            If a constructor argument cannot travel.
        """
        made = self._recorded.demand()
        return canonical(
            {
                "task": type(self).__name__,
                "arguments": made.arguments,
                "arrays": keccak(self.arrays()).hex(),
                "name": self.name,
                "max_rounds": self.max_rounds,
                "min_clients": self.min_clients,
                "max_clients": self.max_clients,
                "metrics": list(self.metric_names),
                "criteria": asdict(self.criteria),
                "round": asdict(self.config()),
                "wanted": None if self._wanted is None else asdict(self._wanted),
                "settings": self.settings(),
                "attributes": {
                    key: encode(value, key, {})
                    for key, value in vars(self).items()
                    if key != "node" and isinstance(value, bool | int | float | str)
                },
            }
        )

    def arrays(self) -> bytes:
        """Return arrays and tensors among the constructor arguments as safetensors; empty without any."""
        made = self._recorded.demand()
        return pack_arrays(made.arrays) if made.arrays else b""

    def code_hash(self) -> bytes:
        """Return keccak256 of `code`: what nodes compare, and operators approve, before anything runs."""
        return keccak(self.code())

    def archive(self) -> bytes:
        """Return everything that another process needs to make this task; see ``TaskArchive``.

        Raises
        ------
        TaskError
            If the source does not stand alone, or an argument cannot travel.
        """
        from twopm_kit.federated.archive import TaskArchive  # an archive knows tasks; this is the way back

        return TaskArchive.of(self).to_bytes()

    @staticmethod
    def from_archive(data: bytes, *, approved: bytes | None = None) -> "Task":
        """Make a task from its archive.

        Parameters
        ----------
        data : bytes
            What ``archive`` returned, from anybody.
        approved : bytes, optional
            The code hash that a person has approved after reading the source. Without it only tasks of the
            kit's own classes are made.

        Raises
        ------
        TaskError
            If the archive is damaged, its code was not approved, or it does not lead to the same task here.
        """
        from twopm_kit.federated.archive import TaskArchive  # an archive knows tasks; this is the way back

        return TaskArchive.from_bytes(data).load(approved=approved)


def state_hash(state: State) -> bytes:
    """Return keccak256 of a model's safetensors form, which names the order in which it is flattened."""
    return keccak(pack_arrays(state))


def numeric(frame: pd.DataFrame, columns: list[str]) -> NDArray[np.float64]:
    """Return the columns as a float64 matrix, or say which column or row is unfit.

    Raises
    ------
    SchemaError
        If a column is missing, not numeric, or holds NaN or an infinity.
    """
    twice = sorted({str(column) for column in columns if (frame.columns == column).sum() > 1})
    if twice:
        raise SchemaError(
            f"columns {twice} are in the frame more than once", hint="give every column a name of its own"
        )
    missing = [column for column in columns if column not in frame.columns]
    if missing:
        raise SchemaError(
            f"columns {missing} are not in the frame, which has {list(frame.columns)}",
            hint="name columns that every node's frame has",
        )
    for column in columns:
        kind = frame[column].dtype
        if not pd.api.types.is_numeric_dtype(kind) or pd.api.types.is_complex_dtype(kind):
            raise SchemaError(
                f"column {column!r} has dtype {kind}, a real number was expected",
                hint="encode the column as numbers first",
            )
    values = frame[columns].to_numpy(dtype=np.float64)
    bad = np.argwhere(~np.isfinite(values))
    if len(bad):
        row, column = bad[0]
        raise SchemaError(
            f"column {columns[column]!r} holds {values[row, column]} in row {frame.index[row]}",
            hint="drop or fill missing values before the task runs",
        )
    return values


def flatten(state: Mapping[str, NDArray[Any]]) -> NDArray[np.float64]:
    """Return the floating entries of a model as one vector, in the model's order."""
    parts = [v.ravel() for v in state.values() if np.issubdtype(v.dtype, np.floating)]
    return np.concatenate(parts).astype(np.float64) if parts else np.zeros(0)


def unflatten(vector: NDArray[np.float64], like: Mapping[str, NDArray[Any]]) -> State:
    """Return a model shaped like another one; entries that are not floating are carried over."""
    state: State = {}
    at = 0
    for name, value in like.items():
        if np.issubdtype(value.dtype, np.floating):
            state[name] = vector[at : at + value.size].reshape(value.shape).astype(value.dtype)
            at += value.size
        else:
            state[name] = value.copy()
    return state
