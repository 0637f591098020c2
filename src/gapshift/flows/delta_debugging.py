"""Delta debugging: a small part of what fails that fails still."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import TypeVar

Element = TypeVar("Element")
Part = tuple[Element, ...]
Test = Callable[[Sequence[Part[Element]]], Sequence[bool]]
"""Says of several parts at once whether each fails."""


def ddmin(failing: Sequence[Element], test: Test[Element]) -> Part[Element]:
    """A part of ``failing`` that fails and does so no longer when any one element is taken away.

    The algorithm *ddmin* of Zeller & Hildebrandt (2002), IEEE Transactions on Software Engineering 28:183-200, section
    3.2: parts first, then their complements, in ever finer cuts. ``test`` says of several parts at once whether each
    fails; what cannot be told (their third outcome) does not fail. ``failing`` itself is taken to fail, nothing at all
    not to.

    >>> ddmin("abcdefgh", lambda parts: ["b" in part and "g" in part for part in parts])
    ('b', 'g')
    """
    current, pieces = tuple(failing), 2
    while len(current) > 1:
        parts = _cut(current, pieces)
        hit = _first(parts, test)
        if hit is not None:
            current, pieces = hit, 2
            continue
        rests = [tuple(each for each in current if each not in part) for part in parts]
        hit = _first(rests, test) if pieces > 2 else None  # the halves are each other's complements
        if hit is not None:
            current, pieces = hit, pieces - 1
        elif pieces < len(current):
            pieces = min(2 * pieces, len(current))
        else:
            break
    return current


def _first(parts: Sequence[Part[Element]], test: Test[Element]) -> Part[Element] | None:
    return next((part for part, fails in zip(parts, test(parts), strict=True) if fails), None)


def _cut(elements: Part[Element], pieces: int) -> list[Part[Element]]:
    """The elements in so many parts, as even as can be."""
    size, more = divmod(len(elements), pieces)
    ends = [place * size + min(place, more) for place in range(pieces + 1)]
    return [elements[start:end] for start, end in pairwise(ends)]
