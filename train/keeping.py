"""The state of a training on disk, from which an interrupted one goes on."""

from __future__ import annotations

import copy
import pickle
import time
from pathlib import Path
from typing import Any

import torch

from gapshift.errors import WorkspaceError
from gapshift.records import atomic_path

State = dict[str, Any]
"""Tensors, numbers and texts by name, nested: what ``torch.load`` reads without running code."""


class Keeper:
    """Holds the last good state in memory, and puts it on disk every ``seconds``.

    ``key`` says which training it is of: a file with another is not read, and replaced.
    """

    def __init__(self, path: Path, key: str, seconds: float) -> None:
        self.path = path
        self._key = key
        self._seconds = seconds
        self._written = time.monotonic()
        self._held: State | None = None

    def found(self) -> State | None:
        """The state to go on from; None where there is none of this training that can be read."""
        try:
            content = torch.load(self.path, map_location="cpu", weights_only=True)
        except (OSError, EOFError, RuntimeError, KeyError, ValueError, pickle.UnpicklingError):
            return None
        if not isinstance(content, dict) or content.get("key") != self._key:
            return None
        self._held = content["state"]
        return self._held

    def hold(self, state: State) -> None:
        """A state known to be good; written when the time has come."""
        self._held = copy.deepcopy(state)
        if time.monotonic() - self._written >= self._seconds:
            self.write()

    def write(self) -> None:
        """Put the held state on disk, atomically. Raises WorkspaceError where the disk refuses."""
        with atomic_path(self.path) as temporary, temporary.open("wb") as file:
            torch.save({"key": self._key, "state": self._held}, file)
        self._written = time.monotonic()

    def remove(self) -> None:
        """The training is done. Raises WorkspaceError where the file cannot be removed."""
        try:
            self.path.unlink(missing_ok=True)
        except OSError as error:
            raise WorkspaceError(f"Cannot remove {self.path}: {error}. The training is done; remove it.") from error
