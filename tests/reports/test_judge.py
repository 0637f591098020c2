"""The judgement of whole run folders."""

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from gapshift.errors import UnknownNameError, WorkspaceError
from gapshift.records import concatenate, read_items, write_items
from gapshift.reports.judge import judge
from gapshift.reports.renderers.html import render_html
from gapshift.reports.renderers.markdown import render_markdown
from gapshift.reports.renderers.view import verdict_meaning
from gapshift.schema import Execution

SUMMARY_KEYS = {
    "schema_version", "verdict", "headline", "reasons", "next_steps", "margin_pp", "alpha", "interval_level",
    "holm_family", "command", "deployments", "strict", "allow_unlevelled", "notes", "tasks", "study", "environments",
    "items", "calibration", "bundles", "cells", "regimes", "contrasts",
    "observability", "power", "false_alarms", "self_test", "traffic", "reading",
}  # fmt: skip
CELL_KEYS = {
    "bundle", "environment", "kind", "gated", "deviations", "status", "reason", "n_by_level", "accuracy",
    "reference_accuracy", "drop_pp", "loss", "gain", "loss_slope", "tilt_pp", "ability_shift", "predicted_drop_pp",
    "floor", "churn", "flips", "ece", "reference_ece", "ece_difference", "execution", "verdict", "levels", "seconds",
    "items_per_second",
}  # fmt: skip
ADDED_CELL_KEYS = {
    "named", "subsampled", "n", "mean_drop_pp", "tie_changes", "q_change", "bands", "level_reasons", "items_needed",
    "remarks", "undecided_floor", "open_loop", "score", "clustering",
    "smece", "reference_smece", "smece_difference",
    "traffic", "groups", "reading",
    "service", "fallback_share", "no_answer_share",
}  # fmt: skip
LEVELS = ("1", "2", "3", "4", "5")
E = {"estimate", "low", "high"}


# ------------------------------------------------------------------- verdicts


def test_pass(builder):
    summary, cell = builder.judged(builder.answers(lost={5: 1}))
    assert summary["verdict"] == "PASS"
    assert cell["levels"] == dict.fromkeys(LEVELS, "PASS")
    assert summary["reasons"] == ["PASS: the drop stays below the margin at every judged level of 1 gated cell"]
    assert summary["holm_family"] == 5


def test_fail_names_bundle_environment_level_drop_margin_and_p(builder):
    summary, cell = builder.judged(builder.answers(lost={5: 60}))
    assert summary["verdict"] == cell["verdict"] == "FAIL"
    assert cell["levels"] == {"1": "PASS", "2": "PASS", "3": "PASS", "4": "PASS", "5": "FAIL"}
    reason = summary["reasons"][0]
    assert reason.startswith("FAIL: m in env, level 5: accuracy drops by 10.00 pp (95% interval 7.85 to 12.66)")
    assert "margin 2 pp; Holm-adjusted p = " in reason
    assert summary["headline"].startswith("FAIL: 1 of 1 gated cells failed; worst is m in env at level 5")


def test_inconclusive_says_how_many_items_would_decide(builder):
    summary, cell = builder.judged(builder.answers(lost={5: 12}, gained={5: 8}))
    assert summary["verdict"] == "INCONCLUSIVE"
    assert cell["items_needed"] == {"1": None, "2": None, "3": None, "4": None, "5": 852}
    assert "about 852 such items would decide (600 here)" in summary["reasons"][0]


def test_few_items_are_inconclusive_never_a_pass(make_builder):
    builder = make_builder(per_level=100)
    summary, cell = builder.judged(builder.answers())
    assert summary["verdict"] == "INCONCLUSIVE"
    assert set(cell["items_needed"].values()) == {189}


