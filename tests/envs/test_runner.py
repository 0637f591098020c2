"""The matrix runner on a small real model: every cell has an outcome, and none runs twice."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

from gapshift.domains.base import Dataset, Pixels
from gapshift.domains.readers.folder import read_folder
from gapshift.domains.vision import prepare_batch
from gapshift.envs.cells import TaskItems
from gapshift.envs.runner import Matrix, evaluate
from gapshift.envs.runtimes import Session, open_runtime
from gapshift.envs.runtimes.reference import ReferenceSession
from gapshift.errors import EvaluationError, SkippedError, WorkspaceError
from gapshift.export.model_file import sha256
from gapshift.records import Records
from gapshift.schema import (
    Bundle,
    CellInfo,
    Contract,
    Environment,
    Item,
    ModelInterface,
    Preprocessing,
    Resize,
    Runtime,
)
from gapshift.workspace import Workspace

CLASSES = ("a", "b", "c")
SIZE = (6, 5)


def _environment(name: str, **fields: Any) -> Environment:
    deviations = {key.replace("__", "."): value for key, value in fields.pop("deviations", {}).items()}
    return Environment(name=name, kind="lossy", summary="s", deviations=deviations, **fields)


BATCH_1 = _environment("batch-1", deviations={"runtime__batch_size": 1})
BGR = _environment("bgr", deviations={"preprocessing__color": "BGR"})
NEAREST = _environment("nearest", deviations={"preprocessing__resize.interpolation": "nearest"})
INT8 = _environment("int8", deviations={"precision__format": "int8-dynamic"})
QDQ = _environment("qdq", deviations={"precision__format": "int8-qdq"})
SAMPLED = _environment("sampled", subsample=True, deviations={"runtime__engine": "onnx-reference"})
ENVIRONMENTS = (BGR, BATCH_1, NEAREST, INT8)


def _weights(seed: int = 0) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    rng = np.random.default_rng(seed)
    inputs = 3 * SIZE[0] * SIZE[1]
    return rng.normal(size=(inputs, 3)).astype(np.float32), rng.normal(size=3).astype(np.float32)


def _model(path: Path, seed: int = 0, last: str = "") -> Path:
    """Flatten → Gemm (→ ``last``: Log gives NaN for what is negative, Softmax probabilities), dynamic batch."""
    weights, bias = _weights(seed)
    nodes = [
        helper.make_node("Flatten", ["input"], ["flat"], name="flatten"),
        helper.make_node("Gemm", ["flat", "w", "b"], ["linear" if last else "logits"], name="gemm"),
        *([helper.make_node(last, ["linear"], ["logits"], name="last")] if last else []),
    ]
    graph = helper.make_graph(
        nodes,
        "linear",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, ["batch", 3, *SIZE])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", 3])],
        [numpy_helper.from_array(weights, "w"), numpy_helper.from_array(bias, "b")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    path.write_bytes(model.SerializeToString())
    onnx.checker.check_model(model)
    return path


def _bundle(path: Path, labels: Sequence[str] = CLASSES, name: str = "m", **preprocessing: Any) -> Bundle:
    how = Preprocessing.model_validate({"resize": {"size": SIZE}, "mean": [0.5], "std": [0.25], **preprocessing})
    interface = ModelInterface(input="input", output="logits", labels=tuple(labels))
    contract = Contract(preprocessing=how, model=interface)
    return Bundle(name=name, path=str(path), sha256=sha256(path), contract=contract)


def _data(n: int = 10, seed: int = 0, size: tuple[int, int] = (9, 8)) -> Dataset:
    rng = np.random.default_rng(seed)
    images = rng.integers(0, 256, (n, *size, 3), dtype=np.uint8)
    return Pixels("d", CLASSES, [Item(f"i{row:03d}", int(rng.integers(3))) for row in range(n)], images)


@dataclass
class _Opened:
    """Stands before ``open_runtime``: counts, and lets a test make the k-th call fail."""

    calls: list[tuple[Runtime, Path]] = field(default_factory=list)
    before: Callable[[int, Runtime], None] = lambda _call, _runtime: None

    def __call__(self, runtime: Runtime, model: Path, contract: Contract) -> Session:
        self.calls.append((runtime, model))
        self.before(len(self.calls) - 1, runtime)
        return open_runtime(runtime, model, contract)


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> _Opened:
    opened = _Opened()
    monkeypatch.setattr("gapshift.envs.runner.open_runtime", opened)
    return opened


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    return Workspace(tmp_path / "run")


@pytest.fixture
def matrix(tmp_path: Path) -> Matrix:
    return Matrix((_bundle(_model(tmp_path / "m.onnx")),), ENVIRONMENTS, {"task": TaskItems(_data())})


def _items(matrix: Matrix, **changes: Any) -> Matrix:
    """The matrix with other items for its one task."""
    return replace(matrix, tasks={"task": replace(matrix.tasks["task"], **changes)})


def _cell(workspace: Workspace, environment: str, bundle: str = "m") -> tuple[CellInfo, Records]:
    cell = workspace.read_cell(bundle, environment)
    assert cell is not None, environment
    return cell


def _statuses(workspace: Workspace, matrix: Matrix, bundle: str = "m") -> dict[str, str]:
    names = ["reference", *(environment.name for environment in matrix.environments)]
    return {name: _cell(workspace, name, bundle)[0].status for name in names}


def _stamps(workspace: Workspace) -> dict[str, int]:
    return {path.name: path.stat().st_mtime_ns for path in workspace.records.iterdir()}


def _content(workspace: Workspace) -> dict[str, Any]:
    """Everything in the cells but the time they took."""
    content = {}
    for path in sorted(workspace.records.iterdir()):
        bundle, _, environment = path.stem.partition("--")
        info, records = _cell(workspace, environment, bundle)
        header = info.model_copy(update={"seconds": 0.0, "items_per_second": 0.0}).model_dump(mode="json")
        content[path.name] = (header, repr([getattr(records, k).tolist() for k in records.__dataclass_fields__]))
    return content


# -------------------------------------------------------------------------- the answers


def test_every_cell_is_recorded_and_says_what_the_model_says(workspace: Workspace, matrix: Matrix) -> None:
    evaluate(workspace, matrix)
    assert _statuses(workspace, matrix) == dict.fromkeys(["reference", "bgr", "batch-1", "nearest", "int8"], "ok")
    weights, bias = _weights()
    data, how = matrix.tasks["task"].dataset, matrix.bundles[0].contract.preprocessing
    for environment, changes in (("reference", {}), ("bgr", {"color": "BGR"}), ("batch-1", {})):
        inputs = prepare_batch([data.raw(i) for i in range(len(data))], how.model_copy(update=changes))
        expected = (inputs.reshape(len(data), -1) @ weights + bias).argmax(axis=1)
        info, records = _cell(workspace, environment)
        assert records.item_id.tolist() == [item.id for item in data.items]
        assert records.label.tolist() == [item.label for item in data.items]
        assert records.prediction.tolist() == expected.tolist()
        assert info.execution is not None
        assert info.seconds > 0
    assert (_cell(workspace, "bgr")[1].confidence != _cell(workspace, "reference")[1].confidence).any()
    assert _cell(workspace, "batch-1")[0].execution.settings["batch_size"] == 1  # type: ignore[union-attr]


def test_nothing_but_records_variants_and_the_journal_is_left(workspace: Workspace, matrix: Matrix) -> None:
    evaluate(workspace, matrix)
    assert {path.name for path in workspace.root.iterdir()} == {"records", "variants", "journal.jsonl"}


def test_each_cell_tells_its_own_time(workspace: Workspace, matrix: Matrix, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those that do not apply too: by a clock that goes on by one whenever it is read."""
    ticks = count()
    monkeypatch.setattr("gapshift.envs.cells.time.perf_counter", lambda: float(next(ticks)))
    silent = [_environment(f"text-{n}", deviations={"preprocessing__lowercase": n == 1}) for n in range(3)]
    evaluate(workspace, replace(matrix, environments=tuple(silent)))
    told = [event["seconds"] for event in workspace.journal() if event.get("status") == "not_applicable"]
    assert told == [{"write": 1.0}] * 3


