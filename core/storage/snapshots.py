"""Decide about snapshots of data: which parts, who must stop for a restore, which are offered, kept and due."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

from models.compose import Application, MountKind
from models.failures import BadInputError, NotFoundError
from models.records import Release
from models.snapshots import (
    DataSettings,
    DataSnapshot,
    FilesData,
    KeepSnapshots,
    MariadbData,
    PostgresqlData,
    SavedData,
    SnapshotReason,
    SnapshotState,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class MountedData:
    """A volume or folder of the host, as a mount gives it to a container: `source` is its name or path."""

    source: str
    services: tuple[str, ...]


def mounted(data: FilesData, application: Application) -> MountedData:
    """The volume or folder that is meant, and the services that mount it.

    Raises:
        BadInputError: No service mounts it.
    """
    names = {one.key: one.name for one in application.volumes if data.volume in (one.key, one.name)}
    found = [
        (names.get(mount.source, mount.source), service.name)
        for service in application.services.values()
        for mount in service.mounts
        if (mount.kind is MountKind.VOLUME and mount.source in names)
        or (mount.kind is MountKind.BIND and mount.source == data.volume)
    ]
    if not found:
        known = sorted({one.key for one in application.volumes})
        raise BadInputError(
            f"No service mounts {data.volume}, which data.save names;",
            advice=f"name a volume ({', '.join(known) or 'there is none'}) or the whole path of a mounted folder.",
        )
    return MountedData(source=found[0][0], services=tuple(sorted({service for _, service in found})))


def mount_target(data: FilesData, application: Application, service: str) -> str:
    """Where a service's container has a volume; empty where it has it nowhere, or mounts something else below."""
    names = {one.key for one in application.volumes if data.volume in (one.key, one.name)} | {data.volume}
    targets = [mount.target.rstrip("/") for mount in application.services[service].mounts]
    found = [mount.target.rstrip("/") for mount in application.services[service].mounts if mount.source in names]
    return next((one for one in found if not any(other.startswith(f"{one}/") for other in targets)), "")


def check_services(settings: DataSettings, application: Application) -> None:
    """Check that every service and volume to save is there.

    Raises:
        BadInputError: One is not.
    """
    for data in settings.save:
        if isinstance(data, FilesData):
            mounted(data, application)
        elif data.service not in application.services:
            raise BadInputError(
                f"There is no service {data.service}, which data.save names;",
                advice=f"known are: {', '.join(sorted(application.services))}.",
            )


def own_services(data: SavedData, application: Application) -> frozenset[str]:
    """The service that runs the server or has the file, or those that mount the volume."""
    return frozenset(mounted(data, application).services if isinstance(data, FilesData) else {data.service})


def users_of(data: SavedData, application: Application) -> frozenset[str]:
    """The services that use some data: the server and all that need it, or all that mount the volume."""
    own = own_services(data, application)
    return own | _dependants(own, application)


def writers_of(data: SavedData, application: Application) -> frozenset[str]:
    """The services that must be stopped while data is put back. A server that loads a dump itself must run."""
    users = users_of(data, application)
    return users - {data.service} if isinstance(data, PostgresqlData | MariadbData) else users


def saved_before_update(
    settings: DataSettings, application: Application, changed: Collection[str], there: Collection[str]
) -> tuple[SavedData, ...]:
    """What is saved before an update changes services: what they use, or as the settings say.

    Data whose own services have no container yet, of those that are `there`, is left out: the update makes it first.
    """
    if settings.before_updates == "never" or not changed:
        return ()
    whole = settings.before_updates == "all"
    return tuple(
        data
        for data in settings.save
        if (whole or users_of(data, application) & set(changed)) and own_services(data, application) & set(there)
    )


def offered(snapshots: Iterable[DataSnapshot]) -> list[DataSnapshot]:
    """The snapshots that may be restored, newest first: only whole ones."""
    whole = [one for one in snapshots if one.state is SnapshotState.WHOLE]
    return sorted(whole, key=lambda one: one.begun_at, reverse=True)


def chosen(snapshots: Sequence[DataSnapshot], snapshot_id: str | None, environment: str) -> DataSnapshot:
    """The snapshot of this id or of the only id that begins like it; without one the newest.

    Raises:
        NotFoundError: There is none that is whole.
        BadInputError: Several begin like it.
    """
    whole = offered(snapshots)
    if snapshot_id is None:
        # What was saved before a restore is for its undoing, not what a user would restore next.
        found = [one for one in whole if one.reason is not SnapshotReason.SAFETY][:1] or whole[:1]
    else:
        found = [one for one in whole if one.snapshot_id == snapshot_id]
        found = found or [one for one in whole if snapshot_id and one.snapshot_id.startswith(snapshot_id)]
    if len(found) > 1:
        names = ", ".join(one.snapshot_id for one in found[:6])
        raise BadInputError(f"{snapshot_id!r} begins several ids ({names});", advice="give more of it.")
    if not found:
        what = "no snapshot" if snapshot_id is None else f"no whole snapshot {snapshot_id!r}"
        raise NotFoundError(
            f"There is {what} of {environment};", advice=f"`roas snapshot list {environment}` shows them."
        )
    return found[0]


def of_release(snapshots: Sequence[DataSnapshot], release: Release) -> DataSnapshot:
    """The snapshot that was taken when a release was replaced by an update: the newest one.

    Raises:
        NotFoundError: There is none.
    """
    found = [
        one
        for one in offered(snapshots)
        if one.release_id == release.release_id and one.reason is SnapshotReason.UPDATE
    ]
    if not found:
        raise NotFoundError(
            f"No snapshot was taken when release {release.release_id} was replaced;",
            advice=f"`roas snapshot list {release.environment}` shows those there are; "
            f"`roas snapshot restore {release.environment} SNAPSHOT` restores one.",
        )
    return found[0]


def to_forget(
    snapshots: Sequence[DataSnapshot], keep: KeepSnapshots, kept_releases: Collection[str]
) -> list[DataSnapshot]:
    """The whole snapshots that leave: beyond the policy, of no kept release, and not being put back now."""
    whole = offered(snapshots)
    stay = {one.snapshot_id for one in whole[: keep.last]}
    stay |= _newest_of_each(whole, keep.daily, lambda at: at.date())
    stay |= _newest_of_each(whole, keep.weekly, lambda at: at.isocalendar()[:2])
    stay |= {one.snapshot_id for one in whole if one.restoring}
    for release in kept_releases:
        stay |= {
            one.snapshot_id
            for one in [one for one in whole if one.release_id == release and one.reason is SnapshotReason.UPDATE][:1]
        }
    return [one for one in whole if one.snapshot_id not in stay]


def strays(known: dict[str, str], snapshots: Iterable[DataSnapshot]) -> list[str]:
    """The ids of restic's snapshots that belong to no whole snapshot, such as of one that was killed."""
    whole = {one.snapshot_id for one in offered(snapshots)}
    return sorted(restic_id for restic_id, owner in known.items() if owner not in whole)


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
    found: dict[object, str] = {}
    for one in snapshots:
        found.setdefault(period(one.begun_at), one.snapshot_id)
    return set(list(found.values())[:count])


def _dependants(services: frozenset[str], application: Application) -> set[str]:
    """All that need one of them, directly or not."""
    found: set[str] = set()
    while True:
        more = {
            name
            for name, one in application.services.items()
            if name not in found and ({*one.depends_on, *one.inside_of} & (services | found))
        }
        if not more:
            return found - services
        found |= more


def age_in_words(seconds: float) -> str:
    """How long ago something was, such as 3 d."""
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"
