"""Drills on a real engine: each fault is made, seen, repaired or undone, and measured from the records."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from flows.deployment.startup import startup
from flows.recovery.drill import drill
from models.drills import DrillRecord, Fault
from models.failures import BadInputError
from tasks.recovery.drills import end_drill, keep_drill, open_drill
from tasks.runtime.project import open_project
from tests.e2e.flows.conftest import Place, until, well
from tests.e2e.flows.test_watch import watching
from tests.support.docker_command import docker_command
from tests.support.plain_tasks import tasks_make_no_runs  # noqa: F401 - fixture

pytestmark = [pytest.mark.engine, pytest.mark.flow]


def allowed(*faults: Fault, **more: Any) -> str:
    return json.dumps({"faults": [str(fault) for fault in faults], **more})


async def drilled(place: Place, fault: Fault, *, seconds: float = 60, service: str = "web") -> DrillRecord:
    await drill("test", service=service, fault=fault, confirm="test", seconds=seconds)
    with place.stores() as stores:
        record = next(filter(None, (one.record.drill for one in stores.operations.drills("test"))))
    assert record is not None
    assert open_drill("test") is None
    return record


async def test_a_kill_is_detected_repaired_and_measured_and_no_drill_begins_where_something_is_open(
    place: Place,
) -> None:
    place.declare(well("web"), drills=allowed(Fault.KILL))
    await startup("test")
    with pytest.raises(BadInputError, match="Nothing watches test"):
        await drill("test", service="web", fault=Fault.KILL, confirm="test")
    async with watching(place):
        record = await drilled(place, Fault.KILL)
        assert record.passed, record
        assert record.undone_at is None
        assert record.verdict.startswith("detected after ")
        with pytest.raises(BadInputError, match="allows no drill of stop"):
            await drill("test", service="web", fault=Fault.STOP, confirm="test")
    with place.stores() as stores:
        (error,) = stores.errors.latest("test")
        assert (error.error_id, error.service) == (record.error_id, "web")
        assert {operation.kind for operation in stores.operations.drills("test")} == {"drill"}
        assert [
            str(one.operation_type) for one in stores.operations.outcomes("test", error.first_seen.replace(year=2000))
        ] == ["start"]
    assert place.containers(running=True) == ["web"]
