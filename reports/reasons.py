"""A run's verdict in plain words: one headline, and the reasons, worst first."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from gapshift.reports.counts import Counts, count, count_levels
from gapshift.reports.floor import chance
from gapshift.reports.gate import Band
from gapshift.reports.load import ALL_LEVELS
from gapshift.reports.merging import Finding, bundle_words, folded, kin, merged_reason
from gapshift.reports.order import worst
from gapshift.reports.planned import MeasuredRun
from gapshift.reports.reading import headline_words
from gapshift.reports.statistics import wilson
from gapshift.reports.verdicts import JudgedCell, level_words
from gapshift.schema import Bundle, RunPlan, Verdict

_CHECK = "check its contract's labels and preprocessing"
_LEAVE_OUT = "; leave it out of what this model is deployed to, or give data on which it makes a difference"
_NOT_LEARNT = "trained too little, or on items too hard, to clear chance"


def explain_run(cells: list[JudgedCell]) -> list[str]:
    """What failed and where, then errors, undecided levels, missing data, floors; never empty."""
    gated = [cell for cell in cells if cell.measured.gated]
    if not gated:
        return ["NO DATA: nothing is gated; name a deployment, or plan an environment that should change nothing"]
    return [
        *([_passed(gated)] if worst(cell.verdict for cell in gated) == "PASS" else []),
        *_bands(gated, "FAIL"),
        *_blocked(gated, "ERROR"),
        *_undecided(gated),
        *_blocked(gated, "NO DATA"),
        *_bands(gated, "NO DATA"),
        *(f"NOTE: {text}" for text in (*no_better_than_chance(gated), *levels_out_of_order(gated))),
        *_remarks(gated),
    ]


def _remarks(cells: list[JudgedCell]) -> Iterator[str]:
    """Broken answers of cells that were judged all the same, one line for the environments that share one."""
    lines: dict[tuple[str, str], list[str]] = {}
    for cell in cells:
        for remark in cell.measured.remarks if cell.measured.blocked is None else ():
            lines.setdefault((cell.measured.bundle.name, remark), []).append(cell.measured.environment.name)
    for (bundle, remark), names in lines.items():
        yield f"NOTE: {bundle} in {', '.join(names)}: {remark}"


def no_better_than_chance(cells: Iterable[JudgedCell]) -> list[str]:
    """Bundles whose reference is not seen to beat the commonest label: their contract may be wrong.

    A study made the contracts of its own models; those learnt too little.
    """
    found: dict[str, str] = {}
    for cell in cells:
        pairs = cell.measured.pairs
        if pairs is None or not len(pairs) or cell.measured.bundle.name in found:
            continue
        counts = count(pairs)
        fixed = cell.measured.readings is None  # an interval needs a number of items that was fixed beforehand
        if (wilson(counts.right, counts.n).low if fixed else counts.right / counts.n) <= chance(counts):
            advice = _CHECK if cell.measured.bundle.regime is None else _NOT_LEARNT
            found[cell.measured.bundle.name] = (
                f"the reference of {cell.measured.bundle.name} is {_near_chance(counts)}: {advice}"
            )
    return list(found.values())


def _near_chance(counts: Counts) -> str:
    """An accuracy at or under chance, or one above it whose interval reaches down to it."""
    found, near = wilson(counts.right, counts.n), chance(counts)
    if counts.right / counts.n <= near:
        return f"no better than chance ({counts.right / counts.n:.1%} against {near:.1%})"
    interval = f"{found.low:.1%} to {found.high:.1%}"
    return f"not surely better than chance ({found.estimate:.1%}, 95% interval {interval}, against {near:.1%})"


def _bands(cells: list[JudgedCell], verdict: Verdict) -> Iterator[str]:
    """One line for each band with the verdict, the largest drop first, floors last.

    Bundles that differ by seed alone share a line, and so do the environments for which
    it would read the same.
    """
    over_seeds: dict[tuple[object, ...], list[Finding]] = {}
    for found in _findings(cells, verdict):
        measured = found.cell.measured
        key = (kin(measured.bundle), measured.environment.name, found.band, found.judged.floor)
        over_seeds.setdefault(key, []).append(found)
    lines: dict[tuple[str, Band, str], list[str]] = {}
    for same in sorted(over_seeds.values(), key=lambda each: (each[0].judged.floor, -max(f.drop for f in each))):
        bundles = bundle_words([found.cell.measured.bundle for found in same])
        line = (bundles, same[0].band, merged_reason(same))
        lines.setdefault(line, []).append(same[0].cell.measured.environment.name)
    for (bundles, band, reason), names in lines.items():
        yield f"{verdict}: {bundles} in {', '.join(names)}, {level_words(band)}: {reason}"


def _undecided(cells: list[JudgedCell]) -> Iterator[str]:
    """Undecided levels: a study's in one line for each task and set of environments, others as failures are."""
    by_task: dict[tuple[str, bool], list[JudgedCell]] = {}
    for cell in cells:
        bundle = cell.measured.bundle
        by_task.setdefault((bundle.task, bundle.regime is not None), []).append(cell)
    for (task, trained_here), own in by_task.items():
        lines = list(_bands(own, "INCONCLUSIVE"))
        yield from folded(task, _findings(own, "INCONCLUSIVE")) if trained_here and len(lines) > 1 else lines


