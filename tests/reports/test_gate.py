"""Verdicts of bands, cells and runs."""

import numpy as np
import pytest

from gapshift.reports.counts import Counts
from gapshift.reports.floor import at_floor, safe_by_churn
from gapshift.reports.gate import BandVerdict, Rule, exit_code, fail_p, holm_adjusted, judge_band, judge_cell
from gapshift.reports.order import worst

RULE = Rule(margin=0.02, alpha=0.05)


def counts(n=600, right=500, lost=0, gained=0, changed=None, ties=0, by_chance=60):
    changed = lost + gained if changed is None else changed
    return Counts(n, right, right - lost + gained, lost, gained, changed, ties, by_chance)


def verdict(found, equivalent=False, p=1.0, family=5):
    return judge_band(found, equivalent, p, RULE, family)


@pytest.mark.parametrize(
    ("word", "code"),
    [("PASS", 0), ("FAIL", 1), ("INCONCLUSIVE", 3), ("ERROR", 4), ("NO DATA", 4), ("pass", 4), ("", 4)],
)
def test_exit_codes_and_an_unknown_word_is_no_pass(word, code):
    assert exit_code(word) == code


def test_the_worst_verdict_decides():
    words = ["PASS", "NO DATA", "INCONCLUSIVE", "ERROR", "FAIL"]
    assert [worst(words[: k + 1]) for k in range(5)] == words
    assert worst([]) == "NO DATA"
    assert worst(["PASS", "fine"]) == "ERROR"


def test_no_disagreement_passes_from_189_items_on_for_a_margin_of_2_pp():
    assert verdict(counts(189, 170)).verdict == "PASS"
    few = verdict(counts(188, 170))
    assert (few.verdict, few.items_needed) == ("INCONCLUSIVE", 189)
    assert "about 189 such items would decide (188 here)" in few.reason


def test_few_items_are_no_drop_close_to_the_margin():
    few = judge_band(counts(n=6, right=6, by_chance=1), False, 1.0, RULE, 5)
    assert few.reason.endswith("about 189 such items would decide (6 here)")
    close = judge_band(counts(lost=12, gained=1), False, 1.0, RULE, 5)
    assert "so close to the margin" in close.reason


def test_a_drop_beyond_the_margin_fails_only_by_the_adjusted_p():
    found = counts(lost=60)
    assert fail_p(found, RULE) < 1e-6
    assert verdict(found, p=0.049).verdict == "FAIL"
    kept = verdict(found, p=0.05)
    assert kept.verdict == "INCONCLUSIVE"
    assert kept.items_needed is not None


def test_a_drop_on_the_margin_itself_is_decided_by_no_number_of_items():
    found = verdict(counts(lost=12))
    assert (found.verdict, found.items_needed) == ("INCONCLUSIVE", None)
    assert "no number of items decides" in found.reason


def test_an_equivalent_environment_fails_by_one_change_outside_ties():
    assert verdict(counts(changed=1), equivalent=True).verdict == "FAIL"
    assert verdict(counts(changed=1), equivalent=False).verdict == "PASS"
    assert verdict(counts(changed=2, ties=2), equivalent=True).verdict == "PASS"


def test_an_equivalent_environment_fails_by_a_drop_at_ties_too():
    assert verdict(counts(lost=60, ties=60), equivalent=True, p=0.001).verdict == "FAIL"


def test_no_items_is_no_data():
    assert verdict(counts(0, 0, by_chance=0)).verdict == "NO DATA"
    assert fail_p(counts(0, 0, by_chance=0), RULE) is None


@pytest.mark.parametrize(("right", "floored"), [(60, True), (80, True), (120, False)])
def test_floor_is_a_reference_near_the_majority_share(right, floored):
    assert at_floor(counts(right=right), RULE.margin) is floored


def test_a_floored_level_fails_by_drop_passes_by_churn_or_has_no_data():
    low = {"right": 70}
    assert verdict(counts(**low, lost=50), p=1e-4).verdict == "FAIL"
    assert safe_by_churn(counts(**low, changed=2), RULE.margin)
    assert verdict(counts(**low, changed=2)).verdict == "PASS"
    left_out = verdict(counts(**low, changed=60))
    assert (left_out.verdict, left_out.floor) == ("NO DATA", True)
    assert "reference accuracy 11.7%, chance 10.0%" in left_out.reason


def test_floors_decide_only_when_strict_or_when_nothing_else_is_judged():
    passed, floor = BandVerdict("PASS", ""), BandVerdict("NO DATA", "floor", floor=True)
    assert judge_cell([passed, floor], strict=False) == "PASS"
    assert judge_cell([passed, floor], strict=True) == "NO DATA"
    assert judge_cell([floor, floor], strict=False) == "NO DATA"
    assert judge_cell([passed, BandVerdict("NO DATA", "no items")], strict=False) == "NO DATA"


def test_planned_tests_without_a_p_still_count():
    assert holm_adjusted({"a": 0.01}, 5) == {"a": 0.05}
    assert holm_adjusted({}, 5) == {}


def test_a_drop_on_the_margin_is_called_a_failure_in_about_alpha_of_runs():
    """Five levels whose true drop is the margin: some level fails in 5.8% of runs (100,000 draws)."""
    rng = np.random.default_rng(0)
    runs, failed = 1000, 0
    for _ in range(runs):
        levels = [counts(lost=int(b), gained=int(c)) for b, c, _ in rng.multinomial(600, (0.03, 0.01, 0.96), size=5)]
        adjusted = holm_adjusted({k: fail_p(level, RULE) for k, level in enumerate(levels)}, 5)
        first = min(adjusted, key=adjusted.get)
        failed += verdict(levels[first], p=adjusted[first]).verdict == "FAIL"
    assert 0.035 < failed / runs < 0.085


def test_a_level_with_a_drop_on_the_margin_passes_in_at_most_a_fortieth_of_runs():
    rng = np.random.default_rng(1)
    draws = rng.multinomial(600, (0.03, 0.01, 0.96), size=600)
    passed = sum(verdict(counts(lost=int(b), gained=int(c))).verdict == "PASS" for b, c, _ in draws)
    assert passed / 600 < 0.045


@pytest.mark.parametrize("n", [1, 20, 150])
def test_too_few_items_are_inconclusive_with_the_number_needed_and_no_floor(n):
    """With one item a level, chance and accuracy are both 100%: that is no floor, it is too few items."""
    counts = Counts(n=n, right=n, still_right=n, lost=0, gained=0, changed=0, tie_changes=0, by_chance=n)
    found = judge_band(counts, True, 1.0, Rule(margin=0.02, alpha=0.05), 5)
    assert (found.verdict, found.items_needed) == ("INCONCLUSIVE", 189)
    assert "189 such items would decide" in found.reason
