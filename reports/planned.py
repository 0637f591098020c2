"""Every planned cell, found on disk, paired with its reference and measured."""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial

from gapshift.errors import UnknownNameError
from gapshift.records import Records
from gapshift.reports.bands import bands_of
from gapshift.reports.cells import Json, empty_measurement, measure
from gapshift.reports.counts import Counts, count_levels
from gapshift.reports.gate import Band, BandVerdict, Rule
from gapshift.reports.load import (
    UNREADABLE_SHARE,
    Cell,
    Pairing,
    Pairs,
    RatedItems,
    Reference,
    load_cell,
    load_items,
    pair,
    reference_of,
)
from gapshift.reports.read_cells import measure_read
from gapshift.reports.sequential import (
    BandReading,
    in_reading_order,
    joined,
    orders_of,
    replayed,
    sequential_rule,
)
from gapshift.reports.services import service_remarks
from gapshift.reports.statistics import SequentialRule
from gapshift.schema import (
    REFERENCE,
    REFERENCE_ENVIRONMENT,
    TRAINING,
    Bundle,
    CalibrationCard,
    CellInfo,
    Environment,
    RunPlan,
    answers_key,
    cell_basis,
)
from gapshift.workspace import Workspace

TRAINING_ENVIRONMENT = Environment(
    name=TRAINING, kind="equivalent", summary="The framework that trained the model, on the same items."
)
OTHER_PLAN = "its records were made for another model, contract, environment or items; run `gapshift evaluate` again"


@dataclass(frozen=True, eq=False)
class MeasuredCell:
    """One planned cell before it is judged.

    ``blocked`` is the verdict of a cell that cannot be judged, whatever its numbers.
    ``counts`` holds the pairs' counts per gated band. Where the cell was read until it was decided, ``readings``
    tells of each band, and pairs and counts end at its decision; ``answers`` were given in all.
    """

    bundle: Bundle
    environment: Environment
    named: bool
    gated: bool
    info: CellInfo | None
    pairs: Pairs | None
    measurement: Json
    counts: dict[Band, Counts]
    bands: tuple[Band, ...]
    blocked: BandVerdict | None
    remarks: tuple[str, ...]
    subsampled: bool
    readings: Mapping[Band, BandReading] | None = None
    answers: int = 0

    @property
    def equivalent(self) -> bool:
        return self.environment.kind == "equivalent"


@dataclass(frozen=True, eq=False)
class MeasuredBundle:
    """A bundle's reference (or why it has none) and its cells in plan order."""

    bundle: Bundle
    items: RatedItems
    reference_cell: Cell
    reference: Reference | str
    cells: tuple[MeasuredCell, ...]


@dataclass(frozen=True, eq=False)
class MeasuredRun:
    """A run's folder, read and measured."""

    plan: RunPlan
    rule: Rule
    cards: tuple[CalibrationCard, ...]
    bundles: tuple[MeasuredBundle, ...]

    @property
    def cells(self) -> tuple[MeasuredCell, ...]:
        return tuple(cell for bundle in self.bundles for cell in bundle.cells)


def read_run(workspace: Workspace, plan: RunPlan | None = None, *, counts_alone: bool = False) -> MeasuredRun:
    """Read the plan, the items and all planned cells; with ``plan``, a part of the run's own, that part alone.

    ``counts_alone``: cells have what their verdicts need, and an empty ``measurement``, which is most of the work.
    Raises WorkspaceError when plan or items cannot be read, and UnknownNameError for a
    deployment that is not among the planned environments.
    """
    plan = plan or workspace.read_plan()
    environments = [environment.name for environment in plan.environments]
    for name in plan.deployments:
        if name not in environments:
            raise UnknownNameError("deployment", name, environments, "Plan it as an environment and run again.")
    items_of, cards = load_items(workspace)
    rule = Rule(margin=plan.margin_pp / 100, alpha=plan.alpha, strict=plan.strict)
    if plan.sequential:
        rule = replace(rule, errors=sequential_rule(rule, planned_tests(workspace, workspace.read_plan(), cards)))
    bundles = tuple(
        _measure_bundle(
            workspace, plan, bundle, items_of(bundle.task), bands_of(cards, bundle.task), rule, counts_alone
        )
        for bundle in plan.bundles
    )
    return MeasuredRun(plan, rule, cards, bundles)


def planned_tests(workspace: Workspace, plan: RunPlan, cards: tuple[CalibrationCard, ...]) -> int:
    """Cell × band of everything that a plan judges, training-side answers among it, whether or not it can run."""
    return sum(
        sum(1 for _ in _planned_environments(workspace, plan, bundle)) * len(bands_of(cards, bundle.task))
        for bundle in plan.bundles
    )


