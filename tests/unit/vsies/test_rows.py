"""Rows as salted entries: what is written, what the root binds, and that unopened rows stay hidden."""

import copy
import math
import os
import pickle
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from eth_abi import encode
from eth_hash.auto import keccak

from twopm_kit.errors import DataError, ProofRefused, SchemaError, SecretRefused
from twopm_kit.vsies.rows import MISSING, RowCommitment, RowLayout, RowOpening
from twopm_kit.vsies.schema import Field, Schema
from twopm_kit.vsies.spot import detects, rows_needed
from twopm_kit.vsies.storage.entries import EntryTree, storage_root

SECRET = bytes(range(32))
MIXED = Schema(
    "mixed",
    [
        Field("size", "float", low=0, high=50, resolution=0.01, nullable=True),
        Field("count", "int", low=-5, high=5),
        Field("coarse", "int", low=0, high=1000, resolution=10),
        Field("alive", "bool", nullable=True),
        Field("colour", "category", categories=("red", "blue", "green")),
    ],
)


def mixed(rows=3):
    return pd.DataFrame(
        {
            "size": np.array([12.345, np.nan, 50.0] * rows)[:rows],
            "count": np.array([-5, 0, 5] * rows)[:rows],
            "coarse": np.array([994, 10, 0] * rows)[:rows],
            "alive": pd.array([True, None, False] * rows, dtype="boolean")[:rows],
            "colour": pd.Categorical((["green", "red", "blue"] * rows)[:rows], MIXED["colour"].categories),
        }
    )


def plain(fields, high=100):
    return Schema("plain", [Field(f"f{i}", "int", low=0, high=high) for i in range(fields)])


def table(rows, fields, seed=1):
    values = np.random.default_rng(seed).integers(0, 101, (rows, fields))
    return pd.DataFrame(values, columns=[f"f{i}" for i in range(fields)])


# What is written -------------------------------------------------------------------------------------------


def test_a_row_is_salt_then_big_endian_numbers():
    opening = RowCommitment(MIXED, mixed(), SECRET).open(0)
    assert len(opening.entries) == 256
    numbers = [int.from_bytes(opening.entries[at : at + 8], "big", signed=True) for at in range(32, 256, 8)]
    assert numbers == [1234, -5, 99, 1, 2] + [0] * 23
    assert any(opening.entries[:32])


def test_missing_values_have_a_number_of_their_own():
    numbers = RowLayout(MIXED).numbers(mixed())
    assert numbers.dtype == np.int64
    assert numbers.tolist() == [[1234, -5, 99, 1, 2], [MISSING, 0, 1, MISSING, 0], [5000, 5, 0, 0, 1]]
    assert np.iinfo(np.int64).min == MISSING


def test_an_opened_row_reads_as_it_was_written():
    made = RowCommitment(MIXED, mixed(), SECRET)
    rows = [made.open(i).verify(made.layout, made.root, 3) for i in range(3)]
    assert rows[0] == {"size": 12.34, "count": -5, "coarse": 990, "alive": True, "colour": "green"}
    assert rows[1] == {"size": None, "count": 0, "coarse": 10, "alive": None, "colour": "red"}
    assert rows[2]["size"] == 50.0


def test_ranges_are_in_units_and_hashed_as_the_contract_does():
    layout = RowLayout(MIXED)
    assert layout.ranges == (
        (0, 5000, True),
        (-5, 5, False),
        (0, 100, False),
        (0, 1, True),
        (0, 2, False),
    )
    assert layout.ranges_hash == keccak(encode(["(int64,int64,bool)[]"], [layout.ranges]))
    assert layout.schema_hash == MIXED.hash
    open_ended = Schema(
        "open", [Field("x", "float", resolution=1e-3), Field("y", "float", 0, 1e300, resolution=1)]
    )
    top = 2**63 - 1
    assert RowLayout(open_ended).ranges == ((-top, top, False), (0, top, False))


def test_values_round_as_the_ends_of_their_range_do():
    schema = Schema("s", [Field("x", "float", low=0.05, high=0.25, resolution=0.1)])
    layout = RowLayout(schema)
    [[low], [high]] = layout.numbers(pd.DataFrame({"x": [0.05, 0.25]})).tolist()
    assert layout.ranges == ((low, high, False),)


