"""What every statistic of judging promises, against what simulation measures: the table of docs/judging.md.

    python benchmarks/judging.py [--runs 2000] [--json]

Everything is seeded. Beside each simulated share stands its Monte Carlo standard error; *exact* rows sum over all
outcomes.
(The file is not called statistics.py: a script's folder comes first on the path, and libraries import that name.)
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache

import numpy as np
from judging_families import any_fail, grouped, in_groups, independent, score_alone_power, sharing
from numpy.typing import NDArray
from scipy.stats import binom, norm

from gapshift.reports.counts import Counts
from gapshift.reports.gate import Rule, drop_interval, fail_p
from gapshift.reports.statistics import (
    Estimate,
    SequentialRule,
    clopper_pearson,
    clustering,
    ece_difference,
    fail_probability,
    first_decision,
    log_e_values,
    mcnemar_midp,
    mover_difference,
    pass_probability,
    smooth_ece_difference,
    wilson,
)

Ints = NDArray[np.int64]
MARGIN, ALPHA = 0.02, 0.05
RULE = Rule(MARGIN, ALPHA)
LEVELS, PER_LEVEL = 5, 600


@dataclass(frozen=True)
class Row:
    """One line of the table; ``error`` is None where the measurement is exact, ``runs`` None as well."""

    method: str
    case: str
    promised: str
    measured: float
    error: float | None = None
    runs: int | None = None
    unit: str = "%"

    def __str__(self) -> str:
        value = f"{100 * self.measured:.2f}%" if self.unit == "%" else f"{self.measured:,.0f} {self.unit}"
        scale = 100 if self.unit == "%" else 1
        how = "exact" if self.error is None else f"±{scale * self.error:.2g}, {self.runs:,} runs"
        return f"| {self.method} | {self.case} | {self.promised} | {value} ({how}) |"


def share(method: str, case: str, promised: str, hits: NDArray[np.bool_] | list[bool]) -> Row:
    """A simulated share of runs, with its standard error."""
    found = np.asarray(hits, dtype=bool)
    p = float(found.mean())
    return Row(method, case, promised, p, float(np.sqrt(max(p * (1 - p), 1 / len(found)) / len(found))), len(found))


def counts(lost: int, gained: int, n: int = PER_LEVEL, groups: tuple[Ints, Ints] | None = None) -> Counts:
    """Pairs of a level with 90% reference accuracy; ``groups``: differences and what they come in."""
    right, found = round(0.9 * n), None
    if groups is not None:
        difference, group = groups
        found = clustering(difference, difference != 0, group)
    return Counts(n, right, right - lost + gained, lost, gained, lost + gained, 0, n / 10, found)


@lru_cache(maxsize=200_000)
def judged(lost: int, gained: int, n: int) -> tuple[float, float, float]:
    """Ends of the gate's interval and its p at the margin."""
    pairs = counts(lost, gained, n)
    interval, p = drop_interval(pairs, RULE), fail_p(pairs, RULE)
    return interval.low, interval.high, 1.0 if p is None else p


def tables(runs: int, n: int, losing: float, gaining: float, seed: int = 0) -> NDArray[np.float64]:
    """Ends and p of simulated levels, (runs, 3)."""
    drawn = np.random.default_rng(seed).multinomial(n, [losing, gaining, 1 - losing - gaining], size=runs)
    return np.array([judged(int(b), int(c), n) for b, c, _ in drawn])


def difference(rng: np.random.Generator, size: int | tuple[int, int], losing: float, gaining: float) -> Ints:
    """Independent differences."""
    u = rng.random(size)
    return (u < losing).astype(np.int64) - (u > 1 - gaining)


# ------------------------------------------------------------------ intervals and the gate


