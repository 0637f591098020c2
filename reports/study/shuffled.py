"""How sensitive the curriculum is to wrong difficulty labels: levels shuffled in part before training."""

from __future__ import annotations

from gapshift.reports.study.gaps import g1
from gapshift.reports.study.members import Group, Study
from gapshift.reports.study.quantity import Quantity
from gapshift.reports.study.values import Json, note, pp


def shuffled_pairs(study: Study) -> list[tuple[Group, Group | None]]:
    """Each group with shuffled levels, and its twin with the true ones where that was trained."""
    return [(group, _twin(study, group)) for group in study.groups if group.run.shuffled > 0]


def _twin(study: Study, group: Group) -> Group | None:
    def key(each: Group) -> tuple[str, str, int, str]:
        return each.run.task, each.run.family, each.run.width, each.run.regime

    same = (other for other in study.groups if other.run.shuffled == 0 and key(other) == key(group))
    return next(same, None)


def lost_to_shuffling(group: Group, twin: Group) -> Quantity:
    """Mean held-out accuracy with shuffled levels less that with true ones, by seed and item."""
    return group.mean_accuracy - twin.mean_accuracy


def shuffled_rows(study: Study) -> list[Json]:
    """{task, family, width, regime, share, difference_pp, g1_difference_pp, seeds, note}; shuffled less true."""
    return [_row(group, twin, study.rule.level) for group, twin in shuffled_pairs(study)]


def _row(group: Group, twin: Group | None, level: float) -> Json:
    run = group.run
    row: Json = {name: getattr(run, name) for name in ("task", "family", "width", "regime")} | {"share": run.shuffled}
    if twin is None:
        why = f"no {run.regime} with the true levels to compare with"
        return row | {"difference_pp": None, "g1_difference_pp": None, "seeds": 0, "note": why}
    difference = lost_to_shuffling(group, twin)
    seeds = len(difference.seeds)
    return row | {
        "difference_pp": pp(difference, level),
        "g1_difference_pp": pp(g1(group) - g1(twin), level),
        "seeds": seeds,
        "note": note(seeds, [*group.problems, *twin.problems]),
    }
