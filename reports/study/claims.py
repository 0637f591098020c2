"""The published study's claims, each judged from measured intervals alone.

A claim is judged in each (task, family) that can be learnt and has reliable levels, and then over all of them.
Nothing is tuned toward the published numbers: the ranges are the study's, the operationalisations below
were fixed with this file.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from gapshift.reports.regimes import STUDY_RANGES_PP
from gapshift.reports.study.checks import INFINITY, Check, Verdict, absent, all_of, in_range, inside, negative, positive
from gapshift.reports.study.gaps import g1
from gapshift.reports.study.learnable import YARDSTICK, level_words, why_left_out
from gapshift.reports.study.members import Group, Study
from gapshift.reports.study.quantity import Quantity, shared_seeds
from gapshift.reports.study.shuffled import lost_to_shuffling, shuffled_pairs
from gapshift.reports.study.transfer import Transfer, linear_by_target, transfers
from gapshift.reports.study.values import Json
from gapshift.reports.study.widths import sizes, slope, width_axes

FOUR = tuple(STUDY_RANGES_PP)
"""The study's regimes."""
RULE = (
    "Its cases are the learnable tasks whose levels are reliable (split-half 0.5 or more, or given with the data), "
    "each with the families that the study compares there; one that only lends its trunk to another task is none. "
    "Supported: at 95% in every case, at least one, each with five seeds or more. Not "
    "supported: refuted in one case, with three seeds or more: an interval lies wholly on the other side, and still "
    "does at 1 - 0.05 / m, with m the statements that the claim makes over all its cases (Bonferroni; a case's own "
    "verdict counts its own statements), so that a claim that is true everywhere is called not supported in at most "
    "one study in twenty. Cannot tell: everything else. The claims are judged one by one."
)


@dataclass(frozen=True, eq=False)
class Case:
    """One (task, family) that a claim is judged in, with its regimes at the main width.

    ``entering`` names all tasks that enter claims; ``level`` is the confidence of the intervals.
    """

    study: Study
    task: str
    family: str
    entering: tuple[str, ...]
    level: float

    def one_of(self, statements: int) -> Case:
        """The same at the confidence that each of so many statements needs (Bonferroni)."""
        return replace(self, level=1 - (1 - self.level) / max(statements, 1))

    @property
    def regimes(self) -> dict[str, Group]:
        return self.study.at_main_width(self.task, self.family)

    @property
    def plain(self) -> str:
        """What one-sided training is compared with: iid, or random where that was not trained."""
        return YARDSTICK if YARDSTICK in self.regimes else "random"

    def less(self, one: str, other: str, of: Callable[[Group], Quantity]) -> Quantity | None:
        """A quantity of one regime less that of another; None where one was not trained or no seed is shared."""
        a, b = self.regimes.get(one), self.regimes.get(other)
        if a is None or b is None:
            return None
        found = of(a) - of(b)
        return found if found.seeds else None


@dataclass(frozen=True)
class Claim:
    """A claim, what it is taken to say, and how a case is checked; no checks means it has no case there.

    ``needs`` is the setting that trains what it is judged in, where a study does not always.
    """

    number: str
    text: str
    checks: Callable[[Case], list[Check]]
    needs: str = ""


def claim_rows(study: Study) -> list[Json]:
    """{claim, text, verdict, why, tasks [{task, family, verdict, evidence}], left_out {task: reason}}, in order."""
    left_out = {task.name: why for task in study.tasks if (why := why_left_out(study, task.name))}
    entering = tuple(task.name for task in study.tasks if task.name not in left_out)
    cases = [Case(study, *pair, entering, study.rule.level) for pair in study.own_pairs if pair[0] in entering]
    return [_row(claim, cases, left_out) for claim in CLAIMS]


def _row(claim: Claim, cases: Sequence[Case], left_out: Mapping[str, str]) -> Json:
    judged = [(case, checks) for case in cases if (checks := claim.checks(case))]
    rows: list[Json] = []
    for case, checks in judged:
        verdict, evidence = all_of(checks, refutes(claim, case, checks, len(checks)))
        said = "; ".join(filter(None, (evidence, level_words(case.study, case.task))))
        rows.append({"task": case.task, "family": case.family, "verdict": verdict, "evidence": said})
    statements = sum(len(checks) for _, checks in judged)
    refuted = any(refutes(claim, case, checks, statements) for case, checks in judged)
    total = overall([row["verdict"] for row in rows], refuted)
    return {
        "claim": claim.number,
        "text": claim.text,
        "verdict": total,
        "why": _why(claim, total, judged, rows, left_out),
        "tasks": rows,
        "left_out": dict(left_out),
    }


def refutes(claim: Claim, case: Case, checks: Sequence[Check], statements: int) -> bool:
    """Whether some check of a case is refuted where it is one of so many statements.

    The smallest of m p-values decides, so that Holm's procedure would say the same.
    """
    if not any(check.truth == "no" for check in checks):
        return False  # a wider interval refutes nothing more
    return any(check.truth == "no" for check in claim.checks(case.one_of(statements)))


