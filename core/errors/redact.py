"""Redact secrets from texts and values before they are stored, shown or sent: known ones and well-known shapes."""

from __future__ import annotations

import base64
import html
import json
import re
from collections.abc import Callable, Iterable, Iterator
from typing import Any
from urllib.parse import quote, quote_plus

import re2

from core.common.safe_text import printable
from core.errors.secret_shapes import (
    NAME,
    PATTERNS,
    REDACTED,
    TAGS,
    is_no_value,
    is_secret_name,
    is_working_folder,
    may_hold_secret,
    random_parts,
)

# A name whose value is on the lines below it.
_BLOCK = re2.compile(rf"(?i)(?m:^)([ \t]*)(?:-[ \t]+)?[\"']?{NAME}[\"']?:[ \t]*{TAGS}([|>][-+\d]*)?[ \t]*\n")


def _without_blocks(text: str) -> str:
    """The text without the values that are on the lines below their names, as in block scalars of YAML."""
    made, at = [], 0
    for match in _BLOCK.finditer(text):
        if match.start() < at:
            continue
        begin, end, count, first = match.end(), match.end(), 0, ""
        while end < len(text):
            line = text[end : (text.find("\n", end) + 1) or len(text)]
            if line.strip() and len(line) - len(line.lstrip(" \t")) <= len(match[1]):
                break
            end, count, first = end + len(line), count + 1, first or (line if line.strip() else "")
        word = first.strip()
        is_value = match[2] is not None or (count == 1 and _one_value(word))
        name = match[0].strip(" \t\n-|>+0123456789\"'").rstrip(":")
        if is_value and word and may_hold_secret(name):
            ended = "\n" if text.endswith("\n", begin, end) else ""
            made.append(f"{text[at:begin]}{first[: first.index(word)]}{REDACTED}{ended}")
            at = end
    return "".join(made) + text[at:]


def _one_value(text: str) -> bool:
    return not any(map(str.isspace, text)) and not text.endswith(":") and not text.startswith(("-", "{", "["))


_SHORTEST_VALUE = 6
_SHORTEST_LINE = 16
_SHORTEST_ENCODED = 10
_PIECE = 8
_LONG = 256
_REPEATED_CHARACTERS, _REPEATED_TEXTS = 128, 2048
_PATTERN_BYTES = 64 * 1024 * 1024

# Words, numbers and addresses: under a secret's name they are often no secrets, and they are in every log.
_PLAIN = re2.compile(
    r"[A-Za-z]+(?:[ ._-][A-Za-z]+)*|[\d.:,-]+|[~.]{0,2}/[\w./-]*|[A-Za-z][A-Za-z0-9+.-]*://[\w.:-]+(?:/[A-Za-z._-]*)*"
)
_WORDLESS_NAME = re2.compile(r"(?i)(?:key|salt|pepper|dsn|cookie|webhook)(?:[_-]?(?:url|uri|\d+))?$")
# The first and the last words of lines, behind the engine's time stamp and a service's name and before a continuation's
# mark: a secret may be broken between lines there.
_ENDS = re2.compile(
    r"(?m:^)(?:\d{4}-\d\d-\d\dT[\d:.]+Z? )?(?:[\w.-]{1,40}[ \t]*\|)?[ \t]*[\"']?([^\s\"'\\]{8,})"
    r"|([^\s\"'\\]{8,})[\"'\\+]*[ \t]*(?m:$)"
)


