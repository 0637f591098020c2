"""Which deviations of an environment did the damage: each alone, all but each, shares, the smallest set that fails.

A *combination* is a part of an environment's deviations, evaluated like an environment of its own and paired item by
item with the reference. Its worth is what it loses: of an item 1 where a right answer became wrong, -1 where a wrong
one became right, else 0. The mean over a level's items is the level's drop. From the worths in every combination each
item has Shapley values, one a player, that sum to its worth with all deviations; their means are the shares, which sum
to the drop, and their intervals come from the items. Nothing here runs a model.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gapshift.reports.attribution_words import attributed
from gapshift.reports.cells import LEVEL_KEYS, Json, count_strata, interval_json
from gapshift.reports.combinations import Combination, Player, in_place, united, unusable
from gapshift.reports.counts import Counts
from gapshift.reports.floor import at_floor
from gapshift.reports.gate import Band, Rule
from gapshift.reports.load import Pairs, strata
from gapshift.reports.planned import MeasuredCell
from gapshift.reports.statistics import MOST_PLAYERS, clusters_of, mean_difference, shapley_values
from gapshift.reports.verdicts import JudgedCell, level_words
from gapshift.schema import Environment

MEAN = "mean"
"""The key of the mean over the five levels, each counting alike."""
KEYS = (*LEVEL_KEYS, MEAN)


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


def attribution_json(
    environment: Environment, found: Sequence[Explained], rule: Rule, level: str | None, shapley: bool
) -> Json:
    """The summary of an explanation: the environment, and one entry a model.

    ``rule`` is the gate's; ``level`` the one that is spoken of (None: where the model loses most); without ``shapley``
    there are no shares. Keys that end in ``_pp`` hold estimates with their intervals in percentage points, by level,
    ``all`` items and the ``mean`` of the levels; null without items or where there is no value. An entry has

    ``finding`` in sentences about ``level``, ``verdict`` (``verdict_gated``: it decides in the run), ``drop_pp``,
    ``players`` [{name, deviations, why_together, alone and without {status, reason, verdict}, alone_pp, together_pp on
    top of all others, interaction_pp, share_pp}], ``shares_missing`` (why there are none; empty where there are),
    ``smallest`` {sets [{names, deviations}], method, judged, unresolved, reason}, ``combinations`` [{names,
    environment, status, reason, verdict, drop_pp}], ``idle`` [{deviation, reason}], ``floor``, ``remarks``.
    """
    return {
        "environment": environment.name,
        "kind": environment.kind,
        "deviations": dict(environment.deviations),
        "explained": [_Entry(environment, one, rule, level, shapley).json() for one in found],
    }


class _Entry:
    """One model's entry."""

    def __init__(
        self, environment: Environment, found: Explained, rule: Rule, level: str | None, shapley: bool
    ) -> None:
        self._environment, self._found, self._margin = environment, found, rule.margin
        self._level, self._shapley = level, shapley

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
        judged = found.verdicts[whole]
        drop = items.estimates(self._whole.lost)
        counts = count_strata(self._whole)
        floor = [int(key) for key in LEVEL_KEYS[1:] if counts[key].n and at_floor(counts[key], self._margin)]
        level = self._level or _where_most(drop, set(map(str, floor)))
        shares, undefined = self._shares()
        return {
            "n_by_level": items.counts(),
            "reference_accuracy": {key: _accuracy(counts[key]) for key in LEVEL_KEYS},
            "floor": floor,
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
        return [*blocked, *stated, *cell.remarks, *_band_words(cell.bands)]


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


def _band_words(bands: Sequence[Band]) -> list[str]:
    """What a reader of levels must know where they are judged together."""
    if all(len(band) == 1 for band in bands):
        return []
    said = ", ".join(level_words(band) for band in bands)
    return [f"levels are too unreliable to be told apart; the gate judges {said}"]


def _accuracy(counts: Counts) -> float | None:
    return counts.right / counts.n if counts.n else None


def _where_most(drop: Mapping[str, Any], floor: Collection[str]) -> str:
    """The level to speak of: where a clear loss is largest, off the floor if there is one, else a clear gain.

    A floor hides losses and makes none, so a clear one there is damage as well, and the gate may FAIL by it.
    """
    known = {key: drop[key] for key in LEVEL_KEYS[1:] if drop[key]}
    off = {key: value for key, value in known.items() if key not in floor}
    for levels in (off, known):
        if losses := {key: float(value["estimate"]) for key, value in levels.items() if value["low"] > 0}:
            return max(losses, key=losses.__getitem__)
    for levels in (off, known):
        if gains := {key: float(value["estimate"]) for key, value in levels.items() if value["high"] < 0}:
            return min(gains, key=gains.__getitem__)
    return max(off or known, key=lambda key: float(known[key]["estimate"]), default=LEVEL_KEYS[0])


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
