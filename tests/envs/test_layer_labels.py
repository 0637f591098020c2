"""Labels in another order are found from answers alone."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gapshift.envs.layers.relabelling import cycles, order_words, relabelled
from gapshift.schema import Contract


@pytest.fixture(scope="module")
def contract(small: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory) -> Contract:
    return small("vision", Path(tmp_path_factory.mktemp("labels"))).bundle.contract


def _answers(contract: Contract, order: list[int], right: float, n: int = 300) -> tuple[Any, Any]:
    """What a model answers that is right on a share, and what is wanted: ``order`` of its answers."""
    rng = np.random.default_rng(4)
    labels = len(contract.model.labels)
    answers = rng.integers(0, labels, n).astype(np.int32)
    wanted = np.where(rng.random(n) < right, np.array(order)[answers], rng.integers(0, labels, n)).astype(np.int32)
    return answers, wanted


def test_two_labels_in_each_other_s_place_are_found(contract: Contract) -> None:
    order = list(range(len(contract.model.labels)))
    order[1], order[0] = 0, 1
    found = relabelled(contract, *_answers(contract, order, 0.7))
    assert [each.name for each in found] == ["labels-exchanged"]
    assert found[0].relabel == tuple(order)
    names = contract.model.labels
    assert found[0].words == f"'{names[0]}' and '{names[1]}' are exchanged"
    assert found[0].settings == {"model.labels": [names[1], names[0], *names[2:]]}


def test_labels_moved_by_one_are_found(contract: Contract) -> None:
    size = len(contract.model.labels)
    order = [(place + 1) % size for place in range(size)]
    assert tuple(order) in [each.relabel for each in relabelled(contract, *_answers(contract, order, 0.7))]


def test_right_answers_and_none_have_no_other_order(contract: Contract) -> None:
    order = list(range(len(contract.model.labels)))
    assert relabelled(contract, *_answers(contract, order, 0.8)) == ()
    none = np.full(10, -1, np.int32)
    assert relabelled(contract, none, none) == ()


@given(st.permutations(range(8)))
@settings(max_examples=50, deadline=None)
def test_words_name_every_cycle(order: list[int]) -> None:
    moved = {place for cycle in cycles(order) for place in cycle}
    assert moved == {place for place in range(8) if order[place] != place}
    assert bool(order_words([str(n) for n in range(8)], tuple(order))) == bool(moved)
