"""Redrawn runs: the gate's own verdicts, the churn and the drop that were asked for, and items that cells share."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from gapshift.reports.counts import Counts
from gapshift.reports.false_alarms import Redrawn, redraw_run
from gapshift.reports.gate import Rule, fail_p, holm_adjusted, judge_band, judge_cell
from gapshift.reports.order import worst
from gapshift.reports.planned import read_run
from gapshift.reports.planning import plan_json
from gapshift.reports.redraw import Drawn, columns_of, draw, redraw, together
from gapshift.reports.redrawn_gate import (
    FLOOR,
    WORDS,
    band_codes,
    cell_codes,
    column_of,
    columns_to_judge,
    holm_rejects,
    join,
)
from gapshift.reports.statistics import holm, pass_probability

RULE = Rule(margin=0.02, alpha=0.05)
CHURN = {1: 2, 2: 5, 3: 9, 4: 9, 5: 12}
Make = Callable[..., Any]


def run_of(builder: Any, cells: dict[str, Any], kinds: dict[str, str] | None = None, **settings: Any) -> Any:
    """A measured run whose environments have these records; all but equivalents are named."""
    kinds = kinds or {}
    for name, records in cells.items():
        builder.environment(name, kinds.get(name, "lossy"))
        builder.cell(name, records)
    builder.cell("reference", builder.answers())
    named = tuple(name for name in cells if kinds.get(name, "lossy") != "equivalent")
    return read_run(builder.finish(deployments=named, **settings))


def redrawn_of(run: Any, seed: int = 3, **more: Any) -> Redrawn:
    gated = [cell for cell in run.cells if cell.gated]
    found = redraw_run(gated, run.rule, sum(len(cell.bands) for cell in gated), seed, **more)
    assert found is not None
    return found


@pytest.mark.parametrize("strict", [False, True])
@pytest.mark.parametrize("per_level", [600, 120])
def test_redrawn_runs_get_the_verdict_that_the_gate_gives(make_builder: Make, strict: bool, per_level: int) -> None:
    """Lossy and equivalent cells, a level at the floor, few items, a family that is larger than its tests."""
    builder = make_builder(per_level=per_level)
    accuracy = {1: 0.98, 2: 0.9, 3: 0.7, 4: 0.5, 5: 0.1}
    few = {level: count * per_level // 600 for level, count in CHURN.items()}
    builder.cell("reference", builder.answers(accuracy))
    builder.environment("int8", "lossy")
    builder.cell("int8", builder.answers(accuracy, lost=few, gained=few))
    builder.environment("same", "equivalent")
    builder.cell("same", builder.answers(accuracy, moved={5: 1}))
    run = read_run(builder.finish(deployments=("int8",), strict=strict))
    cells, family, rule = [cell for cell in run.cells if cell.gated], 14, run.rule
    groups = together(cells)
    sizes = [group.n for group in groups]
    columns = columns_to_judge(cells, groups, sizes, rule)
    seen = set()
    for drop in (0.0, 0.02, 0.05):
        drawn = redraw(groups, sizes, drop, 40, seed=1)
        codes = band_codes(columns, drawn, rule, family)
        assert codes.shape == (40, len(columns_of(groups)))
        for repeat in range(40):
            mine = judged_singly(cells, columns_of(groups), drawn, repeat, rule, family)
            assert [WORDS[code] for code in cell_codes(columns, codes)[repeat]] == mine
            seen |= set(mine)
            assert WORDS[cell_codes(columns, codes)[repeat].max()] == worst(mine)
    assert len(seen) > 1


def judged_singly(cells: Any, columns: Any, drawn: Any, repeat: int, rule: Rule, family: int) -> list[str]:
    """One repeat by the gate's own functions."""
    counts = {}
    for k, (place, band) in enumerate(columns):
        own = cells[place].counts[band]
        lost, gained, changed, ties = (
            int(getattr(drawn, name)[repeat, k]) for name in ("lost", "gained", "changed", "tie_changes")
        )
        counts[place, band] = Counts(
            own.n, own.right, own.right - lost + gained, lost, gained, changed, ties, own.by_chance
        )
    p = holm_adjusted({key: fail_p(each, rule) or 0.0 for key, each in counts.items()}, family)
    return [
        judge_cell(
            [
                judge_band(counts[place, band], cell.equivalent, p[place, band], rule, family)
                for key, band in counts
                if key == place
            ],
            rule.strict,
        )
        for place, cell in enumerate(cells)
    ]


