"""The process of a recovery is killed: its attempt is finished once, or undone, and never against a person's wish."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from functools import partial

import pytest
from prefect.exceptions import Pause

from flows.deployment.startup import startup
from flows.recovery.error_recovery import error_recovery
from models.errors import Strategy
from models.recovery import UNDO, RecoveryExecution, StepSpec
from tests.e2e.flows.conftest import HEALTH, IMAGE, Place, end
from tests.e2e.flows.test_actions import ZEBRA
from tests.e2e.flows.test_watch import until, watching
from tests.support.docker_command import docker_command
from tests.support.killed_flow import killed_flow
from tests.support.ports import free_port
from tests.support.taken_up import BY_AGENT, BY_HAND, BY_RETRY, run_in, take_up

pytestmark = [pytest.mark.engine, pytest.mark.flow, pytest.mark.campaign(seconds=15)]

TEXT = "zebra crossed"
STOPPED, PAUSED_CONTAINER, PAUSED, MAINTENANCE = "stopped it", "paused it", "paused recovery", "maintains it"
_WORDS = {
    STOPPED: "was stopped by a person",
    PAUSED_CONTAINER: "was paused by a person",
    PAUSED: "is paused here",
    MAINTENANCE: "in maintenance",
}


def state_of(place: Place, container: str = "") -> str:
    command = ["docker", "inspect", "-f", "{{.State.Status}}", container or place.container("web")]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def started_at(place: Place) -> str:
    command = ["docker", "inspect", "-f", "{{.State.StartedAt}}", place.container("web")]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def times_started(place: Place) -> int:
    """As the program noted it; the engine forgets its events while others use it."""
    return len((place.folder / "flags" / "starts").read_text().splitlines())


def attempts(place: Place) -> list[RecoveryExecution]:
    with place.stores() as stores:
        return [one for one in stores.recoveries.find() if one.points]


def steps(execution: RecoveryExecution) -> list[tuple[str, bool | None]]:
    return [(one.name, one.ok) for one in execution.steps]


def declare(place: Place, strategy: Strategy, *, ports: str = "[]", **fields: object) -> None:
    """A service that becomes healthy while there is a flag, and what is done about it."""
    (place.folder / "flags").mkdir(exist_ok=True)
    (place.folder / "flags" / "well").touch()
    place.declare(
        f"""
web:
  image: {IMAGE}
  init: true
  command:
    - sh
    - -c
    - 'echo >> /flags/starts; rm -f /tmp/well; sleep 1; test -e /flags/well && touch /tmp/well; exec sleep 600'
  volumes: ['{place.folder}/flags:/flags']
  ports: {ports}
  healthcheck: {HEALTH}
