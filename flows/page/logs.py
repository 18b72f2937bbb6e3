"""The page of logs: the last lines of running containers, and those kept of removed ones; redacted and bounded."""

from __future__ import annotations

from dataclasses import replace
from urllib.parse import urlencode

from starlette.requests import Request
from starlette.responses import Response

from adapters.host.own_call import call
from core.common.safe_text import printable
from flows.page.releases import operated
from flows.page.rendering import render
from models.logs import LogLine
from models.records import ContainerLog
from tasks.reporting.read import read_status

LINES = (50, 200, 1000)
"""How many lines of each container are read, to choose from."""

_LONGEST_LINE = 2000
_MOST_FOLLOWED = 2000
"""Lines of all containers by time, as many as the page's script keeps."""

_MOST_CHARACTERS = 500_000
"""On one page; the newest lines of each log are kept."""


def logs(request: Request) -> Response:
    """The last `lines` of a `service` or of all; with `q`, those that have these words; with `follow`, by time."""
    name = operated(request.path_params["environment"])
    service, words, lines = chosen_lines(request)
    # It imports the clients of the engine and Compose, which other pages do not need.
    recorded, problem = call("tasks.reporting.logs:read_or_kept_logs", name, service, lines)
    shown = [_choose(log, words, _MOST_CHARACTERS // max(1, len(recorded))) for log in recorded]
    health = read_status(name)[0].health
    return render(
        request,
        "logs.html.j2",
        name=name,
        logs=[log for log in shown if log.lines or not words],
        followed=_by_time(shown) if "follow" in request.query_params else None,
        stream=urlencode({"service": service or "", "q": words, "lines": lines}),
        problem=problem,
        service=service,
        services=sorted({verdict.service for verdict in health.services} if health else set()),
        words=words,
        lines=lines,
        choices=LINES,
    )


def chosen_lines(request: Request) -> tuple[str | None, str, int]:
    """The service that an address names, the words that lines have, and how many lines of each container."""
    chosen = request.query_params
    lines = next((lines for lines in LINES if str(lines) == chosen.get("lines", "")), LINES[0])
    return chosen.get("service") or None, chosen.get("q", "").strip(), lines


def has_words(line: str, words: str) -> bool:
    """Whether a line has these words, in small letters or capitals."""
    return words.lower() in line.lower()


def cut(line: str) -> str:
    """A line as long as a page has room for."""
    return line if len(line) <= _LONGEST_LINE else f"{line[:_LONGEST_LINE]} …"


def as_text(line: LogLine) -> str:
    """A line as the page shows it among those of others, after its moment and its container."""
    at = f"{line.at:%Y-%m-%d %H:%M:%S} " if line.at else ""
    return printable(f"{at}{line.container} | {cut(line.line)}")


def _by_time(logs: list[ContainerLog]) -> list[str]:
    """The lines of all logs in the order of time, the last ones where there are many."""
    from core.reporting.log_lines import interleave

    return [as_text(line) for line in interleave(logs)[-_MOST_FOLLOWED:]]


def _choose(log: ContainerLog, words: str, most: int) -> ContainerLog:
    """The lines that have the words, cut to what a page has room for."""
    chosen: list[str] = []
    for line in reversed(log.lines):
        if not has_words(line, words):
            continue
        shown = cut(line)
        if (most := most - len(shown)) < 0:
            break
        chosen.append(shown)
    return replace(log, lines=tuple(reversed(chosen)))
