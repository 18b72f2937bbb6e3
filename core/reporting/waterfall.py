"""Say what took time in an operation, and draw it as bars below each other."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from html import escape

from core.common.safe_text import printable, shorten
from models.operation_view import WaterfallBar
from models.operations import Operation, OperationStep, StateChange
from models.overview import VerdictLevel

_ROW, _TOP, _NAMES, _WIDTH, _TIMES = 24, 22, 200, 720, 64
_LONGEST_NAME = 30
_THINNEST = 2.0
_BAD = frozenset({"failed", "unhealthy", "stopped", "exited", "dead"})
_TOOK = "took_seconds"


def bars_of(
    operation: Operation, steps: Sequence[OperationStep], changes: Iterable[StateChange]
) -> tuple[WaterfallBar, ...]:
    """The bars of an operation, in the order they began.

    A service's start and a hook have times of their own. Of a step only its end is recorded: its bar begins where the
    step before it ended.
    """
    bars = [*_of_steps(operation, steps), *_of_hooks(operation), *_of_services(operation, changes)]
    return tuple(sorted(bars, key=lambda bar: (bar.begins, bar.ends)))


def draw_waterfall(bars: Sequence[WaterfallBar], begins: datetime, ends: datetime, name: str) -> str:
    """The SVG element of a waterfall over the time of an operation. `name` is the id of the element."""
    height = _TOP + len(bars) * _ROW + 4
    whole = max((ends - begins).total_seconds(), 0.001)
    room = _WIDTH - _NAMES - _TIMES
    head = (
        f'<svg id="{name}" class="waterfall" viewBox="0 0 {_WIDTH} {height}" role="img" aria-labelledby="{name}-text">'
    )
    parts = [head, f'<title id="{name}-text">{_safe(describe_bars(bars, begins))}</title>']
    for share in (0.0, 0.5, 1.0):
        x = round(_NAMES + share * room, 1)
        anchor = {0.0: "start", 1.0: "end"}.get(share, "middle")
        parts.append(f'<line class="grid" x1="{x}" y1="{_TOP - 6}" x2="{x}" y2="{height}"/>')
        parts.append(f'<text x="{x}" y="11" text-anchor="{anchor}">{share * whole:.1f} s</text>')
    for number, bar in enumerate(bars):
        parts.append(_bar(bar, number, (bar.begins - begins).total_seconds() / whole, whole, room))
    return "".join([*parts, "</svg>"])


def describe_bars(bars: Iterable[WaterfallBar], begins: datetime) -> str:
    """What a waterfall shows, for readers who do not see it."""
    sentences = (
        f"{bar.name}: {_seconds(bar):.1f} s, from {max(0.0, (bar.begins - begins).total_seconds()):.1f} s."
        for bar in bars
    )
    return " ".join(sentences) or "Nothing was timed."


def detail_in_words(step: OperationStep) -> str:
    """What a step noted for people; empty where it noted values for its own resumption."""
    return "" if step.detail.startswith(("{", "[")) else step.detail


def _of_steps(operation: Operation, steps: Sequence[OperationStep]) -> Iterable[WaterfallBar]:
    before = operation.started_at
    for step in steps:
        if step.service is None:
            yield WaterfallBar(
                name=step.step,
                kind="step",
                begins=before,
                ends=max(before, step.finished_at),
                level=VerdictLevel.GOOD,
                detail=detail_in_words(step),
            )
        before = max(before, step.finished_at)


def _of_hooks(operation: Operation) -> Iterable[WaterfallBar]:
    for hook in operation.record.hooks:
        ends = hook.began_at + timedelta(seconds=hook.took_seconds)
        level = VerdictLevel.GOOD if hook.ok else VerdictLevel.WARNING if hook.warns else VerdictLevel.BAD
        yield WaterfallBar(
            name=f"hook {hook.name}",
            kind="hook",
            begins=hook.began_at,
            ends=ends,
            level=level,
            detail=hook.sentence or hook.does,
        )


def _of_services(operation: Operation, changes: Iterable[StateChange]) -> Iterable[WaterfallBar]:
    for change in changes:
        took = change.details.get(_TOOK)
        if not isinstance(took, int | float):
            continue
        begins = max(operation.started_at, change.changed_at - timedelta(seconds=float(took)))
        yield WaterfallBar(
            name=change.service,
            kind="service",
            begins=begins,
            ends=change.changed_at,
            level=VerdictLevel.BAD if change.new_state in _BAD else VerdictLevel.GOOD,
            detail=f"{change.new_state}: {change.reason}" if change.reason else change.new_state,
        )


def _bar(bar: WaterfallBar, number: int, share: float, whole: float, room: float) -> str:
    y = _TOP + number * _ROW
    x = round(_NAMES + min(1.0, max(0.0, share)) * room, 1)
    width = round(max(_THINNEST, min(_seconds(bar) / whole * room, _NAMES + room - x)), 1)
    title = f"{bar.name}: {_seconds(bar):.1f} s. {bar.detail}".strip()
    return (
        f'<g class="bar {bar.kind} {bar.level}"><title>{_safe(title)}</title>'
        f'<text class="name" x="0" y="{y + 14}">{_safe(shorten(bar.name, _LONGEST_NAME))}</text>'
        f'<rect x="{x}" y="{y + 3}" width="{width}" height="14" rx="3"/>'
        f'<text x="{_WIDTH}" y="{y + 14}" text-anchor="end">{_seconds(bar):.1f} s</text></g>'
    )


def _seconds(bar: WaterfallBar) -> float:
    return (bar.ends - bar.begins).total_seconds()


def _safe(text: str) -> str:
    return escape(printable(text))
