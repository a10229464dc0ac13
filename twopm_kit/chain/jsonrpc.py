"""The one door to a node: JSON-RPC requests, and the fault that a node answers with."""

import re
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from twopm_kit.errors import ChainError

__all__ = ["Call", "Fault", "Node", "as_bytes", "as_int", "to_plain"]

#: A request: the method's name and its parameters, already in JSON's own types.
Call = tuple[str, list[Any]]

_HEX = re.compile(r"0x[0-9a-fA-F]*")

#: Codes of the JSON-RPC 2.0 specification (section 5.1) and of EIP-1474; 3 is what nodes use for a revert.
PARSE_ERROR = -32700
INVALID_REQUEST = -32600
UNKNOWN_METHOD = -32601
INVALID_PARAMS = -32602
REFUSED = -32000
REVERTED = 3


class Fault(ChainError):
    """A node's refusal, as it came over JSON-RPC.

    Parameters
    ----------
    message : str
        The node's own words.
    code : int
        JSON-RPC error code.
    data : bytes or None
        What a reverting contract returned; None when the fault is not a revert.
    """

    def __init__(self, message: str, *, code: int = REFUSED, data: bytes | None = None) -> None:
        super().__init__(
            f"the node refused the request: {message}", hint="read the node's words and correct the request"
        )
        self.words = message
        self.code = code
        self.data = data

    @classmethod
    def from_json(cls, error: Any) -> "Fault":
        """Read the ``error`` member of an answer, whatever the node put in it."""
        if not isinstance(error, Mapping):
            return cls(str(error)[:500])
        code = error.get("code")
        return cls(
            str(error.get("message", ""))[:2000],
            code=code if isinstance(code, int) else REFUSED,
            data=_revert_data(error.get("data")),
        )

    def to_json(self) -> dict[str, Any]:
        """Give the ``error`` member of an answer."""
        answer: dict[str, Any] = {"code": self.code, "message": self.words}
        if self.data is not None:
            answer["data"] = "0x" + self.data.hex()
        return answer


def _revert_data(data: Any) -> bytes | None:
    """Find the returned bytes: nodes put them directly under ``data`` or one level deeper."""
    if isinstance(data, Mapping):
        return _revert_data(data.get("data", data.get("result")))
    if isinstance(data, str) and _HEX.fullmatch(data) and len(data) % 2 == 0:
        return bytes.fromhex(data[2:])
    return None


class Node(Protocol):
    """What each back end offers; everything above it is the same on all of them."""

    kind: str
    url: str | None

    def request(self, method: str, *params: Any) -> Any:
        """Send one request; raise `Fault` when the node refuses it."""
        ...

    def batch(self, calls: Sequence[Call]) -> list[Any]:
        """Send several requests in one go; a refused one gives its `Fault` in its place."""
        ...

    def close(self) -> None:
        """Let go of whatever the back end holds. Safe to call twice."""
        ...


def as_int(value: Any) -> int:
    """Read a quantity from a node's answer (``0x`` and hexadecimal digits)."""
    if isinstance(value, str) and len(value) > 2 and _HEX.fullmatch(value) and len(value) <= 66:
        return int(value, 16)
    raise ChainError(
        f"the node answered with {str(value)[:80]!r} where a number in hexadecimal was expected",
        hint="check that the URL belongs to an EVM node",
    )


def as_bytes(value: Any) -> bytes:
    """Read bytes from a node's answer (``0x`` and pairs of hexadecimal digits)."""
    if isinstance(value, str) and _HEX.fullmatch(value) and len(value) % 2 == 0:
        return bytes.fromhex(value[2:])
    raise ChainError(
        f"the node answered with {str(value)[:80]!r} where bytes in hexadecimal were expected",
        hint="check that the URL belongs to an EVM node",
    )


def to_plain(value: Any) -> Any:
    """Turn Python values into what JSON-RPC carries: integers and bytes become hexadecimal."""
    if value is None or isinstance(value, bool | str | float):
        return value
    if isinstance(value, int):
        return hex(value)
    if isinstance(value, bytes | bytearray):
        return "0x" + bytes(value).hex()
    if isinstance(value, Mapping):
        return {str(key): to_plain(item) for key, item in value.items()}
    return [to_plain(item) for item in value]