def intervals(runs: int) -> Iterator[Row]:
    """Coverage of the drop, of shares and of the tilt."""
    for n, b, c in ((50, 0.05, 0.05), (200, 0.005, 0.005), (200, 0.03, 0.01), (600, 0.025, 0.005)):
        low, high, _ = tables(10 * runs, n, b, c).T
        case = f"n = {n}, {100 * b:g}% lost, {100 * c:g}% gained"
        yield share("Tango", case, "95% coverage", (low <= b - c) & (b - c <= high))
    for name, method in (("Clopper–Pearson (churn)", clopper_pearson), ("Wilson (loss, gain)", wilson)):
        worst = min(_covers(method, n, p) for n in (50, 200) for p in (0.01, 0.02, 0.1, 0.3, 0.5))
        yield Row(name, "lowest of n = 50, 200 and 1 to 50%", "95% coverage", worst)
    yield share("MOVER (tilt)", "n = 200, 3 pp against 0.5 pp", "95% coverage", [_tilt(x, y) for x, y in _pairs(runs)])


def _covers(method: Callable[[int, int], Estimate], n: int, p: float) -> float:
    chance = binom.pmf(np.arange(n + 1), n, p)
    ends = [method(k, n) for k in range(n + 1)]
    return float(sum(w for w, i in zip(chance, ends, strict=True) if i.low <= p <= i.high))


def _pairs(runs: int) -> Iterator[tuple[Counts, Counts]]:
    rng = np.random.default_rng(3)
    hard = rng.multinomial(200, [0.05, 0.02, 0.93], size=runs)
    easy = rng.multinomial(200, [0.01, 0.005, 0.985], size=runs)
    for x, y in zip(hard.tolist(), easy.tolist(), strict=True):
        yield counts(x[0], x[1], 200), counts(y[0], y[1], 200)


def _tilt(hard: Counts, easy: Counts) -> bool:
    found = mover_difference(drop_interval(hard, RULE), drop_interval(easy, RULE))
    return found.low <= 0.025 <= found.high


def gate(runs: int) -> Iterator[Row]:
    """False PASS, false FAIL and power of a level and of runs."""
    for n, gaining in ((189, 0.0), (600, 0.0), (600, 0.01), (1000, 0.01)):
        _, high, p = tables(10 * runs, n, MARGIN + gaining, gaining).T
        case = f"D = margin = 2 pp, n = {n}, {100 * gaining:g}% gained"
        yield share("PASS", case, "at most 2.5%", high < MARGIN)
        yield share("FAIL, one test", case, "5%", p < ALPHA)
    _, high, _ = tables(5 * runs, PER_LEVEL, 0.015, 0.015).T
    passes = (high < MARGIN).reshape(runs, 5)
    yield share("power of PASS", "D = 0, churn 3%, n = 600: one level", "73% (planned)", passes[:, 0])
    yield share("power of PASS", "the same, all five levels", "21% (planned)", passes.all(axis=1))
    _, _, p = tables(runs, PER_LEVEL, 0.075, 0.005, 5).T
    yield share("power of FAIL", "D = margin + 5 pp, n = 600, family of 240", "—", p < ALPHA / 240)


def families(runs: int) -> Iterator[Row]:
    """Any false FAIL among 240 tests, all on the margin or above it; what the exact tail costs in power."""
    for n in (200, 600, 2000):
        for gaining in (0.0, 0.01, 0.03):
            case = f"every D = margin, n = {n}, {100 * gaining:g}% gained, nothing shared"
            yield from _family(case, *independent(runs, n, MARGIN + gaining, gaining, 6), n)
    for n in (200, 600, 2000):
        for gaining, drawn in zip((0.0, 0.01, 0.03), sharing(runs, n, MARGIN, (0.0, 0.01, 0.03), 7), strict=True):
            case = f"every D = margin, n = {n}, {100 * gaining:g}% gained, environments share items"
            yield from _family(case, *drawn, n)
    drawn = independent(runs, PER_LEVEL, MARGIN / 2 + 0.01, 0.01, 8)
    yield from _family("every D = half the margin, n = 600, 1% gained", *drawn, PER_LEVEL)
    for groups, size, gaining, icc in (
        (20, 30, 0.0, 0.1),
        (60, 10, 0.0, 0.1),
        (60, 10, 0.02, 0.1),
        (200, 3, 0.01, 0.1),
    ):
        tail, gate_ = grouped(runs, groups, size, gaining, icc, RULE, 9)
        case = f"every D = margin, {groups} groups of {size}, ICC {icc:g}, {100 * gaining:g}% gained"
        yield share("Holm over 240, Student's tail alone", case, "at most 5%", tail)
        yield share("Holm over 240, the gate", case, "at most 5%", gate_)
    yield from _power()


