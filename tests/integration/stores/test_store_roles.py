"""Each enrolled host reaches the stores by a role of its own, which can be ended alone."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path

import psycopg
import pytest
from sqlalchemy import make_url

from adapters.server import store_roles
from adapters.server.store_roles import end_blockers, end_role, make_role
from adapters.stores import Stores
from adapters.stores.check import check
from adapters.stores.postgresql import LOCKS
from models.failures import RoasError, StoreBusyError
from models.hosts import HostIdentity
from models.settings import Settings
from tests.support.postgresql_server import PostgresqlForTests, postgresql


@pytest.fixture(scope="module")
def server() -> Iterator[PostgresqlForTests]:
    with postgresql() as started:
        yield started


@pytest.fixture
def database(server: PostgresqlForTests, request: pytest.FixtureRequest) -> Iterator[str]:
    with server.database() as url:
        yield url
    for role in ("host-a", "host-b"):
        server.run(f'DROP ROLE IF EXISTS "{role}"')


def test_a_role_opens_the_stores_and_makes_nothing_in_the_database(
    server: PostgresqlForTests, database: str, tmp_path: Path
) -> None:
    make_role(Settings(data_dir=tmp_path, stores_url=database), "host-a", "h-a")
    name = _name(database)
    with psycopg.connect(server.url(name, "host-a"), autocommit=True) as connection:
        assert connection.execute("SELECT session_user, current_user").fetchone() == ("host-a", "host-a")
        for place in ("public", "errors"):
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                connection.execute(f"CREATE TABLE {place}.made (x int)".encode())
    url = server.url(name, "host-a")
    with Stores.open(Settings(data_dir=tmp_path, stores_url=url)) as stores:
        assert stores.operations.history(environment="shop") == []


def test_its_password_is_its_own_and_kept_as_a_verifier(
    server: PostgresqlForTests, database: str, tmp_path: Path
) -> None:
    settings = Settings(data_dir=tmp_path, stores_url=database)
    first, other = make_role(settings, "host-a", "h-a"), make_role(settings, "host-b", "h-b")
    again = make_role(settings, "host-a", "h-a")
    assert len({first, other, again}) == 3
    with psycopg.connect(database) as connection:
        kept = connection.execute("SELECT rolpassword FROM pg_authid WHERE rolname = 'host-a'").fetchone()
    assert kept is not None
    assert kept[0].startswith("SCRAM-SHA-256$")
    assert again not in kept[0]


def test_an_ended_role_is_sent_away_and_others_stay(server: PostgresqlForTests, database: str, tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path, stores_url=database)
    name = _name(database)
    make_role(settings, "host-a", "h-a")
    make_role(settings, "host-b", "h-b")
    with (
        psycopg.connect(server.url(name, "host-a")) as ended,
        psycopg.connect(server.url(name, "host-b")) as staying,
    ):
        end_role(settings, "host-a")
        with pytest.raises(psycopg.OperationalError):
            ended.execute("SELECT 1")
        assert staying.execute("SELECT 1").fetchone() == (1,)
    with pytest.raises(psycopg.OperationalError, match="not permitted to log in"):
        psycopg.connect(server.url(name, "host-a"))
    end_role(settings, "host-a")
    end_role(settings, "host-never-made")


def test_what_cannot_be_done_is_said(server: PostgresqlForTests, database: str, tmp_path: Path) -> None:
    with pytest.raises(RoasError, match=r"The role host-a cannot be made: the stores of this control plane are files"):
        make_role(Settings(data_dir=tmp_path), "host-a", "h-a")
    with pytest.raises(RoasError, match=r"The role host-a cannot be made: .*No such file") as away:
        make_role(Settings(data_dir=tmp_path, stores_url=f"postgresql://roas@/roas?host={tmp_path}"), "host-a", "h-a")
    assert away.value.advice == "does ROAS_STORES_URL reach it?"
    server.run("CREATE ROLE plain LOGIN")
    try:
        name = _name(database)
        with pytest.raises(RoasError, match="the stores' user may not do it"):
            make_role(Settings(data_dir=tmp_path, stores_url=server.url(name, "plain")), "host-a", "h-a")
    finally:
        server.run("DROP ROLE plain")


def _name(database: str) -> str:
    return str(make_url(database).database)


def test_a_fresh_fleet_is_whole(server: PostgresqlForTests, database: str, tmp_path: Path) -> None:
    owner = Settings(data_dir=tmp_path / "plane", stores_url=database)
    make_role(owner, "host-a", "h-a")
    host = Settings(data_dir=tmp_path / "host", stores_url=server.url(_name(database), "host-a"))
    for settings in (owner, host):
        with Stores.open(settings) as stores:
            assert [report.faults for report in check(stores, datetime.now(UTC))] == [(), (), ()]


class _Ended(Exception):  # noqa: N818 - no error
    """The test is over."""


@contextmanager
def control_plane(settings: Settings) -> Iterator[None]:
    """What the control plane's server does all the time, in a thread of the test."""
    over = threading.Event()

    def pause() -> None:
        if over.wait(0.1):
            raise _Ended

    def run() -> None:
        with suppress(_Ended):
            end_blockers(settings, pause)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


