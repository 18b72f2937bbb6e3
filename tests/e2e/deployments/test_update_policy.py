"""When an update may begin, how old its images must be, and what it says of them, on a real engine and registry."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Awaitable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from prefect import get_client
from prefect.client.schemas.filters import DeploymentFilter, DeploymentFilterId
from prefect.client.schemas.objects import State
from prefect.flow_engine import run_flow
from prefect.states import Pending

from flows.deployment.rollback import rollback
from flows.deployment.startup import startup
from flows.deployment.update import update
from models.compose import OF_UPDATE, FetchOptions, PlannedAction
from models.failures import BadInputError, StartFailedError
from tasks.deployment.services import read_plan
from tasks.reporting.read import read_releases
from tasks.runtime.project import open_project
from tests.e2e.deployments.test_update import BAD, WELL, inspect, last, service
from tests.e2e.flows.conftest import Place, flows_are_recorded, place  # noqa: F401 - fixtures
from tests.support.docker_command import docker_command
from tests.support.plain_tasks import tasks_make_no_runs  # noqa: F401 - fixture
from tests.support.prefect_server import server_variables
from tests.support.registry import Registry, image_id
from tests.support.warm import warm_commands

pytestmark = [pytest.mark.engine, pytest.mark.flow]

ROAS = Path(sys.executable).with_name("roas")
PREFIX = "org.opencontainers.image"


def roas(*words: str) -> subprocess.CompletedProcess[str]:
    variables = server_variables() | warm_commands()
    return subprocess.run([ROAS, *words], capture_output=True, text=True, check=False, env=variables)


def closed() -> str:
    """A window that is closed for the whole test: it opens in half a week, for an hour."""
    later = datetime.now(UTC) + timedelta(days=3)
    return f"{{windows: [{{days: [{later:%A}], from: '12:00', to: '13:00'}}]}}".replace(
        f"{later:%A}", f"{later:%A}".lower()
    )


def labels(version: str, revision: str) -> str:
    return f'LABEL {PREFIX}.version="{version}" {PREFIX}.revision="{revision}"'


@pytest.mark.campaign
async def test_an_update_outside_of_its_windows_is_refused_and_runs_with_now(place: Place, images: Registry) -> None:  # noqa: F811
    images.publish("window", "ENV VERSION=1", WELL)
    place.declare(service("web", images.image("window")), update=closed())
    await startup("test")
    images.publish("window", "ENV VERSION=2", WELL)

    refused = roas("update", "test")

    assert refused.returncode == 2
    assert refused.stdout == ""
    (line,) = refused.stderr.splitlines()
    assert "outside of the update windows of test; the next one is " in line
    with pytest.raises(BadInputError, match="outside of the update windows"):
        await update("test")
    with place.stores() as stores:
        assert len(stores.operations.history(environment="test")) == 1
        assert stores.tickets.find(environment="test") == []

    done = roas("update", "test", "--now")
    assert done.returncode == 0, done.stderr
    assert "VERSION=2" in inspect(place, "web", "{{.Config.Env}}")


async def updated_by_schedule(place: Place) -> State[Any]:  # noqa: F811
    """Let the server's scheduler begin an update, and a worker run it; the run's last state."""
    made = await update.ato_deployment(
        name=place.project, interval=timedelta(hours=1), parameters={"environment": "test"}
    )
    deployment = await made.aapply()
    async with get_client() as client:
        # What the server's scheduler asks itself for.
        (await client._client.post(f"/deployments/{deployment}/schedule", json={"min_runs": 1})).raise_for_status()
        only = DeploymentFilter(id=DeploymentFilterId(any_=[deployment]))
        run = (await client.read_flow_runs(deployment_filter=only))[0]
        # As a worker does when it is due.
        await client.set_flow_run_state(run.id, Pending(), force=True)
        run = await client.read_flow_run(run.id)
        running = run_flow(update, flow_run=run, return_type="state")
        assert isinstance(running, Awaitable)
        await running
        state = (await client.read_flow_run(run.id)).state
        await client.delete_deployment(deployment)
    assert state is not None
    return state


async def test_a_scheduled_update_outside_of_its_windows_is_skipped_without_a_record(
    place: Place,  # noqa: F811
) -> None:
    place.declare(service("web", "debian:trixie-slim"), update=closed())

    state = await updated_by_schedule(place)

    assert state.is_completed()
    assert state.name == "Skipped"
    assert "the next one is" in str(state.message)
    with place.stores() as stores:
        assert stores.operations.history(environment="test") == []


def on_record(place: Place) -> tuple[list[str], list[tuple[str, int]], list[str]]:  # noqa: F811
    """Operations, errors with their counts, and tickets."""
    with place.stores() as stores:
        return (
            [one.deployment_id for one in stores.operations.history(environment="test")],
            [(one.error_id, one.count) for one in stores.errors.latest("test")],
            [one.ticket_id for one in stores.tickets.find(environment="test")],
        )


@pytest.mark.campaign(seconds=40)
async def test_a_schedule_tries_no_update_again_that_failed_with_the_same_files(place: Place, images: Registry) -> None:  # noqa: F811
    reads = 'CMD ["sh", "-c", "grep good /etc/app.conf || exit 3; touch /tmp/well; exec sleep 600"]'
    images.publish("filed", reads)
    declared = service("web", images.image("filed"), volumes="['./app.conf:/etc/app.conf:ro']")
    (place.folder / "app.conf").write_text("good\n")
    place.declare(declared)
    await startup("test")
    (place.folder / "app.conf").write_text("wrong\n")
    assert (await updated_by_schedule(place)).is_failed()
    known, failed = on_record(place), last(place).deployment_id
    container = inspect(place, "web", "{{.Id}} {{.State.StartedAt}}")

    again = await updated_by_schedule(place)

    assert again.name == "Skipped"
    assert f"test is unchanged since {failed} failed on " in str(again.message)
    assert str(again.message).endswith("or try it again: roas update test")
    assert on_record(place) == known
    assert inspect(place, "web", "{{.Id}} {{.State.StartedAt}}") == container

    with pytest.raises(StartFailedError):
        await update("test")
    assert len(on_record(place)[0]) == len(known[0]) + 1, "a person may try it"
    assert (await updated_by_schedule(place)).name == "Skipped"
    (place.folder / "app.conf").write_text("good again\n")
    assert (await updated_by_schedule(place)).name == "Completed"

    place.declare(declared, variables="[ROAS_TEST_NOWHERE_SET]")
    assert (await updated_by_schedule(place)).is_failed()
    known, refused = on_record(place), last(place).deployment_id
    again = await updated_by_schedule(place)
    assert (again.name, refused in str(again.message)) == ("Skipped", True)
    assert on_record(place) == known
    place.declare(declared)
    assert (await updated_by_schedule(place)).name == "Completed"


@pytest.mark.campaign(seconds=12)
async def test_a_young_image_is_not_taken_yet_and_its_name_stays(place: Place, images: Registry) -> None:  # noqa: F811
    images.publish("young", "ENV VERSION=1", WELL)
    place.declare(service("web", images.image("young")), update="{minimum_age_hours: 24}")
    await startup("test")
    image, container = image_id(images.image("young")), inspect(place, "web", "{{.Id}} {{.State.StartedAt}}")
    # The engine's build cache must not have it from another day.
    images.publish("young", f"LABEL made={time.time_ns()}", "ENV VERSION=2", WELL)
    before = read_plan(open_project("test"), OF_UPDATE)

    await update("test")

    assert "is known once it is fetched" in before.service("web").note
    assert "less than 24 h ago, so updates take it from " in last(place).details["not_taken"]["web"]
    assert inspect(place, "web", "{{.Id}} {{.State.StartedAt}}") == container
    assert image_id(images.image("young")) == image
    # The engine has it now, so the plan knows.
    known = read_plan(open_project("test"), OF_UPDATE)
    assert known.service("web").action is PlannedAction.KEEP
    assert "less than 24 h ago" in known.service("web").note

    place.declare(service("web", images.image("young")), update="{minimum_age_hours: 0}")
    await update("test")
    assert "VERSION=2" in inspect(place, "web", "{{.Config.Env}}")


@pytest.mark.campaign
async def test_a_name_that_refers_to_a_held_back_image_is_given_back(place: Place, images: Registry) -> None:  # noqa: F811
    images.publish("back", "ENV VERSION=1", WELL)
    name = images.image("back")
    place.declare(service("web", name))
    await startup("test")
    image = image_id(name)
    images.publish("back", "ENV VERSION=2", BAD)
    with pytest.raises(StartFailedError):
        await update("test")
    container = inspect(place, "web", "{{.Id}} {{.State.StartedAt}}")
    # As an update leaves it that cannot give the name back.
    docker_command("pull", "-q", name)
    planned = read_plan(open_project("test"), OF_UPDATE)

    await update("test")

    assert planned.changes == ()
    assert "is held back" in last(place).details["not_taken"]["web"]
    assert inspect(place, "web", "{{.Id}} {{.State.StartedAt}}") == container
    assert image_id(name) == image


@pytest.mark.campaign
async def test_what_changes_is_said_by_plan_record_release_and_repository(place: Place, images: Registry) -> None:  # noqa: F811
    def git(*words: str) -> str:
        command = ["git", "-C", str(place.folder), "-c", "user.name=T", "-c", "user.email=t@example.com", *words]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    git("init", "-q")
    revisions = []
    for number in range(24):
        git("commit", "-q", "--allow-empty", "-m", f"Change {number} \x1b[31mof all")
        revisions.append(git("rev-parse", "HEAD"))
    images.publish("said", labels("1.2", revisions[0]), WELL)
    place.declare(service("web", images.image("said")))
    await startup("test")
    images.publish("said", labels("1.3", revisions[-1]), WELL)

    plan = json.loads(roas("plan", "--update", "--json", "test").stdout)
    done = roas("update", "test")

    (planned,) = plan["release_notes"]
    assert planned["text"].startswith(f"web 1.2, revision {revisions[0][:7]}, created ")
    assert planned["text"].endswith("its new image is known once it is fetched")
    assert done.returncode == 0, done.stderr
    (note,) = last(place).details["release_notes"]
    text = f"web 1.2 -> 1.3, revision {revisions[0][:7]} -> {revisions[-1][:7]}, created "
    assert note["text"].startswith(text)
    assert len(note["commits"]) == 20
    assert note["commits"][0] == "Change 23 of all"
    assert note["more_commits"] == 3
    shown = roas("history", last(place).deployment_id).stdout
    assert "and 3 more" in shown
    assert "update of test" in shown
    assert read_releases("test")[0].notes[0].startswith(text)
    assert "web 1.2 -> 1.3" in roas("releases", "test").stdout.replace("\n", " ")


@pytest.mark.campaign
async def test_a_rollback_without_an_earlier_release_opens_no_ticket(place: Place, images: Registry) -> None:  # noqa: F811
    images.publish("alone", WELL)
    place.declare(service("web", images.image("alone")))
    await startup("test")

    with pytest.raises(BadInputError, match="No earlier proven release of test differs"):
        await rollback("test")

    with place.stores() as stores:
        assert stores.tickets.find(environment="test") == []
        assert stores.errors.latest() == []
    assert read_plan(open_project("test"), FetchOptions()).changes == ()
