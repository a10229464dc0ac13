"""The numbers inside SEAL objects, as arrays, and exact arithmetic on them modulo primes of up to 60 bits.

SEAL keeps polynomials as residues modulo each prime, in NTT form: entry (r, i) of an array of shape (k, N) is
the i-th value of the polynomial modulo prime r. Sums and products of polynomials are then entry by entry.
Reading and writing goes through SEAL's own format in memory, which costs about 0.2 ms for 64 KB.
"""

import os
import struct
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import tenseal.sealapi as seal
import zstandard
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from twopm_kit.errors import CiphertextError
from twopm_kit.fhe.engine import Engine, guard_fork, seal_words
from twopm_kit.fhe.seal_io import dump, load_into

__all__ = [
    "Words",
    "add_mod",
    "cipher_of",
    "cipher_words",
    "multiply_mod",
    "plaintext_of",
    "scale_mod",
    "secret_of",
    "secret_words",
    "subtract_mod",
    "uniform_words",
    "words",
]

Words = npt.NDArray[np.uint64]

#: Primes and residues have to stay below this.
MAX_PRIME: Final = 1 << 61

# SEAL's header: magic, its own size, version (2 bytes), packing, reserved, size of all.
_HEADER: Final = struct.Struct("<HBBBBHQ")
_MAGIC: Final = 0xA15E
_PLAIN: Final = 0
_ZSTD: Final = 2
# A plaintext or secret key: parameters, number of words, scale; then an array: header, count, words.
_PLAIN_FRONT: Final = struct.Struct("<32sQd")
# A ciphertext: parameters, NTT form, size, degree, primes, scale, BGV's correction factor; then an array.
_CIPHER_FRONT: Final = struct.Struct("<32s?QQQdQ")
_COUNT: Final = struct.Struct("<Q")

_HALF: Final = 30
_LOW: Final = np.uint64((1 << _HALF) - 1)


# SEAL objects -------------------------------------------------------------------------------------------


def words(engine: Engine, plain: Any) -> tuple[bytes, float, Words]:
    """Residues of a plaintext.

    Parameters
    ----------
    engine : Engine
        Whose plaintext it is.
    plain : seal.Plaintext
        In NTT form, as every CKKS plaintext.

    Returns
    -------
    parms_id : bytes, 32 of them
        SEAL's name of the level.
    scale : float
    words : ndarray of uint64, shape (k, N)
        A copy.
    """
    with seal_words("reading a plaintext"):
        payload = _payload(_dumped(plain))
    parms_id, count, scale = _PLAIN_FRONT.unpack_from(payload)
    return parms_id, scale, _array(payload, _PLAIN_FRONT.size, count).reshape(-1, engine.profile.degree)


def plaintext_of(engine: Engine, level: int, scale: float, words: Words) -> Any:
    """Plaintext with given residues.

    Parameters
    ----------
    engine : Engine
        Parameters.
    level : int
        With ``level + 1`` primes.
    scale : float
        Of the plaintext.
    words : ndarray of uint64, shape (level + 1, N)
        Each row below its prime: SEAL checks it.

    Raises
    ------
    CiphertextError
        Another shape, or residues that are too large.
    """
    _shaped(words, (level + 1, engine.profile.degree))
    return _filled(engine, seal.Plaintext(), _id_bytes(engine.parms_id(level)), scale, words)


def cipher_words(engine: Engine, cipher: Any) -> Words:
    """Residues of a ciphertext; of a seeded one too, once SEAL has loaded it.

    Returns
    -------
    ndarray of uint64, shape (size, k, N)
        A copy. ``c[0] + c[1]·s (+ c[2]·s²)`` is the message.
    """
    with seal_words("reading a ciphertext"):
        payload = _payload(_dumped(cipher))
    _, _, size, degree, primes, _, _ = _CIPHER_FRONT.unpack_from(payload)
    if degree != engine.profile.degree:
        raise CiphertextError(
            f"the ciphertext has degree {degree}; profile {engine.profile.name!r} has another",
            hint="use the profile that it was made with",
        )
    return _array(payload, _CIPHER_FRONT.size, size * primes * degree).reshape(size, primes, degree)


