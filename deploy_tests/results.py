"""What tests read: a judged run, its cells, their levels. From ``summary.json`` alone, by the standard library."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

from gapshift.errors import UnknownNameError

Json = Mapping[str, Any]
LEVELS = (1, 2, 3, 4, 5)
ALL = "all"
"""What stands for all levels together where a level is asked for."""


@final
@dataclass(frozen=True, eq=False, repr=False)
class GapshiftRun:
    """A judged run: what the fixture ``gapshift_run`` gives. ``summary`` is its ``summary.json``."""

    summary: Json
    folder: Path

    def __repr__(self) -> str:  # pytest shows it in every failure
        return f"<GapshiftRun {self.verdict} in {self.folder}>"

    @property
    def verdict(self) -> str:
        """PASS, FAIL, INCONCLUSIVE, ERROR or NO DATA, over everything that is gated."""
        return str(self.summary["verdict"])

    @property
    def reasons(self) -> tuple[str, ...]:
        """Why, worst first."""
        return tuple(self.summary["reasons"])

    @property
    def margin_pp(self) -> float:
        """The largest acceptable drop per level, in percentage points."""
        return float(self.summary["margin_pp"])

    @property
    def report(self) -> Path:
        """The page to send round."""
        return self.folder / "report.html"

    @property
    def bundles(self) -> tuple[str, ...]:
        """The names of the run's models, in its order."""
        return tuple(bundle["name"] for bundle in self.summary["bundles"])

    def cell(self, environment: str, bundle: str | None = None) -> GapshiftCell:
        """One model in one environment; ``bundle`` may be left out where the run has one model.

        Raises UnknownNameError, with the nearest names, for an environment or a bundle that the run does not have.
        """
        name = self._bundle(bundle)
        mine = {str(cell["environment"]): cell for cell in self.summary["cells"] if cell["bundle"] == name}
        if environment not in mine:
            raise UnknownNameError(
                f"environment of {name} in this run",
                environment,
                mine,
                "The run evaluates what its options and its configuration name: add it to `environments` there "
                "(--gapshift-environment NAME).",
            )
        return GapshiftCell(mine[environment], self)

    def _bundle(self, name: str | None) -> str:
        known = self.bundles
        if name is None and len(known) == 1:
            return known[0]
        if name not in known:
            raise UnknownNameError("bundle of this run", name or "(none named)", known, "Name one as `bundle`.")
        return name


@final
@dataclass(frozen=True, eq=False, repr=False)
class GapshiftCell:
    """One model in one environment. ``summary`` is the cell as ``summary.json`` has it."""

    summary: Json
    run: GapshiftRun

    def __repr__(self) -> str:
        return f"<GapshiftCell {self.bundle} in {self.environment}: {self.verdict}>"

    @property
    def bundle(self) -> str:
        return str(self.summary["bundle"])

    @property
    def environment(self) -> str:
        return str(self.summary["environment"])

    @property
    def verdict(self) -> str:
        """The cell's verdict, which decides nothing unless it is ``gated``."""
        return str(self.summary["verdict"])

    @property
    def reason(self) -> str:
        return str(self.summary["reason"])

    @property
    def gated(self) -> bool:
        """Whether the run's verdict rests on this cell."""
        return bool(self.summary["gated"])

    @property
    def deviations(self) -> Mapping[str, Any]:
        """What the environment does otherwise than training: dotted keys with values."""
        return dict(self.summary["deviations"])

    def level(self, level: int | str) -> GapshiftLevel:
        """One of the levels 1 to 5, or ``"all"`` of them together. Raises UnknownNameError for another."""
        key = str(level)
        if isinstance(level, bool) or key not in (*map(str, LEVELS), ALL):
            raise UnknownNameError("level", key, (*map(str, LEVELS), ALL))
        return GapshiftLevel(key, self)


@final
@dataclass(frozen=True, eq=False, repr=False)
class GapshiftLevel:
    """A cell's answers to the items of one level. ``key`` is ``"1"`` to ``"5"`` or ``"all"``."""

    key: str
    cell: GapshiftCell

    def __repr__(self) -> str:
        return f"<GapshiftLevel {self.name} of {self.cell.bundle} in {self.cell.environment}: {self.verdict}>"

    def _at(self, name: str) -> Any:
        return (self.cell.summary.get(name) or {}).get(self.key)

    @property
    def name(self) -> str:
        return "all levels together" if self.key == ALL else f"level {self.key}"

    @property
    def verdict(self) -> str:
        """Of the level's band, where levels are judged in bands; of the cell, where all levels are asked for."""
        return str(self.cell.verdict if self.key == ALL else self.cell.summary["levels"][self.key])

    @property
    def reason(self) -> str:
        """Why, in plain words; which band it speaks of, where levels are judged in bands."""
        reason = self.cell.reason if self.key == ALL else str(self.cell.summary["level_reasons"][self.key])
        return f"{_words(self.band)} are judged as one band: {reason}" if len(self.band) > 1 else reason

    @property
    def band(self) -> tuple[int, ...]:
        """The levels that are judged together with this one, itself among them; none for all levels together."""
        bands = (tuple(band) for band in self.cell.summary["bands"])
        return next((band for band in bands if self.key in map(str, band)), ())

    @property
    def n(self) -> int:
        """How many pairs of answers there are."""
        return int(self._at("n_by_level") or 0)

    @property
    def drop_pp(self) -> Json | None:
        """``estimate``, ``low`` and ``high`` in percentage points; None where nothing was measured."""
        found: Json | None = self._at("drop_pp")
        return found

    @property
    def churn(self) -> Json | None:
        """Share of the predictions that change: ``estimate``, ``low``, ``high``."""
        found: Json | None = self._at("churn")
        return found

    @property
    def lost(self) -> int:
        """Items right in the reference and wrong in the environment."""
        return int((self.cell.summary.get("flips") or {}).get("right_to_wrong", {}).get(self.key) or 0)

    @property
    def gained(self) -> int:
        """Items wrong in the reference and right in the environment."""
        return int((self.cell.summary.get("flips") or {}).get("wrong_to_right", {}).get(self.key) or 0)

    @property
    def reference_accuracy(self) -> float | None:
        """Share of the items that the reference has right."""
        found: float | None = self._at("reference_accuracy")
        return found

    @property
    def at_floor(self) -> bool:
        """Whether the reference is near chance here, so that a drop says nothing."""
        return self.key in map(str, self.cell.summary.get("floor") or ())

    @property
    def decides(self) -> bool:
        """Whether the run's verdict rests on it: gated, and no floor that is left out."""
        left_out = self.key in map(str, self.cell.summary["undecided_floor"]) and not self.cell.run.summary["strict"]
        return self.cell.gated and not left_out


def read_run(folder: Path) -> GapshiftRun:
    """The run of a folder. Raises OSError and ValueError where its ``summary.json`` cannot be read."""
    return GapshiftRun(json.loads((folder / "summary.json").read_text(encoding="utf-8")), folder)


def _words(band: tuple[int, ...]) -> str:
    """
    >>> _words((1, 2))
    'levels 1-2'
    """
    return f"levels {band[0]}-{band[-1]}" if len(band) > 1 else f"level {band[0]}"
