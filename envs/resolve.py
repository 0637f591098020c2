"""From a contract and an environment to the deployment that it describes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gapshift.errors import NotApplicableError, SettingsError
from gapshift.schema import Contract, Deployment, Environment


def reference_deployment(contract: Contract) -> Deployment:
    """The contract's preprocessing, float32, ONNX Runtime on the CPU, optimisations on, batches of 16."""
    return Deployment(preprocessing=contract.preprocessing)


def resolve(contract: Contract, environment: Environment) -> Deployment:
    """The deployment of one environment.

    Raises NotApplicableError when its deviations contradict the contract, or when the
    contract already is what the environment would make of it.
    """
    reference = reference_deployment(contract)
    try:
        deployment = reference.deviate(environment.deviations)
    except SettingsError as error:
        raise NotApplicableError(f"it contradicts the model's contract: {error}") from error
    if deployment == reference and environment.deviations:
        raise NotApplicableError(f"the reference already has {_listing(environment.deviations)}")
    return deployment


def preprocessing_deviations(environment: Environment) -> dict[str, Any]:
    """The deviations that change an item's tensor."""
    return {key: value for key, value in environment.deviations.items() if key.startswith("preprocessing.")}


def _listing(deviations: Mapping[str, Any]) -> str:
    return ", ".join(f"{key} = {value}" for key, value in deviations.items())
