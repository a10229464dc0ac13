"""Reading, sending, and every way in which a call can be refused."""

import dataclasses

import numpy as np
import pytest
from eth_utils.crypto import keccak

from twopm_kit.errors import (
    AccountError,
    CallError,
    ChainError,
    ContractReverted,
    UnknownContract,
    UnknownMember,
)

ETHER = 10**18
SOMEBODY = "0x00000000000000000000000000000000000000AA"

REFUSALS = [
    ("told", (), "told you so"),
    ("silent", (), ""),
    ("panics", (0x11,), "panic 0x11: arithmetic overflow or underflow"),
    ("panics", (0x32,), "panic 0x32: index out of bounds"),
    ("panics", (0x77,), "panic 0x77: unknown code"),
    ("custom", (5,), "Custom"),
    ("garbage", (), "unreadable reason of 6 bytes"),
    ("overflows", (1,), ""),
    ("unreachable", (), "invalid instruction"),
    ("burn", (), "out of gas"),
]


@pytest.mark.parametrize(("method", "arguments", "reason"), REFUSALS)
def test_a_refusal_has_the_same_reason_everywhere(chain, alice, probe, method, arguments, reason):
    before, gas = chain.block_number, chain.ledger.total()
    with pytest.raises(ContractReverted) as caught:
        probe.method(method)(*arguments, sender=alice)
    assert caught.value.reason == reason
    assert f"Probe.{method}" in str(caught.value)
    assert caught.value.hint
    # the node could tell, so nothing was sent and nothing was spent
    assert chain.block_number == before
    assert chain.ledger.total() == gas


@pytest.mark.parametrize(("method", "arguments", "reason"), REFUSALS)
def test_a_mined_refusal_has_the_same_reason_and_costs_gas(chain, alice, probe, method, arguments, reason):
    before = chain.block_number
    with pytest.raises(ContractReverted, match=f"in block {before + 1}; its gas is spent") as caught:
        probe.method(method)(*arguments, sender=alice, check=False)
    assert caught.value.reason == reason
    last = chain.ledger.rows()[-1]
    assert (last.call, last.status, last.block) == (method, "reverted", before + 1)
    assert last.gas > 21_000
    assert probe.counter() == 0


def test_reading_calls_are_refused_with_their_reason_too(probe):
    with pytest.raises(ContractReverted) as caught:
        probe.told_reading()
    assert caught.value.reason == "told you so"
    with pytest.raises(ContractReverted) as caught:
        probe.item(3)
    assert caught.value.reason == ""
    assert probe.item(2) == 30


def test_a_custom_error_without_a_name_shows_its_selector(chain, alice, probe_artifact):
    nameless = dataclasses.replace(
        probe_artifact, abi=[entry for entry in probe_artifact.abi if entry["type"] != "error"]
    )
    probe = chain.deploy(nameless, 1, sender=alice)
    with pytest.raises(ContractReverted) as caught:
        probe.custom(1, sender=alice)
    assert caught.value.reason == f"custom error 0x{keccak(b'Custom(uint256)')[:4].hex()}"


def test_a_refusing_constructor_leaves_no_contract(chain, alice, probe_artifact):
    before = chain.block_number
    with pytest.raises(ContractReverted) as caught:
        chain.deploy(probe_artifact, 100, sender=alice)
    assert caught.value.reason == "the start is too large"
    assert chain.block_number == before


def test_the_check_looks_at_the_block_that_the_transaction_will_be_in(chain, alice, probe):
    with pytest.raises(ContractReverted, match="too early"):
        probe.not_before(chain.block_number + 2, sender=alice)
    receipt = probe.not_before(chain.block_number + 1, sender=alice)
    assert receipt.block == chain.block_number


def test_values_come_back_as_they_went(chain, alice, probe):
    word, data = bytes(range(32)), b"\x00\x01"
    values = probe.echo(True, -128, alice, word, "grün", data, [1, 2, 3])
    assert values == (True, -128, alice.address, word, "grün", data, [1, 2, 3])
    assert probe.echo(False, np.int64(7), bytes(20), "0x" + word.hex(), "", b"", np.array([1, 2, 3]))[1] == 7
    assert probe.start() == 7
    assert probe.plus() == 3
    assert probe.plus(5) == 7
    assert probe.plus(5, 5) == 10


