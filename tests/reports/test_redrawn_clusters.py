"""Items in groups, redrawn and planned: as many independent pairs as they say as much as, judged by the gate's rule."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from gapshift.reports.counts import Counts
from gapshift.reports.false_alarms import Redrawn, redraw_run
from gapshift.reports.gate import Rule, drop_interval, fail_p, holm_adjusted, judge_band
from gapshift.reports.planned import read_run
from gapshift.reports.planning import plan_json
from gapshift.reports.redraw import Drawn, draw, together
from gapshift.reports.redrawn_gate import FLOOR, WORDS, band_codes, column_of, join
from gapshift.reports.statistics import Clustering, clustering, pass_probability

RULE = Rule(margin=0.02, alpha=0.05)
CHURN = {1: 2, 2: 5, 3: 9, 4: 9, 5: 12}
Make = Callable[..., Any]


@pytest.fixture
def grouped(make_builder: Make) -> Any:
    """600 items a level in 60 groups of ten."""
    builder = make_builder()
    builder.group = lambda item: f"speaker-{int(item.rsplit('-', 1)[1]) % 60}"
    return builder


def run_of(builder: Any, **cells: Any) -> Any:
    builder.cell("reference", builder.answers())
    for name, records in cells.items():
        builder.environment(name, "lossy")
        builder.cell(name, records)
    return read_run(builder.finish(deployments=tuple(cells)))


def redrawn_of(run: Any, **more: Any) -> Redrawn:
    found = redraw_run(run.cells, run.rule, 5 * len(run.cells), 3, **more)
    assert found is not None
    return found


@pytest.mark.parametrize("n", [300, 600, 1200])
@pytest.mark.parametrize("right", [0.9, 0.11])
@pytest.mark.parametrize("clusters", [Clustering(40, 1.5, 1.5), Clustering(12, 3.0, 2.0), Clustering(500, 1.25, 1.25)])
def test_every_table_gets_the_verdict_of_its_level(n: int, right: float, clusters: Clustering) -> None:
    """Of so many drawn pairs, the verdict of as many items as they stand for."""
    one, each = round(4 * clusters.drop), round(4 * clusters.churn)
    shape = [(b, c, b + c + more) for b in range(0, 28, 4) for c in range(0, 16, 4) for more in (0, 8)]
    tables = [
        Counts(n, int(right * n), int(right * n), b * one // 4, c * one // 4, k * each // 4, 0, 0.1 * n, clusters)
        for b, c, k in shape
    ]
    lost, gained, changed = (np.array([column]) for column in zip(*shape, strict=True))
    columns = join([column_of(table, False, n, RULE, place) for place, table in enumerate(tables)])
    family = 10 * len(shape)
    codes = band_codes(columns, Drawn(lost, gained, changed, np.zeros_like(lost)), RULE, family)[0]
    p = holm_adjusted({k: fail_p(table, RULE) or 0.0 for k, table in enumerate(tables)}, family)
    for k, table in enumerate(tables):
        band = judge_band(table, False, p[k], RULE, family)
        assert codes[k] == (FLOOR if band.floor else WORDS.index(band.verdict)), (table, band)


def test_as_many_pairs_are_drawn_as_the_items_say_as_much_as(make_builder: Make) -> None:
    """Ten neighbours are a group, and what changes are the first items: two cells whose design effects differ, each
    with its own number of pairs for its drop and for its churn; they share what both have."""
    builder = make_builder()
    builder.group = lambda item: f"speaker-{int(item.rsplit('-', 1)[1]) // 10}"
    many, few = dict.fromkeys(CHURN, 30), dict.fromkeys(CHURN, 3)
    run = run_of(builder, many=builder.answers(lost=many, gained=few), few=builder.answers(lost=few, moved=many))
    (group, *_) = together(run.cells)
    effects = [(each.drop, each.churn) for each in group.clusterings if each is not None]
    assert len({round(effect, 3) for pair in effects for effect in pair}) == 4
    drawn, root = draw(group, 600, 0.0, 4000, np.random.default_rng(0)), math.sqrt(4000)
    changed = group.count @ group.changed / 600
    for k, (drop, churn) in enumerate(effects):
        lost, gained = drawn.lost[:, k].mean(), drawn.gained[:, k].mean()
        expected = math.floor(600 / drop) * group.churn[k]
        assert lost + gained == pytest.approx(expected, abs=4 * math.sqrt(expected) / root)
        assert lost - gained == pytest.approx(0, abs=4 * math.sqrt(expected) / root)
        expected = math.floor(600 / churn) * changed[k]
        assert drawn.changed[:, k].mean() == pytest.approx(expected, abs=4 * math.sqrt(expected) / root)
    assert np.corrcoef(drawn.lost.T)[0, 1] > 0.1


def test_more_items_come_in_more_groups() -> None:
    table = Counts(600, 540, 540, 0, 0, 0, 0, 60, Clustering(60, 1.45, 1.45))
    half, twice = (column_of(table, False, n, RULE) for n in (300, 1200))
    assert (half.freedom[0], twice.freedom[0]) == (29, 119)
    assert half.quantile[0] > twice.quantile[0]
    assert (half.pairs[0], twice.pairs[0]) == (300 / 1.45, 1200 / 1.45)
    assert column_of(table, False, 30, RULE).freedom[0] == 9


def test_a_cell_alone_passes_as_often_as_enumeration_says(grouped: Any) -> None:
    """1,000 redrawn runs against the product over the levels; four Monte Carlo errors allowed."""
    few = dict.fromkeys(CHURN, 3)
    run = run_of(grouped, int8=grouped.answers(lost=few, gained=few))
    found = redrawn_of(run)
    of = run.cells[0].counts
    exact = math.prod(pass_probability(600, 6 / 600, 0.02, clusters=of[band].clustering) for band in run.cells[0].bands)
    passed = (found.runs(found.no_drop) == 0).mean()
    assert 0.05 < exact < 0.95
    assert abs(passed - exact) < 4 * math.sqrt(exact * (1 - exact) / found.repeats)


def test_groups_cost_power_and_the_plan_says_so(grouped: Any, make_builder: Make) -> None:
    single = make_builder()
    plans = []
    for builder in (single, grouped):
        run = run_of(builder, int8=builder.answers(lost=CHURN, gained=CHURN))
        plans.append(plan_json(run, run.rule)["power"])
    alone, together_ = plans
    assert together_["pass"]["estimate"] < alone["pass"]["estimate"]
    assert together_["items_needed"] > 1.4 * alone["items_needed"]
    row, without = together_["levels"][4], alone["levels"][4]
    assert row["margin_pp"] > without["margin_pp"]
    assert row["least_margin_pp"] > without["least_margin_pp"]
    assert row["detectable_drop_pp"]["fail"] > without["detectable_drop_pp"]["fail"]


def test_items_in_groups_that_are_too_few_are_refused_with_the_number_that_would_do(make_builder: Make) -> None:
    """189 single items certify 2 pp; in groups of four it takes a seventh more, and Student's quantile."""
    builder = make_builder(per_level=200)
    builder.group = lambda item: f"speaker-{int(item.rsplit('-', 1)[1]) % 50}"
    run = run_of(builder, int8=builder.answers())
    plan = plan_json(run, run.rule)["power"]
    assert "takes 227 in groups like these, and there are 200 a level. Plan 227 or more" in plan["refused"]
    more = plan_json(run, run.rule, items=[227] * 5)["power"]
    assert (more["refused"], more["pass"]["estimate"]) == ("", 1.0)
    assert plan_json(run, run.rule, items=[226] * 5)["power"]["pass"]["estimate"] == 0.0


def test_data_drawn_by_groups_passes_as_often_as_planned() -> None:
    """The gate itself, which has to estimate the design effect, against the plan: 60 groups of ten whose rates differ
    (beta, intraclass correlation 0.1), no drop, churn 2%. 400 runs: one standard error is 2.5 pp, three allowed."""
    rng, group, passed, planned = np.random.default_rng(8), np.repeat(np.arange(60), 10), [], []
    for _ in range(400):
        losing, gaining = rng.beta(0.01 * 9, 0.99 * 9, (2, 60))
        u = rng.random(600)
        d = (u < losing[group]).astype(int) - (u > 1 - gaining[group])
        found = clustering(d, d != 0, group)
        lost, gained = int((d > 0).sum()), int((d < 0).sum())
        passed.append(drop_interval(Counts(600, 540, 540, lost, gained, lost + gained, 0, 60, found), RULE).high < 0.02)
        planned.append(pass_probability(600, (lost + gained) / 600, 0.02, clusters=found))
    assert np.mean(passed) == pytest.approx(np.mean(planned), abs=3 * 0.025)
    assert 0.4 < np.mean(passed) < 0.7
