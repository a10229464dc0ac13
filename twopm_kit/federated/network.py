"""A whole federation on one machine: every node with its own account, keys, rows and copy of the task."""

from collections.abc import Mapping, Sequence
from html import escape

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from twopm_kit import chain as chains
from twopm_kit.datasets import partition
from twopm_kit.errors import SchemaError, TaskError
from twopm_kit.federated.contract import AggregationContract, encoder_of
from twopm_kit.federated.coordinator import Coordinator
from twopm_kit.federated.drops import Drop, DropPlan
from twopm_kit.federated.events import Observer
from twopm_kit.federated.mailbox import Mailbox
from twopm_kit.federated.node import Node
from twopm_kit.federated.result import FederatedResult, RoundRecord, RunRecord
from twopm_kit.federated.run import Run
from twopm_kit.federated.task import State, Task, Update
from twopm_kit.federated.verifier import Verifier
from twopm_kit.secagg import Decoded, Mode, RoundConfig

__all__ = ["LocalNetwork"]

OWNER = "task owner"
VERIFIERS = ("verifier-1", "verifier-2", "verifier-3")


class LocalNetwork:
    """Nodes that meet only on a chain and in a mailbox, all in this process.

    Parameters
    ----------
    frames : sequence or mapping of DataFrame, or DataFrame
        The nodes' rows: one frame a node, by name or counted; or one frame that is divided.
    chain : Chain, optional
        Where the round contract lives; default: a fresh chain of the kind that is set, which is the
        embedded one unless ``TWOPM_CHAIN`` or ``twopm.toml`` says otherwise.
    config : RoundConfig, optional
        How rounds are protected and published, in the place of what tasks ask for. Tasks whose sums must be
        exact keep their own encoding, and take gamma, delta, mode, verification and visibility from it.
    n_jobs : int
        Processes that compute the nodes' updates side by side (joblib); -1: one a core. In another process a
        node starts each round from the task as it was registered and the global model.
    n_nodes : int, optional
        Number of nodes, when one frame is given.
    mailbox : Mailbox, optional
        Where messages lie; default: this process's memory.
    seed : int
        Fixes how one frame is divided. Nothing secret depends on it.

    Examples
    --------
    >>> network = LocalNetwork(patients, n_nodes=5)
    >>> result = network.run(task, drop={2: ["node-3"]})
    """

    def __init__(
        self,
        frames: Sequence[pd.DataFrame] | Mapping[str, pd.DataFrame] | pd.DataFrame,
        chain: chains.Chain | None = None,
        config: RoundConfig | None = None,
        n_jobs: int = 1,
        *,
        n_nodes: int | None = None,
        mailbox: Mailbox | None = None,
        seed: int = 0,
    ) -> None:
        if chain is not None and not isinstance(chain, chains.Chain):
            raise TaskError(
                f"chain is {chain!r}, a connection was expected",
                hint="pass chain=kit.chain.connect(...), and the number of nodes as n_nodes=",
            )
        if config is not None and not isinstance(config, RoundConfig):
            raise TaskError(
                f"config is {config!r}, a RoundConfig was expected",
                hint="pass config=kit.secagg.RoundConfig(clip=…, …)",
            )
        named = _named(frames, n_nodes, seed)
        self.chain = chain or chains.connect()
        self.mailbox = mailbox or Mailbox()
        self.owner = self.chain.account(OWNER)
        self.contract = AggregationContract.deploy(self.chain, self.owner)
        self.coordinator = Coordinator(self.contract, self.owner, self.mailbox)
        self.config = config
        self.n_jobs = n_jobs
        self.verifiers = [
            Verifier(name, self.chain.account(name), self.contract, self.mailbox)
            for name in VERIFIERS
            if config is not None and config.visibility == "sealed"
        ]
        self.nodes = [
            Node(name, frame, self.chain.account(name), self.contract, self.mailbox)
            for name, frame in named.items()
        ]

    @property
    def names(self) -> list[str]:
        """Names of the nodes."""
        return [node.name for node in self.nodes]

    def __repr__(self) -> str:
        return f"LocalNetwork({len(self.nodes)} nodes, {self.contract.address} on {self.chain!r})"

    def _repr_html_(self) -> str:
        rows = "".join(
            f"<tr><td>{escape(node.name)}</td><td>{len(node.frame)}</td>"
            f"<td><code>{escape(node.account.address)}</code></td></tr>"
            for node in self.nodes
        )
        return (
            f"<p><b>{len(self.nodes)} nodes</b>, contract <code>{escape(self.contract.address)}</code></p>"
            f"<table><thead><tr><th>node</th><th>rows</th><th>account</th></tr></thead>"
            f"<tbody>{rows}</tbody></table>"
        )

    def run(self, task: Task, drop: Drop | None = None, observe: Observer | None = None) -> FederatedResult:
        """Run a task to its end: register, join, and round after round until it is finished.

        Parameters
        ----------
        task : Task
            What to compute.
        drop : mapping, optional
            ``{round: [nodes]}``: nodes that fall silent in mid-round, and are back in the next one;
            ``{round: {step: [nodes]}}`` says at which step.
        observe : callable, optional
            Called with a ``RoundEvent`` at every step of everybody, for example a ``display.RoundBoard``.

        Returns
        -------
        FederatedResult
            The model and the story of the run.

        Raises
        ------
        SchemaError
            If a node's rows do not fit the task; nothing has happened on chain then.
        TaskError
            If the task contradicts itself or is too large.
        RoundAborted
            If no round gave a result.
        """
        task = self._prepared(task)
        plan = DropPlan(drop, self.names, task.max_rounds)
        if observe is not None and not callable(observe):
            raise TaskError(f"observe is {observe!r}", hint="pass a function, or kit.display.RoundBoard()")
        return Run(self, task, plan, observe).execute()

    def _prepared(self, task: Task) -> Task:
        """Refuse what cannot run before anything happens, and say at which node; return what will run."""
        if not isinstance(task, Task):
            raise TaskError(f"{task!r} is no task", hint="make one first: network.run(MyTask())")
        for node in self.nodes:
            try:
                task.check(node.frame)
            except SchemaError as fault:
                raise SchemaError(
                    f"{node.name}: {fault.message}", hint=fault.hint, failures=fault.failures
                ) from None
        if task.needs_all_nodes and len(self.nodes) > task.max_clients:
            raise TaskError(
                f"max_clients={task.max_clients} would draw other nodes of {len(self.nodes)} in each round, "
                f"and {type(task).__name__} needs the same rows in all",
                hint=f"pass max_clients={len(self.nodes)}, or leave it out",
            )
        return task if self.config is None else task.with_config(self.config)

    def run_in_clear(self, task: Task, drop: Drop | None = None) -> FederatedResult:
        """Run the same training without masks and chain, to compare with: it shows all updates to everybody.

        The same nodes are in each sum as in ``run`` with the same ``drop``, as long as no round aborts and
        there is a seat for every node: where ``run`` draws some of them, this takes all. No noise is added.
        """
        task = self._prepared(task)
        plan = DropPlan(drop, self.names, task.max_rounds)
        config = task.config()
        last = "submit"
        if plan.withholds:
            # A vector that is committed to and withheld is in no sum; elsewhere it is out when it is sent.
            able = {name: self.chain.supports(name) for name in ("blobs", "bls")}
            last = "deliver" if config.mode_for(encoder_of(task).elements, **able) is Mode.KZG else last
        copies = {node.name: task.for_node(node.name) for node in self.nodes}
        state = task.genesis()
        rounds: list[RoundRecord] = []
        for number in range(1, task.max_rounds + 1):
            present = [n for n in self.nodes if not plan.is_silent(number, n.name, last)]
            updates = [copies[n.name].local_update(state, n.frame, number) for n in present]
            state, metrics = _merge_in_clear(task, state, updates, config)
            rounds.append(
                RoundRecord(
                    number,
                    "done",
                    tuple(self.names),
                    survivors=tuple(n.name for n in present),
                    metrics=metrics,
                    weight=sum(u.weight for u in updates),
                )
            )
            if task.finished(state):
                break
        return task.result(state, RunRecord(0, "", 0, tuple(rounds), ()))


