"""Masks: known answers, one continuous stream, and keys that differ whenever anything differs."""

import copy
import hashlib
import hmac
import pickle
from itertools import combinations

import numpy as np
import pytest
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from twopm_kit.errors import ProtocolError, SecretRefused
from twopm_kit.secagg import MODULUS, RoundContext, masks, subtract, to_words
from twopm_kit.secagg.masks import MaskKey, add_masks, derive, expand, pair_key, self_key

SEED = bytes(range(32))
ALICE, BOB = b"\xa1" * 20, b"\xb0" * 20


def keystream(material, size):
    cipher = Cipher(algorithms.AES(material[:16]), modes.CTR(material[16:]))
    return cipher.encryptor().update(bytes(size))


def hkdf(secret, salt, info):
    pseudorandom = hmac.digest(salt, secret, hashlib.sha256)
    return hmac.digest(pseudorandom, info + b"\x01", hashlib.sha256)


def test_known_answer_of_nist():
    """SP 800-38A, F.5.1 CTR-AES128.Encrypt: the first three output blocks make one element."""
    material = bytes.fromhex("2b7e151628aed2a6abf7158809cf4f3cf0f1f2f3f4f5f6f7f8f9fafbfcfdfeff")
    blocks = bytes.fromhex(
        "ec8cdf7398607cb0f2d21675ea9ea1e4362b7c3c6773516318a077d7fc5073ae6a2cc3787889374fbeb4c81b17ba6c44"
    )
    assert to_words(expand(MaskKey(material), 1)) == [int.from_bytes(blocks, "little") % MODULUS]


def test_the_stream_is_continuous_over_the_whole_vector():
    size = 5000  # several chunks, and an incomplete one
    stream = keystream(SEED, 48 * size)
    expected = [int.from_bytes(stream[48 * i : 48 * i + 48], "little") % MODULUS for i in range(size)]
    assert to_words(expand(MaskKey(SEED), size)) == expected
    assert len(set(expected)) == size


@pytest.mark.parametrize("size", [8192, 8193, 20_000])
def test_threads_enter_the_stream_where_their_part_begins(size, monkeypatch):
    """The counter is 128 bits wide and wraps around, also when a thread starts in the middle."""
    edge = SEED[:16] + b"\xff" * 16
    whole = {}
    for threads in (1, 2, 4):
        monkeypatch.setattr(masks, "_THREADS", threads)
        whole[threads] = add_masks(size, plus=[MaskKey(edge), MaskKey(SEED)], minus=[MaskKey(SEED[::-1])])
    assert np.array_equal(whole[1], whole[2])
    assert np.array_equal(whole[1], whole[4])
    stream = keystream(edge, 48 * size)
    plain = expand(MaskKey(edge), size)
    for i in (0, 4095, 4096, size - 1):
        assert to_words(plain[i : i + 1]) == [
            int.from_bytes(stream[48 * i : 48 * i + 48], "little") % MODULUS
        ]


def test_masks_fill_the_whole_field():
    """Masks that reach 47 bits only would leave most of every element in the open."""
    words = np.array([word / MODULUS for word in to_words(expand(MaskKey(SEED), 4000))])
    counts = np.histogram(words, bins=16, range=(0.0, 1.0))[0]
    assert np.all(np.abs(counts - 250) < 6 * 250**0.5)
    limbs = expand(MaskKey(SEED), 4000)
    assert np.all(limbs.max(axis=0)[:7] > 0xFF000000)
    assert limbs[:, 7].max() > 0x73000000


def test_a_shorter_vector_takes_the_same_stream_from_its_start():
    assert np.array_equal(expand(MaskKey(SEED), 100), expand(MaskKey(SEED), 3000)[:100])


@pytest.mark.parametrize("byte", range(32))
def test_every_byte_of_the_key_matters(byte):
    other = bytearray(SEED)
    other[byte] ^= 1
    assert not np.array_equal(expand(MaskKey(bytes(other)), 4), expand(MaskKey(SEED), 4))


