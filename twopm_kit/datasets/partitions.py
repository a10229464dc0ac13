"""Spreads the rows of a frame over nodes, each row exactly once, the same way for the same seed."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from twopm_kit.errors import PartitionError

__all__ = ["SCHEMES", "partition", "split"]

Rows = NDArray[np.intp]


def _iid(rows: int, n_nodes: int, rng: np.random.Generator) -> list[Rows]:
    """Deal shuffled rows out evenly."""
    return list(np.array_split(rng.permutation(rows), n_nodes))


def _dirichlet(labels: Rows, n_nodes: int, alpha: float, rng: np.random.Generator) -> list[Rows]:
    """Give each node its own mixture of classes, drawn around the overall mixture.

    Hsu, Qi, Brown 2019 (arXiv:1909.06335): node k draws q_k ~ Dirichlet(alpha · p), where p is the share of
    each class in all rows, and then fills up with rows of classes drawn from q_k. Nodes draw one row in turn,
    so that no node is left with what the others did not want; a class that has run out is struck from every
    mixture.
    """
    rows = len(labels)
    counts = np.bincount(labels)
    stacks = [list(rng.permutation(np.flatnonzero(labels == c))) for c in range(len(counts))]
    left = counts.astype(np.float64)
    # The sampler refuses zeros, which a very small alpha times a rare class can round to.
    mixtures = rng.dirichlet(np.maximum(alpha * counts / rows, 1e-12), size=n_nodes)
    taken: list[list[int]] = [[] for _ in range(n_nodes)]
    for turn in range(rows):
        node = turn % n_nodes
        weights = np.where(left > 0, mixtures[node], 0.0)
        if weights.sum() <= 0.0:
            weights = left  # nothing is left that this node asked for
        chosen = int(np.searchsorted(np.cumsum(weights), rng.random() * weights.sum(), side="right"))
        chosen = min(chosen, int(np.flatnonzero(weights)[-1]))
        taken[node].append(stacks[chosen].pop())
        left[chosen] -= 1
    return [np.asarray(node, dtype=np.intp) for node in taken]


def _shards(labels: Rows, n_nodes: int, per_node: int, rng: np.random.Generator) -> list[Rows]:
    """Sort by label, cut into equal shards, give each node a few of them.

    McMahan et al. 2017 (arXiv:1602.05629), there with two shards for each node: most nodes see two classes.
    """
    shuffled = rng.permutation(len(labels))
    ordered = shuffled[np.argsort(labels[shuffled], kind="stable")]
    shards = np.array_split(ordered, n_nodes * per_node)
    dealt = rng.permutation(len(shards)).reshape(n_nodes, per_node)
    return [np.concatenate([shards[int(shard)] for shard in node]) for node in dealt]


def _quantity(rows: int, n_nodes: int, alpha: float, rng: np.random.Generator) -> list[Rows]:
    """Deal shuffled rows out in sizes drawn from Dirichlet(alpha, …, alpha), at least one to each node."""
    shares = rng.dirichlet(np.full(n_nodes, max(alpha, 1e-12)))
    exact = shares * (rows - n_nodes)
    sizes = np.floor(exact).astype(np.int64)
    # Largest remainders get what rounding down left over.
    for node in np.argsort(sizes - exact, kind="stable")[: rows - n_nodes - int(sizes.sum())]:
        sizes[node] += 1
    return list(np.split(rng.permutation(rows), np.cumsum(sizes + 1)[:-1]))


#: The names that :func:`partition` knows, with what each does.
SCHEMES = {
    "iid": "shuffled and dealt out evenly",
    "dirichlet": "label skew: each node has its own mixture of classes (alpha small = strong skew)",
    "shards": "label skew: each node has a few shards of the rows sorted by label",
    "quantity": "size skew: node sizes from a Dirichlet distribution (alpha small = strong skew)",
}


def _labels(frame: pd.DataFrame, label: str | None) -> Rows:
    """Return the class number of each row."""
    column = "target" if label is None else label
    if column not in frame.columns:
        raise PartitionError(
            f"the frame has no column {column!r} to take labels from; it has {_listed(frame)}",
            hint="pass label= with the name of the class column",
        )
    if not isinstance(frame[column], pd.Series):
        raise PartitionError(f"the frame has column {column!r} more than once", hint="rename one of them")
    if frame[column].isna().any():
        raise PartitionError(
            f"column {column!r} has {int(frame[column].isna().sum())} rows without a label",
            hint="drop or fill them first",
        )
    return pd.factorize(frame[column], sort=True)[0]


def _listed(frame: pd.DataFrame) -> str:
    """Return the first column names as text."""
    shown = ", ".join(map(repr, frame.columns[:8]))
    return shown + (" …" if len(frame.columns) > 8 else "")


def _check_frame(frame: Any) -> None:
    """Refuse what is not a frame with rows."""
    if not isinstance(frame, pd.DataFrame):
        raise PartitionError(
            f"expected a DataFrame, got {type(frame).__name__}", hint="pass a pandas DataFrame"
        )
    if frame.empty:
        raise PartitionError(
            f"the frame is empty: shape {frame.shape}", hint="pass a frame with rows and columns"
        )


def _whole(name: str, value: Any, least: int) -> int:
    """Return ``value`` if it is a whole number of at least ``least``."""
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < least:
        raise PartitionError(
            f"{name} is {value!r}; expected a whole number of at least {least}",
            hint=f"pass {name}={least} or more",
        )
    return int(value)


def partition(
    frame: pd.DataFrame,
    n_nodes: int,
    scheme: str = "iid",
    *,
    alpha: float = 0.5,
    label: str | None = None,
    shards_per_node: int = 2,
    seed: int = 0,
) -> list[pd.DataFrame]:
    """Spread the rows of a frame over nodes.

    Every row goes to exactly one node and no node stays empty. Index and columns are kept, rows stay in the
    order of ``frame``, and equal arguments give equal parts.

    Parameters
    ----------
    frame : pandas.DataFrame
        At least ``n_nodes`` rows.
    n_nodes : int
        Number of nodes, at least 1.
    scheme : {"iid", "dirichlet", "shards", "quantity"}
        How the rows are spread; see ``SCHEMES``. ``dirichlet`` follows Hsu et al. 2019 (equal sizes, label
        skew), ``shards`` McMahan et al. 2017.
    alpha : float
        Concentration for ``dirichlet`` and ``quantity``; 0.1 is strongly skewed, 100 nearly even.
    label : str, optional
        Class column for ``dirichlet`` and ``shards``; ``"target"`` by default.
    shards_per_node : int
        Shards that each node gets in ``shards``.
    seed : int
        Start of the random generator. Partitioning is no secret: numpy's generator is used.

    Returns
    -------
    list of pandas.DataFrame
        ``n_nodes`` frames.

    Raises
    ------
    PartitionError
        When the rows cannot be spread in this way; the message holds the numbers.
    """
    _check_frame(frame)
    n_nodes = _whole("n_nodes", n_nodes, 1)
    rng = np.random.default_rng(_whole("seed", seed, 0))
    if scheme not in SCHEMES:
        raise PartitionError(
            f"scheme is {scheme!r}; expected one of {', '.join(SCHEMES)}", hint="choose one of these"
        )
    needed = n_nodes * _whole("shards_per_node", shards_per_node, 1) if scheme == "shards" else n_nodes
    if len(frame) < needed:
        what = f"{n_nodes} nodes × {shards_per_node} shards" if scheme == "shards" else f"{n_nodes} nodes"
        raise PartitionError(
            f"{len(frame)} rows cannot be spread over {what}: each needs at least one row",
            hint=f"pass at least {needed} rows or ask for fewer nodes",
        )
    if scheme in {"dirichlet", "quantity"} and not (_is_number(alpha) and 0.0 < alpha < math.inf):
        raise PartitionError(
            f"alpha is {alpha!r}; expected a positive number",
            hint="pass alpha=0.5, or 100 for nearly even parts",
        )
    plans: dict[str, Callable[[], list[Rows]]] = {
        "iid": lambda: _iid(len(frame), n_nodes, rng),
        "dirichlet": lambda: _dirichlet(_labels(frame, label), n_nodes, alpha, rng),
        "shards": lambda: _shards(_labels(frame, label), n_nodes, shards_per_node, rng),
        "quantity": lambda: _quantity(len(frame), n_nodes, alpha, rng),
    }
    return [frame.iloc[np.sort(rows)] for rows in plans[scheme]()]


def _is_number(value: Any) -> bool:
    """Tell whether ``value`` is a real number and not a truth value."""
    return isinstance(value, int | float | np.integer | np.floating) and not isinstance(value, bool)


def split(
    frame: pd.DataFrame, test: float = 0.3, *, label: str | None = None, seed: int = 0
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Split a frame into rows to train on and rows to test on.

    Parameters
    ----------
    frame : pandas.DataFrame
        At least two rows.
    test : float
        Share of the rows that goes to the test part, between 0 and 1.
    label : str, optional
        Class column; both parts then hold its classes in the same proportions.
    seed : int
        Start of the random generator.

    Returns
    -------
    train, test : pandas.DataFrame
        Every row in exactly one of them, index kept, order of ``frame`` kept.

    Raises
    ------
    PartitionError
        When a part, or a class in a part, would stay empty.
    """
    from sklearn.model_selection import train_test_split  # takes a second to import: only when it is used

    _check_frame(frame)
    if not (_is_number(test) and 0.0 < test < 1.0):
        raise PartitionError(f"test is {test!r}; expected a share between 0 and 1", hint="pass test=0.3")
    classes = None if label is None else _labels(frame, label)
    try:
        train_rows, test_rows = train_test_split(
            np.arange(len(frame)),
            test_size=float(test),
            stratify=classes,
            random_state=_whole("seed", seed, 0),
        )
    except PartitionError:
        raise
    except ValueError as error:
        raise PartitionError(
            f"{len(frame)} rows cannot be split with test={test}: {error}",
            hint="pass more rows of each class, or another share",
        ) from error
    return frame.iloc[np.sort(train_rows)], frame.iloc[np.sort(test_rows)]
