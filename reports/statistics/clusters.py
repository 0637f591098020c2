"""Paired answers whose items come in clusters (speakers, paragraphs): how much less they say, and what follows.

Items of one cluster fail together, so n of them say less than n independent ones. The *design effect* is by how much:
the cluster-robust variance of a mean (CR1; Cameron & Miller 2015, Journal of Human Resources 50:317-372) over the
variance that independent items would give it. Intervals and tests are the score methods for independent pairs at
n / effect of them (Rao & Scott 1992, Biometrics 48:577-585), with Student's quantiles on the number of clusters less
one (Korn & Graubard 1998, Survey Methodology 24:193-201, who do so for Clopper & Pearson's).

A few changed items cannot tell whether clusters fail together, least of all none. So the effect is never taken for less
than an intraclass correlation of ``LEAST_ICC`` makes it: 1 + (m - 1) LEAST_ICC for clusters of m. With clusters of one
item it is 1, and everything here is as for independent items.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import norm
from scipy.stats import t as student

from gapshift.reports.statistics.base import Estimate, checked_level, unknown
from gapshift.reports.statistics.margin import mended
from gapshift.reports.statistics.paired import score_statistic, tango_interval
from gapshift.reports.statistics.proportions import clopper_pearson

LEAST_CLUSTERS = 10
"""Fewer (effective) clusters than this are taken as they are: what is said holds for them, not for others."""
LEAST_ICC = 0.05
"""The correlation within clusters that is assumed whatever was seen."""


@dataclass(frozen=True)
class Clustering:
    """How many clusters the items come in, effectively, and the design effects of drop and of churn (1 or more)."""

    clusters: float
    drop: float
    churn: float

    def inflation(self, tail: float) -> float:
        """How many clustered items say as much of the drop as one independent item, at a one-sided ``tail``.

        >>> round(Clustering(clusters=41, drop=1.5, churn=1.5).inflation(0.025), 3)
        1.595
        """
        return _inflation(self.clusters, self.drop, tail)

    def quantile(self, tail: float) -> float:
        """Student's quantile of a one-sided ``tail``, which the score of n / effect pairs is held to."""
        return float(student.isf(tail, self.clusters - 1))

    def grown(self, factor: float) -> Clustering:
        """That of so many times the items in groups of the same sizes, as if there were always enough groups.

        >>> Clustering(clusters=40, drop=1.5, churn=1.2).grown(0.5)
        Clustering(clusters=20.0, drop=1.5, churn=1.2)
        """
        return replace(self, clusters=max(float(LEAST_CLUSTERS), self.clusters * factor))


def clustering(difference: NDArray[Any], changed: NDArray[Any], clusters: NDArray[Any]) -> Clustering | None:
    """The clustering of paired items, all arguments (n,): differences -1, 0 or 1, predictions changed, labels.

    None where items are to be taken as independent: every cluster has a single item, or there are effectively fewer
    than ``LEAST_CLUSTERS``.

    >>> clustering(np.zeros(60), np.zeros(60), np.arange(60) % 20)
    Clustering(clusters=20.0, drop=1.1, churn=1.1)
    >>> clustering(np.zeros(60), np.zeros(60), np.arange(60)), clustering(np.zeros(60), np.zeros(60), np.arange(60) % 9)
    (None, None)
    """
    count = effective_clusters(clusters)
    if count < LEAST_CLUSTERS or count == len(clusters):
        return None
    return Clustering(count, *(max(1.0, design_effect(values, clusters)) for values in (difference, changed)))


def clusters_of(group: NDArray[np.intp]) -> NDArray[np.intp]:
    """Groups (n,) as clusters: an item that belongs to none (-1) is one by itself.

    >>> clusters_of(np.array([0, 0, -1, -1])).tolist()
    [0, 0, 3, 4]
    """
    return np.where(group >= 0, group, group.max(initial=-1) + 1 + np.arange(len(group)))


def effective_clusters(clusters: NDArray[Any]) -> float:
    """Their number, less where sizes differ: n^2 / sum of squared sizes.

    Carter, Schnepel & Steigerwald (2017), Review of Economics and Statistics 99:698-709, for clusters that differ in
    size alone. 0 without items.

    >>> effective_clusters(np.array([1, 1, 2, 2])), round(effective_clusters(np.array([1, 1, 1, 1, 2])), 2)
    (2.0, 1.47)
    """
    _, sizes = np.unique(clusters, return_counts=True)
    return float(sizes.sum() ** 2 / np.sum(sizes**2)) if len(sizes) else 0.0


