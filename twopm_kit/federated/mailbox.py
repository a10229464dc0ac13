"""Where parties leave messages for each other: any fsspec folder, never trusted.

The chain holds a commitment to every message, and the reader checks it; the mailbox only has to deliver.
"""

import uuid
from typing import Final

import fsspec

from twopm_kit.errors import StoreError
from twopm_kit.secagg import RoundContext, party_id

__all__ = ["Mailbox"]

_KIB, _MIB = 1 << 10, 1 << 20
MOST_BYTES: Final = {
    "shares": 512 * _KIB,  # 300 bytes a neighbour
    "vector": 64 * _MIB,  # 4 bytes a parameter, and commitments
    "openings": 256 * _KIB,  # 90 bytes a neighbour
    "sum": 64 * _MIB,
    "result": 256 * _MIB,
    "task": 256 * _MIB,
}
"""Largest message of each kind that is written or read."""


class Mailbox:
    """Messages of secure aggregation rounds under one folder.

    Parameters
    ----------
    url : str, optional
        Any fsspec URL: ``file:///somewhere`` for processes that share a disk; default: a fresh folder in
        this process's memory.

    Notes
    -----
    A round has ``"shares"``, ``"vector"`` and ``"openings"`` of every member, and the ``"sum"`` of who
    finishes it; a sealed round has a ``"result"`` for each member. A task's archive (``"task"``) lies in
    round 0.
    """

    def __init__(self, url: str | None = None) -> None:
        self.url = url or f"memory://twopm-{uuid.uuid4().hex}"
        self._fs, self._root = fsspec.core.url_to_fs(self.url)

    def __repr__(self) -> str:
        return f"Mailbox({self.url!r})"

    def put(self, context: RoundContext, kind: str, sender: str, payload: bytes) -> None:
        """Leave a message; it appears under its name only when it is whole.

        Parameters
        ----------
        context : RoundContext
            The round that the message belongs to.
        kind : str
            ``"shares"``, ``"vector"``, ``"openings"``, ``"sum"``, ``"result"`` or ``"task"``.
        sender : str
            Account of the sender, ``0x…``.
        payload : bytes
            The message.

        Raises
        ------
        StoreError
            If it is larger than readers take, or cannot be stored.
        """
        path, most = self._path(context, kind, sender), MOST_BYTES[kind]
        if not isinstance(payload, bytes) or len(payload) > most:
            what = f"{len(payload):,} bytes" if isinstance(payload, bytes) else type(payload).__name__
            raise StoreError(
                f"a message {kind} of {what} was given, readers take bytes, at most {most:,}",
                hint="use a smaller model, or fewer members a round",
            )
        partial = f"{path}.{uuid.uuid4().hex}.part"
        try:
            self._fs.makedirs(path.rpartition("/")[0], exist_ok=True)
            self._fs.pipe_file(partial, payload)
            self._fs.mv(partial, path)
        except OSError as fault:
            raise StoreError(
                f"message {kind} cannot be stored in {self.url}: {fault}",
                hint="make room in the mailbox, or open it for writing",
            ) from fault

    def get(self, context: RoundContext, kind: str, sender: str, most: int | None = None) -> bytes:
        """Fetch a message.

        Parameters
        ----------
        context, kind, sender
            As they were given to `put`.
        most : int, optional
            Largest size in bytes that can be right, where the reader knows it; less is read from a liar.

        Raises
        ------
        StoreError
            If there is none, or if it is larger than any honest message.
        """
        path = self._path(context, kind, sender)
        limit = MOST_BYTES[kind] if most is None else min(most, MOST_BYTES[kind])
        try:
            # A folder or a pipe under the message's name must not stop or hold the reader.
            found = self._fs.info(path)
            size = found.get("size")
            payload: bytes = b""
            if found.get("type") == "file" and size is not None and size <= limit:
                payload = self._fs.cat_file(path, 0, limit + 1)  # it may have grown since
                size = len(payload)
        except OSError:
            raise StoreError(
                f"no message {kind} of {sender} in {self.url}",
                hint="treat the sender as dropped out, or point every node at the same mailbox",
            ) from None
        if found.get("type") != "file" or size is None or size > limit:
            raise StoreError(
                f"message {kind} of {sender} is a {found.get('type')} of {size} bytes, "
                f"files of at most {limit} bytes are read",
                hint="treat the sender as dropped out",
            )
        return payload

    def _path(self, context: RoundContext, kind: str, sender: str) -> str:
        if kind not in MOST_BYTES:
            raise StoreError(f"unknown kind of message {kind!r}", hint=f"use one of: {', '.join(MOST_BYTES)}")
        return f"{self._root}/{context.binding.hex()}/{kind}/{party_id(sender).hex()}"
