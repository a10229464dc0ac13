"""Removes the masks from a masked sum with the opened shares; anyone who can read them can run it."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np

from twopm_kit.errors import ProtocolError, TamperedMessage, TooFewSurvivors
from twopm_kit.secagg.boxes import BoxKey
from twopm_kit.secagg.commitments import ShareKind, mask_digest, seed_hash, share_leaf, survivors_digest
from twopm_kit.secagg.config import RoundConfig
from twopm_kit.secagg.context import ByParty, Party, RoundContext, party_id, party_name
from twopm_kit.secagg.field import Limbs, subtract
from twopm_kit.secagg.masks import MaskKey, add_masks, pair_key, self_key
from twopm_kit.secagg.messages import OpeningMessage, ShareAnnouncement, ShareMessage, by_party
from twopm_kit.secagg.node import usable_mask_key, verify_share_message
from twopm_kit.secagg.roster import Roster
from twopm_kit.secagg.shares import combine, combine_despite_errors

__all__ = ["Unmasking", "reconstruct_mask"]


@dataclass(frozen=True, eq=False)
class Unmasking:
    """The total mask of a round.

    Attributes
    ----------
    mask : uint32 array, shape (groups · m, 8)
        M, for each group the sum of all masks in its survivors' masked vectors.
    digest : bytes
        keccak256 over M as 32-byte big-endian words; the contract compares it with keccak256(Y − X).
    survivors : tuple of bytes
        In ring order.
    faults : dict
        Party → what it did wrong. The result is correct all the same.
    """

    mask: Limbs
    digest: bytes
    survivors: tuple[bytes, ...]
    faults: dict[bytes, str] = field(default_factory=dict)

    def unmask(self, masked_sum: Limbs) -> Limbs:
        """Return X = Y − M in F_r; shapes (groups · m, 8)."""
        return subtract(masked_sum, self.mask)

    def __repr__(self) -> str:
        return (
            f"Unmasking({self.mask.shape[0]} elements, {len(self.survivors)} survivors, "
            f"{len(self.faults)} faults, digest={self.digest.hex()[:16]}…)"
        )


def reconstruct_mask(
    context: RoundContext,
    config: RoundConfig,
    *,
    members: Iterable[Party],
    announcements: Iterable[ShareAnnouncement],
    messages: ByParty[ShareMessage | bytes] | Iterable[ShareMessage],
    survivors: Iterable[Party],
    openings: ByParty[OpeningMessage | bytes] | Iterable[OpeningMessage],
    elements: int,
    opening_roots: ByParty[bytes] | None = None,
) -> Unmasking:
    """Reconstruct the sum of all masks, for each group one.

    Parameters
    ----------
    context : RoundContext
    config : RoundConfig
    members : iterable of addresses
        All selected members, in ring order.
    announcements : iterable of ShareAnnouncement
        From the chain, of all members that shared (U1).
    messages : mapping of address to ShareMessage or bytes, or iterable of ShareMessage
        From storage.
    survivors : iterable of addresses
        The list that the contract froze.
    openings : mapping of address to OpeningMessage or bytes, or iterable of OpeningMessage
        From storage.
    elements : int
        Length m of one member's masked vector.
    opening_roots : mapping of address to bytes, optional
        Roots of the openings on chain; an opening that does not match its root is ignored.

    Returns
    -------
    Unmasking
        With every bad opener and bad message named in `faults`.

    Raises
    ------
    TooFewSurvivors
        If fewer than the threshold opened a good share of some dealer, which the message names; or if the
        survivor list cannot lead to a result (`Roster.survivors`).
    TamperedMessage
        If a dealer's shares lead to another secret than it announced, and not only a few of them, which
        would be corrected; the message names it.
    """
    roster = Roster.of(config, members)
    announced = {a.dealer: a for a in announcements}
    if not announced.keys() <= set(roster.members):
        raise ProtocolError(
            "somebody announced shares who was not selected",
            hint="Read members and announcements of one round from the round contract.",
        )
    living = roster.survivors(survivors, announced)
    present = set(living)
    faults: dict[bytes, str] = {}
    dealt = _verified_messages(context, roster, announced, by_party(messages), faults)
    given = _parsed(openings, opening_roots, faults)
    honest, good = _good_shares(context, roster, living, dealt, given, faults)
    usable = {member for member, announcement in announced.items() if usable_mask_key(announcement)}
    plus: list[list[MaskKey]] = [[] for _ in range(roster.groups)]
    minus: list[list[MaskKey]] = [[] for _ in range(roster.groups)]

    def secret(dealer: bytes, kind: ShareKind) -> bytes:
        # With enough honest openers, too few good shares of one dealer are this dealer's doing.
        enough = sum(receiver in honest for receiver in roster.receivers(dealer)) >= roster.threshold
        shares = good.get(dealer, {})
        return _secret_of(announced[dealer], kind, shares, roster.threshold, enough, context, faults)

    for dealer in roster.seated(announced):
        group = roster.group(dealer)
        if dealer in present:
            seed = secret(dealer, ShareKind.SELF_SEED)
            plus[group].append(self_key(seed, context.binding, dealer))
            continue
        # An unusable key has no pairwise masks: see usable_mask_key.
        partners = [p for p in roster.partners(dealer) if p in present and {p, dealer} <= usable]
        if partners:
            key = BoxKey(secret(dealer, ShareKind.MASK_KEY))
            for survivor in partners:
                public = announced[survivor].mask_public
                parties = {dealer: key.public, survivor: public}
                shared = pair_key(key.exchange(public), context.binding, parties)
                (plus if dealer > survivor else minus)[group].append(shared)
    sections = [add_masks(elements, plus=p, minus=m) for p, m in zip(plus, minus, strict=True)]
    mask = sections[0] if len(sections) == 1 else np.concatenate(sections)
    return Unmasking(mask, mask_digest(mask), living, faults)


def _verified_messages(
    context: RoundContext,
    roster: Roster,
    announced: dict[bytes, ShareAnnouncement],
    received: Mapping[bytes, ShareMessage | bytes],
    faults: dict[bytes, str],
) -> dict[bytes, ShareMessage]:
    dealt = {}
    for dealer, announcement in announced.items():
        try:
            if dealer not in received:
                _blame(faults, dealer, f"{party_name(dealer)} announced shares that are not in storage")
                continue
            dealt[dealer] = verify_share_message(received[dealer], announcement, context, roster)
        except TamperedMessage as fault:
            _blame(faults, dealer, fault.message)
    return dealt


def _parsed(
    openings: ByParty[OpeningMessage | bytes] | Iterable[OpeningMessage],
    roots: ByParty[bytes] | None,
    faults: dict[bytes, str],
) -> dict[bytes, OpeningMessage]:
    if isinstance(openings, Mapping):
        raw: dict[bytes, OpeningMessage | bytes] = {party_id(p): o for p, o in openings.items()}
    else:
        raw = {opening.opener: opening for opening in openings}
    expected = None if roots is None else {party_id(p): root for p, root in roots.items()}
    parsed = {}
    for opener, message in raw.items():
        try:
            opening = message if isinstance(message, OpeningMessage) else OpeningMessage.from_bytes(message)
        except TamperedMessage as fault:
            _blame(faults, opener, f"the opening of {party_name(opener)} is malformed: {fault.message}")
            continue
        if opening.opener != opener:
            _blame(faults, opener, f"{party_name(opener)} sent the opening of {party_name(opening.opener)}")
        elif expected is not None and expected.get(opener) != opening.root:
            _blame(faults, opener, f"the opening of {party_name(opener)} does not match its root on chain")
        else:
            parsed[opener] = opening
    return parsed


def _good_shares(
    context: RoundContext,
    roster: Roster,
    living: tuple[bytes, ...],
    dealt: dict[bytes, ShareMessage],
    openings: dict[bytes, OpeningMessage],
    faults: dict[bytes, str],
) -> tuple[set[bytes], dict[bytes, dict[bytes, bytes]]]:
    """Return the openers all of whose entries open their leaves, and dealer → opener → share."""
    openers: set[bytes] = set()
    good: dict[bytes, dict[bytes, bytes]] = {}
    present = set(living)
    digest = survivors_digest(context.binding, roster.bitmap(living))
    for opener in roster.seated(openings):
        opening = openings[opener]
        if opener not in present:
            _blame(faults, opener, f"{party_name(opener)} opened shares and is no survivor")
            continue
        if opening.binding != context.binding or opening.survivors != digest:
            _blame(faults, opener, f"the opening of {party_name(opener)} is for another round or list")
            continue
        shares = {}
        neighbours = set(roster.receivers(opener))
        for entry in opening.entries:
            message = dealt.get(entry.dealer)
            wanted = ShareKind.SELF_SEED if entry.dealer in present else ShareKind.MASK_KEY
            if entry.dealer not in neighbours:
                what = f"opened a share of {party_name(entry.dealer)}, which dealt it none"
            elif entry.kind is not wanted:
                # It gave away what nobody may know: it is blamed, and the share is left unused.
                what = (
                    f"opened the share of {entry.kind.name} of {party_name(entry.dealer)}, whose state asks "
                    f"for {wanted.name}"
                )
            elif message is None:
                continue
            elif message.leaf(opener, entry.kind) != share_leaf(
                context.binding, entry.dealer, opener, entry.kind, entry.salt, entry.share
            ):
                what = f"opened a share of {party_name(entry.dealer)} that does not open its leaf"
            else:
                shares[entry.dealer] = entry.share
                continue
            _blame(faults, opener, f"{party_name(opener)} {what}")
            break
        else:
            openers.add(opener)
            for dealer, share in shares.items():
                good.setdefault(dealer, {})[opener] = share
    return openers, good


def _secret_of(
    announcement: ShareAnnouncement,
    kind: ShareKind,
    shares: dict[bytes, bytes],
    threshold: int,
    enough: bool,
    context: RoundContext,
    faults: dict[bytes, str],
) -> bytes:
    """Reconstruct a dealer's b or s and check it against what the dealer announced."""
    dealer = announcement.dealer
    if len(shares) < threshold:
        raise TooFewSurvivors(
            f"{len(shares)} good shares of {kind.name} of {party_name(dealer)} were opened, expected at "
            f"least {threshold}",
            hint="Wait for more survivors to open their shares, or end the round without a result.",
            dealer=dealer if enough else b"",
        )
    for attempt in (combine, combine_despite_errors):
        try:
            secret = attempt(shares, threshold)
        except TamperedMessage:
            continue
        if _matches(announcement, kind, secret, context):
            if attempt is combine_despite_errors:
                _blame(faults, dealer, f"{party_name(dealer)} dealt shares that are not of one polynomial")
            return secret
    raise TamperedMessage(
        f"{party_name(dealer)} is a bad dealer: its shares of {kind.name} do not lead to what it announced",
        hint="End the round and hold the dealer responsible: leaves and openings prove the fault.",
        dealer=dealer,
    )


def _matches(announcement: ShareAnnouncement, kind: ShareKind, secret: bytes, context: RoundContext) -> bool:
    if kind is ShareKind.SELF_SEED:
        return seed_hash(context.binding, announcement.dealer, secret) == announcement.seed_hash
    return BoxKey(secret).public == announcement.mask_public


def _blame(faults: dict[bytes, str], party: bytes, why: str) -> None:
    faults[party] = f"{faults[party]}; {why}" if party in faults else why
