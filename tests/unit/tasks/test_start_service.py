"""How an attempt to start a service judges what it sees."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

from core.deployment.verify import Progress
from models.containers import HealthLogEntry
from models.environments import Environment
from tasks.deployment.service_inspector import ServiceInspector
from tasks.runtime.project import Project
from tests.unit.core.deployment.test_verify import LATER, SERVER, UP

SHOP = Environment.model_validate({"name": "app", "project": "app", "compose_files": ["compose.yaml"]})
ENDED = replace(UP, state="exited", exit_code=3)


async def test_a_new_container_that_ended_before_the_first_look_is_lost() -> None:
    attempt = ServiceInspector(Project(SHOP), SERVER, only=[UP.container_id])

    # Another machine's engine may have another clock.
    for started in (LATER, LATER - timedelta(days=400)):
        found = await attempt.readiness([replace(ENDED, started_at=started)])
        assert (found.progress, found.reason) == (Progress.LOST, "it ended with exit code 3")


async def test_what_had_ended_before_an_attempt_is_not_its_failure() -> None:
    found = await ServiceInspector(Project(SHOP), SERVER).readiness([ENDED])
    assert found.progress is Progress.WAITING


async def test_what_a_health_check_found_before_the_first_look_is_awaited_anew_where_it_may_be_mended() -> None:
    before, after = (HealthLogEntry(ended_at=ended, exit_code=1, output="") for ended in ("12:00", "12:03"))
    starting = replace(UP, health="starting", health_log=())
    unhealthy = replace(UP, health="unhealthy", health_log=(before,))
    attempt = ServiceInspector(Project(SHOP), SERVER, next_check=True)

    waiting = await attempt.readiness([unhealthy])
    failed = await attempt.readiness([replace(unhealthy, health_log=(before, after))])

    assert (waiting.progress, failed.progress) == (Progress.WAITING, Progress.LOST)
    assert waiting.reason == failed.reason == "its health check fails: exit code 1"
    # One that was seen before it failed has failed since.
    from_its_start = ServiceInspector(Project(SHOP), SERVER, next_check=True)
    assert (await from_its_start.readiness([starting])).progress is Progress.WAITING
    for inspector in (from_its_start, ServiceInspector(Project(SHOP), SERVER)):
        assert (await inspector.readiness([unhealthy])).progress is Progress.LOST