def overall(verdicts: Sequence[Verdict], refuted: bool) -> Verdict:
    """Refuted over all statements, or else supported in all cases, and in at least one.

    >>> overall([], False), overall(["supported", "not supported"], False), overall(["not supported"], True)
    ('cannot tell', 'cannot tell', 'not supported')
    """
    if refuted:
        return "not supported"
    return "supported" if verdicts and set(verdicts) == {"supported"} else "cannot tell"


Judged = Sequence[tuple[Case, Sequence[Check]]]


def _why(claim: Claim, verdict: Verdict, judged: Judged, rows: Sequence[Json], left_out: Mapping[str, str]) -> str:
    out = f" Left out: {'; '.join(f'{task}: {why}' for task, why in left_out.items())}." if left_out else ""
    if not rows:
        return _without_cases(claim, out)
    if len(rows) == 1:
        return f"{_of_one(judged[0][1], rows[0])}{out}"
    return f"{_of_several(verdict, rows, sum(len(checks) for _, checks in judged))}{out}"


def _without_cases(claim: Claim, out: str) -> str:
    if claim.needs:
        return f"What it compares was not trained on a task that enters claims: needs {claim.needs}.{out}"
    return f"No learnable task with reliable levels was trained for it.{out}"


def _of_one(checks: Sequence[Check], row: Json) -> str:
    """The evidence that decides the only case: what refutes it, what leaves it open, or all of it."""
    wanted = {"supported": ("yes",), "not supported": ("no",)}.get(row["verdict"], ("open", "no"))
    said = "; ".join(check.evidence for check in checks if check.truth in wanted)
    alone = row["verdict"] == "cannot tell" and any(check.truth == "no" for check in checks)
    many = f"; refuted alone, not as one of {len(checks)} statements" * alone
    return f"One case, {row['task']} with {row['family']}: {said}{many}."


def _of_several(verdict: Verdict, rows: Sequence[Json], statements: int) -> str:
    counts = [
        f"{word} in {sum(row['verdict'] == word for row in rows)}"
        for word in ("supported", "not supported", "cannot tell")
        if any(row["verdict"] == word for row in rows)
    ]
    few = " " + _few(rows) if verdict == "cannot tell" and _few(rows) else ""
    alone = any(row["verdict"] == "not supported" for row in rows) and verdict == "cannot tell"
    many = f" That may be chance among {statements} statements: nothing is refuted at 95% over all of them." * alone
    return f"Of {len(rows)} cases: {', '.join(counts)}.{many}{few}"


def _few(rows: Sequence[Json]) -> str:
    return "Fewer than five seeds." if any("fewer than five seeds" in row["evidence"] for row in rows) else ""


# ----------------------------------------------------------------------------- the claims


def _at(level: int) -> Callable[[Group], Quantity]:
    return lambda group: group.at(level)


def easy_only(case: Case) -> list[Check]:
    """1: above the plain regime at level 1, below it at level 5."""
    first, last = (case.less("easy-only", case.plain, _at(level)) for level in (1, 5))
    return [
        positive(f"easy-only less {case.plain} at level 1", first, case.level),
        negative(f"easy-only less {case.plain} at level 5", last, case.level),
    ]


def gap_range(regime: str) -> Callable[[Case], list[Check]]:
    """2: G1 of a regime lies inside the published range."""
    low, high = (end / 100 for end in STUDY_RANGES_PP[regime])

    def checks(case: Case) -> list[Check]:
        group = case.regimes.get(regime)
        return [inside(f"G1 of {regime}", g1(group) if group else None, low, high, case.level)]

    return checks


def smaller_gap(case: Case) -> list[Check]:
    """3: the curriculum's G1 is below that of each other regime of the study."""
    others = [name for name in FOUR if name != "curriculum"]
    return [negative(f"G1 of curriculum less {name}", case.less("curriculum", name, g1), case.level) for name in others]


def hard_only(case: Case) -> list[Check]:
    """4: below the plain regime at level 1."""
    found = case.less("hard-only", case.plain, _at(1))
    return [negative(f"hard-only less {case.plain} at level 1", found, case.level)]


def transfer(case: Case) -> list[Check]:
    """5: the curriculum's mean score onto this task is above that of each other regime that was transferred."""
    if case.family != case.study.family_of(case.task):
        return []  # a task's transfer is judged once
    found = [each for each in transfers(case.study) if each.target == case.task and each.source in case.entering]
    names = [name for name in dict.fromkeys(each.regime for each in found) if name != "curriculum"]
    if not found:
        return []
    if not set(names) & {YARDSTICK, "random"}:
        return [absent("transfer of iid or random trunks")]
    return [_transfer_check(found, name, case) for name in names]


