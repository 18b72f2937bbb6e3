"""Decisions about snapshots: what is saved, who must stop, which are offered, kept and forgotten."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from pydantic import ValidationError

from core.common.dependencies import dependencies_of
from core.storage.snapshots import (
    as_manifest_says,
    as_saved,
    check_rehearsal,
    check_services,
    choose_snapshot,
    clients_of,
    data_not_put_back,
    data_to_save,
    entries_of,
    leftovers,
    offered_snapshots,
    proof_of,
    snapshot_of_release,
    to_adopt,
    to_forget,
    unknown,
    what_would_be_lost,
    writers_of,
)
from models.compose import Application, DependsOn, Mount, MountKind, ServiceDeclaration, VolumeDeclaration
from models.environments import Environment
from models.failures import BadInputError, NotFoundError, SnapshotError
from models.operations import Operation, OperationStatus, OperationType
from models.records import Release
from models.snapshots import (
    BEING_DELETED,
    DataSettings,
    DataSnapshot,
    FilesData,
    KeepSnapshots,
    PostgresqlData,
    RedisData,
    Rehearsal,
    RepositoryEntry,
    SnapshotPart,
    SnapshotReason,
    SnapshotState,
    UnknownState,
)

NOON = datetime(2026, 11, 27, 12, tzinfo=UTC)
FILES = MountKind.VOLUME
APPLICATION = Application(
    project="shop",
    services={
        "db": ServiceDeclaration(name="db", image="postgres"),
        "cache": ServiceDeclaration(name="cache", image="redis"),
        "api": ServiceDeclaration(name="api", image="api", depends_on={"db": DependsOn()}),
        "web": ServiceDeclaration(
            name="web",
            image="web",
            depends_on={"api": DependsOn()},
            mounts=(
                Mount(kind=FILES, target="/srv", source="uploads"),
                Mount(kind=MountKind.BIND, target="/etc/web", source="/opt/web"),
            ),
        ),
    },
    volumes=(VolumeDeclaration(key="uploads", name="shop_uploads"),),
)
SHOP = Environment.model_validate({"name": "shop", "project": "shop", "compose_files": ["/c.yaml"]})
NEEDS = dependencies_of(SHOP, APPLICATION)
DB = PostgresqlData(kind="postgresql", service="db")
CACHE = RedisData(kind="redis", service="cache")
UPLOADS = FilesData(kind="files", volume="uploads")
SETTINGS = DataSettings(save=(DB, CACHE, UPLOADS))


def taken(hours_ago: float, **more: object) -> DataSnapshot:
    at = NOON - timedelta(hours=hours_ago)
    part = SnapshotPart(name="db/postgres", kind="postgresql", restic_id="a", bytes=1, added_bytes=1, seconds=1.0)
    known: dict[str, object] = {
        "snapshot_id": f"s-{at:%m%d-%H%M}", "environment": "shop", "begun_at": at, "state": SnapshotState.WHOLE,
        "parts": (part,),
    }  # fmt: skip
    return DataSnapshot(**{**known, **more})  # type: ignore[arg-type]


def release(release_id: str) -> Release:
    return Release(release_id=release_id, environment="shop", deployment_id="d", created_at=NOON)


def test_a_database_that_loads_its_dump_itself_keeps_running() -> None:
    assert writers_of(DB, APPLICATION, NEEDS) == {"api", "web"}
    assert writers_of(CACHE, APPLICATION, NEEDS) == {"cache"}
    assert writers_of(UPLOADS, APPLICATION, NEEDS) == {"web"}
    assert writers_of(FilesData(kind="files", volume="/opt/web"), APPLICATION, NEEDS) == {"web"}


def test_a_database_that_saves_its_data_itself_keeps_running_while_what_writes_to_it_is_stopped() -> None:
    assert clients_of([DB], APPLICATION, NEEDS) == {"api", "web"}
    assert clients_of([CACHE], APPLICATION, NEEDS) == set()
    assert clients_of([UPLOADS, CACHE, DB], APPLICATION, NEEDS) == {"api", "web"}


@pytest.mark.parametrize(("changed", "saved"), [("api", (DB,)), ("cache", (CACHE,)), ("web", (DB, UPLOADS))])
def test_an_update_saves_what_the_changed_services_use(changed: str, saved: tuple[object, ...]) -> None:
    assert data_to_save(SETTINGS, APPLICATION, NEEDS, [changed], APPLICATION.services) == saved


def test_what_only_the_environment_says_a_service_needs_counts() -> None:
    apart = replace(APPLICATION, services={**APPLICATION.services, "api": ServiceDeclaration(name="api", image="api")})
    services = {"api": {"dependencies": [{"service": "db"}, {"service": "cache", "type": "performance"}]}}
    needs = dependencies_of(SHOP.model_validate(SHOP.model_dump() | {"services": services}), apart)
    assert writers_of(DB, apart, dependencies_of(SHOP, apart)) == set()
    assert writers_of(DB, apart, needs) == {"api", "web"}
    assert data_to_save(SETTINGS, apart, needs, ["api"], apart.services) == (DB, CACHE)


def test_an_update_saves_everything_or_nothing_where_the_settings_say_so() -> None:
    whole = SETTINGS.model_copy(update={"before_updates": "all"})
    never = SETTINGS.model_copy(update={"before_updates": "never"})
    assert data_to_save(whole, APPLICATION, NEEDS, ["cache"], APPLICATION.services) == SETTINGS.save
    assert data_to_save(whole, APPLICATION, NEEDS, [], APPLICATION.services) == ()
    assert data_to_save(never, APPLICATION, NEEDS, ["cache"], APPLICATION.services) == ()


def test_a_service_that_has_no_container_yet_has_no_data() -> None:
    assert data_to_save(SETTINGS, APPLICATION, NEEDS, ["db", "web"], {"web"}) == (UPLOADS,)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (PostgresqlData(kind="postgresql", service="dbb"), "There is no service dbb.*known are: api, cache, db, web"),
        (FilesData(kind="files", volume="upload"), r"No service mounts upload.*name a volume \(uploads\)"),
    ],
)
def test_names_that_are_not_there_are_refused(data: PostgresqlData | FilesData, message: str) -> None:
    with pytest.raises(BadInputError, match=message):
        check_services(DataSettings(save=(data,)), APPLICATION)


def test_only_whole_snapshots_are_offered() -> None:
    begun, failed = taken(0, state=SnapshotState.BEGUN), taken(1, state=SnapshotState.FAILED)
    assert choose_snapshot([begun, failed, taken(2)], None, "shop") == taken(2)
    with pytest.raises(NotFoundError, match=f"^There is no whole snapshot '{begun.snapshot_id}' of shop; "):
        choose_snapshot([begun, failed], begun.snapshot_id, "shop")
    with pytest.raises(NotFoundError, match=r"^There is no snapshot of shop; `roas snapshot list shop` shows them\."):
        choose_snapshot([begun], None, "shop")


def test_the_newest_but_no_safety_copy_is_taken_by_default() -> None:
    safety = taken(0, reason=SnapshotReason.SAFETY)
    assert choose_snapshot([safety, taken(1)], None, "shop") == taken(1)
    assert choose_snapshot([safety], None, "shop") == safety
    assert choose_snapshot([safety, taken(1)], safety.snapshot_id, "shop") == safety
    with pytest.raises(BadInputError, match="begins several ids"):
        choose_snapshot([safety, taken(1)], "s-", "shop")


def test_one_whose_rehearsal_failed_is_not_restored() -> None:
    check_rehearsal(taken(1))
    check_rehearsal(taken(1, rehearsal=Rehearsal(ok=True, seconds=1.0)))
    with pytest.raises(SnapshotError, match=r"no such role.*roas snapshot rehearse shop .* No service was stopped"):
        check_rehearsal(taken(1, rehearsal=Rehearsal(ok=False, seconds=1.0, problem="no such role.")))


def test_the_snapshot_of_a_release_is_the_one_that_its_update_took() -> None:
    update = taken(2, release_id="r-1", reason=SnapshotReason.UPDATE)
    assert snapshot_of_release([taken(1, release_id="r-1"), update, taken(3)], release("r-1")) == update
    with pytest.raises(NotFoundError, match="No snapshot was taken when release r-2"):
        snapshot_of_release([update], release("r-2"))


def test_the_data_of_the_last_update_can_be_put_back_until_data_was_put_back() -> None:
    before, last = (taken(hours, release_id="r-1", reason=SnapshotReason.UPDATE) for hours in (5, 2))
    of_a_person = taken(1)

    def operation(hours_ago: float, **fields: Any) -> Operation:
        known = {"deployment_id": "shop-1", "operation_type": OperationType.START, "environment": "shop"}
        known |= {"status": OperationStatus.SUCCESS, "started_at": NOON - timedelta(hours=hours_ago)}
        return Operation(**(known | fields))

    assert data_not_put_back([before, last, of_a_person], []) == last
    undone = operation(1, status=OperationStatus.FAILED, details={"restore": "s-1", "undone": "as before"})
    earlier = operation(3, details={"restore": "s-1"})
    assert data_not_put_back([before, last], [undone, earlier, operation(1)]) == last
    assert data_not_put_back([before, last], [operation(1, details={"restore": "s-1"})]) is None
    assert data_not_put_back([before, last], [operation(1, details={"data_of": "s-1"})]) is None
    assert data_not_put_back([of_a_person], []) is None


def test_the_policy_keeps_the_last_of_days_and_weeks() -> None:
    every_six_hours = [taken(6 * number) for number in range(4 * 30)]
    gone = to_forget(every_six_hours, KeepSnapshots(last=3, daily=4, weekly=2), ())
    stay = [one for one in every_six_hours if one not in gone]
    assert stay[:3] == every_six_hours[:3]
    assert len({one.begun_at.date() for one in stay}) == 5
    # Its weeks are this one and the one before, of which the daily ones hold no day.
    assert stay[-1].begun_at.date() == datetime(2026, 11, 22, tzinfo=UTC).date()


def test_the_snapshot_of_a_kept_release_stays() -> None:
    of_kept = taken(900, release_id="r-1", reason=SnapshotReason.UPDATE)
    other = taken(1100, release_id="r-0", reason=SnapshotReason.UPDATE)
    keep = KeepSnapshots(last=1, daily=0, weekly=0)
    assert to_forget([taken(1), of_kept, other], keep, {"r-1"}) == [other]


def test_what_was_saved_before_a_restore_stays_until_that_has_ended() -> None:
    target, safety, later = taken(1000), taken(900, reason=SnapshotReason.SAFETY), taken(1)
    keep = KeepSnapshots(last=1, daily=0, weekly=0)
    assert to_forget([later, safety, target], keep, ()) == [safety, target]
    assert to_forget([later, safety, replace(target, restoring="d-1")], keep, ()) == []


def entry(restic_id: str, snapshot_id: str, installation: str = "own", **more: object) -> RepositoryEntry:
    known: dict[str, object] = {
        "restic_id": restic_id, "snapshot_id": snapshot_id, "installation": installation, "saved_at": NOON,
        "path": "/db_postgres", "bytes": 3,
    }  # fmt: skip
    return RepositoryEntry(**{**known, **more})  # type: ignore[arg-type]


def manifest(restic_id: str, snapshot_id: str, installation: str = "own") -> RepositoryEntry:
    return entry(restic_id, snapshot_id, installation, path="/roas-manifest.json", is_manifest=True)


def test_only_what_this_installation_recorded_as_failed_is_left_over() -> None:
    killed = taken(0, state=SnapshotState.FAILED)
    begun = taken(2, state=SnapshotState.BEGUN)
    entries = [
        entry("a", taken(1).snapshot_id),
        entry("b", killed.snapshot_id),
        entry("c", "s-of-a-lost-store"),
        entry("d", killed.snapshot_id, "another"),
        entry("e", killed.snapshot_id, ""),
        entry("f", begun.snapshot_id),
    ]
    assert leftovers(entries, [killed, taken(1), begun], "own") == ["b"]
    assert leftovers([*entries, manifest("g", killed.snapshot_id)], [killed], "own") == []
    assert leftovers(entries, [], "own") == []


def test_a_snapshot_leaves_the_repository_with_all_that_was_saved_for_it() -> None:
    one, other = taken(1), taken(2)
    entries = [
        entry("a", one.snapshot_id), entry("again", one.snapshot_id), manifest("m", one.snapshot_id),
        entry("b", one.snapshot_id, "another"), entry("c", other.snapshot_id), manifest("n", other.snapshot_id),
    ]  # fmt: skip
    assert entries_of([one], entries, "own") == ["a", "again", "m"]
    assert entries_of([one], [manifest("m", one.snapshot_id), manifest("n", other.snapshot_id)], "own") == ["m"]


def test_a_snapshot_whose_deletion_was_interrupted_goes_the_next_time_and_is_never_offered() -> None:
    half = taken(2, state=SnapshotState.FAILED, problem=BEING_DELETED)
    failed = taken(3, state=SnapshotState.FAILED, problem="it was killed")
    assert offered_snapshots([taken(1), half, failed]) == [taken(1)]
    assert to_forget([taken(1), half, failed], KeepSnapshots(), ()) == [half]
    assert to_forget([replace(taken(1), restoring="d-1"), half], KeepSnapshots(), ()) == []


def test_a_snapshot_that_is_not_recorded_says_whether_it_is_complete() -> None:
    entries = [
        entry("a", "s-1", "b"), manifest("m", "s-1", "b"), entry("c", "s-2", "b"), entry("d", "s-3", ""),
        entry("e", taken(1).snapshot_id),
    ]  # fmt: skip
    found = {one.snapshot_id: one for one in unknown(entries, [taken(1)])}
    assert {name: one.state for name, one in found.items()} == {
        "s-1": UnknownState.WHOLE, "s-2": UnknownState.INCOMPLETE, "s-3": UnknownState.UNPROVEN,
    }  # fmt: skip
    assert (found["s-1"].paths, found["s-1"].bytes) == (("/db_postgres",), 3)
    parts = [entry("a", "s-4", bytes=5), entry("b", "s-4", path="/cache", bytes=70)]
    (of_parts,) = unknown([*parts, replace(manifest("m", "s-4"), bytes=900)], [])
    assert (of_parts.paths, of_parts.bytes) == (("/db_postgres", "/cache"), 75)
    everything = list(found.values())
    assert [one.snapshot_id for one in to_adopt(everything, [], "shop")] == ["s-1", "s-3"]
    assert to_adopt(everything, ["s-3"], "shop") == [found["s-3"]]
    for word, kind, message in (
        ("s-2", BadInputError, "not complete"),
        ("s-9", NotFoundError, "roas snapshot adopt shop"),
        ("s-", BadInputError, "begins several"),
    ):
        with pytest.raises(kind, match=message):
            to_adopt(everything, [word], "shop")


def test_a_manifest_counts_only_with_all_its_parts() -> None:
    one = taken(1, restoring="d-1")
    mine = [entry("a", one.snapshot_id), manifest("m", one.snapshot_id)]
    assert as_manifest_says(one, mine, mine[1]) == replace(one, restoring="")
    for entries in ([mine[1]], [mine[1], entry("a", one.snapshot_id, "another")]):
        with pytest.raises(SnapshotError, match="has lost db/postgres"):
            as_manifest_says(one, entries, mine[1])
    with pytest.raises(SnapshotError, match="describes another"):
        as_manifest_says(taken(2), mine, mine[1])


def test_parts_of_a_snapshot_without_a_manifest_are_known_by_their_names() -> None:
    folder = "/var/lib/docker/volumes/shop_uploads/_data"
    entries = [entry("a", "s-3", ""), entry("b", "s-3", "", path=folder, files=2)]
    adopted = as_saved(unknown(entries, [])[0], entries, SETTINGS, SHOP)
    assert [(part.name, part.bytes) for part in adopted.parts] == [("db/postgres", 3), ("uploads", 3)]
    assert adopted.parts[1].facts == {"files": 2, "file_bytes": 3, "folder": folder}
    assert (adopted.state, adopted.reason) == (SnapshotState.WHOLE, SnapshotReason.ADOPTED)
    for path in ("/gone_db", "/cache"):
        with pytest.raises(SnapshotError, match=f"which data {path} holds is unknown"):
            as_saved(unknown(entries, [])[0], [entry("a", "s-3", "", path=path)], SETTINGS, SHOP)


def test_a_snapshot_of_another_installation_stays_and_is_no_default() -> None:
    adopted = [taken(number, reason=SnapshotReason.ADOPTED) for number in range(5)]
    keep = KeepSnapshots(last=1, daily=0, weekly=0)
    assert to_forget([*adopted, taken(10), taken(11)], keep, ()) == [taken(11)]
    assert choose_snapshot([*adopted, taken(10)], None, "shop") == taken(10)
    assert choose_snapshot(adopted, None, "shop") == adopted[0]


def test_a_restore_says_what_it_loses_and_whether_it_was_rehearsed() -> None:
    for later, since in ((0, "0 deployments"), (1, "1 deployment"), (2, "2 deployments")):
        assert what_would_be_lost(taken(3), NOON, later) == (
            f"All that was written to db/postgres since 2026-11-27 09:00:00 UTC (3 h ago, {since} since) is lost."
        )
    assert proof_of(taken(1)) == "not rehearsed"
    assert proof_of(taken(1, rehearsal=Rehearsal(ok=True, seconds=1.0))) == "rehearsed"
    failed = Rehearsal(ok=False, seconds=1.0, problem="no such role")
    assert proof_of(taken(1, rehearsal=failed)) == "rehearsal failed: no such role"


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"save": []}, "at least 1"),
        ({"save": [{"kind": "files", "volume": "a"}] * 2}, "names 'a' twice"),
        ({"save": [{"kind": "files", "volume": "a"}], "repository": "backups"}, "whole path"),
        ({"save": [{"kind": "files", "volume": "a"}], "repository": "rest:https://me:secret@host/"}, "password"),
        ({"save": [{"kind": "sqlite", "service": "app", "file": "app.db"}]}, "pattern"),
    ],
)
def test_settings_that_cannot_be_used_are_refused(settings: dict[str, object], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        DataSettings.model_validate(settings)
