"""The ``.ct`` container: a strict header and hashed, indexed chunks of ciphertext, without a single pickle.

Layout, little-endian::

    magic 8 | version u16 | chunk count u32 | header length u32 | root 32
    header  JSON, UTF-8, canonical (sorted keys, no spaces)
    index   for each chunk: length u32 | sha256 leaf 32
    chunks  one after the other

Leaf 0 of the Merkle tree is the header, leaf i + 1 is chunk i; leaves and inner nodes are hashed under
different prefixes and a leaf carries its position, so neither a chunk nor its place can be changed without
changing the root. The root says *which* bytes these are. It does not say who made them: compare it with the
root that the maker published.
"""

import hashlib
import json
import math
import struct
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

from twopm_kit.errors import CiphertextError, DataError
from twopm_kit.untrusted import load_json

__all__ = ["ColumnHeader", "FrameHeader", "merkle_root", "pack", "unpack"]

MAGIC: Final = b"2PM.ct\r\n"
VERSION: Final = 1
_PREFIX: Final = struct.Struct("<8sHII32s")
_ENTRY: Final = struct.Struct("<I32s")

MAX_HEADER: Final = 4 << 20
MAX_COLUMNS: Final = 20_000
MAX_ROWS: Final = 1 << 31
MAX_CHUNKS: Final = 1 << 20
MAX_NAME: Final = 200

_LAYOUTS: Final = ("columns",)
_PACKINGS: Final = ("real", "complex")
_SOURCES: Final = ("frame", "array")

_AGAIN: Final = "get the file again from where it was made"


@dataclass(frozen=True, slots=True)
class ColumnHeader:
    """What everybody may know of a column.

    Parameters
    ----------
    name : str
        Column name.
    bound : float
        Public upper limit of the absolute values.
    scale : float
        Exact scale of its ciphertexts.
    noise : float
        Estimated standard deviation of the noise in a coefficient.
    """

    name: str
    bound: float
    scale: float
    noise: float


@dataclass(frozen=True, slots=True)
class FrameHeader:
    """What everybody may know of an encrypted frame.

    Parameters
    ----------
    profile, params : str
        Name of the profile and hash of its parameters.
    fingerprint : str
        Which key it is encrypted under.
    layout, packing : str
        Where rows sit: "columns" is one feature a ciphertext; "complex" puts two rows into a slot.
    source : str
        "frame" or "array": what decryption gives back.
    rows, level : int
        Number of rows, and how often a product can still be rescaled.
    columns : tuple of ColumnHeader
        In order.
    """

    profile: str
    params: str
    fingerprint: str
    layout: str
    packing: str
    source: str
    rows: int
    level: int
    columns: tuple[ColumnHeader, ...]

    def to_json(self) -> bytes:
        """Canonical bytes."""
        return json.dumps(asdict(self), sort_keys=True, separators=(",", ":"), ensure_ascii=True).encode()


def _leaf(position: int, content: bytes) -> bytes:
    return hashlib.sha256(b"\x00" + struct.pack("<I", position) + content).digest()


def merkle_root(leaves: Sequence[bytes]) -> bytes:
    """Root of a binary Merkle tree over 32-byte leaves (SHA-256; an odd last node moves up unchanged)."""
    row = list(leaves)
    while len(row) > 1:
        paired = [hashlib.sha256(b"\x01" + a + b).digest() for a, b in zip(row[::2], row[1::2], strict=False)]
        row = paired + ([row[-1]] if len(row) % 2 else [])
    return row[0]


def pack(header: FrameHeader, chunks: Iterable[bytes]) -> bytes:
    """Container bytes of a header and its chunks."""
    text = header.to_json()
    bodies = list(chunks)
    leaves = [_leaf(0, text), *(_leaf(i + 1, body) for i, body in enumerate(bodies))]
    index = b"".join(_ENTRY.pack(len(body), leaf) for body, leaf in zip(bodies, leaves[1:], strict=True))
    prefix = _PREFIX.pack(MAGIC, VERSION, len(bodies), len(text), merkle_root(leaves))
    return b"".join((prefix, text, index, *bodies))


