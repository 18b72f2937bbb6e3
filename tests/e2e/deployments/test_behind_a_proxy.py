"""A proxy that keeps addresses follows a service whose address changes, in every operation that changes it."""

from __future__ import annotations

import http.client
import subprocess
from collections.abc import Iterator

import pytest

from flows.deployment.restart import restart
from flows.deployment.rollback import rollback
from flows.deployment.startup import startup
from flows.deployment.update import update
from flows.recovery.error_recovery import error_recovery
from models.failures import BadInputError, StartFailedError
from tests.e2e.deployments.test_interrupted_update import id_of
from tests.e2e.deployments.test_update import WELL, service
from tests.e2e.flows.conftest import Place, end, flows_are_recorded, place  # noqa: F401 - fixtures
from tests.e2e.flows.test_actions import ZEBRA
from tests.support.fronts import IMAGE, build_image, fronted
from tests.support.plain_tasks import tasks_make_no_runs  # noqa: F401 - fixture
from tests.support.ports import free_port
from tests.support.registry import Registry

pytestmark = [pytest.mark.engine, pytest.mark.flow]


@pytest.fixture(scope="module", autouse=True)
def image() -> Iterator[None]:
    build_image()
    return


def declare(place: Place, port: int, version: str = "1", *, order: str = "stop-first", beside: str = "") -> None:  # noqa: F811
    """A service behind an nginx that is healthy as long as it runs, whatever it answers."""
    text = fronted(place.folder, "nginx", port, version=version, order=order)
    text = text.replace("[CMD, curl, -fs, 'http://127.0.0.1:8080/']", "[CMD, test, -e, /tmp/nginx.pid]")
    place.declare(text + beside, services="{web: {drain_seconds: 0}}")


