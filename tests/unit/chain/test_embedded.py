"""The embedded node from inside: interrupts, and what a failed transaction must not leave behind."""

import subprocess
import sys

import pytest
import rlp
from trie import hexary
from trie.utils import nodes

import twopm_kit as kit
from twopm_kit.chain.embedded import BLOCK_GAS, EmbeddedNode
from twopm_kit.chain.evm_memory import lend_memory
from twopm_kit.chain.jsonrpc import Fault
from twopm_kit.errors import ChainUnavailable

SOMEBODY = "0x" + "11" * 20


@pytest.fixture
def node():
    fresh = EmbeddedNode()
    yield fresh
    fresh.close()


def give(node, wei=5):
    faucet = node.request("eth_accounts")[0]
    return node.request("eth_sendTransaction", {"from": faucet, "to": SOMEBODY, "value": hex(wei)})


def test_the_block_limit_is_lifted(node):
    assert int(node.request("eth_getBlockByNumber", "latest", False)["gasLimit"], 16) == BLOCK_GAS


def test_an_interrupt_after_mining_loses_nothing(node, monkeypatch):
    give(node)

    def interrupted(_block):
        raise KeyboardInterrupt

    monkeypatch.setattr(node, "_record", interrupted)
    with pytest.raises(KeyboardInterrupt):
        give(node)
    monkeypatch.undo()
    assert node.request("eth_blockNumber") == "0x2"
    assert node.request("eth_getBalance", SOMEBODY, "latest") == "0xa"
    assert node.request("eth_getBlockByNumber", "0x2", False)["transactions"]
    give(node)
    assert node.request("eth_blockNumber") == "0x3"


def test_an_interrupt_during_execution_leaves_no_trace(node, monkeypatch):
    give(node)

    def interrupted():
        raise KeyboardInterrupt

    monkeypatch.setattr(node, "_seal", interrupted)
    with pytest.raises(KeyboardInterrupt):
        give(node)
    monkeypatch.undo()
    assert node.request("eth_blockNumber") == "0x1"
    assert node.request("eth_getBalance", SOMEBODY, "pending") == "0x5"
    give(node)
    assert node.request("eth_getBalance", SOMEBODY, "latest") == "0xa"


def test_a_refused_transaction_leaves_no_trace(node):
    faucet = node.request("eth_accounts")[0]
    before = node.request("eth_getTransactionCount", faucet, "pending")
    with pytest.raises(Fault, match=r"insufficient|enough|balance"):
        give(node, 10**40)
    assert node.request("eth_getTransactionCount", faucet, "pending") == before
    assert node.request("eth_blockNumber") == "0x0"


def test_history_stays_readable(node):
    for _ in range(3):
        give(node)
    balances = [node.request("eth_getBalance", SOMEBODY, hex(block)) for block in range(4)]
    assert balances == ["0x0", "0x5", "0xa", "0xf"]
    with pytest.raises(Fault, match="no block 9"):
        node.request("eth_getBalance", SOMEBODY, "0x9")
    assert node.request("eth_getBlockByNumber", "0x9", False) is None


def test_a_reverted_history_is_replaced(node):
    give(node)
    moment = node.request("evm_snapshot")
    undone = give(node)
    assert node.request("eth_getTransactionReceipt", undone)["blockNumber"] == "0x2"
    assert node.request("evm_revert", moment) is True
    assert node.request("eth_getTransactionReceipt", undone) is None
    assert node.request("evm_revert", moment) is False
    node.request("evm_mine")
    assert node.request("eth_blockNumber") == "0x2"
    assert node.request("eth_getBlockByNumber", "0x2", False)["transactions"] == []
    assert node.request("eth_getBalance", SOMEBODY, "latest") == "0x5"


def test_estimates_are_enough_and_not_much_more(node):
    faucet = node.request("eth_accounts")[0]
    estimate = int(node.request("eth_estimateGas", {"from": faucet, "to": SOMEBODY, "value": "0x1"}), 16)
    assert 21_000 <= estimate < 22_500


def test_a_batch_gives_faults_in_their_places(node):
    number, fault, balance = node.batch(
        [("eth_blockNumber", []), ("nonsense", []), ("eth_getBalance", [SOMEBODY, "latest"])]
    )
    assert (number, balance) == ("0x0", "0x0")
    assert isinstance(fault, Fault)


def test_a_closed_node_is_unavailable(node):
    node.close()
    with pytest.raises(ChainUnavailable, match="was closed"):
        node.request("eth_blockNumber")


def test_the_light_import_needs_neither_compiler_nor_evm():
    heavy = ("eth", "web3", "vyper", "pandas")
    script = f"import sys, twopm_kit.chain; print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout.strip() == "[]"


def test_the_example_in_the_room_is_true():
    with kit.chain.connect("embedded") as chain:
        alice = chain.account("alice")
        tally = chain.deploy("Tally", 3_600, sender=alice)
        shown = repr(tally.add(5, sender=alice))
        assert shown in kit.chain.__doc__
        assert tally.total() == 5


def test_what_the_evm_remembers_cannot_be_changed_by_who_gets_it():
    short, long = [b"\x20" + b"k" * 8, b"v"], [bytes([index]) * 32 for index in range(17)]
    nested = [*long[:-2], short, b""]
    for node in (short, long, nested):
        encoded = rlp.encode(node)
        first = hexary.decode_node(encoded)
        assert first == rlp.decode(encoded) == node
        first[0] = b"changed"
        if isinstance(first[-2], list):
            first[-2][0] = b"changed"
        assert hexary.decode_node(encoded) == node
    assert hexary.decode_node(b"") == b""
    assert hexary.decode_node(short) is short
    # lent once, however many chains are made
    before = hexary.decode_node, hexary.bytes_to_nibbles, nodes.decode_nibbles
    lend_memory()
    assert before == (hexary.decode_node, hexary.bytes_to_nibbles, nodes.decode_nibbles)


def test_blobs_have_their_price(node):
    assert node.request("eth_blobBaseFee") == "0x1"
    block = node.request("eth_getBlockByNumber", "latest", False)
    assert (block["blobGasUsed"], block["excessBlobGas"]) == ("0x0", "0x0")
    for bad in ("0x03", "0x03c0", "0x03c3808080", "0x03" + rlp.encode([[], [], [], []]).hex()):
        with pytest.raises(Fault):
            node.request("eth_sendRawTransaction", bad)
