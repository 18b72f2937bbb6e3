from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

from core.notifications.due import FIRST_REMINDER, FORGOTTEN, REMINDER, RUNNING_AT_MOST, due
from core.notifications.message import compose
from core.notifications.pacing import Batch
from models.errors import REFUSED, Category, RecordedError, Severity, Strategy, Verdict
from models.notifications import Addresses, Message, News, NotificationReason, ReportedError, SentNotifications
from models.operations import Operation, OperationStatus, OperationType
from models.recovery import RecoveryExecution, Ticket
from tests.support.hook_runs import stored_run

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


def notice(cause: ReportedError, at: datetime) -> News | None:
    found = due([cause], at)
    return found[0] if found else None


def message(cause: ReportedError, at: datetime) -> Message:
    (news,) = due([cause], at)
    return compose(Batch(news=(news,)), {}, Addresses(), at).message


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
    assert "Recovered in 7 s" in compose(Batch(news=(reported,)), {}, Addresses(), NOON).message.summary
    assert (
        notice(
            ReportedError(error=over, reported=SentNotifications(end_at=NOON), executions=[TRIED]),
            NOON + timedelta(minutes=1),
        )
        is None
    )


def test_the_end_of_what_was_reported_is_reported_however_late() -> None:
    over = replace(ERROR, resolved_at=NOON + timedelta(hours=5))
    cause = ReportedError(error=over, reported=SentNotifications(times=2, last_at=NOON))
    assert "Recovered in 5.0 h" in message(cause, NOON + timedelta(days=2)).summary


def test_old_records_and_errors_that_need_no_action_are_not_notified() -> None:
    over = ReportedError(error=replace(ERROR, resolved_at=NOON), reported=SentNotifications(), executions=[TRIED])
    assert notice(over, NOON + FORGOTTEN) is None
    assert notice(ReportedError(error=ERROR, reported=SentNotifications()), NOON) is None
    assert notice(replace(over, executions=[]), NOON) is None


def test_nothing_is_notified_while_a_recovery_runs_unless_its_process_must_have_ended() -> None:
    running = replace(ASKED, executions=[replace(TRIED, ended_at=None, success=None)])
    assert occasions(running, timedelta(), RUNNING_AT_MOST) == [None, NotificationReason.FAILED]


def test_a_message_names_the_cause_who_is_affected_and_what_to_type() -> None:
    shown = message(ASKED, NOON)
    assert shown.title == "web of prod needs help: its container exited"
    assert shown.summary.startswith("service web is stopped: exited with code 1\n")
    facts = {fact.name: fact.value for fact in shown.facts}
    assert facts == {
        "Affected": "web since 2026-03-02 12:00:00 UTC (seen once)",
        "Tried": "nothing; it waits for a person",
        "Next": "look",
        "Ticket": "roas tickets tic-1",
    }
    tried = replace(ASKED, error=replace(ERROR, count=3), executions=[replace(TRIED, success=False)])
    facts = {fact.name: fact.value for fact in message(tried, NOON).facts}
    assert facts["Affected"].endswith("(seen 3 times)")
    assert facts["Tried"] == "restart service: web healthy again after 3.0 s"


def deployment(status: OperationStatus, **details: object) -> Operation:
    return Operation(
        deployment_id="dep-1",
        operation_type=OperationType.START,
        environment="prod",
        status=status,
        started_at=NOON - timedelta(minutes=1),
        ended_at=NOON,
        details=dict(details),
    )


def test_deployments_are_reported_where_asked_for_and_once() -> None:
    proven = deployment(OperationStatus.SUCCESS)
    assert due([], NOON, operations=[proven]) == []
    (news,) = due([], NOON, operations=[proven], about=("deployments",))
    assert news.occasion is NotificationReason.DEPLOYED
    reported = deployment(OperationStatus.SUCCESS, notified_at="2026-03-02T12:00:00+00:00")
    assert due([], NOON, operations=[reported], about=("deployments",)) == []
    assert due([], NOON + FORGOTTEN, operations=[proven], about=("deployments",)) == []
    check = replace(proven, operation_type=OperationType.HEALTH_CHECK)
    busy = deployment(OperationStatus.FAILED, error="EnvironmentBusyError")
    assert due([], NOON, operations=[check, busy], about=("deployments",)) == []


def test_an_update_is_reported_with_what_its_images_change() -> None:
    notes = [{"service": f"web{number}", "text": f"web{number} 1.2 -> 1.3"} for number in range(7)]
    updated = deployment(OperationStatus.SUCCESS, update="all", release_notes=notes)
    (news,) = due([], NOON, operations=[updated], about=("deployments",))
    shown = compose(Batch(news=(news,)), {}, Addresses(), NOON).message
    assert shown.title == "prod was updated"
    (new,) = [one.value for one in shown.facts if one.name == "New"]
    assert new.startswith("web0 1.2 -> 1.3; web1 1.2 -> 1.3; ")
    assert new.endswith("; and 2 more")


def test_a_request_for_what_does_not_exist_is_no_failed_deployment() -> None:
    refused = deployment(OperationStatus.FAILED, error="BadInputError")
    assert due([], NOON, operations=[refused], about=("deployments",)) == []


