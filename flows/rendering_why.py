"""How an explanation looks to a person: one screen, the cause first, what to type last."""

from __future__ import annotations

import shutil
import sys
import textwrap
from collections.abc import Sequence

from rich.markup import escape

from core.evidence import shorten
from flows.console import ago, moment, say
from models.explanation import Explanation, ShownLine
from models.operations import OperationStatus

_COLOURS = {OperationStatus.FAILED: "red", OperationStatus.SUCCESS: "green"}
_WIDEST = 100
_SHOWN_LINES = 7
_SHOWN_CHANGES = 4
_SHOWN_FOLLOWED = 3
_SHOWN_COMMANDS = 5


def show_explanation(explanation: Explanation) -> None:
    """Print an explanation, at most about 24 lines of 100 columns."""
    colour = _COLOURS.get(explanation.status, "cyan")
    say(
        f"[bold]{explanation.operation} of {escape(explanation.environment)}[/bold] "
        f"[{colour}]{explanation.status}[/{colour}]  [dim]{escape(explanation.deployment_id)}, "
        f"{moment(explanation.started_at)}[/dim]"
    )
    say("")
    _wrapped(explanation.headline, style=f"bold {colour}", indent="  ", lines=3)
    if explanation.since is not None:
        say(f"  [dim]since {moment(explanation.since)}, {ago(explanation.since)}[/dim]")
    for fact in explanation.because:
        _wrapped(f"- {fact}", indent="    ", first="  ", lines=2)
    _show_lines(explanation.lines)
    _part("then", explanation.consequences, _SHOWN_FOLLOWED)
    _part("changed", explanation.changed, _SHOWN_CHANGES)
    _part("tried", explanation.tried, _SHOWN_FOLLOWED)
    _part("slow", explanation.slow, 1)
    # Commands are for copying, so none is cut.
    _part("do", explanation.commands, _SHOWN_COMMANDS, whole=True)


def _show_lines(lines: Sequence[ShownLine]) -> None:
    if not lines:
        return
    say("")
    names = max(len(line.service) for line in lines)
    for line in lines[-_SHOWN_LINES:]:
        at = f"{line.at:%H:%M:%S}" if line.at else " " * 8
        said = line.text if line.source == "log" else f"({line.source}) {line.text}"
        room = _width() - names - 13
        say(f"  [dim]{at} {escape(line.service.ljust(names))} |[/dim] {escape(shorten(said, room))}")


def _part(name: str, sentences: Sequence[str], most: int, *, whole: bool = False) -> None:
    """A part of the screen: its name in the margin, a sentence a line."""
    if not sentences:
        return
    say("")
    for number, sentence in enumerate(sentences[:most]):
        margin = f"[bold]{name:<8}[/bold]" if number == 0 else " " * 8
        say(f"{margin} {escape(sentence if whole else shorten(sentence, _width() - 9))}")
    if len(sentences) > most:
        say(f"{' ' * 8} [dim]and {len(sentences) - most} more (--json shows them all)[/dim]")


def _wrapped(text: str, *, indent: str, lines: int, first: str | None = None, style: str = "") -> None:
    folded = textwrap.wrap(
        " ".join(text.split()),
        _width(),
        initial_indent=indent if first is None else first,
        subsequent_indent=indent,
        max_lines=lines,
        placeholder=" ...",
    )
    for line in folded:
        say(f"[{style}]{escape(line)}[/{style}]" if style else escape(line))


def _width() -> int:
    # Into a file or a pipe nothing says how wide the reader's screen is.
    return min(_WIDEST, shutil.get_terminal_size().columns) if sys.stdout.isatty() else _WIDEST
