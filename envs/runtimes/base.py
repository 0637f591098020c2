"""What every runtime does: open, predict, close, and tell what it ran.

The public methods validate, then call the member's; members are final.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, ClassVar, Self, final

import numpy as np
from numpy.typing import NDArray

from gapshift.domains.services import Rows
from gapshift.envs.runtimes.graph import ExecutedGraph
from gapshift.errors import ContractError, EvaluationError, GapshiftError, SkippedError
from gapshift.export.model_file import TensorDescription, describe
from gapshift.schema import Contract, Domain, OutputKind, Runtime


@dataclass(frozen=True, slots=True)
class Interface:
    """What a session takes and gives: the model's name for messages, its input, its
    output's name, the number of classes (None: not checked), the model's domain and what
    the output is."""

    model: str
    input: TensorDescription | None
    output: str
    classes: int | None
    domain: Domain = "vision"
    output_kind: OutputKind = "logits"

    @property
    def fixed_batch(self) -> int | None:
        """The only batch size that the model takes, or None where any will do."""
        return self.input.shape[0] if self.input is not None and self.input.shape else None

    def misfit(self, batch: Rows) -> str | None:
        """Why a batch of inputs cannot be given to the model, said of it (``takes input ...``); None where it can."""
        takes = self.input
        if takes is None:
            return None
        if takes.shape is not None and not _fits(batch.shape, takes.shape):
            return f"takes input {takes.name!r} of shape {_shape(takes.shape)} and was given {batch.shape}"
        narrowed = takes.dtype == "int32" and batch.dtype == np.int64  # token ids are, without loss
        if takes.dtype not in ("unknown", batch.dtype.name) and not narrowed:
            return f"takes input {takes.name!r} as {takes.dtype} and was given {batch.dtype.name}"
        return None


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
    return Interface(
        model.name,
        inputs[contract.model.input],
        contract.model.output,
        len(contract.model.labels),
        contract.domain,
        contract.model.output_kind,
    )


_REMEDY = "Leave this runtime or format out, or export the model with operators that it has."
_SHAPED_BY: dict[Domain, str] = {
    "vision": "preprocessing.resize.size, layout and color",
    "text": "preprocessing.max_length",
    "audio": "preprocessing.mels, duration, sample_rate, window_length and hop_length",
    "control": "preprocessing.window",
}
"""The keys of a contract that decide an input's shape."""


class Session(ABC):
    """One model loaded in one runtime. Not shared between threads."""

    engine: ClassVar[str]
    """The runtime's name in settings and messages."""
    refusals: ClassVar[tuple[tuple[str, str], ...]] = ()
    """How the runtime words that it cannot run a model: a regular expression of its message, and what is missing, with
    ``{}`` for each group (``("no kernel for (.*)", "operator {}")``). Such a cell is skipped; any other failure is an
    error."""

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

        Raises SkippedError that names the operator or opset which the runtime lacks, and EvaluationError with the
        runtime's message when it cannot load the model for another reason.
        """
        if not self._is_open:
            try:
                self._open()
            except GapshiftError:
                raise
            except Exception as error:
                raise self._failure(f"cannot load {self.interface.model}", error, _REMEDY) from error
            self._is_open = True
        return self

    @final
    def predict(self, batch: NDArray[Any]) -> NDArray[np.floating[Any]]:
        """Scores, shape (n, K), of a batch, shape (n, ...) as the model takes it; for spans
        (n, 2, L), a score for every token of the batch.

        A model with a fixed batch is given its own size: the last part is filled with
        its last row and the extra answers are cut. Token ids are narrowed to int32 for a
        model that takes them so. NaN passes through. Raises EvaluationError when the session
        is closed, the input does not fit, the runtime fails, or the answer has another shape, and SkippedError where
        the runtime lacks an operator.
        """
        self._require_open()
        batch = self._narrowed(batch)
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

    def _narrowed(self, batch: NDArray[Any]) -> NDArray[Any]:
        """int64 token ids as int32 where the model wants that; no vocabulary comes near its end."""
        takes = self.interface.input
        narrow = takes is not None and takes.dtype == "int32" and batch.dtype == np.int64
        return batch.astype(np.int32) if narrow else batch

    def _check_input(self, batch: NDArray[Any]) -> None:
        """Runtimes differ in what they refuse (OpenVINO answers for any shape), so it is settled here."""
        if not batch.ndim or not len(batch):
            raise EvaluationError(f"{self.interface.model} was given no rows: an input of shape {batch.shape}.")
        problem, takes = self.interface.misfit(batch), self.interface.input
        if problem is None or takes is None:
            return
        if takes.shape is not None and not _fits(batch.shape, takes.shape):
            remedy = f"Set {_SHAPED_BY[self.interface.domain]} in the contract to what it takes."
        else:
            remedy = self._other_dtype(takes)
        raise EvaluationError(f"{self.interface.model} {problem}. {remedy}")

    def _other_dtype(self, takes: TensorDescription) -> str:
        """Images alone can be prepared in another type."""
        if self.interface.domain == "vision":
            return f"Set preprocessing.dtype in the contract to {takes.dtype}."
        wanted = "int64 or int32 token ids" if self.interface.domain == "text" else "a float32 input"
        return f"Export the model with {wanted}."

    def _scores(self, batch: NDArray[Any]) -> NDArray[np.floating[Any]]:
        try:
            scores = np.array(self._predict(batch))  # a copy: some runtimes reuse their buffers
        except GapshiftError:
            raise
        except Exception as error:
            did = f"failed on {self.interface.model} with an input of shape {batch.shape}"
            raise self._failure(did, error) from error
        self._check_scores(scores, batch)
        return scores if scores.dtype == np.float64 else scores.astype(np.float32)

    def _failure(self, did: str, error: Exception, remedy: str = "") -> EvaluationError:
        """What to raise for a runtime's own exception: skipped where it lacks what the model needs."""
        lacking = self._lacking(str(error))
        if lacking is None:
            return EvaluationError(f"{self.engine} {did}: {message(error)} {remedy}".rstrip())
        return SkippedError(f"{self.engine} {did}: it has no {lacking}. {_REMEDY}")

    def _lacking(self, text: str) -> str | None:
        for pattern, what in self.refusals:
            found = re.search(pattern, text, re.DOTALL)
            if found:
                return what.format(*found.groups())
        return None

    def _check_scores(self, scores: NDArray[Any], batch: NDArray[Any]) -> None:
        n, classes = len(batch), self.interface.classes
        if self.interface.output_kind == "spans":
            fits, wanted = scores.shape == (n, 2, batch.shape[1]), f"({n}, 2, {batch.shape[1]})"
            what, check = "a start and an end score for every token", "model.output and model.output_kind"
        else:
            thing = "action" if self.interface.output_kind == "actions" else "class"
            fits = scores.ndim == 2 and len(scores) == n and classes in (None, scores.shape[1])
            wanted = f"({n}, {classes or 'any number'})"
            what, check = f"one score per {thing}", "model.output and model.labels"
        if not fits:
            raise EvaluationError(
                f"{self.interface.model} answered {n} items with output {self.interface.output!r} of shape "
                f"{scores.shape}; expected {wanted}, {what}. Check {check} in the contract."
            )


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


def message(error: Exception) -> str:
    """A runtime's message on one line, cut at 500 characters, with a full stop."""
    text = " ".join(str(error).split())[:500] or type(error).__name__
    return text if text.endswith(".") else f"{text}."
