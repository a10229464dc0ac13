"""The embedded chain over loopback HTTP, so that several kernels and processes meet on it.

It listens on 127.0.0.1 only. A web page must not be able to drive it: a request with a browser's ``Origin``,
with the name of another host (DNS rebinding), or with another content type than JSON is refused.
"""

import json
import socket
import threading
import time
import weakref
from collections.abc import Mapping
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from twopm_kit.chain.jsonrpc import INVALID_REQUEST, PARSE_ERROR, Fault, Node
from twopm_kit.errors import ChainError, ChainUnavailable, DataError
from twopm_kit.untrusted import load_json

__all__ = ["Server"]

#: Largest body of a request, in bytes. The largest transaction is far below.
MOST_BYTES = 8 * 2**20
_MOST_CALLS = 1_000


class _HTTPServer(ThreadingHTTPServer):
    daemon_threads = True
    # queue of connections that were not accepted yet
    request_queue_size = 128

    def __init__(self, address: tuple[str, int], node: Node) -> None:
        self.node = node
        self.open: set[socket.socket] = set()
        self.open_lock = threading.Lock()
        self.hosts: frozenset[str] = frozenset()
        super().__init__(address, _Handler)

    def process_request(self, request: Any, client_address: Any) -> None:
        with self.open_lock:
            self.open.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        with self.open_lock:
            self.open.discard(request)
        super().shutdown_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Keep quiet about a client that hung up in the middle of a request."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = -1
    server: _HTTPServer

    def do_POST(self) -> None:
        """Answer one request, or a batch of them."""
        length = self.headers.get("Content-Length", "")
        refused = self._refusal(length)
        if refused is not None:
            self.close_connection = True
            self._answer(refused, {"error": refused.phrase})
            return
        body = self.rfile.read(int(length))
        try:
            question = load_json(body)
        except DataError:
            fault = Fault("the body is not JSON", code=PARSE_ERROR)
            self._answer(HTTPStatus.OK, {"jsonrpc": "2.0", "id": None, "error": fault.to_json()})
            return
        if isinstance(question, list) and 0 < len(question) <= _MOST_CALLS:
            self._answer(HTTPStatus.OK, [self._one(item) for item in question])
        else:
            self._answer(HTTPStatus.OK, self._one(question))

    def _refusal(self, length: str) -> HTTPStatus | None:
        host = self.headers.get("Host", "").lower()
        if self.headers.get("Origin") is not None or host not in self.server.hosts:
            return HTTPStatus.FORBIDDEN
        if self.headers.get_content_type() != "application/json":
            return HTTPStatus.UNSUPPORTED_MEDIA_TYPE
        if not (length.isascii() and length.isdigit()) or self.headers.get("Transfer-Encoding"):
            return HTTPStatus.LENGTH_REQUIRED
        if len(length) > 9 or int(length) > MOST_BYTES:
            return HTTPStatus.REQUEST_ENTITY_TOO_LARGE
        return None

    def _one(self, question: Any) -> dict[str, Any]:
        if not isinstance(question, Mapping):
            question = {}
        number, method, params = question.get("id"), question.get("method"), question.get("params", [])
        if not isinstance(number, int | str | float):
            number = None
        answer: dict[str, Any] = {"jsonrpc": "2.0", "id": number}
        try:
            if not isinstance(method, str) or not isinstance(params, list):
                raise Fault("a request has a method and a list of parameters", code=INVALID_REQUEST)
            answer["result"] = self.server.node.request(method, *params)
        except Fault as fault:
            answer["error"] = fault.to_json()
        except ChainUnavailable as closed:
            answer["error"] = Fault(closed.message).to_json()
        return answer

    def _answer(self, status: HTTPStatus, content: Any) -> None:
        body = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(body)

    def version_string(self) -> str:
        return "twopm"

    def log_message(self, *_: Any) -> None:
        """Write no access log."""


class Server:
    """A front of an embedded chain on 127.0.0.1. Made by ``chain.serve()``; a context manager.

    Whoever can run programs on this machine can use it, faucet and clock included: it is for development.

    Attributes
    ----------
    url : str
        What others pass to ``kit.chain.connect``.
    port : int
        The port.
    """

    def __init__(self, node: Node, port: int = 0) -> None:
        try:
            self._http = _HTTPServer(("127.0.0.1", port), node)
        except (OSError, OverflowError, TypeError) as error:
            raise ChainError(
                f"port {port!r} on 127.0.0.1 cannot be used: {error}", hint="leave port out to get a free one"
            ) from None
        self.port = int(self._http.server_address[1])
        self.url = f"http://127.0.0.1:{self.port}"
        self._http.hosts = frozenset({f"127.0.0.1:{self.port}", f"localhost:{self.port}"})
        self._thread = threading.Thread(
            target=self._http.serve_forever, kwargs={"poll_interval": 0.05}, name="twopm-chain", daemon=True
        )
        self._thread.start()
        self._end = weakref.finalize(self, _end, self._http, self._thread)

    def close(self) -> None:
        """Stop serving and hang up on everybody. Safe to call twice."""
        self._end()

    def __enter__(self) -> "Server":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<Server {self.url}>"


def _end(http: _HTTPServer, thread: threading.Thread) -> None:
    http.shutdown()
    thread.join()
    with http.open_lock:
        for connection in http.open:
            try:
                connection.shutdown(socket.SHUT_RDWR)
            except OSError:
                continue  # the other side hung up first
    give_up = time.monotonic() + 2
    while http.open and time.monotonic() < give_up:
        time.sleep(0.002)  # each connection's own thread closes it
    http.server_close()
