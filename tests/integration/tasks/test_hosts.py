"""What became true of hosts is an incident, opened once by whoever notices it and resolved when it ends."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
import sqlalchemy as sa

from adapters.host.identity import rename_host
from adapters.stores import Stores
from adapters.stores.recovery_writes import ResolveError, to_line
from adapters.stores.write_behind import Journal, waiting_writes
from core.storage.incidents import OWN_SYSTEM
from models.audit import SYSTEM
from models.hosts import HostIdentity
from models.recovery import TicketState
from tasks.recovery.hosts import dismiss_host, report_hosts
from tasks.reporting.fleet import read_fleet
from tasks.runtime.hosts import report_contact, this_host
from tasks.runtime.stores import open_stores
from tests.support.postgresql_server import PostgresqlForTests, postgresql

ALPHA = HostIdentity(host_id="h-a", name="alpha")


@pytest.fixture(scope="module")
def server() -> Iterator[PostgresqlForTests]:
    with postgresql() as started:
        yield started


@pytest.fixture
def stores(server: PostgresqlForTests, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Stores]:
    monkeypatch.setenv("ROAS_DATA_DIR", str(tmp_path))
    monkeypatch.setenv("ROAS_HOST_NAME", "beta")
    with server.database() as url:
        monkeypatch.setenv("ROAS_STORES_URL", url)
        yield open_stores()
        open_stores().close()


def change(stores: Stores, values: str) -> None:
    with stores.databases["deployment_logs"].write() as connection:
        connection.execute(sa.text(f"UPDATE hosts SET {values} WHERE host_id = 'h-a'"))


def contact_of_alpha(stores: Stores) -> None:
    stores.hosts.report(ALPHA, version="1", engine="unix:///var/run/docker.sock", backlog=0)


def test_a_silent_host_opens_one_ticket_however_many_notice_it_and_its_return_resolves_it(stores: Stores) -> None:
    contact_of_alpha(stores)
    stores.hosts.bind("shop", ALPHA)
    change(stores, "last_contact = last_contact - interval '61 seconds'")

    noticed: list[int] = []
    threads = [threading.Thread(target=lambda: noticed.append(len(report_hosts()))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert sorted(noticed) == [0, 0, 0, 1]
    [ticket] = stores.tickets.find(environment=OWN_SYSTEM)
    assert ticket.title.startswith("Host alpha (h-a) is silent since")
    assert "beta noticed it. Belonging to it: shop" in ticket.title
    assert any("roas fleet take shop" in step for step in ticket.steps)

    contact_of_alpha(stores)
    assert len(report_hosts()) == 1
    [ticket] = stores.tickets.find(environment=OWN_SYSTEM)
    assert ticket.state is TicketState.RESOLVED
    assert stores.errors.unresolved(OWN_SYSTEM) == []
    assert report_hosts() == []


def test_a_host_that_is_dismissed_has_its_tickets_resolved(stores: Stores) -> None:
    contact_of_alpha(stores)
    change(stores, "clock_skew_seconds = 600, last_contact = last_contact - interval '61 seconds'")
    assert len(report_hosts()) == 2

    assert dismiss_host("alpha", "ada", SYSTEM).host_id == "h-a"

    assert stores.errors.unresolved(OWN_SYSTEM) == []
    assert {one.state for one in stores.tickets.find(environment=OWN_SYSTEM)} == {TicketState.RESOLVED}
    assert report_hosts() == []


def test_a_host_that_is_silent_again_is_reported_again(stores: Stores) -> None:
    for _ in range(2):
        contact_of_alpha(stores)
        report_hosts()
        change(stores, "last_contact = last_contact - interval '61 seconds'")
        assert [one.ended for one in report_hosts()] == [False]
    assert len(stores.errors.unresolved(OWN_SYSTEM)) == 1


def test_a_wrong_clock_is_an_incident_of_its_own_beside_the_silence(stores: Stores) -> None:
    contact_of_alpha(stores)
    change(stores, "clock_skew_seconds = 600, last_contact = last_contact - interval '61 seconds'")

    report_hosts()

    titles = sorted(one.title for one in stores.tickets.find(environment=OWN_SYSTEM))
    assert titles[0].startswith("Host alpha (h-a) is silent since ")
    assert titles[1] == "The clock of host alpha (h-a) is 600 s ahead of the database's"
    contact_of_alpha(stores)
    assert [one.ended for one in report_hosts()] == [True, True]
    assert stores.errors.unresolved(OWN_SYSTEM) == []


def test_the_fleet_shows_hosts_and_environments(stores: Stores) -> None:
    contact_of_alpha(stores)
    report_contact(engine="unix:///run/docker.sock", backlog=3)
    stores.hosts.bind("shop", ALPHA)

    fleet = read_fleet()

    assert [(one.name, one.backlog) for one in fleet.hosts] == [("alpha", 0), ("beta", 3)]
    assert fleet.this_host == this_host().host_id
    assert [(one.environment, one.host_id, one.health) for one in fleet.environments] == [("shop", "h-a", "")]
    assert not any(fleet.silent(one) or fleet.skewed(one) for one in fleet.hosts)


def test_writes_that_wait_in_journals_are_counted(tmp_path: Path) -> None:
    assert waiting_writes(tmp_path / "journal") == 0
    journal = Journal(tmp_path / "journal")
    for _ in range(3):
        journal.append(to_line(ResolveError(error_id="e", at=datetime.now(UTC), why="well")))
    journal.close()
    assert waiting_writes(tmp_path / "journal") == 3


def test_an_enrolled_host_has_the_name_that_it_was_invited_by(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ROAS_DATA_DIR", str(tmp_path))
    monkeypatch.delenv("ROAS_HOST_NAME", raising=False)
    before = this_host()
    rename_host(tmp_path, "web-1")
    assert this_host() == HostIdentity(host_id=before.host_id, name="web-1")
    monkeypatch.setenv("ROAS_HOST_NAME", "mine")
    assert this_host().name == "mine"
