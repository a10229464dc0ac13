"""``ColumnProofs`` on both local chains: takes what holds, for whom it was made, once; refuses all else."""

import dataclasses

import numpy as np
import pytest

from twopm_kit import kzg
from twopm_kit.errors import ProofRefused, UnknownContract
from twopm_kit.vsies.proofs import ColumnProofs, CommittedColumn, prove_range, prove_total

R = kzg.MODULUS
VALUES = np.random.default_rng(3).integers(-40, 60, 500)
SUM, SQUARES = int(VALUES.sum()), int((VALUES**2).sum())


@pytest.fixture(scope="module")
def chain(kept_chain):
    return kept_chain


@pytest.fixture(scope="module")
def alice(chain):
    return chain.account("alice")


@pytest.fixture(scope="module")
def proofs(chain, alice):
    return ColumnProofs.deploy(chain, alice)


@pytest.fixture(scope="module")
def column():
    return CommittedColumn.commit(VALUES, -40, 59)


@pytest.fixture(scope="module")
def context(proofs, alice):
    return proofs.context(7, alice, "age")


@pytest.fixture(scope="module")
def ranged(column, context):
    return prove_range(column, context=context)


@pytest.fixture(scope="module")
def summed(column, context):
    return prove_total(column, SUM - 5, SUM + 70, context=context)


@pytest.fixture(scope="module")
def squared(column, context):
    return prove_total(column, 0, SQUARES + 5, squares=True, context=context)


@pytest.fixture(autouse=True)
def _as_before(chain):
    before = chain.snapshot()
    yield
    before.revert()


def test_what_holds_is_remembered(proofs, alice, ranged, summed, squared):
    assert proofs.proven(7, alice, "age") is None
    receipt = proofs.verify(ranged, sender=alice)
    event = proofs.event(receipt, "RangeProved")
    assert (event["rows"], event["low"], event["high"]) == (500, -40, 59)
    found = proofs.proven(7, alice, "age")
    assert (found.rows, found.low, found.high) == (500, -40, 59)
    assert found.proven_at == receipt.block
    assert found.sum is None
    assert "500 rows; every value -40 to 59; sum not proven; sum of squares not proven;" in repr(found)
    proofs.verify(summed, sender=alice)
    proofs.verify(squared, sender=alice)
    found = proofs.proven(7, alice, "age")
    assert found.sum == (SUM - 5, SUM + 70)
    assert found.squares == (0, SQUARES + 5)
    assert "not proven" not in found._repr_html_()
    assert proofs.proven(7, alice, "Age") is None
    assert proofs.proven(8, alice, "age") is None
    assert proofs.proven(7, alice, "age", 1) is None


@pytest.mark.parametrize(
    ("values", "low", "high"),
    [([0], 0, 1), ([2**32 - 1] * 2_048, 0, 2**32 - 1), ([7, 5 - 2**63], -(2**63), 0)],
)
def test_ranges_at_the_borders(proofs, alice, values, low, high):
    if values[0] > high:
        values, high = [values[1]], low + 9
    column = CommittedColumn.commit(values, low, high)
    context = proofs.context(1, alice, "border")
    proofs.verify(prove_range(column, context=context), sender=alice)
    total = sum(values)
    if abs(total) < 2**60:
        proofs.verify(prove_total(column, total - 1, total, context=context), sender=alice)
    found = proofs.proven(1, alice, "border")
    assert (found.rows, found.low, found.high) == (len(values), low, high)


def test_gas_and_bytes_stay_within_bounds(proofs, alice):
    values = np.random.default_rng(4).integers(0, 2**16, 2_048)
    found = prove_range(values, 16, context=proofs.context(9, alice, "income"))
    assert proofs.verify(found, sender=alice).gas <= 400_000
    calldata = proofs.contract.method("prove_range").encode(*found.arguments())
    assert len(calldata) <= 3_500


def test_another_account_cannot_send_it(chain, proofs, alice, ranged):
    bob = chain.account("bob")
    with pytest.raises(ProofRefused, match="does not hold"):
        proofs.verify(ranged, sender=bob)
    with pytest.raises(ProofRefused, match="does not hold"):
        proofs.verify(dataclasses.replace(ranged, context=proofs.context(7, bob, "age")), sender=bob)


def test_another_contract_does_not_take_it(chain, alice, ranged):
    with pytest.raises(ProofRefused, match="does not hold"):
        ColumnProofs.deploy(chain, alice).verify(ranged, sender=alice)


