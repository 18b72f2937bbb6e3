"""Templates: messages with their changing parts masked, so that equal causes group before they are named."""

from __future__ import annotations

import hashlib

import re2

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


def template_of(text: str) -> str:
    """The message with times, ids, addresses, paths and numbers masked; blanks are joined.

    Only the first 4,000 characters count: what follows is seldom the message. Time is linear in the text.
    """
    plain = _NOISE.sub("", text[:_MOST_CHARACTERS])
    masked = _CHANGING.sub(lambda match: f"<{match.lastgroup}>", plain)
    return " ".join(masked.split())


def fingerprint_of(template: str) -> str:
    """A short stable name of a template: 16 hexadecimal digits, changed only with the masking itself."""
    return hashlib.sha256(f"{_VERSION}:{template}".encode("utf-8", "replace")).hexdigest()[:16]
