"""One round as one party sees it: what the chain says, and what storage holds, checked against the chain."""

from functools import cached_property
from typing import Any

import numpy as np
from eth_hash.auto import keccak

from twopm_kit.chain import Event
from twopm_kit.errors import ChainError, ProtocolError, StoreError, TamperedMessage
from twopm_kit.federated.contract import AggregationContract, Roster, Seat, Step, encoder_of
from twopm_kit.federated.mailbox import Mailbox
from twopm_kit.federated.sealing import Reader, opened, unsealed_result
from twopm_kit.federated.task import Task
from twopm_kit.kzg import BLOB_ELEMENTS, compress, prove, uncompress, versioned_hash
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
    ) -> None:
        self.contract = contract
        self.mailbox = mailbox
        self.task = task
        self.task_id = task_id
        self.round = round
        self.reader = reader

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
        """Return the messages that have arrived; a missing one is the same as a silent sender."""
        found = {}
        for sender in senders:
            try:
                found[sender] = self.mailbox.get(self.context, kind, sender)
            except StoreError:
                if kept := self._forced(kind, sender):
                    found[sender] = kept
        return found

    def _forced(self, kind: str, sender: str) -> bytes:
        """Return a message that its sender has put on chain because storage does not pass it on."""
        where: dict[str, Any] = {"task": self.task_id, "round": self.round, "node": sender}
        start = self.contract.status(self.task_id, self.round).opened_block
        events = self.contract.contract.events("Published", from_block=start, **where)
        said = [bytes(event.args["data"]) for event in events]
        label = kind.encode() + b":"
        return next((data.removeprefix(label) for data in reversed(said) if data.startswith(label)), b"")

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
        """Fetch one member's masked vector and check it against its commitments on chain.

        Raises
        ------
        StoreError
            If storage has none.
        TamperedMessage
            If it is not the one that the member has committed to.
        """
        try:
            message = VectorMessage.from_bytes(self.mailbox.get(self.context, "vector", seat.node))
        except StoreError:
            message = self._vector_on_chain(seat)
        message.verify(self.context, seat.node, seat.data_root, seat.commitments, elements=self.elements)
        return message

    def _vector_on_chain(self, seat: Seat) -> VectorMessage:
        """Put a vector together from the blobs that its sender has published.

        Raises
        ------
        StoreError
            If it has published none, or the node no longer has them.
        """
        points = [seat.commitments[at : at + 128] for at in range(0, len(seat.commitments), 128)]
        commitments = tuple(compress(point) for point in points)
        try:
            blobs = [self.contract.chain.blob(versioned_hash(one)) for one in commitments]
        except ChainError as gone:
            raise StoreError(
                f"the vector of {seat.node} is neither in storage nor in a blob: {gone.message}",
                hint="challenge its sender to publish it",
            ) from gone
        if not blobs:
            raise StoreError(
                f"the vector of {seat.node} is not in storage, and the chain has a hash of it alone",
                hint="end the round: what a hash stands for can be shown by its sender only",
            )
        words = b"".join(blobs)[: 32 * self.elements]
        proofs = tuple(prove(blob, one) for blob, one in zip(blobs, commitments, strict=True))
        return VectorMessage(self.context.binding, party_id(seat.node), words, commitments, proofs)

    def vectors(self) -> dict[str, Limbs]:
        """Fetch and check the masked vectors of all survivors."""
        return {seat.node: self.vector(seat).limbs for seat in self.roster.reached(Step.SUBMITTED)}

    def added(self, vectors: dict[str, Limbs]) -> Limbs:
        """Add masked vectors up, each in the section of its group; shape (groups · elements, 8)."""
        groups = self.config.groups
        sections: list[list[Limbs]] = [[] for _ in range(groups)]
        for seat in self.roster.reached(Step.SUBMITTED):
            sections[seat.number % groups].append(vectors[seat.node])
        empty = np.zeros((self.elements, 8), np.uint32)
        return np.concatenate([total(part) if part else empty for part in sections])

    def masked_sum(self) -> Limbs:
        """Return the masked sum Y of the round that runs, from the contract or from checked vectors."""
        if self.mode is Mode.DIRECT:
            return from_words(self.contract.masked_sum(self.task_id))
        return self.added(self.vectors())

    def sum_message(self, masked: Limbs) -> VectorMessage:
        """Return a masked sum as it lies in storage, with commitments where the mode has any."""
        kzg = self.mode in (Mode.KZG, Mode.BLOB)
        if kzg and self.config.groups > 1:
            # Each group's section begins a blob of its own, as its members' vectors do.
            wide = np.zeros((self.config.groups, self._section, 8), np.uint32)
            wide[:, : self.elements] = masked.reshape(self.config.groups, self.elements, 8)
            masked = wide.reshape(-1, 8)
        return VectorMessage.of(self.context, self.contract.address, masked, kzg=kzg)

    def _narrow(self, limbs: Limbs) -> Limbs:
        """Undo the widening of `sum_message`."""
        groups = self.config.groups
        if limbs.shape[0] == groups * self.elements:
            return limbs
        return limbs.reshape(groups, -1, 8)[:, : self.elements].reshape(-1, 8)

    @property
    def _section(self) -> int:
        return -(-self.elements // BLOB_ELEMENTS) * BLOB_ELEMENTS

    def sum_digest(self, message: VectorMessage) -> bytes:
        """Return the digest of a masked sum that the contract publishes with the result.

        keccak256 of its words; where the contract knows commitments alone, a chain of keccak256 over the
        commitments, 128 bytes each.
        """
        if self.mode not in (Mode.KZG, Mode.BLOB):
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
            message.verify(self.context, self.contract.address, message.data_root, message.points)
            if self.sum_digest(message) == wanted:
                return self._narrow(message.limbs)
        except (StoreError, TamperedMessage):
            pass  # whoever published the sum is not needed: the vectors are there
        if self.mode is Mode.DIRECT:
            raise ProtocolError(
                f"the masked sum of round {self.round} is not in storage",
                hint="Keep the mailbox of a sealed task until everybody has caught up.",
            )
        return self.added(self.vectors())

    def _demand_reader(self) -> Reader:
        if self.reader is None:
            raise ProtocolError(
                "shares and results of this task are sealed, and nobody's key was given",
                hint="Look as the owner, as a verifier or as a member: they hold the keys.",
            )
        return self.reader
