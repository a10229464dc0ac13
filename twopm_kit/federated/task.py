"""What a federated task is: code and parameters that every node runs on rows of its own."""

import copy
import inspect
import json
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from types import FunctionType, MethodType
from typing import Any, Self

import numpy as np
import pandas as pd
from eth_hash.auto import keccak
from numpy.typing import NDArray
from safetensors.numpy import save

from twopm_kit.errors import SchemaError, TaskError
from twopm_kit.federated.arguments import whole
from twopm_kit.federated.result import FederatedResult, RunRecord
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
    """

    min_rows: int = 1
    min_stake: int = 0
    dataset: str = ""
    allow_list: tuple[str, ...] = ()


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
    node except through the round.

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

    # What the chain keeps ---------------------------------------------------------------------------

    def parameters(self) -> bytes:
        """Return all parameters as canonical JSON: keys sorted, no spaces, UTF-8."""
        parameters = {
            "task": type(self).__name__,
            "name": self.name,
            "max_rounds": self.max_rounds,
            "min_clients": self.min_clients,
            "max_clients": self.max_clients,
            "metrics": list(self.metric_names),
            "criteria": asdict(self.criteria),
            "round": asdict(self.round_config()),
            "settings": self.settings(),
            "attributes": {
                key: value
                for key, value in vars(self).items()
                if key != "node" and isinstance(value, bool | int | float | str)
            },
        }
        return json.dumps(parameters, sort_keys=True, separators=(",", ":"), allow_nan=False).encode()

    def source(self) -> str:
        """Return what the task runs: every class's whole file or notebook cell, and the kit's version.

        Functions that a class calls are covered where they stand in the same file or cell; what it imports
        from elsewhere is not. Keep a task in one place.

        Raises
        ------
        TaskError
            If source cannot be found, as for a class typed into a bare interpreter, or if a method was
            replaced on the task itself, where no source says so.
        """
        patched = [name for name, value in vars(self).items() if isinstance(value, FunctionType | MethodType)]
        if patched:
            raise TaskError(
                f"{', '.join(patched)} of {self.name!r} was replaced on the object, which no hash covers",
                hint="write the method in a class of its own",
            )
        parts = [f"# twopm_kit {version('twopm-kit')}"]
        for cls in type(self).__mro__:
            if cls is Task or cls is object or cls is ABC:
                continue
            parts.append(f"# {cls.__module__}.{cls.__qualname__}: {_lines(cls)}\n{_surroundings(cls)}")
        return "\n".join(parts)

    def code_hash(self) -> bytes:
        """Return keccak256 of the source: what nodes compare before they run anything."""
        return keccak(self.source().encode())


def state_hash(state: State) -> bytes:
    """Return keccak256 of a model: names in the order in which it is flattened, and its safetensors form."""
    order = json.dumps(list(state)).encode()
    return keccak(order + save({name: np.ascontiguousarray(value) for name, value in state.items()}))


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


def _methods(cls: type) -> list[FunctionType]:
    members: list[Any] = [m.fget if isinstance(m, property) else m for m in vars(cls).values()]
    found = (getattr(member, "__func__", member) for member in members)
    unwrapped = (inspect.unwrap(member) for member in found if callable(member))
    return [function for function in unwrapped if isinstance(function, FunctionType)]


def _lines(cls: type) -> str:
    """Return where the methods stand, which tells two classes of one name in one file apart."""
    return ", ".join(f"{f.__name__} {f.__code__.co_firstlineno}" for f in _methods(cls))


def _surroundings(cls: type) -> str:
    """Return the file or notebook cell that a class was defined in; its methods know it."""
    for function in _methods(cls):
        try:
            text, _ = inspect.findsource(function)
        except (OSError, TypeError):
            continue
        return "".join(text)
    if not _methods(cls):
        return ""
    raise TaskError(
        f"the source of {cls.__name__} cannot be found, so the chain cannot hold its hash",
        hint="define the task in a notebook cell or in a file",
    )


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
