"""A study's lock: everything that its result depends on, and the result's digests.

Two locks say whether a repetition had the same configuration, data, libraries and machine,
and whether it came to the same models, answers and levels.
"""

from __future__ import annotations

import json
import math
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import gapshift
from gapshift.domains.checksums import checksums
from gapshift.envs.machine import fingerprint, versions
from gapshift.errors import WorkspaceError
from gapshift.flows.stages import Study
from gapshift.records import read_items, write_text
from gapshift.schema import RunPlan, digest
from gapshift.train.data import choose_device
from gapshift.workspace import Workspace

LIBRARIES = (
    *("torch", "numpy", "scipy", "scikit-learn", "onnx", "onnxscript", "onnxruntime", "openvino"),
    *("pillow", "opencv", "tokenizers", "gymnasium", "py-irt", "pyarrow", "pydantic"),
)
BOUND_PP = 3.0
"""Where two runs are not bit-identical (another device, several threads, another version), the mean
accuracy of a repeated model, over all items that it answered, may differ by this much."""
_NAME = "lock.json"
_GIVEN = ("settings", "gapshift", "versions", "machine", "data")
_SECTIONS = (*_GIVEN, "levels", "models", "files")


def write_lock(study: Study, plan: RunPlan) -> None:
    """Write RUN/lock.json once the models are there."""
    write_text(study.workspace.root / _NAME, json.dumps(_lock(study, plan), indent=1) + "\n")


def read_lock(workspace: Workspace) -> dict[str, Any]:
    """A run's lock. Raises WorkspaceError where there is none that can be read."""
    path = workspace.root / _NAME
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise WorkspaceError(
            f"{workspace.root} has no {_NAME}: only finished studies have one. Finish it first."
        ) from error
    except (OSError, ValueError) as error:
        raise WorkspaceError(f"{path} cannot be read: {error}. Only `gapshift study` writes it.") from error
    if not isinstance(found, dict) or found.get("schema_version") != 1 or not set(_SECTIONS) <= set(found):
        raise WorkspaceError(f"{path} is no lock of this version; make the study again with the version that wrote it.")
    return found


def _lock(study: Study, plan: RunPlan) -> dict[str, Any]:
    device = choose_device("auto").type
    return {
        "schema_version": 1,
        "settings": study.settings.model_dump(mode="json"),
        "gapshift": {"version": gapshift.__version__, "commit": _commit()},
        "versions": versions(*LIBRARIES),
        "machine": fingerprint() | {"device": device, "threads": study.settings.training.threads},
        "data": {
            name: {
                "items": task.dataset.digest(),
                "files": checksums(task.settings.data),
            }
            for name, task in study.tasks.items()
        },
        "levels": _levels_digest(study.workspace),
        "models": {run.name: _answers(study.workspace, run.name) for run in plan.runs},
        "files": {bundle.name: bundle.sha256 for bundle in plan.bundles},
    }


def _commit() -> str | None:
    """The commit of the source that runs, where it runs from a checkout; marked when it was changed."""
    folder = Path(__file__).parent
    try:
        found = subprocess.run(
            ["git", "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"],
            cwd=folder,
            capture_output=True,
            text=True,
            timeout=10,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return found.stdout.strip() or None


def _levels_digest(workspace: Workspace) -> str:
    table, _ = read_items(workspace.items_path)
    columns = (table[name].to_pylist() for name in ("task", "id", "level"))
    return digest(sorted(zip(*columns, strict=True), key=lambda row: row[:2]))


def _answers(workspace: Workspace, name: str) -> dict[str, Any]:
    """The digest of a model's predictions, and how many of them are right."""
    cell = workspace.read_answers(name)
    if cell is None:
        raise WorkspaceError(f"The answers of {name} are missing from {workspace.bundles}; run the study again.")
    records = cell[1]
    return {
        "answers": digest([records.item_id.tolist(), records.prediction.tolist(), _exact(records.confidence)]),
        "accuracy": _mean(records.correct),
    }


def _mean(right: NDArray[np.floating]) -> float | None:
    """Null where nothing was scored."""
    scored = right[np.isfinite(right)]
    return float(scored.mean()) if len(scored) else None


def _exact(values: Any) -> list[str]:
    return [float(value).hex() for value in values]


# -------------------------------------------------------------------------- comparing


@dataclass(frozen=True)
class Repetition:
    """What differs between a study and its repetition.

    ``identical``: same levels, and every model gives bit for bit the same answers.
    ``within_bounds``: the accuracies of all models differ by at most BOUND_PP; ``largest_pp`` is the
    largest difference, null where one of two accuracies is no number. ``differences`` are
    sentences: first what went in, then what came out.
    """

    identical: bool
    within_bounds: bool
    largest_pp: float | None
    differences: tuple[str, ...]


def compare_locks(old: Mapping[str, Any], new: Mapping[str, Any]) -> Repetition:
    """Say what differs between two locks."""
    given = [
        f"{section}.{key}: {before!r} then, {after!r} now"
        for section in _GIVEN
        for key, before, after in _differing(old[section], new[section])
    ]
    missing = sorted(set(old["models"]) ^ set(new["models"]))
    moved = {
        name: _moved_pp(before["accuracy"], after["accuracy"])
        for name, before, after in _differing(old["models"], new["models"])
        if name not in missing
    }
    levels = ["the levels of some items"] if old["levels"] != new["levels"] else []
    answers = [f"the answers of {name}, whose accuracy {_told(pp)}" for name, pp in sorted(moved.items())]
    files = [f"the ONNX file of {name}" for name, _, _ in _differing(old["files"], new["files"]) if name not in missing]
    largest = max(moved.values(), default=0.0)
    return Repetition(
        identical=not (levels or answers or missing),
        within_bounds=largest <= BOUND_PP and not missing,
        largest_pp=largest if math.isfinite(largest) else None,
        differences=(
            *given,
            *levels,
            *answers,
            *files,
            *(f"the model {name} is in one of the two alone" for name in missing),
        ),
    )


def _moved_pp(before: Any, after: Any) -> float:
    """By how many percentage points an accuracy moved; infinite where one is no number."""
    pp = 100 * abs(before - after) if isinstance(before, float) and isinstance(after, float) else math.inf
    return pp if math.isfinite(pp) else math.inf


def _told(pp: float) -> str:
    return f"moved by {pp:.2f} pp" if math.isfinite(pp) else "is no number in one of the two"


def _differing(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[tuple[str, Any, Any]]:
    return [(key, old.get(key), new.get(key)) for key in sorted(set(old) | set(new)) if old.get(key) != new.get(key)]