def _merge_in_clear(
    task: Task, state: State, updates: list[Update], config: RoundConfig
) -> tuple[State, dict[str, float]]:
    """Do in clear what encoder, masks and decoder do: clip, average within each group, combine the groups."""
    sections = [
        _average(task, part, config)
        for group in range(config.groups)
        if (part := updates[group :: config.groups])
    ]
    decoded = task.combine(sections)
    named = (
        dict(zip(task.metric_names, decoded.metrics.tolist(), strict=True)) if decoded.metric_weight else {}
    )
    return task.merge(state, decoded), named


def _average(task: Task, updates: list[Update], config: RoundConfig) -> Decoded:
    weights = np.array([u.weight for u in updates], dtype=np.float64)
    values = np.stack([_clipped(u.values, config) for u in updates])
    counts = np.array([u.metric_weight for u in updates], dtype=np.float64)
    metrics = np.full(len(task.metric_names), np.nan)
    if counts.sum() > 0:
        metrics = counts @ np.stack([u.metrics for u in updates]) / counts.sum()
    return Decoded(
        mean=weights @ values / weights.sum(),
        weight=int(weights.sum()),
        metrics=metrics,
        metric_weight=int(counts.sum()),
        step=0.0,
    )


def _clipped(values: NDArray[np.float64], config: RoundConfig) -> NDArray[np.float64]:
    norm = float(np.linalg.norm(values))
    if config.clip_norm is not None and norm > config.clip_norm:
        values = values * (config.clip_norm / norm)
    return np.clip(values, -config.clip, config.clip)


