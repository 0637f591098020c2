"""``--sequential`` through ``check`` and ``evaluate``: what is read, what that decides, and what is refused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from click.testing import CliRunner
from numpy.typing import NDArray
from PIL import Image

from gapshift.cli import cli
from gapshift.domains.open import open_dataset
from gapshift.errors import SettingsError, WorkspaceError
from gapshift.flows.check import CheckRequest, check
from gapshift.flows.evaluate import evaluate_run
from gapshift.records import ITEM_SCHEMA, read_items, write_cell, write_items
from gapshift.reports.judge import judge
from gapshift.reports.planned import read_run
from gapshift.reports.renderers.console import render_console
from gapshift.reports.sequential import reading_order
from gapshift.schema import DataSource
from gapshift.workspace import Workspace

from .planted import CLASSES, HARMED, planted

PER_LEVEL = 400
LEVEL = np.repeat([1, 2, 3, 4, 5], PER_LEVEL)
RIGHT = np.arange(len(LEVEL)) % 10 > 0
"""90% at every level."""


def losing(**share: float) -> NDArray[Any]:
    """Right answers of which this share of all items is lost, the last ones of each level first: ``l5=0.1``."""
    still = RIGHT.copy()
    for name, lost in share.items():
        own = np.flatnonzero((int(name[1:]) == LEVEL) & RIGHT)
        still[own[len(own) - round(lost * PER_LEVEL) :]] = False
    return still


@pytest.fixture
def unharmed(tmp_path: Path) -> CheckRequest:
    return planted(tmp_path, LEVEL.tolist(), RIGHT, RIGHT)


def cells_run(run: Path) -> int:
    return sum(event["event"] == "cell" for event in Workspace(run).journal())


# ------------------------------------------------------------------------------ deciding


def test_nothing_lost_passes_on_part_of_the_items_and_says_so(unharmed: CheckRequest) -> None:
    """Without a changed answer the margin of 2 pp is certified at 2.5% after 229 items of a level."""
    summary, _ = check(unharmed)
    (cell,) = summary["cells"]
    assert summary["verdict"] == "PASS"
    assert [cell["reading"]["levels"][level]["decided_after"] for level in "12345"] == [229] * 5
    assert cell["n_by_level"] == {"all": 5 * 229, **dict.fromkeys("12345", 229)}
    read = cell["reading"]["read"]
    assert 5 * 229 <= read <= 5 * 229 + 16
    assert summary["reading"] == {
        "mode": "sequential",
        "budget": None,
        "read": 2 * read,
        "full": 4000,
        "saved": 1 - read / 2000,
        "errors": {"within": pytest.approx(0.025), "beyond": 0.01},
    }
    assert f"read in a drawn order until decided: {2 * read:,} of 4,000 answers" in summary["headline"]
    assert summary["notes"][0].startswith("Sequential: each gated level's items were read in an order drawn by seed 0")
    assert "another seed is another try" in summary["notes"][0]
    assert "certified within it after 229 of 400 items (e-value 40, 40 needed)" in cell["level_reasons"]["1"]


def test_a_part_of_the_plan_is_judged_by_the_rule_of_the_whole(unharmed: CheckRequest) -> None:
    check(unharmed)
    workspace = Workspace(unharmed.out)
    part = workspace.read_plan().model_copy(update={"environments": (), "deployments": ()})
    assert read_run(workspace, part).rule == read_run(workspace).rule


def test_every_report_says_that_it_was_read_in_part(unharmed: CheckRequest) -> None:
    summary, _ = check(unharmed)
    said = f"{summary['reading']['read']:,} of 4,000"
    assert f"answers read (sequential): {said} (42% saved)" in render_console(summary)
    page, text, junit = ((unharmed.out / name).read_text("utf-8") for name in ("report.html", "report.md", "junit.xml"))
    for report in (page, text):
        assert "How far each level was read" in report
        assert said in report
        assert "229 of 400" in report
        assert "95% confidence sequences" in report
        assert "Holm-adjusted" not in report
    assert "what was not read was not compared" in page
    assert '<property name="items_read" value="23' in junit
    assert '<property name="decided_after" value="229" />' in junit
    assert '<property name="e_within" value="40.37" />' in junit


def test_a_large_drop_fails_after_a_few_items_of_its_level(tmp_path: Path) -> None:
    summary, _ = check(planted(tmp_path, LEVEL.tolist(), RIGHT, losing(l5=0.5)))
    (cell,) = summary["cells"]
    level = cell["reading"]["levels"]["5"]
    assert (summary["verdict"], cell["levels"]["5"], level["finding"]) == ("FAIL", "FAIL", "beyond")
    assert level["decided_after"] < 40
    assert level["e_beyond"] >= 5 / 0.05  # Bonferroni over the five planned tests
    assert [cell["levels"][key] for key in "1234"] == ["PASS"] * 4


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_data_sorted_from_easy_to_hard_cannot_pass_by_its_order(tmp_path: Path, seed: int) -> None:
    """The two hardest levels lose 6 and 12 pp, by the last items of each: one sequence in the order of the file, or of
    each level, would meet hundreds of items without a loss first. Expected to FAIL, and never to PASS."""
    request = planted(tmp_path, LEVEL.tolist(), RIGHT, losing(l4=0.06, l5=0.12))
    summary, _ = check(replace(request, seed=seed))
    (cell,) = summary["cells"]
    assert summary["verdict"] == "FAIL"
    assert cell["levels"]["5"] == "FAIL"
    assert cell["levels"]["4"] != "PASS"
    assert [cell["levels"][key] for key in "123"] == ["PASS"] * 3


def test_what_its_items_cannot_decide_is_inconclusive_with_the_number_that_would(tmp_path: Path) -> None:
    summary, _ = check(planted(tmp_path, LEVEL.tolist(), RIGHT, losing(l3=0.0175)))
    (cell,) = summary["cells"]
    assert (summary["verdict"], cell["levels"]["3"]) == ("INCONCLUSIVE", "INCONCLUSIVE")
    reason = cell["level_reasons"]["3"]
    assert "undecided after 400 of 400 items (e-value" in reason
    assert "of 40 for within" in reason
    assert "of 100 for beyond" in reason
    assert cell["items_needed"]["3"] > 400


@pytest.mark.parametrize("bands", [((1, 2), (3,), (4, 5)), ((1, 2, 3, 4, 5),)])
def test_levels_that_are_judged_together_are_read_together(tmp_path: Path, bands: tuple[tuple[int, ...], ...]) -> None:
    """One order for each band, and 229 items of it certify; levels that come with it are shown with what was read."""
    request = planted(tmp_path, LEVEL.tolist(), RIGHT, RIGHT)
    check(replace(request, sequential=False, out=tmp_path / "first"))
    table, (card,) = read_items(tmp_path / "first" / "items.parquet")
    write_items(tmp_path / "items.parquet", table, [card.model_copy(update={"gated_bands": bands})])
    summary, _ = check(replace(request, items=tmp_path / "items.parquet", allow_unlevelled=True))
    (cell,) = summary["cells"]
    assert summary["verdict"] == "PASS"
    assert cell["n"] == 229 * len(bands)
    assert cell["reading"]["levels"]["1"]["band"] == list(bands[0])
    assert cell["reading"]["levels"]["1"]["there"] == PER_LEVEL * len(bands[0])
    assert (cell["drop_pp"]["all"] is None) == (len(bands) > 1)
    assert summary["reading"]["errors"]["beyond"] == pytest.approx(0.05 / len(bands))


def test_an_equivalent_that_changes_a_prediction_fails_at_it(tmp_path: Path) -> None:
    own = tmp_path / "own.toml"
    own.write_text(
        '[swapped]\nkind = "equivalent"\nsummary = "s"\n[swapped.deviations]\n"preprocessing.color" = "BGR"\n',
        encoding="utf-8",
    )
    request = planted(tmp_path, LEVEL.tolist(), RIGHT, losing(l2=0.05))
    summary, _ = check(replace(request, environments=("swapped",), environment_file=own))
    (cell,) = summary["cells"]
    assert cell["levels"] == {"1": "PASS", "2": "FAIL", "3": "PASS", "4": "PASS", "5": "PASS"}
    assert cell["reading"]["levels"]["2"]["finding"] == "changed"
    assert cell["flips"]["right_to_wrong"]["2"] == 1
    assert "1 of " in cell["level_reasons"]["2"]
    assert "an equivalent environment changes none" in cell["level_reasons"]["2"]


def test_no_interval_or_test_of_a_fixed_number_of_items_is_shown(unharmed: CheckRequest) -> None:
    summary, _ = check(unharmed)
    (cell,) = summary["cells"]
    assert all(cell["drop_pp"][key][name] is None for key in "12345" for name in ("p_change", "p_fail", "p_fail_holm"))
    assert cell["drop_pp"]["1"]["high"] == pytest.approx(2.0, abs=0.02)  # certified at the margin itself
    assert cell["drop_pp"]["all"] is None
    nulls = ("mean_drop_pp", "tilt_pp", "loss_slope", "ability_shift", "ece", "score", "q_change", "traffic", "groups")
    assert [cell[name] for name in nulls] == [None] * len(nulls)
    assert cell["loss"]["1"] == {"estimate": 0.0, "low": None, "high": None}
    assert [summary[name] for name in ("power", "false_alarms", "observability", "study")] == [None] * 4
    assert summary["traffic"] == []
    assert summary["bundles"][0]["reference"]["accuracy"]["all"] is None


# ------------------------------------------------------------------------------- reading


def test_the_records_hold_what_was_read_in_the_drawn_order(tmp_path: Path) -> None:
    request = planted(tmp_path, LEVEL.tolist(), RIGHT, losing(l5=0.5))
    summary, _ = check(request)
    workspace = Workspace(request.out)
    _, cell = workspace.read_cell("planted", HARMED)
    _, reference = workspace.read_cell("planted", "reference")
    assert set(cell.item_id) <= set(reference.item_id)
    ids = np.array([f"{row:05d}" for row in range(len(LEVEL))])
    for level in range(1, 6):
        order = [name for name in ids[reading_order(ids, 0)].tolist() if LEVEL[int(name)] == level]
        own = [name for name in cell.item_id.tolist() if LEVEL[int(name)] == level]
        assert own == order[: len(own)]
        assert len(own) == summary["cells"][0]["reading"]["levels"][str(level)]["read"]


def test_a_second_call_runs_nothing_and_says_the_same(unharmed: CheckRequest) -> None:
    first, _ = check(unharmed)
    before = cells_run(unharmed.out)
    paths = [Workspace(unharmed.out).cell_path("planted", name) for name in (HARMED, "reference")]
    written = [path.stat().st_mtime_ns for path in paths]
    second, _ = check(unharmed)
    assert second == first
    assert cells_run(unharmed.out) == before
    assert [path.stat().st_mtime_ns for path in paths] == written


@pytest.mark.parametrize("gone", ["reference", HARMED])
def test_a_run_that_was_killed_goes_on_where_it_stopped(tmp_path: Path, gone: str) -> None:
    request = planted(tmp_path, LEVEL.tolist(), RIGHT, losing(l5=0.5))
    first, _ = check(request)
    Workspace(request.out).cell_path("planted", gone).unlink()
    again, _ = check(request)
    for summary in (first, again):
        for part in (*summary["cells"], *(bundle["reference"] for bundle in summary["bundles"])):
            part.pop("seconds"), part.pop("items_per_second")
    assert again == first


def test_a_whole_cell_is_not_taken_for_a_part_nor_a_part_for_a_whole(unharmed: CheckRequest) -> None:
    whole, _ = check(replace(unharmed, sequential=False))
    part, _ = check(unharmed)
    assert (whole["reading"], part["reading"]["mode"]) == (None, "sequential")
    assert check(replace(unharmed, sequential=False))[0]["cells"][0]["n"] == len(LEVEL)


def test_another_environment_reads_the_reference_on(tmp_path: Path) -> None:
    """A cell that fails early needs few answers of the reference; the next one brings the others."""
    request = planted(tmp_path, LEVEL.tolist(), RIGHT, losing(l1=0.9, l2=0.9, l3=0.9, l4=0.9, l5=0.9))
    alone, _ = check(request)
    both, _ = check(replace(request, environments=(HARMED, "onnxruntime-one-thread")))
    assert alone["reading"]["read"] < 200
    assert [cell["verdict"] for cell in both["cells"]] == ["FAIL", "PASS"]
    assert both["items"]["judged"] >= 5 * 229


def test_a_service_befalls_the_same_items_however_far_is_read(tmp_path: Path) -> None:
    own = tmp_path / "own.toml"
    own.write_text(
        '[stale]\nkind = "lossy"\nsummary = "s"\n[stale.deviations]\n"service.stale_rate" = 0.02\n', encoding="utf-8"
    )
    request = replace(
        planted(tmp_path, LEVEL.tolist(), RIGHT, RIGHT), environments=("stale",), environment_file=own, margin_pp=5.0
    )
    check(request)
    part = Workspace(request.out).read_cell("planted", "stale")[1]
    check(replace(request, sequential=False, out=tmp_path / "whole"))
    whole = Workspace(tmp_path / "whole").read_cell("planted", "stale")[1]
    answer = dict(zip(whole.item_id.tolist(), whole.prediction.tolist(), strict=True))
    assert len(part) < len(whole)
    assert part.prediction.tolist() == [answer[name] for name in part.item_id.tolist()]


def test_training_answers_are_judged_on_what_the_reference_read(tiny_study: Path, tmp_path: Path) -> None:
    """At 8 pp a level without a changed answer takes 53 items; there are about 180, and easy-only's bgr is no good."""
    name = "digits-cnn-random-s0"
    asked: dict[str, Any] = {"bundles": (name,), "environments": ("onnxruntime-one-thread",), "margin_pp": 8.0}
    summary, _ = evaluate_run(tiny_study, tmp_path / "run", **asked, sequential=True)
    training = next(cell for cell in summary["cells"] if cell["environment"] == "training")
    assert summary["verdict"] == "PASS"
    assert training["reading"]["read"] == 0  # they were there
    assert all(level["finding"] for level in training["reading"]["levels"].values())
    assert summary["bundles"][0]["export_drop_pp"]["1"]["estimate"] == 0.0
    assert summary["reading"]["saved"] > 0.2
    again, _ = evaluate_run(tmp_path / "run", tmp_path / "run")
    assert again["reading"] == summary["reading"]
    whole, _ = evaluate_run(tmp_path / "run", tmp_path / "whole", sequential=False)
    assert whole["reading"] is None
    with pytest.raises(WorkspaceError, match="Give another folder with --out"):
        evaluate_run(tiny_study, tiny_study, sequential=True, environments=("onnxruntime-one-thread",))