@pytest.mark.parametrize("kind", ["lossy", "mistake", "stress"])
def test_what_is_not_named_is_reported_and_does_not_decide(builder, kind):
    summary, cell = builder.judged(builder.answers(lost={5: 100}), kind=kind, named=False)
    assert (cell["gated"], cell["verdict"], summary["verdict"]) == (False, "FAIL", "NO DATA")
    assert summary["reasons"][0].startswith("NO DATA: nothing is gated")
    assert "no deployment is named" in summary["headline"]


def test_an_equivalent_environment_is_gated_by_its_predictions(builder):
    summary, cell = builder.judged(builder.answers(moved={5: 1}), kind="equivalent", named=False)
    assert cell["gated"]
    assert summary["verdict"] == "FAIL"
    assert cell["drop_pp"]["5"]["estimate"] == 0
    assert "1 of 600 predictions change outside ties" in cell["reason"]
    assert "worst is m in env at level 5 (1 of 600 predictions change)" in summary["headline"]


def test_changes_at_ties_are_counted_and_do_not_fail(builder, edit):
    reference = builder.answers()
    gap = reference.gap.copy()
    gap[-1] = 1e-4
    builder.environment("off")
    builder.cell("reference", edit(reference, gap=gap))
    builder.cell("off", builder.answers(moved={5: 1}))
    cell = judge(builder.finish())["cells"][0]
    assert (cell["verdict"], cell["tie_changes"], cell["churn"]["5"]["estimate"]) == ("PASS", 1, pytest.approx(1 / 600))


def test_another_format_than_requested_is_no_data_with_its_numbers(builder):
    ran = Execution(engine="ort", provider="CPU", requested="float16", executed="float32", matches=False)
    summary, cell = builder.judged(builder.answers(lost={5: 60}), cell={"execution": ran})
    assert summary["verdict"] == cell["verdict"] == "NO DATA"
    assert cell["drop_pp"]["5"]["estimate"] == pytest.approx(10)
    assert "float16 was requested and float32 was executed" in summary["reasons"][0]


# ------------------------------------------------------- skipped, not applicable


@pytest.mark.parametrize("status", ["skipped", "not_applicable"])
@pytest.mark.parametrize(
    ("kind", "named", "strict", "gated"),
    [("equivalent", False, False, False), ("equivalent", False, True, True), ("lossy", True, False, True)],
)
def test_skipped_cells_decide_when_named_or_strict(builder, status, kind, named, strict, gated):
    why = {"status": status, "reason": "no OpenVINO here"}
    summary, cell = builder.judged(builder.answers(), kind=kind, named=named, cell=why, strict=strict)
    assert (cell["gated"], cell["verdict"], summary["verdict"]) == (gated, "NO DATA", "NO DATA")
    assert cell["reason"].endswith("no OpenVINO here")
    assert cell["n"] == 0


def test_a_lossy_environment_that_was_skipped_decides_under_strict(builder):
    _, cell = builder.judged(builder.answers(), cell={"status": "skipped"}, named=False, strict=True)
    assert cell["gated"]


def test_a_deployment_that_was_not_planned_is_refused(builder):
    builder.environment("int8")
    builder.cell("reference", builder.answers())
    with pytest.raises(UnknownNameError, match=r"Unknown deployment 'int9'\. Did you mean 'int8'\?"):
        judge(builder.finish(deployments=("int9",)))


# ---------------------------------------------------------------- floors and bands


def floored(builder, **settings):
    accuracy = {1: 0.98, 2: 0.95, 3: 0.9, 4: 0.8, 5: 0.1}
    builder.environment("env", "lossy")
    builder.cell("reference", builder.answers(accuracy))
    builder.cell("env", builder.answers(accuracy, lost={5: 30}, gained={5: 30}))
    return judge(builder.finish(deployments=("env",), **settings))


