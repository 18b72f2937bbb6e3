"""Redact the lines of a log as they arrive."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable

_CONTEXT_LINES = 64


class LineRedactor:
    """Redacts batch after batch of one log's lines, together with those before: a secret may go on over lines."""

    def __init__(self, redact: Callable[[str], str]) -> None:
        self._redact = redact
        self._before: deque[str] = deque(maxlen=_CONTEXT_LINES)

    def lines(self, batch: Iterable[str]) -> list[str]:
        """The lines of a batch without secrets; fewer where one reached over several of them."""
        new = list(batch)
        if not new:
            return []
        before = "\n".join(self._before)
        shown = self._redact(before).count("\n") + 1 if self._before else 0
        redacted = self._redact("\n".join([*self._before, *new])).split("\n")
        self._before.extend(new)
        return redacted[shown:]
