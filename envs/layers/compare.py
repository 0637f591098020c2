"""Two files on two sets of inputs, every tensor against its counterpart, batch by batch.

Each matched tensor is compared three times: as the two models compute it (*error*); as the other model's node
computes it when it is given the reference's inputs (*own*), which is what that node alone adds; and as the reference
computes it with and without graph optimisation (*floor*), which is what should not matter.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import helper

from gapshift.domains.services import Rows
from gapshift.envs.layers.matching import Match, Matching, match
from gapshift.envs.layers.opened import GIVEN, Layer, OpenModel, OpenSession
from gapshift.envs.layers.tally import Difference, Tally
from gapshift.export.model_file import describe
from gapshift.schema import Runtime

BUDGET = 256 << 20
"""Bytes of opened tensors that a batch may hold; a model with more is compared part by part."""
FLOOR_TIMES = 10
"""A tensor leaves the reference where its error exceeds this many times its floor."""
LEAST_THRESHOLD = 1e-5
"""No error below this is a finding: it is what float32 rounding comes to."""
Arrays = dict[str, NDArray[Any]]


@dataclass(frozen=True, eq=False)
class Side:
    """A file, the inputs (n, ...) that it is given, and how it is run."""

    path: Path
    inputs: Rows
    runtime: Runtime


@dataclass(frozen=True)
class LayerDifference:
    """One matched tensor. ``inputs`` is the largest error among the matched tensors that its node reads; ``own`` is
    None where both sides run the same file (no node can differ)."""

    match: Match
    difference: Difference
    floor: float
    inputs: float
    own: Difference | None

    @property
    def layer(self) -> Layer:
        """The other file's node."""
        return self.match.layer

    @property
    def threshold(self) -> float:
        """The error from which on this tensor counts as having left."""
        return max(FLOOR_TIMES * self.floor, LEAST_THRESHOLD)


@dataclass(frozen=True)
class Comparison:
    """``layers`` in the other file's topological order; ``given`` is the difference of the models' inputs, and
    ``parts`` how many sets of tensors were opened one after the other. ``reference_layers`` by tensor."""

    given: Difference
    layers: tuple[LayerDifference, ...]
    matching: Matching
    same_file: bool
    parts: int
    reference_layers: Mapping[str, Layer]


def compare(
    reference: Side, other: Side, levels: NDArray[np.int64], *, same_file: bool, budget: int = BUDGET
) -> Comparison:
    """Compare every tensor over all items; ``levels`` (n,) holds each item's level, 0 where it has none.

    Memory does not depend on n. Raises EvaluationError where a file cannot be opened or run, or matches in nothing.
    """
    mine, theirs = OpenModel(reference.path), OpenModel(other.path)
    matching = match(mine, theirs)
    batches = _Batches(reference, other, levels)
    types, sizes = _probe(theirs, matching, batches)
    batch, parts = _plan(matching, sizes, batches.fixed, other.runtime.batch_size, budget)
    made: dict[str, _Tallies] = {}
    for part in parts:
        opened = _Part(_Pair(mine, theirs, reference.runtime, other.runtime, None if same_file else types), part)
        for a, b, level in batches.each(batch):
            opened.add(a, b, level)
        made |= opened.tallies
    given = differences_of(reference.inputs, other.inputs, levels)
    return Comparison(given, _measured(matching, made, given, theirs), matching, same_file, len(parts), mine.layers)


def differences_of(a: Rows, b: Rows, levels: NDArray[np.int64], batch: int = 64) -> Difference:
    """How far two sets of inputs or outputs (n, ...) are apart."""
    tally = Tally()
    for begin in range(0, len(levels), batch):
        rows = np.arange(begin, min(begin + batch, len(levels)))
        tally.add(a[rows], b[rows], levels[rows])
    return tally.difference()


class _Batches:
    """Rows of both sides together, filled up to the only size that a model takes, where it has one."""

    def __init__(self, reference: Side, other: Side, levels: NDArray[np.int64]) -> None:
        self._sides, self._levels = (reference, other), levels
        sizes = [describe(side.path).fixed_batch for side in self._sides]
        self.fixed = next((size for size in sizes if size), None)

    def each(self, size: int) -> Iterator[tuple[NDArray[Any], NDArray[Any], NDArray[np.int64]]]:
        for begin in range(0, len(self._levels), size):
            rows = np.arange(begin, min(begin + size, len(self._levels)))
            filled = np.concatenate([rows, np.repeat(rows[-1:], size - len(rows))]) if self.fixed else rows
            mine, theirs = (side.inputs[filled] for side in self._sides)
            yield mine, theirs, self._levels[rows]


