"""Keeps objects in an IPFS node through Kubo's HTTP RPC, block by block.

A slice is a raw block under its CID, so that a node which gives other bytes is found out; above the slices
lie the nodes of the UnixFS file, so that every IPFS node finds the object under its CID. The manifest, which
leads from root to slices, is a file of the node that the object was put to (``/twopm/<root>`` in its MFS).
"""

import json
import weakref
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Final
from urllib.parse import urlsplit

import httpx

from twopm_kit.errors import StoreError
from twopm_kit.untrusted import load_json
from twopm_kit.vsies.storage.cid import RAW, Block, cid_bytes, cid_text

__all__ = ["IPFSPlace"]

_PATIENCE: Final = httpx.Timeout(60, connect=5)
_LONGEST_ANSWER: Final = 1 << 16
_CODECS: Final = {0x55: "raw", 0x70: "dag-pb"}
# Kubo's words, then those of older nodes, which ignore the first; Kubo refuses both at once
_DIALECTS: Final = (
    {"cid-codec": "", "mhtype": "sha2-256"},
    {"format": "", "mhtype": "sha2-256", "version": "1"},
)
_ABSENT = ("not found", "does not exist", "no link named", "could not find", "deadline", "timed out")
_CHECK = "check that the node runs, that this is its RPC address, and that it allows calls from here"


class IPFSPlace:
    """An IPFS node behind its RPC.

    Parameters
    ----------
    url : str
        ``http://host:port`` of the RPC, which is 127.0.0.1:5001 for Kubo.

    Raises
    ------
    StoreError
        If the address is none, or carries a user, a path, a query or a fragment.
    """

    def __init__(self, url: str) -> None:
        try:
            parts, address = urlsplit(url), httpx.URL(url)
            whole = bool(address.host) and parts.port != 0  # reading it also refuses one above 65535
        except (ValueError, httpx.InvalidURL):
            whole = False
        if not whole or address.userinfo or address.query or address.fragment or parts.path not in ("", "/"):
            raise StoreError(
                "the address of an IPFS node is ipfs+http://host:port and nothing else",
                hint="use ipfs+http://127.0.0.1:5001 for a node on this machine",
            )
        self.url = f"ipfs+{url.rstrip('/')}"
        self._dialects = list(_DIALECTS)
        # a node is reached directly: a proxy could only read along
        # bytes as they are: a compressed answer takes its full size in memory before it can be cut off
        self._client = httpx.Client(
            base_url=f"{url.rstrip('/')}/api/v0/",
            timeout=_PATIENCE,
            trust_env=False,
            headers={"Accept-Encoding": "identity"},
        )
        weakref.finalize(self, self._client.close)

    def __repr__(self) -> str:
        return f"IPFSPlace({self.url})"

    def read(self, name: str, most: int, digest: bytes = b"", *, near: bool = False) -> bytes | None:
        """Read a block by its digest, or else a file by its name, at most one byte more than asked.

        Parameters
        ----------
        name : str
            Name of the file; blocks need none.
        most : int
            Bytes expected at most.
        digest : bytes
            SHA-256 of the block.
        near : bool
            Whether to take only what the node itself holds.

        Returns
        -------
        bytes or None
            What the node gave, not checked; None if it has nothing, or finds nothing within a minute.

        Raises
        ------
        StoreError
            If the node does not answer or refuses.
        """
        if digest:
            command, asked = "block/get", {"arg": cid_text(cid_bytes(RAW, digest))}
            # nodes that know no "offline" stop searching by the time
            asked |= {"offline": "true", "timeout": "500ms"} if near else {"timeout": "50s"}
        else:
            command, asked = "files/read", {"arg": f"/twopm/{name}", "count": str(most + 1)}
        try:
            with self._call(command, asked) as answer:
                if answer.is_success:
                    return _bounded(answer, most + 1)
                said = _bounded(answer, _LONGEST_ANSWER).decode(errors="replace").lower()
        except httpx.ReadTimeout:
            return None
        if near or any(words in said for words in _ABSENT):
            return None
        raise StoreError(f"{self.url} refused {command}: status {answer.status_code}", hint=_CHECK)

    def write(self, name: str, data: bytes, digest: bytes) -> None:  # noqa: ARG002
        """Put a raw block.

        Raises
        ------
        StoreError
            If the node does not answer, refuses, or keeps it under another CID.
        """
        self._put(Block(cid_bytes(RAW, digest), data))

    def publish(self, name: str, manifest: bytes, nodes: Iterable[Block]) -> None:
        """Put the nodes above the slices, pin the root, and write the manifest last.

        Raises
        ------
        StoreError
            If the node does not answer or refuses.
        """
        for block in nodes:
            self._put(block)
        self._do("pin/add", {"arg": json.loads(manifest)["cid"], "recursive": "true"})
        written = {"arg": f"/twopm/{name}", "create": "true", "parents": "true", "truncate": "true"}
        self._do("files/write", written, manifest)

    def _put(self, block: Block) -> None:
        codec, expected = _CODECS[block.cid[1]], cid_text(block.cid)
        for asked in list(self._dialects):
            options = {name: value or codec for name, value in asked.items()}
            answer = load_json(self._do("block/put", options, block.data))
            if isinstance(answer, dict) and answer.get("Key") == expected:
                self._dialects = [asked]
                return
        raise StoreError(
            f"{self.url} keeps a block under another CID than {expected}", hint="use another node"
        )

    def _do(self, command: str, asked: Mapping[str, str], data: bytes | None = None) -> bytes:
        try:
            with self._call(command, asked, data) as answer:
                said = _bounded(answer, _LONGEST_ANSWER)
        except httpx.ReadTimeout:
            raise StoreError(f"{self.url} did not finish {command} in time", hint=_CHECK) from None
        if not answer.is_success:
            raise StoreError(f"{self.url} refused {command}: status {answer.status_code}", hint=_CHECK)
        return said

    @contextmanager
    def _call(
        self, command: str, asked: Mapping[str, str], data: bytes | None = None
    ) -> Iterator[httpx.Response]:
        files = None if data is None else {"data": ("data", data, "application/octet-stream")}
        try:
            with self._client.stream("POST", command, params=dict(asked), files=files) as answer:
                yield answer
        except httpx.ReadTimeout:
            raise
        except httpx.HTTPError as cause:
            raise StoreError(
                f"{self.url} did not answer {command}: {type(cause).__name__}", hint=_CHECK
            ) from None


def _bounded(answer: httpx.Response, most: int) -> bytes:
    """Body of an answer, cut off where it is longer than it may be."""
    body = bytearray()
    for part in answer.iter_raw():  # whatever coding the node claims is not undone
        body += part
        if len(body) >= most:
            break
    return bytes(body[:most])
