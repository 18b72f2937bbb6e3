"""The start in order: who waits for whom, who is started again, who is to blame, what a person sees of it."""

from __future__ import annotations

import asyncio
import subprocess
from collections.abc import Callable
from typing import Any

import pytest
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import ArtifactFilter, ArtifactFilterFlowRunId, FlowRunFilter, FlowRunFilterName

from adapters.snapshots.own_pauses import OwnPauses
from core.deployment.plan import plan_id
from flows.deployment.startup import startup
from flows.deployment.update import update
from models.failures import BadInputError
from models.results import OperationResult, ServiceStart
from tasks.deployment.services import read_plan
from tasks.runtime.project import open_project
from tests.e2e.flows.conftest import IMAGE, Place, make_well, never_well, well
from tests.e2e.flows.test_watch import until
from tests.support.docker_command import docker_command

pytestmark = [pytest.mark.engine, pytest.mark.flow]

STAYS = f"{{image: {IMAGE}, init: true, command: [sleep, '600']}}"


def started_at(place: Place, service: str) -> str:
    return docker_command("inspect", "-f", "{{.State.StartedAt}}", place.container(service))


async def started(place: Place) -> tuple[OperationResult, dict[str, ServiceStart]]:
    result = await startup("test")
    assert isinstance(result, OperationResult)
    return result, {one.service: one for one in result.services}


async def failed(place: Place) -> tuple[str, dict[str, Any]]:
    """The reason of a start that failed, and its records."""
    state = await startup("test", return_state=True)
    assert state.is_failed()
    with place.stores() as stores:
        details = stores.operations.history(environment="test")[0].details
    return str(details["reason"]), details


def state_of(place: Place, service: str) -> str:
    return docker_command("inspect", "-f", "{{.State.Status}}", place.container(service))


async def test_what_a_person_paused_stays_so_and_a_start_says_how_it_goes_on(place: Place) -> None:
    place.declare(well("base") + well("top", depends_on="{base: {condition: service_healthy}}"))
    await started(place)
    docker_command("pause", place.container("base"))

    reason, details = await failed(place)

    container = place.container("base")
    assert reason == f"{container} is paused, so a start touches nothing"
    assert details["advice"].startswith(f"`docker unpause {container}`")
    assert (state_of(place, "base"), state_of(place, "top")) == ("paused", "running")
    with place.stores() as stores:
        assert not stores.tickets.find(environment="test")


async def test_what_ends_after_it_was_proven_while_others_still_start_has_to_hold_again(place: Place) -> None:
    brief = f"brief: {{image: {IMAGE}, restart: always, command: [sh, -c, 'sleep 0.8; exit 3']}}\n"
    place.declare(brief + never_well(well("slow")), services="{brief: {start_timeout_seconds: 1}}")
    starting = asyncio.create_task(failed(place))
    container = place.container("brief")
    await until(lambda: restarts(container) > 0)
    make_well(place.container("slow"))

    reason, _ = await starting

    assert reason.startswith("brief did not start: it was proven, and ended: ")


@pytest.mark.parametrize(("act", "says"), [("stop", "taken is stopped"), ("pause", "taken is unhealthy: is paused")])
async def test_what_a_person_takes_away_after_it_was_proven_is_reported_and_not_waited_for(
    place: Place, act: str, says: str
) -> None:
    place.declare(well("taken") + never_well(well("slow")), services="{taken: {start_timeout_seconds: 60}}")
    starting = asyncio.create_task(failed(place))
    with place.stores() as stores:
        await until(lambda: "taken" in stores.progress.last_changes("test"))
    docker_command(act, place.container("taken"))
    make_well(place.container("slow"))

    reason, _ = await asyncio.wait_for(starting, 30)

    assert reason.startswith(says)


def restarts(container: str) -> int:
    done = subprocess.run(["docker", "inspect", "-f", "{{.RestartCount}}", container], capture_output=True, text=True)
    return int(done.stdout.strip() or 0)


@pytest.mark.campaign
async def test_an_update_of_other_services_leaves_what_is_paused_also_where_it_is_undone(place: Place) -> None:
    needs = "{base: {condition: service_healthy}}"
    base = well("base", pull_policy="never")
    place.declare(base + well("top", depends_on=needs, pull_policy="never"))
    await started(place)
    docker_command("pause", place.container("base"))
    place.declare(base + well("top", depends_on=needs, pull_policy="never", hostname="better"))

    assert (await update("test", services=["top"], return_state=True)).is_completed()
    assert docker_command("inspect", "-f", "{{.Config.Hostname}}", place.container("top")) == "better"
    assert state_of(place, "base") == "paused"

    worse = well("top", depends_on=needs, pull_policy="never", hostname="worse").replace(
        "touch /tmp/well; ", "exit 3; "
    )
    place.declare(base + worse)
    assert (await update("test", services=["top"], return_state=True)).is_failed()
    assert docker_command("inspect", "-f", "{{.Config.Hostname}}", place.container("top")) == "better"
    assert (state_of(place, "base"), state_of(place, "top")) == ("paused", "running")
    with place.stores() as stores:
        assert "undo_failed" not in stores.operations.history(environment="test")[0].details