def test_progress_counts_to_the_whole(workspace: Workspace, matrix: Matrix) -> None:
    seen: list[tuple[str, int, int]] = []
    evaluate(workspace, matrix, lambda *step: seen.append(step))
    assert seen[0] == ("cells", 0, 5)
    assert [done for _, done, _ in seen] == list(range(6))
    assert seen[1][0] == "m in reference"
    evaluate(workspace, matrix, lambda *step: seen.append(step))
    assert seen[6:] == [("cells", 5, 5)]


def test_bundles_of_one_contract_share_their_inputs(workspace: Workspace, matrix: Matrix, tmp_path: Path) -> None:
    second = _bundle(_model(tmp_path / "n.onnx", seed=1), name="n")
    evaluate(workspace, replace(matrix, bundles=(*matrix.bundles, second), environments=(BGR,)))
    one, other = _cell(workspace, "bgr")[1], _cell(workspace, "bgr", "n")[1]
    assert one.item_id.tolist() == other.item_id.tolist()
    assert (one.confidence != other.confidence).any()


# ----------------------------------------------------------------- once, and never again


def test_a_second_run_runs_nothing(workspace: Workspace, matrix: Matrix, opened: _Opened) -> None:
    evaluate(workspace, matrix)
    before, events = _stamps(workspace), list(workspace.journal())
    assert len(opened.calls) == 5
    evaluate(workspace, matrix)
    assert len(opened.calls) == 5
    assert _stamps(workspace) == before
    new = list(workspace.journal())[len(events) :]
    assert [(event["event"], event["cells"], event["finished"]) for event in new] == [("evaluate", 5, 5)]


