"""A run's folder: who lies where, which cells exist, what happened when.

RUN/run.json             the plan (RunPlan)
RUN/items.parquet        difficulty per item, calibration cards inside
RUN/bundles/NAME.onnx    models, NAME.answers.parquet their training-side answers
RUN/records/*.parquet    one file per cell
RUN/journal.jsonl        events, appended
RUN/summary.json, report.html, report.md, junit.xml
"""

from __future__ import annotations

import datetime
import json
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

from filelock import FileLock, Timeout
from pydantic import ValidationError

from gapshift.errors import WorkspaceError
from gapshift.records import Records, read_cell, read_cell_info, write_cell, write_text
from gapshift.schema import CellInfo, RunPlan

_HOLDER = re.compile(r"(\d+) (\d{4}-\d\d-\d\d \d\d:\d\d:\d\d)")


class Workspace:
    """Paths and atomic files of one run folder."""

    def __init__(self, root: Path | str) -> None:
        self.root = Path(root)

    @property
    def plan_path(self) -> Path:
        return self.root / "run.json"

    @property
    def items_path(self) -> Path:
        return self.root / "items.parquet"

    @property
    def measures_path(self) -> Path:
        """Measures of difficulty other than b (studies only)."""
        return self.root / "measures.parquet"

    @property
    def bundles(self) -> Path:
        return self.root / "bundles"

    @property
    def records(self) -> Path:
        return self.root / "records"

    def bundle_path(self, path: str) -> Path:
        """Where a bundle's ONNX file lies: inside the run, or at its absolute path."""
        return self.root / path

    def answers_path(self, bundle: str) -> Path:
        """A bundle's training-side answers (training and held-out items)."""
        return self.bundles / f"{bundle}.answers.parquet"

    def mix_path(self, bundle: str) -> Path:
        """How often a bundle's training drew each item."""
        return self.bundles / f"{bundle}.mix.parquet"

    def cell_path(self, bundle: str, environment: str) -> Path:
        return self.records / f"{bundle}--{environment}.parquet"

    def outputs_path(self, bundle: str, environment: str, key: str) -> Path:
        """Raw outputs of the cell with this content address, where a run keeps them."""
        return self.root / "outputs" / f"{bundle}--{environment}--{key[:12]}.npy"

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Keep other processes out of this folder for a while; a killed process lets go.

        Raises WorkspaceError at once where another one works on it, or where it cannot be a folder.
        """
        try:
            self.root.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise self._unwritable(error) from error
        try:
            with FileLock(self.root / ".lock", timeout=0), self._named_holder():
                yield
        except Timeout as error:
            raise WorkspaceError(
                f"Another gapshift process works on {self.root}{self._holder()}. "
                "Wait for it, or give another folder with --out."
            ) from error
        except PermissionError as error:
            raise self._unwritable(error) from error

    @contextmanager
    def _named_holder(self) -> Iterator[None]:
        """Write who holds the lock beside it. That file only informs; the system's lock alone keeps others out."""
        now = datetime.datetime.now(datetime.UTC)
        with suppress(OSError):
            self._holder_path.write_text(f"{os.getpid()} {now:%Y-%m-%d %H:%M:%S}", encoding="utf-8")
        try:
            yield
        finally:
            with suppress(OSError):
                self._holder_path.unlink()

    def _holder(self) -> str:
        """Who holds the lock, in brackets; nothing where that cannot be read."""
        try:
            told = _HOLDER.fullmatch(self._holder_path.read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError):
            return ""
        return f" (process {told[1]}, since {told[2]} UTC)" if told else ""

    @property
    def _holder_path(self) -> Path:
        return self.root / ".lock-holder"

    def _unwritable(self, error: OSError) -> WorkspaceError:
        return WorkspaceError(f"Cannot write to {self.root}: {error}. Give another folder with --out.")

    # ------------------------------------------------------------------- the plan

    def write_plan(self, plan: RunPlan) -> None:
        write_text(self.plan_path, plan.model_dump_json(indent=1) + "\n")

    def read_plan(self) -> RunPlan:
        """Raises WorkspaceError where there is none, or one this version cannot read."""
        try:
            return RunPlan.model_validate_json(self.plan_path.read_text(encoding="utf-8"))
        except (FileNotFoundError, NotADirectoryError) as error:
            raise WorkspaceError(
                f"{self.root} is not a run folder: it has no run.json. "
                "Make one with `gapshift study` or `gapshift check`."
            ) from error
        except ValidationError as error:
            problem = error.errors()[0]
            where = ".".join(map(str, problem["loc"])) or "the whole file"
            raise self._unreadable_plan(f"{where}: {problem['msg']}") from error
        except (OSError, UnicodeDecodeError) as error:
            raise self._unreadable_plan(error) from error

    def refuse_other_command(self, command: str) -> None:
        """Raise WorkspaceError where the folder holds another command's run."""
        if self.plan_path.exists() and (found := self.read_plan().command) != command:
            raise WorkspaceError(f"{self.root} holds a run of `gapshift {found}`. Give another folder with --out.")

    def _unreadable_plan(self, problem: object) -> WorkspaceError:
        return WorkspaceError(
            f"{self.plan_path} cannot be read: {problem}. Make a new run folder, or use the version that wrote it."
        )

    # --------------------------------------------------------------------- stages

    def is_done(self, stage: str, key: str, *outputs: Path) -> bool:
        """Whether ``stage`` ended with exactly these inputs (``key``: their digest) and its outputs are still there."""
        mark = self.root / ".stages" / stage
        same = mark.exists() and mark.read_text(encoding="utf-8") == key
        return same and all(output.exists() for output in outputs)

    def mark_done(self, stage: str, key: str) -> None:
        """Say so; the last act of a stage."""
        write_text(self.root / ".stages" / stage, key)
        self.log("stage", stage=stage)

    # ---------------------------------------------------------------------- cells

    def finished(self, bundle: str, environment: str, key: str) -> bool:
        """Whether this very cell (same content address) already ran to an end.

        Errors and skipped cells are tried again.
        """
        path = self.cell_path(bundle, environment)
        if not path.exists():
            return False
        try:
            info, _ = read_cell(path)  # all of it: damaged rows are run again, too
        except WorkspaceError:
            return False
        return info.key == key and info.status in ("ok", "not_applicable")

    def answered(self) -> dict[str, Path]:
        """Where the cells that were answered lie, by content address; files that are no cells are left out."""
        found = {}
        for path in sorted(self.records.glob("*.parquet")):
            with suppress(WorkspaceError):
                info = read_cell_info(path)
                if info.status == "ok":
                    found[info.key] = path
        return found

    def write_cell(self, info: CellInfo, records: Records | None = None) -> None:
        write_cell(self.cell_path(info.bundle, info.environment), info, records)

    def remove_cell(self, bundle: str, environment: str) -> None:
        """Take a cell's file away, and the outputs that were kept under its name."""
        self.cell_path(bundle, environment).unlink(missing_ok=True)
        for path in (self.root / "outputs").glob(self.outputs_path(bundle, environment, "?" * 12).name):
            path.unlink()

    def read_cell(self, bundle: str, environment: str) -> tuple[CellInfo, Records] | None:
        """One cell, or None where it never ran."""
        path = self.cell_path(bundle, environment)
        return read_cell(path) if path.exists() else None

    def read_answers(self, bundle: str) -> tuple[CellInfo, Records] | None:
        """A bundle's training-side answers, or None where it came without."""
        path = self.answers_path(bundle)
        return read_cell(path) if path.exists() else None

    # -------------------------------------------------------------------- journal

    def log(self, event: str, **fields: Any) -> None:
        """Append one event with its UTC time to the journal. Raises WorkspaceError when it cannot."""
        now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
        line = json.dumps({"time": now, "event": event, **fields}) + "\n"
        try:
            self.root.mkdir(parents=True, exist_ok=True)
            with (self.root / "journal.jsonl").open("ab+") as file:
                file.write((_end_of_cut_line(file) + line).encode())
        except OSError as error:
            raise WorkspaceError(
                f"Cannot write the journal in {self.root}: {error}. Finished files are intact; "
                "free the disk and run again."
            ) from error

    def journal(self) -> Iterator[dict[str, Any]]:
        """Events in order; a line cut short by a kill is left out."""
        path = self.root / "journal.jsonl"
        for line in path.read_text(encoding="utf-8", errors="replace").splitlines() if path.exists() else ():
            try:
                yield json.loads(line)
            except json.JSONDecodeError:
                continue


def _end_of_cut_line(file: BinaryIO) -> str:
    """What has to stand before the next event: a kill may have cut the last line."""
    if not file.seek(0, os.SEEK_END):
        return ""
    file.seek(-1, os.SEEK_END)
    return "" if file.read(1) == b"\n" else "\n"
