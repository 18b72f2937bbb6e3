"""Draw plots as SVG: values in, text out. The page's style gives the colours of the classes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape

from core.common.safe_text import printable
from models.pages import Plot, PlotLine

MOST_POINTS = 200
"""More points than this in a plot are not seen; a page sums them up before it draws."""

# About as wide as a telephone, where texts then have their own size; wider screens enlarge it.
_WIDTH, _HEIGHT = 360, 170
_LEFT, _RIGHT, _TOP, _BOTTOM = 46, 10, 10, 24
_DOTS = 60
_STEPS = (1.0, 2.0, 5.0, 10.0)


def draw(plot: Plot, name: str) -> str:
    """The SVG element of a plot. `name` distinguishes it from others on the page, and is an HTML identifier."""
    lowest, highest = plot.lowest, _highest(plot)
    ticks = (lowest, (lowest + highest) / 2, highest)
    parts = [
        f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-labelledby="{name}-title {name}-text">',
        f'<title id="{name}-title">{_safe(plot.title)}</title>',
        f'<desc id="{name}-text">{_safe(describe_plot(plot))}</desc>',
    ]
    for tick in ticks:
        y = _y(tick, lowest, highest)
        parts.append(f'<line class="grid" x1="{_LEFT}" y1="{y}" x2="{_WIDTH - _RIGHT}" y2="{y}"/>')
        parts.append(f'<text x="{_LEFT - 6}" y="{y + 4}" text-anchor="end">{_safe(_number(tick))}</text>')
    parts += _labels(plot.labels)
    if plot.band is not None:
        top, bottom = (_y(value, lowest, highest) for value in reversed(plot.band))
        height, width = round(bottom - top, 1), _WIDTH - _LEFT - _RIGHT
        parts.append(f'<rect class="band" x="{_LEFT}" y="{top}" width="{width}" height="{height}"/>')
    if plot.limit is not None and lowest <= plot.limit <= highest:
        y = _y(plot.limit, lowest, highest)
        parts.append(f'<line class="limit" x1="{_LEFT}" y1="{y}" x2="{_WIDTH - _RIGHT}" y2="{y}"/>')
    for number, line in enumerate(plot.lines, start=1):
        parts += _line(line, number, lowest, highest)
    return "".join([*parts, "</svg>"])


def describe_plot(plot: Plot) -> str:
    """What a plot shows, for readers who do not see it."""
    return " ".join(_line_in_words(line, plot) for line in plot.lines) or "No values."


def _line_in_words(line: PlotLine, plot: Plot) -> str:
    points = [(value, label) for value, label in zip(line.values, plot.labels, strict=True) if value is not None]
    if not points:
        return f"{line.name}: no values."
    low, high = min(points), max(points)
    unit = f" {plot.unit}" if plot.unit else ""
    return (
        f"{line.name}: lowest {_number(low[0])}{unit} ({low[1]}), highest {_number(high[0])}{unit} ({high[1]}), "
        f"last {_number(points[-1][0])}{unit} ({points[-1][1]})."
    )


def _highest(plot: Plot) -> float:
    """The upper end of the axis: as given, or the next round number above all values."""
    if plot.highest is not None:
        return plot.highest
    values = [value for line in plot.lines for value in line.values if value is not None]
    most = max([*values, *([] if plot.limit is None else [plot.limit]), *(plot.band or ())], default=0.0) - plot.lowest
    if most <= 0:
        return plot.lowest + 1.0
    size = 10.0 ** math.floor(math.log10(most))
    return plot.lowest + next(step * size for step in _STEPS if step * size >= most * (1 - 1e-9))


def _line(line: PlotLine, number: int, lowest: float, highest: float) -> list[str]:
    """A path with a gap where a value is missing, and dots where there are few points or one stands alone."""
    places = [
        None if value is None else (_x(place, len(line.values)), _y(value, lowest, highest))
        for place, value in enumerate(line.values)
    ]
    commands, dots, drawing = [], [], False
    for place, point in enumerate(places):
        if point is None:
            drawing = False
            continue
        commands.append(f"{'L' if drawing else 'M'}{point[0]} {point[1]}")
        drawing = True
        around = (places[place - 1] if place else None, places[place + 1] if place + 1 < len(places) else None)
        if len(places) <= _DOTS or around == (None, None):
            dots.append(f'<circle class="dot{number}" cx="{point[0]}" cy="{point[1]}" r="2.2"/>')
    path = [f'<path class="line{number}" d="{"".join(commands)}"/>'] if commands else []
    return [*path, *dots]


def _labels(labels: Sequence[str]) -> list[str]:
    """The first, the middle and the last label below the axis."""
    if not labels:
        return []
    last = len(labels) - 1
    shown = {0: "start", last: "end"} if last else {0: "middle"}
    if last >= 4:
        shown[last // 2] = "middle"
    return [
        f'<text x="{_x(place, len(labels))}" y="{_HEIGHT - 7}" text-anchor="{anchor}">{_safe(labels[place])}</text>'
        for place, anchor in shown.items()
    ]


def _x(place: int, count: int) -> float:
    room = _WIDTH - _LEFT - _RIGHT
    return round(_LEFT + (room / 2 if count == 1 else room * place / (count - 1)), 1)


def _y(value: float, lowest: float, highest: float) -> float:
    share = min(1.0, max(0.0, (value - lowest) / ((highest - lowest) or 1.0)))
    return round(_HEIGHT - _BOTTOM - share * (_HEIGHT - _TOP - _BOTTOM), 1)


def _number(value: float) -> str:
    return f"{value:,.4g}" if abs(value) < 10_000 else f"{value:,.0f}"


def _safe(text: str) -> str:
    return escape(printable(text))