def test_keys_are_hkdf_over_binding_purpose_and_parties(context):
    info = b"twopm/secagg/v1/self" + ALICE
    material = hkdf(SEED, context.binding, info)
    assert np.array_equal(expand(self_key(SEED, context.binding, ALICE), 3), expand(MaskKey(material), 3))


def test_other_round_task_contract_or_chain_gives_other_masks():
    contracts = ("0x" + "c0" * 20, "0x" + "c1" * 20)
    contexts = [RoundContext(1, contracts[0], 7, 3), RoundContext(2, contracts[0], 7, 3)]
    contexts += [RoundContext(1, contracts[1], 7, 3), RoundContext(1, contracts[0], 8, 3)]
    contexts += [RoundContext(1, contracts[0], 7, 4), RoundContext(1, contracts[0], 3, 7)]
    parties = {ALICE: b"\x01" * 32, BOB: b"\x02" * 32}
    drawn = [to_words(expand(self_key(SEED, c.binding, ALICE), 2)) for c in contexts]
    drawn += [to_words(expand(pair_key(SEED, c.binding, parties), 2)) for c in contexts]
    assert all(a != b for a, b in combinations(drawn, 2))


def test_purposes_parties_and_public_keys_separate_keys(context):
    binding = context.binding
    keys = [derive(SEED, binding, purpose, ALICE) for purpose in ("self", "pair", "box")]
    keys.append(derive(SEED, binding, "self", BOB))
    assert len(set(keys)) == len(keys)
    one = expand(pair_key(SEED, binding, {ALICE: b"\x01" * 32, BOB: b"\x02" * 32}), 1)
    swapped = expand(pair_key(SEED, binding, {ALICE: b"\x02" * 32, BOB: b"\x01" * 32}), 1)
    turned = expand(pair_key(SEED, binding, {BOB: b"\x02" * 32, ALICE: b"\x01" * 32}), 1)
    assert np.array_equal(one, turned)
    assert not np.array_equal(one, swapped)


def test_masks_cancel_exactly():
    keys = [MaskKey(hashlib.sha256(bytes([i])).digest()) for i in range(60)]
    base = expand(MaskKey(SEED), 3000)
    there = add_masks(3000, plus=keys[:40], minus=keys[40:], base=base)
    back = add_masks(3000, plus=keys[40:], minus=keys[:40], base=there)
    assert np.array_equal(back, base)
    assert not np.array_equal(there, base)


def test_two_masked_coordinates_of_one_client_do_not_cancel(make_round):
    """A stream that restarts for every variable would leave x_j − x_k in the open."""
    members = make_round(length=8 * 60).share().receive()
    vector = members.encoder.encode(np.zeros(480), 1)
    masked = members.sessions[0].mask(vector)
    mask = to_words(subtract(masked, vector))
    differences = {(a - b) % MODULUS for a, b in combinations(mask, 2)}
    assert 0 not in differences
    assert len(differences) == len(mask) * (len(mask) - 1) // 2
    plain, hidden = to_words(vector), to_words(masked)
    leaks = [
        (j, k)
        for j, k in combinations(range(60), 2)
        if (hidden[j] - hidden[k] - plain[j] + plain[k]) % MODULUS == 0
    ]
    assert leaks == []


def test_a_key_neither_prints_nor_copies_nor_pickles():
    key = MaskKey(SEED)
    assert SEED.hex()[:6] not in repr(key)
    with pytest.raises(SecretRefused):
        pickle.dumps(key)
    with pytest.raises(SecretRefused):
        copy.deepcopy(key)


def test_wrong_key_size_and_too_many_masks_are_refused():
    with pytest.raises(ProtocolError, match="32 bytes"):
        MaskKey(bytes(16))
    with pytest.raises(ProtocolError, match="masks in one sum"):
        add_masks(1, plus=[MaskKey(SEED)] * (1 << 20))
