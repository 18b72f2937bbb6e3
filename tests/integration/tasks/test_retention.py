"""What the life cycle removes beside the stores, on a real Prefect server."""

from __future__ import annotations

import time
from pathlib import Path
from uuid import UUID

import pytest
from prefect import flow, get_client
from prefect.exceptions import ObjectNotFound
from prefect.states import Completed, Failed, State

from models.storage import LifecycleStep
from tasks.storage.retention import clear_away

pytestmark = pytest.mark.flow

SHORT_SECONDS = 6.0


@flow
def remembered() -> None:
    """Stands for any run."""


@flow
async def cleared(dry_run: bool) -> LifecycleStep:
    return await clear_away(dry_run)


@pytest.fixture(autouse=True)
def _own_stores(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ROAS_DATA_DIR", str(tmp_path))
    monkeypatch.setenv("ROAS_KEEP_RUNS_DAYS", str(SHORT_SECONDS / 86400))


async def ended(state: State[None]) -> UUID:
    async with get_client() as client:
        run = await client.create_flow_run(remembered)
        await client.set_flow_run_state(run.id, state, force=True)
    return run.id


async def is_there(run: UUID) -> bool:
    async with get_client() as client:
        try:
            await client.read_flow_run(run)
        except ObjectNotFound:
            return False
    return True


async def test_runs_that_went_well_long_ago_leave_and_failed_and_new_ones_stay(prefect_server: None) -> None:
    old, failed = await ended(Completed()), await ended(Failed())
    time.sleep(SHORT_SECONDS)

    proposed = await cleared(True)
    assert proposed.rows["runs"] >= 1
    assert await is_there(old), "a dry run removes nothing"
    async with get_client() as client:
        waiting = (await client.create_flow_run(remembered)).id
    done = await cleared(False)

    assert done.rows["runs"] >= 1
    assert done.complete
    assert not await is_there(old)
    assert await is_there(failed), "failures stay longer"
    assert await is_there(waiting), "it has not ended"
