"""An agent that is older than the stores: it says so, and goes on healing."""

from __future__ import annotations

import signal

import pytest

from adapters.stores import Stores
from adapters.stores.migrate import HEADS, STORES
from models.settings import Settings
from tests.e2e.fleet.conftest import LocalHost
from tests.support.postgresql_server import postgresql

pytestmark = [pytest.mark.engine, pytest.mark.campaign]


def test_an_agent_that_is_older_than_the_stores_says_so_and_goes_on_healing(host: LocalHost) -> None:
    with postgresql() as server, server.database() as url:
        name = host.declare()
        host.variables["ROAS_STORES_URL"] = url
        settings = Settings(data_dir=host.folder / "reading", stores_url=url)
        database = url.partition("?")[0].rpartition("/")[2]
        host.up(name)
        agent = host.begin()
        host.watched(name)
        host.until(lambda: (host.folder / "data" / "known" / f"{name}.json").exists())
        for store in STORES:
            server.run(f"UPDATE {store}.alembic_version SET version_num = 'r9999'", database)
        # What runs already goes on with what it has opened.
        host.kill(name)
        host.until(lambda: host.text().count("web healthy again") == 1)
        agent.send_signal(signal.SIGTERM)
        assert agent.wait(timeout=300) == 0
        host.begin()
        host.watched(name, times=2)
        host.kill(name)
        host.until(lambda: host.text().count("web healthy again") == 2)
        assert "is newer than this program" in host.text()
        assert "is newer than this program" in host.roas("history", name)
        # The later version of the program has no other way to its records than this one here.
        for store in STORES:
            server.run(f"UPDATE {store}.alembic_version SET version_num = '{HEADS[store]}'", database)
        with Stores.open(settings) as stores:
            host.until(lambda: [one.success for one in stores.recoveries.find(environment=name)] == [True, True])
