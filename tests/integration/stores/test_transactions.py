"""A transaction over the three stores happens in all of them or in none."""

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any
from unittest import mock

import pytest

from adapters.stores import Stores, Together
from adapters.stores.audit_check import verify
from adapters.stores.transactions import SqliteTransactions
from models.failures import StoreConstraintError
from models.health import RecordedScore
from models.operations import Operation, OperationStatus, OperationType
from models.settings import Settings
from tests.integration.stores.values import ERROR, TICKET
from tests.support.store_rows import all_or_none, put_score

NOON = datetime(2026, 7, 1, 12, tzinfo=UTC)


def failed_start(place: int):
    operation = Operation(
        deployment_id=f"prod-{place}",
        operation_type=OperationType.START,
        environment="prod",
        status=OperationStatus.FAILED,
        started_at=NOON,
    )
    score = RecordedScore(environment="prod", service=f"s{place}", score=0, grade="F", scored_at=NOON)
    return [
        lambda stores: stores.operations.begin(operation),
        lambda stores: stores.errors.record(replace(ERROR, error_id=f"e{place}")),
        lambda stores: put_score(stores, score),
    ]


def contents(stores: Stores | Together) -> tuple[int, int, int]:
    return (
        len(stores.operations.history(limit=10_000)),
        sum(error.count for error in stores.errors.latest(limit=10_000)),
        len(stores.health.scores("prod", limit=10_000)),
    )


def versions(stores: Stores) -> list[int]:
    found = []
    for database in stores.databases.values():
        with database.read() as connection:
            found.append(connection.exec_driver_sql("SELECT seq FROM cross_store_version").scalar_one())
    return found


def test_what_each_operation_returned_is_given_back(stores: Stores) -> None:
    [_, error, _] = all_or_none(stores, failed_start(1))
    assert error == replace(ERROR, error_id="e1")
    assert contents(stores) == (1, 1, 1)


def test_an_operation_that_fails_undoes_all(stores: Stores) -> None:
    with pytest.raises(StoreConstraintError, match="errors"):
        all_or_none(stores, [*failed_start(1), lambda inside: inside.tickets.open(replace(TICKET, error_id="none"))])
    assert contents(stores) == (0, 0, 0)
    all_or_none(stores, failed_start(2))
    assert contents(stores) == (1, 1, 1)


def test_inside_a_transaction_its_own_writes_are_seen(stores: Stores) -> None:
    with stores.together() as inside:
        for operation in failed_start(1):
            operation(inside)
        assert contents(inside) == (1, 1, 1)
        assert contents(stores) == (0, 0, 0)
    assert contents(stores) == (1, 1, 1)


@pytest.mark.files
def test_every_store_knows_the_last_transaction(stores: Stores) -> None:
    for place in range(3):
        all_or_none(stores, failed_start(place))
    assert versions(stores) == [3, 3, 3]


@pytest.mark.files
def test_intents_go_once_the_followers_are_safe(stores: Stores) -> None:
    for place in range(130):
        all_or_none(stores, failed_start(place))
    with stores.databases["deployment_logs"].read() as connection:
        assert connection.exec_driver_sql("SELECT count(*) FROM cross_store_intents").scalar_one() == 3
    assert versions(stores) == [130, 130, 130]


def forget_in_followers(stores: Stores) -> None:
    """As if the writer had died after the first store's commit."""
    for name, statement in (
        ("errors", "DELETE FROM deployment_errors WHERE error_id = 'e2'"),
        ("monitoring", "DELETE FROM service_health_scores WHERE service = 's2'"),
    ):
        with stores.databases[name].write() as connection:
            connection.exec_driver_sql(statement)
            connection.exec_driver_sql("UPDATE cross_store_version SET seq = 1")


def two_causes(stores: Stores) -> None:
    all_or_none(stores, failed_start(1))
    stores.errors.resolve("e1", NOON, "done")
    all_or_none(stores, failed_start(2))


@pytest.mark.files
def test_opening_finishes_what_a_dead_writer_left(settings: Settings, stores: Stores) -> None:
    two_causes(stores)
    before = stores.errors.get("e2")
    forget_in_followers(stores)
    with Stores.open(settings) as again:
        assert contents(again) == (2, 2, 2)
        assert again.errors.get("e2") == before
        assert versions(again) == [2, 2, 2]


@pytest.mark.files
def test_the_next_writer_of_any_store_finishes_what_a_dead_writer_left(stores: Stores) -> None:
    two_causes(stores)
    forget_in_followers(stores)
    with stores.databases["deployment_logs"].gate.hold(5, "test"):
        stores.databases["deployment_logs"].gate.leave_number(2)
    stores.heartbeats.beat("x", NOON)
    assert contents(stores) == (2, 2, 2)


