"""Which items a budget draws."""

from __future__ import annotations

import math
from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from gapshift.flows.budget import drawn_evenly


@given(
    st.lists(st.integers(0, 5), min_size=1, max_size=60), st.integers(1, 70), st.integers(0, 3)
)  # 0: an item without a level
def test_levels_are_drawn_evenly_and_items_without_one_keep_their_share(
    strata: list[int], limit: int, seed: int
) -> None:
    names = [f"item-{place}" for place in range(len(strata))]
    levels = {name: level for name, level in zip(names, strata, strict=True) if level}
    drawn = drawn_evenly(names, levels, limit, seed)
    assert len(drawn) == min(limit, len(names))
    assert drawn == drawn_evenly(names[::-1], levels, limit, seed)
    there, found = Counter(strata), Counter(levels.get(name, 0) for name in drawn)
    if limit < len(names):
        assert found[0] == math.ceil(limit * there[0] / len(names))
    rated = [level for level in range(1, 6) if there[level]]
    most = max((found[level] for level in rated), default=0)
    assert all(found[level] in (most, most - 1, there[level]) for level in rated)
