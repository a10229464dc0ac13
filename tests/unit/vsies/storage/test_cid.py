"""IPFS CIDs equal those of the reference importer."""

import pytest

from twopm_kit.errors import StoreError
from twopm_kit.vsies.storage.cid import content_id, file_cid


def test_cids_equal_the_reference(vector, objects):
    data = objects(vector["size"]) if vector["size"] else b""
    assert content_id(data) == vector["cid"]


def test_a_file_has_the_cid_of_its_bytes(tmp_path, objects):
    data = objects(600_000)
    path = tmp_path / "object"
    path.write_bytes(data)
    assert content_id(path) == content_id(data)
    with pytest.raises(StoreError, match="cannot be read"):
        content_id(tmp_path)


def test_size_is_part_of_the_cid():
    leaves = [bytes(32), bytes(32)]
    assert file_cid(leaves, 300_000) != file_cid(leaves, 300_001)
