"""What the stores know that bears on the recovery of an environment, as it was read at one moment."""

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
    """All that a recovery reads of the stores, so that it can go on by what was read last while they are away.

    `executions` are the attempts of the last day in every environment, which share the budgets of a host. `started_at`
    is when the latest proven start ended. `patterns` is None where they were never read.
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
