"""Deployment operations: what was asked, of which environment, and how it went."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any


class OperationType(StrEnum):
    """What a deployment operation does."""

    START = "start"
    STOP = "stop"
    RESTART = "restart"
    HEALTH_CHECK = "health_check"


class OperationStatus(StrEnum):
    """Where a deployment operation stands."""

    PENDING = "pending"
    RUNNING = "running"
    SUCCESS = "success"
    FAILED = "failed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """One recorded deployment operation."""

    deployment_id: str
    operation_type: OperationType
    environment: str
    status: OperationStatus
    started_at: datetime
    ended_at: datetime | None = None
    user_agent: str | None = None
    details: dict[str, Any] = field(default_factory=dict)

    @property
    def duration(self) -> timedelta | None:
        """How long it took, or None while it runs."""
        return None if self.ended_at is None else self.ended_at - self.started_at


@dataclass(frozen=True, slots=True, kw_only=True)
class StateChange:
    """A service went from one state to another, and why."""

    deployment_id: str
    service: str
    previous_state: str | None
    new_state: str
    changed_at: datetime
    reason: str
    details: dict[str, Any] = field(default_factory=dict)
