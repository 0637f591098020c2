"""Each comparison on study folders of known accuracies."""

import json

import numpy as np
import pyarrow.parquet as pq
import pytest

from gapshift.errors import WorkspaceError
from gapshift.reports.study import study_json

EASY = (0.98, 0.85, 0.7, 0.5, 0.3)
HARD = (0.7, 0.7, 0.7, 0.7, 0.6)


def row_of(rows, **keys):
    (row,) = [row for row in rows if all(row[key] == value for key, value in keys.items())]
    return row


def test_a_run_without_trained_models_has_no_study(study):
    study.domains["digits"] = "vision"
    assert study_json(*study.measured()) is None


def test_the_same_files_always_give_the_same_strict_json(study):
    study.seeds("iid", count=3)
    study.deploy("run-0", {"lossy": study.right((0.9, 0.8, 0.7, 0.3, 0.5))})
    first = study.json()
    json.dumps(first, allow_nan=False)
    assert first == study.json()


def test_gaps_of_known_accuracies(study):
    study.seeds("easy-only", EASY, levels=(1,))
    study.seeds("hard-only", HARD, levels=(5,))
    row = row_of(study.json()["regimes"], regime="easy-only")
    mean = sum(EASY) / 5
    assert row["seeds"] == 5
    assert row["mean_accuracy"]["estimate"] == pytest.approx(mean)
    assert row["g1_pp"]["estimate"] == pytest.approx(100 * (1 - mean))
    assert row["memorisation_pp"]["estimate"] == pytest.approx(2)
    assert row["shift_pp"]["estimate"] == pytest.approx(98 - 100 * mean)
    assert row["g2_pp"]["estimate"] == pytest.approx(68)
    assert row["g3_pp"]["estimate"] == pytest.approx(100 * (0.2 + 0.3) / 5)
    assert row["g3_best"] == ["easy-only", "easy-only", "easy-only", "hard-only", "hard-only"] or row["g3_best"][
        3:
    ] == [
        "hard-only",
        "hard-only",
    ]
    assert row["accuracy"]["5"]["estimate"] == pytest.approx(0.3)
    assert row["training_mix"] == pytest.approx({"1": 1, "2": 0, "3": 0, "4": 0, "5": 0})
    assert row["note"] == ""


def test_the_calibration_error_of_constant_confidence(study):
    study.seeds("iid", (0.5,) * 5)
    ece = study.json()["regimes"][0]["ece"]
    assert ece["all"]["estimate"] == pytest.approx(0.3, abs=0.01)
    assert ece["all"]["low"] < 0.3 < ece["all"]["high"]
    assert ece["1"]["high"] - ece["1"]["low"] > ece["all"]["high"] - ece["all"]["low"]


def test_few_seeds_are_said(study):
    study.train("iid")
    note = study.json()["regimes"][0]["note"]
    assert note == (
        "1 seed: fewer than five, nothing is called supported; one seed: the intervals cover the items alone"
    )


# ------------------------------------------------------------------------- broken files


def test_missing_answers_make_null_what_needs_them(study):
    study.seeds("iid")
    study.seeds("random")
    study.finish()
    study.workspace.answers_path("run-1").unlink()
    found = study.json()
    row = row_of(found["regimes"], regime="iid")
    assert (row["g1_pp"], row["mean_accuracy"], row["ece"]["all"]) == (None, None, None)
    assert row["note"] == "run-1: its answers are missing"
    assert row_of(found["regimes"], regime="random")["g1_pp"] is not None
    assert found["tasks"][0]["learnable"] is None
    assert {claim["verdict"] for claim in found["claims"]} == {"cannot tell"}


def test_answers_of_another_model_are_refused(study):
    study.seeds("iid", count=2)
    study.runs[1] = study.runs[1].model_copy(update={"sha256": "f" * 64})
    assert "its records were made for another model" in study.json()["regimes"][0]["note"]


def test_answers_that_lack_held_out_items_are_refused(study):
    study.train("iid")
    path = study.workspace.answers_path("run-0")
    table = pq.read_table(path)
    pq.write_table(table.slice(3), path, write_page_checksum=True)
    row = study.json()["regimes"][0]
    assert row["mean_accuracy"] is None
    assert "3 of 500 held-out items have no answer" in row["note"]


