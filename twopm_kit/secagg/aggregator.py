"""Removes the masks from a masked sum with the opened shares; anyone who can read them can run it."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from twopm_kit.errors import ProtocolError, TamperedMessage, TooFewSurvivors
from twopm_kit.secagg.boxes import BoxKey
from twopm_kit.secagg.commitments import ShareKind, mask_digest, seed_hash, share_leaf
from twopm_kit.secagg.config import RoundConfig
from twopm_kit.secagg.context import ByParty, Party, RoundContext, party_id, party_name
from twopm_kit.secagg.field import Limbs, subtract
from twopm_kit.secagg.masks import MaskKey, add_masks, pair_key, self_key
from twopm_kit.secagg.messages import OpeningMessage, ShareAnnouncement, ShareMessage, by_party
from twopm_kit.secagg.node import check_survivors, usable_mask_key, verify_share_message
from twopm_kit.secagg.shares import combine, combine_despite_errors

__all__ = ["Unmasking", "reconstruct_mask"]


@dataclass(frozen=True, eq=False)
class Unmasking:
    """The total mask of a round.

    Attributes
    ----------
    mask : uint32 array, shape (m, 8)
        M, the sum of all masks in the survivors' masked vectors.
    digest : bytes
        keccak256 over M as 32-byte big-endian words; the contract compares it with keccak256(Y − X).
    survivors : tuple of bytes
    faults : dict
        Party → what it did wrong. The result is correct all the same.
    """

    mask: Limbs
    digest: bytes
    survivors: tuple[bytes, ...]
    faults: dict[bytes, str] = field(default_factory=dict)

    def unmask(self, masked_sum: Limbs) -> Limbs:
        """Return X = Y − M in F_r; shapes (m, 8)."""
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
    """Reconstruct the sum of all masks.

    Parameters
    ----------
    context : RoundContext
    config : RoundConfig
    members : iterable of addresses
        All selected members.
    announcements : iterable of ShareAnnouncement
        From the chain, of all members that shared (U1).
    messages : mapping of address to ShareMessage or bytes, or iterable of ShareMessage
        From storage.
    survivors : iterable of addresses
        The list that the contract froze.
    openings : mapping of address to OpeningMessage or bytes, or iterable of OpeningMessage
        From storage.
    elements : int
        Length m of the masked vectors.
    opening_roots : mapping of address to bytes, optional
        Roots of the openings on chain; an opening that does not match its root is ignored.

    Returns
    -------
    Unmasking
        With every bad opener and bad message named in `faults`.

    Raises
    ------
    TooFewSurvivors
        If fewer than the threshold opened a good share of some dealer.
    TamperedMessage
        If a dealer's shares lead to another secret than it announced, and not only a few of them, which
        would be corrected; the message names it.
    """
    selected = sorted({party_id(member) for member in members})
    threshold = config.threshold(len(selected))
    announced = {a.dealer: a for a in announcements}
    if not announced.keys() <= set(selected):
        raise ProtocolError(
            "somebody announced shares who was not selected",
            hint="Read members and announcements of one round from the round contract.",
        )
    living = check_survivors(survivors, announced, config.quorum(len(selected)))
    faults: dict[bytes, str] = {}
    dealt = _verified_messages(context, selected, announced, by_party(messages), faults)
    honest, good = _good_shares(context, living, dealt, _parsed(openings, opening_roots, faults), faults)
    enough = len(honest) >= threshold
    binding = context.binding
    plus: list[MaskKey] = []
    minus: list[MaskKey] = []
    for dealer in sorted(announced):
        announcement, shares = announced[dealer], good.get(dealer, {})
        if dealer in living:
            seed = _secret_of(announcement, ShareKind.SELF_SEED, shares, threshold, enough, context, faults)
            plus.append(self_key(seed, binding, dealer))
            continue
        if not usable_mask_key(announcement):
            continue  # it has no pairwise masks: see usable_mask_key
        key = BoxKey(_secret_of(announcement, ShareKind.MASK_KEY, shares, threshold, enough, context, faults))
        for survivor in living:
            other = announced[survivor]
            if usable_mask_key(other):
                parties = {dealer: key.public, survivor: other.mask_public}
                shared = pair_key(key.exchange(other.mask_public), binding, parties)
                (plus if dealer > survivor else minus).append(shared)
    mask = add_masks(elements, plus=plus, minus=minus)
    return Unmasking(mask, mask_digest(mask), living, faults)


def _verified_messages(
    context: RoundContext,
    members: list[bytes],
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
            dealt[dealer] = verify_share_message(received[dealer], announcement, context, members)
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
    living: tuple[bytes, ...],
    dealt: dict[bytes, ShareMessage],
    openings: dict[bytes, OpeningMessage],
    faults: dict[bytes, str],
) -> tuple[set[bytes], dict[bytes, dict[bytes, bytes]]]:
    """Return the openers all of whose entries open their leaves, and dealer → opener → share."""
    openers: set[bytes] = set()
    good: dict[bytes, dict[bytes, bytes]] = {}
    for opener in sorted(openings):
        opening = openings[opener]
        if opening.binding != context.binding or opening.survivors != living:
            _blame(faults, opener, f"the opening of {party_name(opener)} is for another round or list")
            continue
        shares = {}
        honest = True
        for entry in opening.entries:
            message = dealt.get(entry.dealer)
            if message is None:
                continue
            leaf = share_leaf(context.binding, entry.dealer, opener, entry.kind, entry.salt, entry.share)
            if leaf != message.leaf(opener, entry.kind):
                what = f"opened a share of {party_name(entry.dealer)} that does not open its leaf"
                _blame(faults, opener, f"{party_name(opener)} {what}")
                honest = False
                break
            shares[entry.dealer] = entry.share
        if honest:
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
    """Reconstruct a dealer's b or s and check it against what the dealer announced.

    With `enough` honest openers, too few good shares of one dealer are this dealer's doing.
    """
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
