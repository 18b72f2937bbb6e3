"""Two hosts with an engine each, one Prefect server, and one PostgreSQL for the stores, which is killed meanwhile."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from adapters.stores import Stores
from models.settings import Settings
from tests.e2e.fleet.conftest import Host, made_host
from tests.e2e.fleet.control_plane import ControlPlane
from tests.support.engines import OwnEngine
from tests.support.postgresql_server import PostgresqlForTests, postgresql
from tests.support.prefect_server import own_server

pytestmark = [pytest.mark.engine, pytest.mark.flow]


@pytest.fixture
def database() -> Iterator[tuple[PostgresqlForTests, str]]:
    with postgresql() as server, server.database() as url:
        yield server, url


@pytest.fixture
def plane(
    database: tuple[PostgresqlForTests, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[ControlPlane]:
    """A control plane that gives its hosts access to the stores."""
    _, url = database
    with ExitStack() as running:
        with monkeypatch.context() as server_alone:
            server_alone.setenv("ROAS_STORES_URL", url)
            server_alone.setenv("ROAS_HOSTS_STORES_URL", url.replace("roas@", ""))
            address = running.enter_context(own_server(tmp_path / "plane"))
        yield ControlPlane(address, tmp_path / "plane")


@pytest.fixture
def hosts(tmp_path: Path) -> Iterator[tuple[Host, Host]]:
    with (
        made_host(tmp_path / "alpha", ROAS_HOST_NAME="alpha") as one,
        made_host(tmp_path / "beta", ROAS_HOST_NAME="beta") as other,
    ):
        yield one, other


def test_each_host_has_its_own_and_heals_while_the_stores_are_away(
    hosts: tuple[Host, Host],
    plane: ControlPlane,
    database: tuple[PostgresqlForTests, str],
    own_engine: OwnEngine,
) -> None:
    alpha, beta = hosts
    server, url = database
    first, second = alpha.declare(), beta.declare(engine=own_engine.address)
    for host, name in ((alpha, "alpha"), (beta, "beta")):
        host.roas("enrol", plane.address, plane.invite(name), "--no-service")
        host.begin(PREFECT_WORKER_QUERY_SECONDS="1")
    for host, name in ((alpha, first), (beta, second)):
        run = plane.begin(f"startup/{name}")
        host.until(lambda run=run: plane.state(run) == "COMPLETED", seconds=180)
        host.watched(name)
    assert alpha.runs(first)
    assert own_engine.docker("ps", "--format", "{{.Names}}").split() == [f"{second}-web-1"]

    fleet = alpha.roas("fleet")
    assert all(name in fleet for name in ("alpha", "beta", first, second)), fleet
    # The file of one on the other host: it is refused there, and nothing is done.
    alpha.write(second, (beta.folder / "environments" / f"{second}.yaml").read_text())
    refused = alpha.roas("stop", second)
    assert f"Environment {second} belongs to host beta" in refused
    assert own_engine.docker("ps", "--format", "{{.Names}}").split() == [f"{second}-web-1"]

    def healed(host: Host, times: int) -> None:
        host.until(lambda: host.text().count("web healthy again") == times)

    server.control("stop", "-m", "immediate")
    try:
        for times in (1, 2):
            alpha.kill(first)
            own_engine.docker("kill", f"{second}-web-1")
            healed(alpha, times)
            healed(beta, times)
    finally:
        server.control("start")
    settings = Settings(data_dir=alpha.folder / "reading", stores_url=url)
    with Stores.open(settings) as stores:
        for host, name in ((alpha, first), (beta, second)):
            host.until(lambda name=name: len(stores.recoveries.find(environment=name)) == 2, seconds=120)
            assert [one.success for one in stores.recoveries.find(environment=name)] == [True, True]
