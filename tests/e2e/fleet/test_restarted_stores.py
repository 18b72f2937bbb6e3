"""PostgreSQL, or the Prefect server, is killed in the middle of a start and of a recovery, and begun again later."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from adapters.stores import Stores
from models.operations import OperationStatus, OperationType
from models.settings import Settings
from tests.e2e.fleet.conftest import WAITING, LocalHost
from tests.e2e.fleet.control_plane import OwnControlPlane, own_control_plane
from tests.support.postgresql_server import PostgresqlForTests, postgresql

pytestmark = [pytest.mark.engine, pytest.mark.flow, pytest.mark.campaign(seconds=25)]


@pytest.fixture
def database() -> Iterator[tuple[PostgresqlForTests, str]]:
    with postgresql() as server, server.database() as url:
        yield server, url


@pytest.fixture
def server(tmp_path: Path) -> Iterator[OwnControlPlane]:
    with own_control_plane(tmp_path / "plane") as running:
        yield running


def begin_start(host: LocalHost, name: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", "from cli.entry import main; main()", "start", name]
    return subprocess.Popen(
        command, env=os.environ | host.variables, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def is_true_of_one_start(host: LocalHost, stores: Stores, name: str) -> None:
    """One start is on record, it succeeded and is proven, and nothing is left of how it came to that."""
    (start,) = stores.operations.history(name, OperationType.START)
    assert start.status is OperationStatus.SUCCESS, start.details
    assert stores.operations.list_running(name) == []
    assert stores.progress.last_changes(name)["web"].new_state == "healthy"
    assert stores.errors.list_unresolved(name) == []
    assert stores.tickets.find(environment=name) == []
    assert host.runs(name)
    shown = host.roas("history", start.deployment_id)
    assert f"start of {name}: success" in shown, shown
    assert "success" in host.roas("history", name)


def is_true_of_one_recovery(host: LocalHost, stores: Stores, name: str) -> None:
    """One recovery is on record, it succeeded, and its error is resolved without a ticket."""
    host.until(lambda: bool(stores.recoveries.find(environment=name)))
    host.until(lambda: not stores.errors.list_unresolved(name))
    (recovery,) = stores.recoveries.find(environment=name)
    assert (recovery.success, recovery.ended_at is not None) == (True, True)
    (error,) = stores.errors.latest(name)
    assert error.error_id == recovery.error_id
    assert stores.tickets.find(environment=name) == []
    assert host.runs(name)
    host.until(lambda: not list((host.folder / "data" / "journal").glob("*.jsonl")))


def test_postgresql_killed_in_the_middle_of_a_start(host: LocalHost, database: tuple[PostgresqlForTests, str]) -> None:
    postgres, url = database
    host.variables["ROAS_STORES_URL"] = url
    name = host.declare(WAITING)
    starting = begin_start(host, name)
    host.until(lambda: host.state(name).startswith("running"), seconds=300)
    postgres.control("stop", "-m", "immediate")
    host.let_be_well(name)
    assert starting.stdout is not None
    said = ""
    while "the stores are away; waiting for them" not in said:
        said += (line := starting.stdout.readline())
        assert line, said
    postgres.control("start")
    said += starting.communicate(timeout=300)[0]
    assert starting.returncode == 0, said
    assert "the stores are back after" in said
    with Stores.open(Settings(data_dir=host.folder / "reading", stores_url=url)) as stores:
        is_true_of_one_start(host, stores, name)


def test_postgresql_killed_in_the_middle_of_a_recovery(
    host: LocalHost, database: tuple[PostgresqlForTests, str]
) -> None:
    postgres, url = database
    host.variables["ROAS_STORES_URL"] = url
    name = host.declare(WAITING)
    host.docker("compose", "-p", name, "-f", str(host.folder / name / "compose.yaml"), "up", "-d")
    host.let_be_well(name)
    host.until(lambda: host.runs(name))
    host.begin()
    host.watched(name)
    before = host.state(name)
    host.kill(name)
    # It was started again, and is not proven yet.
    host.until(lambda: host.state(name).startswith("running") and host.state(name) != before)
    postgres.control("stop", "-m", "immediate")
    host.let_be_well(name)
    host.until(lambda: "web healthy again" in host.text())
    postgres.control("start")
    with Stores.open(Settings(data_dir=host.folder / "reading", stores_url=url)) as stores:
        is_true_of_one_recovery(host, stores, name)


def test_the_prefect_server_killed_in_the_middle_of_a_start_and_of_a_recovery(
    host: LocalHost, server: OwnControlPlane
) -> None:
    plane = server.plane
    name = host.declare(WAITING)
    said = host.roas("join", plane.address, plane.invite("alpha"), "--no-service")
    assert "as alpha" in said, said
    host.begin(PREFECT_WORKER_QUERY_SECONDS="1")
    host.watched(name)
    run = plane.begin(f"startup/{name}")
    host.until(lambda: host.state(name).startswith("running"), seconds=300)
    server.kill()
    host.let_be_well(name)
    with host.stores() as stores:
        host.until(lambda: stores.operations.list_running(name) == [], seconds=300)
        server.start()
        host.until(lambda: plane.state(run) == "COMPLETED", seconds=300)
        is_true_of_one_start(host, stores, name)

        before = host.state(name)
        host.kill(name)
        host.until(lambda: host.state(name).startswith("running") and host.state(name) != before)
        server.kill()
        host.let_be_well(name)
        host.until(lambda: "web healthy again" in host.text())
        server.start()
        is_true_of_one_recovery(host, stores, name)
