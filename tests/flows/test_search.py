"""``search`` on a model of four nodes that fails under two deviations together and under neither alone."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from gapshift.cli import main
from gapshift.envs.catalog import load
from gapshift.errors import SettingsError, UnknownNameError, WorkspaceError
from gapshift.export.stamp import contract_to_toml
from gapshift.flows.check import CheckRequest, check
from gapshift.flows.search import SearchRequest, search_run
from gapshift.reports.renderers.search import findings, lead
from gapshift.schema import Contract, DataSource, ModelInterface, Preprocessing, Resize
from gapshift.workspace import Workspace

MEAN, STD = "preprocessing.mean", "preprocessing.std"
FAMILY = f"""
most = 3
[deviations]
"runtime.intra_op_threads" = [1, 4]
"{MEAN}" = [[0.52], [0.58]]
"precision.per_channel" = [true]
"{STD}" = [[0.08], [0.05], [0.04]]
"runtime.batch_size" = [1]
"""
"""Dark pictures are 0.4 and lie at (0.4 - mean) / std; below -3 the model takes them for bright ones."""
PER_LEVEL = 40


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checked model with 200 pictures, dark or bright. Read it; do not change it."""
    folder = tmp_path_factory.mktemp("search")
    (folder / "contract.toml").write_text(contract_to_toml(_contract()), encoding="utf-8")
    onnx.save(_model(), folder / "bend.onnx")
    places = np.arange(5 * PER_LEVEL)
    images = np.where(places % 2, 153, 102).astype(np.uint8)[:, None, None] * np.ones((1, 4, 4), dtype=np.uint8)
    images[:, 0, 0] += (places % 5).astype(np.uint8)  # no two of a level alike
    np.savez(folder / "data.npz", images=images, labels=places % 2, level=1 + places // PER_LEVEL)
    request = CheckRequest(
        model=folder / "bend.onnx",
        contract=folder / "contract.toml",
        data=DataSource(source=str(folder / "data.npz")),
        out=folder / "run",
        environments=("onnxruntime-one-thread",),
    )
    summary, _ = check(request)
    assert summary["bundles"][0]["reference"]["accuracy"]["all"] == 1.0
    (folder / "family.toml").write_text(FAMILY, encoding="utf-8")
    return folder / "run"


def _contract() -> Contract:
    return Contract(
        preprocessing=Preprocessing(color="L", mean=(0.5,), std=(0.1,), resize=Resize(size=(4, 4))),
        model=ModelInterface(input="x", output="y", labels=("0", "1")),
    )


def _model() -> onnx.ModelProto:
    """Scores 0 and |x + 1.5| - 1.5 of a picture's mean x: bright above 0, and again below -3."""
    constants = {
        "bend": np.array([[1.5]], dtype=np.float32),
        "zero": np.array([[0.0]], dtype=np.float32),
        "axes": np.array([2, 3], dtype=np.int64),
    }
    nodes = [
        helper.make_node("ReduceMean", ["x", "axes"], ["mean"], keepdims=0),
        helper.make_node("Add", ["mean", "bend"], ["moved"]),
        helper.make_node("Abs", ["moved"], ["folded"]),
        helper.make_node("Sub", ["folded", "bend"], ["bright"]),
        helper.make_node("Mul", ["mean", "zero"], ["dark"]),
        helper.make_node("Concat", ["dark", "bright"], ["y"], axis=1),
    ]
    graph = helper.make_graph(
        nodes,
        "bend",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 1, 4, 4])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 2])],
        [onnx.numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)


@pytest.fixture(scope="module")
def found(run: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, dict[str, Path]]:
    """A search of the family. Read it; do not change it."""
    out = tmp_path_factory.mktemp("found") / "search"
    return search_run(SearchRequest(run=run, out=out, family=run.parent / "family.toml", examples=60, seed=1))


def test_the_two_deviations_that_fail_together_are_found_at_their_mildest(found: tuple[Any, Any]) -> None:
    smallest = found[0]["smallest"]
    assert smallest["deviations"] == {MEAN: [0.58], STD: [0.05]}
    assert smallest["verdict"] == "FAIL"
    assert smallest["settled"]
    assert smallest["listed_as"] is None
    assert smallest["at_gate"] == {"tests": 10, "smaller": []}  # the run's one environment, and this one
    assert {key: drop["estimate"] for key, drop in smallest["drop_pp"].items()} == dict.fromkeys(
        ("all", "1", "2", "3", "4", "5"), 50.0
    )


