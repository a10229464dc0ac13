"""Where the bytes of a source lie: a path or URL of fsspec, opened, unpacked within bounds, and hashed."""

import bz2
import gzip
import hashlib
import io
import lzma
import os
import shutil
import weakref
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import IO, Any, cast
from urllib.parse import urlsplit

from twopm_kit.errors import SourceError
from twopm_kit.vsies.s3 import bucket_path, open_s3
from twopm_kit.vsies.sources.base import DataSource, write_up

__all__ = ["PACKED", "RATIO", "UNPACKED_FLOOR", "FileSource", "Place", "checked_zip"]

BLOCK = 1 << 20
#: An archive may unpack to this many times its size …
RATIO = 200
#: … or to this many bytes, if that is more.
UNPACKED_FLOOR = 1 << 26
#: Memory that an xz stream may ask for.
XZ_MEMORY = 1 << 28
#: Endings of compressed tables.
PACKED = (".gz", ".bz2", ".xz", ".zst", ".zip")


class Place:
    """A file or folder behind a path or an fsspec URL, with what messages may call it.

    Parameters
    ----------
    where : str or Path
        A local path, or a URL that fsspec knows: ``memory://``, ``s3://``, ``zip://a.csv::file:///b.zip`` …
    options : mapping, optional
        Passed to fsspec. They may be secret and are never shown.

    Raises
    ------
    SourceError
        If fsspec does not know the protocol, or its library is not installed.
    """

    def __init__(self, where: str | Path, options: Mapping[str, Any] | None = None) -> None:
        import fsspec

        url = str(where.expanduser()) if isinstance(where, Path) else where
        url = url if "://" in url else str(Path(url).expanduser())
        try:
            parts = [urlsplit(part) for part in url.split("::")]
            self.shown = "::".join(_shown(part) for part in url.split("::"))
        except ValueError:  # its words may repeat a password
            raise SourceError("this is not a URL", hint="pass a path, or protocol://place/file") from None
        self._secrets = [str(value) for value in (options or {}).values() if isinstance(value, str)]
        self._secrets += [text for one in parts for text in (_user(one.netloc), one.query) if text]
        with self._telling("cannot be reached"):
            if url.startswith("s3://") and not options:
                self._fs, self.path = open_s3(), bucket_path(url)
            else:
                self._fs, self.path = fsspec.url_to_fs(url, **(options or {}))

    def __repr__(self) -> str:
        return f"<Place {self.shown}>"

    @property
    def name(self) -> str:
        """Last part of the path."""
        return PurePosixPath(urlsplit(self.path).path if "://" in self.path else self.path).name

    @property
    def suffixes(self) -> tuple[str, str]:
        """Ending of the format, and of the compression around it ("" if there is none), in lower case."""
        endings = [ending.lower() for ending in PurePosixPath(self.name).suffixes]
        packed = endings.pop() if endings and endings[-1] in PACKED else ""
        return (endings[-1] if endings else ""), packed

    @contextmanager
    def _telling(self, trouble: str) -> Iterator[None]:
        """Turn what a library raises into a SourceError without secrets."""
        try:
            yield
        except SourceError:
            raise
        except MemoryError:
            raise
        except Exception as error:  # noqa: BLE001  (every file system raises its own)
            words = write_up(error, self._secrets)
        else:
            return
        raise SourceError(
            f"{self.shown} {trouble}: {words}", hint="check the path or URL, and that it may be read"
        ) from None  # the library's own message may repeat a secret

    def exists(self) -> bool:
        """Return whether there is a file or a folder."""
        with self._telling("cannot be reached"):
            return bool(self._fs.exists(self.path))

    def is_folder(self) -> bool:
        """Return whether it is a folder."""
        with self._telling("cannot be reached"):
            return bool(self._fs.isdir(self.path))

    def children(self) -> list["Place"]:
        """Return what is in the folder, by name, without hidden files.

        Raises
        ------
        SourceError
            If a local entry is a symbolic link that leads out of the folder.
        """
        with self._telling("cannot be listed"):
            entries = sorted(str(entry).rstrip("/") for entry in self._fs.ls(self.path, detail=False))
        found = [self._child(entry) for entry in entries]
        return [child for child in found if not child.name.startswith(".")]

    def _child(self, entry: str) -> "Place":
        child = object.__new__(Place)
        child._fs, child.path, child._secrets = self._fs, entry, self._secrets
        child.shown = f"{self.shown.rstrip('/')}/{PurePosixPath(entry).name}"
        if self.local is not None and Path(entry).is_symlink():
            try:
                inside = Path(entry).resolve().is_relative_to(self.local.resolve())
            except (OSError, RuntimeError):  # a link to itself
                inside = False
            if not inside:
                raise SourceError(
                    f"{child.shown} is a symbolic link that leads out of its folder",
                    hint="copy the file into the folder, or remove the link",
                )
        return child

    @property
    def local(self) -> Path | None:
        """The path on this machine, or None if it is not on it."""
        protocol = self._fs.protocol
        return Path(self.path) if "file" in ([protocol] if isinstance(protocol, str) else protocol) else None

    def state(self) -> tuple[Any, ...]:
        """Return what tells a changed file from the same one: its size, and times and tags where known."""
        with self._telling("cannot be read"):
            info = self._fs.info(self.path)
        return tuple(info.get(key) for key in ("size", "mtime", "ino", "ETag", "LastModified", "created"))

    @property
    def size(self) -> int | None:
        """Number of bytes as stored, or None if the file system does not tell."""
        size = self.state()[0]
        return int(size) if isinstance(size, int | float) else None

    def open(self) -> IO[bytes]:
        """Open the file for reading its bytes as they are stored."""
        with self._telling("cannot be opened"):
            if self._fs.isdir(self.path):
                raise SourceError(f"{self.shown} is a folder, not a file", hint="pass one of its files")
            # a member of a zip file has been unpacked by the file system: its directory names both sizes
            info = self._fs.info(self.path)
            packed, size = info.get("compress_size"), info.get("file_size")
            if isinstance(packed, int) and isinstance(size, int):
                _bounded(size, packed, self.shown)
            return cast("IO[bytes]", self._fs.open(self.path, "rb"))

    def unpacked(self, tick: Callable[[int], object] = lambda _: None) -> "Unpacked":
        """Open the file for reading, through its compression if its name ends in one."""
        return Unpacked(self, tick)

    def sha256(self) -> bytes:
        """Return the SHA-256 of the bytes as stored, read in blocks."""
        digest = hashlib.sha256()
        with self.open() as stream, self._telling("cannot be read"):
            while block := stream.read(BLOCK):
                digest.update(block)
        return digest.digest()

    def on_disk(self) -> Path:
        """Return a path of this process with the same bytes, good as long as this place.

        What is not on this machine is copied to memory that has no name: a process that is killed leaves
        nothing in clear behind.
        """
        if self.local is not None:
            return self.local
        if not hasattr(self, "_copy"):
            copy = os.fdopen(os.memfd_create("source"), "wb")
            weakref.finalize(self, copy.close)
            with self.open() as stream, self._telling("cannot be read"):
                shutil.copyfileobj(stream, copy, BLOCK)
                copy.flush()
            self._copy = copy
        return Path(f"/proc/self/fd/{self._copy.fileno()}")