def test_a_missing_mix_takes_the_gap_and_leaves_the_accuracy(study):
    study.train("iid")
    study.workspace.mix_path("run-0").unlink()
    row = study.json()["regimes"][0]
    assert (row["g1_pp"], row["memorisation_pp"], row["shift_pp"]) == (None, None, None)
    assert row["training_mix"] == dict.fromkeys("12345")
    assert row["mean_accuracy"]["estimate"] == pytest.approx(0.7)
    assert "how often each training item was drawn is unknown" in row["note"]


def test_two_runs_of_one_seed_are_said(study):
    study.train("iid", 3)
    study.train("iid", 3)
    assert "more than one run has the seed 3" in study.json()["regimes"][0]["note"]


# ----------------------------------------------------------------------- one comparison each


def test_the_matrix_of_trained_by_tested_levels(study):
    study.seeds("easy-only", EASY, levels=(1,))
    study.seeds("level-3-only", (0.8, 0.8, 0.9, 0.6, 0.4), levels=(3,))
    (row,) = study.json()["matrix"]
    assert [each["estimate"] for each in row["accuracy"][0]] == pytest.approx(list(EASY))
    assert row["accuracy"][2][2]["estimate"] == pytest.approx(0.9)
    assert row["accuracy"][1] == [None] * 5
    assert row["note"] == "not trained: level-2-only, level-4-only, hard-only"


def test_shuffled_levels_against_true_ones(study):
    study.seeds("curriculum", (0.9, 0.8, 0.7, 0.6, 0.5))
    study.seeds("curriculum", (0.85, 0.75, 0.65, 0.55, 0.4), count=4, shuffled=0.3, spread=0.02)
    (row,) = study.json()["shuffled"]
    # Seeds 0-3 of both: the twin's four lowest accuracies lie 0.5 pp under its mean.
    assert row["difference_pp"]["estimate"] == pytest.approx(-6 + 0.5)
    assert row["g1_difference_pp"]["estimate"] == pytest.approx(6 - 0.5)
    assert (row["share"], row["seeds"]) == (0.3, 4)


def test_shuffled_levels_without_a_twin(study):
    study.seeds("curriculum", shuffled=0.3)
    (row,) = study.json()["shuffled"]
    assert (row["difference_pp"], row["note"]) == (None, "no curriculum with the true levels to compare with")


def test_the_trend_over_widths(study):
    for width, parameters, loss in ((8, 1000, 0.10), (16, 4000, 0.06), (32, 16000, 0.02)):
        study.seeds("random", tuple(a - loss for a in (0.9, 0.8, 0.7, 0.6, 0.5)), width=width, parameters=parameters)
    (row,) = study.json()["widths"]
    assert row["per"] == "parameters"
    assert row["slope_pp_per_doubling"]["estimate"] == pytest.approx(-2)  # 4 pp per two doublings
    assert row["slope_pp_per_doubling"]["high"] < 0
    assert [point["width"] for point in row["points"]] == [8, 16, 32]
    assert [point["g1_pp"]["estimate"] for point in row["points"]] == pytest.approx([40, 36, 32])


def test_one_width_makes_no_axis(study):
    study.seeds("random")
    assert study.json()["widths"] == []


def test_the_recovered_share_is_over_chance(study):
    study.seeds("easy-only", EASY, levels=(1,))
    study.seeds("hard-only", HARD, levels=(5,))
    (row,) = study.json()["recovery"]
    assert row["base"] == pytest.approx(0.1)
    assert row["share"]["estimate"] == pytest.approx((0.3 - 0.1) / (0.6 - 0.1))
    assert row["share"]["low"] < 0.4 < row["share"]["high"]


@pytest.mark.parametrize(
    ("hard", "note"),
    [
        (0.2, "undefined: the lower end of hard-only's advantage over chance is not above 5 pp"),
        (None, "not trained: hard-only"),
    ],
)
def test_the_recovered_share_is_null_without_an_advantage(study, hard, note):
    study.seeds("easy-only", EASY, levels=(1,))
    if hard is not None:
        study.seeds("hard-only", (0.7, 0.7, 0.7, 0.7, hard), levels=(5,))
    (row,) = study.json()["recovery"]
    assert (row["share"], row["note"]) == (None, note)


