"""All that is found of one cell: its outputs, its layers, the optimiser's part in it, what explains its inputs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gapshift.envs.layers.candidates import candidates
from gapshift.envs.layers.causes import REPRODUCES, Reproduced, fitted, reproducing, reproducing_readings
from gapshift.envs.layers.compare import Comparison, compare, differences_of
from gapshift.envs.layers.leaving import Leaving, leaving
from gapshift.envs.layers.opened import OpenModel
from gapshift.envs.layers.passes import Passes, find_pass
from gapshift.envs.layers.site import Site
from gapshift.envs.layers.tally import Difference, Tally
from gapshift.envs.runtimes import open_runtime
from gapshift.export.model_file import sha256
from gapshift.schema import ControlPreprocessing, Shift

_SAMPLE = 64
"""Items on which inputs are compared with candidates', and from which the data's own statistics are taken."""
_NAMED = 5


@dataclass(frozen=True)
class Outputs:
    """What the cell itself answers, as it runs, beside the reference. ``changed``: the share of items whose highest
    score is another's."""

    difference: Difference
    changed: float


@dataclass(frozen=True)
class Examined:
    """``comparison``, ``leaving`` and ``passes`` are None where the cell's engine cannot be opened; ``opening`` is how
    far the opened model's outputs are from the cell's own. ``causes`` are the ways of preparing nearest to the cell's
    inputs, where those differ; the first is the cause if its ``left`` is at most ``REPRODUCES``.
    ``explained``: the cell's own deviations make its inputs, so that of other ways only what makes the same is kept."""

    items: int
    outputs: Outputs
    comparison: Comparison | None
    leaving: Leaving | None
    passes: Passes | None
    opening: float | None
    given: Difference
    causes: tuple[Reproduced, ...]
    explained: bool
    notes: tuple[str, ...]


def examine(site: Site) -> Examined:
    """Everything there is to find. Raises EvaluationError where a model cannot be opened or run."""
    given = differences_of(site.reference.inputs, site.other.inputs, site.levels)
    outputs = outputs_of(site)
    comparison = left = passes = opening = None
    if site.opens:
        same = sha256(site.reference.path) == sha256(site.other.path)
        comparison = compare(site.reference, site.other, site.levels, same_file=same)
        left = leaving(comparison, OpenModel(site.reference.path), OpenModel(site.other.path))
        output = site.cell.bundle.contract.model.output
        passes = find_pass(site.other.path, site.other.inputs, site.levels, site.other.runtime, output)
        opening = _opening(site, passes)
    explained = site.contract.preprocessing == site.cell.bundle.contract.preprocessing
    causes = _causes(site) if given.error > 0 else ()
    return Examined(
        items=len(site.levels),
        outputs=outputs,
        comparison=comparison,
        leaving=left,
        passes=passes,
        opening=opening,
        given=given,
        causes=tuple(each for each in causes if each.left <= REPRODUCES) if explained else causes,
        explained=explained,
        notes=site.notes,
    )


def outputs_of(site: Site) -> Outputs:
    """Both sides' outputs as they run, by any engine."""
    tally, changed, size = Tally(), 0, site.other.runtime.batch_size
    with (
        open_runtime(site.reference.runtime, site.reference.path, site.contract) as one,
        open_runtime(site.other.runtime, site.other.path, site.cell.bundle.contract) as other,
    ):
        for begin in range(0, len(site.levels), size):
            rows = np.arange(begin, min(begin + size, len(site.levels)))
            a, b = one.predict(site.reference.inputs[rows]), other.predict(site.other.inputs[rows])
            tally.add(a, b, site.levels[rows])
            changed += int(_others(a, b).sum())
    return Outputs(tally.difference(), changed / len(site.levels))


def _others(a: NDArray[Any], b: NDArray[Any]) -> NDArray[np.bool_]:
    """Items (n,) whose highest score, or one of several, is another's."""
    moved: NDArray[np.bool_] = (a.argmax(axis=-1) != b.argmax(axis=-1)).reshape(len(a), -1).any(axis=1)
    return moved


def _opening(site: Site, passes: Passes) -> float:
    """What the optimisations that opening keeps from happening change: those of the cell's own level."""
    return passes.errors.get(site.other.runtime.optimization, 0.0)


def _causes(site: Site) -> tuple[Reproduced, ...]:
    """The ways of preparing nearest to the cell's inputs, on some of the items; a corruption is none of them."""
    if site.cell.deployment.shift != Shift():
        return ()
    deployed = site.cell.deployment.preprocessing
    if isinstance(deployed, ControlPreprocessing):
        episodes = site.inputs.dataset.subset(_spread(len(site.inputs.dataset)).tolist())
        known = candidates(site.contract, None)
        return tuple(reproducing_readings(known, episodes, site.reference.path, site.contract, deployed)[:_NAMED])
    rows = _spread(len(site.levels))
    mine, theirs = site.reference.inputs[rows], site.other.inputs[rows]
    with site.inputs.part(site.places[rows]) as part:
        found = reproducing(candidates(site.contract, mine), part, theirs)
    line = fitted(site.contract.preprocessing, mine, theirs)
    if line is not None and line.left <= REPRODUCES and not (found and found[0].left <= REPRODUCES):
        found.insert(0, line)
    return tuple(found[:_NAMED])


def _spread(n: int) -> NDArray[np.intp]:
    """At most ``_SAMPLE`` of n rows, evenly."""
    return np.linspace(0, n - 1, min(_SAMPLE, n)).round().astype(np.intp)
