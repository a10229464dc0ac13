"""The attack of Li and Micciancio (EUROCRYPT 2021), for real: from a shared decryption to the secret key."""

import numpy as np
import pytest

from twopm_kit.fhe import Committee, KeyHolder, joint_opening, raw


@pytest.fixture(scope="module")
def victim():
    return KeyHolder.generate("agg")


@pytest.fixture(scope="module")
def shared(victim):
    """A fresh ciphertext, full in real and imaginary parts, that everybody has."""
    values = np.random.default_rng(5).uniform(-1, 1, 2 * victim.engine.slots)
    return victim.encrypt(values, packing="complex")


@pytest.fixture(scope="module")
def key(victim):
    return raw.secret_words(victim.engine, victim._secret)


def attack(enc, opened):
    """Return the secret key that ciphertext and decryption point to, using nothing but public things.

    Encoding the decryption again gives m = c0 + c1·s to the last bit when nothing was added to it; the key
    is (m - c0) / c1, one division for each word.
    """
    engine, head = enc.engine, enc.heads[0]
    column = np.asarray(opened)[:, 0]
    slots = column[: engine.slots] + 1j * column[engine.slots :]
    message = raw.words(engine, engine.encode(slots, head.scale, enc.level))[2]
    c0, c1 = raw.cipher_words(engine, enc.ciphers(head.name)[0])
    found = np.empty_like(message)
    for r, prime in enumerate(engine.primes):
        inverse = np.array([pow(int(x), -1, prime) if x else 0 for x in c1[r]], np.uint64)
        found[r] = raw.multiply_mod(raw.subtract_mod(message[r], c0[r], prime), inverse, prime)
    return found


def share_found(found, key):
    return float((found == key).mean())


def test_one_full_precision_decryption_gives_the_key_away(victim, shared, key):
    found = attack(shared, victim.decrypt(shared, flood=False))
    assert np.array_equal(found, key)

    # it is the key: it opens a ciphertext that nobody has decrypted
    other = victim.encrypt(np.array([3.25, -7.5]))
    thief = KeyHolder(victim.engine, raw.secret_of(victim.engine, found), victim._public, victim.ledger)
    np.testing.assert_allclose(thief.decrypt(other, flood=False)[:, 0], [3.25, -7.5], atol=1e-5)


def test_computing_first_does_not_help(victim, shared, key):
    later = shared + shared * 2 + 0.25
    assert np.array_equal(attack(later, victim.decrypt(later, flood=False)), key)
    assert share_found(attack(later, victim.decrypt(later)), key) < 0.01


@pytest.mark.parametrize("opening", ["decrypt", "open_for_others"])
@pytest.mark.parametrize("precision", [1e-9, 1e-6, 1e-3])
def test_flooded_values_do_not(victim, shared, key, opening, precision):
    opened = getattr(victim, opening)(shared, precision=precision)
    assert share_found(attack(shared, opened), key) < 0.01


def test_averaging_many_openings_does_not(victim, shared, key):
    mean = np.mean([victim.open_for_others(shared) for _ in range(64)], axis=0)
    assert share_found(attack(shared, mean), key) < 0.01


def test_what_a_committee_opens_does_not(victim, shared, key):
    group = Committee.deal(victim, 3, 5)
    partials = [group.members[i - 1].partial(shared, (2, 4, 5)) for i in (2, 4, 5)]
    assert share_found(attack(shared, group.combine(shared, partials)), key) < 0.01
    assert share_found(attack(shared, group.decrypt(shared)), key) < 0.01


def test_one_honest_member_is_enough_and_none_is_not(victim, shared, key, monkeypatch):
    group = Committee.deal(victim, 3, 5)
    honest, drawn = joint_opening.secure_normal, []

    def only_first(count):
        drawn.append(count)
        return honest(count) if len(drawn) == 1 else np.zeros(count)

    monkeypatch.setattr(joint_opening, "secure_normal", only_first)
    assert share_found(attack(shared, group.decrypt(shared)), key) < 0.01
    assert len(drawn) == 3
    # all members leave their noise out: now the attack works, so it is noise that stopped it
    assert np.array_equal(attack(shared, group.decrypt(shared)), key)
