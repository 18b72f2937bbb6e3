"""Read an excerpt of a log: what loggers write before a message, which lines are only a way to the cause, what healed.

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


class LogLevel(IntEnum):
    """How loud a line is by the word of its logger."""

    DEBUG = 0
    INFO = 1
    NOTICE = 2
    WARNING = 3
    ERROR = 4
    FATAL = 5


_NAMES = {
    LogLevel.DEBUG: "trace trac trce trc debug debu dbug dbg verbose fine t d . - 0 10 20 debug1 debug2 debug3 debug4",
    LogLevel.INFO: "info information inf statement i 1 30",
    LogLevel.NOTICE: "notice note system log detail hint context query n *",
    LogLevel.WARNING: "warning warni warn wrn w # 2 40",
    LogLevel.ERROR: "error erro err eror fail failure severe e 3 50",
    LogLevel.FATAL: "critical crit fatal fata ftl panic pani emergency emerg alert f 4 60",
}
_LEVELS = {word: level for level, words in _NAMES.items() for word in words.split()}

# Lines of a traceback that say where, not why: of Python, Java, Kotlin, .NET, Node, PHP, Ruby, Go and Rust.
_BEFORE = r"(?:[\w.-]+ +\| ?)?"
_FRAME = re2.compile(
    rf"(?m)^{_BEFORE}(?:"
    r" +File \"[^\"\n]+\", line \d+[^\n]*(?:\n(?:[\w.-]+ +\| ?)?    +[^\n]*)?"
    r"|\s+at (?:async )?[\w$.<>\[\]/@ #~`+&,-]+[(:][^\n]*|\s+at [^\n]*(?: in |:line |:\d+:\d+)[^\n]*|\s+at <[^\n]*"
    r"|\s+\.\.\. \d+ (?:more|common frames)[^\n]*"
    r"|\s*(?:from )?[/\w.-]+\.rb:\d+:in [`'][^'\n]*'\s*$"
    r"|\s+from \S+:\d+:in [`'][^\n]*|\s+--- End of [^\n]*|\s+thrown in [^\n]* on line \d+"
    r"|#\d+ (?:/|\{main\}|\[internal|[A-Z]\w*[\\(:])[^\n]*"
    r"|(?:[\w./*()%·{}\[\]-]+\([^\n]*\)|created by [^\n]+)\n\s+/?[\w./@+~-]+\.(?:go|s):\d+[^\n]*"
    r"|goroutine \d+ \[[^\]\n]*\]:|\s+\d+: (?:0x[0-9a-f]+ - )?[\w<>{}$.]+::[^\n]*"
    r"|\s+/?[\w./@+~-]+\.(?:go|s|rs|c|cc|cpp):\d+[^\n]*"
    r")"
)
_RAISED = re2.compile(r"\n[^\n]*\b(?:raise|throw) [^\n]*")
# Of Java, Node and PHP's loggers, and of .NET; the legacy builder of Docker writes an arrow without an exception.
_CAUSED_BY = re2.compile(
    r"(?m)^[^\n]{0,60}?(?:\bCaused by: ?|\[cause\]: |\[previous exception\] )"
    r"|---> (?:\([^)\n]*\) ?)?[\w.]+(?:Exception|Error)\b"
)


class BadReadingError(BadInputError):
    """A file of formats or recoveries cannot be used."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LogLine:
    """What stands before the message of a line. `message` is the position of the message in the line.

    `time` is as the program wrote it, or as the engine put it before the line; parts that a format lacks are empty.
    """

    level: LogLevel | None = None
    logger: str = ""
    program: str = ""
    time: str = ""
    message: int = 0


@dataclass(frozen=True, slots=True)
class LogFormat:
    """A format of a logger, and lines with the parts that must be read of them.

    The first of the expressions tells whether a line has the format; the groups of all are its parts.
    """

    name: str
    expressions: tuple[re2._Regexp, ...]
    examples: Mapping[str, Mapping[str, str]]


@dataclass(frozen=True, slots=True)
class LogFormats:
    """Formats of loggers, and what Compose and the engine put before each line."""

    formats: tuple[LogFormat, ...] = ()
    prefix: re2._Regexp | None = None


@dataclass(frozen=True, slots=True)
class LaterSuccess:
    """Which causes a later success takes back, and how success is worded.

    `begun` words that a program serves, which takes back what it only warned of before, but for causes that last.
    """

    causes: frozenset[Category]
    success: re2._Regexp
    lasting: frozenset[Category]
    begun: re2._Regexp
    failure: re2._Regexp
    healed: tuple[str, ...]
    not_healed: tuple[str, ...]


