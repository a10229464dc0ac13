"""Spot checks on chain: every call in every state by everybody, and every way to open what was not drawn."""

import os
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from eth_abi import encode
from eth_hash.auto import keccak

from twopm_kit.errors import ContractReverted, DataError, ProofRefused
from twopm_kit.vsies.rows import MISSING, RowCommitment, RowLayout
from twopm_kit.vsies.schema import Field, Schema
from twopm_kit.vsies.spot import CheckState, SpotCheck, detects
from twopm_kit.vsies.storage.entries import EntryTree

SECRET = bytes(range(32))
TOP = 2**63 - 1
WIDE = Schema("wide", [Field(f"f{i}", "int", low=0, high=100) for i in range(30)])
WIDEST = Schema("widest", [Field(f"f{i}", "int", low=0, high=100) for i in range(224)])
SUBJECT = 7


def table(rows, fields, seed=1):
    values = np.random.default_rng(seed).integers(0, 101, (rows, fields))
    return pd.DataFrame(values, columns=[f"f{i}" for i in range(fields)])


def column(*values, nullable=True):
    """A commitment to one column, written without a look at any range."""
    schema = Schema("column", [Field("x", "int", nullable=nullable)])
    return RowCommitment(schema, pd.DataFrame({"x": pd.array(values, dtype="Int64")}), SECRET)


def refused(reason, call, *arguments, **options):
    with pytest.raises(ContractReverted) as caught:
        call(*arguments, **options)
    assert caught.value.reason == reason


class Story:
    """A contract with a commitment of 600 rows in two entries each: two segments, the second one smaller."""

    def __init__(self, chain):
        self.chain = chain
        self.alice, self.mallory = (chain.account(n) for n in ("alice", "mallory"))
        self.spot = SpotCheck.deploy(chain, self.mallory)
        self.contract = self.spot.contract
        self.made = RowCommitment(WIDE, table(600, 30), SECRET)

    def commit(self, made=None, rows=3, who=None, **changes):
        """Commit through the contract itself, with terms of one's own; return the check's number."""
        made = made or self.made
        terms = {
            "subject": SUBJECT,
            "schema_hash": made.layout.schema_hash,
            "root": made.root,
            "n_rows": made.n_rows,
            "ranges": list(made.layout.ranges),
            "draws": rows,
        }
        receipt = self.contract.commit(*{**terms, **changes}.values(), sender=who or self.alice)
        return receipt.events[0]["check_id"]

    def drawn(self, made=None, **terms):
        """Commit and draw; return the check's number and the rows."""
        check = self.commit(made, **terms)
        self.chain.mine(SpotCheck.DELAY)
        return check, self.spot.draw(check, sender=self.mallory)

    def bring(self, state):
        if state == "none":
            return self.contract.check_count() + 1
        if state == "committed":
            return self.commit()
        check = self.commit()
        self.chain.mine(SpotCheck.DELAY)
        if state == "forgotten":
            self.chain.mine(SpotCheck.REACH)
        if state in ("drawn", "partly", "proven"):
            rows = self.spot.draw(check, sender=self.mallory)
            self.open(check, rows[: {"drawn": 0, "partly": 1, "proven": 3}[state]])
        return check

    def open(self, check, rows, made=None, who=None, **changes):
        """Open rows through the contract itself, with arguments of one's own."""
        made = made or self.made
        if not rows and not changes:
            return None
        openings = [made.open(row) for row in rows]
        arguments = {
            "ranges": list(made.layout.ranges),
            "entries": b"".join(o.entries for o in openings),
            "nodes": [node for o in openings for path in o.paths for node in path],
        }
        return self.contract.open(check, *{**arguments, **changes}.values(), sender=who or self.alice)


@pytest.fixture(scope="module")
def story(kept_chain):
    return Story(kept_chain)


# The way that is meant -------------------------------------------------------------------------------------