def test_holm_rejects_what_its_adjusted_p_reject() -> None:
    p = np.random.default_rng(2).choice([0.001, 0.004, 0.006, 0.009, 0.012, 0.02, 0.04, 0.3], size=(300, 8))
    singly = np.array([holm(row.tolist(), 10) < 0.05 for row in p])
    assert (holm_rejects(p, 10, 0.05) == singly).all()
    assert 0.1 < singly.mean() < 0.9


@pytest.mark.parametrize("n", [150, 189, 400, 600])
@pytest.mark.parametrize("right", [0.9, 0.11])
def test_every_table_gets_the_verdict_of_its_level(n: int, right: float) -> None:
    """Few losses, gains and changes, at and above the floor, with items that are enough and too few."""
    shape = [(b, c, b + c + more) for b in range(7) for c in range(7) for more in (0, 1, 3, 8)]
    lost, gained, changed = (np.array([column]) for column in zip(*shape, strict=True))
    drawn = Drawn(lost, gained, changed, np.zeros_like(lost))
    tables = [Counts(n, int(right * n), int(right * n) - b + c, b, c, k, 0, 0.1 * n) for b, c, k in shape]
    columns = join([column_of(table, False, n, RULE, place) for place, table in enumerate(tables)])
    codes = band_codes(columns, drawn, RULE, 10 * len(shape))[0]
    p = holm_adjusted({k: fail_p(table, RULE) or 0.0 for k, table in enumerate(tables)}, 10 * len(shape))
    for k, table in enumerate(tables):
        band = judge_band(table, False, p[k], RULE, 10 * len(shape))
        assert codes[k] == (FLOOR if band.floor else WORDS.index(band.verdict)), (table, band)


@pytest.mark.parametrize("drop", [0.0, 0.01, 0.02, 0.05])
def test_the_drop_and_the_churn_are_those_that_were_asked_for(make_builder: Make, drop: float) -> None:
    builder = make_builder()
    run = run_of(builder, {"int8": builder.answers(lost=CHURN, gained=CHURN, moved={5: 6})})
    for group in together(run.cells):
        drawn = draw(group, group.n, drop, 4000, np.random.default_rng(0))
        lost, gained, changed = (getattr(drawn, name).mean() / group.n for name in ("lost", "gained", "changed"))
        error = 4 * math.sqrt(0.08 / group.n / 4000)
        assert lost - gained == pytest.approx(drop, abs=error)
        assert lost + gained == pytest.approx(max(drop, float(group.churn[0])), abs=error)
        assert changed >= lost + gained - 1e-12
        assert (drawn.lost >= 0).all()
        assert (drawn.gained >= 0).all()
        assert (drawn.changed <= group.n).all()


def test_a_cell_alone_passes_as_often_as_enumeration_says(make_builder: Make) -> None:
    """1,000 redrawn runs against the product over the levels; four Monte Carlo errors allowed."""
    builder = make_builder()
    run = run_of(builder, {"int8": builder.answers(lost=CHURN, gained=CHURN)})
    found = redrawn_of(run)
    exact = math.prod(pass_probability(600, 2 * count / 600, 0.02) for count in CHURN.values())
    passed = (found.runs(found.no_drop) == 0).mean()
    assert abs(passed - exact) < 4 * math.sqrt(exact * (1 - exact) / found.repeats)


def test_cells_that_change_the_same_items_stay_together_and_others_do_not(make_builder: Make) -> None:
    builder = make_builder()
    same = builder.answers(lost=CHURN, gained=CHURN)
    twice = redrawn_of(run_of(builder, {"int8": same, "int8-again": same}))
    left, right = twice.no_drop[:, ::2], twice.no_drop[:, 1::2]
    assert (left == right).all()
    assert columns_of(twice.groups)[:2] == [(0, (1,)), (1, (1,))]
    assert not (left[:, 0] == left[:, -1]).all()


def test_a_cell_with_other_items_is_drawn_by_itself(make_builder: Make, edit: Callable[..., Any]) -> None:
    builder = make_builder()
    builder.environment("slow", "equivalent", subsample=True)
    builder.cell("slow", edit(builder.answers(), keep=slice(None, None, 3)))
    found = redrawn_of(run_of(builder, {"int8": builder.answers(lost=CHURN)}))
    assert sorted({group.n for group in found.groups}) == [200, 600]
    assert all(len(group.cells) == 1 for group in found.groups)