def test_a_floored_level_is_left_out_and_said_in_the_headline(builder):
    summary = floored(builder)
    cell = summary["cells"][0]
    assert (summary["verdict"], cell["levels"]["5"], cell["floor"], cell["tilt_pp"]) == ("PASS", "NO DATA", [5], None)
    assert "levels at the floor of chance are left out (m level 5)" in summary["headline"]
    assert summary["reasons"][0].startswith("PASS: ")
    assert "levels at the floor of chance are left out (m level 5)" in summary["reasons"][0]
    assert summary["reasons"][1].startswith("NO DATA: m in env, level 5: floor")
    assert cell["undecided_floor"] == [5]


def test_a_floored_level_that_is_decided_is_not_left_out(builder):
    accuracy = {1: 0.98, 2: 0.95, 3: 0.9, 4: 0.8, 5: 0.1}
    builder.environment("env")
    builder.cell("reference", builder.answers(accuracy))
    builder.cell("env", builder.answers(accuracy))
    cell = judge(builder.finish())["cells"][0]
    assert (cell["floor"], cell["levels"]["5"], cell["undecided_floor"]) == ([5], "PASS", [])


def test_no_data_for_another_reason_is_no_floor(builder):
    accuracy = {1: 0.98, 2: 0.95, 3: 0.9, 4: 0.8, 5: 0.1}
    ran = Execution(engine="ort", provider="CPU", requested="float16", executed="float32", matches=False)
    builder.environment("env", "lossy")
    builder.cell("reference", builder.answers(accuracy))
    builder.cell("env", builder.answers(accuracy), execution=ran)
    cell = judge(builder.finish(deployments=("env",)))["cells"][0]
    assert (cell["floor"], cell["levels"]["5"], cell["undecided_floor"]) == ([5], "NO DATA", [])


def test_a_floored_level_decides_under_strict(builder):
    assert floored(builder, strict=True)["verdict"] == "NO DATA"


def test_three_bands_are_judged_where_levels_are_unreliable(builder):
    builder.card = {"gated_bands": ((1, 2), (3,), (4, 5)), "split_half": 0.7}
    summary, cell = builder.judged(builder.answers(lost={5: 120}))
    assert summary["holm_family"] == 3
    assert cell["levels"] == {"1": "PASS", "2": "PASS", "3": "PASS", "4": "FAIL", "5": "FAIL"}
    assert "levels 4-5" in summary["reasons"][0]
    assert cell["drop_pp"]["4"]["p_fail_holm"] == cell["drop_pp"]["5"]["p_fail_holm"]


def test_an_empty_level_is_no_data_unless_its_band_has_items(make_builder):
    alone, banded = make_builder(), make_builder()
    banded.card = {"gated_bands": ((1, 2), (3,), (4, 5))}
    for builder in (alone, banded):
        builder.per_level[5] = 0
    first, cell = alone.judged(alone.answers())
    assert (first["verdict"], cell["levels"]["5"], cell["drop_pp"]["5"]) == ("NO DATA", "NO DATA", None)
    assert first["reasons"] == ["NO DATA: m in env, level 5: no items"]
    assert banded.judged(banded.answers())[0]["verdict"] == "PASS"


@pytest.mark.parametrize(("allowed", "verdict"), [(False, "INCONCLUSIVE"), (True, "PASS")])
def test_all_items_together_pass_only_when_allowed(builder, allowed, verdict):
    builder.card = {"gated_bands": ((1, 2, 3, 4, 5),), "split_half": 0.4}
    summary, _ = builder.judged(builder.answers(), allow_unlevelled=allowed)
    assert (summary["verdict"], summary["holm_family"]) == (verdict, 1)
    assert ("--allow-unlevelled" in summary["reasons"][0]) is not allowed
    if not allowed:
        assert summary["headline"] == (
            "INCONCLUSIVE: all items together pass in 1 gated cell, but the levels of task are too unreliable "
            "to be judged apart: calibrate with more responders, or accept it with --allow-unlevelled."
        )
        assert "calibrate with more responders" in verdict_meaning(summary)
        assert "items are needed" not in render_html(summary)


