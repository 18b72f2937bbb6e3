"""Mask the changing parts of messages, so that equal causes form one group before a pattern names them."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence

import re2

from models.errors import RecordedError, UnnamedGroup

_MOST_CHARACTERS = 4_000
_VERSION = "1"

_NOISE = re2.compile(r"\x1b\[[0-9;?]*[A-Za-z]|(?m:^[\w.-]+ +\| )")
_CLOCK = r"\d\d:\d\d:\d\d(?:[.,]\d+)?"
_MONTH = r"(?:Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec)[a-z]*"
_CHANGING = re2.compile(
    rf"(?P<time>\b\d{{4}}[-/]\d\d[-/]\d\d(?:[T ](?:{_CLOCK}|\d\d:\d\d))?(?: ?(?:Z|UTC|CES?T|[+-]\d\d:?\d\d))?"
    rf"|\b(?:(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun),? )?{_MONTH} +\d{{1,2}},? +(?:\d{{4}} )?{_CLOCK}"
    rf"|\b\d{{1,2}}[-/ ](?:\d\d|{_MONTH})[-/ ]\d{{4}}[ :]{_CLOCK}|\b{_CLOCK})"
    r"|(?P<id>\b[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}\b)"
    r"|(?P<url>\b[a-zA-Z][a-zA-Z0-9+.-]*://[^\s\"'<>()\[\]{},;]+)"
    r"|(?P<mail>\b[\w.+-]+@[\w-]+\.[\w.-]+\b)"
    r"|(?P<address>\b\d{1,3}(?:\.\d{1,3}){3}(?::\d+)?\b|\[?\b[0-9a-fA-F]{1,4}(?::[0-9a-fA-F]{0,4}){3,7}\]?(?::\d+)?)"
    r"|(?P<hex>\b0x[0-9a-fA-F]+\b|\bsha256:[0-9a-f]+\b|\b[0-9a-f]{12,}\b|\b[0-9A-F]{12,}\b)"
    r"|(?P<path>(?:\b[A-Za-z]:\\|~?/|\.\.?/)[\w.@+~-]+(?:[/\\][\w.@+~:-]+)*/?)"
    r"|(?P<number>[-+]?\b\d+(?:[.,]\d+)*(?:e[+-]?\d+)?(?:[a-zA-Zµ%]{1,3}\b|%|\b)|[_:#-]\d+\b)"
)


_MASK = re.compile(r"<(time|id|url|mail|address|hex|path|number)>")
_LEVEL = re.compile(r"(?i)\W*(?:error|err|erro|warn|warning|fatal|fata|critical|crit|info|severe|main|level|msg)\W*")
_SPECIAL = re.compile(r"[\\.+*?()|\[\]{}^$]")
_LONGEST_PROPOSAL = 160
_LETTERS_THAT_TELL = 8


def template_of(text: str) -> str:
    """Return the message with times, ids, addresses, paths and numbers masked and spaces joined.

    Only the first 4,000 characters count: the rest is seldom the message. Time is linear in the text.
    """
    plain = _NOISE.sub("", text[:_MOST_CHARACTERS])
    masked = _CHANGING.sub(lambda match: f"<{match.lastgroup}>", plain)
    return " ".join(masked.split())


def fingerprint_of(template: str) -> str:
    """A short stable name of a template: 16 hexadecimal digits, changed only with the masking itself."""
    return hashlib.sha256(f"{_VERSION}:{template}".encode("utf-8", "replace")).hexdigest()[:16]


def unnamed_groups(errors: Sequence[RecordedError]) -> tuple[UnnamedGroup, ...]:
    """Group errors without a pattern by their template, the most frequent first."""
    grouped: dict[str, list[RecordedError]] = {}
    for error in errors:
        grouped.setdefault(error.verdict.template or template_of(error.text), []).append(error)
    groups = [_group(template, alike) for template, alike in grouped.items()]
    return tuple(sorted(groups, key=lambda group: (-group.count, group.template)))


def expression_for(text: str) -> str | None:
    """Return an expression (RE2) that matches the characteristic words of a text, None if there are too few.

    It is made of the first line with enough words, with gaps for the changing parts; times and levels at the
    beginning of the line are left out.
    """
    for line in _NOISE.sub("", text[:_MOST_CHARACTERS]).splitlines():
        expression = _expression_of_line(line)
        if expression is not None:
            return expression
    return None


def _group(template: str, alike: Sequence[RecordedError]) -> UnnamedGroup:
    latest = max(alike, key=lambda error: error.last_seen)
    return UnnamedGroup(
        group=fingerprint_of(template)[:8],
        template=template,
        count=sum(error.count for error in alike),
        first_seen=min(error.first_seen for error in alike),
        last_seen=latest.last_seen,
        places=tuple(sorted({f"{error.environment}/{error.service or '-'}" for error in alike})),
        example=latest.text,
        expression=expression_for(latest.text),
    )


def _expression_of_line(line: str) -> str | None:
    words: list[str] = []
    length = 0
    for word in template_of(line).split():
        if not words and (_LEVEL.fullmatch(word) or not re.search("[^\\W\\d_]{3}", _MASK.sub("", word))):
            continue
        length += len(word) + 1
        if words and length > _LONGEST_PROPOSAL:
            break
        words.append(word)
    while words and _MASK.fullmatch(words[-1]):
        words.pop()
    if sum(len(re.findall("[^\\W\\d_]", _MASK.sub("", word))) for word in words) < _LETTERS_THAT_TELL:
        return None
    # RE2 knows only the blanks of ASCII by that name.
    blank = r"\s+" if line.isascii() else r"[\s\pZ\pC]+"
    return blank.join(_open_where_it_changes(word) for word in words)


def _open_where_it_changes(word: str) -> str:
    # A time is the one mask that covers blanks.
    parts = _MASK.split(word)
    masks = iter(parts[1::2])
    literals = [_SPECIAL.sub(r"\\\g<0>", part) for part in parts[::2]]
    return literals[0] + "".join((".+?" if next(masks) == "time" else r"\S+?") + part for part in literals[1:])
