"""The contract in the ONNX file and in TOML, and whether it fits the graph."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from gapshift.errors import ContractError, ModelFileError
from gapshift.export.model_file import describe
from gapshift.export.stamp import (
    CONTRACT,
    EXAMPLE,
    check_against,
    contract_from_toml,
    contract_to_toml,
    read_contract,
    read_stamp,
    stamp,
)
from gapshift.schema import Contract, ModelInterface, Preprocessing, Resize

LABELS = ("cat", "dog", 'quote " and \\ and ü and \x7f')


def make_contract(**preprocessing: object) -> Contract:
    wanted = {"color": "L", "resize": Resize(size=(4, 6)), **preprocessing}
    return Contract(
        preprocessing=Preprocessing.model_validate(wanted),
        model=ModelInterface(input="pixels", output="scores", labels=LABELS),
    )


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """pixels (batch, 1, 4, 6) -> scores (batch, 3)."""
    weights = numpy_helper.from_array(np.zeros((24, 3), np.float32), "weights")
    graph = helper.make_graph(
        [
            helper.make_node("Flatten", ["pixels"], ["flat"]),
            helper.make_node("MatMul", ["flat", "weights"], ["scores"]),
        ],
        "g",
        [helper.make_tensor_value_info("pixels", TensorProto.FLOAT, ["batch", 1, 4, 6])],
        [helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["batch", 3])],
        [weights],
    )
    path = tmp_path / "model.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)]), path)
    return path


def test_stamped_contract_is_read_back_and_other_metadata_stays(model: Path) -> None:
    loaded = onnx.load(model)
    helper.set_model_props(loaded, {"author": "someone", "gapshift.regime": "old", "gapshift.stale": "gone"})
    onnx.save(loaded, model)
    stamp(model, make_contract(), {"regime": "iid"})
    assert read_contract(model) == make_contract()
    assert read_stamp(model)["regime"] == "iid"
    assert describe(model).metadata["author"] == "someone"
    assert "gapshift.stale" not in describe(model).metadata


def test_a_model_without_contract_gets_the_way_out(model: Path) -> None:
    with pytest.raises(ContractError, match=r"model.onnx carries no contract .*'gapshift.contract'") as caught:
        read_contract(model)
    assert "--contract FILE" in str(caught.value)
    assert EXAMPLE in str(caught.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", " is not JSON"),
        ("{}", ": the key 'preprocessing' is missing"),
        (
            make_contract().model_dump_json().replace('"NCHW"', '"CHW"'),
            r": preprocessing.layout: .*'NCHW' or 'NHWC' \(got 'CHW'\)",
        ),
    ],
)
def test_an_invalid_stamp_is_named(model: Path, text: str, message: str) -> None:
    loaded = onnx.load(model)
    helper.set_model_props(loaded, {CONTRACT: text})
    onnx.save(loaded, model)
    with pytest.raises(ContractError, match=f"he contract inside .*model.onnx{message}"):
        read_contract(model)


def test_a_file_that_is_not_onnx(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(b"no model")
    with pytest.raises(ModelFileError, match=r"model\.onnx"):
        read_contract(path)


def test_the_example_is_a_contract(tmp_path: Path) -> None:
    path = tmp_path / "contract.toml"
    path.write_text(EXAMPLE)
    contract = contract_from_toml(path)
    assert contract.model.labels == ("cat", "dog")
    assert contract.preprocessing.resize.size == (224, 224)


@given(
    st.lists(st.text(st.characters(exclude_categories=["Cs"])), min_size=2, max_size=4, unique=True),
    st.floats(1e-9, 1e9),
    st.none() | st.integers(1, 100),
)
def test_toml_round_trip(
    tmp_path_factory: pytest.TempPathFactory, labels: list[str], scale: float, quality: int | None
) -> None:
    interface = ModelInterface(input="in", output="out", labels=tuple(labels))
    contract = Contract(preprocessing=make_contract(scale=scale, jpeg_quality=quality).preprocessing, model=interface)
    path = tmp_path_factory.mktemp("toml") / "contract.toml"
    path.write_text(contract_to_toml(contract), encoding="utf-8", newline="")
    assert contract_from_toml(path) == contract


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (
            "color",
            "colour",
            r"Unknown key in .*contract.toml 'preprocessing.colour'. Did you mean 'preprocessing.color'",
        ),
        ('"RGB" ', '"rgb" ', r"preprocessing.color: Input should be 'RGB', 'BGR' or 'L' \(got 'rgb'\)"),
        ("scale = 0.0", "scale = -0.0", r"preprocessing.scale: .*greater than 0"),
        ("0.485", "nan", r"preprocessing.mean.0: Input should be a finite number \(got nan\)"),
        ('["cat", "dog"]', '["cat"]', "model.labels: .*at least 2"),
        ('output = "logits" ', "", "the key 'model.output' is missing"),
        ("[model]", "[model", "is not readable TOML"),
        ("size = [224, 224]", "size = [224]", "preprocessing.resize.size"),
    ],
)
def test_toml_errors_name_key_value_and_valid_values(tmp_path: Path, old: str, new: str, message: str) -> None:
    assert old in EXAMPLE
    path = tmp_path / "contract.toml"
    path.write_text(EXAMPLE.replace(old, new, 1))
    with pytest.raises(ContractError, match=message) as caught:
        contract_from_toml(path)
    assert "contract.toml" in str(caught.value)


def test_missing_toml_says_how_to_write_one(tmp_path: Path) -> None:
    with pytest.raises(ContractError, match=r"No such file: .*none.toml"):
        contract_from_toml(tmp_path / "none.toml")


def test_a_fitting_contract_passes(model: Path) -> None:
    check_against(make_contract(), describe(model))


@pytest.mark.parametrize(
    ("contract", "message"),
    [
        (
            make_contract(color="RGB"),
            r"images of \(3, 4, 6\) \(RGB\); m takes 'pixels' float32 \(\?, 1, 4, 6\)",
        ),
        (make_contract(resize=Resize(size=(6, 4))), r"\(1, 6, 4\)"),
        (make_contract(layout="NHWC"), r"makes NHWC images of \(4, 6, 1\)"),
        (make_contract(dtype="uint8"), "dtype is 'uint8'; m takes 'pixels' float32"),
    ],
)
def test_preprocessing_that_does_not_fit(model: Path, contract: Contract, message: str) -> None:
    with pytest.raises(ContractError, match=message):
        check_against(contract, describe(model), model="m")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"input": "pixel"}, "model.input is 'pixel'; m has the inputs 'pixels'. Did you mean 'pixels'"),
        ({"output": "logits"}, "model.output is 'logits'; m has the outputs 'scores'"),
        ({"labels": ("a", "b")}, r"names 2 classes; m puts out 'scores' float32 \(\?, 3\)"),
    ],
)
def test_interface_that_does_not_fit(model: Path, change: dict[str, object], message: str) -> None:
    interface = make_contract().model.model_copy(update=change)
    with pytest.raises(ContractError, match=message):
        check_against(make_contract().model_copy(update={"model": interface}), describe(model), model="m")
