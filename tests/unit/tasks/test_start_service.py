"""How an attempt to start a service judges what it sees."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

from core.deployment.verify import Progress
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
