"""Any chain behind a URL: JSON-RPC over HTTP, by polling, with nothing kept open but idle connections."""

import itertools
import json
from collections.abc import Sequence
from typing import Any
from urllib.parse import SplitResult, unquote, urlsplit, urlunsplit
from urllib.request import getproxies, proxy_bypass

import urllib3

from twopm_kit.chain.jsonrpc import Call, Fault, to_plain
from twopm_kit.errors import ChainError, ChainUnavailable, DataError
from twopm_kit.untrusted import load_json

__all__ = ["HttpNode"]

_MOST_BYTES = 64 * 2**20
_HEADERS = {"Content-Type": "application/json", "Accept": "application/json", "User-Agent": "twopm-kit"}


class HttpNode:
    """A node behind an HTTP URL.

    Parameters
    ----------
    url : str
        Address of its JSON-RPC endpoint. It may hold a key, so only scheme and host are ever shown.
    timeout : float
        Seconds to wait for an answer.
    """

    kind = "rpc"

    def __init__(self, url: str, *, timeout: float = 30.0) -> None:
        self.url: str | None = url
        parts = _split(url)
        #: What may be shown of the URL.
        self.shown = f"{parts.scheme}://{parts.hostname}" + (f":{parts.port}" if parts.port else "")
        self._endpoint = urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))
        headers = dict(_HEADERS)
        if parts.username is not None:
            pair = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
            headers |= urllib3.make_headers(basic_auth=pair)
        self._ids = itertools.count(1)
        self._closed = False
        proxy = getproxies().get(parts.scheme)
        limits: dict[str, Any] = {
            "timeout": urllib3.Timeout(connect=min(timeout, 5.0), read=timeout),
            "retries": False,
            "maxsize": 16,
            "headers": headers,
        }
        use_proxy = proxy is not None and parts.hostname is not None and not proxy_bypass(parts.hostname)
        self._pool: urllib3.PoolManager = (
            urllib3.ProxyManager(str(proxy), **limits) if use_proxy else urllib3.PoolManager(**limits)
        )

    def request(self, method: str, *params: Any) -> Any:
        """Send one request; raise `Fault` when the node refuses it."""
        number = next(self._ids)
        body = {"jsonrpc": "2.0", "id": number, "method": method, "params": to_plain(params)}
        answer = self._post(body)
        return _result(answer, method)

    def batch(self, calls: Sequence[Call]) -> list[Any]:
        """Send several requests in one HTTP request; a refused one gives its `Fault` in its place."""
        numbers = [next(self._ids) for _ in calls]
        answers = self._post(
            [
                {"jsonrpc": "2.0", "id": number, "method": method, "params": to_plain(params)}
                for number, (method, params) in zip(numbers, calls, strict=True)
            ]
        )
        if not isinstance(answers, list):
            # some public nodes take no batches
            return [self._one(method, params) for method, params in calls]
        by_number = {item.get("id"): item for item in answers if isinstance(item, dict)}
        results: list[Any] = []
        for number, (method, _) in zip(numbers, calls, strict=True):
            try:
                results.append(_result(by_number.get(number), method))
            except Fault as fault:
                results.append(fault)
        return results

    def _one(self, method: str, params: list[Any]) -> Any:
        try:
            return self.request(method, *params)
        except Fault as fault:
            return fault

    def close(self) -> None:
        """Close the idle connections."""
        self._closed = True
        self._pool.clear()

    def _post(self, body: Any) -> Any:
        if self._closed:
            raise ChainUnavailable(
                f"this connection to {self.shown} was closed",
                hint="make a new one with kit.chain.connect(url)",
            )
        try:
            response = self._pool.request(
                "POST", self._endpoint, body=json.dumps(body).encode(), redirect=False, preload_content=False
            )
            try:
                content = response.read(_MOST_BYTES + 1, decode_content=True)
            finally:
                if response.length_remaining:
                    response.close()
                response.release_conn()
        except (urllib3.exceptions.HTTPError, OSError) as error:
            raise ChainUnavailable(
                f"nobody answers at {self.shown} ({type(error).__name__})",
                hint="start the node or correct the URL; kit.chain.connect() needs no node at all",
            ) from None
        if len(content) > _MOST_BYTES:
            raise ChainError(
                f"{self.shown} answered with more than {_MOST_BYTES:,} bytes",
                hint="ask for a smaller range of blocks",
            )
        return self._parse(content, response.status)

    def _parse(self, content: bytes, status: int) -> Any:
        try:
            answer = load_json(content)
        except DataError:
            answer = None
        if isinstance(answer, dict | list):
            return answer
        raise ChainUnavailable(
            f"{self.shown} answered with HTTP status {status} and not with JSON-RPC",
            hint="check that the URL is the one of an EVM node's JSON-RPC endpoint",
        )

    def __repr__(self) -> str:
        return f"<HttpNode {self.shown}>"


def _split(url: str) -> SplitResult:
    try:
        parts = urlsplit(url)
        if parts.hostname and parts.port != 0:
            return parts
    except ValueError:
        pass  # a broken address or port: the same remedy
    raise ChainUnavailable(
        "this is not the URL of a node: it has no valid host and port",
        hint="pass a URL such as http://127.0.0.1:8545",
    )


def _result(answer: Any, method: str) -> Any:
    if not isinstance(answer, dict) or ("result" not in answer and "error" not in answer):
        raise ChainError(
            f"the node's answer to {method} is not JSON-RPC", hint="check that the URL belongs to an EVM node"
        )
    if answer.get("error") is not None:
        raise Fault.from_json(answer["error"])
    return answer.get("result")
