"""Cut texts to what a service takes, by one rule: at a word, never inside a redaction or an escape, and with "…"."""

from __future__ import annotations

from collections.abc import Mapping

from core.common.safe_text import printable

Escapes = Mapping[int, str]
"""What is written for single characters, as `str.translate` takes it."""

PLAIN: Escapes = {}
ELLIPSIS = "…"
REDACTED = "[redacted]"
"""What redaction writes for a secret; half of it would read as a part of the secret."""

_BACK_TO_A_WORD = 24


def length(text: str) -> int:
    """Length of a text as the services count it: in UTF-16 units."""
    return len(text.encode("utf-16-le", "replace")) // 2


def fit_text(text: str, most: int, escapes: Escapes = PLAIN) -> str:
    """Escape a text and cut it to at most `most` UTF-16 units, with what escaping adds.

    What a terminal or a reader would take for more than text is made visible first.
    """
    text = printable(text).strip()
    whole = text.translate(escapes)
    if length(whole) <= most:
        return whole
    end, room = 0, most - length(ELLIPSIS)
    while end < len(text) and (room := room - length(text[end].translate(escapes))) >= 0:
        end += 1
    return f"{text[: _good_end(text, end)].rstrip().translate(escapes)}{ELLIPSIS}" if most > 0 else ""


def _good_end(text: str, end: int) -> int:
    """Return the last good place for a cut: before a redaction that it would split, else after a whole word."""
    begin = text.rfind(REDACTED, 0, end + len(REDACTED) - 1)
    if 0 <= begin < end < begin + len(REDACTED):
        return begin
    space = max(text.rfind(" ", 0, end), text.rfind("\n", 0, end))
    return space if 0 < end - space <= _BACK_TO_A_WORD and space > 0 and not text[end : end + 1].isspace() else end
