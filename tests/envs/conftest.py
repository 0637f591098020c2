"""Small models of every domain, with items for them: enough that each environment can change something."""

from __future__ import annotations

import io
import wave
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import NodeProto, TensorProto, helper, numpy_helper
from PIL import Image

from gapshift.domains import audio, text
from gapshift.domains.base import Dataset, InMemory, Text
from gapshift.domains.control.items import draw_episodes
from gapshift.domains.control.physics import control_task
from gapshift.envs.runtimes.conformance import small_classifier
from gapshift.export.model_file import sha256
from gapshift.schema import (
    OUTCOMES,
    AudioPreprocessing,
    Bundle,
    Contract,
    ControlPreprocessing,
    Item,
    ModelInterface,
    OutputKind,
    TextPreprocessing,
)

WIDTH = 8
SPARE = 75
"""Items for the quantiser: fifteen of each level, where levels are dealt in turn."""
Shape = Sequence[int | str]
Weights = dict[str, NDArray[Any]]


@dataclass(frozen=True)
class Small:
    """A model that was never trained, items to judge and others to calibrate a quantiser on."""

    bundle: Bundle
    judged: Dataset
    calibration: Dataset


@pytest.fixture(scope="session")
def small() -> Callable[..., Small]:
    """Makes the model and the items of a task: ``small("text", folder, n=30)``; tasks as in MAKERS."""

    def make(task: str, folder: Path, **settings: Any) -> Small:
        folder.mkdir(parents=True, exist_ok=True)
        return MAKERS[task](folder / f"{task}.onnx", **settings)

    return make


def _small(path: Path, contract: Contract, judged: Dataset, calibration: Dataset) -> Small:
    bundle = Bundle(
        name=path.stem,
        path=str(path),
        sha256=sha256(path),
        contract=contract,
        domain=contract.domain,
        task=path.stem,
    )
    return Small(bundle, judged, calibration)


