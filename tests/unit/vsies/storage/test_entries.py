"""The 0G tree: roots and proofs equal the reference, entries walk to the root, and nothing else does."""

import pytest
from eth_hash.backends.pysha3 import keccak256
from hypothesis import given, settings
from hypothesis import strategies as st

from twopm_kit.errors import DataError, StoreError
from twopm_kit.vsies.storage.entries import (
    ENTRY,
    LARGEST,
    SLICE,
    EntryTree,
    branch,
    climb,
    entry_root,
    padded_entries,
    parse_root,
    slice_root,
    slice_sizes,
    storage_root,
    top,
)


def test_roots_and_slice_proofs_equal_the_reference(vector, objects):
    if vector["root"] is None:
        with pytest.raises(StoreError, match="at least one entry"):
            storage_root(b"")
        return
    tree = EntryTree(objects(vector["size"]))
    assert f"0x{tree.root.hex()}" == vector["root"]
    assert len(tree.segment_roots) == vector["slices"]
    for proof in vector["proofs"]:
        lemma = [bytes.fromhex(one[2:]) for one in proof["lemma"]]
        siblings = tuple(lemma[1:-1])
        assert tree.segment_roots[proof["index"]] == lemma[0]
        assert tree.prove_slice(proof["index"]) == siblings
        assert climb(lemma[0], proof["index"], vector["slices"], siblings) == tree.root


def test_a_file_has_the_root_of_its_bytes(tmp_path, objects):
    data = objects(3 * SLICE + 5)
    path = tmp_path / "object"
    path.write_bytes(data)
    assert storage_root(path) == storage_root(data)
    tree = EntryTree(path)
    assert tree.prove(2100) == EntryTree(data).prove(2100)
    path.write_bytes(bytes(len(data)))
    with pytest.raises(DataError, match="slice 2 has changed"):
        tree.prove(2100)


def test_a_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(StoreError, match="nothing cannot be read"):
        storage_root(tmp_path / "nothing")


@pytest.mark.parametrize(
    ("size", "entries"),
    [(1, 1), (256, 1), (257, 2), (17 * 256, 18), (33 * 256, 36), (1024 * 256, 1024), (1025 * 256, 1152)],
)
def test_padding_follows_the_flow(size, entries):
    assert padded_entries(size) == entries
    assert sum(slice_sizes(size)) == entries


@pytest.mark.parametrize("size", [0, -1, LARGEST + 1])
def test_sizes_out_of_range_are_refused(size):
    with pytest.raises(StoreError, match="bytes"):
        padded_entries(size)


@pytest.mark.parametrize("size", [1, 300, 4097, SLICE, SLICE + 1, 5 * SLICE + 700])
def test_every_entry_walks_to_the_root(size, objects):
    data = objects(size)
    tree = EntryTree(data)
    last = (size - 1) // ENTRY
    for index in {0, 1, last // 2, last, tree.n_entries - 1} & set(range(tree.n_entries)):
        entry = data[index * ENTRY : (index + 1) * ENTRY]
        path = tree.prove(index)
        assert entry_root(entry, index, tree.n_entries, path) == tree.root
        assert (
            entry_root(
                entry + b"\1" if len(entry) < ENTRY else entry[:-1] + b"x", index, tree.n_entries, path
            )
            != tree.root
        )


def test_a_walk_of_another_shape_is_refused(objects):
    data = objects(5 * SLICE + 700)
    tree = EntryTree(data)
    entry, path = data[:ENTRY], tree.prove(0)
    for index in (1, 2, 1023, 1024):
        assert entry_root(entry, index, tree.n_entries, path) != tree.root
    with pytest.raises(DataError, match="siblings, its tree needs"):
        entry_root(entry, tree.n_entries - 1, tree.n_entries, path)
    for wrong in (path[:-1], (*path, bytes(32)), (path[0][:31], *path[1:]), ()):
        with pytest.raises(DataError, match="sibling"):
            entry_root(entry, 0, tree.n_entries, wrong)
    for index in (-1, tree.n_entries):
        with pytest.raises(DataError, match="no entry"):
            entry_root(entry, index, tree.n_entries, path)
        with pytest.raises(DataError, match="none of number"):
            tree.prove(index)
    with pytest.raises(DataError, match="up to 256 bytes"):
        entry_root(data[:257], 0, tree.n_entries, path)
    with pytest.raises(DataError, match="none of number"):
        tree.prove_slice(len(tree.segment_roots))
    with pytest.raises(DataError, match="no node"):
        climb(bytes(32), 3, 3, ())


def test_a_parent_does_not_pass_as_an_entry(objects):
    """Leaves hash 256 bytes and parents 64, and short entries are filled up: no parent is an entry's hash."""
    data = objects(4 * ENTRY)
    tree = EntryTree(data)
    leaves = [keccak256(data[at : at + ENTRY]) for at in range(0, len(data), ENTRY)]
    assert entry_root(leaves[0] + leaves[1], 0, 2, (keccak256(leaves[2] + leaves[3]),)) != tree.root


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 70), st.data())
def test_branches_of_any_width_climb_back(width, data):
    nodes = [keccak256(bytes((number,))) for number in range(width)]
    index = data.draw(st.integers(0, width - 1))
    assert climb(nodes[index], index, width, branch(nodes, index)) == top(nodes)


def test_zeros_of_a_slice_need_not_be_given():
    assert slice_root(b"abc", 4) == slice_root(b"abc" + bytes(4 * ENTRY - 3))


@pytest.mark.parametrize(
    "root", ["", "0x", "0x" + "0" * 63, "0x" + "g" * 64, "0X" + "0" * 64, " 0x" + "0" * 63, b"0x", None]
)
def test_what_is_no_root_is_refused(root):
    with pytest.raises(StoreError, match="64 hexadecimal digits"):
        parse_root(root)


def test_a_tree_shows_its_root_and_size():
    tree = EntryTree(b"abc")
    assert repr(tree) == f"EntryTree(0x{tree.root.hex()}, 3 bytes, 1 entries)"
