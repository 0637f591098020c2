"""Model families: one file each, one line in FAMILIES."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Annotated

import torch
from pydantic import Field
from torch import nn

from gapshift.errors import UnknownNameError
from gapshift.schema import Frozen
from gapshift.train.models.cnn import Cnn
from gapshift.train.models.vit import Vit

Maker = Callable[[int, tuple[int, int], int, int], nn.Module]

FAMILIES: dict[str, Maker] = {"cnn": Cnn, "vit": Vit}
"""Family name to ``maker(channels, size, classes, width)``."""

Positive = Annotated[int, Field(ge=1)]

_GENERATOR = threading.Lock()
"""Held while torch's global generator is borrowed: networks are also built on several threads."""


class ModelSpec(Frozen):
    """What it takes to build a model again. ``size`` is (height, width) in pixels."""

    family: str
    channels: Positive
    size: tuple[Positive, Positive]
    classes: Annotated[int, Field(ge=2)]
    width: Positive


def build(family: str, *, channels: int, size: tuple[int, int], classes: int, width: int, seed: int = 0) -> nn.Module:
    """A freshly initialised network that maps (N, channels, *size) to logits (N, classes).

    ``width`` is the number of features of the first stage. The weights depend on
    ``seed`` alone; torch's global generator is left as it was.
    Raises UnknownNameError for a family that is not in FAMILIES.
    """
    if family not in FAMILIES:
        raise UnknownNameError("model family", family, FAMILIES, "Set `family` in the training settings.")
    with _GENERATOR, torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        return FAMILIES[family](channels, size, classes, width)


def build_spec(spec: ModelSpec, *, seed: int = 0) -> nn.Module:
    """``build`` from a ModelSpec."""
    return build(**spec.model_dump(), seed=seed)