def _findings(cells: list[JudgedCell], verdict: Verdict) -> list[Finding]:
    return [
        Finding(cell, band, judged)
        for cell in cells
        if cell.measured.blocked is None
        for band, judged in cell.bands.items()
        if judged.verdict == verdict
    ]


def _blocked(cells: list[JudgedCell], verdict: Verdict) -> Iterator[str]:
    """One line for each reason that blocks cells of bundles that differ by seed alone, naming their environments."""
    environments: dict[tuple[str, str], list[str]] = {}
    bundles = {cell.measured.bundle.name: cell.measured.bundle for cell in cells}
    for cell in cells:
        blocked = cell.measured.blocked
        if blocked is not None and blocked.verdict == verdict:
            key = (cell.measured.bundle.name, blocked.reason)
            environments.setdefault(key, []).append(cell.measured.environment.name)
    lines: dict[tuple[object, str, tuple[str, ...]], list[Bundle]] = {}
    for (name, reason), names in environments.items():
        lines.setdefault((kin(bundles[name]), reason, tuple(names)), []).append(bundles[name])
    for (_, reason, shared), same in lines.items():
        advice = _LEAVE_OUT if reason.startswith("not applicable") else ""
        yield f"{verdict}: {bundle_words(same)} in {', '.join(shared)}: {reason}{advice}"


def levels_out_of_order(cells: Iterable[JudgedCell]) -> list[str]:
    """Users' models that do worse on level 1 than on a harder one: their contract may be wrong.

    Models of a regime are left out: some regimes never saw level 1.
    """
    found: dict[str, str] = {}
    for cell in cells:
        bundle, pairs = cell.measured.bundle, cell.measured.pairs
        if pairs is None or bundle.regime is not None or bundle.name in found:
            continue
        easy, *harder = (count_levels(pairs, (level,)) for level in ALL_LEVELS)
        for level, hard in enumerate(harder, start=2):
            if easy.n and hard.n and wilson(easy.right, easy.n).high < wilson(hard.right, hard.n).low:
                shares = f"{easy.right / easy.n:.0%} against {hard.right / hard.n:.0%}"
                found[bundle.name] = f"{bundle.name} does worse on level 1 than on level {level} ({shares})"
                break
    return [f"{text}: {_CHECK}" for text in found.values()]


def _passed(gated: list[JudgedCell]) -> str:
    held = f"PASS: the drop stays below the margin at every judged level of {_plural(len(gated), 'gated cell')}"
    return "; ".join((held, *_left_out(gated)))


def headline(run: MeasuredRun, verdict: Verdict, cells: list[JudgedCell]) -> str:
    """One sentence: the verdict, its weightiest reason, and what the verdict leaves out."""
    gated = [cell for cell in cells if cell.measured.gated]
    only_levels = verdict == "INCONCLUSIVE" and worst(cell.verdict for cell in gated) == "PASS"
    parts = [_only_levels(gated) if only_levels else _summary(verdict, gated), *_left_out(gated)]
    parts += no_better_than_chance(gated)[:1]
    parts += [words] if (words := headline_words(run)) else []
    if not run.plan.deployments:
        parts.append("no deployment is named, so only what should change nothing is gated")
    return f"{verdict}: {'; '.join(parts)}."


