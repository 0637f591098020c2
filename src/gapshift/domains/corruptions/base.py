"""What a family of corruptions is, and the randomness that belongs to one item."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

import numpy as np

R = TypeVar("R")


@dataclass(frozen=True)
class Family(Generic[R]):
    """A family of corruptions of one domain.

    ``apply(raw, severity, rng)`` makes a corrupted copy and leaves ``raw`` as it was. It draws the
    same numbers at every severity, which only scales what they do: severities are nested, so that
    harm grows with them. Where a family cannot do so, its docstring says why.
    """

    name: str
    apply: Callable[[R, int, np.random.Generator], R]


def stream(item_id: str, family: str, seed: int) -> np.random.Generator:
    """What is random about one item under one family, whatever else is corrupted beside it.

    >>> stream("a", "snow", 0).random() == stream("a", "snow", 0).random() != stream("b", "snow", 0).random()
    True
    """
    entropy = hashlib.sha256(f"{seed}/{family}/{item_id}".encode()).digest()
    return np.random.default_rng(int.from_bytes(entropy[:16], "big"))
