"""Snapshots, mining, the clock and the ledger."""

import pandas as pd
import pytest

from twopm_kit.errors import CallError, ChainError, ContractReverted


def test_a_snapshot_as_a_plain_call_serves_again_and_again(chain, alice, probe):
    probe.bump(sender=alice)
    before = chain.snapshot()
    for _ in range(3):
        probe.bump(5, sender=alice)
        chain.mine(4)
        assert probe.counter() == 6
        before.revert()
        assert probe.counter() == 1
        assert chain.block_number == before.block
        assert len(probe.events("Ping")) == 1


def test_a_snapshot_as_a_block_reverts_at_its_end(chain, alice, probe):
    balance = chain.balance(alice)
    with chain.snapshot():
        probe.bump(sender=alice)
        assert probe.counter() == 1
    assert probe.counter() == 0
    assert chain.balance(alice) == balance

    def fail_inside():
        with chain.snapshot():
            probe.bump(sender=alice)
            probe.told(sender=alice)

    with pytest.raises(ContractReverted):
        fail_inside()
    assert probe.counter() == 0
    # the account's numbering went back as well
    probe.bump(sender=alice)
    assert probe.counter() == 1


def test_snapshots_nest_and_the_inner_ones_go_with_the_outer(chain, alice, probe):
    outer = chain.snapshot()
    probe.bump(sender=alice)
    inner = chain.snapshot()
    probe.bump(sender=alice)
    inner.revert()
    assert probe.counter() == 1
    outer.revert()
    assert probe.counter() == 0
    with pytest.raises(ChainError, match="is gone"):
        inner.revert()


def test_a_snapshot_of_the_very_beginning(chain):
    assert chain.block_number == 0
    start = chain.snapshot()
    alice = chain.account("alice")
    chain.mine(2)
    start.revert()
    assert chain.block_number == 0
    assert chain.balance(alice) == 0
    chain.account("bob")
    assert chain.block_number == 1


def test_mining(chain):
    before = chain.block_number
    assert chain.mine() == before + 1
    assert chain.mine(25) == before + 26
    for wrong in (0, -1, 1.5, "2", True):
        with pytest.raises(CallError):
            chain.mine(wrong)


def test_the_clock_moves_forward_only(chain, alice):
    tally = chain.deploy("Tally", 3_600, sender=alice)
    assert 3_500 <= tally.seconds_left() <= 3_600
    before, block = chain.timestamp, chain.block_number
    after = chain.warp(1_000)
    assert 1_000 <= after - before <= 1_100
    assert chain.block_number == block + 1
    assert 2_500 <= tally.seconds_left() <= 2_600
    tally.add(3, sender=alice)
    chain.warp(3_000)
    with pytest.raises(ContractReverted, match="too late"):
        tally.add(3, sender=alice)
    for wrong in (0, -5, 0.5):
        with pytest.raises(CallError):
            chain.warp(wrong)


def test_going_back_takes_the_clock_back(chain, alice):
    before = chain.timestamp
    with chain.snapshot():
        chain.warp(10**6)
    chain.mine()
    assert before <= chain.timestamp <= before + 100


def test_time_never_stands_still_for_long(chain):
    stamps = []
    for _ in range(5):
        chain.mine()
        stamps.append(chain.timestamp)
    assert stamps == sorted(stamps)


def test_tally_keeps_its_rules(chain, alice):
    bob = chain.account("bob")
    tally = chain.deploy("Tally", 600, sender=alice)
    tally.add(5, sender=bob)
    tally.add(7, sender=alice)
    assert (tally.total(), tally.added_by(bob), tally.owner()) == (12, 5, alice.address)
    assert [event["total"] for event in tally.events("Added")] == [5, 12]
    assert [event["amount"] for event in tally.events("Added", who=bob)] == [5]
    for amount, reason in ((0, "add at least 1"), (1001, "at most 1000 at a time")):
        with pytest.raises(ContractReverted) as caught:
            tally.add(amount, sender=bob)
        assert caught.value.reason == reason
    with pytest.raises(ContractReverted, match="only the owner may close before the deadline"):
        tally.close(sender=bob)
    with chain.snapshot():
        tally.close(sender=alice)
        assert tally.closed()
        assert tally.seconds_left() == 0
        for call in (lambda: tally.close(sender=alice), lambda: tally.add(1, sender=alice)):
            with pytest.raises(ContractReverted, match="the tally is closed"):
                call()
    chain.warp(601)
    [closed] = tally.close(sender=bob).events
    assert (closed.name, closed["total"]) == ("Closed", 12)


