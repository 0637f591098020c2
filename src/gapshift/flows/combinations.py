"""Parts of an environment's deviations, evaluated as they are asked for and never twice."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from gapshift.flows.again import Derived, only
from gapshift.flows.reporting import Reporter
from gapshift.reports.combinations import Combination, Gate
from gapshift.reports.planned import MeasuredCell, read_run
from gapshift.reports.verdicts import JudgedCell
from gapshift.schema import Environment, digest

GROUP = "explain"
"""The group of every environment made here."""
_LONGEST_NAME = 120


@dataclass(frozen=True)
class Tally:
    """How many combinations were needed, and of these how many cells were run for it and how many copied."""

    needed: int
    run: int
    shared: int


class Combinations:
    """The cells of an environment's parts, by model and keys; ``gate`` gives their verdicts."""

    def __init__(self, derived: Derived, environment: Environment, gate: Gate, reporter: Reporter, debug: bool) -> None:
        self._derived, self._environment, self._gate = derived, environment, gate
        self._reporter, self._debug = reporter, debug
        self._place = {key: place for place, key in enumerate(environment.deviations, start=1)}
        self._cells: dict[tuple[str, Combination], MeasuredCell] = {}
        self._judged: dict[tuple[str, Combination], JudgedCell] = {}

    def measure(self, wanted: Mapping[str, Iterable[Combination]]) -> None:
        """Evaluate what each model still lacks; models that lack the same go together. Nobody's is left out."""
        together: dict[frozenset[Combination], list[str]] = {}
        for bundle, combinations in wanted.items():
            lacking = frozenset(keys for keys in combinations if keys and (bundle, keys) not in self._cells)
            if lacking:
                together.setdefault(lacking, []).append(bundle)
        for lacking, bundles in together.items():
            self._evaluate(sorted(lacking, key=self._order), tuple(bundles))

    def cell(self, bundle: str, keys: Combination) -> MeasuredCell:
        """A combination's cell, evaluated where it was not."""
        self.measure({bundle: [keys]})
        return self._cells[bundle, keys]

    def judged(self, bundle: str, keys: Combination) -> JudgedCell:
        """A combination's cell with its verdict at the run's gate."""
        if (bundle, keys) not in self._judged:
            self._judged[bundle, keys] = self._gate.judged(self.cell(bundle, keys))
        return self._judged[bundle, keys]

    def of(self, bundle: str) -> dict[Combination, MeasuredCell]:
        """All that was measured of a model, small combinations first."""
        own = sorted((keys for name, keys in self._cells if name == bundle), key=self._order)
        return {keys: self._cells[bundle, keys] for keys in own}

    def tally(self) -> Tally:
        """Cells as the journal of the folder tells, of earlier calls too."""
        names = {(bundle, cell.environment.name) for (bundle, _), cell in self._cells.items()}
        told = {
            (event["bundle"], event["environment"]): event["event"]
            for event in self._derived.target.journal()
            if event.get("event") in ("cell", "shared")
        }
        events = [told.get(name) for name in names]
        return Tally(len(names), events.count("cell"), events.count("shared"))

    def _evaluate(self, lacking: Sequence[Combination], bundles: tuple[str, ...]) -> None:
        environments = {self._made(keys).name: keys for keys in lacking}
        made = tuple(self._made(keys) for keys in lacking)
        self._derived.evaluate(made, self._reporter, self._debug, bundles)
        plan = only(self._derived.plan, bundles).model_copy(update={"environments": made})
        for cell in read_run(self._derived.target, plan, counts_alone=True).cells:
            if cell.environment.name in environments:
                self._cells[cell.bundle.name, environments[cell.environment.name]] = cell

    def _made(self, keys: Combination) -> Environment:
        """The environment of a combination: its own, or one named after the places of its keys."""
        whole = self._environment
        if len(keys) == len(whole.deviations):
            return whole
        deviations = {key: value for key, value in whole.deviations.items() if key in keys}
        name = f"{whole.name}.{'-'.join(map(str, self._places(keys)))}"
        if len(name) > _LONGEST_NAME:
            name = f"{whole.name[:90].rstrip('._-')}.{digest(sorted(keys))[:16]}"
        return whole.model_copy(
            update={
                "name": name,
                "summary": f"{whole.name} with {', '.join(deviations)} alone.",
                "deviations": deviations,
                "groups": (GROUP,),
            }
        )

    def _places(self, keys: Combination) -> list[int]:
        return sorted(self._place[key] for key in keys)

    def _order(self, keys: Combination) -> tuple[int, list[int]]:
        return len(keys), self._places(keys)
