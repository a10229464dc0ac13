"""Products, rotations and slot sums: exact level and scale, and keys that are checked."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from twopm_kit.errors import CiphertextError
from twopm_kit.fhe import EncryptedFrame, Evaluator, KeyHolder
from twopm_kit.fhe.container import ColumnHeader
from twopm_kit.fhe.evaluation import EvaluationKeys
from twopm_kit.fhe.frames import computed_frame
from twopm_kit.fhe.layouts import COLUMNS, Layout
from twopm_kit.fhe.raw import words
from twopm_kit.fhe.sums import constant_coefficient, slot_sums


@pytest.fixture(scope="module")
def deep():
    return KeyHolder.generate("train")


def _opened(holder, like, cipher, level, bound=64.0):
    head = ColumnHeader("x", bound, float(cipher.scale), 1e4)
    return holder.decrypt(computed_frame(like, [(head, [cipher])], level), flood=False)[:, 0]


def test_products_follow_each_other_to_the_last_level_without_drift(deep):
    x = np.linspace(-1.2, 1.2, 64)
    enc = deep.encrypt(x)
    engine, keys = enc.engine, enc.keys()
    (cipher,) = enc.ciphers("x0")
    expected, scale = x, float(cipher.scale)
    for level in (3, 2, 1, 0):
        scale = scale * scale / engine.primes[level + 1]
        cipher = engine.rescale(keys.relinearize(engine.square(cipher)), scale)
        expected = expected**2
        assert engine.level_of(cipher) == level
        assert float(cipher.scale) == scale
        assert np.abs(_opened(deep, enc, cipher, level) - expected).max() < 1e-4 * expected.max()
    # a plain factor of one, encoded as planned, would be off by the drift if a scale had been forced
    assert scale != enc.scale


def test_a_sum_of_products_is_relinearised_and_rescaled_once(deep):
    x = np.random.default_rng(0).normal(size=(50, 4))
    enc = deep.encrypt(x)
    engine = enc.engine
    ciphers = [enc.ciphers(name)[0] for name in enc.columns]
    total = engine.sum_of_products(zip(ciphers, reversed(ciphers), strict=True))
    assert total.size() == 3
    low = engine.rescale(enc.keys().relinearize(total))
    assert low.size() == 2
    assert np.abs(_opened(deep, enc, low, 3, 256.0) - (x * x[:, ::-1]).sum(axis=1)).max() < 1e-3
    with pytest.raises(CiphertextError, match="nothing to multiply"):
        engine.sum_of_products([])


def test_a_scale_that_was_not_planned_is_refused(deep):
    enc = deep.encrypt(np.ones(4))
    engine = enc.engine
    square = enc.keys().relinearize(engine.square(enc.ciphers("x0")[0]))
    with pytest.raises(CiphertextError, match="was planned"):
        engine.rescale(square, enc.scale)


@given(step=st.integers(-4095, 4095))
@settings(max_examples=6, deadline=None)
def test_rotations_turn_all_slots(step):
    holder = KeyHolder.generate("linear")
    x = np.random.default_rng(1).normal(size=4096)
    enc = holder.encrypt(x)
    keys = holder.evaluator(rotations=[step]).keys
    turned = _opened(holder, enc, keys.rotate(enc.ciphers("x0")[0], step), 1)
    assert np.abs(turned - np.roll(x, -step)).max() < 1e-6


def test_a_rotation_without_a_key_names_what_to_ask_for(deep):
    enc = deep.encrypt(np.ones(4))
    with pytest.raises(CiphertextError, match="rotation by 3 slots needs a key") as refused:
        enc.keys().rotate(enc.ciphers("x0")[0], 3)
    assert "rotations=" in refused.value.hint


def test_sums_need_no_keys_and_no_profile_with_levels_has_none():
    enc = KeyHolder.generate("agg").encrypt(np.ones(4))
    with pytest.raises(CiphertextError, match="no relinearisation keys"):
        enc.keys().relinearize(enc.ciphers("x0")[0])


def test_keys_travel_in_the_public_bundle(deep, tmp_path):
    x = np.linspace(-1, 1, 16)
    bundle = deep.evaluator(rotations=[1, 5]).save(tmp_path / "public")
    file = deep.encrypt(x).save(tmp_path / "x.ct")
    evaluator = Evaluator.load(bundle)
    assert evaluator.keys.steps == {1, 5}
    with pytest.raises(CiphertextError, match="needs evaluation keys"):
        EncryptedFrame.load(file).keys()
    enc = EncryptedFrame.load(file, key=evaluator)
    engine = enc.engine
    product = engine.rescale(enc.keys().relinearize(engine.square(enc.ciphers("x0")[0])))
    assert np.abs(_opened(deep, enc, product, 3)[:16] - x**2).max() < 1e-4


def test_changed_evaluation_keys_are_refused(deep):
    engine = deep.engine
    good = deep.evaluator(rotations=[1]).keys.to_bytes()
    bad = [good[:4], good[:40], good[:-1], good + b"x", good.replace(b"[1]", b"[2]", 1)[:-8]]
    bad += [good.replace(b"[1]", text, 1) for text in (b"[0]", b"1.5", b"[]]", b"{1}", b"[ ]")]
    cipher = deep.encrypt(np.ones(2)).ciphers("x0")[0]

    def use(content):
        keys = EvaluationKeys.from_bytes(engine, content)
        return keys.rotate(cipher, min(keys.steps))

    assert use(good).size() == 2
    for content in bad:
        with pytest.raises(CiphertextError):
            use(content)


# Layouts ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("rows", "width", "samples"), [(1, 3, 1), (5, 3, 2), (4, 64, 4), (9, 1, 8)])
def test_blocks_round_trip_and_compute(holder, rows, width, samples):
    x = np.random.default_rng(2).normal(size=(rows, width))
    enc = holder.encrypt(x, layout=Layout.blocks(samples))
    assert enc.n_ciphertexts == -(-rows // samples)
    back = EncryptedFrame.from_bytes(enc.to_bytes(), holder)
    assert back.layout == Layout.blocks(samples)
    assert np.abs(holder.decrypt(back) - x).max() < 1e-6
    assert np.abs(holder.decrypt((back + enc * 2 - 1.5) * 0.5) - (1.5 * x - 0.75)).max() < 2e-6


def test_blocks_are_refused_where_columns_are_needed(holder):
    with pytest.raises(CiphertextError, match="do not fit into the 4096 slots"):
        holder.encrypt(np.ones((2, 64)), layout=Layout.blocks(128))
    with pytest.raises(CiphertextError, match="packing"):
        holder.encrypt(np.ones((2, 64)), layout=Layout.blocks(1), packing="complex")
    enc = holder.encrypt(np.ones((2, 3)), layout=Layout.blocks(1))
    with pytest.raises(CiphertextError, match="share their ciphertexts"):
        enc["x1"]
    with pytest.raises(CiphertextError, match="layout"):
        enc + holder.encrypt(np.ones((2, 3)))
    for kind, samples in (("rows", 0), ("blocks", 0), ("blocks", 3), ("columns", 4)):
        with pytest.raises(CiphertextError, match="layout"):
            Layout(kind, samples)
    assert Layout("columns") == COLUMNS


# Slot sums ----------------------------------------------------------------------------------------------


def _moments(enc, names):
    engine = enc.engine
    parts = []
    for left, right in names:
        product = engine.multiply(enc.ciphers(left)[0], enc.ciphers(right)[0])
        bound = enc.bounds[left] * enc.bounds[right] * enc.n_rows
        parts.append((ColumnHeader(f"{left}·{right}", bound, float(product.scale), 2.0**46), product))
    return slot_sums(enc, parts, level=enc.level)


def test_slot_sums_open_to_the_sums_and_travel(holder):
    x = np.random.default_rng(3).normal(size=(3000, 2))
    enc = holder.encrypt(x)
    sums = _moments(enc, [("x0", "x0"), ("x0", "x1")])
    back = EncryptedFrame.from_bytes(sums.to_bytes(), holder)
    assert (back.layout.kind, back.size, back.shape) == ("sums", 3, (1, 2))
    expected = x[:, 0] @ x
    assert np.abs(holder.decrypt(back, flood=False).to_numpy() - expected).max() < 1e-7
    assert np.abs(holder.decrypt(back).to_numpy() - expected).max() < 2e-5
    twice = holder.decrypt(back * 2 + back, flood=False).to_numpy()
    assert np.abs(twice - 3 * expected).max() < 1e-6
    with pytest.raises(CiphertextError, match="added to sums"):
        back + 1.0


def test_masked_sums_show_nothing_but_the_sum(holder):
    """The same slots in another order have the same sum, and every other coefficient is uniform."""
    import tenseal.sealapi as seal

    enc = holder.encrypt(np.arange(100.0))
    head = ColumnHeader("x", 4096.0 * 256.0, enc.scale, 10.0)
    engine, found = enc.engine, []
    for _ in range(3):
        sums = slot_sums(enc, [(head, enc.ciphers("x0")[0])], level=1)
        plain = seal.Plaintext()
        seal.Decryptor(engine.context, holder._secret).decrypt(sums.ciphers("x")[0], plain)
        residues = words(engine, plain)[2]
        found.append(residues)
        total = engine.slots * constant_coefficient(residues, engine.primes) / enc.scale
        assert total == pytest.approx(4950.0, abs=1e-6)
    # residues of independent uniform masks hardly ever meet, and fill the range evenly
    assert (found[0] == found[1]).mean() < 1e-3
    for row, q in zip(found[2], engine.primes, strict=True):
        shares = np.histogram(row / q, bins=8, range=(0, 1))[0] / row.size
        assert np.abs(shares - 1 / 8).max() < 0.03


def test_a_sum_that_cannot_fit_is_refused(holder):
    enc = holder.encrypt(np.ones(8))
    product = enc.engine.square(enc.ciphers("x0")[0])
    head = ColumnHeader("x", 2.0**30, float(product.scale), 10.0)
    with pytest.raises(CiphertextError, match="bits"):
        slot_sums(enc, [(head, product)], level=1)
