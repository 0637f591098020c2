"""Which items a static quantiser calibrates on: how many, and of which levels."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from gapshift.domains.base import rank
from gapshift.envs.cells import TaskItems
from gapshift.errors import NotApplicableError
from gapshift.schema import CALIBRATED_FORMATS, Precision, digest

_SEED = 0
"""Of the draw. It is part of what a format means, not of a run: the same items everywhere."""
_OUT = "leave this environment out"


def calibration_address(precision: Precision, items: str, task: TaskItems) -> str:
    """What tells one choice of calibration items from another, beside ``precision`` itself.

    ``items`` is the digest of the task's calibration items; their levels matter where levels are chosen by.
    Empty for formats that are not calibrated.
    """
    if precision.format not in CALIBRATED_FORMATS:
        return ""
    if not precision.calibration_levels or task.calibration is None:
        return items
    return digest([items, sorted((item.id, task.strata.get(item.id)) for item in task.calibration.items)])


def chosen_items(precision: Precision, task: TaskItems, readable: NDArray[np.bool_]) -> NDArray[np.intp]:
    """Indices of the calibration items that ``precision`` asks for, ascending; (n,) ``readable`` says which can be had.

    Drawn by id alone: a smaller set of the same levels is part of a larger one. Of several levels equally many
    are taken, as many as ``calibration_items`` allows or the level with the fewest has. Raises NotApplicableError
    where there are fewer items than asked for: a smaller set would be another environment under the same name.
    """
    assert task.calibration is not None
    ids = [item.id for item in task.calibration.items]
    ranked = sorted(np.flatnonzero(readable).tolist(), key=lambda index: rank(ids[index], _SEED))
    if not precision.calibration_levels:
        return _first(ranked, precision.calibration_items)
    levels = [task.strata.get(item_id) for item_id in ids]
    if not any(levels):
        raise NotApplicableError(
            "precision.calibration_levels needs calibration items with levels, and none of the "
            f"{len(ids)} has one. Leave --calibration-data out, so that rated items are withheld for the quantiser, "
            f"or {_OUT}."
        )
    of_level = {level: [i for i in ranked if levels[i] == level] for level in precision.calibration_levels}
    return _equally(of_level, precision.calibration_items)


def _first(ranked: list[int], asked: int | None) -> NDArray[np.intp]:
    if asked is not None and len(ranked) < asked:
        raise NotApplicableError(
            f"precision.calibration_items asks for {asked} items and the quantiser's set has {len(ranked)}. "
            f"Give more with --calibration-data, or {_OUT}."
        )
    return np.array(sorted(ranked[:asked]), dtype=np.intp)


def _equally(of_level: dict[int, list[int]], asked: int | None) -> NDArray[np.intp]:
    """The first items of every level, as many of each."""
    fewest = min(of_level, key=lambda level: len(of_level[level]))
    share = len(of_level[fewest]) if asked is None else asked // len(of_level)
    if share == 0 or len(of_level[fewest]) < share:
        raise NotApplicableError(
            f"{asked or 'all'} calibration items of {_named(of_level)} are asked for, {max(share, 1)} of each, and the "
            f"quantiser's set has {len(of_level[fewest])} of level {fewest}. Evaluate on more items (a tenth is "
            f"withheld for the quantiser, at most 128), ask for fewer (precision.calibration_items), or {_OUT}."
        )
    return np.array(sorted(index for ranked in of_level.values() for index in ranked[:share]), dtype=np.intp)


def _named(of_level: dict[int, list[int]]) -> str:
    names = [str(level) for level in of_level]
    return f"level {names[0]}" if len(names) == 1 else f"levels {', '.join(names[:-1])} and {names[-1]}"