def _measure_bundle(
    workspace: Workspace,
    plan: RunPlan,
    bundle: Bundle,
    items: RatedItems,
    bands: tuple[Band, ...],
    rule: Rule,
    counts_alone: bool,
) -> MeasuredBundle:
    reference_cell = planned_cell(workspace, plan, bundle, REFERENCE_ENVIRONMENT)
    reference = reference_of(reference_cell, items)
    cells = tuple(
        _measure_cell(plan, bundle, environment, cell, reference_cell, reference, bands, rule, counts_alone)
        for environment, cell in _planned(workspace, plan, bundle)
    )
    return MeasuredBundle(bundle, items, reference_cell, reference, cells)


def _planned(workspace: Workspace, plan: RunPlan, bundle: Bundle) -> Iterator[tuple[Environment, Cell]]:
    for environment in _planned_environments(workspace, plan, bundle):
        training = environment is TRAINING_ENVIRONMENT
        cell = training_answers(workspace, bundle) if training else planned_cell(workspace, plan, bundle, environment)
        yield environment, cell


def _planned_environments(workspace: Workspace, plan: RunPlan, bundle: Bundle) -> Iterator[Environment]:
    """That of the training-side answers where there are any, then the others in plan order."""
    if workspace.answers_path(bundle.name).exists():
        yield TRAINING_ENVIRONMENT
    for environment in plan.environments_of(bundle):
        if environment.name not in (REFERENCE, TRAINING):
            yield environment


def training_answers(workspace: Workspace, bundle: Bundle) -> Cell:
    """A bundle's training-side answers, or the problem that they are missing or another model's."""
    cell = load_cell(partial(workspace.read_answers, bundle.name))
    if cell.info is None or cell.info.key == answers_key(bundle):
        return cell
    return Cell(None, None, OTHER_PLAN)


def planned_cell(workspace: Workspace, plan: RunPlan, bundle: Bundle, environment: Environment) -> Cell:
    """A cell as planned, or the problem that its file is missing, another cell's or another plan's."""
    cell = load_cell(partial(workspace.read_cell, bundle.name, environment.name))
    if cell.info is None:
        return cell
    if (cell.info.bundle, cell.info.environment) != (bundle.name, environment.name):
        return Cell(None, None, f"its record file belongs to {cell.info.bundle} in {cell.info.environment}")
    # An empty basis is no excuse: records that do not say what they answer could answer anything.
    if cell.info.basis != cell_basis(bundle, environment, plan.task(bundle.task).items):
        return Cell(None, None, OTHER_PLAN)
    return cell


def _measure_cell(
    plan: RunPlan,
    bundle: Bundle,
    environment: Environment,
    cell: Cell,
    reference_cell: Cell,
    reference: Reference | str,
    bands: tuple[Band, ...],
    rule: Rule,
    counts_alone: bool,
) -> MeasuredCell:
    named = environment.name in plan.deployments
    pairing = _pairing(reference, cell.info, cell.records, environment.subsample or plan.sequential)
    seed = zlib.crc32(f"{plan.seed}/{bundle.name}/{environment.name}".encode())
    pairs, measurement, counts, readings = None, empty_measurement(), {}, None
    if isinstance(reference, Reference) and pairing is not None:
        pairs = pairing.pairs
        if rule.errors is not None:
            pairing, readings = _read(pairing, reference, environment, bands, rule.errors, plan.seed)
            pairs = joined([reading.pairs for reading in readings.values()])
            measurement = measure_read(pairs, readings, rule)
        elif not counts_alone:
            measurement = measure(pairs, reference.items, rule, seed)
        counts = {band: count_levels(pairs, band) for band in bands}
    return MeasuredCell(
        bundle=bundle,
        environment=environment,
        named=named,
        gated=is_gated(environment, named, cell, plan.strict),
        info=cell.info,
        pairs=pairs,
        measurement=measurement,
        counts=counts,
        bands=bands,
        blocked=blocked_by(cell, reference_cell, reference, pairing),
        remarks=(*(pairing.remarks if pairing else ()), *service_remarks(cell.info, pairs, bundle.contract.domain)),
        subsampled=environment.subsample and readings is None,
        readings=readings,
        answers=len(cell.records) if cell.records is not None and environment is not TRAINING_ENVIRONMENT else 0,
    )


