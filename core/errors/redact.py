"""Redact secrets from texts and values before they are stored, shown or sent."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterable, Iterator
from typing import Any
from urllib.parse import quote, quote_plus

import re2

from core.common.safe_text import printable
from core.errors.secret_shapes import PATTERNS, REDACTED, is_no_value, is_secret_name, is_working_folder, random_parts

_SHORTEST_VALUE = 6
_SHORTEST_LINE = 16
_SHORTEST_ENCODED = 10
_PIECE = 8
_LONG = 256
_PATTERN_BYTES = 64 * 1024 * 1024

# Words, numbers and addresses: under a secret's name they are often no secrets, and they are in every log.
_PLAIN = re2.compile(
    r"[A-Za-z]+(?:[ ._-][A-Za-z]+)*|[\d.:,-]+|[~.]{0,2}/[\w./-]*|[A-Za-z][A-Za-z0-9+.-]*://[\w.:-]+(?:/[A-Za-z._-]*)*"
)
_WORDLESS_NAME = re2.compile(r"(?i)(?:key|salt|pepper|dsn|cookie|webhook)(?:[_-]?(?:url|uri|\d+))?$")
# The first and the last words of lines, behind the engine's time stamp: a secret may be broken between lines there.
_ENDS = re2.compile(r"(?m:^)(?:\d{4}-\d\d-\d\dT[\d:.]+Z? )?(\S{8,})|(\S{8,})[ \t]*(?m:$)")


class Redactor:
    """Redacts known values in every usual spelling, and everything that has the shape of a secret.

    A known value shorter than 6 characters is only redacted beside its name: searching for it would remove ordinary
    words.
    """

    def __init__(self, known_values: Iterable[str]) -> None:
        found = {spelling for value in known_values for spelling in _spellings(value)}
        # Longest first: a secret that contains another one goes as a whole.
        ordered = sorted(found, key=lambda spelling: (-len(spelling), spelling))
        self._long = [one for one in ordered if len(one) > _LONG]
        self._known = _any_of(one for one in ordered if len(one) <= _LONG)
        breakable = [one for one in ordered if len(one) >= 2 * _PIECE and not any(map(str.isspace, one))]
        self._joined = "\n".join(breakable)
        self._pieces = {one[at : at + _PIECE] for one in breakable for at in range(len(one) - _PIECE + 1)}
        self._edges = _any_of(sorted({edge for one in breakable for edge in (one[:_PIECE], one[-_PIECE:])}))

    def text(self, text: str) -> str:
        """The text without secrets, readable still: names, users and hosts stay."""
        for spelling in self._long:
            text = text.replace(spelling, REDACTED)
        if self._known is not None:
            text = self._known.sub(REDACTED, text)
        # Looking at each line costs more than all else, and is seldom needed.
        if self._edges is not None and "\n" in text and self._edges.search(text) is not None:
            text = _ENDS.sub(self._without_piece, text)
        for pattern, parts in PATTERNS:
            text = pattern.sub(lambda match, parts=parts: _without(match, parts(match)), text)
        return text

    def value(self, value: Any) -> Any:
        """The same for a JSON value: every text in it, and whatever stands under a secret's name."""
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, dict):
            return {self.text(str(name)): self._under(str(name), inner) for name, inner in value.items()}
        if isinstance(value, list | tuple):
            return [self.value(inner) for inner in value]
        return value

    def _under(self, name: str, value: Any) -> Any:
        if not is_secret_name(name) or value is None or isinstance(value, bool):
            return self.value(value)
        if isinstance(value, dict):
            return {str(inner): self._under(f"{name}.value", kept) for inner, kept in value.items()}
        if isinstance(value, list | tuple):
            return [self._under(name, inner) for inner in value]
        return value if is_no_value(str(value)) else REDACTED

    def _without_piece(self, match: re2._Match) -> str:
        """The first or last word of a line without a piece of a secret that is broken at the end of the line."""
        group = 1 if match[1] is not None else 2
        word = match[group]
        before = match[0][: match.start(group) - match.start()]
        after = match[0][match.end(group) - match.start() :]
        if word[-_PIECE:] in self._pieces:
            begin = len(word) - _PIECE
            while begin and word[begin - 1 :] in self._joined:
                begin -= 1
            word = word[:begin] + REDACTED
        elif word[:_PIECE] in self._pieces:
            end = _PIECE
            while end < len(word) and word[: end + 1] in self._joined:
                end += 1
            word = REDACTED + word[end:]
        return f"{before}{word}{after}"


