"""Restart one service and wait until it serves again, and check its dependants afterwards."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from datetime import datetime, timedelta

from prefect import task

from adapters.compose.variables import secret_values
from adapters.docker.engine import DockerEngine
from core.deployment.restart import Aftermath, DependantAnswer, aftermath, replica_groups, settle_time
from core.deployment.verify import Progress
from core.monitoring.health import judge_declared
from models.compose import Application, InjectedFile, ServiceDeclaration
from models.containers import ContainerState
from models.environments import Environment
from models.failures import StartFailedError
from tasks.deployment.start_service import (
    Attempt,
    StartProof,
    restart_container,
    state_in_a_word,
    until_proven,
)
from tasks.monitoring.events import ContainerWatch, watch_project
from tasks.runtime.clients import engine_of
from tasks.runtime.retry_policy import EFFECT


@task(name="restart", **EFFECT)
async def restart_service(
    environment: Environment,
    declaration: ServiceDeclaration,
    watch: ContainerWatch,
    files: Sequence[InjectedFile],
    deadline_seconds: float,
) -> StartProof:
    """Restart a service's containers, those that serve one after the other, each proven before the next.

    `files` go into a container that was never started. `deadline_seconds` is for each to become healthy.

    Raises:
        StartFailedError: One did not come up, or did not hold; those after it were left as they were.
        EngineError: The engine refused.
    """
    engine, secrets = engine_of(environment), await asyncio.to_thread(secret_values, environment)
    first = Attempt(environment, declaration, secrets)
    before = await first.inspect()
    if not before:
        raise StartFailedError(f"{declaration.name} has no container to restart", service=declaration.name)
    serves = (await first.standing(before)).progress is Progress.UP
    groups = replica_groups(before, serves=serves)
    for group in groups:
        attempt = Attempt(environment, declaration, secrets)
        await asyncio.gather(
            *(asyncio.to_thread(_restart, engine, one, declaration.stop_grace_period, files) for one in group)
        )
        seen = await until_proven(attempt, watch, deadline_seconds)
    verdict = judge_declared(declaration, seen, attempt.answer, environment.service(declaration.name))
    return StartProof(
        previous=state_in_a_word(before),
        state=str(verdict.health),
        reason=verdict.reason,
        kept=False,
        facts={"containers": len(before), "one_after_the_other": len(groups)},
    )


@task(name="ask again", **EFFECT)
async def ask_again(
    environment: Environment, declaration: ServiceDeclaration, watch: ContainerWatch, since: datetime
) -> Aftermath:
    """How a service does that needs one which was restarted and proven at `since`.

    It is given time to notice and to find its way back; a good answer ends the wait, a bad one does not.
    """
    spec = environment.service(declaration.name)
    attempt = Attempt(environment, declaration, await asyncio.to_thread(secret_values, environment))
    timeout = settle_time(declaration, probed=spec.probe is not None).total_seconds()
    began = time.monotonic()
    while True:
        seen = await attempt.inspect()
        await attempt.standing(seen)
        found = aftermath(judge_declared(declaration, seen, attempt.answer, spec), seen, attempt.answer, since=since)
        left = timeout - (time.monotonic() - began)
        if found.answer is DependantAnswer.HEALTHY or left <= 0:
            return found
        await watch.change(declaration.name, at_most=timedelta(seconds=min(1.0, left)))


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
        seen = await until_proven(attempt, watch, environment.recovery.verify_timeout_seconds)
    verdict = judge_declared(attempt.declaration, seen, attempt.answer, environment.service(service))
    return f"{service} is {verdict.health} after {time.monotonic() - began:.1f} s: {verdict.reason}"


def _restart(engine: DockerEngine, seen: ContainerState, grace: timedelta, files: Sequence[InjectedFile]) -> None:
    if seen.up:
        restart_container(engine, seen, grace)
    else:
        engine.containers.start(seen.container_id, files)
