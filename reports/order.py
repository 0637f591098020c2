"""The order of verdicts: all that judging and the renderers need to share of them."""

from __future__ import annotations

from collections.abc import Iterable

from gapshift.schema import Verdict

WORST_FIRST: tuple[Verdict, ...] = ("FAIL", "ERROR", "INCONCLUSIVE", "NO DATA", "PASS")


def worst(verdicts: Iterable[object]) -> Verdict:
    """The verdict that decides; an unknown word counts as ERROR, and NO DATA stands for none at all.

    >>> worst(["PASS", "fine"]), worst([])
    ('ERROR', 'NO DATA')
    """
    found = {verdict if verdict in WORST_FIRST else "ERROR" for verdict in verdicts}
    return next((verdict for verdict in WORST_FIRST if verdict in found), "NO DATA")
