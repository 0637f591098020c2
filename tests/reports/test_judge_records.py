"""Records that are missing, broken, doubled or of another plan: none of them is a pass."""

import json

import numpy as np
import pytest

from gapshift.reports.judge import judge

LEVELS = ("1", "2", "3", "4", "5")


# --------------------------------------------------------------------- errors


def test_a_planned_cell_without_a_file_is_an_error(builder):
    summary, cell = builder.judged()
    assert (summary["verdict"], cell["status"], cell["reason"]) == ("ERROR", "error", "did not run")
    assert cell["levels"] == dict.fromkeys(LEVELS, "ERROR")


def test_a_broken_file_is_an_error(builder):
    builder.environment("env")
    builder.cell("reference", builder.answers())
    workspace = builder.finish()
    workspace.cell_path("m", "env").write_bytes(b"half a fi")
    cell = judge(workspace)["cells"][0]
    assert cell["verdict"] == "ERROR"
    assert "is not a gapshift cell" in cell["reason"]


def test_another_cells_file_is_an_error(builder):
    builder.environment("env")
    builder.cell("reference", builder.answers())
    builder.cell("other", builder.answers())
    workspace = builder.finish()
    workspace.cell_path("m", "other").rename(workspace.cell_path("m", "env"))
    assert judge(workspace)["cells"][0]["reason"] == "its record file belongs to m in other"


def test_a_cell_that_ended_in_an_error_is_an_error(builder):
    summary, cell = builder.judged(cell={"status": "error", "reason": "out of memory"}, records=builder.answers())
    assert (summary["verdict"], cell["reason"]) == ("ERROR", "out of memory")


@pytest.mark.parametrize("write", [False, True])
def test_without_its_reference_every_cell_of_a_bundle_is_an_error(builder, write):
    for name in ("a", "b"):
        builder.environment(name)
        builder.cell(name, builder.answers())
    if write:
        builder.cell("reference", None, status="error", reason="the model refuses the input")
    summary = judge(builder.finish())
    why = "the reference ended as error: the model refuses the input" if write else "the reference did not run"
    assert [cell["verdict"] for cell in summary["cells"]] == ["ERROR", "ERROR"]
    assert summary["reasons"] == [f"ERROR: m in a, b: {why}"]
    assert summary["bundles"][0]["reference"]["reason"] == why


def test_missing_records_are_an_error_and_said(builder, edit):
    _, cell = builder.judged(edit(builder.answers(), keep=slice(0, -3)))
    assert (cell["verdict"], cell["reason"]) == ("ERROR", "3 of 3000 items have no record")


def test_a_subsample_is_judged_on_its_own_items(builder, edit):
    summary, cell = builder.judged(edit(builder.answers(), keep=slice(0, None, 3)), environment={"subsample": True})
    assert (cell["n"], cell["n_by_level"]["5"], cell["subsampled"], summary["verdict"]) == (1000, 200, True, "PASS")


def test_an_empty_subsample_is_an_error(builder, edit):
    _, cell = builder.judged(edit(builder.answers(), keep=slice(0, 0)), environment={"subsample": True})
    assert cell["verdict"] == "ERROR"


def test_doubled_records_are_an_error(builder, edit):
    _, cell = builder.judged(edit(builder.answers(), keep=[0, *range(3000)]))
    assert cell["verdict"] == "ERROR"
    assert "more than one record" in cell["reason"]


def test_other_labels_are_an_error(builder, edit):
    records = builder.answers()
    _, cell = builder.judged(edit(records, label=records.label + np.int32(1)))
    assert "3000 items have another label than in the reference" in cell["reason"]


@pytest.mark.parametrize("status", ["error", "ok", "melted"])
def test_unscored_items_and_unknown_words_are_an_error(builder, edit, status):
    _, cell = builder.judged(edit(builder.answers(), status=status, where=[7]))
    assert cell["verdict"] == "ERROR"
    assert "unscored" in cell["reason"]


def test_judged_items_without_a_level_are_an_error(builder, edit):
    builder.environment("env")
    records = builder.answers()
    unknown = edit(records, item_id=np.array(["stranger", *records.item_id[1:].tolist()]))
    builder.cell("reference", unknown)
    builder.cell("env", unknown)
    summary = judge(builder.finish())
    assert summary["verdict"] == "ERROR"
    assert "1 of 3000 judged items have no level in items.parquet" in summary["reasons"][0]


# -------------------------------------------------------------- broken answers


def test_non_finite_outputs_are_wrong_and_named(builder, edit):
    summary, cell = builder.judged(edit(builder.answers(), status="nan_output", where=slice(2400, 2460)))
    assert summary["verdict"] == "FAIL"
    assert cell["flips"]["right_to_wrong"]["5"] == 60
    assert "60 items ('item-5-00000' first) with non-finite outputs here, judged as wrong" in cell["reason"]
    assert any(reason.startswith("NOTE: ") and "60 items" in reason for reason in summary["reasons"])
    json.dumps(summary, allow_nan=False)


def test_non_finite_in_both_is_wrong_in_both(builder, edit):
    broken = edit(builder.answers(), status="nan_output", where=[0])
    builder.environment("off")
    builder.cell("reference", broken)
    builder.cell("off", broken)
    cell = judge(builder.finish())["cells"][0]
    assert (cell["verdict"], cell["churn"]["all"]["estimate"], cell["n"]) == ("PASS", 0, 3000)


def test_a_reference_that_is_not_finite_cannot_pass(builder, edit):
    """Nothing changes between two times NaN, and that is no pass."""
    broken = edit(builder.answers(), status="nan_output", where=slice(None))
    builder.environment("off")
    builder.cell("reference", broken)
    builder.cell("off", broken)
    summary = judge(builder.finish())
    assert summary["verdict"] == "ERROR"
    assert "the reference itself puts out non-finite scores for 3000 items" in summary["reasons"][0]


