"""Events: what contracts wrote into the log, read by block range so that a late reader misses nothing."""

import operator
from collections.abc import Mapping
from dataclasses import dataclass
from html import escape
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, SupportsIndex

from twopm_kit.chain import abi
from twopm_kit.chain.jsonrpc import as_bytes, as_int
from twopm_kit.errors import CallError, ChainError

if TYPE_CHECKING:
    from twopm_kit.chain.connection import Chain

__all__ = ["Event", "EventCursor", "Log", "decode_event", "parse_log"]

_REMEMBERED_BLOCKS = 64


@dataclass(frozen=True, slots=True, repr=False)
class Event:
    """One decoded event.

    Attributes
    ----------
    name : str
        The event's name in the contract.
    args : mapping of str to object
        Its fields; bytes stay bytes, addresses are checksummed strings.
    block : int
        Number of the block.
    log_index : int
        Position in the block's log.
    address : str
        The contract that wrote it.
    tx_hash : str
        The transaction that caused it.
    """

    name: str
    args: Mapping[str, Any]
    block: int
    log_index: int
    address: str
    tx_hash: str

    def __getitem__(self, field: str) -> Any:
        return self.args[field]

    def __repr__(self) -> str:
        fields = ", ".join(f"{name}={_short(value)}" for name, value in self.args.items())
        return f"<{self.name} in block {self.block}: {fields}>"

    def _repr_html_(self) -> str:
        rows = "".join(
            f"<tr><td>{escape(name)}</td>"
            f"<td style='text-align:left'><code>{escape(_short(value))}</code></td></tr>"
            for name, value in self.args.items()
        )
        return f"<div><strong>{escape(self.name)}</strong> in block {self.block}<table>{rows}</table></div>"


def _short(value: Any) -> str:
    text = "0x" + value.hex() if isinstance(value, bytes) else repr(value)
    return (
        text if len(text) <= 70 else f"{text[:40]}… ({len(value):,})" if hasattr(value, "__len__") else text
    )


@dataclass(frozen=True, slots=True)
class Log:
    """A log entry as the chain keeps it."""

    address: str
    topics: tuple[bytes, ...]
    data: bytes
    block: int
    log_index: int
    tx_hash: str


def parse_log(answer: Any) -> Log:
    """Read a log from a node's answer.

    Raises
    ------
    ChainError
        When it is not one.
    """
    try:
        return Log(
            address=abi.address_of(answer["address"], "a log's address"),
            topics=tuple(as_bytes(topic) for topic in answer["topics"]),
            data=as_bytes(answer["data"]),
            block=as_int(answer["blockNumber"]),
            log_index=as_int(answer["logIndex"]),
            tx_hash="0x" + as_bytes(answer["transactionHash"]).hex(),
        )
    except (KeyError, TypeError) as error:
        raise ChainError(
            "the node answered with a log entry that cannot be read",
            hint="check that the URL belongs to an EVM node",
        ) from error


def decode_event(entries: Mapping[bytes, abi.Component], log: Log) -> Event | None:
    """Decode a log by the event entries of an ABI; None when none of them is its kind."""
    entry = entries.get(log.topics[0]) if log.topics else None
    if entry is None or len(log.topics) != 1 + sum(1 for item in entry["inputs"] if item["indexed"]):
        return None
    fields = MappingProxyType(abi.decode_log(entry, log.topics, log.data))
    return Event(entry["name"], fields, log.block, log.log_index, log.address, log.tx_hash)


class EventCursor:
    """Reads a contract's events from where it last stopped.

    It asks by block range, so nothing is lost while nobody reads. When blocks that were already read have
    been replaced (a snapshot was reverted, or the chain reorganised), it goes back to where the two histories
    part.

    Parameters
    ----------
    chain : Chain
        The chain to read from.
    address : str
        The contract.
    entries : mapping of bytes to dict
        ABI entries of the wanted events by first topic.
    topics : list
        Log topics to search for.
    position : int
        First block to read.
    confirmations : int
        How many blocks must lie on top of a block before it is read.
    """

    def __init__(
        self,
        chain: "Chain",
        address: str,
        entries: Mapping[bytes, abi.Component],
        topics: list[Any],
        *,
        position: int = 0,
        confirmations: int = 0,
    ) -> None:
        for name, value in (("position", position), ("confirmations", confirmations)):
            if isinstance(value, bool) or not isinstance(value, SupportsIndex) or value.__index__() < 0:
                raise CallError(
                    f"a cursor's {name} must be a whole number of blocks, not {value!r}",
                    hint=f"pass {name}=0 or a number that was stored before",
                )
        self._chain = chain
        self._address = address
        self._entries = entries
        self._topics = topics
        self._confirmations = operator.index(confirmations)
        self._start = operator.index(position)
        self._seen: list[tuple[int, str]] = []
        #: First block that was not read yet: a plain number that can be stored and passed to a new cursor.
        self.position = self._start

    def read(self) -> list[Event]:
        """Give the events since the last reading, oldest first, and move on."""
        self._step_back_if_replaced()
        head = self._chain.block_number - self._confirmations
        if head < self.position:
            return []
        mark = self._chain.block_hash(head)
        logs = self._chain.logs(self._address, self._topics, self.position, head)
        if mark is not None:
            self._seen = [*self._seen[1 - _REMEMBERED_BLOCKS :], (head, mark)]
        self.position = head + 1
        return [event for log in logs if (event := decode_event(self._entries, log)) is not None]

    def _step_back_if_replaced(self) -> None:
        if not self._seen:
            return
        while self._seen:
            block, mark = self._seen[-1]
            if self._chain.block_hash(block) == mark:
                self.position = block + 1
                return
            self._seen.pop()
        # nothing that was read is left: begin again, or at the new end if that is earlier still
        self.position = min(self._start, self._chain.block_number + 1)

    def __repr__(self) -> str:
        return f"<EventCursor of {self._address}, next block {self.position}>"
