"""A Web3 object over any back end, for those who know that library."""

import itertools
import json
from typing import Any

from web3 import Web3
from web3.providers.base import JSONBaseProvider
from web3.types import RPCEndpoint, RPCResponse

from twopm_kit.chain.jsonrpc import Fault, Node

__all__ = ["open_web3"]


class _NodeProvider(JSONBaseProvider):
    """Carries web3's requests to the node, through the same door as the kit's own."""

    def __init__(self, node: Node) -> None:
        super().__init__()
        self._node = node
        self._ids = itertools.count(1)

    def make_request(self, method: RPCEndpoint, params: Any) -> RPCResponse:
        plain = json.loads(Web3.to_json({"params": list(params)}))["params"]
        answer: dict[str, Any] = {"jsonrpc": "2.0", "id": next(self._ids)}
        try:
            answer["result"] = self._node.request(method, *plain)
        except Fault as fault:
            answer["error"] = fault.to_json()
        return answer  # type: ignore[return-value]

    def is_connected(self, show_traceback: bool = False) -> bool:
        del show_traceback
        return True


def open_web3(node: Node) -> Web3:
    """Make a `Web3` object that speaks to a node."""
    return Web3(_NodeProvider(node))
