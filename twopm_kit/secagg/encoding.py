"""Fixed-point encoding of weighted vectors into field elements, and back from their sum."""

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from twopm_kit.errors import EncodingError, TamperedMessage
from twopm_kit.secagg.config import MIN_GROUP, RoundConfig
from twopm_kit.secagg.field import LIMBS, Limbs, check_limbs, from_words
from twopm_kit.secagg.noise import LARGEST_SIGMA, DiscreteGaussian, tail

__all__ = ["Decoded", "Encoder", "fewest_survivors", "noise_share"]

Float = npt.NDArray[np.float64]
Real = npt.NDArray[np.float32] | Float
Lanes = npt.NDArray[np.int32] | npt.NDArray[np.int64]
_BLOCK = 1 << 14  # values at a time: three buffers of 128 KiB stay in the second-level cache
_ZEROS = bytes(4 * _BLOCK)
_FINEST_NOISE = 2.0  # steps: below it, sums of discrete Gaussians begin to differ from a discrete Gaussian


@dataclass(frozen=True, eq=False)
class Decoded:
    """A decoded sum.

    Attributes
    ----------
    mean : float64 array, shape (d,)
        Weighted mean of the clients' values.
    weight : int
        Sum of their weights.
    metrics : float64 array, shape (k,)
        Metrics averaged with the metric weights; NaN where no client gave a metric weight.
    metric_weight : int
        Sum of the metric weights (a count, such as validation rows).
    step : float
        Quantisation step: `mean` is less than one step away from the exact mean of the clipped values, and
        unbiased; its standard deviation is at most step / 2, and shrinks with the number of clients. Noise
        comes on top.
    noise : float
        Largest standard deviation of the noise in each value of `mean`; 0 for a round without noise.
    """

    mean: Float
    weight: int
    metrics: Float
    metric_weight: int
    step: float
    noise: float = 0.0

    @property
    def sum(self) -> Float:
        """Weighted sum of the clients' values, shape (d,)."""
        return self.mean * self.weight

    def __repr__(self) -> str:
        return (
            f"Decoded(mean=<{self.mean.size} values>, weight={self.weight}, metrics={self.metrics}, "
            f"metric_weight={self.metric_weight}, step={self.step:.3g}"
            + (f", noise={self.noise:.3g})" if self.noise else ")")
        )


