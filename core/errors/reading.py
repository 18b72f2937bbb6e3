"""Read an excerpt of a log: which level its lines have, which lines are only a way to the cause, what healed.

Formats of loggers and words of success are data; see patterns/reading. Positions in a text stay the same: what does not
count is overwritten with blanks.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum
from functools import lru_cache
from itertools import pairwise
from typing import Any

import re2
import yaml

from models.errors import Category
from models.failures import BadInputError

LONGEST_TEXT = 100_000
"""Characters that count; of a longer text the beginning and the end do."""

_HEAD = 30_000
_LONGEST_START = 400
"""Characters of a line in which its level stands."""


class Level(IntEnum):
    """How loud a line is by the word of its logger."""

    DEBUG = 0
    INFO = 1
    NOTICE = 2
    WARNING = 3
    ERROR = 4
    FATAL = 5


_NAMES = {
    Level.DEBUG: "trace trac trce trc debug debu dbug dbg verbose fine t d . - 0 10 20 debug1 debug2 debug3 debug4",
    Level.INFO: "info information inf statement i 1 30",
    Level.NOTICE: "notice note system log n *",
    Level.WARNING: "warning warni warn wrn w # 2 40",
    Level.ERROR: "error erro err eror fail failure severe e 3 50",
    Level.FATAL: "critical crit fatal fata ftl panic pani emergency emerg alert f 4 60",
}
_LEVELS = {word: level for level, words in _NAMES.items() for word in words.split()}

# Lines of a traceback that say where, not why: of Python, Java, Kotlin, .NET, Node, PHP, Ruby, Go and Rust.
_BEFORE = r"(?:[\w.-]+ +\| ?)?"
_FRAME = re2.compile(
    rf"(?m)^{_BEFORE}(?:"
    r" +File \"[^\"\n]+\", line \d+[^\n]*(?:\n(?:[\w.-]+ +\| ?)?    +[^\n]*)?"
    r"|\s+at (?:async )?[\w$.<>\[\]/@ #~`-]+[(:][^\n]*|\s+at [^\n]*(?: in |:line |:\d+:\d+)[^\n]*|\s+at <[^\n]*"
    r"|\s+\.\.\. \d+ (?:more|common frames)[^\n]*"
    r"|\s*(?:from )?[/\w.-]+\.rb:\d+:in [`'][^'\n]*'\s*$"
    r"|#\d+ (?:/|\{main\}|\[internal|[A-Z]\w*[\\(:])[^\n]*"
    r"|\s+/?[\w./@+~-]+\.(?:go|s|rs|c|cc|cpp):\d+[^\n]*"
    r")"
)
_RAISED = re2.compile(r"\n[^\n]*\b(?:raise|throw) [^\n]*")
_CAUSED_BY = re2.compile(r"(?m)^[^\n]{0,60}?\bCaused by: ?")
_PROGRAM = re2.compile(r"^([\w.-]+) +\| ")


class BadReadingError(BadInputError):
    """A file of formats or recoveries cannot be used."""


@dataclass(frozen=True, slots=True)
class LogFormat:
    """A format of a logger: an expression whose group `level` is the level, and lines with their levels."""

    name: str
    expression: re2._Regexp
    examples: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Recoveries:
    """Which causes a later success takes back, and how success is worded."""

    causes: frozenset[Category]
    success: re2._Regexp
    failure: re2._Regexp
    healed: tuple[str, ...]
    not_healed: tuple[str, ...]


class ExcerptReader:
    """Reads excerpts by formats and recoveries; without them it only reduces tracebacks."""

    def __init__(self, formats: Sequence[LogFormat] = (), recoveries: Recoveries | None = None) -> None:
        self.formats = tuple(formats)
        self.recoveries = recoveries
        self._level_of = lru_cache(maxsize=4096)(self._read_level)

    def level_of(self, line: str) -> Level | None:
        """Return the level that the logger wrote; None where no format fits."""
        return self._level_of(line[:_LONGEST_START])

    def _read_level(self, start: str) -> Level | None:
        for one in self.formats:
            found = one.expression.search(start)
            if found is not None:
                return level_named(found["level"] or "")
        return None

    def healed_before(self, text: str, causes: Sequence[tuple[Category, int]]) -> int:
        """Return before which position failures count no more: a success of the same program stands there.

        `causes` are the failures that were found, with their positions. 0 where nothing healed.
        """
        rules = self.recoveries
        passing = [start for cause, start in causes if rules is not None and cause in rules.causes]
        if rules is None or not passing or len(passing) < len(causes):
            return 0
        start = _line_start(text, max(passing))
        whose = _program(text[start : start + _LONGEST_START])
        for line_start, line_end in _lines_from(text, text.find("\n", max(passing)) + 1 or len(text)):
            line = text[line_start : min(line_end, line_start + _LONGEST_START)]
            level = self.level_of(line)
            if level is not None and level >= Level.ERROR:
                continue
            if _program(line) == whose and rules.success.search(line) and not rules.failure.search(line):
                return line_start
        return 0


def bounded(text: str) -> str:
    """Overwrite the middle of a very long text with blanks; positions stay."""
    if len(text) <= LONGEST_TEXT:
        return text
    end = len(text) - (LONGEST_TEXT - _HEAD)
    return f"{text[:_HEAD]}\n{' ' * (end - _HEAD - 2)}\n{text[end:]}"


def without_frames(text: str) -> str:
    """Overwrite the lines of tracebacks that say where, not why. A line that raises stays."""
    if "\n" not in text:
        return text
    pieces, place = [], 0
    for found in _FRAME.finditer(text):
        start, end = found.span()
        raised = _RAISED.search(found[0])
        if raised is not None:
            end = start + raised.start()
        pieces += [text[place:start], _blank(text[start:end])]
        place = end
    return "".join([*pieces, text[place:]])


def last_cause(text: str) -> tuple[int, int]:
    """Return the positions of the first and of the last `Caused by` of a text; -1, -1 where there is none."""
    places = [found.start() for found in _CAUSED_BY.finditer(text)]
    return (places[0], places[-1]) if places else (-1, -1)


def read_formats(text: str) -> tuple[LogFormat, ...]:
    """Read a file of formats. Raises BadReadingError."""
    content = _content(text)
    words: dict[str, str] = {}
    for name, expression in content["words"].items():
        words[name] = f"(?:{expression})"
    return tuple(
        LogFormat(str(one["id"]), _compiled(_expanded(one["expression"], words)), dict(one["examples"]))
        for one in content["formats"]
    )


def read_recoveries(text: str) -> Recoveries:
    """Read a file of recoveries. Raises BadReadingError."""
    content = _content(text)
    return Recoveries(
        causes=frozenset(map(Category, content["causes"])),
        success=_compiled("(?i)" + "|".join(content["success"])),
        failure=_compiled("(?i)" + "|".join(content["failure"])),
        healed=tuple(content["examples"]["healed"]),
        not_healed=tuple(content["examples"]["not_healed"]),
    )


def level_named(word: str) -> Level | None:
    """Return the level of a logger's word, such as `WARN`; None for a word that is none."""
    return _LEVELS.get(word.lower())


