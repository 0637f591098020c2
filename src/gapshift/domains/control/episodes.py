"""Episodes driven by a controller: what it mastered, what it met, where two controllers differ.

A controller is a function from inputs (n, window, observation) float32 to logits (n, actions);
the highest logit acts. The sensors read at every step. With ``action_repeat`` k the controller
is asked at every k-th step and its action held in between. An episode's physical noise and its
lost readings come from its own seed, so they are the same for every controller and deployment.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from gapshift.domains.base import Episode
from gapshift.domains.control.physics import ControlTask
from gapshift.domains.control.sensors import Sensors
from gapshift.domains.control.simulation import CHANCE, SLIPS, Simulation, stream, task_of
from gapshift.domains.services import NO_SERVICE
from gapshift.errors import EvaluationError
from gapshift.records import Records
from gapshift.schema import ControlPreprocessing, Item, Service

Predict: TypeAlias = Callable[[NDArray[np.float32]], NDArray[Any]]

BATCH = 64
"""Episodes in one call of a controller, where the caller has no other wish."""
_SLAB = 1024
"""Episodes that are simulated side by side: few enough for flat memory."""
_NO_ACTION = -1


@dataclass(frozen=True, eq=False)
class Rollout:
    """What came of n episodes.

    ``steps`` (n,) that each lasted; ``solved`` (n,); ``score`` (n,) from 0 to 1, the latter for
    solved ones alone: the share of 500 steps (CartPole), or of the energy that the flag takes
    (MountainCar). ``mastery`` (n,) in [0, 1] is a soft outcome that tells solved episodes apart,
    too: the mean quality (``ControlTask.quality``) of the horizon's steps, of which step t weighs
    as t; steps after a fall count 0, those that an early arrival spares 1. ``gap`` (n,) is that of
    the closest decision: the least distance of the two highest logits over the range of all logits
    of the episode, 1 where none was asked for. ``finite`` (n,) is
    False where a logit was not and the episode ended there, unsolved. ``observations`` (n,
    horizon, observation) float32: what was seen before each step, 0 after the end; ``states``:
    the same without sensor noise.
    """

    steps: NDArray[np.int64]
    solved: NDArray[np.bool_]
    score: NDArray[np.float64]
    mastery: NDArray[np.float64]
    gap: NDArray[np.float64]
    finite: NDArray[np.bool_]
    observations: NDArray[np.float32]
    states: NDArray[np.float32]

    @property
    def asked(self) -> NDArray[np.int64]:
        """Number of steps at which there was something to see, shape (n,), at least 1."""
        return np.maximum(self.steps, 1)


def rollout(
    episodes: Sequence[Episode],
    predict: Predict,
    preprocessing: ControlPreprocessing,
    batch: int = BATCH,
    most: int | None = None,
    service: Service = NO_SERVICE,
) -> Rollout:
    """Drive every episode to its end by ``predict``, which gets at most ``batch`` inputs a call.

    Episodes that last longer than ``most`` steps, where it is given, are left there, unsolved. Readings come
    through ``service``.

    Raises DataError for episodes of several tasks, SettingsError where offset or scale are not
    settled, EvaluationError for outputs that are not (n, actions).
    """
    parts = []
    for some in _slabs(episodes):
        simulation = Simulation(some)
        pilot = _Pilot(some, simulation, predict, preprocessing, batch, service)
        parts.append(_driven(simulation, pilot.act, most, pilot.gaps))
    return _joined(parts)


def answer_episodes(
    items: Sequence[Item],
    episodes: Sequence[Episode],
    predict: Predict,
    preprocessing: ControlPreprocessing,
    batch: int = BATCH,
) -> Records:
    """Records of one controller (``episode_records``). No items give no records. Raises as ``rollout``."""
    return episode_records(items, rollout(episodes, predict, preprocessing, batch) if len(episodes) else _joined([]))


def episode_records(items: Sequence[Item], done: Rollout) -> Records:
    """Records of one controller: an item's prediction is its episode's outcome, 1 solved or 0.

    Confidence is NaN, ``score`` and ``gap`` are those of the rollout: where one decision was a tie,
    rounding alone can turn it and all that follows. A non-finite logit makes the item wrong, status
    ``nan_output``, prediction -1, gap NaN.
    """
    right = done.solved & done.finite
    return Records(
        item_id=np.array([item.id for item in items], dtype=np.str_),
        label=np.array([item.label for item in items], dtype=np.int32),
        prediction=np.where(done.finite, right, -1).astype(np.int32),
        confidence=np.full(len(items), np.nan),
        correct=right.astype(np.float64),
        gap=np.where(done.finite, done.gap, np.nan),
        status=np.where(done.finite, "ok", "nan_output").astype(np.str_),
        score=done.score,
    )


def windows(
    episodes: Sequence[Episode],
    predict: Predict,
    preprocessing: ControlPreprocessing,
    count: int,
    batch: int = BATCH,
) -> NDArray[np.float32]:
    """At most ``count`` inputs that the controller meets, shape (n, window, observation).

    They lie evenly over all steps of the first ``count`` episodes. Raises as ``rollout``.
    """
    return seen_by([preprocessing], episodes, predict, preprocessing, count, batch)[0]


def seen_by(
    others: Sequence[ControlPreprocessing],
    episodes: Sequence[Episode],
    predict: Predict,
    preprocessing: ControlPreprocessing,
    count: int,
    batch: int = BATCH,
) -> list[NDArray[np.float32]]:
    """The moments of ``windows``, as the sensors of each of ``others`` see them: the controller drives as before."""
    driven = list(episodes[:count])
    done = rollout(driven, predict, preprocessing, batch)
    ends = np.cumsum(done.asked)
    places = np.unique(np.linspace(0, ends[-1] - 1, min(count, int(ends[-1]))).round().astype(np.intp))
    rows = np.searchsorted(ends, places, side="right").astype(np.intp)
    observed, steps = done.observations.transpose(1, 0, 2), places - (ends - done.asked)[rows]
    return [Sensors(driven, observed, other).window(rows, steps) for other in others]


def action_disagreement(
    episodes: Sequence[Episode],
    reference: Predict,
    reference_preprocessing: ControlPreprocessing,
    other: Predict,
    other_preprocessing: ControlPreprocessing,
    batch: int = BATCH,
    other_service: Service = NO_SERVICE,
) -> float:
    """Open loop: the share of steps at which ``other`` acts differently from ``reference``.

    The reference drives; both are asked along its trajectory, each with its own preprocessing, and the other
    through ``other_service``.
    A step at which the other gives no action (a non-finite logit) counts as different. NaN
    where the reference takes no step at all. Raises as ``rollout``.
    """
    steps = different = 0
    for some in _slabs(episodes):
        simulation = Simulation(some)
        driver = _Pilot(some, simulation, reference, reference_preprocessing, batch)
        passenger = _Pilot(some, simulation, other, other_preprocessing, batch, other_service)
        while len(simulation.live):
            actions, others = driver.act(), passenger.act()
            acted = actions != _NO_ACTION
            steps += int(acted.sum())
            different += int((actions != others)[acted].sum())
            _advance(simulation, actions)
    return different / steps if steps else float("nan")


def chance(episodes: Sequence[Episode], repeats: int = 8) -> NDArray[np.float64]:
    """The share of ``repeats`` tries that a uniformly random policy solves, shape (n,).

    Its actions are drawn from each episode's seed; the physical noise is that of the episode.
    """
    task = task_of(episodes)
    tries = [[_random_try(some, task, repeat) for repeat in range(repeats)] for some in _slabs(episodes)]
    return np.concatenate([np.mean(solved, axis=0) for solved in tries])


def _random_try(episodes: Sequence[Episode], task: ControlTask, repeat: int) -> NDArray[np.bool_]:
    simulation = Simulation(episodes)
    drawn = [stream(e, CHANCE, repeat).integers(len(task.actions), size=task.horizon) for e in episodes]
    actions = np.stack(drawn, axis=1)
    return _driven(simulation, lambda: actions[simulation.time, simulation.live]).solved


class _Pilot:
    """One controller at the live episodes of a simulation, and the actions that it holds."""

    def __init__(
        self,
        episodes: Sequence[Episode],
        simulation: Simulation,
        predict: Predict,
        preprocessing: ControlPreprocessing,
        batch: int,
        service: Service = NO_SERVICE,
    ) -> None:
        self._simulation, self._predict, self._batch = simulation, predict, batch
        self._sensors = Sensors(episodes, simulation.observations, preprocessing, service)
        self._repeat = preprocessing.action_repeat
        self._held = np.full(len(episodes), _NO_ACTION, dtype=np.intp)
        self._slips = _slips(episodes, simulation.task, preprocessing.action_noise)
        self._closest = np.full(len(episodes), np.inf)
        self._low, self._high = np.full(len(episodes), np.inf), np.full(len(episodes), -np.inf)

    def gaps(self) -> NDArray[np.float64]:
        """How near each episode's closest decision was to a tie (``Rollout.gap``), shape (n,)."""
        spread = self._high - self._low
        usable = np.isfinite(spread) & (spread > 0)
        shares: NDArray[np.float64] = np.where(np.isfinite(self._closest), 0.0, 1.0)
        np.divide(self._closest, spread, out=shares, where=usable)
        return shares

    def act(self) -> NDArray[np.intp]:
        """What is done in each live episode, -1 where a logit is not finite; the last one where no reading came."""
        live, time = self._simulation.live, self._simulation.time
        if time % self._repeat == 0:
            self._decide(live[~self._sensors.silent(live, time)], time)
        held, slips = self._held[live], self._slips[time, live]
        return np.where((held != _NO_ACTION) & (slips != _NO_ACTION), slips, held)

    def _decide(self, rows: NDArray[np.intp], time: int) -> None:
        """Ask for the action that these episodes take from now on."""
        if not len(rows):
            return
        inputs = self._sensors.window(rows, time)
        starts = range(0, len(rows), self._batch)
        logits = np.concatenate([self._asked(inputs[s : s + self._batch]) for s in starts])
        finite = np.isfinite(logits).all(axis=1)
        self._held[rows] = np.where(finite, logits.argmax(axis=1), _NO_ACTION)
        self._note(rows[finite], logits[finite])

    def _note(self, live: NDArray[np.intp], logits: NDArray[Any]) -> None:
        """Remember how close the closest decision was, and how far the logits reach."""
        ordered = np.sort(logits, axis=1).astype(np.float64)
        self._closest[live] = np.minimum(self._closest[live], ordered[:, -1] - ordered[:, -2])
        self._low[live] = np.minimum(self._low[live], ordered[:, 0])
        self._high[live] = np.maximum(self._high[live], ordered[:, -1])

    def _asked(self, inputs: NDArray[np.float32]) -> NDArray[Any]:
        logits = np.asarray(self._predict(inputs))
        expected = (len(inputs), len(self._simulation.task.actions))
        if logits.shape != expected:
            raise EvaluationError(
                f"The controller gives outputs of shape {logits.shape} for {len(inputs)} inputs of "
                f"{self._simulation.task.name}; expected {expected}, a logit for each of "
                f"{', '.join(self._simulation.task.actions)}. Check model.output in the contract."
            )
        return logits


