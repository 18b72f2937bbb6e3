"""Say what took time in an operation, as bars below each other."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta

from models.operation_view import PlacedBar, WaterfallBar
from models.operations import Operation, OperationStep, StateChange
from models.overview import VerdictLevel

_WHOLE, _THINNEST = 1000, 4
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


def place_bars(bars: Sequence[WaterfallBar], begins: datetime, ends: datetime) -> tuple[PlacedBar, ...]:
    """The bars with their places within the time of an operation, whose clock may have differed from theirs."""
    whole = max((ends - begins).total_seconds(), 0.001)
    return tuple(_place(bar, begins, whole) for bar in bars)


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


def _place(bar: WaterfallBar, begins: datetime, whole: float) -> PlacedBar:
    after, took = (bar.begins - begins).total_seconds(), (bar.ends - bar.begins).total_seconds()
    left = round(min(max(after / whole, 0.0), 1.0) * (_WHOLE - _THINNEST))
    width = min(max(round(took / whole * _WHOLE), _THINNEST), _WHOLE - left)
    return PlacedBar(bar=bar, left=left, width=width, after_seconds=max(0.0, after), took_seconds=took)
