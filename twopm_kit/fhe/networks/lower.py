"""A program made ready to run on ciphertexts: in columns, for many rows, or in blocks, for an answer at once.

In columns every feature has its own ciphertexts: a layer is a sum of ciphertexts times numbers, without a
rotation. In blocks one ciphertext holds all features of a few rows: a layer is a sum of rotations times the
diagonals of its matrix (Halevi and Shoup, CRYPTO 2014), with baby steps and giant steps, and a fold where
outputs are fewer than inputs (Juvekar et al., USENIX Security 2018).
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Iterable
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from twopm_kit.fhe.evaluation import EvaluationKeys
from twopm_kit.fhe.layouts import COLUMNS, Layout, padded
from twopm_kit.fhe.networks.arithmetic import Powers, finished, given, products
from twopm_kit.fhe.networks.dense import dense_products, dense_seconds, whole_weights
from twopm_kit.fhe.networks.program import Add, Affine, Input, Polynomial, Program
from twopm_kit.fhe.networks.schedule import Schedule
from twopm_kit.fhe.plan import Costs, Plan, Step, costs_of, fresh_bytes, key_bytes, result_bytes

__all__ = ["Blocks", "Columns", "Diagonals", "Lowered", "widest"]


class Lowered(ABC):
    """A program on a schedule in a layout.

    Parameters
    ----------
    schedule : Schedule
        Levels and scales; one that fits.
    layout : Layout
        Columns or blocks.
    """

    def __init__(self, schedule: Schedule, layout: Layout) -> None:
        self.schedule: Final = schedule
        self.engine: Final = schedule.engine
        self.program: Final[Program] = schedule.program
        self.layout: Final = layout
        nodes = self.program.nodes
        self._last_use = {s: number for number, node in enumerate(nodes) for s in node.sources}

    @property
    def rotations(self) -> frozenset[int]:
        """Slots to the left that there must be keys for."""
        return frozenset()

    @property
    def needs_keys(self) -> bool:
        """Whether there are products or rotations of ciphertexts."""
        return bool(self.rotations) or any(isinstance(node, Polynomial) for node in self.program.nodes)

    def run(self, parts: list[Any], keys: EvaluationKeys | None) -> list[Any]:
        """Compute the output on one block of rows.

        Parameters
        ----------
        parts : list of ciphertexts
            Columns: one for each feature. Blocks: one. At the schedule's scale and at or above its start.
        keys : EvaluationKeys or None
            Needed where there are products or rotations.
        """
        values: dict[int, list[Any]] = {}
        for number, node in enumerate(self.program.nodes):
            match node:
                case Input():
                    values[number] = [self._taken(part) for part in parts]
                case Affine(source):
                    values[number] = self._affine(number, node, values[source], keys)
                case Polynomial(source):
                    values[number] = [
                        self._polynomial(number, node, j, part, keys) for j, part in enumerate(values[source])
                    ]
                case Add(left, right):
                    pairs = zip(
                        self._moved(left, number, values), self._moved(right, number, values), strict=True
                    )
                    values[number] = [self.engine.add(a, b) for a, b in pairs]
            for source in set(node.sources):
                if self._last_use[source] == number:
                    del values[source]
        return values[len(self.program.nodes) - 1]

    def plan(self, rows: int) -> Plan:
        """Plan for so many rows."""
        engine, program = self.engine, self.program
        per = self.layout.rows(engine.slots, "real")
        blocks = -(-rows // per)
        width, out = (1, 1) if self.layout.kind == "blocks" else (program.input.width, program.width)
        steps = [self._step(number, blocks) for number in range(1, len(program.nodes))]
        rotations = self.rotations
        return Plan(
            profile=engine.profile.name,
            layout=self.layout,
            steps=tuple(steps),
            rotations=rotations,
            bytes_up=blocks * width * fresh_bytes(engine),
            bytes_down=blocks * out * result_bytes(engine, self.schedule.places[-1].level),
            key_bytes=key_bytes(engine, len(rotations)) if self.needs_keys else 0,
        )

    def _step(self, number: int, blocks: int) -> Step:
        node, place = self.program.nodes[number], self.schedule.places[number]
        costs, parts = costs_of(self.engine), self._parts(number)
        level = max(self.schedule.places[source].level for source in node.sources)
        rotations, kind, name = 0, "add", "add"
        if isinstance(node, Affine):
            kind, name = "affine", f"affine {node.matrix.shape[0]}×{node.matrix.shape[1]}"
            seconds, rotations = self._affine_cost(number, node, costs)
        elif isinstance(node, Polynomial):
            kind = "square" if node.is_square else "polynomial"
            name = f"{kind} of {self.program.widths[number]}"
            seconds = parts * _polynomial_cost(self.schedule.shape(node).levels, level, costs)
        else:
            moved = sum(self.schedule.places[s].scale != place.scale for s in node.sources)
            seconds = parts * (
                costs.seconds("add", place.level) + moved * costs.total(level, times_plain=1, rescale=1)
            )
        return Step(
            name=name,
            kind=kind,
            level=level,
            count=blocks * parts,
            seconds=blocks * seconds,
            spends=level - place.level,
            scale=round(math.log2(place.scale), 2),
            rotations=blocks * rotations,
        )

    # Nodes -------------------------------------------------------------------------------------------------

    def _taken(self, cipher: Any) -> Any:
        """Input at the level and scale where the schedule starts."""
        low = self.engine.drop_to(cipher, self.schedule.start)
        return self.engine.raise_scale(low, self.schedule.raised) if self.schedule.raised else low

    def _moved(self, source: int, number: int, values: dict[int, list[Any]]) -> list[Any]:
        """Bring a branch of a sum to the sum's level and exactly its scale."""
        here, there, engine = self.schedule.places[source], self.schedule.places[number], self.engine
        if here.scale == there.scale:
            return [engine.drop_to(part, there.level) for part in values[source]]
        above = there.level + 1
        one = engine.encode_constant(1.0, engine.factor_scale(here.scale, there.scale, above), above)
        lower = (engine.times_plain(engine.drop_to(part, above), one) for part in values[source])
        return [finished(engine, part, None, there.scale, above) for part in lower]

    def _polynomial(
        self, number: int, node: Polynomial, part: int, cipher: Any, keys: EvaluationKeys | None
    ) -> Any:
        source, place = self.schedule.places[node.source], self.schedule.places[number]
        powers = Powers(self.engine, keys, cipher, source.level, source.scale, self._encode)
        coefficients = self._coefficients(node, part)
        return powers.evaluate(coefficients, place.level, place.scale, free=self.schedule.shape(node).free)

    @abstractmethod
    def _parts(self, number: int) -> int:
        """Ciphertexts that a node has in a block of rows."""

    @abstractmethod
    def _affine(self, number: int, node: Affine, parts: list[Any], keys: EvaluationKeys | None) -> list[Any]:
        """Ciphertexts of ``matrix @ x + bias``."""

    @abstractmethod
    def _affine_cost(self, number: int, node: Affine, costs: Costs) -> tuple[float, int]:
        """Seconds and rotations for a block of rows."""

    @abstractmethod
    def _coefficients(self, node: Polynomial, part: int) -> list[npt.NDArray[np.float64]]:
        """Coefficients that belong to a ciphertext, low degree first, as `_encode` takes them."""

    @abstractmethod
    def _encode(self, values: npt.NDArray[np.float64], scale: float, level: int) -> Any | None:
        """Plaintext of coefficients; None when all round to 0."""


