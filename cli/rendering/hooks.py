"""Text output of the hooks of an update."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.markup import escape

from cli.rendering.console import say, show_table
from core.deployment.hooks import how_it_ended
from models.hooks import HookRun

_LINES = 5


def show_hooks(details: Mapping[str, Any]) -> None:
    """Print the hooks of an operation from its details: how each ended, and the last lines of those that failed."""
    runs = [HookRun.from_details(hook) for hook in details.get("hooks") or ()]
    if not runs:
        return
    say("")
    rows = []
    for run in runs:
        colour = "green" if run.ok else "yellow" if run.warns else "red"
        ended = f"[{colour}]{escape(how_it_ended(run))}[/{colour}]"
        rows.append((run.name, run.when, escape(run.does), f"{run.took_seconds:.1f} s", ended))
    show_table(("hook", "when", "what", "took", "how it ended"), rows)
    for run in runs:
        for line in () if run.ok else run.lines[-_LINES:]:
            say(f"  [dim]{escape(run.name)}[/dim] {escape(line)}")
    canary = details.get("canary")
    if canary and canary.get("passed"):
        say(f"  canary: {escape(str(canary['verdict']))}")
