"""A study's configuration file: tasks, regimes, comparisons, environments."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, ValidationInfo, field_validator, model_validator

from gapshift.domains.open import is_built_in
from gapshift.errors import GapshiftError, UnknownNameError
from gapshift.flows.levels import CalibrationSettings
from gapshift.schema import (
    PREPROCESSING,
    AnyPreprocessing,
    DataSource,
    Domain,
    Frozen,
    Preprocessing,
    validated_preprocessing,
)
from gapshift.settings import read_toml, validate
from gapshift.train.models import FAMILIES
from gapshift.train.regimes import REGIMES
from gapshift.train.settings import TrainingSettings

DEFAULT_FAMILY: dict[Domain, str] = {
    "vision": "cnn",
    "text": "text-transformer",
    "audio": "audio-cnn",
    "control": "controller",
}
TRANSFORMERS: dict[Domain, str] = {
    "vision": "vit",
    "text": "text-transformer",
    "audio": "audio-transformer",
    "control": "controller",
}
"""Each domain's transformer: their trunks are alike, so one can stand in for another."""
_NAME = re.compile(r"[a-z0-9][a-z0-9._]*(-[a-z0-9._]+)*")


def _all_known(what: str, names: Iterable[str], valid: Iterable[str]) -> None:
    """pydantic wants a ValueError for the first name that is not valid."""
    known = tuple(valid)
    for name in names:
        if name not in known:
            raise ValueError(str(UnknownNameError(what, name, known)))


def _each_once(names: Iterable[object]) -> None:
    """pydantic wants a ValueError for the first name that stands twice."""
    seen = set[object]()
    for name in names:
        if name in seen:
            raise ValueError(f"{name!r} twice; name each once")
        seen.add(name)


def _says_size(preprocessing: Any) -> bool:
    """Whether there is a table ``resize``; what is wrong inside it, or is no table, is said elsewhere."""
    return "resize" in preprocessing if isinstance(preprocessing, Mapping) else preprocessing is not None


class TaskSettings(Frozen):
    """One task: its data and, for its domain, the preprocessing that becomes every bundle's contract.

    ``families`` are the models to train (the domain's default where none is named); the first
    one also takes part in the comparisons. ``training`` overrides keys of the study's own.
    ``vocabulary_size`` (text) is the most tokens that are learnt.
    """

    domain: Domain = "vision"
    data: DataSource
    preprocessing: AnyPreprocessing
    vocabulary_size: Annotated[int, Field(ge=10)] = 4000
    families: tuple[str, ...] = ()
    training: dict[str, Any] = Field(default_factory=dict)

    @model_validator(mode="before")
    @classmethod
    def _defaults_of_the_domain(cls, tree: Any) -> Any:
        if not isinstance(tree, Mapping) or tree.get("domain", "vision") not in PREPROCESSING:
            return tree
        domain = tree.get("domain", "vision")
        if domain == "vision" and not _says_size(tree.get("preprocessing")):
            raise ValueError(
                "preprocessing.resize is missing, which images need. Add a line such as "
                "`preprocessing = { resize = { size = [32, 32] } }`; a task on other data says which: "
                '`domain = "text"`, `"audio"` or `"control"`'
            )
        tree = {"families": (DEFAULT_FAMILY[domain],), **tree}
        return tree if domain == "vision" else {"preprocessing": {}, **tree}

    @field_validator("preprocessing", mode="wrap")
    @classmethod
    def _of_the_domain(cls, value: Any, _handler: Any, info: ValidationInfo) -> Any:
        found = validated_preprocessing(value, info)
        if isinstance(found, Preprocessing) and (found.layout, found.dtype) != ("NCHW", "float32"):
            raise ValueError(
                f"a study trains on layout 'NCHW' and dtype 'float32', not {found.layout!r} and {found.dtype!r}"
            )
        return found

    @field_validator("families")
    @classmethod
    def _families_of_the_domain(cls, families: tuple[str, ...], info: ValidationInfo) -> tuple[str, ...]:
        domain = info.data.get("domain", "vision")
        _all_known("model family", families, [name for name, each in FAMILIES.items() if each.domain == domain])
        _each_once(families)
        if not families:
            raise ValueError("name at least one family, or leave the key out for the domain's default")
        return families


class TransferSettings(Frozen):
    """Frozen trunks between tasks: transformers of one ``width``, whose input and head train ``steps`` steps.

    Every pair of the tasks that take part in comparisons, the task itself and an untrained trunk
    included, for each regime and seed of the study.
    """

    width: Annotated[int, Field(ge=4)] = 32
    steps: Annotated[int, Field(ge=1)] = 150


