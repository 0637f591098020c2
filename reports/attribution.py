"""Which deviations of an environment did the damage: each alone, all but each, shares, the smallest set that fails.

A *combination* is a part of an environment's deviations, evaluated like an environment of its own and paired item by
item with the reference. Its worth is what it loses: of an item 1 where a right answer became wrong, -1 where a wrong
one became right, else 0. The mean over a level's items is the level's drop. From the worths in every combination each
item has Shapley values, one a player, that sum to its worth with all deviations; their means are the shares, which sum
to the drop, and their intervals come from the items. Nothing here runs a model.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gapshift.reports.attribution_words import attributed
from gapshift.reports.cells import LEVEL_KEYS, Json, interval_json
from gapshift.reports.load import Pairs, strata
from gapshift.reports.planned import MeasuredCell, MeasuredRun
from gapshift.reports.statistics import MOST_PLAYERS, clusters_of, mean_difference, shapley_values
from gapshift.reports.verdicts import JudgedCell, gated_p, judge_beside
from gapshift.schema import Environment

MEAN = "mean"
"""The key of the mean over the five levels, each counting alike."""
KEYS = (*LEVEL_KEYS, MEAN)

Combination = frozenset[str]
"""The dotted keys of a part of an environment's deviations."""


@dataclass(frozen=True, eq=False)
class Player:
    """What a share goes to: a deviation, or several that cannot stand alone; then ``why`` says what is refused."""

    deviations: Mapping[str, Any]
    why: str = ""

    @cached_property
    def keys(self) -> Combination:
        return frozenset(self.deviations)

    @cached_property
    def name(self) -> str:
        """Its deviations in words."""
        return " with ".join(deviation_words(key, value) for key, value in self.deviations.items())


def deviation_words(key: str, value: Any) -> str:
    """One deviation, its key without the word that most of them begin with.

    >>> deviation_words("preprocessing.resize.antialias", False), deviation_words("runtime.batch_size", 1)
    ('resize.antialias = false', 'runtime.batch_size = 1')
    """
    said = str(value).lower() if isinstance(value, bool) else str(value)
    return f"{key.removeprefix('preprocessing.')} = {said}"


def united(players: Collection[Player]) -> Combination:
    """The keys of several players."""
    return frozenset().union(*(player.keys for player in players))


class Gate:
    """A run's own gate, for an environment with a part of its deviations alone.

    A combination takes the place of the environment's cell of the same model: margin, alpha, bands and the Holm
    family are the run's as planned. Where the environment is not gated there, its levels join the family for their own
    sake, as those of every cell that is not.
    """

    def __init__(self, run: MeasuredRun, environment: str) -> None:
        self._environment = environment
        self._own = {cell.bundle.name: cell for cell in run.cells if cell.environment.name == environment}
        self._family = sum(len(cell.bands) for cell in run.cells if cell.gated)
        self._p = gated_p(run.cells, run.rule)
        self._rule = run.rule

    def judged(self, cell: MeasuredCell) -> JudgedCell:
        """The cell of a combination with the verdict that the environment would get, were it no more than that."""
        bundle, own = cell.bundle.name, self._own.get(cell.bundle.name)
        others = {test: p for test, p in self._p.items() if test[:2] != (bundle, self._environment)}
        mine = replace(cell, named=bool(own and own.named), gated=bool(own and own.gated))
        return judge_beside(mine, others, self._rule, self._family)


def unusable(cell: MeasuredCell) -> tuple[str, str] | None:
    """Status and reason of a combination whose answers cannot be compared; None where they can.

    Numbers of another format than the one that was asked for count, as they do everywhere: they are what was executed.
    """
    if cell.info is not None and cell.info.status != "ok":
        return cell.info.status, cell.info.reason or "no reason was recorded"
    if cell.blocked is not None and (cell.pairs is None or cell.blocked.verdict != "NO DATA"):
        return "error", cell.blocked.reason
    return ("error", "it has no answers") if cell.pairs is None or not len(cell.pairs) else None


def same_answers(one: MeasuredCell, other: MeasuredCell) -> bool:
    """Whether two combinations gave every item the same answer with the same confidence."""
    if one.pairs is None or other.pairs is None:
        return False
    a, b = (in_place(pairs) for pairs in (one.pairs, other.pairs))
    alike = (np.array_equal(getattr(a, name), getattr(b, name)) for name in ("position", "prediction", "still_right"))
    return all(alike) and np.array_equal(a.confidence, b.confidence, equal_nan=True)


def in_place(pairs: Pairs) -> Pairs:
    """The pairs in the order of the task's items: each combination answered them in its own."""
    order = np.argsort(pairs.position, kind="stable")
    return replace(pairs, **{field.name: getattr(pairs, field.name)[order] for field in fields(pairs)})


@dataclass(frozen=True)
class Smallest:
    """The smallest combinations that fail, how they were found, and how many were judged for it.

    ``reason`` says why there is none.
    """

    sets: tuple[Combination, ...] = ()
    method: str = ""
    judged: int = 0
    unresolved: int = 0
    reason: str = ""


