"""Shipping through kills, restores, copies and attacks, over real connections to the guard of a control plane."""

from __future__ import annotations

import gzip
import logging
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import count, pairwise
from pathlib import Path
from typing import Any

import httpx
import pytest
import sqlalchemy as sa
import uvicorn

from adapters.server.host_keys import HostKeys
from adapters.server.journal import Journal, NotTakenError
from adapters.stores import Stores
from adapters.stores.ingest import Ingest
from adapters.stores.outbox import Outbox
from core.storage.audit import entry_hash
from core.storage.incidents import OWN_SYSTEM
from core.storage.shipping import SHIPPED
from flows.agent.shipping import Shipper
from flows.fleet import journals
from flows.fleet.host_guard import HostGuard
from flows.fleet.stores_of_hosts import StoresOfHosts
from models.audit import AuditEntry
from models.enrolment import Membership
from models.operations import OperationStatus
from models.settings import Settings
from models.shipping import Batch, Part
from tests.integration.stores.test_shipping import batch, centre, fill, host, ingest, rows, ship
from tests.integration.stores.values import NOON, operation
from tests.support.killing import live_until
from tests.support.ports import free_port
from tests.support.postgresql_server import PostgresqlForTests

__all__ = ["centre", "host", "ingest"]  # fixtures

_JSON = {"content-type": "application/json", "content-encoding": "gzip"}


async def _nothing_behind(*_: Any) -> None:
    raise AssertionError("the request was passed on")


@contextmanager
def _served(guard: HostGuard) -> Iterator[str]:
    running = uvicorn.Server(uvicorn.Config(guard, port=(port := free_port()), log_level="error", lifespan="off"))
    thread = threading.Thread(target=running.run)
    thread.start()
    while not running.started:
        time.sleep(0.01)
    yield f"http://127.0.0.1:{port}"
    running.should_exit = True
    thread.join()


@pytest.fixture
def centre_url(server: PostgresqlForTests) -> Iterator[str]:
    with server.database() as url:
        yield url


@pytest.fixture
def plane(centre_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Membership]:
    """A host's place at a control plane that is reached over a socket."""
    monkeypatch.setenv("ROAS_STORES_URL", centre_url)
    monkeypatch.setenv("ROAS_DATA_DIR", str(tmp_path / "plane"))
    keys, now = HostKeys(tmp_path / "plane"), datetime.now(UTC)
    made = keys.enrol(keys.invite("alpha", now, timedelta(days=1)).token, "host-a", now)
    assert made is not None
    known, key = made
    with _served(HostGuard(_nothing_behind, keys, "admin:password", StoresOfHosts())) as address:
        yield Membership(server=address, name=known.name, pool=known.pool, key=key)


@pytest.fixture
def there(plane: Membership, centre_url: str, tmp_path: Path) -> Iterator[Stores]:
    with Stores.open(Settings(data_dir=tmp_path / "reading", stores_url=centre_url)) as stores:
        yield stores


@pytest.fixture
def folder(made_files: Path, tmp_path: Path) -> Path:
    shutil.copytree(made_files, tmp_path / "own")
    return tmp_path / "own"


@contextmanager
def _agent(folder: Path, member: Membership) -> Iterator[tuple[Stores, Shipper]]:
    with Stores.open(Settings(data_dir=folder, stores_url=None)) as stores:
        outbox, journal = Outbox(stores), Journal(member)
        yield stores, Shipper(outbox, journal)
        journal.close()


def test_an_agent_that_is_killed_at_any_statement_ships_everything_once(
    folder: Path, plane: Membership, there: Stores
) -> None:
    with _agent(folder, plane) as (stores, _):
        fill(stores)

    def live() -> None:
        with _agent(folder, plane) as (_, shipper):
            while shipper.ship_once():
                pass

    for statement in count(0, 3):
        with Stores.open(Settings(data_dir=folder, stores_url=None)) as stores:
            stores.operations.begin(operation(name := f"killed-{statement}"))
            stores.operations.finish(name, OperationStatus.SUCCESS, NOON)
        if live_until(statement, live):
            break
    assert statement > 12
    with _agent(folder, plane) as (stores, shipper):
        assert shipper.outbox.take(1) is None
        for store, tables in SHIPPED.items():
            for table in tables:
                if table not in ("metric_samples", "metric_hours", "metric_days"):
                    assert rows(there, store, table) == rows(stores, store, table), table


