"""What is closed once it is over, in real stores."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from models.errors_seen import Category, RecordedError, Severity, Strategy, Verdict
from models.recovery import Ticket, TicketState
from tasks.recovery import settle_dependants
from tasks.stores import open_stores

NOW = datetime.now(UTC)
AGO = NOW - timedelta(minutes=1)
ERROR = RecordedError(
    error_id="err-of-web",
    environment="dev",
    text="service web is unhealthy: its own health check fails",
    source="watch",
    verdict=Verdict(
        category=Category.DEPENDENCY_REFUSED,
        severity=Severity.HIGH,
        strategy=Strategy.RESTART_DEPENDENCY_THEN_SERVICE,
        confidence=0.8,
        reason="What it needs is down: redis.",
    ),
    first_seen=AGO,
    last_seen=AGO,
    service="web",
    evidence={"dependencies_down": ["redis"]},
)


@pytest.fixture(autouse=True)
def _own_stores(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ROAS_DATA_DIR", str(tmp_path))


async def test_what_came_of_another_service_is_closed_once_both_are_well() -> None:
    errors = open_stores().errors
    errors.record(ERROR)
    own = replace(ERROR.verdict, category=Category.DISK_FULL)
    errors.record(replace(ERROR, error_id="err-of-its-own", text="No space left", verdict=own, evidence={}))
    errors.open_ticket(
        Ticket(ticket_id="T-1", error_id="err-of-web", environment="dev", title="web", opened_at=AGO, service="web")
    )

    assert await settle_dependants.fn("dev", ["web"], NOW) == [], "redis is still down"
    assert await settle_dependants.fn("dev", ["web", "redis"], AGO - timedelta(seconds=1)) == [], "it was seen since"
    assert await settle_dependants.fn("dev", ["web", "redis"], NOW) == ["err-of-web"]
    assert [one.error_id for one in errors.open_errors("dev")] == ["err-of-its-own"]
    assert errors.tickets(environment="dev")[0].state is TicketState.RESOLVED
