"""Levels that have nothing left to lose.

A drop at a level whose reference accuracy is near chance says nothing: such a level
is at the *floor*. Chance is the majority label's share in the level; what a random policy
solves where items are episodes of control; nothing where they are spans.
"""

from __future__ import annotations

from functools import lru_cache

from gapshift.reports.counts import Counts
from gapshift.reports.statistics import Estimate, clopper_pearson, clustered_share, wilson


def chance(counts: Counts) -> float:
    """What an answer without knowledge would score. Needs n > 0."""
    return counts.by_chance / counts.n


@lru_cache(maxsize=4096)
def _lower_end(right: int, n: int) -> float:
    # All cells of a bundle share their reference: most calls repeat.
    return wilson(right, n).low


def at_floor(counts: Counts, margin: float) -> bool:
    """Whether the Wilson lower end of the reference accuracy is below chance + margin."""
    return counts.n > 0 and _lower_end(counts.right, counts.n) < chance(counts) + margin


def safe_by_churn(counts: Counts, margin: float) -> bool:
    """Whether churn alone keeps the drop under the margin, since |D| <= churn."""
    return counts.n > 0 and churn_interval(counts).high < margin


def churn_interval(counts: Counts) -> Estimate:
    """The share of changed predictions, after Clopper & Pearson; cluster-robust where items come in enough groups."""
    found = counts.clustering
    if found is None:
        return clopper_pearson(counts.changed, counts.n)
    return clustered_share(counts.changed, counts.n, found.clusters, found.churn)