@dataclass(frozen=True, eq=False)
class Explained:
    """What was found out about one model.

    ``cells`` and ``verdicts`` by combination; ``idle`` are keys that are no deviation here, each with its reason;
    ``problem`` is the status and reason where the environment itself has no answers to compare.
    """

    bundle: str
    task: str
    players: tuple[Player, ...]
    cells: Mapping[Combination, MeasuredCell]
    verdicts: Mapping[Combination, JudgedCell]
    smallest: Smallest
    idle: Mapping[str, str]
    problem: tuple[str, str] | None = None

    @property
    def whole(self) -> Combination:
        return united(self.players)


def attribution_json(environment: Environment, found: Sequence[Explained], level: str | None, shapley: bool) -> Json:
    """The summary of an explanation: the environment, and one entry a model.

    Shares are fractions of 0-1, keys that end in ``_pp`` percentage points; levels without items are null. ``level``
    is the one that is spoken of (None: where the model loses most); without ``shapley`` there are no shares.
    """
    return {
        "environment": environment.name,
        "kind": environment.kind,
        "deviations": dict(environment.deviations),
        "explained": [_Entry(environment, one, level, shapley).json() for one in found],
    }


class _Entry:
    """One model's entry."""

    def __init__(self, environment: Environment, found: Explained, level: str | None, shapley: bool) -> None:
        self._environment, self._found, self._level, self._shapley = environment, found, level, shapley

    def json(self) -> Json:
        found = self._found
        head: Json = {
            "bundle": found.bundle,
            "task": found.task,
            "idle": [{"deviation": key, "reason": why} for key, why in found.idle.items()],
        }
        if found.problem:
            status, reason = found.problem
            return head | {"status": status, "reason": reason} | _nothing(status, reason, self._environment.name)
        entry = head | {"status": "ok", "reason": ""} | self._measured(_Items(self._whole))
        return entry | {"finding": attributed(self._environment.name, entry)}

    @cached_property
    def _whole(self) -> Pairs:
        return self._pairs(self._found.whole)

    def _pairs(self, keys: Combination) -> Pairs:
        pairs = self._found.cells[keys].pairs
        assert pairs is not None  # unusable
        return in_place(pairs)

    def _worth(self, keys: Combination) -> NDArray[np.int64] | None:
        """What a combination loses of each item; None where it cannot be compared with the whole."""
        whole, cell = self._whole, self._found.cells.get(keys)
        if not keys:
            return np.zeros(len(whole), dtype=np.int64)
        if cell is None or unusable(cell):
            return None
        mine = self._pairs(keys)
        return mine.lost if np.array_equal(mine.position, whole.position) else None

    def _measured(self, items: _Items) -> Json:
        found, whole = self._found, self._found.whole
        cell, judged = found.cells[whole], found.verdicts[whole]
        drop = items.estimates(self._whole.lost)
        level = self._level or _where_most(drop, {str(each) for each in cell.measurement["floor"]})
        shares, undefined = self._shares()
        return {
            "n_by_level": items.counts(),
            "reference_accuracy": cell.measurement["reference_accuracy"],
            "floor": cell.measurement["floor"],
            "verdict": judged.verdict,
            "verdict_gated": judged.measured.gated,
            "drop_pp": drop,
            "level": level,
            "players": [
                self._player(player, items, None if shares is None else shares[:, place])
                for place, player in enumerate(found.players)
            ],
            "shares_missing": undefined,
            "smallest": self._smallest(),
            "combinations": [self._combination(keys, items) for keys in found.cells],
            "remarks": self._remarks(),
        }

    def _shares(self) -> tuple[NDArray[np.float64] | None, str]:
        """Every item's Shapley values (n, players), or why there are none."""
        players = self._found.players
        if len(players) == 1:
            return None, "it deviates in one thing alone"
        if len(players) > MOST_PLAYERS:
            many = f"{len(players)} deviations have {2 ** len(players):,} combinations"
            return None, f"{many}; shares are for {MOST_PLAYERS} deviations or fewer"
        if not self._shapley:
            return None, "they were not asked for"
        combinations = [united([p for j, p in enumerate(players) if s >> j & 1]) for s in range(2 ** len(players))]
        worths = [self._worth(keys) for keys in combinations]
        missing = [keys for keys, worth in zip(combinations, worths, strict=True) if worth is None]
        if missing:
            return None, self._undefined(missing)
        return shapley_values(np.stack([worth for worth in worths if worth is not None], axis=1)), ""

    def _undefined(self, missing: Sequence[Combination]) -> str:
        first = missing[0]
        cell = self._found.cells.get(first)
        known = unusable(cell) if cell else ("error", "it was not measured")
        status, reason = known or ("error", "it answered other items")
        more = f", and {len(missing) - 1} more" if len(missing) > 1 else ""
        return f"without a value: {self._names(first)} ({status.replace('_', ' ')}: {reason}){more}"

    def _names(self, keys: Combination) -> str:
        return " + ".join(player.name for player in self._found.players if player.keys <= keys)

    def _player(self, player: Player, items: _Items, shares: NDArray[np.float64] | None) -> Json:
        whole, without = self._worth(self._found.whole), self._worth(self._found.whole - player.keys)
        alone = self._worth(player.keys)
        together = None if whole is None or without is None else whole - without
        interaction = None if together is None or alone is None else together - alone
        return {
            "name": player.name,
            "deviations": dict(player.deviations),
            "why_together": player.why,
            "alone": self._outcome(player.keys),
            "without": self._outcome(self._found.whole - player.keys),
            "alone_pp": items.estimates(alone),
            "together_pp": items.estimates(together),
            "interaction_pp": items.estimates(interaction, largest=2.0),
            "share_pp": items.estimates(shares),
        }

    def _outcome(self, keys: Combination) -> Json:
        """Status and verdict of a combination; nobody's is the reference."""
        if not keys:
            return {"status": "reference", "reason": "", "verdict": None}
        cell, judged = self._found.cells.get(keys), self._found.verdicts.get(keys)
        status, reason = (unusable(cell) if cell else ("error", "it was not measured")) or ("ok", "")
        return {"status": status, "reason": reason, "verdict": judged.verdict if judged else None}

    def _smallest(self) -> Json:
        found = self._found.smallest
        return {
            "sets": [
                {"names": [p.name for p in self._found.players if p.keys <= keys], "deviations": self._deviations(keys)}
                for keys in found.sets
            ],
            "method": found.method,
            "judged": found.judged,
            "unresolved": found.unresolved,
            "reason": found.reason,
        }

    def _deviations(self, keys: Combination) -> Json:
        return {key: value for key, value in self._environment.deviations.items() if key in keys}

    def _combination(self, keys: Combination, items: _Items) -> Json:
        cell = self._found.cells[keys]
        return {
            "names": [player.name for player in self._found.players if player.keys <= keys],
            "environment": cell.environment.name,
            **self._outcome(keys),
            "drop_pp": items.estimates(self._worth(keys)),
        }

    def _remarks(self) -> list[str]:
        cell = self._found.cells[self._found.whole]
        blocked = [cell.blocked.reason] if cell.blocked else []
        stated = [cell.info.reason] if cell.info and cell.info.reason else []
        return [*blocked, *stated, *cell.remarks]


