"""Batches and losses of tensors in memory."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from gapshift.errors import TrainingError
from gapshift.train.sources import Tensors

RANDOM = torch.Generator


def test_classes_are_learnt_by_cross_entropy() -> None:
    source = Tensors(torch.arange(12.0).reshape(4, 3), torch.tensor([0, 1, 2, 1], dtype=torch.int32))
    inputs, targets = source.batch(torch.tensor([2, 0]), RANDOM())
    assert (len(source), inputs.tolist(), targets.tolist()) == (4, [[6, 7, 8], [0, 1, 2]], [2, 0])
    logits = torch.randn(2, 3, generator=RANDOM().manual_seed(0))
    assert torch.equal(source.loss(logits, targets), F.cross_entropy(logits, targets))


def test_spans_are_learnt_by_their_starts_plus_their_ends() -> None:
    source = Tensors(torch.ones(3, 5, dtype=torch.int64), torch.tensor([[1, 2], [-1, -1], [0, 4]]))
    _, targets = source.batch(torch.arange(3), RANDOM())
    logits = torch.randn(3, 2, 5, generator=RANDOM().manual_seed(0))
    kept = [0, 2]
    expected = F.cross_entropy(logits[kept, 0], torch.tensor([1, 0])) + F.cross_entropy(
        logits[kept, 1], torch.tensor([2, 4])
    )
    assert torch.allclose(source.loss(logits, targets), expected)


def test_a_batch_whose_spans_are_all_cut_away_has_a_finite_loss_and_no_gradient() -> None:
    source = Tensors(torch.ones(2, 5, dtype=torch.int64), torch.full((2, 2), -100))
    logits = torch.randn(2, 2, 5, generator=RANDOM().manual_seed(0), requires_grad=True)
    loss = source.loss(logits, source.batch(torch.arange(2), RANDOM())[1])
    loss.backward()
    assert loss.item() == 0
    assert logits.grad is not None
    assert not logits.grad.any()


def test_a_span_with_one_end_cut_away_counts_as_cut_away() -> None:
    source = Tensors(torch.ones(1, 5, dtype=torch.int64), torch.tensor([[3, -1]]))
    assert source.batch(torch.tensor([0]), RANDOM())[1].tolist() == [[-100, -100]]


def test_augmentation_draws_from_the_generator_alone() -> None:
    source = Tensors(torch.randn(4, 1, 16, 16, generator=RANDOM().manual_seed(0)), torch.zeros(4), "shift")
    first, again, other = (source.batch(torch.arange(4), RANDOM().manual_seed(seed))[0] for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_nothing_changes_in_it_so_its_state_is_empty() -> None:
    source = Tensors(torch.zeros(4, 2), torch.zeros(4))
    assert source.state() == {}
    source.restore({})
    assert len(source.on(torch.device("cpu"))) == 4


@pytest.mark.parametrize(
    ("inputs", "targets", "augment", "message"),
    [
        (torch.zeros(4), torch.zeros(4), "none", r"takes \(N, ...\) with targets \(N,\), a class each, or \(N, 2\)"),
        (torch.zeros(4, 2), torch.zeros(3), "none", r"targets \(3,\)"),
        (torch.zeros(4, 2), torch.zeros(4, 3), "none", r"targets \(4, 3\)"),
        (torch.zeros(4, 2), torch.zeros(4), "shift", "augment 'shift' shifts images .* Set `augment` = 'none'"),
    ],
)
def test_refuses_what_does_not_fit(inputs: torch.Tensor, targets: torch.Tensor, augment: str, message: str) -> None:
    with pytest.raises(TrainingError, match=message):
        Tensors(inputs, targets, augment)