def test_bands_that_lose_a_level_are_refused(builder):
    builder.card = {"gated_bands": ((1, 2), (4, 5))}
    with pytest.raises(WorkspaceError, match="every level from 1 to 5 belongs to exactly one band"):
        builder.judged(builder.answers())


# ------------------------------------------------------------------- Holm family


def test_cells_that_did_not_run_stay_in_the_family(make_builder):
    def p_at_level_5(missing):
        builder = make_builder()
        for k in range(missing):
            builder.environment(f"gone{k}")
        summary, _ = builder.judged(builder.answers(lost={5: 28}))
        drop = summary["cells"][missing]["drop_pp"]["5"]
        return summary["holm_family"], drop["p_fail"], drop["p_fail_holm"]

    assert p_at_level_5(0)[0] == 5
    family, p, adjusted = p_at_level_5(4)
    assert family == 25
    assert adjusted == pytest.approx(25 * p)


def test_a_cell_that_is_not_gated_leaves_the_family_alone(make_builder):
    alone, beside = make_builder(), make_builder()
    beside.environment("bgr", "mistake")
    beside.cell("bgr", beside.answers(lost=dict.fromkeys(range(1, 6), 100)))
    drops = [b.judged(b.answers(lost={5: 28}))[0]["cells"][-1]["drop_pp"]["5"] for b in (alone, beside)]
    assert drops[0] == drops[1]


# ---------------------------------------------------------------- the training cell


def test_training_side_answers_are_one_more_gated_cell(builder):
    builder.environment("off")
    builder.cell("reference", builder.answers())
    builder.cell("off", builder.answers())
    held_out, training = builder.answers(moved={2: 1}, lost={5: 6}), builder.answers(prefix="train")
    builder.training(concatenate([training, held_out]))
    summary = judge(builder.finish())
    cell = summary["cells"][0]
    assert (cell["environment"], cell["kind"], cell["gated"], cell["verdict"]) == (
        "training",
        "equivalent",
        True,
        "FAIL",
    )
    assert cell["drop_pp"]["5"]["estimate"] == pytest.approx(1)
    export = summary["bundles"][0]["export_drop_pp"]["5"]
    assert export["estimate"] == pytest.approx(-1)
    assert export["low"] == pytest.approx(-cell["drop_pp"]["5"]["high"])
    assert summary["holm_family"] == 10


def test_without_training_side_answers_there_is_no_export_drop(builder):
    assert builder.judged(builder.answers())[0]["bundles"][0]["export_drop_pp"] is None


# ---------------------------------------------------------------------- the summary


def test_the_summary_has_exactly_its_keys(builder):
    summary, cell = builder.judged(builder.answers(lost={3: 15, 4: 20, 5: 60}, gained={4: 5}))
    assert set(summary) == SUMMARY_KEYS
    assert set(cell) == CELL_KEYS | ADDED_CELL_KEYS
    assert set(summary["bundles"][0]) == {
        "name", "domain", "task", "regime", "seed", "family", "sha256", "reference", "export_drop_pp",
    }  # fmt: skip
    keys = ("all", *LEVELS)
    by_level = ("n_by_level", "accuracy", "reference_accuracy", "drop_pp", "loss", "gain", "predicted_drop_pp", "churn")
    assert all(tuple(cell[name]) == keys for name in by_level)
    assert all(tuple(cell["flips"][name]) == keys for name in ("right_to_wrong", "wrong_to_right"))
    assert set(cell["drop_pp"]["5"]) == E | {"p_change", "p_fail", "p_fail_holm"}
    assert all(set(cell[name]) == E for name in ("loss_slope", "tilt_pp", "ability_shift", "ece_difference"))


def test_a_cell_without_data_has_the_same_keys(builder):
    summary, cell = builder.judged()
    assert set(cell) == CELL_KEYS | ADDED_CELL_KEYS
    json.dumps(summary, allow_nan=False)


