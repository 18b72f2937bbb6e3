"""What a host records is with its control plane once, as it stands at the host, and nothing of others is touched."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from adapters.stores import Stores
from adapters.stores.ingest import Ingest
from adapters.stores.outbox import Outbox
from adapters.stores.sql import tables_of
from core.storage.shipping import SHIPPED
from models.errors import BusinessImpact, Impact, ImpactType
from models.health import Health, HealthReport
from models.metrics import Metric
from models.operations import OperationStatus
from models.settings import Settings
from models.shipping import Batch, Part, Receipt
from tests.integration.stores.values import BUNDLE, NOON, operation, record_some
from tests.support.postgresql_server import PostgresqlForTests

HOST, OTHER = "host-a", "host-b"


@pytest.fixture
def centre(server: PostgresqlForTests, tmp_path: Path) -> Iterator[Stores]:
    with server.database() as url, Stores.open(Settings(data_dir=tmp_path / "centre", stores_url=url)) as stores:
        yield stores


@pytest.fixture
def ingest(centre: Stores) -> Ingest:
    made = Ingest(centre)
    made.prepare()
    made.prepare()
    return made


@pytest.fixture
def host(made_files: Path, tmp_path: Path) -> Iterator[Stores]:
    shutil.copytree(made_files, tmp_path / "host")
    with Stores.open(Settings(data_dir=tmp_path / "host")) as stores:
        yield stores


def batch(number: int, *parts: Part) -> Batch:
    now = datetime.now(UTC)
    return Batch(number=number, sent_at=now, oldest_at=now, name="a", version="1", parts=list(parts))


def ship(host: Stores, ingest: Ingest, number: int = 1, *, host_id: str = HOST) -> Receipt:
    outbox = Outbox(host)
    outbox.begin()
    taken = outbox.take(100_000)
    assert taken is not None
    receipt = ingest.apply(host_id, batch(number, *taken.parts))
    outbox.drop(taken.up_to)
    assert outbox.take(1) is None
    return receipt


def rows(stores: Stores, store: str, table: str) -> list[dict[str, Any]]:
    """All rows of a table without their numbers, as values."""
    columns = [column for name, column in tables_of(store)[table].columns.items() if name != "id"]
    with stores.databases[store].read() as connection:
        found = [dict(row._mapping) for row in connection.execute(sa.select(*columns))]
    return sorted(found, key=repr)


def fill(stores: Stores) -> None:
    record_some(stores)
    stores.evidence.keep(BUNDLE)
    stores.errors.add_impact(
        "e1",
        Impact(
            impact_type=ImpactType.SERVICE_DOWN,
            affected_services=("web",),
            estimated_recovery_seconds=30,
            business_impact=BusinessImpact.LOW,
        ),
        NOON,
    )
    samples = [
        Metric(
            environment="prod", service=service, name="cpu_usage", value=value, sampled_at=NOON + timedelta(seconds=n)
        )
        for n, value in enumerate((1.5, 2.5, 3.25))
        for service in ("web", "db")
    ]
    stores.metrics.add(samples)
    stores.health.record(HealthReport(environment="prod", checked_at=NOON, overall=Health.HEALTHY, services=()))


def test_all_tables_of_a_host_have_a_rule_or_a_reason() -> None:
    own = {"archives", "alembic_version", "dead_letters", "cross_store_version", "cross_store_intents"}
    # The log goes along entry by entry, series with their samples, hosts and their environments by each batch.
    own |= {"spool_positions", "audit_log", "metric_series", "hosts", "environment_hosts", "error_patterns"}
    # What the detector and the notifications of a host remember, and when its own processes were seen.
    own |= {"metric_states", "heartbeats"}
    for store, shipped in SHIPPED.items():
        assert set(tables_of(store)) - set(shipped) - own == set()


def test_what_a_host_records_is_with_its_control_plane_as_it_stands(
    host: Stores, centre: Stores, ingest: Ingest
) -> None:
    fill(host)
    receipt = ship(host, ingest)
    assert receipt.refused == []
    for store, tables in SHIPPED.items():
        for table in tables:
            if table not in ("metric_samples", "metric_hours", "metric_days"):
                assert rows(centre, store, table) == rows(host, store, table), table
    sampled = [
        {(one.service, one.name, one.value) for one in stores.metrics.latest("prod")} for stores in (host, centre)
    ]
    assert sampled[0] == sampled[1] != set()
    host.operations.begin(operation("prod-3"))
    host.operations.finish("prod-3", OperationStatus.SUCCESS, NOON)
    host.pauses.resume("prod", None)
    assert ship(host, ingest, 2).refused == []
    assert rows(centre, "errors", "recovery_controls") == []
    assert centre.operations.get("prod-3").status is OperationStatus.SUCCESS
    (known,) = centre.hosts.all()
    assert (known.host_id, known.name, known.version) == (HOST, "a", "1")


def test_a_batch_that_comes_again_or_late_changes_nothing(host: Stores, centre: Stores, ingest: Ingest) -> None:
    fill(host)
    outbox = Outbox(host)
    outbox.begin()
    first = outbox.take(100_000)
    assert first is not None
    host.operations.begin(operation("prod-3"))
    second = outbox.take(100_000)
    assert second is not None
    host.operations.finish("prod-3", OperationStatus.SUCCESS, NOON)
    third = outbox.take(100_000)
    assert third is not None
    ingest.apply(HOST, batch(1, *first.parts))
    ingest.apply(HOST, batch(3, *third.parts))
    late = ingest.apply(HOST, batch(2, *second.parts))
    assert (late.last, late.rows) == (3, 0)
    assert centre.operations.get("prod-3").status is OperationStatus.SUCCESS
    before = {(store, table): rows(centre, store, table) for store, tables in SHIPPED.items() for table in tables}
    ingest.apply(HOST, batch(4, *third.parts))
    assert before == {
        (store, table): rows(centre, store, table) for store, tables in SHIPPED.items() for table in tables
    }


def test_a_host_writes_nothing_of_another_one(host: Stores, centre: Stores, ingest: Ingest) -> None:
    fill(host)
    ship(host, ingest)
    before = {(store, table): rows(centre, store, table) for store, tables in SHIPPED.items() for table in tables}
    # Its own environment, with the ids of another host's.
    stolen = ingest.apply(OTHER, batch(1, *_as_own(host)))
    assert stolen.rows == 0 or stolen.refused
    assert before == {
        (store, table): rows(centre, store, table) for store, tables in SHIPPED.items() for table in tables
    }
    plain = Outbox(host)
    plain.end()
    plain.begin()
    taken = plain.take(100_000)
    assert taken is not None
    refused = ingest.apply(OTHER, batch(2, *taken.parts)).refused
    assert any("belongs to another host" in one.why for one in refused)
    assert before == {
        (store, table): rows(centre, store, table) for store, tables in SHIPPED.items() for table in tables
    }


def _as_own(host: Stores) -> list[Part]:
    outbox = Outbox(host)
    outbox.end()
    outbox.begin()
    taken = outbox.take(100_000)
    assert taken is not None
    return [
        Part(
            store=part.store,
            table=part.table,
            rows=[{**row, **({"environment": "mine"} if "environment" in row else {})} for row in part.rows],
        )
        for part in taken.parts
        if part.table in ("deployment_operations", "deployment_errors", "manual_intervention_tickets", "ticket_history")
        or part.table in ("error_impact_analysis", "evidence_bundles")
    ]


def test_what_postgresql_refuses_is_said_and_the_rest_is_applied(host: Stores, centre: Stores, ingest: Ingest) -> None:
    fill(host)
    outbox = Outbox(host)
    outbox.begin()
    taken = outbox.take(100_000)
    assert taken is not None
    bad = [
        Part(
            store="errors",
            table="deployment_errors",
            rows=[{"error_id": "e9", "environment": "prod", "severity": "no"}],
        ),
        Part(store="errors", table="pg_authid", rows=[{"a": 1}]),
        Part(store="monitoring", table="alerts", rows=[{"alert_id": "a1"}, {"alert_id": "a2", "environment": 3}]),
        Part(
            store="deployment_logs",
            table="operation_steps",
            rows=[{"deployment_id": "none", "step": "s", "service": ""}],
        ),
    ]
    receipt = ingest.apply(HOST, batch(1, *bad, *taken.parts))
    assert len(receipt.refused) == 4
    assert {one.why for one in receipt.refused} >= {
        "this control plane has no such table",
        "a row of alerts names no environment",
    }
    assert centre.errors.get("e1").error_id == "e1"
    assert rows(centre, "errors", "deployment_errors") == rows(host, "errors", "deployment_errors")


def test_an_audit_log_that_was_written_anew_is_refused(host: Stores, centre: Stores, ingest: Ingest) -> None:
    fill(host)
    ship(host, ingest)
    with host.databases["errors"].write() as connection:
        connection.exec_driver_sql("UPDATE audit_log SET hash = printf('%064d', 0) WHERE seq = 2")
    (refusal,) = ship(host, ingest, 2).refused
    assert refusal.why == "entry 2 has a hash that is not of what it says"


def test_only_samples_are_thinned_and_the_oldest_first(host: Stores) -> None:
    outbox = Outbox(host)
    outbox.begin()
    fill(host)
    assert outbox.thin(100) == 0
    assert outbox.thin(0) > 0
    after = outbox.take(100_000)
    assert after is not None
    kept = {part.table for part in after.parts}
    assert kept >= {"deployment_operations", "deployment_errors", "manual_intervention_tickets", "audit_log"}
    assert kept.isdisjoint({"metric_samples", "deployment_health_history"})
