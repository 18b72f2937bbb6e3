"""New images from a real registry: what a plan says of them, and what a start and an update do."""

from __future__ import annotations

import asyncio
import subprocess
from datetime import UTC, datetime
from pathlib import Path

import pytest

from core.deployment.plan import plan_id
from flows.deployment.drift import drift
from flows.deployment.startup import startup
from flows.deployment.update import update
from models.compose import OF_UPDATE, Interruption, Plan, PlannedAction
from models.errors import Category
from models.evidence import EvidenceBundle
from models.failures import ImageFetchError, PlanChangedError, StartFailedError
from models.operations import Operation
from models.records import Release
from models.results import OperationResult
from tasks.deployment.release import lift_images
from tasks.deployment.services import create_containers, read_plan, start_when_replaced
from tasks.monitoring.events import watch_project
from tasks.reporting.read import read_explanation
from tasks.runtime.clients import find_environment
from tasks.runtime.project import Project, open_project
from tests.e2e.flows.conftest import HEALTH, Place, flows_are_recorded, place  # noqa: F401 - fixtures
from tests.support.docker_command import docker_command
from tests.support.plain_tasks import tasks_make_no_runs  # noqa: F401 - fixture
from tests.support.registry import Registry, image_id

pytestmark = [pytest.mark.engine, pytest.mark.flow]

WELL = 'CMD ["sh", "-c", "touch /tmp/well; exec sleep 600"]'
BAD = 'CMD ["sh", "-c", "echo no licence found; exit 3"]'


def service(name: str, image: str, **more: str) -> str:
    lines = [f"{name}:", f"  image: {image}", "  init: true", f"  healthcheck: {HEALTH}"]
    return "\n".join([*lines, *(f"  {key}: {value}" for key, value in more.items())]) + "\n"


def inspect(place: Place, name: str, what: str) -> str:  # noqa: F811
    command = ["docker", "inspect", "-f", what, place.container(name)]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def planned() -> Plan:
    return read_plan(open_project("test"))


def last(place: Place) -> Operation:  # noqa: F811
    with place.stores() as stores:
        return stores.operations.history(environment="test")[0]


@pytest.mark.campaign
async def test_a_start_takes_a_moved_tag_as_its_plan_says(place: Place, images: Registry) -> None:  # noqa: F811
    images.publish("always", "ENV VERSION=1", WELL)
    name = images.image("always")
    # The other service uses the same name, so it follows although its own policy asks for nothing.
    place.declare(service("web", name, pull_policy="always") + service("worker", name))
    await startup("test")
    assert planned().changes == ()
    images.publish("always", "ENV VERSION=2", WELL)
    plan = planned()

    await startup("test", plan=plan_id(plan))

    assert [(line.service, line.action) for line in plan.changes] == [
        ("web", PlannedAction.RECREATE),
        ("worker", PlannedAction.RECREATE),
    ]
    assert "moved in its registry" in plan.service("web").because
    assert plan.service("web").interruption is Interruption.REPLACED
    assert "VERSION=2" in inspect(place, "web", "{{.Config.Env}}")
    assert planned().changes == ()
    with place.stores() as stores:
        assert set(stores.progress.interruptions("test")) == {"web", "worker"}


@pytest.mark.campaign
async def test_a_start_without_a_pull_policy_leaves_a_moved_tag_alone(place: Place, images: Registry) -> None:  # noqa: F811
    images.publish("missing", "ENV VERSION=1", WELL)
    place.declare(service("web", images.image("missing")))
    await startup("test")
    before = await drift("test")
    images.publish("missing", "ENV VERSION=2", WELL)

    assert planned().changes == ()
    assert planned().fetches == ()
    # What an update would bring is said, and is no drift.
    found = await drift("test")
    assert (before.updates, found.services, found.clean) == ((), (), True)
    assert [(one.service, "moved in its registry" in one.changes) for one in found.updates] == [("web", True)]