# ------------------------------------------------------------------------------- judging


def test_what_cannot_be_read_is_counted_whole_and_takes_no_part_in_a_level(tmp_path: Path) -> None:
    request = planted(tmp_path, [1, 2, 3, 4, 5] * 8, np.ones(40), np.ones(40))
    folder = tmp_path / "pictures"
    for row, item in enumerate(open_dataset(request.data.source).items):
        picture = open_dataset(request.data.source).raw(row)
        assert isinstance(picture, np.ndarray)
        path = folder / CLASSES[item.label] / f"{row:02d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(picture).save(path)
    (folder / CLASSES[3] / "07.png").write_bytes(b"no picture")
    levels = {path.relative_to(folder).as_posix(): 1 + int(path.stem) % 5 for path in sorted(folder.rglob("*.png"))}
    nulls = [None] * len(levels)
    columns = {"id": list(levels), "level": list(levels.values())}
    table = pa.table({name: columns.get(name, nulls) for name in ITEM_SCHEMA.names}, schema=ITEM_SCHEMA)
    write_items(tmp_path / "items.parquet", table, [])
    data = DataSource(source=str(folder))
    summary, _ = check(replace(request, data=data, items=tmp_path / "items.parquet", sequential=True))
    (cell,) = summary["cells"]
    assert summary["verdict"] == "ERROR"
    assert "1 of 40 items cannot be read (at most 0.1% may be)" in summary["reasons"][0]
    reference = Workspace(request.out).read_cell("planted", "reference")
    assert reference is not None
    assert reference[1].status.tolist().count("unreadable") == 1
    assert cell["reading"]["levels"]["3"]["there"] == 7
    assert summary["items"]["unreadable"] == 1


