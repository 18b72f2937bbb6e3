"""Turn samples into metrics, and events into the ends of containers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from functools import partial

from models.containers import (
    ContainerEvent,
    ContainerState,
    Death,
    ServiceSample,
    SystemSample,
    group_by_service,
    replicas,
)
from models.health import ProbeResult, ServiceHealth, ServiceVerdict
from models.metrics import HOST, Dependency, DependencyStatus, Metric
from models.operations import Operation, OperationType

_CPU_SECONDS = "cpu_seconds_total"
_MOST_PROCESSORS = 64
_NOTHING_NS, _NOTHING_BYTES = 10**8, 4 * 2**20
"""How much a container may use between two samples."""

_COUNTERS = {
    "network_rx_bytes_total": "network_rx_bytes",
    "network_tx_bytes_total": "network_tx_bytes",
    "block_read_bytes_total": "block_read_bytes",
    "block_write_bytes_total": "block_write_bytes",
}
_SUMS = _COUNTERS | {
    "memory_bytes": "memory_bytes",
    "processes": "processes",
    "throttled_periods_total": "throttled_periods",
}
"""The fields of samples that are added up over the replicas, by metric."""


def system_metrics(environment: str, sample: SystemSample, last: Iterable[Metric] = ()) -> list[Metric]:
    """The host's numbers: percentages 0-100, sizes in bytes.

    cpu_usage is the share of all processors used since the last collection; the first collection has none.
    """
    before = next((metric for metric in last if (metric.service, metric.name) == (HOST, _CPU_SECONDS)), None)
    usage = _usage(before, sample.cpu_busy_seconds, sample.sampled_at)
    values: dict[str, float | None] = {
        "cpu_usage": None if usage is None else min(100.0, usage / sample.cpus),
        _CPU_SECONDS: sample.cpu_busy_seconds,
        "load_1m": sample.load_1m,
        "load_5m": sample.load_5m,
        "memory_usage": sample.memory_percent,
        "disk_usage": sample.disk_percent,
        "disk_free_bytes": float(sample.disk_free_bytes),
        "inodes_free": float(sample.inodes_free),
        "inodes_usage": 100.0 * (1 - sample.inodes_free / sample.inodes_total) if sample.inodes_total else None,
        "network_rx_bytes_total": float(sample.network_rx_bytes),
        "network_tx_bytes_total": float(sample.network_tx_bytes),
        "pressure_cpu": sample.pressure_cpu,
        "pressure_memory": sample.pressure_memory,
        "pressure_io": sample.pressure_io,
    }
    return _metrics(environment, HOST, values, sample.sampled_at)


def store_metric(environment: str, store_bytes: float | None, at: datetime) -> list[Metric]:
    """The size of the largest store as a metric of the host, where it is known."""
    return _metrics(environment, HOST, {"store_bytes": store_bytes}, at)


def _metrics(environment: str, service: str, values: Mapping[str, float | None], at: datetime) -> list[Metric]:
    of_now = partial(Metric, environment=environment, service=service, sampled_at=at)
    return [of_now(name=name, value=value) for name, value in values.items() if value is not None]


def service_metrics(
    environment: str,
    samples: Sequence[ServiceSample],
    container_states: Sequence[ContainerState],
    probes: Iterable[ProbeResult],
    last: Iterable[Metric],
    ends: Sequence[Death] = (),
    since: datetime | None = None,
) -> list[Metric]:
    """The services' numbers, replicas added up. `ends` that came after `since` were not counted yet.

    cpu_usage is the percentage of one processor used since the last collection; the first collection of
    a service, and one after its containers were replaced, has none. What `docker compose run` does beside a service is
    none of its work.
    """
    before = {(metric.service, metric.name): metric for metric in last}
    beside = {container.container_id for container in container_states if container.one_off}
    sampled = group_by_service(sample for sample in samples if sample.container_id not in beside)
    answered, ended = group_by_service(probes), group_by_service(ends)
    metrics: list[Metric] = []
    for service, seen_now in group_by_service(replicas(container_states)).items():
        running = sampled.get(service, [])
        at = running[0].sampled_at if running else seen_now[0].seen_at
        values: dict[str, float | None] = {
            "restarts_total": float(sum(container.restart_count for container in seen_now))
        }
        if running:
            values |= {name: float(sum(getattr(sample, field) for sample in running)) for name, field in _SUMS.items()}
            limit, cpu_seconds = (
                sum(sample.memory_limit_bytes for sample in running),
                sum(sample.cpu_total_ns for sample in running) / 1e9,
            )
            values |= {
                _CPU_SECONDS: cpu_seconds,
                "memory_usage": 100.0 * sum(sample.memory_bytes for sample in running) / limit if limit else None,
                "cpu_usage": _usage(before.get((service, _CPU_SECONDS)), cpu_seconds, at),
            }
        values |= _ends(ended.get(service, []), service, before, since)
        # Of one moment, as far as a reader of the store is concerned: so a service is one row.
        values |= _answers(answered.get(service, []))
        metrics += _metrics(environment, service, values, at)
    return metrics


def uses_the_same(earlier: ServiceSample, later: ServiceSample) -> bool:
    """Whether two samples of a container, the other taken a moment later from another source, measure the same."""
    seconds = max(0.0, (later.sampled_at - earlier.sampled_at).total_seconds())
    worked = 1e9 * seconds * _MOST_PROCESSORS + _NOTHING_NS
    grown = [(getattr(earlier, field), getattr(later, field)) for field in _COUNTERS.values()]
    return (
        earlier.memory_limit_bytes == later.memory_limit_bytes
        and abs(earlier.memory_bytes - later.memory_bytes) <= _NOTHING_BYTES + earlier.memory_bytes / 10
        and 0 <= later.cpu_total_ns - earlier.cpu_total_ns <= worked
        and all(0 <= after - before <= _NOTHING_BYTES + before / 10 for before, after in grown)
    )


def deaths(events: Iterable[ContainerEvent], container_states: Iterable[ContainerState]) -> list[Death]:
    """Return how services' own containers ended, in order of time: by the engine's events, otherwise by their state."""
    ends, out_of_memory = [], set[str]()
    for event in events:
        if event.one_off:
            continue
        if event.action == "oom":
            out_of_memory.add(event.container_id)
        elif event.action == "die":
            ends.append(
                Death(
                    service=event.service,
                    container_id=event.container_id,
                    at=event.happened_at,
                    exit_code=int(event.attributes.get("exitCode") or 0),
                    out_of_memory=event.container_id in out_of_memory,
                )
            )
            out_of_memory.discard(event.container_id)
    received = {death.container_id for death in ends}
    ends += [
        Death(
            service=container.service,
            container_id=container.container_id,
            at=container.finished_at,
            exit_code=container.exit_code,
            out_of_memory=container.oom_killed,
        )
        for container in container_states
        if container.state == "exited"
        and not container.one_off
        and container.finished_at is not None
        and container.container_id not in received
    ]
    return sorted(ends, key=lambda death: death.at)


def _ends(
    ends: Sequence[Death], service: str, before: Mapping[tuple[str, str], Metric], since: datetime | None
) -> dict[str, float]:
    """How it ended last, and how often for memory; nothing of a service that never ended."""
    code, kills = before.get((service, "exit_code")), before.get((service, "oom_kills_total"))
    if not ends and (code is None or kills is None):
        return {}
    new = sum(death.out_of_memory for death in ends if since is None or death.at > since)
    return {
        "exit_code": float(ends[-1].exit_code) if ends else code.value if code else 0.0,
        "oom_kills_total": (kills.value if kills else 0.0) + new,
    }


def _answers(probes: Sequence[ProbeResult]) -> dict[str, float]:
    """What probes measured: the slowest answer, and what they read."""
    took = [probe.latency_ms for probe in probes if probe.latency_ms is not None]
    read = {reading.metric: reading.value for probe in probes for reading in probe.readings}
    return read | ({"response_time": max(took)} if took else {})


def dependency_status(
    dependencies: Iterable[Dependency], verdicts: Iterable[ServiceVerdict], at: datetime
) -> list[Dependency]:
    """Return each dependency with its current state."""
    health_by_service = {verdict.service: verdict.health for verdict in verdicts}
    return [
        replace(need, status=_status(health_by_service.get(need.depends_on, ServiceHealth.UNKNOWN)), last_check=at)
        for need in dependencies
    ]


def next_due(previous: datetime, every: timedelta, now: datetime) -> datetime:
    """When to look again after the look that was due then: in the same rhythm, without making up for those missed."""
    return previous + every * max(1, -(-(now - previous) // every))


def touched_services(operation: Operation, services: Iterable[str], done: Iterable[str] = ()) -> frozenset[str]:
    """The services that an operation moves, or will: those it was asked for, or all; not those it is `done` with.

    A health check touches nothing.
    """
    if operation.operation_type is OperationType.HEALTH_CHECK:
        return frozenset()
    return frozenset(operation.asked_services or services) - frozenset(done)


def _usage(last: Metric | None, cpu_seconds: float, at: datetime) -> float | None:
    if last is None:
        return None
    passed = (at - last.sampled_at).total_seconds()
    used = cpu_seconds - last.value
    # Smaller than last time: the containers are new ones, or the host has booted; the difference means nothing.
    return 100.0 * used / passed if passed > 0 and used >= 0 else None


def _status(health: ServiceHealth) -> DependencyStatus:
    if health in (ServiceHealth.HEALTHY, ServiceHealth.COMPLETED, ServiceHealth.UNPROVEN):
        return DependencyStatus.ACTIVE
    if health in (ServiceHealth.STOPPED, ServiceHealth.STARTING, ServiceHealth.UNKNOWN):
        return DependencyStatus.INACTIVE
    return DependencyStatus.FAILED