class ExcerptReader:
    """Reads excerpts by formats and recoveries; without them it only reduces tracebacks."""

    def __init__(self, formats: LogFormats | None = None, recoveries: LaterSuccess | None = None) -> None:
        self.prefix = None if formats is None else formats.prefix
        self.formats = () if formats is None else formats.formats
        self.recoveries = recoveries
        self._read_start = lru_cache(maxsize=4096)(self._parse)
        self._fitting = re2.Set.SearchSet()
        for log_format in self.formats:
            self._fitting.Add(log_format.expressions[0].pattern)
        if self.formats:
            self._fitting.Compile()

    def read_line(self, line: str) -> LogLine:
        """Return what the logger wrote before the message; nothing where no format fits."""
        return self._read_start(line[:_LONGEST_START])

    def level_of(self, line: str) -> LogLevel | None:
        """Return the level that the logger wrote; None where no format fits, or the format has none."""
        return self.read_line(line).level

    def _parse(self, start: str) -> LogLine:
        before = None if self.prefix is None else self.prefix.search(start)
        first = 0 if before is None else before.end()
        text = start[first:]
        fitting = self._fitting.Match(text) if self.formats else None
        expressions = self.formats[min(fitting)].expressions if fitting else ()
        matches = [match for match in (expression.search(text) for expression in expressions) if match is not None]
        parts: dict[str, str] = {}
        # The prefix last: it names the service, and the engine writes all times in one way.
        for match in (*matches, *([] if before is None else [before])):
            parts |= {name: word for name, word in match.groupdict().items() if word}
        level = level_named(parts.pop("level", ""))
        return LogLine(level=level, **parts, message=first + (matches[0].end() if matches else 0))

    def position_of_healing(self, text: str, causes: Sequence[tuple[Category, int]]) -> int:
        """Return before which position failures count no more: a success of the same program stands there.

        `causes` are the failures that were found, with their positions. 0 where nothing healed.
        """
        rules = self.recoveries
        if rules is None or not causes:
            return 0
        kinds, last = {cause for cause, _ in causes}, max(start for _, start in causes)
        if kinds <= rules.causes:
            success = rules.success
        elif kinds.isdisjoint(rules.lasting) and all(self._is_only_warned_of(text, start) for _, start in causes):
            success = rules.begun
        else:
            return 0
        failed = self._read_at(text, last)
        for line_start, line_end in _lines_from(text, text.find("\n", last) + 1 or len(text)):
            line = text[line_start : min(line_end, line_start + _LONGEST_START)]
            read = self.read_line(line)
            if read.program != failed.program or _is_earlier(read, failed):
                continue
            if read.level is not None and read.level >= LogLevel.ERROR:
                continue
            if success.search(line) and not rules.failure.search(line):
                return line_start
        return 0

    def _read_at(self, text: str, place: int) -> LogLine:
        start = _line_start(text, place)
        return self.read_line(text[start : start + _LONGEST_START].partition("\n")[0])

    def _is_only_warned_of(self, text: str, place: int) -> bool:
        level = self._read_at(text, place).level
        return level is not None and level <= LogLevel.WARNING


def blank_middle(text: str) -> str:
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
    for match in _FRAME.finditer(text):
        start, end = match.span()
        raised = _RAISED.search(match[0])
        if raised is not None:
            end = start + raised.start()
        pieces += [text[place:start], _blank(text[start:end])]
        place = end
    return "".join([*pieces, text[place:]])


def last_cause(text: str) -> tuple[int, int]:
    """Return the positions of the first and of the last `Caused by` of a text; -1, -1 where there is none."""
    places = [match.start() for match in _CAUSED_BY.finditer(text)]
    return (places[0], places[-1]) if places else (-1, -1)


def read_formats(text: str) -> LogFormats:
    """Read a file of formats. Raises BadReadingError."""
    content = _content(text)
    words = {name: f"(?:{expression})" for name, expression in content["words"].items()}
    formats = tuple(
        LogFormat(
            str(entry["id"]),
            tuple(_compile(_expand(expression, words)) for expression in entry["expressions"]),
            {line: {"level": parts} if isinstance(parts, str) else parts for line, parts in entry["examples"].items()},
        )
        for entry in content["formats"]
    )
    return LogFormats(formats, _compile(_expand(content["prefix"], words)) if "prefix" in content else None)


def read_recoveries(text: str) -> LaterSuccess:
    """Read a file of recoveries. Raises BadReadingError."""
    content = _content(text)
    return LaterSuccess(
        causes=frozenset(map(Category, content["causes"])),
        success=_compile("(?i)" + "|".join(content["success"])),
        failure=_compile("(?i)" + "|".join(content["failure"])),
        lasting=frozenset(map(Category, content["lasting"])),
        begun=_compile("(?i)" + "|".join(content["begun"])),
        healed=tuple(content["examples"]["healed"]),
        not_healed=tuple(content["examples"]["not_healed"]),
    )


def level_named(word: str) -> LogLevel | None:
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


def _is_earlier(line: LogLine, other: LogLine) -> bool:
    """Whether a line is older than another, where both wrote the time alike and the year first."""
    alike = len(line.time) == len(other.time) > 0 and line.time[:4].isdecimal() and other.time[:4].isdecimal()
    return alike and line.time < other.time


def _expand(expression: str, words: Mapping[str, str]) -> str:
    for name, meaning in words.items():
        expression = expression.replace(f"%{{{name}}}", meaning)
    return expression


def _compile(expression: str) -> re2._Regexp:
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
