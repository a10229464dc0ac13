"""From opened shares to the total mask: what survivors, coordinator and any auditor compute alike."""

from twopm_kit.errors import StoreError
from twopm_kit.federated.contract import AggregationContract
from twopm_kit.federated.mailbox import Mailbox
from twopm_kit.secagg import RoundConfig, ShareAnnouncement, Unmasking, party_id, reconstruct_mask

__all__ = ["announcements", "delivered", "total_mask"]


def announcements(contract: AggregationContract, task_id: int, round: int) -> list[ShareAnnouncement]:
    """Return what every member that shared has put on chain."""
    found = []
    for node in contract.nodes("sharers", task_id, round):
        seat = contract.seat(task_id, round, node)
        found.append(ShareAnnouncement(party_id(node), seat.mask_key, seat.seed_hash, seat.share_root))
    return found


def delivered(
    contract: AggregationContract,
    mailbox: Mailbox,
    task_id: int,
    round: int,
    *,
    kind: str,
    senders: list[str],
) -> dict[str, bytes]:
    """Return the messages that have arrived; a missing one is the same as a silent sender."""
    context = contract.context(task_id, round)
    found = {}
    for sender in senders:
        try:
            found[sender] = mailbox.get(context, kind, sender)
        except StoreError:
            continue
    return found


def total_mask(
    contract: AggregationContract,
    mailbox: Mailbox,
    task_id: int,
    round: int,
    *,
    config: RoundConfig,
    elements: int,
) -> Unmasking:
    """Reconstruct the sum of all masks of a round from public messages.

    Everything that comes from the mailbox is checked against the chain.

    Raises
    ------
    TooFewSurvivors
        If too few good shares are open.
    TamperedMessage
        If a dealer's shares do not lead to what it committed to; the message names it.
    """
    openers = contract.nodes("openers", task_id, round)
    announced = announcements(contract, task_id, round)
    dealers = contract.nodes("sharers", task_id, round)
    return reconstruct_mask(
        contract.context(task_id, round),
        config,
        members=contract.nodes("members", task_id, round),
        announcements=announced,
        messages=delivered(contract, mailbox, task_id, round, kind="shares", senders=dealers),
        survivors=contract.nodes("survivors", task_id, round),
        openings=delivered(contract, mailbox, task_id, round, kind="openings", senders=openers),
        opening_roots={node: contract.seat(task_id, round, node).open_root for node in openers},
        elements=elements,
    )
