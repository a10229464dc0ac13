"""Differential privacy of a task: the noise that nodes add, and what published sums then give away."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from twopm_kit.errors import TaskError
from twopm_kit.federated.arguments import number, whole
from twopm_kit.secagg import RoundConfig
from twopm_kit.secagg.encoding import fewest_survivors, noise_share
from twopm_kit.secagg.noise import CUT_MASS

__all__ = ["Privacy", "Spent"]

_ROUNDING_FAILS = 2.0**-200  # probability that rounding adds more to a norm than _rounded_norm says
_FLOAT = 1 + 1e-9  # shrinking to clip_norm is exact to the rounding of float64
_RESERVE = 2.0**-10  # part of delta that is kept for rounding and for the ends of the noise


@dataclass(frozen=True)
class Spent:
    """What a run has given away about any one node.

    Attributes
    ----------
    epsilon, delta : float
        The guarantee of the run against everybody who sees the published sums.
    rounds : int
        Sums that were published.
    round_epsilon : float
        The guarantee of a single round, at the same delta.
    colluders : int
        Nodes that are taken to join forces, in each round.
    colluding_epsilon : float
        The guarantee of the run against them: they know their own noise and take it off the sum.

    Notes
    -----
    Infinity means that nothing is guaranteed at this delta.
    """

    epsilon: float
    delta: float
    rounds: int
    round_epsilon: float
    colluders: int
    colluding_epsilon: float


@dataclass(frozen=True)
class Privacy:
    """Node-level differential privacy: every node shrinks its update and adds a share of the noise.

    Parameters
    ----------
    noise_multiplier : float
        Standard deviation of the noise in the published sum, in parts of ``clip_norm``, when as few nodes
        survive as a round needs; more survivors add more.
    clip_norm : float
        Largest Euclidean norm of one node's update; a longer one is shrunk to it.
    delta : float
        Probability with which the guarantee may fail; choose it well below one over the number of nodes.
    metric_bound : float
        Validation metrics are cut to [-metric_bound, metric_bound]. They have noise of their own, in
        proportion to this bound: keep it close to what the metrics reach.

    Notes
    -----
    What is protected is all that a node contributes: neighbouring runs differ in one node whose update and
    metrics are replaced by zeros. That the node took part, survived, and validated is on chain and not
    hidden. All weights are 1.

    Against whom: everybody who sees the published sums and models, the task's owner and other nodes
    included. No node and no server is trusted to add the noise for all: each adds its share before masking
    (Kairouz, Liu and Steinke 2021), and nobody sees anything but the sum. Nodes that join forces know their
    own noise, or leave it out, so against them only the noise of the others counts (``colluding_epsilon``).
    A node's own machine is outside of the guarantee.

    Members are drawn by a public beacon, so everybody knows who was drawn, and no amplification by sampling
    is claimed: a node is counted as if it took part in every round.

    With groups every group's sum is published, and the noise is counted from the few nodes of one group.
    """

    noise_multiplier: float
    clip_norm: float
    delta: float = 1e-5
    metric_bound: float = 1.0

    def __post_init__(self) -> None:
        for name in ("noise_multiplier", "clip_norm", "delta", "metric_bound"):
            object.__setattr__(self, name, number(name, getattr(self, name)))
        if self.delta >= 1:
            raise TaskError(f"delta is {self.delta}", hint="give a probability far below 1, such as 1e-5")

    def round_fields(self) -> dict[str, Any]:
        """Return what a ``RoundConfig`` must be given for this guarantee."""
        return {
            "clip_norm": self.clip_norm,
            "noise_multiplier": self.noise_multiplier,
            "metric_bound": self.metric_bound,
            "max_weight": 1,
        }

    def spent(
        self,
        rounds: int,
        members: int | Sequence[int],
        survivors: int | Sequence[int] | None = None,
        *,
        config: RoundConfig,
        dimension: int,
        metrics: int = 0,
        validations: int | None = None,
        colluders: int | None = None,
        replace: bool = False,
    ) -> Spent:
        """Return the guarantee of a run, planned or past.

        Parameters
        ----------
        rounds : int
            Sums that are published, void ones included; nothing is published of an aborted round.
        members : int or sequence of int
            Members of the rounds.
        survivors : int or sequence of int, optional
            Survivors of the rounds; with groups, of the smallest group. Left out, the fewest that a round
            can be published with.
        config : RoundConfig
            The task's.
        dimension : int
            Values d of an update.
        metrics : int
            Metrics k of the task.
        validations : int, optional
            Rounds in which nodes validated; all of them if left out.
        colluders : int, optional
            Nodes that join forces; left out, the fraction ``config.gamma`` of the members.
        replace : bool
            Whether neighbouring runs differ in one node whose update is *another one* instead of zeros;
            that doubles the sensitivity.

        Returns
        -------
        Spent

        Raises
        ------
        TaskError
            If the config is not of this privacy, or the numbers contradict each other.

        Notes
        -----
        In units of the quantisation step each of h honest survivors adds a discrete Gaussian of standard
        deviation s, and an update has the norm c = clip_norm / step. Rounding may add to it: with d values
        the rounded norm D is at most c + √d, and, but for a probability of 2**-200, at most
        √(c² + d/4 + √(2 ln 2**200) (c + √d/2)). The sum of h discrete Gaussians is not quite a discrete
        Gaussian: with t = 10 Σ exp(-2π² s² k/(k+1)), k from 1 to h - 1, a round is e²/2-zCDP for
        e = min(√(D²/(h s²) + t d/2), D/(√h s) + t √d) (Kairouz, Liu and Steinke 2021, theorem 1). A round
        with validation adds that of the metrics. zCDP adds up over rounds, however each round's updates
        depend on those before, and dp-accounting turns it into epsilon and delta by way of Rényi divergence.
        """
        rounds = whole("rounds", rounds)
        dimension = whole("dimension", dimension)
        metrics = whole("metrics", metrics, 0)
        if any(getattr(config, name) != value for name, value in self.round_fields().items()):
            asked = ", ".join(f"{name}={value}" for name, value in self.round_fields().items())
            found = ", ".join(f"{name}={getattr(config, name)}" for name in self.round_fields())
            raise TaskError(
                f"the round has {found}, this privacy asks for {asked}",
                hint="make the configuration with RoundConfig(..., **privacy.round_fields())",
            )
        validated = rounds if validations is None else whole("validations", validations, 0)
        if validated > rounds:
            raise TaskError(
                f"{validated} validations in {rounds} rounds", hint="count the rounds that validated"
            )
        validated = validated if metrics else 0
        sizes = _per_round("members", members, rounds)
        least = [fewest_survivors(config, size) for size in sizes]
        left = least if survivors is None else _per_round("survivors", survivors, rounds)
        for size, fewest, survived in zip(sizes, least, left, strict=True):
            if not fewest <= survived <= size:
                raise TaskError(
                    f"{survived} survivors of {size} members, expected {fewest} to {size}",
                    hint="count the members of published rounds, with groups those of the smallest group",
                )
        joined = math.floor(config.gamma * max(sizes) + 1e-9) if colluders is None else colluders
        joined = whole("colluders", joined, 0)
        double = 2.0 if replace else 1.0

        def cost(share: float, honest: int) -> tuple[float, float]:
            """Return the zCDP of one round's values, and of its metrics."""
            half = math.ldexp(1.0, config.value_bits - 1)  # metric_bound in steps
            values = _round_cost(self.clip_norm / config.step, dimension, share, honest, double)
            measured = (
                _round_cost(half * math.sqrt(metrics), metrics, share, honest, double) if metrics else 0.0
            )
            return values, measured

        def run(gone: int) -> tuple[float, float]:
            """Return the zCDP of the run, and of its worst round, against so many who add no noise."""
            costs = [
                cost(noise_share(config, size), max(1, survived - gone))
                for size, survived in zip(sizes, left, strict=True)
            ]
            values, measured = zip(*costs, strict=True)
            worst = max(measured)
            return sum(values) + validated * worst, max(values) + bool(validated) * worst

        draws = sum(sizes) * (dimension + metrics)
        slip = rounds * 4 * _ROUNDING_FAILS + draws * CUT_MASS
        total, worst = run(0)
        return Spent(
            epsilon=_epsilon(total, self.delta, slip, replace),
            delta=self.delta,
            rounds=rounds,
            round_epsilon=_epsilon(worst, self.delta, slip, replace),
            colluders=joined,
            colluding_epsilon=_epsilon(run(joined)[0], self.delta, slip, replace),
        )