class Columns(Lowered):
    """One feature a ciphertext, one row a slot.

    Weights are encoded when they are needed and never kept. Where it is faster, a matrix is multiplied with
    the residues of all ciphertexts at once; see `dense_products`.
    """

    def __init__(self, schedule: Schedule) -> None:
        super().__init__(schedule, COLUMNS)

    def _parts(self, number: int) -> int:
        return self.program.widths[number]

    def _affine(self, number: int, node: Affine, parts: list[Any], keys: EvaluationKeys | None) -> list[Any]:
        del keys  # nothing is rotated
        engine, place, source = self.engine, self.schedule.places[number], self.schedule.places[node.source]
        level, sums = source.level, place.scale * float(engine.primes[source.level])
        factor = engine.factor_scale(source.scale, place.scale, level)
        totals: Iterable[Any]
        if self._dense(number, node) < self._sparse(node):
            whole = whole_weights(node.matrix, factor)
            totals = dense_products(engine, whole, parts, level, sums)
        else:
            totals = (self._weighted(row, parts, factor, level) for row in node.matrix)
        constants = (engine.encode_constant(float(bias), sums, level) for bias in node.bias)
        return [
            finished(engine, total, constant, place.scale, level)
            for total, constant in zip(totals, constants, strict=True)
        ]

    def _weighted(self, row: npt.NDArray[np.float64], parts: list[Any], factor: float, level: int) -> Any:
        used = np.flatnonzero(row).tolist()
        terms = ((parts[j], self.engine.encode_constant(float(row[j]), factor, level)) for j in used)
        return products(self.engine, terms, parts[0], factor, level)

    def _affine_cost(self, number: int, node: Affine, costs: Costs) -> tuple[float, int]:
        level = self.schedule.places[node.source].level
        rescaling = costs.total(level, rescale=len(node.matrix))
        return min(self._dense(number, node), self._sparse(node)) + rescaling, 0

    def _sparse(self, node: Affine) -> float:
        """Seconds of a layer as products of ciphertexts and numbers."""
        level, used = self.schedule.places[node.source].level, int(np.count_nonzero(node.matrix))
        return costs_of(self.engine).total(level, times_plain=used, add=used, constant=used)

    def _dense(self, number: int, node: Affine) -> float:
        """Seconds of a layer as a product of matrices; infinite where it would not be exact."""
        place, source = self.schedule.places[number], self.schedule.places[node.source]
        factor = self.engine.factor_scale(source.scale, place.scale, source.level)
        return dense_seconds(self.engine, whole_weights(node.matrix, factor), source.level)

    def _coefficients(self, node: Polynomial, part: int) -> list[npt.NDArray[np.float64]]:
        own = node.coefficients if node.coefficients.ndim == 1 else node.coefficients[:, part]
        return list(own)

    def _encode(self, values: npt.NDArray[np.float64], scale: float, level: int) -> Any | None:
        return self.engine.encode_constant(float(values), scale, level)


