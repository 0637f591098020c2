"""One line for bundles that differ by seed alone and say the same of a level."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from gapshift.reports.counts import Counts
from gapshift.reports.floor import chance
from gapshift.reports.gate import Band, BandVerdict
from gapshift.reports.verdicts import JudgedCell, level_words
from gapshift.schema import Bundle


@dataclass(frozen=True, eq=False)
class Finding:
    """One band of one cell with its verdict."""

    cell: JudgedCell
    band: Band
    judged: BandVerdict

    @property
    def counts(self) -> Counts:
        return self.cell.measured.counts[self.band]

    @property
    def drop(self) -> float:
        """The paired drop as a fraction; 0 without items."""
        return self.counts.drop if self.counts.n else 0.0

    @property
    def severity(self) -> tuple[float, float]:
        """What the worst of several findings of one verdict has the most of: items that it needs, else the drop."""
        if self.judged.verdict == "INCONCLUSIVE":
            return (math.inf if self.judged.items_needed is None else self.judged.items_needed, self.drop)
        changes = self.counts.changed_outside_ties if self.cell.measured.equivalent else 0
        return (self.drop, changes)


def kin(bundle: Bundle) -> tuple[str | None, ...]:
    """The same for bundles that differ by seed alone."""
    if bundle.regime is None or bundle.seed is None:
        return (bundle.name,)
    return (bundle.domain, bundle.task, bundle.family, bundle.regime)


def bundle_words(bundles: Sequence[Bundle]) -> str:
    """Bundles that differ by seed alone, such as ``cnn-easy-only (seeds 0, 1, 2)``; one bundle's own name."""
    if len(bundles) == 1:
        return bundles[0].name
    stems = {re.sub(rf"([-_.](seed|s)?[-_.]?)?{bundle.seed}$", "", bundle.name) for bundle in bundles}
    if len(stems) > 1 or "" in stems:
        return ", ".join(bundle.name for bundle in bundles)
    return f"{stems.pop()} (seeds {', '.join(str(seed) for seed in sorted(_seeds(bundles)))})"


def _seeds(bundles: Iterable[Bundle]) -> list[int]:
    return [bundle.seed for bundle in bundles if bundle.seed is not None]


def merged_reason(findings: Sequence[Finding]) -> str:
    """Why several seeds got one verdict: their own words where they agree, else the range and the worst in full."""
    if len({finding.judged.reason for finding in findings}) == 1:
        return findings[0].judged.reason
    if findings[0].judged.floor:
        return _floor(findings)
    worst = max(findings, key=lambda finding: finding.severity)
    words = "furthest from a decision" if worst.judged.verdict == "INCONCLUSIVE" else "worst"
    return f"{_range(findings)}; {words} is seed {worst.cell.measured.bundle.seed}: {worst.judged.reason}"


_MORE = "more test items (test_per_class or train_fraction), or another margin_pp"


def folded(task: str, findings: Sequence[Finding]) -> list[str]:
    """A study's undecided levels, one line for each set of environments in which the same of them are undecided.

    Levels where nothing changed stand apart from those where something did.
    """
    sets: dict[tuple[object, ...], list[Finding]] = {}
    for changed in (False, True):
        by_environment: dict[str, list[Finding]] = {}
        for found in findings:
            if bool(found.counts.changed) == changed:
                by_environment.setdefault(found.cell.measured.environment.name, []).append(found)
        for own in by_environment.values():
            same = frozenset((found.cell.measured.bundle.name, found.band) for found in own)
            sets.setdefault((changed, same), []).extend(own)
    return [_folded(task, same) for same in sets.values()]


def _folded(task: str, findings: Sequence[Finding]) -> str:
    names = dict.fromkeys(found.cell.measured.environment.name for found in findings)
    cells = len({(found.cell.measured.bundle.name, found.cell.measured.environment.name) for found in findings})
    bands = sorted({found.band for found in findings})
    items = _span([found.counts.n for found in findings])
    nothing = not any(found.counts.changed for found in findings)
    what = "nothing changed" if nothing else f"a{_range(findings)[1:]}"
    return (
        f"INCONCLUSIVE: {task}, {cells} cell{'s' * (cells != 1)} of {', '.join(names)}: {_bands_words(bands)} "
        f"{'has' if len(bands) == 1 and len(bands[0]) == 1 else 'have'} {items} items and {what}; {_needed(findings)}"
    )


def _bands_words(bands: Sequence[Band]) -> str:
    if len(bands) > 1 and all(len(band) == 1 for band in bands):
        return f"levels {', '.join(str(band[0]) for band in bands)}"
    return ", ".join(level_words(band) for band in bands)


def _needed(findings: Sequence[Finding]) -> str:
    """How many items the level furthest from a decision needs, and what gives them."""
    needed = [found.judged.items_needed for found in findings]
    known = [count for count in needed if count is not None]
    if not known:
        return f"the drop lies on the margin, where no number of items decides: {_MORE.rpartition(', or ')[2]}"
    each = "a level" if all(len(found.band) == 1 for found in findings) else "a group of levels"
    some = " (some lie on the margin, where none would)" if len(known) < len(needed) else ""
    return f"about {max(known)} {each} would decide{some}: {_MORE}"


def _span(values: Sequence[int]) -> str:
    return str(min(values)) if min(values) == max(values) else f"{min(values)}–{max(values)}"


def _floor(findings: Sequence[Finding]) -> str:
    accuracy = [100 * finding.counts.right / finding.counts.n for finding in findings]
    near = max(chance(finding.counts) for finding in findings)
    return f"floor: reference accuracy {_ends(accuracy, 1)}%, chance {near:.1%}, so nothing is left to lose"


def _range(findings: Sequence[Finding]) -> str:
    changes = [finding.counts.changed_outside_ties for finding in findings]
    if all(finding.cell.measured.equivalent for finding in findings) and min(changes) > 0:
        return f"{_ends(changes, 0)} predictions change outside ties"
    return f"accuracy drops by {_ends([100 * finding.drop for finding in findings], 2)} pp"


def _ends(values: Sequence[float], digits: int) -> str:
    low, high = (f"{round(end, digits) + 0.0:.{digits}f}" for end in (min(values), max(values)))
    return low if low == high else f"{low} to {high}"
