"""Recovery actions done on a real application, each by the pattern that asks for it."""

from __future__ import annotations

import os
import socket
import subprocess
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from adapters.host.processes import this_process
from adapters.stores import Stores
from flows.deployment.startup import startup
from flows.recovery.error_recovery import continue_recovery, error_recovery, load_context
from models.errors import Category, Pattern, Severity, Strategy
from models.failures import StoreError
from models.recovery import PlannedStep, RecoveryExecution, RecoveryMethod, RecoveryStep, StepSpec
from tests.e2e.flows.conftest import Place, end, well
from tests.support.docker_command import docker_command
from tests.support.plain_tasks import tasks_make_no_runs  # noqa: F401 - fixture

pytestmark = [pytest.mark.engine, pytest.mark.flow]

ZEBRA = Pattern(
    name="zebra",
    regex="zebra crossed",
    category=Category.CONTAINER_EXITED,
    severity=Severity.HIGH,
    strategy=Strategy.RECREATE_CONTAINER,
    priority=100,
    shipped=False,
)
STEP = RecoveryStep(name="recreate", target="web", ok=None, detail="", started_at=datetime(2026, 3, 2, tzinfo=UTC))


def container_id(place: Place, service: str) -> str:
    command = ["docker", "inspect", "-f", "{{.Id}} {{.State.StartedAt}}", place.container(service)]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()[0]


def cut_off_by_death(stores: Stores, error_id: str, *doings: StepSpec) -> RecoveryExecution:
    """An attempt that a runner began from what was proposed, before it died."""
    (proposal,) = stores.recoveries.find(error_id)
    steps = tuple(PlannedStep(doing=doing, service="web") for doing in doings)
    gone = replace(this_process(), process_started=1)
    cut_off = replace(proposal, attempt_id=f"{error_id}#1", points=2, ended_at=None, planned=steps, runner=gone)
    stores.recoveries.record(cut_off)
    return cut_off


async def test_a_container_is_made_anew_and_proven(place: Place) -> None:
    place.declare(well("web"))
    await startup("test")
    before = container_id(place, "web")
    end(place)
    with place.stores() as stores:
        stores.patterns.put(ZEBRA)

    outcome = await error_recovery("test", "zebra crossed", service="web")

    assert (outcome.method, outcome.success) == (RecoveryMethod.AUTOMATIC, True)
    assert container_id(place, "web") != before
    assert place.containers(running=True) == ["web"]


@pytest.mark.campaign
async def test_the_ticket_of_a_taken_port_names_who_holds_it(place: Place) -> None:
    with socket.create_server(("127.0.0.1", 0)) as holder:
        port = holder.getsockname()[1]
        place.declare(well("web", ports=f'["127.0.0.1:{port}:80"]'))
        said = f"failed to bind host port for 127.0.0.1:{port}: address already in use"
        await error_recovery("test", said, service="web")

    with place.stores() as stores:
        (ticket,) = stores.tickets.find(environment="test")
    assert f"Port {port}/tcp of web is taken by " in ticket.title
    assert f"(pid {os.getpid()})" in ticket.title


@pytest.mark.campaign
async def test_a_dry_run_of_a_person_leaves_no_ticket_and_no_open_error(place: Place) -> None:
    place.declare(well("web"))
    await startup("test")
    end(place)

    outcome = await error_recovery("test", "connection refused", act=False)

    assert outcome.method is RecoveryMethod.PROPOSED
    with place.stores() as stores:
        assert stores.errors.get(outcome.error_id).resolved_at is not None
        assert stores.tickets.find() == []


async def test_a_dry_run_proposes_once_and_touches_nothing(place: Place) -> None:
    place.declare(well("web"), recovery="{dry_run: true}")
    await startup("test")
    before = container_id(place, "web")
    end(place)
    with place.stores() as stores:
        stores.patterns.put(ZEBRA)

    outcomes = [await error_recovery("test", "zebra crossed", service="web") for _ in range(2)]

    assert {one.method for one in outcomes} == {RecoveryMethod.PROPOSED}
    assert container_id(place, "web") == before
    with place.stores() as stores:
        (proposal,) = stores.recoveries.find()
        assert (proposal.points, proposal.success, stores.tickets.find()) == (0, None, [])