class Blocks(Lowered):
    """All features of ``samples`` rows in one ciphertext; diagonals are encoded once and kept.

    Parameters
    ----------
    schedule : Schedule
        Made for blocks.
    samples : int
        Rows a ciphertext, a power of two.
    """

    def __init__(self, schedule: Schedule, samples: int) -> None:
        super().__init__(schedule, Layout.blocks(samples))
        self._diagonals = {
            number: Diagonals(node.matrix)
            for number, node in enumerate(self.program.nodes)
            if isinstance(node, Affine)
        }
        self._plain: dict[tuple[int, int], Any] = {}

    @property
    def rotations(self) -> frozenset[int]:
        """Slots to the left that there must be keys for."""
        steps = {step for d in self._diagonals.values() for step in d.steps}
        return frozenset(step * self.layout.samples % self.engine.slots for step in steps) - {0}

    def _parts(self, number: int) -> int:
        del number  # always one
        return 1

    def _affine(self, number: int, node: Affine, parts: list[Any], keys: EvaluationKeys | None) -> list[Any]:
        engine, samples, shape = self.engine, self.layout.samples, self._diagonals[number]
        place, source = self.schedule.places[number], self.schedule.places[node.source]
        level, factor = source.level, engine.factor_scale(source.scale, place.scale, source.level)

        def turned(cipher: Any, step: int) -> Any:
            return given(keys).rotate(cipher, step * samples) if step else cipher

        (x,) = parts
        babies = {step: turned(x, step) for step in shape.babies}
        total = None
        for giant, group in shape.groups:
            terms = ((babies[k - giant], self._diagonal(number, k, factor, level)) for k in group)
            inner = turned(products(engine, terms, x, factor, level), giant)
            total = inner if total is None else engine.add(total, inner)
        if total is None:
            total = products(engine, (), x, factor, level)
        for fold in shape.folds:
            total = engine.add(total, turned(total, fold))
        bias = self._kept(number, -1, node.bias, place.scale * float(engine.primes[level]), level)
        return [finished(engine, total, bias, place.scale, level)]

    def _diagonal(self, number: int, k: int, factor: float, level: int) -> Any | None:
        if (number, k) in self._plain:
            return self._plain[number, k]
        return self._kept(number, k, self._diagonals[number].vector(k), factor, level)

    def _kept(
        self, number: int, k: int, values: npt.NDArray[np.float64], scale: float, level: int
    ) -> Any | None:
        if (number, k) not in self._plain:
            self._plain[number, k] = self._encode(values, scale, level)
        return self._plain[number, k]

    def _affine_cost(self, number: int, node: Affine, costs: Costs) -> tuple[float, int]:
        shape, level = self._diagonals[number], self.schedule.places[node.source].level
        products = sum(len(group) for _, group in shape.groups)
        seconds = costs.total(level, times_plain=products, add=products, rotate=shape.rotations, rescale=1)
        return seconds, shape.rotations

    def _coefficients(self, node: Polynomial, part: int) -> list[npt.NDArray[np.float64]]:
        del part  # the only one
        return list(node.coefficients)

    def _encode(self, values: npt.NDArray[np.float64], scale: float, level: int) -> Any | None:
        if values.ndim == 0 or (values == values[0]).all():
            return self.engine.encode_constant(float(values.flat[0]), scale, level)
        wide = np.zeros(padded(len(values)))
        wide[: len(values)] = values
        period = np.repeat(wide, self.layout.samples)
        plain = self.engine.encode(np.tile(period, self.engine.slots // len(period)), scale, level)
        return None if plain.is_zero() else plain


class Diagonals:
    """Generalised diagonals of a matrix, in baby steps and giant steps.

    With the input repeated in a circle of a power of two, ``y[r] = Σ_k M[r, r + k] x[r + k]``. With fewer
    outputs than inputs only as many diagonals as outputs are needed, and the rest is folded.

    Parameters
    ----------
    matrix : ndarray of float64, shape (o, i)
        Weights.

    Attributes
    ----------
    groups : list of (giant step, diagonals)
        Only diagonals that hold something.
    babies : list of int
        Rotations of the input.
    folds : list of int
        Rotations after the sum, each followed by an addition.
    rotations : int
        How many are done.
    steps : frozenset of int
        Which ones, in features.
    """

    def __init__(self, matrix: npt.NDArray[np.float64]) -> None:
        self._matrix = matrix
        outputs, self._inputs = padded(matrix.shape[0]), padded(matrix.shape[1])
        self._outputs, self._turn = outputs, max(outputs, self._inputs)
        count = min(outputs, self._inputs)
        row, column = np.nonzero(matrix)
        used = np.unique((column - row) % count)
        baby = self._baby_steps(used, count)
        self._baby = baby
        giants = sorted({int(k) // baby * baby for k in used})
        self.groups: Final = [(g, [int(k) for k in used if g <= k < g + baby]) for g in giants]
        self.folds: Final = [outputs << n for n in range((self._inputs // count).bit_length() - 1)]
        self.babies: Final = sorted({int(k) % baby for k in used})
        turns = [*self.babies, *giants, *self.folds]
        self.rotations: Final = sum(turn > 0 for turn in turns)
        self.steps: Final = frozenset(turns) - {0}

    @staticmethod
    def _baby_steps(used: npt.NDArray[np.int64], count: int) -> int:
        """Size of a giant step with which rotations are fewest; the smallest of these."""
        sizes = range(1, min(count, 4 * math.isqrt(count) + 1) + 1)

        def rotations(size: int) -> int:
            return len(set((used % size).tolist()) - {0}) + len(set((used // size).tolist()) - {0})

        return min(sizes, key=rotations)

    def vector(self, k: int) -> npt.NDArray[np.float64]:
        """Diagonal k, turned back by its giant step."""
        turn = np.arange(self._turn)
        row, column = turn % self._outputs, (turn + k) % self._inputs
        inside = (row < self._matrix.shape[0]) & (column < self._matrix.shape[1])
        found = np.zeros(self._turn)
        found[inside] = self._matrix[row[inside], column[inside]]
        return np.roll(found, k // self._baby * self._baby)


def widest(program: Program) -> int:
    """Most features that a node has, padded to a power of two."""
    return max(padded(width) for width in program.widths)


def _polynomial_cost(levels: int, level: int, costs: Costs) -> float:
    """About a product, relinearised and rescaled, at every level."""
    return sum(costs.total(level - k, square=1, relinearize=1, rescale=1) for k in range(levels))
