"""``gapshift search RUN``: environments that nobody listed, and the smallest of those that fail."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gapshift.envs.catalog import choose, own, select
from gapshift.envs.resolve import reference_deployment, resolve
from gapshift.errors import SettingsError, UnknownNameError
from gapshift.flows.again import Derived, derive
from gapshift.flows.composing import family_of, fitted, read_family
from gapshift.flows.reporting import Reporter, Silent
from gapshift.flows.smallest import KEPT, Search, Smallest, answered
from gapshift.records import write_text
from gapshift.reports.combinations import Gate
from gapshift.reports.planned import gated_tests, read_run
from gapshift.reports.renderers.search import render_search
from gapshift.reports.searched import Searched
from gapshift.reports.summary import summary_text
from gapshift.reports.verdicts import JudgedCell
from gapshift.schema import Bundle, DataSource, Environment, RunPlan, listing, takes
from gapshift.schema.family import Family
from gapshift.settings import environment_toml
from gapshift.workspace import Workspace

COMMAND = "search"
FOLDER = "search"
"""Where the composed environments of a run lie, inside its folder, unless another one is given."""
MOST = 3
"""So many deviations at once, unless something else is said."""


@dataclass(frozen=True)
class SearchRequest:
    """What to search.

    The family is ``family`` (a TOML file), or is spanned by ``environments`` and ``groups``, or without either by the
    run's own environments; mistakes, stress and environments that answer a sample are in it only where they are named
    (the former also by a group of that name).
    ``most``: deviations at once (a file says it itself). Up to ``examples`` environments are judged. With
    ``interactions`` every deviation is judged alone first, and those that fail alone are left out. With ``sample`` a
    level-balanced sample of the items answers.
    """

    run: Path
    out: Path | None = None
    bundle: str | None = None
    environments: tuple[str, ...] = ()
    groups: tuple[str, ...] = ()
    environment_file: Path | None = None
    family: Path | None = None
    most: int | None = None
    examples: int = 100
    seed: int = 0
    interactions: bool = False
    sample: bool = False
    data: str | None = None
    calibration_data: DataSource | None = None
    debug: bool = False

    def __post_init__(self) -> None:
        if self.examples < KEPT:
            raise SettingsError(f"{self.examples} examples are too few to search; give {KEPT} or more.")
        if self.family and (self.environments or self.groups or self.most):
            raise SettingsError(
                "A --family says itself what may deviate and how much at once; leave --environment, --group and --most "
                "out."
            )


def search_run(request: SearchRequest, reporter: Reporter | None = None) -> tuple[dict[str, Any], dict[str, Path]]:
    """Search a run's family, in RUN/search, and report: the summary and the files written, by name.

    Raises SettingsError for a family that is empty or wrong, or where it is not said which model; UnknownNameError for
    a name that does not exist; WorkspaceError for a folder that is no run or holds something else;
    EvaluationError where the model has no reference.
    """
    reporter = reporter or Silent()
    source = Workspace(request.run)
    plan = source.read_plan()
    bundle = _bundle(plan, request.bundle)
    family, notes = _family(request, plan, bundle)
    with derive(
        source,
        request.out or request.run / FOLDER,
        COMMAND,
        "a search",
        bundles=(bundle.name,),
        data=request.data,
        calibration_data=request.calibration_data,
        notes=notes,
    ) as derived:
        derived.evaluate((), reporter, request.debug)  # the reference
        most = min(request.examples, family.members())
        judge = Searched(derived.target, derived.plan, bundle, gated_tests(source, plan), most)
        cells = _Cells(derived, judge, reporter, request)
        search = Search(
            family, lambda each: resolve(bundle.contract, each), cells.judge, request.examples, request.sample
        )
        found = search.run(request.seed, request.interactions)
        summary = _summary(request, derived.plan, bundle, family, search, found, judge, cells)
        if found is not None:
            summary["smallest"]["at_gate"] = _at_gate(source, search, found)
        return _report(derived, summary, reporter)


def _bundle(plan: RunPlan, name: str | None) -> Bundle:
    bundles = {bundle.name: bundle for bundle in plan.bundles}
    if name is None and len(bundles) > 1:
        raise SettingsError(
            f"The run has {len(bundles)} models, and a search is of one. Say which with --bundle, for instance "
            f"{next(iter(bundles))}."
        )
    if name is not None and name not in bundles:
        raise UnknownNameError("bundle", name, bundles)
    return bundles[name] if name is not None else plan.bundles[0]


def _family(request: SearchRequest, plan: RunPlan, bundle: Bundle) -> tuple[Family, tuple[str, ...]]:
    """What may deviate, and what was left out of it."""
    if request.family:
        return _stated(request.family, bundle)
    chosen = _chosen(request, plan)
    mine = [each for each in chosen if takes(bundle.contract.domain, each)]
    kept = [each for each in mine if each.name in request.environments or not _is_aside(each, request.groups)]
    aside = [each.name for each in mine if each not in kept]
    said = (f"left out unless named (mistakes, stress, or on a sample): {', '.join(aside)}",) if aside else ()
    if not kept:
        raise SettingsError(
            f"None of these environments spans a family for {bundle.contract.domain} models"
            f"{''.join(f' ({note})' for note in said)}. Name some with --environment or --group, or give a --family."
        )
    family, notes = fitted(family_of(kept, request.most or MOST), bundle.contract)
    return family, (*said, *notes)


def _stated(path: Path, bundle: Bundle) -> tuple[Family, tuple[str, ...]]:
    family = read_family(path)
    try:
        return fitted(family, bundle.contract, stated=True)
    except (SettingsError, UnknownNameError) as error:
        raise SettingsError(f"{path}: {error}") from error


def _chosen(request: SearchRequest, plan: RunPlan) -> Iterable[Environment]:
    if not (request.environments or request.groups or request.environment_file):
        return plan.environments
    planned = {environment.name: environment for environment in plan.environments}
    return select(request.environments, request.groups, planned | own(request.environment_file))


def _is_aside(environment: Environment, groups: tuple[str, ...]) -> bool:
    """Whether it fails on purpose, or is slow: nothing that a search should find."""
    on_purpose = environment.kind in ("mistake", "stress") and environment.kind not in groups
    return on_purpose or environment.subsample


class _Cells:
    """Answers and judges one composed environment after the other."""

    def __init__(self, derived: Derived, judge: Searched, reporter: Reporter, request: SearchRequest) -> None:
        self._derived, self._judge, self._reporter, self._request = derived, judge, reporter, request
        self._answers = 0
        self._began = len(list(derived.target.journal()))
        reporter.stage("search")

    def judge(self, environment: Environment) -> JudgedCell:
        """The verdict of an environment, which runs where nobody has answered it yet."""
        self._derived.evaluate((environment,), Silent(), self._request.debug)
        found = self._judge.judge(self._derived.plan, environment)
        self._answers += answered(found)
        said = f"{found.verdict}: {listing(environment.deviations)}"
        self._reporter.progress(said, self._answers, self._request.examples)
        return found

    def ran(self) -> int:
        """How many cells were answered here and now, and not found somewhere."""
        events = list(self._derived.target.journal())[self._began :]
        return sum(event.get("event") == "cell" and event.get("status") == "ok" for event in events)


# --------------------------------------------------------------------------- the summary


def _summary(
    request: SearchRequest,
    plan: RunPlan,
    bundle: Bundle,
    family: Family,
    search: Search,
    found: Smallest | None,
    judge: Searched,
    cells: _Cells,
) -> dict[str, Any]:
    judged = list(search.judged.values())
    answers = [cell for cell in judged if answered(cell)]
    ran = cells.ran()
    return {
        "schema_version": 1,
        "command": COMMAND,
        "bundle": bundle.name,
        "task": bundle.task,
        "margin_pp": plan.margin_pp,
        "alpha": plan.alpha,
        "seed": request.seed,
        "examples": request.examples,
        "members": family.members(),
        "tests": judge.tests,
        "interactions": request.interactions,
        "sample": request.sample,
        "family": {"most": family.most, "deviations": {key: list(each) for key, each in family.deviations.items()}},
        "notes": list(plan.notes),
        "counts": {
            "composed": len(judged) + len(search.rejected),
            "rejected": len(search.rejected),
            "without_answers": len(judged) - len(answers),
            "judged": len(answers),
            "ran": ran,
            "shared": len(answers) - ran,
            "failed": len(search.failing()),
        },
        "rejections": [{"reason": why, "count": n} for why, n in Counter(search.rejected.values()).most_common()],
        "unseen": _unseen(family, search, judge),
        "alone": [judge.cell_json(cell) for cell in search.alone],
        "smallest": _smallest(search, found, judge, plan, bundle, request),
        "environments": [judge.cell_json(cell) for cell in judged],
    }


def _smallest(
    search: Search, found: Smallest | None, judge: Searched, plan: RunPlan, bundle: Bundle, request: SearchRequest
) -> dict[str, Any] | None:
    if found is None:
        return None
    environment = found.environment
    listed = [*plan.environments, *choose(file=request.environment_file)]
    same = (each.name for each in listed if each.name != environment.name and _is_same(bundle, each, environment))
    return {
        **judge.cell_json(search.judged[environment.name]),
        "parts": len(search.family.parts(environment.deviations)),
        "settled": found.settled,
        "listed_as": next(same, None),
        "toml": environment_toml(environment.name, environment.kind, "Found by gapshift search.", _said(environment)),
    }


def _said(environment: Environment) -> dict[str, Any]:
    """The deviations that TOML can say: it has no null, which is what a key is that is left out."""
    return {key: value for key, value in environment.deviations.items() if value is not None}


def _is_same(bundle: Bundle, one: Environment, other: Environment) -> bool:
    """Whether two environments are the same deployment, whatever each of them leaves to a default."""
    reference = reference_deployment(bundle.contract)
    try:
        return reference.deviate(one.deviations) == reference.deviate(other.deviations)
    except (SettingsError, UnknownNameError):
        return False


def _at_gate(source: Workspace, search: Search, found: Smallest) -> dict[str, Any]:
    """What lies below the smallest and would fail at the run's own gate, as ``explain`` judges: fewer tests."""
    below = [cell for cell in search.below(found.environment) if answered(cell)]
    if not below:
        return {"tests": None, "smaller": []}
    gate = Gate(read_run(source, counts_alone=True), "")
    failing = [cell.measured.environment.deviations for cell in below if gate.judged(cell.measured).verdict == "FAIL"]
    least = [each for each in failing if not any(search.family.is_below(other, each) for other in failing)]
    return {"tests": gate.tests(below[0].measured), "smaller": least}


