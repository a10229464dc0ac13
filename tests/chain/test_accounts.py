"""Accounts: one mechanism on every back end, and keys that stay where they are."""

import copy
import json
import pickle

import pytest

import twopm_kit as kit
from twopm_kit.errors import AccountError, SecretRefused

ETHER = 10**18
KEY = bytes(31) + b"\x07"


def test_an_account_is_made_once_and_funded(chain):
    alice = chain.account("alice")
    assert chain.account("alice") is alice
    assert chain.balance(alice) == chain.balance(alice.address) == 100 * ETHER
    assert chain.accounts == [alice]
    blocks = chain.block_number
    chain.account("alice", fund=50 * ETHER)  # has that much already
    assert chain.block_number == blocks
    chain.account("alice", fund=150 * ETHER)
    assert chain.balance(alice) == 150 * ETHER


def test_a_key_of_ones_own(chain):
    known = chain.account("known", key=KEY, fund=0)
    assert known.address == "0xd41c057fd1c78805AAC12B0A94a405c0461A6FBb"
    assert chain.account("known", key=KEY) is known
    assert chain.balance(known) == 0
    with pytest.raises(AccountError, match="exists with another key"):
        chain.account("known", key=bytes(31) + b"\x08")


def test_fresh_keys_differ(chain):
    assert len({chain.account(f"node {i}", fund=0).address for i in range(20)}) == 20


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"name": ""}, "cannot name an account"),
        ({"name": "x" * 65}, "cannot name an account"),
        ({"name": 5}, "cannot name an account"),
        ({"name": ["a"]}, "cannot name an account"),
        ({"name": "a", "key": b"short"}, "must be 32 bytes, not bytes of length 5"),
        ({"name": "a", "key": KEY.hex()}, "must be 32 bytes, not str of length 64"),
        ({"name": "a", "key": bytes(32)}, "not a valid secp256k1 key"),
        ({"name": "a", "key": b"\xff" * 32}, "not a valid secp256k1 key"),
        ({"name": "a", "fund": -1}, "fund must be a number of wei"),
        ({"name": "a", "fund": 1.5}, "fund must be a number of wei"),
        ({"name": "a", "fund": 10**40}, "faucet did not give"),
    ],
)
def test_wrong_accounts_are_refused_and_not_kept(chain, options, words):
    with pytest.raises(AccountError, match=words) as caught:
        chain.account(**options)
    assert caught.value.hint
    assert KEY.hex() not in str(caught.value)
    assert chain.accounts == []


def test_keys_never_leave(chain):
    account = chain.account("known", key=KEY, fund=0)
    for text in (repr(account), str(account), account._repr_html_(), repr(chain), chain._repr_html_()):
        assert KEY.hex() not in text
        assert "07" * 3 not in text
    for leak in (pickle.dumps, copy.copy, copy.deepcopy):
        with pytest.raises(SecretRefused, match="holds a key"):
            leak(account)
    with pytest.raises(TypeError):
        json.dumps(account)
    with pytest.raises(TypeError):
        vars(account)


def test_signatures_name_their_maker(chain):
    alice, bob = chain.account("alice", fund=0), chain.account("bob", fund=0)
    signature = alice.sign(b"share bundle")
    assert len(signature) == 65
    assert kit.chain.recover(b"share bundle", signature) == alice.address != bob.address
    assert kit.chain.recover(b"another bundle", signature) != alice.address
    with pytest.raises(AccountError, match="not a signature"):
        kit.chain.recover(b"share bundle", b"\x01\x02")


def test_html_is_escaped(chain):
    chain.account("<b>bold</b>", fund=0)
    assert "<b>" not in chain._repr_html_()


def test_two_connections_may_sign_with_one_key(chain, probe_artifact):
    alice = chain.account("alice", key=KEY)
    probe = chain.deploy(probe_artifact, 1, sender=alice)
    url = chain.url or chain.serve().url
    with kit.chain.connect(url) as other:
        same = other.account("me", key=KEY)
        theirs = other.at(probe_artifact, probe.address)
        for _ in range(5):
            probe.bump(sender=alice)
            theirs.bump(sender=same)
    assert probe.counter() == 10
