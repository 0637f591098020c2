"""How many items ``--sequential`` reads: the tables of docs/sequential.md.

    python benchmarks/sequential.py [--runs 1000] [--items 10000] [--run RUN --environment NAME]

Simulated levels go through the judge's own replay. With the folder of a RUN (a full pass) and one of its environments,
that environment's own answers are read again with drops planted at every level, in twenty orders of each model. Seeded.
"""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from gapshift.reports.gate import Band, Rule
from gapshift.reports.load import ALL_LEVELS, Indices, Pairs
from gapshift.reports.planned import read_run
from gapshift.reports.sequential import BandReading, in_reading_order, orders_of, replayed, sequential_rule
from gapshift.workspace import Workspace

DROPS = (0.0, 0.03, 0.10)
BANDS = tuple((level,) for level in ALL_LEVELS)
ORDERS = 20


@dataclass(frozen=True)
class Row:
    """Levels of one drop: how many items they took, as a mean with its standard error, and what was found."""

    margin: float
    drop: float
    levels: int
    items: float
    error: float
    share: float
    found: dict[str, float]

    def __str__(self) -> str:
        found = ", ".join(f"{name} {100 * part:.1f}%" for name, part in self.found.items())
        return (
            f"margin {100 * self.margin:g} pp, drop {100 * self.drop:g} pp: {self.items:,.0f} ±{self.error:,.0f} items "
            f"a level ({100 * self.share:.0f}% of them; {self.levels} levels): {found}"
        )


def row(margin: float, drop: float, readings: Sequence[BandReading]) -> Row:
    """What some levels took."""
    items = np.array([reading.counts.n for reading in readings], dtype=np.float64)
    found = Counter(reading.found or "undecided" for reading in readings)
    return Row(
        margin=margin,
        drop=drop,
        levels=len(items),
        items=float(items.mean()),
        error=float(items.std() / np.sqrt(len(items))),
        share=float(items.sum() / sum(reading.there for reading in readings)),
        found={name: count / len(items) for name, count in sorted(found.items())},
    )


def simulated(rng: np.random.Generator, n: int, drop: float, churn: float = 0.01, accuracy: float = 0.9) -> Pairs:
    """A level of independent items of ten labels that gains half the churn, and loses the other half and the drop."""
    label = (np.arange(n) % 10).astype(np.int32)
    right, u = rng.random(n) < accuracy, rng.random(n)
    lost = right & (u < (drop + churn / 2) / accuracy)
    still = (right & ~lost) | (~right & (u < churn / 2 / (1 - accuracy)))
    numbers, none = np.full(n, np.nan), np.zeros(n, dtype=np.bool_)
    before, after = (np.where(good, label, (label + 1) % 10).astype(np.int32) for good in (right, still))
    return Pairs(
        position=np.arange(n, dtype=np.intp),
        level=np.ones(n, dtype=np.int64),
        label=label,
        reference_prediction=before,
        prediction=after,
        right=right,
        still_right=still,
        changed=before != after,
        tie=none,
        reference_confidence=numbers,
        confidence=numbers,
        chance=numbers,
        reference_score=numbers,
        score=numbers,
        fallback=none,
        no_answer=none,
        group=np.full(n, -1, dtype=np.intp),
    )


def simulation(runs: int, items: int) -> Iterator[Row]:
    """Rows of simulated levels, five planned tests."""
    order: dict[Band, Indices] = {(1,): np.arange(items, dtype=np.intp)}
    for margin in (0.01, 0.02):
        rule = sequential_rule(Rule(margin, alpha=0.05), 5)
        for drop in DROPS:
            rng = np.random.default_rng(1)
            found = [replayed(simulated(rng, items, drop), order, False, rule)[0][1,] for _ in range(runs)]
            yield row(margin, drop, found)


def planted(pairs: Pairs, drop: float, rng: np.random.Generator) -> Pairs:
    """The pairs with this share of each level's items, right on both sides, made wrong."""
    still, changed = pairs.still_right.copy(), pairs.changed.copy()
    for level in ALL_LEVELS:
        here = pairs.level == level
        own = np.flatnonzero(here & pairs.right & pairs.still_right)
        hit = rng.choice(own, min(len(own), round(drop * here.sum())), replace=False)
        still[hit], changed[hit] = False, True
    return replace(pairs, still_right=still, changed=changed)


def real(run: Path, environment: str) -> Iterator[Row]:
    """Rows of a run's own answers in an environment, at its own margin, each model as if it were checked alone."""
    found = read_run(Workspace(run))
    rule = sequential_rule(found.rule, len(BANDS))
    for drop in DROPS:
        readings: list[BandReading] = []
        for bundle in found.bundles:
            cell = next(each for each in bundle.cells if each.environment.name == environment)
            if cell.pairs is None:
                continue
            for seed in range(ORDERS):
                answers = planted(cell.pairs, drop, np.random.default_rng([seed, round(1000 * drop)]))
                orders = orders_of(bundle.items, BANDS, seed, np.zeros(0, dtype=np.intp))
                answers = in_reading_order(answers, bundle.items, orders)
                readings += replayed(answers, orders, False, rule)[0].values()
        yield row(found.rule.margin, drop, readings)


def main(arguments: Sequence[str] | None = None) -> None:
    """Print both tables, a line a row."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=1000)
    parser.add_argument("--items", type=int, default=10_000)
    parser.add_argument("--run", type=Path)
    parser.add_argument("--environment", default="int8-dynamic")
    options = parser.parse_args(arguments)
    for found in simulation(options.runs, options.items):
        print(found)
    for found in real(options.run, options.environment) if options.run else ():
        print(found)


if __name__ == "__main__":
    main()
