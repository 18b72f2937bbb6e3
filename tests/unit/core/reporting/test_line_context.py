from __future__ import annotations

from datetime import UTC, datetime

from core.reporting.line_context import context_of
from models.evidence import EvidenceBundle, EvidenceOccasion, LogExcerpt
from models.records import ShownLine

NOW = datetime(2026, 7, 1, 12, tzinfo=UTC)


def bundle(*lines: str, container: str = "shop-web-1") -> EvidenceBundle:
    return EvidenceBundle(
        bundle_id="b",
        environment="shop",
        service="web",
        taken_at=NOW,
        occasion=EvidenceOccasion.FAILURE,
        reason="ended",
        first_cause="",
        cause_service="web",
        logs=(LogExcerpt(service="web", container=container, lines=lines),),
    )


def decisive(*texts: str, source: str = "log") -> list[ShownLine]:
    return [ShownLine(service="web", source=source, text=text) for text in texts]


def test_the_lines_around_those_that_decided_are_shown() -> None:
    lines = [f"2026-07-01T12:00:00Z line {place}" for place in range(100)]

    context = context_of([bundle(*lines)], decisive("line 50"))

    assert context is not None
    assert context.lines[0] == (lines[42], False)
    assert (lines[50], True) in context.lines
    assert context.lines[-1] == (lines[58], False)


def test_lines_that_lie_far_apart_are_bounded_and_have_the_last() -> None:
    lines = [f"line {place:04}" for place in range(5000)]

    context = context_of([bundle(*lines)], decisive("line 0001", "line 4990"))

    assert context is not None
    assert len(context.lines) <= 40
    assert ("line 4990", True) in context.lines


def test_the_first_log_that_has_them_counts() -> None:
    other = bundle("nothing", "of it", container="shop-db-1")

    context = context_of([other, bundle("before", "it failed", "after")], decisive("it failed"))

    assert context is not None
    assert context.container == "shop-web-1"


def test_without_more_than_the_lines_themselves_there_is_no_context() -> None:
    assert context_of([bundle("it failed")], decisive("it failed")) is None
    assert context_of([bundle("a", "b")], decisive("it failed")) is None
    assert context_of([bundle("a", "it failed")], decisive("it failed", source="health check")) is None
    assert context_of([], []) is None
