from __future__ import annotations

import asyncio
import subprocess

import pytest

from core.deployment.plan import plan_id
from flows.deployment.rollback import rollback
from flows.deployment.startup import startup
from flows.deployment.stop import stop
from models.failures import BadInputError, NotFoundError, PlanChangedError, StartFailedError
from models.operations import Operation, OperationStatus
from models.records import Release
from models.results import OperationResult
from tasks.deployment.services import read_plan
from tasks.runtime.project import open_project
from tasks.storage.previews import preview_rollback
from tests.e2e.flows.conftest import HEALTH, IMAGE, Place, until, well
from tests.support.docker_command import docker_command
from tests.support.plain_tasks import tasks_make_no_runs  # noqa: F401 - fixture

pytestmark = [pytest.mark.engine, pytest.mark.flow]

ILL = f"""
base:
  image: {IMAGE}
  init: true
  command: [sh, -c, 'echo no licence found; exit 3']
  healthcheck: {HEALTH}
"""


def inspect(place: Place, service: str, what: str) -> str:
    done = subprocess.run(
        ["docker", "inspect", "-f", what, place.container(service)], capture_output=True, text=True, check=True
    )
    return done.stdout.strip()


def networks(place: Place) -> list[str]:
    command = ["docker", "network", "ls", "--filter", f"label=com.docker.compose.project={place.project}"]
    return subprocess.run([*command, "-q"], capture_output=True, text=True, check=True).stdout.split()


def last(place: Place) -> Operation:
    with place.stores() as stores:
        return stores.operations.history(environment="test")[0]


def releases(place: Place) -> list[Release]:
    with place.stores() as stores:
        return stores.releases.latest("test")


async def test_keeps_what_a_proven_start_left_running(place: Place) -> None:
    (place.folder / "motd").write_text("hello")
    place.declare(well("base", volumes="['./motd:/etc/motd:ro']"))

    result = await startup("test")

    assert isinstance(result, OperationResult)
    (kept,) = releases(place)
    assert kept.proven
    assert kept.deployment_id == result.deployment_id
    assert kept.images == {"base": inspect(place, "base", "{{.Image}}")}
    assert kept.hashes == {"base": inspect(place, "base", '{{index .Config.Labels "com.docker.compose.config-hash"}}')}
    assert list(kept.files) == [str(place.folder / "motd")]


async def test_a_start_that_changes_nothing_keeps_no_second_release(place: Place) -> None:
    place.declare(well("base"))
    await startup("test")
    await startup("test")

    assert len(releases(place)) == 1


async def test_a_failed_start_goes_back_to_the_last_proven_release(place: Place) -> None:
    place.declare(well("base") + well("top", depends_on="{base: {condition: service_healthy}}"))
    await startup("test")
    before = inspect(place, "base", '{{index .Config.Labels "com.docker.compose.config-hash"}}')
    (release,) = releases(place)
    place.declare(
        ILL + well("top", depends_on="{base: {condition: service_healthy}}") + well("extra"),
    )

    with pytest.raises(StartFailedError, match="base"):
        await startup("test")

    operation = last(place)
    assert operation.status is OperationStatus.FAILED
    assert operation.details["rolled_back_to"] == release.release_id
    assert "base" in operation.details["reason"]
    assert "base: configuration changed (command)" in operation.details["changes"]
    assert inspect(place, "base", '{{index .Config.Labels "com.docker.compose.config-hash"}}') == before
    assert inspect(place, "base", "{{.State.Health.Status}}") == "healthy"
    assert inspect(place, "top", "{{.State.Health.Status}}") == "healthy"
    assert place.containers() == ["base", "top"]
    assert len(releases(place)) == 1


async def test_a_failed_first_start_leaves_nothing_it_made(place: Place) -> None:
    place.declare(well("good") + ILL)

    with pytest.raises(StartFailedError):
        await startup("test")

    assert place.containers() == []
    assert networks(place) == []
    assert "removed base, good" in last(place).details["undone"]


async def test_a_failed_first_start_leaves_what_a_person_paused_meanwhile(place: Place) -> None:
    waits = "until test -e /place/ends; do sleep 0.1; done; exit 3"
    needs = "{good: {condition: service_healthy}}"
    ill = (
        ILL.replace("echo no licence found; exit 3", waits).rstrip()
        + f"\n  volumes: ['.:/place:ro']\n  depends_on: {needs}\n"
    )
    place.declare(well("good") + ill, services="{good: {start_timeout_seconds: 10}}")

    start = asyncio.create_task(startup("test"))
    await until(lambda: place.containers(running=True) == ["base", "good"])
    await asyncio.to_thread(docker_command, "pause", place.container("good"))
    (place.folder / "ends").touch()
    with pytest.raises(StartFailedError):
        await start

    assert place.containers() == ["good"]
    assert inspect(place, "good", "{{.State.Status}}") == "paused"
    assert len(networks(place)) == 1
    assert last(place).details["undone"].endswith("removed base; paused since, and left as it is good")


async def test_a_failed_start_puts_back_what_ran_before_it_was_known(place: Place) -> None:
    place.declare(well("base"))
    compose = ["docker", "compose", "-p", place.project, "-f", str(place.folder / "compose.yaml")]
    subprocess.run([*compose, "up", "-d", "--wait"], capture_output=True, check=True)
    place.declare(ILL)

    with pytest.raises(StartFailedError):
        await startup("test")

    assert place.containers(running=True) == ["base"]
    assert "touch /tmp/well" in inspect(place, "base", "{{.Config.Cmd}}")
    assert "put back as before: base" in last(place).details["undone"]


