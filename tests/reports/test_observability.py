"""How many requests until monitoring notices a drop: closed forms, their confirmation, and what has no answer."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binomtest, chisquare, norm

from gapshift.reports.load import Pairs
from gapshift.reports.observability import LIMIT, Question, about, observe
from gapshift.reports.statistics import monitoring
from gapshift.reports.streams import stream_of
from gapshift.schema import LOGGING_POLICIES, LoggingPolicy

N = 600
"""Items a level; accuracies are those of the builder: 98, 95, 90, 80 and 60%."""
OVERALL = 0.846


def _pairs(
    lost=60, gained=0, per_level=N, confidence_after=0.3, prediction_after=0, accuracy=(0.98, 0.95, 0.9, 0.8, 0.6)
):
    """Five levels of ten classes; at level 5 so many right items are lost to one class at a low confidence."""
    level = np.repeat(np.arange(1, 6), per_level)
    label = (np.arange(len(level)) % 10).astype(np.int32)
    right = np.concatenate([np.arange(per_level) < round(share * per_level) for share in accuracy])
    before = np.where(right, label, (label + 1) % 10).astype(np.int32)
    confidence = np.tile(np.linspace(0.99, 0.5, per_level), 5)
    hard = np.flatnonzero((level == 5) & right & (label != prediction_after))[:lost]
    wrong = np.flatnonzero((level == 5) & ~right)[:gained]
    after, confidence_then = before.copy(), confidence.copy()
    after[hard], confidence_then[hard] = prediction_after, confidence_after
    after[wrong] = label[wrong]
    nan = np.full(len(level), np.nan)
    return Pairs(
        position=np.arange(len(level)), level=level, label=label, reference_prediction=before, prediction=after,
        right=right, still_right=after == label, changed=before != after, tie=np.zeros(len(level), dtype=bool),
        reference_confidence=confidence, confidence=confidence_then, chance=nan, reference_score=nan, score=nan,
        **_later(len(level)),
    )  # fmt: skip


def _later(n):
    """Columns that pairs have beside those that observability reads."""
    known = {
        "position", "level", "label", "reference_prediction", "prediction", "right", "still_right", "changed", "tie",
        "reference_confidence", "confidence", "chance", "reference_score", "score",
    }  # fmt: skip
    return {name: np.zeros(n, dtype=bool) for name in Pairs.__dataclass_fields__ if name not in known}


def _lines(pairs, output_kind="logits", **asked):
    """Lines by policy for one drop at one level."""
    question = Question(**({"levels": ("5",)} | asked))
    return {line.policy: line for line in observe(pairs, output_kind, question)}


# -------------------------------------------------------------------------- closed forms


def test_labels_are_counted_by_the_binomial_closed_form() -> None:
    line = _lines(_pairs())["top-1-with-labels"]
    assert line.at_level.logged == np.ceil(monitoring.requests_by_labels(0.6, 0.55))
    assert line.at_level.requests == 5 * line.at_level.logged  # every fifth request is of level 5
    assert (
        line.overall.requests == line.overall.logged == np.ceil(monitoring.requests_by_labels(OVERALL, OVERALL - 0.01))
    )
    assert line.overall.requests > 2 * line.at_level.requests


def test_the_binomial_closed_form_is_that_of_the_book() -> None:
    z = norm.isf(0.05) * np.sqrt(0.6 * 0.4) + norm.isf(0.2) * np.sqrt(0.55 * 0.45)
    plain = (z / 0.05) ** 2
    assert monitoring.requests_by_labels(0.6, 0.55) == pytest.approx(
        plain / 4 * (1 + np.sqrt(1 + 2 / (plain * 0.05))) ** 2
    )


def test_sampling_divides_and_late_labels_add() -> None:
    lines = _lines(_pairs())
    base = lines["full-with-labels"].overall
    assert lines["top-1-with-labels"].overall == base
    assert lines["sampled-1%"].overall.requests == pytest.approx(100 * base.logged, abs=1)
    assert lines["late-labels"].overall.requests == base.requests + 10_000


def test_without_labels_what_is_logged_decides() -> None:
    lines = _lines(_pairs())
    mean0, sd0, mean1, sd1 = _moved(_pairs(), 0.5)
    whole = lines["no-labels-confidence"].overall
    assert whole.logged == np.ceil(monitoring.requests_by_mean(mean0, sd0, mean1, sd1))
    assert lines["no-labels-top-1"].overall.logged == np.ceil(_chi_square(_pairs(), 0.5))
    assert lines["no-labels-rounded"].overall.logged != whole.logged


def _moved(pairs, share):
    """Mean and sd of the confidence before, and with that share of the changed items as in the environment."""
    old, new = pairs.reference_confidence, pairs.confidence
    weights = np.where(pairs.changed, share, 0.0)
    mean = (old * (1 - weights) + new * weights).mean()
    square = (old**2 * (1 - weights) + new**2 * weights).mean()
    return old.mean(), old.std(), mean, np.sqrt(square - mean**2)


def _chi_square(pairs, share):
    p0 = np.bincount(pairs.reference_prediction, minlength=10) / len(pairs)
    p1 = p0 + share * (np.bincount(pairs.prediction, minlength=10) / len(pairs) - p0)
    return monitoring.noncentrality(9) / ((p1 - p0) ** 2 / p0).sum()


@settings(max_examples=40, deadline=None)
@given(small=st.floats(1, 20), larger=st.floats(1, 20), power=st.floats(0.6, 0.95))
def test_with_labels_a_larger_drop_is_noticed_no_later(small: float, larger: float, power: float) -> None:
    small, larger = sorted((small, larger))
    first, second = (
        _lines(_pairs(per_level=40, lost=4), drops_pp=(drop,), power=power)["top-1-with-labels"].at_level.logged
        for drop in (small, larger)
    )
    assert second <= first


# --------------------------------------------------------------------------- the streams


@settings(max_examples=60, deadline=None)
@given(
    lost=st.integers(0, 20),
    gained=st.integers(0, 12),
    drop=st.floats(0.001, 0.55),
    at=st.sampled_from(["all", "1", "4", "5"]),
)
def test_a_stream_drops_by_exactly_so_much_and_only_there(lost: int, gained: int, drop: float, at: str) -> None:
    stream = stream_of(_pairs(lost=lost, gained=gained, per_level=40), at, drop)
    assert stream.before.sum() == pytest.approx(1)
    assert stream.after.sum() == pytest.approx(1)
    assert stream.after.min() >= -1e-15
    for level in range(1, 6):
        here = stream.level == level
        fell = (stream.before - stream.after)[here & stream.right].sum() / stream.before[here].sum()
        if at != "all":
            assert fell == pytest.approx(drop if str(level) == at else 0, abs=1e-12)
        assert stream.after[here].sum() == pytest.approx(0.2) or at == "all"
    if at == "all":
        assert (stream.before - stream.after)[stream.right].sum() == pytest.approx(drop)


@pytest.mark.parametrize(
    ("lost", "gained", "shape"),
    [(60, 10, "scaled"), (40, 20, "lost items"), (10, 0, "extrapolated"), (0, 5, "unknown")],
)
def test_a_drop_takes_the_shape_that_the_records_can_hold(lost: int, gained: int, shape: str) -> None:
    assert stream_of(_pairs(lost=lost, gained=gained), "5", 0.05).shape == shape


def test_an_extrapolated_drop_keeps_the_classes_of_what_is_lost() -> None:
    pairs = _pairs(lost=0)
    one = int(np.flatnonzero((pairs.level == 5) & pairs.right & (pairs.label == 3))[0])
    prediction = pairs.prediction.copy()
    prediction[one] = 7
    pairs = replace(
        pairs,
        prediction=prediction,
        still_right=prediction == pairs.label,
        changed=prediction != pairs.reference_prediction,
    )
    stream = stream_of(pairs, "5", 0.02)
    moved = np.bincount(stream.prediction, weights=stream.after - stream.before, minlength=10)
    assert moved == pytest.approx([0, 0, 0, -0.004, 0, 0, 0, 0.004, 0, 0])


# -------------------------------------------------------------------- no number, and why


def test_predictions_that_shift_no_frequency_are_never_noticed() -> None:
    pairs = _pairs(lost=0)
    hard = np.flatnonzero((pairs.level == 5) & pairs.right)[:100]  # ten of each class, each to the next but one
    prediction = pairs.prediction.copy()
    prediction[hard] = (pairs.label[hard] + 2) % 10
    pairs = replace(
        pairs,
        prediction=prediction,
        still_right=prediction == pairs.label,
        changed=prediction != pairs.reference_prediction,
    )
    lines = _lines(pairs)
    for policy in ("no-labels-top-1", "no-labels-confidence", "no-labels-rounded"):
        seen = lines[policy].overall
        assert (seen.outcome, seen.requests, seen.logged) == ("never", None, None)
        assert seen.reason == "what is logged has the same distribution with the drop as without"
    assert lines["top-1-with-labels"].overall.outcome == "noticed"


def test_where_nothing_is_lost_only_labels_have_an_answer() -> None:
    lines = _lines(_pairs(lost=0))
    assert lines["top-1-with-labels"].at_level.logged == np.ceil(monitoring.requests_by_labels(0.6, 0.55))
    for policy in ("no-labels-top-1", "no-labels-confidence"):
        assert lines[policy].overall.outcome == "undefined"
        assert "nothing goes from right to wrong there" in lines[policy].overall.reason


def test_a_level_cannot_lose_more_than_it_has() -> None:
    seen = _lines(_pairs(), drops_pp=(61.0,))["top-1-with-labels"].overall
    assert (seen.outcome, seen.reason) == (
        "undefined",
        "the reference is right on 60.0% of level 5, which cannot lose 61 pp",
    )


def test_a_level_without_items_has_no_answer() -> None:
    pairs = _pairs()
    seen = _lines(pairs.at(pairs.level < 5))["top-1-with-labels"].at_level
    assert (seen.outcome, seen.reason) == ("undefined", "no items at level 5")


def test_more_than_a_thousand_million_requests_is_never() -> None:
    slow = LoggingPolicy(name="slow", labels=True, sample_rate=1e-6)
    seen = _lines(_pairs(), policies=(slow,))["slow"].overall
    assert (seen.outcome, seen.requests, seen.reason) == ("never", None, f"it would take more than {LIMIT:,} requests")


@pytest.mark.parametrize(
    ("kind", "words"), [("spans", "a passage of its own text"), ("actions", "its outcome, which only a label tells")]
)
def test_spans_and_episodes_have_no_distribution_of_classes(kind: str, words: str) -> None:
    lines = _lines(_pairs(), kind)
    assert lines["no-labels-top-1"].overall.outcome == "undefined"
    assert words in lines["no-labels-top-1"].overall.reason
    assert lines["top-1-with-labels"].overall.outcome == "noticed"


def test_without_any_confidence_there_is_nothing_to_see() -> None:
    pairs = _pairs()
    lines = _lines(replace(pairs, confidence=np.full(len(pairs), np.nan)))
    assert {lines[name].overall.reason for name in ("no-labels-confidence", "no-labels-rounded")} == {
        "no answer carries a confidence"
    }
    assert lines["no-labels-top-1"].overall.outcome == "noticed"


def test_answers_without_a_confidence_are_left_out_of_its_mean() -> None:
    pairs = _pairs()
    half = np.arange(len(pairs)) % 2 == 0
    gone = replace(
        pairs,
        confidence=np.where(half, pairs.confidence, np.nan),
        reference_confidence=np.where(half, pairs.reference_confidence, np.nan),
    )
    seen = _lines(gone)["no-labels-confidence"].overall
    assert seen.requests == pytest.approx(2 * seen.logged, rel=0.01)


def test_an_answer_that_the_reference_never_gives_is_noticed_when_first_seen() -> None:
    seen = _lines(_pairs(prediction_after=-1))["no-labels-top-1"]
    assert seen.at_level.logged == np.ceil(monitoring.requests_until_first(0.05))


def test_a_shift_that_the_records_cannot_tell_from_noise_is_marked() -> None:
    few = _lines(_pairs(lost=2, confidence_after=0.9))
    assert not few["no-labels-top-1"].overall.beyond_noise
    assert _lines(_pairs())["no-labels-top-1"].overall.beyond_noise
    assert few["top-1-with-labels"].overall.beyond_noise  # the drop is given


# ----------------------------------------------------------------- confirmed by simulation

REPEATS = 2000
"""Monte Carlo standard error of a power of 0.8: 0.9 points."""


@pytest.mark.parametrize("policy", LOGGING_POLICIES)
def test_each_policy_notices_as_often_as_promised(policy: str) -> None:
    asked = {"policies": (LOGGING_POLICIES[policy],), "repeats": REPEATS, "seed": 3}
    line = _lines(_pairs(per_level=300), **asked)[policy]
    for seen in (line.overall, line.at_level):
        assert abs(seen.check.power - 0.8) < (0.06 if policy == "no-labels-top-1" else 0.04), seen
        assert seen.check.false_alarms < 0.065, seen
        assert seen.check.power_error == pytest.approx(0.009, abs=0.001)


def test_a_simulation_is_the_same_for_the_same_seed() -> None:
    asked = {"policies": (LOGGING_POLICIES["no-labels-top-1"],), "repeats": 200}
    first, second, other = (_lines(_pairs(), seed=seed, **asked)["no-labels-top-1"] for seed in (1, 1, 2))
    assert first == second
    assert first != other


def test_a_closed_form_that_is_off_is_said_with_the_number_that_holds() -> None:
    pairs = _pairs(accuracy=(599 / 600, 0.95, 0.9, 0.8, 0.6))
    asked = {"policies": (LOGGING_POLICIES["top-1-with-labels"],), "levels": ("1",), "repeats": 1000}
    seen = _lines(pairs, **asked)["top-1-with-labels"].at_level
    assert not seen.check.agrees
    rng = np.random.default_rng(0)

    def power(requests: int) -> float:
        logged = rng.binomial(requests, 0.2, size=1500)
        right = rng.binomial(logged, 599 / 600 - 0.05)
        p = [binomtest(k, n, 599 / 600, "less").pvalue for k, n in zip(right.tolist(), logged.tolist(), strict=True)]
        return float(np.mean(np.array(p) <= 0.05))

    assert power(seen.requests) == pytest.approx(seen.check.power, abs=0.05)
    assert power(seen.check.requests) == pytest.approx(0.8, abs=0.05)


def test_drawing_the_records_by_hand_notices_as_often() -> None:
    """Streams drawn item by item, half of the level's requests answered as in the environment; scipy's own tests."""
    pairs = _pairs()
    lines = _lines(pairs, repeats=1000)
    rng = np.random.default_rng(5)
    labels, classes = lines["top-1-with-labels"].at_level.logged, lines["no-labels-top-1"].at_level.logged
    hard = np.flatnonzero(pairs.level == 5)
    p0 = np.bincount(pairs.reference_prediction[hard], minlength=10) / len(hard)
    noticed = []
    for _ in range(400):
        items, more = rng.choice(hard, labels), rng.choice(hard, classes)
        right = np.where(rng.random(labels) < 0.5, pairs.still_right[items], pairs.right[items])
        answers = np.where(rng.random(classes) < 0.5, pairs.prediction[more], pairs.reference_prediction[more])
        by_labels = binomtest(int(right.sum()), labels, 0.6, "less").pvalue <= 0.05
        by_classes = chisquare(np.bincount(answers, minlength=10), p0 * classes).pvalue < 0.05
        noticed.append((by_labels, by_classes))
    said = [lines[name].at_level.check.power for name in ("top-1-with-labels", "no-labels-top-1")]
    assert np.mean(noticed, axis=0) == pytest.approx(said, abs=0.06)


@pytest.mark.parametrize(("requests", "text"), [(7, "7"), (99, "99"), (995, "1,000"), (2917, "2,900")])
def test_numbers_are_rounded_to_two_digits(requests: int, text: str) -> None:
    assert about(requests) == text
