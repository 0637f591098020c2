"""Model families: one file each or per related pair, one line in FAMILIES."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Literal, Self

import torch
from pydantic import Field, model_validator
from torch import nn

from gapshift.errors import UnknownNameError
from gapshift.schema import Domain, Frozen
from gapshift.train.models.audio import AudioCnn, AudioTransformer
from gapshift.train.models.cnn import Cnn
from gapshift.train.models.controller import Controller
from gapshift.train.models.text import Recurrent, TextTransformer
from gapshift.train.models.vit import Vit

Positive = Annotated[int, Field(ge=1)]

SHAPES: dict[Domain, tuple[str, ...]] = {
    "vision": ("channels", "height", "width"),
    "text": ("length",),
    "audio": ("mels", "frames"),
    "control": ("window", "observation"),
}
"""What the dimensions of one model input are."""

_GENERATOR = threading.Lock()
"""Held while torch's global generator is borrowed: networks are also built on several threads."""


class ModelSpec(Frozen):
    """What it takes to build a model again.

    ``shape`` is that of one input, as SHAPES names it for the family's domain. ``classes`` is
    the number of classes or actions (2 for spans: start and end); ``vocabulary`` the number of
    tokens, 0 outside text. ``width`` is the number of features of the first stage.
    Raises UnknownNameError for a family that is not in FAMILIES.
    """

    family: str
    shape: tuple[Positive, ...]
    classes: Annotated[int, Field(ge=2)]
    width: Positive
    vocabulary: Annotated[int, Field(ge=0)] = 0
    head: Literal["classes", "spans"] = "classes"

    @model_validator(mode="after")
    def _fits_the_family(self) -> Self:
        family = family_of(self.family)
        names = SHAPES[family.domain]
        if len(self.shape) != len(names):
            raise ValueError(
                f"{family.name} is a family for {family.domain}, whose inputs have the shape ({', '.join(names)}), "
                f"not {self.shape}; families for it: {', '.join(_for_shape(len(self.shape))) or 'none'}"
            )
        if (family.domain == "text") != (self.vocabulary > 0):
            need = "needs the number of tokens" if family.domain == "text" else "knows no tokens"
            raise ValueError(f"vocabulary is {self.vocabulary}, and {family.name} (for {family.domain}) {need}")
        if self.head == "spans" and family.domain != "text":
            raise ValueError(f"head 'spans' is for text, and {family.name} is for {family.domain}; use 'classes'")
        return self


@dataclass(frozen=True)
class Family:
    """A kind of network. ``widths``: small, medium and large, the scale axis of a study.

    ``recurrent``: needs the exporter that keeps a recurrent layer's time axis. ``sequence``:
    takes inputs of other lengths than it was built with. ``transformer``: has a ``trunk``, which
    fits every other transformer of equal width.
    """

    name: str
    domain: Domain
    make: Callable[[ModelSpec], nn.Module]
    widths: tuple[int, int, int]
    recurrent: bool = False
    sequence: bool = True
    transformer: bool = False


def _shape3(spec: ModelSpec) -> tuple[int, int, int]:
    channels, height, width = spec.shape
    return channels, height, width


FAMILIES: dict[str, Family] = {
    family.name: family
    for family in (
        Family("cnn", "vision", lambda s: Cnn(_shape3(s), s.classes, s.width), (8, 16, 32), sequence=False),
        Family(
            "vit",
            "vision",
            lambda s: Vit(_shape3(s), s.classes, s.width),
            (16, 32, 64),
            sequence=False,
            transformer=True,
        ),
        Family(
            "lstm",
            "text",
            lambda s: Recurrent(nn.LSTM, s.vocabulary, s.classes, s.width, s.head),
            (16, 32, 64),
            recurrent=True,
        ),
        Family(
            "gru",
            "text",
            lambda s: Recurrent(nn.GRU, s.vocabulary, s.classes, s.width, s.head),
            (16, 32, 64),
            recurrent=True,
        ),
        Family(
            "text-transformer",
            "text",
            lambda s: TextTransformer(s.vocabulary, s.classes, s.width, s.head),
            (16, 32, 64),
            transformer=True,
        ),
        Family("audio-cnn", "audio", lambda s: AudioCnn(s.shape[0], s.classes, s.width), (8, 16, 32)),
        Family(
            "audio-transformer",
            "audio",
            lambda s: AudioTransformer(s.shape[0], s.classes, s.width),
            (16, 32, 64),
            transformer=True,
        ),
        Family(
            "controller",
            "control",
            lambda s: Controller(s.shape[1], s.classes, s.width),
            (16, 32, 64),
            transformer=True,
        ),
    )
}

DEFAULT_RESPONDER: dict[Domain, str] = {
    "vision": "cnn",
    "text": "lstm",
    "audio": "audio-cnn",
    "control": "controller",
}
"""The family whose networks rate a domain's items unless the ladder names one. An LSTM's step takes a
third of a GRU's here, and it learns no less."""


def family_of(name: str) -> Family:
    """The family of that name. Raises UnknownNameError for one that is not in FAMILIES."""
    if name not in FAMILIES:
        raise UnknownNameError("model family", name, FAMILIES, "Set `family` in the training settings.")
    return FAMILIES[name]


def _for_shape(dimensions: int) -> list[str]:
    return [family.name for family in FAMILIES.values() if len(SHAPES[family.domain]) == dimensions]


def build_spec(spec: ModelSpec, *, seed: int = 0) -> nn.Module:
    """A freshly initialised network that maps (N, *shape) to logits (N, classes), or (N, 2, L) for spans.

    The weights depend on ``spec`` and ``seed`` alone; torch's global generator is left as it was.
    """
    with _GENERATOR, torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        return family_of(spec.family).make(spec)