def test_what_did_not_change_is_still_bounded_by_the_number_of_items(make_builder):
    def found(**answers):
        builder = make_builder()
        return builder.judged(builder.answers(**answers))[1]

    unchanged, changed = found(moved={5: 3}), found(lost={5: 30}, gained={2: 3})
    assert unchanged["ability_shift"] is None
    assert unchanged["predicted_drop_pp"]["all"] == 0
    # Each level's Tango end is z^2 / (n + z^2); of five such ends the mean's is one over sqrt(5).
    end = 100 * 1.959964**2 / (600 + 1.959964**2) / 5**0.5
    assert unchanged["mean_drop_pp"] == pytest.approx({"estimate": 0, "low": -end, "high": end})
    assert set(changed["ability_shift"]) == set(changed["mean_drop_pp"]) == E


def test_items_in_groups_are_said(builder):
    builder.group = lambda item: f"patient-{int(item.rsplit('-', 1)[1]) % 7}" if item.startswith("item-5") else None
    summary, _ = builder.judged(builder.answers(), notes=("As planned.",))
    said = (
        "The items of task come in 7 groups, too few to speak for others (effectively under 10) at level 5: "
        "verdicts hold for these groups, not for others."
    )
    assert summary["notes"] == ["As planned.", said]
    assert said in render_html(summary)
    assert said in render_markdown(summary)


def speaker(item):
    return f"speaker-{int(item.rsplit('-', 1)[1]) % 60}"


def test_items_in_enough_groups_are_judged_by_cluster_robust_intervals(make_builder):
    def found(group):
        builder = make_builder()
        builder.group = group
        return builder.judged(builder.answers(lost={4: 3, 5: 5}, moved={5: 3}), name="env")

    (_, alone), (summary, together) = found(lambda _: None), found(speaker)
    assert summary["notes"] == [
        "The items of task come in 60 groups; intervals and p are cluster-robust, so the verdicts hold for other "
        "groups like these."
    ]
    assert alone["clustering"] == dict.fromkeys(("all", *LEVELS))
    assert together["clustering"]["5"] == {"groups": 60, "design_effect": 1.45}
    for key in ("all", *LEVELS):
        narrow, wide = alone["drop_pp"][key], together["drop_pp"][key]
        assert wide["estimate"] == pytest.approx(narrow["estimate"])
        assert wide["high"] > narrow["high"]
        assert wide["low"] < narrow["low"]
        assert together["churn"][key]["high"] > alone["churn"][key]["high"]
    assert together["mean_drop_pp"]["high"] > alone["mean_drop_pp"]["high"]
    assert (alone["levels"]["5"], together["levels"]["5"]) == ("PASS", "INCONCLUSIVE")
    assert together["items_needed"]["5"] > 600
    assert "over 60 groups), margin 2 pp" in summary["reasons"][0]


def test_losses_in_a_few_groups_do_not_fail_for_all(make_builder):
    """30 of 600 items of level 5 lost: from 30 of 60 speakers they fail, from three of them they do not."""

    def verdict(group):
        builder = make_builder()
        builder.group = group
        return builder.judged(builder.answers(lost={5: 30}))[1]["levels"]["5"]

    assert verdict(speaker) == "FAIL"
    assert verdict(lambda item: f"speaker-{int(item.rsplit('-', 1)[1]) // 10}") == "INCONCLUSIVE"


def test_groups_of_one_item_a_level_are_independent(make_builder):
    def found(group):
        builder = make_builder()
        builder.group = group
        return builder.judged(builder.answers(lost={5: 30}, gained={4: 2}))

    (_, alone), (summary, single) = found(lambda _: None), found(lambda item: f"word-{item.rsplit('-', 1)[1]}")
    assert summary["notes"] == [
        "The items of task come in 600 groups, with at most one item of each at a level: "
        "they are judged as independent."
    ]
    assert all(single["drop_pp"][level] == alone["drop_pp"][level] for level in LEVELS)


