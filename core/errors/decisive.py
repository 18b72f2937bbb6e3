"""Choose the line of a log that tells the cause: by its own level, and the first of those written together."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime, timedelta

import re2

from core.common.stamps import stamp_of
from core.errors.reading import ExcerptReader, LogLevel

TOGETHER = timedelta(seconds=2)
"""Failures that follow each other this closely have one cause, which is said first."""

# What comments on the line before it, and has no level of its own.
_REMARK = re2.compile(r"^[^\n]{0,80}?(?:^|[\s\]])(?:HINT|DETAIL|CONTEXT|QUERY|STATEMENT|hint|help|note): ")


_CAUSED_BY = re2.compile(r"^[^\n]{0,60}?\bCaused by: ")
# An item of a list, indented, that is one name of several parts: `vm_memory_high_watermark.relative`.
_BARE_NAME = re2.compile(r"(?:^|[\]>:|] ) {2,}(?:[-*] +)?[A-Za-z]\w*(?:[._-]\w+)+ *$")


def is_loud(line: str, reader: ExcerptReader) -> bool:
    """Whether the logger itself calls a line an error or worse."""
    level = reader.level_of(line)
    return level is not None and level >= LogLevel.ERROR


def is_note(line: str, reader: ExcerptReader) -> bool:
    """Whether the logger itself calls a line a notice or less."""
    level = reader.level_of(line)
    return level is not None and level <= LogLevel.NOTICE


def is_remark(line: str) -> bool:
    """Whether a line is a hint or a detail of the line before it."""
    return _REMARK.search(line) is not None


def is_bare_name(line: str) -> bool:
    """Whether a line is an item of a list that names a setting, and says nothing of it."""
    return _BARE_NAME.search(line) is not None


def outer_exceptions(lines: Sequence[str]) -> range:
    """Return the positions of the exceptions around the last `Caused by`, which wrap the cause that it names."""
    caused = [place for place, line in enumerate(lines) if _CAUSED_BY.search(line)]
    if not caused:
        return range(0)
    outer = next((place for place in range(caused[0] - 1, -1, -1) if lines[place].strip()), caused[0])
    return range(outer, caused[-1])


_NOTED_LATE = timedelta(milliseconds=100)
"""The engine notes a start once the program runs, which may have printed by then. It restarts none sooner than this."""


def last_run(lines: Sequence[str], started_at: datetime | None) -> int:
    """Return the position of the first line since the last start, by the engine's stamps; 0 if none is known."""
    if started_at is None:
        return 0
    stamps = ((place, stamp_of(line)) for place, line in enumerate(lines))
    return next((place for place, at in stamps if at is not None and at >= started_at - _NOTED_LATE), len(lines))


def first_together(lines: Sequence[str], place: int, counts: Callable[[int], bool]) -> int:
    """Return the first of the lines that were written together with the one at `place` and count.

    Each is at most TOGETHER after the one before it, by the engine's stamps; a line without a stamp is written
    together with its neighbours.
    """
    first, until = place, stamp_of(lines[place])
    for earlier in range(place - 1, -1, -1):
        if not counts(earlier):
            continue
        at = stamp_of(lines[earlier])
        if at is not None and until is not None and until - at > TOGETHER:
            break
        first, until = earlier, at or until
    return first
