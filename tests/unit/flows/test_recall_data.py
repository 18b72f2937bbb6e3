"""What the record of an interrupted update says of its data, where only its rollback goes on."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from flows.operation.recorder import OperationRecorder
from flows.update.context import Update
from flows.update.hooks import recall_data
from models.environments import Environment
from models.operations import DATA_SAVED, HOOK_BEGUN, Operation, OperationStatus, OperationStep, OperationType
from models.operations.record import write_record
from tasks.runtime.project import Project

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
SHOP = Environment.model_validate(
    {
        "name": "shop",
        "project": "shop",
        "compose_files": ["compose.yaml"],
        "hooks": {"before": [{"name": "migrate", "service": "migrate"}]},
    }
)
SAVED, BEGUN = (DATA_SAVED, None, "s-1"), (HOOK_BEGUN, "migrate", "")


@pytest.mark.parametrize(
    ("steps", "said", "command"),
    [
        ((), "", ""),
        ((SAVED, BEGUN), "hook migrate had begun; snapshot s-1 was taken before", "roas snapshot restore shop s-1"),
        ((BEGUN,), "hook migrate had begun; no snapshot was taken before", ""),
    ],
)
async def test_a_resumed_rollback_knows_the_snapshot_of_its_update(
    steps: tuple[tuple[str, str | None, str], ...], said: str, command: str
) -> None:
    recorder = OperationRecorder(
        deployment_id="shop-1",
        operation_type=OperationType.START,
        name="shop",
        started_at=NOON,
        opened=Project(SHOP),
        steps=tuple(
            OperationStep(deployment_id="shop-1", step=step, service=service, finished_at=NOON, detail=detail)
            for step, service, detail in steps
        ),
    )
    update = Update()
    update.recorder = recorder
    await recall_data(update)

    assert recorder.record.data.endswith(said)
    failed = Operation(
        deployment_id="shop-1",
        operation_type=OperationType.START,
        environment="shop",
        status=OperationStatus.FAILED,
        started_at=NOON,
        details=write_record(recorder.record),
    )
    assert failed.data_back == command
