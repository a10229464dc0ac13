"""Several threads, several connections, several processes on one chain."""

import subprocess
import sys
import textwrap
from concurrent.futures import ThreadPoolExecutor

import pytest

import twopm_kit as kit
from twopm_kit.errors import ChainError, ChainUnavailable

THREADS, EACH = 8, 10


def test_eight_threads_with_ten_transactions_each(chain, probe):
    accounts = [chain.account(f"node {index}") for index in range(THREADS)]
    rows = len(chain.ledger)

    def work(account):
        return [probe.bump(sender=account) for _ in range(EACH)]

    with ThreadPoolExecutor(THREADS) as pool:
        receipts = [receipt for result in pool.map(work, accounts) for receipt in result]
    assert probe.counter() == THREADS * EACH
    assert [probe.seen(account) for account in accounts] == [EACH] * THREADS
    assert len({receipt.tx_hash for receipt in receipts}) == THREADS * EACH
    assert len(chain.ledger) == rows + THREADS * EACH
    numbers = [event["number"] for event in probe.events("Ping")]
    assert numbers == list(range(1, THREADS * EACH + 1))


def test_threads_may_share_an_account(chain, alice, probe):
    with ThreadPoolExecutor(THREADS) as pool:
        list(pool.map(lambda _: probe.bump(sender=alice), range(3 * THREADS)))
    assert probe.counter() == probe.seen(alice) == 3 * THREADS


def test_threads_may_make_accounts_and_read_meanwhile(chain, probe):
    def work(index):
        account = chain.account(f"node {index}")
        probe.bump(sender=account)
        return chain.balance(account) > 0 and probe.seen(account) == 1

    with ThreadPoolExecutor(THREADS) as pool:
        assert all(pool.map(work, range(2 * THREADS)))
    assert len(chain.accounts) == 2 * THREADS + 1


def test_two_connections_meet_on_one_chain(chain, alice, probe, probe_artifact):
    url = chain.url or chain.serve().url
    with kit.chain.connect(url) as other:
        assert other.kind == "rpc"
        assert other.chain_id == chain.chain_id
        bob = other.account("bob")
        theirs = other.at(probe_artifact, probe.address)
        cursor = theirs.cursor("Ping")
        probe.bump(sender=alice)
        theirs.bump(sender=bob)
        assert probe.counter() == theirs.counter() == 2
        assert [event["number"] for event in cursor.read()] == [1, 2]
        assert chain.balance(bob.address) == other.balance(bob) > 0
        # each ledger holds what went through its own connection
        assert [row.call for row in other.ledger.rows()] == ["bump"]
        with other.snapshot():
            theirs.bump(5, sender=bob)
            assert probe.counter() == 7
        assert probe.counter() == 2


SECOND_PROCESS = """
    import sys
    import twopm_kit as kit

    url, address = sys.argv[1:]
    with kit.chain.connect(url) as chain:
        carol = chain.account("carol")
        tally = chain.at("Tally", address)
        for number in range(1, 6):
            tally.add(number, sender=carol)
        try:
            tally.add(0, sender=carol)
        except kit.errors.ContractReverted as refused:
            print(tally.total(), refused.reason, chain.warp(30) > 0)
"""


def test_a_second_process_works_on_the_same_chain(chain, alice):
    tally = chain.deploy("Tally", 3_600, sender=alice)
    tally.add(10, sender=alice)
    url = chain.url or chain.serve().url
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", textwrap.dedent(SECOND_PROCESS), url, tally.address],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.stderr == ""
    assert done.stdout.strip() == "25 add at least 1 True"
    assert tally.total() == 25
    assert len(tally.events("Added")) == 6


def test_a_closed_connection_says_so(chain):
    chain.close()
    chain.close()
    with pytest.raises(ChainUnavailable, match="was closed"):
        chain.block_number  # noqa: B018
    assert "not reachable" in chain._repr_html_()


def test_only_the_embedded_chain_is_served(chain):
    if chain.kind == "embedded":
        with chain.serve() as server:
            assert server.url in repr(server)
    else:
        with pytest.raises(ChainError, match="has a URL already"):
            chain.serve()
