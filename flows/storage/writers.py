"""What writes to data that is saved or restored: find it, stop it, and see whether it ran meanwhile."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import datetime

from core.common.dependencies import dependencies_of
from core.deployment.plan import stop_waves
from core.storage.snapshots import clients_of, writers_of
from flows.operation.recorder import OperationRecorder
from models.compose import Application
from models.containers import ContainerState
from models.failures import SnapshotError
from models.results import ServiceStart
from models.snapshots import SavedData
from tasks.deployment.operations import record_changes
from tasks.deployment.services import inspect_application, stop_containers
from tasks.runtime.project import Project


async def containers_of_services(project: Project) -> list[ContainerState]:
    """All containers of the environment but one-off ones, which no start makes."""
    return [container for container in await inspect_application(project) if not container.one_off]


async def services_up(project: Project) -> set[str]:
    """The services that have a container which is up."""
    return {container.service for container in await containers_of_services(project) if container.up}


def writers(project: Project, data: list[SavedData], application: Application) -> set[str]:
    """The services that are stopped while data is put back; see `writers_of`."""
    dependencies = dependencies_of(project.environment, application)
    return set().union(*(writers_of(part, application, dependencies) for part in data))


def clients(project: Project, data: list[SavedData], application: Application) -> set[str]:
    """The services that are stopped while data is saved; see `clients_of`."""
    return clients_of(data, application, dependencies_of(project.environment, application))


async def runs_of(project: Project, services: set[str]) -> dict[str, datetime | None]:
    """Each container of the services by its id, and when it was started last."""
    containers = await containers_of_services(project)
    return {container.container_id: container.started_at for container in containers if container.service in services}


async def stop_services(recorder: OperationRecorder, application: Application, services: set[str]) -> None:
    """Stop services in reverse order of the start, on record as stopped on request: no recovery starts them meanwhile.

    Raises:
        SnapshotError: One cannot be stopped.
    """
    project = recorder.project
    containers = await containers_of_services(project)

    async def stop(name: str) -> None:
        up = [container for container in containers if container.service == name and container.up]
        if not up:
            return
        await stop_containers(project, name, up, application.services[name].stop_grace_period)
        stopped = ServiceStart(
            service=name, previous_state=up[0].state, state="stopped", reason="its data is being restored", kept=False
        )
        await record_changes([recorder.change(stopped, {"on_request": True})])

    for wave in stop_waves(application, dependencies_of(project.environment, application)):
        await asyncio.gather(*(stop(name) for name in wave if name in services))
    if still_up := sorted(services & await services_up(project)):
        raise SnapshotError(f"{', '.join(still_up)} cannot be stopped, so data under it cannot be restored.")


def part_of_services(application: Application, names: frozenset[str] | set[str]) -> Application:
    """An application of these services alone; what others they need is not waited for."""
    services = {
        name: replace(
            service, depends_on={other: needed for other, needed in service.depends_on.items() if other in names}
        )
        for name, service in application.services.items()
        if name in names
    }
    return replace(application, services=services)
