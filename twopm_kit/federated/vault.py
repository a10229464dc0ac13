"""A node's secrets at rest: its box key and the state of the round that it is in, sealed on disk.

A node that is killed and started again takes its place in the round from here. **The state is saved before
the message that belongs to it leaves the node**: a node that forgot what it had sent could be brought to mask
a second vector with the same mask, or to open the other kind of share, and either gives a vector away.

Do not bring back old copies of the folder, for the same reason: an old state has forgotten messages too.
"""

import hashlib
import os
import re
import stat
import struct
from pathlib import Path
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from cryptography.hazmat.primitives.kdf.scrypt import Scrypt

from twopm_kit.errors import StoreError, TamperedMessage, WrongKey
from twopm_kit.secagg import BoxKey, NodeSession, RoundContext, party_id
from twopm_kit.secagg.context import Party
from twopm_kit.secrecy import KeptSecret

__all__ = ["Vault"]

_MAGIC: Final = b"2PM.vlt\n"
_VERSION: Final = b"\x01"
_BY_KEY, _BY_PASSPHRASE = b"\x00", b"\x01"
_SALT_BYTES: Final = 16
_NONCE_BYTES: Final = 12
_TAG_BYTES: Final = 16
_KEY_BYTES: Final = 32
_LEAST_PASSPHRASE: Final = 8
_SCRYPT: Final = {"n": 1 << 15, "r": 8, "p": 1}  # RFC 7914; 32 MiB and about a tenth of a second
_SIZE: Final = struct.Struct("<I")
_MOST: Final = 1 << 27
_LABEL: Final = b"twopm/vault/v1/"
_DOOR, _BOX_KEY = "vault", "box.key"
_STATE: Final = re.compile(r"(?P<task>\d+-[0-9a-f]{40}-\d+)-(?P<round>\d+)-[0-9a-f]{40}\.state")

_RESTORE: Final = "take a fresh folder; the node sits this round out, and needs a new key to join with"


