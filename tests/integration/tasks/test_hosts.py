"""What became true of hosts is an incident, opened once by the process that notices it and resolved when it ends."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import sqlalchemy as sa

from adapters.host.identity import rename_host
from adapters.stores import Stores
from adapters.stores.recovery_writes import ResolveError, to_line
from adapters.stores.write_behind import Journal, waiting_writes
from core.storage.incidents import OWN_SYSTEM
from flows.agent.contact import keep_contact
from models.audit import SYSTEM
from models.failures import BadInputError
from models.hosts import HostIdentity
from models.recovery import TicketState
from models.settings import current_settings
from tasks.recovery.hosts import dismiss_host, report_hosts
from tasks.reporting.fleet import read_fleet
from tasks.runtime.hosts import report_contact, this_host
from tasks.runtime.moves import refuse_move, take_environment
from tasks.runtime.stores import open_stores
from tests.support.postgresql_server import PostgresqlForTests, postgresql

ALPHA, GAMMA = HostIdentity(host_id="h-a", name="alpha"), HostIdentity(host_id="h-g", name="gamma")


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
    assert stores.errors.list_unresolved(OWN_SYSTEM) == []
    assert report_hosts() == []


def test_a_host_that_is_dismissed_has_its_tickets_resolved(stores: Stores) -> None:
    contact_of_alpha(stores)
    change(stores, "clock_skew_seconds = 600, last_contact = last_contact - interval '61 seconds'")
    assert len(report_hosts()) == 2

    assert dismiss_host("alpha", "ada", SYSTEM).host_id == "h-a"

    assert stores.errors.list_unresolved(OWN_SYSTEM) == []
    assert {one.state for one in stores.tickets.find(environment=OWN_SYSTEM)} == {TicketState.RESOLVED}
    assert report_hosts() == []


def test_a_host_that_was_back_unseen_and_is_silent_again_has_a_new_since_in_its_ticket(stores: Stores) -> None:
    contact_of_alpha(stores)
    change(stores, "last_contact = last_contact - interval '1 hour'")
    [first] = report_hosts()

    contact_of_alpha(stores)
    change(stores, "last_contact = last_contact - interval '61 seconds'")
    assert [(one.ended, one.since == first.since) for one in report_hosts()] == [(True, True), (False, False)]
    assert report_hosts() == []

    [alpha] = [one for one in stores.hosts.all() if one.host_id == "h-a"]
    assert alpha.silent_since == alpha.last_contact
    [ticket] = stores.tickets.find(environment=OWN_SYSTEM)
    assert (ticket.state, ticket.since) == (TicketState.OPEN, alpha.last_contact)
    assert f"silent since {alpha.last_contact:%Y-%m-%d %H:%M:%S} UTC" in ticket.title
    [error] = stores.errors.list_unresolved(OWN_SYSTEM)
    assert error.text == ticket.title


async def test_after_an_outage_of_the_stores_no_host_is_silent_before_all_could_report(
    stores: Stores, server: PostgresqlForTests, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Alpha is well, and reports once more only after the others are back; gamma died in the outage."""
    monkeypatch.setattr("flows.agent.contact.CONTACT_EVERY", timedelta(milliseconds=50))
    monkeypatch.setattr("models.hosts.SILENT_AFTER", timedelta(seconds=5))
    database = str(sa.make_url(current_settings().stores_url or "").database)
    outage = "UPDATE deployment_logs.hosts SET last_contact = last_contact - interval '90 seconds'"
    here = this_host().host_id
    contact_of_alpha(stores)
    stores.hosts.report(GAMMA, version="1", engine="", backlog=0)

    async def until(done: Callable[[], bool]) -> None:
        async with asyncio.timeout(30):
            while not await asyncio.to_thread(done):  # noqa: ASYNC110 - the stores send no event
                await asyncio.sleep(0.02)

    def is_back() -> bool:
        found = stores.hosts.find(here)
        return found is not None and found.is_in_contact(stores.hosts.now())

    def silent() -> list[str]:
        return [one.name for one in stores.hosts.all() if one.silent_since is not None]

    # Several watchers ask in turn: those of this host and of others, each as a loop of its own.
    watching = [asyncio.create_task(keep_contact(lambda: 0)) for _ in range(3)]
    try:
        await until(is_back)
        server.control("stop", "-m", "immediate")
        await until(lambda: caplog.text.count("no contact with the stores") == len(watching))
        server.control("start")
        server.run(outage, database)
        await until(is_back)
        assert silent() == []
        contact_of_alpha(stores)
        await until(lambda: silent() != [])
        assert silent() == ["gamma"]
    finally:
        for one in watching:
            one.cancel()
        await asyncio.gather(*watching, return_exceptions=True)


