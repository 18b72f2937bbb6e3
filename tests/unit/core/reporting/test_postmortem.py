from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TypeVar

from core.common.markdown import page_markdown
from core.reporting.postmortem import RUNBOOK, RUNBOOK_HEADINGS, postmortem_page, write_postmortem
from models.containers import ContainerEvent
from models.errors import BusinessImpact, Category, Impact, ImpactType, RecordedError, Severity, Strategy, Verdict
from models.evidence import EvidenceBundle, EvidenceOccasion
from models.metrics import Alert, AlertSeverity, AlertState
from models.operations import Operation, OperationStatus, OperationType, StateChange
from models.operations.record import HookRun
from models.pages import Block, Items, Page, Table, Text
from models.postmortem import FailureRecords
from models.records import ErrorDetails, Explanation, ShownLine
from models.recovery import RecoveryExecution, RecoveryStep, Ticket, TicketEntry, TicketState

ROOT = Path(__file__).parents[4]
NOON = datetime(2026, 7, 1, 12, tzinfo=UTC)
SECOND, MINUTE = timedelta(seconds=1), timedelta(minutes=1)
OPERATION = Operation(
    deployment_id="prod-1",
    operation_type=OperationType.START,
    environment="prod",
    status=OperationStatus.FAILED,
    started_at=NOON,
    ended_at=NOON + 20 * SECOND,
    user_agent="person: ann",
    details={"reason": "web did not start", "advice": "look at its log: roas logs prod web"},
)
ERROR = RecordedError(
    error_id="e1",
    environment="prod",
    text="password authentication failed",
    source="start",
    verdict=Verdict(
        category=Category.AUTH_FAILED,
        severity=Severity.HIGH,
        strategy=Strategy.FIX_CREDENTIALS,
        confidence=0.9,
        reason="the log says so",
        pattern_name="login_refused",
    ),
    first_seen=NOON + 10 * SECOND,
    last_seen=NOON + 10 * SECOND,
    deployment_id="prod-1",
    service="web",
)
IMPACT = Impact(
    impact_type=ImpactType.SERVICE_DOWN, affected_services=("web", "proxy"), business_impact=BusinessImpact.HIGH
)
STEP = RecoveryStep(name="restart", target="web", ok=False, detail="it ended again", started_at=NOON + MINUTE)
EXECUTION = RecoveryExecution(
    error_id="e1",
    attempt_id="e1#1",
    strategy=Strategy.RESTART_SERVICE,
    started_at=NOON + MINUTE,
    ended_at=NOON + 2 * MINUTE,
    success=False,
    steps=(STEP,),
    final_status="web ended again",
)
TICKET = Ticket(
    ticket_id="T-1",
    error_id="e1",
    environment="prod",
    title="a login is refused",
    opened_at=NOON + 3 * MINUTE,
    steps=("Make a new password.",),
    history=(TicketEntry(at=NOON + 4 * MINUTE, by="ann", what="resolved by hand: put the password back"),),
)
DETAILS = ErrorDetails(error=ERROR, impacts=(IMPACT,), executions=(EXECUTION,), tickets=(TICKET,))
BUNDLE = EvidenceBundle(
    bundle_id="ev1",
    environment="prod",
    service="web",
    taken_at=NOON + 9 * SECOND,
    occasion=EvidenceOccasion.FAILURE,
    reason="web did not start",
    first_cause="web ended with exit code 1",
    cause_service="web",
)
EXPLANATION = Explanation(
    deployment_id="prod-1",
    environment="prod",
    operation="start",
    status=OperationStatus.FAILED,
    headline="web could not log in",
    started_at=NOON,
    changed=("web: configuration changed",),
)
FAILED = StateChange(
    deployment_id="prod-1", service="web", previous_state=None, new_state="failed", changed_at=NOON + 8 * SECOND
)
HEALTHY = replace(FAILED, new_state="healthy", changed_at=NOON + 18 * SECOND)
RECORDS = FailureRecords(
    subject="prod-1",
    environment="prod",
    operation=OPERATION,
    changes={7: FAILED, 8: HEALTHY},
    errors=(DETAILS,),
    bundles=(BUNDLE,),
    telling=BUNDLE,
    explanation=EXPLANATION,
    lines=(ShownLine(service="web", source="log", text="FATAL: password", at=NOON),),
)
Kind = TypeVar("Kind", bound=Block)


