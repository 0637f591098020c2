"""Other traffic: what a run's drops would be under other mixes of levels, labels and groups."""

from __future__ import annotations

import json

import numpy as np
import pytest
from pydantic import ValidationError

from gapshift.errors import SettingsError, UnknownNameError
from gapshift.reports.judge import judge
from gapshift.reports.renderers import render_html, render_markdown
from gapshift.reports.statistics import stratified_drop, tango_interval
from gapshift.reports.traffic import check_names
from gapshift.schema import (
    BUILT_IN_TRAFFIC,
    Bundle,
    Contract,
    ControlPreprocessing,
    Execution,
    ModelInterface,
    RunPlan,
    Traffic,
)
from gapshift.settings import user_traffic

ENDS = ("estimate", "low", "high")
LOST = {1: 2, 5: 10}
"""Of 100 items a level, whose labels are a to j in turn and the lost ones the first."""


@pytest.fixture
def small(make_builder):
    return make_builder(per_level=100)


def close(value, **digits):
    return pytest.approx(value, **({"abs": 5e-4} | digits))


def ends(estimate):
    return [close(100 * getattr(estimate, end)) for end in ENDS]


def early_and_late(item):
    """Two groups of 250 items; those that are lost are early."""
    return "early" if int(item.rsplit("-", 1)[1]) < 50 else "late"


def ten_each(item):
    """Ten groups of 50 items, in turn."""
    return f"speaker-{int(item.rsplit('-', 1)[1]) % 10}"


# ------------------------------------------------------------------------------ levels


def test_levels_by_hand(small):
    _, cell = small.judged(small.answers(lost=LOST))
    found = cell["traffic"]
    assert found["as-is"]["drop_pp"]["estimate"] == close(2.4)
    assert found["mostly-easy"]["drop_pp"]["estimate"] == close((5 * 2 + 1 * 10) / 15)
    assert found["mostly-hard"]["drop_pp"]["estimate"] == close((1 * 2 + 5 * 10) / 15)
    assert found["mostly-hard"]["reference_accuracy"] == close(
        (98 + 2 * 95 + 3 * 90 + 4 * 80 + 5 * 60) / 1500, abs=1e-5
    )
    assert found["mostly-hard"]["accuracy"] == close((96 + 2 * 95 + 3 * 90 + 4 * 80 + 5 * 50) / 1500, abs=1e-5)


def test_the_mix_as_it_is_is_the_drop_over_all_items(small):
    _, cell = small.judged(small.answers(lost=LOST, gained={4: 3}))
    assert cell["traffic"]["as-is"]["drop_pp"] == {end: close(cell["drop_pp"]["all"][end]) for end in ENDS}
    assert cell["traffic"]["as-is"]["accuracy"] == close(cell["accuracy"]["all"], abs=1e-5)


def test_ones_own_levels(small):
    mixes = (Traffic(name="night", levels={5: 0.2}), Traffic(name="flat", levels=dict.fromkeys(range(1, 6), 3)))
    summary, cell = small.judged(small.answers(lost=LOST), traffic=mixes)
    assert cell["traffic"]["night"]["drop_pp"] == {end: close(cell["drop_pp"]["5"][end]) for end in ENDS}
    assert cell["traffic"]["flat"]["drop_pp"]["estimate"] == close(2.4)
    assert summary["traffic"][-2] == {"name": "night", "by": "levels", "summary": "", "weights": {"5": 0.2}}


def test_levels_of_a_band_are_weighed_together(small):
    """Bands 1-2, 3, 4-5 with 9, 3 and 3 of 15 when mostly easy; within a band the levels come as often as they are."""
    small.card = {"gated_bands": ((1, 2), (3,), (4, 5)), "split_half": 0.7}
    _, cell = small.judged(small.answers(lost=LOST))
    assert cell["traffic"]["mostly-easy"]["drop_pp"]["estimate"] == close((9 * 1 + 3 * 0 + 3 * 5) / 15)


def test_levels_that_are_too_unreliable_are_not_weighed(small):
    small.card = {"gated_bands": ((1, 2, 3, 4, 5),), "split_half": 0.3}
    _, cell = small.judged(small.answers(lost=LOST), traffic=(Traffic(name="night", levels={5: 1}),))
    for mix in ("mostly-easy", "mostly-hard", "night"):
        assert cell["traffic"][mix] == {
            "reference_accuracy": None, "accuracy": None, "drop_pp": None,
            "reason": "the levels are too unreliable to be weighed apart",
        }  # fmt: skip
    assert cell["traffic"]["as-is"]["drop_pp"]["estimate"] == close(2.4)


