"""``evaluate --layers`` on a finished run: each planted fault is named, and no cell runs again."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from gapshift.cli import main
from gapshift.envs.layers.examine import examine
from gapshift.errors import ModelFileError, SettingsError, UnknownNameError, WorkspaceError
from gapshift.export.model_file import sha256
from gapshift.export.stamp import stamp
from gapshift.flows import layers
from gapshift.flows.evaluate import evaluate_run
from gapshift.flows.layers import layers_run
from gapshift.schema import Preprocessing, RunPlan
from gapshift.workspace import Workspace

MODEL = "digits-cnn-random-s0"


@pytest.fixture(scope="module")
def run(tiny_study: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the tiny study. Layers may be written beside it; the rest stays."""
    copy = tmp_path_factory.mktemp("layers") / "run"
    shutil.copytree(tiny_study, copy)
    return copy


def _entry(summary: Any, environment: str, bundle: str = MODEL) -> Any:
    cells = summary["cells"]
    return next(each for each in cells if (each["bundle"], each["environment"]) == (bundle, environment))


def _examined(run: Path, out: Path, *environments: str, **settings: Any) -> Any:
    settings = {"bundles": (MODEL,), "items": 100} | settings
    return layers_run(run, out, environments=environments, **settings)[0]


def test_each_kind_of_cell_is_told_apart(run: Path, tmp_path: Path) -> None:
    stamps = {path: path.stat().st_mtime_ns for path in (run / "records").glob("*.parquet")}
    names = "resize-nearest", "int8-dynamic", "onnxruntime-one-thread", "bgr", "onnx-reference", "shift-contrast"
    summary = _examined(run, tmp_path / "out", *names)
    nearest = _entry(summary, "resize-nearest")
    assert nearest["causes"][0]["name"] == "resize-nearest"
    assert "(resize-nearest) makes them (left: 0); its nodes are the reference's" in nearest["finding"]
    assert nearest["drift"]["n"] > nearest["items"] == 100
    rounded = _entry(summary, "int8-dynamic")
    assert "no single layer stands out" in rounded["finding"]
    assert all(layer["own"] is not None for layer in rounded["layers"])
    assert _entry(summary, "onnxruntime-one-thread")["finding"].startswith("no layer leaves")
    assert _entry(summary, "bgr")["status"] == "not_applicable"
    opened = _entry(summary, "onnx-reference")
    assert opened["layers"] is None
    assert "onnx-reference cannot be opened, so only its outputs are compared" in opened["finding"]
    assert _entry(summary, "shift-contrast")["causes"] == []
    assert {path: path.stat().st_mtime_ns for path in stamps} == stamps


def test_without_names_the_cells_that_drift_are_examined(run: Path) -> None:
    summary, paths = layers_run(run, items=50)
    assert [path.name for path in paths.values()] == ["layers.json", "layers.md", "layers.html"]
    assert all(path.parent == run / "layers" and path.exists() for path in paths.values())
    assert sorted((run / "layers").iterdir()) == sorted(paths.values())
    shown = [(each["bundle"], each["environment"]) for each in summary["cells"]]
    assert len({environment for _, environment in shown}) == len(shown)
    assert "bgr" not in [environment for _, environment in shown]
    shares = [each["drift"]["changed"] / each["drift"]["n"] for each in summary["cells"]]
    assert shares == sorted(shares, reverse=True)
    assert min(shares) > 0
    left = {(each["bundle"], each["environment"]) for each in summary["left_out"]}
    assert not left & set(shown)
    worst = {each["environment"]: each["drift"]["changed"] / each["drift"]["n"] for each in summary["cells"]}
    others = [each for each in summary["left_out"] if each["environment"] in worst]
    assert others
    assert all(each["changed"] / each["n"] <= worst[each["environment"]] for each in others)
    assert json.loads(paths["layers.json"].read_text(encoding="utf-8")) == json.loads(json.dumps(summary))