class Vault(KeptSecret):
    """A folder with one node's secrets, readable by their owner alone.

    Files have mode 600, appear whole or not at all, and are sealed with AES-256-GCM under keys of their own:
    the key of a round's state is derived for its chain, contract, task, round and account, so that no state
    opens in the place of another.

    Parameters
    ----------
    folder : path
        Made if it does not exist.
    passphrase : str, optional
        At least 8 characters; scrypt makes a key from it.
    key : bytes, optional
        32 secret bytes in the place of a passphrase, as a key store gives them.

    Raises
    ------
    WrongKey
        If the passphrase or key is not the one that the folder was made with, or not fit to be one.
    TamperedMessage
        If the folder's own file was changed.

    Examples
    --------
    >>> vault = Vault("north-hospital", "four unrelated words here")
    >>> vault.save(session, message)  # before the message leaves
    >>> session = vault.load(context, account.address)  # in another process, later
    """

    def __init__(
        self, folder: str | Path, passphrase: str | None = None, *, key: bytes | None = None
    ) -> None:
        self._folder = Path(folder)
        secret, kind = _secret(passphrase, key)
        try:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as fault:
            raise StoreError(
                f"the folder {self._folder} cannot be made: {fault.strerror}", hint="name another folder"
            ) from None
        door = self._read(_DOOR)
        if door is None:
            front = _MAGIC + _VERSION + kind + os.urandom(_SALT_BYTES)
            self._key = _master(secret, kind, front[-_SALT_BYTES:])
            self._write(_DOOR, front + _seal(self._derive("door"), b"", front))
            return
        size = len(_MAGIC) + 2 + _SALT_BYTES
        front, proof = door[:size], door[size:]
        if len(proof) != _NONCE_BYTES + _TAG_BYTES or not front.startswith(_MAGIC):
            raise TamperedMessage(f"{self._folder / _DOOR} is not what a vault writes", hint=_RESTORE)
        _demand_version(front[len(_MAGIC) :], self._folder / _DOOR)
        if front[len(_MAGIC) + 1 :][:1] != kind:
            raise WrongKey(
                f"{self._folder} was not made with a {'key' if kind == _BY_KEY else 'passphrase'}",
                hint="open it with what it was made with: a passphrase, or key=",
            )
        self._key = _master(secret, kind, front[-_SALT_BYTES:])
        try:
            _open(self._derive("door"), proof, front)
        except InvalidTag:
            raise WrongKey(
                f"the passphrase or key does not open {self._folder}, or the folder was changed",
                hint="pass the one that it was made with",
            ) from None

    def __repr__(self) -> str:
        return f"Vault({str(self._folder)!r})"

    # Long-lived secrets -------------------------------------------------------------------------------

    def box_key(self) -> BoxKey:
        """Return the node's box key; the first call makes it.

        Raises
        ------
        TamperedMessage
            If its file was changed.
        """
        sealed = self._read(_BOX_KEY)
        key, bound = self._derive("box"), _LABEL + b"box"
        if sealed is None:
            secret = os.urandom(_KEY_BYTES)
            self._write(_BOX_KEY, _VERSION + _seal(key, secret, bound))
            return BoxKey(secret)
        _demand_version(sealed, self._folder / _BOX_KEY)
        try:
            return BoxKey(_open(key, sealed[1:], bound))
        except InvalidTag:
            raise TamperedMessage(f"{self._folder / _BOX_KEY} was changed", hint=_RESTORE) from None

    def salt(self) -> bytes:
        """Return the 32 secret bytes that salt the commitment to the node's rows."""
        return self._derive("rows")

    # The round ----------------------------------------------------------------------------------------

    def save(self, session: NodeSession, message: bytes = b"") -> None:
        """Keep a session as it is now. Call it before the message of this step leaves the node.

        Parameters
        ----------
        session : NodeSession
            The session, after the step.
        message : bytes, optional
            What is about to leave, if it could not be made again: rounding is random, so a masked vector
            could not. It replaces the one that was kept before.

        Raises
        ------
        StoreError
            If it cannot be written. Nothing may be sent then.
        """
        context, address = session.context, session.address
        sealed = session.sealed_state(self._state_key(context, address))
        kept = _seal(self._message_key(context, address), message, hashlib.sha256(sealed).digest())
        self._write(_name(context, address), _VERSION + _SIZE.pack(len(sealed)) + sealed + kept)

    def load(self, context: RoundContext, address: Party) -> NodeSession | None:
        """Return the session of an account in a round as it was saved last; None if it was not.

        Raises
        ------
        TamperedMessage
            If its file was changed, or is the state of another round or account.
        """
        found = self._parts(context, address)
        if found is None:
            return None
        key = self._state_key(context, address)
        session = NodeSession.from_sealed_state(found[0], key, self.box_key())
        if session.context != context or session.address != party_id(address):
            raise TamperedMessage("a sealed state is that of another round", hint=_RESTORE)
        return session

    def message(self, context: RoundContext, address: Party) -> bytes:
        """Return the message that was saved with a session, empty if there is none.

        Raises
        ------
        TamperedMessage
            If the file was changed, or belongs to another round or account.
        """
        found = self._parts(context, address)
        return found[1] if found else b""

    def _parts(self, context: RoundContext, address: Party) -> tuple[bytes, bytes] | None:
        name = _name(context, address)
        content = self._read(name)
        if content is None:
            return None
        _demand_version(content, self._folder / name)
        start = 1 + _SIZE.size
        size = _SIZE.unpack(content[1:start])[0] if len(content) >= start else 0
        sealed, kept = content[start : start + size], content[start + size :]
        try:
            key = self._message_key(context, address)
            return sealed, _open(key, kept, hashlib.sha256(sealed).digest())
        except InvalidTag:
            raise TamperedMessage(
                f"{self._folder / name} was changed, or is the state of another round", hint=_RESTORE
            ) from None

    def forget(self, context: RoundContext) -> None:
        """Remove the states of a round that has ended, and of earlier rounds of its task."""
        for path in self._folder.iterdir():
            found = _STATE.fullmatch(path.name)
            if found and found["task"] == _task(context) and int(found["round"]) <= context.round:
                path.unlink(missing_ok=True)

    # Keys and files -----------------------------------------------------------------------------------

    def _state_key(self, context: RoundContext, address: Party) -> bytes:
        return self._derive("state", context.binding + party_id(address))

    def _message_key(self, context: RoundContext, address: Party) -> bytes:
        return self._derive("message", context.binding + party_id(address))

    def _derive(self, purpose: str, bound: bytes = b"") -> bytes:
        info = _LABEL + purpose.encode() + b"/" + bound
        return HKDF(hashes.SHA256(), _KEY_BYTES, salt=None, info=info).derive(self._key)

    def _write(self, name: str, content: bytes) -> None:
        """Replace a file; after a crash the old one or the new one is there, on disk."""
        partial = self._folder / f".{name}.{os.urandom(8).hex()}"
        try:
            handle = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
            with os.fdopen(handle, "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            partial.replace(self._folder / name)
            folder = os.open(self._folder, os.O_RDONLY | os.O_DIRECTORY)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)
        except OSError as fault:
            raise StoreError(
                f"{self._folder / name} cannot be written: {fault.strerror}",
                hint="make room, or open the folder for writing; nothing was sent",
            ) from None
        finally:
            partial.unlink(missing_ok=True)

    def _read(self, name: str) -> bytes | None:
        path = self._folder / name
        try:
            # Neither a link out of the folder nor a pipe that never ends is read.
            handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        except FileNotFoundError:
            return None
        except OSError as fault:
            raise StoreError(f"{path} cannot be read: {fault.strerror}", hint=_RESTORE) from None
        found = os.fstat(handle)
        if not stat.S_ISREG(found.st_mode) or found.st_size > _MOST:
            os.close(handle)
            raise TamperedMessage(f"{path} is no file of at most {_MOST:,} bytes", hint=_RESTORE)
        with os.fdopen(handle, "rb") as file:
            return file.read(_MOST)