def answer(port: int) -> str:
    """What a client gets through the proxy: status and text."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=300)
    try:
        connection.request("GET", "/")
        answered = connection.getresponse()
        return f"{answered.status} {answered.read().decode()[:40]}"
    finally:
        connection.close()


def take_address(place: Place) -> None:  # noqa: F811
    """End the service, and let another container of the project have its address."""
    end(place)
    labels = [f"com.docker.compose.{one}" for one in (f"project={place.project}", "service=other", "oneoff=True")]
    marks = [word for label in labels for word in ("--label", label)]
    command = ["docker", "run", "--detach", "--init", "--network", f"{place.project}_default", *marks]
    subprocess.run([*command, IMAGE, "sleep", "600"], check=True, capture_output=True)


@pytest.mark.campaign
async def test_a_proxy_follows_a_service_that_is_replaced_stop_first_after_start_first(place: Place) -> None:  # noqa: F811
    port = free_port()
    declare(place, port)
    await startup("test")
    assert answer(port) == "200 1"
    declare(place, port, "2", order="start-first")
    await update("test")
    assert answer(port) == "200 2"

    declare(place, port, "3")
    await update("test")

    assert answer(port) == "200 3"
    await rollback("test")
    assert answer(port) == "200 2"


@pytest.mark.parametrize("operation", ["start", pytest.param("restart", marks=pytest.mark.campaign)])
async def test_a_proxy_follows_a_service_that_comes_back_with_another_address(place: Place, operation: str) -> None:  # noqa: F811
    port = free_port()
    declare(place, port)
    await startup("test")
    take_address(place)

    await (startup("test") if operation == "start" else restart("test", services=["web"]))

    assert answer(port) == "200 1"


@pytest.mark.campaign
async def test_a_proxy_follows_a_service_that_recovery_makes_anew(place: Place) -> None:  # noqa: F811
    port = free_port()
    declare(place, port)
    await startup("test")
    take_address(place)
    with place.stores() as stores:
        stores.patterns.put(ZEBRA)

    outcome = await error_recovery("test", "zebra crossed", service="web")

    assert outcome.success, outcome.reason
    assert answer(port) == "200 1"


def break_configuration(place: Place) -> None:  # noqa: F811
    file = place.folder / "conf" / "nginx.conf"
    file.write_text(file.read_text().replace("proxy_connect_timeout 2s;", "proxy_connect_timeout_of 2s;"))


def started_at(place: Place) -> str:  # noqa: F811
    command = ["docker", "inspect", "-f", "{{.Id}} {{.State.StartedAt}}", place.container("front")]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


async def test_an_update_is_refused_where_the_proxy_refuses_its_configuration(place: Place, images: Registry) -> None:  # noqa: F811
    port, name = free_port(), images.image("refused")
    images.publish("refused", "ENV VERSION=1", WELL)
    declare(place, port, beside=service("other", name))
    await startup("test")
    before, image = started_at(place), id_of(name)
    images.publish("refused", "ENV VERSION=2", WELL)
    declare(place, port, "2", beside=service("other", name))
    break_configuration(place)

    refused = await update("test", return_state=True)

    assert refused.is_failed()
    assert "front: its configuration is not valid: " in (refused.message or "")
    assert 'unknown directive "proxy_connect_timeout_of"' in (refused.message or "")
    with pytest.raises(BadInputError, match="No earlier proven release of test differs"):
        await rollback("test")
    with pytest.raises(StartFailedError, match=r"front: its configuration is not valid.*it was not restarted"):
        await restart("test", services=["front"])
    assert (answer(port), started_at(place)) == ("200 1", before)
    assert id_of(name) == image, "the next start would take what was only fetched"
    with place.stores() as stores:
        assert stores.releases.list_failed("test") == []
        errors = stores.errors.latest("test")
    assert {(one.service, str(one.verdict.category)) for one in errors} == {("front", "service_config_invalid")}
    assert place.containers() == ["front", "other", "web"]


@pytest.mark.campaign
@pytest.mark.parametrize(
    ("front", "file", "nonsense"),
    [
        ("nginx", "nginx.conf", "nonsense on;"),
        ("haproxy", "haproxy.cfg", "frontend front\n  nonsense on\n"),
        ("caddy", "Caddyfile", ":8080 {\n  nonsense on\n}\n"),
    ],
)
async def test_a_start_is_refused_where_a_mounted_configuration_is_not_valid(
    place: Place,  # noqa: F811
    front: str,
    file: str,
    nonsense: str,
) -> None:
    port = free_port()
    place.declare(fronted(place.folder, front, port))
    await startup("test")
    before, good = started_at(place), (place.folder / "conf" / file).read_text()
    (place.folder / "conf" / file).write_text(nonsense)

    refused = await startup("test", return_state=True)

    assert refused.is_failed()
    assert "front: its configuration is not valid: " in (refused.message or "")
    assert "nonsense" in (refused.message or "")
    assert (answer(port), started_at(place)) == ("200 1", before)
    (place.folder / "conf" / file).write_text(f"# Another comment.\n{good}")
    await startup("test")
    assert answer(port) == "200 1"
    assert started_at(place) != before
    assert place.containers() == ["front", "web"]


@pytest.mark.campaign(seconds=20)
async def test_an_update_that_the_proxy_does_not_reach_is_rolled_back(place: Place) -> None:  # noqa: F811
    port = free_port()
    declare(place, port)
    await startup("test")
    declare(place, port, "2")
    file = place.folder / "compose.yaml"
    elsewhere = "[sh, -c, 'sed s/8000/8001/ /conf/app.py > /tmp/app.py && exec python3 /tmp/app.py']"
    text = file.read_text().replace("[python3, /conf/app.py]", elsewhere)
    file.write_text(text.replace("http://127.0.0.1:8000/", "http://127.0.0.1:8001/"))

    with pytest.raises(StartFailedError, match="web is proven, but front answers 502, and answered 200 before"):
        await update("test")

    assert answer(port) == "200 1"
