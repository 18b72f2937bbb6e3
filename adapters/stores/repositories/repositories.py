"""The repositories of the three stores, by subject."""

from __future__ import annotations

from collections.abc import Mapping

from adapters.stores.database import Transacting
from adapters.stores.repositories.errors import Errors, EvidenceBundles, Patterns
from adapters.stores.repositories.evaluations import Alerts, Baselines, Dependencies, Evaluations, Heartbeats, Reports
from adapters.stores.repositories.health import HealthHistory
from adapters.stores.repositories.metrics import Metrics
from adapters.stores.repositories.operations import Leases, Operations
from adapters.stores.repositories.progress import OperationProgress, Releases
from adapters.stores.repositories.recoveries import Pauses, Recoveries
from adapters.stores.repositories.tickets import ErrorNotifications, Tickets


class Repositories:
    """One repository a subject. Their methods raise StoreError where the store fails."""

    def __init__(self, databases: Mapping[str, Transacting]) -> None:
        self.databases = databases
        deployment_logs, monitoring, errors = (databases[name] for name in ("deployment_logs", "monitoring", "errors"))
        self.operations = Operations(deployment_logs)
        self.progress = OperationProgress(deployment_logs)
        self.leases = Leases(deployment_logs)
        self.releases = Releases(deployment_logs)
        self.health = HealthHistory(monitoring)
        self.metrics = Metrics(monitoring)
        self.baselines = Baselines(monitoring)
        self.dependencies = Dependencies(monitoring)
        self.alerts = Alerts(monitoring)
        self.evaluations = Evaluations(monitoring)
        self.heartbeats = Heartbeats(monitoring)
        self.reports = Reports(monitoring)
        self.patterns = Patterns(errors)
        self.errors = Errors(errors)
        self.error_notifications = ErrorNotifications(errors)
        self.recoveries = Recoveries(errors)
        self.tickets = Tickets(errors)
        self.evidence = EvidenceBundles(errors)
        self.pauses = Pauses(errors)
