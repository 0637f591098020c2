"""The share of the hard-trained model's advantage that easy training recovers.

Hase, Bansal, Clark & Wiegreffe (2024), "The Unreasonable Effectiveness of Easy Training Data for Hard
Tasks", ACL, doi 10.18653/v1/2024.acl-long.378 (arXiv 2401.06751), the *supervision gap recovered* on
hard test items:

    SGR = (Easy - Unsupervised) / (Hard - Unsupervised)

Their unsupervised baseline is a pretrained model without supervision. Models here start from
nothing, so that what they score without training is chance.
"""

from __future__ import annotations

from gapshift.reports.statistics import Estimate
from gapshift.reports.study.members import Group, Study
from gapshift.reports.study.quantity import shared_seeds
from gapshift.reports.study.ratio import fieller
from gapshift.reports.study.values import Json, note

HARD = 5


def recovered(easy: Group, hard: Group, level: float = 0.95) -> Estimate | None:
    """Recovered share on level 5; None where the hard model's advantage over chance is not above 5 pp.

    Chance on those very items is taken as known.
    """
    chance = easy.task.chance([HARD])
    return fieller(easy.at(HARD).shifted(-chance), hard.at(HARD).shifted(-chance), level)


def recovery_rows(study: Study) -> list[Json]:
    """{task, family, share, base, note} for each (task, family) with easy-only or hard-only models."""
    rows = []
    for task, family in study.pairs:
        regimes = study.at_main_width(task, family)
        easy, hard = regimes.get("easy-only"), regimes.get("hard-only")
        if easy or hard:
            rows.append({"task": task, "family": family, **_row(study, task, easy, hard)})
    return rows


def _row(study: Study, task: str, easy: Group | None, hard: Group | None) -> Json:
    base = study.task(task).chance([HARD])
    known = {"base": base if base == base else None}
    if easy is None or hard is None:
        return known | {"share": None, "note": f"not trained: {'hard-only' if easy else 'easy-only'}"}
    found = recovered(easy, hard, study.rule.level)
    seeds = len(shared_seeds(easy.at(HARD), hard.at(HARD)))
    why = [] if found else ["undefined: the lower end of hard-only's advantage over chance is not above 5 pp"]
    return known | {
        "share": found.as_json() if found else None,
        "note": note(seeds, [*why, *easy.problems, *hard.problems]),
    }
