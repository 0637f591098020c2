"""Generalisation gaps of regimes, from synthetic bundles whose accuracies are known."""

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from gapshift.records import concatenate
from gapshift.reports.judge import judge

ACCURACY = {1: 0.98, 2: 0.95, 3: 0.9, 4: 0.8, 5: 0.6}
HARD = {1: 0.7, 2: 0.75, 3: 0.8, 4: 0.82, 5: 0.8}
TRAIN = 100


def member(builder, regime, seed, accuracy, levels, train_right=1.0, environment=None):
    """One bundle that drew its training items evenly from ``levels`` and gets a share of them right."""
    name = builder.bundle(f"{regime}-{seed}", regime=regime, seed=seed, family="cnn")
    held_out = builder.answers(accuracy)
    builder.cell("reference", held_out, bundle=name)
    per_level, builder.per_level = builder.per_level, dict.fromkeys(ACCURACY, TRAIN)
    training = builder.answers(dict.fromkeys(ACCURACY, train_right), prefix="train")
    builder.per_level, builder.training_items = per_level, TRAIN
    builder.training(concatenate([held_out, training]), bundle=name)
    builder.mix({f"train-{lv}-{k:05d}": 1 / TRAIN / len(levels) for lv in levels for k in range(TRAIN)}, bundle=name)
    for env, changes in (environment or {}).items():
        builder.cell(env, builder.answers(accuracy, **changes), bundle=name)
    return name


def rows(builder, **settings):
    summary = judge(builder.finish(**settings))
    json.dumps(summary, allow_nan=False)
    return {row["regime"]: row for row in summary["regimes"]}, summary


def shifted(accuracy, by):
    return {level: value + by for level, value in accuracy.items()}


def test_gaps_of_known_accuracies(builder):
    for seed in range(3):
        member(builder, "easy-only", seed, ACCURACY, (1,))
    found, _ = rows(builder)
    row = found["easy-only"]
    assert row["g1_pp"]["estimate"] == pytest.approx(100 * (1 - 0.846))
    assert row["memorisation_pp"]["estimate"] == pytest.approx(2)
    assert row["shift_pp"]["estimate"] == pytest.approx(98 - 84.6)
    assert row["g2_pp"]["estimate"] == pytest.approx(38)
    assert row["g3_pp"] == {"estimate": 0, "low": 0, "high": 0}
    assert row["test_accuracy"]["all"]["estimate"] == pytest.approx(0.846)
    assert row["test_accuracy"]["5"]["estimate"] == pytest.approx(0.6)
    assert row["training_mix"] == pytest.approx({"1": 1, "2": 0, "3": 0, "4": 0, "5": 0})
    assert (row["seeds"], row["study_range_pp"]) == (3, [12, 22])


def test_the_two_parts_make_up_g1(builder):
    rng = np.random.default_rng(0)
    for seed in range(4):
        accuracy = {level: float(rng.uniform(0.3, 0.95)) for level in ACCURACY}
        member(builder, "random", seed, accuracy, (1, 2, 4), train_right=float(rng.uniform(0.5, 1)))
    row = rows(builder)[0]["random"]
    assert row["g1_pp"]["estimate"] == pytest.approx(row["memorisation_pp"]["estimate"] + row["shift_pp"]["estimate"])


def test_the_interval_covers_items_and_seeds(make_builder):
    def width(spread, per_level):
        builder = make_builder(per_level=per_level)
        for seed in range(3):
            member(builder, "random", seed, shifted(ACCURACY, spread * (seed - 1)), tuple(ACCURACY))
        e = rows(builder)[0]["random"]["g1_pp"]
        return e["high"] - e["low"]

    items_only, fewer_items, seeds_too = width(0, 600), width(0, 150), width(0.02, 600)
    # Items alone: binomial variances of five levels of 600, whose mean is taken.
    expected = 100 * 2 * 1.96 * np.sqrt(sum(p * (1 - p) for p in ACCURACY.values()) / 599) / 5
    assert items_only == pytest.approx(expected, rel=0.01)
    assert fewer_items == pytest.approx(2 * items_only, rel=0.02)
    assert seeds_too > 2 * items_only


