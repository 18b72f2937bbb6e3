"""The page on stores that several hosts share: environments name their host, and every part is read."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest

from flows.page.changes import ChangeReader
from flows.page.rendering import BASE
from models.health import Health, HealthReport, ServiceHealth, ServiceVerdict
from models.hosts import HostIdentity
from models.metrics import Metric
from models.operations import Operation, OperationStatus, OperationType
from tasks.runtime.stores import open_stores
from tests.support.page import page_client
from tests.support.postgresql_server import PostgresqlForTests, postgresql

NOW = datetime.now(UTC)


@pytest.fixture(scope="module")
def server() -> Iterator[PostgresqlForTests]:
    with postgresql() as started:
        yield started


@pytest.fixture(autouse=True)
def _shared_stores(server: PostgresqlForTests, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    with server.database() as url:
        monkeypatch.setenv("ROAS_STORES_URL", url)
        yield
        open_stores().close()


def operate(environment: str, host: HostIdentity) -> str:
    stores = open_stores()
    stores.hosts.report(host, version="1", engine="unix:///x", backlog=0)
    stores.hosts.bind(environment, host)
    operation = Operation(
        deployment_id=f"{environment}-1",
        operation_type=OperationType.START,
        environment=environment,
        status=OperationStatus.RUNNING,
        started_at=NOW - timedelta(minutes=1),
    )
    stores.operations.begin(operation)
    stores.operations.finish(operation.deployment_id, OperationStatus.SUCCESS, NOW)
    verdict = ServiceVerdict(service="web", health=ServiceHealth.HEALTHY, reason="answers")
    stores.health.record(
        HealthReport(environment=environment, overall=Health.HEALTHY, checked_at=NOW, services=(verdict,))
    )
    sample = Metric(environment=environment, service="web", name="cpu_usage", value=5, sampled_at=NOW)
    stores.metrics.add([sample])
    return operation.deployment_id


def test_every_part_is_read_of_all_hosts() -> None:
    alpha, beta = HostIdentity(host_id="h-a", name="alpha"), HostIdentity(host_id="h-b", name="beta")
    operation = operate("shop", alpha)
    operate("blog", beta)
    client = page_client()

    overview = client.get(f"{BASE}/").text
    assert "on alpha" in overview
    assert "on beta" in overview
    of_beta = client.get(f"{BASE}/?q=beta").text
    assert "/environments/blog" in of_beta
    assert "/environments/shop" not in of_beta
    for part in ("", "/operations", "/releases", "/snapshots", "/logs", "/report"):
        assert client.get(f"{BASE}/environments/shop{part}").status_code == 200, part
    for path in (f"/operations/{operation}", "/operations", "/tickets", "/fleet"):
        assert client.get(f"{BASE}{path}").status_code == 200, path


def test_changes_are_found_without_files_to_look_at() -> None:
    operate("shop", HostIdentity(host_id="h-a", name="alpha"))
    reader = ChangeReader()
    assert reader.read() == frozenset()
    assert reader.read() == frozenset()

    open_stores().heartbeats.beat("collection/shop", NOW + timedelta(minutes=1))

    assert reader.read() == {"shop"}
