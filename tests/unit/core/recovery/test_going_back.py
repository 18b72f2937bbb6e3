"""Whether a recovery may go back to the release before, and what a person who decides it reads."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from core.recovery.going_back import data_changed_since, ways_back, why_not_alone
from models.operations import DATA_SAVED, HOOK_BEGUN, OperationStep
from models.records import Release

NOON = datetime(2026, 3, 2, 12, 0, tzinfo=UTC)
BEFORE = Release(release_id="r-1", environment="shop", deployment_id="d-1", created_at=NOON)


def step(minutes: int, step: str, service: str | None = None, detail: str = "", of: str = "d-2") -> OperationStep:
    at = NOON + timedelta(minutes=minutes)
    return OperationStep(deployment_id=of, step=step, service=service, finished_at=at, detail=detail)


MIGRATED = step(3, HOOK_BEGUN, "migrate")
SAVED = step(2, DATA_SAVED, detail="s-1")


def test_what_came_before_the_release_or_only_observes_does_not_count() -> None:
    earlier = step(-5, DATA_SAVED, detail="s-0", of="d-0")
    own = step(1, HOOK_BEGUN, "warm the cache", of="d-1")
    canary = step(4, HOOK_BEGUN, "observe")
    assert data_changed_since(BEFORE, [canary, MIGRATED, SAVED, own, earlier], {"observe"}) == (SAVED, MIGRATED)
    assert ways_back(BEFORE, ()) == ()


def test_both_ways_back_say_what_they_lose() -> None:
    without, with_data = ways_back(BEFORE, (SAVED, MIGRATED))
    assert without == (
        "Go back without the data (what was written since stays, but hook migrate may have changed data that the old "
        "version cannot read): roas rollback shop r-1"
    )
    assert with_data == (
        "Go back with the data (all that was written since snapshot s-1 of 2026-03-02 12:02:00 UTC is lost): "
        "roas rollback shop r-1 --with-data"
    )
    assert why_not_alone((SAVED, MIGRATED)) == (
        "Going back to the release before is left to a person, since snapshot s-1 was taken and "
        "hook migrate ran after it."
    )


def test_without_a_snapshot_the_data_cannot_go_back() -> None:
    assert ways_back(BEFORE, (MIGRATED,))[1].startswith("No snapshot was taken")
    assert "the old version may not read" in ways_back(BEFORE, (SAVED,))[0]
