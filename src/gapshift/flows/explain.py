"""``gapshift explain RUN --environment NAME``: which of its deviations did the damage."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import combinations
from pathlib import Path
from typing import Any

from gapshift.envs.resolve import reference_deployment
from gapshift.errors import GapshiftError, SettingsError, UsageError
from gapshift.flows.again import derive, named_environments
from gapshift.flows.combinations import Combinations
from gapshift.flows.delta_debugging import ddmin
from gapshift.flows.players import players_of
from gapshift.flows.reporting import Reporter, Silent
from gapshift.flows.settling import alone_and_without, settle
from gapshift.records import write_text
from gapshift.reports.attribution import Explained, Smallest, attribution_json
from gapshift.reports.combinations import Gate, Player, united, unusable
from gapshift.reports.reading import whole_run
from gapshift.reports.renderers.attribution import render_attribution
from gapshift.reports.statistics import MOST_PLAYERS
from gapshift.reports.summary import summary_text
from gapshift.schema import Bundle, DataSource, Environment, RunPlan, takes
from gapshift.workspace import Workspace

COMMAND = "explain"
FOLDER = "explain"
"""Where a run's explanations lie, inside its folder, unless another one is given."""


def explain_run(
    run: Path,
    environment: str,
    out: Path | None = None,
    *,
    bundles: tuple[str, ...] = (),
    level: str | None = None,
    shapley: bool = True,
    environment_file: Path | None = None,
    data: str | None = None,
    calibration_data: DataSource | None = None,
    reporter: Reporter | None = None,
    debug: bool = False,
) -> tuple[dict[str, Any], dict[str, Path]]:
    """Switch an environment's deviations on in parts, in a folder of its own, and say which of them does the damage.

    ``bundles``: which models (none: all that were evaluated in the environment, or can be). ``level``: the one that
    the sentences are about, "1" to "5", "all" or "mean" (None: where a model loses most). ``shapley``: every
    combination is evaluated where there are few enough, for shares. Returns the summary and the files written, by
    name. Cells that the run has, or another explanation, are not run again.
    Raises UnknownNameError for a name that does not exist, UsageError for an environment without deviations,
    WorkspaceError for a folder that is no run or that holds something else, DataError where items are missing.
    """
    reporter = reporter or Silent()
    source = Workspace(run)
    plan = source.read_plan()
    chosen = _chosen(plan, environment, environment_file)
    names = bundles or _answering(plan, chosen)
    gated = whole_run(source, _gated(plan), counts_alone=True)
    gate = Gate(gated, chosen.name)
    with derive(
        source,
        out or run / FOLDER,
        COMMAND,
        "explained environments",
        bundles=names,
        data=data,
        calibration_data=calibration_data,
    ) as derived:
        cells = Combinations(derived, chosen, gate, reporter, debug)
        found = _Explaining(chosen, derived.plan.bundles, cells, reporter, shapley).found()
        reporter.stage("attribute")
        summary = _summary(derived.plan, chosen, cells, attribution_json(chosen, found, gated.rule, level, shapley))
        return summary, _written(derived.target, chosen, summary)


def _chosen(plan: RunPlan, name: str, file: Path | None) -> Environment:
    environment = named_environments(plan, (name,), file)[0]
    if not environment.deviations:
        raise UsageError(
            f"The environment {name} deviates in nothing: there is no damage to explain. Name another one."
        )
    return environment


def _answering(plan: RunPlan, environment: Environment) -> tuple[str, ...]:
    """The models that were evaluated in the environment, else those that can be."""
    planned = [b.name for b in plan.bundles if environment.name in {e.name for e in plan.environments_of(b)}]
    able = [bundle.name for bundle in plan.bundles if takes(bundle.contract.domain, environment)]
    names = planned if any(e == environment for e in plan.environments) else able
    if not names:
        domains = ", ".join(sorted({bundle.domain for bundle in plan.bundles}))
        raise SettingsError(
            f"{environment.name} sets {', '.join(environment.deviations)}, which no model of this run can have (its "
            f"domains: {domains}). `gapshift envs list` shows which environments are for which."
        )
    return tuple(names)


