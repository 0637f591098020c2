"""Discordant pairs drawn again at the churn that was observed, with a drop that is known.

Items of a band are drawn with replacement, each with what all cells of its bundle made of it, so cells that answered
the same items stay as dependent as they were; levels and bundles are drawn independently. Which way a changed answer
went is drawn anew: an item was right or wrong in the reference, so it goes the same way in every cell that changes it.
The reference's accuracy, on which the floor rests, stays as observed.

Items in groups that the gate takes as clusters are correlated, and to draw whole groups would not tell how their losses
are: at the drop that is drawn they were not seen. So a cell gets as many independent items as its own say, n / design
effect, of its drop for what is lost and gained and of its churn for what changes. Cells share items as far as they go.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gapshift.reports.gate import Band
from gapshift.reports.load import Pairs
from gapshift.reports.planned import MeasuredCell
from gapshift.reports.statistics import Clustering

Whole = NDArray[np.int64]
Bools = NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Together:
    """Cells of one bundle (their places among the gated ones) that answered the same ``n`` items of a band.

    ``patterns`` lists what happened to items that some cell changed, ``count`` (P,) how many items each happened to:
    ``discordant`` and ``changed`` (P, K) say in which cells, ``tie`` (P,) that the reference's answer was a tie.
    ``clusterings`` (K) are those that the gate uses for the cells, None where items are independent.
    """

    cells: tuple[int, ...]
    band: Band
    n: int
    count: Whole
    discordant: Bools
    changed: Bools
    tie: Bools
    clusterings: tuple[Clustering | None, ...]

    @property
    def churn(self) -> NDArray[np.float64]:
        """Share of the items whose answer goes from right to wrong or back, by cell (K,)."""
        return np.asarray(self.count @ self.discordant / max(1, self.n), dtype=np.float64)

    def pairs(self, n: int) -> Whole:
        """How many independent pairs ``n`` items say as much of the drop as, and of churn: (2, K), rounded down."""
        effects = [(each.drop, each.churn) if each else (1.0, 1.0) for each in self.clusterings]
        return np.floor(n / np.array(effects).T).astype(np.int64)


@dataclass(frozen=True, eq=False)
class Drawn:
    """Counts of redrawn independent pairs, one row a repeat and one column a cell, named as in ``Counts``."""

    lost: Whole
    gained: Whole
    changed: Whole
    tie_changes: Whole


def together(cells: Sequence[MeasuredCell]) -> list[Together]:
    """The cells' items by bundle, band and what was answered together. Cells that cannot be judged have none."""
    found: dict[tuple[str, Band, bytes], list[tuple[int, Pairs, Clustering | None]]] = {}
    for place, cell in enumerate(cells):
        if cell.pairs is None or cell.blocked is not None:
            continue
        for band in cell.bands:
            own = cell.pairs.at(np.isin(cell.pairs.level, band))
            found.setdefault((cell.bundle.name, band, own.position.tobytes()), []).append(
                (place, own, cell.counts[band].clustering)
            )
    return [_together(band, same) for (_, band, _), same in found.items()]


def _together(band: Band, same: Sequence[tuple[int, Pairs, Clustering | None]]) -> Together:
    places, pairs, clusterings = zip(*same, strict=True)
    changed = np.stack([each.changed for each in pairs], axis=1)
    discordant = np.stack([each.right != each.still_right for each in pairs], axis=1)
    some = changed.any(axis=1)
    rows = np.column_stack([pairs[0].tie[some], changed[some], discordant[some]])
    patterns, count = np.unique(rows, axis=0, return_counts=True)
    size = len(places)
    return Together(
        cells=tuple(places),
        band=band,
        n=len(pairs[0]),
        count=count.astype(np.int64),
        discordant=patterns[:, 1 + size :],
        changed=patterns[:, 1 : 1 + size],
        tie=patterns[:, 0],
        clusterings=clusterings,
    )


def draw(group: Together, n: int, drop: float, repeats: int, rng: np.random.Generator) -> Drawn:
    """What ``n`` items say, drawn ``repeats`` times at a true drop (a share from 0) in every cell.

    A cell's churn stays as observed where it is as large as the drop; where it is not, items that the cell left alone
    are lost besides.
    """
    for_drop, for_churn = group.pairs(n)
    totals = np.zeros((4, repeats, len(group.cells)), dtype=np.int64)
    drawn = 0
    for size in np.unique(np.concatenate([for_drop, for_churn])).tolist():
        more = _draw(group, size - drawn, drop, repeats, rng)
        totals[:2] += more[:2] * (for_drop >= size)
        totals[2:] += more[2:] * (for_churn >= size)
        drawn = size
    return Drawn(*totals)


def _draw(group: Together, n: int, drop: float, repeats: int, rng: np.random.Generator) -> Whole:
    """Lost, gained, changed and changed ties of ``n`` independent items, (4, repeats, K)."""
    size = len(group.cells)
    if not len(group.count):
        zero = np.zeros((repeats, size), dtype=np.int64)
        items, changed, ties, lost = zero[:, :0], zero, zero, zero
    else:
        items = rng.multinomial(n, [*(group.count / group.n), 1 - group.count.sum() / group.n], size=repeats)[:, :-1]
        changed, ties = items @ group.changed, items @ (group.changed & group.tie[:, None])
        lost = _lost(items, group, drop, rng)
    discordant = items @ group.discordant if len(group.count) else changed
    more = _more(n - discordant, group.churn, drop, rng)
    return np.stack([lost + more, discordant - lost, np.minimum(n, changed + more), ties])


def _lost(items: Whole, group: Together, drop: float, rng: np.random.Generator) -> Whole:
    """How many discordant items are lost, by cell; what is lost where losses are rarer is lost wherever it changes."""
    churn = group.churn
    share = np.minimum(1.0, (1 + np.divide(drop, churn, out=np.ones_like(churn), where=churn > 0)) / 2)
    lost = np.zeros((len(items), len(churn)), dtype=np.int64)
    left, before = items, 1.0
    for cell in np.argsort(-share, kind="stable"):
        left = left if share[cell] == before else rng.binomial(left, min(1.0, share[cell] / before))
        before = share[cell]
        lost[:, cell] = left @ group.discordant[:, cell]
    return lost


def _more(concordant: Whole, churn: NDArray[np.float64], drop: float, rng: np.random.Generator) -> Whole:
    """Losses that a drop above the churn needs besides, among the items that a cell left alone."""
    rate = np.clip((drop - churn) / (1 - np.minimum(churn, 1 - 1e-9)), 0.0, 1.0)
    return rng.binomial(concordant, rate) if rate.any() else np.zeros_like(concordant)


def columns_of(groups: Iterable[Together]) -> list[tuple[int, Band]]:
    """Every cell (its place) × band that is drawn, in the order of the columns that ``redraw`` gives."""
    return [(cell, group.band) for group in groups for cell in group.cells]


def redraw(groups: Sequence[Together], sizes: Sequence[int], drop: float, repeats: int, seed: int) -> Drawn:
    """All groups, each with its number of items; columns as ``columns_of`` names them. The same seed draws the same."""
    drawn = [
        draw(group, n, drop, repeats, np.random.default_rng((seed % 2**32, place)))
        for place, (group, n) in enumerate(zip(groups, sizes, strict=True))
    ]
    names = ("lost", "gained", "changed", "tie_changes")
    return Drawn(*(np.concatenate([getattr(each, name) for each in drawn], axis=1) for name in names))
