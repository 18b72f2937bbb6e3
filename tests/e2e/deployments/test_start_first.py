"""Start-first replacement behind real proxies: what clients see, what a failure leaves, and what a kill leaves."""

from __future__ import annotations

import json
import random
import subprocess
from collections.abc import Iterator

import pytest

from flows.deployment.startup import startup
from flows.deployment.update import update
from flows.execution.overlap import BESIDE, DRAINED, NAMED
from models.compose import OF_UPDATE, Interruption
from models.failures import StartFailedError
from models.operations import Operation
from tasks.deployment.services import read_plan
from tasks.runtime.project import open_project
from tasks.runtime.stores import open_stores
from tests.e2e.deployments.test_update import BAD, WELL, service
from tests.e2e.flows.conftest import Place, flows_are_recorded, place  # noqa: F401 - fixtures
from tests.e2e.flows.test_interruption import kill_at, roas
from tests.support.brokers import running_broker
from tests.support.fronts import FRONTS, IMAGE, asking, build_image, fronted
from tests.support.plain_tasks import tasks_make_no_runs  # noqa: F401 - fixture
from tests.support.ports import free_port
from tests.support.registry import Registry

pytestmark = [pytest.mark.engine, pytest.mark.flow]

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


def names(place: Place) -> set[str]:  # noqa: F811
    """The names under which others find the service's container."""
    command = ["docker", "inspect", "-f", "{{range .NetworkSettings.Networks}}{{json .Aliases}}{{end}}"]
    said = subprocess.run([*command, place.container("web")], capture_output=True, text=True, check=True).stdout
    return set(json.loads(said))


def environment_of(place: Place) -> dict[str, str]:  # noqa: F811
    command = ["docker", "inspect", "-f", "{{json .Config.Env}}", place.container("web")]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return dict(one.split("=", 1) for one in json.loads(said))


def last(place: Place) -> Operation:  # noqa: F811
    with place.stores() as stores:
        return stores.operations.history(environment="test")[0]


async def started_behind_caddy(place: Place) -> int:  # noqa: F811
    """Start version 1 of the service behind Caddy; the port that Caddy publishes."""
    port = free_port()
    place.declare(fronted(place.folder, "caddy", port), services=DRAINS_ONE_SECOND)
    await startup("test")
    return port


@pytest.mark.parametrize("front", FRONTS)
@pytest.mark.campaign
async def test_no_request_fails_while_a_service_is_replaced_start_first(place: Place, front: str) -> None:  # noqa: F811
    port = free_port()
    place.declare(fronted(place.folder, front, port), services=DRAINS_ONE_SECOND)
    await startup("test")
    with asking(port) as client:
        for version in ("2", "3"):
            place.declare(fronted(place.folder, front, port, version=version), services=DRAINS_ONE_SECOND)
            plan = read_plan(open_project("test"), OF_UPDATE)
            assert (plan.service("web").start_first, plan.service("web").interruption) == (True, Interruption.NONE)
            await update("test")

    assert client.failures == []
    assert client.answers.keys() >= {"1", "2", "3"}
    assert containers(place) == only(place)
    with place.stores() as stores:
        changes = stores.progress.changes(last(place).deployment_id)
    (web,) = [one for one in changes if one.service == "web"]
    assert web.reason.startswith("replaced start-first, old one drained after 1 s")
    assert read_plan(open_project("test"), OF_UPDATE).changes == ()
    before = identity(place)
    compose = ["docker", "compose", "-p", place.project, "-f", str(place.folder / "compose.yaml"), "up", "-d"]
    subprocess.run(compose, check=True, capture_output=True)
    assert identity(place) == before


@pytest.mark.campaign
async def test_replicas_are_replaced_one_after_the_other_and_leave_the_name_before_they_stop(place: Place) -> None:  # noqa: F811
    port = free_port()

    def declare(version: str) -> None:
        place.declare(
            fronted(place.folder, "caddy", port, version=version, order="stop-first", scale="2"),
            services="{web: {order: start-first, drain_seconds: 1, probe: {kind: http, port: 8000}}}",
        )
        # With a subnet of the file, addresses can be chosen, so the old one keeps its own while it drains.
        with (place.folder / "compose.yaml").open("a") as file:
            file.write(f"networks: {{default: {{ipam: {{config: [{{subnet: {subnet}}}]}}}}}}\n")

    subnet = f"10.{random.randrange(64, 250)}.{random.randrange(256)}.0/24"
    declare("1")
    await startup("test")
    with asking(port) as client:
        declare("2")
        await update("test")

    assert client.failures == []
    assert containers(place) == [[f"{place.project}-web-{number}", str(number), "running"] for number in (1, 2)]
    assert read_plan(open_project("test"), OF_UPDATE).changes == ()
    form = "{{range .NetworkSettings.Networks}}{{.IPAMConfig}} {{.Aliases}}{{end}}"
    command = ["docker", "inspect", "-f", form, place.container("web")]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert "10." not in said
    assert f"[{place.container('web')} web" in said


