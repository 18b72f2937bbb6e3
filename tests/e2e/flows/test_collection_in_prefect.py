"""A collection that Prefect carries: each source is a task run, a failed one is seen, and Retry asks it again."""

from __future__ import annotations

import asyncio
import time
from uuid import UUID

import pytest
from prefect import get_client
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterId
from prefect.client.schemas.objects import TaskRun
from prefect.client.schemas.sorting import TaskRunSort

from flows.monitoring.collection import collection
from tests.e2e.flows.conftest import Place, well
from tests.e2e.flows.test_asking import live, retry

pytestmark = [pytest.mark.engine, pytest.mark.flow]

OF_THE_ENGINE = ("service metrics", "containers", "engine events")
OTHERS = ("compose files", "system metrics", "snapshots", "performance baselines")
JUDGED = "health and dependency status"


async def task_runs(run: UUID, *expected: str) -> dict[str, TaskRun]:
    """The last task run of each name, once the server has recorded these and how all of them ended."""
    only, deadline = FlowRunFilter(id=FlowRunFilterId(any_=[run])), time.monotonic() + 60
    async with get_client() as client:
        while True:
            runs = await client.read_task_runs(flow_run_filter=only, sort=TaskRunSort.EXPECTED_START_TIME_ASC)
            named = {one.name.rpartition("-")[0]: one for one in runs}
            if named.keys() >= set(expected) and all(one.state is not None and one.state.is_final() for one in runs):
                return named
            assert time.monotonic() < deadline, "the server did not record the end of each"
            await asyncio.sleep(0.3)


async def test_a_source_that_failed_is_a_failed_task_run_and_retry_asks_it_again(place: Place) -> None:
    place.declare(well("web"), engine=f"unix://{place.folder}/no.sock")
    deployment = await collection.ato_deployment(name="test", parameters={"environment": "test", "act": False})
    async with get_client() as client:
        run = await client.create_flow_run_from_deployment(await deployment.aapply())

    assert (await live(run.id, collection)).name == "Completed"
    first = await task_runs(run.id, *OF_THE_ENGINE, *OTHERS)
    place.declare(well("web"))
    assert (await retry(run.id, collection)).name == "Completed"
    second = await task_runs(run.id, *OF_THE_ENGINE, *OTHERS, JUDGED)

    assert {name: first[name].state_name for name in OF_THE_ENGINE + OTHERS} == (
        dict.fromkeys(OF_THE_ENGINE, "Failed") | dict.fromkeys(OTHERS, "Completed")
    )
    assert [first[name].run_count for name in OF_THE_ENGINE] == [2, 2, 2], "each was tried again by its policy"
    assert JUDGED not in first
    assert {name: second[name].state_name for name in (*OF_THE_ENGINE, *OTHERS, JUDGED)} == dict.fromkeys(
        (*OF_THE_ENGINE, *OTHERS, JUDGED), "Completed"
    )
