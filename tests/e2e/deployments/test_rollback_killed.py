"""The process of a rollback is killed: taken up again it brings back the same release, or what ran at first.

The simulation kills it between any two statements; here an engine creates the containers and a server keeps the runs.
"""

from __future__ import annotations

import subprocess
from contextlib import nullcontext
from functools import partial

import pytest

from flows.deployment.rollback import rollback
from flows.deployment.startup import startup
from models.failures import PausedError, StartFailedError
from models.operations import OperationStatus
from tests.e2e.flows.conftest import HEALTH, IMAGE, Place, flows_are_recorded, place, well  # noqa: F401 - fixtures
from tests.e2e.flows.test_releases import inspect, last, releases
from tests.support.docker_command import docker_command
from tests.support.killed_flow import killed_flow
from tests.support.person_between import CLOSED_WINDOW, PAUSED, PAUSED_CONTAINER, STOPPED, between
from tests.support.taken_up import BY_AGENT, BY_HAND, BY_RETRY, is_left_by_the_agent, take_up

pytestmark = [pytest.mark.engine, pytest.mark.flow, pytest.mark.campaign(seconds=20)]

STAGES = ("one", "two", "three")


def stage(place: Place, name: str) -> None:  # noqa: F811
    """Declare a service that becomes healthy while its stage's flag is there."""
    place.declare(f"""
base:
  image: {IMAGE}
  init: true
  environment: {{STAGE: {name}}}
  command: [sh, -c, 'test -e /flags/$$STAGE && touch /tmp/well; exec sleep 600']
  volumes: ['{place.folder}/flags:/flags']
  healthcheck: {HEALTH}
""")


async def three_releases(place: Place) -> dict[str, str]:  # noqa: F811
    """Start one stage after the other; the id of each one's release."""
    found = {}
    (place.folder / "flags").mkdir()
    for name in STAGES:
        (place.folder / "flags" / name).touch()
        stage(place, name)
        await startup("test")
        found[name] = releases(place)[0].release_id
    return found


def runs(place: Place, name: str) -> bool:  # noqa: F811
    return place.containers() == ["base"] and f"STAGE={name}" in inspect(place, "base", "{{.Config.Env}}")


async def test_a_resumed_rollback_that_fails_brings_back_what_ran_at_first(place: Place) -> None:  # noqa: F811
    kept = await three_releases(place)
    (place.folder / "flags" / "two").unlink()
    killed_flow("rollback", {"environment": "test"}, when=partial(runs_two, place))

    with pytest.raises(StartFailedError, match="base"):
        await rollback("test", deployment_id=last(place).deployment_id)

    assert runs(place, "three")
    assert inspect(place, "base", "{{.State.Health.Status}}") == "healthy"
    assert last(place).details["rolled_back_to"] == kept["three"]


def runs_two(place: Place) -> bool:  # noqa: F811
    try:
        return runs(place, "two")
    except Exception:  # noqa: BLE001 - it is being replaced
        return False


FILE_MOMENTS = (("before", "found"), ("after", "found"), ("before", "proven", "base"))


async def test_a_killed_rollback_that_is_resumed_has_the_files_and_values_of_its_release(place: Place) -> None:  # noqa: F811
    file = place.folder / "motd"
    place.declare(well("base", volumes="['./motd:/etc/motd:ro']", env_file="[app.env]"))
    for text in ("one", "two"):
        file.write_text(text)
        (place.folder / "app.env").write_text(f"PASSWORD={text}-password\n")
        await startup("test")
    command = ["docker", "exec", place.container("base"), "sh", "-c", "cat /etc/motd; echo $PASSWORD"]
    for moment in FILE_MOMENTS:
        killed_flow("rollback", {"environment": "test"}, *moment)

        await rollback("test", deployment_id=last(place).deployment_id)

        read = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        assert read == "oneone-password\n", moment
        assert file.read_text() == "two"
        await startup("test")


@pytest.mark.parametrize(("moment", "way"), [(("after", "found"), BY_AGENT), (("before", "proven", "base"), BY_RETRY)])
async def test_a_killed_rollback_that_goes_on_by_itself_brings_back_the_release_that_it_chose(
    place: Place,  # noqa: F811
    moment: tuple[str, ...],
    way: str,
) -> None:
    kept = await three_releases(place)
    killed_flow("rollback", {"environment": "test"}, *moment, pool=place.project)

    await take_up(way, rollback, last(place), place.project)

    assert runs(place, "two")
    assert last(place).status is OperationStatus.SUCCESS
    assert last(place).details["rollback_to"] == kept["two"]


async def test_a_rollback_that_was_undoing_itself_goes_on_with_that_by_itself(place: Place) -> None:  # noqa: F811
    await three_releases(place)
    (place.folder / "flags" / "two").unlink()
    killed_flow("rollback", {"environment": "test"}, "after", "undoing", pool=place.project)
    (place.folder / "flags" / "two").touch()

    with pytest.raises(StartFailedError, match="its runner was lost during the rollback"):
        await take_up(BY_RETRY, rollback, last(place), place.project)

    assert runs(place, "three")


@pytest.mark.parametrize(
    ("undoing", "person"),
    [(False, PAUSED_CONTAINER), (False, CLOSED_WINDOW), (True, STOPPED), (True, PAUSED)],
    ids=lambda one: one if isinstance(one, str) else ("undoing" if one else "forward"),
)
async def test_what_a_person_does_after_a_rollback_was_killed_counts(
    place: Place,  # noqa: F811
    undoing: bool,
    person: str,
) -> None:
    await three_releases(place)
    if undoing:
        (place.folder / "flags" / "two").unlink()
    killed_flow("rollback", {"environment": "test"}, "after", "undoing" if undoing else "found", pool=place.project)
    killed = last(place)
    container = inspect(place, "base", "{{.Id}} {{.State.StartedAt}}")

    await between(place, person, "base")

    if person == PAUSED_CONTAINER:
        with pytest.raises(PausedError, match="is paused, so a rollback touches nothing"):
            await take_up(BY_HAND, rollback, killed, place.project)
        assert inspect(place, "base", "{{.State.Paused}}") == "true"
        assert inspect(place, "base", "{{.Id}} {{.State.StartedAt}}") == container
        assert last(place).record.interrupted
        docker_command("unpause", place.container("base"))
    elif person != CLOSED_WINDOW:
        assert await is_left_by_the_agent(killed, place.project)
        assert place.containers(running=True) == ([] if person == STOPPED else ["base"])
    with pytest.raises(StartFailedError) if undoing else nullcontext():
        await take_up(BY_AGENT if person == CLOSED_WINDOW else BY_HAND, rollback, killed, place.project)
    assert runs(place, "three" if undoing else "two")
    with place.stores() as stores:
        recorded = stores.operations.get(killed.deployment_id)
    assert recorded.status is (OperationStatus.FAILED if undoing else OperationStatus.SUCCESS)
    assert not recorded.record.interrupted
    assert "undo_failed" not in recorded.details
