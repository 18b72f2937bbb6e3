"""A restore that fails before it could take over what another one left half done, with real stores."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from flows.operation.recorder import OperationRecorder
from flows.storage.restoring import DataRestore
from models.failures import HalfRestoredError
from models.operations import OperationType
from models.snapshots import DataSnapshot, SnapshotState
from tasks.runtime.stores import open_stores

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)
SNAPSHOT = DataSnapshot(snapshot_id="d1", environment="prod", begun_at=NOW, state=SnapshotState.WHOLE)


async def test_data_that_another_restore_left_half_done_is_not_taken_for_put_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ROAS_DATA_DIR", str(tmp_path))
    snapshots = open_stores().snapshots
    snapshots.begin(SNAPSHOT)
    snapshots.mark_restoring("prod", SNAPSHOT.snapshot_id, "prod-1")
    recorder = OperationRecorder(
        deployment_id="prod-2", operation_type=OperationType.START, name="prod", started_at=NOW
    )
    # It has chosen the other's safety snapshot, and could not write that it puts data back from now on.
    data = DataRestore(safety=replace(SNAPSHOT, snapshot_id="saved"), is_touched=True)

    with pytest.raises(HalfRestoredError, match="prod-1 had left half restored, so nothing starts"):
        await data.put_safety_back(recorder)

    half = snapshots.find_restoring("prod")
    assert half is not None
    assert half.restoring == "prod-1"
