"""Prometheus metrics of updates: how they ended, from the operations on record."""

from __future__ import annotations

import json
from collections.abc import Iterable
from itertools import product

import sqlalchemy as sa
from prometheus_client.core import Metric

from adapters.prometheus import metric_families as families
from adapters.prometheus.metric_families import Count, RowCounter
from adapters.stores.repositories.repositories import Repositories
from adapters.stores.sql import table
from models.maintenance import MAINTAINED_BY
from models.operations import INTERRUPTION_SECONDS, OperationStatus
from models.operations.record import NOTHING_TOUCHED
from models.tables.deployment_logs import DeploymentOperation, ServiceStateChange

_SUCCESS, _ROLLED_BACK, _REFUSED, _FAILED, _NONE = "success", "rolled_back", "refused", "failed", "none"
_ENDS, _LABELS = (_SUCCESS, _FAILED), ("environment", "result")
_RESULTS = (_SUCCESS, _ROLLED_BACK, _REFUSED, _FAILED)

_operations = table(DeploymentOperation)
_changes = table(ServiceStateChange)
_INTERRUPTIONS = (
    sa.select(_operations.c.environment, _changes.c.service_name, _changes.c.metadata)
    .join(_operations, _operations.c.deployment_id == _changes.c.deployment_id)
    .where(sa.type_coerce(_changes.c.metadata, sa.Text).contains(f'"{INTERRUPTION_SECONDS}":', autoescape=True))
    .order_by(_changes.c.id)
)


class UpdateFigures:
    """Metrics of updates, drills, rotations and maintenance, with counters kept between scrapes. Not thread-safe."""

    def __init__(self) -> None:
        self._interruptions: dict[tuple[str, str], float] = {}
        self._seen_change = 0
        self._ended = RowCounter(
            _operations,
            _operations.c.id,
            kinds=[_operations.c.environment, _result()],
            unfinished=_operations.c.status.in_([OperationStatus.PENDING.value, OperationStatus.RUNNING.value]),
        )

    def catch_up(self, connection: sa.Connection) -> None:
        """Count what ended since the last call, and note the latest interruption of each service."""
        self._ended.catch_up(connection)
        last = connection.scalar(sa.select(sa.func.max(_changes.c.id))) or 0
        if last < self._seen_change:
            # The store was created again.
            self._interruptions, self._seen_change = {}, 0
        new = connection.execute(_INTERRUPTIONS.where(_changes.c.id > self._seen_change, _changes.c.id <= last))
        interruptions = ((tuple(names), details.get(INTERRUPTION_SECONDS)) for *names, details in new)
        self._interruptions |= {names: float(value) for names, value in interruptions if isinstance(value, int | float)}
        self._seen_change = last

    def families(self, stores: Repositories, names: Iterable[str]) -> list[Metric]:
        """The metrics of these environments. Raises StoreError if the stores cannot be read."""
        names, counts = sorted(names), self._ended.counts
        ended = ((kind, (counts.get(kind) or Count()).rows) for kind in product(names, _RESULTS))
        failed: dict[str, set[str]] = {}
        for release in stores.releases.list_failed():
            failed.setdefault(release.environment, set()).update(release.digests.values())
        held_back = (((name,), len(failed.get(name, ()))) for name in names)
        drills, rotations, maintained = (
            [
                (labels, (counts.get((labels[0], f"{kind} {labels[1]}")) or Count()).rows)
                for labels in product(names, _ENDS)
            ]
            for kind in ("drill", "rotation", "maintenance")
        )
        refused = (((name,), (counts.get((name, _REFUSED)) or Count()).rows) for name in names)
        return [
            families.counter("roas_updates", "Updates that ended.", *_LABELS, samples=ended),
            families.counter(
                "roas_drills", "Drills that ended; success: it met all objectives.", *_LABELS, samples=drills
            ),
            families.counter("roas_rotations", "Rotations of passwords that ended.", *_LABELS, samples=rotations),
            families.counter(
                "roas_maintenances", "Restarts at the end of a maintenance of the host.", *_LABELS, samples=maintained
            ),
            families.counter(
                "roas_gate_refusals", "Updates that the environment's gate refused.", "environment", samples=refused
            ),
            families.gauge(
                "roas_images_held_back",
                "Images that no update takes because they failed.",
                "environment",
                samples=held_back,
            ),
            families.gauge(
                "roas_service_interruption_seconds",
                "How long a service did not serve in its latest interruption by an operation.",
                *("environment", "service"),
                samples=sorted(self._interruptions.items()),
            ),
        ]


def _result() -> sa.ColumnElement[str]:
    """How an update ended, or what else did."""
    return sa.case(
        (sa.not_(_details_have("flow", "update") | _details_have("flow", "sync")), _other()),
        (_operations.c.status == OperationStatus.SUCCESS.value, _SUCCESS),
        (_details_have("error", "GateRefusedError"), _REFUSED),
        (_details_have("undone") & sa.not_(_details_have("undone", NOTHING_TOUCHED)), _ROLLED_BACK),
        else_=_FAILED,
    )


def _other() -> sa.ColumnElement[str]:
    """What ended how, of drills that began, rotations and maintenance; "none" of others."""
    is_drill, is_rotation = _details_have("flow", "drill"), _details_have("flow", "rotate-secret")
    is_maintained = _details_have("flow", "restart") & _operations.c.user_agent.startswith(f"{MAINTAINED_BY}-")
    return sa.case(
        (is_drill & _details_have("passed", True), f"drill {_SUCCESS}"),
        (is_drill & _details_have("passed", False), f"drill {_FAILED}"),
        (is_rotation & (_operations.c.status == OperationStatus.SUCCESS.value), f"rotation {_SUCCESS}"),
        (is_rotation, f"rotation {_FAILED}"),
        (is_maintained & (_operations.c.status == OperationStatus.SUCCESS.value), f"maintenance {_SUCCESS}"),
        (is_maintained, f"maintenance {_FAILED}"),
        else_=_NONE,
    )


def _details_have(key: str, value: str | bool | None = None) -> sa.ColumnElement[bool]:
    """Whether the details have a key; quotes in texts are escaped, so no text looks like one."""
    fragment = f'"{key}":' if value is None else f'"{key}":{json.dumps(value)}'
    return sa.func.coalesce(sa.type_coerce(_operations.c.metadata, sa.Text), "").contains(fragment, autoescape=True)
