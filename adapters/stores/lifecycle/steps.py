"""The life cycle of records: compress, clean up, archive, optimise, vacuum.

Each step can be repeated and interrupted anywhere: a row is deleted only in the transaction that also notes
the archive it is in, after that archive was read back. Every transaction is short, so writers hardly wait. Each raises
StoreFullError where the disk has no room for archives, and StoreError where a store or an archive failed: finished
chunks stay done, and repeating is safe.
"""

# ruff: noqa: S608 - the statements are made of names and times of ours, never of what a person typed

from __future__ import annotations

import time
from datetime import datetime

from adapters.stores.lifecycle.run import LifecycleRun, Partition, archive_rows, sql_time
from adapters.stores.lifecycle.samples import DAY_MS, HOUR_MS, archive_samples, day_sums, drop_sums, hour_sums, sum_up
from adapters.stores.repositories.metrics import to_ms
from adapters.stores.stores import Stores
from core.storage.retention import Cutoffs, cutoffs
from models.failures import StoreCorruptError
from models.scheduled_runs import RUNS_SHOWN
from models.storage import LifecycleStep, RetentionPolicy

_LATE = 2 * HOUR_MS
"""An hour is summed up once it is over for this long; what comes later is added before its samples go."""

_DATED = (
    ("probe_results", "checked_at"),
    ("service_health_scores", "timestamp"),
    ("deployment_health_history", "timestamp"),
    ("alerts", "resolved_at"),
    ("predictions", "scored_at"),
    ("reports", "made_at"),
    ("dead_letters", "buried_at"),
)
"""Rows of monitoring, and what tells when they are over; those that come by the thousand first."""

_MANY = 3


def compress_monitoring(
    stores: Stores, now: datetime, policy: RetentionPolicy | None = None, dry_run: bool = False
) -> LifecycleStep:
    """Sum up closed hours and days; archive and delete old rows, and the oldest samples over the budget."""
    with LifecycleRun("compress monitoring", stores, "monitoring", policy or RetentionPolicy(), dry_run) as run:
        limits = cutoffs(run.policy, now)
        sum_up(run, to_ms(now) - _LATE)
        archive_samples(run, to_ms(limits.monitoring), to_ms(limits.over_budget))
        at_once = run.policy.chunk_rows // 4
        for row, moment in _DATED:
            where = f"{moment} < {sql_time(limits.monitoring)}"
            archive_rows(run, row, where, rows_at_once=at_once)
        drop_sums(run, hour_sums, to_ms(limits.hours), 6 * HOUR_MS)
        drop_sums(run, day_sums, to_ms(limits.days), 6 * DAY_MS)
        for row, moment in _DATED[:_MANY]:
            where = f"{moment} < {sql_time(limits.over_budget)}"
            archive_rows(run, row, where, rows_at_once=at_once, only_over_budget=True)
        # Their days stay, and the samples themselves are in archives.
        drop_sums(run, hour_sums, to_ms(limits.over_budget), 6 * HOUR_MS, only_over_budget=True)
    return run.result()


def clean_errors(
    stores: Stores, now: datetime, policy: RetentionPolicy | None = None, dry_run: bool = False
) -> LifecycleStep:
    """Archive and delete errors that were resolved long ago, with all that belongs to them.

    Unresolved errors stay for ever, and so do errors with an open ticket. Evidence that no error
    owns leaves at the same age.
    """
    with LifecycleRun("clean errors", stores, "errors", policy or RetentionPolicy(), dry_run) as run:
        limits = cutoffs(run.policy, now)
        before = sql_time(limits.errors)
        nobody_works_on_it = (
            "NOT EXISTS (SELECT 1 FROM manual_intervention_tickets t "
            "WHERE t.error_id = deployment_errors.error_id AND t.state <> 'resolved')"
        )
        where = f"resolved_at < {before} AND {nobody_works_on_it}"

        def belongings(owners: str) -> list[Partition]:
            of_errors = f"error_id IN (SELECT error_id FROM deployment_errors WHERE {owners})"
            tickets = f"SELECT ticket_id FROM manual_intervention_tickets WHERE {of_errors}"
            return [
                Partition("error_impact_analysis", of_errors),
                Partition("auto_recovery_executions", of_errors),
                Partition("evidence_bundles", of_errors),
                Partition("ticket_history", f"ticket_id IN ({tickets})"),
                Partition("manual_intervention_tickets", of_errors),
            ]

        archive_rows(run, "deployment_errors", where, belongings)
        # Taken before a replacement that went well, so no error owns it.
        unowned = "error_id IS NULL AND taken_at < "
        archive_rows(run, "evidence_bundles", f"{unowned}{before}")
        _archive_dead_letters(run, limits)
        early = sql_time(limits.over_budget)
        archive_rows(run, "evidence_bundles", f"{unowned}{early}", only_over_budget=True)
        where = f"resolved_at < {early} AND {nobody_works_on_it}"
        archive_rows(run, "deployment_errors", where, belongings, only_over_budget=True)
    return run.result()


