"""Save, restore and rehearse the data of an environment: one part is one task, and each step is on record."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from typing import TypeVar

from pydantic import TypeAdapter

from adapters.compose.variables import process_environment, secret_values
from adapters.docker.scratch import host_path, scratch_container
from adapters.host.private_files import make_private_folder
from adapters.host.processes import this_process
from adapters.snapshots.containers import LABEL, REHEARSAL, EngineCommands
from adapters.snapshots.own_pauses import OwnPauses
from adapters.snapshots.parts import PartClient
from adapters.snapshots.places import PartPlace
from adapters.snapshots.restic import ResticRepository
from adapters.snapshots.streams import Limit
from core.storage.snapshots import (
    as_manifest_says,
    entries_of,
    find_mounted_data,
    leftovers,
    mount_target,
    to_forget,
    unknown,
)
from models.compose import Application, InjectedFile
from models.containers import ContainerState, replicas
from models.environments import Environment
from models.failures import DamagedRepositoryError, SnapshotError
from models.snapshots import (
    DATA_WITH_LOGIN,
    DataSnapshot,
    FilesData,
    MariadbData,
    PostgresqlData,
    RedisData,
    Rehearsal,
    RepositoryEntry,
    SavedData,
    SnapshotPart,
    SnapshotState,
    SqliteData,
)
from tasks.deployment.lease import hold_environment
from tasks.deployment.services import inspect_application, read_injected_files
from tasks.runtime.project import Project
from tasks.runtime.retry_policy import EFFECT, retry_read, retry_write
from tasks.runtime.stores import open_stores
from tasks.runtime.task import finish_even_so, task
from tasks.storage.repository import repository_of, settings_of, snapshots_folder

log = logging.getLogger("roas")
T = TypeVar("T")

_CLEAN_UP_SECONDS = 1800.0
_READY_SECONDS = 120.0
_manifests = TypeAdapter(DataSnapshot)


@task(name="prepare the repository", **EFFECT)
async def prepare_repository(environment: Environment) -> None:
    """Make the repository of snapshots where there is none, and forget what killed snapshots of this store left in it.

    Raises:
        SnapshotError: restic is not installed, or the repository cannot be used.
    """
    snapshots = await asyncio.to_thread(open_stores().snapshots.list_for, environment.name)
    settings_of(environment)

    def prepare(limit: Limit) -> None:
        repository = repository_of(environment)
        repository.prepare(limit)
        _end_own_pauses(environment, limit)
        EngineCommands(_variables(environment), "", limit).remove_left({snapshot.snapshot_id for snapshot in snapshots})
        forget_leftovers(repository, environment.name, limit)

    await call_in_thread(prepare, _CLEAN_UP_SECONDS)


def forget_leftovers(repository: ResticRepository, environment: str, limit: Limit) -> None:
    """End the snapshots that dead processes began, and forget what was saved for those that are not whole.

    The caller holds the environment. One that has its manifest is whole: it was killed after that, or the store was
    restored from a backup that was made while it was taken. What is not recorded here is never forgotten.

    Raises:
        SnapshotError: The repository cannot be read or written to.
    """
    stores, entries = open_stores(), repository.entries(limit)
    manifests = {entry.snapshot_id: entry for entry in entries if entry.is_manifest}
    for snapshot in stores.snapshots.list_for(environment):
        if snapshot.state is not SnapshotState.BEGUN:
            continue
        ended = replace(snapshot, state=SnapshotState.FAILED, ended_at=datetime.now(UTC), problem="it was killed")
        if (source := manifests.get(snapshot.snapshot_id)) is not None:
            try:
                ended = as_manifest_says(read_manifest(repository, source, limit), entries, source)
            except SnapshotError as error:
                log.warning("snapshot %s stays as it is: %s", snapshot.snapshot_id, error)
                continue
        stores.snapshots.end(ended)
        log.warning("snapshot %s was interrupted; it is recorded as %s", snapshot.snapshot_id, ended.state)
    snapshots = stores.snapshots.list_for(environment)
    repository.forget(leftovers(entries, snapshots, repository.installation), limit)
    if unknown_snapshots := unknown(entries, snapshots):
        log.info(
            "the repository has %d snapshots of %s that are not recorded here, and keeps them: "
            "`roas snapshot adopt %s` lists them",
            len(unknown_snapshots), environment, environment,
        )  # fmt: skip


def read_manifest(repository: ResticRepository, source: RepositoryEntry, limit: Limit) -> DataSnapshot:
    """The snapshot that a manifest describes.

    Raises:
        SnapshotError: It cannot be read.
    """
    try:
        return _manifests.validate_json(repository.manifest(source.restic_id, limit))
    except ValueError as error:
        raise SnapshotError(f"The manifest of snapshot {source.snapshot_id} cannot be read: {error}.") from error


@task(name="save the manifest", **EFFECT)
async def save_manifest(environment: Environment, snapshot: DataSnapshot) -> None:
    """Save beside a snapshot's parts what they are, so that it is whole without this store, too.

    Raises:
        SnapshotError: It could not be saved.
    """

    def save(limit: Limit) -> None:
        text = _manifests.dump_json(snapshot).decode()
        repository_of(environment).save_manifest(snapshot.snapshot_id, text, limit)

    await call_in_thread(save, _CLEAN_UP_SECONDS)


@retry_write
async def begin_snapshot(snapshot: DataSnapshot) -> None:
    """Write that a snapshot has begun."""
    await asyncio.to_thread(open_stores().snapshots.begin, snapshot)


@retry_write
async def end_snapshot(snapshot: DataSnapshot) -> None:
    """Write how a snapshot ended; from then on a whole one counts.

    Raises:
        SnapshotError: Another operation ended it meanwhile, so what was saved may be gone.
    """
    snapshots = open_stores().snapshots
    if await asyncio.to_thread(snapshots.end, snapshot) or snapshot.state is not SnapshotState.WHOLE:
        return
    if (await asyncio.to_thread(snapshots.get, snapshot.snapshot_id)).state is not SnapshotState.WHOLE:
        raise SnapshotError(
            f"Snapshot {snapshot.snapshot_id} does not count: another operation of {snapshot.environment} took over;",
            advice=f"`roas snapshot create {snapshot.environment}` takes another.",
        )


@retry_read
async def snapshots_of(environment: str) -> list[DataSnapshot]:
    """The snapshots of an environment, newest first."""
    return await asyncio.to_thread(open_stores().snapshots.list_for, environment)


@task(name="save data", task_run_name="save {data.name}", **EFFECT)
async def save_part(project: Project, application: Application, data: SavedData, snapshot_id: str) -> SnapshotPart:
    """Save one database, or the files of one volume.

    Raises:
        SnapshotError: It could not be saved.
    """
    place = await place_of(project, application, data)

    def save(limit: Limit) -> SnapshotPart:
        return client_of(project.environment, snapshot_id, limit).save(data, place, snapshot_id)

    return await call_in_thread(save, settings_of(project.environment).timeout_seconds)


@contextmanager
def _naming_another(environment: Environment, snapshot_id: str) -> Iterator[None]:
    """Let the error of a damaged repository name the newest other snapshot that is whole."""
    try:
        yield
    except DamagedRepositoryError as error:
        whole = [
            snapshot
            for snapshot in open_stores().snapshots.list_for(environment.name)
            if snapshot.state is SnapshotState.WHOLE
        ]
        alternatives = [snapshot for snapshot in whole if snapshot.snapshot_id != snapshot_id]
        other = max(alternatives, key=lambda snapshot: snapshot.begun_at, default=None)
        name = environment.name
        advice = (
            f"Snapshot {other.snapshot_id} of {other.begun_at:%Y-%m-%d %H:%M} UTC may be readable: "
            f"`roas snapshot rehearse {name} {other.snapshot_id}` reads it, `roas snapshot restore` puts it back."
            if other is not None
            else f"No other whole snapshot of {name} is on record here; `roas snapshot adopt {name}` lists others."
        )
        raise DamagedRepositoryError(error.what, advice=f"{error.advice} {advice}") from error


@task(name="read a saved part", task_run_name="read {part.name} of the snapshot", **EFFECT)
async def check_part(environment: Environment, part: SnapshotPart, snapshot_id: str) -> None:
    """Read one part of a snapshot from the repository; nothing that runs is touched.

    Raises:
        SnapshotError: It cannot be read, or is not what was saved.
    """

    def check(limit: Limit) -> None:
        with _naming_another(environment, snapshot_id):
            client_of(environment, snapshot_id, limit).check(part)

    await call_in_thread(check, settings_of(environment).timeout_seconds)


@task(name="put data back", task_run_name="put {data.name} back", **EFFECT)
async def load_part(
    project: Project, application: Application, data: SavedData, snapshot: DataSnapshot, place: PartPlace | None = None
) -> None:
    """Put one part of a snapshot back, or into another `place`; what writes to it must be stopped.

    Raises:
        SnapshotError: It could not be put back.
    """
    environment = project.environment
    part = part_of_snapshot(snapshot, data)
    place = place or await place_of(project, application, data, running=False)
    files: tuple[InjectedFile, ...] = ()
    if isinstance(data, PostgresqlData | MariadbData):
        files = await _injected_files(project, application, data.service)

    def load(limit: Limit) -> None:
        client = client_of(environment, snapshot.snapshot_id, limit)
        client.containers.remove_left({snapshot.snapshot_id})
        if isinstance(data, PostgresqlData | MariadbData):
            # It runs, unless its machine was restarted in the middle of a restore.
            project.engine.containers.start(place.container, files)
            client.wait_until_ready(data, place, _READY_SECONDS)
        with _naming_another(environment, snapshot.snapshot_id):
            client.load(data, part, place)

    await call_in_thread(load, settings_of(environment).timeout_seconds)


@task(name="rehearse", task_run_name="rehearse {data.name}", **EFFECT)
async def rehearse_part(project: Project, application: Application, data: SavedData, snapshot: DataSnapshot) -> str:
    """Restore one part where nothing uses it, and say what it then has. What runs is left alone.

    A database is loaded into a copy of its service's container with empty volumes and without network, which is
    removed afterwards.

    Raises:
        SnapshotError: It cannot be restored.
        EngineError: The engine cannot make or start the copy.
    """
    environment = project.environment
    part = part_of_snapshot(snapshot, data)
    seconds = settings_of(environment).timeout_seconds
    if isinstance(data, FilesData | SqliteData):
        check_only = isinstance(data, FilesData)

        def check(limit: Limit) -> str:
            client = client_of(environment, snapshot.snapshot_id, limit)
            with _naming_another(environment, snapshot.snapshot_id):
                return client.files.read(part) if check_only else client.check_sqlite(part)

        return await call_in_thread(check, seconds)
    there = next(iter(replicas(await inspect_application(project), data.service)), None)
    if there is None:
        raise SnapshotError(
            f"{data.service} has no container, so there is nothing to rehearse with;",
            advice=f"`roas start {environment.name}` first.",
        )
    files = await _injected_files(project, application, data.service)

    def rehearse(limit: Limit) -> str:
        engine, client = project.engine, client_of(environment, snapshot.snapshot_id, limit)
        client.containers.remove_left({snapshot.snapshot_id})
        original = engine.containers.snapshot(there.container_id)
        label = (LABEL, f"{REHEARSAL}{snapshot.snapshot_id}")
        with (
            _naming_another(environment, snapshot.snapshot_id),
            scratch_container(engine, original, label, files) as copy,
        ):
            place = PartPlace(container=copy, image=there.image_id, password=_password(environment, data))
            if isinstance(data, RedisData):
                client.load(data, part, place)
                engine.containers.start(copy)
                client.wait_until_ready(data, place, _READY_SECONDS)
            else:
                engine.containers.start(copy)
                client.wait_until_ready(data, place, _READY_SECONDS)
                client.load(data, part, place)
            return client.question(data, part, place)

    return await call_in_thread(rehearse, seconds)


@retry_write
async def record_rehearsal(snapshot: DataSnapshot, at: datetime, rehearsal: Rehearsal) -> None:
    """Write the result of a rehearsed restore."""
    await asyncio.to_thread(open_stores().snapshots.record_rehearsal, snapshot, at, rehearsal)


@task(name="forget snapshots", **EFFECT)
async def forget_old(environment: Environment) -> list[str]:
    """Remove the snapshots that the policy keeps no longer, once that is on record; their ids.

    Raises:
        SnapshotError: The repository cannot be written to; what was to go stays there, and is offered no more.
    """

    def forget(limit: Limit) -> list[str]:
        stores = open_stores()
        release_ids = [release.release_id for release in stores.releases.latest(environment.name) if release.proven]
        old = to_forget(stores.snapshots.list_for(environment.name), settings_of(environment).keep, release_ids)
        if old:
            repository = repository_of(environment)
            entries = entries_of(old, repository.entries(limit), repository.installation)
            # Killed from here on, none of them is offered, and the next time the rest of them goes.
            stores.snapshots.begin_deletion(snapshot.snapshot_id for snapshot in old)
            repository.forget(entries, limit)
        for snapshot in old:
            stores.snapshots.forget(snapshot.snapshot_id)
        return [snapshot.snapshot_id for snapshot in old]

    return await call_in_thread(forget, _CLEAN_UP_SECONDS)


def part_of_snapshot(snapshot: DataSnapshot, data: SavedData) -> SnapshotPart:
    """The saved part of some data.

    Raises:
        SnapshotError: The snapshot has none.
    """
    for part in snapshot.parts:
        if (part.name, part.kind) == (data.name, data.kind):
            return part
    raise SnapshotError(
        f"Snapshot {snapshot.snapshot_id} has no {data.name};",
        advice=f"it has {', '.join(part.name for part in snapshot.parts)}.",
    )


def parts_declared(environment: Environment, snapshot: DataSnapshot) -> list[SavedData]:
    """What the environment says of each part of a snapshot, in its order.

    Raises:
        SnapshotError: It does not name one of them any more.
    """
    declared: dict[tuple[str, str], SavedData] = {}
    declared |= {(data.name, data.kind): data for data in settings_of(environment).save}
    if unknown := [part.name for part in snapshot.parts if (part.name, part.kind) not in declared]:
        raise SnapshotError(
            f"Snapshot {snapshot.snapshot_id} has {', '.join(unknown)}, which data.save does not name any more;",
            advice="name it again, so that its service is known.",
        )
    return [declared[part.name, part.kind] for part in snapshot.parts]


async def call_in_thread(call: Callable[[Limit], T], seconds: float) -> T:
    """Call in a thread; where no caller waits any more, the programs that it runs end."""
    limit = Limit(seconds)
    return await finish_even_so(asyncio.to_thread(call, limit), limit.cancelled.set)


async def _injected_files(project: Project, application: Application, service: str) -> tuple[InjectedFile, ...]:
    if not application.services[service].injects_files:
        return ()
    return (await read_injected_files(project)).get(service, ())


async def place_of(project: Project, application: Application, data: SavedData, *, running: bool = True) -> PartPlace:
    """Where some data is on the environment's engine.

    A SQLite file is reached also while its service does not run: a version that cannot read it may keep it from that.

    Raises:
        SnapshotError: Its service does not run, or with `running` False has no container.
    """
    environment = project.environment
    states = replicas(await inspect_application(project))
    if isinstance(data, FilesData):
        return _place_of_files(data, application, states)
    replicas_of_it = [container for container in states if container.service == data.service]
    up = [container for container in replicas_of_it if container.state == "running"]
    containers = up if running and not isinstance(data, SqliteData) else up or replicas_of_it
    if not containers:
        # Where it fails is what an update may be about to mend.
        alone = "".join(f"; where that fails, it alone: `docker start {one.name}`" for one in replicas_of_it[:1])
        raise SnapshotError(
            f"{data.service} does not run, so {data.name} cannot be reached;",
            advice=f"`roas start {environment.name}` first{alone}.",
        )
    there = containers[0]
    host_file = None
    if isinstance(data, SqliteData) and environment.engine.startswith("unix://"):
        snapshot = await asyncio.to_thread(project.engine.containers.snapshot, there.container_id)
        path = host_path(snapshot, data.file)
        host_file = path if path is not None and os.access(path, os.R_OK | os.W_OK) else None
    return PartPlace(
        container=there.container_id, image=there.image_id, password=_password(environment, data),
        host_file=host_file, is_running=there.state == "running",
    )  # fmt: skip


def _place_of_files(data: FilesData, application: Application, states: Sequence[ContainerState]) -> PartPlace:
    where = find_mounted_data(data, application)
    containers = [container for container in states if container.service in where.services]
    image = containers[0].image_id if containers else application.services[where.services[0]].image
    running = [container for container in containers if container.state == "running"]
    return PartPlace(
        container=(running or containers)[0].container_id if containers else "",
        image=image,
        source=where.source,
        mounted_at=mount_target(data, application, running[0].service) if running else "",
        pause=tuple(container.container_id for container in running) if data.pause else (),
    )


async def end_own_pauses(environment: Environment) -> None:
    """Let go on what a killed snapshot had paused; what a person paused stays so. The caller holds the environment.

    Raises:
        SnapshotError: The engine did not answer in time.
    """
    await call_in_thread(lambda limit: _end_own_pauses(environment, limit), _CLEAN_UP_SECONDS)


async def end_left_pauses(environment: Environment) -> None:
    """Resume what a killed snapshot had paused, where it did and the environment is not held.

    Raises:
        EnvironmentBusyError: An operation holds it; most of them let it go on themselves.
        SnapshotError: The engine did not answer in time.
    """
    if not await asyncio.to_thread(OwnPauses(snapshots_folder(), environment.name).left_pauses):
        return
    reason, runner = "what a killed snapshot paused goes on", this_process()
    async with hold_environment(environment.name, owner=f"pauses-{runner.pid}", reason=reason, runner=runner):
        await end_own_pauses(environment)
        log.warning("%s: what a killed snapshot had paused goes on", environment.name)


def _end_own_pauses(environment: Environment, limit: Limit) -> None:
    pauses = OwnPauses(snapshots_folder(), environment.name)
    if paused_containers := pauses.left_pauses():
        containers = EngineCommands(_variables(environment), "", limit)
        now = containers.start_times(paused_containers)
        containers.unpause(
            [container_id for container_id, started in paused_containers.items() if now.get(container_id) == started]
        )
    pauses.forget()


def client_of(environment: Environment, snapshot_id: str, limit: Limit) -> PartClient:
    """The client that moves parts of a snapshot.

    Raises:
        SnapshotError: A secret that `data` names is not there.
    """
    folder = make_private_folder(snapshots_folder() / "copies")
    return PartClient(
        containers=EngineCommands(_variables(environment), snapshot_id, limit),
        repository=repository_of(environment),
        limit=limit,
        folder=folder,
        pauses=OwnPauses(snapshots_folder(), environment.name),
    )


def _variables(environment: Environment) -> dict[str, str]:
    """What Docker's command line needs; no secret of the application."""
    variables = process_environment(environment, os.environ)
    return {
        name: value for name, value in variables.items() if name not in {secret.name for secret in environment.secrets}
    }


def _password(environment: Environment, data: SavedData) -> str:
    if not isinstance(data, DATA_WITH_LOGIN) or data.password_secret is None:
        return ""
    return secret_values(environment).get(data.password_secret, "")
