"""Put containers, networks and images back as they were before an operation."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from adapters.docker.containers import ContainerSnapshot
from tasks.runtime.project import Project
from tasks.runtime.retry_policy import EFFECT
from tasks.runtime.task import task


@task(name="remove containers", task_run_name="remove {service}", **EFFECT)
async def remove_containers(project: Project, service: str, container_ids: Sequence[str]) -> None:
    """Remove stopped containers; their volumes stay.

    Raises:
        EngineError: The engine refused.
    """
    await asyncio.gather(
        *(asyncio.to_thread(project.engine.containers.remove, container_id) for container_id in container_ids)
    )


@task(name="remove networks", **EFFECT)
async def remove_networks(project: Project, names: Sequence[str]) -> None:
    """Remove networks that a start made.

    Raises:
        EngineError: Something is still in one of them.
    """
    await asyncio.gather(*(asyncio.to_thread(project.engine.networks.remove, name) for name in names))


@task(name="restore containers", **EFFECT)
async def put_back(project: Project, containers: Sequence[ContainerSnapshot]) -> list[str]:
    """Make containers again as they were before they were replaced, and start those that ran.

    Gives back the services that are back.

    Raises:
        EngineError: The engine refused: an image or a network of theirs may be gone.
    """
    engine = project.engine

    def make(snapshot: ContainerSnapshot) -> str:
        container_id = engine.containers.recreate(snapshot)
        if snapshot.was_running:
            engine.containers.start(container_id)
        return snapshot.service

    return [await asyncio.to_thread(make, snapshot) for snapshot in containers]
