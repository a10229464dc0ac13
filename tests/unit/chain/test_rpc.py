"""The HTTP client, against servers that are absent, confused or hostile."""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

import twopm_kit as kit
from twopm_kit.chain import rpc
from twopm_kit.chain.jsonrpc import Fault, as_bytes, as_int
from twopm_kit.errors import ChainError, ChainUnavailable


@pytest.fixture
def talker():
    """A web server that says to every request what the test put into ``answer``."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            question = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            self.server.authorization = self.headers.get("Authorization")
            status, content = self.server.answer(question)
            body = content if isinstance(content, bytes) else json.dumps(content).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.send_header("Location", "http://127.0.0.1:1/")
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *args):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.url = f"http://127.0.0.1:{server.server_address[1]}/secret-key"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def _reply(values):
    """Answer each request by its method; batches too."""

    def one(question):
        return {"jsonrpc": "2.0", "id": question["id"]} | values[question["method"]]

    return lambda question: (200, [one(q) for q in question] if isinstance(question, list) else one(question))


NODE = {"web3_clientVersion": {"result": "Strange/v1"}, "eth_chainId": {"result": "0x5"}}


def test_nobody_there():
    with pytest.raises(ChainUnavailable, match=r"nobody answers at http://127\.0\.0\.1:1 ") as caught:
        kit.chain.connect("http://127.0.0.1:1/v3/secret-key")
    assert "secret-key" not in str(caught.value)
    assert "start the node" in caught.value.hint
    assert isinstance(caught.value, ConnectionError)


@pytest.mark.parametrize("target", ["ganache", "wss://x/secret-key", "", 5, b"anvil"])
def test_an_unknown_target_is_refused(target):
    with pytest.raises(ChainError, match="is not a chain; expected 'embedded', 'anvil' or a URL") as caught:
        kit.chain.connect(target)
    assert "secret-key" not in str(caught.value)


@pytest.mark.parametrize(
    "url", ["http://", "http://[::1", "http://host:port/", "http://host:99999/", "https:///x"]
)
def test_a_broken_url_is_refused(url):
    with pytest.raises(ChainUnavailable, match="not the URL of a node"):
        kit.chain.connect(url)


def test_user_and_password_go_into_a_header_and_nowhere_else(talker):
    seen, plain = [], _reply(NODE)

    def answer(question):
        seen.append(talker.authorization)
        return plain(question)

    talker.answer = answer
    url = talker.url.replace("http://", "http://me:p%40ss@")
    with kit.chain.connect(url) as chain:
        assert seen == ["Basic bWU6cEBzcw=="]
        assert "p%40ss" not in repr(chain._node)


def test_the_default_comes_from_the_settings(monkeypatch):
    from twopm_kit import config

    monkeypatch.setenv("TWOPM_CHAIN", "http://127.0.0.1:1")
    config.reload()
    try:
        with pytest.raises(ChainUnavailable, match="nobody answers"):
            kit.chain.connect()
    finally:
        monkeypatch.delenv("TWOPM_CHAIN")
        config.reload()
    with kit.chain.connect() as chain:
        assert chain.kind == "embedded"


@pytest.mark.parametrize(
    "answer", [(200, b"<html>"), (404, b""), (301, b"moved"), (200, b"5"), (200, b"\xff"), (500, b"null")]
)
def test_what_is_no_node_is_named(talker, answer):
    talker.answer = lambda _: answer
    with pytest.raises(ChainUnavailable, match="and not with JSON-RPC") as caught:
        kit.chain.connect(talker.url)
    assert "secret-key" not in str(caught.value)


@pytest.mark.parametrize(
    "chain_id",
    [{"result": 5}, {"result": "five"}, {"result": None}, {"error": {"message": "no"}}, {"error": "no"}],
)
def test_a_chain_id_must_be_one(talker, chain_id):
    talker.answer = _reply(NODE | {"eth_chainId": chain_id})
    with pytest.raises(ChainError):
        kit.chain.connect(talker.url)


def test_a_node_without_batches_is_asked_one_by_one(talker):
    plain = _reply(NODE | {"eth_blockNumber": {"result": "0x10"}})
    talker.answer = lambda q: (400, {"error": "no batches"}) if isinstance(q, list) else plain(q)
    with kit.chain.connect(talker.url) as chain:
        assert (chain.chain_id, chain.block_number, chain.is_development) == (5, 16, False)
        assert "secret-key" not in repr(chain) + chain._repr_html_() + repr(chain._node)


def test_an_answer_above_the_limit_is_refused(talker, monkeypatch):
    talker.answer = _reply(NODE | {"eth_blockNumber": {"result": "0x" + "1" * 5_000}})
    with kit.chain.connect(talker.url) as chain:
        monkeypatch.setattr(rpc, "_MOST_BYTES", 1_000)
        with pytest.raises(ChainError, match="more than 1,000 bytes"):
            chain.block_number  # noqa: B018


@pytest.mark.parametrize("result", ["0x", 16, "0x1g", None, [], "0x" + "1" * 65])
def test_a_wrong_number_is_refused(talker, result):
    talker.answer = _reply(NODE | {"eth_blockNumber": {"result": result}})
    with kit.chain.connect(talker.url) as chain, pytest.raises(ChainError, match="a number in hexadecimal"):
        chain.block_number  # noqa: B018


def test_answers_are_matched_by_number_and_not_by_order(talker):
    plain = _reply(NODE)

    def shuffled(question):
        status, content = plain(question)
        return status, content[::-1] if isinstance(content, list) else content

    talker.answer = shuffled
    with kit.chain.connect(talker.url) as chain:
        assert (chain.client, chain.chain_id) == ("Strange/v1", 5)


def test_a_lying_receipt_is_not_believed(talker):
    stranger = "0x" + "22" * 32
    receipt = {
        "blockNumber": "0x1",
        "gasUsed": "0x1",
        "logs": [],
        "status": "0x1",
        "transactionHash": stranger,
    }
    talker.answer = _reply(
        NODE
        | {
            "eth_getTransactionCount": {"result": "0x0"},
            "eth_gasPrice": {"result": "0x1"},
            "eth_getBalance": {"result": "0xffffffffffff"},
            "eth_call": {"result": "0x"},
            "eth_estimateGas": {"result": "0x5208"},
            "eth_sendRawTransaction": {"result": stranger},
            "eth_getTransactionReceipt": {"result": receipt},
        }
    )
    with kit.chain.connect(talker.url) as chain, pytest.raises(ChainError, match="about another transaction"):
        chain.transfer("0x" + "11" * 20, 1, sender=chain.account("a"))


def test_logs_of_other_contracts_are_not_believed(talker):
    log = {
        "address": "0x" + "33" * 20,
        "topics": [],
        "data": "0x",
        "blockNumber": "0x1",
        "logIndex": "0x0",
        "transactionHash": "0x" + "22" * 32,
    }
    talker.answer = _reply(NODE | {"eth_getLogs": {"result": [log]}})
    with kit.chain.connect(talker.url) as chain:
        assert chain.logs("0x" + "44" * 20, [], 0, 5) == []
        talker.answer = _reply(NODE | {"eth_getLogs": {"result": [{"address": "0x" + "33" * 20}]}})
        with pytest.raises(ChainError, match="cannot be read"):
            chain.logs("0x" + "44" * 20, [], 0, 5)


@pytest.mark.parametrize(
    ("error", "data"),
    [
        ({"code": 3, "message": "execution reverted", "data": "0x1234"}, b"\x124"),
        ({"code": -32000, "message": "x", "data": {"data": "0x12"}}, b"\x12"),
        ({"code": -32000, "message": "x", "data": {"result": "0x"}}, b""),
        ({"code": "three", "message": None, "data": "0x123"}, None),
        ({}, None),
        ("just words", None),
        (None, None),
    ],
)
def test_faults_are_read_whatever_their_shape(error, data):
    fault = Fault.from_json(error)
    assert fault.data == data
    assert isinstance(fault.code, int)
    assert isinstance(fault.to_json()["message"], str)


def test_hexadecimal_readers():
    assert as_int("0x10") == 16
    assert as_bytes("0x") == b""
    for wrong in ("10", "0x1", 5, None):
        with pytest.raises(ChainError):
            as_bytes(wrong)
