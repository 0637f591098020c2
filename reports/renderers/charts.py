"""Inline SVG charts of the regimes, and what charts are drawn with. Colours are CSS, so they follow light and dark.

Series differ by marker shape and label as well as by colour.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from markupsafe import Markup, escape

from gapshift.reports.renderers.view import LEVEL_KEYS, Interval, fixed

_MARKERS: tuple[Callable[[float, float], str], ...] = (
    lambda x, y: f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4.5"/>',
    lambda x, y: f'<rect x="{x - 4:.1f}" y="{y - 4:.1f}" width="8" height="8"/>',
    lambda x, y: f'<path d="M{x:.1f} {y - 5.5:.1f}l5.5 9.5h-11z"/>',
    lambda x, y: f'<path d="M{x:.1f} {y - 6:.1f}l6 6-6 6-6-6z"/>',
    lambda x, y: f'<path d="M{x:.1f} {y + 5.5:.1f}l5.5-9.5h-11z"/>',
    lambda x, y: f'<path d="M{x - 5.5:.1f} {y - 1.8:.1f}h3.7v-3.7h3.6v3.7h3.7v3.6h-3.7v3.7h-3.6v-3.7h-3.7z"/>',
)


@dataclass(frozen=True)
class Series:
    """One regime's values: per level in the first chart, per environment in the last."""

    label: str
    values: tuple[Interval | None, ...]


@dataclass(frozen=True)
class Gap:
    """A regime's G1 in the reference, the study's range beside it, and G1 in every environment."""

    label: str
    g1: Interval
    study: tuple[float, float] | None
    environments: tuple[tuple[str, float], ...] = ()


