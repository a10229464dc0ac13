"""Masks in F_r: one continuous AES-128-CTR keystream per key for the whole vector of a round."""

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Literal, TypeAlias

import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher, CipherContext, algorithms, modes
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from twopm_kit.errors import ProtocolError
from twopm_kit.secagg.field import LIMBS, MAX_TERMS, WIDE_LIMBS, Limbs, Reducer
from twopm_kit.secrecy import KeptSecret

__all__ = ["MaskKey", "add_masks", "derive", "expand", "pair_key", "self_key"]

ELEMENT_BYTES = 4 * WIDE_LIMBS  # 48 keystream bytes an element, as RFC 9380 section 5 draws field elements
_KEY_BYTES = 16
_BLOCKS = ELEMENT_BYTES // 16
_CHUNK = 4096  # elements at a time: 192 KiB of keystream and 384 KiB of sums stay in the second-level cache
_THREADS = min(4, os.cpu_count() or 1)
_ZEROS = bytes(_CHUNK * ELEMENT_BYTES)
_LABEL = b"twopm/secagg/v1/"
Purpose: TypeAlias = Literal["self", "pair", "box", "opening", "state"]


def derive(secret: bytes, binding: bytes, purpose: Purpose, info: bytes) -> bytes:
    """Derive 32 bytes with HKDF-SHA256 (RFC 5869).

    Parameters
    ----------
    secret : bytes
        Input key material: a seed or an X25519 shared secret.
    binding : bytes
        `RoundContext.binding`, the salt: another round, task, contract or chain gives another key.
    purpose : {"self", "pair", "box", "opening", "state"}
        What the key is for; no key serves two purposes.
    info : bytes
        Fixed-width names of the parties and keys that take part.
    """
    return HKDF(algorithm=SHA256(), length=32, salt=binding, info=_LABEL + purpose.encode() + info).derive(
        secret
    )


class MaskKey(KeptSecret):
    """Key (16 bytes) and first counter block (16 bytes) of one keystream.

    Every key is derived for one round and one purpose and masks one vector. The first counter block is
    derived too, so that a search over many keys at once gains nothing.
    """

    __slots__ = ("_material",)

    def __init__(self, material: bytes) -> None:
        if len(material) != 2 * _KEY_BYTES:
            raise ProtocolError(
                f"a mask key has {2 * _KEY_BYTES} bytes, got {len(material)}",
                hint="Derive it with self_key or pair_key.",
            )
        self._material = material

    def _stream(self, element: int) -> CipherContext:
        """Return the keystream from an element on: every element takes three counter blocks."""
        key, first = self._material[:_KEY_BYTES], int.from_bytes(self._material[_KEY_BYTES:], "big")
        counter = (first + element * _BLOCKS) % (1 << 128)
        return Cipher(algorithms.AES(key), modes.CTR(counter.to_bytes(_KEY_BYTES, "big"))).encryptor()


def self_key(seed: bytes, binding: bytes, owner: bytes) -> MaskKey:
    """Key of a node's self-mask PRG(b)."""
    return MaskKey(derive(seed, binding, "self", owner))


def pair_key(shared: bytes, binding: bytes, parties: dict[bytes, bytes]) -> MaskKey:
    """Key of the mask that two nodes have in common.

    Parameters
    ----------
    shared : bytes
        Their X25519 shared secret.
    binding : bytes
    parties : dict
        Address → mask public key of both; order does not matter.
    """
    info = b"".join(address + parties[address] for address in sorted(parties))
    return MaskKey(derive(shared, binding, "pair", info))


def add_masks(
    elements: int, *, plus: Sequence[MaskKey] = (), minus: Sequence[MaskKey] = (), base: Limbs | None = None
) -> Limbs:
    """Return base + Σ PRG(plus) − Σ PRG(minus) in F_r.

    Parameters
    ----------
    elements : int
        Length m of the vector.
    plus, minus : sequence of MaskKey
    base : uint32 array, shape (m, 8), optional
        What the masks are added to; zero if left out.

    Returns
    -------
    uint32 array, shape (m, 8)

    Notes
    -----
    Element i of PRG(key) is keystream bytes 48 i … 48 i + 47, read as a little-endian integer, mod r. The
    stream never restarts. Vector chunks are the outer loop and keys the inner one, so sums stay in cache;
    each chunk is reduced once however many masks it gathers. Long vectors are divided among threads, each of
    which enters the streams where its part begins.
    """
    if len(plus) + len(minus) >= MAX_TERMS:
        raise ProtocolError(
            f"{len(plus) + len(minus)} masks in one sum, expected fewer than {MAX_TERMS}",
            hint="Add up smaller groups and combine them with secagg.total.",
        )
    out = np.empty((elements, LIMBS), np.uint32)
    part = partial(_add_part, out, plus, minus, base)
    chunks = -(-elements // _CHUNK)
    workers = min(_THREADS, chunks // 2)
    if workers > 1:
        bounds = [chunks * i // workers * _CHUNK for i in range(workers)] + [elements]
        with ThreadPoolExecutor(workers) as pool:
            list(pool.map(part, bounds[:-1], bounds[1:]))
    else:
        part(0, elements)
    return out


def _add_part(
    out: Limbs, plus: Sequence[MaskKey], minus: Sequence[MaskKey], base: Limbs | None, first: int, stop: int
) -> None:
    """Fill elements `first` to `stop` of `out`."""
    streams: list[tuple[CipherContext, np.ufunc]] = [(key._stream(first), np.add) for key in plus]
    streams += [(key._stream(first), np.subtract) for key in minus]
    most = min(_CHUNK, stop - first)
    zeros, keystream = memoryview(_ZEROS), bytearray(most * ELEMENT_BYTES + _KEY_BYTES)
    words = np.frombuffer(keystream, np.uint32)
    sums, reducer = np.empty(most * WIDE_LIMBS, np.int64), Reducer(most)
    for start in range(first, stop, _CHUNK):
        rows = min(_CHUNK, stop - start)
        flat, drawn = sums[: rows * WIDE_LIMBS], words[: rows * WIDE_LIMBS]
        wide = flat.reshape(rows, WIDE_LIMBS)
        flat[:] = 0
        if base is not None:
            wide[:, :LIMBS] = base[start : start + rows]
        for stream, operation in streams:
            stream.update_into(zeros[: rows * ELEMENT_BYTES], keystream)
            operation(flat, drawn, out=flat)
        reducer(wide, out[start : start + rows])


def expand(key: MaskKey, elements: int) -> Limbs:
    """Return PRG(key) as m field elements, shape (m, 8)."""
    return add_masks(elements, plus=[key])