def test_a_weighed_level_without_items_leaves_the_mix_undefined(small):
    small.per_level[5] = 0
    mixes = (Traffic(name="easy", levels={1: 1, 2: 1, 5: 0}),)
    _, cell = small.judged(small.answers(lost={1: 2}), traffic=mixes)
    assert cell["traffic"]["mostly-hard"]["drop_pp"] is None
    assert cell["traffic"]["mostly-hard"]["reason"] == "no items here of level 5"
    assert cell["traffic"]["easy"]["drop_pp"]["estimate"] == close(1)


# ------------------------------------------------------------------------------ labels


def test_labels_by_hand(small):
    """Of 50 items a label, a and b lose two each and the other eight one each."""
    _, cell = small.judged(small.answers(lost=LOST), traffic=(Traffic(name="ab", labels={"a": 1, "1": 3, "c": 0}),))
    found = cell["traffic"]
    assert found["labels-even"]["drop_pp"]["estimate"] == close(2.4)
    assert found["worst-label"]["which"] == "a"
    assert found["worst-label"]["drop_pp"]["estimate"] == close(100 * (12 + 2 * 2) / (500 + 2 * 50))
    assert found["ab"]["drop_pp"]["estimate"] == close(4)


def test_labels_that_cost_alike_have_no_worst(small):
    _, cell = small.judged(small.answers(lost={}))
    assert cell["traffic"]["worst-label"]["which"] is None
    assert cell["traffic"]["worst-label"]["drop_pp"]["estimate"] == 0


def test_even_labels_weigh_rare_ones_up(small, edit):
    """Label a keeps 5 of its 50 items, all of them lost: a tenth of even traffic."""
    records = small.answers()
    rare = (records.label == 0) & (np.cumsum(records.label == 0) > 5)
    lost = edit(records, keep=~rare)
    wrong = lost.label == 0
    lost = edit(lost, correct=np.where(wrong, 0.0, lost.correct), prediction=np.where(wrong, 5, lost.prediction))
    _, cell = small.judged(lost, environment={"subsample": True})
    assert cell["traffic"]["as-is"]["drop_pp"]["estimate"] == close(500 / 455)
    assert cell["traffic"]["labels-even"]["drop_pp"]["estimate"] == close(10)
    assert cell["traffic"]["worst-label"]["which"] != "a"  # five items are too few to be picked


def test_the_worst_groups_interval_allows_for_having_been_picked(small):
    small.group = early_and_late
    _, cell = small.judged(small.answers(lost=LOST))
    group = tango_interval(12, 0, 250, 0.975)
    assert [cell["traffic"]["worst-group"]["drop_pp"][end] for end in ENDS] == ends(group)


def test_the_worst_labels_interval_allows_for_having_been_picked(small):
    _, cell = small.judged(small.answers(lost=LOST))
    label = stratified_drop([10, 2], [0, 0], [450, 50], [450, 150], 0.995)
    assert [cell["traffic"]["worst-label"]["drop_pp"][end] for end in ENDS] == ends(label)


def test_episodes_have_no_labels(small):
    interface = ModelInterface(input="x", output="y", labels=("left", "right"), output_kind="actions")
    contract = Contract(domain="control", preprocessing=ControlPreprocessing(), model=interface)
    small.bundles.append(Bundle(name="m", path="m.onnx", sha256="0" * 64, contract=contract, domain="control"))
    _, cell = small.judged(small.answers(lost=LOST))
    for mix in ("labels-even", "worst-label"):
        assert cell["traffic"][mix]["drop_pp"] is None
        assert "spans or episodes have no labels" in cell["traffic"][mix]["reason"]
    assert cell["traffic"]["mostly-hard"]["drop_pp"]["estimate"] == close(52 / 15)


# ------------------------------------------------------------------------------ groups


