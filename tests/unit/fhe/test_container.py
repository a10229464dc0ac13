import copy
import io
import json
import os
import random
import struct
import tracemalloc

import numpy as np
import pytest
import zstandard

from twopm_kit.errors import CiphertextError, TwoPMError, WrongKey
from twopm_kit.fhe import EncryptedFrame
from twopm_kit.fhe.container import (
    MAX_CHUNK,
    ContainerReader,
    ContainerWriter,
    FrameHeader,
    merkle_root,
    pack,
    unpack,
)

PREFIX = struct.Struct("<8sH")
ENTRY = struct.Struct("<I32s")
TRAILER = struct.Struct("<II32s8s")


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


def sections(content: bytes) -> dict[str, range]:
    """Where the parts of a container are."""
    count, size, _, _ = TRAILER.unpack(content[-TRAILER.size :])
    index = len(content) - TRAILER.size - count * ENTRY.size
    edges = [0, PREFIX.size, index - size, index, len(content) - TRAILER.size, len(content)]
    names = ["prefix", "chunks", "header", "index", "trailer"]
    return {name: range(*edges[i : i + 2]) for i, name in enumerate(names)}


@pytest.mark.parametrize("section", ["prefix", "chunks", "header", "index", "trailer"])
def test_every_flipped_bit_outside_the_chunks_is_refused(good, section):
    places = sections(good)[section]
    chosen = places if len(places) < 100 else random.Random(section).sample(places, 60)
    for at in chosen:
        for bit in range(8) if len(places) < 100 else (at % 8,):
            flipped = bytearray(good)
            flipped[at] ^= 1 << bit
            with pytest.raises(CiphertextError) as caught:
                EncryptedFrame.from_bytes(bytes(flipped))
            assert caught.value.hint


def test_flipped_bits_anywhere_are_refused(good):
    for at in np.random.default_rng(7).integers(0, len(good), 150):
        flipped = bytearray(good)
        flipped[at] ^= 1 << int(at % 8)
        with pytest.raises(CiphertextError):
            EncryptedFrame.from_bytes(bytes(flipped))


