"""Snapshot: save an environment's databases and files; it counts only once all of it is saved."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta

from prefect import flow
from prefect.runtime import flow_run

from adapters.host.processes import this_process
from core.errors.redact import Redactor
from core.storage.snapshots import check_services
from flows.common import parameters
from flows.common.requester import requester
from flows.operation.steps import Run, Step, go_back, run_steps
from models.compose import Application
from models.failures import RoasError, SnapshotError
from models.snapshots import DataSnapshot, FilesData, SavedData, SnapshotState
from tasks.deployment.lease import hold_environment
from tasks.deployment.services import proven_releases, read_application
from tasks.recovery.notify import SNAPSHOT_FAILED, SNAPSHOT_TAKEN, announce
from tasks.runtime.identifiers import new_snapshot_id
from tasks.runtime.project import Project, load_project
from tasks.storage.repository import settings_of
from tasks.storage.restores import refuse_half_restored
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
        HalfRestoredError: An operation began to put data back and did not finish, so its parts are of two moments.
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
        await refuse_half_restored(project.environment)
        application = await read_application(project)
        check_services(settings, application)
        releases = await proven_releases(environment)
        begun = DataSnapshot(
            snapshot_id=snapshot_id,
            environment=environment,
            begun_at=datetime.now(UTC),
            release_id=releases[0].release_id if releases else "",
        )
        run = SnapshotRun(project, application, settings.save, project.redactor(), begun)
        result = await take_snapshot(run)
        await forget_where_possible(project)
        return result


@dataclass(slots=True)
class SnapshotRun(Run):
    """A snapshot while it is taken: `data` is to be saved, and `redactor` removes secrets from a text.

    `stop_writers` is called once the data was saved ahead while all runs; it is saved again then.
    """

    project: Project
    application: Application
    data: Sequence[SavedData]
    redactor: Redactor
    snapshot: DataSnapshot
    stop_writers: Callable[[], Awaitable[None]] | None = None
    is_half: bool = False
    failure: RoasError = field(init=False)


async def take_snapshot(run: SnapshotRun) -> DataSnapshot:
    """Take a snapshot; the caller holds the environment.

    Raises:
        SnapshotError: A part could not be saved; the snapshot is recorded as failed and never offered.
    """
    try:
        await run_steps(run, SNAPSHOT)
    except RoasError as error:
        await go_back(run, SNAPSHOT_BACK, error)
        raise
    return run.snapshot


async def begin(run: SnapshotRun) -> None:
    """Prepare the repository, forget what killed snapshots left in it, and record that this one has begun."""
    await prepare_repository(run.project.environment)
    await begin_snapshot(run.snapshot)
    run.is_half = True


async def save_ahead(run: SnapshotRun) -> None:
    """Save the parts while all runs, so that it is short once what writes is stopped; then stop that.

    Raises:
        SnapshotError: A part cannot be saved, so nothing was stopped.
    """
    if run.stop_writers is not None:
        for data in run.data:
            unpaused = data.model_copy(update={"pause": False}) if isinstance(data, FilesData) else data
            await save_part(run.project, run.application, unpaused, run.snapshot.snapshot_id)
        await run.stop_writers()


async def save_data(run: SnapshotRun) -> None:
    """Save the parts one after the other."""
    for data in run.data:
        part = await save_part(run.project, run.application, data, run.snapshot.snapshot_id)
        log.info("saved %s: %s bytes in %.1f s", part.name, f"{part.bytes:,}", part.seconds)
        run.snapshot = replace(run.snapshot, parts=(*run.snapshot.parts, part))


async def keep_manifest(run: SnapshotRun) -> None:
    """Save beside the parts what they are, so that the snapshot is whole without the stores, too."""
    whole = replace(run.snapshot, state=SnapshotState.WHOLE, ended_at=datetime.now(UTC))
    await save_manifest(run.project.environment, whole)
    run.snapshot, run.is_half = whole, False


async def finish(run: SnapshotRun) -> None:
    """Record the snapshot as whole: from now on it counts."""
    await end_snapshot(run.snapshot)
    names = ", ".join(part.name for part in run.snapshot.parts)
    _announce(run, SNAPSHOT_TAKEN, f"snapshot {run.snapshot.snapshot_id}: {run.snapshot.bytes:,} bytes of {names}")


SNAPSHOT: tuple[Step[SnapshotRun], ...] = (
    Step("begin", begin),
    Step("save ahead", save_ahead),
    Step("save data", save_data),
    Step("save the manifest", keep_manifest),
    Step("finish", finish),
)
"""A snapshot; one that is killed is taken anew."""


async def record_failure(run: SnapshotRun) -> None:
    """Record the snapshot as failed, so that it is never offered.

    Raises:
        SnapshotError: The failure without secrets.
    """
    problem = run.redactor.text(run.failure.what)
    await end_snapshot(replace(run.snapshot, state=SnapshotState.FAILED, ended_at=datetime.now(UTC), problem=problem))
    _announce(run, SNAPSHOT_FAILED, problem)
    raise SnapshotError(problem, advice=run.failure.advice) from None


SNAPSHOT_BACK: tuple[Step[SnapshotRun], ...] = (
    Step("record the failure", record_failure, when=lambda run: run.is_half),
)
"""How a snapshot ends that fails."""


def _announce(run: SnapshotRun, event: str, text: str) -> None:
    announce(event, run.snapshot.environment, deployment_id=run.snapshot.deployment_id or None, text=text)


async def forget_where_possible(project: Project) -> None:
    """Forget what the policy keeps no longer. What cannot be forgotten now is forgotten another time."""
    try:
        for snapshot_id in await forget_old(project.environment):
            log.info("snapshot %s is forgotten, as data.keep says", snapshot_id)
    except RoasError as error:
        log.warning("old snapshots of %s stay: %s", project.environment.name, project.redactor().text(error.what))
