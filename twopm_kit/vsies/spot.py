"""``SpotCheck``: random rows of a committed table, opened on chain; the contract with typed answers.

The cheaper of two ways to show that values are what a schema says. The zero-knowledge proofs of
`twopm_kit.vsies.proofs` speak of every value and show none. A spot check speaks of a sample, and **shows
it: the rows that are drawn are public for ever**, whoever asks and whatever becomes of the dataset. It is
for data of which a sample may be seen.

What a check of k rows says: a table of which a share f of the rows is out of range comes through with
probability (1 - f)^k. `detects` and `rows_needed` reckon with that, and with repeated attempts.
"""

import math
import operator
from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntEnum
from typing import TYPE_CHECKING, Any, ClassVar, Final, SupportsIndex

from twopm_kit.chain import Account, Receipt
from twopm_kit.chain.abi import address_of
from twopm_kit.chain.deployed import Deployed, facts_table
from twopm_kit.errors import DataError, ProofRefused
from twopm_kit.vsies.field import is_number
from twopm_kit.vsies.rows import RowCommitment, RowLayout, RowOpening

if TYPE_CHECKING:
    from twopm_kit.vsies.schema import Schema

__all__ = ["CheckState", "RowCheck", "SpotCheck", "detects", "rows_needed"]

# Of one call that opens rows: below the contract's own limits, and below 120 KB of call data.
_CALL_ENTRIES: Final = 256
#: One row of the largest table.
_SMALLEST_SHARE: Final = 2.0**-32
_CALL_NODES: Final = 3072
_CALL_BYTES: Final = 96 * 1024


class CheckState(IntEnum):
    """States of a check, with the contract's numbers."""

    NONE = 0
    COMMITTED = 1
    DRAWN = 2
    PROVEN = 3

    def __str__(self) -> str:
        return self.name.lower()


@dataclass(frozen=True, repr=False)
class RowCheck:
    """A check as the chain knows it.

    Attributes
    ----------
    check_id : int
        Its number in the contract.
    state : CheckState
        How far it has come.
    contributor : str
        The account that committed, and the only one that opens.
    subject : int
        What the rows belong to, such as the dataset's number in the index.
    schema_hash, root, ranges_hash : bytes
        32 bytes each: schema, commitment to all rows, and the ranges that are checked.
    n_rows : int
        Rows of the table.
    draws, opened : int
        How many rows are drawn, and how many of these are open.
    decided_by : int
        Block whose hash draws.
    attempt : int
        Which attempt of this account on this subject it is, from 1.
    """

    check_id: int
    state: CheckState
    contributor: str
    subject: int
    schema_hash: bytes
    root: bytes
    ranges_hash: bytes
    n_rows: int
    draws: int
    opened: int
    decided_by: int
    attempt: int

    def detects(self, share: float) -> float:
        """Return how likely it was to fail with so large a share of rows out of range (see `detects`)."""
        return detects(share, self.draws, self.attempt)

    def __repr__(self) -> str:
        return (
            f"<RowCheck {self.check_id}: {self.state}, {self.opened} of {self.draws} rows open, "
            f"{self.n_rows:,} rows, attempt {self.attempt}>"
        )

    def _repr_html_(self) -> str:
        facts = {
            "state": str(self.state),
            "subject": str(self.subject),
            "contributor": self.contributor,
            "root": "0x" + self.root.hex(),
            "rows": f"{self.n_rows:,}",
            "rows drawn": f"{self.draws:,}, by block {self.decided_by:,}",
            "rows open": f"{self.opened:,}",
            "attempt": f"{self.attempt:,}",
            "finds 1 % of wrong rows": f"with probability {self.detects(0.01):.1%}",
            "finds 10 % of wrong rows": f"with probability {self.detects(0.1):.1%}",
        }
        return f"<p><strong>Check {self.check_id}</strong></p>{facts_table(facts)}"


