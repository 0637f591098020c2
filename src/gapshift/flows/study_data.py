"""A study's tasks: their items with roles, and what networks learn of them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gapshift.domains.answering import episode_of
from gapshift.domains.base import Dataset
from gapshift.domains.control.physics import control_task
from gapshift.errors import DataError
from gapshift.flows.data import study_splits, with_role
from gapshift.flows.levels import Rated
from gapshift.flows.splitting import TEST, TRAIN
from gapshift.flows.study_settings import StudySettings, TaskSettings
from gapshift.schema import AnyPreprocessing, Contract, ModelInterface
from gapshift.train.tasks.base import Rows, Task
from gapshift.train.tasks.make import learnt, make_task


@dataclass(frozen=True, eq=False)
class StudyTask:
    """One task of a study: its items and their roles, the contract's preprocessing, and the
    readable items as networks see them (``task``)."""

    name: str
    settings: TaskSettings
    dataset: Dataset
    roles: dict[str, str]
    preprocessing: AnyPreprocessing
    task: Task

    def rows(self, role: str) -> Rows:
        """Rows of ``task`` with this role."""
        return np.flatnonzero([self.roles[item.id] == role for item in self.task.items])

    def training_rows(self, rated: Rated) -> tuple[Rows, NDArray[np.int64]]:
        """Rows of the training items that have a level, and their levels."""
        strata, items = rated.strata(), self.task.items
        rows = np.array([row for row in self.rows(TRAIN) if items[row].id in strata], dtype=np.intp)
        return rows, np.array([strata[items[row].id] for row in rows], dtype=np.int64)

    def judged(self) -> Dataset:
        """The held-out items."""
        return with_role(self.dataset, self.roles, TEST)

    def contract(self) -> Contract:
        """What every model of the task declares."""
        return Contract(domain=self.dataset.domain, preprocessing=self.preprocessing, model=_interface(self.dataset))


def read_tasks(settings: StudySettings) -> tuple[tuple[StudyTask, ...], tuple[str, ...]]:
    """Open every task's data, and what was said about it on the way. Raises DataError."""
    notes: list[str] = []
    tasks = []
    for name, task in settings.tasks.items():
        dataset, roles, said = open_task(task, settings.seed)
        notes += [text if text.startswith(f"{name}:") else f"{name}: {text}" for text in said]
        training = with_role(dataset, roles, TRAIN)
        preprocessing = learnt(training, task.preprocessing, task.vocabulary_size)
        made = make_task(dataset, preprocessing)
        if lost := len(dataset) - len(made.rows):
            notes.append(f"{name}: {lost} of {len(dataset)} items cannot be read; no network learns from them")
        tasks.append(StudyTask(name, task, dataset, roles, preprocessing, made.task))
    return tuple(tasks), tuple(notes)


def open_task(task: TaskSettings, seed: int) -> tuple[Dataset, dict[str, str], tuple[str, ...]]:
    """A task's items, their roles and notes on both. Raises DataError, also for data of another domain."""
    dataset, roles, notes = study_splits(task.data, seed)
    if dataset.domain != task.domain:
        raise DataError(
            f"{task.data.source} holds data of domain {dataset.domain!r} and the task says {task.domain!r}. "
            f"Set domain = {dataset.domain!r} in the task."
        )
    return dataset, roles, tuple(notes)


def _interface(dataset: Dataset) -> ModelInterface:
    if dataset.kind == "spans":
        return ModelInterface(input="input", output="logits", output_kind="spans", labels=("start", "end"))
    if dataset.kind == "episodes":
        actions = control_task(episode_of(dataset, 0).task).actions
        return ModelInterface(input="input", output="logits", output_kind="actions", labels=actions)
    return ModelInterface(input="input", output="logits", labels=dataset.classes)
