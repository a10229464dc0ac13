"""An IPFS node keeps objects, and is never believed: one that lies is found out at every step."""

import hashlib
import json
import os
import socket
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest

from twopm_kit.errors import StoreError
from twopm_kit.vsies.storage import Store, content_id, storage_root
from twopm_kit.vsies.storage.cid import cid_bytes, cid_text
from twopm_kit.vsies.storage.entries import SLICE
from twopm_kit.vsies.storage.manifest import LARGEST_MANIFEST

MODULES = Path(os.environ.get("TWOPM_NODE_MODULES", f"{sys.prefix}/lib/node_modules"))
SIZE = 2 * SLICE + 500


@pytest.fixture(scope="module")
def ipfs_node(tmp_path_factory):
    """A real node: the JavaScript implementation of IPFS, without network."""
    if not (MODULES / "ipfs-http-server").is_dir():
        pytest.skip("the npm packages ipfs-core and ipfs-http-server are not installed")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    script = Path(__file__).with_name("ipfs_node.mjs")
    folder = tmp_path_factory.mktemp("ipfs") / "repo"
    command = [Path(sys.executable).parent / "node", script, MODULES, folder, str(port)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as node:
        try:
            assert node.stdout.readline() == "ready\n"
            yield f"http://127.0.0.1:{port}"
        finally:
            node.terminate()


def test_a_real_node_keeps_objects(ipfs_node, objects):
    store, data = Store(f"ipfs+{ipfs_node}"), objects(SIZE)
    assert storage_root(data) not in store
    stored = store.put(data)
    assert store.put(data) == stored
    store.verify(stored)
    assert store.get(stored, SLICE - 5, 20) == data[SLICE - 5 : SLICE + 15]
    whole = httpx.post(f"{ipfs_node}/api/v0/cat", params={"arg": content_id(data)}, trust_env=False)
    assert whole.content == data  # the node itself finds the file under its CID
    pins = httpx.post(f"{ipfs_node}/api/v0/pin/ls", params={"arg": stored.cid}, trust_env=False)
    assert "recursive" in pins.text


class Node(BaseHTTPRequestHandler):
    """A node as a contributor may meet one: it keeps what it gets, and lies as `lies` says."""

    def do_POST(self):
        asked = urlsplit(self.path)
        options = {name: values[0] for name, values in parse_qs(asked.query).items()}
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        command = asked.path.removeprefix("/api/v0/")
        self.server.calls.append(command)
        status, said = self.answer(command, options, _file(body))
        self.send_response(status)
        self.end_headers()
        self.wfile.write(said)

    def answer(self, command, options, data):
        lie = self.server.lies.get(command)
        if lie is not None:
            status, said = lie
            return status, said
        kept = self.server.kept
        if command == "block/put":
            if {"format", "cid-codec"} <= set(options):
                return 500, b"unable to use both"
            # a node that knows one word only takes the other for CIDv0, as older nodes do
            if self.server.word not in options:
                return 200, b'{"Key":"Qm"}'
            codec = {"raw": 0x55, "dag-pb": 0x70}[options[self.server.word]]
            name = cid_text(cid_bytes(codec, hashlib.sha256(data).digest()))
            kept[name] = data
            return 200, json.dumps({"Key": name, "Size": len(data)}).encode()
        if command == "files/write":
            kept[options["arg"]] = data
            return 200, b""
        if command == "pin/add":
            return (200, b"{}") if options["arg"] in kept else (500, b"not found")
        if options["arg"] in kept:
            return 200, kept[options["arg"]]
        return 500, b'{"Message":"block was not found locally (offline)","Code":0}'

    def log_message(self, *_arguments):
        pass


def _file(body):
    """What the one part of a form holds."""
    if not body:
        return b""
    boundary = body[: body.index(b"\r\n")]
    return body[body.index(b"\r\n\r\n") + 4 : body.rindex(b"\r\n" + boundary)]


@pytest.fixture
def node():
    with ThreadingHTTPServer(("127.0.0.1", 0), Node) as server:
        server.kept, server.lies, server.calls, server.word = {}, {}, [], "cid-codec"
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


@pytest.fixture
def store(node):
    return Store(f"ipfs+http://127.0.0.1:{node.server_port}")


def test_blocks_that_a_node_has_are_not_sent_again(store, node, objects):
    data = objects(SIZE)
    stored = store.put(data)
    assert store.get(stored) == data
    assert stored.cid in node.kept
    del node.kept[leaf(data, 1)]
    node.calls.clear()
    store.put(data)
    assert node.calls.count("block/put") == 1
    store.verify(stored)


def test_older_nodes_are_spoken_to_in_their_words(store, node, objects):
    node.word = "format"
    data = objects(SIZE)
    assert store.get(store.put(data)) == data
    assert node.calls.count("block/put") == 5  # three slices, one node, and the first slice twice


def leaf(data, index):
    digest = hashlib.sha256(data[index * SLICE : (index + 1) * SLICE]).digest()
    return cid_text(cid_bytes(0x55, digest))


@pytest.mark.parametrize(
    ("held", "words"),
    [
        (None, "slice 1 is missing"),
        (bytes(SLICE), "slice 1 is corrupted"),
        (b"", "slice 1 is truncated"),
        (bytes(20 * SLICE), "slice 1 is too long"),
    ],
)
def test_a_block_that_is_not_its_own_is_found_out(store, node, objects, held, words):
    data = objects(SIZE)
    stored = store.put(data)
    if held is None:
        del node.kept[leaf(data, 1)]
    else:
        node.kept[leaf(data, 1)] = held
    with pytest.raises(StoreError, match=words):
        store.get(stored)


@pytest.mark.parametrize(
    ("command", "lie", "words"),
    [
        (
            "block/put",
            (200, b'{"Key":"bafkreihdwdcefgh4dqkjv67uzcmw7ojee6xedzdetojuzjevtenxquvyku"}'),
            "another CID",
        ),
        ("block/put", (200, b"[]"), "another CID"),
        ("block/put", (403, b""), "refused block/put: status 403"),
        ("pin/add", (500, b"no"), "refused pin/add"),
        ("files/write", (500, b"no"), "refused files/write"),
        ("files/read", (500, b"no"), "refused files/read"),
        ("files/read", (200, b"{}"), ""),
    ],
)
def test_a_node_that_refuses_or_lies_stops_a_put(store, node, objects, command, lie, words):
    node.lies[command] = lie
    if words:
        with pytest.raises(StoreError, match=words):
            store.put(objects(600_000))
        assert not any(name.endswith("manifest.json") for name in node.kept) or command == "files/read"
        return
    stored = store.put(objects(600_000))
    with pytest.raises(StoreError, match="manifest of 0x"):
        store.get(stored)


def test_an_endless_manifest_is_cut_off(store, node, objects):
    stored = store.put(objects(1000))
    node.kept[f"/twopm/{stored.root}/manifest.json"] = b" " * (LARGEST_MANIFEST + 10)
    with pytest.raises(StoreError, match="was changed: it is not of the form"):
        store.get(stored)


def test_a_node_that_does_not_run_is_named():
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    store = Store(f"ipfs+http://127.0.0.1:{port}")
    assert repr(store._place) == f"IPFSPlace(ipfs+http://127.0.0.1:{port})"
    with pytest.raises(StoreError, match="did not answer files/read: ConnectError"):
        store.get("0x" + "11" * 32)
