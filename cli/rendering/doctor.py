"""Show the diagnoses of `roas doctor`, one line each."""

from __future__ import annotations

from collections.abc import Sequence

from rich.markup import escape

from cli.rendering.console import say
from models.doctor import DoctorFinding, FindingLevel

_COLOURS = {FindingLevel.OK: "green", FindingLevel.WARNING: "yellow", FindingLevel.WRONG: "red"}


def show_diagnoses(lines: Sequence[DoctorFinding]) -> None:
    """Print each line with its verdict, the fix of what is not ok, and the number of each verdict."""
    width = max((len(line.name) for line in lines), default=0)
    for line in lines:
        colour = _COLOURS[line.verdict]
        say(f"[{colour}]{line.verdict:<8}[/{colour}] {escape(line.name):<{width}}  {escape(line.finding)}")
        if line.fix and line.verdict is not FindingLevel.OK:
            say(f"{'':<8} {'':<{width}}  fix: {escape(line.fix)}")
    problems, warnings = (
        sum(line.verdict is verdict for line in lines) for verdict in (FindingLevel.WRONG, FindingLevel.WARNING)
    )
    say(f"\n{problems} wrong, {warnings} warning{'' if warnings == 1 else 's'}")