def cipher_of(engine: Engine, level: int, scale: float, words: Words) -> Any:
    """Ciphertext with given residues: the inverse of `cipher_words`.

    Parameters
    ----------
    engine : Engine
        Parameters.
    level : int
        With ``level + 1`` primes.
    scale : float
        Of the ciphertext.
    words : ndarray of uint64, shape (2, level + 1, N)
        Each row below its prime: SEAL checks it.

    Raises
    ------
    CiphertextError
        Another shape, or residues that are too large.
    """
    degree = engine.profile.degree
    _shaped(words, (2, level + 1, degree))
    guard_fork()
    cipher = seal.Ciphertext()
    front = _CIPHER_FRONT.pack(_id_bytes(engine.parms_id(level)), True, 2, degree, level + 1, scale, 1)
    array = _wrapped(_COUNT.pack(words.size) + words.astype("<u8").tobytes())
    with seal_words("making a ciphertext of residues"):
        load_into(cipher, engine.context, _wrapped(front + array))
    return cipher


def secret_words(engine: Engine, secret: Any) -> Words:
    """Residues of a secret key, **as secret as the key itself**.

    Returns
    -------
    ndarray of uint64, shape (k, N)
        With the key-switching prime in the last row, where the profile has one.
    """
    return words(engine, secret)[2]


def secret_of(engine: Engine, words: Words) -> Any:
    """Secret key with given residues: the inverse of `secret_words`.

    Raises
    ------
    CiphertextError
        Another shape, or residues that are too large.
    """
    rows = len(engine.primes) + (len(engine.profile.bits) > 1)
    _shaped(words, (rows, engine.profile.degree))
    return _filled(engine, seal.SecretKey(), _id_bytes(engine.context.key_parms_id()), 1.0, words)


def _dumped(seal_object: Any) -> bytes:
    guard_fork()
    return dump(seal_object)


def _payload(content: bytes) -> bytes:
    """Inside of what this process has just written, unpacked."""
    magic, head, _, _, packing, _, size = _HEADER.unpack_from(content)
    if (magic, head, size) != (_MAGIC, _HEADER.size, len(content)) or packing not in (_PLAIN, _ZSTD):
        raise CiphertextError(
            "SEAL wrote an object in a format that is not known here", hint="install the pinned tenseal"
        )
    inside = content[_HEADER.size :]
    return zstandard.ZstdDecompressor().decompressobj().decompress(inside) if packing == _ZSTD else inside


def _array(payload: bytes, start: int, count: int) -> Words:
    at = start + _HEADER.size
    (found,) = _COUNT.unpack_from(payload, at)
    if found != count or len(payload) != at + _COUNT.size + 8 * count:
        raise CiphertextError(
            f"a SEAL object holds {found} words where {count} were expected",
            hint="load a seeded ciphertext first, so that SEAL expands it",
        )
    return np.frombuffer(payload, "<u8", count, at + _COUNT.size).astype(np.uint64)  # astype copies


def _filled(engine: Engine, empty: Any, parms_id: bytes, scale: float, words: Words) -> Any:
    guard_fork()
    array = _wrapped(_COUNT.pack(words.size) + words.astype("<u8").tobytes())
    with seal_words("making a SEAL object of residues"):
        load_into(empty, engine.context, _wrapped(_PLAIN_FRONT.pack(parms_id, words.size, scale) + array))
    return empty


def _wrapped(inside: bytes) -> bytes:
    major, minor = _version()
    return _HEADER.pack(_MAGIC, _HEADER.size, major, minor, _PLAIN, 0, _HEADER.size + len(inside)) + inside


