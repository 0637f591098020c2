"""From a response matrix to rated items and an honest card."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.special import expit
from scipy.stats import spearmanr

from gapshift.errors import CalibrationError, UnknownNameError
from gapshift.records import ITEM_SCHEMA, read_items, write_items
from gapshift.schema import Item
from gapshift.train.irt import calibrate as module
from gapshift.train.irt import pyirt
from gapshift.train.irt.base import ItemParameters
from gapshift.train.irt.calibrate import Calibration, calibrate
from gapshift.train.irt.em import EMEngine
from gapshift.train.irt.link import LINKING_ASSUMPTION

NO_GUESSING = "Guessing is taken as 0, which is right for spans and episodes; K-way classification needs 1/K."
Matrix = NDArray[np.float64]
ITEMS = 300
B = np.random.default_rng(1).normal(0, 1.3, ITEMS)
IDS = [f"item-{index:03}" for index in range(ITEMS)]


def answers(responders: int, seed: int = 2) -> Matrix:
    random = np.random.default_rng(seed)
    theta = random.normal(size=responders)
    return (random.random((responders, ITEMS)) < expit(theta[:, None] - B)).astype(float)


def quick(matrix: Matrix, **options: object) -> Calibration:
    return calibrate(matrix, IDS, **({"task": "t", "guessing": 0.0, "cross_check": False} | options))  # type: ignore[arg-type]


def test_items_are_rated() -> None:
    matrix = answers(60)
    matrix[3, 5] = np.nan
    result = quick(matrix)
    assert spearmanr(result.parameters.b, B).statistic > 0.9
    assert np.bincount(result.level).tolist() == [0, 60, 60, 60, 60, 60]
    assert ((result.level_abs == 5) == (result.parameters.b >= 1.5)).all()
    np.testing.assert_allclose(result.proportion_correct, np.nanmean(matrix, axis=0))
    assert result.item_ids == tuple(IDS)
    card = result.card
    assert (card.task, card.engine, card.items, card.responders, card.guessing) == ("t", "em", ITEMS, 60, 0.0)
    assert card.split_half is not None
    assert card.split_half > 0.85
    assert len(card.gated_bands) == 5
    assert card.notes == (NO_GUESSING, "Not cross-checked with a second engine: it was switched off.")
    assert NO_GUESSING not in quick(matrix, guessing=0.1).card.notes


def test_the_order_of_items_changes_nothing() -> None:
    matrix, order = answers(15), np.random.default_rng(3).permutation(ITEMS)
    plain = quick(matrix)
    shuffled = calibrate(matrix[:, order], [IDS[index] for index in order], task="t", guessing=0.0, cross_check=False)
    assert (shuffled.level == plain.level[order]).mean() > 0.99


def test_two_runs_say_what_is_gated() -> None:
    noise = np.random.default_rng(4).random((6, ITEMS)) < np.linspace(0, 0.2, 6)[:, None]
    checkpoints = np.abs(np.repeat(answers(2), 3, axis=0) - noise)
    card = quick(checkpoints, runs=["a"] * 3 + ["b"] * 3).card
    assert card.gated_bands != ((1,), (2,), (3,), (4,), (5,))
    assert card.split_half is not None
    assert any("too low for five levels" in note and "More independent runs" in note for note in card.notes)
    assert "Only 2 independent run(s) of responders; 12 or more are advised." in card.notes


def test_a_middling_reliability_gates_three_bands() -> None:
    card = quick(answers(9)).card
    assert card.split_half is not None
    assert 0.5 <= card.split_half < 0.8
    assert card.gated_bands == ((1, 2), (3,), (4, 5))
    assert card.notes[0] == (
        f"Split-half reliability {card.split_half:.2f} is below 0.80, too low for five levels: three bands are gated "
        "instead: levels 1-2, 3 and 4-5. More independent runs raise it."
    )


def test_one_run_cannot_be_split() -> None:
    card = quick(answers(12), runs=["only"] * 12).card
    assert card.split_half is None
    assert card.gated_bands == ((1, 2, 3, 4, 5),)
    assert card.notes[0].startswith("The reliability of the levels could not be measured")
    assert "a pass needs --allow-unlevelled" in card.notes[0]


def test_responders_that_are_hardly_told_apart_are_said() -> None:
    random = np.random.default_rng(5)
    alike = (random.random((60, ITEMS)) < expit(random.normal(0, 0.1, 60)[:, None] - 2 * B)).astype(float)
    result = quick(alike)
    assert not result.parameters.converged
    assert any("limit of rounds" in note and "level_abs" in note for note in result.card.notes)


def test_ties_are_counted_and_said() -> None:
    card = quick(answers(4)).card
    assert card.tie_share > 0.2
    assert f"{card.tie_share:.1%} of the items share their difficulty with another level" in " ".join(card.notes)


def test_guessing_per_item_has_no_single_value_in_the_card() -> None:
    card = quick(answers(10), guessing=np.linspace(0, 0.5, ITEMS).round(1)).card
    assert card.guessing is None
    assert quick(answers(10), guessing=0.1).card.guessing == 0.1


@pytest.mark.skipif(sys.version_info >= (3, 12), reason="py-irt needs Python below 3.12")
def test_a_small_matrix_is_cross_checked_with_py_irt_and_py_irt_with_em() -> None:
    matrix = answers(20)
    by_em = quick(matrix, cross_check=None, guessing=0.1).card
    by_py_irt = quick(matrix[:, :], engine="py-irt", cross_check=None, runs=["one"] * 20)
    assert by_em.rank_correlation_py_irt is not None
    assert by_em.rank_correlation_py_irt > 0.95
    assert "Rank correlation of b between em and py-irt-1pl: 0.9" in " ".join(by_em.notes)
    assert "py-irt knows no guessing" in " ".join(by_em.notes)
    assert by_py_irt.card.rank_correlation_py_irt is not None
    assert "between py-irt-1pl and em: 0.9" in " ".join(by_py_irt.card.notes)
    assert abs(by_py_irt.parameters.theta.std() - 1) < 1e-9


@pytest.mark.skipif(sys.version_info >= (3, 12), reason="py-irt needs Python below 3.12")
def test_engines_are_compared_on_what_both_can_see() -> None:
    """Nearly all right: py-irt sees no difference between most items, where the probabilities still have one."""
    random = np.random.default_rng(6)
    logit = random.normal(size=20)[:, None] - 1.5 * B + 5
    soft = expit(logit + random.normal(0, 0.3, logit.shape))
    right = soft >= 0.5
    mixed = right.any(axis=0) & ~right.all(axis=0)
    assert 0.05 < mixed.mean() < 0.3
    card = quick(soft, cross_check=None, guessing=0.1).card
    naive = spearmanr(quick(soft, guessing=0.1).parameters.b, pyirt.PyIrtEngine().fit(soft).b).statistic
    assert naive < 0.6
    assert card.rank_correlation_py_irt is not None
    assert card.rank_correlation_py_irt > 0.8
    assert card.notes[-1] == (
        f"Rank correlation of b between em and py-irt-1pl: {card.rank_correlation_py_irt:.3f}, over the "
        f"{mixed.mean():.0%} of the items that some responders got right and others wrong. Both rated right and wrong "
        "answers there; em's ratings use the soft responses. py-irt knows no guessing, which lowers it."
    )


@pytest.mark.skipif(sys.version_info >= (3, 12), reason="py-irt needs Python below 3.12")
def test_items_that_no_responder_tells_apart_give_no_rank_correlation() -> None:
    soft = np.clip(0.9 + 0.01 * np.random.default_rng(7).normal(size=(12, ITEMS)) - 0.02 * B, 0.6, 1.0)
    soft[0, 0] = 0.1
    card = quick(soft, cross_check=None).card
    assert card.rank_correlation_py_irt is None
    assert "fewer than 10 items are right for some responders and wrong for others" in card.notes[-1]


def test_probabilities_lower_than_the_right_answers_are_said() -> None:
    matrix = np.maximum(answers(20), answers(20, seed=8))
    unsure = 0.5 + 0.2 * (matrix - 0.5)
    assert quick(unsure, guessing=0.5).card.notes[-2] == (
        f"The mean probability of the truth is {unsure.mean():.2f}, while {matrix.mean():.0%} of the answers give it "
        "0.5 or more: the responders are less sure than right. level_abs follows the probabilities and calls the task "
        "harder than its right answers do."
    )
    for said in (quick(matrix, guessing=0.5), quick(unsure)):  # nothing soft; no classes
        assert "probability of the truth" not in " ".join(said.card.notes)


def test_a_large_matrix_is_not_cross_checked_and_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "CROSS_CHECK_RESPONSES", 100)
    card = quick(answers(10), cross_check=None).card
    assert card.rank_correlation_py_irt is None
    assert card.notes[-1] == (
        "Not cross-checked with a second engine: 3,000 responses are more than 100; ask for it with --cross-check."
    )


def test_without_py_irt_the_card_says_why_and_a_forced_cross_check_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pyirt, "unavailable", lambda: "py-irt needs Python below 3.12; this is 3.13")
    card = quick(answers(10), cross_check=None).card
    assert "py-irt needs Python below 3.12; this is 3.13." in card.notes[-1]
    with pytest.raises(CalibrationError, match=r"cannot run: py-irt needs Python below 3.12.*Use engine 'em'"):
        quick(answers(10), cross_check=True)


@pytest.mark.skipif(sys.version_info >= (3, 12), reason="py-irt needs Python below 3.12")
@pytest.mark.parametrize(
    ("problem", "named"),
    [(ZeroDivisionError("float division"), "ZeroDivisionError: float division"), (KeyError(), "KeyError")],
)
def test_a_cross_check_that_breaks_costs_the_calibration_only_where_it_was_asked_for(
    monkeypatch: pytest.MonkeyPatch, problem: Exception, named: str
) -> None:
    def broken(*_: object) -> None:
        raise problem

    monkeypatch.setattr(pyirt, "_train", broken)
    card = quick(answers(10), cross_check=None).card
    assert card.rank_correlation_py_irt is None
    assert card.notes[-1] == f"The cross-check with py-irt-1pl failed: {named}."
    with pytest.raises(CalibrationError, match=f"py-irt-1pl failed: {named}. Calibrate without --cross-check"):
        quick(answers(10), cross_check=True)


def test_the_table_follows_the_items_and_survives_the_disk(tmp_path: Path) -> None:
    result = quick(answers(20))
    items = [Item(id=name, label=index % 3, split="test", group="g") for index, name in enumerate(IDS)][::-1]
    table = result.table(items)
    assert table.schema == ITEM_SCHEMA
    assert table["id"].to_pylist() == IDS[::-1]
    assert table["b"].to_pylist() == result.parameters.b[::-1].tolist()
    assert table["level"].to_pylist() == result.level[::-1].tolist()
    assert set(table["task"].to_pylist()) == {"t"}
    write_items(tmp_path / "items.parquet", table, [result.card])
    again, cards = read_items(tmp_path / "items.parquet")
    assert again.equals(table)
    assert cards == (result.card,)


def test_a_table_of_other_items_is_refused() -> None:
    result = quick(answers(20))
    items = [Item(id=name, label=0) for name in IDS]
    with pytest.raises(CalibrationError, match=r"1 without a rating \(other\), 1 rated but not given \(item-000\)"):
        result.table([Item(id="other", label=0), *items[1:]])
    with pytest.raises(CalibrationError, match=r"2 rated but not given \(item-298, item-299\)"):
        result.table(items[:-2])
    with pytest.raises(CalibrationError, match="1 given more than once"):
        result.table([*items, items[0]])


def test_names_put_linked_abilities_on_the_card() -> None:
    names = [f"w8-f1-r{number}-c1" for number in range(20)]
    result = quick(answers(20), names=names)
    assert result.card.abilities == dict(zip(names, result.parameters.theta.tolist(), strict=True))
    assert result.card.notes[-1] == LINKING_ASSUMPTION
    unnamed = quick(answers(20)).card
    assert unnamed.abilities == {}
    assert LINKING_ASSUMPTION not in unnamed.notes


@pytest.mark.parametrize(
    ("matrix", "text"),
    [
        (np.ones((12, ITEMS)), "Every response is 1: without right and wrong answers no item can be called harder"),
        (np.full((12, ITEMS), 0.1), "Every response is 0.1: without right and wrong"),
        (np.tile(answers(1), (12, 1)), "All 12 responders are equally able, so no item can be placed between them"),
        (answers(1), r"at least 2 responders and 2 items; got 1 responder\(s\) and 300 item\(s\)"),
    ],
)
def test_what_cannot_rate_items_is_said(matrix: Matrix, text: str) -> None:
    with pytest.raises(CalibrationError, match=text):
        quick(matrix)


def test_abilities_that_are_not_finite_are_said(monkeypatch: pytest.MonkeyPatch) -> None:
    one = np.ones(ITEMS)
    broken = ItemParameters(b=B, a=one, c=one * 0, se_b=one, theta=np.array([0.0, np.nan, 1.0]))
    monkeypatch.setattr(EMEngine, "_fit", lambda *_: broken)
    with pytest.raises(CalibrationError, match=r"1 of 3 abilities are not finite: responder 1 .*try the other engine"):
        quick(answers(3))


def test_errors() -> None:
    with pytest.raises(CalibrationError, match=r"3 responder names for 10 responders, 1 of them more than once \(a\)"):
        quick(answers(10), names=["a", "b", "a"])
    with pytest.raises(UnknownNameError, match=r"Unknown calibration engine 'emm'. Did you mean 'em'\?"):
        quick(answers(10), engine="emm")
    with pytest.raises(CalibrationError, match="3 run names for 10 responders"):
        quick(answers(10), runs=["a", "b", "c"])
    with pytest.raises(CalibrationError, match="1 ids for 300 items"):
        calibrate(answers(10), ["a"], task="t", guessing=0.0)
    with pytest.raises(CalibrationError, match="Item ids are not unique: a"):
        calibrate(answers(10), ["a"] * 300, task="t", guessing=0.0)
    with pytest.raises(CalibrationError, match="lies outside"):
        quick(answers(10) + 1)
