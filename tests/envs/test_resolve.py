"""From a contract and an environment to a deployment, or the reason why there is none."""

from __future__ import annotations

from typing import Any

import pytest

from gapshift.envs.resolve import (
    item_deviations,
    preprocessing_deviations,
    reference_deployment,
    resolve,
    shift_deviations,
)
from gapshift.errors import NotApplicableError, UnknownNameError
from gapshift.schema import (
    REFERENCE_ENVIRONMENT,
    Contract,
    Deployment,
    Environment,
    ModelInterface,
    Precision,
    Preprocessing,
    Resize,
    Runtime,
    Shift,
)


def _contract(**preprocessing: Any) -> Contract:
    resize = preprocessing.pop("resize", Resize(size=(8, 8)))
    interface = ModelInterface(input="x", output="y", labels=("a", "b"))
    return Contract(preprocessing=Preprocessing(resize=resize, **preprocessing), model=interface)


def _environment(deviations: dict[str, Any]) -> Environment:
    return Environment(name="e", kind="lossy", summary="s", deviations=deviations)


def test_the_reference_is_the_contract_on_onnxruntime_in_float32() -> None:
    contract = _contract(mean=(0.5,))
    reference = reference_deployment(contract)
    assert reference == Deployment(preprocessing=contract.preprocessing, precision=Precision(), runtime=Runtime())
    assert reference.runtime.provider == "CPUExecutionProvider"
    assert reference.runtime.batch_size == 16
    assert resolve(contract, REFERENCE_ENVIRONMENT) == reference


def test_deviations_on_every_axis_are_resolved_together() -> None:
    deviations = {"preprocessing.color": "BGR", "precision.format": "int8-dynamic", "runtime.intra_op_threads": 1}
    deployment = resolve(_contract(), _environment(deviations))
    assert reference_deployment(_contract()).differences(deployment) == deviations


@pytest.mark.parametrize(
    ("contract", "deviations", "reason"),
    [
        (
            _contract(resize=Resize(size=(8, 8), interpolation="nearest")),
            {"preprocessing.resize.interpolation": "nearest"},
            "^the reference already has preprocessing.resize.interpolation = nearest$",
        ),
        (
            _contract(),
            {"preprocessing.mean": [0.0], "preprocessing.std": [1.0]},
            r"the reference already has preprocessing\.mean = \[0\.0\], preprocessing\.std = \[1\.0\]",
        ),
        (_contract(), {"runtime.batch_size": 16}, "the reference already has runtime.batch_size = 16"),
        (
            _contract(resize=Resize(size=(8, 8), library="opencv", interpolation="area")),
            {"preprocessing.resize.interpolation": "bicubic"},
            "^it contradicts the model's contract: preprocessing.resize: opencv's 'bicubic' does not antialias",
        ),
        (
            _contract(color="RGB", mean=(0.1, 0.2, 0.3)),
            {"preprocessing.color": "L"},
            "it contradicts the model's contract: preprocessing: mean has 3 values; L takes 1",
        ),
    ],
)
def test_an_environment_that_cannot_apply_says_why(contract: Contract, deviations: dict[str, Any], reason: str) -> None:
    with pytest.raises(NotApplicableError, match=reason):
        resolve(contract, _environment(deviations))


def test_one_deviation_of_several_is_enough() -> None:
    deployment = resolve(_contract(), _environment({"preprocessing.mean": [0.0], "preprocessing.std": [0.5]}))
    assert deployment.preprocessing.std == (0.5,)


def test_an_unknown_deviation_is_no_matter_of_applying() -> None:
    with pytest.raises(UnknownNameError, match=r"Unknown deviation 'runtime\.bach_size'"):
        resolve(_contract(), _environment({"runtime.bach_size": 1}))


def test_preprocessing_deviations_are_those_that_change_the_tensor() -> None:
    environment = _environment({"preprocessing.color": "BGR", "precision.format": "float16"})
    assert preprocessing_deviations(environment) == {"preprocessing.color": "BGR"}
    assert preprocessing_deviations(REFERENCE_ENVIRONMENT) == {}
    assert item_deviations(REFERENCE_ENVIRONMENT) == {}


def test_a_corruption_is_a_deviation_of_the_items_too() -> None:
    environment = _environment({"shift.corruption": "snow", "runtime.batch_size": 1, "preprocessing.color": "BGR"})
    assert shift_deviations(environment) == {"shift.corruption": "snow"}
    assert item_deviations(environment) == {"preprocessing.color": "BGR", "shift.corruption": "snow"}
    assert resolve(_contract(), environment).shift == Shift(corruption="snow", severity=3, seed=0)


@pytest.mark.parametrize(
    ("deviations", "reason"),
    [
        (
            {"shift.corruption": "homoglyphs", "shift.severity": 5},
            "^it sets shift.corruption = homoglyphs, shift.severity = 5, which text models can have; this one's domain "
            "is vision$",
        ),
        ({"shift.severity": 5}, "^it contradicts the model's contract: shift: severity and seed mean nothing without"),
        ({"shift.severity": 3}, "^the reference already has shift.severity = 3$"),
    ],
)
def test_a_corruption_that_cannot_apply_says_why(deviations: dict[str, Any], reason: str) -> None:
    with pytest.raises(NotApplicableError, match=reason):
        resolve(_contract(), _environment(deviations))


def test_a_corruption_that_exists_nowhere_is_no_matter_of_applying() -> None:
    with pytest.raises(UnknownNameError, match=r"^Unknown corruption 'snowy'\. Did you mean 'snow'"):
        resolve(_contract(), _environment({"shift.corruption": "snowy"}))
