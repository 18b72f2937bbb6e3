"""What a person answers to a ticket, with a real engine: each decision, no answer at all, and Retry after either."""

from __future__ import annotations

import subprocess
from collections.abc import Awaitable
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from prefect import Flow, State, flow, get_client, task
from prefect.exceptions import Pause
from prefect.flow_engine import run_flow
from prefect.states import AwaitingRetry, Failed

from flows.deployment.startup import startup
from flows.recovery.error_recovery import error_recovery
from models.audit import Actor
from models.errors import Strategy
from models.failures import RoasError
from models.recovery import (
    Choice,
    PlannedStep,
    RecoveryExecution,
    RecoveryMethod,
    StepSpec,
    Ticket,
    TicketEntry,
    TicketState,
)
from tasks.recovery.actions import STEP, StepContext
from tasks.runtime.project import open_project
from tests.e2e.flows.conftest import IMAGE, Place, well
from tests.e2e.flows.test_interruption import TIMEOUT_SECONDS, roas
from tests.support.docker_command import docker_command

pytestmark = [pytest.mark.engine, pytest.mark.flow]

ZEBRA = "ERROR: the zebra has crossed the road"
ASKED = "{automatic: false}"
"""A person is asked at once."""


async def begin(**parameters: object) -> UUID:
    """A run of a deployment, as only such a run may wait for a person."""
    deployment = await error_recovery.ato_deployment(name="test")
    deployment_id = await deployment.aapply()
    async with get_client() as client:
        made = await client.create_flow_run_from_deployment(
            deployment_id, parameters={"environment": "test", "service": "web", "source": "watch"} | parameters
        )
    return made.id


async def live(run_id: UUID, flow: Flow[..., Any] = error_recovery) -> State[object]:
    """One life of a run, as a runner gives it; the state it ends in."""
    async with get_client() as client:
        run = await client.read_flow_run(run_id)
        living = run_flow(flow, flow_run=run, return_type="state")
        assert isinstance(living, Awaitable)
        with suppress(Pause):
            await living
        state = (await client.read_flow_run(run_id)).state
    assert state is not None
    return state


async def answer(run_id: UUID, choice: Choice, note: str = "because") -> State[object]:
    """Answer as the form in the UI does, and live on."""
    async with get_client() as client:
        await client.resume_flow_run(run_id, run_input={"choice": choice, "note": note, "by": "ann"})
    return await live(run_id)


async def retry(run_id: UUID, flow: Flow[..., Any] = error_recovery) -> State[object]:
    """What the UI does at a click on Retry, and the life that follows."""
    async with get_client() as client:
        await client.set_flow_run_state(run_id, AwaitingRetry(), force=True)
    return await live(run_id, flow)


def the_ticket(place: Place) -> Ticket:
    with place.stores() as stores:
        (ticket,) = stores.tickets.find(environment="test")
    return ticket


def attempts(place: Place) -> list[RecoveryExecution]:
    with place.stores() as stores:
        return list(stores.recoveries.find())


@pytest.mark.parametrize(
    ("choice", "ends", "stands"),
    [
        (Choice.SKIP, "Completed", TicketState.ACKNOWLEDGED),
        pytest.param(Choice.RESOLVED, "Completed", TicketState.RESOLVED, marks=pytest.mark.campaign),
        (Choice.GIVE_UP, "Failed", TicketState.ACKNOWLEDGED),
    ],
)
async def test_what_a_person_leaves_or_did_is_kept_and_nothing_done(
    place: Place, caplog: pytest.LogCaptureFixture, choice: Choice, ends: str, stands: TicketState
) -> None:
    place.declare(well("web"), recovery=ASKED)
    run = await begin(text=ZEBRA)
    assert (await live(run)).name == "Suspended"

    ended = await answer(run, choice, "the zebra is known")

    assert ended.name == ends
    assert "Traceback" not in caplog.text
    if choice is Choice.GIVE_UP:
        assert ended.message == (
            f"Prefect UI or API, as ann gave up on ticket {the_ticket(place).ticket_id}: the zebra is known; "
            "Retry repeats the step that failed, and nothing before it."
        )
    ticket = the_ticket(place)
    assert ticket.state is stands
    assert [(one.by, one.what) for one in ticket.history] == [
        ("Prefect UI or API, as ann", f"{choice}: the zebra is known")
    ]
    # A client with the server's password answers under any name: nothing of it is proven.
    assert ticket.history[0].actor == Actor(claimed="ann")
    assert attempts(place) == []
    with place.stores() as stores:
        is_over = stores.errors.get(ticket.error_id).resolved_at is not None
    assert is_over is (choice is Choice.RESOLVED)


@pytest.mark.campaign
async def test_a_release_is_rolled_back_where_a_person_decides_so(place: Place) -> None:
    for version in ("1", "2"):
        place.declare(well("web", environment=f"{{VERSION: '{version}'}}"), recovery=ASKED)
        await startup("test")
    run = await begin(text=ZEBRA)
    assert (await live(run)).name == "Suspended"

    assert (await answer(run, Choice.ROLL_BACK)).name == "Completed"

    reported = ["docker", "inspect", "-f", "{{.Config.Env}}", place.container("web")]
    assert "VERSION=1" in subprocess.run(reported, capture_output=True, text=True, check=True).stdout
    assert [(one.strategy, one.success) for one in attempts(place)] == [(Strategy.ROLL_BACK_RELEASE, True)]
    assert the_ticket(place).state is TicketState.RESOLVED