@pytest.mark.campaign
@pytest.mark.parametrize("replaced", [True, False], ids=["replaced", "restarted"])
async def test_an_update_leaves_what_a_person_pauses_before_its_turn_and_blames_no_image(
    place: Place, *, replaced: bool
) -> None:
    def declare(what: str, change: Callable[[str], str] = str) -> None:
        (place.folder / "top.conf").write_text(what)
        more = {"pull_policy": "never", "depends_on": "{base: {condition: service_healthy}}"}
        more |= {"hostname": what} if replaced else {"volumes": "['./top.conf:/top.conf']"}
        place.declare(change(well("base", pull_policy="never", hostname=what)) + well("top", **more))

    def inspected(service: str, what: str) -> str:
        command = ["docker", "inspect", "-f", f"{{{{.{what}}}}}", place.container(service)]
        return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()

    declare("good")
    await started(place)
    began = inspected("top", "State.StartedAt")
    declare("better", never_well)
    update_run = asyncio.create_task(update("test", return_state=True))
    await until(lambda: inspected("base", "Config.Hostname") == "better")
    docker_command("pause", place.container("top"))
    await asyncio.to_thread(make_well, place.container("base"))

    assert (await update_run).is_failed()

    with place.stores() as stores:
        details = stores.operations.history(environment="test")[0].details
    assert details["reason"] == f"{place.container('top')} is paused, so the update of top touches nothing"
    assert "undo_failed" not in details
    assert "held_back" not in details
    assert inspected("base", "Config.Hostname") == "good"
    assert (inspected("top", "State.StartedAt"), state_of(place, "top")) == (began, "paused")


async def test_a_renamed_volume_replaces_no_data_before_a_person_confirms_the_plan(place: Place) -> None:
    def declare(volume: str) -> None:
        place.declare(well("base", volumes=f"['{volume}:/data']"))
        compose = place.folder / "compose.yaml"
        compose.write_text(f"{compose.read_text()}\nvolumes: {{{volume}: {{}}}}\n")

    declare("orders")
    await started(place)
    declare("purchases")

    reason, details = await failed(place)

    old, new = (f"{place.project}_{name}" for name in ("orders", "purchases"))
    assert reason.startswith(f"base: its data at /data stay in volume {old}, and it gets {new} there.")
    assert "then `roas start test --plan ID`" in details["advice"]
    mounts = ("inspect", "-f", "{{(index .Mounts 0).Name}}", place.container("base"))
    assert docker_command(*mounts) == old

    confirmed = plan_id(await asyncio.to_thread(lambda: read_plan(open_project("test"))))
    assert (await startup("test", plan=confirmed, return_state=True)).is_completed()
    assert docker_command(*mounts) == new


async def test_a_start_lets_go_on_what_a_killed_snapshot_paused(place: Place) -> None:
    place.declare(well("base"))
    await started(place)
    noted = docker_command("inspect", "-f", "{{.Id}} {{.State.StartedAt}}", place.container("base")).split()
    folder = place.settings.data_dir / "snapshots"
    with OwnPauses(folder, "test").record_pauses("s-1", dict([noted])):
        docker_command("pause", noted[0])
        # What is killed here does not end the pause; its note stays.
        kept = next((folder / "paused" / "test").iterdir()).read_bytes()
    (folder / "paused" / "test" / "s-1.json").write_bytes(kept)

    await started(place)

    assert state_of(place, "base") == "running"
    assert not OwnPauses(folder, "test").left_pauses()

    # The machine lost its power: the container was started anew, and then a person paused it.
    (folder / "paused" / "test" / "s-1.json").write_bytes(kept)
    docker_command("restart", "-t", "0", noted[0])
    docker_command("pause", noted[0])
    with pytest.raises(BadInputError, match="is paused, so a start touches nothing"):
        await started(place)
    docker_command("unpause", noted[0])


async def test_a_service_that_is_unhealthy_is_restarted_and_proven(place: Place) -> None:
    place.declare(well("base"))
    await started(place)
    docker_command("exec", place.container("base"), "rm", "/tmp/well")
    ill = ["--filter", f"container={place.container('base')}", "--filter", "event=health_status: unhealthy"]
    with subprocess.Popen(["docker", "events", "--since", "1m", *ill], stdout=subprocess.PIPE, text=True) as events:
        assert events.stdout is not None
        events.stdout.readline()
        events.kill()

    _, services = await started(place)

    assert (services["base"].state, services["base"].kept) == ("healthy", False)
    assert "runs but is unhealthy" in services["base"].reason