def design_effect(values: NDArray[Any], clusters: NDArray[Any]) -> float:
    """Variance of the mean of ``values`` (n,) in ``clusters`` (n,) over that of as many independent ones.

    The larger of what is seen (CR1) and what an intraclass correlation of ``LEAST_ICC`` would give. Needs two clusters.

    >>> round(design_effect(np.array([1, 1, 0, 0, 0, 0]), np.array([1, 1, 2, 2, 3, 3])), 3)
    2.5
    """
    _, codes, sizes = np.unique(clusters, return_inverse=True, return_counts=True)
    numbers = np.asarray(values, dtype=np.float64)
    n, groups = len(numbers), len(sizes)
    assumed = 1 + (float(np.sum(sizes**2)) / n - 1) * LEAST_ICC
    spread = float(np.var(numbers, ddof=1))
    if spread == 0:
        return assumed
    sums = np.bincount(codes, weights=numbers - numbers.mean())
    return max(assumed, groups / (groups - 1) * float(sums @ sums) / (n * spread))


def clustered_interval(b: int, c: int, n: int, clusters: float, effect: float, level: float = 0.95) -> Estimate:
    """Tango's interval for the drop (b - c) / n of items in clusters, with their design effect.

    Never narrower than Tango's interval for independent items. Raises ValueError for impossible counts and fewer than
    two clusters.

    >>> clustered_interval(12, 2, 600, 60, 1.5).high > tango_interval(12, 2, 600).high
    True
    """
    factor = _inflation(clusters, effect, (1 - checked_level(level)) / 2)
    lost, gained = b / factor, c / factor
    found = tango_interval(lost, gained, max(lost + gained, n / factor), level)  # they may differ by a rounding
    return found if n == 0 else Estimate((b - c) / n, found.low, found.high)


def clustered_test(b: int, c: int, n: int, clusters: float, effect: float, margin: float) -> float:
    """One-sided p of H0 "D <= margin" for items in clusters; dual to ``clustered_interval``. ``n = 0`` gives 1.

    >>> round(clustered_test(30, 2, 600, 60, 2.0, 0.02), 3)
    0.012
    """
    _inflation(clusters, effect, 0.5)
    if n == 0:
        return 1.0
    score = score_statistic(b / effect, c / effect, n / effect, margin)
    return float(student.sf(score, clusters - 1))


def clustered_margin_test(
    b: int, c: int, n: int, clusters: float, effect: float, margin: float, alpha: float = 0.05
) -> float:
    """``margin_test`` for items in clusters: the larger of ``clustered_test`` and, where that is below ``alpha``, the
    exact tail at the effective number of pairs. ``n = 0`` gives 1.

    >>> round(clustered_margin_test(30, 2, 600, 60, 2.0, 0.02), 3)
    0.017
    """
    p = clustered_test(b, c, n, clusters, effect, margin)
    return mended(p, b / effect, c / effect, n / effect, margin, alpha)


def clustered_share(k: float, n: int, clusters: float, effect: float, level: float = 0.95) -> Estimate:
    """Clopper & Pearson's interval of a share k / n of items in clusters (Korn & Graubard 1998).

    >>> round(clustered_share(0, 600, 60, 1.5).high, 4), round(clopper_pearson(0, 600).high, 4)
    (0.0096, 0.0061)
    """
    factor = _inflation(clusters, effect, (1 - checked_level(level)) / 2)
    if n == 0:
        return unknown(0.0, 1.0)
    found = clopper_pearson(k / factor, n / factor, level)
    return Estimate(k / n, found.low, found.high)


def _inflation(clusters: float, effect: float, tail: float) -> float:
    """Design effect and Student's quantile in one: the score grows with the square root of n."""
    if not (clusters >= 2 and effect >= 1):
        raise ValueError(f"clusters is {clusters!r} and effect {effect!r}; valid: 2 clusters or more, an effect from 1")
    if tail == 0.5:
        return effect
    ratio = float(student.isf(tail, clusters - 1)) / float(norm.isf(tail))
    return effect * ratio * ratio if math.isfinite(ratio) else math.inf
