"""The audit log finds whatever was changed, removed or inserted in the record by other means than the program's own."""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
import sqlalchemy as sa

from adapters.host.processes import this_user
from adapters.stores import Stores
from adapters.stores.archives import archives, owners_first, restore_archive
from adapters.stores.audit_check import verify
from adapters.stores.backup import backup, restore
from adapters.stores.lifecycle.steps import archive_deployments, clean_errors
from adapters.stores.migrate import upgrade
from models.operations import OperationStatus, Runner
from models.operations.record import OperationRecord
from models.recovery import Choice, TicketEntry
from models.settings import Settings
from models.storage import RetentionPolicy
from tests.integration.stores.values import ANN, NOON, TICKET, operation, record_some
from tests.support.forked import OWN
from tests.support.killing import live_until

DAY = timedelta(days=1)


def findings(stores: Stores, *expected: str) -> list[str]:
    return [str(finding) for report in verify(stores, expected) for finding in report.findings]


def heads(stores: Stores) -> list[str]:
    return [report.head for report in verify(stores)]


@pytest.fixture
def finished(stores: Stores) -> Iterator[Stores]:
    record_some(stores)
    assert findings(stores) == []
    return stores


def attack(stores: Stores, store: str, statement: str) -> None:
    """As somebody would who can write to the database: past the program."""
    with stores.databases[store].write() as connection:
        assert connection.execute(sa.text(statement)).rowcount > 0


OPERATION = "deployment_logs: operation prod-1: the row was changed: "
ATTACKS = {
    "a failure made a success": (
        "deployment_logs",
        "UPDATE deployment_operations SET status = 'success' WHERE deployment_id = 'prod-1'",
        [f"{OPERATION}status is 'success', recorded was 'failed' (entry 4)"],
    ),
    "another name put in the place of who asked": (
        "deployment_logs",
        (
            "UPDATE deployment_operations SET user_agent = 'person: bob', asked_uid = 1002, asked_user = 'bob' "
            "WHERE deployment_id = 'prod-1'"
        ),
        [
            (
                f"{OPERATION}user_agent is 'person: bob', recorded was 'person: ann'; asked_uid is 1002, "
                "recorded was 1000; asked_user is 'bob', recorded was 'ann' (entry 4)"
            )
        ],
    ),
    "a reason changed": (
        "deployment_logs",
        "UPDATE deployment_operations SET metadata = replace(metadata, 'did not', 'did') WHERE deployment_id='prod-1'",
        [f"{OPERATION}metadata (entry 4)"],
    ),
    "an operation removed": (
        "deployment_logs",
        "DELETE FROM deployment_operations WHERE deployment_id = 'prod-1'",
        ["deployment_logs: operation prod-1: the row was removed; it was failed (entry 4)"],
    ),
    "an operation made up": (
        "deployment_logs",
        (
            "INSERT INTO deployment_operations (deployment_id, operation_type, environment, status) "
            "VALUES ('prod-3', 'start', 'prod', 'success')"
        ),
        ["deployment_logs: operation prod-3: the row was inserted: no entry records it"],
    ),
    "an entry removed": (
        "deployment_logs",
        "DELETE FROM audit_log WHERE seq = 3",
        ["deployment_logs: audit_log: entry 3 was removed before entry 4 (ended prod-1)"],
    ),
    "the beginning removed": (
        "deployment_logs",
        "DELETE FROM audit_log WHERE seq <= 3",
        ["deployment_logs: audit_log: its beginning was removed: it starts with entry 4 (ended prod-1)"],
    ),
    "an entry changed": (
        "deployment_logs",
        "UPDATE audit_log SET asked_user = 'bob' WHERE seq = 2",
        ["deployment_logs: audit_log: entry 2 (begun prod-1) was changed: its hash is not that of what it says"],
    ),
    "a ticket's answer changed": (
        "errors",
        "UPDATE ticket_history SET what = 'retry: it is old' WHERE what LIKE 'skip%'",
        [
            (
                "errors: line of a ticket's history 2: the row was changed: what is 'retry: it is old', "
                "recorded was 'skip: it is old' (entry 3)"
            )
        ],
    ),
    "who answered a ticket changed": (
        "errors",
        "UPDATE ticket_history SET asked_uid = NULL WHERE what LIKE 'skip%'",
        ["errors: line of a ticket's history 2: the row was changed: asked_uid is None, recorded was 1000 (entry 3)"],
    ),
    "a ticket opened again": (
        "errors",
        "UPDATE manual_intervention_tickets SET state = 'open'",
        ["errors: ticket t1: the row was changed: state is 'open', recorded was 'acknowledged' (entry 3)"],
    ),
    "a pause removed": (
        "errors",
        "DELETE FROM recovery_controls",
        ["errors: pause or lock of prod/: the row was removed (entry 4)"],
    ),
}


