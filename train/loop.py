"""The training loop: one for every regime, model and responder."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from gapshift.errors import TrainingError
from gapshift.schema import digest
from gapshift.train.data import array_digest, choose_device, intra_op_threads
from gapshift.train.keeping import Keeper, State
from gapshift.train.schedule import trapezoid
from gapshift.train.settings import TrainingSettings
from gapshift.train.sources import Source

CHECK_EVERY = 50
"""Steps between looks at the loss: each one waits for the device."""
KEEP_SECONDS = 20.0
"""Wall time between two writings of a training's state."""


@dataclass(frozen=True, eq=False)
class Fit:
    """What a run left behind: the loss of every step, shape (steps,), and the wall time in seconds.

    The time of a run that was interrupted counts up to the state that it went on from.
    """

    losses: NDArray[np.float32]
    seconds: float
    device: str
    dtype: str


def fit(
    model: nn.Module,
    source: Source,
    draws: NDArray[np.int64],
    config: TrainingSettings,
    device: str = "auto",
    *,
    seed: int = 0,
    checkpoints: Sequence[float] = (),
    at_checkpoint: Callable[[float], None] | None = None,
    keep: Path | None = None,
    keep_seconds: float = KEEP_SECONDS,
) -> Fit:
    """Train ``model`` in place; step i takes the items ``draws[i]`` of ``source``.

    ``device`` auto is CUDA where there is one, else the CPU; on CUDA the forward pass runs
    under bfloat16 autocast. The model stays on the device, in eval mode. Parameters that need
    no gradient, and the modules that hold no others, stay as they are.
    ``at_checkpoint(fraction)`` is called after each share of the steps. On the CPU the result
    depends on the arguments alone (``seed`` drives the source's chance).

    With ``keep`` the state of the training is written there every ``keep_seconds`` (at a
    look at the loss, every CHECK_EVERY steps). The same training, interrupted and called
    again with the model as it was at the start, goes on from there to the same weights; the
    file is removed at the end. A file of another training (other settings, draws, seed,
    initial weights, or first batch) is replaced. Calls of ``at_checkpoint`` that lie before
    the state are *not* repeated: what they changed in the source comes back through
    ``source.restore``; whatever else they made is the caller's to keep. Callers that gather
    results in memory there give no ``keep``.

    Raises TrainingError naming the first step whose loss is not finite; the last good state
    then lies at ``keep``.
    """
    _validate(model, source, draws)
    place = choose_device(device)
    with intra_op_threads(config.threads):
        run = _Run(model, source, draws, config, place, seed)
        keeper = None if keep is None else Keeper(keep, run.key(checkpoints), keep_seconds)
        return run.through(_stops(checkpoints, len(draws)), at_checkpoint or (lambda _fraction: None), keeper)


