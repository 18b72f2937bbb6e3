"""Text of `roas top`: one frame from one value, for a terminal of any size from 80 columns and 24 lines on."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime

from rich.cells import cell_len, set_cell_size
from rich.console import Group
from rich.text import Text

from cli.rendering.console import colour_of
from core.common.safe_text import printable, shorten
from core.reporting.live_view import length
from models.live import LiveRecovery, LiveService, LiveView
from models.metrics import AlertSeverity
from models.operations import Operation, OperationStatus

_BARS = "▁▂▃▄▅▆▇█"
_COLOURS = {
    "exited": "red",
    "dead": "red",
    "restarting": "red",
    "paused": "yellow",
    "created": "yellow",
    "no": "red",
    "stopped": "red",
}
_NAME = 16
_WIDEST_NAME = 40
_ROOM_FOR_HISTORIES = 24
_FIXED = 61
"""Columns of a service's line without its name and its two histories."""

_SHORTEST_HISTORY, _LONGEST_HISTORY = 4, 30
_FEWEST_SERVICES = 3
_MOST_ALERTS, _MOST_RECOVERIES = 4, 3


def frame(view: LiveView, width: int, height: int | None = None) -> Group:
    """One frame of at most `height` lines, each of at most `width` columns; without a height everything is shown.

    Problems and the operation come first; where there is no room, services come before recoveries and forecasts, and
    those in trouble before others.
    """
    above = [_title(view, width), *_notices(view, width), *_operation(view, width)]
    alerts = list(_alerts(view, width, None if height is None else _MOST_ALERTS))
    later = [*_recoveries(view, width, None if height is None else _MOST_RECOVERIES), *_forecast(view, width)]
    if height is None:
        lines = [*above, Text(), *_services(view, width, None), *_apart(alerts), *_apart(later)]
        return Group(*lines)
    below = _keys(view, width)
    room = height - len(above) - 3
    wanted = len(view.services)
    shown_alerts = alerts[: max(0, room - min(wanted, _FEWEST_SERVICES) - 1)]
    room -= len(_apart(shown_alerts))
    shown_later = later[: max(0, room - wanted - 1)]
    room -= len(_apart(shown_later))
    lines = [*above, Text(), *_services(view, width, max(1, room)), *_apart(shown_alerts), *_apart(shown_later)]
    blank = [Text()] * max(0, height - len(lines) - 1)
    return Group(*lines[: height - 1], *blank, below)


def _title(view: LiveView, width: int) -> Text:
    line = Text(no_wrap=True)
    line.append(printable(view.environment), style="bold")
    overall = view.overall or "health not known"
    line.append(f"  {overall}", style=colour_of(overall))
    desired, colour = ("running", "") if view.meant_to_run else ("stopped", "yellow")
    line.append(f"  desired: {desired}", style=colour)
    clock = f"{view.at:%H:%M:%S} UTC"
    room = width - len(clock) - 2
    if view.release and view.released_at is not None:
        release = f"  release {view.release}"
        age = f", {length(view.at - view.released_at)} ago"
        part = next((part for part in (release + age, release) if line.cell_len + len(part) <= room), "")
        line.append(part, style="dim")
    line.append(clock.rjust(width - line.cell_len) if line.cell_len <= room else "")
    return _cut(line, width)


def _notices(view: LiveView, width: int) -> Iterator[Text]:
    for problem in view.problems:
        yield _cut(Text(f"  {_one_line(problem)}", style="red"), width)
    if view.stale:
        yield _cut(Text(f"  {view.stale}", style="yellow"), width)
    elif view.collected_at is not None:
        yield _cut(Text(f"  collected {length(view.at - view.collected_at)} ago", style="dim"), width)
    for pause in view.pauses:
        until = f" until {pause.until:%m-%d %H:%M} UTC" if pause.until is not None else ""
        which = pause.service or "every service"
        text = f"  automatic recovery of {which} is off{until}: {_one_line(pause.reason)}"
        yield _cut(Text(text, style="yellow"), width)
    if view.tickets:
        plural = "tickets wait" if view.tickets > 1 else "ticket waits"
        text = f"  {view.tickets} {plural} for an answer: roas tickets {printable(view.environment)}"
        yield _cut(Text(text, style="yellow"), width)


def _operation(view: LiveView, width: int) -> Iterator[Text]:
    one = view.operation
    if one is None:
        return
    if one.ended_at is None:
        line = Text(f"  {one.kind} is running", style="cyan")
        line.append(f" for {length(view.at - one.started_at)}")
        if view.step:
            line.append(f", last step: {_one_line(view.step)}")
    else:
        line = Text(f"  last operation: {one.kind} ")
        line.append(_word(one), style=colour_of(one.status))
        line.append(f" {length(view.at - one.ended_at)} ago")
        if reason := one.details.get("reason"):
            line.append(f": {_one_line(str(reason))}", style="dim")
    yield _cut(line, width)


def _word(one: Operation) -> str:
    return {OperationStatus.SUCCESS: "succeeded", OperationStatus.FAILED: "failed"}.get(one.status, str(one.status))


