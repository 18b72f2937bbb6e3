"""errors.db: failures, their classification, recoveries and tickets."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import registry
from sqlmodel import SQLModel

from models.tables.columns import (
    json_text,
    maybe_big,
    maybe_moment,
    maybe_number,
    maybe_text,
    moment,
    moment_now,
    number,
    one_of,
    real,
    some_text,
    truth,
    unique_where,
)
from models.tables.shared import Archive, AuditLog, DeadLetter, Numbered, SpoolPosition, Version, own_table


class ErrorsRow(SQLModel, registry=registry()):
    """A row of errors.db."""


class ErrorPattern(Numbered, ErrorsRow, table=True):
    """A named way to recognise a cause; `shipped` ones come with the program, `shipped_version` names their set."""

    __tablename__ = "error_patterns"
    pattern_name: str = some_text(unique=True)
    pattern_regex: str = some_text()
    category: str = some_text()
    severity: str = some_text()
    auto_recovery_possible: bool | None = truth(default=False, nullable=True)
    recovery_script_path: str | None = maybe_text()
    created_at: datetime | None = moment_now()
    last_matched: datetime | None = maybe_moment()
    match_count: int | None = maybe_number(default=0)
    strategy: str | None = maybe_text(default="investigate(manual)")
    priority: int | None = maybe_number(default=50)
    enabled: bool | None = truth(default=True, nullable=True)
    shipped: bool | None = truth(default=False, nullable=True)
    shipped_version: str | None = maybe_text()


class DeploymentError(Numbered, ErrorsRow, table=True):
    """A failure; the same cause seen again while it is open counts up instead of making a new row."""

    __tablename__ = "deployment_errors"
    __table_args__ = (
        one_of("severity", "low", "medium", "high", "critical"),
        sa.Index("idx_deployment_errors_last_seen", "last_seen"),
        sa.Index("idx_deployment_errors_environment", "environment", "last_seen"),
        sa.Index("idx_deployment_errors_deployment_id", "deployment_id"),
        sa.Index("idx_deployment_errors_resolved_at", "resolved_at"),
        unique_where("idx_deployment_errors_open", "fingerprint", "resolved_at IS NULL"),
    )
    error_id: str = some_text(unique=True)
    environment: str = some_text()
    deployment_id: str | None = maybe_text()
    service_name: str | None = maybe_text()
    text: str = some_text()
    category: str = some_text()
    severity: str = some_text()
    strategy: str = some_text()
    confidence: float = real()
    pattern_name: str | None = maybe_text()
    reason: str = some_text()
    span: list[int] | None = json_text()
    template: str | None = maybe_text()
    fingerprint: str = some_text()
    source: str = some_text()
    evidence: dict[str, Any] | None = json_text()
    first_seen: datetime = moment()
    last_seen: datetime = moment()
    count: int = number(default=1)
    predictive: bool = truth(default=False)
    resolved_at: datetime | None = maybe_moment()
    resolution: str | None = maybe_text()
    notices: int | None = maybe_number(default=0)
    notified_at: datetime | None = maybe_moment()
    notified_end: datetime | None = maybe_moment()


class ErrorImpact(Numbered, ErrorsRow, table=True):
    """Who is hit by an error. `estimated_recovery_time` is in seconds."""

    __tablename__ = "error_impact_analysis"
    __table_args__ = (
        one_of("impact_type", "service_down", "performance_degraded", "data_loss"),
        one_of("business_impact", "low", "medium", "high", "critical"),
        sa.Index("idx_error_impact_analysis_error_id", "error_id"),
    )
    error_id: str = some_text(foreign_key="deployment_errors.error_id")
    impact_type: str = some_text()
    affected_services: list[str] | None = json_text()
    estimated_recovery_time: int | None = maybe_number()
    business_impact: str | None = maybe_text()
    created_at: datetime | None = moment_now()


class RecoveryExecutionRow(Numbered, ErrorsRow, table=True):
    """One automatic recovery of one error."""

    __tablename__ = "auto_recovery_executions"
    __table_args__ = (
        sa.Index("idx_auto_recovery_executions_error_id", "error_id"),
        sa.Index("idx_auto_recovery_executions_start", "execution_start"),
        sa.Index("idx_auto_recovery_executions_attempt", "attempt_id", unique=True),
    )
    error_id: str = some_text(foreign_key="deployment_errors.error_id")
    recovery_strategy: str = some_text()
    execution_start: datetime | None = moment_now()
    execution_end: datetime | None = maybe_moment()
    success: bool | None = truth(nullable=True)
    steps_executed: list[Any] | None = json_text()
    final_status: str | None = maybe_text()
    manual_intervention_required: bool | None = truth(default=False, nullable=True)
    attempt_id: str | None = maybe_text()
    detected_at: datetime | None = maybe_moment()
    diagnosed_at: datetime | None = maybe_moment()
    acted_at: datetime | None = maybe_moment()
    verified_at: datetime | None = maybe_moment()
    details: dict[str, Any] | None = json_text()


class TicketRow(Numbered, ErrorsRow, table=True):
    """What a person is asked to do about one cause; a cause has at most one ticket that is not resolved."""

    __tablename__ = "manual_intervention_tickets"
    __table_args__ = (
        one_of("state", "open", "acknowledged", "resolved"),
        sa.Index("idx_manual_intervention_tickets_error_id", "error_id"),
        sa.Index("idx_manual_intervention_tickets_state", "state", "environment"),
        sa.Index("idx_manual_intervention_tickets_fingerprint", "fingerprint"),
        unique_where("idx_manual_intervention_tickets_open", "fingerprint", "state <> 'resolved'"),
    )
    ticket_id: str = some_text(unique=True)
    error_id: str = some_text(foreign_key="deployment_errors.error_id")
    fingerprint: str = some_text()
    environment: str = some_text()
    service_name: str | None = maybe_text()
    title: str = some_text()
    state: str = some_text()
    steps: list[str] | None = json_text()
    tried: list[str] | None = json_text()
    affected_services: list[str] | None = json_text()
    opened_at: datetime = moment()
    resolved_at: datetime | None = maybe_moment()
    evidence: list[str] | None = json_text()
    since: datetime | None = maybe_moment()
    flow_run_id: str | None = maybe_text()


class TicketHistory(Numbered, ErrorsRow, table=True):
    """One line of a ticket's history."""

    __tablename__ = "ticket_history"
    __table_args__ = (sa.Index("idx_ticket_history_ticket_id", "ticket_id"),)
    ticket_id: str = some_text(foreign_key="manual_intervention_tickets.ticket_id")
    at: datetime = moment()
    by: str = some_text()
    what: str = some_text()
    asked_uid: int | None = maybe_big()
    asked_user: str | None = maybe_text()
    login_uid: int | None = maybe_big()
    claimed_by: str | None = maybe_text()


