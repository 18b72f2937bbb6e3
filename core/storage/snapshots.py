"""Decide about snapshots of data: which parts, who must stop for a restore, which are offered, kept and due."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import TypeVar

from core.common.dependencies import dependants_of
from core.common.quantities import age_in_words
from models.compose import Application, MountKind
from models.environments import Environment
from models.failures import BadInputError, NotFoundError, SnapshotError
from models.metrics import Dependency
from models.operations import Operation
from models.records import Release
from models.snapshots import (
    DATA_WITH_LOGIN,
    DataSettings,
    DataSnapshot,
    FilesData,
    KeepSnapshots,
    MariadbData,
    PostgresqlData,
    RedisData,
    RepositoryEntry,
    SavedData,
    SnapshotPart,
    SnapshotReason,
    SnapshotState,
    UnknownSnapshot,
    UnknownState,
)

_Snapshot = TypeVar("_Snapshot", DataSnapshot, UnknownSnapshot)


@dataclass(frozen=True, slots=True, kw_only=True)
class MountedData:
    """A volume or folder of the host, as a mount gives it to a container: `source` is its name or path."""

    source: str
    services: tuple[str, ...]


def find_mounted_data(data: FilesData, application: Application) -> MountedData:
    """The volume or folder that is meant, and the services that mount it.

    Raises:
        BadInputError: No service mounts it.
    """
    names = {volume.key: volume.name for volume in application.volumes if data.volume in (volume.key, volume.name)}
    mounts = [
        (names.get(mount.source, mount.source), service.name)
        for service in application.services.values()
        for mount in service.mounts
        if (mount.kind is MountKind.VOLUME and mount.source in names)
        or (mount.kind is MountKind.BIND and mount.source == data.volume)
    ]
    if not mounts:
        volumes = sorted({volume.key for volume in application.volumes})
        raise BadInputError(
            f"No service mounts {data.volume}, which data.save names;",
            advice=f"name a volume ({', '.join(volumes) or 'there is none'}) or the whole path of a mounted folder.",
        )
    return MountedData(source=mounts[0][0], services=tuple(sorted({service for _, service in mounts})))


def mount_target(data: FilesData, application: Application, service: str) -> str:
    """Where a service's container has a volume; empty where it has it nowhere, or mounts something else below."""
    names = {volume.key for volume in application.volumes if data.volume in (volume.key, volume.name)} | {data.volume}
    targets = [mount.target.rstrip("/") for mount in application.services[service].mounts]
    places = [mount.target.rstrip("/") for mount in application.services[service].mounts if mount.source in names]
    return next((place for place in places if not any(other.startswith(f"{place}/") for other in targets)), "")


def check_services(settings: DataSettings, application: Application) -> None:
    """Check that every service and volume to save is there.

    Raises:
        BadInputError: One is not.
    """
    for data in settings.save:
        if isinstance(data, FilesData):
            find_mounted_data(data, application)
        elif data.service not in application.services:
            raise BadInputError(
                f"There is no service {data.service}, which data.save names;",
                advice=f"known are: {', '.join(sorted(application.services))}.",
            )


def own_services(data: SavedData, application: Application) -> frozenset[str]:
    """The service that runs the server or has the file, or those that mount the volume."""
    return frozenset(find_mounted_data(data, application).services if isinstance(data, FilesData) else {data.service})


def users_of(data: SavedData, application: Application, dependencies: Sequence[Dependency]) -> frozenset[str]:
    """The services that use some data: the server and all that need it, or all that mount the volume.

    `dependencies` are those of the environment and the Compose files together.
    """
    owners = own_services(data, application)
    return owners | dependants_of(owners, dependencies)


def writers_of(data: SavedData, application: Application, dependencies: Sequence[Dependency]) -> frozenset[str]:
    """The services that must be stopped while data is put back. A server that loads a dump itself must run."""
    users = users_of(data, application, dependencies)
    return users - {data.service} if isinstance(data, PostgresqlData | MariadbData) else users


def clients_of(data: Sequence[SavedData], application: Application, dependencies: Sequence[Dependency]) -> set[str]:
    """The services that must be stopped so that nothing is written to data while it is saved.

    A server that saves its own data must run, also Redis, which is stopped only while its file is put back.
    """
    servers = {part.service for part in data if isinstance(part, DATA_WITH_LOGIN)}
    return set().union(*(users_of(part, application, dependencies) for part in data)) - servers


