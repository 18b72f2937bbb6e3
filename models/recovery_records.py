"""The records that recovery reads from the stores, at one moment."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from models.errors import Pattern, RecordedError
from models.operations import StateChange
from models.records import LeaseResult, Pause, Release
from models.recovery import RecoveryExecution


@dataclass(frozen=True, slots=True, kw_only=True)
class RecoveryRecords:
    """All records that recovery reads, so that it can continue with the last ones while the stores are unavailable.

    `executions` are the attempts of the last day in every environment: they share the budgets of a host. `started_at`
    is when the latest proven start ended. `patterns` is None if they were never read.
    """

    environment: str
    executions: tuple[RecoveryExecution, ...] = ()
    pauses: tuple[Pause, ...] = ()
    releases: tuple[Release, ...] = ()
    last_changes: Mapping[str, StateChange] = field(default_factory=dict)
    open_errors: tuple[RecordedError, ...] = ()
    lease: LeaseResult | None = None
    started_at: datetime | None = None
    meant_to_run: bool = True
    patterns: tuple[Pattern, ...] | None = None
