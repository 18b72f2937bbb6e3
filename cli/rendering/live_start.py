"""Live display of a start on a terminal; its last state stays above the summary."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console, Group
from rich.live import Live
from rich.text import Text

from cli.rendering.console import colour_of
from core.common.safe_text import printable, shorten
from core.deployment.live_start import LiveRow, LiveStart, headline, live_rows, path_so_far, rows_that_fit

_LINES_BESIDES = 4
"""Headline, critical path on two lines, and the line of the cursor."""

_SHORTEST_DETAIL = 4


class _Terminal(Console):
    """The terminal of standard error. Its cursor stays visible: a process that is killed could not show it again."""

    def __init__(self) -> None:
        super().__init__(stderr=True, highlight=False, markup=False, emoji=False)

    def show_cursor(self, show: bool = True) -> bool:
        return False


class StartDisplay:
    """Shows each start that reports to it; meanwhile the log shows only warnings and errors, above the display."""

    def __init__(self, log: logging.Handler) -> None:
        self._log = log
        self._level = log.level
        self._start: LiveStart | None = None
        self._live: Live | None = None
        self._console = _Terminal()

    def show(self, start: LiveStart) -> None:
        """Take over the state of a start. The first opens the display, the one that is over closes it."""
        self._start = start
        if start.over_at is not None:
            self.close()
        elif self._live is None:
            self._log.setLevel(max(self._level, logging.WARNING))
            self._live = Live(get_renderable=self._render, console=self._console, refresh_per_second=5)
            self._live.start(refresh=True)

    def close(self) -> None:
        """End the display, if one is open; what it shows last stays."""
        live, self._live = self._live, None
        self._log.setLevel(self._level)
        if live is not None:
            live.stop()

    def _render(self) -> Group:
        start = self._start
        if start is None:
            return Group()
        now = start.seconds_at(time.monotonic())
        width, height = self._console.size
        # The last state is a record, so it is shown whole.
        most = len(start.services) if start.over_at is not None else height - _LINES_BESIDES
        rows, hidden_count = rows_that_fit(live_rows(start, now), most)
        lines = [Text(printable(headline(start, now)), style="bold"), *_table(rows, width)]
        if hidden_count:
            lines.append(Text(f"  and {hidden_count} more", style="dim"))
        if path := path_so_far(start, now):
            lines.append(Text(printable(f"  critical path: {path}"), style="dim", overflow="fold"))
        return Group(*lines)


@contextmanager
def start_display(log: logging.Handler) -> Iterator[None]:
    """Show the starts of the body live, instead of the lines below a warning that the handler would print."""
    from tasks.deployment.progress import listen

    display = StartDisplay(log)
    with listen(display.show):
        try:
            yield
        finally:
            display.close()


def _table(rows: tuple[LiveRow, ...], width: int) -> list[Text]:
    """One line a service, cut to the width: name, state, seconds, detail."""
    name_width = min(max((len(row.service) for row in rows), default=0), max(8, width // 3))
    state_width = max((len(row.state) for row in rows), default=0)
    lines = []
    for row in rows:
        name = shorten(printable(row.service), name_width)
        line = Text(f"  {name:<{name_width}} ", no_wrap=True)
        line.append(f"{row.state:<{state_width}}", style=colour_of(row.state))
        line.append(f" {row.seconds:5.1f} s")
        room = width - line.cell_len - 2
        if row.detail and room > _SHORTEST_DETAIL:
            line.append(f"  {shorten(printable(row.detail), room)}", style="dim")
        # Characters may be two cells wide.
        line.truncate(width, overflow="crop")
        lines.append(line)
    return lines
