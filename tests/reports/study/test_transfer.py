"""Transfer scores of frozen trunks."""

import numpy as np
import pytest

from gapshift.reports.study.quantity import EVEN, independent_sum, weighted_accuracy
from gapshift.reports.study.ratio import linearised

TASKS = ("digits", "words")


def trunks(study, regime="curriculum", transferred=0.5, own=0.8, seeds=5, random=0.3, domain=("vision", "text")):
    """Two tasks, whose trunks go both ways and onto their own task; a random trunk on each."""
    names = {}
    for task, each in zip(TASKS, domain, strict=True):
        for seed in range(seeds):
            names[task, seed] = study.train(regime, seed, task=task, domain=each, family=f"{each}-transformer")
    for target, each in zip(TASKS, domain, strict=True):
        for seed in range(seeds):
            by = 0.01 * (seed - 2)
            for source in TASKS:
                level = (own if source == target else transferred) + by
                study.train(
                    regime, seed, (level,) * 5, task=target, domain=each, family=f"{each}-transformer",
                    trunk_from=names[source, seed],
                )  # fmt: skip
            if random is not None:
                study.train(
                    "random-trunk", seed, (random + by,) * 5, task=target, domain=each, family=f"{each}-transformer",
                    trunk_from="random",
                )  # fmt: skip
    return names


def test_scores_by_hand(study):
    trunks(study)
    found = study.json()
    row, other = found["transfer"]
    assert (row["source"], row["target"], row["regime"]) == ("words", "digits", "curriculum")
    assert (other["source"], other["target"]) == ("digits", "words")
    assert row["score"]["estimate"] == pytest.approx(0.4)
    assert row["score"]["low"] < 0.4 < row["score"]["high"]
    assert row["raw"]["own"]["estimate"] == pytest.approx(0.8)
    assert row["raw"]["random"]["estimate"] == pytest.approx(0.3)
    assert row["note"] == ""
    (mean,) = found["transfer_mean"]
    assert (mean["pairs"], mean["planned"]) == (2, 2)
    assert mean["score"]["estimate"] == pytest.approx(0.4)
    assert mean["score"]["high"] - mean["score"]["low"] < row["score"]["high"] - row["score"]["low"]


def test_transferred_models_are_no_regime_of_their_own(study):
    trunks(study)
    assert {row["seeds"] for row in study.json()["regimes"]} == {5}


def test_a_score_without_room_is_undefined(study):
    trunks(study, own=0.36)
    found = study.json()
    assert [row["score"] for row in found["transfer"]] == [None, None]
    assert found["transfer"][0]["note"] == "undefined: the lower end of own trunk less random trunk is not above 5 pp"
    assert found["transfer"][0]["raw"]["transferred"] is not None
    assert found["transfer_mean"] == [{"regime": "curriculum", "score": None, "pairs": 0, "planned": 2}]


def test_a_missing_yardstick_is_named(study):
    trunks(study, random=None)
    row = study.json()["transfer"][0]
    assert (row["score"], row["raw"]["random"]) == (None, None)
    assert row["note"] == "not trained: a random trunk on the target"


def test_a_trunk_that_no_run_trained_is_said(study):
    study.train("iid")
    study.train("iid", trunk_from="nobody")
    found = study.json()
    assert found["transfer"] == []
    assert found["notes"][-1] == "The trunk of run-1 is no run of this plan, so they enter no transfer score."


def test_the_mean_covers_the_truth():
    """600 studies of two tasks and three seeds; Monte Carlo standard error 0.9 pp at 95%."""
    rng = np.random.default_rng(0)
    level = np.repeat(np.arange(1, 6), 40)

    def mean(p):
        logit = np.log(p / (1 - p)) + 0.1 * rng.standard_normal((3, 1))
        return weighted_accuracy(range(3), (rng.random((3, 200)) < 1 / (1 + np.exp(-logit))) * 1.0, level, EVEN)

    hits = 0
    for _ in range(600):
        scores = []
        for _target in range(2):
            base, own, moved = mean(0.3), mean(0.8), mean(0.5)
            scores.append(linearised(moved - base, own - base) * 0.5)
        found = independent_sum(scores, 0.95)
        hits += found.low <= 0.4 <= found.high
    assert hits / 600 > 0.93
