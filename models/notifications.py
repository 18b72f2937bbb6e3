"""Notices: what people are told of a failure, and what they were told before."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from models.errors import RecordedError
from models.recovery import RecoveryExecution, Ticket


class NotificationReason(StrEnum):
    """Why somebody is told."""

    FAILED = "failed"
    REMINDER = "reminder"
    RECOVERED = "recovered"


@dataclass(frozen=True, slots=True, kw_only=True)
class SentNotifications:
    """What people were told of an error: how many times that it failed, when last, and when that it is over."""

    times: int = 0
    last_at: datetime | None = None
    end_at: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportedError:
    """An error with all that decides whether people are told of it; `ticket` is what a person is asked about it."""

    error: RecordedError
    reported: SentNotifications
    resolution: str = ""
    ticket: Ticket | None = None
    executions: Sequence[RecoveryExecution] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Notification:
    """What people are told now. `reported_before` is what they had been told when this was decided."""

    error_id: str
    environment: str
    service: str | None
    occasion: NotificationReason
    subject: str
    body: str
    reported_before: SentNotifications


@dataclass(frozen=True, slots=True, kw_only=True)
class Channel:
    """A block through which people can be told: which environments name it, and whether the server keeps it."""

    block: str
    environments: tuple[str, ...]
    kept: bool
