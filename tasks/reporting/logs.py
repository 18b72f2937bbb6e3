"""Read the logs of services: from their containers, and from the evidence of those that are removed."""

from __future__ import annotations

from collections.abc import Collection

from models.failures import EngineError
from models.records import ContainerLog
from tasks.runtime.project import Project
from tasks.runtime.stores import open_stores, stores_exist


def read_logs(project: Project, service: str | None, lines: int) -> list[ContainerLog]:
    """Return the last lines of the containers of a service, or of all services.

    Of a service without a container, and where the engine cannot read a log, the lines are those of the latest
    evidence.
    """
    logs = _logs_of_containers(project, service, lines)
    evidence_logs = _logs_of_evidence(
        project.environment.name, service, lines, except_services={log.service for log in logs}
    )
    return sorted([*logs, *evidence_logs], key=lambda log: (log.service, log.container))


def read_kept_logs(environment: str, service: str | None, lines: int) -> list[ContainerLog]:
    """Return the last lines that evidence keeps of a service, or of all services, where no engine is asked."""
    return sorted(_logs_of_evidence(environment, service, lines, except_services=()), key=lambda log: log.service)


def _logs_of_containers(project: Project, service: str | None, lines: int) -> list[ContainerLog]:
    engine, redactor = project.engine, project.redactor()
    logs = []
    try:
        container_states = project.inspect_containers(service)
    except EngineError:
        if not stores_exist():
            raise
        return []
    for container in container_states:
        if container.one_off or container.state == "created":
            continue
        try:
            written = engine.containers.logs(container.container_id, lines)
        except EngineError:
            # Its log driver keeps nothing readable, or it was removed this moment.
            continue
        text = tuple(redactor.text(written).splitlines())
        logs.append(ContainerLog(service=container.service, container=container.name, lines=text))
    return logs


def _logs_of_evidence(
    environment: str, service: str | None, lines: int, *, except_services: Collection[str]
) -> list[ContainerLog]:
    if not stores_exist():
        return []
    latest: dict[str, ContainerLog] = {}
    for bundle in open_stores().evidence.find(environment=environment):
        for log in bundle.logs:
            if log.service in except_services or service not in (None, log.service) or not log.lines:
                continue
            latest[log.service] = ContainerLog(
                service=log.service, container=log.container, lines=log.lines[-lines:], kept_at=bundle.taken_at
            )
    return list(latest.values())
