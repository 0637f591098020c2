"""Where a sequence of differences is decided, item after item: the rule itself, without floors and batches."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from gapshift.reports.statistics import SequentialRule, log_e_values


@dataclass(frozen=True)
class Decision:
    """``within``: the drop is below the margin. ``beyond``: it is above."""

    finding: Literal["within", "beyond"]
    items: int


def first_decision(difference: NDArray[Any], rule: SequentialRule) -> Decision | None:
    """The first item at which either capital reaches its threshold; None where none does."""
    b, c = np.cumsum(difference > 0), np.cumsum(difference < 0)
    within, beyond = log_e_values(b, c, np.arange(1, len(difference) + 1), rule.margin)
    certified, proven = within >= -math.log(rule.alpha_within), beyond >= -math.log(rule.alpha_beyond)
    places = np.flatnonzero(certified | proven)
    return Decision("within" if certified[places[0]] else "beyond", int(places[0]) + 1) if len(places) else None
