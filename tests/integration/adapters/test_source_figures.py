"""The metrics of sources, from recorded operations."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from adapters.prometheus.source_figures import source_figures
from models.operations import Operation, OperationStatus, OperationType

NOON = datetime(2026, 3, 4, 12, tzinfo=UTC)
OLD, NEW = "a" * 40, "b" * 40


def sync(revision: str, status: OperationStatus, minutes: int, **details: object) -> Operation:
    at = NOON + timedelta(minutes=minutes)
    return Operation(
        deployment_id=f"shop-{minutes}",
        operation_type=OperationType.START,
        environment="shop",
        status=status,
        started_at=at,
        ended_at=at,
        details={"source": {"revision": revision}} | details,
    )


def figures(*newest_first: Operation) -> dict[str, float]:
    return {
        f"{sample.name} {sample.labels.get('revision', '')} {sample.labels.get('outcome', '')}".strip(): sample.value
        for family in source_figures({"shop": newest_first})
        for sample in family.samples
    }


PROVEN = sync(OLD, OperationStatus.SUCCESS, 0)


@pytest.mark.parametrize(
    ("latest", "outcome", "behind"),
    [
        (sync(NEW, OperationStatus.SUCCESS, 5), "proven", 0),
        (sync(NEW, OperationStatus.RUNNING, 5), "running", 0),
        (sync(NEW, OperationStatus.FAILED, 5), "failed", 1),
        (sync(NEW, OperationStatus.FAILED, 5, revision_held_back=NEW), "held_back", 1),
        (sync(NEW, OperationStatus.SUCCESS, 5, pinned=NEW), "pinned", 1),
    ],
)
def test_an_environment_is_behind_where_its_latest_revision_does_not_run(
    latest: Operation, outcome: str, behind: int
) -> None:
    found = figures(latest, PROVEN)

    assert found[f"roas_source_revision_info {NEW[:12]} {outcome}"] == 1
    assert found["roas_source_behind"] == behind
    last = NOON + timedelta(minutes=5 if outcome == "proven" else 0)
    assert found["roas_source_synced_timestamp_seconds"] == last.timestamp()


def test_an_environment_without_a_source_has_no_figures() -> None:
    assert figures(sync(OLD, OperationStatus.SUCCESS, 0, source="")) == {}
