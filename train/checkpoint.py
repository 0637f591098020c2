"""A trained network on disk: weights, what builds it again, how it was trained."""

from __future__ import annotations

import pickle
from pathlib import Path

import torch
from pydantic import ValidationError
from torch import nn

from gapshift.errors import TrainingError, UnknownNameError
from gapshift.records import atomic_path
from gapshift.train.models import ModelSpec, build_spec
from gapshift.train.settings import TrainingSettings

_NEXT = "Delete it and train again."
_UNREADABLE = (
    OSError,
    EOFError,
    KeyError,
    TypeError,
    RuntimeError,
    pickle.UnpicklingError,
    ValidationError,
    UnknownNameError,
)


def save_checkpoint(path: Path, model: nn.Module, spec: ModelSpec, settings: TrainingSettings) -> None:
    """Write weights and settings atomically. Raises WorkspaceError where the disk refuses."""
    content = {
        "weights": {name: tensor.detach().cpu() for name, tensor in model.state_dict().items()},
        "spec": spec.model_dump_json(),
        "settings": settings.model_dump_json(),
    }
    with atomic_path(path) as temporary, temporary.open("wb") as file:
        torch.save(content, file)


def load_checkpoint(path: Path) -> tuple[nn.Module, ModelSpec, TrainingSettings]:
    """The network (on the CPU, in eval mode), its spec and its training settings.

    Only tensors and text are read: a pickle that would run code is refused.
    Raises TrainingError for a file that is not a checkpoint of this version.
    """
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
        spec = ModelSpec.model_validate_json(content["spec"])
        settings = TrainingSettings.model_validate_json(content["settings"])
        model = build_spec(spec)
        model.load_state_dict(content["weights"])
    except FileNotFoundError as error:
        raise TrainingError(f"There is no checkpoint {path}. Make it with `gapshift train`.") from error
    except _UNREADABLE as error:
        reason = (str(error) or type(error).__name__).splitlines()[0].rstrip(".")
        raise TrainingError(f"{path} is not a checkpoint that this version reads: {reason}. {_NEXT}") from error
    return model.eval(), spec, settings
