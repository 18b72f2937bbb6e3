"""The images of a release that is brought back: built without a name of their own, or gone from the engine."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from flows.deployment.rollback import rollback
from flows.deployment.startup import startup
from flows.deployment.update import update
from models.failures import ReleaseError, StartFailedError
from tests.e2e.deployments.test_update import BAD, WELL, inspect, last, service
from tests.e2e.flows.conftest import HEALTH, Place, flows_are_recorded, place  # noqa: F401 - fixtures
from tests.support.docker_command import docker_command
from tests.support.plain_tasks import tasks_make_no_runs  # noqa: F401 - fixture
from tests.support.registry import Registry, image_id

pytestmark = [pytest.mark.engine, pytest.mark.flow]


@pytest.mark.campaign
async def test_a_service_that_is_built_without_an_image_name_is_rolled_back(place: Place) -> None:  # noqa: F811
    context: Path = place.folder / "app"
    context.mkdir()
    (context / "Dockerfile").write_text(f"FROM debian:trixie-slim\n{WELL}\n")
    place.declare(f"web:\n  build: ./app\n  init: true\n  healthcheck: {HEALTH}\n")
    try:
        await startup("test")
        before = inspect(place, "web", "{{.Image}}")
        (context / "Dockerfile").write_text(f"FROM debian:trixie-slim\n{BAD}\n")
        with pytest.raises(StartFailedError):
            await update("test")

        assert last(place).details["rolled_back_to"]
        assert inspect(place, "web", "{{.Image}} {{.State.Health.Status}}") == f"{before} healthy"

        (context / "Dockerfile").write_text(f"FROM debian:trixie-slim\nENV VERSION=3\n{WELL}\n")
        await update("test")
        (context / "Dockerfile").unlink()
        await rollback("test")

        assert inspect(place, "web", "{{.Image}} {{.State.Health.Status}}") == f"{before} healthy"
    finally:
        subprocess.run(["docker", "rm", "-f", place.container("web")], capture_output=True, check=False)
        subprocess.run(["docker", "rmi", "-f", f"{place.project}-web"], capture_output=True, check=False)


@pytest.mark.campaign
async def test_an_image_that_is_gone_here_is_pulled_again_by_its_digest(place: Place, images: Registry) -> None:  # noqa: F811
    images.publish("gone", "ENV VERSION=1", WELL)
    place.declare(service("web", images.image("gone")))
    await startup("test")
    before = inspect(place, "web", "{{.Image}}")
    images.publish("gone", "ENV VERSION=2", WELL)
    await update("test")
    second = inspect(place, "web", "{{.Image}}")
    docker_command("rmi", "-f", before)
    assert image_id(before) == ""

    await rollback("test")

    assert inspect(place, "web", "{{.Image}} {{.State.Health.Status}}") == f"{before} healthy"
    images.stop()
    try:
        docker_command("rmi", "-f", second)
        with pytest.raises(ReleaseError, match="could not be pulled"):
            await rollback("test")
    finally:
        images.start()
    assert inspect(place, "web", "{{.Image}} {{.State.Health.Status}}") == f"{before} healthy"
