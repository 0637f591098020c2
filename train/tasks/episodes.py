"""Episodes of control: imitation of a reference controller, its trajectories collected again under the learner."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from gapshift.domains.answering import episode_of
from gapshift.domains.base import Dataset, Episode
from gapshift.domains.control.controllers import reference
from gapshift.domains.control.episodes import Predict, Rollout, answer_episodes, rollout, windows
from gapshift.domains.control.sensors import Sensors
from gapshift.domains.control.simulation import task_of
from gapshift.records import Records
from gapshift.schema import ControlPreprocessing, Item, digest
from gapshift.train.loop import Fit, fit
from gapshift.train.predict import scores
from gapshift.train.settings import TrainingSettings
from gapshift.train.sources import Source
from gapshift.train.tasks.base import Rows, Task

COLLECTED_AT = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8)
"""Shares of the steps at which the learner drives some of its episodes again. With noisy sensors
it takes many: a network that fits what the reference met shrinks its readings to that narrow
range and falls at once (CartPole, 200 steps, six networks: 15-40% solved after two collections
with half of the steps still the reference's, 74-79% after these)."""
_PARTS = 4
"""Every so many episodes are driven again at a time, so that four stages of the learner mix."""
_FAR = 200
"""Steps of an episode that is driven again: the states beyond are like those before."""
_BATCH = 1024
"""Episodes in one call of the learner: torch is fastest with many."""
_SCALING_EPISODES = 200


def learn(preprocessing: ControlPreprocessing, dataset: Dataset) -> ControlPreprocessing:
    """``preprocessing`` with an empty offset or scale set to the mean and 1/sd of what the reference
    controller observes in (up to 200 evenly spaced) episodes of ``dataset``.

    Raises DataError for data that hold no episodes.
    """
    if preprocessing.offset and preprocessing.scale:
        return preprocessing
    rows = np.linspace(0, len(dataset) - 1, min(len(dataset), _SCALING_EPISODES)).round().astype(int)
    episodes = _episodes(dataset, rows.tolist())
    teacher = reference(task_of(episodes).name)
    done = rollout(episodes, teacher, teacher.preprocessing, _BATCH)
    seen = np.arange(done.observations.shape[1]) < done.asked[:, None]
    met = done.observations[seen].astype(np.float64)
    offset, scale = met.mean(axis=0), 1 / np.maximum(met.std(axis=0), 1e-6)
    learnt = {"offset": tuple(np.round(offset, 6).tolist()), "scale": tuple(np.round(scale, 6).tolist())}
    return preprocessing.model_copy(update={key: v for key, v in learnt.items() if not getattr(preprocessing, key)})


@final
class EpisodeTask(Task):
    """Episodes of one control task; a network is a controller, trained by imitation with DAgger
    (Ross, Gordon & Bagnell 2011): it learns the reference controller's actions in the states that
    the reference meets and, part by part, in those that it meets itself. ``truth`` is the rollout's
    mastery, a finer measure than the records' score, which is 1 for all that is solved."""

    def __init__(
        self, items: Sequence[Item], episodes: Sequence[Episode], preprocessing: ControlPreprocessing, content: str
    ) -> None:
        task = task_of(episodes)
        super().__init__(
            items,
            domain="control",
            kind="episodes",
            shape=(preprocessing.window, len(task.observations)),
            outputs=len(task.actions),
            guessing=0.0,
            content=content,
        )
        self._episodes = tuple(episodes)
        self._preprocessing = preprocessing

    @classmethod
    def of(cls, dataset: Dataset, preprocessing: ControlPreprocessing) -> EpisodeTask:
        """The task that ``dataset`` is to controllers with ``preprocessing``, whose scaling is settled.

        Raises DataError for data that hold no episodes, or those of several tasks.
        """
        content = digest([dataset.digest(), preprocessing.model_dump(mode="json")])
        return cls(dataset.items, _episodes(dataset, range(len(dataset))), preprocessing, content)

    def fit(
        self,
        model: nn.Module,
        draws: NDArray[np.int64],
        config: TrainingSettings,
        device: str = "auto",
        *,
        seed: int = 0,
        checkpoints: Sequence[float] = (),
        at_checkpoint: Callable[[float], None] | None = None,
        keep: Path | None = None,
    ) -> Fit:
        used = np.intersect1d(draws, np.arange(len(self)))  # draws beyond the items are refused by the loop
        source = Imitation(self._episodes, used if len(used) else np.arange(len(self)), self._preprocessing)

        def reached(fraction: float) -> None:
            if at_checkpoint is not None and fraction in checkpoints:
                at_checkpoint(fraction)
            if fraction in COLLECTED_AT:
                source.collect(_predictor(model))

        points = sorted({*checkpoints, *COLLECTED_AT})
        return fit(
            model, source, draws, config, device, seed=seed, checkpoints=points, at_checkpoint=reached, keep=keep
        )

    def truth(self, model: nn.Module, rows: Rows) -> NDArray[np.float32]:
        done = rollout(self._of(rows), _predictor(model), self._preprocessing, _BATCH)
        return done.mastery.astype(np.float32)

    def error_norm(self, model: nn.Module, rows: Rows) -> None:  # noqa: ARG002
        return None

    def records(self, model: nn.Module, rows: Rows) -> Records:
        items = [self.items[row] for row in rows]
        return answer_episodes(items, self._of(rows), _predictor(model), self._preprocessing, _BATCH)

    def examples(self, model: nn.Module, count: int) -> NDArray[Any]:
        return windows(self._episodes, _predictor(model), self._preprocessing, count, _BATCH)

    def _of(self, rows: Rows) -> list[Episode]:
        return [self._episodes[row] for row in rows]


@final
class Imitation(Source):
    """Steps of episodes as the sensors show them, with the reference controller's action in the
    true state at each; rows index ``episodes``.

    The teacher is privileged (asymmetric imitation, Pinto et al. 2018): it sees no sensor noise,
    so the learner has to make out of its noisy window what it can. Targets (m, actions) are its
    advice, which is near one half where either action will do. A batch draws one step of each of
    its episodes. At first all of ``used`` (the rows that are ever drawn) were driven by the
    reference through the same sensors, later part by part by the learner.
    """

    def __init__(
        self, episodes: Sequence[Episode], used: NDArray[np.int64], preprocessing: ControlPreprocessing
    ) -> None:
        self._count, self._preprocessing = len(episodes), preprocessing
        self._episodes = [episodes[row] for row in used]
        self._place = np.full(len(episodes), -1, dtype=np.intp)
        self._place[used] = np.arange(len(used))
        self._teacher = reference(task_of(episodes).name)
        self._device = torch.device("cpu")
        done = rollout(self._episodes, self._teacher, self._teacher.preprocessing, _BATCH)
        self._met, self._collected = _Met.of(done), 0
        self._sensors = self._sensing()

    def __len__(self) -> int:
        return self._count

    def on(self, device: torch.device) -> Imitation:
        """This very source: what is collected on the way reaches the training."""
        self._device = device
        return self

    def collect(self, learner: Predict) -> None:
        """Drive a part of the episodes by ``learner``; the next call takes the next part."""
        turn = slice(self._collected % min(_PARTS, len(self._episodes)), None, _PARTS)
        done = rollout(self._episodes[turn], learner, self._preprocessing, _BATCH, _FAR)
        self._met = self._met.with_rows(turn, _Met.of(done))
        self._collected += 1
        self._sensors = self._sensing()

    def batch(self, indices: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        places = self._place[indices.cpu().numpy()]
        moment = torch.rand(len(places), generator=generator, dtype=torch.float64).numpy()
        times = (moment * self._met.lengths[places]).astype(np.intp)
        targets = torch.from_numpy(self._teacher.advice(self._met.states[places, times]))
        return torch.from_numpy(self._sensors.window(places, times)).to(self._device), targets.to(self._device)

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return F.cross_entropy(outputs.float(), targets)

    def state(self) -> dict[str, Tensor]:
        if self._collected == 0:
            return {}
        arrays = {name: torch.from_numpy(values) for name, values in vars(self._met).items()}
        return arrays | {"collected": torch.tensor(self._collected)}

    def restore(self, state: Mapping[str, Tensor]) -> None:
        if state:
            kept = {name: values.cpu().numpy() for name, values in state.items() if name != "collected"}
            self._met, self._collected = _Met(**kept), int(state["collected"])
            self._sensors = self._sensing()

    def _sensing(self) -> Sensors:
        return Sensors(self._episodes, self._met.observations.transpose(1, 0, 2), self._preprocessing)


@dataclass(frozen=True, eq=False)
class _Met:
    """Trajectories: ``observations`` and true ``states`` (n, horizon, observation), ``lengths`` (n,)."""

    observations: NDArray[np.float32]
    states: NDArray[np.float32]
    lengths: NDArray[np.int64]

    @classmethod
    def of(cls, done: Rollout) -> _Met:
        return cls(done.observations, done.states, done.asked)

    def with_rows(self, rows: slice, others: _Met) -> _Met:
        """Those of ``others`` in these rows, in a copy."""
        changed = {name: values.copy() for name, values in vars(self).items()}
        for name, values in vars(others).items():
            changed[name][rows] = values
        return _Met(**changed)


def _predictor(model: nn.Module) -> Predict:
    """The network as a controller: asked as networks of every domain are."""
    return lambda inputs: scores(model, inputs, _BATCH)


def _episodes(dataset: Dataset, rows: Sequence[int]) -> list[Episode]:
    return [episode_of(dataset, row) for row in rows]
