"""One environment that needs another, on a real engine: starts that wait, one recovery of the cause, kills."""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from datetime import UTC, datetime

import pytest
from prefect import flow

from adapters.stores import Stores
from flows.agent.agent import Agent
from flows.common.requester import SCHEDULE
from flows.deployment.restart import restart
from flows.deployment.rollback import rollback
from flows.deployment.startup import startup
from flows.deployment.stop import stop
from flows.deployment.update import update
from models.failures import BadInputError, NeedDownError
from models.health import ServiceHealth
from models.recovery import TicketState
from models.results import OperationResult
from tests.e2e.flows.conftest import Place, end, make_well, never_well, until, well
from tests.support.projects import remove_project

pytestmark = [pytest.mark.engine, pytest.mark.flow]

AGENT = "import asyncio; from flows.agent.agent import Agent; asyncio.run(Agent().run(asyncio.Event()))"
HOST = "data-db"
# As a program that has lost its database: it ends, and its last line names a cause that a person would have to repair.
LOST = (
    "touch /tmp/well; while getent hosts data-db >/dev/null; do sleep 0.2; done; "
    "echo ''socket.gaierror: [Errno -2] Name or service not known''; exit 1"
)


@pytest.fixture
def shop(place: Place) -> Iterator[Place]:
    """`test` needs the database of `data`, which it finds by its name in a network that both are in."""
    project = f"roas-test-{secrets.token_hex(4)}"
    data = replace(place, project=project)
    network = f"networks: {{shared: {{name: {project}-shared"
    db = well("db", pull_policy="never", networks=f"{{shared: {{aliases: [{HOST}]}}}}")
    # A restart takes a moment, in which whoever needs it fails.
    db = db.replace("touch /tmp/well", "rm -f /tmp/well; sleep 3; touch /tmp/well")
    write(data, "data", db, f"{network}}}}}\n")
    web = well("web", pull_policy="never", networks="[shared]").replace("touch /tmp/well; exec sleep 600", LOST)
    write(place, "test", web, f"{network}, external: true}}}}\n", needs="[data/db]", start_timeout_seconds=60)
    yield place
    remove_project(place.project)
    remove_project(project)


def write(place: Place, name: str, service: str, more: str, **fields: object) -> None:
    place.declare(service, **fields)
    compose = place.folder / "compose" / f"{name}.yaml"
    compose.parent.mkdir(exist_ok=True)
    compose.write_text((place.folder / "compose.yaml").read_text() + more)
    (place.folder / "compose.yaml").unlink()
    text = (place.folder / "test.yaml").read_text()
    text = text.replace("compose_files: [compose.yaml]", f"compose_files: [compose/{name}.yaml]")
    (place.folder / "test.yaml").unlink()
    (place.folder / f"{name}.yaml").write_text(text.replace("name: test", f"name: {name}"))


def data_of(shop: Place) -> Place:
    (line,) = [line for line in (shop.folder / "data.yaml").read_text().splitlines() if line.startswith("project")]
    return replace(shop, project=line.split()[1])


@contextlib.asynccontextmanager
async def watched(environments: int = 2) -> AsyncIterator[Agent]:
    ends, agent = asyncio.Event(), Agent()
    running = asyncio.create_task(agent.run(ends))
    await until(lambda: len(agent._carried_names()) >= environments)
    yield agent
    ends.set()
    await running


def recoveries(stores: Stores, environment: str) -> list[tuple[str | None, str, bool | None]]:
    return [(one.service, str(one.strategy), one.success) for one in stores.recoveries.find(environment=environment)]


def is_healthy_again(shop: Place, ended: str) -> bool:
    command = ["docker", "inspect", "--format", "{{.State.Running}} {{.State.Health.Status}} {{.State.StartedAt}}"]
    state = subprocess.run([*command, shop.container("web")], capture_output=True, text=True, check=True).stdout.split()
    return state[:2] == ["true", "healthy"] and state[2] != ended


def started_at(shop: Place, service: str = "web") -> str:
    command = ["docker", "inspect", "--format", "{{.State.StartedAt}}", shop.container(service)]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


@pytest.mark.campaign(seconds=60)
async def test_the_agent_recovers_the_cause_first_and_the_dependant_once_without_a_ticket(shop: Place) -> None:
    _, started = await asyncio.gather(startup("data"), startup_once_begun(shop))
    assert started.health is not None
    assert [one.health for one in started.health.services] == [ServiceHealth.HEALTHY]
    before = started_at(shop)
    async with watched():
        end(data_of(shop), "db")
        await until(lambda: is_healthy_again(shop, before))
        with shop.stores() as stores:
            await until(lambda: not stores.errors.list_unresolved())
            assert recoveries(stores, "data") == [("db", "restart_service", True)]
            assert recoveries(stores, "test") == [("web", "restart_service", True)]
            assert stores.tickets.find(TicketState.OPEN) == []
            (cause,) = [error for error in stores.errors.latest("data") if error.service == "db"]
            (behind,) = [error for error in stores.errors.latest("test") if error.service == "web"]
    assert cause.evidence["takes_down"] == ["test"]
    assert behind.evidence["needs_down"] == ["data/db"]


