"""Text output of an explanation: one screen, the root cause first, commands last."""

from __future__ import annotations

import sys
import textwrap
from collections.abc import Sequence

from rich.markup import escape

from cli.rendering.console import ago, colour_state, console, moment, say
from core.common.safe_text import shorten
from models.operations import OperationStatus
from models.records import Explanation, ShownLine

_COLOURS = {OperationStatus.FAILED: "red", OperationStatus.SUCCESS: "green"}
_WIDEST = 100
_SCREEN = 24
_FEWEST_LINES, _MOST_LINES = 3, 7
_MOST_FACTS = 3
_HEAD, _TAIL = 30, 10
"""Of a text that takes more lines than these together a terminal shows so many of its beginning and of its end."""
_MARGIN = 9
_NARROWEST = 20
"""Columns that the text of a log line has at least, however long a service's name."""


def show_explanation(explanation: Explanation) -> None:
    """Print an explanation on about 24 lines of 100 columns, with commands in full for copying.

    Cause and lines of a log are folded and not cut: the reason often stands at their end.
    """
    evidence = f"roas why {explanation.deployment_id} --evidence"
    title = (
        f"[bold]{explanation.operation} of {escape(explanation.environment)}[/bold] {colour_state(explanation.status)}"
    )
    above = [
        f"{title}  [dim]{escape(explanation.deployment_id)}, {moment(explanation.started_at)}[/dim]",
        "",
        *_headline(explanation, evidence),
        *_facts(explanation.because[:_MOST_FACTS], evidence),
    ]
    below = [
        *part("then", explanation.consequences, 2),
        *part("changed", explanation.changed, 3),
        *part("tried", explanation.tried, 2),
        *part("slow", explanation.slow, 1),
        *part("do", explanation.commands, 6, whole=True),
    ]
    room = _SCREEN - len(above) - len(below) - 2
    latest = explanation.lines[-max(_FEWEST_LINES, min(_MOST_LINES, room)) :]
    shown = shown_lines(latest, evidence)
    for line in [*above, *(["", *shown] if shown else []), *(["", *below] if below else [])]:
        say(line)


def _headline(explanation: Explanation, evidence: str) -> list[str]:
    folded = [f"  {line}" for line in fold(explanation.headline, _width() - 2, evidence)]
    colour = _COLOURS.get(explanation.status, "cyan")
    lines = [f"[bold {colour}]{escape(line)}[/bold {colour}]" for line in folded]
    if explanation.since is not None:
        lines.append(f"  [dim]since {moment(explanation.since)}, {ago(explanation.since)}[/dim]")
    return lines


def _facts(facts: Sequence[str], evidence: str) -> list[str]:
    return [
        f"{'  - ' if number == 0 else '    '}{escape(line)}"
        for fact in facts
        for number, line in enumerate(fold(fact, _width() - 4, evidence))
    ]


def fold(text: str, width: int, evidence: str) -> list[str]:
    """Fold a text to a width; on a terminal the middle of an extremely long one is left to a command that shows it."""
    lines = textwrap.wrap(" ".join(text.split()), width)
    if len(lines) <= _HEAD + _TAIL or not sys.stdout.isatty():
        return lines
    hidden_length = len(" ".join(lines[_HEAD:-_TAIL]))
    return [*lines[:_HEAD], f"… {hidden_length:,} more characters: {evidence}", *lines[-_TAIL:]]


def shown_lines(lines: Sequence[ShownLine], evidence: str) -> list[str]:
    """Format lines of evidence: time, service, text; `evidence` is the command that shows all of it."""
    names = max((len(line.service) for line in lines), default=0)
    output = []
    for line in lines:
        at = f"{line.at:%H:%M:%S}" if line.at else " " * 8
        text = line.text if line.source == "log" else f"({line.source}) {line.text}"
        margin = " " * (names + 14)
        first, *more = fold(text, max(_NARROWEST, _width() - len(margin)), evidence) or [""]
        output.append(f"  [dim]{at} {line.service:<{names}} |[/dim] {escape(first)}")
        output += [f"{margin}{escape(continuation)}" for continuation in more]
    return output


def part(name: str, sentences: Sequence[str], most: int, *, whole: bool = False) -> list[str]:
    """Format a section: its name in the margin, one sentence a line."""
    shown = [sentence if whole else shorten(sentence, _width() - _MARGIN) for sentence in sentences[:most]]
    margins = [f"[bold]{name:<8}[/bold]", *[" " * 8] * most]
    lines = [f"{margin} {escape(sentence)}" for margin, sentence in zip(margins, shown, strict=False)]
    if len(sentences) > most:
        lines.append(f"{' ' * 8} [dim]and {len(sentences) - most} more (--json shows all)[/dim]")
    return lines


def _width() -> int:
    # For a file or a pipe the width of the reader's screen is unknown.
    return min(_WIDEST, console().width) if sys.stdout.isatty() else _WIDEST
