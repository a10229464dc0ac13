"""Keeps objects under their root: whole or not at all, slice by slice, and checked whenever they are read.

An object lies in a folder named by its root, as slices of 262,144 bytes and a manifest that is written last.
Nothing that is read is believed: the manifest must hash to the root, each slice to the manifest.
"""

import hashlib
import operator
import os
import secrets
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, SupportsIndex

from tqdm.auto import tqdm

from twopm_kit.errors import StoreError
from twopm_kit.vsies.storage.car import read_car, write_car
from twopm_kit.vsies.storage.cid import content_id, file_nodes
from twopm_kit.vsies.storage.entries import SLICE, branch, parse_root, read_slices, size_of
from twopm_kit.vsies.storage.manifest import LARGEST_MANIFEST, Manifest
from twopm_kit.vsies.storage.places import MANIFEST, open_place
from twopm_kit.vsies.storage.proof import SliceProof

__all__ = ["Store", "StoredObject"]

_AGAIN = "put the object again: only the slices that are wrong are written"
_SHOWN = 8


@dataclass(frozen=True)
class StoredObject:
    """An object in a store.

    Attributes
    ----------
    root : str
        0G root, ``0x…``; the object's address.
    cid : str
        IPFS CIDv1.
    size : int
        Bytes.
    url : str
        Where it lies, without credentials.
    """

    root: str
    cid: str
    size: int
    url: str = ""