def test_a_table_is_proven_row_by_row(story):
    tries = story.spot.attempts(story.alice, SUBJECT)
    check = story.spot.commit(SUBJECT, story.made, 20, sender=story.alice)
    assert (check.state, check.draws, check.opened, check.attempt) == (CheckState.COMMITTED, 20, 0, tries + 1)
    assert check.decided_by == story.chain.block_number + SpotCheck.DELAY
    story.chain.mine(SpotCheck.DELAY)
    [receipt] = story.spot.open(check.check_id, story.made, sender=story.alice)
    opened, proven = receipt.events
    assert (opened["first"], opened["draws"]) == (0, 20)
    assert proven.name == "Proven"
    assert (proven["contributor"], proven["subject"]) == (story.alice.address, SUBJECT)
    assert (proven["draws"], proven["attempt"]) == (20, tries + 1)
    after = story.spot.check(check.check_id)
    assert (after.state, after.opened) == (CheckState.PROVEN, 20)
    assert after.detects(0.2) == detects(0.2, 20, tries + 1)
    assert story.spot.open(check.check_id, story.made, sender=story.alice) == []
    assert "20 of 20 rows open" in repr(after)
    assert story.alice.address in after._repr_html_()


def test_the_rows_follow_from_the_block_and_from_nothing_else(story):
    check, rows = story.drawn(rows=50)
    info = story.spot.check(check)
    block = bytes.fromhex(story.chain.block_hash(info.decided_by).removeprefix("0x"))
    seed = keccak(
        encode(
            ["bytes32", "uint256", "address", "uint256", "bytes32", "uint256", "bytes32"],
            [
                keccak(b"twopm/vsies/v1/spot-check"),
                story.chain.chain_id,
                story.spot.address,
                check,
                info.root,
                50,
                block,
            ],
        )
    )
    assert rows == [
        int.from_bytes(keccak(seed + number.to_bytes(32, "big")), "big") % 600 for number in range(50)
    ]
    assert story.contract.events("Drawn", check_id=check)[0]["seed"] == seed


def test_every_row_is_drawn_about_as_often(story):
    _, rows = story.drawn(column(*range(8)), rows=1024)
    counts = np.bincount(rows, minlength=8)
    assert len(counts) == 8
    assert np.all(np.abs(counts - 128) < 85)  # eight standard deviations: below one in 10^14


def test_what_is_committed_is_in_the_log(story):
    check = story.commit(rows=5)
    [event] = story.contract.events("Committed", check_id=check)
    assert (event["contributor"], event["subject"]) == (story.alice.address, SUBJECT)
    assert (event["root"], event["n_rows"], event["draws"]) == (story.made.root, 600, 5)
    assert tuple(map(tuple, event["ranges"])) == story.made.layout.ranges
    assert story.spot.check(check).ranges_hash == story.made.layout.ranges_hash


def test_rows_open_in_several_transactions(story):
    check, rows = story.drawn(rows=5)
    story.open(check, rows[:2])
    refused("more rows than were drawn", story.open, check, [*rows[2:], rows[0]])
    info = story.spot.check(check)
    assert (info.state, info.opened) == (CheckState.DRAWN, 2)
    assert story.contract.events("Proven", check_id=check) == []
    [receipt] = story.spot.open(check, story.made, sender=story.alice)
    assert receipt.events[0]["first"] == 2
    assert story.spot.check(check).state == CheckState.PROVEN


def test_many_rows_are_divided_among_transactions_that_fit(story):
    made = RowCommitment(WIDEST, table(10, 224), SECRET)
    check, _ = story.drawn(made, rows=40)
    receipts = story.spot.open(check, made, sender=story.alice)
    assert len(receipts) > 1
    assert [r.events[0]["first"] for r in receipts] == list(
        np.cumsum([0] + [r.events[0]["draws"] for r in receipts[:-1]])
    )
    assert story.spot.check(check).state == CheckState.PROVEN
    assert max(r.gas for r in receipts) < 16_700_000


def test_the_widest_row_and_the_smallest_table(story):
    for made in (RowCommitment(WIDEST, table(3, 224), SECRET), column(5), column(5, 6)):
        check, rows = story.drawn(made, rows=4)
        story.open(check, rows, made)
        assert story.spot.check(check).state == CheckState.PROVEN