def test_the_best_regime_is_picked_per_level(builder):
    for seed in range(2):
        member(builder, "random", seed, ACCURACY, tuple(ACCURACY))
        member(builder, "hard-only", seed, HARD, (5,))
    found, _ = rows(builder)
    assert found["random"]["g3_best"] == ["random", "random", "random", "hard-only", "hard-only"]
    assert found["random"]["g3_pp"]["estimate"] == pytest.approx(100 * (0.02 + 0.2) / 5)
    assert found["hard-only"]["g3_pp"]["estimate"] == pytest.approx(100 * (0.28 + 0.2 + 0.1) / 5)
    assert found["random"]["g3_pp"]["low"] < found["random"]["g3_pp"]["estimate"]
    assert "flatters" in found["random"]["note"]


def test_an_environment_adds_the_mean_drop_with_the_training_term_held(builder):
    builder.environment("int8", "lossy")
    for seed in range(3):
        member(builder, "random", seed, ACCURACY, (1,), environment={"int8": {"lost": {1: 6, 5: 30 + 6 * seed}}})
    row = rows(builder)[0]["random"]
    found = row["environments"]["int8"]
    assert found["seeds"] == 3
    assert found["g1_shift_pp"]["estimate"] == pytest.approx((1 + 6) / 5)
    assert found["tilt_pp"]["estimate"] == pytest.approx(5)
    assert found["ability_shift"]["high"] < 0
    unchanged = row["environments"]["training"]["g1_shift_pp"]
    assert unchanged["estimate"] == 0
    # No disagreement was seen; that is not taken for certainty.
    assert unchanged["high"] == pytest.approx(100 * 1.96**2 / (600 + 1.96**2) / np.sqrt(5), rel=0.01)


def test_an_environment_that_a_seed_lacks_is_null(builder):
    builder.environment("int8", "lossy")
    member(builder, "random", 0, ACCURACY, (1,), environment={"int8": {}})
    member(builder, "random", 1, ACCURACY, (1,))
    found = rows(builder)[0]["random"]["environments"]["int8"]
    assert found == {"seeds": 1, "g1_shift_pp": None, "tilt_pp": None, "ability_shift": None}


def test_the_tilt_is_null_where_an_end_is_at_the_floor(builder):
    builder.environment("int8", "lossy")
    member(builder, "easy-only", 0, ACCURACY | {5: 0.1}, (1,), environment={"int8": {"lost": {1: 6}}})
    found = rows(builder)[0]["easy-only"]["environments"]["int8"]
    assert found["tilt_pp"] is None
    assert found["g1_shift_pp"]["estimate"] == pytest.approx(0.2)


def test_few_seeds_support_nothing(builder):
    for seed in range(4):
        member(builder, "random", seed, shifted(ACCURACY, 0.001 * seed), (1,))
        member(builder, "hard-only", seed, HARD, (5,))
    found, summary = rows(builder)
    assert "fewer than five seeds: nothing is called supported" in found["random"]["note"]
    (contrast,) = summary["contrasts"]
    assert (contrast["seeds"], contrast["supported"]) == (4, None)


def test_contrasts_are_paired_by_seed(builder):
    for seed in range(5):
        member(builder, "random", seed, shifted(ACCURACY, 0.01 * seed - 0.02), (1,))
        member(builder, "hard-only", seed + 1, shifted(HARD, 0.01 * seed), (5,))
    member(builder, "hard-only", 0, shifted(HARD, -0.01), (5,))
    found, summary = rows(builder)
    (contrast,) = summary["contrasts"]
    assert contrast["regimes"] == ["random", "hard-only"]
    assert (contrast["seeds"], contrast["supported"]) == (5, True)
    # Both gaps fall by 1 pp a seed: paired, their difference hardly varies.
    assert contrast["difference_pp"]["high"] - contrast["difference_pp"]["low"] < 0.5
    assert "fewer than five" not in found["random"]["note"]


def test_one_seed_says_that_its_interval_covers_items_alone(builder):
    member(builder, "curriculum", 0, ACCURACY, (1,))
    row = rows(builder)[0]["curriculum"]
    assert row["g1_pp"]["low"] < row["g1_pp"]["estimate"]
    assert "one seed: the intervals cover the items alone" in row["note"]