class Unpacked(io.RawIOBase):
    """Bytes of a file after decompression, counted: what unpacks out of all proportion is refused.

    Parameters
    ----------
    place : Place
        The file; the ending of its name says how it is compressed (gz, bz2, xz, zst, zip with one member).
    tick : callable
        Told how many stored bytes were read, each time.
    """

    def __init__(self, place: Place, tick: Callable[[int], object]) -> None:
        super().__init__()
        self._place = place
        self._stored = _Counted(place.open(), tick)
        self._size = place.size
        self._given = 0
        try:
            self._inner = self._opened(place.suffixes[1])
        except SourceError:
            self._stored.close()
            raise

    def _opened(self, packed: str) -> Any:
        with self._telling():
            if packed == ".gz":
                return gzip.GzipFile(fileobj=cast("IO[bytes]", self._stored), mode="rb")
            if packed == ".bz2":
                return bz2.BZ2File(cast("IO[bytes]", self._stored))
            if packed == ".xz":
                return io.BufferedReader(_Xz(self._stored, self._place.shown))
            if packed == ".zst":
                import pyarrow

                # Arrow notices when a stream ends within a frame; windows above 128 MiB are refused
                return pyarrow.CompressedInputStream(pyarrow.PythonFile(self._stored, "r"), "zstd")
            if packed == ".zip":
                archive = zipfile.ZipFile(cast("IO[bytes]", self._stored))
                members = [one for one in archive.infolist() if not one.is_dir()]
                if len(members) != 1:
                    raise SourceError(
                        f"{self._place.shown} holds {len(members)} files; expected one table",
                        hint="name one of them: zip://<member>::<path of the zip file>",
                    )
                return archive.open(members[0])
        return self._stored

    @contextmanager
    def _telling(self) -> Iterator[None]:
        words = ""
        try:
            yield
        except (SourceError, MemoryError):
            raise
        except Exception as error:  # noqa: BLE001  (every decompressor raises its own)
            words = write_up(error, self._place._secrets)
        if words:
            raise SourceError(
                f"{self._place.shown} cannot be unpacked after {self._given:,} bytes: {words}",
                hint="the file is damaged or not what its ending says: fetch it again, or rename it",
            ) from None

    def readable(self) -> bool:
        """Return True."""
        return True

    def read(self, size: int = BLOCK) -> bytes:
        """Return up to ``size`` bytes, and none at the end."""
        with self._telling():
            block = bytes(self._inner.read(size))
        self._given += len(block)
        if self._inner is not self._stored:
            # a zip file is read from its end first: there the size as stored is what counts
            _bounded(self._given, max(self._stored.count, self._size or 0), self._place.shown)
        return block

    def close(self) -> None:
        """Close the file."""
        if not self.closed:
            self._stored.close()
        super().close()


