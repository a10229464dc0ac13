"""From opened shares to the total mask: what survivors, coordinator and any auditor compute alike."""

from twopm_kit.errors import StoreError
from twopm_kit.federated.contract import AggregationContract, Step
from twopm_kit.federated.mailbox import Mailbox
from twopm_kit.secagg import RoundConfig, Unmasking, reconstruct_mask

__all__ = ["delivered", "total_mask"]


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
    roster = contract.roster(task_id, round)
    return reconstruct_mask(
        contract.context(task_id, round),
        config,
        members=roster.members,
        announcements=roster.announcements,
        messages=delivered(contract, mailbox, task_id, round, kind="shares", senders=roster.sharers),
        survivors=roster.survivors,
        openings=delivered(contract, mailbox, task_id, round, kind="openings", senders=roster.openers),
        opening_roots={seat.node: seat.open_root for seat in roster.reached(Step.OPENED)},
        elements=elements,
    )
