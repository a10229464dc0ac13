"""Commitments: trees that bind count, order, kind and party."""

import pytest
from eth_hash.auto import keccak

from twopm_kit.errors import ProtocolError
from twopm_kit.secagg import ShareKind, from_words, mask_digest, verify_proof
from twopm_kit.secagg.commitments import (
    chunk_leaf,
    data_root,
    merkle_proof,
    merkle_root,
    opening_leaf,
    seed_hash,
    share_digest,
    share_leaf,
    survivors_digest,
    vector_digest,
)

LEAVES = [keccak(bytes([i])) for i in range(33)]
ALICE, BOB, ROUND = b"\xa1" * 20, b"\xb0" * 20, b"\x07" * 32
SALT, SHARE = bytes(32), bytes(33)


@pytest.mark.parametrize("count", [1, 2, 3, 4, 5, 7, 8, 12, 33])
def test_every_leaf_opens_and_nothing_else_does(count):
    leaves = LEAVES[:count]
    root = merkle_root(leaves)
    for index, leaf in enumerate(leaves):
        path = merkle_proof(leaves, index)
        assert verify_proof(root, count, index, leaf, path)
        assert not verify_proof(root, count, index, keccak(leaf), path)
        assert not verify_proof(root, count, index, leaf, [*path, leaf])
        assert not verify_proof(root, count + 1, index, leaf, path)
        assert not verify_proof(root, count, index + count, leaf, path)
        if path:
            assert not verify_proof(root, count, index, leaf, path[:-1])
            assert not verify_proof(root, count, (index + 1) % count, leaf, path)


def test_root_by_hand():
    a, b, c = LEAVES[:3]
    top = keccak(b"\x01" + keccak(b"\x01" + a + b) + c)
    assert merkle_root([a, b, c]) == keccak(b"\x02" + (3).to_bytes(32, "big") + top)


def test_order_count_and_repetition_change_the_root():
    a, b, c = LEAVES[:3]
    roots = [merkle_root(x) for x in ([a], [a, b], [b, a], [a, b, c], [a, b, c, c], [a, b, b], [a, a])]
    assert len(set(roots)) == len(roots)
    inner = keccak(b"\x01" + a + b)
    assert merkle_root([inner]) != merkle_root([a, b])


def test_leaves_bind_everything_and_kinds_of_hash_are_apart():
    leaves = {
        share_leaf(ROUND, ALICE, BOB, ShareKind.SELF_SEED, SALT, SHARE),
        share_leaf(ROUND, BOB, ALICE, ShareKind.SELF_SEED, SALT, SHARE),
        share_leaf(ROUND, ALICE, BOB, ShareKind.MASK_KEY, SALT, SHARE),
        share_leaf(bytes(32), ALICE, BOB, ShareKind.SELF_SEED, SALT, SHARE),
        share_leaf(ROUND, ALICE, BOB, ShareKind.SELF_SEED, b"\x01" * 32, SHARE),
        share_leaf(ROUND, ALICE, BOB, ShareKind.SELF_SEED, SALT, b"\x01" * 33),
        opening_leaf(ROUND, ALICE, bytes(32), BOB, ShareKind.SELF_SEED, SALT, SHARE),
        opening_leaf(ROUND, ALICE, ROUND, BOB, ShareKind.SELF_SEED, SALT, SHARE),
        seed_hash(ROUND, ALICE, SALT),
        seed_hash(ROUND, BOB, SALT),
        survivors_digest(ROUND, bytes(31) + b"\x01"),
        survivors_digest(ROUND, bytes(31) + b"\x03"),
        chunk_leaf(ROUND, ALICE, bytes(1024)),
        chunk_leaf(ROUND, BOB, bytes(1024)),
    }
    assert len(leaves) == 14


def test_words_on_chain_by_hand():
    """What a contract computes, written out."""
    words = b"".join(i.to_bytes(32, "big") for i in range(40))
    chunks = [words[:1024], words[1024:] + bytes(24 * 32)]
    leaves = [keccak(b"\x06" + ROUND + ALICE + chunk) for chunk in chunks]
    root = keccak(b"\x02" + (2).to_bytes(32, "big") + keccak(b"\x01" + leaves[0] + leaves[1]))
    assert data_root(ROUND, ALICE, words) == root
    assert vector_digest(root) == keccak(root)
    assert vector_digest(root, [b"\x05" * 128, b"\x06" * 128]) == keccak(root + b"\x05" * 128 + b"\x06" * 128)
    assert share_digest(SALT, ROUND, root) == keccak(SALT + ROUND + root)
    assert survivors_digest(ROUND, bytes(32)) == keccak(b"\x05" + ROUND + bytes(32))


def test_mask_digest_hashes_big_endian_words():
    assert mask_digest(from_words([1, 2])) == keccak((1).to_bytes(32, "big") + (2).to_bytes(32, "big"))


def test_impossible_trees_are_refused():
    with pytest.raises(ProtocolError):
        merkle_root([])
    with pytest.raises(ProtocolError):
        merkle_proof(LEAVES[:3], 3)
