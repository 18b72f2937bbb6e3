from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

from core.recovery.notify import FIRST_REMINDER, FORGOTTEN, REMINDER, RUNNING_AT_MOST, due
from models.errors import Category, RecordedError, Severity, Strategy, Verdict
from models.recovery import (
    Notification,
    NotificationReason,
    RecoveryExecution,
    ReportedError,
    SentNotifications,
    Ticket,
)

NOON = datetime(2026, 3, 2, 12, tzinfo=UTC)
ERROR = RecordedError(
    error_id="err-1",
    environment="prod",
    text="service web is stopped: exited with code 1",
    source="watch",
    verdict=Verdict(
        category=Category.CONTAINER_EXITED,
        severity=Severity.HIGH,
        strategy=Strategy.RESTART_SERVICE,
        confidence=0.9,
        reason="it exited",
    ),
    first_seen=NOON,
    last_seen=NOON,
    service="web",
)
TICKET = Ticket(ticket_id="tic-1", error_id="err-1", environment="prod", title="web", opened_at=NOON, steps=("look",))
TRIED = RecoveryExecution(
    error_id="err-1", strategy=Strategy.RESTART_SERVICE, started_at=NOON, ended_at=NOON + timedelta(seconds=3),
    success=True, final_status="web healthy again after 3.0 s",
)  # fmt: skip
ASKED = ReportedError(error=ERROR, reported=SentNotifications(), ticket=TICKET)


def notice(cause: ReportedError, at: datetime) -> Notification | None:
    found = due([cause], at)
    return found[0] if found else None


def occasions(cause: ReportedError, *moments: timedelta) -> list[NotificationReason | None]:
    return [one.occasion if (one := notice(cause, NOON + at)) else None for at in moments]


def test_a_cause_is_reported_once_then_reminded_of_after_an_hour_and_every_four() -> None:
    assert occasions(ASKED, timedelta()) == [NotificationReason.FAILED]
    once = replace(ASKED, reported=SentNotifications(times=1, last_at=NOON))
    just_before = timedelta(microseconds=-1)
    assert occasions(once, timedelta(), FIRST_REMINDER + just_before, FIRST_REMINDER) == [
        None,
        None,
        NotificationReason.REMINDER,
    ]
    twice = replace(ASKED, reported=SentNotifications(times=2, last_at=NOON))
    assert occasions(twice, FIRST_REMINDER, REMINDER + just_before, REMINDER) == [
        None,
        None,
        NotificationReason.REMINDER,
    ]


def test_what_recovered_by_itself_is_one_notice_with_its_duration() -> None:
    over = replace(ERROR, resolved_at=NOON + timedelta(seconds=7))
    reported = notice(
        ReportedError(error=over, reported=SentNotifications(), executions=[TRIED]), NOON + timedelta(minutes=1)
    )
    assert reported is not None
    assert reported.occasion is NotificationReason.RECOVERED
    assert "It was over after 7 s" in reported.body
    assert (
        notice(
            ReportedError(error=over, reported=SentNotifications(end_at=NOON), executions=[TRIED]),
            NOON + timedelta(minutes=1),
        )
        is None
    )


def test_the_end_of_what_was_reported_is_reported_however_late() -> None:
    over = replace(ERROR, resolved_at=NOON + timedelta(hours=5))
    reported = notice(
        ReportedError(error=over, reported=SentNotifications(times=2, last_at=NOON)), NOON + timedelta(days=2)
    )
    assert reported is not None
    assert "It was over after 5.0 h" in reported.body


def test_old_records_and_errors_that_need_no_action_are_not_notified() -> None:
    over = ReportedError(error=replace(ERROR, resolved_at=NOON), reported=SentNotifications(), executions=[TRIED])
    assert notice(over, NOON + FORGOTTEN) is None
    assert notice(ReportedError(error=ERROR, reported=SentNotifications()), NOON) is None
    assert notice(replace(over, executions=[]), NOON) is None


def test_nothing_is_notified_while_a_recovery_runs_unless_its_process_must_have_ended() -> None:
    running = replace(ASKED, executions=[replace(TRIED, ended_at=None, success=None)])
    assert occasions(running, timedelta(), RUNNING_AT_MOST) == [None, NotificationReason.FAILED]


def test_a_notice_names_what_to_do_and_fits_a_message() -> None:
    reported = notice(ASKED, NOON)
    assert reported is not None
    assert reported.subject == "web of prod needs help: container_exited"
    assert "More: roas ticket tic-1" in reported.body
    assert "look" in reported.body
    assert "Seen once since 2026" in reported.body
    again = notice(replace(ASKED, error=replace(ERROR, count=3)), NOON)
    assert again is not None
    assert "Seen 3 times since 2026" in again.body
    long = notice(replace(ASKED, error=replace(ERROR, text="x" * 5000)), NOON)
    assert long is not None
    assert len(long.body) <= 1500
