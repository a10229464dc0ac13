"""The store: whole or not at all, resumable, and every fault of what it reads is found and named."""

import hashlib
import json
import multiprocessing
import threading
from base64 import b64decode
from dataclasses import replace
from pathlib import Path

import pytest

from twopm_kit.errors import StoreError
from twopm_kit.vsies.storage import SliceProof, Store, StoredObject, content_id, storage_root
from twopm_kit.vsies.storage.entries import SLICE
from twopm_kit.vsies.storage.manifest import LARGEST_MANIFEST, Manifest

SIZE = 3 * SLICE + 500


@pytest.fixture
def data(objects):
    return objects(SIZE)


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "store"


@pytest.fixture
def store(folder):
    return Store(f"file://{folder}")


@pytest.fixture
def stored(store, data):
    return store.put(data)


def slice_path(folder, stored, index):
    return folder / stored.root / f"{index:06d}"


@pytest.fixture(params=["file", "path", "fresh", "memory", "s3"])
def any_store(request, tmp_path):
    if request.param == "s3":
        request.getfixturevalue("s3")
    urls = {
        "file": f"file://{tmp_path}/store",
        "path": f"{tmp_path}/store",
        "fresh": None,
        "memory": f"memory://{tmp_path.name}",
        "s3": "s3://bucket/some/prefix",
    }
    return Store(urls[request.param])


def test_every_place_keeps_objects(any_store, data, tmp_path):
    assert storage_root(data) not in any_store
    stored = any_store.put(data)
    assert stored == StoredObject(
        storage_root(data), content_id(data), SIZE, f"{any_store.url}/{stored.root}"
    )
    assert any_store.stat(stored.root) == stored
    assert stored.root in any_store
    assert stored in any_store
    any_store.verify(stored.root)
    assert any_store.get(stored.root) == data
    assert any_store.get(stored, SLICE - 3, 10) == data[SLICE - 3 : SLICE + 7]
    assert any_store.fetch(stored.root, tmp_path / "out").read_bytes() == data
    assert any_store.prove(stored.root, 2).verify(stored.root)
    assert any_store.put(data) == stored


def test_fresh_memory_is_nobody_elses(data):
    stored = Store().put(data)
    assert stored.root not in Store()
    assert stored.root not in Store("memory://")


def test_a_file_is_stored_as_its_bytes_are(store, data, tmp_path):
    path = tmp_path / "object"
    path.write_bytes(data)
    assert store.put(path, progress=True) == store.put(data)
    with pytest.raises(StoreError, match="at least one entry"):
        store.put(b"")
    with pytest.raises(StoreError, match="cannot be read"):
        store.put(tmp_path / "nothing")


@pytest.mark.parametrize(
    ("start", "length"),
    [(0, 0), (0, 1), (SLICE - 1, 2), (SLICE, SLICE), (1, 2 * SLICE), (SIZE - 1, 1), (SIZE, 0), (5, None)],
)
def test_parts_are_read(store, stored, data, start, length):
    assert store.get(stored.root, start, length) == data[start : None if length is None else start + length]


@pytest.mark.parametrize(("start", "length"), [(-1, 1), (0, SIZE + 1), (SIZE + 1, None), (5, -1)])
def test_parts_outside_the_object_are_refused(store, stored, start, length):
    with pytest.raises(StoreError, match="ask for a part that lies within"):
        store.get(stored.root, start, length)


def test_a_part_needs_only_its_slices(store, stored, data, folder):
    for index in (0, 2, 3):
        slice_path(folder, stored, index).unlink()
    assert store.get(stored.root, SLICE + 7, 100) == data[SLICE + 7 : SLICE + 107]


def swap(folder, stored, first, second):
    one, two = (slice_path(folder, stored, index) for index in (first, second))
    held = one.read_bytes()
    one.write_bytes(two.read_bytes())
    two.write_bytes(held)


def edit(change):
    def apply(folder, stored):
        path = slice_path(folder, stored, 1)
        path.write_bytes(change(path.read_bytes()))

    return apply


def flip(held):
    return held[:100_000] + bytes((held[100_000] ^ 1,)) + held[100_001:]


