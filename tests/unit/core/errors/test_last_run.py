"""Which lines a container wrote since its last start, by the engine's stamps."""

from __future__ import annotations

from datetime import UTC, datetime

from core.errors.decisive import last_run

STARTED = datetime(2026, 11, 29, 17, 51, 8, 455_825, tzinfo=UTC)


def test_a_line_that_came_before_the_engine_noted_the_start_belongs_to_it() -> None:
    lines = [
        "2026-11-29T17:51:08.300000000Z the last of the run before",
        "2026-11-29T17:51:08.453485476Z no licence found",
        "2026-11-29T17:51:08.460000000Z and its next",
    ]
    assert last_run(lines, STARTED) == 1
    assert last_run(lines[:1], STARTED) == 1
    assert last_run(lines, None) == 0