def test_groups_by_hand(small):
    small.group = early_and_late
    _, cell = small.judged(small.answers(lost=LOST, gained={5: 5}))  # those gained are late
    found, groups = cell["traffic"], cell["groups"]
    assert found["groups-even"]["drop_pp"]["estimate"] == close(100 * (12 / 250 - 5 / 250) / 2)
    assert found["worst-group"]["which"] == "early"
    assert found["worst-group"]["drop_pp"]["estimate"] == close(4.8)
    assert (groups["count"], groups["small"], groups["left_out"]) == (2, 0, 0)
    early, late = groups["listed"]
    assert (early["group"], early["n"], late["group"]) == ("early", 250, "late")
    assert [early["drop_pp"][end] for end in ENDS] == ends(tango_interval(12, 0, 250))
    assert early["loss"]["estimate"] == close(12 / round(250 * early["reference_accuracy"]), abs=1e-5)
    assert early["q"] == close(2 * (2 * 0.5**12 - 0.5**12), rel=1e-3, abs=0)
    assert late["q"] == close(2 * 0.5**5 - 0.5**5, rel=1e-3)
    assert late["drop_pp"]["estimate"] == close(-2)


def test_groups_are_clusters(small):
    small.group = ten_each
    records = small.answers(lost={5: 1})
    rows = np.flatnonzero(np.char.endswith(records.item_id, "3") & (records.correct == 1))[:20]
    records.correct[rows] = 0.0
    records.prediction[rows] = 9
    _, cell = small.judged(records)
    clustered, gate = cell["traffic"]["as-is"]["drop_pp"], cell["drop_pp"]["all"]
    apart = tango_interval(cell["flips"]["right_to_wrong"]["all"], 0, cell["n"]).scaled(100)
    assert clustered["estimate"] == gate["estimate"] == close(apart.estimate)
    assert clustered["high"] - clustered["low"] > 2 * (apart.high - apart.low)
    assert gate["high"] - gate["low"] > 2 * (apart.high - apart.low)
    assert cell["groups"]["listed"][0]["group"] == "speaker-3"
    assert cell["verdict"] == "INCONCLUSIVE"  # taken as independent, 20 items of one speaker fail


def test_ones_own_groups_are_weighed_as_they_are_named(small):
    small.group = early_and_late
    _, cell = small.judged(small.answers(lost=LOST), traffic=(Traffic(name="late", groups={"late": 3, "early": 1}),))
    assert cell["traffic"]["late"]["drop_pp"]["estimate"] == close(4.8 / 4)


def test_the_list_is_capped_and_says_how_many_are_left(small):
    small.group = lambda item: f"s{int(item.rsplit('-', 1)[1]) % 20:02}"
    small.environment("aside", "lossy")
    small.cell("aside", small.answers(lost=LOST))
    _, _cell = small.judged(small.answers(lost=LOST))
    summary = judge(small.workspace)
    aside = next(each for each in summary["cells"] if each["environment"] == "aside")
    named = next(each for each in summary["cells"] if each["environment"] == "env")
    assert (len(named["groups"]["listed"]), named["groups"]["left_out"]) == (10, 10)
    assert (len(aside["groups"]["listed"]), aside["groups"]["left_out"]) == (3, 17)
    drops = [row["drop_pp"]["estimate"] for row in named["groups"]["listed"]]
    assert drops == sorted(drops, reverse=True)


def test_groups_with_too_few_items_say_so(small):
    small.group = lambda item: item.rsplit("-", 1)[1]  # a hundred groups of five items
    _, cell = small.judged(small.answers(lost=LOST))
    assert cell["groups"] == {"count": 100, "small": 100, "listed": [], "left_out": 0}
    assert cell["traffic"]["worst-group"]["reason"] == "no group has 20 items"
    assert cell["traffic"]["groups-even"]["drop_pp"]["estimate"] == close(2.4)


def test_items_without_a_group_stand_for_themselves(small):
    small.group = lambda item: ten_each(item) if item.startswith("item-5") else None
    _, cell = small.judged(small.answers(lost={1: 2}))
    assert cell["traffic"]["as-is"]["drop_pp"] == {end: close(cell["drop_pp"]["all"][end], abs=0.35) for end in ENDS}
    assert cell["traffic"]["groups-even"]["drop_pp"]["estimate"] == 0  # over the groups' items alone
    assert cell["groups"]["small"] == 10


def test_a_lone_group_is_no_group(small):
    small.group = lambda _: "george"
    _, cell = small.judged(small.answers(lost=LOST))
    assert cell["traffic"]["groups-even"]["reason"] == "all items belong to one group"
    assert cell["groups"] == {"count": 1, "small": 0, "listed": [], "left_out": 0}
    assert cell["traffic"]["as-is"]["drop_pp"] == {end: close(cell["drop_pp"]["all"][end]) for end in ENDS}


