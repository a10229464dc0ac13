"""Lends py-evm a memory, so that it does not work out again and again what does not change.

All of it replaces pure functions by the same functions with a memory, under the names by which py-evm and its
trie library call them; nothing of their state or results is touched. A round on the embedded chain takes a
sixth less time for it.
"""

from functools import cache, lru_cache
from typing import Any

from eth.precompiles import point_evaluation
from trie import hexary
from trie.utils import nodes

from twopm_kit import kzg

__all__ = ["lend_memory"]

_MOST = 1 << 14
_decode_node = nodes.decode_node


@cache
def lend_memory() -> None:
    """Do it, once a process."""
    # The precompile 0x0a reads the ceremony's file (1.5 s) at every call. It has the points that we have.
    point_evaluation.load_trusted_setup = lambda *_: kzg.trusted_setup()  # type: ignore[attr-defined]
    # Each storage slot that is read walks down a trie: keys become half bytes, nodes are decoded. Most nodes
    # are those of the block before.
    hexary.bytes_to_nibbles = lru_cache(_MOST)(hexary.bytes_to_nibbles)  # type: ignore[attr-defined]
    nodes.decode_nibbles = lru_cache(_MOST)(nodes.decode_nibbles)  # type: ignore[attr-defined]
    hexary.decode_node = _remembered_node  # type: ignore[assignment,attr-defined]


def _remembered_node(encoded: bytes | list[Any]) -> bytes | list[Any]:
    if isinstance(encoded, bytes) and len(encoded) >= 32:
        node = _flat_node(encoded)
        if node is not None:
            return list(node)  # the trie changes the list that it gets
    return _decode_node(encoded)


@lru_cache(_MOST)
def _flat_node(encoded: bytes) -> tuple[bytes, ...] | None:
    node = _decode_node(encoded)
    # a node that holds another one inside is decoded anew: a copy would share the inner list
    return tuple(node) if all(isinstance(item, bytes) for item in node) else None  # type: ignore[arg-type]
