"""The page of logs: the last lines of running containers, and those kept of removed ones; redacted and bounded."""

from __future__ import annotations

from dataclasses import replace

from starlette.requests import Request
from starlette.responses import Response

from flows.page.releases import operated
from flows.page.rendering import render
from models.failures import RoasError
from models.records import ContainerLog
from tasks.reporting.read import read_status

LINES = (50, 200, 1000)
"""How many lines of each container are read, to choose from."""

_LONGEST_LINE = 2000
_MOST_CHARACTERS = 500_000
"""On one page; the newest lines of each log are kept."""


def logs(request: Request) -> Response:
    """The last `lines` of a `service` or of all; with `q`, those that have these words."""
    name = operated(request.path_params["environment"])
    service, words = request.query_params.get("service") or None, request.query_params.get("q", "").strip()
    lines = next((lines for lines in LINES if str(lines) == request.query_params.get("lines", "")), LINES[0])
    recorded, problem = _read(name, service, lines)
    shown = [_choose(log, words, _MOST_CHARACTERS // max(1, len(recorded))) for log in recorded]
    health = read_status(name)[0].health
    return render(
        request,
        "logs.html.j2",
        name=name,
        logs=[log for log in shown if log.lines or not words],
        problem=problem,
        service=service,
        services=sorted({verdict.service for verdict in health.services} if health else set()),
        words=words,
        lines=lines,
        choices=LINES,
    )


def _read(name: str, service: str | None, lines: int) -> tuple[list[ContainerLog], str]:
    """The logs, and why those of containers are not among them; empty where they are."""
    # They import the clients of the engine and Compose, which other pages do not need.
    from tasks.reporting.logs import read_kept_logs, read_logs
    from tasks.runtime.project import open_project

    try:
        project = open_project(name)
        project.inspect_containers(service)
        return read_logs(project, service, lines), ""
    except RoasError as error:
        return read_kept_logs(name, service, lines), str(error)


def _choose(log: ContainerLog, words: str, most: int) -> ContainerLog:
    """The lines that have the words, cut to what a page has room for."""
    chosen: list[str] = []
    for line in reversed(log.lines):
        if words.lower() not in line.lower():
            continue
        shown = line if len(line) <= _LONGEST_LINE else f"{line[:_LONGEST_LINE]} …"
        if (most := most - len(shown)) < 0:
            break
        chosen.append(shown)
    return replace(log, lines=tuple(reversed(chosen)))
