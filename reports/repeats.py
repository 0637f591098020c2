"""What changed in the repeats of an environment, and which setting changed it.

Everything is compared with the environment's own cell, not with the reference: a prediction that differs from it is
a *flip*. Only the drop D is against the reference, as everywhere. Reads ``run.json``, ``items.parquet``, records and
the raw outputs beside them. Nothing here is a verdict.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from gapshift.reports.cells import LEVEL_KEYS, count_strata
from gapshift.reports.load import Cell, Pairing, RatedItems, Reference, load_items, pair, reference_of, strata
from gapshift.reports.outputs import Difference, compare_outputs
from gapshift.reports.planned import planned_cell
from gapshift.reports.repeat_words import finding
from gapshift.reports.statistics import clopper_pearson
from gapshift.schema import REFERENCE, REFERENCE_ENVIRONMENT, Bundle, Environment, RunPlan
from gapshift.schema.repeats import CAUSES, Setting, repeated
from gapshift.workspace import Workspace

Json = dict[str, Any]


@dataclass(frozen=True, eq=False)
class _Repeat:
    """One repeat that ran: its pairs with the environment's own cell, and with the reference."""

    setting: Setting
    cell: Cell
    pairing: Pairing
    against_reference: Pairing | None
    outputs: Difference | str | None


def judge_repeats(workspace: Workspace) -> Json:
    """The summary of a folder that ``gapshift repeat`` made: one entry for each bundle and repeated environment.

    Shares are fractions of 0-1, keys that end in ``_pp`` percentage points; a level without items is null. Raises
    WorkspaceError where plan or items cannot be read.
    """
    plan = workspace.read_plan()
    items_of, _ = load_items(workspace)
    found = [
        _Judged(workspace, plan, bundle, items_of(bundle.task)).environment(base, repeats)
        for bundle in plan.bundles
        for base, repeats in _by_base(plan, bundle).items()
    ]
    return {
        "schema_version": 1,
        "command": plan.command,
        "notes": list(plan.notes),
        "bundles": [bundle.name for bundle in plan.bundles],
        "environments": list(dict.fromkeys(entry["environment"] for entry in found)),
        "repeated": found,
        "absent": [absent for entry in found for absent in entry.pop("absent")],
    }


def _by_base(plan: RunPlan, bundle: Bundle) -> dict[str, list[tuple[Environment, Setting]]]:
    """The planned repeats by the name of what they repeat."""
    bases: dict[str, list[tuple[Environment, Setting]]] = {}
    for environment in plan.environments_of(bundle):
        if known := repeated(environment):
            bases.setdefault(known[0], []).append((environment, known[1]))
    return bases