# What to do about a refusal of the contract.
_HINTS: Final = {
    "number of draws out of range": "pass rows= from 1 to 1024",
    "the block that draws is not there yet": "wait until block check.decided_by is there; a local chain goes "
    "there with chain.mine(SpotCheck.DELAY + 1)",
    "not drawn yet": "wait until block check.decided_by is there, then call open or draw",
    "only the contributor opens": "send it as check.contributor",
}


class SpotCheck(Deployed):
    """A deployed ``SpotCheck``, as one party sees it. Make one with `deploy` or `at`.

    A check is three steps: `commit`; wait for `DELAY` more blocks; `open`. Pass the dataset's number as
    subject, not the number of one upload: attempts are counted by account and subject, and uploading again
    would start the count afresh.
    """

    CONTRACT: ClassVar[str] = "SpotCheck"
    HINTS = _HINTS
    #: Blocks from a commitment to the block that decides which rows are drawn.
    DELAY: Final = 4
    #: Blocks after that one in which the draw can be kept; later the rows must be committed to again.
    REACH: Final = 256

    # The contributor's side -----------------------------------------------------------------------------

    def commit(self, subject: int, commitment: RowCommitment, rows: int = 64, *, sender: Account) -> RowCheck:
        """Commit to a table on chain, before anybody can know which rows will be drawn.

        Every call is a new attempt with a draw of its own, and is counted. Commit again where the chain has
        forgotten the block that draws.

        Parameters
        ----------
        subject : int
            What the rows belong to: the dataset's number in the index.
        commitment : RowCommitment
            Only its root, the number of rows, the ranges and the schema's hash go on chain.
        rows : int
            How many rows to draw, 1 to 1,024; each of them becomes public.
        sender : Account
            The contributor.

        Raises
        ------
        ContractReverted
            The contract refuses the terms; the reason says which.
        """
        layout = _held(commitment).layout
        receipt = self.send(
            "commit",
            subject,
            layout.schema_hash,
            commitment.root,
            commitment.n_rows,
            list(layout.ranges),
            rows,
            sender=sender,
        )
        return self.check(self.event(receipt, "Committed")["check_id"])

    def draw(self, check_id: int, *, sender: Account) -> list[int]:
        """Keep what the block says, and return the rows that are drawn. Anybody may do it.

        Raises
        ------
        ContractReverted
            The block is not there yet, or forgotten, or the rows are drawn already.
        """
        self.send("draw", check_id, sender=sender)
        return self.drawn(check_id)

    def open(self, check_id: int, commitment: RowCommitment, *, sender: Account) -> list[Receipt]:
        """Open every row that is drawn and not yet open, in as few transactions as they fit in.

        Draws first where nobody did yet. All rows are checked here before one of them is sent: a check that
        cannot be passed shows nothing. Call it again to go on after an interruption.

        Parameters
        ----------
        check_id : int
            The check.
        commitment : RowCommitment
            What was committed to.
        sender : Account
            The contributor.

        Returns
        -------
        list of Receipt
            One for each transaction that opened rows; none when all are open.

        Raises
        ------
        ProofRefused
            The check is to another commitment, or a drawn row is out of range. Nothing was sent.
        ContractReverted
            The contract refuses: the block is not there yet, or the sender is not the contributor.
        """
        layout = _held(commitment).layout
        check = self.check(check_id)
        check_id = check.check_id
        if (check.root, check.n_rows, check.ranges_hash, check.schema_hash) != (
            commitment.root,
            commitment.n_rows,
            layout.ranges_hash,
            layout.schema_hash,
        ):
            raise ProofRefused(
                f"check {check_id} is to the root 0x{check.root.hex()} of {check.n_rows:,} rows with its own "
                f"ranges; the commitment passed has the root 0x{commitment.root.hex()}",
                hint="pass the commitment that was committed to: same table, schema and secret",
            )
        rows = (
            self.draw(check_id, sender=sender)
            if check.state == CheckState.COMMITTED
            else self.drawn(check_id)[check.opened :]
        )
        openings = [commitment.open(row) for row in rows]
        for opening in openings:
            opening.verify(layout, commitment.root, commitment.n_rows)
        return [
            self.send(
                "open",
                check_id,
                list(layout.ranges),
                b"".join(opening.entries for opening in batch),
                [node for opening in batch for path in opening.paths for node in path],
                sender=sender,
            )
            for batch in _batches(openings)
        ]

    # The consumer's side --------------------------------------------------------------------------------

    def check(self, check_id: int) -> RowCheck:
        """Return a check as this party's view of the chain knows it.

        Raises
        ------
        DataError
            The contract has no such check.
        """
        known = _whole(check_id) and 0 < check_id < 1 << 256
        info = self.contract.check_info(operator.index(check_id)) if known else None
        if info is None or info.state == CheckState.NONE:
            raise DataError(
                f"the contract at {self.address} has no check {check_id!r}",
                hint="pass the number of what commit(...) returned: check.check_id",
            )
        check_id = operator.index(check_id)
        terms = info.terms
        return RowCheck(
            check_id,
            CheckState(info.state),
            str(terms.contributor),
            int(terms.subject),
            bytes(terms.schema_hash),
            bytes(terms.root),
            bytes(terms.ranges_hash),
            int(terms.n_rows),
            int(terms.draws),
            int(terms.opened),
            int(terms.decided_by),
            int(terms.attempt),
        )

    def drawn(self, check_id: int) -> list[int]:
        """Return the rows that are drawn, from 0, in order; a row may come more than once.

        Raises
        ------
        ContractReverted
            There is no such check, or nothing is drawn yet.
        """
        with self.explained():
            return [int(row) for row in self.contract.drawn_rows(check_id)]

    def attempts(self, contributor: "Account | str", subject: int) -> int:
        """Return how often an account has committed to rows of a subject."""
        return int(self.contract.attempts(address_of(contributor, "contributor"), subject))

    def demand(
        self,
        check_id: int,
        schema: "Schema",
        *,
        contributor: "Account | str",
        subject: int,
        n_rows: int,
        root: bytes | None = None,
        share: float = 0.1,
        confidence: float = 0.95,
    ) -> RowCheck:
        """Accept a check, or say what is wrong with it. A consumer calls this before relying on one.

        Parameters
        ----------
        check_id : int
            The check.
        schema : Schema
            What the rows should follow: its hash and its ranges must be those of the check.
        contributor : Account or str
            Who should have committed.
        subject : int
            What the rows should belong to.
        n_rows : int
            How many rows are expected, such as those that the index states: rows beyond are never drawn.
        root : bytes, optional
            The root that is expected, where it is known.
        share, confidence : float
            A table with so large a share of rows out of range must have been found with at least so high a
            probability, all attempts counted.

        Raises
        ------
        ProofRefused
            The check is not complete, or is about something else, or says too little.
        SchemaError
            The schema's fields cannot be checked in this way.
        """
        check, layout = self.check(check_id), RowLayout(schema)
        check_id, address = check.check_id, address_of(contributor, "contributor")
        if root is not None and (not isinstance(root, bytes) or len(root) != 32):
            raise DataError(
                f"root is a {type(root).__name__}; expected 32 bytes",
                hint="pass commitment.root: bytes.fromhex(text[2:]) reads 0x…",
            )
        _share("confidence", confidence)
        found = check.detects(share)
        chance = f"{check.draws} rows in attempt {check.attempt} find a share of {share:g} in {found:.1%}"
        faults = {
            f"only {check.opened} of {check.draws} rows are open": check.state != CheckState.PROVEN,
            f"its contributor is {check.contributor}": check.contributor.lower() != address.lower(),
            f"its subject is {check.subject}": check.subject != subject,
            "it is about another schema": check.schema_hash != layout.schema_hash,
            "it looks at other ranges": check.ranges_hash != layout.ranges_hash,
            "it is to another root": root is not None and check.root != root,
            f"it is to {check.n_rows:,} rows": check.n_rows != n_rows,
            f"{chance} of cases only": found < confidence,
        }
        wrong = [fault for fault, holds in faults.items() if holds]
        if wrong:
            raise ProofRefused(
                f"check {check_id} cannot be relied on: {'; '.join(wrong)}",
                hint="ask the contributor for a check of this schema and subject with enough rows",
            )
        return check