@pytest.mark.campaign
async def test_a_service_in_two_networks_keeps_its_names_in_both(place: Place) -> None:  # noqa: F811
    port = free_port()

    def declare(version: str) -> None:
        text = fronted(
            place.folder, "caddy", port, version=version, networks="[front, back]", depends_on="[base]"
        ).replace("front:\n", "front:\n  networks: [front]\n", 1)
        base = (
            f"base:\n  image: {IMAGE}\n  pull_policy: never\n  init: true\n"
            "  command: [sleep, '600']\n  networks: [back]\n"
        )
        place.declare(text + base, services=DRAINS_ONE_SECOND)
        with (place.folder / "compose.yaml").open("a") as file:
            file.write("networks: {front: {}, back: {}}\n")

    declare("1")
    await startup("test")
    declare("2")
    with asking(port) as client:
        await update("test")

    assert client.failures == []
    assert containers(place) == only(place)
    command = ["docker", "inspect", "-f", "{{json .NetworkSettings.Networks}}", place.container("web")]
    networks = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    assert {name.removeprefix(f"{place.project}_"): "web" in one["Aliases"] for name, one in networks.items()} == {
        "front": True,
        "back": True,
    }
    assert read_plan(open_project("test"), OF_UPDATE).changes == ()


@pytest.mark.campaign
async def test_the_image_that_failed_beside_the_old_container_is_held_back(place: Place, images: Registry) -> None:  # noqa: F811
    order = "{update_config: {order: start-first}}"
    images.publish("beside", "ENV VERSION=1", WELL)
    place.declare(service("web", images.image("beside"), deploy=order))
    await startup("test")
    before = identity(place)
    bad = images.publish("beside", "ENV VERSION=2", BAD)

    with pytest.raises(StartFailedError, match="web"):
        await update("test")

    assert last(place).details["held_back"]["web"].endswith(bad)
    assert identity(place) == before
    assert containers(place) == only(place)
    await update("test")
    assert identity(place) == before


@pytest.mark.campaign
async def test_a_rollback_that_is_killed_is_done_by_the_one_that_takes_it_up(place: Place) -> None:  # noqa: F811
    port = await started_behind_caddy(place)
    before = identity(place)
    bad = fronted(place.folder, "caddy", port, version="2", command="[sh, -c, 'echo no licence found; exit 3']")
    place.declare(bad, services=DRAINS_ONE_SECOND)
    killed = kill_at("update", "after", "undoing")
    with roas("resume", killed) as resumed:
        resumed.communicate()

    assert containers(place) == only(place)
    assert identity(place) == before


@pytest.mark.campaign
async def test_what_was_created_to_be_copied_is_removed_by_the_next_start(place: Place) -> None:  # noqa: F811
    await started_behind_caddy(place)
    before = identity(place)
    compose = ["docker", "compose", "-p", place.project, "-f", str(place.folder / "compose.yaml"), "create"]
    subprocess.run([*compose, "--no-recreate", "--scale", "web=2", "web"], check=True, capture_output=True)
    assert len(containers(place)) == 2

    await startup("test")

    assert containers(place) == only(place)
    assert identity(place) == before


async def test_a_version_that_fails_is_removed_and_the_old_one_serves_on(place: Place) -> None:  # noqa: F811
    port = await started_behind_caddy(place)
    before = identity(place)
    bad = fronted(place.folder, "caddy", port, version="2", command="[sh, -c, 'echo no licence found; exit 3']")
    place.declare(bad, services=DRAINS_ONE_SECOND)
    with asking(port) as client, pytest.raises(StartFailedError, match="web did not start: it ended with exit code 3"):
        await update("test")

    assert client.failures == []
    assert set(client.answers) == {"1"}
    assert containers(place) == only(place)
    assert identity(place) == before
    assert "rolled back" in last(place).details["undone"]


OWN = "getent ahostsv4 web | cut -d ' ' -f 1 | sort -u | {}"
"""The addresses under the service's name, as the new container finds them."""
FOUND_UNDER_ITS_NAME = OWN.format('grep -qx "$(hostname -i)"')
ALONE_UNDER_ITS_NAME = OWN.format('tr -d "\\n" | grep -qx "$(hostname -i)"')