def broken(place: Place) -> str:
    """A service that ends while there is a file `broken` beside its Compose file."""
    script = "touch /tmp/well; while [ ! -e /place/broken ]; do sleep 0.1; done; exit 3"
    lines = ["web:", f"  image: {IMAGE}", "  init: true", f"  command: [sh, -c, '{script}']"]
    lines += [
        "  healthcheck: {test: [CMD, test, -e, /tmp/well], interval: 5s, start_period: 10s, start_interval: 200ms}",
        f"  volumes: ['{place.folder}:/place']",
    ]
    return "\n".join(lines) + "\n"


async def opened_by_somebody_else(place: Place) -> UUID:
    """A run that asks about a ticket of a service that ended; without it no run waits for an answer."""
    place.declare(broken(place), recovery=ASKED)
    await startup("test")
    (place.folder / "broken").touch()
    outcome = await error_recovery("test", "web exited with code 3", service="web", source="watch")
    assert outcome.method is RecoveryMethod.MANUAL_REQUIRED
    return await begin(text="web exited with code 3", ticket=outcome.ticket_id)


async def test_a_run_that_gave_up_is_retried_from_the_step_that_failed(place: Place) -> None:
    run = await opened_by_somebody_else(place)
    assert (await live(run)).name == "Suspended"
    assert (await answer(run, Choice.RETRY, "too early")).name == "Suspended"
    (failed,) = attempts(place)
    assert [(step.name, step.ok) for step in failed.steps] == [("restart", True), ("verify", False)]
    assert failed.steps[1].detail == "web: it ended with exit code 3"
    assert (await answer(run, Choice.GIVE_UP)).name == "Failed"
    assert the_ticket(place).state is TicketState.ACKNOWLEDGED
    (place.folder / "broken").unlink()
    docker_command("start", place.container("web"))

    ended = await retry(run)

    assert ended.name == "Completed"
    (mended,) = attempts(place)
    assert (mended.attempt_id, mended.steps[0]) == (failed.attempt_id, failed.steps[0])
    assert [(step.name, step.ok) for step in mended.steps] == [("restart", True), ("verify", True)]
    assert the_ticket(place).state is TicketState.RESOLVED


@pytest.mark.campaign
async def test_a_ticket_that_is_settled_before_its_run_begins_is_not_asked_about(place: Place) -> None:
    run = await opened_by_somebody_else(place)
    ticket, known = the_ticket(place), TicketEntry(at=datetime.now(UTC), by="ann", what="skip: known")
    with place.stores() as stores:
        stores.tickets.answer(ticket, Choice.SKIP, known)

    assert (await live(run)).name == "Completed"
    assert attempts(place) == []


@pytest.mark.campaign
async def test_a_question_that_nobody_answers_ends_failed_and_its_ticket_can_be_answered_later(place: Place) -> None:
    place.declare(well("web"), recovery=ASKED)
    run = await begin(text=ZEBRA)
    suspended = await live(run)
    timeout = suspended.state_details.pause_timeout
    assert timeout is not None
    assert timeout - suspended.timestamp > timedelta(days=6)
    async with get_client() as client:
        # What the server does then.
        await client.set_flow_run_state(run, Failed(message="The flow was paused and never resumed."), force=True)

    with roas("resolve", the_ticket(place).ticket_id, "--note", "the zebra is over there") as resolving:
        said, _ = resolving.communicate(timeout=TIMEOUT_SECONDS)

    assert resolving.returncode == 0, said
    ticket = the_ticket(place)
    assert ticket.state is TicketState.RESOLVED
    assert [one.what for one in ticket.history] == ["resolved by hand: the zebra is over there"]

    # Retried all the same, the run finds nothing left to do.
    assert (await retry(run)).name == "Completed"
    assert the_ticket(place) == ticket
    assert attempts(place) == []


BEGUN: list[str] = []


class UnusualError(RoasError):
    """JSON keeps an exception's text alone, and this one cannot be made from that."""

    def __init__(self, service: str, *, attempts: int) -> None:
        super().__init__(f"{service} failed {attempts} times;")


@task(**STEP)
async def step_that_fails_once(context: StepContext, step: PlannedStep) -> str:
    BEGUN.append(step.service)
    if step.service == "second" and BEGUN.count("second") == 1:
        raise UnusualError(step.service, attempts=3)
    return f"{step.service} of {context.attempt_id}"


@flow
async def two_steps() -> list[str]:
    steps = [PlannedStep(doing=StepSpec.START, service=name) for name in ("first", "second")]
    context = StepContext(project=open_project("test"), application=None, attempt_id="a", facts={})
    return [await step_that_fails_once(context, step) for step in steps]


@pytest.mark.campaign
async def test_a_step_that_failed_with_an_exception_that_json_cannot_make_again_is_repeated(place: Place) -> None:
    place.declare(well("web"))
    async with get_client() as client:
        run = await client.create_flow_run(two_steps)

    failed = await live(run.id, two_steps)
    ended = await retry(run.id, two_steps)

    assert failed.name == "Failed"
    assert "UnusualError: second failed 3 times" in (failed.message or "")
    assert ended.name == "Completed", ended.message
    assert BEGUN == ["first", "second", "second"]
