"""Gradient sums of models whose rate is a polynomial of a score, on encrypted rows and without a rotation.

For scores z = X·w + b and a polynomial P of degree up to four the server computes, for every column,
Σ x·(P(z) - y) over the rows. With s = z/R, u = s² and t = c4·u + c3·s + c2 it is

    P = t·u + (c1·s + c0)

Only t·u passes through products of ciphertexts, whose roundings it damps because u is small; the linear part
comes straight from the rows, at the last level but one and at a fine scale. Every scale is planned so that
all parts meet exactly: nothing is forced. The last product is left as it is, its sum is masked and opened
(see `twopm_kit.fhe.sums`).
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Final, Protocol

import numpy as np

from twopm_kit.errors import CiphertextError, ProfileError
from twopm_kit.fhe.container import ColumnHeader
from twopm_kit.fhe.engine import Engine
from twopm_kit.fhe.frames import EncryptedFrame, best_scale, rescale_noise
from twopm_kit.fhe.models.inputs import Array
from twopm_kit.fhe.models.training import TrainingData
from twopm_kit.fhe.profiles import PROFILES
from twopm_kit.fhe.sums import slot_sums

__all__ = ["DEPTH", "MOST_SPREAD", "GradientSums", "ScorePolynomial", "Sums", "clear_sums", "too_shallow"]

#: Levels that P takes.
DEPTH: Final = 3
#: Residuals are held at no more than this scale: beyond it the noise of fresh columns is all there is.
_RESIDUAL_BITS: Final = 36.0
#: Root mean square of residuals that sums have room for; labels and probabilities are at most 1 apart.
_RESIDUAL: Final = 4.0
#: Root mean square of s that its sum of squares has room for.
MOST_SPREAD: Final = 8.0
#: Weights below this change no score that could be seen.
_NOTHING: Final = 1e-9
#: Public bound of encrypted weights, the same for all, so that it tells nothing.
_WEIGHT_BOUND: Final = 16.0
#: Encrypted weights are held at this many times the scale of a column: they meet rounding at once.
_WEIGHT_GAIN: Final = 8.0


@dataclass(frozen=True, slots=True)
class ScorePolynomial:
    """Polynomial of degree up to four, in s = z / interval.

    Parameters
    ----------
    coefficients : tuple of five floats
        c0 … c4; c4 is not negative.
    interval : float
        The polynomial stands for its function on [-interval, interval].
    error : float
        Largest difference there.
    """

    coefficients: tuple[float, float, float, float, float]
    interval: float
    error: float

    @classmethod
    def sigmoid(cls, interval: float) -> "ScorePolynomial":
        """Cubic least-squares fit of the logistic function (Kim et al., "Secure logistic regression based on
        homomorphic encryption", JMIR Medical Informatics 2018, take the same on [-8, 8]).
        """  # noqa: D205
        s = np.linspace(-1.0, 1.0, 4001)
        wanted = 0.5 * (1.0 + np.tanh(0.5 * interval * s))
        c1, c3 = np.linalg.lstsq(np.stack([s, s**3], axis=1), wanted - 0.5, rcond=None)[0]
        found = 0.5 + c1 * s + c3 * s**3
        return cls((0.5, float(c1), 0.0, float(c3), 0.0), interval, float(np.abs(found - wanted).max()))

    @classmethod
    def exponential(cls, interval: float) -> "ScorePolynomial":
        """Quartic least-squares fit of the exponential function, closest where scores crowd: around 0."""
        s = np.linspace(-1.0, 1.0, 4001)
        wanted = np.exp(interval * s)
        powers = np.stack([s**k for k in range(5)], axis=1)
        crowd = np.exp(-((2.0 * s) ** 2))  # root of a normal density of a quarter of the interval
        c = np.linalg.lstsq(powers * crowd[:, None], wanted * crowd, rcond=None)[0]
        largest = float(np.abs(powers @ c - wanted).max())
        return cls((float(c[0]), float(c[1]), float(c[2]), float(c[3]), float(c[4])), interval, largest)

    def __call__(self, scores: Array) -> Array:
        """Values at scores z."""
        s = scores / self.interval
        c0, c1, c2, c3, c4 = self.coefficients
        return np.asarray(c0 + s * (c1 + s * (c2 + s * (c3 + s * c4))))


@dataclass(frozen=True, slots=True, repr=False)
class Sums:
    """What is opened in an epoch.

    Parameters
    ----------
    gradient : ndarray of float64, shape (k, d)
        Σ x·(P(z) - y).
    offset : ndarray of float64, shape (k,)
        Σ (P(z) - y).
    spread : ndarray of float64, shape (k,)
        Root mean square of the scores z.
    """

    gradient: Array
    offset: Array
    spread: Array


def clear_sums(
    polynomial: ScorePolynomial,
    rows: Array,
    targets: Array,
    weights: Array,
    offsets: Array,
) -> Sums:
    """Compute in clear what `GradientSums` computes on ciphertexts; rows (n, d), targets (n, k)."""
    scores = rows @ weights.T + offsets
    residuals = polynomial(scores) - targets
    return Sums(residuals.T @ rows, residuals.sum(axis=0), np.sqrt((scores**2).mean(axis=0)))


class _Scores(Protocol):
    """Encrypted s = z / interval of one class."""

    def first(self) -> list[Any]:
        """Ciphertexts of s, a block each, two levels above the residuals."""

    def multiple(self, level: int, factor: float, constant: float, wanted: float) -> list[Any]:
        """Ciphertexts of factor·s + constant on the rows, and of 0 beside them, one below ``level``."""


class GradientSums:
    """The server's part of training: encrypted rows and weights in, masked sums out.

    Needs the public evaluation keys of the frames, never a secret. With plain weights it sees them, which
    tells as much as the opened gradients do; with encrypted ones it sees ciphertexts alone.

    Parameters
    ----------
    data : TrainingData
        Rows and targets.
    polynomial : ScorePolynomial
        P.
    sizes : ndarray of float64, shape (d,)
        Root mean square of each column, as it was opened: says how much noise the sums carry.
    subtract : bool
        Whether targets are subtracted.
    hidden : bool
        Whether weights will come encrypted.

    Raises
    ------
    ProfileError
        Too few levels, or no room for the sums.
    CiphertextError
        The frames have no evaluation keys, or are not fresh.
    """

    def __init__(
        self,
        data: TrainingData,
        polynomial: ScorePolynomial,
        sizes: Array,
        *,
        subtract: bool = True,
        hidden: bool = False,
    ) -> None:
        self.data, self.polynomial, self.sizes = data, polynomial, sizes
        self.engine: Final = data.engine
        self.keys: Final = data.rows[0].keys()
        self._subtract = subtract
        slots = self.engine.slots
        #: Rows of each block.
        self.blocks: Final = [
            min(slots, frame.n_rows - start) for frame in data.rows for start in range(0, frame.n_rows, slots)
        ]
        self._fill = data.n_rows / slots
        #: Scale of every column.
        self.scale: Final = _common_scale(data)
        self._noise = max(head.noise for frame in data.rows for head in frame.heads)
        self._target_noise = max(head.noise for frame in data.targets for head in frame.heads)
        #: Level and scale of the residuals P(z) - y.
        self.level, self.wanted = self._plan()
        self._score_scale = self._scale_of_s(hidden)
        self._columns: dict[int, list[list[Any]]] = {}
        self._shifted = [
            self.engine.add_plain(cipher, self.mask(b, 1.0, self.scale, self.level))
            for b, cipher in enumerate(self.columns(self.level)[0])
        ]
        self._minus_targets = [self._lifted(t) for t in range(data.n_targets)] if subtract else []

    def _plan(self) -> tuple[int, float]:
        """Lowest level that has room for the last product, and the finest scale that is of use there."""
        engine, data = self.engine, self.data
        top = min(frame.level for frame in (*data.rows, *data.targets))
        largest = max(1.0, float(self.sizes.max())) * _RESIDUAL * self._fill * self.scale
        for level in range(1, top - DEPTH + 1):
            if engine.room_bits(level) - math.log2(largest) >= math.log2(self.scale) + 1.0:
                fine = best_scale(engine, level, largest, most_bits=_RESIDUAL_BITS, what="a gradient")
                return level, max(fine, self.scale)
        raise too_shallow(top, engine.profile.name)

    def _scale_of_s(self, hidden: bool) -> float:
        """Scale of s at which t·u ends at the scale of the residuals; t takes c4·u in without a product."""
        if hidden:
            return self.scale * self.scale * _WEIGHT_GAIN / float(self.engine.primes[self.level + DEPTH])
        c4 = self.polynomial.coefficients[4]
        product = self.wanted * float(self.engine.primes[self.level + 1])
        square = math.sqrt(product * c4) if c4 > 0.0 else math.sqrt(product)
        return math.sqrt(square * float(self.engine.primes[self.level + 2]))

    def columns(self, level: int) -> list[list[Any]]:
        """Ciphertexts of each column at a level, one for each block of each owner."""
        if level not in self._columns:
            low = [frame.drop_to(level) for frame in self.data.rows]
            self._columns[level] = [
                [cipher for frame in low for cipher in frame.ciphers(frame.columns[j])]
                for j in range(self.data.width)
            ]
        return self._columns[level]

    def mask(self, block: int, value: float, scale: float, level: int) -> Any:
        """Plaintext of ``value`` on the rows of a block and 0 beside them."""
        return self.engine.encode(np.full(self.blocks[block], value), scale, level)

    def _lifted(self, target: int) -> list[Any]:
        """Negated targets at the level and scale of the residuals: a whole factor keeps them exact."""
        engine, lifted = self.engine, list[Any]()
        for frame in self.data.targets:
            head, name = frame.heads[target], frame.columns[target]
            bits = round(math.log2(self.wanted / head.scale))
            ciphers = frame.drop_to(self.level).ciphers(name)
            lifted += [engine.negate(engine.raise_scale(cipher, bits)) for cipher in ciphers]
        return lifted

    # Sums ------------------------------------------------------------------------------------------------

    def sums(
        self,
        weights: Array,
        offsets: Array,
        hidden: list[EncryptedFrame] | None = None,
    ) -> EncryptedFrame:
        """Masked sums of all classes: one of each column, one for the offset, one for the spread of scores.

        Parameters
        ----------
        weights : ndarray of float64, shape (k, d)
            In clear.
        offsets : ndarray of float64, shape (k,)
            In clear.
        hidden : list of k EncryptedFrame, optional
            What `hide` made of the same numbers: then nothing but their shape is taken from the first two.

        Returns
        -------
        EncryptedFrame
            One row in layout "sums"; columns "t·j" (class t, column j), "t·+" and "t·²".
        """
        parts: list[tuple[ColumnHeader, Any]] = []
        for t, scores, length, fog in self._classes(weights, offsets, hidden):
            blocks = self._residuals(t, scores, float(offsets[t]))
            parts += self._products(t, blocks, self._residual_noise(length, scores, fog))
            if scores is not None:
                parts.append(self._spread(t, scores, length, fog))
        return slot_sums(self.data.rows[0], parts, level=self.level)

    def spreads(
        self,
        weights: Array,
        offsets: Array,
        hidden: list[EncryptedFrame] | None = None,
    ) -> EncryptedFrame:
        """Masked sums of s² alone, columns "t·²", to check the last weights with; none for zero weights."""
        parts = [
            self._spread(t, scores, length, fog)
            for t, scores, length, fog in self._classes(weights, offsets, hidden)
            if scores is not None
        ]
        return slot_sums(self.data.rows[0], parts, level=self.level)

    def hide(
        self,
        weights: Array,
        offsets: Array,
        encrypt: Callable[..., EncryptedFrame],
    ) -> list[EncryptedFrame]:
        """Encrypt weights for the server: the opener's part when it is not to see them.

        Parameters
        ----------
        weights : ndarray of float64, shape (k, d)
            In clear.
        offsets : ndarray of float64, shape (k,)
            In clear.
        encrypt : callable
            ``holder.encrypt_constants`` or ``evaluator.encrypt_constants``.
        """
        table = np.column_stack((weights, offsets)) * (_WEIGHT_GAIN / self.polynomial.interval)
        bound = _WEIGHT_BOUND * _WEIGHT_GAIN
        return [encrypt(row, bound) for row in table]

    def read(self, opened: dict[str, float], offsets: Array) -> Sums:
        """Put opened sums in order.

        Parameters
        ----------
        opened : mapping of column name to float
            Of what `sums` made.
        offsets : ndarray of float64, shape (k,)
            That they were made with.
        """
        gradient = np.array(
            [[opened[f"{t}·{j}"] for j in range(self.data.width)] for t in range(len(offsets))]
        )
        # the column holds the sum for x + 1, from which that for x is taken
        offset = np.array([opened[f"{t}·+"] for t in range(len(offsets))]) - gradient[:, 0]
        return Sums(gradient, offset, self.read_spread(opened, offsets))

    def read_spread(self, opened: dict[str, float], offsets: Array) -> Array:
        """Root mean square of the scores z, shape (k,); where weights are zero it is the offset."""
        interval, n = self.polynomial.interval, self.data.n_rows
        return np.array(
            [
                interval * math.sqrt(max(opened[f"{t}·²"], 0.0) / n) if f"{t}·²" in opened else abs(offset)
                for t, offset in enumerate(offsets.tolist())
            ]
        )

    def _classes(
        self, weights: Array, offsets: Array, hidden: list[EncryptedFrame] | None
    ) -> "Iterator[tuple[int, _Scores | None, float, float | None]]":
        """Each class, its scores, the length of its weights, and the noise of encrypted ones."""
        for t, row in enumerate(weights):
            own = None if hidden is None else hidden[t]
            offset, fog = float(offsets[t]), None if own is None else own.heads[0].noise
            # the length of hidden weights: more than they have while training converges
            length = math.hypot(float(np.linalg.norm(row)), offset)
            length = length if own is None else 0.5 * self.polynomial.interval
            yield t, self._scores(row, offset, own), length, fog

    def _scores(self, weights: Array, offset: float, hidden: EncryptedFrame | None) -> "_Scores | None":
        if hidden is not None:
            return _HiddenScores(self, hidden)
        if float(np.abs(weights).max()) < _NOTHING:
            return None
        interval = self.polynomial.interval
        return _PlainScores(self, weights / interval, offset / interval, self._score_scale)

    def _residuals(self, t: int, scores: "_Scores | None", offset: float) -> list[Any]:
        """P(z) - y for each block, at the level and scale of the residuals; 0 beside the rows."""
        if scores is None:
            rate = float(self.polynomial(np.asarray(offset)))
            return [
                self.engine.add_plain(cipher, self.mask(b, rate, self.wanted, self.level))
                for b, cipher in enumerate(self._minus_targets[t])
            ]
        engine, level = self.engine, self.level
        c0, c1, c2, c3, c4 = self.polynomial.coefficients
        squares = [engine.rescale(self.keys.relinearize(engine.square(s))) for s in scores.first()]
        product_scale = self.wanted * float(engine.primes[level + 1])
        wanted = product_scale / float(squares[0].scale)
        outer = scores.multiple(level + 2, c3, c2, wanted)
        if c4 > 0.0:
            outer = [engine.add(t_, _reread(engine, u, wanted)) for t_, u in zip(outer, squares, strict=True)]
        straight = scores.multiple(level + 1, c1, c0, self.wanted)
        residuals = []
        for b, (u, t_, line) in enumerate(zip(squares, outer, straight, strict=True)):
            curve = engine.rescale(self.keys.relinearize(engine.multiply(u, t_)), self.wanted)
            rate_ = engine.add(curve, line)
            residuals.append(engine.add(rate_, self._minus_targets[t][b]) if self._subtract else rate_)
        return residuals

    def _products(self, t: int, residuals: list[Any], noise: float) -> list[tuple[ColumnHeader, Any]]:
        engine, n, scale = self.engine, self.data.n_rows, self.scale * self.wanted
        parts = []
        sizes = [*self.sizes.tolist(), math.hypot(float(self.sizes[0]), 1.0)]
        names = [f"{t}·{j}" for j in range(self.data.width)] + [f"{t}·+"]
        for name, size, column in zip(names, sizes, [*self.columns(self.level), self._shifted], strict=True):
            bound = n * _RESIDUAL * max(size, 1.0)
            own = math.sqrt(self._fill) * math.hypot(size * self.scale * noise, self.wanted * self._noise)
            total = engine.sum_of_products(zip(column, residuals, strict=True))
            parts.append((ColumnHeader(name, bound, scale, own), total))
        return parts

    def _spread(
        self, t: int, scores: "_Scores", length: float, fog: float | None
    ) -> tuple[ColumnHeader, Any]:
        scale, slots = self.scale, self.engine.slots
        low = scores.multiple(self.level + 1, 1.0, 0.0, scale)
        noise = math.hypot(self._score_noise(length, fog), rescale_noise(self.engine) / scale)
        # scores of weights of this length have at most this root mean square
        reach = math.hypot(self._width * length / self.polynomial.interval, noise * math.sqrt(slots))
        own = 2.0 * math.sqrt(self._fill) * reach * scale**2 * noise
        bound = self.data.n_rows * MOST_SPREAD**2
        total = self.engine.sum_of_products(zip(low, low, strict=True))
        return ColumnHeader(f"{t}·²", bound, scale**2, own), total

    @property
    def _width(self) -> float:
        """Root of the mean squared length of a row, with the 1 of the offset."""
        return math.sqrt(float((self.sizes**2).sum()) + 1.0)

    def _residual_noise(self, length: float, scores: "_Scores | None", fog: float | None) -> float:
        """Estimate the noise of a coefficient of the residuals.

        Parameters
        ----------
        length : float
            Of the weights.
        scores : scores or None
            None where they are zero.
        fog : float or None
            Noise of encrypted weights.
        """
        target = self._target_noise * self.wanted / self.scale if self._subtract else 0.0
        if scores is None:
            return target
        r, (_, c1, c2, c3, c4) = rescale_noise(self.engine), self.polynomial.coefficients
        s = self._score_noise(length, fog)
        # straight from the rows, or from encrypted scores
        line = self.wanted * abs(c1) * (s if fog is not None else self._fresh_noise(length))
        rows = math.sqrt(min(self._fill, 1.0))  # beside the rows everything is 0
        # as if every row had |s| = 1 for the even powers, and u a half for the cubic: few scores are as far
        curve = rows * self.wanted * s * (2.0 * abs(c2) + 1.5 * abs(c3) + 4.0 * c4)
        scale = self._score_scale**2 / float(self.engine.primes[self.level + 2])
        square = rows * self.wanted * 2.0 * r / scale * (abs(c2) + 0.7 * abs(c3) + 2.0 * c4)
        outer = rows * 0.5 * r * scale / float(self.engine.primes[self.level + 1])
        return math.hypot(target, line, curve, square, outer, 2.0 * r)

    def _score_noise(self, length: float, fog: float | None) -> float:
        """Noise of a coefficient of s over its scale: of fresh columns, of encrypted weights, of rounding."""
        rounding = rescale_noise(self.engine) / self._score_scale
        if fog is None:
            return math.hypot(self._fresh_noise(length), rounding)
        mist = self._width * math.sqrt(min(self._fill, 1.0)) * fog / (self.scale * _WEIGHT_GAIN)
        return math.hypot(self._fresh_noise(length), mist, 2.0 * rounding)

    def _fresh_noise(self, length: float) -> float:
        return length / self.polynomial.interval * self._noise / self.scale


class _PlainScores:
    """Scores from weights that the server sees: linear forms of the rows, at any level and scale."""

    def __init__(self, sums: GradientSums, weights: Array, offset: float, scale: float) -> None:
        self._sums, self._weights, self._offset, self._scale = sums, weights, offset, scale

    def first(self) -> list[Any]:
        return self.multiple(self._sums.level + DEPTH, 1.0, 0.0, self._scale)

    def multiple(self, level: int, factor: float, constant: float, wanted: float) -> list[Any]:
        sums, engine = self._sums, self._sums.engine
        scale = engine.factor_scale(sums.scale, wanted, level)
        plains = [engine.encode_constant(factor * float(w), scale, level) for w in self._weights]
        used = [(column, p) for column, p in zip(sums.columns(level), plains, strict=True) if p is not None]
        value = factor * self._offset + constant
        return [
            engine.multiply_accumulate(
                [(column[b], plain) for column, plain in used],
                sums.mask(b, value, scale * sums.scale, level) if value else None,
                wanted,
            )
            for b in range(len(sums.blocks))
        ]


class _HiddenScores:
    """Scores from weights that the server does not see: products of ciphertexts."""

    def __init__(self, sums: GradientSums, hidden: EncryptedFrame) -> None:
        self._sums = sums
        engine, level = sums.engine, sums.level + DEPTH
        low = hidden.drop_to(level)
        *weights, offset = [low.ciphers(name)[0] for name in low.columns]
        columns = sums.columns(level)
        self._first = []
        for b in range(len(sums.blocks)):
            pairs = zip((column[b] for column in columns), weights, strict=True)
            shift = engine.times_plain(offset, sums.mask(b, 1.0, sums.scale, level))
            total = engine.add(engine.sum_of_products(pairs), shift)
            s = engine.rescale(sums.keys.relinearize(total))
            s.scale = float(s.scale) * _WEIGHT_GAIN  # read as the weights, not as their multiples
            self._first.append(s)

    def first(self) -> list[Any]:
        return self._first

    def multiple(self, level: int, factor: float, constant: float, wanted: float) -> list[Any]:
        sums, engine = self._sums, self._sums.engine
        own = float(self._first[0].scale)
        scale = engine.factor_scale(own, wanted, level)
        plain = engine.encode_constant(factor, scale, level)
        return [
            engine.multiply_accumulate(
                [(engine.drop_to(s, level), plain)],
                sums.mask(b, constant, scale * own, level) if constant else None,
                wanted,
            )
            for b, s in enumerate(self._first)
        ]


def too_shallow(level: int, profile: str) -> ProfileError:
    """Make the error for frames with too few levels; it names the profiles that have enough."""
    enough = ", ".join(repr(p.name) for p in PROFILES.values() if p.levels > DEPTH)
    return ProfileError(
        f"training takes {DEPTH} levels, and one more that holds the sums; the frames are at level {level} "
        f"of profile {profile!r}",
        hint=f"encrypt fresh rows under KeyHolder.generate('train'); profiles that can: {enough}",
    )


def _reread(engine: Engine, cipher: Any, scale: float) -> Any:
    """Read a ciphertext at another scale: its value times old over new scale, without a product."""
    again = engine.times_integer(cipher, 1)
    again.scale = scale
    return again


def _common_scale(data: TrainingData) -> float:
    scales = {head.scale for frame in (*data.rows, *data.targets) for head in frame.heads}
    if len(scales) > 1:
        raise CiphertextError(
            f"columns at {len(scales)} different scales were passed; training takes fresh ones",
            hint="encrypt again under KeyHolder.generate('train'), and scale the rows before encrypting",
        )
    return scales.pop()
