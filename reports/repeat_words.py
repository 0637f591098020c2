"""One sentence on what changes a prediction where nothing should."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

Cause = Mapping[str, Any]
_NAMES = {"repetition": "repetition", "threads": "threads", "order": "order", "batch": "batch size"}


def finding(causes: Mapping[str, Cause], companions: Cause, anything: Cause) -> str:
    """Which of repetition, threads, batch size and order change predictions, with counts, and what is left.

    ``companions`` unites order and batch size, ``anything`` all of them.
    """
    n = _count(anything)[1]
    if not n:
        return "nothing could be compared"
    blames = [*_companions(causes, companions), *_threads(causes), *_repetition(causes)]
    if not blames:
        return f"no prediction of {n:,} changes{_outputs(anything)}"
    text = "; ".join(f"{count:,} of {n:,} predictions {why}" for count, why in blames)
    ties = int(anything["tie_flips"]["all"])
    said = f" (ties among them: {ties:,})" if ties else ""
    return text + said + _innocent(causes)


def _companions(causes: Mapping[str, Cause], companions: Cause) -> list[tuple[int, str]]:
    k = _count(companions)[0]
    if not k:
        return []
    order, batch = (_flips(causes, name) for name in ("order", "batch"))
    if order and batch:
        return [(k, "depend on who shares a batch (order, batch size)")]
    if order:
        return [(k, "depend on who shares a batch (order)")]
    if batch:
        alone = " and not on who shares the batch" if causes["order"]["bitwise"] else ""
        return [(k, f"depend on the batch size{alone}")]
    return [(k, "depend on order and batch size together")]


def _threads(causes: Mapping[str, Cause]) -> list[tuple[int, str]]:
    k = _flips(causes, "threads")
    return [(k, "depend on the number of threads")] if k else []


def _repetition(causes: Mapping[str, Cause]) -> list[tuple[int, str]]:
    k = _flips(causes, "repetition")
    return [(k, "change when nothing is changed, so that the other counts may be chance")] if k else []


def _innocent(causes: Mapping[str, Cause]) -> str:
    """The causes that were measured and flipped nothing."""
    names = [name for name in _NAMES if _flips(causes, name) == 0]
    if not names:
        return ""
    same = all(causes[name]["bitwise"] for name in names)
    said = " and ".join([", ".join(_NAMES[name] for name in names[:-1]), _NAMES[names[-1]]][len(names) < 2 :])
    verb = "changes" if len(names) == 1 else "change"
    return f"; {said} {verb} {'nothing' if same else 'no prediction' + _largest([causes[name] for name in names])}"


def _outputs(cause: Cause) -> str:
    if cause["bitwise"]:
        return ", and no bit of an output"
    return _largest([cause])


def _largest(causes: list[Cause]) -> str:
    known = [cause["largest_difference"] for cause in causes if cause["largest_difference"] is not None]
    return f" (outputs differ by at most {max(known):.2g})" if known and max(known) > 0 else ""


def _flips(causes: Mapping[str, Cause], name: str) -> int | None:
    """How many predictions a cause changed; None where it was not measured."""
    cause = causes[name]
    return _count(cause)[0] if cause["settings"] and _count(cause)[1] else None


def _count(cause: Cause) -> tuple[int, int]:
    share = cause["flips"]["all"]
    return (share["k"], share["n"]) if share else (0, 0)