def _family(case: str, lost: Ints, gained: Ints, n: int) -> Iterator[Row]:
    alone, gate_ = any_fail(lost, gained, n, RULE)
    yield share("Holm over 240, score tail alone", case, "at most 5%", alone)
    yield share("Holm over 240, the gate", case, "at most 5%", gate_)


def _power() -> Iterator[Row]:
    """Of one test at Holm's strictest step, exact."""
    for n in (200, 600, 2000):
        for gaining in (0.0, 0.01):
            for more in (0.01, 0.02, 0.05):
                drop = MARGIN + more
                case = f"D = margin + {100 * more:g} pp, n = {n}, {100 * gaining:g}% gained, one of 240"
                churn = drop + 2 * gaining
                alone = score_alone_power(n, churn, MARGIN, drop, ALPHA / 240)
                yield Row("power of FAIL, score tail alone", case, "—", alone)
                mended = fail_probability(n, churn, MARGIN, drop, ALPHA, 240)
                yield Row("power of FAIL, the gate", case, "—", mended)


def any_change(runs: int) -> Iterator[Row]:
    """mid-p McNemar, and what an unpaired test sees of the same pairs."""
    size = max(_midp_size(n, churn) for n in (50, 200, 600) for churn in (0.01, 0.05, 0.2))
    yield Row("mid-p McNemar, size", "largest of n = 50, 200, 600, churn 1 to 20%", "at most 5%", size)
    drawn = np.random.default_rng(7).multinomial(10_000, [0.0075, 0.0025, 0.99], size=runs)
    found = [mcnemar_midp(int(b), int(c)) < ALPHA for b, c, _ in drawn]
    case = "D = 0.5 pp, churn 1%, n = 10,000"
    yield share("mid-p McNemar, power", case, "99.9% (planned)", found)
    right = np.random.default_rng(8).binomial(10_000, [[0.9, 0.895]], size=(runs, 2)) / 10_000
    yield share("unpaired z-test, power", "two samples of the same", "—", _z(right) > norm.isf(0.025))
    paired = np.column_stack([np.full(runs, 0.9), 0.9 - (drawn[:, 0] - drawn[:, 1]) / 10_000])
    yield share("unpaired z-test, power", "the same pairs", "2% (planned)", _z(paired) > norm.isf(0.025))


def _z(right: NDArray[np.float64]) -> NDArray[np.float64]:
    mean = right.mean(axis=1)
    return np.asarray((right[:, 0] - right[:, 1]) / np.sqrt(2 * mean * (1 - mean) / 10_000), dtype=np.float64)


def _midp_size(n: int, churn: float) -> float:
    size = 0.0
    for m in range(n + 1):
        weight = float(binom.pmf(m, n, churn))
        if weight > 1e-9:
            split = binom.pmf(np.arange(m + 1), m, 0.5)
            size += weight * sum(float(p) for b, p in enumerate(split) if mcnemar_midp(b, m - b) < ALPHA)
    return size


# ----------------------------------------------------------------------------- sequences


