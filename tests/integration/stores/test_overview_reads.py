"""What the overview and the status page read of all environments at once, of files and of PostgreSQL alike."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

from adapters.stores import Stores
from adapters.stores.lifecycle.steps import compress_monitoring
from models.health import Health, HealthReport, ServiceHealth, ServiceVerdict
from models.metrics import HOST, Metric
from models.operations import Operation, OperationStatus, OperationType
from models.records import Release
from models.snapshots import DataSnapshot, SnapshotState

NOON = datetime(2026, 7, 1, 12, tzinfo=UTC)
MINUTE, HOUR = timedelta(minutes=1), timedelta(hours=1)


def judged(environment: str, at: datetime, health: ServiceHealth = ServiceHealth.HEALTHY) -> HealthReport:
    verdict = ServiceVerdict(service="web", health=health, reason="answers")
    return HealthReport(environment=environment, overall=Health.HEALTHY, checked_at=at, services=(verdict,))


def test_the_newest_judgement_of_each_environment_is_read_whole(stores: Stores) -> None:
    newest = {name: judged(name, NOON, ServiceHealth.DEGRADED) for name in ("prod", "dev")}
    for name, report in newest.items():
        stores.health.record(judged(name, NOON - MINUTE))
        stores.health.record(report)

    assert stores.health.latest_of_each() == newest
    assert stores.health.latest_judgements() == dict.fromkeys(newest, ("healthy", NOON))


def test_without_any_record_nothing_is_read(stores: Stores) -> None:
    assert stores.health.latest_of_each() == {}
    assert stores.releases.proven_at() == {}
    assert stores.snapshots.saved_at() == {}
    assert stores.metrics.measured_hours("prod", "load_1m", NOON - HOUR, NOON) == set()


def test_operations_are_read_of_the_environments_that_are_named(stores: Stores) -> None:
    for number in range(3):
        for name in ("prod", "dev", "other"):
            operation = Operation(
                deployment_id=f"{name}-{number}",
                operation_type=OperationType.START,
                environment=name,
                status=OperationStatus.RUNNING,
                started_at=NOON,
            )
            stores.operations.begin(operation)

    latest = stores.operations.latest_recorded_of_each(2, ["prod", "dev", "none"])

    assert {name: [operation.deployment_id for operation in listed] for name, listed in latest.items()} == {
        "prod": ["prod-2", "prod-1"],
        "dev": ["dev-2", "dev-1"],
    }


def test_the_newest_operation_of_each_environment_is_read_but_no_health_check(stores: Stores) -> None:
    def begin(name: str, environment: str, kind: OperationType = OperationType.START) -> None:
        operation = Operation(
            deployment_id=name,
            operation_type=kind,
            environment=environment,
            status=OperationStatus.RUNNING,
            # A clock that was set back changes no order.
            started_at=NOON - len(stores.operations.history()) * MINUTE,
        )
        stores.operations.begin(operation)

    assert stores.operations.newest_recorded() == {}
    for number in range(3):
        for environment in ("prod", "dev"):
            begin(f"{environment}-{number}", environment)
    begin("prod-check", "prod", OperationType.HEALTH_CHECK)
    begin("other-check", "other", OperationType.HEALTH_CHECK)

    newest = stores.operations.newest_recorded()

    assert {name: operation.deployment_id for name, operation in newest.items()} == {"prod": "prod-2", "dev": "dev-2"}
    assert newest["prod"] == stores.operations.latest_recorded("prod", 1)[0]


def test_the_newest_proof_counts_proven_releases_alone(stores: Stores) -> None:
    release = Release(release_id="r1", environment="prod", deployment_id="prod-1", created_at=NOON, proven=True)
    stores.releases.keep(release)
    stores.releases.keep(replace(release, release_id="r0", created_at=NOON - HOUR))
    stores.releases.keep(replace(release, release_id="r2", created_at=NOON + HOUR, proven=False))
    stores.releases.keep(replace(release, release_id="r3", environment="dev", proven=False))

    assert stores.releases.proven_at() == {"prod": NOON}


def test_the_newest_snapshot_counts_whole_ones_alone(stores: Stores) -> None:
    snapshot = DataSnapshot(snapshot_id="s1", environment="prod", begun_at=NOON, state=SnapshotState.WHOLE)
    stores.snapshots.begin(snapshot)
    stores.snapshots.begin(replace(snapshot, snapshot_id="s0", begun_at=NOON - HOUR))
    stores.snapshots.begin(replace(snapshot, snapshot_id="s2", begun_at=NOON + HOUR, state=SnapshotState.FAILED))
    stores.snapshots.begin(replace(snapshot, snapshot_id="s3", environment="dev", state=SnapshotState.BEGUN))

    assert stores.snapshots.saved_at() == {"prod": NOON}


def test_measured_hours_are_those_of_summaries_and_of_samples_since(stores: Stores) -> None:
    def sample(at: datetime, environment: str = "prod", name: str = "load_1m") -> Metric:
        return Metric(environment=environment, service=HOST, name=name, value=1.0, sampled_at=at)

    stores.metrics.add([sample(NOON - 30 * HOUR), sample(NOON - 29 * HOUR + MINUTE), sample(NOON - 27 * HOUR, "dev")])
    stores.metrics.add([sample(NOON - 28 * HOUR, name="load_5m")])
    compress_monitoring(stores, NOON - 12 * HOUR)
    stores.metrics.add([sample(NOON - HOUR), sample(NOON - HOUR + 20 * MINUTE), sample(NOON + HOUR)])

    hours = stores.metrics.measured_hours("prod", "load_1m", NOON - 48 * HOUR, NOON)

    assert hours == {NOON - 30 * HOUR, NOON - 29 * HOUR, NOON - HOUR}
    assert stores.metrics.measured_hours("prod", "load_1m", NOON - 5 * HOUR, NOON) == {NOON - HOUR}
