"""The flows by the names a person types."""

from __future__ import annotations

from typing import Any

from prefect import Flow

from flows.collection import collection
from flows.drift import drift
from flows.error_recovery import error_recovery
from flows.health_check import health_check
from flows.lifecycle import lifecycle
from flows.monitoring import monitoring
from flows.report import report
from flows.restart import restart
from flows.rollback import rollback
from flows.startup import startup
from flows.stop import stop
from flows.watch import watch

FLOWS: dict[str, Flow[..., Any]] = {
    "start": startup,
    "stop": stop,
    "restart": restart,
    "rollback": rollback,
    "health": health_check,
    "drift": drift,
    "collect": collection,
    "monitor": monitoring,
    "watch": watch,
    "recover": error_recovery,
    "report": report,
    "lifecycle": lifecycle,
}
