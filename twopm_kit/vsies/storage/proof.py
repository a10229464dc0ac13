"""Proves that a slice belongs to an object, in the form that 0G's nodes check."""

from base64 import b64encode
from dataclasses import dataclass
from typing import Any

from twopm_kit.errors import StoreError, TwoPMError
from twopm_kit.vsies.storage.entries import ENTRY, SLICE, climb, parse_root, slice_root, slice_sizes

__all__ = ["SliceProof"]


@dataclass(frozen=True)
class SliceProof:
    """A slice, and the way from it to the root of its object.

    Attributes
    ----------
    index : int
        Place of the slice in the object.
    size : int
        Bytes of the object.
    data : bytes
        The slice: 262,144 bytes, fewer for the last one.
    path : tuple of bytes
        Siblings of the slice's root bottom-up, 32 bytes each.
    """

    index: int
    size: int
    data: bytes
    path: tuple[bytes, ...]

    def __repr__(self) -> str:
        return f"SliceProof(slice {self.index} of {self.size:,} bytes, {len(self.path)} siblings)"

    def verify(self, root: str) -> bool:
        """Check the proof against a root that you trust.

        Parameters
        ----------
        root : str
            ``0x…``, the object's root.

        Returns
        -------
        bool
            Whether the slice stands at this place of that object. Zeros at an object's very end are not
            bound by 0G's root: take the size from where you take the root.

        Raises
        ------
        StoreError
            If the root is no text.
        """
        if not isinstance(root, str):
            raise StoreError(
                f"root is a {type(root).__name__}; expected a text", hint='pass stored.root: "0x…"'
            )
        try:
            trusted = parse_root(root)
            sizes = slice_sizes(self.size)
            expected = min(SLICE, self.size - self.index * SLICE)
            if not (0 <= self.index < len(sizes) and len(self.data) == expected):
                return False
            node = slice_root(self.data, sizes[self.index])
            return climb(node, self.index, len(sizes), self.path) == trusted
        except TwoPMError:
            return False

    def segment(self, root: str) -> dict[str, Any]:
        """Write the proof as the parameter of 0G's ``zgs_uploadSegment``.

        Parameters
        ----------
        root : str
            The object's root.

        Returns
        -------
        dict
            JSON of ``SegmentWithProof``: root, data (base64, whole entries), index, proof (lemma: the slice's
            root, siblings, root; path: whether each sibling stands on the right), fileSize.

        Raises
        ------
        StoreError
            If the root is none.
        """
        trusted = parse_root(root)
        sizes = slice_sizes(self.size)
        width, place, sides = len(sizes), self.index, []
        while width > 1:
            if place ^ 1 < width:
                sides.append(not place & 1)
            place, width = place // 2, (width + 1) // 2
        node = slice_root(self.data, sizes[self.index])
        lemma = [node, *self.path, trusted] if self.path else [node]
        whole = -(-len(self.data) // ENTRY) * ENTRY
        return {
            "root": root,
            "data": b64encode(self.data.ljust(whole, b"\0")).decode(),
            "index": self.index,
            "proof": {"lemma": [f"0x{one.hex()}" for one in lemma], "path": sides},
            "fileSize": self.size,
        }
