"""Properties between a run's cells: what is violated, what holds, what cannot be judged, and the words for it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from gapshift.records import Records
from gapshift.reports.properties import (
    Finding,
    changes_precision_alone,
    confidence_orders,
    corruption_harm,
    corruption_of,
)
from gapshift.schema import Environment

INT8 = {"precision.format": "int8-dynamic"}


def _environment(**deviations: Any) -> Environment:
    keys = {key.replace("_", ".", 1): value for key, value in deviations.items()}
    return Environment(name="e", kind="lossy", summary="As declared.", deviations=keys)


@pytest.mark.parametrize(
    ("environment", "alone"),
    [
        (_environment(precision_format="int8-qdq"), True),
        (_environment(precision_format="int8-qdq", runtime_engine="openvino"), True),
        (_environment(precision_format="int8-qdq", preprocessing_scale=1.0), False),
        (_environment(runtime_engine="openvino"), False),
    ],
)
def test_what_changes_the_number_format_alone(environment: Environment, alone: bool) -> None:
    assert changes_precision_alone(environment) == alone


def test_what_is_a_corruption_and_nothing_else() -> None:
    found = corruption_of(_environment(shift_corruption="fog", shift_severity=5))
    assert found is not None
    assert (found.corruption, found.severity) == ("fog", 5)
    assert corruption_of(_environment(shift_corruption="fog", precision_format="int8-dynamic")) is None
    assert corruption_of(_environment(precision_format="int8-dynamic")) is None


# ------------------------------------------------------------------ order of confidences


def _converted(builder: Any, confidence: Any, name: str = "int8", named: bool = True, **cell: Any) -> Finding:
    """The finding on a conversion that answers the reference's items with these confidences."""
    reference = builder.answers()
    builder.environment(name, "lossy", deviations=INT8)
    builder.cell("reference", reference)
    if confidence is not None:
        builder.cell(name, replace(reference, confidence=np.asarray(confidence, dtype=np.float64)), **cell)
    (found,) = confidence_orders(builder.finish(deployments=(name,) if named else ()))
    return found


def test_a_conversion_that_keeps_the_order_holds(builder: Any) -> None:
    found = _converted(builder, builder.answers().confidence ** 2)
    assert (found.bundle, found.subject, found.outcome, found.gated) == ("m", "int8", "holds", True)
    assert found.numbers["swapped"] == 0
    assert found.numbers["items"] == 3000
    assert found.reason.startswith("0.00% of ")


def test_a_conversion_that_shuffles_is_violated_and_the_clearest_pair_is_named(builder: Any) -> None:
    confidence = np.random.default_rng(0).uniform(0.3, 1, 3000)
    found = _converted(builder, confidence)
    assert found.outcome == "violated"
    assert found.numbers["swapped"] == pytest.approx(0.5, abs=0.02)
    assert "whose confidences differ by more than 0.1 in the reference come in the other order" in found.reason
    assert "up to 2% may" in found.reason
    assert "the clearest: 'item-" in found.reason


def test_a_conversion_that_is_equally_sure_of_everything_is_violated(builder: Any) -> None:
    found = _converted(builder, np.full(3000, 0.8))
    assert (found.outcome, found.numbers["swapped"]) == ("violated", 0.5)


def test_turns_below_the_distance_are_rounding(builder: Any) -> None:
    builder.per_level = dict.fromkeys(builder.per_level, 300)
    confidence = builder.answers().confidence
    assert _converted(builder, confidence + np.random.default_rng(0).uniform(-0.04, 0.04, 1500)).outcome == "holds"


def test_a_share_above_the_limit_that_chance_explains_holds(make_builder: Any) -> None:
    """The least sure of 100 items is the surest: 2.4% of the clear pairs, and one item."""
    builder = make_builder(per_level=100)
    builder.per_level = dict.fromkeys(builder.per_level, 0) | {3: 100}
    confidence = builder.answers().confidence
    confidence[confidence.argmin()] = 1.0
    found = _converted(builder, confidence)
    assert found.numbers["swapped"] > 0.02 > found.numbers["swapped_low"]
    assert found.outcome == "holds"


def test_what_nobody_deploys_is_not_gated(builder: Any) -> None:
    assert not _converted(builder, np.full(3000, 0.8), named=False).gated


@pytest.mark.parametrize(
    ("confidence", "cell", "reason"),
    [
        (None, {}, "its cell did not run"),
        (np.full(3000, 0.8), {"status": "error", "reason": "it fell over"}, "error: it fell over"),
        (np.full(3000, np.nan), {}, "no item has a confidence in both cells (logits)"),
    ],
)
def test_what_was_not_answered_is_unjudged(builder: Any, confidence: Any, cell: dict[str, str], reason: str) -> None:
    found = _converted(builder, confidence, **cell)
    assert (found.outcome, found.reason) == ("unjudged", reason)


def test_confidences_that_are_all_alike_are_unjudged(builder: Any) -> None:
    reference = replace(builder.answers(), confidence=np.full(3000, 0.99))
    builder.environment("int8", "lossy", deviations=INT8)
    builder.cell("reference", reference)
    builder.cell("int8", reference)
    (found,) = confidence_orders(builder.finish())
    assert found.outcome == "unjudged"
    assert found.reason == "no two of 3000 items have reference confidences more than 0.1 apart"


def test_cells_that_were_read_until_they_were_decided_are_no_sample(builder: Any) -> None:
    builder.environment("int8", "lossy", deviations=INT8)
    builder.cell("reference", builder.answers())
    builder.cell("int8", builder.answers().take(np.arange(100)))
    (found,) = confidence_orders(builder.finish(sequential=True))
    assert (found.outcome, found.reason[:40]) == ("unjudged", "it was read until the gate was decided: ")