class Store:
    """Content-addressed storage over any place.

    Wherever a root is asked for, a `StoredObject` may be passed instead: then size and CID must also fit,
    which tells apart what 0G's roots do not, objects that differ in zeros at their end.

    Parameters
    ----------
    url : str or Path, optional
        A folder, ``file:///folder``, ``memory://name``, ``s3://bucket/prefix``, ``ipfs+http://host:port``, or
        what else fsspec knows; memory of its own if not given.

    Raises
    ------
    StoreError
        If no back end knows the URL.

    Examples
    --------
    >>> store = Store()
    >>> stored = store.put(b"what many nodes need")
    >>> store.get(stored.root, 5, 4)
    b'many'
    """

    def __init__(self, url: str | Path | None = None) -> None:
        self._place = open_place(url)

    def __repr__(self) -> str:
        return f"Store({self.url})"

    @property
    def url(self) -> str:
        """Where the store is, without credentials."""
        return self._place.url

    def __contains__(self, root: object) -> bool:
        """Tell whether an object is there whole; what its slices hold is for `verify`."""
        if not isinstance(root, str | StoredObject):
            return False
        content = self._read_manifest(_address(root), LARGEST_MANIFEST)
        return content is not None and _believed(content, root) is not None

    def put(self, data: bytes | Path, *, progress: bool = False) -> StoredObject:
        """Store an object slice by slice.

        Slices that are there and right are not written again, so a put that was interrupted goes on where it
        was. Several writers may put the same object at once.

        Parameters
        ----------
        data : bytes or Path
            The object, at least one byte, or the file that it is in.
        progress : bool
            Whether to show bars.

        Returns
        -------
        StoredObject
            Its root, CID and size.

        Raises
        ------
        StoreError
            If the object is empty or too large, the file changes meanwhile, the place refuses, or it holds
            another object of the same root.
        """
        manifest = Manifest.of(data, progress=progress)
        content = manifest.to_json()
        held = self._read_manifest(manifest.root, len(content))
        if held is not None and held != content:
            self._refuse_twin(manifest.root)
        with _bar("put", manifest.size, progress) as bar:
            for index, part in enumerate(read_slices(data)):
                digest = hashlib.sha256(part).digest()
                if index >= len(manifest.leaves) or digest != manifest.leaves[index]:
                    raise StoreError(
                        f"slice {index} of the file changed while it was stored",
                        hint="store a file that nobody writes to",
                    )
                name = _name(manifest.root, index)
                if self._place.read(name, len(part), digest, near=True) != part:
                    self._place.write(name, part, digest)
                bar.update(len(part))
        if held != content:
            nodes = file_nodes(manifest.leaves, manifest.size)
            self._place.publish(f"{manifest.root}/{MANIFEST}", content, nodes)
        return StoredObject(manifest.root, manifest.cid, manifest.size, f"{self.url}/{manifest.root}")

    def stat(self, root: str | StoredObject) -> StoredObject:
        """Look up CID and size of an object.

        Raises
        ------
        StoreError
            If it is not there, or its manifest was changed.
        """
        manifest = self._manifest(root)
        return StoredObject(manifest.root, manifest.cid, manifest.size, f"{self.url}/{manifest.root}")

    def get(self, root: str | StoredObject, start: int = 0, length: int | None = None) -> bytes:
        """Read an object or a part of it; only slices that the part touches are read, and each is checked.

        Parameters
        ----------
        root : str or StoredObject
            Its address.
        start : int
            First byte.
        length : int, optional
            How many bytes; all that follow if not given.

        Raises
        ------
        StoreError
            If the object is not there or has no such bytes, or what is read is not what the root says.
        """
        manifest = self._manifest(root)
        start, length = _whole("start", start), None if length is None else _whole("length", length)
        end = manifest.size if length is None else start + length
        if not 0 <= start <= end <= manifest.size:
            raise StoreError(
                f"the object has {manifest.size:,} bytes, none from {start:,} to {end:,}",
                hint="ask for a part that lies within the object",
            )
        if start == end:
            return b""
        first = start // SLICE
        parts = [self._slice(manifest, index) for index in range(first, -(-end // SLICE))]
        return b"".join(parts)[start - first * SLICE : end - first * SLICE]

    def fetch(self, root: str | StoredObject, path: Path, *, progress: bool = False) -> Path:
        """Read an object to a file.

        What is read grows in a hidden file beside it, which a later fetch goes on with; the path itself
        appears only when every byte is there and right.

        Parameters
        ----------
        root : str or StoredObject
            Its address.
        path : Path
            The file; another one that is there is replaced.
        progress : bool
            Whether to show a bar.

        Returns
        -------
        Path
            The same path.

        Raises
        ------
        StoreError
            If the object is not there, is not what the root says, or the file cannot be written.
        """
        manifest = self._manifest(root)
        path = _path(path)
        if _holds(path, manifest):
            return path
        draft = path.with_name(f".{path.name}.{manifest.root[2:18]}.part")
        try:
            with (
                os.fdopen(os.open(draft, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o666), "r+b") as file,
                _bar("fetch", manifest.size, progress) as bar,
            ):
                for index in range(len(manifest.leaves)):
                    self._fill(manifest, index, file)
                    bar.update(manifest.length(index))
                file.truncate(manifest.size)
            _replace(draft, path)
        except OSError as cause:
            raise StoreError(
                f"{path} cannot be written: {cause.strerror}",
                hint="check folder, rights and free space, and fetch again: it goes on where it was",
            ) from None
        return path

    def prove(self, root: str | StoredObject, slice_index: int) -> SliceProof:
        """Make the proof that a slice belongs to an object.

        Parameters
        ----------
        root : str or StoredObject
            The object's address.
        slice_index : int
            Which slice.

        Raises
        ------
        StoreError
            If there is no such object or slice, or it is not what the root says.
        """
        manifest = self._manifest(root)
        slice_index = _whole("slice_index", slice_index)
        if not 0 <= slice_index < len(manifest.leaves):
            raise StoreError(
                f"the object has {len(manifest.leaves):,} slices, none of number {slice_index:,}",
                hint="count from 0",
            )
        data = self._slice(manifest, slice_index)
        return SliceProof(slice_index, manifest.size, data, branch(manifest.all_segments, slice_index))

    def verify(self, root: str | StoredObject, *, progress: bool = False) -> None:
        """Read the whole object and check every slice of it.

        Raises
        ------
        StoreError
            If it is not there or was changed: names each slice (up to eight) and its fault, which is missing,
            truncated, too long, reordered or corrupted.
        """
        manifest = self._manifest(root)
        faults = []
        with _bar("verify", manifest.size, progress) as bar:
            for index in range(len(manifest.leaves)):
                if fault := manifest.fault(index, self._read(manifest, index)):
                    faults.append(f"slice {index} is {fault}")
                bar.update(manifest.length(index))
        if faults:
            more = [f"{len(faults) - _SHOWN:,} more"] if len(faults) > _SHOWN else []
            raise StoreError(f"{manifest.root}: {'; '.join(faults[:_SHOWN] + more)}", hint=_AGAIN)

    def export_car(self, root: str | StoredObject, path: Path) -> Path:
        """Write an object as CARv1, the file that every IPFS node takes; its root is the object's CID.

        Parameters
        ----------
        root : str or StoredObject
            The object's address.
        path : Path
            The file; it appears when it is complete.

        Raises
        ------
        StoreError
            If the object is not there or not what the root says, or the file cannot be written.
        """
        manifest, path = self._manifest(root), _path(path)
        with _drafted(path) as file:
            write_car(manifest, lambda index: self._slice(manifest, index), file)
        return path

    def import_car(self, path: Path, *, progress: bool = False) -> StoredObject:
        """Store the object of a CARv1 that was written depth first, as this store and IPFS tools do.

        Parameters
        ----------
        path : Path
            The CAR.
        progress : bool
            Whether to show bars.

        Raises
        ------
        StoreError
            If the file is no such CAR, was changed, or holds another form of file than `content_id` names.
        """
        path = _path(path)
        with tempfile.TemporaryDirectory() as folder:
            whole = Path(folder) / "object"
            try:
                with path.open("rb") as car, whole.open("wb") as file:
                    cid = read_car(car, file)
            except OSError as cause:
                raise StoreError(
                    f"{path} cannot be read: {cause.strerror}", hint="check the path and its permissions"
                ) from None
            # the same bytes in the same form: only then was the CAR's root that of a file cut as here
            if (found := content_id(whole)) != cid:
                raise StoreError(
                    f"the CAR holds {cid}, and its bytes make {found}",
                    hint="add the file with raw leaves, chunks of 262144 bytes and CID version 1",
                )
            return self.put(whole, progress=progress)

    def _read_manifest(self, root: str, most: int) -> bytes | None:
        return self._place.read(f"{root}/{MANIFEST}", most)

    def _manifest(self, root: str | StoredObject) -> Manifest:
        address = _address(root)
        content = self._read_manifest(address, LARGEST_MANIFEST)
        if content is None:
            raise StoreError(
                f"{self.url} has no object {address}",
                hint="check root and store, or wait until its owner has put it there",
            )
        manifest = Manifest.from_json(content, address)
        if isinstance(root, StoredObject) and (manifest.cid, manifest.size) != (root.cid, root.size):
            raise StoreError(
                f"under {address} lie {manifest.size:,} bytes with CID {manifest.cid}, "
                f"not {root.size:,} bytes with CID {root.cid}",
                hint="refuse it: another object of the same root was put in its place",
            )
        return manifest

    def _refuse_twin(self, root: str) -> None:
        """Refuse to overwrite a sound manifest of another object; one that is broken may be mended."""
        content = self._read_manifest(root, LARGEST_MANIFEST)
        if content is not None and (other := _believed(content, root)):
            raise StoreError(
                f"{root} already holds {other.size:,} bytes that differ from these in zeros at the end only",
                hint="let objects end in a byte that is not zero: 0G's root does not count zeros there",
            )

    def _read(self, manifest: Manifest, index: int) -> bytes | None:
        return self._place.read(_name(manifest.root, index), SLICE, manifest.leaves[index])

    def _slice(self, manifest: Manifest, index: int) -> bytes:
        held = self._read(manifest, index)
        if fault := manifest.fault(index, held):
            raise StoreError(f"{manifest.root}: slice {index} is {fault}", hint=_AGAIN)
        return held or b""

    def _fill(self, manifest: Manifest, index: int, file: IO[bytes]) -> None:
        """Bring one slice of a file in order, reading it only if it is not."""
        file.seek(index * SLICE)
        if manifest.fault(index, file.read(manifest.length(index))):
            data = self._slice(manifest, index)
            file.seek(index * SLICE)
            file.write(data)


def _whole(name: str, number: Any) -> int:
    """Return a whole number, numpy's too, or refuse it."""
    if not isinstance(number, SupportsIndex) or isinstance(number, bool):
        raise StoreError(
            f"{name} is a {type(number).__name__}; expected a whole number", hint=f"pass {name} as an int"
        )
    return operator.index(number)


def _path(path: Any) -> Path:
    if not isinstance(path, str | Path) or not str(path):
        raise StoreError(
            f"a {type(path).__name__} was passed; expected the path of a file", hint='pass Path("file.bin")'
        )
    return Path(path).expanduser()


def _holds(path: Path, manifest: Manifest) -> bool:
    """Tell whether a file is the object already."""
    if not path.is_file() or size_of(path) != manifest.size:
        return False
    return not any(manifest.fault(index, part) for index, part in enumerate(read_slices(path)))


def _address(root: str | StoredObject) -> str:
    return f"0x{parse_root(root.root if isinstance(root, StoredObject) else root).hex()}"


def _believed(content: bytes, root: str | StoredObject) -> Manifest | None:
    """Read a manifest; None if it is not that of the root."""
    try:
        manifest = Manifest.from_json(content, _address(root))
    except StoreError:
        return None
    if isinstance(root, StoredObject) and (manifest.cid, manifest.size) != (root.cid, root.size):
        return None
    return manifest


def _name(root: str, index: int) -> str:
    return f"{root}/{index:06d}"


@contextmanager
def _drafted(path: Path) -> Iterator[IO[bytes]]:
    """Open a file that shows under its name when it is complete; nothing is left of it after an error."""
    draft = path.with_name(f".{path.name}.{secrets.token_hex(8)}.part")
    try:
        with draft.open("xb") as file:
            yield file
        draft.replace(path)
    except OSError as cause:
        raise StoreError(
            f"{path} cannot be written: {cause.strerror}", hint="check folder, rights and free space"
        ) from None
    finally:
        draft.unlink(missing_ok=True)


def _replace(draft: Path, path: Path) -> None:
    """Show a finished file; another fetch of the same object may have done so already."""
    try:
        draft.replace(path)
    except FileNotFoundError:
        if not path.is_file():
            raise


@contextmanager
def _bar(what: str, size: int, progress: bool) -> Iterator["tqdm[Any]"]:
    bar: tqdm[Any]
    with tqdm(total=size, desc=what, unit="B", unit_scale=True, leave=False, disable=not progress) as bar:
        yield bar