def test_records_in_another_order_prove_nothing(unharmed: CheckRequest) -> None:
    check(unharmed)
    workspace = Workspace(unharmed.out)
    info, records = workspace.read_cell("planted", HARMED)
    write_cell(workspace.cell_path("planted", HARMED), info, records.take(np.arange(len(records))[::-1]))
    summary = judge(workspace)
    assert summary["verdict"] == "ERROR"
    assert "are not the first items of the run's seeded order" in summary["reasons"][0]


def test_records_without_their_reference_prove_nothing(unharmed: CheckRequest) -> None:
    check(unharmed)
    workspace = Workspace(unharmed.out)
    info, records = workspace.read_cell("planted", "reference")
    write_cell(workspace.cell_path("planted", "reference"), info, records.take(np.arange(len(records) - 40)))
    summary = judge(workspace)
    assert summary["verdict"] == "ERROR"
    assert "40 items were read that the reference has not answered" in summary["reasons"][0]


@pytest.mark.parametrize("ask", [["plan"], ["observe"], ["explain", "--environment", HARMED]])
def test_what_needs_all_items_is_refused_and_says_how_to_get_them(unharmed: CheckRequest, ask: list[str]) -> None:
    check(unharmed)
    command, *options = ask
    result = CliRunner().invoke(cli, [command, str(unharmed.out), *options], obj={"debug": False})
    assert result.exit_code != 0
    assert f"gapshift evaluate {unharmed.out} --no-sequential --out FOLDER" in f"{result.output}{result.exception}"