def data_to_save(
    settings: DataSettings,
    application: Application,
    dependencies: Sequence[Dependency],
    changed: Collection[str],
    there: Collection[str],
) -> tuple[SavedData, ...]:
    """What is saved before an update changes services: what they use, or as the settings say.

    Data whose own services have no container yet, of those that are `there`, is left out: the update makes it first.
    """
    if settings.before_updates == "never" or not changed:
        return ()
    existing_data = [data for data in settings.save if own_services(data, application) & set(there)]
    if settings.before_updates == "all":
        return tuple(existing_data)
    return tuple(data for data in existing_data if users_of(data, application, dependencies) & set(changed))


def offered_snapshots(snapshots: Iterable[DataSnapshot]) -> list[DataSnapshot]:
    """The snapshots that may be restored, newest first: only whole ones."""
    whole = [snapshot for snapshot in snapshots if snapshot.state is SnapshotState.WHOLE]
    return sorted(whole, key=lambda snapshot: snapshot.begun_at, reverse=True)


def choose_snapshot(snapshots: Sequence[DataSnapshot], snapshot_id: str | None, environment: str) -> DataSnapshot:
    """The snapshot of this id or of the only id that begins like it; without one the newest.

    Raises:
        NotFoundError: There is none that is whole.
        BadInputError: Several begin like it.
    """
    whole = offered_snapshots(snapshots)
    if snapshot_id is None:
        # What was saved before a restore is for its undoing, and what another installation saved is not what ran here.
        rarely = (SnapshotReason.SAFETY, SnapshotReason.ADOPTED)
        matches = [snapshot for snapshot in whole if snapshot.reason not in rarely][:1] or whole[:1]
    else:
        matches = _match_id(snapshot_id, whole)
    if len(matches) > 1:
        names = ", ".join(snapshot.snapshot_id for snapshot in matches[:6])
        raise BadInputError(f"{snapshot_id!r} begins several ids ({names});", advice="give more of it.")
    if not matches:
        what = "no snapshot" if snapshot_id is None else f"no whole snapshot {snapshot_id!r}"
        raise NotFoundError(
            f"There is {what} of {environment};", advice=f"`roas snapshot list {environment}` shows them."
        )
    return matches[0]


def _match_id(word: str, snapshots: Sequence[_Snapshot]) -> list[_Snapshot]:
    """The snapshot of an id, else those whose ids begin with it."""
    exact = [snapshot for snapshot in snapshots if snapshot.snapshot_id == word]
    return exact or [snapshot for snapshot in snapshots if word and snapshot.snapshot_id.startswith(word)]


def check_rehearsal(snapshot: DataSnapshot) -> None:
    """Check that no rehearsal showed that a snapshot cannot be restored.

    Raises:
        SnapshotError: The last one did.
    """
    if snapshot.rehearsal is not None and not snapshot.rehearsal.ok:
        raise SnapshotError(
            f"Snapshot {snapshot.snapshot_id} could not be restored when that was rehearsed: "
            f"{snapshot.rehearsal.problem.rstrip('.')};",
            advice=f"restore another one (`roas snapshot list {snapshot.environment}`), or mend the cause and run "
            f"`roas snapshot rehearse {snapshot.environment} {snapshot.snapshot_id}` again. No service was stopped.",
        )


def snapshot_of_release(snapshots: Sequence[DataSnapshot], release: Release) -> DataSnapshot:
    """The snapshot that was taken when a release was replaced by an update: the newest one.

    Raises:
        NotFoundError: There is none.
    """
    matches = _saved_snapshots(release.release_id, offered_snapshots(snapshots))
    if not matches:
        raise NotFoundError(
            f"No snapshot was taken when release {release.release_id} was replaced;",
            advice=f"`roas snapshot list {release.environment}` shows those there are; "
            f"`roas snapshot restore {release.environment} SNAPSHOT` restores one.",
        )
    return matches[0]


def _saved_snapshots(release_id: str, snapshots: Iterable[DataSnapshot]) -> list[DataSnapshot]:
    saved = (snapshot for snapshot in snapshots if snapshot.reason is SnapshotReason.UPDATE)
    return [snapshot for snapshot in saved if snapshot.release_id == release_id]


def data_not_put_back(snapshots: Sequence[DataSnapshot], operations: Iterable[Operation]) -> DataSnapshot | None:
    """The snapshot of the last update that saved data; None where data was put back since then, of whatever snapshot.

    `operations` are those of its environment that may have put data back.
    """
    saved = next(
        (snapshot for snapshot in offered_snapshots(snapshots) if snapshot.reason is SnapshotReason.UPDATE), None
    )
    if saved is None or any(
        operation.started_at > saved.begun_at
        and (operation.record.data_of or operation.record.restore)
        and not (operation.record.undone or operation.record.undo_failed)
        for operation in operations
    ):
        return None
    return saved