def _slips(episodes: Sequence[Episode], task: ControlTask, rate: float) -> NDArray[np.intp]:
    """The random actions that an actuator does instead, (horizon, n); -1 where it does as it is told.

    A higher rate has those of a lower one and more.
    """
    slips = np.full((task.horizon, len(episodes)), _NO_ACTION, dtype=np.intp)
    if rate:
        for row, episode in enumerate(episodes):
            rng = stream(episode, SLIPS)
            hit, drawn = rng.random(task.horizon) < rate, rng.integers(len(task.actions), size=task.horizon)
            slips[hit, row] = drawn[hit]
    return slips


def _advance(simulation: Simulation, actions: NDArray[np.intp]) -> None:
    """A step of those that have an action; the others end here."""
    silent = actions == _NO_ACTION
    if silent.any():
        simulation.stop(silent)
    if len(simulation.live):
        simulation.step(actions[~silent])


def _driven(
    simulation: Simulation,
    act: Callable[[], NDArray[np.intp]],
    most: int | None = None,
    gaps: Callable[[], NDArray[np.float64]] | None = None,
) -> Rollout:
    finite = np.ones(len(simulation.steps), dtype=np.bool_)
    while len(simulation.live) and simulation.time != most:
        actions = act()
        finite[simulation.live[actions == _NO_ACTION]] = False
        _advance(simulation, actions)
    gap = gaps() if gaps else np.ones(len(finite))
    done = simulation.steps, simulation.solved, simulation.score, np.minimum(simulation.mastery, 1.0), gap, finite
    return Rollout(*done, simulation.observations.transpose(1, 0, 2), simulation.states.transpose(1, 0, 2))


def _slabs(episodes: Sequence[Episode]) -> Iterator[Sequence[Episode]]:
    task_of(episodes)
    for start in range(0, len(episodes), _SLAB):
        yield episodes[start : start + _SLAB]


def _joined(parts: Sequence[Rollout]) -> Rollout:
    names = Rollout.__dataclass_fields__
    if not parts:
        none = np.zeros(0)
        seen = np.zeros((0, 0, 0), np.float32)
        return Rollout(
            none.astype(np.int64), none.astype(np.bool_), none, none, none, none.astype(np.bool_), seen, seen
        )
    return Rollout(**{name: np.concatenate([getattr(part, name) for part in parts]) for name in names})
