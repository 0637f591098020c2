"""The training loop, its settings, checkpoints on disk and prediction."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from torch import nn

from gapshift.errors import TrainingError
from gapshift.train.checkpoint import load_checkpoint, save_checkpoint
from gapshift.train.data import augment, choose_device, id_order, two_folds
from gapshift.train.loop import Fit, fit
from gapshift.train.models import ModelSpec, build_spec
from gapshift.train.predict import probabilities, scores
from gapshift.train.regimes import sampler
from gapshift.train.schedule import trapezoid
from gapshift.train.settings import TrainingSettings

SPEC = ModelSpec(family="cnn", channels=1, size=(8, 8), classes=2, width=4)
CONFIG = TrainingSettings(width=4, steps=30, batch_size=16, learning_rate=1e-2)


@pytest.fixture(scope="module")
def stripes() -> tuple[torch.Tensor, torch.Tensor]:
    """Images of class 1 are brighter in their left half."""
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(64, 1, 8, 8, generator=generator)
    labels = torch.arange(64) % 2
    images[labels == 1, :, :, :4] += 2
    return images, labels


def train(stripes: tuple[torch.Tensor, torch.Tensor], config: TrainingSettings = CONFIG) -> tuple[nn.Module, Fit]:
    images, labels = stripes
    draws = sampler("iid", np.ones(64, dtype=int), steps=config.steps, batch=config.batch_size, seed=0)
    model = build_spec(SPEC, seed=0)
    return model, fit(model, images, labels, draws, config, "cpu", seed=1)


def test_learns_what_can_be_learned(stripes: tuple[torch.Tensor, torch.Tensor]) -> None:
    model, result = train(stripes)
    assert result.losses.shape == (30,)
    assert result.losses[-5:].mean() < 0.5 * result.losses[:5].mean()
    assert (scores(model, stripes[0]).argmax(1) == stripes[1].numpy()).mean() > 0.95
    assert (result.device, result.dtype) == ("cpu", "float32")
    assert not model.training


@pytest.mark.parametrize("kind", ["none", "shift-flip"])
def test_repeatable_on_the_cpu_and_leaves_torch_as_it_was(
    stripes: tuple[torch.Tensor, torch.Tensor], kind: str
) -> None:
    config = CONFIG.model_copy(update={"augment": kind, "steps": 8})
    before = (torch.random.get_rng_state(), torch.get_num_threads(), torch.are_deterministic_algorithms_enabled())
    first, again = train(stripes, config), train(stripes, config)
    assert np.array_equal(first[1].losses, again[1].losses)
    assert np.array_equal(scores(first[0], stripes[0]), scores(again[0], stripes[0]))
    assert torch.equal(before[0], torch.random.get_rng_state())
    assert before[1:] == (torch.get_num_threads(), torch.are_deterministic_algorithms_enabled())


def test_calls_back_at_each_checkpoint_once(stripes: tuple[torch.Tensor, torch.Tensor]) -> None:
    images, labels = stripes
    draws = sampler("iid", np.ones(64, dtype=int), steps=10, batch=8, seed=0)
    seen: list[float] = []
    fit(build_spec(SPEC), images, labels, draws, CONFIG, "cpu", checkpoints=(0.3, 1.0), at_checkpoint=seen.append)
    assert seen == [0.3, 1.0]


def test_a_loss_that_is_not_finite_names_its_step(stripes: tuple[torch.Tensor, torch.Tensor]) -> None:
    images, labels = stripes
    images = images.clone()
    images[7] = float("nan")
    draws = np.zeros((5, 4), dtype=np.int64)
    draws[3] = 7
    with pytest.raises(TrainingError, match=r"The loss is nan at step 3 \(cnn, width 4, .*Lower `learning_rate`"):
        fit(build_spec(SPEC), images, labels, draws, CONFIG, "cpu")


@pytest.mark.parametrize(
    ("images", "labels", "draws", "message"),
    [
        (torch.zeros(4, 8, 8), torch.zeros(4), np.zeros((1, 2), int), r"takes \(N, C, H, W\)"),
        (torch.zeros(4, 1, 8, 8), torch.zeros(3), np.zeros((1, 2), int), r"labels \(3,\)"),
        (torch.zeros(4, 1, 8, 8), torch.zeros(4), np.zeros((0, 2), int), "neither of them 0"),
        (torch.zeros(4, 1, 8, 8), torch.zeros(4), np.full((1, 2), 4), "there are 4 items"),
    ],
)
def test_refuses_inputs_that_do_not_fit(
    images: torch.Tensor, labels: torch.Tensor, draws: np.ndarray, message: str
) -> None:
    with pytest.raises(TrainingError, match=message):
        fit(build_spec(SPEC), images, labels, draws, CONFIG, "cpu")


def test_schedule_rises_stays_and_falls() -> None:
    factors = [trapezoid(step, 100, 0.1, 0.4) for step in range(100)]
    assert factors[:10] == pytest.approx(np.arange(1, 11) / 10)
    assert factors[10:61] == [1.0] * 51
    assert factors[-1] == pytest.approx(1 / 40)
    assert min(factors) > 0
    assert trapezoid(0, 1, 0.0, 0.0) == 1.0


def test_settings_keep_the_decay_behind_the_last_level() -> None:
    with pytest.raises(ValidationError, match=r"decay_fraction 0.7 begins before curriculum_open_by 0.45"):
        TrainingSettings(decay_fraction=0.7)


def test_devices() -> None:
    assert choose_device("cpu").type == "cpu"
    with pytest.raises(TrainingError, match=r"Unknown device 'tpu'. Valid: auto, cpu, cuda"):
        choose_device("tpu")


def test_folds_are_balanced_stable_and_follow_the_ids_not_the_order() -> None:
    ids = [f"item-{i}" for i in range(101)]
    labels = np.arange(101) % 3
    folds = two_folds(ids, labels)
    for label in range(3):
        assert abs(int((folds[labels == label] == 0).sum()) - int((folds[labels == label] == 1).sum())) <= 1
    shuffle = np.random.default_rng(0).permutation(101)
    assert np.array_equal(two_folds([ids[i] for i in shuffle], labels[shuffle]), folds[shuffle])
    assert not np.array_equal(id_order(ids, "a"), id_order(ids, "b"))


def test_augmentation_moves_pixels_and_off_means_untouched() -> None:
    batch = torch.arange(2 * 16 * 16, dtype=torch.float32).reshape(2, 1, 16, 16)
    assert augment(batch, "none", torch.Generator()) is batch
    moved = augment(batch, "shift", torch.Generator().manual_seed(3))
    assert moved.shape == batch.shape
    down, right = divmod(int(moved[0, 0, 8, 8] - batch[0, 0, 8, 8]) + 34, 16)
    assert abs(down - 2) <= 2
    assert abs(right - 2) <= 2


def test_scores_are_float32_batched_and_restore_the_mode(stripes: tuple[torch.Tensor, torch.Tensor]) -> None:
    model = build_spec(SPEC).train()
    small, large = scores(model, stripes[0], batch=5), scores(model, stripes[0].numpy(), batch=64)
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


def test_scores_on_the_cpu_come_from_one_thread(stripes: tuple[torch.Tensor, torch.Tensor]) -> None:
    model, before = Watched(torch.get_num_threads), torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        scores(model, stripes[0])
        assert (model.seen, torch.get_num_threads()) == ([1], 2)
    finally:
        torch.set_num_threads(before)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
def test_scores_on_cuda_are_true_float32_from_cudnn(stripes: tuple[torch.Tensor, torch.Tensor]) -> None:
    def look() -> tuple[bool, bool, bool]:
        cudnn, products = torch.backends.cudnn, torch.backends.cuda.matmul
        return cudnn.enabled, cudnn.allow_tf32, products.allow_tf32

    model, before = Watched(look).cuda(), look()
    scores(model, stripes[0])
    assert model.seen == [(before[0], False, False)]
    assert look() == before


def test_checkpoint_round_trip(tmp_path: Path, stripes: tuple[torch.Tensor, torch.Tensor]) -> None:
    model, _ = train(stripes, CONFIG.model_copy(update={"steps": 4}))
    path = tmp_path / "deep" / "model.pt"
    save_checkpoint(path, model, SPEC, CONFIG)
    loaded, spec, settings = load_checkpoint(path)
    assert (spec, settings) == (SPEC, CONFIG)
    assert np.array_equal(scores(loaded, stripes[0]), scores(model, stripes[0]))
    assert [file.name for file in path.parent.iterdir()] == ["model.pt"]


def test_checkpoint_refuses_what_is_not_one(tmp_path: Path) -> None:
    path = tmp_path / "model.pt"
    with pytest.raises(TrainingError, match=r"There is no checkpoint .*model.pt. Make it with `gapshift train`"):
        load_checkpoint(path)
    for content in (b"", b"not a checkpoint"):
        path.write_bytes(content)
        with pytest.raises(TrainingError, match="is not a checkpoint that this version reads"):
            load_checkpoint(path)
    torch.save(build_spec(SPEC), path)  # a pickled object, which could run code
    with pytest.raises(TrainingError, match=r"is not a checkpoint .*Delete it and train again"):
        load_checkpoint(path)
