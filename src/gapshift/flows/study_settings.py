"""A study's configuration file."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Annotated

from pydantic import Field, field_validator

from gapshift.domains.open import is_built_in
from gapshift.errors import UnknownNameError
from gapshift.flows.levels import CalibrationSettings
from gapshift.schema import DataSource, Frozen, Preprocessing
from gapshift.settings import read_toml, validate
from gapshift.train.models import FAMILIES
from gapshift.train.regimes import REGIMES
from gapshift.train.settings import TrainingSettings


def _all_known(what: str, names: tuple[str, ...], valid: Iterable[str]) -> tuple[str, ...]:
    """``names``, all of them valid; pydantic wants a ValueError for the first that is not."""
    known = tuple(valid)
    for name in names:
        if name not in known:
            raise ValueError(str(UnknownNameError(what, name, known)))
    return names


class EvaluationSettings(Frozen):
    """Which environments, which of them are deployments (gated), and by how much a level may drop."""

    environments: tuple[str, ...] = ()
    groups: tuple[str, ...] = ()
    environment_file: Path | None = None
    deployments: tuple[str, ...] = ()
    margin_pp: Annotated[float, Field(gt=0, lt=100)] = 2.0
    alpha: Annotated[float, Field(gt=0, lt=1)] = 0.05
    strict: bool = False
    allow_unlevelled: bool = False


class StudySettings(Frozen):
    """From data to a report: everything that a study settles beforehand.

    ``preprocessing`` becomes every bundle's contract. ``seeds`` runs are trained of each
    family and regime (at least three; five before anything is called supported).
    """

    name: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9._-]*$")]
    seed: int = 0
    data: DataSource
    preprocessing: Preprocessing
    calibration: CalibrationSettings = CalibrationSettings()
    families: tuple[str, ...] = Field(default=("cnn",), min_length=1)
    regimes: tuple[str, ...] = Field(default=("easy-only", "hard-only", "curriculum", "random"), min_length=1)
    seeds: Annotated[int, Field(ge=3)] = 3
    training: TrainingSettings = TrainingSettings()
    evaluation: EvaluationSettings = EvaluationSettings()

    @field_validator("preprocessing")
    @classmethod
    def _networks_take_it(cls, preprocessing: Preprocessing) -> Preprocessing:
        if (preprocessing.layout, preprocessing.dtype) != ("NCHW", "float32"):
            raise ValueError(
                f"a study trains on layout 'NCHW' and dtype 'float32', not {preprocessing.layout!r} and "
                f"{preprocessing.dtype!r}"
            )
        return preprocessing

    @field_validator("families")
    @classmethod
    def _families_exist(cls, families: tuple[str, ...]) -> tuple[str, ...]:
        return _all_known("model family", families, FAMILIES)

    @field_validator("regimes")
    @classmethod
    def _regimes_exist(cls, regimes: tuple[str, ...]) -> tuple[str, ...]:
        return _all_known("regime", regimes, REGIMES)


def read_study(path: Path) -> StudySettings:
    """A study file. Relative data and environment paths are relative to the file's folder.

    Raises SettingsError or UnknownNameError naming the key, the value and what is valid.
    """
    settings = validate(StudySettings, read_toml(path), str(path))
    data, evaluation = settings.data, settings.evaluation
    beside = path.parent / data.source
    if beside.exists() and not is_built_in(data.source):
        data = data.model_copy(update={"source": str(beside.resolve())})
    if evaluation.environment_file:
        file = (path.parent / evaluation.environment_file).resolve()
        evaluation = evaluation.model_copy(update={"environment_file": file})
    return settings.model_copy(update={"data": data, "evaluation": evaluation})
