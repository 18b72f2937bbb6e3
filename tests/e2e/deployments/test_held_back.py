"""An image that failed is fetched by nothing until a user lifts it: no start, no recovery."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
from prefect import Flow

from flows.deployment.rollback import rollback
from flows.deployment.startup import startup
from flows.deployment.update import update
from models.failures import ImageFetchError, ReleaseError, StartFailedError
from models.operations import OperationStatus
from tasks.deployment.images import pull_allowed
from tasks.deployment.release import lift_images
from tasks.runtime.project import open_project
from tests.e2e.deployments.test_update import BAD, WELL, inspect, last, service
from tests.e2e.flows.conftest import Place, flows_are_recorded, place  # noqa: F401 - fixtures
from tests.support.docker_command import docker_command
from tests.support.killed_flow import killed_flow
from tests.support.registry import Registry, image_id
from tests.support.taken_up import BY_AGENT, BY_HAND, BY_RETRY, take_up

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
    docker_command("pull", "-q", name)
    await startup("test")
    assert (inspect(place, "web", "{{.Image}}"), image_id(name)) == (before, before)

    docker_command("rmi", "-f", name)
    with pytest.raises(ImageFetchError, match="is held back"):
        pull_allowed(open_project("test"), "web")
    assert image_id(name) == ""
    await startup("test")
    assert (inspect(place, "web", "{{.Image}}"), image_id(name)) == (before, before)

    docker_command("rm", "-f", place.container("web"))
    docker_command("rmi", "-f", name)
    with pytest.raises(ImageFetchError, match="no other image here"):
        await startup("test")
    lift_images("test", bad, "Ada", last(place).started_at)
    assert pull_allowed(open_project("test"), "web") is None
    assert image_id(name)


PARTS = ("base", "top")


def hold_back(place: Place, service: str, digest: str) -> None:  # noqa: F811
    """Another operation has just failed with this image of a service."""
    with place.stores() as stores:
        tried = replace(
            stores.releases.latest("test")[0],
            release_id="r-failed",
            deployment_id="test-other",
            digests={service: digest},
            created_at=datetime.now(UTC),
            reason=f"{service} failed",
            proven=False,
        )
        stores.releases.keep(tried)


def published(images: Registry, name: str, version: int) -> dict[str, str]:
    """The digests of a version of both services."""
    return {
        part: f"{images.image(f'{name}-{part}')}@"
        + images.publish(f"{name}-{part}", f"ENV VERSION={version} PART={part}", WELL)
        for part in PARTS
    }


def declare(place: Place, images: Registry, name: str, **more: str) -> None:  # noqa: F811
    base, top = (images.image(f"{name}-{part}") for part in PARTS)
    needs = "{base: {condition: service_healthy}}"
    place.declare(service("base", base, **more) + service("top", top, depends_on=needs, **more))


def versions(place: Place) -> dict[str, str]:  # noqa: F811
    """The version that each service runs; its name must mean no other one."""
    shown = "{{.State.Health.Status}} {{range .Config.Env}}{{println .}}{{end}}"
    found = {part: inspect(place, part, shown) for part in PARTS}
    assert all(one.startswith("healthy") for one in found.values()), found
    names = {part: inspect(place, part, "{{.Config.Image}} {{.Image}}").split() for part in PARTS}
    assert all(image_id(name) == image for name, image in names.values() if "@" not in name)
    return {part: next(one[8:] for one in shown.split() if one.startswith("VERSION=")) for part, shown in found.items()}


@pytest.mark.campaign(seconds=15)
@pytest.mark.parametrize(
    ("flow", "moment", "way"),
    [
        (update, ("after", "proven", "base"), BY_AGENT),
        (startup, ("after", "fetching"), BY_HAND),
        (startup, ("after", "found"), BY_AGENT),
        (startup, ("after", "proven", "base"), BY_RETRY),
    ],
    ids=lambda one: getattr(one, "name", None),
)
async def test_a_killed_operation_does_not_take_an_image_that_was_held_back_since(
    place: Place,  # noqa: F811
    images: Registry,
    moment: tuple[str, ...],
    flow: Flow[..., Any],
    way: str,
) -> None:
    name = f"killed-{len(way)}-{moment[-1]}-{'u' if flow is update else 's'}"
    published(images, name, 1)
    declare(place, images, name, **({} if flow is update else {"pull_policy": "always"}))
    await startup("test")
    new = published(images, name, 2)
    killed_flow(flow.name, {"environment": "test"}, *moment, pool=place.project)
    killed = last(place)

    hold_back(place, "base", new["base"])
    await take_up(way, flow, killed, place.project)

    recorded = last(place)
    assert recorded.deployment_id == killed.deployment_id
    assert recorded.status is OperationStatus.SUCCESS
    assert "is held back, because base failed with it in test-other" in recorded.details["not_taken"]["base"]
    assert versions(place) == {"base": "1", "top": "2"}


@pytest.mark.campaign(seconds=20)
@pytest.mark.parametrize(
    ("moment", "way"),
    [
        (("after", "release"), BY_HAND),
        (("after", "found"), BY_AGENT),
        (("before", "proven", "top"), BY_RETRY),
    ],
)
async def test_a_killed_rollback_does_not_bring_back_an_image_that_was_held_back_since(
    place: Place,  # noqa: F811
    images: Registry,
    moment: tuple[str, ...],
    way: str,
) -> None:
    name = f"back-{len(way)}-{moment[-1]}"
    old = published(images, name, 1)
    declare(place, images, name)
    await startup("test")
    published(images, name, 2)
    await update("test")
    killed_flow("rollback", {"environment": "test"}, *moment, pool=place.project)
    killed = last(place)

    hold_back(place, "base", old["base"])
    with pytest.raises(ReleaseError, match="base failed with it in test-other"):
        await take_up(way, rollback, killed, place.project)

    recorded = last(place)
    assert recorded.deployment_id == killed.deployment_id
    assert recorded.status is OperationStatus.FAILED
    assert "undo_failed" not in recorded.details
    assert versions(place) == dict.fromkeys(PARTS, "2")