@pytest.mark.campaign
@pytest.mark.parametrize(
    ("crashes_when", "subnet"),
    [
        pytest.param(FOUND_UNDER_ITS_NAME, False, id="others find it"),
        pytest.param(ALONE_UNDER_ITS_NAME, True, id="others find it alone"),
    ],
)
async def test_a_version_that_crashes_once_it_gets_requests_leaves_the_old_one(
    place: Place,  # noqa: F811
    crashes_when: str,
    subnet: bool,
) -> None:
    net = f"10.{random.randrange(64, 250)}.{random.randrange(256)}.0/24"

    def declare(version: str, **more: str) -> None:
        fields = {"services": DRAINS_ONE_SECOND, "stabilisation_seconds": 2}
        place.declare(fronted(place.folder, "caddy", port, version=version, **more), **fields)
        # A busy machine notices later than that the new version has ended.
        caddyfile = place.folder / "conf" / "Caddyfile"
        caddyfile.write_text(caddyfile.read_text().replace("lb_try_duration 5s", "lb_try_duration 60s"))
        if subnet:
            with (place.folder / "compose.yaml").open("a") as file:
                file.write(f"networks: {{default: {{ipam: {{config: [{{subnet: {net}}}]}}}}}}\n")

    port = free_port()
    declare("1")
    await startup("test")
    before, was_called = identity(place), names(place)
    script = f"python3 /conf/app.py & until {crashes_when}; do sleep 0.1; done; sleep 1; echo no licence; exit 3"
    declare("2", command=json.dumps(["sh", "-c", script.replace("$", "$$")]))
    with asking(port) as client, pytest.raises(StartFailedError, match="it ended with exit code 3"):
        await update("test")

    assert client.answers.keys() >= {"1"}
    assert client.failures == []
    assert containers(place) == only(place)
    assert (identity(place), names(place)) == (before, was_called)
    assert read_plan(open_project("test"), OF_UPDATE).service("web").action == "recreate"


@pytest.mark.campaign
async def test_a_later_failure_takes_a_replaced_service_back_without_interruption(place: Place) -> None:  # noqa: F811
    port = free_port()
    last_one = f"last:\n  image: {IMAGE}\n  pull_policy: never\n  init: true\n"
    last_one += "  depends_on: {web: {condition: service_healthy}}\n  command: [sh, -c, '%s']\n"
    good, bad = last_one % "exec sleep 600", last_one % "echo no licence found; exit 3"
    place.declare(fronted(place.folder, "caddy", port) + good, services=DRAINS_ONE_SECOND)
    await startup("test")
    place.declare(fronted(place.folder, "caddy", port, version="2") + bad, services=DRAINS_ONE_SECOND)
    with asking(port) as client, pytest.raises(StartFailedError, match="last"):
        await update("test")

    assert client.failures == []
    assert set(client.answers) == {"1", "2"}
    assert containers(place) == only(place)
    assert environment_of(place)["VERSION"] == "1"


@pytest.mark.parametrize("step", [BESIDE, NAMED, DRAINED])
@pytest.mark.campaign
async def test_a_kill_leaves_no_container_beside(place: Place, step: str) -> None:  # noqa: F811
    port = await started_behind_caddy(place)
    place.declare(fronted(place.folder, "caddy", port, version="2"), services=DRAINS_ONE_SECOND)
    with asking(port) as client:
        killed = kill_at("update", "after", step, "web")
        with roas("resume", killed) as resumed:
            said = resumed.communicate()[0]
            assert resumed.returncode == 0, said

    assert client.failures == []
    assert containers(place) == only(place)
    assert open_stores().operations.get(killed).status == "success"
    assert read_plan(open_project("test"), OF_UPDATE).changes == ()


@pytest.mark.campaign
async def test_a_service_is_replaced_start_first_through_the_engine_broker(place: Place) -> None:  # noqa: F811
    port = free_port()
    with running_broker(place.folder, place.project, roots=[place.folder]) as listening:
        more = {"services": DRAINS_ONE_SECOND, "engine": f"unix://{listening}"}
        place.declare(fronted(place.folder, "nginx", port), **more)
        await startup("test")
        with asking(port) as client:
            place.declare(fronted(place.folder, "nginx", port, version="2"), **more)
            await update("test")

    assert client.failures == []
    assert containers(place) == only(place)
    assert environment_of(place)["VERSION"] == "2"
