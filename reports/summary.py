"""``summary.json``: strict JSON, written whole or not at all."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from gapshift.errors import WorkspaceError
from gapshift.records import write_text
from gapshift.reports.gate import EXIT_CODES, exit_code
from gapshift.schema import SCHEMA_VERSION
from gapshift.workspace import Workspace

__all__ = ["SUMMARY_KEYS", "exit_code", "read_summary", "summary_path", "summary_text", "write_summary"]

SUMMARY_KEYS = (
    "schema_version",
    "verdict",
    "reasons",
    "margin_pp",
    "alpha",
    "holm_family",
    "calibration",
    "bundles",
    "cells",
    "regimes",
)
"""The top-level keys that every summary has; others may stand beside them."""


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


def read_summary(workspace: Workspace) -> dict[str, Any]:
    """Read a run's summary.

    Raises WorkspaceError where there is none, or where it is not one that this version reads.
    """
    path = summary_path(workspace)
    again = f"Make it again with `gapshift report {workspace.root}`."
    try:
        summary = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise WorkspaceError(f"Cannot read {path}: {error}. {again}") from error
    missing = [key for key in SUMMARY_KEYS if key not in summary] if isinstance(summary, dict) else list(SUMMARY_KEYS)
    if missing:
        raise WorkspaceError(f"{path} lacks {', '.join(missing)}. {again}")
    if summary["schema_version"] != SCHEMA_VERSION or summary["verdict"] not in EXIT_CODES:
        raise WorkspaceError(
            f"{path} has schema version {summary['schema_version']!r} and verdict {summary['verdict']!r}; "
            f"valid: {SCHEMA_VERSION}, and {', '.join(EXIT_CODES)}. {again}"
        )
    checked: dict[str, Any] = summary
    return checked
