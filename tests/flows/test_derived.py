"""Runs made of another run's bundles and items, whose environments are chosen one after the other."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from gapshift.errors import SettingsError, UnknownNameError, WorkspaceError
from gapshift.flows.again import derive
from gapshift.flows.evaluate import evaluate_run
from gapshift.flows.explain import explain_run
from gapshift.flows.layers import layers_run
from gapshift.flows.reporting import Silent
from gapshift.records import read_cell
from gapshift.reports.renderers.attribution import console_attribution
from gapshift.schema import Environment
from gapshift.workspace import Workspace

MODEL = "digits-cnn-random-s0"


def _events(workspace: Workspace) -> dict[str, str]:
    return {
        event["environment"]: event["event"] for event in workspace.journal() if event["event"] in ("cell", "shared")
    }


def _made(name: str, **deviations: object) -> Environment:
    return Environment(name=name, kind="lossy", summary="Made here.", deviations=deviations)


def test_what_was_answered_elsewhere_is_copied_under_its_new_name(tiny_study: Path, tmp_path: Path) -> None:
    source = Workspace(tiny_study)
    same = _made("called-otherwise", **{"precision.format": "int8-dynamic"})
    other = _made("one-item-batches", **{"runtime.batch_size": 1})
    with derive(source, tmp_path / "out", "try", "trials", bundles=(MODEL,)) as derived:
        derived.evaluate((same,), Silent())
        derived.evaluate((other,), Silent())
        names = [environment.name for environment in derived.target.read_plan().environments]
    assert names == ["called-otherwise", "one-item-batches"]
    assert _events(derived.target) == {"reference": "shared", "called-otherwise": "shared", "one-item-batches": "cell"}
    info, records = read_cell(derived.target.cell_path(MODEL, "called-otherwise"))
    first, as_there = read_cell(source.cell_path(MODEL, "int8-dynamic"))
    assert (info.environment, info.key) == ("called-otherwise", first.key)
    assert records.prediction.tolist() == as_there.prediction.tolist()


def test_a_second_derivation_runs_nothing(tiny_study: Path, tmp_path: Path) -> None:
    run = shutil.copytree(tiny_study, tmp_path / "run")
    one = _made("one", **{"runtime.batch_size": 1})
    with derive(Workspace(run), run / "first", "try", "trials", bundles=(MODEL,)) as derived:
        derived.evaluate((one,), Silent())
    with derive(Workspace(run), run / "second", "again", "trials", bundles=(MODEL,)) as derived:
        derived.evaluate((one,), Silent())
    assert set(_events(derived.target).values()) == {"shared"}


def test_a_damaged_cell_elsewhere_runs_here(tiny_study: Path, tmp_path: Path) -> None:
    run = shutil.copytree(tiny_study, tmp_path / "run")
    path = Workspace(run).cell_path(MODEL, "int8-dynamic")
    content = bytearray(path.read_bytes())
    content[4:60] = bytes(56)  # its header, at the end, stays whole
    path.write_bytes(content)
    with derive(Workspace(run), tmp_path / "out", "try", "trials", bundles=(MODEL,)) as derived:
        derived.evaluate((_made("int8-dynamic", **{"precision.format": "int8-dynamic"}),), Silent())
    assert _events(derived.target)["int8-dynamic"] == "cell"


def test_a_cell_elsewhere_that_became_another_runs_here(tiny_study: Path, tmp_path: Path) -> None:
    run = shutil.copytree(tiny_study, tmp_path / "run")
    there = Workspace(run)
    with derive(there, tmp_path / "out", "try", "trials", bundles=(MODEL,)) as derived:
        shutil.copy(there.cell_path(MODEL, "reference"), there.cell_path(MODEL, "int8-dynamic"))
        derived.evaluate((_made("int8-dynamic", **{"precision.format": "int8-dynamic"}),), Silent())
    assert _events(derived.target)["int8-dynamic"] == "cell"


def test_one_name_has_one_meaning(tiny_study: Path, tmp_path: Path) -> None:
    with derive(Workspace(tiny_study), tmp_path / "out", "try", "trials", bundles=(MODEL,)) as derived:
        derived.evaluate((_made("one", **{"runtime.batch_size": 1}),), Silent())
        with pytest.raises(
            SettingsError, match=r"Two environments are called one: one sets .*Give one of them another"
        ):
            derived.evaluate((_made("one", **{"runtime.batch_size": 2}),), Silent())


def test_items_that_are_not_the_runs_any_more_are_said(tiny_study: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(tiny_study, run)
    text = (run / "run.json").read_text(encoding="utf-8")
    plan = Workspace(run).read_plan()
    with derive(Workspace(run), tmp_path / "same", "try", "trials") as derived:
        assert derived.plan.notes == ()
    (run / "run.json").write_text(text.replace(plan.tasks[0].items, "0" * 64), encoding="utf-8")
    with derive(Workspace(run), tmp_path / "out", "try", "trials") as derived:
        assert ["the items of digits are not those of the run" in note for note in derived.plan.notes] == [True]
    told, _ = explain_run(run, "int8-dynamic", tmp_path / "explained", bundles=(MODEL,))
    assert "The items of digits are not those of the run" in console_attribution(told)
    layers, _ = layers_run(run, tmp_path / "layers", environments=("int8-dynamic",), items=5)
    assert "items of digits are not those of the run" in layers["notes"][0]
    drawn, _ = evaluate_run(run, tmp_path / "drawn", environments=("int8-dynamic",), budget=50)
    assert any("items of digits are not those of the run" in note for note in drawn["notes"])


def test_what_cannot_be_derived(tiny_study: Path, tmp_path: Path) -> None:
    with (
        pytest.raises(UnknownNameError, match="nobody"),
        derive(Workspace(tiny_study), tmp_path / "a", "try", "trials", bundles=("nobody",)),
    ):
        pass
    with derive(Workspace(tiny_study), tmp_path / "out", "try", "trials"):
        pass
    assert not (tmp_path / "out" / "run.json").exists()  # nothing is planned before something is asked
    with derive(Workspace(tiny_study), tmp_path / "out", "try", "trials", bundles=(MODEL,)) as derived:
        derived.evaluate((), Silent())
    with (
        pytest.raises(WorkspaceError, match="holds trials already; give the folder of the run that they are of"),
        derive(derived.target, tmp_path / "b", "try", "trials"),
    ):
        pass
