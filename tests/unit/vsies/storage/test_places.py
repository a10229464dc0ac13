"""Places: any fsspec URL opens, credentials show nowhere, and refusals are told apart from absence."""

import os
import socket
import traceback

import pytest

from twopm_kit.errors import SourceError, StoreError
from twopm_kit.vsies import open_source
from twopm_kit.vsies.s3 import open_s3
from twopm_kit.vsies.storage import Store
from twopm_kit.vsies.storage.places import open_place

ROOT = "0x" + "11" * 32


@pytest.mark.parametrize(
    "url",
    [
        "s3://",
        "s3:///prefix",
        "s3://key:secret@bucket/prefix",
        "s3://bucket?key=secret",
        "ipfs+http://u:secret@host:1",
    ],
)
def test_addresses_with_credentials_are_refused(url):
    with pytest.raises(StoreError, match="and nothing else") as caught:
        open_place(url)
    assert "secret@" not in "".join(traceback.format_exception(caught.value))
    assert "key=" not in str(caught.value)


@pytest.mark.parametrize(
    "url",
    ["ipfs+http://a:port", "ipfs+http://a:99999", "ipfs+http://[x", "ipfs+http://a:1#b", "https://[x"],
)
def test_what_is_no_address_is_refused(url):
    with pytest.raises(StoreError) as caught:
        Store(url)
    assert caught.value.hint


def test_unknown_kinds_are_refused():
    with pytest.raises(StoreError, match="no place of kind nowhere://"):
        Store("nowhere://x")


def test_any_back_end_of_fsspec_serves(tmp_path):
    store = Store(f"local://{tmp_path}/store")
    stored = store.put(b"through fsspec's own back end")
    assert store.get(stored) == b"through fsspec's own back end"
    assert not list(tmp_path.rglob("*.part"))
    assert Store(f"file://{tmp_path}/store").get(stored.root) == b"through fsspec's own back end"


def test_a_user_in_a_url_is_not_shown(tmp_path):
    import fsspec
    from fsspec.implementations.memory import MemoryFileSystem

    class Remote(MemoryFileSystem):
        protocol = "remote-memory"

    fsspec.register_implementation("remote-memory", Remote, clobber=True)
    store = Store("remote-memory://user:secret@host/place")
    assert repr(store) == "Store(remote-memory://host/place)"
    assert "secret" not in repr(store._place)
    assert store.get(store.put(b"kept far away")) == b"kept far away"


def test_the_wrong_key_is_refused_and_not_shown(s3, monkeypatch):
    stored = Store("s3://bucket/keys").put(b"abc")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "a-wrong-secret")
    store = Store("s3://bucket/keys")
    for work in (lambda: store.get(stored), lambda: store.put(b"abcd")):
        with pytest.raises(StoreError, match="did not read") as caught:
            work()
        shown = "".join(traceback.format_exception(caught.value)) + repr(store) + repr(store._place)
        assert "a-wrong-secret" not in shown
        assert "kit-secret-key" not in shown


def test_objects_of_s3_are_plain_files(s3):
    stored = Store("s3://bucket/plain").put(b"abc")
    folder = s3 / "plain" / stored.root
    assert (folder / "000000").read_bytes() == b"abc"
    (folder / "000000").write_bytes(b"abd")
    with pytest.raises(StoreError, match="slice 0 is corrupted"):
        Store("s3://bucket/plain").get(stored)


def test_a_bucket_that_is_not_there_refuses(s3):
    store = Store("s3://nobucket")
    assert ROOT not in store
    with pytest.raises(StoreError, match="did not write"):
        store.put(b"abc")


def test_a_folder_that_refuses_is_named(tmp_path):
    (tmp_path / "file").write_bytes(b"")
    store = Store(f"file://{tmp_path}/file")
    with pytest.raises(StoreError, match=r"did not (read|write)"):
        store.put(b"abc")


@pytest.mark.parametrize("name", ["manifest.json", "000000"])
@pytest.mark.parametrize("kind", ["pipe", "link", "folder", "socket"])
def test_what_is_no_plain_file_is_refused_at_once(tmp_path, name, kind, monkeypatch):
    store = Store(tmp_path / "store")
    stored = store.put(b"abc")
    folder = tmp_path / "store" / stored.root
    (folder / name).rename(tmp_path / name)
    with socket.socket(socket.AF_UNIX) as listening:
        if kind == "pipe":
            os.mkfifo(folder / name)
        elif kind == "link":
            (folder / name).symlink_to(tmp_path / name)
        elif kind == "folder":
            (folder / name).mkdir()
        else:
            monkeypatch.chdir(folder)  # the path of a socket has to be short
            listening.bind(name)
        for work in (lambda: store.get(stored), lambda: store.verify(stored), lambda: store.put(b"abc")):
            with pytest.raises(StoreError, match="expected a plain file") as caught:
                work()
            assert "remove it" in caught.value.hint
    assert (tmp_path / name).read_bytes()


@pytest.mark.parametrize("scheme", ["file", "local"])
def test_a_link_in_place_of_an_objects_folder_is_not_followed(tmp_path, scheme):
    (tmp_path / "victim").mkdir()
    (tmp_path / "victim" / "000000").write_bytes(b"precious")
    stored = Store().put(b"abc")
    store = Store(f"{scheme}://{tmp_path}/store")
    (tmp_path / "store").mkdir()
    (tmp_path / "store" / stored.root).symlink_to(tmp_path / "victim")
    for work in (
        lambda: store.get(stored),
        lambda: store.put(b"abc"),
        lambda: store._place.write(f"{stored.root}/000000", b"abc", b""),
    ):
        with pytest.raises(StoreError, match="expected a folder"):
            work()
    assert [path.name for path in (tmp_path / "victim").iterdir()] == ["000000"]
    assert (tmp_path / "victim" / "000000").read_bytes() == b"precious"


def test_the_folder_of_the_store_may_be_a_link(tmp_path):
    (tmp_path / "disk").mkdir()
    (tmp_path / "store").symlink_to(tmp_path / "disk")
    stored = Store(tmp_path / "store").put(b"abc")
    assert Store(tmp_path / "disk").get(stored) == b"abc"


def test_a_place_shows_where_it_is(tmp_path):
    assert repr(Store(f"{tmp_path}/store")) == f"Store(file://{tmp_path}/store)"
    assert repr(open_place(None)) == "FilePlace(memory://)"


def test_tables_are_read_from_s3_as_from_a_folder(s3):
    open_s3().pipe_file("bucket/ages.csv", b"age\n31\n44\n")
    source = open_source("s3://bucket/ages.csv")
    assert source.read()["age"].tolist() == [31, 44]
    with pytest.raises(SourceError, match=r"none\.csv"):
        open_source("s3://bucket/none.csv").read()
