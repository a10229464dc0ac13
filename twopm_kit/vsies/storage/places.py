"""Finds the place behind a URL: a folder, memory, an S3 bucket, an IPFS node, or what else fsspec knows.

A place keeps named bytes. It need not be believed: the store checks whatever it reads, and reads no more than
it asked for. Credentials come from the environment, and neither ``repr`` nor errors show them.
"""

import errno
import os
import secrets
import stat
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any, Protocol
from urllib.parse import urlsplit

from fsspec.implementations.local import LocalFileSystem
from fsspec.implementations.memory import MemoryFileSystem

from twopm_kit.errors import StoreError
from twopm_kit.vsies.s3 import bucket_path, open_s3
from twopm_kit.vsies.storage.cid import Block
from twopm_kit.vsies.storage.entries import SLICE

__all__ = ["MANIFEST", "FilePlace", "Place", "open_place"]

MANIFEST = "manifest.json"
_CHECK = "check the address, your rights and whether the service runs, then try again"


class Place(Protocol):
    """Where slices and manifests lie."""

    url: str
    """Where that is, without credentials."""

    def read(self, name: str, most: int, digest: bytes = b"", *, near: bool = False) -> bytes | None:
        """Read what lies under a name, at most one byte more than asked; None if nothing does.

        ``digest`` is its SHA-256 where the caller knows it; ``near`` asks for no search in a network.
        """

    def write(self, name: str, data: bytes, digest: bytes) -> None:
        """Keep bytes under a name, whole or not at all; ``digest`` is their SHA-256."""

    def publish(self, name: str, manifest: bytes, nodes: Iterable[Block]) -> None:
        """Make an object visible, after all its slices; ``nodes`` are what IPFS links slices with."""


class FilePlace:
    """A folder of any file system that fsspec knows.

    Parameters
    ----------
    fs : fsspec.AbstractFileSystem
        The file system.
    base : str
        Folder, as the file system names it.
    url : str
        What to show.
    whole : bool
        Whether the file system shows a file only when it is complete, as object stores do.
    """

    def __init__(self, fs: Any, base: str, url: str, *, whole: bool) -> None:
        self._fs = fs
        self._base = base.rstrip("/")
        self._whole = whole
        self.url = url

    def __repr__(self) -> str:
        return f"FilePlace({self.url})"

    def read(self, name: str, most: int, digest: bytes = b"", *, near: bool = False) -> bytes | None:  # noqa: ARG002
        """Read a file, at most one byte more than asked; None if there is none.

        Raises
        ------
        StoreError
            If the place does not answer or refuses, or what lies there is no plain file.
        """
        path = f"{self._base}/{name}"
        try:
            if isinstance(self._fs, MemoryFileSystem):  # its open files are one object for all threads
                held = self._fs.cat_file(path, 0, most + 1)
            else:
                with self._fs.open(path, "rb") as file:
                    held = _bounded(file, most + 1)
        except FileNotFoundError:
            return None
        except StoreError:
            raise
        except Exception as cause:  # noqa: BLE001  every back end has errors of its own
            raise self._failed("read", name, cause) from None
        return bytes(held)

    def write(self, name: str, data: bytes, digest: bytes = b"") -> None:  # noqa: ARG002
        """Write a file; readers see it whole or not at all.

        Raises
        ------
        StoreError
            If the place does not answer, refuses, or is full.
        """
        path = f"{self._base}/{name}"
        draft = path if self._whole else f"{path}.{secrets.token_hex(8)}.part"
        try:
            if not self._whole:
                self._fs.makedirs(path.rpartition("/")[0], exist_ok=True)
            self._fs.pipe_file(draft, data)
            if draft != path:
                self._fs.mv(draft, path)
        except Exception as cause:  # noqa: BLE001  every back end has errors of its own
            if draft != path:
                with suppress(Exception):
                    self._fs.rm_file(draft)
            raise cause if isinstance(cause, StoreError) else self._failed("write", name, cause) from None

    def publish(self, name: str, manifest: bytes, nodes: Iterable[Block] = ()) -> None:  # noqa: ARG002
        """Write the manifest; files need no nodes.

        Raises
        ------
        StoreError
            If the place does not answer, refuses, or is full.
        """
        self.write(name, manifest)

    def _failed(self, what: str, name: str, cause: Exception) -> StoreError:
        # the text of a cause can show requests with their signatures: its class says enough
        return StoreError(f"{self.url} did not {what} {name}: {type(cause).__name__}", hint=_CHECK)


def _bounded(file: IO[bytes], most: int) -> bytes:
    """Read piece by piece: one read of the most that may come would take that much memory at once."""
    pieces = []
    while most and (piece := file.read(min(most, SLICE + 1))):
        pieces.append(piece)
        most -= len(piece)
    return pieces[0] if len(pieces) == 1 else b"".join(pieces)


