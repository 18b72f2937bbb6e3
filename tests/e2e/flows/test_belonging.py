"""An environment belongs to one host: everywhere else it is refused, and nothing is done or recorded."""

from __future__ import annotations

import asyncio
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import sqlalchemy as sa
from prefect import flow

from core.storage.incidents import OWN_SYSTEM
from flows.operation.recorder import OperationRecorder, OperationRequest, record_operation
from flows.recovery.escalate import escalate
from flows.recovery.watch import watch
from flows.registry import FLOWS
from models.failures import WrongHostError
from models.hosts import HostIdentity
from models.operations import Operation, OperationStatus, OperationType
from tasks.runtime.hosts import this_host
from tasks.runtime.stores import open_stores
from tests.e2e.flows.conftest import Place, well
from tests.support.plain_tasks import tasks_make_no_runs  # noqa: F401 - fixture
from tests.support.postgresql_server import PostgresqlForTests, postgresql
from tests.support.prefect_server import server_variables
from tests.support.warm import warm_commands

pytestmark = pytest.mark.flow

ALPHA = HostIdentity(host_id="h-a", name="alpha")
ROOT = Path(__file__).parents[3]
ROAS = Path(sys.executable).with_name("roas")
INTERRUPTED = Operation(
    deployment_id="test-1",
    operation_type=OperationType.STOP,
    environment="test",
    status=OperationStatus.FAILED,
    started_at=datetime(2026, 1, 1, tzinfo=UTC),
    ended_at=datetime(2026, 1, 1, 0, 1, tzinfo=UTC),
    details={"interrupted": "its runner is gone", "asked": {"flow": "stop", "parameters": {"environment": "test"}}},
    host_id="h-a",
)


@pytest.fixture(scope="module")
def server() -> Iterator[PostgresqlForTests]:
    with postgresql() as started:
        yield started