def test_measured_values(builder):
    _, cell = builder.judged(builder.answers(lost={1: 6, 5: 60}, gained={5: 12}, moved={5: 5}))
    assert cell["reference_accuracy"]["5"] == pytest.approx(0.6)
    assert cell["accuracy"]["5"] == pytest.approx(0.52)
    assert cell["drop_pp"]["5"]["estimate"] == pytest.approx(8)
    assert cell["loss"]["5"]["estimate"] == pytest.approx(60 / 360)
    assert cell["gain"]["5"]["estimate"] == pytest.approx(12 / 240)
    assert cell["churn"]["5"]["estimate"] == pytest.approx(77 / 600)
    assert cell["tilt_pp"]["estimate"] == pytest.approx(7)
    assert cell["mean_drop_pp"]["estimate"] == pytest.approx((1 + 8) / 5)
    assert cell["ability_shift"]["high"] < 0 < cell["predicted_drop_pp"]["all"]


def test_items_without_parameters_have_no_ability(builder):
    builder.parameters = False
    _, cell = builder.judged(builder.answers(lost={5: 60}))
    assert cell["ability_shift"] is None
    assert set(cell["predicted_drop_pp"].values()) == {None}


def test_cells_come_in_plan_order_and_the_reference_is_none(builder):
    for bundle in ("b", "a"):
        builder.bundle(bundle)
        builder.cell("reference", builder.answers(), bundle=bundle)
    for name in ("z", "reference", "y"):
        builder.environment(name)
    cells = judge(builder.finish())["cells"]
    assert [(c["bundle"], c["environment"]) for c in cells] == [("b", "z"), ("b", "y"), ("a", "z"), ("a", "y")]


def test_the_same_files_give_the_same_summary_whatever_the_order_of_rows(make_builder, edit):
    def summary(order):
        builder = make_builder()
        return builder.judged(edit(builder.answers(lost={5: 20}, gained={3: 4}), keep=order))[0]

    straight, again = summary(slice(None)), summary(slice(None))
    shuffled = summary(np.random.default_rng(0).permutation(3000))
    assert straight == again
    assert straight["cells"][0]["levels"] == shuffled["cells"][0]["levels"]
    assert straight["cells"][0]["drop_pp"] == shuffled["cells"][0]["drop_pp"]


def test_a_run_without_a_plan_is_refused(builder):
    with pytest.raises(WorkspaceError, match=r"it has no run\.json"):
        judge(builder.workspace)


# ------------------------------------------------------------------ rarer run folders


def test_a_reference_in_another_format_judges_nothing(builder):
    ran = Execution(engine="ort", provider="CPU", requested="float32", executed="bfloat16", matches=False)
    builder.environment("off")
    builder.cell("reference", builder.answers(), execution=ran)
    builder.cell("off", builder.answers())
    cell = judge(builder.finish())["cells"][0]
    assert cell["verdict"] == "NO DATA"
    assert cell["reason"].startswith("the reference: float32 was requested and bfloat16 was executed")


def test_doubled_ids_in_the_items_are_an_error(builder):
    builder.environment("off")
    builder.cell("reference", builder.answers())
    builder.cell("off", builder.answers())
    workspace = builder.finish()
    table, cards = read_items(workspace.items_path)
    write_items(workspace.items_path, pa.concat_tables([table, table.slice(0, 2)]), cards)
    summary = judge(workspace)
    assert summary["verdict"] == "ERROR"
    assert "items.parquet holds 2 doubled ids" in summary["reasons"][0]