@pytest.mark.parametrize(
    ("weights", "why"),
    [
        (None, "m.mix.parquet is missing"),
        ({"item-1-00000": 1.0}, "draws items that are no rated training items"),
        ({"stranger": 1.0}, "draws items that are no rated training items"),
        ({"train-1-00000": 0.0}, "holds no usable weights"),
        ({"train-1-00000": float("nan")}, "holds no usable weights"),
        ({}, "holds no usable weights"),
    ],
)
def test_an_unknown_training_side_makes_the_gap_null_and_says_why(builder, weights, why):
    name = member(builder, "random", 0, ACCURACY, (1,))
    path = builder.workspace.bundles / f"{name}.mix.parquet"
    path.unlink()
    if weights is not None:
        builder.mix(weights, bundle=name)
    row = rows(builder)[0]["random"]
    assert row["g1_pp"] is row["memorisation_pp"] is row["shift_pp"] is None
    assert row["g2_pp"]["estimate"] == pytest.approx(38)
    assert why.replace("m.mix", f"{name}.mix") in row["note"]


def test_training_items_without_an_answer_make_the_gap_null(builder):
    name = member(builder, "random", 0, ACCURACY, (1,))
    builder.training(builder.answers(), bundle=name)
    row = rows(builder)[0]["random"]
    assert row["g1_pp"] is None
    assert f"100 training items of {name} have no training-side answer" in row["note"]


def test_a_mix_without_its_columns_is_said(builder):
    name = member(builder, "random", 0, ACCURACY, (1,))
    pq.write_table(pa.table({"x": [1]}), builder.workspace.bundles / f"{name}.mix.parquet")
    row = rows(builder)[0]["random"]
    assert row["g1_pp"] is None
    assert ".mix.parquet cannot be read" in row["note"]


def test_a_regime_without_its_reference_is_null_and_says_why(builder):
    name = builder.bundle("random-0", regime="random", seed=0)
    row = rows(builder)[0]["random"]
    assert row["g1_pp"] is row["g2_pp"] is row["test_accuracy"]["all"] is None
    assert "the reference did not run" in row["note"]
    assert name == "random-0"


def test_without_training_side_answers_the_gap_is_null(builder):
    name = member(builder, "random", 0, ACCURACY, (1,))
    builder.forget_training()
    row = rows(builder)[0]["random"]
    assert row["g1_pp"] is None
    assert f"the training-side answers of {name}: did not run" in row["note"]


def test_training_side_answers_of_another_model_give_no_gap(builder):
    name = member(builder, "random", 0, ACCURACY, (1,))
    builder.forget_training()
    builder.training(builder.answers(prefix="train"), bundle=name, key="of another model")
    row = rows(builder)[0]["random"]
    assert row["g1_pp"] is None
    assert f"the training-side answers of {name}: its records were made for another model" in row["note"]


def test_a_broken_item_leaves_the_regimes_standing(builder, edit):
    """Rating skips what it cannot read: the item has no level, and every bundle lacks its answer."""
    name = builder.bundle("random-0", regime="random", seed=0, family="cnn")
    records = builder.answers()
    strangers = np.array(["broken", *records.item_id[1:].tolist()])
    builder.cell("reference", edit(edit(records, status="unreadable", where=[0]), item_id=strangers), bundle=name)
    row = rows(builder)[0]["random"]
    assert row["test_accuracy"]["all"]["estimate"] == pytest.approx(0.846, abs=0.001)


def test_seeds_that_change_nothing_have_no_ability_shift(builder):
    builder.environment("off")
    member(builder, "random", 0, ACCURACY, (1,), environment={"off": {}})
    found = rows(builder)[0]["random"]["environments"]["off"]
    assert found["ability_shift"] is None
    assert found["g1_shift_pp"]["low"] < 0 < found["g1_shift_pp"]["high"]


def test_items_without_parameters_have_no_ability_shift(builder):
    builder.parameters = False
    builder.environment("int8", "lossy")
    member(builder, "random", 0, ACCURACY, (1,), environment={"int8": {"lost": {5: 30}}})
    found = rows(builder)[0]["random"]["environments"]["int8"]
    assert found["ability_shift"] is None
    assert found["g1_shift_pp"]["estimate"] == pytest.approx(1)