@pytest.mark.parametrize("at", range(5))
def test_a_killed_run_goes_on_where_it_stopped(
    tmp_path: Path, workspace: Workspace, matrix: Matrix, opened: _Opened, at: int
) -> None:
    def kill(call: int, _runtime: Runtime) -> None:
        if call == at:
            raise KeyboardInterrupt

    opened.before = kill
    with pytest.raises(KeyboardInterrupt):
        evaluate(workspace, matrix)
    finished = _stamps(workspace) if workspace.records.exists() else {}
    assert len(finished) == at
    evaluate(workspace, matrix)
    assert len(opened.calls) == 6
    assert finished.items() <= _stamps(workspace).items()
    undisturbed = Workspace(tmp_path / "undisturbed")
    evaluate(undisturbed, matrix)
    assert _content(workspace) == _content(undisturbed)


def test_another_plan_runs_its_new_cells_alone(workspace: Workspace, matrix: Matrix, opened: _Opened) -> None:
    evaluate(workspace, matrix)
    before = _stamps(workspace)
    renamed = BGR.model_copy(update={"summary": "elsewhere", "kind": "mistake", "groups": ("x",)})
    extra = _environment("one-thread", deviations={"runtime__intra_op_threads": 1})
    strata = {item.id: 1 for item in matrix.tasks["task"].dataset.items}
    changed = replace(matrix, environments=(extra, INT8, renamed, BATCH_1, NEAREST), seed=5)
    evaluate(workspace, _items(changed, strata=strata, calibration=_data(seed=9)))
    assert len(opened.calls) == 6
    assert before.items() <= _stamps(workspace).items()


def _other_model(matrix: Matrix, tmp_path: Path) -> Matrix:
    return replace(matrix, bundles=(_bundle(_model(tmp_path / "other.onnx", seed=3)),))


def _other_contract(matrix: Matrix, tmp_path: Path) -> Matrix:
    return replace(matrix, bundles=(_bundle(tmp_path / "m.onnx", mean=[0.4]),))


def _other_labels(matrix: Matrix, tmp_path: Path) -> Matrix:
    return replace(matrix, bundles=(_bundle(tmp_path / "m.onnx", labels=("a", "b", "d")),))


def _other_items(matrix: Matrix, tmp_path: Path) -> Matrix:
    del tmp_path
    return _items(matrix, dataset=matrix.tasks["task"].dataset.subset(range(9)))


@pytest.mark.parametrize("change", [_other_model, _other_contract, _other_labels, _other_items])
def test_another_model_contract_or_data_runs_everything(
    workspace: Workspace, matrix: Matrix, opened: _Opened, tmp_path: Path, change: Callable[[Matrix, Path], Matrix]
) -> None:
    evaluate(workspace, matrix)
    evaluate(workspace, change(matrix, tmp_path))
    assert len(opened.calls) == 10
    fresh = Workspace(tmp_path / "fresh")
    evaluate(fresh, change(matrix, tmp_path))
    assert _content(workspace) == _content(fresh)


def test_stale_cells_are_gone_before_the_first_new_one(
    workspace: Workspace, matrix: Matrix, opened: _Opened, tmp_path: Path
) -> None:
    evaluate(workspace, matrix)
    opened.before = lambda call, _runtime: (_ for _ in ()).throw(KeyboardInterrupt) if call == 5 else None
    with pytest.raises(KeyboardInterrupt):
        evaluate(workspace, _other_model(matrix, tmp_path))
    assert _stamps(workspace) == {}


