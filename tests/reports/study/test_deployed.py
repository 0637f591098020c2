"""Critical levels and rank agreement of deployed regimes."""

import numpy as np
import pytest

from gapshift.reports.study.agreement import kendall_tau, order_kept
from gapshift.reports.study.critical import peak_shares
from gapshift.reports.study.resampling import Resampler

FLAT = (0.9, 0.8, 0.7, 0.6, 0.5)
LEVEL = np.repeat(np.arange(1, 6), 200)


def deployed(study, regime, accuracy, drop, count=3, **fields):
    """Models whose accuracy falls by ``drop`` (5,) in the environment *lossy*, and not at all in *same*."""
    first = len(study.runs)
    study.seeds(regime, accuracy, count=count, **fields)
    for run in study.runs[first:]:
        found = study.workspace.read_answers(run.name)
        right = found[1].correct[: 5 * study.per_level]
        after = right.copy()
        for k, share in enumerate(drop):
            after[k * study.per_level : k * study.per_level + round(share * study.per_level)] = 0
        study.deploy(run.name, {"same": right, "lossy": after})


def row_of(rows, **keys):
    (row,) = [row for row in rows if all(row[key] == value for key, value in keys.items())]
    return row


def test_the_level_where_the_drop_peaks(study):
    deployed(study, "iid", FLAT, (0.0, 0.05, 0.3, 0.05, 0.02))
    rows = study.json()["critical"]
    row = row_of(rows, environment="lossy")
    assert (row["level"], row["probability"]) == (3, pytest.approx(1))
    assert row["drop_pp"]["estimate"] == pytest.approx(30)
    same = row_of(rows, environment="same")
    assert (same["level"], same["probability"], same["drop_pp"]) == (None, None, None)
    assert "no level's drop excludes zero" in same["note"]


def test_the_training_side_is_no_environment(study):
    deployed(study, "iid", FLAT, (0, 0, 0, 0, 0))
    assert {row["environment"] for row in study.json()["critical"]} == {"same", "lossy"}


def test_a_seed_without_records_is_counted(study):
    deployed(study, "iid", FLAT, (0, 0, 0.3, 0, 0))
    study.finish()
    study.workspace.cell_path("run-1", "lossy").unlink()
    row = row_of(study.json()["critical"], environment="lossy")
    assert "1 seeds without usable records here" in row["note"]
    assert row["level"] == 3


def test_equal_drops_share_the_peak():
    """Two levels with one true drop: each is the peak in about half of the studies' resamples."""
    rng, shares = np.random.default_rng(0), []
    for study_number in range(60):
        p = np.array([0.02, 0.1, 0.1, 0.02, 0.02])[LEVEL - 1]
        lost = (rng.random((3, 1000)) < p).astype(float)
        draws = Resampler("t", LEVEL, seed=study_number, resamples=300)
        shares.append(peak_shares(draws.means((0, 1, 2), lost)))
    mean = np.mean(shares, axis=0)
    assert mean[1] == pytest.approx(0.5, abs=0.12)  # its standard error over 60 studies is about 0.045
    assert mean[[0, 3, 4]].max() < 0.01


def test_the_probability_of_the_peak_is_about_how_often_the_peak_is_right():
    """200 studies in which level 3 loses most by a little; stated probability against hits (s.e. 3.4 pp)."""
    rng = np.random.default_rng(1)
    p = np.array([0.02, 0.08, 0.11, 0.07, 0.02])[LEVEL - 1]
    stated, right = [], []
    for study_number in range(200):
        lost = (rng.random((1, 1000)) < p).astype(float)
        shares = peak_shares(Resampler("t", LEVEL, seed=study_number, resamples=300).means((0,), lost))
        peak = int(np.argmax([lost[0, k == LEVEL].mean() for k in range(1, 6)]))
        stated.append(shares[peak])
        right.append(peak == 2)
    assert np.mean(stated) == pytest.approx(np.mean(right), abs=0.1)


def test_the_bootstrap_variance_is_that_of_the_mean():
    rng = np.random.default_rng(2)
    values = (rng.random((1, 1000)) < 0.3).astype(float)
    spread = Resampler("t", LEVEL).means((0,), values).std(axis=1)
    expected = [np.sqrt(values[0, k == LEVEL].var(ddof=1) / 200) for k in range(1, 6)]
    assert spread == pytest.approx(expected, rel=0.1)


def test_the_bootstrap_of_few_items_is_not_too_narrow():
    level = np.repeat(np.arange(1, 6), 4)
    values = np.tile([0.0, 1.0, 0.0, 1.0], 5)[None, :]
    spread = Resampler("t", level, resamples=4000).means((0,), values).var(axis=1)
    assert spread == pytest.approx([values[0, :4].var(ddof=1) / 4] * 5, rel=0.1)


def test_regimes_that_change_places(study):
    deployed(study, "iid", FLAT, (0, 0, 0, 0, 0))
    deployed(study, "random", (0.95, 0.85, 0.75, 0.65, 0.55), (0.2, 0.2, 0.2, 0.2, 0.2))
    rows = study.json()["agreement"]
    (pair,) = row_of(rows, environment="lossy")["pairs"]
    assert pair["regimes"] == ["iid", "random"]
    assert pair["training_pp"]["estimate"] == pytest.approx(-5)
    assert pair["difference_pp"]["estimate"] == pytest.approx(15)
    assert pair["probability"] < 0.01
    (kept,) = row_of(rows, environment="same")["pairs"]
    assert kept["probability"] == 1


def test_tau_stands_over_twelve_models(study):
    deployed(study, "iid", FLAT, (0, 0, 0, 0, 0), count=6)
    deployed(study, "random", (0.8, 0.7, 0.6, 0.5, 0.4), (0, 0, 0, 0, 0), count=5)
    row = row_of(study.json()["agreement"], environment="same")
    assert (row["models"], row["kendall_tau"]) == (11, None)
    assert "tau needs 12 models, there are 11" in row["note"]
    deployed(study, "hard-only", (0.5,) * 5, (0, 0, 0, 0, 0), count=5)
    row = row_of(study.json()["agreement"], environment="same")
    assert row["kendall_tau"] == {"estimate": 1.0, "low": 1.0, "high": 1.0}


def test_kendall_tau_is_scipys():
    from scipy.stats import kendalltau

    rng = np.random.default_rng(3)
    x, y = rng.integers(0, 6, (2, 15, 4)).astype(float)
    assert kendall_tau(x, y) == pytest.approx([kendalltau(x[:, k], y[:, k]).statistic for k in range(4)])
    assert np.isnan(kendall_tau(np.ones((3, 1)), np.ones((3, 1)))).all()


def test_an_unknown_order_is_not_kept():
    assert np.isnan(order_kept(np.array([np.nan]), np.array([1.0])))
    assert order_kept(np.array([1.0, -1.0]), np.array([2.0, 2.0])) == 0.5
