"""What is shown of a cell that was read until it was decided: nothing that needs a number of items fixed beforehand.

Intervals of drop and churn are confidence sequences, which hold at any stopping time. Loss and gain are bare shares.
What mixes levels is null, since each was read as far as its own answers asked for: all items together, mean drop, tilt,
slope, ability shift, calibration error and scores; and so are the p of tests.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gapshift.reports.cells import LEVEL_KEYS, Json, count_strata, empty_measurement, interval_json
from gapshift.reports.counts import Counts
from gapshift.reports.floor import at_floor
from gapshift.reports.gate import Band, Rule
from gapshift.reports.load import ALL_LEVELS, Pairs
from gapshift.reports.sequential import BandReading, churn_interval, level_interval
from gapshift.reports.statistics import Estimate


def measure_read(pairs: Pairs, readings: Mapping[Band, BandReading], rule: Rule) -> Json:
    """The measurement of a cell from its pairs up to each band's decision, with the keys of ``cells.measure``."""
    nothing = empty_measurement()
    if not len(pairs):
        return nothing
    counts = count_strata(pairs)
    together = ["all"] if ALL_LEVELS in readings else []  # read in one order, so they are a sample of all items
    levels = {key: counts[key] for key in (*together, *map(str, ALL_LEVELS)) if counts[key].n}
    return {
        **nothing,
        "n": len(pairs),
        "n_by_level": {key: counts[key].n for key in LEVEL_KEYS},
        "floor": [level for level in ALL_LEVELS if at_floor(counts[str(level)], rule.margin)],
        "flips": {
            "right_to_wrong": {key: counts[key].lost for key in LEVEL_KEYS},
            "wrong_to_right": {key: counts[key].gained for key in LEVEL_KEYS},
        },
        "tie_changes": counts["all"].tie_changes,
        **{name: {**nothing[name], **values} for name, values in _by_level(levels, readings, rule).items()},
    }


def _by_level(
    levels: Mapping[str, Counts], readings: Mapping[Band, BandReading], rule: Rule
) -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = {
        name: {} for name in ("accuracy", "reference_accuracy", "drop_pp", "loss", "gain", "churn")
    }
    for key, counts in levels.items():
        found["accuracy"][key] = counts.still_right / counts.n
        found["reference_accuracy"][key] = counts.right / counts.n
        own = readings.get(ALL_LEVELS if key == "all" else (int(key),))  # where the level is judged by itself
        found["drop_pp"][key] = _drop(own.interval(rule.level) if own else level_interval(counts, rule.level))
        found["loss"][key] = _share(counts.lost, counts.right)
        found["gain"][key] = _share(counts.gained, counts.n - counts.right)
        found["churn"][key] = interval_json(churn_interval(counts, rule))
    return found


def _drop(found: Estimate) -> Json | None:
    drop = interval_json(found, 100)
    return drop and {**drop, "p_change": None, "p_fail": None}


def _share(k: int, n: int) -> Json | None:
    """A share without an interval: Wilson's needs a number of items that was fixed beforehand."""
    return {"estimate": k / n, "low": None, "high": None} if n else None
