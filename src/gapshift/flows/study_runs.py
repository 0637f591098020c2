"""Every model that a study trains: the regimes, and what they are compared with."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from gapshift.flows.study_settings import TRANSFORMERS, StudySettings

IID = "iid"
CONTROLS = ("anti-curriculum", "size-control")
MATRIX = ("easy-only", "level-2-only", "level-3-only", "level-4-only", "hard-only")
UNTRAINED = "random"
"""What a frozen trunk is from that was never trained (``TrainedRun.trunk_from``)."""


@dataclass(frozen=True)
class ModelRun:
    """One model to train. ``exported`` ones become bundles and meet the environments.

    ``shuffled`` is the share of training levels permuted beforehand; ``trunk_from`` the run
    whose trunk it gets, frozen, or UNTRAINED. ``width`` null: as the training settings say.
    """

    task: str
    family: str
    regime: str
    seed: int
    width: int | None = None
    exported: bool = False
    shuffled: float = 0.0
    trunk_from: str | None = None

    @property
    def name(self) -> str:
        parts = [self.task, self.family]
        parts += [f"w{self.width}"] if self.width is not None else []
        parts += [self.regime] if self.trunk_from is None else [f"on.{self.trunk_from}"]
        parts += [f"shuffled{100 * self.shuffled:.0f}"] if self.shuffled else []
        return "-".join([*parts, f"s{self.seed}"])


def model_runs(settings: StudySettings) -> tuple[ModelRun, ...]:
    """Every model of the study, those before it that it gets its trunk from; none twice."""
    runs = [*_regimes(settings), *_yardsticks(settings), *_comparisons(settings), *_transfers(settings)]
    seen: dict[ModelRun, ModelRun] = {}
    for run in runs:
        seen.setdefault(replace(run, exported=False), run)  # the exported one comes first
    return tuple(seen.values())


def _families(settings: StudySettings, task: str) -> tuple[str, ...]:
    families = settings.tasks[task].families
    return families if settings.comparisons.full else families[:1]


def _grid(task: str, family: str, regimes: Iterable[str], seeds: int, **fields: object) -> list[ModelRun]:
    base = ModelRun(task, family, "", 0, **fields)  # type: ignore[arg-type]  # the fields' types are checked there
    return [replace(base, regime=regime, seed=seed) for regime in regimes for seed in range(seeds)]


def _regimes(settings: StudySettings) -> list[ModelRun]:
    return [
        run
        for name, task in settings.tasks.items()
        for family in task.families
        for run in _grid(name, family, settings.regimes, settings.seeds, exported=True)
    ]


def _yardsticks(settings: StudySettings) -> list[ModelRun]:
    """Shuffled epochs over everything: they tell whether a task is learnable at all."""
    return [
        run
        for name in settings.tasks
        for family in _families(settings, name)
        for run in _grid(name, family, (IID,), settings.seeds)
    ]


def _comparisons(settings: StudySettings) -> list[ModelRun]:
    wanted, seeds, runs = settings.comparisons, settings.seeds, list[ModelRun]()
    regimes = [*(CONTROLS if wanted.controls else ()), *(MATRIX if wanted.matrix else ())]
    for task in settings.compared():
        own = settings.training_of(task).width
        for family in _families(settings, task):
            runs += _grid(task, family, regimes, seeds)
            for width in (width for width in wanted.widths if width != own):
                runs += _grid(task, family, settings.regimes, seeds, width=width)
            if wanted.shuffled is not None:
                runs += _grid(task, family, ("curriculum",), seeds)
                runs += _grid(task, family, ("curriculum",), seeds, shuffled=wanted.shuffled)
    return runs


def _transfers(settings: StudySettings) -> list[ModelRun]:
    """The transformers whose trunks are lent, then every task with each of their trunks."""
    transfer, seeds = settings.comparisons.transfer, range(settings.seeds)
    if transfer is None:
        return []
    tasks = settings.compared()
    sources = [
        _source(settings, transfer.width, task, regime, seed)
        for task in tasks
        for regime in settings.regimes
        for seed in seeds
    ]
    trunks = [(source.name, source.seed) for source in sources] + [(UNTRAINED, seed) for seed in seeds]
    targets = [
        ModelRun(task, _transformer(settings, task), IID, seed, width=transfer.width, trunk_from=trunk)
        for task in tasks
        for trunk, seed in trunks
    ]
    return [*sources, *targets]


def _transformer(settings: StudySettings, task: str) -> str:
    return TRANSFORMERS[settings.tasks[task].domain]


def _source(settings: StudySettings, width: int, task: str, regime: str, seed: int) -> ModelRun:
    """The transformer that lends its trunk: the study's own model where that is one of this width."""
    family = _transformer(settings, task)
    own = family in settings.tasks[task].families and settings.training_of(task).width == width
    return ModelRun(task, family, regime, seed, width=None if own else width)
