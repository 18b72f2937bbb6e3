"""The stores are away, and the agent is killed and started again meanwhile: it heals, and they have all of it once."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from adapters.stores import Stores
from models.settings import Settings
from tests.e2e.faults.outages import HOLD_GATE, held_by_another_process
from tests.e2e.fleet.conftest import LocalHost
from tests.support.postgresql_server import PostgresqlForTests, postgresql

pytestmark = [pytest.mark.engine, pytest.mark.campaign(seconds=30)]


@pytest.fixture(scope="module")
def server() -> Iterator[PostgresqlForTests]:
    with postgresql() as running:
        yield running


def recovered(stores: Stores, name: str) -> list[str | None]:
    return [one.attempt_id for one in stores.recoveries.find(environment=name) if one.success]


def heals(host: LocalHost, name: str, times: int) -> None:
    before = host.text().count("web healthy again")
    assert before == times - 1
    host.kill(name)
    host.until(lambda: host.text().count("web healthy again") == times)


def goes_on_without_stores(host: LocalHost, name: str, away: ExitStack, settings: Settings, **variables: str) -> None:
    """Heal while the stores are away, killed in between; then `away` ends, and the stores have it once."""
    heals(host, name, 1)
    heals(host, name, 2)
    agent = host.agents[-1]
    agent.kill()
    agent.wait()
    host.begin(**variables)
    host.watched(name, times=2)
    heals(host, name, 3)
    away.close()
    with Stores.open(settings) as stores:
        host.until(lambda: len(recovered(stores, name)) == 3)
        host.until(lambda: not stores.errors.list_unresolved(name))
        assert len(set(recovered(stores, name))) == 3
        # Three failures of one cause within minutes: each is an attempt of its own, none is written twice.
        assert len(stores.recoveries.find(environment=name)) == 3
    host.until(lambda: not list((host.folder / "data" / "journal").glob("*.jsonl")))


def test_while_postgresql_is_killed(host: LocalHost, server: PostgresqlForTests) -> None:
    with server.database() as url:
        variables = {"ROAS_STORES_URL": url}
        settings = Settings(data_dir=host.folder / "data", stores_url=url)
        name = host.declare()
        host.up(name)
        host.begin(**variables)
        host.watched(name)
        host.until(lambda: (host.folder / "data" / "known" / f"{name}.json").exists())
        server.control("stop", "-m", "immediate")
        with ExitStack() as away:
            away.callback(server.control, "start")
            goes_on_without_stores(host, name, away, settings, **variables)
    assert f"{name}: the stores are away; {name} is watched by what was read of it last" in host.text()


def test_while_the_files_of_sqlite_are_locked(host: LocalHost) -> None:
    name = host.declare()
    host.up(name)
    host.begin()
    host.watched(name)
    host.until(lambda: (host.folder / "data" / "known" / f"{name}.json").exists())
    with ExitStack() as away:
        # No process can write then.
        away.enter_context(held_by_another_process(HOLD_GATE, host.folder / "data" / "gate.lock"))
        goes_on_without_stores(host, name, away, host.settings)
