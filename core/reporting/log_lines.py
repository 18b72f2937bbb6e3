"""Choose lines of logs, and put those of several containers in the order of time."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import UTC, datetime

import re2

from core.common.stamps import stamp_of, without_stamp
from models.failures import BadInputError
from models.logs import LogLine, LogQuery
from models.records import ContainerLog

_LONGEST_PATTERN = 1000
_WIDEST_PROGRAM = 10_000
_MOST_CHARACTERS = 1024 * 1024
_EPOCH = datetime.fromtimestamp(0, UTC)

Matcher = Callable[[str], bool]


def line_matcher(query: LogQuery) -> Matcher:
    """Return what says whether a line with the engine's stamp is wanted, by its moment and its words.

    RE2 takes time in proportion to a line, whatever the pattern says; it has no look-around and no back-references.

    Raises:
        BadInputError: The pattern is no regular expression of RE2, or repeats too much to be matched quickly.
    """
    search = _compile(query.pattern, ignore_case=query.ignore_case) if query.pattern else None

    def is_wanted(line: str) -> bool:
        at = stamp_of(line)
        if query.since is not None and at is not None and at < query.since:
            return False
        return search is None or search(without_stamp(line) if at is not None else line) is not None

    return is_wanted


def _compile(pattern: str, *, ignore_case: bool) -> Callable[[str], object]:
    options = re2.Options()
    options.case_sensitive = not ignore_case
    options.log_errors = False
    advice = "give a regular expression of RE2 syntax, such as 'timeout|refused'; a backslash makes a sign literal."
    if len(pattern) > _LONGEST_PATTERN:
        raise BadInputError(f"The pattern is longer than {_LONGEST_PATTERN} characters;", advice="give a shorter one.")
    try:
        compiled = re2.compile(pattern, options)
    except re2.error as error:
        reason = error.args[0] if error.args else error
        words = reason.decode("utf-8", "replace") if isinstance(reason, bytes) else reason
        raise BadInputError(f"{pattern!r} is no usable pattern: {words};", advice=advice) from error
    if compiled.programsize > _WIDEST_PROGRAM:
        raise BadInputError("The pattern repeats too much to be matched quickly;", advice="use smaller counts.")
    search: Callable[[str], object] = compiled.search
    return search


class LastLines:
    """The last lines of a log: at most so many, and at most a mebibyte of characters."""

    def __init__(self, most: int) -> None:
        self._lines: deque[str] = deque()
        self._most, self._characters = most, 0

    def extend(self, lines: Iterable[str]) -> None:
        """Add lines, and drop the oldest ones beyond the bounds."""
        for line in lines:
            self._lines.append(line)
            self._characters += len(line)
            while len(self._lines) > self._most or (self._characters > _MOST_CHARACTERS and len(self._lines) > 1):
                self._characters -= len(self._lines.popleft())

    def lines(self) -> tuple[str, ...]:
        """The lines, the oldest first."""
        return tuple(self._lines)


def interleave(logs: Sequence[ContainerLog]) -> list[LogLine]:
    """The lines of several logs by time; a line without a stamp stays behind the one before it."""
    timed = [entry for log in logs for entry in _with_moments(log)]
    # The sort is stable, so lines of one log with equal stamps keep their order.
    timed.sort(key=lambda entry: entry[0])
    return [line for _, line in timed]


def _with_moments(log: ContainerLog) -> Iterator[tuple[datetime, LogLine]]:
    last = _EPOCH
    for text in log.lines:
        at = stamp_of(text)
        last = at or last
        line = text if at is None else without_stamp(text)
        yield last, LogLine(service=log.service, container=log.container, at=at, line=line)