# ------------------------------------------------------------------------------- refusing


def test_what_is_only_reported_is_refused_by_name(unharmed: CheckRequest) -> None:
    with pytest.raises(SettingsError, match=r"only reported: .*int8.* and \d+ more\. Name what you deploy to with"):
        check(replace(unharmed, environments=()))
    with pytest.raises(SettingsError, match="--group equivalent, or leave out --sequential"):
        check(replace(unharmed, groups=("precision",)))


def test_an_order_of_its_own_is_refused_where_named_and_left_out_of_a_group(unharmed: CheckRequest) -> None:
    with pytest.raises(SettingsError, match=r"onnxruntime-shuffled sets runtime\.order"):
        check(replace(unharmed, environments=("onnxruntime-shuffled",)))
    summary, _ = check(replace(unharmed, environments=(), groups=("equivalent",)))
    assert "onnxruntime-shuffled" not in {cell["environment"] for cell in summary["cells"]}
    assert any(note.startswith("Left out: onnxruntime-shuffled") for note in summary["notes"])


def test_items_that_come_in_groups_are_refused(tmp_path: Path) -> None:
    groups = [f"speaker {row % 25}" for row in range(len(LEVEL))]
    request = planted(tmp_path, LEVEL.tolist(), RIGHT, RIGHT, groups)
    with pytest.raises(SettingsError, match=r"come in groups \(speakers, paragraphs; effectively 25 at a level\)"):
        check(request)