def test_sixty_four_rows_stay_below_the_limits_of_a_transaction(story):
    schema = Schema("gas", [Field(f"f{i}", "int", low=0, high=100) for i in range(28)])
    made = RowCommitment(schema, table(5000, 28), SECRET)
    check, rows = story.drawn(made, rows=64)
    openings = [made.open(row) for row in rows]
    nodes = [node for o in openings for path in o.paths for node in path]
    entries = b"".join(o.entries for o in openings)
    data = story.contract.method("open").encode(check, list(made.layout.ranges), entries, nodes)
    [receipt] = story.spot.open(check, made, sender=story.alice)
    assert receipt.gas < 2_500_000
    assert len(data) < 60_000


# States ----------------------------------------------------------------------------------------------------

STATES = ("none", "committed", "forgotten", "drawn", "partly", "proven")
DRAWS = {
    "none": "unknown check",
    "committed": "the block that draws is not there yet",
    "forgotten": "the block that draws is forgotten",
    "drawn": "already drawn",
    "partly": "already drawn",
    "proven": "already drawn",
}
OPENS = {
    "none": "unknown check",
    "committed": "not drawn yet",
    "forgotten": "not drawn yet",
    "drawn": None,
    "partly": None,
    "proven": "already proven",
}


@pytest.mark.parametrize("state", STATES)
def test_every_call_in_every_state_by_everybody(story, state):
    check = story.bring(state)
    for who in (story.alice, story.mallory):
        refused(DRAWS[state], story.contract.draw, check, sender=who)
    drawn = state in ("drawn", "partly", "proven")
    if drawn:
        rows = story.spot.drawn(check)[{"drawn": 0, "partly": 1, "proven": 2}[state] :][:1]
    else:
        rows = [0]
        refused("unknown check" if state == "none" else "not drawn yet", story.contract.drawn_rows, check)
    stranger = "unknown check" if state == "none" else "only the contributor opens"
    refused(stranger, story.open, check, rows, who=story.mallory)
    if OPENS[state]:
        refused(OPENS[state], story.open, check, rows)
    else:
        story.open(check, rows)
        assert story.contract.check_info(check).terms.opened == {"drawn": 1, "partly": 2}[state]
    expected = {"none": 0, "committed": 1, "forgotten": 1, "drawn": 2, "partly": 2, "proven": 3}
    assert story.contract.check_info(check).state == expected[state]


def test_the_draw_has_a_first_and_a_last_block(story):
    chain, contract = story.chain, story.contract
    check = story.commit()
    decided = story.spot.check(check).decided_by
    chain.mine(SpotCheck.DELAY - 1)
    refused("the block that draws is not there yet", contract.draw, check, sender=story.alice)
    chain.mine(decided - chain.block_number)
    with chain.snapshot():
        assert contract.draw(check, sender=story.mallory).block == decided + 1
    chain.mine(decided + SpotCheck.REACH - 1 - chain.block_number)
    with chain.snapshot():
        assert contract.draw(check, sender=story.mallory).block == decided + SpotCheck.REACH
    chain.mine(1)
    refused("the block that draws is forgotten", contract.draw, check, sender=story.mallory)
    # committing again is another attempt, for all to see
    again = story.commit()
    assert story.spot.check(again).attempt == story.spot.check(check).attempt + 1


def test_what_is_drawn_in_time_may_be_opened_later(story):
    check, rows = story.drawn()
    story.chain.mine(SpotCheck.REACH + 1)
    story.open(check, rows)
    assert story.spot.check(check).state == CheckState.PROVEN