def _probe(theirs: OpenModel, matching: Matching, batches: _Batches) -> tuple[dict[str, int], dict[str, int]]:
    """The other's tensors' ONNX element types, and their bytes an item, from one item through it."""
    tensors = [pair.layer.tensor for pair in matching.matches]
    _, inputs, _ = next(batches.each(batches.fixed or 1))
    made = OpenSession(theirs.exposing(tensors), Runtime(optimization="disabled"), theirs.path.name).run(
        dict.fromkeys(theirs.inputs, inputs)
    )
    made |= dict.fromkeys(theirs.inputs, inputs)
    types = {name: helper.np_dtype_to_tensor_dtype(value.dtype) for name, value in made.items()}
    return types, {name: max(1, value.nbytes // len(inputs)) for name, value in made.items()}


def _plan(
    matching: Matching, sizes: Mapping[str, int], fixed: int | None, asked: int, budget: int
) -> tuple[int, list[list[Match]]]:
    """Items in a batch, and the matches that are opened together, so that a batch of them fits the budget.

    The batch shrinks first: more parts cost a run through the model each.
    """
    total = sum(sizes.get(pair.layer.tensor, 1) for pair in matching.matches)
    batch = fixed or int(np.clip(budget // max(total, 1), 1, asked))
    parts: list[list[Match]] = []
    used = budget + 1
    for pair in matching.matches:
        size = batch * sizes.get(pair.layer.tensor, 1)
        if used + size > budget:
            parts.append([])
            used = 0
        parts[-1].append(pair)
        used += size
    return batch, parts


@dataclass(frozen=True, eq=False)
class _Pair:
    """Both models. ``types``: the element types of the other's tensors; None where both are one file."""

    mine: OpenModel
    theirs: OpenModel
    my_runtime: Runtime
    their_runtime: Runtime
    types: Mapping[str, int] | None


@dataclass(frozen=True, eq=False)
class _Tallies:
    error: Tally
    floor: Tally
    own: Tally


class _Part:
    """The sessions and the sums of some of the matches."""

    def __init__(self, pair: _Pair, part: Sequence[Match]) -> None:
        mine, theirs = pair.mine, pair.theirs
        self._pair, self._part = pair, part
        self.tallies = {each.layer.tensor: _Tallies(Tally(), Tally(), Tally()) for each in part}
        tensors = [each.layer.tensor for each in part]
        self._fed, self._alone = self._isolated(tensors)
        wanted = dict.fromkeys([*(each.reference for each in part), *self._fed.values()])
        exposed = mine.exposing(name for name in wanted if name in mine.layers)
        plain = pair.my_runtime.model_copy(update={"optimization": "disabled"})
        self._reference = OpenSession(exposed, pair.my_runtime, mine.path.name)
        self._plain = OpenSession(exposed, plain, mine.path.name)
        self._other = OpenSession(theirs.exposing(tensors), pair.their_runtime, theirs.path.name)

    def _isolated(self, tensors: Sequence[str]) -> tuple[dict[str, str], OpenSession | None]:
        """The other's nodes on their own: what is fed from outside (its name → the reference's tensor)."""
        pair = self._pair
        if pair.types is None:
            return {}, None
        known = _counterparts(pair.mine, pair.theirs)
        model = pair.theirs.alone(tensors, {name: pair.types[name] for name in known if name in pair.types})
        fed = [value.name for value in model.graph.input if value.name.endswith(GIVEN)]
        runtime = pair.their_runtime.model_copy(update={"optimization": "disabled"})
        session = OpenSession(model, runtime, pair.theirs.path.name)
        return {name: known[name.removesuffix(GIVEN)] for name in fed}, session

    def add(self, a: NDArray[Any], b: NDArray[Any], levels: NDArray[np.int64]) -> None:
        """Run a batch of both sides, whose first rows have these levels."""
        n, size = len(levels), len(a)
        mine = self._reference.run(dict.fromkeys(self._pair.mine.inputs, a))
        plain = self._plain.run(dict.fromkeys(self._pair.mine.inputs, a))
        theirs = self._other.run(dict.fromkeys(self._pair.theirs.inputs, b))
        mine |= dict.fromkeys(self._pair.mine.inputs, a)
        alone = self._alone.run({name: mine[source] for name, source in self._fed.items()}) if self._alone else {}
        for each in self._part:
            tallies = self.tallies[each.layer.tensor]
            source = mine.get(each.reference)
            found = theirs.get(each.layer.tensor), plain.get(each.reference), alone.get(each.layer.tensor)
            for tally, value in zip((tallies.error, tallies.floor, tallies.own), found, strict=True):
                if source is not None and value is not None:
                    tally.add(_first(source, n, size), _first(value, n, size), levels)


def _first(values: NDArray[Any], n: int, size: int) -> NDArray[Any]:
    """Without the rows that filled a fixed batch up."""
    return values[:n] if n < size and values.ndim and values.shape[0] == size else values


def _counterparts(mine: OpenModel, theirs: OpenModel) -> dict[str, str]:
    """The other's tensors, its input among them, that a reference's tensor can be fed for."""
    inputs = dict(zip(theirs.inputs, mine.inputs, strict=False))
    return inputs | {pair.layer.tensor: pair.reference for pair in match(mine, theirs).matches}


def _measured(
    matching: Matching, made: Mapping[str, _Tallies], given: Difference, theirs: OpenModel
) -> tuple[LayerDifference, ...]:
    errors = {name: tallies.error.difference() for name, tallies in made.items()}
    known = {name: found.error for name, found in errors.items()} | dict.fromkeys(theirs.inputs, given.error)
    return tuple(
        LayerDifference(
            match=pair,
            difference=errors[pair.layer.tensor],
            floor=made[pair.layer.tensor].floor.difference().error,
            inputs=_largest_read(pair.layer, theirs, known),
            own=_own(made[pair.layer.tensor]),
        )
        for pair in matching.matches
        if errors[pair.layer.tensor].items
    )


def _own(tallies: _Tallies) -> Difference | None:
    found = tallies.own.difference()
    return found if found.items else None


def _largest_read(layer: Layer, model: OpenModel, known: Mapping[str, float]) -> float:
    """The largest error among the nearest known tensors that a node reads, through those that have no counterpart."""
    seen: set[str] = set()
    waiting, largest = list(layer.reads), 0.0
    while waiting:
        name = waiting.pop()
        if name in seen:
            continue
        seen.add(name)
        if name in known:
            largest = max(largest, known[name])
        elif name in model.layers:
            waiting.extend(model.layers[name].reads)
    return largest