def test_truncation_and_extension_are_refused(good):
    edges = [at for places in sections(good).values() for at in (places.start, places.stop - 1)]
    lengths = [0, 1, 8, 57, 58, 59, *edges, len(good) // 2, len(good) - 1]
    lengths += np.random.default_rng(8).integers(0, len(good), 40).tolist()
    for length in lengths:
        with pytest.raises(CiphertextError, match=r"cut short|bytes; its fixed part"):
            EncryptedFrame.from_bytes(good[:length])
    for more in (b"\0", bytes(1000), good, good[-TRAILER.size :]):
        with pytest.raises(CiphertextError, match=r"followed by something else|longer than|the limit"):
            EncryptedFrame.from_bytes(good + more)


def test_version_and_magic_skew(good):
    magic, _ = PREFIX.unpack_from(good)
    for other in (0, 1, 3, 65535):
        with pytest.raises(CiphertextError, match=f"format version {other}; this kit reads version 2"):
            EncryptedFrame.from_bytes(PREFIX.pack(magic, other) + good[PREFIX.size :])
    with pytest.raises(CiphertextError, match="mark"):
        EncryptedFrame.from_bytes(b"PK\3\4" + good[4:])


def test_announced_sizes_are_limited(good):
    count, size, root, end = TRAILER.unpack(good[-TRAILER.size :])
    body = good[: -TRAILER.size]
    for counts in ((1 << 31, size), (count, 1 << 31)):
        with pytest.raises(CiphertextError, match="limits"):
            EncryptedFrame.from_bytes(body + TRAILER.pack(*counts, root, end))
    for counts in ((1 << 20, size), (count, 4 << 20)):
        with pytest.raises(CiphertextError, match="cut short"):
            EncryptedFrame.from_bytes(body + TRAILER.pack(*counts, root, end))
    index = sections(good)["index"]
    for announced in (MAX_CHUNK + 1, (1 << 32) - 1):
        forged = good[: index.start] + struct.pack("<I", announced) + good[index.start + 4 :]
        with pytest.raises(CiphertextError, match="the limit"):
            EncryptedFrame.from_bytes(forged)


def test_a_sparse_file_of_terabytes_is_refused_without_reading_it(good, tmp_path):
    path = tmp_path / "sparse.ct"
    with path.open("wb") as file:
        file.write(good[: PREFIX.size])
        file.truncate(1 << 40)
        file.seek(0, io.SEEK_END)
        file.write(good[sections(good)["header"].start :])
    tracemalloc.start()
    with pytest.raises(CiphertextError, match="longer than its index says"):
        ContainerReader(path)
    assert tracemalloc.get_traced_memory()[1] < 1 << 20
    tracemalloc.stop()


CHANGES = {
    "profile": ["train", "nope", "", 3, None],
    "params": ["0" * 64, "xyz", 5],
    "fingerprint": ["g" * 32, "", 0],
    "layout": ["rows", None],
    "packing": ["tight", 1],
    "source": ["file", []],
    "samples": [-1, 1 << 18, 1.0, None, True],
    "size": [1, 4, 2.0, "2"],
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


def test_a_wrong_key_is_named_and_mixed_keys_open_to_an_error(holder, stranger, good):
    with pytest.raises(WrongKey, match=f"{stranger.fingerprint}.*{holder.fingerprint}"):
        EncryptedFrame.from_bytes(good, stranger)
    header, chunks, _ = unpack(good)
    foreign = unpack(stranger.encrypt(np.array([[0.5, -1.5], [2.0, 3.0]])).to_bytes())[1]
    mixed = EncryptedFrame.from_bytes(pack(header, [chunks[0], foreign[1]]), holder)
    with pytest.raises(CiphertextError, match="far beyond"):
        holder.decrypt(mixed)


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


# Streams ------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def pieces(good):
    """A header and twelve short chunks of different lengths."""
    rng = np.random.default_rng(5)
    return unpack(good)[0], [rng.bytes(int(n)) for n in rng.integers(1, 60, 12)]


def write(path, header, chunks, *, resume=False, finish=True):
    with ContainerWriter(path, header, resume=resume) as writer:
        done = len(writer)
        for chunk in chunks[done:]:
            writer.append(chunk)
        if finish:
            writer.finish()
    return done


def names(folder):
    return sorted(p.name for p in folder.iterdir())


def test_stream_and_memory_write_and_read_the_same_bytes(pieces, tmp_path):
    header, chunks = pieces
    path = tmp_path / "a.ct"
    with ContainerWriter(path, header) as writer:
        for chunk in chunks:
            writer.append(chunk)
        assert names(tmp_path) == ["a.ct.part", "a.ct.part.journal"]
        assert {p.stat().st_mode & 0o777 for p in tmp_path.iterdir()} == {0o600}
        root = writer.finish()
    assert names(tmp_path) == ["a.ct"]
    assert path.read_bytes() == pack(header, chunks)
    with ContainerReader(path) as reader:
        assert (reader.header, reader.root, len(reader)) == (header, root, 12)
        assert reader.nbytes == sum(map(len, chunks))
        assert [reader.chunk(i) for i in (7, 0, 11, 7)] == [chunks[i] for i in (7, 0, 11, 7)]
        assert list(reader) == chunks


def test_rows_may_be_told_at_the_end(pieces, tmp_path):
    header, chunks = pieces
    with ContainerWriter(tmp_path / "a.ct", header) as writer:
        writer.append(chunks[0])
        with pytest.raises(CiphertextError, match="rows"):
            writer.finish(rows=0)
        writer.finish(rows=77)
        with pytest.raises(CiphertextError, match="is closed"):
            writer.append(chunks[1])
    with ContainerReader(tmp_path / "a.ct") as reader:
        assert reader.header.rows == 77


def test_whatever_was_cut_off_the_stream_goes_on_to_the_same_file(pieces, tmp_path):
    """Every length that a killed process can leave behind, of either file."""
    header, chunks = pieces
    path, part, journal = (tmp_path / f"a.ct{end}" for end in ("", ".part", ".part.journal"))
    whole = pack(header, chunks)
    write(path, header, chunks, finish=False)
    left, told = part.read_bytes(), journal.read_bytes()
    ends = PREFIX.size + np.cumsum([len(c) for c in chunks])
    line = 68
    cuts = [(cut, len(told)) for cut in {*range(0, len(left) + 1, 3), *ends.tolist(), *(ends - 1).tolist()}]
    cuts += [(len(left), cut) for cut in range(0, len(told), 5)]
    for cut, heard in cuts:
        part.write_bytes(left[:cut])
        journal.write_bytes(told[:heard])
        done = write(path, header, chunks, resume=True)
        lines = max(heard - (len(told) - 12 * line), 0) // line
        assert done == min(int((ends <= cut).sum()), lines)
        assert path.read_bytes() == whole
        assert names(tmp_path) == ["a.ct"]
    for tail in (
        b"x",
        whole[len(left) :],
        whole[len(left) : -1],
        bytes(5000),
    ):  # killed while it wrote the end
        part.write_bytes(left + tail)
        journal.write_bytes(told + b"half a line")
        assert write(path, header, chunks, resume=True) == 12
        assert path.read_bytes() == whole


def test_damage_in_an_unfinished_file_is_written_again(pieces, tmp_path):
    header, chunks = pieces
    path, part = tmp_path / "a.ct", tmp_path / "a.ct.part"
    write(path, header, chunks[:8], finish=False)
    damaged = bytearray(part.read_bytes())
    damaged[PREFIX.size + len(chunks[0]) + len(chunks[1])] ^= 1
    part.write_bytes(damaged)
    assert write(path, header, chunks, resume=True) == 2
    assert path.read_bytes() == pack(header, chunks)


def test_an_unfinished_file_under_another_header_is_refused_by_name(pieces, stranger, tmp_path):
    header, chunks = pieces
    raw = {name: getattr(header, name) for name in FrameHeader.__dataclass_fields__}
    other = FrameHeader(**{**raw, "fingerprint": stranger.fingerprint})
    path = tmp_path / "a.ct"
    write(path, header, chunks[:5], finish=False)
    with pytest.raises(CiphertextError, match=r"a\.ct\.part holds 5 chunks .*: fingerprint differ"):
        ContainerWriter(path, other, resume=True)
    assert write(path, header, chunks[:6], resume=True, finish=False) == 5
    assert write(path, other, chunks) == 0  # anew, when that is asked for
    with ContainerReader(path) as reader:
        assert reader.header == other


def test_one_writer_at_a_time_and_nothing_left_of_an_empty_one(pieces, tmp_path):
    header, chunks = pieces
    path = tmp_path / "a.ct"
    path.write_bytes(b"old")
    with ContainerWriter(path, header):
        for resume in (True, False):
            with pytest.raises(CiphertextError, match="being written by somebody else"):
                ContainerWriter(path, header, resume=resume)
    assert names(tmp_path) == ["a.ct"]
    write(path, header, chunks, finish=False)
    assert path.read_bytes() == b"old"
    write(path, header, chunks, resume=True)
    assert path.read_bytes() == pack(header, chunks)


def test_writers_refuse_what_no_reader_would_take(pieces, tmp_path):
    header, chunks = pieces
    raw = {name: getattr(header, name) for name in FrameHeader.__dataclass_fields__}
    with pytest.raises(CiphertextError, match="rows"):
        ContainerWriter(tmp_path / "a.ct", FrameHeader(**{**raw, "rows": 0}))
    with pytest.raises(CiphertextError, match="folder does not exist"):
        ContainerWriter(tmp_path / "no" / "a.ct", header)
    with pytest.raises(CiphertextError, match="folder"):
        ContainerWriter(tmp_path, header)
    with ContainerWriter(tmp_path / "a.ct", header) as writer:
        with pytest.raises(CiphertextError, match="was to be written"):
            writer.append(bytes(MAX_CHUNK + 1))
        with pytest.raises(CiphertextError, match="a tag of 3 bytes"):
            writer.append(chunks[0], b"tag")
        assert len(writer) == 0
    assert names(tmp_path) == []


def test_a_damaged_chunk_is_refused_when_it_is_read(pieces, tmp_path):
    header, chunks = pieces[0], [*pieces[1], bytes(1 << 16), b"last"]
    path = tmp_path / "a.ct"
    at = PREFIX.size + sum(map(len, chunks[:4]))
    content = bytearray(pack(header, chunks))
    content[at] ^= 1
    path.write_bytes(content)
    with ContainerReader(path) as reader:
        assert reader.chunk(3) == chunks[3]
        with pytest.raises(CiphertextError, match="chunk 4 does not match its hash"):
            reader.chunk(4)
        assert reader.chunk(5) == chunks[5]
        os.truncate(path, PREFIX.size + 1)  # by somebody else, after it was opened
        with pytest.raises(CiphertextError, match="chunk 13 does not match"):
            reader.chunk(13)
    with pytest.raises(CiphertextError, match="chunk 4"):
        unpack(bytes(content))


def test_chunks_exchanged_inside_a_file_or_with_another_file(pieces):
    header, _ = pieces
    same = [bytes([i]) * 20 for i in range(4)]
    content = pack(header, same)
    a, b = PREFIX.size, PREFIX.size + 20
    exchanged = content[:a] + content[b : b + 20] + content[a:b] + content[b + 20 :]
    other = pack(header, [b"\xff" * 20] * 4)
    foreign = content[:a] + other[a:b] + content[b:]
    for forged in (exchanged, foreign):
        with ContainerReader(io.BytesIO(forged)) as reader, pytest.raises(CiphertextError, match="chunk 0"):
            reader.chunk(0)
    index = sections(content)["index"]
    swapped = (
        exchanged[: index.start]
        + content[index.start + 36 : index.start + 72]
        + content[index.start : index.start + 36]
        + content[index.start + 72 :]
    )
    with pytest.raises(CiphertextError, match="does not match its root"):
        unpack(swapped)


def test_readers_say_what_is_wrong_and_leave_no_descriptor_open(pieces, good, tmp_path):
    header, chunks = pieces
    before = len(os.listdir("/proc/self/fd"))  # noqa: PTH208
    path = tmp_path / "a.ct"
    with pytest.raises(CiphertextError, match="expected at"):
        ContainerReader(path)
    write(path, header, chunks, finish=False)
    with pytest.raises(CiphertextError, match=r"only a\.ct\.part is there"):
        ContainerReader(path)
    for content in (b"", good[:-1], good + b"x", b"PK" + good):
        path.write_bytes(content)
        with pytest.raises(CiphertextError):
            ContainerReader(path)
    write(path, header, chunks)
    reader = ContainerReader(path)
    for number in (-1, 12):
        with pytest.raises(CiphertextError, match="the container has 12"):
            reader.chunk(number)
    reader.close()
    reader.close()
    with pytest.raises(CiphertextError, match="after the container was closed"):
        reader.chunk(0)
    with pytest.raises(CiphertextError, match="cannot be pickled"):
        copy.copy(reader)
    assert len(os.listdir("/proc/self/fd")) == before  # noqa: PTH208


def test_a_full_disk_is_named_and_what_is_there_can_be_gone_on_with(pieces, tmp_path, monkeypatch):
    header, chunks = pieces
    path = tmp_path / "a.ct"
    writer = ContainerWriter(path, header)
    writer.append(chunks[0])

    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(CiphertextError, match="No space left"):
        writer.finish()
    monkeypatch.undo()
    assert write(path, header, chunks, resume=True) == 1
    assert path.read_bytes() == pack(header, chunks)


def test_memory_stays_that_of_a_chunk(pieces, tmp_path):
    header, _ = pieces
    chunk = np.random.default_rng(3).bytes(1 << 18)
    tracemalloc.start()
    write(tmp_path / "a.ct", header, [chunk] * 200)
    with ContainerReader(tmp_path / "a.ct") as reader:
        for number in range(len(reader)):
            assert len(reader.chunk(number)) == 1 << 18
    assert tracemalloc.get_traced_memory()[1] < 4 << 18
    tracemalloc.stop()


def test_equal_chunks_have_leaves_of_their_own(pieces):
    content = pack(pieces[0], [b"same"] * 3)
    places = sections(content)["index"]
    entries = list(ENTRY.iter_unpack(content[places.start : places.stop]))
    assert [size for size, _ in entries] == [4, 4, 4]
    assert len({leaf for _, leaf in entries}) == 3


def test_the_format_adds_next_to_nothing(pieces):
    header, chunks = pieces
    added = len(pack(header, chunks)) - sum(map(len, chunks))
    assert added == 58 + len(header.to_json()) + 36 * len(chunks)