def _gated(plan: RunPlan) -> RunPlan:
    """The part of the plan that the gate's family is made of."""
    kept = (e for e in plan.environments if plan.strict or e.name in plan.deployments or e.kind == "equivalent")
    return plan.model_copy(update={"environments": tuple(kept)})


class _Explaining:
    """Measures and judges what explaining an environment takes, for all models side by side."""

    def __init__(
        self,
        environment: Environment,
        bundles: Sequence[Bundle],
        cells: Combinations,
        reporter: Reporter,
        shapley: bool,
    ) -> None:
        self._environment, self._cells, self._reporter, self._shapley = environment, cells, reporter, shapley
        self._bundles = {bundle.name: bundle for bundle in bundles}
        self._players: dict[str, tuple[Player, ...]] = {}
        self._idle: dict[str, dict[str, str]] = {}
        self._problems: dict[str, tuple[str, str]] = {}

    def found(self) -> list[Explained]:
        """Every model's attribution, in the run's order."""
        for bundle in self._bundles.values():
            self._divide(bundle)
        self._say_how_many()
        self._cells.measure({name: alone_and_without(players) for name, players in self._players.items()})
        self._settle_all()
        if self._shapley:
            self._all_combinations()
        return [self._explained(bundle) for bundle in self._bundles.values()]

    # ----------------------------------------------------------------------- players

    def _divide(self, bundle: Bundle) -> None:
        """The players, or the problem that the environment contradicts the contract."""
        self._idle[bundle.name] = {}
        try:
            found = players_of(reference_deployment(bundle.contract), self._environment.deviations)
        except GapshiftError as error:
            self._problems[bundle.name] = ("not_applicable", f"it contradicts the model's contract: {error}")
            return
        self._idle[bundle.name] = dict.fromkeys(found.idle, "the model's reference has it already")
        if found.players:
            self._players[bundle.name] = found.players
        else:
            self._problems[bundle.name] = ("not_applicable", "the model's reference has all of its deviations already")

    def _settle_all(self) -> None:
        """Each model's players as its cells show them. What one needed, models that were divided alike get at once."""
        waiting = {name: [player.keys for player in players] for name, players in self._players.items()}
        while waiting:
            name, parts = waiting.popitem()
            self._settle(name)
            alike = [other for other, own in waiting.items() if own == parts]
            self._cells.measure({other: self._cells.of(name) for other in alike})

    def _settle(self, name: str) -> None:
        found = settle(self._cells, name, self._players[name])
        self._idle[name] |= found.idle
        self._players[name] = found.players
        if found.problem:
            self._problems[name] = found.problem
            del self._players[name]

    # ------------------------------------------------------------------------- cells

    def _all_combinations(self) -> None:
        wanted = {
            name: [united(some) for some in _subsets(players)]
            for name, players in self._players.items()
            if len(players) <= MOST_PLAYERS
        }
        self._cells.measure(wanted)

    def _say_how_many(self) -> None:
        """How many cells this takes, before the first of them runs."""
        sizes = [len(players) for players in self._players.values()]
        if not sizes:
            return
        parts = " or ".join(map(str, sorted(set(sizes))))
        cells, fewer = (sum(_cells_of(size, shapley) for size in sizes) for shapley in (self._shapley, False))
        self._reporter.note(
            f"{self._environment.name} deviates in {parts} thing{'s' * (max(sizes) > 1)}: {cells} "
            f"combination{'s' * (cells > 1)} over {len(sizes)} model{'s' * (len(sizes) > 1)}"
            + (f" ({fewer} with --no-shapley)" if fewer < cells else "")
            + "; those that were answered before are not run again."
        )

    # ------------------------------------------------------------------------ result

    def _explained(self, bundle: Bundle) -> Explained:
        name = bundle.name
        players = self._players.get(name, ())
        smallest = self._smallest(name, players) if players else Smallest(reason="it was not measured")
        cells = self._cells.of(name)
        return Explained(
            bundle=name,
            task=bundle.task,
            players=players,
            cells=cells,
            verdicts={keys: self._cells.judged(name, keys) for keys in cells},
            smallest=smallest,
            idle=self._idle[name],
            problem=self._problems.get(name),
        )

    def _smallest(self, name: str, players: tuple[Player, ...]) -> Smallest:
        """The smallest failing combinations: of all where all are known, else by delta debugging from what is."""
        whole = self._cells.judged(name, united(players))
        if whole.verdict != "FAIL":
            blocked = f": {whole.measured.blocked.reason}" if whole.measured.blocked else ""
            why = f"it does not FAIL at this run's gate ({whole.verdict}{blocked}), so no smaller part was looked for"
            return Smallest(reason=why)
        every = {united(some): some for some in _subsets(players)} if len(players) <= MOST_PLAYERS else {}
        known = [some for keys, some in every.items() if keys in self._cells.of(name)]
        if every and len(known) == len(every):
            sets, method = self._fewest(name, known), "all combinations"
        else:
            sets, method = [self._debugged(name, players)], "delta debugging"
        judged = self._cells.of(name)
        unresolved = sum(unusable(cell) is not None for cell in judged.values())
        return Smallest(tuple(united(some) for some in sets), method, len(judged), unresolved)

    def _fewest(self, name: str, known: Iterable[tuple[Player, ...]]) -> list[tuple[Player, ...]]:
        failing = [some for some in known if self._fails(name, some)]
        least = min(map(len, failing))
        return [some for some in failing if len(some) == least]

    def _debugged(self, name: str, players: tuple[Player, ...]) -> tuple[Player, ...]:
        """Delta debugging, from the smallest that is known to fail: one alone, all but one, or all."""
        whole = tuple(players)
        rests = (tuple(p for p in whole if p is not player) for player in whole)
        start = next(some for some in (*((player,) for player in whole), *rests, whole) if self._fails(name, some))

        def test(parts: Sequence[tuple[Player, ...]]) -> list[bool]:
            self._cells.measure({name: [united(part) for part in parts]})
            return [self._fails(name, part) for part in parts]

        return ddmin(start, test)

    def _fails(self, name: str, players: tuple[Player, ...]) -> bool:
        return self._cells.judged(name, united(players)).verdict == "FAIL"