@pytest.mark.files
def test_a_deleted_gate_hides_nothing_a_dead_writer_left(stores: Stores) -> None:
    two_causes(stores)
    forget_in_followers(stores)
    stores.databases["deployment_logs"].gate.path.unlink()
    stores.heartbeats.beat("x", NOON)
    assert contents(stores) == (2, 2, 2)
    assert versions(stores) == [2, 2, 2]


@pytest.mark.files
def test_what_a_living_writer_finished_meanwhile_is_not_done_again(stores: Stores) -> None:
    two_causes(stores)
    gate = stores.databases["deployment_logs"].gate
    with gate.hold(5, "test"):
        stores._transactions._redo("errors", 0)
    assert contents(stores) == (2, 2, 2)
    assert versions(stores) == [2, 2, 2]


@pytest.mark.files
def test_a_reader_of_all_three_finishes_what_a_dead_writer_left(stores: Stores) -> None:
    two_causes(stores)
    forget_in_followers(stores)
    with stores.read_one_moment() as moment:
        assert contents(moment) == (2, 2, 2)


def test_a_reader_of_all_three_never_sees_a_part(stores: Stores) -> None:
    done = threading.Event()

    def write() -> None:
        for place in range(60):
            all_or_none(stores, failed_start(place))
        done.set()

    writer = threading.Thread(target=write)
    writer.start()
    seen = set()
    while not done.is_set():
        with stores.read_one_moment() as moment:
            seen.add(contents(moment))
    writer.join()
    assert all(len(set(counts)) == 1 for counts in seen)


@pytest.mark.files
def test_a_statement_that_cannot_be_done_again_does_not_stop_the_rest(settings: Settings, stores: Stores) -> None:
    stores.errors.record(ERROR)
    all_or_none(
        stores,
        [
            lambda inside: inside.tickets.open(TICKET),
            lambda inside: inside.pauses.pause("prod", None, None, "broken", "roas", NOON),
        ],
    )
    with stores.databases["errors"].write() as connection:
        for table in ("ticket_history", "manual_intervention_tickets", "deployment_errors", "recovery_controls"):
            connection.exec_driver_sql(f"DELETE FROM {table}")
        connection.exec_driver_sql("DELETE FROM audit_log WHERE seq > 1")
        connection.exec_driver_sql("UPDATE cross_store_version SET seq = 0")
    with Stores.open(settings) as again:
        assert len(again.pauses.active(NOON)) == 1
        with again.databases["errors"].read() as connection:
            letters = connection.exec_driver_sql("SELECT reason FROM dead_letters").scalars().all()
    assert letters == ["FOREIGN KEY constraint failed"] * 2


@pytest.mark.files
def test_a_store_made_anew_goes_on_from_the_last_transaction(settings: Settings) -> None:
    with Stores.open(settings) as stores:
        two_causes(stores)
    settings.store_path("errors").write_bytes(b"not a database at all" * 400)
    with Stores.open(settings) as stores:
        assert versions(stores) == [2, 2, 2]
        assert [error.environment for error in stores.errors.latest()] == ["roas"]
        all_or_none(stores, failed_start(3))
        assert versions(stores) == [3, 3, 3]


@pytest.mark.files
def test_a_commit_that_nobody_sees_yet_is_never_seen(settings: Settings) -> None:
    """Its writer was killed between the last page of the log and the index of the log.

    SQLite makes the index anew once every process has gone, and the commit would count from then on, after others had
    gone on without it.
    """
    die(go_on_without_it, settings)
    with Stores.open(settings) as again:
        assert contents(again) == (1, 1, 1)
        assert len(again.pauses.active(NOON)) == 1
        assert not any(report.findings for report in verify(again))
        with again.databases["errors"].read() as connection:
            assert connection.exec_driver_sql("SELECT count(*) FROM dead_letters").scalar_one() == 0


def go_on_without_it(settings: Settings) -> None:
    with Stores.open(settings) as stores:
        all_or_none(stores, failed_start(1))
        index = settings.data_dir / "deployment_logs.db-shm"
        before = index.read_bytes()
        die(decide, settings)
        assert index.read_bytes() != before
        with index.open("r+b") as file:
            file.write(before)
        assert contents(stores) == (1, 1, 1)
        stores.pauses.pause("dev", "api", None, "reason", "alice", NOON)
        os.kill(os.getpid(), signal.SIGKILL)


def decide(settings: Settings) -> None:
    def decide_and_die(transactions: SqliteTransactions, *arguments: Any) -> None:
        transactions._decide(*arguments)
        os.kill(os.getpid(), signal.SIGKILL)

    pause = [lambda inside: inside.pauses.pause("prod", "api", None, "reason", "alice", NOON)]
    with Stores.open(settings) as stores, mock.patch.object(SqliteTransactions, "_commit", decide_and_die):
        all_or_none(stores, [*failed_start(2), *pause])


def die(target: Callable[[Settings], None], settings: Settings) -> None:
    process = multiprocessing.get_context("fork").Process(target=target, args=(settings,))
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL
