"""One node in one round: deal shares, mask one vector, open one kind of share per dealer; nothing twice."""

import hashlib
import os
from collections.abc import Iterable
from dataclasses import asdict
from enum import IntEnum

import numpy as np

from twopm_kit.errors import ProtocolError, TamperedMessage
from twopm_kit.secagg.boxes import BoxKey, check_public_key, open_box, seal
from twopm_kit.secagg.commitments import SALT_BYTES, ShareKind, seed_hash, share_leaf, survivors_digest
from twopm_kit.secagg.config import RoundConfig
from twopm_kit.secagg.context import ByParty, Party, RoundContext, party_id, party_name
from twopm_kit.secagg.field import Limbs, check_limbs
from twopm_kit.secagg.graph import Graph
from twopm_kit.secagg.masks import MaskKey, add_masks, pair_key, self_key
from twopm_kit.secagg.messages import (
    BOX_BYTES,
    OpenedShare,
    OpeningMessage,
    ShareAnnouncement,
    ShareMessage,
    SharePair,
    by_party,
)
from twopm_kit.secagg.roster import Roster
from twopm_kit.secagg.shares import SECRET_BYTES, split
from twopm_kit.secagg.state import open_state, seal_state
from twopm_kit.secrecy import KeptSecret, wipe

__all__ = ["NodeSession", "Stage", "usable_mask_key", "verify_share_message"]


class Stage(IntEnum):
    """Where a session stands; it only moves forward."""

    NEW = 0
    SHARED = 1
    RECEIVED = 2
    MASKED = 3
    OPENED = 4
    CLOSED = 5


def verify_share_message(
    message: ShareMessage | bytes,
    announcement: ShareAnnouncement,
    context: RoundContext,
    roster: Roster | Iterable[Party],
) -> ShareMessage:
    """Check a share message from storage against what its dealer put on chain.

    Parameters
    ----------
    message : ShareMessage or bytes
    announcement : ShareAnnouncement
        From the chain.
    context : RoundContext
    roster : Roster or iterable of addresses
        All selected members of the round; addresses, in ring order, where all are neighbours.

    Returns
    -------
    ShareMessage

    Raises
    ------
    TamperedMessage
        If it is malformed, of another round, for other members, or its leaves do not lead to the root; the
        message names the dealer.
    """
    dealer = party_name(announcement.dealer)
    hint = "Leave this dealer's shares out; the threshold allows for it."
    if not isinstance(roster, Roster):
        seated = tuple(party_id(member) for member in roster)
        roster = Roster(seated, Graph(len(seated), len(seated) - 1, 1))
    try:
        parsed = message if isinstance(message, ShareMessage) else ShareMessage.from_bytes(message)
    except TamperedMessage as cause:
        raise TamperedMessage(
            f"the share message of {dealer} is malformed: {cause.message}", hint=hint
        ) from cause
    if parsed.binding != context.binding:
        raise TamperedMessage(f"the share message of {dealer} belongs to another round", hint=hint)
    if parsed.announcement != announcement:
        raise TamperedMessage(
            f"the share message of {dealer} does not match what {dealer} announced on chain", hint=hint
        )
    if parsed.receivers != roster.receivers(announcement.dealer):
        raise TamperedMessage(
            f"the share message of {dealer} is not for its neighbours in the round, in ring order", hint=hint
        )
    return parsed


def usable_mask_key(announcement: ShareAnnouncement) -> bool:
    """Tell whether a member's mask key takes part in pairwise masks.

    A malformed or small-order key does not: everybody, by the same public rule, leaves the masks of its
    pairs out. Its owner gives up that layer of its own protection and cannot stop the others.
    """
    try:
        check_public_key(announcement.mask_public)
    except TamperedMessage:
        return False
    return True