def seconds_fly(monkeypatch: pytest.MonkeyPatch, *, silent_after: float) -> None:
    monkeypatch.setattr("models.hosts.SILENT_AFTER", timedelta(seconds=silent_after))
    monkeypatch.setattr("tasks.runtime.moves._ASKED_EVERY_SECONDS", 0.02)


def test_after_an_outage_of_the_stores_no_environment_is_taken_from_a_host_that_is_well(
    stores: Stores, server: PostgresqlForTests, monkeypatch: pytest.MonkeyPatch
) -> None:
    seconds_fly(monkeypatch, silent_after=5)
    database = str(sa.make_url(current_settings().stores_url or "").database)
    contact_of_alpha(stores)
    stores.hosts.bind("shop", ALPHA)
    server.control("stop", "-m", "immediate")
    server.control("start")
    server.run("UPDATE deployment_logs.hosts SET last_contact = last_contact - interval '90 seconds'", database)

    there = refuse_move("shop")
    assert there is not None, "it looks silent, as every host does now"
    late = threading.Timer(0.5, contact_of_alpha, [stores])
    late.start()
    with pytest.raises(BadInputError, match="which is in contact"):
        take_environment("shop", there, SYSTEM)
    late.join()
    assert stores.hosts.owner("shop") == "h-a"


def test_an_environment_of_a_host_that_stays_silent_is_taken_and_of_one_that_was_dismissed_at_once(
    stores: Stores, monkeypatch: pytest.MonkeyPatch
) -> None:
    seconds_fly(monkeypatch, silent_after=1)
    contact_of_alpha(stores)
    for name in ("shop", "cafe"):
        stores.hosts.bind(name, ALPHA)
    change(stores, "last_contact = last_contact - interval '1 hour'")
    began = stores.hosts.now()
    assert "no more to alpha" in take_environment("shop", refuse_move("shop"), SYSTEM)
    assert stores.hosts.now() - began >= timedelta(seconds=1)

    dismiss_host("alpha", "ann", SYSTEM)
    monkeypatch.setattr("tasks.runtime.moves._see_silent", lambda _: pytest.fail("no contact is expected of it"))
    assert "no more to alpha" in take_environment("cafe", refuse_move("cafe"), SYSTEM)


def test_a_host_that_is_silent_again_is_reported_again(stores: Stores) -> None:
    for _ in range(2):
        contact_of_alpha(stores)
        report_hosts()
        change(stores, "last_contact = last_contact - interval '61 seconds'")
        assert [one.ended for one in report_hosts()] == [False]
    assert len(stores.errors.list_unresolved(OWN_SYSTEM)) == 1


def test_a_wrong_clock_is_an_incident_of_its_own_beside_the_silence(stores: Stores) -> None:
    contact_of_alpha(stores)
    change(stores, "clock_skew_seconds = 600, last_contact = last_contact - interval '61 seconds'")

    report_hosts()

    titles = sorted(one.title for one in stores.tickets.find(environment=OWN_SYSTEM))
    assert titles[0].startswith("Host alpha (h-a) is silent since ")
    assert titles[1] == "The clock of host alpha (h-a) is 600 s ahead of the database's"
    contact_of_alpha(stores)
    assert [one.ended for one in report_hosts()] == [True, True]
    assert stores.errors.list_unresolved(OWN_SYSTEM) == []


def test_the_fleet_shows_hosts_and_environments(stores: Stores) -> None:
    contact_of_alpha(stores)
    report_contact(engine="unix:///run/docker.sock", backlog=3)
    stores.hosts.bind("shop", ALPHA)

    fleet = read_fleet()

    assert [(one.name, one.backlog) for one in fleet.hosts] == [("alpha", 0), ("beta", 3)]
    assert fleet.this_host == this_host().host_id
    assert [(one.environment, one.host_id, one.health) for one in fleet.environments] == [("shop", "h-a", "")]
    assert not any(fleet.silent(one) or fleet.has_skewed_clock(one) for one in fleet.hosts)


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
