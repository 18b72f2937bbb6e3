"""Whether a program's words say that its login is refused: no wait and no restart makes a password right."""

from __future__ import annotations

from collections.abc import Sequence

import re2

from core.common.stamps import without_stamp
from core.errors.classify import classify
from core.errors.match import PatternSet
from models.errors import Strategy

_SURE = 0.7
_LINES_AFTER = 3
_TRIES_AGAIN = re2.compile(r"(?i)\bretr(?:y|ies)|again|attempt|wait|sleep|reconnect|^\s*$")
_OF_A_CALLER = re2.compile(
    r"(?i)\b(?:get|post|put|patch|delete|head) +/|\b40[13]\b|unauthori[sz]ed|forbidden|jwt|json ?web ?token|\bremote"
    r"|bad ?credentials|(?:invalid|wrong|incorrect) (?:username|user name|email|e-mail)"
)
"""A service that already serves turns such callers away while it is proven: its own login may be well."""


def is_refused_login(text: str, patterns: PatternSet) -> bool:
    """Whether a text says so by itself; single words that hint at it do not."""
    verdict = classify(text, patterns)
    return verdict.strategy is Strategy.FIX_CREDENTIALS and verdict.confidence >= _SURE


def last_refusal_line(lines: Sequence[str], patterns: PatternSet) -> str:
    """The line at the end of a log that says so, after which the program only tries again; empty without one."""
    for line in reversed(lines[-_LINES_AFTER:]):
        message = without_stamp(line)
        if _OF_A_CALLER.search(message) is not None:
            return ""
        if is_refused_login(message, patterns):
            return message
        if _TRIES_AGAIN.search(message) is None:
            return ""
    return ""