class NodeSession(KeptSecret):
    """A member's side of one round.

    Call `share_message`, `receive`, `mask` and `open_shares` in this order. Repeating a call with the same
    arguments returns the same answer; repeating it with others is refused, because two vectors under one
    mask, or both kinds of share of one dealer, would reveal the vector.

    Parameters
    ----------
    context : RoundContext
    config : RoundConfig
    address : bytes or str
        The member's own address.
    box_key : BoxKey
        Its long-lived key.

    Attributes
    ----------
    stage : Stage
    mask_public : bytes
        X25519 public key of the fresh mask key s.
    complaints : dict
        Dealer → why its shares cannot be used. The round goes on without them.
    """

    def __init__(self, context: RoundContext, config: RoundConfig, address: Party, box_key: BoxKey) -> None:
        self.context = context
        self.config = config
        self.address = party_id(address)
        self.stage = Stage.NEW
        self.complaints: dict[bytes, str] = {}
        self._roster: Roster | None = None
        self._box_key = box_key
        self._seed = bytearray(os.urandom(SECRET_BYTES))
        self._mask_secret = bytearray(os.urandom(SECRET_BYTES))
        self._mask_key = BoxKey(bytes(self._mask_secret))
        self.mask_public = self._mask_key.public
        self._peers: dict[bytes, bytes] = {}
        self._message: ShareMessage | None = None
        self._announced: dict[bytes, ShareAnnouncement] = {}
        self._held: dict[bytes, SharePair] = {}
        self._masked_digest = b""
        self._opening: OpeningMessage | None = None

    def __repr__(self) -> str:
        return f"NodeSession({party_name(self.address)}, round {self.context.round}, {self.stage.name})"

    @property
    def members(self) -> tuple[bytes, ...]:
        """All selected members in ring order; empty before `share_message`."""
        return tuple(self._peers)

    @property
    def roster(self) -> Roster:
        """Members of the round and their graph; `ProtocolError` before `share_message`."""
        if self._roster is None:
            raise ProtocolError(
                f"the session of {party_name(self.address)} knows no members yet",
                hint="Call share_message with all members first.",
            )
        return self._roster

    @property
    def threshold(self) -> int:
        """Shares that reconstruct a secret; 0 before `share_message`."""
        return self._roster.threshold if self._roster else 0

    @property
    def shared(self) -> tuple[bytes, ...]:
        """Members that announced their shares in time (U1), in ring order; empty before `receive`."""
        return tuple(member for member in self._peers if member in self._announced)

    def share_message(self, peers: ByParty[bytes]) -> ShareMessage:
        """Deal shares of both secrets to the neighbours and to itself (message M1).

        A member whose box key is malformed or of small order is noted in `complaints` and gets a box that
        nobody can open; the threshold goes without it.

        Parameters
        ----------
        peers : mapping
            Address → X25519 box key of every selected member, this node among them, in ring order: the
            order of the member list on chain.

        Returns
        -------
        ShareMessage
            Goes to storage; its `announcement` goes on chain.

        Raises
        ------
        ProtocolError
            If shares were already dealt to other members or in another order, or this node is not listed
            with its own key.
        RoundConfigError
            If the configuration has no threshold for this member count.
        """
        members = {party_id(party): bytes(public) for party, public in peers.items()}
        if members.get(self.address) != self._box_key.public:
            raise ProtocolError(
                f"{party_name(self.address)} is not listed with this node's box key",
                hint="Register the public half of the key that this node holds, and pass all members.",
            )
        if self._message is not None:
            if list(members.items()) == list(self._peers.items()):
                return self._message
            raise ProtocolError(
                "shares were already dealt to another list of members",
                hint="Start a new session, with fresh secrets, for a new round.",
            )
        self._demand(Stage.NEW)
        roster = Roster.of(self.config, members)
        receivers = roster.receivers(self.address)
        seed_shares = split(bytes(self._seed), receivers, roster.threshold)
        key_shares = split(bytes(self._mask_secret), receivers, roster.threshold)
        binding, leaves, boxes = self.context.binding, [], []
        for receiver in receivers:
            pair = SharePair(
                seed_shares[receiver], os.urandom(SALT_BYTES), key_shares[receiver], os.urandom(SALT_BYTES)
            )
            for kind in ShareKind:
                share, salt = pair.pick(kind)
                leaves.append(share_leaf(binding, self.address, receiver, kind, salt, share))
            if receiver == self.address:
                self._held[receiver] = pair
            else:
                boxes.append(self._box_for(receiver, members[receiver], pair))
        self._peers, self._roster = members, roster
        self._message = ShareMessage(
            binding=binding,
            dealer=self.address,
            mask_public=self.mask_public,
            seed_hash=seed_hash(binding, self.address, bytes(self._seed)),
            receivers=receivers,
            leaves=tuple(leaves),
            boxes=tuple(boxes),
        )
        self.stage = Stage.SHARED
        return self._message

    def _box_for(self, receiver: bytes, public: bytes, pair: SharePair) -> bytes:
        try:
            return seal(self.context, self._box_key, public, self.address, receiver, pair.to_bytes())
        except TamperedMessage as fault:
            # A key that cannot seal must not stop the others: its owner gets noise and can open nothing.
            self.complaints[receiver] = fault.message
            return os.urandom(BOX_BYTES)

    def receive(
        self,
        messages: ByParty[ShareMessage | bytes] | Iterable[ShareMessage],
        announcements: Iterable[ShareAnnouncement],
    ) -> None:
        """Take the shares that the other members dealt.

        Parameters
        ----------
        messages : mapping of address to ShareMessage or bytes, or iterable of ShareMessage
            From storage: hostile until checked.
        announcements : iterable of ShareAnnouncement
            From the chain, of all members that shared in time (U1). This fixes who has pairwise masks.

        Raises
        ------
        ProtocolError
            If called out of turn, or the announcements name a stranger, a member twice, not this node, or
            something else than this node announced.
        TooFewSurvivors
            If fewer members shared than the round needs.

        Notes
        -----
        A dealer whose message is missing, malformed or does not open is noted in `complaints`. The round
        goes on: the other members' shares of that dealer are enough if the threshold holds.
        """
        listed = list(announcements)
        announced = {a.dealer: a for a in listed}
        if self._announced:
            if announced == self._announced and len(listed) == len(announced):
                return
            raise ProtocolError(
                "another set of announcements was already received",
                hint="Read the announcements once, after the deadline of the share step.",
            )
        self._demand(Stage.SHARED)
        roster = self.roster
        if len(announced) != len(listed) or not announced.keys() <= self._peers.keys():
            raise ProtocolError(
                "the announcements name a member twice or somebody who was not selected",
                hint="Read the announcements of the selected members from the round contract.",
            )
        if self._message is None or announced.get(self.address) != self._message.announcement:
            raise ProtocolError(
                f"the announcements do not hold what {party_name(self.address)} announced",
                hint="Announce mask_public, seed_hash and root of this session before the deadline.",
            )
        roster.demand_enough(announced, announced, "shared")
        received = by_party(messages)
        for dealer in roster.receivers(self.address)[1:]:
            if dealer not in announced:
                continue
            if dealer not in received:
                self.complaints[dealer] = f"{party_name(dealer)} announced shares that are not in storage"
                continue
            try:
                self._held[dealer] = self._open(received[dealer], announced[dealer], roster)
            except TamperedMessage as fault:
                self.complaints[dealer] = fault.message
        self._announced = announced
        self.stage = Stage.RECEIVED

    def _open(self, raw: ShareMessage | bytes, announcement: ShareAnnouncement, roster: Roster) -> SharePair:
        dealer, me = announcement.dealer, self.address
        message = verify_share_message(raw, announcement, self.context, roster)
        text = open_box(self.context, self._box_key, self._peers[dealer], dealer, me, message.box_for(me))
        pair = SharePair.from_bytes(text)
        for kind in ShareKind:
            share, salt = pair.pick(kind)
            leaf = share_leaf(self.context.binding, dealer, me, kind, salt, share)
            if leaf != message.leaf(me, kind):
                raise TamperedMessage(
                    f"the share of {kind.name} that {party_name(dealer)} dealt does not open its leaf",
                    hint="Leave this dealer's shares out; the threshold allows for it.",
                )
        return pair

    def mask(self, vector: Limbs) -> Limbs:
        """Mask the encoded vector (message M2).

        Parameters
        ----------
        vector : uint32 array, shape (m, 8)
            What `Encoder.encode` returned.

        Returns
        -------
        uint32 array, shape (m, 8)
            x + PRG(b) + Σ_{j > i} PRG(s_ij) − Σ_{j < i} PRG(s_ij) over the neighbours in this node's group
            that shared; addresses compare as numbers.

        Raises
        ------
        ProtocolError
            If another vector was already masked in this round.
        EncodingError
            If the array is not a vector of field elements.
        """
        digest = hashlib.sha256(np.ascontiguousarray(check_limbs(vector)).data).digest()
        self._demand(Stage.RECEIVED, Stage.MASKED)
        if self._masked_digest and digest != self._masked_digest:
            raise ProtocolError(
                "this session has already masked another vector; two vectors under one mask give both away",
                hint="Submit the vector that was masked first, and encode only once a round.",
            )
        plus = [self_key(bytes(self._seed), self.context.binding, self.address)]
        minus: list[MaskKey] = []
        for peer in self.roster.partners(self.address):
            if peer in self._announced and usable_mask_key(self._announced[peer]):
                (plus if peer > self.address else minus).append(self._pair_key(self._announced[peer]))
        masked = add_masks(vector.shape[0], plus=plus, minus=minus, base=vector)
        self._masked_digest = digest
        self.stage = Stage.MASKED
        return masked

    def _pair_key(self, peer: ShareAnnouncement) -> MaskKey:
        shared = self._mask_key.exchange(peer.mask_public)
        parties = {self.address: self.mask_public, peer.dealer: peer.mask_public}
        return pair_key(shared, self.context.binding, parties)

    def open_shares(self, survivors: Iterable[Party]) -> OpeningMessage:
        """Open one share per dealer (message M3): of b for a survivor, of s for a drop-out.

        Parameters
        ----------
        survivors : iterable of addresses
            The list that the contract froze.

        Returns
        -------
        OpeningMessage
            Goes to storage; its `root` goes on chain.

        Raises
        ------
        ProtocolError
            If shares were already opened for another list, or the list names a stranger, a member twice, or
            not this node.
        TooFewSurvivors
            If the list is shorter than the round allows, or the round could not finish with it; see
            `Roster.survivors`.
        """
        self._demand(Stage.MASKED, Stage.OPENED)
        roster = self.roster
        living = roster.survivors(survivors, self._announced)
        digest = survivors_digest(self.context.binding, roster.bitmap(living))
        if self._opening is not None:
            if digest == self._opening.survivors:
                return self._opening
            raise ProtocolError(
                "shares were already opened for another survivor list; both kinds of share unmask a node",
                hint="There is one frozen list per round: read it from the round contract.",
            )
        if self.address not in living:
            raise ProtocolError(
                f"the survivor list leaves out {party_name(self.address)}, which is asked to open shares",
                hint="Only survivors open shares; check whether this node's vector arrived in time.",
            )
        entries = []
        for dealer in roster.receivers(self.address):
            if dealer in self._held:
                kind = ShareKind.SELF_SEED if dealer in living else ShareKind.MASK_KEY
                share, salt = self._held[dealer].pick(kind)
                entries.append(OpenedShare(dealer, kind, salt, share))
        self._opening = OpeningMessage(self.context.binding, self.address, digest, tuple(entries))
        self.stage = Stage.OPENED
        self._forget()
        return self._opening

    def sealed_state(self, key: bytes) -> bytes:
        """Return this session, whatever its stage, encrypted for the disk.

        Write it before the messages of the stage leave the node, over the state of the stage before: a node
        that restores an older state has forgotten what it must not do twice.

        Parameters
        ----------
        key : bytes
            32 secret bytes, kept elsewhere. The box key is not part of the state.
        """
        fields = {
            "config": asdict(self.config),
            "box": self._box_key.public.hex(),
            "stage": int(self.stage),
            "seed": self._seed.hex(),
            "mask_secret": self._mask_secret.hex(),
            "mask_public": self.mask_public.hex(),
            "peers": [[peer.hex(), public.hex()] for peer, public in self._peers.items()],
            "message": self._message.to_bytes().hex() if self._message else "",
            "announced": [
                [a.dealer.hex(), a.mask_public.hex(), a.seed_hash.hex(), a.root.hex()]
                for a in self._announced.values()
            ],
            "held": [[dealer.hex(), pair.to_bytes().hex()] for dealer, pair in self._held.items()],
            "complaints": [[dealer.hex(), why] for dealer, why in self.complaints.items()],
            "masked": self._masked_digest.hex(),
            "opening": self._opening.to_bytes().hex() if self._opening else "",
        }
        return seal_state(key, self.context, self.address, fields)

    @classmethod
    def from_sealed_state(cls, data: bytes, key: bytes, box_key: BoxKey) -> "NodeSession":
        """Restore a session where `sealed_state` left it; it repeats its answers and does nothing twice.

        Raises
        ------
        TamperedMessage
            If the state was altered or cut, or sealed under another key.
        ProtocolError
            If it belongs to a node with another box key.
        """
        context, address, fields = open_state(key, data)
        if bytes.fromhex(fields["box"]) != box_key.public:
            raise ProtocolError(
                f"the sealed state of {party_name(address)} belongs to another box key",
                hint="Pass the box key that the session was made with.",
            )
        session = cls(context, RoundConfig(**fields["config"]), address, box_key)
        session.stage = Stage(fields["stage"])
        session.mask_public = bytes.fromhex(fields["mask_public"])
        session._peers = {bytes.fromhex(peer): bytes.fromhex(public) for peer, public in fields["peers"]}
        session._announced = {
            announcement.dealer: announcement
            for announcement in (ShareAnnouncement(*map(bytes.fromhex, row)) for row in fields["announced"])
        }
        session.complaints = {bytes.fromhex(dealer): why for dealer, why in fields["complaints"]}
        session._masked_digest = bytes.fromhex(fields["masked"])
        if fields["message"]:
            session._roster = Roster.of(session.config, session._peers)
            session._message = ShareMessage.from_bytes(bytes.fromhex(fields["message"]))
        if fields["opening"]:
            session._opening = OpeningMessage.from_bytes(bytes.fromhex(fields["opening"]))
        if session.stage < Stage.OPENED:
            session._seed[:] = bytes.fromhex(fields["seed"])
            session._mask_secret[:] = bytes.fromhex(fields["mask_secret"])
            session._mask_key = BoxKey(bytes(session._mask_secret))
            session._held = {
                bytes.fromhex(dealer): SharePair.from_bytes(bytes.fromhex(pair))
                for dealer, pair in fields["held"]
            }
        else:
            session._forget()
        return session

    def close(self) -> None:
        """Forget all secrets. The session cannot be used any more."""
        self._forget()
        self._opening = None
        self.stage = Stage.CLOSED

    def _forget(self) -> None:
        wipe(self._seed)
        wipe(self._mask_secret)
        self._mask_key = BoxKey.generate()  # drops the last reference to the round's key
        self._held.clear()

    def _demand(self, *stages: Stage) -> None:
        if self.stage not in stages:
            wanted = " or ".join(stage.name for stage in stages)
            raise ProtocolError(
                f"the session of {party_name(self.address)} is {self.stage.name}, expected {wanted}",
                hint="Call share_message, receive, mask and open_shares in this order, once a round.",
            )