def test_the_same_seed_draws_the_same(make_builder: Make) -> None:
    builder = make_builder()
    run = run_of(builder, {"int8": builder.answers(lost=CHURN, gained=CHURN)})
    assert (redrawn_of(run, 1).no_drop == redrawn_of(run, 1).no_drop).all()
    assert (redrawn_of(run, 1).no_drop != redrawn_of(run, 2).no_drop).any()
    assert redrawn_of(run, -1).repeats == 1000


def test_more_items_pass_more_often(make_builder: Make) -> None:
    builder = make_builder()
    run = run_of(builder, {"int8": builder.answers(lost=CHURN, gained=CHURN)})
    passes = [plan_json(run, run.rule, items=[n] * 5)["power"]["pass"]["estimate"] for n in (300, 600, 1200, 4000)]
    assert passes == sorted(passes)
    assert passes[0] < 0.3
    assert passes[-1] > 0.99


def test_the_margin_lost_at_one_level_seldom_passes_and_fails_seldom_as_well(make_builder: Make) -> None:
    """PASS at D = margin is promised at most 2.5% a level (measured 2.6), FAIL at most 5%."""
    builder = make_builder()
    builder.environment("int8", "lossy")
    few = dict.fromkeys(CHURN, 3)
    builder.cell("int8", builder.answers(lost=few, gained=few))
    builder.cell("reference", builder.answers())
    run = read_run(builder.finish(deployments=("int8",)))
    alarms = plan_json(run, run.rule)["false_alarms"]
    assert alarms["false_pass_one_level"]["low"] < 0.03
    assert alarms["false_pass"]["estimate"] == 0.0
    assert alarms["false_fail"]["estimate"] == 0.0
    assert 0.0 < alarms["at_margin"]["FAIL"] < 0.1
    assert sum(alarms["no_drop"].values()) == pytest.approx(1.0)


# ------------------------------------------------------------------------- in a summary


def test_a_summary_says_both_beside_its_verdict(make_builder: Make) -> None:
    summary, _ = make_builder().judged(make_builder().answers(lost=CHURN, gained=CHURN))
    power, alarms = summary["power"], summary["false_alarms"]
    assert alarms["repeats"] == 1000
    assert power["pass"]["estimate"] == pytest.approx(1 - alarms["not_pass"]["estimate"])
    assert [row["levels"] for row in power["levels"]] == [[1], [2], [3], [4], [5]]
    assert power["levels"][4]["churn"] == pytest.approx(24 / 600)
    assert power["levels"][4]["most"] == "m in env"
    assert power["items_needed"] == max(row["items_needed"] for row in power["levels"])
    assert power["refused"] == ""
    assert alarms["least"][0]["environment"] == "env"


def test_few_items_are_refused_with_the_number_that_would_do(make_builder: Make) -> None:
    builder = make_builder(per_level=100)
    summary, _ = builder.judged(builder.answers())
    assert summary["power"]["refused"] == (
        "A margin of 2 pp cannot be certified with so few items: even where no answer changes it takes 189, and there "
        "are 100 a level. Plan 189 or more, or a margin above 3.7 pp."
    )
    assert summary["power"]["items_needed"] == 189
    assert summary["power"]["pass"]["estimate"] == 0.0


def test_a_level_without_items_never_passes(make_builder: Make) -> None:
    builder = make_builder()
    builder.per_level[3] = 0
    summary, _ = builder.judged(builder.answers())
    assert summary["false_alarms"]["no_drop"] == {"PASS": 0, "NO DATA": 1, "INCONCLUSIVE": 0, "ERROR": 0, "FAIL": 0}
    assert summary["power"]["pass"]["estimate"] == 0.0
    assert "it takes 189 at level 3 of task (there are 0). Plan so many" in summary["power"]["refused"]


def test_the_levels_that_are_too_small_are_named(make_builder: Make) -> None:
    builder = make_builder()
    builder.per_level[2] = 150
    summary, _ = builder.judged(builder.answers())
    assert "it takes 189 at level 2 of task (there are 150). Plan so many" in summary["power"]["refused"]


