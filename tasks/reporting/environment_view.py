"""Read one environment as its page shows it; plain reads of the stores, and no task run."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from adapters.config.needs import declared_needs
from core.deployment.needs import dependants_of_environment
from core.reporting.environment_history import environment_history
from core.reporting.metric_plots import PLOTTED
from core.reporting.overview import judge_service, seen_by_start, summarise, summarise_start
from models.environment_view import EnvironmentView, MetricRecords, ServiceView
from models.environments import Environment
from models.failures import BadInputError, NotFoundError
from models.health import ServiceVerdict
from models.metrics import HOST, Dependency, DependencyStatus, DependencyType, Metric, PredictionOutcome
from models.operations import Operation, OperationStep, OperationType
from models.overview import EnvironmentRecords, HealthVerdict, VerdictLevel
from models.records import EnvironmentStatus, Release
from models.settings import current_settings
from tasks.reporting.days import drills_since
from tasks.reporting.needs import recorded_needs
from tasks.reporting.read import read_releases, read_status
from tasks.runtime.stores import open_stores, stores_exist
from tasks.schedules.runs import read_schedules

_HISTORY_OF = timedelta(days=30)
_HISTORY, _RELEASES, _SNAPSHOTS, _PREDICTIONS = 40, 5, 5, 5
_DRIFT_OF = timedelta(days=2)
_NOT_JUDGED = HealthVerdict(words="not known", level=VerdictLevel.UNKNOWN)
_STOPPED = HealthVerdict(words="stopped", level=VerdictLevel.OFF)


def read_environment_view(environment: str) -> EnvironmentView:
    """All that the page of an environment shows, but for its figures over time.

    Raises:
        NotFoundError: It was never operated.
        StoreError: The stores cannot be read.
    """
    status = _read_one_status(environment)
    stores, now = open_stores(), datetime.now(UTC)
    release = stores.releases.last(environment)
    drift = _latest_drift(environment, now)
    running = status.running[0] if status.running else None
    declared = _declared(environment)
    profiles = declared.profiles if declared is not None else ()
    services = _services(status, release, profiles, {name: sample.value > 0 for name, sample in drift.items()})
    steps = tuple(stores.progress.steps(running.deployment_id)) if running is not None else ()
    summary = summarise(_records_of(status, release), now)
    if running is not None and running.operation_type is OperationType.START:
        last = {step.service: step for step in steps if step.service}
        services = tuple(seen_by_start(service, last.get(service.service)) for service in services)
        summary = summarise_start(summary, services)
    return EnvironmentView(
        at=now,
        summary=summary,
        status=status,
        services=services,
        steps=last_of_each_service(steps),
        changes=tuple(stores.progress.changes(running.deployment_id)) if running is not None else (),
        pending=_pending(running, services, steps) if running is not None else (),
        history=environment_history(
            stores.operations.history(environment=environment, limit=_HISTORY),
            stores.errors.latest(environment, limit=_HISTORY),
            stores.recoveries.latest(environment, now - _HISTORY_OF, _HISTORY),
            stores.alerts.latest(environment, limit=_HISTORY),
            most=_HISTORY,
        ),
        release=release,
        releases=tuple(read_releases(environment, _RELEASES)),
        snapshots=tuple(stores.snapshots.list_for(environment)[:_SNAPSHOTS]),
        predictions=tuple(
            sorted(
                stores.evaluations.predictions(environment, PredictionOutcome.OPEN),
                key=lambda prediction: prediction.expected,
            )[:_PREDICTIONS]
        ),
        schedules=tuple(read_schedules([declared], now)) if declared is not None else (),
        needs=recorded_needs(environment),
        needed_by=tuple(dependants_of_environment(environment, declared_needs(current_settings()))),
        drill=next(iter(drills_since(environment, now - _HISTORY_OF)), None),
        drift_checked_at=max((sample.sampled_at for sample in drift.values()), default=None),
    )


def read_metrics(environment: str, hours: int, now: datetime) -> MetricRecords:
    """The samples of the last hours, with the learnt baselines and the limits of the environment's file.

    Raises:
        StoreError: The stores cannot be read.
    """
    since = now - timedelta(hours=hours)
    if not stores_exist():
        return MetricRecords(since=since, until=now)
    stores = open_stores()
    samples = stores.metrics.samples_since(environment, tuple(PLOTTED), since)
    return MetricRecords(
        since=since,
        until=now,
        samples=tuple(sample for sample in samples if sample.service != HOST),
        baselines=tuple(stores.baselines.all(environment)),
        limits=_limits(environment),
    )


def _read_one_status(environment: str) -> EnvironmentStatus:
    statuses = read_status(environment) if stores_exist() else []
    if not statuses:
        raise NotFoundError(
            f"Environment {environment} was never operated here;", advice="`roas status` lists those that were."
        )
    return statuses[0]


def _records_of(status: EnvironmentStatus, release: Release | None) -> EnvironmentRecords:
    stores, name = open_stores(), status.environment
    proven = release if release is None or release.proven else stores.releases.last(name, proven=True)
    return EnvironmentRecords(
        environment=name,
        health=status.health,
        checked_at=status.seen_at,
        stopped_at=status.stopped_at,
        last_operation=next(iter(stores.operations.latest_recorded(name, 1)), None),
        running=status.running[0] if status.running else None,
        open_tickets=len(status.open_tickets),
        open_alerts=len(status.open_alerts),
        proven_at=proven.created_at if proven is not None else None,
        saved_at=stores.snapshots.saved_at().get(name),
        binding=stores.hosts.bindings().get(name),
    )


def last_of_each_service(steps: Sequence[OperationStep]) -> tuple[OperationStep, ...]:
    """Of each service the last step that it has finished, and all that are of the whole."""
    last = {step.service: step for step in steps}
    return tuple(step for step in steps if step.service is None or step is last[step.service])


def _pending(running: Operation, services: Iterable[ServiceView], steps: Iterable[OperationStep]) -> tuple[str, ...]:
    """The services that an operation brings up and has not proven yet.

    Its plan is recorded at its end: until then they are those that were asked for, else all.
    """
    if running.operation_type not in (OperationType.START, OperationType.RESTART):
        return ()
    done = {step.service for step in steps}
    names = running.asked_services or tuple(view.service for view in services)
    return tuple(name for name in names if name not in done)


def _services(
    status: EnvironmentStatus, release: Release | None, profiles: Sequence[str], drifted: Mapping[str, bool]
) -> tuple[ServiceView, ...]:
    """Every service that was judged or that the last release declares in a profile that is switched on, by name."""
    services: Mapping[str, Any] = (release.compose.get("services") or {}) if release is not None else {}
    declared = {
        name: body
        for name, body in services.items()
        if not (only_in := body.get("profiles")) or "*" in profiles or not set(only_in).isdisjoint(profiles)
    }
    judged = {verdict.service: verdict for verdict in status.health.services} if status.health is not None else {}
    recorded = [need for need in status.dependencies if need.status is not DependencyStatus.INACTIVE]
    needs = recorded or [need for name in declared for need in _declared_needs(name, declared[name])]
    scores = {score.service: score for score in status.scores}
    return tuple(
        ServiceView(
            service=name,
            verdict=_verdict_of(judged.get(name), is_stopped=status.stopped_at is not None),
            reason=judged[name].reason if name in judged and status.stopped_at is None else "",
            needs=tuple(need for need in needs if need.service == name),
            proofs=tuple(f"{probe.kind} probe: {probe.detail}" for probe in judged[name].probes)
            if name in judged
            else (),
            score=scores.get(name),
            drifted=drifted.get(name),
        )
        for name in sorted({*judged, *declared} - {HOST})
    )


def _verdict_of(judged: ServiceVerdict | None, *, is_stopped: bool) -> HealthVerdict:
    if is_stopped:
        return _STOPPED
    return judge_service(judged.health) if judged is not None else _NOT_JUDGED


def _declared_needs(service: str, declared: Mapping[str, Any]) -> list[Dependency]:
    """What a release's document says, before a collection has recorded what is needed."""
    needs = declared.get("depends_on") or {}
    return [
        Dependency(
            service=service,
            depends_on=str(other),
            dependency_type=DependencyType.REQUIRED
            if not isinstance(entry, Mapping) or entry.get("required", True)
            else DependencyType.OPTIONAL,
        )
        for other, entry in (needs.items() if isinstance(needs, Mapping) else dict.fromkeys(needs).items())
    ]


def _latest_drift(environment: str, now: datetime) -> dict[str, Metric]:
    samples = open_stores().metrics.samples_since(environment, ("drift",), now - _DRIFT_OF)
    return {sample.service: sample for sample in samples}


def _declared(environment: str) -> Environment | None:
    """What its file declares; None without a readable one, such as for bare Compose files."""
    from adapters.config.environments import declared_environment

    try:
        return declared_environment(environment, current_settings())
    except BadInputError:
        return None


def _limits(environment: str) -> dict[tuple[str, str], float]:
    """The limits that the environment's file gives."""
    declared = _declared(environment)
    fields = {"cpu_usage": "cpu_percent", "memory_usage": "memory_percent", "response_time": "response_time_ms"}
    return {
        (name, metric): limit
        for name, spec in (declared.services if declared else {}).items()
        for metric, field in fields.items()
        if (limit := getattr(spec.limits, field)) is not None
    }
