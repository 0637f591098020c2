"""Who chooses a static quantiser's items: how many, of which levels; and what a quantiser that fails leaves behind."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gapshift.domains.base import Dataset, InMemory
from gapshift.envs.calibration import calibration_address, chosen_items
from gapshift.envs.cells import TaskItems
from gapshift.envs.runner import Matrix, evaluate
from gapshift.errors import NotApplicableError
from gapshift.schema import Deployment, Environment, Item, Precision, Preprocessing, Resize
from gapshift.workspace import Workspace

LEVELS = {f"c{row:02d}": 1 + row % 5 for row in range(30)}
"""Six items of each level."""


def _set(ids: Sequence[str]) -> Dataset:
    return InMemory("set", ("a",), [Item(item_id, 0) for item_id in ids], [b"" for _ in ids], "vision")


def _chosen(
    levels: Sequence[int] = (),
    items: int | None = None,
    strata: Mapping[str, int] = LEVELS,
    unreadable: Sequence[int] = (),
    ids: Sequence[str] = tuple(LEVELS),
) -> list[str]:
    precision = Precision(format="int8-qdq", calibration_levels=tuple(levels), calibration_items=items)
    readable = ~np.isin(np.arange(len(ids)), unreadable)
    rows = chosen_items(precision, TaskItems(_set(ids), _set(ids), strata), readable)
    assert rows.tolist() == sorted(set(rows.tolist()))
    return [ids[row] for row in rows]


def test_all_readable_items_where_nothing_is_asked() -> None:
    assert _chosen() == list(LEVELS)
    assert _chosen(unreadable=[0, 7]) == [item for item in LEVELS if item not in ("c00", "c07")]
    assert _chosen(strata={}) == list(LEVELS)


@pytest.mark.parametrize("level", [1, 5])
def test_one_level_alone(level: int) -> None:
    assert _chosen([level]) == [item for item, its in LEVELS.items() if its == level]
    assert {LEVELS[item] for item in _chosen([level], 4)} == {level}
    assert len(_chosen([level], 4)) == 4


def test_several_levels_give_equally_many() -> None:
    for items, share in ((None, 6), (10, 2), (14, 2), (5, 1)):
        found = [LEVELS[item] for item in _chosen([1, 2, 3, 4, 5], items)]
        assert sorted(found) == sorted([1, 2, 3, 4, 5] * share)
    fewer = {**LEVELS, "c00": 2}  # level 1 has five
    assert len(_chosen([1, 2], strata=fewer)) == 10


@given(st.permutations(list(LEVELS)), st.integers(1, 5), st.integers(1, 6))
def test_the_draw_depends_on_ids_alone(ids: list[str], level: int, items: int) -> None:
    assert set(_chosen([level], items, ids=ids)) == set(_chosen([level], items))
    assert set(_chosen([], items, ids=ids)) == set(_chosen([], items))


def test_a_smaller_set_is_part_of_a_larger_one() -> None:
    for smaller, larger in ((2, 5), (5, 30)):
        assert set(_chosen([], smaller)) < set(_chosen([], larger))
    assert set(_chosen([5], 2)) < set(_chosen([5], 5))


def test_fewer_than_asked_is_not_applicable() -> None:
    with pytest.raises(NotApplicableError, match=r"asks for 64 items and the quantiser's set has 30\. Give more with"):
        _chosen([], 64)
    with pytest.raises(NotApplicableError) as caught:
        _chosen([1, 5], 14)
    assert str(caught.value) == (
        "14 calibration items of levels 1 and 5 are asked for, 7 of each, and the quantiser's set has 6 of level 1. "
        "Evaluate on more items (a tenth is withheld for the quantiser, at most 128), ask for fewer "
        "(precision.calibration_items), or leave this environment out."
    )
    with pytest.raises(NotApplicableError, match=r"has 5 of level 1"):
        _chosen([1], 6, unreadable=[0])
    with pytest.raises(
        NotApplicableError, match=r"^all calibration items of level 2 are asked for, .* has 0 of level 2"
    ):
        _chosen([2], strata={"c00": 1})


def test_items_without_levels_are_not_applicable() -> None:
    with pytest.raises(NotApplicableError, match=r"none of the 30 has one\. Leave --calibration-data out, so that"):
        _chosen([5], strata={})


def test_other_levels_are_another_choice() -> None:
    task = TaskItems(_set(list(LEVELS)), _set(list(LEVELS)), LEVELS)
    again = replace(task, strata={**LEVELS, "c00": 5})
    judged = replace(task, strata={**LEVELS, "elsewhere": 5})
    hard, all_of_them = Precision(format="int8-qdq", calibration_levels=(5,)), Precision(format="int8-qdq")
    assert calibration_address(hard, "d", task) != calibration_address(hard, "d", again)
    assert calibration_address(hard, "d", task) == calibration_address(hard, "d", judged)
    assert calibration_address(hard, "d", task) != calibration_address(hard, "e", task)
    assert calibration_address(all_of_them, "d", task) == calibration_address(all_of_them, "d", again) == "d"
    assert calibration_address(Precision(format="float16"), "d", task) == ""


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        ({"format": "float16", "calibration_levels": (5,)}, "float16 is not calibrated"),
        ({"format": "int4-weights", "calibrator": "entropy"}, "int4-weights has no calibrator"),
        ({"format": "float16", "per_channel": True}, "per_channel means nothing for float16"),
        ({"format": "int8-qdq", "keep_float32": ("Conv",)}, "keep_float32 means nothing for int8-qdq"),
        ({"format": "int8-qdq", "calibration_levels": (5, 5)}, "names a level twice"),
        ({"format": "int8-qdq", "calibration_levels": (1, 5), "calibration_items": 1}, "smaller than the number"),
    ],
)
def test_settings_that_mean_nothing_are_refused(settings: dict[str, Any], problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        Precision.model_validate(settings)


# ------------------------------------------------------------------------- in a run


def _environment(name: str, **precision: Any) -> Environment:
    deviations = {f"precision.{key}": value for key, value in precision.items()}
    Deployment(preprocessing=Preprocessing(resize=Resize(size=(8, 8)))).deviate(deviations)
    return Environment(name=name, kind="lossy", summary="A test.", deviations=deviations)


@pytest.fixture
def matrix(small: Callable[..., Any], tmp_path: Path) -> Matrix:
    made = small("vision", tmp_path, n=10)
    ids = [item.id for data in (made.judged, made.calibration) for item in data.items]
    strata = {item_id: 1 + place % 5 for place, item_id in enumerate(ids)}
    return Matrix((made.bundle,), (), {"vision": TaskItems(made.judged, made.calibration, strata)})


def _statuses(workspace: Workspace, matrix: Matrix) -> dict[str, tuple[str, str]]:
    evaluate(workspace, matrix)
    found = {}
    for environment in matrix.environments:
        cell = workspace.read_cell("vision", environment.name)
        assert cell is not None
        found[environment.name] = cell[0].status, cell[0].reason
    return found


def test_sets_of_other_levels_make_other_models(matrix: Matrix, tmp_path: Path) -> None:
    chosen = {"easy": (1,), "hard": (5,), "mix": (1, 2, 3, 4, 5)}
    environments = [
        _environment(name, format="int8-qdq", calibration_items=5, calibration_levels=levels)
        for name, levels in chosen.items()
    ]
    workspace = Workspace(tmp_path / "run")
    statuses = _statuses(workspace, replace(matrix, environments=tuple(environments)))
    assert set(statuses.values()) == {("ok", "")}
    files = list((workspace.root / "variants").iterdir())
    assert len({file.read_bytes() for file in files}) == len(files) == 3


def test_a_quantiser_that_fails_is_its_own_cells_trouble(
    matrix: Matrix, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Named: format, model, cause, next step; and the other cells have their answers."""

    def fails(*_: Any, **__: Any) -> onnx.ModelProto:
        raise RuntimeError("no scale for\n tensor 'r0'")

    monkeypatch.setattr("gapshift.export.precision.quantize_dynamic", fails)
    environments = (
        _environment("broken", format="int8-dynamic"),
        _environment("too-many", format="int8-qdq", calibration_items=1000),
        _environment("mixed", format="float16", keep_float32=["LSTM"]),
        _environment("static", format="int8-qdq"),
        _environment("half", format="float16"),
        _environment("four", format="int4-weights"),
    )
    statuses = _statuses(Workspace(tmp_path / "run"), replace(matrix, environments=environments))
    model = tmp_path / "vision.onnx"
    assert statuses["broken"] == (
        "error",
        f"Cannot convert {model} to int8-dynamic: RuntimeError: no scale for tensor 'r0'. "
        "Leave environments of this format out, or convert the model yourself and check the result.",
    )
    assert statuses["too-many"][0] == statuses["mixed"][0] == "not_applicable"
    assert "asks for 1000 items and the quantiser's set has 75" in statuses["too-many"][1]
    assert "keep_float32 names LSTM, and the graph has none of them. It has Conv, " in statuses["mixed"][1]
    assert statuses["static"] == statuses["half"] == statuses["four"] == ("ok", "")


def test_a_set_without_levels_says_what_to_do(matrix: Matrix, tmp_path: Path) -> None:
    items = replace(matrix.tasks["vision"], strata={})
    environments = (
        _environment("hard", format="int8-qdq", calibration_levels=[5]),
        _environment("static", format="int8-qdq"),
    )
    unrated = replace(matrix, tasks={"vision": items}, environments=environments)
    statuses = _statuses(Workspace(tmp_path / "run"), unrated)
    assert statuses["hard"][0] == "not_applicable"
    assert "none of the 75 has one. Leave --calibration-data out" in statuses["hard"][1]
    assert statuses["static"] == ("ok", "")
