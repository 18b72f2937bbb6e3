from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

from core.reporting.analysis import analyse_operations, failure_end
from core.reporting.reports import report_text
from models.analysis import Failure
from models.health import RecordedScore
from models.metrics import Alert, AlertSeverity, Prediction, PredictionOutcome
from models.operations import Operation, OperationStatus, OperationType

NOON = datetime(2026, 7, 8, 12, tzinfo=UTC)
WEEK = timedelta(days=7)
START = Operation(
    deployment_id="prod-0",
    operation_type=OperationType.START,
    environment="prod",
    status=OperationStatus.SUCCESS,
    started_at=NOON - timedelta(days=1),
    ended_at=NOON - timedelta(days=1) + timedelta(seconds=9),
)
ALERT = Alert(
    alert_id="a1",
    environment="prod",
    service="bot",
    metric="cpu_usage",
    severity=AlertSeverity.WARNING,
    reason="CPU is 93 % | never above <b>71</b>",
    opened_at=NOON,
)
PREDICTION = Prediction(
    prediction_id="p1",
    environment="prod",
    service="host",
    metric="disk_usage",
    value=80,
    threshold=95,
    falling=False,
    made_at=NOON,
    expected=NOON,
    earliest=NOON,
    latest=NOON,
    words="full in 9 h",
    outcome=PredictionOutcome.HIT,
)


def _analysed(*operations: Operation, failures: tuple[Failure, ...] = (), **causes: str):  # type: ignore[no-untyped-def]
    return analyse_operations(
        operations,
        environment="prod",
        since=NOON - WEEK,
        until=NOON,
        failures=failures,
        causes={name.replace("_", "-"): cause for name, cause in causes.items()},
    )


def test_a_service_that_is_down_stands_out_without_any_advice() -> None:
    down = RecordedScore(
        environment="prod", service="web", score=40.0, grade="F", scored_at=NOON, suggestions=("it is down",)
    )
    assert "web scores 40 of 100: it is down." in report_text(_analysed(), (down,), (), ())


def test_a_failure_that_was_undone_is_over_with_its_operation() -> None:
    undone, resolved = NOON + timedelta(seconds=27), NOON + timedelta(minutes=10)
    assert failure_end(NOON, resolved, undone) == undone
    assert failure_end(NOON, None, undone) is None, "it is still open"
    assert failure_end(NOON, resolved, None) == resolved
    assert failure_end(resolved, resolved, undone) == resolved


def test_an_empty_week_says_so_and_invents_nothing() -> None:
    text = report_text(_analysed(), (), (), ())
    assert "Nothing stands out." in text
    assert "No operation has ended." in text
    assert "## Services" not in text
    assert "## Failures" not in text
    assert "None were made." in text
    assert "|" not in text


def test_a_few_starts_are_shown_by_day_without_a_trend() -> None:
    failed = replace(START, deployment_id="prod-1", status=OperationStatus.FAILED)
    text = report_text(_analysed(START, failed, prod_1="port_conflict"), (), (), ())
    assert "1 of 2 operations succeeded, 50 % (95 % interval 9 to 91 %): start 1 of 2." in text
    assert "- · success of starts: 1 of 2 succeeded" in text
    assert "not enough data for a trend" in text
    assert "| 2026-07-07 | 2 | 1 | 9.0 s | 9.0 s | 9.0 s | 1 port conflict |" in text


def test_failures_are_reported_with_the_time_to_repair_and_the_advice_names_its_rows() -> None:
    began = NOON - timedelta(days=6)
    failures = tuple(
        Failure(
            row=f"err-{number}",
            service="bot",
            cause="oom_killed",
            began_at=began + number * timedelta(days=1),
            ended_at=None if number == 4 else began + number * timedelta(days=1) + timedelta(minutes=10),
        )
        for number in range(5)
    )
    text = report_text(_analysed(START, failures=failures), (), (), ())
    assert "| bot | oom killed | 5 | 1 | 10 min | 24 h |" in text
    assert "- **Mend oom killed of bot for good.** It failed 5 times" in text
    assert "`err-0`, `err-1`, `err-2` and 2 more." in text


def test_causes_are_reported_apart_from_what_comes_of_them_and_words_of_services_are_no_markup() -> None:
    score = RecordedScore(
        environment="prod", service="bot", score=62, grade="D", scored_at=NOON, suggestions=("errors costs 20 points",)
    )
    of_it = replace(ALERT, alert_id="a2", service="web", explained_by="a1")
    text = report_text(_analysed(START), (score,), (ALERT, of_it), (PREDICTION,))
    assert "| bot | 62 | D | errors costs 20 points |" in text
    assert "1 cause, and 1 alert that came of it." in text
    assert "CPU is 93 % \\| never above \\<b\\>71\\</b\\> (`a1`)" in text
    assert "a2" not in text
    assert "1 made: 1 came true" in text
