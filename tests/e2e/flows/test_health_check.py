"""A health check gives every service a verdict with its reason, and writes down what changed since the last word."""

from __future__ import annotations

import subprocess

import pytest

from flows.deployment.startup import startup
from flows.monitoring.health_check import health_check
from models.health import Health, ServiceHealth
from tests.e2e.flows.conftest import IMAGE, Place, well
from tests.support.docker_command import docker_command

pytestmark = [pytest.mark.engine, pytest.mark.flow]


async def test_what_changed_is_recorded_with_its_reason_and_what_did_not_is_not(place: Place) -> None:
    place.declare(well("base") + well("other"))
    await startup("test")
    docker_command("kill", place.container("base"))

    checked = await health_check("test")
    again = await health_check("test")

    with place.stores() as stores:
        (change,) = stores.progress.changes(checked.deployment_id)
        assert stores.progress.changes(again.deployment_id) == []
    assert (change.service, change.previous_state, change.new_state) == ("base", "healthy", "stopped")
    assert "exit code 137" in change.reason.replace("exited with code", "exit code")
    assert checked.deployment_id in change.details["cause"]


async def test_a_service_nothing_proves_is_called_unproven_and_degrades_nothing(place: Place) -> None:
    place.declare(well("base") + f"quiet:\n  image: {IMAGE}\n  init: true\n  command: [sleep, '600']\n")
    await startup("test")

    checked = await health_check("test")

    assert checked.health is not None
    verdicts = {verdict.service: verdict for verdict in checked.health.services}
    assert verdicts["quiet"].health is ServiceHealth.UNPROVEN
    assert "neither health check nor probe" in verdicts["quiet"].reason
    assert (checked.health.overall, checked.health.findings) == (Health.HEALTHY, ())
    assert checked.reason == "test is healthy (1 of 2 services not proven)"


async def test_a_failing_probe_outvotes_a_passing_health_check(place: Place) -> None:
    place.declare(well("base"), services="{base: {probe: {kind: command, command: [test, -e, /tmp/serves]}}}")
    subprocess.run(
        ["docker", "compose", "-p", place.project, "-f", str(place.folder / "compose.yaml"), "up", "-d", "--wait"],
        check=True, capture_output=True,
    )  # fmt: skip

    checked = await health_check("test")

    assert checked.health is not None
    assert checked.health.services[0].health is ServiceHealth.UNHEALTHY
    assert "its own health check passes, but" in checked.health.services[0].reason
    assert checked.health.overall is Health.UNHEALTHY


async def test_an_application_without_services_is_unhealthy_and_no_crash(place: Place) -> None:
    place.declare("{}")

    checked = await health_check("test")

    assert checked.health is not None
    assert checked.health.overall is Health.UNHEALTHY
    assert checked.health.services == ()
