"""The training loop, its schedule and settings, and how an interrupted training goes on."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from torch import nn

from gapshift.errors import SettingsError, TrainingError
from gapshift.train import loop
from gapshift.train.data import augment, choose_device, id_order, two_folds
from gapshift.train.loop import Fit, fit
from gapshift.train.models import ModelSpec, build_spec
from gapshift.train.predict import scores
from gapshift.train.regimes import sampler
from gapshift.train.schedule import trapezoid
from gapshift.train.settings import LadderSettings, TrainingSettings
from gapshift.train.sources import Source, Tensors

SPEC = ModelSpec(family="cnn", shape=(1, 8, 8), classes=2, width=4)
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
    return model, fit(model, Tensors(images, labels, config.augment), draws, config, "cpu", seed=1)


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
    fit(
        build_spec(SPEC),
        Tensors(images, labels),
        draws,
        CONFIG,
        "cpu",
        checkpoints=(0.3, 1.0),
        at_checkpoint=seen.append,
    )
    assert seen == [0.3, 1.0]


def test_a_loss_that_is_not_finite_names_its_step(stripes: tuple[torch.Tensor, torch.Tensor]) -> None:
    images, labels = stripes
    images = images.clone()
    images[7] = float("nan")
    draws = np.zeros((5, 4), dtype=np.int64)
    draws[3] = 7
    with pytest.raises(TrainingError, match=r"The loss is nan at step 3 \(cnn, width 4, .*Lower `learning_rate`"):
        fit(build_spec(SPEC), Tensors(images, labels), draws, CONFIG, "cpu")


@pytest.mark.parametrize(
    ("draws", "message"),
    [
        (np.zeros((0, 2), int), "neither of them 0"),
        (np.full((1, 2), 64), "draws reach from 64 to 64; there are 64 items"),
        (np.full((1, 2), -1), "draws reach from -1 to -1"),
    ],
)
def test_refuses_draws_that_do_not_fit(
    stripes: tuple[torch.Tensor, torch.Tensor], draws: np.ndarray, message: str
) -> None:
    with pytest.raises(TrainingError, match=message):
        fit(build_spec(SPEC), Tensors(*stripes), draws, CONFIG, "cpu")


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


def test_a_ladder_without_a_family_has_no_training_settings_yet() -> None:
    assert LadderSettings(family="gru").training(8, 5).family == "gru"
    with pytest.raises(SettingsError, match="The ladder names no `family`"):
        LadderSettings().training(8, 5)


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


# ------------------------------------------------------------------ frozen parameters


def test_frozen_modules_stay_as_they_are_while_the_rest_learns(stripes: tuple[torch.Tensor, torch.Tensor]) -> None:
    model = build_spec(SPEC)
    assert isinstance(model.features, nn.Module)
    model.features.requires_grad_(False)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    draws = np.arange(64).reshape(4, 16)
    fit(model, Tensors(*stripes), draws, CONFIG, "cpu", checkpoints=(0.5,), at_checkpoint=lambda _fraction: None)
    changed = {name for name, tensor in model.state_dict().items() if not torch.equal(tensor, before[name])}
    assert changed == {"head.2.weight", "head.2.bias"}


def test_a_network_that_is_frozen_as_a_whole_is_refused(stripes: tuple[torch.Tensor, torch.Tensor]) -> None:
    with pytest.raises(TrainingError, match="Cnn has no parameter that is trained"):
        fit(build_spec(SPEC).requires_grad_(False), Tensors(*stripes), np.zeros((1, 2), int), CONFIG, "cpu")


# ---------------------------------------------------------------- interrupted trainings

STEPS = 23


class InterruptionError(Exception):
    """Stands for whatever ends a process."""


class Stopping(Source):
    """A source that fails at its ``at``-th batch; 0: never."""

    def __init__(self, base: Source, at: int = 0) -> None:
        self.base, self.at, self.asked = base, at, 0

    def __len__(self) -> int:
        return len(self.base)

    def on(self, device: torch.device) -> Source:
        return type(self)(self.base.on(device), self.at) if device.type != "cpu" else self

    def batch(self, indices: torch.Tensor, generator: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
        self.asked += 1
        if self.asked == self.at:
            raise InterruptionError
        return self.base.batch(indices, generator)

    def loss(self, outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        return self.base.loss(outputs, targets)


@pytest.fixture
def often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loop, "CHECK_EVERY", 5)


def kept_fit(
    model: nn.Module, source: Source, keep: Path | None, config: TrainingSettings = CONFIG, **given: int
) -> Fit:
    seed = given.get("seed", 1)
    draws = sampler("iid", np.ones(len(source), dtype=int), steps=STEPS, batch=8, seed=given.get("draws", 0))
    return fit(model, source, draws, config, "cpu", seed=seed, keep=keep, keep_seconds=0.0)


SPECS = {
    "cnn": SPEC,
    "vit": ModelSpec(family="vit", shape=(1, 8, 8), classes=2, width=8),
    "lstm": ModelSpec(family="lstm", shape=(9,), classes=2, width=8, vocabulary=9),
    "text-transformer": ModelSpec(family="text-transformer", shape=(9,), classes=2, width=8, vocabulary=9),
}


def source_for(spec: ModelSpec) -> Tensors:
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(40) % 2
    if spec.vocabulary:
        return Tensors(torch.randint(0, 9, (40, *spec.shape), generator=generator), labels)
    return Tensors(torch.randn(40, *spec.shape, generator=generator), labels, "shift-flip")


@pytest.mark.parametrize("family", SPECS)
@pytest.mark.parametrize("after", [3, 12, STEPS])
@pytest.mark.usefixtures("often")
def test_an_interrupted_training_goes_on_to_the_same_weights(tmp_path: Path, family: str, after: int) -> None:
    spec, keep = SPECS[family], tmp_path / "state.pt"
    undisturbed, model = build_spec(spec), build_spec(spec)
    expected = kept_fit(undisturbed, source_for(spec), None)
    with pytest.raises(InterruptionError):
        kept_fit(model, Stopping(source_for(spec), at=after + 1), keep)
    assert keep.exists()
    again, rest = build_spec(spec), Stopping(source_for(spec))
    result = kept_fit(again, rest, keep)
    assert rest.asked == 1 + STEPS - (after - 1) // 5 * 5
    assert np.array_equal(result.losses, expected.losses)
    for name, weight in undisturbed.state_dict().items():
        assert torch.equal(again.state_dict()[name], weight), name
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("other", ["settings", "seed", "draws", "weights", "data", "nothing that can be read"])
@pytest.mark.usefixtures("often")
def test_the_state_of_another_training_is_not_used(tmp_path: Path, other: str) -> None:
    keep, config, given, model, source = tmp_path / "state.pt", CONFIG, {}, build_spec(SPEC), source_for(SPEC)
    with pytest.raises(InterruptionError):
        kept_fit(build_spec(SPEC), Stopping(source, at=16), keep)
    match other:
        case "settings":
            config = CONFIG.model_copy(update={"learning_rate": 2e-2})
        case "weights":
            model = build_spec(SPEC, seed=1)
        case "data":
            source = Tensors(torch.ones(40, 1, 8, 8), torch.zeros(40))
        case "seed" | "draws":
            given = {other: 5}
        case _:
            keep.write_bytes(b"half a file")
    watched = Stopping(source)
    kept_fit(model, watched, keep, config, **given)
    assert watched.asked == 1 + STEPS
    assert not keep.exists()


@pytest.mark.usefixtures("often")
def test_the_state_before_a_broken_loss_stays_and_the_message_says_where(tmp_path: Path) -> None:
    inputs, keep = torch.randn(40, 1, 8, 8, generator=torch.Generator().manual_seed(0)), tmp_path / "state.pt"
    inputs[7] = float("inf")
    draws = np.arange(7).reshape(1, 7).repeat(20, 0)
    draws[12] = 7
    text = rf"The loss is nan at step 12 .* The last good state lies at {re.escape(str(keep))}\."
    with pytest.raises(TrainingError, match=text):
        fit(build_spec(SPEC), Tensors(inputs, torch.arange(40) % 2), draws, CONFIG, "cpu", keep=keep)
    state = torch.load(keep, weights_only=True)["state"]
    assert state["step"] == 10
    assert all(bool(torch.isfinite(weight).all()) for weight in state["weights"].values())
    with pytest.raises(TrainingError, match="The loss is nan at step 12"):  # it goes on, and ends at the same place
        fit(build_spec(SPEC), Tensors(inputs, torch.arange(40) % 2), draws, CONFIG, "cpu", keep=keep)


def test_without_a_good_step_the_initial_state_stays(tmp_path: Path) -> None:
    inputs, keep = torch.full((4, 1, 8, 8), float("nan")), tmp_path / "state.pt"
    with pytest.raises(TrainingError, match=r"at step 0 .*The last good state lies at"):
        fit(build_spec(SPEC), Tensors(inputs, torch.zeros(4)), np.zeros((3, 2), int), CONFIG, "cpu", keep=keep)
    assert torch.load(keep, weights_only=True)["state"]["step"] == 0


class Growing(Stopping):
    """Targets flip as the network is watched: what a callback changes while the training runs."""

    def __init__(self, base: Source, at: int = 0) -> None:
        super().__init__(base, at)
        self.flips = torch.zeros(1)

    def batch(self, indices: torch.Tensor, generator: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
        inputs, targets = super().batch(indices, generator)
        return inputs, (targets + int(self.flips)) % 2

    def state(self) -> dict[str, torch.Tensor]:
        return {"flips": self.flips}

    def restore(self, state: Mapping[str, torch.Tensor]) -> None:
        self.flips = state["flips"].clone()


def watched_fit(source: Growing, keep: Path | None) -> tuple[nn.Module, list[float]]:
    model, seen = build_spec(SPEC), list[float]()

    def watch(fraction: float) -> None:
        seen.append(fraction)
        source.flips += 1

    draws = np.arange(40).reshape(20, 2)
    options = {"checkpoints": (0.2, 0.45, 0.9), "at_checkpoint": watch, "keep": keep, "keep_seconds": 0.0}
    with contextlib.suppress(InterruptionError):
        fit(model, source, draws, CONFIG, "cpu", **options)
    return model, seen


@pytest.mark.usefixtures("often")
def test_calls_before_the_state_are_not_repeated_and_what_they_changed_in_the_source_comes_back(tmp_path: Path) -> None:
    """Step 9 (0.45) lies between the state after step 5 and the interruption: it is called again."""
    undisturbed, called = watched_fit(Growing(source_for(SPEC)), None)
    _, first = watched_fit(Growing(source_for(SPEC), at=1 + 10), tmp_path / "state.pt")
    again, second = watched_fit(Growing(source_for(SPEC)), tmp_path / "state.pt")
    assert (called, first, second) == ([0.2, 0.45, 0.9], [0.2, 0.45], [0.45, 0.9])
    for name, weight in undisturbed.state_dict().items():
        assert torch.equal(again.state_dict()[name], weight), name