def test_without_groups_nothing_is_said_of_them(small):
    summary, cell = small.judged(small.answers(lost=LOST))
    assert cell["groups"] is None
    assert set(cell["traffic"]) == {"as-is", "mostly-easy", "mostly-hard", "labels-even", "worst-label"}
    assert {mix["name"] for mix in summary["traffic"]} == set(cell["traffic"])


# --------------------------------------------------------------- cells that are not whole


def test_a_cell_without_pairs_has_null(small):
    small.group = early_and_late
    summary, cell = small.judged()
    assert (cell["traffic"], cell["groups"]) == (None, None)
    assert json.dumps(summary, allow_nan=False)


def test_a_subsample_is_weighed_on_its_own_items(small, edit):
    records = small.answers(lost=LOST)
    first = np.char.find(records.item_id, "-0000") >= 0  # ten items a level
    _, cell = small.judged(edit(records, keep=first), environment={"subsample": True})
    assert cell["traffic"]["mostly-hard"]["drop_pp"]["estimate"] == close((20 + 5 * 100) / 15)
    assert cell["traffic"]["worst-label"]["reason"] == "no label has 20 items"


def test_a_format_that_did_not_run_keeps_its_numbers(small):
    other = Execution(engine="x", provider="CPU", requested="float16", executed="float32", matches=False)
    _, cell = small.judged(small.answers(lost=LOST), cell={"execution": other})
    assert cell["verdict"] == "NO DATA"
    assert cell["traffic"]["mostly-hard"]["drop_pp"]["estimate"] == close(52 / 15)


# ------------------------------------------------------------------------ what is wrong


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({}, "exactly one of levels, labels and groups; it has none"),
        ({"levels": {1: 1}, "labels": {"a": 1}}, "it has levels and labels"),
        ({"levels": {}}, "all zero or missing"),
        ({"labels": {"a": 0.0}}, "all zero or missing"),
        ({"levels": {6: 1}}, "unknown level 6; valid: 1, 2, 3, 4, 5"),
        ({"levels": {"hard": 1}}, "unknown level 'hard'; valid: 1, 2, 3, 4, 5"),
        ({"groups": {"a": -1}}, "greater than or equal to 0"),
        ({"groups": {"a": float("nan")}}, "finite number|greater than or equal"),
        ({"groups": {"a": float("inf")}}, "finite number"),
        ({"levels": {1: 1}, "name": "as-is"}, "the name 'as-is' is taken; every report has as-is, mostly-easy"),
        ({"levels": {1: 1}, "name": "no good"}, "pattern"),
        ({"weights": {"a": 1}}, "Extra inputs"),
    ],
)
def test_mixes_that_are_none(fields, said):
    with pytest.raises(ValidationError, match=said):
        Traffic(**{"name": "night", **fields})


def test_two_mixes_of_one_name(small):
    mixes = (Traffic(name="night", levels={1: 1}), Traffic(name="night", levels={5: 1}))
    with pytest.raises(ValidationError, match="two traffic mixes are called 'night'"):
        small.judged(traffic=mixes)


@pytest.mark.parametrize(
    ("mix", "said"),
    [
        (Traffic(name="x", labels={"k": 1}), "label of the traffic mix 'x': 'k'.* Valid: a, b, c, d, e, f, g, h, i, j"),
        (Traffic(name="x", labels={"10": 1}), "label of the traffic mix 'x': '10'"),
        (Traffic(name="x", groups={"erly": 1}), "'erly'. Did you mean 'early'. Valid: early, late"),
    ],
)
def test_unknown_labels_and_groups(small, mix, said):
    small.group = early_and_late
    with pytest.raises(UnknownNameError, match=said):
        small.judged(small.answers(), traffic=(mix,))


def test_many_groups_are_not_all_listed():
    groups = {"task": [f"speaker-{k:03}" for k in range(500)]}
    with pytest.raises(UnknownNameError, match=r"These are 20 of 500\.") as caught:
        check_names([Traffic(name="x", groups={"speaker-0077": 1})], {}, groups)
    assert "Did you mean" in str(caught.value)


def test_a_group_where_items_come_in_none(small):
    with pytest.raises(UnknownNameError, match="none, for no item has one"):
        small.judged(small.answers(), traffic=(Traffic(name="x", groups={"a": 1}),))