async def test_a_job_runs_at_every_start_whether_or_not_anybody_awaits_it(place: Place) -> None:
    place.declare(
        f"""
        awaited: {{image: {IMAGE}, command: ["true"]}}
        alone: {{image: {IMAGE}, command: ["true"]}}
        app:
          image: {IMAGE}
          init: true
          command: [sleep, '600']
          depends_on: {{awaited: {{condition: service_completed_successfully}}}}
        """
    )
    _, services = await started(place)
    assert (services["awaited"].state, services["alone"].state) == ("completed", "completed")
    before = {name: started_at(place, name) for name in ("awaited", "alone", "app")}

    await started(place)

    assert started_at(place, "awaited") > before["awaited"]
    assert started_at(place, "alone") > before["alone"]
    assert started_at(place, "app") == before["app"]


@pytest.mark.campaign
async def test_an_optional_dependency_that_fails_does_not_stop_its_dependants(place: Place) -> None:
    place.declare(
        f"cache: {{image: {IMAGE}, command: [sh, -c, 'exit 3']}}\n"
        + well("app", depends_on="{cache: {condition: service_completed_successfully, required: false}}"),
        services="{cache: {required: false}}",
    )
    state = await startup("test", return_state=True)
    with place.stores() as stores:
        operation = stores.operations.history()[0]
        changes = {change.service: change for change in stores.progress.changes(operation.deployment_id)}
    assert state.is_completed()
    assert (changes["app"].new_state, changes["cache"].new_state) == ("healthy", "failed")


async def test_the_first_cause_is_blamed_and_who_waited_for_it_is_reported(place: Place) -> None:
    place.declare(
        f"base: {{image: {IMAGE}, command: [sh, -c, 'exit 3']}}\n"
        + well("middle", depends_on="{base: {condition: service_completed_successfully}}")
        + well("top", depends_on="{middle: {condition: service_healthy}}")
    )
    reason, details = await failed(place)
    assert reason.startswith("base did not start: it ended with exit code 3")
    assert reason.endswith("middle, top were not started because they depend on base")
    assert set(details["held_up_by"]) == {"middle", "top"}


@pytest.mark.campaign
async def test_a_start_that_takes_too_long_names_what_did_not_come_up_and_who_waited(place: Place) -> None:
    place.declare(
        f"base: {{image: {IMAGE}, init: true, command: [sleep, '600']}}\n"
        + well("top", depends_on="{base: {condition: service_completed_successfully}}"),
        start_timeout_seconds=2,
    )
    reason, _ = await failed(place)
    assert "base did not start: it was not up after 2 s: it has not finished yet" in reason
    assert reason.endswith("top was not started because it depends on base")


@pytest.mark.campaign
async def test_the_record_says_where_the_time_went(place: Place) -> None:
    place.declare(
        f"slow: {{image: {IMAGE}, command: [sleep, '1']}}\n"
        + well("quick")
        + well(
            "app", depends_on="{slow: {condition: service_completed_successfully}, quick: {condition: service_healthy}}"
        )
    )
    result, services = await started(place)
    with place.stores() as stores:
        details = stores.operations.get(result.deployment_id).details
    assert [service for service, _ in details["critical_path"]] == ["slow", "app"]
    waits = details["held_up_by"]["app"]
    assert set(waits) == {"slow", "quick"}
    assert waits["slow"] > waits["quick"]
    assert services["app"].waited_seconds == max(services["app"].held_up_by.values())


async def test_the_graph_and_the_artifacts_of_the_ui_show_the_application(place: Place) -> None:
    place.declare(well("base") + well("app", depends_on="{base: {condition: service_started}}"))
    result, _ = await started(place)
    async with get_client() as client:
        named = FlowRunFilter(name=FlowRunFilterName(any_=["start test"]))
        runs = await client.read_flow_runs(flow_run_filter=named)
        run = max(runs, key=lambda one: one.created or one.expected_start_time)
        # The server takes up reported task runs a little later.
        for _ in range(100):
            nodes = dict((await client._client.get(f"/flow_runs/{run.id}/graph-v2")).json()["nodes"])
            labels = {key: node["label"] for key, node in nodes.items()}
            if {"base", "app"} <= set(labels.values()):
                break
            subprocess.run(["sleep", "0.1"], check=True)
        (app,) = [node for node in nodes.values() if node["label"] == "app"]
        assert {labels[parent["id"]] for parent in app["parents"]} == {"base"}
        mine = ArtifactFilter(flow_run_id=ArtifactFilterFlowRunId(any_=[run.id]))
        artifacts = {one.key: one for one in await client.read_artifacts(artifact_filter=mine)}
    assert artifacts["start-test"].description == "2 of 2 services of test are proven"
    assert '"service": "app"' in str(artifacts["services-test"].data)
    assert result.success