def detects(share: float, rows: int, attempts: int = 1) -> float:
    """Return how likely a table with wrong rows is found out.

    Draws are independent, so k rows miss a share f with probability (1 - f)^k; somebody who tries t times is
    found out each time with probability (1 - (1 - f)^k)^t.

    Parameters
    ----------
    share : float
        Share of the rows that are out of range or cannot be opened, above 0 and at most 1.
    rows : int
        How many rows are drawn, at least 1.
    attempts : int
        How many attempts there were, at least 1.

    Raises
    ------
    DataError
        A number is out of its range.
    """
    rows, attempts = _positive("rows", rows), _positive("attempts", attempts)
    share = _share("share", share)
    found = 1.0 if share == 1 else -math.expm1(rows * math.log1p(-share))
    return float(found**attempts)


def rows_needed(share: float, confidence: float, attempts: int = 1) -> int:
    """Return how many rows to draw, so that a table with wrong rows is found out: the inverse of `detects`.

    Parameters
    ----------
    share : float
        Share of the rows that are out of range, at most 1; at least 2^-32, one row of the largest table.
    confidence : float
        How likely it must be found out, above 0 and below 1.
    attempts : int
        How many attempts to allow for.

    Raises
    ------
    DataError
        A number is out of its range.
    """
    share, confidence = _share("share", share), _share("confidence", confidence)
    if confidence == 1:
        raise DataError("a confidence of 1 was passed", hint="pass a number between 0 and 1, such as 0.95")
    if share < _SMALLEST_SHARE:
        raise DataError(
            f"a share of {share} was passed", hint="pass at least 2**-32: no table has more rows than that"
        )
    enough = 1
    while detects(share, enough, attempts) < confidence:
        enough *= 2
    few = enough // 2
    while enough - few > 1:
        middle = (few + enough) // 2
        few, enough = (few, middle) if detects(share, middle, attempts) >= confidence else (middle, enough)
    return enough


