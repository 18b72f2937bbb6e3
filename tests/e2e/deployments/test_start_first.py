"""Start-first replacement behind real proxies: what clients see, what a failure leaves, and what a kill leaves."""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Iterator

import pytest

from flows.deployment.overlap import BESIDE, DRAINED, NAMED
from flows.deployment.startup import startup
from flows.deployment.update import update
from models.compose import FetchOptions, Interruption
from models.failures import StartFailedError
from models.operations import Operation
from tasks.deployment.services import read_plan
from tasks.runtime.clients import find_environment
from tasks.runtime.stores import open_stores
from tests.e2e.flows.conftest import Place, flows_are_recorded, place  # noqa: F401 - fixtures
from tests.e2e.flows.test_interruption import roas, signal_at
from tests.support.fronts import asking, build_image, fronted
from tests.support.ports import free_port

pytestmark = [pytest.mark.engine, pytest.mark.flow]

UPDATE = FetchOptions(pull=True, build=True, update=True)
DRAINS_ONE_SECOND = "{web: {drain_seconds: 1}}"


@pytest.fixture(scope="module", autouse=True)
def image() -> Iterator[None]:
    build_image()
    return


def containers(place: Place) -> list[list[str]]:  # noqa: F811
    """Name, number, image and state of each container of the service, stopped ones too."""
    label = "com.docker.compose"
    form = f'{{{{.Names}}}} {{{{.Label "{label}.container-number"}}}} {{{{.State}}}}'
    command = ["docker", "ps", "-a", "--filter", f"label={label}.project={place.project}"]
    command += ["--filter", f"label={label}.service=web", "--format", form]
    return sorted(line.split() for line in subprocess.run(command, capture_output=True, text=True).stdout.splitlines())


def only(place: Place) -> list[list[str]]:  # noqa: F811
    return [[place.container("web"), "1", "running"]]


def identity(place: Place) -> str:  # noqa: F811
    command = ["docker", "inspect", "-f", "{{.Id}} {{.State.StartedAt}}", place.container("web")]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def last(place: Place) -> Operation:  # noqa: F811
    with place.stores() as stores:
        return stores.operations.history(environment="test")[0]


@pytest.mark.parametrize("front", ["nginx", "haproxy", "caddy"])
async def test_no_request_fails_while_a_service_is_replaced_start_first(place: Place, front: str) -> None:  # noqa: F811
    port = free_port()
    place.declare(fronted(place.folder, front, port), services=DRAINS_ONE_SECOND)
    await startup("test")
    with asking(port) as client:
        for version in ("2", "3"):
            place.declare(fronted(place.folder, front, port, version=version), services=DRAINS_ONE_SECOND)
            plan = read_plan(find_environment("test"), UPDATE)
            assert (plan.of("web").start_first, plan.of("web").interruption) == (True, Interruption.NONE)
            await update("test")

    assert client.failures == []
    assert client.answers.keys() >= {"1", "2", "3"}
    assert containers(place) == only(place)
    with place.stores() as stores:
        changes = stores.progress.changes(last(place).deployment_id)
    (web,) = [one for one in changes if one.service == "web"]
    assert web.reason.startswith("replaced start-first, old one drained after 1 s")
    assert read_plan(find_environment("test"), UPDATE).changes == ()
    before = identity(place)
    compose = ["docker", "compose", "-p", place.project, "-f", str(place.folder / "compose.yaml"), "up", "-d"]
    subprocess.run(compose, check=True, capture_output=True)
    assert identity(place) == before


async def test_a_version_that_fails_is_removed_and_the_old_one_serves_on(place: Place) -> None:  # noqa: F811
    port = free_port()
    place.declare(fronted(place.folder, "caddy", port), services=DRAINS_ONE_SECOND)
    await startup("test")
    before = identity(place)
    bad = fronted(place.folder, "caddy", port, version="2", command="[sh, -c, 'echo no licence found; exit 3']")
    place.declare(bad, services=DRAINS_ONE_SECOND)
    with asking(port) as client, pytest.raises(StartFailedError, match="web"):
        await update("test")

    assert client.failures == []
    assert set(client.answers) == {"1"}
    assert containers(place) == only(place)
    assert identity(place) == before
    assert "rolled back" in last(place).details["undone"]


@pytest.mark.parametrize("step", [BESIDE, NAMED, DRAINED])
async def test_a_kill_leaves_no_container_beside(place: Place, step: str) -> None:  # noqa: F811
    port = free_port()
    place.declare(fronted(place.folder, "caddy", port), services=DRAINS_ONE_SECOND)
    await startup("test")
    place.declare(fronted(place.folder, "caddy", port, version="2"), services=DRAINS_ONE_SECOND)
    with asking(port) as client:
        killed = await signal_at(roas("update", "test"), lambda _, done: (step, "web") in done, signal.SIGKILL)
        with roas("resume", killed) as resumed:
            said = resumed.communicate()[0]
            assert resumed.returncode == 0, said

    assert client.failures == []
    assert containers(place) == only(place)
    assert open_stores().operations.get(killed).status == "success"
    assert read_plan(find_environment("test"), UPDATE).changes == ()