def test_everything_that_was_composed_is_accounted_for(found: tuple[Any, Any]) -> None:
    counts = found[0]["counts"]
    assert counts["composed"] == counts["rejected"] + counts["without_answers"] + counts["judged"]
    assert counts["rejected"] > 0  # per_channel without a format that has channels
    assert any("per_channel means nothing for float32" in row["reason"] for row in found[0]["rejections"])
    assert counts["failed"] == sum(row["verdict"] == "FAIL" for row in found[0]["environments"])
    assert counts["judged"] == counts["ran"] + counts["shared"] <= 60
    assert counts["shared"] == 1  # the run has answered with one thread


def test_every_environment_counts_as_a_test_of_every_level(found: tuple[Any, Any]) -> None:
    assert found[0]["members"] > 60
    assert found[0]["tests"] == 5 * (1 + 60)  # one gated environment, and the examples


def test_a_second_search_asks_the_same_and_runs_nothing(run: Path, found: tuple[Any, dict[str, Path]]) -> None:
    summary, paths = found
    out = paths["search.json"].parent
    again, _ = search_run(SearchRequest(run=run, out=out, family=run.parent / "family.toml", examples=60, seed=1))
    assert again["counts"]["ran"] == 0
    assert again["smallest"] == summary["smallest"]
    assert again["environments"] == summary["environments"]


def test_the_table_makes_it_an_environment_by_name(found: tuple[Any, Any], tmp_path: Path) -> None:
    table = tmp_path / "own.toml"
    table.write_text(found[0]["smallest"]["toml"], encoding="utf-8")
    assert set(tomllib.loads(found[0]["smallest"]["toml"])) == {"environments"}
    (environment,) = load(table).values()
    assert environment.deviations == {MEAN: [0.58], STD: [0.05]}


def test_interactions_are_searched_among_what_holds_alone(run: Path, tmp_path: Path) -> None:
    family = tmp_path / "family.toml"
    family.write_text(FAMILY.replace("[0.58]]", "[0.58], [0.75]]"), encoding="utf-8")  # all is dark from 0.7 on
    request = SearchRequest(run=run, out=tmp_path / "out", family=family, examples=60, interactions=True)
    summary, _ = search_run(request)
    assert [row["deviations"] for row in summary["alone"]] == [{MEAN: [0.75]}]
    assert summary["smallest"]["deviations"] == {MEAN: [0.58], STD: [0.05]}


