"""Looks into a running round with what parties really have: the chain, the mailbox, one node's own key."""

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING

import pandas as pd
from eth_hash.auto import keccak

from twopm_kit.chain import Receipt
from twopm_kit.chain.abi import decode
from twopm_kit.errors import ProtocolError
from twopm_kit.federated.contract import Roster, encoder_of
from twopm_kit.federated.node import Node
from twopm_kit.federated.task import Task
from twopm_kit.federated.view import RoundView
from twopm_kit.secagg import (
    Encoder,
    Mode,
    OpeningMessage,
    ShareKind,
    ShareMessage,
    party_id,
    to_words,
    verify_share_message,
)
from twopm_kit.secagg.boxes import open_box
from twopm_kit.secagg.commitments import share_leaf
from twopm_kit.secagg.messages import SharePair

if TYPE_CHECKING:
    from twopm_kit.federated.network import LocalNetwork

__all__ = ["Inspector", "OpenedBox"]

_MEANINGS = {
    "code_hash": "fingerprint of the code that every node runs",
    "params_hash": "fingerprint of all settings",
    "genesis_hash": "fingerprint of the first model",
    "dataset_id": "fingerprint of the data set's name (zero: any)",
    "min_rows": "fewest rows that a node must bring",
    "min_stake": "smallest stake, in wei",
    "min_clients": "fewest survivors of a valid round",
    "max_clients": "seats in a round",
    "words": "field elements in a masked vector",
    "lanes": "numbers packed into one field element",
    "mode": "how masked vectors are published: 0 calldata, 1 and 2 commitments, 3 blobs",
    "sealed": "whether only owner, verifiers and members can read the sums",
    "groups": "separate sums a round, for robust averages",
    "degree": "neighbours of a member, when there are more than 50",
    "share_threshold": "shares that reconstruct a secret, when there are more than 50",
    "silence_penalty": "what a node that falls silent loses, in wei",
    "owner_key": "key that openings of a sealed task are sealed to",
    "max_rounds": "most rounds of the task",
    "join_blocks": "blocks in which nodes may join",
    "step_blocks": "blocks that each step waits for nodes",
}
_OPENED = {ShareKind.SELF_SEED: "own mask", ShareKind.MASK_KEY: "pair key"}
_SELECTOR = 4


@dataclass(frozen=True)
class OpenedBox:
    """What a receiver finds in a share box; the shares themselves are not kept here, they are secret.

    Attributes
    ----------
    dealer, receiver : str
        Names of the node that sealed the box and of the one that opened it.
    sealed_bytes : int
        Size of the box as it lies in the mailbox.
    share_bytes : int
        Size of each of the two shares in it.
    fits_commitment : bool
        Whether both shares are the ones that the dealer has committed to on chain.
    """

    dealer: str
    receiver: str
    sealed_bytes: int
    share_bytes: int
    fits_commitment: bool


