"""A recovery that failed outside Prefect, as in the agent, leaves a failed run whose Retry repeats the failed step."""

from __future__ import annotations

import asyncio
from uuid import UUID

import pytest
from prefect import get_client
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterId
from prefect.client.schemas.objects import FlowRun
from prefect.client.schemas.sorting import FlowRunSort, TaskRunSort
from prefect.settings import PREFECT_API_URL, temporary_settings

from flows.deployment.startup import startup
from flows.deployment.stop import stop
from flows.recovery.answer import decide
from flows.recovery.error_recovery import error_recovery, recover_observed
from models.audit import SYSTEM
from models.errors import Strategy
from models.recovery import Choice, RecoveryMethod, Ticket, TicketState
from tasks.runtime.plain_tasks import without_task_runs
from tests.e2e.flows.conftest import Place, end
from tests.e2e.flows.test_asking import retry
from tests.e2e.flows.test_recovery_killed import (
    MAINTENANCE,
    PAUSED,
    PAUSED_CONTAINER,
    STOPPED,
    TEXT,
    attempts,
    declare,
    started_at,
    state_of,
    steps,
    times_started,
    wish,
)
from tests.e2e.flows.test_watch import until, watching
from tests.support.docker_command import docker_command
from tests.support.killed_flow import killed_flow
from tests.support.taken_up import run_in

pytestmark = [pytest.mark.engine, pytest.mark.flow]

# Longer than the 3 s between two health checks, once the time for starting is over.
VERIFY_SECONDS = 5
ONE_ATTEMPT = f"{{verify_timeout_seconds: {VERIFY_SECONDS}, attempts_per_error: 1}}"
FAILED = [("restart", True), ("verify", False)]
MENDED = [("restart", True), ("verify", True)]


async def failed_in_the_agent(place: Place, *, has_server: bool = True) -> Ticket:
    """A service whose restart does not help, recovered by a process that makes no runs; the ticket that it opened."""
    server_or_none = [] if has_server else [PREFECT_API_URL]
    declare(place, Strategy.RESTART_SERVICE, recovery=ONE_ATTEMPT)
    await startup("test")
    end(place)
    (place.folder / "flags" / "well").unlink()
    await (await error_recovery.ato_deployment(name="test")).aapply()
    with without_task_runs(), temporary_settings(restore_defaults=server_or_none):
        outcome = await recover_observed(environment="test", text=TEXT, service="web", source="watch")
    assert outcome.method is RecoveryMethod.MANUAL_REQUIRED
    assert [steps(attempt) for attempt in attempts(place)] == [FAILED]
    return the_ticket(place)


def the_ticket(place: Place) -> Ticket:
    with place.stores() as stores:
        (ticket,) = stores.tickets.find(environment="test")
    return ticket


def mend(place: Place) -> None:
    """It becomes healthy when it is started again, and, where it runs, without that."""
    (place.folder / "flags" / "well").touch()
    if state_of(place) == "running":
        docker_command("exec", place.container("web"), "touch", "/tmp/well")


async def left_run(place: Place) -> FlowRun:
    """The run that was left of the first attempt."""
    async with get_client() as client:
        # A server of many tests has more runs than one answer holds.
        found = await client.read_flow_runs(sort=FlowRunSort.EXPECTED_START_TIME_DESC)
    (run,) = [one for one in found if one.parameters.get("attempt") == attempts(place)[0].attempt_id]
    return run


async def steps_shown(run_id: UUID, number: int) -> list[tuple[str, str | None, float]]:
    """The steps of a run as the UI lists them, once there are so many, with the seconds that each took."""
    while True:
        async with get_client() as client:
            of_it = FlowRunFilter(id=FlowRunFilterId(any_=[run_id]))
            found = await client.read_task_runs(flow_run_filter=of_it, sort=TaskRunSort.END_TIME_DESC)
        ended = [one for one in reversed(found) if one.end_time is not None]
        done = [one for one in ended if one.name in ("restart web", "verify web")]
        if len(done) >= number:
            return [(one.name, one.state_name, one.total_run_time.total_seconds()) for one in done]
        await asyncio.sleep(0.1)