def _unseen(family: Family, search: Search, judge: Searched) -> list[dict[str, Any]]:
    """Deviations of the family that are in no environment that was judged, with the reason most often met."""
    judged = [cell.measured.environment for cell in search.judged.values() if answered(cell)]
    unanswered = {name: cell for name, cell in search.judged.items() if not answered(cell)}
    why = search.rejected | {name: str(judge.cell_json(cell)["reason"]) for name, cell in unanswered.items()}
    found = []
    for key, value in ((key, value) for key, values in family.deviations.items() for value in values):
        if any(_holds(each, key, value) for each in judged):
            continue
        met = Counter(said for name, said in why.items() if _holds(search.composed[name], key, value))
        if met or not search.failing():  # a search that found something ends before it has composed everything
            reason = met.most_common(1)[0][0] if met else "nothing was composed with it; give more --examples"
            found.append({"key": key, "value": value, "reason": reason})
    return found


def _holds(environment: Environment, key: str, value: Any) -> bool:
    return key in environment.deviations and environment.deviations[key] == value


def _report(derived: Derived, summary: dict[str, Any], reporter: Reporter) -> tuple[dict[str, Any], dict[str, Path]]:
    reporter.stage("report")
    root = derived.target.root
    texts = {"search.json": summary_text(summary), **render_search(summary)}
    for name, text in texts.items():
        write_text(root / name, text)
    return summary, {name: root / name for name in texts}
