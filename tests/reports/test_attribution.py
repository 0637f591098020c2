"""What did the damage: shares that sum to the drop, verdicts at the run's own gate, sentences that claim no more."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest

from gapshift.reports.attribution import KEYS, Explained, Smallest, attribution_json
from gapshift.reports.cells import LEVEL_KEYS
from gapshift.reports.combinations import Player
from gapshift.reports.judge import judge
from gapshift.reports.planned import read_run
from gapshift.reports.statistics import tango_interval
from gapshift.reports.verdicts import gated_p, judge_beside, judge_cells
from gapshift.schema import Environment

from .attributions import INT8, NAME, NEAREST, RULE, THREADS, Combined, entry_of, items

WRONG = 400  # of 600 items of level 5 the first 360 are right, so these are wrong in the reference


@pytest.fixture
def two(builder):
    """Nearest loses 30 of level 5's 600 items, int8 loses 6, both together 6 more."""
    made = Combined(builder, (NEAREST, INT8))
    made.loses([NEAREST], items(5, 0, 30))
    made.loses([INT8], items(5, 30, 36))
    made.loses([NEAREST, INT8], items(5, 0, 42))
    return made


def at(entry, place, name, key="5"):
    return entry["players"][place][name][key]


def ends(estimate):
    return pytest.approx((100 * estimate.estimate, 100 * estimate.low, 100 * estimate.high))


def numbers(value):
    return (value["estimate"], value["low"], value["high"])


# ------------------------------------------------------------------------------ shares


def test_shares_by_hand(two):
    entry = entry_of(two.summary())
    assert entry["level"] == "5"
    assert numbers(entry["drop_pp"]["5"]) == ends(tango_interval(42, 0, 600))
    assert numbers(at(entry, 0, "alone_pp")) == ends(tango_interval(30, 0, 600))
    assert numbers(at(entry, 1, "together_pp")) == ends(tango_interval(12, 0, 600))
    assert [at(entry, place, "share_pp")["estimate"] for place in (0, 1)] == pytest.approx([5.5, 1.5])
    assert at(entry, 1, "interaction_pp")["estimate"] == pytest.approx(1.0)


def test_shares_sum_to_the_drop_everywhere(builder):
    rng = np.random.default_rng(3)
    made = Combined(builder, (NEAREST, INT8, THREADS))
    builder.per_level = {1: 600, 2: 300, 3: 500, 4: 200, 5: 600}
    for size in (1, 2, 3):
        for some in combinations(made.players, size):
            places = [(level, int(k)) for level in (1, 3, 5) for k in rng.choice(500, 25 * size, replace=False)]
            made.loses(some, places)
    entry = entry_of(made.summary())
    for key in KEYS:
        shares = [player["share_pp"][key]["estimate"] for player in entry["players"]]
        assert sum(shares) == pytest.approx(entry["drop_pp"][key]["estimate"], abs=1e-9)
    levels = [entry["drop_pp"][key]["estimate"] for key in LEVEL_KEYS[1:]]
    assert entry["drop_pp"]["mean"]["estimate"] == pytest.approx(np.mean(levels))
    assert entry["drop_pp"]["all"]["estimate"] != pytest.approx(np.mean(levels), abs=0.05)


