"""torch: the network itself, as it was trained, where its checkpoint lies beside the exported file."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any, ClassVar, final

from numpy.typing import NDArray

from gapshift.envs.runtimes.base import Session, interface_of
from gapshift.envs.runtimes.graph import ExecutedGraph
from gapshift.errors import EvaluationError, NotApplicableError, SkippedError
from gapshift.export.model_file import describe
from gapshift.export.stamp import PREFIX
from gapshift.schema import Contract, Runtime


@final
class TorchSession(Session):
    """Eager execution on the CPU, in inference mode.

    The network of RUN/bundles/NAME.onnx is RUN/checkpoints/NAME.pt, if it has the weights whose digest the exported
    file carries. Rewritten or converted files have no network.
    """

    engine = "torch"
    heeds: ClassVar[frozenset[str]] = frozenset(["intra_op_threads"])

    def __init__(self, runtime: Runtime, model: Path, contract: Contract) -> None:
        super().__init__(interface_of(model, contract))
        self._threads = runtime.intra_op_threads
        self._path = model
        self._network: Any = None

    @staticmethod
    def available(runtime: Runtime) -> None:
        del runtime
        if importlib.util.find_spec("torch") is None:
            raise SkippedError("torch is not installed here. Install it with `pip install torch`.")

    def _open(self) -> None:
        from gapshift.export.bundle import weights_digest
        from gapshift.train.checkpoint import load_checkpoint

        checkpoint, expected = checkpoint_of(self._path), _weights_of(self._path)
        network, *_ = load_checkpoint(checkpoint)
        if weights_digest(network) != expected:
            raise EvaluationError(
                f"{checkpoint} holds other weights than {self._path.name} was exported from. "
                "Put the checkpoint back that belongs to it, or train and export again."
            )
        self._network = network

    def _predict(self, batch: NDArray[Any]) -> NDArray[Any]:
        import torch

        from gapshift.train.data import intra_op_threads

        with torch.inference_mode(), intra_op_threads(self._threads):
            scores: NDArray[Any] = self._network(torch.from_numpy(batch)).numpy()
        return scores

    def _close(self) -> None:
        self._network = None

    def _executed(self) -> ExecutedGraph:
        import torch
        from torch import nn

        kinds = (nn.Linear, nn.RNNBase, nn.MultiheadAttention, *_convolutions())
        leaves = [module for module in self._network.modules() if not list(module.children())]
        nodes = [(type(module).__name__, _format(module)) for module in leaves if isinstance(module, kinds)]
        return ExecutedGraph(
            nodes=tuple(nodes),
            providers={"CPU": len(leaves)},
            notes={"float32_matmul_precision": torch.get_float32_matmul_precision()},
        )


def checkpoint_of(model: Path) -> Path:
    """Where the network of an exported file lies.

    Raises NotApplicableError for a file made from a bundle's, SkippedError where there is no checkpoint.
    """
    if model.parent.name == "variants":
        raise NotApplicableError(
            "torch runs the checkpoint as trained; precision or graph deviations change the ONNX file"
        )
    path = model.parent.parent / "checkpoints" / f"{model.stem}.pt"
    if not path.is_file():
        raise SkippedError(
            f"{model.name} has no checkpoint ({path} does not exist). torch runs the networks of a study, "
            "in the study's own folder; leave this environment out for other models."
        )
    return path


def _weights_of(model: Path) -> str:
    """The digest of the weights that a file was exported from."""
    found = json.loads(describe(model).metadata.get(f"{PREFIX}hashes", "{}")).get("weights")
    if not found:
        raise SkippedError(
            f"{model.name} carries no digest of its weights ({PREFIX}hashes), so that nothing ties a checkpoint to it. "
            "Export it again with this version."
        )
    return str(found)


def _convolutions() -> tuple[type, ...]:
    from torch import nn

    return (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)


def _format(module: Any) -> str:
    return str(next(module.parameters()).dtype).removeprefix("torch.")