@pytest.fixture
def fleet(place: Place, server: PostgresqlForTests, monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:
    """This host, beta, with stores that others share."""
    monkeypatch.setenv("ROAS_HOST_NAME", "beta")
    with server.database() as url:
        monkeypatch.setenv("ROAS_STORES_URL", url)
        place.declare(well("web"))
        yield place
        open_stores().close()


@pytest.fixture
def elsewhere(fleet: Place) -> Place:
    """`test` belongs to alpha, which is in contact."""
    stores = open_stores()
    stores.hosts.report(ALPHA, version="1", engine="unix:///var/run/docker.sock", backlog=0)
    stores.hosts.bind("test", ALPHA)
    return fleet


def nothing_was_done(place: Place) -> None:
    stores = open_stores()
    assert [one.deployment_id for one in stores.operations.history("test")] in ([], ["test-1"])
    assert stores.errors.list_unresolved("test") == []
    assert stores.tickets.find(environment="test") == []
    assert stores.leases.current("test", datetime.now(UTC)) is None
    assert place.containers() == []


REFUSED = {
    "start": {},
    "stop": {},
    "restart": {},
    "rollback": {},
    "update": {},
    "health": {},
    "snapshot": {},
    "collect": {},
    "watch": {"hours": 0.01},
    "recover": {"text": "web exited with code 1", "service": "web"},
}


@pytest.mark.engine
@pytest.mark.parametrize("kind", REFUSED)
async def test_an_operation_on_an_environment_of_another_host_is_refused_and_nothing_is_done(
    elsewhere: Place, kind: str
) -> None:
    if kind == "snapshot":
        elsewhere.declare(well("web"), data="{save: [{kind: files, volume: things}]}")

    with pytest.raises(WrongHostError) as refused:
        await (watch if kind == "watch" else FLOWS[kind])(environment="test", **REFUSED[kind])

    assert refused.value.what == "Environment test belongs to host alpha, and this host is beta;"
    assert "roas fleet take test" in refused.value.advice
    nothing_was_done(elsewhere)


async def test_the_first_operation_binds_an_environment_and_carries_its_host(fleet: Place) -> None:
    @flow(name="one-operation")
    async def operation() -> None:
        async with record_operation(OperationType.START, "test", OperationRequest(), on_failure=escalate) as recorder:
            await recorder.open()

    await operation()

    [done] = open_stores().operations.history("test")
    assert done.host_id == this_host().host_id == open_stores().hosts.owner("test")
    [host] = open_stores().hosts.all()
    assert (host.name, host.dismissed_at is not None) == ("beta", True), "a single command is no contact"


@pytest.mark.campaign
async def test_an_environment_that_is_moved_while_an_operation_waits_is_refused(fleet: Place) -> None:
    async def load(recorder: OperationRecorder) -> None:
        open_stores().hosts.bind("test", ALPHA)
        await recorder.open()

    @flow(name="one-operation")
    async def operation() -> None:
        async with record_operation(OperationType.START, "test", OperationRequest(), on_failure=escalate) as recorder:
            await load(recorder)

    with pytest.raises(WrongHostError):
        await operation()
    assert open_stores().tickets.find(environment="test") == []
    assert open_stores().errors.list_unresolved("test") == []


@pytest.mark.campaign
async def test_a_watch_ends_when_its_environment_is_moved(fleet: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("flows.recovery.watch.SWEEP", timedelta(seconds=0.2))
    stores = open_stores()
    stores.hosts.bind("test", this_host())
    stores.hosts.report(ALPHA, version="1", engine="", backlog=0)

    @flow(name="moved")
    async def run() -> None:
        stores.hosts.move("test", ALPHA, instead_of=this_host().host_id)
        await watch("test", hours=1)

    with pytest.raises(WrongHostError, match="belongs to host alpha"):
        await run()


@pytest.mark.engine
async def test_what_runs_here_and_was_never_operated_belongs_to_the_host_that_watches_it(
    fleet: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("flows.recovery.watch.SWEEP", timedelta(seconds=0.2))
    hosts = open_stores().hosts
    await watch("test", hours=2 / 3600)
    assert hosts.owner("test") is None, "nothing of it is here, so it may run on another host"

    compose = ["docker", "compose", "--project-name", fleet.project, "--file", fleet.folder / "compose.yaml"]
    subprocess.run([*compose, "up", "--detach", "--wait"], check=True, capture_output=True)
    await watch("test", act=False, hours=2 / 3600)
    assert hosts.owner("test") is None, "it is only looked at"

    async def until(done: Callable[[], bool]) -> None:
        async with asyncio.timeout(60):
            while not done():  # noqa: ASYNC110 - the stores send no event
                await asyncio.sleep(0.1)

    seen: set[datetime | None] = set()

    def swept_often() -> bool:
        seen.add(open_stores().heartbeats.last_beat("watch/test"))
        return len(seen) > 3

    watching = asyncio.create_task(watch("test", hours=1))
    try:
        await until(lambda: hosts.owner("test") is not None)
        assert hosts.bind("test", ALPHA) == this_host().host_id, "another host cannot claim it"
        hosts.let_go("test", this_host())
        await until(swept_often)
        assert hosts.owner("test") is None, "a person let go of it, and it stays so"
    finally:
        watching.cancel()
        await asyncio.gather(watching, return_exceptions=True)


@pytest.mark.campaign
def test_resume_on_the_wrong_host_leaves_the_operation_as_it_was(elsewhere: Place) -> None:
    open_stores().operations.begin(INTERRUPTED)

    done = roas(elsewhere, "resume", "test-1")

    assert done.returncode == 2
    assert "belongs to host alpha, and this host is beta" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert open_stores().operations.get("test-1") == INTERRUPTED
    nothing_was_done(elsewhere)


@pytest.mark.campaign
def test_an_operation_of_another_host_is_not_resumed_after_a_move(fleet: Place) -> None:
    open_stores().hosts.bind("test", this_host())
    open_stores().operations.begin(INTERRUPTED)

    done = roas(fleet, "resume", "test-1")

    assert done.returncode == 2
    assert "Deployment test-1 ran on another host, h-a, and this host is beta" in done.stderr
    assert "roas stop test" in done.stderr
    assert open_stores().operations.get("test-1") == INTERRUPTED


def test_a_command_that_is_refused_says_so_in_one_line(elsewhere: Place) -> None:
    done = roas(elsewhere, "stop", "test")
    assert done.returncode == 2
    said = [line for line in done.stderr.splitlines() if line.startswith("roas: ")]
    assert len(said) == 1
    assert "Environment test belongs to host alpha, and this host is beta" in said[0]
    assert "Traceback" not in done.stderr
    nothing_was_done(elsewhere)


@pytest.mark.campaign
@pytest.mark.campaign(seconds=70)
def test_an_environment_is_taken_from_a_silent_host_only(elsewhere: Place) -> None:
    refused = roas(elsewhere, "fleet", "take", "test", "--yes")
    assert refused.returncode == 2
    assert "host alpha (h-a), which is in contact" in refused.stderr

    with open_stores().databases["deployment_logs"].write() as connection:
        connection.execute(sa.text("UPDATE hosts SET last_contact = last_contact - interval '2 minutes'"))
    unconfirmed = roas(elsewhere, "fleet", "take", "test")
    assert unconfirmed.returncode == 2
    assert open_stores().hosts.owner("test") == "h-a"

    taken = roas(elsewhere, "fleet", "take", "test", "--yes")
    assert taken.returncode == 0, taken.stderr
    assert open_stores().hosts.owner("test") == this_host().host_id
    assert "test belongs to host beta from now on, and no more to alpha" in taken.stdout

    shown = roas(elsewhere, "fleet")
    assert re.search(r"silent, \d+ min ago", shown.stdout), shown.stdout
    left = roas(elsewhere, "fleet", "leave", "test")
    assert left.returncode == 0, left.stderr
    assert open_stores().hosts.owner("test") is None


def test_stores_in_files_are_of_one_host_and_refuse_nothing(place: Place) -> None:
    place.declare(well("web"))
    open_stores().hosts.bind("test", ALPHA)

    shown = roas(place, "fleet", "--json")

    assert shown.returncode == 0, shown.stderr
    assert OWN_SYSTEM not in shown.stdout
    resumed = roas(place, "resume", "nothing")
    assert "belongs to host" not in resumed.stderr


def roas(place: Place, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [ROAS, *words],
        env=server_variables() | warm_commands() | {"PYTHONPATH": str(ROOT)},
        cwd=place.folder,
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        check=False,
        timeout=120,
    )