def _named(
    frames: Sequence[pd.DataFrame] | Mapping[str, pd.DataFrame] | pd.DataFrame, n_nodes: int | None, seed: int
) -> dict[str, pd.DataFrame]:
    if not isinstance(frames, pd.DataFrame | Mapping | list | tuple):
        raise TaskError(
            f"frames is a {type(frames).__name__}, DataFrames were expected",
            hint="pass a list of DataFrames, a mapping of names to them, or one with n_nodes=",
        )
    if isinstance(frames, pd.DataFrame):
        if n_nodes is None:
            raise TaskError(
                "one frame was given, and no number of nodes", hint="pass n_nodes=5, or a list of frames"
            )
        frames = partition(frames, n_nodes, seed=seed)
    elif n_nodes is not None and n_nodes != len(frames):
        raise TaskError(
            f"{len(frames)} frames were given for n_nodes={n_nodes}",
            hint="leave n_nodes out: every frame is a node",
        )
    named = (
        {str(name): frame for name, frame in frames.items()}
        if isinstance(frames, Mapping)
        else {f"node-{i}": frame for i, frame in enumerate(frames, start=1)}
    )
    reserved = sorted(named.keys() & {OWNER, *VERIFIERS})
    if len(named) != len(frames) or reserved:
        raise TaskError(
            f"{', '.join(reserved)} are names of parties that are no nodes"
            if reserved
            else f"{len(frames)} frames have {len(named)} names: {', '.join(named)}",
            hint="give every node a name of its own",
        )
    if len(named) < 2:
        raise TaskError(
            f"{len(named)} of at least 2 nodes were given",
            hint="with one node the sum is that node's own vector",
        )
    for name, frame in named.items():
        if not isinstance(frame, pd.DataFrame):
            raise TaskError(
                f"node {name!r} was given a {type(frame).__name__}, a DataFrame was expected",
                hint="load rows with kit.datasets.load, or make a pandas DataFrame",
            )
    return named
