"""What the findings about layers say, and how causes are judged."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from gapshift.reports.causes import judge_causes
from gapshift.reports.layer_words import finding, passes_words, scale_words, weight_words
from gapshift.reports.renderers.layer_chart import Point, error_chart
from gapshift.reports.renderers.layers import console_layers, render_layers
from gapshift.reports.statistics import holm, mcnemar_midp

RNG = np.random.default_rng(5)


# ------------------------------------------------------------------------ causes


def _flags(n: int, share: float) -> Any:
    return np.arange(n) < share * n


def test_the_cause_is_the_candidate_that_agrees_most_and_p_is_holm_s() -> None:
    before = _flags(100, 0.5)
    after = {"half": _flags(100, 0.6), "all": _flags(100, 1.0), "same": before}
    found = judge_causes(before, after, 0.05)
    assert (found["cause"], found["restores"], found["as_good"]) == ("all", True, [])
    rows = {row["name"]: row for row in found["tried"]}
    assert found["tried"][0]["name"] == "all"
    expected = holm([mcnemar_midp(0, 10), mcnemar_midp(0, 50), 1.0])
    assert [rows[name]["p_holm"] for name in ("half", "all", "same")] == pytest.approx(expected.tolist())
    assert rows["half"]["named"]
    assert not rows["same"]["named"]


def test_what_cannot_be_told_from_the_cause_is_named_beside_it() -> None:
    before, almost = _flags(200, 0.4), _flags(200, 1.0)
    almost[:1] = False
    found = judge_causes(before, {"one": _flags(200, 1.0), "other": almost}, 0.05)
    assert (found["cause"], found["as_good"]) == ("one", ["other"])


def test_a_candidate_that_agrees_less_is_no_cause_however_small_its_p() -> None:
    found = judge_causes(_flags(100, 0.9), {"worse": _flags(100, 0.1)}, 0.05)
    assert found["cause"] is None
    assert found["tried"][0]["p_holm"] < 1e-6


@pytest.mark.parametrize(("after", "cause"), [(0.74, None), (0.75, "it")])
def test_a_cause_brings_half_of_what_is_missing_back(after: float, cause: str | None) -> None:
    found = judge_causes(_flags(400, 0.5), {"it": _flags(400, after)}, 0.05)
    assert (found["helps"], found["cause"]) == ("it", cause)
    assert found["regained"] == pytest.approx((after - 0.5) / 0.5)
    by_labels = judge_causes(_flags(400, 0.5), {"it": _flags(400, after)}, 0.05, truth=True)
    assert (by_labels["helps"], by_labels["cause"], by_labels["regained"]) == ("it", None, None)


def test_nothing_tried_has_no_cause() -> None:
    found = judge_causes(_flags(10, 0.5), {}, 0.05)
    assert (found["cause"], found["tried"], found["restores"]) == (None, [], False)


def test_other_items_are_refused() -> None:
    with pytest.raises(ValueError, match="three answered 3 items and the reference 4"):
        judge_causes(np.ones(4, bool), {"three": np.ones(3, bool)}, 0.05)


def test_no_candidate_is_named_too_often_where_none_is_one() -> None:
    """Eight candidates that agree as often as the reference: any is named in at most 5% of 400 runs (standard error
    1.1%)."""
    named = 0
    for _ in range(400):
        before = RNG.random(80) < 0.7
        after = {str(place): np.where(RNG.random(80) < 0.3, RNG.random(80) < 0.7, before) for place in range(8)}
        named += judge_causes(before, after, 0.05)["helps"] is not None
    assert named / 400 <= 0.05 + 3 * 0.011


# ------------------------------------------------------------------------- words


def _difference(error: float | None = 0.0, **more: Any) -> dict[str, Any]:
    return {
        "error": error, "finite": error is not None, "same_shape": True, "largest": error, "cosine": 1.0,
        "changed": 0.5, "levels": {"1": error, "5": error}, "range": [-1, 1], "other_range": [-1, 1],
    } | more  # fmt: skip


def _layer(tensor: str, error: float | None, own: float | None = None, **more: Any) -> dict[str, Any]:
    node = {"tensor": tensor, "node": f"/{tensor}/Conv", "operator": "Conv"}
    settled = {"reference": node, "stage": "computed", "inputs": 0.002, "floor": 1e-7, "threshold": 1e-5}
    return {**node, **_difference(error), **settled, "own": own, "own_finite": True} | more


def _entry(**more: Any) -> dict[str, Any]:
    entry: dict[str, Any] = {
        "bundle": "model", "environment": "int8-qdq", "kind": "lossy", "deviations": {"precision.format": "int8-qdq"},
        "drift": {"n": 3000, "changed": 34, "lost": 20, "gained": 3}, "status": "ok", "reason": "",
        "engine": "onnxruntime", "items": 500, "given": _difference(), "answers": None,
        "outputs": {**_difference(0.2), "changed_answers": 0.1}, "opening": 0.0, "same_file": False, "parts": 1,
        "layers": [_layer("conv1", 0.004, 0.004), _layer("conv2", 0.31, 0.3)],
        "unmatched": [{"tensor": "scale", "node": "q", "operator": "Mul"}], "unmatched_reference": [],
        "leaving": {"given": False, "first": "conv1", "blamed": "conv2", "also": [], "typical": 0.004, "weights": [],
                    "scale": None},
        "passes": {"errors": {"basic": 0.0, "extended": 0.0, "all": 5e-6}, "changed": {"basic": 0.0}, "level": None,
                   "applied": [], "restoring": [], "together": [], "left": {}},
        "explained": False, "causes": [], "notes": [],
    }  # fmt: skip
    entry |= more
    return entry | {"finding": finding(entry)}


def _summary(*cells: dict[str, Any], **more: Any) -> dict[str, Any]:
    rules = {
        "floor_times": 10, "least_threshold": 1e-5, "stands_out": 5, "pass_threshold": 1e-4, "noticeable": 0.01,
        "reproduces": 1e-3,
    }  # fmt: skip
    base = {"schema_version": 1, "command": "layers", "run": "run", "items": 500, "against": None, "rules": rules}
    return json.loads(json.dumps({**base, "most_cells": 8, "cells": list(cells), "left_out": []} | more))


def test_a_blamed_layer_is_named_with_its_errors() -> None:
    assert _entry()["finding"] == (
        "leaves at /conv2/Conv (Conv): normalised error 0.31, inputs to it 0.002, on its own 0.3, the other layers "
        "0.004"
    )


def test_a_corrupted_block_is_named_with_its_place() -> None:
    weight = {
        "name": "conv2.weight", "error": 0.2, "outliers": 288, "size": 2304, "shape": [16, 16, 3, 3],
        "block": [[4, 5], [0, 15], [0, 2], [0, 2]], "factor": 0.99, "beside": 0.2,
    }  # fmt: skip
    small = weight | {"name": "conv2.bias", "error": 1e-5}
    leaving = {**_entry()["leaving"], "weights": [weight, small]}
    said = _entry(leaving=leaving)["finding"]
    assert said.endswith("weight conv2.weight differs by 0.2, within [4:6, 0:16, 0:3, 0:3]: 288 of 2,304 values")
    assert weight_words(weight | {"factor": 2.0, "beside": 0.001}) == "weight conv2.weight is 2 times the reference's"


def test_a_scale_is_too_small_or_too_coarse() -> None:
    ranges = {"range": [0.0, 5.3], "other_range": [0.0, 0.53]}
    assert scale_words({"step": 0.002, "needed": 0.02, **ranges}) == (
        "its scale reaches from 0 to 0.53, and the reference's values from 0 to 5.3"
    )
    assert (
        scale_words({"step": 0.2, "needed": 0.02, **ranges})
        == "its step 0.2 is 10 times what the reference's range takes"
    )


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({}, "from level extended on; disabling none of its 2 passes restores them"),
        ({"restoring": ["GeluFusion"]}, "from level extended on; without GeluFusion it does not"),
        ({"restoring": ["A", "B"]}, "without any one of A, B it does not"),
        ({"together": ["A", "B"]}, "without A and B together it does not, and no single one is enough"),
    ],
)
def test_a_pass_is_named(changes: dict[str, Any], said: str) -> None:
    passes = {**_entry()["passes"], "level": "extended", "errors": {"extended": 0.11}, "applied": ["A", "B"]} | changes
    assert said in passes_words(passes)
    assert "changes the outputs by 0.11" in passes_words(passes)


def test_inputs_are_named_or_the_nearest_is() -> None:
    near = {"name": "bgr", "words": "color = BGR", "left": 0.0, "is_cause": True}
    leaving = {**_entry()["leaving"], "given": True, "blamed": None}
    changed = {"given": _difference(0.56), "same_file": True, "leaving": leaving}
    assert _entry(causes=[near], **changed)["finding"] == (
        "is given other inputs (normalised error 0.56): color = BGR (bgr) makes them (left: 0); its nodes are the "
        "reference's; its outputs differ by 0.2"
    )
    far = near | {"left": 0.05, "is_cause": False}
    assert (
        "that no way of preparing tried makes; the nearest, bgr, leaves 0.05"
        in _entry(causes=[far], **changed)["finding"]
    )
    other = changed | {"given": _difference(None, same_shape=False)}
    assert _entry(causes=[], **other)["finding"].startswith("is given other inputs (of another shape)")


def test_a_cell_s_own_deviations_explain_its_inputs() -> None:
    two = {"preprocessing.jpeg_quality": 60, "shift.severity": 3, "runtime.batch_size": 1}
    changed = {"given": _difference(0.56), "explained": True}
    assert _entry(deviations=two, **changed)["finding"].startswith(
        "is given other inputs (normalised error 0.56), which its own deviations (jpeg_quality = 60, "
        "shift.severity = 3) make together; `gapshift explain` takes them apart; "
    )
    one = _entry(deviations={"preprocessing.jpeg_quality": 60}, **changed)["finding"]
    assert "which its own deviation (jpeg_quality = 60) makes; leaves" in one
    part = _entry(deviations={"preprocessing.jpeg_quality": 60}, **(changed | {"explained": False}))["finding"]
    assert "of which its own deviations (jpeg_quality = 60) are a part" in part


def test_what_cannot_be_opened_compares_outputs_alone() -> None:
    said = _entry(engine="openvino", layers=None, leaving=None, passes=None)["finding"]
    assert said == (
        "openvino cannot be opened, so only its outputs are compared: normalised error 0.2, 10.0% of items have "
        "another highest score"
    )


def test_no_layer_leaving_and_none_standing_out_are_said() -> None:
    none = {"given": False, "first": None, "blamed": None, "also": [], "typical": 0.0, "weights": [], "scale": None}
    assert _entry(leaving=none)["finding"] == "no layer leaves (largest error 0.31, at /conv2/Conv (Conv))"
    weight = {
        "name": "w",
        "error": 0.1,
        "outliers": 0,
        "size": 4,
        "shape": [4],
        "block": [],
        "factor": 1,
        "beside": 0.1,
    }
    unseen = _entry(leaving=none | {"weights": [weight]})["finding"]
    assert unseen.endswith("; weight w differs by 0.1, which no item shows")
    assert _entry(leaving=none, layers=[])["finding"].startswith("no tensor of the two files has the same name")
    spread = none | {"first": "conv1", "typical": 0.2}
    assert "no single layer stands out" in _entry(leaving=spread)["finding"]


@pytest.mark.parametrize("status", ["error", "skipped", "not_applicable"])
def test_a_cell_that_could_not_be_examined_says_why(status: str) -> None:
    entry = _entry(status=status, reason="it lacks an operator")
    assert entry["finding"] == f"{status.replace('_', ' ')}: it lacks an operator"
    assert entry["finding"] in console_layers(_summary(entry))


def _answered(**more: Any) -> dict[str, Any]:
    row = {
        "name": "statistics-half", "words": "mean = [0.5]", "after": 0.995, "gained": 180, "lost": 1, "p": 1e-40,
        "p_holm": 1e-39, "named": True, "of": "preparing", "settings": {"preprocessing.mean": [0.5]},
    }  # fmt: skip
    answers = {
        "trusted": "the training-side answers", "truth": False, "n": 375, "before": 0.5, "tried": [row],
        "helps": "statistics-half",
        "regained": 0.99, "cause": "statistics-half", "as_good": [], "restores": True,
        "candidates": 90, "unfit": 8, "screening": 125,
    } | more  # fmt: skip
    entry = {
        "bundle": "m",
        "environment": "reference",
        "status": "ok",
        "reason": "",
        "layers": None,
        "answers": answers,
    }
    return entry | {"finding": finding(entry)}


def test_a_wrong_contract_is_named_with_its_agreement_before_and_after() -> None:
    assert _answered()["finding"] == (
        "agrees with the training-side answers on 50.0% of 375 items; prepared with mean = [0.5] (statistics-half), on "
        "99.5% (p < 1e-6)"
    )
    right = _answered(truth=True, cause=None, regained=None)["finding"]
    assert right.startswith("is right on 50.0% of 375 items; prepared with")
    assert "; that helps, and labels alone do not say how much is missing: compare with the file as it was" in right
    little = _answered(cause=None, regained=0.1)["finding"]
    assert "; that helps and explains little: 10.0% of what is missing comes back; compare with the file" in little
    assert _answered(as_good=["other"])["finding"].endswith("; as good: other")


def test_another_order_of_labels_is_claimed_only_where_it_is_the_cause() -> None:
    row = {
        "name": "labels-exchanged", "words": "'cat' and 'dog' are exchanged", "after": 1.0, "p_holm": 1e-9,
        "of": "labels", "settings": {},
    }  # fmt: skip
    told = {"tried": [row], "helps": "labels-exchanged"}
    said = "the labels stand in another order: 'cat' and 'dog' are exchanged (labels-exchanged), on 100.0% (p < 1e-6)"
    assert _answered(**told, cause="labels-exchanged")["finding"].endswith(said)
    helped = _answered(**told, cause=None, regained=None, truth=True)["finding"]
    assert "; read with the labels in another order: 'cat' and 'dog' are exchanged" in helped


def test_no_cause_and_nothing_to_explain_are_said() -> None:
    none = _answered(cause=None, helps=None)["finding"]
    assert "and none of the 82 ways of preparing tried changes that; compare with the file as it was" in none
    assert _answered(before=1.0, cause=None, helps=None)["finding"].endswith("there is nothing to explain")


# ---------------------------------------------------------------------- the page


def test_the_page_shows_each_layer_and_lists_what_has_no_counterpart() -> None:
    texts = render_layers(_summary(_entry(), _answered()))
    for text in texts.values():
        assert "/conv2/Conv" in text
        assert "statistics-half" in text
        assert "1 tensors of the cell without a counterpart by name" in text
    assert "<svg" in texts["layers.html"]
    assert "blamed" in texts["layers.html"]


def test_the_page_escapes_names() -> None:
    layer = _layer("<b>", 0.3, 0.3)
    leaving = {**_entry()["leaving"], "blamed": "<b>"}
    page = render_layers(_summary(_entry(layers=[layer], leaving=leaving, bundle="<script>")))["layers.html"]
    assert "<script>" not in page
    assert "<b>" not in page


def test_settings_that_mend_the_contract_are_there_to_paste() -> None:
    summary = _summary(_answered())
    assert "      [preprocessing]\n      mean = [0.5]\n" in console_layers(summary)
    texts = render_layers(summary)
    assert ">mean = [0.5]</th>" in texts["layers.html"]
    assert "| mean = \\[0.5\\] |" in texts["layers.md"]


def test_left_out_cells_are_counted_and_an_empty_page_says_so() -> None:
    left = [{"bundle": "m", "environment": f"e{n}"} for n in range(5)]
    text = console_layers(_summary(_entry(), left_out=left))
    assert "5 more cells drift: m in e0, m in e1, m in e2 and 2 more." in text
    assert "No cell of this run drifts" in console_layers(_summary())
    assert "No cell of this run drifts" in render_layers(_summary())["layers.html"]


def test_the_chart_marks_the_blamed_layer_and_survives_nothing() -> None:
    points = [Point("a", 0.0, 0.0, 1e-7), Point("b", 0.3, 0.3, None, blamed=True), Point("c", None, None, None)]
    drawn = error_chart(points, "errors")
    assert ">b</text>" in drawn
    assert "nan" not in drawn
    assert error_chart([], "errors").startswith("<svg")
    assert error_chart([Point("zero", 0.0, None, 0.0)], "errors").startswith("<svg")
