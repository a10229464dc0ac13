"""Shamir's secret sharing of 32-byte secrets over the prime 2^256 + 297."""

import secrets
from collections.abc import Mapping, Sequence
from functools import lru_cache

from twopm_kit.errors import ProtocolError, TamperedMessage, TooFewSurvivors

__all__ = [
    "PRIME",
    "SECRET_BYTES",
    "SHARE_BYTES",
    "combine",
    "combine_despite_errors",
    "evaluation_point",
    "share_value",
    "split",
]

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


def combine_despite_errors(shares: Mapping[bytes, bytes], threshold: int) -> bytes:
    """Reconstruct the secret although up to ⌊(shares − threshold) / 2⌋ shares are off the polynomial.

    Berlekamp and Welch: find E (monic, of the number of errors as degree, zero at wrong points) and Q = f·E
    with Q(x) = y·E(x) at every point; then f = Q / E. Takes some milliseconds at 50 shares, so it is for the
    case that `combine` gave the wrong secret.

    Raises
    ------
    TamperedMessage
        If more shares are wrong than can be corrected.
    """
    errors = max((len(shares) - threshold) // 2, 0)
    degree = threshold + errors  # Q has this many coefficients
    rows = []
    for address, share in shares.items():
        x, y = evaluation_point(address), share_value(share)
        powers = [pow(x, k, PRIME) for k in range(degree)]
        right = y * pow(x, errors, PRIME) % PRIME
        rows.append([*powers, *(-y * powers[k] % PRIME for k in range(errors)), right])
    solution = _solve(rows)
    value = _constant_of_quotient(solution[:degree], [*solution[degree:], 1]) if solution else None
    if value is None or value >> (8 * SECRET_BYTES):
        raise TamperedMessage(
            f"more than {errors} of {len(shares)} shares are off the polynomial of a 32-byte secret",
            hint="Name their dealer: it dealt shares that do not belong together.",
        )
    return value.to_bytes(SECRET_BYTES, "big")


def _constant_of_quotient(dividend: list[int], divisor: list[int]) -> int | None:
    """Divide by a monic polynomial (coefficients from low to high); None if there is a remainder."""
    rest, shift = list(dividend), len(divisor) - 1
    for k in range(len(rest) - 1, shift - 1, -1):
        for i, coefficient in enumerate(divisor[:-1]):
            rest[k - shift + i] = (rest[k - shift + i] - rest[k] * coefficient) % PRIME
    return None if any(rest[:shift]) else rest[shift]


def _solve(rows: list[list[int]]) -> list[int]:
    """Solve a linear system mod the prime, right side last; free unknowns are 0, no solution is []."""
    unknowns = len(rows[0]) - 1
    pivots: list[int] = []
    for column in range(unknowns):
        done = len(pivots)
        pivot = next((r for r in range(done, len(rows)) if rows[r][column]), None)
        if pivot is None:
            continue
        rows[done], rows[pivot] = rows[pivot], rows[done]
        inverse = pow(rows[done][column], -1, PRIME)
        top = rows[done] = [v * inverse % PRIME for v in rows[done]]
        for r, row in enumerate(rows):
            if r != done and (factor := row[column]):
                rows[r] = [(v - factor * w) % PRIME for v, w in zip(row, top, strict=True)]
        pivots.append(column)
    if any(row[-1] for row in rows[len(pivots) :]):
        return []
    solution = [0] * unknowns
    for row, column in zip(rows, pivots, strict=False):
        solution[column] = row[-1]
    return solution
