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
    EXAMPLES,
    check_against,
    contract_from_toml,
    contract_to_toml,
    read_contract,
    read_stamp,
    stamp,
)
from gapshift.schema import (
    PREPROCESSING,
    Contract,
    Domain,
    ModelInterface,
    OutputKind,
    Preprocessing,
    Resize,
)

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
    assert EXAMPLES["vision"] in str(caught.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", " is not JSON"),
        ("{}", ": the key 'preprocessing' is missing"),
        (
            make_contract().model_dump_json().replace('"NCHW"', '"CHW"'),
            r": preprocessing.layout: .*'NCHW', 'NHWC', 'NHWC-as-NCHW' or 'NCHW-as-NHWC' \(got 'CHW'\)",
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
    path.write_text(EXAMPLES["vision"])
    contract = contract_from_toml(path)
    assert contract.model.labels == ("cat", "dog")
    assert isinstance(contract.preprocessing, Preprocessing)
    assert contract.preprocessing.resize.size == (224, 224)


@pytest.mark.parametrize("domain", sorted(PREPROCESSING))
def test_every_domain_has_an_example_that_is_a_contract(tmp_path: Path, domain: Domain) -> None:
    path = tmp_path / "contract.toml"
    path.write_text(EXAMPLES[domain])
    contract = contract_from_toml(path)
    assert contract.domain == domain
    assert type(contract.preprocessing) is PREPROCESSING[domain]
    path.write_text(contract_to_toml(contract))
    assert contract_from_toml(path) == contract
    check_against(contract, describe(_sequence_model(tmp_path / "m.onnx", *FITTING[domain])))


@pytest.mark.parametrize(
    ("dtype", "shape", "domain"),
    [
        (TensorProto.INT64, ["n", "tokens"], "text"),
        (TensorProto.INT32, ["n", 32], "text"),
        (TensorProto.FLOAT, ["n", 40, "frames"], "audio"),
        (TensorProto.FLOAT, ["n", 3, 8, 8], "vision"),
    ],
)
def test_a_model_without_contract_is_shown_one_that_looks_like_it(
    tmp_path: Path, dtype: int, shape: list[int | str], domain: Domain
) -> None:
    with pytest.raises(ContractError, match=f"contract.toml says for {domain} .the other domains: ") as caught:
        read_contract(_sequence_model(tmp_path / "m.onnx", dtype, shape, ["n", 2]))
    assert EXAMPLES[domain] in str(caught.value)


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
    example = EXAMPLES["vision"]
    assert old in example
    path = tmp_path / "contract.toml"
    path.write_text(example.replace(old, new, 1))
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


# ---------------------------------------------------------------------- the other domains

Dims = list[int | str]
FITTING: dict[Domain, tuple[int, Dims, Dims]] = {
    "vision": (TensorProto.FLOAT, ["n", 3, 224, 224], ["n", 2]),
    "text": (TensorProto.INT64, ["n", "tokens"], ["n", 2]),
    "audio": (TensorProto.FLOAT, ["n", 40, "frames"], ["n", 2]),
    "control": (TensorProto.FLOAT, ["n", 4, 4], ["n", 2]),
}
INTERFACE = ModelInterface(input="input", output="logits", labels=("a", "b"))


def _sequence_model(path: Path, dtype: int, shape: Dims, output: Dims) -> Path:
    """input -> logits of the given shapes; what is computed does not matter here."""
    graph = helper.make_graph(
        [helper.make_node("Cast", ["input"], ["logits"], to=TensorProto.FLOAT)],
        "g",
        [helper.make_tensor_value_info("input", dtype, shape)],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, output)],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)]), path)
    return path


def _contract(domain: Domain, kind: OutputKind = "logits", **settings: object) -> Contract:
    return Contract(
        domain=domain,
        preprocessing=PREPROCESSING[domain].model_validate(settings),
        model=INTERFACE.model_copy(update={"output_kind": kind}),
    )


