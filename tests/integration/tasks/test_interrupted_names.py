"""Which interrupted starts the next operation still has to settle, in real stores."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from models.operations import Operation, OperationStatus, OperationType
from models.operations.record import OperationRecord
from tasks.deployment.operations import interrupted_steps
from tasks.runtime.stores import open_stores

NOW = datetime.now(UTC)
FETCHED, GAVE_BACK = "fetched", "gave back"
KILLED = ("killed", FETCHED, OperationRecord(interrupted="its runner is gone", update="all"))


@pytest.fixture(autouse=True)
def _own_stores(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ROAS_DATA_DIR", str(tmp_path))


def record(number: int, deployment_id: str, step: str, of: OperationRecord, *, ok: bool = False) -> None:
    stores, at = open_stores(), NOW + timedelta(seconds=number)
    stores.operations.begin(
        Operation(
            deployment_id=deployment_id,
            operation_type=OperationType.START,
            environment="prod",
            status=OperationStatus.RUNNING,
            started_at=at,
        )
    )
    if step:
        stores.progress.finish_step(deployment_id, step, None, at, deployment_id)
    status = OperationStatus.SUCCESS if ok else OperationStatus.FAILED
    stores.operations.finish(deployment_id, status, at, of)


async def found(besides: str = "asks") -> list[str]:
    steps = await interrupted_steps("prod", besides, frozenset({FETCHED, GAVE_BACK}))
    return [step.detail for step in steps]


@pytest.mark.parametrize(
    ("later", "is_left"),
    [
        pytest.param([], True, id="nothing since"),
        pytest.param([("back", "", OperationRecord(rollback_to="r1"), True)], True, id="a rollback"),
        pytest.param([("data", "put in", OperationRecord(restore="s1"), True)], True, id="a restore of data"),
        pytest.param([("failed", "", OperationRecord(), False)], True, id="a start that failed before it fetched"),
        pytest.param([("failed", FETCHED, OperationRecord(), False)], False, id="a start that failed with its images"),
        pytest.param([("start", "", OperationRecord(), True)], False, id="a start"),
        pytest.param([("back", GAVE_BACK, OperationRecord(rollback_to="r1"), True)], False, id="names given back"),
        pytest.param(
            [("data", "", OperationRecord(restore="s1"), True), ("back", "", OperationRecord(rollback_to="r1"), True)],
            True,
            id="a restore, then a rollback",
        ),
    ],
)
async def test_names_of_a_killed_update_are_left_until_an_operation_decided_about_them(
    later: list[tuple[str, str, OperationRecord, bool]], is_left: bool
) -> None:
    record(0, *KILLED)
    for number, (deployment_id, step, of, ok) in enumerate(later, start=1):
        record(number, deployment_id, step, of, ok=ok)

    assert await found() == (["killed"] if is_left else [])


async def test_a_killed_rollback_hides_no_killed_update_and_both_are_settled() -> None:
    record(0, *KILLED)
    record(1, "back", "turned", OperationRecord(rollback_to="r1", interrupted="its runner is gone"))

    assert await found() == ["back", "killed"]


async def test_an_operation_that_is_taken_up_again_does_not_find_itself() -> None:
    record(0, *KILLED)
    record(1, "again", "began", OperationRecord(interrupted="its runner is gone"))

    assert await found("again") == ["killed"]
    open_stores().progress.finish_step("again", GAVE_BACK, None, NOW, "again")
    assert await found("again") == []