def _secret(passphrase: str | None, key: bytes | None) -> tuple[bytes, bytes]:
    if (passphrase is None) == (key is None):
        raise WrongKey("a vault is opened with one thing", hint="pass a passphrase, or key= with 32 bytes")
    if key is not None:
        if not isinstance(key, bytes) or len(key) != _KEY_BYTES:
            raise WrongKey(f"a vault's key has {_KEY_BYTES} bytes", hint="pass os.urandom(32), and keep it")
        return key, _BY_KEY
    if not isinstance(passphrase, str) or len(passphrase) < _LEAST_PASSPHRASE:
        raise WrongKey(
            f"the passphrase is no text of at least {_LEAST_PASSPHRASE} characters",
            hint="pass a longer passphrase: several unrelated words",
        )
    return passphrase.encode(), _BY_PASSPHRASE


def _master(secret: bytes, kind: bytes, salt: bytes) -> bytes:
    if kind == _BY_PASSPHRASE:
        return Scrypt(salt=salt, length=_KEY_BYTES, **_SCRYPT).derive(secret)
    return HKDF(hashes.SHA256(), _KEY_BYTES, salt=salt, info=_LABEL + b"key").derive(secret)


def _seal(key: bytes, text: bytes, bound: bytes) -> bytes:
    nonce = os.urandom(_NONCE_BYTES)
    return nonce + AESGCM(key).encrypt(nonce, text, bound)


def _open(key: bytes, sealed: bytes, bound: bytes) -> bytes:
    if len(sealed) < _NONCE_BYTES + _TAG_BYTES:
        raise InvalidTag
    return AESGCM(key).decrypt(sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:], bound)


def _demand_version(content: bytes, path: Path) -> None:
    if content[:1] != _VERSION:
        raise TamperedMessage(
            f"{path} has format version {content[:1].hex() or 'none'}, this kit reads {_VERSION.hex()}",
            hint="open the vault with the kit that wrote it",
        )


def _task(context: RoundContext) -> str:
    return f"{context.chain_id}-{party_id(context.contract).hex()}-{context.task_id}"


def _name(context: RoundContext, address: Party) -> str:
    return f"{_task(context)}-{context.round}-{party_id(address).hex()}.state"
