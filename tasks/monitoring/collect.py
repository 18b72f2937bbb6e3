"""Collection: sample the sources, read the memory of earlier collections, store and publish the result."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from dataclasses import asdict, replace
from datetime import UTC, datetime, timedelta

from adapters.host.machine import sample_host
from adapters.probes.run import run_probe
from adapters.stores import Stores
from adapters.stores.repositories.repositories import Repositories
from core.deployment.desired_state import should_run
from core.monitoring.assess import Assessment, RememberedState
from core.monitoring.snapshot import Evaluation
from models.analysis import ServiceScore
from models.containers import ContainerEvent, ContainerState, ServiceSample, SystemSample
from models.environments import Environment
from models.failures import StoreError
from models.health import ProbeResult, RecordedScore
from models.metrics import PredictionOutcome
from models.operations import OperationStatus
from models.records import EvaluationRecord
from models.settings import current_settings
from tasks.errors.redact import redact_now
from tasks.runtime.project import Project
from tasks.runtime.retry_policy import WRITE, make_async, retry_read, retry_write
from tasks.runtime.stores import open_stores, shared_cache
from tasks.runtime.task import task

log = logging.getLogger("roas")

ALERT_STREAM = "alerts"
"""The stream in Redis that every change of an alert goes to, of every environment."""

_SETTLES_IN = timedelta(minutes=2)
"""So long after an operation nothing is learnt of what it touched."""

_CACHE_LIFETIMES = 3
"""A snapshot outlives this many collections, so that one late collection does not empty the dashboard."""


@make_async
def sample_system(environment: Environment) -> SystemSample | None:
    """The host now: processor, memory, the disk under the stores, pressure; None for an engine on another machine.

    This machine's figures would say nothing about the host of that engine.
    """
    if environment.is_remote:
        return None
    return sample_host(current_settings().data_dir, datetime.now(UTC))


@make_async
def read_statistics(project: Project) -> list[ServiceSample]:
    """Every running container's use of resources, asked side by side."""
    return project.engine.statistics.samples(project.environment.project)


sample_services = retry_read(read_statistics)


@make_async
def recent_events(project: Project, back: timedelta) -> list[ContainerEvent]:
    """What happened to the environment's containers in the time that is past."""
    until = datetime.now(UTC)
    with project.engine.events.stream(project.environment.project, until - back, until) as stream:
        return list(stream)


@retry_read
async def probe_service(
    project: Project, service: str, container_states: Sequence[ContainerState] | None = None
) -> ProbeResult:
    """What the environment's own probe of a service answers; a service that fails it is an answer too.

    `container_states` are its project's containers, where they were looked at just now.
    """
    environment = project.environment
    probe = environment.service(service).probe
    if probe is None:
        raise ValueError(f"{service} has no probe in environment {environment.name}")
    return await run_probe(
        probe,
        service,
        project=environment.project,
        engine=project.engine,
        secrets=await asyncio.to_thread(project.secrets),
        container_states=container_states,
    )


@make_async
def read_memory(environment: str, now: datetime) -> RememberedState:
    """All that a round is judged by, and what is being done to the environment."""
    return read_state(open_stores(), environment, now)


def read_state(stores: Stores, environment: str, now: datetime) -> RememberedState:
    """The same from given stores."""
    with stores.read_one_moment() as repositories:
        memory = _read_state(repositories, environment, now)
    sizes = (float(sum(database.sizes().values())) for database in stores.databases.values())
    return replace(memory, store_bytes=max(sizes, default=None))


def _read_state(stores: Repositories, environment: str, now: datetime) -> RememberedState:
    running = [
        operation
        for operation in stores.operations.list_running(environment)
        if operation.status is OperationStatus.RUNNING
    ]
    ended = stores.operations.history(environment=environment, limit=5)
    return RememberedState(
        states=stores.baselines.states(environment),
        last=tuple(stores.metrics.latest(environment)),
        alerts=tuple(stores.alerts.list_unresolved(environment)),
        predictions=tuple(stores.evaluations.predictions(environment, PredictionOutcome.OPEN)),
        running=tuple(
            (operation, frozenset(change.service for change in stores.progress.changes(operation.deployment_id)))
            for operation in running
        ),
        settling=tuple(
            operation
            for operation in ended
            if operation.ended_at is not None and now - operation.ended_at < _SETTLES_IN
        ),
        stopped=not should_run(stores.operations.latest_recorded(environment)),
        collected_at=stores.heartbeats.last_beat(f"collection/{environment}"),
        health=next(iter(stores.health.history(environment=environment, limit=1)), None),
        store_bytes=None,
    )


