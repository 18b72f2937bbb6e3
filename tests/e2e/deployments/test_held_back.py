"""An image that failed is fetched by nothing until a user lifts it: no start, no recovery."""

from __future__ import annotations

import subprocess

import pytest

from flows.deployment.startup import startup
from flows.deployment.update import update
from models.failures import ImageFetchError, StartFailedError
from tasks.deployment.images import pull_allowed
from tasks.deployment.release import lift_images
from tasks.runtime.clients import find_environment
from tests.e2e.deployments.test_update import BAD, WELL, inspect, last, service
from tests.e2e.flows.conftest import Place, flows_are_recorded, place  # noqa: F401 - fixtures
from tests.support.registry import Registry, image_id

pytestmark = [pytest.mark.engine, pytest.mark.flow]


@pytest.mark.campaign(seconds=20)
async def test_no_start_and_no_recovery_fetches_an_image_that_is_held_back(place: Place, images: Registry) -> None:  # noqa: F811
    images.publish("kept", "ENV VERSION=1", WELL)
    name = images.image("kept")
    place.declare(service("web", name, pull_policy="always"))
    await startup("test")
    before = inspect(place, "web", "{{.Image}}")
    bad = images.publish("kept", "ENV VERSION=2", BAD)
    with pytest.raises(StartFailedError):
        await update("test")

    await startup("test")
    assert "is held back" in last(place).details["not_taken"]["web"]
    await startup("test", pull=True)
    assert (inspect(place, "web", "{{.Image}}"), image_id(name)) == (before, before)

    # Another program fetched it.
    subprocess.run(["docker", "pull", "-q", name], check=True, capture_output=True)
    await startup("test")
    assert (inspect(place, "web", "{{.Image}}"), image_id(name)) == (before, before)

    subprocess.run(["docker", "rmi", "-f", name], check=True, capture_output=True)
    with pytest.raises(ImageFetchError, match="is held back"):
        pull_allowed(find_environment("test"), "web")
    assert image_id(name) == ""
    await startup("test")
    assert (inspect(place, "web", "{{.Image}}"), image_id(name)) == (before, before)

    subprocess.run(["docker", "rm", "-f", place.container("web")], check=True, capture_output=True)
    subprocess.run(["docker", "rmi", "-f", name], check=True, capture_output=True)
    with pytest.raises(ImageFetchError, match="no other image here"):
        await startup("test")
    lift_images("test", bad, "Ada", last(place).started_at)
    assert pull_allowed(find_environment("test"), "web") is None
    assert image_id(name)