class _Judged:
    """One bundle's cells."""

    def __init__(self, workspace: Workspace, plan: RunPlan, bundle: Bundle, items: RatedItems) -> None:
        self._workspace, self._plan, self._bundle, self._items = workspace, plan, bundle, items
        self._planned = {environment.name: environment for environment in plan.environments}
        self._planned |= {REFERENCE: REFERENCE_ENVIRONMENT}
        self._reference = reference_of(self._cell(REFERENCE_ENVIRONMENT), items)

    def _cell(self, environment: Environment) -> Cell:
        return planned_cell(self._workspace, self._plan, self._bundle, environment)

    def environment(self, name: str, repeats: Sequence[tuple[Environment, Setting]]) -> Json:
        """The entry of one repeated environment."""
        head = {"bundle": self._bundle.name, "task": self._bundle.task, "environment": name}
        own_cell = self._cell(self._planned[name])
        own = reference_of(own_cell, self._items)
        problem = _problem(own_cell) or (("error", own) if isinstance(own, str) else None)
        if problem or isinstance(own, str):
            missing = [("its own cell", problem)]
            return {**head, **_nothing(problem), "absent": _absent(head, missing)}
        cells = [(setting, self._cell(environment)) for environment, setting in repeats]
        ran = [self._ran(own, own_cell, setting, cell) for setting, cell in cells if not _problem(cell)]
        missing = [(setting.name, _problem(cell)) for setting, cell in cells]
        return {**head, **self._entry(own, own_cell, ran), "absent": _absent(head, missing)}

    def _ran(self, own: Reference, own_cell: Cell, setting: Setting, cell: Cell) -> _Repeat:
        assert cell.records is not None  # _problem
        return _Repeat(
            setting=setting,
            cell=cell,
            pairing=pair(own, cell.records, subsample=False),
            against_reference=self._against_reference(cell),
            outputs=compare_outputs(*(self._outputs(each) for each in (own_cell, cell))),
        )

    def _against_reference(self, cell: Cell) -> Pairing | None:
        """Pairs with the reference; a subsample has fewer items, which is settled against its own cell."""
        if not isinstance(self._reference, Reference) or cell.records is None:
            return None
        return pair(self._reference, cell.records, subsample=True)

    def _outputs(self, cell: Cell) -> Path:
        assert cell.info is not None  # _problem
        return self._workspace.outputs_path(cell.info.bundle, cell.info.environment, cell.info.key)

    def _entry(self, own: Reference, own_cell: Cell, ran: Sequence[_Repeat]) -> Json:
        causes: dict[str, Json] = {cause: self._cause([r for r in ran if r.setting.cause == cause]) for cause in CAUSES}
        companions = self._cause([r for r in ran if r.setting.cause in ("order", "batch", "order and batch")])
        anything = self._cause(ran)
        return {
            "n": len(own.records),
            "finding": finding(causes, companions, anything),
            "flips": anything["flips"],
            "tie_flips": anything["tie_flips"],
            "largest_difference": anything["largest_difference"],
            "relative_difference": anything["relative_difference"],
            "bitwise_repeatable": causes["repetition"]["bitwise"],
            "drop_range_pp": self._drop_range(own_cell, ran),
            "causes": causes | {"companions": companions},
            "settings": [_setting(repeat, own_cell) for repeat in ran],
            "problems": _remarks(own, ran),
        }

    def _cause(self, ran: Sequence[_Repeat]) -> Json:
        """What any of some repeats changed: an item counts once, however many of them flip it."""
        size = len(self._items)
        paired, flipped, tied = (np.zeros(size, dtype=np.bool_) for _ in range(3))
        for repeat in ran:
            pairs = repeat.pairing.pairs
            paired[pairs.position] = True
            flipped[pairs.position[pairs.changed]] = True
            tied[pairs.position[pairs.tie]] = True
        masks = {key: mask & paired for key, mask in strata(self._items.level).items()}
        known = [repeat.outputs for repeat in ran if isinstance(repeat.outputs, Difference)]
        return {
            "settings": [repeat.setting.name for repeat in ran],
            "flips": {key: _share(int((flipped & mask).sum()), int(mask.sum())) for key, mask in masks.items()},
            "tie_flips": {key: int((flipped & tied & mask).sum()) for key, mask in masks.items()},
            "largest_difference": max((d.largest for d in known), default=None),
            "relative_difference": max((d.relative for d in known if d.relative is not None), default=None),
            "bitwise": all(d.bitwise for d in known) if known and len(known) == len(ran) else None,
            "open_loop": _ends([r.cell.info.open_loop for r in ran if r.cell.info]),
        }

    def _drop_range(self, own_cell: Cell, ran: Sequence[_Repeat]) -> Json:
        """The least and the largest drop at each level over the environment's own cell and its repeats."""
        own = self._against_reference(own_cell)
        drops = [_drops(pairing) for pairing in (own, *(r.against_reference for r in ran)) if pairing]
        return {key: _ends([drop[key] for drop in drops]) for key in LEVEL_KEYS}