def counted_cell(
    bundle: Bundle,
    environment: Environment,
    cell: Cell,
    reference_cell: Cell,
    reference: Reference | str,
    bands: tuple[Band, ...],
    *,
    named: bool,
    gated: bool,
) -> MeasuredCell:
    """A cell against a reference with all that its verdict over every item needs, and nothing else measured."""
    pairing = _pairing(reference, cell.info, cell.records, environment.subsample)
    pairs = pairing.pairs if pairing else None
    return MeasuredCell(
        bundle=bundle,
        environment=environment,
        named=named,
        gated=gated,
        info=cell.info,
        pairs=pairs,
        measurement=empty_measurement(),
        counts={band: count_levels(pairs, band) for band in bands} if pairs is not None else {},
        bands=bands,
        blocked=blocked_by(cell, reference_cell, reference, pairing),
        remarks=(*(pairing.remarks if pairing else ()), *service_remarks(cell.info, pairs, bundle.contract.domain)),
        subsampled=environment.subsample,
    )


def _read(
    pairing: Pairing,
    reference: Reference,
    environment: Environment,
    bands: tuple[Band, ...],
    errors: SequentialRule,
    seed: int,
) -> tuple[Pairing, dict[Band, BandReading]]:
    """A cell's bands, read again; what keeps its records from being a reading is a problem of the pairing."""
    unreadable = reference.position[(reference.records.status == "unreadable") & (reference.position >= 0)]
    orders, training = orders_of(reference.items, bands, seed, unreadable), environment is TRAINING_ENVIRONMENT
    # Training's answers are of every item, in the order of the data.
    pairs = in_reading_order(pairing.pairs, reference.items, orders) if training else pairing.pairs
    readings, problem = replayed(pairs, orders, environment.kind == "equivalent", errors)
    there, lost = sum(map(len, orders.values())) + reference.unreadable, reference.unreadable
    problems = [problem] if problem else []
    if pairing.unknown and not training:
        problems.append(f"{pairing.unknown} items were read that the reference has not answered")
    if lost > UNREADABLE_SHARE * there:
        problems.append(f"{lost} of {there} items cannot be read (at most 0.1% may be)")
    remarks = [f"{lost} items that cannot be read, outside the pairs"] if lost else []
    problems, remarks = [*pairing.problems, *problems], [*pairing.remarks, *remarks]
    return replace(pairing, problems=tuple(problems), remarks=tuple(remarks)), readings


def _pairing(
    reference: Reference | str, info: CellInfo | None, records: Records | None, subsample: bool
) -> Pairing | None:
    if isinstance(reference, str) or info is None or records is None or info.status != "ok":
        return None
    return pair(reference, records, subsample)


def gated_tests(workspace: Workspace, plan: RunPlan) -> int:
    """How many gated cell × level tests a run's plan holds: its Holm family."""
    _, cards = load_items(workspace)
    return sum(
        len(bands_of(cards, bundle.task))
        for bundle in plan.bundles
        for environment, cell in _planned(workspace, plan, bundle)
        if is_gated(environment, environment.name in plan.deployments, cell, plan.strict)
    )


def is_gated(environment: Environment, named: bool, cell: Cell, strict: bool) -> bool:
    """Whether a cell decides about the run.

    What the user named always does. An equivalent environment does unless this machine
    cannot provide it or it does not apply. Under ``strict`` those decide as well, and
    so does whatever was skipped.
    """
    status = cell.info.status if cell.info else "error"
    if named or (strict and status == "skipped"):
        return True
    return environment.kind == "equivalent" and (strict or status not in ("skipped", "not_applicable"))


def blocked_by(
    cell: Cell, reference_cell: Cell, reference: Reference | str, pairing: Pairing | None
) -> BandVerdict | None:
    """Why a cell cannot be judged, if so: ERROR, or NO DATA."""
    if isinstance(reference, str):
        return BandVerdict("ERROR", reference)
    if cell.info is None:
        return BandVerdict("ERROR", cell.problem)
    status, why = cell.info.status, cell.info.reason or "no reason was recorded"
    if status in ("skipped", "not_applicable"):
        return BandVerdict("NO DATA", f"{status.replace('_', ' ')}: {why}")
    if status != "ok":
        return BandVerdict("ERROR", why)
    if pairing is not None and pairing.problems:
        return BandVerdict("ERROR", "; ".join(pairing.problems))
    return _other_format("the reference: ", reference_cell.info) or _other_format("", cell.info)


def _other_format(prefix: str, info: CellInfo | None) -> BandVerdict | None:
    if info is None or info.execution is None or info.execution.matches:
        return None
    ran = info.execution
    return BandVerdict(
        "NO DATA",
        f"{prefix}{ran.requested} was requested and {ran.executed} was executed: "
        f"the numbers belong to what was executed and say nothing about {ran.requested}",
    )