def _corrupted(source: Path, path: Path) -> str:
    """A copy with a block of its second convolution's weight replaced; the weight's name."""
    model = onnx.load(str(source))
    second = [node for node in model.graph.node if node.op_type == "Conv"][1]
    for tensor in model.graph.initializer:
        if tensor.name == second.input[1]:
            weight = numpy_helper.to_array(tensor).copy()
            weight[:2] = np.random.default_rng(0).normal(0, weight.std() * 3, weight[:2].shape)
            tensor.CopyFrom(numpy_helper.from_array(weight.astype(np.float32), tensor.name))
    onnx.save(model, str(path))
    return str(second.input[1])


def test_a_corrupted_weight_block_of_another_file_is_named(run: Path, tmp_path: Path) -> None:
    weight = _corrupted(run / "bundles" / f"{MODEL}.onnx", tmp_path / "shipped.onnx")
    summary = _examined(run, tmp_path / "out", against=tmp_path / "shipped.onnx")
    said = _entry(summary, "reference")["finding"]
    assert said.startswith("leaves at ")
    assert "inputs to it 0, " in said
    assert f"weight {weight} differs by" in said
    assert "within [0:2, " in said
    assert summary["against"] == "shipped.onnx"


def test_another_file_s_own_contract_goes_with_it(run: Path, tmp_path: Path) -> None:
    """The same weights, stamped with another mean: the inputs differ, and which mean they have is found by fitting."""
    bundle = next(each for each in Workspace(run).read_plan().bundles if each.name == MODEL)
    how = bundle.contract.preprocessing
    assert isinstance(how, Preprocessing)
    shutil.copy(run / "bundles" / f"{MODEL}.onnx", tmp_path / "other.onnx")
    update = {"preprocessing": how.model_copy(update={"mean": (0.123,), "std": (0.77,)})}
    stamp(tmp_path / "other.onnx", bundle.contract.model_copy(update=update))
    entry = _entry(_examined(run, tmp_path / "out", against=tmp_path / "other.onnx"), "reference")
    assert entry["leaving"]["blamed"] is None
    assert f"mean = ({how.mean[0]:.4g}) and std = ({how.std[0]:.4g}), found by fitting" in entry["finding"]


def test_a_bad_scale_in_the_cell_s_own_file_is_named(run: Path, tmp_path: Path) -> None:
    """The file that the run holds is the one that is opened."""
    copy = tmp_path / "run"
    shutil.copytree(run, copy)
    before = set((copy / "variants").glob("*.onnx"))
    first = _entry(_examined(copy, tmp_path / "a", "int8-qdq-per-tensor"), "int8-qdq-per-tensor")
    assert "no single layer stands out" in first["finding"]
    assert "converted again" not in first["finding"]  # the run has no records of such a cell
    (made,) = set((copy / "variants").glob("*.onnx")) - before
    model = onnx.load(str(made))
    scales = [node.input[1] for node in model.graph.node if node.op_type == "QuantizeLinear"]
    for tensor in model.graph.initializer:
        if tensor.name == scales[2]:
            tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor) / np.float32(12), tensor.name))
    onnx.save(model, str(made))
    entry = _entry(_examined(copy, tmp_path / "b", "int8-qdq-per-tensor"), "int8-qdq-per-tensor")
    blamed = next(layer for layer in entry["layers"] if layer["tensor"] == entry["leaving"]["blamed"])
    assert blamed["stage"] == "quantised"
    assert blamed["tensor"].startswith(scales[2].removesuffix("_scale"))
    assert "its scale reaches from " in entry["finding"]


def _with_wrong_contract(run: Path, copy: Path, **settings: Any) -> Path:
    """The run with another preprocessing in its model's contract, in plan and file alike."""
    shutil.copytree(run, copy)
    workspace = Workspace(copy)
    plan = workspace.read_plan()
    bundle = next(each for each in plan.bundles if each.name == MODEL)
    contract = bundle.contract
    wrong = contract.model_copy(update={"preprocessing": contract.preprocessing.model_copy(update=settings)})
    file = workspace.bundle_path(bundle.path)
    stamp(file, wrong)
    other = bundle.model_copy(update={"contract": wrong, "sha256": sha256(file)})
    bundles = tuple(other if each.name == MODEL else each for each in plan.bundles)
    workspace.write_plan(RunPlan.model_validate(plan.model_copy(update={"bundles": bundles}).model_dump()))
    return copy