class Inspector:
    """Shows the rounds of one task as tables.

    Everything but `open_box` uses public messages alone: any reader of chain and mailbox gets the same.

    Parameters
    ----------
    network : LocalNetwork
        Where the task runs.
    task : Task
        The task as it was registered.
    task_id : int
        Its number on chain.
    """

    def __init__(self, network: "LocalNetwork", task: Task, task_id: int) -> None:
        self.task = task
        self.task_id = task_id
        self._contract = network.contract
        self._mailbox = network.mailbox
        self._names = {node.account.address: node.name for node in network.nodes}
        self._nodes = {node.name: node for node in network.nodes}

    def __repr__(self) -> str:
        return f"Inspector(task {self.task_id} at {self._contract.address})"

    def terms(self) -> pd.DataFrame:
        """Return what the owner registered: one row a term, with its meaning."""
        terms = self._contract.terms(self.task_id)
        rows = [
            (field.name, _short(getattr(terms, field.name)), _MEANINGS[field.name]) for field in fields(terms)
        ]
        return pd.DataFrame(rows, columns=["term", "on chain", "meaning"]).set_index("term")

    def draw(self, round: int) -> pd.DataFrame:
        """Return the draw of a round, recomputed from the beacon: lowest scores first.

        Returns
        -------
        DataFrame
            By node: ``score`` as a fraction of the largest possible one, and whether it has a ``seat``.
        """
        found = self._contract.contract.events("RoundOpened", task=self.task_id, round=round)
        if not found:
            raise ProtocolError(
                f"round {round} of task {self.task_id} is not open", hint="open the round first"
            )
        beacon = bytes(found[0].args["beacon"])
        numbers = self.task_id.to_bytes(32, "big") + round.to_bytes(32, "big")
        seats = set(self._roster(round).members)
        rows = []
        for address in self._contract.contract.joined(self.task_id):
            digest = keccak(beacon + numbers + bytes(12) + party_id(address))
            rows.append((self._name(address), int.from_bytes(digest, "big") / 2**256, address in seats))
        return pd.DataFrame(rows, columns=["node", "score", "seat"]).set_index("node").sort_values("score")

    def seats(self, round: int) -> pd.DataFrame:
        """Return what each member has put on chain in a round: its step and the start of each word."""
        rows = []
        for seat in self._roster(round).seats:
            words = map(_short, (seat.mask_key, seat.seed_hash, seat.share_root, seat.open_root))
            rows.append((self._name(seat.node), seat.step.name.lower(), *words))
        columns = ["node", "last step", "mask key", "seed hash", "share root", "open root"]
        return pd.DataFrame(rows, columns=columns).set_index("node").sort_index()

    def open_box(self, reader: str, dealer: str, round: int, *, receiver: str | None = None) -> OpenedBox:
        """Let a node open a share box with its own key.

        Parameters
        ----------
        reader : str
            The node that tries.
        dealer : str
            The node that sealed the box.
        round : int
            The round's number.
        receiver : str, optional
            The node that the box is meant for; default: the reader.

        Raises
        ------
        ProtocolError
            If a name is unknown, or dealer and receiver are the same.
        TamperedMessage
            If the box does not open: it is meant for somebody else, or was altered.
        """
        to = receiver or reader
        node, sender, addressee = self._node(reader), self._node(dealer), self._node(to)
        if dealer == to:
            raise ProtocolError(f"{dealer} seals no box for itself", hint="name another receiver")
        here, there = party_id(sender.account.address), party_id(addressee.account.address)
        context = self._contract.context(self.task_id, round)
        message = self._share_message(sender, round)
        box = message.box_for(there)
        sender_key = next(s.box_key for s in self._roster(round).seats if party_id(s.node) == here)
        pair = SharePair.from_bytes(open_box(context, node._box_key, sender_key, here, there, box))
        fits = all(
            share_leaf(context.binding, here, there, kind, pair.pick(kind)[1], pair.pick(kind)[0])
            == message.leaf(there, kind)
            for kind in ShareKind
        )
        return OpenedBox(dealer, to, len(box), len(pair.seed_share), fits)

    def posted(self, receipt: Receipt) -> list[int]:
        """Return the masked vector that a node has sent, read from its transaction's public call data."""
        if receipt.call != "submit":
            raise ProtocolError(
                f"the receipt is of {receipt.call!r}, expected one of 'submit'",
                hint="pass what node.submit(round) returned",
            )
        return self._vector(receipt.tx_hash)

    def posted_by(self, node: str, round: int) -> list[int]:
        """Return the masked vector that a node has sent in a round: from its call data, or from storage.

        Raises
        ------
        ProtocolError
            If the node is unknown, or has sent nothing in this round.
        StoreError, TamperedMessage
            If storage does not have what the node has committed to.
        """
        sender = self._node(node).account.address
        found = self._contract.contract.events("Submitted", task=self.task_id, round=round, node=sender)
        if not found:
            raise ProtocolError(
                f"{node} has sent no vector in round {round} of task {self.task_id}",
                hint="name a round that the node has survived",
            )
        view = self._view(round)
        if view.mode is Mode.DIRECT:
            return self._vector(found[0].tx_hash)
        seats = view.roster.seats
        return to_words(view.vector(seats[int(found[0].args["seat"])]).limbs)

    def openings(self, round: int) -> pd.DataFrame:
        """Return which kind of share each survivor has opened: openers as rows, dealers as columns."""
        context = self._contract.context(self.task_id, round)
        table: dict[str, dict[str, str]] = {}
        for opener in self._roster(round).openers:
            raw = self._mailbox.get(context, "openings", opener)
            entries = OpeningMessage.from_bytes(raw).entries
            table[self._name(opener)] = {self._name(e.dealer): _OPENED[e.kind] for e in entries}
        frame = pd.DataFrame.from_dict(table, orient="index").sort_index(axis=0).sort_index(axis=1)
        return frame.rename_axis(index="opens a share of …")

    def unmasked(self, round: int) -> list[int]:
        """Return the sum of a round as anybody can compute it from public messages: masked sum minus mask."""
        view = self._view(round)
        return to_words(view.unmasking().unmask(view.masked_sum()))

    def encoder(self) -> Encoder:
        """Return an encoder as every party of the task has it."""
        return encoder_of(self.task)

    def _vector(self, tx_hash: str) -> list[int]:
        data = bytes(self._contract.chain.w3.eth.get_transaction(tx_hash)["input"])  # type: ignore[arg-type]
        submit = next(entry for entry in self._contract.contract.abi if entry.get("name") == "submit")
        return list(decode(submit["inputs"], data[_SELECTOR:], "submit")[-1])

    def _share_message(self, dealer: Node, round: int) -> ShareMessage:
        """Return a dealer's message from the mailbox, checked against the chain."""
        address, roster = dealer.account.address, self._roster(round)
        found = self._view(round).delivered("shares", [address])
        announced = {a.dealer: a for a in roster.announcements}
        if address not in found or party_id(address) not in announced:
            raise ProtocolError(
                f"{dealer.name} has dealt no shares in round {round}", hint="look after node.share(round)"
            )
        context = self._contract.context(self.task_id, round)
        ring = self._view(round).ring
        return verify_share_message(found[address], announced[party_id(address)], context, ring)

    def _view(self, round: int) -> RoundView:
        return RoundView(self._contract, self._mailbox, self.task, self.task_id, round)

    def _roster(self, round: int) -> Roster:
        return self._contract.roster(self.task_id, round)

    def _node(self, name: str) -> Node:
        if name not in self._nodes:
            raise ProtocolError(f"there is no node {name!r}", hint=f"use one of: {', '.join(self._nodes)}")
        return self._nodes[name]

    def _name(self, party: str | bytes) -> str:
        raw = party_id(party)
        known = {party_id(address): name for address, name in self._names.items()}
        return known.get(raw, "0x" + raw.hex()[:8] + "…")


def _short(value: int | bytes) -> str:
    """Return a number in full, and the start of a hash; an empty word as a dash."""
    if isinstance(value, int):
        return f"{value:,}"
    return f"0x{value.hex()[:10]}…" if any(value) else "–"
