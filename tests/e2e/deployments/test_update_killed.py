"""The process of an update is killed with SIGKILL: it is taken up again, or undone, with every image name right."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path

import pytest

from adapters.stores import Stores
from flows.deployment.startup import startup
from flows.deployment.update import update
from models.failures import PausedError, StartFailedError
from models.operations import Operation, OperationStatus
from models.records import Release
from tests.e2e.deployments.test_update import BAD, WELL, inspect, service
from tests.e2e.flows.conftest import Place, flows_are_recorded, place, well  # noqa: F401 - fixtures
from tests.e2e.flows.test_watch import until
from tests.support.docker_command import docker_command
from tests.support.killed_flow import killed_flow
from tests.support.person_between import CLOSED_WINDOW, PAUSED, STOPPED, between
from tests.support.prefect_server import server_variables
from tests.support.registry import Registry, image_id
from tests.support.taken_up import BY_AGENT, BY_HAND, BY_RETRY, is_left_by_the_agent, take_up
from tests.support.warm import warm_commands

pytestmark = [pytest.mark.engine, pytest.mark.flow, pytest.mark.campaign(seconds=25)]

ROAS = Path(sys.executable).with_name("roas")
PARTS = ("base", "top")
NEVER_WELL = 'CMD ["sh", "-c", "exec sleep 600"]'
"""Runs long enough to be seen running, which what ends at once is not."""
TIMEOUT_SECONDS = 300

Steps = set[tuple[str, str | None]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Kill:
    """When an update is killed, by its steps and the images that its services run on; the last image may be bad."""

    when: Callable[[Steps, dict[str, bool]], bool]
    image: str = WELL

    @property
    def bad(self) -> bool:
        return self.image != WELL


KILLS = {
    "while it fetches": Kill(when=lambda steps, _: ("fetching", None) in steps),
    "while the last service is proven": Kill(when=lambda _, moved: moved["top"]),
    "while a bad image is tried": Kill(when=lambda _, moved: moved["top"], image=NEVER_WELL),
    "during the rollback": Kill(when=lambda steps, _: ("undoing", None) in steps, image=BAD),
}

LEFT = ("while a bad image is tried", "during the rollback")
"""test_interrupted_update.py has the earlier moments."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Killed:
    """An update that was killed, and what ran before it."""

    deployment_id: str
    names: dict[str, str]
    before: dict[str, str]
    after: dict[str, str]


def runs(place: Place) -> dict[str, str]:  # noqa: F811
    """The image of each service's container; empty where there is none this moment."""
    command = ["docker", "ps", "-a", "--no-trunc", "--filter", f"label=com.docker.compose.project={place.project}"]
    listed = subprocess.run([*command, "-q"], capture_output=True, text=True, check=True).stdout.split()
    found = dict.fromkeys(PARTS, "")
    for container in listed:
        words = '{{index .Config.Labels "com.docker.compose.service"}} {{.Image}} {{.State.Running}}'
        done = subprocess.run(
            ["docker", "inspect", "-f", words, container], capture_output=True, text=True, check=False
        )
        if done.returncode == 0:
            name, image, running = done.stdout.split()
            found[name] = image if running == "true" else found[name]
    return found


@contextmanager
def opened(place: Place) -> Iterator[Stores]:  # noqa: F811
    with place.stores() as stores:
        yield stores


async def killed(place: Place, images: Registry, name: str, kill: Kill) -> Killed:  # noqa: F811
    """Start an application, publish new images, and kill its update at the moment."""
    for part in PARTS:
        images.publish(f"{name}-{part}", f"ENV VERSION=1 PART={part}", WELL)
    names = {part: images.image(f"{name}-{part}") for part in PARTS}
    needs = "{base: {condition: service_healthy}}"
    place.declare(
        service("base", names["base"]) + service("top", names["top"], depends_on=needs), stabilisation_seconds=3
    )
    await startup("test")
    before = {part: image_id(one) for part, one in names.items()}
    images.publish(f"{name}-base", "ENV VERSION=2 PART=base", WELL)
    images.publish(f"{name}-top", "ENV VERSION=2 PART=top", kill.image)
    after = {part: image_id(f"127.0.0.1:{images.port}/{name}-{part}") for part in PARTS}
    with (place.folder / "update.log").open("w") as log:
        process = subprocess.Popen(
            [ROAS, "update", "test"], stdout=log, stderr=log, env=server_variables() | warm_commands()
        )
        deadline = time.monotonic() + TIMEOUT_SECONDS
        with opened(place) as stores:
            while True:
                assert process.poll() is None, (place.folder / "update.log").read_text()
                assert time.monotonic() < deadline, (place.folder / "update.log").read_text()
                begun = stores.operations.list_running("test")
                if not begun or "runner" not in begun[0].details:
                    continue
                steps = {(one.step, one.service) for one in stores.progress.steps(begun[0].deployment_id)}
                moved = {part: image == after[part] for part, image in runs(place).items()}
                if kill.when(steps, moved):
                    break
        os.kill(int(begun[0].details["runner"]["pid"]), signal.SIGKILL)
        process.wait()
    return Killed(deployment_id=begun[0].deployment_id, names=names, before=before, after=after)


