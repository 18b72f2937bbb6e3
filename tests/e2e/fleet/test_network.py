"""A host behind a slow network that loses packets, and behind one that is cut: it heals, and its records are true."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from adapters.stores import Stores
from models.operations import OperationStatus, OperationType
from tests.e2e.fleet.conftest import WAITING, LocalHost, made_host
from tests.e2e.fleet.control_plane import ReachedControlPlane, control_plane_at
from tests.support.engines import engine_for_a_while
from tests.support.slow_network import SlowNetwork, slow_network

pytestmark = [pytest.mark.engine, pytest.mark.flow, pytest.mark.campaign(seconds=90)]


@dataclass(frozen=True, slots=True)
class NetworkFleet:
    """A control plane, and a host with an engine of its own that reaches it by a line of its own."""

    line: SlowNetwork
    control: ReachedControlPlane
    host: LocalHost


@contextmanager
def fleet(folder: Path, *, delay_seconds: float, loss: float) -> Iterator[NetworkFleet]:
    with (
        slow_network(delay_seconds, loss) as line,
        control_plane_at(line.here, folder) as control,
        engine_for_a_while(inside=line.inside) as engine,
        made_host(
            folder / "alpha",
            ROAS_HOST_NAME="alpha",
            PREFECT_API_SSL_CERT_FILE=str(control.certificate),
            DOCKER_HOST=engine.address,
        ) as host,
    ):
        host.inside = line.inside
        yield NetworkFleet(line, control, host)


def healed(host: LocalHost, times: int) -> None:
    host.until(lambda: host.text().count("web healthy again") == times)


def one_record_each(fleet: NetworkFleet, name: str, times: int) -> None:
    """Wait until the stores have so many recoveries, and show that each is there once and no error is left."""
    with fleet.control.stores() as stores:
        fleet.host.until(lambda: len(stores.recoveries.find(environment=name)) >= times, seconds=300)
        fleet.host.until(lambda: not stores.errors.list_unresolved(name), seconds=300)
        found = stores.recoveries.find(environment=name)
        assert [one.success for one in found] == [True] * times
        assert len({one.attempt_id for one in found}) == times
        assert {one.error_id for one in found} == {one.error_id for one in stores.errors.latest(name)}
        assert stores.tickets.find(environment=name) == []


def test_over_a_slow_network_that_loses_packets_a_host_works_and_heals_at_once(tmp_path: Path) -> None:
    with fleet(tmp_path, delay_seconds=0.1, loss=0.05) as made:
        host, plane, address = made.host, made.control.plane, made.control.address
        name = host.declare()
        said = host.roas("join", address, plane.invite("alpha"), "--no-service")
        assert f"enrolled at {address} as alpha" in said, said
        host.begin(PREFECT_WORKER_QUERY_SECONDS="1")
        run = plane.begin(f"startup/{name}")
        host.until(lambda: plane.state(run) == "COMPLETED", seconds=600)
        host.watched(name)
        for times in (1, 2, 3):
            host.kill(name)
            healed(host, times)
        one_record_each(made, name, 3)
        with made.control.stores() as stores:
            (start,) = stores.operations.history(name, OperationType.START)
            assert start.status is OperationStatus.SUCCESS
        # Stopped by a person it stays so, however late the stores tell.
        stopped = host.roas("stop", name)
        assert f"stop of {name}: success" in stopped, stopped
        host.until(lambda: f"{name} is not meant to run" in host.text(), seconds=300)
        assert not host.runs(name)
        healed(host, 3)
        assert made.line.lost


def test_while_a_host_is_cut_off_it_heals_and_the_other_ones_records_go_on(tmp_path: Path) -> None:
    with (
        fleet(tmp_path, delay_seconds=0, loss=0) as made,
        made_host(tmp_path / "beta", ROAS_HOST_NAME="beta") as beta,
    ):
        alpha, plane = made.host, made.control.plane
        first, second = alpha.declare(), beta.declare()
        waiting = alpha.declare(WAITING)
        for host, address, name in ((alpha, made.control.address, "alpha"), (beta, plane.address, "beta")):
            said = host.roas("join", address, plane.invite(name), "--no-service")
            assert f"as {name}" in said, said
            host.begin(PREFECT_WORKER_QUERY_SECONDS="1")
        for host, name in ((alpha, first), (beta, second)):
            run = plane.begin(f"startup/{name}")
            host.until(lambda run=run: plane.state(run) == "COMPLETED", seconds=600)  # type: ignore[misc]
            host.watched(name)
        under_way = plane.begin(f"startup/{waiting}")
        alpha.until(lambda: alpha.state(waiting).startswith("running"), seconds=300)

        made.line.cut()
        alpha.let_be_well(waiting)
        for times in (1, 2):
            alpha.kill(first)
            beta.kill(second)
            healed(alpha, times)
            healed(beta, times)
        with made.control.stores() as stores:
            # The one that is connected records at once.
            beta.until(lambda: len(stores.recoveries.find(environment=second)) == 2)
            assert not stores.recoveries.find(environment=first)
        made.line.mend()

        one_record_each(made, first, 2)
        one_record_each(made, second, 2)
        with made.control.stores() as stores:
            alpha.until(lambda: ended(stores, waiting), seconds=600)
            (start,) = stores.operations.history(waiting, OperationType.START)
            assert start.status is OperationStatus.SUCCESS, start.details
        alpha.until(lambda: plane.state(under_way) == "COMPLETED", seconds=300)
        assert alpha.runs(waiting)


def ended(stores: Stores, name: str) -> bool:
    found = stores.operations.history(name, OperationType.START)
    return bool(found) and all(one.ended_at is not None for one in found)