async def test_a_failed_start_leaves_stopped_what_a_person_had_stopped(place: Place) -> None:
    place.declare(well("base"))
    await startup("test")
    await stop("test")
    place.declare(well("good") + ILL)

    with pytest.raises(StartFailedError):
        await startup("test")

    assert place.containers() == ["base"]
    assert place.containers(running=True) == []
    assert "touch /tmp/well" in inspect(place, "base", "{{.Config.Cmd}}")
    undone = "stopped, as it was before: removed good; put back as before: base"
    assert last(place).details["undone"] == undone


@pytest.mark.campaign
async def test_goes_back_to_the_image_that_ran_although_its_name_means_another_now(place: Place) -> None:
    name = f"{place.project}:latest"
    docker_command("tag", IMAGE, name)
    try:
        place.declare(well("base").replace(IMAGE, name))
        await startup("test")
        image = inspect(place, "base", "{{.Image}}")
        bad = subprocess.run(
            ["docker", "build", "-q", "-t", name, "-"],
            input=f"FROM {IMAGE}\nENV BROKEN=1\nENTRYPOINT [\"/bin/false\"]\n",
            capture_output=True, text=True, check=True,
        ).stdout.strip()  # fmt: skip

        with pytest.raises(StartFailedError):
            await startup("test")

        assert bad != image
        assert inspect(place, "base", "{{.Image}}") == image
        assert inspect(place, "base", "{{.State.Health.Status}}") == "healthy"
    finally:
        subprocess.run(["docker", "rm", "-f", place.container("base")], capture_output=True, check=False)
        subprocess.run(["docker", "rmi", "-f", name], capture_output=True, check=False)


async def test_rolls_back_to_the_release_before(place: Place) -> None:
    place.declare(well("base", environment="{STAGE: one}"))
    await startup("test")
    place.declare(well("base", environment="{STAGE: two}"))
    await startup("test")
    second, first = releases(place)

    result = await rollback("test")

    assert result.success
    assert "STAGE=one" in inspect(place, "base", "{{.Config.Env}}")
    operation = last(place)
    assert operation.status is OperationStatus.SUCCESS
    assert operation.details["rollback_to"] == first.release_id
    assert releases(place)[0].reason == f"release {first.release_id} again"
    await rollback("test", release=second.release_id)
    assert "STAGE=two" in inspect(place, "base", "{{.Config.Env}}")


@pytest.mark.campaign
async def test_there_is_nothing_to_roll_back_to_where_only_one_release_ran(place: Place) -> None:
    place.declare(well("base"))
    await startup("test")

    with pytest.raises(BadInputError, match="differs"):
        await rollback("test")

    assert place.containers(running=True) == ["base"]


@pytest.mark.campaign
async def test_a_value_that_looks_like_a_secret_is_not_kept_and_still_comes_back(place: Place) -> None:
    place.declare(well("base", environment="{DB_PASSWORD: correct-horse-battery, STAGE: one}"))
    await startup("test")
    place.declare(well("base", environment="{DB_PASSWORD: correct-horse-battery, STAGE: two}"))
    await startup("test")

    await rollback("test")

    assert "DB_PASSWORD=correct-horse-battery" in inspect(place, "base", "{{.Config.Env}}")
    for file in (place.folder / "data").rglob("*"):
        if file.is_file():
            assert b"correct-horse-battery" not in file.read_bytes(), file


@pytest.mark.campaign
async def test_a_start_that_would_not_do_what_its_plan_says_touches_nothing(place: Place) -> None:
    place.declare(well("base"))
    await startup("test")
    before = inspect(place, "base", "{{.Id}} {{.State.StartedAt}}")
    place.declare(well("base", environment="{STAGE: two}"))
    planned = plan_id(read_plan(open_project("test")))
    place.declare(well("base", environment="{STAGE: three}"))

    with pytest.raises(PlanChangedError, match="recreate base"):
        await startup("test", plan=planned)

    assert inspect(place, "base", "{{.Id}} {{.State.StartedAt}}") == before
    assert last(place).status is OperationStatus.FAILED
    # Who asked was answered: no error of the application, and nothing for anybody else to answer.
    assert last(place).record.plan == {}
    assert place.stores().errors.latest() == []
    assert place.stores().tickets.find() == []
    result = await startup("test", plan=plan_id(read_plan(open_project("test"))))
    assert isinstance(result, OperationResult)
    assert result.success


@pytest.mark.campaign
async def test_a_changed_mounted_file_is_planned_as_a_restart(place: Place) -> None:
    (place.folder / "motd").write_text("hello")
    place.declare(well("base", volumes="['./motd:/etc/motd:ro']"))
    await startup("test")
    started = inspect(place, "base", "{{.State.StartedAt}}")
    (place.folder / "motd").write_text("good bye")

    (line,) = read_plan(open_project("test")).changes
    assert "motd changed" in line.because
    await startup("test")

    assert inspect(place, "base", "{{.State.StartedAt}}") != started
    assert read_plan(open_project("test")).changes == ()


async def test_a_preview_of_a_rollback_names_what_it_would_undo_and_changes_nothing(place: Place) -> None:
    place.declare(well("base"))
    await startup("test")
    place.declare(well("base", environment="{GREETING: hello}"))
    await startup("test")
    newer, older = releases(place)
    before = inspect(place, "base", "{{.Id}}")

    preview = await preview_rollback(open_project("test"), None, with_data=False)

    assert (preview.release_id, preview.proven_at, preview.data) == (older.release_id, older.created_at, None)
    (release,) = preview.later_releases
    assert release.startswith(f"{newer.release_id}: ")
    assert "base" in release
    assert inspect(place, "base", "{{.Id}}") == before
    with pytest.raises(NotFoundError, match="No snapshot was taken"):
        await preview_rollback(open_project("test"), older.release_id, with_data=True)