def test_a_failed_deployment_and_the_error_it_failed_of_are_one_report() -> None:
    failed = deployment(OperationStatus.FAILED, error_id="err-1", undone="rolled back to release 7: 2 services proven")
    both = ("failures", "deployments")
    (news,) = due([ASKED], NOON, operations=[failed], about=both)
    assert (news.occasion, news.cause, news.operation) == (NotificationReason.DEPLOYMENT_FAILED, ASKED, failed)
    shown = compose(Batch(news=(news,)), {}, Addresses(), NOON).message
    assert shown.title == "prod could not be started: web: its container exited"
    assert ("Rollback", "rolled back to release 7: 2 services proven") in {(one.name, one.value) for one in shown.facts}

    reported = replace(ASKED, reported=SentNotifications(times=1, last_at=NOON))
    assert due([reported], NOON, operations=[failed], about=both) == []
    before = replace(ASKED, reported=SentNotifications(times=1, last_at=NOON - timedelta(minutes=30)))
    (again,) = due([before], NOON, operations=[failed], about=both)
    assert again.occasion is NotificationReason.DEPLOYMENT_FAILED


def test_an_error_is_reported_alone_where_only_failures_are_asked_for() -> None:
    failed = deployment(OperationStatus.FAILED, error_id="err-1")
    assert [one.occasion for one in due([ASKED], NOON, operations=[failed])] == [NotificationReason.FAILED]


def test_a_report_of_a_deployment_names_the_hooks_that_failed_and_the_data() -> None:
    ended = ((True, "hook a ended well"), (False, "hook b failed: exit code 4"))
    hooks = [stored_run(ok=ok, sentence=sentence) for ok, sentence in ended]
    data = "hooks that ran may have changed data"
    shown = {}
    for status in (OperationStatus.SUCCESS, OperationStatus.FAILED):
        (news,) = due([], NOON, operations=[deployment(status, hooks=hooks, data=data)], about=("deployments",))
        facts = compose(Batch(news=(news,)), {}, Addresses(), NOON).message.facts
        shown[status] = {one.name: one.value for one in facts}

    assert shown[OperationStatus.SUCCESS]["Hooks"] == "hook b failed: exit code 4"
    assert "Data" not in shown[OperationStatus.SUCCESS]
    assert shown[OperationStatus.FAILED]["Data"] == data


def test_a_report_of_a_deployment_names_what_its_gate_said() -> None:
    gate = {"outcome": "overridden", "text": "The gate of shop refused the update: policy not-root: web: it is root."}
    (news,) = due([], NOON, operations=[deployment(OperationStatus.SUCCESS, gate=gate)], about=("deployments",))
    facts = {one.name: one.value for one in compose(Batch(news=(news,)), {}, Addresses(), NOON).message.facts}
    assert facts["Gate"] == f"overridden: {gate['text']}"

    passed = deployment(OperationStatus.SUCCESS, gate={"outcome": "passed", "text": ""})
    (news,) = due([], NOON, operations=[passed], about=("deployments",))
    assert "Gate" not in {one.name for one in compose(Batch(news=(news,)), {}, Addresses(), NOON).message.facts}


def test_what_validation_refused_is_reported_once_without_a_ticket_and_when_it_can_be_started_again() -> None:
    refused = replace(ERROR, source=REFUSED, deployment_id="dep-1")
    cause = ReportedError(error=refused, reported=SentNotifications())

    assert occasions(cause, timedelta()) == [NotificationReason.FAILED]
    assert [one.value for one in message(cause, NOON).facts if one.command] == ["roas why dep-1"]
    once = replace(cause, reported=SentNotifications(times=1, last_at=NOON))
    assert occasions(once, FIRST_REMINDER, REMINDER) == [None, None]
    over = replace(once, error=replace(refused, resolved_at=NOON))
    assert message(over, NOON).title == "web of prod can be started again"


def test_an_error_that_took_over_the_ticket_of_a_reported_one_is_not_reported_again() -> None:
    notified = replace(ASKED, reported=SentNotifications(times=1, last_at=NOON), ticket=None)
    began = NOON + timedelta(minutes=1)
    later = replace(ASKED, error=replace(ERROR, error_id="err-2", text="service web is unhealthy", first_seen=began))

    def occasions_of_both(at: timedelta, *causes: ReportedError) -> list[tuple[str, NotificationReason]]:
        found = due(causes, NOON + at)
        return [(one.cause.error.error_id, one.occasion) for one in found if one.cause is not None]

    assert occasions_of_both(timedelta(), notified, later) == []
    assert occasions_of_both(FIRST_REMINDER, notified, later) == [("err-2", NotificationReason.REMINDER)]
    assert later.ticket is not None
    its_own = replace(later, ticket=replace(later.ticket, opened_at=began))
    assert occasions_of_both(timedelta(), notified, its_own) == []
    its_own = replace(its_own, error=replace(its_own.error, deployment_id="prod-2"))
    assert occasions_of_both(timedelta(), notified, its_own) == [("err-2", NotificationReason.FAILED)]
    of_another = replace(notified, error=replace(ERROR, service="db"))
    assert occasions_of_both(timedelta(), of_another, later) == [("err-2", NotificationReason.FAILED)]


def test_the_consequence_of_another_error_is_not_called_recovered() -> None:
    over = replace(ERROR, resolved_at=NOON)
    resolved = ReportedError(error=over, reported=SentNotifications(times=1, last_at=NOON), executions=[TRIED])
    assert notice(resolved, NOON) is not None
    assert notice(replace(resolved, resolution="its cause is error err-2"), NOON) is None


def test_a_failed_operation_tells_what_its_rollback_did_and_what_it_could_not_do() -> None:
    operation = Operation(
        deployment_id="prod-2",
        operation_type=OperationType.START,
        environment="prod",
        status=OperationStatus.FAILED,
        started_at=NOON,
        details={"undone": "web runs as before", "undo_failed": "the image of db is gone"},
    )
    news = News(occasion=NotificationReason.FAILED, environment="prod", operation=operation)
    facts = {one.name: one.value for one in compose(Batch(news=(news,)), {}, Addresses(), NOON).message.facts}
    assert facts["Rollback"] == "web runs as before"
    assert facts["Rollback failed"] == "the image of db is gone"
