"""The HTTP front: what it answers, and whom it refuses."""

import http.client
import json
import socket

import pytest

import twopm_kit as kit
from twopm_kit.chain.server import MOST_BYTES
from twopm_kit.errors import ChainError, ChainUnavailable


@pytest.fixture(scope="module")
def server():
    with kit.chain.connect("embedded") as chain, chain.serve() as served:
        yield served


def ask(server, body, *, method="POST", **headers):
    """Send one raw HTTP request; give the status and the decoded body."""
    if not isinstance(body, bytes):
        body = json.dumps(body).encode()
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)
    try:
        fixed = {"Content-Type": "application/json"} | {k.replace("_", "-"): v for k, v in headers.items()}
        connection.request(
            method, "/", body, {key: value for key, value in fixed.items() if value is not None}
        )
        response = connection.getresponse()
        content = response.read()
        return response.status, json.loads(content) if content.startswith((b"{", b"[")) else content
    finally:
        connection.close()


def call(method, *params, number=1):
    return {"jsonrpc": "2.0", "id": number, "method": method, "params": list(params)}


def test_requests_and_batches(server):
    status, answer = ask(server, call("eth_blockNumber", number="seven"))
    assert (status, answer) == (200, {"jsonrpc": "2.0", "id": "seven", "result": "0x0"})
    status, answers = ask(server, [call("eth_blockNumber", number=1), call("nonsense", number=2)])
    assert status == 200
    assert answers[0]["result"] == "0x0"
    assert answers[1]["error"]["code"] == -32601
    assert ask(server, call("eth_chainId"), Host=f"localhost:{server.port}")[0] == 200


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Origin": "https://example.org"}, 403),
        ({"Origin": "null"}, 403),
        ({"Origin": "http://127.0.0.1"}, 403),
        ({"Host": "evil.example.org"}, 403),
        ({"Host": "127.0.0.1.nip.io:8545"}, 403),
        ({"Host": "127.0.0.1"}, 403),
        ({"Content_Type": "text/plain"}, 415),
        ({"Content_Type": "application/x-www-form-urlencoded"}, 415),
        ({"Content_Type": None}, 415),
    ],
)
def test_a_web_page_cannot_drive_it(server, headers, status):
    before = ask(server, call("eth_blockNumber"))
    assert ask(server, call("evm_mine"), **headers)[0] == status
    assert ask(server, call("eth_blockNumber")) == before


@pytest.mark.parametrize("method", ["GET", "PUT", "OPTIONS", "DELETE"])
def test_only_post_is_answered(server, method):
    assert ask(server, b"", method=method)[0] == 501


@pytest.mark.parametrize("length", [str(MOST_BYTES + 1), "9" * 30])
def test_a_body_above_the_limit_is_refused_unread(server, length):
    request = f"POST / HTTP/1.1\r\nHost: 127.0.0.1:{server.port}\r\nContent-Type: application/json\r\n"
    with socket.create_connection(("127.0.0.1", server.port), timeout=10) as connection:
        connection.sendall(f"{request}Content-Length: {length}\r\n\r\n".encode())
        assert b" 413 " in connection.recv(4096).split(b"\r\n")[0]


@pytest.mark.parametrize(
    "header", ["Transfer-Encoding: chunked", "Content-Length: -5", "Content-Length: x", "X: y"]
)
def test_a_body_of_unknown_length_is_refused(server, header):
    request = f"POST / HTTP/1.1\r\nHost: 127.0.0.1:{server.port}\r\nContent-Type: application/json\r\n"
    with socket.create_connection(("127.0.0.1", server.port), timeout=10) as connection:
        connection.sendall(f"{request}{header}\r\n\r\n".encode())
        assert b" 411 " in connection.recv(4096).split(b"\r\n")[0]


@pytest.mark.parametrize(
    "body", [b"", b"{", b"\xff", b"[" * 100_000, b'["]",' * 99 + b"1" + b"]" * 99, b'"\\' * 500_000]
)
def test_what_is_not_json_is_a_parse_error(server, body):
    status, answer = ask(server, body)
    assert (status, answer["error"]["code"]) == (200, -32700)


@pytest.mark.parametrize(
    "body",
    [5, "x", [], {}, {"method": 5}, {"method": "eth_call", "params": {}}, [[]], [call("eth_chainId")] * 1001],
)
def test_what_is_not_a_request_is_an_invalid_request(server, body):
    status, answer = ask(server, body)
    answer = answer[0] if isinstance(answer, list) else answer
    assert (status, answer["error"]["code"]) == (200, -32600)


@pytest.mark.parametrize(
    "request_",
    [
        call("eth_getBalance"),
        call("eth_getBalance", "0x12", "latest"),
        call("eth_getBalance", 5, "latest"),
        call("eth_call", None, "latest"),
        call("eth_call", {"to": "0x" + "0" * 40}, "0xffff"),
        call("eth_sendRawTransaction", "0x02c0"),
        call("eth_sendRawTransaction", "0x03c0"),
        call("eth_sendRawTransaction", "zz"),
        call("eth_sendTransaction", {"from": "0x" + "11" * 20}),
        call("eth_getLogs", {"blockHash": "0x00"}),
        call("eth_getLogs", {"fromBlock": "later"}),
        call("evm_revert", "x"),
        call("anvil_mine", "0xffffffff"),
        call("evm_increaseTime", -5),
        call("twopm_transact", "0x"),
        call("eth_newFilter", {}),
    ],
)
def test_wrong_parameters_are_errors_and_change_nothing(server, request_):
    before = ask(server, call("eth_blockNumber"))
    status, answer = ask(server, request_)
    assert status == 200
    assert answer["error"]["code"] < 0
    assert ask(server, call("eth_blockNumber")) == before


def test_closing_hangs_up_and_frees_the_port():
    with kit.chain.connect("embedded") as chain:
        server = chain.serve()
        other = kit.chain.connect(server.url)
        assert other.block_number == 0
        server.close()
        server.close()
        with pytest.raises(ChainUnavailable, match="nobody answers"):
            other.block_number  # noqa: B018
        other.close()
        assert chain.block_number == 0
        with chain.serve(port=server.port) as again:
            assert again.url == server.url
            with pytest.raises(ChainError, match="cannot be used"):
                chain.serve(port=again.port)
    with kit.chain.connect("embedded") as chain, pytest.raises(ChainError, match="cannot be used"):
        chain.serve(port=70_000)


def test_a_closed_chain_says_so_to_those_who_are_connected():
    chain = kit.chain.connect("embedded")
    server = chain.serve()
    with kit.chain.connect(server.url) as other:
        chain._node.close()
        with pytest.raises(ChainError, match="was closed"):
            other.block_number  # noqa: B018
    chain.close()
