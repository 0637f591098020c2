"""Whether preparing items otherwise brings the trusted answers back, candidate by candidate.

Each candidate answered the same items as the reference, and every answer agrees with the trusted one or not. Mid-p
McNemar on the discordant items, Holm-adjusted over the candidates that were confirmed (they were chosen on other
items). A candidate is *named* where it agrees more often and its adjusted p is below alpha; the one that agrees most
*helps* most, and those that differ from it by no more than chance are named beside it. It is *the cause* where it
brings back at least half of what is missing to full agreement. Labels say nothing of how much is missing, as no model
is always right, so that what helps there is never called the cause.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gapshift.reports.statistics import holm, mcnemar_midp

Json = dict[str, Any]
Bools = NDArray[np.bool_]
EXPLAINS = 0.5
"""A cause brings back at least this share of the agreement that is missing."""
RESTORES = 0.99
"""A cause restores the trusted answers where at least this share agrees."""


def judge_causes(before: Bools, after: Mapping[str, Bools], alpha: float, *, truth: bool = False) -> Json:
    """``before`` (n,) and each candidate's ``after`` (n,): does the answer agree with the trusted one?

    ``truth``: the trusted answers are the labels. ``helps`` is null where no candidate is named; ``regained`` is the
    share of the missing agreement that it brings back (null by labels), and ``cause`` is it where that is at least
    ``EXPLAINS``. ``as_good`` are those that cannot be told from it. Raises ValueError where lengths differ.
    """
    rows = [_row(name, before, each) for name, each in after.items()]
    adjusted = holm([row["p"] for row in rows]) if rows else np.empty(0)
    for row, p in zip(rows, adjusted, strict=True):
        row["p_holm"] = float(p)
        row["named"] = bool(p < alpha and row["gained"] > row["lost"])
    rows.sort(key=lambda row: (-row["after"], row["p"]))
    helps = next((row["name"] for row in rows if row["named"]), None)
    best = after[helps] if helps is not None else before
    regained = None if truth or helps is None else float((best.mean() - before.mean()) / (1 - before.mean()))
    cause = helps if regained is not None and regained >= EXPLAINS else None
    as_good = [
        row["name"] for row in rows if row["named"] and row["name"] != helps and _like(best, after[row["name"]], alpha)
    ]
    return {
        "n": len(before),
        "before": float(before.mean()) if len(before) else None,
        "tried": rows,
        "helps": helps,
        "regained": regained,
        "cause": cause,
        "as_good": as_good,
        "restores": bool(cause is not None and best.mean() >= RESTORES),
    }


def _row(name: str, before: Bools, after: Bools) -> Json:
    if before.shape != after.shape:
        raise ValueError(f"{name} answered {len(after)} items and the reference {len(before)}")
    gained, lost = int((after & ~before).sum()), int((before & ~after).sum())
    return {
        "name": name,
        "after": float(after.mean()) if len(after) else 0.0,
        "gained": gained,
        "lost": lost,
        "p": mcnemar_midp(lost, gained),
    }


def _like(best: Bools, other: Bools, alpha: float) -> bool:
    """Whether chance explains that one agrees less often than the other."""
    return mcnemar_midp(int((best & ~other).sum()), int((other & ~best).sum())) >= alpha
