"""Show the diagnoses of `roas doctor`, one line each."""

from __future__ import annotations

from collections.abc import Sequence

from rich.markup import escape

from cli.rendering.console import say
from models.doctor import Diagnosis, Verdict

_COLOURS = {Verdict.OK: "green", Verdict.WARNING: "yellow", Verdict.WRONG: "red"}


def show_diagnoses(lines: Sequence[Diagnosis]) -> None:
    """Print each line with its verdict, the fix of what is not ok, and the number of each verdict."""
    width = max((len(line.name) for line in lines), default=0)
    for line in lines:
        colour = _COLOURS[line.verdict]
        say(f"[{colour}]{line.verdict:<8}[/{colour}] {escape(line.name):<{width}}  {escape(line.finding)}")
        if line.fix and line.verdict is not Verdict.OK:
            say(f"{'':<8} {'':<{width}}  fix: {escape(line.fix)}")
    problems, warnings = (
        sum(line.verdict is verdict for line in lines) for verdict in (Verdict.WRONG, Verdict.WARNING)
    )
    say(f"\n{problems} wrong, {warnings} warning{'' if warnings == 1 else 's'}")
