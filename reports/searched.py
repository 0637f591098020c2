"""The verdict of one composed environment after the other, each as one of a stated number of tests."""

from __future__ import annotations

from gapshift.errors import EvaluationError
from gapshift.reports.bands import bands_of
from gapshift.reports.cells import LEVEL_KEYS, Json, count_strata, interval_json
from gapshift.reports.gate import Rule, drop_interval
from gapshift.reports.load import Reference, load_items, reference_of
from gapshift.reports.planned import counted_cell, planned_cell
from gapshift.reports.verdicts import JudgedCell, cell_reason, judge_searched
from gapshift.schema import REFERENCE_ENVIRONMENT, Bundle, Environment, RunPlan
from gapshift.workspace import Workspace


class Searched:
    """Judges cells of one bundle as they come, each against the same reference, as one of so many tests.

    ``planned`` tests are the run's own; a search of up to ``examples`` environments adds as many times the levels (or
    bands) that are judged apart, so that one FAIL among all of them is held at alpha. Raises EvaluationError where
    the reference cannot serve.
    """

    def __init__(self, workspace: Workspace, plan: RunPlan, bundle: Bundle, planned: int, examples: int) -> None:
        items_of, cards = load_items(workspace)
        self._workspace, self._bundle = workspace, bundle
        self._bands = bands_of(cards, bundle.task)
        self._rule = Rule(margin=plan.margin_pp / 100, alpha=plan.alpha, strict=plan.strict)
        self._before = planned_cell(workspace, plan, bundle, REFERENCE_ENVIRONMENT)
        found = reference_of(self._before, items_of(bundle.task))
        if not isinstance(found, Reference):
            raise EvaluationError(f"Nothing can be judged of {bundle.name}: {found}. Evaluate the run first.")
        self._reference = found
        self.tests = planned + examples * len(self._bands)

    def judge(self, plan: RunPlan, environment: Environment) -> JudgedCell:
        """The cell's verdict, as if its environment were gated."""
        cell = planned_cell(self._workspace, plan, self._bundle, environment)
        counted = counted_cell(
            self._bundle, environment, cell, self._before, self._reference, self._bands, named=True, gated=True
        )
        return judge_searched(counted, self._rule, self.tests)

    def cell_json(self, cell: JudgedCell) -> Json:
        """A composed environment's verdict and drops: ``drop_pp`` by level with 95% intervals, null without pairs."""
        measured = cell.measured
        counts = count_strata(measured.pairs) if measured.pairs is not None else {}
        drops = {key: drop_interval(counts[key], self._rule) for key in counts if counts[key].n}
        return {
            "environment": measured.environment.name,
            "deviations": dict(measured.environment.deviations),
            "status": measured.info.status if measured.info else "error",
            "verdict": cell.verdict,
            "reason": cell_reason(cell),
            "levels": {str(level): cell.at(level).verdict for band in measured.bands for level in band},
            "drop_pp": {key: interval_json(drops.get(key), 100) for key in LEVEL_KEYS},
            "n": counts["all"].n if counts else 0,
        }
