"""Whether a person stopped a service, or we did."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from types import MappingProxyType

from adapters.host.processes import is_alive
from adapters.stores import Stores
from adapters.stores.recovery_writes import (
    NoteStop,
    read_stops,
)
from core.recovery.tracker import SETTLE, asks_to_end
from core.recovery.triage import STOPPED, perhaps_stopped
from models.containers import ContainerState
from models.records import RecoveryRecords
from models.recovery import UNDO, PersonStop, RecoveryExecution, StepSpec
from tasks.runtime.project import Project
from tasks.runtime.retry_policy import retry_read
from tasks.runtime.store_access import BUDGET_WINDOW, from_stores, to_stores

_A_MOMENT = timedelta(seconds=1)

_SEEN_WITHIN = timedelta(minutes=1)
"""An end and its record by a watch are no further apart."""


@retry_read
async def stop_of(
    project: Project, service: str, watched: Mapping[str, datetime] = MappingProxyType({})
) -> PersonStop | None:
    """What our record and the engine's events show of a person's stop of the service; None where they show none.

    `docker stop` and `docker compose stop` leave a stop event behind the container's end; a crash and a
    kill leave none. The engine keeps its last few hundred events only; our own stops are in the store. Where no
    operation of the environment is on record, what is down and was not seen to fail may have been stopped: not certain.
    `watched` are the ends that the caller saw, by container.
    """

    name, since = project.environment.name, datetime.now(UTC) - BUDGET_WINDOW

    def read(stores: Stores) -> RecoveryRecords:
        return read_stops(stores, name, since)

    records = await from_stores(read, lambda records: records)

    def inspect() -> Stopped:
        container_states = project.inspect_containers(service)
        return was_stopped(project, service, container_states, records, watched)

    return await note_stop(await asyncio.to_thread(inspect))


_OwnStop = tuple[str, datetime, datetime | None]
"""A service, and between which moments we stopped it; without the second until now."""

Stopped = PersonStop | NoteStop | None
"""A person's stop; a NoteStop is one that only the engine's events show, which are to be recorded."""


async def note_stop(stopped: Stopped) -> PersonStop | None:
    """The stop, after it was recorded where only the engine showed it; None without one."""
    if isinstance(stopped, NoteStop):
        changed = {stopped.service: stopped.change("")}
        await to_stores(
            stopped, lambda records: (replace(records, last_changes={**records.last_changes, **changed}), None)
        )
        return STOPPED
    return stopped


def _own_stops(past: Sequence[RecoveryExecution], environment: str) -> list[_OwnStop]:
    """Return when steps of ours stopped containers: to replace them, or since what they took had to be given back."""
    return [
        (execution.service, step.started_at, step.ended_at)
        for execution in past
        if execution.environment == environment and execution.service
        for step in execution.steps
        if (step.name == StepSpec.RECREATE and step.ok is None and execution.ended_at is None)
        # Where its runner died in the middle, a person may have stopped it as well.
        or (
            step.name == f"{UNDO}{StepSpec.START_HOLDER}"
            and (step.ended_at is not None or (execution.runner is not None and is_alive(execution.runner) is True))
        )
    ]


def was_stopped(
    project: Project,
    service: str,
    container_states: Sequence[ContainerState],
    records: RecoveryRecords,
    watched: Mapping[str, datetime] = MappingProxyType({}),
) -> Stopped:
    """How a person stopped a service, None where no person did: it ended by itself, or we stopped it."""
    environment = project.environment
    last, events = records.last_changes.get(service), project.engine.events
    is_up = any(container.up for container in container_states if container.service == service)
    if not records.meant_to_run and not is_up and not (last is not None and last.details.get("on_request")):
        # What had ended before the environment was stopped on request has no stop of its own on record.
        return STOPPED
    own_stops = _own_stops(records.executions, environment.name)
    ours = any(
        execution.environment == environment.name and execution.service == service and execution.ended_at is None
        for execution in records.executions
    )
    # The engine soon forgets an end that a watch saw, and recorded as an error.
    seen_ends = [
        moment
        for error in records.open_errors
        if error.service == service and error.source == "watch"
        for moment in (error.first_seen, error.last_seen)
    ]
    for container in container_states:
        if (
            container.service != service
            or container.one_off
            or container.state != "exited"
            or container.finished_at is None
        ):
            continue
        ends = [*seen_ends, *(at for name, at in watched.items() if name == container.container_id)]
        is_known = records.operated or ours or any(abs(at - container.finished_at) < _SEEN_WITHIN for at in ends)
        unknown = None if is_known else perhaps_stopped(environment.name)
        requested = last is not None and last.details.get("on_request")
        if last is not None and requested and (container.started_at is None or container.started_at <= last.changed_at):
            return STOPPED
        if any(
            stopped_service == service
            # One that was started since was stopped by somebody else.
            and (container.started_at is None or container.started_at <= began)
            and began <= container.finished_at <= (ended or container.finished_at) + _A_MOMENT
            for stopped_service, began, ended in own_stops
        ):
            continue
        around = timedelta(seconds=30)
        with events.stream(
            environment.project,
            # A stop before its last start was of an earlier life.
            max(container.finished_at - around, container.started_at or container.finished_at - around),
            min(container.finished_at + around, datetime.now(UTC)),
        ) as stream:
            reported = [event for event in stream if event.container_id == container.container_id]
        if not any(event.action == "stop" for event in reported):
            if any(map(asks_to_end, reported)) and datetime.now(UTC) - container.finished_at < SETTLE:
                # The engine reports the stop when it has seen the end, later on a machine that is busy.
                return STOPPED
            if unknown is not None and not any(event.action == "die" for event in reported):
                return unknown
            continue
        if events.has_history((container.started_at or container.finished_at) - _A_MOMENT, container.finished_at):
            return NoteStop(environment=environment.name, service=container.service, at=container.finished_at)
        if unknown is not None:
            return unknown
    return None
