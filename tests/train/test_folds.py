"""Two folds that divide no group."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gapshift.errors import CalibrationError
from gapshift.schema import Item
from gapshift.train.data import two_folds
from gapshift.train.folds import grouped_folds


def items(labels: Sequence[int], groups: Sequence[str | None]) -> list[Item]:
    return [
        Item(id=f"i{k}", label=label, group=group) for k, (label, group) in enumerate(zip(labels, groups, strict=True))
    ]


@settings(max_examples=80, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 3), st.sampled_from([None, "a", "b", "c", "d"])), min_size=2, max_size=60))
def test_no_group_is_divided_and_no_fold_empty(drawn: list[tuple[int, str | None]]) -> None:
    given_items = items([label for label, _ in drawn], [group for _, group in drawn])
    clusters = {item.group or item.id for item in given_items}
    if len(clusters) < 2:
        with pytest.raises(CalibrationError, match="belong to one group"):
            grouped_folds(given_items)
        return
    folds = grouped_folds(given_items, "salt")
    assert set(folds.tolist()) == {0, 1}
    for name in clusters:
        assert (
            len({int(fold) for item, fold in zip(given_items, folds, strict=True) if (item.group or item.id) == name})
            == 1
        )


def test_without_groups_they_are_the_ordinary_folds() -> None:
    plain = items([k % 3 for k in range(40)], [None] * 40)
    expected = two_folds([item.id for item in plain], np.array([item.label for item in plain]), "s")
    assert np.array_equal(grouped_folds(plain, "s"), expected)


def test_labels_and_sizes_stay_even() -> None:
    """200 paragraphs of one to nine items, five labels: within the largest group's size."""
    random = np.random.default_rng(0)
    groups: list[str | None] = [f"p{k}" for k in range(200) for _ in range(random.integers(1, 10))]
    labels = random.integers(0, 5, len(groups))
    folds = grouped_folds(items(labels.tolist(), groups), "s")
    counts = np.array([np.bincount(labels[folds == fold], minlength=5) for fold in (0, 1)])
    assert (np.abs(counts[0] - counts[1]) <= 9).all()
    assert abs(int(counts[0].sum()) - int(counts[1].sum())) <= 9


def test_a_label_of_one_group_leaves_no_fold_empty() -> None:
    folds = grouped_folds(items([0] * 5 + [1] * 5, ["a"] * 5 + ["b"] * 5))
    assert sorted(np.bincount(folds).tolist()) == [5, 5]


def test_another_salt_is_another_partition() -> None:
    six = items([k % 10 for k in range(60)], [f"speaker {k // 10}" for k in range(60)])
    partitions = {tuple(sorted(np.flatnonzero(grouped_folds(six, f"{k}") == 0).tolist())) for k in range(12)}
    assert len(partitions) > 5
    assert {len(partition) for partition in partitions} == {30}