def secrets_among(variables: Iterable[tuple[str, str]]) -> Iterator[str]:
    """Return the values that are secrets by the names of their variables or their shape, and the secrets inside them.

    A value that a variable of another name also has, such as a user name as a password, is not redacted.
    """
    given = list(variables)
    shown = {value for name, value in given if not is_secret_name(name)}
    for name, value in given:
        # A plain word is no secret where another variable has it, or the name is vague.
        plain = (value in shown or _WORDLESS_NAME.search(name)) and _PLAIN.fullmatch(value)
        if not is_secret_name(name):
            yield from random_parts(value)
        elif not (plain or is_no_value(value) or is_working_folder(name, value)):
            yield value
        yield from secrets_in(value)


def secrets_in(text: str) -> Iterator[str]:
    """The secrets that a text shows by their looks or by the words before them, but no plain words."""
    for pattern, parts in PATTERNS:
        for match in pattern.finditer(text):
            found = parts(match)
            if found is None or found[1] == REDACTED:
                continue
            # Between the user and the host of an address a plain word is a password too.
            if found[2] == "@" or not _PLAIN.fullmatch(found[1]):
                yield found[1]


def _any_of(spellings: Iterable[str]) -> re2._Regexp | None:
    """One pattern for many texts: it takes a tenth of the time that replacing each of them takes."""
    options = re2.Options()
    options.max_mem = _PATTERN_BYTES
    joined = "|".join(map(re2.escape, spellings))
    return re2.compile(joined, options) if joined else None


def _without(match: re2._Match, parts: tuple[str, str, str] | None) -> str:
    return str(match[0]) if parts is None else f"{parts[0]}{REDACTED}{parts[2]}"


def _spellings(value: str) -> set[str]:
    value = value.strip()
    if len(value) < _SHORTEST_VALUE:
        return set()
    data = value.encode("utf-8", "replace")
    escaped, quoted = json.dumps(value)[1:-1], quote(value, safe="")
    return {
        value,
        # As it is once the text was made safe to show, and in the lines of YAML and shells.
        *(printable(value), value.replace("'", "''"), value.replace("'", "'\\''")),
        *(quoted, quoted.replace("%20", "+"), quote(value), quote_plus(value)),
        re.sub("%[0-9A-F]{2}", lambda escape: escape[0].lower(), quoted),
        *(escaped, json.dumps(escaped)[1:-1], json.dumps(value, ensure_ascii=False)[1:-1]),
        *(data.hex(), data.hex().upper()),
        *(one for alignment in range(3) for one in _in_base64(data, alignment)),
        # A log writes a secret of many lines line by line, each with its own prefix.
        *(line.strip() for line in value.splitlines() if len(line.strip()) >= _SHORTEST_LINE),
    }


def _in_base64(data: bytes, alignment: int) -> set[str]:
    """Return the parts of the base64 text of a value that are the same at any position in a longer text."""
    encoded = [encode(b"\0" * alignment + data).decode() for encode in (base64.b64encode, base64.urlsafe_b64encode)]
    whole = set() if alignment else {*encoded, *(one.rstrip("=") for one in encoded)}
    # The first and the last characters depend on the bytes around them.
    kept = slice(-(-alignment * 8 // 6), (alignment + len(data)) * 8 // 6)
    return whole | {one[kept] for one in encoded if len(one[kept]) >= _SHORTEST_ENCODED}