def test_attempts_are_counted_by_account_and_subject(story):
    tries = [story.spot.attempts(who, 99) for who in (story.alice, story.mallory)]
    first, second = story.commit(subject=99), story.commit(subject=99)
    story.commit(subject=99, who=story.mallory)
    assert [story.spot.check(c).attempt for c in (first, second)] == [tries[0] + 1, tries[0] + 2]
    assert story.spot.attempts(story.alice.address, 99) == tries[0] + 2
    assert story.spot.attempts(story.mallory, 99) == tries[1] + 1
    assert story.spot.attempts(story.mallory, 98) == 0


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"n_rows": 0}, "no rows"),
        ({"n_rows": 2**31 + 1}, "too many rows"),  # two entries a row
        ({"n_rows": 2**256 - 1}, "too many rows"),
        ({"root": bytes(32)}, "root is zero"),
        ({"ranges": []}, "no fields"),
        ({"ranges": [(1, 0, False)]}, "range is empty"),
        ({"ranges": [(0, 1, False), (-(2**63), 0, False)]}, "the lowest value stands for a missing one"),
        ({"draws": 0}, "number of draws out of range"),
        ({"draws": 1025}, "number of draws out of range"),
    ],
)
def test_terms_that_do_not_fit_are_refused(story, changes, reason):
    before = story.contract.check_count(), story.spot.attempts(story.alice, SUBJECT)
    refused(reason, story.commit, **changes)
    assert (story.contract.check_count(), story.spot.attempts(story.alice, SUBJECT)) == before


def test_the_largest_terms_are_accepted(story):
    check = story.commit(n_rows=2**31, draws=1024, ranges=[(-TOP, TOP, True)] * 56)
    assert story.spot.check(check).n_rows == 2**31


# Attacks on an opening -------------------------------------------------------------------------------------


def test_only_the_drawn_row_opens_at_its_place(story):
    check, [row, *_] = story.drawn()
    good = story.made.open(row)
    first, second = map(list, good.paths)
    entries, nodes = good.entries, [*first, *second]
    other = story.made.open(row ^ 1)
    lost = "entry is not at its place under the root"
    inner = keccak(entries[:256]) + first[0]
    attacks = [
        # another row, another index
        ({"entries": other.entries, "nodes": [n for p in other.paths for n in p]}, lost),
        ({"entries": other.entries}, lost),
        ({"nodes": [n for p in other.paths for n in p]}, lost),
        ({"entries": entries[256:] + entries[:256], "nodes": [*second, *first]}, lost),
        ({"entries": entries[:256] * 2, "nodes": first * 2}, lost),
        # other content: salt, value, a place that is not used
        ({"entries": bytes([entries[0] ^ 1]) + entries[1:]}, lost),
        ({"entries": entries[:39] + bytes([entries[39] ^ 1]) + entries[40:]}, lost),
        ({"entries": entries[:-1] + b"\1"}, lost),
        # shorter and longer paths
        ({"nodes": nodes[:-1]}, "path is too short"),
        ({"nodes": []}, "path is too short"),
        ({"nodes": [*nodes, bytes(32)]}, "path is too long"),
        ({"nodes": [*nodes, nodes[-1]]}, "path is too long"),
        ({"nodes": nodes[1:]}, lost),
        ({"nodes": [*first[:-1], bytes(32), *second]}, lost),
        # inner nodes as entries
        ({"entries": inner, "nodes": nodes[1:]}, "entries are not whole rows"),
        ({"entries": inner * 8, "nodes": nodes}, lost),
        ({"entries": inner.ljust(512, b"\0"), "nodes": nodes}, lost),
        # parts of rows
        ({"entries": b""}, "no entries"),
        ({"entries": entries[:256], "nodes": first}, "entries are not whole rows"),
        ({"entries": entries[:-1]}, "entries are not whole rows"),
        ({"entries": entries + b"\0"}, "entries are not whole rows"),
    ]
    for changes, reason in attacks:
        refused(reason, story.open, check, [row], **changes)
    assert story.spot.check(check).opened == 0
    story.open(check, [row])
    assert story.spot.check(check).opened == 1


def test_rows_open_in_the_order_of_the_draws(story):
    check, rows = story.drawn(column(*range(50)), rows=3)
    while len(set(rows)) < 3:
        check, rows = story.drawn(column(*range(50)), rows=3)
    made = column(*range(50))
    for order in (rows[1:], rows[::-1], [rows[0], rows[0], rows[2]]):
        with pytest.raises(ContractReverted):
            story.open(check, order, made)
    story.open(check, rows, made)


