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
from twopm_kit.fhe.flooding import Flood, plan_flood
from twopm_kit.fhe.frames import EncryptedFrame, rescale_noise
from twopm_kit.fhe.layouts import gather
from twopm_kit.fhe.raw import words
from twopm_kit.fhe.sums import constant_coefficient

__all__ = ["plan_floods", "read_values"]

# A value this far beyond its column's bound cannot be the result of honest arithmetic under the right key.
_GARBAGE_FACTOR: Final = 1.5
_GARBAGE_NOISE: Final = 64.0


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


def read_values(
    enc: EncryptedFrame, opened: Callable[[Any], Any], slack: Sequence[float] | None = None
) -> npt.NDArray[np.float64]:
    """Numbers of a frame, as exact as its plaintexts.

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
    ndarray of float64, shape (n, d)

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
        return values
    together = enc.layout.kind == "blocks"
    for j, head in enumerate(enc.heads[:1] if together else enc.heads):
        slots = [_slots(enc, opened(cipher), head, limits[j]) for cipher in enc.ciphers(head.name)]
        width = len(enc.heads) if together else 1
        values[:, j : j + width] = gather(slots, enc.layout, enc.n_rows, width, enc.packing)
    return values


def _slots(enc: EncryptedFrame, plain: Any, head: ColumnHeader, limit: float) -> npt.NDArray[np.complex128]:
    with seal_words(f"decoding column {head.name!r}"):
        slots = np.array(enc.engine.encoder.decode_complex(plain), dtype=np.complex128)
    if float(np.abs(slots.real).max()) > limit or float(np.abs(slots.imag).max()) > limit:
        raise _garbage(head)
    return slots


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
        hint="get the frame again: it is damaged, or under another key than its header says",
    )
