"""Text output of logs: lines by time, each after its moment and the name of its container in a colour of its own."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence

from rich.markup import escape

from cli.rendering.console import moment, say
from core.reporting.log_lines import interleave
from models.logs import LogLine
from models.records import ContainerLog

_COLOURS = ("cyan", "yellow", "green", "magenta", "blue", "bright_cyan", "bright_yellow", "bright_green")


def show_logs(logs: Sequence[ContainerLog]) -> None:
    """Print the logs of containers by time; before them which are of removed ones, and which have nothing."""
    for log in logs:
        if log.kept_at is not None:
            say(f"[dim]{escape(log.container)} is removed; this was kept of it at {moment(log.kept_at)}[/dim]")
        elif not log.lines:
            say(f"[dim]{escape(log.container)} has written nothing[/dim]")
    LogPrinter(log.container for log in logs).show(interleave(logs))


class LogPrinter:
    """Prints lines of logs; a container keeps its colour."""

    def __init__(self, containers: Iterable[str] = ()) -> None:
        self._colours: dict[str, str] = {}
        self._width = 0
        for container in containers:
            self._colour(container)

    def show(self, lines: Iterable[LogLine]) -> None:
        """Print lines, and hand them on at once to who reads a pipe."""
        for line in lines:
            colour = self._colour(line.container)
            at = "" if line.at is None else f"[dim]{line.at:%Y-%m-%d %H:%M:%S}[/dim] "
            name = escape(line.container.ljust(self._width))
            say(f"[{colour}]{name} |[/{colour}] {at}{escape(line.line)}")
        sys.stdout.flush()

    def _colour(self, container: str) -> str:
        self._width = max(self._width, len(container))
        return self._colours.setdefault(container, _COLOURS[len(self._colours) % len(_COLOURS)])