def test_a_reference_at_chance_is_said_in_reasons_and_headline(builder, edit):
    """A contract with its labels in the wrong order: nothing drops, since nothing was right."""
    records = builder.answers()
    wrong = edit(records, correct=np.zeros(len(records)))
    builder.environment("off")
    builder.cell("reference", wrong)
    builder.cell("off", wrong)
    summary = judge(builder.finish())
    assert "is no better than chance (0.0% against" in summary["headline"]
    assert any("check its contract's labels and preprocessing" in reason for reason in summary["reasons"])


def test_unreadable_here_alone_is_wrong(builder, edit):
    _, cell = builder.judged(edit(builder.answers(), status="unreadable", where=[0, 1]))
    assert (cell["flips"]["right_to_wrong"]["1"], cell["n"]) == (2, 3000)
    assert "2 items ('item-1-00000' first) unreadable here alone, judged as wrong" in cell["remarks"]


@pytest.mark.parametrize(("broken", "verdict"), [(3, "PASS"), (4, "ERROR")])
def test_unreadable_in_both_stands_outside_the_pairs_and_errs_above_a_thousandth(builder, edit, broken, verdict):
    records = edit(builder.answers(), status="unreadable", where=slice(0, broken))
    builder.environment("off")
    builder.cell("reference", records)
    builder.cell("off", records)
    summary = judge(builder.finish())
    assert (summary["verdict"], summary["cells"][0]["n"]) == (verdict, 3000 - broken)
    assert summary["items"]["unreadable"] == broken


@pytest.mark.parametrize(("broken", "verdict"), [(1, "PASS"), (2, "PASS"), (3, "ERROR")])
def test_what_cannot_be_read_was_not_rated_either_and_only_its_share_errs(make_builder, edit, broken, verdict):
    """A run that rated its own 2,000 items: the broken ones have no level in items.parquet."""
    builder = make_builder(per_level=400)
    records = edit(builder.answers(), status="unreadable", where=slice(0, broken))
    names = np.array([f"broken-{k}" for k in range(broken)] + records.item_id[broken:].tolist())
    records = edit(records, item_id=names)
    builder.environment("off")
    builder.cell("reference", records)
    builder.cell("off", records)
    summary = judge(builder.finish())
    assert (summary["verdict"], summary["cells"][0]["n"]) == (verdict, 2000 - broken)
    assert (summary["items"]["judged"], summary["items"]["unreadable"]) == (2000, broken)
    (remark,) = summary["cells"][0]["remarks"]
    assert remark.startswith(f"{broken} item")
    assert "'broken-0'" in remark
    assert remark.endswith("that cannot be read, outside the pairs")
    assert summary["bundles"][0]["reference"]["reason"] == ""


# ------------------------------------------------------------- records of another plan

OTHER_PLAN = "its records were made for another model, contract, environment or items; run `gapshift evaluate` again"


@pytest.mark.parametrize("basis", ["", "of another plan"])
@pytest.mark.parametrize("status", ["ok", "skipped", "not_applicable"])
def test_records_of_another_plan_are_an_error(builder, basis, status):
    summary, cell = builder.judged(
        builder.answers(), kind="equivalent", named=False, cell={"basis": basis, "status": status}
    )
    assert (summary["verdict"], cell["reason"], cell["gated"]) == ("ERROR", OTHER_PLAN, True)
    assert cell["drop_pp"]["all"] is None


def test_a_reference_of_another_plan_is_an_error(builder):
    builder.environment("off")
    builder.cell("reference", builder.answers(), basis="")
    builder.cell("off", builder.answers())
    assert judge(builder.finish())["reasons"] == [f"ERROR: m in off: the reference: {OTHER_PLAN}"]


@pytest.mark.parametrize(
    "change",
    [
        {"tasks": [{"items": "digest of other items"}]},
        {"bundles": [{"sha256": "1" * 64}]},
        {"environments": [{"deviations": {"runtime.batch_size": 1}}]},
        {"environments": [{"subsample": True}]},
    ],
)
def test_a_plan_that_changed_after_its_records_is_an_error(builder, change):
    builder.environment("off")
    builder.cell("reference", builder.answers())
    builder.cell("off", builder.answers())
    workspace = builder.finish()
    assert judge(workspace)["verdict"] == "PASS"
    plan = workspace.read_plan()
    changes = {name: (getattr(plan, name)[0].model_copy(update=value[0]),) for name, value in change.items()}
    workspace.write_plan(plan.model_copy(update=changes))
    summary = judge(workspace)
    assert summary["verdict"] == "ERROR"
    assert OTHER_PLAN in summary["reasons"][0]


def test_training_side_answers_of_another_model_are_an_error(builder):
    builder.cell("reference", builder.answers())
    builder.training(builder.answers(), key="of another model")
    summary = judge(builder.finish())
    assert (summary["verdict"], summary["bundles"][0]["export_drop_pp"]) == ("ERROR", None)
    assert summary["reasons"] == [f"ERROR: m in training: {OTHER_PLAN}"]


def test_a_users_model_that_is_worse_on_easy_items_is_noted(builder, edit):
    """Labels in another order than the model's: levels and answers disagree, and nothing drops."""
    records = builder.answers()
    first = np.char.startswith(records.item_id, "item-1-")
    wrong = edit(records, correct=np.where(first, 0.0, records.correct))
    builder.environment("off")
    builder.cell("reference", wrong)
    builder.cell("off", wrong)
    summary = judge(builder.finish())
    assert any("does worse on level 1 than on level 2" in reason for reason in summary["reasons"])
