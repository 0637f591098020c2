"""``--sequential``: every gated level is read in a seeded order until it is decided, and no further.

The runner asks which items come next (``envs.parts``); the answer is the judge's own rule (``reports.sequential``).
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from gapshift.domains.base import Dataset
from gapshift.envs.cells import TaskItems
from gapshift.envs.parts import Reading
from gapshift.errors import SettingsError
from gapshift.flows.levels import Rated
from gapshift.records import Records
from gapshift.reports.bands import bands_of
from gapshift.reports.gate import Band, Rule
from gapshift.reports.load import RatedItems, load_items, pairs_of
from gapshift.reports.planned import TRAINING_ENVIRONMENT, planned_tests
from gapshift.reports.sequential import BandWatch, reading_order, sequential_rule
from gapshift.reports.statistics import SequentialRule, clusters_of, effective_clusters
from gapshift.reports.statistics.clusters import LEAST_CLUSTERS
from gapshift.schema import REFERENCE, Bundle, Environment, RunPlan
from gapshift.workspace import Workspace

Indices = NDArray[np.intp]
Bools = NDArray[np.bool_]

_MOST_NAMES = 8


# ------------------------------------------------------------------- what can be read so


def readable_environments(
    environments: tuple[Environment, ...], named: Collection[str]
) -> tuple[tuple[Environment, ...], tuple[str, ...]]:
    """The environments that can be read item by item, and notes on those that are left out.

    Raises SettingsError for any that is not gated, so that nothing would ever end its reading, and for a named one
    that sets the order in which items are asked.
    """
    idle = [each.name for each in environments if each.kind != "equivalent" and each.name not in named]
    if idle:
        more = f" and {len(idle) - _MOST_NAMES} more" if len(idle) > _MOST_NAMES else ""
        raise SettingsError(
            f"--sequential reads each level until it is decided, and nothing is decided for what is only reported: "
            f"{', '.join(idle[:_MOST_NAMES])}{more}. Name what you deploy to with --environment, choose "
            "--group equivalent, or leave out --sequential."
        )
    ordered = [each.name for each in environments if each.deviations.get("runtime.order") is not None]
    refused = [name for name in ordered if name in named]
    if refused:
        raise SettingsError(
            f"{', '.join(refused)} sets runtime.order, the order in which items are asked, and --sequential draws that "
            "order itself. Leave it out, or leave out --sequential."
        )
    kept = tuple(each for each in environments if each.name not in ordered)
    note = f"Left out: {', '.join(ordered)}, since a sequential reading draws the order of the items itself."
    return kept, (note,) if ordered else ()


def check_readable(plan: RunPlan, dataset: Dataset, rated: Rated) -> None:
    """Raise SettingsError where a sequential plan's items are not independent: in groups, or behind one service."""
    if not plan.sequential:
        return
    count = _groups(dataset, rated)
    if count >= LEAST_CLUSTERS:
        raise SettingsError(
            f"The items of {rated.card.task} come in groups (speakers, paragraphs; effectively {count:.0f} at a level) "
            "that fail together; --sequential reads items that are independent of each other. Leave out --sequential: "
            "then intervals and tests are cluster-robust."
        )
    served = [each.name for each in plan.environments if any(key.startswith("service.") for key in each.deviations)]
    episodes = [bundle.name for bundle in plan.bundles if bundle.domain == "control"]
    if served and episodes:
        raise SettingsError(
            f"{', '.join(served)} puts a service before {', '.join(episodes)}, whose requests are counted over all "
            "episodes at once. Leave the environment out, or leave out --sequential."
        )


def _groups(dataset: Dataset, rated: Rated) -> float:
    """The largest effective number of groups at levels that are judged together; 0 where no two items share one."""
    levels, codes = rated.strata(), {"": -1}
    level = np.array([levels.get(item.id, 0) for item in dataset.items])
    group = np.array([codes.setdefault(item.group or "", len(codes) - 1) for item in dataset.items], dtype=np.intp)
    clusters = [clusters_of(group[np.isin(level, band)]) for band in rated.card.gated_bands]
    return max((effective_clusters(own) for own in clusters if len(np.unique(own)) < len(own)), default=0.0)


