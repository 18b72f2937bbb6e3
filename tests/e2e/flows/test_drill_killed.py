"""The process of a drill is killed: its fault is undone by whoever comes next, and its record ends."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime

import pytest

from flows.deployment.startup import startup
from models.drills import DrillRecord, Fault
from tasks.deployment.operations import mark_interrupted
from tasks.recovery.drills import end_left_drill, open_drill
from tests.e2e.flows.conftest import Place, well
from tests.e2e.flows.test_drills import allowed
from tests.e2e.flows.test_watch import watching
from tests.support.docker_command import docker_command
from tests.support.killed_flow import killed_flow
from tests.support.plain_tasks import tasks_make_no_runs  # noqa: F401 - fixture

pytestmark = [pytest.mark.engine, pytest.mark.flow, pytest.mark.campaign(seconds=20)]

RECORDED, MADE, UNDONE, ENDED = "recorded", "made", "undone", "ended"
"""A drill has written down what undoes its fault; the fault is there; it is not there again; the drill goes on."""
MOMENTS = (RECORDED, MADE, UNDONE, ENDED)


def is_slow(place: Place) -> bool:
    return docker_command("inspect", "-f", "{{.HostConfig.CpuQuota}}", place.container("web")) == "1000"


def reached(place: Place, moment: str) -> Callable[[], bool]:
    """Whether a drill has come to a moment, asked again and again."""
    file, seen = place.folder / "data/drills/test.json", set[str]()

    def now() -> bool:
        if file.exists():
            seen.add(RECORDED)
        if RECORDED in seen and moment != RECORDED and is_slow(place):
            seen.add(MADE)
        elif MADE in seen:
            seen.update({UNDONE} if file.exists() else {UNDONE, ENDED})
        return moment in seen

    return now


async def kill(place: Place, moment: str) -> None:
    its = {"environment": "test", "service": "web", "fault": str(Fault.SLOW), "confirm": "test", "seconds": 3}
    when = reached(place, moment)
    async with watching(place):
        await asyncio.to_thread(lambda: killed_flow("drill", its, when=when))


def record(place: Place) -> DrillRecord:
    with place.stores() as stores:
        found = stores.operations.drills("test")[0].record.drill
    assert found is not None
    return found


@pytest.mark.parametrize("moment", MOMENTS)
async def test_a_killed_drill_is_undone_by_whoever_comes_first_and_its_record_says_so(
    place: Place, moment: str
) -> None:
    place.declare(well("web"), drills=allowed(Fault.SLOW, detect_seconds=8, repair_seconds=8))
    await startup("test")

    await kill(place, moment)
    left = open_drill("test")
    await asyncio.gather(end_left_drill("test"), end_left_drill("test"))
    await end_left_drill("test")

    assert open_drill("test") is None
    assert not is_slow(place)
    await mark_interrupted("test", datetime.now(UTC))
    assert record(place).passed is False
    # Once its fault is undone, a drill ends in no time.
    ended = record(place).verdict.startswith("not detected") and moment in (UNDONE, ENDED)
    assert ended or record(place).verdict.startswith("cut off before its end")
    assert (record(place).undone_at is not None) is (ended or left is not None)
    assert place.containers(running=True) == ["web"]