def test_a_wrong_mean_in_the_contract_is_named_by_the_training_side_answers(run: Path, tmp_path: Path) -> None:
    copy = _with_wrong_contract(run, tmp_path / "run", mean=(-1.5,), std=(1.0,))
    answers = _entry(_examined(copy, tmp_path / "out", "reference", items=300), "reference")["answers"]
    assert answers["trusted"] == "the training-side answers"
    assert answers["helps"] in ("data-statistics", "mnist-statistics", "statistics-half", "0.5-statistics")
    assert answers["before"] < 0.8
    row = next(row for row in answers["tried"] if row["name"] == answers["helps"])
    assert set(row["settings"]) == {"preprocessing.mean", "preprocessing.std"}
    assert row["after"] > answers["before"] + 0.15
    assert row["p_holm"] < 0.001


def test_a_reference_that_cannot_run_at_all_is_examined_without_being_named(run: Path, tmp_path: Path) -> None:
    """Its inputs do not fit the graph; the layout that does is found."""
    copy = _with_wrong_contract(run, tmp_path / "run", layout="NHWC")
    entry = _entry(_examined(copy, tmp_path / "out"), "reference")
    assert entry["answers"]["before"] == 0
    assert entry["answers"]["cause"] in ("layout=nchw", "layout-nhwc-as-nchw")
    assert entry["answers"]["restores"]


def test_another_run_s_answers_can_be_the_trusted_ones(run: Path, tmp_path: Path) -> None:
    copy = _with_wrong_contract(run, tmp_path / "run", mean=(-1.5,), std=(1.0,))
    answers = _entry(_examined(copy, tmp_path / "out", against=run, items=300), "reference")["answers"]
    assert answers["trusted"] == f"the answers of {MODEL} in run"
    assert answers["helps"] is not None


def test_a_model_without_answers_of_its_own_is_held_to_the_labels(run: Path, tmp_path: Path) -> None:
    copy = _with_wrong_contract(run, tmp_path / "run", mean=(-1.5,), std=(1.0,))
    Workspace(copy).answers_path(MODEL).unlink()
    entry = _entry(_examined(copy, tmp_path / "out", "reference", items=300), "reference")
    assert entry["answers"]["trusted"] == "the labels"
    assert entry["finding"].startswith("is right on ")
    assert (entry["answers"]["cause"], entry["answers"]["regained"]) == (None, None)
    assert "labels alone do not say how much is missing: compare with the file as it was trained" in entry["finding"]


def _with_swapped_labels(run: Path, copy: Path) -> Path:
    """The same model, its second and third labels in each other's place."""
    shutil.copytree(run, copy)
    workspace = Workspace(copy)
    plan = workspace.read_plan()
    bundles = []
    for bundle in plan.bundles:
        model = bundle.contract.model
        first, second, third, *others = model.labels
        named = model.model_copy(update={"labels": (first, third, second, *others)})
        contract = bundle.contract.model_copy(update={"model": named})
        stamp(workspace.bundle_path(bundle.path), contract)
        update = {"contract": contract, "sha256": sha256(workspace.bundle_path(bundle.path))}
        bundles.append(bundle.model_copy(update=update if bundle.task == "digits" else {}))
    workspace.write_plan(RunPlan.model_validate(plan.model_copy(update={"bundles": tuple(bundles)}).model_dump()))
    return copy


def test_another_run_s_labels_are_compared_by_name(run: Path, tmp_path: Path) -> None:
    """By place the two agree on every item: the same model."""
    copy = _with_swapped_labels(run, tmp_path / "swapped")
    entry = _entry(_examined(copy, tmp_path / "out", "reference", against=run, items=300), "reference")
    answers = entry["answers"]
    labels = next(each.contract.model.labels for each in Workspace(run).read_plan().bundles if each.name == MODEL)
    assert answers["before"] < 0.95
    assert answers["cause"] == "labels-of-the-other"
    said = f"the labels stand in another order: '{labels[2]}' and '{labels[1]}' are exchanged (labels-of-the-other)"
    assert said in entry["finding"]
    assert answers["restores"]
    row = next(row for row in answers["tried"] if row["name"] == answers["cause"])
    assert row["settings"] == {"model.labels": list(labels)}


