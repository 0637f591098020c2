"""One judged run for all workers of one pytest session: evaluated once, under a file lock, by whoever comes first."""

from __future__ import annotations

import json
import os
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from gapshift.deploy_tests.results import GapshiftRun, read_run
from gapshift.deploy_tests.words import in_pytest_words
from gapshift.errors import GapshiftError

ATTEMPTS = 2
"""So often the run is begun where the processes that began it died; then every test says so."""


class NotJudgedError(GapshiftError):
    """The run could not be evaluated; the text is the same in every worker of the session."""


def judged_once(folder: Path, session: str, evaluate: Callable[[], None]) -> GapshiftRun:
    """The run in ``folder``, evaluated by the first caller of this session and read by all.

    ``session`` is the same for every worker. A worker that dies lets the lock go, and the next one goes on where it
    stopped. Raises NotJudgedError, to every caller of the session alike, where evaluating failed or its process died
    time and again; what is no GapshiftError reaches the caller that evaluated as it is.
    """
    from filelock import FileLock

    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(folder / ".session.lock")
        lock.acquire()
    except OSError as error:
        raise NotJudgedError(
            f"Cannot write to {folder}: {error}. Give another folder with --gapshift-report."
        ) from error
    try:
        mark = _mark(folder, session)
        outcome = _read(mark)
        if outcome.get("status") not in ("judged", "failed"):
            outcome = _evaluate(mark, int(outcome.get("begun", 0)), evaluate)
        if outcome["status"] == "failed":
            raise NotJudgedError(outcome["text"])
        return read_run(folder)
    finally:
        lock.release()


def judged_in(folder: Path, session: str) -> GapshiftRun | None:
    """The run, if this very session judged it and no other one has come since."""
    return read_run(folder) if _read(_mark(folder, session)).get("status") == "judged" else None


def _mark(folder: Path, session: str) -> Path:
    return folder / f".session-{session}.json"


def _read(mark: Path) -> dict[str, Any]:
    return json.loads(mark.read_text(encoding="utf-8")) if mark.exists() else {}


def _write(mark: Path, outcome: dict[str, Any]) -> dict[str, Any]:
    """Whole or not at all: a worker may be killed here, too."""
    draft = mark.with_suffix(f".{os.getpid()}")
    draft.write_text(json.dumps(outcome), encoding="utf-8")
    draft.replace(mark)
    return outcome


def _evaluate(mark: Path, begun: int, evaluate: Callable[[], None]) -> dict[str, Any]:
    if begun >= ATTEMPTS:
        return _write(mark, {"status": "failed", "text": _died(mark.parent, begun)})
    for old in mark.parent.glob(".session-*"):
        old.unlink()
    _write(mark, {"status": "begun", "begun": begun + 1})
    try:
        evaluate()
    except GapshiftError as error:
        return _write(mark, {"status": "failed", "text": in_pytest_words(str(error))})
    except Exception:
        _write(mark, {"status": "failed", "text": f"Evaluating the run raised\n{traceback.format_exc()}"})
        raise
    return _write(mark, {"status": "judged"})


def _died(folder: Path, begun: int) -> str:
    return (
        f"The run was begun {begun} times and each time the process died before its end: killed, or out of memory? "
        f"Cells that finished are kept in {folder}; try with fewer workers, or see what `gapshift check` says."
    )
