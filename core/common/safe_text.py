"""Text of others made safe to show: nothing in it moves a cursor, hides a line or sets a clipboard."""

from __future__ import annotations

import re

# Colours are dropped: programs write them around every level. Whatever else a terminal would obey is made visible.
_COLOUR = re.compile(r"(?:\x1b\[|\x9b)[0-9;:]*m")
_RETURNED = re.compile(r"\r+\n")
_UNSAFE = re.compile(
    "["
    "\x00-\x08\x0b-\x1f\x7f-\x9f"  # C0 without tab and newline, DEL, C1
    "\xad\u061c\u115f\u1160\u17b4\u17b5\u180e\u3164\uffa0"  # soft hyphen, Arabic letter mark, invisible letters
    "\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb"  # zero width, separators, bidi, annotations
    "\ud800-\udfff\U000e0000-\U000e0fff"  # halves of characters, tags
    "]"
)


def printable(text: str) -> str:
    """The text with nothing that a terminal or a reader would take for more than text; tabs and newlines stay.

    Control characters, bidirectional and invisible marks become what Python writes for them, such as `\\x1b`.
    """
    if text.isascii() and text.isprintable():
        return text
    text = _RETURNED.sub("\n", _COLOUR.sub("", text))
    return _UNSAFE.sub(_visible, text)


def shorten(text: str, most: int = 400) -> str:
    """A text on one line, cut where it has more characters."""
    words = " ".join(text.split())
    return words if len(words) <= most else f"{words[: most - 3]}..."


def _visible(match: re.Match[str]) -> str:
    code = ord(match[0])
    if match[0] == "\r":
        return r"\r"
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
