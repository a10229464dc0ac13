"""Bytes between client and predictor: a strict envelope, a table of numbers, and what the hashes bind.

Layout, little-endian, every byte accounted for::

    request  magic 8 | version u16 | kind u8 | 0 | nonce 32        | body
    answer   magic 8 | version u16 | kind u8 | 0 | request hash 32 | body
    body     kind 1, clear: a table. Kind 2, encrypted: an EncryptedFrame's container
    table    rows u32 | columns u32 | for each column: length u16, UTF-8 name | float64, row by row

The nonce keeps a request hash, which everybody sees on chain, from telling anything about a clear input that
somebody could guess.
"""

import os
import struct
from collections.abc import Sequence
from enum import IntEnum
from typing import Final

import numpy as np
from eth_hash.auto import keccak
from numpy.typing import NDArray

from twopm_kit.errors import InferenceError

__all__ = [
    "MAX_PAYLOAD",
    "Kind",
    "answer_hash",
    "pack_answer",
    "pack_request",
    "pack_table",
    "request_hash",
    "unpack_answer",
    "unpack_request",
    "unpack_table",
]

#: Largest request or answer in bytes, unless the service says otherwise.
MAX_PAYLOAD: Final = 256 << 20
_REQUEST: Final = b"2PM.req\n"
_ANSWER: Final = b"2PM.ans\n"
_VERSION: Final = 1
_PREFIX: Final = struct.Struct("<8sHBB32s")
_TABLE: Final = struct.Struct("<II")
_NAME: Final = struct.Struct("<H")
_MAX_COLUMNS: Final = 20_000
_MAX_NAME_BYTES: Final = 800
_AGAIN: Final = "send exactly the bytes that the kit packed"


class Kind(IntEnum):
    """How the numbers of a request and its answer travel."""

    CLEAR = 1
    ENCRYPTED = 2

    def __str__(self) -> str:
        return self.name.lower()


def pack_request(kind: Kind, body: bytes) -> bytes:
    """Return the payload of a request, with a fresh nonce."""
    return _PREFIX.pack(_REQUEST, _VERSION, kind, 0, os.urandom(32)) + body


def unpack_request(payload: bytes) -> tuple[Kind, bytes]:
    """Return kind and body of a request's payload from anybody.

    Raises
    ------
    InferenceError
        Cut short, of another format, version or kind.
    """
    kind, _, body = _unpack(payload, _REQUEST, "request")
    return kind, body


def pack_answer(kind: Kind, asked: bytes, body: bytes) -> bytes:
    """Return the bytes of an answer to the request with the hash ``asked``."""
    return _PREFIX.pack(_ANSWER, _VERSION, kind, 0, asked) + body


def unpack_answer(content: bytes) -> tuple[Kind, bytes, bytes]:
    """Return kind, request hash and body of an answer from anybody; raises as `unpack_request`."""
    return _unpack(content, _ANSWER, "answer")


def _unpack(content: bytes, mark: bytes, what: str) -> tuple[Kind, bytes, bytes]:
    if len(content) < _PREFIX.size:
        raise InferenceError(
            f"a {what} has {len(content)} bytes, at least {_PREFIX.size} are expected", hint=_AGAIN
        )
    magic, version, kind, zero, token = _PREFIX.unpack_from(content)
    if magic != mark or zero != 0:
        raise InferenceError(f"these {len(content)} bytes are not a {what}", hint=_AGAIN)
    if version != _VERSION:
        raise InferenceError(
            f"the {what} has format version {version}, this kit reads {_VERSION}",
            hint="use the same version of the kit on both sides",
        )
    if kind not in tuple(Kind):
        raise InferenceError(
            f"the {what} is of kind {kind}; expected one of {', '.join(map(str, Kind))}", hint=_AGAIN
        )
    return Kind(kind), token, content[_PREFIX.size :]


def pack_table(columns: Sequence[str], values: NDArray[np.float64]) -> bytes:
    """Return the bytes of a table of shape (n, d)."""
    names = b"".join(_NAME.pack(len(name)) + name for name in (column.encode() for column in columns))
    return _TABLE.pack(*values.shape) + names + np.ascontiguousarray(values, dtype="<f8").tobytes()


def unpack_table(content: bytes) -> tuple[list[str], NDArray[np.float64]]:
    """Return column names and values of a table from anybody.

    Raises
    ------
    InferenceError
        A length does not fit, a name is repeated or not text, or a number is not finite.
    """
    if len(content) < _TABLE.size:
        raise _bad_table("it is cut short")
    rows, width = _TABLE.unpack_from(content)
    if rows == 0 or not 0 < width <= _MAX_COLUMNS:
        raise _bad_table(f"it announces {rows} rows and {width} columns")
    names, at = [], _TABLE.size
    for _ in range(width):
        if at + _NAME.size > len(content):
            raise _bad_table("it is cut short")
        (size,) = _NAME.unpack_from(content, at)
        at += _NAME.size
        names.append(_text(content[at : at + size], size))
        at += size
    if len(set(names)) != width:
        raise _bad_table("a column name is repeated")
    if len(content) - at != 8 * rows * width:
        raise _bad_table(f"{len(content) - at} bytes follow the names, {8 * rows * width} are expected")
    values = np.frombuffer(content, dtype="<f8", offset=at).reshape(rows, width).astype(np.float64)
    if not np.isfinite(values).all():
        raise _bad_table("a number is not finite")
    return names, values


def _text(raw: bytes, size: int) -> str:
    if len(raw) != size or not 0 < size <= _MAX_NAME_BYTES:
        raise _bad_table("a column name has a wrong length")
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError:
        raise _bad_table("a column name is not UTF-8") from None


def _bad_table(why: str) -> InferenceError:
    return InferenceError(f"the table cannot be read: {why}", hint=_AGAIN)


def request_hash(chain_id: int, desk: str, model_id: int, client: str, payload: bytes) -> bytes:
    """Return what a client pays for: keccak256 of the input and of everything that it must not leave.

    Parameters
    ----------
    chain_id : int
        Chain (EIP-155).
    desk, client : str
        Addresses of the contract and of the account that pays.
    model_id : int
        The model on that desk.
    payload : bytes
        Every byte that the predictor will receive.
    """
    place = chain_id.to_bytes(32, "big") + _address(desk) + model_id.to_bytes(32, "big") + _address(client)
    return bytes(keccak(b"2PM prediction request 1\x00" + place + keccak(payload)))


def answer_hash(chain_id: int, desk: str, request_id: int, content: bytes) -> bytes:
    """Return what the chain keeps of an answer: keccak256 of its bytes, bound to its request."""
    place = chain_id.to_bytes(32, "big") + _address(desk) + request_id.to_bytes(32, "big")
    return bytes(keccak(b"2PM prediction answer 1\x00" + place + keccak(content)))


def _address(text: str) -> bytes:
    return bytes.fromhex(text.removeprefix("0x"))
