"""Runs made of another run's bundles and items, whose environments are chosen one after the other."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from gapshift.errors import SettingsError, UnknownNameError, WorkspaceError
from gapshift.flows.again import derive
from gapshift.flows.reporting import Silent
from gapshift.records import read_cell
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