# -------------------------------------------------------------------------------- budget


def test_a_budget_judges_that_many_items_evenly_over_the_levels(unharmed: CheckRequest, tmp_path: Path) -> None:
    summary, _ = check(replace(unharmed, sequential=False, budget=1003))
    (cell,) = summary["cells"]
    assert sorted(cell["n_by_level"][key] for key in "12345") == [200, 200, 201, 201, 201]
    assert summary["items"]["judged"] == 1003
    assert summary["reading"] == {
        "mode": "budget",
        "budget": 1003,
        "read": 1003,
        "full": 2000,
        "saved": pytest.approx(0.4985),
    }
    assert "1,003 of 2,000 items judged (budget)" in summary["headline"]
    assert summary["notes"][0].startswith("Budget: 1,003 of 2,000 items were judged, drawn evenly")
    assert summary["verdict"] == "PASS"  # by the ordinary gate, which 189 items a level satisfy
    more, _ = evaluate_run(unharmed.out, tmp_path / "more", budget=1500)
    assert more["items"]["judged"] == 1500
    all_of_them, _ = evaluate_run(unharmed.out, tmp_path / "sequential", sequential=True)
    assert all_of_them["reading"]["mode"] == "sequential"
    assert all_of_them["cells"][0]["reading"]["levels"]["1"]["there"] == PER_LEVEL
    with pytest.raises(WorkspaceError, match=r"planned otherwise \(its tasks, budget\)"):
        evaluate_run(unharmed.out, unharmed.out, budget=1500)


def test_a_budget_of_a_sequential_run_limits_the_answers_of_each_cell(unharmed: CheckRequest) -> None:
    summary, _ = check(replace(unharmed, budget=100))
    (cell,) = summary["cells"]
    assert summary["verdict"] == "INCONCLUSIVE"
    assert cell["reading"]["read"] == 100
    assert [cell["reading"]["levels"][key]["read"] for key in "12345"] == [20] * 5
    assert "undecided after 20 of 400 items" in cell["level_reasons"]["1"]
    assert cell["items_needed"]["1"] == 229
    few, _ = check(replace(unharmed, budget=3))
    assert few["cells"][0]["level_reasons"]["5"] == "none of 400 items was read"


def test_a_budget_below_one_is_refused(unharmed: CheckRequest) -> None:
    with pytest.raises(SettingsError, match="The budget is 0 items; give 1 or more"):
        replace(unharmed, budget=0)
    with pytest.raises(SettingsError, match="The budget is -5 items"):
        evaluate_run(unharmed.out, unharmed.out, budget=-5)
