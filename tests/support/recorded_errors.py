"""A recorded error as the watch leaves one."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from adapters.pattern_files import shipped_set
from core.errors.classify import classify
from models.errors import RecordedError


def error_of_web(text: str = "web exited with code 1", **fields: Any) -> RecordedError:
    """An error of service web of the environment shop, seen now; `fields` replace its own."""
    now = datetime.now(UTC)
    error = RecordedError(
        error_id="err-1",
        environment="shop",
        text=text,
        source="watch",
        verdict=classify(text, shipped_set()),
        first_seen=now,
        last_seen=now,
        service="web",
    )
    return replace(error, **fields)