def to_forget(
    snapshots: Sequence[DataSnapshot], keep: KeepSnapshots, kept_releases: Collection[str]
) -> list[DataSnapshot]:
    """The whole snapshots that leave: beyond the policy, and of no kept release; and those whose deletion had begun.

    One of another installation stays: its own policy decides there. While one is being put back all stay: to go back,
    that restore needs what it saved before, as does one that begins over it.
    """
    if any(snapshot.restoring for snapshot in snapshots):
        return []
    half_deleted = [snapshot for snapshot in snapshots if snapshot.is_being_deleted]
    whole = [snapshot for snapshot in offered_snapshots(snapshots) if snapshot.reason is not SnapshotReason.ADOPTED]
    stay = {snapshot.snapshot_id for snapshot in whole[: keep.last]}
    stay |= _newest_of_each(whole, keep.daily, lambda at: at.date())
    stay |= _newest_of_each(whole, keep.weekly, lambda at: at.isocalendar()[:2])
    for release in kept_releases:
        stay |= {snapshot.snapshot_id for snapshot in _saved_snapshots(release, whole)[:1]}
    return [snapshot for snapshot in whole if snapshot.snapshot_id not in stay] + half_deleted


def leftovers(entries: Sequence[RepositoryEntry], snapshots: Iterable[DataSnapshot], installation: str) -> list[str]:
    """What this installation itself saved for snapshots that it recorded as failed or killed; ids of restic.

    What the store does not know may be whole, and all that is left of it: another installation's, or from before the
    store was damaged or restored. It stays.
    """
    failed = {snapshot.snapshot_id for snapshot in snapshots if snapshot.state is SnapshotState.FAILED}
    whole = {entry.snapshot_id for entry in entries if entry.is_manifest}
    own_entries = [entry for entry in entries if entry.installation == installation]
    return sorted(entry.restic_id for entry in own_entries if entry.snapshot_id in failed - whole)


def entries_of(snapshots: Sequence[DataSnapshot], entries: Sequence[RepositoryEntry], installation: str) -> list[str]:
    """The ids of restic of all that was saved for these snapshots: parts, manifests, and tries that were repeated.

    `installation` took them; of one that was deleted in part a manifest alone may be there.
    """
    parts = {part.restic_id for snapshot in snapshots for part in snapshot.parts}
    theirs = {(entry.snapshot_id, entry.installation) for entry in entries if entry.restic_id in parts}
    theirs |= {(snapshot.snapshot_id, installation) for snapshot in snapshots}
    return sorted(entry.restic_id for entry in entries if (entry.snapshot_id, entry.installation) in theirs)


def unknown(entries: Sequence[RepositoryEntry], snapshots: Iterable[DataSnapshot]) -> list[UnknownSnapshot]:
    """The snapshots of a repository that a store does not know, newest first."""
    recorded_ids = {snapshot.snapshot_id for snapshot in snapshots}
    groups: dict[tuple[str, str], list[RepositoryEntry]] = {}
    for entry in entries:
        if entry.snapshot_id not in recorded_ids:
            groups.setdefault((entry.snapshot_id, entry.installation), []).append(entry)
    unknown_snapshots = [
        UnknownSnapshot(
            snapshot_id=snapshot_id,
            begun_at=min(entry.saved_at for entry in group),
            installation=installation,
            state=UnknownState.WHOLE if any(entry.is_manifest for entry in group)
            else UnknownState.INCOMPLETE if installation else UnknownState.UNPROVEN,
            paths=tuple(entry.path for entry in group if not entry.is_manifest),
            bytes=sum(entry.bytes for entry in group if not entry.is_manifest),
        )
        for (snapshot_id, installation), group in groups.items()
    ]  # fmt: skip
    return sorted(unknown_snapshots, key=lambda snapshot: snapshot.begun_at, reverse=True)


def to_adopt(snapshots: Sequence[UnknownSnapshot], ids: Sequence[str], environment: str) -> list[UnknownSnapshot]:
    """The unknown snapshots of these ids, or of the only ids that begin like them; without ids all that are complete.

    Raises:
        NotFoundError: There is none.
        BadInputError: Several begin like it, or it is not complete.
    """
    if not ids:
        return [snapshot for snapshot in snapshots if snapshot.state is not UnknownState.INCOMPLETE]
    chosen_ones = []
    for word in ids:
        matches = _match_id(word, snapshots)
        if len(matches) > 1:
            names = ", ".join(
                f"{snapshot.snapshot_id} of {snapshot.installation or 'an earlier version'}" for snapshot in matches[:6]
            )
            raise BadInputError(f"{word!r} begins several ids ({names});", advice="give more of it.")
        if not matches:
            raise NotFoundError(
                f"The repository has no snapshot {word!r} of {environment} that is unknown here;",
                advice=f"`roas snapshot adopt {environment}` shows those there are.",
            )
        if matches[0].state is UnknownState.INCOMPLETE:
            raise BadInputError(
                f"Snapshot {matches[0].snapshot_id} is not complete;",
                advice="installation " + matches[0].installation + " takes it now, or was killed while it did.",
            )
        chosen_ones += matches
    return chosen_ones


