"""The numbers of a round, checked together before it starts."""

import math
from dataclasses import dataclass
from fractions import Fraction

from twopm_kit.errors import RoundConfigError

__all__ = ["COMPLETE_GRAPH_LIMIT", "RoundConfig"]

COMPLETE_GRAPH_LIMIT = 50
_LANE_BITS = {8: 32, 4: 64}
_SUM_BITS = {8: 30, 4: 62}
_MAX_VALUE_BITS = {8: 28, 4: 50}


@dataclass(frozen=True)
class RoundConfig:
    """What all members of a round agree on.

    Parameters
    ----------
    clip : float
        Values are clipped to [-clip, clip] before they are encoded.
    value_bits : int
        Fixed-point resolution: a step is 2·clip / 2**value_bits. At most 28 with 8 lanes, 50 with 4.
    lanes : {8, 4}
        Values per field element: 8 lanes of 32 bits (each sum below 2**30), for models; 4 lanes of 64 bits
        (each sum below 2**62), for statistics that must equal pooled computation.
    min_clients, max_clients : int
        Fewest survivors that a sum may cover, and most members of a round.
    max_weight : int, optional
        Largest integer weight of a client. Left out, it is the largest one that the lanes have room for.
    metric_bound : float
        Metrics lie in [-metric_bound, metric_bound].
    gamma, delta : float
        Largest fraction of members that collude, and that drop out.

    Raises
    ------
    RoundConfigError
        If the numbers cannot work together, for any member count from min_clients to max_clients.

    Notes
    -----
    See `threshold` for how many shares reconstruct a secret, and why.
    """

    clip: float
    value_bits: int = 16
    lanes: int = 8
    min_clients: int = 2
    max_clients: int = COMPLETE_GRAPH_LIMIT
    max_weight: int | None = None
    metric_bound: float = 16.0
    gamma: float = 0.1
    delta: float = 0.3

    def __post_init__(self) -> None:
        if self.lanes not in _LANE_BITS:
            raise RoundConfigError(
                f"lanes={self.lanes!r}, expected 8 (32 bits each) or 4 (64 bits each)",
                hint="Take 8 for models and 4 for statistics.",
            )
        for name, least, most in (
            ("value_bits", 2, _MAX_VALUE_BITS[self.lanes]),
            ("min_clients", 2, COMPLETE_GRAPH_LIMIT),
            ("max_clients", 2, COMPLETE_GRAPH_LIMIT),
        ):
            value = getattr(self, name)
            if not _is_int(value) or not least <= value <= most:
                raise RoundConfigError(
                    f"{name}={value!r}, expected a whole number from {least} to {most}",
                    hint=f"Choose {name} in that range"
                    + ("; every pair of members shares a mask." if name.endswith("clients") else "."),
                )
        if self.min_clients > self.max_clients:
            raise RoundConfigError(
                f"min_clients={self.min_clients} is above max_clients={self.max_clients}",
                hint="Lower min_clients or raise max_clients.",
            )
        for name in ("clip", "metric_bound"):
            value = getattr(self, name)
            if not _is_real(value) or not 1e-100 < value < 1e100:
                raise RoundConfigError(
                    f"{name}={value!r}, expected a positive finite number", hint=f"Choose {name} > 0."
                )
        for name in ("gamma", "delta"):
            value = getattr(self, name)
            if not _is_real(value) or not 0 <= value < 1:
                raise RoundConfigError(
                    f"{name}={value!r}, expected a fraction from 0 to below 1", hint=f"Lower {name}."
                )
        self._check_weight()
        for members in range(self.min_clients, self.max_clients + 1):
            self.threshold(members)

    def _check_weight(self) -> None:
        room = ((1 << self.sum_bits) - 1) // (self.max_clients << self.value_bits)
        if room < 1:
            raise RoundConfigError(
                f"{self.max_clients} clients with {self.value_bits} value bits overflow a lane, whose sum "
                f"stays below 2^{self.sum_bits}",
                hint="Lower value_bits or max_clients, or take lanes=4.",
            )
        if self.max_weight is None:
            object.__setattr__(self, "max_weight", room)
        elif not _is_int(self.max_weight) or not 1 <= self.max_weight <= room:
            raise RoundConfigError(
                f"max_weight={self.max_weight!r}, expected a whole number from 1 to {room}: weight · "
                f"2^{self.value_bits} · {self.max_clients} clients must stay below 2^{self.sum_bits}",
                hint="Lower max_weight, value_bits or max_clients, or take lanes=4.",
            )

    @property
    def lane_bits(self) -> int:
        """Width of a lane in bits."""
        return _LANE_BITS[self.lanes]

    @property
    def sum_bits(self) -> int:
        """A lane's sum over all clients stays below 2**sum_bits."""
        return _SUM_BITS[self.lanes]

    @property
    def weight_limit(self) -> int:
        """Largest weight of one client."""
        return int(self.max_weight or 1)

    @property
    def step(self) -> float:
        """Quantisation step of a value: clip · 2**(1 - value_bits)."""
        return math.ldexp(float(self.clip), 1 - self.value_bits)

    @property
    def metric_step(self) -> float:
        """Quantisation step of a metric."""
        return math.ldexp(float(self.metric_bound), 1 - self.value_bits)

    def threshold(self, members: int, *, single_list: bool = True) -> int:
        """Return how many shares reconstruct a secret among `members` on the complete graph.

        Parameters
        ----------
        members : int
            Selected members, each a neighbour of every other.
        single_list : bool
            True: everybody sees one final survivor list. False: somebody could tell different nodes
            different lists.

        Returns
        -------
        int
            t, with t > members/2, t > corrupt members, and t <= members that stay.

        Raises
        ------
        RoundConfigError
            If no threshold fits gamma, delta and this member count.

        Notes
        -----
        An attacker who wants one node's vector needs both of its secrets, b and s, hence t shares of each
        kind. Its own A = ⌊gamma·n⌋ members give it both kinds. An honest member opens one kind per dealer,
        and which kind follows from the survivor list alone. The chain freezes that list once, so for a given
        dealer all honest members open the same kind, and of the other kind the attacker holds only its own
        A shares: t > A is enough. Without one final list it could show half of the honest members a list
        with the dealer in it and the other half a list without; then each kind needs t − A honest shares
        and there are n − A honest members, so 2(t − A) > n − A, that is t > (n + A)/2, is needed
        (``single_list=False``). t > n/2 is kept in either case: it costs nothing on a complete graph with
        delta below one half, and it also forbids two disjoint quorums. From above, t <= ⌈(1 − delta)·n⌉, or
        the round could not finish after the drop-outs it promises to survive. Bonawitz et al. 2017,
        section 6; Bell et al. 2020, section 3.
        """
        if not _is_int(members) or not self.min_clients <= members <= self.max_clients:
            raise RoundConfigError(
                f"{members!r} members, expected {self.min_clients} to {self.max_clients}",
                hint="Select another number of members, or change min_clients or max_clients.",
            )
        corrupt = math.floor(_exact(self.gamma) * members)
        staying = math.ceil((1 - _exact(self.delta)) * members)
        least = max(members // 2, corrupt if single_list else (members + corrupt) // 2) + 1
        if least > staying:
            raise RoundConfigError(
                f"{members} members need a threshold of at least {least} against gamma={self.gamma}, but "
                f"with delta={self.delta} only {staying} are sure to stay",
                hint="Lower delta (below one half) or gamma, or choose other member counts.",
            )
        return least

    def quorum(self, members: int) -> int:
        """Fewest survivors of a round: the threshold or min_clients, whichever is larger."""
        return max(self.threshold(members), self.min_clients)


def _is_int(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_real(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _exact(fraction: float) -> Fraction:
    return Fraction(repr(float(fraction)))  # 0.3 means 3/10: no rounding noise inside floor and ceil
