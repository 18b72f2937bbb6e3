from __future__ import annotations

import subprocess
from datetime import UTC, datetime, timedelta

import pytest

from flows.monitoring import monitoring
from flows.startup import startup
from tests.flows.conftest import Place, well
from tests.flows.test_collection import PAIR

pytestmark = [pytest.mark.engine, pytest.mark.flow]

SECONDS = 1 / 3600


async def test_rounds_go_on_while_what_is_wrong_is_mended_or_left_alone_once(place: Place) -> None:
    place.declare(PAIR + well("rest"), collect_every_seconds=5)
    await startup("test")
    subprocess.run(["docker", "stop", "-t", "1", place.container("rest")], check=True, capture_output=True)
    subprocess.run(["docker", "kill", place.container("base")], check=True, capture_output=True)

    report = await monitoring("test", hours=24 * SECONDS)

    assert report.failed == 0
    assert report.collections >= 3
    assert place.containers(running=True) == ["base", "top"]
    with place.stores() as stores:
        (execution,) = stores.errors.executions(environment="test")
        assert execution.success
        # Stopped by a person, which is looked into once and not at every round.
        assert [one.count for one in stores.errors.open_errors("test") if one.service == "rest"] == [1]
        since = datetime.now(UTC) - timedelta(minutes=5)
        assert len(stores.monitoring.series("test", "host", "memory_usage", since)) == report.collections
        assert len(stores.monitoring.health_history("test")) <= report.collections


async def test_what_somebody_collected_a_moment_ago_is_not_collected_again(place: Place) -> None:
    place.declare(well("base"), collect_every_seconds=3600)
    with place.stores() as stores:
        stores.monitoring.put_round("test", datetime.now(UTC), states={})

    report = await monitoring("test", hours=SECONDS)

    assert (report.collections, report.failed) == (0, 0)


async def test_a_round_that_fails_is_counted_and_the_next_one_is_tried(place: Place) -> None:
    place.declare(well("base"), collect_every_seconds=5)
    (place.folder / "data").mkdir()
    (place.folder / "data/monitoring.db").mkdir()

    report = await monitoring("test", hours=7 * SECONDS)

    assert (report.collections, report.failed) == (0, 2)