# ------------------------------------------------------------------------------ reading


@final
class SequentialReader:
    """Reads the cells of a plan as its judge will (``envs.parts.Reader``)."""

    def __init__(self, workspace: Workspace, plan: RunPlan) -> None:
        self._workspace = workspace
        self._plan = plan
        self._items_of, cards = load_items(workspace)
        self._bands = {task.name: bands_of(cards, task.name) for task in plan.tasks}
        rule = Rule(margin=plan.margin_pp / 100, alpha=plan.alpha, strict=plan.strict)
        self._rule = sequential_rule(rule, planned_tests(workspace, plan, cards))
        self._orders: dict[str, Indices] = {}

    def address(self, bundle: Bundle, environment: Environment) -> Any:
        """The order of reading, and what ends it; of the reference, which others read on, the order alone."""
        items, bands = self._items_of(bundle.task), self._bands[bundle.task]
        order = [self._plan.seed, items.index.ids.tolist(), items.level.tolist()]
        if environment.name == REFERENCE:
            return order
        rule = [self._rule.margin, self._rule.alpha_within, self._rule.alpha_beyond, self._plan.budget]
        return [*order, list(map(list, bands)), *rule, environment.kind]

    def first(self, task: TaskItems, readable: Bools) -> Indices:
        """What cannot be read or has no level: it takes no part in a level, and is counted whole."""
        unrated = np.array([item.id not in task.strata for item in task.dataset.items])
        return np.flatnonzero(unrated | ~readable)

    def begin(self, bundle: Bundle, environment: Environment, task: TaskItems, readable: Bools) -> Reading:
        """A reading of each gated band in its seeded order."""
        ids = np.array([item.id for item in task.dataset.items])
        level = np.array([task.strata.get(name, 0) for name in ids.tolist()])
        if bundle.task not in self._orders:
            self._orders[bundle.task] = reading_order(ids, self._plan.seed)
        order = self._orders[bundle.task]
        order = order[readable[order]]
        queues = {band: order[np.isin(level[order], band)] for band in self._bands[bundle.task]}
        equivalent = environment.kind == "equivalent"
        return _CellReading(queues, self._items_of(bundle.task), equivalent, self._rule, self._plan.budget)

    def beside(self, bundle: Bundle) -> Iterator[tuple[Environment, Records]]:
        """The training side's answers."""
        found = self._workspace.read_answers(bundle.name)
        if found is not None:
            yield TRAINING_ENVIRONMENT, found[1]


class _CellReading:
    """Bands take turns; one that is decided, or has no item left, takes none."""

    def __init__(
        self,
        queues: Mapping[Band, Indices],
        items: RatedItems,
        equivalent: bool,
        rule: SequentialRule,
        budget: int | None,
    ) -> None:
        self._queues = queues
        self._items = items
        self._left = budget if budget is not None else sum(map(len, queues.values()))
        self._asked = dict.fromkeys(queues, 0)
        self._watches = {band: BandWatch(equivalent, rule) for band in queues}

    def next_rows(self, most: int) -> Indices:
        """The next items of the bands that were asked least."""
        rows: list[int] = []
        while len(rows) < min(most, self._left) and (band := self._least_asked()) is not None:
            rows.append(int(self._queues[band][self._asked[band]]))
            self._asked[band] += 1
        self._left -= len(rows)
        return np.array(rows, dtype=np.intp)

    def _least_asked(self) -> Band | None:
        open_ = [
            band
            for band, queue in self._queues.items()
            if self._watches[band].found is None and self._asked[band] < len(queue)
        ]
        return min(open_, key=lambda band: self._asked[band], default=None)

    def take(self, reference: Records, answers: Records) -> None:
        """Judge the answers item by item."""
        pairs = pairs_of(reference, answers, self._items)
        for band, watch in self._watches.items():
            watch.feed(pairs.at(np.isin(pairs.level, band)))
