import json
import struct

import numpy as np
import pytest
import zstandard

from twopm_kit.errors import CiphertextError, TwoPMError, WrongKey
from twopm_kit.fhe import EncryptedFrame
from twopm_kit.fhe.container import FrameHeader, merkle_root, pack, unpack

PREFIX = struct.Struct("<8sHII32s")


@pytest.fixture(scope="module")
def enc(holder):
    return holder.encrypt(np.array([[0.5, -1.5], [2.0, 3.0]]))


@pytest.fixture(scope="module")
def good(enc):
    return enc.to_bytes()


def rebuilt(content: bytes, change) -> bytes:
    """The container of an attacker who changes the header and computes every hash again."""
    header, chunks, _ = unpack(content)
    raw = json.loads(header.to_json())
    change(raw)
    text = json.dumps(raw, sort_keys=True, separators=(",", ":")).encode()

    class Raw(FrameHeader):
        def to_json(self):
            return text

    forged = Raw(**{name: getattr(header, name) for name in FrameHeader.__dataclass_fields__})
    return pack(forged, chunks)


def test_round_trip(holder, enc, good, tmp_path):
    again = EncryptedFrame.from_bytes(good, holder)
    assert again.to_bytes() == good
    assert again.root == enc.root
    assert (again.columns, again.shape, again.level, again.scales) == (
        enc.columns,
        enc.shape,
        enc.level,
        enc.scales,
    )
    path = enc.save(tmp_path / "rows.ct")
    assert path.read_bytes() == good
    assert [p.name for p in tmp_path.iterdir()] == ["rows.ct"]
    assert np.abs(holder.decrypt(EncryptedFrame.load(path)) - holder.decrypt(enc)).max() < 3e-6


def test_fresh_ciphertexts_are_seeded(enc):
    per_ciphertext = enc.nbytes / enc.n_ciphertexts
    computed = (enc + enc).nbytes / enc.n_ciphertexts
    assert per_ciphertext < 0.55 * computed
    assert enc.nbytes < len(enc.to_bytes()) < enc.nbytes + 2000


@pytest.mark.parametrize("at", [0, 1, 7, 8, 9, 10, 13, 14, 17, 18, 30, 49, 50, 51, 80, 200, 400, 600])
def test_every_flipped_bit_in_the_front_is_refused(good, at):
    for bit in range(8):
        flipped = bytearray(good)
        flipped[at] ^= 1 << bit
        with pytest.raises(CiphertextError) as caught:
            EncryptedFrame.from_bytes(bytes(flipped))
        assert caught.value.hint


def test_flipped_bits_anywhere_are_refused(good):
    for at in np.random.default_rng(7).integers(0, len(good), 300):
        flipped = bytearray(good)
        flipped[at] ^= 1 << int(at % 8)
        with pytest.raises(CiphertextError):
            EncryptedFrame.from_bytes(bytes(flipped))


