"""A run's reasons: what differs by seed or environment alone shares a line."""

import numpy as np

from gapshift.reports.judge import judge


def test_environments_of_a_bundle_share_a_reason(builder):
    for name in ("off", "one-thread"):
        builder.environment(name)
        builder.cell(name, builder.answers(moved={5: 1}))
    builder.cell("reference", builder.answers())
    summary = judge(builder.finish())
    assert len(summary["reasons"]) == 1
    assert summary["reasons"][0].startswith("FAIL: m in off, one-thread, level 5: 1 of 600 predictions change")


def test_a_regimes_model_at_chance_has_not_learnt_and_its_contract_is_not_blamed(builder, edit):
    """The study made the contract itself."""
    name = builder.bundle("cnn-hard-only-s0", regime="hard-only", seed=0, family="cnn")
    builder.environment("off")
    records = builder.answers()
    wrong = edit(records, correct=np.zeros(len(records)))
    for cell in ("reference", "off"):
        builder.cell(cell, wrong, bundle=name)
    summary = judge(builder.finish())
    notes = [reason for reason in summary["reasons"] if reason.startswith("NOTE")]
    assert len(notes) == 1
    assert "cnn-hard-only-s0 is no better than chance (0.0% against" in notes[0]
    assert notes[0].endswith("trained too little, or on items too hard, to clear chance")
    assert "check its contract" not in summary["headline"]


def over_seeds(builder, answers, kind="lossy", blocked=(), **plan):
    """A regime of several seeds in one named environment; ``answers`` holds one cell's changes for each seed."""
    builder.environment("int8", kind)
    for seed, changes in enumerate(answers):
        name = builder.bundle(f"cnn-easy-only-s{seed}", regime="easy-only", seed=seed, family="cnn")
        builder.cell("reference", builder.answers(), bundle=name)
        if seed not in blocked:
            builder.cell("int8", builder.answers(**changes), bundle=name)
    return judge(builder.finish(deployments=("int8",), **plan))["reasons"]


def test_seeds_share_a_reason_with_the_worst_ones_numbers(builder):
    reasons = over_seeds(builder, [{"lost": {5: n}} for n in (60, 72, 66)])
    assert len(reasons) == 1
    assert reasons[0].startswith(
        "FAIL: cnn-easy-only (seeds 0, 1, 2) in int8, level 5: accuracy drops by 10.00 to 12.00 pp; worst is seed 1: "
        "accuracy drops by 12.00 pp (95% interval 9.64 to 14.84), margin 2 pp; Holm-adjusted p = "
    )


def test_seeds_of_another_verdict_or_level_keep_their_own_line(builder):
    reasons = over_seeds(builder, [{"lost": {5: 60}}, {"lost": {5: 12}, "gained": {5: 8}}, {"lost": {4: 60}}])
    assert [reason.split(":", 2)[1] for reason in reasons] == [
        " cnn-easy-only-s0 in int8, level 5",
        " cnn-easy-only-s2 in int8, level 4",
        " cnn-easy-only-s1 in int8, level 5",
    ]


def test_undecided_seeds_say_which_needs_the_most_items(builder):
    (reason,) = over_seeds(builder, [{"lost": {5: 12}, "gained": {5: 8}}, {"lost": {5: 14}, "gained": {5: 6}}])
    assert "accuracy drops by 0.67 to 1.33 pp; furthest from a decision is seed 1: accuracy drops by 1.33 pp" in reason


def test_seeds_share_what_changed_in_an_equivalent_environment(builder):
    (reason,) = over_seeds(builder, [{"moved": {5: 1}}, {"moved": {5: 4}}], kind="equivalent")
    assert "level 5: 1 to 4 predictions change outside ties; worst is seed 1: 4 of 600 predictions change" in reason


def test_seeds_share_what_blocks_them(builder):
    reasons = over_seeds(builder, [{}] * 4, blocked=(1, 3))
    assert reasons == ["ERROR: cnn-easy-only (seeds 1, 3) in int8: did not run"]


def test_seeds_share_a_floor(builder):
    builder.environment("int8", "lossy")
    for seed, right in enumerate((0.1, 0.11)):
        accuracy = {1: 0.98, 2: 0.95, 3: 0.9, 4: 0.8, 5: right}
        name = builder.bundle(f"easy.{seed}", regime="easy-only", seed=seed)
        builder.cell("reference", builder.answers(accuracy), bundle=name)
        builder.cell("int8", builder.answers(accuracy, lost={5: 30}, gained={5: 30}), bundle=name)
    summary = judge(builder.finish(deployments=("int8",)))
    assert summary["reasons"][1] == (
        "NO DATA: easy (seeds 0, 1) in int8, level 5: floor: reference accuracy 10.0 to 11.0%, chance 10.0%, so "
        "nothing is left to lose"
    )
    assert "(easy (seeds 0, 1) level 5)" in summary["headline"]


def test_a_studys_undecided_levels_fold_into_one_line_for_each_task(make_builder):
    builder = make_builder(per_level=185)
    for name in ("off", "one-thread"):
        builder.environment(name)
    for seed, regime in enumerate(("easy-only", "hard-only")):
        name = builder.bundle(f"cnn-{regime}", regime=regime, seed=seed, family="cnn")
        for cell in ("reference", "off", "one-thread"):
            builder.cell(cell, builder.answers(), bundle=name)
    (reason,) = judge(builder.finish())["reasons"]
    assert reason.startswith("INCONCLUSIVE: task, 4 cells of off, one-thread: levels 1, 2, 3, 4, 5 have 185 items and")
    assert "and nothing changed; about 189 a level would decide: more test items" in reason
