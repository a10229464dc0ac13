"""Says what an object consists of, in a form that its root alone can check.

A manifest is canonical JSON: size, root, CID, the 0G root of each slice and the SHA-256 of each slice. The
slices' roots must hash to the object's root, their SHA-256 to the CID; whoever holds the root believes a
manifest for nothing else. It is matched as text and not parsed, so that a hostile one costs no more than its
length.

0G fills objects up with zeros: objects that differ only in zeros at their end can have the same root. The CID
tells them apart, and so does the size.
"""

import hashlib
import re
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Final

from tqdm.auto import tqdm

from twopm_kit.errors import StoreError
from twopm_kit.vsies.storage.cid import file_cid
from twopm_kit.vsies.storage.entries import (
    LARGEST,
    SLICE,
    read_slices,
    size_of,
    slice_root,
    slice_sizes,
    top,
)

__all__ = ["LARGEST_MANIFEST", "Manifest"]

_FORMAT = "twopm/vsies/v1/object"
_SHAPE = re.compile(
    rb'\{"cid":"(b[a-z2-7]{58})","format":"%b","leaves":"((?:[0-9a-f]{64})+)","root":"(0x[0-9a-f]{64})",'
    rb'"segments":"((?:[0-9a-f]{64})+)","size":([1-9][0-9]{0,15})\}' % _FORMAT.encode()
)
LARGEST_MANIFEST: Final = 512 + 128 * (LARGEST // SLICE)
"""Bytes of the manifest of the largest object."""


@dataclass(frozen=True)
class Manifest:
    """What an object consists of.

    Attributes
    ----------
    size : int
        Bytes of the object.
    segments : tuple of bytes
        0G root of each slice that holds data, 32 bytes each.
    leaves : tuple of bytes
        SHA-256 of each slice.
    """

    size: int
    segments: tuple[bytes, ...]
    leaves: tuple[bytes, ...]

    @classmethod
    def of(cls, data: bytes | Path, *, progress: bool = False) -> "Manifest":
        """Read an object once and hash each slice.

        Parameters
        ----------
        data : bytes or Path
            The object, or the file that it is in.
        progress : bool
            Whether to show a bar.

        Raises
        ------
        StoreError
            If the object is empty or too large, or its file cannot be read or changes meanwhile.
        """
        size = size_of(data)
        entries = slice_sizes(size)
        segments, leaves, read = [], [], 0
        with tqdm(
            total=size, desc="hash", unit="B", unit_scale=True, leave=False, disable=not progress
        ) as bar:
            for held, part in zip(entries, read_slices(data), strict=False):
                segments.append(slice_root(part, held))
                leaves.append(hashlib.sha256(part).digest())
                read += len(part)
                bar.update(len(part))
        if read != size:
            raise StoreError(
                f"the file had {size:,} bytes, and {read:,} when it was read",
                hint="store a file that nobody writes to",
            )
        return cls(size, tuple(segments), tuple(leaves))

    @classmethod
    def from_json(cls, content: bytes, root: str) -> "Manifest":
        """Read what somebody else wrote, and believe nothing that the root does not say.

        Parameters
        ----------
        content : bytes
            The manifest.
        root : str
            The root that the reader trusts.

        Raises
        ------
        StoreError
            If the manifest is not of this form, or not that of the object under this root.
        """
        found = _SHAPE.fullmatch(content)
        if found is None:
            raise _changed(root, "it is not of the form that the kit writes")
        cid, leaves, claimed, segments, size = (group.decode() for group in found.groups())
        manifest = cls(int(size), _split(segments), _split(leaves))
        count = -(-manifest.size // SLICE)
        if manifest.size > LARGEST or {len(manifest.segments), len(manifest.leaves)} != {count}:
            raise _changed(root, "its size does not fit its number of slices")
        if claimed != root or manifest.root != root:
            raise _changed(root, "its slices hash to another root")
        if manifest.cid != cid:
            raise _changed(root, "its slices hash to another CID")
        return manifest

    def to_json(self) -> bytes:
        """Write the canonical form: sorted names, no spaces, digests one behind the other."""
        leaves, segments = b"".join(self.leaves).hex(), b"".join(self.segments).hex()
        return (
            f'{{"cid":"{self.cid}","format":"{_FORMAT}","leaves":"{leaves}","root":"{self.root}",'
            f'"segments":"{segments}","size":{self.size}}}'
        ).encode()

    @cached_property
    def entries(self) -> list[int]:
        """Entries of each slice, those of zeros included."""
        return slice_sizes(self.size)

    @cached_property
    def all_segments(self) -> tuple[bytes, ...]:
        """Roots of all slices, with those that 0G adds as zeros."""
        added = self.entries[len(self.segments) :]
        return self.segments + tuple(slice_root(b"", entries) for entries in added)

    @cached_property
    def root(self) -> str:
        """The object's 0G root, ``0x…``."""
        return f"0x{top(self.all_segments).hex()}"

    @cached_property
    def cid(self) -> str:
        """The object's CID."""
        return file_cid(self.leaves, self.size)

    @cached_property
    def _found(self) -> dict[bytes, int]:
        """Where each SHA-256 comes first: a search for each bad slice would take the square of the time."""
        return {leaf: index for index, leaf in reversed(list(enumerate(self.leaves)))}

    def fault(self, index: int, held: bytes | None) -> str:
        """Say what is wrong with a slice: missing, reordered, truncated, too long, corrupted; or nothing.

        Parameters
        ----------
        index : int
            Which slice.
        held : bytes or None
            What a store gave for it.
        """
        if held is None:
            return "missing"
        expected = self.length(index)
        digest = hashlib.sha256(held).digest()
        if len(held) == expected and slice_root(held, self.entries[index]) == self.segments[index]:
            return "" if digest == self.leaves[index] else "named with another SHA-256 by the manifest"
        if digest != self.leaves[index] and (other := self._found.get(digest)) is not None:
            return f"reordered: slice {other} stands in its place"
        if len(held) < expected:
            return f"truncated: {len(held):,} of {expected:,} bytes"
        if len(held) > expected:
            return f"too long: more than {expected:,} bytes"
        return "corrupted: its bytes are not those of the object"

    def length(self, index: int) -> int:
        """Bytes of a slice."""
        return min(SLICE, self.size - index * SLICE)


def _split(digits: str) -> tuple[bytes, ...]:
    joined = bytes.fromhex(digits)
    return tuple(joined[at : at + 32] for at in range(0, len(joined), 32))


def _changed(root: str, why: str) -> StoreError:
    return StoreError(
        f"the manifest of {root} was changed: {why}",
        hint="put the object again, or fetch it from another store",
    )
