"""The numbers of a round, checked together before it starts."""

import math
from dataclasses import dataclass
from enum import IntEnum
from typing import Final

from twopm_kit.errors import RoundConfigError
from twopm_kit.secagg.graph import COMPLETE_GRAPH_LIMIT, MAX_MEMBERS, Graph, complete_graph, find_graph

__all__ = ["MIN_GROUP", "Mode", "RoundConfig"]

MIN_GROUP = 2
"""Fewest survivors of a group: a group of one would show a single vector."""
_LANE_BITS = {8: 32, 4: 64}
_SUM_BITS = {8: 30, 4: 62}
_MAX_VALUE_BITS = {8: 28, 4: 50}
_MAX_GROUPS = COMPLETE_GRAPH_LIMIT // MIN_GROUP
_BLOB_ELEMENTS: Final = 4096
_MAX_DIRECT_ELEMENTS: Final = 520
_MAX_KZG_PARAMETERS: Final = 300_000
_MAX_BLOBS: Final = 12  # commitments that the contract keeps in all groups together
_MAX_BLOBS_A_CALL: Final = 6
_CHOICES = {
    "mode": ("auto", "direct", "commit", "blob"),
    "verification": ("kzg", "hash"),
    "visibility": ("public", "sealed"),
}


class Mode(IntEnum):
    """Where masked vectors live, and what the contract checks about their sum."""

    DIRECT = 0
    """On chain, as calldata; the contract adds them."""
    KZG = 1
    """In storage; the contract adds their KZG commitments and checks the sum's blob against them."""
    HASH = 2
    """In storage; the contract keeps a hash of each, and the survivors vouch for the sum."""
    BLOB = 3
    """In blobs of the chain; the contract checks every vector and the sum against their commitments."""


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
        Fewest survivors that a sum may cover, and most members of a round (up to 1000).
    max_weight : int, optional
        Largest integer weight of a client. Left out, it is the largest one that the lanes have room for.
    metric_bound : float
        Metrics lie in [-metric_bound, metric_bound].
    gamma, delta : float
        Largest fraction of members that collude, and that drop out.
    mode : {"auto", "direct", "commit", "blob"}
        Where masked vectors live; see `mode_for`.
    verification : {"kzg", "hash"}
        How the contract checks the sum in mode ``"commit"``.
    visibility : {"public", "sealed"}
        Whether anyone can compute the sum, or its owner and the verifiers only.
    groups : int
        Members fall into this many groups, each with a sum of its own, so that a median over groups can
        leave a poisoned one out. A group's sum covers fewer members than the whole would.
    clip_norm : float, optional
        Largest Euclidean norm of one client's values.
    noise_multiplier : float
        Standard deviation of the noise in the sum as a multiple of clip_norm, when exactly `quorum` members
        survive. 0 is no noise; more needs a clip_norm.

    Raises
    ------
    RoundConfigError
        If the numbers cannot work together, for any member count from min_clients to max_clients.

    Notes
    -----
    See `find_graph` for how many neighbours a member has, how many shares reconstruct a secret, and why.
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
    mode: str = "auto"
    verification: str = "kzg"
    visibility: str = "public"
    groups: int = 1
    clip_norm: float | None = None
    noise_multiplier: float = 0.0

    def __post_init__(self) -> None:
        if self.lanes not in _LANE_BITS:
            raise RoundConfigError(
                f"lanes={self.lanes!r}, expected 8 (32 bits each) or 4 (64 bits each)",
                hint="Take 8 for models and 4 for statistics.",
            )
        for name, least, most in (
            ("value_bits", 2, _MAX_VALUE_BITS[self.lanes]),
            ("min_clients", 2, MAX_MEMBERS),
            ("max_clients", 2, MAX_MEMBERS),
            ("groups", 1, _MAX_GROUPS),
        ):
            value = getattr(self, name)
            if not _is_int(value) or not least <= value <= most:
                raise RoundConfigError(
                    f"{name}={value!r}, expected a whole number from {least} to {most}",
                    hint=f"Choose {name} in that range.",
                )
        if self.min_clients > self.max_clients:
            raise RoundConfigError(
                f"min_clients={self.min_clients} is above max_clients={self.max_clients}",
                hint="Lower min_clients or raise max_clients.",
            )
        for name in ("clip", "metric_bound", "clip_norm"):
            value = getattr(self, name)
            if name == "clip_norm" and value is None:
                continue
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
        for name, choices in _CHOICES.items():
            value = getattr(self, name)
            if value not in choices:
                raise RoundConfigError(
                    f"{name}={value!r}, expected one of {', '.join(choices)}",
                    hint=f"Leave {name} out for {choices[0]!r}.",
                )
        self._check_noise()
        self._check_weight()
        for members in range(self.min_clients, self.max_clients + 1):
            self.graph(members)
        self._check_groups()

    def _check_noise(self) -> None:
        if not _is_real(self.noise_multiplier) or not 0 <= self.noise_multiplier < 1e6:
            raise RoundConfigError(
                f"noise_multiplier={self.noise_multiplier!r}, expected a number from 0 to below 10^6",
                hint="Choose 0 for no noise; common values lie between 0.5 and 10.",
            )
        if self.noise_multiplier and self.clip_norm is None:
            raise RoundConfigError(
                f"noise_multiplier={self.noise_multiplier} without clip_norm: noise protects a client whose "
                "influence is bounded",
                hint="Pass clip_norm, the largest norm of one client's values.",
            )

    def _check_groups(self) -> None:
        if self.groups == 1:
            return
        if self.min_clients < MIN_GROUP * self.groups:
            raise RoundConfigError(
                f"{self.groups} groups with min_clients={self.min_clients}: expected at least {MIN_GROUP} "
                "members a group, for the sum of a group of one is that member's vector",
                hint=f"Raise min_clients to {MIN_GROUP * self.groups} or lower groups.",
            )
        if not self.graph(self.max_clients).complete:
            raise RoundConfigError(
                f"{self.groups} groups with max_clients={self.max_clients}: members of a group must all be "
                "neighbours, which they are on the complete graph only",
                hint=f"Lower max_clients to {COMPLETE_GRAPH_LIMIT}, or take one group.",
            )

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

    def graph(self, members: int, *, single_list: bool = True) -> Graph:
        """Return the neighbour graph of a round of `members`, and how many shares reconstruct a secret.

        Above 50 members all rounds of one configuration have the degree and threshold of a round of
        max_clients, which a contract can keep as two numbers; they hold for every member count from
        min_clients on. Where that degree reaches everybody, the graph is complete.

        Parameters
        ----------
        members : int
            Selected members, from min_clients to max_clients.
        single_list : bool
            True: everybody sees one final survivor list, as a chain provides. False: somebody could tell
            different members different lists.

        Raises
        ------
        RoundConfigError
            If the member count is another one, or no threshold fits gamma, delta and this count.
        """
        if not _is_int(members) or not self.min_clients <= members <= self.max_clients:
            raise RoundConfigError(
                f"{members!r} members, expected {self.min_clients} to {self.max_clients}",
                hint="Select another number of members, or change min_clients or max_clients.",
            )
        gamma, delta = float(self.gamma), float(self.delta)
        if members > COMPLETE_GRAPH_LIMIT:
            widest = find_graph(
                self.max_clients, gamma, delta, single_list=single_list, least=self.min_clients
            )
            if widest.degree < members - 1:
                return Graph(members, widest.degree, widest.threshold)
        return complete_graph(members, gamma, delta, single_list=single_list)

    def threshold(self, members: int, *, single_list: bool = True) -> int:
        """Return how many shares reconstruct a secret in a round of `members`; see `graph`."""
        return self.graph(members, single_list=single_list).threshold

    def quorum(self, members: int) -> int:
        """Fewest survivors of a round, and fewest of them that must agree: a majority, or min_clients.

        A majority forbids two disjoint quorums.
        """
        return max(self.graph(members).members // 2 + 1, self.min_clients)

    def mode_for(self, elements: int, *, blobs: bool, bls: bool) -> Mode:
        """Choose where the masked vectors of a round live.

        ``"auto"`` takes DIRECT up to 520 field elements in all groups; above it KZG, if the chain can check
        commitments and there are at most 300,000 parameters and `verification` is ``"kzg"``; else HASH.
        ``"direct"``, ``"commit"`` (with its `verification`) and ``"blob"`` are wishes: met or refused.

        Parameters
        ----------
        elements : int
            Field elements m of a masked vector.
        blobs, bls : bool
            Whether the chain carries blobs (EIP-4844), and has the precompiles of BLS12-381 (EIP-2537).

        Raises
        ------
        RoundConfigError
            If the wish cannot be met for this length on this chain.
        """
        whole, sheets = self.groups * elements, -(-elements // _BLOB_ELEMENTS)
        if self.mode == "direct":
            if whole > _MAX_DIRECT_ELEMENTS:
                raise self._unmet(
                    f"carries at most {_MAX_DIRECT_ELEMENTS} field elements, the round has {whole}"
                )
            return Mode.DIRECT
        if self.mode == "auto":
            if whole <= _MAX_DIRECT_ELEMENTS:
                return Mode.DIRECT
            fits = 8 * whole <= _MAX_KZG_PARAMETERS and self.groups * sheets <= _MAX_BLOBS
            return Mode.KZG if self.verification == "kzg" and blobs and bls and fits else Mode.HASH
        if self.mode == "commit" and self.verification == "hash":
            return Mode.HASH
        if not (blobs and bls):
            raise self._unmet("needs a chain with blobs (EIP-4844) and BLS12-381 precompiles (EIP-2537)")
        if self.groups * sheets > _MAX_BLOBS:
            raise self._unmet(f"has room for {_MAX_BLOBS} blobs, the round fills {self.groups * sheets}")
        if self.mode == "blob" and sheets > _MAX_BLOBS_A_CALL:
            raise self._unmet(f"carries {_MAX_BLOBS_A_CALL} blobs a transaction, a vector fills {sheets}")
        return Mode.KZG if self.mode == "commit" else Mode.BLOB

    def _unmet(self, why: str) -> RoundConfigError:
        how = f" with verification={self.verification!r}" if self.mode == "commit" else ""
        return RoundConfigError(
            f"mode={self.mode!r}{how} {why}",
            hint="Take mode='auto', or mode='commit' with verification='hash'.",
        )


def _is_int(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_real(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
