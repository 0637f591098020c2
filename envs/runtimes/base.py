"""What every runtime does: open, predict, close, and tell what it ran.

The public methods validate, then call the member's; members are final.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self, final

import numpy as np
from numpy.typing import NDArray

from gapshift.envs.runtimes.graph import ExecutedGraph
from gapshift.errors import ContractError, EvaluationError, GapshiftError
from gapshift.export.model_file import TensorDescription, describe
from gapshift.schema import Contract, Runtime


@dataclass(frozen=True, slots=True)
class Interface:
    """What a session takes and gives: the model's name for messages, its input, its
    output's name and the number of classes. None: not checked."""

    model: str
    input: TensorDescription | None
    output: str
    classes: int | None

    @property
    def fixed_batch(self) -> int | None:
        """The only batch size that the model takes, or None where any will do."""
        return self.input.shape[0] if self.input is not None and self.input.shape else None


def interface_of(model: Path, contract: Contract) -> Interface:
    """The model's interface by its contract.

    Raises ModelFileError for a file that is not ONNX, ContractError where the contract
    names an input or output that the model does not have.
    """
    description = describe(model)
    inputs = {tensor.name: tensor for tensor in description.inputs}
    outputs = [tensor.name for tensor in description.outputs]
    for kind, name, known in (
        ("input", contract.model.input, list(inputs)),
        ("output", contract.model.output, outputs),
    ):
        if name not in known:
            raise ContractError(
                f"The contract names {kind} {name!r}, and {model} has {', '.join(known) or 'none'}. "
                f"Set model.{kind} in the contract to one of these."
            )
    others = [name for name in inputs if name != contract.model.input]
    if others:
        raise ContractError(
            f"{model} takes {len(inputs)} inputs ({', '.join(inputs)}); models of one input are supported. "
            f"Fold {', '.join(others)} into the graph as constants."
        )
    return Interface(model.name, inputs[contract.model.input], contract.model.output, len(contract.model.labels))


class Session(ABC):
    """One model loaded in one runtime. Not shared between threads."""

    engine: str
    """The runtime's name in settings and messages."""

    def __init__(self, interface: Interface) -> None:
        self.interface = interface
        self._is_open = False

    # ------------------------------------------------------------ what members do

    @staticmethod
    @abstractmethod
    def available(runtime: Runtime) -> None:
        """Raises SkippedError with the reason where this machine lacks the runtime."""

    @abstractmethod
    def _open(self) -> None:
        """Load the model. May raise anything."""

    @abstractmethod
    def _predict(self, batch: NDArray[Any]) -> NDArray[Any]:
        """Scores of a batch that fits the model's input. May raise anything."""

    @abstractmethod
    def _close(self) -> None:
        """Let go of the model."""

    @abstractmethod
    def _executed(self) -> ExecutedGraph:
        """What the loaded session runs."""

    # ------------------------------------------------------------ what callers use

    @property
    def fixed_batch(self) -> int | None:
        """The only batch size that the model takes; ``predict`` fills and splits for it."""
        return self.interface.fixed_batch

    @final
    def open(self) -> Self:
        """Load the model; nothing happens where it is loaded already.

        Raises EvaluationError with the runtime's message when it cannot.
        """
        if not self._is_open:
            try:
                self._open()
            except GapshiftError:
                raise
            except Exception as error:
                raise EvaluationError(
                    f"{self.engine} cannot load {self.interface.model}: {_message(error)} "
                    "Leave this runtime or format out, or export the model with operators that it has."
                ) from error
            self._is_open = True
        return self

    @final
    def predict(self, batch: NDArray[Any]) -> NDArray[np.floating[Any]]:
        """Scores, shape (n, K), of a batch, shape (n, ...) as the model takes it.

        A model with a fixed batch is given its own size: the last part is filled with
        its last row and the extra answers are cut. NaN passes through. Raises
        EvaluationError when the session is closed, the input does not fit, the runtime
        fails, or the answer is not one row of K scores per item.
        """
        self._require_open()
        self._check_input(batch)
        size = self.fixed_batch
        if size is None:
            return self._scores(batch)
        parts = (batch[start : start + size] for start in range(0, len(batch), size))
        return np.concatenate([self._scores(_filled(part, size))[: len(part)] for part in parts])

    @final
    def executed(self) -> ExecutedGraph:
        """What really runs: providers, operators and their formats."""
        self._require_open()
        return self._executed()

    @final
    def close(self) -> None:
        """Unload the model; a closed session may be opened again."""
        if self._is_open:
            self._is_open = False
            self._close()

    @final
    def __enter__(self) -> Self:
        return self.open()

    @final
    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # ------------------------------------------------------------------ validation

    def _require_open(self) -> None:
        if not self._is_open:
            raise EvaluationError(
                f"The {self.engine} session of {self.interface.model} is closed. Use it inside `with`, or open() it."
            )

    def _check_input(self, batch: NDArray[Any]) -> None:
        """Runtimes differ in what they refuse (OpenVINO answers for any shape), so it is settled here."""
        if not batch.ndim or not len(batch):
            raise EvaluationError(f"{self.interface.model} was given no rows: an input of shape {batch.shape}.")
        takes = self.interface.input
        if takes is None:
            return
        if takes.shape is not None and not _fits(batch.shape, takes.shape):
            raise EvaluationError(
                f"{self.interface.model} takes input {takes.name!r} of shape {_shape(takes.shape)} and was given "
                f"{batch.shape}. Set preprocessing.resize.size, layout and color in the contract to what it takes."
            )
        if takes.dtype not in ("unknown", batch.dtype.name):
            raise EvaluationError(
                f"{self.interface.model} takes input {takes.name!r} as {takes.dtype} and was given "
                f"{batch.dtype.name}. Set preprocessing.dtype in the contract to {takes.dtype}."
            )

    def _scores(self, batch: NDArray[Any]) -> NDArray[np.floating[Any]]:
        try:
            scores = np.array(self._predict(batch))  # a copy: some runtimes reuse their buffers
        except GapshiftError:
            raise
        except Exception as error:
            raise EvaluationError(
                f"{self.engine} failed on {self.interface.model} with an input of shape {batch.shape}: "
                f"{_message(error)}"
            ) from error
        classes = self.interface.classes
        if scores.ndim != 2 or len(scores) != len(batch) or (classes is not None and scores.shape[1] != classes):
            raise EvaluationError(
                f"{self.interface.model} answered {len(batch)} items with output {self.interface.output!r} of shape "
                f"{scores.shape}; expected ({len(batch)}, {classes or 'classes'}), one score per class. "
                "Check model.output and model.labels in the contract."
            )
        return scores if scores.dtype == np.float64 else scores.astype(np.float32)


def _fits(given: tuple[int, ...], takes: tuple[int | None, ...]) -> bool:
    """Same rank and sizes; the batch may be any."""
    return len(given) == len(takes) and all(
        want is None or have == want for have, want in zip(given[1:], takes[1:], strict=True)
    )


def _shape(dims: tuple[int | None, ...]) -> str:
    return "(" + ", ".join("any" if size is None else str(size) for size in dims) + ")"


def _filled(part: NDArray[Any], size: int) -> NDArray[Any]:
    missing = size - len(part)
    return np.concatenate([part, np.repeat(part[-1:], missing, axis=0)]) if missing else part


def _message(error: Exception) -> str:
    """A runtime's message on one line, cut at 500 characters, with a full stop."""
    text = " ".join(str(error).split())[:500] or type(error).__name__
    return text if text.endswith(".") else f"{text}."
