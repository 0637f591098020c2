"""An earlier run to compare with: its levels, its machine, its drops."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gapshift.deploy_tests.machine import differences
from gapshift.deploy_tests.results import LEVELS, GapshiftCell, GapshiftRun, Json
from gapshift.errors import SettingsError

ITEMS = "items.parquet"


@dataclass(frozen=True, eq=False)
class Baseline:
    """An earlier run."""

    run: GapshiftRun

    def differences(self) -> list[str]:
        """What this machine differs in from the baseline's, in words; empty where it is alike."""
        summary = self.run.summary
        found = [cell.get("execution") for cell in summary["cells"]]
        found += [(bundle.get("reference") or {}).get("execution") for bundle in summary["bundles"]]
        return differences(execution for execution in found if execution)

    def cell(self, now: GapshiftCell) -> GapshiftCell | str:
        """The same cell then, or why there is none."""
        bundle = self._bundle(now)
        if bundle is None:
            return f"the baseline has no bundle {now.bundle}; it has {', '.join(self.run.bundles)}"
        for cell in self.run.summary["cells"]:
            if (cell["bundle"], cell["environment"]) == (bundle, now.environment):
                if cell.get("deviations") != dict(now.deviations):
                    return "the baseline has an environment of this name with other deviations"
                return GapshiftCell(cell, self.run)
        return "not in the baseline"

    def _bundle(self, now: GapshiftCell) -> str | None:
        """A new version of the only model may have another name; among several the name tells which."""
        if now.bundle in self.run.bundles:
            return now.bundle
        alone = len(self.run.bundles) == len(now.run.bundles) == 1
        return self.run.bundles[0] if alone else None

    def other_pairs(self, then: GapshiftCell, now: GapshiftCell) -> str:
        """Whether drops then and now are of the same items at the same levels; empty where they are."""
        if _items(then) != _items(now):
            return "it judged other items"
        moved = [level for level in LEVELS if then.level(level).n != now.level(level).n]
        return f"other numbers of items at level {', '.join(map(str, moved))}" if moved else ""


def read_baseline(folder: Path) -> Baseline:
    """The run of a folder. Raises SettingsError where it is none, or an unfinished one."""
    missing = [name for name in ("summary.json", ITEMS) if not (folder / name).is_file()]
    if missing:
        raise SettingsError(
            f"The baseline {folder} has no {' and no '.join(missing)}. Give the folder of a finished run "
            "(`gapshift check --out`, --gapshift-report)."
        )
    try:
        summary: dict[str, Any] = json.loads((folder / "summary.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise SettingsError(f"The baseline's {folder / 'summary.json'} cannot be read: {error}.") from error
    wanted = ("cells", "bundles", "tasks", "verdict")
    if not isinstance(summary, dict) or any(key not in summary for key in wanted):
        raise SettingsError(f"The baseline's {folder / 'summary.json'} is no summary: it lacks {', '.join(wanted)}.")
    return Baseline(GapshiftRun(summary, folder))


def _items(cell: GapshiftCell) -> str | None:
    """The digest of the items that judged a cell."""
    summary: Json = cell.run.summary
    task = next((bundle["task"] for bundle in summary["bundles"] if bundle["name"] == cell.bundle), None)
    return next((each["items"] for each in summary["tasks"] if each["name"] == task), None)


def then_and_now(baseline: Baseline, cells: list[GapshiftCell]) -> Iterator[str]:
    """A line for every cell: its drops now, and in brackets then. What the baseline does not have is said."""
    width = max((len(_name(cell)) for cell in cells), default=0)
    for now in cells:
        then = baseline.cell(now)
        if isinstance(then, str):
            yield f"{_name(now):<{width}}  {then}"
            continue
        drops = "  ".join(f"L{level} {_drop(now, level)} ({_drop(then, level)})" for level in LEVELS)
        other = baseline.other_pairs(then, now)
        yield f"{_name(now):<{width}}  {drops}" + (f"  [{other}]" if other else "")


def _name(cell: GapshiftCell) -> str:
    return cell.environment if len(cell.run.bundles) == 1 else f"{cell.bundle} {cell.environment}"


def _drop(cell: GapshiftCell, level: int) -> str:
    """A drop in pp with its floor's asterisk, as the summary's table has it; ``-`` where there is none."""
    found = cell.level(level)
    if found.drop_pp is None:
        return "-"
    return f"{round(found.drop_pp['estimate'], 1) + 0.0:.1f}" + "*" * found.at_floor  # + 0.0: no minus before a zero
