"""The report as a message, and when it is due."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Literal

import pytest

from core.reporting.analysis import analyse_operations
from core.reporting.report_message import is_due, report_message
from models.analysis import Failure
from models.health import RecordedScore
from models.metrics import Alert, AlertSeverity
from models.notifications import Tone
from models.operations import Operation, OperationStatus, OperationType

NOON = datetime(2026, 7, 8, 12, tzinfo=UTC)
DAY = timedelta(days=1)


def start(number: int, status: OperationStatus) -> Operation:
    at = NOON - number * timedelta(hours=1)
    return Operation(
        deployment_id=f"prod-{number}", operation_type=OperationType.START, environment="prod", status=status,
        started_at=at, ended_at=at + timedelta(seconds=9),
    )  # fmt: skip


def alert(number: int, explained_by: str | None = None) -> Alert:
    return Alert(
        alert_id=f"a{number}", environment="prod", service="bot", metric="health", severity=AlertSeverity.WARNING,
        reason="it is down", opened_at=NOON, explained_by=explained_by,
    )  # fmt: skip


def test_a_quiet_week_is_one_sentence_and_facts() -> None:
    analysis = analyse_operations([], environment="prod", since=NOON - 7 * DAY, until=NOON, failures=(), causes={})

    message = report_message(analysis, [], [], [])

    assert message.title == "Report on prod, 2026-07-01 to 2026-07-08"
    assert message.summary == "Nothing stands out."
    assert message.tone is Tone.SUCCESS
    assert {fact.name: fact.value for fact in message.facts} == {
        "Operations": "No operation has ended.",
        "Failures": "None.",
        "Alerts": "None.",
        "Predictions": "None were made.",
    }


def test_the_words_of_a_score_are_not_written_as_markup_where_none_is_read() -> None:
    analysis = analyse_operations([], environment="prod", since=NOON - 7 * DAY, until=NOON, failures=(), causes={})
    score = RecordedScore(
        environment="prod", service="bot", score=40.0, grade="F", scored_at=NOON, suggestions=("answers < 1 s | `p95`",)
    )

    assert report_message(analysis, [score], [], []).summary == "bot scores 40 of 100: answers < 1 s | `p95`."


def test_what_to_mend_comes_first_and_figures_beside_it() -> None:
    starts = [start(n, OperationStatus.FAILED if n % 2 else OperationStatus.SUCCESS) for n in range(1, 9)]
    failures = [
        Failure(row=f"err-{n}", service="bot", cause="port_conflict", began_at=one.started_at, ended_at=one.ended_at)
        for n, one in enumerate(starts)
        if one.status is OperationStatus.FAILED
    ]
    causes = {one.deployment_id: "port_conflict" for one in starts if one.status is OperationStatus.FAILED}
    analysis = analyse_operations(
        starts, environment="prod", since=NOON - 7 * DAY, until=NOON, failures=failures, causes=causes
    )

    message = report_message(analysis, [], [alert(1), alert(2, "a1")], [])

    assert message.tone is Tone.WARNING
    assert message.items[0].startswith("Mend port conflict")
    facts = {fact.name: fact.value for fact in message.facts}
    assert facts["Operations"].startswith("4 of 8 succeeded;")
    assert facts["Failures"] == "4, of which 0 are not repaired."
    assert facts["Alerts"].startswith("1 cause")


@pytest.mark.parametrize(
    ("every", "ago", "due"),
    [
        ("daily", None, True),
        ("daily", timedelta(hours=23, minutes=59), True),
        ("daily", timedelta(hours=17), False),
        ("weekly", timedelta(days=6), False),
        ("weekly", timedelta(days=7), True),
    ],
)
def test_a_report_is_due_once_its_time_has_passed(
    every: Literal["daily", "weekly"], ago: timedelta | None, due: bool
) -> None:
    assert is_due(every, None if ago is None else NOON - ago, NOON) is due
