"""SEAL objects to bytes and back, through anonymous memory: its save and load take only paths."""

import io
import os
import struct
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import zstandard

from twopm_kit.errors import CiphertextError

__all__ = ["as_path", "check_foreign", "dump", "load_into", "read_file", "write_atomic"]

_SEAL_HEADER: Final = struct.Struct("<HBBBBHQ")
_SEAL_MAGIC: Final = 0xA15E
_PLAIN: Final = 0
_ZSTD: Final = 2
_PIECE: Final = 1 << 20
_AGAIN: Final = "get it again from where it was made"

_SHARED_MEMORY: Final = Path("/dev/shm")  # noqa: S108 - a private folder is made inside it
_HAS_MEMFD: Final = hasattr(os, "memfd_create") and Path("/proc/self/fd").is_dir()


@contextmanager
def _memory_path(content: bytes | None = None) -> Iterator[str]:
    """Path of a nameless file in memory that only this process can open; gone at exit."""
    if _HAS_MEMFD:
        descriptor = os.memfd_create("seal", os.MFD_CLOEXEC)
        try:
            if content is not None:
                _write_all(descriptor, content)
            yield f"/proc/self/fd/{descriptor}"
        finally:
            os.close(descriptor)
        return
    base = _SHARED_MEMORY if _SHARED_MEMORY.is_dir() else None
    with tempfile.TemporaryDirectory(dir=base) as folder:  # made with mode 700
        path = Path(folder) / "seal"
        if content is not None:
            path.write_bytes(content)
        yield str(path)


def _write_all(descriptor: int, content: bytes) -> None:
    view = memoryview(content)
    while view:
        view = view[os.write(descriptor, view) :]


def dump(seal_object: Any) -> bytes:
    """Bytes of anything of SEAL that has ``save(path)``, compressed the way SEAL does it."""
    with _memory_path() as path:
        seal_object.save(path)
        return Path(path).read_bytes()


def load_into(seal_object: Any, context: Any, content: bytes) -> None:
    """Fill ``seal_object`` from ``content``; SEAL checks it against ``context`` and may raise."""
    with _memory_path(content) as path:
        seal_object.load(context, path)


def check_foreign(content: bytes, most: int, what: str) -> None:
    """Refuse bytes of another party that SEAL would read past or unpack without a limit.

    SEAL ignores what follows an object, and unpacks a compressed one whole before it looks at it: a few
    kilobytes can become gigabytes.

    Parameters
    ----------
    content : bytes
        A serialised SEAL object.
    most : int
        Largest size, packed and unpacked.
    what : str
        For the message.

    Raises
    ------
    CiphertextError
        Not SEAL's format, followed by something else, or too large.
    """
    if len(content) > most:
        raise CiphertextError(f"{what} has {len(content)} bytes; at most {most} are possible", hint=_AGAIN)
    if len(content) < _SEAL_HEADER.size:
        raise CiphertextError(f"{what} has only {len(content)} bytes", hint=_AGAIN)
    magic, head, _, _, packing, _, size = _SEAL_HEADER.unpack_from(content)
    if (magic, head, size) != (_SEAL_MAGIC, _SEAL_HEADER.size, len(content)) or packing not in (
        _PLAIN,
        _ZSTD,
    ):
        raise CiphertextError(
            f"{what} does not begin as SEAL's objects do, or has another length", hint=_AGAIN
        )
    if packing == _ZSTD:
        packed = io.BytesIO(memoryview(content)[_SEAL_HEADER.size :])
        unpacked = 0
        try:
            with zstandard.ZstdDecompressor().stream_reader(packed, read_across_frames=True) as reader:
                while unpacked <= most and (piece := reader.read(_PIECE)):
                    unpacked += len(piece)
        except (zstandard.ZstdError, MemoryError):
            raise CiphertextError(f"{what} cannot be unpacked", hint=_AGAIN) from None
        if unpacked > most:
            raise CiphertextError(
                f"{what} unpacks to more than the {most} bytes that are possible", hint=_AGAIN
            )


def as_path(path: object) -> Path:
    """Path of a file.

    Raises
    ------
    CiphertextError
        Something else was passed, as a table or an open file would be.
    """
    if not isinstance(path, str | Path):
        raise CiphertextError(
            f"an object of type {type(path).__name__} was passed; expected the path of a file",
            hint="pass a str or a pathlib.Path",
        )
    return Path(path)


def read_file(path: str | Path, what: str) -> bytes:
    """Bytes of a file of another party or an earlier session.

    Raises
    ------
    CiphertextError
        No path, there is no such file, or it cannot be read.
    """
    source = as_path(path)
    try:
        return source.read_bytes()
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        raise CiphertextError(
            f"{what} was expected at {str(path)!r}: {getattr(error, 'strerror', None) or error}",
            hint="check the path; save() writes such a file",
        ) from None


def write_atomic(path: str | Path, content: bytes, *, mode: int = 0o644) -> None:
    """Write ``content`` under a temporary name beside ``path``, then rename: never a half-written file.

    Parameters
    ----------
    path : str or pathlib.Path
        Final name; its folder must exist.
    content : bytes
        The whole file.
    mode : int
        Permissions, set before the first byte is written.

    Raises
    ------
    CiphertextError
        No path, the folder does not exist, or nothing can be written there.
    """
    target = as_path(path)
    if not target.parent.is_dir():
        raise CiphertextError(
            f"{str(path)!r} was to be written, but its folder does not exist", hint="make the folder first"
        )
    if target.is_dir():
        raise CiphertextError(
            f"{str(path)!r} was to be written, but it is a folder", hint="pass the name of a file in it"
        )
    try:
        _write_beside(target, content, mode)
    except (OSError, ValueError) as error:
        raise CiphertextError(
            f"{str(path)!r} cannot be written: {getattr(error, 'strerror', None) or error}",
            hint="pass another path, or make room and give permission there",
        ) from None


def _write_beside(path: Path, content: bytes, mode: int) -> None:
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        try:
            os.fchmod(descriptor, mode)
            _write_all(descriptor, content)
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