def unpack(content: bytes) -> tuple[FrameHeader, list[bytes], bytes]:
    """Header, chunks and root of container bytes; every byte is accounted for.

    Parameters
    ----------
    content : bytes
        From anybody.

    Returns
    -------
    tuple
        The header, the chunks in order, the 32-byte root.

    Raises
    ------
    CiphertextError
        Another format or version, cut short, changed, or beyond the limits.
    """
    if len(content) < _PREFIX.size:
        raise CiphertextError(
            f"the container has {len(content)} bytes; its fixed part alone has {_PREFIX.size}", hint=_AGAIN
        )
    magic, version, count, header_size, root = _PREFIX.unpack_from(content)
    if magic != MAGIC:
        raise CiphertextError(
            "these bytes are not a ciphertext container: they do not begin with its mark",
            hint="pass bytes that EncryptedFrame.to_bytes() made, or a path that .save() wrote",
        )
    if version != VERSION:
        raise CiphertextError(
            f"the container has format version {version}; this kit reads version {VERSION}",
            hint="write it again with this version of the kit, or read it with the version that wrote it",
        )
    if header_size > MAX_HEADER or count > MAX_CHUNKS:
        raise CiphertextError(
            f"the container announces {count} chunks and a header of {header_size} bytes; limits are "
            f"{MAX_CHUNKS} and {MAX_HEADER}",
            hint=_AGAIN,
        )
    start = _PREFIX.size + header_size
    body = start + count * _ENTRY.size
    if len(content) < body:
        raise CiphertextError(
            f"the container is cut short: {len(content)} bytes, header and index need {body}", hint=_AGAIN
        )
    text = content[_PREFIX.size : start]
    entries = [_ENTRY.unpack_from(content, start + i * _ENTRY.size) for i in range(count)]
    total = body + sum(size for size, _ in entries)
    if len(content) != total:
        kind = "cut short" if len(content) < total else "followed by something else"
        raise CiphertextError(f"the container is {kind}: {len(content)} bytes, expected {total}", hint=_AGAIN)
    leaves = [_leaf(0, text), *(leaf for _, leaf in entries)]
    if merkle_root(leaves) != root:
        raise CiphertextError(
            "the container was changed: its header or index does not match its root", hint=_AGAIN
        )
    chunks, at = [], body
    for i, (size, leaf) in enumerate(entries):
        chunk = content[at : at + size]
        if _leaf(i + 1, chunk) != leaf:
            raise CiphertextError(
                f"the container was changed: chunk {i} does not match its hash", hint=_AGAIN
            )
        chunks.append(chunk)
        at += size
    return _parse_header(text), chunks, root


def _bad(field: str, value: object, expected: str) -> CiphertextError:
    return CiphertextError(
        f"the container's header says {field} = {str(value)[:80]!r}; expected {expected}", hint=_AGAIN
    )


def _parse_header(text: bytes) -> FrameHeader:
    try:
        raw = load_json(text)
    except DataError:
        raise CiphertextError("the container's header is not JSON", hint=_AGAIN) from None
    fields = FrameHeader.__dataclass_fields__
    if not isinstance(raw, dict) or set(raw) != set(fields):
        found = sorted(raw) if isinstance(raw, dict) else type(raw).__name__
        raise _bad("fields", found, ", ".join(sorted(fields)))
    for name, allowed in (("layout", _LAYOUTS), ("packing", _PACKINGS), ("source", _SOURCES)):
        if raw[name] not in allowed:
            raise _bad(name, raw[name], f"one of {', '.join(allowed)}")
    for name, size in (("params", 64), ("fingerprint", 32)):
        if not _is_hex(raw[name], size):
            raise _bad(name, raw[name], f"{size} hex digits")
    if not isinstance(raw["profile"], str) or not 0 < len(raw["profile"]) <= MAX_NAME:
        raise _bad("profile", raw["profile"], "a profile name")
    for name, low, high in (("rows", 1, MAX_ROWS), ("level", 0, 64)):
        if type(raw[name]) is not int or not low <= raw[name] <= high:
            raise _bad(name, raw[name], f"a whole number from {low} to {high}")
    header = FrameHeader(**{**raw, "columns": _parse_columns(raw["columns"])})
    if header.to_json() != text:
        raise CiphertextError("the container's header is not in canonical form", hint=_AGAIN)
    return header


def _parse_columns(raw: Any) -> tuple[ColumnHeader, ...]:
    if not isinstance(raw, list) or not 0 < len(raw) <= MAX_COLUMNS:
        raise _bad("columns", raw, f"a list of 1 to {MAX_COLUMNS} columns")
    return tuple(_parse_column(column) for column in raw) if _unique_names(raw) else ()


def _unique_names(raw: list[Any]) -> bool:
    names = [column.get("name") if isinstance(column, Mapping) else None for column in raw]
    if any(not isinstance(name, str) or len(name) > MAX_NAME for name in names) or len(set(names)) != len(
        names
    ):
        raise _bad("column names", names, f"different strings of at most {MAX_NAME} characters")
    return True


def _parse_column(raw: dict[str, Any]) -> ColumnHeader:
    if set(raw) != set(ColumnHeader.__dataclass_fields__):
        raise _bad("column", sorted(map(str, raw)), "name, bound, scale, noise")
    for name, low, high in (("bound", 0.0, 2.0**100), ("scale", 1.0, 2.0**200), ("noise", 1.0, 2.0**200)):
        value = raw[name]
        if type(value) is not float or not math.isfinite(value) or not low <= value <= high:
            raise _bad(f"{name} of column {raw['name']}", value, f"a number from {low:g} to {high:g}")
    return ColumnHeader(**raw)


def _is_hex(value: object, size: int) -> bool:
    return isinstance(value, str) and len(value) == size and set(value) <= set("0123456789abcdef")