def _services(view: LiveView, width: int, most: int | None) -> Iterator[Text]:
    """The heading and at most so many lines, the last of which may count the services that are left out."""
    services = view.services
    longest = max((cell_len(printable(one.service)) for one in services), default=0)
    name = max(7, min(longest, max(_NAME, min(_WIDEST_NAME, width - _FIXED - _ROOM_FOR_HISTORIES))))
    history = min(_LONGEST_HISTORY, (width - _FIXED - name) // 2)
    history = history if history >= _SHORTEST_HISTORY else 0
    minutes = f"{length(view.history)}" if view.history and history > 5 else ""
    heading = (
        f"{'service':<{name}} {'state':<12} {'health':<9} {'for':>6} {'restarts':>8} "
        f"{'cpu %':>5} {minutes:<{history}} {'memory':>7} {minutes:<{history}} {'ms':>5}"
    )
    yield _cut(Text(heading, style="dim"), width)
    shown = services
    if most is not None and len(services) > most:
        worst = sorted(services, key=lambda one: (not _is_in_trouble(one), one.service))[: most - 1]
        shown = tuple(one for one in services if one in worst)
    for one in shown:
        yield _cut(_service(one, view.at, name, history), width)
    if len(shown) < len(services):
        yield _cut(Text(f"  and {len(services) - len(shown)} more", style="dim"), width)
    if not services:
        yield _cut(Text("  There is no container, and none is recorded."), width)


def _service(one: LiveService, at: datetime, name: int, history: int) -> Text:
    state = f"{one.state} x{one.containers}" if one.containers > 1 else one.state
    line = Text(no_wrap=True)
    line.append(f"{_fitted(printable(one.service), name)} ", style="bold" if _is_in_trouble(one) else "")
    line.append(f"{state[:12]:<12} ", style=_COLOURS.get(one.state.split()[0], "") if _is_in_trouble(one) else "")
    line.append(f"{one.health[:9]:<9} ", style=colour_of(one.health))
    line.append(f"{length(at - one.since) if one.since is not None else '':>6} {one.restarts or '':>8} ")
    line.append(f"{'' if one.cpu_percent is None else _percent(one.cpu_percent):>5} ")
    line.append(f"{sparkline(one.cpu_history, history):<{history}} ", style="cyan")
    line.append(f"{'' if one.memory_bytes is None else _size(one.memory_bytes):>7} ")
    line.append(f"{sparkline(one.memory_history, history):<{history}} ", style="cyan")
    line.append(f"{'' if one.response_ms is None else f'{one.response_ms:.0f}':>5}")
    return line


def sparkline(values: Sequence[float], width: int) -> str:
    """The last values as bars, from zero to the highest of them; one that rests at zero is flat."""
    shown = values[len(values) - width :] if len(values) > width else values
    highest = max(shown, default=0.0)
    if width <= 0 or len(shown) < 2:
        return ""
    top = len(_BARS) - 1
    return "".join(_BARS[round(top * value / highest)] if highest > 0 else _BARS[0] for value in shown)


def _alerts(view: LiveView, width: int, most: int | None) -> Iterator[Text]:
    order = list(AlertSeverity)[::-1]
    alerts = sorted(view.alerts, key=lambda one: (order.index(one.severity), view.at - one.opened_at))
    for one in alerts[:most]:
        line = Text("  alert ")
        line.append(str(one.severity), style=colour_of(one.severity))
        line.append(f" {printable(one.service)}, {length(view.at - one.opened_at)}: {_one_line(one.reason)}")
        yield _cut(line, width)
    if most is not None and len(alerts) > most:
        yield _cut(Text(f"  and {len(alerts) - most} more alerts", style="dim"), width)


def _recoveries(view: LiveView, width: int, most: int | None) -> Iterator[Text]:
    for one in view.recoveries[:most]:
        yield _cut(_recovery(one, view.at), width)


def _recovery(one: LiveRecovery, at: datetime) -> Text:
    word, colour = {True: ("succeeded", "green"), False: ("failed", "red"), None: ("is running", "cyan")}[one.success]
    line = Text(f"  recovery {length(at - one.at)} ago: {printable(one.service)} {one.action.replace('_', ' ')}")
    line.append(f" ({one.cause.replace('_', ' ')}) " if one.cause else " ")
    line.append(word, style=colour)
    if one.result and one.success is not None:
        line.append(f": {_one_line(one.result)}", style="dim")
    return line


def _forecast(view: LiveView, width: int) -> Iterator[Text]:
    one = view.forecast
    if one is None:
        return
    when = f"in {length(one.expected - view.at)}" if one.expected > view.at else "now"
    line = Text("  forecast ")
    line.append(when, style="yellow")
    line.append(f": {printable(one.service)} {one.metric.replace('_', ' ')}: {_one_line(one.words)}")
    yield _cut(line, width)


def _keys(view: LiveView, width: int) -> Text:
    return _cut(Text(f"q ends   roas status {view.environment}   roas why {view.environment}", style="dim"), width)


def _is_in_trouble(one: LiveService) -> bool:
    running = one.state.startswith("running")
    return not running if one.health != "completed" else False


def _apart(lines: Sequence[Text]) -> list[Text]:
    return [Text(), *lines] if lines else []


def _fitted(name: str, width: int) -> str:
    """A name on so many columns; a longer one keeps its end, which often tells replicas apart."""
    if cell_len(name) <= width:
        return set_cell_size(name, width)
    half = width // 2
    return set_cell_size(f"{set_cell_size(name, width - half - 1)}…{name[-half:]}", width)


def _percent(share: float) -> str:
    return f"{share:.1f}" if share < 1000 else f"{share:.0f}"


def _size(count: float) -> str:
    """A number of bytes on at most seven columns, up to a tebibyte."""
    for unit in ("B", "KiB", "MiB"):
        if count < 1000:
            return f"{count:.0f} {unit}"
        count /= 1024
    return f"{count:.1f} GiB" if count < 10 else f"{count:.0f} GiB"


def _one_line(text: str) -> str:
    return shorten(printable(text))


def _cut(line: Text, width: int) -> Text:
    line.no_wrap = True
    line.rstrip()
    line.truncate(width, overflow="ellipsis")
    return line
