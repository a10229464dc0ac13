import numpy as np
import pytest

from twopm_kit.fhe import KeyHolder
from twopm_kit.fhe.networks.arithmetic import products
from twopm_kit.fhe.networks.dense import dense_products, dense_seconds, whole_weights
from twopm_kit.fhe.networks.lower import Columns
from twopm_kit.fhe.networks.program import Affine, Input, Polynomial, Program
from twopm_kit.fhe.networks.schedule import best_schedule, seen
from twopm_kit.fhe.raw import cipher_words


@pytest.fixture(scope="module", params=["linear", "mlp", "cnn"])
def keyholder(request):
    return KeyHolder.generate(request.param)


@pytest.mark.parametrize("factor_bits", [4, 12, 28, 40, 52])
def test_sums_are_those_of_seal_to_the_last_bit(keyholder, factor_bits):
    engine, rng = keyholder.engine, np.random.default_rng(factor_bits)
    enc = keyholder.encrypt(rng.normal(size=(5, 9)))
    level = enc.level
    parts = [enc.ciphers(name)[0] for name in enc.columns]
    matrix = rng.uniform(-1.0, 1.0, size=(4, 9))
    matrix[1] = 0.0  # a row that reads nothing
    matrix[:, 3] = 0.0  # a column that nothing reads
    factor = 2.0**factor_bits
    scale = enc.scale * factor
    found = list(dense_products(engine, whole_weights(matrix, factor), parts, level, scale))
    assert len(found) == len(matrix)
    for row, cipher in zip(matrix, found, strict=True):
        terms = ((part, engine.encode_constant(w, factor, level)) for part, w in zip(parts, row, strict=True))
        wanted = products(engine, terms, parts[0], factor, level)
        assert engine.level_of(cipher) == level
        assert float(cipher.scale) == scale
        assert np.array_equal(cipher_words(engine, cipher), cipher_words(engine, wanted))


def test_nothing_at_all_is_still_a_ciphertext(keyholder):
    enc = keyholder.encrypt(np.ones((2, 3)))
    parts = [enc.ciphers(name)[0] for name in enc.columns]
    nothing = np.zeros((2, 3), dtype=np.int64)
    found = list(dense_products(keyholder.engine, nothing, parts, enc.level, enc.scale))
    assert np.array_equal(cipher_words(keyholder.engine, found[1]), cipher_words(keyholder.engine, parts[0]))


def test_many_results_come_in_groups(keyholder):
    enc = keyholder.encrypt(np.ones((2, 1)))
    parts = [enc.ciphers(enc.columns[0])[0]]
    weights = np.arange(1, 131)[:, np.newaxis]
    *_, last = dense_products(keyholder.engine, weights, parts, enc.level, enc.scale)
    wanted = keyholder.engine.times_integer(parts[0], 130)
    assert np.array_equal(cipher_words(keyholder.engine, last), cipher_words(keyholder.engine, wanted))


def test_weights_that_float64_does_not_hold_are_left_to_seal(keyholder):
    engine = keyholder.engine
    assert dense_seconds(engine, whole_weights(np.array([[1.0]]), 2.0**52), 1) == np.inf
    assert 0.0 < dense_seconds(engine, whole_weights(np.array([[1.0]]), 2.0**50), 1) < np.inf
    assert 0.0 < dense_seconds(engine, whole_weights(np.zeros((2, 2)), 2.0**30), 1) < np.inf


class AlwaysDense(Columns):
    def _dense(self, *_):
        return 0.0


class NeverDense(Columns):
    def _dense(self, *_):
        return np.inf


def test_both_ways_through_a_network_give_the_same_ciphertexts():
    rng = np.random.default_rng(0)
    nodes = [
        Input(6, (6,)),
        Affine(0, rng.normal(size=(5, 6)), rng.normal(size=5)),
        Polynomial(1, np.array([0.0, 0.0, 1.0])),
        Affine(2, rng.normal(size=(2, 5)), np.zeros(2)),
    ]
    rows, holder = rng.uniform(-1.0, 1.0, size=(4, 6)), KeyHolder.generate("mlp")
    program, enc, keys = Program(nodes), holder.encrypt(rows), holder.evaluator().keys
    schedule = best_schedule(program, holder.engine, seen(program, rows), blocks=False)
    parts = [enc.ciphers(name)[0] for name in enc.columns]
    dense, sparse = (way(schedule).run(parts, keys) for way in (AlwaysDense, NeverDense))
    for left, right in zip(dense, sparse, strict=True):
        assert np.array_equal(cipher_words(holder.engine, left), cipher_words(holder.engine, right))
