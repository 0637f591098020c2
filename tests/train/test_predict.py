"""Scores of a trained network."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import nn

from gapshift.train.models import ModelSpec, build_spec
from gapshift.train.predict import probabilities, scores

SPEC = ModelSpec(family="cnn", shape=(1, 8, 8), classes=2, width=4)


@pytest.fixture(scope="module")
def images() -> torch.Tensor:
    return torch.randn(64, 1, 8, 8, generator=torch.Generator().manual_seed(0))


def test_scores_are_float32_batched_and_restore_the_mode(images: torch.Tensor) -> None:
    model = build_spec(SPEC).train()
    small, large = scores(model, images, batch=5), scores(model, images.numpy(), batch=64)
    assert small.dtype == np.float32
    assert small.shape == (64, 2)
    assert np.allclose(small, large, atol=1e-6)
    assert model.training
    assert probabilities(small).sum(axis=1) == pytest.approx(1)


class Watched(nn.Module):
    """A network that notes, whenever it is asked, what ``look`` gives."""

    def __init__(self, look: Callable[[], object]) -> None:
        super().__init__()
        self.network, self.look, self.seen = build_spec(SPEC), look, list[object]()

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        self.seen.append(self.look())
        answered: torch.Tensor = self.network(images)
        return answered


def test_scores_on_the_cpu_come_from_one_thread(images: torch.Tensor) -> None:
    model, before = Watched(torch.get_num_threads), torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        scores(model, images)
        assert (model.seen, torch.get_num_threads()) == ([1], 2)
    finally:
        torch.set_num_threads(before)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
def test_scores_on_cuda_are_true_float32_from_cudnn(images: torch.Tensor) -> None:
    def look() -> tuple[bool, bool, bool]:
        cudnn, products = torch.backends.cudnn, torch.backends.cuda.matmul
        return cudnn.enabled, cudnn.allow_tf32, products.allow_tf32

    model, before = Watched(look).cuda(), look()
    scores(model, images)
    assert model.seen == [(before[0], False, False)]
    assert look() == before


@pytest.mark.parametrize(
    ("spec", "shape"),
    [
        (ModelSpec(family="lstm", shape=(9,), classes=2, width=4, vocabulary=7, head="spans"), (6, 2, 9)),
        (ModelSpec(family="gru", shape=(9,), classes=3, width=4, vocabulary=7), (6, 3)),
        (ModelSpec(family="audio-cnn", shape=(8, 20), classes=3, width=4), (6, 3)),
        (ModelSpec(family="controller", shape=(4, 2), classes=3, width=8), (6, 3)),
    ],
)
def test_scores_of_any_input_and_output(spec: ModelSpec, shape: tuple[int, ...]) -> None:
    ids = np.random.default_rng(0).integers(0, 7, (6, *spec.shape))
    inputs = ids if spec.vocabulary else ids.astype(np.float32)
    model = build_spec(spec)
    assert scores(model, inputs).shape == shape
    assert np.allclose(scores(model, inputs, batch=4), scores(model, torch.from_numpy(inputs)), atol=1e-6)