def test_an_answer_that_is_lost_is_asked_for_again(folder: Path, plane: Membership, there: Stores) -> None:
    with _agent(folder, plane) as (stores, shipper):
        stores.operations.begin(operation("prod-1"))
        shipper.ship_once()
        stores.operations.finish("prod-1", OperationStatus.SUCCESS, NOON)
        # What it sends next has the number that the control plane knows as the last.
        replace(shipper, number=shipper.number - 1).ship_once()
        assert there.operations.get("prod-1").status is OperationStatus.SUCCESS
        stores.operations.begin(operation("prod-2"))
        taken = shipper.outbox.take(100)
        assert taken is not None
        shipper.journal.send(batch(9, *taken.parts))
        replace(shipper, number=0).ship_once()
        assert rows(there, "deployment_logs", "deployment_operations") == rows(
            stores, "deployment_logs", "deployment_operations"
        )


@pytest.mark.parametrize(
    ("body", "headers", "status", "said"),
    [
        (gzip.compress(b" " * (200 << 20), 9), _JSON, 413, "A batch has at most 33,554,432 bytes before it is compr"),
        (b"\0" * (17 << 20), _JSON, 413, "A request of a host has at most 16,777,216 bytes."),
        (b"{}", {"content-type": "application/json"}, 415, "A batch is application/json, compressed with gzip."),
        (gzip.compress(b"{}"), {**_JSON, "content-type": "text/plain"}, 415, "A batch is application/json, compressed"),
        (b"{}", _JSON, 400, "This is no batch of a host."),
        (gzip.compress(b"{}" * 999)[:-9], _JSON, 400, "This is no batch of a host."),
        (gzip.compress(b'{"number": 1'), _JSON, 400, "This is no batch of a host."),
        (gzip.compress(b"[" * 200_000), _JSON, 400, "This is no batch of a host."),
        (gzip.compress(b'{"number": "\xff"}'), _JSON, 400, "This is no batch of a host."),
    ],
    ids=["bomb", "large", "plain", "text", "no gzip", "cut off", "damaged", "deep", "no UTF-8"],
)
def test_what_is_no_batch_is_refused_in_one_line(
    plane: Membership, body: bytes, headers: dict[str, str], status: int, said: str, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING, "roas"):
        answer = httpx.post(
            f"{plane.server}/roas/journal", content=body, headers=headers, auth=(plane.pool, plane.key), timeout=60
        )
    assert (answer.status_code, answer.json()["detail"][: len(said)]) == (status, said)
    assert all(record.getMessage().isprintable() and record.exc_info is None for record in caplog.records)


