"""Every family trains on CUDA, and what it learnt there gives the same answers on the CPU."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from gapshift.domains.base import Text
from gapshift.domains.control.items import episode_data
from gapshift.domains.spans import span_targets
from gapshift.domains.text import learn, prepare_many
from gapshift.schema import ControlPreprocessing, Domain, Item, TextPreprocessing
from gapshift.train.models import FAMILIES
from gapshift.train.predict import scores
from gapshift.train.settings import TrainingSettings
from gapshift.train.tasks.base import Task
from gapshift.train.tasks.episodes import EpisodeTask
from gapshift.train.tasks.episodes import learn as learn_scaling
from gapshift.train.tasks.tensors import ClassTask, SpanTask
from gapshift.train.transfer import graft

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")

DEVICE = "cuda"
STEPS, BATCH, N = 5, 8, 24
ROWS = np.arange(N)
ITEMS = [Item(id=f"i{index}", label=index % 3) for index in range(N)]
SHAPES: dict[Domain, tuple[int, ...]] = {"vision": (1, 16, 16), "text": (12,), "audio": (8, 20)}
CLASSES = [name for name, family in FAMILIES.items() if family.domain != "control"]
SPANS = [name for name, family in FAMILIES.items() if family.domain == "text"]


def classes(domain: Domain) -> Task:
    rng = np.random.default_rng(0)
    if domain == "text":
        ids = rng.integers(0, 30, (N, *SHAPES[domain]))
        return ClassTask(ITEMS, ids, domain, 3, content="c", vocabulary=30)
    inputs = rng.normal(size=(N, *SHAPES[domain])).astype(np.float32)
    return ClassTask(ITEMS, inputs, domain, 3, content="c")


def spans() -> Task:
    texts = [Text("what is the box", f"the box is word{i % 4} today", ("word",), 11) for i in range(N)]
    how = learn(texts, TextPreprocessing(max_length=14))
    targets = span_targets([Text(t.first, t.second, (f"word{i % 4}",), 11) for i, t in enumerate(texts)], how)
    items = [Item(id=f"i{index}", label=1) for index in range(N)]
    inputs = prepare_many(texts, how)
    return SpanTask(items, texts, inputs, targets, how, content="c", vocabulary=len(how.vocabulary))


def episodes() -> Task:
    data = episode_data("mountaincar", count=N)
    return EpisodeTask.of(data, learn_scaling(ControlPreprocessing(), data))


def draws() -> NDArray[np.int64]:
    return np.random.default_rng(1).integers(0, N, (STEPS, BATCH))


def trained(task: Task, family: str, device: str, steps: int = STEPS) -> tuple[torch.nn.Module, NDArray[np.float32]]:
    config = TrainingSettings(family=family, width=8, steps=steps, batch_size=BATCH, learning_rate=1e-2)
    model = task.build(family, 8, seed=0)
    return model, task.fit(model, draws()[:steps], config, device, seed=1).losses


def require_alike(task: Task, family: str) -> None:
    """Losses as near as bfloat16 allows; the same weights' answers as near as float32 does."""
    model, losses = trained(task, family, DEVICE)
    _, expected = trained(task, family, "cpu")
    assert next(model.parameters()).device.type == DEVICE
    assert losses[0] == pytest.approx(expected[0], rel=0.03, abs=0.03)
    assert losses.tolist() == pytest.approx(expected.tolist(), rel=0.2, abs=0.2)
    there = task.truth(model, ROWS)
    inputs = task.examples(model, N)
    logits = scores(model, inputs)
    np.testing.assert_allclose(logits, scores(model.cpu(), inputs), atol=1e-3)
    here = task.truth(model, ROWS)
    if task.kind == "episodes":  # one decision that rounding turns can change all that follows
        there, here = there.mean(keepdims=True), here.mean(keepdims=True)
    np.testing.assert_allclose(there, here, atol=1e-3 if task.kind != "episodes" else 0.05)


@pytest.mark.parametrize("family", CLASSES)
def test_classes_are_learnt_alike(family: str) -> None:
    require_alike(classes(FAMILIES[family].domain), family)


@pytest.mark.parametrize("family", SPANS)
def test_spans_are_learnt_alike(family: str) -> None:
    require_alike(spans(), family)


def test_controllers_are_learnt_alike_and_drive_their_episodes_again() -> None:
    require_alike(episodes(), "controller")


@pytest.mark.parametrize("family", ["cnn", "lstm", "text-transformer"])
def test_a_training_on_cuda_repeats_itself_nearly(family: str) -> None:
    task = classes(FAMILIES[family].domain)
    once, again = (trained(task, family, DEVICE)[1] for _ in range(2))
    assert once.tolist() == pytest.approx(again.tolist(), rel=0.02, abs=0.02)


def test_a_lent_trunk_stays_frozen() -> None:
    words, sounds = classes("text"), classes("audio")
    lender, _ = trained(words, "text-transformer", DEVICE)
    target = graft(sounds.build("audio-transformer", 8, seed=0), lender)
    lent = {name: tensor.cpu().clone() for name, tensor in target.state_dict().items() if name.startswith("trunk")}
    config = TrainingSettings(family="audio-transformer", width=8, steps=STEPS, batch_size=BATCH)
    sounds.fit(target, draws(), config, DEVICE, seed=0)
    state = target.state_dict()
    assert all(torch.equal(state[name].cpu(), tensor) for name, tensor in lent.items())
