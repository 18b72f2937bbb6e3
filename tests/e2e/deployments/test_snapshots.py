"""Snapshots of real databases and files: taken while they serve, offered only when whole, restored, and rehearsed."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from adapters.stores import Stores
from flows.deployment.startup import startup
from flows.deployment.stop import stop
from flows.deployment.update import update
from flows.storage.rehearse import rehearse
from flows.storage.restore import restore
from flows.storage.snapshot import snapshot
from models.failures import BadInputError, HalfRestoredError, NotFoundError, SnapshotError, StartFailedError
from models.operations import Operation
from models.snapshots import SnapshotState
from tests.e2e.flows.conftest import Place, flows_are_recorded, place, until  # noqa: F401 - fixtures
from tests.e2e.flows.test_interruption import roas
from tests.e2e.gallery.__main__ import BUILD
from tests.support.data_application import PASSWORD, Data, compose, data_of
from tests.support.docker_command import docker_command
from tests.support.plain_tasks import tasks_make_no_runs  # noqa: F401 - fixture

pytestmark = [pytest.mark.engine, pytest.mark.flow]

ALL = ("db", "maria", "cache", "app")


@pytest.fixture(scope="module", autouse=True)
def image() -> None:
    subprocess.run([BUILD], check=True, capture_output=True)


@pytest.fixture
def shop(place: Place, monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:  # noqa: F811
    monkeypatch.setenv("SHOP_PASSWORD", PASSWORD)
    yield place
    listed = ["docker", "volume", "ls", "-q", "--filter", f"label=com.docker.compose.project={place.project}"]
    subprocess.run(["docker", "rm", "-f", *containers(place)], capture_output=True, check=False)
    volumes = subprocess.run(listed, capture_output=True, text=True, check=True).stdout.split()
    subprocess.run(["docker", "volume", "rm", "-f", *volumes], capture_output=True, check=False)


def containers(place: Place) -> list[str]:  # noqa: F811
    command = ["docker", "ps", "-aq", "--filter", f"label=com.docker.compose.project={place.project}"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()


def declare(place: Place, *services: str, change: str = "1", more: str = "") -> None:  # noqa: F811
    place.declare("", start_timeout_seconds=280, secrets="[{name: SHOP_PASSWORD}]", data=data_of(*services, more=more))
    (place.folder / "compose.yaml").write_text(compose(*services, change=change))


@pytest.mark.parametrize(
    "services", [("db", "app"), pytest.param(ALL, marks=pytest.mark.campaign(seconds=50))], ids="-".join
)
async def test_what_was_saved_is_restored_as_it_was(shop: Place, services: tuple[str, ...]) -> None:
    declare(shop, *services)
    await startup("test")
    data = Data(shop.project)
    data.fill("before", services)
    was = data.held(services)

    taken = await snapshot("test")
    data.fill("after", services)
    rehearsed = await rehearse("test")
    assert data.held(services) != was
    await restore("test", confirmed=True)

    assert taken.state is SnapshotState.WHOLE
    assert rehearsed.rehearsal is not None
    assert rehearsed.rehearsal.problem == ""
    assert data.held(services) == was


@pytest.mark.campaign
async def test_roles_and_grants_of_postgresql_come_back_and_a_rehearsal_proves_it(shop: Place) -> None:
    declare(shop, "db")
    await startup("test")
    data = Data(shop.project)
    data.postgresql(
        "create role app login password 'of-the-app'; create role \"read'ers\"; grant \"read'ers\" to app;"
        'create table goods (name text); grant select on goods to "read\'ers";'
    )
    hashes = "select count(*) from pg_authid where rolname = 'app' and rolpassword = '{}'"
    await snapshot("test")
    rehearsed = await rehearse("test")
    data.postgresql("drop owned by \"read'ers\"; drop role \"read'ers\"; alter role app password 'newer'")
    newer = data.postgresql("select rolpassword from pg_authid where rolname = 'app'")

    await restore("test", confirmed=True)

    assert rehearsed.rehearsal is not None
    assert rehearsed.rehearsal.problem == ""
    assert rehearsed.rehearsal.found["db/shop"].endswith("; 3 roles")
    assert data.postgresql("select has_table_privilege('app', 'goods', 'select')") == "t"
    # What logs in now knows the password of now.
    assert data.postgresql(hashes.format(newer)) == "1"
    log = subprocess.run(["docker", "logs", f"{shop.project}-db-1"], capture_output=True, text=True, check=True)
    assert "SCRAM-SHA" not in log.stdout + log.stderr


def last(place: Place) -> Operation:  # noqa: F811
    with place.stores() as stores:
        return stores.operations.history(environment="test")[0]


async def shop_with(place: Place, *services: str, more: str = "") -> Data:  # noqa: F811
    """The application with some services, started."""
    declare(place, *services, more=more)
    await startup("test")
    return Data(place.project)


def restic(place: Place, *words: str, given: bytes = b"") -> Any:  # noqa: F811
    """What restic says of the environment's repository."""
    folder = place.settings.data_dir / "snapshots"
    variables = {"RESTIC_REPOSITORY": str(folder / "test"), "RESTIC_PASSWORD_FILE": str(folder / "test.password")}
    command = ["restic", "--no-cache", "--json", *words]
    done = subprocess.run(command, env=os.environ | variables, input=given, capture_output=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def command_lines() -> str:
    """The arguments of all processes of this machine, those inside containers too."""
    found = []
    for process in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):
            found.append(process.read_bytes().replace(b"\0", b" ").decode(errors="replace"))
    return "\n".join(found)


