"""``assert_level_drop``: what it holds, what it refuses, and what its failures say."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest

from gapshift.deploy_tests import GapshiftRun, assert_level_drop
from gapshift.errors import UnknownNameError, UsageError

KEYS = ("all", "1", "2", "3", "4", "5")


def _cell(environment: str = "int8-dynamic", bundle: str = "m", **changes: Any) -> dict[str, Any]:
    """A cell of 300 items a level of which level 5 loses 4 and gains 1."""
    drop = {"estimate": 1.0, "low": -0.6, "high": 3.06}
    cell: dict[str, Any] = {
        "bundle": bundle, "environment": environment, "kind": "lossy", "gated": True,
        "deviations": {"precision.format": "int8-dynamic"}, "verdict": "INCONCLUSIVE", "reason": "why",
        "levels": dict.fromkeys(KEYS[1:], "INCONCLUSIVE"), "level_reasons": dict.fromkeys(KEYS[1:], "why"),
        "n_by_level": dict.fromkeys(KEYS, 300), "drop_pp": dict.fromkeys(KEYS, drop),
        "reference_accuracy": dict.fromkeys(KEYS, 0.8), "churn": {key: {"high": 0.0341} for key in KEYS},
        "flips": {"right_to_wrong": dict.fromkeys(KEYS, 4), "wrong_to_right": dict.fromkeys(KEYS, 1)},
        "floor": [], "undecided_floor": [], "bands": [[1], [2], [3], [4], [5]],
    }  # fmt: skip
    return cell | changes


def _run(*cells: dict[str, Any], **changes: Any) -> GapshiftRun:
    found = cells or (_cell(),)
    bundles = [{"name": name} for name in dict.fromkeys(cell["bundle"] for cell in found)]
    summary = {
        "verdict": "INCONCLUSIVE", "reasons": [], "margin_pp": 2.0, "alpha": 0.05, "interval_level": 0.95,
        "strict": False, "allow_unlevelled": False, "bundles": bundles, "cells": list(found),
    }  # fmt: skip
    return GapshiftRun(summary | changes, Path("runs/check-m"))


def _at_5(value: Any) -> dict[str, Any]:
    return {key: {"estimate": 0.0, "low": 0.0, "high": 0.0} for key in KEYS[:-1]} | {"5": value}


def _refused(run: GapshiftRun, **words: Any) -> str:
    with pytest.raises(AssertionError) as failure:
        assert_level_drop(run, environment="int8-dynamic", level=5, **words)
    return str(failure.value)


def test_it_holds_where_the_intervals_upper_end_is_below() -> None:
    run = _run()
    level = assert_level_drop(run, environment="int8-dynamic", level=5, below=3.07)
    assert (level.name, level.n, level.lost, level.gained) == ("level 5", 300, 4, 1)
    assert_level_drop(run.cell("int8-dynamic"), level="all", below=4)
    assert assert_level_drop(level, below=4).key == "5"


def test_it_holds_nothing_where_the_upper_end_is_not_and_the_margin_is_the_default() -> None:
    assert "a drop below 3.06 pp is not shown: the interval reaches 3.06 pp" in _refused(_run(), below=3.06)
    assert "a drop below 2 pp is not shown" in _refused(_run())


def test_the_failure_is_readable() -> None:
    assert _refused(_run()).splitlines() == [
        "m in int8-dynamic, level 5: a drop below 2 pp is not shown: the interval reaches 3.06 pp",
        "  drop        1.00 pp, 95% interval -0.60 to 3.06, n = 300",
        "  changed     4 lost (right before, wrong now), 1 gained",
        "  reference   80.0% right",
        "  deviations  precision.format = 'int8-dynamic'",
        "  to decide   about 934 such items at this level (300 here)",
        "  gate        INCONCLUSIVE (margin 2 pp): why",
        f"  report      {Path('runs/check-m/report.html')}",
    ]


@pytest.mark.parametrize("verdict", ["ERROR", "NO DATA", "", "pass"])
def test_what_was_not_judged_holds_nothing_whatever_its_numbers(verdict: str) -> None:
    run = _run(_cell(levels=dict.fromkeys(KEYS[1:], verdict), verdict=verdict))
    assert "nothing shows a drop below 50 pp" in _refused(run, below=50)
    with pytest.raises(AssertionError, match="nothing shows"):
        assert_level_drop(run, environment="int8-dynamic", level="all", below=50)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"drop_pp": _at_5(None)}, "no drop was measured over level 5 of this run"),
        ({"drop_pp": _at_5(None), "reading": {"read": 9}}, "this run, whose levels were read unequally far"),
        ({"n_by_level": dict.fromkeys(KEYS, 0)}, "level 5 has no pairs of answers"),
        ({"drop_pp": _at_5({"estimate": 0.0, "low": 0.0, "high": math.nan})}, "the drop is no number"),
        ({"drop_pp": _at_5({"estimate": 0.0, "low": 0.0, "high": None})}, "the drop is no number"),
        ({"drop_pp": _at_5({"estimate": 0.0})}, "the drop is no number"),
        ({"bands": [[1, 2, 3, 4, 5]]}, "too unreliable to be judged apart"),
    ],
)
def test_it_does_not_fail_open(changes: dict[str, Any], told: str) -> None:
    assert told in _refused(_run(_cell(**changes)), below=50)


def test_levels_in_one_band_are_named_and_allowed_where_the_run_allows_them() -> None:
    run = _run(_cell(bands=[[1, 2], [3], [4, 5]]))
    assert "levels 4-5 are judged as one band: why" in _refused(run)
    run = _run(_cell(bands=[[1, 2, 3, 4, 5]]), allow_unlevelled=True)
    assert_level_drop(run, environment="int8-dynamic", level=5, below=4)


def test_at_the_floor_only_churn_can_tell() -> None:
    floor = {"floor": [5], "drop_pp": _at_5({"estimate": 0.0, "low": -1.0, "high": 1.0})}
    run = _run(_cell(**floor, levels=dict.fromkeys(KEYS[1:], "NO DATA")))
    told = _refused(run)
    assert "at the floor, where only churn can tell, churn's interval reaches 3.41 pp" in told
    assert "near chance: a floor" in told
    assert_level_drop(run, environment="int8-dynamic", level=5, below=3.5)
    assert "reaches nan pp" in _refused(_run(_cell(**floor, churn=dict.fromkeys(KEYS))))


def test_what_would_decide_knows_of_groups_and_of_readings() -> None:
    grouped = _cell(clustering=dict.fromkeys(KEYS) | {"5": {"groups": 20, "design_effect": 2.0}})
    assert "about 1868 such items at this level, in groups like these (300 here)" in _refused(_run(grouped))
    read = _refused(_run(_cell(reading={"read": 9})))
    assert "read in a drawn order until the gate was decided" in read
    assert "1.00 pp, 95% confidence sequence -0.60 to 3.06, n = 300" in read


def test_unknown_names_come_with_the_nearest_ones() -> None:
    run = _run(_cell(), _cell("resize-nearest"))
    with pytest.raises(UnknownNameError, match=r"Did you mean 'int8-dynamic'.*--gapshift-environment"):
        assert_level_drop(run, environment="int8-dynamc", level=5)
    with pytest.raises(UnknownNameError, match="Unknown level '6'"):
        assert_level_drop(run, environment="int8-dynamic", level=6)
    with pytest.raises(UnknownNameError, match="Unknown level 'True'"):
        assert_level_drop(run, environment="int8-dynamic", level=True)


def test_of_several_models_one_is_named() -> None:
    run = _run(_cell(), _cell(bundle="other", drop_pp=_at_5({"estimate": 0.0, "low": 0.0, "high": 0.5})))
    with pytest.raises(UnknownNameError, match=r"\(none named\).*Valid: m, other"):
        assert_level_drop(run, environment="int8-dynamic", level=5)
    assert assert_level_drop(run, environment="int8-dynamic", level=5, bundle="other").cell.bundle == "other"


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ({"level": 5}, "name the environment"),
        ({"environment": "int8-dynamic"}, "Name the level"),
        ({"level": 5, "environment": "int8-dynamic", "below": 0}, "below is 0"),
        ({"level": 5, "environment": "int8-dynamic", "below": math.nan}, "below is nan"),
        ({"level": 5, "environment": "int8-dynamic", "below": 101}, "below is 101"),
        ({"level": 5, "environment": "int8-dynamic", "below": "1"}, "below is '1'"),
    ],
)
def test_calls_that_make_no_sense_say_so(words: dict[str, Any], told: str) -> None:
    with pytest.raises(UsageError, match=told):
        assert_level_drop(_run(), **words)


def test_a_cell_is_not_asked_about_another_one() -> None:
    with pytest.raises(UsageError, match="another one is named"):
        assert_level_drop(_run().cell("int8-dynamic"), environment="resize-nearest", level=5, below=50)
    with pytest.raises(UsageError, match="This is level 5, and another one is named"):
        assert_level_drop(_run().cell("int8-dynamic").level(5), level=1, below=50)
    with pytest.raises(UsageError, match="this is a dict"):
        assert_level_drop({}, level=5)  # type: ignore[arg-type]  # what a user may well pass