def blocks(page: Page, heading: str, kind: type[Kind]) -> list[Kind]:
    found = next(section for section in page.sections if section.heading == heading)
    return [block for block in found.blocks if isinstance(block, kind)]


def test_without_records_every_section_says_so_and_invents_nothing() -> None:
    page = postmortem_page(write_postmortem(FailureRecords(subject="e1", environment="prod")))

    said = [block.text for section in page.sections for block in section.blocks if isinstance(block, Text)]
    assert said == [
        "Nothing is recorded.",
        "No cause is recorded.",
        "No line of a log or a check is recorded.",
        "No affected service is recorded.",
        "No attempt is recorded.",
        "Nothing is open.",
        "No advice is recorded on this cause.",
    ]
    assert all(isinstance(block, Text) for section in page.sections for block in section.blocks)


def test_the_timeline_is_in_order_and_each_event_names_its_row() -> None:
    timeline = write_postmortem(RECORDS).timeline

    assert [one.at for one in timeline] == sorted(one.at for one in timeline)
    assert [(one.source, one.row) for one in timeline] == [
        ("deployment_operations", "prod-1"),
        ("service_state_changes", "7"),
        ("evidence_bundles", "ev1"),
        ("deployment_errors", "e1"),
        ("service_state_changes", "8"),
        ("deployment_operations", "prod-1"),
        ("auto_recovery_executions", "e1#1"),
        ("auto_recovery_executions", "e1#1"),
        ("auto_recovery_executions", "e1#1"),
        ("manual_intervention_tickets", "T-1"),
        ("ticket_history", "T-1"),
    ]
    assert timeline[0].event == "start of prod began, asked by person: ann"
    assert timeline[5].event == "start ended: failed: web did not start"


def test_the_cause_is_the_explanation_else_the_evidence_else_the_error() -> None:
    evidence, error = replace(RECORDS, explanation=None), replace(RECORDS, explanation=None, telling=None)

    assert [one.text for one in write_postmortem(RECORDS).cause] == ["web could not log in"]
    assert [(one.text, one.row) for one in write_postmortem(evidence).cause] == [("web ended with exit code 1", "ev1")]
    assert [one.row for one in write_postmortem(error).cause] == ["e1"]


def test_impact_names_services_and_when_it_began_and_ended() -> None:
    resolved = replace(DETAILS, error=replace(ERROR, resolved_at=NOON + MINUTE))
    open_still, ended = write_postmortem(RECORDS).impact, write_postmortem(replace(RECORDS, errors=(resolved,))).impact

    assert (open_still[0].services, open_still[0].since, open_still[0].until) == (
        ("web", "proxy"),
        ERROR.first_seen,
        None,
    )
    assert ended[0].until == NOON + MINUTE
    assert (open_still[1].services, open_still[1].until) == (("web",), HEALTHY.changed_at)


def test_attempts_say_what_helped() -> None:
    attempts = write_postmortem(replace(RECORDS, operation=replace(OPERATION, details={"undone": "rolled back"})))

    assert [(one.action, one.by, one.helped) for one in attempts.attempts] == [
        ("roll back", "roas", True),
        ("restart service", "roas", False),
        ("resolved by hand", "ann", True),
    ]
    assert attempts.attempts[-1].result == "put the password back"


def test_what_is_open_is_named_until_it_is_resolved() -> None:
    alert = Alert(
        alert_id="a1",
        environment="prod",
        service="web",
        metric="health",
        severity=AlertSeverity.CRITICAL,
        reason="it is down",
        opened_at=NOON,
    )
    mended = replace(
        DETAILS,
        error=replace(ERROR, resolved_at=NOON),
        tickets=(replace(TICKET, state=TicketState.RESOLVED, resolved_at=NOON),),
    )
    closed = replace(alert, state=AlertState.RESOLVED, resolved_at=NOON)

    assert [one.row for one in write_postmortem(replace(RECORDS, alerts=(alert,))).still_open] == ["e1", "T-1", "a1"]
    assert write_postmortem(replace(RECORDS, errors=(mended,), alerts=(closed,))).still_open == ()