def test_structs_are_named_tuples(probe, alice):
    pair = probe.one({"left": 4, "right": alice})
    assert (pair.left, pair.right) == (4, alice.address)
    assert probe.one(pair) == pair
    assert probe.swap([pair, (9, SOMEBODY)]) == [(5, alice.address), (10, SOMEBODY)]
    assert probe.swap([]) == []


def test_a_name_that_is_taken_is_reached_through_method(probe):
    assert probe.name == "Probe"
    assert probe.method("name")() == "probe"
    assert "counter" in dir(probe)


def test_the_sender_and_the_block_of_a_reading_call(chain, alice, probe):
    assert probe.caller(sender=alice) == alice.address
    assert probe.caller() == "0x" + "0" * 40
    number, stamp = probe.now()
    assert (number, stamp) == (chain.block_number, chain.timestamp)
    probe.bump(sender=alice)
    assert probe.counter(block=chain.block_number - 1) == 0
    assert probe.counter(block=chain.block_number) == probe.counter() == 1


def test_coins_travel_with_a_call(chain, alice, probe, probe_artifact):
    probe.pay(sender=alice, value=123)
    assert chain.balance(probe) == 123
    assert probe.counter() == 123
    rich = chain.deploy(probe_artifact, 1, sender=alice, value=55)
    assert chain.balance(rich.address) == 55
    receipt = chain.transfer(SOMEBODY, 77, sender=alice)
    assert chain.balance(SOMEBODY) == 77
    assert (receipt.call, receipt.gas) == ("transfer", 21_000)


def test_a_deployment_has_its_receipt(chain, alice, probe, probe_artifact):
    assert probe.deployment.call == "deploy"
    assert probe.deployment.gas == chain.ledger.rows()[0].gas
    assert chain.at(probe_artifact, probe).deployment is None


def test_a_receipt_tells_what_happened(chain, alice, probe):
    receipt = probe.bump(2, sender=alice)
    assert receipt.block == chain.block_number
    assert receipt.tx_hash.startswith("0x")
    assert len(receipt.tx_hash) == 66
    assert (receipt.call, receipt.sender, receipt.contract) == ("bump", alice.address, "Probe")
    assert [event.name for event in receipt.events] == ["Ping", "Ping"]
    assert receipt.events[0]["number"] == 2
    assert receipt.gas == chain.ledger.rows()[-1].gas
    assert "Probe.bump" in repr(receipt)
    assert "Ping" in receipt._repr_html_()


WRONG_CALLS = [
    (lambda p, _: p.echo(True), "takes 7 arguments, 1 were passed"),
    (lambda p, _: p.item("1"), "must be an integer, not str"),
    (lambda p, _: p.item(True), "must be an integer, not bool"),
    (lambda p, _: p.item(1.0), "must be an integer, not float"),
    (lambda p, _: p.item(-1), "does not fit uint256"),
    (lambda p, _: p.item(2**256), "does not fit uint256"),
    (lambda p, a: p.echo(1, 0, a, bytes(32), "", b"", [1, 2, 3]), "flag must be bool, not int"),
    (lambda p, a: p.echo(True, 128, a, bytes(32), "", b"", [1, 2, 3]), "128 does not fit int8"),
    (lambda p, _: p.echo(True, 0, "0xabc", bytes(32), "", b"", [1, 2, 3]), "must be an address"),
    (lambda p, a: p.echo(True, 0, a, bytes(31), "", b"", [1, 2, 3]), "31 bytes were passed"),
    (lambda p, a: p.echo(True, 0, a, bytes(32), b"", b"", [1, 2, 3]), "text must be string, not bytes"),
    (lambda p, a: p.echo(True, 0, a, bytes(32), "", "x", [1, 2, 3]), "data must be bytes, not str"),
    (lambda p, a: p.echo(True, 0, a, bytes(32), "", b"", [1, 2]), "must have 3 entries, 2 were passed"),
    (lambda p, _: p.swap({"left": 1}), "must be a list"),
    (lambda p, _: p.one({"left": 1}), "has the fields left; expected left, right"),
    (lambda p, _: p.one((1,)), "must be a struct"),
    (lambda p, _: p.counter(value=1), "reads only and does not take value"),
    (lambda p, a: p.bump(1, sender=a, block=3), "sends a transaction and does not take block"),
    (lambda p, _: p.bump(1), "needs sender=, an account; nothing was passed"),
    (lambda p, a: p.bump(1, sender=a.address), "needs sender=, an account; str was passed"),
    (lambda p, a: p.bump(1, sender=a, value=5), "takes no coins"),
    (lambda p, a: p.pay(sender=a, value=-5), "value must be a whole number"),
    (lambda p, a: p.pay(sender=a, gas="lots"), "gas must be a whole number"),
]


