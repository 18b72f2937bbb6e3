"""Errors and tickets are closed once their cause is over, in real stores."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from models.errors import Category
from models.recovery import TicketState
from tasks.recovery.records import settle_dependants
from tasks.runtime.stores import open_stores
from tests.integration.stores.values import ERROR, TICKET

NOW = datetime.now(UTC)
AGO = NOW - timedelta(minutes=1)
OF_WEB = replace(
    ERROR,
    source="watch",
    verdict=replace(ERROR.verdict, category=Category.DEPENDENCY_REFUSED),
    first_seen=AGO,
    last_seen=AGO,
    evidence={"dependencies_down": ["redis"]},
)


@pytest.fixture(autouse=True)
def _own_stores(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ROAS_DATA_DIR", str(tmp_path))


async def test_an_error_caused_by_another_service_is_resolved_once_both_are_healthy() -> None:
    stores = open_stores()
    stores.errors.record(OF_WEB)
    own = replace(ERROR.verdict, category=Category.DISK_FULL)
    stores.errors.record(replace(OF_WEB, error_id="e2", verdict=own, evidence={}))
    stores.tickets.open(TICKET)

    assert await settle_dependants.fn("prod", ["web"], NOW) == [], "redis is still down"
    assert await settle_dependants.fn("prod", ["web", "redis"], AGO - timedelta(seconds=1)) == [], "it was seen since"
    assert await settle_dependants.fn("prod", ["web", "redis"], NOW) == ["e1"]
    assert [one.error_id for one in stores.errors.unresolved("prod")] == ["e2"]
    assert stores.tickets.find(environment="prod")[0].state is TicketState.RESOLVED