@pytest.mark.parametrize("change", [{"dataset": 8}, {"column": "Age"}, {"part": 1}])
def test_another_place_does_not_take_it(proofs, alice, ranged, change):
    moved = dataclasses.replace(ranged, context=dataclasses.replace(ranged.context, **change))
    with pytest.raises(ProofRefused, match="does not hold"):
        proofs.verify(moved, sender=alice)


def test_a_part_is_proven_once(proofs, alice, column, context, ranged, summed):
    proofs.verify(ranged, sender=alice)
    with pytest.raises(ProofRefused, match="already proven"):
        proofs.verify(ranged, sender=alice)
    again = CommittedColumn.commit(VALUES, -40, 59)
    with pytest.raises(ProofRefused, match="already proven"):
        proofs.verify(prove_range(again, context=context), sender=alice)
    with pytest.raises(ProofRefused, match="another commitment"):
        proofs.verify(prove_total(again, SUM - 5, SUM + 70, context=context), sender=alice)
    proofs.verify(summed, sender=alice)
    with pytest.raises(ProofRefused, match="already proven"):
        proofs.verify(summed, sender=alice)


def test_a_total_needs_a_range(proofs, alice, summed):
    with pytest.raises(ProofRefused, match="prove the range first"):
        proofs.verify(summed, sender=alice)


def range_changes(proof):
    other = kzg.linear_combination([proof.commitment], [3])
    small = bytes(64) + (2).to_bytes(64, "big")  # on the curve, of order 3
    yield {"rows": 499}
    yield {"rows": 0}
    yield {"rows": 2_049}
    yield {"low": -41}
    yield {"high": 60}
    yield {"low": 60}
    yield {"high": 2**63}
    yield {"commitment": other}
    yield {"commitment": kzg.INFINITY}
    yield {"commitment": small}
    yield {"opening": kzg.compress(other)}
    yield {"opening": bytes(48)}
    yield {"opening": b""}
    yield {"quotient": (proof.quotient[1], proof.quotient[0])}
    for i in range(2):
        yield {"quotient": (*proof.quotient[:i], other, *proof.quotient[i + 1 :])}
    for i in range(len(proof.bits)):
        yield {"bits": (*proof.bits[:i], other, *proof.bits[i + 1 :])}
        yield {"values": (*proof.values[:i], (proof.values[i] + 1) % R, *proof.values[i + 1 :])}
    yield {"bits": (small, *proof.bits[1:])}
    yield {"values": (proof.values[0] + R, *proof.values[1:])}
    yield {"bits": proof.bits[:-1], "values": proof.values[:-1]}
    yield {"values": proof.values[:-1]}
    yield {"bits": (), "values": ()}


def total_changes(proof):
    other = kzg.linear_combination([proof.commitment], [3])
    yield {"squares": not proof.squares}
    yield {"least": proof.least - 1}
    yield {"most": proof.most + 1}
    yield {"least": proof.most}
    yield {"least": -(2**127)}
    yield {"commitment": other}
    for i in range(6):
        yield {"points": (*proof.points[:i], other, *proof.points[i + 1 :])}
    yield {"bit": (proof.bit + 1) % R}
    yield {"bit": proof.bit + R}
    yield {"opened": (proof.opened + 1) % R}
    yield {"opening": kzg.compress(other)}


def test_no_field_of_a_range_proof_can_change(proofs, alice, ranged):
    assert not accepted(proofs, ranged, range_changes(ranged), alice)
    proofs.verify(ranged, sender=alice)


def test_no_field_of_a_total_can_change(proofs, alice, ranged, summed, squared):
    proofs.verify(ranged, sender=alice)
    for proof in (summed, squared):
        assert not accepted(proofs, proof, total_changes(proof), alice)
        proofs.verify(proof, sender=alice)


def accepted(proofs, proof, changes, sender):
    """The changes that the contract did not notice."""
    unnoticed = []
    for change in changes:
        try:
            proofs.verify(dataclasses.replace(proof, **change), sender=sender)
        except ProofRefused:
            continue
        unnoticed.append(change)
    return unnoticed


def test_only_the_kits_own_code_is_asked(chain, alice):
    tally = chain.deploy("Tally", 3_600, sender=alice)
    with pytest.raises(UnknownContract):
        ColumnProofs.at(chain, tally.address)