def _transfer_check(found: Sequence[Transfer], other: str, case: Case) -> Check:
    name = f"mean transfer score of curriculum less {other}"
    own = {each.source: each for each in found if each.regime == "curriculum"}
    beside = {each.source: each for each in found if each.regime == other}
    sources = list(dict.fromkeys([*own, *beside]))
    level = case.study.rule.level  # where a score is defined does not hang on how many statements there are
    undefined = [s for s in sources if not _defined(own.get(s), level) or not _defined(beside.get(s), level)]
    if undefined:
        return absent(f"{name} (undefined from {', '.join(undefined)})")
    first, second = (linear_by_target([side[s] for s in sources], level)[case.task][0] for side in (own, beside))
    difference = (first - second) * (1 / len(sources))
    return in_range(name, difference.estimate(case.level), len(difference.seeds), 0.0, INFINITY, unit="")


def _defined(each: Transfer | None, level: float) -> bool:
    return each is not None and each.linear(level) is not None


def scale(case: Case) -> list[Check]:
    """6: G1 falls with the size, and stays above zero at the largest; in each regime of the study with widths."""
    axes = width_axes(case.study)
    checks = []
    for regime in FOUR:
        groups = axes.get((case.task, case.family, regime))
        if groups:
            values = [g1(group) for group in groups]
            enough = bool(shared_seeds(*values))
            trend = slope(values, sizes(groups)[1]) if enough else None
            checks.append(negative(f"trend of {regime}'s G1 per doubling", trend, case.level))
            checks.append(positive(f"G1 of {regime} at the largest width", values[-1], case.level))
    return checks


def hard_data(case: Case) -> list[Check]:
    """7: the curriculum, which draws a part of its items from level 5, is no worse there than hard-only."""
    margin = case.study.rule.margin
    found = case.less("curriculum", "hard-only", _at(5))
    return [inside("curriculum less hard-only at level 5", found, -margin, INFINITY, case.level)]


def wrong_labels(case: Case) -> list[Check]:
    """8: shuffling a share of the levels lowers the curriculum's mean accuracy; refuted where it costs less than the
    margin for sure."""
    checks = []
    for group, twin in shuffled_pairs(case.study):
        run = group.run
        if (run.task, run.family, run.regime) == (case.task, case.family, "curriculum"):
            name = f"curriculum with {run.shuffled:.0%} of its levels shuffled less curriculum, mean accuracy"
            checks.append(_costs(name, lost_to_shuffling(group, twin) if twin else None, case))
    return checks


def _costs(name: str, lost: Quantity | None, case: Case) -> Check:
    """Below zero is yes; above minus the margin, and not below zero, is no."""
    below = negative(name, lost, case.level)
    if below.missing or below.truth != "open" or lost is None or lost.estimate(case.level).high < 0:
        return below
    return inside(name, lost, -INFINITY, -case.study.rule.margin, case.level)


def moderate(case: Case) -> list[Check]:
    """9: at level 1 random lies between easy-only above and hard-only below, at level 5 the other way round."""
    wanted = [
        ("easy-only", "random", 1),
        ("random", "hard-only", 1),
        ("hard-only", "random", 5),
        ("random", "easy-only", 5),
    ]
    return [
        positive(f"{one} less {other} at level {level}", case.less(one, other, _at(level)), case.level)
        for one, other, level in wanted
    ]


def _ranges() -> list[Claim]:
    texts = {
        name: f"The generalisation gap G1 of {name} training lies between {low} and {high} pp."
        for name, (low, high) in STUDY_RANGES_PP.items()
    }
    return [Claim(f"2{letter}", texts[name], gap_range(name)) for letter, name in zip("abcd", texts, strict=True)]


CLAIMS = (
    Claim(
        "1",
        "Easy-only training raises accuracy on easy items and lowers it on hard ones: above iid (random where there is "
        "no iid) at level 1 and below it at level 5.",
        easy_only,
    ),
    *_ranges(),
    Claim(
        "3",
        "The curriculum's generalisation gap G1 is smaller than easy-only's, hard-only's and random's.",
        smaller_gap,
    ),
    Claim(
        "4",
        "Hard-only training loses accuracy on easy items: below iid (random where there is no iid) at level 1.",
        hard_only,
    ),
    Claim(
        "5",
        "The curriculum improves cross-domain transfer: its mean score over learnable source tasks is above that of "
        "each other regime that was transferred, iid or random among them; judged on each target task.",
        transfer,
        needs="comparisons.transfer",
    ),
    Claim(
        "6",
        "Greater model scale narrows the gap in part and does not close it: G1 falls per doubling of the model's size "
        "and is still above zero at the largest, in each of the four regimes that was trained at two widths or more.",
        scale,
        needs="comparisons.widths",
    ),
    Claim(
        "7",
        "The curriculum reduces the reliance on hard data: it draws only a part of its items from level 5, and its "
        "accuracy there is no more than the run's margin below that of hard-only, which draws nothing else.",
        hard_data,
    ),
    Claim(
        "8",
        "Curricula are sensitive to wrong difficulty labels: shuffling a share of the training levels lowers the "
        "curriculum's mean accuracy (refuted where the loss is surely below the run's margin).",
        wrong_labels,
        needs="comparisons.shuffled",
    ),
    Claim(
        "9",
        "Random sampling gives moderate gaps at both extremes: at level 1 its accuracy lies between easy-only's above "
        "and hard-only's below, at level 5 between hard-only's above and easy-only's below.",
        moderate,
    ),
)
