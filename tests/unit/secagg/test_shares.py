"""Shamir's sharing: every quorum reconstructs, fewer do not, zeros survive."""

from contextlib import suppress
from itertools import combinations

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from twopm_kit.errors import ProtocolError, TamperedMessage, TooFewSurvivors
from twopm_kit.secagg.shares import PRIME, SHARE_BYTES, combine, combine_despite_errors, share_value, split

repeatable = settings(derandomize=True, deadline=None, max_examples=50)
RECEIVERS = [bytes([i]) * 20 for i in range(1, 8)]


def test_the_prime_is_prime():
    d, s = PRIME - 1, 0
    while d % 2 == 0:
        d, s = d // 2, s + 1
    for base in (2, 3, 5, 7, 11, 13, 17, 19, 23, 29, 31, 37, 41, 43):
        powers = [pow(base, d << r, PRIME) for r in range(s)]
        assert powers[0] == 1 or PRIME - 1 in powers


@repeatable
@given(st.binary(min_size=32, max_size=32), st.integers(1, 7))
@example(bytes(32), 4)
@example(bytes(31) + b"\x01", 4)
@example(b"\x00" + b"\xff" * 31, 4)
@example(b"\xff" * 32, 7)
def test_any_quorum_reconstructs(secret, threshold):
    shares = split(secret, RECEIVERS, threshold)
    assert {len(share) for share in shares.values()} == {SHARE_BYTES}
    for chosen in list(combinations(RECEIVERS, threshold))[:10]:
        assert combine({a: shares[a] for a in chosen}, threshold) == secret
    assert combine(shares, threshold) == secret


def test_too_few_shares_are_refused_and_say_nothing():
    secret = bytes(32)
    shares = split(secret, RECEIVERS, 4)
    few = {a: shares[a] for a in RECEIVERS[:3]}
    with pytest.raises(TooFewSurvivors, match="3 shares, expected at least 4"):
        combine(few, 4)
    # Interpolating too few points anyway gives an unrelated number, nearly always no 32-byte zero.
    assert combine(shares, 4) == secret
    with suppress(TamperedMessage):
        assert combine(few, 3) != secret


def test_fresh_randomness_for_every_sharing():
    assert split(bytes(32), RECEIVERS, 3) != split(bytes(32), RECEIVERS, 3)


def test_a_changed_or_swapped_share_changes_the_secret():
    secret = bytes(range(32))
    shares = split(secret, RECEIVERS, 4)
    first, second = RECEIVERS[:2]
    swapped = shares | {first: shares[second], second: shares[first]}
    altered = shares | {first: ((share_value(shares[first]) + 1) % PRIME).to_bytes(SHARE_BYTES, "big")}
    for wrong in (swapped, altered):
        with suppress(TamperedMessage):
            assert combine(wrong, 4) != secret


@repeatable
@given(st.binary(min_size=32, max_size=32), st.integers(1, 5), st.data())
def test_wrong_shares_are_corrected_up_to_half_the_surplus(secret, threshold, data):
    shares = split(secret, RECEIVERS, threshold)
    wrong = data.draw(st.sets(st.sampled_from(RECEIVERS), max_size=(7 - threshold) // 2))
    for receiver in wrong:
        shift = data.draw(st.integers(1, PRIME - 1))
        shares[receiver] = ((share_value(shares[receiver]) + shift) % PRIME).to_bytes(SHARE_BYTES, "big")
    assert combine_despite_errors(shares, threshold) == secret


def test_more_wrong_shares_are_not_corrected():
    shares = split(bytes(32), RECEIVERS, 3)
    for receiver in RECEIVERS[:3]:
        shares[receiver] = ((share_value(shares[receiver]) + 1 + receiver[0] ** 5) % PRIME).to_bytes(
            33, "big"
        )
    with pytest.raises(TamperedMessage, match="more than 2 of 7"):
        combine_despite_errors(shares, 3)


def test_shares_of_a_value_that_is_no_secret_are_refused():
    value = (2**256).to_bytes(SHARE_BYTES, "big")
    with pytest.raises(TamperedMessage, match="polynomial"):
        combine({RECEIVERS[0]: value}, 1)


@pytest.mark.parametrize("share", [b"", bytes(32), bytes(34), PRIME.to_bytes(33, "big"), b"\xff" * 33])
def test_malformed_shares_are_refused(share):
    with pytest.raises(TamperedMessage):
        share_value(share)


@pytest.mark.parametrize(
    ("secret", "receivers", "threshold"),
    [
        (bytes(31), RECEIVERS, 3),
        (bytes(33), RECEIVERS, 3),
        (bytes(32), RECEIVERS, 0),
        (bytes(32), RECEIVERS, 8),
        (bytes(32), [RECEIVERS[0], RECEIVERS[0]], 1),
        (bytes(32), [bytes(20), RECEIVERS[0]], 1),
    ],
)
def test_impossible_sharings_are_refused(secret, receivers, threshold):
    with pytest.raises(ProtocolError):
        split(secret, receivers, threshold)
