"""Where parties leave messages for each other: any fsspec folder, never trusted.

The chain holds a commitment to every message, and the reader checks it; the mailbox only has to deliver.
"""

import uuid

import fsspec

from twopm_kit.errors import StoreError
from twopm_kit.secagg import RoundContext

__all__ = ["Mailbox"]

_MAX_BYTES = 256 * 1024  # honest messages of the largest round have 16 KiB
_KINDS = ("shares", "openings")


class Mailbox:
    """Messages of secure aggregation rounds under one folder.

    Parameters
    ----------
    url : str, optional
        Any fsspec URL: ``file:///somewhere`` for processes that share a disk; default: a fresh folder in
        this process's memory.
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
            ``"shares"`` or ``"openings"``.
        sender : str
            Account of the sender, ``0x…``.
        payload : bytes
            The message, at most 256 KiB.
        """
        path = self._path(context, kind, sender)
        self._fs.makedirs(path.rpartition("/")[0], exist_ok=True)
        partial = f"{path}.{uuid.uuid4().hex}.part"
        self._fs.pipe_file(partial, payload)
        self._fs.mv(partial, path)

    def get(self, context: RoundContext, kind: str, sender: str) -> bytes:
        """Fetch a message.

        Raises
        ------
        StoreError
            If there is none, or if it is larger than any honest message.
        """
        path = self._path(context, kind, sender)
        try:
            # A folder or a pipe under the message's name must not stop or hold the reader.
            found = self._fs.info(path)
            size = found.get("size")
            if found.get("type") != "file" or size is None or size > _MAX_BYTES:
                raise StoreError(
                    f"message {kind} of {sender} is a {found.get('type')} of {size} bytes, "
                    f"files of at most {_MAX_BYTES} bytes are read",
                    hint="treat the sender as dropped out",
                )
            payload: bytes = self._fs.cat_file(path, 0, _MAX_BYTES)
        except OSError:
            raise StoreError(
                f"no message {kind} of {sender} in {self.url}",
                hint="treat the sender as dropped out, or point every node at the same mailbox",
            ) from None
        return payload

    def _path(self, context: RoundContext, kind: str, sender: str) -> str:
        if kind not in _KINDS:
            raise StoreError(f"unknown kind of message {kind!r}", hint=f"use one of: {', '.join(_KINDS)}")
        address = bytes.fromhex(sender.removeprefix("0x")).hex()
        return f"{self._root}/{context.binding.hex()}/{kind}/{address}"