def test_each_task_has_its_own_bands(builder):
    builder.environment("off")
    for task in ("easy", "unsure", "unknown"):
        builder.bundle(task, task=task)
        for environment in ("reference", "off"):
            builder.cell(environment, builder.answers(), bundle=task)
    workspace = builder.finish()
    table, (card,) = read_items(workspace.items_path)
    cards = [
        card.model_copy(update={"task": "easy"}),
        card.model_copy(update={"task": "unsure", "gated_bands": ((1, 2), (3,), (4, 5))}),
    ]
    write_items(workspace.items_path, table, cards)
    summary = judge(workspace)
    assert [len(cell["bands"]) for cell in summary["cells"]] == [5, 3, 5]
    assert (summary["holm_family"], summary["verdict"]) == (13, "PASS")


def test_items_outside_the_reference_are_not_judged(builder, edit):
    builder.environment("off")
    builder.cell("reference", edit(builder.answers(), keep=slice(100, None)))
    builder.cell("off", builder.answers())
    summary = judge(builder.finish())
    assert (summary["cells"][0]["n"], summary["items"]["judged"], summary["verdict"]) == (2900, 2900, "PASS")


def test_items_with_nothing_but_id_and_level_are_enough(builder):
    builder.environment("off")
    builder.cell("reference", builder.answers())
    builder.cell("off", builder.answers())
    workspace = builder.finish()
    table, _ = read_items(workspace.items_path)
    pq.write_table(table.select(["id", "level"]).replace_schema_metadata(None), workspace.items_path)
    summary = judge(workspace)
    assert (summary["verdict"], summary["calibration"], summary["holm_family"]) == ("PASS", [], 5)


def test_an_empty_reference_is_an_error(builder, edit):
    builder.environment("off")
    builder.cell("reference", edit(builder.answers(), keep=slice(0, 0)))
    builder.cell("off", builder.answers())
    assert judge(builder.finish())["reasons"] == ["ERROR: m in off: the reference holds no item"]


def test_a_cell_that_could_read_nothing_is_an_error(builder, edit):
    records = edit(builder.answers(), status="unreadable", where=slice(None))
    builder.environment("off")
    builder.cell("reference", records)
    builder.cell("off", records)
    cell = judge(builder.finish())["cells"][0]
    assert (cell["verdict"], cell["n"]) == ("ERROR", 0)
    assert "3000 items ('item-1-00000' first) of 3000 cannot be read" in cell["reason"]


def test_answers_without_confidences_have_no_calibration_error(builder, edit):
    records = builder.answers()
    summary, cell = builder.judged(edit(records, confidence=np.full(len(records), np.nan)))
    assert cell["ece"] is cell["reference_ece"] is cell["ece_difference"] is None
    assert summary["bundles"][0]["reference"]["ece"] > 0


def test_few_items_have_no_calibration_error(make_builder):
    builder = make_builder(per_level=5)
    summary, cell = builder.judged(builder.answers())
    assert cell["ece"] is summary["bundles"][0]["reference"]["ece"] is None


def test_all_levels_together_can_fail(builder):
    builder.card = {"gated_bands": ((1, 2, 3, 4, 5),)}
    summary, cell = builder.judged(builder.answers(lost=dict.fromkeys(range(1, 6), 60)), allow_unlevelled=True)
    assert summary["reasons"][0].startswith("FAIL: m in env, all levels together: accuracy drops by 10.00 pp")
    assert cell["drop_pp"]["all"]["p_fail_holm"] == cell["drop_pp"]["1"]["p_fail_holm"]


def test_smooth_calibration_error_stands_beside_the_binned_one(builder):
    _, cell = builder.judged(builder.answers(lost={5: 120}))
    before, after = cell["reference_smece"], cell["smece"]
    assert before > after > 0  # the reference is not sure enough of its answers, of which fewer are right now
    found = cell["smece_difference"]
    assert found["estimate"] == pytest.approx(after - before)
    assert found["low"] < found["estimate"] < found["high"]


def test_without_confidences_there_is_no_smooth_error(builder):
    records = builder.answers()
    records.confidence[:] = np.nan
    _, cell = builder.judged(records)
    assert cell["smece"] is cell["reference_smece"] is cell["smece_difference"] is None
