"""A host ends its own operations whose runner is gone; the control plane ends those of hosts that are gone."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import sqlalchemy as sa

from adapters.server.store_roles import make_role
from models.hosts import HostIdentity
from models.operations import Operation, OperationStatus, OperationType
from models.settings import Settings
from tasks.deployment.operations import mark_interrupted
from tasks.runtime.hosts import this_host
from tasks.runtime.stores import open_stores
from tests.support.postgresql_server import PostgresqlForTests, postgresql

OTHER = HostIdentity(host_id="h-other", name="other")
HOUR_AGO = datetime.now(UTC) - timedelta(hours=1)


@pytest.fixture(scope="module")
def server() -> Iterator[PostgresqlForTests]:
    with postgresql() as started:
        yield started


@pytest.fixture
def on(server: PostgresqlForTests, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], None]]:
    """Be a machine of the fleet: its control plane, or an enrolled host by its role."""
    with server.database() as url:

        def become(role: str) -> None:
            open_stores().close()
            monkeypatch.setenv("ROAS_STORES_URL", url.replace("roas@", f"{role}@"))
            monkeypatch.setenv("ROAS_DATA_DIR", str(tmp_path / role))

        monkeypatch.setenv("ROAS_DATA_DIR", str(tmp_path / "roas"))
        monkeypatch.setenv("ROAS_STORES_URL", url)
        become("roas")
        monkeypatch.setenv("ROAS_DATA_DIR", str(tmp_path / "host-here"))
        make_role(Settings(data_dir=tmp_path, stores_url=url), "host-here", this_host().host_id)
        become("roas")
        yield become
        open_stores().close()


def belongs(environment: str, host: HostIdentity) -> None:
    """An operation of an environment of a host, an hour old, whose runner is of a machine that cannot be asked."""
    stores = open_stores()
    stores.hosts.bind(environment, host)
    stores.operations.begin(
        Operation(
            deployment_id=f"d-{environment}",
            operation_type=OperationType.START,
            environment=environment,
            status=OperationStatus.RUNNING,
            started_at=HOUR_AGO,
            host_id=host.host_id,
            details={"runner": {"host": "gone", "kernel": "k", "pid": 1, "process_started": 1, "flow_run_id": ""}},
        )
    )


def silent(host: HostIdentity) -> None:
    with open_stores().databases["deployment_logs"].write() as connection:
        said = "UPDATE hosts SET last_contact = last_contact - interval '61 seconds' WHERE host_id = :id"
        connection.execute(sa.text(said), {"id": host.host_id})


async def test_a_host_ends_its_own_and_leaves_those_of_a_dead_host(on: Callable[[str], None]) -> None:
    open_stores().hosts.report(OTHER, version="1", engine="", backlog=0)
    silent(OTHER)
    belongs("theirs", OTHER)
    on("host-here")
    belongs("mine", this_host())

    assert await mark_interrupted(None, datetime.now(UTC)) == ["d-mine"]

    assert open_stores().operations.get("d-theirs").status is OperationStatus.RUNNING


async def test_the_control_plane_ends_those_of_a_host_that_is_gone_only(on: Callable[[str], None]) -> None:
    del on
    open_stores().hosts.report(OTHER, version="1", engine="", backlog=0)
    belongs("theirs", OTHER)
    assert await mark_interrupted(None, datetime.now(UTC)) == []
    silent(OTHER)
    assert await mark_interrupted(None, datetime.now(UTC)) == [], "as every host is just after an outage of the stores"
    open_stores().hosts.notice()
    assert await mark_interrupted(None, datetime.now(UTC)) == ["d-theirs"]
