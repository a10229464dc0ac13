"""Noise for differential privacy: exact discrete Gaussian integers from the operating system's randomness."""

import math
import os
from decimal import Decimal, localcontext

import numpy as np
import numpy.typing as npt
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from twopm_kit.errors import EncodingError

__all__ = ["CUT_MASS", "LARGEST_SIGMA", "SMALLEST_SIGMA", "DiscreteGaussian", "tail"]

Integers = npt.NDArray[np.int64]

SMALLEST_SIGMA = 0.5
LARGEST_SIGMA = 2.0**49
_CUT = 15  # standard deviations
CUT_MASS = 2.0**-161  # more than what lies beyond them, 2 exp(-15² / 2)
_SLOTS = 256
_SLOT_BITS = 56  # slots of 2**56 words each: the words of 64 bits, dealt out without a remainder
_ACCEPT_BITS = 52  # at most so many bits of a word are compared with a probability; they fit a float64
_SLACK = 2.0**-45  # far above the rounding error of the float64 probabilities, which is below 2**-49
_MORE_BYTES = 24
_DIGITS = 110
_BLOCK = 1 << 15  # candidates at a time, to stay in cache


def tail(sigma: float) -> int:
    """Return a bound of the absolute value of everything that ``DiscreteGaussian(sigma)`` draws."""
    return math.ceil((_CUT + 0.125) * sigma)


