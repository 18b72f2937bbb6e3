"""Metrics of snapshots of data: when the last whole one was taken, and when a restore was last rehearsed."""

from __future__ import annotations

from prometheus_client.core import Metric

from adapters.prometheus import metric_families as families
from adapters.stores.repositories.repositories import Repositories
from models.snapshots import DataSnapshot


def snapshot_figures(stores: Repositories) -> list[Metric]:
    """The families of snapshots, of each environment that has one. Raises StoreError if they cannot be read."""
    latest: dict[str, DataSnapshot] = {}
    rehearsed: dict[str, float] = {}
    for snapshot in stores.snapshots.whole():
        latest.setdefault(snapshot.environment, snapshot)
        if snapshot.rehearsed_at is not None and snapshot.rehearsal is not None and snapshot.rehearsal.ok:
            at = snapshot.rehearsed_at.timestamp()
            rehearsed[snapshot.environment] = max(at, rehearsed.get(snapshot.environment, 0.0))
    return [
        families.gauge(
            "roas_snapshot_timestamp_seconds",
            "When the last whole snapshot of the data was taken.",
            "environment",
            samples=(((name,), snapshot.begun_at.timestamp()) for name, snapshot in latest.items()),
        ),
        families.gauge(
            "roas_snapshot_bytes",
            "Size of the data in the last whole snapshot.",
            "environment",
            samples=(((name,), snapshot.bytes) for name, snapshot in latest.items()),
        ),
        families.gauge(
            "roas_snapshot_ended_timestamp_seconds",
            "When the latest whole snapshot of an environment's data ended, in Unix time.",
            "environment",
            samples=(
                ((name,), snapshot.ended_at.timestamp())
                for name, snapshot in latest.items()
                if snapshot.ended_at is not None
            ),
        ),
        families.gauge(
            "roas_snapshot_rehearsed_timestamp_seconds",
            "When a restore of a snapshot was last rehearsed with success.",
            "environment",
            samples=(((name,), at) for name, at in rehearsed.items()),
        ),
    ]
