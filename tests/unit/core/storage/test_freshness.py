"""Whether snapshots are as new, and as well proven, as an environment asks for."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from core.storage.freshness import snapshot_problems
from models.environments import Environment
from models.snapshots import DataSnapshot, Rehearsal, SnapshotState

NOON = datetime(2026, 11, 27, 12, tzinfo=UTC)
PROVEN = Rehearsal(ok=True, seconds=1.0)


def environment(max_age_hours: float | None = 26.0) -> Environment:
    data = {"save": [{"kind": "files", "volume": "uploads"}], "max_age_hours": max_age_hours}
    return Environment.model_validate(
        {"name": "shop", "project": "shop", "compose_files": [Path("compose.yaml")], "data": data}
    )


def snapshot(
    hours: float, state: SnapshotState = SnapshotState.WHOLE, rehearsal: Rehearsal | None = None
) -> DataSnapshot:
    begun = NOON - timedelta(hours=hours)
    return DataSnapshot(snapshot_id=f"s-{hours}", environment="shop", begun_at=begun, state=state, rehearsal=rehearsal)


def test_a_new_snapshot_and_a_rehearsal_are_enough() -> None:
    assert snapshot_problems(environment(), [snapshot(2), snapshot(200, rehearsal=PROVEN)], NOON) == ()


def test_only_whole_snapshots_count() -> None:
    found = snapshot_problems(
        environment(), [snapshot(1, SnapshotState.FAILED), snapshot(1, SnapshotState.BEGUN)], NOON
    )
    assert found == ("there is no whole snapshot of its data; `roas snapshot create shop` takes one",)


def test_one_that_is_too_old_is_named_with_what_is_allowed() -> None:
    assert snapshot_problems(environment(), [snapshot(72, rehearsal=PROVEN)], NOON) == (
        "the newest whole snapshot is 3 d old, data.max_age_hours allows 1 d; `roas snapshot create shop` takes one",
    )


@pytest.mark.parametrize(
    ("rehearsal", "problem"),
    [
        (None, "no restore of its snapshots was rehearsed; `roas snapshot rehearse shop` does it"),
        (Rehearsal(ok=False, seconds=1.0, problem="db is gone."), "the last rehearsal of a restore failed: db is gone"),
    ],
)
def test_one_whose_restore_is_not_proven_is_named(rehearsal: Rehearsal | None, problem: str) -> None:
    assert snapshot_problems(environment(), [snapshot(2, rehearsal=rehearsal)], NOON) == (problem,)


def test_nothing_is_wrong_where_nothing_is_asked_for() -> None:
    assert snapshot_problems(environment(None), [], NOON) == ()