@pytest.mark.parametrize("unhealthy", [False, pytest.param(True, marks=pytest.mark.campaign)])
async def test_what_failed_in_the_agent_is_retried_in_prefect_where_it_failed(place: Place, unhealthy: bool) -> None:
    ticket = await failed_in_the_agent(place)
    (failed,) = attempts(place)

    run = await left_run(place)
    assert (run.name, run.state_name) == ("recover web of test", "Failed")
    assert run.state is not None
    assert run.state.message == failed.final_status
    assert f"Retry of run {run.id} in Prefect repeats the failed step" in ticket.history[-1].what
    restart, verify = await steps_shown(run.id, 2)
    assert (restart[:2], verify[:2]) == (("restart web", "Completed"), ("verify web", "Failed"))
    assert verify[2] >= VERIFY_SECONDS

    if unhealthy:
        # What its health check found before it was mended does not count.
        await until(lambda: place.health("web") == "unhealthy")
    mend(place)
    before = started_at(place)
    retried = await retry(run.id)
    assert retried.name == "Completed", retried.message

    assert started_at(place) == before
    shown = [(name, state) for name, state, _ in await steps_shown(run.id, 3)]
    assert shown == [("restart web", "Completed"), ("verify web", "Failed"), ("verify web", "Completed")]
    (mended,) = attempts(place)
    assert (mended.attempt_id, mended.steps[0], steps(mended)) == (failed.attempt_id, failed.steps[0], MENDED)
    assert the_ticket(place).state is TicketState.RESOLVED

    # Nothing is left to do for a second Retry.
    assert (await retry(run.id)).name == "Completed"
    assert (attempts(place), started_at(place)) == ([mended], before)


STOPPED_ALL = "stopped the environment"
_WORDS = {
    STOPPED: "was stopped by a person",
    STOPPED_ALL: "was stopped by a person",
    PAUSED: "is paused here",
    MAINTENANCE: "in maintenance",
    PAUSED_CONTAINER: "",
}


@pytest.mark.campaign
@pytest.mark.parametrize("person", _WORDS)
async def test_a_retry_does_nothing_against_the_wish_of_a_person(place: Place, person: str) -> None:
    await failed_in_the_agent(place)
    run = await left_run(place)
    mend(place)
    # What was started has ended again, so that it would have to be started once more.
    end(place)
    if person == STOPPED_ALL:
        await stop("test")
    else:
        wish(place, person)
    before = started_at(place)

    refused = await retry(run.id)

    assert refused.name == "Failed"
    assert _WORDS[person] in (refused.message or "")
    assert started_at(place) == before
    assert state_of(place) == ("paused" if person == PAUSED_CONTAINER else "exited")
    if person == PAUSED:
        with place.stores() as stores:
            stores.pauses.resume("test", None, SYSTEM)
        assert (await retry(run.id)).name == "Completed"
        assert state_of(place) == "running"


@pytest.mark.campaign
async def test_a_retry_after_a_newer_recovery_that_helped_does_nothing(place: Place) -> None:
    ticket = await failed_in_the_agent(place)
    run = await left_run(place)
    mend(place)
    await decide(ticket, Choice.AGAIN, "mended", "ann", SYSTEM)
    tried, before = attempts(place), started_at(place)
    assert [steps(attempt) for attempt in tried] == [FAILED, MENDED]

    assert (await retry(run.id)).name == "Completed"

    assert (attempts(place), started_at(place)) == (tried, before)


@pytest.mark.campaign
@pytest.mark.parametrize("has_server", [True, False])
async def test_the_answer_retry_repeats_the_failed_step_with_a_server_and_without(
    place: Place, has_server: bool
) -> None:
    ticket = await failed_in_the_agent(place, has_server=has_server)
    known = [line.what for line in ticket.history if "can repeat the failed step" in line.what]
    assert (known == []) is has_server
    mend(place)
    before = started_at(place)

    await decide(ticket, Choice.RETRY, "mended", "ann", SYSTEM)

    assert [steps(attempt) for attempt in attempts(place)] == [MENDED]
    assert started_at(place) == before
    assert the_ticket(place).state is TicketState.RESOLVED


@pytest.mark.campaign
async def test_a_retry_that_is_killed_is_continued_once_by_the_agent_and_a_retry_at_the_same_time(place: Place) -> None:
    await failed_in_the_agent(place)
    left = await left_run(place)
    mend(place)
    end(place)
    asked = {"environment": "test", "text": TEXT, "service": "web", "attempt": attempts(place)[0].attempt_id}
    killed_flow("error-recovery", asked, "after", "restart", pool=place.project)
    assert attempts(place)[0].ended_at is None
    killed = await run_in(place.project)

    async with watching(place):
        await asyncio.gather(retry(killed), retry(left.id))
        await until(lambda: attempts(place)[0].ended_at is not None)

    # The agent, which looks at the service too, may be the one that recovers it, under an error of its own.
    await until(lambda: all(one.ended_at is not None for one in attempts(place)))
    assert [steps(one) for one in attempts(place)].count(MENDED) == 1
    # By its start, by the attempt that failed, and by one of the three.
    assert times_started(place) == 3
    assert (await retry(left.id)).name == "Completed"
    assert times_started(place) == 3
