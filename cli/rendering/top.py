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
from models.operations import OperationStatus

_BARS = "▁▂▃▄▅▆▇█"
_COLOURS = dict.fromkeys(("exited", "dead", "restarting", "no", "stopped"), "red") | {
    "paused": "yellow",
    "created": "yellow",
}
_WORDS = {OperationStatus.SUCCESS: "succeeded", OperationStatus.FAILED: "failed"}
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
    below = _cut(Text(f"q ends   roas status {view.environment}   roas why {view.environment}", style="dim"), width)
    room = height - len(above) - 3
    service_count = len(view.services)
    shown_alerts = alerts[: max(0, room - min(service_count, _FEWEST_SERVICES) - 1)]
    room -= len(_apart(shown_alerts))
    shown_later = later[: max(0, room - service_count - 1)]
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
        yield _cut(Text(f"  {_one_line(pause.words)}", style="yellow"), width)
    if view.tickets:
        plural = "tickets wait" if view.tickets > 1 else "ticket waits"
        text = f"  {view.tickets} {plural} for an answer: roas tickets {printable(view.environment)}"
        yield _cut(Text(text, style="yellow"), width)


def _operation(view: LiveView, width: int) -> Iterator[Text]:
    operation = view.operation
    if operation is None:
        return
    if operation.ended_at is None:
        line = Text(f"  {operation.kind} is running", style="cyan")
        line.append(f" for {length(view.at - operation.started_at)}")
        if view.step:
            line.append(f", last step: {_one_line(view.step)}")
    else:
        line = Text(f"  last operation: {operation.kind} ")
        line.append(_WORDS.get(operation.status, operation.status), style=colour_of(operation.status))
        line.append(f" {length(view.at - operation.ended_at)} ago")
        if reason := operation.record.reason:
            line.append(f": {_one_line(reason)}", style="dim")
    yield _cut(line, width)


def _services(view: LiveView, width: int, most: int | None) -> Iterator[Text]:
    """The heading and at most so many lines, the last of which may count the services that are left out."""
    services = view.services
    longest = max((cell_len(printable(service.service)) for service in services), default=0)
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
        worst = sorted(services, key=lambda service: (not _is_in_trouble(service), service.service))[: most - 1]
        shown = tuple(service for service in services if service in worst)
    for service in shown:
        yield _cut(_service(service, view.at, name, history), width)
    if len(shown) < len(services):
        yield _cut(Text(f"  and {len(services) - len(shown)} more", style="dim"), width)
    if not services:
        yield _cut(Text("  There is no container, and none is recorded."), width)


def _service(service: LiveService, at: datetime, name: int, history: int) -> Text:
    state = f"{service.state} x{service.containers}" if service.containers > 1 else service.state
    line = Text(no_wrap=True)
    line.append(f"{_fit(printable(service.service), name)} ", style="bold" if _is_in_trouble(service) else "")
    line.append(
        f"{state[:12]:<12} ", style=_COLOURS.get(service.state.split()[0], "") if _is_in_trouble(service) else ""
    )
    line.append(f"{service.health[:9]:<9} ", style=colour_of(service.health))
    line.append(f"{length(at - service.since) if service.since is not None else '':>6} {service.restarts or '':>8} ")
    line.append(f"{'' if service.cpu_percent is None else _percent(service.cpu_percent):>5} ")
    line.append(f"{sparkline(service.cpu_history, history):<{history}} ", style="cyan")
    line.append(f"{'' if service.memory_bytes is None else _size(service.memory_bytes):>7} ")
    line.append(f"{sparkline(service.memory_history, history):<{history}} ", style="cyan")
    line.append(f"{'' if service.response_ms is None else f'{service.response_ms:.0f}':>5}")
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
    alerts = sorted(view.alerts, key=lambda alert: (order.index(alert.severity), view.at - alert.opened_at))
    for alert in alerts[:most]:
        line = Text("  alert ")
        line.append(str(alert.severity), style=colour_of(alert.severity))
        line.append(f" {printable(alert.service)}, {length(view.at - alert.opened_at)}: {_one_line(alert.reason)}")
        yield _cut(line, width)
    if most is not None and len(alerts) > most:
        yield _cut(Text(f"  and {len(alerts) - most} more alerts", style="dim"), width)


def _recoveries(view: LiveView, width: int, most: int | None) -> Iterator[Text]:
    for recovery in view.recoveries[:most]:
        yield _cut(_recovery(recovery, view.at), width)


def _recovery(recovery: LiveRecovery, at: datetime) -> Text:
    word, colour = {True: ("succeeded", "green"), False: ("failed", "red"), None: ("is running", "cyan")}[
        recovery.success
    ]
    line = Text(
        f"  recovery {length(at - recovery.at)} ago: {printable(recovery.service)} {recovery.action.replace('_', ' ')}"
    )
    line.append(f" ({recovery.cause.replace('_', ' ')}) " if recovery.cause else " ")
    line.append(word, style=colour)
    if recovery.result and recovery.success is not None:
        line.append(f": {_one_line(recovery.result)}", style="dim")
    return line


def _forecast(view: LiveView, width: int) -> Iterator[Text]:
    forecast = view.forecast
    if forecast is None:
        return
    when = f"in {length(forecast.expected - view.at)}" if forecast.expected > view.at else "now"
    line = Text("  forecast ")
    line.append(when, style="yellow")
    line.append(f": {printable(forecast.service)} {forecast.metric.replace('_', ' ')}: {_one_line(forecast.words)}")
    yield _cut(line, width)


def _is_in_trouble(service: LiveService) -> bool:
    running = service.state.startswith("running")
    return not running if service.health != "completed" else False


def _apart(lines: Sequence[Text]) -> list[Text]:
    return [Text(), *lines] if lines else []


def _fit(name: str, width: int) -> str:
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
