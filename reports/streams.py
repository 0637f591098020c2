"""Production traffic made of a run's records: the answers of the reference, and of them with a drop at one level.

Requests are drawn independently from the judged items, levels in the shares that they have there. Each is answered as
in the reference. A drop of x at a level changes some of its answers and none elsewhere. Of the environment's records
there the first shape that can hold it is taken:

``scaled``
    the drop D is at least x: a share x / D of the level's requests is answered as in the environment, gains and all;
``lost items``
    the share b that goes from right to wrong is at least x: a share x / b of the requests for those items is answered
    as in the environment, and all others as in the reference;
``extrapolated``
    it is smaller: right answers, of each class as many as among the lost items, give way to the wrong answers of those
    items, each as often as another. Where a class has too few right answers, the other classes give the rest;
``unknown``
    nothing is lost: right answers become wrong, and what is answered instead is not known.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from gapshift.reports.load import Bools, Floats, Indices, Pairs, strata

Shape = Literal["scaled", "lost items", "extrapolated", "unknown"]
_ROUNDING = 1e-12


@dataclass(frozen=True, eq=False)
class Stream:
    """Answers that requests get, shape (2n,): the reference's of n items, then the environment's.

    ``before`` and ``after`` are the shares of requests that get each of them, without the drop and with it; each sums
    to 1. ``changed`` are the items (positions below n) whose answers in the environment are added, ``removed`` those
    whose answers in the reference give way: the same ones but where the shape is extrapolated.
    """

    prediction: NDArray[np.int32]
    confidence: Floats
    right: Bools
    level: NDArray[np.int64]
    before: Floats
    after: Floats
    removed: Indices
    changed: Indices
    shape: Shape


@dataclass(frozen=True, eq=False)
class _Change:
    """Which items' answers give way (``share`` of each one's requests), and whose take their place."""

    shape: Shape
    removed: Indices
    share: Floats
    changed: Indices


def stream_of(pairs: Pairs, at: str, drop: float) -> Stream | str:
    """The stream with a drop (a fraction) at a level, ``"1"`` to ``"5"``, or over ``"all"``; or why there is none."""
    here, n = strata(pairs.level)[at], len(pairs)
    if not here.any():
        return f"no items at {words(at)}"
    accuracy = float(pairs.right[here].mean())
    if accuracy < drop - _ROUNDING:
        return f"the reference is right on {accuracy:.1%} of {words(at)}, which cannot lose {drop * 100:g} pp"
    change = _change(pairs, here, drop)
    before = np.concatenate([np.full(n, 1 / n), np.zeros(n)])
    after = before.copy()
    after[change.removed] -= change.share / n
    if change.shape in ("scaled", "lost items"):
        after[n + change.changed] = change.share / n
    else:
        after[n + change.changed] = change.share.sum() / n / len(change.changed)
    right_there = pairs.still_right.copy()
    if change.shape == "unknown":
        right_there[change.changed] = False
    return Stream(
        prediction=np.concatenate([pairs.reference_prediction, pairs.prediction]),
        confidence=np.concatenate([pairs.reference_confidence, pairs.confidence]),
        right=np.concatenate([pairs.right, right_there]),
        level=np.concatenate([pairs.level, pairs.level]),
        before=before,
        after=after,
        removed=change.removed,
        changed=change.changed,
        shape=change.shape,
    )


def _change(pairs: Pairs, here: Bools, drop: float) -> _Change:
    items, lost = np.flatnonzero(here), np.flatnonzero(here & (pairs.lost == 1))
    wanted = drop * len(items)
    candidates: tuple[tuple[Shape, float, Indices], ...] = (
        ("scaled", float(pairs.lost[here].sum()), items),
        ("lost items", float(len(lost)), lost),
    )
    for shape, size, among in candidates:
        if size >= wanted - _ROUNDING:
            return _Change(shape, among, np.full(len(among), min(1.0, wanted / size)), among)
    right = np.flatnonzero(here & pairs.right)
    if not len(lost):
        return _Change("unknown", right, np.full(len(right), min(1.0, wanted / len(right))), right)
    return _Change("extrapolated", right, _by_class(pairs.label[right], pairs.label[lost], wanted), lost)


def _by_class(right: NDArray[np.int32], lost: NDArray[np.int32], wanted: float) -> Floats:
    """The share of each right answer that gives way, ``wanted`` in all, in the classes of the lost ones where it can.

    >>> _by_class(np.array([0, 0, 1, 1], np.int32), np.array([0], np.int32), 1.0).tolist()
    [0.5, 0.5, 0.0, 0.0]
    >>> _by_class(np.array([0, 0, 1, 1], np.int32), np.array([0], np.int32), 3.0).tolist()
    [1.0, 1.0, 0.5, 0.5]
    """
    classes, codes = np.unique(np.concatenate([right, lost]), return_inverse=True)
    have = np.bincount(codes[: len(right)], minlength=len(classes)).astype(np.float64)
    mix = np.bincount(codes[len(right) :], minlength=len(classes)) / len(lost)
    taken = np.minimum(have, wanted * mix)
    spare = have - taken
    if spare.sum() > 0:
        taken += spare * min(1.0, (wanted - float(taken.sum())) / float(spare.sum()))
    share: Floats = np.divide(taken, have, out=np.zeros(len(classes)), where=have > 0)
    return share[codes[: len(right)]]


def words(at: str) -> str:
    """A stratum's name in words.

    >>> words("5"), words("all")
    ('level 5', 'all levels')
    """
    return "all levels" if at == "all" else f"level {at}"
