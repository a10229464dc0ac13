"""Proofs about sums and squares: true bounds hold, false ones cannot be proven, no field can change."""

import dataclasses

import numpy as np
import pytest

from twopm_kit import kzg
from twopm_kit.errors import DataError, ProofRefused
from twopm_kit.vsies.proofs import CommittedColumn, ProofContext, TotalProof, prove_range, prove_total
from twopm_kit.vsies.proofs.columns import bits_of
from twopm_kit.vsies.proofs.polynomials import ROWS
from twopm_kit.vsies.proofs.totals import prove_with_bits

R = kzg.MODULUS
HERE = ProofContext(1337, "0x" + "11" * 20, 7, "0x" + "22" * 20, "age", 0)
VALUES = np.random.default_rng(2).integers(-40, 90, 900)
SUM, SQUARES = int(VALUES.sum()), int((VALUES**2).sum())


@pytest.fixture(scope="module")
def column():
    return CommittedColumn.commit(VALUES, -40, 90)


@pytest.fixture(scope="module")
def ranged(column):
    return prove_range(column, context=HERE)


@pytest.fixture(scope="module", params=[False, True], ids=["sum", "squares"])
def proof(request, column):
    total = SQUARES if request.param else SUM
    return prove_total(column, total - 10, total + 33, squares=request.param, context=HERE)


@pytest.mark.parametrize("squares", [False, True])
@pytest.mark.parametrize(
    ("values", "low", "high"),
    [
        ([5], 0, 9),
        ([3, 4, 5], 3, 9),  # zero is below the range
        ([-7, -2], -9, -2),  # and above it
        ([1] * ROWS, 0, 1),
        ([2**32 - 1] * ROWS, 0, 2**32 - 1),
        ([-(2**31)] * 7, -(2**31), 2**31 - 1),
    ],
)
def test_bounds_that_are_true_are_proven(values, low, high, squares):
    total = sum(value * value if squares else value for value in values)
    column = CommittedColumn.commit(values, low, high)
    ranged = prove_range(column, context=HERE)
    for least, most in ((total, total + 1), (total - 2**60, total)):
        found = prove_total(column, least, most, squares=squares, context=HERE)
        found.verify(ranged)
    assert TotalProof.from_bytes(found.to_bytes(), HERE) == found


def test_an_honest_prover_refuses_what_is_false(column):
    for squares, total in ((False, SUM), (True, SQUARES)):
        for bounds in ((total + 1, total + 9), (total - 9, total - 1)):
            with pytest.raises(ProofRefused, match="not between") as refused:
                prove_total(column, *bounds, squares=squares, context=HERE)
            assert f"{total:,}" not in str(refused.value)


# Soundness --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("squares", [False, True])
def test_a_total_outside_has_no_proof(squares):
    fresh = CommittedColumn.commit(VALUES, -40, 90)
    ranged = prove_range(fresh, context=HERE)
    total = SQUARES if squares else SUM
    for least, most, above in (
        (total + 1, total + 64, 0),
        (total - 64, total - 1, 63),
        (total + 1, total + 64, R - 1),  # "one below the least", as bits that are none
    ):
        bits = bits_of(np.array([above % 64], dtype=object), most - least)[:, 0]
        if above == R - 1:
            bits[:] = 0
            bits[0] = R - 1
        forged = prove_with_bits(fresh, bits, least, most, squares=squares, context=HERE)
        with pytest.raises(ProofRefused, match="equation"):
            forged.verify(ranged)


def test_a_mask_that_does_not_sum_to_zero_is_refused(column, ranged, monkeypatch):
    # the second of two equal random numbers no longer cancels the first
    from twopm_kit.vsies.proofs import totals

    first_rows = totals._first_rows
    monkeypatch.setattr(totals, "_first_rows", lambda values: _shifted_by_one(first_rows(values)))
    with pytest.raises(ProofRefused):
        prove_total(column, SUM - 10, SUM + 33, context=HERE).verify(ranged)


def _shifted_by_one(rows):
    return np.roll(rows, 1)


def altered(proof):
    other = kzg.linear_combination([proof.commitment], [3])
    yield {"rows": proof.rows + 1}
    yield {"rows": 0}
    yield {"low": proof.low + 1}
    yield {"high": -1}
    yield {"squares": not proof.squares}
    yield {"least": proof.least - 1}
    yield {"most": proof.most + 1}
    yield {"least": proof.most}
    yield {"least": proof.least + 1, "most": proof.most + 1}
    yield {"commitment": other}
    yield {"commitment": kzg.INFINITY}
    for i in range(6):
        yield {"points": (*proof.points[:i], other, *proof.points[i + 1 :])}
    yield {"points": proof.points[:5]}
    yield {"points": (proof.points[1], proof.points[0], *proof.points[2:])}
    yield {"bit": (proof.bit + 1) % R}
    yield {"bit": proof.bit + R}
    yield {"opened": (proof.opened + 1) % R}
    yield {"opening": kzg.compress(other)}
    yield {"opening": kzg.compress(kzg.INFINITY)}


def holds(proof, ranged):
    try:
        proof.verify(ranged)
    except ProofRefused:
        return False
    return True


def test_every_field_is_bound(proof, ranged):
    proof.verify(ranged)
    changes = list(altered(proof))
    accepted = [change for change in changes if holds(dataclasses.replace(proof, **change), ranged)]
    assert not accepted
    assert set().union(*changes) | {"context"} == {field.name for field in dataclasses.fields(TotalProof)}
    for change in (
        {"chain_id": 1},
        {"dataset": 8},
        {"prover": "0x" + "23" * 20},
        {"column": "b"},
        {"part": 1},
    ):
        with pytest.raises(ProofRefused):
            dataclasses.replace(proof, context=dataclasses.replace(HERE, **change)).verify(ranged)


def test_proofs_are_not_taken_for_each_other(column, ranged, proof):
    with pytest.raises(ProofRefused, match="mark"):
        TotalProof.from_bytes(ranged.to_bytes(), HERE)
    content = proof.to_bytes()
    for at in range(0, len(content), 61):
        changed = content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :]
        with pytest.raises(ProofRefused):
            TotalProof.from_bytes(changed, HERE).verify(ranged)


# Zero knowledge ---------------------------------------------------------------------------------------------


def test_proofs_of_one_column_look_unlike(column):
    one, two = (prove_total(column, SUM - 10, SUM + 33, context=HERE) for _ in range(2))
    assert not set(one.points) & set(two.points)
    assert one.bit != two.bit


def test_a_column_is_opened_a_few_times_only():
    column = CommittedColumn.commit([1, 2], 0, 3)
    for _ in range(6):
        prove_total(column, 4, 6, squares=True, context=HERE)
    with pytest.raises(ProofRefused, match="opened in 6 proofs"):
        prove_total(column, 4, 6, squares=True, context=HERE)
    ranged = prove_range(column, context=HERE)
    prove_total(column, 2, 4, context=HERE).verify(ranged)  # a sum does not open it


@pytest.mark.parametrize(
    ("what", "bounds", "says"),
    [
        ([1, 2], (0, 5), "committed column"),
        (None, (0, 5), "committed column"),
        ("column", (5, 5), "first one smaller"),
        ("column", (0.0, 5), "whole numbers"),
        ("column", (0, 2**127), "whole numbers"),
    ],
)
def test_misuse_is_explained(column, what, bounds, says):
    with pytest.raises(DataError, match=says):
        prove_total(column if what == "column" else what, *bounds)
