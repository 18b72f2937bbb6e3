from __future__ import annotations

import asyncio
import time
from datetime import UTC, datetime, timedelta

import pytest

from adapters.stores import Stores
from flows.deployment.startup import startup
from flows.monitoring.continuous import EnvironmentMonitor
from flows.monitoring.failures import CollectionFeed
from models.records import EvaluationRecord
from tasks.runtime.store_access import StoreAccess, outliving_stores
from tests.e2e.flows.conftest import Place, well
from tests.e2e.flows.test_collection import PAIR
from tests.e2e.flows.test_watch import until
from tests.support.docker_command import docker_command
from tests.support.plain_tasks import tasks_make_no_runs  # noqa: F401 - fixture
from tests.support.store_rows import series

pytestmark = [pytest.mark.engine, pytest.mark.flow]

EVERY = timedelta(seconds=5)


async def monitoring(seconds: float) -> EnvironmentMonitor:
    """Collect for so many seconds as the agent does."""
    monitor, until = EnvironmentMonitor("test", CollectionFeed(files=(), act=True)), time.monotonic() + seconds
    with outliving_stores(StoreAccess("test")):
        try:
            while time.monotonic() < until:
                await monitor.collect(EVERY)
                await asyncio.sleep(EVERY.total_seconds())
        finally:
            await monitor.end()
    return monitor


@pytest.mark.campaign(seconds=20)
async def test_rounds_go_on_while_what_is_wrong_is_mended_or_left_alone_once(place: Place) -> None:
    place.declare(PAIR + well("rest"), collect_every_seconds=5)
    await startup("test")
    docker_command("stop", "-t", "1", place.container("rest"))
    docker_command("kill", place.container("base"))

    rounds = asyncio.create_task(monitoring(3600))
    try:
        with place.stores() as stores:
            await until(lambda: any(one.success for one in stores.recoveries.find(environment="test")), 120)
            await until(lambda: any(one.service == "rest" for one in stores.errors.latest("test")), 90)
            before = len(host_samples(stores))
            await until(lambda: len(host_samples(stores)) >= before + 3, 90)
            errors = stores.errors.latest("test")
    finally:
        rounds.cancel()
        await asyncio.gather(rounds, return_exceptions=True)

    assert place.containers(running=True) == ["base", "top"]
    # Stopped by a person, which is looked into once and not at every round.
    assert [one.count for one in errors if one.service == "rest"] == [1]


def host_samples(stores: Stores) -> list[tuple[datetime, float]]:
    since = datetime.now(UTC) - timedelta(minutes=30)
    return list(series(stores, "test", "host", "memory_usage", since))


async def test_what_somebody_collected_a_moment_ago_is_not_collected_again(place: Place) -> None:
    place.declare(well("base"), collect_every_seconds=3600)
    with place.stores() as stores:
        stores.evaluations.record(EvaluationRecord(environment="test", evaluated_at=datetime.now(UTC)))

    monitor = await monitoring(1)

    assert (monitor.kept, monitor.failed) == (0, 0)


async def test_a_round_that_fails_is_counted_and_the_next_one_is_tried(place: Place) -> None:
    place.declare(well("base"), collect_every_seconds=5)
    (place.folder / "data/monitoring.db").unlink()
    (place.folder / "data/monitoring.db").mkdir()

    monitor = await monitoring(7)

    assert (monitor.kept, monitor.failed) == (0, 2)
