"""Opening: the noise that it takes, and the one place where plaintexts become numbers again."""

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from twopm_kit.errors import CiphertextError
from twopm_kit.fhe.container import ColumnHeader
from twopm_kit.fhe.engine import FRESH_NOISE, seal_words
from twopm_kit.fhe.flooding import Flood, cover_noise, plan_flood
from twopm_kit.fhe.frames import EncryptedFrame, rescale_noise
from twopm_kit.fhe.layouts import gather
from twopm_kit.fhe.raw import words
from twopm_kit.fhe.sums import constant_coefficient

__all__ = ["check_worth", "cover_seen", "plan_floods", "read_values"]

# A value this far beyond its column's bound cannot be the result of honest arithmetic under the right key.
_GARBAGE_FACTOR: Final = 1.5
_GARBAGE_NOISE: Final = 64.0
# Switching keys leaves a few slots with a hundred times the error of the others, because SEAL's digits are
# not centred. Counting the largest error of any slot as this many typical ones keeps the noise at a dozen
# times the largest, or more.
_PEAK: Final = 64.0
# Noise of more than this part of the bound is as good as no result, unless it was asked for.
_WORTH: Final = 1.0 / 64.0
_ROUNDED: Final = 1.0 + 1e-9


def plan_floods(enc: EncryptedFrame, precision: float, budget: int) -> tuple[Flood, ...]:
    """Noise that hides the error of a frame's ciphertexts, for each column.

    Parameters
    ----------
    enc : EncryptedFrame
        Of any layout.
    precision : float
        Largest error wanted on a value; larger is safer.
    budget : int
        Openings to protect.

    Raises
    ------
    CiphertextError
        The precision is not a positive number.
    """
    # A header is someone else's word: below the highest level, rounding alone gives this much.
    least = rescale_noise(enc.engine) if enc.level < enc.engine.profile.levels else FRESH_NOISE
    return tuple(
        plan_flood(
            enc.engine,
            head.scale,
            enc.value_noise(replace(head, noise=max(head.noise, least))),
            precision,
            budget,
        )
        for head in enc.heads
    )


def check_worth(enc: EncryptedFrame, floods: Sequence[Flood], precision: float) -> None:
    """Refuse to drown values that nobody asked to have drowned.

    Parameters
    ----------
    enc : EncryptedFrame
        That is to be opened.
    floods : sequence of Flood
        As planned.
    precision : float
        That was asked for.

    Raises
    ------
    CiphertextError
        Safe noise is coarser than ``precision`` and than 1/64 of a column's bound: names the column.
    """
    for head, flood in zip(enc.heads, floods, strict=True):
        limit = max(precision, _WORTH * head.bound)
        if flood.error > _ROUNDED * limit:
            raise CiphertextError(
                f"column {head.name!r} has so large an error of its own that hiding it takes noise of up to "
                f"{flood.error:.2g}, where values reach {head.bound:g} and precision={precision:g} was asked "
                f"for: at most {limit:.2g} is added unasked",
                hint="for the key owner's own eyes pass flood=False; for others encrypt with a profile of "
                f"finer scale or with smaller bounds=, or take it as it is with precision={flood.error:.2g}",
            )