def test_an_equivalent_that_changes_predictions_has_no_number_of_items(make_builder: Make) -> None:
    builder = make_builder()
    summary, _ = builder.judged(builder.answers(moved={3: 2}), kind="equivalent", named=False)
    row = summary["power"]["levels"][2]
    assert summary["power"]["items_needed"] is None
    assert (row["items_needed"], row["left_out"]) == (None, "1 of 1 cells equivalent and yet changing predictions")
    assert summary["false_alarms"]["no_drop"]["FAIL"] == pytest.approx(1 - (1 - 2 / 600) ** 600, abs=0.05)


def test_an_equivalent_fails_from_its_first_change(make_builder: Make) -> None:
    """80% of the time something changes among 600 where 0.27% are lost; a lossy cell needs far more to fail."""
    builder = make_builder()
    equivalent, _ = builder.judged(builder.answers(), kind="equivalent", named=False)
    lossy, _ = (other := make_builder()).judged(other.answers())
    (first, second) = (each["power"]["levels"][0]["detectable_drop_pp"]["fail"] for each in (equivalent, lossy))
    assert first == pytest.approx(100 * (1 - 0.2 ** (1 / 600)), abs=0.01)
    assert second > 3


def test_levels_at_the_floor_are_left_out_and_said(make_builder: Make) -> None:
    builder = make_builder()
    accuracy = {1: 0.98, 2: 0.9, 3: 0.7, 4: 0.5, 5: 0.1}
    builder.environment("int8", "lossy")
    builder.cell("reference", builder.answers(accuracy))
    builder.cell("int8", builder.answers(accuracy, lost={5: 30}, gained={5: 30}))
    run = read_run(builder.finish(deployments=("int8",)))
    found = plan_json(run, run.rule)
    assert found["power"]["levels"][4]["left_out"] == "1 of 1 cells at the floor of chance"
    assert found["power"]["levels"][4]["items_needed"] is None
    assert found["power"]["items_needed"] == 189
    assert found["false_alarms"]["false_pass_one_level"]["levels"] != [5]


def test_what_could_not_be_judged_is_left_aside_and_said(make_builder: Make) -> None:
    builder = make_builder()
    builder.environment("cuda", "lossy")
    builder.cell("cuda", None, status="skipped", reason="no such device", execution=None)
    builder.environment("int8", "lossy")
    builder.cell("int8", builder.answers())
    builder.cell("reference", builder.answers())
    run = read_run(builder.finish(deployments=("int8", "cuda")))
    found = plan_json(run, run.rule)
    assert found["false_alarms"]["cells"] == 1
    assert found["power"]["family"] == 10
    assert found["false_alarms"]["aside"] == [
        "1 of 2 gated cells could not be judged (NO DATA); they are left out here, and while they are so the run does "
        "not PASS"
    ]


def test_an_equivalent_that_changes_predictions_is_no_false_alarm_and_said(make_builder: Make) -> None:
    builder = make_builder()
    summary, _ = builder.judged(builder.answers(moved={3: 9}), kind="equivalent", named=False)
    assert summary["false_alarms"]["false_fail"]["estimate"] > 0.9
    assert summary["false_alarms"]["aside"] == [
        "1 equivalent environment changes predictions outside ties; a redrawn run fails by that as often as such items "
        "are drawn, which is no false alarm"
    ]


def test_nothing_gated_has_no_rates(make_builder: Make) -> None:
    builder = make_builder()
    summary, _ = builder.judged(builder.answers(), named=False)
    assert summary["false_alarms"]["not_pass"] is None
    assert summary["power"]["pass"] is None
    assert summary["power"]["levels"] == []


def test_all_items_together_are_one_band_and_unlevelled_is_said(make_builder: Make) -> None:
    builder = make_builder()
    builder.card = {"gated_bands": ((1, 2, 3, 4, 5),), "split_half": 0.3}
    summary, _ = builder.judged(builder.answers())
    assert [row["n"] for row in summary["power"]["levels"]] == [3000]
    assert "too unreliable to be judged apart" in summary["false_alarms"]["aside"][0]


def test_a_redrawn_run_holds_one_byte_a_repeat_and_test(make_builder: Make) -> None:
    """So 1,000 repeats of 240 cells by level take about a megabyte."""
    builder = make_builder()
    run = run_of(builder, {f"e{k}": builder.answers(lost=CHURN, gained=CHURN) for k in range(8)})
    found = redrawn_of(run)
    assert found.no_drop.nbytes == 1000 * 8 * 5