FAULTS = {
    "corrupted": (edit(flip), "slice 1 is corrupted"),
    "missing": (lambda folder, stored: slice_path(folder, stored, 1).unlink(), "slice 1 is missing"),
    "empty": (edit(lambda _held: b""), "slice 1 is truncated: 0 of 262,144"),
    "truncated": (edit(lambda held: held[:-1]), "slice 1 is truncated: 262,143 of 262,144"),
    "too long": (edit(lambda held: held + b"x"), "slice 1 is too long"),
    "endless": (edit(lambda held: held * 9), "slice 1 is too long"),
    "reordered": (
        lambda folder, stored: swap(folder, stored, 1, 2),
        "slice 1 is reordered: slice 2 stands in its place",
    ),
    "last in the middle": (
        lambda folder, stored: swap(folder, stored, 1, 3),
        "slice 1 is reordered: slice 3 stands in its place",
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_every_fault_of_a_slice_is_named(store, stored, data, folder, tmp_path, fault):
    breaking, words = FAULTS[fault]
    breaking(folder, stored)
    for read in (
        store.verify,
        store.get,
        lambda root: store.fetch(root, tmp_path / "out"),
        lambda root: store.prove(root, 1),
    ):
        with pytest.raises(StoreError, match=words):
            read(stored.root)
    assert not (tmp_path / "out").exists()
    assert store.get(stored.root, 0, SLICE) == data[:SLICE]
    store.put(data)  # mends what is wrong
    store.verify(stored.root)


def test_verify_names_all_faults_and_bounds_the_list(objects, folder):
    store = Store(f"file://{folder}")
    stored = store.put(objects(12 * SLICE))
    for index in range(2, 12):
        slice_path(folder, stored, index).unlink()
    with pytest.raises(StoreError, match=r"slice 2 is missing; slice 3.*slice 9 is missing; 2 more"):
        store.verify(stored.root)


def mutated(manifest, **changes):
    return json.dumps(json.loads(manifest) | changes, sort_keys=True, separators=(",", ":")).encode()


MANIFESTS = {
    "no manifest": lambda _text: b"",
    "no JSON": lambda text: text[:-1],
    "more behind": lambda text: text + b"\n",
    "endless": lambda _text: b"[" * (LARGEST_MANIFEST + 5),
    "spaces": lambda text: json.dumps(json.loads(text), sort_keys=True).encode(),
    "another name": lambda text: mutated(text, more=1),
    "another format": lambda text: mutated(text, format="twopm/vsies/v2/object"),
    "another root": lambda text: mutated(text, root="0x" + "11" * 32),
    "another CID": lambda text: mutated(text, cid=json.loads(text)["cid"][:-1] + "a"),
    "more bytes": lambda text: mutated(text, size=SIZE + 1),
    "too many bytes": lambda text: mutated(text, size=10**15),
    "no bytes": lambda text: mutated(text, size=0),
    "size in words": lambda text: mutated(text, size="many"),
    "fewer slices": lambda text: mutated(text, segments=json.loads(text)["segments"][64:]),
    "slices exchanged": lambda text: mutated(
        text, segments=json.loads(text)["segments"][64:128] * 2 + json.loads(text)["segments"][128:]
    ),
    "leaves exchanged": lambda text: mutated(
        text, leaves=json.loads(text)["leaves"][64:128] * 2 + json.loads(text)["leaves"][128:]
    ),
    "of another object": lambda _text: Manifest.of(b"something else").to_json(),
}


@pytest.mark.parametrize("change", MANIFESTS)
def test_a_changed_manifest_is_refused(store, stored, data, folder, change, tmp_path):
    path = folder / stored.root / "manifest.json"
    path.write_bytes(MANIFESTS[change](path.read_bytes()))
    for read in (store.verify, store.get, lambda root: store.fetch(root, tmp_path / "out"), store.stat):
        with pytest.raises(StoreError, match=r"manifest of 0x.* was changed"):
            read(stored.root)
    assert stored.root not in store
    assert store.put(data) == stored
    store.verify(stored.root)


def test_a_manifest_whose_digests_lie_is_found_out(store, stored, folder):
    """SHA-256 of slices and CID changed together: only the slices themselves tell."""
    path = folder / stored.root / "manifest.json"
    honest = Manifest.from_json(path.read_bytes(), stored.root)
    path.write_bytes(replace(honest, leaves=(bytes(32), *honest.leaves[1:])).to_json())
    with pytest.raises(StoreError, match="slice 0 is named with another SHA-256"):
        store.verify(stored.root)
    with pytest.raises(StoreError, match="with CID"):
        store.get(stored)
    assert stored not in store


def test_zeros_at_the_end_are_told_apart_by_the_stored_object(data, folder):
    """0G's root is the same for both; size and CID are not."""
    store = Store(f"file://{folder}")
    short, long = data[:300], data[:300] + b"\0"
    assert storage_root(short) == storage_root(long)
    stored = store.put(short)
    with pytest.raises(StoreError, match="already holds 300 bytes"):
        store.put(long)
    other = Store().put(long)
    with pytest.raises(StoreError, match="not 301 bytes"):
        store.get(other)
    assert store.get(stored) == short


def test_what_is_not_there_is_named(store):
    root = "0x" + "11" * 32
    for read in (store.get, store.verify, store.stat, lambda root: store.prove(root, 0)):
        with pytest.raises(StoreError, match="has no object 0x1111"):
            read(root)
    with pytest.raises(StoreError, match="64 hexadecimal digits"):
        store.get("../../etc")
    assert 5 not in store


class _CutError(BaseException):
    """The process ends here."""


def cut_after(store, writes):
    """Let a store write so often and then end, as a killed process does."""
    write, left = store._place.write, [writes]

    def cutting(*arguments):
        if not left[0]:
            raise _CutError
        left[0] -= 1
        write(*arguments)

    store._place.write = cutting


@pytest.mark.parametrize("writes", range(5))
def test_an_interrupted_put_shows_nothing_and_goes_on(folder, data, writes):
    cut = Store(f"file://{folder}")
    cut_after(cut, writes)
    with pytest.raises(_CutError):
        cut.put(data)
    store, root = Store(f"file://{folder}"), storage_root(data)
    assert root not in store
    with pytest.raises(StoreError, match="has no object"):
        store.get(root)
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("0*") if path.is_file()}
    assert len(before) == writes
    store.put(data)
    assert {path: path.stat().st_mtime_ns for path in before} == before  # not written again
    store.verify(root)


def test_a_put_that_is_cut_within_a_write_leaves_no_half_slice(folder, data, monkeypatch):
    store = Store(f"file://{folder}")

    def half(path, value):
        Path(path).write_bytes(value[:1000])
        raise _CutError

    monkeypatch.setattr(store._place._fs, "pipe_file", half)
    with pytest.raises(_CutError):
        store.put(data)
    assert all(path.suffix == ".part" for path in folder.rglob("0*") if path.is_file())
    stored = Store(f"file://{folder}").put(data)
    Store(f"file://{folder}").verify(stored)


def test_a_file_that_changes_while_it_is_stored_is_refused(store, data, tmp_path, monkeypatch):
    path = tmp_path / "object"
    path.write_bytes(data)
    hashed = Manifest.of

    def changing(*arguments, **options):
        manifest = hashed(*arguments, **options)
        path.write_bytes(data[:SLICE] + bytes(SIZE))
        return manifest

    monkeypatch.setattr(Manifest, "of", changing)
    with pytest.raises(StoreError, match="slice 1 of the file changed"):
        store.put(path)
    assert storage_root(data) not in store


def test_fetch_goes_on_where_it_was(store, stored, data, folder, tmp_path):
    target = tmp_path / "out"
    missing = slice_path(folder, stored, 2)
    held = missing.read_bytes()
    missing.unlink()
    with pytest.raises(StoreError, match="slice 2 is missing"):
        store.fetch(stored.root, target)
    (draft,) = tmp_path.glob(".out.*.part")
    assert draft.read_bytes() == data[: 2 * SLICE]
    missing.write_bytes(held)
    slice_path(folder, stored, 0).unlink()  # is in the draft already
    draft.write_bytes(data[: SLICE + 5] + bytes(5 * SLICE))  # and what is wrong there is mended
    assert store.fetch(stored.root, target, progress=True).read_bytes() == data
    assert not draft.exists()


def test_fetch_replaces_a_file_only_when_it_is_complete(store, stored, data, folder, tmp_path):
    target = tmp_path / "out"
    target.write_bytes(b"before")
    slice_path(folder, stored, 3).unlink()
    with pytest.raises(StoreError, match="slice 3"):
        store.fetch(stored.root, target)
    assert target.read_bytes() == b"before"
    store.put(data)
    assert store.fetch(stored.root, target).read_bytes() == data
    with pytest.raises(StoreError, match="cannot be written"):
        store.fetch(stored.root, tmp_path / "no folder" / "out")


def test_a_file_that_is_the_object_is_not_read_again(store, stored, data, folder, tmp_path):
    target = store.fetch(stored, tmp_path / "out")
    slice_path(folder, stored, 1).unlink()
    assert store.fetch(stored, target).read_bytes() == data
    target.write_bytes(flip(data))
    with pytest.raises(StoreError, match="slice 1 is missing"):
        store.fetch(stored, target)


def test_a_full_disk_leaves_nothing_behind(folder, data, monkeypatch):
    store = Store(f"file://{folder}")

    def full(path, value):
        Path(path).write_bytes(value[:1000])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(store._place._fs, "pipe_file", full)
    with pytest.raises(StoreError, match=r"did not write .*000000: OSError"):
        store.put(data)
    assert not [path for path in folder.rglob("*") if path.is_file()]


def put_it(url, data, ready, results):
    ready.wait(60)
    results.put(Store(url).put(data).root)


def test_two_processes_put_the_same_object(folder, data):
    context = multiprocessing.get_context("spawn")
    ready, results = context.Barrier(2), context.Queue()
    url = f"file://{folder}"
    writers = [context.Process(target=put_it, args=(url, data, ready, results)) for _ in range(2)]
    for writer in writers:
        writer.start()
    assert {results.get(timeout=60) for _ in writers} == {storage_root(data)}
    for writer in writers:
        writer.join(60)
    Store(url).verify(storage_root(data))
    assert not list(folder.rglob("*.part"))


@pytest.mark.parametrize("kind", ["file", "memory", "s3"])
def test_threads_put_and_read_the_same_object(kind, request, folder, data, tmp_path):
    if kind == "s3":
        request.getfixturevalue("s3")
    url = {"file": f"file://{folder}", "memory": f"memory://{tmp_path.name}", "s3": "s3://bucket/threads"}[
        kind
    ]
    root, done, start = storage_root(data), [], threading.Barrier(6)

    def work(reads):
        store = Store(url)
        start.wait(30)
        if reads:
            while root not in store:
                pass
            done.append(store.get(root) == data)
        else:
            done.append(store.put(data).root == root)

    threads = [threading.Thread(target=work, args=(number % 2,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert done == [True] * 6
    Store(url).verify(root)


def test_slice_proofs_equal_the_reference(vector, objects):
    if not 3 * SLICE > vector["size"] > 0 and vector["size"] != 17 * SLICE + 1000:
        return
    store, data = Store(), objects(vector["size"])
    stored = store.put(data)
    for index in range(-(-vector["size"] // SLICE)):
        proof = store.prove(stored, index)
        assert proof.verify(stored.root)
        segment = proof.segment(stored.root)
        for known in (one for one in vector["proofs"] if one["index"] == index):
            assert segment["proof"] == {"lemma": known["lemma"], "path": known["path"]}
        raw = b64decode(segment["data"])
        assert len(raw) % 256 == 0
        assert raw.startswith(proof.data)
        assert (segment["index"], segment["fileSize"]) == (index, vector["size"])


def test_a_proof_holds_for_its_slice_and_place_only(store, stored, data):
    proof = store.prove(stored.root, 1)
    assert repr(proof) == f"SliceProof(slice 1 of {SIZE:,} bytes, 2 siblings)"
    assert proof.verify(stored.root)
    for changes in (
        {"index": 0},
        {"index": 2},
        {"index": -1},
        {"index": 4},
        {"size": 2 * SLICE},
        {"size": 40 * SLICE},
        {"size": 0},
        {"size": 1 << 60},
        {"data": flip(proof.data)},
        {"data": proof.data[:-1]},
        {"data": proof.data + b"\0"},
        {"data": data[:SLICE]},
        {"path": proof.path[:-1]},
        {"path": proof.path[::-1]},
        {"path": (*proof.path, bytes(32))},
        {"path": (proof.path[0][:31], proof.path[1])},
    ):
        assert not replace(proof, **changes).verify(stored.root), changes
    assert not proof.verify("0x" + "11" * 32)
    assert not proof.verify("nonsense")
    for index in (-1, 4):
        with pytest.raises(StoreError, match="none of number"):
            store.prove(stored.root, index)
    assert isinstance(proof, SliceProof)


def test_storing_a_large_file_needs_little_memory(tmp_path, objects):
    import tracemalloc

    path = tmp_path / "object"
    with path.open("wb") as file:
        for number in range(1, 41):
            file.write(objects(SLICE - number) + bytes(number))
    store = Store(f"file://{tmp_path}/store")
    tracemalloc.start()
    stored = store.put(path)
    store.fetch(stored, tmp_path / "out")
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 6 * SLICE


def test_a_bad_slice_is_looked_up_and_not_searched_for():
    class Unsearched(tuple):
        __slots__ = ()

        def __contains__(self, _):
            pytest.fail("searched for")

        def index(self, *_):
            pytest.fail("searched for")

    parts = [b"one", b"two", b"one"]
    leaves = Unsearched(hashlib.sha256(part).digest() for part in parts)
    manifest = Manifest(3 * SLICE, (bytes(32),) * 3, leaves)
    assert manifest.fault(0, b"two") == "reordered: slice 1 stands in its place"
    assert manifest.fault(1, b"one") == "reordered: slice 0 stands in its place"
    assert manifest.fault(2, b"one").startswith("truncated")
    assert manifest.fault(1, b"three").startswith("truncated")