@pytest.mark.parametrize("name", ATTACKS)
def test_what_was_changed_past_the_program_is_found_and_named(finished: Stores, name: str) -> None:
    store, statement, expected = ATTACKS[name]
    attack(finished, store, statement)
    assert findings(finished) == expected


def test_entries_in_another_order_are_found(finished: Stores) -> None:
    for was, becomes in ((2, 99), (3, 2), (99, 3)):
        attack(finished, "deployment_logs", f"UPDATE audit_log SET seq = {becomes} WHERE seq = {was}")
    found = findings(finished)
    assert any("entry 2 (noted prod-1) does not follow the one before it" in one for one in found)
    assert any("entry 2 (noted prod-1) was changed" in one for one in found)


def test_a_log_that_was_emptied_is_found(finished: Stores) -> None:
    attack(finished, "errors", "DELETE FROM audit_log")
    assert findings(finished) == ["errors: audit_log: it is empty: every entry was removed"]


def test_a_tail_that_was_cut_off_with_its_rows_is_found_by_a_noted_hash_alone(finished: Stores) -> None:
    noted = heads(finished)
    assert findings(finished, *noted) == []
    attack(finished, "deployment_logs", "DELETE FROM deployment_operations WHERE deployment_id = 'prod-2'")
    attack(finished, "deployment_logs", "DELETE FROM audit_log WHERE subject = 'prod-2'")
    assert findings(finished) == []
    [found] = findings(finished, *noted)
    assert found.startswith(f"audit_log: hash {noted[0]}: no entry has this hash")


def test_a_noted_hash_still_holds_after_more_was_recorded(finished: Stores) -> None:
    noted = heads(finished)
    finished.operations.begin(operation("prod-3"))
    assert findings(finished, *noted) == []
    assert heads(finished) != noted


def test_each_change_of_an_operation_by_the_program_is_followed(finished: Stores) -> None:
    runner = Runner(host="alpha", kernel="k", pid=1, process_started=1)
    finished.operations.begin(operation("prod-3", status=OperationStatus.PENDING))
    assert finished.operations.mark_running("prod-3")
    finished.operations.finish("prod-3", OperationStatus.FAILED, NOON, OperationRecord(interrupted="at step 2"))
    assert finished.operations.resume("prod-3", runner, NOON, "person: ann", ANN)
    finished.operations.finish("prod-3", OperationStatus.SUCCESS, NOON)
    # Again, as a caller does that does not know whether the first time went in.
    finished.operations.begin(operation("prod-3"))
    finished.operations.finish("prod-3", OperationStatus.FAILED, NOON)
    assert findings(finished) == []
    assert finished.operations.get("prod-3").actor == ANN