def test_a_host_notes_nothing_for_a_control_plane_that_takes_nothing(
    folder: Path, plane: Membership, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("ROAS_STORES_URL")
    with _agent(folder, plane) as (stores, shipper):
        with pytest.raises(NotTakenError, match="hosts ship to PostgreSQL alone"):
            shipper.ship_once()
        assert shipper.outbox.thin(0) == 0
        stores.operations.begin(operation("prod-1"))
        with stores.databases["deployment_logs"].read() as connection:
            assert not connection.exec_driver_sql("SELECT 1 FROM sqlite_master WHERE name LIKE 'outbox%'").all()


def test_without_a_credential_nothing_is_taken(plane: Membership) -> None:
    with pytest.raises(NotTakenError, match="does not work"):
        Journal(plane.model_copy(update={"key": "other"})).send(batch(1))


def test_a_batch_that_is_too_large_is_sent_in_smaller_ones(
    folder: Path, plane: Membership, there: Stores, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journals, "MOST_BYTES", 12_000)
    with _agent(folder, plane) as (stores, shipper):
        for n in range(40):
            stores.operations.begin(operation(f"prod-{n}"))
            stores.operations.finish(f"prod-{n}", OperationStatus.SUCCESS, NOON)
        for _ in range(200):
            try:
                more = shipper.ship_once()
            except NotTakenError as error:
                assert error.is_too_large  # noqa: PT017 - it may also be taken
                more = True
            if not more:
                break
        assert len(there.operations.latest_recorded("prod", 100)) == 40
        assert shipper.outbox.take(1) is None


def test_a_control_plane_that_is_behind_says_when_to_come_again(
    plane: Membership, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journals, "_WAIT_AT_MOST", 0)
    with pytest.raises(NotTakenError, match="The control plane is behind") as refused:
        Journal(plane).send(batch(1))
    assert refused.value.again_seconds == 3


def test_one_host_takes_one_turn_however_often_it_sends(plane: Membership, there: Stores) -> None:
    Journal(plane).send(batch(1))
    with there.databases["deployment_logs"].write() as connection, ThreadPoolExecutor(1) as other:
        connection.exec_driver_sql("SELECT 1 FROM host_streams FOR UPDATE")
        first = other.submit(Journal(plane).send, batch(2))
        said = ""
        while "is not applied yet" not in said:
            # Where it came before the other, it waits for the lock, and the other is told so.
            if first.done():
                said = str(first.exception())
                break
            said = _said(plane)
        connection.rollback()
    assert "is not applied yet" in said


def _said(plane: Membership) -> str:
    body = gzip.compress(batch(3).model_dump_json().encode())
    try:
        url, auth = f"{plane.server}/roas/journal", (plane.pool, plane.key)
        return httpx.post(url, content=body, headers=_JSON, auth=auth, timeout=2).text
    except httpx.TimeoutException:
        return ""


@pytest.mark.parametrize("minutes", [-10, 10])
def test_a_wrong_clock_is_measured_and_changes_no_record(
    minutes: int, host: Stores, centre: Stores, ingest: Ingest
) -> None:
    fill(host)
    wrong = batch(1).model_copy(update={"sent_at": datetime.now(UTC) + timedelta(minutes=minutes)})
    receipt = ingest.apply("host-a", wrong)
    assert receipt.behind_seconds == pytest.approx(-60 * minutes, abs=10)
    ship(host, ingest, 2)
    assert rows(centre, "errors", "deployment_errors") == rows(host, "errors", "deployment_errors")


def test_a_host_restored_from_a_backup_is_named_and_takes_nothing_away(
    folder: Path, plane: Membership, there: Stores, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with _agent(folder, plane) as (stores, shipper):
        fill(stores)
        shipper.ship_once()
    shutil.copytree(folder, tmp_path / "backup")
    with _agent(folder, plane) as (stores, shipper):
        stores.operations.begin(operation("lost-1"))
        shipper.ship_once()
    shutil.rmtree(folder)
    shutil.copytree(tmp_path / "backup", folder)
    before = _audit(there)
    with _agent(folder, plane) as (stores, shipper), caplog.at_level(logging.WARNING, "flows.agent.shipping"):
        stores.operations.begin(operation("after-1"))
        shipper.ship_once()
        said = [record.getMessage() for record in caplog.records if "control plane says" in record.getMessage()]
        assert len(said) == 1
        assert "is another one than was sent before; both are kept. The store was restored from a backup" in said[0]
        stores.operations.finish("after-1", OperationStatus.SUCCESS, NOON)
        taken = shipper.outbox.take(100)
        assert taken is not None
        assert shipper.journal.send(batch(50, *taken.parts)).refused == []
    recorded = {one.deployment_id for one in there.operations.latest_recorded("prod", 100)}
    assert recorded >= {"lost-1", "after-1"}
    assert before < _audit(there)


def test_an_audit_log_that_was_forged_whole_is_kept_beside_the_one_that_was_sent(
    host: Stores, centre: Stores, ingest: Ingest
) -> None:
    fill(host)
    ship(host, ingest)
    before = _audit(centre)
    with host.databases["errors"].read() as connection:
        found = connection.exec_driver_sql("SELECT * FROM audit_log ORDER BY seq").mappings().all()
    names = AuditEntry.__dataclass_fields__
    entries = [AuditEntry(**{name: row[name] for name in names}) for row in found]
    forged = [replace(entries[1], subject="another")]
    for _, entry in pairwise(entries[1:]):
        forged[-1] = replace(forged[-1], hash=entry_hash(forged[-1]))
        forged.append(replace(entry, previous_hash=forged[-1].hash))
    forged[-1] = replace(forged[-1], hash=entry_hash(forged[-1]))
    part = Part(store="errors", table="audit_log", rows=[{n: getattr(one, n) for n in names} for one in forged])
    (refusal,) = ingest.apply("host-a", batch(2, part)).refused
    assert refusal.why.startswith("entry 2 is another one than was sent before; both are kept.")
    assert _audit(centre) > before
    late = Part(store="errors", table="audit_log", rows=[{**part.rows[-1], "seq": 999}])
    (refusal,) = ingest.apply("host-a", batch(3, late)).refused
    assert refusal.why == "entry 999 does not follow an entry that was sent before"


def _audit(stores: Stores) -> set[tuple[str, int, str, str]]:
    query = sa.text("SELECT store, seq, hash, entry::text FROM deployment_logs.host_audit")
    with stores.databases["deployment_logs"].read() as connection:
        return {(row[0], row[1], row[2], row[3]) for row in connection.execute(query)}


def test_two_machines_with_one_identity_are_named_and_both_are_kept(
    folder: Path, plane: Membership, there: Stores, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    shutil.copytree(folder, tmp_path / "copy")
    with (
        _agent(folder, plane) as (one, of_one),
        _agent(tmp_path / "copy", plane) as (two, of_two),
        caplog.at_level(logging.WARNING, "roas"),
    ):
        for turn in range(3):
            one.operations.begin(operation(f"one-{turn}"))
            of_one.ship_once()
            two.operations.begin(operation(f"two-{turn}"))
            of_two.ship_once()
    assert len(there.operations.latest_recorded("prod", 100)) == 6
    assert any("another machine ships as this host" in record.getMessage() for record in caplog.records)


_ENDED = ("metric_samples", "metric_hours", "metric_days")
_CHANGES: dict[str, Callable[[dict[str, Any]], dict[str, Any]]] = {
    "as it stands": lambda row: row,
    "under an own name": lambda row: {**row, "environment": "mine"},
    "of the system": lambda row: {**row, "environment": OWN_SYSTEM},
    "with ids that are no text": lambda row: {
        name: [value] if name.endswith("_id") else value for name, value in {**row, "environment": "mine"}.items()
    },
    "of None": lambda row: {**row, "environment": None},
    "of a list": lambda row: {**row, "environment": [row.get("environment")]},
    "of no environment": lambda row: {name: value for name, value in row.items() if name != "environment"},
}


def test_sixty_attempts_on_rows_of_another_host_write_nothing(host: Stores, centre: Stores, ingest: Ingest) -> None:
    fill(host)
    ship(host, ingest)
    before = _everything(centre)
    outbox = Outbox(host)
    outbox.end()
    outbox.begin()
    taken = outbox.take(100_000)
    assert taken is not None
    attempts, refused = 0, 0
    for part in taken.parts:
        if part.table == "audit_log":
            continue
        for change in _CHANGES.values():
            attempts += 1
            changed = [change(row) for row in part.rows]
            attempt = Part(store=part.store, table=part.table, rows=changed, gone=changed)
            refused += len(ingest.apply("host-b", batch(attempts, attempt)).refused) > 0
            after = _everything(centre)
            for place, kept in before.items():
                assert set(kept) <= set(after[place]), place
                # What it writes under a name of its own is its own business.
                assert all("'mine'" in row or place[1] in _ENDED for row in set(after[place]) - set(kept)), place
    assert attempts >= 60
    assert refused >= attempts * 0.75
    with centre.databases["deployment_logs"].read() as connection:
        counted = connection.exec_driver_sql("SELECT refused FROM host_streams WHERE host_id = 'host-b'").scalar_one()
    assert counted >= refused


def test_a_number_that_postgresql_would_read_as_an_id_is_refused(host: Stores, centre: Stores, ingest: Ingest) -> None:
    host.operations.begin(operation("12345678"))
    ship(host, ingest)
    stolen = {"deployment_id": 12345678, "step": "s", "service": "", "status": "done"}
    (refusal,) = ingest.apply(
        "host-b", batch(1, Part(store="deployment_logs", table="operation_steps", rows=[stolen]))
    ).refused
    assert refusal.why == "a row of operation_steps has an id that is no text"
    assert rows(centre, "deployment_logs", "operation_steps") == []


def _everything(stores: Stores) -> dict[tuple[str, str], list[str]]:
    return {(store, table): [*map(repr, rows(stores, store, table))] for store in SHIPPED for table in SHIPPED[store]}


def test_a_host_that_left_notes_nothing_and_writes_as_before(host: Stores) -> None:
    outbox = Outbox(host)
    outbox.begin()
    outbox.end()
    outbox.end()
    host.operations.begin(operation("prod-1"))
    with host.databases["deployment_logs"].read() as connection:
        assert not connection.exec_driver_sql("SELECT 1 FROM sqlite_master WHERE name LIKE 'outbox%'").all()


def test_a_batch_of_a_newer_version_is_not_applied_in_part(ingest: Ingest) -> None:
    with pytest.raises(ValueError, match="unheard"):
        Batch.model_validate_json(batch(1).model_dump_json()[:-1] + ', "unheard": 1}')


def test_a_nul_in_an_audit_entry_keeps_nothing_from_being_taken(host: Stores, centre: Stores, ingest: Ingest) -> None:
    host.pauses.pause("prod", "web", None, "disk\0full", "ann", NOON)
    assert ship(host, ingest, 1).refused == []
    assert any("disk" in entry for *_, entry in _audit(centre))