def test_ranges_are_those_of_the_commitment(story):
    check, rows = story.drawn()
    ranges = list(story.made.layout.ranges)
    for changed in (
        [(0, 101, False), *ranges[1:]],
        [(-1, 100, False), *ranges[1:]],
        [(0, 100, True), *ranges[1:]],
        [*ranges, (0, 100, False)],
        ranges[:-1],
        ranges[:28],
        [],
    ):
        refused("ranges are not the committed ones", story.open, check, rows, ranges=changed)


def test_the_commitment_of_somebody_else_is_of_no_use(story):
    """Who copies a root has another draw, and none of the salts but those of rows that are public already."""
    check, rows = story.drawn()
    story.open(check, rows)
    copy, theirs = story.drawn(who=story.mallory)
    while set(theirs) & set(rows):
        copy, theirs = story.drawn(who=story.mallory)
    with pytest.raises(ContractReverted):
        story.open(copy, rows, who=story.mallory)
    for row in rows:  # each of the public rows in place of the first that was drawn
        with pytest.raises(ContractReverted):
            story.open(copy, [row], who=story.mallory)
    assert story.spot.check(copy).opened == 0
    refused("only the contributor opens", story.open, story.drawn()[0], rows, who=story.mallory)


def test_an_opening_of_one_check_does_not_open_another(story):
    (one, rows), (two, others) = story.drawn(rows=8), story.drawn(rows=8)
    assert rows != others
    story.open(one, rows)
    with pytest.raises(ContractReverted):
        story.open(two, rows)


# Values ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "bounds", "reason"),
    [
        (TOP, (-TOP, TOP, False), None),
        (-TOP, (-TOP, TOP, False), None),
        (TOP, (TOP, TOP, False), None),
        (-TOP, (-TOP, -TOP, False), None),
        (0, (0, 0, False), None),
        (-1, (-1, 0, False), None),
        (None, (0, 5, True), None),
        (TOP, (-TOP, TOP - 1, False), "value is above its range"),
        (-TOP, (-TOP + 1, TOP, False), "value is below its range"),
        (-TOP, (0, TOP, False), "value is below its range"),
        (TOP, (-TOP, -1, False), "value is above its range"),
        (-1, (0, TOP, False), "value is below its range"),
        (1, (-TOP, 0, False), "value is above its range"),
        (6, (0, 5, True), "value is above its range"),
        (None, (0, 5, False), "value is missing"),
        (None, (-TOP, TOP, False), "value is missing"),
    ],
)
def test_every_value_lies_in_its_range(story, value, bounds, reason):
    made = column(value)
    check, rows = story.drawn(made, rows=1, ranges=[bounds])
    if reason is None:
        story.open(check, rows, made, ranges=[bounds])
        assert story.spot.check(check).state == CheckState.PROVEN
    else:
        refused(reason, story.open, check, rows, made, ranges=[bounds])
        assert story.spot.check(check).opened == 0


@pytest.mark.parametrize("field", [0, 3, 27, 28, 29])
def test_one_wrong_value_anywhere_is_found(story, field):
    frame = table(1, 30)
    frame.iloc[0, field] = 101
    made = RowCommitment(WIDE, frame, SECRET)
    check, rows = story.drawn(made, rows=2)
    refused("value is above its range", story.open, check, rows, made)
    with pytest.raises(ProofRefused, match=f"row 0, field 'f{field}': 101 is above 100"):
        story.spot.open(check, made, sender=story.alice)


def test_a_field_that_the_ranges_leave_out_cannot_hide(story):
    made = RowCommitment(WIDE, table(1, 30) + 1, SECRET)
    bounds = [(0, 101, False)] * 29
    check, rows = story.drawn(made, rows=1, ranges=bounds)
    refused("unused place is not zero", story.open, check, rows, made, ranges=bounds)


