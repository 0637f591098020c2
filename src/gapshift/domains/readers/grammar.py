"""Sentences drawn from a grammar: the same ones on every machine and with every version of Python."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from random import Random
from typing import TypeVar, final

T = TypeVar("T")

SLOT = re.compile(r"\{(\w+)\}")


@final
class Draws:
    """Seeded draws made from ``Random.random`` alone, the one method whose sequence Python promises to keep."""

    def __init__(self, seed: int) -> None:
        self._random = Random(seed)

    def chance(self, probability: float) -> bool:
        """True with this probability."""
        return self._random.random() < probability

    def one(self, options: Sequence[T]) -> T:
        """Each with the same probability."""
        return options[int(self._random.random() * len(options))]

    def some(self, options: Sequence[T], count: int) -> list[T]:
        """``count`` different ones, in random order."""
        left = list(options)
        return [left.pop(int(self._random.random() * len(left))) for _ in range(count)]

    def zipf(self, options: Sequence[T]) -> T:
        """The one of rank r with a probability proportional to 1 / r."""
        return self.weighted(options, [1_000_000 // rank for rank in range(1, len(options) + 1)])

    def weighted(self, options: Sequence[T], weights: Sequence[int]) -> T:
        """Each with a probability proportional to its weight (whole numbers, which add up alike everywhere)."""
        left = int(self._random.random() * sum(weights))
        for option, weight in zip(options, weights, strict=True):
            left -= weight
            if left < 0:
                return option
        return options[-1]


def fill(template: str, slots: Mapping[str, Callable[[], str]]) -> str:
    """``template`` with a draw for every ``{slot}`` that ``slots`` knows, and the slots in those; others stay.

    >>> fill("{greeting}, {name}", {"greeting": lambda: "Good {time}", "time": lambda: "day"})
    'Good day, {name}'
    """
    while known := [match for match in SLOT.finditer(template) if match[1] in slots]:
        begin, end = known[0].span()
        template = template[:begin] + slots[known[0][1]]() + template[end:]
    return template


def sentence_case(text: str) -> str:
    """With a capital at the start and after whatever ends a sentence."""
    return re.sub(r"(?:^|[.!?…] )\w", lambda match: match[0].upper(), text)


def with_article(noun: str) -> str:
    """``noun`` after its indefinite article.

    >>> with_article("elegant film"), with_article("dull film")
    ('an elegant film', 'a dull film')
    """
    return f"{'an' if noun[0] in 'aeiou' else 'a'} {noun}"
