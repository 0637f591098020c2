"""A run of 240 tests: how often FAIL is wrong anywhere, before and after its exact tail, and what that costs in power.

Part of ``judging.py``. *Score tail* is the score test's normal tail alone (of groups: Student's), which was the rule
before; *the gate* is the rule. Every family is judged by the gate's own rule over many runs at once.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtr
from scipy.stats import binom, norm

from gapshift.reports.counts import Counts
from gapshift.reports.gate import Rule
from gapshift.reports.redraw import Drawn
from gapshift.reports.redrawn_gate import FAIL, Columns, band_codes, column_of, join
from gapshift.reports.statistics import clustered_margin_test, discordance
from gapshift.reports.statistics.clusters import LEAST_ICC
from gapshift.reports.statistics.margin import binomial, first_at_least, score_statistics

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]
LEVELS, ENVIRONMENTS = 5, 48
FAMILY = LEVELS * ENVIRONMENTS


def columns(n: int, family: int = FAMILY, rule: Rule | None = None) -> Columns:
    """So many tests of ``n`` independent items."""
    one = Counts(n, round(0.9 * n), round(0.9 * n), 0, 0, 0, 0, n / 10)
    return join([column_of(one, False, n, rule or Rule(0.02, 0.05), place) for place in range(family)])


def any_fail(lost: Ints, gained: Ints, n: int, rule: Rule) -> tuple[Bools, Bools]:
    """Which runs (rows) hold a FAIL, by the score's tail alone and by the gate."""
    family = lost.shape[1]
    score = score_statistics(lost, gained, float(n), rule.margin)
    alone = (norm.sf(score).min(axis=1) * family) < rule.alpha
    drawn = Drawn(lost, gained, lost + gained, np.zeros_like(lost))
    return np.asarray(alone), (band_codes(columns(n, family, rule), drawn, rule, family) == FAIL).any(axis=1)


def independent(runs: int, n: int, losing: float, gaining: float, seed: int) -> tuple[Ints, Ints]:
    """Lost and gained of 240 tests that share nothing, (runs, 240)."""
    drawn = np.random.default_rng(seed).multinomial(n, [losing, gaining, 1 - losing - gaining], size=(runs, FAMILY))
    return drawn[..., 0], drawn[..., 1]


def sharing(runs: int, n: int, losing: float, gaining: Sequence[float], seed: int) -> Iterator[tuple[Ints, Ints]]:
    """Of 48 environments of five levels that answer the same items: what is fragile in one is in others.

    One pair of arrays (runs, 240) a share gained; ``losing`` comes on top of it.
    """
    rng = np.random.default_rng(seed)
    found = np.zeros((len(gaining), 2, runs, FAMILY), dtype=np.int64)
    half = np.sqrt(np.float32(0.5))
    for run in range(runs):
        fragile = rng.standard_normal((ENVIRONMENTS, LEVELS, n), dtype=np.float32)
        fragile += rng.standard_normal((1, LEVELS, n), dtype=np.float32)
        fragile *= half
        for k, share in enumerate(gaining):
            found[k, 0, run] = (fragile > norm.isf(losing + share)).sum(axis=2).ravel()
            found[k, 1, run] = (fragile < norm.ppf(share)).sum(axis=2).ravel() if share else 0
    yield from ((lost, gained) for lost, gained in found)


def score_alone_power(n: int, churn: float, margin: float, drop: float, tail: float) -> float:
    """P(the score's normal tail is below ``tail``), exact."""
    lost, share = discordance(churn, drop)
    gained, weight = binomial(n, share)
    least = first_at_least(float(norm.isf(tail)), gained, float(n), margin)
    return float(weight @ binom.sf(least - 1, n - gained, lost / (1 - share)))


# ------------------------------------------------------------------------------- groups


def grouped(
    runs: int, groups: int, size: int, gaining: float, icc: float, rule: Rule, seed: int
) -> tuple[Bools, Bools]:
    """Which families of 240 grouped tests hold a FAIL though every drop is the margin: Student's tail alone, the gate.

    Each group has its own chance to lose and to gain an item (beta); tests share nothing.
    """
    rng, n = np.random.default_rng(seed), groups * size
    student, gate = [], []
    for _ in range(runs):
        lost = rng.binomial(size, _rates(rng, rule.margin + gaining, icc, (FAMILY, groups)))
        gained = rng.binomial(size - lost, np.minimum(1.0, _rates(rng, gaining, icc, (FAMILY, groups))))
        b, c = lost.sum(axis=1), gained.sum(axis=1)
        effect = design_effects(lost, gained, size)
        p = stdtr(groups - 1.0, -score_statistics(b / effect, c / effect, n / effect, rule.margin))
        least = int(np.argmin(p))
        student.append(p[least] * FAMILY < rule.alpha)
        below = np.flatnonzero(p * FAMILY < rule.alpha).tolist()
        exact = [
            clustered_margin_test(int(b[k]), int(c[k]), n, groups, float(effect[k]), rule.margin, rule.alpha)
            for k in below
        ]
        gate.append(bool(exact) and min(exact) * FAMILY < rule.alpha)
    return np.array(student), np.array(gate)


def design_effects(lost: Ints, gained: Ints, size: int) -> Floats:
    """``clustering(...).drop`` of many tests at once: lost and gained by group, (tests, groups), all of one size."""
    groups = lost.shape[1]
    n = groups * size
    sums = lost - gained
    mean = sums.sum(axis=1, keepdims=True) / n
    spread = ((lost + gained).sum(axis=1) - n * mean[:, 0] ** 2) / (n - 1)
    squares = ((sums - size * mean) ** 2).sum(axis=1)
    assumed = 1 + (size - 1) * LEAST_ICC
    seen = np.divide(groups / (groups - 1) * squares, n * spread, out=np.zeros(len(lost)), where=spread > 0)
    return np.asarray(np.maximum(assumed, seen), dtype=np.float64)


def in_groups(
    runs: int, groups: int, size: int, drop: float, gaining: float, icc: float, seed: int
) -> Iterator[tuple[Ints, Ints]]:
    """Differences of the items of one test and their groups, each of which has its own chance to lose and to gain."""
    rng, group = np.random.default_rng(seed), np.repeat(np.arange(groups), size)
    for _ in range(runs):
        losing, winning = (_rates(rng, mean, icc, (groups,)) for mean in (drop + gaining, gaining))
        u = rng.random(groups * size)
        yield (u < losing[group]).astype(np.int64) - (u > 1 - winning[group]), group


def _rates(rng: np.random.Generator, mean: float, icc: float, size: tuple[int, ...]) -> Floats:
    k = 1 / icc - 1
    return rng.beta(mean * k, (1 - mean) * k, size) if mean else np.zeros(size)
