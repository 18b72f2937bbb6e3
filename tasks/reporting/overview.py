"""Read every environment at once, by a fixed number of queries however many there are; a plain read, no task run."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime

from adapters.stores import Stores
from core.deployment.desired_state import time_of_stop
from core.reporting.overview import summarise
from core.storage.incidents import OWN_SYSTEM
from models.operations import Operation, OperationStatus, OperationType
from models.overview import EnvironmentRecords, Overview
from tasks.runtime.stores import open_stores, stores_exist

_LOOKED_BACK = 20
"""So many operations say whether an environment is stopped, as for `roas status`."""


def read_overview(environment: str | None = None) -> Overview:
    """Every environment that was operated, or the named one; none where nothing was recorded yet.

    Raises:
        StoreError: The stores cannot be read.
    """
    if not stores_exist():
        return Overview(at=datetime.now(UTC), environments=())
    stores = open_stores()
    now, hosts = stores.hosts.now(), {host.host_id: host.name for host in stores.hosts.all()}
    records = _read_records(stores)
    names = sorted(records) if environment is None else [name for name in (environment,) if name in records]
    summaries = []
    for name in names:
        binding = records[name].binding
        host = hosts.get(binding.host_id, binding.host_id) if binding is not None and len(hosts) > 1 else ""
        summaries.append(summarise(records[name], now, host))
    return Overview(at=now, environments=tuple(summaries), hosts=len(hosts))


def _read_records(stores: Stores) -> dict[str, EnvironmentRecords]:
    latest = stores.operations.newest_recorded()
    running = {operation.environment: operation for operation in stores.operations.list_running()}
    stopped = _read_stops(stores, latest)
    health, beats = stores.health.latest_of_each(), stores.heartbeats.all()
    alerts, tickets = stores.alerts.count_unresolved(), stores.tickets.count_unresolved()
    proven, saved = stores.releases.proven_at(), stores.snapshots.saved_at()
    bindings = stores.hosts.bindings()
    records = {}
    for name in {*latest, *bindings, *health, *alerts, *tickets} - {OWN_SYSTEM}:
        report, collected = health.get(name), beats.get(f"collection/{name}")
        records[name] = EnvironmentRecords(
            environment=name,
            health=report,
            checked_at=None if report is None else max(report.checked_at, collected or report.checked_at),
            stopped_at=stopped.get(name),
            last_operation=latest.get(name),
            running=running.get(name),
            open_tickets=tickets.get(name, 0),
            open_alerts=alerts.get(name, 0),
            proven_at=proven.get(name),
            saved_at=saved.get(name),
            binding=bindings.get(name),
        )
    return records


def _read_stops(stores: Stores, latest: Mapping[str, Operation]) -> dict[str, datetime]:
    """When each environment was stopped that is: where the last operation failed or waits, earlier ones decide."""
    decided = {name: [operation] for name, operation in latest.items() if _decides(operation)}
    undecided = [name for name in latest if name not in decided]
    if undecided:
        decided |= stores.operations.latest_recorded_of_each(_LOOKED_BACK, undecided)
    stops = {name: time_of_stop(operations) for name, operations in decided.items()}
    return {name: stopped_at for name, stopped_at in stops.items() if stopped_at is not None}


def _decides(operation: Operation) -> bool:
    return operation.status in (OperationStatus.SUCCESS, OperationStatus.RUNNING) and (
        operation.operation_type is not OperationType.HEALTH_CHECK
    )