class _Counted(io.RawIOBase):
    """A stream that tells how many bytes were read from it."""

    def __init__(self, stream: IO[bytes], tick: Callable[[int], object]) -> None:
        super().__init__()
        self._stream, self._tick, self.count = stream, tick, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return self._stream.seekable()

    def seek(self, offset: int, whence: int = 0) -> int:
        return self._stream.seek(offset, whence)

    def tell(self) -> int:
        return self._stream.tell()

    def read(self, size: int = -1) -> bytes:
        block = self._stream.read(size)
        self.count += len(block)
        self._tick(len(block))
        return block

    def readinto(self, buffer: Any) -> int:
        block = self.read(len(buffer))
        buffer[: len(block)] = block
        return len(block)

    def close(self) -> None:
        if not self.closed:
            self._stream.close()
        super().close()


class _Xz(io.RawIOBase):
    """An xz stream that may not ask for more than `XZ_MEMORY` (the format allows four gigabytes)."""

    def __init__(self, stream: _Counted, shown: str) -> None:
        super().__init__()
        self._shown = shown
        self._stream, self._lzma = stream, lzma.LZMADecompressor(memlimit=XZ_MEMORY)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        block = b""
        while not block:
            if self._lzma.eof:
                rest = self._lzma.unused_data.lstrip(b"\0") or self._stream.read(BLOCK)
                if not rest:
                    return 0
                self._lzma = lzma.LZMADecompressor(memlimit=XZ_MEMORY)
            else:
                rest = self._stream.read(BLOCK) if self._lzma.needs_input else b""
                if not rest and self._lzma.needs_input:
                    raise SourceError(f"{self._shown} ends within its xz stream", hint="fetch the file again")
            block = self._lzma.decompress(rest, len(buffer))
        buffer[: len(block)] = block
        return len(block)


def checked_zip(stream: IO[bytes], shown: str) -> None:
    """Refuse a zip file whose directory says that it unpacks out of all proportion.

    Raises
    ------
    SourceError
        If it is not a zip file, or unpacks to more than `RATIO` times its size and `UNPACKED_FLOOR`.
    """
    try:
        archive = zipfile.ZipFile(stream)
    except Exception as error:  # noqa: BLE001  (a hostile directory raises many things)
        words = write_up(error)
    else:
        for member in archive.infolist():
            _bounded(member.file_size, member.compress_size, f"{shown} ({member.filename[:80]})")
        return
    raise SourceError(f"{shown} is not the archive that its ending says: {words}", hint="write it again")


def _bounded(unpacked: int, packed: int, shown: str) -> None:
    if unpacked > max(UNPACKED_FLOOR, RATIO * packed):
        raise SourceError(
            f"{shown} unpacks from {packed:,} bytes to {unpacked:,} or more; at most {RATIO} times is read",
            hint="unpack it yourself if you trust it, and pass the unpacked file",
        )


def _user(netloc: str) -> str:
    return netloc.rpartition("@")[0]


def _shown(url: str) -> str:
    """Return a URL without user, password, query and fragment."""
    if "://" not in url:
        return url
    one = urlsplit(url)
    return f"{one.scheme}://{one.netloc.rpartition('@')[2]}{one.path}"


class FileSource(DataSource):
    """Rows of one file: its size and its hash are those of the bytes as stored, however they are read.

    Parameters
    ----------
    place : Place
        The file.
    rows : int
        Most rows of a chunk.
    """

    def __init__(self, place: Place, rows: int) -> None:
        super().__init__(place.shown, rows)
        self._place = place

    @property
    def n_bytes(self) -> int | None:
        """Size of the file."""
        return self._place.size

    def fingerprint(self) -> bytes:
        """Return the SHA-256 of the file; delimiter, sheet and dtypes are not in it."""
        return self._place.sha256()
