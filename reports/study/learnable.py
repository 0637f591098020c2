"""Which tasks enter a claim: they can be learnt at this budget, and their levels are reliable."""

from __future__ import annotations

from gapshift.reports.bands import bands_of, card_of
from gapshift.reports.study.members import Group, Study, TaskItems
from gapshift.reports.study.values import Json, note, share

LEAST_ABOVE_CHANCE = 0.05
YARDSTICK = "iid"
FIVE = 5


def is_learnable(group: Group, level: float = 0.95) -> bool | None:
    """Whether the mean held-out accuracy clears chance by 5 pp: the lower end of its interval does.

    None where the accuracy is unknown. A model exactly 5 pp above chance passes in (1 - level) / 2
    of all studies.
    """
    found = group.mean_accuracy.estimate(level)
    return found.low > group.task.chance() + LEAST_ABOVE_CHANCE if found.finite else None


def yardstick(study: Study, task: str) -> Group | None:
    """The iid models of a task: those of its main family and width, or else the first planned."""
    family = study.family_of(task)
    own = [group for group in study.groups if (group.run.task, group.run.regime) == (task, YARDSTICK)]
    own = [group for group in own if not group.run.shuffled]
    main = [g for g in own if g.run.family == family and g.run.width == study.width_of(task, g.run.family)]
    return next(iter([*main, *own]), None)


def task_rows(study: Study) -> list[Json]:
    """One row a task: {task, domain, kind, learnable, accuracy, chance, note, levels, enters_claims}."""
    return [
        _row(task, yardstick(study, task.name), study.rule.level)
        | {"levels": level_words(study, task.name), "enters_claims": not why_left_out(study, task.name)}
        for task in study.tasks
    ]


def level_words(study: Study, task: str) -> str:
    """What keeps a task's five levels from being told apart; nothing where they are reliable or were given."""
    bands, card = bands_of(study.cards, task), card_of(study.cards, task)
    known = card is not None and card.split_half is not None
    value = f"{card.split_half:.2f}" if card is not None and known else "unknown"
    if len(bands) >= FIVE:
        return ""
    return f"levels too unreliable ({value})" if len(bands) == 1 else f"levels in three bands only ({value})"


def why_left_out(study: Study, task: str) -> str:
    """Why a task enters no claim; nothing where it does."""
    group = yardstick(study, task)
    learnable = is_learnable(group, study.rule.level) if group else None
    known = {True: "", False: "not learnable at this budget", None: "not known to be learnable"}[learnable]
    levels = level_words(study, task) if len(bands_of(study.cards, task)) == 1 else ""
    return " and ".join(filter(None, (known, levels)))


def _row(task: TaskItems, group: Group | None, level: float) -> Json:
    chance = task.chance()
    row: Json = {"task": task.name, "domain": task.domain, "kind": task.kind, "learnable": None, "accuracy": None}
    row["chance"] = chance if chance == chance else None
    if group is None:
        return row | {"note": "no iid run: whether the task can be learnt is not known"}
    learnable = is_learnable(group, level)
    said = {None: "accuracy unknown", True: "learnable", False: "not learnable at this budget"}[learnable]
    about = f"{said}: {group.run.family} of width {group.run.width}, trained iid"
    more = note(len(group.members), group.problems)
    return row | {
        "learnable": learnable,
        "accuracy": share(group.mean_accuracy, level),
        "note": f"{about}; {more}" if more else about,
    }
