"""Robust aggregation: a median or trimmed mean over the sums of groups, against poisoned updates."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from twopm_kit.errors import TaskError
from twopm_kit.federated.arguments import whole
from twopm_kit.secagg import Decoded

__all__ = ["Robust", "combine_sections"]

_RULES = ("median", "trimmed_mean")


@dataclass(frozen=True)
class Robust:
    """How the means of the groups of a round become one update that a few poisoned nodes cannot steer.

    Parameters
    ----------
    groups : int
        Groups that the members fall into, at least 3. Each needs at least two members.
    rule : {"median", "trimmed_mean"}
        ``"median"``: of each coordinate. ``"trimmed_mean"``: of each coordinate, the mean without the
        `trim` largest and the `trim` smallest values.
    trim : int
        For ``"trimmed_mean"``; below half of the groups.

    Notes
    -----
    The sum hides every single update, so nobody can look for the bad one. But a round has a sum for each
    group, and the beacon's draw decides who is in which: a node cannot choose. One poisoned node spoils the
    mean of its group and no other. As long as fewer than half of the groups have a poisoned member (or no
    more than `trim`), every coordinate of the result lies between those of groups that have none: see
    `withstands` (Yin et al. 2018, applied to the means of groups).

    Groups count alike, whatever weights their members state: a weight is as easily forged as an update.
    Without drop-outs and attacks the result therefore differs from the weighted mean of all: the median of
    the group means of skewed updates lies aside of their mean, and the noise of a group mean is larger.

    It costs privacy too: a sum over a group hides an update among fewer others, and noise for differential
    privacy must be counted from the few survivors of one group. It does not help against poisoned nodes in
    half of the groups, nor against a poison that stays within the spread of honest groups.

    Aggregates of three or more groups are needed in every round; with fewer left, or no more than twice
    `trim`, the round changes nothing.
    """

    groups: int = 3
    rule: str = "median"
    trim: int = 1

    def __post_init__(self) -> None:
        object.__setattr__(self, "groups", whole("groups", self.groups, 3))
        object.__setattr__(self, "trim", whole("trim", self.trim))
        if self.rule not in _RULES:
            raise TaskError(f"rule is {self.rule!r}", hint=f"choose one of {', '.join(_RULES)}")
        self._check(self.groups)

    @classmethod
    def of(cls, wish: "Robust | str | None") -> "Robust | None":
        """Return what a task's ``robust`` argument means: a rule's name stands for its default numbers.

        Raises
        ------
        TaskError
            If it is something else.
        """
        if wish is None or isinstance(wish, cls):
            return wish
        if isinstance(wish, str):
            return cls(rule=wish)
        raise TaskError(f"robust is {wish!r}", hint='pass "median", "trimmed_mean" or Robust(...)')

    @property
    def withstands(self) -> int:
        """How many poisoned nodes cannot steer the result, however they fall into groups."""
        return (self.groups - 1) // 2 if self.rule == "median" else self.trim

    def round_fields(self) -> dict[str, Any]:
        """Return what a ``RoundConfig`` must be given."""
        return {"groups": self.groups}

    def combine(self, means: ArrayLike) -> NDArray[np.float64]:
        """Combine the means of the groups.

        Parameters
        ----------
        means : array of float, shape (G, d)
            One row a group that has survivors.

        Returns
        -------
        ndarray of float64, shape (d,)

        Raises
        ------
        TaskError
            If too few groups are left for the rule.
        """
        rows = np.asarray(means, np.float64)
        if rows.ndim != 2:
            raise TaskError(
                f"the means of the groups have shape {rows.shape}", hint="pass one row for each group"
            )
        self._check(len(rows))
        if self.rule == "median":
            return np.asarray(np.median(rows, axis=0))
        cut = self.trim
        # Partial sorting puts the `trim` smallest before these two places and the `trim` largest behind.
        ordered = np.partition(rows, (cut, len(rows) - 1 - cut), axis=0)
        return np.asarray(ordered[cut : len(rows) - cut].mean(axis=0))

    @property
    def fewest(self) -> int:
        """Fewest groups that the rule needs."""
        return 3 if self.rule == "median" else 2 * self.trim + 1

    def _check(self, groups: int) -> None:
        if groups < self.fewest:
            raise TaskError(
                f"{self.rule} over {groups} groups"
                + (f" with trim={self.trim}" if self.rule == "trimmed_mean" else "")
                + f", expected at least {self.fewest}",
                hint="raise groups or lower trim; if groups dropped out of a round, go on with the next one",
            )


def combine_sections(sections: Sequence[Decoded], robust: Robust | None = None) -> Decoded:
    """Return one aggregate for a round: what ``Task.merge`` is given.

    Parameters
    ----------
    sections : sequence of Decoded
        The decoded sums of the groups that have survivors.
    robust : Robust, optional
        How groups are combined. Left out, all updates count by their weights, as if there were no groups.

    Returns
    -------
    Decoded
        Metrics are combined as the values are, over the groups that have any, and NaN if these are too few
        for the rule; weights are added up.

    Raises
    ------
    TaskError
        If there are too few groups for the rule.
    """
    if robust is None and len(sections) == 1:
        return sections[0]
    if not sections:
        raise TaskError("no group has survivors", hint="go on with the next round")
    measured = [section for section in sections if section.metric_weight]
    enough = len(measured) >= (robust.fewest if robust else 1)
    return Decoded(
        mean=_combined([(s.mean, s.weight) for s in sections], robust),
        weight=sum(s.weight for s in sections),
        metrics=_combined([(s.metrics, s.metric_weight) for s in measured], robust)
        if enough
        else np.full(sections[0].metrics.size, np.nan),
        metric_weight=sum(s.metric_weight for s in measured) if enough else 0,
        step=sections[0].step,
        noise=max(s.noise for s in sections),
    )


def _combined(rows: list[tuple[NDArray[np.float64], int]], robust: Robust | None) -> NDArray[np.float64]:
    means = np.stack([mean for mean, _ in rows])
    if robust is not None:
        return robust.combine(means)
    return np.asarray(np.average(means, axis=0, weights=[weight for _, weight in rows]))
