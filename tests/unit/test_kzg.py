"""Commitments to blobs: their algebra, their proofs, and hostile bytes."""

import hashlib
import secrets
import subprocess
import sys
import threading
from pathlib import Path

import ckzg
import eth
import pytest
from eth.precompiles import point_evaluation
from hypothesis import given, settings
from hypothesis import strategies as st
from py_ecc import optimized_bls12_381 as reference
from py_ecc.bls.point_compression import compress_G1, decompress_G1

from twopm_kit import kzg
from twopm_kit.errors import DataError

P = reference.field_modulus


def elements(count=kzg.BLOB_ELEMENTS):
    return [secrets.randbelow(kzg.MODULUS) for _ in range(count)]


def blob_of(values):
    [blob] = kzg.split(b"".join(value.to_bytes(32, "big") for value in values))
    return blob


@pytest.fixture(scope="module")
def vector():
    return elements()


@pytest.fixture(scope="module")
def blob(vector):
    return blob_of(vector)


@pytest.fixture(scope="module")
def stranger():
    """A point of the curve that is not in the group."""
    for x in range(1, 100):
        candidate = ((1 << 383) | x).to_bytes(48, "big")
        try:
            kzg.uncompress(candidate)
        except DataError:
            continue
        if not kzg.in_group(candidate):
            return candidate
    pytest.fail("small x all lead into the group")


def from_reference(point):
    x, y = reference.normalize(point)
    return int(x).to_bytes(64, "big") + int(y).to_bytes(64, "big")


# Set-up -------------------------------------------------------------------------------------------------


def test_the_points_are_those_of_ethereums_ceremony():
    content = kzg._setup_file().read_bytes()
    # the file of the consensus specifications, as every Ethereum client ships it
    assert hashlib.sha256(content).hexdigest() == (
        "d39b9f2d047cc9dca2de58f264b6a09448ccd34db967881a6713eacacf0f26b7"
    )
    assert content == (Path(eth.__file__).parent / "_utils" / "kzg_trusted_setup.txt").read_bytes()