def test_truncation_and_extension_are_refused(good):
    lengths = [0, 1, 8, 49, 50, 51, 100, 500, len(good) // 2, len(good) - 1]
    lengths += np.random.default_rng(8).integers(0, len(good), 40).tolist()
    for length in lengths:
        with pytest.raises(CiphertextError, match=r"cut short|bytes; its fixed part"):
            EncryptedFrame.from_bytes(good[:length])
    with pytest.raises(CiphertextError, match="followed by something else"):
        EncryptedFrame.from_bytes(good + b"\0")


def test_version_and_magic_skew(good):
    magic, _, count, size, root = PREFIX.unpack_from(good)
    for other in (0, 2, 65535):
        with pytest.raises(CiphertextError, match=f"format version {other}; this kit reads version 1"):
            EncryptedFrame.from_bytes(PREFIX.pack(magic, other, count, size, root) + good[PREFIX.size :])
    with pytest.raises(CiphertextError, match="mark"):
        EncryptedFrame.from_bytes(b"PK\3\4" + good[4:])


def test_announced_sizes_are_limited(good):
    magic, version, count, size, root = PREFIX.unpack_from(good)
    for counts in ((1 << 31, size), (count, 1 << 31)):
        with pytest.raises(CiphertextError, match="limits"):
            EncryptedFrame.from_bytes(PREFIX.pack(magic, version, *counts, root) + good[PREFIX.size :])


CHANGES = {
    "profile": ["train", "nope", "", 3, None],
    "params": ["0" * 64, "xyz", 5],
    "fingerprint": ["g" * 32, "", 0],
    "layout": ["rows", None],
    "packing": ["tight", 1],
    "source": ["file", []],
    "rows": [0, -1, 4097, 1 << 40, 2.0, True, "2"],
    "level": [0, 2, 65, -1, 1.0, None],
    "columns": [[], {}, "x", None, [1], [{"name": "x0"}]],
}


@pytest.mark.parametrize(("field", "value"), [(f, v) for f, values in CHANGES.items() for v in values])
def test_header_fields_changed_with_all_hashes_made_new(good, field, value):
    forged = rebuilt(good, lambda raw: raw.__setitem__(field, value))
    with pytest.raises(CiphertextError):
        EncryptedFrame.from_bytes(forged)


COLUMN_CHANGES = {
    "name": ["x1", 5, None, "n" * 201],
    "bound": [-1.0, float("nan"), float("inf"), 1e200, 16, 2.0**60],
    "scale": [2.0**49, 2.0**51, 0.0, -1.0, 3.0, "2", 2.0**50 + 2.0],
    "noise": [0.0, float("nan"), None, 1],
}


@pytest.mark.parametrize(("field", "value"), [(f, v) for f, values in COLUMN_CHANGES.items() for v in values])
def test_column_fields_changed_with_all_hashes_made_new(good, field, value):
    forged = rebuilt(good, lambda raw: raw["columns"][0].__setitem__(field, value))
    with pytest.raises(CiphertextError):
        EncryptedFrame.from_bytes(forged)


def test_fields_added_left_out_or_doubled(good):
    for change in (
        lambda raw: raw.__setitem__("extra", 1),
        lambda raw: raw.pop("level"),
        lambda raw: raw["columns"][0].__setitem__("extra", 1),
        lambda raw: raw["columns"][0].pop("scale"),
        lambda raw: raw["columns"].append(raw["columns"][0]),
        lambda raw: raw["columns"].pop(),
    ):
        with pytest.raises(CiphertextError):
            EncryptedFrame.from_bytes(rebuilt(good, change))


def test_headers_that_are_not_canonical_json(good):
    header, chunks, _ = unpack(good)
    text = header.to_json()
    for other in (
        b" " + text,
        text.replace(b'"rows":2', b'"rows": 2'),
        b"[]",
        b"\xff\xfe",
        b"[" * 100_000,
        b"",
    ):

        class Raw(FrameHeader):
            def to_json(self, other=other):
                return other

        forged = Raw(**{name: getattr(header, name) for name in FrameHeader.__dataclass_fields__})
        with pytest.raises(CiphertextError):
            EncryptedFrame.from_bytes(pack(forged, chunks))


def test_another_fingerprint_with_new_hashes_is_refused_at_load_and_when_opened(holder, stranger, good):
    forged = rebuilt(good, lambda raw: raw.__setitem__("fingerprint", stranger.fingerprint))
    with pytest.raises(WrongKey):
        EncryptedFrame.from_bytes(forged, holder)
    with pytest.raises(CiphertextError, match="far beyond"):
        stranger.decrypt(EncryptedFrame.from_bytes(forged, stranger))


def test_chunks_exchanged_or_foreign_with_new_hashes(holder, good):
    header, chunks, root = unpack(good)
    swapped = pack(header, chunks[::-1])
    assert unpack(swapped)[2] != root
    for bad in (
        b"",
        b"garbage",
        chunks[0][:-10],
        chunks[0] + bytes(10),
        bytes(1 << 20),
        chunks[0][:16] + bytes(1000),
    ):
        with pytest.raises(CiphertextError):
            EncryptedFrame.from_bytes(pack(header, [chunks[0], bad]))
    with pytest.raises(CiphertextError):
        EncryptedFrame.from_bytes(pack(header, chunks[:1]))
    lower = holder.encrypt(np.ones((2, 1))).drop_to(0).to_bytes()
    with pytest.raises(CiphertextError, match="its header says level 1"):
        EncryptedFrame.from_bytes(pack(header, [chunks[0], unpack(lower)[1][0]]))


def test_a_small_chunk_that_unpacks_to_gigabytes_is_refused(good):
    header, chunks, _ = unpack(good)
    compressor = zstandard.ZstdCompressor(level=19)
    once = compressor.compress(bytes(1 << 26))
    for packed in (once, once * 8, compressor.compress(bytes(100)) + once):
        size = (16 + len(packed)).to_bytes(8, "little")
        bomb = chunks[0][:8] + size + packed
        assert len(bomb) < len(chunks[0])
        with pytest.raises(CiphertextError, match="unpacks to more than"):
            EncryptedFrame.from_bytes(pack(header, [bomb, chunks[1]]))


def test_hostile_ciphertext_bodies_never_escape_as_raw_errors(good):
    """Bits flipped inside SEAL's own format, with our hashes made new: read, or refused by name."""
    header, chunks, _ = unpack(good)
    refused = 0
    for at in [*range(0, 120, 3), *np.random.default_rng(9).integers(0, len(chunks[0]), 60).tolist()]:
        flipped = bytearray(chunks[0])
        flipped[at] ^= 0x41
        try:
            EncryptedFrame.from_bytes(pack(header, [bytes(flipped), chunks[1]]))
        except TwoPMError:
            refused += 1
    assert refused > 20


def test_merkle_root_depends_on_everything():
    leaves = [bytes([i]) * 32 for i in range(5)]
    roots = {merkle_root(leaves), merkle_root(leaves[::-1]), merkle_root(leaves[:4]), merkle_root(leaves[:1])}
    assert len(roots) == 4
