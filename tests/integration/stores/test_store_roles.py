"""Each enrolled host reaches the stores by a role of its own, which can be ended alone."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import psycopg
import pytest
from sqlalchemy import make_url

from adapters.server.store_roles import end_role, make_role
from adapters.stores import Stores
from adapters.stores.check import check
from models.failures import RoasError
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
