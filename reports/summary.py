"""``summary.json``: strict JSON, written whole or not at all."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from gapshift.records import write_text
from gapshift.workspace import Workspace


def summary_path(workspace: Workspace) -> Path:
    """Where a run's summary lies."""
    return workspace.root / "summary.json"


def summary_text(summary: dict[str, Any]) -> str:
    """A summary as JSON text. Raises ValueError for NaN or infinity: they are not JSON."""
    return json.dumps(summary, indent=1, allow_nan=False, ensure_ascii=False) + "\n"


def write_summary(workspace: Workspace, summary: dict[str, Any]) -> Path:
    """Write ``summary.json`` atomically and return its path.

    Raises WorkspaceError on a full disk, and ValueError for NaN or infinity.
    """
    path = summary_path(workspace)
    write_text(path, summary_text(summary))
    return path