def _problem(cell: Cell) -> tuple[str, str] | None:
    """Status and reason of a cell without answers."""
    if cell.info is None or cell.records is None:
        return "error", cell.problem
    if cell.info.status != "ok":
        return cell.info.status, cell.info.reason or "no reason was recorded"
    return None


def _setting(repeat: _Repeat, own_cell: Cell) -> Json:
    pairs, outputs = repeat.pairing.pairs, repeat.outputs
    counts = count_strata(pairs)
    difference = outputs if isinstance(outputs, Difference) else None
    here, own = (cell.info.open_loop if cell.info else None for cell in (repeat.cell, own_cell))
    return {
        "setting": repeat.setting.name,
        "cause": repeat.setting.cause,
        "deviations": dict(repeat.setting.deviations),
        "flips": {key: _share(counts[key].changed, counts[key].n) for key in LEVEL_KEYS},
        "tie_flips": {key: counts[key].tie_changes for key in LEVEL_KEYS},
        "lost": {key: counts[key].lost for key in LEVEL_KEYS},
        "gained": {key: counts[key].gained for key in LEVEL_KEYS},
        "drop_pp": _drops(repeat.against_reference) if repeat.against_reference else dict.fromkeys(LEVEL_KEYS),
        "largest_difference": difference and difference.largest,
        "relative_difference": difference and difference.relative,
        "bitwise": difference and difference.bitwise,
        "open_loop": here,
        "open_loop_change": None if here is None or own is None else here - own,
    }


def _drops(pairing: Pairing) -> dict[str, float | None]:
    """Drop per level in pp against the reference; None where a level has no pairs."""
    counts = count_strata(pairing.pairs)
    return {key: 100 * counts[key].drop if counts[key].n else None for key in LEVEL_KEYS}


def _share(k: int, n: int) -> Json | None:
    """A share with its Clopper-Pearson interval and its counts; None of nothing."""
    if not n:
        return None
    found = clopper_pearson(k, n)
    return {"k": k, "n": n, "estimate": found.estimate, "low": found.low, "high": found.high}


def _ends(values: Iterable[float | None]) -> Json | None:
    known = [value for value in values if value is not None and np.isfinite(value)]
    return {"low": min(known), "high": max(known)} if known else None


def _remarks(own: Reference, ran: Iterable[_Repeat]) -> list[str]:
    """What cannot be trusted, each once with the settings it is about."""
    found: dict[str, list[str]] = {}
    for text in own.problems:
        found.setdefault(text, [])
    for repeat in ran:
        outputs = [repeat.outputs] if isinstance(repeat.outputs, str) else []
        if isinstance(repeat.outputs, Difference) and repeat.outputs.one_sided:
            outputs.append(f"{repeat.outputs.one_sided} items have finite outputs in one of the two cells alone")
        for text in (*repeat.pairing.problems, *outputs):
            if text not in own.problems:
                found.setdefault(text, []).append(repeat.setting.name)
    return [f"{text} ({', '.join(settings)})" if settings else text for text, settings in found.items()]


def _absent(head: Json, found: Iterable[tuple[str, tuple[str, str] | None]]) -> list[Json]:
    """The cells with a problem, each by its setting."""
    return [
        {**head, "setting": setting, "status": problem[0], "reason": problem[1]}
        for setting, problem in found
        if problem
    ]


def _nothing(problem: tuple[str, str] | None) -> Json:
    """The entry of an environment without a cell of its own to compare with."""
    status, reason = problem or ("error", "")
    null: Mapping[str, None] = dict.fromkeys(LEVEL_KEYS)
    return {
        "n": 0,
        "finding": f"not measured: {status.replace('_', ' ')}: {reason}",
        "flips": dict(null),
        "tie_flips": dict.fromkeys(LEVEL_KEYS, 0),
        "largest_difference": None,
        "relative_difference": None,
        "bitwise_repeatable": None,
        "drop_range_pp": dict(null),
        "causes": {},
        "settings": [],
        "problems": [],
    }