class _OneFolder(LocalFileSystem):  # type: ignore[misc]
    """The local file system, for a folder that others may write to as well.

    Whoever can write to it could put a link where an object's folder belongs, or a pipe that never ends where
    a file belongs. So each object's folder is opened first, links not followed, and everything is done within
    what was opened; only plain files are read.
    """

    cachable = False

    def open(self, path: str, mode: str = "rb", **_options: Any) -> IO[bytes]:
        """Open a plain file for reading."""
        with _within(path) as (folder, name):
            try:
                # without O_NONBLOCK, opening a pipe waits for a writer
                handle = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=folder)
            except OSError as cause:
                if cause.errno in (errno.ELOOP, errno.ENXIO):  # a link; a socket
                    raise _strange(path, "plain file") from None
                raise
        if not stat.S_ISREG(os.fstat(handle).st_mode):
            os.close(handle)
            raise _strange(path, "plain file")
        return os.fdopen(handle, mode)

    def pipe_file(self, path: str, value: bytes, mode: str = "create", **_options: Any) -> None:  # noqa: ARG002
        """Write a file that is not there yet."""
        with _within(path) as (folder, name):
            handle = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666, dir_fd=folder)
        with os.fdopen(handle, "wb") as file:
            file.write(value)

    def mv(self, path1: str, path2: str, **_options: Any) -> None:
        """Move a file over another of its folder: readers see the old one or the new one."""
        with _within(path1) as (folder, name):
            os.replace(name, path2.rpartition("/")[2], src_dir_fd=folder, dst_dir_fd=folder)

    def rm_file(self, path: str) -> None:
        """Remove a file."""
        with _within(path) as (folder, name):
            os.unlink(name, dir_fd=folder)


@contextmanager
def _within(path: str) -> Iterator[tuple[int, str]]:
    """Open the folder of a file, which must not be a link; yield it and the file's name."""
    folder, _, name = path.rpartition("/")
    try:
        handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    except OSError as cause:
        if cause.errno in (errno.ELOOP, errno.ENOTDIR) and os.path.lexists(folder):
            raise _strange(folder, "folder") from None
        raise
    try:
        yield handle, name
    finally:
        os.close(handle)


def _strange(path: str, expected: str) -> StoreError:
    return StoreError(
        f"{path} is a link or something else; expected a {expected}",
        hint="remove it, find out who put it there, and put the object again",
    )


def open_place(url: str | Path | None) -> Place:
    """Open the place behind a URL.

    Parameters
    ----------
    url : str, Path or None
        ``file:///folder`` or a path, ``memory://name``, ``s3://bucket/prefix`` (credentials, region and
        endpoint from the usual ``AWS_…`` variables), ``ipfs+http://host:port`` (the RPC of a Kubo node), or
        any other URL that an installed fsspec back end knows. None is memory that nobody else sees. S3
        servers other than Amazon's may need ``AWS_REQUEST_CHECKSUM_CALCULATION=when_required``: the store's
        own checks lose nothing by it.

    Raises
    ------
    StoreError
        If no back end knows the URL, or it carries credentials where it must not.
    """
    if url is None:
        own = MemoryFileSystem(skip_instance_cache=True)
        own.store, own.pseudo_dirs = {}, [""]
        return FilePlace(own, "", "memory://", whole=True)
    if not isinstance(url, str | Path) or not str(url):
        raise StoreError(
            f"{'no text' if url == '' else f'a {type(url).__name__}'} was passed; expected where to store",
            hint='pass a folder, "memory://name", "s3://bucket/path" or "ipfs+http://127.0.0.1:5001"',
        )
    url = str(url)
    scheme, marked, rest = url.partition("://")
    if not marked or scheme == "file":
        folder = os.path.abspath(os.path.expanduser(rest if marked else url))  # noqa: PTH100, PTH111
        return _folder_place(folder)
    if scheme == "memory":
        return FilePlace(MemoryFileSystem(), f"/{rest.strip('/')}", url, whole=True)
    if scheme == "s3":
        path = bucket_path(url)
        return FilePlace(open_s3(), path, f"s3://{path.rstrip('/')}", whole=True)
    if scheme in ("ipfs+http", "ipfs+https"):
        from twopm_kit.vsies.storage.ipfs import IPFSPlace

        return IPFSPlace(url.removeprefix("ipfs+"))
    return _open_other(url, scheme)


def _folder_place(folder: str) -> FilePlace:
    return FilePlace(_OneFolder(), folder, f"file://{folder}", whole=False)


def _open_other(url: str, scheme: str) -> FilePlace:
    """Whatever else fsspec has a back end for."""
    from fsspec.core import url_to_fs

    try:
        fs, base = url_to_fs(url)
        parts = urlsplit(url)
    except Exception as cause:  # noqa: BLE001  every back end has errors of its own
        raise StoreError(
            f"fsspec opens no place of kind {scheme}:// here: {type(cause).__name__}",
            hint="use file://, memory://, s3:// or ipfs+http://, or install the back end that fsspec names",
        ) from None
    if isinstance(fs, LocalFileSystem):
        return _folder_place(base)
    shown = f"{scheme}://{parts.netloc.rpartition('@')[2]}{parts.path.rstrip('/')}"
    return FilePlace(fs, base, shown, whole=scheme in _OBJECT_STORES)


_OBJECT_STORES = {"abfs", "abfss", "az", "adl", "gcs", "gs", "oci", "oss", "s3a"}