def run_verdict(plan: RunPlan, cells: Iterable[JudgedCell]) -> Verdict:
    """The worst of what is gated; all items together pass for a run only where it says so."""
    gated = [cell for cell in cells if cell.measured.gated]
    verdict = worst(cell.verdict for cell in gated)
    held_back = verdict == "PASS" and not plan.allow_unlevelled and unlevelled(gated)
    return "INCONCLUSIVE" if held_back else verdict


def unlevelled(cells: Iterable[JudgedCell]) -> list[str]:
    """Tasks whose levels are too unreliable to be judged apart."""
    return sorted({cell.measured.bundle.task for cell in cells if len(cell.measured.bands) == 1})


def _only_levels(gated: list[JudgedCell]) -> str:
    """What keeps a run from passing whose cells all pass."""
    return (
        f"all items together pass in {_plural(len(gated), 'gated cell')}, but the levels of "
        f"{', '.join(unlevelled(gated))} are too unreliable to be judged apart: calibrate with more responders, "
        "or accept it with --allow-unlevelled"
    )


def _summary(verdict: Verdict, gated: list[JudgedCell]) -> str:
    if not gated:
        return "nothing is gated"
    share = f"{sum(cell.verdict == verdict for cell in gated)} of {len(gated)} gated cells"
    words = {
        "PASS": f"the drop stays below the margin at every judged level of {_plural(len(gated), 'gated cell')}",
        "FAIL": f"{share} failed; worst is {_worst_place(gated)}",
        "ERROR": f"{share} could not be judged for an error",
        "INCONCLUSIVE": f"{share} stayed undecided: more items are needed",
        "NO DATA": f"{share} had nothing to judge",
    }
    return words[verdict]


def _worst_place(gated: list[JudgedCell]) -> str:
    failed = [(cell, band) for cell in gated for band, judged in cell.bands.items() if judged.verdict == "FAIL"]
    if not failed:
        return "unknown"
    cell, band = max(failed, key=lambda each: _drop(*each))
    return f"{_where(cell)} at {level_words(band)} ({_damage(cell, band)})"


def _damage(cell: JudgedCell, band: Band) -> str:
    counts = cell.measured.counts[band]
    if cell.measured.equivalent and counts.changed_outside_ties:
        return f"{counts.changed_outside_ties} of {counts.n} predictions change"
    return f"accuracy drops by {100 * counts.drop:.1f} pp"


def _left_out(gated: list[JudgedCell]) -> Iterator[str]:
    """The levels that no verdict covers because the reference is near chance there."""
    floors: dict[str, set[Band]] = {}
    bundles = {cell.measured.bundle.name: cell.measured.bundle for cell in gated}
    for cell in gated:
        found = {band for band, judged in cell.bands.items() if judged.floor}
        if found:
            floors.setdefault(cell.measured.bundle.name, set()).update(found)
    places: dict[tuple[object, str], list[Bundle]] = {}
    for name, bands in floors.items():
        places.setdefault((kin(bundles[name]), _levels(bands)), []).append(bundles[name])
    words = [f"{bundle_words(same)} {levels}" for (_, levels), same in places.items()]
    if words:
        more = f" and {len(words) - 3} more models" if len(words) > 3 else ""
        yield f"levels at the floor of chance are left out ({', '.join(words[:3])}{more})"


def _levels(bands: Iterable[Band]) -> str:
    return " and ".join(level_words(band) for band in sorted(bands))


def _drop(cell: JudgedCell, band: Band) -> float:
    counts = cell.measured.counts.get(band)
    return counts.drop if counts and counts.n else 0.0


def _where(cell: JudgedCell) -> str:
    return f"{cell.measured.bundle.name} in {cell.measured.environment.name}"


def _plural(n: int, noun: str) -> str:
    return f"{n} {noun}" if n == 1 else f"{n} {noun}s"
