"""Fault × strength × level: what is planted, and what the gate says of it. Run by ``detection.py``."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import cycle, islice
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from detection_sets import Answers, Found, Rows, Size, Task, found, hit, judged, rate, swapped, write_run
from onnx import numpy_helper

from gapshift.domains.wav import read_wav
from gapshift.envs.catalog import choose
from gapshift.export.model_file import sha256
from gapshift.records import Records
from gapshift.reports.planned import read_run
from gapshift.schema import REFERENCE, SPECIAL_TOKENS, Bundle, Contract, Domain, Environment

SHARES = (0.05, 0.2, 1.0)
"""Of the requests, that go through the faulty path: one host of twenty, one of five, all."""
OFFSETS = (0.1, 0.3, 1.0)
"""Of the mean, in the training data's standard deviations."""
BLOCKS = (0.01, 0.05, 0.2)
"""Of one layer's weights, that read as zeros."""
DAMAGED = 20
"""Damaged models of each strength; more seeds go through them again."""
CHURN = "int8-dynamic"
"""A conversion whose churn, with its direction redrawn, is no fault."""
EQUIVALENTS = ("onnxruntime-unoptimized", "onnxruntime-one-thread", "onnxruntime-batch-1")
FAMILY = 240
"""Planned tests of a run with 48 gated cells of five levels."""

NOTHING = "nothing"
"""What is planted where alarms are false."""

Seen = tuple[Found, bool]
"""A cell judged over its own levels, and whether it FAILs in a family of FAMILY tests."""


@dataclass(frozen=True)
class Fault:
    """A fault of deployments in some domains.

    ``plant`` gives its deviations for a task's contract at a strength; without it the model's own weights are damaged.
    ``shared``: the strength is the share of the requests that meet it.
    """

    name: str
    domains: tuple[Domain, ...]
    strengths: tuple[float, ...]
    words: str
    plant: Callable[[Task, Contract, float], dict[str, Any]] | None
    shared: bool = True


def _mean(_task: Task, contract: Contract, offset: float) -> dict[str, Any]:
    how: Any = contract.preprocessing
    if contract.domain == "audio":
        return {"preprocessing.mean": how.mean + offset * how.std}
    channels = islice(zip(cycle(how.mean), cycle(how.std), strict=False), max(len(how.mean), len(how.std)))
    return {"preprocessing.mean": [mean + offset * std for mean, std in channels]}


def _tokens(_task: Task, contract: Contract, _share: float) -> dict[str, Any]:
    """A vocabulary file with one line too many at its top: the id of every word is one too high."""
    how: Any = contract.preprocessing
    words = how.vocabulary[len(SPECIAL_TOKENS) :]
    return {"preprocessing.vocabulary": [*SPECIAL_TOKENS, "[unused0]", *words[:-1]]}