@pytest.mark.parametrize(("fields", "entries"), [(1, 1), (28, 1), (29, 2), (56, 2), (57, 3), (224, 8)])
def test_more_than_28_fields_take_the_next_entry(fields, entries):
    made = RowCommitment(plain(fields), table(5, fields), SECRET)
    opening = made.open(3)
    assert made.layout.row_entries == len(opening.paths) == entries
    assert len(opening.entries) == 256 * entries
    assert list(opening.verify(made.layout, made.root, 5).values()) == table(5, fields).loc[3].tolist()
    salts = {opening.entries[at : at + 32] for at in range(0, 256 * entries, 256)}
    assert len(salts) == entries


# The root --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rows", [1, 2, 3, 16, 17, 18, 33, 513, 1024, 1025, 1030])
@pytest.mark.parametrize("fields", [3, 30])
def test_the_root_is_the_storage_root_of_all_entries(rows, fields):
    made = RowCommitment(plain(fields), table(rows, fields), SECRET)
    openings = [made.open(row) for row in {0, 1 % rows, rows // 2, rows - 1}]
    for opening in openings:
        opening.verify(made.layout, made.root, rows)
    if rows <= 33:
        stored = b"".join(made.open(row).entries for row in range(rows))
        assert storage_root(stored) == "0x" + made.root.hex()


def test_a_resumed_run_gives_the_same_root_and_pieces_are_the_whole():
    frame = table(40, 3)
    made = RowCommitment(plain(3), frame, SECRET)
    assert RowCommitment(plain(3), frame.copy(), SECRET).root == made.root
    assert RowCommitment(plain(3), (frame[i : i + 7] for i in range(0, 40, 7)), SECRET).root == made.root
    assert RowCommitment(plain(3), frame[["f2", "f0", "f1"]], SECRET).root == made.root


@pytest.mark.parametrize("change", ["secret", "schema", "value", "length"])
def test_every_salt_changes_with_the_secret_the_schema_and_the_table(change):
    """A row that was opened once must not say the salt of the row that takes its place."""
    frame, schema, secret = table(20, 2), plain(2), SECRET
    before = RowCommitment(schema, frame, secret)
    if change == "secret":
        secret = os.urandom(32)
    elif change == "schema":
        schema = plain(2, high=101)
    elif change == "value":
        frame.loc[19, "f1"] += 1
    else:
        frame = frame[:19]
    after = RowCommitment(schema, frame, secret)
    assert after.root != before.root
    old, new = ({made.open(row).entries[:32] for row in range(19)} for made in (before, after))
    assert len(old) == len(new) == 19
    assert not old & new


def test_equal_rows_have_unequal_leaves():
    made = RowCommitment(plain(2), pd.DataFrame({"f0": [7] * 50, "f1": [9] * 50}), SECRET)
    leaves = {keccak(made.open(row).entries) for row in range(50)}
    assert len(leaves) == 50


def test_a_right_guess_without_the_salt_cannot_be_told_from_a_wrong_one():
    """What is public of a row that is not opened: its leaf, as sibling of one that is."""
    made = RowCommitment(plain(1, high=1), pd.DataFrame({"f0": [0, 1]}), SECRET)
    [leaf] = made.open(0).paths[0]
    known = made.open(0).entries
    hidden = made.open(1)
    assert keccak(hidden.entries) == leaf
    for salt in (bytes(32), known[:32], os.urandom(32)):
        for value in (0, 1):
            guess = salt + value.to_bytes(8, "big") + bytes(216)
            assert keccak(guess) != leaf
            with pytest.raises(ProofRefused, match="not at its place"):
                replace(hidden, entries=guess).verify(made.layout, made.root, 2)


# Attacks ---------------------------------------------------------------------------------------------------


def attacks(made, o):
    """Every way in which an opening of row 5 of 40 can be bent."""
    other = made.open(6)
    first, second = o.paths
    flipped = bytes([o.entries[0] ^ 1]) + o.entries[1:]
    yield replace(o, row=6), "not at its place"
    yield replace(o, row=40), "row 40 of 40"
    yield replace(o, row=-1), "row -1 of 40"
    yield replace(o, entries=other.entries), "not at its place"
    yield replace(o, entries=other.entries, paths=other.paths), "not at its place"
    yield replace(o, entries=flipped), "not at its place"
    yield replace(o, entries=o.entries[:-1] + b"\x01"), "not at its place"
    yield replace(o, entries=o.entries[256:] + o.entries[:256], paths=(second, first)), "not at its place"
    yield replace(o, paths=(second, first)), "not at its place"
    yield replace(o, paths=(first[:-1], second)), "not at its place"
    yield replace(o, paths=((*first, bytes(32)), second)), "not at its place"
    yield replace(o, paths=(first[1:], second)), "not at its place"
    yield replace(o, paths=((first[0][:-1], *first[1:]), second)), "not at its place"
    yield replace(o, paths=(first,)), "512 bytes with 1 paths"
    yield replace(o, entries=o.entries[:256]), "256 bytes with 2 paths"
    yield replace(o, entries=o.entries[:64], paths=(first[1:],)), "64 bytes with 1 paths"


def test_a_bent_opening_is_refused():
    made = RowCommitment(plain(30), table(40, 30), SECRET)
    good = made.open(5)
    good.verify(made.layout, made.root, 40)
    for bent, reason in attacks(made, good):
        with pytest.raises(ProofRefused, match=reason):
            bent.verify(made.layout, made.root, 40)
    for root, rows in ((bytes(32), 40), (made.root, 65), (made.root, 17)):
        with pytest.raises(ProofRefused, match="not at its place"):
            good.verify(made.layout, root, rows)
    with pytest.raises(ProofRefused):
        good.verify(RowLayout(plain(28)), made.root, 80)


def test_padding_and_inner_nodes_are_not_rows():
    made = RowCommitment(plain(2), table(17, 2), SECRET)
    tree = EntryTree(b"".join(made.open(row).entries for row in range(17)))
    assert tree.n_entries == 18
    padding = RowOpening(17, bytes(256), (tree.prove(17),))
    with pytest.raises(ProofRefused, match="row 17 of 17"):
        padding.verify(made.layout, made.root, 17)
    with pytest.raises(ProofRefused, match="no salt"):
        padding.verify(made.layout, made.root, 18)
    o = made.open(0)
    inner = keccak(o.entries) + o.paths[0][0]
    for entries in (inner, inner.ljust(256, b"\0")):
        with pytest.raises(ProofRefused):
            RowOpening(0, entries, (o.paths[0][1:],)).verify(made.layout, made.root, 17)


@pytest.mark.parametrize(
    ("value", "low", "high", "reason"),
    [
        (2**63 - 1, 0, None, None),
        (-(2**63) + 1, None, 0, None),
        (-1, 0, 5, "-1 is below 0"),
        (6, 0, 5, "6 is above 5"),
        (2**63 - 1, 0, 2**53, "is above"),
        (-(2**63) + 1, -(2**53), 0, "is below"),
        (None, 0, 5, "value is missing"),
    ],
)
def test_a_value_out_of_range_is_named(value, low, high, reason):
    lax = Schema("lax", [Field("x", "int", nullable=True)])
    strict = RowLayout(Schema("strict", [Field("x", "int", low=low, high=high)]))
    made = RowCommitment(lax, pd.DataFrame({"x": pd.array([value], dtype="Int64")}), SECRET)
    if reason is None:
        assert made.open(0).verify(strict, made.root, 1) == {"x": value}
        return
    with pytest.raises(ProofRefused, match=f"row 0, field 'x'.*{reason}"):
        made.open(0).verify(strict, made.root, 1)


def test_places_beyond_the_last_field_hold_nothing():
    wide, narrow = RowCommitment(plain(3), table(4, 3) + 1, SECRET), RowLayout(plain(2, high=101))
    with pytest.raises(ProofRefused, match="beyond its last field"):
        wide.open(1).verify(narrow, wide.root, 4)


# Refusals --------------------------------------------------------------------------------------------------

NUMBERS = {
    "infinite": ([math.inf], "float"),
    "too large": ([2.0**63], "float"),
    "as large as missing": ([-(2.0**63)], "float"),
    "unsigned": (np.array([2**63], np.uint64), "int"),
    "the missing number": (np.array([MISSING]), "int"),
    "a fraction": ([0.5], "int"),
    "text": (["1"], "int"),
    "truth": ([True], "int"),
    "number for truth": ([1], "bool"),
    "no category": (["pink"], "category"),
}


@pytest.mark.parametrize("case", NUMBERS)
def test_a_value_without_a_number_is_refused(case):
    values, kind = NUMBERS[case]
    more = {"float": {"resolution": 1.0}, "category": {"categories": ("red",)}}.get(kind, {})
    with pytest.raises(SchemaError, match="'x'"):
        RowLayout(Schema("s", [Field("x", kind, **more)])).numbers(pd.DataFrame({"x": values}))


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ([Field("x", "float", low=0, high=1)], "no resolution"),
        ([Field("x", "category")], "no list of categories"),
        ([Field(f"f{i}", "bool") for i in range(225)], "225 fields"),
    ],
)
def test_a_schema_that_cannot_be_written_is_refused(fields, reason):
    with pytest.raises(SchemaError, match=reason) as caught:
        RowLayout(SimpleNamespace(fields=tuple(fields), hash=bytes(32)))
    assert caught.value.hint