def test_deviations_that_make_the_inputs_together_are_named(run: Path, tmp_path: Path) -> None:
    file = tmp_path / "both.toml"
    file.write_text(
        '[both]\nkind = "lossy"\nsummary = "Two at once."\n[both.deviations]\n'
        '"preprocessing.jpeg_quality" = 30\n"preprocessing.resize.interpolation" = "nearest"\n',
        encoding="utf-8",
    )
    entry = _entry(_examined(run, tmp_path / "out", "both", environment_file=file), "both")
    assert entry["causes"] == []
    assert (
        "which its own deviations (jpeg_quality = 30, resize.interpolation = nearest) make together; "
        "`gapshift explain` takes them apart" in entry["finding"]
    )


def test_a_right_contract_has_nothing_to_explain(run: Path, tmp_path: Path) -> None:
    entry = _entry(_examined(run, tmp_path / "out", "reference"), "reference")
    assert entry["finding"].endswith("there is nothing to explain")


def test_text_sound_and_control_are_examined_too(four_study: Path, tmp_path: Path) -> None:
    copy = tmp_path / "run"
    shutil.copytree(four_study, copy)
    plan = Workspace(copy).read_plan()
    bundles = {bundle.task: bundle.name for bundle in plan.bundles if bundle.regime == "random"}
    names = "text-truncated-16", "features-not-normalised", "sensor-bias", "int8-dynamic"
    chosen = tuple(bundles[task] for task in ("sentiment", "keywords", "cartpole"))
    summary, _ = layers_run(copy, tmp_path / "out", environments=names, bundles=chosen, items=20)
    for task, environment in zip(("sentiment", "keywords", "cartpole"), names, strict=False):
        entry = _entry(summary, environment, bundles[task])
        assert entry["status"] == "ok", entry["finding"]
        assert entry["causes"][0]["name"] == environment
        assert entry["causes"][0]["left"] <= 1e-3
        assert _entry(summary, "int8-dynamic", bundles[task])["layers"]


# -------------------------------------------------------------------- what goes wrong


def test_a_converted_file_that_is_gone_is_made_again_and_said(run: Path, tmp_path: Path) -> None:
    copy = tmp_path / "run"
    shutil.copytree(run, copy)
    assert "converted again" not in _entry(_examined(copy, tmp_path / "a", "int8-dynamic"), "int8-dynamic")["finding"]
    shutil.rmtree(copy / "variants")
    assert "converted again" in _entry(_examined(copy, tmp_path / "b", "int8-dynamic"), "int8-dynamic")["finding"]


def test_unknown_names_are_refused(run: Path, tmp_path: Path) -> None:
    with pytest.raises(UnknownNameError, match="resize-nearest"):
        layers_run(run, tmp_path, environments=("resize-nearst",))
    with pytest.raises(UnknownNameError, match=MODEL):
        layers_run(run, tmp_path, bundles=("digits-cnn-random-s1x",))


def test_a_folder_that_is_no_run_is_refused(run: Path, tmp_path: Path) -> None:
    with pytest.raises(WorkspaceError, match="is not a run folder"):
        layers_run(tmp_path)
    with pytest.raises(WorkspaceError, match="is not a run folder"):
        layers_run(run, tmp_path / "out", against=tmp_path)
    with pytest.raises(SettingsError, match=r"--against .*none\.onnx does not exist"):
        layers_run(run, tmp_path / "out", against=tmp_path / "none.onnx")


def test_a_run_of_other_models_has_no_trusted_answers(run: Path, four_study: Path, tmp_path: Path) -> None:
    with pytest.raises(WorkspaceError, match=r"holds no answers of|not clear whose answers"):
        _examined(run, tmp_path / "out", against=_only_others(four_study, tmp_path / "other"))


def _only_others(source: Path, copy: Path) -> Path:
    shutil.copytree(source, copy)
    workspace = Workspace(copy)
    plan = workspace.read_plan()
    others = tuple(bundle for bundle in plan.bundles if bundle.task != "digits")
    workspace.write_plan(plan.model_copy(update={"bundles": others}))
    return copy


