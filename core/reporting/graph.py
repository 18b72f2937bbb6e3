"""Draw services and what they need as SVG: who needs others stands above them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from html import escape

from core.common.safe_text import printable, shorten
from core.reporting.shapes import draw_shape
from models.environment_view import ServiceView
from models.metrics import DependencyStatus, DependencyType

_WIDTH, _HEIGHT, _BETWEEN, _ROWS_BETWEEN, _EDGE = 144, 50, 16, 44, 4
_MOST_IN_A_ROW = 6
_LONGEST_NAME = 16


def draw_graph(services: Sequence[ServiceView], name: str) -> str:
    """The SVG element of a graph. `name` is the id of the element, and begins those of its parts."""
    rows = _rows(services)
    width = max((len(row) for row in rows), default=1) * (_WIDTH + _BETWEEN) - _BETWEEN + 2 * _EDGE
    height = len(rows) * (_HEIGHT + _ROWS_BETWEEN) - _ROWS_BETWEEN + 2 * _EDGE
    places = {}
    for number, row in enumerate(rows):
        start = (width - len(row) * (_WIDTH + _BETWEEN) + _BETWEEN) / 2
        for place, service in enumerate(row):
            places[service] = (start + place * (_WIDTH + _BETWEEN), _EDGE + number * (_HEIGHT + _ROWS_BETWEEN))
    edges = [
        _edge(places[view.service], places[need.depends_on], need.dependency_type, need.status)
        for view in services
        for need in view.needs
        if need.depends_on in places and need.status is not DependencyStatus.INACTIVE
    ]
    nodes = [_node(view, places[view.service]) for view in services]
    return (
        f'<svg id="{name}" class="graph" viewBox="0 0 {width:g} {height:g}" width="{width:g}" height="{height:g}" '
        f'role="img" aria-labelledby="{name}-text"><title id="{name}-text">{_safe(describe_graph(services))}</title>'
        f"{''.join(edges)}{''.join(nodes)}</svg>"
    )


def describe_graph(services: Iterable[ServiceView]) -> str:
    """What a graph shows, for readers who do not see it."""
    sentences = []
    for view in services:
        needs = ", ".join(need.depends_on for need in view.needs if need.status is not DependencyStatus.INACTIVE)
        sentences.append(f"{view.service} is {view.verdict.words}{f' and needs {needs}' if needs else ''}.")
    return " ".join(sentences) or "No services."


def _rows(services: Sequence[ServiceView]) -> list[list[str]]:
    """The services row by row, each above all that it needs; a long row is broken."""
    needs = {view.service: [need.depends_on for need in view.needs] for view in services}
    levels: dict[str, int] = {}
    for service in needs:
        _level_of(service, needs, levels, ())
    deepest = max(levels.values(), default=0)
    rows = []
    for level in range(deepest, -1, -1):
        row = [service for service in needs if levels[service] == level]
        rows += [row[place : place + _MOST_IN_A_ROW] for place in range(0, len(row), _MOST_IN_A_ROW)]
    return rows


def _level_of(service: str, needs: Mapping[str, Sequence[str]], levels: dict[str, int], above: tuple[str, ...]) -> int:
    """How many services stand below one. A circle, which Compose refuses, is cut where it closes."""
    if service not in levels:
        below = [other for other in needs.get(service, ()) if other in needs and other not in (*above, service)]
        levels[service] = max((_level_of(other, needs, levels, (*above, service)) + 1 for other in below), default=0)
    return levels[service]


def _edge(begin: tuple[float, float], end: tuple[float, float], kind: DependencyType, status: DependencyStatus) -> str:
    x1, y1 = begin[0] + _WIDTH / 2, begin[1] + _HEIGHT
    x2, y2 = end[0] + _WIDTH / 2, end[1]
    if y2 <= y1:
        # Both in one broken row: the line leaves and arrives below.
        y2 = end[1] + _HEIGHT
    half = (y1 + y2) / 2
    classes = " ".join(["edge", *(["optional"] if kind is not DependencyType.REQUIRED else []), *_failed(status)])
    path = f"M{x1:g} {y1:g}C{x1:g} {half:g} {x2:g} {half:g} {x2:g} {y2 - 5:g}"
    head = f"M{x2 - 4:g} {y2 - 6:g}L{x2:g} {y2:g}L{x2 + 4:g} {y2 - 6:g}"
    return f'<path class="{classes}" d="{path}"/><path class="{classes} head" d="{head}"/>'


def _failed(status: DependencyStatus) -> list[str]:
    return ["failed"] if status is DependencyStatus.FAILED else []


def _node(view: ServiceView, place: tuple[float, float]) -> str:
    x, y = place
    return (
        f'<g class="node {view.verdict.level}" transform="translate({x:g} {y:g})">'
        f"<title>{_safe(f'{view.service}: {view.reason or view.verdict.words}')}</title>"
        f'<rect width="{_WIDTH}" height="{_HEIGHT}" rx="8"/>'
        f'<svg class="icon" x="11" y="16" width="18" height="18" viewBox="0 0 16 16">'
        f"{draw_shape(view.verdict.level)}</svg>"
        f'<text class="name" x="38" y="22">{_safe(shorten(view.service, _LONGEST_NAME))}</text>'
        f'<text x="38" y="38">{_safe(shorten(view.verdict.words, _LONGEST_NAME))}</text></g>'
    )


def _safe(text: str) -> str:
    return escape(printable(text))
