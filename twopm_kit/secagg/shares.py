"""Shamir's secret sharing of 32-byte secrets over the prime 2^256 + 297."""

import secrets
from collections.abc import Mapping, Sequence
from functools import lru_cache

from twopm_kit.errors import ProtocolError, TamperedMessage, TooFewSurvivors

__all__ = ["PRIME", "SECRET_BYTES", "SHARE_BYTES", "combine", "evaluation_point", "share_value", "split"]

PRIME = 2**256 + 297  # smallest prime above 2**256: every 32-byte secret is an element
SECRET_BYTES = 32
SHARE_BYTES = 33  # fixed width, so leading zeros survive


def evaluation_point(address: bytes) -> int:
    """Return x of a party's share: its address as an integer, so that a share belongs to its receiver."""
    return int.from_bytes(address, "big")


def share_value(share: bytes) -> int:
    """Parse a share.

    Raises
    ------
    TamperedMessage
        If it is not 33 bytes or not below the prime.
    """
    value = int.from_bytes(share, "big")
    if len(share) != SHARE_BYTES or value >= PRIME:
        raise TamperedMessage(
            f"a share has {SHARE_BYTES} bytes and lies below 2^256 + 297, got {len(share)} bytes",
            hint="Ignore this share and name the party that sent it.",
        )
    return value


def split(secret: bytes, receivers: Sequence[bytes], threshold: int) -> dict[bytes, bytes]:
    """Share a secret so that any `threshold` receivers can reconstruct it and fewer learn nothing.

    Parameters
    ----------
    secret : bytes
        32 bytes.
    receivers : sequence of bytes
        Distinct non-zero addresses.
    threshold : int
        1 <= threshold <= len(receivers).

    Returns
    -------
    dict
        Receiver → share of 33 bytes, big-endian.
    """
    points = {address: evaluation_point(address) for address in receivers}
    if len(secret) != SECRET_BYTES or not 1 <= threshold <= len(receivers):
        raise ProtocolError(
            f"cannot share {len(secret)} bytes among {len(receivers)} receivers with threshold {threshold}",
            hint=f"Pass {SECRET_BYTES} bytes and a threshold between 1 and the number of receivers.",
        )
    if len(points) != len(receivers) or 0 in points.values():
        raise ProtocolError(
            "two receivers have one address, or an address is zero",
            hint="Pass each receiver once; the share at zero would be the secret itself.",
        )
    coefficients = [int.from_bytes(secret, "big")]
    coefficients += [secrets.randbelow(PRIME) for _ in range(threshold - 1)]
    shares = {}
    for address, x in points.items():
        value = 0
        for coefficient in reversed(coefficients):
            value = (value * x + coefficient) % PRIME
        shares[address] = value.to_bytes(SHARE_BYTES, "big")
    return shares


@lru_cache(maxsize=256)
def _weights_at_zero(points: tuple[int, ...]) -> tuple[int, ...]:
    # The same openers serve every dealer of a round, so this row is computed once a round.
    row = []
    for j, x in enumerate(points):
        above, below = 1, 1
        for k, other in enumerate(points):
            if k != j:
                above = above * other % PRIME
                below = below * (other - x) % PRIME
        row.append(above * pow(below, -1, PRIME) % PRIME)
    return tuple(row)


def combine(shares: Mapping[bytes, bytes], threshold: int) -> bytes:
    """Reconstruct the 32-byte secret from the `threshold` shares with the lowest addresses.

    Raises
    ------
    TooFewSurvivors
        If there are fewer shares than the threshold.
    TamperedMessage
        If a share is malformed or the shares lead to a value that is no 32-byte secret.
    """
    if len(shares) < threshold:
        raise TooFewSurvivors(
            f"{len(shares)} shares, expected at least {threshold}",
            hint="Wait for more openings, or end the round without a result.",
        )
    chosen = sorted(shares)[:threshold]
    row = _weights_at_zero(tuple(evaluation_point(address) for address in chosen))
    value = sum(w * share_value(shares[a]) for w, a in zip(row, chosen, strict=True)) % PRIME
    if value >> (8 * SECRET_BYTES):
        raise TamperedMessage(
            "the shares do not lie on the polynomial of a 32-byte secret",
            hint="Name their dealer: it dealt shares that do not belong together.",
        )
    return value.to_bytes(SECRET_BYTES, "big")
