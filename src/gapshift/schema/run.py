"""Runs: bundles, cells and what was planned before the first of them ran."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import Field, field_validator, model_validator

from gapshift.errors import UnknownNameError
from gapshift.schema.base import LEVELS, TRAINING, CellStatus, Domain, Frozen, Grown, digest
from gapshift.schema.contract import Contract
from gapshift.schema.deployment import Environment, takes


class Bundle(Frozen):
    """An ONNX file and where it comes from. ``path`` is relative to the run folder
    (bundles made by a study) or absolute (a user's own model)."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")]
    path: str
    sha256: str
    contract: Contract
    domain: Domain = "vision"
    task: str = "task"
    regime: str | None = None
    seed: int | None = None
    family: str | None = None


class TrainedRun(Frozen):
    """A model that a study trained, and whose answers lie in ``bundles/NAME.answers.parquet``.

    It is also a bundle where ``exported``. ``regime`` is what it was trained by; ``width`` the
    features of its first stage; ``shuffled`` the share of training levels that were permuted
    before training. A transferred model has its frozen trunk from ``trunk_from``, the name of
    another run, or "random" for one that was never trained.
    """

    name: str
    task: str
    domain: Domain
    family: str
    width: int
    regime: str
    seed: int
    sha256: str
    parameters: int = 0
    exported: bool = False
    shuffled: Annotated[float, Field(ge=0, le=1)] = 0.0
    trunk_from: str | None = None


class Execution(Frozen):
    """What really ran.

    ``providers`` counts nodes per provider. ``dtypes`` maps each compute operator to
    ``{format: number of nodes}`` as executed. ``matches`` is False when a format was
    asked for and another one ran; ``requested`` and ``executed`` name both.
    """

    engine: str
    provider: str
    providers: dict[str, int] = Field(default_factory=dict)
    dtypes: dict[str, dict[str, int]] = Field(default_factory=dict)
    requested: str = "float32"
    executed: str = "float32"
    matches: bool = True
    versions: dict[str, str] = Field(default_factory=dict)
    cpu_flags: tuple[str, ...] = ()
    settings: dict[str, Any] = Field(default_factory=dict)


class ServiceTally(Frozen):
    """What a cell's simulated service did: one request an item (in control: a step), and its attempts.

    ``fallbacks`` are requests whose every attempt failed. Times in ms are those until the deployment had an answer or
    gave up, over requests.
    """

    requests: int
    attempts: int
    timeouts: int
    errors: int
    stale: int
    corrupted: int
    fallbacks: int
    latency_ms_median: float
    latency_ms_p95: float


class CellInfo(Frozen):
    """A cell's header; it travels in the metadata of the cell's Parquet file.

    ``key`` is the content address: model, contract, deployment, items, calibration
    items, seed and library versions. ``basis`` is the part of it that a plan knows
    (``cell_basis``), so that judging can tell another plan's records. ``seconds`` is
    inference wall time. ``open_loop`` (control) is the share of the steps along the
    reference's trajectories at which this cell takes another action. ``service`` tells what a
    simulated service did.
    """

    schema_version: Literal[1] = 1
    key: str
    basis: str = ""
    bundle: str
    environment: str
    status: CellStatus = "ok"
    reason: str = ""
    execution: Execution | None = None
    seconds: float = 0.0
    items_per_second: float = 0.0
    open_loop: float | None = None
    service: ServiceTally | None = None


class CalibrationCard(Frozen):
    """What stands behind the levels of one task.

    ``split_half`` is the Spearman-Brown reliability over halves of the responders
    split by run (null where the levels were given). ``gated_bands`` are the groups of
    levels that are reliable enough to be judged apart. ``tie_share`` is the share of
    items whose level was settled by the hash of their id. ``abilities`` holds every
    responder's linked ability by its recipe's name, the same on every task.
    """

    task: str
    engine: str
    items: int
    responders: int
    guessing: float | None = None
    split_half: float | None = None
    rank_correlation_py_irt: float | None = None
    gated_bands: tuple[tuple[int, ...], ...] = ((1,), (2,), (3,), (4,), (5,))
    tie_share: float = 0.0
    source: str = "responders"
    circular: bool = False
    abilities: dict[str, float] = Field(default_factory=dict)
    notes: tuple[str, ...] = ()


class DataSource(Frozen):
    """Where a run's items come from: a reader's name (``digits``) or a path.

    ``split`` picks one of the splits that the data has; ``classes`` keeps these classes
    alone; ``root`` is the folder that published data sets (``cifar-10``, ``sst-2``) lie in. The
    other fields matter to a study: how many items a class it takes (null: all), and the share
    that trains where the data has no splits of its own.
    """

    source: str
    split: str | None = None
    root: str | None = None
    classes: tuple[str, ...] | None = None
    train_per_class: Annotated[int, Field(ge=1)] | None = None
    test_per_class: Annotated[int, Field(ge=1)] | None = None
    train_fraction: Annotated[float, Field(gt=0, lt=1)] = 0.5


class TaskPlan(Frozen):
    """One task of a run: where its items come from and the digest of those that are judged,
    their labels and contents."""

    name: str
    data: DataSource
    items: str = ""
    calibration_data: DataSource | None = None


Weight = Annotated[float, Field(ge=0, allow_inf_nan=False)]
"""A share of the traffic, in any unit."""

BUILT_IN_TRAFFIC: Mapping[str, str] = {
    "as-is": "the mix of the evaluation data",
    "mostly-easy": "levels 1 to 5 weighted 5, 4, 3, 2, 1",
    "mostly-hard": "levels 1 to 5 weighted 1, 2, 3, 4, 5",
    "labels-even": "every label equally often",
    "worst-label": "one label three times as frequent: the one that costs most",
    "groups-even": "every group equally often",
    "worst-group": "nothing but the group that loses most",
}
"""Mixes that every report has, by name; a user's own have other names."""


class Traffic(Frozen):
    """A mix of requests that a deployment meets: the weight of each level, of each label (by name
    or index) or of each group.

    Exactly one of the three is given. Weights are shares in any unit, not below zero and not all
    zero; what is not named has none. Within a level, label or group the items stay as they are.
    """

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")]
    summary: str = ""
    levels: dict[int, Weight] | None = None
    labels: dict[str, Weight] | None = None
    groups: dict[str, Weight] | None = None

    @field_validator("levels", mode="before")
    @classmethod
    def _levels_exist(cls, levels: Any) -> Any:
        if isinstance(levels, Mapping):
            unknown = [key for key in levels if str(key) not in map(str, LEVELS)]
            if unknown:
                raise ValueError(f"unknown level {unknown[0]!r}; valid: {', '.join(map(str, LEVELS))}")
        return levels

    @model_validator(mode="after")
    def _is_one_mix(self) -> Self:
        given = [key for key in ("levels", "labels", "groups") if getattr(self, key) is not None]
        if len(given) != 1:
            said = f"it has {' and '.join(given)}" if given else "it has none of them"
            raise ValueError(f"a traffic mix weighs exactly one of levels, labels and groups; {said}")
        if not sum(self.weights.values()) > 0:
            raise ValueError(f"the weights of {given[0]} are all zero or missing; give one that is above zero")
        return self

    @model_validator(mode="after")
    def _is_no_other(self) -> Self:
        if self.name in BUILT_IN_TRAFFIC:
            taken = ", ".join(BUILT_IN_TRAFFIC)
            raise ValueError(f"the name {self.name!r} is taken; every report has {taken}. Choose another name")
        return self

    @property
    def by(self) -> Literal["levels", "labels", "groups"]:
        """What is weighed."""
        if self.levels is not None:
            return "levels"
        return "labels" if self.labels is not None else "groups"

    @property
    def weights(self) -> dict[str, float]:
        """The weights by name; a level's name is its number."""
        given = self.levels or self.labels or self.groups or {}
        return {str(name): weight for name, weight in given.items()}


class RunPlan(Grown):
    """Everything that was planned before the first cell ran (``run.json``).

    ``deployments`` are the environments that the user named: they are gated. ``runs`` are all
    models that a study trained, the bundles among them. ``traffic`` are the user's own mixes of
    requests, that drops are re-weighted to. ``budget`` is the most items of a task that are judged;
    where the run is ``sequential`` (each gated level is read until it is decided) the most that a cell
    answers.
    """

    later: ClassVar[tuple[str, ...]] = ("traffic", "budget", "sequential")
    schema_version: Literal[2] = 2
    command: str
    tasks: tuple[TaskPlan, ...]
    bundles: tuple[Bundle, ...]
    runs: tuple[TrainedRun, ...] = ()
    environments: tuple[Environment, ...]
    deployments: tuple[str, ...] = ()
    margin_pp: Annotated[float, Field(gt=0, lt=100)] = 2.0
    alpha: Annotated[float, Field(gt=0, lt=1)] = 0.05
    seed: int = 0
    strict: bool = False
    allow_unlevelled: bool = False
    notes: tuple[str, ...] = ()
    traffic: tuple[Traffic, ...] = ()
    budget: Annotated[int, Field(ge=1)] | None = None
    sequential: bool = False

    @model_validator(mode="after")
    def _each_mix_once(self) -> Self:
        names = [mix.name for mix in self.traffic]
        twice = [name for place, name in enumerate(names) if name in names[:place]]
        if twice:
            raise ValueError(f"two traffic mixes are called {twice[0]!r}; give each its own name")
        return self

    def task(self, name: str) -> TaskPlan:
        """The task of this name. Raises UnknownNameError."""
        for task in self.tasks:
            if task.name == name:
                return task
        raise UnknownNameError("task", name, tuple(task.name for task in self.tasks))

    def environments_of(self, bundle: Bundle) -> tuple[Environment, ...]:
        """The environments that are planned for a bundle (``environments_for``)."""
        return environments_for(bundle, self.bundles, self.environments)


def environments_for(
    bundle: Bundle, bundles: Iterable[Bundle], environments: Iterable[Environment]
) -> tuple[Environment, ...]:
    """The environments that are planned for one of a run's bundles, in their order.

    One that is made for other domains is left out where some bundle of the run can have it;
    where none can, it is planned for all, and its cells say that it does not apply.
    """
    domains = {other.contract.domain for other in bundles}
    return tuple(
        environment
        for environment in environments
        if takes(bundle.contract.domain, environment) or not any(takes(domain, environment) for domain in domains)
    )


def cell_basis(bundle: Bundle, environment: Environment, items: str) -> str:
    """Digest of what a plan knows of a cell: model, contract, deviations, judged items."""
    contract = bundle.contract.model_dump(mode="json")
    return digest([bundle.sha256, contract, environment.deviations, environment.subsample, items])


def answers_key(bundle: Bundle | str) -> str:
    """Content address of a bundle's training-side answers; takes the bundle or its model's SHA-256."""
    return digest([TRAINING, bundle if isinstance(bundle, str) else bundle.sha256])
