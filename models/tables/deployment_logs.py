"""deployment_logs.db: operations on environments, and their results."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import registry
from sqlmodel import SQLModel

from models.tables.columns import (
    big,
    json_text,
    key_number,
    maybe_big,
    maybe_moment,
    maybe_number,
    maybe_text,
    moment,
    moment_now,
    one_of,
    real,
    some_text,
    truth,
)
from models.tables.shared import Archive, AuditLog, DeadLetter, Numbered, SpoolPosition, Version, own_table


class DeploymentLogsRow(SQLModel, registry=registry()):
    """A row of deployment_logs.db."""


class DeploymentOperation(Numbered, DeploymentLogsRow, table=True):
    """A deployment operation. `duration_ms` is in milliseconds."""

    __tablename__ = "deployment_operations"
    __table_args__ = (
        one_of("status", "pending", "running", "success", "failed"),
        one_of("operation_type", "start", "stop", "restart", "health_check"),
        sa.Index("idx_deployment_id", "deployment_id"),
        sa.Index("idx_operation_type", "operation_type"),
        sa.Index("idx_status", "status"),
        sa.Index("idx_start_time", "start_time"),
        sa.Index("idx_deployment_operations_environment", "environment", "start_time", "status"),
        # The order in which they were recorded, which no host's clock decides.
        sa.Index("idx_deployment_operations_recorded", "environment", "id"),
    )
    deployment_id: str = some_text(unique=True)
    operation_type: str = some_text()
    environment: str = some_text()
    status: str = some_text()
    start_time: datetime | None = moment_now()
    end_time: datetime | None = maybe_moment()
    duration_ms: int | None = maybe_number()
    user_agent: str | None = maybe_text()
    details: dict[str, Any] | None = json_text(name="metadata")
    asked_uid: int | None = maybe_big()
    asked_user: str | None = maybe_text()
    login_uid: int | None = maybe_big()
    claimed_by: str | None = maybe_text()
    host_id: str | None = maybe_text()


class ServiceStateChange(Numbered, DeploymentLogsRow, table=True):
    """A service went from one state to another."""

    __tablename__ = "service_state_changes"
    __table_args__ = (
        sa.Index("idx_service_name", "service_name"),
        sa.Index("idx_change_time", "change_time"),
        sa.Index("idx_service_state_changes_deployment_id", "deployment_id"),
    )
    deployment_id: str = some_text(foreign_key="deployment_operations.deployment_id")
    service_name: str = some_text()
    previous_state: str | None = maybe_text()
    new_state: str = some_text()
    change_time: datetime | None = moment_now()
    change_reason: str | None = maybe_text()
    details: dict[str, Any] | None = json_text(name="metadata")


class EnvironmentValidation(Numbered, DeploymentLogsRow, table=True):
    """What validation found before anything was touched."""

    __tablename__ = "environment_validations"
    __table_args__ = (sa.Index("idx_environment_validations_deployment_id", "deployment_id"),)
    deployment_id: str = some_text(foreign_key="deployment_operations.deployment_id")
    validation_time: datetime | None = moment_now()
    overall_result: bool = truth()
    failed_checks: list[Any] | None = json_text()
    validation_details: dict[str, Any] | None = json_text()
    recommendations: list[Any] | None = json_text()


class OperationStepRow(Numbered, DeploymentLogsRow, table=True):
    """A step of an operation that is done. `service` is empty where the step is of the whole operation."""

    __tablename__ = "operation_steps"
    __table_args__ = (sa.UniqueConstraint("deployment_id", "step", "service"),)
    deployment_id: str = some_text(foreign_key="deployment_operations.deployment_id")
    step: str = some_text()
    # Not NULL: to SQL two NULLs differ, so the same step could be there twice.
    service: str = some_text()
    finished_at: datetime = moment()
    detail: str | None = maybe_text()


class ReleaseRow(Numbered, DeploymentLogsRow, table=True):
    """What ran in an environment: Compose application, images, hashes of configuration, files and variables."""

    __tablename__ = "releases"
    __table_args__ = (sa.Index("idx_releases_environment", "environment", "created_at"),)
    release_id: str = some_text(unique=True)
    environment: str = some_text()
    deployment_id: str = some_text()
    created_at: datetime = moment()
    compose: dict[str, Any] | None = json_text()
    digests: dict[str, Any] | None = json_text()
    hashes: dict[str, Any] | None = json_text()
    proven: bool = truth(default=False)
    images: dict[str, Any] | None = json_text()
    files: dict[str, Any] | None = json_text()
    variables: dict[str, Any] | None = json_text()
    reason: str | None = maybe_text()


class SnapshotRow(Numbered, DeploymentLogsRow, table=True):
    """A snapshot of an environment's data: whole, or begun or failed and then never offered."""

    __tablename__ = "snapshots"
    __table_args__ = (
        one_of("state", "begun", "whole", "failed"),
        sa.Index("idx_snapshots_environment", "environment", "begun_at"),
    )
    snapshot_id: str = some_text(unique=True)
    environment: str = some_text()
    deployment_id: str | None = maybe_text()
    release_id: str | None = maybe_text()
    begun_at: datetime = moment()
    ended_at: datetime | None = maybe_moment()
    state: str = some_text()
    reason: str = some_text()
    parts: list[Any] | None = json_text()
    problem: str | None = maybe_text()
    rehearsed_at: datetime | None = maybe_moment()
    rehearsal: dict[str, Any] | None = json_text()
    restoring: str | None = maybe_text()