def test_items_that_come_in_groups_say_less(make_builder):
    """Groups whose items fail together leave wider intervals, as at the gate."""
    widths = []
    for grouped in (False, True):
        one = make_builder()
        one.group = (lambda name: str(int(name.split("-")[2]) // 10)) if grouped else (lambda _: None)
        made = Combined(one, (NEAREST, INT8))
        made.loses([NEAREST], items(5, 0, 30))
        made.loses([INT8], [])
        made.loses([NEAREST, INT8], items(5, 0, 30))
        share = at(entry_of(made.summary()), 0, "share_pp")
        widths.append(share["high"] - share["low"])
    assert widths[1] > 1.5 * widths[0]


def test_a_level_without_items_is_null(two):
    two.builder.per_level[2] = 0
    entry = entry_of(two.summary())
    assert entry["drop_pp"]["2"] is None
    assert entry["drop_pp"]["mean"] is None
    assert at(entry, 0, "share_pp", "2") is None
    assert at(entry, 0, "share_pp", "all")["estimate"] > 0


@pytest.mark.parametrize("status", ["error", "skipped", "not_applicable"])
def test_a_combination_without_answers_leaves_no_shares(two, status):
    two.loses([INT8], [], status=status, reason="something broke")
    entry = entry_of(two.summary())
    words = status.replace("_", " ")
    assert entry["shares_missing"].startswith(f"without a value: precision.format = int8-dynamic ({words}: ")
    assert "something broke" in entry["shares_missing"]
    assert [at(entry, place, "share_pp") for place in (0, 1)] == [None, None]
    assert at(entry, 0, "together_pp") is None
    assert at(entry, 0, "alone_pp")["estimate"] == pytest.approx(5)
    assert entry["players"][1]["alone"]["status"] == status
    assert "No shares: without a value" in entry["finding"]


def test_a_combination_that_never_ran_leaves_no_shares(two):
    del two.cells[INT8.keys]
    entry = entry_of(two.summary())
    assert "it was not measured" in entry["shares_missing"]


def test_a_combination_of_other_items_leaves_no_shares(two, edit):
    answers = two._answers
    two._answers = lambda places: edit(answers(places), keep=np.arange(2000)) if len(places) == 6 else answers(places)
    two.environment = lambda keys, name: Environment(
        name=name, kind="lossy", summary="Made up.", subsample=True, deviations=dict.fromkeys(sorted(keys), 1)
    )
    assert "it answered other items" in entry_of(two.summary())["shares_missing"]


def test_each_combination_may_answer_in_an_order_of_its_own(two, edit):
    expected = two.summary()
    answers = two._answers
    two._answers = lambda places: edit(answers(places), keep=np.random.default_rng(len(places)).permutation(3000))
    assert two.summary() == expected


def test_another_format_than_asked_for_keeps_its_numbers(two):
    from gapshift.schema import Execution

    ran = Execution(engine="e", provider="p", requested="float16", executed="float32", matches=False)
    for keys, (places, _) in list(two.cells.items()):
        two.cells[keys] = (places, {"execution": ran})
    entry = entry_of(two.summary())
    assert entry["verdict"] == "NO DATA"
    assert at(entry, 0, "share_pp")["estimate"] == pytest.approx(5.5)
    assert any("float16 was requested and float32 was executed" in text for text in entry["remarks"])


def test_levels_that_are_judged_in_bands_are_said(two):
    two.builder.card = {"gated_bands": ((1, 2), (3,), (4, 5))}
    entry = entry_of(two.summary())
    assert entry["remarks"] == [
        "levels are too unreliable to be told apart; the gate judges levels 1-2, level 3, levels 4-5"
    ]
    assert entry["verdict"] == "FAIL"


# -------------------------------------------------------------------------------- gate


def test_the_whole_gets_the_run_s_own_verdict(two):
    found = two.explained()
    cell = next(cell for cell in judge(two.builder.workspace)["cells"] if cell["environment"] == NAME)
    mine = found.verdicts[found.whole]
    assert (mine.verdict, mine.measured.gated) == (cell["verdict"], True) == ("FAIL", True)
    assert mine.p_fail_holm[(5,)] == pytest.approx(cell["drop_pp"]["5"]["p_fail_holm"])


def test_a_part_is_judged_in_the_environment_s_place(two, make_builder):
    """Its verdict is that of a run whose environment answers so."""
    found = two.explained()
    alone = found.verdicts[NEAREST.keys]
    other = make_builder()
    summary, cell = other.judged(other.answers(lost={5: 30}), name=NAME)
    assert summary["holm_family"] == 5
    assert alone.verdict == cell["verdict"]
    assert alone.p_fail_holm[(5,)] == pytest.approx(cell["drop_pp"]["5"]["p_fail_holm"])


def test_a_cell_judged_beside_the_p_of_all_others_is_judged_as_with_them(two):
    two.explained()
    plan = two.builder.workspace.read_plan()
    names = tuple(environment.name for environment in plan.environments)
    run = read_run(two.builder.workspace, plan.model_copy(update={"deployments": names[:2]}))
    family = sum(len(cell.bands) for cell in run.cells if cell.gated)
    known = gated_p(run.cells, run.rule)
    for cell, judged in zip(run.cells, judge_cells(run.cells, run.rule, family), strict=True):
        others = {test: p for test, p in known.items() if test[1] != cell.environment.name}
        found = judge_beside(cell, others, run.rule, family)
        assert (found.verdict, found.p_fail_holm) == (judged.verdict, pytest.approx(judged.p_fail_holm))


def test_an_environment_that_is_not_gated_is_judged_as_if_it_were(two):
    found = two.explained(named=False)
    assert not found.verdicts[found.whole].measured.gated
    assert found.verdicts[found.whole].verdict == "FAIL"


# --------------------------------------------------------------------------- sentences


def test_the_sentence(two):
    smallest = Smallest(sets=(NEAREST.keys,), method="all combinations", judged=3)
    said = entry_of(two.summary(smallest=smallest))["finding"]
    assert said == (
        "Of the 7.0 pp [5.2, 9.3] lost at level 5, 5.5 [4.0, 7.6] come from resize.interpolation = nearest and "
        "1.5 [0.8, 2.7] come from precision.format = int8-dynamic. precision.format = int8-dynamic adds 1.0 "
        "[0.4, 2.2] to the drop alone and 2.0 [1.1, 3.5] on top of resize.interpolation = nearest. "
        "The smallest part that still FAILs: resize.interpolation = nearest."
    )


def test_a_deviation_within_noise_is_not_blamed(builder):
    made = Combined(builder, (NEAREST, THREADS))
    made.loses([NEAREST], items(5, 0, 30))
    made.loses([THREADS], items(4, 0, 1))
    made.loses([NEAREST, THREADS], [*items(5, 0, 30), (4, 0)])
    said = entry_of(made.summary())["finding"]
    assert "5.0 [3.5, 7.0] come from resize.interpolation = nearest. " in said
    assert "The interval of runtime.intra_op_threads = 1 includes zero." in said
    assert "adds" not in said


def test_what_gives_back_is_said(builder):
    made = Combined(builder, (NEAREST, INT8))
    made.loses([NEAREST], items(5, 0, 60))
    made.loses([INT8], items(5, WRONG, WRONG + 18))
    made.loses([NEAREST, INT8], [*items(5, 0, 60), *items(5, WRONG, WRONG + 18)])
    said = entry_of(made.summary())["finding"]
    assert said.startswith("Of the 7.0 pp [")
    assert (
        "10.0 [7.8, 12.7] come from resize.interpolation = nearest; precision.format = int8-dynamic gives back 3.0 ["
        in said
    )


def test_a_gain_is_shared_out_as_one(builder):
    made = Combined(builder, (NEAREST, INT8))
    made.loses([NEAREST], items(5, WRONG, WRONG + 30))
    made.loses([INT8], items(5, 0, 12))
    made.loses([NEAREST, INT8], [*items(5, WRONG, WRONG + 30), *items(5, 0, 12)])
    said = entry_of(made.summary())["finding"]
    assert said.startswith("Of the 3.0 pp [")
    assert "gained at level 5, 5.0 [" in said
    assert "precision.format = int8-dynamic costs 2.0 [" in said


def test_parts_that_cancel_are_told_of(builder):
    made = Combined(builder, (NEAREST, INT8))
    made.loses([NEAREST], items(5, 0, 30))
    made.loses([INT8], items(5, WRONG, WRONG + 30))
    made.loses([NEAREST, INT8], [*items(5, 0, 30), *items(5, WRONG, WRONG + 30)])
    said = entry_of(made.summary(level="5"))["finding"]
    assert "that interval includes zero, so there is no damage to attribute" in said
    assert "resize.interpolation = nearest costs 5.0 [" in said
    assert "precision.format = int8-dynamic gives back 5.0 [" in said


def test_without_a_clear_drop_nothing_is_claimed(builder):
    made = Combined(builder, (NEAREST, INT8))
    for some in ([NEAREST], [INT8], [NEAREST, INT8]):
        made.loses(some, [(5, 1), (5, WRONG)])
    entry = entry_of(made.summary())
    assert "no damage to attribute" in entry["finding"]
    assert "come from" not in entry["finding"]


def test_a_drop_that_no_share_is_clear_of(builder):
    """Eight deviations that each do a little together: the whole is clear, none of its parts is."""
    players = tuple(Player({f"runtime.{name}": 1}) for name in ("a", "b", "c", "d", "e"))
    made = Combined(builder, players)
    for size in range(1, 6):
        for some in combinations(players, size):
            made.loses(some, [(5, players.index(player)) for player in some])
    said = entry_of(made.summary())["finding"]
    assert "no share differs clearly from zero; " in said
    assert "come from" not in said


def test_the_level_spoken_of_is_off_the_floor_and_clear(builder):
    made = Combined(builder, (NEAREST, INT8))
    hard, sure = items(5, 0, 40), items(2, 0, 20)
    for some in ([NEAREST], [INT8], [NEAREST, INT8]):
        made.loses(some, [*hard, *sure])
    assert entry_of(made.summary())["level"] == "5"
    assert "at level 2" in entry_of(made.summary(level="2"))["finding"]
    assert "over the mean of the levels" in entry_of(made.summary(level="mean"))["finding"]
    made.builder.chance = 0.58  # what a random answer scores, so that level 5 lies near it
    assert entry_of(made.summary())["level"] == "2"


def test_a_clear_loss_at_the_floor_is_spoken_of_before_no_loss_off_it(builder):
    made = Combined(builder, (NEAREST,))
    made.loses([NEAREST], items(5, 0, 60))
    made.builder.chance = 0.58
    entry = entry_of(made.summary())
    assert (entry["verdict"], entry["floor"], entry["level"]) == ("FAIL", [5], "5")
    assert "no damage" not in entry["finding"]


def test_one_deviation_has_nothing_to_share(builder):
    made = Combined(builder, (NEAREST,))
    made.loses([NEAREST], items(5, 0, 30))
    entry = entry_of(made.summary())
    assert entry["finding"].startswith(f"{NAME} loses 5.0 pp [")
    assert "It deviates in one thing alone, resize.interpolation = nearest: nothing to share out." in entry["finding"]
    assert entry["players"][0]["without"]["status"] == "reference"
    assert entry["players"][0]["together_pp"]["5"]["estimate"] == pytest.approx(5)


def test_without_shares_removal_speaks(two):
    entry = entry_of(two.summary(shapley=False))
    assert entry["players"][0]["share_pp"]["5"] is None
    assert entry["finding"].startswith(f"{NAME} loses 7.0 pp [5.2, 9.3] at level 5. It loses 6.0 [")
    assert "Alone, resize.interpolation = nearest loses 5.0 [" in entry["finding"]
    assert "No shares: they were not asked for." in entry["finding"]


def test_over_eight_deviations_have_no_shares(builder):
    players = tuple(Player({f"runtime.{name}": 1}) for name in "abcdefghi")
    made = Combined(builder, players)
    made.loses(players, items(5, 0, 30))
    for player in players:
        made.loses([player], items(5, 0, 30) if player is players[0] else [])
        made.loses([other for other in players if other is not player], [] if player is players[0] else items(5, 0, 30))
    entry = entry_of(made.summary())
    assert "9 deviations have 512 combinations; shares are for 8 deviations or fewer" in entry["shares_missing"]
    assert "It loses 5.0 [3.5, 7.0] less without runtime.a = 1." in entry["finding"]


def test_an_environment_without_answers_has_its_reason(two):
    found = two.explained(players=(), problem=("skipped", "no such accelerator here"))
    assert isinstance(found, Explained)
    entry = entry_of(attribution_json(two.environment(NEAREST.keys, NAME), [found], RULE, None, True))
    assert entry["finding"] == f"{NAME} was not measured: skipped: no such accelerator here"
    assert (entry["verdict"], entry["level"], entry["players"]) == (None, None, [])


@pytest.mark.parametrize(
    ("smallest", "said"),
    [
        (Smallest(reason="it does not FAIL at this run's gate (PASS), so no smaller part was looked for"),
         "It does not FAIL at this run's gate (PASS), so no smaller part was looked for."),
        (Smallest(sets=(NEAREST.keys | INT8.keys,)), "It FAILs with all of its deviations alone."),
        (Smallest(sets=(NEAREST.keys, INT8.keys)),
         "The smallest part that still FAILs: resize.interpolation = nearest; or precision.format = int8-dynamic."),
    ],
)  # fmt: skip
def test_the_smallest_part_in_words(two, smallest, said):
    assert entry_of(two.summary(smallest=smallest))["finding"].endswith(said)