def _subsets(players: Sequence[Player]) -> list[tuple[Player, ...]]:
    """Every combination of one player or more, small ones first."""
    return [some for size in range(1, len(players) + 1) for some in combinations(players, size)]


def _cells_of(players: int, shapley: bool) -> int:
    """Cells that are sure to be needed."""
    every: int = 2**players - 1
    return every if shapley and players <= MOST_PLAYERS else min(every, 2 * players + 1)


def _summary(
    plan: RunPlan, environment: Environment, cells: Combinations, attribution: dict[str, Any]
) -> dict[str, Any]:
    tally = cells.tally()
    return {
        "schema_version": 1,
        "command": COMMAND,
        "margin_pp": plan.margin_pp,
        "alpha": plan.alpha,
        "cells": {"needed": tally.needed, "run": tally.run, "shared": tally.shared},
        "summary": environment.summary,
        "notes": list(plan.notes),
        **attribution,
    }


def _written(target: Workspace, environment: Environment, summary: dict[str, Any]) -> dict[str, Path]:
    """The pages beside the cells; their names begin alike, for an environment may be called ``run``."""
    stem = f"explain-{environment.name}"
    texts = {f"{stem}.json": summary_text(summary), **render_attribution(summary, stem)}
    for name, text in texts.items():
        write_text(target.root / name, text)
    return {name: target.root / name for name in texts}