@pytest.mark.campaign
async def test_a_plan_of_before_the_tag_moved_touches_nothing(place: Place, images: Registry) -> None:  # noqa: F811
    images.publish("late", "ENV VERSION=1", WELL)
    place.declare(service("web", images.image("late"), pull_policy="always"))
    await startup("test")
    before, plan = inspect(place, "web", "{{.Id}} {{.State.StartedAt}}"), planned()
    images.publish("late", "ENV VERSION=2", WELL)

    with pytest.raises(PlanChangedError, match=r"recreate web, image .* moved in its registry"):
        await startup("test", plan=plan_id(plan))

    assert inspect(place, "web", "{{.Id}} {{.State.StartedAt}}") == before


@pytest.mark.campaign
async def test_an_image_that_fails_is_left_again_with_its_name(place: Place, images: Registry) -> None:  # noqa: F811
    images.publish("bad", "ENV VERSION=1", WELL)
    place.declare(service("web", images.image("bad"), pull_policy="always"))
    await startup("test")
    image = inspect(place, "web", "{{.Image}}")
    images.publish("bad", "ENV VERSION=2", BAD)

    with pytest.raises(StartFailedError):
        await startup("test")

    assert inspect(place, "web", "{{.Image}} {{.State.Health.Status}}") == f"{image} healthy"
    named = subprocess.run(
        ["docker", "image", "inspect", "-f", "{{.Id}}", images.image("bad")], capture_output=True, text=True, check=True
    )
    assert named.stdout.strip() == image
    assert last(place).details["image_names_restored"] == [images.image("bad")]


@pytest.mark.campaign
async def test_a_registry_that_is_away_fails_no_plan(place: Place, images: Registry) -> None:  # noqa: F811
    images.publish("away", WELL)
    place.declare(service("web", images.image("away"), pull_policy="always"))
    await startup("test")
    images.stop()
    try:
        plan = planned()
    finally:
        images.start()

    assert plan.changes == ()
    assert "its registry could not be asked" in plan.service("web").note


@pytest.mark.campaign
async def test_a_changed_build_context_is_built_and_replaces_its_service(place: Place, images: Registry) -> None:  # noqa: F811
    context: Path = place.folder / "app"
    context.mkdir()
    (context / "Dockerfile").write_text(f"FROM debian:trixie-slim\nCOPY version /version\n{WELL}\n")
    (context / ".dockerignore").write_text("notes\n")
    (context / "version").write_text("1")
    place.declare(service("web", images.image("built"), build="./app", pull_policy="build"))
    try:
        await startup("test")
        (context / "notes").write_text("not part of the image")
        assert planned().changes == ()
        (context / "version").write_text("2")
        plan = planned()
        await startup("test", plan=plan_id(plan))

        assert plan.service("web").because == "its build context changed"
        command = ["docker", "exec", place.container("web"), "cat", "/version"]
        assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == "2"
        assert planned().changes == ()
    finally:
        subprocess.run(["docker", "rm", "-f", place.container("web")], capture_output=True, check=False)
        subprocess.run(["docker", "rmi", "-f", images.image("built")], capture_output=True, check=False)


