"""What a cell's simulated service did: how many answers came without it, level by level, and in words."""

from __future__ import annotations

from typing import Any

from gapshift.reports.cells import LEVEL_KEYS, Json, interval_json
from gapshift.reports.load import Bools, Pairs, json_dict, strata
from gapshift.reports.statistics import clopper_pearson
from gapshift.schema import CellInfo, Domain, ServiceTally


def service_json(info: CellInfo | None, pairs: Pairs | None, fixed: bool = True) -> Json:
    """``service``, ``fallback_share`` and ``no_answer_share`` of a cell; all null where it has no service.

    Shares are of its answers, by level, with Clopper-Pearson's interval: those that came from a fallback (of episodes:
    that met one), and those that were never given. ``fixed`` tells whether their number was settled beforehand; an
    interval has no ends where it was not.
    """
    if info is None or info.service is None:
        return dict.fromkeys(("service", "fallback_share", "no_answer_share"))
    return {
        "service": json_dict(info.service),
        "fallback_share": _shares(pairs, pairs.fallback, fixed) if pairs else None,
        "no_answer_share": _shares(pairs, pairs.no_answer, fixed) if pairs else None,
    }


def _shares(pairs: Pairs, hit: Bools, fixed: bool) -> Json:
    found: dict[str, Any] = dict.fromkeys(LEVEL_KEYS)
    for key, mask in strata(pairs.level).items():
        if mask.any():
            share = interval_json(clopper_pearson(int(hit[mask].sum()), int(mask.sum())))
            found[key] = share if fixed else {"estimate": float(hit[mask].mean()), "low": None, "high": None}
    return found


def service_remarks(info: CellInfo | None, pairs: Pairs | None, domain: Domain) -> tuple[str, ...]:
    """One line on what the service did, where the cell has one. In control a request is a step's reading."""
    if info is None or info.service is None or not pairs:
        return ()
    tally, steps = info.service, domain == "control"
    shares = {
        "came from a fallback": 0 if pairs.no_answer.any() else tally.fallbacks,
        "got no answer": tally.fallbacks if pairs.no_answer.any() else 0,
        "were stale": tally.stale,
        "were garbled": tally.corrupted,
    }
    parts = [f"{count / tally.requests:.1%} {what}" for what, count in shares.items() if count]
    found = ", ".join(parts) or "all were answered, none stale or garbled"
    met = f" ({pairs.fallback.mean():.1%} of the episodes met a fallback)" if steps and tally.fallbacks else ""
    return (f"of {tally.requests:,} {'readings' if steps else 'inputs'} from a service {found}{met}{_time(tally)}",)


def _time(tally: ServiceTally) -> str:
    more = tally.attempts - tally.requests
    again = f"; {more:,} attempts more than requests" if more else ""
    if not tally.latency_ms_p95:
        return again
    return f"{again}; median {tally.latency_ms_median:.0f} ms, 95% within {tally.latency_ms_p95:.0f} ms"
