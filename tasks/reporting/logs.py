"""Read the logs of services: from their containers, and from the evidence of those that are removed."""

from __future__ import annotations

import time
from collections.abc import Collection, Iterator, Mapping
from contextlib import closing

from core.reporting.log_lines import LastLines, Matcher, line_matcher
from models.containers import ContainerState
from models.evidence import EvidenceBundle
from models.failures import EngineError, RoasError
from models.logs import LogAnswer, LogQuery
from models.records import ContainerLog
from tasks.runtime.project import Project, open_project
from tasks.runtime.stores import open_stores, stores_exist

_SEARCHED_LINES = 200_000
_SEARCH_SECONDS = 60.0
"""For all containers of an answer."""


def read_logs(project: Project, service: str | None, lines: int) -> list[ContainerLog]:
    """Return the last lines of the containers of a service, or of all services.

    Of a service without a container, and where the engine cannot read a log, the lines are those of the latest
    evidence.
    """
    return list(search_logs(project, LogQuery(services=(service,) if service else (), lines=lines)).logs)


def read_kept_logs(environment: str, service: str | None, lines: int) -> list[ContainerLog]:
    """Return the last lines that evidence keeps of a service, or of all services, where no engine is asked."""
    query = LogQuery(services=(service,) if service else (), lines=lines)
    return sorted(_latest_of_evidence(environment, query, except_services=()), key=lambda log: log.service)


def read_or_kept_logs(environment: str, service: str | None, lines: int) -> tuple[list[ContainerLog], str]:
    """The last lines, and why those of containers are not among them; empty where they are."""
    try:
        project = open_project(environment)
        project.inspect_containers(service)
        return read_logs(project, service, lines), ""
    except RoasError as error:
        return read_kept_logs(environment, service, lines), str(error)


def search_logs(project: Project, query: LogQuery) -> LogAnswer:
    """Return the lines that a query chooses, of containers and of the evidence of removed ones; all redacted.

    With a moment or a pattern that is the evidence of every removed container, else only the latest of a service that
    has no container. At most the newest 200,000 lines of a container are searched, within a minute in all.

    Raises:
        BadInputError: The pattern cannot be used.
        EngineError: The engine does not answer, and nothing is recorded.
    """
    is_wanted = line_matcher(query)
    states = _containers(project, query)
    logs, remarks = _logs_of_containers(project, states, query, is_wanted)
    name = project.environment.name
    if query.searches:
        evidence_logs = [*_logs_of_removed(name, query, is_wanted, {state.container_id for state in states})]
    else:
        evidence_logs = [*_latest_of_evidence(name, query, except_services={log.service for log in logs})]
    return LogAnswer(
        logs=tuple(sorted([*logs, *evidence_logs], key=lambda log: (log.service, log.container, log.kept_at is None))),
        remarks=tuple(remarks),
    )


def _containers(project: Project, query: LogQuery) -> list[ContainerState]:
    try:
        states = project.inspect_containers(query.services[0] if len(query.services) == 1 else None)
    except EngineError:
        if not stores_exist():
            raise
        return []
    return [
        state
        for state in states
        if not state.one_off and state.state != "created" and _is_asked_for(state.service, query)
    ]


def _is_asked_for(service: str, query: LogQuery) -> bool:
    return not query.services or service in query.services


def _logs_of_containers(
    project: Project, states: Collection[ContainerState], query: LogQuery, is_wanted: Matcher
) -> tuple[list[ContainerLog], list[str]]:
    until, logs, remarks = time.monotonic() + _SEARCH_SECONDS, [], []
    for state in states:
        last, count, is_late = LastLines(query.lines), 0, False
        tail = _SEARCHED_LINES if query.searches else query.lines
        try:
            with closing(project.engine.logs.read(state.container_id, tail, query.since)) as batches:
                for batch in batches:
                    count += len(batch)
                    last.extend(filter(is_wanted, batch))
                    if is_late := time.monotonic() > until:
                        break
        except EngineError:
            # Its log driver keeps nothing readable, or it was removed this moment.
            continue
        logs.append(ContainerLog(service=state.service, container=state.name, lines=last.lines()))
        if is_late:
            remarks.append(f"The log of {state.name} was not read to its end: it takes longer than a minute.")
        elif query.searches and count >= _SEARCHED_LINES:
            remarks.append(f"Of the log of {state.name} only the newest {_SEARCHED_LINES:,} lines were searched.")
    return logs, remarks


def _latest_of_evidence(
    environment: str, query: LogQuery, *, except_services: Collection[str]
) -> Collection[ContainerLog]:
    latest: dict[str, ContainerLog] = {}
    for bundle in _evidence(environment):
        for log in bundle.logs:
            if log.service in except_services or not _is_asked_for(log.service, query) or not log.lines:
                continue
            latest[log.service] = ContainerLog(
                service=log.service, container=log.container, lines=log.lines[-query.lines :], kept_at=bundle.taken_at
            )
    return latest.values()


def _logs_of_removed(
    environment: str, query: LogQuery, is_wanted: Matcher, existing: Collection[str]
) -> Iterator[ContainerLog]:
    """What evidence keeps of containers that the engine has no more, each line once."""
    lines: dict[tuple[str, str, str], dict[str, None]] = {}
    kept_at: dict[tuple[str, str, str], EvidenceBundle] = {}
    for bundle in _evidence(environment):
        ids: Mapping[str, str] = {container.name: container.container_id for container in bundle.containers}
        for log in bundle.logs:
            container_id = ids.get(log.container, bundle.bundle_id)
            if container_id not in existing and _is_asked_for(log.service, query):
                key = (log.service, log.container, container_id)
                lines.setdefault(key, {}).update(dict.fromkeys(filter(is_wanted, log.lines)))
                kept_at[key] = bundle
    for (service, container, container_id), chosen in lines.items():
        if chosen:
            bundle = kept_at[service, container, container_id]
            last = tuple(chosen)[-query.lines :]
            yield ContainerLog(service=service, container=container, lines=last, kept_at=bundle.taken_at)


def _evidence(environment: str) -> Collection[EvidenceBundle]:
    return open_stores().evidence.find(environment=environment) if stores_exist() else ()