@pytest.mark.parametrize(("call", "words"), WRONG_CALLS)
def test_wrong_calls_are_refused_before_they_reach_the_chain(chain, alice, probe, call, words):
    before = chain.block_number
    with pytest.raises(CallError) as caught:
        call(probe, alice)
    assert words in caught.value.message
    assert caught.value.hint
    assert chain.block_number == before


def test_a_wrong_argument_is_not_repeated_in_the_error(probe):
    with pytest.raises(CallError) as caught:
        probe.one(b"secret" * 5)
    assert "secret" not in str(caught.value)


def test_unknown_things_are_named(chain, alice, probe):
    with pytest.raises(UnknownMember, match="no method 'bmup'"):
        probe.bmup(sender=alice)
    with pytest.raises(AttributeError):
        probe._private  # noqa: B018
    assert not hasattr(probe, "nothing")
    with pytest.raises(UnknownMember, match="no event 'Pong'"):
        probe.events("Pong")
    with pytest.raises(UnknownContract, match="no compiled contract called 'Tallly'"):
        chain.deploy("Tallly", sender=alice)
    with pytest.raises(UnknownContract, match="no compiled contract called"):
        chain.deploy("../build/Tally", sender=alice)
    with pytest.raises(UnknownContract, match="int is not a contract"):
        chain.deploy(5, sender=alice)
    with pytest.raises(UnknownContract, match="there is no contract at"):
        chain.at("Tally", alice)
    with pytest.raises(CallError, match="must be an address"):
        chain.at("Tally", "nowhere")


def test_the_wrong_abi_is_noticed(chain, alice, probe, probe_artifact):
    tally = chain.deploy("Tally", 60, sender=alice)
    mistaken = chain.at(probe_artifact, tally)
    with pytest.raises((ChainError, ContractReverted)):
        mistaken.echo(True, 0, alice, bytes(32), "", b"", [1, 2, 3])


def test_too_little_money_is_an_account_error(chain, probe):
    poor = chain.account("poor", fund=0)
    with pytest.raises(AccountError, match="'poor' has 0 ether") as caught:
        probe.bump(sender=poor)
    assert "fund=" in caught.value.hint
    poor = chain.account("poor", fund=ETHER)
    with pytest.raises(AccountError, match="too little"):
        probe.pay(sender=poor, value=2 * ETHER)
    # enough for the gas that is used, though not for the largest limit
    modest = chain.account("modest", fund=ETHER // 1000)
    probe.bump(sender=modest)


def test_a_gas_limit_that_is_too_low_runs_out(alice, probe):
    with pytest.raises(ContractReverted) as caught:
        probe.bump(16, sender=alice, gas=40_000)
    assert caught.value.reason == "out of gas"


def test_dice_differ_from_block_to_block(alice, probe):
    rolls = set()
    for _ in range(4):
        probe.roll(sender=alice)
        rolls.add(probe.dice())
    assert len(rolls) == 4


def test_contracts_show_themselves(probe):
    assert repr(probe) == f"<Contract Probe at {probe.address}>"
    html = probe._repr_html_()
    assert "bump(times: uint256)" in html
    assert "script" not in html
    assert "plus(a: uint256, b: uint256)" in repr(probe.plus)
    assert probe.bump.encode(1)[:4] != probe.bump.encode()[:4]


def test_a_look_alike_is_told_from_the_contract_itself(chain, alice):
    tally = chain.deploy("Tally", 60, sender=alice)  # has immutable values behind its code
    assert chain.at("Tally", tally.address, exact=True).address == tally.address
    board = chain.deploy("SecureRound", tally.address, sender=alice)
    assert chain.at("SecureRound", board.address, exact=True).address == board.address
    assert chain.at("SecureRound", tally.address).address == tally.address
    with pytest.raises(UnknownContract, match="not that of SecureRound"):
        chain.at("SecureRound", tally.address, exact=True)
