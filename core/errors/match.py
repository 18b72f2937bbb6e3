"""Patterns: named regular expressions, matched all at once in time linear in the text.

The highest precedence wins. Causes stand above the messages that wrap them, so the innermost cause decides. Between
equals the one that needs a person wins, since nothing may be done automatically that one cause forbids; then the
later one, since programs append the cause. A benign pattern excuses weaker words on its own lines only: a harmless
notice must not hide a real error beside it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

import re2

from core.errors.reading import ExcerptReader
from models.errors import Category, Pattern
from models.failures import BadInputError

CERTAIN = 95
"""Words that settle the matter whatever else the line says."""
TRAP = 85
"""A cause that borrows the words of another one: `No space left on device` about watchers."""
INNERMOST = 75
"""A cause often found inside the wrappers of other causes."""
CAUSE = 60
"""A cause that names itself."""
SYMPTOM = 45
"""Words many causes share: refused, timed out, permission denied."""
WRAPPER = 30
"""What a program says around the cause."""
GENERIC = 15
"""An end without any cause: it exited, it is unhealthy."""

LEVELS = {
    "certain": CERTAIN, "trap": TRAP, "innermost": INNERMOST, "cause": CAUSE,
    "symptom": SYMPTOM, "wrapper": WRAPPER, "generic": GENERIC,
}  # fmt: skip
"""The levels of precedence by the names that files of patterns use."""

_MATCHES_PER_PATTERN = 16
_PATTERNS_A_FILTER = 250
"""The memory of a filter is bounded: one of all shipped patterns and twenty of a person did not compile."""

_LONGEST_REGEX = 2_000
_WIDEST_PROGRAM = 20_000


class BadPatternError(BadInputError):
    """A pattern's regular expression cannot be used."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PatternMatch:
    """A pattern and the words it matched, as start and end in the text."""

    pattern: Pattern
    span: tuple[int, int]


class PatternSet:
    """Many patterns, compiled once; disabled ones are left out.

    The words every pattern needs are looked for in a pass or two; only patterns whose words are present are tried
    themselves. Both passes are linear in the length of the text, whatever the patterns say. Letter case
    does not matter unless a pattern says `(?-i)`.

    Raises BadPatternError for a regular expression that does not compile.
    """

    def __init__(self, patterns: Sequence[Pattern], reader: ExcerptReader | None = None) -> None:
        """Compile patterns; `reader` knows the formats of the logs they are matched against."""
        self.reader = reader or ExcerptReader()
        self.patterns = tuple(pattern for pattern in patterns if pattern.enabled)
        # Most commands try few of them, and compiling all takes longer than reading the records.
        self._compiled: dict[int, re2._Regexp] = {}
        self._filters = [
            one
            for first in range(0, len(self.patterns), _PATTERNS_A_FILTER)
            for one in _filters_of(self.patterns[first : first + _PATTERNS_A_FILTER], first)
        ]

    def script_of(self, name: str | None) -> str | None:
        """The recovery script that a pattern names; None where it names none."""
        return next((pattern.recovery_script for pattern in self.patterns if pattern.name == name), None)

    def find(self, text: str) -> tuple[PatternMatch, ...]:
        """Every match that is not excused by a benign one on its line; the deciding one first."""
        data = text.encode("utf-8", "replace")
        matches = [
            (self.patterns[index], match.span())
            for first, words in self._filters
            for index in (first + place for place in words.Match(data, True) or ())
            for match in _first_and_last(self._regexp(index).finditer(data))
        ]
        benign = [
            (pattern.priority, _lines_around(data, span))
            for pattern, span in matches
            if pattern.category is Category.BENIGN
        ]
        standing = [
            (pattern, span)
            for pattern, span in matches
            if pattern.category is Category.BENIGN
            or not any(start <= span[0] < end and pattern.priority < priority for priority, (start, end) in benign)
        ]
        standing.sort(key=_precedence)
        characters = _to_characters(data, [span for _, span in standing])
        return tuple(
            PatternMatch(pattern=pattern, span=span) for (pattern, _), span in zip(standing, characters, strict=True)
        )

    def _regexp(self, index: int) -> re2._Regexp:
        if index not in self._compiled:
            self._compiled[index] = _compile(self.patterns[index])
        return self._compiled[index]


