"""Fixed-point encoding of weighted vectors into field elements, and back from their sum."""

import os
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from twopm_kit.errors import EncodingError, TamperedMessage
from twopm_kit.secagg.config import RoundConfig
from twopm_kit.secagg.field import LIMBS, Limbs, check_limbs, from_words

__all__ = ["Decoded", "Encoder"]

Float = npt.NDArray[np.float64]
Lanes = npt.NDArray[np.int64]
_BLOCK = 1 << 15  # values rounded at a time, to stay in cache
_ZEROS = bytes(8 * _BLOCK)


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
        unbiased; its standard deviation is at most step / 2, and shrinks with the number of clients.
    """

    mean: Float
    weight: int
    metrics: Float
    metric_weight: int
    step: float

    @property
    def sum(self) -> Float:
        """Weighted sum of the clients' values, shape (d,)."""
        return self.mean * self.weight

    def __repr__(self) -> str:
        return (
            f"Decoded(mean=<{self.mean.size} values>, weight={self.weight}, metrics={self.metrics}, "
            f"metric_weight={self.metric_weight}, step={self.step:.3g})"
        )


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
        It is no secret of the protocol: pass one only to repeat a computation.

    Attributes
    ----------
    elements : int
        Field elements m of an encoded vector.
    last_clipped : int
        How many values of the last `encode` lay outside the clip range.

    Notes
    -----
    A value v becomes q = round(v / step) + 2**(value_bits - 1), rounded up with the probability of its
    fractional part, so that E[q] is exact; zero has no rounding error. The lane carries weight · q. Lanes in
    order: values, weight, then (with metrics) weighted metrics and metric weight, then zeros up to a whole
    element. A sum of at most max_clients such lanes never carries into the next one, and a whole element
    stays below 2**254 < r.
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
        self.last_clipped = 0
        self._stream = Cipher(
            algorithms.AES(os.urandom(16) if rounding_key is None else rounding_key), modes.CTR(bytes(16))
        ).encryptor()

    def __repr__(self) -> str:
        return (
            f"Encoder({self.length} values, {self.metrics} metrics → {self.elements} field elements of "
            f"{self.config.lanes} lanes, step {self.config.step:.3g})"
        )

    def encode(
        self,
        values: npt.ArrayLike,
        weight: int = 1,
        metrics: npt.ArrayLike | None = None,
        metric_weight: int = 0,
    ) -> Limbs:
        """Encode one client's values.

        Parameters
        ----------
        values : array of float, shape (d,)
        weight : int
            From 1 to the config's weight limit.
        metrics : array of float, shape (k,), optional
            Required if the encoder has metrics and `metric_weight` is not 0.
        metric_weight : int
            From 0 to the config's weight limit.

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
        clipped = np.clip(vector, -config.clip, config.clip)
        self.last_clipped = int(np.count_nonzero(clipped != vector))
        lanes = np.zeros(self.elements * config.lanes, np.int64)
        self._quantise(clipped, config.step, weight, lanes[: self.length])
        lanes[self.length] = weight
        if self.metrics:
            measured = np.zeros(self.metrics) if metrics is None and not metric_weight else metrics
            lanes[self.length + 1 : self.lanes - 1] = self._weighted_metrics(measured, metric_weight)
            lanes[self.lanes - 1] = metric_weight
        elif metrics is not None or metric_weight:
            raise EncodingError(
                "metrics were given to an encoder that has none",
                hint="Make it with Encoder(config, length, metrics=number of metrics).",
            )
        packed = lanes.astype(np.uint32) if config.lanes == LIMBS else lanes.view(np.uint32)
        return packed.reshape(self.elements, LIMBS)

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
        most = clients * config.weight_limit
        weight = int(lanes[self.length])
        self._demand(clients <= weight <= most, f"the weights add up to {weight}")
        self._demand(not np.any(lanes[self.lanes :]), "the padding is not zero")
        mean = self._mean(lanes[: self.length], weight, config.step, "values")
        measured, metric_weight = np.empty(0), 0
        if self.metrics:
            metric_weight = int(lanes[self.lanes - 1])
            self._demand(metric_weight <= most, f"the metric weights add up to {metric_weight}")
            measured = self._mean(
                lanes[self.length + 1 : self.lanes - 1], metric_weight, config.metric_step, "metrics"
            )
        return Decoded(mean, weight, measured, metric_weight, config.step)

    def _check_weight(self, name: str, value: int, least: int) -> None:
        most = self.config.weight_limit
        if not isinstance(value, int | np.integer) or isinstance(value, bool) or not least <= value <= most:
            raise EncodingError(
                f"{name}={value!r}, expected a whole number from {least} to {most}",
                hint="Scale the weights down, lower value_bits or max_clients, or take lanes=4.",
            )

    def _vector(self, name: str, values: npt.ArrayLike, length: int) -> Float:
        try:
            vector = np.asarray(values, np.float64)
        except (TypeError, ValueError) as cause:
            raise EncodingError(
                f"{name} are not numbers: {cause}", hint="Pass a one-dimensional array of float."
            ) from cause
        if vector.shape != (length,):
            raise EncodingError(
                f"{name} have shape {vector.shape}, expected ({length},)",
                hint="Flatten the model in one fixed order and pass every number of it.",
            )
        if not np.isfinite(vector).all():
            index = int(np.flatnonzero(~np.isfinite(vector))[0])
            raise EncodingError(
                f"{name}[{index}] is {vector[index]}, expected a finite number",
                hint="Look for a diverging training step or a missing value before the round.",
            )
        return vector

    def _weighted_metrics(self, metrics: npt.ArrayLike | None, weight: int) -> Lanes:
        if metrics is None:
            raise EncodingError(
                f"metric_weight={weight} without metrics", hint=f"Pass {self.metrics} metrics, or weight 0."
            )
        vector = self._vector("metrics", metrics, self.metrics)
        bound = self.config.metric_bound
        outside = np.flatnonzero(np.abs(vector) > bound)
        if outside.size:
            index = int(outside[0])
            raise EncodingError(
                f"metrics[{index}] is {vector[index]}, outside [-{bound}, {bound}]",
                hint="Raise metric_bound in the round's configuration, or bound the metric.",
            )
        lanes = np.empty(self.metrics, np.int64)
        self._quantise(vector, self.config.metric_step, int(weight), lanes)
        return lanes

    def _quantise(self, values: Float, step: float, weight: int, out: Lanes) -> None:
        offset = 1 << (self.config.value_bits - 1)
        drawn = bytearray(8 * _BLOCK + 16)
        words = np.frombuffer(drawn, np.uint64)
        for start in range(0, values.size, _BLOCK):
            scaled = values[start : start + _BLOCK] / step
            floor = np.floor(scaled)
            self._stream.update_into(memoryview(_ZEROS)[: 8 * scaled.size], drawn)
            # 53 random bits against the fractional part, which is exact: rounding is unbiased to 2**-53.
            uniform = (words[: scaled.size] >> np.uint64(11)) * 2.0**-53
            block = floor.astype(np.int64)
            block += uniform < scaled - floor
            block += offset
            block *= weight
            out[start : start + _BLOCK] = block

    def _mean(self, lanes: Lanes, weight: int, step: float, name: str) -> Float:
        bits = self.config.value_bits
        self._demand(not lanes.size or int(lanes.max()) <= weight << bits, f"{name} exceed their bound")
        if not weight:
            return np.full(lanes.size, np.nan)
        centred = lanes - (weight << (bits - 1))
        return centred.astype(np.float64) * (step / weight)

    @staticmethod
    def _demand(holds: bool, what: str) -> None:
        if not holds:
            raise TamperedMessage(
                f"the sum does not decode: {what}",
                hint="A mask was not removed, or a vector was not encoded for this round: discard the sum.",
            )
