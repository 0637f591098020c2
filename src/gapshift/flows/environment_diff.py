"""``gapshift envs diff A B``: what two environments, two machines or two runs differ in."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from deepdiff import DeepDiff

from gapshift.envs.catalog import own, select
from gapshift.errors import SettingsError, UnknownNameError, UsageError, WorkspaceError
from gapshift.records import read_cell_info
from gapshift.schema import REFERENCE_ENVIRONMENT, Execution
from gapshift.workspace import Workspace

Kind = Literal["environment", "machine", "run"]
_SECTIONS = ("machine", "versions", "providers")
"""What ``gapshift doctor --json`` cannot be without."""
_MISSING = object()
_WHAT = {
    "environment": "an environment",
    "machine": "a machine (a file of `gapshift doctor --json`)",
    "run": "a run folder",
}


@dataclass(frozen=True)
class Side:
    """One of the two that are compared: ``tree`` holds what can differ."""

    name: str
    kind: Kind
    tree: Mapping[str, Any]


@dataclass(frozen=True)
class Difference:
    """Paths (keys joined by dots) with their values in A alone, in B alone, and in both where they differ."""

    a: Side
    b: Side
    only_in_a: dict[str, Any] = field(default_factory=dict)
    only_in_b: dict[str, Any] = field(default_factory=dict)
    different: dict[str, tuple[Any, Any]] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        """Plain types, with the names and the kind of the two."""
        return {
            "kind": self.a.kind,
            "a": self.a.name,
            "b": self.b.name,
            "only_in_a": self.only_in_a,
            "only_in_b": self.only_in_b,
            "different": {path: list(pair) for path, pair in self.different.items()},
        }


def compare(a: str, b: str, environment_file: Path | None = None) -> Difference:
    """What A and B differ in. Each is an environment's name, a file of ``gapshift doctor --json``, or a run folder.

    Raises UsageError where they are of two kinds, UnknownNameError for what is neither a name nor a path, and
    SettingsError or WorkspaceError for a path that holds something else.
    """
    one, other = _side(a, environment_file), _side(b, environment_file)
    if one.kind != other.kind:
        raise UsageError(
            f"{a} is {_WHAT[one.kind]} and {b} is {_WHAT[other.kind]}; give two of one kind: names that "
            "`gapshift envs list` has, files of `gapshift doctor --json`, or run folders."
        )
    if one.kind == "run":
        one, other = _of_common_cells(one, other), _of_common_cells(other, one)
    return _differences(one, other)


# ------------------------------------------------------------------------------ what is compared


def _side(name: str, environment_file: Path | None) -> Side:
    extra = {REFERENCE_ENVIRONMENT.name: REFERENCE_ENVIRONMENT} | own(environment_file)
    path = Path(name)
    known = {environment.name: environment for environment in select(extra=extra)}
    if name in known:
        return Side(name, "environment", known[name].deviations)
    if path.is_dir():
        return Side(name, "run", _ran(path))
    if path.is_file():
        return Side(name, "machine", _machine(path))
    raise UnknownNameError(
        "environment",
        name,
        known,
        "There is no file or folder of that name either; machines are compared by what "
        "`gapshift doctor --json > machine.json` wrote there, or by run folders.",
    )


def _machine(path: Path) -> dict[str, Any]:
    try:
        tree = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise SettingsError(f"{path} is not readable JSON: {error}. Write it with `gapshift doctor --json`.") from error
    if not isinstance(tree, dict) or any(not isinstance(tree.get(section), dict) for section in _SECTIONS):
        raise SettingsError(
            f"{path} is not what `gapshift doctor --json` writes: it has no {', '.join(_SECTIONS)}. "
            "Run `gapshift doctor --json > machine.json` on the machine."
        )
    return tree


def _ran(path: Path) -> dict[str, Any]:
    """What a run's cells say ran, together: library versions, CPU features, providers, and formats by cell."""
    workspace = Workspace(path)
    workspace.read_plan()
    cells = [read_cell_info(file) for file in sorted(workspace.records.glob("*.parquet"))]
    executed = {f"{cell.bundle} in {cell.environment}": cell.execution for cell in cells if cell.execution}
    if not executed:
        raise WorkspaceError(f"{path} has no cell that ran, so nothing says what it ran on. Evaluate it first.")
    versions = defaultdict[str, set[str]](set)
    for execution in executed.values():
        for library, version in execution.versions.items():
            versions[library].add(version)
    return {
        "versions": {library: ", ".join(sorted(found)) for library, found in sorted(versions.items())},
        "cpu_flags": sorted({flag for execution in executed.values() for flag in execution.cpu_flags}),
        "providers": sorted({used for execution in executed.values() for used in _providers(execution)}),
        "executed": {name: execution.executed for name, execution in executed.items()},
    }


def _providers(execution: Execution) -> Iterable[str]:
    return (f"{execution.engine}: {provider}" for provider in execution.providers or (execution.provider,))


def _of_common_cells(side: Side, other: Side) -> Side:
    """Without formats of cells that the other run does not have: other plans are no difference of machines."""
    executed = {cell: form for cell, form in side.tree["executed"].items() if cell in other.tree["executed"]}
    return Side(side.name, side.kind, {**side.tree, "executed": executed})


# --------------------------------------------------------------------------------- differences


def _differences(one: Side, other: Side) -> Difference:
    found = Difference(one, other)
    named = one.kind != "environment"  # a machine's lists hold names; an environment's values are whole
    # Zero: trees that share few keys are compared key by key too.
    diff = DeepDiff(one.tree, other.tree, view="tree", ignore_order=named, threshold_to_diff_deeper=0)
    for path in _paths(diff):
        mine, its = _at(one.tree, path), _at(other.tree, path)
        said = ".".join(path)
        if named and isinstance(mine, list) and isinstance(its, list):
            mine, its = _without(mine, its), _without(its, mine)
        elif mine is not _MISSING and its is not _MISSING:
            found.different[said] = (mine, its)
            continue
        if mine is not _MISSING:
            found.only_in_a[said] = mine
        if its is not _MISSING:
            found.only_in_b[said] = its
    return found


def _without(names: list[Any], others: list[Any]) -> Any:
    """The names that the others do not have; _MISSING for none."""
    return [name for name in names if name not in others] or _MISSING


def _paths(diff: Any) -> list[tuple[str, ...]]:
    """Each difference's keys from the root, up to the first list; in order, once each."""
    paths = set()
    for levels in diff.values():
        for level in levels:
            keys = level.path(output_format="list")
            whole = next((place for place, key in enumerate(keys) if not isinstance(key, str)), len(keys))
            paths.add(tuple(keys[:whole]))
    return sorted(paths)


def _at(tree: Any, path: tuple[str, ...]) -> Any:
    for key in path:
        if not isinstance(tree, Mapping) or key not in tree:
            return _MISSING
        tree = tree[key]
    return tree
