"""Examples of each kind of message, for trying a channel."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta

from core.notifications.message import compose
from core.notifications.pacing import Batch
from models.errors import Category, RecordedError, Severity, Strategy, Verdict
from models.notifications import (
    Addresses,
    Message,
    News,
    NewsDetails,
    NotificationReason,
    ReportedError,
    SentNotifications,
)
from models.operations import Operation, OperationStatus, OperationType
from models.recovery import Ticket


def examples(environment: str, addresses: Addresses, now: datetime) -> list[Message]:
    """Return one message of each kind, as this environment would send them; none is about anything real."""
    began = now - timedelta(minutes=2)
    severity, strategy = Severity.HIGH, Strategy.FIX_CREDENTIALS
    verdict = Verdict(category=Category.AUTH_FAILED, severity=severity, strategy=strategy, confidence=0.9, reason="")
    error = RecordedError(
        error_id="example",
        environment=environment,
        text="db exited with code 1",
        source="watch",
        verdict=verdict,
        first_seen=began,
        last_seen=began,
        service="example-web",
    )
    steps = (f"Read its log: roas logs {environment} example-web",)
    ticket = Ticket(
        ticket_id="tic-example", error_id="example", environment=environment, title="", opened_at=began, steps=steps
    )
    cause = ReportedError(error=error, reported=SentNotifications(), ticket=ticket)
    failed = News(occasion=NotificationReason.FAILED, environment=environment, service="example-web", cause=cause)
    over = replace(cause, error=replace(error, resolved_at=now), resolution="the password was corrected")
    deployed = Operation(
        deployment_id=f"{environment}-example",
        operation_type=OperationType.START,
        environment=environment,
        status=OperationStatus.SUCCESS,
        started_at=began,
        ended_at=now,
        user_agent="example",
    )
    failure_details = {
        "reason": "example-web exited with code 1",
        "undone": "rolled back to release 7: 2 services proven",
    }
    not_deployed = replace(deployed, status=OperationStatus.FAILED, details=failure_details)
    other = replace(failed, service="example-api", cause=replace(cause, error=replace(error, service="example-api")))
    batches = [
        Batch(news=(failed,)),
        Batch(news=(replace(failed, occasion=NotificationReason.RECOVERED, cause=over),)),
        Batch(news=(News(occasion=NotificationReason.DEPLOYED, environment=environment, operation=deployed),)),
        Batch(
            news=(News(occasion=NotificationReason.DEPLOYMENT_FAILED, environment=environment, operation=not_deployed),)
        ),
        Batch(news=(failed, other)),
    ]
    details = {
        "example": NewsDetails(
            first_cause='example-web exited with code 1; its last line is "password authentication failed"',
            lines=('FATAL:  password authentication failed for user "app"',),
            affected=("example-web", "example-api"),
        )
    }
    messages = [compose(batch, details, addresses, now).message for batch in batches]
    return [replace(message, title=f"Example: {message.title}") for message in messages]
