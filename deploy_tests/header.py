"""What a session says before its first test."""

from __future__ import annotations

from pathlib import Path

from gapshift import __version__
from gapshift.deploy_tests.baseline import Baseline, read_baseline
from gapshift.deploy_tests.machine import fingerprint
from gapshift.deploy_tests.settings import PytestSettings
from gapshift.errors import SettingsError


def header(settings: PytestSettings, where: str) -> list[str]:
    """The lines of the header: what is tested, on what machine, against which baseline."""
    what = f"model {settings.model}, data {settings.data}" if settings.model else "no model: the demo's bundles"
    limits = f"margin {settings.margin_pp:g} pp, inconclusive: {settings.inconclusive}"
    lines = [f"{what}, {_environments(settings)}, {limits}" + (f" (settings: {where})" if where else "")]
    lines.append(f"machine: {fingerprint()}")
    if folder := settings.path("baseline"):
        lines.append(f"baseline: {_baseline_line(folder)}")
    return [f"gapshift {__version__}: {lines[0]}", *(f"gapshift {line}" for line in lines[1:])]


def _baseline_line(folder: Path) -> str:
    """It is missed only where a run is asked for, so that is no error here."""
    try:
        return baseline_line(read_baseline(folder))
    except SettingsError as error:
        return f"WARNING: {error}"


def baseline_line(baseline: Baseline) -> str:
    """The baseline's folder and verdict, and what this machine differs in from the one that it ran on."""
    differ = baseline.differences()
    machine = f"WARNING: it ran elsewhere: {'; '.join(differ)}" if differ else "same CPU features and library versions"
    return f"{baseline.run.folder} ({baseline.run.verdict}); {machine}"


def _environments(settings: PytestSettings) -> str:
    if not settings.model:
        return "its environments"
    named = [*settings.environments, *(f"group {name}" for name in settings.groups)]
    return f"environments {', '.join(named)}" if named else "the whole catalog"
