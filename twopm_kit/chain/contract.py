"""A deployed contract as a Python object: methods are attributes, events are lists.

``tally.total()`` reads, ``tally.add(5, sender=alice)`` sends a transaction. Where a method of the contract
has the name of one of the attributes here (``name``, ``events``, …), use ``contract.method("name")``.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING, Any

from eth_utils.abi import event_abi_to_log_topic, function_abi_to_4byte_selector

from twopm_kit.chain import abi
from twopm_kit.chain.accounts import Account
from twopm_kit.chain.artifacts import Artifact
from twopm_kit.chain.events import Event, EventCursor, decode_event
from twopm_kit.chain.reverts import custom_errors
from twopm_kit.errors import CallError, UnknownMember

if TYPE_CHECKING:
    from twopm_kit.chain.connection import Chain

__all__ = ["Contract", "ContractMethod", "Receipt"]


@dataclass(frozen=True, slots=True, repr=False)
class Receipt:
    """What a mined transaction did.

    Attributes
    ----------
    tx_hash : str
        Hash of the transaction, hexadecimal.
    gas : int
        Gas used.
    block : int
        Number of the block.
    events : list of Event
        Events of the contracts that this connection knows.
    call : str
        The method that was called.
    sender : str
        Address of the sender.
    contract : str
        Name of the contract; empty for a plain transfer.
    blob_gas : int
        Blob gas used: 131,072 for each blob that came with the transaction.
    """

    tx_hash: str
    gas: int
    block: int
    events: list[Event]
    call: str
    sender: str
    contract: str = ""
    blob_gas: int = 0

    def __repr__(self) -> str:
        what = f"{self.contract}.{self.call}" if self.contract else self.call
        return f"<Receipt {what}: block {self.block}, {self.gas:,} gas, {len(self.events)} events>"

    def _repr_html_(self) -> str:
        events = "".join(f"<li>{escape(repr(event))}</li>" for event in self.events)
        what = f"{self.contract}.{self.call}" if self.contract else self.call
        return (
            f"<div><strong>{escape(what)}</strong> in block {self.block}, {self.gas:,} gas, "
            f"by <code>{escape(self.sender)}</code><ul>{events}</ul></div>"
        )


class ContractMethod:
    """One method of a deployed contract; call it.

    A view or pure method takes ``sender=`` (whom the contract sees) and ``block=`` (at which block to look).
    Any other takes ``sender=`` (required, an account), ``value=`` in wei, ``gas=`` (a limit), ``blobs=`` (up
    to six that travel with it, EIP-4844), and ``check=False`` to send it even though the node can tell that
    it will be refused.
    """

    def __init__(self, contract: "Contract", name: str, entries: list[dict[str, Any]]) -> None:
        self._contract = contract
        self._entries = entries
        self.name = name
        self.__doc__ = "\n".join(abi.signature(entry) for entry in entries)

    @property
    def reads_only(self) -> bool:
        """Whether the method only reads: such a call is free and changes nothing."""
        return self._entries[0].get("stateMutability") in ("view", "pure")

    def encode(self, *arguments: Any) -> bytes:
        """Give the call data: four bytes that select the method, then the arguments."""
        entry = self._entry(arguments)
        selector = function_abi_to_4byte_selector(entry)  # type: ignore[arg-type]
        return selector + abi.encode(entry["inputs"], arguments, self._label)

    def __call__(self, *arguments: Any, **options: Any) -> Any:
        """Call the method: decoded values when it only reads, a `Receipt` otherwise."""
        allowed = {"sender", "block"} if self.reads_only else {"sender", "value", "gas", "check", "blobs"}
        if not set(options) <= allowed:
            wrong = ", ".join(sorted(set(options) - allowed))
            kind = "reads only" if self.reads_only else "sends a transaction"
            raise CallError(
                f"{self._label} {kind} and does not take {wrong}",
                hint=f"pass arguments by position; the options are {', '.join(sorted(allowed))}",
            )
        data = self.encode(*arguments)
        contract = self._contract
        payable = self._entry(arguments).get("stateMutability") == "payable"
        if options.get("value") and not payable and options.get("check", True):
            raise CallError(f"{self._label} takes no coins", hint="leave value= out")
        if self.reads_only:
            sender = options.get("sender")
            answer = contract.chain.call(
                contract.address,
                data,
                sender=None if sender is None else abi.address_of(sender, "sender"),
                block=options.get("block"),
                label=self._label,
                errors=contract.errors,
            )
            if not answer and self._entry(arguments)["outputs"]:
                contract.chain.require_code(contract.address, contract.name)
            return abi.decode(self._entry(arguments)["outputs"], answer, self._label)
        return contract.chain.transact(
            to=contract.address,
            data=data,
            contract=contract.name,
            call=self.name,
            errors=contract.errors,
            **options,
        )

    @property
    def _label(self) -> str:
        return f"{self._contract.name}.{self.name}"

    def _entry(self, arguments: tuple[Any, ...]) -> dict[str, Any]:
        for entry in self._entries:
            if len(entry["inputs"]) == len(arguments):
                return entry
        return self._entries[-1]

    def __repr__(self) -> str:
        kind = "reads" if self.reads_only else "sends a transaction"
        return "\n".join(f"<{self._contract.name}.{abi.signature(entry)}, {kind}>" for entry in self._entries)


class Contract:
    """A contract at an address. Made by ``chain.deploy`` and ``chain.at``.

    Attributes
    ----------
    address : str
        Checksummed address.
    name : str
        Name of the contract.
    abi : list of dict
        Its application binary interface.
    chain : Chain
        The connection that it is used through.
    deployment : Receipt or None
        What its deployment did, when this connection deployed it.
    """

    def __init__(
        self, chain: "Chain", artifact: Artifact, address: str, deployment: Receipt | None = None
    ) -> None:
        self.chain = chain
        self.name = artifact.name
        self.abi = artifact.abi
        self.address = address
        self.deployment = deployment
        #: Custom errors by selector.
        self.errors: Mapping[bytes, str] = custom_errors(artifact.abi)
        self._methods: dict[str, list[dict[str, Any]]] = {}
        self._event_entries: dict[bytes, dict[str, Any]] = {}
        for entry in artifact.abi:
            if entry["type"] == "function":
                self._methods.setdefault(entry["name"], []).append(entry)
            elif entry["type"] == "event" and not entry.get("anonymous"):
                self._event_entries[event_abi_to_log_topic(entry)] = entry  # type: ignore[arg-type]

    def method(self, name: str) -> ContractMethod:
        """Give a method by name.

        Raises
        ------
        UnknownMember
            When the contract has no such method.
        """
        entries = self._methods.get(name)
        if entries is None:
            raise UnknownMember(
                f"the contract {self.name} has no method {name!r}",
                hint=f"use one of: {', '.join(sorted(self._methods)) or 'none: it has no methods'}",
            )
        return ContractMethod(self, name, entries)

    def __getattr__(self, name: str) -> ContractMethod:
        if name.startswith("_") or "_methods" not in self.__dict__:
            raise UnknownMember(f"a contract has no attribute {name!r}", hint="use one of its methods")
        return self.method(name)

    @property
    def event_names(self) -> list[str]:
        """Names of the contract's events."""
        return sorted(entry["name"] for entry in self._event_entries.values())

    def __dir__(self) -> list[str]:
        return [*super().__dir__(), *self._methods]

    def events(
        self, name: str | None = None, from_block: int = 0, to_block: int | None = None, **filters: Any
    ) -> list[Event]:
        """Read events.

        Parameters
        ----------
        name : str, optional
            Name of the event; all events of the contract by default.
        from_block, to_block : int
            First and last block, both included; to the end by default.
        **filters
            Values of indexed fields. A list means any of its values.

        Returns
        -------
        list of Event
            Oldest first.

        Raises
        ------
        UnknownMember
            When the contract has no such event.
        CallError
            When a filter is not an indexed field of it.
        """
        entries, topics = self._search(name, filters)
        last = self.chain.block_number if to_block is None else to_block
        logs = self.chain.logs(self.address, topics, from_block, last)
        return [event for log in logs if (event := decode_event(entries, log)) is not None]

    def cursor(
        self, name: str | None = None, *, position: int = 0, confirmations: int = 0, **filters: Any
    ) -> EventCursor:
        """Read events step by step: each ``read()`` gives what is new since the last.

        Parameters
        ----------
        name : str, optional
            Name of the event; all events of the contract by default.
        position : int
            First block to read: 0, or the stored ``position`` of an earlier cursor.
        confirmations : int
            How many blocks must lie on top of a block before it is read; 0 on development chains.
        **filters
            As in `events`.
        """
        entries, topics = self._search(name, filters)
        return EventCursor(
            self.chain, self.address, entries, topics, position=position, confirmations=confirmations
        )

    def _search(
        self, name: str | None, filters: Mapping[str, Any]
    ) -> tuple[Mapping[bytes, abi.Component], list[Any]]:
        if name is None:
            if filters:
                raise CallError(
                    f"filters need the event's name; {', '.join(filters)} was passed without one",
                    hint="pass the event's name first",
                )
            return self._event_entries, []
        found = {topic: entry for topic, entry in self._event_entries.items() if entry["name"] == name}
        if not found:
            raise UnknownMember(
                f"the contract {self.name} has no event {name!r}",
                hint=f"use one of: {', '.join(self.event_names) or 'none'}",
            )
        [(first, entry)] = list(found.items())[:1]
        indexed = [item for item in entry["inputs"] if item["indexed"]]
        unknown = set(filters) - {item["name"] for item in indexed}
        if unknown:
            raise CallError(
                f"{name} cannot be searched by {', '.join(sorted(unknown))}",
                hint=f"its indexed fields are {', '.join(item['name'] for item in indexed) or 'none'}; "
                "filter the rest in Python",
            )
        topics: list[Any] = ["0x" + first.hex()]
        for item in indexed:
            value = filters.get(item["name"])
            where = f"{name}, field {item['name']}"
            if value is None:
                topics.append(None)
            elif isinstance(value, list | set | frozenset):
                topics.append([abi.topic_of(item, one, where) for one in value])
            else:
                topics.append(abi.topic_of(item, value, where))
        while topics[-1] is None:
            topics.pop()
        return found, topics

    def __repr__(self) -> str:
        return f"<Contract {self.name} at {self.address}>"

    def _repr_html_(self) -> str:
        rows = "".join(
            f"<tr><td>{'reads' if entry.get('stateMutability') in ('view', 'pure') else 'sends'}</td>"
            f"<td style='text-align:left'><code>{escape(abi.signature(entry))}</code></td></tr>"
            for entries in self._methods.values()
            for entry in entries
        )
        events = ", ".join(map(escape, self.event_names))
        return (
            f"<div><strong>{escape(self.name)}</strong> at <code>{self.address}</code>"
            f"<table>{rows}</table>events: {events or 'none'}</div>"
        )


def sender_of(sender: Any, what: str) -> Account:
    """Check that a transaction has an account that can sign it."""
    if not isinstance(sender, Account):
        given = "nothing was passed" if sender is None else f"{type(sender).__name__} was passed"
        raise CallError(
            f"{what} is a transaction and needs sender=, an account; {given}",
            hint="pass sender=chain.account('name')",
        )
    return sender
