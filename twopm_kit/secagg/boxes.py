"""Sealed boxes between two parties: X25519, HKDF-SHA256, AES-256-GCM, bound to round, sender and receiver."""

import os
from typing import Literal, TypeAlias

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from twopm_kit.errors import ProtocolError, TamperedMessage
from twopm_kit.secagg.context import RoundContext, party_name
from twopm_kit.secagg.masks import derive
from twopm_kit.secrecy import KeptSecret

__all__ = ["BOX_OVERHEAD", "PUBLIC_BYTES", "BoxKey", "check_public_key", "open_box", "seal"]

PUBLIC_BYTES = 32
_NONCE_BYTES = 12
_TAG_BYTES = 16
BOX_OVERHEAD = _NONCE_BYTES + _TAG_BYTES
_CURVE_PRIME = 2**255 - 19
Content: TypeAlias = Literal["box", "opening"]


class BoxKey(KeptSecret):
    """An X25519 key pair (RFC 7748); the private half never leaves this object.

    Parameters
    ----------
    secret : bytes
        32 secret bytes, as ``os.urandom(32)`` gives them. `generate` does it for you.
    """

    __slots__ = ("_private", "public")

    def __init__(self, secret: bytes) -> None:
        if len(secret) != PUBLIC_BYTES:
            raise ProtocolError(
                f"an X25519 secret has {PUBLIC_BYTES} bytes, got {len(secret)}",
                hint="Pass os.urandom(32), or use BoxKey.generate().",
            )
        self._private = X25519PrivateKey.from_private_bytes(secret)
        self.public: bytes = self._private.public_key().public_bytes_raw()

    @classmethod
    def generate(cls) -> "BoxKey":
        """Make a key pair from the operating system's randomness."""
        return cls(os.urandom(PUBLIC_BYTES))

    def __repr__(self) -> str:
        return f"BoxKey(public={self.public.hex()[:16]}…)"

    def exchange(self, public: bytes) -> bytes:
        """Return the 32-byte shared secret with another party's public key.

        Raises
        ------
        TamperedMessage
            If the key is malformed or a point of small order (the secret would be known to everybody).
        """
        if len(public) != PUBLIC_BYTES or int.from_bytes(public, "little") >= _CURVE_PRIME:
            raise TamperedMessage(
                f"an X25519 public key has {PUBLIC_BYTES} bytes in canonical form, got {public.hex()!r}",
                hint="Refuse the party that published this key.",
            )
        try:
            return self._private.exchange(X25519PublicKey.from_public_bytes(public))
        except ValueError as cause:
            raise TamperedMessage(
                f"the X25519 public key {public.hex()} is a point of small order",
                hint="Refuse the party that published this key.",
            ) from cause


_PROBE = BoxKey(bytes(range(1, 33)))  # any scalar meets a small-order point in the neutral element


def check_public_key(public: bytes) -> bytes:
    """Return a usable X25519 public key, or raise `TamperedMessage` (see `BoxKey.exchange`)."""
    _PROBE.exchange(public)
    return public


def _cipher(
    context: RoundContext,
    key: BoxKey,
    other: bytes,
    sender: bytes,
    receiver: bytes,
    publics: bytes,
    content: Content,
) -> AESGCM:
    return AESGCM(derive(key.exchange(other), context.binding, content, sender + receiver + publics))


def seal(
    context: RoundContext,
    key: BoxKey,
    receiver_public: bytes,
    sender: bytes,
    receiver: bytes,
    text: bytes,
    content: Content = "box",
) -> bytes:
    """Encrypt `text` from sender to receiver; returns nonce ‖ ciphertext ‖ tag.

    The AES key and the associated data both carry the round's binding, sender and receiver, so a box that
    is replayed in another round, sent on to somebody else, or sent back to its sender does not open. Nor does
    a box of shares (``content="box"``) open where a sealed opening is expected (``content="opening"``).
    """
    publics = key.public + receiver_public
    cipher = _cipher(context, key, receiver_public, sender, receiver, publics, content)
    nonce = os.urandom(_NONCE_BYTES)
    return nonce + cipher.encrypt(nonce, text, context.binding + sender + receiver)


def open_box(
    context: RoundContext,
    key: BoxKey,
    sender_public: bytes,
    sender: bytes,
    receiver: bytes,
    box: bytes,
    content: Content = "box",
) -> bytes:
    """Decrypt a box.

    Raises
    ------
    TamperedMessage
        If it was altered or belongs to another round, sender, receiver or content.
    """
    publics = sender_public + key.public
    cipher = _cipher(context, key, sender_public, sender, receiver, publics, content)
    try:
        return cipher.decrypt(box[:_NONCE_BYTES], box[_NONCE_BYTES:], context.binding + sender + receiver)
    except (InvalidTag, ValueError) as cause:
        raise TamperedMessage(
            f"the box from {party_name(sender)} to {party_name(receiver)} does not open",
            hint="It was altered, or made for another round, sender or receiver: leave it out.",
        ) from cause
