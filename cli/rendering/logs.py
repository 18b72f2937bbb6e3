"""Text output of logs: each line after the name of its container."""

from __future__ import annotations

from collections.abc import Sequence

from rich.markup import escape

from cli.rendering.console import moment, say
from models.records import ContainerLog


def show_logs(logs: Sequence[ContainerLog]) -> None:
    """Print the logs of containers one after the other; of kept ones, when they were taken."""
    for log in logs:
        if log.kept_at is not None:
            say(f"[dim]{escape(log.container)} is removed; this was kept of it at {moment(log.kept_at)}[/dim]")
        elif not log.lines:
            say(f"[dim]{escape(log.container)} has written nothing[/dim]")
        for line in log.lines:
            say(f"[dim]{escape(log.container)} |[/dim] {escape(line)}")
