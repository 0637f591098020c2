"""Accuracy by trained level and tested level, after Kordi et al. (2025)."""

from __future__ import annotations

from gapshift.reports.load import ALL_LEVELS
from gapshift.reports.study.members import SINGLE_LEVEL_REGIMES, Study
from gapshift.reports.study.values import Json, note, share


def matrix_rows(study: Study) -> list[Json]:
    """One matrix for each own (task, family) that has some model trained on one level alone.

    {task, family, width, trained, tested, accuracy (5 x 5, row = trained level, E or null), note}
    """
    return [row for task, family in study.own_pairs if (row := _row(study, task, family)) is not None]


def _row(study: Study, task: str, family: str) -> Json | None:
    regimes = study.at_main_width(task, family)
    groups = [regimes.get(name) for name in SINGLE_LEVEL_REGIMES]
    found = [group for group in groups if group is not None]
    if not found:
        return None
    missing = [name for name, group in zip(SINGLE_LEVEL_REGIMES, groups, strict=True) if group is None]
    problems = [f"not trained: {', '.join(missing)}"] if missing else []
    problems += [problem for group in found for problem in group.problems]
    level = study.rule.level
    return {
        "task": task,
        "family": family,
        "width": found[0].run.width,
        "trained": list(ALL_LEVELS),
        "tested": list(ALL_LEVELS),
        "accuracy": [
            [None if group is None else share(group.at(tested), level) for tested in ALL_LEVELS] for group in groups
        ],
        "note": note(min(len(group.members) for group in found), problems),
    }