def _per_round(name: str, given: int | Sequence[int], rounds: int) -> list[int]:
    counts = list(given) if isinstance(given, Sequence) else [given] * rounds
    if len(counts) != rounds:
        raise TaskError(f"{len(counts)} {name} for {rounds} rounds", hint="give one number, or one a round")
    return [whole(name, count) for count in counts]


def _round_cost(norm: float, dimension: int, share: float, honest: int, double: float) -> float:
    """Return rho of one round: the norm in steps, one client's noise in parts of it, and how many add it."""
    deviation = share * norm
    rounded = _rounded_norm(norm * _FLOAT, dimension) * double
    total = math.sqrt(honest) * deviation
    apart = 10 * sum(math.exp(-2 * math.pi**2 * deviation**2 * k / (k + 1)) for k in range(1, honest))
    loose = math.sqrt((rounded / total) ** 2 + apart * dimension / 2)
    return min(loose, rounded / total + apart * math.sqrt(dimension)) ** 2 / 2


def _rounded_norm(norm: float, dimension: int) -> float:
    """Return the largest norm of a vector that was rounded stochastically, both in steps."""
    chance = math.sqrt(-2 * math.log(_ROUNDING_FAILS))
    square = norm**2 + dimension / 4 + chance * (norm + math.sqrt(dimension) / 2)
    return min(norm + math.sqrt(dimension), math.sqrt(square))


def _epsilon(rho: float, delta: float, slip: float, replace: bool) -> float:
    """Return epsilon of rho-zCDP; `slip` is the probability that the mechanism is another one."""
    from dp_accounting import NeighboringRelation, ZCDpEvent  # a second to import, for whoever asks
    from dp_accounting.rdp import RdpAccountant

    relation = NeighboringRelation.REPLACE_ONE if replace else NeighboringRelation.REPLACE_SPECIAL
    accountant = RdpAccountant(neighboring_relation=relation)
    accountant.compose(ZCDpEvent(rho))
    epsilon = float(accountant.get_epsilon(delta * (1 - _RESERVE)))
    # At a distance of `slip` from a mechanism with (epsilon, delta): (epsilon, delta + (1 + e^epsilon) slip).
    return epsilon if epsilon < 80 and (1 + math.exp(epsilon)) * slip <= delta * _RESERVE else math.inf
