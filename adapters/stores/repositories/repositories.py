"""The repositories of the three stores, by subject."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import TYPE_CHECKING, Any

from adapters.stores.database import Transacting

if TYPE_CHECKING:
    from adapters.stores.repositories.errors import Errors, EvidenceBundles, Patterns
    from adapters.stores.repositories.evaluations import (
        Alerts,
        Baselines,
        Dependencies,
        Evaluations,
        Heartbeats,
        Reports,
    )
    from adapters.stores.repositories.health import HealthHistory
    from adapters.stores.repositories.hosts import Hosts
    from adapters.stores.repositories.metrics import Metrics
    from adapters.stores.repositories.operations import Leases, Operations
    from adapters.stores.repositories.progress import OperationProgress, Releases
    from adapters.stores.repositories.recoveries import Pauses, Recoveries
    from adapters.stores.repositories.scheduled_runs import ScheduledRuns
    from adapters.stores.repositories.snapshots import Snapshots
    from adapters.stores.repositories.tickets import ErrorNotifications, Tickets

_PLACES = {
    "operations": ("deployment_logs", "operations", "Operations"),
    "progress": ("deployment_logs", "progress", "OperationProgress"),
    "leases": ("deployment_logs", "operations", "Leases"),
    "hosts": ("deployment_logs", "hosts", "Hosts"),
    "releases": ("deployment_logs", "progress", "Releases"),
    "snapshots": ("deployment_logs", "snapshots", "Snapshots"),
    "scheduled_runs": ("deployment_logs", "scheduled_runs", "ScheduledRuns"),
    "health": ("monitoring", "health", "HealthHistory"),
    "metrics": ("monitoring", "metrics", "Metrics"),
    "baselines": ("monitoring", "evaluations", "Baselines"),
    "dependencies": ("monitoring", "evaluations", "Dependencies"),
    "alerts": ("monitoring", "evaluations", "Alerts"),
    "evaluations": ("monitoring", "evaluations", "Evaluations"),
    "heartbeats": ("monitoring", "evaluations", "Heartbeats"),
    "reports": ("monitoring", "evaluations", "Reports"),
    "patterns": ("errors", "errors", "Patterns"),
    "errors": ("errors", "errors", "Errors"),
    "error_notifications": ("errors", "tickets", "ErrorNotifications"),
    "recoveries": ("errors", "recoveries", "Recoveries"),
    "tickets": ("errors", "tickets", "Tickets"),
    "evidence": ("errors", "errors", "EvidenceBundles"),
    "pauses": ("errors", "recoveries", "Pauses"),
}
"""Store, module and class of each repository."""


class Repositories:
    """One repository a subject. Their methods raise StoreError where the store fails.

    A repository is imported at its first use, with its tables: a command that reads one store maps no other.
    """

    operations: Operations
    progress: OperationProgress
    leases: Leases
    hosts: Hosts
    releases: Releases
    snapshots: Snapshots
    scheduled_runs: ScheduledRuns
    health: HealthHistory
    metrics: Metrics
    baselines: Baselines
    dependencies: Dependencies
    alerts: Alerts
    evaluations: Evaluations
    heartbeats: Heartbeats
    reports: Reports
    patterns: Patterns
    errors: Errors
    error_notifications: ErrorNotifications
    recoveries: Recoveries
    tickets: Tickets
    evidence: EvidenceBundles
    pauses: Pauses

    def __init__(self, databases: Mapping[str, Transacting]) -> None:
        self.databases = databases

    def __getattr__(self, name: str) -> Any:
        if name not in _PLACES:
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
        store, module, kind = _PLACES[name]
        made = getattr(import_module(f"adapters.stores.repositories.{module}"), kind)(self.databases[store])
        setattr(self, name, made)
        return made


def import_repositories() -> None:
    """Import every repository now, so that none is imported at its first use."""
    for _, module, _ in _PLACES.values():
        import_module(f"adapters.stores.repositories.{module}")
