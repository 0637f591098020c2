"""Cross-domain transfer of frozen trunks, after Lu, Grover, Abbeel & Mordatch (2021), arXiv 2103.05247.

    T(s -> t) = (A[s -> t] - A[random -> t]) / (A[t -> t] - A[random -> t])

with A the mean over levels of held-out accuracy on the target t. s -> t has a trunk that the
regime trained on s, frozen; t -> t one that the same regime trained on t; random one that was
never trained. T is undefined unless the lower end of the denominator's interval exceeds 5 pp.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from gapshift.reports.statistics import Estimate
from gapshift.reports.study.members import Group, Member, Study
from gapshift.reports.study.quantity import Quantity, independent_sum, shared_seeds
from gapshift.reports.study.ratio import fieller, linearised
from gapshift.reports.study.values import Json, note, share

RANDOM = "random"


@dataclass(frozen=True, eq=False)
class Transfer:
    """One regime's trunk from ``source`` on ``target``, beside its yardsticks; what was not trained is None."""

    source: str
    target: str
    regime: str
    transferred: Group
    random: Group | None
    own: Group | None

    @property
    def seeds(self) -> int:
        groups = [group for group in (self.transferred, self.random, self.own) if group is not None]
        return len(shared_seeds(*(group.mean_accuracy for group in groups)))

    def score(self, level: float) -> Estimate | None:
        """T with Fieller's interval; None where it is undefined."""
        parts = self._parts()
        return fieller(*parts, level) if parts else None

    def linear(self, level: float) -> Quantity | None:
        """T as a quantity, where it is defined: for means over pairs."""
        parts = self._parts()
        return linearised(*parts) if parts and fieller(*parts, level) else None

    def _parts(self) -> tuple[Quantity, Quantity] | None:
        if self.random is None or self.own is None:
            return None
        base = self.random.mean_accuracy
        return self.transferred.mean_accuracy - base, self.own.mean_accuracy - base

    @property
    def problems(self) -> list[str]:
        missing = [
            name
            for name, group in (
                ("a random trunk on the target", self.random),
                ("the same regime's own trunk on the target", self.own),
            )
            if group is None
        ]
        found = [f"not trained: {' and '.join(missing)}"] if missing else []
        groups = [group for group in (self.transferred, self.random, self.own) if group is not None]
        return [*found, *(problem for group in groups for problem in group.problems)]


def transfers(study: Study) -> list[Transfer]:
    """Every pair of different tasks with a regime's trunk, in the plan's order.

    A transferred model's regime is the one that trained its trunk.
    """
    trunks: dict[tuple[str, str, str], list[Member]] = {}
    random: dict[str, list[Member]] = {}
    for member in study.transferred:
        target, trunk = member.run.task, study.runs.get(member.run.trunk_from or "")
        if member.run.trunk_from == RANDOM:
            random.setdefault(target, []).append(member)
        elif trunk is not None:
            trunks.setdefault((trunk.task, target, trunk.regime), []).append(member)

    def group(target: str, members: list[Member] | None) -> Group | None:
        return Group(study.task(target), tuple(members)) if members else None

    return [
        Transfer(
            source,
            target,
            regime,
            Group(study.task(target), tuple(members)),
            group(target, random.get(target)),
            group(target, trunks.get((target, target, regime))),
        )
        for (source, target, regime), members in trunks.items()
        if source != target
    ]


def lost_trunks(study: Study) -> list[str]:
    """What to say of transferred models whose trunk no planned run trained: they enter no score."""
    names = [
        member.run.name
        for member in study.transferred
        if member.run.trunk_from != RANDOM and member.run.trunk_from not in study.runs
    ]
    return (
        [f"The trunk of {', '.join(names)} is no run of this plan, so they enter no transfer score."] if names else []
    )


def transfer_rows(study: Study) -> list[Json]:
    """{source, target, regime, score, raw {transferred, random, own}, seeds, note}."""
    return [_row(each, study.rule.level) for each in transfers(study)]


def _row(each: Transfer, level: float) -> Json:
    groups = {"transferred": each.transferred, "random": each.random, "own": each.own}
    score = each.score(level)
    why = [] if score or not each.random or not each.own else [_undefined(each)]
    return {
        **{name: getattr(each, name) for name in ("source", "target", "regime")},
        "score": score.as_json() if score else None,
        "raw": {name: None if group is None else share(group.mean_accuracy, level) for name, group in groups.items()},
        "seeds": each.seeds,
        "note": note(each.seeds, [*why, *each.problems]),
    }


def _undefined(each: Transfer) -> str:
    if not each.seeds:
        return "undefined: its models share no seed"
    return "undefined: the lower end of own trunk less random trunk is not above 5 pp"


def mean_score(found: Sequence[Transfer], level: float) -> tuple[Estimate | None, int]:
    """Mean of the scores that are defined, and how many they are.

    Each score is linearised (delta method), so that what pairs share, seeds, items and random
    trunks of a target, is counted once. Simulated as ``fieller`` is, over two targets, the interval
    covers 99% with three or five seeds.
    """
    by_target = linear_by_target(found, level)
    count = sum(size for _, size in by_target.values())
    if not count:
        return None, 0
    parts = [quantity * (1 / count) for quantity, _ in by_target.values()]
    return (independent_sum(parts, level), count) if shared_seeds(*parts) else (None, count)


def linear_by_target(found: Sequence[Transfer], level: float) -> dict[str, tuple[Quantity, int]]:
    """Sum of the defined scores on each target, and their number."""
    sums: dict[str, tuple[Quantity, int]] = {}
    for each in found:
        linear = each.linear(level)
        if linear is not None:
            before = sums.get(each.target)
            sums[each.target] = (before[0] + linear, before[1] + 1) if before else (linear, 1)
    return sums


def transfer_means(study: Study) -> list[Json]:
    """{regime, score, pairs, planned}: each regime's mean over source and target, and how many pairs define it."""
    rows = []
    found = transfers(study)
    for regime in dict.fromkeys(each.regime for each in found):
        own = [each for each in found if each.regime == regime]
        score, pairs = mean_score(own, study.rule.level)
        rows.append(
            {"regime": regime, "score": score.as_json() if score else None, "pairs": pairs, "planned": len(own)}
        )
    return rows