def test_tables_secrets_and_rows_that_do_not_fit_are_refused():
    for secret in (b"short", "x" * 32, bytearray(32), None):
        with pytest.raises(DataError, match="32 bytes"):
            RowCommitment(plain(2), table(3, 2), secret)
    for empty in (table(0, 2), []):
        with pytest.raises(DataError, match="0 rows"):
            RowCommitment(plain(2), empty, SECRET)
    with pytest.raises(SchemaError, match="'f1' is missing"):
        RowCommitment(plain(2), table(3, 1), SECRET)
    made = RowCommitment(plain(2), table(3, 2), SECRET)
    for row in (-1, 3, True, 1.0, "1"):
        with pytest.raises(DataError, match="rows go from 0 to 2"):
            made.open(row)
    assert made.open(np.int64(2)) == made.open(2)


def test_a_commitment_shows_and_copies_nothing_secret():
    made = RowCommitment(plain(2), table(3, 2), SECRET)
    assert repr(made) == f"<RowCommitment 0x{made.root.hex()}: 3 rows, 2 fields>"
    for spread in (copy.copy, copy.deepcopy, pickle.dumps):
        with pytest.raises(SecretRefused):
            spread(made)
    assert made.open(0).entries.hex() not in repr(made.open(0))


# What a check finds ----------------------------------------------------------------------------------------