def test_of_very_many_items_some_are_taken(make_builder: Any) -> None:
    builder = make_builder(per_level=1200)
    found = _converted(builder, builder.answers().confidence)
    assert found.numbers["items"] == 5000


# -------------------------------------------------------------------------- monotone harm


def _corrupted(builder: Any, gained: dict[int, int | None], lost: int = 20, family: str = "fog") -> None:
    """Severities with so many items of level 5 gained against the reference, and some lost; None did not run."""
    for severity, count in gained.items():
        name = f"{family}-{severity}"
        builder.environment(name, "stress", deviations={"shift.corruption": family, "shift.severity": severity})
        if count is not None:
            builder.cell(name, builder.answers(lost={5: lost}, gained={5: count}))


def _harm(builder: Any) -> tuple[Finding, ...]:
    builder.cell("reference", builder.answers())
    return corruption_harm(builder.finish())


def test_harm_that_grows_holds(builder: Any) -> None:
    _corrupted(builder, {1: 20, 3: 10, 5: 0})
    (found,) = _harm(builder)
    assert (found.bundle, found.subject, found.outcome) == ("m", "fog", "holds")
    assert found.numbers["steps"] == 3
    assert "from the reference to severity 1 accuracy changes by +0.00 pp on 3000 items" in found.reason
    assert "from severity 3 to severity 5 accuracy changes by -0.33 pp" in found.reason


def test_a_rise_from_one_severity_to_the_next_is_violated(builder: Any) -> None:
    _corrupted(builder, {1: 0, 3: 0, 5: 40})
    (found,) = _harm(builder)
    assert found.outcome == "violated"
    assert found.reason.startswith("from severity 3 to severity 5 accuracy changes by +1.33 pp on 3000 items")
    # Mid-p of 0 against 40, one-sided, times three steps.
    assert found.numbers["p_rise"] == pytest.approx(3 * 0.5**40 / 2)


def test_a_rise_above_the_reference_is_violated_too(builder: Any) -> None:
    _corrupted(builder, {3: 60}, lost=10)
    (found,) = _harm(builder)
    assert found.outcome == "violated"
    assert found.reason.startswith("from the reference to severity 3")


def test_every_planned_step_of_the_run_counts_for_holm(builder: Any) -> None:
    """5 gained and none lost: p is 0.016 alone, and no finding among four planned steps, whether they ran or not."""
    _corrupted(builder, {3: 5}, lost=0)
    (alone,) = _harm(builder)
    assert alone.outcome == "violated"
    builder.environments.clear()
    builder._cells.clear()
    _corrupted(builder, {3: 5}, lost=0)
    _corrupted(builder, {1: None, 3: None, 5: None}, family="frost")
    fog, frost = _harm(builder)
    assert fog.outcome == "holds"
    assert frost.outcome == "unjudged"
    assert frost.reason.startswith("no severity was answered; left out: severity 1 (frost-1): its cell did not run")


def test_a_severity_that_failed_is_left_out_by_name(builder: Any) -> None:
    _corrupted(builder, {1: 20, 5: 0})
    builder.environment("fog-3", "stress", deviations={"shift.corruption": "fog", "shift.severity": 3})
    builder.cell("fog-3", None, status="error", reason="no memory")
    (found,) = _harm(builder)
    assert found.outcome == "holds"
    assert "from severity 1 to severity 5" in found.reason
    assert found.reason.endswith("left out: severity 3 (fog-3): error: no memory")


def test_severities_are_compared_on_the_items_that_both_have(builder: Any) -> None:
    _corrupted(builder, {1: 0})
    deviations = {"shift.corruption": "fog", "shift.severity": 3}
    builder.environment("fog-3", "stress", deviations=deviations, subsample=True)
    rows = np.arange(2999, 0, -3)  # every third item, the last ones first
    builder.cell("fog-3", builder.answers(lost={5: 20}).take(rows))
    (found,) = _harm(builder)
    assert f"from severity 1 to severity 3 accuracy changes by +0.00 pp on {len(rows)} items" in found.reason
    assert found.outcome == "holds"


def test_too_few_items_can_show_nothing(make_builder: Any) -> None:
    builder = make_builder(per_level=0)
    builder.per_level = dict.fromkeys(builder.per_level, 0) | {5: 4}
    _corrupted(builder, dict.fromkeys((1, 3, 5), 0), lost=0)
    (found,) = _harm(builder)
    assert (found.outcome, found.reason) == ("unjudged", "4 items are too few to show any rise")


def test_other_shifts_are_no_severities_of_it(builder: Any) -> None:
    builder.environment("plain", "lossy", deviations=INT8)
    assert _harm(builder) == ()


def test_under_equality_a_rise_is_called_as_seldom_as_promised(make_builder: Any) -> None:
    """Two severities at 10% exchangeable changes each, 60 runs: at most 5% and three Monte Carlo errors (2.8%)."""
    rng, called = np.random.default_rng(1), 0
    for _ in range(60):
        called += _rises_by_chance(make_builder(per_level=30), rng)
    assert called / 60 <= 0.05 + 3 * 0.028


def _rises_by_chance(builder: Any, rng: np.random.Generator) -> bool:
    def redrawn(records: Records) -> Records:
        right = rng.random(len(records)) < 0.85
        label = np.where(right, records.label, (records.label + 1) % 10).astype(np.int32)
        return replace(records, prediction=label, correct=right.astype(np.float64))

    builder.cell("reference", redrawn(builder.answers()))
    for severity in (1, 2):
        name = builder.environment(
            f"fog-{severity}", "stress", deviations={"shift.corruption": "fog", "shift.severity": severity}
        )
        builder.cell(name, redrawn(builder.answers()))
    (found,) = corruption_harm(builder.finish())
    return found.outcome == "violated"