def read_values(
    enc: EncryptedFrame, opened: Callable[[Any], Any], slack: Sequence[float] | None = None
) -> tuple[npt.NDArray[np.float64], tuple[float, ...]]:
    """Numbers of a frame, as exact as its plaintexts, and the noise that can be seen in them.

    Parameters
    ----------
    enc : EncryptedFrame
        Of any layout.
    opened : callable
        Turns a SEAL ciphertext of the frame into its SEAL plaintext.
    slack : sequence of float, optional
        For each column, the largest error that noise already in the plaintext may have added to a value.

    Returns
    -------
    values : ndarray of float64, shape (n, d)
    seen : tuple of float
        For each column, standard deviation of the noise on a value, as its imaginary parts show it: real
        numbers have none, so what is there is noise, whatever a header says. 0 where imaginary parts hold
        values (packing "complex") or masks (sums).

    Raises
    ------
    CiphertextError
        Values are far beyond their bounds: the frame is damaged, or not what its header says.
    """
    allowed = [0.0] * len(enc.heads) if slack is None else slack
    limits = [_limit(enc, head, more) for head, more in zip(enc.heads, allowed, strict=True)]
    values = np.empty(enc.shape)
    if enc.layout.kind == "sums":
        for j, head in enumerate(enc.heads):
            (cipher,) = enc.ciphers(head.name)
            values[0, j] = _sum_of(enc, opened(cipher), head, limits[j])
        return values, (0.0,) * len(enc.heads)
    together = enc.layout.kind == "blocks"
    seen: list[float] = []
    for j, head in enumerate(enc.heads[:1] if together else enc.heads):
        slots = [_slots(enc, opened(cipher), head, limits[j]) for cipher in enc.ciphers(head.name)]
        width = len(enc.heads) if together else 1
        values[:, j : j + width] = gather(slots, enc.layout, enc.n_rows, width, enc.packing)
        seen += [0.0 if enc.packing == "complex" else _noise_in(slots)] * width
    return values, tuple(seen)


def cover_seen(enc: EncryptedFrame, floods: Sequence[Flood], seen: Sequence[float]) -> tuple[Flood, ...]:
    """Noise for an opening whose error is known to be larger than was announced.

    A header is the word of whoever computed; what the decryption shows is not.

    Parameters
    ----------
    enc : EncryptedFrame
        That is being opened.
    floods : sequence of Flood
        As planned.
    seen : sequence of float
        From `read_values`.

    Raises
    ------
    CiphertextError
        The error is many times what was announced: the ciphertexts were made up, or computed wrongly.
    """
    covered = []
    for head, planned, noise in zip(enc.heads, floods, seen, strict=True):
        flood = cover_noise(planned, noise)
        if flood is None:
            raise CiphertextError(
                f"column {head.name!r} has an error of {noise:.2g} on a value, where its header leads to "
                f"{planned.std * 2.0**-planned.ratio_bits:.2g}",
                hint="open only what comes from computations that you know: ciphertexts that were made up "
                "to learn the key look like this. Open nothing more of whoever sent it",
            )
        covered.append(flood)
    return tuple(covered)


def _slots(enc: EncryptedFrame, plain: Any, head: ColumnHeader, limit: float) -> npt.NDArray[np.complex128]:
    with seal_words(f"decoding column {head.name!r}"):
        slots = np.array(enc.engine.encoder.decode_complex(plain), dtype=np.complex128)
    if float(np.abs(slots.real).max()) > limit or float(np.abs(slots.imag).max()) > limit:
        raise _garbage(head)
    return slots


def _noise_in(slots: list[npt.NDArray[np.complex128]]) -> float:
    # ciphertext by ciphertext: one that was made up must not hide among many that are as they should be
    parts = [np.abs(vector.imag) for vector in slots]
    return max(max(float(part.max()) / _PEAK, float(np.sqrt(np.mean(part**2)))) for part in parts)


def _sum_of(enc: EncryptedFrame, plain: Any, head: ColumnHeader, limit: float) -> float:
    engine = enc.engine
    residues = words(engine, plain)[2]
    total = engine.slots * constant_coefficient(residues, engine.primes[: enc.level + 1]) / head.scale
    if abs(total) > limit:
        raise _garbage(head)
    return float(total)


def _limit(enc: EncryptedFrame, head: ColumnHeader, slack: float) -> float:
    spread = enc.value_noise(head) * math.sqrt(enc.engine.slots) / head.scale
    return _GARBAGE_FACTOR * (head.bound + slack) + _GARBAGE_NOISE * spread


def _garbage(head: ColumnHeader) -> CiphertextError:
    return CiphertextError(
        f"column {head.name!r} opens to values far beyond its bound of {head.bound:g}",
        hint="look at what was encrypted: rows unlike those that a network was calibrated on, or values "
        "beyond their bounds, overflow inside. Otherwise get the frame again: it is damaged, or under "
        "another key than its header says",
    )