def test_a_check_finds_what_the_formula_says():
    assert detects(0.5, 1) == 0.5
    assert detects(0.1, 64) == pytest.approx(1 - 0.9**64, rel=1e-12)
    assert detects(1, 1, 9) == 1
    assert detects(1e-12, 1) == pytest.approx(1e-12)
    assert detects(0.1, 20, attempts=3) == pytest.approx((1 - 0.9**20) ** 3)
    assert 1 - detects(0.1, 64, attempts=5) <= 5 * 0.9**64


def test_the_formula_is_what_drawing_does():
    """All 10^3 draws of three rows out of ten, one of them wrong."""
    missed = sum(7 not in draw for draw in np.ndindex(10, 10, 10))
    assert detects(0.1, 3) == pytest.approx(1 - missed / 1000)


@pytest.mark.parametrize("share", [1, 0.5, 0.1, 0.01, 1e-4])
@pytest.mark.parametrize("confidence", [0.5, 0.95, 0.999])
@pytest.mark.parametrize("attempts", [1, 7])
def test_rows_needed_is_the_smallest_number_that_suffices(share, confidence, attempts):
    rows = rows_needed(share, confidence, attempts)
    assert detects(share, rows, attempts) >= confidence
    assert rows == 1 or detects(share, rows - 1, attempts) < confidence


def test_rows_needed_for_one_in_a_hundred():
    assert rows_needed(0.01, 0.95) == 299


@pytest.mark.parametrize(
    ("call", "arguments"),
    [
        (detects, (0, 1)),
        (detects, (1.1, 1)),
        (detects, (math.nan, 1)),
        (detects, (0.1, 0)),
        (detects, (0.1, True)),
        (detects, (0.1, 1.5)),
        (detects, (0.1, 1, 0)),
        (rows_needed, (0.1, 1)),
        (rows_needed, (0.1, 0)),
        (rows_needed, (0, 0.5)),
        (rows_needed, (0.1, 0.5, 0)),
    ],
)
def test_numbers_out_of_range_are_refused(call, arguments):
    with pytest.raises(DataError):
        call(*arguments)
