"""Other measures of difficulty: does a finding hang on the one that was taken?"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray
from scipy.stats import spearmanr

from gapshift.errors import WorkspaceError
from gapshift.reports.load import ALL_LEVELS
from gapshift.reports.statistics import Estimate, two_sided_z
from gapshift.reports.study.learnable import YARDSTICK
from gapshift.reports.study.members import Group, Study, TaskItems
from gapshift.reports.study.quantity import LEVELS, Floats, Quantity
from gapshift.reports.study.values import E, Json, pp
from gapshift.workspace import Workspace

COLUMNS = ("task", "id", "measure", "value")
FEWEST = 2 * LEVELS
"""Fewer items than this make no quintiles."""


@dataclass(frozen=True, eq=False)
class Measured:
    """A measure's values on a task's held-out items, (n,), NaN where it has none."""

    task: TaskItems
    name: str
    value: Floats


def rank_correlation(x: Floats, y: Floats, level: float = 0.95) -> Estimate | None:
    """Spearman's rho with the interval of Fisher's z at variance (1 + rho^2 / 2) / (n - 3).

    Bonett & Wright (2000), Psychometrika 65:23-28. None under four pairs or where a side does not vary.

    >>> rank_correlation(np.arange(9.0), np.arange(9.0) ** 2).estimate
    1.0
    """
    n = len(x)
    if n < 4 or np.ptp(x) == 0 or np.ptp(y) == 0:
        return None
    rho = float(np.clip(spearmanr(x, y).statistic, -1, 1))
    if abs(rho) > 1 - 1e-12:
        return Estimate(*[math.copysign(1.0, rho)] * 3)
    centre, reach = math.atanh(rho), two_sided_z(level) * math.sqrt((1 + rho**2 / 2) / (n - 3))
    return Estimate(rho, math.tanh(centre - reach), math.tanh(centre + reach))


def quintiles(value: Floats, ids: NDArray[np.str_]) -> NDArray[np.int64]:
    """Level 1-5 of each item by rank of its value; 0 where it has none. Ties go by a hash of the id."""
    level = np.zeros(len(value), dtype=np.int64)
    known = np.flatnonzero(np.isfinite(value))
    hashes = [hashlib.sha256(str(ids[row]).encode()).hexdigest() for row in known]
    order = sorted(range(len(known)), key=lambda k: (value[known[k]], hashes[k]))
    level[known[order]] = np.arange(len(known)) * LEVELS // max(len(known), 1) + 1
    return level


def tie_share(value: Floats, level: NDArray[np.int64]) -> float:
    """Share of the grouped items whose value is also found in another group.

    >>> tie_share(np.array([1.0, 1.0, 2.0, np.nan]), np.array([1, 2, 2, 0]))
    0.6666666666666666
    """
    grouped = level > 0
    if not grouped.any():
        return 0.0
    _, same = np.unique(value[grouped], return_inverse=True)
    groups = np.zeros((same.max() + 1, LEVELS + 1), dtype=bool)
    groups[same, level[grouped]] = True
    return float((groups.sum(axis=1) > 1)[same].mean())


def read_measures(workspace: Workspace, study: Study) -> list[Measured]:
    """The measures of ``measures.parquet``; none where a run has no such file.

    Raises WorkspaceError where the file cannot be read.
    """
    path = workspace.root / "measures.parquet"
    if not path.exists():
        return []
    try:
        table = pq.read_table(path, columns=list(COLUMNS))
    except (OSError, KeyError, pa.ArrowException) as error:
        raise WorkspaceError(
            f"Cannot read {path}: {error}. It has the columns {', '.join(COLUMNS)}; delete it and run the study again."
        ) from error
    task, name, ids = (np.array(table.column(c).to_pylist(), dtype=np.str_) for c in ("task", "measure", "id"))
    value = np.asarray(table.column("value").cast(pa.float64()).to_numpy(zero_copy_only=False), dtype=np.float64)
    return [
        _measured(study.task(own), measure, ids[rows], value[rows])
        for own in (items.name for items in study.tasks)
        for measure in dict.fromkeys(name[task == own].tolist())
        if (rows := (task == own) & (name == measure)).any()
    ]


def _measured(task: TaskItems, name: str, ids: NDArray[np.str_], value: Floats) -> Measured:
    on_items = np.full(len(task.rated), np.nan)
    position = task.rated.index.locate(ids)
    on_items[position[position >= 0]] = value[position >= 0]
    held_out = (task.level > 0) & np.isfinite(task.rated.b)
    return Measured(task, name, np.where(held_out & np.isfinite(on_items), on_items, np.nan))


def measure_rows(workspace: Workspace, study: Study) -> list[Json]:
    """{task, family, measure, n, turned, rank_correlation, findings [{finding, by_b, by_measure, same}], note}.

    Items without the measure are left out on both sides. A measure that falls as b rises, its
    interval below zero, is ``turned`` so that its fifth group is the hard one. Only the tested
    items are regrouped: what was trained on stays.
    """
    return [_row(study, measured) for measured in read_measures(workspace, study)]


def _row(study: Study, measured: Measured) -> Json:
    task, known = measured.task, np.isfinite(measured.value)
    rho = rank_correlation(measured.value[known], task.rated.b[known], study.rule.level)
    turned = rho is not None and rho.high < 0
    row: Json = {
        "task": task.name,
        "family": study.family_of(task.name),
        "measure": measured.name,
        "n": int(known.sum()),
    }
    row |= {"turned": turned, "rank_correlation": rho.as_json() if rho else None, "findings": []}
    if known.sum() < FEWEST:
        return row | {"note": f"fewer than {FEWEST} held-out items have this measure"}
    by_b = np.where(known, task.level, 0)
    by_measure = quintiles(-measured.value if turned else measured.value, task.rated.index.ids)
    found = [
        _finding(name, *values, study.rule.level) for name, values in _findings(study, task.name, by_b, by_measure)
    ]
    ties = tie_share(measured.value, by_measure)
    said = ["turned: it falls as b rises"] if turned else []
    said += [f"{ties:.0%} of the items share their value with another group; a hash of the id decided"] if ties else []
    return row | {"findings": found, "note": "; ".join(said)}


def _finding(name: str, by_b: Quantity, by_measure: Quantity, level: float) -> Json:
    first, second = pp(by_b, level), pp(by_measure, level)
    return {"finding": name, "by_b": first, "by_measure": second, "same": same_finding(first, second)}


def same_finding(first: E, second: E) -> bool | None:
    """Whether both have one sign and both, or neither, exclude zero; None where one is unknown."""
    if first is None or second is None:
        return None
    excludes = [each["low"] > 0 or each["high"] < 0 for each in (first, second)]
    return excludes[0] == excludes[1] and bool(np.sign(first["estimate"]) == np.sign(second["estimate"]))


def _findings(
    study: Study, task: str, by_b: NDArray[np.int64], by_measure: NDArray[np.int64]
) -> Iterator[tuple[str, tuple[Quantity, Quantity]]]:
    """Each finding under both groupings of the items."""
    groups = study.at_main_width(task, study.family_of(task) or "")
    for name, group in groups.items():
        first, second = (_at(group, ALL_LEVELS[0], by) - _at(group, ALL_LEVELS[-1], by) for by in (by_b, by_measure))
        yield f"drop of {name} from level 1 to level 5", (first, second)
    for one, other, level in _contrasts(groups):
        first, second = (_at(groups[one], level, by) - _at(groups[other], level, by) for by in (by_b, by_measure))
        yield f"{one} less {other} at level {level}", (first, second)


def _at(group: Group, level: int, levels: NDArray[np.int64]) -> Quantity:
    """Accuracy at one of these levels."""
    return group.held_out(np.eye(LEVELS)[level - 1], levels)


def _contrasts(groups: dict[str, Group]) -> list[tuple[str, str, int]]:
    plain = YARDSTICK if YARDSTICK in groups else "random"
    wanted = [("easy-only", plain, 1), ("easy-only", plain, 5), ("hard-only", plain, 1), ("curriculum", "hard-only", 5)]
    return [(one, other, level) for one, other, level in wanted if one in groups and other in groups]
