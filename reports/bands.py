"""Which levels of a task are judged apart."""

from __future__ import annotations

from gapshift.errors import WorkspaceError
from gapshift.reports.load import ALL_LEVELS
from gapshift.schema import CalibrationCard


def bands_of(cards: tuple[CalibrationCard, ...], task: str) -> tuple[tuple[int, ...], ...]:
    """The groups of levels that are judged apart in a task.

    Without a card the five levels are taken as given. Raises WorkspaceError when a
    card's bands are not a partition of the levels.
    """
    card = card_of(cards, task)
    bands: tuple[tuple[int, ...], ...] = card.gated_bands if card else tuple((k,) for k in ALL_LEVELS)
    if sorted(level for band in bands for level in band) != list(ALL_LEVELS):
        raise WorkspaceError(
            f"The calibration card of task {task!r} gates the bands {bands}: every level from 1 to 5 belongs to "
            "exactly one band. Calibrate again."
        )
    return bands


def card_of(cards: tuple[CalibrationCard, ...], task: str) -> CalibrationCard | None:
    """The task's card; the only card there is serves every task."""
    own = [card for card in cards if card.task == task]
    if own:
        return own[0]
    return cards[0] if len(cards) == 1 else None
