"""How an operation ended is recorded although PostgreSQL was away then, and stayed so."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from adapters.host.processes import this_process
from models.failures import StoreUnreachableError
from models.operations import Operation, OperationStatus, OperationType
from models.operations.record import OperationRecord, read_record
from tasks.deployment.operations import begin_operation, finish_operation, mark_interrupted, record_step
from tasks.runtime.stores import open_stores
from tests.integration.stores.values import ERROR
from tests.support.postgresql_server import PostgresqlForTests, postgresql

GONE = replace(this_process(), pid=2**22, process_started=1)


@pytest.fixture(scope="module")
def server() -> Iterator[PostgresqlForTests]:
    with postgresql() as running:
        yield running


@pytest.fixture(autouse=True)
def _stores(server: PostgresqlForTests, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("ROAS_DATA_DIR", str(tmp_path))
    with server.database() as url:
        monkeypatch.setenv("ROAS_STORES_URL", url)
        yield
        open_stores().close()


async def begin(deployment_id: str) -> None:
    """An operation whose process is gone."""
    runner = {name: getattr(GONE, name) for name in ("host", "kernel", "pid", "process_started", "flow_run_id")}
    operation = Operation(
        deployment_id=deployment_id,
        operation_type=OperationType.START,
        environment="prod",
        status=OperationStatus.RUNNING,
        started_at=datetime.now(UTC),
        details={"runner": runner},
    )
    await begin_operation(operation)


async def test_a_start_that_was_proven_is_no_interrupted_one(
    server: PostgresqlForTests, caplog: pytest.LogCaptureFixture
) -> None:
    stores = open_stores()
    await begin("p-1")
    stores.errors.record(replace(ERROR, environment="prod", source="start"))
    server.control("stop", "-m", "immediate")
    try:
        with caplog.at_level(logging.WARNING, logger="roas"):
            settled = await finish_operation(
                "p-1", OperationStatus.SUCCESS, datetime.now(UTC), OperationRecord(), settles="prod"
            )
    finally:
        server.control("start")

    assert settled == []
    assert "how p-1 ended is recorded once the stores are back: " in caplog.text
    # The next process that looks, such as the collection of the agent, finds it and does not take it for interrupted.
    assert await mark_interrupted("prod", datetime.now(UTC)) == []
    operation = stores.operations.find("p-1")
    assert operation is not None
    assert (operation.status, operation.details.get("interrupted")) == (OperationStatus.SUCCESS, None)
    assert stores.errors.list_unresolved("prod") == []


async def test_an_end_that_no_disk_takes_either_is_an_error_of_the_stores(
    server: PostgresqlForTests, tmp_path: Path
) -> None:
    await begin("p-3")
    # As on a full disk, no journal can be written.
    (tmp_path / "journal").write_text("")
    server.control("stop", "-m", "immediate")
    try:
        with pytest.raises(StoreUnreachableError):
            await finish_operation("p-3", OperationStatus.SUCCESS, datetime.now(UTC), OperationRecord())
    finally:
        server.control("start")


async def test_a_failure_is_recorded_once_with_its_reason(server: PostgresqlForTests) -> None:
    await begin("p-2")
    await record_step("p-2", "created", None, datetime.now(UTC), "")
    details = {"reason": "web did not start", "error": "StartFailedError", "undone": "removed web"}
    server.control("stop", "-m", "immediate")
    try:
        await finish_operation("p-2", OperationStatus.FAILED, datetime.now(UTC), read_record(details))
    finally:
        server.control("start")

    for _ in range(2):
        assert await mark_interrupted("prod", datetime.now(UTC)) == []
    operation = open_stores().operations.find("p-2")
    assert operation is not None
    assert operation.status is OperationStatus.FAILED
    assert {name: operation.details.get(name) for name in details} == details