class ScheduledRunRow(Numbered, DeploymentLogsRow, table=True):
    """A run of a schedule, or that one did not begin; there is one of each moment at which it is due."""

    __tablename__ = "scheduled_runs"
    __table_args__ = (
        one_of("state", "declared", "running", "succeeded", "failed", "idle", "skipped", "missed"),
        sa.UniqueConstraint("environment", "schedule", "due_at"),
    )
    run_id: str = some_text(unique=True)
    environment: str = some_text()
    schedule: str = some_text()
    due_at: datetime = moment()
    at: str = some_text()
    state: str = some_text()
    began_at: datetime | None = maybe_moment()
    ended_at: datetime | None = maybe_moment()
    attempts: int | None = maybe_number()
    text: str | None = maybe_text()
    evidence: str | None = maybe_text()
    flow_run_id: str | None = maybe_text()
    host_id: str | None = maybe_text()
    runner: dict[str, Any] | None = json_text()


class EnvironmentLease(DeploymentLogsRow, table=True):
    """Who may change an environment now."""

    __tablename__ = "environment_leases"
    environment: str = some_text(primary_key=True)
    owner: str = some_text()
    reason: str = some_text()
    acquired_at: datetime = moment()
    expires_at: datetime = moment()
    runner: dict[str, Any] | None = json_text()
    host_id: str | None = maybe_text()


class HostRow(DeploymentLogsRow, table=True):
    """A host that operates environments; its times are of the database's clock."""

    __tablename__ = "hosts"
    host_id: str = some_text(primary_key=True)
    name: str = some_text()
    version: str = some_text()
    engine: str = some_text()
    first_contact: datetime = moment()
    last_contact: datetime = moment()
    clock_skew_seconds: float = real()
    backlog: int = big()
    silent_since: datetime | None = maybe_moment()
    skewed_since: datetime | None = maybe_moment()
    dismissed_at: datetime | None = maybe_moment()


class EnvironmentHost(DeploymentLogsRow, table=True):
    """The host that an environment belongs to."""

    __tablename__ = "environment_hosts"
    __table_args__ = (sa.Index("idx_environment_hosts_host", "host_id"),)
    environment: str = some_text(primary_key=True)
    host_id: str = some_text()
    since: datetime = moment()


class CrossStoreIntent(DeploymentLogsRow, table=True):
    """A transaction over several stores, complete enough to be done again after a crash."""

    __tablename__ = "cross_store_intents"
    seq: int = key_number()
    statements: Any = json_text()


DeploymentLogsDeadLetter = own_table(DeadLetter, DeploymentLogsRow)
DeploymentLogsArchive = own_table(Archive, DeploymentLogsRow)
for _kind in (AuditLog, SpoolPosition, Version):
    own_table(_kind, DeploymentLogsRow)
