"""Errors along a model's layers, on a logarithmic scale."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from gapshift.reports.renderers.charts import Axis, line, svg, text

_WIDTH, _HEIGHT, _LEFT, _RIGHT, _TOP, _BOTTOM = 720.0, 260.0, 52.0, 110.0, 12.0, 34.0
_MOST_DECADES = 9


@dataclass(frozen=True)
class Point:
    """A layer's errors; None where there is none, or where it is not finite."""

    name: str
    error: float | None
    own: float | None
    floor: float | None
    blamed: bool = False


def error_chart(points: Sequence[Point], title: str) -> Markup:
    """Each layer's error (line), what its node adds on its own (squares) and its floor (dots), in their order.

    What is zero lies on the lowest line.
    """
    x = Axis(0, max(len(points) - 1, 1), _LEFT + 10, _WIDTH - _RIGHT)
    y = _decades(points)
    body = [
        line(_LEFT, y(t), _WIDTH - _RIGHT, y(t), "grid") + text(_LEFT - 6, y(t) + 4, f"1e{t:.0f}", "", "end")
        for t in range(math.ceil(y.low), math.floor(y.high) + 1)
    ]
    errors = [(x(place), y(_log(point.error, y))) for place, point in enumerate(points) if point.error is not None]
    if errors:
        path = "L".join(f"{px:.1f} {py:.1f}" for px, py in errors)
        body.append(f'<g class="s0"><path class="curve" d="M{path}"/></g>')
    for place, point in enumerate(points):
        body.append(_marks(x(place), point, y))
    middle = (_LEFT + _WIDTH - _RIGHT) / 2
    body.append(text(middle, _HEIGHT - 6, "layers in the order in which they run · normalised error", "dim", "middle"))
    return svg(_WIDTH, _HEIGHT, title, [*body, *_legend()])


def _circle(x: float, y: float) -> str:
    return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="2.5"/>'


def _square(x: float, y: float) -> str:
    return f'<rect x="{x - 3.5:.1f}" y="{y - 3.5:.1f}" width="7" height="7"/>'


def _marks(px: float, point: Point, y: Axis) -> str:
    body = []
    if point.floor is not None:
        body.append(f'<g class="s2">{_circle(px, y(_log(point.floor, y)))}</g>')
    if point.own is not None:
        body.append(f'<g class="s1">{_square(px, y(_log(point.own, y)))}</g>')
    if point.blamed:
        body.append(line(px, _TOP, px, _HEIGHT - _BOTTOM, "grid") + text(px + 6, _TOP + 10, point.name))
    return "".join(body)


def _legend() -> list[str]:
    at = _WIDTH - _RIGHT + 16
    return [
        f'<g class="s0">{line(at - 6, 30, at + 8, 30, "curve")}</g>' + text(at + 14, 34, "error"),
        f'<g class="s1">{_square(at, 50)}</g>' + text(at + 14, 54, "on its own"),
        f'<g class="s2">{_circle(at, 70)}</g>' + text(at + 14, 74, "floor"),
    ]


def _decades(points: Sequence[Point]) -> Axis:
    """Whole decades from the least value above zero, not too many, to the largest."""
    values = [value for p in points for value in (p.error, p.own, p.floor) if value is not None and value > 0]
    high = math.ceil(math.log10(max(values, default=1.0))) if values else 0
    low = max(math.floor(math.log10(min(values, default=1e-3))), high - _MOST_DECADES)
    return Axis(low - 0.3, max(high, low + 1) + 0.1, _HEIGHT - _BOTTOM, _TOP)


def _log(value: float | None, y: Axis) -> float:
    return max(math.log10(value), y.low) if value else y.low