def test_each_change_of_a_ticket_by_the_program_is_followed(finished: Stores) -> None:
    by = TicketEntry(at=NOON, by="roas", what="recovered automatically")
    finished.tickets.resolve_for_error("e1", by)
    finished.tickets.open(replace(TICKET, ticket_id="t2"))
    finished.tickets.set_waiting_run("t1", "run-1")
    finished.tickets.audit_answer("t1", Choice.RETRY, "run-1", ANN)
    finished.tickets.answer(TICKET, Choice.RESOLVED, by)
    assert finished.pauses.resume("prod", None, ANN)
    with finished.together() as stores:
        stores.tickets.open(TICKET)
        stores.operations.begin(operation("prod-3"))
    assert findings(finished) == []
    [line] = [line for line in finished.tickets.get("t1").history if line.what == "skip: it is old"]
    assert line.actor == ANN


def test_what_leaves_for_an_archive_is_not_taken_for_removed(finished: Stores, settings: Settings) -> None:
    noted, policy = heads(finished), RetentionPolicy(errors=DAY, deployments=DAY, failed_deployments=DAY)
    finished.tickets.resolve_for_error("e1", TicketEntry(at=NOON, by="roas", what="over"))
    finished.errors.resolve("e1", NOON, "over")
    assert archive_deployments(finished, NOON + 10 * DAY, policy).rows["deployment_operations"] == 2
    assert clean_errors(finished, NOON + 10 * DAY, policy).rows["ticket_history"] == 3
    reports = verify(finished, noted)
    assert [report.findings for report in reports] == [(), ()]
    assert [report.archives for report in reports] == [1, 2]
    for one in owners_first(archives(finished)):
        restore_archive(finished, one)
    assert findings(finished, *noted) == []


def test_what_left_may_not_come_back_otherwise_and_its_archive_may_not_change(
    finished: Stores, settings: Settings
) -> None:
    policy = RetentionPolicy(errors=DAY, deployments=DAY, failed_deployments=DAY)
    archive_deployments(finished, NOON + 10 * DAY, policy)
    finished.operations.begin(operation("prod-9"))
    attack(finished, "deployment_logs", "UPDATE deployment_operations SET deployment_id = 'prod-1'")
    [archive] = settings.data_dir.glob("archive/deployment_logs/deployment_operations/*.parquet")
    with archive.open("ab") as file:
        file.write(b"x")
    assert findings(finished) == [
        "deployment_logs: operation prod-1: the row is there again, after it had left the store (entry 8)",
        "deployment_logs: operation prod-9: the row was removed; it was running (entry 9)",
        (
            f"deployment_logs: archive {'/'.join(archive.parts[-3:])}: the file is not the one that rows left into "
            "(entry 8)"
        ),
    ]
    archive.unlink()
    assert verify(finished)[0].missing_archives == ("/".join(archive.parts[-3:]),)


@pytest.mark.usefixtures("made")
def test_rows_that_were_there_before_the_log_are_covered(settings: Settings) -> None:
    with Stores.open(settings) as stores:
        record_some(stores)
        for store, revision in (("deployment_logs", "0004"), ("errors", "0005")):
            _take_the_log_away(stores, store, revision)
        with stores.databases["deployment_logs"].write() as connection:
            upgrade(connection, "deployment_logs")
        with stores.databases["errors"].write() as connection:
            upgrade(connection, "errors")
    with Stores.open(settings) as stores:
        assert findings(stores) == []
        stores.operations.note("prod-2", OperationRecord(advice="told"))
        assert findings(stores) == []
        attack(stores, "deployment_logs", "UPDATE deployment_operations SET status = 'success'")
        assert findings(stores) == [
            "deployment_logs: operation prod-1: the row was changed; its columns were recorded as one digest (entry 2)",
            (
                "deployment_logs: operation prod-2: the row was changed: status is 'success', recorded was 'failed' "
                "(entry 3)"
            ),
        ]