class EvidenceRow(Numbered, ErrorsRow, table=True):
    """All that was to be seen of a service at one moment; `parts` holds containers, logs, probes, events, host."""

    __tablename__ = "evidence_bundles"
    __table_args__ = (
        one_of("occasion", "replacement", "failure"),
        sa.Index("idx_evidence_bundles_error_id", "error_id"),
        sa.Index("idx_evidence_bundles_deployment_id", "deployment_id"),
        sa.Index("idx_evidence_bundles_taken_at", "taken_at"),
    )
    bundle_id: str = some_text(unique=True)
    environment: str = some_text()
    deployment_id: str | None = maybe_text()
    error_id: str | None = maybe_text(foreign_key="deployment_errors.error_id")
    service_name: str = some_text()
    occasion: str = some_text()
    taken_at: datetime = moment()
    reason: str = some_text()
    first_cause: str = some_text()
    cause_service: str = some_text()
    parts: dict[str, Any] | None = json_text()


class RecoveryControl(ErrorsRow, table=True):
    """Automatic recovery is switched off here; an empty environment or service means all of them."""

    __tablename__ = "recovery_controls"
    environment: str = some_text(primary_key=True)
    service_name: str = some_text(primary_key=True)
    until: datetime | None = maybe_moment()
    reason: str = some_text()
    by: str = some_text()
    paused_at: datetime = moment()
    asked_uid: int | None = maybe_big()
    asked_user: str | None = maybe_text()
    login_uid: int | None = maybe_big()
    claimed_by: str | None = maybe_text()


ErrorsDeadLetter = own_table(DeadLetter, ErrorsRow)
ErrorsArchive = own_table(Archive, ErrorsRow)
for _kind in (AuditLog, SpoolPosition, Version):
    own_table(_kind, ErrorsRow)