def _whole(number: Any) -> bool:
    return isinstance(number, SupportsIndex) and not isinstance(number, bool)


def _positive(name: str, number: Any) -> int:
    """Return a whole number, numpy's too, from 1."""
    if not _whole(number) or not 1 <= operator.index(number) < 1 << 64:
        raise DataError(f"{name}={str(number)[:40]} was passed", hint="pass a whole number from 1")
    return operator.index(number)


def _share(name: str, number: Any) -> float:
    """Return a number above 0 and at most 1."""
    if not is_number(number) or not 0 < number <= 1:
        percent = is_number(number) and 1 < number <= 100
        raise DataError(
            f"a {name} of {str(number)[:40]} was passed",
            hint=f"pass a number above 0 and at most 1{f', such as {number / 100:g}' if percent else ''}",
        )
    return float(number)


def _held(commitment: Any) -> RowCommitment:
    if not isinstance(commitment, RowCommitment):
        raise DataError(
            f"commitment is a {type(commitment).__name__}; expected a RowCommitment",
            hint="pass RowCommitment(schema, schema.validate(frame), secret) after the number",
        )
    return commitment


def _batches(openings: list[RowOpening]) -> Iterator[list[RowOpening]]:
    """Divide rows among transactions, in their order, each within the limits of one call."""
    batch: list[RowOpening] = []
    entries = nodes = 0
    for opening in openings:
        more, further = len(opening.paths), sum(map(len, opening.paths))
        full = (
            entries + more > _CALL_ENTRIES
            or nodes + further > _CALL_NODES
            or (entries + more) * 256 + (nodes + further) * 32 > _CALL_BYTES
        )
        if batch and full:
            yield batch
            batch, entries, nodes = [], 0, 0
        batch.append(opening)
        entries, nodes = entries + more, nodes + further
    if batch:
        yield batch