@pytest.mark.campaign
async def test_a_container_taken_out_of_its_network_is_connected_again_by_all_its_names(place: Place) -> None:
    place.declare(well("web") + well("top"))
    await startup("test")
    before, network = container_id(place, "web"), f"{place.project}_default"
    docker_command("network", "disconnect", network, place.container("web"))
    end(place)
    with place.stores() as stores:
        stores.patterns.put(replace(ZEBRA, strategy=Strategy.RESTART_SERVICE))

    outcome = await error_recovery("test", "zebra crossed", service="web")

    assert outcome.success, outcome.reason
    assert container_id(place, "web") == before
    asking = ["docker", "exec", place.container("top"), "getent", "hosts", "web", place.container("web")]
    assert len(subprocess.run(asking, capture_output=True, text=True, check=True).stdout.splitlines()) == 2


@pytest.mark.parametrize("engine_has_acted", [False, True])
@pytest.mark.campaign
async def test_what_a_dead_runner_began_is_taken_up_and_done_once(place: Place, engine_has_acted: bool) -> None:
    place.declare(well("web"), recovery="{dry_run: true}")
    await startup("test")
    end(place)
    with place.stores() as stores:
        stores.patterns.put(ZEBRA)
    outcome = await error_recovery("test", "zebra crossed", service="web")
    before = container_id(place, "web")
    with place.stores() as stores:
        cut_off = cut_off_by_death(stores, outcome.error_id, StepSpec.RECREATE, StepSpec.VERIFY)
        begun = replace(STEP, started_at=datetime.now(UTC))
        stores.recoveries.record(replace(cut_off, steps=(begun,)))

    if engine_has_acted:
        # Its runner ended before the start.
        compose = ["docker", "compose", "-p", place.project, "-f", str(place.folder / "compose.yaml")]
        subprocess.run([*compose, "create", "--force-recreate"], capture_output=True, check=True)
        before = container_id(place, "web")

    place.declare(well("web"))
    again = await error_recovery("test", "zebra crossed", service="web")

    assert (again.method, again.success) == (RecoveryMethod.AUTOMATIC, True)
    assert (container_id(place, "web") == before) is engine_has_acted
    assert place.containers(running=True) == ["web"]
    with place.stores() as stores:
        taken = stores.recoveries.find(outcome.error_id)[-1]
        assert [step.name for step in taken.steps] == ["recreate", "verify"]
        assert taken.steps[0].started_at == begun.started_at


@pytest.mark.campaign
async def test_what_failed_again_after_a_dead_runner_had_started_it_is_started_again(place: Place) -> None:
    place.declare(well("web"), recovery="{dry_run: true}")
    await startup("test")
    now = datetime.now(UTC)
    end(place)
    with place.stores() as stores:
        stores.patterns.put(ZEBRA)
    outcome = await error_recovery("test", "zebra crossed", service="web")
    with place.stores() as stores:
        cut_off = cut_off_by_death(stores, outcome.error_id, StepSpec.RESTART, StepSpec.VERIFY)
        started = replace(STEP, name="restart", ok=True, started_at=now, ended_at=now)
        stores.recoveries.record(replace(cut_off, steps=(started,)))

    place.declare(well("web"))
    again = await error_recovery("test", "zebra crossed", service="web")

    assert (again.method, again.success) == (RecoveryMethod.AUTOMATIC, True), again.reason
    assert place.containers(running=True) == ["web"]
    with place.stores() as stores:
        taken = stores.recoveries.find(outcome.error_id)[-1]
        assert [(step.name, step.ok) for step in taken.steps] == [("restart", True), ("verify", True)]
        assert taken.steps[0].started_at > started.started_at