@pytest.mark.campaign
async def test_a_build_that_gives_the_same_content_replaces_nothing(place: Place, images: Registry) -> None:  # noqa: F811
    context: Path = place.folder / "app"
    context.mkdir()
    (context / "Dockerfile").write_text(f"FROM debian:trixie-slim\nENV VERSION=1\n{WELL}\n")
    name = images.image("same")
    # Unlike Compose, the engine's own build writes no labels.
    docker_command("build", "-q", "-t", name, context)
    place.declare(service("web", name, build="./app") + service("worker", name, build="./app"))
    try:
        await startup("test")
        before = {part: inspect(place, part, "{{.Id}} {{.State.StartedAt}}") for part in ("web", "worker")}
        plan = read_plan(open_project("test"), OF_UPDATE)

        await update("test", plan=plan_id(plan))

        assert [(line.service, line.action) for line in plan.services] == [
            ("web", PlannedAction.KEEP),
            ("worker", PlannedAction.KEEP),
        ]
        assert {part: inspect(place, part, "{{.Id}} {{.State.StartedAt}}") for part in before} == before
        assert image_id(name) == inspect(place, "web", "{{.Image}}")
        assert "release_notes" not in last(place).details
        assert planned().changes == read_plan(open_project("test"), OF_UPDATE).changes == ()

        (context / "Dockerfile").write_text(f"FROM debian:trixie-slim\nENV VERSION=2\n{WELL}\n")
        await update("test")
        assert "VERSION=2" in inspect(place, "worker", "{{.Config.Env}}")
    finally:
        for part in ("web", "worker"):
            subprocess.run(["docker", "rm", "-f", place.container(part)], capture_output=True, check=False)
        subprocess.run(["docker", "rmi", "-f", name], capture_output=True, check=False)