def _filters_of(patterns: Sequence[Pattern], first: int) -> list[tuple[int, re2.Filter]]:
    """Filters of patterns, with the position of the first one of each; more than one where they need much memory."""
    words = re2.Filter()
    for pattern in patterns:
        try:
            words.Add(pattern.regex, _options())
        except re2.error:
            # It says what is wrong with the expression.
            _compile(pattern)
            raise
    try:
        words.Compile()
    except re2.error:
        half = len(patterns) // 2
        if half == 0:
            raise
        return [*_filters_of(patterns[:half], first), *_filters_of(patterns[half:], first + half)]
    return [(first, words)]


def check_pattern(pattern: Pattern, benign_lines: Sequence[str]) -> tuple[str, ...]:
    """What speaks against taking a person's pattern, as sentences; nothing if it may be taken.

    `benign_lines` are lines known to be harmless: a pattern that matches one would raise false errors, so
    only a benign pattern may.
    """
    if len(pattern.regex) > _LONGEST_REGEX:
        return (f"The expression has {len(pattern.regex)} characters; {_LONGEST_REGEX} is the most.",)
    try:
        compiled = _compile(pattern)
    except BadPatternError as error:
        return (str(error),)
    complaints = []
    if compiled.programsize > _WIDEST_PROGRAM:
        complaints.append("The expression repeats too much to be matched quickly; use smaller counts.")
    if compiled.search(b"") is not None:
        complaints.append("The expression matches an empty text, so it would match every line.")
    elif pattern.category is not Category.BENIGN:
        complaints.extend(
            f'It matches a line known to be harmless: "{line}".'
            for line in benign_lines
            if compiled.search(line.encode("utf-8", "replace")) is not None
        )
    return tuple(complaints)


def _first_and_last(matches: Iterator[re2._Match]) -> list[re2._Match]:
    """The first few matches and the last: what fails again and again counts by its last time."""
    return [*islice(matches, _MATCHES_PER_PATTERN - 1), *deque(matches, maxlen=1)]


def _precedence(match: tuple[Pattern, tuple[int, int]]) -> tuple[object, ...]:
    """An error that stands outranks a benign notice: had they shared a line, one alone would stand."""
    pattern, (_, end) = match
    return pattern.category is Category.BENIGN, -pattern.priority, pattern.strategy.automatic, -end


def _lines_around(data: bytes, span: tuple[int, int]) -> tuple[int, int]:
    end = data.find(b"\n", span[1])
    return data.rfind(b"\n", 0, span[0]) + 1, len(data) + 1 if end < 0 else end


def _to_characters(data: bytes, spans: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    """Turn spans of bytes into spans of characters, in one pass through the text."""
    if data.isascii():
        return list(spans)
    places = sorted({place for span in spans for place in span})
    characters, before, count = {}, 0, 0
    for place in places:
        count += len(data[before:place].decode("utf-8", "ignore"))
        characters[place], before = count, place
    return [(characters[start], characters[end]) for start, end in spans]


def _options() -> re2.Options:
    options = re2.Options()
    options.case_sensitive = False
    options.log_errors = False
    return options


def _compile(pattern: Pattern) -> re2._Regexp:
    try:
        return re2.compile(pattern.regex, _options())
    except re2.error as error:
        reason = error.args[0] if error.args else error
        words = reason.decode("utf-8", "replace") if isinstance(reason, bytes) else reason
        raise BadPatternError(
            f"Pattern {pattern.name!r} does not compile: {words}.",
            advice="Use RE2 syntax: no look-around and no back-references.",
        ) from error
