"""SEAL objects to bytes and back, through anonymous memory: its save and load take only paths."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

__all__ = ["dump", "load_into", "write_atomic"]

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


def write_atomic(path: Path, content: bytes, *, mode: int = 0o644) -> None:
    """Write ``content`` under a temporary name beside ``path``, then rename: never a half-written file.

    Parameters
    ----------
    path : pathlib.Path
        Final name; its folder must exist.
    content : bytes
        The whole file.
    mode : int
        Permissions, set before the first byte is written.
    """
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
