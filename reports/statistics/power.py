"""How many items would decide."""

from __future__ import annotations

import math

from scipy.stats import norm

from gapshift.reports.statistics.base import two_sided_z
from gapshift.reports.statistics.margin import exact_tail
from gapshift.reports.statistics.paired import score_statistic


def items_to_decide(
    b: int,
    c: int,
    n: int,
    margin: float,
    level: float = 0.95,
    alpha: float = 0.05,
    limit: int = 10_000_000,
    family: int = 1,
) -> int | None:
    """The least number of pairs that decides a level, if the observed rates b/n and c/n hold.

    Below the margin: the least N at which the upper end of Tango's interval of coverage
    ``level`` falls under it. Above: an N at which ``margin_test`` reaches ``alpha`` / family, the strictest step of
    Holm's. The statistic at fixed rates grows with sqrt(N), so the score's part of both is closed, and the exact tail
    asks for some more, found to 2%. None where D equals the margin (no number
    decides) or N exceeds ``limit``. Without pairs the answer is ``items_for_zero``, the least that can ever pass.

    >>> items_to_decide(0, 0, 50, 0.02), items_to_decide(0, 0, 50, 0.01)
    (189, 381)
    >>> items_to_decide(24, 0, 600, 0.02), items_to_decide(24, 0, 600, 0.02, family=240)
    (153, 780)
    """
    _check(b, c, n, margin)
    if not 0 < alpha < 1:
        raise ValueError(f"alpha is {alpha!r}; valid: a number between 0 and 1, such as 0.05")
    if family < 1:
        raise ValueError(f"family is {family}; valid: 1 or more tests")
    if n == 0:
        return items_for_zero(margin, level)
    per_root_item = score_statistic(b / n, c / n, 1.0, margin)
    passing = b - c < margin * n
    z = two_sided_z(level) if passing else float(norm.isf(alpha / family))
    if math.isclose(b - c, margin * n, rel_tol=1e-12) or per_root_item == 0:
        return None
    needed = max(1, math.floor((z / per_root_item) ** 2) + 1)
    while (
        not passing and needed <= limit and exact_tail(b / n * needed, c / n * needed, needed, margin) >= alpha / family
    ):
        needed = math.ceil(1.02 * needed)
    return needed if needed <= limit else None


def items_for_zero(margin: float, level: float = 0.95) -> int:
    """The least number of pairs that passes a margin when no pair disagrees.

    Tango's upper end is z^2 / (n + z^2) there. Raises ValueError unless 0 < margin < 1.

    >>> items_for_zero(0.02), items_for_zero(0.01)
    (189, 381)
    """
    if not 0 < margin < 1:
        raise ValueError(f"margin is {margin!r}; valid: a share between 0 and 1 (2 pp is 0.02)")
    return math.floor(two_sided_z(level) ** 2 * (1 - margin) / margin) + 1


def _check(b: int, c: int, n: int, margin: float) -> None:
    if b < 0 or c < 0 or b + c > n:
        raise ValueError(f"b = {b}, c = {c}, n = {n}: counts must not be negative, nor b + c above n")
    if not 0 < margin < 1:
        raise ValueError(f"margin is {margin!r}; valid: a share between 0 and 1 (2 pp is 0.02)")
