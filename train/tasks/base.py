"""What networks learn and are asked: the items of one task, whatever their domain."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, final

import numpy as np
from numpy.typing import NDArray
from torch import nn

from gapshift.records import Records
from gapshift.schema import AnswerKind, Domain, Item, digest
from gapshift.train.loop import Fit
from gapshift.train.models import ModelSpec, build_spec
from gapshift.train.settings import TrainingSettings

Rows = NDArray[np.intp]


class Task(ABC):
    """Items that networks are trained on and asked about; rows index ``items``.

    ``shape`` is that of one model input, without the batch; ``outputs`` the number of scores
    (classes, actions; tokens decide it for spans); ``guessing`` the chance of being right
    without knowing. ``content`` is the digest of the items' contents as the networks see them.
    """

    def __init__(
        self,
        items: Sequence[Item],
        *,
        domain: Domain,
        kind: AnswerKind,
        shape: tuple[int, ...],
        outputs: int,
        guessing: float,
        content: str,
        vocabulary: int = 0,
    ) -> None:
        self.items = tuple(items)
        self.domain = domain
        self.kind = kind
        self.shape = shape
        self.outputs = outputs
        self.guessing = guessing
        self.vocabulary = vocabulary
        self._content = content

    @final
    def __len__(self) -> int:
        return len(self.items)

    @final
    @property
    def labels(self) -> NDArray[np.int64]:
        """Shape (n,)."""
        return np.array([item.label for item in self.items], dtype=np.int64)

    @final
    def digest(self) -> str:
        """SHA-256 (hex) over the items' ids, labels and contents as the networks see them; computed once."""
        return self._digest

    @cached_property
    def _digest(self) -> str:
        return digest([self._content, [[item.id, item.label] for item in self.items], self.kind])

    @final
    def spec(self, family: str, width: int) -> ModelSpec:
        """The network of this family and width that fits the task."""
        return ModelSpec(
            family=family,
            shape=self.shape,
            classes=self.outputs,
            width=width,
            vocabulary=self.vocabulary,
            head="spans" if self.kind == "spans" else "classes",
        )

    @final
    def build(self, family: str, width: int, seed: int) -> nn.Module:
        """A freshly initialised one."""
        return build_spec(self.spec(family, width), seed=seed)

    @abstractmethod
    def fit(
        self,
        model: nn.Module,
        draws: NDArray[np.int64],
        config: TrainingSettings,
        device: str = "auto",
        *,
        seed: int = 0,
        checkpoints: Sequence[float] = (),
        at_checkpoint: Callable[[float], None] | None = None,
        keep: Path | None = None,
    ) -> Fit:
        """Train ``model`` in place; step i takes the items ``draws[i]``.

        With ``keep`` the state of the training lies there now and then, an interrupted one
        goes on from it to the same weights, and it is removed at the end. Raises
        TrainingError naming the first step whose loss is not finite.
        """

    @abstractmethod
    def truth(self, model: nn.Module, rows: Rows) -> NDArray[np.float32]:
        """How far each item is mastered, in [0, 1], shape (len(rows),): the probability of the
        truth (class, span), or the mastered share of an episode."""

    @abstractmethod
    def error_norm(self, model: nn.Module, rows: Rows) -> NDArray[np.float32] | None:
        """The L2 norm of probabilities minus truth, shape (len(rows),); None where it means nothing."""

    @abstractmethod
    def records(self, model: nn.Module, rows: Rows) -> Records:
        """The network's answers to these items, right or wrong."""

    @abstractmethod
    def examples(self, model: nn.Module, count: int) -> NDArray[Any]:
        """At most ``count`` model inputs, shape (n, *shape), as the network meets them."""
