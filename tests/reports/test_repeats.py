"""What repeats changed: flips by level with intervals, outputs, and the cause in words."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from gapshift.reports.outputs import Difference, compare_outputs
from gapshift.reports.renderers.repeats import console_repeats, render_repeats
from gapshift.reports.repeat_words import finding
from gapshift.reports.repeats import judge_repeats
from gapshift.reports.statistics import clopper_pearson
from gapshift.schema import Environment
from gapshift.schema.repeats import SETTINGS, own_settings, repeated, repeats_of

E = Environment(name="int8", kind="lossy", summary="Int8.", deviations={"precision.format": "int8-dynamic"})
NAMES = tuple(setting.name for setting in SETTINGS)


@pytest.fixture
def repeats(builder: Any) -> Any:
    """A judged folder: ``repeats({setting: moved items by level, or records})``; other fields are of the cells."""

    builder.per_level = dict.fromkeys(builder.per_level, 200)

    def judged(moved: dict[str, Any], own: Any = None, **cells: dict[str, Any]) -> Any:
        builder.environments += [E, *repeats_of(E)]
        builder.cell("reference", builder.answers())
        own = builder.answers(lost={5: 10}) if own is None else own
        builder.cell("int8", own)
        for name in NAMES:
            other = moved.get(name, own)
            records = builder.answers(lost={5: 10}, moved=other) if isinstance(other, dict) else other
            fields = cells.get(name.replace("-", "_"), {})
            builder.cell(f"int8.{name}", None if fields.get("status", "ok") != "ok" else records, **fields)
        return judge_repeats(builder.finish(command="repeat"))

    return judged


def _setting(summary: Any, name: str) -> Any:
    return next(row for row in summary["repeated"][0]["settings"] if row["setting"] == name)


# --------------------------------------------------------------------------- settings


def test_every_setting_becomes_an_environment_that_knows_what_it_repeats() -> None:
    made = repeats_of(E)
    assert [environment.name for environment in made] == [f"int8.{name}" for name in NAMES]
    assert all(environment.deviations["precision.format"] == "int8-dynamic" for environment in made)
    found = [repeated(environment) for environment in made]
    assert found == [("int8", setting) for setting in SETTINGS]
    assert repeated(E) is None


def test_what_an_environment_sets_itself_is_left_out() -> None:
    mine = E.model_copy(update={"deviations": {"runtime.batch_size": 7, "runtime.intra_op_threads": 1}})
    assert {setting.name for setting in own_settings(mine)} == {"batch-7", "order-batch", "threads-1"}
    assert not {"int8.batch-7", "int8.threads-1"} & {environment.name for environment in repeats_of(mine)}


# ------------------------------------------------------------------------------ flips


def test_flips_are_counted_by_level_against_the_environments_own_cell(repeats: Any) -> None:
    summary = repeats({"order-1": {5: 6}, "batch-7": {5: 2}})
    row = _setting(summary, "order-1")["flips"]
    exact = clopper_pearson(6, 200)
    assert row["5"] == {"k": 6, "n": 200, "estimate": 0.03, "low": exact.low, "high": exact.high}
    assert row["1"]["k"] == 0
    assert (row["all"]["k"], row["all"]["n"]) == (6, 1000)
    assert _setting(summary, "again-1")["flips"]["all"]["k"] == 0


def test_an_item_that_several_settings_flip_counts_once(repeats: Any) -> None:
    entry = repeats({"order-1": {5: 6}, "order-2": {5: 4, 4: 1}, "batch-1": {5: 3}})["repeated"][0]
    assert entry["causes"]["order"]["flips"]["all"]["k"] == 7  # the six hold the four
    assert entry["causes"]["batch"]["flips"]["all"]["k"] == 3
    assert entry["flips"]["all"]["k"] == 7


def test_ties_stand_apart(repeats: Any, builder: Any, edit: Any) -> None:
    own = builder.answers(lost={5: 10})
    gap = own.gap.copy()
    gap[-2:] = 1e-5
    entry = repeats({"order-1": {5: 6}}, own=edit(own, gap=gap))["repeated"][0]
    assert entry["tie_flips"]["5"] == 2
    assert "(ties among them: 2)" in entry["finding"]


def test_the_range_of_the_drop_is_against_the_reference(repeats: Any, builder: Any) -> None:
    """Ten of 200 are lost in the environment's own cell, 16 in one repeat."""
    found = repeats({"order-1": builder.answers(lost={5: 16})})
    assert found["repeated"][0]["drop_range_pp"]["5"] == pytest.approx({"low": 5.0, "high": 8.0})
    assert _setting(found, "order-1")["drop_pp"]["5"] == pytest.approx(8.0)


