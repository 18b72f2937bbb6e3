"""Text output of the hooks of an update."""

from __future__ import annotations

from rich.markup import escape

from cli.rendering.console import say, show_table
from core.deployment.hooks import how_it_ended
from models.operations.record import OperationRecord

_LINES = 5


def show_hooks(record: OperationRecord) -> None:
    """Print the hooks of an operation: how each ended, and the last lines of those that failed."""
    runs = record.hooks
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
    if record.canary and record.canary.passed:
        say(f"  canary: {escape(record.canary.verdict)}")
