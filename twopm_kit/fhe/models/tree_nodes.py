"""Decision trees as polynomials in their predicates, and how large these can become."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from twopm_kit.errors import SchemaError
from twopm_kit.fhe.models.inputs import Array, real_numbers
from twopm_kit.fhe.models.multilinear import Multilinear

__all__ = ["Node", "Predicate", "Tree", "polynomials_of", "predicates_of", "pruned", "ranges_of", "slopes_of"]

#: Feature and threshold: true where ``x <= threshold``.
Predicate = tuple[int, float]

#: Products of bits that the trees may expand to, together.
_MAX_TERMS: Final = 50_000
_MAX_DEPTH: Final = 128
#: What cancels to less than this part of the largest value is nothing but rounding of float64.
_NOTHING: Final = 1e-13


@dataclass(frozen=True, slots=True, repr=False)
class Tree:
    """One binary tree as arrays over its nodes; node 0 is the root.

    Parameters
    ----------
    feature : ndarray of int64, shape (m,)
        Column that a node asks for; negative in a leaf.
    threshold : ndarray of float64, shape (m,)
        A row goes left where ``x <= threshold``.
    left, right : ndarray of int64, shape (m,)
        Children.
    values : ndarray of float64, shape (m, k)
        What a leaf adds to the k scores.

    Raises
    ------
    SchemaError
        Arrays of other shapes, values that are not finite, or a child that does not stand behind its parent.
    """

    feature: npt.NDArray[np.int64]
    threshold: Array
    left: npt.NDArray[np.int64]
    right: npt.NDArray[np.int64]
    values: Array

    def __post_init__(self) -> None:
        nodes = np.arange(np.size(self.feature))
        shapes = [np.shape(a) for a in (self.feature, self.threshold, self.left, self.right)]
        if not len(nodes) or shapes != [nodes.shape] * 4 or np.shape(self.values)[:1] != nodes.shape:
            raise SchemaError(
                f"a tree of arrays of shapes {shapes} and {np.shape(self.values)} was passed",
                hint="pass four arrays (m,) and values (m, k), one entry for each of the m nodes",
            )
        real_numbers(self.values[self.feature < 0], "a leaf")
        inner = np.flatnonzero(self.feature >= 0)
        children = np.stack((self.left, self.right))[:, inner]
        # children behind their parents: then there is no circle
        if (
            np.isnan(self.threshold[inner]).any()
            or (children <= inner).any()
            or (children >= len(nodes)).any()
        ):
            raise SchemaError(
                "a tree with a threshold that is not a number, or a child that is no later node, was passed",
                hint="number the nodes from the root on, children after their parents",
            )


@dataclass(frozen=True, slots=True)
class Node:
    """A subtree without splits that decide nothing.

    Parameters
    ----------
    low, high : ndarray of float64, shape (k,)
        Smallest and largest values of its leaves.
    split : tuple, optional
        Predicate, subtree where it is true, subtree where it is not; None in a leaf.
    """

    low: Array
    high: Array
    split: "tuple[Predicate, Node, Node] | None" = None


def pruned(tree: Tree, node: int = 0, depth: int = 0) -> Node:
    """Subtree without splits whose leaves are all equal, or that send every finite value to the left.

    Raises
    ------
    SchemaError
        The tree is deeper than any profile could take.
    """
    if depth > _MAX_DEPTH:
        raise SchemaError(f"a tree is deeper than {_MAX_DEPTH}", hint="fit with max_depth=4")
    if tree.feature[node] < 0:
        return Node(tree.values[node], tree.values[node])
    feature, threshold = int(tree.feature[node]), float(tree.threshold[node])
    left = pruned(tree, int(tree.left[node]), depth + 1)
    if threshold == math.inf:
        return left
    right = pruned(tree, int(tree.right[node]), depth + 1)
    low, high = np.minimum(left.low, right.low), np.maximum(left.high, right.high)
    if (low == high).all():
        return Node(low, high)
    return Node(low, high, ((feature, threshold), left, right))


def predicates_of(roots: Sequence[Node]) -> list[Predicate]:
    """Every predicate of some trees once, sorted, so that the order tells nothing of the trees."""
    return sorted({predicate for root in roots for predicate in _used(root)})


def polynomials_of(roots: Sequence[Node], base: Array, index: Mapping[Predicate, int]) -> list[Multilinear]:
    """Sum of trees as one polynomial for each of the k scores; bit i belongs to the predicate numbered i.

    Raises
    ------
    SchemaError
        Too many products, or a score that is the same for every row.
    """
    total: dict[frozenset[int], Array] = {frozenset(): base}
    for root in roots:
        for monomial, value in _expanded(root, index).items():
            total[monomial] = total[monomial] + value if monomial in total else value
        _check_size(len(total))
    table = np.stack(list(total.values()))
    least = _NOTHING * np.abs(table).max(axis=0)
    made = []
    for j in range(len(base)):
        terms = {
            tuple(monomial): float(value)
            for monomial, value in zip(total, table[:, j], strict=True)
            if abs(value) > least[j] or not monomial
        }
        if len(terms) < 2:
            raise SchemaError(
                f"score {j} is the same for every row", hint="fit trees that split, on rows of every class"
            )
        made.append(Multilinear(terms))
    return made


def ranges_of(roots: Sequence[Node], base: Array) -> tuple[Array, Array]:
    """Limits of the k scores, below and above."""
    low = base + np.sum([root.low for root in roots], axis=0)
    high = base + np.sum([root.high for root in roots], axis=0)
    return low, high


def slopes_of(roots: Sequence[Node], index: Mapping[Predicate, int], k: int) -> Array:
    """How many times errors of one size in all bits, independent of each other, grow at most: shape (k,)."""
    total = np.zeros((len(index), k))
    for root in roots:
        for predicate, step in _steps(root, {}).items():
            total[index[predicate]] += step
    return np.asarray(np.sqrt((total**2).sum(axis=0)))


def _used(node: Node) -> Iterator[Predicate]:
    if node.split is not None:
        predicate, left, right = node.split
        yield predicate
        yield from _used(left)
        yield from _used(right)


def _expanded(node: Node, index: Mapping[Predicate, int]) -> dict[frozenset[int], Array]:
    """Monomials of a subtree with their k factors: ``right + bit · (left - right)``."""
    if node.split is None:
        return {frozenset(): node.low}
    predicate, left, right = node.split
    own = frozenset((index[predicate],))
    terms: dict[frozenset[int], Array] = {}
    nothing = np.zeros(len(node.low))
    for monomial, value in _expanded(right, index).items():
        terms[monomial] = terms.get(monomial, nothing) + value
        terms[monomial | own] = terms.get(monomial | own, nothing) - value
    for monomial, value in _expanded(left, index).items():
        terms[monomial | own] = terms.get(monomial | own, nothing) + value
    _check_size(len(terms))
    return terms


def _check_size(count: int) -> None:
    if count > _MAX_TERMS:
        raise SchemaError(
            f"the trees expand to more than {_MAX_TERMS:,} products of bits",
            hint="fit with a smaller max_depth= or max_leaf_nodes=, or fewer trees",
        )


def _steps(node: Node, steps: dict[Predicate, Array]) -> dict[Predicate, Array]:
    """Largest change of a tree's values when one predicate changes."""
    if node.split is not None:
        predicate, left, right = node.split
        step = np.maximum(left.high - right.low, right.high - left.low)
        steps[predicate] = np.maximum(steps.get(predicate, step), step)
        _steps(left, steps)
        _steps(right, steps)
    return steps