async def runs_in_database(shop: Place, program: str) -> bool:
    """Report whether the database's container runs a program; other tests run the same ones in theirs."""
    command = ["docker", "top", shop.container("db"), "-eo", "pid,args"]
    listed = await asyncio.to_thread(subprocess.run, command, capture_output=True, text=True, check=False)
    return program in listed.stdout


@pytest.mark.campaign
async def test_a_database_serves_and_no_argument_shows_its_password_while_it_is_saved(shop: Place) -> None:
    data = await shop_with(shop, "db")
    data.postgresql("create table rows as select generate_series(1, 1500000) as id, repeat('x', 100) as text")
    saving = asyncio.create_task(snapshot("test"))
    seen, answers = [], 0

    while not saving.done():
        lines = await asyncio.to_thread(command_lines)
        if "pg_dump" in lines:
            seen.append(lines)
            await asyncio.to_thread(data.postgresql, "insert into rows values (0, 'new'); select 1")
            answers += 1
        await asyncio.sleep(0.05)

    taken = await saving
    password = (shop.settings.data_dir / "snapshots" / "test.password").read_text()
    assert answers > 0
    assert [line for lines in seen for line in lines.splitlines() if PASSWORD in line or password in line] == []
    assert taken.parts[0].bytes > 100_000_000
    assert (shop.settings.data_dir / "snapshots" / "test.password").stat().st_mode & 0o777 == 0o600


def runner_of(stores: Stores) -> int:
    """The process that holds the environment."""
    lease = stores.leases.current("test", datetime.now(UTC))
    assert lease is not None
    assert lease.runner is not None
    return lease.runner.pid


@pytest.mark.campaign
async def test_a_snapshot_that_was_killed_is_never_offered_and_leaves_nothing(shop: Place) -> None:
    data = await shop_with(shop, "db", "app")
    data.fill("before", ("app",))
    data.postgresql("create table rows as select generate_series(1, 3000000) as id, repeat('x', 100) as text")
    process = roas("snapshot", "create", "test")
    with process, shop.stores() as stores:
        while not stores.snapshots.list_for("test") or not await runs_in_database(shop, "pg_dump"):
            assert process.poll() is None, process.communicate()
            await asyncio.sleep(0.05)
        # The fork of the warm process that runs it: its caller's end would only ask it to end.
        os.kill(runner_of(stores), signal.SIGKILL)
        process.wait()
        with pytest.raises(NotFoundError, match="no snapshot of test"):
            await rehearse("test")

        data.postgresql("drop table rows")
        taken = await snapshot("test")

        states = {one.snapshot_id: one.state for one in stores.snapshots.list_for("test")}
    assert sorted(states.values()) == [SnapshotState.FAILED, SnapshotState.WHOLE]
    tags = {str(tag) for one in restic(shop, "snapshots") for tag in one["tags"]}
    assert tags == {"roas", "manifest", taken.snapshot_id}


@pytest.mark.campaign
async def test_a_restore_that_was_killed_lets_nothing_start_until_it_is_finished(shop: Place) -> None:
    data = await shop_with(shop, "db", "app")
    data.fill("before", ("db", "app"))
    data.postgresql("create table rows as select generate_series(1, 1500000) as id, repeat('x', 100) as text")
    was = data.held(("db", "app"))
    await snapshot("test")
    data.postgresql("truncate rows")
    data.fill("after", ("db", "app"))
    process = roas("snapshot", "restore", "--yes", "test")
    with process:
        while not await runs_in_database(shop, "psql --no-psqlrc --quiet"):
            assert process.poll() is None, process.communicate()
            await asyncio.sleep(0.02)
        # The fork of the warm process that runs it: its caller's end would only ask it to end.
        os.kill(last(shop).details["runner"]["pid"], signal.SIGKILL)
        process.wait()
    killed = last(shop).deployment_id

    with pytest.raises(HalfRestoredError, match=f"roas resume {killed}"):
        await startup("test")
    with pytest.raises(HalfRestoredError, match=f"roas resume {killed}"):
        await snapshot("test")
    assert "only_after" in data.postgresql("select string_agg(relname, ',') from pg_stat_user_tables")
    with roas("resume", killed) as resumed:
        printed, _ = resumed.communicate()
    assert resumed.returncode == 0, printed

    assert data.held(("db", "app")) == was
    assert data.postgresql("select count(*) from rows") == "1500000"
    await startup("test")