class ComparisonSettings(Frozen):
    """What is trained beside the regimes, to be compared and not deployed.

    ``controls``: anti-curriculum and size-control (``iid`` always trains: it tells whether a task
    is learnable). ``matrix``: each level alone, tested on all five. ``widths``: the regimes again
    at these widths. ``shuffled``: the curriculum with this share of levels permuted.
    They train for the first task of each domain and its first family, or with ``full`` for all.
    """

    controls: bool = False
    matrix: bool = False
    widths: tuple[Annotated[int, Field(ge=1)], ...] = ()
    shuffled: Annotated[float, Field(gt=0, le=1)] | None = None
    transfer: TransferSettings | None = None
    full: bool = False

    @field_validator("widths")
    @classmethod
    def _every_width_once(cls, widths: tuple[int, ...]) -> tuple[int, ...]:
        _each_once(widths)
        return widths


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

    ``seeds`` runs are trained of each task, family and regime (at least three; five before
    anything is called supported). ``training`` is the same for every regime.
    """

    name: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9._-]*$")]
    seed: int = 0
    tasks: dict[str, TaskSettings] = Field(min_length=1)
    calibration: CalibrationSettings = CalibrationSettings()
    regimes: tuple[str, ...] = Field(default=("easy-only", "hard-only", "curriculum", "random"), min_length=1)
    seeds: Annotated[int, Field(ge=3)] = 3
    training: TrainingSettings = TrainingSettings()
    comparisons: ComparisonSettings = ComparisonSettings()
    evaluation: EvaluationSettings = EvaluationSettings()

    @field_validator("tasks")
    @classmethod
    def _names_of_files(cls, tasks: dict[str, TaskSettings]) -> dict[str, TaskSettings]:
        for name in tasks:
            if not _NAME.fullmatch(name):
                raise ValueError(f"the task {name!r} names files: lower-case letters, digits, '.', '_' and single '-'")
        owner: dict[str, str] = {}
        for name, task in tasks.items():
            for family in {*task.families, TRANSFORMERS[task.domain]}:
                other = owner.setdefault(f"{name}-{family}", name)
                if other != name:
                    raise ValueError(
                        f"models of {other!r} and {name!r} get the same names {name}-{family}-...: rename one"
                    )
        return tasks

    @field_validator("regimes")
    @classmethod
    def _regimes_exist(cls, regimes: tuple[str, ...]) -> tuple[str, ...]:
        _all_known("regime", regimes, REGIMES)
        _each_once(regimes)
        return regimes

    @model_validator(mode="after")
    def _training_of_every_task(self) -> StudySettings:
        for name, task in self.tasks.items():
            if "family" in task.training or self.training.family != TrainingSettings().family:
                raise ValueError(f"training.family is not taken here; name the families in tasks.{name}.families")
            try:
                self.training_of(name)
            except GapshiftError as error:
                raise ValueError(str(error)) from error
        return self

    def training_of(self, task: str) -> TrainingSettings:
        """The study's training settings with the task's own keys. Raises SettingsError, UnknownNameError."""
        tree = {**self.training.model_dump(), **self.tasks[task].training}
        return validate(TrainingSettings, tree, f"tasks.{task}.training")

    def compared(self) -> tuple[str, ...]:
        """The tasks whose comparisons are trained: the first of each domain, or all."""
        if self.comparisons.full:
            return tuple(self.tasks)
        first: dict[Domain, str] = {}
        for name, task in self.tasks.items():
            first.setdefault(task.domain, name)
        return tuple(first.values())


def read_study(path: Path, data_root: Path | None = None) -> StudySettings:
    """A study file. Relative data and environment paths are relative to the file's folder.

    ``data_root`` is where published data lies for tasks that do not say so themselves.
    Raises SettingsError or UnknownNameError naming the key, the value and what is valid.
    """
    settings = validate(StudySettings, read_toml(path), str(path))
    tasks = {
        name: task.model_copy(update={"data": _beside(task.data, path.parent, data_root)})
        for name, task in settings.tasks.items()
    }
    evaluation = settings.evaluation
    if evaluation.environment_file:
        file = (path.parent / evaluation.environment_file).resolve()
        evaluation = evaluation.model_copy(update={"environment_file": file})
    return settings.model_copy(update={"tasks": tasks, "evaluation": evaluation})


def _beside(data: DataSource, folder: Path, data_root: Path | None) -> DataSource:
    changes = {}
    beside = folder / data.source
    if beside.exists() and not is_built_in(data.source):
        changes["source"] = str(beside.resolve())
    if data.root is not None:
        changes["root"] = str((folder / data.root).resolve())
    elif data_root is not None:
        changes["root"] = str(data_root.resolve())
    return data.model_copy(update=changes)