@pytest.mark.campaign
async def test_a_changed_secret_of_the_environment_restarts_its_service_with_it(
    place: Place,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("SHOP_TOKEN", "first-value")
    place.declare(
        service("web", "debian:trixie-slim", command="[sh, -c, 'touch /tmp/well; exec sleep 600']", secrets="[token]")
    )
    with (place.folder / "compose.yaml").open("a") as file:
        file.write("secrets: {token: {environment: SHOP_TOKEN}}\n")
    await startup("test")
    monkeypatch.setenv("SHOP_TOKEN", "second-value")
    plan = planned()

    await startup("test", plan=plan_id(plan))

    assert plan.service("web").action is PlannedAction.RESTART
    assert "/run/secrets/token" in plan.service("web").because
    command = ["docker", "exec", place.container("web"), "cat", "/run/secrets/token"]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == "second-value"
    assert planned().changes == ()


def evidence(place: Place) -> list[EvidenceBundle]:  # noqa: F811
    """What the last operation kept as evidence."""
    with place.stores() as stores:
        return stores.evidence.find(deployment_id=last(place).deployment_id)


def of_releases(place: Place) -> list[Release]:  # noqa: F811
    with place.stores() as stores:
        return stores.releases.latest("test")


def two(images: Registry, name: str, **more: str) -> str:
    """A service and one that needs it."""
    needs = "{base: {condition: service_healthy}}"
    return service("base", images.image(f"{name}-base")) + service(
        "top", images.image(f"{name}-top"), depends_on=needs, **more
    )


async def test_an_update_takes_new_images_and_keeps_their_digests(place: Place, images: Registry) -> None:  # noqa: F811
    for part in ("base", "top"):
        images.publish(f"new-{part}", f"ENV VERSION=1 PART={part}", WELL)
    place.declare(two(images, "new"))
    await startup("test")
    digests = {part: images.publish(f"new-{part}", f"ENV VERSION=2 PART={part}", WELL) for part in ("base", "top")}
    plan = read_plan(open_project("test"), OF_UPDATE)

    result = await update("test", plan=plan_id(plan))

    assert isinstance(result, OperationResult)
    assert result.success
    assert [line.service for line in plan.changes] == ["base", "top"]
    assert "VERSION=2" in inspect(place, "base", "{{.Config.Env}}")
    assert {name: one.rpartition("@")[2] for name, one in of_releases(place)[0].digests.items()} == digests
    assert last(place).details["update"] == "all"
    assert planned().changes == read_plan(open_project("test"), OF_UPDATE).changes == ()


async def test_an_update_that_fails_goes_back_and_holds_the_image_back(place: Place, images: Registry) -> None:  # noqa: F811
    for part in ("base", "top"):
        images.publish(f"held-{part}", f"ENV VERSION=1 PART={part}", WELL)
    place.declare(two(images, "held"))
    await startup("test")
    (release,) = of_releases(place)
    top = inspect(place, "top", "{{.Id}} {{.State.StartedAt}}")
    bad = images.publish("held-base", "ENV VERSION=2 PART=base", BAD)
    images.publish("held-top", "ENV VERSION=2 PART=top", WELL)

    with pytest.raises(StartFailedError, match="base"):
        await update("test")

    assert last(place).details["rolled_back_to"] == release.release_id
    assert last(place).details["held_back"]["base"].endswith(bad)
    assert inspect(place, "base", "{{.Image}} {{.State.Health.Status}}") == f"{release.images['base']} healthy"
    # It was not its turn yet.
    assert inspect(place, "top", "{{.Id}} {{.State.StartedAt}}") == top
    assert planned().changes == ()
    assert [one.proven for one in of_releases(place)] == [False, True]

    await update("test")
    assert inspect(place, "base", "{{.Image}}") == release.images["base"]
    assert "VERSION=2" in inspect(place, "top", "{{.Config.Env}}")
    assert "is held back" in last(place).details["not_taken"]["base"]

    lift_images("test", bad[:20], "a user", datetime.now(UTC))
    changes = read_plan(open_project("test"), OF_UPDATE).changes
    assert [(line.service, line.action) for line in changes] == [("base", PlannedAction.RECREATE)]


@pytest.mark.campaign(seconds=12)
async def test_an_update_of_one_service_leaves_the_others_alone(place: Place, images: Registry) -> None:  # noqa: F811
    for part in ("base", "top"):
        images.publish(f"part-{part}", f"ENV VERSION=1 PART={part}", WELL)
    place.declare(two(images, "part"))
    await startup("test")
    base = inspect(place, "base", "{{.Id}} {{.State.StartedAt}}")
    for part in ("base", "top"):
        images.publish(f"part-{part}", f"ENV VERSION=2 PART={part}", WELL)

    await update("test", services=["top"])

    assert "VERSION=2" in inspect(place, "top", "{{.Config.Env}}")
    assert inspect(place, "base", "{{.Id}} {{.State.StartedAt}}") == base
    assert last(place).details["update"] == ["top"]


async def test_an_image_that_cannot_be_pulled_touches_nothing(place: Place, images: Registry) -> None:  # noqa: F811
    images.publish("gone", WELL)
    place.declare(service("web", images.image("gone")))
    await startup("test")
    before = inspect(place, "web", "{{.Id}} {{.State.StartedAt}}")
    images.stop()
    try:
        with pytest.raises(ImageFetchError, match="pull") as failed:
            await update("test")
    finally:
        images.start()

    assert "`pull_policy: never`" in failed.value.advice
    with place.stores() as stores:
        (error,) = stores.errors.list_unresolved("test")
        assert stores.errors.impacts(error.error_id) == [], "web runs on, so nobody is hit"
        (ticket,) = stores.tickets.find(environment="test")
        assert "Start it again: roas update test" in ticket.steps
    assert inspect(place, "web", "{{.Id}} {{.State.StartedAt}}") == before
    assert last(place).details["undone"] == "no container was touched"
    (kept,) = evidence(place)
    assert (kept.service, kept.reason) == ("web", "the pull of web failed")
    assert any("connection refused" in line for line in kept.logs[0].lines)
    assert image_id(images.image("gone")) == inspect(place, "web", "{{.Image}}")


@pytest.mark.campaign
async def test_a_build_that_fails_touches_nothing_and_says_what_it_printed(place: Place, images: Registry) -> None:  # noqa: F811
    context: Path = place.folder / "app"
    context.mkdir()
    (context / "Dockerfile").write_text(f"FROM debian:trixie-slim\n{WELL}\n")
    name = images.image("unbuilt")
    place.declare(service("web", name, build="./app", pull_policy="build"))
    try:
        await startup("test")
        before, image = inspect(place, "web", "{{.Id}} {{.State.StartedAt}}"), image_id(name)
        (context / "Dockerfile").write_text("FROM debian:trixie-slim\nRUN echo compiling; echo no header >&2; exit 7\n")

        with pytest.raises(ImageFetchError, match="build"):
            await update("test")

        assert inspect(place, "web", "{{.Id}} {{.State.StartedAt}}") == before
        assert image_id(name) == image
        why = read_explanation(last(place).deployment_id)
        assert "exit code: 7" in why.headline
        assert why.service == "web"
        assert any("no header" in line.text for line in why.lines)
        assert why.evidence == tuple(one.bundle_id for one in evidence(place))
        with place.stores() as stores:
            (error,) = stores.errors.list_by_deployment(last(place).deployment_id)
        assert error.verdict.category is Category.BUILD_FAILED
    finally:
        subprocess.run(["docker", "rm", "-f", place.container("web")], capture_output=True, check=False)
        subprocess.run(["docker", "rmi", "-f", name], capture_output=True, check=False)


@pytest.mark.campaign
async def test_a_build_that_fails_is_not_built_again_until_its_context_changes(place: Place, images: Registry) -> None:  # noqa: F811
    context: Path = place.folder / "app"
    context.mkdir()
    (context / "Dockerfile").write_text(f"FROM debian:trixie-slim\n{WELL}\n")
    place.declare(service("web", images.image("own"), build="./app"))
    try:
        await startup("test")
        (context / "Dockerfile").write_text(f"FROM debian:trixie-slim\n{BAD}\n")
        with pytest.raises(StartFailedError):
            await update("test")

        held_back = read_plan(open_project("test"), OF_UPDATE)
        (context / "Dockerfile").write_text(f"FROM debian:trixie-slim\nENV VERSION=3\n{WELL}\n")
        await update("test")

        assert held_back.changes == ()
        assert "is held back" in held_back.service("web").note
        assert "VERSION=3" in inspect(place, "web", "{{.Config.Env}}")
    finally:
        subprocess.run(["docker", "rm", "-f", place.container("web")], capture_output=True, check=False)
        subprocess.run(["docker", "rmi", "-f", images.image("own")], capture_output=True, check=False)


@pytest.mark.campaign
async def test_a_new_container_is_started_as_soon_as_compose_gave_it_its_name(place: Place) -> None:  # noqa: F811
    place.declare(service("web", "debian:trixie-slim", command="[sh, -c, 'touch /tmp/well; exec sleep 600']"))
    await startup("test")
    before = inspect(place, "web", "{{.Id}}")
    place.declare(service("web", "debian:trixie-slim", command="[sh, -c, 'touch /tmp/well; exec sleep 601']"))
    environment = find_environment("test")

    async with watch_project(Project(environment)) as watch:
        starting = asyncio.create_task(start_when_replaced(Project(environment), "web", watch))
        # Compose's part, which starts nothing.
        await create_containers(Project(environment), fetched=True, services=["web"])
        async with asyncio.timeout(300):
            while inspect(place, "web", "{{.State.Status}}") != "running":
                await watch.change("web")
        starting.cancel()

    assert inspect(place, "web", "{{.Id}}") != before
    assert read_plan(Project(environment), OF_UPDATE).service("web").action is PlannedAction.KEEP


@pytest.mark.campaign
async def test_an_update_without_a_pull_proves_what_it_replaced(place: Place) -> None:  # noqa: F811
    place.declare(
        service("web", "debian:trixie-slim", command="[sh, -c, 'touch /tmp/well; exec sleep 600']", pull_policy="never")
    )
    await startup("test")
    place.declare(
        service("web", "debian:trixie-slim", command="[sh, -c, 'touch /tmp/well; exec sleep 601']", pull_policy="never")
    )

    result = await update("test")

    assert isinstance(result, OperationResult)
    [started] = result.services
    assert (started.service, started.state, started.kept) == ("web", "healthy", False)
    assert last(place).details["kept"] == []