def test_the_ledger_knows_who_spent_what(chain, alice, probe):
    bob = chain.account("bob")
    with chain.ledger.section("round 1"):
        first = probe.bump(sender=alice)
        with chain.ledger.section("inside"):
            second = probe.bump(3, sender=bob)
        third = probe.pay(sender=bob, value=1)
    frame = chain.ledger.frame()
    assert list(frame.columns) == [
        "block",
        "sender",
        "contract",
        "call",
        "gas",
        "blob_gas",
        "status",
        "section",
    ]
    assert frame["call"].tolist() == ["deploy", "bump", "bump", "pay"]
    assert frame["section"].tolist() == ["", "round 1", "inside", "round 1"]
    assert frame["sender"].tolist() == ["alice", "alice", "bob", "bob"]
    assert frame["gas"].tolist()[1:] == [first.gas, second.gas, third.gas]
    assert set(frame["status"]) == {"ok"}
    assert chain.ledger.total() == frame["gas"].sum()
    bobs = second.gas + third.gas
    assert chain.ledger.total(bob) == chain.ledger.total("bob") == chain.ledger.total(bob.address) == bobs
    assert chain.ledger.total("nobody") == 0
    table = chain.ledger.by("sender", "call")
    assert table.loc[("bob", "pay"), "gas"] == third.gas
    assert table["calls"].sum() == 4
    assert chain.ledger.by("section").loc["round 1", "calls"] == 2
    assert "4 transactions" in repr(chain.ledger)
    assert "<table" in chain.ledger._repr_html_()
    for wrong in ((), ("gas",), ("colour",)):
        with pytest.raises(CallError, match="cannot be summed"):
            chain.ledger.by(*wrong)


def test_the_ledger_starts_empty_and_forgets_what_was_undone(chain, alice, probe):
    rows = len(chain.ledger)
    with chain.snapshot():
        probe.bump(sender=alice)
        assert len(chain.ledger) == rows + 1
    assert len(chain.ledger) == rows


def test_an_empty_ledger_is_a_table_too(chain):
    frame = chain.ledger.frame()
    assert isinstance(frame, pd.DataFrame)
    assert len(frame) == 0
    assert chain.ledger.total() == 0
    assert "0 transactions" in chain.ledger._repr_html_()


def test_web3_sees_the_same_chain(chain, alice, probe):
    probe.bump(sender=alice)
    w3 = chain.w3
    assert w3.eth.chain_id == chain.chain_id
    assert w3.eth.block_number == chain.block_number
    assert w3.eth.get_balance(alice.address) == chain.balance(alice)
    block = w3.eth.get_block("latest", full_transactions=True)
    assert block["transactions"][0]["from"] == alice.address
    receipt = w3.eth.get_transaction_receipt(block["transactions"][0]["hash"])
    assert receipt["status"] == 1
    contract = w3.eth.contract(address=probe.address, abi=probe.abi)
    assert contract.functions.counter().call() == 1
    assert contract.events.Ping().get_logs(from_block=0)[0]["args"]["number"] == 1
    tx_hash = contract.functions.bump(2).transact({"from": w3.eth.accounts[0]})
    assert w3.eth.wait_for_transaction_receipt(tx_hash, poll_latency=0.01)["status"] == 1
    assert probe.counter() == 3
    assert chain.w3 is w3