def _version() -> tuple[int, int]:
    """SEAL's version as it writes it, and wants to read it."""
    _, _, major, minor, _, _, _ = _HEADER.unpack_from(_EMPTY)
    return int(major), int(minor)


_EMPTY: Final = dump(seal.Plaintext())


def _id_bytes(parms_id: Any) -> bytes:
    return struct.pack("<4Q", *parms_id)


def _shaped(words: Words, shape: tuple[int, ...]) -> None:
    if words.shape != shape or words.dtype != np.uint64:
        raise CiphertextError(
            f"residues of shape {words.shape} and type {words.dtype} were passed; expected {shape}, uint64",
            hint="pass one row for each prime",
        )


# Arithmetic modulo a prime ------------------------------------------------------------------------------


def add_mod(left: Words, right: Words, prime: int) -> Words:
    """Sum of residues modulo a prime below 2^61."""
    total: Words = left + right
    # where a difference would be negative, it wraps to something huge
    return np.asarray(np.minimum(total, total - np.uint64(prime)))


def subtract_mod(left: Words, right: Words, prime: int) -> Words:
    """Difference of residues modulo a prime below 2^61."""
    rest: Words = left - right
    return np.asarray(np.minimum(rest, rest + np.uint64(prime)))


def scale_mod(residues: Words, factor: int | Words, prime: int) -> Words:
    """Product of residues with factors from 0 to 2^31 - 1, modulo a prime below 2^61.

    The quotient is below 2^31, so doubles give it up to one; the remainder then needs only the low 64 bits.
    """
    small = np.asarray(factor, dtype=np.uint64)
    # signed views: residues are below 2^61, and signed numbers convert fast
    guess = residues.view(np.int64).astype(np.float64)
    guess *= small.astype(np.float64)
    guess *= 1.0 / prime
    quotient = guess.astype(np.int64).view(np.uint64)
    rest: Words = residues * small - quotient * np.uint64(prime)  # between -prime and 2·prime, modulo 2^64
    rest = np.minimum(rest, rest + np.uint64(prime))
    return np.asarray(np.minimum(rest, rest - np.uint64(prime)))


def multiply_mod(left: Words, right: int | Words, prime: int) -> Words:
    """Product of residues modulo a prime below 2^61, entry by entry, exact.

    Parameters
    ----------
    left : ndarray of uint64
        Residues below the prime.
    right : int, or ndarray of uint64 that broadcasts with ``left``
        Residues below the prime.
    prime : int
        The modulus.

    Returns
    -------
    ndarray of uint64
    """
    other = np.asarray(right, dtype=np.uint64)
    high = scale_mod(left, other >> np.uint64(_HALF), prime)
    return add_mod(scale_mod(high, 1 << _HALF, prime), scale_mod(left, other & _LOW, prime), prime)


def uniform_words(primes: tuple[int, ...], degree: int, key: bytes | None = None) -> Words:
    """Residues that look uniform to whoever lacks the key: AES-256-CTR, by rejection, so without bias.

    Parameters
    ----------
    primes : tuple of int
        One row for each.
    degree : int
        Residues a row.
    key : bytes, optional
        32 of them, derived from ``os.urandom`` and for this one use; without it, a fresh one.

    Returns
    -------
    ndarray of uint64, shape (len(primes), degree)
        The same for the same key.
    """
    stream = Cipher(algorithms.AES(os.urandom(32) if key is None else key), modes.CTR(bytes(16))).encryptor()
    rows = np.empty((len(primes), degree), np.uint64)
    for row, prime in zip(rows, primes, strict=True):
        mask, filled = np.uint64((1 << prime.bit_length()) - 1), 0
        while filled < degree:
            drawn = np.frombuffer(stream.update(bytes(8 * (degree - filled))), "<u8") & mask
            kept = drawn[drawn < prime]
            row[filled : filled + kept.size] = kept
            filled += kept.size
    return rows
