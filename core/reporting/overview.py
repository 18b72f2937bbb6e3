"""Judge what the overview shows of an environment: a verdict in words, and whether a person should look."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta

from models.environment_view import ServiceView
from models.health import Health, HealthReport, ServiceHealth
from models.operations import PROVEN, SERVING, OperationStatus, OperationStep, OperationType
from models.overview import EnvironmentRecords, EnvironmentSummary, HealthVerdict, VerdictLevel

STALE_AFTER = timedelta(minutes=15)
"""A verdict that nothing has confirmed for so long says what was, and not what is."""

UP = frozenset({ServiceHealth.HEALTHY, ServiceHealth.COMPLETED, ServiceHealth.DEGRADED, ServiceHealth.UNPROVEN})
"""The states of services that serve, or have done what they are for."""

_STARTING = HealthVerdict(words="starting", level=VerdictLevel.WARNING)
_UP_LEVELS = frozenset({VerdictLevel.GOOD, VerdictLevel.UNPROVEN, VerdictLevel.WARNING})
_LEVELS = {
    Health.HEALTHY: VerdictLevel.GOOD,
    Health.DEGRADED: VerdictLevel.WARNING,
    Health.UNHEALTHY: VerdictLevel.BAD,
}
_SERVICE_LEVELS = {
    ServiceHealth.HEALTHY: VerdictLevel.GOOD,
    ServiceHealth.COMPLETED: VerdictLevel.GOOD,
    ServiceHealth.DEGRADED: VerdictLevel.WARNING,
    ServiceHealth.STARTING: VerdictLevel.WARNING,
    ServiceHealth.UNPROVEN: VerdictLevel.UNPROVEN,
    ServiceHealth.UNHEALTHY: VerdictLevel.BAD,
    ServiceHealth.STOPPED: VerdictLevel.BAD,
    ServiceHealth.UNKNOWN: VerdictLevel.UNKNOWN,
}


def summarise(records: EnvironmentRecords, now: datetime, host: str = "") -> EnvironmentSummary:
    """The summary of one environment. `host` is the name of the host that it belongs to, where there are several."""
    verdict = judge(records, now)
    failed = records.last_operation is not None and records.last_operation.status is OperationStatus.FAILED
    health = records.health if records.stopped_at is None else None
    judged = health if health is not None and health.services else None
    return EnvironmentSummary(
        environment=records.environment,
        verdict=verdict,
        up=None if judged is None else count_up(judged),
        services=None if judged is None else len(judged.services),
        needs_attention=(verdict.level in (VerdictLevel.BAD, VerdictLevel.WARNING) and verdict != _STARTING)
        or failed
        or records.open_tickets > 0,
        records=records,
        host=host,
    )


def judge(records: EnvironmentRecords, now: datetime) -> HealthVerdict:
    """The verdict on an environment, in the words of `roas status`."""
    is_started = records.running is not None and records.running.operation_type is OperationType.START
    if is_started and (records.stopped_at is not None or _is_down(records.health)):
        return _STARTING
    if records.stopped_at is not None:
        # What was judged before says nothing of now.
        return HealthVerdict(words="stopped", level=VerdictLevel.OFF)
    if records.health is None:
        return HealthVerdict(words="not known", level=VerdictLevel.UNKNOWN)
    if _was_never_started(records, records.health):
        return HealthVerdict(words="not started", level=VerdictLevel.OFF)
    if records.checked_at is None or now - records.checked_at > STALE_AFTER:
        return HealthVerdict(words=f"{records.health.summary} when last checked", level=VerdictLevel.UNKNOWN)
    level = _LEVELS[records.health.overall]
    if level is VerdictLevel.GOOD and records.health.count(ServiceHealth.UNPROVEN):
        level = VerdictLevel.UNPROVEN
    return HealthVerdict(words=records.health.summary, level=level)


def _is_up(verdict: HealthVerdict) -> bool:
    return verdict.level in _UP_LEVELS and verdict != _STARTING


def _is_down(health: HealthReport | None) -> bool:
    return health is None or health.overall is Health.UNHEALTHY


def _was_never_started(records: EnvironmentRecords, health: HealthReport) -> bool:
    """Whether no operation of it is on record, and nothing of it runs: it is declared, and not down."""
    is_down = bool(health.services) and all(verdict.health is ServiceHealth.STOPPED for verdict in health.services)
    return is_down and records.last_operation is None and records.proven_at is None


def seen_by_start(service: ServiceView, last: OperationStep | None) -> ServiceView:
    """A service as a start that runs has seen it, where its verdict of before says that it does not serve.

    `last` is the last step that the start has finished with it.
    """
    if _is_up(service.verdict):
        return service
    if last is None:
        return replace(service, verdict=_STARTING, reason="it is not proven yet")
    if last.step == SERVING:
        return replace(service, verdict=HealthVerdict(words="serves", level=VerdictLevel.GOOD), reason=last.detail)
    proven = HealthVerdict(words="proven", level=VerdictLevel.GOOD)
    return replace(service, verdict=proven, reason="") if last.step == PROVEN else service


def summarise_start(summary: EnvironmentSummary, services: Sequence[ServiceView]) -> EnvironmentSummary:
    """The summary of an environment that is being started, with its services as the start has seen them."""
    up = sum(_is_up(service.verdict) for service in services)
    return replace(summary, up=up, services=len(services)) if services else summary


def judge_service(health: ServiceHealth) -> HealthVerdict:
    """The verdict on one service, in the word of its health."""
    return HealthVerdict(words=str(health), level=_SERVICE_LEVELS[health])


def count_up(report: HealthReport) -> int:
    """How many services serve, or have done what they are for."""
    return report.count(*UP)