async def startup_once_begun(shop: Place) -> object:
    data = data_of(shop)
    await until(lambda: bool(data.containers(running=True)))
    return await startup("test")


@pytest.mark.campaign(seconds=60)
async def test_an_agent_that_is_killed_while_it_waits_loses_no_cause(shop: Place) -> None:
    data = data_of(shop)
    await startup("data")
    await startup("test")
    (shop.folder / "data.yaml").write_text((shop.folder / "data.yaml").read_text() + "recovery: {automatic: false}\n")
    before = started_at(shop)
    killed = subprocess.Popen([sys.executable, "-c", AGENT], env=os.environ | {"PYTHONPATH": os.getcwd()})  # noqa: PTH109
    try:
        with shop.stores() as stores:
            await until(lambda: {"watch/data", "watch/test"} <= stores.heartbeats.all().keys())
        end(data, "db")
        await until(lambda: "web" not in shop.containers(running=True))
        with shop.stores() as stores:
            await until(lambda: bool(stores.errors.latest("data")))
    finally:
        killed.kill()
        killed.wait()
    subprocess.run(["docker", "start", data.container("db")], check=True, capture_output=True)
    await until(lambda: data.health("db") == "healthy")
    async with watched():
        await until(lambda: is_healthy_again(shop, before))
        with shop.stores() as stores:
            await until(lambda: recoveries(stores, "test") == [("web", "restart_service", True)])
            assert [ticket for ticket in stores.tickets.find(TicketState.OPEN) if ticket.environment == "test"] == []


@pytest.mark.campaign(seconds=60)
async def test_while_a_person_keeps_the_need_stopped_nothing_is_tried_and_a_restart_is_refused(shop: Place) -> None:
    await startup("data")
    await startup("test")
    before = started_at(shop)
    async with watched() as agent:
        with pytest.raises(BadInputError, match="test needs it; confirm it by its name: --confirm data"):
            await stop("data")
        assert data_of(shop).containers(running=True) == ["db"]
        await stop("data", confirm="data")
        await until(lambda: "web" not in shop.containers(running=True))
        watcher = agent.environments["test"].watcher
        assert watcher is not None
        await until(lambda: "it needs data/db" in watcher._logged.get("web", ""))
        with pytest.raises(NeedDownError):
            await restart("test")
        with shop.stores() as stores:
            assert recoveries(stores, "test") == []
            assert stores.tickets.find(TicketState.OPEN) == []
        await startup("data")
        await until(lambda: is_healthy_again(shop, before))
        with shop.stores() as stores:
            await until(lambda: recoveries(stores, "test") == [("web", "restart_service", True)])


async def test_a_start_is_refused_at_once_without_its_need_and_after_its_time_limit_while_that_starts(
    shop: Place,
) -> None:
    with pytest.raises(NeedDownError, match=r"test was not touched: it needs data/db.*`roas start data`"):
        await startup("test")
    data, compose = data_of(shop), shop.folder / "compose" / "data.yaml"
    compose.write_text(never_well(compose.read_text()))
    beginning = asyncio.create_task(startup("data"))
    file = shop.folder / "test.yaml"
    file.write_text(file.read_text().replace("start_timeout_seconds: 60", "start_timeout_seconds: 3"))
    await until(lambda: bool(data.containers(running=True)))
    with pytest.raises(NeedDownError, match="db is starting"):
        await startup("test")
    assert shop.containers() == []
    make_well(data.container("db"))
    await beginning


@flow
async def by_the_clock() -> OperationResult:
    result: OperationResult = await update("data", asked_by=SCHEDULE)
    return result


@pytest.mark.campaign(seconds=60)
async def test_a_locked_environment_is_updated_by_its_schedule_and_recovered_and_not_by_a_person_without_its_name(
    shop: Place,
) -> None:
    data = data_of(shop)
    await startup("data")
    with shop.stores() as stores:
        stores.pauses.lock("data", "sale", "ann", datetime.now(UTC))
    begun = started_at(data, "db")
    for asked in (stop("data"), restart("data", confirm="test"), update("data", confirm="Data"), rollback("data")):
        with pytest.raises(BadInputError, match=r"it is locked by ann since .*: sale; confirm it by its name"):
            await asked
    assert started_at(data, "db") == begun
    assert (await by_the_clock()).success
    assert (await restart("data", confirm="data")).success
    begun = started_at(data, "db")
    async with watched(1):
        end(data, "db")
        await until(lambda: data.containers(running=True) == ["db"] and started_at(data, "db") != begun)
        with shop.stores() as stores:
            await until(lambda: recoveries(stores, "data") == [("db", "restart_service", True)])
