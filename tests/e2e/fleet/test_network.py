"""A host behind a slow network that loses packets, and behind one that is cut: it heals, and its records are true."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from adapters.stores import Stores
from models.operations import OperationStatus, OperationType
from models.settings import Settings
from tests.e2e.fleet.conftest import Host, made_host
from tests.e2e.fleet.control_plane import ControlPlane, own_control_plane
from tests.support.certificates import self_signed
from tests.support.engines import OwnEngine
from tests.support.ports import free_port
from tests.support.postgresql_server import postgresql
from tests.support.slow_network import SlowNetwork, slow_network
from tests.support.tls_front import tls_front

pytestmark = [pytest.mark.engine, pytest.mark.flow]

WAITING = """
web:
  image: debian:trixie-slim
  init: true
  command: [sleep, '600']
  healthcheck:
    {test: [CMD, test, -e, /tmp/well], interval: 1s, timeout: 1s, retries: 9, start_period: 300s, start_interval: 200ms}
"""
"""It is healthy once the test says so."""


@dataclass(frozen=True, slots=True)
class Fleet:
    """A control plane, and a host that reaches it by a line of its own."""

    line: SlowNetwork
    plane: ControlPlane
    address: str
    """The control plane's, as the host reaches it."""
    host: Host
    stores_url: str

    @contextmanager
    def stores(self) -> Iterator[Stores]:
        settings = Settings(data_dir=self.host.folder.parent / "reading", stores_url=self.stores_url)
        with Stores.open(settings) as stores:
            yield stores


@contextmanager
def fleet(folder: Path, *, delay_seconds: float, loss: float) -> Iterator[Fleet]:
    with ExitStack() as running:
        line = running.enter_context(slow_network(delay_seconds, loss))
        database = running.enter_context(postgresql(line.here))
        url = running.enter_context(database.database())
        port, certificate = free_port(), self_signed(folder, name=line.here, also_named=True)
        server = running.enter_context(
            own_control_plane(
                folder / "plane",
                ROAS_STORES_URL=url,
                ROAS_HOSTS_STORES_URL=database.url_elsewhere(url),
                ROAS_SERVER_HOSTS=f"{line.here}:{port}",
            )
        )
        running.enter_context(tls_front(line.here, port, server.port, certificate))
        host = running.enter_context(
            made_host(folder / "alpha", ROAS_HOST_NAME="alpha", PREFECT_API_SSL_CERT_FILE=str(certificate))
        )
        host.inside = line.inside
        yield Fleet(line, server.plane, f"https://{line.here}:{port}", host, url)


def healed(host: Host, times: int) -> None:
    host.until(lambda: host.text().count("web healthy again") == times)


def one_record_each(fleet: Fleet, name: str, times: int) -> None:
    """Wait until the stores have so many recoveries, and show that each is there once and no error is left."""
    with fleet.stores() as stores:
        fleet.host.until(lambda: len(stores.recoveries.find(environment=name)) >= times, seconds=120)
        fleet.host.until(lambda: not stores.errors.unresolved(name), seconds=60)
        found = stores.recoveries.find(environment=name)
        assert [one.success for one in found] == [True] * times
        assert len({one.attempt_id for one in found}) == times
        assert {one.error_id for one in found} == {one.error_id for one in stores.errors.latest(name)}
        assert stores.tickets.find(environment=name) == []


@pytest.mark.timeout(600)
def test_over_a_slow_network_that_loses_packets_a_host_works_and_heals_at_once(tmp_path: Path) -> None:
    with fleet(tmp_path, delay_seconds=0.1, loss=0.05) as made:
        host = made.host
        name = host.declare()
        said = host.roas("enrol", made.address, made.plane.invite("alpha"), "--no-service")
        assert f"enrolled at {made.address} as alpha" in said, said
        host.begin(PREFECT_WORKER_QUERY_SECONDS="1")
        run = made.plane.begin(f"startup/{name}")
        host.until(lambda: made.plane.state(run) == "COMPLETED", seconds=240)
        host.watched(name)
        for times in (1, 2, 3):
            host.kill(name)
            healed(host, times)
        one_record_each(made, name, 3)
        with made.stores() as stores:
            (start,) = stores.operations.history(name, OperationType.START)
            assert start.status is OperationStatus.SUCCESS
        # Stopped by a person it stays so, however late the stores tell.
        stopped = host.roas("stop", name)
        assert f"stop of {name}: success" in stopped, stopped
        host.until(lambda: f"{name} is not meant to run" in host.text(), seconds=120)
        assert not host.runs(name)
        healed(host, 3)
        assert made.line.lost


@pytest.mark.timeout(600)
def test_while_a_host_is_cut_off_it_heals_and_the_other_ones_records_go_on(
    tmp_path: Path, own_engine: OwnEngine
) -> None:
    with (
        fleet(tmp_path, delay_seconds=0, loss=0) as made,
        made_host(tmp_path / "beta", ROAS_HOST_NAME="beta") as beta,
    ):
        alpha, plane = made.host, made.plane
        first, second = alpha.declare(), beta.declare(engine=own_engine.address)
        waiting = alpha.declare(WAITING)
        for host, address, name in ((alpha, made.address, "alpha"), (beta, plane.address, "beta")):
            said = host.roas("enrol", address, plane.invite(name), "--no-service")
            assert f"as {name}" in said, said
            host.begin(PREFECT_WORKER_QUERY_SECONDS="1")
        for host, name in ((alpha, first), (beta, second)):
            run = plane.begin(f"startup/{name}")
            host.until(lambda run=run: plane.state(run) == "COMPLETED", seconds=180)  # type: ignore[misc]
            host.watched(name)
        under_way = plane.begin(f"startup/{waiting}")
        alpha.until(lambda: exists(waiting), seconds=120)

        made.line.cut()
        subprocess.run(["docker", "exec", f"{waiting}-web-1", "touch", "/tmp/well"], check=True)
        for times in (1, 2):
            alpha.kill(first)
            own_engine.docker("kill", f"{second}-web-1")
            healed(alpha, times)
            healed(beta, times)
        with made.stores() as stores:
            # The one that is connected records at once.
            beta.until(lambda: len(stores.recoveries.find(environment=second)) == 2)
            assert not stores.recoveries.find(environment=first)
        made.line.mend()

        one_record_each(made, first, 2)
        one_record_each(made, second, 2)
        with made.stores() as stores:
            alpha.until(lambda: ended(stores, waiting), seconds=180)
            (start,) = stores.operations.history(waiting, OperationType.START)
            assert start.status is OperationStatus.SUCCESS, start.details
        alpha.until(lambda: plane.state(under_way) == "COMPLETED", seconds=120)
        assert alpha.runs(waiting)


def exists(name: str) -> bool:
    done = subprocess.run(["docker", "inspect", "--format", "{{.State.Running}}", f"{name}-web-1"], capture_output=True)
    return done.stdout.strip() == b"true"


def ended(stores: Stores, name: str) -> bool:
    found = stores.operations.history(name, OperationType.START)
    return bool(found) and all(one.ended_at is not None for one in found)