UNLIMITED = "SET lock_timeout = 0; SET statement_timeout = 0; SET idle_in_transaction_session_timeout = 0"
HOLDS = {
    "all advisory locks, in a session": [f"SELECT pg_advisory_lock({key})" for key in LOCKS.values()],
    "all advisory locks, in a transaction": [
        "BEGIN",
        *(f"SELECT pg_advisory_xact_lock({key})" for key in LOCKS.values()),
    ],
    "an advisory lock, shared": [f"SELECT pg_advisory_lock_shared({key})" for key in LOCKS.values()],
    "tables": ["BEGIN", "LOCK TABLE monitoring.heartbeats IN ACCESS EXCLUSIVE MODE"],
    "rows": ["BEGIN", "SELECT * FROM deployment_logs.hosts FOR UPDATE"],
}
BETA = HostIdentity(host_id="h-b", name="b")


def write(stores: Stores) -> None:
    stores.hosts.report(BETA, version="1", engine="", backlog=0)
    stores.heartbeats.beat("watch/b", datetime.now(UTC))


@pytest.mark.campaign(seconds=3)
@pytest.mark.parametrize("is_active", [False, True], ids=["sits", "goes on with short statements"])
@pytest.mark.parametrize("what", HOLDS)
def test_a_host_that_holds_up_the_writers_of_others_is_sent_away(
    server: PostgresqlForTests,
    database: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    what: str,
    is_active: bool,
) -> None:
    monkeypatch.setattr(store_roles, "_HELD_SECONDS", 1.0)
    owner = Settings(data_dir=tmp_path / "plane", stores_url=database)
    for name in ("a", "b"):
        make_role(owner, f"host-{name}", f"h-{name}")
    beta = Settings(data_dir=tmp_path / "b", stores_url=server.url(_name(database), "host-b"))
    with Stores.open(beta) as stores:
        write(stores)
    over = threading.Event()
    with closing(psycopg.connect(server.url(_name(database), "host-a"), autocommit=True)) as rogue:
        rogue.execute(UNLIMITED.encode())
        for said in HOLDS[what]:
            rogue.execute(said.encode())

        def go_on() -> None:
            with suppress(psycopg.OperationalError):
                while not over.is_set():
                    rogue.execute("SELECT pg_sleep(0.02)")

        busy = threading.Thread(target=go_on)
        if is_active:
            busy.start()
        try:
            with Stores.open(beta, deadline_seconds=1.5) as stores, pytest.raises(StoreBusyError):
                write(stores)
            with control_plane(owner), Stores.open(beta) as stores:
                began = time.monotonic()
                write(stores)
                assert time.monotonic() - began < 15
        finally:
            over.set()
            if is_active:
                busy.join()
    assert "host a held up writers of the stores, so its connections were ended" in caplog.text
    assert "roas fleet revoke a" in caplog.text


def test_hosts_that_wait_in_turn_or_write_much_are_left_alone(
    server: PostgresqlForTests,
    database: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(store_roles, "_HELD_SECONDS", 0.5)
    owner = Settings(data_dir=tmp_path / "plane", stores_url=database)
    make_role(owner, "host-a", "h-a")
    make_role(owner, "host-b", "h-b")
    failed: list[RoasError] = []

    def write_often(name: str) -> None:
        mine = Settings(data_dir=tmp_path / name, stores_url=server.url(_name(database), f"host-{name}"))
        try:
            with Stores.open(mine) as stores:
                for _ in range(40):
                    stores.hosts.report(HostIdentity(host_id=f"h-{name}", name=name), version="1", engine="", backlog=0)
        except RoasError as error:
            failed.append(error)

    writers = [threading.Thread(target=write_often, args=(name,)) for name in "aabb" * 2]
    with control_plane(owner), psycopg.connect(database) as plane:
        # The control plane itself may take long: all of them wait for it, and for one another.
        plane.execute(f"SELECT pg_advisory_xact_lock({LOCKS['deployment_logs']})".encode())
        for one in writers:
            one.start()
        waits = "SELECT count(*) FROM pg_locks WHERE NOT granted AND waitstart < clock_timestamp() - interval '1 s'"
        while plane.execute(waits.encode()).fetchone() != (len(writers),):
            assert not failed
        plane.commit()
        for one in writers:
            one.join()
    assert failed == []
    assert "held up" not in caplog.text


def test_a_user_who_may_not_end_others_connections_learns_what_is_missing(
    server: PostgresqlForTests, database: str, tmp_path: Path
) -> None:
    server.run("CREATE ROLE plain LOGIN CREATEROLE")
    try:
        settings = Settings(data_dir=tmp_path, stores_url=server.url(_name(database), "plain"))
        with pytest.raises(RoasError, match="Hosts that hold up the stores cannot be ended") as refused:
            end_blockers(settings, lambda: pytest.fail("it went on"))
        assert "GRANT pg_read_all_stats, pg_signal_backend" in (refused.value.advice or "")
    finally:
        server.run("DROP ROLE plain")
