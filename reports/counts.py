"""How many pairs went which way: all that the gate needs of a group of items."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from gapshift.reports.load import Pairs
from gapshift.reports.statistics import Clustering, clustering, clusters_of


@dataclass(frozen=True)
class Counts:
    """Counts over the pairs of one level, band or cell.

    ``right`` and ``still_right`` are right answers in the reference and in the
    environment; ``lost`` went right to wrong, ``gained`` wrong to right; ``changed``
    predictions differ, ``tie_changes`` of them where the reference's own prediction
    was a tie. ``by_chance`` is how many a constant answer gets right (the count of the commonest
    label), or a random policy where items are episodes, or none where they are spans. ``clustering``
    tells how items that come in groups are correlated; None where they are taken as independent.
    """

    n: int
    right: int
    still_right: int
    lost: int
    gained: int
    changed: int
    tie_changes: int
    by_chance: float
    clustering: Clustering | None = None

    @property
    def changed_outside_ties(self) -> int:
        return self.changed - self.tie_changes

    @property
    def drop(self) -> float:
        """Paired drop as a fraction: (lost - gained) / n. Needs n > 0."""
        return (self.lost - self.gained) / self.n


def count(pairs: Pairs) -> Counts:
    """Counts of a group of pairs (which may be empty)."""
    return Counts(
        n=len(pairs),
        right=int(pairs.right.sum()),
        still_right=int(pairs.still_right.sum()),
        lost=int((pairs.right & ~pairs.still_right).sum()),
        gained=int((~pairs.right & pairs.still_right).sum()),
        changed=int(pairs.changed.sum()),
        tie_changes=int((pairs.changed & pairs.tie).sum()),
        by_chance=_by_chance(pairs),
        clustering=_clustering(pairs),
    )


def _clustering(pairs: Pairs) -> Clustering | None:
    grouped = bool((pairs.group >= 0).any())
    return clustering(pairs.lost, pairs.changed, clusters_of(pairs.group)) if grouped else None


def _by_chance(pairs: Pairs) -> float:
    if len(pairs) and not np.isnan(pairs.chance).any():
        return float(pairs.chance.sum())
    _, labels = np.unique(pairs.label, return_counts=True)
    return float(labels.max(initial=0))


def count_levels(pairs: Pairs, levels: tuple[int, ...]) -> Counts:
    """Counts of the pairs that lie on any of the levels."""
    return count(pairs.at(np.isin(pairs.level, levels)))