def test_where_none_fails_it_is_no_proof(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    family = tmp_path / "family.toml"
    family.write_text('[deviations]\n"runtime.batch_size" = [1, 64]\n', encoding="utf-8")
    words = ["search", str(run), "--family", str(family), "--examples", "8", "--out", str(tmp_path / "out"), "--json"]
    with pytest.raises(SystemExit) as ended:
        main(words)
    told = capsys.readouterr()
    assert ended.value.code == 0
    assert json.loads(told.out)["smallest"] is None
    assert "None of 2 environments failed. That proves nothing of the rest of the family" in told.err
    assert "each p is multiplied by 15 tests, the run's own and those of up to 2 environments" in told.err
    assert "2 environments composed of a family of 1 key: 0 rejected" in told.err


def test_a_severity_of_the_family_is_never_left_out(run: Path, tmp_path: Path) -> None:
    """Of a corruption without one it would be 3."""
    family = tmp_path / "family.toml"
    family.write_text(
        '[deviations]\n"shift.corruption" = ["contrast", "gaussian-noise"]\n"shift.severity" = [1]\n', encoding="utf-8"
    )
    summary, _ = search_run(SearchRequest(run=run, out=tmp_path / "out", family=family, examples=8))
    assert summary["members"] == 2
    assert [row["deviations"].get("shift.severity") for row in summary["environments"]] == [1, 1]


def test_smaller_parts_that_fail_at_the_runs_own_gate_are_named() -> None:
    """A part that loses enough for the tests of explain, and not for those of a search, is no contradiction."""
    summary = {
        "bundle": "m", "tests": 55, "members": 9, "examples": 9,
        "smallest": {"settled": True, "parts": 2, "deviations": {"a": 1, "b": 2}, "reason": "level 5: worse",
                     "at_gate": {"tests": 15, "smaller": [{"b": 2}]}},
    }  # fmt: skip
    lines = findings(summary)
    assert any("nothing smaller fails at 55 tests" in line for line in lines)
    assert any(
        "at the run's own gate, one of 15 tests, a smaller part fails already: b = 2 (gapshift explain" in line
        for line in lines
    )


def test_a_family_of_one_member_is_said_to_compose_nothing(run: Path, tmp_path: Path) -> None:
    summary, _ = search_run(SearchRequest(run=run, out=tmp_path / "out"))
    said = lead(summary)
    assert said.startswith("The family has one member, so that nothing can be composed of it: give more with --group")
    assert "The one environment that was judged did not fail." in said


def test_where_nothing_could_be_judged_it_is_said_why(run: Path, tmp_path: Path) -> None:
    family = tmp_path / "family.toml"
    family.write_text('[deviations]\n"shift.severity" = [1, 2]\n', encoding="utf-8")
    summary, _ = search_run(SearchRequest(run=run, out=tmp_path / "out", family=family, examples=8))
    assert lead(summary).startswith("Nothing could be judged: it contradicts the model's contract: shift: severity and")
    assert [(row["key"], row["value"]) for row in summary["unseen"]] == [("shift.severity", 1), ("shift.severity", 2)]


def test_the_page_shows_what_was_found_judged_and_meant(found: tuple[Any, dict[str, Path]]) -> None:
    html, text = (found[1][name].read_text(encoding="utf-8") for name in ("search.html", "search.md"))
    for shown in (html, text.replace("\\", "")):
        assert (
            "bend fails with preprocessing.mean = [0.58] and preprocessing.std = [0.05], which nobody listed" in shown
        )
        assert (
            "nothing smaller fails at 305 tests: without any one of its deviations it does not FAIL, and no milder"
            in shown
        )
        assert "mild to severe" in shown
        assert "searching does not make failures" in shown
        assert "in none of the judged: precision.per_channel = True: it contradicts" in shown
        assert "[environments.composed-" in shown


def test_by_default_the_family_is_the_runs_own_without_mistakes(tiny_study: Path, tmp_path: Path) -> None:
    request = SearchRequest(run=tiny_study, out=tmp_path / "out", bundle="digits-cnn-random-s0", examples=8)
    summary, _ = search_run(request)
    assert summary["family"]["deviations"] == {
        "runtime.intra_op_threads": [1],
        "preprocessing.resize.interpolation": ["nearest"],
        "precision.format": ["int8-dynamic"],
    }
    assert summary["notes"] == ["left out unless named (mistakes, stress, or on a sample): bgr"]
    assert summary["members"] == 7
    assert summary["counts"]["judged"] >= summary["counts"]["shared"] >= 1  # the study has answered each of them alone


# ------------------------------------------------------------------------------ errors


def test_a_search_is_of_one_model_that_exists(tiny_study: Path, run: Path) -> None:
    with pytest.raises(
        SettingsError, match=r"The run has \d models, .* --bundle, for instance digits-cnn-easy-only-s0"
    ):
        search_run(SearchRequest(run=tiny_study))
    with pytest.raises(UnknownNameError, match="Did you mean 'bend'"):
        search_run(SearchRequest(run=run, bundle="bent"))


def test_a_family_is_stated_in_one_way(run: Path) -> None:
    with pytest.raises(SettingsError, match="leave --environment, --group and --most out"):
        SearchRequest(run=run, family=run.parent / "family.toml", groups=("mobile",))
    with pytest.raises(SettingsError, match="3 examples are too few"):
        SearchRequest(run=run, examples=3)
    with pytest.raises(SettingsError, match="None of these environments spans a family for vision models"):
        search_run(SearchRequest(run=run, groups=("audio",)))


def test_a_slip_in_a_family_names_its_file(run: Path, tmp_path: Path) -> None:
    family = tmp_path / "phone.toml"
    family.write_text('[deviations]\n"runtime.batch_sise" = [1]\n', encoding="utf-8")
    with pytest.raises(SettingsError, match=r"phone.toml: Unknown deviation 'runtime.batch_sise'. Did you mean"):
        search_run(SearchRequest(run=run, family=family))


def test_a_folder_of_something_else_is_refused(run: Path, found: tuple[Any, dict[str, Path]]) -> None:
    with pytest.raises(WorkspaceError, match="holds a run of `gapshift check`"):
        search_run(SearchRequest(run=run, out=run, family=run.parent / "family.toml"))
    out = found[1]["search.json"].parent
    with pytest.raises(WorkspaceError, match="holds a search already"):
        search_run(SearchRequest(run=out, family=run.parent / "family.toml"))
    assert Workspace(out).read_plan().command == "search"
