"""Put together what `roas top` shows, from readings of the engine and from the record."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence
from datetime import datetime, timedelta
from itertools import pairwise
from typing import Any

from models.containers import ContainerState, ServiceSample, group_by_service, replicas
from models.health import ServiceHealth, ServiceVerdict
from models.live import EngineReading, LiveRecords, LiveRecovery, LiveService, LiveView
from models.metrics import HOST, Metric

HISTORY = timedelta(minutes=30)
"""How far the histories of services look back in the record."""

_LATE_COLLECTIONS = 2.5
"""After how many intervals without a collection the record is stale."""

_WATCH_IS_GONE = timedelta(minutes=3)
"""A watch notes a heartbeat at least every minute."""

_FEWEST_POINTS = 3
_WORST_FIRST = ("dead", "exited", "paused", "restarting", "removing", "created", "running")
_NOT_THERE = "no container"


def live_view(
    environment: str,
    readings: Sequence[EngineReading],
    records: LiveRecords,
    declared: Collection[str],
    collect_every: timedelta,
) -> LiveView:
    """The view at the moment of the last of some readings, which are oldest first and at least one.

    `declared` are services that the environment's file names. Where the record has too few samples for a history,
    the readings are one.
    """
    now = readings[-1]
    judged = {verdict.service: verdict for verdict in records.health.services} if records.health is not None else {}
    containers = group_by_service(replicas(now.containers))
    rates = _rates(readings)
    memory = [_sums(reading.samples) for reading in readings]
    metrics = _metrics(records.metrics)
    is_recorded = any(len(values) >= _FEWEST_POINTS for values in metrics.values())

    def service(name: str) -> LiveService:
        cpu_now, memory_now = rates[-1].get(name) if rates else None, memory[-1].get(name)
        cpu = metrics[name, "cpu_usage"] if is_recorded else _known_values(rate.get(name) for rate in rates)
        used = metrics[name, "memory_bytes"] if is_recorded else _known_values(sums.get(name) for sums in memory)
        return LiveService(
            **_state(name, containers.get(name, ()), judged.get(name), engine_answered=not now.problem),
            cpu_percent=cpu_now if cpu_now is not None or now.problem else _last(metrics[name, "cpu_usage"]),
            memory_bytes=memory_now,
            response_ms=_last(metrics[name, "response_time"]),
            cpu_history=_with_last(cpu, cpu_now, is_recorded=is_recorded),
            memory_history=_with_last(used, memory_now, is_recorded=is_recorded),
        )

    operation = records.running or records.last_operation
    release = records.release
    return LiveView(
        environment=environment,
        at=now.at,
        services=tuple(service(name) for name in sorted({*containers, *judged, *declared} - {HOST})),
        overall=records.health.summary if records.health is not None else "",
        meant_to_run=records.meant_to_run,
        release=release.release_id if release is not None else "",
        released_at=release.created_at if release is not None else None,
        collected_at=records.collected_at,
        stale=_stale_reason(records, now.at, collect_every),
        problems=tuple(problem for problem in (now.problem, records.problem) if problem),
        operation=operation,
        step=records.step if records.running is not None else "",
        alerts=records.alerts,
        tickets=records.tickets,
        pauses=records.pauses,
        recoveries=tuple(
            LiveRecovery(
                at=recovery.started_at,
                service=recovery.service or "",
                action=str(recovery.strategy),
                cause=records.causes.get(recovery.error_id, ""),
                result=recovery.final_status,
                success=recovery.success,
            )
            for recovery in records.recoveries
        ),
        forecast=records.forecast,
        history=HISTORY if is_recorded else now.at - readings[0].at,
    )


def _stale_reason(records: LiveRecords, now: datetime, every: timedelta) -> str:
    """Whether and why the record may not show the present."""
    is_watched = records.watched_at is not None and now - records.watched_at < _WATCH_IS_GONE
    reason = "" if is_watched else "; roas serve is not running"
    if records.collected_at is None:
        return f"nothing is collected{reason}"
    age = now - records.collected_at
    if age <= _LATE_COLLECTIONS * every:
        return ""
    return f"collected {length(age)} ago{reason}"


def length(duration: timedelta) -> str:
    """A duration in one unit and at most three digits."""
    seconds = max(0.0, duration.total_seconds())
    for unit, size in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= size:
            return f"{int(seconds // size)} {unit}"
    return f"{int(seconds)} s"


def _state(
    name: str, containers: Sequence[ContainerState], verdict: ServiceVerdict | None, *, engine_answered: bool
) -> dict[str, Any]:
    """The fields that the engine and the last verdict give."""
    if not containers:
        # A verdict on a container that is gone says nothing; without the engine it is the last that is known.
        return {"service": name, "state": _NOT_THERE} if engine_answered else _unknown(name, verdict)
    worst = min(
        containers, key=lambda container: _WORST_FIRST.index(container.state) if container.state in _WORST_FIRST else 0
    )
    began = worst.started_at if worst.up else worst.finished_at
    ended = f" ({worst.exit_code})" if worst.state in ("exited", "dead") else ""
    return {
        "service": name,
        "state": f"{worst.state}{ended}",
        # Of a container without a health check only the record knows more than its state.
        "health": (worst.health or _recorded_state(verdict)) if worst.state == "running" else _describe_end(worst),
        "containers": len(containers),
        "since": began,
        "restarts": sum(container.restart_count for container in containers),
    }


def _unknown(name: str, verdict: ServiceVerdict | None) -> dict[str, Any]:
    return {"service": name, "state": "unknown", "health": str(verdict.health) if verdict is not None else ""}


def _recorded_state(verdict: ServiceVerdict | None) -> str:
    """The last verdict on a service that runs; that it was stopped is out of date."""
    return str(verdict.health) if verdict is not None and verdict.health is not ServiceHealth.STOPPED else ""


def _describe_end(container: ContainerState) -> str:
    if container.state == "exited":
        return str(ServiceHealth.COMPLETED if container.exit_code == 0 else ServiceHealth.STOPPED)
    return ""


def _rates(readings: Sequence[EngineReading]) -> list[dict[str, float]]:
    """Percent of one processor that each service used between one reading and the next."""
    interval_rates = []
    for before, after in pairwise(readings):
        earlier = {sample.container_id: sample for sample in before.samples}
        rates: dict[str, float] = defaultdict(float)
        for sample in after.samples:
            first = earlier.get(sample.container_id)
            seconds = (sample.sampled_at - first.sampled_at).total_seconds() if first is not None else 0.0
            if first is not None and seconds > 0:
                rates[sample.service] += max(0.0, (sample.cpu_total_ns - first.cpu_total_ns) / seconds / 1e7)
        interval_rates.append(dict(rates))
    return interval_rates


def _sums(samples: Iterable[ServiceSample]) -> dict[str, float]:
    sums: dict[str, float] = defaultdict(float)
    for sample in samples:
        sums[sample.service] += sample.memory_bytes
    return dict(sums)


def _metrics(metrics: Iterable[Metric]) -> dict[tuple[str, str], list[float]]:
    """The values of each metric of each service, oldest first."""
    series: dict[tuple[str, str], list[float]] = defaultdict(list)
    for metric in sorted(metrics, key=lambda metric: metric.sampled_at):
        series[metric.service, metric.name].append(metric.value)
    return series


def _known_values(values: Iterable[float | None]) -> list[float]:
    return [value for value in values if value is not None]


def _last(values: Sequence[float]) -> float | None:
    return values[-1] if values else None


def _with_last(values: Sequence[float], now: float | None, *, is_recorded: bool) -> tuple[float, ...]:
    return (*values, now) if is_recorded and now is not None else tuple(values)
