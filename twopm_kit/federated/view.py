"""One round as one party sees it: what the chain says, and what storage holds, checked against the chain."""

from collections.abc import Iterable, MutableMapping
from functools import cached_property

import numpy as np
from eth_hash.auto import keccak

from twopm_kit.chain import Event
from twopm_kit.errors import ChainError, DataError, ProtocolError, StoreError, TamperedMessage
from twopm_kit.federated.contract import AggregationContract, Roster, Seat, Step, encoder_of
from twopm_kit.federated.mailbox import Mailbox
from twopm_kit.federated.sealing import Reader, opened, unsealed_result
from twopm_kit.federated.task import Task
from twopm_kit.kzg import BLOB_ELEMENTS, add, commit, compress, uncompress, versioned_hash
from twopm_kit.secagg import (
    Mode,
    OpeningMessage,
    RoundConfig,
    RoundContext,
    ShareMessage,
    Unmasking,
    VectorMessage,
    from_words,
    mask_digest,
    party_id,
    reconstruct_mask,
    subtract,
    total,
    verify_share_message,
)
from twopm_kit.secagg import Roster as Ring
from twopm_kit.secagg.field import Limbs

__all__ = ["RoundView"]

_POINT_BYTES = 128


class RoundView:
    """What survivors, coordinator, verifiers and any auditor work out alike.

    Nothing that comes from the mailbox is believed: messages, vectors and sums are compared with the words
    that their senders, or the contract itself, hold on chain.

    Parameters
    ----------
    contract : AggregationContract
        The round contract, over the party's own connection.
    mailbox : Mailbox
        Where messages lie.
    task : Task
        The task as it was registered.
    task_id, round : int
        Which round.
    reader : Reader, optional
        Who looks; needed when openings and results are sealed.
    known : mapping, optional
        Contributions that this party has checked already; more are added.
    """

    def __init__(
        self,
        contract: AggregationContract,
        mailbox: Mailbox,
        task: Task,
        task_id: int,
        round: int,
        *,
        reader: Reader | None = None,
        known: MutableMapping[bytes, Limbs] | None = None,
    ) -> None:
        self.contract = contract
        self.mailbox = mailbox
        self.task = task
        self.task_id = task_id
        self.round = round
        self.reader = reader
        self._known: MutableMapping[bytes, Limbs] = {} if known is None else known

    @cached_property
    def context(self) -> RoundContext:
        """What every message of the round is bound to."""
        return self.contract.context(self.task_id, self.round)

    @cached_property
    def config(self) -> RoundConfig:
        """The numbers of the round."""
        return self.task.config()

    @cached_property
    def mode(self) -> Mode:
        """How masked vectors are published."""
        return Mode(self.contract.terms(self.task_id).mode)

    @cached_property
    def elements(self) -> int:
        """Field elements of one node's vector."""
        return encoder_of(self.task).elements

    @property
    def roster(self) -> Roster:
        """The members and what they have published, as the chain shows it now."""
        return self.contract.roster(self.task_id, self.round)

    def delivered(self, kind: str, senders: list[str]) -> dict[str, bytes]:
        """Return the messages that have arrived; a missing one is the same as a silent sender.

        What a sender has put on chain comes first: storage that is hostile alters as well as hides.
        """
        found = self._forced(kind)
        for sender in senders:
            if sender not in found:
                try:
                    found[sender] = self.mailbox.get(self.context, kind, sender)
                except StoreError:
                    continue
        return {sender: found[sender] for sender in senders if sender in found}

    def _forced(self, kind: str) -> dict[str, bytes]:
        """Return the messages that their senders have put on chain because storage does not pass them on."""
        start = self.contract.status(self.task_id, self.round).opened_block
        events = self.contract.contract.events(
            "Published", from_block=start, task=self.task_id, round=self.round
        )
        said = [(str(event.args["node"]), bytes(event.args["data"])) for event in events]
        label = kind.encode() + b":"
        return {sender: data.removeprefix(label) for sender, data in said if data.startswith(label)}

    @property
    def ring(self) -> Ring:
        """The members in ring order, as the protocol's own rules see them."""
        return Ring.of(self.config, self.roster.members)

    def share_messages(self) -> list[ShareMessage]:
        """Return the share messages that are what their dealers have committed to."""
        roster, ring, found = self.roster, self.ring, []
        announced = {seat.node: seat.announcement for seat in roster.reached(Step.SHARED)}
        for dealer, raw in self.delivered("shares", roster.sharers).items():
            try:
                message = verify_share_message(raw, announced[dealer], self.context, ring)
            except TamperedMessage:
                continue
            found.append(message)
        return found

    def opening_messages(self) -> list[OpeningMessage]:
        """Return the openings that are what their openers have committed to."""
        roster, found = self.roster, []
        roots = {seat.node: seat.open_root for seat in roster.reached(Step.OPENED)}
        for opener, raw in self._readable(roster).items():
            try:
                message = OpeningMessage.from_bytes(raw)
            except TamperedMessage:
                continue
            if message.opener == party_id(opener) and message.root == roots[opener]:
                found.append(message)
        return found

    def _readable(self, roster: Roster) -> dict[str, bytes]:
        openings = self.delivered("openings", roster.openers)
        if self.config.visibility == "sealed":
            openings = opened(self.context, roster, openings, self._demand_reader())
        return openings

    # Masks --------------------------------------------------------------------------------------------

    def unmasking(self) -> Unmasking:
        """Reconstruct the sum of all masks of the round from the opened shares.

        Raises
        ------
        TooFewSurvivors
            If too few good shares are open.
        TamperedMessage
            If a dealer's shares do not lead to what it committed to; the message names it.
        """
        roster = self.roster
        return reconstruct_mask(
            self.context,
            self.config,
            members=roster.members,
            announcements=roster.announcements,
            messages=self.delivered("shares", roster.sharers),
            survivors=roster.survivors,
            openings=self._readable(roster),
            opening_roots={seat.node: seat.open_root for seat in roster.reached(Step.OPENED)},
            elements=self.elements,
        )

    # Vectors and their sum ----------------------------------------------------------------------------

    def vector(self, seat: Seat) -> VectorMessage:
        """Fetch one member's masked vector from storage and check it against its commitments on chain.

        Raises
        ------
        StoreError
            If storage has none.
        TamperedMessage
            If it is not the one that the member has committed to.
        """
        message = VectorMessage.from_bytes(self.mailbox.get(self.context, "vector", seat.node))
        message.verify(self.context, seat.node, seat.data_root, seat.commitments, elements=self.elements)
        return message

    def contribution(self, seat: Seat) -> Limbs:
        """Return what a member adds to the sum, from storage or from the blobs that it has published.

        Where the contract adds commitments, what they stand for is in the sum, and nothing else: a root
        beside them that leads nowhere must not keep the others from adding up. A vector that was seen once
        is kept: whoever can write to storage may take it away again.

        Returns
        -------
        uint32 array, shape (m, 8)
            Or (4,096 · blobs, 8), where a sender has put something behind the end of its vector.

        Raises
        ------
        StoreError, TamperedMessage
            As `vector`, if there are no blobs either.
        """
        name = party_id(seat.node) + seat.data_root + seat.commitments
        if name not in self._known:
            try:
                self._known[name] = self.vector(seat).limbs
            except (StoreError, TamperedMessage):
                limbs = self._blobs(seat.commitments)
                if limbs is None:
                    raise
                tail = limbs[self.elements :].any()
                self._known[name] = limbs if tail else limbs[: self.elements]
        return self._known[name]

    def missing(self) -> list[Seat]:
        """Return the survivors whose contribution cannot be had."""
        found = []
        for seat in self.roster.reached(Step.SUBMITTED):
            try:
                self.contribution(seat)
            except (StoreError, TamperedMessage):
                found.append(seat)
        return found

    def blobs(self, commitments: bytes) -> list[bytes]:
        """Return the blobs of some commitments, 128 bytes each, as the chain's node has them.

        Raises
        ------
        ChainError
            If it has one of them not, or no longer.
        """
        found = []
        for at in range(0, len(commitments), _POINT_BYTES):
            short = compress(commitments[at : at + _POINT_BYTES])
            blob = self.contract.chain.blob(versioned_hash(short))
            if commit(blob) != short:
                raise ChainError(
                    "the node's blob is not that of its hash", hint="connect to a node that you trust"
                )
            found.append(blob)
        return found

    def _blobs(self, commitments: bytes) -> Limbs | None:
        try:
            words = b"".join(self.blobs(commitments))
        except ChainError:
            return None
        digits = np.frombuffer(words, ">u4").reshape(-1, 8)[:, ::-1]
        return digits.astype(np.uint32, order="C") if words else None

    def added(self, seats: Iterable[Seat]) -> Limbs:
        """Add contributions up, each in the section of its group; shape (groups · width, 8).

        The width is m, the length of a vector; that of its blobs, where there is something behind its end.
        """
        groups = self.config.groups
        sections: list[list[Limbs]] = [[] for _ in range(groups)]
        for seat in seats:
            sections[seat.number % groups].append(self.contribution(seat))
        width = max(len(part) for section in sections for part in section)
        return np.concatenate([_total(section, width) for section in sections])

    def summed(self) -> Limbs:
        """Return the masked sum as the contract holds it or has its commitments; see `added`."""
        if self.mode is Mode.DIRECT:
            return from_words(self.contract.masked_sum(self.task_id))
        return self.added(self.roster.reached(Step.SUBMITTED))

    def masked_sum(self) -> Limbs:
        """Return the masked sum Y of the round that runs, shape (groups · m, 8)."""
        return self.narrow(self.summed())

    def sum_message(self, summed: Limbs) -> VectorMessage:
        """Return a masked sum as it lies in storage, with commitments where the mode has any."""
        if self._kzg and self.config.groups > 1:
            # Each group's section begins a blob of its own, as its members' vectors do.
            sections = summed.reshape(self.config.groups, -1, 8)
            summed = np.concatenate([_total([section], self._section) for section in sections])
        return VectorMessage.of(self.context, self.contract.address, summed, kzg=self._kzg)

    def narrow(self, summed: Limbs) -> Limbs:
        """Cut every section to the m elements that a vector has."""
        sections = summed.reshape(self.config.groups, -1, 8)
        return sections[:, : self.elements].reshape(-1, 8)

    @property
    def _kzg(self) -> bool:
        return self.mode in (Mode.KZG, Mode.BLOB)

    @property
    def _section(self) -> int:
        return -(-self.elements // BLOB_ELEMENTS) * BLOB_ELEMENTS

    def sum_digest(self, message: VectorMessage) -> bytes:
        """Return the digest of a masked sum that the contract publishes with the result.

        keccak256 of its words; where the contract knows commitments alone, a chain of keccak256 over the
        commitments, 128 bytes each.
        """
        if not self._kzg:
            return mask_digest(message.limbs)
        digest = bytes(32)
        for commitment in message.commitments:
            digest = keccak(digest + uncompress(commitment))
        return digest

    def attested_digest(self, unmasking: Unmasking) -> bytes:
        """Return what a member or verifier attests to.

        The digest of the total mask M; together with the masked sum Y that the contract holds it fixes the
        result. Where the contract holds hashes alone, the attesting party has added the vectors up itself,
        and the digest covers Y too: keccak(keccak(M) ‖ keccak(Y)).
        """
        if self.mode is not Mode.HASH:
            return unmasking.digest
        return keccak(unmasking.digest + mask_digest(self.masked_sum()))

    # Results ------------------------------------------------------------------------------------------

    def published(self, event: Event, known: Unmasking | None = None) -> Limbs:
        """Return the sum X of a finished round.

        Parameters
        ----------
        event : Event
            The contract's ``Finished``.
        known : Unmasking, optional
            What this party has reconstructed already.

        Notes
        -----
        In every mode the chain fixes X: keccak(Y − X) is the mask digest that a quorum attested to, and Y
        is what the contract added up or holds the commitments of.
        """
        words = list(event.args["words"])
        if words:
            return from_words(words)
        masked, wanted = self._recorded_sum(event), bytes(event.args["mask_digest"])
        if self.config.visibility == "sealed":
            box = self.mailbox.get(self.context, "result", self._demand_reader().account)
            result = unsealed_result(self.context, self.contract, self.task_id, box, self._demand_reader())
            digest = mask_digest(subtract(masked, result))
        else:
            unmasking = known if known is not None and known.digest == wanted else self.unmasking()
            result, digest = unmasking.unmask(masked), unmasking.digest
        if digest != wanted:
            raise TamperedMessage(
                f"what storage holds of round {self.round} does not lead to the mask attested on chain",
                hint="Fetch sum, openings and result again from another mirror of the mailbox.",
            )
        return result

    def _recorded_sum(self, event: Event) -> Limbs:
        """Return Y of a finished round, checked against the digest that the contract published with it."""
        wanted = bytes(event.args["sum_digest"])
        try:
            message = VectorMessage.from_bytes(self.mailbox.get(self.context, "sum", self.contract.address))
            self._demand_length(message)
            message.verify(self.context, self.contract.address, message.data_root, message.points)
            if self.sum_digest(message) == wanted:
                return self.narrow(message.limbs)
        except (StoreError, TamperedMessage, DataError):
            pass  # whoever published the sum is not needed: the vectors are there
        if self.mode is Mode.DIRECT:
            raise ProtocolError(
                f"the masked sum of round {self.round} is not in storage",
                hint="Keep the mailbox of a sealed task until everybody has caught up.",
            )
        survivors = self.roster.reached(Step.SUBMITTED)
        published = self._blobs(self._sum_of_commitments(survivors)) if self._kzg else None
        return self.narrow(self.added(survivors) if published is None else published)

    def _demand_length(self, message: VectorMessage) -> None:
        """Refuse a sum that could be cut into other sections: zeros at its end change no commitment."""
        groups = self.config.groups
        narrow, wide = groups * self.elements, groups * self._section
        fitting = {narrow} if not self._kzg else {wide} if groups > 1 else {narrow, wide}
        if len(message) not in fitting:
            raise TamperedMessage(
                f"the masked sum has {len(message):,} elements, expected {min(fitting):,}",
                hint="Fetch it from another mirror of the mailbox.",
            )

    def _sum_of_commitments(self, survivors: Iterable[Seat]) -> bytes:
        """Add the survivors' commitments up as the contract does; 128 bytes each, group after group."""
        groups, blobs = self.config.groups, self._section // BLOB_ELEMENTS
        parts: list[list[bytes]] = [[] for _ in range(groups * blobs)]
        for seat in survivors:
            for blob in range(blobs):
                at = _POINT_BYTES * blob
                place = seat.number % groups * blobs + blob
                parts[place].append(seat.commitments[at : at + _POINT_BYTES])
        return b"".join(add(*points) for points in parts)

    def _demand_reader(self) -> Reader:
        if self.reader is None:
            raise ProtocolError(
                "shares and results of this task are sealed, and nobody's key was given",
                hint="Look as the owner, as a verifier or as a member: they hold the keys.",
            )
        return self.reader


def _total(vectors: Iterable[Limbs], width: int) -> Limbs:
    """Add vectors up, with zeros at their ends; shape (width, 8)."""
    padded = [np.concatenate([part, np.zeros((width - len(part), 8), np.uint32)]) for part in vectors]
    return total(padded) if padded else np.zeros((width, 8), np.uint32)
