"""The flows by the names a person types."""

from __future__ import annotations

from typing import Any

from prefect import Flow

from flows.deployment.drift import drift
from flows.deployment.preview import preview
from flows.deployment.restart import restart
from flows.deployment.rollback import rollback
from flows.deployment.rotate import rotate_secret
from flows.deployment.startup import startup
from flows.deployment.stop import stop
from flows.deployment.sync import sync
from flows.deployment.update import update
from flows.monitoring.collection import collection
from flows.monitoring.health_check import health_check
from flows.recovery.drill import drill
from flows.recovery.error_recovery import error_recovery
from flows.reporting.report import report
from flows.schedules.scheduled import scheduled
from flows.storage.lifecycle import lifecycle
from flows.storage.rehearse import rehearse
from flows.storage.restore import restore
from flows.storage.snapshot import snapshot
from flows.update.rehearsal import rehearse_update

FLOWS: dict[str, Flow[..., Any]] = {
    "start": startup,
    "stop": stop,
    "restart": restart,
    "rollback": rollback,
    "rotate": rotate_secret,
    "update": update,
    "rehearse-update": rehearse_update,
    "sync": sync,
    "snapshot": snapshot,
    "preview": preview,
    "restore": restore,
    "rehearse": rehearse,
    "health": health_check,
    "drift": drift,
    "collect": collection,
    "drill": drill,
    "recover": error_recovery,
    "report": report,
    "schedule": scheduled,
    "lifecycle": lifecycle,
}
