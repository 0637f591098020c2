"""An earlier run beside today's: what is compared, and what is said not to be comparable."""

from __future__ import annotations

import json
import platform
from pathlib import Path
from typing import Any

import pytest

from gapshift.deploy_tests.baseline import Baseline, read_baseline, then_and_now
from gapshift.deploy_tests.results import GapshiftRun
from gapshift.envs.machine import cpu_flags, versions
from gapshift.errors import SettingsError

LEVELS = ("1", "2", "3", "4", "5")
SAME = {"versions": versions("onnxruntime", "numpy"), "cpu_flags": list(cpu_flags())}


def _cell(environment: str = "int8-dynamic", bundle: str = "m", drop: float = 1.0, **changes: Any) -> dict[str, Any]:
    cell = {
        "bundle": bundle, "environment": environment, "deviations": {"precision.format": "int8-dynamic"},
        "drop_pp": {level: {"estimate": drop} for level in LEVELS}, "n_by_level": dict.fromkeys(LEVELS, 300),
        "floor": [], "execution": SAME,
    }  # fmt: skip
    return cell | changes


def _run(*cells: dict[str, Any], items: str = "digest") -> GapshiftRun:
    names = list(dict.fromkeys(cell["bundle"] for cell in cells))
    bundles = [{"name": name, "task": name, "reference": {"execution": None}} for name in names]
    tasks = [{"name": name, "items": items} for name in names]
    return GapshiftRun({"cells": list(cells), "bundles": bundles, "tasks": tasks, "verdict": "PASS"}, Path("then"))


def _lines(then: GapshiftRun, now: GapshiftRun) -> list[str]:
    return list(then_and_now(Baseline(then), [now.cell(c["environment"], c["bundle"]) for c in now.summary["cells"]]))


def test_drops_stand_beside_those_of_then() -> None:
    (line,) = _lines(_run(_cell(drop=0.44)), _run(_cell(drop=-0.04, floor=[5])))
    assert line == "int8-dynamic  L1 0.0 (0.4)  L2 0.0 (0.4)  L3 0.0 (0.4)  L4 0.0 (0.4)  L5 0.0* (0.4)"


def test_a_model_alone_may_have_another_name_and_one_of_several_may_not() -> None:
    (line,) = _lines(_run(_cell(bundle="v1")), _run(_cell(bundle="v2")))
    assert "L5 1.0 (1.0)" in line
    (line,) = _lines(_run(_cell(bundle="v1"), _cell(bundle="w1")), _run(_cell(bundle="v2")))
    assert line.endswith("the baseline has no bundle v2; it has v1, w1")
    lines = _lines(_run(_cell(bundle="a"), _cell(bundle="b")), _run(_cell(bundle="b"), _cell(bundle="c")))
    assert lines[0].startswith("b int8-dynamic  L1 1.0 (1.0)")
    assert "the baseline has no bundle c" in lines[1]


@pytest.mark.parametrize(
    ("then", "told"),
    [
        (_run(_cell("other")), "int8-dynamic  not in the baseline"),
        (_run(_cell(deviations={"precision.format": "int8-qdq"})), "an environment of this name with other deviations"),
        (_run(_cell(drop_pp={})), "L5 1.0 (-)"),
        (_run(_cell(), items="other"), "[it judged other items]"),
        (_run(_cell(n_by_level=dict.fromkeys(LEVELS, 300) | {"2": 9})), "[other numbers of items at level 2]"),
    ],
)
def test_what_cannot_be_compared_is_said(then: GapshiftRun, told: str) -> None:
    (line,) = _lines(then, _run(_cell()))
    assert told in line


def test_the_same_machine_has_no_differences() -> None:
    assert Baseline(_run(_cell())).differences() == []


@pytest.mark.parametrize(
    ("execution", "told"),
    [
        (SAME | {"versions": {"numpy": "1.0"}}, [f"numpy 1.0 then, {SAME['versions']['numpy']} now"]),
        (SAME | {"versions": {"no-such-library": "1"}}, ["no-such-library 1 then, absent now"]),
        (SAME | {"versions": {"python": platform.python_version()}}, []),
        (SAME | {"cpu_flags": [*cpu_flags(), "of_the_future"]}, ["the CPU had of_the_future"]),
        (SAME | {"cpu_flags": []}, [f"the CPU now has {', '.join(sorted(cpu_flags()))}"] * bool(cpu_flags())),
        (None, ["nothing in it says what it ran on"]),
    ],
)
def test_another_machine_is_named(execution: dict[str, Any] | None, told: list[str]) -> None:
    assert Baseline(_run(_cell(execution=execution))).differences() == told


def test_cells_that_ran_on_several_versions_name_them_all() -> None:
    then = _run(_cell(), _cell("other", execution=SAME | {"versions": {"numpy": "1.0"}}))
    now = SAME["versions"]["numpy"]
    assert Baseline(then).differences() == [f"numpy {', '.join(sorted(('1.0', now)))} then, {now} now"]


@pytest.mark.parametrize("text", ["{", "[]", '{"cells": []}'])
def test_a_folder_that_is_no_finished_run_is_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(SettingsError, match=r"has no summary.json and no items.parquet\. Give the folder"):
        read_baseline(tmp_path)
    (tmp_path / "items.parquet").write_bytes(b"")
    (tmp_path / "summary.json").write_text(text, encoding="utf-8")
    with pytest.raises(SettingsError, match=r"summary\.json (cannot be read|is no summary)"):
        read_baseline(tmp_path)


def test_a_finished_run_is_read(tmp_path: Path) -> None:
    (tmp_path / "items.parquet").write_bytes(b"")
    (tmp_path / "summary.json").write_text(json.dumps(_run(_cell()).summary), encoding="utf-8")
    assert read_baseline(tmp_path).run.verdict == "PASS"