def as_manifest_says(
    manifest: DataSnapshot, entries: Sequence[RepositoryEntry], source: RepositoryEntry
) -> DataSnapshot:
    """A whole snapshot as its manifest describes it; `source` is the manifest's entry, one of `entries`.

    Raises:
        SnapshotError: It is the manifest of another snapshot, or names parts that are not there.
    """
    key = (source.snapshot_id, source.installation)
    there = {
        entry.restic_id for entry in entries if (entry.snapshot_id, entry.installation) == key and not entry.is_manifest
    }
    if manifest.snapshot_id != source.snapshot_id or not manifest.parts:
        raise SnapshotError(f"The manifest of snapshot {source.snapshot_id} describes another one.")
    if missing_parts := [part.name for part in manifest.parts if part.restic_id not in there]:
        raise SnapshotError(
            f"Snapshot {source.snapshot_id} has lost {', '.join(missing_parts)}; the repository lacks it."
        )
    return replace(manifest, state=SnapshotState.WHOLE, rehearsed_at=None, rehearsal=None, restoring="")


def as_saved(
    snapshot: UnknownSnapshot, entries: Sequence[RepositoryEntry], settings: DataSettings, environment: Environment
) -> DataSnapshot:
    """A snapshot without a manifest, of the parts that data.save names; `entries` are its own.

    Raises:
        SnapshotError: What a part holds is unknown.
    """
    parts = []
    for entry in entries:
        data = next((data for data in settings.save if _is_saved_as(data, environment.project, entry.path)), None)
        # A dump of Redis goes to where the server of then kept its file, which only a manifest says.
        if data is None or isinstance(data, RedisData):
            raise SnapshotError(
                f"Snapshot {snapshot.snapshot_id} has no manifest, and which data {entry.path} holds is unknown;",
                advice=f"name it in data.save, or read it with `restic dump {entry.restic_id[:12]} {entry.path}`.",
            )
        is_folder = isinstance(data, FilesData) and entry.path != f"/{file_name(data.name)}"
        facts = {"files": entry.files, "file_bytes": entry.bytes, "folder": entry.path} if is_folder else {}
        part = SnapshotPart(
            name=data.name, kind=data.kind, restic_id=entry.restic_id, bytes=entry.bytes, added_bytes=0, seconds=0.0,
            facts=facts,
        )  # fmt: skip
        parts.append(part)
    return DataSnapshot(
        snapshot_id=snapshot.snapshot_id,
        environment=environment.name,
        begun_at=snapshot.begun_at,
        ended_at=max(entry.saved_at for entry in entries),
        state=SnapshotState.WHOLE,
        reason=SnapshotReason.ADOPTED,
        parts=tuple(parts),
    )


def _is_saved_as(data: SavedData, project: str, path: str) -> bool:
    """Whether restic has data at a path: a stream's file, or the folder of a volume or of the host."""
    if path == f"/{file_name(data.name)}":
        return True
    folders = (f"/{data.name}/_data", f"/{project}_{data.name}/_data")
    return isinstance(data, FilesData) and (path == data.volume or path.endswith(folders))


def file_name(part: str) -> str:
    """The name of a part's file in restic: it takes no folders there."""
    return part.strip("/").replace("/", "_")


def what_would_be_lost(snapshot: DataSnapshot, now: datetime, later_deployments: int) -> str:
    """What a restore loses: all that was written since, said as a sentence."""
    seconds = (now - snapshot.begun_at).total_seconds()
    deployments = f"{later_deployments} {'deployment' if later_deployments == 1 else 'deployments'}"
    names = ", ".join(part.name for part in snapshot.parts)
    return (
        f"All that was written to {names} since {snapshot.begun_at:%Y-%m-%d %H:%M:%S} UTC "
        f"({age_in_words(seconds)} ago, {deployments} since) is lost."
    )


def proof_of(snapshot: DataSnapshot) -> str:
    """Whether a restore of it was rehearsed, for a list and a record."""
    if snapshot.rehearsal is None:
        return "not rehearsed"
    return "rehearsed" if snapshot.rehearsal.ok else f"rehearsal failed: {snapshot.rehearsal.problem}"


def _newest_of_each(snapshots: Sequence[DataSnapshot], count: int, period: Callable[[datetime], object]) -> set[str]:
    ids_by_period: dict[object, str] = {}
    for snapshot in snapshots:
        ids_by_period.setdefault(period(snapshot.begun_at), snapshot.snapshot_id)
    return set(list(ids_by_period.values())[:count])