def fewest_survivors(config: RoundConfig, members: int | None = None) -> int:
    """Return the smallest number of survivors that a published sum can be over.

    Parameters
    ----------
    config : RoundConfig
    members : int, optional
        Members of the round; left out, the smallest round that the configuration allows.

    Notes
    -----
    Of a round it is the quorum. With groups every group's sum is published, so it is what may be left of one
    group: hardly ever more than two.
    """
    if members is None:
        return config.min_clients if config.groups == 1 else MIN_GROUP
    missing = members - config.quorum(members)
    return max(members // config.groups - missing, MIN_GROUP)


def noise_share(config: RoundConfig, members: int | None = None) -> float:
    """Return the standard deviation of the noise that one client adds, in parts of the sensitivity.

    Notes
    -----
    With s = `fewest_survivors` every client adds the variance (noise_multiplier · sensitivity)² / s, so that
    the independent noise of s or more clients has at least the standard deviation that was asked for.
    """
    return config.noise_multiplier / math.sqrt(fewest_survivors(config, members))


class Encoder:
    """Encodes one client's values as field elements and decodes the clients' sum.

    Parameters
    ----------
    config : RoundConfig
    length : int
        Number of values d.
    metrics : int
        Number of metrics k.
    rounding_key : bytes, optional
        16 bytes that key the stream behind stochastic rounding; fresh from the operating system if left out.
        It is no secret of the protocol: pass one only to repeat a computation. Noise never depends on it.

    Attributes
    ----------
    elements : int
        Field elements m of an encoded vector.
    weight_limit : int
        Largest weight of one client: the config's, but 1 with noise.
    last_scale : float
        Factor, at most 1, by which the last `encode` shrank its values to the norm ``clip_norm``.
    last_clipped : int
        How many values of the last `encode` then still lay outside the clip range.

    Raises
    ------
    EncodingError
        If a length is no whole number, or the noise does not fit the lanes or is finer than the steps.

    Notes
    -----
    Values are first shrunk to the norm ``clip_norm`` (if the config has one), then cut to ``clip``. A value v
    becomes q = round(v / step) + 2**(value_bits - 1), rounded up with the probability of its fractional
    part, so that E[q] is exact to 2**-32; zero has no rounding error. The lane carries weight · q. Lanes in
    order: values, weight, then (with metrics) weighted metrics and metric weight, then zeros up to a whole
    element. A sum of at most max_clients such lanes never carries into the next one, and a whole element
    stays below 2**254 < r.

    With noise, a lane carries q + margin + x, x a discrete Gaussian (see `noise_share`). No draw is below
    -margin or above margin, which takes less than 2**-161 of the probability off each, so a lane is never
    negative and never borrows from the next one; decoding subtracts clients · margin. Every weight is 1 then:
    neighbouring runs differ in the values and metrics of one client, and the sum moves by no more than
    clip_norm (and what rounding adds, which ``federated.privacy`` accounts for). Metrics have noise of the
    same multiplier of their own sensitivity metric_bound · sqrt(k); they are cut to metric_bound, as a
    refusal would depend on private rows. Weights have none: who takes part, and who validates, is public.
    """

    def __init__(
        self, config: RoundConfig, length: int, metrics: int = 0, *, rounding_key: bytes | None = None
    ) -> None:
        for name, value, least in (("length", length, 1), ("metrics", metrics, 0)):
            if not isinstance(value, int) or isinstance(value, bool) or value < least:
                raise EncodingError(
                    f"{name}={value!r}, expected a whole number of at least {least}",
                    hint="Count the model's parameters and the metrics.",
                )
        self.config = config
        self.length = length
        self.metrics = metrics
        self.lanes = length + 1 + (metrics + 1 if metrics else 0)
        self.elements = -(-self.lanes // config.lanes)
        self.weight_limit = 1 if config.noise_multiplier else config.weight_limit
        self.last_clipped = 0
        self.last_scale = 1.0
        self._margin, self._metric_margin = self._margins() if config.noise_multiplier else (0, 0)
        self._stream = Cipher(
            algorithms.AES(os.urandom(16) if rounding_key is None else rounding_key), modes.CTR(bytes(16))
        ).encryptor()

    def __repr__(self) -> str:
        noise = f", noise {self.config.noise_multiplier:.3g}" if self.config.noise_multiplier else ""
        return (
            f"Encoder({self.length} values, {self.metrics} metrics → {self.elements} field elements of "
            f"{self.config.lanes} lanes, step {self.config.step:.3g}{noise})"
        )

    def encode(
        self,
        values: npt.ArrayLike,
        weight: int = 1,
        metrics: npt.ArrayLike | None = None,
        metric_weight: int = 0,
        *,
        members: int | None = None,
    ) -> Limbs:
        """Encode one client's values.

        Parameters
        ----------
        values : array of float, shape (d,)
            float32 and float64 are read in place, without a copy.
        weight : int
            From 1 to the weight limit.
        metrics : array of float, shape (k,), optional
            Required if the encoder has metrics and `metric_weight` is not 0.
        metric_weight : int
            From 0 to the weight limit.
        members : int, optional
            Members of the round, which the amount of noise follows; without them a client adds as much as
            in the smallest round. No matter without noise.

        Returns
        -------
        uint32 array, shape (m, 8)

        Raises
        ------
        EncodingError
            If a length is another one, a value is NaN or infinite, a metric is out of bounds, or a weight is
            outside its range.
        """
        config = self.config
        self._check_weight("weight", weight, 1)
        self._check_weight("metric_weight", metric_weight, 0)
        vector = self._vector("values", values, self.length)
        measured = self._measured(metrics, metric_weight)
        scale = self._scale(vector)
        size = self.elements * config.lanes
        lanes: Lanes = np.zeros(size, np.int32) if config.lanes == LIMBS else np.zeros(size, np.int64)
        last = self.lanes - 1
        clipped = self._quantise(vector, config.clip, config.step, int(weight), lanes[: self.length], scale)
        lanes[self.length] = weight
        if self.metrics:
            lane = lanes[self.length + 1 : last]
            self._quantise(measured, config.metric_bound, config.metric_step, int(metric_weight), lane)
            lanes[last] = metric_weight
        if config.noise_multiplier:
            value_sigma, metric_sigma = self._sigmas(members)
            self._add_noise(lanes[: self.length], value_sigma, self._margin)
            if self.metrics:
                self._add_noise(lanes[self.length + 1 : last], metric_sigma, self._metric_margin)
        self.last_scale, self.last_clipped = scale, clipped
        return lanes.view(np.uint32).reshape(self.elements, LIMBS)

    def decode(self, total: Limbs | Sequence[int], clients: int) -> Decoded:
        """Decode the sum of `clients` encoded vectors.

        Parameters
        ----------
        total : uint32 array of shape (m, 8), or m integers
        clients : int
            How many vectors were added up.

        Raises
        ------
        TamperedMessage
            If a lane holds what no sum of valid vectors can hold: a mask was not removed, or a vector was
            not made by an encoder of this configuration.
        """
        config = self.config
        if not isinstance(clients, int) or not 1 <= clients <= config.max_clients:
            raise EncodingError(
                f"clients={clients!r}, expected a whole number from 1 to {config.max_clients}",
                hint="Pass the number of survivors of the round.",
            )
        limbs = total if isinstance(total, np.ndarray) else from_words(total)
        packed = np.ascontiguousarray(check_limbs(limbs, elements=self.elements)).reshape(-1)
        if config.lanes == LIMBS:
            lanes = packed.astype(np.int64)
        else:
            wide = packed.view(np.uint64)
            self._demand(not np.any(wide >> np.uint64(config.sum_bits)), "a lane exceeds its bound")
            lanes = wide.astype(np.int64)
        most = clients * self.weight_limit
        weight = int(lanes[self.length])
        self._demand(clients <= weight <= most, f"the weights add up to {weight}")
        self._demand(not np.any(lanes[self.lanes :]), "the padding is not zero")
        mean = self._mean(lanes[: self.length], weight, config.step, clients * self._margin, "values")
        measured, metric_weight = np.empty(0), 0
        if self.metrics:
            metric_weight = int(lanes[self.lanes - 1])
            self._demand(metric_weight <= most, f"the metric weights add up to {metric_weight}")
            measured = self._mean(
                lanes[self.length + 1 : self.lanes - 1],
                metric_weight,
                config.metric_step,
                clients * self._metric_margin,
                "metrics",
            )
        noise = noise_share(config) * (config.clip_norm or 0.0) / math.sqrt(clients)
        return Decoded(mean, weight, measured, metric_weight, config.step, noise)

    def decode_sections(self, total: Limbs | Sequence[int], counts: Sequence[int]) -> list[Decoded]:
        """Decode the sums of all groups.

        Parameters
        ----------
        total : uint32 array of shape (groups · m, 8), or as many integers
            The groups' sums, one after the other.
        counts : sequence of int, length groups
            How many vectors were added up in each group. A group may have lost all its members.

        Returns
        -------
        list of Decoded
            The sums of the groups that have survivors, in order. Where there are several, one that does not
            decode is left out: a member has spoiled it, and with it no other.

        Raises
        ------
        EncodingError
            If there are more or fewer counts than groups, or the total has another length.
        TamperedMessage
            As `decode`, if no group's sum decodes; or if the section of an empty group is not zero.
        """
        groups = self.config.groups
        if len(counts) != groups:
            raise EncodingError(
                f"{len(counts)} counts of survivors, expected one for each of {groups} groups",
                hint="Count the survivors at the seats of each group: seat mod groups.",
            )
        limbs = total if isinstance(total, np.ndarray) else from_words(total)
        sections = check_limbs(limbs, elements=groups * self.elements).reshape(groups, self.elements, LIMBS)
        for section, count in zip(sections, counts, strict=True):
            self._demand(bool(count) or not section.any(), "the sum of an empty group is not zero")
        found, spoiled = [], None
        for section, count in zip(sections, counts, strict=True):
            if count:
                try:
                    found.append(self.decode(section, count))
                except TamperedMessage as fault:
                    spoiled = fault
        if not found and spoiled is not None:
            raise spoiled
        return found

    def _sigmas(self, members: int | None) -> tuple[float, float]:
        """Return the standard deviations of one client's noise in steps: of values, and of metrics."""
        config = self.config
        share = noise_share(config, members)
        half = math.ldexp(1.0, config.value_bits - 1)  # metric_bound / metric_step
        return share * (config.clip_norm or 0.0) / config.step, share * half * math.sqrt(self.metrics)

    def _margins(self) -> tuple[int, int]:
        config = self.config
        finest = self._sigmas(config.max_clients)[0]
        if finest < _FINEST_NOISE:
            raise EncodingError(
                f"a client's noise has a standard deviation of {finest:.3g} steps, expected at least "
                f"{_FINEST_NOISE}: coarser steps would show through the noise",
                hint="Raise value_bits, clip_norm or noise_multiplier, or lower clip towards clip_norm.",
            )
        sigmas = self._sigmas(None)
        margins = [tail(sigma) for sigma in sigmas]
        room = ((1 << config.sum_bits) - 1) // config.max_clients
        if (1 << config.value_bits) + 2 * max(margins) > room or max(sigmas) >= LARGEST_SIGMA:
            raise EncodingError(
                f"values of {config.value_bits} bits and noise of up to ±{max(margins)} steps from each of "
                f"{config.max_clients} clients overflow a lane, whose sum stays below 2^{config.sum_bits}",
                hint="Lower value_bits, max_clients or noise_multiplier, raise min_clients, or take lanes=4.",
            )
        return margins[0], margins[1]

    @staticmethod
    def _add_noise(lanes: Lanes, sigma: float, margin: int) -> None:
        source = DiscreteGaussian(sigma)
        for start in range(0, lanes.size, _BLOCK):
            part = lanes[start : start + _BLOCK]
            drawn = source.draw(part.size)
            drawn += margin
            np.add(part, drawn, out=part, casting="unsafe")

    def _check_weight(self, name: str, value: int, least: int) -> None:
        most = self.weight_limit
        if not isinstance(value, int | np.integer) or isinstance(value, bool) or not least <= value <= most:
            raise EncodingError(
                f"{name}={value!r}, expected a whole number from {least} to {most}",
                hint="Give every client weight 1: noise hides one client whose weight is 1."
                if self.config.noise_multiplier
                else "Scale the weights down, lower value_bits or max_clients, or take lanes=4.",
            )

    def _vector(self, name: str, values: npt.ArrayLike, length: int) -> Real:
        try:
            vector = np.asarray(values)
            if vector.dtype not in (np.float32, np.float64):
                vector = vector.astype(np.float64)
        except (TypeError, ValueError) as cause:
            raise EncodingError(
                f"{name} are not numbers: {cause}", hint="Pass a one-dimensional array of float."
            ) from cause
        if vector.shape != (length,):
            raise EncodingError(
                f"{name} have shape {vector.shape}, expected ({length},)",
                hint="Flatten the model in one fixed order and pass every number of it.",
            )
        return vector

    @staticmethod
    def _check_finite(name: str, values: Real, start: int = 0) -> None:
        bad = np.flatnonzero(~np.isfinite(values))
        if bad.size:
            raise EncodingError(
                f"{name}[{start + int(bad[0])}] is {values[bad[0]]}, expected a finite number",
                hint="Look for a diverging training step or a missing value before the round.",
            )

    def _measured(self, metrics: npt.ArrayLike | None, weight: int) -> Real:
        if not self.metrics:
            if metrics is not None or weight:
                raise EncodingError(
                    "metrics were given to an encoder that has none",
                    hint="Make it with Encoder(config, length, metrics=number of metrics).",
                )
            return np.zeros(0)
        if metrics is None:
            if weight:
                raise EncodingError(
                    f"metric_weight={weight} without metrics",
                    hint=f"Pass {self.metrics} metrics, or weight 0.",
                )
            return np.zeros(self.metrics)
        vector = self._vector("metrics", metrics, self.metrics)
        self._check_finite("metrics", vector)
        bound = self.config.metric_bound
        outside = np.flatnonzero(np.abs(vector) > bound)
        if outside.size and not self.config.noise_multiplier:
            index = int(outside[0])
            raise EncodingError(
                f"metrics[{index}] is {vector[index]}, outside [-{bound}, {bound}]",
                hint="Raise metric_bound in the round's configuration, or bound the metric.",
            )
        return vector

    def _scale(self, values: Real) -> float:
        """Return the factor, at most 1, that brings the values to the norm clip_norm."""
        most = self.config.clip_norm
        if most is None:
            return 1.0
        squares = 0.0
        with np.errstate(over="ignore", invalid="ignore"):
            for start in range(0, values.size, _BLOCK):
                part = values[start : start + _BLOCK].astype(np.float64, copy=False)
                squares += float(np.einsum("i,i", part, part))  # no BLAS: its threads wait for each other
        norm = math.sqrt(squares)
        if not math.isfinite(norm):
            self._check_finite("values", values)
            largest = float(np.abs(values).max())  # finite values whose squares are not
            norm = largest * float(np.linalg.norm(values.astype(np.float64) / largest))
        return min(1.0, most / norm) if norm else 1.0

    def _quantise(
        self, values: Real, clip: float, step: float, weight: int, out: Lanes, scale: float = 1.0
    ) -> int:
        """Write weight · q of every value to `out`; return how many values were cut to ±clip."""
        offset = weight << (self.config.value_bits - 1)
        clipped = 0
        drawn = bytearray(4 * _BLOCK + 16)
        words = np.frombuffer(drawn, np.uint32)
        buffers = np.empty((3, min(_BLOCK, values.size)))
        for start in range(0, values.size, _BLOCK):
            part = values[start : start + _BLOCK]
            block, floor, uniform = buffers[:, : part.size]
            np.multiply(part, scale, out=block)
            if not (-clip <= block.min() and block.max() <= clip):  # NaN compares false
                self._check_finite("values", part, start)
                clipped += int(np.count_nonzero(np.abs(block, out=floor) > clip))
                np.maximum(np.minimum(block, clip, out=block), -clip, out=block)
            block /= step
            np.floor(block, out=floor)
            self._stream.update_into(memoryview(_ZEROS)[: 4 * part.size], drawn)
            np.multiply(words[: part.size], 2.0**-32, out=uniform)
            # The fractional part is exact. Less the uniform number it lies in (-1, 1), and above 0 with the
            # probability that it names, to 2**-32: then 1 is added.
            block -= floor
            block -= uniform
            floor += np.ceil(block, out=block)
            lane = out[start : start + part.size]
            np.copyto(lane, floor, casting="unsafe")
            if weight != 1:
                lane *= weight
            lane += offset
        return clipped

    def _mean(self, lanes: npt.NDArray[np.int64], weight: int, step: float, margin: int, name: str) -> Float:
        bits = self.config.value_bits
        self._demand(
            not lanes.size or int(lanes.max()) <= (weight << bits) + 2 * margin, f"{name} exceed their bound"
        )
        if not weight:
            return np.full(lanes.size, np.nan)
        centred = lanes - (margin + (weight << (bits - 1)))
        return centred.astype(np.float64) * (step / weight)

    @staticmethod
    def _demand(holds: bool, what: str) -> None:
        if not holds:
            raise TamperedMessage(
                f"the sum does not decode: {what}",
                hint="A mask was not removed, or a vector was not encoded for this round: discard the sum.",
            )