def sequences(runs: int) -> Iterator[Row]:
    """The e-process looked at after every item, how long it takes, and what order does."""
    rng = np.random.default_rng(9)
    for losing, gaining in ((0.02, 0.0), (0.025, 0.005), (0.2, 0.18)):
        sides = [_capitals(difference(rng, 5000, losing, gaining)) for _ in range(runs)]
        case = f"D = margin, {100 * gaining:g}% gained, 5,000 looks"
        for name, side, alpha in (("certifies", 0, ALPHA), ("proves", 1, ALPHA), ("certifies", 0, ALPHA / 2)):
            ever = [each[side].max() >= -np.log(alpha) for each in sides]
            yield share(f"e-process {name}, alpha {alpha:g}", case, f"at most {alpha:.1%}", ever)
    yield from _sequential_family(runs)
    few = max(2, runs // 4)
    yield from _times(few, "margin 1 pp", SequentialRule(0.01), {0: "1,292", 3: "838", 10: "119"})
    yield from _times(few, "margin 2 pp, as --sequential, 240 tests", SequentialRule(MARGIN, ALPHA / 2, ALPHA / 240))
    yield from order(few)


def _capitals(values: Ints) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Both log capitals after every item."""
    return log_e_values(np.cumsum(values > 0), np.cumsum(values < 0), np.arange(1, len(values) + 1), MARGIN)


def _sequential_family(runs: int) -> Iterator[Row]:
    """As --sequential sets it: within at 0.025 a level, beyond at 0.05 over the family, here five levels."""
    rng, rule = np.random.default_rng(13), SequentialRule(MARGIN, ALPHA / 2, ALPHA / LEVELS)
    found = []
    for _ in range(runs):
        found.append([first_decision(difference(rng, 5000, 0.025, 0.005), rule) for _ in range(LEVELS)])
    case = "five levels at D = margin, 0.5% gained, 5,000 looks"
    passes = [all(each is not None and each.finding == "within" for each in run) for run in found]
    yield share("sequential run: PASS", case, "at most 2.5%", passes)
    fails = [any(each is not None and each.finding == "beyond" for each in run) for run in found]
    yield share("sequential run: FAIL", case, "at most 5%", fails)
    one = [run[0] is not None and run[0].finding == "within" for run in found]
    yield share("sequential level: within", case.replace("five levels", "one level"), "at most 2.5%", one)


def _times(runs: int, words: str, rule: SequentialRule, planned: Mapping[int, str] | None = None) -> Iterator[Row]:
    """Items until a decision, of 20,000."""
    rng = np.random.default_rng(14)
    for drop in (0, 3, 10):
        found = [first_decision(difference(rng, 20_000, drop / 100 + 0.005, 0.005), rule) for _ in range(runs)]
        items = np.array([each.items if each else 20_000 for each in found])
        case = f"{words}, churn 1% and D = {drop} pp"
        promised = f"{planned[drop]} (planned)" if planned else "—"
        error = float(items.std(ddof=1) / np.sqrt(runs))
        yield Row("e-process, mean items", case, promised, float(items.mean()), error, runs, "items")


def order(runs: int) -> Iterator[Row]:
    """Harmful runs (6 pp at level 4, 12 pp at level 5) that pass in the file's order, and level by level shuffled."""
    rng, rule, whole, apart = np.random.default_rng(10), SequentialRule(MARGIN), [], []
    for _ in range(runs):
        levels = [np.sort(difference(rng, PER_LEVEL, losing, 0.0)) for losing in (0, 0, 0, 0.06, 0.12)]
        whole.append(_within(np.concatenate(levels), rule))
        apart.append(all(_within(rng.permutation(level), rule) for level in levels))
    yield share("one sequence", "harmful run sorted easy to hard", "—", whole)
    yield share("one e-process a level, shuffled", "the same", "at most 5%", apart)


def _within(values: Ints, rule: SequentialRule) -> bool:
    found = first_decision(values, rule)
    return found is not None and found.finding == "within"


# ------------------------------------------------------------------------------ clusters


def clusters(runs: int) -> Iterator[Row]:
    """PASS, FAIL and coverage at D = margin where groups differ (beta, intraclass correlation)."""
    for groups, size, gaining, icc in (
        (10, 60, 0.0, 0.1), (20, 30, 0.0, 0.1), (20, 30, 0.02, 0.1), (60, 10, 0.0, 0.1), (60, 10, 0.0, 0.3),
        (60, 10, 0.02, 0.3), (200, 3, 0.02, 0.3),
    ):  # fmt: skip
        case = f"{groups} groups of {size}, ICC {icc:g}, {100 * gaining:g}% gained"
        for name, robust in (("clustered", True), ("items as independent", False)):
            covered, passed, failed = _clustered(runs, groups, size, gaining, icc, robust)
            yield share(f"{name}: coverage", case, "95%", covered)
            yield share(f"{name}: PASS", case, "at most 2.5%", passed)
            yield share(f"{name}: FAIL", case, "5%", failed)


def _clustered(
    runs: int, groups: int, size: int, gaining: float, icc: float, robust: bool
) -> tuple[NDArray[np.bool_], NDArray[np.bool_], NDArray[np.bool_]]:
    found = []
    for d, group in in_groups(runs, groups, size, MARGIN, gaining, icc, 11):
        pairs = counts(int((d > 0).sum()), int((d < 0).sum()), len(d), (d, group) if robust else None)
        interval, p = drop_interval(pairs, RULE), fail_p(pairs, RULE)
        covers = interval.low <= MARGIN <= interval.high
        found.append((covers, interval.high < MARGIN, p is not None and p < ALPHA))
    covered, passed, failed = np.array(found, dtype=bool).T
    return covered, passed, failed


def planned_in_groups(runs: int) -> Iterator[Row]:
    """The gate, which estimates the design effect anew each time, against what is planned at the estimates."""
    for groups, size, drop, gaining, icc in (
        (20, 30, 0.0, 0.01, 0.1), (60, 10, 0.0, 0.01, 0.1), (60, 10, 0.0, 0.01, 0.3), (200, 5, 0.0, 0.015, 0.1),
        (200, 3, 0.0, 0.015, 0.3), (100, 20, 0.0, 0.02, 0.1), (40, 50, 0.0, 0.01, 0.05), (60, 20, 0.07, 0.01, 0.1),
        (200, 5, 0.06, 0.01, 0.1),
    ):  # fmt: skip
        passed, failed, planned = [], [], []
        for run, (d, group) in enumerate(in_groups(runs, groups, size, drop, gaining, icc, 12)):
            pairs = counts(int((d > 0).sum()), int((d < 0).sum()), len(d), (d, group))
            passed.append(drop_interval(pairs, RULE).high < MARGIN)
            failed.append((fail_p(pairs, RULE) or 1.0) < ALPHA / LEVELS)
            if run < 200:
                churn = round((pairs.lost + pairs.gained) / pairs.n, 5)
                if drop:
                    planned.append(fail_probability(pairs.n, churn, MARGIN, drop, ALPHA, LEVELS, pairs.clustering))
                else:
                    planned.append(pass_probability(pairs.n, churn, MARGIN, clusters=pairs.clustering))
        case = f"{groups} groups of {size}, ICC {icc:g}, D = {100 * drop:g} pp, {100 * gaining:g}% gained"
        words = f"{np.mean(planned):.1%} (planned)"
        yield share(f"groups: {'FAIL, one of 5' if drop else 'PASS'}", case, words, failed if drop else passed)


# --------------------------------------------------------------------------- calibration


def calibration(runs: int) -> Iterator[Row]:
    """Paired differences of ECE and smECE at n = 1,000: both sides off, and the reference calibrated."""
    few = max(2, runs // 10)
    for case, before in (("both off (5, 12 pp)", 0.05), ("reference calibrated, then 7 pp", 0.0)):
        rng, found = np.random.default_rng(12), []
        for seed in range(few):
            confidence, draw = rng.uniform(0.55, 0.93, 1000), rng.random(1000)
            columns = (confidence, draw < confidence - before, confidence, draw < confidence - before - 0.07)
            each = (ece_difference(*columns, seed=seed), smooth_ece_difference(*columns, seed=seed))
            found.append([one.low <= 0.07 <= one.high for one in each])
        for name, hits in zip(("debiased ECE", "smECE"), np.array(found).T, strict=True):
            yield share(f"{name} difference", case, "95% where both are off", hits)


PARTS = (intervals, gate, families, any_change, sequences, clusters, planned_in_groups, calibration)


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("--runs", type=int, default=2000, help="simulated runs a row (ten times as many for counts)")
    parser.add_argument("--json", action="store_true", help="the rows as JSON on the last line")
    options = parser.parse_args(arguments)
    print("| method | case | promised | measured |\n|---|---|---|---|")
    rows = []
    for part in PARTS:
        for row in part(max(1, options.runs)):
            rows.append(row)
            print(row, flush=True)
    if options.json:
        print(json.dumps([asdict(row) for row in rows]))


if __name__ == "__main__":
    main()