def test_abilities_of_the_same_recipes_across_tasks(study):
    recipes = {f"r{k}": float(k) for k in range(6)}
    study.abilities = {"a": recipes, "b": {name: value**3 for name, value in recipes.items()}, "c": {"r0": 1, "r1": 2}}
    for task in study.abilities:
        study.train("iid", task=task)
    found = study.json()["scale"]
    ab, ac, _ = found["correlations"]
    assert found["recipes"] == 2
    assert (ab["tasks"], ab["n"], ab["spearman"]) == (["a", "b"], 6, pytest.approx(1))
    assert 0.8 < ab["pearson"] < 1
    assert (ac["n"], ac["pearson"], ac["spearman"]) == (2, None, None)
    assert "standing" in found["assumes"]


# ----------------------------------------------------------------------------- measures


def test_a_measure_that_orders_as_b_does_gives_the_same_findings(study):
    study.seeds("easy-only", EASY, levels=(1,))
    study.seeds("iid")
    ids = study.ids("test")
    study.measure("loss", {i: 2.0 * k for k, i in enumerate(ids)})
    (row,) = study.json()["measures"]
    assert (row["n"], row["turned"], row["rank_correlation"]["estimate"]) == (500, False, 1.0)
    assert all(found["same"] and found["by_b"] == found["by_measure"] for found in row["findings"])
    drop = row_of(row["findings"], finding="drop of easy-only from level 1 to level 5")
    assert drop["by_b"]["estimate"] == pytest.approx(68)
    assert row_of(row["findings"], finding="easy-only less iid at level 5")["by_b"]["estimate"] == pytest.approx(-20)


def test_a_measure_that_falls_with_b_is_turned(study):
    study.seeds("iid")
    study.measure("consistency", {i: -float(k) for k, i in enumerate(study.ids("test"))})
    (row,) = study.json()["measures"]
    assert (row["turned"], row["rank_correlation"]["estimate"], row["note"]) == (
        True,
        -1.0,
        "turned: it falls as b rises",
    )
    assert row["findings"][0]["by_measure"] == row["findings"][0]["by_b"]


def test_a_measure_that_says_nothing_loses_the_findings(study):
    study.seeds("easy-only", EASY, levels=(1,))
    rng = np.random.default_rng(0)
    study.measure("length", {i: float(v) for i, v in zip(study.ids("test"), rng.random(500), strict=True)})
    (row,) = study.json()["measures"]
    assert row["rank_correlation"]["low"] < 0 < row["rank_correlation"]["high"]
    assert row["findings"][0]["same"] is False


def test_equal_values_still_make_equal_quintiles(study):
    study.seeds("iid")
    study.measure("rarity", dict.fromkeys(study.ids("test"), 1.0))
    (row,) = study.json()["measures"]
    assert row["rank_correlation"] is None
    assert row["findings"][0]["by_measure"] is not None
    assert row["note"] == "100% of the items share their value with another group; a hash of the id decided"


def test_a_measure_of_few_items(study):
    study.seeds("iid")
    study.measure("el2n", dict.fromkeys(study.ids("test")[:9], 1.0) | {"train-1-0000": 2.0, "nobody": 3.0})
    (row,) = study.json()["measures"]
    assert (row["n"], row["findings"], row["note"]) == (9, [], "fewer than 10 held-out items have this measure")


def test_a_broken_measures_file_is_named(study):
    study.seeds("iid")
    study.finish()
    (study.workspace.root / "measures.parquet").write_text("no parquet")
    with pytest.raises(WorkspaceError, match=r"Cannot read .*measures.parquet.* delete it and run the study again"):
        study.json()


def test_accuracy_at_absolute_levels_regroups_the_held_out_items(study):
    """In these folders level_abs equals level, so the two groupings agree."""
    study.seeds("iid", EASY)
    row = row_of(study.json()["absolute"], task="digits")
    assert row["cuts"] == [-1.5, -0.5, 0.5, 1.5]
    assert sum(row["items"].values()) == pytest.approx(1)
    accuracy = row_of(row["regimes"], regime="iid")["accuracy"]
    assert [accuracy[str(k)]["estimate"] for k in range(1, 6)] == pytest.approx(EASY)
