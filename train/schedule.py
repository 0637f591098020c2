"""The learning rate over a run."""

from __future__ import annotations


def trapezoid(step: int, steps: int, warmup_fraction: float, decay_fraction: float) -> float:
    """Factor in (0, 1] on the peak learning rate at 0-based ``step``: up, constant, down.

    Linear warm-up, constant, linear decay (Zhai et al. 2022 call it warm-up, stable,
    decay). Not a cosine: that has spent half of its rate by mid-run, so a curriculum's
    last levels would be trained at a lower rate than its first, and the comparison of
    regimes would be one of schedules. Here every level is open before the decay begins.

    >>> [round(trapezoid(s, 10, 0.2, 0.4), 2) for s in range(10)]
    [0.5, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 0.75, 0.5, 0.25]
    """
    up = (step + 1) / (warmup_fraction * steps) if warmup_fraction > 0 else 1.0
    down = (steps - step) / (decay_fraction * steps) if decay_fraction > 0 else 1.0
    return min(1.0, up, down)