# ------------------------------------------------------------------------- the cause

WORDS = [
    ({}, "no prediction of 1,000 changes"),
    (
        {"order-1": {5: 6}, "batch-7": {4: 2}},
        "8 of 1,000 predictions depend on who shares a batch (order, batch size); repetition and threads change "
        "no prediction",
    ),
    ({"order-3": {5: 1}}, "1 of 1,000 predictions depend on who shares a batch (order); repetition, threads and batch"),
    ({"batch-1": {5: 1}}, "depend on the batch size; repetition, threads and order change no prediction"),
    ({"order-batch": {5: 1}}, "depend on order and batch size together"),
    ({"threads-4": {5: 3}}, "3 of 1,000 predictions depend on the number of threads; repetition, order and batch size"),
    (
        {"again-2": {5: 3}, "order-1": {5: 4}},
        "3 of 1,000 predictions change when nothing is changed, so that the other counts may be chance; threads",
    ),
]


@pytest.mark.parametrize(("moved", "words"), WORDS)
def test_the_cause_is_said(repeats: Any, moved: dict[str, dict[int, int]], words: str) -> None:
    assert words in repeats(moved)["repeated"][0]["finding"]


def test_companions_are_cleared_only_where_another_order_leaves_every_bit(repeats: Any) -> None:
    causes = repeats({"batch-1": {5: 1}})["repeated"][0]["causes"]
    causes["order"]["bitwise"] = True
    said = finding(causes, causes["companions"], causes["companions"])
    assert said.startswith("1 of 1,000 predictions depend on the batch size and not on who shares the batch")
    causes["order"] |= {"bitwise": False, "largest_difference": 0.0125}
    said = finding(causes, causes["companions"], causes["companions"])
    assert said.startswith("1 of 1,000 predictions depend on the batch size; ")
    assert said.endswith("order change no prediction (outputs differ by at most 0.013)")


def test_a_cause_that_was_not_measured_is_not_called_innocent(repeats: Any) -> None:
    failed = {"status": "error", "reason": "no such threads."}
    summary = repeats({"order-1": {5: 6}}, threads_1=failed, threads_4=failed)
    assert "threads" not in summary["repeated"][0]["finding"]
    assert [(row["setting"], row["status"], row["reason"]) for row in summary["absent"]] == [
        ("threads-1", "error", "no such threads."),
        ("threads-4", "error", "no such threads."),
    ]
    assert "int8, threads-1: error: no such threads." in console_repeats(summary)
    assert all("o such threads" in text for text in render_repeats(summary).values())


def test_without_its_own_cell_nothing_is_compared(builder: Any) -> None:
    builder.environments += [E, *repeats_of(E)]
    builder.cell("reference", builder.answers())
    builder.cell("int8", None, status="skipped", reason="no such runtime.")
    for name in NAMES:
        builder.cell(f"int8.{name}", builder.answers())
    summary = judge_repeats(builder.finish(command="repeat"))
    assert summary["repeated"][0]["finding"] == "not measured: skipped: no such runtime."
    assert [(row["setting"], row["status"]) for row in summary["absent"]] == [("its own cell", "skipped")]
    assert "Nothing could be measured." in render_repeats(summary)["repeats.md"]


def test_a_cell_that_never_ran_and_one_of_another_plan_are_named(repeats: Any) -> None:
    summary = repeats({}, again_1={"basis": "another"})
    assert summary["absent"][0]["setting"] == "again-1"
    assert "made for another model" in summary["absent"][0]["reason"]


