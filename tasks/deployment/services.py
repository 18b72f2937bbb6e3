"""Services: inspect, create and stop their containers."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any

from prefect import task

from adapters.compose.variables import process_environment
from adapters.docker.engine import DockerEngine
from models.compose import Application, InjectedFile
from models.containers import ContainerState
from models.environments import Environment
from models.failures import ContainerGoneError, EngineError
from tasks.runtime.clients import compose_of, engine_of, known_applications
from tasks.runtime.retry_policy import EFFECT, READ, retry_read


@task(name="read the application", **READ)
async def read_application(environment: Environment) -> Application:
    """What the environment's Compose files declare.

    Raises:
        ComposeError: Compose cannot read or merge them.
    """
    return await asyncio.to_thread(compose_of(environment).render)


@retry_read
async def read_changes(environment: Environment) -> Application:
    """What the environment's Compose files declare, rendered anew only where they or their variables changed.

    For callers that read it all day; an operation that a person requests renders it anew.

    Raises:
        ComposeError: Compose cannot read or merge them.
    """
    return await asyncio.to_thread(_known, environment, outline=False)


@retry_read
async def read_outline(environment: Environment) -> Application:
    """The part of the application that health needs, rendered anew only where something changed since any process did.

    Raises:
        ComposeError: Compose cannot read or merge them.
    """
    return await asyncio.to_thread(_known, environment, outline=True)


def _known(environment: Environment, *, outline: bool) -> Application:
    known = known_applications()
    read = known.outline if outline else known.whole
    return read(environment, process_environment(environment, os.environ), compose_of(environment).render)


@retry_read
async def inspect_application(environment: Environment) -> list[ContainerState]:
    """Every container of the environment's project, stopped ones too."""
    return await asyncio.to_thread(engine_of(environment).containers.inspect_project, environment.project)


@task(name="create containers", timeout_seconds=900, **EFFECT)
async def create_containers(environment: Environment, document: Mapping[str, Any] | None = None) -> None:
    """Let Compose create missing containers and replace changed ones; it starts none.

    `document` is a release's configuration, which then stands for the environment's Compose files.

    Raises:
        ComposeError: Compose, or the engine below it, refused; in their own words.
    """
    await asyncio.to_thread(_unpause, environment)
    await asyncio.to_thread(compose_of(environment, document).create)


def _unpause(environment: Environment) -> None:
    """Compose refuses to go on where a container is paused."""
    engine = engine_of(environment)
    for seen in engine.containers.inspect_project(environment.project):
        if seen.state == "paused":
            engine.containers.unpause(seen.container_id)


@task(name="stop containers", task_run_name="stop {service}", **EFFECT)
async def stop_containers(
    environment: Environment, service: str, containers: Sequence[ContainerState], grace: timedelta
) -> list[ContainerState]:
    """Stop a service's containers, and inspect them afterwards; after the grace period the engine kills them.

    Raises:
        EngineError: The engine could not stop one, or one runs again.
    """
    engine = engine_of(environment)
    after = await asyncio.gather(*(asyncio.to_thread(_stop, engine, one, grace) for one in containers))
    for seen in after:
        if seen is not None and seen.up:
            raise EngineError(
                f"{seen.name} is {seen.state} although it was stopped.",
                advice="Something else starts it: another program on this engine?",
            )
    return [seen for seen in after if seen is not None]


def _stop(engine: DockerEngine, seen: ContainerState, grace: timedelta) -> ContainerState | None:
    """The container after it has stopped; None where it has been removed meanwhile."""
    try:
        if seen.state == "paused":
            # A paused process cannot handle the signal, so it would always be killed.
            engine.containers.unpause(seen.container_id)
        engine.containers.stop(seen.container_id, grace)
        return engine.containers.inspect(seen.container_id)
    except ContainerGoneError:
        return None


@task(name="read injected files", **READ)
async def read_injected_files(
    environment: Environment, document: Mapping[str, Any] | None = None
) -> dict[str, tuple[InjectedFile, ...]]:
    """The files that Compose puts into containers just before their start, by service."""
    return await asyncio.to_thread(compose_of(environment, document).injections)
