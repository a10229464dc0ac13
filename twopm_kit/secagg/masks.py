"""Masks in F_r: one continuous AES-128-CTR keystream per key for the whole vector of a round."""

from collections.abc import Sequence
from typing import Literal

import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher, CipherContext, algorithms, modes
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from twopm_kit.errors import ProtocolError
from twopm_kit.secagg.field import LIMBS, MAX_TERMS, WIDE_LIMBS, Limbs, reduce_wide
from twopm_kit.secagg.secrecy import KeptSecret

__all__ = ["MaskKey", "add_masks", "derive", "expand", "pair_key", "self_key"]

ELEMENT_BYTES = 4 * WIDE_LIMBS  # 48 keystream bytes an element, as RFC 9380 section 5 draws field elements
_KEY_BYTES = 16
_CHUNK = 2048  # elements at a time: 96 KiB of keystream and 192 KiB of sums stay in the second-level cache
_ZEROS = bytes(_CHUNK * ELEMENT_BYTES)
_LABEL = b"twopm/secagg/v1/"


def derive(secret: bytes, binding: bytes, purpose: Literal["self", "pair", "box"], info: bytes) -> bytes:
    """Derive 32 bytes with HKDF-SHA256 (RFC 5869).

    Parameters
    ----------
    secret : bytes
        Input key material: a seed or an X25519 shared secret.
    binding : bytes
        `RoundContext.binding`, the salt: another round, task, contract or chain gives another key.
    purpose : {"self", "pair", "box"}
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

    def _stream(self) -> CipherContext:
        key, counter = self._material[:_KEY_BYTES], self._material[_KEY_BYTES:]
        return Cipher(algorithms.AES(key), modes.CTR(counter)).encryptor()


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
    each chunk is reduced once however many masks it gathers.
    """
    if len(plus) + len(minus) >= MAX_TERMS:
        raise ProtocolError(
            f"{len(plus) + len(minus)} masks in one sum, expected fewer than {MAX_TERMS}",
            hint="Add up smaller groups and combine them with secagg.total.",
        )
    streams: list[tuple[CipherContext, np.ufunc]] = [(key._stream(), np.add) for key in plus]
    streams += [(key._stream(), np.subtract) for key in minus]
    out = np.empty((elements, LIMBS), np.uint32)
    keystream = bytearray(_CHUNK * ELEMENT_BYTES + _KEY_BYTES)
    words = np.frombuffer(keystream, np.uint32)
    drawn = np.empty(_CHUNK * WIDE_LIMBS, np.int64)
    sums = np.empty((_CHUNK, WIDE_LIMBS), np.int64)
    for start in range(0, elements, _CHUNK):
        rows = min(_CHUNK, elements - start)
        wide = sums[:rows]
        wide[:] = 0
        if base is not None:
            wide[:, :LIMBS] = base[start : start + rows]
        flat, draw = wide.reshape(-1), drawn[: rows * WIDE_LIMBS]
        size = rows * ELEMENT_BYTES
        for stream, operation in streams:
            stream.update_into(memoryview(_ZEROS)[:size], keystream)
            np.copyto(draw, words[: draw.size])
            operation(flat, draw, out=flat)
        out[start : start + rows] = reduce_wide(wide)
    return out


def expand(key: MaskKey, elements: int) -> Limbs:
    """Return PRG(key) as m field elements, shape (m, 8)."""
    return add_masks(elements, plus=[key])
