from __future__ import annotations

from datetime import UTC, datetime, timedelta

from core.recovery.budget_left import budget_left
from models.environments import RecoveryPolicy
from models.errors import Category, RecordedError, Severity, Strategy, Verdict
from models.recovery import RecoveryExecution

NOW = datetime(2026, 7, 1, 12, tzinfo=UTC)
POLICY = RecoveryPolicy(attempts_per_error=3, attempts_per_service_15min=3, attempts_per_service_day=12)
ERROR = RecordedError(
    error_id="err-1",
    environment="shop",
    text="killed",
    source="watch",
    service="web",
    verdict=Verdict(
        category=Category.OOM_KILLED,
        severity=Severity.HIGH,
        strategy=Strategy.RESTART_SERVICE,
        confidence=1,
        reason="",
        template="",
    ),
    first_seen=NOW,
    last_seen=NOW,
)


def tried(minutes: float, error_id: str = "err-1", points: int = 1, service: str = "web") -> RecoveryExecution:
    return RecoveryExecution(
        error_id=error_id,
        strategy=Strategy.RESTART_SERVICE,
        started_at=NOW - timedelta(minutes=minutes),
        environment="shop",
        service=service,
        points=points,
    )


def test_attempts_and_points_that_are_left_are_counted() -> None:
    past = [tried(5), tried(60, "err-0"), tried(5, "err-9", service="db"), tried(1, points=0)]

    assert budget_left(ERROR, past, POLICY, NOW) == (
        "2 of 3 attempts at this error are left.",
        "2 of 3 points of web within 15 minutes are left.",
        "10 of 12 points of web within a day are left.",
    )


def test_nothing_is_left_below_zero() -> None:
    sentences = budget_left(ERROR, [tried(1) for _ in range(20)], POLICY, NOW)

    assert all(sentence.startswith("0 of ") for sentence in sentences)


def test_where_recovery_is_switched_off_that_is_said() -> None:
    policy = RecoveryPolicy(automatic=False)

    assert budget_left(ERROR, [], policy, NOW) == ("Automatic recovery is switched off for this environment.",)
