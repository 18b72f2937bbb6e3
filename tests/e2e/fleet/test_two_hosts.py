"""Two hosts, each with its engine in a network namespace of its own, and one control plane with its PostgreSQL."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest

from adapters.stores import Stores
from tests.e2e.fleet.conftest import LocalHost, made_host
from tests.e2e.fleet.control_plane import ReachedControlPlane, control_plane_at
from tests.support.namespaces import machines

pytestmark = [pytest.mark.engine, pytest.mark.flow, pytest.mark.campaign(seconds=60)]

PAGE = """
web:
  image: debian:trixie-slim
  init: true
  command:
    - perl
    - -MIO::Socket::INET
    - -e
    - |
      my $$s = IO::Socket::INET->new(LocalPort => 8080, Listen => 9, ReuseAddr => 1) or die;
      while (my $$c = $$s->accept) {{ <$$c>; print $$c "HTTP/1.0 200 OK\\r\\n\\r\\nof {host}"; close $$c }}
  ports: ["127.0.0.1:8088:8080"]
"""


@dataclass(frozen=True, slots=True)
class TwoHosts:
    alpha: LocalHost
    beta: LocalHost
    control: ReachedControlPlane


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[TwoHosts]:
    with ExitStack() as held:
        address, found = held.enter_context(machines(2))
        control = held.enter_context(control_plane_at(address, tmp_path))
        hosts = []
        for name, machine in zip(("alpha", "beta"), found, strict=True):
            variables = {
                "ROAS_HOST_NAME": name,
                "DOCKER_HOST": machine.engine.address,
                "PREFECT_API_SSL_CERT_FILE": str(control.certificate),
            }
            host = held.enter_context(made_host(tmp_path / name, **variables))
            host.inside = machine.inside
            hosts.append(host)
        alpha, beta = hosts
        yield TwoHosts(alpha, beta, control)


def declare(host: LocalHost) -> str:
    """An application of both hosts: addresses and published ports are the same on each, the answers are not."""
    name = host.variables["ROAS_HOST_NAME"]
    probe = f"{{kind: http, port: 8080, path: /, contains: of {name}}}"
    return host.declare(PAGE.format(host=name), services=f"{{web: {{probe: {probe}}}}}")


def answers(host: LocalHost) -> str:
    command = [*host.inside, "curl", "--silent", "http://127.0.0.1:8088/"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def container(host: LocalHost) -> str:
    """Name and address of the one container of a host."""
    shown = "{{.Name}} {{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}"
    (name,) = host.docker("ps", "--all", "--format", "{{.Names}}").split()
    return host.docker("inspect", "--format", shown, name)


def outcomes(stores: Stores, environment: str) -> list[bool | None]:
    return [one.success for one in stores.recoveries.find(environment=environment)]


def test_each_host_has_its_own_and_heals_while_the_stores_are_away(fleet: TwoHosts) -> None:
    alpha, beta, plane = fleet.alpha, fleet.beta, fleet.control.plane
    first, second = declare(alpha), declare(beta)
    both = ((alpha, "alpha", first), (beta, "beta", second))
    for host, name, _ in both:
        said = host.roas("join", fleet.control.address, plane.invite(name), "--no-service")
        assert f"enrolled at {fleet.control.address} as {name}" in said, said
        host.begin(PREFECT_WORKER_QUERY_SECONDS="1")
    for host, _, environment in both:
        run = plane.begin(f"startup/{environment}")
        host.until(lambda run=run: plane.state(run) == "COMPLETED", seconds=600)  # type: ignore[misc]
        host.watched(environment)
    # Each sees its own at the same address.
    (one, address), (other, same) = container(alpha).split(), container(beta).split()
    assert (one, other, address) == (f"/{first}-web-1", f"/{second}-web-1", same)
    assert (answers(alpha), answers(beta)) == ("of alpha", "of beta")

    shown = alpha.roas("fleet")
    assert all(name in shown for name in ("alpha", "beta", first, second)), shown
    # The file of one on the other host: it is refused there, and nothing is done.
    alpha.write(second, (beta.folder / "environments" / f"{second}.yaml").read_text())
    assert f"Environment {second} belongs to host beta" in alpha.roas("stop", second)
    assert container(beta).split()[0] == other

    def healed(times: int) -> None:
        for host, _, _ in both:
            host.until(lambda host=host: host.text().count("web healthy again") == times)  # type: ignore[misc]

    fleet.control.database.control("stop", "-m", "immediate")
    try:
        for times in (1, 2):
            for host, _, environment in both:
                host.kill(environment)
            healed(times)
    finally:
        fleet.control.database.control("start")
    assert (answers(alpha), answers(beta)) == ("of alpha", "of beta")
    with fleet.control.stores() as stores:
        for host, _, environment in both:
            recovered = partial(outcomes, stores, environment)
            host.until(lambda recovered=recovered: recovered() == [True, True], seconds=300)  # type: ignore[misc]