def roas(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [ROAS, *words], capture_output=True, text=True, check=False, env=server_variables() | warm_commands()
    )


def records(place: Place, deployment_id: str) -> tuple[Operation, list[Release]]:  # noqa: F811
    with opened(place) as stores:
        return stores.operations.get(deployment_id), stores.releases.latest("test")


def check_images(place: Place, killed: Killed, wanted: dict[str, str]) -> None:  # noqa: F811
    """Each service runs on this image, its name means it, and there is no container beside."""
    assert runs(place) == wanted
    assert {part: image_id(name) for part, name in killed.names.items()} == wanted
    assert place.containers() == sorted(PARTS)
    assert {inspect(place, part, "{{.State.Health.Status}}") for part in PARTS} == {"healthy"}


@pytest.mark.parametrize("moment", KILLS)
async def test_a_killed_update_that_is_taken_up_again_ends_as_if_it_had_not_been(
    place: Place,  # noqa: F811
    images: Registry,
    moment: str,
) -> None:
    kill = KILLS[moment]
    dead = await killed(place, images, f"resumed-{list(KILLS).index(moment)}", kill)

    done = roas("resume", dead.deployment_id)

    operation, releases = records(place, dead.deployment_id)
    if kill.bad:
        assert done.returncode == 1, done.stdout + done.stderr
        assert operation.status is OperationStatus.FAILED
        assert [one.proven for one in releases if one.images == dead.before] == [True]
        assert all(not one.proven for one in releases if one.images != dead.before)
        check_images(place, dead, dead.before)
    else:
        assert done.returncode == 0, done.stdout + done.stderr
        assert operation.status is OperationStatus.SUCCESS
        assert releases[0].images == dead.after
        assert "update of test" in done.stdout
        check_images(place, dead, dead.after)


@pytest.mark.parametrize("moment", LEFT)
async def test_after_a_killed_update_that_is_left_the_next_one_ends_well(
    place: Place,  # noqa: F811
    images: Registry,
    moment: str,
) -> None:
    kill = KILLS[moment]
    dead = await killed(place, images, f"left-{list(KILLS).index(moment)}", kill)

    done = roas("update", "test")

    operation, releases = records(place, dead.deployment_id)
    assert "interrupted" in operation.details
    if kill.bad:
        # A rollback begins with holding back what failed, so that the next update does not try it again.
        assert done.returncode == (0 if kill.image == BAD else 1), done.stdout + done.stderr
        assert "held back" in done.stdout
        assert all(one.images["top"] == dead.before["top"] for one in releases if one.proven)
        assert runs(place)["top"] == image_id(dead.names["top"]) == dead.before["top"]
        assert place.containers() == sorted(PARTS)
    else:
        assert done.returncode == 0, done.stdout + done.stderr
        assert releases[0].images == dead.after
        check_images(place, dead, dead.after)


async def test_a_rollback_after_a_killed_update_gives_back_the_names_that_it_had_moved(
    place: Place,  # noqa: F811
    images: Registry,
) -> None:
    dead = await killed(place, images, "rolled-back", KILLS["while the last service is proven"])

    done = roas("rollback", "test")

    assert done.returncode == 0, done.stdout + done.stderr
    check_images(place, dead, dead.before)
    overtaken = roas("resume", dead.deployment_id)
    assert (overtaken.returncode, "is overtaken: the rollback" in overtaken.stderr) == (2, True), overtaken.stderr
    await startup("test")
    check_images(place, dead, dead.before)


def declare(place: Place, version: str, *, top: str = "touch /tmp/well; exec sleep 600") -> None:  # noqa: F811
    """Two services of a version, one behind the other."""
    more = {"labels": f"{{version: '{version}'}}", "pull_policy": "never"}
    last = well("top", depends_on="{base: {condition: service_healthy}}", **more)
    place.declare(well("base", **more) + last.replace("touch /tmp/well; exec sleep 600", top))


def versions(place: Place) -> dict[str, str]:  # noqa: F811
    return {name: inspect(place, name, "{{.Config.Labels.version}} {{.State.Health.Status}}") for name in PARTS}


def killed_update(place: Place, *moment: str) -> Operation:  # noqa: F811
    killed_flow("update", {"environment": "test"}, *moment, pool=place.project)
    with opened(place) as stores:
        return stores.operations.history(environment="test")[0]