def _blank(text: str) -> str:
    return "\n".join(" " * len(line) for line in text.split("\n"))


def _line_start(text: str, place: int) -> int:
    return text.rfind("\n", 0, place) + 1


def _lines_from(text: str, place: int) -> list[tuple[int, int]]:
    ends = [place - 1]
    while (end := text.find("\n", ends[-1] + 1)) >= 0:
        ends.append(end)
    ends.append(len(text))
    return [(before + 1, end) for before, end in pairwise(ends) if end > before + 1]


def _program(line: str) -> str:
    found = _PROGRAM.search(line)
    return found[1] if found is not None else ""


def _expanded(expression: str, words: Mapping[str, str]) -> str:
    for name, meaning in words.items():
        expression = expression.replace(f"%{{{name}}}", meaning)
    return expression


def _compiled(expression: str) -> re2._Regexp:
    try:
        return re2.compile(expression)
    except re2.error as error:
        raise BadReadingError(f"{expression} does not compile: {error}.", advice="Use RE2 syntax.") from error


def _content(text: str) -> dict[str, Any]:
    try:
        content = yaml.load(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))  # noqa: S506 - a safe loader
    except yaml.YAMLError as error:
        raise BadReadingError(f"It is not YAML: {error}.", advice="Mend the file.") from error
    if not isinstance(content, dict):
        raise BadReadingError("A mapping is expected.", advice="Mend the file.")
    return content
