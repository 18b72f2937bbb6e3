"""Prometheus metrics of updates: how they ended, from the operations on record."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import product

import sqlalchemy as sa
from prometheus_client.core import Metric

from adapters.prometheus import metric_families as families
from adapters.prometheus.metric_families import Count, RowCounter
from adapters.stores.repositories.repositories import Repositories
from adapters.stores.sql import table
from models.operations import OperationStatus
from models.snapshots import SnapshotState
from models.tables.deployment_logs import DeploymentOperation

_SUCCESS, _ROLLED_BACK, _REFUSED, _FAILED, _NONE = "success", "rolled_back", "refused", "failed", "none"
_RESULTS = (_SUCCESS, _ROLLED_BACK, _REFUSED, _FAILED)

_NOTHING_DONE = "no container was touched"
"""What a rollback says of an update that failed while it fetched."""

_operations = table(DeploymentOperation)


class UpdateFigures:
    """Metrics of updates, with counters kept between scrapes. Not thread-safe."""

    def __init__(self) -> None:
        self._ended = RowCounter(
            _operations,
            _operations.c.id,
            kinds=[_operations.c.environment, _result()],
            unfinished=_operations.c.status.in_([OperationStatus.PENDING.value, OperationStatus.RUNNING.value]),
        )

    def catch_up(self, connection: sa.Connection) -> None:
        """Count the updates that ended since the last call."""
        self._ended.catch_up(connection)

    def families(self, stores: Repositories, names: Iterable[str]) -> list[Metric]:
        """The metrics of these environments. Raises StoreError if the stores cannot be read."""
        names, counts = sorted(names), self._ended.counts
        ended = ((kind, (counts.get(kind) or Count()).rows) for kind in product(names, _RESULTS))
        interruptions = (
            ((name, service), seconds[0])
            for name in names
            for service, seconds in sorted(stores.progress.interruptions(name, most=1).items())
        )
        held_back = (
            (
                (name,),
                len({image for release in stores.releases.failed(name) for image in release.digests.values()}),
            )
            for name in names
        )
        latest = {name: stores.snapshots.of(name, state=SnapshotState.WHOLE)[:1] for name in names}
        saved = (
            ((name,), one.ended_at.timestamp())
            for name, found in latest.items()
            for one in found
            if one.ended_at is not None
        )
        refused = (((name,), (counts.get((name, _REFUSED)) or Count()).rows) for name in names)
        return [
            families.counter("roas_updates", "Updates that ended.", "environment", "result", samples=ended),
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
                samples=interruptions,
            ),
            families.gauge(
                "roas_snapshot_ended_timestamp_seconds",
                "When the latest whole snapshot of an environment's data ended, in Unix time.",
                "environment",
                samples=saved,
            ),
        ]


def _result() -> sa.ColumnElement[str]:
    """How an update ended; "none" of an operation that is no update."""
    return sa.case(
        (sa.not_(_details_have("flow", "update") | _details_have("flow", "sync")), _NONE),
        (_operations.c.status == OperationStatus.SUCCESS.value, _SUCCESS),
        (_details_have("error", "GateRefusedError"), _REFUSED),
        (_details_have("undone") & sa.not_(_details_have("undone", _NOTHING_DONE)), _ROLLED_BACK),
        else_=_FAILED,
    )


def _details_have(key: str, value: str | None = None) -> sa.ColumnElement[bool]:
    """Whether the details have a key; quotes in texts are escaped, so no text looks like one."""
    wanted = f'"{key}":' if value is None else f'"{key}":"{value}"'
    return sa.func.coalesce(sa.type_coerce(_operations.c.metadata, sa.Text), "").contains(wanted, autoescape=True)
