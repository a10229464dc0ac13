"""A folder of one's own for what is under way: a secret that names files, locks, and small files kept whole.

Names in the folder say nothing about the rows behind them: they are keyed hashes, so whoever sees a listing
or an error message cannot test guesses of a table, as plain hashes would allow.
"""

import fcntl
import hashlib
import hmac
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Final

from twopm_kit.errors import StoreError

__all__ = ["Workplace"]

_LABEL: Final = b"twopm/vsies/v1/workplace"
_KEY: Final = "names.key"
_KEY_BYTES: Final = 32


class Workplace:
    """A folder that only its owner reads.

    Parameters
    ----------
    folder : Path
        Made when it is not there.

    Raises
    ------
    StoreError
        The folder cannot be used, or its key is damaged.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            _demand_own(folder)
            self._key = _kept_key(folder / _KEY)
        except OSError as cause:
            raise StoreError(
                f"{folder} cannot be worked in: {cause.strerror}",
                hint="pass workdir= with a folder that you may write to",
            ) from None
        if len(self._key) != _KEY_BYTES:
            raise StoreError(
                f"{folder / _KEY} has {len(self._key)} bytes; expected {_KEY_BYTES}",
                hint="delete it: what was under way is then begun anew",
            )

    def __repr__(self) -> str:
        return f"<Workplace {self.folder}>"

    def path(self, *parts: bytes) -> Path:
        """Return the path that belongs to some bytes: the same in this folder, another in any other."""
        digest = hmac.new(self._key, _LABEL, "sha256")
        for part in parts:
            digest.update(hashlib.sha256(part).digest())
        return self.folder / digest.hexdigest()[:32]

    @contextmanager
    def alone(self, path: Path) -> Iterator[None]:
        """Let one thread of one process at a time work on a path; others wait.

        The system gives way when the process ends, however it ends.
        """
        lock = path.with_name(f"{path.name}.lock")
        while True:
            with lock.open("ab") as file:
                fcntl.flock(file, fcntl.LOCK_EX)
                if not _is_at(file, lock):
                    continue  # whoever had it took it away: a new one may be there
                try:
                    yield
                finally:
                    lock.unlink(missing_ok=True)
                return

    def read(self, path: Path) -> str | None:
        """Return the text of a small file; None when there is none, or none that can be read."""
        try:
            return path.read_text()
        except (OSError, UnicodeDecodeError):
            return None

    def write(self, path: Path, text: str) -> None:
        """Write a small file: after a crash at any moment it holds the old text or the new one.

        Raises
        ------
        StoreError
            If the disk refuses.
        """
        draft = path.with_name(f".{path.name}")
        try:
            with draft.open("w") as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
            draft.replace(path)
        except OSError as cause:
            raise StoreError(
                f"{path} cannot be written: {cause.strerror}",
                hint="make room or correct the permissions, and call again: it goes on where it was",
            ) from None


def _demand_own(folder: Path) -> None:
    """Refuse a folder in which somebody else can put a key, a draft or a lock."""
    state = folder.stat()
    if state.st_uid != os.getuid() or state.st_mode & 0o022:
        raise StoreError(
            f"{folder} belongs to somebody else, or others may write to it",
            hint="pass workdir= with a folder of your own, or chmod go-w it",
        )


def _kept_key(path: Path) -> bytes:
    """Return the folder's key; the first who comes makes it."""
    if not path.exists():
        draft = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
        try:
            with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
                file.write(os.urandom(_KEY_BYTES))
                file.flush()
                os.fsync(file.fileno())
            path.hardlink_to(draft)  # unlike a move, it leaves a key alone that came in between
        except FileExistsError:
            pass
        finally:
            draft.unlink(missing_ok=True)
    return path.read_bytes()


def _is_at(file: IO[bytes], path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except FileNotFoundError:
        return False
