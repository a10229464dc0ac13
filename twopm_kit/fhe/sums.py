"""Sums over all slots without a rotation: the constant coefficient, with everything else masked.

In CKKS the mean of all slots is the constant coefficient of the plaintext polynomial. The server adds a
polynomial whose coefficients are uniform modulo q except for a constant coefficient of zero: whoever opens
the ciphertext learns the sum and nothing else about the slots. It takes no rotation key and no level. A
server that wants to cheat can mask wrongly; it is taken to follow the protocol and to be curious.
"""

from collections.abc import Iterable
from math import prod
from typing import Any

import numpy as np
import numpy.typing as npt

from twopm_kit.fhe.container import ColumnHeader
from twopm_kit.fhe.engine import Engine
from twopm_kit.fhe.frames import EncryptedFrame, sums_frame
from twopm_kit.fhe.raw import plaintext_of, uniform_words

__all__ = ["constant_coefficient", "slot_sums"]


def slot_sums(
    like: EncryptedFrame, parts: Iterable[tuple[ColumnHeader, Any]], *, level: int
) -> EncryptedFrame:
    """Put ciphertexts whose slot sums may be known into a frame of one row, with all else masked.

    Parameters
    ----------
    like : EncryptedFrame
        Whose key and engine they are under.
    parts : iterable of (ColumnHeader, ciphertext)
        Name, bound of the *sum*, scale and noise of the ciphertext; size 2 or 3.
    level : int
        Of all of them.

    Returns
    -------
    EncryptedFrame
        Layout "sums", one row.

    Raises
    ------
    CiphertextError
        A sum may be too large for the primes of the level.
    """
    engine = like.engine
    masked = [(head, engine.add_plain(cipher, _mask(engine, level, head.scale))) for head, cipher in parts]
    return sums_frame(like, masked, level)


def constant_coefficient(residues: npt.NDArray[np.uint64], primes: tuple[int, ...]) -> int:
    """Constant coefficient of a polynomial in NTT form, between -q/2 and q/2.

    Parameters
    ----------
    residues : ndarray of uint64, shape (k, N)
        Its words.
    primes : tuple of int
        The k primes.
    """
    whole, found = prod(primes), 0
    for row, q in zip(residues, primes, strict=True):
        rest = whole // q
        found += _mean(row, q) * rest * pow(rest, -1, q)
    found %= whole
    return found - whole if found > whole // 2 else found


def _mask(engine: Engine, level: int, scale: float) -> Any:
    """Uniform polynomial with a zero constant coefficient, as a plaintext in NTT form."""
    primes = engine.primes[: level + 1]
    mask = uniform_words(primes, engine.profile.degree)
    for row, q in zip(mask, primes, strict=True):
        # the constant coefficient is the mean of the NTT values; subtracting it from each leaves zero
        row += np.uint64(q - _mean(row, q))
        np.mod(row, np.uint64(q), out=row)
    return plaintext_of(engine, level, scale, mask)


def _mean(row: npt.NDArray[np.uint64], q: int) -> int:
    # halves keep the sums of up to 2^32 words below 2^64
    low = int((row & np.uint64(0xFFFFFFFF)).sum(dtype=np.uint64))
    high = int((row >> np.uint64(32)).sum(dtype=np.uint64))
    return (low + (high << 32)) * pow(row.size, -1, q) % q
