"""A study of one task that trains in a second: nine recurrent networks on generated sentiments."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from gapshift.flows.study import save_settings, study
from gapshift.flows.study_settings import StudySettings
from gapshift.settings import validate
from gapshift.workspace import Workspace

SMALL: dict[str, Any] = {
    "name": "small",
    "regimes": ["hard-only", "random"],
    "tasks": {
        "words": {
            "domain": "text",
            "data": {"source": "sentiment", "train_per_class": 30, "test_per_class": 30},
            "preprocessing": {"max_length": 16},
            "families": ["gru"],
        }
    },
    "calibration": {
        "cross_check": False,
        "ladder": {
            "capacities": [4, 8],
            "data_fractions": [1.0],
            "seeds": 2,
            "checkpoints": [1.0],
            "epochs": 1.0,
            "least_steps": 10,
        },
    },
    "training": {"width": 4, "steps": 12, "batch_size": 16},
    "evaluation": {"environments": ["int8-dynamic"]},
}

Settings = Callable[..., StudySettings]


def _merged(base: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    both = {**base, **changes}
    for key, value in changes.items():
        if isinstance(value, dict) and isinstance(base.get(key), Mapping):
            both[key] = _merged(base[key], value)
    return both


@pytest.fixture(scope="session")
def small() -> Settings:
    """Settings of the small study with other values for some keys."""

    def settings(**changes: Any) -> StudySettings:
        return validate(StudySettings, _merged(SMALL, changes), "small.toml")

    return settings


@pytest.fixture(scope="session")
def small_study(small: Settings, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run folder of the small study, finished. Read it; do not change it."""
    workspace = Workspace(tmp_path_factory.mktemp("small") / "run")
    save_settings(workspace, small())
    study(workspace)
    return workspace.root