def test_a_damaged_cell_is_run_again(workspace: Workspace, matrix: Matrix, opened: _Opened) -> None:
    evaluate(workspace, matrix)
    before = _content(workspace)
    path = workspace.cell_path("m", "bgr")
    path.write_bytes(path.read_bytes()[:-20])
    evaluate(workspace, matrix)
    assert len(opened.calls) == 6
    assert _content(workspace) == before


# ------------------------------------------------------------------------- what goes wrong


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (RuntimeError("the kernel fell over"), "RuntimeError: the kernel fell over"),
        (MemoryError(), "MemoryError: "),
        (EvaluationError("it cannot be loaded"), "it cannot be loaded"),
    ],
)
def test_a_cell_s_error_is_its_own(
    workspace: Workspace, matrix: Matrix, opened: _Opened, error: Exception, reason: str
) -> None:
    def fail(_call: int, runtime: Runtime) -> None:
        if runtime.batch_size == 1:
            raise error

    opened.before = fail
    evaluate(workspace, matrix)
    assert _statuses(workspace, matrix) == {
        "reference": "ok", "bgr": "ok", "batch-1": "error", "nearest": "ok", "int8": "ok",
    }  # fmt: skip
    info, records = _cell(workspace, "batch-1")
    assert info.reason == reason
    assert len(records) == 0
    opened.before = lambda _call, _runtime: None
    evaluate(workspace, matrix)
    assert len(opened.calls) == 6
    assert _cell(workspace, "batch-1")[0].status == "ok"


def test_debug_lets_an_unforeseen_error_through(workspace: Workspace, matrix: Matrix, opened: _Opened) -> None:
    opened.before = lambda _call, _runtime: (_ for _ in ()).throw(RuntimeError("x"))
    with pytest.raises(RuntimeError, match="x"):
        evaluate(workspace, matrix, debug=True)


