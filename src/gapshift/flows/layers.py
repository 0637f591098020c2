"""``gapshift evaluate RUN --layers``: where a cell leaves the reference, and what made it.

Reads a finished run and runs none of its cells again. Models are opened on a level-balanced sample of the judged items.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gapshift.envs.cells import TaskItems
from gapshift.envs.layers.examine import examine
from gapshift.envs.layers.site import Sites, contract_of
from gapshift.envs.layers.told import RULES, examined_json
from gapshift.errors import (
    ContractError,
    GapshiftError,
    NotApplicableError,
    SettingsError,
    SkippedError,
    WorkspaceError,
)
from gapshift.export.model_file import describe
from gapshift.export.stamp import check_against
from gapshift.flows.again import moved_tasks, named_environments, only, with_items
from gapshift.flows.answer_causes import Trusted, answers_json, trusted_answers
from gapshift.flows.judging import Sets
from gapshift.flows.levels import read_rated
from gapshift.flows.reporting import Reporter, Silent
from gapshift.records import write_text
from gapshift.reports.drifting import Drift, drifts
from gapshift.reports.layer_words import finding
from gapshift.reports.renderers.layers import render_layers
from gapshift.reports.summary import summary_text
from gapshift.schema import REFERENCE, REFERENCE_ENVIRONMENT, Bundle, DataSource, Environment, RunPlan, environments_for
from gapshift.workspace import Workspace

FOLDER = "layers"
"""Where the findings lie, inside the run's folder, unless another one is given."""
ITEMS = 500
"""Items that models are opened on: a hundred of each level."""
MOST_CELLS = 8
"""Cells that are examined where none is named."""
_PREPARED = ".prepared-layers"
_CONVERTED = (
    "the run held no file of this cell that these library versions made, so it was converted again: a fault of the "
    "file that its records come from is not in it"
)
Json = dict[str, Any]


@dataclass(frozen=True)
class _Chosen:
    bundle: Bundle
    environment: Environment
    drift: Drift | None


def layers_run(
    run: Path,
    out: Path | None = None,
    *,
    environments: tuple[str, ...] = (),
    bundles: tuple[str, ...] = (),
    environment_file: Path | None = None,
    against: Path | None = None,
    items: int | None = ITEMS,
    data: str | None = None,
    calibration_data: DataSource | None = None,
    reporter: Reporter | None = None,
    debug: bool = False,
) -> tuple[Json, dict[str, Path]]:
    """Examine cells of a run, and write ``layers.json``, ``layers.md`` and ``layers.html``.

    ``environments``: which cells; ``reference`` is one: what explains that it differs from the trusted answers. None
    named: of each environment that changes predictions the model in which it changes most, named deployments first,
    ``MOST_CELLS`` at most; mistakes and stress only where they are deployments. ``bundles``: of which models (none:
    all). ``items``: on how many judged items, balanced over levels (None: all). ``against``: a model file that takes
    the reference's place, or the folder of another run whose answers to the same items are the trusted ones. Returns
    the summary and the files.
    Raises UnknownNameError for a name that does not exist, WorkspaceError for a folder that is no run, DataError where
    items are missing, ModelFileError for a file that is no model, and SettingsError for a model that fits none of the
    cells' contracts. One cell's trouble is that cell's entry.
    """
    reporter = reporter or Silent()
    source = Workspace(run)
    plan = only(source.read_plan(), bundles)
    changes = {"tasks": moved_tasks(plan, data, calibration_data), "notes": ()}
    plan, sets = with_items(plan.model_copy(update=changes), source)
    model, other_run = _against(against)
    with source.lock():
        drifting = drifts(source, plan)
        chosen, left = _choose(plan, environments, environment_file, drifting, model is not None, other_run is not None)
        target = out or run / FOLDER
        _refuse_unfit(model, chosen)
        notes = (*plan.notes, *_replaced(target))
        tasks = {name: _task(source, name, each) for name, each in sets.items()}
        reporter.stage("layers")
        with Sites(source, tasks, target / _PREPARED, items, plan.seed) as sites:
            examiner = _Examiner(source, plan, sites, model, other_run, debug)
            entries = [examiner.entry(each) for each in _told(chosen, reporter)]
        summary = _summary(run, items, against, entries, left) | {"notes": list(notes)}
        return summary, _written(target, summary)


def _told(chosen: list[_Chosen], reporter: Reporter) -> Any:
    for done, each in enumerate(chosen):
        reporter.progress(f"{each.bundle.name} in {each.environment.name}", done, len(chosen))
        yield each
    reporter.progress("cells", len(chosen), len(chosen))


def _against(path: Path | None) -> tuple[Path | None, Workspace | None]:
    """A model, or another run."""
    if path is None:
        return None, None
    if path.is_dir():
        Workspace(path).read_plan()
        return None, Workspace(path)
    if not path.exists():
        raise SettingsError(f"--against {path} does not exist. Give an ONNX file, or the folder of another run.")
    return path, None


def _refuse_unfit(model: Path | None, chosen: list[_Chosen]) -> None:
    """A model in the reference's place takes what one of the cells' models takes."""
    if model is None:
        return
    graph, refused = describe(model), []
    for bundle in {each.bundle.name: each.bundle for each in chosen}.values():
        try:
            contract = contract_of(model, bundle)
            check_against(contract, graph, model.name)
            if contract.domain == bundle.contract.domain:
                return
            refused.append(f"{bundle.name} is of domain {bundle.contract.domain!r}, the file of {contract.domain!r}.")
        except ContractError as error:
            refused.append(f"{bundle.name}: {error}")
    if refused:
        raise SettingsError(
            f"--against {model} is a model of another kind than those it would be compared with. Give the file as it "
            f"was before it was shipped, and name its model with --bundle. {refused[0]}"
        )


