"""The overview shows what `roas status` and `roas fleet` show, by a fixed number of queries."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import sqlalchemy as sa

from flows.page.changes import ChangeReader
from models.health import Health, HealthReport, ServiceHealth, ServiceVerdict
from models.hosts import HostIdentity
from models.operations import Operation, OperationStatus, OperationType
from models.operations.record import OperationRecord
from models.overview import VerdictLevel
from models.records import Release
from models.snapshots import DataSnapshot, SnapshotState
from tasks.reporting.overview import read_overview
from tasks.reporting.read import read_status
from tasks.runtime.stores import open_stores

NOW = datetime.now(UTC)


@pytest.fixture(autouse=True)
def _own_stores(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ROAS_DATA_DIR", str(tmp_path))


def operate(
    environment: str,
    kind: OperationType = OperationType.START,
    status: OperationStatus = OperationStatus.SUCCESS,
    *,
    number: int = 1,
    record: OperationRecord | None = None,
) -> str:
    stores, name = open_stores(), f"{environment}-{number}"
    at = NOW - timedelta(minutes=30 - number)
    operation = Operation(
        deployment_id=name,
        operation_type=kind,
        environment=environment,
        status=OperationStatus.RUNNING,
        started_at=at,
    )
    stores.operations.begin(operation)
    if status is not OperationStatus.RUNNING:
        stores.operations.finish(name, status, at + timedelta(seconds=5), record or OperationRecord())
    return name


def judge(environment: str, *services: ServiceHealth, overall: Health = Health.HEALTHY, at: datetime = NOW) -> None:
    verdicts = tuple(
        ServiceVerdict(service=f"s{place}", health=health, reason="") for place, health in enumerate(services)
    )
    open_stores().health.record(
        HealthReport(environment=environment, overall=overall, checked_at=at, services=verdicts)
    )


@contextmanager
def count_queries() -> Iterator[list[str]]:
    statements: list[str] = []

    def note(_: object, __: object, statement: str, *___: object) -> None:
        if statement.lstrip().upper().startswith(("SELECT", "WITH")):
            statements.append(statement)

    sa.event.listen(sa.Engine, "before_cursor_execute", note)
    try:
        yield statements
    finally:
        sa.event.remove(sa.Engine, "before_cursor_execute", note)


def test_nothing_is_shown_or_made_where_nothing_was_recorded(tmp_path: Path) -> None:
    assert read_overview().environments == ()
    assert list(tmp_path.iterdir()) == []


def test_an_environment_has_the_facts_that_status_prints() -> None:
    # A verdict is old a quarter of an hour after it, and a run of all tests may take longer until this one.
    now = datetime.now(UTC)
    operate("shop")
    judge("shop", ServiceHealth.HEALTHY, ServiceHealth.STOPPED, overall=Health.UNHEALTHY, at=now)
    stores = open_stores()
    stores.heartbeats.beat("collection/shop", now)
    release = Release(release_id="r1", environment="shop", deployment_id="shop-1", created_at=now, proven=True)
    stores.releases.keep(release)
    stores.snapshots.begin(DataSnapshot(snapshot_id="d1", environment="shop", begun_at=now, state=SnapshotState.WHOLE))

    summary = read_overview().environments[0]
    status = read_status("shop")[0]

    assert summary.verdict.words == (status.health.summary if status.health else "")
    assert summary.records.checked_at == status.seen_at
    assert summary.records.last_operation == status.last_operation
    assert (summary.up, summary.services) == (1, 2)
    assert (summary.records.proven_at, summary.records.saved_at) == (now, now)
    assert summary.records.open_tickets == len(status.open_tickets)


def test_a_failed_or_waiting_operation_does_not_hide_that_it_is_stopped() -> None:
    operate("shop", OperationType.STOP)
    refused = OperationRecord(error="BadInputError", undone="no container was touched")
    operate("shop", OperationType.START, OperationStatus.FAILED, number=2, record=refused)
    operate("bot", OperationType.STOP)
    operate("bot", OperationType.START, number=2)

    verdicts = {summary.environment: summary.verdict.level for summary in read_overview().environments}

    assert verdicts["shop"] is VerdictLevel.OFF
    assert verdicts["bot"] is not VerdictLevel.OFF
    assert read_status("shop")[0].stopped_at is not None


def test_reading_many_environments_takes_as_many_queries_as_few() -> None:
    operate("e0")
    judge("e0", ServiceHealth.HEALTHY)
    read_overview()
    with count_queries() as few:
        read_overview()
    for number in range(1, 60):
        operate(f"e{number}", status=OperationStatus.FAILED if number % 2 else OperationStatus.SUCCESS)
        judge(f"e{number}", ServiceHealth.HEALTHY)

    with count_queries() as many:
        overview = read_overview()

    assert len(overview.environments) == 60
    # Where the last operation failed, one more reads those before it, of all environments together.
    assert len(many) <= len(few) + 1
    assert len(many) < 20


def test_environments_name_their_host_where_there_are_several() -> None:
    operate("shop")
    stores = open_stores()
    here, there = HostIdentity(host_id="h-a", name="alpha"), HostIdentity(host_id="h-b", name="beta")
    stores.hosts.bind("shop", here)
    stores.hosts.report(here, version="", engine="", backlog=0)
    assert read_overview().environments[0].host == ""

    stores.hosts.report(there, version="", engine="", backlog=0)
    assert read_overview().environments[0].host == "alpha"


def test_open_pages_learn_which_environments_changed() -> None:
    operate("shop")
    operate("bot")
    reader = ChangeReader()
    assert reader.read() == frozenset()
    assert reader.read() == frozenset()

    judge("bot", ServiceHealth.HEALTHY)
    assert reader.read() == {"bot"}

    operate("shop", OperationType.RESTART, OperationStatus.RUNNING, number=2)
    assert reader.read() == {"shop"}
    # What a running operation does is not read, so that any write counts for it.
    judge("bot", ServiceHealth.STOPPED, overall=Health.UNHEALTHY, at=NOW + timedelta(seconds=1))
    assert "shop" in reader.read()