def test_what_to_change_is_the_runbook_and_recorded_advice_once_each() -> None:
    twice = replace(RECORDS, errors=(replace(DETAILS, tickets=(TICKET, replace(TICKET, ticket_id="T-2"))),))

    assert [one.text for one in write_postmortem(twice).to_change] == [
        "Read docs/runbook.md, 'A login between services is refused'.",
        "look at its log: roas logs prod web",
        "Make a new password.",
    ]


def test_every_heading_stands_in_the_runbook() -> None:
    headings = [line.removeprefix("### ") for line in (ROOT / RUNBOOK).read_text().splitlines()]

    assert set(RUNBOOK_HEADINGS.values()) <= set(headings)


def test_the_page_and_its_markdown_show_the_same() -> None:
    page = postmortem_page(write_postmortem(RECORDS))
    text = page_markdown(page)

    assert [section.heading for section in page.sections] == [
        "What happened",
        "First cause",
        "Impact",
        "What was tried and what helped",
        "What is open",
        "What to change",
    ]
    for table in (block for section in page.sections for block in section.blocks if isinstance(block, Table)):
        assert f"| {' | '.join(table.head)} |" in text
    assert blocks(page, "What is open", Items)[0].items[0] in text
    assert "12:00:00 web (log) FATAL: password" in text


def test_hostile_words_do_not_become_markdown() -> None:
    hostile = "`x` | <script> [a](b)\n# head"
    lines = (ShownLine(service="web", source="log", text="```\n# head"),)
    text = page_markdown(
        postmortem_page(
            write_postmortem(
                replace(RECORDS, lines=lines, errors=(replace(DETAILS, error=replace(ERROR, text=hostile)),))
            )
        )
    )

    assert "<script>" not in text.replace(r"\<script\>", "")
    assert "\n# head" not in text.partition("````text")[0]
    assert "````text\n" in text


def test_hooks_of_an_update_are_in_the_timeline() -> None:
    run = HookRun(
        name="migrate",
        when="before",
        does="one-off container of migrate",
        service="migrate",
        began_at=NOON + SECOND,
        took_seconds=2,
        ok=False,
        exit_code=3,
        sentence="hook migrate failed (one-off container of migrate): it ended with exit code 3",
    )
    operation = replace(OPERATION, details=OPERATION.details | {"hooks": [run.model_dump(mode="json")]})

    timeline = write_postmortem(replace(RECORDS, operation=operation)).timeline

    mine = [(one.at - NOON, one.event) for one in timeline if one.event.startswith("hook migrate")]
    assert mine == [
        (SECOND, "hook migrate began: one-off container of migrate"),
        (3 * SECOND, "hook migrate failed (one-off container of migrate): it ended with exit code 3"),
    ]


def test_the_gate_of_an_update_is_in_the_timeline() -> None:
    gate = {
        "outcome": "overridden",
        "text": "policy not-root: web: it is root",
        "judged_at": (NOON + SECOND).isoformat(),
        "override": {"by": "person: ann", "reason": "repairs the outage"},
    }
    operation = replace(OPERATION, details=OPERATION.details | {"gate": gate})

    timeline = write_postmortem(replace(RECORDS, operation=operation)).timeline

    assert [(one.at, one.event) for one in timeline if one.event.startswith("gate")] == [
        (
            NOON + SECOND,
            "gate overridden by person: ann: repairs the outage: policy not-root: web: it is root",
        )
    ]


def test_what_the_engine_reports_of_a_failure_is_in_the_timeline_once_whatever_evidence_holds_it() -> None:
    actions = ("die", "oom", "kill", "start", "stop", "restart", "exec_create", "attach")
    events = [
        ContainerEvent(
            happened_at=NOON + number * SECOND, container_id="c1", service="web", project="prod", action=action
        )
        for number, action in enumerate(actions)
    ]
    later = replace(events[0], happened_at=NOON + MINUTE)
    second_container = replace(events[0], container_id="c2")
    first = replace(BUNDLE, events=tuple(events))
    second = replace(BUNDLE, bundle_id="ev2", events=(events[0], events[1], second_container, later))

    timeline = write_postmortem(replace(RECORDS, bundles=(first, second))).timeline

    prefix = "web: the engine reports "
    events = [(one.event.removeprefix(prefix), one.row) for one in timeline if one.event.startswith(prefix)]
    assert sorted(events) == sorted([*((action, "ev1") for action in actions[:6]), ("die", "ev2"), ("die", "ev2")])
