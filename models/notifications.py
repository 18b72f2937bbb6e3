"""Notifications about failures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from models.errors import RecordedError
from models.recovery import RecoveryExecution, Ticket


class NotificationReason(StrEnum):
    """Reason of a notification."""

    FAILED = "failed"
    REMINDER = "reminder"
    RECOVERED = "recovered"


@dataclass(frozen=True, slots=True, kw_only=True)
class SentNotifications:
    """Notifications sent about an error: how many times about the failure, when last, and when about its end."""

    times: int = 0
    last_at: datetime | None = None
    end_at: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportedError:
    """An error with everything that decides whether to notify; `ticket` is its open ticket."""

    error: RecordedError
    reported: SentNotifications
    resolution: str = ""
    ticket: Ticket | None = None
    executions: Sequence[RecoveryExecution] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Notification:
    """A notification to send. `reported_before` is what had been notified when this was decided."""

    error_id: str
    environment: str
    service: str | None
    occasion: NotificationReason
    subject: str
    body: str
    reported_before: SentNotifications


@dataclass(frozen=True, slots=True, kw_only=True)
class Channel:
    """A notification block: the environments that name it, and whether the server has it."""

    block: str
    environments: tuple[str, ...]
    kept: bool
