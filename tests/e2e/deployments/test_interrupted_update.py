"""A start after an update whose process was killed: image names, and what runs."""

from __future__ import annotations

import json
import subprocess
from dataclasses import asdict, replace
from datetime import UTC, datetime

import pytest

from adapters.host.processes import this_process
from flows.deployment.startup import startup
from flows.execution.interrupted_fetch import FETCHING
from models.failures import StartFailedError
from models.operations import FOUND, Operation, OperationStatus, OperationType
from tests.e2e.deployments.test_update import BAD, WELL, inspect, last, planned, service
from tests.e2e.flows.conftest import Place, flows_are_recorded, place  # noqa: F401 - fixtures
from tests.support.docker_command import docker_command
from tests.support.registry import Registry

pytestmark = [pytest.mark.engine, pytest.mark.flow, pytest.mark.campaign]


def id_of(name: str) -> str:
    command = ["docker", "image", "inspect", "-f", "{{.Id}}", name]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def pull_and_die(place: Place, name: str) -> None:  # noqa: F811
    """Leave what an update leaves that is killed once it has pulled."""
    before, now = id_of(name), datetime.now(UTC)
    docker_command("pull", "-q", name)
    gone = replace(this_process(), process_started=1)
    with place.stores() as stores:
        stores.operations.begin(
            Operation(
                deployment_id="test-killed",
                operation_type=OperationType.START,
                environment="test",
                status=OperationStatus.RUNNING,
                started_at=now,
                details={"runner": asdict(gone), "update": "all"},
            )
        )
        stores.progress.finish_step("test-killed", FETCHING, None, now, json.dumps({name: before}))


async def test_images_that_a_killed_update_only_fetched_are_not_started(place: Place, images: Registry) -> None:  # noqa: F811
    images.publish("fetched", "ENV VERSION=1", WELL)
    name = images.image("fetched")
    place.declare(service("web", name))
    await startup("test")
    image, before = id_of(name), inspect(place, "web", "{{.Id}} {{.State.StartedAt}}")
    images.publish("fetched", "ENV VERSION=2", WELL)
    pull_and_die(place, name)
    assert id_of(name) != image

    await startup("test")

    assert inspect(place, "web", "{{.Id}} {{.State.StartedAt}}") == before
    assert id_of(name) == image
    assert last(place).details["image_names_restored"] == [name]


async def test_a_start_over_a_half_replaced_bad_version_is_back_with_the_image_names(
    place: Place,  # noqa: F811
    images: Registry,
) -> None:
    images.publish("half", "ENV VERSION=1", WELL)
    name = images.image("half")
    place.declare(service("web", name))
    await startup("test")
    image = id_of(name)
    images.publish("half", "ENV VERSION=2", BAD)
    pull_and_die(place, name)
    compose = ["docker", "compose", "-p", place.project, "-f", str(place.folder / "compose.yaml"), "create", "web"]
    subprocess.run(compose, capture_output=True, check=True)
    with place.stores() as stores:
        stores.progress.finish_step("test-killed", FOUND, None, datetime.now(UTC), "{}")

    with pytest.raises(StartFailedError):
        await startup("test")

    assert inspect(place, "web", "{{.Image}} {{.State.Health.Status}}") == f"{image} healthy"
    assert id_of(name) == image
    assert planned().changes == ()


async def test_a_replacement_that_compose_did_not_finish_is_settled_by_the_next_start(
    place: Place,  # noqa: F811
    images: Registry,
) -> None:
    images.publish("replaced", "ENV VERSION=1", WELL)
    name = images.image("replaced")
    place.declare(service("web", name) + service("worker", name))
    await startup("test")
    before = inspect(place, "web", "{{.Id}}")
    pull_and_die(place, name)
    # Of web the replacement is made; that of worker has replaced it, and has not got its name yet.
    temporary = f"{before[:12]}_{place.container('web')}"
    docker_command("create", "--name", temporary, *labels(place, "web"), name)
    docker_command("rename", place.container("worker"), f"{'0' * 12}_{place.container('worker')}")

    await startup("test")

    assert place.containers() == ["web", "worker"]
    assert inspect(place, "web", "{{.Id}}") == before
    assert inspect(place, "worker", "{{.State.Health.Status}}") == "healthy"


def labels(place: Place, of: str) -> list[str]:  # noqa: F811
    found = json.loads(inspect(place, of, "{{json .Config.Labels}}"))
    return [word for key, value in found.items() for word in ("--label", f"{key}={value}")]
