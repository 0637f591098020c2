"""What a training regime's bundles answered: one member a seed, held-out and training items.

``RUN/bundles/NAME.mix.parquet`` holds how often each training item was drawn (item_id,
weight: its share of all draws over all steps); the training-side answers hold whether
the model gets those items right.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from gapshift.reports.load import ALL_LEVELS, IdIndex, Indices, RatedItems, Reference, sums
from gapshift.reports.planned import MeasuredBundle, MeasuredCell, MeasuredRun, training_answers
from gapshift.workspace import Workspace

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class TrainingTerm:
    """A member's own training mix: ``accuracy`` over its draws, and their share per level (5,).

    ``influence`` (over all items of the task) is each item's weighted deviation from
    that accuracy: what its choice contributes to the accuracy's variance.
    """

    accuracy: float
    mix: Floats
    influence: Floats


@dataclass(frozen=True, eq=False)
class Member:
    """One seed of a regime. ``accuracy`` (5,) is held-out, per level; NaN without items.

    ``total`` and ``answered`` (over all items of the task) sum right answers and answers.
    """

    measured: MeasuredBundle
    accuracy: Floats
    total: Floats
    answered: Floats
    training: TrainingTerm | None
    problem: str

    @property
    def seed(self) -> int | None:
        return self.measured.bundle.seed

    def cell(self, environment: str) -> MeasuredCell | None:
        """The member's cell in an environment, where its numbers can be used."""
        found = (cell for cell in self.measured.cells if cell.environment.name == environment)
        return next((cell for cell in found if cell.pairs is not None and _usable(cell)), None)


def _usable(cell: MeasuredCell) -> bool:
    """Numbers stay where another format ran; they do not where something went wrong."""
    return cell.blocked is None or cell.blocked.verdict == "NO DATA"


@dataclass(frozen=True, eq=False)
class Regime:
    """A regime's members over its seeds, within one domain, task and family."""

    domain: str
    task: str
    family: str | None
    name: str
    members: tuple[Member, ...]
    environments: tuple[str, ...]

    @property
    def items(self) -> RatedItems:
        return self.members[0].measured.items

    @property
    def group(self) -> tuple[str, str, str | None]:
        """What regimes are compared within."""
        return self.domain, self.task, self.family


def read_regimes(workspace: Workspace, run: MeasuredRun) -> tuple[Regime, ...]:
    """The regimes of a run, in the plan's order; bundles without a regime have none."""
    groups: dict[tuple[str, str, str | None, str], list[MeasuredBundle]] = {}
    for measured in run.bundles:
        bundle = measured.bundle
        if bundle.regime is not None:
            groups.setdefault((bundle.domain, bundle.task, bundle.family, bundle.regime), []).append(measured)
    return tuple(
        Regime(*key, tuple(_member(workspace, measured) for measured in found), _environments(found))
        for key, found in groups.items()
    )


def _environments(found: list[MeasuredBundle]) -> tuple[str, ...]:
    names = (cell.environment.name for measured in found for cell in measured.cells)
    return tuple(dict.fromkeys(names))


def _member(workspace: Workspace, measured: MeasuredBundle) -> Member:
    size, reference = len(measured.items), measured.reference
    empty = np.zeros(size)
    if not isinstance(reference, Reference) or reference.problems:
        why = reference if isinstance(reference, str) else "; ".join(reference.problems)
        return Member(measured, np.full(len(ALL_LEVELS), np.nan), empty, empty, None, why)
    position = reference.position[reference.answered]
    right = reference.records.correct[reference.answered]
    total = sums(position, size, right)
    answered = sums(position, size)
    term = training_term(workspace, measured)
    problem = term if isinstance(term, str) else ""
    training = None if isinstance(term, str) else term
    return Member(measured, level_means(measured.items, total, answered), total, answered, training, problem)


def level_means(items: RatedItems, total: Floats, answered: Floats) -> Floats:
    """Mean over each level's answers (5,); NaN for a level without any."""
    right, counts = (sums(items.level, 6, each)[1:6] for each in (total, answered))
    return np.asarray(np.divide(right, counts, out=np.full(len(ALL_LEVELS), np.nan), where=counts > 0))


def training_term(workspace: Workspace, measured: MeasuredBundle) -> TrainingTerm | str:
    """A bundle's accuracy on its own training mix, or why it cannot be known."""
    name, items = measured.bundle.name, measured.items
    mix = _read_mix(workspace.bundles / f"{name}.mix.parquet")
    if isinstance(mix, str):
        return mix
    ids, weight = mix
    position = items.index.locate(ids)
    if (position < 0).any() or (items.split[position] != "train").any() or (items.level[position] == 0).any():
        return f"the training mix of {name} draws items that are no rated training items of items.parquet"
    answers = training_answers(workspace, measured.bundle)
    if answers.records is None:
        return f"the training-side answers of {name}: {answers.problem}"
    row = IdIndex(answers.records.item_id).locate(ids)
    correct = np.where(row >= 0, answers.records.correct[row], np.nan)
    if not np.isin(correct, (0.0, 1.0)).all():
        return f"{int(np.isnan(correct).sum())} training items of {name} have no training-side answer"
    return _term(items, position, weight / weight.sum(), correct)


def _term(items: RatedItems, position: Indices, weight: Floats, correct: Floats) -> TrainingTerm:
    accuracy = float(weight @ correct)
    influence = sums(position, len(items), weight * (correct - accuracy))
    mix = sums(items.level[position], 6, weight)[1:6]
    return TrainingTerm(accuracy, mix, influence)


def _read_mix(path: Path) -> tuple[NDArray[np.str_], Floats] | str:
    """The draws of a training run, or why they cannot be read."""
    if not path.exists():
        return f"{path.name} is missing: how often each training item was drawn is unknown"
    try:
        table = pq.read_table(path, columns=["item_id", "weight"])
    except (OSError, KeyError, pa.ArrowInvalid) as error:
        return f"{path.name} cannot be read: {error}"
    ids = np.array(table.column("item_id").to_pylist(), dtype=np.str_)
    weight = np.asarray(table.column("weight").to_numpy(zero_copy_only=False), dtype=np.float64)
    valid = len(weight) > 0 and bool(np.isfinite(weight).all()) and weight.min() >= 0 and weight.sum() > 0
    return (ids, weight) if valid else f"{path.name} holds no usable weights (each 0 or more, some above 0)"