@pytest.mark.parametrize("wish", ["stop", "pause", "maintenance", "dry run"])
@pytest.mark.campaign
async def test_what_a_person_wants_since_a_runner_died_ends_its_attempt(place: Place, wish: str) -> None:
    place.declare(well("web"), recovery="{dry_run: true}")
    await startup("test")
    with place.stores() as stores:
        stores.patterns.put(ZEBRA)
    end(place)
    outcome = await error_recovery("test", "zebra crossed", service="web")
    with place.stores() as stores:
        now = datetime.now(UTC)
        cut_off = cut_off_by_death(stores, outcome.error_id, StepSpec.RESTART, StepSpec.VERIFY)
        stores.recoveries.record(replace(cut_off, steps=(replace(STEP, name="restart", started_at=now),)))

    fields = {
        "maintenance": {"maintenance": "[{from: '00:00', to: '12:00'}, {from: '12:00', to: '00:00'}]"},
        "dry run": {"recovery": "{dry_run: true}"},
    }
    place.declare(well("web"), **fields.get(wish, {}))
    if wish == "stop":
        for command in ("start", "stop"):
            docker_command(command, place.container("web"))
    if wish == "pause":
        with place.stores() as stores:
            stores.pauses.pause("test", None, None, "work on it", "ann")
    again = await continue_recovery(cut_off, await load_context("test", ()))

    assert place.containers(running=True) == []
    assert again.method is not RecoveryMethod.AUTOMATIC
    with place.stores() as stores:
        attempt = next(one for one in stores.recoveries.find() if one.attempt_id == cut_off.attempt_id)
        assert "was not done" in attempt.final_status, attempt
        assert (attempt.success, attempt.ended_at is not None) == (False, True)
        # A dry run plans what comes next, and may ask about it.
        assert stores.tickets.find() == [] or wish == "dry run"


@pytest.mark.campaign
async def test_a_container_that_a_cut_off_step_had_stopped_was_stopped_by_nobody(place: Place) -> None:
    place.declare(well("web"), recovery="{dry_run: true}")
    await startup("test")
    with place.stores() as stores:
        stores.patterns.put(ZEBRA)
    end(place)
    outcome = await error_recovery("test", "zebra crossed", service="web")
    docker_command("start", place.container("web"))
    with place.stores() as stores:
        cut_off = cut_off_by_death(stores, outcome.error_id, StepSpec.RECREATE, StepSpec.VERIFY)
        stores.recoveries.record(replace(cut_off, steps=(replace(STEP, started_at=datetime.now(UTC)),)))
    # As far as the step came.
    docker_command("stop", place.container("web"))

    place.declare(well("web"))
    again = await error_recovery("test", "zebra crossed", service="web")

    assert (again.method, again.success) == (RecoveryMethod.AUTOMATIC, True), again.reason
    assert place.containers(running=True) == ["web"]


async def test_an_attempt_that_failed_is_on_record_only_with_its_ticket(place: Place) -> None:
    place.declare(well("web"), recovery="{dry_run: true}")
    with place.stores() as stores:
        stores.patterns.put(ZEBRA)
    outcome = await error_recovery("test", "zebra crossed", service="web")
    # Nothing was started, so there is no container to restart.
    broken = "BEFORE INSERT ON manual_intervention_tickets BEGIN SELECT raise(ABORT, 'broken'); END"
    with place.stores() as stores:
        cut_off = cut_off_by_death(stores, outcome.error_id, StepSpec.RESTART)
        with stores.databases["errors"].write() as connection:
            connection.exec_driver_sql(f"CREATE TRIGGER broken {broken}")

    place.declare(well("web"))
    with pytest.raises(StoreError, match="broken"):
        await error_recovery("test", "zebra crossed", service="web")

    with place.stores() as stores:
        assert stores.recoveries.find(outcome.error_id)[-1].ended_at is None
        with stores.databases["errors"].write() as connection:
            connection.exec_driver_sql("DROP TRIGGER broken")
        stores.recoveries.record(cut_off)

    again = await error_recovery("test", "zebra crossed", service="web")

    with place.stores() as stores:
        attempt = stores.recoveries.find(outcome.error_id)[-1]
        [ticket] = stores.tickets.find()
    assert (again.method, again.ticket_id) == (RecoveryMethod.MANUAL_REQUIRED, ticket.ticket_id)
    assert (attempt.success, attempt.manual_intervention_required) == (False, True)
    assert attempt.final_status in ticket.title