def test_a_full_disk_stops_the_run_and_keeps_what_is_finished(
    workspace: Workspace, matrix: Matrix, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls, sync = [], os.fsync

    def full(descriptor: int) -> None:
        calls.append(descriptor)
        if len(calls) > 2:
            raise OSError(28, "No space left on device")
        sync(descriptor)

    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", full)
        with pytest.raises(WorkspaceError, match="No space left"):
            evaluate(workspace, matrix)
    finished = _stamps(workspace)
    assert len(finished) == 2
    evaluate(workspace, matrix)
    assert finished.items() <= _stamps(workspace).items()
    assert set(_statuses(workspace, matrix).values()) == {"ok"}


def _folder(root: Path, broken: int, whole: int = 6) -> Dataset:
    for row in range(whole + broken):
        path = root / CLASSES[row % 3] / f"{row}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.random.default_rng(row).integers(0, 256, (9, 8, 3), dtype=np.uint8)).save(path)
        if row >= whole:
            path.write_bytes(path.read_bytes()[:60])
    return read_folder(root, CLASSES)


def test_unreadable_items_are_recorded_as_such(workspace: Workspace, matrix: Matrix, tmp_path: Path) -> None:
    data = _folder(tmp_path / "images", broken=2)
    evaluate(workspace, _items(matrix, dataset=data))
    for environment in ("reference", "bgr", "batch-1"):
        info, records = _cell(workspace, environment)
        assert records.item_id.tolist() == [item.id for item in data.items]
        status = dict(zip(records.item_id.tolist(), records.status.tolist(), strict=True))
        assert {i for i, s in status.items() if s == "unreadable"} == {"a/6.png", "b/7.png"}
        assert np.isnan(records.correct[records.status == "unreadable"]).all()
        assert info.reason.startswith("2 items cannot be decoded, 'a/6.png' first: ")


def test_a_quantisers_items_that_cannot_be_read_are_told(workspace: Workspace, matrix: Matrix, tmp_path: Path) -> None:
    quantised = _environment("int8", deviations={"precision.format": "int8-qdq"})
    matrix = replace(_items(matrix, calibration=_folder(tmp_path / "images", broken=2)), environments=(quantised,))
    evaluate(workspace, matrix)
    info, _ = _cell(workspace, "int8")
    assert info.status == "ok"
    assert info.reason.startswith("the quantiser calibrated without 2 of its 8 items, which cannot be decoded: Pillow")


def test_data_of_which_nothing_can_be_read_is_all_unreadable(
    workspace: Workspace, matrix: Matrix, tmp_path: Path
) -> None:
    evaluate(workspace, _items(matrix, dataset=_folder(tmp_path / "images", broken=4, whole=0)))
    assert set(_statuses(workspace, matrix).values()) == {"ok"}
    assert _cell(workspace, "bgr")[1].status.tolist() == ["unreadable"] * 4


def test_outputs_that_are_not_finite_are_recorded(workspace: Workspace, matrix: Matrix, tmp_path: Path) -> None:
    evaluate(workspace, replace(matrix, bundles=(_bundle(_model(tmp_path / "log.onnx", last="Log")),), environments=()))
    info, records = _cell(workspace, "reference")
    data, how = matrix.tasks["task"].dataset, matrix.bundles[0].contract.preprocessing
    weights, bias = _weights()
    inputs = prepare_batch([data.raw(i) for i in range(len(data))], how).reshape(len(data), -1)
    whole = (inputs @ weights + bias > 0).all(axis=1)
    assert info.status == "ok"
    assert records.status.tolist() == np.where(whole, "ok", "nan_output").tolist()
    assert not whole.all()
    assert (records.correct[~whole] == 0).all()
    assert np.isnan(records.confidence[~whole]).all()


def test_probabilities_that_the_contract_calls_logits_are_noted(
    workspace: Workspace, matrix: Matrix, tmp_path: Path
) -> None:
    softmax = _bundle(_model(tmp_path / "softmax.onnx", last="Softmax"))
    evaluate(
        workspace,
        replace(matrix, bundles=(softmax, matrix.bundles[0].model_copy(update={"name": "plain"})), environments=()),
    )
    assert "the outputs look like probabilities" in _cell(workspace, "reference")[0].reason
    assert not _cell(workspace, "reference", "plain")[0].reason


def test_labels_that_are_not_the_model_s_are_an_error(workspace: Workspace, matrix: Matrix, tmp_path: Path) -> None:
    evaluate(workspace, replace(matrix, bundles=(_bundle(tmp_path / "m.onnx", labels=(*CLASSES, "d")),)))
    assert set(_statuses(workspace, matrix).values()) == {"error"}
    assert "model.labels in the contract" in _cell(workspace, "reference")[0].reason


def test_a_model_that_was_replaced_or_is_gone_is_an_error(workspace: Workspace, matrix: Matrix, tmp_path: Path) -> None:
    evaluate(workspace, replace(matrix, environments=(BGR,)))
    _model(tmp_path / "m.onnx", seed=8)
    evaluate(workspace, matrix)
    assert _statuses(workspace, matrix) == {
        "reference": "ok", "bgr": "ok", "batch-1": "error", "nearest": "error", "int8": "error",
    }  # fmt: skip
    assert "m.onnx is not the file that this run was planned with" in _cell(workspace, "int8")[0].reason
    (tmp_path / "m.onnx").unlink()
    evaluate(workspace, matrix)
    assert "m.onnx" in _cell(workspace, "int8")[0].reason
    assert _cell(workspace, "int8")[0].status == "error"


def test_an_environment_that_means_nothing_is_an_error_of_its_own(workspace: Workspace, matrix: Matrix) -> None:
    typo = _environment("typo", deviations={"runtime__bach_size": 1})
    changed = replace(matrix, environments=(typo, BGR))
    evaluate(workspace, changed)
    assert _statuses(workspace, changed) == {"reference": "ok", "typo": "error", "bgr": "ok"}
    assert "Did you mean 'runtime.batch_size'" in _cell(workspace, "typo")[0].reason


# ------------------------------------------------------------------- what cannot apply


def test_what_changes_nothing_is_not_applicable(workspace: Workspace, matrix: Matrix, opened: _Opened) -> None:
    both = _environment("both", deviations={"preprocessing__resize.interpolation": "nearest", "runtime__batch_size": 2})
    changed = _items(replace(matrix, environments=(NEAREST, both)), dataset=_data(size=SIZE))
    evaluate(workspace, changed)
    assert _statuses(workspace, changed) == {"reference": "ok", "nearest": "not_applicable", "both": "ok"}
    same = "every probed item already has the model's size of 6x5: nothing is resized"
    assert _cell(workspace, "nearest")[0].reason == same
    assert len(_cell(workspace, "nearest")[1]) == 0
    assert _cell(workspace, "both")[0].reason == f"its preprocessing changes no item: {same}"
    assert len(opened.calls) == 2
    before = _stamps(workspace)
    evaluate(workspace, changed)
    assert _stamps(workspace) == before


def test_one_item_that_changes_makes_it_applicable(workspace: Workspace, matrix: Matrix) -> None:
    """Also where the probe of no_effect, which looks at 64 items, passes it over."""
    images = [np.random.default_rng(i).integers(0, 256, (*SIZE, 3), dtype=np.uint8) for i in range(200)]
    images[1] = np.random.default_rng(1).integers(0, 256, (9, 8, 3), dtype=np.uint8)
    data = Pixels("d", CLASSES, [Item(f"i{row}", 0) for row in range(200)], images)
    evaluate(workspace, _items(replace(matrix, environments=(NEAREST,)), dataset=data))
    reference, nearest = _cell(workspace, "reference")[1], _cell(workspace, "nearest")[1]
    assert np.flatnonzero(reference.confidence != nearest.confidence).tolist() == [1]


def test_what_contradicts_the_contract_is_not_applicable(
    workspace: Workspace, matrix: Matrix, tmp_path: Path, opened: _Opened
) -> None:
    area = Resize(size=SIZE, library="opencv", interpolation="area")
    bicubic = _environment("bicubic", deviations={"preprocessing__resize.interpolation": "bicubic"})
    already = _environment("already", deviations={"runtime__batch_size": 16})
    changed = replace(
        matrix, bundles=(_bundle(tmp_path / "m.onnx", resize=area.model_dump()),), environments=(bicubic, already)
    )
    evaluate(workspace, changed)
    assert _statuses(workspace, changed) == {
        "reference": "ok",
        "bicubic": "not_applicable",
        "already": "not_applicable",
    }
    assert (
        "it contradicts the model's contract: preprocessing.resize: opencv's" in _cell(workspace, "bicubic")[0].reason
    )
    assert _cell(workspace, "already")[0].reason == "the reference already has runtime.batch_size = 16"
    before = _stamps(workspace)
    evaluate(workspace, changed)
    assert _stamps(workspace) == before
    assert len(opened.calls) == 1


def test_a_contract_that_changes_makes_an_environment_applicable(
    workspace: Workspace, matrix: Matrix, tmp_path: Path
) -> None:
    nearest = {"size": SIZE, "interpolation": "nearest"}
    evaluate(workspace, replace(matrix, bundles=(_bundle(tmp_path / "m.onnx", resize=nearest),)))
    assert _cell(workspace, "nearest")[0].status == "not_applicable"
    evaluate(workspace, matrix)
    assert _cell(workspace, "nearest")[0].status == "ok"


def test_the_reason_is_the_one_of_this_contract(workspace: Workspace, matrix: Matrix, tmp_path: Path) -> None:
    bicubic = _environment("bicubic", deviations={"preprocessing__resize.interpolation": "bicubic"})
    for resize, reason in (
        ({"size": SIZE, "interpolation": "bicubic"}, "the reference already has"),
        ({"size": SIZE, "library": "opencv", "interpolation": "area"}, "it contradicts the model's contract"),
    ):
        bundle = _bundle(tmp_path / "m.onnx", resize=resize)
        evaluate(workspace, replace(matrix, bundles=(bundle,), environments=(bicubic,)))
        assert _cell(workspace, "bicubic")[0].reason.startswith(reason)


def test_what_the_machine_lacks_is_skipped_and_tried_again(
    workspace: Workspace, matrix: Matrix, monkeypatch: pytest.MonkeyPatch
) -> None:
    def lacking(_runtime: Runtime) -> None:
        raise SkippedError("it is not installed; install it")

    changed = replace(matrix, environments=(SAMPLED, BGR))
    with monkeypatch.context() as patched:
        patched.setattr(ReferenceSession, "available", staticmethod(lacking))
        evaluate(workspace, changed)
    assert _statuses(workspace, changed) == {"reference": "ok", "sampled": "skipped", "bgr": "ok"}
    assert _cell(workspace, "sampled")[0].reason == "it is not installed; install it"
    evaluate(workspace, changed)
    assert _cell(workspace, "sampled")[0].status == "ok"


# -------------------------------------------------------------------- calibration items


def test_static_int8_needs_calibration_items(workspace: Workspace, matrix: Matrix) -> None:
    changed = replace(matrix, environments=(QDQ, BGR))
    evaluate(workspace, changed)
    assert _statuses(workspace, changed) == {"reference": "ok", "qdq": "error", "bgr": "ok"}
    reason = _cell(workspace, "qdq")[0].reason
    assert reason == "int8-qdq needs calibration items that are not judged; give --calibration-data DATA."
    evaluate(workspace, _items(changed, calibration=_data(seed=5)))
    assert _cell(workspace, "qdq")[0].status == "ok"


def test_other_calibration_items_run_the_calibrated_cell_alone(
    workspace: Workspace, matrix: Matrix, opened: _Opened
) -> None:
    changed = _items(replace(matrix, environments=(QDQ, INT8)), calibration=_data(seed=5))
    evaluate(workspace, changed)
    evaluate(workspace, _items(changed, calibration=_data(seed=6)))
    assert len(opened.calls) == 4
    assert opened.calls[3][1] != next(model for _, model in opened.calls if "variants" in model.parts)


def test_a_calibrated_variant_belongs_to_its_contract(
    workspace: Workspace, matrix: Matrix, tmp_path: Path, opened: _Opened
) -> None:
    """Ranges come from prepared items: another mean needs another file."""
    changed = _items(replace(matrix, environments=(QDQ,)), calibration=_data(seed=5))
    evaluate(workspace, changed)
    other = replace(changed, bundles=(_bundle(tmp_path / "m.onnx", mean=[30.0]),))
    evaluate(workspace, other)
    assert opened.calls[1][1] != opened.calls[3][1]
    fresh = Workspace(tmp_path / "fresh")
    evaluate(fresh, other)
    assert _content(workspace) == _content(fresh)


# ----------------------------------------------------------------------------- subsample

LEVELS = {f"i{row:03d}": 1 + row % 5 for row in range(40)}


def _sample(workspace: Workspace, matrix: Matrix, data: Dataset, **changes: Any) -> list[str]:
    changed = replace(matrix, environments=(SAMPLED,), **{"subsample_per_level": 3, **changes})
    evaluate(workspace, _items(changed, dataset=data, strata=LEVELS))
    assert len(_cell(workspace, "reference")[1]) == len(data)
    return [str(item) for item in _cell(workspace, "sampled")[1].item_id]


def test_a_subsample_holds_as_many_of_every_level(workspace: Workspace, matrix: Matrix) -> None:
    sample = _sample(workspace, matrix, _data(40))
    assert len(sample) == 15
    assert sample == sorted(sample)
    assert [sum(LEVELS[item] == level for item in sample) for level in range(1, 6)] == [3] * 5


def test_a_subsample_depends_on_ids_and_seed_alone(workspace: Workspace, matrix: Matrix) -> None:
    data = _data(40)
    sample = _sample(workspace, matrix, data)
    turned = data.subset(np.random.default_rng(1).permutation(40).tolist())
    assert sorted(_sample(workspace, matrix, turned)) == sample
    assert set(_sample(workspace, matrix, data, seed=1)) != set(sample)
    assert set(_sample(workspace, matrix, data, subsample_per_level=4)) > set(sample)
    assert _sample(workspace, matrix, data, subsample_per_level=100) == [item.id for item in data.items]


def test_a_subsample_answers_as_the_whole_does(workspace: Workspace, matrix: Matrix) -> None:
    sample = _sample(workspace, matrix, _data(40))
    reference, sampled = _cell(workspace, "reference")[1], _cell(workspace, "sampled")[1]
    rows = np.flatnonzero(np.isin(reference.item_id, sample))
    assert sampled.prediction.tolist() == reference.prediction[rows].tolist()
    np.testing.assert_allclose(sampled.confidence, reference.confidence[rows], rtol=1e-5)


def test_other_levels_draw_another_subsample(workspace: Workspace, matrix: Matrix, opened: _Opened) -> None:
    _sample(workspace, matrix, _data(40))
    others = dict.fromkeys(LEVELS, 1)
    assert len(_sample(workspace, matrix, _data(40))) == 15
    assert len(opened.calls) == 2
    changed = replace(matrix, environments=(SAMPLED,), subsample_per_level=3)
    evaluate(workspace, _items(changed, dataset=_data(40), strata=others))
    assert len(_cell(workspace, "sampled")[1]) == 3
    assert len(opened.calls) == 3
