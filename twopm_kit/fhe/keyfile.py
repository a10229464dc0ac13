"""Bytes of key bundles: the secret one sealed with a passphrase, the public one checked by fingerprint.

Both are ``magic 8 | version u16 | header length u32 | header JSON | body``. The secret body is AES-256-GCM
under a key that scrypt derives from the passphrase (RFC 7914), with everything before it as associated data.
The public body is the public key and the evaluation keys. The fingerprint is a hash over the public key, so
it cannot be exchanged unnoticed. The evaluation keys have a hash of their own, against damage: whoever
exchanges them on purpose makes results wrong and learns nothing.
"""

import hashlib
import json
import os
import struct
from dataclasses import dataclass
from typing import Any, Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.scrypt import Scrypt

from twopm_kit.errors import CiphertextError, DataError, WrongKey
from twopm_kit.untrusted import load_json

__all__ = [
    "SHARE_MAGIC",
    "SecretBundle",
    "fingerprint_of",
    "header_in",
    "key_in",
    "open_body",
    "open_secret",
    "pack_public",
    "seal_body",
    "seal_secret",
    "unpack_public",
]

#: Begins the file of a committee member's share.
SHARE_MAGIC: Final = b"2PM.shr\n"

_SECRET_MAGIC: Final = b"2PM.key\n"
_PUBLIC_MAGIC: Final = b"2PM.pub\n"
_VERSIONS: Final = {_SECRET_MAGIC: 1, _PUBLIC_MAGIC: 2, SHARE_MAGIC: 1}
_PREFIX: Final = struct.Struct("<8sHI")
_MAX_HEADER: Final = 1 << 16
_MAX_BODY: Final = 1 << 28
_SCRYPT: Final = {"n": 1 << 15, "r": 8, "p": 1}
_LEAST_PASSPHRASE: Final = 8

_AGAIN: Final = "get the file again from where it was made"


@dataclass(frozen=True, slots=True, repr=False)
class SecretBundle:
    """What a key file holds once it is open.

    Parameters
    ----------
    profile : str
        Name of the profile.
    secret, public : bytes
        Keys as SEAL writes them.
    budget, used : int
        Of the ledger of openings when the file was written.
    fingerprint : str
        Of the public key.
    """

    profile: str
    secret: bytes
    public: bytes
    budget: int
    used: int
    fingerprint: str

    def __repr__(self) -> str:
        return f"<SecretBundle {self.fingerprint[:8]}…>"


def fingerprint_of(params_hash: str, public: bytes) -> str:
    """32 hex digits that name a key: SHA-256 over parameters and public key, cut to 128 bits."""
    return hashlib.sha256(b"twopm_kit.fhe.key.1" + bytes.fromhex(params_hash) + public).hexdigest()[:32]


def seal_secret(bundle: SecretBundle, params_hash: str, passphrase: str) -> bytes:
    """Key file bytes.

    Raises
    ------
    WrongKey
        The passphrase is too short to protect a key.
    """
    header = {"profile": bundle.profile, "params": params_hash, "fingerprint": bundle.fingerprint}
    inner = (
        struct.pack("<QQI", bundle.budget, bundle.used, len(bundle.secret)) + bundle.secret + bundle.public
    )
    return seal_body(_SECRET_MAGIC, header, inner, passphrase)


def key_in(content: bytes) -> str:
    """Return the fingerprint that a key file names; no passphrase is needed to read it.

    Raises
    ------
    CiphertextError
        It is no key file.
    """
    return str(header_in(_SECRET_MAGIC, content, "key file").get("fingerprint"))


def open_secret(content: bytes, passphrase: str) -> SecretBundle:
    """Contents of a key file.

    Raises
    ------
    CiphertextError
        Not a key file, of another version, or cut short.
    WrongKey
        The passphrase does not open it, or it was changed: the two cannot be told apart.
    """
    header, inner = open_body(_SECRET_MAGIC, content, "key file", passphrase)
    budget, used, size = struct.unpack_from("<QQI", inner)
    start = struct.calcsize("<QQI")
    secret, public = inner[start : start + size], inner[start + size :]
    return SecretBundle(header["profile"], secret, public, budget, used, header["fingerprint"])


def header_in(magic: bytes, content: bytes, what: str) -> dict[str, Any]:
    """Public header of what `seal_body` made; nothing in it is authenticated before the body is open.

    Raises
    ------
    CiphertextError
        Another kind of file.
    """
    return _split(content, magic, f"a {what}")[0]


def seal_body(magic: bytes, header: dict[str, Any], inner: bytes, passphrase: str) -> bytes:
    """File with a public header and a body that only the passphrase opens.

    Parameters
    ----------
    magic : bytes
        8 of them: what kind of file it is.
    header : dict
        Public facts, as JSON takes them; "profile" and "fingerprint" have to be among them.
    inner : bytes
        What to seal.
    passphrase : str
        At least 8 characters.

    Raises
    ------
    WrongKey
        The passphrase is too short to protect a key.
    """
    phrase = _passphrase(passphrase)
    if len(passphrase) < _LEAST_PASSPHRASE:
        raise WrongKey(
            f"the passphrase has {len(passphrase)} characters; at least {_LEAST_PASSPHRASE} protect a key",
            hint="pass a longer passphrase: several unrelated words",
        )
    salt, nonce = os.urandom(16), os.urandom(12)
    front = _front(magic, {**header, "scrypt": {**_SCRYPT, "salt": salt.hex()}, "nonce": nonce.hex()})
    return front + AESGCM(_derive(phrase, salt, **_SCRYPT)).encrypt(nonce, inner, front)


