"""Synthetic explanations: which items each combination of deviations loses and gains is chosen, no model is run."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from gapshift.reports.attribution import Explained, Smallest, attribution_json
from gapshift.reports.combinations import Combination, Gate, Player, united
from gapshift.reports.gate import Rule
from gapshift.reports.planned import read_run
from gapshift.schema import Environment

NEAREST = Player({"preprocessing.resize.interpolation": "nearest"})
INT8 = Player({"precision.format": "int8-dynamic"})
THREADS = Player({"runtime.intra_op_threads": 1})
NAME = "edge"
RULE = Rule(margin=0.02, alpha=0.05)


class Combined:
    """A run with an environment and its combinations; items are (level, place) pairs, right ones come first.

    ``builder`` is a conftest.RunBuilder.
    """

    def __init__(self, builder: Any, players: tuple[Player, ...]) -> None:
        self.builder = builder
        self.players = players
        self.cells: dict[Combination, tuple[list[tuple[int, int]], dict[str, Any]]] = {}

    def loses(self, players: Iterable[Player], items: Iterable[tuple[int, int]], **header: Any) -> None:
        """What a combination answers otherwise than the reference: right becomes wrong and wrong right."""
        self.cells[united(tuple(players))] = (list(items), header)

    def environment(self, keys: Combination, name: str) -> Environment:
        values = {key: value for player in self.players for key, value in player.deviations.items() if key in keys}
        return Environment(name=name, kind="lossy", summary="Made up.", deviations=values)

    def explained(self, named: bool = True, **changes: Any) -> Explained:
        """All of it, read and judged."""
        whole = united(self.players)
        names = {keys: NAME if keys == whole else f"{NAME}.{n}" for n, keys in enumerate(self.cells)}
        self.builder.cell("reference", self.builder.answers())
        for keys, (items, header) in self.cells.items():
            self.builder.environments.append(self.environment(keys, names[keys]))
            self.builder.cell(names[keys], None if "status" in header else self._answers(items), **header)
        workspace = self.builder.finish(deployments=(NAME,) if named else ())
        run = read_run(workspace, counts_alone=True)
        gated = run.plan.model_copy(update={"environments": (self.environment(whole, NAME),)})
        gate = Gate(read_run(workspace, gated), NAME)
        cells = {cell.environment.name: cell for cell in run.cells}
        found = {keys: cells[name] for keys, name in names.items()}
        fields = {
            "bundle": "m", "task": "task", "players": self.players, "cells": found,
            "verdicts": {keys: gate.judged(cell) for keys, cell in found.items()},
            "smallest": Smallest(reason="nobody looked"), "idle": {},
        }  # fmt: skip
        return Explained(**(fields | changes))

    def _answers(self, items: Iterable[tuple[int, int]]) -> Any:
        records = self.builder.answers()
        prediction = records.prediction.copy()
        place = {name: n for n, name in enumerate(records.item_id.tolist())}
        for level, k in items:
            n = place[f"item-{level}-{k:05d}"]
            right = prediction[n] == records.label[n]
            prediction[n] = (records.label[n] + 2) % 10 if right else records.label[n]
        return replace(records, prediction=prediction, correct=(prediction == records.label).astype(np.float64))

    def summary(self, level: str | None = None, shapley: bool = True, **changes: Any) -> dict[str, Any]:
        """The whole summary, as the flow writes it."""
        found = self.explained(**changes)
        return summary_of(self.environment(united(self.players), NAME), [found], level, shapley)


def summary_of(
    environment: Environment, found: list[Explained], level: str | None = None, shapley: bool = True
) -> dict[str, Any]:
    return {
        "schema_version": 1,
        "command": "explain",
        "cells": {"needed": 3, "run": 2, "shared": 1},
        "summary": environment.summary,
        **attribution_json(environment, found, RULE, level, shapley),
    }


def items(level: int, start: int, stop: int) -> list[tuple[int, int]]:
    return [(level, k) for k in range(start, stop)]


def entry_of(summary: Mapping[str, Any]) -> Any:
    (entry,) = summary["explained"]
    return entry
