"""A drop taken apart: one bar a deviation, each beginning where the one before ended, and the whole below them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from gapshift.reports.renderers.charts import Axis, line, spread, svg, text
from gapshift.reports.renderers.view import Interval, fixed

_ROW, _WIDTH, _LEFT, _RIGHT = 34.0, 520.0, 14.0, 60.0


@dataclass(frozen=True)
class Step:
    """One bar: what a deviation adds to the drop, in pp."""

    label: str
    share: Interval


def waterfall_chart(steps: Sequence[Step], total: Interval, title: str) -> Markup:
    """The steps one after the other from zero, with their intervals, and the total from zero; all in pp.

    What adds to the drop and what gives back differ in colour, in direction and in the sign of their numbers.
    """
    x = spread(_reached(steps, total), _LEFT, _WIDTH - _RIGHT)
    foot = _ROW * (len(steps) + 1) + 8
    body = [line(x(t), 4, x(t), foot, "grid") + text(x(t), foot + 16, f"{t:g}", "", "middle") for t in x.ticks()]
    start, y = 0.0, 4.0
    for step in steps:
        body.append(_bar(x, y, start, step.share, step.label, "s1" if step.share.estimate >= 0 else "s2"))
        start += step.share.estimate
        y += _ROW
        body.append(line(x(start), y - 6, x(start), y + 16, "grid"))
    body.append(_bar(x, y, 0.0, total, "all together", "s0"))
    body.append(
        text((_LEFT + _WIDTH - _RIGHT) / 2, foot + 34, "drop in pp · whisker: 95% interval of the bar", "dim", "middle")
    )
    return svg(_WIDTH, foot + 40, title, body)


def _reached(steps: Sequence[Step], total: Interval) -> list[float]:
    """Every place that a bar or a whisker reaches."""
    places, start = [*_ends(total)], 0.0
    for step in steps:
        places += [start + end for end in _ends(step.share)]
        start += step.share.estimate
    return places


def _ends(value: Interval) -> list[float]:
    return [end for end in (value.estimate, value.low, value.high) if end is not None]


def _bar(x: Axis, y: float, start: float, value: Interval, label: str, css: str) -> str:
    """A bar with its whisker, its number beside it and its name above."""
    here, there = sorted((x(start), x(start + value.estimate)))
    size = f'width="{max(there - here, 1.5):.1f}" height="12" rx="2" opacity="0.55"'
    marks = [f'<rect x="{here:.1f}" y="{y + 14:.1f}" {size}/>']
    if value.low is not None and value.high is not None:
        marks.append(line(x(start + value.low), y + 20, x(start + value.high), y + 20, "whisker"))
    after = max(x(start + end) for end in (0.0, *_ends(value)))
    number = fixed(value.estimate, 2 if abs(value.estimate) < 1 else 1, sign=True).replace("-", "−")
    return (
        text(x.start, y + 10, label, "dim")
        + f'<g class="{css}">{"".join(marks)}</g>'
        + text(after + 6, y + 25, number, "strong")
    )
