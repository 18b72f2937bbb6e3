"""The journal: what could not go into the stores survives the death of its process and is written once."""

from __future__ import annotations

import os
import signal
import stat
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from threading import Event

import pytest

from adapters.stores import Stores
from adapters.stores.recovery_writes import (
    FinishAttempt,
    OpenTicket,
    RecordError,
    WriteAttempt,
    from_line,
    to_line,
)
from adapters.stores.write_behind import Journal, Pending, WriteBehind, journals_in, replay_left
from adapters.stores.writes import Names, Write
from models.errors import Category, RecordedError, Severity, Strategy, Verdict
from models.evidence import EvidenceBundle, EvidenceOccasion
from models.failures import StoreBusyError
from models.recovery import RecoveryExecution, RecoveryStep, Ticket
from models.settings import Settings
from tests.e2e.faults.outages import HOLD_GATE, held_by_another_process

NOON = datetime(2026, 7, 1, 12, tzinfo=UTC)
SECOND = timedelta(seconds=1)
VERDICT = Verdict(
    category=Category.CONTAINER_EXITED, severity=Severity.HIGH, strategy=Strategy.RESTART_SERVICE, confidence=0.9,
    reason="It exited with code 1.", pattern_name="exited",
)  # fmt: skip
BUNDLE = EvidenceBundle(
    bundle_id="ev-1", environment="prod", service="bot", taken_at=NOON, occasion=EvidenceOccasion.FAILURE,
    reason="exited", first_cause="bot", cause_service="bot",
)  # fmt: skip
STEP = RecoveryStep(
    name="restart", target="bot", ok=True, detail="restarted bot", started_at=NOON, ended_at=NOON + SECOND
)


def error(error_id: str = "err-1") -> RecordedError:
    return RecordedError(
        error_id=error_id, environment="prod", text="bot exited", source="watch", verdict=VERDICT,
        first_seen=NOON, last_seen=NOON, service="bot",
    )  # fmt: skip


def attempt(error_id: str = "err-1", **more: object) -> RecoveryExecution:
    values = {"error_id": error_id, "strategy": Strategy.RESTART_SERVICE, "started_at": NOON, "environment": "prod",
              "service": "bot", "attempt_id": f"{error_id}#1", "detected_at": NOON}  # fmt: skip
    return RecoveryExecution(**(values | more))  # type: ignore[arg-type]


HEALED = attempt(ended_at=NOON + SECOND, verified_at=NOON + SECOND, success=True, steps=(STEP,), final_status="healthy")
RECOVERY: tuple[Write, ...] = (
    RecordError(error=error(), bundles=("ev-1",), taken=(BUNDLE,)),
    WriteAttempt(execution=attempt()),
    FinishAttempt(execution=HEALED, was="exited"),
)


def test_every_write_is_the_same_after_the_journal() -> None:
    ticket = OpenTicket(
        ticket=Ticket(ticket_id="T-1", error_id="err-1", environment="prod", title="bot", opened_at=NOON)
    )
    for write in (*RECOVERY, ticket):
        assert from_line(to_line(write)) == write


def test_what_is_written_twice_is_on_record_once(stores: Stores) -> None:
    for _ in range(2):
        for write in RECOVERY:
            write.apply(stores, Names())

    [recorded] = stores.errors.latest("prod")
    [execution] = stores.recoveries.find(environment="prod")
    assert (recorded.count, recorded.resolved_at) == (1, NOON + SECOND)
    assert (execution.success, execution.steps, execution.detected_at) == (True, (STEP,), NOON)
    assert len(stores.evidence.find(error_id="err-1")) == 1


def test_a_cause_that_the_store_knows_under_another_id_keeps_its_attempts(stores: Stores) -> None:
    stores.errors.record(error("err-0"))
    names = Names()

    for write in RECOVERY:
        write.apply(stores, names)

    [recorded] = stores.errors.latest("prod")
    [execution] = stores.recoveries.find("err-0")
    assert (recorded.error_id, recorded.count, recorded.resolved_at) == ("err-0", 2, NOON + SECOND)
    assert (execution.attempt_id, execution.success) == ("err-1#1", True)


@pytest.mark.files
def test_a_journal_is_its_owners_alone_and_private(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "journal")
    journal.append(b"one")

    assert journal.path is not None
    assert stat.S_IMODE(journal.path.stat().st_mode) == 0o600
    assert stat.S_IMODE(journal.path.parent.stat().st_mode) == 0o700
    assert [other.is_held for other in journals_in(tmp_path / "journal")] == [False]


@pytest.mark.files
def test_a_full_journal_takes_no_more_than_its_bytes(tmp_path: Path) -> None:
    journal = Journal(tmp_path, limit_bytes=10)

    assert [journal.append(b"1234"), journal.append(b"5678"), journal.append(b"9")] == [True, True, False]
    assert journal.append(b"gap", reserve=True)
    assert journal.lines() == [b"1234", b"5678", b"gap"]


@pytest.mark.files
def test_a_line_that_was_cut_off_with_its_writer_is_left_out(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    journal.append(b"whole")
    assert journal.path is not None
    with journal.path.open("ab") as file:
        file.write(b"cut o")

    assert journal.lines() == [b"whole"]


@pytest.fixture
def writer(settings: Settings, stores: Stores) -> WriteBehind:
    return WriteBehind(lambda: stores, settings.data_dir / "journal")


def late(writer: WriteBehind, writes: tuple[Write, ...]) -> list[Pending]:
    pending = [writer.put(write) for write in writes]
    for one in pending:
        writer.keep(one)
    return pending


@pytest.mark.files
def test_what_waits_for_a_held_store_goes_in_once_it_is_free_and_the_journal_goes(
    settings: Settings, stores: Stores, writer: WriteBehind
) -> None:
    with held_by_another_process(HOLD_GATE, settings.data_dir / "gate.lock"):
        pending = late(writer, RECOVERY)
        writer.fall_behind("it is held")
        [file] = (settings.data_dir / "journal").iterdir()
        assert len(file.read_bytes().splitlines()) == len(RECOVERY)
        assert all(isinstance(one.answer.exception(0), Exception) for one in pending)
        assert writer.behind

    deadline = time.monotonic() + 300
    while writer.behind:
        assert time.monotonic() < deadline
        Event().wait(0.01)
    assert list((settings.data_dir / "journal").iterdir()) == []
    assert stores.recoveries.find("err-1")[0].success
    assert stores.errors.get("err-1").resolved_at == NOON + SECOND


@pytest.mark.files
def test_the_journal_of_a_process_that_was_killed_is_written_by_the_next(settings: Settings, stores: Stores) -> None:
    folder = settings.data_dir / "journal"
    child = os.fork()
    if child == 0:
        journal = Journal(folder)
        for write in RECOVERY:
            journal.append(to_line(write))
        os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(child, 0)

    assert replay_left(stores, folder) == len(RECOVERY)
    assert replay_left(stores, folder) == 0

    assert stores.recoveries.find("err-1")[0].success
    assert list(folder.iterdir()) == []


@pytest.mark.files
def test_a_journal_stays_while_the_stores_do_not_take_it(settings: Settings, stores: Stores) -> None:
    folder = settings.data_dir / "journal"
    journal = Journal(folder)
    journal.append(to_line(RECOVERY[0]))
    journal.close()

    with (
        Stores.open(settings, deadline_seconds=0.1) as hurried,
        held_by_another_process(HOLD_GATE, settings.data_dir / "gate.lock"),
        pytest.raises(StoreBusyError),
    ):
        replay_left(hurried, folder)

    assert replay_left(stores, folder) == 1