""",
        **fields,
    )
    with place.stores() as stores:
        stores.patterns.put(replace(ZEBRA, strategy=strategy))


def killed_recovery(place: Place, *moment: str, when: Callable[[], bool] | None = None) -> None:
    asked = {"environment": "test", "text": TEXT, "service": "web"}
    killed_flow("error-recovery", asked, *moment, when=when, pool=place.project)


async def taken_up(place: Place, way: str) -> None:
    """Until no attempt is left without an end."""
    if way != BY_AGENT:
        run, asked = await run_in(place.project), {"text": TEXT, "service": "web"}
        # A run of a deployment waits for a person where it failed.
        with suppress(Pause):
            await take_up(way, error_recovery, run, place.project, **(asked if way == BY_HAND else {}))
        return
    async with watching(place):
        await until(lambda: bool(attempts(place)) and all(one.ended_at for one in attempts(place)))


def runs(place: Place) -> bool:
    return state_of(place) == "running"


MOMENTS: dict[str, tuple[str, ...]] = {
    "before its step": ("after", "restart"),
    "in its step": (),
    "after its step": ("after", "verify"),
}


@pytest.mark.parametrize(("moment", "way"), zip(MOMENTS, (BY_RETRY, BY_AGENT, BY_HAND), strict=True))
async def test_a_killed_recovery_is_finished_once(place: Place, moment: str, way: str) -> None:
    declare(place, Strategy.RESTART_SERVICE)
    await startup("test")
    end(place)
    how = MOMENTS[moment]
    killed_recovery(place, *how, when=None if how else partial(runs, place))
    begun = attempts(place)
    assert [one.ended_at for one in begun] == [None]

    await taken_up(place, way)

    assert runs(place)
    assert times_started(place) == 2, "once by its start, once by its recovery"
    # The agent sees that the service is down, which is an error of its own.
    assert len(attempts(place)) == 1 or way == BY_AGENT
    for attempt in attempts(place):
        assert steps(attempt) == [("restart", True), ("verify", True)]
        assert (attempt.success, attempt.manual_intervention_required) == (True, False)
    with place.stores() as stores:
        tried = {one.error_id for one in attempts(place)}
        assert {one.error_id for one in stores.errors.latest("test") if one.resolved_at is None} & tried == set()
        assert stores.tickets.find() == []


@pytest.fixture
def port_holder(place: Place) -> Iterator[tuple[int, str]]:
    """A free port, and the name of a container of the project that is to hold it."""
    name = f"{place.project}-holder"
    yield free_port(), name
    subprocess.run(["docker", "rm", "-f", name], capture_output=True, check=False)


async def down_and_its_port_held(place: Place, port: int, holder: str) -> None:
    """The service has ended, what an earlier version left holds its port, and it will not be healthy again."""
    declare(
        place,
        Strategy.FREE_PORT,
        ports=f"['127.0.0.1:{port}:80']",
        recovery="{verify_timeout_seconds: 2}",
    )
    await startup("test")
    end(place)
    (place.folder / "flags" / "well").unlink()
    labels = {"project": place.project, "service": "old", "config-hash": "of-yesterday"}
    words = [part for key, value in labels.items() for part in ("--label", f"com.docker.compose.{key}={value}")]
    published = ("--publish", f"127.0.0.1:{port}:80")
    docker_command("run", "--detach", "--init", "--name", holder, *words, *published, IMAGE, "sleep", "600")


UNDONE = f"{UNDO}{StepSpec.START_HOLDER}"


@pytest.mark.parametrize(("moment", "way"), [(("before", UNDONE), BY_AGENT), (("after", UNDONE), BY_RETRY)])
async def test_a_killed_recovery_that_failed_is_undone(
    place: Place, port_holder: tuple[int, str], moment: tuple[str, ...], way: str
) -> None:
    port, holder = port_holder
    await down_and_its_port_held(place, port, holder)
    killed_recovery(place, *moment)
    assert state_of(place, holder) == "exited"

    await taken_up(place, way)

    attempt = attempts(place)[0]
    assert state_of(place, holder) == "running"
    assert not runs(place)
    assert (attempt.success, attempt.undone) == (False, True)
    assert steps(attempt)[-1] == (UNDONE, True)
    assert ("stop the holder", True) in steps(attempt)
    with place.stores() as stores:
        (ticket,) = stores.tickets.find()
        assert [one.error_id for one in stores.errors.latest("test") if one.resolved_at is None] == [ticket.error_id]


def wish(place: Place, person: str) -> None:
    """What a person does once the recovery was killed, before its step was done."""
    web = place.container("web")
    if person == STOPPED:
        docker_command("start", web)
        docker_command("stop", "--time", "1", web)
    elif person == PAUSED_CONTAINER:
        docker_command("start", web)
        docker_command("pause", web)
    elif person == PAUSED:
        with place.stores() as stores:
            stores.pauses.pause("test", None, None, "hands off", "anna")
    else:
        file = place.folder / "test.yaml"
        all_day = "maintenance: [{from: '00:00', to: '12:00'}, {from: '12:00', to: '00:00'}]\n"
        file.write_text(file.read_text() + all_day)


@pytest.mark.parametrize(
    ("person", "way"),
    [(STOPPED, BY_AGENT), (PAUSED_CONTAINER, BY_RETRY), (PAUSED, BY_HAND), (MAINTENANCE, BY_AGENT)],
)
async def test_what_a_person_does_after_a_recovery_was_killed_counts(place: Place, person: str, way: str) -> None:
    declare(place, Strategy.RESTART_SERVICE)
    await startup("test")
    end(place)
    killed_recovery(place, "after", "restart")

    wish(place, person)
    before = started_at(place)
    await taken_up(place, way)

    assert state_of(place) == ("paused" if person == PAUSED_CONTAINER else "exited")
    assert started_at(place) == before
    attempt = attempts(place)[0]
    assert (attempt.success, attempt.ended_at is not None) == (False, True)
    assert "restart of web was not done" in attempt.final_status
    assert _WORDS[person] in attempt.final_status
    assert [one for one in attempts(place) if one.success] == []


@pytest.mark.parametrize(
    ("person", "way"),
    [(STOPPED, BY_HAND), (PAUSED_CONTAINER, BY_AGENT), (PAUSED, BY_AGENT), (MAINTENANCE, BY_RETRY)],
)
async def test_what_a_person_does_while_a_killed_recovery_is_half_undone_counts(
    place: Place, port_holder: tuple[int, str], person: str, way: str
) -> None:
    port, holder = port_holder
    await down_and_its_port_held(place, port, holder)
    killed_recovery(place, "after", UNDONE)

    wish(place, person)
    before = started_at(place)
    await taken_up(place, way)

    attempt = attempts(place)[0]
    assert started_at(place) == before
    assert (attempt.success, attempt.undone, attempt.ended_at is not None) == (False, True, True)
    if person == PAUSED_CONTAINER:
        # It keeps its port, so what held it cannot be started again.
        assert (state_of(place), state_of(place, holder)) == ("paused", "exited")
        assert steps(attempt)[-1] == (UNDONE, False)
    else:
        # What the attempt itself stopped runs again, whatever else is held back.
        assert (state_of(place), state_of(place, holder)) == ("exited", "running")
        assert steps(attempt)[-1] == (UNDONE, True)
