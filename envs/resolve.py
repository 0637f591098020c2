"""From a contract and an environment to the deployment that it describes."""

from __future__ import annotations

from typing import Any

from gapshift.errors import NotApplicableError, SettingsError
from gapshift.schema import PREPROCESSING, Contract, Deployment, Environment, Runtime, listing, takes

EPISODES_AT_ONCE = 256
"""Episodes that are steered side by side: their inputs are tiny, and there are hundreds of steps."""


def reference_deployment(contract: Contract) -> Deployment:
    """The contract's preprocessing, float32, ONNX Runtime on the CPU, optimisations on, batches of 16
    (256 episodes in control)."""
    runtime = Runtime(batch_size=EPISODES_AT_ONCE) if contract.domain == "control" else Runtime()
    return Deployment(domain=contract.domain, preprocessing=contract.preprocessing, runtime=runtime)


def resolve(contract: Contract, environment: Environment) -> Deployment:
    """The deployment of one environment.

    Raises NotApplicableError when its deviations contradict the contract, or when the
    contract already is what the environment would make of it.
    """
    if not takes(contract.domain, environment):
        others = [domain for domain in PREPROCESSING if takes(domain, environment)]
        raise NotApplicableError(
            f"it sets {listing(item_deviations(environment))}, which {' and '.join(others) or 'no'} "
            f"models can have; this one's domain is {contract.domain}"
        )
    reference = reference_deployment(contract)
    try:
        deployment = reference.deviate(environment.deviations)
    except SettingsError as error:
        raise NotApplicableError(f"it contradicts the model's contract: {error}") from error
    if deployment == reference and environment.deviations:
        raise NotApplicableError(f"the reference already has {listing(environment.deviations)}")
    return deployment


def preprocessing_deviations(environment: Environment) -> dict[str, Any]:
    """The deviations that prepare an item otherwise."""
    return {key: value for key, value in environment.deviations.items() if key.startswith("preprocessing.")}


def shift_deviations(environment: Environment) -> dict[str, Any]:
    """The deviations that corrupt an item before it is prepared."""
    return {key: value for key, value in environment.deviations.items() if key.startswith("shift.")}


def item_deviations(environment: Environment) -> dict[str, Any]:
    """The deviations that change an item's tensor, and that not every domain has."""
    return preprocessing_deviations(environment) | shift_deviations(environment)
