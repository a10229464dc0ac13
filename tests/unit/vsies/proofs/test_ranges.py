"""Range proofs off chain: true claims hold, false ones cannot be proven, and nothing is shown."""

import copy
import dataclasses
import pickle

import numpy as np
import pytest

from twopm_kit import kzg
from twopm_kit.errors import DataError, ProofRefused, SecretRefused
from twopm_kit.vsies.proofs import CommittedColumn, ProofContext, RangeProof, prove_range
from twopm_kit.vsies.proofs.columns import bits_of, weights_of
from twopm_kit.vsies.proofs.polynomials import BLINDERS, ROWS, blob_of
from twopm_kit.vsies.proofs.ranges import prove_bits

R = kzg.MODULUS
HERE = ProofContext(1337, "0x" + "11" * 20, 7, "0x" + "22" * 20, "age", 0)


@pytest.fixture(scope="module")
def ages():
    return np.random.default_rng(1).integers(0, 120, 2_000)


@pytest.fixture(scope="module")
def proof(ages):
    return prove_range(ages, low=0, high=119, context=HERE)


@pytest.mark.parametrize("width", [1, 2, 3, 5, 100, 255, 256, 65_535, 2**32 - 1])
def test_weights_reach_the_width_and_no_further(width):
    weights = weights_of(width)
    assert sum(weights) == width
    assert all(weight >= 0 for weight in weights)
    numbers = np.unique(np.array([0, 1, width // 3, width // 2, width - 1, width]).clip(0))
    bits = bits_of(numbers, width)
    assert set(bits.ravel()) <= {0, 1}
    assert list(np.array(weights, dtype=object) @ bits) == list(numbers)


@pytest.mark.parametrize(
    ("values", "claim"),
    [
        ([0], {"bits": 1}),
        ([0, 1, 1], {"bits": 1}),
        ([255] * ROWS, {"bits": 8}),
        ([-40, 0, 55], {"low": -40, "high": 55}),
        ([3, 4], {"low": 3, "high": 4}),
        ([2**32 - 1, 0], {"bits": 32}),
        ([-(2**63), 5 - 2**63], {"low": -(2**63), "high": 10 - 2**63}),
        (np.array([True, False]), {"bits": 1}),
        (np.array([1, 2, 250], dtype=np.uint8), {"low": 1, "high": 250}),
    ],
)
def test_what_is_true_is_proven(values, claim):
    found = prove_range(values, **claim, context=HERE)
    found.verify()
    assert found.rows == len(values)
    assert RangeProof.from_bytes(found.to_bytes(), HERE) == found


def test_a_proof_is_small(ages):
    assert prove_range(ages, 16).nbytes == 1_499


@pytest.mark.parametrize("bad", [-1, 120, 2**40, -(2**40)])
def test_an_honest_prover_refuses_what_is_false(ages, bad):
    wrong = ages.copy()
    wrong[5] = bad
    with pytest.raises(ProofRefused, match="row 5") as refused:
        prove_range(wrong, low=0, high=119, context=HERE)
    assert str(bad) not in str(refused.value)


# Soundness: a prover who leaves the rules ------------------------------------------------------------------


def column_of(offsets, low=0, high=119):
    """A column that is committed to whatever its numbers are."""
    rows = np.zeros(ROWS, dtype=object)
    rows[: len(offsets)] = offsets
    return CommittedColumn(rows, len(offsets), low, high)


@pytest.mark.parametrize("bad", [120, 121, 2**20, R - 1, (R + 1) // 2])
def test_a_value_outside_has_no_proof(bad):
    good, wrong = [5, 17, 119], [5, 17, bad]
    column = column_of(wrong)
    bits = bits_of(column_of(good).offsets, 119)
    with pytest.raises(ProofRefused):
        prove_bits(column, bits, HERE).verify()
    # bits that add up, but are none
    bits[0, 2] = (bad - 118) % R
    with pytest.raises(ProofRefused):
        prove_bits(column, bits, HERE).verify()


def test_every_single_row_counts():
    for row in (0, 1, 1_023, 1_024, 2_046, 2_047):
        offsets = np.zeros(ROWS, dtype=object)
        offsets[row] = 2
        column = CommittedColumn(offsets, ROWS, 0, 1)
        with pytest.raises(ProofRefused):
            prove_bits(column, bits_of(np.zeros(ROWS, dtype=np.int64), 1), HERE).verify()


def altered(proof):
    """The proof with each of its fields, and each part of them, changed once."""
    other = kzg.linear_combination([proof.commitment], [3])
    yield "rows", {"rows": proof.rows - 1}
    yield "rows to nothing", {"rows": 0}
    yield "rows beyond", {"rows": ROWS + 1}
    yield "low", {"low": proof.low - 1}
    yield "high", {"high": proof.high + 1}
    yield "high to another length", {"high": 300}
    yield "range shifted", {"low": proof.low + 1, "high": proof.high + 1}
    yield "commitment", {"commitment": other}
    yield "commitment at infinity", {"commitment": kzg.INFINITY}
    yield "opening", {"opening": kzg.compress(other)}
    yield "opening at infinity", {"opening": kzg.compress(kzg.INFINITY)}
    yield "opening of zeros", {"opening": bytes(48)}
    for name in ("bits", "quotient"):
        parts = getattr(proof, name)
        for i in range(len(parts)):
            yield f"{name} {i}", {name: (*parts[:i], other, *parts[i + 1 :])}
        yield f"{name} swapped", {name: (parts[1], parts[0], *parts[2:])}
    for i, value in enumerate(proof.values):
        changed = (*proof.values[:i], (value + 1) % R, *proof.values[i + 1 :])
        yield f"value {i}", {"values": changed}
    yield "a value as another residue", {"values": (proof.values[0] + R, *proof.values[1:])}
    yield "one bit less", {"bits": proof.bits[:-1], "values": proof.values[:-1]}
    yield "one bit more", {"bits": (*proof.bits, other), "values": (*proof.values, 1)}


def holds(proof):
    try:
        proof.verify()
    except ProofRefused:
        return False
    return True


def test_every_field_is_bound(proof):
    changes = dict(altered(proof))
    accepted = [name for name, change in changes.items() if holds(dataclasses.replace(proof, **change))]
    assert not accepted
    assert set().union(*changes.values()) | {"context"} == {
        field.name for field in dataclasses.fields(RangeProof)
    }


@pytest.mark.parametrize(
    "change",
    [
        {"chain_id": 1},
        {"contract": "0x" + "12" * 20},
        {"dataset": 8},
        {"prover": "0x" + "23" * 20},
        {"column": "Age"},
        {"part": 1},
    ],
)
def test_the_context_is_bound(proof, change):
    with pytest.raises(ProofRefused):
        dataclasses.replace(proof, context=dataclasses.replace(HERE, **change)).verify()
    assert set(change) < {field.name for field in dataclasses.fields(ProofContext)}


def test_a_point_outside_the_group_is_refused(proof):
    # (0, 2) is on the curve, and of order 3
    small = (0).to_bytes(64, "big") + (2).to_bytes(64, "big")
    for name in ("commitment", "bits", "quotient"):
        changed = small if name == "commitment" else (small, *getattr(proof, name)[1:])
        with pytest.raises(ProofRefused, match="no point of the group"):
            dataclasses.replace(proof, **{name: changed}).verify()


# Zero knowledge ---------------------------------------------------------------------------------------------


def test_equal_columns_look_unlike(ages):
    one, two = (prove_range(ages, low=0, high=119, context=HERE) for _ in range(2))
    assert one.commitment != two.commitment
    assert not set(one.bits) & set(two.bits)
    assert not set(one.values) & set(two.values)


def test_two_proofs_of_one_commitment_share_nothing_else(ages):
    column = CommittedColumn.commit(ages, 0, 119)
    one, two = (prove_range(column, context=HERE) for _ in range(2))
    assert one.commitment == two.commitment
    assert not set(one.bits + one.quotient) & set(two.bits + two.quotient)


def test_without_blinders_a_guess_could_be_confirmed():
    secret = np.array([1, 0, 1], dtype=object)
    rows = np.concatenate([secret, np.zeros(ROWS - 3, dtype=object)])
    bare = kzg.uncompress(kzg.commit(blob_of(rows)))
    guess = kzg.uncompress(kzg.commit(blob_of([1, 0, 1])))
    assert bare == guess  # what the random elements are for
    hidden = {CommittedColumn(rows, 3, 0, 1).commitment for _ in range(4)}
    assert bare not in hidden
    assert len(hidden) == 4


def test_blinders_fill_the_field(ages):
    column = CommittedColumn.commit(ages, 0, 119)
    assert len({int(value) for value in column.blinders}) == BLINDERS
    assert all(value.bit_length() > 200 for value in column.blinders)


def test_a_column_does_not_print_or_travel(ages):
    column = CommittedColumn.commit(ages[:3], 0, 119)
    shown = repr(column)
    assert not any(f" {value}," in shown for value in ages[:3])
    for leave in (pickle.dumps, copy.copy, copy.deepcopy):
        with pytest.raises(SecretRefused):
            leave(column)


# Bytes from others ------------------------------------------------------------------------------------------


def test_bytes_are_read_in_one_way_only(proof):
    content = proof.to_bytes()
    damaged = [
        b"",
        content[:-1],
        content + b"\0",
        b"x" + content[1:],
        content[:26] + b"\0" + content[27:],
        content[:26] + b"\xff" + content[27:],
        content[:27] + bytes(48) + content[75:],
        content[:-80] + b"\xff" * 32 + content[-48:],
        bytearray(content),
        None,
    ]
    for content in damaged:
        with pytest.raises(ProofRefused):
            RangeProof.from_bytes(content, HERE)


def test_any_changed_byte_is_refused(proof):
    content = proof.to_bytes()
    for at in range(0, len(content), 97):
        changed = content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :]
        with pytest.raises(ProofRefused):
            RangeProof.from_bytes(changed, HERE).verify()


@pytest.mark.parametrize(
    ("values", "claim", "says"),
    [
        ([1, 2], {}, "twice, or not at all"),
        ([1, 2], {"bits": 3, "high": 7}, "twice, or not at all"),
        ([1, 2], {"bits": 0}, "bits is 0"),
        ([1, 2], {"bits": 33}, "bits is 33"),
        ([1, 2], {"bits": True}, "bits is True"),
        ([1.5], {"bits": 3}, "float64"),
        (["1"], {"bits": 3}, "dtype"),
        ([], {"bits": 3}, "shape"),
        ([[1]], {"bits": 3}, "shape"),
        ([[1], [1, 2]], {"bits": 3}, "dtype"),
        ([1] * 2_049, {"bits": 3}, "2,048"),
        ([1], {"low": 5, "high": 5}, "first one smaller"),
        ([1], {"low": 0, "high": 2**32}, "33 bits"),
        ([1], {"low": 0.0, "high": 5}, "whole numbers"),
        ([2**64 - 1], {"bits": 3}, "beyond"),
        (None, {"bits": 3}, "dtype"),
    ],
)
def test_misuse_is_explained(values, claim, says):
    with pytest.raises(DataError, match=says) as refused:
        prove_range(values, **claim)
    assert refused.value.hint


def test_a_committed_column_has_its_range(ages):
    column = CommittedColumn.commit(ages, 0, 119)
    with pytest.raises(DataError, match="already"):
        prove_range(column, 7)


@pytest.mark.parametrize(
    "change",
    [
        {"chain_id": -1},
        {"dataset": 1.5},
        {"part": True},
        {"contract": "0x12"},
        {"prover": None},
        {"column": 5},
    ],
)
def test_a_context_is_checked(change):
    with pytest.raises(DataError):
        dataclasses.replace(HERE, **change)
