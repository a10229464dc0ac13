"""Field vectors against Python integers."""

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from twopm_kit.errors import EncodingError
from twopm_kit.secagg import MODULUS, add, from_words, subtract, to_words, total
from twopm_kit.secagg.field import LIMBS, WIDE_LIMBS, reduce_wide, to_big_endian

repeatable = settings(derandomize=True, deadline=None, max_examples=60)
elements = st.integers(0, MODULUS - 1)
pairs = st.lists(st.tuples(elements, elements), min_size=1, max_size=40)
wide_limb = st.integers(-(2**52) + 1, 2**52 - 1)


def test_modulus_is_the_scalar_field_of_bls12_381():
    x = 0xD201000000010000
    assert x**4 - x**2 + 1 == MODULUS


@repeatable
@given(pairs)
@example([(0, 0)])
@example([(MODULUS - 1, MODULUS - 1), (MODULUS - 1, 1), (0, MODULUS - 1), (0, 1)])
def test_add_and_subtract_agree_with_integers(rows):
    left, right = from_words([a for a, _ in rows]), from_words([b for _, b in rows])
    assert to_words(add(left, right)) == [(a + b) % MODULUS for a, b in rows]
    assert to_words(subtract(left, right)) == [(a - b) % MODULUS for a, b in rows]


@repeatable
@given(st.lists(st.lists(wide_limb, min_size=WIDE_LIMBS, max_size=WIDE_LIMBS), min_size=1, max_size=8))
@example([[2**52 - 1] * WIDE_LIMBS, [-(2**52) + 1] * WIDE_LIMBS, [0] * WIDE_LIMBS])
def test_reduction_of_lazy_limbs_is_exact(rows):
    got = to_words(reduce_wide(np.array(rows, np.int64)))
    assert got == [sum(limb << (32 * k) for k, limb in enumerate(row)) % MODULUS for row in rows]


@pytest.mark.parametrize("multiple", [0, 1, 2, 3])
@pytest.mark.parametrize("offset", [-1, 0, 1])
@pytest.mark.parametrize("sign", [-1, 1])
def test_reduction_at_multiples_of_the_modulus(multiple, offset, sign):
    value = multiple * MODULUS + offset
    limbs = [[sign * (abs(value) >> (32 * k) & 0xFFFFFFFF) for k in range(WIDE_LIMBS)]]
    assert to_words(reduce_wide(np.array(limbs, np.int64))) == [sign * abs(value) % MODULUS]


def test_reduction_across_blocks_keeps_order():
    wide = np.random.default_rng(0).integers(-(2**40), 2**40, (5000, WIDE_LIMBS))
    words = to_words(reduce_wide(wide))
    for row in (0, 2047, 2048, 4095, 4096, 4999):
        assert words[row] == sum(int(limb) << (32 * k) for k, limb in enumerate(wide[row])) % MODULUS


def test_total_adds_up_many_vectors():
    vectors = [[MODULUS - 1 - i, i] for i in range(50)]
    assert to_words(total(from_words(v) for v in vectors)) == [
        sum(c) % MODULUS for c in zip(*vectors, strict=True)
    ]


def test_big_endian_words_are_those_of_the_evm():
    words = [1, MODULUS - 1, 0x0102030405060708 << 128]
    assert to_big_endian(from_words(words)) == b"".join(w.to_bytes(32, "big") for w in words)


@pytest.mark.parametrize("word", [-1, MODULUS, MODULUS + 1, 2**256 - 1, 2**256])
def test_a_word_outside_the_field_is_refused_with_its_index(word):
    with pytest.raises(EncodingError, match="word 1 is not a field element"):
        from_words([5, word])


@pytest.mark.parametrize(
    "limbs",
    [
        None,
        [[0] * LIMBS],
        np.zeros((3, LIMBS), np.int64),
        np.zeros(LIMBS, np.uint32),
        np.zeros((3, LIMBS - 1), np.uint32),
        np.full((1, LIMBS), 0xFFFFFFFF, np.uint32),
        np.frombuffer(MODULUS.to_bytes(32, "little"), np.uint32).reshape(1, LIMBS),
    ],
)
def test_what_is_not_a_vector_of_field_elements_is_refused(limbs):
    with pytest.raises(EncodingError):
        to_words(limbs)


def test_vectors_of_different_length_are_refused():
    with pytest.raises(EncodingError, match=r"shape \(2, 8\)"):
        add(from_words([1, 2]), from_words([1]))
    with pytest.raises(EncodingError, match="no vector"):
        total([])