def test_an_unforeseen_failure_is_one_cell_s(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(site: Any) -> Any:
        if site.cell.environment.name == "int8-dynamic":
            raise ZeroDivisionError("by zero")
        return examine(site)

    monkeypatch.setattr(layers, "examine", fail)
    summary = _examined(run, tmp_path / "out", "int8-dynamic", "resize-nearest")
    assert _entry(summary, "int8-dynamic")["finding"] == "error: ZeroDivisionError: by zero"
    assert _entry(summary, "resize-nearest")["status"] == "ok"
    with pytest.raises(ZeroDivisionError):
        _examined(run, tmp_path / "out", "int8-dynamic", debug=True)


def test_a_file_that_is_no_model_is_refused(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    broken = tmp_path / "broken.onnx"
    broken.write_bytes(b"nothing")
    with pytest.raises(ModelFileError, match="is not an ONNX file"):
        _examined(run, tmp_path / "out", against=broken)
    with pytest.raises(SystemExit) as stop:
        main(["evaluate", str(run), "--layers", "--against", str(broken)])
    assert stop.value.code == 2
    assert "is not an ONNX file" in capsys.readouterr().err


def test_a_model_of_another_domain_is_refused(run: Path, four_study: Path, tmp_path: Path) -> None:
    text = next(each for each in Workspace(four_study).read_plan().bundles if each.contract.domain == "text")
    with pytest.raises(SettingsError, match=r"is of domain 'vision', the file of 'text'\."):
        _examined(run, tmp_path / "out", against=Workspace(four_study).bundle_path(text.path))


def test_where_every_cell_is_an_error_the_exit_code_says_so(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_: Any) -> Any:
        raise ZeroDivisionError("by zero")

    monkeypatch.setattr(layers, "examine", fail)
    line = ["evaluate", str(run), "--layers", "--bundle", MODEL, "-e", "resize-nearest", "--out", str(tmp_path / "out")]
    with pytest.raises(SystemExit) as stop:
        main(line)
    assert stop.value.code == 4


def test_a_second_call_says_that_it_replaces_the_first(run: Path, tmp_path: Path) -> None:
    assert _examined(run, tmp_path / "out", "resize-nearest", items=20)["notes"] == []
    (note,) = _examined(run, tmp_path / "out", "resize-nearest", items=20)["notes"]
    assert note.startswith("what an earlier call found in out/ is replaced; --out FOLDER")


# ------------------------------------------------------------------- the command line


def test_the_command_prints_findings_and_writes_the_page(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    line = ["evaluate", str(run), "--layers", "--bundle", MODEL, "-e", "resize-nearest", "--layer-items", "50"]
    with pytest.raises(SystemExit) as stop:
        main([*line, "--out", str(out), "--json"])
    assert stop.value.code == 0
    told = capsys.readouterr()
    summary = json.loads(told.out.splitlines()[-1])
    assert summary["items"] == 50
    assert f"{MODEL} in resize-nearest: is given other inputs" in told.err
    assert (out / "layers.html").exists()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--layers", "--margin", "1"], "--margin means nothing with --layers"),
        (["--layers", "--group", "mobile"], "--group means nothing with --layers"),
        (["--layers", "--sequential"], "--sequential means nothing with --layers"),
        (["--layer-items", "5"], "--layer-items means nothing without --layers"),
        (["--against", "x"], "--against means nothing without --layers"),
    ],
)
def test_options_that_mean_nothing_are_refused(
    run: Path, words: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["evaluate", str(run), *words])
    assert stop.value.code == 2
    assert said in capsys.readouterr().err


def test_a_mistake_is_examined_where_it_is_deployed_and_not_where_it_is_only_reported(
    tiny_study: Path, tmp_path: Path
) -> None:
    """What breaks it is known; a user who deploys it does not know."""
    run = tmp_path / "run"
    evaluate_run(tiny_study, run, bundles=(MODEL,), environments=("scale-0-255",))
    assert [each["environment"] for each in layers_run(run, items=20)[0]["cells"]] == ["scale-0-255"]
    workspace = Workspace(run)
    workspace.write_plan(workspace.read_plan().model_copy(update={"deployments": ()}))
    assert layers_run(run, items=20)[0]["cells"] == []
