"""Snapshot: save an environment's databases and files; it counts only once all of it is saved."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

from prefect import flow
from prefect.runtime import flow_run

from adapters.host.processes import this_process
from core.errors.redact import Redactor
from core.storage.snapshots import check_services
from flows.common import parameters
from flows.common.identifiers import new_snapshot_id
from flows.common.requester import requester
from models.compose import Application
from models.failures import RoasError, SnapshotError
from models.snapshots import DataSnapshot, SavedData, SnapshotState
from tasks.deployment.lease import hold_environment
from tasks.deployment.services import proven_releases, read_application
from tasks.recovery.notify import SNAPSHOT_FAILED, SNAPSHOT_TAKEN, announce
from tasks.runtime.project import Project, load_project
from tasks.storage.repository import settings_of
from tasks.storage.snapshots import (
    begin_snapshot,
    end_snapshot,
    forget_old,
    prepare_repository,
    save_manifest,
    save_part,
)

log = logging.getLogger("roas")


@flow(name="snapshot", flow_run_name="snapshot {environment}")
async def snapshot(
    environment: parameters.EnvironmentName = parameters.ENVIRONMENT,
    asked_by: str | None = parameters.ASKED_BY,
    wait_seconds: parameters.Seconds = parameters.WAIT_SECONDS,
) -> DataSnapshot:
    """Save all data that an environment names, while its services run, and forget what its policy keeps no longer.

    Raises:
        WrongHostError: The environment belongs to another host.
        BadInputError: The environment names no data, or a service or volume that is not there.
        EnvironmentBusyError: Another operation holds the environment.
        SnapshotError: A part could not be saved; nothing of the snapshot counts then.
    """
    project = await load_project(environment, ())
    settings = settings_of(project.environment)
    asker, _ = requester(asked_by)
    snapshot_id, runner = new_snapshot_id(datetime.now(UTC)), this_process(str(flow_run.get_id() or ""))
    wait = timedelta(seconds=wait_seconds)
    async with hold_environment(
        environment, owner=snapshot_id, reason=f"snapshot by {asker}", runner=runner, wait=wait
    ):
        application = await read_application(project)
        check_services(settings, application)
        releases = await proven_releases(environment)
        begun = DataSnapshot(
            snapshot_id=snapshot_id,
            environment=environment,
            begun_at=datetime.now(UTC),
            release_id=releases[0].release_id if releases else "",
        )
        result = await take_snapshot(Taking(project, application, settings.save, project.redactor()), begun)
        await forget_where_possible(project)
        return result


@dataclass(frozen=True, slots=True)
class Taking:
    """What to save, of what; `redactor` removes the environment's secrets from a text."""

    project: Project
    application: Application
    data: Sequence[SavedData]
    redactor: Redactor


async def take_snapshot(taking: Taking, begun: DataSnapshot) -> DataSnapshot:
    """Save the parts one after the other, and record the snapshot as whole; the caller holds the environment.

    Raises:
        SnapshotError: A part could not be saved; the snapshot is recorded as failed and never offered.
    """
    await prepare_repository(taking.project.environment)
    await begin_snapshot(begun)
    parts = []
    try:
        for data in taking.data:
            part = await save_part(taking.project, taking.application, data, begun.snapshot_id)
            log.info("saved %s: %s bytes in %.1f s", part.name, f"{part.bytes:,}", part.seconds)
            parts.append(part)
        whole = replace(begun, state=SnapshotState.WHOLE, ended_at=datetime.now(UTC), parts=tuple(parts))
        await save_manifest(taking.project.environment, whole)
    except RoasError as error:
        problem = taking.redactor.text(error.what)
        failed = replace(
            begun, state=SnapshotState.FAILED, ended_at=datetime.now(UTC), parts=tuple(parts), problem=problem
        )
        await end_snapshot(failed)
        announce(SNAPSHOT_FAILED, begun.environment, deployment_id=begun.deployment_id or None, text=problem)
        raise SnapshotError(problem, advice=error.advice) from None
    await end_snapshot(whole)
    announce(
        SNAPSHOT_TAKEN,
        begun.environment,
        deployment_id=begun.deployment_id or None,
        text=f"snapshot {whole.snapshot_id}: {whole.bytes:,} bytes of {', '.join(part.name for part in parts)}",
    )
    return whole


async def forget_where_possible(project: Project) -> None:
    """Forget what the policy keeps no longer. What cannot be forgotten now is forgotten another time."""
    try:
        for snapshot_id in await forget_old(project.environment):
            log.info("snapshot %s is forgotten, as data.keep says", snapshot_id)
    except RoasError as error:
        log.warning("old snapshots of %s stay: %s", project.environment.name, project.redactor().text(error.what))