def archive_deployments(
    stores: Stores, now: datetime, policy: RetentionPolicy | None = None, dry_run: bool = False
) -> LifecycleStep:
    """Archive and delete old operations with their state changes, validations and steps.

    Failed ones stay longer than successful ones, and the last success of each kind and environment stays. Of
    the releases the latest stay, the last that was proven, each that an operation still names, and each whose images
    are held back.
    """
    with LifecycleRun("archive deployments", stores, "deployment_logs", policy or RetentionPolicy(), dry_run) as run:
        limits = cutoffs(run.policy, now)
        a_newer_success = (
            "EXISTS (SELECT 1 FROM deployment_operations n "
            "WHERE n.environment = deployment_operations.environment AND n.status = 'success' "
            "AND n.operation_type = deployment_operations.operation_type "
            "AND n.start_time > deployment_operations.start_time)"
        )

        def success_condition(before: datetime) -> str:
            return f"(status = 'success' AND start_time < {sql_time(before)} AND {a_newer_success})"

        def failure_condition(before: datetime) -> str:
            return f"(status = 'failed' AND start_time < {sql_time(before)})"

        where = f"({success_condition(limits.deployments)} OR {failure_condition(limits.failed_deployments)})"

        def belongings(owners: str) -> list[Partition]:
            of_them = f"deployment_id IN (SELECT deployment_id FROM deployment_operations WHERE {owners})"
            return [
                Partition("service_state_changes", of_them),
                Partition("environment_validations", of_them),
                Partition("operation_steps", of_them),
            ]

        archive_rows(run, "deployment_operations", where, belongings)
        archive_rows(run, "releases", _old_releases(run.policy))
        archive_rows(run, "scheduled_runs", _old_runs(limits.deployments))
        _archive_dead_letters(run, limits)
        for where in (success_condition(limits.over_budget), failure_condition(limits.over_budget)):
            archive_rows(run, "deployment_operations", where, belongings, only_over_budget=True)
    return run.result()


def optimise(
    stores: Stores, now: datetime, policy: RetentionPolicy | None = None, dry_run: bool = False
) -> LifecycleStep:
    """Check every store, refresh what its indexes know about their rows, and empty its log into the file.

    Raises:
        StoreCorruptError: A store is damaged; its next opening sets it aside.
        StoreError: A store failed.
    """
    notes = []
    for name, database in stores.databases.items():
        faults = database.faults()
        if faults:
            raise StoreCorruptError(
                f"Store {name} ({database.place}) has faults: {'; '.join(faults)};",
                advice="stop the system and restore the last backup with `roas restore`.",
            )
        if not dry_run:
            database.analyse()
        notes.append(f"{name} is intact")
    return LifecycleStep(name="optimise", dry_run=dry_run, notes=tuple(notes))


def vacuum(
    stores: Stores, now: datetime, policy: RetentionPolicy | None = None, dry_run: bool = False
) -> LifecycleStep:
    """Give free space back to the disk, where there is enough of it to pay."""
    policy = policy or RetentionPolicy()
    deadline = time.monotonic() + policy.step_time.total_seconds()
    before = after = 0
    notes = []
    for database in stores.databases.values():
        before += database.use().file_bytes
        file_bytes, remark = database.give_back(policy, deadline, dry_run=dry_run)
        after += file_bytes
        if remark:
            notes.append(remark)
    return LifecycleStep(
        name="vacuum",
        dry_run=dry_run,
        bytes_before=before,
        bytes_after=after,
        complete=time.monotonic() < deadline,
        notes=tuple(notes),
    )


def _old_runs(before: datetime) -> str:
    """Old runs of schedules, but the latest of each that its next ones are compared with, and shown."""
    latest = (
        "SELECT id FROM (SELECT id, row_number() OVER (PARTITION BY environment, schedule ORDER BY due_at DESC) "
        f"AS place FROM scheduled_runs) AS ranked WHERE place <= {RUNS_SHOWN}"
    )
    return f"due_at < {sql_time(before)} AND id NOT IN ({latest})"


def _old_releases(policy: RetentionPolicy) -> str:
    latest = (
        "SELECT id FROM (SELECT id, row_number() OVER (PARTITION BY environment ORDER BY created_at DESC, id DESC) "
        "AS place FROM releases {which}) AS ranked WHERE place <= {number}"
    )
    # Its id where the details of an operation name it: the release it made, or one it went back to.
    named = (
        "SELECT 1 FROM deployment_operations o WHERE o.environment = releases.environment AND "
        "(o.deployment_id = releases.deployment_id OR replace(o.metadata, releases.release_id, '') <> o.metadata)"
    )
    return (
        f"id NOT IN ({latest.format(which='', number=policy.releases)}) "
        f"AND id NOT IN ({latest.format(which='WHERE proven', number=1)}) AND NOT EXISTS ({named}) "
        # An update takes these images again once a user lifts that, not because time has passed.
        "AND (proven OR digests IS NULL OR digests IN ('{}', 'null'))"
    )


def _archive_dead_letters(run: LifecycleRun, limits: Cutoffs) -> None:
    archive_rows(run, "dead_letters", f"buried_at < {sql_time(limits.monitoring)}")
