"""Who shares masks and shares with whom: a ring of neighbours, as few of them as keep a round safe."""

import math
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache

from twopm_kit.errors import ProtocolError, RoundConfigError

__all__ = ["COMPLETE_GRAPH_LIMIT", "MAX_MEMBERS", "Graph", "complete_graph", "find_graph"]

COMPLETE_GRAPH_LIMIT = 50
"""Up to this many members, everybody is everybody's neighbour."""
MAX_MEMBERS = 1000
SECURITY_BITS = 40
CORRECTNESS_BITS = 20


@dataclass(frozen=True)
class Graph:
    """Neighbours of the members of one round, who stand in a ring in the order of the roster.

    Parameters
    ----------
    members : int
        n, at least 2.
    degree : int
        k: n - 1 for the complete graph, else an even number below it; then the member at position p is a
        neighbour of p ± 1, …, p ± k/2 modulo n (Harary's circulant graph).
    threshold : int
        t: how many of the k + 1 shares of a secret reconstruct it.

    Raises
    ------
    RoundConfigError
        If no such graph exists.
    """

    members: int
    degree: int
    threshold: int

    def __post_init__(self) -> None:
        n, k, t = self.members, self.degree, self.threshold
        if n < 2 or not (k == n - 1 or (2 <= k < n - 1 and k % 2 == 0)):
            raise RoundConfigError(
                f"{n} members with {k} neighbours each: expected at least 2 members, and n - 1 neighbours or "
                "an even number of them below that",
                hint="Let find_graph choose the degree.",
            )
        if not 1 <= t <= k + 1:
            raise RoundConfigError(
                f"threshold {t}, expected 1 to {k + 1}, the number of shares of a secret",
                hint="Let find_graph choose the threshold.",
            )

    @property
    def complete(self) -> bool:
        """Whether everybody is everybody's neighbour."""
        return self.degree == self.members - 1

    def neighbours(self, position: int) -> tuple[int, ...]:
        """Positions that share a mask with `position`, in the order of `receivers`."""
        return self.receivers(position)[1:]

    def receivers(self, dealer: int) -> tuple[int, ...]:
        """Positions that hold a share of `dealer`, itself first: offsets 0 … k/2, then n - k/2 … n - 1."""
        n, k = self.members, self.degree
        ahead = k if self.complete else k // 2
        offsets = (*range(ahead + 1), *range(n - (k - ahead), n))
        return tuple((dealer + offset) % n for offset in offsets)

    def adjacent(self, one: int, other: int) -> bool:
        """Whether two positions are neighbours; nobody is its own."""
        offset = (other - one) % self.members
        reach = self.degree if self.complete else self.degree // 2
        return 0 < min(offset, self.members - offset) <= reach

    def index(self, dealer: int, receiver: int) -> int:
        """Place of `receiver` in ``receivers(dealer)``, without making the list.

        Raises
        ------
        ProtocolError
            If the two are not neighbours.
        """
        if dealer != receiver and not self.adjacent(dealer, receiver):
            raise ProtocolError(
                f"position {receiver} holds no share of position {dealer}: they are not neighbours",
                hint="Ask a neighbour of the dealer.",
            )
        offset = (receiver - dealer) % self.members
        if self.complete or offset <= self.degree // 2:
            return offset
        return offset - (self.members - 1 - self.degree)


