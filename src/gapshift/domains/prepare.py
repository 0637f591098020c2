"""From an item's raw form to a model's input, whatever the domain."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gapshift.domains import audio, text, vision
from gapshift.domains.base import Dataset, Episode, Raw, Text
from gapshift.errors import DataError, UnreadableItemError
from gapshift.schema import (
    PREPROCESSING,
    AnyPreprocessing,
    AudioPreprocessing,
    ControlPreprocessing,
    Deployment,
    Domain,
    Preprocessing,
    TextPreprocessing,
)

_DOMAINS = {kind: domain for domain, kind in PREPROCESSING.items()}
_CALLED = {Text: "a text", Episode: "an episode", bytes: "a file", np.ndarray: "an array of pixels"}


def prepare(raw: Raw, preprocessing: AnyPreprocessing) -> NDArray[Any]:
    """One item as the model takes it (no batch dimension).

    Control has no such thing: its inputs come about step by step. Raises UnreadableItemError
    for an item that cannot be decoded, DataError for one of another domain.
    """
    if isinstance(preprocessing, Preprocessing) and isinstance(raw, (bytes, np.ndarray)):
        return vision.prepare(raw, preprocessing)
    if isinstance(preprocessing, TextPreprocessing) and isinstance(raw, Text):
        return text.prepare(raw, preprocessing)
    if isinstance(preprocessing, AudioPreprocessing) and isinstance(raw, bytes):
        return audio.prepare(raw, preprocessing)
    raise DataError(
        f"The item is {_CALLED.get(type(raw), type(raw).__name__)}, and a contract of domain "
        f"{_DOMAINS[type(preprocessing)]!r} prepares no such thing. Give data and a contract of one domain; "
        "control's inputs come about step by step."
    )


def no_effect(
    dataset: Dataset,
    domain: Domain,
    contract: AnyPreprocessing,
    deviations: Mapping[str, Any],
    probe: int = 64,
) -> str | None:
    """Why these preprocessing deviations together change nothing, or None where they do.

    ``deviations`` are dotted keys that begin with ``preprocessing.``. For images, text and
    sound up to ``probe`` evenly spaced items are prepared both ways; what a control task's
    sensors do shows in the episodes alone, so there only the settings are compared.
    """
    if isinstance(contract, Preprocessing):
        return vision.no_effect(dataset, contract, deviations, probe)
    reference = Deployment(domain=domain, preprocessing=contract)
    deviated = reference.deviate(deviations)
    changed = [key.removeprefix("preprocessing.") for key in reference.differences(deviated)]
    if not changed:
        return "the contract already says so"
    if isinstance(contract, ControlPreprocessing):
        return None
    seen = 0
    for index in np.linspace(0, len(dataset) - 1, min(probe, len(dataset))).round().astype(int):
        one, other = (_attempt(dataset, int(index), each) for each in (contract, deviated.preprocessing))
        if one is None and other is None:
            continue
        if one is None or other is None or one.dtype != other.dtype or not np.array_equal(one, other):
            return None
        seen += 1
    return f"{', '.join(changed)}: every probed item ({seen}) gives a bit-identical tensor" if seen else None


def _attempt(dataset: Dataset, index: int, preprocessing: AnyPreprocessing) -> NDArray[Any] | None:
    try:
        return prepare(dataset.raw(index), preprocessing)
    except UnreadableItemError:
        return None
