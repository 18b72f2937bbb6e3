"""Wait until a service that was restarted is proven: the same proof as that of a start."""

from __future__ import annotations

import asyncio
import time
from datetime import datetime

from prefect import task

from adapters.compose.variables import secret_values
from core.monitoring.health import judge_declared
from models.compose import Application, ServiceDeclaration
from models.environments import Environment
from tasks.deployment.start_service import Attempt, Milestone, until_proven
from tasks.monitoring.events import watch_project
from tasks.runtime.retry_policy import EFFECT


@task(name="recovery step: verify", task_run_name="verify {service}", **EFFECT)
async def wait_until_healthy(
    environment: Environment,
    application: Application | None,
    service: str,
    *,
    since: datetime,
    while_running: bool = False,
) -> str:
    """Wait until a service serves and has held for its stabilisation time, at most as long as the policy says.

    `since` is when the attempt began: a container that was started after that and has ended is lost, not waited for.
    With `while_running` a failing health check is waited for as well, since the service is not ready yet.

    Raises:
        StartFailedError: It was lost, or did not become healthy in time; the message says its last state.
    """
    declaration = application.services.get(service) if application else None
    attempt = Attempt(
        environment,
        # Where the Compose files are broken, the running containers are judged by themselves.
        declaration or ServiceDeclaration(name=service, image="", restart="always"),
        await asyncio.to_thread(secret_values, environment),
        since=since,
        while_running=while_running,
    )
    began = time.monotonic()
    async with watch_project(environment) as watch:
        seen = await until_proven(
            attempt, watch, _no_dependant_waits, None, environment.recovery.verify_timeout_seconds
        )
    verdict = judge_declared(attempt.declaration, seen, attempt.answer, environment.service(service))
    return f"{service} is {verdict.health} after {time.monotonic() - began:.1f} s: {verdict.reason}"


def _no_dependant_waits(_stone: Milestone) -> None:
    """No dependant waits for a milestone of a recovery."""
