"""A run of a hook as the record of an operation has it."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from models.operations.record import HookRun


def stored_run(*, ok: bool, sentence: str) -> dict[str, Any]:
    """A run as it is stored: how it ended, and the sentence that people get."""
    began_at = datetime(2026, 3, 2, 12, tzinfo=UTC)
    run = HookRun(
        name="smoke",
        when="after",
        does="command curl",
        service=None,
        began_at=began_at,
        took_seconds=1,
        ok=ok,
        sentence=sentence,
    )
    return run.model_dump(mode="json")
