import numpy as np
import pytest
import tenseal.sealapi as seal
from hypothesis import given, settings
from hypothesis import strategies as st

from twopm_kit.errors import CiphertextError
from twopm_kit.fhe import PROFILES, KeyHolder, raw
from twopm_kit.fhe.engine import engine_for

PRIMES = [2, 3, 65537, 2**31 - 1, 2**61 - 1, *engine_for("linear").primes, *engine_for("train").primes]


@pytest.fixture(scope="module", params=["agg", "linear", "train"])
def owner(request):
    return KeyHolder.generate(request.param)


def fresh(holder, values=None):
    values = np.random.default_rng(3).normal(size=holder.engine.slots) if values is None else values
    enc = holder.encrypt(values)
    return enc.ciphers(enc.columns[0])[0]


def opened(holder, cipher):
    plain = seal.Plaintext()
    holder._decryptor.decrypt(cipher, plain)
    return plain


# Arithmetic ---------------------------------------------------------------------------------------------


@st.composite
def residues(draw):
    prime = draw(st.sampled_from(PRIMES))
    edge = st.sampled_from(sorted({0, 1, prime // 2, prime - 1}))
    pair = st.tuples(*[edge | st.integers(0, prime - 1)] * 2)
    return prime, draw(st.lists(pair, min_size=1, max_size=20))


@given(residues())
@settings(max_examples=300, deadline=None)
def test_arithmetic_is_that_of_whole_numbers(case):
    prime, pairs = case
    left, right = (np.array(side, np.uint64) for side in zip(*pairs, strict=True))
    assert raw.multiply_mod(left, right, prime).tolist() == [a * b % prime for a, b in pairs]
    assert raw.multiply_mod(left, pairs[0][1], prime).tolist() == [a * pairs[0][1] % prime for a, _ in pairs]
    assert raw.add_mod(left, right, prime).tolist() == [(a + b) % prime for a, b in pairs]
    assert raw.subtract_mod(left, right, prime).tolist() == [(a - b) % prime for a, b in pairs]
    small = right % np.uint64(2**31)
    assert raw.scale_mod(left, small, prime).tolist() == [a * (b % 2**31) % prime for a, b in pairs]


@pytest.mark.parametrize("prime", [PRIMES[-1], engine_for("linear").primes[0], 2**61 - 1])
def test_products_of_many_residues_are_exact(prime):
    left, right = raw.uniform_words((prime, prime), 4096)
    expected = [int(a) * int(b) % prime for a, b in zip(left, right, strict=True)]
    assert raw.multiply_mod(left, right, prime).tolist() == expected


def test_operands_are_left_as_they_were():
    left, right = raw.uniform_words((97, 97), 64)
    before = left.copy(), right.copy()
    for operation in (raw.add_mod, raw.subtract_mod, raw.multiply_mod, raw.scale_mod):
        operation(left, right, 97)
    assert np.array_equal(left, before[0])
    assert np.array_equal(right, before[1])


def test_uniform_words_are_uniform_and_repeat_with_their_key_alone():
    primes = (5, 2**40 - 87, engine_for("linear").primes[0])
    key = bytes(range(32))
    one, same, other = (raw.uniform_words(primes, 4096, k) for k in (key, key, key[::-1]))
    assert np.array_equal(one, same)
    assert not np.array_equal(one[1:], other[1:])
    assert not np.array_equal(raw.uniform_words(primes, 64), raw.uniform_words(primes, 64))
    assert (
        np.bincount(one[0].astype(int)).min() > 4096 / 5 - 6 * 26
    )  # six standard deviations, no value missing
    for row, prime in zip(one, primes, strict=True):
        assert int(row.max()) < prime
        assert abs(row.astype(float).mean() / (prime - 1) - 0.5) < 6 * 0.36 / 64


# SEAL objects -------------------------------------------------------------------------------------------


def test_residues_decrypt_by_hand_as_seal_does(owner):
    engine, cipher = owner.engine, fresh(owner)
    polynomials, secret = raw.cipher_words(engine, cipher), raw.secret_words(engine, owner._secret)
    parms_id, scale, message = raw.words(engine, opened(owner, cipher))
    assert polynomials.shape == (2, len(engine.primes), engine.profile.degree)
    assert scale == cipher.scale
    assert np.frombuffer(parms_id, "<u8").tolist() == list(cipher.parms_id())
    for r, prime in enumerate(engine.primes):
        product = raw.multiply_mod(polynomials[1, r], secret[r], prime)
        assert np.array_equal(raw.add_mod(polynomials[0, r], product, prime), message[r])


def test_a_product_has_three_polynomials(holder):
    engine = holder.engine
    square = engine.square(fresh(holder))
    assert raw.cipher_words(engine, square).shape == (3, len(engine.primes), engine.profile.degree)


def test_plaintexts_and_keys_come_back(owner):
    engine, cipher = owner.engine, fresh(owner)
    plain = opened(owner, cipher)
    _, scale, message = raw.words(engine, plain)
    again = raw.plaintext_of(engine, engine.profile.levels, scale, message)
    assert np.array_equal(engine.encoder.decode_double(again), engine.encoder.decode_double(plain))
    lower = engine.drop_to(cipher, 0)
    _, _, message = raw.words(engine, opened(owner, lower))
    assert message.shape == (1, engine.profile.degree)
    assert raw.words(engine, raw.plaintext_of(engine, 0, scale, message))[2].tolist() == message.tolist()

    key = raw.secret_of(engine, raw.secret_words(engine, owner._secret))
    plain = seal.Plaintext()
    seal.Decryptor(engine.context, key).decrypt(cipher, plain)
    assert np.array_equal(raw.words(engine, plain)[2], raw.words(engine, opened(owner, cipher))[2])


def test_a_copy_is_given(owner):
    plain = opened(owner, fresh(owner))
    message = raw.words(owner.engine, plain)[2]
    message[:] = 0
    assert raw.words(owner.engine, plain)[2].any()


def test_what_cannot_be_residues_is_refused(owner):
    engine = owner.engine
    degree, level = engine.profile.degree, engine.profile.levels
    right = raw.uniform_words(engine.primes, degree)
    for wrong in (right[:, :-1], right.astype(np.int64), right[:0]):
        with pytest.raises(CiphertextError, match="shape"):
            raw.plaintext_of(engine, level, 1.0, wrong)
    with pytest.raises(CiphertextError, match="shape"):
        raw.secret_of(engine, right[:, 1:])
    right[0, 0] = engine.primes[0]
    with pytest.raises(CiphertextError, match="SEAL"):
        raw.plaintext_of(engine, level, 1.0, right)


def test_a_ciphertext_of_another_degree_is_refused():
    small, large = KeyHolder.generate("agg"), engine_for("linear")
    assert small.engine.profile.degree != PROFILES["linear"].degree
    with pytest.raises(CiphertextError, match="degree"):
        raw.cipher_words(large, fresh(small))