class Redactor:
    """Redacts known values in every usual spelling, and everything that has the shape of a secret.

    A known value shorter than 6 characters is only redacted beside its name: searching for it would remove ordinary
    words.
    """

    def __init__(self, known_values: Iterable[str]) -> None:
        self._repeated: dict[str, str] = {}
        spellings = {spelling for value in known_values for spelling in _spellings(value)}
        # Longest first: a secret that contains another one goes as a whole.
        ordered = sorted(spellings, key=lambda spelling: (-len(spelling), spelling))
        self._long = [spelling for spelling in ordered if len(spelling) > _LONG]
        self._known = _any_of(spelling for spelling in ordered if len(spelling) <= _LONG)
        breakable = [
            spelling for spelling in ordered if len(spelling) >= 2 * _PIECE and not any(map(str.isspace, spelling))
        ]
        self._joined = "\n".join(breakable)
        pieces = [[spelling[at : at + _PIECE] for at in range(len(spelling) - _PIECE + 1)] for spelling in breakable]
        # The last piece ends no line that the secret goes on after, and the first begins none that it goes on from.
        self._before_break = {piece for of_spelling in pieces for piece in of_spelling[:-1]}
        self._after_break = {piece for of_spelling in pieces for piece in of_spelling[1:]}
        self._edges = _any_of(
            sorted({edge for spelling in breakable for edge in (spelling[:_PIECE], spelling[-_PIECE:])})
        )

    def text(self, text: str) -> str:
        """The text without secrets, readable still: names, users and hosts stay."""
        for spelling in self._long:
            text = text.replace(spelling, REDACTED)
        if self._known is not None:
            text = self._known.sub(REDACTED, text)
        # Looking at each line costs more than all else, and is seldom needed.
        if self._edges is not None and "\n" in text and self._edges.search(text) is not None:
            text = _ENDS.sub(self._without_piece, text)
        if "\n" in text:
            text = _without_blocks(text)
        for pattern, parts, words in PATTERNS:
            if not words or any(word in text for word in words):
                text = pattern.sub(lambda match, parts=parts: _redact_match(match, parts(match)), text)
        return text

    def value(self, value: Any) -> Any:
        """The same for a JSON value: every text in it, and whatever stands under a secret's name."""
        if isinstance(value, str):
            return self._repeated_text(value)
        if isinstance(value, dict):
            return {
                self._repeated_text(str(name)): self._redact_under(str(name), inner) for name, inner in value.items()
            }
        if isinstance(value, list | tuple):
            return [self.value(inner) for inner in value]
        return value

    def _repeated_text(self, text: str) -> str:
        """The same as `text`: a document repeats its names and its words many times."""
        if len(text) > _REPEATED_CHARACTERS:
            return self.text(text)
        if (redacted := self._repeated.get(text)) is None:
            if len(self._repeated) >= _REPEATED_TEXTS:
                self._repeated.clear()
            redacted = self._repeated[text] = self.text(text)
        return redacted

    def _redact_under(self, name: str, value: Any) -> Any:
        if not is_secret_name(name) or value is None or isinstance(value, bool):
            return self.value(value)
        if isinstance(value, dict):
            return {
                str(inner): self._redact_under(f"{name}.value", inner_value) for inner, inner_value in value.items()
            }
        if isinstance(value, list | tuple):
            return [self._redact_under(name, inner) for inner in value]
        return value if is_no_value(str(value)) else REDACTED

    def _without_piece(self, match: re2._Match) -> str:
        """The first or last word of a line without a piece of a secret that is broken at the end of the line."""
        group = 1 if match[1] is not None else 2
        word = match[group]
        before = match[0][: match.start(group) - match.start()]
        after = match[0][match.end(group) - match.start() :]
        if word[-_PIECE:] in self._before_break:
            begin = len(word) - _PIECE
            while begin and word[begin - 1 :] in self._joined:
                begin -= 1
            word = word[:begin] + REDACTED
        elif word[:_PIECE] in self._after_break and (group == 1 or (len(word) > _PIECE and word in self._joined)):
            end = _PIECE
            while end < len(word) and word[: end + 1] in self._joined:
                end += 1
            word = REDACTED + word[end:]
        return f"{before}{word}{after}"


def secrets_among(variables: Iterable[tuple[str, str]]) -> Iterator[str]:
    """Return the values that are secrets by the names of their variables or their shape, and the secrets inside them.

    A value that a variable of another name also has, such as a user name as a password, is not redacted.
    """
    pairs = list(variables)
    shown = {value for name, value in pairs if not is_secret_name(name)}
    for name, value in pairs:
        # A plain word is no secret where another variable has it, or the name is vague.
        plain = (value in shown or _WORDLESS_NAME.search(name)) and _PLAIN.fullmatch(value)
        if not is_secret_name(name):
            yield from random_parts(value)
        elif not (plain or is_no_value(value) or is_working_folder(name, value)):
            yield value
        yield from secrets_in(value)


def secrets_in(text: str) -> Iterator[str]:
    """The secrets that a text shows by their looks or by the words before them, but no plain words."""
    for pattern, parts, _ in PATTERNS:
        for match in pattern.finditer(text):
            pieces = parts(match)
            if pieces is None or pieces[1] == REDACTED:
                continue
            # Between the user and the host of an address a plain word is a password too.
            if pieces[2] == "@" or not _PLAIN.fullmatch(pieces[1]):
                yield pieces[1]


_LONG_ENOUGH = 16
"""So long a value is no word, nor the beginning of one."""