@pytest.mark.campaign(seconds=12)
async def test_a_snapshot_that_cannot_be_read_stops_nothing(shop: Place) -> None:
    data = await shop_with(shop, "cache")
    taken = await snapshot("test")
    data.fill("after", ("cache",))
    now, before = data.held(("cache",)), containers(shop)
    with shop.stores() as stores:
        stores.snapshots.forget(taken.snapshot_id)
        stores.snapshots.begin(replace(taken, parts=(replace(taken.parts[0], restic_id="0" * 64),)))

    with pytest.raises(SnapshotError, match="cache"):
        await restore("test", confirmed=True)

    assert (data.held(("cache",)), containers(shop)) == (now, before)
    assert last(shop).details["undone"] == "no data was touched"


@pytest.mark.campaign(seconds=15)
async def test_a_sqlite_file_is_saved_and_put_back_while_its_service_does_not_run(shop: Place) -> None:
    data = await shop_with(shop, "app")
    data.fill("before", ("app",))
    was = data.held(("app",))
    await snapshot("test")
    data.fill("after", ("app",))
    docker_command("stop", "--time", "1", shop.container("app"))

    await restore("test", confirmed=True)

    assert data.held(("app",)) == was


@pytest.mark.campaign(seconds=10)
async def test_an_update_that_cannot_reach_data_names_a_way_that_needs_no_good_version(shop: Place) -> None:
    await shop_with(shop, "cache")
    await stop("test")
    declare(shop, "cache", change="2")
    with pytest.raises(SnapshotError, match="cache does not run") as refused:
        await update("test")
    alone = f"docker start {shop.container('cache')}"
    assert refused.value.advice == f"`roas start test` first; where that fails, it alone: `{alone}`."
    docker_command(*alone.split()[1:])
    await until(lambda: shop.health("cache") == "healthy")

    await update("test")

    assert last(shop).record.snapshots


@pytest.mark.campaign(seconds=15)
async def test_a_restore_that_is_undone_leaves_stopped_what_a_person_had_stopped(shop: Place) -> None:
    data = await shop_with(shop, "app")
    data.fill("before", ("app",))
    await snapshot("test")
    data.fill("after", ("app",))
    now = data.held(("app",))
    await stop("test")

    restoring = asyncio.create_task(restore("test", confirmed=True))
    await until(lambda: len(shop.containers(running=True)) == 1)
    restoring.cancel()
    with suppress(asyncio.CancelledError):
        await restoring

    assert shop.containers(running=True) == []
    assert last(shop).details["undone"].endswith(": 0 services proven")
    await startup("test")
    assert data.held(("app",)) == now


@pytest.mark.campaign(seconds=30)
async def test_a_restore_that_fails_leaves_the_data_as_it_was(shop: Place) -> None:
    data = await shop_with(shop, "db", "cache")
    data.fill("before", ("db", "cache"))
    taken = await snapshot("test")
    data.fill("after", ("db", "cache"))
    now = data.held(("db", "cache"))
    # It can be read, and no server can load it.
    saved = restic(shop, "backup", "--quiet", "--stdin", "--stdin-filename", "cache", given=b"no dump of Redis")
    broken = replace(taken.parts[1], restic_id=str(saved["snapshot_id"]), bytes=16)
    with shop.stores() as stores:
        stores.snapshots.forget(taken.snapshot_id)
        stores.snapshots.begin(replace(taken, parts=(taken.parts[0], broken)))

    with pytest.raises(StartFailedError, match="cache"):
        await restore("test", confirmed=True)

    assert data.held(("db", "cache")) == now
    assert "the data is again that of before" in last(shop).details["undone"]
    rehearsed = await rehearse("test", snapshot=taken.snapshot_id)
    assert rehearsed.rehearsal is not None
    assert not rehearsed.rehearsal.ok
    assert "cache takes no connections: it ended with exit code 1" in rehearsed.rehearsal.problem


@pytest.mark.campaign(seconds=12)
async def test_a_restore_is_confirmed_first(shop: Place) -> None:
    data = await shop_with(shop, "app", "db")
    data.fill("before", ("app", "db"))
    taken = await snapshot("test")
    before = containers(shop)
    data.postgresql("insert into goods values ('one'), ('two'); update goods set name = 'three' where name = 'one'")
    data.shell("printf 12345 > /srv/files/new")

    with pytest.raises(BadInputError, match="is lost"):
        await restore("test")
    with roas("snapshot", "restore", "test", taken.snapshot_id) as asked:
        printed, _ = asked.communicate()

    assert asked.returncode == 2
    assert "app/srv/state/app.db, files, db/shop since" in printed
    assert "db/shop: public.goods: rows 2 added, 1 changed" in printed
    assert "files: 1 file (5 B) added or changed" in printed
    assert "--yes" in printed
    assert containers(shop) == before

    writer = shop.container("app")
    docker_command("pause", writer)
    with pytest.raises(BadInputError, match=f"{writer} is paused, so a restore of its data touches nothing"):
        await restore("test", taken.snapshot_id, confirmed=True)
    docker_command("unpause", writer)
    assert containers(shop) == before
