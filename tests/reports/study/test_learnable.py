"""Which tasks enter claims: the rule, its yardstick and how often it errs."""

import numpy as np
import pytest

from gapshift.reports.load import IdIndex, RatedItems
from gapshift.reports.study.learnable import LEAST_ABOVE_CHANCE, is_learnable
from gapshift.reports.study.members import Group, Member, TaskItems
from gapshift.schema import TrainedRun


def task_items(per_level=100, classes=10, chance=None, domain="vision"):
    n = 5 * per_level
    level = np.repeat(np.arange(1, 6), per_level)
    nan = np.full(n, np.nan)
    ids = np.array([f"{k:05d}" for k in range(n)])
    text = np.full(n, "test")
    rated = RatedItems(
        IdIndex(ids), level, text, text, nan, nan, nan, nan if chance is None else np.full(n, chance), level
    )
    return TaskItems("t", domain, rated, np.arange(n) % classes, level)


def group_of(right, task=None):
    nan = np.full(right.shape[1], np.nan)
    run = {"name": "r", "task": "t", "domain": "vision", "family": "cnn", "width": 8, "regime": "iid", "sha256": "0"}
    members = [Member(TrainedRun(**run, seed=s), row, nan, None) for s, row in enumerate(right)]
    return Group(task or task_items(right.shape[1] // 5), tuple(members))


def test_chance_is_the_commonest_label_or_what_the_items_say():
    assert task_items().chance() == pytest.approx(0.1)
    assert task_items(chance=0.07, domain="control").chance([5]) == pytest.approx(0.07)
    assert np.isnan(task_items(per_level=0).chance())


def test_kinds_of_answers():
    assert [task_items().kind, task_items(chance=0.0, domain="text").kind] == ["classes", "spans"]
    assert task_items(chance=0.2, domain="control").kind == "episodes"


def test_a_model_at_the_threshold_passes_in_at_most_a_fortieth_of_studies():
    """2,000 studies of three seeds at chance + 5 pp exactly; nominal 2.5%, Monte Carlo standard error 0.35 pp."""
    rng = np.random.default_rng(0)
    p = 0.1 + LEAST_ABOVE_CHANCE
    task = task_items(per_level=40)
    passed = sum(bool(is_learnable(group_of((rng.random((3, 200)) < p).astype(float), task))) for _ in range(2000))
    assert passed / 2000 < 0.025 + 3 * 0.0035


def test_what_cannot_be_known_is_not_learnable():
    assert is_learnable(group_of(np.full((3, 500), np.nan))) is None


def test_rows(make_study):
    builder = make_study()
    builder.seeds("iid", task="good")
    builder.seeds("iid", (0.12,) * 5, task="bad")
    builder.seeds("curriculum", task="unknown")
    rows = {row["task"]: row for row in builder.json()["tasks"]}
    assert {name: row["learnable"] for name, row in rows.items()} == {"good": True, "bad": False, "unknown": None}
    assert rows["good"]["accuracy"]["estimate"] == pytest.approx(0.7)
    assert rows["bad"]["note"].startswith("not learnable at this budget")
    assert rows["unknown"]["note"] == "no iid run: whether the task can be learnt is not known"
    assert rows["unknown"]["accuracy"] is None