@pytest.mark.parametrize(
    ("contract", "dtype", "shape", "output"),
    [
        (_contract("text"), TensorProto.INT64, ["n", 32], ["n", 2]),
        (_contract("text"), TensorProto.INT32, ["n", "tokens"], ["n", "labels"]),
        (_contract("text", "spans"), TensorProto.INT64, ["n", "tokens"], ["n", 2, "tokens"]),
        (_contract("audio", "probabilities"), TensorProto.FLOAT, ["n", 32, 63], ["n", 2]),
        (_contract("control", "actions"), TensorProto.FLOAT, ["n", "window", 2], ["n", 2]),
        (_contract("control", "actions", scale=(0.5,)), TensorProto.FLOAT, ["n", 4, 7], ["n", 2]),
    ],
)
def test_contracts_of_sequences_that_fit(
    tmp_path: Path, contract: Contract, dtype: int, shape: Dims, output: Dims
) -> None:
    check_against(contract, describe(_sequence_model(tmp_path / "m.onnx", dtype, shape, output)))


@pytest.mark.parametrize(
    ("contract", "dtype", "shape", "output", "message"),
    [
        (
            _contract("text"),
            TensorProto.FLOAT,
            ["n", "tokens"],
            ["n", 2],
            r"domain is 'text', whose inputs are int64 or int32; m takes 'input' float32 \(\?, \?\)\. Set domain",
        ),
        (
            _contract("text", max_length=16),
            TensorProto.INT64,
            ["n", 32],
            ["n", 2],
            r"makes token ids of \(16,\); m takes 'input' int64 \(\?, 32\)\. Set preprocessing\.max_length to",
        ),
        (_contract("text"), TensorProto.INT64, ["n", 32, 1], ["n", 2], r"token ids of \(32,\); m takes"),
        (
            _contract("audio"),
            TensorProto.FLOAT,
            ["n", 40, "frames"],
            ["n", 2],
            r"makes log-mel features of \(32, 63\); m takes .*\(\?, 40, \?\)\. Set preprocessing\.mels, duration",
        ),
        (_contract("audio"), TensorProto.FLOAT, ["n", 32, 62], ["n", 2], r"of \(32, 63\); m takes .*\(\?, 32, 62\)"),
        (_contract("audio"), TensorProto.INT64, ["n", 32, 9], ["n", 2], r"domain is 'audio', whose inputs are float32"),
        (
            _contract("control", "actions", offset=(0, 0, 0)),
            TensorProto.FLOAT,
            ["n", 4, 2],
            ["n", 2],
            r"makes readings of \(4, 3\); m takes .*\(\?, 4, 2\)\. Set preprocessing\.window and scale",
        ),
        (
            _contract("text", "spans"),
            TensorProto.INT64,
            ["n", "tokens"],
            ["n", 2],
            r"output_kind is 'spans' with 2 labels; m puts out 'logits' float32 \(\?, 2\)\. Spans are two labels",
        ),
        (
            _contract("text"),
            TensorProto.INT64,
            ["n", "tokens"],
            ["n", 2, "tokens"],
            r"names 2 classes; m puts out 'logits' float32 \(\?, 2, \?\), and one score per class",
        ),
        (
            _contract("control"),
            TensorProto.FLOAT,
            ["n", 4, 2],
            ["n", 2],
            r"output_kind is 'logits' and its domain 'control', which has 'actions'\. Set model\.output_kind",
        ),
        (_contract("audio", "spans"), TensorProto.FLOAT, ["n", 32, 9], ["n", 2, 9], "domain 'audio', which has 'logi"),
    ],
)
def test_contracts_of_sequences_that_do_not_fit(
    tmp_path: Path, contract: Contract, dtype: int, shape: Dims, output: Dims, message: str
) -> None:
    with pytest.raises(ContractError, match=message):
        check_against(contract, describe(_sequence_model(tmp_path / "m.onnx", dtype, shape, output)), model="m")


def test_contracts_of_other_domains_are_stamped(tmp_path: Path) -> None:
    path = _sequence_model(tmp_path / "m.onnx", *FITTING["text"])
    for wanted in (
        _contract("text", vocabulary=("[PAD]", "[UNK]", "[CLS]", "[SEP]", "naïve", "日本", '"', "\\")),
        _contract("audio", mean=-6.5),
        _contract("control", "actions", offset=(0.1, 1e-9)),
    ):
        stamp(path, wanted)
        assert read_contract(path) == wanted
