"""A node that is no development chain: nothing unlocked, no time travel, gas estimated, no batches."""

import pytest

import twopm_kit as kit
from twopm_kit.chain.embedded import EmbeddedNode
from twopm_kit.chain.jsonrpc import UNKNOWN_METHOD, Fault
from twopm_kit.chain.server import Server
from twopm_kit.errors import AccountError, ChainError, ContractReverted

KEY = b"\x05" * 32


class PublicNode:
    """A chain behind the methods that a public node offers."""

    kind = "embedded"
    url = None

    def __init__(self, inner):
        self.inner = inner

    def request(self, method, *params):
        if method.startswith(("evm_", "anvil_", "twopm_", "eth_accounts", "eth_sendTransaction")):
            raise Fault(f"the method {method} does not exist", code=UNKNOWN_METHOD)
        return "Geth/v1.16" if method == "web3_clientVersion" else self.inner.request(method, *params)

    def close(self):
        self.inner.close()


@pytest.fixture
def public():
    inner = EmbeddedNode()
    with Server(PublicNode(inner)) as server, kit.chain.connect(server.url) as chain:
        rich = chain.account("rich", key=KEY)
        inner.request(
            "eth_sendTransaction",
            {"from": inner.request("eth_accounts")[0], "to": rich.address, "value": hex(10**18)},
        )
        yield chain
    inner.close()


def test_a_contract_works_there_with_estimated_gas(public):
    assert not public.is_development
    rich = public.account("rich")
    tally = public.deploy("Tally", 600, sender=rich)
    receipt = tally.add(5, sender=rich)
    assert tally.total() == 5
    limit = public.w3.eth.get_transaction(receipt.tx_hash)["gas"]
    assert receipt.gas <= limit < 2 * receipt.gas
    assert len(tally.events("Added")) == 1
    with pytest.raises(ContractReverted) as caught:
        tally.add(0, sender=rich)
    assert caught.value.reason == "add at least 1"
    with pytest.raises(ContractReverted, match="its gas is spent") as caught:
        tally.add(0, sender=rich, check=False, gas=100_000)
    assert caught.value.reason == "add at least 1"


def test_there_is_no_faucet(public):
    poor = public.account("poor")
    assert public.balance(poor) == 0
    with pytest.raises(AccountError, match="no faucet"):
        public.account("greedy", fund=1)
    with pytest.raises(AccountError, match="'poor' has 0 ether"):
        public.deploy("Tally", 600, sender=poor)


@pytest.mark.parametrize(
    "wish",
    [lambda c: c.snapshot(), lambda c: c.mine(), lambda c: c.warp(5)],
    ids=["snapshot", "mine", "warp"],
)
def test_time_travel_is_refused_with_a_hint(public, wish):
    with pytest.raises(ChainError, match="this chain cannot do") as caught:
        wish(public)
    assert "development chain" in caught.value.hint