def _replaced(target: Path) -> tuple[str, ...]:
    """A note where an earlier call's findings make way."""
    if not (target / "layers.json").exists():
        return ()
    return (f"what an earlier call found in {target.name}/ is replaced; --out FOLDER keeps findings beside each other",)


def _task(source: Workspace, name: str, sets: Sets) -> TaskItems:
    return TaskItems(sets.judged, sets.calibration, read_rated(source.items_path, name).strata())


def _choose(
    plan: RunPlan,
    names: tuple[str, ...],
    file: Path | None,
    drifting: list[Drift],
    model: bool,
    other_run: bool,
) -> tuple[list[_Chosen], list[Json]]:
    """The cells to examine, and the drifting ones that are left out."""
    bundles = {bundle.name: bundle for bundle in plan.bundles}
    known = {(drift.bundle, drift.environment): drift for drift in drifting}
    if not names and (model or other_run):
        names = (REFERENCE,)
    if names:
        named = named_environments(plan, names, file)
        pairs = [(b, e) for b in plan.bundles for e in environments_for(b, plan.bundles, named)]
        return [_Chosen(b, e, known.get((b.name, e.name))) for b, e in pairs], []
    planned = {REFERENCE: REFERENCE_ENVIRONMENT} | {environment.name: environment for environment in plan.environments}
    moved = [drift for drift in drifting if _moved(drift) and _is_asked(planned[drift.environment], plan)]
    worst = {(bundles[each.bundle].task, each.environment): each for each in reversed(moved)}
    first = sorted(worst.values(), key=lambda each: (each.environment not in plan.deployments, -each.share))[
        :MOST_CELLS
    ]
    chosen = [_Chosen(bundles[each.bundle], planned[each.environment], each) for each in first]
    return chosen, [drift.as_json() for drift in moved if drift not in first]


def _moved(drift: Drift) -> bool:
    """Whether predictions changed; a reference that cannot be judged at all is worth a look, too."""
    return drift.changed > 0 or (drift.environment == REFERENCE and bool(drift.problem))


def _is_asked(environment: Environment, plan: RunPlan) -> bool:
    """Mistakes and stress are there to break: what breaks them is known. Named deployments are asked whatever they
    are."""
    return environment.kind in ("equivalent", "lossy") or environment.name in plan.deployments


class _Examiner:
    """Makes the entry of one cell after the other."""

    def __init__(
        self,
        source: Workspace,
        plan: RunPlan,
        sites: Sites,
        model: Path | None,
        other_run: Workspace | None,
        debug: bool,
    ) -> None:
        self._source, self._plan, self._sites, self._debug = source, plan, sites, debug
        self._model, self._other_run = model, other_run

    def entry(self, chosen: _Chosen) -> Json:
        """What was found; a cell that cannot be examined says why."""
        head: Json = {
            "bundle": chosen.bundle.name,
            "environment": chosen.environment.name,
            "kind": chosen.environment.kind,
            "deviations": dict(chosen.environment.deviations),
            "drift": chosen.drift.as_json() if chosen.drift else None,
            "status": "ok",
            "reason": "",
        }
        try:
            entry = head | self._found(chosen)
        except NotApplicableError as error:
            entry = head | {"status": "not_applicable", "reason": str(error)}
        except SkippedError as error:
            entry = head | {"status": "skipped", "reason": str(error)}
        except WorkspaceError:
            raise
        except GapshiftError as error:
            entry = head | {"status": "error", "reason": str(error)}
        except Exception as error:  # one cell's trouble takes no other with it
            if self._debug:
                raise
            entry = head | {"status": "error", "reason": f"{type(error).__name__}: {error or 'it says no more'}"}
        return entry | {"finding": finding(entry)}

    def _found(self, chosen: _Chosen) -> Json:
        found: Json = {"engine": None, "layers": None, "answers": None}
        is_reference = chosen.environment.name == REFERENCE
        if not is_reference or self._model is not None:
            site = self._sites.site(chosen.bundle, chosen.environment, self._model)
            found |= {"engine": site.cell.deployment.runtime.engine, **examined_json(examine(site))}
            if site.converted and chosen.drift is not None:
                found["notes"] = [*found["notes"], _CONVERTED]
        if is_reference and self._model is None:
            found["answers"] = self._answers(chosen.bundle)
        return found

    def _answers(self, bundle: Bundle) -> Json:
        trusted: Trusted = trusted_answers(self._source, bundle, self._sites.inputs(bundle).dataset, self._other_run)
        return answers_json(bundle, self._sites, trusted, self._plan.alpha, self._plan.seed)


def _summary(run: Path, items: int | None, against: Path | None, entries: list[Json], left: list[Json]) -> Json:
    return {
        "schema_version": 1,
        "command": "layers",
        "run": run.name,
        "items": items,
        "against": against.name if against else None,
        "rules": RULES,
        "most_cells": MOST_CELLS,
        "cells": entries,
        "left_out": left,
    }


def _written(target: Path, summary: Mapping[str, Any]) -> dict[str, Path]:
    texts = {"layers.json": summary_text(dict(summary)), **render_layers(dict(summary))}
    for name, text in texts.items():
        write_text(target / name, text)
    return {name: target / name for name in texts}