def test_missing_items_are_a_problem(builder: Any, edit: Any) -> None:
    builder.per_level = dict.fromkeys(builder.per_level, 200)
    builder.environments += [E, *repeats_of(E)]
    for name in ("reference", "int8", *(f"int8.{setting}" for setting in NAMES[1:])):
        builder.cell(name, builder.answers())
    builder.cell("int8.again-1", edit(builder.answers(), keep=slice(0, 999)))
    entry = judge_repeats(builder.finish(command="repeat"))["repeated"][0]
    assert entry["problems"] == ["1 of 1000 items have no record (again-1)"]


# --------------------------------------------------------------------------- outputs


def _saved(folder: Path, **found: Any) -> list[Path]:
    for name, values in found.items():
        np.save(folder / f"{name}.npy", values)
    return [folder / f"{name}.npy" for name in found]


def test_the_largest_difference_by_hand(tmp_path: Path) -> None:
    one = np.array([[0.0, 4.0], [1.0, -4.0], [np.nan, np.nan]], np.float32)
    other = np.array([[0.0, 4.5], [1.25, -4.0], [np.nan, np.nan]], np.float32)
    assert compare_outputs(*_saved(tmp_path, one=one, other=other)) == Difference(False, 0.5, 0.5 / 8, 0)
    assert compare_outputs(*_saved(tmp_path, one=one, again=one)) == Difference(True, 0.0, 0.0, 0)


def test_spans_have_no_range(tmp_path: Path) -> None:
    one = np.array([[[1.0, -1e4], [2.0, -1e4]]], np.float32)
    found = compare_outputs(*_saved(tmp_path, one=one, other=one + np.float32([1, 0])))
    assert found == Difference(False, 1.0, None, 0)


def test_an_output_that_is_finite_on_one_side_is_counted(tmp_path: Path) -> None:
    one, other = np.ones((2000, 2), np.float32), np.ones((2000, 2), np.float32)
    other[[3, 1500], 0] = np.inf
    assert compare_outputs(*_saved(tmp_path, one=one, other=other)) == Difference(False, 0.0, None, 2)


def test_outputs_that_cannot_be_compared_say_why(tmp_path: Path) -> None:
    paths = _saved(tmp_path, one=np.ones((2, 3), np.float32), other=np.ones((2, 4), np.float32))
    assert compare_outputs(*paths) == "raw outputs are float32 of (2, 3) and float32 of (2, 4)"
    paths[1].write_bytes(b"no array")
    assert "raw outputs cannot be read" in str(compare_outputs(*paths))
    assert "raw outputs cannot be read" in str(compare_outputs(paths[0], tmp_path / "gone.npy"))
    assert compare_outputs(tmp_path / "gone.npy", tmp_path / "neither.npy") is None


@given(arrays.arrays(np.float32, (5, 3), elements=st.floats(-100, 100, width=32)))
def test_bitwise_is_stricter_than_equal(tmp_path_factory: pytest.TempPathFactory, values: Any) -> None:
    folder = tmp_path_factory.mktemp("outputs")
    found = compare_outputs(*_saved(folder, one=values, other=values + np.float32(0)))
    assert isinstance(found, Difference)
    assert found.largest == 0
    assert found.bitwise == (not (np.signbit(values) & (values == 0)).any())  # -0 + 0 is +0


# ------------------------------------------------------------------------------ pages


def test_pages_say_the_finding_and_escape_names(repeats: Any) -> None:
    summary = repeats({"order-1": {5: 6}})
    summary["repeated"][0]["bundle"] = "<b>"
    pages = render_repeats(summary)
    assert "6 of 1,000 predictions depend on who shares a batch (order)" in pages["repeats.html"]
    assert "<b>" not in pages["repeats.html"]
    assert "\\<b\\>" in pages["repeats.md"]
    assert "<b> in int8: 6 of 1,000" in console_repeats(summary)
