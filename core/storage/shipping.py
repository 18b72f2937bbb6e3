"""Which rows of a host's stores its control plane has too, and what names each of them there.

A host sends a row as it stands, again and again: what names it, and the host that it belongs to, decide which row of
the control plane it becomes. The reasons are in docs/adr/0110-ship-to-the-control-plane.md.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from core.storage.audit import entry_hash
from models.audit import AuditEntry


@dataclass(frozen=True, slots=True, kw_only=True)
class Shipped:
    """How the rows of one table are shipped.

    `key` names a row in both places; without one a row is added once and never changes, and its content names it.
    `ids` are the columns whose values belong to one host alone, those of the rows that it hangs on among them.
    """

    key: tuple[str, ...] = ()
    ids: tuple[str, ...] = ()
    environment: str | None = "environment"
    """The column that says whose it is; None where the row that it hangs on does."""
    left_out: frozenset[str] = frozenset({"id"})
    ends: bool = False
    """Whether a row that is deleted is deleted there, too: what holds only while the row is there."""
    ended: str | None = None
    """The column that is filled once a row has ended: of rows that exclude each other these go first."""


def _only_added(*ids: str, environment: str | None = "environment") -> Shipped:
    return Shipped(ids=ids, environment=environment)


_SEALED = frozenset({"id", "files", "variables"})
"""Mounted files and values of a release are sealed for the host that keeps the key."""

SHIPPED: Mapping[str, Mapping[str, Shipped]] = {
    "deployment_logs": {
        "deployment_operations": Shipped(key=("deployment_id",), ids=("deployment_id",)),
        "environment_validations": _only_added("deployment_id", environment=None),
        "operation_steps": Shipped(key=("deployment_id", "step", "service"), ids=("deployment_id",), environment=None),
        "releases": Shipped(key=("release_id",), ids=("release_id", "deployment_id"), left_out=_SEALED),
        "scheduled_runs": Shipped(key=("environment", "schedule", "due_at"), ids=("run_id",)),
        "service_state_changes": _only_added("deployment_id", environment=None),
        "snapshots": Shipped(key=("snapshot_id",), ids=("snapshot_id",)),
        "environment_leases": Shipped(key=("environment",), ends=True, left_out=frozenset()),
    },
    "monitoring": {
        "alerts": Shipped(key=("alert_id",), ids=("alert_id",)),
        "deployment_health_history": _only_added(),
        "service_dependencies": Shipped(key=("service_name", "depends_on_service")),
        "performance_baselines": Shipped(key=("service_name", "metric_name")),
        "predictions": Shipped(key=("prediction_id",), ids=("prediction_id",)),
        "probe_results": _only_added(),
        "reports": _only_added(),
        "service_health_scores": _only_added(),
        "metric_samples": Shipped(key=("ts", "series"), left_out=frozenset()),
        "metric_hours": Shipped(key=("bucket", "series"), left_out=frozenset()),
        "metric_days": Shipped(key=("bucket", "series"), left_out=frozenset()),
    },
    "errors": {
        "deployment_errors": Shipped(key=("error_id",), ids=("error_id",), ended="resolved_at"),
        "error_impact_analysis": _only_added("error_id", environment=None),
        "auto_recovery_executions": Shipped(key=("attempt_id",), ids=("attempt_id", "error_id"), environment=None),
        "evidence_bundles": Shipped(key=("bundle_id",), ids=("bundle_id", "error_id")),
        "manual_intervention_tickets": Shipped(key=("ticket_id",), ids=("ticket_id", "error_id"), ended="resolved_at"),
        "ticket_history": _only_added("ticket_id", environment=None),
        "recovery_controls": Shipped(key=("environment", "service_name"), ends=True, left_out=frozenset()),
    },
}
"""By store and table, those that others hang on first. The audit logs go along, and are followed entry by entry."""

AUDITED = ("deployment_logs", "errors")
"""The stores that have an audit log."""

OF_SERIES = frozenset({"metric_samples", "metric_hours", "metric_days"})
"""Tables whose rows name a series by the number that their own store gave it."""

FIRST_THINNED = ("metric_samples", "probe_results", "service_health_scores", "deployment_health_history")
"""What is left out first where more waits than may: each row of them is one of many. The rest is never left out."""


def ids_in(shipped: Shipped, rows: Iterable[Mapping[str, Any]]) -> Iterator[tuple[str, str]]:
    """The ids in rows that must belong to who sends them, each with its column."""
    for row in rows:
        for column in shipped.ids:
            if isinstance(row.get(column), str):
                yield column, row[column]


def environment_of(table: str, shipped: Shipped, row: Mapping[str, Any]) -> str | None:
    """The environment that a row speaks of; None where only the row that it hangs on says so.

    Raises:
        ValueError: It names none, or has an id that PostgreSQL would make text of after it was checked.
    """
    if not all(isinstance(row.get(column), str | None) for column in shipped.ids):
        raise ValueError(f"a row of {table} has an id that is no text")
    if shipped.environment is None:
        return None
    environment = row.get(shipped.environment)
    if table in _BY_SERVICE:
        named, _, service = str(row.get("service_name", "")).partition("/")
        # Rows of earlier versions have it only in front of the service.
        environment = environment if environment is not None else named
        if not service or named != environment:
            raise ValueError(f"a row of {table} names two environments")
    if not isinstance(environment, str) or not environment:
        raise ValueError(f"a row of {table} names no environment")
    return environment


_BY_SERVICE = frozenset({"service_dependencies", "performance_baselines"})
"""Tables whose `service_name` is ENVIRONMENT/SERVICE."""

Head = tuple[int, str]
"""Number and hash of an entry of an audit log that is known."""


def follow(head: Head, entries: Sequence[AuditEntry]) -> tuple[Sequence[AuditEntry], str | None]:
    """The entries that go on after a known one of an audit log, and why the rest does not."""
    seq, last = head
    for number, entry in enumerate(entries):
        if entry.seq != seq + 1:
            return entries[:number], f"entry {entry.seq} comes where {seq + 1} should"
        if entry.previous_hash != last:
            return entries[:number], f"entry {entry.seq} does not follow the entry {seq} that was sent before"
        if entry_hash(entry) != entry.hash:
            return entries[:number], f"entry {entry.seq} has a hash that is not of what it says"
        seq, last = entry.seq, entry.hash
    return entries, None