@pytest.mark.campaign(seconds=15)
@pytest.mark.parametrize(("moment", "way"), [(("after", "found"), BY_RETRY), (("after", "proven", "base"), BY_AGENT)])
async def test_a_killed_update_goes_on_by_itself(place: Place, moment: tuple[str, ...], way: str) -> None:  # noqa: F811
    declare(place, "1")
    await startup("test")
    declare(place, "2")
    killed = killed_update(place, *moment)

    await take_up(way, update, killed, place.project)

    assert versions(place) == dict.fromkeys(PARTS, "2 healthy")
    assert records(place, killed.deployment_id)[0].status is OperationStatus.SUCCESS


@pytest.mark.campaign(seconds=20)
async def test_a_killed_update_that_was_being_undone_is_undone_by_itself(place: Place) -> None:  # noqa: F811
    declare(place, "1")
    await startup("test")
    declare(place, "2", top="echo no licence found; exit 3")
    killed = killed_update(place, "after", "undoing")

    with pytest.raises(StartFailedError):
        await take_up(BY_RETRY, update, killed, place.project)

    assert versions(place) == dict.fromkeys(PARTS, "1 healthy")
    assert records(place, killed.deployment_id)[0].status is OperationStatus.FAILED


@pytest.mark.campaign(seconds=20)
@pytest.mark.parametrize(
    ("undoing", "person"),
    [(False, STOPPED), (False, PAUSED), (True, CLOSED_WINDOW)],
    ids=lambda one: one if isinstance(one, str) else ("undoing" if one else "forward"),
)
async def test_what_a_person_does_after_an_update_was_killed_counts(
    place: Place,  # noqa: F811
    undoing: bool,
    person: str,
) -> None:
    killed, ends = await update_killed_half_way(
        place, *(("after", "undoing") if undoing else ("after", "proven", "base"))
    )

    await between(place, person, "top")

    way = BY_AGENT if person == CLOSED_WINDOW else BY_HAND
    if way == BY_HAND:
        assert await is_left_by_the_agent(killed, place.project)
        assert person != STOPPED or place.containers(running=True) == []
    with pytest.raises(StartFailedError) if undoing else nullcontext():
        await take_up(way, update, killed, place.project)
    assert versions(place) == dict.fromkeys(PARTS, f"{ends} healthy")
    recorded = records(place, killed.deployment_id)[0]
    assert recorded.status is (OperationStatus.FAILED if undoing else OperationStatus.SUCCESS)
    assert "undo_failed" not in recorded.details


async def update_killed_half_way(place: Place, *moment: str) -> tuple[Operation, str]:  # noqa: F811
    """An update that was killed, of which one that undoes itself had failed; and the version that it must end on."""
    declare(place, "1")
    await startup("test")
    undoing = "undoing" in moment
    declare(place, "2", **({"top": "echo no licence found; exit 3"} if undoing else {}))
    return killed_update(place, *moment), "1" if undoing else "2"


@pytest.mark.campaign(seconds=20)
@pytest.mark.parametrize(
    ("moment", "service", "way"),
    [
        (("after", "proven", "base"), "base", BY_HAND),
        (("after", "found"), "top", BY_RETRY),
        (("after", "undoing"), "base", BY_AGENT),
    ],
    ids=["forward-done", "forward-to do", "undoing"],
)
async def test_a_killed_update_waits_for_a_container_that_a_person_paused(
    place: Place,  # noqa: F811
    moment: tuple[str, ...],
    service: str,
    way: str,
) -> None:
    undoing = "undoing" in moment
    killed, ends = await update_killed_half_way(place, *moment)
    name = place.container(service)
    docker_command("pause", name)
    before = inspect(place, service, "{{.Id}} {{.State.StartedAt}}")

    with pytest.raises(PausedError, match=f"{name} is paused, so an update touches nothing"):
        await take_up(way, update, killed, place.project)

    assert inspect(place, service, "{{.State.Paused}}") == "true"
    assert inspect(place, service, "{{.Id}} {{.State.StartedAt}}") == before
    recorded = records(place, killed.deployment_id)[0]
    assert recorded.status is OperationStatus.FAILED
    assert recorded.record.interrupted
    assert name in recorded.details["reason"]

    # It is taken up again once the person has let it go on.
    docker_command("unpause", name)
    # The engine's checks of it failed meanwhile.
    await until(lambda: inspect(place, service, "{{.State.Health.Status}}") == "healthy")
    with pytest.raises(StartFailedError) if undoing else nullcontext():
        await take_up(BY_HAND, update, killed, place.project)
    assert versions(place) == dict.fromkeys(PARTS, f"{ends} healthy")
    recorded = records(place, killed.deployment_id)[0]
    assert recorded.status is (OperationStatus.FAILED if undoing else OperationStatus.SUCCESS)
    assert not recorded.record.interrupted
