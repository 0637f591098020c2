"""Reading, hashing and describing ONNX files, good and bad."""

from __future__ import annotations

import hashlib
from pathlib import Path

import onnx
import pytest

from gapshift.envs.runtimes.conformance import small_classifier
from gapshift.errors import ModelFileError
from gapshift.export.model_file import describe, read_model, sha256

NEXT = "Give the path of a file that torch.onnx.export or another ONNX exporter wrote."


@pytest.fixture
def model(tmp_path: Path) -> Path:
    path = tmp_path / "model.onnx"
    small_classifier(path)
    return path


def test_description(model: Path) -> None:
    stamped = read_model(model)
    onnx.helper.set_model_props(stamped, {"key": "value"})
    onnx.save(stamped, str(model))
    description = describe(model)
    assert [(t.name, t.shape, t.dtype) for t in description.inputs] == [("input", (None, 3, 8, 8), "float32")]
    assert [(t.name, t.shape) for t in description.outputs] == [("logits", (None, 5))]
    assert (description.opset, description.fixed_batch, description.metadata) == (20, None, {"key": "value"})


def test_fixed_batch(tmp_path: Path) -> None:
    small_classifier(tmp_path / "one.onnx", batch=1)
    assert describe(tmp_path / "one.onnx").fixed_batch == 1


def test_weights_listed_as_inputs_are_not_inputs(model: Path) -> None:
    old_style = read_model(model)
    weight = old_style.graph.initializer[0]
    old_style.graph.input.append(onnx.helper.make_tensor_value_info(weight.name, weight.data_type, weight.dims))
    onnx.save(old_style, str(model))
    assert [tensor.name for tensor in describe(model).inputs] == ["input"]


def test_hash_is_of_the_bytes(model: Path) -> None:
    assert sha256(model) == hashlib.sha256(model.read_bytes()).hexdigest()


def _external(model: Path) -> Path:
    out = model.with_name("external.onnx")
    onnx.save_model(read_model(model), str(out), save_as_external_data=True, location="weights.bin", size_threshold=0)
    return out


def test_hash_covers_external_weights(model: Path) -> None:
    external = _external(model)
    before, graph = sha256(external), external.read_bytes()
    weights = external.with_name("weights.bin")
    weights.write_bytes(weights.read_bytes()[:-1] + b"\x55")
    assert external.read_bytes() == graph
    assert sha256(external) != before


def test_external_weights_are_read(model: Path) -> None:
    assert read_model(_external(model)).graph.initializer[0].HasField("raw_data")


def test_external_weights_that_are_missing(model: Path) -> None:
    external = _external(model)
    external.with_name("weights.bin").unlink()
    with pytest.raises(ModelFileError, match=r"external\.onnx is not a valid ONNX model: .*weights\.bin"):
        read_model(external)
    with pytest.raises(ModelFileError, match=r"Cannot read .*weights\.bin.* external data beside it"):
        sha256(external)


@pytest.mark.parametrize(
    "location", ["/etc/hostname", "../weights.bin", "a/../../weights.bin", "C:\\\\w.bin", "..\\\\w"]
)
@pytest.mark.parametrize("place", ["weight", "constant in a branch"])
def test_external_weights_outside_the_folder_are_refused(tmp_path: Path, location: str, place: str) -> None:
    path = tmp_path / "inner" / "external.onnx"
    path.parent.mkdir()
    small_classifier(path)
    model = onnx.load(str(path))
    weight = onnx.TensorProto()
    weight.CopyFrom(model.graph.initializer[0])
    if place == "weight":
        weight = model.graph.initializer[0]
    _keep_elsewhere(weight, location)
    if place != "weight":
        constant = onnx.helper.make_node("Constant", [], ["inside"], value=weight)
        branch = onnx.helper.make_graph([constant], "branch", [], [])
        model.graph.node.append(onnx.helper.make_node("If", ["c"], ["o"], then_branch=branch, else_branch=branch))
    path.write_bytes(model.SerializeToString())
    for read in (read_model, sha256, describe):
        with pytest.raises(ModelFileError, match=r"external\.onnx keeps weights in .*outside its own folder"):
            read(path)


def _keep_elsewhere(weight: onnx.TensorProto, location: str) -> None:
    weight.ClearField("raw_data")
    weight.data_location = onnx.TensorProto.EXTERNAL
    weight.external_data.add(key="location", value=location)


def test_absent_file(tmp_path: Path) -> None:
    path = tmp_path / "absent.onnx"
    with pytest.raises(ModelFileError) as caught:
        read_model(path)
    assert str(caught.value) == f"{path} does not exist; an ONNX file is expected. {NEXT}"


def test_folder(tmp_path: Path) -> None:
    with pytest.raises(ModelFileError, match=r"is a folder; an ONNX file is expected\."):
        describe(tmp_path)


@pytest.mark.parametrize("read", [read_model, describe, sha256])
@pytest.mark.parametrize("content", [b"hello, I am a text file", b"\x89PNG\r\n\x1a\n" + bytes(100), b"\xff" * 64])
def test_file_of_another_kind(read: object, content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "junk.onnx"
    path.write_bytes(content)
    with pytest.raises(ModelFileError) as caught:
        read(path)  # type: ignore[operator]  # one of three functions of a path
    text = str(caught.value)
    assert text.startswith(f"{path} ({len(content)} bytes) ")
    assert text.endswith(NEXT)


def test_empty_file(tmp_path: Path) -> None:
    path = tmp_path / "empty.onnx"
    path.touch()
    with pytest.raises(ModelFileError) as caught:
        read_model(path)
    assert str(caught.value) == f"{path} (0 bytes) holds no ONNX graph. {NEXT}"


def test_file_cut_short(model: Path) -> None:
    model.write_bytes(model.read_bytes()[:-200])
    with pytest.raises(ModelFileError, match=r"is not an ONNX file, or it is cut short: "):
        read_model(model)


def test_graph_that_breaks_the_rules(model: Path) -> None:
    broken = read_model(model)
    broken.graph.node[1].input[0] = "nowhere"
    model.write_bytes(broken.SerializeToString())
    with pytest.raises(ModelFileError, match=r"is not a valid ONNX model: .*nowhere.* Give the path"):
        read_model(model)