def _any_of(spellings: Iterable[str]) -> re2._Regexp | None:
    """One pattern for many texts: it takes a tenth of the time that replacing each of them takes."""
    options = re2.Options()
    options.max_mem = _PATTERN_BYTES
    # What goes on behind a long one is the rest of a longer secret, which begins with the same characters.
    joined = "|".join(
        f"{re2.escape(spelling)}{'[A-Za-z0-9]*' if len(spelling) >= _LONG_ENOUGH else ''}" for spelling in spellings
    )
    return re2.compile(joined, options) if joined else None


def _redact_match(match: re2._Match, parts: tuple[str, str, str] | None) -> str:
    return str(match[0]) if parts is None else f"{parts[0]}{REDACTED}{parts[2]}"


def _spellings(value: str) -> set[str]:
    value = value.strip()
    if len(value) < _SHORTEST_VALUE:
        return set()
    data = value.encode("utf-8", "replace")
    escaped, quoted = json.dumps(value)[1:-1], quote(value, safe="")
    quoted_in_c = re.sub(r"[\"\\]", r"\\\g<0>", value)
    return {
        value,
        # As it is once the text was made safe to show, and in the lines of YAML and shells.
        *(printable(value), value.replace("'", "''"), value.replace("'", "'\\''")),
        *(quoted, quoted.replace("%20", "+"), quote(value), quote_plus(value)),
        re.sub("%[0-9A-F]{2}", lambda escape: escape[0].lower(), quoted),
        *(escaped, json.dumps(escaped)[1:-1], json.dumps(value, ensure_ascii=False)[1:-1]),
        *(data.hex(), data.hex().upper()),
        # As programs print them, quote them for a shell, and in an address and a page.
        *(repr(value)[1:-1], repr(data)[2:-1], value.replace("'", "'\"'\"'")),
        *(quote(value, safe=safe) for safe in ("/:", "!*'()", "~")),
        *("".join(form % byte for byte in data) for form in ("%%%02X", "%%%02x", "\\x%02x")),
        *(html.escape(value), html.escape(value, quote=False), html.escape(value).replace("&#x27;", "&#39;")),
        *(html.escape(value).replace("&#x27;", "&apos;"), value.replace('"', '""'), value.replace("$", "$$")),
        *(quote(quoted, safe=""), data.hex(":"), data.hex(" ")),
        *(_escape(value, marks, form) for marks in (r"[^A-Za-z0-9]", ".") for form in _FORMS),
        # Quoted for a shell: for none, within double quotes, and in C.
        *(re.sub(marks, r"\\\g<0>", value) for marks in (r"[^\w]", r"[\"$`\\!]", r"[\"$`\\]", r"[\"'\\]")),
        "".join(chr(byte) if byte < _FIRST_OUTSIDE_ASCII else f"\\{byte:03o}" for byte in quoted_in_c.encode()),
        *(part for alignment in range(3) for part in _to_base64(data, alignment)),
        # A log writes a secret of many lines line by line, each with its own prefix.
        *(line.strip() for line in value.splitlines() if len(line.strip()) >= _SHORTEST_LINE),
    }


_FIRST_OUTSIDE_ASCII = 128
_FORMS: tuple[Callable[[str], str], ...] = (
    lambda character: f"&#{ord(character)};",
    lambda character: f"&#x{ord(character):x};",
    lambda character: f"&#x{ord(character):X};",
    lambda character: f"\\u{ord(character):04x}",
    lambda character: "".join(f"\\x{byte:02x}" for byte in character.encode()),
    lambda character: "".join(f"\\{byte:03o}" for byte in character.encode()),
)
"""How pages, JSON and shells write a character."""


def _escape(value: str, marks: str, form: Callable[[str], str]) -> str:
    return re.sub(marks, lambda match: form(match[0]), value, flags=re.DOTALL)


def _to_base64(data: bytes, alignment: int) -> set[str]:
    """Return the parts of the base64 text of a value that are the same at any position in a longer text."""
    encoded = [encode(b"\0" * alignment + data).decode() for encode in (base64.b64encode, base64.urlsafe_b64encode)]
    whole = set() if alignment else {*encoded, *(text.rstrip("=") for text in encoded)}
    # The first and the last characters depend on the bytes around them.
    middle = slice(-(-alignment * 8 // 6), (alignment + len(data)) * 8 // 6)
    return whole | {text[middle] for text in encoded if len(text[middle]) >= _SHORTEST_ENCODED}