def complete_graph(members: int, gamma: float, delta: float, *, single_list: bool = True) -> Graph:
    """Return the complete graph with the least threshold; see `find_graph`, also for what is raised."""
    corrupt, staying = _share_of(gamma, members), members - _share_of(delta, members)
    least = max(members // 2, corrupt if single_list else (members + corrupt) // 2) + 1
    if least > staying:
        raise RoundConfigError(
            f"{members} members need a threshold of at least {least} against gamma={gamma}, but with "
            f"delta={delta} only {staying} are sure to stay",
            hint="Lower delta (below one half) or gamma, or choose other member counts.",
        )
    return Graph(members, members - 1, least)


@lru_cache(maxsize=256)
def find_graph(
    members: int, gamma: float, delta: float, *, single_list: bool = True, least: int | None = None
) -> Graph:
    """Find the smallest degree k, and for it the smallest threshold t, that keep a round safe and alive.

    Parameters
    ----------
    members : int
        n, from 2 to `MAX_MEMBERS`.
    gamma, delta : float
        Largest fraction of members that collude, and that drop out.
    single_list : bool
        True: everybody sees one final survivor list. False: somebody could tell different members different
        lists.
    least : int, optional
        The same k and t must serve every member count from this one to `members` (where k < n - 1); left
        out, `members` alone.

    Returns
    -------
    Graph
        Complete up to `COMPLETE_GRAPH_LIMIT` members, and above where no smaller even degree will do.

    Raises
    ------
    RoundConfigError
        If no threshold fits.

    Notes
    -----
    An attacker who wants one member's vector needs both of its secrets, b and s, hence t shares of each
    kind. Those of its X members among the dealer's neighbours give it both kinds. An honest neighbour opens
    one kind per dealer, and which kind follows from the survivor list alone. The chain freezes that list
    once, so for a given dealer all honest members open the same kind, and of the other kind the attacker
    holds its own X shares only: **t > X is enough**. Without one final list it could show half of the honest
    neighbours a list with the dealer in it and the other half a list without. Then each kind needs t − X
    honest shares, of k + 1 − X that there are (the dealer holds one itself), so 2 (t − X) > k + 1 − X must
    hold, that is t > (k + 1 + X) / 2.

    On the complete graph X is A = ⌊γn⌋. On the sparse one the order of the ring is drawn by the beacon after
    everybody joined, so X is hypergeometric: k draws among n members of whom A collude. Three events bound k
    and t, with exact integer arithmetic and a union over the n members:

    - n · P[X ≥ t] ≤ 2⁻⁴¹: some member has t colluding neighbours (or, without one final list, too many);
    - the honest survivors fall apart into two sets with no mask between them, so that two partial sums show:
      two disjoint blocks of k/2 neighbours in the ring must be gone, n (n − k − 1) / 2 pairs of blocks, all
      k of them among the B = A + ⌊δn⌋ members that collude or drop out: probability ≤ 2⁻⁴¹;
    - n · P[fewer than t of k neighbours stay] ≤ 2⁻²⁰: some secret cannot be reconstructed.

    The first two together are 2⁻⁴⁰. Drawing from n rather than from the n − 1 others only makes the bounds
    larger. On the complete graph t > n/2 besides: it costs nothing with δ below one half.

    Bonawitz et al. 2017, section 6; Bell et al. 2020, sections 3 and 4.
    """
    if not 2 <= members <= MAX_MEMBERS:
        raise RoundConfigError(
            f"{members!r} members, expected 2 to {MAX_MEMBERS}", hint="Select another number of members."
        )
    complete = complete_graph(members, gamma, delta, single_list=single_list)
    if members <= COMPLETE_GRAPH_LIMIT:
        return complete
    first = members if least is None else max(least, COMPLETE_GRAPH_LIMIT + 1)
    for degree in range(2, members - 1, 2):
        low, high = 2, degree
        for n in range(members, max(first, degree + 2) - 1, -1):
            if not _stays_connected(n, degree, gamma, delta):
                break
            low = max(low, _least_threshold(n, degree, gamma, single_list))
            high = min(high, _largest_threshold(n, degree, delta))
            if low > high:
                break
        else:
            return Graph(members, degree, low)
    return complete


def _share_of(fraction: float, members: int) -> int:
    """⌊fraction · members⌋, where 0.3 means 3/10: no rounding noise inside the floor."""
    return math.floor(Fraction(repr(float(fraction))) * members)


def _ways(members: int, marked: int, drawn: int, hits: int) -> int:
    return math.comb(marked, hits) * math.comb(members - marked, drawn - hits)


def _least_threshold(members: int, degree: int, gamma: float, single_list: bool) -> int:
    corrupt = _share_of(gamma, members)
    room, above = math.comb(members, degree), 0
    known = min(corrupt, degree)  # becomes the largest number of colluding neighbours that must be expected
    while known:
        above += _ways(members, corrupt, degree, known)
        if members * above << (SECURITY_BITS + 1) > room:
            break
        known -= 1
    return (known if single_list else (degree + 1 + known) // 2) + 1


def _largest_threshold(members: int, degree: int, delta: float) -> int:
    staying = members - _share_of(delta, members)
    room, below, hits = math.comb(members, degree), 0, 0
    while hits < degree:
        below += _ways(members, staying, degree, hits)
        if members * below << CORRECTNESS_BITS > room:
            break
        hits += 1
    return hits


def _stays_connected(members: int, degree: int, gamma: float, delta: float) -> bool:
    gone = _share_of(gamma, members) + _share_of(delta, members)
    pairs = members * (members - degree - 1) // 2
    return pairs * math.perm(gone, degree) << (SECURITY_BITS + 1) <= math.perm(members, degree)