@dataclass(frozen=True)
class Axis:
    """A linear scale from data to pixels with round ticks."""

    low: float
    high: float
    start: float
    end: float

    def __call__(self, value: float) -> float:
        return self.start + (value - self.low) / (self.high - self.low) * (self.end - self.start)

    def ticks(self, most: int = 6) -> list[float]:
        span = self.high - self.low
        step = next(s for s in _STEPS if span / s <= most)
        first = -(-self.low // step) * step
        return [first + i * step for i in range(int((self.high - first) / step + 1e-9) + 1)]


_STEPS = (1e-9, *(m * 10.0**e for e in range(-6, 7) for m in (1, 2, 5)), 1e30)


def spread(values: Iterable[float], start: float, end: float) -> Axis:
    """An axis over the values and zero, with room at both ends."""
    known = [0.0, *values]
    low, high = min(known), max(known)
    pad = 0.06 * (high - low) or 1.0
    return Axis(low - pad if low < 0 else low, high + pad, start, end)


def svg(width: float, height: float, title: str, body: Iterable[str]) -> Markup:
    """A drawing of this size in pixels, with its title for those who cannot see it."""
    return Markup(
        f'<svg viewBox="0 0 {width:.0f} {height:.0f}" width="{width:.0f}" height="{height:.0f}" role="img" '
        f'aria-label="{escape(title)}"><title>{escape(title)}</title>{"".join(body)}</svg>'
    )


def text(x: float, y: float, words: object, css: str = "", anchor: str = "") -> str:
    """Escaped words at a place."""
    kind = f' class="{css}"' if css else ""
    where = f' text-anchor="{anchor}"' if anchor else ""
    return f'<text x="{x:.1f}" y="{y:.1f}"{kind}{where}>{escape(words)}</text>'


def line(x1: float, y1: float, x2: float, y2: float, css: str) -> str:
    """A straight line between two places."""
    return f'<path class="{css}" d="M{x1:.1f} {y1:.1f}L{x2:.1f} {y2:.1f}"/>'


def accuracy_chart(series: Sequence[Series], title: str) -> Markup:
    """Reference accuracy (%) per level, one line per regime, whiskers at the interval's ends."""
    width, height, left, right, top, bottom = 460.0, 280.0, 34.0, 122.0, 10.0, 40.0
    y = Axis(0, 100, height - bottom, top)
    inner = left + 16
    step = (width - inner - right - 12) / (len(LEVEL_KEYS) - 1)
    body = [
        line(left, y(t), width - right, y(t), "grid") + text(left - 8, y(t) + 4, f"{t:.0f}", "", "end")
        for t in y.ticks()
    ]
    body += [text(inner + i * step, height - bottom + 18, key, "", "middle") for i, key in enumerate(LEVEL_KEYS)]
    body.append(
        text((left + width - right) / 2, height - 4, "level (1 easy to 5 hard) · accuracy in %", "dim", "middle")
    )
    for place, one in enumerate(series):
        first = inner + (place - (len(series) - 1) / 2) * 5
        body.append(_series_line(place, one, [first + i * step for i in range(len(LEVEL_KEYS))], y))
    body += _end_labels(series, y, width - right + 22)
    return svg(width, height, title, body)


def _series_line(place: int, one: Series, xs: Sequence[float], y: Axis) -> str:
    points = [(x, value) for x, value in zip(xs, one.values, strict=True) if value is not None]
    path = "L".join(f"{px:.1f} {y(value.estimate):.1f}" for px, value in points)
    body = [f'<path class="curve" d="M{path}"/>'] if points else []
    for px, value in points:
        if value.low is not None and value.high is not None:
            body.append(line(px, y(value.low), px, y(value.high), "whisker"))
        body.append(_MARKERS[place % len(_MARKERS)](px, y(value.estimate)))
    return f'<g class="s{place % len(_MARKERS)}">{"".join(body)}</g>'


def _end_labels(series: Sequence[Series], y: Axis, x: float) -> list[str]:
    """Labels beside the last points, pushed apart so that none covers another."""
    last = [(next((v.estimate for v in reversed(one.values) if v), 0.0), place) for place, one in enumerate(series)]
    body, free = [], -1e9
    for value, place in sorted(last, reverse=True):
        free = max(y(value), free + 17)
        marker = _MARKERS[place % len(_MARKERS)](x, free)
        body.append(f'<g class="s{place % len(_MARKERS)}">{marker}</g>' + text(x + 11, free + 4, series[place].label))
    return body


def width_chart(series: Sequence[Series], sizes: Sequence[float], per: str, title: str) -> Markup:
    """G1 (pp) by size on a log2 axis, one line per regime, whiskers at the interval's ends.

    Every series has a value, or None, for each of the sizes, which rise.
    """
    width, height, left, right, top, bottom = 460.0, 260.0, 40.0, 122.0, 10.0, 40.0
    known = [value for one in series for value in one.values if value is not None]
    ends = [end for value in known for end in (value.estimate, value.low, value.high) if end is not None]
    y = spread(ends, height - bottom, top)
    x = Axis(math.log2(sizes[0]), math.log2(sizes[-1]), left + 28, width - right - 28)
    body = [
        line(left, y(t), width - right, y(t), "grid") + text(left - 8, y(t) + 4, f"{t:g}", "", "end") for t in y.ticks()
    ]
    body += [text(x(math.log2(size)), height - bottom + 18, _short(size), "", "middle") for size in sizes]
    body.append(text((left + width - right) / 2, height - 4, f"{per} (log scale) · G1 in pp", "dim", "middle"))
    for place, one in enumerate(series):
        aside = (place - (len(series) - 1) / 2) * 5
        body.append(_series_line(place, one, [x(math.log2(size)) + aside for size in sizes], y))
    body += _end_labels(series, y, width - right + 22)
    return svg(width, height, title, body)


def _short(size: float) -> str:
    """A size in few characters: 12k for 12345, 1.2M for 1234567."""
    for unit, word in ((1e6, "M"), (1e3, "k")):
        if size >= unit:
            return f"{size / unit:.3g}{word}"
    return f"{size:g}"


def gap_chart(gaps: Sequence[Gap], title: str) -> Markup:
    """G1 with its interval (dot and whisker) over the study's range (band), one row per regime, in pp."""
    row, left, width = 44.0, 110.0, 460.0
    ends = [v for g in gaps for v in (g.g1.estimate, g.g1.low, g.g1.high, *(g.study or ())) if v is not None]
    x = spread(ends, left, width - 16)
    height = row * len(gaps) + 44
    body = [
        line(x(t), 6, x(t), height - 38, "grid") + text(x(t), height - 22, f"{t:g}", "", "middle") for t in x.ticks()
    ]
    body.append(text((left + width) / 2, height - 4, "G1 in pp · band: range in the study", "dim", "middle"))
    for place, gap in enumerate(gaps):
        body.append(_gap_row(place, gap, x, row * place + row / 2 + 6))
    return svg(width, height, title, body)


def _gap_row(place: int, gap: Gap, x: Axis, y: float) -> str:
    body = [text(x.start - 12, y + 4, gap.label, "", "end")]
    if gap.study:
        low, high = gap.study
        body.append(
            f'<rect class="band" x="{x(low):.1f}" y="{y - 13:.1f}" width="{x(high) - x(low):.1f}" height="26" rx="3"/>'
        )
    dot = _MARKERS[place % len(_MARKERS)](x(gap.g1.estimate), y)
    if gap.g1.low is not None and gap.g1.high is not None:
        dot = line(x(gap.g1.low), y, x(gap.g1.high), y, "whisker") + dot
    body.append(f'<g class="s{place % len(_MARKERS)}">{dot}</g>')
    return "".join(body)


def shift_chart(gaps: Sequence[Gap], title: str) -> Markup:
    """From G1 in the reference (vertical line) to G1 in every environment (marker): one panel per regime.

    All panels have one scale, so that lengths compare; each starts where its own values do.
    """
    names = list(dict.fromkeys(name for gap in gaps for name, _ in gap.environments))
    row, left, space = 21.0, 190.0, 18.0
    panel = min(max(930 / len(gaps) - space, 150.0), 420.0)
    reach = max(max(_places(gap)) - min(_places(gap)) for gap in gaps) or 1.0
    height = 34 + row * len(names) + 44
    width = left + len(gaps) * (panel + space)
    ys = {name: 34 + row * i + row / 2 for i, name in enumerate(names)}
    body = [text(left - 12, y + 4, name, "", "end") + line(left, y, width - space, y, "grid") for name, y in ys.items()]
    for place, gap in enumerate(gaps):
        start = left + place * (panel + space)
        body.append(_shift_panel(place, gap, _window(gap, reach, start + 8, start + panel - 8), ys, height - 44))
    body.append(
        text(
            (left + width) / 2,
            height - 4,
            "G1 in pp · line: in the reference · marker: in the environment",
            "dim",
            "middle",
        )
    )
    return svg(width, height, title, body)


def _places(gap: Gap) -> list[float]:
    return [gap.g1.estimate, *(value for _, value in gap.environments)]


def _window(gap: Gap, reach: float, start: float, end: float) -> Axis:
    low = min(_places(gap)) - 0.06 * reach
    return Axis(low, low + 1.12 * reach, start, end)


def _shift_panel(place: int, gap: Gap, x: Axis, ys: dict[str, float], foot: float) -> str:
    css = f"s{place % len(_MARKERS)}"
    home = x(gap.g1.estimate)
    body = [text((x.start + x.end) / 2, 14, f"{gap.label}: {fixed(gap.g1.estimate)} pp", "strong", "middle")]
    body += [line(x(t), 26, x(t), foot, "grid") + text(x(t), foot + 18, f"{t:g}", "", "middle") for t in x.ticks(4)]
    marks = [line(home, 26, home, foot, "home")]
    for name, value in gap.environments:
        marks.append(
            line(home, ys[name], x(value), ys[name], "stem") + _MARKERS[place % len(_MARKERS)](x(value), ys[name])
        )
    return "".join(body) + f'<g class="{css}">{"".join(marks)}</g>'