class DiscreteGaussian:
    """Draws integers x with probability proportional to exp(-x² / (2 sigma²)).

    Parameters
    ----------
    sigma : float
        From 0.5 to below 2**49. The variance is at most sigma², and equals it in double precision from
        sigma = 2 on.
    key : bytes, optional
        16 bytes that key the stream; fresh from the operating system if left out. Whoever knows the key can
        take the noise away: pass one only to repeat a computation that protects nobody.

    Attributes
    ----------
    bound : int
        No draw is larger in absolute value; at most `tail` (sigma).

    Notes
    -----
    Canonne, Kamath and Steinke 2020 show why noise on integers must be drawn exactly. Their sampler takes a
    number of coin flips that differs from value to value; this one draws from the same distribution by
    rejection on whole arrays:

    1. The half axis is cut into at most 241 blocks of 2**b integers, no wider than sigma / 8 (or of one
       integer). A block is drawn in proportion to its height, the density at its left end rounded up to an
       integer, with an alias table (Walker 1977) whose integer heights add up to exactly 2**64.
    2. Sign and place in the block are bits of a second word.
    3. x is kept with the probability density(x) / height; from sigma = 8 on, two to five in a hundred are
       not. The bits that are left of the second word are compared with that probability in float64; where
       they lie too close to it for float64 to tell, and only there, 192 more bits are compared with 110
       decimal digits.

    So nothing is rounded that a probability depends on, but the distribution ends at 15 sigma: its distance
    from the endless one is below 2**-161 a value. Sampling takes a time that depends on what was rejected,
    not on what was kept.
    """

    def __init__(self, sigma: float, *, key: bytes | None = None) -> None:
        if not isinstance(sigma, int | float) or not SMALLEST_SIGMA <= sigma < LARGEST_SIGMA:
            raise EncodingError(
                f"the noise has a standard deviation of {sigma!r} steps, expected {SMALLEST_SIGMA} to 2^49",
                hint="Change value_bits, clip or noise_multiplier: coarser steps make it smaller.",
            )
        self.sigma = float(sigma)
        self._shift = max(0, math.floor(math.log2(self.sigma / 8)))
        self._blocks = int(_CUT * self.sigma) // (1 << self._shift) + 1
        self.bound = (self._blocks << self._shift) - 1
        self._accept_bits = min(_ACCEPT_BITS, 63 - self._shift)
        with localcontext(prec=_DIGITS):
            densities = [self._density(block << self._shift) for block in range(self._blocks)]
            self._scale = Decimal(2**64 - self._blocks) // sum(densities)
            heights = [
                int((self._scale * density).to_integral_value("ROUND_CEILING")) for density in densities
            ]
            keep = [
                float(self._scale * density / height)
                for density, height in zip(densities, heights, strict=True)
            ]
        # What the heights leave of 2**64 goes to one more slot, which is always rejected.
        unused = _SLOTS - self._blocks
        self._threshold, self._alias = _alias_table([*heights, 2**64 - sum(heights)] + [0] * (unused - 1))
        self._heights = heights + [0] * unused
        self._keep = np.array(keep + [0.0] * unused)
        self._left = np.arange(_SLOTS, dtype=np.int64) << self._shift
        self._stream = Cipher(
            algorithms.AES(os.urandom(16) if key is None else key), modes.CTR(bytes(16))
        ).encryptor()

    def __repr__(self) -> str:
        return f"DiscreteGaussian(sigma={self.sigma:.6g})"

    def draw(self, count: int) -> Integers:
        """Return `count` independent draws, int64, shape (count,)."""
        out = np.empty(count, np.int64)
        done = 0
        while done < count:
            # A few more candidates than are missing, as some are rejected.
            kept = self._candidates(min(_BLOCK, (count - done) * 17 // 16 + 16))[: count - done]
            out[done : done + kept.size] = kept
            done += kept.size
        return out

    def _candidates(self, count: int) -> Integers:
        words = np.frombuffer(self._stream.update(bytes(16 * count)), np.uint64)
        first, second = words[:count], words[count:].view(np.int64)
        slot = (first & np.uint64(_SLOTS - 1)).astype(np.intp)
        block = np.where(first >> np.uint64(8) < self._threshold[slot], slot, self._alias[slot])
        place = (second >> 1) & ((1 << self._shift) - 1)
        left = self._left[block]
        fall = place.astype(np.float64)
        fall *= fall + 2.0 * left
        fall *= -0.5 / self.sigma / self.sigma
        bar = np.exp(fall, out=fall)
        bar *= self._keep[block]
        bar *= 2.0**self._accept_bits
        drawn = (words[count:] >> np.uint64(64 - self._accept_bits)).view(np.int64)
        level = drawn.astype(np.float64)
        keep = level < bar
        near = np.abs(level + 0.5 - bar) <= 0.5 + 2.0**self._accept_bits * _SLACK
        for index in np.flatnonzero(near):
            keep[index] = self._settle(int(left[index] + place[index]), int(block[index]), int(drawn[index]))
        x = left + place
        negative = (second & 1).astype(np.bool_)
        keep &= (x != 0) | ~negative  # there is one zero, not two
        np.negative(x, out=x, where=negative)
        return x[keep]

    def _settle(self, x: int, block: int, drawn: int) -> bool:
        """Compare the drawn bits and 192 more with the probability of keeping x, in decimal digits."""
        if not self._heights[block]:
            return False
        more = int.from_bytes(self._stream.update(bytes(_MORE_BYTES)), "little")
        with localcontext(prec=_DIGITS):
            probability = self._density(x) * self._scale / self._heights[block]
            bar = probability * 2 ** (self._accept_bits + 8 * _MORE_BYTES)
            return bool((drawn << 8 * _MORE_BYTES) + more < bar)

    def _density(self, x: int) -> Decimal:
        return (-(Decimal(x) ** 2) / (2 * Decimal(self.sigma) ** 2)).exp()


def _alias_table(heights: list[int]) -> tuple[npt.NDArray[np.uint64], npt.NDArray[np.intp]]:
    """Return, for 256 heights of sum 2**64, where each slot of 2**56 words ends and who has the rest."""
    full = 1 << _SLOT_BITS
    threshold = np.zeros(_SLOTS, np.uint64)
    alias = np.arange(_SLOTS)
    rest = list(heights)
    low = [slot for slot in range(_SLOTS) if rest[slot] < full]
    high = [slot for slot in range(_SLOTS) if rest[slot] >= full]
    while low:
        slot, giver = low.pop(), high[-1]
        threshold[slot], alias[slot] = rest[slot], giver
        rest[giver] -= full - rest[slot]
        if rest[giver] < full:
            low.append(high.pop())
    threshold[high] = full
    return threshold, alias