def _take_the_log_away(stores: Stores, store: str, revision: str) -> None:
    tables = {"deployment_logs": ["deployment_operations"], "errors": ["ticket_history", "recovery_controls"]}
    with stores.databases[store].write() as connection:
        connection.exec_driver_sql("DROP TABLE audit_log")
        for table in tables[store]:
            for column in ("asked_uid", "asked_user", "login_uid", "claimed_by"):
                connection.exec_driver_sql(f"ALTER TABLE {table} DROP COLUMN {column}")
        connection.exec_driver_sql(f"UPDATE alembic_version SET version_num = '{revision}'")


def begin_many(settings: Settings, name: str, count: int) -> None:
    with Stores.open(settings) as stores:
        for place in range(count):
            stores.operations.begin(operation(f"{name}-{place}"))
            stores.pauses.pause("prod", f"{name}-{place}", None, "r", name, NOON, ANN)
            with stores.together() as inside:
                inside.operations.finish(f"{name}-{place}", OperationStatus.SUCCESS, NOON)
                inside.pauses.resume("prod", f"{name}-{place}", ANN)


def test_writers_in_several_processes_keep_one_chain(stores: Stores, settings: Settings) -> None:
    writers = [OWN.Process(target=begin_many, args=(settings, f"w{number}", 10)) for number in range(4)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
        assert writer.exitcode == 0
    reports = verify(stores)
    assert [report.findings for report in reports] == [(), ()]
    assert [report.entries for report in reports] == [1 + 4 * 10 * 2, 1 + 4 * 10 * 2]


def test_a_writer_killed_anywhere_leaves_a_chain_that_holds(stores: Stores, settings: Settings) -> None:
    for tries in range(12):
        live_until(60 + 17 * tries, lambda tries=tries: begin_many(settings, f"k{tries}", 5))
        # What a dead writer left of a transaction over several stores is finished by the next one.
        stores.operations.begin(operation(f"after-{tries}"))
        with stores.together():
            pass
        assert findings(stores) == []


@pytest.mark.files
@pytest.mark.usefixtures("made")
def test_a_backup_that_is_restored_keeps_its_chain_and_says_so(settings: Settings, tmp_path: Path) -> None:
    with Stores.open(settings) as stores:
        record_some(stores)
        noted = heads(stores)
        backup(stores, tmp_path / "backup", NOON)
        manifest = json.loads((tmp_path / "backup" / "manifest.json").read_text())
        assert [manifest["stores"][name]["audit_head"] for name in ("deployment_logs", "errors")] == noted
        stores.operations.begin(operation("prod-3"))
        later = heads(stores)
    restore(settings, tmp_path / "backup")
    with Stores.open(settings) as stores:
        assert findings(stores, *noted) == []
        [lost] = findings(stores, *later)
        assert lost.startswith(f"audit_log: hash {later[0]}: no entry has this hash")
        assert "says that a backup was restored" in lost
        query = "SELECT asked_uid, content FROM audit_log WHERE kind = 'restored'"
        with closing(sqlite3.connect(settings.store_path("deployment_logs"))) as file:
            [(uid, content)] = file.execute(query).fetchall()
        assert uid == os.getuid()
        assert json.loads(content)["replaced_head"] == later[0]


def test_a_claim_stands_beside_the_user_that_the_kernel_knows() -> None:
    actor = this_user({"LOGNAME": "nobody-real\x1b[31m\n" + "x" * 500, "SUDO_UID": "1000", "SUDO_USER": "ann"})
    assert (actor.uid, actor.user) == (os.getuid(), this_user({}).user)
    assert actor.claimed.startswith("nobody-real\N{REPLACEMENT CHARACTER}[31m\N{REPLACEMENT CHARACTER}xx")
    assert len(actor.claimed) == 100
    assert this_user({"LOGNAME": "\udcff"}).claimed == "\N{REPLACEMENT CHARACTER}"


def test_content_that_cannot_be_read_is_a_finding_and_no_failure(finished: Stores) -> None:
    attack(finished, "deployment_logs", "UPDATE audit_log SET content = '[' WHERE seq = 3")
    assert any("the entry's content cannot be read" in one for one in findings(finished))
