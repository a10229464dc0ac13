"""What a member keeps on disk of a round, encrypted: AES-256-GCM under a key derived for round and member."""

import json
import os
from typing import Any, Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from twopm_kit.errors import ProtocolError, TamperedMessage
from twopm_kit.secagg.context import RoundContext, party_id, party_name
from twopm_kit.secagg.masks import derive

__all__ = ["STATE_KEY_BYTES", "open_state", "seal_state"]

STATE_KEY_BYTES = 32
_HEADER: Final = b"2PM\x01N"
_NONCE_BYTES = 12
_LENGTH_BYTES = 2


def seal_state(key: bytes, context: RoundContext, address: bytes, fields: dict[str, Any]) -> bytes:
    """Encrypt JSON values of one member's side of one round.

    Parameters
    ----------
    key : bytes
        32 secret bytes.
    context : RoundContext
    address : bytes
    fields : dict
        JSON values.

    Returns
    -------
    bytes
        Header ‖ length ‖ round and member in clear ‖ nonce ‖ ciphertext ‖ tag; all of it is authenticated.
    """
    _check_key(key)
    named = {
        "chain_id": context.chain_id,
        "contract": context.contract,
        "task_id": context.task_id,
        "round": context.round,
        "address": party_name(address),
    }
    clear = json.dumps(named, sort_keys=True, separators=(",", ":")).encode()
    head = _HEADER + len(clear).to_bytes(_LENGTH_BYTES, "big") + clear
    nonce = os.urandom(_NONCE_BYTES)
    text = json.dumps(fields, separators=(",", ":")).encode()
    return head + nonce + _cipher(key, context, address).encrypt(nonce, text, head)


def open_state(key: bytes, data: bytes) -> tuple[RoundContext, bytes, dict[str, Any]]:
    """Decrypt what `seal_state` made; returns round, member and fields.

    Raises
    ------
    TamperedMessage
        If it is no such state, was altered or cut, or the key is another one.
    ProtocolError
        If the key has another size.
    """
    _check_key(key)
    start = len(_HEADER) + _LENGTH_BYTES
    if not isinstance(data, bytes) or not data.startswith(_HEADER):
        raise _refuse("expected bytes that NodeSession.sealed_state returned")
    end = start + int.from_bytes(data[len(_HEADER) : start], "big")
    head, nonce, sealed = data[:end], data[end : end + _NONCE_BYTES], data[end + _NONCE_BYTES :]
    try:
        named = json.loads(data[start:end])
        address = party_id(named.pop("address"))
        context = RoundContext(**named)
        text = _cipher(key, context, address).decrypt(nonce, sealed, head)
    except InvalidTag as cause:
        raise _refuse("it was altered, or sealed under another key") from cause
    except (ValueError, TypeError, AttributeError, LookupError, ProtocolError) as cause:
        raise _refuse("it is cut or damaged") from cause
    fields: dict[str, Any] = json.loads(text)
    return context, address, fields


def _cipher(key: bytes, context: RoundContext, address: bytes) -> AESGCM:
    return AESGCM(derive(key, context.binding, "state", address))


def _check_key(key: object) -> None:
    if not isinstance(key, bytes) or len(key) != STATE_KEY_BYTES:
        got = f"{len(key)} bytes" if isinstance(key, bytes) else type(key).__name__
        raise ProtocolError(
            f"a key for sealed state has {STATE_KEY_BYTES} bytes, got {got}",
            hint="Make one with os.urandom(32), and keep it apart from the state.",
        )


def _refuse(why: str) -> TamperedMessage:
    return TamperedMessage(
        f"the sealed state of a member does not open: {why}",
        hint="Pass the key that it was sealed under; without it this node is a drop-out of the round.",
    )