def test_a_broken_reference_is_an_error_and_no_unknown_group(small):
    small.group = early_and_late
    small.environment("env", "lossy")
    small.cell("reference", None, status="error", reason="it broke")
    small.cell("env", small.answers())
    summary = judge(small.finish(deployments=("env",), traffic=(Traffic(name="x", groups={"early": 1}),)))
    assert summary["verdict"] == "ERROR"


def test_a_plan_without_mixes_reads_and_digests_as_before(small):
    plan = small.finish().read_plan()
    assert "traffic" not in plan.model_dump(mode="json")
    mix = Traffic(name="night", levels={5: 1, 1: 0.5})
    planned = plan.model_copy(update={"traffic": (mix,)})
    assert RunPlan.model_validate_json(planned.model_dump_json()).traffic == (mix,)


# ------------------------------------------------------------------------- gapshift.toml

SETTINGS = """
[traffic.night]
summary = "Street cameras after dark"
levels = {4 = 1, 5 = 3}
[traffic.kiosk.labels]
a = 0.9
"b c" = 0.1
"""


@pytest.fixture
def written(tmp_path, monkeypatch):
    """Writes ``gapshift.toml`` into the working directory and reads its mixes."""
    monkeypatch.chdir(tmp_path)

    def write(text):
        (tmp_path / "gapshift.toml").write_text(text, encoding="utf-8")
        return user_traffic()

    return write


def test_mixes_in_the_users_settings(written):
    night, kiosk = written(SETTINGS)
    assert night == Traffic(name="night", summary="Street cameras after dark", levels={4: 1, 5: 3})
    assert kiosk.weights == {"a": 0.9, "b c": 0.1}


def test_no_settings_no_mixes(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert user_traffic() == ()


@pytest.mark.parametrize(
    ("text", "error", "said"),
    [
        ("[traffic]\nnight = 3", SettingsError, r"gapshift.toml \[traffic.night\] is not a table"),
        ("[traffic.night]\nname = 'x'", SettingsError, r"\[traffic.night\]: the table's header is the name"),
        ("[traffic.night.levels]\n6 = 1", SettingsError, "unknown level '6'; valid: 1, 2, 3, 4, 5"),
        ("[traffic.night.levels]\n5 = nan", SettingsError, r"\[traffic.night\]: levels.5"),
        ("[traffic.night]\nlevel = {5 = 1}", UnknownNameError, "Did you mean 'levels'"),
        ("[traffic.night]", SettingsError, "exactly one of levels, labels and groups"),
        ("[traffics.night]", UnknownNameError, "Did you mean 'traffic'"),
    ],
)
def test_settings_that_are_no_mixes(written, text, error, said):
    with pytest.raises(error, match=said):
        written(text)


# ------------------------------------------------------------------------------ the page


def test_the_page_says_what_another_mix_would_cost(small):
    mixes = (Traffic(name="night", summary="Street cameras after dark", levels={5: 3, 4: 1}),)
    summary, _ = small.judged(small.answers(lost=LOST), traffic=mixes)
    for text in (render_html(summary), render_markdown(summary)):
        assert "env: under the mix night the drop would be 7.5" in text
        assert "rather than 2.4" in text
        assert "night (Street cameras after dark): 75% level 5, 25% level 4." in text
        assert "items come in no groups" in text


def test_the_page_lists_groups(small):
    small.group = early_and_late
    summary, _ = small.judged(small.answers(lost=LOST))
    for text in (render_html(summary), render_markdown(summary)):
        assert "Group by group" in text
        assert "The items of task come in 2 groups." in text
        assert "worst group" in text


def test_the_page_of_a_run_where_nothing_changed(small):
    summary, _ = small.judged(small.answers())
    assert "no mix of requests has a drop" in render_html(summary)


def test_the_page_where_no_mix_makes_it_worse(small):
    summary, _ = small.judged(small.answers(lost=dict.fromkeys(range(1, 6), 3)))
    assert "does a named deployment&#39;s drop grow by 0.5 pp" in render_html(summary)


def test_a_summary_without_mixes_has_no_section(small):
    summary, _ = small.judged(small.answers(lost=LOST))
    del summary["traffic"]
    assert "Under other traffic" not in render_html(summary)


def test_every_built_in_mix_is_described(small):
    small.group = early_and_late
    summary, cell = small.judged(small.answers(lost=LOST))
    assert [mix["name"] for mix in summary["traffic"]] == list(BUILT_IN_TRAFFIC) == list(cell["traffic"])
    assert all(mix["summary"] and mix["by"] in ("levels", "labels", "groups") for mix in summary["traffic"])