def test_padding_is_not_a_row(story):
    """0G pads 17 entries to 18: whoever claims 18 rows must open one that has no salt."""
    made = column(*[0] * 17)
    padding = EntryTree(b"".join(made.open(row).entries for row in range(17)))
    assert padding.n_entries == 18
    check, rows = story.drawn(made, rows=256, n_rows=18)
    assert 17 in rows  # but for one in two million
    first = rows.index(17)
    story.open(check, rows[:first], made)
    refused("salt is zero", story.open, check, [], made, entries=bytes(256), nodes=list(padding.prove(17)))
    # more rows than the tree has places for change the shape: nothing opens
    check, rows = story.drawn(made, rows=1, n_rows=33)
    with pytest.raises(ContractReverted):
        story.open(check, [min(rows[0], 16)], made)


# The wrapper -----------------------------------------------------------------------------------------------


def test_a_check_that_cannot_be_passed_shows_nothing(story):
    made = column(1, 1, 1, 200)
    strict = Schema("column", [Field("x", "int", low=0, high=9)])
    cheat = RowCommitment(strict, pd.DataFrame({"x": [1, 1, 1, 200]}), SECRET)
    check, rows = story.drawn(cheat, rows=90)
    assert 3 in rows  # but for one in a hundred thousand million
    before = story.chain.block_number
    with pytest.raises(ProofRefused, match="row 3, field 'x': 200 is above 9"):
        story.spot.open(check, cheat, sender=story.alice)
    with pytest.raises(ProofRefused, match="pass the commitment that was committed to"):
        story.spot.open(check, made, sender=story.alice)
    assert story.chain.block_number == before
    assert story.spot.check(check).opened == 0


def test_a_consumer_demands_what_a_check_must_say(story):
    subject = int.from_bytes(os.urandom(16), "big")
    check, _ = story.drawn(rows=40, subject=subject)
    right = {"contributor": story.alice, "subject": subject, "n_rows": 600}
    with pytest.raises(ProofRefused, match="only 0 of 40 rows are open"):
        story.spot.demand(check, WIDE, **right)
    story.spot.open(check, story.made, sender=story.alice)
    found = story.spot.demand(check, WIDE, **right, root=story.made.root)
    assert found.state == CheckState.PROVEN
    for changes, reason in (
        ({"contributor": story.mallory.address}, "its contributor is"),
        ({"subject": subject + 1}, "its subject is"),
        ({"root": bytes(32)}, "another root"),
        ({"n_rows": 601}, "it is to 600 rows"),
        ({"share": 0.01}, "40 rows in attempt 1 find a share of 0.01 in 33.1% of cases only"),
        ({"confidence": 0.99}, "in 98.5% of cases only"),
    ):
        with pytest.raises(ProofRefused, match=reason):
            story.spot.demand(check, WIDE, **{**right, **changes})
    looser = Schema("wide", [Field(f"f{i}", "int", low=0, high=99) for i in range(30)])
    with pytest.raises(ProofRefused, match="another schema; it looks at other ranges"):
        story.spot.demand(check, looser, **right)


def test_ranges_wider_than_the_schema_are_noticed(story):
    """The contract keeps the schema's hash unread: the consumer compares the ranges with it."""
    made = column(7, nullable=False)
    bounds = [(-TOP, TOP, True)]
    check, rows = story.drawn(made, rows=20, ranges=bounds)
    story.open(check, rows, made, ranges=bounds)
    schema = SimpleNamespace(fields=made.layout.fields, hash=made.layout.schema_hash)
    with pytest.raises(ProofRefused, match="it looks at other ranges"):
        story.spot.demand(
            check, schema, contributor=story.alice, subject=SUBJECT, n_rows=made.n_rows, share=1
        )
    assert RowLayout(schema).ranges == ((MISSING + 1, TOP, False),)


def test_a_check_that_is_not_there_is_named(story):
    for number in (0, -1, 10**6, True, "1", 2**256):
        with pytest.raises(DataError, match="has no check"):
            story.spot.check(number)


def test_the_numbers_of_the_wrapper_are_the_contracts(story):
    check = story.commit()
    assert story.spot.check(check).decided_by == story.chain.block_number + SpotCheck.DELAY
    assert SpotCheck.at(story.chain, story.spot.address).check(check) == story.spot.check(check)
