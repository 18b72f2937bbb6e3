"""What the watchers of one process know by the stores."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tasks.runtime.store_access import StoreAccess
from tasks.runtime.stores import open_stores
from tests.integration.tasks.test_settling import ATTEMPT, OF_WEB

MINUTE = timedelta(minutes=1)


@pytest.fixture(autouse=True)
def _own_stores(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ROAS_DATA_DIR", str(tmp_path))


async def test_all_environments_share_one_copy_of_each_attempt_until_it_changes() -> None:
    stores, first, second = open_stores(), StoreAccess("prod"), StoreAccess("dev")
    stores.errors.record(OF_WEB)
    stores.recoveries.record(ATTEMPT)
    for one in (first, second):
        await one.refresh(datetime.now(UTC), within=MINUTE)
    assert first.known.executions[0] is second.known.executions[0]

    ended = replace(ATTEMPT, ended_at=datetime.now(UTC), success=True, final_status="healthy")
    stores.recoveries.record(ended)
    await second.refresh(datetime.now(UTC), within=MINUTE)
    assert (first.known.executions[0].ended_at, second.known.executions[0].success) == (None, True)
