"""Elements of text output: lines, tables, colours, times."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from core.common.quantities import age_in_words
from core.common.safe_text import printable

_COLOURS = {
    "healthy": "green",
    "completed": "green",
    "success": "green",
    "running": "cyan",
    "degraded": "yellow",
    "unproven": "cyan",
    "starting": "yellow",
    "started": "yellow",
    "kept": "green",
    "warning": "yellow",
    "unhealthy": "red",
    "failed": "red",
    "critical": "red",
    "stopped": "dim",
}


_LONGEST_ID = 32


class _SafeConsole(Console):
    """A console that removes control characters from all text, also in tables."""

    def render_str(self, text: str, **options: Any) -> Text:
        return super().render_str(printable(text), **options)


@cache
def console() -> Console:
    """The console of this process; lines fit the terminal, and have a fixed width for a file or a pipe."""
    return _SafeConsole(highlight=False, soft_wrap=True, width=None if sys.stdout.isatty() else 160)


def say(line: str) -> None:
    """Print one line of rich markup."""
    console().print(line)


def show_table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Print rows of rich markup below the names of their columns; an id in the first one stays on one line."""
    table, listed = Table(box=None, pad_edge=False, header_style="dim"), list(rows)
    first = max((Text.from_markup(row[0]).cell_len for row in listed), default=0)
    for place, column in enumerate(columns):
        table.add_column(column, overflow="fold", no_wrap=place == 0 and first <= _LONGEST_ID)
    for row in listed:
        table.add_row(*row)
    console().print(table)


def colour_of(word: object) -> str:
    """The colour of a state, by its first word; empty for one without."""
    return _COLOURS.get(str(word).partition(" ")[0], "")


def colour_state(word: object) -> str:
    """Colour a state."""
    colour = colour_of(word)
    return f"[{colour}]{word}[/{colour}]" if colour else str(word)


def duration_after(duration: timedelta | None) -> str:
    """Format a duration as the end of a sentence."""
    return "" if duration is None else f" after {duration.total_seconds():.1f} s"


def seconds(duration: timedelta | None) -> str:
    """Format a duration in seconds."""
    return "" if duration is None else f"{duration.total_seconds():.1f} s"


def moment(at: datetime) -> str:
    """Format a time to the second."""
    return f"{at:%Y-%m-%d %H:%M:%S} UTC"


def ago(at: datetime, now: datetime | None = None) -> str:
    """Format the time since a moment; `now` is the time of the clock that the moment is by, if not this machine's."""
    return f"{age_in_words(((now or datetime.now(UTC)) - at).total_seconds())} ago"