class _Run:
    """One training: its tensors on the device, and where it stands."""

    def __init__(
        self,
        model: nn.Module,
        source: Source,
        draws: NDArray[np.int64],
        config: TrainingSettings,
        place: torch.device,
        seed: int,
    ) -> None:
        # Channels last is 1.1-1.7 times faster on the CPU at widths 8-32; cuDNN's tensor cores want it too.
        model.to(place).to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # not in torch's stub
        self.model, self.source, self.config, self.place, self.seed = model, source.on(place), config, place, seed
        self.order = torch.from_numpy(np.ascontiguousarray(draws)).to(place)
        groups = _parameter_groups(model, config)
        self.optimizer = torch.optim.AdamW(groups, lr=config.learning_rate, fused=True)
        self.generator = torch.Generator().manual_seed(seed)
        self.losses = torch.zeros(len(draws), device=place)
        self.step = 0
        self.seconds = 0.0
        self.since = time.perf_counter()

    def through(
        self, stops: dict[int, list[float]], at_checkpoint: Callable[[float], None], keeper: Keeper | None
    ) -> Fit:
        """Take the steps that are left."""
        steps = len(self.order)
        self._go_on_from(keeper)
        _train_mode(self.model)
        while self.step < steps:
            self._take_step(steps)
            due = stops.get(self.step, [])
            look = self.step % CHECK_EVERY == 0 or self.step == steps
            if look or due:
                self._require_finite(keeper)
            for fraction in due:
                at_checkpoint(fraction)
                _train_mode(self.model)
            if look and keeper is not None and self._weights_are_finite():
                keeper.hold(self._state())
        # Contiguous again: the layout changes a sum's order, and a checkpoint does not keep it.
        self.model.eval().to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]  # as above
        if keeper is not None:
            keeper.remove()
        return Fit(self.losses.cpu().numpy(), self._elapsed(), str(self.place), _dtype(self.place))

    def _take_step(self, steps: int) -> None:
        factor = trapezoid(self.step, steps, self.config.warmup_fraction, self.config.decay_fraction)
        for group in self.optimizer.param_groups:
            group["lr"] = self.config.learning_rate * factor
        inputs, targets = self.source.batch(self.order[self.step], self.generator)
        if inputs.ndim == 4:
            inputs = inputs.contiguous(memory_format=torch.channels_last)
        with torch.autocast("cuda", torch.bfloat16, enabled=self.place.type == "cuda"):
            outputs = self.model(inputs)
        loss = self.source.loss(outputs, targets)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
        self.optimizer.step()
        self.losses[self.step] = loss.detach()
        self.step += 1

    def key(self, checkpoints: Sequence[float]) -> str:
        """Which training this is: all that its result depends on (of the data, the first batch)."""
        inputs, targets = self.source.batch(self.order[0], torch.Generator().manual_seed(self.seed))
        weights = [tensor.detach().cpu().contiguous().numpy() for tensor in self.model.state_dict().values()]
        arrays = array_digest(self.order.cpu().numpy(), inputs.cpu().numpy(), targets.cpu().numpy(), *weights)
        names = list(self.model.state_dict())
        trained = [name for name, parameter in self.model.named_parameters() if parameter.requires_grad]
        settings = self.config.model_dump(mode="json")
        points = list(checkpoints)
        return digest(
            [arrays, names, trained, settings, points, len(self.source), self.seed, self.place.type, torch.__version__]
        )

    def _state(self) -> State:
        return {
            "weights": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "generator": self.generator.get_state(),
            "losses": self.losses,
            "source": self.source.state(),
            "step": self.step,
            "seconds": self._elapsed(),
        }

    def _go_on_from(self, keeper: Keeper | None) -> None:
        """From the state on disk, if there is one of this training; else this is the first good state."""
        if keeper is None:
            return
        state = keeper.found()
        if state is None:
            keeper.hold(self._state())
            return
        self.model.load_state_dict(state["weights"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.generator.set_state(state["generator"])
        self.losses.copy_(state["losses"])
        self.source.restore(state["source"])
        self.step, self.seconds = state["step"], state["seconds"]

    def _elapsed(self) -> float:
        return self.seconds + time.perf_counter() - self.since

    def _weights_are_finite(self) -> bool:
        """A step whose loss was finite can still have broken the weights."""
        return bool(torch.stack([torch.isfinite(weight).all() for weight in self.model.parameters()]).all())

    def _require_finite(self, keeper: Keeper | None) -> None:
        bad = torch.nonzero(~torch.isfinite(self.losses[: self.step]))
        if not len(bad):
            return
        kept = ""
        if keeper is not None:
            keeper.write()
            kept = f" The last good state lies at {keeper.path}."
        where = f"{self.config.family}, width {self.config.width}, learning rate {self.config.learning_rate}"
        raise TrainingError(
            f"The loss is {self.losses[bad[0, 0]].item()} at step {int(bad[0, 0])} ({where}). "
            f"Lower `learning_rate` or look for non-finite inputs.{kept}"
        )


def _dtype(place: torch.device) -> str:
    return "bfloat16 autocast" if place.type == "cuda" else "float32"


def _stops(checkpoints: Sequence[float], steps: int) -> dict[int, list[float]]:
    """Number of steps done to the checkpoints that are due then."""
    stops: dict[int, list[float]] = {}
    for fraction in checkpoints:
        stops.setdefault(max(1, round(fraction * steps)), []).append(fraction)
    return stops


def _validate(model: nn.Module, source: Source, draws: NDArray[np.int64]) -> None:
    if draws.ndim != 2 or draws.size == 0:
        raise TrainingError(f"draws have shape {draws.shape}; training takes (steps, batch), neither of them 0.")
    if draws.min() < 0 or draws.max() >= len(source):
        raise TrainingError(f"draws reach from {draws.min()} to {draws.max()}; there are {len(source)} items.")
    if not any(parameter.requires_grad for parameter in model.parameters()):
        raise TrainingError(f"{type(model).__name__} has no parameter that is trained: all of them are frozen.")


def _train_mode(model: nn.Module) -> None:
    """Train mode, but for modules whose parameters are all frozen: their batch norms keep their statistics."""
    model.train()
    for module in model.modules():
        parameters = list(module.parameters())
        if parameters and not any(parameter.requires_grad for parameter in parameters):
            module.eval()


def _parameter_groups(model: nn.Module, config: TrainingSettings) -> list[dict[str, object]]:
    """Weight decay on matrices and kernels only: norms, biases and positions keep their scale."""
    named = [(name, parameter) for name, parameter in model.named_parameters() if parameter.requires_grad]
    decayed = [p for n, p in named if p.ndim >= 2 and "positions" not in n]
    plain = [p for n, p in named if p.ndim < 2 or "positions" in n]
    return [{"params": decayed, "weight_decay": config.weight_decay}, {"params": plain, "weight_decay": 0.0}]