def open_body(magic: bytes, content: bytes, what: str, passphrase: str) -> tuple[dict[str, Any], bytes]:
    """Header and body of what `seal_body` made, both authenticated; ``what`` is for the messages.

    Raises
    ------
    CiphertextError
        Another kind of file, of another version, or cut short.
    WrongKey
        The passphrase does not open it, or it was changed: the two cannot be told apart.
    """
    phrase = _passphrase(passphrase)
    header, front, body = _split(content, magic, f"a {what}")
    try:
        scrypt, nonce = header["scrypt"], bytes.fromhex(header["nonce"])
        cost = {name: scrypt[name] for name in ("n", "r", "p")}
        salt, named = bytes.fromhex(scrypt["salt"]), (header["profile"], header["fingerprint"])
    except (KeyError, TypeError, ValueError):
        raise CiphertextError(f"the header of the {what} lacks fields", hint=_AGAIN) from None
    # The costs come from the file, before anything is authenticated: only the ones that this version writes.
    if cost != _SCRYPT or len(salt) != 16 or len(nonce) != 12 or not all(isinstance(n, str) for n in named):
        raise CiphertextError(
            f"the header of the {what} has values that this version does not write", hint=_AGAIN
        )
    try:
        return header, AESGCM(_derive(phrase, salt, **_SCRYPT)).decrypt(nonce, body, front)
    except InvalidTag:
        raise WrongKey(
            f"the passphrase does not open the {what} of {named[1]}, or the file was changed",
            hint="pass the passphrase that it was saved with, or restore the file",
        ) from None


def pack_public(profile: str, params_hash: str, public: bytes, keys: bytes) -> bytes:
    """Public bundle bytes: public key and evaluation keys."""
    header = {
        "profile": profile,
        "params": params_hash,
        "fingerprint": fingerprint_of(params_hash, public),
        "public": len(public),
        "keys": hashlib.sha256(keys).hexdigest(),
    }
    return _front(_PUBLIC_MAGIC, header) + public + keys


def unpack_public(content: bytes) -> tuple[str, str, bytes, bytes]:
    """Profile, fingerprint, public key and evaluation keys of a public bundle.

    Raises
    ------
    CiphertextError
        Not a public bundle, of another version, cut short, or not what its fingerprint and hash say.
    """
    header, _, body = _split(content, _PUBLIC_MAGIC, "a public key bundle")
    values = [header.get(name) for name in ("profile", "params", "fingerprint", "keys")]
    size = header.get("public")
    if len(header) != 5 or not all(isinstance(value, str) for value in values) or type(size) is not int:
        raise CiphertextError("the header of the public key bundle lacks fields or has others", hint=_AGAIN)
    profile, params, fingerprint, digest = (str(value) for value in values)
    if not 0 < size <= len(body):
        raise CiphertextError(f"the public key bundle announces a key of {size} bytes", hint=_AGAIN)
    public, keys = body[:size], body[size:]
    try:
        right = fingerprint_of(params, public)
    except ValueError:
        right = ""
    if right != fingerprint:
        raise CiphertextError(
            f"the public key bundle says that its fingerprint is {fingerprint[:40]}; its key has {right}",
            hint=_AGAIN,
        )
    if hashlib.sha256(keys).hexdigest() != digest:
        raise CiphertextError("the evaluation keys of the public key bundle were changed", hint=_AGAIN)
    return profile, fingerprint, public, keys


def _front(magic: bytes, header: dict[str, Any]) -> bytes:
    text = json.dumps(header, sort_keys=True, separators=(",", ":")).encode()
    return _PREFIX.pack(magic, _VERSIONS[magic], len(text)) + text


def _split(content: bytes, magic: bytes, what: str) -> tuple[dict[str, Any], bytes, bytes]:
    if len(content) < _PREFIX.size or content[: len(magic)] != magic:
        raise CiphertextError(f"these bytes are not {what}", hint="pass the file that save() wrote")
    _, version, size = _PREFIX.unpack_from(content)
    if version != _VERSIONS[magic]:
        raise CiphertextError(
            f"{what} has format version {version}; this kit reads version {_VERSIONS[magic]}",
            hint="write it again with this version of the kit",
        )
    end = _PREFIX.size + size
    if size > _MAX_HEADER or len(content) <= end or len(content) > end + _MAX_BODY:
        raise CiphertextError(f"{what} is cut short or too long: {len(content)} bytes", hint=_AGAIN)
    try:
        header = load_json(content[_PREFIX.size : end])
    except DataError:
        header = None
    if not isinstance(header, dict):
        raise CiphertextError(f"the header of {what} is not JSON", hint=_AGAIN)
    return header, content[:end], content[end:]


def _passphrase(passphrase: str) -> bytes:
    if not isinstance(passphrase, str):
        raise WrongKey(
            f"the passphrase is a {type(passphrase).__name__}; expected text",
            hint="pass the passphrase as a str",
        )
    try:
        return passphrase.encode()
    except UnicodeEncodeError:
        raise WrongKey(
            "the passphrase has characters that are half of a pair", hint="type the passphrase again"
        ) from None


def _derive(phrase: bytes, salt: bytes, n: int, r: int, p: int) -> bytes:
    return Scrypt(salt=salt, length=32, n=n, r=r, p=p).derive(phrase)
