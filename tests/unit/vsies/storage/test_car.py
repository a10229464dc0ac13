"""CARs equal, byte for byte, those that the reference tools write, and a changed one is refused."""

import hashlib
import io

import pytest

from twopm_kit.errors import StoreError
from twopm_kit.vsies.storage import Store
from twopm_kit.vsies.storage.car import read_car, write_car
from twopm_kit.vsies.storage.cid import file_nodes, links_of, varint
from twopm_kit.vsies.storage.entries import SLICE
from twopm_kit.vsies.storage.manifest import Manifest


@pytest.fixture
def car(objects, tmp_path):
    """A CAR of two slices, its object, and where its blocks begin."""
    store, data = Store(), objects(2 * SLICE)
    path = store.export_car(store.put(data), tmp_path / "object.car")
    return path.read_bytes(), data


def test_cars_equal_the_reference(vector, objects):
    data = objects(vector["size"]) if vector["size"] else b""
    slices = [data[at : at + SLICE] for at in range(0, len(data), SLICE)] or [b""]
    leaves = tuple(hashlib.sha256(part).digest() for part in slices)
    written, whole = io.BytesIO(), io.BytesIO()
    write_car(Manifest(len(data), (), leaves), slices.__getitem__, written)
    assert hashlib.sha256(written.getvalue()).hexdigest() == vector["car"]
    written.seek(0)
    assert read_car(written, whole) == vector["cid"]
    assert whole.getvalue() == data


def test_a_store_takes_what_another_gave(objects, tmp_path):
    store, other, data = Store(), Store(), objects(3 * SLICE + 5)
    stored = store.put(data)
    path = store.export_car(stored, tmp_path / "object.car")
    assert other.import_car(path).root == stored.root
    assert other.get(stored) == data


def sections(car):
    """The header and the blocks of a CAR, each with its length before it."""
    parts = []
    while car:
        length, used = 0, 0
        while True:
            length |= (car[used] & 127) << 7 * used
            used += 1
            if car[used - 1] < 128:
                break
        parts.append(car[: used + length])
        car = car[used + length :]
    return parts


CHANGES = {
    "empty": (lambda _car: b"", "ends before its header"),
    "another version": (lambda car: car.replace(b"version\1", b"version\2", 1), "root of version 1"),
    "cut between blocks": (lambda car: b"".join(sections(car)[:-1]), "ends before a block"),
    "cut within a block": (lambda car: car[:-5], "ends within a block"),
    "a bit of data": (lambda car: car[:-5] + bytes((car[-5] ^ 1,)) + car[-4:], "not what its CID says"),
    "more behind": (lambda car: car + b"\0", "goes on after its last block"),
    "doubled block": (lambda car: car + sections(car)[-1], "goes on after its last block"),
    "exchanged": (
        lambda car: b"".join(sections(car)[index] for index in (0, 1, 3, 2)),
        "missing, foreign, or not depth first",
    ),
    "foreign root": (
        lambda car: sections(car)[0][:30] + b"\1\1\1" + car[33:],
        "missing, foreign, or not depth first",
    ),
    "endless length": (lambda car: sections(car)[0] + b"\xff" * 9, "longer than 1,048,576"),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_changed_car_is_refused(car, change, tmp_path):
    apply, words = CHANGES[change]
    path = tmp_path / "changed.car"
    path.write_bytes(apply(car[0]))
    with pytest.raises(StoreError, match=words):
        Store().import_car(path)


def one_car(blocks):
    head = b"\xa2\x65roots\x81\xd8\x2a\x58\x25\x00" + blocks[0][0] + b"\x67version\x01"
    return b"".join(varint(len(part)) + part for part in (head, *(cid + data for cid, data in blocks)))


def cid(codec, data):
    return bytes((1, codec, 0x12, 32)) + hashlib.sha256(data).digest()


@pytest.mark.parametrize(
    ("codec", "data", "words"),
    [
        (0x71, b"\xa0", "neither raw nor dag-pb"),
        (0x70, b"", "not that of a file"),
        (0x70, b"\x12\x0a\x24\x01", "not that of a file"),
        (0x70, b"\x12\xff\x24" + bytes(40), "not that of a file"),
        (0x55, bytes(SLICE + 1), "larger than a slice"),
    ],
)
def test_blocks_of_another_form_are_refused(codec, data, words, tmp_path):
    path = tmp_path / "odd.car"
    path.write_bytes(one_car([(cid(codec, data), data)]))
    with pytest.raises(StoreError, match=words):
        Store().import_car(path)


def test_a_file_that_is_cut_in_another_way_is_refused(tmp_path):
    """Two short chunks are a sound CAR, but not the CID that the kit gives these bytes."""
    chunks = [b"a" * 100, b"b" * 100]
    (node,) = file_nodes([hashlib.sha256(chunk).digest() for chunk in chunks], SLICE + 100)
    path = tmp_path / "odd.car"
    path.write_bytes(one_car([node, *((cid(0x55, chunk), chunk) for chunk in chunks)]))
    with pytest.raises(StoreError, match="and its bytes make bafk"):
        Store().import_car(path)


def test_nodes_tell_their_links(objects):
    leaves = [bytes((number,)) * 32 for number in range(200)]
    first, second, root = file_nodes(leaves, 200 * SLICE)
    assert [link[4:] for link in links_of(first.data) + links_of(second.data)] == leaves
    assert links_of(root.data) == [first.cid, second.cid]


def test_a_file_shows_when_it_is_complete_only(objects, tmp_path):
    store = Store(f"file://{tmp_path}/store")
    stored = store.put(objects(2 * SLICE))
    (tmp_path / "store" / stored.root / "000001").unlink()
    with pytest.raises(StoreError, match="slice 1 is missing"):
        store.export_car(stored, tmp_path / "out.car")
    assert [path.name for path in tmp_path.iterdir()] == ["store"]
    with pytest.raises(StoreError, match="cannot be written"):
        store.export_car(stored, tmp_path / "no folder" / "out.car")
    with pytest.raises(StoreError, match="cannot be read"):
        store.import_car(tmp_path / "nothing.car")
