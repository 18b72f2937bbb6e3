"""Monitoring: sample host and services, and put what was seen where it is kept."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

from prefect import task

from adapters.host import sample_host
from models.environments import Environment
from models.metrics import Alert, Baseline, Dependency, Metric
from models.operations import OperationStatus, OperationType
from models.settings import Settings
from models.sightings import ServiceSample, SystemSample
from tasks.doors import engine_of
from tasks.patience import LOOK, WRITE
from tasks.stores import open_stores, shared_cache


@task(name="sample the host", **LOOK)
async def sample_system() -> SystemSample:
    """The host now: processor, memory, the disk under the stores, pressure."""
    return await asyncio.to_thread(sample_host, Settings().data_dir, datetime.now(UTC))


def load_of_host() -> float:
    """Processes that run or wait to, averaged over the last minute."""
    return os.getloadavg()[0]


@task(name="sample the services", **LOOK)
async def sample_services(environment: Environment) -> list[ServiceSample]:
    """Every running container's use of resources, asked side by side."""
    return await asyncio.to_thread(engine_of(environment).samples, environment.project)


@task(name="is it meant to run", **LOOK)
async def stopped_on_request(environment: str) -> bool:
    """Whether the last thing that was asked of an environment, successfully, was to stop."""

    def read() -> bool:
        history = open_stores().deployments.history(environment=environment, status=OperationStatus.SUCCESS, limit=20)
        asked = [one.operation_type for one in history if one.operation_type is not OperationType.HEALTH_CHECK]
        return bool(asked) and asked[0] is OperationType.STOP

    return await asyncio.to_thread(read)


@task(name="read the last metrics", **LOOK)
async def last_metrics(environment: str) -> list[Metric]:
    """The newest value of every metric of an environment."""
    return await asyncio.to_thread(lambda: list(open_stores().monitoring.latest(environment)))


@task(name="read the baselines", **LOOK)
async def baseline_states(environment: str) -> dict[tuple[str, str], bytes]:
    """What has been learnt of each metric, by service and metric."""
    return await asyncio.to_thread(lambda: dict(open_stores().monitoring.states(environment)))


@task(name="read open alerts", **LOOK)
async def open_alerts(environment: str) -> list[Alert]:
    """The alerts of an environment that nobody and nothing has closed yet."""
    return await asyncio.to_thread(
        lambda: [a for a in open_stores().monitoring.alerts(environment=environment) if a.resolved_at is None]
    )


@task(name="store the collection", **WRITE)
async def store_collection(
    environment: str,
    metrics: Sequence[Metric],
    dependencies: Sequence[Dependency],
    baselines: Sequence[Baseline],
    states: Mapping[tuple[str, str], bytes],
) -> None:
    """Write one collection: its metrics, its dependencies' status, and what was learnt."""

    def put() -> None:
        store = open_stores().monitoring
        store.add_metrics(metrics)
        store.put_dependencies(environment, list(dependencies))
        store.put_baselines(environment, list(baselines))
        store.put_states(environment, dict(states))
        store.beat(f"collection/{environment}", datetime.now(UTC))

    await asyncio.to_thread(put)


@task(name="store the dependencies", **WRITE)
async def store_dependencies(environment: str, dependencies: Sequence[Dependency]) -> None:
    """Write what is known of each dependency now."""
    await asyncio.to_thread(open_stores().monitoring.put_dependencies, environment, list(dependencies))


@task(name="store the alerts", **WRITE)
async def store_alerts(opened: Sequence[Alert], resolved: Sequence[Alert]) -> None:
    """Write which alerts began and which are over."""

    def put() -> None:
        store = open_stores().monitoring
        for alert in opened:
            store.open_alert(alert)
        for alert in resolved:
            store.resolve_alert(alert.alert_id, alert.resolved_at or datetime.now(UTC))

    await asyncio.to_thread(put)


@task(name="refresh the cache", **WRITE)
async def refresh_cache(environment: str, snapshot: dict[str, object], lifetime_seconds: int) -> str | None:
    """Put the newest snapshot where other processes read it; says why where the cache did not take it."""
    cache = shared_cache()
    await asyncio.to_thread(cache.put, f"snapshot:{environment}", snapshot, lifetime_seconds)
    return cache.trouble