def test_the_set_up_is_read_once_also_by_threads_and_by_the_evm():
    seen = []
    threads = [threading.Thread(target=lambda: seen.append(kzg.trusted_setup())) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(one is seen[0] for one in seen)
    from twopm_kit.chain import embedded  # noqa: F401  (its import lends the points to py-evm)

    assert point_evaluation.load_trusted_setup(point_evaluation.TRUSTED_SETUP_PATH, 0) is seen[0]
    assert ckzg.load_trusted_setup is not point_evaluation.load_trusted_setup


def test_the_import_reads_nothing_and_is_light():
    code = "import sys, twopm_kit.kzg as k; print(k._loaded, 'eth_account' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["[]", "False"]


def test_a_ceremony_that_is_not_there_is_named(monkeypatch):
    monkeypatch.setattr(kzg, "find_spec", lambda _: None)
    with pytest.raises(DataError, match="ceremony") as caught:
        kzg._setup_file()
    assert caught.value.hint


# Blobs --------------------------------------------------------------------------------------------------


def test_words_are_cut_and_filled_up():
    word = (7).to_bytes(32, "big")
    assert kzg.split(word) == [word + bytes(kzg.BLOB_BYTES - 32)]
    two = kzg.split(word * (kzg.BLOB_ELEMENTS + 1))
    assert [len(one) for one in two] == [kzg.BLOB_BYTES] * 2
    assert two == [word * kzg.BLOB_ELEMENTS, word + bytes(kzg.BLOB_BYTES - 32)]
    for wrong in (b"", bytes(31), bytearray(32), "text"):
        with pytest.raises(DataError, match="expected one or more words"):
            kzg.split(wrong)


def test_a_commitment_is_what_ckzg_says(blob):
    assert kzg.commit(blob) == ckzg.blob_to_kzg_commitment(blob, kzg.trusted_setup())
    expected = b"\x01" + hashlib.sha256(kzg.commit(blob)).digest()[1:]
    assert kzg.versioned_hash(kzg.commit(blob)) == expected
    assert kzg.uncompress(kzg.commit(blob_of([1] * kzg.BLOB_ELEMENTS))) == kzg.GENERATOR
    assert kzg.uncompress(kzg.commit(bytes(kzg.BLOB_BYTES))) == kzg.INFINITY


def test_the_sum_of_commitments_is_the_commitment_to_the_sum(vector, blob):
    other = elements()
    total = [(a + b) % kzg.MODULUS for a, b in zip(vector, other, strict=True)]
    points = [kzg.uncompress(kzg.commit(one)) for one in (blob, blob_of(other))]
    assert kzg.compress(kzg.add(*points)) == kzg.commit(blob_of(total))
    # as a contract does it that starts at the generator, so that every addition costs the same
    running = kzg.GENERATOR
    for point in points:
        running = kzg.add(running, point)
    assert kzg.add(running, kzg.negate(kzg.GENERATOR)) == kzg.add(*points)


def test_proofs_hold_for_their_blob_only(blob):
    blobs = [blob, blob_of([1, 2, 3])]
    commitments = [kzg.commit(one) for one in blobs]
    proofs = [kzg.prove(*pair) for pair in zip(blobs, commitments, strict=True)]
    assert kzg.verify(blobs, commitments, proofs)
    assert kzg.verify([], [], [])
    assert not kzg.verify(blobs, commitments[::-1], proofs)
    assert not kzg.verify(blobs, commitments, proofs[::-1])
    assert not kzg.verify(blobs[::-1], commitments, proofs)
    changed = blobs[1][:31] + b"\x05" + blobs[1][32:]
    assert not kzg.verify([blob, changed], commitments, proofs)


def test_hostile_contents_are_false_and_wrong_sizes_an_error(blob, stranger):
    commitment = kzg.commit(blob)
    proof = kzg.prove(blob, commitment)
    outside = b"\xff" * 32 + blob[32:]
    for blobs, commitments, proofs in [
        ([outside], [commitment], [proof]),
        ([blob], [stranger], [proof]),
        ([blob], [commitment], [stranger]),
        ([blob], [bytes(48)], [proof]),
        ([blob], [b"\xff" * 48], [proof]),
    ]:
        assert not kzg.verify(blobs, commitments, proofs)
    for blobs, commitments, proofs in [
        ([blob], [commitment], []),
        ([blob[1:]], [commitment], [proof]),
        ([blob], [commitment[1:]], [proof]),
        ([blob], [commitment], [proof + b"\0"]),
        ([blob], ["0x"], [proof]),
    ]:
        with pytest.raises(DataError) as caught:
            kzg.verify(blobs, commitments, proofs)
        assert caught.value.hint


def test_an_element_outside_the_field_is_named(blob):
    outside = blob[: 32 * 9] + kzg.MODULUS.to_bytes(32, "big") + blob[32 * 10 :]
    for call in (
        lambda: kzg.commit(outside),
        lambda: kzg.prove(outside, kzg.commit(blob)),
        lambda: kzg.point_proof(outside, 0),
        lambda: kzg.cell_proofs(outside),
    ):
        with pytest.raises(DataError, match="element 9 of the blob"):
            call()
    with pytest.raises(DataError, match="no point of the group"):
        kzg.prove(blob, b"\xff" * 48)


@pytest.mark.parametrize("index", [0, 1, 2, 1000, 4095])
def test_one_element_can_be_proved(vector, blob, index):
    commitment = kzg.commit(blob)
    proof, value = kzg.point_proof(blob, index)
    assert int.from_bytes(value, "big") == vector[index]
    assert kzg.verify_point(commitment, index, value, proof)
    assert not kzg.verify_point(commitment, index ^ 1, value, proof)
    wrong = ((vector[index] + 1) % kzg.MODULUS).to_bytes(32, "big")
    assert not kzg.verify_point(commitment, index, wrong, proof)
    assert not kzg.verify_point(commitment, index, b"\xff" * 32, proof)


def test_elements_lie_at_powers_of_a_root_of_unity_in_bit_reversed_order():
    assert [kzg.omega(0), kzg.omega(1)] == [1, kzg.MODULUS - 1]
    first = kzg.omega(kzg.BLOB_ELEMENTS // 2)  # reversed: the first power
    assert pow(first, kzg.BLOB_ELEMENTS, kzg.MODULUS) == 1
    assert pow(first, kzg.BLOB_ELEMENTS // 2, kzg.MODULUS) == kzg.MODULUS - 1
    assert kzg.omega(kzg.BLOB_ELEMENTS // 4) == pow(first, 2, kzg.MODULUS)
    assert kzg.omega(3) == pow(first, 0b110000000000, kzg.MODULUS)
    for wrong in (-1, kzg.BLOB_ELEMENTS, "0", 1.0):
        with pytest.raises(DataError, match="no element"):
            kzg.omega(wrong)


# Points -------------------------------------------------------------------------------------------------


@settings(max_examples=25, deadline=None)
@given(left=st.integers(0, kzg.MODULUS - 1), right=st.integers(0, kzg.MODULUS - 1))
def test_points_are_packed_and_added_as_a_reference_does(left, right):
    a, b = (reference.multiply(reference.G1, scalar) for scalar in (left, right))
    packed = from_reference(a), from_reference(b)
    assert kzg.add(*packed) == from_reference(reference.add(a, b))
    assert kzg.add(packed[0], packed[0]) == from_reference(reference.double(a))
    assert kzg.add(packed[0], kzg.negate(packed[0])) == kzg.INFINITY
    assert kzg.add(packed[0], kzg.INFINITY) == kzg.add(packed[0]) == packed[0]
    short = compress_G1(a).to_bytes(48, "big")
    assert kzg.compress(packed[0]) == short
    assert kzg.uncompress(short) == packed[0] == from_reference(decompress_G1(compress_G1(a)))
    assert kzg.in_group(short)


def test_the_neutral_element_has_one_form_each():
    assert kzg.add() == kzg.negate(kzg.INFINITY) == kzg.INFINITY
    assert kzg.compress(kzg.INFINITY) == b"\xc0" + bytes(47)
    assert kzg.uncompress(b"\xc0" + bytes(47)) == kzg.INFINITY


def test_hostile_points_are_refused(stranger):
    generator = kzg.compress(kzg.GENERATOR)
    for wrong in (
        bytes(48),
        b"\xff" * 48,
        b"\xe0" + bytes(47),  # infinity with a sign
        b"\xc0" + bytes(46) + b"\x01",  # infinity with an x
        bytes([generator[0] & 0x7F]) + generator[1:],  # not marked as compressed
        ((1 << 383) | P).to_bytes(48, "big"),  # x is not reduced
        ((1 << 383) | 1).to_bytes(48, "big"),  # no y belongs to this x
    ):
        with pytest.raises(DataError):
            kzg.uncompress(wrong)
        assert not kzg.in_group(wrong)
    x, y = kzg.GENERATOR[:64], kzg.GENERATOR[64:]
    beyond = (int.from_bytes(y, "big") + P).to_bytes(64, "big")
    for wrong in (y + x, x + beyond, b"\x01" + x[1:] + y, x + bytes(64), x, kzg.GENERATOR + b"\0", "text"):
        for call in (kzg.add, kzg.negate, kzg.compress):
            with pytest.raises(DataError) as caught:
                call(wrong)
            assert caught.value.hint
    # on the curve, so it can be added up, as in the precompile; but not in the group
    assert kzg.compress(kzg.uncompress(stranger)) == stranger
    assert not kzg.in_group(stranger)


# Multiples of points, and any point of evaluation -----------------------------------------------------------


def test_combinations_add_up():
    g = kzg.GENERATOR
    points = [kzg.linear_combination([g], [factor]) for factor in (1, 2, 3, kzg.MODULUS - 1)]
    assert points[0] == g
    assert points[1] == kzg.add(g, g)
    assert points[2] == kzg.add(g, g, g)
    assert points[3] == kzg.negate(g)
    assert kzg.linear_combination(points, [5, 7, 11, 2]) == kzg.linear_combination([g], [5 + 14 + 33 - 2])
    assert kzg.linear_combination([g, g], [4, -4]) == kzg.INFINITY
    assert kzg.linear_combination([kzg.INFINITY, g], [9, 1]) == g
    assert kzg.linear_combination([g], [kzg.MODULUS]) == kzg.INFINITY
    assert kzg.linear_combination([], []) == kzg.INFINITY


def test_combinations_refuse_what_is_no_point_of_the_group():
    small = bytes(64) + (2).to_bytes(64, "big")  # on the curve, of order 3
    with pytest.raises(DataError, match="not in the group"):
        kzg.linear_combination([small], [1])
    with pytest.raises(DataError, match="1 points and 2 scalars"):
        kzg.linear_combination([kzg.GENERATOR], [1, 2])


def test_a_blob_is_opened_anywhere():
    blob = b"".join(value.to_bytes(32, "big") for value in range(kzg.BLOB_ELEMENTS))
    commitment = kzg.commit(blob)
    for point in (0, 1, 123_456_789, kzg.MODULUS - 1):
        proof, value = kzg.prove_at(blob, point)
        assert kzg.verify_at(commitment, point, value, proof)
        assert not kzg.verify_at(commitment, (point + 1) % kzg.MODULUS, value, proof)
    assert kzg.prove_at(blob, kzg.omega(5)) == kzg.point_proof(blob, 5)
    for bad in (-1, kzg.MODULUS, 1.5, None):
        with pytest.raises(DataError, match="point of evaluation"):
            kzg.prove_at(blob, bad)