def _save(path: Path, nodes: list[NodeProto], takes: tuple[int, Shape], gives: Shape, weights: Weights) -> None:
    for number, node in enumerate(nodes):
        node.name = f"n{number}"
    graph = helper.make_graph(
        nodes,
        path.stem,
        [helper.make_tensor_value_info("input", takes[0], takes[1])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, gives)],
        [numpy_helper.from_array(values, name) for name, values in weights.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    onnx.checker.check_model(model)
    onnx.save(model, str(path))


def _random(seed: int, **shapes: tuple[int, ...]) -> Weights:
    rng = np.random.default_rng(seed)
    return {name: rng.normal(0, 0.5, shape).astype(np.float32) for name, shape in shapes.items()}


def _interface(labels: Sequence[str], kind: OutputKind = "logits") -> ModelInterface:
    return ModelInterface(input="input", output="logits", output_kind=kind, labels=tuple(labels))


def _labelled(prefix: str, n: int, seed: int, classes: int) -> list[Item]:
    return [Item(f"{prefix}-{seed}-{row:04d}", row % classes) for row in range(n)]


# -------------------------------------------------------------------------------- vision


def _photograph(seed: int) -> bytes:
    """A file of 30 to 70 pixels a side: gradients, edges and noise in colour."""
    rng = np.random.default_rng(seed)
    height, width = rng.integers(30, 71, 2)
    y, x = np.mgrid[0:height, 0:width] / 70
    waves = [np.sin(rng.uniform(2, 25) * x + rng.uniform(2, 25) * y + rng.uniform(0, 6)) for _ in range(3)]
    picture = 128 + 80 * np.stack(waves, axis=2) + 40 * (x > 0.3)[..., None] + rng.normal(0, 20, (height, width, 3))
    return _saved(picture.clip(0, 255).astype(np.uint8), seed)


def _saved(pixels: NDArray[np.uint8], seed: int) -> bytes:
    """Most as plain JPEGs; of ten one lies on its side, one is half transparent, one has 16 bits."""
    buffer = io.BytesIO()
    exif = Image.Exif()
    if seed % 10 == 8:
        Image.fromarray(np.dstack([pixels, 255 - pixels[..., 0]])).save(buffer, "PNG")
    elif seed % 10 == 9:
        Image.fromarray(pixels[..., 0].astype(np.uint16) * 251).save(buffer, "PNG")
    else:
        exif[0x0112] = 6 if seed % 10 == 7 else 1
        Image.fromarray(pixels).save(buffer, "JPEG", quality=92, exif=exif)
    return buffer.getvalue()


def _photographs(n: int, seed: int) -> Dataset:
    raws = [_photograph(seed + row) for row in range(n)]
    return InMemory("photographs", tuple("abcde"), _labelled("jpg", n, seed, 5), raws, "vision")


def _vision(path: Path, n: int = 30) -> Small:
    contract = small_classifier(path, size=24)
    how = contract.preprocessing.model_copy(update={"mean": (0.45, 0.5, 0.4), "std": (0.25, 0.2, 0.3)})
    contract = contract.model_copy(update={"preprocessing": how})
    return _small(path, contract, _photographs(n, 0), _photographs(SPARE, 1000))


# ---------------------------------------------------------------------------------- text

WORDS = [
    "The",
    "café",
    "re-opened",
    "late",
    ";",
    "a",
    "naïve",
    "Waiter",
    "brought\u00a0us",  # a non-breaking space
    "½",
    "Lemon",
    "and",
    "ﬁne",
    "cof\u00adfee",  # a soft hyphen
    "...",
]


def _sentence(rng: np.random.Generator, words: int) -> str:
    return " ".join(rng.choice(WORDS, words))


def _reviews(n: int, seed: int) -> Dataset:
    rng = np.random.default_rng(seed)
    raws = [Text(_sentence(rng, int(rng.integers(5, 50)))) for _ in range(n)]
    return InMemory("reviews", ("bad", "good"), _labelled("review", n, seed, 2), raws, "text")


def _passages(n: int, seed: int) -> Dataset:
    rng, raws = np.random.default_rng(seed), []
    for _ in range(n):
        before, answer, after = (_sentence(rng, int(count)) for count in (rng.integers(1, 20), 2, rng.integers(1, 20)))
        raws.append(Text(_sentence(rng, 4), f"{before} {answer} {after}", (answer,), len(before) + 1))
    items = [Item(f"passage-{seed}-{row:04d}", 1) for row in range(n)]
    return InMemory("passages", OUTCOMES, items, raws, "text", "spans")


def _text_contract(data: Dataset, labels: tuple[str, str], kind: OutputKind, max_length: int) -> Contract:
    raws = [raw for raw in map(data.raw, range(len(data))) if isinstance(raw, Text)]
    how = text.learn(raws, TextPreprocessing(max_length=max_length))
    return Contract(domain="text", preprocessing=how, model=_interface(labels, kind))


def _embedded(scores: str) -> list[NodeProto]:
    """Token ids to a convolution over them, ``scores`` (n, channels of w, length)."""
    return [
        helper.make_node("Gather", ["table", "input"], ["embedded"]),
        helper.make_node("Transpose", ["embedded"], ["channels"], perm=[0, 2, 1]),
        helper.make_node("Conv", ["channels", "w", "b"], [scores], pads=[1, 1]),
    ]


def _text(path: Path, n: int = 30, length: int | None = None, max_length: int = 48) -> Small:
    """``length`` fixes the length of the model's input, None leaves it symbolic."""
    data = _reviews(n, 0)
    contract = _text_contract(_reviews(100, 1000), ("bad", "good"), "logits", max_length)
    nodes = [
        *_embedded("features"),
        helper.make_node("Relu", ["features"], ["positive"]),
        helper.make_node("GlobalAveragePool", ["positive"], ["pooled"]),
        helper.make_node("Flatten", ["pooled"], ["flat"]),
        helper.make_node("Gemm", ["flat", "w2", "b2"], ["logits"]),
    ]
    tokens = len(contract.preprocessing.vocabulary)  # type: ignore[union-attr]  # a text contract's
    weights = _random(1, table=(tokens, WIDTH), w=(WIDTH, WIDTH, 3), b=(WIDTH,), w2=(WIDTH, 2), b2=(2,))
    _save(path, nodes, (TensorProto.INT64, ["batch", length or "length"]), ["batch", 2], weights)
    return _small(path, contract, data, _reviews(SPARE, 2000))


def _spans(path: Path, n: int = 30) -> Small:
    data = _passages(n, 0)
    contract = _text_contract(_passages(100, 1000), ("start", "end"), "spans", 48)
    tokens = len(contract.preprocessing.vocabulary)  # type: ignore[union-attr]  # a text contract's
    weights = _random(2, table=(tokens, WIDTH), w=(2, WIDTH, 3), b=(2,))
    takes = TensorProto.INT64, ["batch", "length"]
    _save(path, _embedded("logits"), takes, ["batch", 2, "length"], weights)
    return _small(path, contract, data, _passages(SPARE, 2000))


# --------------------------------------------------------------------------------- audio


def _recording(seed: int) -> bytes:
    """A WAV file of 0.4 to 1.4 s at 8 or 16 kHz: a chirp in noise; every third one with an echo on the right."""
    rng = np.random.default_rng(seed)
    rate = int(rng.choice([8000, 16000]))
    time = np.arange(int(rate * rng.uniform(0.4, 1.4))) / rate
    sound = np.sin(2 * np.pi * (rng.uniform(200, 1500) + rng.uniform(0, 1500) * time) * time)
    samples = 8000 * sound * rng.uniform(0.05, 1) + rng.normal(0, 20, len(time))
    if seed % 3 == 2:
        samples = np.stack([samples, 0.5 * np.roll(samples, 40)], axis=1)
    buffer = io.BytesIO()
    with wave.open(buffer, "wb") as file:
        file.setnchannels(samples.ndim)
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes(samples.astype("<i2").tobytes())
    return buffer.getvalue()


def _recordings(n: int, seed: int) -> Dataset:
    raws = [_recording(seed + row) for row in range(n)]
    return InMemory("recordings", ("no", "up", "yes"), _labelled("wav", n, seed, 3), raws, "audio")


def _audio(path: Path, n: int = 30) -> Small:
    mels = 16
    how = audio.learn([_recording(seed) for seed in range(1000, 1016)], AudioPreprocessing(mels=mels))
    contract = Contract(domain="audio", preprocessing=how, model=_interface(("no", "up", "yes")))
    nodes = [
        helper.make_node("Conv", ["input", "w", "b"], ["features"], pads=[1, 1]),
        helper.make_node("Relu", ["features"], ["positive"]),
        helper.make_node("GlobalAveragePool", ["positive"], ["pooled"]),
        helper.make_node("Flatten", ["pooled"], ["flat"]),
        helper.make_node("Gemm", ["flat", "w2", "b2"], ["logits"]),
    ]
    weights = _random(3, w=(WIDTH, mels, 3), b=(WIDTH,), w2=(WIDTH, 3), b2=(3,))
    _save(path, nodes, (TensorProto.FLOAT, ["batch", mels, "frames"]), ["batch", 3], weights)
    return _small(path, contract, _recordings(n, 0), _recordings(SPARE, 2000))


# ------------------------------------------------------------------------------- control


def _episodes(n: int, seed: int) -> Dataset:
    items = [Item(f"episode-{seed}-{row:04d}", 1) for row in range(n)]
    return InMemory("episodes", OUTCOMES, items, draw_episodes("mountaincar", n, seed), "control", "episodes")


def _control(path: Path, n: int = 30) -> Small:
    """A car is pushed the way it goes, the latest reading counting most."""
    how = ControlPreprocessing(offset=(-0.5, 0.0), scale=(3.0, 40.0))
    labels = control_task("mountaincar").actions
    contract = Contract(domain="control", preprocessing=how, model=_interface(labels, "actions"))
    weights = {name: values * 0.1 for name, values in _random(4, w=(8, 8), b=(8,), w2=(8, 3), b2=(3,)).items()}
    weights["w"][1::2, :2] += np.array([[0.1, -0.1], [0.1, -0.1], [0.2, -0.2], [1, -1]], np.float32)
    weights["w2"][:2] += np.array([[-1, 0, 1], [1, 0, -1]], np.float32)
    nodes = [
        helper.make_node("Flatten", ["input"], ["flat"]),
        helper.make_node("Gemm", ["flat", "w", "b"], ["hidden"]),
        helper.make_node("Relu", ["hidden"], ["positive"]),
        helper.make_node("Gemm", ["positive", "w2", "b2"], ["logits"]),
    ]
    _save(path, nodes, (TensorProto.FLOAT, ["batch", 4, 2]), ["batch", 3], weights)
    return _small(path, contract, _episodes(n, 0), _episodes(SPARE, 2000))


MAKERS: dict[str, Callable[..., Small]] = {
    "vision": _vision,
    "text": _text,
    "spans": _spans,
    "audio": _audio,
    "control": _control,
}
