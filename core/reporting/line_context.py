"""Show the lines that decided a cause among those around them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from models.evidence import EvidenceBundle
from models.records import ShownLine

_AROUND = 8
_MOST = 40


@dataclass(frozen=True, slots=True, kw_only=True)
class LineContext:
    """Lines of a container's log in their order, each with whether it is one that decided."""

    container: str
    lines: tuple[tuple[str, bool], ...]


def context_of(bundles: Iterable[EvidenceBundle], decisive: Sequence[ShownLine]) -> LineContext | None:
    """The lines around those that decided, of the first log that has them; None where none has more than them."""
    texts = [line.text for line in decisive if line.source == "log" and line.text]
    for bundle in bundles:
        for log in bundle.logs:
            marked = [any(text in line for text in texts) for line in log.lines]
            places = [place for place, is_decisive in enumerate(marked) if is_decisive]
            if not places:
                continue
            # The last ones count: a program tells its end at its end.
            end = min(len(log.lines), places[-1] + _AROUND + 1)
            begin = max(0, min(places[0] - _AROUND, places[-1]), end - _MOST)
            if end - begin <= len(places):
                continue
            lines = zip(log.lines[begin:end], marked[begin:end], strict=True)
            return LineContext(container=log.container, lines=tuple(lines))
    return None
