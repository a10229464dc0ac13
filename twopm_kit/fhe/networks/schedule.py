"""Levels, exact scales and expected errors of every node of a program, decided before anything runs.

A plain factor can bring a product to any scale, a product of ciphertexts has the scale that it has: s²/q.
So every affine map steers to the wanted scale, and every power is taken as it comes. Scales above the
profile's make rounding smaller, and leave less room for values: the largest that fit are taken.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Final, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from twopm_kit.errors import ModuleRefused
from twopm_kit.fhe.engine import FRESH_NOISE, Engine
from twopm_kit.fhe.frames import rescale_noise
from twopm_kit.fhe.networks.program import Add, Affine, Input, Polynomial, Program

__all__ = ["Place", "Schedule", "Seen", "Shape", "best_schedule", "seen"]

Array: TypeAlias = npt.NDArray[np.float64]

#: Beyond this float64 has nothing to hold the digits in.
_MOST_BITS: Final = 50
_LEAST_BITS: Final = 18
#: Bits by which scales may differ from the profile's.
_LIFTS: Final = (6, 5, 4, 3, 2, 1, 0, -1, -2, -3, -4)
#: Room that bounds leave: half a bit, of which errors and the rounding of primes take a little.
_SPARE: Final = 0.5


class Seen(NamedTuple):
    """What calibration rows have shown of each node.

    Attributes
    ----------
    largest, bounds : ndarray of float64, shape (nodes,)
        See `Ranges`: overflow is decided by bounds.
    typical : tuple of ndarray of float64, each (width,)
        Root mean square of every element: errors are estimated from it.
    """

    largest: Array
    bounds: Array
    typical: tuple[Array, ...]


def seen(program: Program, rows: npt.ArrayLike) -> Seen:
    """Run calibration rows in clear and keep what a schedule needs to know.

    Raises
    ------
    ModuleRefused
        Values grow beyond what float64 holds.
    """
    with np.errstate(over="ignore", invalid="ignore"):
        values = program.values(rows)
        endless = next((k for k, value in enumerate(values) if not np.isfinite(value**2).all()), None)
        if endless is not None:
            raise ModuleRefused(
                f"step {endless} of the network computes numbers beyond 1e150 on the calibration rows",
                hint="take activations of lower degree, or make values smaller: scale the inputs, add batch "
                "normalisation",
            )
    ranges = program.ranges(rows)
    typical = tuple(np.sqrt((value**2).mean(axis=0)) for value in values)
    return Seen(ranges.largest, ranges.bounds, typical)


@dataclass(frozen=True, slots=True)
class Shape:
    """How a polynomial is computed.

    Parameters
    ----------
    degree : int
        At least 1.
    free : bool
        The highest power is a pure square with the factor 1 or -1: it saves a level, and the scale is what
        the square has.
    levels : int
        That it takes.
    """

    degree: int
    free: bool
    levels: int

    @classmethod
    def of(cls, coefficients: Array, *, mixed: bool) -> "Shape":
        """Shape for coefficients of shape (d + 1,) or (d + 1, w); ``mixed``: signs may differ."""
        degree = max(len(coefficients) - 1, 1)
        lead = coefficients[-1] if len(coefficients) > 1 else np.zeros(1)
        signs = set(np.unique(lead).tolist())
        free = degree & (degree - 1) == 0 and signs <= {1.0, -1.0} and (mixed or len(signs) == 1)
        half = degree.bit_length() - 1
        return cls(degree, free, half if free else half + 1)


@dataclass(frozen=True, slots=True)
class Place:
    """Where the values of a node are.

    Parameters
    ----------
    level : int
        Rescalings that are left.
    scale : float
        Exact.
    errors : ndarray of float64, shape (width,)
        Expected error of every element, as a standard deviation.
    room : float
        log2 of how many times larger values could be before they wrap around; below 0: too large.
    """

    level: int
    scale: float
    errors: Array
    room: float

    @property
    def error(self) -> float:
        """Expected error of the worst element."""
        return float(self.errors.max())


class Schedule:
    """Places of all nodes of a program, from a level and a scale of its input.

    Parameters
    ----------
    program : Program
        What is computed.
    engine : Engine
        Primes.
    ranges : Seen
        How large each node becomes, and is.
    start : int
        Level of the input.
    scale : float
        Scale of the fresh input.
    lift : int
        log2 of wanted scales over the profile's.
    blocks : bool
        Layout blocks: the input is rotated, so its scale is lifted too, and vectors are encoded.
    noise : float
        Standard deviation of the error of a coefficient of the input.
    """

    def __init__(
        self,
        program: Program,
        engine: Engine,
        ranges: Seen,
        *,
        start: int,
        scale: float,
        lift: int,
        blocks: bool,
        noise: float = FRESH_NOISE,
    ) -> None:
        self.program: Final = program
        self.engine: Final = engine
        self.blocks: Final = blocks
        self.start: Final = start
        self._ranges = ranges
        self._bits = (
            math.log2(scale) + lift if engine.profile.levels < 2 else engine.profile.scale_bits + lift
        )
        turned = any(isinstance(node, Affine) and node.source == 0 for node in program.nodes)
        self.raised: Final = max(lift, 0) if blocks and turned and engine.profile.levels > 1 else 0
        degree = engine.profile.degree
        self._spread = math.sqrt(degree / 2.0)  # a coefficient's error as seen in a slot
        self._rounding = rescale_noise(engine)
        self.places: list[Place] = []
        self._readers = [
            [user for user, node in enumerate(program.nodes) if place in node.sources]
            for place in range(len(program.nodes))
        ]
        for number, node in enumerate(program.nodes):
            match node:
                case Input():
                    errors = np.full(node.width, noise / scale * self._spread)
                    here = self._place(number, start, scale * 2.0**self.raised, errors)
                case Affine():
                    here = self._affine(number, node)
                case Polynomial():
                    here = self._polynomial(number, node)
                case Add():
                    here = self._add(number, node)
            self.places.append(here)

    @property
    def fits(self) -> bool:
        """Whether there are levels and room for everything."""
        return all(p.level >= 0 and p.room >= 0.0 for p in self.places)

    @property
    def levels(self) -> int:
        """Levels from the input to the lowest node."""
        return self.start - min(place.level for place in self.places)

    @property
    def tightest(self) -> int:
        """Node with the least room."""
        return min(range(len(self.places)), key=lambda k: self.places[k].room)

    @property
    def error(self) -> float:
        """Expected error of an output."""
        return self.places[-1].error

    def prime(self, level: int) -> float:
        """Prime that is divided away when a level is left; below level 1 the one that would be."""
        return float(self.engine.primes[min(max(level, 1), len(self.engine.primes) - 1)])

    def shape(self, node: Polynomial) -> Shape:
        """How a polynomial is computed in this layout."""
        return Shape.of(node.coefficients, mixed=not self.blocks)

    # One node ----------------------------------------------------------------------------------------------

    def _affine(self, number: int, node: Affine) -> Place:
        source, typical = self.places[node.source], self._ranges.typical[node.source]
        level = source.level - 1
        scale = self._wanted(number, level)
        factor = scale * self.prime(source.level) / source.scale
        variance = source.errors**2 + (self._switching(source) ** 2 if self.blocks else 0.0)
        variance = node.matrix**2 @ variance + (node.matrix != 0.0) @ (self._encoded(factor) * typical) ** 2
        return self._place(number, level, scale, np.sqrt(variance + self._rounded(scale) ** 2))

    def _polynomial(self, number: int, node: Polynomial) -> Place:
        source, shape, typical = self.places[node.source], self.shape(node), self._ranges.typical[node.source]
        slope = np.zeros_like(typical)
        for k, row in enumerate(node.coefficients[1:], start=1):
            slope = slope + k * np.abs(row) * typical ** (k - 1)
        variance: Array = (slope * source.errors) ** 2
        added = np.zeros_like(typical)  # variance that rounding has added to the power
        powers = [(source.level, source.scale)]
        room = source.room
        top = shape.degree.bit_length() - 1
        for k in range(1, top + 1):
            below, scale = powers[-1]
            powers.append((below - 1, scale * scale / self.prime(below)))
            if k == top and shape.free:
                break  # the end result, which nothing is multiplied with
            room = min(room, self._room(*powers[-1], float(self._ranges.bounds[node.source]) ** (1 << k)))
            added = (2.0 * typical ** (1 << (k - 1))) ** 2 * added + self._rounded(powers[-1][1]) ** 2
            factor = np.zeros_like(typical)  # what this power is multiplied by
            for j, row in enumerate(node.coefficients[1 << k :]):
                factor = factor + np.abs(row) * typical**j
            variance = variance + factor**2 * added
        level, scale, rest = *powers[-1], shape.degree - 1
        if not shape.free:
            level, rest = source.level - shape.levels, shape.degree
            scale = self._wanted(number, level)
        if shape.levels:
            whole = scale * self.prime(level + 1)
            rounded = self._coarse(rest, level + 1, whole, powers, typical)
            variance = variance + rounded + self._rounded(scale) ** 2
        found = self._place(number, level, scale, np.sqrt(variance))
        return replace(found, room=min(room, found.room))

    def _coarse(
        self, degree: int, level: int, whole: float, powers: list[tuple[int, float]], typical: Array
    ) -> Array:
        """Variance that rounded coefficients and partial results add, along the recursion of `Powers`."""
        if degree < 1:
            return np.zeros_like(typical)
        half = degree.bit_length() - 1
        power, scale = typical ** (1 << half), whole / powers[half][1]
        if degree == 1 << half:
            factor = np.full_like(typical, self._encoded(scale) ** 2)
        else:
            above = scale * self.prime(level + 1)
            inner = self._coarse(degree - (1 << half), level + 1, above, powers, typical)
            factor = inner + self._rounded(scale) ** 2
        return np.asarray(power**2 * factor + self._coarse((1 << half) - 1, level, whole, powers, typical))

    def _add(self, number: int, node: Add) -> Place:
        left, right = self.places[node.left], self.places[node.right]
        errors = np.hypot(left.errors, right.errors)
        low = left if left.level <= right.level else right
        if left.scale == right.scale or left.level != right.level:
            if left.scale != right.scale:  # the higher one is steered on a level that it has to spare
                errors = np.hypot(errors, self._rounded(low.scale))
            return self._place(number, low.level, low.scale, errors)
        scale = self._wanted(number, low.level - 1)
        errors = np.hypot(errors, math.sqrt(2) * self._rounded(scale))
        return self._place(number, low.level - 1, scale, errors)

    def _wanted(self, number: int, level: int) -> float:
        """Scale to steer to: that of the other branch of a sum, or the largest that is planned and fits."""
        bound = max(float(self._ranges.bounds[number]), 2.0**-20)
        whole = self.engine.room_bits(max(level, 0))
        room = math.floor(min(whole - _SPARE - math.log2(bound), whole))  # SEAL opens no scale beyond primes
        readers = self._readers[number]
        if len(readers) == 1 and isinstance(sum_of := self.program.nodes[readers[0]], Add):
            other = sum_of.left + sum_of.right - number
            if other < number and math.log2(self.places[other].scale) <= room:
                return self.places[other].scale
        last = number == len(self.program.nodes) - 1
        return 2.0 ** max(min(_MOST_BITS if last else math.floor(self._bits), room), _LEAST_BITS)

    def _place(self, number: int, level: int, scale: float, errors: Array) -> Place:
        return Place(level, scale, errors, self._room(level, scale, float(self._ranges.bounds[number])))

    def _room(self, level: int, scale: float, bound: float) -> float:
        room = self.engine.room_bits(min(max(level, 0), self.engine.profile.levels))
        return room - _SPARE - math.log2(scale) - math.log2(max(bound, 2.0**-60)) + 1e-9

    # Errors ------------------------------------------------------------------------------------------------

    def _rounded(self, scale: float) -> float:
        """Error of a value from rounding at a rescaling."""
        return self._rounding * self._spread / scale

    def _encoded(self, scale: float) -> float:
        """Error of a plain factor: a constant is rounded to a whole number, a vector in every coefficient."""
        return math.sqrt((self.engine.profile.degree / 2.0 if self.blocks else 1.0) / 12.0) / scale

    def _switching(self, place: Place) -> float:
        """Error of a value from switching keys: noise of the key, and rounding by the special prime."""
        engine = self.engine
        special = 2.0 ** engine.profile.bits[-1]
        digits = sum((q / special) ** 2 for q in engine.primes[: max(place.level, 0) + 1])
        noise = FRESH_NOISE * math.sqrt(engine.profile.degree / 12.0 * digits)
        return math.hypot(noise, self._rounding) * self._spread / place.scale


def best_schedule(
    program: Program,
    engine: Engine,
    ranges: Seen,
    *,
    blocks: bool,
    scale: float | None = None,
    noise: float = FRESH_NOISE,
) -> Schedule:
    """Find the schedule that starts as low as possible and has the smallest error; see `Schedule.fits`.

    A low start is fast: every operation costs as many primes as are left.

    Parameters
    ----------
    program, engine, ranges, blocks, noise
        See `Schedule`.
    scale : float, optional
        Of the fresh input; without it what the profile gives to columns of this range.

    Returns
    -------
    Schedule
        One that fits, or, when none does, the one that comes closest.
    """
    if scale is None:
        scale = 2.0 ** engine.profile.fresh_scale_bits(float(ranges.bounds[0]))
    nearest = None
    for start, lift in _choices(program, engine):
        found = Schedule(
            program, engine, ranges, start=start, scale=scale, lift=lift, blocks=blocks, noise=noise
        )
        if nearest is not None and nearest.fits and start > nearest.start:
            break
        if nearest is None or _order(found) < _order(nearest):
            nearest = found
    assert nearest is not None  # noqa: S101  (there is always a choice)
    return nearest


def _choices(program: Program, engine: Engine) -> Iterator[tuple[int, int]]:
    top = engine.profile.levels
    for start in range(min(program.depth, top), top + 1):
        for lift in _LIFTS:
            yield start, lift


def _order(schedule: Schedule) -> tuple[bool, float, float]:
    missing = max(0, -min(p.level for p in schedule.places))
    lacking = 0.0 if schedule.fits else missing * 100.0 - min(0.0, min(p.room for p in schedule.places))
    return not schedule.fits, lacking, schedule.error