class _Items:
    """The items that all combinations of a model answered."""

    def __init__(self, pairs: Pairs) -> None:
        self._strata = strata(pairs.level)
        self._group = pairs.group if (pairs.group >= 0).any() else None
        sizes = [int((pairs.level == level).sum()) for level in range(1, 6)]
        weights = np.array([0.0, *(len(pairs) / (5 * size) if size else 0.0 for size in sizes)])
        self._weight = weights[pairs.level] if all(sizes) else None

    def counts(self) -> dict[str, int]:
        return {key: int(mask.sum()) for key, mask in self._strata.items()}

    def estimates(self, values: NDArray[Any] | None, largest: float = 1.0) -> Json:
        """Means of differences (n,) in pp, at each level, over all items and over the levels; null without items."""
        if values is None:
            return dict.fromkeys(KEYS)
        found = {
            key: self._mean(values[mask], None if self._group is None else self._group[mask], largest)
            for key, mask in self._strata.items()
        }
        if self._weight is None:
            return found | {MEAN: None}
        most = largest * float(self._weight.max())
        return found | {MEAN: self._mean(values * self._weight, self._group, most)}

    @staticmethod
    def _mean(values: NDArray[Any], group: NDArray[np.intp] | None, largest: float) -> Json | None:
        clusters = None if group is None else clusters_of(group)
        return interval_json(mean_difference(values, clusters, largest=largest), 100) if len(values) else None


def _where_most(drop: Mapping[str, Any], floor: Collection[str]) -> str:
    """The level to speak of: off the floor, its interval beside zero if any is, the largest loss, else gain."""
    known = {key: drop[key] for key in LEVEL_KEYS[1:] if drop[key]}
    level = {key: value for key, value in known.items() if key not in floor} or known
    clear = {key: value for key, value in level.items() if value["low"] > 0 or value["high"] < 0}
    if not level:
        return LEVEL_KEYS[0]
    losses = {key: value for key, value in clear.items() if value["low"] > 0}
    if losses or not clear:
        return max(losses or level, key=lambda key: float((losses or level)[key]["estimate"]))
    return min(clear, key=lambda key: float(clear[key]["estimate"]))


def _nothing(status: str, reason: str, environment: str) -> Json:
    """The entry of a model that has no answers in the environment."""
    return {
        "finding": f"{environment} was not measured: {status.replace('_', ' ')}: {reason}",
        "drop_pp": dict.fromkeys(KEYS),
        "level": None,
        "verdict": None,
        "players": [],
        "shares_missing": "it was not measured",
        "smallest": {"sets": [], "method": "", "judged": 0, "unresolved": 0, "reason": "it was not measured"},
        "combinations": [],
        "remarks": [],
    }
