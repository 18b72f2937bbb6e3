"""Text output of an explanation: one screen, the root cause first, commands last."""

from __future__ import annotations

import sys
import textwrap
from collections.abc import Sequence

from rich.markup import escape

from cli.rendering.console import ago, coloured, console, moment, say
from core.common.safe_text import shorten
from models.operations import OperationStatus
from models.records import Explanation, ShownLine

_COLOURS = {OperationStatus.FAILED: "red", OperationStatus.SUCCESS: "green"}
_WIDEST = 100
_SCREEN = 24
_FEWEST_LINES, _MOST_LINES = 3, 7
_MOST_FACTS = 3
_MOST_FOLDED = 3
_MARGIN = 9


def show_explanation(explanation: Explanation) -> None:
    """Print an explanation on about 24 lines of 100 columns, with commands in full for copying.

    A long line of a log is folded and not cut: the reason often stands at its end. For a file or a pipe no line
    of a log is cut.
    """
    title = f"[bold]{explanation.operation} of {escape(explanation.environment)}[/bold] {coloured(explanation.status)}"
    above = [
        f"{title}  [dim]{escape(explanation.deployment_id)}, {moment(explanation.started_at)}[/dim]",
        "",
        *_headline(explanation),
        *_facts(explanation.because[:_MOST_FACTS]),
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
    shown = shown_lines(latest, folded=max(2, room // max(1, len(latest))))
    for line in [*above, *(["", *shown] if shown else []), *(["", *below] if below else [])]:
        say(line)


def _headline(explanation: Explanation) -> list[str]:
    # Without lines of a log the headline alone holds the reason.
    folded = _fold(explanation.headline, "  ", _MOST_FOLDED if explanation.lines else 2 * _MOST_FOLDED)
    colour = _COLOURS.get(explanation.status, "cyan")
    lines = [f"[bold {colour}]{escape(line)}[/bold {colour}]" for line in folded]
    if explanation.since is not None:
        lines.append(f"  [dim]since {moment(explanation.since)}, {ago(explanation.since)}[/dim]")
    return lines


def _facts(facts: Sequence[str]) -> list[str]:
    most = max(1, _MOST_FOLDED + 1 - len(facts))
    return [escape(line) for fact in facts for line in _fold(fact, "  - ", most)]


def _fold(text: str, margin: str, most: int | None) -> list[str]:
    """Fold a text to the screen's width behind a margin, and cut it after so many lines."""
    return textwrap.wrap(
        " ".join(text.split()),
        _width(),
        initial_indent=margin,
        subsequent_indent=" " * len(margin),
        max_lines=most,
        placeholder=" ...",
    )


def shown_lines(lines: Sequence[ShownLine], *, folded: int = _MOST_FOLDED) -> list[str]:
    """Format lines of evidence: time, service, text; a long one is folded to so many lines."""
    names = max((len(line.service) for line in lines), default=0)
    most = min(folded, _MOST_FOLDED) if sys.stdout.isatty() else None
    found = []
    for line in lines:
        at = f"{line.at:%H:%M:%S}" if line.at else " " * 8
        text = line.text if line.source == "log" else f"({line.source}) {line.text}"
        margin = " " * (names + 14)
        first, *more = _fold(text, margin, most) or [margin]
        found.append(f"  [dim]{at} {line.service:<{names}} |[/dim] {escape(first[len(margin) :])}")
        found += [escape(rest) for rest in more]
    return found


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