def _rate(task: Task, _contract: Contract, _share: float) -> dict[str, Any]:
    """A service that takes recordings for such of half their rate: they last twice as long, an octave too low."""
    raw: Any = task.dataset.raw(0)
    return {"preprocessing.assumed_rate": read_wav(raw)[0] // 2}


def _of_catalog(name: str) -> Callable[[Task, Contract, float], dict[str, Any]]:
    return lambda _task, _contract, _share: choose((name,))[0].deviations


FAULTS = (
    Fault("BGR for RGB", ("vision",), SHARES, "{:.0%} of requests", _of_catalog("bgr")),
    Fault("wrong mean", ("vision", "audio"), OFFSETS, "{:g} std", _mean, shared=False),
    Fault("off-by-one token ids", ("text",), SHARES, "{:.0%} of requests", _tokens),
    Fault("half-rate audio", ("audio",), SHARES, "{:.0%} of requests", _rate),
    Fault("one-step delay", ("control",), SHARES, "{:.0%} of requests", _of_catalog("observation-delayed")),
    Fault("corrupted weights", ("vision", "text", "audio", "control"), BLOCKS, "{:.0%} of a layer", None, shared=False),
)


@dataclass(frozen=True)
class Planted:
    """One fault at one strength. ``name`` is its environment in a drawn set; ``source`` the one in which the models
    answered all items, and empty where each seed has a damaged model."""

    fault: Fault
    strength: float
    name: str
    source: str

    @property
    def share(self) -> float:
        """Of the requests that meet it."""
        return self.strength if self.fault.shared else 1.0

    @property
    def said(self) -> tuple[str, str]:
        """Fault and strength in words."""
        return self.fault.name, self.fault.words.format(self.strength)

    def damaged(self, number: int) -> str:
        """The name of a damaged model."""
        return f"{self.name}-{number}"


def planted_in(domain: Domain) -> list[Planted]:
    """All that is planted in the models of a domain."""
    made = []
    for fault in FAULTS:
        slug = fault.name.lower().replace(" ", "-")
        for place, strength in enumerate(fault.strengths if domain in fault.domains else ()):
            name = f"{slug}-{place}"
            made.append(Planted(fault, strength, name, "" if fault.plant is None else slug if fault.shared else name))
    return made


def faults(task: Task, size: Size, folder: Path) -> list[dict[str, Any]]:
    """Rows of every fault and strength, and of what is no fault, as plain data."""
    sets = _Sets.made(task, min(DAMAGED, size.seeds), folder)
    rows = []
    for items in size.items:
        tally: dict[tuple[str, str], list[Seen]] = {}
        for seed in range(size.seeds):
            for what, seen in sets.one(seed, items):
                tally.setdefault(what, []).append(seen)
        rows += [_row(task, what, items, seen) for what, seen in tally.items()]
    return rows + list(sets.left_out())


def damage(model: Path, out: Path, share: float, rng: np.random.Generator) -> None:
    """A contiguous block of one layer's weights reads as zeros, as a lost page of a file does. Both are drawn."""
    proto = onnx.load(model)
    layers = [t for t in proto.graph.initializer if len(t.dims) > 1 and t.data_type == onnx.TensorProto.FLOAT]
    tensor = layers[rng.integers(len(layers))]
    weights = numpy_helper.to_array(tensor).copy()
    length = max(1, round(share * weights.size))
    start = rng.integers(weights.size - length + 1)
    weights.reshape(-1)[start : start + length] = 0.0
    tensor.CopyFrom(numpy_helper.from_array(weights, tensor.name))
    onnx.save(proto, out)


@dataclass(frozen=True, eq=False)
class _Sets:
    """What a task's models answer with each fault, and sets drawn from that."""

    task: Task
    planted: tuple[Planted, ...]
    answers: Answers
    damaged: Answers
    count: int
    folder: Path

    @classmethod
    def made(cls, task: Task, count: int, folder: Path) -> _Sets:
        """Every model in every faulty environment, and ``count`` damaged models of each strength, evaluated."""
        contract = task.bundles[0].contract
        planted = tuple(planted_in(contract.domain))
        faulty = {
            each.source: _environment(each.source, each.fault.plant(task, contract, each.strength))
            for each in planted
            if each.fault.plant is not None
        }
        environments = (*faulty.values(), *choose(EQUIVALENTS), *choose((CHURN,)))
        answers = task.answers(folder / "faulty", task.bundles, environments)
        models = list(_damaged(task, planted, count, folder))
        return cls(task, planted, answers, task.answers(folder / "damaged", models, ()), count, folder)

    def one(self, seed: int, items: int | None) -> Iterator[tuple[tuple[str, str], Seen]]:
        """What the gate says in one drawn set, of each fault and of what is none."""
        rng = np.random.default_rng([seed, items or 0])
        bundle = self.task.bundles[seed % len(self.task.bundles)]
        rows = self.task.draw(items, rng)
        reference = self.answers.take(bundle.name, REFERENCE, rows)
        cells = {"again": reference}
        for each in self.planted:
            met = rng.random(len(rows)) < each.share
            faulty = self._faulty(each, bundle, seed, rows)
            if faulty is not None:
                cells[each.name] = hit(reference, faulty, met)
        said = {each.name: each.said for each in self.planted} | {"again": (NOTHING, "the reference again")}
        yield from self._judged(bundle, rows, reference, cells, [_environment(name, {}) for name in cells], said)
        yield from self._harmless(bundle, rows, reference, rng)

    def _faulty(self, planted: Planted, bundle: Bundle, seed: int, rows: Rows) -> Records | None:
        """What the faulty path answers; None where this model cannot have the fault."""
        if not planted.source:
            return self.damaged.take(planted.damaged(seed % self.count), REFERENCE, rows)
        had = (bundle.name, planted.source) in self.answers.records
        return self.answers.take(bundle.name, planted.source, rows) if had else None

    def _harmless(
        self, bundle: Bundle, rows: Rows, reference: Records, rng: np.random.Generator
    ) -> Iterator[tuple[tuple[str, str], Seen]]:
        """Equivalents as they are, and a conversion's churn without a drop."""
        same = {
            name: self.answers.take(bundle.name, name, rows)
            for name in EQUIVALENTS
            if (bundle.name, name) in self.answers.records
        }
        said = {name: (NOTHING, name) for name in same} | {CHURN: (NOTHING, f"churn of {CHURN}, D = 0")}
        yield from self._judged(bundle, rows, reference, same, choose(tuple(same)), said)
        half = rng.random(len(rows)) < 0.5
        first, second = swapped(reference, self.answers.take(bundle.name, CHURN, rows), half)
        yield from self._judged(bundle, rows, first, {CHURN: second}, choose((CHURN,)), said)

    def _judged(
        self,
        bundle: Bundle,
        rows: Rows,
        reference: Records,
        cells: Mapping[str, Records],
        environments: Sequence[Environment],
        said: Mapping[str, tuple[str, str]],
    ) -> Iterator[tuple[tuple[str, str], Seen]]:
        named = {(bundle.name, name): records for name, records in {REFERENCE: reference, **cells}.items()}
        with tempfile.TemporaryDirectory(dir=self.folder) as place:
            run = read_run(write_run(Path(place), self.task, rows, named, environments))
        gated = sum(len(cell.bands) for cell in run.cells if cell.gated)
        for cell, wide in zip(judged(run), judged(run, FAMILY - (gated or len(run.cells[0].bands))), strict=True):
            yield said[cell.measured.environment.name], (found(cell, run.rule.alpha), wide.verdict == "FAIL")

    def left_out(self) -> Iterator[dict[str, Any]]:
        """What could not be planted in any model, and why."""
        why = {environment: reason for (_, environment), reason in self.answers.why.items()}
        for each in self.planted:
            if each.source in why:
                yield {"task": self.task.name, **_named(each.said), "left_out": why[each.source]}


def _environment(name: str, deviations: Mapping[str, Any]) -> Environment:
    return Environment(name=name, kind="mistake", summary="", deviations=dict(deviations))


def _damaged(task: Task, planted: Sequence[Planted], count: int, folder: Path) -> Iterator[Bundle]:
    """Models with a block of weights gone, the task's in turn."""
    for number in range(count):
        bundle = task.bundles[number % len(task.bundles)]
        for each in planted:
            if not each.source:
                path = folder / f"{each.damaged(number)}.onnx"
                damage(Path(bundle.path), path, each.strength, np.random.default_rng([number, 1]))
                yield bundle.model_copy(update={"name": path.stem, "path": str(path), "sha256": sha256(path)})


def _row(task: Task, what: tuple[str, str], items: int | None, seen: Sequence[Seen]) -> dict[str, Any]:
    each = [one for one, _ in seen]
    levels = {
        key: {
            "fail": rate(one.fails[key] for one in each),
            "not_pass": rate(not one.passes[key] for one in each),
            "change": rate(one.differs[key] for one in each),
            "any_change": rate(one.changes[key] for one in each),
            "drop_pp": float(np.mean([one.drop_pp[key] for one in each])),
        }
        for key in each[0].fails
    }
    about = {"task": task.name, **_named(what), "items": items, "seeds": len(seen), "models": len(task.bundles)}
    return about | {"levels": levels, "fail_in_wide_family": rate(wide for _, wide in seen)}


def _named(what: tuple[str, str]) -> dict[str, str]:
    return dict(zip(("fault", "strength"), what, strict=True))
