"""One line for bundles that differ by seed alone and say the same of a level."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from gapshift.reports.counts import Counts
from gapshift.reports.floor import chance
from gapshift.reports.gate import Band, BandVerdict
from gapshift.reports.verdicts import JudgedCell
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
