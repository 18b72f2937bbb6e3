"""Rows of snapshots: only those that ended whole count, and one of an environment is being restored at most."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from adapters.stores import Stores
from models.failures import NotFoundError
from models.snapshots import BEING_DELETED, DataSnapshot, Rehearsal, SnapshotPart, SnapshotReason, SnapshotState

NOON = datetime(2026, 11, 27, 12, tzinfo=UTC)
PART = SnapshotPart(
    name="db/shop", kind="postgresql", restic_id="ab", bytes=10, added_bytes=5, seconds=0.5, facts={"dir": "/data"}
)


def begun(number: int, environment: str = "shop") -> DataSnapshot:
    at = NOON + timedelta(minutes=number)
    return DataSnapshot(
        snapshot_id=f"s-{environment}-{number}", environment=environment, begun_at=at, reason=SnapshotReason.UPDATE
    )


def whole(number: int) -> DataSnapshot:
    one = begun(number)
    return replace(one, state=SnapshotState.WHOLE, ended_at=one.begun_at + timedelta(seconds=3), parts=(PART,))


def test_a_snapshot_is_kept_as_it_was(stores: Stores) -> None:
    stores.snapshots.begin(begun(1))
    stores.snapshots.begin(begun(1))
    assert stores.snapshots.list_for("shop") == [begun(1)]
    assert stores.snapshots.end(whole(1))
    assert stores.snapshots.get("s-shop") == whole(1)
    assert stores.snapshots.whole() == [whole(1)]


def test_one_that_ended_stays_as_it_ended(stores: Stores) -> None:
    stores.snapshots.begin(begun(1))
    failed = replace(begun(1), state=SnapshotState.FAILED, ended_at=NOON, problem="it was killed")
    assert stores.snapshots.end(failed)
    assert not stores.snapshots.end(whole(1))
    assert stores.snapshots.list_for("shop") == [failed]


def test_one_that_is_being_deleted_does_not_count_any_more(stores: Stores) -> None:
    for number in (1, 2):
        stores.snapshots.begin(begun(number))
        stores.snapshots.end(whole(number))
    stores.snapshots.begin_deletion(["s-shop-1"])
    assert stores.snapshots.whole() == [whole(2)]
    assert stores.snapshots.get("s-shop-1") == replace(whole(1), state=SnapshotState.FAILED, problem=BEING_DELETED)
    assert stores.snapshots.get("s-shop-1").is_being_deleted


def test_a_rehearsal_is_kept_with_its_snapshot(stores: Stores) -> None:
    stores.snapshots.begin(begun(1))
    rehearsal = Rehearsal(ok=False, seconds=2.5, found={"db/shop": "3 tables"}, problem="no such role")
    stores.snapshots.record_rehearsal(begun(1), NOON, rehearsal)
    assert stores.snapshots.get("s-shop-1").rehearsal == rehearsal
    assert stores.snapshots.get("s-shop-1").rehearsed_at == NOON


def test_one_snapshot_of_an_environment_is_being_restored_at_most(stores: Stores) -> None:
    for one in (begun(1), begun(2), begun(1, "wiki")):
        stores.snapshots.begin(one)
    stores.snapshots.mark_restoring("shop", "s-shop-1", "d-1")
    stores.snapshots.mark_restoring("wiki", "s-wiki-1", "d-2")
    stores.snapshots.mark_restoring("shop", "s-shop-2", "d-1")

    assert stores.snapshots.find_restoring("shop") == replace(begun(2), restoring="d-1")
    stores.snapshots.clear_restoring("shop")
    assert stores.snapshots.find_restoring("shop") is None
    assert stores.snapshots.find_restoring("wiki") is not None


def test_a_forgotten_one_is_gone(stores: Stores) -> None:
    stores.snapshots.begin(begun(1))
    stores.snapshots.forget("s-shop-1")
    with pytest.raises(NotFoundError, match=r"No snapshot has the id .*roas snapshot list"):
        stores.snapshots.get("s-shop-1")