@retry_write
@make_async
def store_round(environment: str, judged: Assessment, collected_at: datetime | None) -> bool:
    """Keep one round: samples and answers through the batch writer, all else in one transaction.

    False where another round was kept since the one that was `collected_at`, by which this one was judged: then
    its samples alone are. Samples that cannot go into the store now wait in the journal, and the log says so.

    Raises:
        StoreError: What was found could not be stored.
    """
    stores, outcome = open_stores(), judged.outcome
    stores.writer.put_metrics(judged.metrics)
    stores.writer.put_probes(judged.answers, environment)
    was_recorded = stores.evaluations.record(
        EvaluationRecord(
            environment=environment,
            evaluated_at=outcome.at,
            states=outcome.states,
            baselines=outcome.baselines,
            dependencies=judged.dependencies,
            alerts=[*outcome.alerts, *outcome.closed],
            predictions=outcome.predictions,
            scores=[_recorded_score(environment, score, outcome.at) for score in outcome.scores],
            health=judged.health if judged.news else None,
        ),
        expecting=collected_at,
    )
    try:
        stores.writer.flush()
    except StoreError as error:
        log.warning("samples of %s wait in the journal: %s", environment, error)
    return was_recorded


@task(name="close the alerts", **WRITE)
@make_async
def store_closed(record: EvaluationRecord, collected_at: datetime) -> bool:
    """Keep how the environment is after a recovery, and which alerts that has ended: all of it or nothing.

    False where another round was kept since the one that was `collected_at`: it has seen by itself how all is.
    """
    stores = open_stores()
    verdicts = record.health.services if record.health is not None else ()
    stores.writer.put_probes([probe for verdict in verdicts for probe in verdict.probes], record.environment)
    return stores.evaluations.record(record, expecting=collected_at)


@retry_write
@make_async
def update_cache(environment: str, snapshot: dict[str, object], outcome: Evaluation, every: timedelta) -> str | None:
    """Put the newest snapshot, baselines and changes of alerts where other processes read them at once.

    Says why where the cache did not take them.
    """
    if (cache := shared_cache()) is None:
        return None
    lifetime = round(every.total_seconds() * _CACHE_LIFETIMES)
    usual: dict[str, object] = {
        f"{baseline.service}/{baseline.metric}": asdict(baseline) for baseline in outcome.baselines
    }
    cache.put(f"baselines:{environment}", usual, lifetime)
    for event in outcome.events:
        cache.publish(ALERT_STREAM, {"at": outcome.at} | asdict(event))
    cache.put(f"snapshot:{environment}", snapshot, lifetime)
    return cache.trouble


def acknowledge(alert_id: str, at: datetime, note: str) -> bool:
    """A person takes an alert; False where it is not open. The next round knows it.

    Raises:
        StoreError: The store cannot be written to.
    """
    return open_stores().alerts.acknowledge(alert_id, at, redact_now(None, note))


def _last_round(environment: str) -> datetime | None:
    """When the last round that was kept was looked at; None where there is none."""
    return open_stores().heartbeats.last_beat(f"collection/{environment}")


last_round = retry_read(make_async(_last_round))


def _recorded_score(environment: str, score: ServiceScore, at: datetime) -> RecordedScore:
    return RecordedScore(
        environment=environment,
        service=score.service,
        score=score.score or 0.0,
        grade=str(score.grade or ""),
        scored_at=at,
        parts=score.parts | {"coverage": score.coverage, "low": score.low, "high": score.high},
        suggestions=score.suggestions,
    )
